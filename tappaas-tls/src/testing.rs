//! What this crate's unit tests build routes with.

use std::time::Duration;

use tappaas_core::backend::{Action, Endpoint, Frontend, Route, RouteId, Target};

pub(crate) fn route(name: &str, hosts: &[&str], path: &str, action: Action) -> Route {
    Route {
        id: RouteId {
            application: "default/default/production/app".parse().unwrap(),
            name: name.parse().unwrap(),
        },
        generation: 1,
        frontend: Frontend::Http {
            hosts: hosts.iter().map(|host| host.parse().unwrap()).collect(),
            path: path.to_owned(),
        },
        action,
    }
}

pub(crate) fn forward(endpoints: &[&str]) -> Action {
    Action::Forward {
        targets: vec![target(1, endpoints)],
        strip_prefix: false,
        hold: Duration::ZERO,
    }
}

pub(crate) fn target(weight: u32, endpoints: &[&str]) -> Target {
    let address = |text: &&str| Endpoint::Address(text.parse().unwrap());
    Target {
        weight,
        endpoints: endpoints.iter().map(address).collect(),
    }
}

pub(crate) fn redirect(to: &str, status: u16) -> Action {
    Action::Redirect {
        to: to.to_owned(),
        status,
    }
}
