use std::{
    collections::VecDeque,
    fs::{self, File},
    io::{self, BufRead as _, BufReader, Write as _},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use futures::stream::{self, BoxStream, StreamExt as _};
use tappaas_core::{Clock, Error, Result, backend::LogLine};
use tokio::sync::watch;

use crate::fault::Context as _;

/// The log of one build while it is written: a file of JSON lines.
///
/// The beginning of what is written goes to the file at once. Of what is beyond the limit the end is kept in memory and comes last: it
/// is there that a build says why it failed.
#[derive(Debug)]
pub(super) struct Log {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    /// How many lines are in the file, and whether that is all.
    progress: watch::Sender<Progress>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    lines: u64,
    ended: bool,
}

#[derive(Debug)]
struct State {
    file: File,
    /// Bytes that still go to the file.
    room: u64,
    end: VecDeque<Vec<u8>>,
    end_bytes: u64,
    end_room: u64,
    left_out: u64,
    /// The last lines of standard output and error that were not blank.
    last: [String; 2],
}

/// A longer line is split.
const LINE_MAX: usize = 16 << 10;

impl Log {
    /// Starts a log in place of one that may be there.
    pub(super) fn create(path: &Path, limit: u64, clock: Arc<dyn Clock>) -> Result<Self> {
        let aside = path.with_extension("new");
        let created = File::create(&aside).and_then(|file| fs::rename(&aside, path).map(|()| file));
        let file = created.context(|| format!("create the log {}", path.display()))?;
        let end_room = limit / 4;
        let state = State {
            file,
            room: limit - end_room,
            end: VecDeque::new(),
            end_bytes: 0,
            end_room,
            left_out: 0,
            last: Default::default(),
        };
        Ok(Self {
            clock,
            state: Mutex::new(state),
            progress: watch::Sender::default(),
        })
    }

    /// Writes text as one or more lines.
    pub(super) fn write(&self, origin: &str, error: bool, text: &str) {
        let at = self.clock.now();
        for line in text.lines() {
            for text in chunks(line) {
                self.add(&LogLine {
                    at,
                    origin: origin.to_owned(),
                    error,
                    text: text.to_owned(),
                });
            }
        }
    }

    /// The last line that says something, of standard error if there is one: output and errors are not read in order.
    pub(super) fn last(&self) -> String {
        let [output, error] = &self.lock().last;
        if error.is_empty() {
            output.clone()
        } else {
            error.clone()
        }
    }

    /// Forgets the last line: what follows is another step's.
    pub(super) fn begin_step(&self, line: &str) {
        self.write("build", false, line);
        self.lock().last = Default::default();
    }

    /// Ends the log; followers see its end.
    pub(super) fn end(&self) {
        let mut state = self.lock();
        let mut lines = 0;
        if state.left_out > 0 {
            let text = format!(
                "… {} lines are left out here: the log is limited",
                state.left_out
            );
            let note = LogLine {
                at: self.clock.now(),
                origin: "build".to_owned(),
                error: true,
                text,
            };
            lines += u64::from(state.append(&encode(&note)));
        }
        for line in std::mem::take(&mut state.end) {
            lines += u64::from(state.append(&line));
        }
        drop(state);
        self.progress.send_modify(|progress| {
            progress.lines += lines;
            progress.ended = true;
        });
    }

    /// Tells how the log grows.
    pub(super) fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    fn add(&self, line: &LogLine) {
        let encoded = encode(line);
        let mut state = self.lock();
        if !line.text.trim().is_empty() {
            state.last[usize::from(line.error)].clone_from(&line.text);
        }
        let size = encoded.len() as u64;
        if state.end.is_empty() && state.room >= size {
            state.room -= size;
            if state.append(&encoded) {
                drop(state);
                self.progress.send_modify(|progress| progress.lines += 1);
            }
            return;
        }
        state.room = 0;
        state.end_bytes += size;
        state.end.push_back(encoded);
        while state.end_bytes > state.end_room
            && let Some(oldest) = state.end.pop_front()
        {
            state.end_bytes -= oldest.len() as u64;
            state.left_out += 1;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// A log that cannot be written ends no build.
    fn append(&mut self, line: &[u8]) -> bool {
        let written = self.file.write_all(line);
        if let Err(error) = &written {
            tracing::warn!(%error, "cannot write to the log of a build");
        }
        written.is_ok()
    }
}

/// Reads a log from its file. With `progress` it goes on until the log ends.
pub(super) fn read(
    path: &Path,
    progress: Option<watch::Receiver<Progress>>,
) -> Result<BoxStream<'static, Result<LogLine>>> {
    let file = File::open(path).context(|| format!("open the log {}", path.display()))?;
    let state = Reading {
        file: BufReader::new(file),
        read: 0,
        progress,
    };
    Ok(stream::unfold(state, |mut state| async move {
        let line = state.next().await.transpose()?;
        Some((line, state))
    })
    .boxed())
}

struct Reading {
    file: BufReader<File>,
    read: u64,
    progress: Option<watch::Receiver<Progress>>,
}

impl Reading {
    async fn next(&mut self) -> Result<Option<LogLine>> {
        if let Some(progress) = &mut self.progress {
            let read = self.read;
            // The writer is gone: whatever is in the file is all.
            progress
                .wait_for(|progress| progress.ended || progress.lines > read)
                .await
                .ok();
        }
        let mut line = String::new();
        let unreadable =
            |error: io::Error| Error::internal("cannot read the log of a build").with_source(error);
        if self.file.read_line(&mut line).map_err(unreadable)? == 0 {
            return Ok(None);
        }
        self.read += 1;
        let line = serde_json::from_str(&line);
        line.map(Some).map_err(|error| unreadable(error.into()))
    }
}

fn encode(line: &LogLine) -> Vec<u8> {
    let mut encoded = serde_json::to_vec(line).expect("a line has string keys only");
    encoded.push(b'\n');
    encoded
}

fn chunks(line: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(line);
    std::iter::from_fn(move || {
        let line = rest.take()?;
        if line.len() <= LINE_MAX {
            return Some(line);
        }
        let (chunk, after) = line.split_at(line.floor_char_boundary(LINE_MAX));
        rest = Some(after);
        Some(chunk)
    })
}
