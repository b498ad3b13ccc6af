//! Rules of this project that no lint knows, held against the whole tree.
//!
//! A rule is a pure function from text to findings, and stands beside a test that shows it finding
//! something. The tests in this file hold every rule against the tree.

mod documents;
mod manifests;
mod modules;
mod sources;
mod tree;
mod words;

use tree::{Text, Tree};

fn passes(findings: &[String]) {
    assert!(
        findings.is_empty(),
        "{} findings:\n{}",
        findings.len(),
        findings.join("\n")
    );
}

fn each(texts: impl Iterator<Item = Text>, rule: impl Fn(&Text) -> Vec<String>) {
    passes(&texts.flat_map(|text| rule(&text)).collect::<Vec<_>>());
}

#[test]
fn crates_know_only_the_crates_they_may() {
    each(Tree::read().manifests(), manifests::edges);
}

#[test]
fn every_crate_takes_lints_and_dependencies_from_the_workspace() {
    each(Tree::read().manifests(), manifests::what_is_not_shared);
}

#[test]
fn every_dependency_of_the_workspace_is_used() {
    let tree = Tree::read();
    passes(&manifests::unused(
        &tree.text("Cargo.toml"),
        &tree.manifests().collect::<Vec<_>>(),
    ));
}

#[test]
fn the_one_machine_platform_can_be_embedded_without_the_command_line() {
    let root = Tree::read().text("Cargo.toml");
    if manifests::has_feature(&root, "local") {
        passes(&manifests::command_line_crates(
            &manifests::dependency_tree("local"),
        ));
    }
}

#[test]
fn every_source_file_is_reached_by_a_mod() {
    passes(&modules::unreached(
        &Tree::read().rust().collect::<Vec<_>>(),
    ));
}

#[test]
fn examples_have_names_of_their_own() {
    passes(&modules::examples_of_one_name(
        &Tree::read().rust().collect::<Vec<_>>(),
    ));
}

#[test]
fn modules_have_telling_names() {
    each(Tree::read().rust(), modules::empty_names);
}

#[test]
fn public_types_do_not_repeat_their_module_or_crate() {
    passes(&modules::repeated_names(
        &Tree::read().rust().collect::<Vec<_>>(),
    ));
}

#[test]
fn source_files_are_short() {
    each(Tree::read().rust(), sources::too_long);
}

#[test]
fn nothing_is_unfinished_silenced_or_skipped() {
    each(
        Tree::read().rust().filter(Text::is_not_a_rule),
        sources::forbidden,
    );
}

#[test]
fn no_program_of_ours_starts_a_shell() {
    each(
        Tree::read().rust().filter(Text::is_not_a_rule),
        sources::shells,
    );
}

#[test]
fn no_file_names_a_place_on_somebodys_machine() {
    let checkout = env!("CARGO_MANIFEST_DIR");
    each(Tree::read().texts().filter(Text::is_not_a_rule), |text| {
        words::machine_paths(text, checkout)
    });
}

#[test]
fn no_file_tells_how_it_came_about() {
    each(
        Tree::read().texts().filter(Text::is_not_a_rule),
        words::diary,
    );
}

#[test]
fn documents_are_short_and_numbered() {
    each(Tree::read().texts(), documents::too_long);
    passes(&documents::misnumbered(
        &Tree::read().texts().collect::<Vec<_>>(),
    ));
}

#[test]
fn the_changelog_has_room_for_what_comes() {
    passes(&documents::changelog(&Tree::read().text("CHANGELOG.md")));
}
