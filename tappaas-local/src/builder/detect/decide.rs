use std::collections::BTreeMap;

use tappaas_core::{Error, Name, Result, manifest::Procfile, model::Command};

use super::{Ground, Listing, Plan, Step, go, node, python, rust, site};

/// What the user asked for.
#[derive(Clone, Debug, Default)]
pub(in crate::builder) struct Wishes<'a> {
    /// The application's name.
    pub(in crate::builder) name: &'a str,
    /// Run instead of the detected steps.
    pub(in crate::builder) command: Option<&'a Command>,
    /// A `Dockerfile` is not to be minded.
    pub(in crate::builder) explicit: bool,
    /// The image is to be the programs alone, without a stack.
    pub(in crate::builder) alone: bool,
}

/// A language whose sources are told by one of these files at the top.
struct Language {
    name: &'static str,
    marker: fn(&Listing) -> Option<&'static str>,
    plan: fn(&Listing, &Context<'_>) -> Result<Plan>,
    /// Its programs can do without a stack.
    alone: bool,
}

/// What a language's plan depends on beside the files.
pub(super) struct Context<'a> {
    /// The application's name.
    pub(super) name: &'a str,
    /// A `Procfile` says what is started: all programs are built, and none is chosen.
    pub(super) procfile: bool,
    /// Programs are linked so that they need nothing of a stack.
    pub(super) alone: bool,
}

/// In the order in which they are built if there are several: what makes assets comes before what may embed them.
const LANGUAGES: [Language; 4] = [
    Language {
        name: "Node",
        marker: |listing| first(listing, &["package.json"]),
        plan: node::plan,
        alone: false,
    },
    Language {
        name: "Go",
        marker: |listing| first(listing, &["go.mod"]),
        plan: go::plan,
        alone: true,
    },
    Language {
        name: "Rust",
        marker: |listing| first(listing, &["Cargo.toml"]),
        plan: rust::plan,
        alone: true,
    },
    Language {
        name: "Python",
        marker: |listing| first(listing, &["requirements.txt", "pyproject.toml"]),
        plan: python::plan,
        alone: false,
    },
];

/// What tells of languages that are not detected.
const OTHERS: [(&str, &str); 9] = [
    ("Gemfile", "Ruby"),
    ("composer.json", "PHP"),
    ("pom.xml", "Java"),
    ("build.gradle", "Java"),
    ("build.gradle.kts", "Kotlin"),
    ("mix.exs", "Elixir"),
    ("deno.json", "Deno"),
    ("Package.swift", "Swift"),
    ("build.sbt", "Scala"),
];

const DOCKERFILES: [&str; 2] = ["Dockerfile", "Containerfile"];

/// Tells how to build and start a source.
///
/// # Errors
/// `Invalid` if it cannot be told, with what would tell it; `Unsupported` for a `Dockerfile`.
pub(in crate::builder) fn decide(listing: &Listing, wishes: &Wishes<'_>) -> Result<Plan> {
    if let Some(file) = first(listing, &DOCKERFILES).filter(|_| !wishes.explicit) {
        return Err(Error::unsupported(format!(
            "this folder has a {file}, and builds from one are not supported yet: to build without it, say `strategy = \"stack\"` under `[build]` in tappaas.toml; or build the image elsewhere, push it, and deploy it with --image"
        )));
    }
    let procfile = procfile(listing)?;
    let context = Context {
        name: wishes.name,
        procfile: procfile.is_some(),
        alone: wishes.alone,
    };
    if wishes.alone {
        return stand_alone(listing, &context, wishes, procfile.is_some());
    }
    let mut plan = match (found(listing).as_slice(), &procfile) {
        ([], Some(_)) => Plan {
            detected: "Procfile".to_owned(),
            ..Plan::default()
        },
        ([], None) => alone(listing, wishes)?,
        ([language], _) => or_own_command((language.plan)(listing, &context), wishes)?,
        (languages, Some(_)) => several(listing, &context, languages, wishes)?,
        (languages, None) => return Err(ambiguous(listing, languages)),
    };
    if let Some(processes) = procfile {
        plan.processes = processes;
        plan.ground = Ground::Stack;
    }
    take_command(&mut plan, wishes);
    Ok(plan)
}

fn take_command(plan: &mut Plan, wishes: &Wishes<'_>) {
    if let Some(command) = wishes.command {
        plan.steps = vec![Step {
            name: "build",
            command: command.clone(),
            optional: false,
        }];
        plan.tools.clear();
    }
}

/// Programs without a stack beneath them, which has no shell for a `Procfile` either.
fn stand_alone(
    listing: &Listing,
    context: &Context<'_>,
    wishes: &Wishes<'_>,
    procfile: bool,
) -> Result<Plan> {
    if procfile {
        return Err(Error::invalid(
            "the stack `scratch` has no shell, which the lines of a Procfile need: remove it, and give the processes their `command` as arrays in tappaas.toml",
        ));
    }
    let mut plan = match found(listing).as_slice() {
        [language] if language.alone => or_own_command((language.plan)(listing, context), wishes)?,
        _ if wishes.command.is_some() => own_command(),
        _ => {
            return Err(Error::invalid(
                "the stack `scratch` is for programs that stand alone: Go or Rust, or what a `command` under `[build]` in tappaas.toml puts into the folder `bin`",
            ));
        }
    };
    take_command(&mut plan, wishes);
    plan.ground = Ground::Alone;
    Ok(plan)
}

/// A folder without any sign of a language.
fn alone(listing: &Listing, wishes: &Wishes<'_>) -> Result<Plan> {
    if let Some((file, language)) = OTHERS.iter().find(|(file, _)| listing.has(file)) {
        return match wishes.command {
            Some(_) => Ok(own_command()),
            None => Err(Error::invalid(format!(
                "this folder looks like {language} ({file}), which is not built by detection: say how to build it with `command` under `[build]` in tappaas.toml, and how to start it with a Procfile, such as `web: ./start`"
            ))),
        };
    }
    if let Some(plan) = python::alone(listing).or_else(|| site::plan(listing)) {
        return Ok(plan);
    }
    match wishes.command {
        Some(_) => Ok(own_command()),
        None => Err(Error::invalid(
            "cannot tell how to build this folder: it has no Procfile, go.mod, package.json, requirements.txt, pyproject.toml or Cargo.toml, no main.py or app.py, and no index.html (at the top, or in public or dist); add one, or say `command` under `[build]` in tappaas.toml",
        )),
    }
}

/// The user says how to build: what detection cannot tell matters only if it is needed.
fn or_own_command(plan: Result<Plan>, wishes: &Wishes<'_>) -> Result<Plan> {
    match (plan, wishes.command) {
        (Err(_), Some(_)) => Ok(own_command()),
        (plan, _) => plan,
    }
}

fn own_command() -> Plan {
    Plan {
        detected: "a build command".to_owned(),
        ..Plan::default()
    }
}

fn several(
    listing: &Listing,
    context: &Context<'_>,
    languages: &[&Language],
    wishes: &Wishes<'_>,
) -> Result<Plan> {
    let mut all = Plan::default();
    let mut detected = Vec::new();
    for language in languages {
        let plan = or_own_command((language.plan)(listing, context), wishes)?;
        detected.push(plan.detected);
        all.tools.extend(plan.tools);
        all.steps.extend(plan.steps);
        all.environment.extend(plan.environment);
        all.path.extend(plan.path);
    }
    all.detected = detected.join(" and ");
    Ok(all)
}

fn ambiguous(listing: &Listing, languages: &[&Language]) -> Error {
    let signs: Vec<_> = languages
        .iter()
        .map(|language| {
            format!(
                "{} ({})",
                language.name,
                (language.marker)(listing).unwrap_or_default()
            )
        })
        .collect();
    Error::invalid(format!(
        "this folder looks like {}: add a Procfile that says what to start, such as `web: ./server`, and all of them are built",
        signs.join(" and ")
    ))
}

fn found(listing: &Listing) -> Vec<&'static Language> {
    LANGUAGES
        .iter()
        .filter(|language| (language.marker)(listing).is_some())
        .collect()
}

fn procfile(listing: &Listing) -> Result<Option<BTreeMap<Name, Command>>> {
    let Some(text) = listing.text(Procfile::FILE) else {
        return Ok(None);
    };
    let procfile = Procfile::parse(text).map_err(|error| Error::invalid(error.to_string()))?;
    match procfile.processes.is_empty() {
        true => Err(Error::invalid(
            "the Procfile declares no process: add a line such as `web: ./server`, or remove it",
        )),
        false => Ok(Some(procfile.processes)),
    }
}

/// The first of these files that is at the top.
fn first(listing: &Listing, files: &[&'static str]) -> Option<&'static str> {
    files.iter().find(|file| listing.has(file)).copied()
}

/// The process that requests are routed to.
pub(in crate::builder) fn web(command: Command) -> BTreeMap<Name, Command> {
    BTreeMap::from([(Name::new("web").expect("`web` is a name"), command)])
}
