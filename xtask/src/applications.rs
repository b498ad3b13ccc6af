use std::process::Command;
use std::time::Duration;

use crate::Result;
use crate::census::Census;
use crate::load::{LIGHT, Load};
use crate::platform::Platform;
use crate::samples::{Sample, express, flask, podinfo};
use crate::scratch::{Scratch, path_text};
use crate::waiting::within;
use crate::workspace::{Workspace, run};

/// How long instances of an older release may go on once the new one is healthy.
const STOPPED_MAX: Duration = Duration::from_secs(60);

/// Takes real applications through everything that happens to one, under load, and looks at what is left.
pub(crate) fn from_source_to_removal(workspace: &Workspace) -> Result {
    run(&mut build(workspace))?;
    let program = workspace.target.join("debug/tappaas");
    let scratch = Scratch::new("applications")?;
    let mut samples = [
        podinfo(&scratch.path)?,
        express(&scratch.path)?,
        flask(&scratch.path)?,
    ];
    let traces = [path_text(&scratch.path)?];
    let before = Census::take(&traces);
    let mut platform = Platform::new(&program, &scratch.path)?;
    platform.serve()?;
    for sample in &mut samples {
        lead(&mut platform, sample)?;
    }
    platform.stop()?;
    drop(platform);
    before.nothing_since(&traces)?;
    scratch.remove()
}

/// As the tests build it, so that nothing is built twice.
fn build(workspace: &Workspace) -> Command {
    let mut command = workspace.command("cargo");
    command.args(["build", "--workspace", "--all-features", "--bins"]);
    command
}

fn lead(platform: &mut Platform, sample: &mut Sample) -> Result {
    let (name, folder, first) = (sample.name, sample.folder.clone(), sample.hello.clone());
    let folder = path_text(&folder)?;
    platform.run(&["deploy", folder, "--name", name])?;
    expect(&platform.page(name)?, &first)?;
    let load = Load::start(&format!("{name}.localhost"), platform.http, LIGHT);

    platform.run(&["scale", name, "web=3"])?;
    expect(&platform.run(&["status", name])?, "3 of 3 ready")?;
    platform.run(&["config", "set", name, &format!("{}=hola", sample.variable)])?;
    expect(&platform.page(name)?, "hola")?;
    survive_a_crash(platform)?;
    sample.say("salut")?;
    platform.run(&["deploy", folder, "--name", name])?;
    expect(&platform.page(name)?, "salut")?;
    platform.run(&["rollback", name])?;
    expect(&platform.page(name)?, &first)?;
    platform.run(&["restart", name])?;
    platform.run(&["scale", name, "web=1"])?;

    expect(
        &platform.run(&["exec", name, "--", "printenv", "TAPPAAS_PROCESS"])?,
        "web",
    )?;
    expect(&platform.run(&["logs", name])?, "web/")?;
    expect(&platform.run(&["logs", name, "--build", "1"])?, "built")?;
    expect(&platform.figures("/metrics")?, &format!("{name}/"))?;
    println!("{name}: {} requests, none failed", load.end()?.whole()?);
    platform.run(&["destroy", name])?;
    match platform.page(name) {
        Ok(_) => Err(format!("{name} still answers").into()),
        Err(_) => Ok(()),
    }
}

/// Kills the server: what runs goes on as it is, and the next server takes it over.
fn survive_a_crash(platform: &mut Platform) -> Result {
    // The edge, and of each instance the shim and what it runs; those of the release before may still be stopping.
    const PROCESSES: usize = 1 + 2 * 3;
    if !within(STOPPED_MAX, || Ok(platform.lasting()?.len() == PROCESSES))? {
        return Err(format!("{PROCESSES} processes expected: {:?}", platform.lasting()?).into());
    }
    let before = platform.lasting()?;
    platform.kill_server()?;
    platform.serve()?;
    let after = platform.lasting()?;
    match before == after {
        true => Ok(()),
        false => Err(format!("processes changed with the server: {before:?}, {after:?}").into()),
    }
}

fn expect(text: &str, part: &str) -> Result {
    match text.contains(part) {
        true => Ok(()),
        false => Err(format!("`{part}` is not in:\n{text}").into()),
    }
}
