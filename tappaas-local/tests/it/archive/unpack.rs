use std::{fs, os::unix::fs::MetadataExt as _};

use tappaas_core::{Error, ErrorKind};
use tappaas_local::archive::{self, Limits, unpack};
use tempfile::TempDir;

use super::{
    names,
    tar::{Tar, gzip},
    write,
};

const TIGHT: Limits = Limits {
    entries: 50,
    bytes: 1 << 20,
};

/// Unpacks into a folder with neighbours, and requires that the neighbours are as they were.
fn attempt(archive: &[u8]) -> (Result<(), archive::Error>, Vec<String>) {
    let place = TempDir::new().unwrap();
    let into = place.path().join("into");
    fs::create_dir(&into).unwrap();
    write(
        place.path(),
        &[("sentinel", "safe"), ("near/sentinel", "safe")],
    );
    let result = unpack(archive, &into, None, &TIGHT).map(|_| ());
    let inside = names(&into);
    fs::remove_dir_all(&into).unwrap();
    assert_eq!(names(place.path()), ["near/", "near/sentinel", "sentinel"]);
    for sentinel in ["sentinel", "near/sentinel"] {
        let path = place.path().join(sentinel);
        assert_eq!(fs::read_to_string(&path).unwrap(), "safe");
        assert_eq!(fs::metadata(&path).unwrap().nlink(), 1);
    }
    (result, inside)
}

#[track_caller]
fn assert_refused(why: &str, archive: &[u8]) {
    let (result, _) = attempt(archive);
    let error = result.unwrap_err();
    assert!(matches!(error, archive::Error::Refused(_)), "{error:?}");
    assert!(error.to_string().contains(why), "{error}");
    assert_eq!(Error::from(error).kind(), ErrorKind::Invalid);
}

#[track_caller]
fn assert_unpacks(expected: &[&str], archive: &[u8]) {
    let (result, inside) = attempt(archive);
    result.unwrap();
    assert_eq!(inside, expected);
}

#[test]
fn harmless_archives_of_other_programs_unpack() {
    assert_unpacks(
        &["a/", "a/b", "c"],
        &Tar::default().file("./a//b").file("././c").end(),
    );
    assert_unpacks(
        &["a/", "a/b"],
        &Tar::default()
            .add(b'5', "./", "", b"")
            .add(b'5', "a/", "", b"")
            .file("a/b")
            .end(),
    );
    assert_unpacks(
        &["a", "b"],
        &Tar::default().file("a").add(b'1', "b", "a", b"").end(),
    );
    assert_unpacks(
        &["a", "l"],
        &Tar::default().file("a").add(b'2', "l", "a", b"").end(),
    );
    assert_unpacks(
        &["real"],
        &Tar::default()
            .pax(&[("path", "real"), ("mtime", "1.5"), ("size", "7")])
            .file("shown")
            .end(),
    );
    assert_unpacks(
        &["long"],
        &Tar::default()
            .add(b'L', "././@LongLink", "", b"long\0")
            .file("shown")
            .end(),
    );
    assert_unpacks(
        &["a"],
        &Tar::default()
            .add(b'g', "g", "", b"21 comment=123456789\n")
            .file("a")
            .end(),
    );
    assert_unpacks(&[], &Tar::default().end());
}

#[test]
fn names_that_lead_out_are_refused() {
    for name in ["../escape", "a/../../escape", "..", "a/.."] {
        assert_refused("leads out", &Tar::default().file(name).end());
        assert_refused(
            "leads out",
            &Tar::default().pax(&[("path", name)]).file("innocent").end(),
        );
        let long = format!("{name}\0");
        assert_refused(
            "leads out",
            &Tar::default()
                .add(b'L', "l", "", long.as_bytes())
                .file("innocent")
                .end(),
        );
    }
    assert_refused("absolute", &Tar::default().file("/etc/escape").end());
    assert_refused(
        "absolute",
        &Tar::default()
            .pax(&[("path", "/etc/escape")])
            .file("a")
            .end(),
    );
    assert_refused(
        "leads out",
        &Tar::default().add(b'5', "../folder/", "", b"").end(),
    );
}

#[test]
fn links_that_lead_out_are_refused() {
    for target in ["/etc", "..", "../near", "a/../../near"] {
        assert_refused(
            "link out",
            &Tar::default().add(b'2', "link", target, b"").end(),
        );
        assert_refused(
            "link out",
            &Tar::default()
                .pax(&[("linkpath", target)])
                .add(b'2', "link", "a", b"")
                .end(),
        );
        let long = format!("{target}\0");
        assert_refused(
            "link out",
            &Tar::default()
                .add(b'K', "l", "", long.as_bytes())
                .add(b'2', "link", "a", b"")
                .end(),
        );
    }
    assert_refused(
        "leads out",
        &Tar::default().add(b'1', "link", "../sentinel", b"").end(),
    );
    assert_refused(
        "absolute",
        &Tar::default().add(b'1', "link", "/etc/passwd", b"").end(),
    );
    assert_refused(
        "link to nothing",
        &Tar::default().add(b'2', "link", "", b"").end(),
    );
}

#[test]
fn nothing_is_written_or_read_through_a_link() {
    let folder = || {
        Tar::default()
            .add(b'5', "d/", "", b"")
            .add(b'2', "l", "d", b"")
    };
    assert_refused("not a folder", &folder().file("l/file").end());
    assert_refused("not a folder", &folder().add(b'5', "l/sub/", "", b"").end());
    assert_refused(
        "not a folder",
        &folder().add(b'2', "l/link", "x", b"").end(),
    );
    assert_refused(
        "not a folder",
        &folder().file("d/x").add(b'1', "hard", "l/x", b"").end(),
    );
    // The text of each link stays inside; both together lead out.
    let chain = Tar::default()
        .add(b'5', "x/", "", b"")
        .add(b'2', "x/up", "..", b"")
        .add(b'2', "out", "x/up/..", b"");
    assert_refused("not a folder", &chain.file("out/near/file").end());
    let onto = Tar::default().add(b'2', "l", "target", b"").file("l");
    assert_refused("twice", &onto.end());
}

#[test]
fn hard_links_reach_files_of_the_archive_alone() {
    assert_refused(
        "not in the archive",
        &Tar::default().add(b'1', "b", "missing", b"").end(),
    );
    assert_refused(
        "not a file",
        &Tar::default()
            .add(b'2', "l", "x", b"")
            .add(b'1', "b", "l", b"")
            .end(),
    );
    assert_refused(
        "not a file",
        &Tar::default()
            .add(b'5', "d/", "", b"")
            .add(b'1', "b", "d", b"")
            .end(),
    );
    assert_refused(
        "twice",
        &Tar::default()
            .file("a")
            .file("b")
            .add(b'1', "b", "a", b"")
            .end(),
    );
}

#[test]
fn devices_and_privileged_files_are_refused() {
    for kind in [b'3', b'4', b'6'] {
        assert_refused(
            "device or a pipe",
            &Tar::default().add(kind, "node", "", b"").end(),
        );
    }
    for mode in [b"0004755\0", b"0002755\0", b"0006755\0"] {
        let archive = Tar::default().with(b'0', "su", b"x", |header| {
            header[100..108].copy_from_slice(mode);
        });
        assert_refused("run as its owner", &archive.end());
    }
}

#[test]
fn a_name_that_appears_twice_is_refused() {
    assert_refused("twice", &Tar::default().file("a").file("a").end());
    assert_refused("twice", &Tar::default().file("a").file("./a").end());
    assert_refused(
        "twice",
        &Tar::default().file("a").add(b'2', "a", "b", b"").end(),
    );
    assert_refused(
        "twice",
        &Tar::default().add(b'5', "a/", "", b"").file("a").end(),
    );
    assert_refused("not a folder", &Tar::default().file("a").file("a/b").end());
    assert_refused(
        "not a folder",
        &Tar::default().file("a").add(b'5', "a/", "", b"").end(),
    );
}

#[test]
fn what_readers_could_understand_differently_is_refused() {
    let small = Tar::default().pax(&[("size", "1")]).file("a");
    assert_refused("two different sizes", &small.end());
    let large = Tar::default().pax(&[("size", "1024")]).file("a");
    assert_refused("two different sizes", &large.end());
    assert_refused(
        "no number",
        &Tar::default().pax(&[("size", "+7")]).file("a").end(),
    );
    assert_refused(
        "no number",
        &Tar::default().pax(&[("size", "0x7")]).file("a").end(),
    );
    assert_refused(
        "two sizes",
        &Tar::default()
            .pax(&[("size", "7"), ("size", "7")])
            .file("a")
            .end(),
    );
    assert_refused(
        "named twice",
        &Tar::default()
            .pax(&[("path", "a"), ("path", "b")])
            .file("a")
            .end(),
    );
    let twice = Tar::default()
        .add(b'L', "l", "", b"x\0")
        .pax(&[("path", "y")])
        .file("a");
    assert_refused("named twice", &twice.end());
    let twice = Tar::default()
        .pax(&[("path", "x")])
        .pax(&[("path", "y")])
        .file("a");
    assert_refused("two extended headers", &twice.end());
    assert_refused(
        "where an entry was announced",
        &Tar::default().pax(&[("path", "x")]).end(),
    );
    let global = Tar::default().add(b'g', "g", "", b"9 path=x\n").file("a");
    assert_refused("every entry", &global.end());
    assert_refused(
        "content without being a file",
        &Tar::default().add(b'5', "d/", "", b"hidden").end(),
    );
    assert_refused(
        "content without being a file",
        &Tar::default().add(b'2', "l", "a", b"hidden").end(),
    );
    assert_refused("name of a folder", &Tar::default().file("a/").end());
}

#[test]
fn malformed_headers_are_refused() {
    assert_refused("sparse", &Tar::default().add(b'S', "a", "", b"").end());
    assert_refused(
        "sparse",
        &Tar::default()
            .pax(&[("GNU.sparse.major", "1")])
            .file("a")
            .end(),
    );
    assert_refused(
        "unknown type",
        &Tar::default().add(b'Z', "a", "", b"").end(),
    );
    for records in [
        "x",
        "99 path=a\n",
        "6 a=\n",
        "9 path=a b",
        "-1 path=a\n",
        "8 pathaa\n",
    ] {
        let archive = Tar::default()
            .add(b'x', "pax", "", records.as_bytes())
            .file("a");
        assert_refused("extended header is malformed", &archive.end());
    }
    let nul = Tar::default().add(b'L', "l", "", b"a\0b\0").file("a");
    assert_refused("holds a NUL", &nul.end());
    let size = |field: &'static [u8; 12]| {
        Tar::default().with(b'0', "a", b"content", move |header| {
            header[124..136].copy_from_slice(field);
        })
    };
    for field in [
        b"0000000x07\0\0",
        b"-0000000007\0",
        b"00000007 8\0\0",
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xf9",
    ] {
        assert_refused("size is no number", &size(field).end());
    }
    let magic = Tar::default().with(b'0', "a", b"", |header| {
        header[257..262].copy_from_slice(b"other");
    });
    assert_refused("unknown kind of tar", &magic.end());
    let mut sum = Tar::default().file("a");
    sum.0[0] = b'b';
    assert_refused("checksum", &sum.end());
    assert_refused(
        "no name",
        &Tar::default().pax(&[("path", "")]).file("a").end(),
    );
    let part = "p".repeat(300);
    assert_refused(
        "too long a part",
        &Tar::default().pax(&[("path", &part)]).file("a").end(),
    );
    let path = format!("{}p", "p/".repeat(3000));
    assert_refused(
        "no name",
        &Tar::default().pax(&[("path", &path)]).file("a").end(),
    );
}

#[test]
fn bytes_after_the_end_are_refused() {
    let mut hidden = Tar::default().file("a");
    hidden.0.resize(hidden.0.len() + 1024, 0);
    assert_refused("nothing after", &hidden.file("b").end());
    let mut short = Tar::default().file("a");
    short.0.resize(short.0.len() + 512, 0);
    assert_refused("two blocks of zeros", &gzip(&short.0));
}

#[test]
fn a_truncated_or_foreign_archive_is_invalid() {
    let whole = Tar::default()
        .file("a")
        .with(b'0', "b", &[7; 5000], |_| {})
        .end();
    let plain = Tar::default().file("a").0;
    for broken in [
        &whole[..whole.len() / 2],
        &gzip(&plain[..700]),
        &gzip(&plain),
        b"PK\x03\x04 a zip",
        b"",
    ] {
        let (result, _) = attempt(broken);
        let error = result.unwrap_err();
        assert!(matches!(error, archive::Error::Read(_)), "{error:?}");
        assert_eq!(Error::from(error).kind(), ErrorKind::Invalid);
    }
}

#[test]
fn archives_beyond_the_limits_are_refused_before_they_fill_the_disk() {
    let zeros = vec![0; 2 << 20];
    let bomb = Tar::default().add(b'0', "bomb", "", &zeros).end();
    assert!(bomb.len() < 20_000);
    let claimed = Tar::default().with(b'0', "a", b"", |header| {
        header[124..136].copy_from_slice(b"77777777777\0");
    });
    let binary = Tar::default().with(b'0', "a", b"", |header| {
        header[124..136].copy_from_slice(b"\x80\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff");
    });
    let crowd = (0..60).fold(Tar::default(), |tar, index| {
        tar.add(b'5', &format!("d{index}/"), "", b"")
    });
    let extensions = (0..60).fold(Tar::default(), |tar, _| {
        tar.add(b'g', "g", "", b"13 comment=a\n")
    });
    for archive in [
        bomb,
        claimed.end(),
        binary.end(),
        crowd.end(),
        extensions.end(),
    ] {
        let (result, _) = attempt(&archive);
        let error = result.unwrap_err();
        assert!(matches!(error, archive::Error::TooLarge(_)), "{error:?}");
    }
    let long = vec![b'x'; (1 << 20) + 1];
    let (result, _) = attempt(&Tar::default().add(b'L', "l", "", &long).file("a").end());
    assert!(result.is_err());
}

#[test]
fn random_damage_never_escapes_or_panics() {
    let folder = Tar::default()
        .add(b'5', "d/", "", b"")
        .pax(&[("path", "d/long")])
        .file("x");
    let plain = folder
        .add(b'2', "l", "d", b"")
        .add(b'1', "h", "d/long", b"")
        .file("last")
        .0;
    let mut state = 1_u64;
    let mut random = |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % below
    };
    for _ in 0..500 {
        let mut damaged = plain.clone();
        for _ in 0..=random(4) {
            let at = random(damaged.len());
            damaged[at] = u8::try_from(random(256)).unwrap();
        }
        // A right checksum lets the damage reach what the header says.
        for block in damaged
            .chunks_exact_mut(512)
            .filter(|block| block[257..262] == *b"ustar")
        {
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
        damaged.resize(damaged.len() + 1024, 0);
        let _ = attempt(&gzip(&damaged));
    }
}
