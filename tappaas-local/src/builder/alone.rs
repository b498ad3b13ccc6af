//! Programs that are an image by themselves.

use std::{fs, path::Path};

use object::{
    Endianness, elf,
    read::{
        ReadCache, ReadRef,
        elf::{FileHeader, ProgramHeader},
    },
};
use tappaas_core::{Error, Result};

use crate::{archive::display_path, fault::Context as _};

/// The folder of the application that a build puts them into.
pub(super) const FOLDER: &str = "bin";

/// Refuses programs that would not start without a stack.
///
/// # Errors
/// `Invalid`, naming the program, or if there is none.
pub(super) fn check(app: &Path) -> Result<()> {
    let folder = app.join(FOLDER);
    let mut programs = 0_usize;
    let entries = match folder.symlink_metadata() {
        // A build may have put anything there: nothing is followed out of the application.
        Ok(found) if found.is_dir() => fs::read_dir(&folder).context(|| "list bin".to_owned())?,
        _ => return Err(none()),
    };
    for entry in entries {
        let entry = entry.context(|| "list bin".to_owned())?;
        if !entry.file_type().is_ok_and(|kind| kind.is_file()) {
            continue;
        }
        let file = fs::File::open(entry.path()).context(|| "open a program".to_owned())?;
        let data = ReadCache::new(file);
        let Some(program) = Program::read(&data) else {
            continue;
        };
        if program == Program::Loaded {
            let path = Path::new(FOLDER).join(entry.file_name());
            return Err(Error::invalid(format!(
                "{} needs the stack's C library, and the stack `scratch` has none: link it statically",
                display_path(&path)
            )));
        }
        programs += 1;
    }
    match programs {
        0 => Err(none()),
        _ => Ok(()),
    }
}

fn none() -> Error {
    Error::invalid(
        "the build left no program in the folder `bin`, of which an image on the stack `scratch` is made",
    )
}

/// An ELF file.
#[derive(Debug, Eq, PartialEq)]
enum Program {
    /// The kernel starts it as it is.
    Alone,
    /// The kernel looks for an interpreter (`PT_INTERP`), or might: with so many segments nobody looks.
    Loaded,
}

impl Program {
    /// `None` if it is data.
    fn read<'data>(data: impl ReadRef<'data>) -> Option<Self> {
        read::<elf::FileHeader64<Endianness>>(data)
            .or_else(|| read::<elf::FileHeader32<Endianness>>(data))
    }
}

fn read<'data, H: FileHeader<Endian = Endianness>>(data: impl ReadRef<'data>) -> Option<Program> {
    let header = H::parse(data).ok()?;
    let endian = header.endian().ok()?;
    // Then their number is elsewhere, and as large as whoever made the file likes.
    if header.e_phnum(endian) == elf::PN_XNUM {
        return Some(Program::Loaded);
    }
    let segments = header.program_headers(endian, data).ok()?;
    let loaded = |segment: &H::ProgramHeader| segment.p_type(endian) == elf::PT_INTERP;
    Some(match segments.iter().any(loaded) {
        true => Program::Loaded,
        false => Program::Alone,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fileserver;

    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "a test is a program that needs a loader"
    )]
    fn what_needs_a_loader_is_found() {
        let own = fs::read(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(Program::read(own.as_slice()), Some(Program::Loaded));
        let server = match fileserver::stands_alone() {
            true => Program::Alone,
            false => Program::Loaded,
        };
        assert_eq!(Program::read(fileserver::PROGRAM), Some(server));
        assert_eq!(Program::read(&b"#!/bin/sh"[..]), None);
    }
}
