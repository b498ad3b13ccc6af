use std::fs;
use std::path::Path;
use std::time::Duration;

use super::benchmarks::Course;
use super::figure::{Figure, Goal, quantile};
use super::socket::{Session, read_for};
use crate::Result;
use crate::platform::Platform;
use crate::report::now;
use crate::scratch::{Scratch, path_text};
use crate::waiting::within;

const APPLICATIONS: usize = 10_000;
/// How many requests to deploy are under way at one time.
const DEPLOYERS: usize = 16;
const READERS: usize = 16;
const READ_FOR: Duration = Duration::from_secs(5);
/// For all of them to be released.
const SETTLED_MAX: Duration = Duration::from_secs(1800);
/// For memory that a start took for a moment to be given back.
const CALM: Duration = Duration::from_secs(5);

pub(super) fn measure(course: &Course) -> Result<Vec<Figure>> {
    let scratch = Scratch::new("bench-server")?;
    let mut platform = Platform::new(&course.release.join("tappaas"), &scratch.path)?;
    platform.serve()?;
    within(CALM, || Ok(false))?;
    let idle = resident_mb(&platform)?;
    let began = now();
    fill(&platform, &scratch.path)?;
    println!(
        "{APPLICATIONS} applications after {:.0} s",
        began.elapsed().as_secs_f64()
    );
    let (mut ready, mut resident) = (Vec::new(), Vec::new());
    let (mut rates, mut slowest) = (Vec::new(), Vec::new());
    for _ in 0..course.rounds {
        platform.kill_server()?;
        let began = now();
        platform.serve()?;
        ready.push(began.elapsed().as_secs_f64());
        within(CALM, || Ok(false))?;
        resident.push(resident_mb(&platform)?);
        let latencies = read_for(&platform.socket(), READERS, READ_FOR, application)?;
        rates.push(latencies.len() as f64 / READ_FOR.as_secs_f64());
        slowest.extend(quantile(&latencies, 0.99));
    }
    platform.stop()?;
    drop(platform);
    scratch.remove()?;
    Ok(vec![
        Figure::new(
            "from a crash to ready, with 10,000 applications",
            "s",
            ready,
        )
        .goal(Goal::Max(2.0)),
        Figure::new(
            "memory of server and edge, without an application",
            "MB",
            vec![idle],
        )
        .goal(Goal::Max(40.0)),
        Figure::new(
            "memory of server and edge, with 10,000 idle applications",
            "MB",
            resident,
        )
        .goal(Goal::Max(150.0)),
        Figure::new("reads of an application, 16 connections", "req/s", rates)
            .goal(Goal::Min(20_000.0)),
        Figure::new("reads of an application, p99", "ms", slowest).goal(Goal::Max(10.0)),
    ])
}

/// Builds one application, and deploys its image as all the others, with no instance each.
fn fill(platform: &Platform, folder: &Path) -> Result {
    let site = folder.join("site");
    fs::create_dir(&site)?;
    fs::write(site.join("index.html"), "hello")?;
    platform.run(&["deploy", path_text(&site)?, "--name", "first"])?;
    let mut session = Session::open(&platform.socket())?;
    let builds = String::from_utf8(session.ask("GET", "/applications/first/builds", "")?)?;
    let image = after(&builds, "\"image\":\"").ok_or("the build has no image")?;
    let body = format!(
        "{{\"source\":{{\"image\":{{\"reference\":\"{image}\"}}}},\"manifest\":\"[processes.web]\\nreplicas = 0\\n\"}}"
    );
    let deployer = |first: usize| {
        let (socket, body) = (platform.socket(), body.clone());
        std::thread::spawn(move || {
            let deploy = || {
                let mut session = Session::open(&socket)?;
                for n in (first..APPLICATIONS).step_by(DEPLOYERS) {
                    session.ask("PUT", &application(n), &body)?;
                }
                Ok::<_, Box<dyn std::error::Error>>(())
            };
            deploy().map_err(|error| error.to_string())
        })
    };
    for deployer in (0..DEPLOYERS).map(deployer).collect::<Vec<_>>() {
        deployer.join().map_err(|_| "a deployer panicked")??;
    }
    // The first one was not used for as long as that took.
    let mut session = Session::open(&platform.socket())?;
    let mut released = 0;
    let settled = within(SETTLED_MAX, || {
        while released < APPLICATIONS && is_released(&mut session, released)? {
            released += 1;
        }
        Ok(released == APPLICATIONS)
    })?;
    match settled {
        true => Ok(()),
        false => Err(format!("only {released} applications have a release").into()),
    }
}

fn is_released(session: &mut Session, n: usize) -> Result<bool> {
    let shown = String::from_utf8(session.ask("GET", &application(n), "")?)?;
    Ok(shown.contains("\"current\":1,"))
}

fn application(n: usize) -> String {
    format!("/applications/app-{}", n % APPLICATIONS)
}

/// What stands between `mark` and the next quote.
fn after<'a>(text: &'a str, mark: &str) -> Option<&'a str> {
    text.split_once(mark)?.1.split('"').next()
}

/// Of the server, and of the edge, which is all that lasts without it.
fn resident_mb(platform: &Platform) -> Result<f64> {
    let mut kib = 0.0;
    for pid in platform.lasting()?.into_iter().chain(platform.server_pid()) {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let line = line.ok_or("a process without memory")?.trim();
        kib += line.trim_end_matches(" kB").parse::<f64>()?;
    }
    Ok(kib / 1e3)
}
