use std::{collections::BTreeSet, fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{StreamExt as _, stream::BoxStream};
use tappaas_core::{
    backend::{
        Exec, ExecOutput, ExecRequest, InstanceId, InstanceState, InstanceStatus, LogLine,
        LogRequest, ReleaseSet, Scheduler, Template, Track, Workload, WorkloadId, WorkloadStatus,
    },
    model::{Autoscale, EnvValue, Port, RestartPolicy, Rollout},
};

use super::SchedulerFixture;
use crate::{
    Program,
    conformance::{Failure, PATIENCE, Verdict, application_key, name, pass_over, until},
};

/// A workload under test: applies it, generation by generation, and waits for what becomes of it.
#[derive(Debug)]
pub struct Stage<'a> {
    fixture: &'a dyn SchedulerFixture,
    /// The scheduler.
    pub scheduler: Arc<dyn Scheduler>,
    /// The workload.
    pub id: WorkloadId,
    generation: u64,
}

/// What a command came to.
#[derive(Debug, Default)]
pub struct Ran {
    /// Its standard output.
    pub output: String,
    /// Its standard error.
    pub error: String,
    /// Its exit code.
    pub code: i32,
}

impl<'a> Stage<'a> {
    /// Prepares the workload `web` of application `app`; nothing is applied yet.
    pub fn new(fixture: &'a dyn SchedulerFixture) -> Self {
        Self::of(fixture, "app")
    }

    /// Prepares the workload `web` of an application.
    pub fn of(fixture: &'a dyn SchedulerFixture, application: &str) -> Self {
        Self {
            fixture,
            scheduler: fixture.scheduler(),
            id: WorkloadId {
                application: application_key(application),
                process: name("web"),
                track: Track::Stable,
            },
            generation: 0,
        }
    }

    /// A template without a port.
    pub async fn template(&self, program: Program) -> Template {
        self.fixture.template(&program).await
    }

    /// A template of a program that serves its name at a declared port, and is always restarted.
    pub async fn serving(&self, name: &str) -> Template {
        let program = Program::Serve {
            name: name.to_owned(),
            latency: Duration::ZERO,
        };
        let mut template = with_port(self.template(program).await, 8080, true);
        template.restart = RestartPolicy::Always;
        template
    }

    /// Applies the next generation: so many instances of each release.
    pub async fn apply(&mut self, releases: &[(u64, u32, &Template)]) -> Verdict {
        let sets = releases
            .iter()
            .map(|(release, count, template)| ReleaseSet {
                release: *release,
                count: *count,
                retiring: BTreeSet::new(),
                template: (*template).clone(),
            });
        self.apply_sets(sets.collect()).await
    }

    /// Applies the next generation.
    pub async fn apply_sets(&mut self, releases: Vec<ReleaseSet>) -> Verdict {
        let workload = self.next(releases);
        Ok(self.scheduler.apply(&workload).await?)
    }

    /// Applies the next generation: as many instances of a release as the scheduler finds right.
    ///
    /// # Errors
    /// What the scheduler says.
    pub async fn autoscale(
        &mut self,
        release: u64,
        bounds: Autoscale,
        template: &Template,
    ) -> tappaas_core::Result<()> {
        let workload = Workload {
            autoscale: Some(bounds),
            ..self.next_of(release, bounds.min, template)
        };
        self.scheduler.apply(&workload).await
    }

    /// The next generation, to be applied: so many instances of a release.
    pub fn next_of(&mut self, release: u64, count: u32, template: &Template) -> Workload {
        let set = ReleaseSet {
            release,
            count,
            retiring: BTreeSet::new(),
            template: template.clone(),
        };
        self.next(vec![set])
    }

    fn next(&mut self, releases: Vec<ReleaseSet>) -> Workload {
        self.generation += 1;
        Workload {
            id: self.id.clone(),
            generation: self.generation,
            releases,
            rollout: self.rollout(),
            autoscale: None,
        }
    }

    /// Says whether counts per release are obeyed one by one; if not, a case is passed over.
    pub fn is_stepwise(&self, case: &str) -> bool {
        let stepwise = self.scheduler.capabilities().stepwise;
        if !stepwise {
            pass_over(case, "the scheduler is not stepwise");
        }
        stepwise
    }

    /// What a workload says of rolling.
    pub fn rollout(&self) -> Option<Rollout> {
        let stepwise = self.scheduler.capabilities().stepwise;
        (!stepwise).then(Rollout::default)
    }

    /// How the workload is, which must be there.
    pub async fn status(&self) -> Result<WorkloadStatus, Failure> {
        let status = self.scheduler.observe(&self.id).await?;
        status.ok_or_else(|| Failure::from(format!("{} is not observed", self.id)))
    }

    /// Waits until the workload is as `condition` says.
    pub async fn until(
        &self,
        what: &str,
        condition: impl Fn(&WorkloadStatus) -> bool,
    ) -> Result<WorkloadStatus, Failure> {
        let mut last = None;
        let found = until(what, async || {
            let status = self.status().await?;
            let fits = condition(&status);
            last = Some(status.clone());
            Ok(fits.then_some(status))
        });
        let found = found.await;
        found.map_err(|failure| Failure::from(format!("{failure}; last seen: {last:#?}")))
    }

    /// Waits until so many instances are ready and no others are there.
    pub async fn ready(&self, count: usize) -> Result<Vec<InstanceStatus>, Failure> {
        let ready = |status: &WorkloadStatus| {
            let mut instances = status.instances.iter();
            status.instances.len() == count && instances.all(|instance| instance.ready)
        };
        let what = format!("{count} instances are ready and there are no others");
        Ok(self.until(&what, ready).await?.instances)
    }

    /// Waits until the only instance is in a state.
    pub async fn only(&self, state: InstanceState) -> Result<InstanceStatus, Failure> {
        let what = format!("the only instance is {state:?}");
        let in_state = |status: &WorkloadStatus| matches!(status.instances.as_slice(), [only] if only.state == state);
        let mut status = self.until(&what, in_state).await?;
        Ok(status.instances.remove(0))
    }

    /// Waits until no instance is there.
    pub async fn empty(&self) -> Verdict {
        let empty = |status: &WorkloadStatus| status.instances.is_empty();
        self.until("no instance is left", empty).await?;
        Ok(())
    }

    /// Runs a command in a ready instance to its end.
    pub async fn exec(&self, command: &[&str], input: &str) -> Result<Ran, Failure> {
        self.exec_in(None, command, input).await
    }

    /// Runs a command in an instance to its end, ready or not.
    pub async fn exec_in(
        &self,
        instance: Option<&InstanceId>,
        command: &[&str],
        input: &str,
    ) -> Result<Ran, Failure> {
        let request = ExecRequest {
            workload: self.id.clone(),
            instance: instance.cloned(),
            command: command.iter().map(|&word| word.to_owned()).collect(),
            terminal: None,
        };
        let Exec {
            input: stdin,
            mut output,
        } = self.scheduler.exec(&request).await?;
        if !input.is_empty() {
            // A command that reads nothing may be gone already.
            let _unread = stdin.send(Bytes::copy_from_slice(input.as_bytes())).await;
        }
        drop(stdin);
        let mut ran = Ran::default();
        while let Some(item) = output.next().await {
            match item? {
                ExecOutput::Stdout(bytes) => ran.output += &String::from_utf8_lossy(&bytes),
                ExecOutput::Stderr(bytes) => ran.error += &String::from_utf8_lossy(&bytes),
                ExecOutput::Exited(code) => {
                    ran.code = code;
                    return Ok(ran);
                }
            }
        }
        Err(Failure::from(format!(
            "exec of {command:?} ended without an exit code"
        )))
    }

    /// The lines of the workload's process kept so far.
    pub async fn lines(&self) -> Result<Vec<String>, Failure> {
        let mut lines = self.scheduler.logs(&self.log_request()).await?;
        let mut texts = Vec::new();
        while let Some(line) = lines.next().await {
            texts.push(line?.text);
        }
        Ok(texts)
    }

    /// Waits until the log has a line.
    pub async fn logged(&self, line: &str) -> Verdict {
        self.listen().await?.hears(line).await
    }

    /// Begins to follow the log, which need not outlive what wrote it.
    pub async fn listen(&self) -> Result<Listener, Failure> {
        let request = LogRequest {
            follow: true,
            ..self.log_request()
        };
        Ok(Listener(self.scheduler.logs(&request).await?))
    }

    /// Asks for all lines of the workload's process.
    pub fn log_request(&self) -> LogRequest {
        LogRequest {
            application: self.id.application.clone(),
            process: Some(self.id.process.clone()),
            release: None,
            since: None,
            tail: None,
            follow: false,
        }
    }
}

/// Follows a log.
pub struct Listener(BoxStream<'static, tappaas_core::Result<LogLine>>);

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").finish_non_exhaustive()
    }
}

impl Listener {
    /// Waits for a line.
    pub async fn hears(mut self, line: &str) -> Verdict {
        let mut others = Vec::new();
        let hearing = async {
            while let Some(next) = self.0.next().await {
                let text = next?.text;
                if text == line {
                    return Ok(());
                }
                others.push(text);
            }
            Err(Failure::from("the log that was followed ended"))
        };
        let heard = tokio::time::timeout(PATIENCE, hearing).await;
        heard.unwrap_or_else(|_| Err(format!("nobody wrote `{line}`, but {others:?}").into()))
    }
}

/// Adds a port and tells it to the process, as core does.
pub(crate) fn with_port(mut template: Template, number: u16, declared: bool) -> Template {
    let port = EnvValue::new(number.to_string());
    template.environment.insert("PORT".to_owned(), port);
    template.ports.push(Port {
        number,
        declared,
        ..Port::undeclared()
    });
    template
}
