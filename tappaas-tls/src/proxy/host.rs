use std::borrow::Cow;

use http::{HeaderMap, HeaderValue, Uri, Version, header::HOST, uri::Authority};
use thiserror::Error;

/// Why it is not clear which host a request is for.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub(crate) enum Unclear {
    #[error("the request names no host")]
    Missing,
    #[error("the request names a host more than once")]
    Twice,
    #[error("the request line and the Host header name different hosts")]
    Mismatch,
    #[error("the host is not a host name")]
    Malformed,
}

/// The authority that a request is for, as it was written. A mismatch is refused, as it could reach a tenant past another's rules.
///
/// # Errors
/// [`Unclear`], saying why.
pub(crate) fn authority(
    uri: &Uri,
    headers: &HeaderMap,
    version: Version,
) -> Result<HeaderValue, Unclear> {
    let mut values = headers.get_all(HOST).iter();
    let header = values.next();
    if values.next().is_some() {
        return Err(Unclear::Twice);
    }
    match (uri.authority(), header) {
        (None, None) => Err(Unclear::Missing),
        (None, Some(header)) => Ok(header.clone()),
        // HTTP/1.1 demands a Host header whatever the form of the request line.
        (Some(_), None) if version < Version::HTTP_2 => Err(Unclear::Missing),
        (Some(line), None) => value(line),
        (Some(line), Some(header))
            if header
                .as_bytes()
                .eq_ignore_ascii_case(line.as_str().as_bytes()) =>
        {
            Ok(header.clone())
        }
        (Some(_), Some(_)) => Err(Unclear::Mismatch),
    }
}

fn value(authority: &Authority) -> Result<HeaderValue, Unclear> {
    HeaderValue::from_str(authority.as_str()).map_err(|_| Unclear::Malformed)
}

/// The host of an authority in the form that routes have: lowercase, without port and final dot.
///
/// # Errors
/// [`Unclear::Malformed`] if it is neither a host name nor an IP address.
pub(crate) fn host(authority: &HeaderValue) -> Result<Cow<'_, str>, Unclear> {
    let text = authority.to_str().map_err(|_| Unclear::Malformed)?;
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']').ok_or(Unclear::Malformed)?;
            address
                .parse::<std::net::Ipv6Addr>()
                .map_err(|_| Unclear::Malformed)?;
            (&text[..address.len() + 2], port)
        }
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let digits = port.strip_prefix(':').unwrap_or(port);
    if digits.len() > 5 || !digits.bytes().all(|byte| byte.is_ascii_digit()) || (port.len() > 6) {
        return Err(Unclear::Malformed);
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    if !name.starts_with('[') && (name.is_empty() || name.len() > 253 || !name.bytes().all(allowed))
    {
        return Err(Unclear::Malformed);
    }
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Ok(Cow::Owned(name.to_ascii_lowercase()));
    }
    Ok(Cow::Borrowed(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_compared_in_one_form() {
        for (authority, name) in [
            ("a.example", "a.example"),
            ("A.Example.:8080", "a.example"),
            ("127.0.0.1:1", "127.0.0.1"),
            ("[::1]:80", "[::1]"),
            ("[::1]", "[::1]"),
            ("a_b.example:", "a_b.example"),
        ] {
            assert_eq!(
                host(&HeaderValue::from_static(authority)).as_deref(),
                Ok(name)
            );
        }
        for bad in [
            "", ":80", ".", "a b", "a@b", "a:80:80", "a:x", "a:123456", "[::1", "[x]", "a/b",
            "a\\b", "a,b", "[::1]x",
        ] {
            assert_eq!(
                host(&HeaderValue::from_static(bad)),
                Err(Unclear::Malformed),
                "{bad}"
            );
        }
    }

    #[test]
    fn two_hosts_in_one_request_are_refused() {
        let clear = |line: &'static str, hosts: &[&'static str], version| {
            let headers = hosts
                .iter()
                .map(|host| (HOST, HeaderValue::from_static(host)))
                .collect();
            authority(&Uri::from_static(line), &headers, version)
                .map(|value| value.to_str().unwrap().to_owned())
        };
        let one = Version::HTTP_11;
        assert_eq!(clear("/", &["a"], one), Ok("a".to_owned()));
        assert_eq!(clear("http://a/", &["A"], one), Ok("A".to_owned()));
        assert_eq!(clear("http://a/", &[], Version::HTTP_2), Ok("a".to_owned()));
        assert_eq!(clear("/", &[], one), Err(Unclear::Missing));
        assert_eq!(clear("http://a/", &[], one), Err(Unclear::Missing));
        assert_eq!(clear("/", &["a", "a"], one), Err(Unclear::Twice));
        assert_eq!(clear("http://a/", &["b"], one), Err(Unclear::Mismatch));
        assert_eq!(
            clear("http://a/", &["b"], Version::HTTP_2),
            Err(Unclear::Mismatch)
        );
        assert_eq!(clear("http://x@a/", &["a"], one), Err(Unclear::Mismatch));
    }
}
