//! How a layer hides what is in those below it, in the language of the kernel's overlay file system.

use std::{io, os::fd::OwnedFd, path::Path};

use rustix::{
    fs::{
        CWD, FileType, Mode, OFlags, ResolveFlags, XattrFlags, fsetxattr, mknodat, openat, openat2,
    },
    io::Errno,
};

/// Hides `path` of lower layers, or if this layer has a folder there, everything in it.
pub(super) fn hide(layer: &Path, path: &Path) -> io::Result<()> {
    let (Some(above), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let above = open(layer, above)?;
    // A character device 0/0 is the kernel's whiteout; making one needs no privilege.
    match mknodat(&above, name, FileType::CharacterDevice, Mode::empty(), 0) {
        Ok(()) => Ok(()),
        Err(Errno::EXIST) => {
            let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            match openat(&above, name, flags, Mode::empty()) {
                Ok(_) => hide_below(layer, path),
                // A file of this layer covers whatever is below.
                Err(Errno::NOTDIR | Errno::LOOP) => Ok(()),
                Err(error) => Err(error.into()),
            }
        }
        Err(error) => Err(error.into()),
    }
}

/// Hides everything that lower layers have in the folder `path`, which is there.
pub(super) fn hide_below(layer: &Path, path: &Path) -> io::Result<()> {
    let folder = open(layer, path)?;
    // Mounts by root read the one name, mounts inside user namespaces the other.
    let trusted = fsetxattr(&folder, "trusted.overlay.opaque", b"y", XattrFlags::empty());
    let user = fsetxattr(&folder, "user.overlay.opaque", b"y", XattrFlags::empty());
    match (trusted, user) {
        (Err(_), Err(error)) => Err(error.into()),
        _ => Ok(()),
    }
}

fn open(layer: &Path, path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    let top = openat(CWD, layer, flags, Mode::empty())?;
    if path.as_os_str().is_empty() {
        return Ok(top);
    }
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    Ok(openat2(&top, path, flags, Mode::empty(), resolve)?)
}
