use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use tappaas_core::{
    Clock, Digest, ErrorKind, Name,
    backend::{
        Builder, Endpoint, Image, IngressProvider, Registry, Repository, Scheduler, Template,
        Volume, VolumeId, Volumes,
    },
    memory::{self, Answer, Behaviour, End, Handler, Network, Recipe},
    model::{
        BuildSpec, Command, Probes, Resources, RestartPolicy, SecretReference, Source, Stop, User,
    },
    placement::Constraints,
};

use crate::{
    Program,
    conformance::{
        Failure,
        builder::{BuilderFixture, Course, Project},
        ingress::{Gate, IngressFixture, Reply, Server},
        registry::RegistryFixture,
        scheduler::SchedulerFixture,
        switch::SwitchFixture,
        volumes::VolumesFixture,
    },
    faulty::{Faults, Faulty},
};

/// The fixture of core's in-memory backends: a small world of its own, on one network, with or without faults.
#[derive(Debug)]
pub struct Memory {
    network: Network,
    volumes: memory::Volumes,
    scheduler: Arc<memory::Scheduler>,
    ingress: Arc<memory::Ingress>,
    registry: memory::Registry,
    builder: Arc<memory::Builder>,
    faults: Arc<Faults>,
    volume_count: Arc<AtomicU32>,
}

impl Memory {
    /// Creates a world in which nothing runs yet.
    pub fn new() -> Self {
        Self::with_faults(Faults::none())
    }

    /// Creates a world whose backends meet faults, each verb's calls counted over all of them.
    pub fn with_faults(faults: Faults) -> Self {
        let (network, volumes) = (Network::new(), memory::Volumes::new());
        let clock: Arc<dyn Clock> = Arc::new(memory::Clock::new());
        let scheduler = memory::Scheduler::new(Arc::clone(&clock), &network, &volumes);
        let ingress = memory::Ingress::new(Arc::clone(&clock), &network);
        let registry = memory::Registry::new();
        let builder = memory::Builder::new(clock, Arc::new(registry.clone()));
        Self {
            scheduler: Arc::new(scheduler),
            ingress: Arc::new(ingress),
            registry,
            builder: Arc::new(builder),
            network,
            volumes,
            faults: Arc::new(faults),
            volume_count: Arc::new(AtomicU32::new(0)),
        }
    }
}

impl Memory {
    /// Another scheduler on the same network, with the same volumes and faults, as a second machine would be.
    pub fn neighbour(&self) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(memory::Clock::new());
        let scheduler = memory::Scheduler::new(clock, &self.network, &self.volumes);
        Self {
            network: self.network.clone(),
            volumes: self.volumes.clone(),
            scheduler: Arc::new(scheduler),
            ingress: Arc::clone(&self.ingress),
            registry: self.registry.clone(),
            builder: Arc::clone(&self.builder),
            faults: Arc::clone(&self.faults),
            volume_count: Arc::clone(&self.volume_count),
        }
    }

    fn address(&self) -> SocketAddr {
        SocketAddr::from((self.network.assign(), 80))
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
        Arc::new(Faulty::new(Arc::clone(&self.scheduler), &self.faults))
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

    fn fetch(&self, host: &str, port: u16) -> Vec<String> {
        vec!["fetch".to_owned(), host.to_owned(), port.to_string()]
    }

    async fn secret(&self, _: &str) -> Option<SecretReference> {
        None
    }

    async fn volume(&self) -> Option<VolumeId> {
        let number = self.volume_count.fetch_add(1, Ordering::Relaxed);
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

#[async_trait]
impl IngressFixture for Memory {
    fn ingress(&self) -> Arc<dyn IngressProvider> {
        Arc::new(Faulty::new(Arc::clone(&self.ingress), &self.faults))
    }

    async fn serve(&self, name: &str, gate: &Gate) -> Result<Server, Failure> {
        let address = self.address();
        let (name, gate) = (name.to_owned(), gate.clone());
        let handler: Handler = Arc::new(move |path| {
            let (name, gate) = (name.clone(), gate.clone());
            Box::pin(async move {
                if path.starts_with("/held") {
                    gate.pass().await;
                }
                Answer::ok(format!("{name} {path}"))
            })
        });
        let listening = self.network.listen(address, handler)?;
        Ok(Server {
            endpoint: Endpoint::Address(address),
            running: Box::new(listening),
        })
    }

    async fn request(&self, host: &str, path: &str) -> Result<Reply, Failure> {
        Ok(reply(self.ingress.request(host, path).await))
    }

    async fn request_inside(&self, address: SocketAddr, path: &str) -> Result<Reply, Failure> {
        let answer = self.network.request(address, path).await;
        Ok(reply(answer.map_err(|why| format!("{address}: {why:?}"))?))
    }

    async fn inner_address(&self) -> Result<SocketAddr, Failure> {
        Ok(self.address())
    }
}

impl VolumesFixture for Memory {
    fn volumes(&self) -> Arc<dyn Volumes> {
        let volumes = Arc::new(self.volumes.clone());
        Arc::new(Faulty::new(volumes, &self.faults))
    }

    fn scheduling(&self) -> &dyn SchedulerFixture {
        self
    }
}

impl RegistryFixture for Memory {
    fn registry(&self) -> Arc<dyn Registry> {
        let registry = Arc::new(self.registry.clone());
        Arc::new(Faulty::new(registry, &self.faults))
    }

    fn repository(&self, name: &str) -> Repository {
        name.parse().expect("suites use valid repositories")
    }
}

#[async_trait]
impl BuilderFixture for Memory {
    fn builder(&self) -> Arc<dyn Builder> {
        Arc::new(Faulty::new(Arc::clone(&self.builder), &self.faults))
    }

    fn registry(&self) -> Arc<dyn Registry> {
        let registry = Arc::new(self.registry.clone());
        Arc::new(Faulty::new(registry, &self.faults))
    }

    async fn source(&self, project: &Project) -> Result<Option<(Source, BuildSpec)>, Failure> {
        let source = Source::Git {
            url: "https://example.com/project".to_owned(),
            reference: "main".to_owned(),
            commit: project.name.clone(),
        };
        let mut recipe = Recipe {
            output: vec![format!("building {}", project.name)],
            ..Recipe::default()
        };
        match project.course {
            Course::Good(takes) => recipe.takes = takes,
            Course::Broken => recipe.fails = Some((ErrorKind::Invalid, "it is broken".to_owned())),
            Course::Greedy => recipe.fails = Some((ErrorKind::Exhausted, "memory".to_owned())),
        }
        self.builder.set_recipe(source.clone(), recipe);
        Ok(Some((source, BuildSpec::default())))
    }
}

impl SwitchFixture for Memory {
    fn scheduling(&self) -> &dyn SchedulerFixture {
        self
    }

    fn routing(&self) -> &dyn IngressFixture {
        self
    }
}

fn reply(answer: Answer) -> Reply {
    let redirect = (300..400).contains(&answer.status);
    Reply {
        status: answer.status,
        location: redirect.then(|| answer.body.clone()),
        body: answer.body,
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
