use serde::Deserialize;
use tappaas_core::{Error, Result, model::Command};

use super::{
    Ground, Listing, Plan, Step, Tool,
    decide::{Context, web},
};

/// `package.json`, as far as it matters here.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Package {
    name: Option<String>,
    version: Option<String>,
    main: Option<String>,
    scripts: Scripts,
    dependencies: serde_json::Map<String, serde_json::Value>,
    dev_dependencies: serde_json::Map<String, serde_json::Value>,
    optional_dependencies: serde_json::Map<String, serde_json::Value>,
    workspaces: Option<serde_json::Value>,
    engines: Engines,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Scripts {
    build: Option<String>,
    start: Option<String>,
    prestart: Option<String>,
    poststart: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Engines {
    node: Option<String>,
}

/// A Node package: installs what it depends on, runs its `build` script, and starts it like `npm start`.
pub(super) fn plan(listing: &Listing, context: &Context<'_>) -> Result<Plan> {
    let text = listing.text("package.json").unwrap_or_default();
    let package: Package = serde_json::from_str(text)
        .map_err(|error| Error::invalid("cannot read package.json").with_source(error))?;
    let node = match &package.engines.node {
        Some(version) => format!("Node (package.json says {version})"),
        None => "Node (package.json)".to_owned(),
    };
    let mut plan = Plan {
        detected: detected(&package),
        tools: vec![Tool::new("node", node)],
        path: vec!["/app/node_modules/.bin"],
        ..Plan::default()
    };
    plan.environment.insert("NODE_ENV", "production".to_owned());
    let install = install(listing, &package)?;
    if !install.is_empty() || package.scripts.build.is_some() {
        plan.tools.push(Tool::new("npm", "npm (package.json)"));
    }
    plan.steps = install;
    if package.scripts.build.is_some() {
        plan.steps
            .push(Step::exec("npm run build", &["npm", "run", "build"]));
        if plan.steps.len() > 1 {
            plan.steps.push(Step::exec(
                "npm prune",
                &["npm", "prune", "--omit=dev", "--no-audit", "--no-fund"],
            ));
        }
    }
    if !context.procfile {
        match start(listing, &package) {
            Some(command) => plan.processes = web(command),
            None if package.scripts.build.is_some() => plan.ground = Ground::Built,
            None => {
                return Err(Error::invalid(
                    "cannot tell how to start this package: add a `start` script to package.json, a server.js, or a Procfile",
                ));
            }
        }
    }
    Ok(plan)
}

fn detected(package: &Package) -> String {
    match (&package.name, &package.version) {
        (Some(name), Some(version)) => format!("node, package {name} {version}"),
        (Some(name), None) => format!("node, package {name}"),
        _ => "node".to_owned(),
    }
}

fn install(listing: &Listing, package: &Package) -> Result<Vec<Step>> {
    if let Some((file, program)) = [
        ("yarn.lock", "yarn"),
        ("pnpm-lock.yaml", "pnpm"),
        ("bun.lock", "bun"),
        ("bun.lockb", "bun"),
    ]
    .into_iter()
    .find(|(file, _)| listing.has(file))
    {
        return Err(Error::invalid(format!(
            "this application is locked for {program} ({file}), and detection builds with npm alone: commit a package-lock.json instead, or say how to build it with `command` under `[build]` in tappaas.toml, such as `{program} install`"
        )));
    }
    // Development tools are needed by the build script alone.
    let mut install = match listing.has("package-lock.json") || listing.has("npm-shrinkwrap.json") {
        true => vec!["npm", "ci"],
        false => {
            let lists = [
                &package.dependencies,
                &package.dev_dependencies,
                &package.optional_dependencies,
            ];
            if lists.iter().all(|list| list.is_empty()) && package.workspaces.is_none() {
                return Ok(Vec::new());
            }
            vec!["npm", "install", "--no-package-lock"]
        }
    };
    install.push(if package.scripts.build.is_some() {
        "--include=dev"
    } else {
        "--omit=dev"
    });
    install.extend(["--no-audit", "--no-fund"]);
    let name = if install[1] == "ci" {
        "npm ci"
    } else {
        "npm install"
    };
    Ok(vec![Step::exec(name, &install)])
}

fn start(listing: &Listing, package: &Package) -> Option<Command> {
    let hooked = package.scripts.prestart.is_some() || package.scripts.poststart.is_some();
    if let Some(line) = &package.scripts.start {
        // Without npm in between a signal reaches the program itself.
        return Some(match hooked {
            true => Command::Exec(vec!["npm".to_owned(), "start".to_owned()]),
            false => Command::Shell(line.clone()),
        });
    }
    let main = package
        .main
        .as_deref()
        .map(|main| main.trim_start_matches("./"));
    let candidates = ["server.js", "index.js", "app.js", "main.js"];
    let file = main
        .filter(|main| listing.has(main))
        .or_else(|| candidates.into_iter().find(|file| listing.has(file)));
    file.map(|file| Command::Exec(vec!["node".to_owned(), file.to_owned()]))
}
