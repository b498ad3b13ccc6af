use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use super::file;
use crate::{
    routes::{Change, Routes},
    table::Table,
};

const NAME: &str = "table.changes";
/// Beyond this the whole table is written, and its changes begin anew.
const CHANGES_BYTES_MAX: u64 = 4 << 20;

/// What of the table is on the disk: all of it as it was once, and behind that a line for each change since.
#[derive(Debug)]
pub(super) struct Kept {
    state: PathBuf,
    /// The changes of the whole table, if all since are in it: the generation it leads to, and its bytes.
    changes: Option<(File, u64, u64)>,
}

impl Kept {
    /// Nothing is taken for granted of what is in `state`: the first table is written whole.
    pub(super) fn new(state: &Path) -> Self {
        Self {
            state: state.to_owned(),
            changes: None,
        }
    }

    /// The same directory, with nothing taken for granted.
    pub(super) fn anew(&self) -> Self {
        Self::new(&self.state)
    }

    /// Keeps a whole table.
    ///
    /// # Errors
    /// When the directory cannot be written or is full.
    pub(super) fn replace(&mut self, table: &Table) -> io::Result<()> {
        self.changes = None;
        file::save(&self.state, table)?;
        // Lines left of before lead from older tables, and are passed over. At its end, wherever that is: the edge that this one took
        // over from empties the file as well.
        let mut options = OpenOptions::new();
        options.append(true).create(true).mode(0o600);
        let changes = options.open(self.state.join(NAME))?;
        changes.set_len(0)?;
        self.changes = Some((changes, table.generation, 0));
        Ok(())
    }

    /// Keeps a change; `Ok(false)` if the whole table has to be kept instead.
    ///
    /// # Errors
    /// As [`Self::replace`].
    pub(super) fn add(&mut self, change: &Change) -> io::Result<bool> {
        // Put back once the line is whole on the disk: nothing may follow half a line.
        let Some((mut file, generation, bytes)) = self.changes.take() else {
            return Ok(false);
        };
        let mut line = serde_json::to_vec(change)?;
        line.push(b'\n');
        let bytes = bytes + line.len() as u64;
        if generation != change.from || bytes > CHANGES_BYTES_MAX {
            return Ok(false);
        }
        file.write_all(&line)?;
        file.sync_data()?;
        self.changes = Some((file, change.to, bytes));
        Ok(true)
    }
}

/// Reads what is kept in `state`; see [`file::load`]. What cannot be followed any further ends it: the server brings the rest.
pub(super) fn load(state: &Path) -> Table {
    let (table, same_boot) = file::load(state);
    let Ok(mut routes) = Routes::of(table) else {
        tracing::warn!("the last table is refused; starting without routes");
        return Table::default();
    };
    let changes = fs::read(state.join(NAME)).unwrap_or_default();
    // The last line was cut short if no end follows it.
    for line in changes.split_inclusive(|byte| *byte == b'\n') {
        let change = line.strip_suffix(b"\n").map(serde_json::from_slice);
        let Some(Ok::<Change, _>(change)) = change else {
            tracing::warn!("the last change of the table was cut short");
            break;
        };
        if change.from < routes.generation() {
            continue;
        }
        if let Err(error) = routes.check(&change) {
            tracing::warn!(error = %tappaas_core::Chain(&error), "a change of the last table is refused");
            break;
        }
        routes.make(change);
    }
    let table = routes.table();
    if same_boot {
        table
    } else {
        file::without_endpoints(table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{forward, route};

    fn change(from: u64) -> Change {
        let name = format!("r{from}");
        let host = format!("{name}.example");
        Change {
            from,
            to: from + 1,
            put: vec![route(&name, &[&host], "/", forward(&["127.0.0.1:1"]))],
            gone: Vec::new(),
        }
    }

    /// A directory with a whole table of generation 5 and changes up to 8.
    fn kept() -> (tempfile::TempDir, Kept, Routes) {
        let dir = tempfile::tempdir().unwrap();
        let mut kept = Kept::new(dir.path());
        let table = Table {
            generation: 5,
            routes: change(0).put,
        };
        assert!(!kept.add(&change(4)).unwrap());
        kept.replace(&table).unwrap();
        let mut routes = Routes::of(table).unwrap();
        for from in 5..8 {
            assert!(kept.add(&change(from)).unwrap());
            routes.make(change(from));
        }
        (dir, kept, routes)
    }

    #[test]
    fn a_table_and_its_changes_come_back() {
        let (dir, mut kept, mut routes) = kept();
        assert_eq!(load(dir.path()), routes.table());
        routes.make(change(8));
        kept.replace(&routes.table()).unwrap();
        assert_eq!(load(dir.path()), routes.table());
    }

    #[test]
    fn changes_of_before_the_table_are_passed_over() {
        let (dir, mut kept, routes) = kept();
        let older = fs::read(dir.path().join(NAME)).unwrap();
        kept.replace(&routes.table()).unwrap();
        fs::write(dir.path().join(NAME), older).unwrap();
        assert_eq!(load(dir.path()), routes.table());
    }

    #[test]
    fn wherever_a_crash_cuts_the_changes_those_before_come_back() {
        let (dir, _, routes) = kept();
        let whole = fs::read(dir.path().join(NAME)).unwrap();
        for end in 0..=whole.len() {
            fs::write(dir.path().join(NAME), &whole[..end]).unwrap();
            let lines = whole[..end].iter().filter(|byte| **byte == b'\n').count();
            let table = load(dir.path());
            assert_eq!(table.generation, 5 + lines as u64);
            assert_eq!(table.routes.len(), 1 + lines);
            assert!(
                table
                    .routes
                    .iter()
                    .all(|route| routes.get(&route.id) == Some(route))
            );
        }
    }

    #[test]
    fn a_gap_has_the_whole_table_written() {
        let (_dir, mut kept, mut routes) = kept();
        assert!(!kept.add(&change(9)).unwrap());
        assert!(!kept.add(&change(8)).unwrap());
        routes.make(change(8));
        kept.replace(&routes.table()).unwrap();
        assert!(kept.add(&change(9)).unwrap());
    }
}
