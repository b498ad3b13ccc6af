//! Objects as stores keep them: identity, metadata, and `spec` and `status` as JSON.

use std::{collections::BTreeMap, fmt, io, sync::Arc};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Error, Name, Result, Timestamp};

/// The API group and version that every stored object carries.
pub const API_VERSION: &str = "tappaas.dev/v1";

/// The kinds of object a [`Store`](crate::Store) keeps.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Kind {
    /// One deployable thing in one environment. Environment-scoped.
    Application,
    /// One run of a builder. Environment-scoped.
    Build,
    /// Domains that applications get hosts under. Cluster-scoped.
    DomainPool,
    /// A stage of a project. Project-scoped.
    Environment,
    /// The ownership of a host name. Cluster-scoped, named by the host's hash.
    HostClaim,
    /// The record of an asynchronous request. Environment-scoped.
    Operation,
    /// A group of environments and what holds for all of them. Tenant-scoped.
    Project,
    /// A version of an application. Environment-scoped, immutable.
    Release,
    /// The owner of projects. Cluster-scoped.
    Tenant,
    /// Storage with its own life. Environment-scoped.
    Volume,
}

impl Kind {
    /// Every kind, in alphabetical order.
    pub const ALL: [Self; 10] = [
        Self::Application,
        Self::Build,
        Self::DomainPool,
        Self::Environment,
        Self::HostClaim,
        Self::Operation,
        Self::Project,
        Self::Release,
        Self::Tenant,
        Self::Volume,
    ];

    /// The kind's name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Application => "Application",
            Self::Build => "Build",
            Self::DomainPool => "DomainPool",
            Self::Environment => "Environment",
            Self::HostClaim => "HostClaim",
            Self::Operation => "Operation",
            Self::Project => "Project",
            Self::Release => "Release",
            Self::Tenant => "Tenant",
            Self::Volume => "Volume",
        }
    }

    /// How many of tenant, project and environment an object of this kind names.
    pub fn depth(self) -> usize {
        match self {
            Self::DomainPool | Self::HostClaim | Self::Tenant => 0,
            Self::Project => 1,
            Self::Environment => 2,
            Self::Application | Self::Build | Self::Operation | Self::Release | Self::Volume => 3,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Where an object lives: nowhere in particular (the cluster), or in a tenant, project or environment. Cheap to clone.
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct Scope(Arc<[Name]>);

impl Scope {
    /// The whole cluster.
    pub fn cluster() -> Self {
        Self::default()
    }

    /// Everything of one tenant.
    pub fn tenant(tenant: Name) -> Self {
        Self([tenant].into())
    }

    /// Everything of one project.
    pub fn project(tenant: Name, project: Name) -> Self {
        Self([tenant, project].into())
    }

    /// One environment.
    pub fn environment(tenant: Name, project: Name, environment: Name) -> Self {
        Self([tenant, project, environment].into())
    }

    /// The names from the tenant inwards; at most three.
    pub fn names(&self) -> &[Name] {
        &self.0
    }

    /// The scope around this one, or `None` for the cluster.
    pub fn parent(&self) -> Option<Self> {
        let (_, outer) = self.0.split_last()?;
        Some(Self(outer.into()))
    }

    /// Says whether `inner` is this scope or lies inside it.
    pub fn contains(&self, inner: &Self) -> bool {
        inner.0.starts_with(&self.0)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, name) in self.0.iter().enumerate() {
            write!(f, "{}{name}", if i == 0 { "" } else { "/" })?;
        }
        Ok(())
    }
}

/// The identity of an object.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct Key {
    /// The object's kind.
    pub kind: Kind,
    /// Where the object lives.
    pub scope: Scope,
    /// A DNS label of at most 63 characters, unique within kind and scope.
    pub name: String,
}

impl Key {
    /// Creates a key. [`Key::check`] says whether it is a good one.
    pub fn new(kind: Kind, scope: Scope, name: impl Into<String>) -> Self {
        Self {
            kind,
            scope,
            name: name.into(),
        }
    }

    /// Refuses a name that is no DNS label, and a scope of the wrong depth.
    ///
    /// # Errors
    /// `Invalid`, saying which rule is broken.
    pub fn check(&self) -> Result<()> {
        let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
        let label = (1..=63).contains(&self.name.len()) && self.name.bytes().all(allowed);
        if !label || self.name.starts_with('-') || self.name.ends_with('-') {
            return Err(Error::invalid(format!(
                "`{}` cannot name an object: expected a DNS label of at most 63 characters",
                self.name.escape_default()
            )));
        }
        if self.scope.names().len() != self.kind.depth() {
            return Err(Error::invalid(format!(
                "an object of kind {} cannot live in scope `{}`",
                self.kind, self.scope
            )));
        }
        Ok(())
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.kind)?;
        if !self.scope.names().is_empty() {
            write!(f, "{}/", self.scope)?;
        }
        f.write_str(&self.name)
    }
}

/// A point in the history of one kind. Opaque: comparable within one kind, meaningless across kinds.
#[derive(
    Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize,
)]
#[serde(try_from = "String", into = "String")]
pub struct Revision(u64);

impl Revision {
    /// Makes a revision out of a store's own counter.
    pub const fn from_counter(counter: u64) -> Self {
        Self(counter)
    }

    /// The store's own counter.
    pub const fn counter(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl TryFrom<String> for Revision {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        let counter = text.parse().map_err(|error| {
            Error::invalid(format!("`{}` is not a revision", text.escape_default()))
                .with_source(error)
        })?;
        Ok(Self(counter))
    }
}

impl From<Revision> for String {
    fn from(revision: Revision) -> Self {
        revision.0.to_string()
    }
}

/// Names the object that another one belongs to. When the owner is gone, core's garbage collector deletes the owned.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Owner {
    /// The owner's kind. It lives in the same scope as the owned object.
    pub kind: Kind,
    /// The owner's name.
    pub name: String,
    /// The owner's unique id, so that a namesake created later does not inherit.
    pub uid: String,
}

/// What every object has. `uid`, `created`, `generation`, `revision` and `deletion` are written by the store alone.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// The tenant, if the kind's scope has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<Name>,
    /// The project, if the kind's scope has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<Name>,
    /// The environment, if the kind's scope has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<Name>,
    /// A DNS label of at most 63 characters.
    pub name: String,
    /// Unique over all objects that ever were.
    #[serde(default)]
    pub uid: String,
    /// When the object was created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<Timestamp>,
    /// Raised by one at each change of `spec`; 1 at creation.
    #[serde(default)]
    pub generation: u64,
    /// Changes at each write.
    #[serde(default)]
    pub revision: Revision,
    /// Short values to select by.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Anything else worth keeping with the object.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// What this object belongs to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub owners: Vec<Owner>,
    /// Who must still clean up before the object may go.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub finalizers: Vec<String>,
    /// When deletion was asked for, while finalizers remain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion: Option<Timestamp>,
}

impl Metadata {
    /// Metadata for a new object.
    pub fn new(scope: &Scope, name: impl Into<String>) -> Self {
        let mut names = scope.names().iter().cloned();
        Self {
            tenant: names.next(),
            project: names.next(),
            environment: names.next(),
            name: name.into(),
            uid: String::new(),
            created: None,
            generation: 0,
            revision: Revision::default(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            owners: Vec::new(),
            finalizers: Vec::new(),
            deletion: None,
        }
    }

    /// Where the object lives.
    pub fn scope(&self) -> Scope {
        let names = [&self.tenant, &self.project, &self.environment];
        Scope(names.into_iter().map_while(Clone::clone).collect())
    }
}

/// An object as stores keep it: metadata in types, `spec` and `status` as JSON so that unknown fields survive.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Object {
    /// [`API_VERSION`], or a newer one.
    pub api_version: String,
    /// The object's kind.
    pub kind: Kind,
    /// What every object has.
    pub metadata: Metadata,
    /// What users want.
    #[serde(default)]
    pub spec: Value,
    /// What controllers found.
    #[serde(default)]
    pub status: Value,
}

impl Object {
    /// The most bytes an object may have when serialised as JSON.
    pub const SIZE_MAX: usize = 1 << 20;

    /// The most arrays and objects that may lie inside each other, the object itself counted. JSON readers commonly stop at 128.
    pub const DEPTH_MAX: usize = 100;

    /// The object's identity.
    pub fn key(&self) -> Key {
        Key::new(self.kind, self.metadata.scope(), self.metadata.name.clone())
    }

    /// Refuses a bad key, and an object that is too large or nested too deep. Returns how many bytes it has when serialised as JSON.
    ///
    /// # Errors
    /// `Invalid`, saying which rule is broken.
    pub fn check(&self) -> Result<usize> {
        let key = self.key();
        key.check()?;
        let names = [
            &self.metadata.tenant,
            &self.metadata.project,
            &self.metadata.environment,
        ];
        if names.into_iter().flatten().count() != key.scope.names().len() {
            let message = format!("{key} names a project or environment without what it lies in");
            return Err(Error::invalid(message));
        }
        let depth = 1 + depth(&self.spec).max(depth(&self.status));
        if depth > Self::DEPTH_MAX {
            let max = Self::DEPTH_MAX;
            let message =
                format!("{key} is nested {depth} deep; an object has at most {max} levels");
            return Err(Error::invalid(message));
        }
        let mut size = Size(0);
        serde_json::to_writer(&mut size, self).map_err(|error| {
            Error::invalid(format!("{key} cannot be serialised")).with_source(error)
        })?;
        if size.0 > Self::SIZE_MAX {
            let (size, max) = (size.0, Self::SIZE_MAX);
            let message = format!("{key} has {size} bytes; an object has at most {max}");
            return Err(Error::invalid(message));
        }
        Ok(size.0)
    }
}

/// How many arrays and objects lie inside each other. Not recursive, for the value may be deeper than the stack.
fn depth(value: &Value) -> usize {
    let mut deepest = 0;
    let mut waiting = vec![(value, 0)];
    while let Some((value, outside)) = waiting.pop() {
        let depth = outside + usize::from(value.is_array() || value.is_object());
        deepest = deepest.max(depth);
        match value {
            Value::Array(items) => waiting.extend(items.iter().map(|item| (item, depth))),
            Value::Object(fields) => waiting.extend(fields.values().map(|item| (item, depth))),
            _ => {}
        }
    }
    deepest
}

/// Counts what is written to it.
struct Size(usize);

impl io::Write for Size {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_needs_the_scope_of_its_kind() {
        let name = |n: &str| Name::new(n).unwrap();
        let scope = Scope::environment(name("t"), name("p"), name("e"));
        assert!(
            Key::new(Kind::Application, scope.clone(), "a")
                .check()
                .is_ok()
        );
        assert!(
            Key::new(Kind::HostClaim, scope.clone(), "a")
                .check()
                .is_err()
        );
        assert!(
            Key::new(Kind::Application, scope.clone(), "../a")
                .check()
                .is_err()
        );
        assert!(Scope::project(name("t"), name("p")).contains(&scope));
        assert!(!scope.contains(&Scope::cluster()));
        assert_eq!(Metadata::new(&scope, "a").scope(), scope);
    }
}
