//! The keys below a prefix, and what is in them.
//!
//! | key | value |
//! |---|---|
//! | `<prefix>/format` | the version of this layout |
//! | `<prefix>/id` | what tells this store from all others |
//! | `<prefix>/<Kind>/<tenant>,<project>,<environment>,<name>` | an object as JSON; of the scope as much as the kind has |
//! | `<prefix>/leaders/<name>` | who leads, with a lease |
//!
//! The names are joined by a comma, because etcd lists in order of the bytes and names have `-` in them: it is less than `/`, and a comma is
//! less than either, so that etcd's order is that of the objects' keys.

use tappaas_core::{Error, Key, Kind, Name, Object, Result, Revision, Scope};

use crate::messages::KeyValue;

/// The version of this layout. Raised when an older program could not read it.
pub(crate) const FORMAT: u64 = 1;

/// The most bytes of a prefix.
const PREFIX_MAX: usize = 255;

/// What all keys of a store begin with.
#[derive(Clone, Debug)]
pub(crate) struct Layout(String);

impl Layout {
    /// # Errors
    /// `Invalid` if the prefix cannot be one.
    pub(crate) fn new(prefix: &str) -> Result<Self> {
        let named = prefix.strip_suffix('/').unwrap_or(prefix);
        let part = |part: &str| !part.is_empty() && part.bytes().all(|c| c.is_ascii_graphic());
        let inner = named.strip_prefix('/').unwrap_or(named);
        if named.len() <= PREFIX_MAX && inner.split('/').all(part) {
            return Ok(Self(format!("{named}/")));
        }
        Err(Error::invalid(format!(
            "`{}` cannot be the prefix of a store: expected at most {PREFIX_MAX} visible ASCII characters, as in `/tappaas`",
            prefix.escape_default()
        )))
    }

    /// The prefix with its `/`.
    pub(crate) fn prefix(&self) -> &str {
        &self.0
    }

    pub(crate) fn format(&self) -> Vec<u8> {
        format!("{}format", self.0).into_bytes()
    }

    pub(crate) fn id(&self) -> Vec<u8> {
        format!("{}id", self.0).into_bytes()
    }

    pub(crate) fn leader(&self, name: &str) -> Vec<u8> {
        format!("{}leaders/{name}", self.0).into_bytes()
    }

    pub(crate) fn object(&self, key: &Key) -> Vec<u8> {
        let mut bytes = self.scope(key.kind, &key.scope);
        bytes.extend_from_slice(key.name.as_bytes());
        bytes
    }

    /// What the keys of all objects of a kind in a scope or inside it begin with.
    pub(crate) fn scope(&self, kind: Kind, scope: &Scope) -> Vec<u8> {
        let mut text = format!("{}{kind}/", self.0);
        for name in scope.names() {
            text.push_str(name.as_str());
            text.push(',');
        }
        text.into_bytes()
    }

    /// The object that etcd has, with the revision that it has there.
    ///
    /// # Errors
    /// `Internal`, naming the key, if it is none.
    pub(crate) fn decode(&self, kind: Kind, found: &KeyValue) -> Result<Object> {
        let spoilt = |problem: &str| {
            let key = String::from_utf8_lossy(&found.key);
            Error::internal(format!(
                "etcd's key `{}` is damaged: {problem}",
                key.escape_debug()
            ))
        };
        let mut object: Object = serde_json::from_slice(&found.value)
            .map_err(|error| spoilt("it is no object").with_source(error))?;
        let place = self.key(kind, &found.key);
        if place.is_none_or(|place| place != object.key()) {
            return Err(spoilt("its object belongs elsewhere"));
        }
        object.metadata.revision = revision(found.mod_revision);
        Ok(object)
    }

    /// The object that a key belongs to, if it can be one's.
    fn key(&self, kind: Kind, key: &[u8]) -> Option<Key> {
        let rest = key.strip_prefix(&*self.scope(kind, &Scope::cluster()))?;
        let mut names = std::str::from_utf8(rest).ok()?.split(',');
        let scope = names.by_ref().take(kind.depth());
        let scope: Result<Vec<Name>> = scope.map(Name::new).collect();
        let mut scope = scope.ok()?.into_iter();
        let scope = match (scope.next(), scope.next(), scope.next()) {
            (Some(tenant), Some(project), Some(environment)) => {
                Scope::environment(tenant, project, environment)
            }
            (Some(tenant), Some(project), None) => Scope::project(tenant, project),
            (Some(tenant), ..) => Scope::tenant(tenant),
            (None, ..) => Scope::cluster(),
        };
        let key = Key::new(kind, scope, names.next()?);
        (names.next().is_none() && key.check().is_ok()).then_some(key)
    }
}

/// The object as etcd keeps it. Its revision is etcd's to give.
pub(crate) fn encode(object: &Object) -> Result<Vec<u8>> {
    serde_json::to_vec(object).map_err(|error| {
        Error::internal(format!("{} cannot be serialised", object.key())).with_source(error)
    })
}

/// The first key after all that begin like this.
pub(crate) fn end_of(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    // Ours end with an ASCII character.
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

/// Revisions begin with 1.
pub(crate) fn revision(etcd: i64) -> Revision {
    Revision::from_counter(u64::try_from(etcd).unwrap_or_default())
}

/// As etcd counts. What it cannot have counted to is in the future.
pub(crate) fn counter(revision: Revision) -> i64 {
    i64::try_from(revision.counter()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tappaas_core::{Metadata, object::API_VERSION};

    use super::*;

    fn key(tenant: &str, environment: &str, name: &str) -> Key {
        let parsed = |name: &str| Name::new(name).unwrap();
        let scope = Scope::environment(parsed(tenant), parsed("p"), parsed(environment));
        Key::new(Kind::Application, scope, name)
    }

    fn kept(layout: &Layout, key: &Key) -> KeyValue {
        let object = Object {
            api_version: API_VERSION.to_owned(),
            kind: key.kind,
            metadata: Metadata::new(&key.scope, key.name.clone()),
            spec: json!({}),
            status: json!(null),
        };
        KeyValue {
            key: layout.object(key),
            mod_revision: 7,
            value: encode(&object).unwrap(),
            lease: 0,
        }
    }

    #[test]
    fn keys_sort_as_objects_do() {
        let layout = Layout::new("/t").unwrap();
        let mut keys = Vec::new();
        for tenant in ["a", "a-b", "ab"] {
            for environment in ["e", "e-1", "e0"] {
                keys.extend(["x", "x-1", "x0"].map(|name| key(tenant, environment, name)));
            }
        }
        keys.sort();
        let mut by_bytes = keys.clone();
        by_bytes.sort_by_key(|key| layout.object(key));
        assert_eq!(by_bytes, keys);
    }

    #[test]
    fn a_prefix_never_sees_what_is_in_a_longer_one() {
        let (short, long) = (Layout::new("/a").unwrap(), Layout::new("/ab/").unwrap());
        let range = short.scope(Kind::Application, &Scope::cluster());
        let other = long.object(&key("one", "e", "x"));
        assert!(!(range.clone()..end_of(&range)).contains(&other));
        assert_eq!(long.prefix(), "/ab/");
    }

    #[test]
    fn a_scope_ends_where_another_begins() {
        let layout = Layout::new("/t").unwrap();
        let scope = layout.scope(Kind::Application, &key("one", "e", "x").scope);
        let range = scope.clone()..end_of(&scope);
        assert!(range.contains(&layout.object(&key("one", "e", "zz"))));
        for outside in [key("one", "e-1", "x"), key("one", "e0", "x")] {
            assert!(!range.contains(&layout.object(&outside)), "{outside}");
        }
    }

    #[test]
    fn what_cannot_be_a_prefix_is_refused() {
        for bad in ["", "/", "//", "a//b", "/a b", "/ä", "a\n", &"x".repeat(300)] {
            assert!(Layout::new(bad).is_err(), "{bad:?}");
        }
        for good in ["a", "/a", "/a/", "a/b", "/platforms/one.example"] {
            assert!(Layout::new(good).is_ok(), "{good:?}");
        }
    }

    #[test]
    fn an_object_has_the_revision_of_its_key() {
        let layout = Layout::new("/t").unwrap();
        let found = kept(&layout, &key("one", "e", "x"));
        let object = layout.decode(Kind::Application, &found).unwrap();
        assert_eq!(object.key(), key("one", "e", "x"));
        assert_eq!(object.metadata.revision, Revision::from_counter(7));
    }

    #[test]
    fn what_is_not_where_it_belongs_is_named() {
        let layout = Layout::new("/t").unwrap();
        let mut moved = kept(&layout, &key("one", "e", "x"));
        moved.key = layout.object(&key("two", "e", "x"));
        let mut torn = kept(&layout, &key("one", "e", "x"));
        torn.value.pop();
        let mut strange = kept(&layout, &key("one", "e", "x"));
        strange.key.extend_from_slice(b",y");
        for bad in [moved, torn, strange] {
            let error = layout.decode(Kind::Application, &bad).unwrap_err();
            assert!(error.to_string().contains("`/t/Application/"), "{error}");
        }
    }
}
