use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::benchmarks::Course;
use super::figure::{Figure, Goal};
use super::program::PRECEDENCE;
use crate::Result;
use crate::load::{Clients, Lap, Load, Manner};
use crate::platform::Platform;
use crate::scratch::{Scratch, path_text};
use crate::waiting::pause;

/// How often in a round the noise begins and ends: what else happens on the machine falls on both sides alike.
const TURNS: usize = 3;
/// How long the neighbour is watched in a turn, with the noise and without.
const WATCHED: Duration = Duration::from_secs(3);
/// How nice everything else is.
const EQUAL: &str = "0";
/// How long a noise takes to swell or to die away.
const SETTLED: Duration = Duration::from_secs(1);

/// Enough for a hundredth of what is answered in a round to be tens of answers.
const LOAD: &[Clients] = &[Clients {
    manner: Manner::Kept,
    count: 8,
    rate: 400,
}];

/// Something that takes all it gets.
struct Noise {
    name: &'static str,
    script: &'static str,
    /// It is done while an application is built, and not by the application.
    built: bool,
}

const SPIN: &str = "for i in 1 2 3 4 5 6 7 8; do (while :; do :; done) & done; wait";
const EAT: &str = "while :; do tail /dev/zero; done";

const NOISES: [Noise; 7] = [
    Noise {
        name: "an application that floods its log",
        script: "exec yes flood",
        built: false,
    },
    Noise {
        name: "an application that forks without end",
        script: "f() { f | f & }; while :; do f; done 2>/dev/null",
        built: false,
    },
    Noise {
        name: "an application that eats memory",
        script: EAT,
        built: false,
    },
    Noise {
        name: "an application that eats CPU",
        script: SPIN,
        built: false,
    },
    Noise {
        name: "a build that eats CPU",
        script: SPIN,
        built: true,
    },
    Noise {
        name: "a build that eats memory",
        script: EAT,
        built: true,
    },
    Noise {
        name: "a build that eats disk space",
        script: "while :; do cat /dev/zero > /scratch/full; done",
        built: true,
    },
];

/// The slowest hundredth of a neighbour's answers, beside each noise and without it.
pub(super) fn measure(course: &Course) -> Result<Vec<Figure>> {
    let scratch = Scratch::new("bench-neighbours")?;
    let mut platform = Platform::new(&course.release.join("tappaas"), &scratch.path)?;
    platform.serve()?;
    let calm = scratch.path.join("calm");
    fs::create_dir(&calm)?;
    fs::write(calm.join("index.html"), "calm")?;
    platform.run(&["deploy", path_text(&calm)?])?;
    // Clients are elsewhere in life, and wait for no core of this machine. Threads begin as the one that starts them is.
    renice(PRECEDENCE)?;
    let load = Load::start("calm.localhost", platform.front, LOAD);
    renice(EQUAL)?;
    let mut figures = Vec::new();
    for noise in &NOISES {
        let (mut alone, mut beside) = (Vec::new(), Vec::new());
        for round in 0..course.rounds {
            let (mut calm, mut noisy) = (Lap::default(), Lap::default());
            for turn in 0..TURNS {
                watch(&load, &mut calm)?;
                let begun = noise.begin(&platform, &scratch.path, round * TURNS + turn)?;
                watch(&load, &mut noisy)?;
                noise.end(&platform, &begun)?;
            }
            alone.push(slowest(&calm));
            beside.push(slowest(&noisy));
        }
        let what = format!("p99 of a neighbour's answers beside {}", noise.name);
        let figure = Figure::new(what, "ms", beside).beside("without it", alone);
        figures.push(figure.goal(Goal::MaxRatio(2.0)));
    }
    load.end()?.whole()?;
    platform.stop()?;
    drop(platform);
    scratch.remove()?;
    Ok(figures)
}

/// Of this thread. A plain user's stays as it is.
fn renice(nice: &str) -> Result {
    let own = std::process::id().to_string();
    let mut command = Command::new("renice");
    command.args(["-n", nice, "-p", &own]).output()?;
    Ok(())
}

/// Adds what is answered from now on, for some time. No request may fail.
fn watch(load: &Load, to: &mut Lap) -> Result {
    pause(SETTLED);
    load.lap().whole()?;
    pause(WATCHED);
    let lap = load.lap();
    lap.whole()?;
    to.add(lap);
    Ok(())
}

/// Milliseconds within which 99 of 100 requests were answered.
fn slowest(lap: &Lap) -> f64 {
    lap.of(Manner::Kept).percentile(0.99).as_secs_f64() * 1e3
}

impl Noise {
    /// Starts it, and answers the operation that did.
    fn begin(&self, platform: &Platform, scratch: &Path, turn: usize) -> Result<String> {
        let folder = scratch.join("noise");
        fs::create_dir_all(&folder)?;
        // What does not hear that it is to stop is not waited for long.
        let mut manifest = "[processes.worker]\nstop = { grace = \"1s\" }\n".to_owned();
        let process = match self.built {
            true => {
                manifest += &format!("[build]\ncommand = {:?}\n", self.script);
                "true"
            }
            false => self.script,
        };
        // Another source each time: what failed is not built again.
        fs::write(folder.join("turn"), format!("{} {turn}", self.name))?;
        fs::write(folder.join("Procfile"), format!("worker: {process}\n"))?;
        fs::write(folder.join("tappaas.toml"), manifest)?;
        let operation = platform.run(&["deploy", path_text(&folder)?, "--no-wait"])?;
        Ok(operation.trim().to_owned())
    }

    fn end(&self, platform: &Platform, operation: &str) -> Result {
        // One that a limit ended meanwhile cannot be cancelled any more. What a cancelled one made goes with it, sooner or later.
        let cancelled = self.built && platform.run_quietly(&["cancel", operation]).is_ok();
        match platform.run_quietly(&["destroy", "noise"]) {
            Err(error) if !cancelled => Err(error),
            _ => Ok(()),
        }
    }
}
