use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
        mpsc::{RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use tappaas_core::Timestamp;

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
    /// The last second written, and how: most lines are of the same.
    second: i64,
    stamp: String,
}

impl Shard {
    /// Begins an object with the time, as RFC 3339 writes it, to the millisecond.
    fn begin(&mut self, now: Timestamp) -> io::Result<()> {
        if self.stamp.is_empty() || self.second != now.as_second() {
            self.second = now.as_second();
            self.stamp = format!("{now:.0}");
            self.stamp.pop();
        }
        self.lines.extend_from_slice(b"{\"time\":\"");
        self.lines.extend_from_slice(self.stamp.as_bytes());
        write!(self.lines, ".{:03}Z\"", now.subsec_millisecond())
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

    /// Adds an object that begins with the time and goes on with what `write` writes, or nothing of it.
    pub(crate) fn line(&self, now: Timestamp, write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) {
        let queue = &self.queue;
        let mut shard = queue.shards[shard()]
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let before = shard.lines.len();
        if before < queue.shard_bytes && shard.begin(now).is_ok() && write(&mut shard.lines).is_ok()
        {
            return;
        }
        shard.lines.truncate(before);
        queue.dropped.fetch_add(1, Relaxed);
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

/// A file that is put aside when it is full.
#[derive(Debug)]
pub(crate) struct Rotated {
    path: PathBuf,
    file: File,
    size: u64,
    file_bytes: u64,
    kept_files: u32,
}

impl Rotated {
    pub(crate) fn open(path: PathBuf, file_bytes: u64, kept_files: u32) -> io::Result<Self> {
        let file = append_to(&path)?;
        let size = file.metadata()?.len();
        Ok(Self {
            path,
            file,
            size,
            file_bytes,
            kept_files,
        })
    }

    fn rotate(&mut self) -> io::Result<()> {
        let aside = |n: u32| PathBuf::from(format!("{}.{n}", self.path.display()));
        for n in (1..self.kept_files).rev() {
            match std::fs::rename(aside(n), aside(n + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        if self.kept_files > 0 {
            std::fs::rename(&self.path, aside(1))?;
        } else {
            std::fs::remove_file(&self.path)?;
        }
        self.file = append_to(&self.path)?;
        self.size = 0;
        Ok(())
    }
}

impl Write for Rotated {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.size > 0 && self.size + bytes.len() as u64 > self.file_bytes {
            self.rotate()?;
        }
        let written = self.file.write(bytes)?;
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
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
            log.line(Timestamp::UNIX_EPOCH, |line| line.write_all(b"}\n"));
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

    #[test]
    fn a_full_file_is_put_aside_and_the_oldest_goes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut file = Rotated::open(path, 10, 2).unwrap();
        for line in ["first..\n", "second.\n", "third..\n", "fourth.\n"] {
            file.write_all(line.as_bytes()).unwrap();
        }
        let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
        assert_eq!(
            (read("log"), read("log.1"), read("log.2")),
            ("fourth.\n".into(), "third..\n".into(), "second.\n".into())
        );
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3);
    }
}
