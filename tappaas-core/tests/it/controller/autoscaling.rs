//! Autoscaled processes, on a scheduler that does not autoscale.

use std::collections::BTreeMap;

use tappaas_core::{
    ErrorKind,
    model::{
        ApplicationContent, Autoscale, ConditionKind, OperationState, Process, RestartPolicy,
        Truth, VolumeMount,
    },
    platform::Deployment,
};

use super::world::{World, content, key, name};

const BOUNDS: Autoscale = Autoscale {
    min: 2,
    max: 5,
    cpu_percent: 70,
};

/// Content whose process `web` can be autoscaled.
fn busy(source: &str) -> ApplicationContent {
    let mut wanted = content(source);
    let mut web = Process::default();
    web.resources.cpu_millis = Some(100);
    wanted.processes.insert(name("web"), web);
    wanted
}

fn autoscaled(content: ApplicationContent, bounds: Autoscale) -> Deployment {
    Deployment {
        content,
        scale: BTreeMap::new(),
        autoscale: BTreeMap::from([(name("web"), bounds)]),
    }
}

#[tokio::test(start_paused = true)]
async fn where_nothing_is_autoscaled_the_fewest_run_and_it_is_said() {
    let world = World::new().await;
    let deployment = autoscaled(busy("v1"), BOUNDS);
    let accepted = world
        .platform
        .deploy(&key("web"), deployment)
        .await
        .unwrap();
    assert!(accepted.notes[0].contains("2 instances, its minimum"));
    let first = world.ended(&accepted).await;
    assert_eq!(first.status.state, OperationState::Succeeded);
    assert_eq!(world.counts("web").await, BTreeMap::from([(1, 2)]));
    let known = world.settled("web").await.status.conditions;
    let told = known.iter().find(|it| it.kind == ConditionKind::Autoscaled);
    let told = told.unwrap();
    assert_eq!(
        (told.status, told.reason.as_str()),
        (Truth::False, "Unsupported")
    );

    let counts = BTreeMap::from([(name("web"), 3)]);
    let refused = world.platform.scale(&key("web"), counts.clone()).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    assert!(refused.to_string().contains("between 2 and 5"), "{refused}");

    // As the next deployment says nothing of it, the count is anybody's again.
    world.healthy("web", busy("v2"), 1).await;
    let accepted = world.platform.scale(&key("web"), counts).await.unwrap();
    world.ended(&accepted).await;
    let settled = world.settled("web").await;
    assert_eq!(settled.status.processes[&name("web")].ready, 3);
    assert_eq!(settled.status.conditions.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_autoscaled_is_refused_by_its_field() {
    let world = World::new().await;
    let mut written = busy("v1");
    let volume = VolumeMount {
        path: "/data".into(),
        size: None,
        process: name("web"),
    };
    written.volumes.insert(name("data"), volume);
    let mut once = busy("v1");
    once.processes.get_mut(&name("web")).unwrap().restart = RestartPolicy::Never;
    let backwards = Autoscale { min: 6, ..BOUNDS };
    let idle = Autoscale { min: 0, ..BOUNDS };
    let beyond = Autoscale {
        cpu_percent: 101,
        ..BOUNDS
    };
    for (content, bounds, why) in [
        (written, BOUNDS, "has the volume `data`"),
        (once, BOUNDS, "need not run on"),
        (content("v1"), BOUNDS, "there is no process `web`"),
        (busy("v1"), backwards, "more than `max`"),
        (busy("v1"), idle, "at least 1"),
        (busy("v1"), beyond, "1 to 100"),
    ] {
        let deployment = autoscaled(content, bounds);
        let refused = world.platform.deploy(&key("web"), deployment).await;
        let refused = refused.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Invalid);
        let message = refused.to_string();
        assert!(message.starts_with("autoscale.web: "), "{message}");
        assert!(message.contains(why), "{message}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_rollback_to_what_cannot_be_autoscaled_forgets_it() {
    let world = World::new().await;
    world.healthy("web", content("v1"), 1).await;
    let deployment = autoscaled(busy("v2"), BOUNDS);
    let accepted = world
        .platform
        .deploy(&key("web"), deployment)
        .await
        .unwrap();
    world.ended(&accepted).await;
    let back = world.platform.rollback(&key("web"), Some(1)).await.unwrap();
    let back = world.ended(&back).await;
    assert_eq!(back.status.state, OperationState::Succeeded);
    let settled = world.settled("web").await;
    assert!(settled.spec.autoscale.is_empty());
}
