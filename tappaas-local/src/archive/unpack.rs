use std::{
    fs::File,
    io::{self, BufReader, Read, Write as _},
    os::unix::ffi::OsStrExt as _,
    path::Path,
};

use flate2::bufread::MultiGzDecoder;
use rustix::io::Errno;

use super::{Entries, Entry, EntryKind, Error, Limits, Tree, fields::shown, walk::stays_inside};

/// Whom unpacked files belong to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Owner {
    /// The user's id.
    pub user: u32,
    /// The group's id.
    pub group: u32,
}

/// What was unpacked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Unpacked {
    /// Files, folders and links, as the archive counts them.
    pub entries: usize,
    /// Bytes of the uncompressed archive.
    pub bytes: u64,
}

/// Unpacks a source archive (gzip-compressed tar) into an empty folder.
///
/// Nothing is ever written outside of `folder`. Of the mode only "executable" is kept. What was written before an error stays: the
/// folder is the caller's to remove.
///
/// # Errors
/// `Refused` for names that are absolute, lead out or appear twice, for links that leave the folder or lie on the way to another
/// entry, for devices, pipes and set-user-id files, and for what no reader of it should accept; `TooLarge`; `Read`; `File`.
pub fn unpack(
    archive: impl Read,
    folder: &Path,
    owner: Option<Owner>,
    limits: &Limits,
) -> Result<Unpacked, Error> {
    let owner = owner.map(|owner| (owner.user, owner.group));
    let mut tree = Tree::open(folder, owner).map_err(Error::file("open", folder))?;
    let plain = MultiGzDecoder::new(BufReader::with_capacity(64 << 10, archive));
    let mut entries = Entries::new(BufReader::with_capacity(64 << 10, plain), *limits);
    while let Some(entry) = entries.next()? {
        unpack_entry(&mut tree, &mut entries, &entry)?;
    }
    Ok(Unpacked {
        entries: entries.entries(),
        bytes: entries.bytes(),
    })
}

fn unpack_entry(
    tree: &mut Tree,
    entries: &mut Entries<impl Read>,
    entry: &Entry,
) -> Result<(), Error> {
    let path = &entry.path;
    let refused = |why: &str| Err(refused(path, why));
    let failed = |error| classify(path, error);
    match &entry.kind {
        EntryKind::Directory => tree.directory(path).map_err(failed),
        EntryKind::File { .. } if entry.mode & 0o6000 != 0 => refused("would run as its owner"),
        EntryKind::File { .. } => {
            let mut file = tree.file(path, entry.mode & 0o111 != 0).map_err(failed)?;
            copy(entries, &mut file, path)
        }
        EntryKind::Symlink { target } if !stays_inside(path, target) => {
            refused("is a link out of the archive")
        }
        EntryKind::Symlink { target } => tree.symlink(path, target).map_err(failed),
        EntryKind::HardLink { target } => tree.hard_link(path, target).map_err(failed),
        EntryKind::Special => refused("is a device or a pipe"),
    }
}

fn copy(entries: &mut Entries<impl Read>, file: &mut File, path: &Path) -> Result<(), Error> {
    let mut content = entries.content();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match content.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => file
                .write_all(&buffer[..read])
                .map_err(Error::file("write", path))?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::Read(error)),
        }
    }
}

/// Tells a hostile archive from a failing disk.
fn classify(path: &Path, error: io::Error) -> Error {
    let refused = |why: &str| refused(path, why);
    match Errno::from_io_error(&error) {
        Some(Errno::EXIST) => refused("appears twice"),
        Some(Errno::NOTDIR | Errno::LOOP) => refused("lies behind something that is not a folder"),
        Some(Errno::NOENT) => refused("is a link to a file that is not in the archive"),
        None => refused(&error.to_string()),
        Some(_) => Error::file("create", path)(error),
    }
}

fn refused(path: &Path, why: &str) -> Error {
    let name = shown(path.as_os_str().as_bytes());
    Error::Refused(format!("`{name}` {why}"))
}
