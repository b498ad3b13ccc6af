use std::os::unix::fs::PermissionsExt as _;

use tappaas_core::ErrorKind;
use tappaas_local::{Listener, Network};
use tokio::io::AsyncReadExt;

use crate::instance::{
    bench::{Bench, until, wait_for_output},
    inside,
};

#[tokio::test]
async fn a_port_is_reached_by_connections_that_the_shim_hands_over() {
    let bench = Bench::new().await;
    for (test, port) in [("a_server", 8080), ("a_server_at_port_80", 80)] {
        let mut spec = bench.spec("server", "");
        inside::run(&mut spec, test);
        let instance = bench.start(&spec).await;
        wait_for_output(instance.dir(), "serving").await;
        for _ in 0..50 {
            let mut said = String::new();
            instance
                .connect_to(port)
                .await
                .unwrap()
                .read_to_string(&mut said)
                .await
                .unwrap();
            assert_eq!(said, "hello");
        }
        let refused = instance.connect_to(port + 1).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unavailable);
        assert_eq!(
            instance.listeners().await.unwrap(),
            [Listener {
                port,
                loopback: false
            }]
        );
        // On the machine's own network nothing of it is to be seen.
        assert!(
            tokio::net::TcpStream::connect(("127.0.0.1", port))
                .await
                .is_err()
        );
        instance.remove().await.unwrap();
    }
    bench.check_census().await;
}

#[tokio::test]
async fn where_clouds_keep_their_secrets_is_denied_before_anything_is_wired() {
    let bench = Bench::new().await;
    let spec = bench.spec("routes", "cat /proc/net/route");
    let (routes, _) = bench.run(&spec).await;
    // 169.254.0.0 in the byte order of the machine; RTF_UP and RTF_REJECT.
    let denied = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields.get(1) == Some(&"0000FEA9") && fields.get(3) == Some(&"0201")
    };
    assert!(routes.lines().any(denied), "{routes}");
    bench.check_census().await;
}

#[tokio::test]
async fn what_connects_an_instance_ends_with_it() {
    let bench = Bench::new().await;
    // Goes into the background as `pasta` does, and, as some versions of it, never ends by itself.
    let pasta = bench.path().join("pasta");
    let script =
        "#!/bin/sh\n[ \"$AGAIN\" ] && kill -STOP $$\nAGAIN=1 \"$0\" \"$@\" >/dev/null 2>&1 &\n";
    std::fs::write(&pasta, script).unwrap();
    std::fs::set_permissions(&pasta, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut spec = bench.spec("connected", "exec sleep 60");
    spec.network = Network::Private { pasta: Some(pasta) };
    let instance = bench.start(&spec).await;
    let marker = format!("{}/pasta.pid", instance.dir().display());
    let connecting = || {
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        let mut lines =
            processes.filter_map(|process| std::fs::read(process.path().join("cmdline")).ok());
        lines.any(|line| String::from_utf8_lossy(&line).contains(&marker))
    };
    until("it is connected", async || connecting())
        .await
        .unwrap();
    instance.remove().await.unwrap();
    assert!(!connecting());
    bench.check_census().await;
}

#[tokio::test]
async fn what_listens_on_the_loopback_address_alone_stays_inside() {
    let bench = Bench::new().await;
    let mut spec = bench.spec("loopback", "");
    inside::run(&mut spec, "a_server_for_itself");
    let instance = bench.start(&spec).await;
    let listening = || async {
        instance.listeners().await.unwrap()
            == [Listener {
                port: 8080,
                loopback: true,
            }]
    };
    until("it listens", listening).await.unwrap();
    assert!(instance.connect_to(8080).await.is_err());
    instance.remove().await.unwrap();
}

#[tokio::test]
async fn connections_handed_over_before_a_restart_of_the_process_are_made_to_the_new_one_after_it()
{
    let bench = Bench::new().await;
    let mut spec = bench.spec("again", "");
    inside::run(&mut spec, "a_server");
    spec.restart.policy = tappaas_core::model::RestartPolicy::Always;
    let instance = bench.start(&spec).await;
    let answers = || async { instance.connect_to(8080).await.is_ok() };
    until("it answers", answers).await.unwrap();
    let before = instance.status().await.unwrap().pid;
    instance.restart().await.unwrap();
    let again = || async {
        instance.connect_to(8080).await.is_ok() && instance.status().await.unwrap().pid != before
    };
    until("it answers again", again).await.unwrap();
    instance.remove().await.unwrap();
}

#[tokio::test]
async fn without_a_wire_nothing_outside_is_reached() {
    let bench = Bench::new().await;
    let outside = tokio::net::TcpListener::bind("0.0.0.0:0").await.unwrap();
    let port = outside.local_addr().unwrap().port();
    let mut spec = bench.spec("alone", "");
    inside::run(&mut spec, "a_client");
    let targets = format!("127.0.0.1:{port} 192.0.2.1:{port} 169.254.169.254:80");
    spec.environment.insert(
        "TARGETS".to_owned(),
        tappaas_core::model::EnvValue::new(targets),
    );
    let (output, _) = bench.run(&spec).await;
    assert!(
        output.contains("tried all") && !output.contains("said"),
        "{output}"
    );
}
