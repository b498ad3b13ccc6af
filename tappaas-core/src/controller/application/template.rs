use std::collections::BTreeMap;

use super::Snapshot;
use crate::{
    Name,
    backend::{Mount, Peer, PeerAddress, Template, VolumeId},
    model::{ApplicationKey, Binding, Command, EnvValue, Port, Process, Release, RestartPolicy},
    placement::Constraints,
};

/// The process that runs release commands. Users cannot name a process so.
pub const RELEASE_PROCESS: &str = "release";

/// The processes of a release: what its content declares, else what its build found.
pub fn processes(release: &Release) -> BTreeMap<Name, Process> {
    let spec = &release.spec;
    let mut processes = spec.content.processes.clone();
    if processes.is_empty() {
        let found = spec
            .detected
            .keys()
            .filter(|name| **name != *RELEASE_PROCESS);
        processes.extend(found.map(|name| (name.clone(), Process::default())));
    }
    if processes.is_empty() {
        processes.insert(web(), Process::default());
    }
    for (name, process) in &mut processes {
        if process.command.is_none() {
            process.command = spec.detected.get(name).cloned();
        }
        if process.ports.is_empty() && *name == web() {
            process.ports.push(Port::undeclared());
        }
    }
    processes
}

/// The command to run once before a release rolls out.
pub(super) fn release_command(release: &Release) -> Option<&Command> {
    let declared = release.spec.content.release_command.as_ref();
    declared.or_else(|| release.spec.detected.get(RELEASE_PROCESS))
}

/// The process of an application that answers requests unless something else is said.
pub(super) fn web() -> Name {
    Name::new("web").expect("`web` is a name")
}

/// Says whether a process has a volume, and so runs one instance that stops before the next starts.
pub(super) fn single_writer(release: &Release, process: &Name) -> bool {
    release
        .spec
        .content
        .volumes
        .values()
        .any(|volume| volume.process == *process)
}

/// What each instance of a process of a release is made from.
pub(super) fn template(
    snapshot: &Snapshot,
    release: &Release,
    name: &Name,
    process: &Process,
) -> Template {
    let content = &release.spec.content;
    let mounts = content
        .volumes
        .iter()
        .filter(|(_, volume)| volume.process == *name);
    Template {
        image: release.spec.image.clone(),
        command: process.command.clone(),
        environment: environment(snapshot, release, name, process),
        ports: process.ports.clone(),
        resources: process.resources,
        probes: process.probes.clone(),
        stop: process.stop.clone(),
        restart: process.restart,
        user: process.user,
        mounts: mounts
            .map(|(volume, mount)| Mount {
                volume: VolumeId {
                    application: snapshot.key.clone(),
                    name: volume.clone(),
                },
                path: mount.path.clone(),
                read_only: false,
            })
            .collect(),
        peers: content
            .bindings
            .values()
            .map(|binding| peer(&snapshot.key, binding))
            .collect(),
        placement: Constraints {
            requests: process.resources,
            runtime: process.runtime,
            ..Constraints::default()
        },
    }
}

/// What the release command of a release is made from: as the first process, but it runs once.
pub(super) fn release_template(
    snapshot: &Snapshot,
    release: &Release,
    command: &Command,
) -> Template {
    let name = Name::new(RELEASE_PROCESS).expect("`release` is a name");
    let first = processes(release).into_values().next().unwrap_or_default();
    let process = Process {
        command: Some(command.clone()),
        restart: RestartPolicy::Never,
        resources: first.resources,
        user: first.user,
        ..Process::default()
    };
    template(snapshot, release, &name, &process)
}

/// The peer that a binding names, seen from an application of the same environment.
pub(super) fn peer(from: &ApplicationKey, binding: &Binding) -> Peer {
    let mut application = from.clone();
    application.name = binding.application.clone();
    Peer {
        application,
        process: binding.process.clone(),
        port: binding
            .port
            .clone()
            .unwrap_or_else(|| Port::undeclared().name),
    }
}

fn environment(
    snapshot: &Snapshot,
    release: &Release,
    name: &Name,
    process: &Process,
) -> BTreeMap<String, EnvValue> {
    let key = &snapshot.key;
    let mut environment = BTreeMap::new();
    let mut set =
        |name: &str, value: String| environment.insert(name.to_owned(), EnvValue::new(value));
    set("TAPPAAS_APPLICATION", key.name.to_string());
    set("TAPPAAS_ENVIRONMENT", key.environment.to_string());
    set("TAPPAAS_PROCESS", name.to_string());
    set("TAPPAAS_RELEASE", release.spec.version.to_string());
    for binding in release.spec.content.bindings.keys() {
        if let Some(Ok(address)) = snapshot.peers.get(&(release.spec.version, binding.clone())) {
            bind(&mut set, binding, address);
        }
    }
    let content = &release.spec.content;
    environment.extend(content.environment.clone());
    environment.extend(content.overrides.clone());
    environment.extend(content.config.clone());
    if let Some(port) = process.ports.first() {
        environment.insert("PORT".to_owned(), EnvValue::new(port.number.to_string()));
    }
    environment
}

fn bind(
    set: &mut impl FnMut(&str, String) -> Option<EnvValue>,
    binding: &Name,
    address: &PeerAddress,
) {
    let prefix = binding.as_str().to_ascii_uppercase().replace('-', "_");
    set(&format!("{prefix}_HOST"), address.host.clone());
    set(&format!("{prefix}_PORT"), address.port.to_string());
    set(
        &format!("{prefix}_URL"),
        format!("http://{}:{}", address.host, address.port),
    );
}
