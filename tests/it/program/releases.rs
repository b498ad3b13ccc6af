use std::collections::BTreeSet;

use super::{
    platform::{Platform, text},
    sources,
};

const HOST: &str = "shop.localhost";

#[test]
fn three_instances_run_where_three_are_asked_for() {
    let platform = Platform::served();
    let folder = platform.dir("shop");
    sources::write_server(&folder, "one", "", "");
    platform.ok(&["deploy", text(&folder)]);
    platform.ok(&["scale", "shop", "web=3"]);
    let status = platform.json(&["status", "shop"]);
    assert_eq!(status["application"]["processes"]["web"]["ready"], 3);
    assert_eq!(instances(&platform).len(), 3);
    assert_eq!(versions(&platform), [1], "counts are no release");
    platform.ok(&["scale", "shop", "web=1"]);
    assert_eq!(instances(&platform).len(), 1);
}

#[test]
fn a_variable_is_a_release_masked_everywhere_and_rolled_back() {
    let platform = Platform::served();
    let folder = platform.dir("shop");
    sources::write_server(&folder, "one", "", "");
    platform.ok(&["deploy", text(&folder)]);
    let greeting = || {
        let reply = platform.get(HOST, "/env/GREETING");
        (reply.status == 200).then_some(reply.body)
    };
    assert_eq!(greeting(), None);

    let ran = platform.run_with(&["config", "set", "shop", "GREETING=-"], "hola-7f3a\n");
    assert!(ran.stderr.contains("unencrypted"), "{ran:?}");
    ran.ok();
    assert_eq!(greeting().as_deref(), Some("hola-7f3a"));
    assert_eq!(versions(&platform), [1, 2]);
    let again = platform.ok(&["config", "set", "shop", "GREETING=hola-7f3a"]);
    assert_eq!(again, "nothing changed\n");

    for masked in [&["config", "list", "shop"][..], &["diff", "shop", "1", "2"]] {
        for output in ["text", "json"] {
            let printed = platform.ok(&[masked, &["-o", output]].concat());
            assert!(printed.contains("GREETING"), "{printed}");
            assert!(!printed.contains("hola"), "{printed}");
            let revealed = platform.ok(&[masked, &["--reveal", "-o", output]].concat());
            assert!(revealed.contains("hola-7f3a"), "{revealed}");
        }
    }
    for shown in [
        &["status", "shop", "-o", "json"][..],
        &["releases", "shop", "-o", "json"],
    ] {
        assert!(!platform.ok(shown).contains("hola"));
    }

    platform.ok(&["rollback", "shop"]);
    assert_eq!(greeting(), None);
    assert_eq!(versions(&platform), [1, 2, 3]);
    let printed = platform.ok(&["releases", "shop"]);
    assert!(printed.contains("content of release 1"), "{printed}");
    assert_eq!(platform.ok(&["diff", "shop", "1", "3"]), "no difference\n");
    platform.ok(&["rollback", "shop", "2"]);
    assert_eq!(greeting().as_deref(), Some("hola-7f3a"));
    platform.ok(&["config", "unset", "shop", "GREETING"]);
    assert_eq!(greeting(), None);
    let log = std::fs::read_to_string(platform.dir("serve.log")).unwrap();
    assert!(!log.contains("hola"), "{log}");
}

#[test]
fn a_restart_replaces_every_instance() {
    let platform = Platform::served();
    let folder = platform.dir("shop");
    sources::write_server(&folder, "one", "", "[processes.web]\nreplicas = 2\n");
    platform.ok(&["deploy", text(&folder)]);
    let before = instances(&platform);
    platform.ok(&["restart", "shop"]);
    let after = instances(&platform);
    assert_eq!((before.len(), after.len()), (2, 2));
    assert!(before.is_disjoint(&after));
    platform.answers(HOST, "one");
}

#[test]
fn a_plan_shows_steps_and_takes_none() {
    let platform = Platform::served();
    let folder = platform.dir("shop");
    sources::write_server(&folder, "one", "", "");
    let planned = platform.ok(&["plan", text(&folder)]);
    assert!(planned.starts_with("  1  "), "{planned}");
    assert_eq!(
        platform.json(&["apps"])["items"].as_array().unwrap().len(),
        0
    );
    platform.ok(&["deploy", text(&folder)]);
    assert_eq!(platform.ok(&["plan", text(&folder)]), "nothing to do\n");
    let before = instances(&platform);
    sources::write_server(&folder, "two", "", "");
    assert!(platform.ok(&["plan", text(&folder)]).starts_with("  1  "));
    let steps = platform.json(&["plan", text(&folder)]);
    assert!(!steps["steps"].as_array().unwrap().is_empty());
    platform.answers(HOST, "one");
    assert_eq!(versions(&platform), [1]);
    assert_eq!(
        platform.json(&["builds", "shop"])["items"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert_eq!(instances(&platform), before);
}

#[test]
fn deploying_the_same_again_builds_and_releases_nothing() {
    let platform = Platform::served();
    let folder = platform.dir("shop");
    sources::write_server(&folder, "one", "", "");
    platform.ok(&["deploy", text(&folder)]);
    let before = instances(&platform);
    platform.ok(&["deploy", text(&folder)]);
    assert_eq!(versions(&platform), [1]);
    assert_eq!(instances(&platform), before);
}

/// The identifiers of the instances that are ready.
fn instances(platform: &Platform) -> BTreeSet<String> {
    let status = platform.json(&["status", "shop"]);
    let all = status["instances"].as_array().unwrap();
    let ready = all.iter().filter(|instance| instance["ready"] == true);
    ready.map(|instance| instance["id"].to_string()).collect()
}

fn versions(platform: &Platform) -> Vec<u64> {
    let releases = platform.json(&["releases", "shop"]);
    let all = releases["items"].as_array().unwrap().iter();
    all.map(|release| release["version"].as_u64().unwrap())
        .collect()
}
