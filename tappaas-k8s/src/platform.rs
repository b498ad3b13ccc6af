//! Which platform something on a cluster belongs to.

use std::{fmt, str::FromStr};

use sha2::{Digest as _, Sha256};
use tappaas_core::{Error, Result};

use crate::labels::{MANAGED_BY, MANAGER, PLATFORM};

/// The most characters of a label's value.
const LENGTH_MAX: usize = 63;
/// Hexadecimal digits of what stands for a longer group.
const HASH: usize = 40;

/// What tells a platform from all others on a cluster: whoever shares a store has the same one, and nobody else has it.
///
/// It is part of the names of an environment's namespace and a label of everything that is made. So of several platforms none sees, takes
/// or removes what another one made, whatever their tenants call their environments.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PlatformId(String);

impl PlatformId {
    /// The platform whose store is the cluster itself, in an API group. A group has a dot, which ids of other stores have not.
    pub fn of_group(group: &str) -> Self {
        let hash = || Self(hex::encode(Sha256::digest(group))[..HASH].to_owned());
        group.parse().unwrap_or_else(|_| hash())
    }

    /// The id itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What everything that this platform made is labelled with.
    pub(crate) fn marks(&self) -> [(String, String); 2] {
        [(MANAGED_BY, MANAGER), (PLATFORM, self.as_str())]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
    }

    /// The query for all of that.
    pub(crate) fn selector(&self) -> String {
        format!("{MANAGED_BY}={MANAGER},{PLATFORM}={self}")
    }
}

impl FromStr for PlatformId {
    type Err = Error;

    /// # Errors
    /// `Invalid` if it cannot be a label's value.
    fn from_str(text: &str) -> Result<Self> {
        let inner = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let fits = (1..=LENGTH_MAX).contains(&text.len())
            && text.chars().all(inner)
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.ends_with(|c: char| c.is_ascii_alphanumeric());
        match fits {
            true => Ok(Self(text.to_owned())),
            false => Err(Error::invalid(format!(
                "`{}` cannot be a platform's id: it takes 1 to {LENGTH_MAX} letters, digits, dots, dashes and underscores",
                text.escape_debug()
            ))),
        }
    }
}

impl fmt::Display for PlatformId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A platform for unit tests.
#[cfg(test)]
pub(crate) fn sample() -> PlatformId {
    PlatformId::of_group("tappaas.dev")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_its_own_id_as_long_as_a_label_can_hold_it() {
        assert_eq!(PlatformId::of_group("tappaas.dev").as_str(), "tappaas.dev");
        let long = |end: &str| PlatformId::of_group(&format!("{}.{end}", "x".repeat(LENGTH_MAX)));
        assert_eq!(long("dev").as_str().len(), HASH);
        assert_ne!(long("dev"), long("example"));
    }

    #[test]
    fn an_id_that_no_label_takes_is_refused() {
        for wrong in [
            "",
            "a/b",
            "-a",
            "a.",
            "a b",
            "a=b,c",
            &"x".repeat(LENGTH_MAX + 1),
        ] {
            assert!(wrong.parse::<PlatformId>().is_err(), "{wrong}");
        }
        assert_eq!("0f".parse::<PlatformId>().unwrap().to_string(), "0f");
    }
}
