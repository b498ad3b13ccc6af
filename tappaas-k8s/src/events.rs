//! Kubernetes Events: what becomes of what has conditions, told where `kubectl describe` and `kubectl events` look.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures::StreamExt as _;
use k8s_openapi::{
    api::{core::v1::ObjectReference, events::v1::Event as KubernetesEvent},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{Api, Client, api::PostParams};
use tappaas_core::{
    Chain, Clock, Event, Key, Kind, ListRequest, Object, Result, Revision, Scope, Store,
    model::{Condition, ConditionKind, Truth},
    object::API_VERSION,
};

use crate::{
    PlatformId,
    failure::{failure, within},
    store::place,
};

/// What has conditions.
const KINDS: [Kind; 5] = [
    Kind::Application,
    Kind::DomainPool,
    Kind::Environment,
    Kind::Project,
    Kind::Tenant,
];
/// Kubernetes takes no longer note.
const NOTE_MAX: usize = 1024;
/// Before what cannot be watched is tried again.
const PAUSE: Duration = Duration::from_secs(5);

/// Tells by Events what changes of the conditions of applications, and of what they are in.
///
/// An Event is a courtesy: one that cannot be written is lost. What was so before is not told.
pub struct EventReporter {
    client: Client,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    group: String,
    platform: PlatformId,
    instance: String,
}

impl EventReporter {
    /// A reporter that calls itself `instance`, for the objects of a store in the API group `group`.
    pub fn new(
        client: Client,
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        group: impl Into<String>,
        instance: impl Into<String>,
    ) -> Self {
        let group = group.into();
        Self {
            client,
            store,
            clock,
            platform: PlatformId::of_group(&group),
            group,
            instance: instance.into(),
        }
    }

    /// Reports for as long as it is polled.
    pub async fn run(&self) {
        futures::future::join_all(KINDS.map(|kind| self.follow(kind))).await;
    }

    async fn follow(&self, kind: Kind) {
        loop {
            if let Err(error) = self.watch(kind).await {
                tracing::info!(%kind, error = %Chain(&error), "events are not told for a while");
            }
            self.clock.sleep(PAUSE).await;
        }
    }

    /// Follows the objects of a kind until the watch ends, which is no error.
    async fn watch(&self, kind: Kind) -> Result<()> {
        let (mut known, from) = self.list(kind).await?;
        let mut changes = self.store.watch(kind, from).await?;
        while let Some(change) = changes.next().await {
            match change {
                Event::Applied(object) => {
                    let now = Told::of(&object);
                    let before = known.insert(object.key(), now.clone());
                    for condition in now.news(before.as_ref()) {
                        self.tell(&object, condition).await;
                    }
                }
                Event::Deleted(object) => drop(known.remove(&object.key())),
                Event::Bookmark(_) => {}
                Event::Expired => return Ok(()),
            }
        }
        Ok(())
    }

    async fn list(&self, kind: Kind) -> Result<(HashMap<Key, Told>, Revision)> {
        let mut request = ListRequest::new(kind, Scope::cluster());
        let mut known = HashMap::new();
        loop {
            let page = self.store.list(&request).await?;
            let told = page.objects.iter().map(|it| (it.key(), Told::of(it)));
            known.extend(told);
            request.after = page.next;
            if request.after.is_none() {
                return Ok((known, page.revision));
            }
        }
    }

    async fn tell(&self, object: &Object, condition: &Condition) {
        let event = self.event(object, condition);
        let namespace = event.metadata.namespace.clone().unwrap_or_default();
        let api: Api<KubernetesEvent> = Api::namespaced(self.client.clone(), &namespace);
        if let Err(error) = within(api.create(&PostParams::default(), &event)).await {
            let error = failure("cannot write an event", error);
            tracing::info!(object = %object.key(), error = %Chain(&error), "an event is lost");
        }
    }

    fn event(&self, object: &Object, condition: &Condition) -> KubernetesEvent {
        let place = place::place(&self.platform, &object.key());
        let now = self.clock.now();
        let regarding = ObjectReference {
            api_version: Some(API_VERSION.replace("tappaas.dev", &self.group)),
            kind: Some(object.kind.to_string()),
            name: Some(place.name.clone()),
            namespace: place.namespace.clone(),
            uid: Some(object.metadata.uid.clone()),
            ..ObjectReference::default()
        };
        let note = match condition.message.is_empty() {
            true => &condition.reason,
            false => &condition.message,
        };
        KubernetesEvent {
            action: Some("Reconcile".to_owned()),
            event_time: Some(MicroTime(now)),
            metadata: ObjectMeta {
                name: Some(format!("{}.{:x}", place.name, now.as_nanosecond())),
                // Where Kubernetes has those of objects that are in no namespace.
                namespace: Some(place.namespace.unwrap_or_else(|| "default".to_owned())),
                ..ObjectMeta::default()
            },
            note: Some(note.chars().take(NOTE_MAX / 4).collect()),
            reason: Some(condition.reason.clone()),
            regarding: Some(regarding),
            reporting_controller: Some(self.group.clone()),
            reporting_instance: Some(self.instance.clone()),
            type_: Some(match condition.status {
                Truth::False => "Warning".to_owned(),
                Truth::True | Truth::Unknown => "Normal".to_owned(),
            }),
            ..KubernetesEvent::default()
        }
    }
}

impl std::fmt::Debug for EventReporter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventReporter")
            .field("group", &self.group)
            .field("instance", &self.instance)
            .finish_non_exhaustive()
    }
}

/// What is known of an object.
#[derive(Clone, Debug, Default)]
struct Told {
    conditions: Vec<Condition>,
}

impl Told {
    /// An object whose conditions cannot be read has none to tell of.
    fn of(object: &Object) -> Self {
        let conditions = object.status.get("conditions").cloned();
        let conditions = conditions.and_then(|it| serde_json::from_value(it).ok());
        Self {
            conditions: conditions.unwrap_or_default(),
        }
    }

    /// The conditions with another reason than before, or another state of the same. How far something came is no news. That it is built
    /// is none either, since what follows says so.
    fn news(&self, before: Option<&Self>) -> impl Iterator<Item = &Condition> {
        let before = before.map_or(&[][..], |before| &before.conditions);
        self.conditions.iter().filter(move |now| {
            let same = |then: &&Condition| {
                then.kind == now.kind && then.reason == now.reason && then.status == now.status
            };
            let tells = now.kind == ConditionKind::Ready || now.status == Truth::False;
            tells && !before.iter().any(|then| same(&then))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(kind: ConditionKind, status: Truth, reason: &str) -> Told {
        let condition = Condition {
            kind,
            status,
            reason: reason.to_owned(),
            message: String::new(),
            observed_generation: 1,
            last_transition_time: tappaas_core::Timestamp::UNIX_EPOCH,
        };
        Told {
            conditions: vec![condition],
        }
    }

    #[test]
    fn only_what_changed_is_told() {
        let rolling = told(ConditionKind::Ready, Truth::Unknown, "RollingOut");
        let running = told(ConditionKind::Ready, Truth::True, "Running");
        assert_eq!(rolling.news(None).count(), 1);
        assert_eq!(rolling.news(Some(&rolling)).count(), 0);
        assert_eq!(running.news(Some(&rolling)).count(), 1);
        let built = told(ConditionKind::Built, Truth::True, "Built");
        assert_eq!(built.news(None).count(), 0);
        let missing = told(ConditionKind::Built, Truth::False, "NoBuilder");
        assert_eq!(missing.news(Some(&built)).count(), 1);
    }
}
