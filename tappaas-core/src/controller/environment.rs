use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::{StreamExt, stream, stream::BoxStream};
use tokio::sync::Mutex;

use super::{
    Context,
    allotment::{Holder, NO_SHARE},
    drive::Reconcile,
    wakes,
};
use crate::{
    Chain, Error, Key, Kind, ListRequest, Result, Scope,
    client::{Client, Held},
    model::{
        Condition, ConditionKind, Environment, EnvironmentSpec, EnvironmentStatus, Limits,
        ProjectSpec, TenantSpec, Truth, Typed, Verdict,
    },
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
                let given = environment.status.limits;
                let namespace = environment.status.namespace.clone();
                if namespace.is_some() {
                    // What it was given before stays as it was, also if somebody changes it.
                    let scheduler = &self.context.backends.scheduler;
                    scheduler.prepare(&scope, &given).await?;
                }
                let status = self.status(&environment, namespace, why);
                self.record(environment, status).await?;
                Ok((!given.is_unlimited()).then_some(RECHECK))
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
    fn refusal(&self, environment: &Environment, scope: &Scope) -> Result<Option<Verdict>> {
        let spec = &environment.spec;
        if let Err(error) = spec.check() {
            let message = Chain(&error).to_string();
            return Ok(Some((Truth::False, "Invalid", message)));
        }
        let unsupported = self.context.unsupported(scope, &spec.limits)?;
        Ok(unsupported.map(|why| (Truth::False, LIMITS_UNSUPPORTED, why)))
    }

    /// Gives an environment the limits that it asks for, on record before anything is prepared, or says why not. Of what is less it has the
    /// larger one until that is prepared.
    async fn grant(
        &self,
        environment: &Environment,
        scope: &Scope,
    ) -> Result<Result<Environment, Verdict>> {
        let (wanted, known) = (&environment.spec.limits, &environment.status.limits);
        let asks = |holder: &Holder| !holder.keeps(wanted, known);
        let mut turn = None;
        if self.context.holders(scope)?.iter().any(asks) {
            turn = Some(self.granting.lock().await);
            // Limits may have changed meanwhile.
            for holder in self.context.holders(scope)?.iter().filter(|it| asks(it)) {
                let others = self.context.given(&holder.scope, environment).await?;
                if let Some(why) = holder.refusal(wanted, known, &others) {
                    return Ok(Err((Truth::False, NO_SHARE, why)));
                }
            }
        }
        let granted = self.give(environment, known.or_more(wanted)).await;
        drop(turn);
        granted.map(Ok)
    }

    async fn give(&self, environment: &Environment, limits: Limits) -> Result<Environment> {
        let mut environment = environment.clone();
        if environment.status.limits == limits {
            return Ok(environment);
        }
        environment.status.limits = limits;
        self.context.client.update_status(&environment).await
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
        let mut status = self.status(&environment, namespace, ready);
        if why.is_ok() {
            // What is less is kept to by now.
            status.limits = environment.spec.limits;
        }
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
        why: Verdict,
    ) -> EnvironmentStatus {
        let known = &environment.status.conditions;
        let generation = environment.metadata.generation;
        let now = self.context.clock.now();
        let ready = Condition::of(ConditionKind::Ready, why, generation, known, now);
        EnvironmentStatus {
            limits: environment.status.limits,
            namespace,
            conditions: vec![ready],
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

/// The environments inside of a tenant or a project that its limits have something new for: those without a share of what is limited.
fn environments(client: &Client, object: Option<&Held>, key: &Key) -> Vec<Key> {
    let own = crate::Name::new(&key.name).ok();
    let inside = match (key.scope.names(), own) {
        ([], Some(tenant)) => Scope::tenant(tenant),
        ([tenant], Some(project)) => Scope::project(tenant.clone(), project),
        _ => return Vec::new(),
    };
    let limits = object.and_then(|object| match key.kind {
        Kind::Tenant => object.typed::<TenantSpec>().ok().map(|it| it.spec.limits),
        _ => object.typed::<ProjectSpec>().ok().map(|it| it.spec.limits),
    });
    let holder = Holder {
        scope: inside.clone(),
        limits: limits.unwrap_or_default(),
    };
    let environments = client.list::<EnvironmentSpec>(&inside);
    let concerned = environments
        .iter()
        .filter(|it| !holder.has_share(&it.status.limits) || is_refused(it));
    concerned.map(Typed::key).collect()
}

fn is_refused(environment: &Environment) -> bool {
    let mut known = environment.status.conditions.iter();
    known.any(|it| [NO_SHARE, LIMITS_UNSUPPORTED].contains(&it.reason.as_str()))
}

/// The environments of the same tenant that wait for a share of its limits.
fn without_share(client: &Client, _: Option<&Held>, key: &Key) -> Vec<Key> {
    let tenant = key.scope.names().first().cloned().map(Scope::tenant);
    let siblings = tenant.map(|tenant| client.list::<EnvironmentSpec>(&tenant));
    let siblings = siblings.into_iter().flatten();
    let waiting = siblings.filter(is_refused);
    waiting.map(|it| it.key()).filter(|it| it != key).collect()
}
