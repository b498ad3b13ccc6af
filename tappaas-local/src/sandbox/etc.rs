use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::{
        ffi::OsStrExt,
        fs::{MetadataExt, PermissionsExt, symlink},
    },
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

/// What programs cannot do without, of this machine's `/etc`; `*` stands for any end. What not everybody may read is left out.
const WANTED: [&str; 23] = [
    "alternatives",
    "bash.bashrc",
    "ca-certificates",
    "ca-certificates.conf",
    "crypto-policies",
    "debian_version",
    "fonts",
    "gai.conf",
    "host.conf",
    "inputrc",
    "java*",
    "ld.so.*",
    "localtime",
    "magic*",
    "mime.types",
    "os-release",
    "perl",
    "pki",
    "protocols",
    "services",
    "ssl",
    "terminfo",
    "timezone",
];

/// In the place of the machine's own: its plug-ins may need its services.
const NSSWITCH: &str = "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nnetworks: files\nprotocols: files\nservices: files\n";

/// The `/etc` of the stack `host`, by paths below it.
pub(super) struct Etc(BTreeMap<PathBuf, Item>);

enum Item {
    File { content: Vec<u8>, executable: bool },
    Link(PathBuf),
}

impl Etc {
    pub(super) fn collect() -> io::Result<Self> {
        let mut etc = Self(BTreeMap::new());
        let mut room = Room {
            items: 20_000,
            bytes: 64 << 20,
        };
        for entry in fs::read_dir("/etc")? {
            let name = entry?.file_name();
            let matches = |pattern: &str| match pattern.strip_suffix('*') {
                Some(start) => name.as_bytes().starts_with(start.as_bytes()),
                None => name == *pattern,
            };
            if WANTED.iter().any(|pattern| matches(pattern)) {
                etc.take(Path::new(&name), &mut room)?;
            }
        }
        let nsswitch = Item::File {
            content: NSSWITCH.into(),
            executable: false,
        };
        etc.0.insert("nsswitch.conf".into(), nsswitch);
        Ok(etc)
    }

    pub(super) fn write(&self, folder: &Path) -> io::Result<()> {
        for (path, item) in &self.0 {
            let path = folder.join(path);
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            match item {
                Item::Link(target) => symlink(target, &path)?,
                Item::File {
                    content,
                    executable,
                } => {
                    fs::write(&path, content)?;
                    let mode = if *executable { 0o755 } else { 0o644 };
                    fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
                }
            }
        }
        Ok(())
    }

    /// Adds all of it to a fingerprint.
    pub(super) fn note(&self, hash: &mut Sha256) {
        for (path, item) in &self.0 {
            hash.update(format!("etc {}\n", path.display()));
            match item {
                Item::Link(target) => hash.update(target.as_os_str().as_bytes()),
                Item::File { content, .. } => hash.update(Sha256::digest(content)),
            }
        }
    }

    fn take(&mut self, path: &Path, room: &mut Room) -> io::Result<()> {
        let full = Path::new("/etc").join(path);
        let meta = fs::symlink_metadata(&full)?;
        room.shrink(meta.len())?;
        let for_everybody = meta.mode() & 0o004 != 0;
        if meta.is_symlink() {
            self.0
                .insert(path.to_owned(), Item::Link(fs::read_link(&full)?));
        } else if meta.is_dir() && for_everybody && meta.mode() & 0o001 != 0 {
            for entry in fs::read_dir(&full)? {
                self.take(&path.join(entry?.file_name()), room)?;
            }
        } else if meta.is_file() && for_everybody {
            let item = Item::File {
                content: fs::read(&full)?,
                executable: meta.mode() & 0o111 != 0,
            };
            self.0.insert(path.to_owned(), item);
        }
        Ok(())
    }
}

/// Bounds of what is copied.
struct Room {
    items: u32,
    bytes: u64,
}

impl Room {
    fn shrink(&mut self, bytes: u64) -> io::Result<()> {
        let full = || {
            io::Error::new(
                io::ErrorKind::FileTooLarge,
                "/etc holds more than a sandbox needs",
            )
        };
        self.items = self.items.checked_sub(1).ok_or_else(full)?;
        self.bytes = self.bytes.checked_sub(bytes).ok_or_else(full)?;
        Ok(())
    }
}
