use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use tappaas_core::{
    Error, ErrorKind,
    backend::{Draining, RouteId, RouteStatus, Signal},
};

use crate::{config::EdgeConfig, routes::Change, table::Table};

/// The version of this protocol. Raise it when a frame, or a core type in one, changes so that the other side would misread it.
///
/// `Hello`, `TakeOver`, `Commit` and `Leave` and their answers stay readable for ever: they are how one version replaces another.
pub(crate) const PROTOCOL: u32 = 2;

/// What a server asks of an edge. Each is answered by one [`Tell`], `Watch` by many.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Ask {
    Hello,
    /// Replace the table. The answer says that nothing new goes anywhere else.
    SetTable(Table),
    /// Change some routes of the table. `Conflict` says that the edge has another one: it takes the whole table then.
    Change(Change),
    Table,
    Observe(RouteId),
    /// What is on its way out, of all routes.
    Draining,
    Metrics,
    /// Signals at the end of each window, and as soon as a request waits for an endpoint.
    Watch {
        window_ms: u64,
    },
    /// Hand the listening sockets over. Nothing changes before `Commit`.
    TakeOver,
    /// The taker serves: stop listening, and go when the last connection has gone.
    Commit,
    /// Stop listening, and go when the last connection has gone, or after this time.
    Leave {
        drain_ms: u64,
    },
}

/// What an edge answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Tell {
    Hello(Hello),
    /// The table is in use, apart from these inner addresses.
    Applied {
        unbound: Vec<Unbound>,
    },
    Table(Table),
    Status(Option<RouteStatus>),
    Draining(Vec<(RouteId, Draining)>),
    Metrics(String),
    Signals(Vec<Signal>),
    /// As many listening sockets follow as descriptors, in this order, the control socket's last.
    Doors {
        table: Table,
        doors: Vec<HandedDoor>,
    },
    Done,
    Refused {
        kind: Refusal,
        message: String,
    },
}

/// Who an edge is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Hello {
    pub(crate) protocol: u32,
    /// The version of the program.
    pub(crate) build: String,
    pub(crate) pid: u32,
    /// Where it listens for HTTP.
    pub(crate) listen: Vec<SocketAddr>,
    /// What it was started with, as its own version wrote it.
    pub(crate) config: serde_json::Value,
}

/// A listening socket that is handed over.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum HandedDoor {
    Http,
    Inner,
    Control,
}

/// An inner address that could not be opened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Unbound {
    pub(crate) address: SocketAddr,
    pub(crate) reason: String,
}

/// An [`ErrorKind`] in a frame. What a later version adds is read as `Internal`.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Refusal {
    AlreadyExists,
    Conflict,
    Denied,
    Exhausted,
    Expired,
    Invalid,
    NotFound,
    Unavailable,
    Unsupported,
    #[serde(other)]
    Internal,
}

const REFUSALS: [(ErrorKind, Refusal); 10] = [
    (ErrorKind::AlreadyExists, Refusal::AlreadyExists),
    (ErrorKind::Conflict, Refusal::Conflict),
    (ErrorKind::Denied, Refusal::Denied),
    (ErrorKind::Exhausted, Refusal::Exhausted),
    (ErrorKind::Expired, Refusal::Expired),
    (ErrorKind::Internal, Refusal::Internal),
    (ErrorKind::Invalid, Refusal::Invalid),
    (ErrorKind::NotFound, Refusal::NotFound),
    (ErrorKind::Unavailable, Refusal::Unavailable),
    (ErrorKind::Unsupported, Refusal::Unsupported),
];

impl Tell {
    pub(crate) fn refused(error: &Error) -> Self {
        let kind = REFUSALS.iter().find(|(kind, _)| *kind == error.kind());
        Self::Refused {
            kind: kind.map_or(Refusal::Internal, |(_, refusal)| *refusal),
            message: tappaas_core::Chain(error).to_string(),
        }
    }
}

impl Refusal {
    pub(crate) fn error(self, message: String) -> Error {
        let kind = REFUSALS.iter().find(|(_, refusal)| *refusal == self);
        Error::new(kind.map_or(ErrorKind::Internal, |(kind, _)| *kind), message)
    }
}

impl Hello {
    /// Whether an edge that says this is what `config` and this version of the program would start.
    pub(crate) fn current(&self, config: &EdgeConfig) -> bool {
        self.protocol == PROTOCOL
            && self.build == env!("CARGO_PKG_VERSION")
            && serde_json::to_value(config).is_ok_and(|config| config == self.config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame that version 1 of the protocol sent. If this test fails the protocol has changed: raise [`PROTOCOL`], keep this line
    /// as it is if the new version still reads it, and add one for the new version.
    #[test]
    fn frames_of_earlier_versions_are_read() {
        let set_table = r#"{"setTable":{"generation":7,"routes":[{"id":{"application":"t/p/e/a","name":"web"},"generation":3,
            "frontend":{"http":{"hosts":["a.localhost"],"path":"/"}},"action":{"forward":{"targets":[{"weight":1,"endpoints":
            [{"address":"10.0.0.1:8080"},{"dial":{"socket":"/run/a.sock","port":8080}}]}],"strip_prefix":false,
            "hold":{"secs":0,"nanos":0}}}}]}}"#;
        let Ask::SetTable(table) = serde_json::from_str(set_table).unwrap() else {
            panic!()
        };
        assert_eq!((table.generation, table.routes.len()), (7, 1));
        let again: serde_json::Value = serde_json::to_value(Ask::SetTable(table)).unwrap();
        assert_eq!(
            again,
            serde_json::from_str::<serde_json::Value>(set_table).unwrap()
        );
        for ask in [
            r#""hello""#,
            r#""takeOver""#,
            r#""commit""#,
            r#"{"leave":{"drain_ms":1}}"#,
        ] {
            serde_json::from_str::<Ask>(ask).unwrap();
        }
    }

    /// As above, of version 2.
    #[test]
    fn changes_of_earlier_versions_are_read() {
        let text = r#"{"change":{"from":7,"to":9,"put":[{"id":{"application":"t/p/e/a","name":"web"},"generation":3,
            "frontend":{"http":{"hosts":["a.localhost"],"path":"/"}},"action":{"forward":{"targets":[],"strip_prefix":false,
            "hold":{"secs":0,"nanos":0}}}}],"gone":[{"application":"t/p/e/b","name":"web"}]}}"#;
        let Ask::Change(change) = serde_json::from_str(text).unwrap() else {
            panic!()
        };
        assert_eq!((change.from, change.to), (7, 9));
        let again = serde_json::to_value(Ask::Change(change)).unwrap();
        assert_eq!(
            again,
            serde_json::from_str::<serde_json::Value>(text).unwrap()
        );
    }

    #[test]
    fn an_error_crosses_the_socket_with_its_kind() {
        let error = Error::conflict("table generation 1: generation 2 is in use");
        let Tell::Refused { kind, message } = Tell::refused(&error) else {
            panic!()
        };
        let crossed = kind.error(message);
        assert_eq!(
            (crossed.kind(), crossed.message()),
            (error.kind(), error.message())
        );
    }
}
