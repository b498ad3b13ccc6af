use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::Result;
use crate::census::Census;
use crate::load::Load;
use crate::platform::Platform;
use crate::scratch::{Scratch, path_text};
use crate::waiting::within;
use crate::workspace::{Workspace, run};

/// As it is in the module proxy: no manifest, two programs, and it listens on 9898, whatever `PORT` says.
const PODINFO: &str = "github.com/stefanprodan/podinfo@v1.8.1-0.20250910200901-e86405a8674e";

const EXPRESS: &str = r#"
const app = require("express")();
app.get("/", (request, response) => response.send(`hello from express ${process.env.GREETING}`));
const server = app.listen(process.env.PORT, () => console.log("listening"));
process.on("SIGTERM", () => server.close(() => process.exit(0)));
"#;

const FLASK: &str = r#"
import os
from flask import Flask

app = Flask(__name__)

@app.get("/")
def front():
    return "hello from flask " + os.environ.get("GREETING", "")
"#;

/// How long instances of an older release may go on once the new one is healthy.
const STOPPED_MAX: Duration = Duration::from_secs(60);

/// An application as its authors would have it, and what tells its versions apart.
struct Sample {
    name: &'static str,
    folder: PathBuf,
    /// The file in which `hello` stands, which the second version says otherwise.
    file: &'static str,
    hello: &'static str,
    /// What is set by `config set`, and shows on the page.
    variable: &'static str,
}

/// Takes real applications through everything that happens to one, under load, and looks at what is left.
pub(crate) fn from_source_to_removal(workspace: &Workspace) -> Result {
    run(&mut build(workspace))?;
    let program = workspace.target.join("debug/tappaas");
    let scratch = Scratch::new("applications")?;
    let samples = [
        podinfo(&scratch.path)?,
        express(&scratch.path)?,
        flask(&scratch.path)?,
    ];
    let traces = [path_text(&scratch.path)?];
    let before = Census::take(&traces);
    let mut platform = Platform::new(&program, &scratch.path)?;
    platform.serve()?;
    for sample in &samples {
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

fn lead(platform: &mut Platform, sample: &Sample) -> Result {
    let (name, folder) = (sample.name, path_text(&sample.folder)?);
    platform.run(&["deploy", folder, "--name", name])?;
    expect(&platform.page(name)?, sample.hello)?;
    let load = Load::start(&format!("{name}.localhost"), platform.http);

    platform.run(&["scale", name, "web=3"])?;
    expect(&platform.run(&["status", name])?, "3 of 3 ready")?;
    platform.run(&["config", "set", name, &format!("{}=hola", sample.variable)])?;
    expect(&platform.page(name)?, "hola")?;
    survive_a_crash(platform)?;
    write_second_version(sample)?;
    platform.run(&["deploy", folder, "--name", name])?;
    expect(&platform.page(name)?, "salut")?;
    platform.run(&["rollback", name])?;
    expect(&platform.page(name)?, sample.hello)?;
    platform.run(&["restart", name])?;
    platform.run(&["scale", name, "web=1"])?;

    expect(
        &platform.run(&["exec", name, "--", "printenv", "TAPPAAS_PROCESS"])?,
        "web",
    )?;
    expect(&platform.run(&["logs", name])?, "web/")?;
    expect(&platform.run(&["logs", name, "--build", "1"])?, "built")?;
    expect(&platform.figures("/metrics")?, &format!("{name}/"))?;
    println!("{name}: {} requests, none failed", load.end()?);
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

fn write_second_version(sample: &Sample) -> Result {
    let path = sample.folder.join(sample.file);
    let text = fs::read_to_string(&path)?;
    expect(&text, sample.hello)?;
    Ok(fs::write(path, text.replace(sample.hello, "salut"))?)
}

fn podinfo(scratch: &Path) -> Result<Sample> {
    let folder = scratch.join("podinfo");
    let module = scratch.join("module");
    fs::create_dir(&module)?;
    let output = Command::new("go")
        .args(["mod", "download", "-json", PODINFO])
        .current_dir(&module)
        .output()?;
    let answer = String::from_utf8(output.stdout)?;
    let (_, rest) = answer
        .split_once("\"Dir\": \"")
        .ok_or_else(|| format!("no module: {answer}"))?;
    let (source, _) = rest.split_once('"').ok_or("no end of the folder's name")?;
    run(Command::new("cp")
        .args(["--recursive", "--no-preserve=mode", source])
        .arg(&folder))?;
    // How it is built from a Dockerfile is not what is tried here.
    for entry in fs::read_dir(&folder)?.flatten() {
        if entry
            .file_name()
            .to_string_lossy()
            .starts_with("Dockerfile")
        {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(Sample {
        name: "podinfo",
        folder,
        file: "cmd/podinfo/main.go",
        hello: "greetings from",
        variable: "PODINFO_UI_COLOR",
    })
}

fn express(scratch: &Path) -> Result<Sample> {
    let folder = scratch.join("express");
    let package = r#"{"name": "shop", "scripts": {"start": "node server.js"}, "dependencies": {"express": "4.21.2"}}"#;
    fs::create_dir(&folder)?;
    fs::write(folder.join("package.json"), package)?;
    fs::write(folder.join("server.js"), EXPRESS)?;
    let lock = ["install", "--package-lock-only", "--no-audit", "--no-fund"];
    run(Command::new("npm").args(lock).current_dir(&folder))?;
    Ok(Sample {
        name: "express",
        folder,
        file: "server.js",
        hello: "hello from",
        variable: "GREETING",
    })
}

fn flask(scratch: &Path) -> Result<Sample> {
    let folder = scratch.join("flask");
    fs::create_dir(&folder)?;
    fs::write(
        folder.join("requirements.txt"),
        "flask==3.1.2\ngunicorn==23.0.0\n",
    )?;
    fs::write(folder.join("app.py"), FLASK)?;
    fs::write(
        folder.join("Procfile"),
        "web: gunicorn --workers 2 --bind 0.0.0.0:$PORT app:app\n",
    )?;
    Ok(Sample {
        name: "flask",
        folder,
        file: "app.py",
        hello: "hello from",
        variable: "GREETING",
    })
}
