//! What becomes of instances when the server, their supervisors or their processes end.

use std::{fs, path::Path, time::Duration};

use rustix::process::{Pid, Signal, kill_process};
use tappaas_core::{
    Batch, Durable as _,
    backend::{InstanceState, Mount, Peer, Scheduler as _, WorkloadStatus},
    model::{EnvValue, Port, RestartPolicy},
};
use tappaas_testkit::{
    Program,
    conformance::scheduler::{SchedulerFixture as _, Stage},
};

use super::Machine;

async fn serving(machine: &Machine) -> tappaas_core::backend::Template {
    let program = Program::Serve {
        name: "a".to_owned(),
        latency: Duration::ZERO,
    };
    let mut template = machine.template(&program).await;
    template.restart = RestartPolicy::Always;
    template.ports.push(Port::undeclared());
    template
        .environment
        .insert("PORT".to_owned(), EnvValue::new("8080"));
    template
}

fn signal(processes: &[i32], signal: Signal) {
    for pid in processes {
        kill_process(Pid::from_raw(*pid).unwrap(), signal).unwrap();
    }
}

/// The supervisors of a machine's instances.
fn shims(folder: &Path) -> Vec<i32> {
    let text = folder.to_str().unwrap();
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let of_folder = |pid: &i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(text)
    };
    pids.filter(of_folder).collect()
}

#[tokio::test]
async fn a_restarted_server_finds_its_instances_ready_and_untouched() {
    let machine = Machine::new().await;
    let id = {
        let mut stage = Stage::new(&machine);
        let template = serving(&machine).await;
        stage.apply(&[(1, 2, &template)]).await.unwrap();
        stage.ready(2).await.unwrap();
        stage.id.clone()
    };
    let before = machine.local().observe(&id).await.unwrap().unwrap();
    machine.restart().await;
    // At once, so that no route ever loses its targets.
    let after = machine.local().observe(&id).await.unwrap().unwrap();
    let facts = |status: &WorkloadStatus| {
        let fact = |one: &tappaas_core::backend::InstanceStatus| {
            (
                one.id.clone(),
                one.ready,
                one.endpoints.clone(),
                one.restarts,
            )
        };
        (
            status.generation,
            status.content.clone(),
            status.instances.iter().map(fact).collect::<Vec<_>>(),
        )
    };
    assert_eq!(facts(&before), facts(&after));
    let stage = Stage::new(&machine);
    for instance in stage.ready(2).await.unwrap() {
        let endpoint = instance.endpoints.values().next().unwrap();
        assert_eq!(machine.get(endpoint, "/x").await.unwrap(), "a /x");
        assert_eq!(
            (instance.restarts, instance.state),
            (0, InstanceState::Running)
        );
    }
    let ran = stage.exec(&["echo", "still", "here"], "").await.unwrap();
    assert_eq!(ran.output, "still here\n");
}

#[tokio::test]
async fn after_a_reboot_what_was_applied_is_started_again() {
    let machine = Machine::new().await;
    let template = serving(&machine).await;
    let mut stage = Stage::new(&machine);
    stage.apply(&[(1, 1, &template)]).await.unwrap();
    let before = stage.ready(1).await.unwrap();
    drop(stage);
    machine.close();
    // What a reboot leaves: folders whose supervisors and processes are gone.
    signal(&shims(machine.folder.path()), Signal::KILL);
    machine.restart().await;
    let stage = Stage::new(&machine);
    let after = stage.ready(1).await.unwrap();
    assert_ne!(before[0].id, after[0].id);
    let endpoint = after[0].endpoints.values().next().unwrap();
    assert_eq!(machine.get(endpoint, "/").await.unwrap(), "a /");
}

#[tokio::test]
async fn an_instance_whose_supervisor_dies_is_replaced() {
    let machine = Machine::new().await;
    let template = serving(&machine).await;
    let mut stage = Stage::new(&machine);
    stage.apply(&[(1, 1, &template)]).await.unwrap();
    let before = stage.ready(1).await.unwrap();
    signal(&shims(machine.folder.path()), Signal::KILL);
    let replaced = |status: &WorkloadStatus| matches!(status.instances.as_slice(), [only] if only.ready && only.id != before[0].id);
    stage
        .until("another instance is ready alone", replaced)
        .await
        .unwrap();
}

#[tokio::test]
async fn an_instance_whose_supervisor_is_mute_keeps_its_seat_and_its_volume() {
    let machine = Machine::new().await;
    let mut template = serving(&machine).await;
    template.mounts.push(Mount {
        volume: machine.volume().await.unwrap(),
        path: "/data".into(),
        read_only: false,
    });
    let mut stage = Stage::new(&machine);
    stage.apply(&[(1, 1, &template)]).await.unwrap();
    let before = stage.ready(1).await.unwrap();
    let id = stage.id.clone();
    drop(stage);
    machine.close();
    let supervisors = shims(machine.folder.path());
    signal(&supervisors, Signal::STOP);
    machine.restart().await;
    let status = machine.local().observe(&id).await.unwrap().unwrap();
    let ids: Vec<_> = status.instances.iter().map(|one| &one.id).collect();
    assert_eq!(ids, [&before[0].id]);
    assert!(!status.instances[0].ready);
    assert_eq!(shims(machine.folder.path()), supervisors);
    signal(&supervisors, Signal::CONT);
    let stage = Stage::new(&machine);
    let after = stage.ready(1).await.unwrap();
    assert_eq!((&after[0].id, after[0].restarts), (&before[0].id, 0));
    assert_eq!(after[0].endpoints, before[0].endpoints);
}

#[tokio::test]
async fn an_instance_of_a_newer_server_is_left_alone_until_it_has_to_go() {
    let machine = Machine::new().await;
    let template = serving(&machine).await;
    let mut stage = Stage::new(&machine);
    stage.apply(&[(1, 1, &template)]).await.unwrap();
    let before = stage.ready(1).await.unwrap();
    let id = stage.id.clone();
    drop(stage);
    machine.close();
    let supervisors = shims(machine.folder.path());
    let instance = machine
        .folder
        .path()
        .join("instances")
        .join(&before[0].id.0);
    let record = fs::read_to_string(instance.join("instance.json")).unwrap();
    let (head, tail) = record.split_once(r#""version":"#).unwrap();
    let tail = tail.trim_start_matches(|digit: char| digit.is_ascii_digit());
    fs::write(
        instance.join("instance.json"),
        format!(r#"{head}"version":9999{tail}"#),
    )
    .unwrap();
    machine.restart().await;
    let status = machine.local().observe(&id).await.unwrap().unwrap();
    let [only] = status.instances.as_slice() else {
        panic!("{status:?}");
    };
    assert_eq!(only.id, before[0].id);
    assert!(only.reason.as_ref().unwrap().contains("9999"), "{only:?}");
    assert_eq!(shims(machine.folder.path()), supervisors);
    // Dropping the machine ends it: it is told to by a signal.
}

#[tokio::test]
async fn a_workload_that_cannot_be_read_stops_neither_its_instances_nor_the_server() {
    let machine = Machine::new().await;
    let template = serving(&machine).await;
    let mut stage = Stage::new(&machine);
    stage.apply(&[(1, 1, &template)]).await.unwrap();
    let before = stage.ready(1).await.unwrap();
    let key = stage.id.to_string();
    machine.close();
    let table = "local.workloads";
    let applied = machine.durable.get(table, key.as_bytes()).await.unwrap();
    let damaged = Batch::new().put(table, key.as_bytes(), b"{");
    machine.durable.commit(damaged).await.unwrap();
    machine.restart().await;
    assert_eq!(machine.local().list().await.unwrap(), [stage.id.clone()]);
    assert_eq!(machine.local().observe(&stage.id).await.unwrap(), None);
    let endpoint = before[0].endpoints.values().next().unwrap();
    assert_eq!(machine.get(endpoint, "/").await.unwrap(), "a /");
    // Applied again it has the instance that was there all the time.
    let applied = serde_json::from_slice(&applied.unwrap()).unwrap();
    machine.local().apply(&applied).await.unwrap();
    assert_eq!(stage.ready(1).await.unwrap()[0].id, before[0].id);
}

#[tokio::test]
async fn an_application_that_is_deployed_again_at_once_keeps_its_user() {
    let machine = Machine::new().await;
    let template = serving(&machine).await;
    let user = async || {
        let rows = machine
            .durable
            .scan("local.slots", b"application/", None, 9);
        rows.await.unwrap().len()
    };
    for _ in 0..3 {
        let mut stage = Stage::new(&machine);
        stage.apply(&[(1, 1, &template)]).await.unwrap();
        stage.ready(1).await.unwrap();
        machine.local().remove(&stage.id).await.unwrap();
        stage.apply(&[(1, 1, &template)]).await.unwrap();
        stage.ready(1).await.unwrap();
        assert_eq!(user().await, 1);
        machine.local().remove(&stage.id).await.unwrap();
        for _ in 0..1000 {
            if user().await == 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(user().await, 0, "what is removed gives its user back");
    }
}

#[tokio::test]
async fn what_a_removed_application_had_is_given_back_by_the_next_server() {
    let machine = Machine::new().await;
    let mut template = serving(&machine).await;
    let mut stage = Stage::new(&machine);
    template.peers.push(Peer {
        application: "t/p/e/other".parse().unwrap(),
        process: stage.id.process.clone(),
        port: stage.id.process.clone(),
    });
    stage.apply(&[(1, 1, &template)]).await.unwrap();
    stage.ready(1).await.unwrap();
    let workload = stage.id.to_string();
    drop(stage);
    machine.close();
    // What a server leaves that is killed once the last instance of an application is gone.
    signal(&shims(machine.folder.path()), Signal::KILL);
    let removed = Batch::new().delete("local.workloads", workload.as_bytes());
    machine.durable.commit(removed).await.unwrap();
    machine.restart().await;
    let subnets = machine.folder.path().join("network/subnets");
    for _ in 0..1000 {
        let users = machine.durable.scan("local.slots", b"", None, 9);
        let users = users.await.unwrap().len();
        if users == 0 && fs::read_dir(&subnets).map_or(0, Iterator::count) == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("a user or a network is left");
}

#[tokio::test]
async fn a_finished_job_is_not_run_again_by_a_restarted_server() {
    let machine = Machine::new().await;
    let mut stage = Stage::new(&machine);
    let template = machine.script("echo started; exit 3");
    stage.apply(&[(1, 1, &template)]).await.unwrap();
    let before = stage.only(InstanceState::Exited).await.unwrap();
    drop(stage);
    machine.restart().await;
    let stage = Stage::new(&machine);
    let after = stage.only(InstanceState::Exited).await.unwrap();
    assert_eq!((before.id, before.exit), (after.id, after.exit));
    assert_eq!(stage.lines().await.unwrap(), ["started"]);
}
