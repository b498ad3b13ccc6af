use std::{collections::HashMap, time::Duration};

use crate::{Digest, backend::Template, model::Command};

/// What a simulated process does. The default is ready at once, runs until it is stopped, ends as soon as it gets its stop signal,
/// and answers every request at once with the number of its release.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Behaviour {
    /// How long an instance takes until its process starts.
    pub start: Duration,
    /// How long its process takes until it listens; `None`: it never does.
    pub listen: Option<Duration>,
    /// The port it listens on whatever it is told; `None`: the ports of its template.
    pub port: Option<u16>,
    /// What it answers; `None`: the number of its release. A space and the request's path follow.
    pub answer: Option<String>,
    /// The HTTP status of its answers.
    pub status: u16,
    /// How long it takes to answer.
    pub latency: Duration,
    /// When and how it ends by itself; `None`: it does not.
    pub end: Option<(Duration, End)>,
    /// How long it goes on, still answering, after its stop signal; `None`: it ignores the signal.
    pub stop: Option<Duration>,
    /// Bytes of memory it uses. Above the limit of its template it is killed at once.
    pub memory: u64,
    /// Lines it writes when it starts; `$NAME` stands for the line `NAME=value` of its environment.
    pub output: Vec<String>,
}

/// How a process ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// With an exit code.
    Code(i32),
    /// Killed by a signal.
    Signal(i32),
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            start: Duration::ZERO,
            listen: Some(Duration::ZERO),
            port: None,
            answer: None,
            status: 200,
            latency: Duration::ZERO,
            end: None,
            stop: Some(Duration::ZERO),
            memory: 1 << 20,
            output: Vec::new(),
        }
    }
}

impl Behaviour {
    /// Listens only after a while.
    pub fn listening_after(delay: Duration) -> Self {
        Self {
            listen: Some(delay),
            ..Self::default()
        }
    }

    /// Never listens.
    pub fn never_listening() -> Self {
        Self {
            listen: None,
            ..Self::default()
        }
    }

    /// Never listens, and exits as soon as it started.
    pub fn exiting(code: i32) -> Self {
        Self {
            listen: None,
            end: Some((Duration::ZERO, End::Code(code))),
            ..Self::default()
        }
    }

    /// Takes more memory than any limit.
    pub fn eating_memory() -> Self {
        Self {
            memory: u64::MAX,
            ..Self::default()
        }
    }
}

/// Which instances behave how.
#[derive(Debug, Default)]
pub(super) struct Behaviours {
    pub(super) by_image: HashMap<Digest, Behaviour>,
    pub(super) by_command: Vec<(Command, Behaviour)>,
}

impl Behaviours {
    /// How an instance of a template behaves: the newest rule for its command, then that for its image.
    pub(super) fn of(&self, template: &Template) -> Behaviour {
        let by_command = template.command.as_ref().and_then(|command| {
            let mut rules = self.by_command.iter().rev();
            rules.find(|(ruled, _)| ruled == command)
        });
        let by_command = by_command.map(|(_, behaviour)| behaviour);
        let by_image = || self.by_image.get(&template.image.digest);
        by_command.or_else(by_image).cloned().unwrap_or_default()
    }
}
