//! Packing is deterministic and leaves out what it should; unpacking hostile archives writes nothing outside of its folder.

mod pack;
mod tar;
mod unpack;

use std::{fs, path::Path};

/// Writes files, given by name and content, and the folders they are in.
pub(crate) fn write(folder: &Path, files: &[(&str, &str)]) {
    for (name, content) in files {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

/// Names everything in a folder, in order; folders end with a slash.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type().unwrap().is_dir() {
            names.extend(
                self::names(&entry.path())
                    .iter()
                    .map(|below| format!("{name}/{below}")),
            );
            names.push(format!("{name}/"));
        } else {
            names.push(name);
        }
    }
    names.sort();
    names
}
