use std::{
    fmt,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet, text},
    metrics::MetricType,
    registry::Registry,
};

use crate::{
    plane::{BOUNDS_US, RouteState, Snapshot},
    proxy::Context,
};

/// The figures of an edge in Prometheus's text format, read from the counters at this moment.
pub(crate) fn render(context: &Arc<Context>) -> String {
    let mut registry = Registry::with_prefix("tappaas_edge");
    registry.register_collector(Box::new(Figures(Arc::clone(context))));
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = text::encode(&mut out, &registry);
    out
}

#[derive(Debug)]
struct Figures(Arc<Context>);

impl Collector for Figures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let router = self.0.plane.router();
        let routes: Vec<_> = router
            .routes
            .values()
            .map(|route| (&**route, route.stats.snapshot()))
            .collect();
        self.edge(&mut encoder, router.generation)?;
        answers(&mut encoder, &routes)?;
        latency(&mut encoder, &routes)?;
        type Count = fn(&Snapshot) -> u64;
        let counters: [(&str, &str, Count); 3] = [
            ("route_sent_bytes", "Bytes of answers' bodies", |figures| {
                figures.sent_bytes
            }),
            (
                "route_retries",
                "Requests sent again over a new connection",
                |figures| figures.retries,
            ),
            (
                "route_abandoned",
                "Requests whose answer did not reach the client whole",
                |figures| figures.abandoned,
            ),
        ];
        for (name, help, count) in counters {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (route, figures) in &routes {
                family
                    .encode_family(&labels(route))?
                    .encode_counter::<NoLabelSet, _, u64>(&count(figures), None)?;
            }
        }
        let gauges: [(&str, &str, Count); 2] = [
            (
                "route_in_flight",
                "Requests and upgraded connections in flight",
                |figures| figures.in_flight,
            ),
            (
                "route_waiting",
                "Requests that wait because there is no endpoint",
                |figures| figures.waiting,
            ),
        ];
        for (name, help, count) in gauges {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (route, figures) in &routes {
                family
                    .encode_family(&labels(route))?
                    .encode_gauge(&count(figures))?;
            }
        }
        endpoints(&mut encoder, &routes)
    }
}

impl Figures {
    fn edge(&self, encoder: &mut DescriptorEncoder<'_>, generation: u64) -> fmt::Result {
        let context = &self.0;
        let totals = &context.totals;
        let log = context.log.as_ref();
        let draining: u64 = context
            .plane
            .draining()
            .iter()
            .map(|(_, draining)| draining.in_flight)
            .sum();
        for (name, help, value) in [
            (
                "table_generation",
                "The generation of the route table in use",
                generation,
            ),
            (
                "connections_open",
                "Client connections open",
                totals.open.load(Relaxed),
            ),
            (
                "draining_in_flight",
                "Requests in flight to endpoints that are in no route any more",
                draining,
            ),
        ] {
            encoder
                .encode_descriptor(name, help, None, MetricType::Gauge)?
                .encode_gauge(&value)?;
        }
        for (name, help, value) in [
            (
                "connections",
                "Client connections taken",
                totals.accepted.load(Relaxed),
            ),
            (
                "connections_timed_out",
                "Client connections closed for being slow or silent",
                totals.timed_out.load(Relaxed),
            ),
            (
                "unrouted_requests",
                "Requests answered without a route",
                totals.unrouted.load(Relaxed),
            ),
            (
                "endpoint_refusals",
                "Connections that endpoints did not take",
                totals.refused.load(Relaxed),
            ),
            (
                "access_log_dropped_lines",
                "Access log lines dropped",
                log.map_or(0, |log| log.dropped()),
            ),
            (
                "access_log_failed_writes",
                "Writes to the access log that failed",
                log.map_or(0, |log| log.failed()),
            ),
        ] {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            metric.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
        }
        Ok(())
    }
}

type Labels<'a> = [(&'static str, &'a str); 1];

fn labels(route: &RouteState) -> Labels<'_> {
    [("route", &route.label)]
}

fn answers(encoder: &mut DescriptorEncoder<'_>, routes: &[(&RouteState, Snapshot)]) -> fmt::Result {
    let mut family = encoder.encode_descriptor(
        "requests",
        "Requests answered, by class of status",
        None,
        MetricType::Counter,
    )?;
    for (route, figures) in routes {
        for (class, count) in ["1xx", "2xx", "3xx", "4xx", "5xx"]
            .into_iter()
            .zip(figures.classes)
        {
            let labels = [("route", &*route.label), ("status", class)];
            family
                .encode_family(&labels)?
                .encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
    }
    Ok(())
}

/// Every fourth of the buckets kept: enough to see, with a tenth of the series.
fn latency(encoder: &mut DescriptorEncoder<'_>, routes: &[(&RouteState, Snapshot)]) -> fmt::Result {
    let help = "Seconds from a request to the head of its answer";
    let mut family = encoder.encode_descriptor(
        "request_duration_seconds",
        help,
        None,
        MetricType::Histogram,
    )?;
    for (route, figures) in routes {
        family
            .encode_family(&labels(route))
            .and_then(|encoder| Latency(figures).encode(encoder))?;
    }
    Ok(())
}

struct Latency<'a>(&'a Snapshot);

impl EncodeMetric for Latency<'_> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let mut buckets: Vec<(f64, u64)> = Vec::new();
        let mut count = 0;
        for (i, seen) in self.0.latency.iter().enumerate() {
            count += seen;
            match BOUNDS_US.get(i) {
                None => buckets.push((f64::MAX, count)),
                #[expect(
                    clippy::cast_precision_loss,
                    reason = "bounds are far below 2^52 microseconds"
                )]
                Some(bound) if i % 4 == 3 => buckets.push((*bound as f64 / 1e6, count)),
                Some(_) => continue,
            }
            count = 0;
        }
        #[expect(
            clippy::cast_precision_loss,
            reason = "a sum of seconds needs no more than 52 bits"
        )]
        let sum = self.0.latency_sum_us as f64 / 1e6;
        let total = buckets.iter().map(|(_, count)| count).sum();
        encoder.encode_histogram::<NoLabelSet>(sum, total, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

fn endpoints(
    encoder: &mut DescriptorEncoder<'_>,
    routes: &[(&RouteState, Snapshot)],
) -> fmt::Result {
    let help = "Endpoints of a route that are passed over because they took no connection";
    let mut family =
        encoder.encode_descriptor("route_ejected_endpoints", help, None, MetricType::Gauge)?;
    for (route, _) in routes {
        let ejected = route
            .seats()
            .filter(|seat| seat.upstream().health.failing())
            .count() as u64;
        family
            .encode_family(&labels(route))?
            .encode_gauge(&ejected)?;
    }
    Ok(())
}
