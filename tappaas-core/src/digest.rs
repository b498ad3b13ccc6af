use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{Error, Result};

/// A content address, `sha256:` and 64 lowercase hexadecimal digits (OCI image-spec, descriptor).
#[derive(Clone, Eq, Hash, JsonSchema, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Digest(String);

impl Digest {
    /// Computes the address of `content`.
    pub fn of(content: impl AsRef<[u8]>) -> Self {
        Self::from_sha256(Sha256::digest(content).into())
    }

    /// Makes the address out of a finished SHA-256.
    pub fn from_sha256(hash: [u8; 32]) -> Self {
        Self(format!("sha256:{}", hex::encode(hash)))
    }

    /// The whole address, `sha256:…`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The 64 hexadecimal digits.
    pub fn hex(&self) -> &str {
        &self.0["sha256:".len()..]
    }

    /// The first 12 hexadecimal digits, for people.
    pub fn short(&self) -> &str {
        &self.hex()[..12]
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for Digest {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let digits = |hex: &str| {
            hex.len() == 64 && hex.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'))
        };
        match text.strip_prefix("sha256:") {
            Some(hex) if digits(hex) => Ok(Self(text.to_owned())),
            _ => Err(Error::invalid(format!(
                "`{}` is not a digest: expected `sha256:` and 64 lowercase hexadecimal digits",
                text.escape_default()
            ))),
        }
    }
}

impl TryFrom<String> for Digest {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lowercase_sha256_parses() {
        let digest = Digest::of(b"hello");
        assert_eq!(digest.as_str().parse::<Digest>().unwrap(), digest);
        for bad in [
            "",
            "sha256:",
            "sha512:00",
            &digest.as_str().to_uppercase(),
            "sha256:../../etc",
        ] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
    }
}
