use super::{
    load::Load,
    platform::{Platform, text, until},
    sources,
};

const TWO: &str = "[processes.web]\nreplicas = 2\n";

#[test]
fn a_killed_server_takes_no_request_with_it_and_its_successor_goes_on() {
    let platform = Platform::served();
    let folder = platform.dir("shop");
    sources::write_server(&folder, "one", "", TWO);
    platform.ok(&["deploy", text(&folder)]);
    let server = platform.processes(" serve ");
    let running = || {
        let mut all = platform.processes("");
        all.retain(|process| !process.command.contains(" serve "));
        all
    };
    let before = running();
    let of = |part| {
        let ours = before.iter().filter(|one| one.command.contains(part));
        ours.count()
    };
    assert_eq!((of("__edge"), of("__shim")), (1, 2), "{before:#?}");
    let load = Load::on(platform.http(), "shop.localhost", &["one", "two"]);
    load.goes_on(100);
    platform.kill_server();
    load.goes_on(100);
    platform.serve_again();
    load.goes_on(100);
    assert_ne!(platform.processes(" serve "), server);
    assert_eq!(running(), before, "the edge and all instances go on");
    let status = platform.json(&["status", "shop"]);
    assert_eq!(status["application"]["processes"]["web"]["ready"], 2);
    sources::write_server(&folder, "two", "", TWO);
    platform.ok(&["deploy", text(&folder)]);
    platform.answers("shop.localhost", "two");
    load.none_failed();
}

#[test]
fn no_request_is_lost_while_releases_and_counts_change() {
    let platform = Platform::served();
    let folder = platform.dir("shop");
    sources::write_server(&folder, "one", "", TWO);
    platform.ok(&["deploy", text(&folder)]);
    let load = Load::on(platform.http(), "shop.localhost", &["one", "two"]);
    load.goes_on(50);
    sources::write_server(&folder, "two", "", TWO);
    platform.ok(&["deploy", text(&folder)]);
    for command in [
        &["scale", "shop", "web=4"][..],
        &["scale", "shop", "web=1"],
        &["config", "set", "shop", "GREETING=hello"],
        &["restart", "shop"],
        &["rollback", "shop", "1"],
    ] {
        platform.ok(command);
        load.goes_on(50);
    }
    platform.answers("shop.localhost", "one");
    load.none_failed();
}

#[test]
fn after_a_reboot_the_current_release_serves_and_not_a_refused_one() {
    let platform = Platform::served();
    let folder = platform.dir("shop");
    sources::write_server(&folder, "one", "", TWO);
    platform.ok(&["deploy", text(&folder)]);
    sources::write_server(&folder, "two", "echo no database; exit 3;", TWO);
    platform
        .run(&["deploy", text(&folder)])
        .refused(&["exited with code 3"]);
    platform.kill_server();
    until("everything is killed", || {
        let left = platform.processes("");
        left.iter().for_each(super::census::Process::kill);
        left.is_empty()
    });
    platform.serve_again();
    platform.answers("shop.localhost", "one");
    until("all instances are back", || {
        let status = platform.json(&["status", "shop"]);
        status["application"]["processes"]["web"]["ready"] == 2
    });
    let status = platform.json(&["status", "shop"]);
    assert_eq!(status["application"]["current"], 1);
    for instance in status["instances"].as_array().unwrap() {
        assert_eq!(instance["release"], 1, "{status:#}");
    }
    let releases = platform.json(&["releases", "shop"]);
    let phases: Vec<_> = releases["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|release| release["phase"].as_str().unwrap())
        .collect();
    assert_eq!(phases, ["healthy", "failed"]);
}

#[test]
fn stopping_the_server_alone_leaves_applications_serving() {
    let platform = Platform::served();
    let folder = platform.dir("shop");
    sources::write_server(&folder, "one", "", "");
    platform.ok(&["deploy", text(&folder)]);
    let load = Load::on(platform.http(), "shop.localhost", &["one"]);
    platform.ok(&["stop"]);
    assert!(platform.server_ends());
    load.goes_on(50);
    platform.serve_again();
    load.goes_on(50);
    load.none_failed();
    platform.ok(&["stop", "--apps"]);
    assert!(platform.server_ends());
    platform.leaves_nothing();
}
