use std::{net::SocketAddr, sync::Arc};

use axum::{
    Router,
    extract::Request,
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    routing::{any, get},
};
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::{StatusCode, header};
use tappaas_core::{
    Digest, ErrorKind,
    backend::{Content, Reference, Registry as _, Repository, Secret},
};
use tappaas_registry::{
    Limits,
    client::{Config, Credential, Registry},
    server,
};
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::{
    content::{bytes, image, index, noise},
    embedded::{pull, push},
    world::{TestIds, World, open},
};

/// A client of one registry, which has the repositories without a host.
pub(crate) fn client(address: SocketAddr, credentials: &[Credential]) -> Registry {
    let config = Config {
        registry: Some(address.to_string()),
        plain_http: vec![address.to_string()],
        only: None,
    };
    Registry::new(config, credentials).unwrap()
}

async fn serve(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(server::serve(listener, router, 16, std::future::pending()));
    address
}

fn repository() -> Repository {
    "team/app".parse().unwrap()
}

#[tokio::test]
async fn an_image_goes_in_and_comes_out_over_http() {
    let world = World::start().await;
    let registry = client(world.address, &[]);
    let repository = repository();
    // Larger than one request takes, and not a multiple of it.
    let (config, layer) = (Bytes::from("{}"), noise(1, (9 << 20) + 17));
    let manifest = bytes(&image(&config, &[&layer]));
    let digest = Digest::of(&manifest);
    for content in [&config, &layer, &Bytes::new()] {
        push(
            &registry,
            &repository,
            Content::Blob(Digest::of(content)),
            content,
        )
        .await
        .unwrap();
    }
    push(
        &registry,
        &repository,
        Content::Manifest(digest.clone()),
        &manifest,
    )
    .await
    .unwrap();
    for tag in ["v2", "v1"] {
        registry
            .tag(&repository, &digest, &tag.parse().unwrap())
            .await
            .unwrap();
    }
    let tag = Reference::Tag("v1".parse().unwrap());
    assert_eq!(
        registry.resolve(&repository, &tag).await.unwrap(),
        Some(digest.clone())
    );
    let by_digest = Reference::Digest(digest.clone());
    assert_eq!(
        registry.resolve(&repository, &by_digest).await.unwrap(),
        Some(digest.clone())
    );
    let tags = registry.list(&repository).await.unwrap();
    assert_eq!(tags, ["v1".parse().unwrap(), "v2".parse().unwrap()]);
    for (content, expected) in [
        (Content::Manifest(digest.clone()), &manifest),
        (Content::Blob(Digest::of(&layer)), &layer),
        (Content::Blob(Digest::of("")), &Bytes::new()),
    ] {
        assert_eq!(
            pull(&registry, &repository, content).await.unwrap(),
            *expected
        );
    }
    for _ in 0..2 {
        registry.delete(&repository, &by_digest).await.unwrap();
    }
    assert_eq!(registry.resolve(&repository, &tag).await.unwrap(), None);
    assert_eq!(registry.list(&repository).await.unwrap(), []);
    assert_eq!(world.store.verify().await.unwrap(), []);
}

#[tokio::test]
async fn what_is_not_there_is_told_apart_from_what_fails() {
    let world = World::start().await;
    let registry = client(world.address, &[]);
    let repository = repository();
    let nowhere = Digest::of("nowhere");
    for content in [
        Content::Blob(nowhere.clone()),
        Content::Manifest(nowhere.clone()),
    ] {
        let error = pull(&registry, &repository, content).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
    }
    let error = registry
        .tag(&repository, &nowhere, &"v1".parse().unwrap())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
    assert_eq!(registry.list(&repository).await.unwrap(), []);
    let closed = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let error = client(closed, &[]).list(&repository).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    let error = Registry::new(Config::default(), &[])
        .unwrap()
        .list(&repository)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error:?}");
}

#[tokio::test]
async fn content_that_is_not_what_was_announced_is_not_pushed() {
    let world = World::start().await;
    let registry = client(world.address, &[]);
    let repository = repository();
    let digest = Digest::of("announced");
    for content in [
        Content::Blob(digest.clone()),
        Content::Manifest(digest.clone()),
    ] {
        let error = push(&registry, &repository, content.clone(), &noise(1, 3 << 20))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error:?}");
        let error = pull(&registry, &repository, content).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
    }
    let broken = stream::iter([
        Ok(Bytes::from("a")),
        Err(tappaas_core::Error::expired("the sender says so")),
    ]);
    let error = registry
        .push(&repository, &Content::Blob(digest), broken.boxed())
        .await
        .unwrap_err();
    assert_eq!(
        (error.kind(), error.message()),
        (ErrorKind::Expired, "the sender says so")
    );
}

/// This registry takes any manifest; the client must not.
#[tokio::test]
async fn a_manifest_that_names_something_missing_is_refused_by_the_client_too() {
    let lenient = Router::new().route(
        "/v2/{*path}",
        any(async |request: Request| match request.method().as_str() {
            "PUT" => StatusCode::CREATED,
            _ => StatusCode::NOT_FOUND,
        }),
    );
    let registry = client(serve(lenient).await, &[]);
    let image = bytes(&image(b"{}", &[]));
    for manifest in [bytes(&index(crate::content::MANIFEST, &[&image])), image] {
        let content = Content::Manifest(Digest::of(&manifest));
        let error = push(&registry, &repository(), content, &manifest)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error:?}");
    }
}

#[tokio::test]
async fn a_registry_that_answers_with_something_else_is_caught() {
    let lying = Router::new().route("/v2/{*path}", any(async || "something else"));
    let registry = client(serve(lying).await, &[]);
    let digest = Digest::of("this");
    for content in [Content::Blob(digest.clone()), Content::Manifest(digest)] {
        let error = pull(&registry, &repository(), content).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal, "{error:?}");
    }
}

#[tokio::test]
async fn an_endless_manifest_or_tag_list_is_not_read_to_its_end() {
    let chunk = Bytes::from(vec![b' '; 1 << 16]);
    let endless = Router::new().route(
        "/v2/{*path}",
        get(async move || {
            let chunks =
                stream::repeat_with(move || Ok::<_, std::convert::Infallible>(chunk.clone()));
            axum::body::Body::from_stream(chunks)
        }),
    );
    let registry = client(serve(endless).await, &[]);
    let error = pull(&registry, &repository(), Content::Manifest(Digest::of("x")))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exhausted, "{error:?}");
    let error = registry.list(&repository()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exhausted, "{error:?}");
}

#[tokio::test]
async fn tags_are_listed_over_pages_and_a_registry_that_repeats_itself_is_left() {
    let limits = Limits {
        page_max: 3,
        ..Limits::default()
    };
    let world = World::limited(limits).await;
    world.push_blob("team/app", &Bytes::from("{}")).await;
    for tag in ["a", "b", "c", "d", "e", "f", "g"] {
        world
            .push_manifest("team/app", tag, &image(b"{}", &[]))
            .await
            .is(StatusCode::CREATED);
    }
    let tags = client(world.address, &[])
        .list(&repository())
        .await
        .unwrap();
    assert_eq!(
        tags.iter().map(|tag| tag.as_str()).collect::<String>(),
        "abcdefg"
    );
    let repeating = Router::new().route(
        "/v2/{*path}",
        get(async || r#"{"name":"x","tags":["b","a","/bad"]}"#),
    );
    let tags = client(serve(repeating).await, &[])
        .list(&repository())
        .await
        .unwrap();
    assert_eq!(
        tags.iter().map(|tag| tag.as_str()).collect::<String>(),
        "ab"
    );
}

/// Asks for what `expected` says, and tells where to get it if that is a token.
fn guarded(router: Router, challenge: String, expected: &'static str) -> Router {
    router.layer(middleware::from_fn(move |request: Request, next: Next| {
        let challenge = challenge.clone();
        async move {
            let token = request.uri().path() == "/token";
            let sent = request.headers().get(header::AUTHORIZATION);
            if token || sent.is_some_and(|sent| sent == expected) {
                return next.run(request).await;
            }
            let headers = [(header::WWW_AUTHENTICATE, challenge)];
            (StatusCode::UNAUTHORIZED, headers).into_response() as Response
        }
    }))
}

fn credential(registry: SocketAddr, password: &str) -> Credential {
    Credential {
        registry: registry.to_string(),
        user: "me".to_owned(),
        password: Secret::new(password),
    }
}

async fn use_all_verbs(registry: &Registry) {
    let repository = repository();
    let manifest = bytes(&image(b"{}", &[]));
    let digest = Digest::of(&manifest);
    push(
        registry,
        &repository,
        Content::Blob(Digest::of("{}")),
        &"{}".into(),
    )
    .await
    .unwrap();
    push(
        registry,
        &repository,
        Content::Manifest(digest.clone()),
        &manifest,
    )
    .await
    .unwrap();
    registry
        .tag(&repository, &digest, &"v1".parse().unwrap())
        .await
        .unwrap();
    assert_eq!(registry.list(&repository).await.unwrap().len(), 1);
    assert_eq!(
        pull(registry, &repository, Content::Blob(Digest::of("{}")))
            .await
            .unwrap(),
        b"{}"
    );
    registry
        .delete(&repository, &Reference::Digest(digest))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_registry_that_wants_a_password_gets_the_one_that_is_its_own() {
    let directory = TempDir::new().unwrap();
    let router = server::router(open(directory.path()).await, Arc::new(TestIds::default()));
    let address = serve(guarded(
        router,
        "Basic realm=\"x\"".to_owned(),
        "Basic bWU6aHVudGVyMg==",
    ))
    .await;
    use_all_verbs(&client(address, &[credential(address, "hunter2")])).await;
    for credentials in [vec![], vec![credential(address, "wrong")]] {
        let error = client(address, &credentials)
            .list(&repository())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
        assert!(!format!("{error:?}").contains("wrong"), "{error:?}");
    }
    let elsewhere: SocketAddr = "127.0.0.1:1".parse().unwrap();
    let error = client(address, &[credential(elsewhere, "hunter2")])
        .list(&repository())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
}

#[tokio::test]
async fn a_registry_that_wants_a_token_gets_one_from_where_it_says() {
    let directory = TempDir::new().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let token = get(async || r#"{"token":"t0ken"}"#);
    let router = server::router(open(directory.path()).await, Arc::new(TestIds::default()))
        .route("/token", token);
    let challenge = format!("Bearer realm=\"http://{address}/token\",service=\"x\"");
    let router = guarded(router, challenge, "Bearer t0ken");
    tokio::spawn(server::serve(listener, router, 16, std::future::pending()));
    use_all_verbs(&client(address, &[])).await;
    use_all_verbs(&client(address, &[credential(address, "hunter2")])).await;
}
