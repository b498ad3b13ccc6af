use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};

use super::{
    load::Load,
    platform::{Platform, text, until},
    sources,
};

/// What a deployment says when it enters a phase, after a build that takes its time and with a process that does, too.
const PHASES: [&str; 4] = ["packed ", "build ", "making the release", "rolls out"];
const SLOW: &str = "[build]\ncommand = \"sleep 1\"\n";
const SLOW_START: &str = "sleep 1;";

#[test]
fn a_deployment_that_is_interrupted_goes_on_or_never_began_and_another_one_works() {
    let platform = Platform::served();
    let folder = platform.dir("shop");
    sources::write_server(&folder, "first", "", "");
    platform.ok(&["deploy", text(&folder)]);
    let load = Load::on(
        platform.http(),
        "shop.localhost",
        &["first", "next", "last"],
    );
    for (number, phase) in PHASES.into_iter().enumerate() {
        // Another build each time.
        let first = format!("echo {number}; {SLOW_START}");
        sources::write_server(&folder, "next", &first, SLOW);
        let mut deploy = Running::start(&platform, &["deploy", text(&folder)]);
        deploy.comes_to(phase);
        deploy.signal(Signal::INT);
        let (code, said) = deploy.ends();
        if said.contains("build ") {
            assert_eq!(code, Some(130), "{said}");
            assert!(said.contains("it goes on without this command"), "{said}");
            let id = said.split("tappaas cancel ").nth(1).unwrap();
            let id = id.split('`').next().unwrap();
            if phase == "rolls out" {
                platform.answers("shop.localhost", "next");
            } else {
                platform.run(&["cancel", id]);
            }
        }
        sources::write_server(&folder, "last", &first, "");
        platform.ok(&["deploy", text(&folder)]);
        platform.answers("shop.localhost", "last");
    }
    load.none_failed();
    let uploads = platform.data().join("registry/uploads");
    until("no upload is left half done", || {
        fs::read_dir(&uploads).unwrap().count() == 0
    });
}

#[test]
fn up_that_is_interrupted_takes_back_all_it_did() {
    // The first one before the server that it starts answers.
    for phase in ["", "build 1", "rolls out", "following its logs"] {
        let platform = Platform::new();
        let folder = platform.dir("shop");
        sources::write_server(&folder, "one", SLOW_START, SLOW);
        let arguments = platform.serve_arguments();
        let mut up = vec!["up", text(&folder)];
        up.extend(arguments.iter().map(String::as_str));
        let mut up = Running::start(&platform, &up);
        match phase {
            "" => until("a server is being started", || {
                !platform.processes(" serve ").is_empty()
            }),
            phase => up.comes_to(phase),
        }
        up.signal(Signal::INT);
        let (code, said) = up.ends();
        assert_eq!(code, Some(0), "{phase:?}: {said}");
        platform.leaves_nothing();
    }
}

#[test]
fn a_server_told_to_end_in_any_phase_goes_on_with_it_when_it_is_back() {
    let platform = Platform::served();
    let folder = platform.dir("shop");
    sources::write_server(&folder, "first", "", "");
    platform.ok(&["deploy", text(&folder)]);
    let load = Load::on(platform.http(), "shop.localhost", &["first", "next"]);
    let signals = [Signal::TERM, Signal::INT].into_iter().cycle();
    for ((phase, signal), version) in PHASES.into_iter().zip(signals).zip(2..) {
        let first = format!("echo {version}; {SLOW_START}");
        sources::write_server(&folder, "next", &first, SLOW);
        let mut deploy = Running::start(&platform, &["deploy", text(&folder)]);
        deploy.comes_to(phase);
        for server in platform.processes(" serve ") {
            kill_process(Pid::from_raw(server.id).unwrap(), signal).unwrap();
        }
        assert!(platform.server_ends(), "it ends well");
        let (code, said) = deploy.ends();
        if code != Some(0) {
            assert!(said.contains("server"), "{said}");
        }
        platform.serve_again();
        if !said.contains("build ") {
            platform.ok(&["deploy", text(&folder)]);
        }
        until("what was accepted is carried out", || {
            let status = platform.json(&["status", "shop"]);
            status["application"]["current"] == version
        });
        platform.answers("shop.localhost", "next");
    }
    load.none_failed();
}

/// A command that runs beside the test, and what it says.
struct Running {
    child: Child,
    said: PathBuf,
}

impl Running {
    fn start(platform: &Platform, arguments: &[&str]) -> Self {
        let said = platform.dir("said");
        let command = platform.command(arguments);
        // These tests may themselves run where Ctrl-C is ignored, and what is ignored is inherited.
        let child = Command::new("env")
            .arg("--default-signal=INT")
            .arg(command.get_program())
            .args(command.get_args())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&said).unwrap())
            .spawn()
            .unwrap();
        Self { child, said }
    }

    /// Waits until it says so.
    fn comes_to(&mut self, phase: &str) {
        until(&format!("it says {phase:?}"), || {
            let ended = self.child.try_wait().unwrap().is_some();
            let said = fs::read_to_string(&self.said).unwrap();
            assert!(!ended || said.contains(phase), "no {phase:?} in {said}");
            said.contains(phase)
        });
    }

    fn signal(&self, signal: Signal) {
        let id = Pid::from_child(&self.child);
        // It may have ended by itself just now.
        let _ = kill_process(id, signal);
    }

    /// Its exit code, unless a signal ended it, and what it said.
    fn ends(&mut self) -> (Option<i32>, String) {
        let mut status = None;
        until("the command ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        let said = fs::read_to_string(&self.said).unwrap();
        (status.unwrap().code(), said)
    }
}
