use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Component, Path, PathBuf},
};

use super::{
    Error, Limits,
    rules::{GitRules, Rules, Verdict},
    text,
};

/// What a folder holds, in the order in which it is packed.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) items: Vec<Item>,
    /// Sockets, pipes and devices: an archive cannot hold them.
    pub(super) skipped: Vec<PathBuf>,
}

#[derive(Debug)]
pub(super) struct Item {
    /// Relative to the top folder.
    pub(super) path: PathBuf,
    pub(super) kind: ItemKind,
}

#[derive(Debug)]
pub(super) enum ItemKind {
    Directory,
    File { size: u64, executable: bool },
    Symlink { target: PathBuf },
}

impl Item {
    /// The bytes that it takes in an archive, so that what can be packed can be unpacked within the same limits.
    fn archived(&self) -> u64 {
        const BLOCK: u64 = 512;
        // Longer names have an entry of their own; a prefix may still be added to them.
        let long = |path: &Path| match path.as_os_str().len() as u64 {
            0..=90 => 0,
            length => BLOCK + (length + 8).next_multiple_of(BLOCK),
        };
        let content = match &self.kind {
            ItemKind::Directory => 0,
            ItemKind::File { size, .. } => size.checked_next_multiple_of(BLOCK).unwrap_or(u64::MAX),
            ItemKind::Symlink { target } => long(target),
        };
        content.saturating_add(BLOCK + long(&self.path))
    }
}

/// Lists `folder`: names in byte order, each folder before what is in it. Without `rules` everything is kept.
///
/// # Errors
/// `TooLarge`, naming the largest folders; `Source` for what an archive cannot hold.
pub(super) fn walk(folder: &Path, rules: Option<&Rules>, limits: &Limits) -> Result<Found, Error> {
    let mut walk = Walk {
        top: folder,
        rules,
        limits,
        found: Found::default(),
        entries: 0,
        bytes: 0,
        shares: BTreeMap::new(),
    };
    walk.folder(Path::new(""), &GitRules::default(), true, 0)?;
    walk.check()?;
    Ok(walk.found)
}

struct Walk<'a> {
    top: &'a Path,
    rules: Option<&'a Rules>,
    limits: &'a Limits,
    found: Found,
    entries: usize,
    bytes: u64,
    shares: BTreeMap<OsString, u64>,
}

impl Walk<'_> {
    const DEPTH_MAX: usize = 256;
    /// A folder that is too large is still walked up to so many times the limit, to name what is large in it.
    const OVERRUN: usize = 10;

    fn folder(
        &mut self,
        relative: &Path,
        around: &GitRules,
        kept: bool,
        depth: usize,
    ) -> Result<(), Error> {
        if depth > Self::DEPTH_MAX {
            return Err(Error::Source(format!(
                "{} is more than {} folders deep: leave it out, for example in `.gitignore`",
                text::path(relative),
                Self::DEPTH_MAX
            )));
        }
        let path = self.top.join(relative);
        let git = match self.rules {
            Some(_) => around.enter(&path, kept)?,
            None => GitRules::default(),
        };
        let read = |error| Error::file("read", &path)(error);
        let mut names = Vec::new();
        for entry in fs::read_dir(&path).map_err(read)? {
            names.push(entry.map_err(read)?.file_name());
        }
        names.sort_unstable();
        for name in names {
            self.entry(relative.join(name), &git, depth)?;
        }
        Ok(())
    }

    fn entry(&mut self, relative: PathBuf, git: &GitRules, depth: usize) -> Result<(), Error> {
        let path = self.top.join(&relative);
        let metadata = fs::symlink_metadata(&path).map_err(Error::file("read", &path))?;
        let directory = metadata.is_dir();
        let verdict = match self.rules {
            Some(rules) => rules.verdict(git, &path, &relative, directory),
            None => Verdict::Keep,
        };
        match verdict {
            Verdict::Skip => return Ok(()),
            Verdict::Descend => return self.folder(&relative, git, false, depth + 1),
            Verdict::Keep => {}
        }
        let kind = if directory {
            ItemKind::Directory
        } else if metadata.is_file() {
            ItemKind::File {
                size: metadata.len(),
                executable: metadata.permissions().mode() & 0o111 != 0,
            }
        } else if metadata.is_symlink() {
            let target = fs::read_link(&path).map_err(Error::file("read", &path))?;
            self.check_link(&relative, &target)?;
            ItemKind::Symlink { target }
        } else {
            self.found.skipped.push(relative);
            return Ok(());
        };
        self.keep(Item {
            path: relative.clone(),
            kind,
        })?;
        match directory {
            true => self.folder(&relative, git, true, depth + 1),
            false => Ok(()),
        }
    }

    fn keep(&mut self, item: Item) -> Result<(), Error> {
        let size = item.archived();
        self.entries += 1;
        self.bytes = self.bytes.saturating_add(size);
        let mut parts = item.path.iter();
        let first = parts.next().unwrap_or_default();
        if parts.next().is_some() {
            let share = self.shares.entry(first.to_owned()).or_default();
            *share = share.saturating_add(size);
        }
        if self.entries > self.limits.entries.saturating_mul(Self::OVERRUN) {
            return self.check();
        }
        if self.entries <= self.limits.entries {
            self.found.items.push(item);
        }
        Ok(())
    }

    fn check(&self) -> Result<(), Error> {
        if self.entries <= self.limits.entries && self.bytes <= self.limits.bytes {
            return Ok(());
        }
        let mut shares: Vec<_> = self.shares.iter().collect();
        shares.sort_by_key(|(_, bytes)| std::cmp::Reverse(**bytes));
        let largest: Vec<_> = shares
            .iter()
            .take(3)
            .map(|(name, bytes)| {
                format!(
                    "{}/ ({})",
                    text::path(Path::new(name)),
                    text::bytes(**bytes)
                )
            })
            .collect();
        let largest = match largest.as_slice() {
            [] => String::new(),
            names => format!("; the largest folders are {}", names.join(", ")),
        };
        let advice = match self.rules {
            Some(_) => {
                ": leave out what the build does not need, in `.gitignore`, `.dockerignore` or `ignore` of the manifest's `[build]`"
            }
            None => "",
        };
        Err(Error::TooLarge(format!(
            "{} holds {} in {} files and folders, and {} in {} are allowed{largest}{advice}",
            text::path(self.top),
            text::bytes(self.bytes),
            self.entries,
            text::bytes(self.limits.bytes),
            self.limits.entries,
        )))
    }

    /// A link out of a source folder would mean something else, or nothing, where the source is built.
    fn check_link(&self, link: &Path, target: &Path) -> Result<(), Error> {
        if self.rules.is_none() || stays_inside(link, target) {
            return Ok(());
        }
        Err(Error::Source(format!(
            "{} links to {}, outside of the folder: remove the link or leave it out, for example in `.gitignore`",
            text::path(link),
            text::path(target)
        )))
    }
}

/// Says whether a link at `link` with this target stays inside the folder that `link` is relative to, as far as text can tell.
pub(super) fn stays_inside(link: &Path, target: &Path) -> bool {
    let mut depth = link.components().count().saturating_sub(1);
    for part in target.components() {
        match part {
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
            Component::ParentDir if depth > 0 => depth -= 1,
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_stays_inside_if_no_step_of_it_leaves() {
        for (link, target, inside) in [
            ("a", "b", true),
            ("x/a", "../b", true),
            ("x/a", "../../b", false),
            ("a", "..", false),
            ("a", "b/../../c", false),
            ("a", "/etc/passwd", false),
        ] {
            assert_eq!(
                stays_inside(Path::new(link), Path::new(target)),
                inside,
                "{link} -> {target}"
            );
        }
    }
}
