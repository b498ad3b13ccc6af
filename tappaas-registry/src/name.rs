use std::{fmt, str::FromStr};

use tappaas_core::backend::Repository;

use crate::{Error, Result};

/// The name of a repository of the embedded registry: lowercase path components such as `hello` or `team/hello`.
///
/// Parsed once at the edge. It can contain neither `..` nor an empty or hidden component, so that it is safe as a path.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct RepositoryName(String);

impl RepositoryName {
    /// The most characters a name may have. Many clients accept no more.
    pub const LENGTH_MAX: usize = 255;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RepositoryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl TryFrom<&Repository> for RepositoryName {
    type Error = Error;

    /// Takes a repository of the platform's own registry: one whose name has no host.
    fn try_from(repository: &Repository) -> Result<Self> {
        match repository.registry() {
            None => repository.as_str().parse(),
            Some(_) => Err(Error::RepositoryForeign(repository.as_str().to_owned())),
        }
    }
}

impl FromStr for RepositoryName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text.len() <= Self::LENGTH_MAX && text.split('/').all(is_component) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Error::RepositoryInvalid(
                text.chars()
                    .take(80)
                    .flat_map(char::escape_default)
                    .collect(),
            ))
        }
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`, the grammar of the distribution specification.
fn is_component(text: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let separator = |s: &str| matches!(s, "" | "." | "_" | "__") || s.bytes().all(|c| c == b'-');
    text.starts_with(alphanumeric)
        && text.ends_with(alphanumeric)
        && text.split(alphanumeric).all(separator)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_name_follows_the_specification() {
        for good in [
            "a",
            "a/b",
            "a.b",
            "a_b",
            "a__b",
            "a--b",
            "library/hello-world",
            "0/1",
            &"x".repeat(255),
        ] {
            assert!(good.parse::<RepositoryName>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "/",
            "a/",
            "/a",
            "a//b",
            ".",
            "..",
            "a/..",
            "../a",
            "a/../b",
            "A",
            "a.",
            "_a",
            "a/_tags",
            "a._b",
            "a___b",
            "a..b",
            "a b",
            "a\0b",
            "a%2fb",
            "é",
            "a\n",
            &"x".repeat(256),
        ] {
            assert!(bad.parse::<RepositoryName>().is_err(), "{bad}");
        }
    }
}
