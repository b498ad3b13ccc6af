//! The samples beside this file: what manifests mean, and how wrong ones are answered.

use std::{fmt::Write as _, fs, path::Path};

use serde_json::json;
use tappaas_core::{
    Name,
    backend::Image,
    manifest::Manifest,
    model::{ApplicationContent, Source},
};

#[test]
fn every_wrong_manifest_is_answered_with_line_and_caret() {
    let mut answers = String::new();
    for (name, text) in samples("invalid") {
        let Err(error) = Manifest::parse(&text, Manifest::FILE) else {
            panic!("{name} is accepted");
        };
        assert!(error.line().is_some(), "{name}: no line in `{error}`");
        writeln!(answers, "── {name}\n{error}\n").unwrap();
    }
    insta::assert_snapshot!("invalid", answers);
}

#[test]
fn every_good_manifest_means_what_it_says() {
    for (name, text) in samples("valid") {
        let manifest = Manifest::parse(&text, &name)
            .unwrap_or_else(|error| panic!("{name} is refused: {error}"));
        let resolved = ["production", "staging"].map(|environment| {
            let resolved = manifest.resolve(&Name::new(environment).unwrap(), source());
            let difference = without_defaults(&resolved.content);
            (
                environment,
                json!({ "name": resolved.name, "scale": resolved.scale, "autoscale": resolved.autoscale, "content": difference }),
            )
        });
        insta::assert_json_snapshot!(name.trim_end_matches(".toml"), resolved);
    }
}

#[test]
fn a_manifest_has_a_limit() {
    let text = "#".repeat(Manifest::SIZE_MAX + 1);
    assert!(Manifest::parse(&text, Manifest::FILE).is_err());
    assert!(Manifest::parse(&text[1..], Manifest::FILE).is_ok());
}

#[test]
fn deep_nesting_is_refused() {
    let text = format!("name = {}1{}", "[".repeat(10_000), "]".repeat(10_000));
    assert!(Manifest::parse(&text, Manifest::FILE).is_err());
}

#[test]
fn values_of_variables_are_not_in_the_debug_form() {
    let manifest = Manifest::parse("[env]\nTOKEN = \"hunter2\"", Manifest::FILE).unwrap();
    assert!(!format!("{manifest:?}").contains("hunter2"));
}

#[test]
fn the_committed_schema_is_the_one_of_the_types() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/manifest.schema.json");
    let committed = fs::read_to_string(path).unwrap_or_default();
    let schema = serde_json::to_string_pretty(&Manifest::schema()).unwrap() + "\n";
    assert!(
        committed == schema,
        "write it again: cargo run -p tappaas-core --example manifest_schema > docs/manifest.schema.json"
    );
}

fn samples(folder: &str) -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/it/manifest")
        .join(folder);
    let mut samples: Vec<_> = fs::read_dir(folder)
        .expect("the samples lie beside this file")
        .map(|entry| entry.expect("a folder of the sources can be listed"))
        .map(|entry| {
            let name = entry
                .file_name()
                .into_string()
                .expect("the samples have plain names");
            (
                name,
                fs::read_to_string(entry.path()).expect("a sample is text"),
            )
        })
        .collect();
    samples.sort();
    assert!(!samples.is_empty());
    samples
}

fn source() -> Source {
    Source::Image {
        reference: "registry.example.com/shop:1".to_owned(),
        image: Image {
            repository: "registry.example.com/shop"
                .parse()
                .expect("a good repository"),
            digest: tappaas_core::Digest::of("shop"),
        },
    }
}

/// The fields in which a content differs from that of an empty manifest.
fn without_defaults(content: &ApplicationContent) -> serde_json::Value {
    let empty = Manifest::default().resolve(&Name::new("any").expect("a good name"), source());
    let usual = serde_json::to_value(empty.content).expect("a content is JSON");
    let mut content = serde_json::to_value(content).expect("a content is JSON");
    let fields = content.as_object_mut().expect("a content is a JSON object");
    fields.retain(|key, value| usual.get(key) != Some(value));
    content
}
