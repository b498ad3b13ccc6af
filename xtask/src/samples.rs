use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Result;
use crate::workspace::run;

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

/// An application as its authors would have it, and what tells its versions apart.
pub(crate) struct Sample {
    pub(crate) name: &'static str,
    pub(crate) folder: PathBuf,
    /// The file in which `hello` stands.
    file: &'static str,
    pub(crate) hello: String,
    /// What is set by `config set`, and shows on the page.
    pub(crate) variable: &'static str,
    /// What has to be said of its process `web`, if anything.
    pub(crate) web: &'static str,
    /// A command inside an instance, and what it prints.
    pub(crate) inside: (&'static [&'static str], &'static str),
}

impl Sample {
    /// Writes its manifest, with more to say of the whole and of its process `web`.
    pub(crate) fn declare(&self, whole: &str, web: &str) -> Result {
        let manifest = format!("{whole}\n[processes.web]\n{}\n{web}\n", self.web);
        Ok(fs::write(self.folder.join("tappaas.toml"), manifest)?)
    }

    /// Changes its source: the page now has `words` instead of what it had.
    pub(crate) fn say(&mut self, words: &str) -> Result {
        let path = self.folder.join(self.file);
        let text = fs::read_to_string(&path)?;
        if !text.contains(&self.hello) {
            return Err(format!("`{}` is not in {}", self.hello, path.display()).into());
        }
        fs::write(path, text.replace(&self.hello, words))?;
        words.clone_into(&mut self.hello);
        Ok(())
    }
}

/// Where Go keeps a module, which it downloads if need be.
pub(crate) fn module_folder(module: &str, scratch: &Path) -> Result<PathBuf> {
    // Outside of every module: one that it is asked for in may replace others.
    let outside = scratch.join("module");
    fs::create_dir_all(&outside)?;
    let output = Command::new("go")
        .args(["mod", "download", "-json", module])
        .current_dir(&outside)
        .output()?;
    let answer = String::from_utf8(output.stdout)?;
    let (_, rest) = answer
        .split_once("\"Dir\": \"")
        .ok_or_else(|| format!("no module: {answer}"))?;
    let (folder, _) = rest.split_once('"').ok_or("no end of the folder's name")?;
    Ok(folder.into())
}

pub(crate) fn podinfo(scratch: &Path) -> Result<Sample> {
    let folder = scratch.join("podinfo");
    let source = module_folder(PODINFO, scratch)?;
    run(Command::new("cp")
        .args(["--recursive", "--no-preserve=mode"])
        .args([&source, &folder]))?;
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
        hello: "greetings from".to_owned(),
        variable: "PODINFO_UI_COLOR",
        web: "",
        inside: (&["printenv", "TAPPAAS_PROCESS"], "web"),
    })
}

pub(crate) fn express(scratch: &Path) -> Result<Sample> {
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
        hello: "hello from".to_owned(),
        variable: "GREETING",
        web: "",
        inside: (&["printenv", "TAPPAAS_PROCESS"], "web"),
    })
}

pub(crate) fn flask(scratch: &Path) -> Result<Sample> {
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
        hello: "hello from".to_owned(),
        variable: "GREETING",
        web: "",
        inside: (&["printenv", "TAPPAAS_PROCESS"], "web"),
    })
}
