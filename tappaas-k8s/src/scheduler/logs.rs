//! What instances write, from the nodes that they run on.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::{
    AsyncBufRead, AsyncBufReadExt as _, Stream, StreamExt as _,
    stream::{self, BoxStream},
};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt as _,
    api::{ListParams, LogParams},
};
use tappaas_core::{
    Error, Result, Timestamp,
    backend::{LogLine, LogRequest},
};
use tokio::{sync::mpsc, task::JoinSet};
use tokio_stream::wrappers::ReceiverStream;

use super::{KubernetesScheduler, names, observing};
use crate::{
    PlatformId,
    failure::{failure, is, within},
};

/// The last lines that are read of one run, and of all together, however many are asked for.
const KEPT_MAX: usize = 50_000;
/// How long a node may take to send them.
const KEPT_FOR: Duration = Duration::from_secs(60);
/// The bytes of a line; the rest of a longer one is cut off.
const LINE_MAX: usize = 64 << 10;
/// Lines that wait for whoever follows.
const LINES_MAX: usize = 256;
/// Runs that are followed at once.
const RUNS_MAX: usize = 256;
/// How often instances are looked for while somebody follows.
const PERIOD: Duration = Duration::from_millis(500);

impl KubernetesScheduler {
    pub(super) async fn read(
        &self,
        request: &LogRequest,
    ) -> Result<BoxStream<'static, Result<LogLine>>> {
        let reader = Arc::new(Reader {
            api: Api::namespaced(
                self.client.clone(),
                &names::namespace(&self.platform, &request.application),
            ),
            platform: self.platform.clone(),
            request: request.clone(),
        });
        let mut read = BTreeMap::new();
        let mut lines = Vec::new();
        let tail = request.tail.unwrap_or(KEPT_MAX).min(KEPT_MAX);
        let now = self.clock.now();
        let pods = reader.pods().await?;
        for run in pods.iter().flat_map(runs).take(RUNS_MAX) {
            let found = reader.kept(&run).await?;
            let newest = found.iter().map(|line| line.at).max();
            let so_far: &mut Progress = read.entry(run.uid()).or_default();
            so_far.last = so_far.last.max(newest).max((tail == 0).then_some(now));
            lines.extend(found);
            lines.sort_by_key(|line: &LogLine| line.at);
            lines.drain(..lines.len().saturating_sub(tail));
        }
        let kept = stream::iter(lines.into_iter().map(Ok));
        if !request.follow {
            return Ok(kept.boxed());
        }
        let (sender, receiver) = mpsc::channel(LINES_MAX);
        tokio::spawn(reader.follow(read, sender));
        Ok(kept.chain(ReceiverStream::new(receiver)).boxed())
    }
}

/// How far the runs of a pod were read.
#[derive(Clone, Copy, Default)]
struct Progress {
    /// The time of the last line. Nothing from before is told again, whichever run it is said to be of: a container may be started again
    /// between the look at its pod and the reading.
    last: Option<Timestamp>,
    /// The newest run that was read to its end.
    done: Option<i32>,
}

/// One run of a pod's container.
struct Run {
    pod: Pod,
    number: i32,
    /// It is the one before the last.
    previous: bool,
    /// It writes no more.
    over: bool,
}

impl Run {
    fn uid(&self) -> String {
        self.pod.uid().unwrap_or_default()
    }
}

struct Reader {
    api: Api<Pod>,
    platform: PlatformId,
    request: LogRequest,
}

impl Reader {
    /// Follows every run there is and will be, those of each pod by a task of its own, until nobody listens any more.
    async fn follow(
        self: Arc<Self>,
        mut read: BTreeMap<String, Progress>,
        to: mpsc::Sender<Result<LogLine>>,
    ) {
        let mut followed = JoinSet::new();
        let mut following = BTreeSet::new();
        // Dropping the tasks ends them.
        while !to.is_closed() {
            let pods = match self.pods().await {
                Ok(pods) => pods,
                Err(error) if error.kind().retryable() => {
                    tokio::time::sleep(PERIOD).await;
                    continue;
                }
                Err(error) => {
                    to.send(Err(error)).await.ok();
                    return;
                }
            };
            for pod in pods.iter().take(RUNS_MAX) {
                let uid = pod.uid().unwrap_or_default();
                let so_far = read.get(&uid).copied().unwrap_or_default();
                let mut more = runs(pod);
                more.retain(|run| Some(run.number) > so_far.done);
                if !more.is_empty() && following.insert(uid) {
                    followed.spawn(Arc::clone(&self).follow_runs(more, so_far, to.clone()));
                }
            }
            tokio::time::sleep(PERIOD).await;
            while let Some(Ok((uid, so_far))) = followed.try_join_next() {
                following.remove(&uid);
                read.insert(uid, so_far);
            }
            // Of what is gone nothing is remembered.
            let there: BTreeSet<_> = pods.iter().filter_map(kube::ResourceExt::uid).collect();
            read.retain(|uid, _| there.contains(uid));
        }
    }

    /// Follows runs of one pod, one after the other.
    async fn follow_runs(
        self: Arc<Self>,
        runs: Vec<Run>,
        mut so_far: Progress,
        to: mpsc::Sender<Result<LogLine>>,
    ) -> (String, Progress) {
        let uid = runs[0].uid();
        for run in runs {
            let read = self.follow_run(&run, &mut so_far.last, &to).await;
            if read && run.over {
                so_far.done = Some(run.number);
            }
        }
        (uid, so_far)
    }

    /// Follows a run to its end. `false` if it could not be read, and may be later.
    async fn follow_run(
        &self,
        run: &Run,
        last: &mut Option<Timestamp>,
        to: &mpsc::Sender<Result<LogLine>>,
    ) -> bool {
        let parameters = self.parameters(run, *last, true);
        let name = run.pod.name_any();
        let told = match within(self.api.log_stream(&name, &parameters)).await {
            Ok(told) => told,
            // It has not begun, or its node has forgotten it.
            Err(error) => return is(&error, 400) || is(&error, 404),
        };
        let mut lines = std::pin::pin!(parsed(told, origin(&run.pod)));
        while let Some(line) = lines.next().await {
            if last.is_some_and(|last| line.at <= last) || self.is_early(&line) {
                continue;
            }
            *last = Some(line.at);
            if to.send(Ok(line)).await.is_err() {
                break;
            }
        }
        true
    }

    /// The lines of a run that its node keeps.
    async fn kept(&self, run: &Run) -> Result<Vec<LogLine>> {
        let parameters = self.parameters(run, None, false);
        let name = run.pod.name_any();
        let told = self.api.log_stream(&name, &parameters);
        let told = match within(told).await {
            Ok(told) => told,
            // It has not begun yet, or its node has forgotten it.
            Err(error) if is(&error, 400) || is(&error, 404) => return Ok(Vec::new()),
            Err(error) => {
                let id = observing::instance_id(&run.pod);
                return Err(failure(
                    format!("cannot read what instance {id} wrote"),
                    error,
                ));
            }
        };
        let lines = parsed(told, origin(&run.pod));
        let lines = lines.filter(|line| std::future::ready(!self.is_early(line)));
        let lines = tokio::time::timeout(KEPT_FOR, lines.collect()).await;
        lines.map_err(|_| {
            let id = observing::instance_id(&run.pod);
            Error::unavailable(format!("its node does not send what instance {id} wrote"))
        })
    }

    fn is_early(&self, line: &LogLine) -> bool {
        self.request.since.is_some_and(|since| line.at < since)
    }

    fn parameters(&self, run: &Run, after: Option<Timestamp>, follow: bool) -> LogParams {
        let tail = self.request.tail.filter(|_| !follow);
        let begin = after.max(self.request.since);
        LogParams {
            follow: follow && !run.previous,
            container: names::process(&run.pod.metadata).map(str::to_owned),
            previous: run.previous,
            // In whole seconds: what came before in the same one is left out by whoever reads.
            since_time: begin.and_then(|time| Timestamp::from_second(time.as_second()).ok()),
            // The last ones, of what may be more than anybody holds.
            tail_lines: (!follow).then_some(tail.unwrap_or(KEPT_MAX).min(KEPT_MAX) as i64),
            timestamps: true,
            ..LogParams::default()
        }
    }

    async fn pods(&self) -> Result<Vec<Pod>> {
        let LogRequest {
            application,
            process,
            release,
            ..
        } = &self.request;
        let mut labels = names::application_labels(&self.platform, application);
        labels.extend(process.iter().map(names::of_process));
        labels.extend(release.map(|release| (names::RELEASE.to_owned(), release.to_string())));
        let request = ListParams::default().labels(&names::query(&labels));
        let found = within(self.api.list(&request)).await;
        let doing = || format!("cannot list the pods of {application}");
        Ok(found.map_err(|error| failure(doing(), error))?.items)
    }
}

/// Of a pod's container the last two runs: of those before nothing is kept.
fn runs(pod: &Pod) -> Vec<Run> {
    let status = pod.status.clone().unwrap_or_default();
    let Some(container) = observing::own(pod, status.container_statuses.into_iter().flatten())
    else {
        return Vec::new();
    };
    let last = container.restart_count;
    let state = container.state.unwrap_or_default();
    let (runs, ended) = (state.running.is_some(), state.terminated.is_some());
    let previous = (last > 0).then(|| (last - 1, true));
    let current = (runs || ended).then_some((last, false));
    let each = previous
        .into_iter()
        .chain(current)
        .map(|(number, previous)| Run {
            pod: pod.clone(),
            number,
            previous,
            over: previous || ended,
        });
    each.collect()
}

fn origin(pod: &Pod) -> String {
    let process = names::process(&pod.metadata);
    let instance = observing::instance_id(pod);
    match process {
        Some(process) => format!("{process}/{instance}"),
        None => instance.to_string(),
    }
}

/// Reads lines that begin with their time, until what is read ends or breaks off.
fn parsed(told: impl AsyncBufRead, origin: String) -> impl Stream<Item = LogLine> {
    let told = Box::pin(told);
    let texts = stream::unfold(told, |mut told| async {
        let text = line(&mut told).await?;
        Some((text, told))
    });
    texts.filter_map(move |text| std::future::ready(parse(&text, &origin)))
}

/// The next line without its end, of a longer one the beginning; `None` at the end.
async fn line(told: &mut (impl AsyncBufRead + Unpin)) -> Option<String> {
    let mut bytes = Vec::new();
    loop {
        let chunk = told.fill_buf().await.ok()?;
        if chunk.is_empty() && bytes.is_empty() {
            return None;
        }
        let end = chunk.iter().position(|byte| *byte == b'\n');
        let (read, ended) = (
            end.unwrap_or(chunk.len()),
            end.is_some() || chunk.is_empty(),
        );
        let room = LINE_MAX.saturating_sub(bytes.len());
        bytes.extend_from_slice(&chunk[..read.min(room)]);
        told.consume_unpin(read + usize::from(end.is_some()));
        if ended {
            return Some(String::from_utf8_lossy(&bytes).into_owned());
        }
    }
}

fn parse(text: &str, origin: &str) -> Option<LogLine> {
    let (time, text) = text.split_once(' ')?;
    Some(LogLine {
        at: time.parse().ok()?,
        origin: origin.to_owned(),
        // Kubelets do not tell one stream from the other.
        error: false,
        text: text.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_read_whatever_is_in_them() {
        let long = "x".repeat(LINE_MAX * 2);
        let text = [b"a\n\xff\n\n".as_slice(), long.as_bytes(), b"\nlast"].concat();
        let mut told = text.as_slice();
        let mut lines = Vec::new();
        while let Some(line) = line(&mut told).await {
            lines.push(line);
        }
        assert_eq!(lines, ["a", "\u{fffd}", "", &long[..LINE_MAX], "last"]);
    }
}
