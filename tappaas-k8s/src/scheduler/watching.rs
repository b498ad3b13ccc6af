//! Which workloads change, as they change.

use std::{fmt, time::Duration};

use futures::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use k8s_openapi::api::{
    apps::v1::{Deployment, StatefulSet},
    core::v1::{Pod, Service},
    networking::v1::NetworkPolicy,
};
use kube::{
    Api, Client, Resource,
    api::PartialObjectMeta,
    runtime::{WatchStreamExt as _, watcher},
};
use serde::de::DeserializeOwned;
use tappaas_core::backend::WorkloadId;

use super::names;

/// How long what is not asked for its readiness must run to be ready, which nobody tells of.
const RUNS: Duration = Duration::from_millis(3100);

/// Follows all that belongs to workloads. What breaks off begins anew, with a pause that grows.
pub(super) fn watch(client: &Client) -> BoxStream<'static, WorkloadId> {
    stream::select_all([
        of::<Deployment>(client),
        of::<StatefulSet>(client),
        of::<Service>(client),
        of::<NetworkPolicy>(client),
        of::<Pod>(client).flat_map_unordered(None, twice).boxed(),
    ])
    .boxed()
}

fn of<K>(client: &Client) -> BoxStream<'static, WorkloadId>
where
    K: Resource<DynamicType = ()> + Clone + fmt::Debug + DeserializeOwned + Send + 'static,
{
    let ours = format!("{}={}", names::MANAGED_BY, names::MANAGER);
    let everywhere = Api::<PartialObjectMeta<K>>::all(client.clone());
    let watched = watcher(everywhere, watcher::Config::default().labels(&ours));
    let objects = watched.default_backoff().filter_map(|event| async {
        match event {
            Ok(
                watcher::Event::Apply(object)
                | watcher::Event::InitApply(object)
                | watcher::Event::Delete(object),
            ) => names::workload(&object.metadata),
            Ok(watcher::Event::Init | watcher::Event::InitDone) => None,
            Err(error) => {
                tracing::warn!(kind = %K::kind(&()), %error, "a watch broke off");
                None
            }
        }
    });
    objects.boxed()
}

/// Now, and once what just began to run has run for long enough.
fn twice(id: WorkloadId) -> BoxStream<'static, WorkloadId> {
    let later = id.clone();
    let later = stream::once(async {
        tokio::time::sleep(RUNS).await;
        later
    });
    stream::iter([id]).chain(later).boxed()
}
