//! A volume as a claim: how it is made, read and changed.

use std::collections::BTreeMap;

use k8s_openapi::{
    api::core::v1::{
        PersistentVolumeClaim, PersistentVolumeClaimSpec, PersistentVolumeClaimStatus,
        VolumeResourceRequirements,
    },
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::ObjectMeta},
};
use kube::Error as KubeError;
use tappaas_core::{
    Error, ErrorKind, Name, Result,
    backend::{Volume, VolumeId},
    model::ApplicationKey,
};

use super::VolumeSettings;
use crate::{
    PlatformId,
    labels::{APPLICATION, MANAGED_BY, MANAGER},
    quantity::quantity,
    scheduler,
    store::place,
};

/// The label with a volume's name, which tells volumes from all other claims.
const VOLUME: &str = "tappaas.dev/volume";
/// The bytes asked for last, which the claim itself need not have.
const ASKED: &str = "tappaas.dev/size";
/// What is asked of a claim.
const STORAGE: &str = "storage";

/// The claim of a volume that is not there yet.
pub(super) fn new(
    platform: &PlatformId,
    volume: &Volume,
    settings: &VolumeSettings,
) -> PersistentVolumeClaim {
    PersistentVolumeClaim {
        metadata: metadata(platform, &volume.id, volume.size),
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
            resources: Some(requests(volume.size.unwrap_or(settings.size))),
            storage_class_name: settings.storage_class.clone(),
            ..PersistentVolumeClaimSpec::default()
        }),
        ..PersistentVolumeClaim::default()
    }
}

/// The query for the claims of all volumes of a platform.
pub(super) fn ours(platform: &PlatformId) -> String {
    format!("{},{VOLUME}", platform.selector())
}

/// Whose claim this is; `None` if somebody else made it.
pub(super) fn volume(platform: &PlatformId, metadata: &ObjectMeta) -> Option<VolumeId> {
    let labels = metadata.labels.as_ref()?;
    let scope = place::environment(platform, metadata.namespace.as_deref()?, labels)?;
    let id = VolumeId {
        application: ApplicationKey::new(&scope, labels.get(APPLICATION)?).ok()?,
        name: Name::new(labels.get(VOLUME)?).ok()?,
    };
    let ours = labels.get(MANAGED_BY).map(String::as_str) == Some(MANAGER);
    (ours && metadata.name == Some(scheduler::claim(&id))).then_some(id)
}

/// Refuses a claim that is not this volume's, or not for long.
pub(super) fn check(
    platform: &PlatformId,
    id: &VolumeId,
    found: &PersistentVolumeClaim,
) -> Result<()> {
    let name = scheduler::claim(id);
    if volume(platform, &found.metadata).as_ref() != Some(id) {
        return Err(Error::new(
            ErrorKind::AlreadyExists,
            format!(
                "claim {name} in namespace {} is not labelled as volume {id}: somebody else made it; delete it, or label it",
                place::namespace(platform, &id.application.scope())
            ),
        ));
    }
    match found.metadata.deletion_timestamp {
        None => Ok(()),
        Some(_) => Err(Error::unavailable(format!(
            "volume {id} is still being removed"
        ))),
    }
}

/// What a claim has to ask for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Change {
    /// What the volume is to have.
    asked: u64,
    /// What the claim can have now.
    requested: u64,
}

impl Change {
    /// The same, but that the claim stays as large as it is.
    pub(super) fn without_growth(self, found: &PersistentVolumeClaim) -> Self {
        Self {
            requested: requested(found),
            ..self
        }
    }

    /// What to apply, if nobody changed the claim since it was found. All else of a claim stays as it was made.
    pub(super) fn object(
        self,
        platform: &PlatformId,
        id: &VolumeId,
        found: &PersistentVolumeClaim,
    ) -> PersistentVolumeClaim {
        PersistentVolumeClaim {
            metadata: ObjectMeta {
                resource_version: found.metadata.resource_version.clone(),
                ..metadata(platform, id, Some(self.asked))
            },
            spec: Some(PersistentVolumeClaimSpec {
                resources: Some(requests(self.requested)),
                ..PersistentVolumeClaimSpec::default()
            }),
            ..PersistentVolumeClaim::default()
        }
    }
}

/// What a claim has to ask for from now on; `None` if that is what it does. Only a bound one can ask for more.
///
/// # Errors
/// `Invalid` if less is asked for than before.
pub(super) fn change(volume: &Volume, found: &PersistentVolumeClaim) -> Result<Option<Change>> {
    let Some(size) = volume.size else {
        return Ok(None);
    };
    let before = asked(found);
    if let Some(before) = before.filter(|before| size < *before) {
        return Err(Error::invalid(format!(
            "volume {} cannot become smaller than {before} bytes; copy what is in it to a new one",
            volume.id
        )));
    }
    let requested = requested(found);
    let change = Change {
        asked: size,
        requested: match is_bound(found) {
            true => requested.max(size),
            false => requested,
        },
    };
    let same = before == Some(size) && change.requested == requested;
    Ok((!same).then_some(change))
}

/// Whether the cluster says that this claim never becomes larger.
pub(super) fn cannot_grow(error: &KubeError) -> bool {
    // "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize"
    matches!(error, KubeError::Api(status) if status.code == 403 && status.message.contains("support resize"))
}

/// What is worth knowing of a claim.
pub(super) fn notes(found: &PersistentVolumeClaim) -> Vec<String> {
    let (asked, requested) = (asked(found), requested(found));
    let capacity = capacity(found).unwrap_or(0);
    let phase = found
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    let mut notes = Vec::new();
    match phase {
        Some("Bound") if capacity < requested => notes.push(growing(found, capacity, requested)),
        Some("Bound") => {}
        Some("Lost") => notes.push("the storage that it was bound to is gone".to_owned()),
        _ => notes.push(format!(
            "it is not bound yet: {} has storage for it at the latest once an instance mounts it",
            class(found)
        )),
    }
    match asked.filter(|asked| *asked > requested.max(capacity)) {
        Some(asked) if is_bound(found) => notes.push(format!(
            "it has {requested} bytes and not {asked}: {} does not expand volumes",
            class(found)
        )),
        Some(asked) => notes.push(format!(
            "it begins with {requested} bytes: it is to have {asked} when it is applied after it is bound"
        )),
        None => {}
    }
    notes
}

fn growing(found: &PersistentVolumeClaim, capacity: u64, requested: u64) -> String {
    let conditions = found
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    let said = conditions
        .filter(|one| one.status == "True")
        .filter_map(|one| one.message.as_deref());
    let mut note = format!("it grows from {capacity} to {requested} bytes");
    for message in said.filter(|message| !message.is_empty()) {
        note.push_str(": ");
        note.push_str(message);
    }
    note
}

fn class(found: &PersistentVolumeClaim) -> String {
    let class = found
        .spec
        .as_ref()
        .and_then(|spec| spec.storage_class_name.as_deref());
    match class {
        Some(class) if !class.is_empty() => format!("storage class {class}"),
        _ => "the cluster, which named no storage class,".to_owned(),
    }
}

fn metadata(platform: &PlatformId, id: &VolumeId, asked: Option<u64>) -> ObjectMeta {
    let mut labels = scheduler::application_labels(platform, &id.application);
    labels.insert(VOLUME.to_owned(), id.name.to_string());
    let asked = asked.map(|bytes| [(ASKED.to_owned(), bytes.to_string())].into());
    ObjectMeta {
        annotations: asked,
        labels: Some(labels),
        name: Some(scheduler::claim(id)),
        namespace: Some(place::namespace(platform, &id.application.scope())),
        ..ObjectMeta::default()
    }
}

fn requests(bytes: u64) -> VolumeResourceRequirements {
    VolumeResourceRequirements {
        requests: Some([(STORAGE.to_owned(), Quantity(bytes.to_string()))].into()),
        ..VolumeResourceRequirements::default()
    }
}

fn asked(found: &PersistentVolumeClaim) -> Option<u64> {
    let annotations = found.metadata.annotations.as_ref()?;
    annotations.get(ASKED)?.parse().ok()
}

fn requested(found: &PersistentVolumeClaim) -> u64 {
    let resources = found.spec.as_ref().and_then(|spec| spec.resources.as_ref());
    storage(resources.and_then(|resources| resources.requests.as_ref())).unwrap_or(0)
}

fn capacity(found: &PersistentVolumeClaim) -> Option<u64> {
    storage(found.status.as_ref()?.capacity.as_ref())
}

fn storage(amounts: Option<&BTreeMap<String, Quantity>>) -> Option<u64> {
    Some(quantity(&amounts?.get(STORAGE)?.0) as u64)
}

fn is_bound(found: &PersistentVolumeClaim) -> bool {
    let phase = |status: &PersistentVolumeClaimStatus| status.phase.as_deref() == Some("Bound");
    found.status.as_ref().is_some_and(phase)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::sample;

    fn of(size: Option<u64>) -> Volume {
        Volume {
            id: VolumeId {
                application: "acme/shop/production/web".parse().unwrap(),
                name: Name::new("data").unwrap(),
            },
            size,
        }
    }

    fn found(size: Option<u64>, phase: &str, capacity: u64) -> PersistentVolumeClaim {
        let settings = VolumeSettings {
            storage_class: Some("fast".to_owned()),
            size: 100,
        };
        PersistentVolumeClaim {
            status: Some(PersistentVolumeClaimStatus {
                capacity: Some([(STORAGE.to_owned(), Quantity(capacity.to_string()))].into()),
                phase: Some(phase.to_owned()),
                ..PersistentVolumeClaimStatus::default()
            }),
            ..new(&sample(), &of(size), &settings)
        }
    }

    #[test]
    fn a_claim_tells_its_volume_only_under_its_own_name_and_in_its_own_namespace() {
        let metadata = found(None, "Pending", 0).metadata;
        assert_eq!(volume(&sample(), &metadata), Some(of(None).id));
        let spoils: [fn(&mut ObjectMeta); 4] = [
            |it| it.name = Some("other".to_owned()),
            |it| it.namespace = Some("default".to_owned()),
            |it| drop(it.labels.as_mut().unwrap().remove(MANAGED_BY)),
            |it| drop(it.labels.as_mut().unwrap().remove(VOLUME)),
        ];
        for spoil in spoils {
            let mut metadata = metadata.clone();
            spoil(&mut metadata);
            assert_eq!(volume(&sample(), &metadata), None);
        }
    }

    #[test]
    fn only_what_is_bound_asks_for_more() {
        for (phase, requested) in [("Pending", 100), ("Bound", 200)] {
            let change = change(&of(Some(200)), &found(Some(100), phase, 100)).unwrap();
            let expected = Change {
                asked: 200,
                requested,
            };
            assert_eq!(change, Some(expected), "{phase}");
        }
    }

    #[test]
    fn what_was_asked_for_is_no_change_and_less_is_refused() {
        for size in [None, Some(100)] {
            let same = change(&of(size), &found(Some(100), "Bound", 100));
            assert_eq!(same.unwrap(), None);
        }
        let refused = change(&of(Some(99)), &found(Some(100), "Bound", 100));
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Invalid);
        // Nobody asked for the size that a volume has if none is named.
        let less = change(&of(Some(50)), &found(None, "Bound", 100)).unwrap();
        assert_eq!(less.map(|change| change.requested), Some(100));
    }

    #[test]
    fn notes_tell_what_is_missing() {
        let asked = |mut claim: PersistentVolumeClaim, bytes: u64| {
            let asked = [(ASKED.to_owned(), bytes.to_string())].into();
            claim.metadata.annotations = Some(asked);
            notes(&claim)
        };
        assert_eq!(notes(&found(Some(100), "Bound", 100)), [""; 0]);
        assert_eq!(asked(found(Some(100), "Bound", 300), 200), [""; 0]);
        for (told, expected) in [
            (notes(&found(Some(100), "Pending", 0)), "storage class fast"),
            (notes(&found(Some(100), "Lost", 0)), "is gone"),
            (notes(&found(Some(100), "Bound", 50)), "from 50 to 100"),
            (
                asked(found(Some(100), "Bound", 100), 200),
                "does not expand",
            ),
        ] {
            assert_eq!(told.len(), 1, "{told:?}");
            assert!(told[0].contains(expected), "{told:?}");
        }
        let told = asked(found(Some(100), "Pending", 0), 200);
        assert!(told[1].contains("is to have 200"), "{told:?}");
    }
}
