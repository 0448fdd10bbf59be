//! What works behind the volume. Parts never import one another.
