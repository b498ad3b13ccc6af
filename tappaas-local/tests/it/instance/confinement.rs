use std::fs;

use tappaas_local::{Bind, Phase, User};

use super::{
    bench::{Bench, needs_root, wait_for, wait_for_output},
    inside,
};

#[tokio::test]
async fn a_process_has_no_rights_and_a_filter_on_its_system_calls() {
    let bench = Bench::new().await;
    let script =
        "id -u; id -g; grep -E '^(Cap|NoNewPrivs|Seccomp)' /proc/self/status | tr -d '\\t'";
    let (output, status) = bench.run(&bench.spec("rights", script)).await;
    let none = "0000000000000000";
    let expected = format!(
        "20001\n20001\nCapInh:{none}\nCapPrm:{none}\nCapEff:{none}\nCapBnd:{none}\nCapAmb:{none}\nNoNewPrivs:1\nSeccomp:2\nSeccomp_filters:2\n"
    );
    assert_eq!(output, expected);
    assert!(status.exit.unwrap().success());
    bench.check_census().await;
}

#[tokio::test]
async fn calls_that_reach_for_the_kernel_are_refused() {
    let bench = Bench::new().await;
    for test in [
        "calls_that_reach_for_the_kernel_are_refused",
        "what_would_lead_out_of_the_sandbox_is_refused",
        "only_its_own_devices_processes_and_addresses_are_seen",
        "threads_and_processes_can_be_started",
    ] {
        let mut spec = bench.spec("calls", "");
        inside::run(&mut spec, test);
        let (output, status) = bench.run(&spec).await;
        assert!(output.contains("1 passed"), "{output}\n{status:?}");
    }
}

#[tokio::test]
async fn of_the_machine_only_the_stack_is_seen_and_none_of_it_can_be_written() {
    let bench = Bench::new().await;
    fs::write(bench.path().join("secret"), "of the machine").unwrap();
    let secret = bench.path().join("secret").display().to_string();
    let script = format!(
        "ls -A / 2>&1; echo; cat {secret} /etc/shadow /var/lib/dpkg/status 2>&1; \
         for place in / /usr /etc /proc/sys /dev; do touch $place/new 2>/dev/null && echo WRITTEN $place; done; \
         for file in /proc/sys/kernel/hostname /proc/sysrq-trigger; do (echo x > $file) 2>/dev/null && echo WRITTEN $file; done; \
         cat /proc/keys /proc/interrupts; ls /sys/firmware 2>/dev/null; hostname; tail -1 /etc/hosts"
    );
    let (output, _) = bench.run(&bench.spec("view", &script)).await;
    let entries = output.lines().take_while(|line| !line.is_empty());
    let allowed = [
        "bin", "dev", "etc", "lib", "lib32", "lib64", "libx32", "proc", "sbin", "sys", "tmp", "usr",
    ];
    assert!(entries.clone().count() >= 6);
    assert!(
        entries.clone().all(|entry| allowed.contains(&entry)),
        "{:?}",
        entries.collect::<Vec<_>>()
    );
    assert_eq!(output.matches("No such file").count(), 3, "{output}");
    assert!(!output.contains("WRITTEN"), "{output}");
    assert!(output.ends_with("box\n127.0.0.1 box\n"), "{output}");
    bench.check_census().await;
}

#[tokio::test]
async fn the_temporary_folder_has_a_bound_and_is_shared_with_nobody() {
    let bench = Bench::new().await;
    let script = "head -c 32000000 /dev/zero > /tmp/full; stat -c %s /tmp/full; ls /tmp";
    let (output, _) = bench.run(&bench.spec("tmp", script)).await;
    // What comes by one stream may be read before what came earlier by the other.
    for told in ["No space left", "16777216\n", "full\n"] {
        assert!(output.contains(told), "{output}");
    }
}

#[tokio::test]
async fn values_of_the_environment_are_in_no_file_and_no_argument() {
    let bench = Bench::new().await;
    let instance = bench
        .start(&bench.spec("env", "echo $TOKEN | tr 7 x; exec sleep 60"))
        .await;
    wait_for_output(instance.dir(), "canary-xf3a").await;
    let found = grep(instance.dir(), b"canary-7f3a");
    assert!(found.is_empty(), "{found:?}");
    for process in fs::read_dir("/proc").unwrap().flatten() {
        let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&line).contains("canary-7f3a"));
    }
    instance.remove().await.unwrap();
    bench.check_census().await;
}

#[tokio::test]
async fn folders_bound_read_only_stay_so_and_others_keep_what_is_written() {
    let bench = Bench::new().await;
    let folder = |name: &str| {
        let folder = bench.dir(name);
        fs::create_dir(&folder).unwrap();
        if nix::unistd::geteuid().is_root() {
            std::os::unix::fs::chown(&folder, Some(20_001), Some(20_001)).unwrap();
        }
        folder
    };
    let mut spec = bench.spec(
        "binds",
        "echo kept > /data/file; echo lost > /fixed/file; ls /deep/er/place",
    );
    for (name, target, read_only) in [
        ("data", "/data", false),
        ("fixed", "/fixed", true),
        ("deep", "/deep/er/place", true),
    ] {
        spec.binds.push(Bind {
            source: folder(name),
            target: target.into(),
            read_only,
        });
    }
    let (output, _) = bench.run(&spec).await;
    assert!(output.contains("Read-only file system"), "{output}");
    assert_eq!(
        fs::read_to_string(bench.dir("data/file")).unwrap(),
        "kept\n"
    );
    assert!(!bench.dir("fixed/file").exists());
}

#[tokio::test]
async fn layers_lie_over_each_other_and_a_writable_root_keeps_what_is_written() {
    let bench = Bench::new().await;
    let mut spec = bench.spec(
        "layers",
        "cat /app/a /app/b; (echo new > /app/c) 2>/dev/null || exit 3; cat /app/c",
    );
    for (layer, files) in [
        ("upper", [("a", "upper a\n"), ("b", "")].as_slice()),
        ("lower", &[("a", "lower a\n"), ("b", "lower b\n")]),
    ] {
        let folder = bench.dir(layer).join("app");
        fs::create_dir_all(&folder).unwrap();
        if nix::unistd::geteuid().is_root() {
            std::os::unix::fs::chown(&folder, Some(20_001), Some(20_001)).unwrap();
        }
        for (name, text) in files.iter().filter(|(_, text)| !text.is_empty()) {
            fs::write(folder.join(name), text).unwrap();
        }
    }
    spec.root
        .layers
        .splice(0..0, [bench.dir("upper"), bench.dir("lower")]);
    let (output, status) = bench.run(&spec).await;
    assert!(output.starts_with("upper a\nlower b\n"), "{output}");
    assert_eq!(status.exit.unwrap().code, Some(3));
    fs::create_dir(bench.dir("kept")).unwrap();
    spec.root.writable = Some(bench.dir("kept"));
    let (output, status) = bench.run(&spec).await;
    assert!(
        output.ends_with("new\n") && status.exit.unwrap().success(),
        "{output}"
    );
    assert_eq!(
        fs::read_to_string(bench.dir("kept/upper/app/c")).unwrap(),
        "new\n"
    );
    bench.check_census().await;
}

#[tokio::test]
async fn root_inside_is_nobody_outside() {
    let bench = Bench::new().await;
    let mut spec = bench.spec("root", "id -u; grep -E '^(CapEff|CapBnd|Seccomp:)' /proc/self/status | tr -d '\\t'; readlink /proc/self/ns/user; exec sleep 60");
    spec.user = User::Root { host: 300_000 };
    let instance = bench.start(&spec).await;
    wait_for_output(instance.dir(), "user:").await;
    let output = super::bench::output(instance.dir());
    // Of the 41 capabilities, over ids of its own namespace alone: chown, dac_override, fowner, fsetid, kill, setgid, setuid.
    assert!(
        output.starts_with("0\nCapEff:00000000000000fb\nCapBnd:00000000000000fb\nSeccomp:2\n"),
        "{output}"
    );
    let own = fs::read_link("/proc/self/ns/user")
        .unwrap()
        .display()
        .to_string();
    assert!(!output.contains(&own), "{output}");
    let pid = instance.status().await.unwrap().pid.unwrap();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let outside = if nix::unistd::geteuid().is_root() {
        "300000".to_owned()
    } else {
        nix::unistd::getuid().to_string()
    };
    assert!(
        status
            .lines()
            .any(|line| line.starts_with("Uid:") && line.contains(&outside)),
        "{status}"
    );
    let mut command = instance
        .exec(
            ["/usr/bin/id", "-u"].map(str::to_owned).to_vec(),
            None,
            None,
        )
        .await
        .unwrap();
    assert_eq!(super::commands::stdout(&mut command).await, "0\n");
    assert_eq!(command.wait().await.unwrap(), 0);
    instance.remove().await.unwrap();
    bench.check_census().await;
}

#[tokio::test]
async fn supplementary_groups_of_the_server_do_not_reach_inside() {
    if needs_root("dropping supplementary groups") {
        return;
    }
    let bench = Bench::new().await;
    let (output, _) = bench
        .run(&bench.spec("groups", "grep Groups /proc/self/status"))
        .await;
    assert_eq!(output.trim_end(), "Groups:\t20001");
}

#[tokio::test]
async fn a_restart_gets_a_root_as_fresh_as_the_first() {
    let bench = Bench::new().await;
    let mut spec = bench.spec("fresh", "ls -A /tmp; touch /tmp/left; exit 1");
    spec.restart.policy = tappaas_core::model::RestartPolicy::OnFailure;
    let instance = bench.start(&spec).await;
    let mut status = instance.subscribe().await.unwrap();
    wait_for(&mut status, |status| {
        status.restarts >= 2 && status.phase == Phase::Waiting
    })
    .await;
    assert_eq!(super::bench::output(instance.dir()), "");
    instance.remove().await.unwrap();
    bench.check_census().await;
}

fn grep(folder: &std::path::Path, needle: &[u8]) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(grep(&path, needle));
        } else if fs::read(&path)
            .is_ok_and(|bytes| bytes.windows(needle.len()).any(|window| window == needle))
        {
            found.push(path);
        }
    }
    found
}
