//! What an environment may take, kept by the cluster itself: a ResourceQuota, and a LimitRange for containers that ask for nothing.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{LimitRange, LimitRangeItem, LimitRangeSpec, ResourceQuota, ResourceQuotaSpec},
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::ObjectMeta},
};
use kube::{Api, api::DeleteParams};
use serde::Serialize;
use tappaas_core::{Result, Scope, model::Limits};

use super::{KubernetesScheduler, applying::Namespaced, record::difference};
use crate::{
    PlatformId,
    failure::{failure, is, within},
    store::place,
};

/// The name of either object.
pub(super) const NAME: &str = "tappaas";
/// A container that asks for nothing gets this part of what the environment has: a rollout adds an instance, and there may be others.
const PART: u64 = 4;
/// And no more than this.
const CPU_MILLIS_MAX: u64 = 1000;
const MEMORY_MAX: u64 = 512 << 20;

impl KubernetesScheduler {
    /// Lets the cluster keep an environment's limits from now on, whatever somebody made of them meanwhile.
    pub(super) async fn limit(&self, environment: &Scope, limits: &Limits) -> Result<()> {
        let metadata = metadata(&self.platform, environment);
        let range = range(&metadata, limits);
        // What admits pods that ask for nothing comes first and goes last, lest the other refuses them.
        if range.is_some() {
            self.have(NAME, environment, range.clone()).await?;
        }
        self.have(NAME, environment, quota(&metadata, limits))
            .await?;
        if range.is_none() {
            self.have(NAME, environment, range).await?;
        }
        Ok(())
    }

    /// Makes or removes an object, unless it is as it is to be.
    pub(super) async fn have<K: Namespaced>(
        &self,
        name: &str,
        environment: &Scope,
        wanted: Option<K>,
    ) -> Result<()> {
        let api: Api<K> = Api::namespaced(self.client.clone(), &self.namespaces.name(environment));
        let unable = |verb: &str, error| {
            let kind = K::kind(&());
            failure(
                format!("cannot {verb} {kind} {name} of environment {environment}"),
                error,
            )
        };
        let found = within(api.get_opt(name)).await;
        let found = found.map_err(|error| unable("read", error))?;
        match (wanted, found) {
            (None, None) => Ok(()),
            (Some(wanted), Some(found)) if is_as(&wanted, &found) => Ok(()),
            (Some(wanted), _) => self.apply(&wanted).await,
            (None, Some(_)) => match within(api.delete(name, &DeleteParams::default())).await {
                Err(error) if !is(&error, 404) => Err(unable("remove", error)),
                _ => Ok(()),
            },
        }
    }
}

/// Nothing of an object is another than it is to be.
fn is_as<K: Serialize>(wanted: &K, found: &K) -> bool {
    let [wanted, found] = [wanted, found]
        .map(|object| serde_json::to_value(object).expect("an object has string keys only"));
    difference("", &wanted, &found).is_none()
}

/// What all pods and claims may ask for together. Kubernetes counts what is asked for (requests) and what is allowed (limits) apart.
fn quota(metadata: &ObjectMeta, limits: &Limits) -> Option<ResourceQuota> {
    let cpu = limits.cpu_millis.map(millis);
    let memory = limits.memory.map(number);
    let each = [
        ("limits.cpu", cpu.clone()),
        ("requests.cpu", cpu),
        ("limits.memory", memory.clone()),
        ("requests.memory", memory),
        ("pods", limits.instances.map(u64::from).map(number)),
        ("requests.storage", limits.storage.map(number)),
    ];
    let hard = given(each);
    (!hard.is_empty()).then(|| ResourceQuota {
        metadata: metadata.clone(),
        spec: Some(ResourceQuotaSpec {
            hard: Some(hard),
            ..ResourceQuotaSpec::default()
        }),
        ..ResourceQuota::default()
    })
}

/// What a container gets that asks for nothing: under a quota it would not be admitted otherwise.
fn range(metadata: &ObjectMeta, limits: &Limits) -> Option<LimitRange> {
    let part = |limit: u64, most: u64| (limit / PART).clamp(1, most);
    let cpu = limits.cpu_millis.map(|limit| part(limit, CPU_MILLIS_MAX));
    let memory = limits.memory.map(|limit| part(limit, MEMORY_MAX));
    let each = given([("cpu", cpu.map(millis)), ("memory", memory.map(number))]);
    (!each.is_empty()).then(|| LimitRange {
        metadata: metadata.clone(),
        spec: Some(LimitRangeSpec {
            limits: vec![LimitRangeItem {
                default: Some(each.clone()),
                default_request: Some(each),
                type_: "Container".to_owned(),
                ..LimitRangeItem::default()
            }],
        }),
    })
}

fn given<const N: usize>(each: [(&str, Option<Quantity>); N]) -> BTreeMap<String, Quantity> {
    let given = each
        .into_iter()
        .filter_map(|(name, amount)| Some((name.to_owned(), amount?)));
    given.collect()
}

fn millis(amount: u64) -> Quantity {
    Quantity(format!("{amount}m"))
}

fn number(amount: u64) -> Quantity {
    Quantity(amount.to_string())
}

fn metadata(platform: &PlatformId, environment: &Scope) -> ObjectMeta {
    let labels = place::labels(platform, environment).chain(platform.marks());
    ObjectMeta {
        labels: Some(labels.collect()),
        name: Some(NAME.to_owned()),
        namespace: Some(place::namespace(platform, environment)),
        ..ObjectMeta::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(amounts: Option<BTreeMap<String, Quantity>>) -> Vec<(String, String)> {
        let amounts = amounts.unwrap().into_iter();
        amounts.map(|(name, amount)| (name, amount.0)).collect()
    }

    fn pairs<const N: usize>(pairs: [(&str, &str); N]) -> Vec<(String, String)> {
        pairs.map(|(a, b)| (a.to_owned(), b.to_owned())).into()
    }

    #[test]
    fn what_is_limited_is_counted_as_asked_for_and_as_allowed() {
        let limits = Limits {
            cpu_millis: Some(2000),
            memory: Some(1 << 30),
            instances: Some(7),
            storage: Some(1 << 40),
        };
        let quota = quota(&ObjectMeta::default(), &limits).unwrap();
        let expected = pairs([
            ("limits.cpu", "2000m"),
            ("limits.memory", "1073741824"),
            ("pods", "7"),
            ("requests.cpu", "2000m"),
            ("requests.memory", "1073741824"),
            ("requests.storage", "1099511627776"),
        ]);
        assert_eq!(written(quota.spec.unwrap().hard), expected);
        let range = range(&ObjectMeta::default(), &limits).unwrap();
        let item = range.spec.unwrap().limits.remove(0);
        let expected = pairs([("cpu", "500m"), ("memory", "268435456")]);
        assert_eq!(written(item.default), expected);
        assert_eq!(written(item.default_request), expected);
    }

    #[test]
    fn what_is_not_limited_is_not_written() {
        let none = Limits::default();
        assert!(quota(&ObjectMeta::default(), &none).is_none());
        let instances = Limits {
            instances: Some(1),
            ..none
        };
        assert!(range(&ObjectMeta::default(), &instances).is_none());
        let hard = quota(&ObjectMeta::default(), &instances).unwrap().spec;
        assert_eq!(written(hard.unwrap().hard), pairs([("pods", "1")]));
    }

    #[test]
    fn a_default_is_never_nothing_and_never_very_much() {
        for (limit, default) in [(1, "1m"), (4000, "1000m"), (40_000, "1000m")] {
            let limits = Limits {
                cpu_millis: Some(limit),
                ..Limits::default()
            };
            let range = range(&ObjectMeta::default(), &limits).unwrap();
            let item = range.spec.unwrap().limits.remove(0);
            assert_eq!(written(item.default), pairs([("cpu", default)]));
        }
    }
}
