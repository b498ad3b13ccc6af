use std::net::{Ipv4Addr, TcpListener};

use super::{
    platform::{Platform, text},
    sources,
};

#[test]
fn what_is_unknown_is_named_with_the_way_out() {
    let platform = Platform::served();
    let folder = platform.dir("hello");
    sources::write(&folder, &[("index.html", "hello")]);
    platform.ok(&["deploy", text(&folder)]);
    let unknown = "no application `nope` in environment production; there is hello";
    for command in [
        &["status", "nope"][..],
        &["releases", "nope"],
        &["builds", "nope"],
        &["logs", "nope"],
        &["scale", "nope", "web=2"],
        &["restart", "nope"],
        &["rollback", "nope"],
        &["diff", "nope", "1", "2"],
        &["config", "set", "nope", "A=1"],
        &["config", "list", "nope"],
        &["exec", "nope", "--", "true"],
        &["destroy", "nope"],
    ] {
        platform.run(command).refused(&[unknown]);
    }
    let create = "create it with `tappaas env create staging`";
    for command in [
        &["deploy", text(&folder)][..],
        &["plan", text(&folder)],
        &["apps"],
        &["status", "hello"],
        &["volumes", "ls"],
    ] {
        let ran = platform.run(&[command, &["--env", "staging"]].concat());
        ran.refused(&["no environment", "staging", create]);
    }
    let ran = platform.run(&["scale", "hello", "wev=2"]);
    ran.refused(&["no process wev", "it has web"]);
    let ran = platform.run(&["rollback", "hello", "7"]);
    ran.refused(&["release 7"]);
}

#[test]
fn a_manifest_that_is_wrong_is_shown_with_line_and_caret() {
    let platform = Platform::served();
    let cases = [
        (
            "name = \"bad\n",
            &["tappaas.toml:1:12", "1 | name = \"bad", "^"][..],
        ),
        (
            "[processes.web]\nprot = 1\n",
            &[
                "tappaas.toml:2:1",
                "unknown key `prot`",
                "did you mean `port`?",
                "2 | prot = 1",
                "^^^^",
            ],
        ),
    ];
    for (manifest, parts) in cases {
        let folder = platform.dir("bad");
        sources::write(&folder, &[("index.html", "x"), ("tappaas.toml", manifest)]);
        for command in ["deploy", "plan", "up"] {
            platform.run(&[command, text(&folder)]).refused(parts);
        }
    }
    assert_eq!(
        platform.json(&["apps"])["items"].as_array().unwrap().len(),
        0
    );
}

#[test]
fn a_folder_that_cannot_be_built_says_what_is_missing() {
    let platform = Platform::served();
    let empty = platform.dir("empty");
    sources::write(&empty, &[]);
    let parts = ["cannot tell how to build", "index.html", "tappaas.toml"];
    platform.run(&["deploy", text(&empty)]).refused(&parts);

    let docker = platform.dir("docker");
    sources::write(&docker, &[("Dockerfile", "FROM scratch\n")]);
    let parts = ["Dockerfile", "not supported yet", "strategy = \"stack\""];
    platform.run(&["deploy", text(&docker)]).refused(&parts);

    let nowhere = platform.dir("nowhere");
    let ran = platform.run(&["deploy", text(&nowhere)]);
    ran.refused(&["cannot find", text(&nowhere)]);
}

#[test]
fn a_command_without_a_server_says_how_to_start_one() {
    let platform = Platform::new();
    let data = platform.data();
    let parts = ["no server runs", text(&data), "tappaas serve", "--data-dir"];
    for command in [&["apps"][..], &["status", "x"], &["stop"]] {
        platform.run(command).refused(&parts);
    }
    assert!(!data.exists(), "a client makes no data directory");
}

#[test]
fn an_address_that_is_taken_is_named_with_the_way_out() {
    let platform = Platform::new();
    let holder = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let taken = holder.local_addr().unwrap().to_string();
    let any = "127.0.0.1:0";
    let cases = [
        (&*taken, any, "choose another address"),
        (any, &taken, "choose another with --admin"),
    ];
    for (http, admin, way_out) in cases {
        let ran = platform.run(&["serve", "--http", http, "--admin", admin]);
        ran.refused(&["cannot listen on", &taken, way_out]);
        platform.leaves_nothing();
    }
}

#[test]
fn a_second_server_on_one_data_directory_is_refused() {
    let platform = Platform::served();
    let ran = platform.run(&["serve", "--http", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    let data = platform.data();
    let parts = ["a server runs already", text(&data), "tappaas stop"];
    ran.refused(&parts);
    platform.ok(&["apps"]);
}
