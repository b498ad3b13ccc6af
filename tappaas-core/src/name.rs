use std::{borrow::Cow, fmt, str::FromStr, sync::Arc};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};

use crate::{Error, Result};

/// A DNS label (RFC 1123) of at most 40 characters: `[a-z0-9]([a-z0-9-]*[a-z0-9])?`.
///
/// Parsed once at the edge; whoever holds a `Name` need not check it again. Cheap to clone.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd, Deserialize)]
#[serde(try_from = "String")]
pub struct Name(Arc<str>);

impl Name {
    /// The most characters a name may have. Leaves room for a hash in a 63-character label.
    pub const LENGTH_MAX: usize = 40;

    /// Parses a name.
    ///
    /// # Errors
    /// `Invalid`, saying which rule is broken.
    pub fn new(name: impl Into<String>) -> Result<Self> {
        let name = name.into();
        match fault(&name) {
            None => Ok(Self(name.into())),
            Some(fault) => Err(Error::invalid(format!(
                "`{}` is not a valid name: {fault}",
                name.escape_default()
            ))),
        }
    }

    /// Turns any text into the nearest valid name, or `None` if nothing of it can stay.
    pub fn nearest(text: &str) -> Option<Self> {
        let mut label = String::new();
        for c in text.chars().map(|c| c.to_ascii_lowercase()) {
            if c.is_ascii_lowercase() || c.is_ascii_digit() {
                label.push(c);
            } else if !label.ends_with('-') && !label.is_empty() {
                label.push('-');
            }
            if label.len() == Self::LENGTH_MAX {
                break;
            }
        }
        Self::new(label.trim_end_matches('-')).ok()
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn fault(name: &str) -> Option<&'static str> {
    let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    if name.is_empty() {
        Some("it is empty")
    } else if name.len() > Name::LENGTH_MAX {
        Some("it has more than 40 characters")
    } else if !name.bytes().all(allowed) {
        Some("only a-z, 0-9 and `-` are allowed")
    } else if name.starts_with('-') || name.ends_with('-') {
        Some("it must start and end with a letter or digit")
    } else {
        None
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for Name {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::new(name)
    }
}

impl TryFrom<String> for Name {
    type Error = Error;

    fn try_from(name: String) -> Result<Self> {
        Self::new(name)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0.as_ref().to_owned()
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl PartialEq<str> for Name {
    fn eq(&self, other: &str) -> bool {
        *self.0 == *other
    }
}

impl PartialEq<&str> for Name {
    fn eq(&self, other: &&str) -> bool {
        *self.0 == **other
    }
}

impl JsonSchema for Name {
    fn schema_name() -> Cow<'static, str> {
        "Name".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "maxLength": Self::LENGTH_MAX,
            "pattern": "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$",
            "description": "A DNS label of at most 40 characters.",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_short_dns_label() {
        for good in ["a", "web", "my-app-2", &"x".repeat(40)] {
            assert!(Name::new(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "-a",
            "a-",
            "A",
            "a.b",
            "a b",
            "a\n",
            "é",
            &"x".repeat(41),
        ] {
            assert!(Name::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_nearest_name_keeps_what_can_stay() {
        assert_eq!(Name::nearest("My App_2!").unwrap(), "my-app-2");
        assert_eq!(Name::nearest("--"), None);
        assert_eq!(Name::nearest(&"ab-".repeat(20)).unwrap().as_str().len(), 40);
    }
}
