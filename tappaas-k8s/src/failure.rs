use std::{fmt::Display, time::Duration};

use kube::{Error as KubeError, core::Status};
use tappaas_core::{Error, ErrorKind};

/// Within this the API server answers a request, or is taken for gone.
const REQUEST_MAX: Duration = Duration::from_secs(30);

/// Waits for an answer, and not for ever.
pub(crate) async fn within<T>(request: impl Future<Output = kube::Result<T>>) -> kube::Result<T> {
    match tokio::time::timeout(REQUEST_MAX, request).await {
        Ok(answer) => answer,
        Err(late) => Err(KubeError::Service(late.into())),
    }
}

/// Says in core's terms what became of a request to the API server.
pub(crate) fn failure(doing: impl Display, error: KubeError) -> Error {
    match error {
        KubeError::Api(status) if status.code == 404 && status.details.is_none() => {
            let why =
                "the cluster does not know this kind of object; are the definitions installed?";
            Error::new(kind(&status), format!("{doing}: {why}"))
        }
        KubeError::Api(status) if status.message.contains("unknown field") => {
            let advice = "the cluster's definitions are older than this program: install its own";
            Error::unsupported(format!("{doing}: {}; {advice}", status.message))
        }
        KubeError::Api(status) => Error::new(kind(&status), format!("{doing}: {}", status.message)),
        KubeError::Auth(_) => {
            let why = "the credentials for the Kubernetes API cannot be had";
            Error::new(ErrorKind::Denied, format!("{doing}: {why}")).with_source(error)
        }
        KubeError::SerdeError(_) | KubeError::BuildRequest(_) => {
            Error::internal(doing.to_string()).with_source(error)
        }
        // The server cannot be reached, or the answer broke off.
        _ => Error::unavailable(format!("{doing}: the Kubernetes API does not answer"))
            .with_source(error),
    }
}

fn kind(status: &Status) -> ErrorKind {
    let has = |word: &str| status.message.contains(word);
    match (status.code, status.reason.as_str()) {
        // The server does not know the kind at all, which it says in plain text.
        (404, _) if status.details.is_none() => ErrorKind::Unsupported,
        (404, _) => ErrorKind::NotFound,
        (409, "AlreadyExists") => ErrorKind::AlreadyExists,
        (409, _) => ErrorKind::Conflict,
        (410, _) => ErrorKind::Expired,
        // Over soon.
        (403, _) if is_because(status, "NamespaceTerminating") => ErrorKind::Unavailable,
        (403, _) if has("exceeded quota") => ErrorKind::Exhausted,
        (401 | 403, _) => ErrorKind::Denied,
        (400 | 413 | 415 | 422, _) => ErrorKind::Invalid,
        (405 | 406, _) => ErrorKind::Unsupported,
        // So etcd says it of an object above its own limit.
        (500, _) if has("request is too large") => ErrorKind::Invalid,
        (429 | 500.., _) => ErrorKind::Unavailable,
        _ => ErrorKind::Internal,
    }
}

/// Whether the API server said so.
pub(crate) fn is(error: &KubeError, code: u16) -> bool {
    matches!(error, KubeError::Api(status) if status.code == code)
}

/// Whether the API server said so of a thing of this kind, which is named as in its URL.
pub(crate) fn is_about(error: &KubeError, code: u16, plural: &str) -> bool {
    let KubeError::Api(status) = error else {
        return false;
    };
    let kind = status.details.as_ref().map(|details| details.kind.as_str());
    status.code == code && kind == Some(plural)
}

/// Whether this is among the causes that the API server gives.
pub(crate) fn is_because(status: &Status, reason: &str) -> bool {
    let mut causes = status.details.iter().flat_map(|details| &details.causes);
    causes.any(|cause| cause.reason == reason)
}

#[cfg(test)]
mod tests {
    use kube::core::response::{StatusCause, StatusDetails};

    use super::*;

    fn of(code: u16, reason: &str, message: &str, details: Option<StatusDetails>) -> ErrorKind {
        let status = Status {
            code,
            reason: reason.to_owned(),
            message: message.to_owned(),
            details,
            ..Status::default()
        };
        failure("cannot read x", KubeError::Api(status.into())).kind()
    }

    #[test]
    fn what_passes_by_itself_is_told_from_what_does_not() {
        let about = |kind: &str, reason: &str| {
            Some(StatusDetails {
                kind: kind.to_owned(),
                causes: vec![StatusCause {
                    reason: reason.to_owned(),
                    message: String::new(),
                    field: String::new(),
                }],
                name: String::new(),
                group: String::new(),
                uid: String::new(),
                retry_after_seconds: 0,
            })
        };
        let terminating = about("applications", "NamespaceTerminating");
        for (expected, found) in [
            (
                ErrorKind::NotFound,
                of(404, "NotFound", "", about("applications", "")),
            ),
            (
                ErrorKind::Unsupported,
                of(404, "NotFound", "page not found", None),
            ),
            (
                ErrorKind::Unavailable,
                of(403, "Forbidden", "", terminating),
            ),
            (
                ErrorKind::Exhausted,
                of(403, "Forbidden", "exceeded quota: x", None),
            ),
            (ErrorKind::Denied, of(403, "Forbidden", "cannot get", None)),
            (
                ErrorKind::Invalid,
                of(500, "", "etcdserver: request is too large", None),
            ),
            (
                ErrorKind::Unavailable,
                of(500, "", "etcdserver: leader changed", None),
            ),
            (ErrorKind::Unavailable, of(429, "TooManyRequests", "", None)),
        ] {
            assert_eq!(found, expected);
        }
    }
}
