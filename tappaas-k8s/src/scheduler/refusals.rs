//! Pods that the cluster does not even let be made: no quota is left, or a policy is against them.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::{
    apps::v1::DeploymentStatus,
    batch::v1::Job,
    core::v1::{Event, Pod},
};
use kube::{Api, ResourceExt as _, api::ListParams};
use tappaas_core::{
    Result,
    backend::{Unplaced, WorkloadId},
};

use super::{
    KubernetesScheduler, applying::Recorded, controllers::Form, observing::release, quotas,
};
use crate::failure::{failure, within};

/// Events per request: more than there are of one workload.
const CHUNK: u32 = 500;
/// The reason of the events that tell of such pods.
const FAILED: &str = "FailedCreate";

/// What is missing of a workload because of that.
#[derive(Debug, Default)]
pub(super) struct Refused {
    pub(super) unplaced: Option<Unplaced>,
    /// The jobs that it is missing of, by name.
    pub(super) jobs: BTreeSet<String>,
}

impl KubernetesScheduler {
    /// Tells what is refused of a workload that has these pods, and these jobs without one.
    pub(super) async fn refused(
        &self,
        id: &WorkloadId,
        last: &Recorded,
        pods: &[Pod],
        jobs: &[Job],
    ) -> Result<Refused> {
        let counts = last.counts();
        let Some((release, count)) = counts.iter().next() else {
            return Ok(Refused::default());
        };
        let mut names = BTreeSet::new();
        let (missing, reason) = match last.record.form {
            Form::Deployment => (lacking(*release, *count, pods), said(last)),
            Form::StatefulSet => {
                let missing = count.saturating_sub(number(pods.len()));
                (missing, self.told(id, last, missing).await?)
            }
            Form::Jobs => {
                let refusals = self.refused_jobs(id, jobs).await?;
                let reason = refusals.values().next().cloned();
                names.extend(refusals.into_keys());
                (number(names.len()), reason)
            }
        };
        let unplaced = reason.filter(|_| missing > 0).map(|reason| Unplaced {
            release: *release,
            missing,
            reasons: vec![readable(&reason)],
        });
        let jobs = names;
        Ok(Refused { unplaced, jobs })
    }

    /// Why jobs have no pod, if they are refused one, by their names.
    async fn refused_jobs(
        &self,
        id: &WorkloadId,
        jobs: &[Job],
    ) -> Result<BTreeMap<String, String>> {
        let open: BTreeMap<_, _> = jobs
            .iter()
            .filter(|job| !is_over(job))
            .filter_map(|job| Some((job.metadata.uid.as_deref()?, job.name_any())))
            .collect();
        if open.is_empty() {
            return Ok(BTreeMap::new());
        }
        let told = self.failures(id, "involvedObject.kind=Job").await?;
        let refused = told.into_iter().filter_map(|(uid, message)| {
            let name = open.get(uid.as_str())?;
            Some((name.clone(), message))
        });
        Ok(refused.collect())
    }

    /// Why a stateful set lacks pods: it has no condition that says so.
    async fn told(&self, id: &WorkloadId, last: &Recorded, missing: u32) -> Result<Option<String>> {
        let uid = last.object.metadata.uid.as_deref().unwrap_or_default();
        if missing == 0 || uid.is_empty() {
            return Ok(None);
        }
        let told = self
            .failures(id, &format!("involvedObject.uid={uid}"))
            .await?;
        Ok(told.into_values().next())
    }

    /// The newest that events tell of pods that could not be made, by the unique names of what could not make them.
    async fn failures(&self, id: &WorkloadId, about: &str) -> Result<BTreeMap<String, String>> {
        let fields = format!("reason={FAILED},{about}");
        let request = ListParams::default().fields(&fields).limit(CHUNK);
        let api: Api<Event> = self.api(id);
        let found = within(api.list(&request)).await;
        let doing = || format!("cannot ask why there are no pods of {id}");
        let mut events = found.map_err(|error| failure(doing(), error))?.items;
        events.sort_by_key(|event| event.last_timestamp.as_ref().map(|time| time.0));
        let each = events
            .into_iter()
            .filter_map(|event| Some((event.involved_object.uid?, event.message?)));
        Ok(each.collect())
    }
}

fn is_over(job: &Job) -> bool {
    let status = job.status.iter();
    let mut conditions = status.flat_map(|status| status.conditions.iter().flatten());
    conditions.any(|one| one.status == "True")
}

/// How many pods a deployment has less than it should.
fn lacking(release: u64, count: u32, pods: &[Pod]) -> u32 {
    let made = pods
        .iter()
        .filter(|pod| self::release(pod.labels()) == release);
    count.saturating_sub(number(made.count()))
}

/// What a deployment says of pods that cannot be made.
fn said(last: &Recorded) -> Option<String> {
    let status = serde_json::from_value::<DeploymentStatus>(last.object.data["status"].clone());
    let conditions = status.ok()?.conditions.unwrap_or_default();
    let failed = |type_: &str, status: &str| type_ == "ReplicaFailure" && status == "True";
    let mut conditions = conditions.into_iter();
    let refusal = conditions.find(|one| failed(&one.type_, &one.status))?;
    refusal.message
}

/// A refusal without the names that only the cluster knows.
fn readable(message: &str) -> String {
    let ours = format!("exceeded quota: {}, ", quotas::NAME);
    match message.split_once(&ours) {
        Some((_, amounts)) => format!("the limits of its environment leave no room: {amounts}"),
        None => match message.split_once(" is forbidden: ") {
            Some((_, why)) => format!("the cluster refuses its pod: {why}"),
            None => message.to_owned(),
        },
    }
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::readable;

    #[test]
    fn a_refusal_says_which_limit_is_reached() {
        for (message, reason) in [
            (
                "pods \"a-1\" is forbidden: exceeded quota: tappaas, requested: pods=1, used: pods=2, limited: pods=2",
                "the limits of its environment leave no room: requested: pods=1, used: pods=2, limited: pods=2",
            ),
            (
                "create Pod a-0 in StatefulSet a failed error: pods \"a-0\" is forbidden: no PriorityClass with name x was found",
                "the cluster refuses its pod: no PriorityClass with name x was found",
            ),
            ("something else", "something else"),
        ] {
            assert_eq!(readable(message), reason);
        }
    }
}
