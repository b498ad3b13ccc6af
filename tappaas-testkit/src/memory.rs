use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use tappaas_core::{
    Clock, Digest, Name,
    backend::{Endpoint, Image, Scheduler, Template, Volume, VolumeId, Volumes as _},
    memory::{self, Behaviour, End, Network},
    model::{Command, Probes, Resources, RestartPolicy, Stop, User},
    placement::Constraints,
};

use crate::{
    Program,
    conformance::{Failure, scheduler::SchedulerFixture},
};

/// The fixture of core's in-memory backends: a small world of its own, on one network.
#[derive(Debug)]
pub struct Memory {
    network: Network,
    volumes: memory::Volumes,
    scheduler: Arc<memory::Scheduler>,
    counter: AtomicU32,
}

impl Memory {
    /// Creates a world in which nothing runs yet.
    pub fn new() -> Self {
        let (network, volumes) = (Network::new(), memory::Volumes::new());
        let clock: Arc<dyn Clock> = Arc::new(memory::Clock::new());
        let scheduler = memory::Scheduler::new(Arc::clone(&clock), &network, &volumes);
        Self {
            scheduler: Arc::new(scheduler),
            network,
            volumes,
            counter: AtomicU32::new(0),
        }
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl SchedulerFixture for Memory {
    fn scheduler(&self) -> Arc<dyn Scheduler> {
        Arc::clone(&self.scheduler) as _
    }

    async fn template(&self, program: &Program) -> Template {
        let command = Command::Exec(vec![format!("{program:?}")]);
        self.scheduler
            .behave_by_command(command.clone(), behaviour(program));
        Template {
            image: Image {
                repository: "programs".parse().expect("`programs` is a repository"),
                digest: Digest::of("programs"),
            },
            command: Some(command),
            environment: BTreeMap::new(),
            ports: Vec::new(),
            resources: Resources::default(),
            probes: Probes::default(),
            stop: Stop::default(),
            restart: RestartPolicy::Never,
            user: User::Unprivileged,
            mounts: Vec::new(),
            peers: Vec::new(),
            placement: Constraints::default(),
        }
    }

    async fn get(&self, endpoint: &Endpoint, path: &str) -> Result<String, Failure> {
        let Endpoint::Address(address) = endpoint else {
            return Err(Failure::from(format!("{endpoint:?} is no address")));
        };
        let answer = self.network.request(*address, path).await;
        let answer = answer.map_err(|why| Failure::from(format!("{address}: {why:?}")))?;
        match answer.status {
            200 => Ok(answer.body),
            status => Err(Failure::from(format!("{address} answers {status}"))),
        }
    }

    async fn volume(&self) -> Option<VolumeId> {
        let number = self.counter.fetch_add(1, Ordering::Relaxed);
        let id = VolumeId {
            application: "conformance/default/test/volumes".parse().ok()?,
            name: Name::new(format!("v{number}")).ok()?,
        };
        let volume = Volume {
            id: id.clone(),
            size: None,
        };
        self.volumes.apply(&volume).await.ok()?;
        Some(id)
    }
}

fn behaviour(program: &Program) -> Behaviour {
    let silent = Behaviour {
        listen: None,
        ..Behaviour::default()
    };
    match program {
        Program::Idle => silent,
        Program::Serve { name, latency } => Behaviour {
            answer: Some(name.clone()),
            latency: *latency,
            ..Behaviour::default()
        },
        Program::ServeElsewhere(port) => Behaviour {
            answer: Some("found".to_owned()),
            port: Some(*port),
            ..Behaviour::default()
        },
        Program::PrintVariable(name) => Behaviour {
            output: vec![format!("${name}")],
            ..silent
        },
        Program::Exit(code) => Behaviour {
            output: vec!["started".to_owned()],
            end: Some((Duration::ZERO, End::Code(*code))),
            ..silent
        },
        Program::IgnoreStop => Behaviour {
            stop: None,
            ..silent
        },
        Program::SlowStop(goes_on) => Behaviour {
            stop: Some(*goes_on),
            ..silent
        },
        Program::EatMemory => Behaviour::eating_memory(),
    }
}
