//! The labels in the configuration of an image that say what else it needs to run.

/// The stack that an image is to be laid over, such as [`HOST`]; without it the image is complete.
pub(crate) const STACK: &str = "dev.tappaas.stack";

/// The fingerprint that the stack had when the image was built.
pub(crate) const STACK_FINGERPRINT: &str = "dev.tappaas.stack.fingerprint";

/// The stack that is this machine's own userland, read-only.
pub(crate) const HOST: &str = "host";

/// No stack at run time: the image is its programs alone.
pub(crate) const SCRATCH: &str = "scratch";
