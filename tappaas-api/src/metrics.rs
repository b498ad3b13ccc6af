use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use axum::{
    extract::{MatchedPath, Request, State as FromState},
    middleware::Next,
    response::Response,
};
use futures::{
    FutureExt as _,
    future::{BoxFuture, join_all},
};
use http::Method;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, text},
    metrics::{MetricType, counter::Counter, family::Family, histogram::Histogram},
    registry::Registry,
};
use serde::Serialize;
use serde_json::Value;
use tappaas_core::{
    Chain, Kind, Result, Scope,
    client::Client,
    model::{ApplicationSpec, BuildObjectSpec, OperationSpec},
};

/// How long another's figures may take.
const SOURCE_TIMEOUT: Duration = Duration::from_secs(2);

/// The upper bounds, in seconds, by which the durations of requests are counted.
const DURATION_BOUNDS: [f64; 7] = [0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0];

/// The end mark of an OpenMetrics text.
const END: &str = "# EOF\n";

/// The platform's own figures, and where those of others come from.
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    duration: Family<RouteLabels, Histogram>,
    failures: Family<SourceLabels, Counter>,
    sources: Vec<Source>,
}

/// Figures that another part of the program keeps.
pub struct Source {
    name: &'static str,
    read: Box<dyn Fn() -> BoxFuture<'static, Result<String>> + Send + Sync>,
}

impl Source {
    /// Names a part of the program, and says how to read its figures: OpenMetrics text whose names begin with `tappaas_<name>_`.
    pub fn new<F>(name: &'static str, read: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<String>> + Send + 'static,
    {
        Self {
            name,
            read: Box::new(move || read().boxed()),
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Source").field(&self.name).finish()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics")
            .field("sources", &self.sources)
            .finish_non_exhaustive()
    }
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct RequestLabels {
    method: &'static str,
    route: String,
    status: u16,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct RouteLabels {
    method: &'static str,
    route: String,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct SourceLabels {
    source: &'static str,
}

impl Metrics {
    /// The media type of the figures.
    pub const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

    /// Keeps figures about what is in a platform's store and about requests.
    pub fn new(client: &Client, sources: Vec<Source>) -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("tappaas"),
            requests: Family::default(),
            duration: Family::new_with_constructor(|| Histogram::new(DURATION_BOUNDS)),
            failures: Family::default(),
            sources,
        };
        let registry = &mut metrics.registry;
        let requests = metrics.requests.clone();
        registry.register(
            "api_requests",
            "Requests to the API that were answered",
            requests,
        );
        let duration = metrics.duration.clone();
        let help = "Seconds from a request to the API to the head of its answer";
        registry.register("api_request_duration_seconds", help, duration);
        let failures = metrics.failures.clone();
        registry.register(
            "metrics_failures",
            "Times that figures could not be read",
            failures,
        );
        registry.register_collector(Box::new(Objects(client.clone())));
        metrics
    }

    /// The figures at this moment as OpenMetrics text. What cannot be read in time is left out and counted.
    pub async fn render(&self) -> String {
        let others = join_all(self.sources.iter().map(|source| async {
            let read = tokio::time::timeout(SOURCE_TIMEOUT, (source.read)()).await;
            let why = match read {
                Ok(Ok(text)) => return text,
                Ok(Err(error)) => Chain(&error).to_string(),
                Err(_) => "it takes too long".to_owned(),
            };
            tracing::warn!(source = source.name, why, "figures cannot be read");
            let labels = SourceLabels {
                source: source.name,
            };
            self.failures.get_or_create(&labels).inc();
            String::new()
        }));
        let others = others.await;
        let mut whole = String::new();
        // Writing to a string does not fail.
        let _ = text::encode(&mut whole, &self.registry);
        for text in std::iter::once(std::mem::take(&mut whole)).chain(others) {
            whole.push_str(text.strip_suffix(END).unwrap_or(&text));
        }
        whole + END
    }
}

/// Counts a request and its answer.
pub(crate) async fn count(
    FromState(metrics): FromState<Arc<Metrics>>,
    request: Request,
    next: Next,
) -> Response {
    let method = known(request.method());
    let route = request.extensions().get::<MatchedPath>();
    let route = route.map_or("none", MatchedPath::as_str).to_owned();
    let started = tokio::time::Instant::now();
    let response = next.run(request).await;
    let labels = RouteLabels {
        method,
        route: route.clone(),
    };
    let duration = metrics.duration.get_or_create(&labels);
    duration.observe(started.elapsed().as_secs_f64());
    drop(duration);
    let labels = RequestLabels {
        method,
        route,
        status: response.status().as_u16(),
    };
    metrics.requests.get_or_create(&labels).inc();
    response
}

/// A caller can make up methods; labels must stay few.
fn known(method: &Method) -> &'static str {
    match *method {
        Method::DELETE => "DELETE",
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        Method::PATCH => "PATCH",
        Method::POST => "POST",
        Method::PUT => "PUT",
        _ => "other",
    }
}

/// Figures about what is in the store.
#[derive(Debug)]
struct Objects(Client);

impl Collector for Objects {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let everywhere = Scope::cluster();
        let kinds = Kind::ALL.into_iter();
        let objects = kinds.map(|kind| {
            (
                kind.as_str().to_owned(),
                self.0.keys(kind, &everywhere).len(),
            )
        });
        gauge(
            &mut encoder,
            "objects",
            "Objects in the store",
            "kind",
            objects.collect(),
        )?;

        let applications = self.0.list::<ApplicationSpec>(&everywhere);
        let phases = count_by(
            applications
                .iter()
                .map(|application| application.status.phase),
        );
        gauge(
            &mut encoder,
            "applications",
            "Applications",
            "phase",
            phases,
        )?;
        let builds = self.0.list::<BuildObjectSpec>(&everywhere);
        let phases = count_by(builds.iter().map(|build| build.status.phase));
        gauge(
            &mut encoder,
            "builds",
            "Builds that are kept",
            "phase",
            phases,
        )?;
        let operations = self.0.list::<OperationSpec>(&everywhere);
        let states = count_by(operations.iter().map(|operation| operation.status.state));
        gauge(
            &mut encoder,
            "operations",
            "Operations that are kept",
            "state",
            states,
        )?;

        let processes = || {
            applications
                .iter()
                .flat_map(|application| application.status.processes.values())
        };
        let instances = BTreeMap::from([
            (
                "ready".to_owned(),
                processes().map(|process| process.ready as usize).sum(),
            ),
            (
                "wanted".to_owned(),
                processes().map(|process| process.wanted as usize).sum(),
            ),
        ]);
        gauge(
            &mut encoder,
            "instances",
            "Instances of all applications",
            "state",
            instances,
        )
    }
}

/// How many there are of each, called as on the wire.
fn count_by(states: impl Iterator<Item = impl Serialize>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for state in states {
        if let Ok(Value::String(name)) = serde_json::to_value(state) {
            *counts.entry(name).or_default() += 1;
        }
    }
    counts
}

fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    label: &str,
    values: BTreeMap<String, usize>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (value, count) in values {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        family
            .encode_family(&[(label, value)])?
            .encode_gauge(&count)?;
    }
    Ok(())
}
