use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::benchmarks::Course;
use super::figure::{Figure, Goal};
use super::program::{PRECEDENCE, Printed, Server, output_of};
use crate::Result;
use crate::platform::free_port;
use crate::scratch::{Scratch, path_text};
use crate::tools;
use crate::waiting::within;

const HOST: &str = "bench.localhost";
const CONNECTIONS: u32 = 64;
/// How long each of them is asked, each round.
const SECONDS: u32 = 5;
/// What is proxied: 60 bytes.
const PAGE: &str = "a page of sixty bytes, which is served from memory at once.";
/// The core of what is measured, and that of its load and what it asks.
const PROXY_CORE: &str = "0";
const LOAD_CORE: &str = "1";
const START_MAX: Duration = Duration::from_secs(10);

pub(super) fn measure(course: &Course) -> Result<Vec<Figure>> {
    if std::thread::available_parallelism()?.get() < 2 {
        return Err("this needs two cores: one for a proxy, one for the load".into());
    }
    let scratch = Scratch::new("bench-proxy")?;
    let folder = &scratch.path;
    let origin = free_port()?;
    let answer = format!("return 200 \"{PAGE}\";");
    let _origin = nginx(folder, "origin", (origin, LOAD_CORE), "off", &answer)?;
    let quiet = [
        Proxy::edge(course, folder, origin, &["no-log"])?,
        haproxy(folder, origin)?,
        nginx_proxy(folder, origin, "off")?,
        envoy(course, folder, origin)?,
    ];
    let rates = fastest(course, &quiet)?;
    let half = rates
        .iter()
        .flatten()
        .copied()
        .fold(f64::INFINITY, f64::min)
        / 2.0;
    let slowest = at_a_rate(course, &quiet, half)?;
    drop(quiet);
    let log = path_text(&folder.join("nginx-access.log"))?.to_owned();
    let logging = [
        Proxy::edge(course, folder, origin, &[])?,
        nginx_proxy(folder, origin, &log)?,
    ];
    let [edge, nginx] = fastest(course, &logging)?;
    drop(logging);
    scratch.remove()?;
    let beside = |what: String, unit, [ours, haproxy, nginx, envoy]: [Vec<f64>; 4]| {
        Figure::new(what, unit, ours)
            .beside("haproxy", haproxy)
            .beside("nginx", nginx)
            .beside("envoy", envoy)
    };
    Ok(vec![
        beside(
            format!("HTTP/1.1, keep-alive, {CONNECTIONS} connections"),
            "req/s",
            rates,
        )
        .goal(Goal::MinRatio(0.9)),
        beside(
            format!("p99 at {half:.0} req/s, half of the slowest"),
            "ms",
            slowest,
        )
        .goal(Goal::MaxRatio(1.2)),
        Figure::new("the same with an access log", "req/s", edge).beside("nginx", nginx),
    ])
}

/// A proxy on a core of its own. It ends when this is dropped.
struct Proxy {
    port: u16,
    _server: Server,
    /// Of ours: the process that outlives the one that started it.
    edge: Option<String>,
}

impl Proxy {
    fn edge(course: &Course, folder: &Path, origin: u16, more: &[&str]) -> Result<Self> {
        let state = folder.join(format!("edge{}", more.concat()));
        let port = free_port()?;
        let mut command = pinned(PROXY_CORE, &course.release.join("examples/edge"));
        command
            .arg(&state)
            .arg(format!("127.0.0.1:{port}"))
            .arg(HOST);
        let server = Server::start(command.arg(format!("127.0.0.1:{origin}")).args(more), port)?;
        let found = Self {
            port,
            edge: edge_of(&state)?,
            _server: server,
        };
        // The address is open before the route is there.
        within(START_MAX, || Ok(asked(port)?.starts_with(b"HTTP/1.0 200")))?;
        Ok(found)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(pid) = &self.edge {
            // One that has ended already needs no end.
            let _ = Command::new("kill").arg("-KILL").arg(pid).status();
        }
    }
}

/// The process of ours that has `state` as its second argument.
fn edge_of(state: &Path) -> Result<Option<String>> {
    let state = path_text(state)?;
    for entry in fs::read_dir("/proc")?.flatten() {
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).into_owned();
        if command.split('\0').skip(1).take(2).eq(["__edge", state]) {
            return Ok(Some(entry.file_name().to_string_lossy().into_owned()));
        }
    }
    Ok(None)
}

fn asked(port: u16) -> Result<Vec<u8>> {
    crate::http::fetch(HOST, "/", port)
}

fn haproxy(folder: &Path, origin: u16) -> Result<Proxy> {
    let port = free_port()?;
    let config = format!(
        "global\n  nbthread 1\n  maxconn 4096\ndefaults\n  mode http\n  timeout connect 2s\n  timeout client 75s\n  timeout server 60s\n  \
         option forwardfor\n  http-reuse always\nfrontend f\n  bind 127.0.0.1:{port}\n  default_backend b\nbackend b\n  \
         server origin 127.0.0.1:{origin}\n"
    );
    let path = folder.join("haproxy.cfg");
    fs::write(&path, config)?;
    let mut command = pinned(PROXY_CORE, Path::new("haproxy"));
    let server = Server::start(command.arg("-db").arg("-f").arg(path), port)?;
    Ok(Proxy {
        port,
        _server: server,
        edge: None,
    })
}

/// With one worker, no access log, and everything else by its defaults.
fn envoy(course: &Course, folder: &Path, origin: u16) -> Result<Proxy> {
    let port = free_port()?;
    let path = folder.join("envoy.json");
    let config = ENVOY.replace("ORIGIN_PORT", &origin.to_string());
    fs::write(&path, config.replace("PROXY_PORT", &port.to_string()))?;
    let mut command = pinned(PROXY_CORE, &course.root.join(tools::ENVOY_PROGRAM));
    command.args(["--concurrency", "1", "--base-id", &port.to_string()]);
    command.args(["--log-level", "off"]);
    let server = Server::start(command.arg("--config-path").arg(path), port)?;
    Ok(Proxy {
        port,
        _server: server,
        edge: None,
    })
}

const ENVOY: &str = r#"{"static_resources": {
  "listeners": [{
    "address": {"socket_address": {"address": "127.0.0.1", "port_value": PROXY_PORT}},
    "filter_chains": [{"filters": [{
      "name": "envoy.filters.network.http_connection_manager",
      "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench",
        "use_remote_address": true,
        "generate_request_id": false,
        "http_filters": [{
          "name": "envoy.filters.http.router",
          "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}
        }],
        "route_config": {"virtual_hosts": [{
          "name": "bench", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "origin"}}]
        }]}
      }
    }]}]
  }],
  "clusters": [{
    "name": "origin",
    "type": "STATIC",
    "load_assignment": {"cluster_name": "origin", "endpoints": [{"lb_endpoints": [{
      "endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": ORIGIN_PORT}}}
    }]}]}
  }]
}}"#;

fn nginx_proxy(folder: &Path, origin: u16, log: &str) -> Result<Proxy> {
    let port = free_port()?;
    let forward = format!(
        "proxy_pass http://127.0.0.1:{origin}; proxy_http_version 1.1; proxy_set_header Connection \"\"; \
         proxy_set_header Host $host; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;"
    );
    // The connections to the origin are kept by an upstream of that name.
    let forward = forward.replace(&format!("//127.0.0.1:{origin}"), "//origin");
    let upstream = format!("upstream origin {{ server 127.0.0.1:{origin}; keepalive 256; }}");
    let name = format!("proxy-{port}");
    let server = nginx_with(folder, &name, (port, PROXY_CORE), log, &upstream, &forward)?;
    Ok(Proxy {
        port,
        _server: server,
        edge: None,
    })
}

fn nginx(
    folder: &Path,
    name: &str,
    place: (u16, &str),
    log: &str,
    location: &str,
) -> Result<Server> {
    nginx_with(folder, name, place, log, "", location)
}

/// An nginx with one worker that serves one location.
fn nginx_with(
    folder: &Path,
    name: &str,
    (port, core): (u16, &str),
    log: &str,
    before: &str,
    location: &str,
) -> Result<Server> {
    let home = folder.join(name);
    fs::create_dir(&home)?;
    let shown = path_text(&home)?;
    let config = format!(
        "daemon off; master_process off; worker_processes 1; pid {shown}/pid; error_log {shown}/error.log;\n\
         events {{ worker_connections 4096; }}\nhttp {{ access_log {log}; keepalive_requests 1000000000; \
         client_body_temp_path {shown}/a; proxy_temp_path {shown}/b; fastcgi_temp_path {shown}/c; uwsgi_temp_path {shown}/d; \
         scgi_temp_path {shown}/e; {before}\n\
         server {{ listen 127.0.0.1:{port} reuseport; default_type text/plain; location / {{ {location} }} }} }}\n"
    );
    let path = home.join("nginx.conf");
    fs::write(&path, config)?;
    let mut command = pinned(core, Path::new("nginx"));
    Server::start(command.arg("-p").arg(&home).arg("-c").arg(path), port)
}

/// With the precedence that the edge takes, so that its peers and what asks them have it as well.
fn pinned(core: &str, program: &Path) -> Command {
    let mut command = Command::new("nice");
    command.args(["-n", PRECEDENCE, "taskset", "--cpu-list", core]);
    command.arg(program);
    command
}

/// How many requests a second each of them answers when it has all it can take. One short turn first warms all up.
fn fastest<const N: usize>(course: &Course, proxies: &[Proxy; N]) -> Result<[Vec<f64>; N]> {
    let mut rates = std::array::from_fn(|_| Vec::new());
    for proxy in proxies {
        requests(proxy.port, 1)?;
    }
    for _ in 0..course.rounds {
        for (proxy, rates) in proxies.iter().zip(&mut rates) {
            rates.push(requests(proxy.port, SECONDS)?);
        }
    }
    Ok(rates)
}

fn requests(port: u16, seconds: u32) -> Result<f64> {
    let mut command = pinned(LOAD_CORE, Path::new("wrk"));
    command.args([
        "-t",
        "1",
        "-c",
        &CONNECTIONS.to_string(),
        "-d",
        &format!("{seconds}s"),
    ]);
    command.args([
        "-H",
        &format!("Host: {HOST}"),
        &format!("http://127.0.0.1:{port}/"),
    ]);
    rate_in(&output_of(&mut command)?)
}

fn rate_in(printed: &str) -> Result<f64> {
    let lines = || printed.lines().map(str::trim);
    if let Some(failed) =
        lines().find(|line| line.starts_with("Non-2xx") || line.starts_with("Socket errors"))
    {
        return Err(format!("requests failed: {failed}").into());
    }
    let rate = lines().find_map(|line| line.strip_prefix("Requests/sec:"));
    Ok(rate.ok_or("wrk printed no rate")?.trim().parse()?)
}

/// The 99th percentile of latencies, in milliseconds, when so many requests a second are made.
fn at_a_rate<const N: usize>(
    course: &Course,
    proxies: &[Proxy; N],
    rate: f64,
) -> Result<[Vec<f64>; N]> {
    let mut slowest = std::array::from_fn(|_| Vec::new());
    for _ in 0..course.rounds {
        for (proxy, slowest) in proxies.iter().zip(&mut slowest) {
            let mut command = pinned(LOAD_CORE, &course.release.join("examples/pace"));
            command.args([&format!("127.0.0.1:{}", proxy.port), HOST]);
            command.args([
                CONNECTIONS.to_string(),
                format!("{rate:.0}"),
                SECONDS.to_string(),
            ]);
            slowest.push(Printed::by(&mut command)?.one("p99-ms")?);
        }
    }
    Ok(slowest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_counts_only_without_failures() {
        let rate = rate_in("  Latency 1ms\nRequests/sec:  20123.45\nTransfer/sec: 3MB\n").unwrap();
        assert!((rate - 20123.45).abs() < 1e-6);
        let failed = "  Non-2xx or 3xx responses: 3\nRequests/sec: 1.0\n";
        assert!(
            rate_in(failed)
                .unwrap_err()
                .to_string()
                .contains("responses: 3")
        );
    }
}
