//! What works behind the volume. Parts never import one another.

pub(crate) mod checkpoint;
pub(crate) mod probe;
pub(crate) mod sealer;
pub(crate) mod stream;
pub(crate) mod superblocks;
pub(crate) mod uploader;
pub(crate) mod write_log;
