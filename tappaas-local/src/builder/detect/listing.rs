use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    io::Read as _,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use rustix::fs::OFlags;

/// The files of a source: the names of all, the content of those that tell how it is built.
///
/// Names are relative, with `/`. Files whose name is not UTF-8 and links are not listed: neither tells anything.
#[derive(Clone, Debug, Default)]
pub(in crate::builder) struct Listing {
    files: BTreeSet<String>,
    content: BTreeMap<String, String>,
}

/// Of a longer file only the beginning is looked at.
const CONTENT_MAX: u64 = 1 << 20;
/// Enough for the licence and the package clause at the top of a Go file.
const GO_MAX: u64 = 64 << 10;
/// All looked-at content together.
const TOTAL_MAX: usize = 64 << 20;
const DEPTH_MAX: usize = 64;

impl Listing {
    /// Reads the folder of a source that [`crate::archive::unpack`] made.
    pub(in crate::builder) fn read(folder: &Path) -> io::Result<Self> {
        let mut listing = Self::default();
        let mut total = 0;
        listing.enter(folder, "", 0, &mut total)?;
        Ok(listing)
    }

    /// A listing of files given by name and content.
    #[cfg(test)]
    pub(super) fn of(files: &[(&str, &str)]) -> Self {
        let mut listing = Self::default();
        for (name, content) in files {
            listing.files.insert((*name).to_owned());
            if looked_at(name).is_some() {
                listing
                    .content
                    .insert((*name).to_owned(), (*content).to_owned());
            }
        }
        listing
    }

    pub(super) fn has(&self, file: &str) -> bool {
        self.files.contains(file)
    }

    /// All files, in order.
    pub(super) fn files(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(String::as_str)
    }

    /// What a file says, if it is there and one of those that are looked at.
    pub(super) fn text(&self, file: &str) -> Option<&str> {
        self.content.get(file).map(String::as_str)
    }

    fn enter(
        &mut self,
        folder: &Path,
        prefix: &str,
        depth: usize,
        total: &mut usize,
    ) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let path = format!("{prefix}{name}");
            let kind = entry.file_type()?;
            if kind.is_dir() && depth < DEPTH_MAX {
                self.enter(&entry.path(), &format!("{path}/"), depth + 1, total)?;
            } else if kind.is_file() {
                if let Some(most) = looked_at(&path).filter(|_| *total < TOTAL_MAX) {
                    let text = read(&entry.path(), most)?;
                    *total += text.len();
                    self.content.insert(path.clone(), text);
                }
                self.files.insert(path);
            }
        }
        Ok(())
    }
}

fn read(path: &Path, most: u64) -> io::Result<String> {
    let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = fs::OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)?;
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Whether a file's content counts, and how much of it.
fn looked_at(path: &str) -> Option<u64> {
    let name = path.rsplit('/').next().unwrap_or(path);
    match name {
        "Cargo.toml" | "go.mod" => Some(CONTENT_MAX),
        "Procfile" | "package.json" | "pyproject.toml" | "requirements.txt" | "main.py"
        | "app.py"
            if name == path =>
        {
            Some(CONTENT_MAX)
        }
        _ if name.ends_with(".go") && !name.ends_with("_test.go") => Some(GO_MAX),
        _ => None,
    }
}
