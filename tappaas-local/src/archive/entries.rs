use std::{
    io::{self, Read},
    path::PathBuf,
};

use super::{
    Error, Limits,
    fields::{Extensions, clean, global, link_target, long_name, number, refused, shown},
    text,
};

const BLOCK: u64 = 512;

/// Reads a tar, entry by entry, and refuses what two readers could understand differently.
///
/// A name is given with its long form resolved and without `.` parts; `..` and absolute names are refused. So are sparse files,
/// unknown types, a size that is given twice differently, and bytes after the end.
pub(crate) struct Entries<R> {
    reader: R,
    limits: Limits,
    entries: usize,
    bytes: u64,
    /// Bytes of the current entry's content that were not read yet.
    content: u64,
    padding: u64,
}

/// A file, folder or link of an archive.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Entry {
    /// Relative, without `.` and `..`; empty for the top folder itself.
    pub(crate) path: PathBuf,
    pub(crate) kind: EntryKind,
    /// The twelve permission bits.
    pub(crate) mode: u32,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum EntryKind {
    Directory,
    File {
        size: u64,
    },
    Symlink {
        target: PathBuf,
    },
    /// Another name of an earlier file; as clean as a path.
    HardLink {
        target: PathBuf,
    },
    /// A device or a pipe.
    Special,
}

impl<R: Read> Entries<R> {
    const EXTENSION_MAX: u64 = 1 << 20;
    const TRAILER_MAX: u64 = 1 << 20;

    /// Reads an uncompressed tar.
    pub(crate) fn new(reader: R, limits: Limits) -> Self {
        Self {
            reader,
            limits,
            entries: 0,
            bytes: 0,
            content: 0,
            padding: 0,
        }
    }

    /// Goes on to the next entry; what was not read of the content of the last one is skipped.
    ///
    /// # Errors
    /// `Refused`, `TooLarge`, or `Read` if the archive ends early.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, Error> {
        let mut extensions = Extensions::default();
        loop {
            self.skip()?;
            let Some(header) = self.header()? else {
                return match extensions.empty() {
                    true => Ok(None),
                    false => Err(refused("it ends where an entry was announced")),
                };
            };
            let size = number(&header[124..136], "size")?;
            match header[156] {
                b'L' => extensions.set_path(long_name(self.extension(size)?)?)?,
                b'K' => extensions.set_target(long_name(self.extension(size)?)?)?,
                b'x' => extensions.add(&self.extension(size)?)?,
                b'g' => {
                    self.count()?;
                    global(&self.extension(size)?)?;
                }
                _ => return self.entry(&header, size, extensions).map(Some),
            }
        }
    }

    /// The content of the file that [`Self::next`] returned last.
    pub(crate) fn content(&mut self) -> Content<'_, R> {
        Content(self)
    }

    /// How many bytes were read so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many entries were read so far.
    pub(crate) fn entries(&self) -> usize {
        self.entries
    }

    fn entry(
        &mut self,
        header: &[u8; 512],
        size: u64,
        extensions: Extensions,
    ) -> Result<Entry, Error> {
        self.count()?;
        let fields = tar::Header::from_byte_slice(header);
        let path = match extensions.path {
            Some(path) => path,
            None => fields.path_bytes().into_owned(),
        };
        let name = shown(&path);
        let wrong = |why: &str| refused(format!("`{name}` {why}"));
        if extensions.size.is_some_and(|other| other != size) {
            return Err(wrong("gives two different sizes"));
        }
        let target = || match &extensions.target {
            Some(target) => target.clone(),
            None => fields.link_name_bytes().unwrap_or_default().into_owned(),
        };
        let kind = match header[156] {
            b'0' | 0 if path.ends_with(b"/") => {
                return Err(wrong("is a file with the name of a folder"));
            }
            b'0' | 0 => EntryKind::File { size },
            b'1' => EntryKind::HardLink {
                target: clean(&target())?,
            },
            b'2' => EntryKind::Symlink {
                target: link_target(&name, &target())?,
            },
            b'3' | b'4' | b'6' => EntryKind::Special,
            b'5' => EntryKind::Directory,
            b'S' => return Err(wrong("is a sparse file")),
            other => {
                return Err(wrong(&format!(
                    "is of the unknown type {}",
                    other.escape_ascii()
                )));
            }
        };
        let path = clean(&path)?;
        if path.as_os_str().is_empty() && kind != EntryKind::Directory {
            return Err(wrong("has no name"));
        }
        if !matches!(kind, EntryKind::File { .. }) && size != 0 {
            return Err(wrong("has content without being a file"));
        }
        self.begin(size)?;
        let mode = u32::try_from(number(&header[100..108], "mode")? & 0o7777).unwrap_or_default();
        Ok(Entry { path, kind, mode })
    }

    /// Reads a header. `None` at the end of the archive, after which there is nothing but zeros.
    fn header(&mut self) -> Result<Option<[u8; 512]>, Error> {
        let mut header = [0; 512];
        self.reader.read_exact(&mut header).map_err(Error::Read)?;
        self.bytes += BLOCK;
        if header.iter().all(|byte| *byte == 0) {
            self.end()?;
            return Ok(None);
        }
        let sum: u64 = header.iter().map(|byte| u64::from(*byte)).sum();
        let field: u64 = header[148..156].iter().map(|byte| u64::from(*byte)).sum();
        if number(&header[148..156], "checksum")? != sum - field + 8 * 32 {
            return Err(refused("a header's checksum is wrong"));
        }
        let known = [b"ustar\x0000", b"ustar  \0", b"\0\0\0\0\0\0\0\0"];
        if !known.iter().any(|magic| header[257..265] == magic[..]) {
            return Err(refused("it is of an unknown kind of tar"));
        }
        Ok(Some(header))
    }

    fn end(&mut self) -> Result<(), Error> {
        let mut rest = Vec::new();
        let mut trailer = (&mut self.reader).take(Self::TRAILER_MAX + 1);
        trailer.read_to_end(&mut rest).map_err(Error::Read)?;
        if rest.len() < 512 || rest.iter().any(|byte| *byte != 0) {
            return Err(refused(
                "its end is not two blocks of zeros with nothing after them",
            ));
        }
        match rest.len() as u64 > Self::TRAILER_MAX {
            true => Err(refused("it goes on after its end")),
            false => Ok(()),
        }
    }

    fn extension(&mut self, size: u64) -> Result<Vec<u8>, Error> {
        if size > Self::EXTENSION_MAX {
            return Err(refused("an extended header is larger than 1 MiB"));
        }
        self.begin(size)?;
        let mut extension = Vec::new();
        let read = self.content().read_to_end(&mut extension);
        read.map_err(Error::Read)?;
        Ok(extension)
    }

    /// What belongs to an entry is not counted: of each kind there is at most one.
    fn count(&mut self) -> Result<(), Error> {
        self.entries += 1;
        if self.entries > self.limits.entries {
            let most = self.limits.entries;
            return Err(Error::TooLarge(format!(
                "the archive has more than {most} entries"
            )));
        }
        Ok(())
    }

    fn begin(&mut self, size: u64) -> Result<(), Error> {
        let padding = (BLOCK - size % BLOCK) % BLOCK;
        self.bytes = self.bytes.saturating_add(size).saturating_add(padding);
        if self.bytes > self.limits.bytes {
            let limit = text::bytes(self.limits.bytes);
            return Err(Error::TooLarge(format!(
                "the archive holds more than {limit}"
            )));
        }
        (self.content, self.padding) = (size, padding);
        Ok(())
    }

    fn skip(&mut self) -> Result<(), Error> {
        let skipped = self.content + self.padding;
        let copied = io::copy(&mut (&mut self.reader).take(skipped), &mut io::sink())
            .map_err(Error::Read)?;
        (self.content, self.padding) = (0, 0);
        match copied == skipped {
            true => Ok(()),
            false => Err(Error::Read(io::ErrorKind::UnexpectedEof.into())),
        }
    }
}

/// The content of a file in an archive.
pub(crate) struct Content<'a, R>(&'a mut Entries<R>);

impl<R: Read> Read for Content<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.0.content).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        if wanted == 0 {
            return Ok(0);
        }
        match self.0.reader.read(&mut buffer[..wanted])? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                self.0.content -= read as u64;
                Ok(read)
            }
        }
    }
}
