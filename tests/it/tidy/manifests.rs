use std::collections::BTreeSet;
use std::process::Command;

use toml::{Table, Value};

use super::tree::Text;

/// Which of our crates a crate may use, and which besides these its tests may use.
const EDGES: &[(&str, &[&str], &[&str])] = &[
    ("tappaas", ALL, &[]),
    ("tappaas-api", CORE, TESTKIT),
    ("tappaas-core", &[], TESTKIT),
    ("tappaas-etcd", CORE, TESTKIT),
    ("tappaas-k8s", CORE, TESTKIT),
    ("tappaas-local", CORE, TESTKIT),
    ("tappaas-registry", CORE, TESTKIT),
    ("tappaas-secrets", CORE, TESTKIT),
    ("tappaas-store", CORE, TESTKIT),
    ("tappaas-testkit", CORE, &[]),
    ("tappaas-tls", CORE, TESTKIT),
    ("xtask", &[], &[]),
];
const CORE: &[&str] = &["tappaas-core"];
const TESTKIT: &[&str] = &["tappaas-testkit"];
const ALL: &[&str] = &[
    "tappaas-api",
    "tappaas-core",
    "tappaas-etcd",
    "tappaas-k8s",
    "tappaas-local",
    "tappaas-registry",
    "tappaas-secrets",
    "tappaas-store",
    "tappaas-testkit",
    "tappaas-tls",
];

/// Crates that only a program with a terminal needs.
const COMMAND_LINE: &[&str] = &[
    "clap",
    "clap_complete",
    "comfy-table",
    "console",
    "dialoguer",
    "indicatif",
];

/// Uses of our own crates that the crate map does not allow.
pub(super) fn edges(manifest: &Text) -> Vec<String> {
    let table = parsed(manifest);
    let name = name_of(&table);
    let Some((_, allowed, in_tests)) = EDGES.iter().find(|(known, _, _)| *known == name) else {
        return vec![manifest.finding(1, &format!("crate `{name}` is not on the map in tidy"))];
    };
    dependencies(&table)
        .filter(|used| used.name.starts_with("tappaas"))
        .filter(|used| !allowed.contains(&used.name))
        .filter(|used| !(used.kind == "dev-dependencies" && in_tests.contains(&used.name)))
        .map(|used| {
            manifest.finding(
                1,
                &format!("`{name}` must not use `{}` ({})", used.name, used.kind),
            )
        })
        .collect()
}

/// Lints and versions that a crate decides for itself instead of the workspace.
pub(super) fn what_is_not_shared(manifest: &Text) -> Vec<String> {
    let table = parsed(manifest);
    let lints = table.get("lints").is_some_and(inherited);
    let lints = (!lints).then(|| manifest.finding(1, "`[lints] workspace = true` is missing"));
    let own = dependencies(&table)
        .filter(|used| !inherited(used.value))
        .map(|used| {
            manifest.finding(
                1,
                &format!("`{}` has its version here, not in the workspace", used.name),
            )
        });
    lints.into_iter().chain(own).collect()
}

/// Dependencies that the workspace declares and no member uses.
pub(super) fn unused(root: &Text, members: &[Text]) -> Vec<String> {
    let members: Vec<_> = members.iter().map(parsed).collect();
    let used: BTreeSet<_> = members
        .iter()
        .flat_map(dependencies)
        .map(|used| used.name)
        .collect();
    let root_table = parsed(root);
    let declared = root_table
        .get("workspace")
        .and_then(|table| table.get("dependencies"));
    let declared = declared.and_then(Value::as_table).into_iter().flatten();
    declared
        .filter(|(name, _)| !used.contains(name.as_str()))
        .map(|(name, _)| root.finding(1, &format!("no crate uses the dependency `{name}`")))
        .collect()
}

pub(super) fn has_feature(manifest: &Text, feature: &str) -> bool {
    parsed(manifest)
        .get("features")
        .is_some_and(|features| features.get(feature).is_some())
}

/// What `cargo tree` prints for an embedder that takes one feature of the root package.
pub(super) fn dependency_tree(feature: &str) -> String {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--package",
            "tappaas",
            "--no-default-features",
            "--features",
            feature,
        ])
        .args(["--edges", "normal", "--prefix", "none", "--frozen"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo, which runs this test, can be started");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Crates in the output of `cargo tree` that have no place in a library.
pub(super) fn command_line_crates(tree: &str) -> Vec<String> {
    let names = tree
        .lines()
        .filter_map(|line| line.split_whitespace().next());
    let found: BTreeSet<_> = names.filter(|name| COMMAND_LINE.contains(name)).collect();
    found
        .into_iter()
        .map(|name| format!("an embedder would compile `{name}`"))
        .collect()
}

struct Dependency<'a> {
    name: &'a str,
    kind: &'a str,
    value: &'a Value,
}

/// All dependencies of a manifest, of every kind and for every target.
fn dependencies(manifest: &Table) -> impl Iterator<Item = Dependency<'_>> {
    let targets = manifest
        .get("target")
        .and_then(Value::as_table)
        .into_iter()
        .flatten();
    let tables = targets
        .filter_map(|(_, table)| table.as_table())
        .chain([manifest]);
    tables
        .flatten()
        .filter(|(kind, _)| kind.ends_with("dependencies"))
        .flat_map(|(kind, table)| {
            let entries = table.as_table().into_iter().flatten();
            entries.map(move |(name, value)| Dependency { name, kind, value })
        })
}

fn inherited(value: &Value) -> bool {
    value.get("workspace").and_then(Value::as_bool) == Some(true)
}

fn name_of(manifest: &Table) -> String {
    let name = manifest
        .get("package")
        .and_then(|package| package.get("name"));
    name.and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn parsed(manifest: &Text) -> Table {
    let path = &manifest.path;
    manifest
        .content
        .parse()
        .unwrap_or_else(|error| panic!("{path} is not TOML: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(name: &str, rest: &str) -> Text {
        Text::new(
            "x/Cargo.toml",
            &format!("[package]\nname = \"{name}\"\n{rest}"),
        )
    }

    #[test]
    fn a_backend_that_uses_a_sibling_is_found() {
        let uses =
            "[dependencies]\ntappaas-core.workspace = true\ntappaas-store.workspace = true\n";
        let found = edges(&manifest("tappaas-local", uses));
        assert_eq!(
            found,
            ["x/Cargo.toml:1: `tappaas-local` must not use `tappaas-store` (dependencies)"]
        );
        assert!(edges(&manifest("tappaas", uses)).is_empty());
    }

    #[test]
    fn the_testkit_is_for_tests_only() {
        let in_tests = "[dev-dependencies]\ntappaas-testkit.workspace = true\n";
        assert!(edges(&manifest("tappaas-core", in_tests)).is_empty());
        let outside = "[dependencies]\ntappaas-testkit.workspace = true\n";
        assert_eq!(edges(&manifest("tappaas-core", outside)).len(), 1);
    }

    #[test]
    fn a_dependency_for_one_target_or_of_the_build_counts_too() {
        let of_target = "[target.'cfg(unix)'.dependencies]\ntappaas-tls.workspace = true\n";
        assert_eq!(edges(&manifest("tappaas-api", of_target)).len(), 1);
        let of_build = "[build-dependencies]\ntappaas-tls.workspace = true\n";
        assert_eq!(edges(&manifest("tappaas-api", of_build)).len(), 1);
    }

    #[test]
    fn a_crate_that_is_not_on_the_map_is_found() {
        assert_eq!(edges(&manifest("tappaas-extra", "")).len(), 1);
    }

    #[test]
    fn own_lints_and_own_versions_are_found() {
        let shared = "[lints]\nworkspace = true\n[dependencies]\nserde = { workspace = true }\n";
        assert!(what_is_not_shared(&manifest("x", shared)).is_empty());
        let own = "[lints.rust]\nunsafe_code = \"allow\"\n[dependencies]\nserde = \"1\"\n";
        assert_eq!(what_is_not_shared(&manifest("x", own)).len(), 2);
    }

    #[test]
    fn a_dependency_nobody_uses_is_found() {
        let root = Text::new(
            "Cargo.toml",
            "[workspace.dependencies]\nserde = \"1\"\nhttp = \"1\"\n",
        );
        let member = manifest("x", "[dev-dependencies]\nserde.workspace = true\n");
        assert_eq!(
            unused(&root, &[member]),
            ["Cargo.toml:1: no crate uses the dependency `http`"]
        );
    }

    #[test]
    fn a_feature_is_known_by_its_name() {
        let with = manifest("x", "[features]\nlocal = []\n");
        assert!(has_feature(&with, "local"));
        assert!(!has_feature(&with, "loca"));
    }

    #[test]
    fn the_tree_of_an_embedder_begins_with_the_facade() {
        assert!(dependency_tree("default").starts_with("tappaas v"));
    }

    #[test]
    fn command_line_crates_are_found_wherever_they_stand_in_the_tree() {
        let tree = "tappaas v0.1.0 (/x)\nclap v4.6.7\nclap_builder v4.6.7\nclap v4.6.7 (*)\nserde v1.0.0\n";
        assert_eq!(
            command_line_crates(tree),
            ["an embedder would compile `clap`"]
        );
    }
}
