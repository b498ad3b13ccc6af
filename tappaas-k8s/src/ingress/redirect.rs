use http::Uri;
use tappaas_core::{Error, Result, backend::RouteId};

/// Where a redirect leads.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Destination {
    /// Another scheme, host and port.
    pub(super) site: Option<Site>,
    /// What the route's prefix is replaced with.
    pub(super) prefix: String,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Site {
    pub(super) scheme: String,
    pub(super) host: String,
    pub(super) port: Option<u16>,
}

/// Reads an absolute URL or a path.
///
/// # Errors
/// `Invalid` if it is neither, or has what a redirect cannot lead to.
pub(super) fn destination(id: &RouteId, to: &str) -> Result<Destination> {
    let invalid = || {
        Error::invalid(format!(
            "route {id}: a redirect goes to an absolute http(s) URL or a path, without user or query, not to `{}`",
            to.escape_default()
        ))
    };
    // A browser takes these for another host.
    if to.starts_with("//") || to.starts_with("/\\") || to.contains(['?', '#', '@']) {
        return Err(invalid());
    }
    let uri: Uri = to.parse().map_err(|_| invalid())?;
    let site = match (uri.scheme_str(), uri.host()) {
        (None, None) if to.starts_with('/') => None,
        (Some(scheme @ ("http" | "https")), Some(host)) => Some(Site {
            scheme: scheme.to_owned(),
            host: host.to_ascii_lowercase(),
            port: uri.port_u16(),
        }),
        _ => return Err(invalid()),
    };
    let prefix = match uri.path().trim_end_matches('/') {
        "" => "/",
        prefix => prefix,
    };
    Ok(Destination {
        site,
        prefix: prefix.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingress::testing::route;

    #[test]
    fn a_redirect_leads_to_a_site_or_a_path() {
        let id = route("app", "main", "/").id;
        let found = destination(&id, "https://Example.org:8443/new/").unwrap();
        let site = Site {
            scheme: "https".to_owned(),
            host: "example.org".to_owned(),
            port: Some(8443),
        };
        assert_eq!((found.site, found.prefix.as_str()), (Some(site), "/new"));
        let found = destination(&id, "/new").unwrap();
        assert_eq!((found.site, found.prefix.as_str()), (None, "/new"));
        let bare = destination(&id, "http://example.org").unwrap();
        assert_eq!(bare.prefix, "/");
        for wrong in [
            "",
            "//evil.example",
            "/\\evil.example",
            "ftp://x/",
            "javascript:alert(1)",
            "/a?b",
            "https://user@x/",
            "x.example",
        ] {
            assert!(destination(&id, wrong).is_err(), "{wrong}");
        }
    }
}
