use std::collections::{BTreeMap, BTreeSet};

use super::tree::Text;

/// Names that say nothing about what is inside.
const EMPTY: &[&str] = &[
    "common", "helpers", "manager", "managers", "misc", "util", "utils",
];

/// Source files that no compilation reaches: nothing declares them as a module.
pub(super) fn unreached(sources: &[Text]) -> Vec<String> {
    let by_path: BTreeMap<_, _> = sources
        .iter()
        .map(|text| (text.path.as_str(), text))
        .collect();
    let mut waiting: Vec<&Text> = sources.iter().filter(|text| is_root(&text.path)).collect();
    let mut reached = BTreeSet::new();
    while let Some(text) = waiting.pop() {
        if reached.insert(text.path.as_str()) {
            let children = declared(text).flat_map(|module| files_of(&text.path, module.name));
            waiting.extend(children.filter_map(|path| by_path.get(path.as_str())));
        }
    }
    let dead = sources
        .iter()
        .filter(|text| !reached.contains(text.path.as_str()));
    dead.map(|text| text.finding(1, "no `mod` leads here"))
        .collect()
}

/// Example programs of one name, of which cargo keeps only the last it built.
pub(super) fn examples_of_one_name(sources: &[Text]) -> Vec<String> {
    let mut names = BTreeSet::new();
    let repeated = sources.iter().filter(|text| {
        let name = match text.path.split('/').collect::<Vec<_>>()[..] {
            ["examples", file] | [_, "examples", file] => file.trim_end_matches(".rs"),
            ["examples", folder, "main.rs"] | [_, "examples", folder, "main.rs"] => folder,
            _ => return false,
        };
        !names.insert(name)
    });
    let repeated =
        repeated.map(|text| text.finding(1, "another crate has an example of this name"));
    repeated.collect()
}

/// Modules called by one of the names that say nothing.
pub(super) fn empty_names(source: &Text) -> Vec<String> {
    let file = source.path.trim_end_matches(".rs").rsplit('/').take(2);
    let file = file
        .filter(|name| EMPTY.contains(name))
        .map(|name| (1, name));
    let declared = inline_and_declared(source).filter(|(_, module)| EMPTY.contains(&module.name));
    let declared = declared.map(|(line, module)| (line, module.name));
    file.chain(declared)
        .map(|(line, name)| {
            source.finding(line, &format!("`{name}` says nothing: name what it does"))
        })
        .collect()
}

/// Public types whose name repeats what the path to them says already: `K8sScheduler` in
/// `tappaas_k8s`, `MemoryStore` in the public module `memory`.
pub(super) fn repeated_names(sources: &[Text]) -> Vec<String> {
    let public: BTreeMap<String, &str> = sources
        .iter()
        .flat_map(|text| declared(text).map(move |module| (text, module)))
        .filter(|(_, module)| module.public)
        .flat_map(|(text, module)| {
            files_of(&text.path, module.name).map(move |path| (path, module.name))
        })
        .collect();
    let of = |text: &Text| {
        let module = public.get(&text.path).map(|name| pascal(name));
        let own_crate = crate_word(&text.path).map(pascal);
        repeats(text, module.as_deref(), own_crate.as_deref())
    };
    sources.iter().flat_map(of).collect()
}

/// What may repeat its module all the same: mocks have the names that `mockall` gives them, and fixtures stand side by side in the
/// tests that implement them.
fn excused(name: &str) -> bool {
    name.starts_with("Mock") || name.ends_with("Fixture")
}

fn repeats(text: &Text, module: Option<&str>, own_crate: Option<&str>) -> Vec<String> {
    let says_more = |name: &str, word: &str| name.len() > word.len() && !excused(name);
    let of_module = |name: &str| {
        module.filter(|word| {
            says_more(name, word) && (name.starts_with(word) || name.ends_with(word))
        })
    };
    let of_crate =
        |name: &str| own_crate.filter(|word| says_more(name, word) && name.starts_with(word));
    public_types(text)
        .chain(passed_on(text))
        .filter_map(|(line, name)| Some((line, name, of_module(name).or_else(|| of_crate(name))?)))
        .map(|(line, name, word)| {
            text.finding(
                line,
                &format!("`{name}` repeats `{word}`, which its path says"),
            )
        })
        .collect()
}

fn public_types(text: &Text) -> impl Iterator<Item = (usize, &str)> {
    text.lines().filter_map(|(line, code)| {
        let rest = code.strip_prefix("pub ")?;
        let words = ["struct ", "enum ", "trait ", "type "];
        let rest = words.iter().find_map(|word| rest.strip_prefix(word))?;
        Some((line, rest.split(|one: char| !one.is_alphanumeric()).next()?))
    })
}

/// The types that a file has from private modules and makes public under its own path.
fn passed_on(text: &Text) -> impl Iterator<Item = (usize, &str)> {
    let statements = text.content.match_indices("\npub use ").map(|(at, _)| {
        let line = text.content[..=at].lines().count() + 1;
        (
            line,
            text.content[at..].split(';').next().unwrap_or_default(),
        )
    });
    statements.flat_map(|(line, statement)| {
        let items = statement.split([',', '{', '}']);
        let names = items.filter_map(|item| item.trim().rsplit([' ', ':']).next());
        names
            .filter(|name| name.starts_with(char::is_uppercase))
            .map(move |name| (line, name))
    })
}

/// `local` for a file in `tappaas-local/src`; tests and the root package have none.
fn crate_word(path: &str) -> Option<&str> {
    let (folder, rest) = path.split_once('/')?;
    rest.starts_with("src/")
        .then(|| folder.strip_prefix("tappaas-"))?
}

fn pascal(snake: &str) -> String {
    snake
        .split('_')
        .filter_map(|word| Some((word.get(..1)?, word.get(1..)?)))
        .fold(String::new(), |name, (first, rest)| {
            name + &first.to_uppercase() + rest
        })
}

struct Module<'a> {
    name: &'a str,
    public: bool,
}

/// The modules of a file that are files of their own.
fn declared(text: &Text) -> impl Iterator<Item = Module<'_>> {
    text.lines()
        .filter(|(_, line)| line.ends_with(';'))
        .filter_map(|(_, line)| module(line))
}

fn inline_and_declared(text: &Text) -> impl Iterator<Item = (usize, Module<'_>)> {
    text.lines()
        .filter_map(|(number, line)| Some((number, module(line)?)))
}

fn module(line: &str) -> Option<Module<'_>> {
    let line = line.trim_start();
    let public = line.starts_with("pub mod ");
    let rest = match line.strip_prefix("pub") {
        Some(rest) if rest.starts_with('(') => rest.split_once(") ")?.1,
        Some(rest) => rest.strip_prefix(' ')?,
        None => line,
    };
    let name = rest.strip_prefix("mod ")?.split([';', ' ']).next()?;
    Some(Module { name, public })
}

/// Where the module `name`, declared in the file at `path`, can be.
fn files_of(path: &str, name: &str) -> [String; 2] {
    let (folder, file) = path.rsplit_once('/').unwrap_or(("", path));
    let base = if is_root(path) || file == "mod.rs" {
        folder.to_owned()
    } else {
        path.trim_end_matches(".rs").to_owned()
    };
    [format!("{base}/{name}.rs"), format!("{base}/{name}/mod.rs")]
}

/// Whether cargo compiles the file by itself, as a library, a program, a test, an example or a bench.
/// Only `tests/it/main.rs` counts of the tests: a crate has one integration-test binary. What a crate must survive may be another one,
/// `torture`, which starts itself again in order to be killed; what needs a cluster, of Kubernetes or of etcd, a third, `cluster` or `operator`.
fn is_root(path: &str) -> bool {
    let parts: Vec<_> = path.split('/').collect();
    match parts.as_slice() {
        ["build.rs"] | [_, "build.rs"] => true,
        [.., "src", "lib.rs" | "main.rs"]
        | [
            ..,
            "tests",
            "cluster" | "etcd" | "it" | "operator" | "torture",
            "main.rs",
        ] => true,
        [.., "src", "bin", file] | [.., "src", "bin", file, "main.rs"] => !file.is_empty(),
        ["examples" | "benches", _] | [_, "examples" | "benches", _] => true,
        ["examples" | "benches", _, "main.rs"] | [_, "examples" | "benches", _, "main.rs"] => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_a_mod_is_found_and_its_modules_with_it() {
        let tree = [
            Text::new("x/src/lib.rs", "mod one;\npub(crate) mod two;\n"),
            Text::new("x/src/one.rs", "mod deep;\n"),
            Text::new("x/src/one/deep.rs", ""),
            Text::new("x/src/two/mod.rs", "pub mod deep;\n"),
            Text::new("x/src/two/deep.rs", ""),
            Text::new("x/src/dead.rs", "mod deep;\n"),
            Text::new("x/src/dead/deep.rs", ""),
        ];
        let found = unreached(&tree);
        let expected = [
            "x/src/dead.rs:1: no `mod` leads here",
            "x/src/dead/deep.rs:1: no `mod` leads here",
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn examples_of_one_name_are_found() {
        let paths = [
            "a/examples/serve.rs",
            "b/examples/serve/main.rs",
            "examples/deploy.rs",
        ];
        let tree = paths.map(|path| Text::new(path, ""));
        let expected = ["b/examples/serve/main.rs:1: another crate has an example of this name"];
        assert_eq!(examples_of_one_name(&tree), expected);
    }

    #[test]
    fn a_test_that_the_one_binary_does_not_name_is_found() {
        let tree = [
            Text::new("tests/it/main.rs", "mod named;\n"),
            Text::new("tests/it/named.rs", ""),
            Text::new("tests/it/forgotten.rs", ""),
            Text::new("tests/second_binary.rs", ""),
        ];
        assert_eq!(unreached(&tree).len(), 2);
    }

    #[test]
    fn programs_and_examples_are_reached_without_a_mod() {
        let paths = [
            "src/bin/tappaas/main.rs",
            "src/bin/one.rs",
            "examples/embed.rs",
            "x/build.rs",
        ];
        let tree = paths.map(|path| Text::new(path, ""));
        assert!(unreached(&tree).is_empty());
        assert!(!is_root("src/bin/tappaas/serve.rs"));
    }

    #[test]
    fn names_that_say_nothing_are_found_in_files_folders_and_mods() {
        assert_eq!(empty_names(&Text::new("x/src/utils.rs", "")).len(), 1);
        assert_eq!(empty_names(&Text::new("x/src/helpers/one.rs", "")).len(), 1);
        assert_eq!(
            empty_names(&Text::new("x/src/lib.rs", "mod a;\n    pub mod common {\n")).len(),
            1
        );
        assert!(empty_names(&Text::new("x/src/helper.rs", "mod uncommon;\n")).is_empty());
    }

    #[test]
    fn a_type_that_repeats_its_public_module_is_found() {
        let module = Text::new(
            "x/src/memory.rs",
            "pub struct MemoryStore;\npub struct Store;\npub struct Memory;\n",
        );
        let with = |lib: &str| repeated_names(&[Text::new("x/src/lib.rs", lib), module.clone()]);
        let found = with("pub mod memory;\n");
        assert_eq!(
            found,
            ["x/src/memory.rs:1: `MemoryStore` repeats `Memory`, which its path says"]
        );
        assert!(with("mod memory;\n").is_empty());
    }

    #[test]
    fn a_type_that_a_public_module_passes_on_counts_as_its_own() {
        let module = "mod error;\n\npub use error::{\n    Fault, Inner as ParserError,\n};\n";
        let found = repeated_names(&[
            Text::new("x/src/lib.rs", "pub mod parser;\n"),
            Text::new("x/src/parser/mod.rs", module),
        ]);
        assert_eq!(
            found,
            ["x/src/parser/mod.rs:3: `ParserError` repeats `Parser`, which its path says"]
        );
    }

    #[test]
    fn a_type_that_repeats_its_crate_is_found() {
        let source = "pub enum LocalError {}\npub trait Locality {}\nstruct LocalSecret;\n";
        let found = repeated_names(&[Text::new("tappaas-local/src/error.rs", source)]);
        assert_eq!(found.len(), 2, "{found:?}");
    }

    #[test]
    fn a_module_name_becomes_a_type_name() {
        assert_eq!(pascal("work_queue"), "WorkQueue");
    }
}
