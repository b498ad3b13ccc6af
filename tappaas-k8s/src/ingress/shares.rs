//! Who gets how many of a route's requests.

use std::collections::BTreeMap;

use tappaas_core::{
    Error, ErrorKind, Result,
    backend::{Endpoint, RouteId, Target},
};

use super::mark::Place;
use crate::PlatformId;

/// The most that a weight can be.
const WEIGHT_MAX: u128 = 1_000_000;
/// The most services that share the requests of a route.
pub(super) const SERVICES_MAX: usize = 16;

/// A service of the route's own namespace.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Service {
    pub(super) name: String,
    pub(super) port: u16,
}

/// The service that routes without endpoints lead to: it has none, so requests are answered 503. Without any service a Gateway answers 500.
pub(super) fn nobody() -> Service {
    Service {
        name: "tappaas-nobody".to_owned(),
        port: 80,
    }
}

/// The services that share the requests, in proportion to their weights; none if nobody would get any.
///
/// # Errors
/// `Unsupported` if an endpoint is no service or there are too many, `Denied` if a service is of another namespace.
pub(super) fn shares(
    platform: &PlatformId,
    id: &RouteId,
    targets: &[Target],
) -> Result<Vec<(Service, u32)>> {
    let namespace = Place::of(platform, id).namespace;
    let mut groups = Vec::new();
    for target in targets {
        let services = target.endpoints.iter();
        let services = services.map(|endpoint| service(id, &namespace, endpoint));
        let mut services = services.collect::<Result<Vec<_>>>()?;
        services.sort();
        services.dedup();
        if !services.is_empty() {
            groups.push((u128::from(target.weight), services));
        }
    }
    let shares = weigh(groups);
    if shares.len() > SERVICES_MAX {
        return Err(Error::unsupported(format!(
            "route {id}: at most {SERVICES_MAX} services can share its requests"
        )));
    }
    Ok(shares)
}

fn service(id: &RouteId, namespace: &str, endpoint: &Endpoint) -> Result<Service> {
    let Endpoint::Service { host, port } = endpoint else {
        return Err(Error::unsupported(format!(
            "route {id} has an endpoint that is no service of the cluster"
        )));
    };
    match host.split('.').collect::<Vec<_>>().as_slice() {
        [name, of, "svc"] if *of == namespace => Ok(Service {
            name: (*name).to_owned(),
            port: *port,
        }),
        [_, _, "svc"] => Err(Error::new(
            ErrorKind::Denied,
            format!(
                "route {id}: `{host}` is no service of its environment's namespace {namespace}"
            ),
        )),
        _ => Err(Error::unsupported(format!(
            "route {id}: `{host}` is no `<service>.<namespace>.svc`"
        ))),
    }
}

/// Each group's weight is shared evenly by its services. As many decimals as fit are kept, and who gets any goes on to do so.
fn weigh(groups: Vec<(u128, Vec<Service>)>) -> Vec<(Service, u32)> {
    let common = groups.iter().fold(1, |common, (_, services)| {
        let count = services.len() as u128;
        (common / gcd(common, count)).saturating_mul(count)
    });
    let mut exact = BTreeMap::<Service, u128>::new();
    for (weight, services) in groups {
        let each = weight.saturating_mul(common / services.len() as u128);
        for service in services {
            let share = exact.entry(service).or_default();
            *share = share.saturating_add(each);
        }
    }
    let Some(most) = exact.values().copied().max().filter(|most| *most > 0) else {
        return Vec::new();
    };
    let divisor = exact.values().copied().fold(0, gcd);
    let scaled = |share: u128| match most / divisor > WEIGHT_MAX {
        // Both factors of a weight are below 2^64.
        true => (share / most.div_ceil(WEIGHT_MAX)).max(u128::from(share > 0)),
        false => share / divisor,
    };
    let scaled = exact.into_iter().map(|(service, share)| {
        let share = u32::try_from(scaled(share)).unwrap_or(u32::MAX);
        (service, share)
    });
    scaled.collect()
}

fn gcd(a: u128, b: u128) -> u128 {
    match b {
        0 => a,
        _ => gcd(b, a % b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ingress::testing::{endpoint, route},
        platform::sample,
    };

    fn of(targets: &[(u32, &[&str])]) -> Vec<(String, u32)> {
        let id = route("app", "main", "/").id;
        let targets: Vec<_> = targets
            .iter()
            .map(|(weight, names)| Target {
                weight: *weight,
                endpoints: names.iter().map(|name| endpoint(&id, name)).collect(),
            })
            .collect();
        let shares = shares(&sample(), &id, &targets).unwrap();
        shares
            .into_iter()
            .map(|(service, weight)| (service.name, weight))
            .collect()
    }

    fn expected(shares: &[(&str, u32)]) -> Vec<(String, u32)> {
        shares.iter().map(|(n, w)| ((*n).to_owned(), *w)).collect()
    }

    #[test]
    fn targets_share_by_weight_and_endpoints_evenly() {
        let shares = of(&[(30, &["a", "b"]), (10, &["c"]), (0, &["d"])]);
        assert_eq!(shares, expected(&[("a", 3), ("b", 3), ("c", 2), ("d", 0)]));
        assert_eq!(of(&[(7, &["a"])]), expected(&[("a", 1)]));
        // Instances of one service are not told apart; a target without any leaves its share to the others.
        assert_eq!(of(&[(7, &["a", "a"]), (9, &[])]), expected(&[("a", 1)]));
        assert_eq!(
            of(&[(1, &["a"]), (2, &["a", "b"])]),
            expected(&[("a", 2), ("b", 1)])
        );
    }

    #[test]
    fn a_share_that_is_too_small_to_be_told_is_not_lost() {
        let shares = of(&[(u32::MAX, &["a"]), (1, &["b"])]);
        let [(_, most), (_, least)] = shares.as_slice() else {
            panic!("{shares:?}");
        };
        assert!(
            (900_000..=1_000_000).contains(most) && *least == 1,
            "{shares:?}"
        );
    }

    #[test]
    fn whoever_gets_nothing_makes_nobody() {
        assert_eq!(of(&[]), []);
        assert_eq!(of(&[(1, &[]), (0, &["a"])]), []);
    }

    #[test]
    fn only_services_of_the_same_namespace_can_be_reached() {
        let id = route("app", "main", "/").id;
        let kind = |endpoint| {
            let target = Target {
                weight: 1,
                endpoints: vec![endpoint],
            };
            shares(&sample(), &id, &[target]).unwrap_err().kind()
        };
        let service = |host: &str| Endpoint::Service {
            host: host.to_owned(),
            port: 80,
        };
        assert_eq!(kind(service("a.kube-system.svc")), ErrorKind::Denied);
        assert_eq!(kind(service("example.com")), ErrorKind::Unsupported);
        assert_eq!(kind(service("a.b.c.svc")), ErrorKind::Unsupported);
        let address = Endpoint::Address(([127, 0, 0, 1], 80).into());
        assert_eq!(kind(address), ErrorKind::Unsupported);
    }
}
