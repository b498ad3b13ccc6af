use http::Method;
use serde_json::{Value, json};

use crate::world::{World, application};

const MANIFEST: &str = r#"
[env]
COMMON = "from the manifest"
STAGE = "unknown"
CHANGED = "from the manifest"

[environments.production]
env.STAGE = "production"
"#;

async fn listed(world: &World, query: &str) -> Value {
    world
        .get(&format!("{}/config{query}", application()))
        .await
        .json()["items"]
        .clone()
}

#[tokio::test(start_paused = true)]
async fn each_variable_is_listed_with_its_layer_and_without_its_value() {
    let world = World::new().await;
    world.serving(MANIFEST).await;
    let path = format!("{}/config", application());
    let change = json!({ "set": { "CHANGED": "by hand", "OWN": "by hand" } });
    world
        .succeeded(&world.send(Method::PATCH, &path, &change).await)
        .await;

    let masked = |name: &str, layer: &str| json!({ "name": name, "layer": layer, "value": null });
    let all = json!([
        masked("CHANGED", "config"),
        masked("COMMON", "manifest"),
        masked("OWN", "config"),
        masked("STAGE", "environment"),
    ]);
    assert_eq!(listed(&world, "").await, all);
    assert_eq!(listed(&world, "?reveal=false").await, all);

    let revealed = listed(&world, "?reveal=true").await;
    let values: Vec<_> = revealed
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["value"].as_str().unwrap())
        .collect();
    assert_eq!(
        values,
        ["by hand", "from the manifest", "by hand", "production"]
    );
}

#[tokio::test(start_paused = true)]
async fn what_was_set_survives_a_deploy_and_can_be_unset() {
    let world = World::new().await;
    world.serving(MANIFEST).await;
    let path = format!("{}/config", application());
    let change = json!({ "set": { "CHANGED": "by hand" } });
    world
        .succeeded(&world.send(Method::PATCH, &path, &change).await)
        .await;
    world
        .serving(&format!("{MANIFEST}\nenv.MORE = \"1\""))
        .await;
    assert_eq!(listed(&world, "?reveal=true").await[0]["value"], "by hand");

    let change = json!({ "unset": ["CHANGED"] });
    world
        .succeeded(&world.send(Method::PATCH, &path, &change).await)
        .await;
    assert_eq!(
        listed(&world, "?reveal=true").await[0]["value"],
        "from the manifest"
    );

    let again = world.send(Method::PATCH, &path, &change).await;
    assert_eq!(
        (again.status.as_u16(), &again.json()["operation"]),
        (200, &Value::Null)
    );
}
