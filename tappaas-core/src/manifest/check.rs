//! What types cannot say: that the parts of a manifest fit together.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Manifest, Process, Route, Variable,
    error::{Problem, hint},
};
use crate::{
    Name,
    controller::application::RELEASE_PROCESS,
    model::{ProbeCheck, Protocol, check as value},
};

/// Refuses a manifest whose parts do not fit together, in any of its environments.
pub(super) fn check(manifest: &Manifest) -> Result<(), Problem> {
    check_one(manifest)?;
    for (environment, changes) in &manifest.environments {
        for process in changes.processes.keys() {
            if !manifest.processes.contains_key(process) {
                let path = [
                    "environments",
                    environment.as_str(),
                    "processes",
                    process.as_str(),
                ];
                let message = format!(
                    "`[processes]` declares no process `{process}` that could be different here"
                );
                return Err(Problem::new(&path, message));
            }
        }
        let inside = |problem: Problem| problem.in_environment(environment.as_str());
        check_one(&manifest.within(environment)).map_err(inside)?;
    }
    Ok(())
}

/// The process that is meant where none is named.
pub(super) fn web() -> Name {
    Name::new("web").expect("`web` is a name")
}

fn check_one(manifest: &Manifest) -> Result<(), Problem> {
    check_variables(&manifest.env)?;
    for (name, process) in &manifest.processes {
        check_process(name, process)?;
    }
    check_volumes(manifest)?;
    for (i, route) in manifest.routes.iter().enumerate() {
        check_route(manifest, &i.to_string(), route)?;
    }
    check_overlaps(&manifest.routes)?;
    check_rollout(manifest)
}

fn check_variables(variables: &BTreeMap<String, Variable>) -> Result<(), Problem> {
    for name in variables.keys() {
        let path = ["env", name.as_str()];
        value::variable(name).map_err(|message| Problem::new(&path, message))?;
    }
    Ok(())
}

fn check_process(name: &Name, process: &Process) -> Result<(), Problem> {
    let problem = |keys: &[&str], message: String| {
        let path = [&["processes", name.as_str()], keys].concat();
        Err(Problem::new(&path, message))
    };
    if *name == *RELEASE_PROCESS {
        return problem(&[], value::RELEASE_TAKEN.to_owned());
    }
    if process.port.is_some() && process.ports.is_some() {
        return problem(
            &["ports"],
            "`port` and `ports` exclude each other: name all ports in `ports`".to_owned(),
        );
    }
    let mut numbers = BTreeMap::new();
    for (port, settings) in process.ports.iter().flat_map(|ports| &ports.0) {
        if let Some(other) = numbers.insert(settings.number, port) {
            let message = format!("port {} is called `{other}` already", settings.number.0);
            return problem(&["ports", port.as_str()], message);
        }
    }
    if process
        .replicas
        .is_some_and(|replicas| replicas > value::INSTANCES_MAX)
    {
        return problem(
            &["replicas"],
            format!("a process has at most {} replicas", value::INSTANCES_MAX),
        );
    }
    check_autoscale(name, process).or_else(|message| problem(&["autoscale"], message))?;
    if let Some(signal) = process.stop.signal.as_deref() {
        check_signal(signal).or_else(|message| problem(&["stop", "signal"], message))?;
    }
    let grace = process
        .stop
        .grace
        .map_or(Ok(()), |grace| value::grace(grace.0));
    grace.or_else(|message| problem(&["stop", "grace"], message))?;
    let probes = &process.probes;
    for (kind, probe) in [
        ("startup", &probes.startup),
        ("readiness", &probes.readiness),
        ("liveness", &probes.liveness),
    ] {
        let check = probe.as_ref().map(|probe| &probe.0.check);
        if let Some(ProbeCheck::Http { port, .. } | ProbeCheck::Tcp { port }) = check {
            find_port(name, process, port.as_ref())
                .map_or_else(|message| problem(&["probes", kind], message), |_| Ok(()))?;
        }
    }
    Ok(())
}

fn check_autoscale(name: &Name, process: &Process) -> Result<(), String> {
    let Some(autoscale) = process.autoscale else {
        return Ok(());
    };
    if process.replicas.is_some() {
        return Err(
            "`replicas` and `autoscale` exclude each other: it begins with `min`".to_owned(),
        );
    }
    value::autoscale(&autoscale.resolve())?;
    value::autoscaled(name, process.restart, process.resources.cpu.is_some())
}

fn check_signal(signal: &str) -> Result<(), String> {
    if value::SIGNALS.contains(&signal) {
        return Ok(());
    }
    let full = format!(
        "SIG{}",
        signal.to_ascii_uppercase().trim_start_matches("SIG")
    );
    Err(format!(
        "`{signal}` is not a signal to stop with; {}",
        hint(&full, value::SIGNALS)
    ))
}

/// The protocol of a process's port, by its name or its first one.
fn find_port(name: &Name, process: &Process, wanted: Option<&Name>) -> Result<Protocol, String> {
    value::port(name, &process.declared_ports(), wanted)
}

/// Finds a process that the manifest declares, or `None` if it declares none at all and the build will find them.
fn find_process<'a>(manifest: &'a Manifest, name: &Name) -> Result<Option<&'a Process>, String> {
    if manifest.processes.is_empty() {
        return Ok(None);
    }
    let known: Vec<_> = manifest.processes.keys().map(Name::as_str).collect();
    let hint = hint(name.as_str(), &known);
    let unknown = || format!("there is no process `{name}`; {hint}");
    manifest.processes.get(name).map(Some).ok_or_else(unknown)
}

fn check_volumes(manifest: &Manifest) -> Result<(), Problem> {
    let mut paths = BTreeSet::new();
    for (name, volume) in &manifest.volumes {
        let problem = |key, message| Err(Problem::new(&["volumes", name.as_str(), key], message));
        if let Err(message) = value::mount(&volume.path) {
            return problem("path", message);
        }
        let process_name = volume.process.clone().unwrap_or_else(web);
        let process = find_process(manifest, &process_name)
            .or_else(|message| problem("process", message).map(|()| None))?;
        if process
            .and_then(|process| process.replicas)
            .is_some_and(|replicas| replicas > 1)
        {
            let path = ["processes", process_name.as_str(), "replicas"];
            let message = format!(
                "process `{process_name}` has the volume `{name}`, which one instance alone may write: it runs 1 replica"
            );
            return Err(Problem::new(&path, message));
        }
        if process.is_some_and(|process| process.autoscale.is_some()) {
            let path = ["processes", process_name.as_str(), "autoscale"];
            let message = value::autoscaled_volume(&process_name, name);
            return Err(Problem::new(&path, message));
        }
        if !paths.insert((process_name, volume.path.clone())) {
            return problem("path", value::SAME_PATH.to_owned());
        }
    }
    Ok(())
}

fn check_route(manifest: &Manifest, index: &str, route: &Route) -> Result<(), Problem> {
    let problem = |key, message: &str| Err(Problem::new(&["routes", index, key], message));
    if let Some(Err(message)) = route.path.as_deref().map(value::route_path) {
        return problem("path", &message);
    }
    if let Some(target) = &route.redirect {
        value::redirect(target).or_else(|message| problem("redirect", &message))?;
        if route.process.is_some() || route.port.is_some() || route.strip {
            return problem("redirect", value::REDIRECT_ALONE);
        }
        return Ok(());
    }
    let name = route.process.clone().unwrap_or_else(web);
    let process = find_process(manifest, &name)
        .or_else(|message| problem("process", &message).map(|()| None))?;
    let Some(process) = process else {
        return Ok(());
    };
    match find_port(&name, process, route.port.as_ref()) {
        Err(message) => problem("port", &message),
        Ok(Protocol::Tcp) => problem("port", &value::not_routed(&name)),
        Ok(Protocol::H2c | Protocol::Http) => Ok(()),
    }
}

fn check_overlaps(routes: &[Route]) -> Result<(), Problem> {
    let mut seen = BTreeSet::new();
    for (i, route) in routes.iter().enumerate() {
        let hosts = route.hosts.iter().map(|host| host.as_str());
        let default = route.hosts.is_empty().then_some("");
        for host in hosts.chain(default) {
            if !seen.insert((host, route.path.as_deref().unwrap_or("/"))) {
                return Err(Problem::new(&["routes", &i.to_string()], value::OVERLAP));
            }
        }
    }
    Ok(())
}

fn check_rollout(manifest: &Manifest) -> Result<(), Problem> {
    let rollout = &manifest.rollout;
    if rollout.max_surge == Some(0) && rollout.max_unavailable.unwrap_or(0) == 0 {
        let message =
            "with `max_surge` and `max_unavailable` both 0 no instance could ever be replaced";
        return Err(Problem::new(&["rollout", "max_surge"], message));
    }
    if rollout.deadline.is_some_and(|deadline| deadline.0 == 0) {
        let message = "the deadline is at least `1s`";
        return Err(Problem::new(&["rollout", "deadline"], message));
    }
    Ok(())
}
