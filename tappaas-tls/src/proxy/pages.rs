use std::borrow::Cow;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Response, StatusCode,
    header::{ACCEPT, ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, RETRY_AFTER},
};

use super::{body::Body, headers::X_REQUEST_ID};

/// Why this edge answers a request itself.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The request can be read in two ways, or in none.
    Malformed(String),
    Method,
    UnknownHost(String),
    UnknownPath(String),
    /// The route has no endpoint, and the request has waited as long as it may.
    NoEndpoint,
    /// As many requests wait for this route's first endpoint as may.
    TooManyWaiting,
    /// No endpoint took the connection.
    Refused,
    /// The endpoint took the request and gave no answer that can be passed on.
    NoAnswer,
    ConnectTimedOut,
    AnswerTimedOut,
}

impl Fault {
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::UnknownHost(_) | Self::UnknownPath(_) => StatusCode::NOT_FOUND,
            Self::NoEndpoint | Self::TooManyWaiting => StatusCode::SERVICE_UNAVAILABLE,
            Self::Refused | Self::NoAnswer => StatusCode::BAD_GATEWAY,
            Self::ConnectTimedOut | Self::AnswerTimedOut => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    fn words(&self) -> (Cow<'static, str>, &'static str) {
        match self {
            Self::Malformed(fault) => (format!("This request is refused: {fault}.").into(), ""),
            Self::Method => ("CONNECT and TRACE are not served here.".into(), ""),
            Self::UnknownHost(host) => (
                format!("No application answers at {host}.").into(),
                "Check the address. If the application is yours: `tappaas apps` lists your applications and their addresses.",
            ),
            Self::UnknownPath(host) => (
                format!("No application answers at this path of {host}.").into(),
                "Check the address. If the application is yours: `tappaas apps` lists your applications and their addresses.",
            ),
            Self::NoEndpoint => (
                "The application has no instance that is ready.".into(),
                "Try again in a moment. If the application is yours: `tappaas status APP` says what its instances do.",
            ),
            Self::TooManyWaiting => (
                "The application is starting, and many requests wait for it already.".into(),
                "Try again in a moment.",
            ),
            Self::Refused => (
                "None of the application's instances takes connections.".into(),
                "Try again in a moment. If the application is yours: `tappaas logs APP` shows what its instances wrote.",
            ),
            Self::NoAnswer => (
                "The application closed the connection without an answer.".into(),
                "If the application is yours: `tappaas logs APP` shows what its instances wrote.",
            ),
            Self::ConnectTimedOut => (
                "None of the application's instances took a connection in time.".into(),
                "Try again in a moment. If the application is yours: `tappaas status APP` says what its instances do.",
            ),
            Self::AnswerTimedOut => (
                "The application did not answer in time.".into(),
                "If the application is yours: `tappaas logs APP` shows what its instances wrote.",
            ),
        }
    }

    /// The answer: HTML for browsers, plain text for everyone else.
    pub(crate) fn page(&self, html: bool, request_id: &HeaderValue) -> Response<Body> {
        let id = request_id.to_str().unwrap_or("-");
        let status = self.status();
        let (what, hint) = self.words();
        let (kind, text) = if html {
            ("text/html; charset=utf-8", markup(status, &what, hint, id))
        } else {
            let hint = if hint.is_empty() {
                String::new()
            } else {
                format!("{hint}\n")
            };
            (
                "text/plain; charset=utf-8",
                format!("{status}\n{what}\n{hint}request id: {id}\n"),
            )
        };
        let mut response = Response::new(Body::text(Bytes::from(text)));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(X_REQUEST_ID, request_id.clone());
        match status {
            StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
            }
            StatusCode::METHOD_NOT_ALLOWED => {
                headers.insert(
                    ALLOW,
                    HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
                );
            }
            // Where a request that makes no sense ends is not sure, so nothing after it is read.
            StatusCode::BAD_REQUEST => {
                headers.insert(CONNECTION, HeaderValue::from_static("close"));
            }
            _ => {}
        }
        response
    }
}

/// Whether a client would rather see a page than plain text.
pub(crate) fn wants_html(headers: &HeaderMap) -> bool {
    headers
        .get(ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.contains("text/html"))
}

/// Everything that comes from the request is escaped.
fn markup(status: StatusCode, what: &str, hint: &str, id: &str) -> String {
    let hint = if hint.is_empty() {
        String::new()
    } else {
        format!("<p>{}</p>", escaped(hint))
    };
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{status}</title><style>body{{font:16px/1.5 system-ui,sans-serif;max-width:40em;margin:4em auto;padding:0 1em}}\
         small{{color:#666}}@media(prefers-color-scheme:dark){{body{{background:#111;color:#eee}}small{{color:#999}}}}</style>\
         <h1>{status}</h1><p>{}</p>{hint}<p><small>request id: {}</small></p></html>\n",
        escaped(what),
        escaped(id),
    )
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
    }
    out
}
