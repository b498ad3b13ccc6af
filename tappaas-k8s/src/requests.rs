//! How much is asked of the Kubernetes API.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    sync::{Arc, Mutex, PoisonError},
};

use http::{Method, Request, Uri};

/// Counts requests by verb and resource, as the API itself calls them. Clones count together.
#[derive(Clone, Default)]
pub struct Requests {
    counts: Arc<Mutex<BTreeMap<(&'static str, String), u64>>>,
}

/// More kinds of requests are not told apart: nobody makes so many.
const KINDS_MAX: usize = 500;

impl Requests {
    /// How often each was asked: `("list", "pods")`, `("patch", "deployments.apps")`, …
    pub fn counts(&self) -> BTreeMap<(&'static str, String), u64> {
        self.lock().clone()
    }

    /// In the text format of Prometheus; empty if nothing was asked.
    pub fn metrics(&self) -> String {
        const NAME: &str = "tappaas_kubernetes_requests_total";
        let mut text =
            format!("# HELP {NAME} Requests to the Kubernetes API.\n# TYPE {NAME} counter\n");
        let counts = self.lock();
        if counts.is_empty() {
            return String::new();
        }
        for ((verb, resource), count) in &*counts {
            let written = writeln!(
                text,
                "{NAME}{{verb=\"{verb}\",resource=\"{resource}\"}} {count}"
            );
            written.expect("a string takes all");
        }
        text
    }

    pub(crate) fn count<B>(&self, request: &Request<B>) {
        let kind = kind(request.method(), request.uri());
        let mut counts = self.lock();
        if counts.len() < KINDS_MAX || counts.contains_key(&kind) {
            *counts.entry(kind).or_default() += 1;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<(&'static str, String), u64>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(&*self.lock()).finish()
    }
}

/// The verb and the resource of a request (Kubernetes API concepts, "Resource URIs"). A path that names no resource is its own name.
fn kind(method: &Method, uri: &Uri) -> (&'static str, String) {
    let parts: Vec<_> = uri.path().trim_matches('/').split('/').collect();
    let (group, rest) = match parts.as_slice() {
        ["api", _, rest @ ..] => ("", rest),
        ["apis", group, _, rest @ ..] => (*group, rest),
        _ => ("", &[][..]),
    };
    let rest = match rest {
        ["namespaces", _, inner @ ..] if !inner.is_empty() => inner,
        other => other,
    };
    let (resource, named, sub) = match rest {
        [resource] => (*resource, false, None),
        [resource, _] => (*resource, true, None),
        [resource, _, sub, ..] => (*resource, true, Some(*sub)),
        [] => {
            return (
                verb(method, uri, true),
                parts.first().unwrap_or(&"").to_string(),
            );
        }
    };
    let mut name = match sub {
        Some(sub) => format!("{resource}/{sub}"),
        None => resource.to_owned(),
    };
    if !group.is_empty() {
        name = format!("{name}.{group}");
    }
    (verb(method, uri, named), name)
}

fn verb(method: &Method, uri: &Uri, named: bool) -> &'static str {
    let query = uri.query().unwrap_or_default();
    let watches = query
        .split('&')
        .any(|pair| pair == "watch=true" || pair == "watch=1");
    match *method {
        Method::GET if watches => "watch",
        Method::GET if named => "get",
        Method::GET => "list",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind_of(method: &Method, path: &str) -> String {
        let (verb, resource) = kind(method, &path.parse().unwrap());
        format!("{verb} {resource}")
    }

    #[test]
    fn requests_are_called_as_the_api_calls_them() {
        for (method, path, named) in [
            (Method::GET, "/api/v1/pods?limit=5", "list pods"),
            (Method::GET, "/api/v1/namespaces/a", "get namespaces"),
            (
                Method::GET,
                "/api/v1/namespaces/a/pods?&watch=true&x=1",
                "watch pods",
            ),
            (
                Method::GET,
                "/api/v1/namespaces/a/pods/b/log",
                "get pods/log",
            ),
            (
                Method::PATCH,
                "/apis/apps/v1/namespaces/a/deployments/b?fieldManager=tappaas",
                "patch deployments.apps",
            ),
            (
                Method::PUT,
                "/apis/tappaas.dev/v1/namespaces/a/applications/b/status",
                "update applications/status.tappaas.dev",
            ),
            (Method::GET, "/version", "get version"),
        ] {
            assert_eq!(kind_of(&method, path), named, "{path}");
        }
    }

    #[test]
    fn clones_count_together() {
        let requests = Requests::default();
        let clone = requests.clone();
        let request = Request::get("/api/v1/nodes").body(()).unwrap();
        clone.count(&request);
        requests.count(&request);
        assert_eq!(clone.counts(), [(("list", "nodes".to_owned()), 2)].into());
        let line = "tappaas_kubernetes_requests_total{verb=\"list\",resource=\"nodes\"} 2\n";
        assert!(clone.metrics().ends_with(line), "{}", clone.metrics());
    }
}
