//! What objects of workloads are called, and whose they are by their labels.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use sha2::{Digest as _, Sha256};
use tappaas_core::{
    Name,
    backend::{Track, VolumeId, WorkloadId},
    model::ApplicationKey,
};

pub(super) use crate::labels::{APPLICATION, MANAGER};
use crate::{PlatformId, store::place};

const PROCESS: &str = "tappaas.dev/process";
const TRACK: &str = "tappaas.dev/track";
/// On pods and jobs.
pub(super) const RELEASE: &str = "tappaas.dev/release";
/// Before the name of an application that a pod may reach.
const REACHES: &str = "reaches.tappaas.dev/";
/// The most characters of a name that a person reads; with the hash it leaves pods room for what their controllers add.
const READABLE_MAX: usize = 30;
/// Hexadecimal digits: names only have to differ within an environment.
const HASH: usize = 12;

/// The namespace of an application.
pub(super) fn namespace(platform: &PlatformId, application: &ApplicationKey) -> String {
    place::namespace(platform, &application.scope())
}

/// The name of the objects of a workload.
pub(super) fn name(id: &WorkloadId) -> String {
    let (application, process) = (&id.application.name, &id.process);
    let whole = format!("{application}/{process}/{}", track(id.track));
    short(&format!("{application}-{process}"), &whole)
}

/// A name that a person recognises, and that no other thing has.
pub(super) fn short(readable: &str, whole: &str) -> String {
    let hash = hex::encode(Sha256::digest(whole));
    // Names of services begin with a letter (RFC 1035).
    let mut name = match readable.starts_with(|first: char| first.is_ascii_digit()) {
        true => format!("a-{readable}"),
        false => readable.to_owned(),
    };
    name.truncate(READABLE_MAX);
    format!("{}-{}", name.trim_end_matches('-'), &hash[..HASH])
}

/// What holds the environment of a workload's release with this hash.
pub(super) fn environment(id: &WorkloadId, hash: &str) -> String {
    format!("{}-{}", name(id), &hash[..HASH])
}

/// Says whether [`environment`] may have made a name.
pub(super) fn is_environment(name: &str) -> bool {
    let is_hash = |part: &str| part.len() == HASH && part.bytes().all(|c| c.is_ascii_hexdigit());
    let mut parts = name.rsplit('-');
    parts.next().is_some_and(is_hash) && parts.next().is_some_and(is_hash)
}

/// The labels of what belongs to a workload.
pub(super) fn labels(platform: &PlatformId, id: &WorkloadId) -> BTreeMap<String, String> {
    let mut labels = application_labels(platform, &id.application);
    labels.extend([
        (
            "app.kubernetes.io/component".to_owned(),
            id.process.to_string(),
        ),
        (PROCESS.to_owned(), id.process.to_string()),
        (TRACK.to_owned(), track(id.track).to_owned()),
    ]);
    labels
}

/// The labels of what belongs to an application.
pub(crate) fn application_labels(
    platform: &PlatformId,
    application: &ApplicationKey,
) -> BTreeMap<String, String> {
    let mut labels: BTreeMap<_, _> = place::labels(platform, &application.scope()).collect();
    let name = application.name.to_string();
    labels.extend(platform.marks());
    labels.extend([
        ("app.kubernetes.io/name".to_owned(), name.clone()),
        (APPLICATION.to_owned(), name),
    ]);
    labels
}

/// What tells a workload's pods from all others of their namespace.
pub(super) fn selected(id: &WorkloadId) -> BTreeMap<String, String> {
    [
        (APPLICATION.to_owned(), id.application.name.to_string()),
        (PROCESS.to_owned(), id.process.to_string()),
        (TRACK.to_owned(), track(id.track).to_owned()),
    ]
    .into()
}

/// The process that an object belongs to.
pub(super) fn process(metadata: &ObjectMeta) -> Option<&str> {
    metadata.labels.as_ref()?.get(PROCESS).map(String::as_str)
}

/// The label of what belongs to a process.
pub(super) fn of_process(process: &Name) -> (String, String) {
    (PROCESS.to_owned(), process.to_string())
}

pub(super) fn selector(labels: BTreeMap<String, String>) -> LabelSelector {
    LabelSelector {
        match_labels: Some(labels),
        ..LabelSelector::default()
    }
}

/// A query for labels.
pub(super) fn query(labels: &BTreeMap<String, String>) -> String {
    let each: Vec<_> = labels
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    each.join(",")
}

/// The label of pods that may reach an application.
pub(super) fn reaches(application: &Name) -> String {
    format!("{REACHES}{application}")
}

/// The name of a volume's claim, as it is made and as pods mount it.
pub(crate) fn claim(volume: &VolumeId) -> String {
    let (application, name) = (&volume.application.name, &volume.name);
    short(
        &format!("{application}-{name}"),
        &format!("{application}/{name}"),
    )
}

/// Whose an object is; `None` if it is not ours, or lies in a namespace that its labels do not lead to.
pub(super) fn workload(platform: &PlatformId, metadata: &ObjectMeta) -> Option<WorkloadId> {
    let labels = metadata.labels.as_ref()?;
    let scope = place::environment(platform, metadata.namespace.as_deref()?, labels)?;
    let name = |label: &str| labels.get(label).and_then(|value| Name::new(value).ok());
    Some(WorkloadId {
        application: ApplicationKey::new(&scope, name(APPLICATION)?.as_str()).ok()?,
        process: name(PROCESS)?,
        track: match labels.get(TRACK).map(String::as_str) {
            Some("stable") => Track::Stable,
            Some("candidate") => Track::Candidate,
            _ => return None,
        },
    })
}

fn track(track: Track) -> &'static str {
    match track {
        Track::Stable => "stable",
        Track::Candidate => "candidate",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::sample;

    fn id(application: &str, process: &str) -> WorkloadId {
        WorkloadId {
            application: format!("acme/shop/production/{application}")
                .parse()
                .unwrap(),
            process: Name::new(process).unwrap(),
            track: Track::Stable,
        }
    }

    #[test]
    fn names_that_read_alike_differ() {
        assert!(name(&id("shop", "web")).starts_with("shop-web-"));
        assert_ne!(name(&id("a-b", "c")), name(&id("a", "b-c")));
        let long = "x".repeat(Name::LENGTH_MAX);
        assert!(name(&id(&long, &long)).len() <= 43);
    }

    #[test]
    fn an_object_tells_its_workload_only_in_its_own_namespace() {
        let id = id("shop", "web");
        let mut metadata = ObjectMeta {
            namespace: Some(namespace(&sample(), &id.application)),
            labels: Some(labels(&sample(), &id)),
            ..ObjectMeta::default()
        };
        assert_eq!(workload(&sample(), &metadata), Some(id));
        metadata.namespace = Some("default".to_owned());
        assert_eq!(workload(&sample(), &metadata), None);
    }
}
