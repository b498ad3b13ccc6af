use std::collections::BTreeMap;

use super::{
    Autoscale, CommandLine, Manifest, PortNumber, Process, Resources, Rollout, Route, Stop,
    Variable, Volume, check,
};
use crate::{
    Name,
    model::{self, ApplicationContent, BuildSpec, RouteSpec, Source, VolumeMount},
};

/// A manifest as it is meant in one environment.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved {
    /// The application's name, if the manifest gives one.
    pub name: Option<Name>,
    /// What a release is made of.
    pub content: ApplicationContent,
    /// How many instances the manifest asks for, by process. Seeds the application's scale.
    pub scale: BTreeMap<Name, u32>,
    /// The processes that the manifest autoscales.
    pub autoscale: BTreeMap<Name, model::Autoscale>,
}

impl Manifest {
    /// Says what this manifest means in an environment, for a source.
    pub fn resolve(&self, environment: &Name, source: Source) -> Resolved {
        let here = self.within(environment);
        let overrides = self.environments.get(environment);
        let overrides = overrides.map(|changes| changes.env.clone());
        let autoscale = here.processes.iter();
        let autoscale = autoscale
            .filter_map(|(name, process)| Some((name.clone(), process.autoscale?.resolve())));
        let scale = here.processes.iter();
        let scale = scale.filter_map(|(name, process)| Some((name.clone(), process.replicas?)));
        Resolved {
            scale: scale.collect(),
            autoscale: autoscale.collect(),
            name: here.name,
            content: ApplicationContent {
                source,
                build: BuildSpec {
                    strategy: here.build.strategy,
                    stack: here.build.stack,
                    command: here.build.command.map(|CommandLine(command)| command),
                    ..BuildSpec::default()
                },
                processes: map(here.processes, Process::resolve),
                environment: map(self.env.clone(), |Variable(value)| value),
                overrides: map(overrides.unwrap_or_default(), |Variable(value)| value),
                config: BTreeMap::new(),
                volumes: map(here.volumes, Volume::resolve),
                bindings: map(here.bindings, |binding| binding.0),
                routes: here.routes.into_iter().map(Route::resolve).collect(),
                rollout: here.rollout.resolve(),
                release_command: here.release_command.map(|CommandLine(command)| command),
            },
        }
    }

    /// The manifest with the changes of one environment applied, and no environments any more.
    pub(super) fn within(&self, environment: &Name) -> Self {
        let mut here = self.clone();
        let Some(changes) = here.environments.remove(environment) else {
            here.environments.clear();
            return here;
        };
        here.environments.clear();
        here.env.extend(changes.env);
        for (name, change) in changes.processes {
            if let Some(process) = here.processes.get_mut(&name) {
                // One replaces the other: a process has a number of instances or bounds.
                if change.replicas.is_some() || change.autoscale.is_some() {
                    process.replicas = change.replicas;
                    process.autoscale = change.autoscale;
                }
                process.resources = change.resources.or(process.resources);
            }
        }
        here.routes = changes.routes.unwrap_or(here.routes);
        here.rollout = changes.rollout.or(here.rollout);
        here
    }
}

impl Process {
    /// The ports that the manifest gives the process, in its order.
    pub(super) fn declared_ports(&self) -> Vec<model::Port> {
        let port = |name, number: PortNumber, protocol| model::Port {
            name,
            number: number.0,
            protocol,
            declared: true,
        };
        let usual = model::Port::undeclared();
        let single = self
            .port
            .map(|number| port(usual.name, number, usual.protocol));
        let named = self.ports.iter().flat_map(|ports| &ports.0);
        let named = named.map(|(name, it)| port(name.clone(), it.number, it.protocol));
        single.into_iter().chain(named).collect()
    }

    fn resolve(self) -> model::Process {
        model::Process {
            ports: self.declared_ports(),
            command: self.command.map(|CommandLine(command)| command),
            resources: self.resources.resolve(),
            runtime: self.runtime,
            probes: model::Probes {
                startup: self.probes.startup.map(|probe| probe.0),
                readiness: self.probes.readiness.map(|probe| probe.0),
                liveness: self.probes.liveness.map(|probe| probe.0),
            },
            stop: self.stop.resolve(),
            restart: self.restart,
            user: self.user,
        }
    }
}

impl Autoscale {
    pub(super) fn resolve(self) -> model::Autoscale {
        model::Autoscale {
            min: self.min,
            max: self.max,
            cpu_percent: self.cpu,
        }
    }
}

impl Resources {
    fn or(self, weaker: Self) -> Self {
        Self {
            cpu: self.cpu.or(weaker.cpu),
            memory: self.memory.or(weaker.memory),
            pids: self.pids.or(weaker.pids),
        }
    }

    fn resolve(self) -> model::Resources {
        model::Resources {
            cpu_millis: self.cpu.map(|cpu| cpu.0),
            memory: self.memory.map(|memory| memory.0),
            pids: self.pids.map(Into::into),
        }
    }
}

impl Stop {
    fn resolve(self) -> model::Stop {
        let usual = model::Stop::default();
        model::Stop {
            signal: self.signal.unwrap_or(usual.signal),
            grace_seconds: self.grace.map_or(usual.grace_seconds, |grace| grace.0),
        }
    }
}

impl Volume {
    fn resolve(self) -> VolumeMount {
        VolumeMount {
            path: self.path,
            size: self.size.map(|size| size.0),
            process: self.process.unwrap_or_else(check::web),
        }
    }
}

impl Route {
    fn resolve(self) -> RouteSpec {
        let forwards = self.redirect.is_none();
        RouteSpec {
            hosts: self.hosts,
            path: self.path.unwrap_or_else(|| "/".to_owned()),
            process: forwards.then(|| self.process.unwrap_or_else(check::web)),
            port: self.port,
            strip: self.strip,
            redirect: self.redirect,
        }
    }
}

impl Rollout {
    fn or(self, weaker: Self) -> Self {
        Self {
            max_surge: self.max_surge.or(weaker.max_surge),
            max_unavailable: self.max_unavailable.or(weaker.max_unavailable),
            drain_timeout: self.drain_timeout.or(weaker.drain_timeout),
            deadline: self.deadline.or(weaker.deadline),
        }
    }

    fn resolve(self) -> model::Rollout {
        let usual = model::Rollout::default();
        model::Rollout {
            max_surge: self.max_surge.unwrap_or(usual.max_surge),
            max_unavailable: self.max_unavailable.unwrap_or(usual.max_unavailable),
            drain_seconds: self
                .drain_timeout
                .map_or(usual.drain_seconds, |drain| drain.0),
            deadline_seconds: self
                .deadline
                .map_or(usual.deadline_seconds, |deadline| deadline.0),
        }
    }
}

fn map<K: Ord, V, W>(from: BTreeMap<K, V>, change: impl Fn(V) -> W) -> BTreeMap<K, W> {
    from.into_iter()
        .map(|(key, value)| (key, change(value)))
        .collect()
}
