use std::{
    fs::{self, File},
    io,
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use rustix::mount::{UnmountFlags, unmount};
use tappaas_core::{Error, Result};
use tokio::{process::Command, time::Instant};

use super::fit;
use crate::{archive::display_bytes, fault::Context as _};

/// Where an application is built: a folder of limited size that keeps the application's cache from build to build.
///
/// Where root can, it is a file system of exactly that size, in a file; elsewhere a plain folder that is measured.
#[derive(Debug)]
pub(super) struct Disk {
    place: PathBuf,
    size: u64,
    mounted: bool,
}

/// The file that holds the file system.
const IMAGE: &str = "disk";
/// There while the file system is whole, and not in use.
const CLEAN: &str = "clean";
const FOLDER: &str = "root";
/// How long the last writes may take to reach the disk.
const PATIENCE: Duration = Duration::from_secs(60);
/// Below this much space a file system is full: what did not fit is rarely one byte.
const FULL: u64 = 1 << 20;

impl Disk {
    /// What is built.
    pub(super) const APP: &str = "app";
    /// What is kept for the next build.
    pub(super) const CACHE: &str = "cache";
    /// What is of no use after the build.
    pub(super) const SCRATCH: &str = "scratch";

    /// Makes the disk at `place` ready for a build: empty but for the cache. `owner` is root's choice of whom it belongs to.
    pub(super) async fn open(place: &Path, size: u64, owner: Option<u32>) -> Result<Self> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(place.join(FOLDER))
            .context(|| format!("create {}", place.display()))?;
        let mut disk = Self {
            place: place.to_owned(),
            size,
            mounted: false,
        };
        if owner.is_some() {
            match disk.mount().await {
                Ok(()) => disk.mounted = true,
                Err(error) => tracing::warn!(
                    error = %tappaas_core::Chain(&error),
                    "cannot mount a file system of limited size for builds: their disk space is measured instead"
                ),
            }
        }
        disk.clear()?;
        for name in [Self::APP, Self::CACHE, Self::SCRATCH] {
            let folder = disk.folder().join(name);
            fs::create_dir_all(&folder)
                .and_then(|()| fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)))
                .and_then(|()| owner.map_or(Ok(()), |id| chown(&folder, Some(id), Some(id))))
                .context(|| format!("create {}", folder.display()))?;
        }
        Ok(disk)
    }

    /// The folder itself.
    pub(super) fn folder(&self) -> PathBuf {
        self.place.join(FOLDER)
    }

    /// How much it may hold.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Says whether something did not fit.
    pub(super) fn is_full(&self) -> bool {
        match self.mounted {
            true => rustix::fs::statvfs(self.folder())
                .is_ok_and(|found| found.f_bavail * found.f_frsize < FULL || found.f_favail == 0),
            false => used(&self.folder()) > self.size,
        }
    }

    /// Why the machine's own disk has no room for more, if so.
    pub(super) fn machine_is_full(&self) -> Option<Error> {
        fit::short_of_disk(&self.place)
    }

    /// Returns once the disk holds more than it may, which a file system of that size never does, or the machine's own is nearly full.
    pub(super) async fn overflow(&self) {
        // Asking a file system is nothing; walking through a folder takes at most a tenth of the time.
        let pause = Duration::from_millis(if self.mounted { 100 } else { 1_000 });
        loop {
            let begun = Instant::now();
            if self.machine_is_full().is_some() || self.has_overflown().await {
                return;
            }
            tokio::time::sleep(pause.max(begun.elapsed() * 9)).await;
        }
    }

    async fn has_overflown(&self) -> bool {
        if self.mounted {
            return false;
        }
        let folder = self.folder();
        let used = tokio::task::spawn_blocking(move || used(&folder)).await;
        used.is_ok_and(|used| used > self.size)
    }

    /// Empties the disk but for the cache, and of that too if it takes more than half, so that the next build has room.
    pub(super) async fn close(self) -> Result<()> {
        self.clear()?;
        let cache = self.folder().join(Self::CACHE);
        if self.is_half_full() {
            remove(&cache).context(|| format!("empty {}", cache.display()))?;
        }
        if !self.mounted {
            return Ok(());
        }
        self.unmount().await?;
        let clean = File::create(self.place.join(CLEAN));
        clean
            .map(drop)
            .context(|| format!("note that {} is whole", self.place.display()))?;
        Ok(())
    }

    /// A file system knows how much of it is in use; a folder has to be walked through.
    fn is_half_full(&self) -> bool {
        match self.mounted {
            true => rustix::fs::statvfs(self.folder()).is_ok_and(|found| {
                found.f_bfree < found.f_blocks / 2 || found.f_ffree < found.f_files / 2
            }),
            false => used(&self.folder()) > self.size / 2,
        }
    }

    fn clear(&self) -> Result<()> {
        for name in [Self::APP, Self::SCRATCH] {
            let folder = self.folder().join(name);
            remove(&folder).context(|| format!("empty {}", folder.display()))?;
        }
        Ok(())
    }

    async fn mount(&self) -> Result<()> {
        let image = self.place.join(IMAGE);
        let clean = self.place.join(CLEAN);
        let right_size = fs::metadata(&image).is_ok_and(|found| found.len() == self.size);
        let whole = fs::remove_file(&clean).is_ok() && right_size;
        if !whole {
            self.format(&image).await?;
        }
        let options = "loop,discard,noatime,nodev,nosuid";
        let folder = self.folder();
        let arguments = [
            "-n".as_ref(),
            "-t".as_ref(),
            "ext4".as_ref(),
            "-o".as_ref(),
            options.as_ref(),
        ];
        run(
            "mount",
            arguments
                .into_iter()
                .chain([image.as_os_str(), folder.as_os_str()]),
        )
        .await
    }

    /// A lost file system costs a slower build, so it keeps no journal.
    async fn format(&self, image: &Path) -> Result<()> {
        fs::remove_file(image).ok();
        let created = File::create(image).and_then(|file| file.set_len(self.size));
        created.context(|| format!("create {}", image.display()))?;
        let arguments = [
            "-q",
            "-F",
            "-m",
            "0",
            "-O",
            "^has_journal",
            "-E",
            "lazy_itable_init=1,nodiscard",
        ];
        run(
            "mkfs.ext4",
            arguments
                .iter()
                .map(AsRef::as_ref)
                .chain([image.as_os_str()]),
        )
        .await
    }

    async fn unmount(&self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match unmount(self.folder(), UnmountFlags::NOFOLLOW) {
                Ok(()) => return Ok(()),
                Err(rustix::io::Errno::BUSY) if Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(error) => {
                    Err(io::Error::from(error))
                        .context(|| format!("unmount {}", self.folder().display()))?;
                }
            }
        }
    }
}

/// Deletes the disks that were not used for longest until the rest takes at most `most` bytes. `in_use` says which stay anyway.
pub(super) fn sweep(disks: &Path, most: u64, in_use: impl Fn(&Path) -> bool) -> io::Result<()> {
    let mut found = Vec::new();
    for entry in fs::read_dir(disks)? {
        let place = entry?.path();
        // Both are written to at the end of each build.
        let times = [CLEAN, FOLDER].map(|name| {
            fs::metadata(place.join(name))
                .and_then(|found| found.modified())
                .ok()
        });
        found.push((times.into_iter().max().flatten(), used(&place), place));
    }
    found.sort_by(|one, other| other.cmp(one));
    let mut total = 0;
    for (_, size, place) in found {
        total += size;
        if total > most && !in_use(&place) {
            tracing::info!(place = %place.display(), size = %display_bytes(size), "deleting an unused build cache");
            remove(&place)?;
            total -= size;
        }
    }
    Ok(())
}

/// Bytes that a folder and everything in it take on the disk.
fn used(folder: &Path) -> u64 {
    let own = folder
        .symlink_metadata()
        .map_or(0, |found| found.blocks() * 512);
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    own + entries
        .map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => used(&entry.path()),
            // An empty file takes an inode.
            _ => entry
                .metadata()
                .map_or(0, |found| (found.blocks() * 512).max(4096)),
        })
        .sum::<u64>()
}

/// Removes a folder with everything in it, also what its owner made unwritable. That it is not there is no error.
fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            make_writable(folder)?;
            fs::remove_dir_all(folder)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

fn make_writable(folder: &Path) -> io::Result<()> {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            make_writable(&entry.path())?;
        }
    }
    Ok(())
}

/// Runs a program of the system to its end.
async fn run(program: &str, arguments: impl Iterator<Item = &std::ffi::OsStr>) -> Result<()> {
    let folders = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];
    let found = folders
        .iter()
        .map(|folder| Path::new(folder).join(program))
        .find(|path| path.is_file());
    let found = found
        .ok_or_else(|| Error::unsupported(format!("the program {program} is not installed")))?;
    let output = Command::new(found)
        .args(arguments)
        .env_clear()
        .env("PATH", folders.join(":"))
        .stdin(Stdio::null())
        .output()
        .await;
    let output = output.context(|| format!("run {program}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.trim().lines().last().unwrap_or_default().to_owned();
    Err(Error::unsupported(format!(
        "{program}: {said} ({})",
        output.status
    )))
}
