use std::sync::Arc;

use axum::{Extension, Router, middleware, routing::get};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use tokio::sync::Semaphore;
use utoipa::{
    OpenApi as _,
    openapi::{ContentBuilder, OpenApi, Ref, RefOr, ResponseBuilder, path::PathItem},
};
use utoipa_axum::router::OpenApiRouter;

use crate::{
    State,
    exec::Commands,
    failure::Failure,
    handlers, metrics,
    types::{Kind, Problem},
};

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "TAPPaaS",
        version = "v1",
        description = "A platform as a service: source code in, a running, routed application out.",
        license(name = "Apache-2.0 OR MIT")
    ),
    components(schemas(Problem)),
    tags(
        (name = "applications", description = "One deployable thing in one environment."),
        (name = "builds", description = "Runs of a builder."),
        (name = "config", description = "Environment variables."),
        (name = "environments", description = "Stages of a project."),
        (name = "operations", description = "Records of requests that take their time."),
        (name = "releases", description = "Versions of an application."),
        (name = "server", description = "The server itself."),
        (name = "volumes", description = "Storage with its own life.")
    )
)]
struct Document;

/// The API, without a transport.
pub fn router(state: State) -> Router {
    let (routes, openapi) = documented();
    // The document is data of this crate, whose form a test holds.
    let openapi = openapi.to_json().unwrap_or_default();
    let headers = HeaderMap::from_iter([(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    )]);
    let document = get(move || async move { (headers, openapi) });
    let commands = Commands(Arc::new(Semaphore::new(state.limits.commands)));
    let count = middleware::from_fn_with_state(state.metrics.clone(), metrics::count);
    routes
        .route("/openapi.json", document)
        .fallback(unknown)
        .method_not_allowed_fallback(not_allowed)
        .layer(count)
        .layer(Extension(commands))
        .with_state(state)
}

/// The OpenAPI document that is generated from the handlers.
pub fn openapi() -> OpenApi {
    documented().1
}

fn documented() -> (Router<State>, OpenApi) {
    let (routes, mut openapi) = OpenApiRouter::with_openapi(Document::openapi())
        .merge(handlers::routes())
        .split_for_parts();
    openapi.paths.paths.values_mut().for_each(add_problem);
    (routes, openapi)
}

/// Whatever else an operation answers, it is a problem.
fn add_problem(item: &mut PathItem) {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem")));
    let problem = ResponseBuilder::new()
        .description("Why the request was not carried out.")
        .content(Problem::MEDIA_TYPE, content.build())
        .build();
    let operations = [
        &mut item.get,
        &mut item.put,
        &mut item.post,
        &mut item.delete,
        &mut item.patch,
    ];
    for operation in operations.into_iter().flatten() {
        let responses = &mut operation.responses.responses;
        responses.insert("default".to_owned(), RefOr::T(problem.clone()));
    }
}

async fn unknown() -> Failure {
    let detail = "there is nothing at this path; `/openapi.json` tells what there is";
    Failure(Problem::new(Kind::NotFound, detail))
}

async fn not_allowed() -> Failure {
    let detail = "this path takes other methods; `/openapi.json` tells which";
    Failure(Problem::new(Kind::Unsupported, detail)).with_status(StatusCode::METHOD_NOT_ALLOWED)
}
