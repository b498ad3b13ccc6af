use std::fs;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::Result;
use crate::census::Census;
use crate::load::{Clients, Lap, Load, Manner};
use crate::platform::Platform;
use crate::report::now;
use crate::samples::{Sample, podinfo};
use crate::scratch::{Scratch, path_text};
use crate::waiting::{pause, within};
use crate::workspace::{Workspace, run};

/// More than a thousand requests a second.
const CLIENTS: &[Clients] = &[
    Clients {
        manner: Manner::Kept,
        count: 8,
        rate: 800,
    },
    Clients {
        manner: Manner::New,
        count: 8,
        rate: 300,
    },
    Clients {
        manner: Manner::WebSocket,
        count: 4,
        rate: 16,
    },
    Clients {
        manner: Manner::SlowAnswer,
        count: 4,
        rate: 1,
    },
    Clients {
        manner: Manner::SlowUpload,
        count: 4,
        rate: 1,
    },
];
const HOST: &str = "podinfo.localhost";
/// How long what was started or stopped is let alone before the next thing happens to it.
const REST: Duration = Duration::from_secs(2);
/// Within this, an instance that crashed is back, and a process that is replaced has gone.
const BACK_MAX: Duration = Duration::from_secs(60);
const CRASHES: usize = 3;

/// How much is done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Amount {
    pub(crate) deploys: u32,
    /// How long there is no server.
    pub(crate) without: Duration,
}

impl Amount {
    const FULL: Self = Self {
        deploys: 100,
        without: Duration::from_secs(600),
    };

    /// The full amount, but for what the options say otherwise.
    pub(crate) fn of(options: &[String]) -> Result<Self> {
        let mut amount = Self::FULL;
        for option in options {
            match option.split_once('=') {
                Some(("--deploys", number)) => amount.deploys = number.parse::<NonZeroU32>()?.get(),
                Some(("--without", seconds)) => {
                    amount.without = Duration::from_secs(seconds.parse()?);
                }
                _ => {
                    return Err(format!(
                        "no option `{option}`; there are --deploys=N and --without=SECONDS"
                    )
                    .into());
                }
            }
        }
        Ok(amount)
    }
}

/// Counts the requests that fail while podinfo is deployed again and again, scaled, restarted, rolled back, crashes, has no server, and
/// gets a server of another version. Prints a table; a failed request is an error.
pub(crate) fn run_all(workspace: &Workspace, amount: Amount) -> Result {
    let scratch = Scratch::new("switch")?;
    let [this, next] = programs(workspace, &scratch.path)?;
    let traces = [path_text(&scratch.path)?];
    let before = Census::take(&traces);
    let mut platform = Platform::new(&this, &scratch.path)?;
    platform.serve()?;
    let mut switch = Switch::start(platform, podinfo(&scratch.path)?)?;
    switch.deploy(amount.deploys)?;
    switch.change()?;
    switch.crash()?;
    switch.go_without(amount.without)?;
    switch.upgrade(&this, &next)?;
    let verdict = switch.finish();
    before.nothing_since(&traces)?;
    scratch.remove()?;
    verdict
}

/// The program as it is, and as its next version, both out of the way of what is built meanwhile.
fn programs(workspace: &Workspace, scratch: &Path) -> Result<[PathBuf; 2]> {
    let built = workspace.target.join("release/tappaas");
    let [this, next] = ["tappaas", "tappaas-next"].map(|name| scratch.join(name));
    // The next version first, so that this one is what is left in the target folder.
    let clone = scratch.join("clone");
    run(workspace
        .command("git")
        .args(["clone", "--quiet"])
        .arg(&workspace.root)
        .arg(&clone))?;
    let manifest = clone.join("Cargo.toml");
    let text = fs::read_to_string(&manifest)?;
    let version = format!("version = \"{}\"", env!("CARGO_PKG_VERSION"));
    let bumped = text.replacen(&version, "version = \"0.1.99\"", 1);
    if bumped == text {
        return Err(format!("`{version}` is not in Cargo.toml").into());
    }
    fs::write(&manifest, bumped)?;
    let build = |folder: &Path| {
        run(Command::new("cargo")
            .args(["build", "--release", "--bin", "tappaas", "--target-dir"])
            .arg(&workspace.target)
            .current_dir(folder))
    };
    build(&clone)?;
    fs::copy(&built, &next)?;
    build(&workspace.root)?;
    fs::copy(&built, &this)?;
    Ok([this, next])
}

struct Switch {
    platform: Platform,
    sample: Sample,
    load: Load,
    rows: Vec<Row>,
}

/// One line of the table.
struct Row {
    what: String,
    took: Duration,
    lap: Lap,
}

impl Switch {
    fn start(platform: Platform, sample: Sample) -> Result<Self> {
        let folder = path_text(&sample.folder)?;
        platform.run(&["deploy", folder, "--name", sample.name])?;
        platform.run(&["scale", sample.name, "web=3"])?;
        let load = Load::start(HOST, platform.front, CLIENTS);
        Ok(Self {
            load,
            platform,
            sample,
            rows: Vec::new(),
        })
    }

    /// Does something, lets its consequences show, and makes a row of what the clients saw meanwhile.
    fn phase(&mut self, what: &str, act: impl FnOnce(&mut Self) -> Result) -> Result {
        self.phase_with(what, act, |_| {})
    }

    fn phase_with(
        &mut self,
        what: &str,
        act: impl FnOnce(&mut Self) -> Result,
        judge: impl Fn(&mut Lap),
    ) -> Result {
        println!("{what}");
        let started = now();
        let acted = act(self);
        pause(REST);
        let mut row = Row {
            what: what.to_owned(),
            took: started.elapsed(),
            lap: self.load.lap(),
        };
        judge(&mut row.lap);
        for failure in row.lap.failures() {
            println!("  failed: {failure}");
        }
        self.rows.push(row);
        acted
    }

    /// Changes the source and deploys it, each time.
    fn deploy(&mut self, times: u32) -> Result {
        self.phase(&format!("{times} deploys, each of a new build"), |all| {
            let mut took = Vec::new();
            for number in 1..=times {
                let words = format!("release {number} of");
                all.sample.say(&words)?;
                let folder = path_text(&all.sample.folder)?.to_owned();
                let started = now();
                all.command(&["deploy", &folder, "--name", all.sample.name])?;
                took.push(started.elapsed());
                let page = all.platform.page(all.sample.name)?;
                if !page.contains(&words) {
                    return Err(format!("`{words}` was deployed, and is not on:\n{page}").into());
                }
                if number % 10 == 0 {
                    println!("  {number} of {times}");
                }
            }
            took.sort_unstable();
            let [median, last] = [took.len() / 2, took.len() - 1].map(|place| took[place]);
            println!(
                "  a deploy took {:.1} s, at most {:.1} s",
                median.as_secs_f64(),
                last.as_secs_f64()
            );
            Ok(())
        })
    }

    fn change(&mut self) -> Result {
        let name = self.sample.name;
        let changes: [(&str, &[&[&str]]); 4] = [
            (
                "scale to 6, 1 and 3",
                &[
                    &["scale", name, "web=6"],
                    &["scale", name, "web=1"],
                    &["scale", name, "web=3"],
                ],
            ),
            (
                "config set",
                &[&["config", "set", name, "PODINFO_UI_COLOR=red"]],
            ),
            ("restart", &[&["restart", name]]),
            ("rollback", &[&["rollback", name]]),
        ];
        for (what, commands) in changes {
            self.phase(what, |all| {
                commands.iter().try_for_each(|command| all.command(command))
            })?;
        }
        Ok(())
    }

    /// Kills one instance of three, so that it says nothing to anybody. What another one can answer must not fail; a WebSocket, an answer
    /// and an upload that are under way end with the instance that has them.
    fn crash(&mut self) -> Result {
        let crash = |all: &mut Self| {
            for _ in 0..CRASHES {
                all.settled()?;
                let instances = all.platform.instances()?;
                let victim = instances.first().ok_or("no instance runs")?.to_string();
                run(Command::new("kill").args(["-KILL", &victim]))?;
                let victim: u32 = victim.parse()?;
                within(BACK_MAX, || {
                    Ok(!all.platform.instances()?.contains(&victim))
                })?;
            }
            all.settled()
        };
        self.phase_with(
            &format!("{CRASHES} crashes of one of three"),
            crash,
            Lap::excuse_what_lasts,
        )
    }

    fn go_without(&mut self, time: Duration) -> Result {
        self.phase(&format!("no server for {} s", time.as_secs()), |all| {
            all.platform.kill_server()?;
            pause(time);
            Ok(())
        })
    }

    /// Replaces the program in its place, as an installation does, and starts it.
    fn upgrade(&mut self, this: &Path, next: &Path) -> Result {
        self.phase("a server of another version, and its edge", |all| {
            let (edges, instances) = (all.platform.edges()?, all.platform.instances()?);
            fs::rename(next, this)?;
            all.platform.serve()?;
            let replaced = || {
                let now = all.platform.edges()?;
                Ok(now.len() == 1 && now != edges)
            };
            if !within(BACK_MAX, replaced)? {
                return Err("the edge was not replaced".into());
            }
            if all.platform.instances()? != instances {
                return Err("the new server did not take over the instances as they are".into());
            }
            all.command(&["restart", all.sample.name])
        })
    }

    /// Stops everything, prints the table, and is an error if a request failed.
    fn finish(self) -> Result {
        let Self {
            mut platform,
            load,
            mut rows,
            ..
        } = self;
        let rest = Row {
            what: "in between".to_owned(),
            took: Duration::ZERO,
            lap: load.end()?,
        };
        rows.push(rest);
        platform.stop()?;
        print!("\n{}", table(&rows));
        let mut whole = Lap::default();
        rows.into_iter().for_each(|row| whole.add(row.lap));
        whole.whole().map(drop)
    }

    fn command(&self, arguments: &[&str]) -> Result {
        self.platform.run_quietly(arguments).map(drop)
    }

    fn settled(&self) -> Result {
        let ready = || {
            let status = self.platform.run_quietly(&["status", self.sample.name])?;
            Ok(status.contains("3 of 3 ready"))
        };
        match within(BACK_MAX, ready)? {
            true => Ok(()),
            false => Err("three instances do not become ready".into()),
        }
    }
}

/// What the clients saw in each phase, and in all of them in each manner. `cut` is what ended with the instance that it was on.
fn table(rows: &[Row]) -> String {
    let mut whole = Lap::default();
    rows.iter().for_each(|row| whole.add(row.lap.clone()));
    let phases = rows.iter().map(|row| {
        let seconds = format!("{:.0}", row.took.as_secs_f64());
        line(&row.what, &seconds, &row.lap.all())
    });
    let manners = Manner::ALL.map(|manner| line(manner.name(), "", &whole.of(manner)));
    let head = format!(
        "| {:<42} | {:>5} | {:>8} | {:>6} | {:>4} | {:>7} | {:>7} | {:>7} |\n|{}|{}|{}|{}|{}|{}|{}|{}|\n",
        "what",
        "s",
        "requests",
        "failed",
        "cut",
        "p50 ms",
        "p99 ms",
        "max ms",
        "-".repeat(44),
        "------:",
        "---------:",
        "-------:",
        "-----:",
        "--------:",
        "--------:",
        "--------:"
    );
    std::iter::once(head)
        .chain(phases)
        .chain(manners)
        .chain([line("all", "", &whole.all())])
        .collect()
}

fn line(what: &str, seconds: &str, figures: &crate::load::Figures) -> String {
    let ms = |part| format!("{:.1}", figures.percentile(part).as_secs_f64() * 1000.0);
    format!(
        "| {what:<42} | {seconds:>5} | {:>8} | {:>6} | {:>4} | {:>7} | {:>7} | {:>7} |\n",
        figures.answered + figures.failed + figures.excused,
        figures.failed,
        figures.excused,
        ms(0.5),
        ms(0.99),
        ms(1.0)
    )
}
