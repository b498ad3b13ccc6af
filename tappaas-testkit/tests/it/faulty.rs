use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::{StreamExt as _, stream};
use tappaas_core::{
    Digest, Error, ErrorKind, Kind, ListRequest, Metadata, Object, Precondition, Result, Scope,
    Store,
    backend::{
        BuildId, BuildRequest, Content, Reference, ReleaseSet, Secret, SecretPath,
        SecretPrecondition, SecretStore, Volume, Workload,
    },
    memory, object,
};
use tappaas_testkit::{
    Memory, Program,
    conformance::{
        builder::{BuilderFixture as _, Course, Project},
        ingress::{IngressFixture as _, Scene},
        registry::{RegistryFixture as _, Shelf, SmallImage},
        scheduler::{SchedulerFixture as _, Stage},
        volumes::VolumesFixture as _,
    },
    faulty::{Fault, Faults, Faulty, Odds},
};

/// The reply of the first call of a verb is lost.
fn losing(verb: &str) -> Faults {
    Faults::script([(verb, 1, Fault::LoseReply)])
}

fn lost<T>(answer: Result<T>) {
    match answer {
        Err(error) => assert_eq!(error.kind(), ErrorKind::Unavailable),
        Ok(_) => panic!("the reply was not lost"),
    }
}

async fn workload(memory: &Memory) -> Workload {
    Workload {
        id: Stage::new(memory).id,
        generation: 1,
        releases: vec![ReleaseSet {
            release: 1,
            count: 1,
            retiring: BTreeSet::new(),
            template: memory.template(&Program::Idle).await,
        }],
        rollout: None,
        autoscale: None,
    }
}

#[tokio::test(start_paused = true)]
async fn a_scheduler_has_done_what_it_did_not_answer_and_may_be_asked_again() {
    for verb in ["apply", "remove"] {
        let memory = Memory::with_faults(losing(verb));
        let (scheduler, workload) = (memory.scheduler(), workload(&memory).await);
        let applied = scheduler.apply(&workload).await;
        if verb == "apply" {
            lost(applied);
            let before = scheduler.observe(&workload.id).await.unwrap().unwrap();
            assert_eq!(before.instances.len(), 1);
            scheduler.apply(&workload).await.unwrap();
            let after = scheduler.observe(&workload.id).await.unwrap().unwrap();
            assert_eq!(before.instances[0].id, after.instances[0].id);
        } else {
            lost(scheduler.remove(&workload.id).await);
            assert!(scheduler.observe(&workload.id).await.unwrap().is_none());
            scheduler.remove(&workload.id).await.unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_ingress_has_done_what_it_did_not_answer_and_may_be_asked_again() {
    for verb in ["apply", "remove"] {
        let memory = Memory::with_faults(losing(verb));
        let (ingress, mut route) = (memory.ingress(), Scene::new(&memory).route);
        route.generation = 1;
        let applied = ingress.apply(&route).await;
        if verb == "apply" {
            lost(applied);
            assert!(ingress.observe(&route.id).await.unwrap().is_some());
            ingress.apply(&route).await.unwrap();
        } else {
            lost(ingress.remove(&route.id).await);
            assert!(ingress.observe(&route.id).await.unwrap().is_none());
            ingress.remove(&route.id).await.unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_registry_has_done_what_it_did_not_answer_and_may_be_asked_again() {
    let (image, tag) = (SmallImage::new("layer"), "latest".parse().unwrap());
    for verb in ["push", "tag", "delete"] {
        let memory = Memory::with_faults(losing(verb));
        let shelf = Shelf::new(&memory, "a");
        if verb == "push" {
            lost(shelf.push_blob(&image.config).await);
            let config = Content::Blob(Digest::of(&image.config));
            assert_eq!(shelf.pull(&config).await.unwrap(), image.config);
        }
        let digest = shelf.push_image(&image).await.unwrap();
        let (registry, repository) = (memory_registry(&memory), &shelf.repository);
        let tagged = registry.tag(repository, &digest, &tag).await;
        if verb == "tag" {
            lost(tagged);
            assert_eq!(shelf.resolve("latest").await.unwrap(), Some(digest.clone()));
            registry.tag(repository, &digest, &tag).await.unwrap();
        }
        let by_digest = Reference::Digest(digest);
        let deleted = registry.delete(repository, &by_digest).await;
        if verb == "delete" {
            lost(deleted);
            registry.delete(repository, &by_digest).await.unwrap();
        }
        assert_eq!(shelf.resolve("latest").await.unwrap(), None);
    }
}

fn memory_registry(memory: &Memory) -> Arc<dyn tappaas_core::backend::Registry> {
    tappaas_testkit::conformance::registry::RegistryFixture::registry(memory)
}

#[tokio::test(start_paused = true)]
async fn a_builder_has_built_what_it_did_not_answer() {
    let memory = Memory::with_faults(losing("build"));
    let builder = memory.builder();
    let project = Project {
        name: "a".to_owned(),
        course: Course::Good(Duration::ZERO),
    };
    let (source, spec) = memory.source(&project).await.unwrap().unwrap();
    let request = BuildRequest {
        id: BuildId("1".to_owned()),
        source,
        spec,
        repository: memory.repository("app"),
    };
    lost(builder.build(&request).await);
    assert!(builder.build(&request).await.unwrap().cached);
}

#[tokio::test(start_paused = true)]
async fn a_volume_is_there_although_nobody_was_told() {
    let memory = Memory::with_faults(losing("apply"));
    let volumes = memory.volumes();
    let volume = Volume {
        id: memory.volume().await.unwrap(),
        size: None,
    };
    volumes.remove(&volume.id).await.unwrap();
    lost(volumes.apply(&volume).await);
    assert!(volumes.observe(&volume.id).await.unwrap().is_some());
    volumes.apply(&volume).await.unwrap();
}

#[tokio::test]
async fn a_secret_put_without_a_reply_is_there_already() {
    let faults = Arc::new(losing("put"));
    let store = Faulty::new(Arc::new(memory::SecretStore::new()), &faults);
    let path = SecretPath::new("a").unwrap();
    let value = Secret::new("value");
    let put = || store.put(&path, &value, SecretPrecondition::Absent);
    lost(put().await);
    assert_eq!(put().await.unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(store.get(&path, None).await.unwrap().unwrap().version, 1);
}

#[tokio::test(start_paused = true)]
async fn a_script_says_which_call_meets_which_fault() {
    let faults = Arc::new(Faults::script([
        ("delete", 2, Fault::Refuse(ErrorKind::Denied)),
        ("delete", 3, Fault::Delay(Duration::from_secs(5))),
        ("list", 1, Fault::Repeat),
    ]));
    let store = Faulty::new(Arc::new(memory::SecretStore::new()), &faults);
    let path = SecretPath::new("a").unwrap();
    store.delete(&path).await.unwrap();
    assert_eq!(
        store.delete(&path).await.unwrap_err().kind(),
        ErrorKind::Denied
    );
    let begun = tokio::time::Instant::now();
    store.delete(&path).await.unwrap();
    assert_eq!(begun.elapsed(), Duration::from_secs(5));
    store.list("").await.unwrap();
    let injected: Vec<_> = faults.injected().iter().map(|i| (i.verb, i.call)).collect();
    assert_eq!(injected, [("delete", 2), ("delete", 3), ("list", 1)]);
}

#[tokio::test]
async fn items_of_a_watch_come_twice_or_not_at_all() {
    let faults = Arc::new(Faults::script([
        ("watch item", 1, Fault::Double),
        ("watch item", 2, Fault::Miss),
        ("watch item", 4, Fault::End),
    ]));
    let store = Faulty::new(Arc::new(memory::SecretStore::new()), &faults);
    let names = store.watch().await.unwrap();
    for name in ["a", "b", "c", "d"] {
        let path = SecretPath::new(name).unwrap();
        store
            .put(&path, &Secret::new(""), SecretPrecondition::Any)
            .await
            .unwrap();
    }
    let names: Vec<_> = names.map(|name| name.to_string()).collect().await;
    assert_eq!(names, ["a", "a", "c"]);
}

#[tokio::test]
async fn a_read_of_a_store_is_as_stale_as_asked_for() {
    let faults = Arc::new(Faults::script([
        ("get", 2, Fault::Stale(1)),
        ("get", 3, Fault::Stale(99)),
        ("list", 2, Fault::Stale(1)),
    ]));
    let clock = Arc::new(memory::Clock::new());
    let store = memory::Store::new(clock, Arc::new(memory::Ids::new()));
    let store = Faulty::new(Arc::new(store), &faults);
    let mut object = Object {
        api_version: object::API_VERSION.to_owned(),
        kind: Kind::HostClaim,
        metadata: Metadata::new(&Scope::cluster(), "a"),
        spec: serde_json::json!(1),
        status: serde_json::Value::Null,
    };
    let key = object.key();
    store
        .put(object.clone(), Precondition::Absent)
        .await
        .unwrap();
    let request = ListRequest::new(Kind::HostClaim, Scope::cluster());
    store.list(&request).await.unwrap();
    object.spec = serde_json::json!(2);
    store.put(object, Precondition::Present).await.unwrap();
    let mut specs = Vec::new();
    for _ in 0..4 {
        specs.push(store.get(&key).await.unwrap().unwrap().spec);
    }
    assert_eq!(specs, [2, 2, 1, 2]);
    for expected in [1, 2] {
        let page = store.list(&request).await.unwrap();
        assert_eq!(page.objects[0].spec, expected);
    }
}

#[tokio::test]
async fn the_same_seed_means_the_same_faults() {
    let odds = Odds {
        refuse: 200,
        lose_reply: 200,
        ..Odds::default()
    };
    let mut runs = BTreeSet::new();
    for seed in [1, 1, 2] {
        let faults = Arc::new(Faults::seeded(seed, odds));
        let store = Faulty::new(Arc::new(memory::SecretStore::new()), &faults);
        let path = SecretPath::new("a").unwrap();
        stream::iter(0..200)
            .for_each(|_| async { drop(store.delete(&path).await) })
            .await;
        let injected = faults.injected();
        assert!(
            (40..120).contains(&injected.len()),
            "{} of 200",
            injected.len()
        );
        runs.insert(format!("{injected:?}"));
    }
    assert_eq!(runs.len(), 2);
}

#[tokio::test]
async fn a_push_that_breaks_off_does_so_behind_faults_too() {
    let memory = Memory::with_faults(Faults::none());
    let shelf = Shelf::new(&memory, "a");
    let content = Content::Blob(Digest::of("content"));
    let error: Error = shelf.push_broken(&content, b"content").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(shelf.pull(&content).await.is_err());
}
