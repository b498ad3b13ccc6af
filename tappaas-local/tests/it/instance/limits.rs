use std::time::Duration;

use tappaas_local::{Phase, Spec, Status};

use super::{
    bench::{Bench, until, wait_for, wait_for_output},
    inside,
};

/// Where limits do not hold, the status must say so; more cannot be tested.
#[expect(clippy::print_stderr, reason = "what is not tested must be seen")]
fn held(status: &Status, what: &str) -> bool {
    let held = status.enforced.memory && status.enforced.cpu && status.enforced.pids;
    if !held {
        assert!(
            status.notes.iter().any(|note| note.contains("do not hold")),
            "{status:?}"
        );
        eprintln!("!!! NOT TESTED, FOR NO LIMITS HOLD FOR THIS USER: {what}");
    }
    held
}

async fn limits_hold(bench: &Bench, what: &str) -> bool {
    let (_, status) = bench.run(&bench.spec("probe", "true")).await;
    held(&status, what)
}

fn probe(bench: &Bench, id: &str, test: &str) -> Spec {
    let mut spec = bench.spec(id, "");
    inside::run(&mut spec, test);
    spec
}

#[tokio::test]
async fn exceeding_the_memory_limit_kills_and_is_told() {
    let bench = Bench::new().await;
    if limits_hold(&bench, "memory").await {
        let mut spec = probe(&bench, "memory", "a_glutton");
        spec.limits.memory = Some(64 << 20);
        let (_, status) = bench.run(&spec).await;
        let exit = status.exit.unwrap();
        assert!(exit.out_of_memory && exit.signal == Some(9), "{exit:?}");
        assert_eq!(exit.to_string(), "exceeded its memory limit");
    }
    bench.check_census().await;
}

#[tokio::test]
async fn no_more_processes_run_than_allowed() {
    let bench = Bench::new().await;
    if limits_hold(&bench, "processes").await {
        let mut spec = probe(&bench, "pids", "a_breeder");
        spec.limits.pids = Some(20);
        let (output, status) = bench.run(&spec).await;
        let children = output.lines().find_map(|line| {
            line.strip_suffix(" children")?
                .rsplit(' ')
                .next()?
                .parse::<u32>()
                .ok()
        });
        assert!(
            children.is_some_and(|count| (10..20).contains(&count)),
            "{output} {status:?}"
        );
    }
    bench.check_census().await;
}

#[tokio::test]
async fn cpu_time_grows_no_faster_than_allowed() {
    let bench = Bench::new().await;
    if limits_hold(&bench, "CPU").await {
        let mut spec = bench.spec("cpu", "while :; do :; done");
        spec.limits.cpu_millis = Some(200);
        let instance = bench.start(&spec).await;
        let began = tokio::time::Instant::now();
        let busy = || async { instance.usage().await.unwrap().cpu >= Duration::from_millis(300) };
        until("it has used 300 ms", busy).await.unwrap();
        // A fifth of a core: 300 ms take 1.5 s, less one period of the kernel's accounting at each end.
        assert!(
            began.elapsed() >= Duration::from_millis(1_100),
            "{:?}",
            began.elapsed()
        );
        instance.remove().await.unwrap();
    }
}

#[tokio::test]
async fn what_yields_leaves_the_cpu_to_others_and_does_not_starve() {
    let bench = Bench::new().await;
    if !limits_hold(&bench, "CPU").await {
        return;
    }
    // As many busy loops of each as there are cores, so that every core is wanted by both.
    let cores = std::thread::available_parallelism().unwrap();
    let busy = format!("for i in $(seq {cores}); do while :; do :; done & done; wait");
    let mut specs = [bench.spec("yielding", &busy), bench.spec("usual", &busy)];
    for spec in &mut specs {
        spec.limits.cpu_millis = None;
    }
    specs[0].limits.yields = true;
    let [yielding, usual] = [bench.start(&specs[0]).await, bench.start(&specs[1]).await];
    let used = async |instance: &tappaas_local::Instance| instance.usage().await.unwrap().cpu;
    // From when both are at it.
    let before = [used(&yielding).await, used(&usual).await];
    let enough = || async { used(&usual).await >= before[1] + Duration::from_secs(1) };
    until("the usual one has had a second", enough)
        .await
        .unwrap();
    let [had, others] = [
        used(&yielding).await - before[0],
        used(&usual).await - before[1],
    ];
    assert!(10 * had < others, "{had:?} beside {others:?}");
    // Of two cores the kernel would leave it as much as this in a minute and a half.
    let goes_on = || async { used(&yielding).await >= before[0] + Duration::from_millis(500) };
    until("the yielding one goes on all the same", goes_on)
        .await
        .unwrap();
    yielding.remove().await.unwrap();
    usual.remove().await.unwrap();
    bench.check_census().await;
}

#[tokio::test]
async fn usage_is_counted() {
    let bench = Bench::new().await;
    let instance = bench
        .start(&bench.spec(
            "usage",
            "head -c 4000000 /dev/zero > /tmp/data; echo done; sleep 60 & sleep 60",
        ))
        .await;
    wait_for_output(instance.dir(), "done").await;
    let counted = || async {
        let usage = instance.usage().await.unwrap();
        usage.pids >= 3 && usage.memory > 1_000_000
    };
    until("three processes are counted", counted).await.unwrap();
    instance.remove().await.unwrap();
}

#[tokio::test]
async fn what_runs_longer_than_its_deadline_is_killed() {
    let bench = Bench::new().await;
    let mut spec = bench.spec("deadline", "trap '' TERM; while :; do sleep 1; done");
    spec.deadline = Some(Duration::from_millis(300));
    spec.restart.policy = tappaas_core::model::RestartPolicy::Always;
    let instance = bench.start(&spec).await;
    let status = wait_for(&mut instance.subscribe().await.unwrap(), |status| {
        status.phase == Phase::Ended
    })
    .await;
    assert!(status.expired && status.exit.unwrap().signal == Some(9));
    instance.remove().await.unwrap();
    bench.check_census().await;
}
