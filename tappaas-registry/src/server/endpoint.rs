use tappaas_core::{Digest, backend::Reference};

use super::failure::Failure;
use crate::RepositoryName;

/// What a request is about.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Endpoint {
    Blob(RepositoryName, Digest),
    Manifest(RepositoryName, Reference),
    Tags(RepositoryName),
    Upload(RepositoryName, String),
    Uploads(RepositoryName),
}

impl Endpoint {
    /// Reads the decoded path after `/v2/`.
    ///
    /// Repository names have slashes, so that it is read from its end; what is left must be a name by the specification's
    /// grammar, which knows no `..`, no empty component and no escape.
    pub(super) fn parse(path: &str) -> Result<Self, Failure> {
        let parts: Vec<&str> = path.split('/').collect();
        let name = |parts: &[&str]| {
            parts
                .join("/")
                .parse::<RepositoryName>()
                .map_err(Failure::from)
        };
        match parts.as_slice() {
            [repository @ .., "tags", "list"] => Ok(Self::Tags(name(repository)?)),
            [repository @ .., "manifests", reference] => Ok(Self::Manifest(
                name(repository)?,
                parse_reference(reference)?,
            )),
            [repository @ .., "blobs", "uploads"] | [repository @ .., "blobs", "uploads", ""] => {
                Ok(Self::Uploads(name(repository)?))
            }
            [repository @ .., "blobs", "uploads", id] => {
                Ok(Self::Upload(name(repository)?, (*id).to_owned()))
            }
            [repository @ .., "blobs", digest] => {
                Ok(Self::Blob(name(repository)?, parse_digest(digest)?))
            }
            _ => Err(Failure::unsupported("no such endpoint")),
        }
    }

    /// The methods the endpoint has.
    pub(super) fn allow(&self) -> &'static str {
        match self {
            Self::Blob(..) => "DELETE, GET, HEAD",
            Self::Manifest(..) => "DELETE, GET, HEAD, PUT",
            Self::Tags(_) => "GET",
            Self::Upload(..) => "DELETE, GET, PATCH, PUT",
            Self::Uploads(_) => "POST",
        }
    }
}

/// Reads a digest that a client sent.
pub(super) fn parse_digest(text: &str) -> Result<Digest, Failure> {
    text.parse()
        .map_err(|error| Failure::digest_invalid(&error))
}

fn parse_reference(text: &str) -> Result<Reference, Failure> {
    if text.contains(':') {
        return parse_digest(text).map(Reference::Digest);
    }
    text.parse()
        .map(Reference::Tag)
        .map_err(|error| Failure::manifest_invalid(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> RepositoryName {
        text.parse().unwrap()
    }

    #[test]
    fn a_path_is_read_from_its_end() {
        let digest = Digest::of("x");
        let uploads = "blobs/uploads";
        for (path, endpoint) in [
            ("a/tags/list".to_owned(), Endpoint::Tags(name("a"))),
            ("a/b/c/tags/list".to_owned(), Endpoint::Tags(name("a/b/c"))),
            (
                "tags/list/tags/list".to_owned(),
                Endpoint::Tags(name("tags/list")),
            ),
            (
                format!("a/manifests/{digest}"),
                Endpoint::Manifest(name("a"), Reference::Digest(digest.clone())),
            ),
            (
                "a/manifests/v1".to_owned(),
                Endpoint::Manifest(name("a"), Reference::Tag("v1".parse().unwrap())),
            ),
            (
                format!("a/blobs/{digest}"),
                Endpoint::Blob(name("a"), digest),
            ),
            (format!("a/{uploads}"), Endpoint::Uploads(name("a"))),
            (format!("a/{uploads}/"), Endpoint::Uploads(name("a"))),
            (
                format!("a/{uploads}/1-2"),
                Endpoint::Upload(name("a"), "1-2".to_owned()),
            ),
            (
                format!("{uploads}/{uploads}/"),
                Endpoint::Uploads(name(uploads)),
            ),
        ] {
            assert_eq!(Endpoint::parse(&path).unwrap(), endpoint, "{path}");
        }
    }

    #[test]
    fn a_path_that_leaves_the_grammar_is_nothing() {
        for path in [
            "",
            "a",
            "tags/list",
            "/tags/list",
            "a//tags/list",
            "../tags/list",
            "a/../b/tags/list",
            "A/tags/list",
            "a/manifests/",
            "a/manifests/..",
            "a/manifests/.hidden",
            "a/manifests/sha256:../..",
            "a/blobs/..",
            "a/blobs/x",
            "a/_tags/manifests/x",
            "a/tags/list/",
            "a\0/tags/list",
            "a/tags/LIST",
        ] {
            assert!(Endpoint::parse(path).is_err(), "{path}");
        }
    }
}
