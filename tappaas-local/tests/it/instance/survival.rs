//! What happens to an instance when a process around it is killed.

use std::{fs, path::Path, process::Stdio};

use rustix::process::Signal;
use tappaas_core::ErrorKind;
use tappaas_local::{Adopted, Instance, Phase, end, reap};

use super::bench::{Bench, output, signal_shim, until, wait_for, wait_for_output};

fn alive(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

async fn adopted(dir: &Path) -> Instance {
    match Instance::adopt(dir).await.unwrap() {
        Adopted::Alive(instance) => instance,
        other => panic!("not alive: {other:?}"),
    }
}

/// A server that starts one instance and then waits to be killed.
#[tokio::test]
#[ignore = "started by another test"]
async fn a_server_that_waits_to_be_killed() {
    let variables: std::collections::BTreeMap<_, _> = std::env::vars().collect();
    let spec = serde_json::from_str(&variables["SPEC"]).unwrap();
    let (helper, dir) = (
        Path::new(&variables["HELPER"]),
        Path::new(&variables["DIR"]),
    );
    Instance::start(helper, dir, &spec).await.unwrap();
    fs::write(dir.join("started"), "").unwrap();
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn an_instance_outlives_its_server_and_is_adopted() {
    let bench = Bench::new().await;
    let spec = bench.spec(
        "orphan",
        "echo up; i=0; while :; do i=$((i+1)); echo tick $i; sleep 0.05; done",
    );
    let program = fs::canonicalize("/proc/self/exe").unwrap();
    let mut server = std::process::Command::new(program)
        .args([
            "--ignored",
            "--exact",
            "instance::survival::a_server_that_waits_to_be_killed",
        ])
        .env("SPEC", serde_json::to_string(&spec).unwrap())
        .env("HELPER", bench.helper())
        .env("DIR", bench.dir("orphan"))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    until("it started", || async {
        bench.dir("orphan/started").exists()
    })
    .await
    .unwrap();
    server.kill().unwrap();
    server.wait().unwrap();
    let before = output(&bench.dir("orphan")).lines().count();
    until("it goes on", || async {
        output(&bench.dir("orphan")).lines().count() > before
    })
    .await
    .unwrap();
    let instance = adopted(&bench.dir("orphan")).await;
    let status = instance.status().await.unwrap();
    assert_eq!((status.phase, status.restarts), (Phase::Running, 0));
    assert!(alive(status.pid.unwrap()));
    instance.stop(None).await.unwrap();
    assert!(matches!(
        Instance::adopt(instance.dir()).await.unwrap(),
        Adopted::Ended(_)
    ));
    instance.remove().await.unwrap();
    bench.check_census().await;
}

#[tokio::test]
async fn an_instance_that_ended_while_nobody_looked_tells_how() {
    let bench = Bench::new().await;
    let instance = bench.start(&bench.spec("ended", "exit 5")).await;
    wait_for(&mut instance.subscribe().await.unwrap(), |status| {
        status.phase == Phase::Ended
    })
    .await;
    let dir = instance.dir().to_owned();
    drop(instance);
    let Adopted::Ended(status) = Instance::adopt(&dir).await.unwrap() else {
        panic!("it has ended");
    };
    assert_eq!(status.exit.unwrap().code, Some(5));
    reap(&dir).await.unwrap();
    assert!(matches!(
        Instance::adopt(&bench.dir("never")).await.unwrap(),
        Adopted::Absent
    ));
    bench.check_census().await;
}

#[tokio::test]
async fn a_process_whose_shim_is_killed_goes_on_until_it_is_reaped() {
    let bench = Bench::new().await;
    let instance = bench
        .start(&bench.spec(
            "lost",
            "(trap '' TERM; while :; do sleep 1; done) & echo up; exec sleep 1000",
        ))
        .await;
    wait_for_output(instance.dir(), "up").await;
    let pid = instance.status().await.unwrap().pid.unwrap();
    let mut status = instance.subscribe().await.unwrap();
    assert_eq!(
        reap(instance.dir()).await.unwrap_err().kind(),
        ErrorKind::Conflict
    );
    signal_shim(instance.dir(), Signal::KILL);
    wait_for(&mut status, |status| status.phase == Phase::Lost).await;
    assert!(alive(pid));
    assert!(matches!(
        Instance::adopt(instance.dir()).await.unwrap(),
        Adopted::Lost
    ));
    reap(instance.dir()).await.unwrap();
    assert!(!alive(pid));
    reap(instance.dir()).await.unwrap();
    bench.check_census().await;
}

#[tokio::test]
async fn whenever_a_shim_is_killed_nothing_is_left_once_it_is_reaped() {
    let bench = Bench::new().await;
    let spec = bench.spec("early", "exec sleep 1000");
    for delay in [0u64, 1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20] {
        let dir = bench.dir("early");
        let (helper, spec, folder) = (bench.helper(), spec.clone(), dir.clone());
        let start = tokio::spawn(async move { Instance::start(&helper, &folder, &spec).await });
        until("the shim noted itself", || async {
            dir.join("instance.json").exists()
        })
        .await
        .unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(delay)).await;
        signal_shim(&dir, Signal::KILL);
        start.await.unwrap().ok();
        let reaped = || async { reap(&dir).await.is_ok() };
        until("it is dead and reaped", reaped).await.unwrap();
        fs::remove_dir_all(&dir).unwrap();
    }
    bench.check_census().await;
}

#[tokio::test]
async fn a_shim_told_to_terminate_stops_its_process_first() {
    let bench = Bench::new().await;
    let instance = bench
        .start(&bench.spec(
            "term",
            "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.1; done",
        ))
        .await;
    wait_for_output(instance.dir(), "up").await;
    signal_shim(instance.dir(), Signal::TERM);
    let status = wait_for(&mut instance.subscribe().await.unwrap(), |status| {
        status.phase == Phase::Ended
    })
    .await;
    assert!(status.exit.unwrap().success());
    assert!(output(instance.dir()).contains("bye"));
    instance.remove().await.unwrap();
    bench.check_census().await;
}

#[tokio::test]
async fn a_shim_that_answers_nothing_is_ended_with_all_that_it_supervised() {
    let bench = Bench::new().await;
    let instance = bench
        .start(&bench.spec("mute", "echo up; exec sleep 1000"))
        .await;
    wait_for_output(instance.dir(), "up").await;
    let pid = instance.status().await.unwrap().pid.unwrap();
    signal_shim(instance.dir(), Signal::STOP);
    assert_eq!(
        reap(instance.dir()).await.unwrap_err().kind(),
        ErrorKind::Conflict
    );
    let patience = std::time::Duration::from_millis(100);
    end(instance.dir(), patience).await.unwrap();
    assert!(!alive(pid));
    assert!(matches!(
        Instance::adopt(instance.dir()).await.unwrap(),
        Adopted::Lost
    ));
    end(instance.dir(), patience).await.unwrap();
    bench.check_census().await;
}

#[tokio::test]
async fn an_instance_whose_record_nobody_can_read_is_not_taken_for_dead() {
    let bench = Bench::new().await;
    let instance = bench
        .start(&bench.spec("riddle", "echo up; exec sleep 1000"))
        .await;
    wait_for_output(instance.dir(), "up").await;
    let record = instance.dir().join("instance.json");
    let readable = fs::read(&record).unwrap();
    fs::write(&record, "{}").unwrap();
    assert_eq!(
        Instance::adopt(instance.dir()).await.unwrap_err().kind(),
        ErrorKind::Unavailable
    );
    assert_eq!(
        reap(instance.dir()).await.unwrap_err().kind(),
        ErrorKind::Conflict
    );
    fs::write(&record, readable).unwrap();
    instance.remove().await.unwrap();
    bench.check_census().await;
}

#[tokio::test]
async fn stopping_an_instance_whose_shim_is_mute_ends_in_time() {
    let bench = Bench::new().await;
    let instance = bench
        .start(&bench.spec("deaf", "echo up; exec sleep 1000"))
        .await;
    wait_for_output(instance.dir(), "up").await;
    signal_shim(instance.dir(), Signal::STOP);
    let stopped = instance.stop(Some(std::time::Duration::ZERO));
    let stopped = tokio::time::timeout(std::time::Duration::from_secs(60), stopped).await;
    let error = stopped.expect("it gives up").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    reap(instance.dir()).await.unwrap();
    instance.remove().await.unwrap();
    bench.check_census().await;
}
