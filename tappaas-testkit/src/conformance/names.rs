use tappaas_core::{Name, model::ApplicationKey};

/// A name known to be one.
pub(crate) fn name(name: &str) -> Name {
    Name::new(name).expect("suites use valid names")
}

/// An application in the suites' environment.
pub(crate) fn application_key(application: &str) -> ApplicationKey {
    ApplicationKey {
        tenant: name("conformance"),
        project: name("default"),
        environment: name("test"),
        name: name(application),
    }
}
