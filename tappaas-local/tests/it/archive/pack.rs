use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    path::Path,
};

use tappaas_core::{Digest, Error, ErrorKind};
use tappaas_local::archive::{self, Limits, Packed, pack, unpack};
use tempfile::TempDir;

use super::{names, write};

fn packed(folder: &Path, ignore: &[&str]) -> (Packed, Vec<u8>) {
    let ignore: Vec<_> = ignore.iter().map(|line| (*line).to_owned()).collect();
    let mut bytes = Vec::new();
    let packed = pack(folder, &ignore, &Limits::SOURCE, &mut bytes).unwrap();
    (packed, bytes)
}

fn kept(folder: &Path, ignore: &[&str]) -> Vec<String> {
    let (_, bytes) = packed(folder, ignore);
    let copy = TempDir::new().unwrap();
    unpack(&bytes[..], copy.path(), None, &Limits::SOURCE).unwrap();
    names(copy.path())
}

#[test]
fn a_folder_comes_back_as_it_was_packed() {
    let (source, copy) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let long = format!("{}/{}", "d".repeat(120), "f".repeat(200));
    write(
        source.path(),
        &[
            ("a.txt", "a"),
            ("sub/run.sh", "#!/bin/sh\n"),
            (&long, "long"),
            ("empty", ""),
        ],
    );
    fs::create_dir(source.path().join("nothing")).unwrap();
    fs::set_permissions(
        source.path().join("sub/run.sh"),
        fs::Permissions::from_mode(0o710),
    )
    .unwrap();
    fs::set_permissions(
        source.path().join("a.txt"),
        fs::Permissions::from_mode(0o600),
    )
    .unwrap();
    symlink("../a.txt", source.path().join("sub/link")).unwrap();
    symlink("x".repeat(150), source.path().join("dangling")).unwrap();
    let (_, bytes) = packed(source.path(), &[]);
    unpack(&bytes[..], copy.path(), None, &Limits::SOURCE).unwrap();
    assert_eq!(names(copy.path()), names(source.path()));
    assert_eq!(fs::read_to_string(copy.path().join(&long)).unwrap(), "long");
    assert_eq!(
        fs::read_link(copy.path().join("sub/link")).unwrap(),
        Path::new("../a.txt")
    );
    assert_eq!(
        fs::read_link(copy.path().join("dangling")).unwrap(),
        Path::new(&"x".repeat(150))
    );
    let mode = |name: &str| fs::metadata(copy.path().join(name)).unwrap().mode() & 0o7777;
    assert_eq!(
        (mode("a.txt"), mode("sub/run.sh"), mode("sub")),
        (0o644, 0o755, 0o755)
    );
}

#[test]
fn the_same_files_give_the_same_archive_wherever_and_whenever() {
    let folders = [TempDir::new().unwrap(), TempDir::new().unwrap()];
    let files = [("z", "1"), ("a/b", "2"), ("a.b", "3")];
    write(folders[0].path(), &files);
    let reversed: Vec<_> = files.iter().rev().copied().collect();
    write(folders[1].path(), &reversed);
    let old = fs::File::options()
        .write(true)
        .open(folders[1].path().join("z"))
        .unwrap();
    old.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    fs::set_permissions(
        folders[1].path().join("z"),
        fs::Permissions::from_mode(0o600),
    )
    .unwrap();
    let [first, second] = folders.each_ref().map(|folder| packed(folder.path(), &[]));
    assert_eq!(first, second);
    assert_eq!(first.0.digest, Digest::of(&first.1));
    assert_eq!(first.0.size, first.1.len() as u64);
    write(folders[1].path(), &[("z", "2")]);
    assert_ne!(packed(folders[1].path(), &[]).0.digest, first.0.digest);
}

#[test]
fn folders_of_version_control_stay_out() {
    let source = TempDir::new().unwrap();
    write(
        source.path(),
        &[
            (".git/config", ""),
            (".hg/x", ""),
            ("lib/.svn/x", ""),
            ("sub/.git", "gitdir: elsewhere"),
            (".github/x", ""),
            (".env", ""),
        ],
    );
    assert_eq!(
        kept(source.path(), &["!.git"]),
        [".env", ".github/", ".github/x", "lib/", "sub/"]
    );
}

#[test]
fn gitignore_files_count_in_the_folder_they_are_in() {
    let source = TempDir::new().unwrap();
    write(
        source.path(),
        &[
            (".gitignore", "*.log\n/build\nnode_modules/\n"),
            ("a.log", ""),
            ("build/x", ""),
            ("sub/build/x", ""),
            ("sub/node_modules/x", ""),
            ("sub/.gitignore", "!keep.log\n"),
            ("sub/keep.log", ""),
            ("sub/drop.log", ""),
        ],
    );
    assert_eq!(
        kept(source.path(), &[]),
        [
            ".gitignore",
            "sub/",
            "sub/.gitignore",
            "sub/build/",
            "sub/build/x",
            "sub/keep.log"
        ]
    );
}

#[test]
fn dockerignore_patterns_start_at_the_top_and_can_bring_files_back() {
    let source = TempDir::new().unwrap();
    write(
        source.path(),
        &[
            (
                ".dockerignore",
                "# comment\n*.md\ndocs/\n!docs/keep.md\n**/tmp\n./dist\n",
            ),
            ("README.md", ""),
            ("sub/README.md", ""),
            ("docs/a", ""),
            ("docs/keep.md", ""),
            ("sub/tmp/x", ""),
            ("dist/x", ""),
        ],
    );
    assert_eq!(
        kept(source.path(), &[]),
        [
            ".dockerignore",
            "docs/",
            "docs/keep.md",
            "sub/",
            "sub/README.md"
        ]
    );
}

#[test]
fn the_manifests_ignore_list_has_the_last_word() {
    let source = TempDir::new().unwrap();
    write(
        source.path(),
        &[
            (".gitignore", "dist\n"),
            ("dist/app.js", ""),
            ("dist/app.map", ""),
            ("notes", ""),
        ],
    );
    assert_eq!(
        kept(source.path(), &["!dist", "*.map", "notes"]),
        [".gitignore", "dist/", "dist/app.js"]
    );
}

#[test]
fn a_link_out_of_the_source_is_refused_by_name() {
    for target in ["/etc/passwd", "../secret", "sub/../../secret"] {
        let source = TempDir::new().unwrap();
        symlink(target, source.path().join("link")).unwrap();
        let error = pack(source.path(), &[], &Limits::SOURCE, Vec::new()).unwrap_err();
        assert!(error.to_string().starts_with("link links to"), "{error}");
    }
}

#[test]
fn sockets_and_pipes_are_left_out_and_told() {
    let source = TempDir::new().unwrap();
    let _listener = std::os::unix::net::UnixListener::bind(source.path().join("s.sock")).unwrap();
    write(source.path(), &[("a", "")]);
    let (packed, _) = packed(source.path(), &[]);
    assert_eq!((packed.entries, packed.skipped), (1, vec!["s.sock".into()]));
}

#[test]
fn too_large_a_folder_is_refused_with_the_names_of_what_is_large() {
    let source = TempDir::new().unwrap();
    write(
        source.path(),
        &[
            ("a", "x"),
            ("node_modules/big", &"x".repeat(9000)),
            ("data/small", "x"),
        ],
    );
    let limits = Limits {
        entries: 100,
        bytes: 5000,
    };
    let error = Error::from(pack(source.path(), &[], &limits, Vec::new()).unwrap_err());
    assert_eq!(error.kind(), ErrorKind::Exhausted);
    let message = error.to_string();
    assert!(
        message.contains("node_modules/ (9.5 KiB), data/"),
        "{message}"
    );
    assert!(message.contains(".gitignore"), "{message}");
    let limits = Limits {
        entries: 2,
        bytes: 1 << 20,
    };
    assert!(matches!(
        pack(source.path(), &[], &limits, Vec::new()),
        Err(archive::Error::TooLarge(_))
    ));
}
