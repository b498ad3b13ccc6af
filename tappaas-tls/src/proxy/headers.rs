use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{
        CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, FORWARDED, HOST, PROXY_AUTHENTICATE,
        PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE,
    },
};

pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub(crate) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(crate) const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
pub(crate) const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
pub(crate) const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// Takes out of a request's head what belongs to the client's connection, and what only this edge may say about the client.
///
/// The upgrade that the client asks for is handed back. `h2c` and other versions of HTTP are never asked for further on: they would
/// open a tunnel around this edge's routing.
pub(crate) fn clean_request(headers: &mut HeaderMap) -> Option<HeaderValue> {
    let Marked {
        mut foreign,
        connection,
        te,
        cookie,
    } = mark(headers, |name| reserved(name) || name == EXPECT);
    let upgrade = if connection {
        upgrade_wanted(headers)
    } else {
        None
    };
    let trailers = te && headers.get_all(TE).iter().any(|te| lists(te, "trailers"));
    if connection {
        foreign.extend(nominated(headers));
    }
    for name in foreign {
        headers.remove(name);
    }
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    if cookie {
        join_cookies(headers);
    }
    upgrade
}

/// Takes out of an answer's head what belongs to the endpoint's connection.
pub(crate) fn clean_answer(headers: &mut HeaderMap) {
    let mut marked = mark(headers, |name| name == X_REQUEST_ID);
    if marked.connection {
        marked.foreign.extend(nominated(headers));
    }
    for name in marked.foreign {
        headers.remove(name);
    }
}

/// What one look over a head finds, as most heads have little of it.
struct Marked {
    /// Not to be passed on.
    foreign: Vec<HeaderName>,
    connection: bool,
    te: bool,
    cookie: bool,
}

fn mark(headers: &HeaderMap, unwanted: impl Fn(&HeaderName) -> bool) -> Marked {
    let mut marked = Marked {
        foreign: Vec::new(),
        connection: false,
        te: false,
        cookie: false,
    };
    for name in headers.keys() {
        if hop_by_hop(name) || unwanted(name) {
            marked.foreign.push(name.clone());
            marked.connection |= name == CONNECTION;
            marked.te |= name == TE;
        }
        marked.cookie |= name == COOKIE;
    }
    marked
}

/// The protocol that a request wants to go on with, if it is one to tunnel.
fn upgrade_wanted(headers: &HeaderMap) -> Option<HeaderValue> {
    let asked = headers
        .get_all(CONNECTION)
        .iter()
        .any(|value| lists(value, "upgrade"));
    let mut values = headers.get_all(UPGRADE).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return None;
    };
    let http = |token: &str| {
        token.eq_ignore_ascii_case("h2c")
            || token
                .get(..4)
                .is_some_and(|name| name.eq_ignore_ascii_case("http"))
    };
    let tunnel = !value
        .to_str()
        .ok()?
        .split(',')
        .any(|token| http(token.trim()));
    (asked && tunnel).then(|| value.clone())
}

/// The headers that `Connection` names as its own. Those that frame or route the message are not the sender's to take away.
fn nominated(headers: &HeaderMap) -> Vec<HeaderName> {
    let tokens = headers
        .get_all(CONNECTION)
        .iter()
        .filter(|value| *value != "keep-alive" && *value != "close")
        .filter_map(|value| value.to_str().ok());
    tokens
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|token| {
            !token.eq_ignore_ascii_case("close") && !token.eq_ignore_ascii_case("keep-alive")
        })
        .filter_map(|token| token.parse::<HeaderName>().ok())
        .filter(|name| name != HOST && name != CONTENT_LENGTH)
        .collect()
}

fn lists(value: &HeaderValue, token: &str) -> bool {
    value.to_str().is_ok_and(|value| {
        value
            .split(',')
            .any(|item| item.trim().eq_ignore_ascii_case(token))
    })
}

fn hop_by_hop(name: &HeaderName) -> bool {
    match name.as_str().len() {
        2 => name == TE,
        7 => name == UPGRADE,
        10 => name == CONNECTION || name == KEEP_ALIVE,
        14 => name == HTTP2_SETTINGS,
        16 => name == PROXY_CONNECTION,
        17 => name == TRANSFER_ENCODING,
        18 => name == PROXY_AUTHENTICATE,
        19 => name == PROXY_AUTHORIZATION,
        _ => false,
    }
}

/// Names that applications take this edge's word by, also as CGI-like readers spell them (`_` for `-`).
fn reserved(name: &HeaderName) -> bool {
    let name = name.as_str();
    let spelled = |known: &str| {
        name.len() == known.len()
            && name
                .bytes()
                .zip(known.bytes())
                .all(|(byte, known)| byte == known || (byte == b'_' && known == b'-'))
    };
    match name.as_bytes()[0] {
        b'x' => {
            name.len() > 2
                && (prefixed(name, "x-forwarded") || X_ALIASES.iter().any(|alias| spelled(alias)))
        }
        b'c' | b'f' | b't' | b'p' | b'h' | b'w' => {
            ALIASES.iter().any(|alias| spelled(alias))
                || (name.contains('_') && FRAMING.iter().any(|known| spelled(known)))
        }
        _ => false,
    }
}

fn prefixed(name: &str, prefix: &str) -> bool {
    let mut bytes = name.bytes();
    prefix.bytes().all(|known| {
        bytes
            .next()
            .is_some_and(|byte| byte == known || (byte == b'_' && known == b'-'))
    })
}

const X_ALIASES: [&str; 12] = [
    "x-request-id",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-originating-ip",
    "x-remote-ip",
    "x-remote-addr",
    "x-host",
    "x-original-host",
    "x-original-url",
    "x-rewrite-url",
    "x-scheme",
];
/// `Proxy` would become `HTTP_PROXY` in a CGI-like environment.
const ALIASES: [&str; 8] = [
    "forwarded",
    "forwarded-for",
    "forwarded-host",
    "forwarded-proto",
    "true-client-ip",
    "client-ip",
    "cf-connecting-ip",
    "proxy",
];
/// Spelled with `_` these would reach an application that takes them for the real ones.
const FRAMING: [&str; 4] = [
    "content-length",
    "content-type",
    "transfer-encoding",
    "proxy-authorization",
];

/// HTTP/2 lets a client split its cookies over several lines; HTTP/1.1 does not.
fn join_cookies(headers: &mut HeaderMap) {
    let mut lines = headers.get_all(COOKIE).iter();
    let (Some(first), Some(second)) = (lines.next(), lines.next()) else {
        return;
    };
    let mut joined = first.as_bytes().to_vec();
    for line in std::iter::once(second).chain(lines) {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(line.as_bytes());
    }
    if let Ok(joined) = HeaderValue::from_bytes(&joined) {
        headers.insert(COOKIE, joined);
    }
}

/// What this edge says about the client. The parts that are the same for a whole connection are made once.
#[derive(Debug)]
pub(crate) struct Origin {
    /// The client's address; behind a trusted proxy the last entry of the chain.
    pub(crate) client: HeaderValue,
    pub(crate) client_quoted: Box<str>,
    /// The port that the client connected to.
    pub(crate) port: HeaderValue,
    pub(crate) proto: &'static str,
}

/// What a trusted proxy in front of this edge said about the client.
#[derive(Debug, Default)]
pub(crate) struct Claimed {
    chain: Option<HeaderValue>,
    forwarded: Option<HeaderValue>,
    proto: Option<HeaderValue>,
    host: Option<HeaderValue>,
    port: Option<HeaderValue>,
    pub(crate) request_id: Option<HeaderValue>,
}

impl Claimed {
    /// Reads it, before [`clean_request`] takes it away.
    pub(crate) fn read(headers: &HeaderMap) -> Self {
        let one = |name: &HeaderName| headers.get(name).cloned();
        Self {
            chain: joined(headers, &X_FORWARDED_FOR),
            forwarded: joined(headers, &FORWARDED),
            proto: one(&X_FORWARDED_PROTO),
            host: one(&X_FORWARDED_HOST),
            port: one(&X_FORWARDED_PORT),
            request_id: one(&X_REQUEST_ID).filter(|id| {
                let id = id.as_bytes();
                (1..=128).contains(&id.len())
                    && id
                        .iter()
                        .all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(byte))
            }),
        }
    }
}

fn joined(headers: &HeaderMap, name: &HeaderName) -> Option<HeaderValue> {
    let lines: Vec<&[u8]> = headers
        .get_all(name)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    HeaderValue::from_bytes(&lines.join(&b", "[..]))
        .ok()
        .filter(|value| !value.is_empty())
}

impl Origin {
    /// Writes `X-Forwarded-*` and `Forwarded` anew.
    pub(crate) fn describe(
        &self,
        headers: &mut HeaderMap,
        authority: &HeaderValue,
        claimed: Claimed,
    ) {
        let proto = || HeaderValue::from_static(self.proto);
        let mut forwarded = Vec::with_capacity(96);
        if let Some(chain) = &claimed.forwarded {
            forwarded.extend_from_slice(chain.as_bytes());
            forwarded.extend_from_slice(b", ");
        }
        for part in [
            b"for=",
            self.client_quoted.as_bytes(),
            b";host=\"",
            authority.as_bytes(),
            b"\";proto=",
            self.proto.as_bytes(),
        ] {
            forwarded.extend_from_slice(part);
        }
        let chain = claimed
            .chain
            .map(|chain| [chain.as_bytes(), b", ", self.client.as_bytes()].concat());
        let chain = chain.and_then(|chain| HeaderValue::from_bytes(&chain).ok());
        headers.insert(
            X_FORWARDED_FOR,
            chain.unwrap_or_else(|| self.client.clone()),
        );
        headers.insert(X_FORWARDED_PROTO, claimed.proto.unwrap_or_else(proto));
        headers.insert(
            X_FORWARDED_HOST,
            claimed.host.unwrap_or_else(|| authority.clone()),
        );
        headers.insert(
            X_FORWARDED_PORT,
            claimed.port.unwrap_or_else(|| self.port.clone()),
        );
        if let Ok(forwarded) = HeaderValue::from_bytes(&forwarded) {
            headers.insert(FORWARDED, forwarded);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let line = |(name, value): &(&'static str, &'static str)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        };
        lines.iter().map(line).collect()
    }

    fn left(lines: &[(&'static str, &'static str)]) -> Vec<String> {
        let mut headers = map(lines);
        clean_request(&mut headers);
        headers
            .iter()
            .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
            .collect()
    }

    #[test]
    fn nothing_of_the_clients_connection_is_passed_on() {
        let lines = [
            ("host", "a"),
            ("connection", "close, X-Secret , host, content-length"),
            ("x-secret", "1"),
            ("content-length", "3"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("proxy-authorization", "Basic x"),
            ("te", "gzip, trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("expect", "100-continue"),
            ("accept", "*/*"),
        ];
        let mut left = left(&lines);
        left.sort();
        assert_eq!(
            left,
            [
                "accept: */*",
                "content-length: 3",
                "host: a",
                "te: trailers"
            ]
        );
    }

    #[test]
    fn every_alias_of_what_the_edge_says_is_dropped() {
        for name in [
            "x-forwarded-for",
            "x_forwarded_for",
            "x-forwarded_for",
            "x-forwarded-prefix",
            "x-forwarded-anything",
            "x-forwarded",
            "forwarded",
            "forwarded_for",
            "x-real-ip",
            "x_real_ip",
            "x-request-id",
            "x_request_id",
            "x-original-url",
            "true-client-ip",
            "cf_connecting_ip",
            "proxy",
            "content_length",
            "transfer_encoding",
            "client-ip",
        ] {
            assert_eq!(
                left(&[(name, "spoofed"), ("accept", "*/*")]),
                ["accept: */*"],
                "{name}"
            );
        }
        for name in [
            "x-requested-with",
            "x-api-key",
            "x",
            "content-type",
            "from",
            "cookie",
            "x-for",
            "my_header",
        ] {
            assert_eq!(left(&[(name, "kept")]).len(), 1, "{name}");
        }
    }

    #[test]
    fn only_an_upgrade_out_of_http_is_tunnelled() {
        let wanted = |upgrade: &'static str, connection| {
            clean_request(&mut map(&[
                ("connection", connection),
                ("upgrade", upgrade),
            ]))
            .is_some()
        };
        assert!(wanted("websocket", "Upgrade"));
        assert!(wanted("my-protocol", "keep-alive, upgrade"));
        for (upgrade, connection) in [
            ("h2c", "upgrade"),
            ("H2C", "upgrade, http2-settings"),
            ("websocket, h2c", "upgrade"),
            ("HTTP/2.0", "upgrade"),
            ("websocket", "keep-alive"),
        ] {
            assert!(!wanted(upgrade, connection), "{upgrade} {connection}");
        }
    }

    #[test]
    fn split_cookies_are_joined() {
        assert_eq!(
            left(&[("cookie", "a=1"), ("cookie", "b=2"), ("cookie", "c=3")]),
            ["cookie: a=1; b=2; c=3"]
        );
    }
}
