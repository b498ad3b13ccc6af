use super::{
    platform::{Platform, text},
    sources,
};

/// A release that is not to come up, and what is said about it.
struct Refused {
    first: &'static str,
    manifest: &'static str,
    reason: &'static str,
    last_line: &'static str,
}

impl Refused {
    /// Tries it over a release that serves, which goes on serving.
    fn is_refused_on(&self, platform: &Platform) {
        let folder = platform.dir("shop");
        sources::write_server(&folder, "one", "", "");
        platform.ok(&["deploy", text(&folder)]);
        let instances = |status: &serde_json::Value| {
            let all = status["instances"].as_array().unwrap().iter();
            let ready = all.filter(|instance| instance["ready"] == true);
            let ids: Vec<_> = ready.map(|instance| instance["id"].to_string()).collect();
            ids
        };
        let before = instances(&platform.json(&["status", "shop"]));

        sources::write_server(&folder, "two", self.first, self.manifest);
        let ran = platform.run(&["deploy", text(&folder)]);
        ran.refused(&[
            "release 2 failed",
            self.reason,
            "its last lines:",
            self.last_line,
        ]);

        platform.answers("shop.localhost", "one");
        let status = platform.json(&["status", "shop"]);
        assert_eq!(status["application"]["current"], 1);
        assert_eq!(status["application"]["phase"], "failed");
        assert_eq!(
            instances(&status),
            before,
            "the old instances are untouched"
        );
        let printed = platform.ok(&["releases", "shop"]);
        assert!(printed.contains(self.reason), "{printed}");
        let logs = platform.ok(&["logs", "shop"]);
        assert!(logs.contains(self.last_line.trim()), "{logs}");

        sources::write_server(&folder, "three", "", "");
        platform.ok(&["deploy", text(&folder)]);
        platform.answers("shop.localhost", "three");
    }
}

#[test]
fn a_release_that_never_becomes_healthy_is_refused() {
    Refused {
        first: "echo warming up;",
        manifest: "[processes.web]\nprobes.readiness = { http = \"/env/NEVER_SET\", period = \"1s\" }\n[rollout]\ndeadline = \"3s\"\n",
        reason: "not healthy within 3 s: process web has 0 of 1 instances ready",
        last_line: "\n  listening on ",
    }
    .is_refused_on(&Platform::served());
}

#[test]
fn a_release_that_crashes_is_refused() {
    Refused {
        first: "echo no database; exit 3;",
        manifest: "",
        reason: "process web exited with code 3",
        last_line: "\n  no database\n",
    }
    .is_refused_on(&Platform::served());
}

#[test]
fn a_release_that_ends_well_although_it_should_run_is_refused() {
    Refused {
        first: "echo all done; exit 0;",
        manifest: "",
        reason: "process web exited with code 0, but it should keep running",
        last_line: "\n  all done\n",
    }
    .is_refused_on(&Platform::served());
}

#[test]
fn a_release_whose_command_fails_is_refused_before_it_starts() {
    Refused {
        first: "",
        manifest: "release_command = \"echo broken migration; exit 4\"\n",
        reason: "the release command exited with code 4",
        last_line: "\n  broken migration\n",
    }
    .is_refused_on(&Platform::served());
}

#[test]
fn a_release_that_does_not_listen_is_refused() {
    Refused {
        first: "echo thinking; exec sleep 1000;",
        manifest: "[rollout]\ndeadline = \"3s\"\n",
        reason: "nothing listens on port",
        last_line: "\n  thinking\n",
    }
    .is_refused_on(&Platform::served());
}

#[test]
fn a_release_that_exceeds_its_memory_is_refused() {
    let platform = Platform::served();
    if !platform.sandboxed("a release that exceeds its memory") {
        return;
    }
    Refused {
        first: "echo eating; exec tail /dev/zero;",
        manifest: "[processes.web]\nresources = { memory = \"32Mi\" }\n",
        reason: "process web exceeded its memory limit",
        last_line: "\n  eating\n",
    }
    .is_refused_on(&platform);
}
