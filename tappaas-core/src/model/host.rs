use std::{borrow::Cow, fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ApplicationKey, Spec, Typed};
use crate::{Digest, Error, Kind, Result};

/// A DNS host name (RFC 1123) in lowercase without a final dot, at most 253 characters; the first label may be `*`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Host(String);

/// What [`Host::from_str`] takes, as a schema says it (ECMA 262).
const PATTERN: &str = r"^(\*\.)?[A-Za-z0-9]([-A-Za-z0-9]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([-A-Za-z0-9]{0,61}[A-Za-z0-9])?)*\.?$";

impl Host {
    /// The host as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Says whether the first label stands for any label.
    pub fn wildcard(&self) -> bool {
        self.0.starts_with("*.")
    }

    /// The name of the [`HostClaim`] that owns this host.
    pub fn claim(&self) -> String {
        Digest::of(&self.0).hex()[..40].to_owned()
    }
}

impl FromStr for Host {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let lower = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label
                    .bytes()
                    .all(|c| c.is_ascii_alphanumeric() || c == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        let labels = lower.strip_prefix("*.").unwrap_or(&lower);
        if lower.len() <= 253 && labels.split('.').all(label) {
            return Ok(Self(lower));
        }
        Err(Error::invalid(format!(
            "`{}` is not a host name; write an international name in its `xn--` form",
            text.escape_default()
        )))
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl TryFrom<String> for Host {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Host> for String {
    fn from(host: Host) -> Self {
        host.0
    }
}

impl JsonSchema for Host {
    fn schema_name() -> Cow<'static, str> {
        "Host".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "maxLength": 253,
            "pattern": PATTERN,
            "description": "A DNS host name; the first label may be `*`.",
        })
    }
}

/// The ownership of a host name: created with precondition `Absent`, so that whoever is first has it. Named by [`Host::claim`].
pub type HostClaim = Typed<HostClaimSpec>;

/// Who owns a host.
#[derive(Clone, Debug, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostClaimSpec {
    /// The host.
    pub host: Host,
    /// Its owner.
    pub application: ApplicationKey,
}

impl Spec for HostClaimSpec {
    const KIND: Kind = Kind::HostClaim;
    type Status = HostClaimStatus;
}

/// What controllers found about a host claim.
#[derive(Clone, Debug, Default, JsonSchema, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HostClaimStatus {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_dns_names() {
        for good in [
            "a",
            "a.localhost",
            "*.example.com",
            "EXAMPLE.com.",
            "xn--bcher-kva.example",
        ] {
            assert!(good.parse::<Host>().is_ok(), "{good}");
        }
        for bad in [
            "",
            ".",
            "a..b",
            "*",
            "*.",
            "a.*.b",
            "-a.b",
            "bücher.example",
            "a b",
            "a/b",
            "a:80",
        ] {
            assert!(bad.parse::<Host>().is_err(), "{bad}");
        }
    }
}
