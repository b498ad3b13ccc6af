use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, TcpListener},
    sync::Arc,
    time::Duration,
};

use tappaas_core::{
    Chain, Error, ErrorKind, Result,
    backend::{Exit, InstanceState, Template},
    model::RestartPolicy,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    about::{About, Ready},
    spec::{Parts, command, owner},
    table::Seat,
    world::World,
};
use crate::{
    Adopted, Instance, Phase, Status, end,
    instance::MARGIN,
    sandbox::{Bind, Isolation, Network},
};

/// How often an instance tries again to get volumes that another one has.
const HOLD_PERIOD: Duration = Duration::from_millis(100);
/// The delay before a failed start is tried again; each further one is twice as long.
const RETRY_MIN: Duration = Duration::from_millis(500);
const RETRY_MAX: Duration = Duration::from_secs(60);
/// So many failed starts in a row are a crash loop, if nothing but a change of the workload can mend them.
const CRASH_LOOP: u32 = 3;
/// How often it is looked whether something serves in the place of a lost instance, and for how long.
const REPLACED_PERIOD: Duration = Duration::from_millis(100);
const REPLACED_ROUNDS: u32 = 600;
/// How often a supervisor is called that does not answer, before it is killed. One call takes up to twenty seconds.
const CALLS_MAX: u32 = 6;
const CALL_PERIOD: Duration = Duration::from_secs(1);
/// How often usage is read.
const USAGE_PERIOD: Duration = Duration::from_secs(5);

/// The life of one instance, from its placement to its end.
#[derive(Debug)]
pub(super) struct Life {
    pub(super) world: Arc<World>,
    pub(super) about: About,
    /// With the whole environment, unless it was adopted.
    pub(super) template: Arc<Template>,
    /// Cancelled when the instance has to go.
    pub(super) stop: CancellationToken,
}

/// Where a life begins.
#[derive(Debug)]
pub(super) enum Begun {
    /// Nothing is there yet.
    New,
    /// An earlier server started it.
    Running(Instance),
    /// Its process ended for good while nobody looked.
    Ended,
    /// An earlier server started it, and nobody can say how it is: it may well run.
    Unknown,
}

impl Begun {
    pub(super) fn instance(&self) -> Option<&Instance> {
        match self {
            Self::Running(instance) => Some(instance),
            Self::New | Self::Ended | Self::Unknown => None,
        }
    }
}

/// What became of an instance that ran.
enum Over {
    /// It was told to stop.
    Stopped,
    /// It ended by itself and is not started again.
    Exited,
    /// Somebody else ended it, or its supervisor died.
    Lost,
}

impl Life {
    /// Lives until the instance is told to stop.
    pub(super) async fn live(mut self, begun: Begun) {
        let (instance, unheard) = match begun {
            Begun::New => (self.start().await, Over::Exited),
            Begun::Running(instance) => (Some(instance), Over::Lost),
            Begun::Ended => (None, Over::Exited),
            Begun::Unknown => self.call().await,
        };
        let over = match &instance {
            Some(instance) => self.watch(instance).await,
            None => unheard,
        };
        match over {
            Over::Stopped => {}
            Over::Exited => {
                // It has left room for others.
                self.world.begin();
                self.stop.cancelled().await;
            }
            Over::Lost => self.be_replaced(instance.as_ref()).await,
        }
        self.leave(instance).await;
    }

    /// Calls a supervisor until it answers or is dead, or it is clear that it never will. Until then the instance keeps all it has.
    async fn call(&mut self) -> (Option<Instance>, Over) {
        let dir = self.world.ground.folders.of(&self.about.id);
        let (stop, mut calls) = (self.stop.clone(), 0);
        loop {
            let Some(answer) = stop.run_until_cancelled(Instance::adopt(&dir)).await else {
                return (None, Over::Stopped);
            };
            let error = match answer {
                Ok(Adopted::Alive(instance)) => {
                    self.update(|seat| seat.running = Some(instance.clone()));
                    return (Some(instance), Over::Lost);
                }
                Ok(Adopted::Ended(status)) => return (None, self.ends(&status)),
                Ok(Adopted::Lost | Adopted::Absent) => return (None, Over::Lost),
                Err(error) if error.kind() == ErrorKind::NotFound => return (None, Over::Lost),
                Err(error) => error,
            };
            // What a newer server started runs well, and is left alone until it has to go.
            calls += u32::from(error.kind() != ErrorKind::Unsupported);
            if calls == CALLS_MAX {
                return (None, Over::Lost);
            }
            let reason = format!("nobody knows how it is: {}", Chain(&error));
            self.update(|seat| seat.status.reason = Some(reason));
            if stop
                .run_until_cancelled(self.world.ground.clock.sleep(CALL_PERIOD))
                .await
                .is_none()
            {
                return (None, Over::Stopped);
            }
        }
    }

    /// Starts until it works. `None`: it was told to stop before.
    async fn start(&mut self) -> Option<Instance> {
        let mut failures = 0;
        loop {
            // Cancelled only where nothing is half made; the sandbox itself is always made to its end.
            let begun = match self.stop.clone().run_until_cancelled(self.gather()).await? {
                Ok(parts) => self.launch(parts).await,
                Err(error) => Err(error),
            };
            let error = match begun {
                Ok(instance) => {
                    self.update(|seat| seat.running = Some(instance.clone()));
                    return Some(instance);
                }
                Err(error) => error,
            };
            failures += 1;
            if self.fail(&error, failures) {
                return None;
            }
            let delay = RETRY_MIN
                .saturating_mul(1 << (failures - 1).min(16))
                .min(RETRY_MAX);
            self.stop
                .run_until_cancelled(self.world.ground.clock.sleep(delay))
                .await?;
        }
    }

    /// Tells of a start that failed. `true`: it is not tried again.
    fn fail(&self, error: &Error, failures: u32) -> bool {
        let certain = !matches!(
            error.kind(),
            ErrorKind::Unavailable | ErrorKind::Exhausted | ErrorKind::Internal
        );
        let never = certain && self.template.restart == RestartPolicy::Never;
        let reason = format!("it does not start: {}", Chain(error));
        tracing::warn!(workload = %self.about.workload, instance = %self.about.id, %reason);
        self.update(|seat| {
            seat.status.reason = Some(reason);
            seat.status.state = match certain && failures >= CRASH_LOOP {
                _ if never => InstanceState::Exited,
                true => InstanceState::CrashLoop,
                false => InstanceState::Starting,
            };
        });
        never
    }

    /// Fetches and claims everything that the sandbox is made from.
    async fn gather(&mut self) -> Result<crate::Spec> {
        let ground = &self.world.ground;
        let template = Arc::clone(&self.template);
        let application = &self.about.workload.application;
        while let Err(why) = ground.volumes.hold(&self.about.id, &template.mounts) {
            self.update(|seat| seat.status.reason = Some(why));
            ground.clock.sleep(HOLD_PERIOD).await;
        }
        self.update(|seat| seat.status.reason = Some("its image is fetched".to_owned()));
        let image = ground.images.pull(&template.image).await?;
        self.update(|seat| seat.status.reason = Some("its sandbox is made".to_owned()));
        let command = command(&template, &image.config)?;
        // Without a sandbox there is no other root than the machine's: of an image that is to be one, only what is found from its
        // working folder runs, such as the file server of a static site.
        let found = image.config.needs_host_stack()
            || !command[0].starts_with('/') && command[0].contains('/');
        if ground.isolation == Isolation::None && !found {
            return Err(Error::unsupported(format!(
                "{} brings a userland of its own, which needs a sandbox; without one only static sites and applications on the stack `host` run",
                template.image
            )));
        }
        let userland = match image.config.needs_host_stack() {
            true => Some(ground.stack().await?),
            false => None,
        };
        let slot = ground.slots.take(application).await?;
        let owner = owner(ground.isolation, template.user, slot);
        let volume = |mount: &tappaas_core::backend::Mount| {
            Ok(Bind {
                source: ground.volumes.mountable(&mount.volume, owner)?,
                target: mount.path.clone(),
                read_only: mount.read_only,
            })
        };
        let volumes = template.mounts.iter().map(volume).collect::<Result<_>>()?;
        let network = self.network().await?;
        if ground.host_network() {
            self.about.ports = free_ports(&template)?;
        }
        let parts = Parts {
            id: &self.about.id,
            template: &template,
            image,
            userland: userland.as_deref(),
            isolation: ground.isolation,
            network,
            slot,
            volumes,
            limits: ground.config.limits,
            log: ground.config.logs.limits(),
            port: template
                .ports
                .first()
                .and_then(|port| self.about.ports.get(&port.name).copied()),
        };
        parts.spec()
    }

    async fn network(&self) -> Result<Network> {
        let ground = &self.world.ground;
        match &ground.networks {
            Some(networks) => {
                let label = self.about.workload.application.label();
                Ok(Network::Bridge(
                    networks.attach(&label, &self.about.id.0).await?,
                ))
            }
            None if ground.host_network() => Ok(Network::Host),
            None => Ok(Network::Private {
                pasta: ground.config.network.pasta.clone(),
            }),
        }
    }

    async fn launch(&mut self, spec: crate::Spec) -> Result<Instance> {
        let ground = &self.world.ground;
        let closed = |error| Error::internal("the scheduler is closed").with_source(error);
        let _permit = ground.starting.acquire().await.map_err(closed)?;
        // Before anything runs, so that a later server knows whose it is.
        self.note()?;
        Instance::start(
            &ground.config.helper,
            &ground.folders.of(&self.about.id),
            &spec,
        )
        .await
    }

    /// Follows a running instance until it is over.
    async fn watch(&mut self, instance: &Instance) -> Over {
        loop {
            let subscribed = self
                .stop
                .clone()
                .run_until_cancelled(instance.subscribe())
                .await;
            let status = match subscribed {
                None => return Over::Stopped,
                Some(Ok(status)) => status,
                Some(Err(_)) => match instance.status().await {
                    Ok(status) => watch::channel(status).1,
                    Err(_) => match self.call().await {
                        (Some(_), _) => continue,
                        (None, over) => return over,
                    },
                },
            };
            if let Some(over) = self.follow(instance, status).await {
                return over;
            }
        }
    }

    /// `None`: the connection to the supervisor broke.
    async fn follow(
        &mut self,
        instance: &Instance,
        mut status: watch::Receiver<Status>,
    ) -> Option<Over> {
        let (stop, world, about) = (
            self.stop.clone(),
            Arc::clone(&self.world),
            self.about.clone(),
        );
        loop {
            let now = status.borrow_and_update().clone();
            match now.phase {
                Phase::Starting | Phase::Running => self.runs(&now),
                Phase::Waiting | Phase::Stopping => self.pauses(&now),
                Phase::Ended => return Some(self.ends(&now)),
                Phase::Lost => return Some(Over::Lost),
            }
            let changed = async {
                // Only another run of the process or its end matters to whoever probes it.
                let other =
                    |later: &Status| (later.phase, later.started) != (now.phase, now.started);
                status.wait_for(other).await.map(drop)
            };
            let running = now.phase == Phase::Running;
            tokio::select! {
                () = stop.cancelled() => return Some(Over::Stopped),
                changed = changed => if changed.is_err() {
                    return None;
                },
                why = self.probe(instance, &now), if running => {
                    tracing::warn!(workload = %self.about.workload, instance = %self.about.id, %why, "a process is killed and started again");
                    if let Err(error) = instance.restart().await {
                        tracing::warn!(instance = %self.about.id, %error, "cannot restart a process that fails its probe");
                    }
                    self.update(|seat| {
                        seat.status.ready = false;
                        seat.status.reason = Some(format!("{why}; it is started again"));
                    });
                }
                () = count(&world, &about, instance) => {}
            }
        }
    }

    fn runs(&self, now: &Status) {
        let known = self
            .about
            .ready
            .as_ref()
            .filter(|ready| ready.started == now.started);
        self.update(|seat| {
            let status = &mut seat.status;
            status.restarts = now.restarts;
            status.exit = now.exit.clone();
            let begins = status.state != InstanceState::Running;
            status.state = if now.phase == Phase::Running {
                InstanceState::Running
            } else {
                InstanceState::Starting
            };
            if begins && known.is_none() {
                status.ready = false;
                status.reason = Some("it is not ready yet".to_owned());
            }
        });
    }

    fn pauses(&self, now: &Status) {
        self.update(|seat| {
            let status = &mut seat.status;
            status.restarts = now.restarts;
            status.exit = now.exit.clone();
            status.state = if now.crash_loop {
                InstanceState::CrashLoop
            } else {
                InstanceState::Starting
            };
            stand_still(seat, now.exit.as_ref());
        });
    }

    fn ends(&self, now: &Status) -> Over {
        let exit = now.exit.as_ref();
        let again = match self.template.restart {
            RestartPolicy::Always => true,
            RestartPolicy::OnFailure => !exit.is_some_and(Exit::success),
            RestartPolicy::Never => false,
        };
        if again {
            // Its supervisor was told to stop by somebody else.
            return Over::Lost;
        }
        self.update(|seat| show_end(seat, now));
        Over::Exited
    }

    /// A process whose supervisor died may still serve, and goes on until another instance serves in its place. One that holds
    /// volumes is in the way of that.
    async fn be_replaced(&self, instance: Option<&Instance>) {
        let serves = instance.is_some()
            && self.world.ground.networks.is_some()
            && self.template.mounts.is_empty();
        if !serves {
            return;
        }
        self.world.lose(&self.about);
        for _ in 0..REPLACED_ROUNDS {
            if self.stop.is_cancelled() || self.world.replaced(&self.about) {
                return;
            }
            self.world.ground.clock.sleep(REPLACED_PERIOD).await;
        }
    }

    /// Leaves nothing behind but the log.
    async fn leave(&mut self, instance: Option<Instance>) {
        let ground = &self.world.ground;
        let mut delay = RETRY_MIN;
        while let Err(error) = self.end(instance.as_ref()).await {
            tracing::warn!(instance = %self.about.id, error = %Chain(&error), "cannot end an instance; trying again");
            ground.clock.sleep(delay).await;
            delay = (2 * delay).min(RETRY_MAX);
        }
        ground.volumes.release(&self.about.id);
        self.about.gone = true;
        self.note().ok();
        self.world.gone(&self.about);
    }

    async fn end(&self, instance: Option<&Instance>) -> Result<()> {
        let ground = &self.world.ground;
        let grace = Duration::from_secs(self.template.stop.grace_seconds.into());
        if let Some(instance) = instance {
            instance
                .stop(Some(grace))
                .await
                .map(drop)
                .or_else(|error| match error.kind() {
                    // Its supervisor is dead, or cannot be asked.
                    ErrorKind::NotFound | ErrorKind::Unavailable => Ok(()),
                    _ => Err(error),
                })?;
        }
        end(&ground.folders.of(&self.about.id), grace + MARGIN).await?;
        match &ground.networks {
            Some(networks) => {
                networks
                    .detach(&self.about.workload.application.label(), &self.about.id.0)
                    .await
            }
            None => Ok(()),
        }
    }

    /// Keeps what a later server must know.
    pub(super) fn note(&self) -> Result<()> {
        let noted = self.world.ground.folders.write(&self.about);
        noted.map_err(|error| {
            Error::internal(format!("cannot keep account of instance {}", self.about.id))
                .with_source(error)
        })
    }

    /// Keeps that this run of the process is ready, or is no longer.
    pub(super) fn note_ready(&mut self, ready: Option<Ready>) {
        if self.about.ready != ready {
            self.about.ready = ready;
            // At worst a later server has to look again.
            self.note().ok();
        }
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut Seat)) {
        self.world.update(&self.about, change);
    }
}

/// Shows an instance whose process ended for good.
pub(super) fn show_end(seat: &mut Seat, now: &Status) {
    seat.status.state = InstanceState::Exited;
    seat.status.restarts = now.restarts;
    seat.status.exit = now.exit.clone();
    seat.running = None;
    stand_still(seat, now.exit.as_ref());
}

fn stand_still(seat: &mut Seat, exit: Option<&Exit>) {
    seat.status.ready = false;
    seat.status.endpoints.clear();
    seat.status.usage = None;
    seat.status.reason = Some(exit.map_or_else(
        || "its process is not running".to_owned(),
        |exit| format!("its process {exit}"),
    ));
}

/// Reads what an instance uses, for ever.
async fn count(world: &World, about: &About, instance: &Instance) {
    loop {
        if let Ok(usage) = instance.usage().await {
            world.update(about, |seat| seat.status.usage = Some(usage));
        }
        world.ground.clock.sleep(USAGE_PERIOD).await;
    }
}

/// On the machine's network no two instances can have the same port: each gets one that is free now.
fn free_ports(template: &Template) -> Result<BTreeMap<tappaas_core::Name, u16>> {
    let free = |port: &tappaas_core::model::Port| {
        let bound =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|socket| socket.local_addr());
        let bound = bound.map_err(|error| {
            Error::unavailable("this machine has no free port").with_source(error)
        });
        Ok((port.name.clone(), bound?.port()))
    };
    template.ports.iter().map(free).collect()
}
