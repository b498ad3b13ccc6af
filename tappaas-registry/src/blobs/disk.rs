use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Write as _},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use crate::{Error, Result};

const FORMAT: &str = "tappaas-registry 1";
const FORMAT_FILE: &str = "format";
const LOCK_FILE: &str = "lock";
const STAGING: &str = "uploads";

/// A locked directory and the few durable steps everything else is made of.
///
/// What a method has done survives a power cut once it returns. Nothing here is async: call it from a blocking thread.
#[derive(Debug)]
pub(crate) struct Disk {
    root: PathBuf,
    staging: Arc<Staging>,
    /// Held while a directory is looked for and made, so that whoever finds one knows that its name is durable.
    directories: Mutex<()>,
    _lock: File,
}

impl Disk {
    /// Locks `root`, checks its format, and throws away what unfinished uploads left.
    pub(crate) fn open(root: &Path) -> Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(root)
            .map_err(|error| Error::io("create", root, error))?;
        let disk = Self {
            root: root.to_owned(),
            staging: Arc::new(Staging::new(root.join(STAGING))),
            directories: Mutex::new(()),
            _lock: lock(root)?,
        };
        disk.settle()?;
        disk.check_format()?;
        Ok(disk)
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Where files are written before they are visible.
    pub(crate) fn staging(&self) -> &Arc<Staging> {
        &self.staging
    }

    /// Puts `content` at `target`, replacing what was there, all or nothing.
    pub(crate) fn write(&self, target: &Path, content: &[u8]) -> Result<()> {
        self.staging.write(target, content)
    }

    /// Makes sure that a directory below the root is there, with durable names all the way.
    pub(crate) fn ensure_directory(&self, path: &Path) -> Result<()> {
        let _one_at_a_time = self
            .directories
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut missing = Vec::new();
        let mut next = Some(path);
        while let Some(directory) = next.filter(|directory| !directory.is_dir()) {
            missing.push(directory);
            next = directory.parent();
        }
        for directory in missing.into_iter().rev() {
            make_directory(directory)?;
            sync_parent(directory)?;
        }
        Ok(())
    }

    /// Removes a directory if it is empty; says whether it is gone.
    pub(crate) fn prune_directory(&self, path: &Path) -> Result<bool> {
        let _one_at_a_time = self
            .directories
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match fs::remove_dir(path) {
            Ok(()) => sync_parent(path).map(|()| true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(false),
            Err(error) => Err(Error::io("remove", path, error)),
        }
    }

    /// What a killed predecessor renamed may still be in memory only. It is visible now, so it must stay.
    fn settle(&self) -> Result<()> {
        self.ensure_directory(&self.root.join(STAGING))?;
        self.staging.clear()?;
        let directory =
            File::open(&self.root).map_err(|error| Error::io("open", &self.root, error))?;
        nix::unistd::syncfs(&directory).map_err(|errno| Error::io("sync", &self.root, errno.into()))
    }

    fn check_format(&self) -> Result<()> {
        let path = self.root.join(FORMAT_FILE);
        match read(&path)? {
            Some(found) if found.trim_ascii() == FORMAT.as_bytes() => Ok(()),
            Some(found) => Err(self.foreign(
                String::from_utf8_lossy(&found)
                    .trim()
                    .chars()
                    .take(80)
                    .collect(),
            )),
            None => match entries(&self.root)?
                .into_iter()
                .find(|name| name != LOCK_FILE && name != STAGING)
            {
                None => self.write(&path, format!("{FORMAT}\n").as_bytes()),
                Some(stranger) => Err(self.foreign(format!("unknown, with a `{stranger}`"))),
            },
        }
    }

    fn foreign(&self, found: String) -> Error {
        Error::Format {
            path: self.root.clone(),
            found,
            known: FORMAT,
        }
    }
}

/// A directory in which files become whole before they are renamed to where they are seen, in the same file system.
#[derive(Debug)]
pub(crate) struct Staging {
    directory: PathBuf,
    next: AtomicU64,
}

impl Staging {
    /// Takes a directory that nobody else writes to.
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self {
            directory,
            next: AtomicU64::new(0),
        }
    }

    /// Removes what an earlier process left.
    pub(crate) fn clear(&self) -> Result<()> {
        for entry in entries(&self.directory)? {
            remove(&self.directory.join(entry))?;
        }
        Ok(())
    }

    /// Opens a new file that is not visible anywhere until it is published.
    pub(crate) fn stage(&self) -> Result<Staged> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.directory.join(number.to_string());
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(|error| Error::io("create", &path, error))?;
        Ok(Staged { file, path })
    }

    /// Puts `content` at `target`, replacing what was there, all or nothing.
    pub(crate) fn write(&self, target: &Path, content: &[u8]) -> Result<()> {
        let mut staged = self.stage()?;
        staged.append(content)?;
        staged.publish(target)
    }
}

/// A file that nobody sees yet. Dropped, it is gone.
#[derive(Debug)]
pub(crate) struct Staged {
    file: File,
    path: PathBuf,
}

impl Staged {
    pub(crate) fn append(&mut self, content: &[u8]) -> Result<()> {
        self.file
            .write_all(content)
            .map_err(|error| Error::io("write", &self.path, error))
    }

    /// Makes the content durable, and then visible at `target`, durably.
    pub(crate) fn publish(self, target: &Path) -> Result<()> {
        self.file
            .sync_data()
            .map_err(|error| Error::io("sync", &self.path, error))?;
        fs::rename(&self.path, target).map_err(|error| Error::io("publish", target, error))?;
        sync_parent(target)
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // After a rename there is nothing at the path. What cannot be removed now is at the next start.
        let _gone_already = fs::remove_file(&self.path);
    }
}

/// Puts an empty file at `target`.
pub(crate) fn mark(target: &Path) -> Result<()> {
    File::create(target).map_err(|error| Error::io("create", target, error))?;
    sync_parent(target)
}

/// Reads a small file whole; `None` if there is none.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    absent_is_none(fs::read(path)).map_err(|error| Error::io("read", path, error))
}

/// Removes a file; says whether there was one.
pub(crate) fn remove(path: &Path) -> Result<bool> {
    match absent_is_none(fs::remove_file(path)).map_err(|error| Error::io("remove", path, error))? {
        None => Ok(false),
        Some(()) => sync_parent(path).map(|()| true),
    }
}

/// The metadata of a file; `None` if there is none.
pub(crate) fn metadata(path: &Path) -> Result<Option<fs::Metadata>> {
    absent_is_none(fs::metadata(path)).map_err(|error| Error::io("inspect", path, error))
}

/// Makes a file as young as `now`, if there is one. Not durable: a power cut may leave it older.
pub(crate) fn touch(path: &Path, now: SystemTime) -> Result<()> {
    let touched = OpenOptions::new()
        .append(true)
        .open(path)
        .and_then(|file| file.set_modified(now));
    absent_is_none(touched)
        .map(|_| ())
        .map_err(|error| Error::io("touch", path, error))
}

/// The names in a directory, unordered; none if there is no directory. Names that are not text are nobody's here.
pub(crate) fn entries(directory: &Path) -> Result<Vec<String>> {
    let failed = |error| Error::io("list", directory, error);
    let Some(listing) = absent_is_none(fs::read_dir(directory)).map_err(failed)? else {
        return Ok(Vec::new());
    };
    let mut names = Vec::new();
    for entry in listing {
        names.extend(entry.map_err(failed)?.file_name().into_string());
    }
    Ok(names)
}

/// Makes a directory unless it is there. Its name is durable once its parent is synced.
pub(crate) fn make_directory(directory: &Path) -> Result<()> {
    match fs::create_dir(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(Error::io("create", directory, error))
        }
        _ => Ok(()),
    }
}

/// Makes the names in a directory durable.
pub(crate) fn sync_directory(directory: &Path) -> Result<()> {
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(|error| Error::io("sync", directory, error))
}

fn sync_parent(path: &Path) -> Result<()> {
    path.parent().map_or(Ok(()), sync_directory)
}

fn absent_is_none<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(None)
        }
        other => other.map(Some),
    }
}

fn lock(root: &Path) -> Result<File> {
    let path = root.join(LOCK_FILE);
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|error| Error::io("open", &path, error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::Locked(root.to_owned())),
        Err(TryLockError::Error(error)) => Err(Error::io("lock", &path, error)),
    }
}
