//! The part of an `HTTPRoute` (`gateway.networking.k8s.io/v1`) that routes need.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tappaas_core::{
    Error, Result,
    backend::{Action, Route, RouteId},
};

use super::{
    Gateway,
    form::Unserved,
    redirect::{self, Destination},
    shares::{Service, nobody, shares},
};
use crate::PlatformId;

pub(super) const GROUP: &str = "gateway.networking.k8s.io";
/// The most hosts of a route.
const HOSTS_MAX: usize = 16;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct HttpRouteSpec {
    parent_refs: Vec<ParentReference>,
    hostnames: Vec<String>,
    rules: Vec<Rule>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct HttpRouteStatus {
    #[serde(default)]
    parents: Vec<RouteParentStatus>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ParentReference {
    #[serde(default)]
    group: Option<String>,
    #[serde(default)]
    kind: Option<String>,
    #[serde(default)]
    namespace: Option<String>,
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    section_name: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RouteParentStatus {
    parent_ref: ParentReference,
    #[serde(default)]
    conditions: Vec<Condition>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    matches: Vec<Match>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    filters: Vec<Filter>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    backend_refs: Vec<BackendReference>,
}

#[derive(Debug, Serialize)]
struct Match {
    path: PathMatch,
}

#[derive(Debug, Serialize)]
#[serde(tag = "type", content = "value")]
enum PathMatch {
    PathPrefix(String),
}

#[derive(Debug, Serialize)]
#[serde(tag = "type")]
enum Filter {
    #[serde(rename_all = "camelCase")]
    RequestRedirect { request_redirect: Redirect },
    #[serde(rename_all = "camelCase")]
    #[serde(rename = "URLRewrite")]
    UrlRewrite { url_rewrite: Rewrite },
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Redirect {
    #[serde(skip_serializing_if = "Option::is_none")]
    scheme: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hostname: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    path: PathModifier,
    status_code: u16,
}

#[derive(Debug, Serialize)]
struct Rewrite {
    path: PathModifier,
}

#[derive(Debug, Serialize)]
#[serde(tag = "type")]
enum PathModifier {
    #[serde(rename_all = "camelCase")]
    ReplacePrefixMatch { replace_prefix_match: String },
}

#[derive(Debug, Serialize)]
struct BackendReference {
    group: &'static str,
    kind: &'static str,
    name: String,
    port: u16,
    weight: u32,
}

/// What an `HTTPRoute` says of a route.
///
/// # Errors
/// `Invalid`, `Unsupported` or `Denied`, naming what of the route cannot be said.
pub(super) fn spec(
    platform: &PlatformId,
    route: &Route,
    idle: &[Service],
    hosts: Vec<String>,
    path: &str,
    gateway: &Gateway,
    statuses: &[u16],
) -> Result<HttpRouteSpec> {
    if hosts.len() > HOSTS_MAX {
        return Err(Error::unsupported(format!(
            "route {}: an HTTPRoute has at most {HOSTS_MAX} hosts",
            route.id
        )));
    }
    let (filters, backend_refs) = match &route.action {
        Action::Forward {
            targets,
            strip_prefix,
            ..
        } => {
            let rewrite = strip_prefix.then(|| Filter::UrlRewrite {
                url_rewrite: Rewrite {
                    path: replace("/".to_owned()),
                },
            });
            let shares = shares(platform, &route.id, targets)?;
            (rewrite.into_iter().collect(), backends(shares, idle))
        }
        Action::Redirect { to, status } => {
            (vec![redirect(&route.id, to, *status, statuses)?], vec![])
        }
    };
    let path = PathMatch::PathPrefix(path.to_owned());
    Ok(HttpRouteSpec {
        parent_refs: vec![parent(gateway)],
        hostnames: hosts,
        rules: vec![Rule {
            matches: vec![Match { path }],
            filters,
            backend_refs,
        }],
    })
}

impl HttpRouteStatus {
    /// Why a Gateway does not serve this generation of a route in a namespace; `None` if it has accepted it.
    pub(super) fn unserved(
        &self,
        gateway: &Gateway,
        namespace: &str,
        generation: i64,
    ) -> Option<Unserved> {
        let mut said = self
            .parents
            .iter()
            .filter(|parent| parent.parent_ref.is(gateway, namespace))
            .peekable();
        if said.peek().is_none() {
            let why = format!("nobody has said anything of it for {gateway}");
            return Some(Unserved::unseen(why));
        }
        let missing = said.find_map(|parent| missing(&parent.conditions, generation))?;
        Some(Unserved {
            why: format!("{gateway} {}", missing.why),
            ..missing
        })
    }
}

/// What keeps a parent from serving a generation, to be read after its name.
fn missing(conditions: &[Condition], generation: i64) -> Option<Unserved> {
    let of = |type_: &str| conditions.iter().find(|one| one.type_ == type_);
    let current = |one: &&Condition| one.observed_generation.is_none_or(|of| of >= generation);
    let Some(accepted) = of("Accepted").filter(current) else {
        return Some(Unserved::unseen("has not looked at it yet".to_owned()));
    };
    let wanted = [
        (Some(accepted), "True"),
        (of("ResolvedRefs"), "True"),
        // Present only where a part is left out.
        (of("PartiallyInvalid"), "False"),
    ];
    let mut known = wanted
        .into_iter()
        .filter_map(|(one, wanted)| Some((one?, wanted)));
    known.find_map(|(one, wanted)| match current(&one) {
        false => Some(Unserved::unseen(
            "has not looked at all of it yet".to_owned(),
        )),
        true if one.status != wanted => Some(Unserved::refused(format!(
            "does not serve it: {} is {} ({}): {}",
            one.type_, one.status, one.reason, one.message
        ))),
        true => None,
    })
}

/// Says whether one of the parents that a route was written with is this Gateway.
pub(super) fn is_attached(parents: &Value, gateway: &Gateway, namespace: &str) -> bool {
    let parents = Vec::<ParentReference>::deserialize(parents).unwrap_or_default();
    parents.iter().any(|parent| parent.is(gateway, namespace))
}

impl ParentReference {
    fn is(&self, gateway: &Gateway, own: &str) -> bool {
        self.group.as_deref().unwrap_or(GROUP) == GROUP
            && self.kind.as_deref().unwrap_or("Gateway") == "Gateway"
            && self.namespace.as_deref().unwrap_or(own) == gateway.namespace
            && self.name == gateway.name
            && self.section_name == gateway.section
    }
}

fn parent(gateway: &Gateway) -> ParentReference {
    ParentReference {
        group: Some(GROUP.to_owned()),
        kind: Some("Gateway".to_owned()),
        namespace: Some(gateway.namespace.clone()),
        name: gateway.name.clone(),
        section_name: gateway.section.clone(),
    }
}

/// Without any service a Gateway answers 500, so there is always one.
fn backends(shares: Vec<(Service, u32)>, idle: &[Service]) -> Vec<BackendReference> {
    let shares = match shares.is_empty() {
        true => vec![(nobody(), 1)],
        false => shares,
    };
    let reference = |(service, weight): (Service, u32)| BackendReference {
        group: "",
        kind: "Service",
        name: service.name,
        port: service.port,
        weight,
    };
    let idle = idle.iter().map(|service| (service.clone(), 0));
    shares.into_iter().chain(idle).map(reference).collect()
}

fn redirect(id: &RouteId, to: &str, status: u16, statuses: &[u16]) -> Result<Filter> {
    if !statuses.contains(&status) {
        return Err(Error::unsupported(format!(
            "route {id}: the Gateway API of this cluster redirects with the statuses {statuses:?}, not {status}"
        )));
    }
    let Destination { site, prefix } = redirect::destination(id, to)?;
    let (scheme, hostname, port) = match site {
        Some(site) => (Some(site.scheme), Some(site.host), site.port),
        None => (None, None, None),
    };
    Ok(Filter::RequestRedirect {
        request_redirect: Redirect {
            scheme,
            hostname,
            port,
            path: replace(prefix),
            status_code: status,
        },
    })
}

fn replace(prefix: String) -> PathModifier {
    PathModifier::ReplacePrefixMatch {
        replace_prefix_match: prefix,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tappaas_core::{ErrorKind, backend::Target};

    use super::*;
    use crate::ingress::testing::{by_gateway, endpoint, forward, gateway, route};
    use crate::platform::sample;

    fn spec_of(route: &Route) -> Value {
        by_gateway()
            .object(&sample(), route, &[], None)
            .unwrap()
            .data["spec"]
            .take()
    }

    #[test]
    fn requests_are_shared_and_the_prefix_is_taken_off() {
        let mut route = route("app", "main", "/api/");
        let targets = [("stable", 9), ("candidate", 1)].map(|(name, weight)| Target {
            weight,
            endpoints: vec![endpoint(&route.id, name)],
        });
        route.action = Action::Forward {
            targets: targets.to_vec(),
            strip_prefix: true,
            hold: std::time::Duration::ZERO,
        };
        let backend = |name: &str, weight: u32| json!({ "group": "", "kind": "Service", "name": name, "port": 80, "weight": weight });
        let rewrite =
            json!({ "path": { "type": "ReplacePrefixMatch", "replacePrefixMatch": "/" } });
        let expected = json!({
            "parentRefs": [{ "group": GROUP, "kind": "Gateway", "namespace": "edge", "name": "public" }],
            "hostnames": ["app.example"],
            "rules": [{
                "matches": [{ "path": { "type": "PathPrefix", "value": "/api" } }],
                "filters": [{ "type": "URLRewrite", "urlRewrite": rewrite }],
                "backendRefs": [backend("candidate", 1), backend("stable", 9)],
            }],
        });
        assert_eq!(spec_of(&route), expected);
    }

    #[test]
    fn requests_are_sent_elsewhere_with_a_status_that_is_served() {
        let mut route = route("app", "main", "/old");
        let redirect = |status| Action::Redirect {
            to: "https://example.org:8443/new".to_owned(),
            status,
        };
        route.action = redirect(301);
        let rules = spec_of(&route)["rules"].take();
        let path = json!({ "type": "ReplacePrefixMatch", "replacePrefixMatch": "/new" });
        assert_eq!(
            rules[0]["filters"],
            json!([{ "type": "RequestRedirect", "requestRedirect": {
                "scheme": "https", "hostname": "example.org", "port": 8443, "path": path, "statusCode": 301,
            } }])
        );
        assert_eq!(rules[0].get("backendRefs"), None);
        route.action = redirect(308);
        let refused = by_gateway()
            .object(&sample(), &route, &[], None)
            .unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unsupported);
    }

    #[test]
    fn a_route_to_nobody_leads_to_a_service_without_endpoints() {
        let mut route = route("app", "main", "/");
        route.action = forward(Vec::new());
        let rules = spec_of(&route)["rules"].take();
        assert_eq!(rules[0]["backendRefs"][0]["name"], nobody().name);
        assert_eq!(rules[0]["backendRefs"][0]["weight"], 1);
    }

    #[test]
    fn a_route_is_attached_to_the_gateway_that_it_was_written_for() {
        let parents = spec_of(&route("app", "main", "/"))["parentRefs"].take();
        assert!(is_attached(&parents, &gateway(), "own"));
        let mut other = gateway();
        other.section = Some("web".to_owned());
        assert!(!is_attached(&parents, &other, "own"));
        assert!(!is_attached(&Value::Null, &gateway(), "own"));
    }

    fn condition(kind: &str, status: &str, observed: i64) -> Value {
        json!({ "type": kind, "status": status, "observedGeneration": observed, "reason": "Because",
            "message": "it is so", "lastTransitionTime": "2026-01-02T03:04:05Z" })
    }

    fn unserved(name: &str, conditions: &[Value]) -> Option<Unserved> {
        let parent = json!({ "namespace": "edge", "name": name });
        let status = json!({ "parents": [{ "parentRef": parent, "controllerName": "x.example/y", "conditions": conditions }] });
        let status: HttpRouteStatus = serde_json::from_value(status).unwrap();
        status.unserved(&gateway(), "own", 3)
    }

    #[test]
    fn a_route_is_served_once_its_gateway_has_accepted_this_generation() {
        let [accepted, resolved] =
            ["Accepted", "ResolvedRefs"].map(|kind| condition(kind, "True", 3));
        assert!(unserved("public", &[accepted.clone(), resolved.clone()]).is_none());
        for (name, conditions, word, unseen) in [
            (
                "other",
                vec![accepted.clone(), resolved.clone()],
                "nobody",
                true,
            ),
            ("public", vec![], "looked", true),
            (
                "public",
                vec![condition("Accepted", "True", 2), resolved.clone()],
                "looked",
                true,
            ),
            (
                "public",
                vec![accepted.clone(), condition("ResolvedRefs", "True", 2)],
                "looked",
                true,
            ),
            (
                "public",
                vec![condition("Accepted", "False", 3), resolved.clone()],
                "it is so",
                false,
            ),
            (
                "public",
                vec![accepted.clone(), condition("ResolvedRefs", "False", 3)],
                "Because",
                false,
            ),
            (
                "public",
                vec![accepted, resolved, condition("PartiallyInvalid", "True", 3)],
                "PartiallyInvalid",
                false,
            ),
        ] {
            let unserved = unserved(name, &conditions).expect(word);
            let forever = unserved.patience == std::time::Duration::MAX;
            assert_eq!(forever, unseen, "{unserved:?}");
            let said = unserved.why;
            assert!(
                said.contains(word) && said.contains("edge/public"),
                "{said}"
            );
        }
    }
}
