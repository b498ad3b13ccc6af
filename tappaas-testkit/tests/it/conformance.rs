//! The in-memory backends keep their contracts also where replies are lost and asked for again, calls are slow and watches
//! repeat themselves.

use std::time::Duration;

use tappaas_testkit::{
    Memory,
    faulty::{Faults, Odds},
};

/// Faults that every contract allows: of ten calls three are made twice and three are late.
fn allowed(seed: u64) -> Faults {
    let odds = Odds {
        repeat: 300,
        delay: 300,
        delay_max: Duration::from_millis(50),
        double: 300,
        ..Odds::default()
    };
    Faults::seeded(seed, odds)
}

/// Writes under a precondition cannot be made twice, and changes come once each: there only lateness is allowed.
fn late(seed: u64) -> Faults {
    let odds = Odds {
        delay: 300,
        delay_max: Duration::from_millis(2),
        ..Odds::default()
    };
    Faults::seeded(seed, odds)
}

mod builder {
    use super::*;

    fn fresh() -> Memory {
        // A build asked for again is answered from the cache, and says so.
        Memory::with_faults(allowed(1).sparing("build"))
    }

    tappaas_testkit::builder_conformance!(
        #[tokio::test(start_paused = true)]
        fresh()
    );
}

mod durable {
    use std::sync::Arc;

    use tappaas_core::memory;
    use tappaas_testkit::faulty::Faulty;

    use super::*;

    tappaas_testkit::durable_conformance!(Arc::new(Faulty::new(
        Arc::new(memory::Durable::new()),
        &Arc::new(late(8))
    )));
}

mod ingress {
    use super::*;

    fn fresh() -> Memory {
        // A signal is an amount: twice is too much.
        Memory::with_faults(allowed(2).sparing("watch item"))
    }

    tappaas_testkit::ingress_conformance!(
        #[tokio::test(start_paused = true)]
        fresh()
    );
}

mod registry {
    use super::*;

    tappaas_testkit::registry_conformance!(
        #[tokio::test(start_paused = true)]
        Memory::with_faults(allowed(3))
    );
}

mod scheduler {
    use super::*;

    tappaas_testkit::scheduler_conformance!(
        #[tokio::test(start_paused = true)]
        Memory::with_faults(allowed(4))
    );
}

mod secrets {
    use std::sync::Arc;

    use tappaas_core::{backend::SecretStore, memory};
    use tappaas_testkit::faulty::Faulty;

    use super::*;

    fn fresh() -> Arc<dyn SecretStore> {
        // A secret put again has one more version.
        let faults = Arc::new(allowed(5).sparing("put"));
        Arc::new(Faulty::new(Arc::new(memory::SecretStore::new()), &faults))
    }

    tappaas_testkit::secrets_conformance!(
        #[tokio::test(start_paused = true)]
        fresh()
    );
}

mod store {
    use std::sync::Arc;

    use tappaas_core::{Store, memory};
    use tappaas_testkit::faulty::Faulty;

    use super::*;

    fn fresh() -> Arc<dyn Store> {
        let clock = Arc::new(memory::Clock::new());
        let store = memory::Store::new(clock, Arc::new(memory::Ids::new()));
        Arc::new(Faulty::new(Arc::new(store), &Arc::new(late(9))))
    }

    tappaas_testkit::store_conformance!(fresh());
}

mod switch {
    use super::*;

    tappaas_testkit::switch_conformance!(
        #[tokio::test(start_paused = true)]
        Memory::with_faults(allowed(6))
    );
}

mod volumes {
    use super::*;

    fn fresh() -> Memory {
        // A snapshot taken again is there already.
        Memory::with_faults(allowed(7).sparing("snapshot"))
    }

    tappaas_testkit::volumes_conformance!(
        #[tokio::test(start_paused = true)]
        fresh()
    );
}
