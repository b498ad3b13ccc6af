use std::time::Duration;

use futures::{Stream, TryStreamExt as _};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{
    Api, Error as KubeError,
    api::{DeleteParams, DynamicObject, PostParams, Preconditions, WatchEvent, WatchParams},
    core::Request,
};
use serde_json::Value;
use tappaas_core::{
    Error, ErrorKind, Key, Metadata, Object, Precondition, Result, Revision, store::Outcome,
};

use super::{
    KubernetesStore,
    form::{self, from_kubernetes},
    watching,
};
use crate::failure::{failure, is_about, within};

/// How often a write that takes any revision reads again because somebody else was quicker.
const ATTEMPTS: u32 = 64;
/// How much longer it waits each time before it does.
const PAUSE: Duration = Duration::from_millis(5);
/// Within this the API server tells of a removal that it has confirmed.
const REMOVAL_MAX: Duration = Duration::from_secs(30);

/// What of an object is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Part {
    /// Metadata and spec.
    Whole,
    Status,
    /// That it is to go.
    Deletion,
}

impl KubernetesStore {
    /// Decides what a write comes to with what is there, and does that. Returns the object as it is then.
    ///
    /// If somebody else was quicker, a caller who takes any revision has it decided again.
    pub(super) async fn write(
        &self,
        key: &Key,
        precondition: Precondition,
        part: Part,
        decide: impl Fn(Option<&Object>) -> Result<Outcome>,
    ) -> Result<Option<Object>> {
        key.check()?;
        let creates = part == Part::Whole && precondition == Precondition::Absent;
        for attempt in 1..=ATTEMPTS {
            // The API server refuses by itself to create what is there.
            let existing = match creates {
                true => None,
                false => self.read_owned(key).await?,
            };
            let outcome = decide(existing.as_ref().map(|(object, _)| object))?;
            match self.carry_out(key, existing, outcome, part).await {
                Err(error)
                    if precondition == Precondition::Present
                        && matches!(error.kind(), ErrorKind::Conflict | ErrorKind::NotFound) =>
                {
                    self.clock.sleep(PAUSE * attempt).await;
                }
                done => return done,
            }
        }
        Err(Error::unavailable(format!(
            "{key} was changed by others {ATTEMPTS} times while it was written"
        )))
    }

    async fn carry_out(
        &self,
        key: &Key,
        existing: Option<(Object, Vec<OwnerReference>)>,
        outcome: Outcome,
        part: Part,
    ) -> Result<Option<Object>> {
        let Some((existing, owners)) = existing else {
            return match outcome {
                Outcome::Keep(object) => self.create(key, *object).await.map(Some),
                Outcome::Nothing | Outcome::Remove(_) => Ok(None),
            };
        };
        match (outcome, part) {
            (Outcome::Nothing, _) => Ok(Some(existing)),
            (Outcome::Keep(object), Part::Whole | Part::Status) => {
                self.replace(key, *object, owners, part).await.map(Some)
            }
            (Outcome::Keep(_), Part::Deletion) => self.ask_to_go(key, &existing).await.map(Some),
            (Outcome::Remove(object), _) => {
                self.remove(key, (&existing, owners), *object, part).await
            }
        }
    }

    async fn create(&self, key: &Key, object: Object) -> Result<Object> {
        let place = self.place(key);
        if place.namespace.is_some() {
            self.namespaces.provide(&key.scope).await?;
        }
        let api = self.api(key.kind, &place);
        let resource = form::resource(&self.group, key.kind);
        let sent = form::new(&resource, &self.platform, key, &place, object);
        let mut created = self.create_strictly(&api, &sent).await;
        if let Err(error) = &created
            && is_about(error, 404, "namespaces")
        {
            // It has gone since it was seen.
            self.namespaces.forget(&key.scope);
            self.namespaces.provide(&key.scope).await?;
            created = self.create_strictly(&api, &sent).await;
        }
        let created = created.map_err(|error| match is_quota_race(&error) {
            // Another object was counted at the same time; there is no object to be in conflict with.
            true => Error::unavailable(format!("cannot create {key} now")).with_source(error),
            false => failure(format!("cannot create {key}"), error),
        })?;
        from_kubernetes(key, created)
    }

    /// Replaces what has the object's uid and revision.
    async fn replace(
        &self,
        key: &Key,
        object: Object,
        owners: Vec<OwnerReference>,
        part: Part,
    ) -> Result<Object> {
        let place = self.place(key);
        let api = self.api(key.kind, &place);
        let resource = form::resource(&self.group, key.kind);
        let sent = form::next(&resource, &self.platform, key, &place, object, owners);
        let body = json(&sent);
        let (urls, parameters) = (Request::new(api.resource_url()), PostParams::default());
        let request = match part {
            Part::Status => urls.replace_subresource("status", &place.name, &parameters, body),
            Part::Whole | Part::Deletion => urls.replace(&place.name, &parameters, body),
        };
        let replaced = self.send_strictly(request).await;
        let replaced = replaced.map_err(|error| failure(format!("cannot write {key}"), error))?;
        from_kubernetes(key, replaced)
    }

    /// Replaces the status of what has this revision, without looking at it before. `None` if that is refused, and is to be decided with what
    /// is there.
    pub(super) async fn replace_status(
        &self,
        key: &Key,
        object: &Object,
        revision: Revision,
    ) -> Result<Option<Object>> {
        if key.check().is_err() || object.check().is_err() {
            return Ok(None);
        }
        // Of all the rest the API server keeps what is there.
        let bare = Object {
            metadata: Metadata {
                uid: object.metadata.uid.clone(),
                revision,
                ..Metadata::new(&key.scope, key.name.clone())
            },
            api_version: object.api_version.clone(),
            kind: object.kind,
            spec: Value::Null,
            status: object.status.clone(),
        };
        match self.replace(key, bare, Vec::new(), Part::Status).await {
            Ok(written) => Ok(Some(written)),
            Err(error) if error.kind().retryable() => Err(error),
            Err(_) => Ok(None),
        }
    }

    async fn create_strictly(
        &self,
        api: &Api<DynamicObject>,
        object: &DynamicObject,
    ) -> kube::Result<DynamicObject> {
        let urls = Request::new(api.resource_url());
        let request = urls.create(&PostParams::default(), json(object));
        self.send_strictly(request).await
    }

    /// Has the API server refuse a field that its definitions lack, which it would forget without a word.
    async fn send_strictly(
        &self,
        request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
    ) -> kube::Result<DynamicObject> {
        let mut request = request.map_err(KubeError::BuildRequest)?;
        let uri = format!("{}&fieldValidation=Strict", request.uri());
        *request.uri_mut() = uri
            .parse()
            .map_err(|error: http::uri::InvalidUri| KubeError::HttpError(error.into()))?;
        within(self.client.request(request)).await
    }

    /// Deletes what has finalizers, and is therefore kept.
    async fn ask_to_go(&self, key: &Key, existing: &Object) -> Result<Object> {
        let place = self.place(key);
        let api = self.api(key.kind, &place);
        let asked = within(api.delete(&place.name, &deletion(existing))).await;
        let asked = asked.map_err(|error| failure(format!("cannot delete {key}"), error))?;
        match asked.left() {
            Some(kept) => from_kubernetes(key, kept),
            None => Err(Error::conflict(format!(
                "{key} lost its finalizers while it was deleted"
            ))),
        }
    }

    /// Removes an object and returns it with the revision of its removal, which the API server tells watchers alone.
    async fn remove(
        &self,
        key: &Key,
        (existing, owners): (&Object, Vec<OwnerReference>),
        left: Object,
        part: Part,
    ) -> Result<Option<Object>> {
        let place = self.place(key);
        let api = self.api(key.kind, &place);
        // The revision that the object has may be too old to watch from.
        let now = self.reached(key.kind).await?;
        let only_this = WatchParams::default().fields(&format!("metadata.name={}", place.name));
        let told = within(api.watch(&only_this, &String::from(now))).await;
        let told = told.map_err(|error| failure(format!("cannot watch {key}"), error))?;
        match part {
            Part::Deletion => {
                let deleted = within(api.delete(&place.name, &deletion(existing))).await;
                deleted.map_err(|error| failure(format!("cannot delete {key}"), error))?;
            }
            Part::Whole | Part::Status => {
                self.replace(key, left, owners, Part::Whole).await?;
            }
        }
        let removed = tokio::time::timeout(REMOVAL_MAX, removal(told)).await;
        match removed.ok().flatten() {
            Some(removed) => watching::removed(key, removed).map(Some),
            None => Err(Error::unavailable(format!(
                "{key} was removed, and the Kubernetes API does not say with which revision"
            ))),
        }
    }
}

fn json(object: &DynamicObject) -> Vec<u8> {
    serde_json::to_vec(object).expect("an object has string keys only")
}

fn is_quota_race(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409 && status.reason == "Conflict")
}

/// Deletes exactly what was read.
fn deletion(existing: &Object) -> DeleteParams {
    DeleteParams::default().preconditions(Preconditions {
        resource_version: Some(String::from(existing.metadata.revision)),
        uid: Some(existing.metadata.uid.clone()),
    })
}

async fn removal(
    told: impl Stream<Item = kube::Result<WatchEvent<DynamicObject>>>,
) -> Option<DynamicObject> {
    let mut told = std::pin::pin!(told);
    while let Ok(Some(event)) = told.try_next().await {
        if let WatchEvent::Deleted(removed) = event {
            return Some(removed);
        }
    }
    None
}
