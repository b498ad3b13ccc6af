//! Which hosts an application is given, and which it may have.

use super::{Context, application::default_host};
use crate::{
    Error, Name, Result, Scope,
    model::{ApplicationKey, DomainPoolSpec, Host, ProjectSpec},
};

/// The reason, for programs, of what is not done because a project has no domains.
pub(super) const NO_POOL: &str = "NoDomainPool";

/// The reason, for programs, of what is not done because a host is not for the application's tenant.
pub(super) const FOREIGN_HOST: &str = "ForeignHost";

/// The domains that hosts are given out under, as one application finds them.
#[derive(Clone, Debug)]
pub struct Domains {
    /// Where hosts are given out.
    base: Base,
    /// All domains that not everybody may take hosts under.
    bases: Vec<Base>,
    /// Why no hosts are given out.
    problem: Option<String>,
}

/// A domain that hosts are given out under.
#[derive(Clone, Debug)]
struct Base {
    host: Host,
    /// The application's tenant gets hosts under it.
    open: bool,
    /// It is the tenant's alone.
    own: bool,
}

impl Domains {
    /// The host of an application that wants no certain one.
    pub(super) fn default_host(&self, key: &ApplicationKey) -> Host {
        if !self.base.own {
            return default_host(key, &self.base.host);
        }
        // Nobody else is there: its name would tell it from nobody.
        let mut alone = key.clone();
        alone.tenant = Name::new("default").expect("`default` is a name");
        default_host(&alone, &self.base.host)
    }

    /// Why no hosts are given out to the application's project.
    pub(super) fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// Refuses a host that the platform gives out itself, to others. The default tenant, whose name is left out of hosts, is the platform's
    /// owner and has them all.
    ///
    /// # Errors
    /// `Invalid`, naming the host and what the tenant may have.
    pub(super) fn admit(&self, tenant: &Name, host: &Host) -> Result<()> {
        if tenant.as_str() == "default" {
            return Ok(());
        }
        // Of domains within each other the innermost decides; of equal ones, all.
        let around = self.bases.iter().filter(|base| under(host, &base.host));
        let innermost = around.clone().map(|base| base.host.as_str().len()).max();
        let deciding = around.filter(|base| Some(base.host.as_str().len()) == innermost);
        let covered = self.bases.iter().filter(|base| covers(host, &base.host));
        let foreign = deciding
            .filter(|base| !base.has(tenant, host))
            .chain(covered)
            .next();
        match foreign {
            None => Ok(()),
            Some(base) => Err(Error::invalid(format!(
                "host {host} is not this tenant's: {}",
                base.rule(tenant)
            ))),
        }
    }
}

impl Base {
    fn has(&self, tenant: &Name, host: &Host) -> bool {
        let within = || {
            let own = format!("{tenant}.{}", self.host);
            own.parse().is_ok_and(|own| under(host, &own))
        };
        self.own || (self.open && within())
    }

    fn rule(&self, tenant: &Name) -> String {
        let base = &self.host;
        match self.open {
            true => format!("of those under {base} it may have what is under {tenant}.{base}"),
            false => format!("it gets none under {base}"),
        }
    }
}

/// Whether a host, or all that a wildcard stands for, is a domain or under it.
fn under(host: &Host, domain: &Host) -> bool {
    let plain = host.as_str().trim_start_matches("*.");
    let rest = plain.strip_suffix(domain.as_str());
    rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// Whether a wildcard stands for a domain, or for one around it.
fn covers(host: &Host, domain: &Host) -> bool {
    let plain = host.as_str().trim_start_matches("*.");
    host.wildcard() && domain.as_str().ends_with(&format!(".{plain}"))
}

impl Context {
    /// The domains as an application finds them.
    pub(super) fn domains(&self, key: &ApplicationKey) -> Result<Domains> {
        let tenant = &key.tenant;
        let around = Scope::tenant(tenant.clone());
        let project = self
            .client
            .get::<ProjectSpec>(&around, key.project.as_str())?;
        let pools = self.client.list::<DomainPoolSpec>(&Scope::cluster());
        let mut domains = Domains {
            base: Base {
                host: self.settings.base.clone(),
                open: true,
                own: false,
            },
            bases: Vec::new(),
            problem: None,
        };
        domains.bases.push(domains.base.clone());
        let wanted = project.and_then(|project| project.spec.domain_pool);
        domains.problem = wanted.as_ref().map(missing);
        for pool in &pools {
            // The domains of one that makes no sense are kept for nobody, rather than open to all.
            let usable = pool.spec.check().is_ok();
            let base = |host: &Host| Base {
                host: host.clone(),
                open: usable && pool.spec.is_for(tenant),
                own: usable && pool.spec.is_own(tenant),
            };
            domains.bases.extend(pool.spec.bases.iter().map(base));
            if usable
                && wanted
                    .as_ref()
                    .is_some_and(|wanted| pool.metadata.name == wanted.as_str())
            {
                domains.base = base(&pool.spec.bases[0]);
                if domains.base.open {
                    domains.problem = None;
                }
            }
        }
        Ok(domains)
    }
}

/// Says the same of a pool that is not there and of one that is for others.
pub(super) fn missing(pool: &Name) -> String {
    format!("the project's domain pool {pool} is not there, or is not for its tenant")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::check::BASE_MAX;

    fn base(host: &str, open: bool, own: bool) -> Base {
        let host = host.parse().unwrap();
        Base { host, open, own }
    }

    fn domains(bases: Vec<Base>) -> Domains {
        Domains {
            base: bases[0].clone(),
            bases,
            problem: None,
        }
    }

    fn admitted(domains: &Domains, host: &str) -> bool {
        let acme = Name::new("acme").unwrap();
        domains.admit(&acme, &host.parse().unwrap()).is_ok()
    }

    #[test]
    fn what_is_under_a_domain_is_told_from_what_only_ends_like_it() {
        for (host, domain, expected) in [
            ("a.b.example", "b.example", true),
            ("b.example", "b.example", true),
            ("*.b.example", "b.example", true),
            // It stands for all that is under the domain, too.
            ("*.example", "b.example", true),
            ("ab.example", "b.example", false),
            ("a.example", "b.example", false),
        ] {
            let (host, domain) = (host.parse().unwrap(), domain.parse().unwrap());
            let found = under(&host, &domain) || covers(&host, &domain);
            assert_eq!(found, expected, "{host} {domain}");
        }
    }

    #[test]
    fn under_a_shared_domain_a_tenant_has_what_is_under_its_name() {
        let domains = domains(vec![base("apps.example", true, false)]);
        for own in ["acme.apps.example", "x.acme.apps.example", "other.example"] {
            assert!(admitted(&domains, own), "{own}");
        }
        for foreign in [
            "apps.example",
            "x.apps.example",
            "*.apps.example",
            "*.example",
        ] {
            assert!(!admitted(&domains, foreign), "{foreign}");
        }
    }

    #[test]
    fn under_a_domain_of_its_own_a_tenant_has_everything_and_others_have_nothing() {
        let own = domains(vec![base("acme.example", true, true)]);
        for host in ["acme.example", "x.acme.example", "*.acme.example"] {
            assert!(admitted(&own, host), "{host}");
        }
        let others = domains(vec![base("beta.example", false, false)]);
        for host in ["beta.example", "acme.beta.example", "*.example"] {
            assert!(!admitted(&others, host), "{host}");
        }
    }

    #[test]
    fn the_innermost_domain_decides_and_of_equal_ones_each() {
        let shared = base("example", true, false);
        let nested = domains(vec![shared.clone(), base("own.example", true, true)]);
        assert!(admitted(&nested, "x.own.example"));
        assert!(!admitted(&nested, "x.example"));
        let twice = domains(vec![shared, base("example", false, false)]);
        assert!(!admitted(&twice, "acme.example"));
    }

    #[test]
    fn a_domain_of_its_own_leaves_the_tenants_name_out() {
        let key = "acme/shop/production/web".parse().unwrap();
        let own = domains(vec![base("acme.example", true, true)]);
        assert_eq!(
            own.default_host(&key).as_str(),
            "web.production.shop.acme.example"
        );
        let shared = domains(vec![base("example", true, false)]);
        assert_eq!(
            shared.default_host(&key).as_str(),
            "web.production.shop.acme.example"
        );
    }

    #[test]
    fn every_base_leaves_room_for_the_names_before_it() {
        let long = format!("{}.{}", "x".repeat(63), "y".repeat(BASE_MAX - 64));
        let widest = "x".repeat(Name::LENGTH_MAX);
        let key = [widest.as_str(); 4].join("/").parse().unwrap();
        let host = domains(vec![base(&long, true, false)]).default_host(&key);
        assert!(host.as_str().len() <= 253);
    }
}
