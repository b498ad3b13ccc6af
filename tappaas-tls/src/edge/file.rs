use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

use serde::{Deserialize, Serialize};
use tappaas_core::backend::Action;

use crate::table::Table;

const FORMAT: u32 = 1;
const NAME: &str = "table.json";

#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    format: u32,
    /// Which boot of the machine the endpoints are of.
    boot: String,
    table: Table,
}

/// Keeps a table in `state`, whole or not at all.
///
/// # Errors
/// When the directory cannot be written or is full.
pub(super) fn save(state: &Path, table: &Table) -> io::Result<()> {
    let stored = Stored {
        format: FORMAT,
        boot: boot(),
        table: table.clone(),
    };
    write_whole(state, NAME, &serde_json::to_vec(&stored)?)
}

/// Reads the table kept in `state`. One that is not there, damaged or of a later format is empty: the server brings the real one.
///
/// Says besides whether its endpoints are of this boot: after a reboot their addresses may be other instances'.
pub(super) fn load(state: &Path) -> (Table, bool) {
    let nothing = (Table::default(), true);
    let bytes = match fs::read(state.join(NAME)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return nothing,
        Err(error) => {
            tracing::warn!(%error, "the last table cannot be read; starting without routes");
            return nothing;
        }
    };
    match serde_json::from_slice(&bytes) {
        Ok(Stored {
            format: FORMAT,
            boot: of,
            table,
        }) => (table, of == boot()),
        Ok(Stored { format, .. }) => {
            tracing::warn!(
                format,
                "the last table is of a later version; starting without routes"
            );
            nothing
        }
        Err(error) => {
            tracing::warn!(%error, "the last table is damaged; starting without routes");
            nothing
        }
    }
}

/// The same routes, to nowhere.
pub(super) fn without_endpoints(mut table: Table) -> Table {
    for route in &mut table.routes {
        if let Action::Forward { targets, .. } = &mut route.action {
            targets
                .iter_mut()
                .for_each(|target| target.endpoints.clear());
        }
    }
    table
}

/// Makes a directory for its owner alone.
///
/// # Errors
/// When it cannot be made.
pub(super) fn make_directory(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
}

/// Replaces a file as a whole.
///
/// # Errors
/// When the directory cannot be written or is full.
pub(super) fn write_whole(directory: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let draft = directory.join(format!("{name}.new"));
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&draft)?;
    file.write_all(bytes)?;
    file.sync_data()?;
    fs::rename(&draft, directory.join(name))?;
    File::open(directory)?.sync_data()
}

fn boot() -> String {
    // A machine that does not tell its boots apart has only one.
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .unwrap_or_default()
        .trim()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{forward, route};

    fn table() -> Table {
        Table {
            generation: 5,
            routes: vec![route("web", &["a.example"], "/", forward(&["127.0.0.1:1"]))],
        }
    }

    #[test]
    fn a_table_comes_back_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(load(dir.path()).0, Table::default());
        save(dir.path(), &table()).unwrap();
        assert_eq!(load(dir.path()), (table(), true));
    }

    #[test]
    fn a_damaged_table_is_an_empty_one() {
        let dir = tempfile::tempdir().unwrap();
        for damaged in [
            "",
            "{",
            r#"{"format":2,"boot":"","table":{"generation":1,"routes":[]}}"#,
        ] {
            fs::write(dir.path().join(NAME), damaged).unwrap();
            assert_eq!(load(dir.path()).0, Table::default());
        }
    }

    #[test]
    fn endpoints_of_an_earlier_boot_are_left_out() {
        let dir = tempfile::tempdir().unwrap();
        save(dir.path(), &table()).unwrap();
        let stored = fs::read_to_string(dir.path().join(NAME)).unwrap();
        fs::write(
            dir.path().join(NAME),
            stored.replace(&boot(), "another-boot"),
        )
        .unwrap();
        let (table, same_boot) = load(dir.path());
        assert!(!same_boot);
        let Action::Forward { targets, .. } = &without_endpoints(table).routes[0].action else {
            panic!()
        };
        assert!(targets[0].endpoints.is_empty());
    }
}
