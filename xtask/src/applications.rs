use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Value;

use crate::Result;
use crate::census::Census;
use crate::load::{LIGHT, Load};
use crate::platform::{Platform, free_port_at};
use crate::samples::{Sample, express, flask, podinfo};
use crate::scratch::{Scratch, path_text};
use crate::testbed::{Cluster, table};
use crate::waiting::within;
use crate::workspace::{Workspace, run};

/// How long instances of an older release may go on once the new one is healthy.
const STOPPED_MAX: Duration = Duration::from_secs(60);
/// How long after a command succeeded the page may be as it was before.
const SHOWN_MAX: Duration = Duration::from_secs(10);
/// What nodes call the registry of a platform beside their cluster.
const REGISTRY: &str = "images.tappaas.test";
/// As many as the applications are scaled to.
const INSTANCES: usize = 3;
/// So many requests have to be answered while one release replaces the other again and again.
const ROLLED_MIN: u64 = 20_000;

/// Takes real applications through everything that happens to one, under load, and looks at what is left.
pub(crate) fn from_source_to_removal(workspace: &Workspace) -> Result {
    let program = program(workspace)?;
    let scratch = Scratch::new("applications")?;
    let mut samples = [
        podinfo(&scratch.path)?,
        express(&scratch.path)?,
        flask(&scratch.path)?,
    ];
    let traces = [path_text(&scratch.path)?];
    let before = Census::take(&traces);
    let mut platform = Platform::new(&program, &scratch.path)?;
    platform.serve()?;
    for sample in &mut samples {
        lead(&mut platform, sample, 0)?;
    }
    platform.stop()?;
    drop(platform);
    before.nothing_since(&traces)?;
    scratch.remove()
}

/// The same by the other door: the applications run in a cluster, and the server beside it.
pub(crate) fn in_a_cluster(workspace: &Workspace, cluster: &Cluster) -> Result {
    let program = program(workspace)?;
    let scratch = Scratch::new("in-a-cluster")?;
    let mut sample = podinfo(&scratch.path)?;
    // Nobody looks for a port there.
    sample.web = "port = 9898";
    sample.inside = (&["/app/bin/podinfo", "--version"], "6.");
    sample.declare("", "")?;
    let registry = SocketAddr::new(cluster.host, free_port_at(cluster.host)?);
    cluster.introduce(REGISTRY, registry)?;
    let config = configuration(cluster, registry, &scratch.path)?;
    let mut platform = Platform::elsewhere(&program, &scratch.path, cluster.gateway, config)?;
    platform.serve()?;
    lead(&mut platform, &mut sample, ROLLED_MIN)?;
    platform.stop()?;
    cluster.nothing_of(sample.name)?;
    drop(platform);
    cluster.forget(REGISTRY)?;
    scratch.remove()
}

/// As the tests build it, so that nothing is built twice: with examples, for which cargo unites the features that tests need, too.
fn program(workspace: &Workspace) -> Result<PathBuf> {
    let mut command = workspace.command("cargo");
    command.args([
        "build",
        "--workspace",
        "--all-features",
        "--bins",
        "--examples",
    ]);
    run(&mut command)?;
    Ok(workspace.target.join("debug/tappaas"))
}

/// What the server beside a cluster is told.
fn configuration(cluster: &Cluster, registry: SocketAddr, folder: &Path) -> Result<PathBuf> {
    let networks = vec![Value::from(Cluster::GATEWAY_NETWORK)];
    let kubeconfig = Value::from(path_text(&cluster.kubeconfig)?);
    let pulls = table([
        ("listen", registry.to_string().into()),
        ("name", REGISTRY.into()),
    ]);
    let config = table([
        ("kubernetes", table([("kubeconfig", kubeconfig)])),
        ("registry", table([("embedded", pulls)])),
        (
            "scheduler",
            table([("kubernetes", table([("gateway-network", networks.into())]))]),
        ),
        (
            "ingress",
            table([("kubernetes", table([("gateway", Cluster::GATEWAY.into())]))]),
        ),
    ]);
    let path = folder.join("server.toml");
    fs::write(&path, toml::to_string(&config)?)?;
    Ok(path)
}

fn lead(platform: &mut Platform, sample: &mut Sample, least: u64) -> Result {
    let (name, folder, first) = (sample.name, sample.folder.clone(), sample.hello.clone());
    let folder = path_text(&folder)?;
    platform.run(&["deploy", folder, "--name", name])?;
    shows(platform, name, &first)?;
    let load = Load::start(&format!("{name}.localhost"), platform.front, LIGHT);

    platform.run(&["scale", name, "web=3"])?;
    expect(&platform.run(&["status", name])?, "3 of 3 ready")?;
    platform.run(&["config", "set", name, &format!("{}=hola", sample.variable)])?;
    shows(platform, name, "hola")?;
    survive_a_crash(platform, name)?;
    sample.say("salut")?;
    platform.run(&["deploy", folder, "--name", name])?;
    shows(platform, name, "salut")?;
    be_refused(platform, sample)?;
    platform.run(&["rollback", name])?;
    shows(platform, name, &first)?;
    let answered = roll(platform, name, &load, least)?;
    platform.run(&["scale", name, "web=1"])?;

    let (words, said) = sample.inside;
    let exec = ["exec", name, "--"];
    expect(&platform.run(&[&exec[..], words].concat())?, said)?;
    expect(&platform.run(&["logs", name])?, "web/")?;
    expect(&platform.run(&["logs", name, "--build", "1"])?, "built")?;
    expect(&platform.figures("/metrics")?, &platform.figure_of(name))?;
    let answered = answered + load.end()?.whole()?;
    println!("{name}: {answered} requests, none failed");
    platform.run(&["destroy", name])?;
    match within(SHOWN_MAX, || Ok(platform.page(name).is_err()))? {
        true => Ok(()),
        false => Err(format!("{name} still answers").into()),
    }
}

/// Kills the server: what runs goes on as it is, and the next server takes it over.
fn survive_a_crash(platform: &mut Platform, name: &str) -> Result {
    let before = settled(platform, name)?;
    platform.kill_server()?;
    platform.serve()?;
    let after = running(platform, name)?;
    match before == after {
        true => Ok(()),
        false => Err(format!("instances changed with the server: {before:?}, {after:?}").into()),
    }
}

/// What runs once those of the release before have stopped.
fn settled(platform: &Platform, name: &str) -> Result<Running> {
    let mut found = Running::default();
    let settled = within(STOPPED_MAX, || {
        found = running(platform, name)?;
        // On this machine the edge, and of each instance the shim and what it runs.
        let here = found.1.is_empty() || found.1.len() == 1 + 2 * INSTANCES;
        Ok(found.0.len() == INSTANCES && here)
    })?;
    match settled {
        true => Ok(found),
        false => Err(format!("{INSTANCES} instances expected: {found:?}").into()),
    }
}

/// The instances of an application, and the processes of all.
type Running = (BTreeSet<String>, Vec<u32>);

fn running(platform: &Platform, name: &str) -> Result<Running> {
    Ok((platform.instances_of(name)?, platform.lasting()?))
}

/// A release that never becomes ready is refused with its reason, while the one before serves on.
fn be_refused(platform: &Platform, sample: &Sample) -> Result {
    let (name, folder) = (sample.name, path_text(&sample.folder)?);
    let before = settled(platform, name)?;
    sample.declare(
        "rollout.deadline = \"20s\"",
        "probes.readiness = { http = \"/no-such-page\" }",
    )?;
    let said = platform.fail(&["deploy", folder, "--name", name])?;
    expect(&said, "failed")?;
    expect(&said, "no-such-page")?;
    sample.declare("", "")?;
    match settled(platform, name)? {
        after if after == before => shows(platform, name, &sample.hello),
        after => Err(format!("{before:?} became {after:?}").into()),
    }
}

/// Replaces every instance, again and again until so many requests were answered.
fn roll(platform: &Platform, name: &str, load: &Load, least: u64) -> Result<u64> {
    let mut answered = 0;
    loop {
        platform.run(&["restart", name])?;
        answered += load.lap().whole()?;
        if answered >= least {
            return Ok(answered);
        }
    }
}

/// A cluster's proxies follow a moment after a command succeeded.
fn shows(platform: &Platform, name: &str, part: &str) -> Result {
    let mut page = Ok(String::new());
    let shown = within(SHOWN_MAX, || {
        page = platform.page(name);
        Ok(page.as_ref().is_ok_and(|page| page.contains(part)))
    })?;
    match (shown, page) {
        (true, _) => Ok(()),
        (false, page) => expect(&page?, part),
    }
}

fn expect(text: &str, part: &str) -> Result {
    match text.contains(part) {
        true => Ok(()),
        false => Err(format!("`{part}` is not in:\n{text}").into()),
    }
}
