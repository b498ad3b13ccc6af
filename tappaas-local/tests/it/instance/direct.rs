use tappaas_local::{Instance, Isolation, Network, Phase, User};

use super::bench::{Bench, needs_root, output, until, wait_for, wait_for_output};

fn spec(bench: &Bench, id: &str, script: &str) -> tappaas_local::Spec {
    let mut spec = bench.spec(id, script);
    spec.isolation = Isolation::None;
    spec.network = Network::Host;
    spec.binds.clear();
    spec.root = tappaas_local::Root::default();
    spec
}

#[tokio::test]
async fn without_a_sandbox_a_process_runs_supervised_and_its_status_warns() {
    let bench = Bench::new().await;
    let instance = bench
        .start(&spec(&bench, "plain", "echo up $TOKEN; pwd; exec sleep 60"))
        .await;
    wait_for_output(instance.dir(), "up canary-7f3a\n/tmp\n").await;
    let status = instance.status().await.unwrap();
    assert!(
        status
            .notes
            .iter()
            .any(|note| note.contains("without a sandbox")),
        "{:?}",
        status.notes
    );
    assert!(
        status.notes.iter().any(|note| note.contains("do not hold")),
        "{:?}",
        status.notes
    );
    let mut command = instance
        .exec(
            ["sh", "-c", "echo $TOKEN; exit 2"]
                .map(str::to_owned)
                .to_vec(),
            None,
            None,
        )
        .await
        .unwrap();
    assert_eq!(super::commands::stdout(&mut command).await, "canary-7f3a\n");
    assert_eq!(command.wait().await.unwrap(), 2);
    let status = instance.stop(None).await.unwrap();
    assert_eq!(status.exit.unwrap().signal, Some(15));
    instance.remove().await.unwrap();
    bench.check_census().await;
}

#[tokio::test]
async fn without_a_sandbox_what_a_process_leaves_behind_is_found_and_killed() {
    let bench = Bench::new().await;
    let script = "setsid sh -c 'sleep 4321 & sleep 4322' & sleep 0.2; echo left; exit 0";
    let instance = bench.start(&spec(&bench, "leaver", script)).await;
    wait_for(&mut instance.subscribe().await.unwrap(), |status| {
        status.phase == Phase::Ended
    })
    .await;
    let left = || async {
        let processes = std::fs::read_dir("/proc").unwrap().flatten();
        let mut lines =
            processes.filter_map(|process| std::fs::read(process.path().join("cmdline")).ok());
        !lines.any(|line| line.starts_with(b"sleep\x00432"))
    };
    until("orphans are gone", left).await.unwrap();
    assert!(output(instance.dir()).contains("left"));
    instance.remove().await.unwrap();
}

#[tokio::test]
async fn without_a_sandbox_root_still_gives_its_rights_up() {
    if needs_root("changing the user") {
        return;
    }
    let bench = Bench::new().await;
    let (output, _) = bench
        .run(&spec(
            &bench,
            "user",
            "id -u; id -G; grep NoNewPrivs /proc/self/status | tr -d '\\t'",
        ))
        .await;
    assert_eq!(output, "20001\n20001\nNoNewPrivs:1\n");
    let mut as_root = spec(&bench, "root", "id -u");
    as_root.user = User::Root { host: 300_000 };
    let refused = Instance::start(&bench.helper(), &bench.dir("root"), &as_root).await;
    assert!(
        refused.unwrap_err().to_string().contains("root"),
        "root without a sandbox is root"
    );
}
