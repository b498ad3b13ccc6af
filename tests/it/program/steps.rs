use std::{
    collections::HashMap,
    fs,
    mem::MaybeUninit,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};

use super::{census, platform::Platform};

/// Follows what a platform changes in its data directory, its log and its control groups, as the kernel tells it, one step after
/// the other. A change that is made again and again is one step.
#[derive(Debug)]
pub(super) struct Steps {
    inotify: OwnedFd,
    folders: HashMap<i32, PathBuf>,
    /// What changes with every request.
    passed_over: PathBuf,
    /// Nothing comes after this file was made.
    end: PathBuf,
    last: Option<Change>,
    taken: u64,
}

type Change = (i32, String, ReadFlags);

impl Steps {
    /// Follows a platform from now on.
    pub(super) fn of(platform: &Platform) -> Self {
        let mut steps = Self {
            inotify: inotify::init(CreateFlags::CLOEXEC).unwrap(),
            folders: HashMap::new(),
            passed_over: platform.data().join("edge/access.log"),
            end: platform.data().join("end-of-steps"),
            last: None,
            taken: 0,
        };
        let _ = fs::remove_file(&steps.end);
        steps.watch(&platform.data());
        steps.add(&platform.log());
        for parent in census::parents_of_control_groups(&platform.data()) {
            steps.add(&parent);
        }
        steps
    }

    /// Whoever makes this file ends the steps.
    pub(super) fn end(&self) -> &Path {
        &self.end
    }

    /// Waits for a step by its number, and says what it was. `Err`: there were only so many until the end.
    pub(super) fn wait_for(&mut self, step: u64) -> Result<String, u64> {
        let mut space = [MaybeUninit::uninit(); 4096];
        loop {
            // As many events as the kernel has at the moment, taken first: what is watched is changed below.
            let mut events = Vec::new();
            let mut reader = Reader::new(&self.inotify, &mut space);
            loop {
                let event = reader.next().unwrap();
                let name = event.file_name().map(|name| name.to_string_lossy());
                let name = name.unwrap_or_default().into_owned();
                events.push((event.wd(), name, event.events()));
                if reader.is_buffer_empty() {
                    break;
                }
            }
            for change in events {
                let folder = self.folders.get(&change.0).cloned().unwrap_or_default();
                let path = folder.join(&change.1);
                if path == self.end {
                    return Err(self.taken);
                }
                if self.take(change, &path) && self.taken == step {
                    return Ok(format!("step {step}, {}", path.display()));
                }
            }
        }
    }

    /// Says whether it was another step.
    fn take(&mut self, change: Change, path: &Path) -> bool {
        let made = ReadFlags::CREATE | ReadFlags::MOVED_TO;
        if change.2.contains(ReadFlags::ISDIR) && change.2.intersects(made) {
            self.watch(path);
        }
        if change.2.contains(ReadFlags::IGNORED)
            || path == self.passed_over
            || self.last.as_ref() == Some(&change)
        {
            return false;
        }
        self.last = Some(change);
        self.taken += 1;
        true
    }

    fn watch(&mut self, folder: &Path) {
        self.add(folder);
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                self.watch(&entry.path());
            }
        }
    }

    fn add(&mut self, path: &Path) {
        let changes =
            WatchFlags::CREATE | WatchFlags::MODIFY | WatchFlags::MOVE | WatchFlags::DELETE;
        // It may be gone again.
        if let Ok(watch) = inotify::add_watch(&self.inotify, path, changes) {
            self.folders.insert(watch, path.to_owned());
        }
    }
}
