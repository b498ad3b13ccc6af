use std::time::Duration;

use tappaas_core::ErrorKind;
use tappaas_local::{Execution, Streams};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use super::bench::{Bench, PATIENCE, until};

/// Everything a command writes to its standard output.
pub(super) async fn stdout(execution: &mut Execution) -> String {
    let Streams::Pipes { stdout, .. } = &mut execution.streams else {
        panic!("there is a terminal");
    };
    let mut text = String::new();
    timeout(PATIENCE, stdout.read_to_string(&mut text))
        .await
        .unwrap()
        .unwrap();
    text
}

fn shell(script: &str) -> Vec<String> {
    ["/bin/sh", "-c", script].map(str::to_owned).to_vec()
}

#[tokio::test]
async fn a_command_runs_as_confined_as_the_process_itself() {
    let bench = Bench::new().await;
    let instance = bench.start(&bench.spec("exec", "exec sleep 60")).await;
    let script = "id -u; echo $TOKEN; pwd; grep -E '^(CapBnd|NoNewPrivs|Seccomp):' /proc/self/status | tr -d '\\t'; \
                  tr '\\0' ' ' < /proc/1/cmdline; echo; touch /new; exit 7";
    let mut command = instance.exec(shell(script), None, None).await.unwrap();
    let output = stdout(&mut command).await;
    let expected =
        "20001\ncanary-7f3a\n/tmp\nCapBnd:0000000000000000\nNoNewPrivs:1\nSeccomp:2\nsleep 60 \n";
    assert_eq!(output, expected);
    assert_eq!(command.wait().await.unwrap(), 7);
    let namespaces = "readlink /proc/self/ns/mnt /proc/self/ns/net /proc/self/ns/pid /proc/self/ns/ipc /proc/self/ns/uts";
    let mut inside = instance
        .exec(
            shell(&format!(
                "{namespaces}; cd /proc/1/ns; readlink mnt net pid ipc uts"
            )),
            None,
            None,
        )
        .await
        .unwrap();
    let links = stdout(&mut inside).await;
    let (own, first): (Vec<_>, Vec<_>) = (
        links.lines().take(5).collect(),
        links.lines().skip(5).collect(),
    );
    assert_eq!(own, first);
    let in_groups = std::fs::read_to_string(format!(
        "/proc/{}/cgroup",
        instance.status().await.unwrap().pid.unwrap()
    ))
    .unwrap();
    if in_groups.contains("/tappaas/") {
        let mut cat = instance
            .exec(
                shell("cat /proc/self/cgroup /proc/1/cgroup | sort | uniq -u"),
                None,
                None,
            )
            .await
            .unwrap();
        assert_eq!(stdout(&mut cat).await, "");
    }
    instance.remove().await.unwrap();
    bench.check_census().await;
}

#[tokio::test]
async fn input_reaches_a_command_and_ends_when_it_is_closed() {
    let bench = Bench::new().await;
    let instance = bench.start(&bench.spec("stdin", "exec sleep 60")).await;
    let command = instance
        .exec(shell("cat; echo error >&2"), Some("/".into()), None)
        .await
        .unwrap();
    let Streams::Pipes {
        stdin,
        stdout,
        stderr,
    } = command.streams
    else {
        panic!("there is a terminal");
    };
    let (mut stdin, mut stdout, mut stderr) = (stdin, stdout, stderr);
    let text = "x".repeat(300_000);
    let write = async {
        stdin.write_all(text.as_bytes()).await.unwrap();
        drop(stdin);
    };
    let (mut echoed, mut errors) = (String::new(), String::new());
    let read = async {
        stdout.read_to_string(&mut echoed).await.unwrap();
        stderr.read_to_string(&mut errors).await.unwrap();
    };
    timeout(PATIENCE, async { tokio::join!(write, read) })
        .await
        .unwrap();
    assert!(echoed == text && errors == "error\n");
    instance.remove().await.unwrap();
}

#[tokio::test]
async fn a_command_can_run_on_a_terminal() {
    let bench = Bench::new().await;
    let instance = bench.start(&bench.spec("tty", "exec sleep 60")).await;
    let command = instance
        .exec(
            shell("tty; stty size; read line; echo \"got $line\""),
            None,
            Some((120, 40)),
        )
        .await
        .unwrap();
    let Streams::Terminal(terminal) = &command.streams else {
        panic!("there is no terminal");
    };
    terminal.write(b"hello\n").await.unwrap();
    let mut output = Vec::new();
    timeout(PATIENCE, async {
        let mut buffer = [0; 1024];
        loop {
            match terminal.read(&mut buffer).await.unwrap() {
                0 => break,
                count => output.extend(&buffer[..count]),
            }
        }
    })
    .await
    .unwrap();
    let output = String::from_utf8(output).unwrap();
    assert!(
        output.contains("/dev/pts/0") && output.contains("40 120") && output.contains("got hello"),
        "{output}"
    );
    instance.remove().await.unwrap();
    bench.check_census().await;
}

#[tokio::test]
async fn a_command_that_does_not_exist_is_told_by_name() {
    let bench = Bench::new().await;
    let instance = bench.start(&bench.spec("none", "exec sleep 60")).await;
    for command in ["no-such-program", "/no/such/program"] {
        let error = instance
            .exec(vec![command.to_owned()], None, None)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains(command), "{error}");
    }
    assert!(instance.status().await.unwrap().pid.is_some());
    instance.remove().await.unwrap();
}

#[tokio::test]
async fn a_command_ends_when_nobody_looks_any_more() {
    let bench = Bench::new().await;
    let instance = bench.start(&bench.spec("gone", "exec sleep 60")).await;
    let command = instance
        .exec(shell("exec sleep 1234"), None, None)
        .await
        .unwrap();
    let there = || async {
        let mut list = instance
            .exec(shell("cat /proc/[0-9]*/cmdline | tr '\\0' ' '"), None, None)
            .await
            .unwrap();
        stdout(&mut list).await.contains("sleep 1234")
    };
    until("the command runs", there).await.unwrap();
    drop(command);
    until("the command is gone", || async { !there().await })
        .await
        .unwrap();
    instance.remove().await.unwrap();
}

#[tokio::test]
async fn commands_are_killed_with_their_instance() {
    let bench = Bench::new().await;
    let instance = bench.start(&bench.spec("both", "exec sleep 60")).await;
    let mut command = instance
        .exec(
            shell("trap '' TERM; echo deaf; while :; do sleep 1; done"),
            None,
            None,
        )
        .await
        .unwrap();
    let Streams::Pipes { stdout, .. } = &mut command.streams else {
        panic!("there is a terminal");
    };
    timeout(PATIENCE, stdout.read_exact(&mut [0; 5]))
        .await
        .unwrap()
        .unwrap();
    instance.stop(Some(Duration::ZERO)).await.unwrap();
    // Killed by the kernel together with the first process: 128 + 9, if the shim still lived to tell.
    assert!(!matches!(command.wait().await, Ok(code) if code != 137));
    instance.remove().await.unwrap();
    bench.check_census().await;
}
