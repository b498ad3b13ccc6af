use std::{
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use tappaas_core::Timestamp;

use crate::shim::LOG_FILE;

/// A line of an instance's log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Line {
    /// When it was written.
    pub at: Timestamp,
    /// Who wrote it.
    pub stream: Stream,
    /// The text, without its end. Invalid UTF-8 is replaced.
    pub text: String,
    /// It ends here; otherwise it was too long and goes on in the next one of its stream.
    pub whole: bool,
}

/// Where a line of a log comes from.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// The shim, about the process.
    Shim,
}

impl Stream {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Shim => "shim",
        }
    }
}

/// Reads the log of an instance from its oldest line on, across the files it is kept in, while it is being written.
#[derive(Debug)]
pub struct LogReader {
    dir: PathBuf,
    file: Option<File>,
    rest: Vec<u8>,
}

impl LogReader {
    /// Starts at the oldest line that is kept in the instance's folder `dir`. What there is now can be read even if the folder goes.
    pub fn open(dir: &Path) -> Self {
        let mut reader = Self {
            dir: dir.to_owned(),
            file: None,
            rest: Vec::new(),
        };
        // It is looked for again when it is read, which then says what is wrong.
        let _ = reader.advance();
        reader
    }

    /// Returns the next lines, at most a few hundred kilobytes of them. None: there are no further ones now.
    ///
    /// Lines that were put aside and deleted before they were read are passed over.
    pub fn read(&mut self) -> io::Result<Vec<Line>> {
        loop {
            if self.file.is_none() && !self.advance()? {
                return Ok(Vec::new());
            }
            let mut chunk = vec![0; CHUNK];
            let count = self
                .file
                .as_mut()
                .map_or(Ok(0), |file| file.read(&mut chunk))?;
            if count > 0 {
                self.rest.extend(&chunk[..count]);
                let lines = self.whole_lines();
                if !lines.is_empty() {
                    return Ok(lines);
                }
            } else if !self.advance()? {
                return Ok(Vec::new());
            }
        }
    }

    fn whole_lines(&mut self) -> Vec<Line> {
        let Some(end) = self.rest.iter().rposition(|&byte| byte == b'\n') else {
            return Vec::new();
        };
        let after = self.rest.split_off(end + 1);
        let lines = self
            .rest
            .split(|&byte| byte == b'\n')
            .filter_map(parse)
            .collect();
        self.rest = after;
        lines
    }

    /// Goes on to the next younger file. `false`: there is none.
    fn advance(&mut self) -> io::Result<bool> {
        let files = self.files()?;
        let identity = |file: &File| file.metadata().map(|meta| (meta.dev(), meta.ino()));
        let next = match &self.file {
            None => files.first(),
            Some(file) => {
                let own = identity(file)?;
                match files.iter().position(|(_, identity)| *identity == own) {
                    // What was written to it after the last look, and before it was put aside, comes first.
                    Some(index) if index + 1 < files.len() && has_more(file)? => return Ok(true),
                    Some(index) => files.get(index + 1),
                    None => files.first(),
                }
            }
        };
        let Some((path, _)) = next else {
            return Ok(false);
        };
        match File::open(path) {
            Ok(file) => {
                self.file = Some(file);
                self.rest.clear();
                Ok(true)
            }
            // Put aside between the two looks; the next call finds it under its new name.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The files of the log, the oldest first, each with what identifies it under any name.
    fn files(&self) -> io::Result<Vec<(PathBuf, (u64, u64))>> {
        let mut found = Vec::new();
        let entries = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        for entry in entries {
            let path = entry?.path();
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or_default();
            let age = match name.strip_prefix(LOG_FILE) {
                Some("") => 0,
                Some(suffix) => match suffix
                    .strip_prefix('.')
                    .and_then(|age| age.parse::<u32>().ok())
                {
                    Some(age) => age,
                    None => continue,
                },
                None => continue,
            };
            if let Ok(meta) = fs::metadata(&path) {
                found.push((age, path, (meta.dev(), meta.ino())));
            }
        }
        found.sort_by_key(|(age, ..)| std::cmp::Reverse(*age));
        Ok(found
            .into_iter()
            .map(|(_, path, identity)| (path, identity))
            .collect())
    }
}

const CHUNK: usize = 256 << 10;

fn has_more(mut file: &File) -> io::Result<bool> {
    use std::io::Seek;
    Ok(file.stream_position()? < file.metadata()?.len())
}

fn parse(line: &[u8]) -> Option<Line> {
    let text = String::from_utf8_lossy(line);
    let mut fields = text.splitn(4, ' ');
    let at = fields.next()?.parse().ok()?;
    let name = fields.next()?;
    let stream = [Stream::Stdout, Stream::Stderr, Stream::Shim]
        .into_iter()
        .find(|stream| stream.name() == name)?;
    let whole = fields.next()? == "F";
    Some(Line {
        at,
        stream,
        text: fields.next()?.to_owned(),
        whole,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(reader: &mut LogReader) -> Vec<String> {
        let mut texts = Vec::new();
        loop {
            let lines = reader.read().unwrap();
            if lines.is_empty() {
                return texts;
            }
            texts.extend(lines.into_iter().map(|line| line.text));
        }
    }

    #[test]
    fn reading_follows_the_log_through_its_files() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let mut file = File::options()
                .append(true)
                .create(true)
                .open(dir.path().join(name))
                .unwrap();
            io::Write::write_all(&mut file, text.as_bytes()).unwrap();
        };
        let line = |text: &str| format!("2026-01-02T03:04:05.000000006Z stdout F {text}\n");
        let mut reader = LogReader::open(dir.path());
        assert!(texts(&mut reader).is_empty());
        write("log.1", &line("old"));
        write("log", &line("new"));
        assert_eq!(texts(&mut reader), ["old", "new"]);
        write("log", "2026-01-02T03:04:05Z stderr P hal");
        assert!(texts(&mut reader).is_empty());
        write("log", "f\n");
        write("log", &line("last"));
        fs::rename(dir.path().join("log.1"), dir.path().join("log.2")).unwrap();
        fs::rename(dir.path().join("log"), dir.path().join("log.1")).unwrap();
        write("log", &line("newest"));
        assert_eq!(texts(&mut reader), ["half", "last", "newest"]);
    }
}
