use std::process::{Command, Stdio};

use super::platform::{Platform, text};

/// Puts a page where nobody outside of this mount namespace sees it, and deploys it from there.
const SCRIPT: &str = r#"
    set -e
    mount -t tmpfs tmpfs "$1"
    echo "from a folder of my own" > "$1/index.html"
    shift
    exec "$@"
"#;

#[test]
fn a_folder_that_the_server_cannot_see_arrives_by_upload() {
    let platform = Platform::served();
    let folder = platform.dir("hidden");
    std::fs::create_dir(&folder).unwrap();
    let elsewhere = || {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private"]);
        if !rustix::process::geteuid().is_root() {
            command.arg("--map-root-user");
        }
        command
    };
    let works = elsewhere().arg("true").stderr(Stdio::null()).status();
    if !works.is_ok_and(|status| status.success()) {
        eprintln!("NOT TRIED, because it takes a mount namespace: deploying from one");
        return;
    }
    let deploy = platform.command(&["deploy", text(&folder)]);
    let ran = elsewhere()
        .args(["sh", "-c", SCRIPT, "sh", text(&folder)])
        .arg(deploy.get_program())
        .args(deploy.get_args())
        .output()
        .unwrap();
    assert!(ran.status.success(), "{ran:?}");
    assert!(
        !folder.join("index.html").exists(),
        "it can be seen outside"
    );
    platform.answers("hidden.localhost", "from a folder of my own\n");
}
