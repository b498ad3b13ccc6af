//! The labels and the manager that all backends' objects have.

/// Who applies, and marks what it made.
pub(crate) const MANAGER: &str = "tappaas";
pub(crate) const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// The platform that an object belongs to.
pub(crate) const PLATFORM: &str = "tappaas.dev/platform";
/// The application that an object belongs to.
pub(crate) const APPLICATION: &str = "tappaas.dev/application";
