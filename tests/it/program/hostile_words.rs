use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
};

use super::{
    platform::{Platform, text},
    sources,
};

/// What somebody may type where a name is expected, by mistake or to see what happens. Those that a shell would run make a file.
const WORDS: [&str; 16] = [
    "$(touch pwned)",
    "`touch pwned`",
    "x;touch pwned",
    "x|touch pwned",
    "x&&touch pwned",
    "x\ntouch pwned",
    "..",
    "../../../../tmp/pwned",
    "/etc/passwd",
    "%2e%2e%2fpwned",
    "a b",
    "ünïcödé",
    "\u{202e}gnp",
    "\x1b[31mred",
    "*",
    "",
];
const PAGE: &str = "page";
const PRODUCTION: &str = "/api/v1/tenants/default/projects/default/environments/production";

#[test]
fn a_word_that_is_no_name_is_refused_and_never_run() {
    let platform = Platform::served();
    let folder = platform.dir("shop");
    sources::write_server(&folder, PAGE, "", "");
    platform.ok(&["deploy", text(&folder)]);
    let long = "x".repeat(1_000);
    for word in WORDS.into_iter().chain([long.as_str()]) {
        let variable = format!("{word} A=1");
        let count = format!("{word}=2");
        let shown = |option: &str| format!("--{option}={word}");
        for command in [
            &["status", "--", word][..],
            &["destroy", "--", word],
            &["deploy", text(&folder), &shown("name")],
            &["deploy", &shown("image")],
            &["env", "create", "--", word],
            &["apps", &shown("env")],
            &["apps", &shown("tenant")],
            &["config", "set", "shop", "--", &variable],
            &["scale", "shop", "--", &count],
            &["rollback", "shop", "--", word],
            &["cancel", "--", word],
        ] {
            let ran = platform.run(command);
            assert!([1, 2].contains(&ran.code), "{ran:?}");
            assert!(ran.stderr.contains("error: "), "{ran:?}");
            assert!(!ran.stderr.contains('\x1b'), "{ran:?}");
        }
    }
    never_run(&platform);
}

#[test]
fn a_value_is_passed_on_as_it_is_whatever_is_in_it() {
    let platform = Platform::served();
    let folder = platform.dir("shop");
    sources::write_server(&folder, PAGE, "", "");
    platform.ok(&["deploy", text(&folder)]);
    let values = WORDS.iter().filter(|word| !word.is_empty());
    let pairs: Vec<_> = (0..)
        .zip(values)
        .map(|(n, word)| format!("W{n}={word}"))
        .collect();
    let mut command = vec!["config", "set", "shop"];
    command.extend(pairs.iter().map(String::as_str));
    platform.ok(&command);
    for pair in &pairs {
        let (name, value) = pair.split_once('=').unwrap();
        assert_eq!(
            platform.get("shop.localhost", &format!("/env/{name}")).body,
            value
        );
        let script = ["exec", "shop", "--", "printenv", name];
        assert_eq!(platform.ok(&script).strip_suffix('\n'), Some(value));
    }
    never_run(&platform);
}

#[test]
fn a_manifest_or_a_body_beyond_all_measure_is_refused_with_its_place() {
    let platform = Platform::served();
    let folder = platform.dir("shop");
    sources::write(&folder, &[("index.html", PAGE)]);
    let deep =
        |open: &str, close: &str| format!("name = {}{}", open.repeat(20_000), close.repeat(20_000));
    let huge = "a = 1\n".repeat(2 << 20);
    let dotted = format!("[{}]", vec!["a"; 20_000].join("."));
    for (manifest, parts) in [
        (huge, &["tappaas.toml", "more than 256 KiB"][..]),
        (deep("[", "]"), &["tappaas.toml:1:", "nested too deeply"]),
        (deep("{a=", "}"), &["tappaas.toml:1:", "nested too deeply"]),
        (dotted, &["tappaas.toml", "nested too deeply"]),
        (
            "[processes.\"$(touch pwned)\"]\n".to_owned(),
            &["tappaas.toml:1:", "not a valid name"],
        ),
        (
            "hosts = [\"$(touch pwned).example\"]\n".to_owned(),
            &["tappaas.toml:1:", "^"],
        ),
        (
            "[volumes.a]\npath = \"/../../etc\"\n".to_owned(),
            &["tappaas.toml:2:", "path"],
        ),
        (
            "[env]\n\"$(touch pwned)\" = \"1\"\n".to_owned(),
            &["tappaas.toml:2:", "variable"],
        ),
    ] {
        sources::write(&folder, &[("tappaas.toml", &manifest)]);
        let ran = platform.run(&["deploy", text(&folder)]);
        assert!(
            ran.stderr.len() < 4_000,
            "{} bytes are told",
            ran.stderr.len()
        );
        ran.refused(parts);
        // The server does not rely on its client for it.
        let body = serde_json::json!({
            "source": { "upload": { "digest": format!("sha256:{}", "0".repeat(64)) } },
            "manifest": manifest,
        });
        let path = format!("{PRODUCTION}/applications/shop");
        let (status, told) = put(&platform, &path, body.to_string().as_bytes());
        assert!([400, 413].contains(&status), "{status} {told}");
    }
    no_application(&platform);
    never_run(&platform);
}

#[test]
fn a_body_or_a_path_that_nobody_can_mean_is_refused_by_the_api() {
    let platform = Platform::served();
    for body in [
        &b""[..],
        b"{}",
        b"\xff\xfe",
        "[".repeat(500_000).as_bytes(),
        "{\"source\":".repeat(50_000).as_bytes(),
    ] {
        let path = format!("{PRODUCTION}/applications/shop");
        let (status, told) = put(&platform, &path, body);
        assert_eq!(status, 400, "{told}");
        assert!(told.contains("the body is not what is expected"), "{told}");
    }
    for name in [
        "%24(touch%20pwned)",
        "..%2f..%2fpwned",
        "%00",
        "a%0ab",
        "%ff",
        "%c3%bc",
        &"x".repeat(1_000),
    ] {
        let path = format!("{PRODUCTION}/applications/{name}");
        let (status, told) = put(&platform, &path, b"{}");
        assert_eq!(status, 400, "{told}");
    }
    no_application(&platform);
    never_run(&platform);
}

fn no_application(platform: &Platform) {
    let apps = platform.json(&["apps"]);
    assert_eq!(apps["items"].as_array().unwrap().len(), 0, "{apps}");
}

/// No shell ran any of the words.
fn never_run(platform: &Platform) {
    let places = [
        platform.dir("pwned"),
        platform.dir("shop/pwned"),
        platform.data().join("pwned"),
    ];
    let mut places = places.to_vec();
    places.extend(["pwned", "/pwned", "/tmp/pwned"].map(|place| Path::new(place).to_owned()));
    for place in places {
        assert!(!place.exists(), "{} was made", place.display());
    }
}

/// Sends a body to the API as it is; the status and what was said.
fn put(platform: &Platform, path: &str, body: &[u8]) -> (u16, String) {
    let mut stream = UnixStream::connect(platform.data().join("api.sock")).unwrap();
    let head = format!(
        "PUT {path} HTTP/1.1\r\nhost: api\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    // Who refuses a body need not read all of it.
    let _ = stream.write_all(body);
    let mut reply = Vec::new();
    let _ = stream.read_to_end(&mut reply);
    let reply = String::from_utf8_lossy(&reply).into_owned();
    let status = reply.split(' ').nth(1).and_then(|code| code.parse().ok());
    (
        status.unwrap_or_else(|| panic!("{reply:?} is no reply")),
        reply,
    )
}
