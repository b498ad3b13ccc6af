//! Volumes, and instances that mount them.

use std::sync::Arc;

use k8s_openapi::api::{core::v1::PersistentVolumeClaim, storage::v1::StorageClass};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::json;
use tappaas_core::{
    ErrorKind, Name,
    backend::{InstanceState, Mount, Template, Volume, VolumeId, Volumes},
};
use tappaas_testkit::{
    Program,
    conformance::{
        scheduler::{SchedulerFixture, Stage},
        until,
        volumes::VolumesFixture,
    },
};

use crate::{
    cluster::client,
    node::Node,
    storage::{CLASS, Storage},
};

mod conformance {
    tappaas_testkit::volumes_conformance!(super::Shelf::take().await);
}

/// The one real node with storage.
#[derive(Debug)]
struct Shelf {
    storage: Storage,
    node: Node,
}

impl Shelf {
    async fn take() -> Self {
        let node = Node::take().await;
        Self {
            storage: Storage::new().await,
            node,
        }
    }

    async fn volume(&self) -> VolumeId {
        let volume = of(None);
        self.storage.volumes.apply(&volume).await.unwrap();
        volume.id
    }

    async fn notes(&self, id: &VolumeId) -> String {
        let status = self.storage.volumes.observe(id).await.unwrap();
        status.unwrap().notes.join("; ")
    }
}

impl VolumesFixture for Shelf {
    fn volumes(&self) -> Arc<dyn Volumes> {
        self.storage.volumes.clone()
    }

    fn scheduling(&self) -> &dyn SchedulerFixture {
        &self.node
    }
}

fn of(size: Option<u64>) -> Volume {
    Volume {
        id: VolumeId {
            application: "conformance/default/test/app".parse().unwrap(),
            name: Name::new("data").unwrap(),
        },
        size,
    }
}

/// What serves, runs on, and writes to a volume.
async fn writing(stage: &Stage<'_>, name: &str, volume: &VolumeId) -> Template {
    let mut template = stage.serving(name).await;
    template.mounts.push(Mount {
        volume: volume.clone(),
        path: "/data".into(),
        read_only: false,
    });
    template
}

/// The only claim of a volume there is.
async fn claim(client: &Client) -> (Api<PersistentVolumeClaim>, PersistentVolumeClaim) {
    let everywhere: Api<PersistentVolumeClaim> = Api::all(client.clone());
    let request = ListParams::default().labels("tappaas.dev/tenant=conformance");
    let claim = everywhere.list(&request).await.unwrap().items.remove(0);
    let namespace = claim.namespace().unwrap();
    (Api::namespaced(client.clone(), &namespace), claim)
}

#[tokio::test]
async fn a_process_with_a_volume_stops_before_the_next_release_starts_which_has_its_content() {
    let shelf = Shelf::take().await;
    let volume = shelf.volume().await;
    let mut stage = Stage::new(&shelf.node);
    let first = writing(&stage, "first", &volume).await;
    stage.apply(&[(1, 1, &first)]).await.unwrap();
    stage.ready(1).await.unwrap();
    let ran = stage.exec(&["tee", "/data/file"], "content").await.unwrap();
    assert_eq!(ran.code, 0, "{ran:?}");
    let next = writing(&stage, "next", &volume).await;
    stage.apply(&[(2, 1, &next)]).await.unwrap();
    let replaced = stage.until("release 2 is ready", |status| {
        let running = status.instances.iter().filter(|one| one.ready);
        assert!(running.count() <= 1, "two write at a time: {status:?}");
        matches!(status.instances.as_slice(), [one] if one.ready && one.release == 2)
    });
    replaced.await.unwrap();
    let ran = stage.exec(&["cat", "/data/file"], "").await.unwrap();
    assert_eq!(ran.output, "content", "{ran:?}");
}

/// Which takes more than ordered updates: they wait for what never becomes ready.
#[tokio::test]
async fn a_release_that_keeps_ending_is_replaced_though_it_has_a_volume() {
    let shelf = Shelf::take().await;
    let volume = shelf.volume().await;
    let mut stage = Stage::new(&shelf.node);
    let good = writing(&stage, "good", &volume).await;
    stage.apply(&[(1, 1, &good)]).await.unwrap();
    stage.ready(1).await.unwrap();
    let bad = Template {
        command: stage.template(Program::Exit(1)).await.command,
        ..good.clone()
    };
    stage.apply(&[(2, 1, &bad)]).await.unwrap();
    let ended = stage.until("release 2 has ended", |status| {
        let mut instances = status.instances.iter();
        instances.any(|one| one.release == 2 && one.restarts > 0)
    });
    ended.await.unwrap();
    stage.apply(&[(3, 1, &good)]).await.unwrap();
    let ready = stage.ready(1).await.unwrap();
    assert_eq!(ready[0].release, 3);
}

#[tokio::test]
async fn another_workload_waits_for_a_volume_and_says_for_whom() {
    let shelf = Shelf::take().await;
    let volume = shelf.volume().await;
    let (mut one, mut two) = (Stage::new(&shelf.node), Stage::of(&shelf.node, "two"));
    let template = writing(&one, "one", &volume).await;
    one.apply(&[(1, 1, &template)]).await.unwrap();
    let holder = one.ready(1).await.unwrap().remove(0).id;
    two.apply(&[(1, 1, &template)]).await.unwrap();
    let waits = |reason: &Option<String>| {
        let reason = reason.as_deref().unwrap_or_default();
        reason.contains(&holder.0)
    };
    let waiting = two.until("the other one waits", |status| {
        let waits = |it: &tappaas_core::backend::InstanceStatus| {
            it.state == InstanceState::Starting && waits(&it.reason)
        };
        status.instances.iter().any(waits) && status.unplaced.is_empty()
    });
    waiting.await.unwrap();
    one.scheduler.remove(&one.id).await.unwrap();
    two.ready(1).await.unwrap();
}

#[tokio::test]
async fn a_volume_of_another_environment_is_not_mounted() {
    let shelf = Shelf::take().await;
    let mut stage = Stage::new(&shelf.node);
    let elsewhere = VolumeId {
        application: "conformance/default/other/app".parse().unwrap(),
        ..of(None).id
    };
    let template = writing(&stage, "a", &elsewhere).await;
    let refused = stage.apply(&[(1, 1, &template)]).await.unwrap_err();
    assert!(refused.to_string().contains("environment"), "{refused}");
}

#[tokio::test]
async fn a_size_that_cannot_be_had_is_told_until_it_can() {
    let (shelf, client) = (Shelf::take().await, client().await);
    let volume = shelf.volume().await;
    let notes = shelf.notes(&volume).await;
    assert!(notes.contains("not bound"), "{notes}");
    let mut stage = Stage::new(&shelf.node);
    let template = writing(&stage, "a", &volume).await;
    stage.apply(&[(1, 1, &template)]).await.unwrap();
    stage.ready(1).await.unwrap();
    assert_eq!(shelf.notes(&volume).await, "");

    let larger = of(Some(2 << 30));
    shelf.storage.volumes.apply(&larger).await.unwrap();
    let notes = shelf.notes(&volume).await;
    assert!(notes.contains("does not expand"), "{notes}");
    let classes: Api<StorageClass> = Api::all(client.clone());
    let expands = Patch::Merge(json!({ "allowVolumeExpansion": true }));
    let parameters = PatchParams::default();
    classes.patch(CLASS, &parameters, &expands).await.unwrap();
    // Who decides that learns of the class a little later.
    until("more is asked for", async || {
        shelf.storage.volumes.apply(&larger).await?;
        let notes = shelf.notes(&volume).await;
        Ok(notes.contains("grows from").then_some(()))
    })
    .await
    .unwrap();
    let (_, claim) = claim(&client).await;
    let requests = claim.spec.unwrap().resources.unwrap().requests.unwrap();
    assert_eq!(requests["storage"].0, (2_u64 << 30).to_string());
}

#[tokio::test]
async fn a_claim_that_somebody_else_made_is_refused_and_left_alone() {
    let (shelf, client) = (Shelf::take().await, client().await);
    let (volumes, id) = (shelf.volumes(), shelf.volume().await);
    let (api, mut claim) = claim(&client).await;
    let name = claim.name_any();
    volumes.remove(&id).await.unwrap();
    claim.metadata.labels = None;
    claim.metadata.resource_version = None;
    claim.metadata.uid = None;
    api.create(&PostParams::default(), &claim).await.unwrap();

    let refused = volumes.apply(&of(None)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::AlreadyExists, "{refused}");
    assert!(refused.to_string().contains(&name), "{refused}");
    assert!(volumes.observe(&id).await.unwrap().is_none());
    assert_eq!(volumes.list().await.unwrap(), []);
    volumes.remove(&id).await.unwrap();
    let left = api.get(&name).await.unwrap();
    assert_eq!(left.metadata.deletion_timestamp, None);
    api.delete(&name, &DeleteParams::default()).await.unwrap();
}
