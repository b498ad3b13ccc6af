//! Stacks: what an application that was built from source finds around its slug.
//!
//! There is one, `host`: this machine's userland, read-only. Applications on it are built and run with the compilers, interpreters and
//! libraries that are installed here, and nothing else of the machine is seen inside.

mod etc;
mod fingerprint;
mod host;

pub use host::{HostStack, HostStackConfig, Userland};
