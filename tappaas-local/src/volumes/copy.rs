//! Copies of what applications wrote. They are hostile, and may be writing still: every step is taken relative to an open folder, and
//! no symbolic link is ever followed.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{
        AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, Stat, Uid, chownat, fchmod, fchown,
        ioctl_ficlone, openat, statat,
    },
    io::Errno,
};
use tappaas_core::{Error, Result};

/// The most files and folders that are copied or counted.
const ENTRIES_MAX: usize = 1_000_000;
const DEPTH_MAX: usize = 128;

const FOLDER: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Copies what is in one folder into another, empty one: files, folders and symbolic links, with their owners and modes.
pub(super) fn tree(from: &Path, to: &Path) -> Result<()> {
    let failed = |error: io::Error| {
        let message = format!("cannot copy {}", from.display());
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Error::exhausted(message).with_source(error)
            }
            io::ErrorKind::FileTooLarge => {
                Error::exhausted(format!("{message}: it has more than {ENTRIES_MAX} files"))
            }
            _ => Error::internal(message).with_source(error),
        }
    };
    let copied = open(CWD, from).and_then(|from| {
        let to = open(CWD, to)?;
        let mut budget = ENTRIES_MAX;
        folder(from.as_fd(), to.as_fd(), &mut budget, 0)?;
        keep(to.as_fd(), &rustix::fs::fstat(&from)?)
    });
    copied.map_err(failed)
}

/// The bytes on disk of what is in a folder; `None`: it has too many files.
pub(super) fn size(path: &Path) -> Option<u64> {
    let mut budget = ENTRIES_MAX;
    measure(open(CWD, path).ok()?.as_fd(), &mut budget, 0).ok()
}

fn folder(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    budget: &mut usize,
    depth: usize,
) -> io::Result<()> {
    each(from, budget, depth, |name, found, budget| {
        match FileType::from_raw_mode(found.st_mode) {
            FileType::RegularFile => file(from, to, name),
            FileType::Directory => {
                rustix::fs::mkdirat(to, name, Mode::RWXU)?;
                let (from, to) = (open(from, name)?, open(to, name)?);
                folder(from.as_fd(), to.as_fd(), budget, depth + 1)?;
                keep(to.as_fd(), &found)
            }
            FileType::Symlink => {
                rustix::fs::symlinkat(rustix::fs::readlinkat(from, name, Vec::new())?, to, name)?;
                let (user, group) = owner(&found);
                Ok(chownat(to, name, user, group, AtFlags::SYMLINK_NOFOLLOW)?)
            }
            // Sockets and pipes are of running processes.
            _ => Ok(()),
        }
    })
}

fn file(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &std::ffi::CStr) -> io::Result<()> {
    // It may have become a pipe meanwhile, which would wait for a writer.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let source = File::from(openat(from, name, flags, Mode::empty())?);
    let found = rustix::fs::fstat(&source)?;
    if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
        return Ok(());
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut target = File::from(openat(to, name, flags, Mode::RUSR | Mode::WUSR)?);
    if ioctl_ficlone(&target, &source).is_err() {
        // No further than it was when the copy began, so that a file that grows is copied to an end.
        let length = u64::try_from(found.st_size).unwrap_or(0);
        io::copy(&mut io::Read::take(&source, length), &mut target)?;
    }
    keep(target.as_fd(), &found)
}

fn keep(target: BorrowedFd<'_>, found: &Stat) -> io::Result<()> {
    let (user, group) = owner(found);
    fchown(target, user, group)?;
    // Without the bits that lend an identity.
    Ok(fchmod(target, Mode::from_raw_mode(found.st_mode & 0o777))?)
}

fn owner(found: &Stat) -> (Option<Uid>, Option<Gid>) {
    (
        Some(Uid::from_raw(found.st_uid)),
        Some(Gid::from_raw(found.st_gid)),
    )
}

fn measure(from: BorrowedFd<'_>, budget: &mut usize, depth: usize) -> io::Result<u64> {
    let mut bytes = 0;
    each(from, budget, depth, |name, found, budget| {
        bytes += u64::try_from(found.st_blocks).unwrap_or(0) * 512;
        if FileType::from_raw_mode(found.st_mode) == FileType::Directory {
            bytes += measure(open(from, name)?.as_fd(), budget, depth + 1)?;
        }
        Ok(())
    })?;
    Ok(bytes)
}

/// Looks at what is in a folder. What vanishes meanwhile is passed over.
fn each(
    from: BorrowedFd<'_>,
    budget: &mut usize,
    depth: usize,
    mut visit: impl FnMut(&std::ffi::CStr, Stat, &mut usize) -> io::Result<()>,
) -> io::Result<()> {
    if depth > DEPTH_MAX {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    for entry in Dir::read_from(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if [c".", c".."].contains(&name) {
            continue;
        }
        *budget = budget.checked_sub(1).ok_or(io::ErrorKind::FileTooLarge)?;
        let visited = statat(from, name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(io::Error::from)
            .and_then(|found| visit(name, found, budget));
        match visited {
            Err(error) if Errno::from_io_error(&error) == Some(Errno::NOENT) => {}
            visited => visited?,
        }
    }
    Ok(())
}

fn open(at: BorrowedFd<'_>, path: impl rustix::path::Arg) -> io::Result<OwnedFd> {
    Ok(openat(at, path, FOLDER, Mode::empty())?)
}
