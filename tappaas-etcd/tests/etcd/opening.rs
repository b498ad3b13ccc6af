//! Who may open a store, and what is said to whoever may not.

use futures::StreamExt as _;
use serde_json::json;
use tappaas_core::{Chain, ErrorKind, Event, Kind, Revision, Store as _, backend::Secret};
use tappaas_etcd::{Config, Login, Tls};

use crate::{
    etcd::Etcd,
    seat::{all, create, open, try_open},
};

/// What is wrong with a config, in one line.
async fn refused(config: &Config) -> (ErrorKind, String) {
    let error = try_open(config).await.err().unwrap();
    (error.kind(), Chain(&error).to_string())
}

fn login(user: &str, password: &str) -> Option<Login> {
    Some(Login {
        user: user.to_owned(),
        password: Secret::new(password),
    })
}

/// Users `root`, and `platform`, who may do everything below `/mine/`.
async fn enable_authentication(etcd: &Etcd) {
    for (path, body) in [
        ("user/add", json!({ "name": "root", "password": "r" })),
        ("role/add", json!({ "name": "root" })),
        ("user/grant", json!({ "user": "root", "role": "root" })),
        (
            "user/add",
            json!({ "name": "platform", "password": "sesame" }),
        ),
        ("role/add", json!({ "name": "mine" })),
        // From `/mine/` to `/mine0`, in base 64.
        (
            "role/grant",
            json!({ "name": "mine",
                "perm": { "permType": "READWRITE", "key": "L21pbmUv", "range_end": "L21pbmUw" } }),
        ),
        ("user/grant", json!({ "user": "platform", "role": "mine" })),
        ("enable", json!({})),
    ] {
        etcd.ask(&format!("/v3/auth/{path}"), body).await;
    }
}

#[tokio::test]
async fn who_may_not_open_a_store_is_told_why() {
    let etcd = Etcd::start(&[]).await;
    let mut config = etcd.config("/mine");
    config.login = login("platform", "sesame");
    let (kind, why) = refused(&config).await;
    assert_eq!(kind, ErrorKind::Unsupported, "{why}");
    assert!(why.contains("authentication is not enabled"), "{why}");

    enable_authentication(&etcd).await;
    for (login, expected) in [
        (None, "no user is set"),
        (login("platform", "guess"), "not by this password"),
        (login("nobody", "sesame"), "does not know this user"),
    ] {
        config.login = login;
        let (kind, why) = refused(&config).await;
        assert_eq!(kind, ErrorKind::Denied, "{why}");
        assert!(why.contains(expected), "{why}");
        assert!(!why.contains("guess") && !why.contains("sesame"), "{why}");
    }
    config.login = login("platform", "sesame");
    config.prefix = "/other".to_owned();
    let (kind, why) = refused(&config).await;
    assert_eq!(kind, ErrorKind::Denied, "{why}");
    assert!(
        why.contains("`/other/`: etcdserver: permission denied"),
        "{why}"
    );

    config.prefix = "/mine".to_owned();
    let store = open(&config).await.unwrap();
    create(&store, "a").await.unwrap();
}

#[tokio::test]
async fn a_store_logs_in_again_when_etcd_has_forgotten_it() {
    let etcd = Etcd::start(&[]).await;
    enable_authentication(&etcd).await;
    let mut config = etcd.config("/mine");
    config.login = login("platform", "sesame");
    let store = open(&config).await.unwrap();
    let root = json!({ "name": "root", "password": "r" });
    let root = etcd.ask("/v3/auth/authenticate", root).await;
    let root = root["token"].as_str().unwrap();
    for name in ["a", "b"] {
        // Also by the same password it ends what was given for it.
        let same = json!({ "name": "platform", "password": "sesame" });
        etcd.ask_as(Some(root), "/v3/auth/user/changepw", same.clone())
            .await;
        create(&store, name).await.unwrap();
        etcd.ask_as(Some(root), "/v3/auth/user/changepw", same)
            .await;
        let watch = store.watch(Kind::Application, Revision::default()).await;
        assert!(matches!(
            watch.unwrap().next().await,
            Some(Event::Applied(_))
        ));
    }
    let other = json!({ "name": "platform", "password": "other" });
    etcd.ask_as(Some(root), "/v3/auth/user/changepw", other)
        .await;
    let refused = create(&store, "c").await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Denied, "{refused:?}");
}

#[tokio::test]
async fn a_store_has_one_id_whoever_asks_first() {
    let etcd = Etcd::shared().await;
    let config = etcd.config("/identified");
    let (one, other) = (open(&config).await.unwrap(), open(&config).await.unwrap());
    // What it would make by now is another one.
    create(&other, "a").await.unwrap();
    let (first, second) = futures::join!(one.id(), other.id());
    let first = first.unwrap();
    assert_eq!(first, second.unwrap());
    assert_eq!(open(&config).await.unwrap().id().await.unwrap(), first);
}

#[tokio::test]
async fn a_cluster_that_is_not_there_is_named() {
    let mut config = Config::new(["http://127.0.0.1:1", "http://127.0.0.1:2"], "/t");
    let (kind, why) = refused(&config).await;
    assert_eq!(kind, ErrorKind::Unavailable, "{why}");
    assert!(
        why.contains("http://127.0.0.1:1") && why.contains("http://127.0.0.1:2"),
        "{why}"
    );
    assert!(why.to_lowercase().contains("connection refused"), "{why}");
    // One that is there after others that are not will do.
    let etcd = Etcd::shared().await;
    config.endpoints.push(etcd.endpoint());
    open(&config).await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_an_endpoint_is_refused() {
    for bad in [
        "127.0.0.1:2379",
        "https://127.0.0.1:2379",
        "http://user:sesame@127.0.0.1:2379",
        "http://127.0.0.1:2379/path",
        "not a url",
    ] {
        let (kind, why) = refused(&Config::new([bad], "/t")).await;
        assert_eq!(kind, ErrorKind::Invalid, "{bad}: {why}");
        assert!(!why.contains("sesame"), "{why}");
    }
    let (kind, why) = refused(&Config::new(Vec::<String>::new(), "/t")).await;
    assert_eq!(kind, ErrorKind::Invalid, "{why}");
    let (kind, why) = refused(&Config::new(["http://127.0.0.1:1"], "")).await;
    assert_eq!(kind, ErrorKind::Invalid, "{why}");
}

#[tokio::test]
async fn members_are_spoken_to_by_tls_if_they_prove_who_they_are() {
    let etcd = Etcd::start(&["--auto-tls"]).await;
    let mut config = etcd.config("/t");
    config.tls = Some(Tls {
        authorities: etcd.certificate(),
        server_name: None,
        identity: None,
    });
    let store = open(&config).await.unwrap();
    create(&store, "a").await.unwrap();

    let another = Etcd::start(&["--auto-tls"]).await;
    config.endpoints = vec![another.endpoint()];
    let (kind, why) = refused(&config).await;
    assert_eq!(kind, ErrorKind::Unavailable, "{why}");
    assert!(why.to_lowercase().contains("certificate"), "{why}");
}

#[tokio::test]
async fn a_prefix_does_not_see_what_is_in_another() {
    let etcd = Etcd::start(&[]).await;
    let (short, long) = (etcd.config("/a"), etcd.config("/ab"));
    let (short, long) = (open(&short).await.unwrap(), open(&long).await.unwrap());
    let made = create(&long, "x").await.unwrap();
    assert_eq!(short.get(&made.key()).await.unwrap(), None);
    assert_eq!(short.list(&all()).await.unwrap().objects, []);
    assert_eq!(long.list(&all()).await.unwrap().objects, [made]);
}

#[tokio::test]
async fn what_a_newer_version_wrote_is_refused() {
    let etcd = Etcd::start(&[]).await;
    // `/t/format` is `2`.
    let newer = json!({ "key": "L3QvZm9ybWF0", "value": "Mg==" });
    etcd.ask("/v3/kv/put", newer).await;
    let (kind, why) = refused(&etcd.config("/t")).await;
    assert_eq!(kind, ErrorKind::Unsupported, "{why}");
    assert!(why.contains("format 2"), "{why}");
}

#[tokio::test]
async fn what_somebody_else_wrote_is_named() {
    let etcd = Etcd::start(&[]).await;
    let store = open(&etcd.config("/t")).await.unwrap();
    // `/t/Application/x` is `x`.
    let strange = json!({ "key": "L3QvQXBwbGljYXRpb24veA==", "value": "eA==" });
    etcd.ask("/v3/kv/put", strange).await;
    let error = store.list(&all()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal);
    assert!(error.message().contains("`/t/Application/x`"), "{error:?}");
}
