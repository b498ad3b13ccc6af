use serde_json::json;
use tappaas_core::{
    Digest, ErrorKind,
    backend::{Builder as _, Content, Image, Reference, Registry as _, Repository},
    model::{Source, Strategy},
};

use super::bench::{Bench, id, repository, request, text};

/// Pushes an image of one layer, and returns its manifest's digest.
async fn push_image(bench: &Bench, layer: &str) -> Digest {
    let config = json!({ "os": "linux", "config": {} }).to_string();
    let describe = |kind: &str, content: &str| json!({ "mediaType": kind, "digest": Digest::of(content), "size": content.len() });
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": describe("application/vnd.oci.image.config.v1+json", &config),
        "layers": [describe("application/vnd.oci.image.layer.v1.tar", layer)],
    })
    .to_string();
    for blob in [config.as_str(), layer] {
        bench
            .push(&Content::Blob(Digest::of(blob)), blob.into())
            .await;
    }
    let digest = Digest::of(&manifest);
    bench
        .push(&Content::Manifest(digest.clone()), manifest.into())
        .await;
    digest
}

fn source(digest: &Digest) -> Source {
    Source::Image {
        reference: "example/app:1".to_owned(),
        image: Image {
            repository: repository(),
            digest: digest.clone(),
        },
    }
}

#[tokio::test]
async fn an_image_is_taken_over_into_the_repository_of_the_request() {
    let bench = Bench::new().await;
    let digest = push_image(&bench, "layer").await;
    let mut wanted = request("1", "app", source(&digest));
    let other: Repository = "default/default/staging/app".parse().unwrap();
    wanted.repository = other.clone();
    let builder = bench.builder().await;
    let built = builder.build(&wanted).await.unwrap();
    assert_eq!(
        (&built.image.digest, &built.image.repository, built.cached),
        (&digest, &other, false)
    );
    assert_eq!(built.detected, "image example/app:1");
    let found = bench
        .registry
        .resolve(&other, &Reference::Digest(digest))
        .await
        .unwrap();
    assert!(found.is_some());
    assert!(
        text(&builder, "1")
            .await
            .contains("built default/default/staging/app@sha256:")
    );
    wanted.id = id("2");
    assert!(builder.build(&wanted).await.unwrap().cached);
}

#[tokio::test]
async fn of_an_index_the_image_for_this_machine_is_taken() {
    let bench = Bench::new().await;
    let images = [
        push_image(&bench, "amd64").await,
        push_image(&bench, "arm64").await,
        push_image(&bench, "s390x").await,
    ];
    let own = match std::env::consts::ARCH {
        "x86_64" => 0,
        "aarch64" => 1,
        other => panic!("these tests know no {other}"),
    };
    let entry = |(digest, architecture): (&Digest, &str)| json!({ "digest": digest, "size": 1, "mediaType": "application/vnd.oci.image.manifest.v1+json", "platform": { "os": "linux", "architecture": architecture } });
    let entries: Vec<_> = images
        .iter()
        .zip(["amd64", "arm64", "s390x"])
        .map(entry)
        .collect();
    let push = async |entries: &[serde_json::Value]| {
        let index = json!({ "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": entries }).to_string();
        let digest = Digest::of(&index);
        bench
            .push(&Content::Manifest(digest.clone()), index.into())
            .await;
        digest
    };
    let (all, foreign) = (push(&entries).await, push(&entries[2..]).await);
    let builder = bench.builder().await;
    let built = builder
        .build(&request("1", "app", source(&all)))
        .await
        .unwrap();
    assert_eq!(built.image.digest, images[own]);
    let error = builder
        .build(&request("2", "app", source(&foreign)))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[tokio::test]
async fn what_does_not_fit_together_is_refused() {
    let bench = Bench::new().await;
    let builder = bench.builder().await;
    let digest = push_image(&bench, "layer").await;
    let upload = bench.upload(&[("index.html", "")]).await;
    let git = Source::Git {
        url: "https://example.com/x.git".to_owned(),
        reference: "main".to_owned(),
        commit: "0".repeat(40),
    };
    let missing = source(&Digest::of("missing"));
    let cases = [
        (
            source(&digest),
            Some(Strategy::Stack),
            None,
            ErrorKind::Invalid,
        ),
        (
            upload.clone(),
            Some(Strategy::Image),
            None,
            ErrorKind::Invalid,
        ),
        (upload.clone(), None, Some("heroku-24"), ErrorKind::Invalid),
        (git, None, None, ErrorKind::Unsupported),
        (missing, None, None, ErrorKind::NotFound),
    ];
    for (index, (source, strategy, stack, kind)) in cases.into_iter().enumerate() {
        let mut request = request(&index.to_string(), "app", source);
        request.spec.strategy = strategy;
        request.spec.stack = stack.map(str::to_owned);
        let error = builder.build(&request).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error:?}");
    }
    let mut fine = request("fine", "app", upload);
    fine.spec.stack = Some("host".to_owned());
    fine.spec.strategy = Some(Strategy::Stack);
    builder.build(&fine).await.unwrap();
}

#[tokio::test]
async fn what_runs_elsewhere_is_on_no_stack_of_this_machine() {
    let mut bench = Bench::new().await;
    bench.config.elsewhere = true;
    let builder = bench.builder().await;
    let capabilities = builder.capabilities();
    assert!(!capabilities.host_stack);
    assert_eq!(Vec::from_iter(capabilities.stacks.keys()), ["scratch"]);

    // An image of another registry stays there, and nobody asks that one.
    let digest = Digest::of("somebody else's");
    let mut given = source(&digest);
    if let Source::Image { image, .. } = &mut given {
        image.repository = "registry.example/shop/app".parse().unwrap();
    }
    let built = builder.build(&request("1", "app", given)).await.unwrap();
    assert_eq!(
        built.image.to_string(),
        format!("registry.example/shop/app@{digest}")
    );

    // Source is built on `scratch` without being asked to, and never on `host`.
    let files = [("app.py", "print(1)")];
    let wanted = request("2", "app", bench.upload(&files).await);
    let refused = builder.build(&wanted).await.unwrap_err();
    assert!(refused.message().contains("Go or Rust"), "{refused}");
    let mut wanted = request("3", "app", bench.upload(&files).await);
    wanted.spec.stack = Some("host".to_owned());
    let refused = builder.build(&wanted).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid);
    assert!(
        refused.message().contains("there is `scratch`"),
        "{refused}"
    );
}
