use std::{
    fs,
    io::{self, Read as _, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use flate2::{Compression, GzBuilder, write::GzEncoder};
use rustix::fs::OFlags;
use sha2::{Digest as _, Sha256};
use tappaas_core::Digest;

use super::{
    Error, Limits,
    rules::Rules,
    walk::{Item, ItemKind, walk},
};

/// A finished archive.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Packed {
    /// The digest of the archive as it was written, compressed.
    pub digest: Digest,
    /// How many bytes were written.
    pub size: u64,
    /// The digest of the archive before compression (an image's `diff_id`).
    pub diff: Digest,
    /// How many files, folders and links it holds.
    pub entries: usize,
    /// What an archive cannot hold and was left out: sockets, pipes, devices.
    pub skipped: Vec<PathBuf>,
}

/// Packs the source in `folder` into a gzip-compressed tar that is the same for the same files.
///
/// Names are sorted; times, owners and all of the mode but "executable" are dropped. Left out are folders of version control, what
/// `.gitignore` (in any folder) and `.dockerignore` exclude, and what `ignore` (lines as in a `.gitignore`) excludes; a line of
/// `ignore` that starts with `!` brings back what the files exclude.
///
/// # Errors
/// `TooLarge`, naming the largest folders; `Source` for links that leave the folder and unusable ignore files; `File` and `Write`.
pub fn pack(
    folder: &Path,
    ignore: &[String],
    limits: &Limits,
    out: impl Write,
) -> Result<Packed, Error> {
    let rules = Rules::read(folder, ignore)?;
    let found = walk(folder, Some(&rules), limits)?;
    let mut archive = Writer::new(out);
    for item in &found.items {
        archive.add(folder, item, Path::new(""))?;
    }
    archive.finish(found.items.len(), found.skipped)
}

/// Packs everything in `folder` as a layer that has it at `prefix`.
pub(crate) fn pack_layer(
    folder: &Path,
    prefix: &Path,
    limits: &Limits,
    out: impl Write,
) -> Result<Packed, Error> {
    let found = walk(folder, None, limits)?;
    let mut archive = Writer::new(out);
    let mut above: Vec<_> = prefix
        .ancestors()
        .filter(|path| !path.as_os_str().is_empty())
        .collect();
    above.reverse();
    for path in &above {
        archive.directory(path)?;
    }
    for item in &found.items {
        archive.add(folder, item, prefix)?;
    }
    archive.finish(found.items.len() + above.len(), found.skipped)
}

struct Writer<W: Write> {
    tar: tar::Builder<Hashed<GzEncoder<Hashed<W>>>>,
}

impl<W: Write> Writer<W> {
    fn new(out: W) -> Self {
        // Nothing about the time or the machine is in this header. The fast level costs a tenth more space, and half the time.
        let gzip = GzBuilder::new()
            .mtime(0)
            .operating_system(255)
            .write(Hashed::new(out), Compression::fast());
        Self {
            tar: tar::Builder::new(Hashed::new(gzip)),
        }
    }

    fn add(&mut self, folder: &Path, item: &Item, prefix: &Path) -> Result<(), Error> {
        let path = prefix.join(&item.path);
        match &item.kind {
            ItemKind::Directory => self.directory(&path),
            ItemKind::File { size, executable } => {
                self.file(&folder.join(&item.path), &path, *size, *executable)
            }
            ItemKind::Symlink { target } => {
                let mut header = header(tar::EntryType::Symlink, 0o777, 0);
                let added = self.tar.append_link(&mut header, &path, target);
                added.map_err(Error::Write)
            }
        }
    }

    fn directory(&mut self, path: &Path) -> Result<(), Error> {
        let mut header = header(tar::EntryType::Directory, 0o755, 0);
        // The trailing slash is what every reader takes for a folder.
        let added = self
            .tar
            .append_data(&mut header, path.join(""), io::empty());
        added.map_err(Error::Write)
    }

    fn file(
        &mut self,
        source: &Path,
        path: &Path,
        size: u64,
        executable: bool,
    ) -> Result<(), Error> {
        let failed = || Error::file("read", source);
        let changed = || io::Error::other("it changed while it was read");
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = fs::OpenOptions::new()
            .read(true)
            .custom_flags(flags.bits().cast_signed())
            .open(source)
            .map_err(failed())?;
        let metadata = file.metadata().map_err(failed())?;
        if !metadata.is_file() || metadata.len() != size {
            return Err(failed()(changed()));
        }
        let mode = if executable { 0o755 } else { 0o644 };
        let mut header = header(tar::EntryType::Regular, mode, size);
        let mut content = file.take(size);
        let added = self.tar.append_data(&mut header, path, &mut content);
        added.map_err(Error::Write)?;
        match content.limit() {
            0 => Ok(()),
            _ => Err(failed()(changed())),
        }
    }

    fn finish(self, entries: usize, skipped: Vec<PathBuf>) -> Result<Packed, Error> {
        let plain = self.tar.into_inner().map_err(Error::Write)?;
        let (diff, _) = plain.hash();
        let compressed = plain.inner.finish().map_err(Error::Write)?;
        let (digest, size) = compressed.hash();
        let mut out = compressed.inner;
        out.flush().map_err(Error::Write)?;
        Ok(Packed {
            digest,
            size,
            diff,
            entries,
            skipped,
        })
    }
}

fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

/// Hashes and counts what goes through.
struct Hashed<W> {
    inner: W,
    hash: Sha256,
    bytes: u64,
}

impl<W> Hashed<W> {
    fn new(inner: W) -> Self {
        Self {
            inner,
            hash: Sha256::new(),
            bytes: 0,
        }
    }

    fn hash(&self) -> (Digest, u64) {
        (
            Digest::from_sha256(self.hash.clone().finalize().into()),
            self.bytes,
        )
    }
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(buffer)?;
        self.hash.update(&buffer[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
