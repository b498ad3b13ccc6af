use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Reference, Registry, Repository, Tag};
use crate::{Digest, Error, Result};

/// An image: a manifest in a repository, by digest.
#[derive(
    Clone, Debug, Eq, Hash, JsonSchema, Ord, PartialEq, PartialOrd, Serialize, Deserialize,
)]
#[serde(rename_all = "camelCase")]
pub struct Image {
    /// Where it is.
    pub repository: Repository,
    /// What it is.
    pub digest: Digest,
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.repository, self.digest)
    }
}

/// What people call an image: `registry.example/app:1.2`, `app@sha256:…`, or `app`, which is its tag `latest`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ImageName {
    /// Where it is.
    pub repository: Repository,
    /// Which of those there.
    pub reference: Reference,
}

impl ImageName {
    /// The image that it means now.
    ///
    /// # Errors
    /// `NotFound` if the registry has none; whatever the registry says.
    pub async fn resolve(&self, registry: &dyn Registry) -> Result<Image> {
        let found = registry.resolve(&self.repository, &self.reference).await?;
        let digest =
            found.ok_or_else(|| Error::not_found(format!("no image `{self}` in the registry")))?;
        Ok(self.image(digest))
    }

    /// The image that it always means, if it is by its digest.
    pub fn fixed(&self) -> Option<Image> {
        match &self.reference {
            Reference::Digest(digest) => Some(self.image(digest.clone())),
            Reference::Tag(_) => None,
        }
    }

    fn image(&self, digest: Digest) -> Image {
        Image {
            repository: self.repository.clone(),
            digest,
        }
    }
}

impl FromStr for ImageName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest)),
            None => (text, None),
        };
        let (repository, tag) = split_tag(name);
        let tag: Tag = tag.unwrap_or("latest").parse()?;
        Ok(Self {
            repository: repository.parse()?,
            // Of both the digest decides; the tag is for people.
            reference: match digest {
                Some(digest) => Reference::Digest(digest.parse()?),
                None => Reference::Tag(tag),
            },
        })
    }
}

/// A `:` after the last `/` begins the tag; one before it belongs to the registry's port.
fn split_tag(name: &str) -> (&str, Option<&str>) {
    match name.rfind(':').filter(|at| !name[*at..].contains('/')) {
        Some(at) => (&name[..at], Some(&name[at + 1..])),
        None => (name, None),
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reference {
            Reference::Digest(digest) => write!(f, "{}@{digest}", self.repository),
            Reference::Tag(tag) => write!(f, "{}:{tag}", self.repository),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_people_write_them() {
        let digest = Digest::of("");
        for (text, shown) in [
            ("app", "app:latest".to_owned()),
            ("app:1.2", "app:1.2".to_owned()),
            ("localhost:5000/app", "localhost:5000/app:latest".to_owned()),
            ("ghcr.io/a/b:v1", "ghcr.io/a/b:v1".to_owned()),
            (&format!("a/b@{digest}"), format!("a/b@{digest}")),
            (&format!("a/b:1@{digest}"), format!("a/b@{digest}")),
        ] {
            let name: ImageName = text.parse().unwrap();
            assert_eq!(name.to_string(), shown);
            assert_eq!(name.fixed().is_some(), text.contains('@'), "{text}");
        }
        for bad in ["", ":1", "App", "a:", "a@sha256:1", "a b:1", "a@@"] {
            assert!(bad.parse::<ImageName>().is_err(), "{bad}");
        }
    }
}
