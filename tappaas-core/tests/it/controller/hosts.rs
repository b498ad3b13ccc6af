//! Default hosts.

use std::collections::BTreeSet;

use tappaas_core::{controller::application::default_host, model::Host};

fn host(key: &str) -> String {
    let base: Host = "localhost".parse().unwrap();
    default_host(&key.parse().unwrap(), &base).to_string()
}

#[test]
fn the_default_host_names_what_is_not_the_default_and_all_within() {
    for (key, expected) in [
        ("default/default/production/a", "a.localhost"),
        ("default/default/b/a", "a.b.localhost"),
        ("default/b/production/a", "a.production.b.localhost"),
        ("b/default/production/a", "a.production.default.b.localhost"),
        ("d/c/b/a", "a.b.c.d.localhost"),
    ] {
        assert_eq!(host(key), expected);
    }
}

#[test]
fn no_two_applications_have_the_same_default_host() {
    let words = ["default", "production", "b"];
    let mut hosts = BTreeSet::new();
    for tenant in words {
        for project in words {
            for environment in words {
                let key = format!("{tenant}/{project}/{environment}/a");
                assert!(hosts.insert(host(&key)), "{key}");
            }
        }
    }
}
