use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::{StreamExt, stream, stream::BoxStream};

use super::{
    Context,
    allotment::Holder,
    domains::{NO_POOL, missing},
    drive::Reconcile,
    environment::LIMITS_UNSUPPORTED,
    wakes,
};
use crate::{
    Chain, Error, Key, Kind, ListRequest, Name, Object, Result, Scope,
    client::{Client, Held},
    model::{
        AllotmentStatus, Condition, ConditionKind, DomainPool, DomainPoolSpec, DomainPoolStatus,
        Limits, ProjectSpec, Spec, TenantSpec, Truth, Typed, Verdict,
    },
};

/// Marks what is not removed as long as something is inside of it, or uses it.
const FINALIZER: &str = "tappaas.dev/tenancy";

/// Says of tenants, projects and domain pools whether they can be kept to, and keeps them as long as something needs them.
#[derive(Debug)]
pub(super) struct TenancyController {
    pub(super) context: Arc<Context>,
}

/// A kind that this controller sees to.
trait Kept: Spec<Status: Told> {
    fn check(&self) -> Result<()>;

    /// Whether the object can be kept to as it is. It has been checked.
    fn verdict(&self, context: &Context, key: &Key) -> Result<Verdict>;

    /// Says whether a stored object needs this one, of `kinds` in `scope`.
    fn needed(key: &Key) -> Result<Needed>;
}

/// A status that says of an object whether it can be kept to.
trait Told: Sized {
    fn conditions(&self) -> &[Condition];

    /// The status of an object of which `ready` is known.
    fn now(context: &Context, key: &Key, ready: Condition) -> Result<Self>;
}

/// Where what needs an object is, and how to tell.
struct Needed {
    kinds: &'static [Kind],
    scope: Scope,
    by: fn(&Key, &Object) -> bool,
}

#[async_trait]
impl Reconcile for TenancyController {
    fn name(&self) -> &'static str {
        "tenancy"
    }

    async fn reconcile(&self, key: &Key) -> Result<Option<Duration>> {
        match key.kind {
            Kind::Tenant => self.keep::<TenantSpec>(key).await,
            Kind::Project => self.keep::<ProjectSpec>(key).await,
            _ => self.keep::<DomainPoolSpec>(key).await,
        }?;
        Ok(None)
    }

    async fn wakes(&self) -> Result<BoxStream<'static, Key>> {
        let client = &self.context.client;
        let own = [Kind::Tenant, Kind::Project, Kind::DomainPool]
            .map(|kind| wakes::objects(client, kind, |_, _, key| vec![key.clone()]));
        let others = [
            wakes::objects(client, Kind::Environment, holders),
            wakes::objects(client, Kind::Project, around_project),
            wakes::objects(client, Kind::DomainPool, wakes::projects_of_pool),
        ];
        Ok(stream::select_all(own.into_iter().chain(others)).boxed())
    }

    fn all(&self) -> Vec<Key> {
        let kinds = [Kind::Tenant, Kind::Project, Kind::DomainPool];
        let each = kinds.map(|kind| self.context.client.keys(kind, &Scope::cluster()));
        each.concat()
    }
}

impl TenancyController {
    async fn keep<S: Kept>(&self, key: &Key) -> Result<()> {
        if self.context.tell_unreadable::<S>(key).await? {
            return Ok(());
        }
        let client = &self.context.client;
        let Some(mut object) = client.get::<S>(&key.scope, &key.name)? else {
            return Ok(());
        };
        let held = object
            .metadata
            .finalizers
            .iter()
            .position(|it| it == FINALIZER);
        let leaving = object.metadata.deletion.is_some();
        match (leaving, held) {
            (false, None) => {
                object.metadata.finalizers.push(FINALIZER.to_owned());
                object = client.update_finalizers(&object).await?;
            }
            (true, None) => return Ok(()),
            (true, Some(ours)) => match self.needed::<S>(key).await? {
                Some(by) => {
                    let message = format!("is removed once nothing needs it: {by} does");
                    return self.record(object, (Truth::False, "Needed", message)).await;
                }
                None => {
                    object.metadata.finalizers.remove(ours);
                    return client.update_finalizers(&object).await.map(drop);
                }
            },
            (false, Some(_)) => {}
        }
        let verdict = match object.spec.check() {
            Ok(()) => object.spec.verdict(&self.context, key)?,
            Err(error) => (Truth::False, "Invalid", Chain(&error).to_string()),
        };
        self.record(object, verdict).await
    }

    /// Something that needs an object, if anything does. Asks the store itself: a cache may lag.
    async fn needed<S: Kept>(&self, key: &Key) -> Result<Option<String>> {
        let needed = S::needed(key)?;
        for kind in needed.kinds {
            let mut request = ListRequest::new(*kind, needed.scope.clone());
            loop {
                let page = self.context.store.list(&request).await?;
                let mut found = page.objects.iter().filter(|it| (needed.by)(key, it));
                if let Some(object) = found.next() {
                    let kind = kind.as_str().to_lowercase();
                    return Ok(Some(format!("{kind} {}", place(object))));
                }
                request.after = page.next;
                if request.after.is_none() {
                    break;
                }
            }
        }
        Ok(None)
    }

    async fn record<S: Kept>(&self, mut object: Typed<S>, verdict: Verdict) -> Result<()> {
        let (generation, now) = (object.metadata.generation, self.context.clock.now());
        let known = object.status.conditions();
        let ready = Condition::of(ConditionKind::Ready, verdict, generation, known, now);
        let status = S::Status::now(&self.context, &object.key(), ready)?;
        if object.status == status {
            return Ok(());
        }
        object.status = status;
        let recorded = self.context.client.update_status(&object).await;
        recorded.map(drop)
    }
}

impl Kept for TenantSpec {
    fn check(&self) -> Result<()> {
        self.check()
    }

    fn verdict(&self, context: &Context, key: &Key) -> Result<Verdict> {
        Ok(limits(context, inside(key)?, self.limits).unwrap_or_else(kept))
    }

    fn needed(key: &Key) -> Result<Needed> {
        Ok(Needed {
            kinds: &[Kind::Environment, Kind::Project],
            scope: inside(key)?,
            by: |_, _| true,
        })
    }
}

impl Kept for ProjectSpec {
    fn check(&self) -> Result<()> {
        self.check()
    }

    fn verdict(&self, context: &Context, key: &Key) -> Result<Verdict> {
        if let (Some(pool), [tenant]) = (&self.domain_pool, key.scope.names()) {
            let found = context
                .client
                .get::<DomainPoolSpec>(&Scope::cluster(), pool.as_str())?;
            let usable = |it: &DomainPool| it.spec.check().is_ok() && it.spec.is_for(tenant);
            if !found.as_ref().is_some_and(usable) {
                return Ok((Truth::False, NO_POOL, missing(pool)));
            }
        }
        Ok(limits(context, inside(key)?, self.limits).unwrap_or_else(kept))
    }

    fn needed(key: &Key) -> Result<Needed> {
        Ok(Needed {
            kinds: &[Kind::Environment],
            scope: inside(key)?,
            by: |_, _| true,
        })
    }
}

impl Kept for DomainPoolSpec {
    fn check(&self) -> Result<()> {
        self.check()
    }

    fn verdict(&self, _: &Context, _: &Key) -> Result<Verdict> {
        Ok(kept())
    }

    fn needed(_: &Key) -> Result<Needed> {
        Ok(Needed {
            kinds: &[Kind::Project],
            scope: Scope::cluster(),
            by: |key, object| object.spec["domainPool"] == *key.name,
        })
    }
}

impl Told for AllotmentStatus {
    fn conditions(&self) -> &[Condition] {
        &self.conditions
    }

    fn now(context: &Context, key: &Key, ready: Condition) -> Result<Self> {
        Ok(Self {
            allotted: context.allotted(&inside(key)?),
            conditions: vec![ready],
        })
    }
}

impl Told for DomainPoolStatus {
    fn conditions(&self) -> &[Condition] {
        &self.conditions
    }

    fn now(_: &Context, _: &Key, ready: Condition) -> Result<Self> {
        Ok(Self {
            conditions: vec![ready],
        })
    }
}

fn kept() -> Verdict {
    (Truth::True, "Kept", String::new())
}

/// Why limits cannot be kept to, if they cannot.
fn limits(context: &Context, scope: Scope, limits: Limits) -> Option<Verdict> {
    let allotted = context.allotted(&scope);
    let holder = Holder { scope, limits };
    if !context.backends.scheduler.capabilities().quotas && !limits.is_unlimited() {
        return Some((Truth::False, LIMITS_UNSUPPORTED, holder.unsupported()));
    }
    let debt = holder.debt(&allotted)?;
    Some((Truth::False, "Overdrawn", debt))
}

/// The scope of what is inside of a tenant or a project.
fn inside(key: &Key) -> Result<Scope> {
    let own = Name::new(&key.name)?;
    match key.scope.names() {
        [] => Ok(Scope::tenant(own)),
        [tenant] => Ok(Scope::project(tenant.clone(), own)),
        _ => Err(Error::internal(format!(
            "{key} is neither a tenant nor a project"
        ))),
    }
}

/// What a person finds an object by.
fn place(object: &Object) -> impl fmt::Display {
    let key = object.key();
    match key.scope.names() {
        [] => key.name.clone(),
        _ => format!("{}/{}", key.scope, key.name),
    }
}

/// The project and the tenant of an environment.
fn holders(_: &Client, _: Option<&Held>, key: &Key) -> Vec<Key> {
    let [tenant, project] = key.scope.names() else {
        return Vec::new();
    };
    let scope = Scope::tenant(tenant.clone());
    vec![
        Key::new(Kind::Project, scope, project.as_str()),
        Key::new(Kind::Tenant, Scope::cluster(), tenant.as_str()),
    ]
}

/// What may go once a project is gone or has changed: its tenant, and the domain pools.
fn around_project(client: &Client, _: Option<&Held>, key: &Key) -> Vec<Key> {
    let tenant = key.scope.names().first();
    let tenant = tenant.map(|name| Key::new(Kind::Tenant, Scope::cluster(), name.as_str()));
    let mut keys = client.keys(Kind::DomainPool, &Scope::cluster());
    keys.extend(tenant);
    keys
}
