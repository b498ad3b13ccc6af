use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::benchmarks::Course;
use super::deploy::deploy;
use super::figure::{Figure, Goal};
use super::program::output_of;
use super::socket::Session;
use crate::Result;
use crate::platform::Platform;
use crate::report::now;
use crate::samples::{Sample, podinfo};
use crate::scratch::{Scratch, path_text};
use crate::waiting::{wait_for, within_steps};

const BUILD_MAX: Duration = Duration::from_secs(600);
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// What people write for a Go program: modules in a layer of their own, and caches that last. The toolchain is the machine's, as it is for
/// ours.
const CONTAINERFILE: &str = "FROM scratch
WORKDIR /src
ENV PATH=/usr/local/go/bin:/usr/bin:/bin CGO_ENABLED=0 GOFLAGS=-trimpath GOPATH=/caches/go GOCACHE=/caches/build GOTMPDIR=/caches/build
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/caches/go --mount=type=cache,target=/caches/build go mod download
COPY . .
RUN --mount=type=cache,target=/caches/go --mount=type=cache,target=/caches/build go build -o /app/podinfo ./cmd/podinfo
";
const TOOLCHAIN: &[&str] = &["/bin", "/etc/ssl", "/lib", "/lib64", "/usr"];

pub(super) fn measure(course: &Course) -> Result<Vec<Figure>> {
    let scratch = Scratch::new("bench-rebuild")?;
    let mut platform = Platform::new(&course.release.join("tappaas"), &scratch.path)?;
    platform.serve()?;
    let mut sample = podinfo(&scratch.path)?;
    let buildah = Buildah::new(&scratch.path, &sample)?;
    // The first build of each fetches what later ones find.
    build(&platform, &sample)?;
    buildah.build()?;
    let toolchain = Toolchain::new(&scratch.path, &sample)?;
    toolchain.build()?;
    let (mut changed, mut unchanged) = (Pair::default(), Pair::default());
    let mut alone = Vec::new();
    for round in 0..course.rounds {
        sample.say(&format!("round {round} of"))?;
        changed.ours.push(build(&platform, &sample)?);
        changed.theirs.push(buildah.build()?);
        alone.push(toolchain.build()?);
        unchanged.ours.push(deploy_unchanged(&platform, &sample)?);
        unchanged.theirs.push(buildah.build()?);
    }
    platform.stop()?;
    drop(platform);
    scratch.remove()?;
    Ok(vec![
        unchanged
            .named("podinfo, nothing changed, the whole command")
            .goal(Goal::MaxRatio(0.1)),
        changed
            .named("podinfo, one file changed, from the command to its image")
            .beside("go build alone", alone)
            .goal(Goal::MaxRatio(0.3)),
    ])
}

#[derive(Default)]
struct Pair {
    ours: Vec<f64>,
    theirs: Vec<f64>,
}

impl Pair {
    fn named(self, what: &str) -> Figure {
        Figure::new(what, "s", self.ours).beside("buildah", self.theirs)
    }
}

/// Seconds from the command until the image of a new build is in the registry.
fn build(platform: &Platform, sample: &Sample) -> Result<f64> {
    // Before its first deploy nobody knows the application.
    let newest = || newest_build(platform, sample.name).unwrap_or(0);
    let before = newest();
    let began = now();
    let mut deploy = deploy(platform, &sample.folder, sample.name)?.spawn()?;
    let is_new = within_steps(BUILD_MAX, LOOK_EVERY, || Ok(newest() > before))?;
    let took = began.elapsed().as_secs_f64();
    match wait_for(&mut deploy, BUILD_MAX)? && is_new {
        true => Ok(took),
        false => Err("the new build did not succeed".into()),
    }
}

/// Seconds that the whole command takes when its source is what is deployed.
fn deploy_unchanged(platform: &Platform, sample: &Sample) -> Result<f64> {
    let began = now();
    let folder = path_text(&sample.folder)?;
    platform.run_quietly(&["deploy", folder, "--name", sample.name])?;
    Ok(began.elapsed().as_secs_f64())
}

/// The number of the newest build that succeeded.
fn newest_build(platform: &Platform, application: &str) -> Result<u64> {
    let mut session = Session::open(&platform.socket())?;
    let listed = session.ask("GET", &format!("/applications/{application}/builds"), "")?;
    newest_in(&String::from_utf8(listed)?).ok_or_else(|| "no build succeeded".into())
}

fn newest_in(listed: &str) -> Option<u64> {
    let builds = listed.split("\"number\":").skip(1);
    let done = builds.filter(|build| build.contains("\"phase\":\"succeeded\""));
    done.filter_map(|build| build.split(',').next()?.parse().ok())
        .max()
}

/// Seconds for a command that succeeds.
fn timed(command: &mut Command) -> Result<f64> {
    let began = now();
    output_of(command)?;
    Ok(began.elapsed().as_secs_f64())
}

/// Buildah with a storage of its own, and without a container for each step, as it is used inside of containers.
struct Buildah {
    folder: PathBuf,
    source: PathBuf,
}

impl Buildah {
    fn new(scratch: &Path, sample: &Sample) -> Result<Self> {
        let folder = scratch.join("buildah");
        fs::create_dir(&folder)?;
        fs::write(folder.join("Containerfile"), CONTAINERFILE)?;
        let source = sample.folder.clone();
        Ok(Self { folder, source })
    }

    /// Seconds for one run of it.
    fn build(&self) -> Result<f64> {
        let mut command = Command::new("buildah");
        command.arg("--root").arg(self.folder.join("storage"));
        command.arg("--runroot").arg(self.folder.join("run"));
        command.args(["--storage-driver", "overlay"]);
        command.args(["build", "--isolation", "chroot", "--layers"]);
        for folder in TOOLCHAIN {
            command.arg("--volume").arg(format!("{folder}:{folder}:ro"));
        }
        command.args(["--tag", "podinfo", "--file"]);
        command.arg(self.folder.join("Containerfile"));
        command.arg(&self.source).env("TMPDIR", &self.folder);
        timed(&mut command)
    }
}

/// What any builder has to wait for: the toolchain, in the folder itself, with a cache of its own.
struct Toolchain {
    folder: PathBuf,
    source: PathBuf,
}

impl Toolchain {
    fn new(scratch: &Path, sample: &Sample) -> Result<Self> {
        let folder = scratch.join("toolchain");
        fs::create_dir(&folder)?;
        let source = sample.folder.clone();
        Ok(Self { folder, source })
    }

    /// Seconds for one run of it.
    fn build(&self) -> Result<f64> {
        let mut command = Command::new("go");
        command.args(["build", "-trimpath", "-buildvcs=false", "-o"]);
        command
            .arg(self.folder.join("podinfo"))
            .arg("./cmd/podinfo");
        command.current_dir(&self.source);
        command.env("CGO_ENABLED", "0");
        command.env("GOCACHE", self.folder.join("cache"));
        timed(&mut command)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_build_is_the_last_that_succeeded() {
        let listed = r#"{"items":[{"number":1,"phase":"succeeded","x":1},{"number":2,"phase":"succeeded"},{"number":3,"phase":"running"}]}"#;
        assert_eq!(newest_in(listed), Some(2));
        assert_eq!(newest_in(r#"{"items":[]}"#), None);
    }
}
