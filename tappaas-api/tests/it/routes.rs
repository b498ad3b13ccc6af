use std::collections::BTreeSet;

use axum::body::Body;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tappaas_core::Digest;

use crate::world::{ARCHIVE, Answer, World};

const ENVIRONMENTS: &str = "/api/v1/tenants/{tenant}/projects/{project}/environments";

const OPERATION: &str = "/operations/{operation}";

const STOP: &str = "/api/v1/server/stop";

/// What no answer may contain.
const SECRET: &str = "hunter2";

const MANIFEST: &str = r#"
env.TOKEN = "hunter2"

[processes.web]
[processes.worker]

[volumes.data]
path = "/data"
process = "worker"
"#;

/// A life with an application, in which every route has a part.
struct Life {
    world: World,
    lived: BTreeSet<(String, String)>,
    operation: String,
}

impl Life {
    async fn begin() -> Self {
        Self {
            world: World::new().await,
            lived: BTreeSet::new(),
            operation: String::new(),
        }
    }

    /// Sends a request to a path of the document, insists on the status, and looks for secrets in the answer.
    async fn step(&mut self, method: Method, template: &str, body: Value, status: u16) -> Answer {
        let answer = if template.ends_with("/sources/{digest}") {
            self.world
                .upload(&self.filled(template), Body::from(ARCHIVE))
                .await
        } else {
            self.world
                .send(method.clone(), &self.filled(template), &body)
                .await
        };
        assert_eq!(
            answer.status.as_u16(),
            status,
            "{method} {template}: {}",
            answer.text()
        );
        assert!(
            !answer.text().contains(SECRET),
            "{method} {template} tells a secret: {}",
            answer.text()
        );
        self.lived.insert((method.to_string(), template.to_owned()));
        answer
    }

    /// A step that goes on after its answer.
    async fn long(&mut self, method: Method, template: &str, body: Value) {
        let answer = self.step(method, template, body, 202).await;
        self.operation = answer.json()["operation"].as_str().unwrap().to_owned();
        self.world.succeeded(&answer).await;
    }

    async fn look(&mut self, template: &str) -> Answer {
        self.step(Method::GET, template, Value::Null, 200).await
    }

    fn filled(&self, template: &str) -> String {
        let digest = Digest::of(ARCHIVE);
        [
            ("tenant", "default"),
            ("project", "default"),
            ("environment", "staging"),
            ("application", "shop"),
            ("operation", &self.operation),
            ("digest", digest.as_str()),
            ("build", "1"),
            ("release", "1"),
            ("other", "2"),
            ("volume", "data"),
        ]
        .iter()
        .fold(template.to_owned(), |path, (name, value)| {
            path.replace(&format!("{{{name}}}"), value)
        })
    }
}

impl Life {
    /// Everything up to an application that serves.
    async fn grow(&mut self) {
        let deployment = json!({
            "source": { "upload": { "digest": Digest::of(ARCHIVE) } },
            "manifest": MANIFEST,
        });
        self.look("/version").await;
        self.step(Method::PUT, &environment(""), Value::Null, 204)
            .await;
        self.look(ENVIRONMENTS).await;
        self.step(Method::PUT, &app("/sources/{digest}"), Value::Null, 204)
            .await;
        let plan = self
            .step(Method::POST, &app("/plan"), deployment.clone(), 200)
            .await;
        assert!(!plan.json()["steps"].as_array().unwrap().is_empty());
        self.long(Method::PUT, &app(""), deployment.clone()).await;
        let again = self.step(Method::PUT, &app(""), deployment, 200).await;
        assert_eq!(again.json()["operation"], Value::Null);
        let operation = self.look(&environment(OPERATION)).await;
        assert_eq!(operation.json()["state"], "succeeded");
    }

    /// All that can be seen of an application that serves.
    async fn look_around(&mut self) {
        let list = self.look(&environment("/applications")).await;
        assert_eq!(list.json()["items"][0]["name"], "shop");
        let shown = self.look(&app("")).await.json();
        assert_eq!(shown["phase"], "running", "{shown}");
        assert_eq!(shown["processes"]["web"]["ready"], 1, "{shown}");
        assert_eq!(shown["hosts"], json!(["shop.staging.localhost"]));
        let instances = self.look(&app("/instances")).await.json();
        assert_eq!(instances["items"].as_array().unwrap().len(), 2);
        let builds = self.look(&app("/builds")).await.json();
        assert_eq!(builds["items"][0]["phase"], "succeeded");
        let built = self.look(&app("/builds/{build}/logs")).await.lines();
        assert_eq!(built[0]["line"]["text"], "building", "{built:?}");
        self.look(&app("/logs")).await.lines();
        self.look(&app("/config")).await;
        let command = json!({ "command": ["true"] });
        let refused = self.step(Method::POST, &app("/exec"), command, 426).await;
        assert_eq!(refused.kind(), "invalid");
    }

    /// All that can be changed about it.
    async fn change(&mut self) {
        let secret = json!({ "set": { "PASSWORD": SECRET } });
        self.long(Method::PATCH, &app("/config"), secret).await;
        let releases = self.look(&app("/releases")).await.json();
        assert_eq!(releases["items"][1]["current"], true, "{releases}");
        let differences = self
            .look(&app("/releases/{release}/diff/{other}"))
            .await
            .json();
        assert_eq!(differences["items"][0]["path"], "config.PASSWORD");
        let three = json!({ "processes": { "web": 3 } });
        self.long(Method::PATCH, &app("/scale"), three).await;
        self.long(Method::POST, &app("/rollback"), json!({ "release": 1 }))
            .await;
        self.long(Method::POST, &app("/restart"), Value::Null).await;

        let restart = self
            .step(Method::POST, &app("/restart"), Value::Null, 202)
            .await;
        self.operation = restart.json()["operation"].as_str().unwrap().to_owned();
        self.step(Method::DELETE, &environment(OPERATION), Value::Null, 202)
            .await;
        let progress = self
            .look(&environment("/operations/{operation}/progress"))
            .await;
        let last = progress.lines().pop().unwrap();
        assert_eq!(last["operation"]["state"], "cancelled", "{last}");
    }

    /// Its end, and that of what it leaves.
    async fn leave(&mut self) {
        self.long(Method::DELETE, &app(""), Value::Null).await;
        let volumes = self.look(&environment("/volumes")).await.json();
        assert_eq!(volumes["items"][0]["used"], false, "{volumes}");
        let volume = environment("/volumes/{application}/{volume}");
        self.step(Method::DELETE, &volume, Value::Null, 204).await;
        self.step(Method::DELETE, &environment(""), Value::Null, 204)
            .await;
        self.step(Method::POST, STOP, json!({ "apps": true }), 202)
            .await;
        assert!(self.world.stopped.recv().await.unwrap().apps);
    }
}

fn environment(rest: &str) -> String {
    format!("{ENVIRONMENTS}/{{environment}}{rest}")
}

fn app(rest: &str) -> String {
    environment(&format!("/applications/{{application}}{rest}"))
}

#[tokio::test(start_paused = true)]
async fn every_route_of_the_document_has_a_part_in_a_life_and_tells_no_secret() {
    let mut life = Life::begin().await;
    life.grow().await;
    life.look_around().await;
    life.change().await;
    life.leave().await;
    assert_eq!(life.lived, documented());
}

/// The routes that the document names.
fn documented() -> BTreeSet<(String, String)> {
    let document = serde_json::to_value(tappaas_api::openapi()).unwrap();
    let paths = document["paths"].as_object().unwrap();
    let routes = paths.iter().flat_map(|(path, item)| {
        let methods = item.as_object().unwrap().keys();
        let methods =
            methods.filter(|key| Method::from_bytes(key.to_uppercase().as_bytes()).is_ok());
        methods.map(|method| (method.to_uppercase(), path.clone()))
    });
    routes.collect()
}

#[test]
fn every_operation_has_a_name_of_its_own_and_answers_with_problems() {
    let document = serde_json::to_value(tappaas_api::openapi()).unwrap();
    let paths = document["paths"].as_object().unwrap();
    let mut names = BTreeSet::new();
    for operation in paths
        .values()
        .flat_map(|item| item.as_object().unwrap().values())
    {
        let name = operation["operationId"].as_str().unwrap();
        assert!(names.insert(name), "two operations are called {name}");
        let problem = &operation["responses"]["default"]["content"]["application/problem+json"];
        assert_eq!(
            problem["schema"]["$ref"], "#/components/schemas/Problem",
            "{name}"
        );
        assert!(
            operation["summary"].is_string(),
            "{name} says nothing about itself"
        );
        assert!(operation["tags"].is_array(), "{name} has no tag");
    }
    assert_eq!(names.len(), documented().len());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_stops_already_says_so() {
    let mut world = World::new().await;
    let stop = json!({});
    for _ in 0..2 {
        let answer = world.send(Method::POST, STOP, &stop).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED);
    }
    world.stopped.close();
    let answer = world.send(Method::POST, STOP, &stop).await;
    assert_eq!(
        (answer.status, answer.kind().as_str()),
        (StatusCode::SERVICE_UNAVAILABLE, "unavailable")
    );
}
