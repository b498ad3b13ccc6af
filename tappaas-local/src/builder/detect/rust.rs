use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use tappaas_core::{Error, Result, model::Command};

use super::{
    Listing, Plan, Step, Tool,
    decide::{Context, web},
};

/// `Cargo.toml`, as far as it matters here.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Manifest {
    package: Option<Package>,
    workspace: Option<Workspace>,
    bin: Vec<Target>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct Package {
    name: String,
    default_run: Option<String>,
    autobins: Option<bool>,
    /// A version, or `{ workspace = true }`.
    rust_version: Option<toml::Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Workspace {
    members: Vec<String>,
    exclude: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Target {
    name: Option<String>,
    path: Option<String>,
}

/// A Cargo package or workspace: builds its programs, and starts the one named like the package or the application.
pub(super) fn plan(listing: &Listing, context: &Context<'_>) -> Result<Plan> {
    let top = read(listing, "")?;
    let programs = programs(listing, &top)?;
    let package = top.package.as_ref();
    let shown = match package.and_then(|package| package.rust_version.as_ref()?.as_str()) {
        Some(version) => format!("Rust (Cargo.toml says {version})"),
        None => "Rust (Cargo.toml)".to_owned(),
    };
    let mut plan = Plan {
        detected: match package {
            Some(package) => format!("rust, package {}", package.name),
            None => "rust, a workspace".to_owned(),
        },
        tools: vec![
            Tool::new("cargo", shown),
            Tool::new("cc", "a C compiler, to link Rust programs"),
        ],
        path: vec!["/app/bin"],
        ..Plan::default()
    };
    let chosen = match context.procfile {
        true if programs.is_empty() => return Err(no_program()),
        true => programs,
        false => {
            let (program, folder) = choose(&programs, package, context.name)?;
            plan.processes = web(Command::Exec(vec![format!("/app/bin/{program}")]));
            BTreeMap::from([(program, folder)])
        }
    };
    // Named, since without a target what runs while building would be linked in the same way, which compiler plug-ins cannot be.
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    if context.alone {
        let statically = "-C target-feature=+crt-static".to_owned();
        plan.environment.insert("RUSTFLAGS", statically);
    }
    for (program, folder) in &chosen {
        let path = if folder.is_empty() { "." } else { folder };
        let mut install = vec![
            "cargo",
            "install",
            "--path",
            path,
            "--bin",
            program,
            "--root",
            "/app",
            "--no-track",
            "--force",
        ];
        if listing.has("Cargo.lock") {
            install.push("--locked");
        }
        if context.alone {
            install.extend(["--target", target.as_str()]);
        }
        plan.steps.push(Step::exec("cargo install", &install));
    }
    Ok(plan)
}

fn read(listing: &Listing, folder: &str) -> Result<Manifest> {
    let file = join(folder, "Cargo.toml");
    let text = listing.text(&file).unwrap_or_default();
    toml::from_str(text)
        .map_err(|error| Error::invalid(format!("cannot read {file}")).with_source(error))
}

/// The folders of the packages, by the name of each of their programs.
fn programs(listing: &Listing, top: &Manifest) -> Result<BTreeMap<String, String>> {
    let mut programs = BTreeMap::new();
    let mut add = |folder: &str, manifest: &Manifest| {
        for program in programs_of(listing, folder, manifest) {
            programs.entry(program).or_insert_with(|| folder.to_owned());
        }
    };
    add("", top);
    if let Some(workspace) = &top.workspace {
        let folders = listing
            .files()
            .filter_map(|file| file.strip_suffix("/Cargo.toml"));
        let members = folders.filter(|folder| {
            workspace
                .members
                .iter()
                .any(|pattern| matches(pattern, folder))
        });
        for folder in
            members.filter(|folder| !workspace.exclude.iter().any(|other| matches(other, folder)))
        {
            add(folder, &read(listing, folder)?);
        }
    }
    Ok(programs)
}

/// Members are folders, or `crates/*` for all folders in one.
fn matches(pattern: &str, folder: &str) -> bool {
    let pattern = pattern.trim_start_matches("./").trim_end_matches('/');
    let (mut wanted, mut given) = (pattern.split('/'), folder.split('/'));
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return true,
            (Some("*"), Some(_)) => {}
            (Some(wanted), Some(given)) if wanted == given => {}
            _ => return false,
        }
    }
}

fn programs_of(listing: &Listing, folder: &str, manifest: &Manifest) -> BTreeSet<String> {
    let Some(package) = &manifest.package else {
        return BTreeSet::new();
    };
    let mut programs: BTreeSet<_> = manifest
        .bin
        .iter()
        .filter_map(|target| target.name.clone())
        .collect();
    if package.autobins == Some(false) {
        return programs;
    }
    let declared: BTreeSet<_> = manifest
        .bin
        .iter()
        .filter_map(|target| target.path.as_deref())
        .collect();
    if listing.has(&join(folder, "src/main.rs")) && !declared.contains("src/main.rs") {
        programs.insert(package.name.clone());
    }
    let bin = join(folder, "src/bin/");
    for file in listing.files().filter_map(|file| file.strip_prefix(&bin)) {
        let name = file
            .strip_suffix("/main.rs")
            .or_else(|| file.strip_suffix(".rs"));
        let declared = declared.contains(format!("src/bin/{file}").as_str());
        if let Some(name) = name.filter(|name| !name.contains('/') && !declared) {
            programs.insert(name.to_owned());
        }
    }
    programs
}

fn choose(
    programs: &BTreeMap<String, String>,
    package: Option<&Package>,
    application: &str,
) -> Result<(String, String)> {
    let named = |name: &str| programs.get_key_value(name);
    let only = programs.iter().next().filter(|_| programs.len() == 1);
    let default = package.and_then(|package| named(package.default_run.as_deref()?));
    let like_package = package.and_then(|package| named(&package.name));
    if let Some((program, folder)) = only
        .or(default)
        .or(like_package)
        .or_else(|| named(application))
    {
        return Ok((program.clone(), folder.clone()));
    }
    let Some(first) = programs.keys().next() else {
        return Err(no_program());
    };
    let list: Vec<_> = programs.keys().map(String::as_str).collect();
    Err(Error::invalid(format!(
        "there are several programs, and none is named like the package or the application: {}. Say which to start in a Procfile, such as `web: {first}`, or with `default-run` in Cargo.toml",
        list.join(", ")
    )))
}

fn no_program() -> Error {
    Error::invalid(
        "Cargo.toml leads to no program to build: add a src/main.rs, or say `command` under `[build]` in tappaas.toml",
    )
}

fn join(folder: &str, file: &str) -> String {
    if folder.is_empty() {
        file.to_owned()
    } else {
        format!("{folder}/{file}")
    }
}
