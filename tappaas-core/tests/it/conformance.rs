//! The in-memory backends keep the contracts that they are the reference of.

mod builder {
    use tappaas_testkit::Memory;

    tappaas_testkit::builder_conformance!(
        #[tokio::test(start_paused = true)]
        Memory::new()
    );
}

mod ingress {
    use tappaas_testkit::Memory;

    tappaas_testkit::ingress_conformance!(
        #[tokio::test(start_paused = true)]
        Memory::new()
    );
}

mod registry {
    use tappaas_testkit::Memory;

    tappaas_testkit::registry_conformance!(
        #[tokio::test(start_paused = true)]
        Memory::new()
    );
}

mod scheduler {
    use tappaas_testkit::Memory;

    tappaas_testkit::scheduler_conformance!(
        #[tokio::test(start_paused = true)]
        Memory::new()
    );
}

mod secrets {
    use std::sync::Arc;

    use tappaas_core::{backend::SecretStore, memory};

    fn fresh() -> Arc<dyn SecretStore> {
        Arc::new(memory::SecretStore::new())
    }

    tappaas_testkit::secrets_conformance!(
        #[tokio::test(start_paused = true)]
        fresh()
    );
}

mod switch {
    use tappaas_testkit::Memory;

    tappaas_testkit::switch_conformance!(
        #[tokio::test(start_paused = true)]
        Memory::new()
    );
}

mod volumes {
    use tappaas_testkit::Memory;

    tappaas_testkit::volumes_conformance!(
        #[tokio::test(start_paused = true)]
        Memory::new()
    );
}
