use std::{
    collections::BTreeSet,
    io::{self, BufReader, Read},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use flate2::bufread::MultiGzDecoder;
use rustix::io::Errno;

use super::whiteout;
use crate::archive::{self, Entries, Entry, EntryKind, Limits, Tree};

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
const RESERVED: &[u8] = b".wh..wh.";

/// Unpacks a layer into an empty folder, ready to be a lower layer of an overlay file system.
pub(super) fn unpack(
    reader: impl Read,
    gzipped: bool,
    folder: &Path,
) -> Result<(), archive::Error> {
    const BUFFER: usize = 64 << 10;
    let reader = BufReader::with_capacity(BUFFER, reader);
    let plain: Box<dyn Read + '_> = match gzipped {
        true => Box::new(MultiGzDecoder::new(reader)),
        false => Box::new(reader),
    };
    let mut entries = Entries::new(BufReader::with_capacity(BUFFER, plain), Limits::LAYER);
    let mut tree = Tree::open(folder, None).map_err(failure("open", folder))?;
    let mut hidden = Hidden::default();
    while let Some(entry) = entries.next()? {
        match marker(&entry.path) {
            Some(Marker::Reserved) => {}
            Some(Marker::Whiteout(path)) => drop(hidden.paths.insert(path)),
            Some(Marker::Opaque(path)) => drop(hidden.folders.insert(path)),
            None => write(&mut tree, &mut entries, &entry)?,
        }
    }
    hidden.apply(&mut tree, folder)
}

/// What a layer takes away of the layers below it.
#[derive(Default)]
struct Hidden {
    paths: BTreeSet<PathBuf>,
    /// Of these folders everything.
    folders: BTreeSet<PathBuf>,
}

impl Hidden {
    /// Comes last: a layer hides what is below, never its own files, wherever in the archive the marker stands.
    fn apply(self, tree: &mut Tree, folder: &Path) -> Result<(), archive::Error> {
        for path in &self.folders {
            tree.directory(path)
                .and_then(|()| whiteout::hide_below(folder, path))
                .map_err(failure("make opaque", path))?;
        }
        for path in &self.paths {
            let above = path.parent().unwrap_or_else(|| Path::new(""));
            tree.directory(above)
                .and_then(|()| whiteout::hide(folder, path))
                .map_err(failure("hide", path))?;
        }
        Ok(())
    }
}

enum Marker {
    Whiteout(PathBuf),
    Opaque(PathBuf),
    Reserved,
}

fn marker(path: &Path) -> Option<Marker> {
    let name = path.file_name()?.as_bytes();
    let folder = path.parent().unwrap_or_else(|| Path::new(""));
    match name.strip_prefix(WHITEOUT) {
        _ if name == OPAQUE => Some(Marker::Opaque(folder.to_owned())),
        _ if name.starts_with(RESERVED) => Some(Marker::Reserved),
        // `.wh.`, `.wh..` and `.wh...` would name a folder itself.
        Some(b"" | b"." | b"..") => Some(Marker::Reserved),
        Some(hidden) => Some(Marker::Whiteout(
            folder.join(std::ffi::OsStr::from_bytes(hidden)),
        )),
        None => None,
    }
}

fn write(
    tree: &mut Tree,
    entries: &mut Entries<impl Read>,
    entry: &Entry,
) -> Result<(), archive::Error> {
    let path = &entry.path;
    let written = match &entry.kind {
        EntryKind::Directory => tree.directory(path),
        EntryKind::File { .. } => {
            let file = tree.file(path, entry.mode & 0o111 != 0);
            let mut file = file.map_err(|error| classify(path, error))?;
            return io::copy(&mut entries.content(), &mut file)
                .map(drop)
                .map_err(|error| match error.raw_os_error() {
                    Some(_) => failure("write", path)(error),
                    None => archive::Error::Read(error),
                });
        }
        EntryKind::Symlink { target } => tree.symlink(path, target),
        EntryKind::HardLink { target } => tree.hard_link(path, target),
        EntryKind::Special => Ok(()),
    };
    written.map_err(|error| classify(path, error))
}

/// Tells a broken layer from a failing disk.
fn classify(path: &Path, error: io::Error) -> archive::Error {
    let refused = |why: &str| {
        archive::Error::Refused(format!(
            "`{}` {why}",
            path.display().to_string().escape_debug()
        ))
    };
    match Errno::from_io_error(&error) {
        Some(Errno::EXIST) => refused("appears twice"),
        Some(Errno::NOTDIR | Errno::LOOP) => refused("lies behind something that is not a folder"),
        Some(Errno::NOENT) => refused("is a link to a file that is not in the layer"),
        Some(_) => failure("create", path)(error),
        None => refused(&error.to_string()),
    }
}

fn failure(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> archive::Error {
    let path = path.to_owned();
    move |source| archive::Error::File {
        action,
        path,
        source,
    }
}
