use std::{fmt, str::FromStr};

use crate::{Error, Name, Result, backend::SecretPath};

const SCHEME: &str = "secret://";
/// The most characters of a key: what Kubernetes allows.
const KEY_MAX: usize = 253;

/// Where the value of a variable is kept, written `secret://<store>/<path>#<key>`; without a key all of the secret is the value.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SecretReference {
    /// Which store.
    pub store: Name,
    /// Where in that store.
    pub path: SecretPath,
    /// Which value of those that the secret has: letters, digits, `-`, `_` and `.`.
    pub key: Option<String>,
}

impl SecretReference {
    /// The reference that a text is, if it is meant as one.
    ///
    /// # Errors
    /// `Invalid` if it is meant as one and is none.
    pub fn meant(text: &str) -> Result<Option<Self>> {
        text.starts_with(SCHEME).then(|| text.parse()).transpose()
    }

    /// That there is no such store for a variable, and which there is.
    pub(crate) fn not_here(&self, variable: &str, had: Option<&Name>) -> String {
        let store = &self.store;
        match had {
            Some(had) => format!(
                "variable {variable}: there is no secret store `{store}` here; there is `{had}`"
            ),
            None => format!(
                "variable {variable}: there is no secret store `{store}` here, nor any other"
            ),
        }
    }
}

impl fmt::Display for SecretReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}", self.store, self.path)?;
        match &self.key {
            Some(key) => write!(f, "#{key}"),
            None => Ok(()),
        }
    }
}

impl FromStr for SecretReference {
    type Err = Error;

    /// # Errors
    /// `Invalid`, saying which part is wrong. What follows the scheme may be a value by mistake, and is not repeated.
    fn from_str(text: &str) -> Result<Self> {
        let wrong = |what: &str| {
            Error::invalid(format!(
                "{what}: a reference is `{SCHEME}<store>/<path>#<key>`, or without `#<key>`"
            ))
        };
        let rest = text.strip_prefix(SCHEME);
        let rest = rest.ok_or_else(|| wrong("the value is no reference to a secret"))?;
        let (place, key) = match rest.split_once('#') {
            Some((place, key)) => (place, Some(key)),
            None => (rest, None),
        };
        let (store, path) = place
            .split_once('/')
            .ok_or_else(|| wrong("the reference to a secret names no path"))?;
        let character = |c: u8| c.is_ascii_alphanumeric() || b"-_.".contains(&c);
        let good = |key: &str| {
            let is_path = key == "." || key.starts_with("..");
            (1..=KEY_MAX).contains(&key.len()) && key.bytes().all(character) && !is_path
        };
        if !key.is_none_or(good) {
            return Err(wrong("the reference to a secret has a wrong key"));
        }
        Ok(Self {
            store: Name::new(store)
                .map_err(|_| wrong("the reference to a secret names no store"))?,
            path: SecretPath::new(path)
                .map_err(|_| wrong("the reference to a secret has a wrong path"))?,
            key: key.map(str::to_owned),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_written_as_it_was_read() {
        for text in [
            "secret://kubernetes/db#password",
            "secret://vault/team/db_1.x#user.name",
            "secret://vault/whole",
        ] {
            assert_eq!(text.parse::<SecretReference>().unwrap().to_string(), text);
            assert!(SecretReference::meant(text).unwrap().is_some());
        }
        assert_eq!(SecretReference::meant("s3cret").unwrap(), None);
    }

    #[test]
    fn what_is_wrong_is_said_without_repeating_it() {
        for (text, what) in [
            ("secret://", "names no path"),
            ("secret://s3cret", "names no path"),
            ("secret://S3cret/db#x", "names no store"),
            ("secret://vault/", "wrong path"),
            ("secret://vault/../s3cret#x", "wrong path"),
            ("secret://vault/a b", "wrong path"),
            ("secret://vault/db#", "wrong key"),
            ("secret://vault/db#s3cret#x", "wrong key"),
            ("secret://vault/db#s3cret/x", "wrong key"),
            ("secret://vault/db#..", "wrong key"),
        ] {
            let error = SecretReference::meant(text).unwrap_err().to_string();
            assert!(error.contains(what), "{text}: {error}");
            assert!(!error.to_lowercase().contains("s3cret"), "{error}");
        }
    }
}
