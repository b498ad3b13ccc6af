//! The scheduler, with real sandboxes, run by root.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod machine;
#[expect(
    dead_code,
    reason = "it is compiled by itself, to run inside instances"
)]
mod program;
mod survival;

use self::machine::Machine;

mod conformance {
    tappaas_testkit::scheduler_conformance!(super::Machine::new().await);
}

mod volumes {
    use std::sync::Arc;

    use tappaas_core::backend::Volumes;
    use tappaas_testkit::conformance::{scheduler::SchedulerFixture, volumes::VolumesFixture};

    use super::Machine;

    impl VolumesFixture for Machine {
        fn volumes(&self) -> Arc<dyn Volumes> {
            Arc::new(self.local().volumes())
        }

        fn scheduling(&self) -> &dyn SchedulerFixture {
            self
        }
    }

    tappaas_testkit::volumes_conformance!(Machine::new().await);
}
