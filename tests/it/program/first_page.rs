use super::{
    census::Census,
    platform::{Platform, text},
    sources,
};

const PAGE: &str = "<h1>first page</h1>\n";

#[test]
fn a_folder_becomes_a_page_and_leaves_nothing_when_it_goes() {
    let platform = Platform::new();
    let folder = platform.dir("hello");
    sources::write(&folder, &[("index.html", PAGE)]);
    let before = Census::take(&platform.data());
    let arguments = platform.serve_arguments();
    let mut up = vec!["up", text(&folder), "--detach"];
    up.extend(arguments.iter().map(String::as_str));
    let printed = platform.ok(&up);
    let port = platform.http();
    assert!(
        printed.contains(&format!("http://hello.localhost:{port}\n")),
        "{printed}"
    );
    let resolve = format!("curl --resolve hello.localhost:{port}:127.0.0.1");
    assert!(printed.contains(&resolve), "{printed}");
    let reply = platform.get("hello.localhost", "/");
    assert_eq!((reply.status, reply.body.as_str()), (200, PAGE));

    shows_what_runs(&platform);

    assert_eq!(platform.get("other.localhost", "/").status, 404);
    platform.ok(&["destroy", "hello"]);
    assert_eq!(platform.get("hello.localhost", "/").status, 404);
    assert_eq!(
        platform.json(&["apps"])["items"].as_array().unwrap().len(),
        0
    );
    let stopped = platform.ok(&["stop", "--apps"]);
    assert_eq!(stopped, "stopped the server and all applications\n");
    platform.leaves_nothing();
    assert_eq!(Census::take(&platform.data()), before);
}

#[test]
fn what_ran_before_a_failed_first_command_goes_on() {
    let platform = Platform::served();
    let (first, second) = (platform.dir("first"), platform.dir("second"));
    sources::write(&first, &[("index.html", PAGE)]);
    sources::write(&second, &[("Procfile", "web: exit 3\n")]);
    platform.ok(&["deploy", text(&first)]);
    platform.ok(&["stop"]);
    assert!(platform.server_ends());

    let arguments = platform.serve_arguments();
    let mut up = vec!["up", text(&second)];
    up.extend(arguments.iter().map(String::as_str));
    platform.run(&up).refused(&["exited with code 3"]);

    assert_ne!(platform.run(&["apps"]).code, 0, "its server is gone");
    platform.answers("first.localhost", PAGE);
    platform.serve_again();
    let apps = platform.json(&["apps"]);
    let names: Vec<_> = apps["items"].as_array().unwrap().iter().collect();
    assert_eq!(names.len(), 1, "{apps}");
    assert_eq!(names[0]["name"], "first");
    platform.ok(&["stop", "--apps"]);
    assert!(platform.server_ends());
    platform.leaves_nothing();
}

/// Every command that shows something, for people and for programs.
fn shows_what_runs(platform: &Platform) {
    let shown = [
        (&["apps"][..], "hello.localhost"),
        (&["status", "hello"], "1 of 1 ready"),
        (&["releases", "hello"], "1 (current)   healthy"),
        (&["builds", "hello"], "static site"),
        (&["logs", "hello"], "serving /app on port"),
        (&["logs", "hello", "--build", "1"], "detected static site"),
    ];
    for (command, part) in shown {
        let printed = platform.ok(command);
        assert!(printed.contains(part), "{command:?}: {printed}");
        let json = platform.ok(&[command, &["-o", "json"]].concat());
        assert!(json.contains(part) || command[0] != "logs", "{json}");
        let values = serde_json::Deserializer::from_str(&json).into_iter::<serde_json::Value>();
        assert!(values.map(Result::unwrap).count() > 0, "{command:?}");
    }
    let apps = platform.json(&["apps"]);
    assert_eq!(apps["items"][0]["name"], "hello");
    assert_eq!(apps["items"][0]["phase"], "running");
    let status = platform.json(&["status", "hello"]);
    assert_eq!(status["application"]["current"], 1);
    assert_eq!(status["instances"][0]["ready"], true);
    let releases = platform.json(&["releases", "hello"]);
    assert_eq!(releases["items"][0]["phase"], "healthy");
    let builds = platform.json(&["builds", "hello"]);
    assert_eq!(builds["items"][0]["detected"], "static site");
}
