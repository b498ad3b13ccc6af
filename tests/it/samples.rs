//! What the documentation shows and the sample applications contain is what the platform reads.

use std::fs;
use std::path::Path;

use tappaas_core::Name;
use tappaas_core::manifest::{Manifest, Procfile};

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("cannot read {path:?}: {error}"))
}

fn name(text: &str) -> Name {
    Name::new(text).expect("the tests use valid names")
}

#[test]
fn the_manifest_in_the_readme_is_a_manifest() {
    let readme = read("README.md");
    let (_, rest) = readme.split_once("```toml\n").unwrap();
    let (shown, _) = rest.split_once("```").unwrap();
    let manifest = Manifest::parse(shown, "README.md").unwrap();
    assert_eq!(manifest.processes[&name("web")].replicas, Some(2));
    assert_eq!(manifest.bindings[&name("api")].0.application, name("api"));
}

#[test]
fn the_front_application_is_bound_to_the_api_by_the_name_in_its_variable() {
    let manifest = read("examples/apps/binding/front/tappaas.toml");
    let manifest = Manifest::parse(&manifest, Manifest::FILE).unwrap();
    assert_eq!(manifest.bindings[&name("api")].0.application, name("api"));
    assert!(read("examples/apps/binding/front/app.py").contains("API_URL"));
}

#[test]
fn the_worker_has_a_process_that_serves_and_one_that_works() {
    let procfile = Procfile::parse(&read("examples/apps/worker/Procfile")).unwrap();
    let names: Vec<_> = procfile.processes.keys().map(Name::as_str).collect();
    assert_eq!(names, ["web", "worker"]);
}

#[test]
fn every_other_procfile_of_the_samples_names_what_serves() {
    for folder in ["binding/api", "binding/front", "python"] {
        let procfile = Procfile::parse(&read(&format!("examples/apps/{folder}/Procfile"))).unwrap();
        assert!(procfile.processes.contains_key(&name("web")), "{folder}");
    }
}
