use crate::world::World;

#[test]
fn the_document_is_the_one_that_was_agreed_on() {
    insta::assert_json_snapshot!(tappaas_api::openapi());
}

#[tokio::test(start_paused = true)]
async fn the_document_is_served() {
    let world = World::new().await;
    let answer = world.get("/openapi.json").await;
    assert_eq!(answer.headers["content-type"], "application/json");
    assert_eq!(
        answer.json(),
        serde_json::to_value(tappaas_api::openapi()).unwrap()
    );
}
