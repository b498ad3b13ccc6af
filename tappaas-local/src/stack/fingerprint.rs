//! Tells whether the userland of the machine changed, from the names, sizes and times of its programs and libraries.

use std::{
    fs,
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

/// Files whose content counts.
const CONTENT: [&str; 3] = [
    "/etc/os-release",
    "/etc/ld.so.cache",
    "/etc/ssl/certs/ca-certificates.crt",
];
/// Below `/usr`: what is in these folders counts, one level deep.
const LISTED: [&str; 10] = [
    "bin",
    "sbin",
    "lib",
    "lib64",
    "libexec",
    "local/bin",
    "local/sbin",
    "local/lib",
    "local/go",
    "local/go/bin",
];
/// Below a toolchain: what is in these folders counts, one level deep.
const LISTED_OF_TOOLCHAIN: [&str; 4] = ["", "bin", "lib", "libexec"];

/// 16 hexadecimal digits.
pub(super) fn of(folders: &[PathBuf], toolchains: &[PathBuf]) -> String {
    let mut hash = Sha256::new();
    for file in CONTENT {
        hash.update(file);
        hash.update(Sha256::digest(fs::read(file).unwrap_or_default()));
    }
    for folder in folders {
        hash.update(folder.as_os_str().as_bytes());
        hash.update([0]);
    }
    let usr = Path::new("/usr");
    for name in LISTED {
        list(&mut hash, &usr.join(name));
    }
    for folder in architecture_folders(&usr.join("lib")) {
        list(&mut hash, &folder);
    }
    for toolchain in toolchains {
        for name in LISTED_OF_TOOLCHAIN {
            list(&mut hash, &toolchain.join(name));
        }
    }
    hex::encode(&hash.finalize()[..8])
}

/// Debian keeps libraries in `/usr/lib/<architecture>-linux-gnu`.
fn architecture_folders(lib: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(lib).into_iter().flatten().flatten();
    let mut folders: Vec<_> = entries
        .map(|entry| entry.path())
        .filter(|path| {
            path.file_name()
                .is_some_and(|name| name.as_bytes().ends_with(b"-linux-gnu"))
        })
        .collect();
    folders.sort_unstable();
    folders
}

fn list(hash: &mut Sha256, folder: &Path) {
    let mut entries: Vec<_> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .collect();
    entries.sort_unstable_by_key(fs::DirEntry::file_name);
    hash.update(folder.as_os_str().as_bytes());
    for entry in entries {
        let Ok(found) = entry.metadata() else {
            continue;
        };
        hash.update(entry.file_name().as_bytes());
        hash.update([0]);
        // A folder's size depends on its file system, and its time on caches that programs keep beside their libraries.
        if !found.is_dir() {
            hash.update(found.len().to_le_bytes());
            hash.update(found.mtime().to_le_bytes());
            hash.update(found.mtime_nsec().to_le_bytes());
        }
    }
}
