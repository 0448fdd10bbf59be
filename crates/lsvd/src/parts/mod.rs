//! What works behind the volume. Parts never import one another.

pub(crate) mod sealer;
pub(crate) mod uploader;
