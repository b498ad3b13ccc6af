use std::{
    ffi::OsStr,
    fs::{self, File, Permissions},
    io::Write as _,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{PermissionsExt as _, symlink},
        net::UnixListener,
    },
    path::Path,
    process::Command,
};

use flate2::{Compression, write::GzEncoder};
use futures::StreamExt as _;
use tappaas_api::{
    client::Client,
    types::{Deployment, EnvironmentPath, Operation, OperationState, SourceRequest},
};
use tappaas_core::{Digest, Name};

use super::{
    platform::{Platform, text},
    sources,
};

const PAGE: &str = "<h1>all is well</h1>\n";
const OUTSIDE: &str = "outside of the folder: remove the link or leave it out";

/// Puts something into a folder, and what is said when that is deployed.
type Case = (fn(&Path), &'static [&'static str]);

#[test]
fn a_folder_that_cannot_be_taken_is_refused_by_the_name_of_what_is_in_it() {
    let platform = Platform::served();
    let cases: &[Case] = &[
        (
            |at| link("/etc/passwd", &at.join("absolute")),
            &["absolute links to /etc/passwd", OUTSIDE],
        ),
        (
            |at| link("../../etc", &at.join("up")),
            &["up links to ../../etc", OUTSIDE],
        ),
        (
            |at| link("/etc", &at.join("new\nline\x1b[31m")),
            &["error: new\\nline\\u{1b}[31m links to /etc", OUTSIDE],
        ),
        (
            |at| {
                File::create(at.join("junk"))
                    .unwrap()
                    .set_len(2 << 30)
                    .unwrap();
            },
            &["holds 2 GiB", "1 GiB in 100000 are allowed", ".gitignore"],
        ),
        (
            |at| {
                fs::create_dir(at.join("crowd")).unwrap();
                for number in 0..100_001 {
                    File::create(at.join(format!("crowd/{number}"))).unwrap();
                }
            },
            &["1 GiB in 100000 are allowed", "crowd/", ".gitignore"],
        ),
        (
            |at| fs::create_dir_all(at.join("d/".repeat(300))).unwrap(),
            &["is more than 256 folders deep: leave it out"],
        ),
    ];
    for (put, said) in cases {
        let folder = platform.dir("shop");
        sources::write(&folder, &[("index.html", PAGE)]);
        put(&folder);
        platform.run(&["deploy", text(&folder)]).refused(said);
        fs::remove_dir_all(&folder).unwrap();
    }
    nothing_was_deployed(&platform);
}

#[test]
fn what_an_archive_cannot_hold_is_left_out_and_told_and_rights_are_dropped() {
    let platform = Platform::served();
    let folder = platform.dir("shop");
    let long = "x".repeat(255);
    sources::write_server(&folder, PAGE, "", "");
    sources::write(
        &folder,
        &[("two\nlines", "2"), (&long, "255"), ("$(touch pwned)", "$")],
    );
    fs::write(folder.join(OsStr::from_bytes(b"no\xfftext")), "bytes").unwrap();
    fs::hard_link(folder.join("page"), folder.join("hard")).unwrap();
    fs::copy("/bin/true", folder.join("setuid")).unwrap();
    fs::set_permissions(folder.join("setuid"), Permissions::from_mode(0o4755)).unwrap();
    let _socket = UnixListener::bind(folder.join("socket")).unwrap();
    let mut odd = vec!["socket", "pipe"];
    assert!(made("mkfifo", &[text(&folder.join("pipe"))]));
    if made("mknod", &[text(&folder.join("device")), "c", "1", "3"]) {
        odd.push("device");
    }
    let ran = platform.run(&["deploy", text(&folder)]);
    for name in odd {
        let told = format!("left out \"{name}\": it is neither a file nor a folder nor a link");
        assert!(ran.stderr.contains(&told), "{ran:?}");
    }
    ran.ok();
    let script = "ls -1b; cat hard; stat -c %a setuid; cat x*; cat no*";
    let found = platform.ok(&["exec", "shop", "--", "sh", "-c", script]);
    for expected in [
        "two\\nlines\n",
        "no\\377text\n",
        "$(touch\\ pwned)\n",
        PAGE,
        "\n755\n255bytes",
    ] {
        assert!(found.contains(expected), "no {expected:?} in {found}");
    }
    assert!(
        !found.contains("pwned\n\n") && !found.contains("socket"),
        "{found}"
    );
}

#[test]
fn an_archive_made_by_hand_is_refused_by_the_name_of_what_is_in_it() {
    let platform = Platform::served();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let client = Client::new(platform.data().join("api.sock"));
    let cases = [
        (tar(&[(b'0', "../../escaped", "", 0)]), "`../../escaped`"),
        (tar(&[(b'0', "/etc/cron.d/x", "", 0)]), "`/etc/cron.d/x`"),
        (
            tar(&[(b'2', "way", "/etc", 0), (b'0', "way/x", "", 0)]),
            "`way`",
        ),
        (tar(&[(b'2', "out", "../../x", 0)]), "`out`"),
        (tar(&[(b'1', "hard", "/etc/passwd", 0)]), "`/etc/passwd`"),
        (tar(&[(b'3', "device", "", 0)]), "`device`"),
        (tar(&[(b'4', "disk", "", 0)]), "`disk`"),
        (tar(&[(b'6', "pipe", "", 0)]), "`pipe`"),
        (
            tar(&[(b'0', "new\nline", "", 4 << 30)]),
            "holds more than 1 GiB",
        ),
        (gzip(&b"no archive at all".repeat(100)), "archive"),
        (b"not even compressed".to_vec(), "archive"),
        (Vec::new(), "archive"),
    ];
    for (archive, said) in cases {
        let ended = runtime.block_on(deploy(&client, archive));
        let told = match ended {
            Ok(operation) => {
                assert_eq!(
                    operation.state,
                    OperationState::Failed,
                    "{said}: {operation:?}"
                );
                operation.message
            }
            Err(error) => format!("{error:?}"),
        };
        assert!(told.contains(said), "no {said:?} in {told}");
        assert!(
            !told.contains("/builds/"),
            "it names a file of ours: {told}"
        );
    }
    let held = fs::read_dir(platform.data().join("builds/tmp"))
        .unwrap()
        .count();
    assert_eq!(held, 0, "something is left behind");
    assert!(!platform.data().join("escaped").exists());
    // Whoever sent those can still deploy.
    let folder = platform.dir("shop");
    sources::write(&folder, &[("index.html", PAGE)]);
    platform.ok(&["deploy", text(&folder)]);
    platform.answers("shop.localhost", PAGE);
}

fn nothing_was_deployed(platform: &Platform) {
    let apps = platform.json(&["apps"]);
    assert_eq!(apps["items"].as_array().unwrap().len(), 0, "{apps}");
    let uploads = platform.data().join("registry/uploads");
    assert_eq!(fs::read_dir(uploads).unwrap().count(), 0);
}

fn link(target: &str, at: &Path) {
    symlink(target, at).unwrap();
}

fn made(program: &str, arguments: &[&str]) -> bool {
    let status = Command::new(program).args(arguments).status();
    status.is_ok_and(|status| status.success())
}

/// Uploads an archive and deploys it, past everything that the command line checks.
async fn deploy(client: &Client, archive: Vec<u8>) -> tappaas_core::Result<Operation> {
    let default = || Name::new("default").unwrap();
    let within = EnvironmentPath {
        tenant: default(),
        project: default(),
        environment: Name::new("production")?,
    };
    let app = Name::new("shop")?;
    let digest = Digest::of(&archive);
    client
        .upload(&within, &app, &digest, std::io::Cursor::new(archive))
        .await?;
    let deployment = Deployment {
        source: SourceRequest::Upload { digest },
        manifest: String::new(),
    };
    let accepted = client.deploy(&within, &app, &deployment).await?;
    let id = accepted.operation.expect("it is another source");
    let mut events = client.watch_operation(&within, &id).await?;
    let mut last = None;
    while let Some(operation) = events.next().await {
        last = Some(operation?);
    }
    Ok(last.expect("an operation has an end"))
}

/// A tar of entries: type, name, target of a link, and the size that the header claims.
fn tar(entries: &[(u8, &str, &str, u64)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (kind, name, link, size) in entries {
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o644);
        header.set_size(*size);
        header.set_entry_type(tar::EntryType::new(*kind));
        let raw = header.as_mut_bytes();
        raw[..name.len()].copy_from_slice(name.as_bytes());
        raw[157..157 + link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        bytes.extend_from_slice(header.as_bytes());
    }
    bytes.resize(bytes.len() + 1024, 0);
    gzip(&bytes)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
