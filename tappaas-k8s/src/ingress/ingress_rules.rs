//! A route as an `Ingress` (`networking.k8s.io/v1`), for clusters without the Gateway API.

use k8s_openapi::api::networking::v1::{
    HTTPIngressPath, HTTPIngressRuleValue, IngressBackend, IngressRule, IngressServiceBackend,
    IngressSpec, ServiceBackendPort,
};
use tappaas_core::{
    Error, Result,
    backend::{Action, Route},
};

use super::shares::{nobody, shares};
use crate::PlatformId;

/// What an `Ingress` says of a route.
///
/// # Errors
/// `Unsupported` or `Denied`, naming what of the route cannot be said.
pub(super) fn spec(
    platform: &PlatformId,
    route: &Route,
    hosts: Vec<String>,
    path: &str,
    class: &str,
) -> Result<IngressSpec> {
    let paths = vec![HTTPIngressPath {
        backend: backend(platform, route)?,
        path: Some(path.to_owned()),
        path_type: "Prefix".to_owned(),
    }];
    let rule = |host| IngressRule {
        host: Some(host),
        http: Some(HTTPIngressRuleValue {
            paths: paths.clone(),
        }),
    };
    Ok(IngressSpec {
        ingress_class_name: Some(class.to_owned()),
        rules: Some(hosts.into_iter().map(rule).collect()),
        ..IngressSpec::default()
    })
}

fn backend(platform: &PlatformId, route: &Route) -> Result<IngressBackend> {
    let cannot = |what: &str| {
        Error::unsupported(format!(
            "route {}: an Ingress {what}: that takes the Gateway API",
            route.id
        ))
    };
    let targets = match &route.action {
        Action::Redirect { .. } => return Err(cannot("does not redirect")),
        Action::Forward {
            strip_prefix: true, ..
        } => return Err(cannot("takes no prefix off")),
        Action::Forward { targets, .. } => targets,
    };
    let shares = shares(platform, &route.id, targets)?;
    let mut sharing = shares.into_iter().filter(|(_, weight)| *weight > 0);
    let service = match (sharing.next(), sharing.next()) {
        (None, _) => nobody(),
        (Some((service, _)), None) => service,
        (Some(_), Some(_)) => return Err(cannot("has one service for a path")),
    };
    Ok(IngressBackend {
        service: Some(IngressServiceBackend {
            name: service.name,
            port: Some(ServiceBackendPort {
                number: Some(service.port.into()),
                ..ServiceBackendPort::default()
            }),
        }),
        ..IngressBackend::default()
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tappaas_core::{
        ErrorKind,
        backend::{Frontend, Target},
    };

    use super::*;
    use crate::ingress::testing::{by_class, endpoint, forward, route};
    use crate::platform::sample;

    #[test]
    fn a_route_is_a_path_of_each_host() {
        let mut route = route("app", "main", "/api/");
        route.frontend = Frontend::Http {
            hosts: ["a.example", "*.b.example"]
                .map(|host| host.parse().unwrap())
                .to_vec(),
            path: "/api/".to_owned(),
        };
        // Who gets nothing need not be said.
        let targets = [("web", 1), ("idle", 0)].map(|(name, weight)| Target {
            weight,
            endpoints: vec![endpoint(&route.id, name)],
        });
        route.action = forward(targets.to_vec());
        let object = by_class().object(&sample(), &route, &[], None).unwrap();
        let backend = json!({ "service": { "name": "web", "port": { "number": 80 } } });
        let http =
            json!({ "paths": [{ "path": "/api", "pathType": "Prefix", "backend": backend }] });
        let expected = json!({ "spec": { "ingressClassName": "public", "rules": [
            { "host": "a.example", "http": http }, { "host": "*.b.example", "http": http },
        ] } });
        assert_eq!(object.data, expected);
    }

    #[test]
    fn what_an_ingress_cannot_say_is_refused() {
        let mut route = route("app", "main", "/");
        let both = ["a", "b"].map(|name| endpoint(&route.id, name)).to_vec();
        let both = Target {
            weight: 1,
            endpoints: both,
        };
        for action in [
            forward(vec![both]),
            Action::Redirect {
                to: "/new".to_owned(),
                status: 302,
            },
            Action::Forward {
                targets: Vec::new(),
                strip_prefix: true,
                hold: std::time::Duration::ZERO,
            },
        ] {
            route.action = action;
            let refused = by_class().object(&sample(), &route, &[], None).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Unsupported, "{refused}");
        }
    }
}
