use std::{
    fs, io,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    path::{Component, Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use serde::Deserialize;
use tappaas_core::{Error, Result};

use super::{etc, fingerprint};
use crate::{fault::Context as _, sandbox::Bind};

/// What the stack `host` has beside the userland of the machine.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct HostStackConfig {
    /// Folders that are seen inside at the same path, read-only: for compilers and interpreters that are installed elsewhere than in
    /// `/usr`. The programs in `bin` of each (or in the folder itself, if it has no `bin`) are found first.
    pub toolchains: Vec<PathBuf>,
}

/// The stack `host`.
#[derive(Debug)]
pub struct HostStack {
    config: HostStackConfig,
    folder: PathBuf,
    current: Mutex<Option<Arc<Userland>>>,
}

/// This machine's userland, as it was when it was looked at.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Userland {
    /// Changes when programs or libraries of the machine are installed, updated or removed.
    pub fingerprint: String,
    /// The lowest layer of a sandbox's root: `/etc`, and links such as `/bin`.
    pub layer: PathBuf,
    /// What is seen inside at the same path, read-only.
    pub folders: Vec<PathBuf>,
    /// The value of `PATH`.
    pub path: String,
}

/// The folders of a root file system that hold programs and libraries. In most distributions they are links into `/usr`.
const PROGRAMS: [&str; 6] = ["bin", "sbin", "lib", "lib32", "lib64", "libx32"];
/// Where programs are looked up, after the toolchains. The first are where Go and Java are installed by hand and by distributions.
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
/// What would show more than a toolchain inside.
const TOO_MUCH: [&str; 12] = [
    "/", "/boot", "/dev", "/etc", "/home", "/opt", "/proc", "/root", "/run", "/sys", "/tmp", "/var",
];

impl HostStack {
    /// The stack's name.
    pub const NAME: &str = "host";

    /// Describes the stack; its generated files are kept in `folder`.
    ///
    /// # Errors
    /// `Invalid` for a toolchain that is no absolute path or would show more of the machine than a toolchain.
    pub fn new(config: HostStackConfig, folder: PathBuf) -> Result<Self> {
        for toolchain in &config.toolchains {
            check(toolchain)?;
        }
        Ok(Self {
            config,
            folder,
            current: Mutex::new(None),
        })
    }

    /// Returns the userland as [`Self::look`] saw it last, without looking again if it ever did.
    pub fn seen(&self) -> Option<Arc<Userland>> {
        self.current
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Looks at the machine's userland. Blocks for some ten milliseconds.
    ///
    /// Generated files of an earlier fingerprint stay: instances may run on them.
    ///
    /// # Errors
    /// `Internal` or `Exhausted` if the generated files cannot be written.
    pub fn look(&self) -> Result<Arc<Userland>> {
        let folders = self.folders();
        let fingerprint = fingerprint::of(&folders, &self.config.toolchains);
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = current.as_ref()
            && known.fingerprint == fingerprint
            && known.layer.is_dir()
        {
            return Ok(Arc::clone(known));
        }
        let layer = self.folder.join(&fingerprint);
        self.generate(&layer)
            .context(|| format!("write the stack's files to {}", layer.display()))?;
        let userland = Arc::new(Userland {
            fingerprint,
            layer,
            folders,
            path: self.path(),
        });
        *current = Some(Arc::clone(&userland));
        Ok(userland)
    }

    fn folders(&self) -> Vec<PathBuf> {
        let mut folders = vec![PathBuf::from("/usr")];
        let programs = PROGRAMS.map(|name| Path::new("/").join(name));
        folders.extend(
            programs
                .into_iter()
                .filter(|path| path.symlink_metadata().is_ok_and(|found| found.is_dir())),
        );
        let outside = |path: &&PathBuf| path.is_dir() && !path.starts_with("/usr");
        folders.extend(self.config.toolchains.iter().filter(outside).cloned());
        folders
    }

    fn path(&self) -> String {
        let toolchains = self
            .config
            .toolchains
            .iter()
            .map(|folder| match folder.join("bin") {
                bin if bin.is_dir() => bin,
                _ => folder.clone(),
            });
        let standard = PATH.iter().map(PathBuf::from).filter(|path| path.is_dir());
        let all: Vec<_> = toolchains
            .chain(standard)
            .map(|path| path.display().to_string())
            .collect();
        all.join(":")
    }

    /// Writes the layer aside and puts it in place whole.
    fn generate(&self, layer: &Path) -> io::Result<()> {
        if layer.is_dir() {
            return Ok(());
        }
        fs::create_dir_all(&self.folder)?;
        let aside = self.folder.join("new");
        if aside.exists() {
            fs::remove_dir_all(&aside)?;
        }
        fs::create_dir(&aside)?;
        fs::set_permissions(&aside, fs::Permissions::from_mode(0o755))?;
        etc::write(&aside.join("etc"))?;
        for name in PROGRAMS {
            if let Ok(target) = fs::read_link(Path::new("/").join(name)) {
                symlink(target, aside.join(name))?;
            }
        }
        fs::rename(&aside, layer)
    }
}

impl Userland {
    /// The mounts that show the userland inside.
    pub fn binds(&self) -> Vec<Bind> {
        let bind = |folder: &PathBuf| Bind {
            source: folder.clone(),
            target: folder.clone(),
            read_only: true,
        };
        self.folders.iter().map(bind).collect()
    }

    /// Says whether a program is found in the stack's `PATH`.
    pub fn has(&self, program: &str) -> bool {
        self.path.split(':').any(|folder| {
            let found = fs::metadata(Path::new(folder).join(program));
            found.is_ok_and(|found| found.is_file() && found.mode() & 0o111 != 0)
        })
    }
}

fn check(toolchain: &Path) -> Result<()> {
    let plain = |part: Component<'_>| matches!(part, Component::RootDir | Component::Normal(_));
    let text = toolchain
        .to_str()
        .filter(|text| !text.contains([':', '\0']));
    if text.is_none() || !toolchain.is_absolute() || !toolchain.components().all(plain) {
        return Err(Error::invalid(format!(
            "the toolchain {} is not a plain absolute path",
            toolchain.display()
        )));
    }
    let target = toolchain
        .canonicalize()
        .unwrap_or_else(|_| toolchain.to_owned());
    if TOO_MUCH
        .iter()
        .any(|folder| toolchain == Path::new(folder) || target == Path::new(folder))
    {
        return Err(Error::invalid(format!(
            "the toolchain {} would show more than a toolchain to every application: name the folder that holds its `bin`",
            toolchain.display()
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn toolchains_that_show_too_much_are_refused() {
        for toolchain in [
            "/",
            "/root",
            "/home",
            "/etc",
            "opt/go",
            "/opt/../etc",
            "/a:b",
        ] {
            let config = HostStackConfig {
                toolchains: vec![toolchain.into()],
            };
            assert!(
                HostStack::new(config, "/nowhere".into()).is_err(),
                "{toolchain}"
            );
        }
    }

    #[test]
    fn the_layer_has_what_programs_look_for_and_no_secrets() {
        let folder = tempfile::TempDir::new().unwrap();
        let stack =
            HostStack::new(HostStackConfig::default(), folder.path().join("stack")).unwrap();
        assert_eq!(stack.seen(), None);
        let userland = stack.look().unwrap();
        assert_eq!(stack.seen().as_ref(), Some(&userland));
        for name in ["passwd", "group", "hosts", "nsswitch.conf"] {
            assert!(userland.layer.join("etc").join(name).is_file(), "{name}");
        }
        assert!(!userland.layer.join("etc/shadow").exists());
        assert!(userland.has("sh") && !userland.has("no-such-program"));
        assert_eq!(stack.look().unwrap(), userland);
    }

    #[test]
    fn a_new_program_in_a_toolchain_is_another_fingerprint() {
        let folder = tempfile::TempDir::new().unwrap();
        let toolchain = folder.path().join("tool");
        fs::create_dir_all(toolchain.join("bin")).unwrap();
        let config = HostStackConfig {
            toolchains: vec![toolchain.clone()],
        };
        let stack = HostStack::new(config, folder.path().join("stack")).unwrap();
        let before = stack.look().unwrap();
        assert!(
            before
                .path
                .starts_with(&format!("{}/bin:", toolchain.display()))
        );
        fs::write(toolchain.join("bin/compiler"), "").unwrap();
        fs::set_permissions(
            toolchain.join("bin/compiler"),
            fs::Permissions::from_mode(0o755),
        )
        .unwrap();
        let after = stack.look().unwrap();
        assert_ne!(before.fingerprint, after.fingerprint);
        assert!(after.has("compiler") && before.layer.is_dir());
    }
}
