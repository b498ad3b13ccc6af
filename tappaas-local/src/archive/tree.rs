use std::{
    ffi::OsStr,
    fs::File,
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Uid},
    io::Errno,
};

/// Writes below a folder, and nowhere else.
///
/// The kernel resolves every name beneath the folder (`openat2`) and follows no symbolic link on the way, so nothing that was written
/// before can redirect what is written next.
#[derive(Debug)]
pub(crate) struct Tree {
    top: OwnedFd,
    owner: Option<(Uid, Gid)>,
    /// The folder that was written to last: archives are sorted by folder.
    last: Option<(PathBuf, OwnedFd)>,
}

impl Tree {
    const RESOLVE: ResolveFlags = ResolveFlags::BENEATH
        .union(ResolveFlags::NO_SYMLINKS)
        .union(ResolveFlags::NO_MAGICLINKS);

    /// Opens a folder that is there. What is written belongs to `owner`, or else to this process.
    pub(crate) fn open(folder: &Path, owner: Option<(u32, u32)>) -> io::Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC;
        Ok(Self {
            top: rustix::fs::open(folder, flags, Mode::empty())?,
            owner: owner.map(|(user, group)| (Uid::from_raw(user), Gid::from_raw(group))),
            last: None,
        })
    }

    /// Makes a folder, and those above it. One that is there is kept.
    pub(crate) fn directory(&mut self, path: &Path) -> io::Result<()> {
        self.enter(path)
    }

    /// Makes a file that is not there yet.
    pub(crate) fn file(&mut self, path: &Path, executable: bool) -> io::Result<File> {
        let (parent, name) = self.parent(path)?;
        let flags =
            OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(if executable { 0o755 } else { 0o644 });
        let file = rustix::fs::openat(parent, name, flags, mode)?;
        // The mode above passes through the process's umask.
        rustix::fs::fchmod(&file, mode)?;
        if let Some((user, group)) = self.owner {
            rustix::fs::fchown(&file, Some(user), Some(group))?;
        }
        Ok(file.into())
    }

    /// Makes a symbolic link that is not there yet. Its target is text, and never followed from here.
    pub(crate) fn symlink(&mut self, path: &Path, target: &Path) -> io::Result<()> {
        let owner = self.owner;
        let (parent, name) = self.parent(path)?;
        rustix::fs::symlinkat(target, parent, name)?;
        if let Some((user, group)) = owner {
            rustix::fs::chownat(
                parent,
                name,
                Some(user),
                Some(group),
                AtFlags::SYMLINK_NOFOLLOW,
            )?;
        }
        Ok(())
    }

    /// Gives a file of this tree another name.
    pub(crate) fn hard_link(&mut self, path: &Path, target: &Path) -> io::Result<()> {
        let (folder, file) = split(target)?;
        let folder = self.resolve(folder)?;
        let found = rustix::fs::statat(&folder, file, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
            return Err(io::Error::other("the target is not a file"));
        }
        let (parent, name) = self.parent(path)?;
        rustix::fs::linkat(&folder, file, parent, name, AtFlags::empty())?;
        Ok(())
    }

    fn parent<'a>(&mut self, path: &'a Path) -> io::Result<(&OwnedFd, &'a OsStr)> {
        let (folder, name) = split(path)?;
        self.enter(folder)?;
        let (_, parent) = self.last.as_ref().expect("`enter` sets it");
        Ok((parent, name))
    }

    fn enter(&mut self, path: &Path) -> io::Result<()> {
        if self.last.as_ref().is_some_and(|(last, _)| last == path) {
            return Ok(());
        }
        let folder = match self.resolve(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let (above, name) = split(path)?;
                self.enter(above)?;
                self.make(name)?;
                self.resolve(path)?
            }
            folder => folder?,
        };
        self.last = Some((path.to_owned(), folder));
        Ok(())
    }

    fn make(&self, name: &OsStr) -> io::Result<()> {
        let (_, parent) = self
            .last
            .as_ref()
            .expect("its caller has entered the folder above");
        match rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755)) {
            Ok(()) => {}
            Err(Errno::EXIST) => return Err(Errno::NOTDIR.into()),
            Err(error) => return Err(error.into()),
        }
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = rustix::fs::openat(parent, name, flags, Mode::empty())?;
        rustix::fs::fchmod(&folder, Mode::from_raw_mode(0o755))?;
        if let Some((user, group)) = self.owner {
            rustix::fs::fchown(&folder, Some(user), Some(group))?;
        }
        Ok(())
    }

    fn resolve(&self, folder: &Path) -> io::Result<OwnedFd> {
        let path = if folder.as_os_str().is_empty() {
            Path::new(".")
        } else {
            folder
        };
        let flags = OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC;
        Ok(rustix::fs::openat2(
            &self.top,
            path,
            flags,
            Mode::empty(),
            Self::RESOLVE,
        )?)
    }
}

fn split(path: &Path) -> io::Result<(&Path, &OsStr)> {
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => Ok((parent, name)),
        _ => Err(io::Error::other("it has no name")),
    }
}
