//! Which workloads change, as they change.

use std::{fmt, time::Duration};

use futures::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use k8s_openapi::{
    api::{
        apps::v1::{Deployment, StatefulSet},
        autoscaling::v2::HorizontalPodAutoscaler,
        core::v1::{Pod, Service},
        networking::v1::NetworkPolicy,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Client, Resource,
    api::PartialObjectMeta,
    runtime::{WatchStreamExt as _, watcher},
};
use serde::de::DeserializeOwned;
use tappaas_core::backend::WorkloadId;

use super::names;
use crate::PlatformId;

/// How long what is not asked for its readiness must run to be ready, which nobody tells of.
const RUNS: Duration = Duration::from_millis(3100);

/// Follows all that belongs to a platform's workloads. What breaks off begins anew, with a pause that grows.
pub(super) fn watch(client: &Client, platform: &PlatformId) -> BoxStream<'static, WorkloadId> {
    stream::select_all([
        of::<Deployment>(client, platform),
        of::<StatefulSet>(client, platform),
        of::<Service>(client, platform),
        of::<NetworkPolicy>(client, platform),
        of_some::<HorizontalPodAutoscaler>(client, platform, |scaler| {
            !only_status(&scaler.metadata)
        }),
        of::<Pod>(client, platform)
            .flat_map_unordered(None, twice)
            .boxed(),
    ])
    .boxed()
}

fn of<K>(client: &Client, platform: &PlatformId) -> BoxStream<'static, WorkloadId>
where
    K: Resource<DynamicType = ()> + Clone + fmt::Debug + DeserializeOwned + Send + 'static,
{
    of_some::<K>(client, platform, |_| true)
}

/// As [`of`], of those objects that are news.
fn of_some<K>(
    client: &Client,
    platform: &PlatformId,
    is_news: fn(&PartialObjectMeta<K>) -> bool,
) -> BoxStream<'static, WorkloadId>
where
    K: Resource<DynamicType = ()> + Clone + fmt::Debug + DeserializeOwned + Send + 'static,
{
    let everywhere = Api::<PartialObjectMeta<K>>::all(client.clone());
    let watched = watcher(
        everywhere,
        watcher::Config::default().labels(&platform.selector()),
    );
    let (platform, told) = (platform.clone(), watched.default_backoff());
    let objects = told.filter_map(move |event| {
        let id = match event {
            Ok(watcher::Event::Apply(object)) if !is_news(&object) => None,
            Ok(
                watcher::Event::Apply(object)
                | watcher::Event::InitApply(object)
                | watcher::Event::Delete(object),
            ) => names::workload(&platform, &object.metadata),
            Ok(watcher::Event::Init | watcher::Event::InitDone) => None,
            Err(error) => {
                tracing::warn!(kind = %K::kind(&()), %error, "a watch broke off");
                None
            }
        };
        std::future::ready(id)
    });
    objects.boxed()
}

/// Whether nobody but its own controller has written an object last: an autoscaler tells four times a minute what it measured.
fn only_status(metadata: &ObjectMeta) -> bool {
    let managers = metadata.managed_fields.iter().flatten();
    let newest = |status: bool| {
        let of = managers
            .clone()
            .filter(move |one| (one.subresource.as_deref() == Some("status")) == status);
        of.filter_map(|one| one.time.as_ref().map(|time| time.0))
            .max()
    };
    // Told in whole seconds: of two at the same time either may be the news.
    newest(true) > newest(false)
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
