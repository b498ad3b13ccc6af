//! The stack `host`: this machine's userland, seen read-only by applications that bring no image of their own.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::{
        ffi::OsStrExt,
        fs::{MetadataExt, symlink},
    },
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};
use tappaas_core::{Error, Result};

use super::etc::Etc;
use crate::{fault::Context, sandbox::Bind};

/// This machine's userland as a root file system: programs and libraries as they are, and of `/etc` what they cannot do without.
///
/// Of the rest, above all `/root`, `/home`, `/var` and `/opt`, nothing is seen.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HostStack {
    /// The undermost layer of the root file system.
    pub layer: PathBuf,
    /// The folders of the machine seen inside.
    pub binds: Vec<Bind>,
    /// The value of `PATH`: the toolchains first.
    pub path: String,
    /// Changes when anything of it changes that programs could notice.
    pub fingerprint: String,
}

impl HostStack {
    /// The name of the stack.
    pub const NAME: &str = "host";

    /// Describes the stack of this machine as it is now, with its layer in `folder` unless it is there already. `toolchains` are
    /// further absolute folders seen inside at their own places. Blocks for some ten milliseconds.
    ///
    /// Layers of earlier fingerprints stay: instances may run on them.
    ///
    /// # Errors
    /// `Invalid` if a toolchain is not a folder, or one that may not be seen.
    pub fn prepare(folder: &Path, toolchains: &[PathBuf]) -> Result<Self> {
        let mut binds = Vec::new();
        let mut links = BTreeMap::new();
        for name in USERLAND {
            let path = Path::new("/").join(name);
            match fs::read_link(&path) {
                Ok(target) => drop(links.insert(name, target)),
                Err(_) if path.is_dir() => binds.push(seen(&path)),
                Err(_) => {}
            }
        }
        for toolchain in toolchains {
            refuse_hidden(toolchain)?;
            binds.push(seen(toolchain));
        }
        let what =
            |error| Error::internal("cannot look at this machine's userland").with_source(error);
        let etc = Etc::collect().map_err(what)?;
        let fingerprint = fingerprint(&binds, &links, &etc).map_err(what)?;
        let layer = folder.join(&fingerprint);
        if !layer.is_dir() {
            write_layer(folder, &layer, &links, &etc)
                .context(|| format!("write {}", layer.display()))?;
        }
        Ok(Self {
            layer,
            binds,
            path: search_path(toolchains),
            fingerprint,
        })
    }

    /// Says whether a program is found in [`HostStack::path`].
    pub fn has(&self, program: &str) -> bool {
        self.path.split(':').any(|folder| {
            let found = fs::metadata(Path::new(folder).join(program));
            found.is_ok_and(|found| found.is_file() && found.mode() & 0o111 != 0)
        })
    }
}

/// Where programs and libraries are. Most machines have links into `/usr` for all but the first.
const USERLAND: [&str; 7] = ["usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32"];

/// Where programs are looked up, after the toolchains. The first are where Go is installed by hand and by distributions.
const PATH: [&str; 8] = [
    "/usr/local/go/bin",
    "/usr/lib/go/bin",
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
];

fn seen(path: &Path) -> Bind {
    Bind {
        source: path.to_owned(),
        target: path.to_owned(),
        read_only: true,
    }
}

/// A toolchain of its own in a folder that is otherwise hidden may be seen; the hidden folder itself may not.
fn refuse_hidden(toolchain: &Path) -> Result<()> {
    const NEVER: [&str; 8] = [
        "/boot", "/dev", "/etc", "/proc", "/run", "/sys", "/tmp", "/usr",
    ];
    const NOT_AS_A_WHOLE: [&str; 6] = ["/", "/home", "/opt", "/root", "/srv", "/var"];
    let refused = |why: &str| {
        Err(Error::invalid(format!(
            "the toolchain {} {why}",
            toolchain.display()
        )))
    };
    let text = toolchain
        .to_str()
        .filter(|text| !text.contains([':', '\0']));
    let Ok(real) = fs::canonicalize(toolchain) else {
        return refused("cannot be found");
    };
    if text.is_none() || !toolchain.is_absolute() || !real.is_dir() {
        return refused("is not a folder given by its absolute path");
    }
    if real.starts_with("/usr") {
        return refused("is seen anyway: all of /usr is");
    }
    if NEVER.iter().any(|folder| real.starts_with(folder))
        || NOT_AS_A_WHOLE
            .iter()
            .any(|folder| real == Path::new(folder))
    {
        return refused(
            "would show more than a toolchain to every application: name the folder that holds its `bin`",
        );
    }
    Ok(())
}

fn search_path(toolchains: &[PathBuf]) -> String {
    let own = toolchains.iter().map(|folder| match folder.join("bin") {
        bin if bin.is_dir() => bin,
        _ => folder.clone(),
    });
    let standard = PATH
        .iter()
        .map(PathBuf::from)
        .filter(|folder| folder.is_dir());
    own.chain(standard)
        .map(|folder| folder.display().to_string())
        .collect::<Vec<_>>()
        .join(":")
}

/// Written aside and renamed, so that no half-written layer is ever used.
fn write_layer(
    folder: &Path,
    layer: &Path,
    links: &BTreeMap<&str, PathBuf>,
    etc: &Etc,
) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let draft = layer.with_extension(format!(
        "new-{}",
        rustix::process::getpid().as_raw_nonzero()
    ));
    if draft.exists() {
        fs::remove_dir_all(&draft)?;
    }
    for name in ["", "etc", "proc", "dev", "sys", "tmp", "usr"] {
        fs::create_dir_all(draft.join(name))?;
    }
    for (name, target) in links {
        symlink(target, draft.join(name))?;
    }
    etc.write(&draft.join("etc"))?;
    match fs::rename(&draft, layer) {
        // Somebody else was faster, with the same content.
        Err(_) if layer.is_dir() => fs::remove_dir_all(&draft),
        outcome => outcome,
    }
}

/// Contents where they are small, otherwise names, sizes and times of change: installing, upgrading or removing a package changes
/// the folders that programs and libraries are in.
fn fingerprint(binds: &[Bind], links: &BTreeMap<&str, PathBuf>, etc: &Etc) -> io::Result<String> {
    const FORMAT: &[u8] = b"host stack 1\n";
    let mut hash = Sha256::new();
    hash.update(FORMAT);
    for (name, target) in links {
        hash.update(format!("link {name} {}\n", target.display()));
    }
    etc.note(&mut hash);
    hash.update(fs::read("/usr/lib/os-release").unwrap_or_default());
    for bind in binds {
        hash.update(format!("folder {}\n", bind.source.display()));
        let native = format!("lib/{}-linux-gnu", std::env::consts::ARCH);
        let below = [
            "",
            "bin",
            "sbin",
            "lib",
            "lib64",
            "libexec",
            "local/bin",
            "local/lib",
            &native,
        ];
        for folder in below {
            note_entries(&mut hash, &bind.source.join(folder))?;
        }
    }
    Ok(hex::encode(&hash.finalize()[..16]))
}

fn note_entries(hash: &mut Sha256, folder: &Path) -> io::Result<()> {
    let mut entries: Vec<_> = match fs::read_dir(folder) {
        Ok(entries) => entries.collect::<io::Result<_>>()?,
        Err(_) => return Ok(()),
    };
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let Ok(meta) = entry.metadata() else {
            continue;
        };
        hash.update(entry.file_name().as_bytes());
        hash.update(format!(
            " {} {}.{}\n",
            meta.size(),
            meta.mtime(),
            meta.mtime_nsec()
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_machine_gives_the_same_layer_and_nothing_secret_is_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let stack = HostStack::prepare(folder.path(), &[]).unwrap();
        assert_eq!(HostStack::prepare(folder.path(), &[]).unwrap(), stack);
        assert!(
            stack
                .binds
                .iter()
                .any(|bind| bind.source == Path::new("/usr"))
        );
        assert!(stack.binds.iter().all(|bind| bind.read_only));
        assert!(stack.has("sh") && !stack.has("no-such-program"));
        let names: Vec<_> = fs::read_dir(&stack.layer)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        for hidden in ["root", "home", "var", "opt"] {
            assert!(!names.iter().any(|name| name == hidden), "{names:?}");
        }
        for hidden in ["shadow", "ssl/private", "machine-id"] {
            assert!(!stack.layer.join("etc").join(hidden).exists(), "{hidden}");
        }
        assert!(stack.layer.join("etc/ld.so.cache").exists());
    }

    #[test]
    fn toolchains_in_folders_that_may_not_be_seen_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        for toolchain in [
            "/root",
            "/var",
            "/",
            "usr",
            "/no/such/folder",
            "/etc/ssl",
            "/usr/lib",
        ] {
            assert!(
                HostStack::prepare(folder.path(), &[toolchain.into()]).is_err(),
                "{toolchain}"
            );
        }
    }
}
