use std::collections::{BTreeMap, BTreeSet};

use tappaas_core::{Error, Result, model::Command};

use super::{
    Listing, Plan, Step, Tool,
    decide::{Context, web},
};

/// A Go module: builds its main packages, and starts the one named like the module or the application.
pub(super) fn plan(listing: &Listing, context: &Context<'_>) -> Result<Plan> {
    let module = Module::parse(listing.text("go.mod").unwrap_or_default());
    let mains = mains(listing, &module);
    let version = module.version.as_deref();
    let mut plan = Plan {
        detected: match version {
            Some(version) => format!("go {version}, module {}", module.path),
            None => format!("go, module {}", module.path),
        },
        tools: vec![Tool::new(
            "go",
            match version {
                Some(version) => format!("Go (go.mod says {version})"),
                None => "Go (go.mod)".to_owned(),
            },
        )],
        path: vec!["/app/bin"],
        ..Plan::default()
    };
    let chosen = match (context.procfile, mains.is_empty()) {
        (_, true) => {
            return Err(Error::invalid(format!(
                "the module {} has no main package to build: add one, or say `command` under `[build]` in tappaas.toml",
                module.path
            )));
        }
        (true, false) => mains,
        (false, false) => {
            let (program, folder) = choose(&mains, &module, context.name)?;
            plan.processes = web(Command::Exec(vec![format!("/app/bin/{program}")]));
            BTreeMap::from([(program, folder)])
        }
    };
    if context.alone {
        plan.environment.insert("CGO_ENABLED", "0".to_owned());
    }
    for (program, folder) in &chosen {
        let package = if folder.is_empty() {
            ".".to_owned()
        } else {
            format!("./{folder}")
        };
        let output = format!("/app/bin/{program}");
        let build = [
            "go",
            "build",
            "-trimpath",
            "-buildvcs=false",
            "-o",
            &output,
            &package,
        ];
        plan.steps.push(Step::exec("go build", &build));
    }
    Ok(plan)
}

struct Module {
    path: String,
    version: Option<String>,
}

impl Module {
    fn parse(text: &str) -> Self {
        let directive = |word: &str| {
            let line = text
                .lines()
                .map(|line| line.split("//").next().unwrap_or_default().trim());
            let mut values =
                line.filter_map(|line| line.strip_prefix(word)?.strip_prefix([' ', '\t']));
            values
                .next()
                .map(|value| value.trim().trim_matches(['"', '`']).to_owned())
        };
        Self {
            path: directive("module").unwrap_or_default(),
            version: directive("go"),
        }
    }

    /// The last part of the path that is not a major version, as `go install` names programs.
    fn name(&self) -> &str {
        let version = |part: &str| {
            part.strip_prefix('v').is_some_and(|digits| {
                !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
            })
        };
        let mut parts = self.path.rsplit('/');
        let last = parts.next().unwrap_or_default();
        match parts.next() {
            Some(before) if version(last) => before,
            _ => last,
        }
    }
}

/// The folders of the module's main packages, by the name of their program.
///
/// Two programs of the same name are told apart by their whole path.
fn mains(listing: &Listing, module: &Module) -> BTreeMap<String, String> {
    let nested: BTreeSet<&str> = listing
        .files()
        .filter_map(|file| file.strip_suffix("go.mod"))
        .filter(|folder| !folder.is_empty())
        .collect();
    let mut folders = BTreeSet::new();
    for file in listing.files().filter(|file| file.ends_with(".go")) {
        let folder = file.rsplit_once('/').map_or("", |(folder, _)| folder);
        let ignored =
            |part: &str| matches!(part, "vendor" | "testdata") || part.starts_with(['_', '.']);
        let elsewhere = nested.iter().any(|other| file.starts_with(other));
        if elsewhere || file.split('/').any(ignored) {
            continue;
        }
        if listing.text(file).is_some_and(is_main) {
            folders.insert(folder);
        }
    }
    let mut mains = BTreeMap::new();
    for folder in folders {
        let name = match folder {
            "" => module.name(),
            folder => folder.rsplit('/').next().unwrap_or(folder),
        };
        let taken = mains.contains_key(name);
        let name = if taken {
            folder.replace('/', "-")
        } else {
            name.to_owned()
        };
        mains.insert(name, folder.to_owned());
    }
    mains
}

/// Says whether a file is of package `main` and always built.
fn is_main(text: &str) -> bool {
    let mut comment = false;
    for line in text.lines().map(str::trim) {
        if comment {
            comment = !line.contains("*/");
            continue;
        }
        if let Some(constraint) = line
            .strip_prefix("//go:build ")
            .or_else(|| line.strip_prefix("// +build "))
        {
            // By custom: not part of the program, but run by hand.
            let words = constraint.split(|c: char| !c.is_alphanumeric() && c != '_');
            if words
                .into_iter()
                .any(|word| matches!(word, "ignore" | "tools"))
            {
                return false;
            }
        } else if line.starts_with("/*") {
            comment = !line.contains("*/");
        } else if !line.is_empty() && !line.starts_with("//") {
            let mut words = line.split_whitespace();
            return words.next() == Some("package")
                && words
                    .next()
                    .is_some_and(|name| name.trim_end_matches(';') == "main");
        }
    }
    false
}

fn choose(
    mains: &BTreeMap<String, String>,
    module: &Module,
    application: &str,
) -> Result<(String, String)> {
    let pair = |(name, folder): (&String, &String)| (name.clone(), folder.clone());
    let only = mains.iter().next().filter(|_| mains.len() == 1);
    let named = |name: &str| mains.get_key_value(name);
    if let Some(main) = only
        .or_else(|| named(module.name()))
        .or_else(|| named(application))
    {
        return Ok(pair(main));
    }
    let list: Vec<_> = mains
        .iter()
        .map(|(name, folder)| match folder.as_str() {
            "" => name.clone(),
            folder => format!("{name} (in {folder})"),
        })
        .collect();
    let first = mains.keys().next().map_or("", String::as_str);
    Err(Error::invalid(format!(
        "the module {} has several programs, and none is named like the module or the application: {}. Say which to start in a Procfile, such as `web: {first}`, or say `command` under `[build]` in tappaas.toml",
        module.path,
        list.join(", ")
    )))
}
