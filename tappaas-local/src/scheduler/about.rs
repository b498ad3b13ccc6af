use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use tappaas_core::{
    Name, Timestamp,
    backend::{InstanceId, Template, WorkloadId},
};

/// What a later server must know of an instance. Kept in a file beside the instance's folder, without any environment.
///
/// It is not synced: after a power cut no instance is left that it could be about.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct About {
    pub(super) id: InstanceId,
    pub(super) workload: WorkloadId,
    pub(super) release: u64,
    pub(super) created: Timestamp,
    /// What it was made from, but for the environment.
    pub(super) template: Template,
    /// Ports by their names that differ from the template's, where instances share the machine's network.
    #[serde(default)]
    pub(super) ports: BTreeMap<Name, u16>,
    /// Its process was ready, so that a later server need not doubt it.
    #[serde(default)]
    pub(super) ready: Option<Ready>,
    /// It is over; only its log is left.
    #[serde(default)]
    pub(super) gone: bool,
}

/// A process that was ready.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Ready {
    /// When it was started.
    pub(super) started: Option<Timestamp>,
    /// The port that it listens on instead of an undeclared one.
    pub(super) found_port: Option<u16>,
}

/// The folders of instances and what is kept about each, below one folder.
#[derive(Clone, Debug)]
pub(super) struct Folders(PathBuf);

impl Folders {
    pub(super) fn open(folder: PathBuf) -> io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt as _;
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o711)
            .create(&folder)?;
        Ok(Self(folder))
    }

    /// The folder of an instance.
    pub(super) fn of(&self, id: &InstanceId) -> PathBuf {
        self.0.join(&id.0)
    }

    pub(super) fn write(&self, about: &About) -> io::Result<()> {
        let (draft, file) = (self.0.join(format!(".{}", about.id)), self.file(&about.id));
        let json = serde_json::to_vec(about).map_err(io::Error::other)?;
        let mut options = fs::OpenOptions::new();
        let mut opened = options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&draft)?;
        io::Write::write_all(&mut opened, &json)?;
        fs::rename(draft, file)
    }

    /// Deletes all that is left of an instance.
    pub(super) fn delete(&self, id: &InstanceId) -> io::Result<()> {
        let missing_is_fine = |done: io::Result<()>| match done {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        };
        missing_is_fine(fs::remove_dir_all(self.of(id)))?;
        missing_is_fine(fs::remove_file(self.file(id)))
    }

    /// Every instance that something is left of, with what is known about it.
    pub(super) fn all(&self) -> io::Result<BTreeMap<InstanceId, Option<About>>> {
        let mut found = BTreeMap::new();
        for entry in fs::read_dir(&self.0)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with('.') {
                // A draft that was cut short.
                fs::remove_file(&path).ok();
                continue;
            }
            match name.strip_suffix(SUFFIX) {
                None => drop(found.entry(InstanceId(name.into_owned())).or_insert(None)),
                Some(id) => drop(found.insert(InstanceId(id.to_owned()), read(&path))),
            }
        }
        Ok(found)
    }

    fn file(&self, id: &InstanceId) -> PathBuf {
        self.0.join(format!("{id}{SUFFIX}"))
    }
}

const SUFFIX: &str = ".json";

/// A file that cannot be understood was cut short with the power.
fn read(path: &Path) -> Option<About> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}
