use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::{StreamExt, stream, stream::BoxStream};

use super::{Context, drive::Reconcile, wakes};
use crate::{
    Chain, Error, Key, Kind, ListRequest, Result, Scope,
    client::{Client, Held},
    model::{Condition, ConditionKind, Environment, EnvironmentSpec, EnvironmentStatus, Truth},
};

/// How often an environment with limits is prepared again, should somebody have changed what keeps them.
const RECHECK: Duration = Duration::from_secs(300);
/// The reason, for programs, of what is not done because the scheduler keeps no limits.
pub(super) const LIMITS_UNSUPPORTED: &str = "LimitsUnsupported";
/// Marks environments that have something in a scheduler.
const FINALIZER: &str = "tappaas.dev/environment";

/// Sees to it that environments have what schedulers need for them, and that nothing of it is left when they go.
#[derive(Debug)]
pub(super) struct EnvironmentController {
    pub(super) context: Arc<Context>,
}

#[async_trait]
impl Reconcile for EnvironmentController {
    fn name(&self) -> &'static str {
        "environment"
    }

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>> {
        let client = &self.context.client;
        let found = client.get::<EnvironmentSpec>(&key.scope, &key.name)?;
        let Some(environment) = found else {
            return Ok(None);
        };
        let scope = inside(key)?;
        if environment.metadata.deletion.is_some() {
            self.discard(environment, &scope).await?;
            return Ok(None);
        }
        if let Some(why) = self.refusal(&environment) {
            let namespace = environment.status.namespace.clone();
            let status = self.status(&environment, namespace, why);
            self.record(environment, status).await?;
            return Ok(None);
        }
        let limited = !environment.spec.limits.is_unlimited();
        self.prepare(environment, &scope).await?;
        Ok(limited.then_some(RECHECK))
    }

    async fn wakes(&self) -> Result<BoxStream<'static, Key>> {
        let client = &self.context.client;
        let own = wakes::objects(client, Kind::Environment, |_, _, key| vec![key.clone()]);
        // The last one that goes lets its environment go.
        let of = |kind| wakes::objects(client, kind, around);
        let inside = [Kind::Application, Kind::Volume].map(of);
        Ok(stream::select(own, stream::select_all(inside)).boxed())
    }

    fn all(&self) -> Vec<Key> {
        let client = &self.context.client;
        client.keys(Kind::Environment, &Scope::cluster())
    }
}

impl EnvironmentController {
    /// Why an environment is not prepared as it is. What was prepared before stays as it was.
    fn refusal(&self, environment: &Environment) -> Option<(Truth, &'static str, String)> {
        let spec = &environment.spec;
        if let Err(error) = spec.check() {
            return Some((Truth::False, "Invalid", Chain(&error).to_string()));
        }
        if !self.context.backends.scheduler.capabilities().quotas
            && let Err(error) = spec.limits.refuse()
        {
            return Some((Truth::False, LIMITS_UNSUPPORTED, Chain(&error).to_string()));
        }
        None
    }

    async fn prepare(&self, mut environment: Environment, scope: &Scope) -> Result<()> {
        let scheduler = &self.context.backends.scheduler;
        let finalizers = &mut environment.metadata.finalizers;
        let held = finalizers.iter().any(|known| known == FINALIZER);
        if scheduler.capabilities().namespaces && !held {
            // Before anything is made: what went meanwhile would leave it behind.
            finalizers.push(FINALIZER.to_owned());
            environment = self.context.client.update_finalizers(&environment).await?;
        }
        let prepared = scheduler.prepare(scope, &environment.spec.limits).await;
        let (namespace, why) = match prepared {
            Ok(namespace) => (namespace, Ok(())),
            Err(error) => (environment.status.namespace.clone(), Err(error)),
        };
        let ready = match &why {
            Ok(()) => (Truth::True, "Prepared", String::new()),
            Err(error) => (Truth::False, "NotPrepared", Chain(error).to_string()),
        };
        let status = self.status(&environment, namespace, ready);
        self.record(environment, status).await?;
        why
    }

    async fn discard(&self, mut environment: Environment, scope: &Scope) -> Result<()> {
        if let Some(what) = self.content(scope).await? {
            let namespace = environment.status.namespace.clone();
            let message = format!("is removed once it is empty: it still has {what}");
            let status = self.status(&environment, namespace, (Truth::False, "NotEmpty", message));
            return self.record(environment, status).await;
        }
        if let Err(error) = self.context.backends.scheduler.discard(scope).await {
            let namespace = environment.status.namespace.clone();
            let why = (Truth::False, "NotDiscarded", Chain(&error).to_string());
            let status = self.status(&environment, namespace, why);
            self.record(environment, status).await?;
            return Err(error);
        }
        let finalizers = &mut environment.metadata.finalizers;
        if let Some(ours) = finalizers.iter().position(|known| known == FINALIZER) {
            finalizers.remove(ours);
            self.context.client.update_finalizers(&environment).await?;
        }
        Ok(())
    }

    /// Something that is in an environment, if anything is. Asks the store itself, since a cache may lag, and content is at stake.
    async fn content(&self, scope: &Scope) -> Result<Option<String>> {
        for kind in [Kind::Application, Kind::Volume] {
            let mut request = ListRequest::new(kind, scope.clone());
            request.limit = 1;
            let page = self.context.store.list(&request).await?;
            if let Some(object) = page.objects.first() {
                let kind = kind.as_str().to_lowercase();
                return Ok(Some(format!("{kind} {}", object.metadata.name)));
            }
        }
        Ok(None)
    }

    fn status(
        &self,
        environment: &Environment,
        namespace: Option<String>,
        (status, reason, message): (Truth, &str, String),
    ) -> EnvironmentStatus {
        let now = self.context.clock.now();
        let ready = Condition {
            kind: ConditionKind::Ready,
            status,
            reason: reason.to_owned(),
            message,
            observed_generation: environment.metadata.generation,
            last_transition_time: now,
        };
        let known = &environment.status.conditions;
        EnvironmentStatus {
            namespace,
            conditions: vec![ready.since(known, now)],
        }
    }

    async fn record(&self, mut environment: Environment, status: EnvironmentStatus) -> Result<()> {
        if environment.status == status {
            return Ok(());
        }
        environment.status = status;
        let recorded = self.context.client.update_status(&environment).await;
        recorded.map(drop)
    }
}

/// The scope of what is in an environment.
fn inside(key: &Key) -> Result<Scope> {
    match key.scope.names() {
        [tenant, project] => Ok(Scope::environment(
            tenant.clone(),
            project.clone(),
            crate::Name::new(&key.name)?,
        )),
        _ => Err(Error::internal(format!("{key} is in no project"))),
    }
}

/// The environment of something that is gone: the last one that goes lets it go.
fn around(_: &Client, object: Option<&Held>, key: &Key) -> Vec<Key> {
    if object.is_some() {
        return Vec::new();
    }
    let environment = key.scope.parent().zip(key.scope.names().last());
    environment
        .map(|(project, name)| Key::new(Kind::Environment, project, name.as_str()))
        .into_iter()
        .collect()
}
