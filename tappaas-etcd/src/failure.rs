use std::{error::Error as StdError, fmt::Display};

use tappaas_core::{Error, ErrorKind};
use tonic::{Code, ConnectError, Status};

/// Says in core's terms what became of a request to the endpoints of an etcd cluster.
pub(crate) fn failure(doing: impl Display, endpoints: &str, status: &Status) -> Error {
    let (kind, advice) = meaning(status);
    let told = status.message();
    match (status.source(), advice) {
        (_, Some(advice)) => Error::new(kind, format!("{doing}: {advice}")).with_source(told),
        (None, None) => Error::new(kind, format!("{doing}: {told}")),
        (Some(source), None) => Error::new(
            kind,
            format!("{doing}: etcd does not answer at {endpoints}"),
        )
        .with_source(root(source)),
    }
}

/// What a caller is to do, and what else there is to say where etcd's own words do not.
fn meaning(status: &Status) -> (ErrorKind, Option<&'static str>) {
    let has = |words: &str| status.message().contains(words);
    match status.code() {
        _ if is_stale_login(status) => (ErrorKind::Unavailable, None),
        Code::InvalidArgument if has("request is too large") => (ErrorKind::Exhausted, TOO_LARGE),
        Code::ResourceExhausted if has("message larger than max") => {
            (ErrorKind::Exhausted, TOO_LARGE)
        }
        Code::ResourceExhausted if has("space exceeded") => (ErrorKind::Exhausted, FULL),
        // So etcd answers while it has too much to do.
        Code::ResourceExhausted => (ErrorKind::Unavailable, None),
        Code::InvalidArgument if has("invalid user ID or password") => {
            (ErrorKind::Denied, WRONG_LOGIN)
        }
        Code::InvalidArgument if has("user name is empty") => (ErrorKind::Denied, NO_LOGIN),
        Code::FailedPrecondition if has("authentication is not enabled") => {
            (ErrorKind::Unsupported, NEEDLESS_LOGIN)
        }
        Code::Unauthenticated | Code::PermissionDenied => (ErrorKind::Denied, None),
        Code::InvalidArgument => (ErrorKind::Invalid, None),
        Code::OutOfRange if is_expired(status) => (ErrorKind::Expired, None),
        Code::NotFound => (ErrorKind::NotFound, None),
        Code::Unimplemented => (ErrorKind::Unsupported, None),
        Code::DataLoss | Code::OutOfRange | Code::FailedPrecondition => (ErrorKind::Internal, None),
        // A connection that breaks in the middle of an answer is one of the last three.
        _ => (ErrorKind::Unavailable, None),
    }
}

const TOO_LARGE: Option<&str> =
    Some("etcd's limit for a request is reached, --max-request-bytes, which is 1.5 MiB unless set");
const FULL: Option<&str> = Some(
    "etcd has no space left: compact and defragment it, or raise --quota-backend-bytes, then disarm its alarm",
);
const WRONG_LOGIN: Option<&str> = Some("etcd does not know this user, or not by this password");
const NO_LOGIN: Option<&str> = Some("etcd's authentication is enabled, and no user is set");
const NEEDLESS_LOGIN: Option<&str> =
    Some("a user is set, and etcd's authentication is not enabled: everybody may do everything");

/// The revision is compacted, or not reached yet.
pub(crate) fn is_expired(status: &Status) -> bool {
    let told = status.message();
    status.code() == Code::OutOfRange
        && (told.contains("has been compacted") || told.contains("future revision"))
}

/// The answer is larger than asked for with [`crate::member::MESSAGE_MAX`].
pub(crate) fn is_too_long(status: &Status) -> bool {
    status.code() == Code::OutOfRange && status.message().contains("message length too large")
}

/// etcd has forgotten the token, as after a restart, or it is from before a change of users.
pub(crate) fn is_stale_login(status: &Status) -> bool {
    let told = status.message();
    told.contains("invalid auth token") || told.contains("revision of auth store is old")
}

/// The request was never sent.
pub(crate) fn is_unsent(status: &Status) -> bool {
    let mut source = status.source();
    while let Some(error) = source {
        if error.is::<ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}

/// Nothing that a repetition could not mend, perhaps at another member.
pub(crate) fn is_passing(status: &Status) -> bool {
    meaning(status).0 == ErrorKind::Unavailable && !is_stale_login(status)
}

/// What lies at the bottom of a failure, such as `connection refused`.
fn root(error: &(dyn StdError + 'static)) -> String {
    let mut root = error;
    while let Some(source) = root.source() {
        root = source;
    }
    root.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_by_itself_is_told_from_what_does_not() {
        for (status, expected) in [
            (
                Status::unavailable("etcdserver: no leader"),
                ErrorKind::Unavailable,
            ),
            (
                Status::unknown("etcdserver: request timed out"),
                ErrorKind::Unavailable,
            ),
            (
                Status::deadline_exceeded("no answer"),
                ErrorKind::Unavailable,
            ),
            (
                Status::invalid_argument("etcdserver: request is too large"),
                ErrorKind::Exhausted,
            ),
            (
                Status::resource_exhausted("grpc: received message larger than max (9 vs. 8)"),
                ErrorKind::Exhausted,
            ),
            (
                Status::resource_exhausted("etcdserver: mvcc: database space exceeded"),
                ErrorKind::Exhausted,
            ),
            (
                Status::resource_exhausted("etcdserver: too many requests"),
                ErrorKind::Unavailable,
            ),
            (
                Status::out_of_range("etcdserver: mvcc: required revision has been compacted"),
                ErrorKind::Expired,
            ),
            (
                Status::out_of_range("etcdserver: mvcc: required revision is a future revision"),
                ErrorKind::Expired,
            ),
            (
                Status::permission_denied("etcdserver: permission denied"),
                ErrorKind::Denied,
            ),
            (
                Status::invalid_argument(
                    "etcdserver: authentication failed, invalid user ID or password",
                ),
                ErrorKind::Denied,
            ),
            (
                Status::data_loss("etcdserver: corrupt cluster"),
                ErrorKind::Internal,
            ),
        ] {
            let error = failure("cannot read x", "", &status);
            assert_eq!(error.kind(), expected, "{status:?}");
            assert!(error.message().starts_with("cannot read x: "), "{error}");
        }
    }

    #[test]
    fn a_limit_is_named() {
        let error = failure(
            "cannot write x",
            "",
            &Status::invalid_argument("etcdserver: request is too large"),
        );
        assert!(error.message().contains("--max-request-bytes"), "{error}");
    }
}
