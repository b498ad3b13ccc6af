//! Programs that are an image by themselves.

use std::{fs, path::Path};

use object::{
    Endianness, LittleEndian, elf,
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
        if needs_loader(&data) {
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

/// Whether the kernel would look for an interpreter (ELF's `PT_INTERP`). What is no ELF file is data.
fn needs_loader<'data>(data: impl ReadRef<'data>) -> bool {
    wants_interpreter::<elf::FileHeader64<Endianness>>(data)
        || wants_interpreter::<elf::FileHeader32<LittleEndian>>(data)
}

fn wants_interpreter<'data, H: FileHeader>(data: impl ReadRef<'data>) -> bool {
    let Ok(header) = H::parse(data) else {
        return false;
    };
    let headers = header
        .endian()
        .and_then(|endian| Ok((endian, header.program_headers(endian, data)?)));
    headers.is_ok_and(|(endian, headers)| {
        headers
            .iter()
            .any(|header| header.p_type(endian) == elf::PT_INTERP)
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
        assert!(needs_loader(own.as_slice()));
        assert_eq!(
            needs_loader(fileserver::PROGRAM),
            !fileserver::stands_alone()
        );
        assert!(!needs_loader(&b"#!/bin/sh"[..]));
    }
}
