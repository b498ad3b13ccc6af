use std::time::Duration;

use tappaas_core::{ErrorKind, model::RestartPolicy};
use tappaas_local::{Adopted, Instance, Phase, Stream, run_to_completion};

use super::{
    bench::{Bench, lines, output, wait_for, wait_for_output},
    inside,
};

#[tokio::test]
async fn a_process_that_listens_to_its_stop_signal_ends_by_itself() {
    let bench = Bench::new().await;
    let mut spec = bench.spec("stop", "");
    inside::run(&mut spec, "one_that_stops_when_told");
    let instance = bench.start(&spec).await;
    wait_for_output(instance.dir(), "ready").await;
    let status = instance.stop(None).await.unwrap();
    assert_eq!(
        (status.phase, status.exit.unwrap().code),
        (Phase::Ended, Some(7))
    );
    assert!(output(instance.dir()).contains("bye"));
    instance.remove().await.unwrap();
    bench.check_census().await;
}

#[tokio::test]
async fn a_process_that_ignores_its_stop_signal_is_killed_after_its_grace() {
    let bench = Bench::new().await;
    let mut spec = bench.spec("deaf", "");
    inside::run(&mut spec, "one_that_will_not_stop");
    spec.stop.grace = Duration::from_millis(700);
    let instance = bench.start(&spec).await;
    wait_for_output(instance.dir(), "deaf").await;
    let began = tokio::time::Instant::now();
    let status = instance.stop(None).await.unwrap();
    assert_eq!(status.exit.unwrap().signal, Some(9));
    assert!(began.elapsed() >= Duration::from_millis(700));
    assert!(output(instance.dir()).contains("no\n"));
    instance.remove().await.unwrap();
    bench.check_census().await;
}

#[tokio::test]
async fn a_process_that_knows_nothing_of_signals_does_not_use_up_its_grace() {
    let bench = Bench::new().await;
    let instance = bench
        .start(&bench.spec("naive", "sleep 1000 & echo up; wait"))
        .await;
    wait_for_output(instance.dir(), "up").await;
    let began = tokio::time::Instant::now();
    instance.stop(None).await.unwrap();
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?} of 30 s",
        began.elapsed()
    );
    instance.remove().await.unwrap();
}

#[tokio::test]
async fn a_process_that_keeps_crashing_is_restarted_ever_more_slowly_and_called_a_crash_loop() {
    let bench = Bench::new().await;
    let mut spec = bench.spec("crash", "echo run; exit 3");
    spec.restart.policy = RestartPolicy::Always;
    spec.restart.crash_loop_after = 4;
    let instance = bench.start(&spec).await;
    let mut status = instance.subscribe().await.unwrap();
    let looping = wait_for(&mut status, |status| status.crash_loop).await;
    assert_eq!(
        (looping.restarts, looping.exit.clone().unwrap().code),
        (4, Some(3))
    );
    let pauses: Vec<_> = lines(instance.dir())
        .into_iter()
        .filter(|line| line.stream == Stream::Shim)
        .map(|line| line.text)
        .collect();
    assert!(
        pauses[0].contains("exited with code 3; it is started again in 0.0 s"),
        "{pauses:?}"
    );
    assert!(
        pauses[3].contains("in 0.1 s") || pauses[3].contains("in 0.2 s"),
        "{pauses:?}"
    );
    // It can be stopped while nothing runs, at once.
    let began = tokio::time::Instant::now();
    assert_eq!(instance.stop(None).await.unwrap().phase, Phase::Ended);
    assert!(began.elapsed() < Duration::from_secs(5));
    instance.remove().await.unwrap();
    bench.check_census().await;
}

#[tokio::test]
async fn a_killed_process_is_started_again_when_its_policy_says_so() {
    let bench = Bench::new().await;
    let mut spec = bench.spec("again", "echo up; exec sleep 60");
    spec.restart.policy = RestartPolicy::OnFailure;
    let instance = bench.start(&spec).await;
    let mut status = instance.subscribe().await.unwrap();
    let first = wait_for(&mut status, |status| status.phase == Phase::Running)
        .await
        .pid;
    instance.restart().await.unwrap();
    let second = wait_for(&mut status, |status| {
        status.restarts == 1 && status.phase == Phase::Running
    })
    .await;
    assert_ne!(first, second.pid);
    assert_eq!(second.exit.unwrap().signal, Some(9));
    instance.remove().await.unwrap();
    bench.check_census().await;
}

#[tokio::test]
async fn a_success_ends_an_instance_whose_policy_is_about_failures() {
    let bench = Bench::new().await;
    let mut spec = bench.spec("once", "exit 0");
    spec.restart.policy = RestartPolicy::OnFailure;
    let (_, status) = bench.run(&spec).await;
    assert!(status.exit.unwrap().success() && status.restarts == 0);
}

#[tokio::test]
async fn what_cannot_be_executed_is_no_instance() {
    let bench = Bench::new().await;
    let cases = [
        (
            vec!["no-such-program"],
            "no-such-program is in none of the folders of PATH",
        ),
        (vec!["/no/such/program"], "/no/such/program does not exist"),
        (vec!["/etc/passwd"], "cannot execute /etc/passwd"),
    ];
    for (command, reason) in cases {
        let mut spec = bench.spec("wrong", "");
        spec.command = command.into_iter().map(str::to_owned).collect();
        let error = Instance::start(&bench.helper(), &bench.dir("wrong"), &spec)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains(reason), "{error}");
        assert!(!matches!(
            Instance::adopt(&bench.dir("wrong")).await.unwrap(),
            Adopted::Alive(_)
        ));
    }
    let mut spec = bench.spec("wrong", "true");
    spec.root.layers.push("/no/such/layer".into());
    let error = Instance::start(&bench.helper(), &bench.dir("wrong"), &spec)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("/no/such/layer"), "{error}");
    let error = Instance::start(
        "/no/such/helper".as_ref(),
        &bench.dir("wrong"),
        &bench.spec("wrong", "true"),
    )
    .await;
    assert!(error.unwrap_err().to_string().contains("/no/such/helper"));
    bench.check_census().await;
}

#[tokio::test]
async fn one_folder_holds_one_instance() {
    let bench = Bench::new().await;
    let spec = bench.spec("single", "exec sleep 60");
    let instance = bench.start(&spec).await;
    let error = Instance::start(&bench.helper(), instance.dir(), &spec)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert_eq!(instance.status().await.unwrap().phase, Phase::Running);
    instance.remove().await.unwrap();
}

#[tokio::test]
async fn twenty_instances_run_side_by_side_and_leave_nothing() {
    let bench = Bench::new().await;
    let specs: Vec<_> = (0..20)
        .map(|number| bench.spec(&format!("many-{number}"), "echo up; exec sleep 60"))
        .collect();
    let mut starts = tokio::task::JoinSet::new();
    for spec in &specs {
        let (helper, dir, spec) = (bench.helper(), bench.dir(bench.short(spec)), spec.clone());
        starts.spawn(async move { Instance::start(&helper, &dir, &spec).await.unwrap() });
    }
    let instances = starts.join_all().await;
    for instance in &instances {
        wait_for_output(instance.dir(), "up").await;
    }
    let mut stops = tokio::task::JoinSet::new();
    for instance in instances {
        stops.spawn(async move { instance.remove().await.unwrap() });
    }
    stops.join_all().await;
    bench.check_census().await;
}

#[tokio::test]
async fn a_build_runs_to_its_end_with_its_output_streamed() {
    let bench = Bench::new().await;
    let (sender, mut receiver) = tokio::sync::mpsc::channel(4);
    let spec = bench.spec(
        "build",
        "for i in 1 2 3; do echo line $i; done; echo wrong >&2; exit 4",
    );
    let (helper, dir) = (bench.helper(), bench.dir("build"));
    let build = tokio::spawn(async move { run_to_completion(&helper, &dir, &spec, &sender).await });
    let mut seen = Vec::new();
    while let Some(line) = receiver.recv().await {
        seen.push((line.stream, line.text));
    }
    let status = build.await.unwrap().unwrap();
    assert_eq!(status.exit.unwrap().code, Some(4));
    let stdout: Vec<_> = seen
        .iter()
        .filter(|(stream, _)| *stream == Stream::Stdout)
        .map(|(_, text)| text.as_str())
        .collect();
    assert_eq!(stdout, ["line 1", "line 2", "line 3"]);
    assert!(seen.contains(&(Stream::Stderr, "wrong".to_owned())));
    bench.check_census().await;
}

#[tokio::test]
async fn a_broken_pipe_kills_as_it_does_everywhere_else() {
    let bench = Bench::new().await;
    let (output, _) = bench
        .run(&bench.spec(
            "pipe",
            "(yes; echo $? >&2) | head -1; grep SigIgn /proc/self/status",
        ))
        .await;
    let ignored = output
        .lines()
        .find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok());
    let pipe = 1 << (libc::SIGPIPE - 1);
    assert!(
        ignored.is_some_and(|mask| mask & pipe == 0) && output.contains("141"),
        "{output}"
    );
}
