//! The `/etc` of the stack `host`: what programs need to find names, certificates, libraries and time zones, and nothing else.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt as _, symlink},
    path::Path,
};

/// Written as they are here, whatever the machine has.
const GENERATED: [(&str, &str); 4] = [
    (
        "passwd",
        "root:x:0:0:root:/root:/usr/sbin/nologin\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    ),
    ("group", "root:x:0:\nnogroup:x:65534:\n"),
    ("hosts", "127.0.0.1 localhost\n::1 localhost\n"),
    (
        "nsswitch.conf",
        "passwd: files\ngroup: files\nhosts: files dns\nnetworks: files\nprotocols: files\nservices: files\n",
    ),
];

/// Copied from the machine if it has them and everybody may read them.
const COPIED: [&str; 22] = [
    "alternatives",
    "ca-certificates/extracted",
    "debian_version",
    "fonts",
    "gai.conf",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "magic",
    "mime.types",
    "os-release",
    "pki/ca-trust/extracted",
    "pki/tls/certs",
    "protocols",
    "python3",
    "services",
    "ssl/cert.pem",
    "ssl/certs",
    "ssl/openssl.cnf",
    "terminfo",
    "timezone",
];

/// More is no configuration.
const ENTRIES_MAX: usize = 8192;
const BYTES_MAX: u64 = 64 << 20;

pub(super) fn write(etc: &Path) -> io::Result<()> {
    fs::create_dir(etc)?;
    let mut budget = Budget {
        entries: ENTRIES_MAX,
        bytes: BYTES_MAX,
    };
    for name in COPIED {
        let to = etc.join(name);
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent)?;
        }
        copy(&Path::new("/etc").join(name), &to, &mut budget)?;
    }
    for (name, content) in GENERATED {
        fs::write(etc.join(name), content)?;
    }
    Ok(())
}

struct Budget {
    entries: usize,
    bytes: u64,
}

fn copy(from: &Path, to: &Path, budget: &mut Budget) -> io::Result<()> {
    let Ok(found) = from.symlink_metadata() else {
        return Ok(());
    };
    let bytes = if found.is_file() { found.len() } else { 0 };
    if budget.entries == 0 || budget.bytes < bytes {
        return Ok(());
    }
    budget.entries -= 1;
    budget.bytes -= bytes;
    let public = found.mode() & 0o004 != 0;
    if found.is_symlink() {
        return symlink(fs::read_link(from)?, to);
    }
    if found.is_dir() && public {
        fs::create_dir_all(to)?;
        for entry in fs::read_dir(from)? {
            let name = entry?.file_name();
            copy(&from.join(&name), &to.join(&name), budget)?;
        }
    } else if found.is_file() && public {
        fs::copy(from, to)?;
    }
    Ok(())
}
