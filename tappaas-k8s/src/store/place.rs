use std::collections::BTreeMap;

use k8s_openapi::{api::core::v1::Namespace, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use sha2::{Digest as _, Sha256};
use tappaas_core::{Key, Kind, Name, Scope};

use crate::{PlatformId, labels::PLATFORM};

/// The labels of a namespace that say whose it is: the platform's, and from the tenant inwards.
pub(crate) const LABELS: [&str; 4] = [
    PLATFORM,
    "tappaas.dev/tenant",
    "tappaas.dev/project",
    "tappaas.dev/environment",
];
/// The most characters of a namespace's name: a DNS label (RFC 1123).
const NAMESPACE_MAX: usize = 63;
/// Hexadecimal digits: who may choose a tenant's name finds none that leads to another's namespace.
const HASH: usize = 20;

/// Where an object is kept.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Place {
    /// `None` for those that lie in no environment.
    pub(crate) namespace: Option<String>,
    pub(crate) name: String,
}

/// Where the object of a key is kept. Of two keys of one kind the places differ.
pub(crate) fn place(platform: &PlatformId, key: &Key) -> Place {
    let names = key.scope.names();
    match key.kind.depth() {
        3 => Place {
            namespace: Some(namespace(platform, &key.scope)),
            name: key.name.clone(),
        },
        // Kubernetes has no scope between a namespace and the cluster, so the name says it all; no part of it has a dot.
        _ => Place {
            namespace: None,
            name: names
                .iter()
                .map(Name::as_str)
                .chain([key.name.as_str()])
                .collect::<Vec<_>>()
                .join("."),
        },
    }
}

/// The key of what is kept in no namespace; `None` if its name is not one that [`place`] makes.
pub(super) fn key(kind: Kind, name: &str) -> Option<Key> {
    let mut parts: Vec<_> = name.split('.').collect();
    let own = parts.pop()?;
    let names: Option<Vec<_>> = parts.into_iter().map(|part| Name::new(part).ok()).collect();
    let scope = match names?.as_slice() {
        [] => Scope::cluster(),
        [tenant] => Scope::tenant(tenant.clone()),
        [tenant, project] => Scope::project(tenant.clone(), project.clone()),
        _ => return None,
    };
    let key = Key::new(kind, scope, own);
    key.check().is_ok().then_some(key)
}

/// The name of an environment's namespace: what a person recognises it by, and what tells it from all others.
pub(crate) fn namespace(platform: &PlatformId, environment: &Scope) -> String {
    let words: Vec<_> = environment.names().iter().map(Name::as_str).collect();
    // No part of it has a slash.
    let whole = [&[platform.as_str()], words.as_slice()].concat().join("/");
    let hash = hex::encode(Sha256::digest(whole));
    // A word of a tenant's must not come first: policies make exceptions for namespaces by how they begin.
    let mut readable = [&["tappaas"], words.get(1..).unwrap_or_default()]
        .concat()
        .join("-");
    readable.truncate(NAMESPACE_MAX - HASH - 1);
    format!("{}-{}", readable.trim_end_matches('-'), &hash[..HASH])
}

/// The environment that a namespace, or something in one, is labelled with. `namespace` follows from it and from the platform, or it was
/// not labelled by us.
pub(crate) fn environment(
    platform: &PlatformId,
    namespace: &str,
    labels: &BTreeMap<String, String>,
) -> Option<Scope> {
    let [of, inwards @ ..] = LABELS.map(|label| labels.get(label));
    let [tenant, project, environment] = inwards.map(|name| Name::new(name?).ok());
    let scope = Scope::environment(tenant?, project?, environment?);
    let ours = of.is_some_and(|of| of == platform.as_str());
    (ours && namespace == self::namespace(platform, &scope)).then_some(scope)
}

/// The labels of an environment's namespace, and of what is in it.
pub(crate) fn labels(
    platform: &PlatformId,
    environment: &Scope,
) -> impl Iterator<Item = (String, String)> {
    let names = environment.names().iter().map(ToString::to_string);
    let values = [platform.to_string()].into_iter().chain(names);
    LABELS.map(str::to_owned).into_iter().zip(values)
}

/// The namespace of an environment, as it is created.
pub(super) fn new_namespace(platform: &PlatformId, environment: &Scope) -> Namespace {
    Namespace {
        metadata: ObjectMeta {
            name: Some(namespace(platform, environment)),
            labels: Some(labels(platform, environment).chain(restricted()).collect()),
            ..ObjectMeta::default()
        },
        ..Namespace::default()
    }
}

/// Pods that ask for more than they need are refused (Pod Security Standards).
fn restricted() -> [(String, String); 1] {
    let mode = "pod-security.kubernetes.io/enforce";
    [(mode.to_owned(), "restricted".to_owned())]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::sample;

    fn names<const N: usize>(names: [&str; N]) -> [Name; N] {
        names.map(|name| Name::new(name).unwrap())
    }

    fn environment_of(tenant: &str, project: &str, environment: &str) -> Scope {
        let [tenant, project, environment] = names([tenant, project, environment]);
        Scope::environment(tenant, project, environment)
    }

    #[test]
    fn a_namespace_says_what_it_is_of_and_is_nobody_elses() {
        let shop = namespace(&sample(), &environment_of("acme", "shop", "production"));
        assert!(shop.starts_with("tappaas-shop-production-"), "{shop}");
        assert_ne!(
            shop,
            namespace(&sample(), &environment_of("other", "shop", "production"))
        );
        assert_ne!(
            namespace(&sample(), &environment_of("t", "a-b", "c")),
            namespace(&sample(), &environment_of("t", "a", "b-c"))
        );
        let long = "x".repeat(Name::LENGTH_MAX);
        assert_eq!(
            namespace(&sample(), &environment_of(&long, &long, &long)).len(),
            NAMESPACE_MAX
        );
    }

    #[test]
    fn platforms_with_the_same_names_have_namespaces_of_their_own() {
        let scope = environment_of("acme", "shop", "production");
        let other = PlatformId::of_group("other.dev");
        let found = new_namespace(&other, &scope).metadata;
        let (name, mut labels) = (found.name.unwrap(), found.labels.unwrap());
        assert_ne!(name, namespace(&sample(), &scope));
        assert_eq!(environment(&other, &name, &labels), Some(scope));
        assert_eq!(environment(&sample(), &name, &labels), None);
        labels.insert(PLATFORM.to_owned(), sample().to_string());
        assert_eq!(environment(&sample(), &name, &labels), None);
        assert_eq!(environment(&other, &name, &labels), None);
    }

    #[test]
    fn labels_that_somebody_else_wrote_count_for_nothing() {
        let scope = environment_of("acme", "shop", "production");
        let found = new_namespace(&sample(), &scope).metadata;
        let (name, mut labels) = (found.name.unwrap(), found.labels.unwrap());
        assert_eq!(environment(&sample(), &name, &labels), Some(scope));
        labels.insert(LABELS[1].to_owned(), "other".to_owned());
        assert_eq!(environment(&sample(), &name, &labels), None);
    }

    #[test]
    fn a_name_without_a_namespace_says_its_scope() {
        let [tenant, project] = names(["acme", "shop"]);
        let scope = Scope::project(tenant, project);
        let production = Key::new(Kind::Environment, scope, "production");
        let place = place(&sample(), &production);
        assert_eq!(place.name, "acme.shop.production");
        assert_eq!(key(Kind::Environment, &place.name), Some(production));
        for foreign in ["", "production", "a.b.c.d", "A.b.c", "..c"] {
            assert_eq!(key(Kind::Environment, foreign), None, "{foreign}");
        }
    }
}
