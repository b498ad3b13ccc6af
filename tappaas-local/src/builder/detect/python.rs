use serde::Deserialize;
use tappaas_core::{Error, Result, model::Command};

use super::{
    Listing, Plan, Step, Tool,
    decide::{Context, web},
};

const VENV: &str = "/app/.venv";
const PYTHON: &str = "/app/.venv/bin/python";

/// A Python application: a virtual environment in `/app/.venv` with what it depends on.
pub(super) fn plan(listing: &Listing, context: &Context<'_>) -> Result<Plan> {
    let project = Project::read(listing)?;
    let requirements = listing.text("requirements.txt");
    let installs = requirements.is_some_and(|text| requirements_of(text).next().is_some());
    let mut plan = base(match (&project.requires, requirements) {
        (Some(version), _) => format!("Python (pyproject.toml says {version})"),
        (None, Some(_)) => "Python (requirements.txt)".to_owned(),
        (None, None) => "Python (pyproject.toml)".to_owned(),
    });
    plan.detected = match &project.name {
        Some(name) => format!("python, project {name}"),
        None => "python".to_owned(),
    };
    plan.path = vec!["/app/.venv/bin"];
    plan.environment.insert("VIRTUAL_ENV", VENV.to_owned());
    plan.steps.push(Step::exec(
        "python -m venv",
        &["python3", "-m", "venv", "--without-pip", VENV],
    ));
    let pip = [
        "python3",
        "-m",
        "pip",
        "--python",
        PYTHON,
        "install",
        "--no-compile",
        "--no-warn-script-location",
    ];
    let mut install = |what: &[&str]| {
        plan.steps
            .push(Step::exec("pip install", &[&pip, what].concat()));
    };
    match (installs, project.installable) {
        (true, _) => install(&["-r", "requirements.txt"]),
        (false, true) => install(&["."]),
        (false, false) => {}
    }
    if installs || project.installable {
        plan.tools
            .push(Tool::new("pip3", "pip (Debian and Ubuntu: python3-pip)"));
        // Start-up would compile every module anew, for the image is read-only. The compiled files name no time, but a hash.
        let compile = [
            PYTHON,
            "-m",
            "compileall",
            "-q",
            "-j",
            "1",
            "--invalidation-mode",
            "unchecked-hash",
            VENV,
        ];
        plan.steps.push(Step {
            optional: true,
            ..Step::exec("compileall", &compile)
        });
    }
    if !context.procfile {
        plan.processes = web(start(listing, requirements.unwrap_or_default(), &project)?);
    }
    Ok(plan)
}

/// A program without any sign of what it depends on.
pub(super) fn alone(listing: &Listing) -> Option<Plan> {
    let file = program(listing)?;
    Some(Plan {
        detected: format!("python, {file}"),
        processes: web(run("python3", file)),
        ..base(format!("Python ({file})"))
    })
}

fn base(shown: String) -> Plan {
    let mut plan = Plan {
        tools: vec![Tool::new("python3", shown)],
        ..Plan::default()
    };
    plan.environment.insert("PYTHONUNBUFFERED", "1".to_owned());
    plan.environment
        .insert("PYTHONDONTWRITEBYTECODE", "1".to_owned());
    plan
}

/// What `pyproject.toml` says, as far as it matters here.
#[derive(Debug, Default)]
struct Project {
    name: Option<String>,
    requires: Option<String>,
    dependencies: Vec<String>,
    /// It describes a package, and not only how tools are to behave.
    installable: bool,
}

impl Project {
    fn read(listing: &Listing) -> Result<Self> {
        #[derive(Deserialize)]
        struct Document {
            project: Option<Table>,
            #[serde(rename = "build-system")]
            build_system: Option<toml::Table>,
        }
        #[derive(Default, Deserialize)]
        #[serde(default, rename_all = "kebab-case")]
        struct Table {
            name: Option<String>,
            requires_python: Option<String>,
            dependencies: Vec<String>,
        }
        let Some(text) = listing.text("pyproject.toml") else {
            return Ok(Self::default());
        };
        let document: Document = toml::from_str(text)
            .map_err(|error| Error::invalid("cannot read pyproject.toml").with_source(error))?;
        let installable = document.project.is_some() || document.build_system.is_some();
        let project = document.project.unwrap_or_default();
        Ok(Self {
            name: project.name,
            requires: project.requires_python,
            dependencies: project.dependencies,
            installable,
        })
    }
}

/// The names of what is required, in lowercase.
fn requirements_of(text: &str) -> impl Iterator<Item = String> {
    let lines = text
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim());
    lines.filter(|line| !line.is_empty()).map(name_of)
}

fn name_of(requirement: &str) -> String {
    let end = requirement.find(|c: char| !c.is_alphanumeric() && !matches!(c, '-' | '_' | '.'));
    requirement[..end.unwrap_or(requirement.len())]
        .to_lowercase()
        .replace('_', "-")
}

/// How to start it, as far as one can be sure.
fn start(listing: &Listing, requirements: &str, project: &Project) -> Result<Command> {
    let mut needs: Vec<_> = requirements_of(requirements).collect();
    needs.extend(
        project
            .dependencies
            .iter()
            .map(|requirement| name_of(requirement)),
    );
    let needs = |name: &str| needs.iter().any(|need| need == name);
    if let Some(project) = django(listing).filter(|_| needs("gunicorn")) {
        return Ok(Command::Shell(format!(
            "exec gunicorn --bind 0.0.0.0:$PORT {project}.wsgi"
        )));
    }
    let file = program(listing);
    let made_by = |kinds: &[&str]| {
        let text = file.and_then(|file| listing.text(file)).unwrap_or_default();
        let made = |line: &str| {
            let value = line
                .strip_prefix("app")
                .map(str::trim_start)
                .and_then(|rest| rest.strip_prefix('='));
            value.is_some_and(|value| {
                kinds
                    .iter()
                    .any(|kind| value.trim_start().starts_with(&format!("{kind}(")))
            })
        };
        text.lines().any(made)
    };
    let module = file.unwrap_or_default().trim_end_matches(".py");
    if needs("gunicorn") && made_by(&["Flask", "flask.Flask"]) {
        return Ok(Command::Shell(format!(
            "exec gunicorn --bind 0.0.0.0:$PORT {module}:app"
        )));
    }
    if needs("uvicorn") && made_by(&["FastAPI", "fastapi.FastAPI", "Starlette"]) {
        return Ok(Command::Shell(format!(
            "exec uvicorn --host 0.0.0.0 --port $PORT {module}:app"
        )));
    }
    match file {
        Some(file) => Ok(run("python", file)),
        None => Err(Error::invalid(
            "cannot tell how to start this application: it has no main.py or app.py; add a Procfile, such as `web: gunicorn --bind 0.0.0.0:$PORT mypackage:app`",
        )),
    }
}

fn run(interpreter: &str, file: &str) -> Command {
    Command::Exec(vec![interpreter.to_owned(), file.to_owned()])
}

fn program(listing: &Listing) -> Option<&'static str> {
    ["main.py", "app.py"]
        .into_iter()
        .find(|file| listing.has(file))
}

/// The folder of the only Django project.
fn django(listing: &Listing) -> Option<&str> {
    let folder = |file| str::strip_suffix(file, "/wsgi.py").filter(|folder| !folder.contains('/'));
    let mut projects = listing.files().filter_map(folder);
    let project = projects.next().filter(|_| listing.has("manage.py"))?;
    projects.next().is_none().then_some(project)
}
