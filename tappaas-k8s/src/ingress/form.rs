use std::{fmt, time::Duration};

use kube::api::{ApiResource, DynamicObject, TypeMeta};
use serde::Deserialize as _;
use serde_json::{Value, json};
use tappaas_core::{
    Error, Result,
    backend::{Frontend, IngressCapabilities, Route},
    model::Host,
};

use super::{
    Gateway, http_route, ingress_rules,
    mark::{self, MANAGER},
    shares::Service,
};
use crate::PlatformId;

/// How long what is refused may be so only because a service that it leads to has not been seen yet.
const REFUSED: Duration = Duration::from_secs(5);

/// As what routes are kept.
#[derive(Debug)]
pub(super) enum Form {
    /// `HTTPRoute`s of a Gateway.
    Gateway {
        gateway: Gateway,
        /// The statuses that redirects can have.
        redirects: Vec<u16>,
    },
    /// `Ingress`es of a class.
    Ingress { class: String },
}

impl Form {
    pub(super) fn resource(&self) -> ApiResource {
        let (group, kind, plural) = match self {
            Self::Gateway { .. } => (http_route::GROUP, "HTTPRoute", "httproutes"),
            Self::Ingress { .. } => ("networking.k8s.io", "Ingress", "ingresses"),
        };
        ApiResource {
            group: group.to_owned(),
            version: "v1".to_owned(),
            api_version: format!("{group}/v1"),
            kind: kind.to_owned(),
            plural: plural.to_owned(),
        }
    }

    pub(super) fn capabilities(&self) -> IngressCapabilities {
        let (gateway, redirects) = match self {
            Self::Gateway { redirects, .. } => (true, redirects.clone()),
            Self::Ingress { .. } => (false, Vec::new()),
        };
        IngressCapabilities {
            address_endpoints: false,
            dial_endpoints: false,
            service_endpoints: true,
            inner: false,
            atomic: gateway,
            one_label: !gateway,
            splits: gateway,
            strips: gateway,
            redirects,
            retries: false,
            holds: false,
            drains: false,
            signals: false,
        }
    }

    /// The object of a route, to be applied to one of this version. It names services besides that get no requests.
    ///
    /// # Errors
    /// `Invalid`, `Unsupported` or `Denied`, naming what of the route cannot be kept.
    pub(super) fn object(
        &self,
        platform: &PlatformId,
        route: &Route,
        idle: &[Service],
        version: Option<String>,
    ) -> Result<DynamicObject> {
        let (hosts, path) = outside(route)?;
        let hosts = hosts.iter().map(ToString::to_string).collect();
        let spec = match self {
            Self::Gateway { gateway, redirects } => {
                let spec =
                    http_route::spec(platform, route, idle, hosts, path, gateway, redirects)?;
                serde_json::to_value(spec)
            }
            Self::Ingress { class } => {
                serde_json::to_value(ingress_rules::spec(platform, route, hosts, path, class)?)
            }
        };
        let spec = spec.map_err(|error| {
            Error::internal(format!("route {} cannot be written", route.id)).with_source(error)
        })?;
        let resource = self.resource();
        Ok(DynamicObject {
            types: Some(TypeMeta {
                api_version: resource.api_version,
                kind: resource.kind,
            }),
            metadata: mark::metadata(platform, route, !idle.is_empty(), version)?,
            data: json!({ "spec": spec }),
        })
    }

    /// Why an object is not served as it is to be; `None` if it is, as far as anybody tells.
    pub(super) fn unserved(&self, object: &DynamicObject) -> Option<Unserved> {
        if let Some(field) = self.fields().iter().find(|field| !ours(object, field)) {
            return Some(Unserved::changed(format!(
                "somebody else changed its `spec.{field}`"
            )));
        }
        if let Some(why) = self.elsewhere(object) {
            return Some(Unserved::changed(why));
        }
        let Self::Gateway { gateway, .. } = self else {
            return None;
        };
        let metadata = &object.metadata;
        let status = object.data.get("status").unwrap_or(&Value::Null);
        let status = Option::<http_route::HttpRouteStatus>::deserialize(status);
        let status = match status {
            Ok(status) => status.unwrap_or_default(),
            Err(error) => {
                let why = format!("its status cannot be read: {error}");
                return Some(Unserved::refused(why));
            }
        };
        let namespace = metadata.namespace.as_deref().unwrap_or_default();
        status.unserved(gateway, namespace, metadata.generation.unwrap_or_default())
    }

    /// That an object was written for others than serve now, which the settings of before named.
    fn elsewhere(&self, object: &DynamicObject) -> Option<String> {
        let spec = &object.data["spec"];
        let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
        match self {
            Self::Gateway { gateway, .. } => {
                let attached = http_route::is_attached(&spec["parentRefs"], gateway, namespace);
                (!attached).then(|| format!("it is not attached to {gateway}"))
            }
            Self::Ingress { class } => {
                let other = spec["ingressClassName"] != *class.as_str();
                other.then(|| format!("it is not of ingress class {class}"))
            }
        }
    }

    /// The fields of the spec that are written.
    fn fields(&self) -> &'static [&'static str] {
        match self {
            Self::Gateway { .. } => &["hostnames", "parentRefs", "rules"],
            Self::Ingress { .. } => &["ingressClassName", "rules"],
        }
    }
}

/// Why an object is not served.
#[derive(Debug)]
pub(super) struct Unserved {
    pub(super) why: String,
    /// For how long it may pass by itself; after that, applying the object again may help.
    pub(super) patience: Duration,
}

impl Unserved {
    /// Nobody has looked at it yet: nobody can do anything about that.
    pub(super) fn unseen(why: String) -> Self {
        let patience = Duration::MAX;
        Self { why, patience }
    }

    /// It was looked at and found wrong, perhaps only before all that it refers to was seen.
    pub(super) fn refused(why: String) -> Self {
        let patience = REFUSED;
        Self { why, patience }
    }

    /// It is not as it is to be written.
    pub(super) fn changed(why: String) -> Self {
        let patience = Duration::ZERO;
        Self { why, patience }
    }
}

/// Whether a field of the spec has the value that was written. Whoever gives it another takes it away from the others.
fn ours(object: &DynamicObject, field: &str) -> bool {
    let managed = object.metadata.managed_fields.iter().flatten();
    let mut own = managed.filter(|entry| entry.manager.as_deref() == Some(MANAGER));
    own.any(|entry| {
        let fields = entry.fields_v1.as_ref();
        let spec = fields.and_then(|fields| fields.0.get("f:spec"));
        spec.is_some_and(|spec| spec.get(format!("f:{field}")).is_some())
    })
}

fn outside(route: &Route) -> Result<(&[Host], &str)> {
    let invalid = |fault| Err(Error::invalid(format!("route {}: {fault}", route.id)));
    match &route.frontend {
        Frontend::Inner { .. } => Err(Error::unsupported(format!(
            "route {} is from inside: on Kubernetes services are for that",
            route.id
        ))),
        Frontend::Http { hosts, .. } if hosts.is_empty() => invalid("it needs a host"),
        Frontend::Http { path, .. } if !path.starts_with('/') => {
            invalid("its path must start with `/`")
        }
        Frontend::Http { hosts, path } => Ok((
            hosts,
            match path.trim_end_matches('/') {
                "" => "/",
                path => path,
            },
        )),
    }
}

impl fmt::Display for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gateway {}/{}", self.namespace, self.name)?;
        match &self.section {
            Some(section) => write!(f, ", listener {section}"),
            None => Ok(()),
        }
    }
}
