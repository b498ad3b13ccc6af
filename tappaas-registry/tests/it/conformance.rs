//! The contract of the core trait, held by both registries.

use std::{fmt, sync::Arc};

use tappaas_core::backend::{Registry, Repository};
use tappaas_testkit::conformance::registry::RegistryFixture;

struct Fixture<W> {
    registry: Arc<dyn Registry>,
    /// What must live as long as the registry.
    _world: W,
}

impl<W: Send + Sync> RegistryFixture for Fixture<W> {
    fn registry(&self) -> Arc<dyn Registry> {
        self.registry.clone()
    }

    fn repository(&self, name: &str) -> Repository {
        name.parse().unwrap()
    }
}

impl<W> fmt::Debug for Fixture<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fixture")
            .field("registry", &self.registry)
            .finish_non_exhaustive()
    }
}

mod embedded {
    use std::sync::Arc;

    use tappaas_registry::embedded;
    use tempfile::TempDir;

    use super::Fixture;
    use crate::world::open;

    async fn fixture() -> Fixture<TempDir> {
        let directory = TempDir::new().unwrap();
        Fixture {
            registry: Arc::new(embedded::Registry::new(open(directory.path()).await)),
            _world: directory,
        }
    }

    tappaas_testkit::registry_conformance!(fixture().await);
}

#[cfg(feature = "client")]
mod client {
    use std::sync::Arc;

    use super::Fixture;
    use crate::world::World;

    async fn fixture() -> Fixture<World> {
        let world = World::start().await;
        Fixture {
            registry: Arc::new(crate::client::client(world.address, &[])),
            _world: world,
        }
    }

    tappaas_testkit::registry_conformance!(fixture().await);
}
