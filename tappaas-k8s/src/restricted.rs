//! The restricted profile of the Pod Security Standards, as every container of ours fulfils it.

use k8s_openapi::api::core::v1::{Capabilities, SecurityContext};

/// What a container is not given.
pub(crate) fn restricted() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities {
            drop: Some(vec!["ALL".to_owned()]),
            ..Capabilities::default()
        }),
        read_only_root_filesystem: Some(true),
        ..SecurityContext::default()
    }
}
