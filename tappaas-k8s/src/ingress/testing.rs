//! Routes for unit tests.

use std::time::Duration;

use kube::api::DynamicObject;
use tappaas_core::{
    Name,
    backend::{Action, Endpoint, Frontend, Route, RouteId, Target},
    model::ApplicationKey,
};

use super::{Gateway, form::Form, mark::Place};
use crate::platform::sample;

/// A route of `app.example` to nobody.
pub(super) fn route(application: &str, name: &str, path: &str) -> Route {
    let [tenant, project, environment, application, name] =
        ["acme", "shop", "production", application, name].map(|name| Name::new(name).unwrap());
    Route {
        id: RouteId {
            application: ApplicationKey {
                tenant,
                project,
                environment,
                name: application,
            },
            name,
        },
        generation: 1,
        frontend: Frontend::Http {
            hosts: vec!["app.example".parse().unwrap()],
            path: path.to_owned(),
        },
        action: forward(Vec::new()),
    }
}

pub(super) fn forward(targets: Vec<Target>) -> Action {
    Action::Forward {
        targets,
        strip_prefix: false,
        hold: Duration::ZERO,
    }
}

/// Port 80 of a service of the route's namespace.
pub(super) fn endpoint(id: &RouteId, service: &str) -> Endpoint {
    let namespace = Place::of(&sample(), id).namespace;
    Endpoint::Service {
        host: format!("{service}.{namespace}.svc"),
        port: 80,
    }
}

/// The Gateway `edge/public`.
pub(super) fn gateway() -> Gateway {
    Gateway {
        namespace: "edge".to_owned(),
        name: "public".to_owned(),
        section: None,
    }
}

/// Routes of that Gateway, in a version of the Gateway API that knows no 308.
pub(super) fn by_gateway() -> Form {
    Form::Gateway {
        gateway: gateway(),
        redirects: vec![301, 302],
    }
}

/// Ingresses of the class `public`.
pub(super) fn by_class() -> Form {
    Form::Ingress {
        class: "public".to_owned(),
    }
}

pub(super) fn object(route: &Route) -> DynamicObject {
    by_gateway().object(&sample(), route, &[], None).unwrap()
}
