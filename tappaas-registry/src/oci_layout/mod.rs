//! Images in a directory, as the OCI image layout 1.0 has them: what skopeo, buildah and `docker buildx` write as `oci:`.
//!
//! For machines that reach no registry: [`crate::copy`] out to a directory, carry it over, and copy in.

mod index;
mod registry;

pub use registry::Registry;
