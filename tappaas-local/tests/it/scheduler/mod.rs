//! The scheduler, with real sandboxes, run by root.

mod machine;

use self::machine::Machine;

mod conformance {
    tappaas_testkit::scheduler_conformance!(super::Machine::new().await);
}
