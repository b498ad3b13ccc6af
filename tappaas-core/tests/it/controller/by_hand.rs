//! Objects that somebody made without asking the platform to.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tappaas_core::{
    Digest, ErrorKind, Key, Kind, Metadata, Name, Object, Precondition, Scope,
    backend::Image,
    model::{
        Application, ApplicationContent, ApplicationSpec, Condition, ConditionKind,
        EnvironmentSpec, Source, Truth,
    },
    platform::Deployment,
};

use super::world::{World, content, key, name, scope};

/// Makes an application as `kubectl` does: an object, and no more.
async fn create(world: &World, app: &str, content: ApplicationContent) {
    let spec = ApplicationSpec {
        content,
        scale: BTreeMap::new(),
        autoscale: BTreeMap::new(),
        attempt: 0,
        rollback: None,
    };
    let application = Application::new(Metadata::new(&scope(), app), spec);
    world.platform.client().create(&application).await.unwrap();
}

fn condition(known: &[Condition], kind: ConditionKind) -> (Truth, String) {
    let mut known = known.iter();
    let found = known.find(|condition| condition.kind == kind).unwrap();
    (found.status, found.reason.clone())
}

#[tokio::test(start_paused = true)]
async fn an_application_is_adopted_runs_and_leaves_nothing() {
    let world = World::new().await;
    create(&world, "web", content("v1")).await;
    let running = world.settled("web").await;
    assert_eq!(running.metadata.finalizers.len(), 1);
    // Nothing that somebody wrote was written again.
    assert_eq!(running.metadata.generation, 1);
    let known = &running.status.conditions;
    assert_eq!(
        condition(known, ConditionKind::Built),
        (Truth::True, "Built".to_owned())
    );
    assert_eq!(
        condition(known, ConditionKind::Ready),
        (Truth::True, "Running".to_owned())
    );
    let object = key("web").object();
    world.platform.client().delete(&object).await.unwrap();
    world
        .until("it is gone", || {
            world.application("web").is_none().then_some(())
        })
        .await;
    assert!(world.workload("web", "web").await.is_none());
    assert!(world.releases("web").is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_image_by_its_digest_is_asked_nobody_for() {
    let world = World::new().await;
    let digest = Digest::of("an image");
    let mut wanted = content("unused");
    wanted.source = Source::Reference(format!("registry.example/shop@{digest}"));
    create(&world, "web", wanted).await;
    let running = world.settled("web").await;
    let image = running.status.image.unwrap();
    assert_eq!(image.to_string(), format!("registry.example/shop@{digest}"));
}

#[tokio::test(start_paused = true)]
async fn what_another_tenant_has_in_the_registry_is_as_if_nobody_had_it() {
    let world = World::new().await;
    let digest = Digest::of("an image");
    let named = |repository: &str| Source::Reference(format!("{repository}@{digest}"));
    let foreign = "other/default/production/web";
    let sources = [
        named(foreign),
        named("default-other/default/production/web"),
        named("default"),
        Source::Image {
            reference: "mine".to_owned(),
            image: Image {
                repository: foreign.parse().unwrap(),
                digest: digest.clone(),
            },
        },
        Source::Upload {
            repository: foreign.parse().unwrap(),
            digest: digest.clone(),
        },
    ];
    for (number, source) in sources.into_iter().enumerate() {
        let app = format!("web-{number}");
        let wanted = ApplicationContent {
            source: source.clone(),
            ..content("unused")
        };
        create(&world, &app, wanted).await;
        let failed = world.settled(&app).await;
        assert_eq!(
            condition(&failed.status.conditions, ConditionKind::Built),
            (Truth::False, "BuildFailed".to_owned()),
            "{source:?}"
        );
        let message = &failed.status.message;
        assert!(message.contains("failed: no "), "{message}");
        assert!(message.ends_with("in the registry"), "{message}");
    }
    let asked = format!("{foreign}:latest");
    let refused = world.platform.resolve_image(&name("default"), &asked).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::NotFound);

    let mut own = content("unused");
    own.source = named("default/default/staging/web");
    create(&world, "own", own).await;
    let image = world.settled("own").await.status.image.unwrap();
    assert_eq!(
        image.to_string(),
        format!("default/default/staging/web@{digest}")
    );
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_together_is_said_and_not_built() {
    let world = World::new().await;
    let mut wrong = content("v1");
    wrong.rollout.deadline_seconds = 0;
    create(&world, "web", wrong.clone()).await;
    let failed = world.settled("web").await;
    let known = &failed.status.conditions;
    assert_eq!(
        condition(known, ConditionKind::Built),
        (Truth::False, "Invalid".to_owned())
    );
    assert_eq!(
        condition(known, ConditionKind::Ready),
        (Truth::False, "Failed".to_owned())
    );
    assert!(
        failed.status.message.contains("rollout: the deadline"),
        "{}",
        failed.status.message
    );
    assert!(world.releases("web").is_empty());
    // Whoever asks the platform is told at once.
    let deployment = Deployment {
        content: wrong,
        scale: BTreeMap::new(),
        autoscale: BTreeMap::new(),
    };
    let refused = world.platform.deploy(&key("other"), deployment).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
}

#[tokio::test(start_paused = true)]
async fn a_failed_build_is_a_condition() {
    let world = World::new().await;
    create(&world, "web", content("broken")).await;
    let failed = world.settled("web").await;
    let known = &failed.status.conditions;
    assert_eq!(
        condition(known, ConditionKind::Built),
        (Truth::False, "BuildFailed".to_owned())
    );
}

#[tokio::test(start_paused = true)]
async fn an_environment_says_that_it_is_prepared() {
    let world = World::new().await;
    let project = scope().parent().unwrap();
    let client = world.platform.client();
    let ready = world
        .until("the environment is prepared", || {
            let found = client
                .get::<EnvironmentSpec>(&project, "production")
                .unwrap()?;
            found.status.conditions.first().cloned()
        })
        .await;
    assert_eq!(
        (ready.kind, ready.status),
        (ConditionKind::Ready, Truth::True)
    );
    let [tenant, shop]: [Name; 2] = ["default", "default"].map(name);
    // Nothing was made for it that would have to go first.
    world
        .platform
        .remove_environment(&tenant, &shop, &name("production"))
        .await
        .unwrap();
    assert!(
        client
            .get::<EnvironmentSpec>(&project, "production")
            .unwrap()
            .is_none()
    );
}

#[tokio::test(start_paused = true)]
async fn an_application_that_somebody_else_holds_is_let_go_of_once() {
    let world = World::new().await;
    let spec = ApplicationSpec {
        content: content("v1"),
        scale: BTreeMap::new(),
        autoscale: BTreeMap::new(),
        attempt: 0,
        rollback: None,
    };
    let mut application = Application::new(Metadata::new(&scope(), "web"), spec);
    application
        .metadata
        .finalizers
        .push("example.com/other".to_owned());
    let client = world.platform.client();
    client.create(&application).await.unwrap();
    world.settled("web").await;
    client.delete(&key("web").object()).await.unwrap();
    let mut left = world
        .until("ours is gone", || {
            let left = world.application("web")?;
            (left.metadata.finalizers.len() == 1).then_some(left)
        })
        .await;
    // Nothing is left to do, so nothing is asked again and again.
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    world.guard.set(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        async { Ok(()) }
    });
    tokio::time::sleep(Duration::from_secs(20)).await;
    let asked = asked.load(Ordering::Relaxed);
    assert!(asked < 5, "asked {asked} times");
    left.metadata.finalizers.clear();
    client.update_finalizers(&left).await.unwrap();
    world
        .until("it is gone", || {
            world.application("web").is_none().then_some(())
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn counts_that_are_refused_change_nothing_that_runs() {
    let world = World::new().await;
    world.healthy("web", content("v1"), 1).await;
    let wanted = BTreeMap::from([(name("web"), u32::MAX)]);
    let client = world.platform.client();
    let scope = scope();
    let scaled = client.modify::<ApplicationSpec>(&scope, "web", |application| {
        application.spec.scale.clone_from(&wanted);
        Ok(())
    });
    scaled.await.unwrap();
    let refused = world.settled("web").await;
    assert!(
        refused.status.message.contains("at most 1000"),
        "{}",
        refused.status.message
    );
    let counts = world.counts("web").await;
    assert!(counts.values().all(|count| *count <= 1000), "{counts:?}");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_is_said_at_the_object_itself_until_it_is_mended() {
    let world = World::new().await;
    world.healthy("web", content("v1"), 1).await;
    let store = &world.platform.backends().store;
    let project = scope().parent().unwrap();
    let web = key("web").object();
    let keys = [
        web.clone(),
        Key::new(Kind::Environment, project.clone(), "junk"),
        Key::new(Kind::Project, project.parent().unwrap(), "junk"),
        Key::new(Kind::Tenant, Scope::cluster(), "junk"),
        Key::new(Kind::DomainPool, Scope::cluster(), "junk"),
    ];
    let good = store.get(&web).await.unwrap().unwrap();
    for key in &keys {
        let mut object = match store.get(key).await.unwrap() {
            Some(object) => object,
            None => Object {
                metadata: Metadata::new(&key.scope, key.name.as_str()),
                kind: key.kind,
                ..good.clone()
            },
        };
        object.spec = serde_json::json!({ "limits": 3, "bases": 3, "content": 3 });
        let known = !object.metadata.uid.is_empty();
        let precondition = match known {
            true => Precondition::Present,
            false => Precondition::Absent,
        };
        store.put(object, precondition).await.unwrap();
    }
    for key in &keys {
        let said = async || {
            let status = store.get(key).await.unwrap().unwrap().status;
            let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
            conditions
                .into_iter()
                .find(|it| it["type"] == "Ready" && it["reason"] == "Invalid")
        };
        let mut ready = said().await;
        for _ in 0..600 {
            if ready.is_some() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
            ready = said().await;
        }
        let ready = ready.unwrap_or_else(|| panic!("{key} does not say it"));
        assert_eq!(ready["status"], "False", "{key}");
        let message = ready["message"].as_str().unwrap();
        assert!(message.contains("expected"), "{key}: {message}");
    }
    // What ran goes on, and what is mended is taken up.
    assert_eq!(world.counts("web").await, BTreeMap::from([(1, 1)]));
    let mut mended = store.get(&web).await.unwrap().unwrap();
    mended.spec = good.spec;
    store.put(mended, Precondition::Present).await.unwrap();
    let running = world.settled("web").await;
    assert_eq!(
        condition(&running.status.conditions, ConditionKind::Ready),
        (Truth::True, "Running".to_owned())
    );
}
