use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use futures::stream::{self, BoxStream, StreamExt as _};
use tappaas_core::{
    Error, Result,
    backend::{InstanceId, LogLine, LogRequest},
};

use super::world::World;
use crate::{Line, LogReader, Stream};

/// How often it is looked for later lines.
const PERIOD: Duration = Duration::from_millis(100);
/// So many lines are handed over at once.
const BATCH_MAX: usize = 512;

impl World {
    /// The lines of an application's instances, merged in order of time.
    pub(super) async fn logs(
        self: &Arc<Self>,
        request: &LogRequest,
    ) -> Result<BoxStream<'static, Result<LogLine>>> {
        let mut reading = Reading {
            world: Arc::clone(self),
            request: request.clone(),
            sources: BTreeMap::new(),
            tail: request.tail,
        };
        // Not only once somebody reads: an instance may be gone by then.
        let found = tokio::task::spawn_blocking(move || {
            reading.find();
            reading
        });
        let reading = found.await.map_err(|error| {
            Error::internal("looking for logs was cut short").with_source(error)
        })?;
        let batches = stream::unfold(Some(reading), |reading| async move {
            let mut reading = reading?;
            loop {
                let read = tokio::task::spawn_blocking(move || (reading.batch(), reading)).await;
                let (lines, returned) = match read {
                    Ok((Ok(lines), reading)) => (lines, reading),
                    Ok((Err(error), _)) => return Some((vec![Err(error)], None)),
                    Err(error) => {
                        let error =
                            Error::internal("reading a log was cut short").with_source(error);
                        return Some((vec![Err(error)], None));
                    }
                };
                reading = returned;
                if !lines.is_empty() {
                    return Some((lines.into_iter().map(Ok).collect(), Some(reading)));
                }
                if !reading.request.follow {
                    return None;
                }
                tokio::time::sleep(PERIOD).await;
            }
        });
        Ok(batches.flat_map(stream::iter).boxed())
    }
}

struct Reading {
    world: Arc<World>,
    request: LogRequest,
    sources: BTreeMap<InstanceId, Source>,
    /// Of the lines there are now, so many are left to be passed on; `None`: all.
    tail: Option<usize>,
}

struct Source {
    reader: LogReader,
    origin: String,
    lines: VecDeque<Line>,
}

impl Reading {
    /// The next lines, none if there are no further ones now. Blocks.
    fn batch(&mut self) -> Result<Vec<LogLine>> {
        self.find();
        let mut lines = VecDeque::new();
        let most = self.tail.unwrap_or(BATCH_MAX);
        while let Some(line) = self.next()? {
            lines.push_back(line);
            if lines.len() > most {
                lines.pop_front();
            }
            if self.tail.is_none() && lines.len() == BATCH_MAX {
                break;
            }
        }
        self.tail = None;
        Ok(lines.into())
    }

    /// Finds instances that are asked for and not read yet.
    fn find(&mut self) {
        for about in self.world.abouts(&self.request.application) {
            let process = self
                .request
                .process
                .as_ref()
                .is_none_or(|process| *process == about.workload.process);
            let release = self
                .request
                .release
                .is_none_or(|release| release == about.release);
            if process && release {
                self.sources
                    .entry(about.id.clone())
                    .or_insert_with(|| Source {
                        reader: LogReader::open(&self.world.ground.folders.of(&about.id)),
                        origin: format!("{}/{}", about.workload.process, about.id),
                        lines: VecDeque::new(),
                    });
            }
        }
    }

    /// The oldest line that is not passed on yet.
    fn next(&mut self) -> Result<Option<LogLine>> {
        let mut oldest: Option<&mut Source> = None;
        for source in self.sources.values_mut() {
            source.fill(&self.request)?;
            let at = |source: &Source| source.lines.front().map(|line| line.at);
            let Some(own) = at(source) else {
                continue;
            };
            if oldest
                .as_deref()
                .and_then(at)
                .is_none_or(|other| own < other)
            {
                oldest = Some(source);
            }
        }
        Ok(oldest.and_then(|source| {
            let line = source.lines.pop_front()?;
            Some(LogLine {
                at: line.at,
                origin: source.origin.clone(),
                error: line.stream == Stream::Stderr,
                text: line.text,
            })
        }))
    }
}

impl Source {
    fn fill(&mut self, request: &LogRequest) -> Result<()> {
        while self.lines.is_empty() {
            let read = self.reader.read();
            let read = read.map_err(|error| {
                Error::internal(format!("cannot read the log of {}", self.origin))
                    .with_source(error)
            })?;
            if read.is_empty() {
                return Ok(());
            }
            let wanted = |line: &Line| {
                line.stream != Stream::Shim && request.since.is_none_or(|since| since <= line.at)
            };
            self.lines.extend(read.into_iter().filter(wanted));
        }
        Ok(())
    }
}
