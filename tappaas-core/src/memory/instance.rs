use std::{
    future::pending,
    net::{IpAddr, SocketAddr},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use super::{
    Behaviour, End,
    network::{Answer, Handler, Listening},
    userland::Inside,
};
use crate::{
    Timestamp,
    backend::{Exit, InstanceState, InstanceStatus, LogLine},
    model::RestartPolicy,
};

/// How often an instance tries again to mount volumes that another one holds.
const MOUNT_PERIOD: Duration = Duration::from_millis(100);
/// The delay before the first restart; each further one is twice as long.
const RESTART_DELAY_MIN: Duration = Duration::from_millis(500);
const RESTART_DELAY_MAX: Duration = Duration::from_secs(60);
/// A process that ran so long is not counted as one that keeps ending.
const RAN_WELL: Duration = Duration::from_secs(60);
/// So many ends in a row are a crash loop.
const CRASH_LOOP: u32 = 3;

/// The life of one instance, from its placement to its end.
#[derive(Debug)]
pub(super) struct Life {
    pub(super) inside: Inside,
    pub(super) release: u64,
    pub(super) behaviour: Behaviour,
    pub(super) ip: IpAddr,
    /// Cancelled when the instance has to go.
    pub(super) stop: CancellationToken,
}

impl Life {
    /// Lives until the instance is told to stop.
    pub(super) async fn live(self) {
        let mut ends = 0;
        let mut running = self.stop.run_until_cancelled(self.start()).await;
        while running.is_some() {
            let begun = self.now();
            let Some(exit) = self.run().await else {
                break;
            };
            let ran = exit.at.duration_since(begun);
            ends = if ran.unsigned_abs() < RAN_WELL {
                ends + 1
            } else {
                1
            };
            let restart = self.after(exit, ends);
            running = self.stop.run_until_cancelled(restart).await;
        }
        self.inside.world.gone(&self.inside);
    }

    async fn start(&self) {
        self.sleep(self.behaviour.start).await;
        let volumes = &self.inside.world.volumes;
        let mounts = &self.inside.template.mounts;
        while let Err(why) = volumes.hold(&self.inside.instance, mounts) {
            self.update(|status| status.reason = Some(why));
            self.sleep(MOUNT_PERIOD).await;
        }
    }

    /// Runs the process once. Returns how it ended, or `None` if it was told to stop.
    async fn run(&self) -> Option<Exit> {
        self.update(|status| {
            status.state = InstanceState::Running;
            status.reason = None;
        });
        self.greet();
        let mut process = pin!(self.process());
        let ended = tokio::select! {
            biased;
            exit = &mut process => Some(exit),
            () = self.probe() => Some(self.exit(End::Signal(9))),
            () = self.stop.cancelled() => None,
        };
        if let Some(exit) = ended {
            self.update(|status| {
                status.ready = false;
                status.endpoints.clear();
            });
            return Some(exit);
        }
        let stop = &self.inside.template.stop;
        let grace = Duration::from_secs(stop.grace_seconds.into());
        let Some(goes_on) = self.behaviour.stop else {
            self.sleep(grace).await;
            return None;
        };
        self.write(format!("got {}", stop.signal));
        tokio::select! {
            _ = process => {}
            () = self.sleep(goes_on) => self.write("bye".to_owned()),
            () = self.sleep(grace) => {}
        }
        None
    }

    /// Says what becomes of an instance whose process ended; returns when the process starts again.
    async fn after(&self, exit: Exit, ends: u32) {
        let again = match self.inside.template.restart {
            RestartPolicy::Always => true,
            RestartPolicy::OnFailure => !exit.success(),
            RestartPolicy::Never => false,
        };
        let reason = format!("its process {exit}");
        self.update(|status| {
            status.exit = Some(exit);
            status.reason = Some(reason);
            status.state = match again {
                false => InstanceState::Exited,
                true if ends >= CRASH_LOOP => InstanceState::CrashLoop,
                true => InstanceState::Starting,
            };
        });
        if !again {
            return pending().await;
        }
        let delay = RESTART_DELAY_MIN.saturating_mul(1 << ends.saturating_sub(1).min(16));
        self.sleep(delay.min(RESTART_DELAY_MAX)).await;
        self.update(|status| status.restarts += 1);
    }

    /// The process: listens as its behaviour says, and returns how it ends by itself.
    async fn process(&self) -> Exit {
        let limit = self.inside.template.resources.memory;
        if limit.is_some_and(|limit| self.behaviour.memory > limit) {
            return Exit {
                out_of_memory: true,
                ..self.exit(End::Signal(9))
            };
        }
        let serving = async {
            let Some(delay) = self.behaviour.listen else {
                return pending().await;
            };
            self.sleep(delay).await;
            let _listening = self.listen();
            pending().await
        };
        let ending = async {
            let Some((after, end)) = self.behaviour.end else {
                return pending().await;
            };
            self.sleep(after).await;
            self.exit(end)
        };
        tokio::select! {
            exit = serving => exit,
            exit = ending => exit,
        }
    }

    fn listen(&self) -> Vec<Listening> {
        let declared = self.inside.template.ports.iter().map(|port| port.number);
        let ports = match self.behaviour.port {
            Some(port) => vec![port],
            None => declared.collect(),
        };
        let answer = self.behaviour.answer.clone();
        let answer = answer.unwrap_or_else(|| self.release.to_string());
        let (status, latency) = (self.behaviour.status, self.behaviour.latency);
        let clock = Arc::clone(&self.inside.world.clock);
        let handler: Handler = Arc::new(move |path| {
            let answer = Answer::new(status, format!("{answer} {path}"));
            let clock = Arc::clone(&clock);
            Box::pin(async move {
                if !latency.is_zero() {
                    clock.sleep(latency).await;
                }
                answer
            })
        });
        let network = &self.inside.world.network;
        let listen = |port| network.listen(SocketAddr::new(self.ip, port), Arc::clone(&handler));
        ports
            .into_iter()
            .filter_map(|port| listen(port).ok())
            .collect()
    }

    fn greet(&self) {
        let environment = &self.inside.template.environment;
        for line in &self.behaviour.output {
            let value = line.strip_prefix('$').and_then(|name| {
                let value = environment.get(name)?;
                Some(format!("{name}={}", value.expose()))
            });
            self.write(value.unwrap_or_else(|| line.clone()));
        }
    }

    fn write(&self, text: String) {
        let Inside {
            world,
            workload,
            instance,
            ..
        } = &self.inside;
        let line = LogLine {
            at: self.now(),
            origin: format!("{}/{instance}", workload.process),
            error: false,
            text,
        };
        world.logs.write(workload, self.release, line);
    }

    fn exit(&self, end: End) -> Exit {
        let (code, signal) = match end {
            End::Code(code) => (Some(code), None),
            End::Signal(signal) => (None, Some(signal)),
        };
        Exit {
            code,
            signal,
            out_of_memory: false,
            at: self.now(),
        }
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut InstanceStatus)) {
        self.inside.world.update(&self.inside, change);
    }

    pub(super) async fn sleep(&self, duration: Duration) {
        self.inside.world.clock.sleep(duration).await;
    }

    fn now(&self) -> Timestamp {
        self.inside.world.clock.now()
    }
}
