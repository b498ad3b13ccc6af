use http::Method;
use serde_json::{Value, json};

use crate::world::{World, application};

const MANIFEST: &str = r#"
env.KEPT = "same"
env.GONE = "old"

[processes.web]
command = "bin/serve"
"#;

const CHANGED: &str = r#"
env.KEPT = "same"
env.COME = "new"

[processes.web]
command = ["bin/serve", "--fast"]
"#;

async fn differences(world: &World, rest: &str) -> Value {
    let path = format!("{}/releases/{rest}", application());
    world.get(&path).await.json()["items"].clone()
}

#[tokio::test(start_paused = true)]
async fn two_releases_are_compared_part_by_part() {
    let world = World::new().await;
    world.serving(MANIFEST).await;
    world.serving(CHANGED).await;
    assert_eq!(
        differences(&world, "1/diff/2").await,
        json!([
            { "path": "environment.COME", "change": "added", "before": null, "after": null, "masked": true },
            { "path": "environment.GONE", "change": "removed", "before": null, "after": null, "masked": true },
            { "path": "processes.web.command.exec", "change": "added", "before": null, "after": "[\"bin/serve\",\"--fast\"]", "masked": false },
            { "path": "processes.web.command.shell", "change": "removed", "before": "bin/serve", "after": null, "masked": false },
        ])
    );
    let revealed = differences(&world, "1/diff/2?reveal=true").await;
    assert_eq!(
        (&revealed[0]["after"], &revealed[1]["before"]),
        (&json!("new"), &json!("old"))
    );
    let back = differences(&world, "2/diff/1").await;
    assert_eq!(back[0]["change"], "removed");
    assert_eq!(differences(&world, "1/diff/1").await, json!([]));
}

#[tokio::test(start_paused = true)]
async fn a_rollback_is_a_new_release_with_old_content() {
    let world = World::new().await;
    world.serving(MANIFEST).await;
    world.serving(CHANGED).await;
    let path = format!("{}/rollback", application());
    let rolled = world
        .succeeded(&world.send(Method::POST, &path, &json!({})).await)
        .await;
    assert_eq!(
        (&rolled["verb"], &rolled["release"]),
        (&json!("rollback"), &json!(3))
    );
    assert_eq!(differences(&world, "1/diff/3").await, json!([]));
    let releases = world
        .get(&format!("{}/releases", application()))
        .await
        .json();
    let versions: Vec<_> = releases["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["version"].as_u64().unwrap())
        .collect();
    assert_eq!(versions, [1, 2, 3]);
    assert_eq!(
        (
            &releases["items"][2]["rollback"],
            &releases["items"][2]["current"]
        ),
        (&json!(1), &json!(true))
    );

    let none = world
        .send(Method::POST, &path, &json!({ "release": 9 }))
        .await;
    assert_eq!(none.kind(), "not-found");
}
