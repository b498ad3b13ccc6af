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

/// As a script does that starts a server in the background.
#[test]
fn what_a_server_was_started_ignoring_its_instances_are_asked_to_stop_with() {
    let own = std::env::current_exe().unwrap();
    let case = "scheduler::conformance::an_instance_gets_its_stop_signal";
    let output = std::process::Command::new("env")
        .arg("--ignore-signal=HUP,INT,QUIT")
        .arg(own)
        .args(["--exact", case])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("1 passed"), "{said}");
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
