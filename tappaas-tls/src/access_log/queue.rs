use std::{
    io::{self, Write},
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
        mpsc::{RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use tappaas_core::Timestamp;

use super::{line::Line, rotated::Rotated};
use crate::config;

const SHARDS: usize = 8;
const FLUSH_EVERY: Duration = Duration::from_millis(100);

/// The access log: one JSON object a line, in a file that is put aside when it is full.
///
/// Requests write into memory, each thread mostly under a lock of its own; one thread moves that to the file. What does not fit the
/// memory in between is dropped and counted.
#[derive(Debug)]
pub(crate) struct AccessLog {
    queue: Arc<Queue>,
    stop: Option<SyncSender<()>>,
    writer: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Queue {
    shards: [Mutex<Shard>; SHARDS],
    shard_bytes: usize,
    dropped: AtomicU64,
    failed: AtomicU64,
}

#[derive(Debug, Default)]
struct Shard {
    lines: Vec<u8>,
    /// The last second written, and how RFC 3339 writes it, without its `Z`: most lines are of the same.
    second: i64,
    stamp: String,
}

impl Shard {
    fn refresh(&mut self, now: Timestamp) {
        if self.stamp.is_empty() || self.second != now.as_second() {
            self.second = now.as_second();
            self.stamp = format!("{now:.0}");
            self.stamp.pop();
        }
    }
}

impl AccessLog {
    /// Opens the log at `path`.
    ///
    /// # Errors
    /// When the file cannot be opened for appending.
    pub(crate) fn open(path: PathBuf, config: &config::AccessLog) -> io::Result<Self> {
        let mut file = Rotated::open(path, config.file_bytes, config.kept_files)?;
        let queue = Arc::new(Queue {
            shards: Default::default(),
            shard_bytes: config.queue_bytes / SHARDS,
            dropped: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        });
        let (stop, stopped) = sync_channel(1);
        let lines = Arc::clone(&queue);
        let writer = thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || {
                let mut batch = Vec::new();
                while stopped.recv_timeout(FLUSH_EVERY) == Err(RecvTimeoutError::Timeout) {
                    lines.flush(&mut file, &mut batch);
                }
                lines.flush(&mut file, &mut batch);
            })?;
        Ok(Self {
            queue,
            stop: Some(stop),
            writer: Some(writer),
        })
    }

    /// Adds a line that begins with the time and goes on with what `write` writes.
    pub(crate) fn line(&self, now: Timestamp, write: impl FnOnce(&mut Line<'_>)) {
        let queue = &self.queue;
        let mut shard = queue.shards[shard()]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if shard.lines.len() >= queue.shard_bytes {
            queue.dropped.fetch_add(1, Relaxed);
            return;
        }
        let shard = &mut *shard;
        shard.refresh(now);
        let mut line = Line::begin(&mut shard.lines);
        line.time("time", &shard.stamp, now.subsec_millisecond());
        write(&mut line);
        line.end();
    }

    /// Lines that were dropped because the file was slower than the requests.
    pub(crate) fn dropped(&self) -> u64 {
        self.queue.dropped.load(Relaxed)
    }

    /// Writes to the file that failed; what they held is lost.
    pub(crate) fn failed(&self) -> u64 {
        self.queue.failed.load(Relaxed)
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(writer) = self.writer.take() {
            // A writer that panicked has said so already.
            let _ = writer.join();
        }
    }
}

/// The shard of this thread, given out in turn.
fn shard() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static SHARD: usize = NEXT.fetch_add(1, Relaxed) % SHARDS;
    }
    SHARD.with(|shard| *shard)
}

impl Queue {
    fn flush(&self, file: &mut Rotated, batch: &mut Vec<u8>) {
        for shard in &self.shards {
            batch.clear();
            std::mem::swap(
                batch,
                &mut shard.lock().unwrap_or_else(PoisonError::into_inner).lines,
            );
            if !batch.is_empty() && file.write_all(batch).is_err() {
                self.failed.fetch_add(1, Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_beyond_the_queue_are_dropped_and_counted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.log");
        let config = config::AccessLog {
            queue_bytes: 8 * 100,
            ..config::AccessLog::default()
        };
        let log = AccessLog::open(path.clone(), &config).unwrap();
        let total = 1_000_u64;
        for _ in 0..total {
            log.line(Timestamp::UNIX_EPOCH, |_| {});
        }
        let dropped = log.dropped();
        drop(log);
        let text = std::fs::read_to_string(path).unwrap();
        assert_eq!(text.lines().count() as u64 + dropped, total);
        assert!(dropped > 0);
        assert_eq!(
            text.lines().next(),
            Some(r#"{"time":"1970-01-01T00:00:00.000Z"}"#)
        );
    }
}
