//! What a scheduler finds when it starts: the store says what was applied, folders say what runs.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::{StreamExt as _, stream};
use tappaas_core::{
    Chain, Error, ErrorKind, Name, Result,
    backend::{InstanceId, InstanceState, Track, Workload, WorkloadId},
    model::RestartPolicy,
};

use super::{
    about::About,
    life::{Begun, show_end},
    peers::anchor,
    table::Seat,
    world::{WORKLOADS, World},
};
use crate::{Adopted, Instance, Phase, Status, end, reap};

/// So many instances are looked at at once.
const LOOKING_MAX: usize = 16;
/// So many rows are read at once.
const ROWS_MAX: usize = 256;
/// A supervisor that is just starting an instance answers soon.
const PATIENCE: Duration = Duration::from_secs(10);
const PERIOD: Duration = Duration::from_millis(100);

impl World {
    /// Takes over what an earlier server left, cleans up after what ended meanwhile, and starts what is missing.
    pub(super) async fn take_over(self: &Arc<Self>) -> Result<()> {
        let (workloads, unread) = self.stored().await?;
        let folders = self.ground.folders.clone();
        let listed = tokio::task::spawn_blocking(move || folders.all()).await;
        let listed = listed.map_err(|error| {
            Error::internal("looking for instances was cut short").with_source(error)
        })?;
        let listed = listed.map_err(|error| {
            Error::internal("cannot list the folders of instances").with_source(error)
        })?;
        let found: Vec<Found> = stream::iter(listed)
            .map(|(id, about)| self.look(id, about))
            .buffer_unordered(LOOKING_MAX)
            .filter_map(async |found| found)
            .collect()
            .await;
        let known = |found: &Found| {
            let mut ids = workloads.iter().map(|workload| &workload.id).chain(&unread);
            ids.any(|id| *id == found.about.workload)
        };
        let (mut running, mut ended): (Vec<_>, Vec<_>) =
            found.into_iter().partition(|found| !found.about.gone);
        // Logs of workloads that were removed go; what runs of them is stopped in order.
        for found in ended.extract_if(.., |found| !known(found)) {
            self.ground.folders.delete(&found.about.id).ok();
        }
        running.sort_by_key(|found| (found.about.created, found.about.id.clone()));
        ended.sort_by_key(|found| (found.about.created, found.about.id.clone()));
        self.restore(
            workloads,
            unread.clone(),
            ended.into_iter().map(|found| found.about).collect(),
        );
        if let Some(networks) = &self.ground.networks {
            let instances = running.iter().map(|found| found.about.id.0.clone());
            let gateways = self.applications().into_iter();
            let held: BTreeSet<String> = instances
                .chain(gateways.map(|application| anchor(&application)))
                .collect();
            networks.retain(move |name| held.contains(name)).await?;
        }
        for found in running {
            self.seat(found);
        }
        for application in self.applications() {
            self.open_doors(&application).await?;
        }
        self.begin();
        // Between the end of an application's last workload and giving back what it had, an earlier server may have died.
        let known = self.applications();
        for application in self.ground.slots.owners().await? {
            if !known.contains(&application) {
                self.put_left(application);
            }
        }
        self.sweep.notify_one();
        Ok(())
    }

    /// The workloads that were applied, and those of which no more can be read than that.
    async fn stored(&self) -> Result<(Vec<Workload>, Vec<WorkloadId>)> {
        let (mut workloads, mut unread) = (Vec::new(), Vec::new());
        let mut after: Option<Vec<u8>> = None;
        loop {
            let rows = self
                .ground
                .durable
                .scan(WORKLOADS, b"", after.as_deref(), ROWS_MAX)
                .await?;
            for row in &rows {
                match serde_json::from_slice::<Workload>(&row.value) {
                    Ok(workload) => workloads.push(workload),
                    Err(error) => {
                        let key = row.key.escape_ascii();
                        tracing::error!(%key, table = WORKLOADS, %error, "what was applied cannot be read; its instances are left alone until it is applied again");
                        unread.extend(workload_id(&row.key));
                    }
                }
            }
            match rows.last() {
                Some(last) if rows.len() == ROWS_MAX => after = Some(last.key.clone()),
                _ => return Ok((workloads, unread)),
            }
        }
    }

    /// What there is of an instance; `None`: nothing that is of any use, and it was cleaned up.
    async fn look(&self, id: InstanceId, about: Option<About>) -> Option<Found> {
        let dir = self.ground.folders.of(&id);
        let about = about.filter(|about| about.id == id);
        let gone = about.as_ref().is_some_and(|about| about.gone);
        let Some(mut about) = about else {
            // Nobody knows whose it is.
            match end(&dir, Duration::ZERO).await {
                Ok(()) => drop(self.ground.folders.delete(&id)),
                Err(error) => warn(&id, &error, "cannot end an instance that nobody knows"),
            }
            return None;
        };
        let mut state = find(&dir).await.unwrap_or_else(|error| {
            warn(&id, &error, "cannot adopt an instance yet");
            State::Unknown
        });
        if matches!(state, State::Ended(_) | State::Lost)
            && let Err(error) = reap(&dir).await
        {
            // Something of it lives: whoever took its place would not be alone.
            warn(&id, &error, "cannot clean up after an instance yet");
            state = State::Unknown;
        }
        let stays = match &state {
            State::Alive(..) | State::Unknown => true,
            State::Ended(status) => !gone && stays_ended(&about, status),
            State::Lost => false,
        };
        if about.gone == stays {
            about.gone = !stays;
            self.ground.folders.write(&about).ok();
        }
        if !stays {
            self.ground.volumes.release(&about.id);
        }
        Some(Found { about, state })
    }

    /// Gives an instance its place on the table again.
    fn seat(self: &Arc<Self>, found: Found) {
        let Found { about, state } = found;
        let mut status = self.first_status(&about);
        status.reason = Some("the server has just started".to_owned());
        if let Err(why) = self.ground.volumes.hold(&about.id, &about.template.mounts) {
            tracing::warn!(instance = %about.id, why, "an instance runs without the volumes it should have");
        }
        match state {
            State::Alive(instance, now) => {
                let known = about
                    .ready
                    .as_ref()
                    .filter(|ready| now.phase == Phase::Running && ready.started == now.started);
                if let Some(ready) = known {
                    status.ready = true;
                    status.reason = None;
                    status.found_port = ready.found_port;
                    let numbers = about.template.ports.iter().map(|port| {
                        let number = about.ports.get(&port.name).copied().unwrap_or(port.number);
                        let number = ready
                            .found_port
                            .filter(|_| !port.declared)
                            .unwrap_or(number);
                        (port.name.clone(), instance.endpoint(number))
                    });
                    status.endpoints = numbers.collect();
                }
                if now.phase == Phase::Running {
                    status.state = InstanceState::Running;
                }
                (status.restarts, status.exit) = (now.restarts, now.exit.clone());
                self.adopt(about, Begun::Running(instance), status);
            }
            State::Ended(now) => {
                self.adopt(about.clone(), Begun::Ended, status);
                self.update(&about, |seat: &mut Seat| show_end(seat, &now));
            }
            State::Unknown => self.adopt(about, Begun::Unknown, status),
            State::Lost => {}
        }
    }
}

/// The reverse of a workload's `Display`.
fn workload_id(key: &[u8]) -> Option<WorkloadId> {
    let text = std::str::from_utf8(key).ok()?;
    let (text, track) = match text.strip_suffix("@candidate") {
        Some(text) => (text, Track::Candidate),
        None => (text, Track::Stable),
    };
    let (application, process) = text.rsplit_once('/')?;
    Some(WorkloadId {
        application: application.parse().ok()?,
        process: Name::new(process).ok()?,
        track,
    })
}

struct Found {
    about: About,
    state: State,
}

enum State {
    Alive(Instance, Box<Status>),
    Ended(Box<Status>),
    /// Nothing of it runs, for certain.
    Lost,
    /// Its supervisor lives and does not answer, or not so that it is understood: it may well run.
    Unknown,
}

/// What became of an instance. An error says nothing about that.
async fn find(dir: &std::path::Path) -> Result<State> {
    let look = async {
        loop {
            match Instance::adopt(dir).await {
                Err(error) if error.kind().retryable() => tokio::time::sleep(PERIOD).await,
                answer => return answer,
            }
        }
    };
    let found = match tokio::time::timeout(PATIENCE, look).await {
        Ok(Ok(Adopted::Alive(instance))) => instance
            .status()
            .await
            .map(|status| State::Alive(instance, Box::new(status))),
        Ok(Ok(Adopted::Ended(status))) => Ok(State::Ended(status)),
        Ok(Ok(Adopted::Lost | Adopted::Absent)) => Ok(State::Lost),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(Error::unavailable("its supervisor does not answer")),
    };
    match found {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(State::Lost),
        found => found,
    }
}

fn warn(id: &InstanceId, error: &Error, what: &str) {
    tracing::warn!(instance = %id, error = %Chain(error), "{what}");
}

/// An ended process that is not started again stays as it is, also over a reboot.
fn stays_ended(about: &About, status: &Status) -> bool {
    match about.template.restart {
        RestartPolicy::Always => false,
        RestartPolicy::OnFailure => status
            .exit
            .as_ref()
            .is_some_and(tappaas_core::backend::Exit::success),
        RestartPolicy::Never => status.exit.is_some(),
    }
}
