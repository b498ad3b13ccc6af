use tappaas_core::{
    ErrorKind, Result,
    backend::{BuildOutcome, Builder as _},
    manifest::{Bytes, Seconds},
};
use tappaas_local::Isolation;

use super::bench::{Bench, shell, text};

/// Builds with a line for the shell; returns what it came to and its log.
async fn run(bench: &Bench, line: &str) -> (Result<BuildOutcome>, String) {
    let source = bench.upload(&[("Procfile", "web: true\n")]).await;
    let builder = bench.builder().await;
    let built = builder.build(&shell("1", source, line)).await;
    let log = text(&builder, "1").await;
    builder.close().await;
    (built, log)
}

async fn assert_exceeded(bench: &Bench, line: &str, limit: &str) {
    let (built, log) = run(bench, line).await;
    let error = built.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exhausted, "{error:?}\n{log}");
    assert!(error.message().contains(limit), "{error}\n{log}");
}

/// Says so, and returns true, if limits cannot hold here.
fn without_limits(test: &str) -> bool {
    let plain = !nix::unistd::geteuid().is_root();
    if plain {
        eprintln!("!!! NOT TESTED, FOR IT NEEDS ROOT: {test}");
    }
    plain
}

#[tokio::test]
async fn memory_is_limited_also_that_of_a_child() {
    if without_limits("the memory limit of builds") {
        return;
    }
    let mut bench = Bench::new().await;
    bench.config.limits.memory = Bytes(64 << 20);
    let hungry = "head -c 200000000 /dev/zero | tail | wc -c; exit 1";
    assert_exceeded(&bench, hungry, "64 MiB of memory").await;
}

#[tokio::test]
async fn time_is_limited_over_all_steps() {
    let mut bench = Bench::new().await;
    bench.config.limits.time = Seconds(1);
    assert_exceeded(&bench, "sleep 300", "1 seconds").await;
}

#[tokio::test]
async fn processes_are_limited() {
    if without_limits("the process limit of builds") {
        return;
    }
    let mut bench = Bench::new().await;
    bench.config.limits.pids = 20;
    let swarm = "i=0; while [ $i -lt 100 ]; do sleep 300 & i=$((i+1)); done; wait";
    assert_exceeded(&bench, swarm, "20 processes and threads").await;
}

#[tokio::test]
async fn disk_space_is_limited_to_the_byte_where_root_can_mount() {
    if without_limits("the disk limit of builds") {
        return;
    }
    let mut bench = Bench::new().await;
    bench.config.limits.disk = Bytes(64 << 20);
    for folder in ["/app", "/scratch", "/cache"] {
        let greedy = format!("head -c 300000000 /dev/zero > {folder}/big; ls -l {folder}; exit 1");
        assert_exceeded(&bench, &greedy, "64 MiB of disk space").await;
    }
    let disk = std::fs::read_dir(bench.config.data_dir.join("disk"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    assert_eq!(
        std::fs::metadata(disk.join("disk")).unwrap().len(),
        64 << 20
    );
    // What was written is gone, and nothing stays mounted.
    let (built, log) = run(&bench, "ls /cache; test ! -e /cache/big").await;
    built.unwrap_or_else(|error| panic!("{error:?}\n{log}"));
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(
        !mounts.contains(bench.folder.path().to_str().unwrap()),
        "{mounts}"
    );
}

#[tokio::test]
async fn a_source_that_does_not_fit_is_told_so() {
    if without_limits("the disk limit of builds") {
        return;
    }
    let mut bench = Bench::new().await;
    bench.config.limits.disk = Bytes(64 << 20);
    let large = "x".repeat(100 << 20);
    let error = bench
        .build("x", &[("index.html", &large)])
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exhausted);
    assert!(
        error
            .message()
            .contains("the source does not fit into the limit of 64 MiB"),
        "{error}"
    );
}

#[tokio::test]
async fn disk_space_is_measured_where_nobody_can_mount() {
    let mut bench = Bench::new().await;
    bench.parts.confines.isolation = Isolation::Rootless;
    bench.config.limits.disk = Bytes(64 << 20);
    let greedy = "head -c 100000000 /dev/zero > /app/big; sleep 300";
    assert_exceeded(&bench, greedy, "64 MiB of disk space").await;
}

#[tokio::test]
async fn a_build_whose_limit_the_machine_does_not_have_is_refused() {
    let mut bench = Bench::new().await;
    bench.config.limits.memory = Bytes(1 << 50);
    let (built, log) = run(&bench, "echo it runs").await;
    let error = built.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exhausted, "{error:?}");
    let told = error.message();
    assert!(
        told.contains("a build may take 1024 TiB of memory, and this machine has")
            && told.contains("set `memory` in the `limits`"),
        "{told}"
    );
    assert!(!log.contains("it runs\n"), "{log}");
}

#[tokio::test]
async fn a_build_leaves_room_on_the_machines_own_disk() {
    if without_limits("that builds leave room on a disk") {
        return;
    }
    for (size, line, told) in [
        (200, "echo it runs; exit 1", "has 1"),
        (
            400,
            "head -c 300000000 /dev/urandom > /app/big; sleep 300",
            " left, and",
        ),
    ] {
        let bench = Bench::new().await;
        let place = &bench.config.data_dir;
        std::fs::create_dir_all(place).unwrap();
        let _mounted = Mounted::at(place, size);
        let (built, log) = run(&bench, line).await;
        let error = built.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Exhausted, "{error:?}\n{log}");
        assert!(error.message().contains(told), "{error}");
        assert!(
            error
                .message()
                .contains("builds leave 256 MiB to the rest of this machine: free some"),
            "{error}"
        );
        assert!(!log.contains("it runs\n"), "{log}");
    }
}

/// A small disk for the builder's folder.
struct Mounted(std::path::PathBuf);

impl Mounted {
    fn at(place: &std::path::Path, mebibytes: u32) -> Self {
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={mebibytes}m"), "tmpfs"])
            .arg(place)
            .status();
        assert!(mounted.unwrap().success());
        Self(place.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount")
            .arg("--lazy")
            .arg(&self.0)
            .status();
    }
}

#[tokio::test]
async fn a_cache_that_takes_more_than_half_of_the_disk_begins_anew() {
    let mut bench = Bench::new().await;
    bench.config.limits.disk = Bytes(64 << 20);
    for line in [
        "touch /cache/small",
        "rm /cache/small && head -c 40000000 /dev/zero > /cache/large",
        // Empty files take no space, and what room there is for files.
        "test ! -e /cache/large && cd /cache && seq 1 12000 | xargs touch",
        "test ! -e /cache/1",
    ] {
        let (built, log) = run(&bench, line).await;
        built.unwrap_or_else(|error| panic!("{line}: {error:?}\n{log}"));
    }
}

#[tokio::test]
async fn a_build_sees_its_source_its_stack_and_its_cache_and_nothing_else() {
    let bench = Bench::new().await;
    std::fs::write(bench.folder.path().join("secret"), "canary").unwrap();
    let look = r"
        echo uid=$(id -u)
        echo top: $(ls /)
        cat /etc/shadow ~root/.profile /proc/1/root/etc/shadow 2>&1 | head -5
        ls /home /var /opt 2>&1 | head -5
        for name in /usr/x /etc/x /x; do echo x 2>/dev/null > $name && echo wrote $name; done
        grep -E 'NoNewPrivs|Seccomp:|CapEff' /proc/self/status
        echo interfaces: $(ls /sys/class/net 2>/dev/null)
        ls /proc | grep -c '^[0-9]'
        true
    ";
    let (built, log) = run(&bench, look).await;
    built.unwrap_or_else(|error| panic!("{error:?}\n{log}"));
    for seen in [
        "uid=19999",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
        "CapEff:\t0000000000000000",
        "app",
        "cache",
        "scratch",
    ] {
        assert!(log.contains(seen), "{seen} is not in\n{log}");
    }
    for unseen in ["root:x:", "root:$", "canary", "wrote", "eth0", "tpb"] {
        let steps = log
            .lines()
            .skip_while(|line| !line.contains("true"))
            .collect::<Vec<_>>()
            .join("\n");
        assert!(!steps.contains(unseen), "{unseen} is in\n{steps}");
    }
}

#[tokio::test]
async fn a_failed_step_is_told_with_its_last_line() {
    let bench = Bench::new().await;
    let (built, log) = run(
        &bench,
        "echo fine; echo 'no such module: greet' >&2; exit 3",
    )
    .await;
    let error = built.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!(
        error.message(),
        "`build` exited with code 3: no such module: greet",
        "{log}"
    );
    assert!(
        log.contains("build: fine\n") && log.contains("build: no such module: greet\n"),
        "{log}"
    );
    assert!(
        log.ends_with("build: failed: `build` exited with code 3: no such module: greet\n"),
        "{log}"
    );
}

#[tokio::test]
async fn of_a_long_log_the_beginning_and_the_end_are_kept() {
    let mut bench = Bench::new().await;
    bench.config.limits.log = Bytes(1 << 20);
    let (built, log) = run(&bench, "seq 1 60000; echo the very end; exit 1").await;
    assert!(built.unwrap_err().message().ends_with("the very end"));
    assert!(
        log.contains("build: 1\nbuild: 2\n") && log.contains("build: 60000\nbuild: the very end\n")
    );
    assert!(log.contains(" lines are left out here"), "{}", log.len());
    let files = std::fs::read_dir(bench.config.data_dir.join("log")).unwrap();
    let sizes: Vec<_> = files
        .map(|file| file.unwrap().metadata().unwrap().len())
        .collect();
    assert!(sizes.len() == 1 && sizes[0] < (1 << 20) + 1000, "{sizes:?}");
}

#[tokio::test]
async fn the_configured_environment_reaches_builds_and_their_images_have_none_of_it() {
    let mut bench = Bench::new().await;
    let variable = (
        "REGISTRY_URL".to_owned(),
        tappaas_core::model::EnvValue::new("https://mirror/"),
    );
    bench.config.environment.extend([variable]);
    let (built, log) = run(&bench, "echo from $REGISTRY_URL in $PWD").await;
    assert!(log.contains("from https://mirror/ in /app"), "{log}");
    let config = bench.config_of(&built.unwrap()).await;
    assert!(!config.to_string().contains("REGISTRY_URL"));
}

#[tokio::test]
async fn without_a_sandbox_only_what_needs_no_command_is_built() {
    let mut bench = Bench::new().await;
    bench.parts.confines.isolation = Isolation::None;
    bench.build("site", &[("index.html", "")]).await.unwrap();
    let (built, _) = run(&bench, "true").await;
    assert_eq!(built.unwrap_err().kind(), ErrorKind::Unsupported);
}
