use std::{fmt, str::FromStr};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Digest, Error, Result};

/// Keeps images: content-addressed blobs and manifests, and tags that point at manifests (OCI distribution-spec 1.1).
///
/// # Contract
/// - What `push` took, `pull` gives back, byte for byte.
/// - `push` counts only once every byte is durable and hashes to the expected digest; other content is `Invalid` and leaves nothing.
/// - `push` of content that is there already succeeds.
/// - A manifest is refused with `Invalid` unless everything it names is in the repository, and if it contradicts itself: its media
///   type and its fields must agree, so that no two readers take it for different things.
/// - A manifest above 4 MiB, and a blob above what the registry takes, is `Exhausted`.
/// - `pull` verifies every byte before the stream ends without an error.
/// - `pull` of unknown content is `NotFound`.
/// - Content of one repository is not visible in another.
/// - `tag` points a tag at a manifest that is there, of any other it is `NotFound`; `resolve` then returns its digest; tagging again moves
///   the tag at once.
/// - `resolve` of an unknown tag or digest returns `None`.
/// - `list` returns the tags of a repository in order; of an unknown repository none.
/// - `delete` of a tag leaves the manifest; of a digest removes the manifest and every tag that points at it; of the unknown succeeds.
/// - Every method may be called again after any failure or a lost reply.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait Registry: fmt::Debug + Send + Sync + 'static {
    /// Returns the digest that a tag points at, or the digest itself if its manifest is there.
    async fn resolve(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<Option<Digest>>;

    /// Reads a blob or a manifest.
    async fn pull(
        &self,
        repository: &Repository,
        content: &Content,
    ) -> Result<BoxStream<'static, Result<Bytes>>>;

    /// Writes a blob or a manifest.
    async fn push(
        &self,
        repository: &Repository,
        content: &Content,
        bytes: BoxStream<'static, Result<Bytes>>,
    ) -> Result<()>;

    /// Points a tag at a manifest.
    async fn tag(&self, repository: &Repository, digest: &Digest, tag: &Tag) -> Result<()>;

    /// Returns the tags of a repository.
    async fn list(&self, repository: &Repository) -> Result<Vec<Tag>>;

    /// Removes a tag or a manifest.
    async fn delete(&self, repository: &Repository, reference: &Reference) -> Result<()>;
}

/// The name of a repository, `[registry/]path`, as the OCI distribution-spec has it.
///
/// Without a registry's host it is a repository of the platform's own registry.
#[derive(
    Clone, Debug, Eq, Hash, JsonSchema, Ord, PartialEq, PartialOrd, Serialize, Deserialize,
)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Repository(String);

impl Repository {
    /// The most characters a repository's name may have.
    pub const LENGTH_MAX: usize = 255;

    /// The host of the registry, if the name has one: a first part with a `.` or `:`, or `localhost`.
    pub fn registry(&self) -> Option<&str> {
        let (first, _) = self.0.split_once('/')?;
        (first.contains(['.', ':']) || first == "localhost").then_some(first)
    }

    /// The name within its registry.
    pub fn path(&self) -> &str {
        match self.registry() {
            Some(host) => &self.0[host.len() + 1..],
            None => &self.0,
        }
    }

    /// The whole name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Repository {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let repository = Self(text.to_owned());
        let host = |host: &str| {
            let word =
                |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b':' | b'[' | b']');
            let begins = host.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '[');
            begins && !host.contains("..") && host.bytes().all(word)
        };
        let good = text.len() <= Self::LENGTH_MAX
            && repository.registry().is_none_or(host)
            && repository.path().split('/').all(is_path_component);
        if good {
            return Ok(repository);
        }
        Err(Error::invalid(format!(
            "`{}` is not a repository: expected `path` or `host/path` in lowercase letters, digits and `._-/`",
            text.escape_default()
        )))
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*` of the distribution-spec.
fn is_path_component(component: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let mut rest = component;
    loop {
        let word = rest.trim_start_matches(alphanumeric);
        if word.len() == rest.len() {
            return false;
        }
        if word.is_empty() {
            return true;
        }
        rest = word.trim_start_matches(|c: char| !alphanumeric(c));
        let separator = &word[..word.len() - rest.len()];
        let good = matches!(separator, "." | "_" | "__") || separator.bytes().all(|c| c == b'-');
        if !good {
            return false;
        }
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl TryFrom<String> for Repository {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Repository> for String {
    fn from(repository: Repository) -> Self {
        repository.0
    }
}

/// A tag, `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}` (distribution-spec).
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Tag(String);

impl Tag {
    /// The tag as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Tag {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let word = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
        let good = (1..=128).contains(&text.len())
            && text.bytes().next().is_some_and(word)
            && text.bytes().all(|c| word(c) || c == b'.' || c == b'-');
        if good {
            return Ok(Self(text.to_owned()));
        }
        Err(Error::invalid(format!(
            "`{}` is not a tag",
            text.escape_default()
        )))
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl TryFrom<String> for Tag {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Tag> for String {
    fn from(tag: Tag) -> Self {
        tag.0
    }
}

/// What a manifest is called by.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Reference {
    /// By its digest.
    Digest(Digest),
    /// By a tag.
    Tag(Tag),
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Digest(digest) => digest.fmt(f),
            Self::Tag(tag) => tag.fmt(f),
        }
    }
}

/// What is pushed or pulled.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Content {
    /// Any bytes: a layer, a configuration, a source archive.
    Blob(Digest),
    /// An image manifest or index; at most 4 MiB.
    Manifest(Digest),
}

impl Content {
    /// The content's address.
    pub fn digest(&self) -> &Digest {
        match self {
            Self::Blob(digest) | Self::Manifest(digest) => digest,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_follow_the_specification() {
        for (good, registry) in [
            ("a", None),
            ("a/b-c/d__e.f", None),
            ("localhost/a", Some("localhost")),
            ("127.0.0.1:5000/a/b", Some("127.0.0.1:5000")),
            ("ghcr.io/a/b", Some("ghcr.io")),
        ] {
            assert_eq!(
                good.parse::<Repository>().unwrap().registry(),
                registry,
                "{good}"
            );
        }
        for bad in [
            "", "/a", "a/", "A", "a//b", "../a", "a/../b", "a_-b", "a..b", "-a", "a b/c",
        ] {
            assert!(bad.parse::<Repository>().is_err(), "{bad}");
        }
    }
}
