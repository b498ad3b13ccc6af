use tappaas_core::ErrorKind;

use super::bench::{Bench, web};

#[tokio::test]
async fn a_static_site_is_built_and_served_on_nothing_but_itself() {
    let bench = Bench::new().await;
    let files = [
        ("index.html", "<h1>Hello</h1>"),
        ("css/style.css", "h1 {}"),
        ("404.html", "lost"),
        (".env", "SECRET=1"),
    ];
    let built = bench.build("hello", &files).await.unwrap();
    assert_eq!(
        (
            built.detected.as_str(),
            built.cached,
            built.stack.as_deref()
        ),
        ("static site", false, None)
    );
    assert!(matches!(web(&built), tappaas_core::model::Command::Exec(argv) if argv[1] == "."));
    let answer = bench.serve(&built, "/").await;
    assert!(
        answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("<h1>Hello</h1>"),
        "{answer}"
    );
    let answer = bench.serve(&built, "/.tappaas/fileserver").await;
    assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
}

#[tokio::test]
async fn of_a_site_in_a_folder_only_that_folder_is_in_the_image() {
    let bench = Bench::new().await;
    let built = bench
        .build(
            "site",
            &[
                ("public/index.html", "here"),
                ("notes/plan.txt", "secret plan"),
            ],
        )
        .await
        .unwrap();
    let layer = bench.layer_of(&built).await;
    let names = crate::archive::names(layer.path());
    assert_eq!(
        names,
        [
            "app/",
            "app/.tappaas/",
            "app/.tappaas/fileserver",
            "app/index.html"
        ]
    );
    assert!(bench.serve(&built, "/index.html").await.ends_with("here"));
}

#[tokio::test]
async fn a_build_that_puts_a_link_in_the_place_of_the_site_takes_nothing_of_the_machine() {
    let bench = Bench::new().await;
    let source = bench.upload(&[("public/index.html", "here")]).await;
    let builder = bench.builder().await;
    let hostile = "rm -r public && ln -s /etc public";
    let error =
        tappaas_core::backend::Builder::build(&builder, &super::bench::shell("1", source, hostile))
            .await
            .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error:?}");
    let source = bench.upload(&[("index.html", "here")]).await;
    let hostile = "ln -s /usr .tappaas";
    let error =
        tappaas_core::backend::Builder::build(&builder, &super::bench::shell("2", source, hostile))
            .await
            .unwrap_err();
    assert!(
        error.message().contains("cannot add .tappaas/fileserver"),
        "{error:?}"
    );
    builder.close().await;
}

#[tokio::test]
async fn a_folder_with_a_dockerfile_says_so() {
    let bench = Bench::new().await;
    let error = bench
        .build("x", &[("Dockerfile", "FROM scratch"), ("index.html", "")])
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.message().contains("Dockerfile"), "{error}");
}
