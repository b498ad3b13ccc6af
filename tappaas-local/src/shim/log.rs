//! The log of an instance: lines in the format of Kubernetes' container runtimes, `time stream F|P text`, in files of bounded size
//! and number. `F` ends a line, `P` is a part of one that was too long.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{io::AsyncReadExt, net::unix::pipe, time::Instant};

use super::clock;
use crate::{
    instance::Stream,
    sandbox::{LogLimits, Output},
};

/// The file being written, in the instance's folder. Older ones have `.1`, `.2` … behind their names.
pub(crate) const FILE: &str = "log";

/// The log of an instance, shared by whoever writes to it.
#[derive(Clone)]
pub(crate) struct Log(Arc<Mutex<Files>>);

impl Log {
    pub(crate) fn open(dir: &Path, limits: LogLimits) -> io::Result<Self> {
        Ok(Self(Arc::new(Mutex::new(Files::open(
            dir.join(FILE),
            limits,
        )?))))
    }

    /// Notes what the shim has to tell.
    pub(crate) fn note(&self, text: &str) {
        self.write(Stream::Shim, text.as_bytes(), true);
    }

    /// Writes what a process writes, until both its streams are closed.
    ///
    /// Reading stops while the process is ahead of its rate, so a flood slows the process that makes it and nobody else.
    pub(crate) async fn pump(self, output: Output) {
        let (limits, burst) = {
            let files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            (
                files.limits,
                files.limits.bytes_per_second.max(CHUNK as u64),
            )
        };
        let rate = Mutex::new(Rate::new(limits.bytes_per_second, burst));
        let stdout = self.pump_one(output.stdout, Stream::Stdout, &rate, limits.line_bytes);
        let stderr = self.pump_one(output.stderr, Stream::Stderr, &rate, limits.line_bytes);
        tokio::join!(stdout, stderr);
    }

    async fn pump_one(
        &self,
        mut pipe: pipe::Receiver,
        stream: Stream,
        rate: &Mutex<Rate>,
        line_bytes: usize,
    ) {
        let mut lines = Lines::new(line_bytes);
        let mut chunk = vec![0; CHUNK];
        loop {
            let count = pipe.read(&mut chunk).await.unwrap_or(0);
            if count == 0 {
                break;
            }
            lines.take(&chunk[..count], |text, whole| {
                self.write(stream, text, whole);
            });
            let wait = rate
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .spend(count as u64, Instant::now());
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
            }
        }
        lines.end(|text, whole| self.write(stream, text, whole));
    }

    fn write(&self, stream: Stream, text: &[u8], whole: bool) {
        // A full disk loses lines, never the process.
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .write(stream, text, whole)
            .ok();
    }
}

const CHUNK: usize = 64 << 10;

struct Files {
    path: PathBuf,
    file: File,
    size: u64,
    limits: LogLimits,
}

impl Files {
    fn open(path: PathBuf, limits: LogLimits) -> io::Result<Self> {
        let file = File::options().append(true).create(true).open(&path)?;
        let size = file.metadata()?.len();
        Ok(Self {
            path,
            file,
            size,
            limits,
        })
    }

    fn write(&mut self, stream: Stream, text: &[u8], whole: bool) -> io::Result<()> {
        let mark = if whole { 'F' } else { 'P' };
        let mut line = format!("{:.9} {} {mark} ", clock::now(), stream.name()).into_bytes();
        line.extend(text);
        line.push(b'\n');
        if self.size > 0 && self.size + line.len() as u64 > self.limits.file_bytes {
            self.put_aside()?;
        }
        self.file.write_all(&line)?;
        self.size += line.len() as u64;
        Ok(())
    }

    /// The oldest file is overwritten by the next younger one, and so on.
    fn put_aside(&mut self) -> io::Result<()> {
        let aged = |age: u32| match age {
            0 => self.path.clone(),
            age => self.path.with_extension(age.to_string()),
        };
        for age in (0..self.limits.files).rev() {
            match fs::rename(aged(age), aged(age + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        self.file = File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .open(&self.path)?;
        self.size = 0;
        Ok(())
    }
}

/// Splits a stream of bytes into lines.
struct Lines {
    rest: Vec<u8>,
    most: usize,
}

impl Lines {
    fn new(most: usize) -> Self {
        Self {
            rest: Vec::new(),
            most: most.max(1),
        }
    }

    fn take(&mut self, bytes: &[u8], mut line: impl FnMut(&[u8], bool)) {
        for part in bytes.split_inclusive(|&byte| byte == b'\n') {
            let (text, whole) = match part.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (part, false),
            };
            self.rest.extend(text);
            while self.rest.len() > self.most {
                let after = self.rest.split_off(self.most);
                line(&self.rest, false);
                self.rest = after;
            }
            if whole {
                let text = self.rest.strip_suffix(b"\r").unwrap_or(&self.rest);
                line(text, true);
                self.rest.clear();
            }
        }
    }

    fn end(&mut self, mut line: impl FnMut(&[u8], bool)) {
        if !self.rest.is_empty() {
            line(&self.rest, true);
            self.rest.clear();
        }
    }
}

/// A token bucket that goes into debt.
struct Rate {
    per_second: u64,
    burst: u64,
    /// The time at which the bucket is full.
    full_at: Option<Instant>,
}

impl Rate {
    fn new(per_second: u64, burst: u64) -> Self {
        Self {
            per_second: per_second.max(1),
            burst,
            full_at: None,
        }
    }

    /// Takes `bytes` out and returns how long to wait until the bucket is out of debt.
    fn spend(&mut self, bytes: u64, now: Instant) -> Duration {
        let time =
            |bytes: u64| Duration::from_micros(bytes.saturating_mul(1_000_000) / self.per_second);
        let full_at = self.full_at.map_or(now, |at| at.max(now)) + time(bytes);
        self.full_at = Some(full_at);
        full_at.duration_since(now).saturating_sub(time(self.burst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_at_their_ends_and_at_the_bound() {
        let mut lines = Lines::new(4);
        let mut seen = Vec::new();
        let mut line =
            |text: &[u8], whole| seen.push((String::from_utf8_lossy(text).into_owned(), whole));
        lines.take(b"ab", &mut line);
        lines.take(b"cd\n\nabcdefghij\r\nx", &mut line);
        lines.end(&mut line);
        let seen: Vec<_> = seen
            .iter()
            .map(|(text, whole)| (text.as_str(), *whole))
            .collect();
        assert_eq!(
            seen,
            [
                ("abcd", true),
                ("", true),
                ("abcd", false),
                ("efgh", false),
                ("ij", true),
                ("x", true)
            ]
        );
    }

    #[test]
    fn files_stay_within_their_bounds_however_much_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let limits = LogLimits {
            file_bytes: 1_000,
            files: 2,
            ..LogLimits::default()
        };
        let mut files = Files::open(dir.path().join(FILE), limits).unwrap();
        for number in 0..500 {
            files
                .write(Stream::Stdout, format!("line {number}").as_bytes(), true)
                .unwrap();
        }
        let sizes: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|file| file.unwrap().metadata().unwrap().len())
            .collect();
        assert_eq!(sizes.len(), 3);
        assert!(sizes.iter().all(|&size| size <= 1_000), "{sizes:?}");
        assert!(
            fs::read_to_string(dir.path().join(FILE))
                .unwrap()
                .ends_with(" stdout F line 499\n")
        );
    }

    #[test]
    fn a_burst_passes_and_a_flood_waits() {
        let mut rate = Rate::new(1_000, 1_000);
        let now = Instant::now();
        assert_eq!(rate.spend(1_000, now), Duration::ZERO);
        assert_eq!(rate.spend(500, now), Duration::from_millis(500));
        assert_eq!(rate.spend(0, now + Duration::from_secs(2)), Duration::ZERO);
    }
}
