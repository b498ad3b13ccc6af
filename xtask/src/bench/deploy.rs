use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::benchmarks::Course;
use super::figure::{Figure, Goal, quantile};
use crate::Result;
use crate::platform::Platform;
use crate::report::now;
use crate::scratch::{Scratch, path_text};
use crate::waiting::{wait_for, within_steps};

/// Of two images in turn, each round.
const REDEPLOYS: usize = 20;
const TOGETHER: usize = 100;
const DEPLOYED_MAX: Duration = Duration::from_secs(600);
/// How often the new release is looked for: far less than a deploy takes, and not so often that it is slowed down.
const LOOK_EVERY: Duration = Duration::from_millis(5);

pub(super) fn measure(course: &Course) -> Result<Vec<Figure>> {
    let scratch = Scratch::new("bench-deploy")?;
    let sites = ["one", "two"].map(|text| site(&scratch.path, text));
    let sites: Vec<PathBuf> = sites.into_iter().collect::<Result<_>>()?;
    let mut platform = Platform::new(&course.release.join("tappaas"), &scratch.path)?;
    platform.serve()?;
    // From here on both images are there.
    for folder in &sites {
        platform.run(&["deploy", path_text(folder)?, "--name", "app"])?;
    }
    let (mut usual, mut slowest, mut unchanged) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..course.rounds {
        let mut took = Vec::new();
        for n in 0..REDEPLOYS {
            took.push(redeploy(&platform, &sites[n % 2])?);
        }
        usual.extend(quantile(&took, 0.5));
        slowest.extend(quantile(&took, 0.99));
        let began = now();
        platform.run(&["deploy", path_text(&sites[1])?, "--name", "app"])?;
        unchanged.push(began.elapsed().as_secs_f64());
    }
    let together = deploy_together(&platform, &sites[0])?;
    platform.stop()?;
    drop(platform);
    scratch.remove()?;
    Ok(vec![
        Figure::new(
            "from the command to the first answer of the new release, p50",
            "s",
            usual,
        )
        .goal(Goal::Max(0.5)),
        Figure::new(
            "from the command to the first answer of the new release, p99",
            "s",
            slowest,
        )
        .goal(Goal::Max(1.5)),
        Figure::new(
            "a deploy of what is deployed already, the whole command",
            "s",
            unchanged,
        ),
        Figure::new(
            "100 applications at once, from source until all are healthy",
            "s",
            vec![together],
        ),
    ])
}

/// A site whose page is its name.
fn site(folder: &Path, text: &str) -> Result<PathBuf> {
    let site = folder.join(text);
    fs::create_dir(&site)?;
    fs::write(site.join("index.html"), text)?;
    Ok(site)
}

/// Seconds from the command to the first answer of the release that it makes.
fn redeploy(platform: &Platform, site: &Path) -> Result<f64> {
    let text = fs::read_to_string(site.join("index.html"))?;
    let began = now();
    let mut deploy = deploy(platform, site, "app")?.spawn()?;
    let new = within_steps(DEPLOYED_MAX, LOOK_EVERY, || {
        Ok(platform.page("app")? == text)
    })?;
    let took = began.elapsed().as_secs_f64();
    match wait_for(&mut deploy, DEPLOYED_MAX)? && new {
        true => Ok(took),
        false => Err("the new release does not answer".into()),
    }
}

/// Seconds until all of many applications, deployed at one time, are healthy.
fn deploy_together(platform: &Platform, site: &Path) -> Result<f64> {
    let began = now();
    let mut deploys = Vec::new();
    for n in 0..TOGETHER {
        deploys.push(deploy(platform, site, &format!("app-{n}"))?.spawn()?);
    }
    for deploy in &mut deploys {
        if !wait_for(deploy, DEPLOYED_MAX)? {
            return Err("an application of many is not healthy".into());
        }
    }
    let took = began.elapsed().as_secs_f64();
    for n in 0..TOGETHER {
        platform.page(&format!("app-{n}"))?;
    }
    Ok(took)
}

/// The command that deploys a folder, and says nothing.
pub(super) fn deploy(platform: &Platform, site: &Path, name: &str) -> Result<Command> {
    let mut command = platform.command("deploy");
    command.arg(path_text(site)?).args(["--name", name]);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Ok(command)
}
