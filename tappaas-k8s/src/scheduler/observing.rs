//! From objects to how a workload is.

use std::collections::BTreeMap;

use futures::try_join;
use k8s_openapi::{
    api::{
        autoscaling::v2::HorizontalPodAutoscaler,
        batch::v1::Job,
        core::v1::{ContainerState, ContainerStateTerminated, ContainerStatus, Pod, Service},
        networking::v1::NetworkPolicy,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::{Api, ResourceExt as _, api::ListParams};
use serde_json::Value;
use tappaas_core::{
    Result, Timestamp,
    backend::{Exit, InstanceId, InstanceState, InstanceStatus, WorkloadId, WorkloadStatus},
};

use super::{
    KubernetesScheduler,
    applying::{Namespaced, Recorded},
    controllers::{self, Form},
    names, parts, placing,
    record::difference,
};
use crate::failure::{failure, within};

/// After so many restarts something keeps ending. Kubernetes says so after the first.
const RESTARTS: i32 = 3;
/// How long what is not asked for its readiness must have run to be ready. Of that a second is what the contract asks for, one is lost in
/// starts told in whole seconds, and one in the kubelet's delay to tell of an end.
const RUNS: jiff::SignedDuration = jiff::SignedDuration::from_secs(3);

impl KubernetesScheduler {
    pub(super) async fn look(&self, id: &WorkloadId) -> Result<Option<WorkloadStatus>> {
        let recorded = self.recorded_lately(id).await?;
        let mut present = recorded.iter();
        let Some(last) = present.find(|one| one.object.metadata.deletion_timestamp.is_none())
        else {
            return Ok(None);
        };
        let record = &last.record;
        let now = self.clock.now();
        let (pods, drift, autoscaling) = try_join!(
            self.pods(id),
            self.drift(id, &recorded),
            self.autoscaling(id, last),
        )?;
        let waiting = self.waiting(id, &pods).await?;
        let bare = match record.form {
            Form::Jobs => self.bare(id, &pods).await?,
            Form::Deployment | Form::StatefulSet => Vec::new(),
        };
        let mut unplaced = placing::unplaced(&pods, &waiting);
        let refused = self.refused(id, last, &pods, &bare).await?;
        // Where nothing is wanted any more, what was never placed still has to go.
        let stopped = record.counts.values().all(|count| *count == 0);
        let is_instance = |pod: &&Pod| {
            stopped || waiting.contains_key(&pod.name_any()) || placing::obstacle(pod).is_none()
        };
        let placed = pods.iter().filter(is_instance).map(|pod| {
            let instance = instance(pod, now);
            let held_up = waiting.get(&pod.name_any()).cloned();
            InstanceStatus {
                reason: held_up.or(instance.reason),
                ..instance
            }
        });
        let mut instances: Vec<_> = placed.collect();
        // What is refused its pod has no place.
        let made = |job: &&Job| stopped || !refused.jobs.contains(&job.name_any());
        instances.extend(bare.iter().filter(made).map(of_job));
        unplaced.extend(refused.unplaced);
        instances.sort_by(|a, b| (a.created, &a.id).cmp(&(b.created, &b.id)));
        retire(&mut instances, &last.counts());
        Ok(Some(WorkloadStatus {
            generation: record.generation,
            content: record.content.clone(),
            counts: record.counts.clone(),
            instances,
            unplaced,
            autoscaling,
            endpoints: parts::endpoints(&self.platform, id, &record.ports),
            drift,
        }))
    }

    /// What somebody else changed or removed of a workload since it was applied, or what was never finished.
    pub(super) async fn drift(
        &self,
        id: &WorkloadId,
        recorded: &[Recorded],
    ) -> Result<Option<String>> {
        let [Recorded { record, object }] = recorded else {
            let unfinished = "what ran in another form is still there";
            return Ok((recorded.len() > 1).then(|| unfinished.to_owned()));
        };
        if let Some(drift) = record.drift(object) {
            return Ok(Some(drift));
        }
        let parts = &record.parts;
        let (policy, scaler, service) = try_join!(
            self.changed::<NetworkPolicy>(id, parts.policy.as_ref()),
            self.changed::<HorizontalPodAutoscaler>(id, parts.scaler.as_ref()),
            self.changed::<Service>(id, parts.service.as_ref()),
        )?;
        if let Some(drift) = policy.or(scaler).or(service) {
            return Ok(Some(drift));
        }
        if record.form == Form::Jobs {
            let api: Api<Job> = self.api(id);
            let there = self.named(&api, id).await?;
            let counts = record.counts.iter();
            let mut wanted =
                counts.flat_map(|(release, count)| controllers::job_names(id, *release, *count));
            return Ok(wanted
                .find(|name| !there.contains(name))
                .map(|name| format!("Job {name} is gone")));
        }
        Ok(None)
    }

    /// How a part of a workload is not what was applied of it, if that was.
    async fn changed<K: Namespaced>(
        &self,
        id: &WorkloadId,
        applied: Option<&Value>,
    ) -> Result<Option<String>> {
        let Some(applied) = applied else {
            return Ok(None);
        };
        let (kind, name) = (K::kind(&()), names::name(id));
        let found = within(self.api::<K>(id).get_opt(&name)).await;
        let Some(found) = found.map_err(|error| failure(format!("cannot read {id}"), error))?
        else {
            return Ok(Some(format!("{kind} {name} is gone")));
        };
        let found = serde_json::to_value(found).expect("an object has string keys only");
        let changed = difference("spec", applied, &found["spec"]);
        Ok(changed.map(|changed| format!("{changed} of {kind} {name} is not what was applied")))
    }

    /// The jobs that have no pod: not yet, or not any more.
    async fn bare(&self, id: &WorkloadId, pods: &[Pod]) -> Result<Vec<Job>> {
        let request = ListParams::default().labels(&names::query(&names::selected(id)));
        let jobs = within(self.api::<Job>(id).list(&request)).await;
        let jobs = jobs.map_err(|error| failure(format!("cannot list the jobs of {id}"), error))?;
        let has_pod = |job: &Job| {
            let mut owners = pods.iter().flat_map(|pod| pod.owner_references());
            owners.any(|owner| Some(&owner.uid) == job.metadata.uid.as_ref())
        };
        let mut bare = jobs.items;
        bare.retain(|job| !has_pod(job));
        Ok(bare)
    }

    /// The pods of a workload, those that end included.
    pub(super) async fn pods(&self, id: &WorkloadId) -> Result<Vec<Pod>> {
        let request = ListParams::default().labels(&names::query(&names::selected(id)));
        let found = within(self.api::<Pod>(id).list(&request)).await;
        let found =
            found.map_err(|error| failure(format!("cannot list the pods of {id}"), error))?;
        let mut pods = found.items;
        // Of what is always replaced, such as an evicted pod, another one has taken the place.
        pods.retain(|pod| !is_over(pod));
        Ok(pods)
    }
}

fn is_over(pod: &Pod) -> bool {
    let always = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.restart_policy.as_deref())
        == Some("Always");
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    always && matches!(phase, Some("Succeeded" | "Failed"))
}

fn of_job(job: &Job) -> InstanceStatus {
    let conditions = job
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    let mut ended = conditions.filter(|one| one.status == "True");
    let ended = ended.find(|one| matches!(one.type_.as_str(), "Complete" | "Failed"));
    let leaving = job.metadata.deletion_timestamp.is_some();
    InstanceStatus {
        id: InstanceId(job.name_any()),
        release: release(job.labels()),
        node: String::new(),
        state: match ended {
            _ if leaving => InstanceState::Stopping,
            Some(_) => InstanceState::Exited,
            None => InstanceState::Starting,
        },
        ready: false,
        endpoints: BTreeMap::new(),
        found_port: None,
        restarts: 0,
        created: job
            .creation_timestamp()
            .map_or(Timestamp::UNIX_EPOCH, |time| time.0),
        reason: match ended {
            Some(ended) => Some(
                ended
                    .message
                    .clone()
                    .unwrap_or_else(|| "its pod is gone".to_owned()),
            ),
            None => Some("its pod is made".to_owned()),
        },
        exit: ended.map(|ended| Exit {
            code: (ended.type_ == "Complete").then_some(0),
            signal: None,
            out_of_memory: false,
            at: ended
                .last_transition_time
                .as_ref()
                .map_or(Timestamp::UNIX_EPOCH, |time| time.0),
        }),
        usage: None,
    }
}

/// Instances that have to go, though whoever removes them has not begun to: those above the count, in the order in which a replica set
/// takes them, and all of a release that none is wanted of, once nothing is wanted at all.
fn retire(instances: &mut [InstanceStatus], counts: &BTreeMap<u64, u32>) {
    if counts.values().all(|count| *count == 0) {
        instances.iter_mut().for_each(stop);
        return;
    }
    for (release, count) in counts {
        let mut staying: Vec<_> = instances
            .iter_mut()
            .filter(|it| it.release == *release && it.state != InstanceState::Stopping)
            .collect();
        let surplus = staying.len().saturating_sub(*count as usize);
        staying.sort_by_key(|it| (it.ready, std::cmp::Reverse(it.created)));
        staying.into_iter().take(surplus).for_each(stop);
    }
}

fn stop(instance: &mut InstanceStatus) {
    instance.state = InstanceState::Stopping;
    instance.ready = false;
}

pub(super) fn release(labels: &BTreeMap<String, String>) -> u64 {
    let release = labels.get(names::RELEASE);
    release.and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// The name of an instance: a pod's, and in a stateful set, where names come again, also what tells one from the next.
pub(super) fn instance_id(pod: &Pod) -> InstanceId {
    let name = pod.name_any();
    let again = pod
        .owner_references()
        .iter()
        .any(|owner| owner.kind == "StatefulSet");
    match pod.uid().filter(|_| again) {
        Some(uid) => InstanceId(format!("{name}.{}", uid.get(..8).unwrap_or(&uid))),
        None => InstanceId(name),
    }
}

/// How a pod is, at a time.
pub(super) fn instance(pod: &Pod, now: Timestamp) -> InstanceStatus {
    let status = pod.status.clone().unwrap_or_default();
    let container = own(pod, status.container_statuses.into_iter().flatten());
    let state = state(pod, status.phase.as_deref(), container.as_ref());
    let said = status.conditions.iter().flatten();
    let mut said = said.filter(|one| one.type_ == "Ready" && one.status == "True");
    let ready = state == InstanceState::Running
        && said.next().is_some()
        && (is_probed(pod) || ran(container.as_ref(), now) >= RUNS);
    let spec = pod.spec.as_ref();
    InstanceStatus {
        id: instance_id(pod),
        release: release(pod.labels()),
        node: spec
            .and_then(|spec| spec.node_name.clone())
            .unwrap_or_default(),
        state,
        ready,
        endpoints: BTreeMap::new(),
        found_port: None,
        restarts: container
            .as_ref()
            .map_or(0, |one| u32::try_from(one.restart_count).unwrap_or(0)),
        created: pod
            .creation_timestamp()
            .map_or(Timestamp::UNIX_EPOCH, |time| time.0),
        reason: (!ready)
            .then(|| reason(pod, state, container.as_ref(), status.message))
            .flatten(),
        exit: container.as_ref().and_then(exit),
        usage: None,
    }
}

/// The container of the process itself: others may have been put beside it.
pub(super) fn own(
    pod: &Pod,
    containers: impl Iterator<Item = ContainerStatus>,
) -> Option<ContainerStatus> {
    let process = names::process(&pod.metadata);
    let mut containers = containers;
    containers.find(|container| Some(container.name.as_str()) == process)
}

fn is_probed(pod: &Pod) -> bool {
    let mut containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    containers.any(|container| container.readiness_probe.is_some())
}

fn ran(container: Option<&ContainerStatus>, now: Timestamp) -> jiff::SignedDuration {
    let state = container.and_then(|one| one.state.as_ref());
    let running = state.and_then(|state| state.running.as_ref());
    let started = running.and_then(|running| running.started_at.as_ref());
    started.map_or(jiff::SignedDuration::ZERO, |Time(started)| {
        now.duration_since(*started)
    })
}

fn state(pod: &Pod, phase: Option<&str>, container: Option<&ContainerStatus>) -> InstanceState {
    if pod.metadata.deletion_timestamp.is_some() {
        return InstanceState::Stopping;
    }
    if matches!(phase, Some("Succeeded" | "Failed")) {
        return InstanceState::Exited;
    }
    let Some(container) = container else {
        return InstanceState::Starting;
    };
    match container.state.clone().unwrap_or_default() {
        ContainerState {
            running: Some(_), ..
        } => InstanceState::Running,
        ContainerState {
            waiting: Some(waiting),
            ..
        } if waiting.reason.as_deref() == Some("CrashLoopBackOff")
            && container.restart_count >= RESTARTS =>
        {
            InstanceState::CrashLoop
        }
        _ => InstanceState::Starting,
    }
}

/// Why an instance is not ready, in a sentence.
fn reason(
    pod: &Pod,
    state: InstanceState,
    container: Option<&ContainerStatus>,
    message: Option<String>,
) -> Option<String> {
    let waiting = container
        .and_then(|one| one.state.as_ref())
        .and_then(|state| state.waiting.as_ref());
    let why = waiting.and_then(|waiting| waiting.reason.as_deref());
    let detail = waiting
        .and_then(|waiting| waiting.message.clone())
        .unwrap_or_default();
    match (state, why) {
        (InstanceState::Stopping, _) => None,
        (
            _,
            Some("ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull"),
        ) => Some(format!("its image cannot be pulled: {detail}")),
        (_, Some("CreateContainerConfigError")) => {
            Some(format!("its container cannot be configured: {detail}"))
        }
        (_, Some("CrashLoopBackOff")) => Some(ended(container)),
        (_, Some("ContainerCreating" | "PodInitializing")) => {
            Some("its sandbox is made".to_owned())
        }
        (_, Some(other)) => Some(format!("{other}: {detail}")),
        (InstanceState::Exited, None) => Some(
            message
                .filter(|text| !text.is_empty())
                .unwrap_or_else(|| ended(container)),
        ),
        (InstanceState::Running, None) => Some(match container {
            // As the kubelet saw it last: it is the cluster that heard no more of the kubelet.
            Some(one) if one.ready => lost(pod),
            _ => unready(pod),
        }),
        (InstanceState::Starting | InstanceState::CrashLoop, None) => match container {
            Some(one) if terminated(one).is_some() => Some(ended(container)),
            _ => Some("its image is fetched, its sandbox is made".to_owned()),
        },
    }
}

/// How it ended, and the last that it wrote.
fn ended(container: Option<&ContainerStatus>) -> String {
    let Some(terminated) = container.and_then(terminated) else {
        return "keeps ending".to_owned();
    };
    let how = exit_of(terminated).to_string();
    let last = terminated.message.as_deref().unwrap_or_default().trim();
    match last.is_empty() {
        true => how,
        false => format!("{how}; it wrote last: {last}"),
    }
}

fn lost(pod: &Pod) -> String {
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
    format!("its node, {}, does not answer", node.unwrap_or_default())
}

fn unready(pod: &Pod) -> String {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let mut probes = containers.filter_map(|container| container.readiness_probe.as_ref());
    match probes.next() {
        None => "it has just started".to_owned(),
        Some(probe) => match (&probe.http_get, &probe.tcp_socket) {
            (Some(get), _) => {
                let path = get.path.as_deref().unwrap_or("/");
                format!("its readiness probe, GET {path}, does not succeed")
            }
            (None, Some(socket)) => format!("nothing listens on its port {}", port(&socket.port)),
            (None, None) => "its readiness probe does not succeed".to_owned(),
        },
    }
}

fn port(port: &k8s_openapi::apimachinery::pkg::util::intstr::IntOrString) -> String {
    use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
    match port {
        IntOrString::Int(number) => number.to_string(),
        IntOrString::String(name) => name.clone(),
    }
}

fn exit(container: &ContainerStatus) -> Option<Exit> {
    terminated(container).map(exit_of)
}

/// How a container ended last.
fn terminated(container: &ContainerStatus) -> Option<&ContainerStateTerminated> {
    let states = [&container.state, &container.last_state];
    states
        .into_iter()
        .flatten()
        .find_map(|state| state.terminated.as_ref())
}

fn exit_of(terminated: &ContainerStateTerminated) -> Exit {
    Exit {
        code: Some(terminated.exit_code),
        signal: terminated.signal,
        out_of_memory: terminated.reason.as_deref() == Some("OOMKilled"),
        at: terminated
            .finished_at
            .as_ref()
            .map_or(Timestamp::UNIX_EPOCH, |time| time.0),
    }
}
