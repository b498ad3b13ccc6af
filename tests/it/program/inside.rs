use super::{
    census::Census,
    platform::{Platform, text, until},
    sources,
};

#[test]
fn a_command_inside_an_instance_passes_code_and_streams() {
    let platform = Platform::served();
    let folder = platform.dir("shop");
    sources::write_server(&folder, "one", "", "[env]\nGREETING = \"hello\"\n");
    platform.ok(&["deploy", text(&folder)]);
    let exec = |words: &[&str], input| {
        let arguments = [&["exec", "shop", "--"], words].concat();
        platform.run_with(&arguments, input)
    };
    for code in [0, 1, 7, 255] {
        let script = format!("exit {code}");
        assert_eq!(exec(&["sh", "-c", &script], "").code, code);
    }
    let script = "cat; echo aside >&2; echo $GREETING";
    let ran = exec(&["sh", "-c", script], "through\n");
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(ran.stdout, "through\nhello\n");
    assert_eq!(ran.stderr, "aside\n");
    assert_eq!(exec(&["cat", "page"], "").ok(), "one");
    let ran = exec(&["no-such-program"], "");
    assert_ne!(ran.code, 0);
    assert!(ran.stderr.contains("no-such-program"), "{ran:?}");
}

#[test]
fn a_volume_outlives_its_application_until_it_is_deleted() {
    let platform = Platform::served();
    let folder = platform.dir("shop");
    let manifest = "[volumes.notes]\npath = \"/notes\"\n";
    sources::write_server(&folder, "one", "", manifest);
    let exec = |script| platform.ok(&["exec", "shop", "--", "sh", "-c", script]);
    platform.ok(&["deploy", text(&folder)]);
    exec("echo kept > /notes/note");
    let ran = platform.run(&["volumes", "rm", "shop", "notes", "--yes"]);
    ran.refused(&["shop uses volume notes"]);
    let printed = platform.ok(&["destroy", "shop"]);
    assert!(printed.contains("kept volume notes"), "{printed}");
    assert!(
        printed.contains("tappaas volumes rm shop notes"),
        "{printed}"
    );
    let volumes = platform.json(&["volumes", "ls"]);
    assert_eq!(volumes["items"][0]["name"], "notes");

    platform.ok(&["deploy", text(&folder)]);
    assert_eq!(exec("cat /notes/note"), "kept\n");
    let ran = platform.run_with(&["destroy", "shop", "--volumes"], "no\n");
    ran.refused(&["nothing was destroyed"]);
    assert_eq!(exec("cat /notes/note"), "kept\n");
    let printed = platform.ok(&["destroy", "shop", "--volumes", "--yes"]);
    assert!(printed.contains("deleted volume notes"), "{printed}");
    let volumes = platform.json(&["volumes", "ls"]);
    assert_eq!(volumes["items"].as_array().unwrap().len(), 0);

    platform.ok(&["deploy", text(&folder)]);
    assert_eq!(exec("ls /notes"), "");
}

#[test]
fn environments_are_made_kept_apart_and_removed() {
    let platform = Platform::served();
    let folder = platform.dir("shop");
    let manifest = "[env]\nWHERE = \"live\"\n[environments.staging.env]\nWHERE = \"staging\"\n";
    sources::write_server(&folder, "one", "", manifest);
    platform.ok(&["deploy", text(&folder)]);
    platform.ok(&["env", "create", "staging"]);
    platform.ok(&["deploy", text(&folder), "--env", "staging"]);
    assert_eq!(platform.get("shop.localhost", "/env/WHERE").body, "live");
    let staging = platform.get("shop.staging.localhost", "/env/WHERE");
    assert_eq!(staging.body, "staging");
    let listed = platform.ok(&["env", "ls"]);
    assert!(
        listed.contains("production") && listed.contains("staging"),
        "{listed}"
    );
    let ran = platform.run(&["env", "rm", "staging"]);
    ran.refused(&["environment staging still has application shop"]);
    platform.ok(&["destroy", "shop", "--env", "staging"]);
    platform.answers("shop.localhost", "one");
    assert_eq!(platform.get("shop.staging.localhost", "/").status, 404);
    platform.ok(&["env", "rm", "staging"]);
    assert!(!platform.ok(&["env", "ls"]).contains("staging"));
}

#[test]
fn a_deployment_that_waits_is_cancelled() {
    let platform = Platform::served();
    let folder = platform.dir("shop");
    sources::write_server(&folder, "one", "", "");
    platform.ok(&["deploy", text(&folder)]);
    sources::write_server(&folder, "two", "echo thinking; exec sleep 1000;", "");
    let operation = platform.ok(&["deploy", text(&folder), "--no-wait"]);
    until("the second release rolls out", || {
        platform.json(&["releases", "shop"])["items"]
            .as_array()
            .unwrap()
            .len()
            == 2
    });
    platform.ok(&["cancel", operation.trim()]);
    let releases = || platform.json(&["releases", "shop"])["items"].clone();
    until("the content of the first release is current again", || {
        releases()[2]["current"] == true
    });
    let releases = releases();
    assert_eq!(releases[1]["phase"], "superseded", "{releases:#}");
    assert_eq!(releases[2]["rollback"], 1, "{releases:#}");
    platform.answers("shop.localhost", "one");
    let ran = platform.run(&["cancel", operation.trim()]);
    ran.refused(&["ended"]);
    platform.run(&["cancel", "nothing"]).refused(&["nothing"]);
}

#[test]
fn an_application_reaches_another_by_a_binding_alone() {
    let platform = Platform::served();
    if !platform.sandboxed("that applications are kept apart without a binding") {
        return;
    }
    let folder = platform.dir("api");
    sources::write_server(&folder, "the api's page", "", "");
    platform.ok(&["deploy", text(&folder)]);
    let folder = platform.dir("front");
    sources::write_server(&folder, "front", "", "[bindings]\napi = \"api\"\n");
    platform.ok(&["deploy", text(&folder)]);
    let reply = platform.get("front.localhost", "/fetch/API_URL");
    assert_eq!((reply.status, reply.body.as_str()), (200, "the api's page"));

    let url = platform.get("front.localhost", "/env/API_URL").body;
    let status = platform.json(&["status", "api"]);
    let address = status["instances"][0]["endpoints"]["http"]
        .as_str()
        .unwrap();
    let direct = format!("http://{address}");
    let folder = platform.dir("stranger");
    let manifest = format!("[env]\nAPI_URL = \"{url}\"\nDIRECT_URL = \"{direct}\"\n");
    sources::write_server(&folder, "stranger", "", &manifest);
    platform.ok(&["deploy", text(&folder)]);
    for name in ["API_URL", "DIRECT_URL"] {
        let path = format!("/fetch/{name}");
        let reply = platform.get("stranger.localhost", &path);
        assert_eq!(reply.status, 502, "{reply:?}");
    }
}

#[test]
fn destroying_an_application_leaves_nothing_of_it() {
    let platform = Platform::served();
    let before = Census::take(&platform.data());
    let folder = platform.dir("shop");
    sources::write_server(&folder, "one", "", "[processes.web]\nreplicas = 2\n");
    platform.ok(&["deploy", text(&folder)]);
    platform.answers("shop.localhost", "one");
    platform.ok(&["destroy", "shop"]);
    until("what was there before is there, and nothing else", || {
        Census::take(&platform.data()) == before
    });
    assert_eq!(platform.get("shop.localhost", "/").status, 404);
    // Nor does an edge know of it that has only what the one before it kept.
    for edge in platform.processes("__edge") {
        edge.kill();
    }
    until("another edge answers", || {
        super::platform::ask(platform.http(), "shop.localhost", "/")
            .is_ok_and(|reply| reply.status == 404)
    });
}
