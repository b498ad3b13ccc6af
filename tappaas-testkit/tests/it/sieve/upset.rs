//! What goes wrong, in one run at one place.

use std::{fmt, time::Duration};

use tappaas_core::{ErrorKind, Kind};
use tappaas_testkit::faulty::Fault;

/// Who is called.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Backend {
    Builder,
    Ingress,
    Registry,
    Scheduler,
    Store,
    Volumes,
}

impl Backend {
    pub(crate) const ALL: [Self; 6] = [
        Self::Builder,
        Self::Ingress,
        Self::Registry,
        Self::Scheduler,
        Self::Store,
        Self::Volumes,
    ];

    /// Says whether a call of a verb has a side effect.
    pub(crate) fn changes(self, verb: &str) -> bool {
        let verbs: &[&str] = match self {
            Self::Builder => &["build", "cancel"],
            Self::Registry => &["push", "tag", "delete"],
            Self::Store => &["put", "put_status", "delete"],
            Self::Ingress | Self::Scheduler | Self::Volumes => &["apply", "remove"],
        };
        verbs.contains(&verb)
    }

    /// Says whether a verb is answered from the past without breaking any other promise.
    fn reads(self, verb: &str) -> bool {
        self == Self::Store && ["get", "list"].contains(&verb)
    }
}

/// One thing that goes wrong, at one call of a verb or one item of a watch.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Upset {
    pub(crate) backend: Backend,
    pub(crate) verb: &'static str,
    pub(crate) number: u64,
    pub(crate) what: What,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum What {
    /// Nothing.
    Nothing,
    /// The platform dies right before the call is made, and another one starts.
    DiesBefore,
    /// The platform dies after the call was made, before it sees the reply.
    DiesAfter,
    /// As well, and its successor is first shown objects of one kind as they were so many changes ago.
    DiesBehind(Kind, usize),
    Fault(Fault),
}

impl Upset {
    pub(crate) const NONE: Self = Self {
        backend: Backend::Store,
        verb: "",
        number: 0,
        what: What::Nothing,
    };

    /// Everything that can go wrong at the calls of one verb that was called so often.
    pub(crate) fn of(backend: Backend, verb: &'static str, count: u64) -> Vec<Self> {
        let each = (1..=count).flat_map(|number| {
            kinds(backend, verb).into_iter().map(move |what| Self {
                backend,
                verb,
                number,
                what,
            })
        });
        each.collect()
    }

    pub(crate) fn script(&self, backend: Backend) -> Vec<(&'static str, u64, Fault)> {
        match self.what {
            What::Fault(fault) if backend == self.backend => vec![(self.verb, self.number, fault)],
            _ => Vec::new(),
        }
    }

    /// Of which kind the successor of a dead platform is shown the past, and how far back.
    pub(crate) fn behind(&self) -> Option<(Kind, usize)> {
        match self.what {
            What::DiesBehind(kind, ago) => Some((kind, ago)),
            _ => None,
        }
    }

    /// At which call the platform dies, and whether that is made.
    pub(crate) fn death(&self, backend: Backend) -> Option<(&'static str, u64, bool)> {
        let made = match self.what {
            What::DiesBefore => false,
            What::DiesAfter | What::DiesBehind(..) => true,
            What::Nothing | What::Fault(_) => return None,
        };
        (backend == self.backend).then_some((self.verb, self.number, made))
    }
}

fn kinds(backend: Backend, verb: &str) -> Vec<What> {
    let seconds = Duration::from_secs;
    if verb == "watch item" {
        let faults = [Fault::Miss, Fault::Double, Fault::End];
        // The latter longer than a writer waits for its own write.
        let late = [seconds(2), seconds(15)].map(Fault::Delay);
        return faults.into_iter().chain(late).map(What::Fault).collect();
    }
    let mut kinds = vec![
        What::Fault(Fault::LoseReply),
        What::Fault(Fault::Refuse(ErrorKind::Unavailable)),
    ];
    // The registry is called by the builder, which outlives the platform.
    if backend.changes(verb) && backend != Backend::Registry {
        kinds.extend([What::DiesBefore, What::DiesAfter]);
    }
    if backend == Backend::Store && backend.changes(verb) {
        let kinds_behind = [
            Kind::Application,
            Kind::Build,
            Kind::HostClaim,
            Kind::Operation,
            Kind::Release,
        ];
        let behind = kinds_behind
            .into_iter()
            .flat_map(|kind| (1..=3).map(move |ago| (kind, ago)));
        kinds.extend(behind.map(|(kind, ago)| What::DiesBehind(kind, ago)));
    }
    if backend.reads(verb) {
        kinds.extend((1..=3).map(|ago| What::Fault(Fault::Stale(ago))));
    }
    kinds
}

/// As it is written to replay it.
impl fmt::Display for Upset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = format!("{:?}", self.what).to_lowercase();
        let what: String = what.chars().filter(char::is_ascii_alphanumeric).collect();
        let backend = format!("{:?}", self.backend).to_lowercase();
        let verb = self.verb.replace(' ', "-");
        write!(f, "{backend}/{verb}/{}/{what}", self.number)
    }
}
