use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::{StreamExt, stream, stream::BoxStream};
use tokio::sync::Mutex;

use super::{Context, allotment::NO_SHARE, drive::Reconcile, wakes};
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
    /// Held while one environment is given its share: of two, the second sees what the first was given.
    pub(super) granting: Mutex<()>,
}

/// Why an environment is not prepared as it is.
type Refusal = (Truth, &'static str, String);

#[async_trait]
impl Reconcile for EnvironmentController {
    fn name(&self) -> &'static str {
        "environment"
    }

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>> {
        if self.context.tell_unreadable::<EnvironmentSpec>(key).await? {
            return Ok(None);
        }
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
        let granted = match self.refusal(&environment, &scope)? {
            None => self.grant(&environment, &scope).await?,
            Some(why) => Err(why),
        };
        match granted {
            Ok(environment) => {
                let limited = !environment.spec.limits.is_unlimited();
                self.prepare(environment, &scope).await?;
                Ok(limited.then_some(RECHECK))
            }
            Err(why) => {
                let namespace = environment.status.namespace.clone();
                let status = self.status(&environment, namespace, why);
                self.record(environment, status).await?;
                Ok(None)
            }
        }
    }

    async fn wakes(&self) -> Result<BoxStream<'static, Key>> {
        let client = &self.context.client;
        let own = wakes::objects(client, Kind::Environment, |_, _, key| vec![key.clone()]);
        // The last one that goes lets its environment go.
        let of = |kind| wakes::objects(client, kind, around);
        let inside = [Kind::Application, Kind::Volume].map(of);
        let shares = [
            wakes::objects(client, Kind::Environment, without_share),
            wakes::objects(client, Kind::Project, environments),
            wakes::objects(client, Kind::Tenant, environments),
        ];
        let others = inside.into_iter().chain(shares);
        Ok(stream::select(own, stream::select_all(others)).boxed())
    }

    fn all(&self) -> Vec<Key> {
        let client = &self.context.client;
        client.keys(Kind::Environment, &Scope::cluster())
    }
}

impl EnvironmentController {
    /// Why an environment is not prepared as it is. What was prepared before stays as it was.
    fn refusal(&self, environment: &Environment, scope: &Scope) -> Result<Option<Refusal>> {
        let spec = &environment.spec;
        if let Err(error) = spec.check() {
            let message = Chain(&error).to_string();
            return Ok(Some((Truth::False, "Invalid", message)));
        }
        let unsupported = self.context.unsupported(scope, &spec.limits)?;
        Ok(unsupported.map(|why| (Truth::False, LIMITS_UNSUPPORTED, why)))
    }

    /// Gives an environment the limits that it asks for, on record before anything is prepared, or says why not.
    async fn grant(
        &self,
        environment: &Environment,
        scope: &Scope,
    ) -> Result<Result<Environment, Refusal>> {
        let (wanted, known) = (&environment.spec.limits, &environment.status.limits);
        let holders = self.context.holders(scope)?;
        let _one_at_a_time = self.granting.lock().await;
        for holder in holders {
            let others = self.context.given(&holder.scope, environment).await?;
            if let Some(why) = holder.refusal(wanted, known, &others) {
                return Ok(Err((Truth::False, NO_SHARE, why)));
            }
        }
        let mut environment = environment.clone();
        if wanted != known {
            environment.status.limits = *wanted;
            environment = self.context.client.update_status(&environment).await?;
        }
        Ok(Ok(environment))
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
        (status, reason, message): Refusal,
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
            limits: environment.status.limits,
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

/// The environments inside of a tenant or a project.
fn environments(client: &Client, _: Option<&Held>, key: &Key) -> Vec<Key> {
    let own = crate::Name::new(&key.name).ok();
    let inside = match (key.scope.names(), own) {
        ([], Some(tenant)) => Scope::tenant(tenant),
        ([tenant], Some(project)) => Scope::project(tenant.clone(), project),
        _ => return Vec::new(),
    };
    client.keys(Kind::Environment, &inside)
}

/// The environments of the same tenant that wait for a share of its limits.
fn without_share(client: &Client, _: Option<&Held>, key: &Key) -> Vec<Key> {
    let tenant = key.scope.names().first().cloned().map(Scope::tenant);
    let siblings = tenant.map(|tenant| client.list::<EnvironmentSpec>(&tenant));
    let siblings = siblings.into_iter().flatten();
    let waiting = siblings.filter(|it| it.status.conditions.iter().any(|it| it.reason == NO_SHARE));
    waiting.map(|it| it.key()).filter(|it| it != key).collect()
}
