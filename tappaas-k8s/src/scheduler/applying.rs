//! From a workload to objects.

use std::{collections::BTreeMap, time::Duration};

use futures::{future::try_join_all, try_join};
use k8s_openapi::{
    api::{
        autoscaling::v2::HorizontalPodAutoscaler,
        core::v1::PodTemplateSpec,
        networking::v1::{NetworkPolicy, NetworkPolicySpec},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Resource,
    api::{DynamicObject, ListParams, Patch, PatchParams, PostParams},
    core::{NamespaceResourceScope, TypeMeta},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tappaas_core::{
    Error, ErrorKind, Result,
    backend::{ReleaseSet, Workload, WorkloadId},
};

use super::{
    KubernetesScheduler, autoscaling,
    controllers::{self, Form},
    names, parts, pod,
    record::{Parts, Record},
};
use crate::{
    PlatformId,
    failure::{failure, is, within},
};

/// How often a workload is applied again because somebody else changed it meanwhile: its own controller counts, too.
const ATTEMPTS: u32 = 16;
/// How much longer it waits each time before it is.
const PAUSE: Duration = Duration::from_millis(20);
/// The policy that denies everything in a namespace which no other one allows.
const DENIED: &str = "tappaas-denied";

/// What was applied last, and the object that says so.
pub(super) struct Recorded {
    pub(super) record: Record,
    pub(super) object: DynamicObject,
}

impl Recorded {
    /// The counts as they are to be now: applied, or set by an autoscaler since.
    pub(super) fn counts(&self) -> BTreeMap<u64, u32> {
        let mut counts = self.record.counts.clone();
        if self.record.bounds.is_some() {
            let scaled = autoscaling::replicas(&self.object);
            counts.values_mut().for_each(|count| *count = scaled);
        }
        counts
    }
}

impl KubernetesScheduler {
    /// # Errors
    /// `Conflict` as the contract says.
    pub(super) async fn take(&self, workload: &Workload) -> Result<()> {
        let id = &workload.id;
        self.forms.forget(id);
        for attempt in 1..=ATTEMPTS {
            let recorded = self.recorded(id).await?;
            let mut leaving = recorded.iter().map(|recorded| &recorded.object.metadata);
            if leaving.any(|metadata| metadata.deletion_timestamp.is_some()) {
                return Err(Error::unavailable(format!(
                    "workload {id} is still being deleted"
                )));
            }
            if let Some(last) = recorded.first()
                && !workload.supersedes(last.record.generation, &last.record.content)?
                && self.drift(id, &recorded).await?.is_none()
            {
                return Ok(());
            }
            match self.write(workload, &recorded).await {
                // Somebody else was quicker: whether this is still to be taken is asked again.
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                // The namespace has gone since it was seen.
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    self.namespaces.forget(&id.application.scope());
                }
                done => return done,
            }
            tokio::time::sleep(PAUSE * attempt).await;
        }
        Err(Error::unavailable(format!(
            "workload {id} was changed by others {ATTEMPTS} times while it was applied"
        )))
    }

    async fn write(&self, workload: &Workload, recorded: &[Recorded]) -> Result<()> {
        match workload.releases.as_slice() {
            [] => self.write_nothing(workload, recorded).await,
            [set] => Box::pin(self.write_release(workload, set, recorded)).await,
            _ => Err(Error::invalid(format!(
                "workload {} has {} releases: on Kubernetes one replaces the other by itself",
                workload.id,
                workload.releases.len()
            ))),
        }
    }

    /// Remembers that nothing is to run, and stops all instances.
    async fn write_nothing(&self, workload: &Workload, recorded: &[Recorded]) -> Result<()> {
        for Recorded { record, object } in recorded {
            let form = record.form;
            let mut applied = record.applied.clone();
            if let Some(applied) = &mut applied {
                applied["replicas"] = json!(0);
            }
            let parts = Parts {
                scaler: None,
                ..record.parts.clone()
            };
            let next = Record {
                ports: record.ports.clone(),
                ..Record::new(form, workload, applied, parts)
            };
            let mut patch = json!({ "metadata": {
                "annotations": next.annotations(),
                "resourceVersion": object.metadata.resource_version,
            } });
            if form != Form::Jobs {
                patch["spec"] = json!({ "replicas": 0 });
            }
            let api = self.dynamic(form, &workload.id);
            let name = names::name(&workload.id);
            let parameters = PatchParams {
                field_manager: Some(names::MANAGER.to_owned()),
                ..PatchParams::default()
            };
            let patched = within(api.patch(&name, &parameters, &Patch::Merge(patch))).await;
            patched.map_err(|error| failure(format!("cannot stop {}", workload.id), error))?;
            self.remove_one::<HorizontalPodAutoscaler>(&workload.id, &name)
                .await?;
            if form == Form::Jobs {
                self.remove_jobs(&workload.id, |_| false).await?;
            }
        }
        Ok(())
    }

    /// Makes what instances cannot start without, then what makes them, which is also the record and refuses whoever is late, and then
    /// all the rest. What a crash leaves undone of that is told as drift, and done by the next attempt.
    async fn write_release(
        &self,
        workload: &Workload,
        set: &ReleaseSet,
        recorded: &[Recorded],
    ) -> Result<()> {
        let (id, template) = (&workload.id, &set.template);
        let environment = parts::environment(&self.platform, id, template);
        let secret = environment.metadata.name.clone().unwrap_or_default();
        let pods = pod::template(
            &self.platform,
            &self.settings,
            id,
            set.release,
            template,
            &secret,
        )?;
        let service = parts::service(&self.platform, id, template)?;
        let policy = parts::policy(&self.platform, &self.settings, id, template);
        let form = Form::of(template);
        autoscaling::check(workload, form)?;
        let bounds = workload.autoscale.as_ref();
        let scaler = bounds.map(|bounds| autoscaling::scaler(&self.platform, id, bounds));
        self.namespaces.provide(&id.application.scope()).await?;
        let (denied, account) = (
            denied(&self.platform, id),
            parts::account(&self.platform, id),
        );
        let scope = id.application.scope();
        try_join!(
            self.have(DENIED, &scope, Some(denied)),
            self.apply(&account),
            self.keep(&environment),
        )?;

        let rollout = workload.rollout.clone().unwrap_or_default();
        let count = bounds.is_none().then_some(set.count);
        let spec = controllers::spec(form, id, count, &rollout, pods.clone());
        let all = Parts {
            policy: serde_json::to_value(&policy.spec).ok(),
            service: service
                .as_ref()
                .and_then(|it| serde_json::to_value(&it.spec).ok()),
            scaler: scaler
                .as_ref()
                .and_then(|it| serde_json::to_value(&it.spec).ok()),
        };
        let name = names::name(id);
        // Of what is made for the first time there is no autoscaler: it would go with what it scaled.
        if scaler.is_none() && !recorded.is_empty() {
            // Before the count is ours again: it would be changed back.
            self.remove_one::<HorizontalPodAutoscaler>(id, &name)
                .await?;
        }
        let same = recorded
            .iter()
            .find(|recorded| recorded.record.form == form);
        let record = Record::new(form, workload, spec, all);
        let made = self.record(id, &record, same).await?;

        if let Some(scaler) = scaler {
            self.apply(&autoscaling::owned(scaler, &made)).await?;
        }
        let most = bounds.map_or(set.count, |bounds| bounds.max);
        let budget = parts::budget(&self.platform, id, most).filter(|_| form != Form::Jobs);
        let new = recorded.is_empty();
        try_join!(
            self.apply(&policy),
            self.apply_or_remove(id, service, new),
            self.apply_or_remove(id, budget, new),
        )?;
        if form == Form::Jobs {
            self.write_jobs(id, set, &pods).await?;
        }
        self.forget_before(id, form, &secret, recorded).await
    }

    /// Removes what was recorded before of what is made in another way now, and environments that nothing uses any more.
    async fn forget_before(
        &self,
        id: &WorkloadId,
        form: Form,
        secret: &str,
        recorded: &[Recorded],
    ) -> Result<()> {
        for other in recorded.iter().filter(|other| other.record.form != form) {
            self.remove_form(id, other.record.form).await?;
        }
        if recorded.is_empty() {
            return Ok(());
        }
        let before = recorded
            .iter()
            .filter_map(|recorded| recorded.record.environment());
        let kept: Vec<_> = before.chain([secret]).collect();
        self.forget_environments(id, &kept).await
    }

    async fn write_jobs(
        &self,
        id: &WorkloadId,
        set: &ReleaseSet,
        pods: &PodTemplateSpec,
    ) -> Result<()> {
        let job = |ordinal| {
            let restart = set.template.restart;
            controllers::job(
                &self.platform,
                id,
                set.release,
                ordinal,
                restart,
                pods.clone(),
            )
        };
        let wanted = controllers::job_names(id, set.release, set.count);
        self.remove_jobs(id, |name| wanted.iter().any(|wanted| wanted == name))
            .await?;
        for ordinal in 0..set.count {
            self.keep(&job(ordinal)).await?;
        }
        Ok(())
    }

    /// Writes the record, and with it what makes the pods. What is there must be what was read.
    async fn record(
        &self,
        id: &WorkloadId,
        record: &Record,
        last: Option<&Recorded>,
    ) -> Result<ObjectMeta> {
        let mut revision = match last {
            Some(last) => last.object.metadata.resource_version.clone(),
            None => self.begin(id, record).await?,
        };
        if let Some(bounds) = &record.bounds {
            revision = self.hand_over(id, bounds, last, revision).await?;
        }
        let metadata = ObjectMeta {
            annotations: Some(record.annotations()),
            resource_version: revision,
            ..parts::metadata(&self.platform, id)
        };
        let mut object = maker(record.form, metadata, record.applied.as_ref());
        let parameters = PatchParams::apply(names::MANAGER).force();
        let api = self.dynamic(record.form, id);
        let name = names::name(id);
        let mut attempts = 1..ATTEMPTS;
        loop {
            let applied = within(api.patch(&name, &parameters, &Patch::Apply(&object))).await;
            let error = match applied {
                Ok(applied) => return Ok(applied.metadata),
                Err(error) => error,
            };
            // Its own controller tells of it as soon as it is begun, for which all that came before need not be done again.
            let still = match is(&error, 409) && record.bounds.is_none() {
                true if attempts.next().is_some() => self.unchanged(id, record.form, last).await?,
                _ => None,
            };
            if still.is_none() {
                return Err(failure(format!("cannot apply {id}"), error));
            }
            object.metadata.resource_version = still;
        }
    }

    /// The version of what makes the pods, if what was applied last is still what it was.
    async fn unchanged(
        &self,
        id: &WorkloadId,
        form: Form,
        last: Option<&Recorded>,
    ) -> Result<Option<String>> {
        let found = within(self.dynamic(form, id).get_opt(&names::name(id))).await;
        let found = found.map_err(|error| failure(format!("cannot read {id}"), error))?;
        let same = |found: &DynamicObject| {
            let now = Record::of(form, found);
            let same = last.map_or(now.generation == 0, |last| last.record == now);
            same && found.metadata.deletion_timestamp.is_none()
        };
        Ok(found
            .filter(same)
            .and_then(|it| it.metadata.resource_version))
    }

    /// Creates what the record is then applied to, for applying alone does not tell whether somebody else was quicker. It makes nothing yet.
    async fn begin(&self, id: &WorkloadId, record: &Record) -> Result<Option<String>> {
        let spec = record.applied.as_ref().map(controllers::idle);
        let object = maker(
            record.form,
            parts::metadata(&self.platform, id),
            spec.as_ref(),
        );
        let parameters = PostParams {
            field_manager: Some(names::MANAGER.to_owned()),
            ..PostParams::default()
        };
        let api = self.dynamic(record.form, id);
        match within(api.create(&parameters, &object)).await {
            Ok(made) => Ok(made.metadata.resource_version),
            Err(error) if is(&error, 409) => {
                Err(Error::conflict(format!("somebody else made workload {id}")))
            }
            Err(error) => Err(failure(format!("cannot make {id}"), error)),
        }
    }

    /// What was applied last of a workload, the newest first: more than one while one form replaces another. Also what is being deleted.
    pub(super) async fn recorded(&self, id: &WorkloadId) -> Result<Vec<Recorded>> {
        let found = try_join_all(Form::ALL.map(|form| self.recorded_as(id, form))).await?;
        let mut all: Vec<_> = found.into_iter().flatten().collect();
        all.sort_by_key(|recorded| std::cmp::Reverse(recorded.record.generation));
        Ok(all)
    }

    /// As [`Self::recorded`], by the one form that a workload was last seen in, if that is still there: whoever applies another one asks
    /// for all.
    pub(super) async fn recorded_lately(&self, id: &WorkloadId) -> Result<Vec<Recorded>> {
        let is_there = |recorded: &Recorded| recorded.object.metadata.deletion_timestamp.is_none();
        if let Some(form) = self.forms.get(id)
            && let Some(found) = self.recorded_as(id, form).await?.filter(is_there)
        {
            return Ok(vec![found]);
        }
        self.forms.forget(id);
        let all = self.recorded(id).await?;
        if let [only] = all.as_slice()
            && is_there(only)
        {
            self.forms.learn(id, only.record.form);
        }
        Ok(all)
    }

    async fn recorded_as(&self, id: &WorkloadId, form: Form) -> Result<Option<Recorded>> {
        let api = self.dynamic(form, id);
        let found = within(api.get_opt(&names::name(id))).await;
        let found = found.map_err(|error| failure(format!("cannot read {id}"), error))?;
        Ok(found.map(|object| Recorded {
            record: Record::of(form, &object),
            object,
        }))
    }

    /// Applies a part that there is to be, or removes the one that there is not to be any more. Of what is `new` there is
    /// none, but for what a removal left that was cut off.
    async fn apply_or_remove<K: Namespaced>(
        &self,
        id: &WorkloadId,
        part: Option<K>,
        new: bool,
    ) -> Result<()> {
        match part {
            Some(part) => self.apply(&part).await,
            None if new => Ok(()),
            None => self.remove_one::<K>(id, &names::name(id)).await,
        }
    }

    /// The names of a workload's objects of a kind.
    pub(super) async fn named<K: Namespaced>(
        &self,
        api: &Api<K>,
        id: &WorkloadId,
    ) -> Result<Vec<String>> {
        let request = ListParams::default().labels(&names::query(&names::selected(id)));
        let found = within(api.list_metadata(&request)).await;
        let found =
            found.map_err(|error| failure(format!("cannot list what is of {id}"), error))?;
        let names = found
            .items
            .into_iter()
            .filter_map(|object| object.metadata.name);
        Ok(names.collect())
    }

    /// Applies an object by server-side apply. Fields that others set and this does not stay theirs.
    pub(super) async fn apply<K: Namespaced>(&self, object: &K) -> Result<()> {
        let (api, name) = self.place(object);
        let parameters = PatchParams::apply(names::MANAGER).force();
        let applied = within(api.patch(&name, &parameters, &Patch::Apply(object))).await;
        let doing = || format!("cannot apply {} {name}", K::kind(&()));
        applied.map(drop).map_err(|error| failure(doing(), error))
    }

    /// Creates an object that is always the same.
    async fn keep<K: Namespaced>(&self, object: &K) -> Result<()> {
        let (api, name) = self.place(object);
        let parameters = PostParams {
            field_manager: Some(names::MANAGER.to_owned()),
            ..PostParams::default()
        };
        match within(api.create(&parameters, object)).await {
            Ok(_) => Ok(()),
            Err(error) if is(&error, 409) => Ok(()),
            Err(error) => Err(failure(
                format!("cannot create {} {name}", K::kind(&())),
                error,
            )),
        }
    }

    fn place<K: Namespaced>(&self, object: &K) -> (Api<K>, String) {
        let namespace = object.meta().namespace.clone().unwrap_or_default();
        let name = object.meta().name.clone().unwrap_or_default();
        (Api::namespaced(self.client.clone(), &namespace), name)
    }

    pub(super) fn api<K: Namespaced>(&self, id: &WorkloadId) -> Api<K> {
        Api::namespaced(
            self.client.clone(),
            &names::namespace(&self.platform, &id.application),
        )
    }

    pub(super) fn dynamic(&self, form: Form, id: &WorkloadId) -> Api<DynamicObject> {
        let namespace = names::namespace(&self.platform, &id.application);
        Api::namespaced_with(self.client.clone(), &namespace, &form.resource())
    }
}

/// What makes pods, or only the record.
fn maker(form: Form, metadata: ObjectMeta, spec: Option<&Value>) -> DynamicObject {
    let resource = form.resource();
    DynamicObject {
        types: Some(TypeMeta {
            api_version: resource.api_version,
            kind: resource.kind,
        }),
        metadata,
        data: spec.map_or_else(|| json!({}), |spec| json!({ "spec": spec })),
    }
}

/// A typed object of a namespace.
pub(super) trait Namespaced:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + std::fmt::Debug
    + DeserializeOwned
    + Serialize
{
}

impl<K> Namespaced for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned
        + Serialize
{
}

/// Denies what no other policy of the namespace allows.
fn denied(platform: &PlatformId, id: &WorkloadId) -> NetworkPolicy {
    NetworkPolicy {
        metadata: ObjectMeta {
            labels: Some(platform.marks().into()),
            name: Some(DENIED.to_owned()),
            namespace: Some(names::namespace(platform, &id.application)),
            ..ObjectMeta::default()
        },
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(Default::default()),
            policy_types: Some(vec!["Ingress".to_owned(), "Egress".to_owned()]),
            ..NetworkPolicySpec::default()
        }),
    }
}
