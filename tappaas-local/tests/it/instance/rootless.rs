use std::{os::unix::process::CommandExt, process::Command};

use super::bench::{Bench, HELPER, needs_root};

/// A user whom no machine has.
const SOMEBODY: u32 = 54_321;

#[tokio::test]
async fn a_plain_user_runs_instances_too() {
    if needs_root("becoming another user; the other tests ran as a plain user anyway") {
        return;
    }
    let bench = Bench::new().await;
    if !user_namespaces_work(&bench) {
        eprintln!(
            "!!! NOT TESTED, FOR PLAIN USERS HAVE NO USER NAMESPACES HERE: rootless instances"
        );
        return;
    }
    let program = bench.share(&std::fs::canonicalize("/proc/self/exe").unwrap());
    let output = Command::new(program)
        .args([
            "instance::",
            "--skip",
            "instance::rootless::",
            "--skip",
            "instance::network::bridged",
            "--skip",
            "instance::network::apart",
        ])
        .current_dir("/")
        .env("HOME", "/nonexistent")
        .env(HELPER, bench.helper())
        .uid(SOMEBODY)
        .gid(SOMEBODY)
        .output()
        .unwrap();
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{said}");
    let passed = said.matches("... ok").count();
    assert!(passed >= 40, "only {passed} tests ran: {said}");
    eprint!(
        "{}",
        said.lines()
            .filter(|line| line.starts_with("!!!"))
            .map(|line| format!("{line}\n"))
            .collect::<String>()
    );
    bench.check_census().await;
}

fn user_namespaces_work(bench: &Bench) -> bool {
    let tried = Command::new(bench.helper())
        .args(["__probe", "/tmp"])
        .uid(SOMEBODY)
        .gid(SOMEBODY)
        .output()
        .unwrap();
    String::from_utf8_lossy(&tried.stdout).contains("\"namespaces\":null")
}
