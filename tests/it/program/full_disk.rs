use std::{
    fs::{self, File, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use super::{
    load::Load,
    platform::{Platform, text, until},
    sources,
};

const TWO: &str = "[processes.web]\nreplicas = 2\n";
/// A deployment of the test's application takes less.
const NEEDED: u64 = 2_000 << 10;
/// How many amounts of room are tried, if nobody asks for another number.
const AMOUNTS: u64 = 4;
/// How long a deployment is left without room before it gets some.
const CRAMPED: Duration = Duration::from_millis(1_500);

#[test]
fn a_full_disk_is_told_stops_no_application_and_is_over_once_there_is_room() {
    let Some(cramped) = Cramped::served("a full disk") else {
        return;
    };
    let platform = &cramped.platform;
    let folder = platform.dir("shop");
    sources::write_server(&folder, "one", "", TWO);
    platform.ok(&["deploy", text(&folder)]);
    let load = Load::on(platform.http(), "shop.localhost", &["one"]);
    cramped.fill(0);

    sources::write_server(&folder, "two", "", TWO);
    let told = ["no space is left", "free some"];
    platform.run(&["deploy", text(&folder)]).refused(&told);
    let ran = platform.run(&["exec", "shop", "--", "cat", "page"]);
    assert!(ran.stderr.contains("free some"), "{ran:?}");
    let mut made = vec!["production".to_owned()];
    let mut refused = 0;
    for number in 0..30 {
        let name = format!("e{number}");
        let ran = platform.run(&["env", "create", &name]);
        if ran.code == 0 {
            made.push(name);
        } else {
            ran.refused(&told);
            refused += 1;
        }
    }
    assert!(refused > 0, "the store found room where there is none");
    // What it has it shows, also while it can write nothing.
    until("the status is shown", || {
        platform.run(&["status", "shop"]).code == 0
    });
    load.goes_on(50);
    platform.kill_server();
    platform.serve_again();
    load.goes_on(50);
    load.none_failed();
    for edge in platform.processes("__edge") {
        edge.kill();
    }
    until("another edge has the table of the one that is gone", || {
        super::platform::ask(platform.http(), "shop.localhost", "/")
            .is_ok_and(|reply| reply.body == "one")
    });

    cramped.free();
    until("there is room in the store", || {
        platform.run(&["env", "create", "after"]).code == 0
    });
    let listed = platform.json(&["env", "ls"]);
    let listed = listed["items"].as_array().unwrap();
    for name in &made {
        let found = listed.iter().any(|one| one["name"] == **name);
        assert!(found, "{name} was made, and is lost");
    }
    platform.ok(&["deploy", text(&folder)]);
    platform.answers("shop.localhost", "two");
    cramped.ends_clean();
}

#[test]
fn wherever_a_deployment_runs_out_of_room_it_fails_plainly_or_goes_on_when_there_is_some() {
    let Some(cramped) = Cramped::served("a disk that fills up during a deployment") else {
        return;
    };
    let platform = &cramped.platform;
    let folder = platform.dir("shop");
    let pages: &[&str] = &["one", "two", "three"];
    sources::write_server(&folder, "one", "", TWO);
    platform.ok(&["deploy", text(&folder)]);
    let load = Load::on(platform.http(), "shop.localhost", &["one", "two", "three"]);
    let amounts = amounts();
    for number in 0..amounts {
        let page = pages[usize::try_from(number % 2).unwrap() + 1];
        // What is deployed is new to the registry each time.
        let first = format!("echo {number};");
        sources::write_server(&folder, page, &first, TWO);
        cramped.fill(NEEDED * (2 * number + 1) / (2 * amounts));
        let said = File::create(platform.dir("deploy.err")).unwrap();
        let mut deploy = platform
            .command(&["deploy", text(&folder)])
            .stdout(Stdio::null())
            .stderr(said)
            .spawn()
            .unwrap();
        let begun = Instant::now();
        until("it ended or has been without room for long", || {
            deploy.try_wait().unwrap().is_some() || begun.elapsed() > CRAMPED
        });
        cramped.free();
        let mut ended = None;
        until("the deployment ends once there is room", || {
            ended = deploy.try_wait().unwrap();
            ended.is_some()
        });
        let said = fs::read_to_string(platform.dir("deploy.err")).unwrap();
        if !ended.unwrap().success() {
            assert!(
                said.to_lowercase().contains("no space") || said.contains("lost the server"),
                "{said}"
            );
        }
        // A store that has stopped opens again within a second, or the next time that it is asked.
        until("the store goes on", || {
            platform.run(&["env", "ls"]).code == 0
        });
        platform.ok(&["deploy", text(&folder)]);
        platform.answers("shop.localhost", page);
    }
    load.none_failed();
    cramped.ends_clean();
}

fn amounts() -> u64 {
    let asked = std::env::var("TAPPAAS_ROOMS").ok();
    asked.map_or(AMOUNTS, |asked| asked.parse().unwrap())
}

/// A platform whose data directory is a small file system of its own.
struct Cramped {
    platform: Platform,
    // After the platform: what runs there has ended by then.
    _mount: Mount,
}

impl Cramped {
    /// Starts a server there; `None`, and says so, where that cannot be.
    fn served(wanted_for: &str) -> Option<Self> {
        let platform = Platform::new();
        if !platform.sandboxed(wanted_for) {
            return None;
        }
        let mount = Mount::at(&platform.data());
        platform.serve();
        Some(Self {
            platform,
            _mount: mount,
        })
    }

    fn filler(&self) -> PathBuf {
        self.platform.data().join("filler")
    }

    /// Leaves room for so many bytes and no more.
    fn fill(&self, left: u64) {
        let options = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.filler());
        let mut filler = options.unwrap();
        for chunk in [1 << 20, 4_096, 1] {
            while filler.write_all(&vec![0; chunk]).is_ok() {}
        }
        let length = filler.metadata().unwrap().len();
        filler.set_len(length - left).unwrap();
    }

    fn free(&self) {
        fs::remove_file(self.filler()).unwrap();
    }

    /// Nothing half written is left, nor anything that runs.
    fn ends_clean(&self) {
        let data = self.platform.data();
        for folder in ["registry/uploads", "builds/tmp"] {
            let left: Vec<_> = fs::read_dir(data.join(folder)).unwrap().collect();
            assert!(left.is_empty(), "{folder} has {left:?}");
        }
        self.platform.ok(&["stop", "--apps"]);
        assert!(self.platform.server_ends());
        // The mount itself is the test's.
        until("nothing runs any more", || {
            self.platform.processes("").is_empty()
        });
    }
}

struct Mount(PathBuf);

impl Mount {
    fn at(place: &Path) -> Self {
        fs::create_dir(place).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=64m,mode=0700", "tmpfs"])
            .arg(place)
            .status();
        assert!(mounted.unwrap().success());
        Self(place.to_owned())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
        let _ = fs::remove_dir_all(self.0.parent().unwrap());
    }
}
