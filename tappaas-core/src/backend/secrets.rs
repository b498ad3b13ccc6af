use std::fmt;

use async_trait::async_trait;
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{Error, Result};

/// Keeps secrets.
///
/// # Contract
/// - `put` with [`SecretPrecondition::Absent`] fails with `AlreadyExists` if the secret is there, with [`SecretPrecondition::Version`]
///   with `Conflict` if it has another version.
/// - `get` returns the newest version, or the one asked for.
/// - Where [`SecretCapabilities::versioned`], older versions stay readable after a `put`; elsewhere asking for one is `NotFound`.
/// - `get` of what is not there returns `None`; `delete` of it succeeds.
/// - `delete` removes every version.
/// - `list` returns the paths below a prefix, in order, and never a value.
/// - `watch` names a path soon after it changed; names may come twice or needlessly.
/// - Every method may be called again after any failure or a lost reply.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait SecretStore: fmt::Debug + Send + Sync + 'static {
    /// What callers plan around.
    fn capabilities(&self) -> SecretCapabilities;

    /// Reads a secret.
    async fn get(&self, path: &SecretPath, version: Option<u64>) -> Result<Option<SecretVersion>>;

    /// Writes a secret and returns its new version.
    async fn put(
        &self,
        path: &SecretPath,
        value: &Secret,
        precondition: SecretPrecondition,
    ) -> Result<u64>;

    /// Removes a secret.
    async fn delete(&self, path: &SecretPath) -> Result<()>;

    /// Names the secrets whose path starts with a prefix.
    async fn list(&self, prefix: &str) -> Result<Vec<SecretPath>>;

    /// Names the secrets that changed, as they change.
    async fn watch(&self) -> Result<BoxStream<'static, SecretPath>>;
}

/// What callers of a [`SecretStore`] plan around.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct SecretCapabilities {
    /// Older versions stay readable.
    pub versioned: bool,
}

/// Where a secret is: parts of `[A-Za-z0-9._-]` joined by `/`, at most 255 characters, no part `.` or `..`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SecretPath(String);

impl SecretPath {
    /// Parses a path.
    ///
    /// # Errors
    /// `Invalid` if it is not one.
    pub fn new(path: impl Into<String>) -> Result<Self> {
        let path = path.into();
        let word = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-');
        let part = |part: &str| !matches!(part, "" | "." | "..") && part.bytes().all(word);
        if path.len() <= 255 && path.split('/').all(part) {
            return Ok(Self(path));
        }
        Err(Error::invalid(format!(
            "`{}` is not a secret's path",
            path.escape_default()
        )))
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SecretPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl TryFrom<String> for SecretPath {
    type Error = Error;

    fn try_from(path: String) -> Result<Self> {
        Self::new(path)
    }
}

impl From<SecretPath> for String {
    fn from(path: SecretPath) -> Self {
        path.0
    }
}

/// A secret's value: zeroed when dropped, never shown, never serialised.
#[expect(missing_debug_implementations, reason = "a secret is never shown")]
#[derive(Clone)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes a value.
    pub fn new(value: impl Into<Vec<u8>>) -> Self {
        Self(Zeroizing::new(value.into()))
    }

    /// Shows the value to whoever must pass it on.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

/// A secret as it was read. Has no `Debug`.
#[expect(missing_debug_implementations, reason = "a secret is never shown")]
#[derive(Clone)]
pub struct SecretVersion {
    /// Which version, from 1.
    pub version: u64,
    /// The value.
    pub value: Secret,
}

/// What must hold for a secret to be written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SecretPrecondition {
    /// Nothing.
    Any,
    /// The secret does not exist.
    Absent,
    /// The secret's newest version is this one.
    Version(u64),
}
