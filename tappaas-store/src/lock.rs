use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read, Seek, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use tappaas_core::{Error, Result};

/// Keeps a second process away from a directory, until it is dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock of a directory.
    ///
    /// # Errors
    /// `Unavailable` if somebody has it, naming the process, or if the lock file cannot be written.
    pub(crate) fn take(directory: &Path) -> Result<Self> {
        let path = directory.join("lock");
        let failed = |error| {
            Error::unavailable(format!("cannot lock `{}`", path.display())).with_source(error)
        };
        let mut options = OpenOptions::new();
        options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600);
        let mut file = options.open(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(held(directory, file)),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        // What the file says is for people. The lock itself is the kernel's, and ends with the process however that ends.
        file.set_len(0).map_err(failed)?;
        writeln!(file, "{}", std::process::id()).map_err(failed)?;
        Ok(Self { _file: file })
    }
}

fn held(directory: &Path, mut file: File) -> Error {
    let mut text = String::new();
    let read = file
        .rewind()
        .and_then(|()| (&mut file).take(32).read_to_string(&mut text));
    let holder = match (read, text.trim().parse::<u32>()) {
        (Ok(_), Ok(pid)) => format!("process {pid}"),
        _ => "another process".to_owned(),
    };
    Error::unavailable(format!(
        "the store in `{}` is in use by {holder}: stop it first, or choose another directory",
        directory.display()
    ))
}
