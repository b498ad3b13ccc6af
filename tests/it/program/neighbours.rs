use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpStream},
    time::Duration,
};

use super::{
    load::Load,
    platform::{Platform, text, until},
    sources,
};

/// What one instance's log may take, and what is written between two looks at it.
const LOG_MAX: u64 = 51 << 20;
/// The 64 of the one that forks without end, and what the others and the platform have.
const PROCESSES_MAX: usize = 64 + 40;

/// An application that behaves badly, by what its process does, what its manifest adds for it, and what `status` says of it.
struct Bad {
    name: &'static str,
    procfile: &'static str,
    manifest: &'static str,
    told: &'static str,
}

const BAD: [Bad; 6] = [
    Bad {
        name: "loud",
        procfile: "(yes flood) & exec ./server",
        manifest: "",
        told: "1 of 1 ready",
    },
    Bad {
        name: "swarm",
        procfile: "(f() { f | f & }; while :; do f; done) 2>/dev/null & exec ./server",
        manifest: "resources = { pids = 64 }\n",
        told: "web",
    },
    Bad {
        name: "glutton",
        procfile: "./server & sleep 1; exec tail /dev/zero",
        manifest: "resources = { memory = \"32Mi\" }\n",
        told: "exceeded its memory limit",
    },
    Bad {
        name: "deaf",
        procfile: "trap '' TERM; exec ./server",
        manifest: "",
        told: "1 of 1 ready",
    },
    Bad {
        name: "closed",
        procfile: "./server & sleep 2; kill $!; exec sleep 1000",
        manifest: "",
        told: "nothing listens on port 8080",
    },
    Bad {
        name: "full",
        procfile: "head -c 1000000000 /dev/zero > /tmp/full; exec ./server",
        manifest: "",
        told: "1 of 1 ready",
    },
];

#[test]
fn whatever_an_application_does_is_its_own_trouble_and_told() {
    let platform = Platform::served();
    if !platform.sandboxed("that bad neighbours are contained") {
        return;
    }
    let folder = platform.dir("calm");
    sources::write_server(&folder, "calm", "", "");
    platform.ok(&["deploy", text(&folder)]);
    let load = Load::on(platform.http(), "calm.localhost", &["calm"]);
    for bad in &BAD {
        let folder = platform.dir(bad.name);
        // Who does not hear is not waited for long.
        let manifest = format!(
            "[processes.web]\nstop = {{ grace = \"1s\" }}\n{}",
            bad.manifest
        );
        sources::write_server(&folder, bad.name, "", &manifest);
        let procfile = format!("web: {}\n", bad.procfile);
        fs::write(folder.join("Procfile"), procfile).unwrap();
        platform.ok(&["deploy", text(&folder), "--no-wait"]);
    }
    for bad in &BAD {
        until(
            &format!("the status of {} says {:?}", bad.name, bad.told),
            || platform.ok(&["status", bad.name]).contains(bad.told),
        );
    }
    load.goes_on(50);
    until("the flood has filled its first file", || {
        largest_log(&platform) > 11 << 20
    });
    assert!(largest_log(&platform) < LOG_MAX, "a log has no end");
    let all = platform.processes("").len();
    assert!(all < PROCESSES_MAX, "{all} processes");
    let logs = platform.ok(&["logs", "full"]);
    assert!(logs.contains("No space left"), "{logs}");
    load.goes_on(50);
    for bad in &BAD {
        platform.ok(&["destroy", bad.name]);
    }
    load.goes_on(50);
    load.none_failed();
    let status = platform.json(&["status", "calm"]);
    assert_eq!(status["instances"][0]["restarts"], 0, "{status:#}");
    platform.ok(&["stop", "--apps"]);
    assert!(platform.server_ends());
    platform.leaves_nothing();
}

#[test]
fn answers_that_never_end_or_begin_keep_nobody_else_waiting() {
    let platform = Platform::served();
    for name in ["calm", "rude"] {
        let folder = platform.dir(name);
        sources::write_server(&folder, name, "", "");
        platform.ok(&["deploy", text(&folder)]);
    }
    let load = Load::on(platform.http(), "calm.localhost", &["calm"]);
    let edge = || platform.processes("__edge");
    let before = edge();
    // More than an edge keeps open to one application at a time without anybody having asked it to.
    let mut hanging = Vec::new();
    for _ in 0..200 {
        hanging.push(ask(&platform, "mute"));
        // Their answers are never read.
        hanging.push(ask(&platform, "endless"));
    }
    load.goes_on(100);
    for how in ["heads", "nonsense"] {
        let mut stream = ask(&platform, how);
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        // The latter if those that hang keep it waiting for too long.
        let refused = ["HTTP/1.1 502 ", "HTTP/1.1 504 "];
        assert!(
            refused.iter().any(|status| reply.starts_with(status)),
            "{how}: {:?}",
            reply.get(..200)
        );
    }
    let mut endless = ask(&platform, "endless");
    let mut read = vec![0; 4 << 20];
    endless.read_exact(&mut read).unwrap();
    assert_eq!(platform.get("rude.localhost", "/").body, "rude");
    load.goes_on(100);
    let memory = fs::read_to_string(format!("/proc/{}/status", before[0].id)).unwrap();
    let memory = memory
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    let memory: u64 = memory.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(memory < 300_000, "the edge takes {memory} KiB");
    drop(hanging);
    load.goes_on(50);
    load.none_failed();
    assert_eq!(edge(), before, "the edge is the same one");
}

/// The bytes of the log that takes most.
fn largest_log(platform: &Platform) -> u64 {
    let instances = fs::read_dir(platform.data().join("local/instances")).unwrap();
    let sizes = instances.flatten().map(|instance| {
        let files = fs::read_dir(instance.path())
            .into_iter()
            .flatten()
            .flatten();
        let logs = files.filter(|file| file.file_name().to_string_lossy().starts_with("log"));
        logs.filter_map(|log| Some(log.metadata().ok()?.len()))
            .sum()
    });
    sizes.max().unwrap_or_default()
}

/// Sends a request whose answer nobody may wait for.
fn ask(platform: &Platform, how: &str) -> TcpStream {
    const REPLY_MAX: Duration = Duration::from_secs(30);
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, platform.http())).unwrap();
    stream.set_read_timeout(Some(REPLY_MAX)).unwrap();
    let request =
        format!("GET /rude/{how} HTTP/1.1\r\nHost: rude.localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    stream
}
