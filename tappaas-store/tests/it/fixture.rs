use std::{path::Path, sync::Arc};

use serde_json::{Value, json};
use tappaas_core::{
    Ids, Kind, Metadata, Name, Object, Precondition, Result, Scope, Store, memory,
    object::API_VERSION,
};
use tappaas_store::{Config, Embedded, Limits};
use tempfile::TempDir;

pub(crate) fn open(directory: &Path) -> Result<Embedded> {
    open_with(directory, Limits::default(), Arc::new(memory::Ids::new()))
}

pub(crate) fn open_with(directory: &Path, limits: Limits, ids: Arc<dyn Ids>) -> Result<Embedded> {
    let config = Config {
        limits,
        ..Config::new(directory)
    };
    Embedded::open(config, Arc::new(memory::Clock::new()), ids)
}

/// A store whose directory has no name any more, so that nothing of it is left behind.
pub(crate) fn fresh() -> Embedded {
    let directory = directory();
    open(directory.path()).unwrap()
}

pub(crate) fn directory() -> TempDir {
    tempfile::tempdir().unwrap()
}

pub(crate) fn application(name: &str, spec: Value) -> Object {
    let [tenant, project, environment] = ["one", "p", "e"].map(|name| Name::new(name).unwrap());
    let scope = Scope::environment(tenant, project, environment);
    Object {
        api_version: API_VERSION.into(),
        kind: Kind::Application,
        metadata: Metadata::new(&scope, name),
        spec,
        status: json!(null),
    }
}

/// Creates an application whose spec is 1.
pub(crate) async fn create(store: &impl Store, name: &str) -> Object {
    let created = store.put(application(name, json!(1)), Precondition::Absent);
    created.await.unwrap()
}
