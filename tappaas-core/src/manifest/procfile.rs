//! `Procfile`: one `name: command` a line, as Heroku made it popular.

use std::collections::BTreeMap;

use super::Error;
use crate::{Name, model::Command};

/// What a `Procfile` declares.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Procfile {
    /// The processes, by name; each command is a line for the shell inside the sandbox.
    ///
    /// `release`, which by custom is not a process but run once before a release rolls out, is among them.
    pub processes: BTreeMap<Name, Command>,
}

impl Procfile {
    /// The file's name.
    pub const FILE: &str = "Procfile";

    /// The most bytes a `Procfile` may have.
    pub const SIZE_MAX: usize = 64 << 10;

    /// Reads a `Procfile`. Blank lines and lines that start with `#` say nothing.
    ///
    /// # Errors
    /// The first line that is no `name: command`, names a process twice or with what is no name, with line and caret.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let error = |span, message| Err(Error::new(Self::FILE, text, span, message));
        if text.len() > Self::SIZE_MAX {
            return error(
                None,
                format!("a Procfile has at most {} bytes", Self::SIZE_MAX),
            );
        }
        let mut procfile = Self::default();
        let mut start = 0;
        for line in text.split_inclusive('\n') {
            let offset = start + (line.len() - line.trim_start().len());
            start += line.len();
            let line = line.trim();
            if let Err(message) = procfile.take(line) {
                return error(Some(offset..offset + line.len()), message);
            }
        }
        Ok(procfile)
    }

    fn take(&mut self, line: &str) -> Result<(), String> {
        if line.is_empty() || line.starts_with('#') {
            return Ok(());
        }
        let (name, command) = line.split_once(':').ok_or("expected `name: command`")?;
        let (name, command) = (process(name.trim_end())?, command.trim_start());
        if command.is_empty() {
            return Err(format!("process `{name}` has no command"));
        }
        let command = Command::Shell(command.to_owned());
        match self.processes.insert(name.clone(), command) {
            None => Ok(()),
            Some(_) => Err(format!("an earlier line declares `{name}` already")),
        }
    }
}

fn process(name: &str) -> Result<Name, String> {
    Name::new(name).map_err(|error| match Name::nearest(name) {
        Some(near) => format!("{}; `{near}` would be one", error.message()),
        None => error.message().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_declares_a_process() {
        let text = "# what runs\nweb: bin/serve --port $PORT\n\n  worker : bin/work a:b\r\nrelease: bin/migrate\n";
        let declared =
            |name: &str, line: &str| (Name::new(name).unwrap(), Command::Shell(line.to_owned()));
        let processes = [
            declared("release", "bin/migrate"),
            declared("web", "bin/serve --port $PORT"),
            declared("worker", "bin/work a:b"),
        ];
        assert_eq!(
            Procfile::parse(text).unwrap().processes,
            BTreeMap::from(processes)
        );
    }

    #[test]
    fn what_is_no_declaration_is_shown_with_its_line() {
        for (text, line, message) in [
            ("web bin/serve", 1, "expected `name: command`"),
            ("\nweb:\n", 2, "process `web` has no command"),
            (
                "web: a\nweb: b",
                2,
                "an earlier line declares `web` already",
            ),
            (
                "my_worker: a",
                1,
                "`my_worker` is not a valid name: only a-z, 0-9 and `-` are allowed; `my-worker` would be one",
            ),
            (": a", 1, "`` is not a valid name: it is empty"),
        ] {
            let error = Procfile::parse(text).unwrap_err();
            assert_eq!(
                (error.line(), error.message()),
                (Some(line), message),
                "{text}"
            );
        }
    }

    #[test]
    fn a_procfile_has_a_limit() {
        let text = "#".repeat(Procfile::SIZE_MAX + 1);
        assert!(Procfile::parse(&text).is_err());
        assert!(Procfile::parse(&text[1..]).is_ok());
    }
}
