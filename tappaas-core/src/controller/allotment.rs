//! What each environment is given of the limits of its tenant and its project.

use super::Context;
use crate::{
    Error, Kind, ListRequest, Object, Result, Scope,
    model::{Environment, EnvironmentSpec, Limits, ProjectSpec, TenantSpec},
};

/// The reason, for programs, of what is not done because a limit around an environment has no room for it.
pub(super) const NO_SHARE: &str = "NoShare";

/// A tenant or a project that limits its environments.
#[derive(Clone, Debug)]
pub(super) struct Holder {
    pub(super) scope: Scope,
    pub(super) limits: Limits,
}

impl Holder {
    /// Why an environment that was given `known` cannot be given what it asks for, beside `others`.
    ///
    /// What was given is not taken back when limits become less: an outage is worse than a debt.
    pub(super) fn refusal(
        &self,
        wanted: &Limits,
        known: &Limits,
        others: &Limits,
    ) -> Option<String> {
        let each = self.limits.fields().into_iter().zip(wanted.fields());
        let beside = known.fields().into_iter().zip(others.fields());
        each.zip(beside)
            .find_map(|(((field, limit), (_, wanted)), ((_, known), (_, others)))| {
                let limit = limit?;
                let Some(wanted) = wanted else {
                    return Some(format!(
                        "{self} is limited to {field} {limit}: say in `limits.{field}` of the environment how much of it is its own"
                    ));
                };
                if known.is_some_and(|known| wanted <= known) {
                    return None;
                }
                let left = limit.saturating_sub(others.unwrap_or(0));
                (wanted > left).then(|| {
                    format!("limits.{field}: {wanted} is more than the {left} that {self} has left of {limit}")
                })
            })
    }

    /// Why its limits are not kept, on a scheduler that keeps none.
    pub(super) fn unsupported(&self) -> String {
        format!("this platform's scheduler cannot keep limits: take `limits` out of {self}")
    }

    /// Says whether an environment asks for no more than it was given.
    pub(super) fn keeps(&self, wanted: &Limits, known: &Limits) -> bool {
        let each = self.limits.fields().into_iter().zip(wanted.fields());
        let mut limited = each
            .zip(known.fields())
            .filter(|(((_, limit), _), _)| limit.is_some());
        limited.all(|((_, (_, wanted)), (_, known))| {
            matches!((wanted, known), (Some(wanted), Some(known)) if wanted <= known)
        })
    }

    /// Says whether an environment was given a share of all that is limited. One that has a share keeps it.
    pub(super) fn has_share(&self, given: &Limits) -> bool {
        let each = self.limits.fields().into_iter().zip(given.fields());
        let mut limited = each.filter(|((_, limit), _)| limit.is_some());
        limited.all(|(_, (_, given))| given.is_some())
    }

    /// Which of its limits are less than what was given of them.
    pub(super) fn debt(&self, allotted: &Limits) -> Option<String> {
        let each = self.limits.fields().into_iter().zip(allotted.fields());
        each.filter_map(|((field, limit), (_, allotted))| {
            let (limit, allotted) = (limit?, allotted?);
            (allotted > limit)
                .then(|| format!("limits.{field} is {limit}, and {allotted} was given out before"))
        })
        .reduce(|all, next| format!("{all}; {next}"))
    }
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.scope.names() {
            [tenant] => write!(f, "tenant {tenant}"),
            names => write!(
                f,
                "project {}",
                names.last().map_or("", |name| name.as_str())
            ),
        }
    }
}

impl Context {
    /// What limits an environment beside itself.
    pub(super) fn holders(&self, environment: &Scope) -> Result<Vec<Holder>> {
        let [tenant, project, _] = environment.names() else {
            return Ok(Vec::new());
        };
        let around = Scope::tenant(tenant.clone());
        let tenant = self
            .client
            .get::<TenantSpec>(&Scope::cluster(), tenant.as_str())?;
        let found = self.client.get::<ProjectSpec>(&around, project.as_str())?;
        let of_project = found.map(|found| Holder {
            scope: Scope::project(around.names()[0].clone(), project.clone()),
            limits: found.spec.limits,
        });
        let of_tenant = tenant.map(|found| Holder {
            scope: around,
            limits: found.spec.limits,
        });
        let holders = of_tenant.into_iter().chain(of_project);
        Ok(holders
            .filter(|holder| !holder.limits.is_unlimited())
            .collect())
    }

    /// Why the limits of an environment, or of what is around it, are not kept; `None` if they are, or if there are none.
    pub(crate) fn unsupported(
        &self,
        environment: &Scope,
        limits: &Limits,
    ) -> Result<Option<String>> {
        if self.backends.scheduler.capabilities().quotas {
            return Ok(None);
        }
        if let Err(error) = limits.refuse() {
            return Ok(Some(error.message().to_owned()));
        }
        let holder = self.holders(environment)?.into_iter().next();
        Ok(holder.map(|holder| holder.unsupported()))
    }

    /// What the environments of a holder were given together, but one. Asks the store itself: of two that ask at once, one would else be
    /// given what is the other's.
    pub(super) async fn given(&self, holder: &Scope, but: &Environment) -> Result<Limits> {
        let mut request = ListRequest::new(Kind::Environment, holder.clone());
        let mut given = Limits::default();
        loop {
            let page = self.store.list(&request).await?;
            for object in &page.objects {
                if object.key() != but.key() {
                    given = given.plus(&granted(object)?);
                }
            }
            request.after = page.next;
            if request.after.is_none() {
                return Ok(given);
            }
        }
    }

    /// What the environments of a holder were given together, as far as is known.
    pub(super) fn allotted(&self, holder: &Scope) -> Limits {
        let environments = self.client.list::<EnvironmentSpec>(holder);
        let each = environments.iter().map(|it| it.status.limits);
        each.fold(Limits::default(), |sum, one| sum.plus(&one))
    }
}

/// What an environment was given, whatever it asks for: also of one that nobody can read.
fn granted(environment: &Object) -> Result<Limits> {
    let limits = environment.status.get("limits").cloned();
    let limits = limits.map_or_else(|| Ok(Limits::default()), serde_json::from_value);
    limits.map_err(|error| {
        let key = environment.key();
        Error::internal(format!("what {key} was given cannot be read")).with_source(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instances(most: u32) -> Limits {
        Limits {
            instances: Some(most),
            ..Limits::default()
        }
    }

    fn acme(limits: Limits) -> Holder {
        Holder {
            scope: Scope::tenant(crate::Name::new("acme").unwrap()),
            limits,
        }
    }

    const NOTHING: Limits = Limits {
        cpu_millis: None,
        memory: None,
        instances: None,
        storage: None,
    };

    #[test]
    fn an_environment_is_given_what_others_leave_and_no_more() {
        let acme = acme(instances(5));
        let refusal = |wanted, others| acme.refusal(&instances(wanted), &NOTHING, &others);
        assert_eq!(refusal(5, NOTHING), None);
        assert_eq!(refusal(2, instances(3)), None);
        assert_eq!(
            refusal(3, instances(3)).unwrap(),
            "limits.instances: 3 is more than the 2 that tenant acme has left of 5"
        );
        assert!(refusal(1, instances(7)).unwrap().contains("the 0 that"));
    }

    #[test]
    fn what_is_limited_has_to_be_shared_out() {
        let told = acme(instances(5)).refusal(&NOTHING, &NOTHING, &NOTHING);
        assert!(
            told.as_ref().unwrap().contains("`limits.instances`"),
            "{told:?}"
        );
        let storage = Limits {
            storage: Some(1 << 60),
            ..instances(1)
        };
        assert_eq!(
            acme(instances(5)).refusal(&storage, &NOTHING, &NOTHING),
            None
        );
    }

    #[test]
    fn what_was_given_is_kept_and_the_debt_is_told() {
        let acme = acme(instances(5));
        let refusal = |wanted| acme.refusal(&instances(wanted), &instances(8), &instances(2));
        assert_eq!(refusal(8), None);
        assert_eq!(refusal(6), None);
        assert!(refusal(9).is_some());
        assert_eq!(
            acme.debt(&instances(10)).unwrap(),
            "limits.instances is 5, and 10 was given out before"
        );
        assert_eq!(acme.debt(&instances(5)), None);
        assert_eq!(acme.debt(&NOTHING), None);
    }
}
