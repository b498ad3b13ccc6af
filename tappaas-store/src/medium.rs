use std::{
    fs::{DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
    sync::Arc,
};

use redb::{
    Builder, Database, ReadOnlyDatabase, ReadableDatabase, StorageBackend, backends::FileBackend,
};
use rustix::fs::{Advice, fadvise};

use crate::{
    failure::{Failure, contained},
    layout::{FORMAT, META, META_FORMAT, decode_number, encode_number},
    rows::{Draft, Snapshot, find_damage},
};

/// The database's file in a store's directory.
const FILE: &str = "store.redb";

/// What a database lies on. It can be opened again, after a failure.
pub(crate) struct Medium {
    name: String,
    cache_bytes: usize,
    prepare: Box<dyn Fn() -> io::Result<()> + Send>,
    open: Open<Database>,
    peek: Open<Option<ReadOnlyDatabase>>,
}

type Open<T> = Box<dyn Fn(&Builder) -> Result<T, Failure> + Send>;

impl Medium {
    /// A file in a directory.
    pub(crate) fn directory(directory: &Path, cache_bytes: usize) -> Self {
        let path = directory.join(FILE);
        let name = path.display().to_string();
        let file = path.clone();
        let storage = move || Ok(FileBackend::new(open_file(&path)?)?);
        let prepare = move || prepare_file(&file);
        Self::new(name, cache_bytes, prepare, storage)
    }

    /// Whatever the caller gives.
    pub(crate) fn backend<B: StorageBackend>(
        storage: impl Fn() -> io::Result<B> + Send + Sync + 'static,
        cache_bytes: usize,
    ) -> Self {
        let storage = move || Ok(storage()?);
        Self::new(
            "the given storage".to_owned(),
            cache_bytes,
            || Ok(()),
            storage,
        )
    }

    fn new<B: StorageBackend>(
        name: String,
        cache_bytes: usize,
        prepare: impl Fn() -> io::Result<()> + Send + 'static,
        storage: impl Fn() -> Result<B, Failure> + Send + Sync + 'static,
    ) -> Self {
        let storage = Arc::new(storage);
        let peek = {
            let storage = storage.clone();
            move |builder: &Builder| {
                let backend = storage()?;
                match backend.len()? {
                    0 => Ok(None),
                    _ => Ok(Some(builder.open_read_only_with_backend(backend)?)),
                }
            }
        };
        Self {
            name,
            cache_bytes,
            prepare: Box::new(prepare),
            open: Box::new(move |builder| Ok(builder.create_with_backend(storage()?)?)),
            peek: Box::new(peek),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Opens the database, checks all of it, and sees to its format. A newer one is left as it is.
    pub(crate) fn open(&self) -> Result<Database, Failure> {
        let mut builder = Builder::new();
        builder.set_cache_size(self.cache_bytes);
        (self.prepare)()?;
        let peeked = contained(|| match (self.peek)(&builder)? {
            Some(database) => format(&database).map(|_| ()),
            None => Ok(()),
        });
        if let Err(newer @ Failure::Newer { .. }) = peeked {
            return Err(newer);
        }
        // Whatever else keeps it from being read as it is, opening it repairs or tells.
        builder.set_check_integrity_on_open(true);
        let opened = contained(|| {
            let database = (self.open)(&builder)?;
            see_to_format(&database)?;
            Ok(database)
        });
        opened.map_err(|failure| self.find_damage(&builder).unwrap_or(failure))
    }

    /// The database says that something is damaged, not what. The rows may.
    fn find_damage(&self, builder: &Builder) -> Option<Failure> {
        let found = contained(|| match (self.peek)(builder)? {
            Some(database) => find_damage(&database),
            None => Ok(()),
        });
        found
            .err()
            .filter(|failure| matches!(failure, Failure::Damaged(_)))
    }
}

/// Creates a directory for the owner alone, and makes sure that it is still there after a power cut.
pub(crate) fn create_directory(directory: &Path) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)?;
    let mut directory = Some(directory);
    while let Some(inner) = directory.filter(|path| !path.as_os_str().is_empty()) {
        File::open(inner)?.sync_all()?;
        directory = inner.parent();
    }
    Ok(())
}

fn open_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600);
    options.open(path)
}

/// Makes sure that the file is there after a power cut, and that the kernel reads it from the disk. A page whose write failed once may be in
/// its memory as if it had been written, and then everything that is built on it would be lost with the next power cut.
fn prepare_file(path: &Path) -> io::Result<()> {
    let file = open_file(path)?;
    file.sync_all()?;
    if let Some(directory) = path.parent() {
        File::open(directory)?.sync_all()?;
    }
    fadvise(&file, 0, None, Advice::DontNeed)?;
    fadvise(&file, 0, None, Advice::WillNeed)?;
    Ok(())
}

/// The format of what is there; `None` if nothing is.
fn format(database: &impl ReadableDatabase) -> Result<Option<u64>, Failure> {
    let snapshot = Snapshot::of(database)?;
    let Some(bytes) = snapshot.get(META, META_FORMAT)? else {
        return match snapshot.tables()?.is_empty() {
            true => Ok(None),
            false => Err(Failure::Damaged(
                "it says nothing about its format".to_owned(),
            )),
        };
    };
    let found = decode_number(META, META_FORMAT, &bytes)?;
    if found > FORMAT {
        return Err(Failure::Newer {
            found,
            known: FORMAT,
        });
    }
    Ok(Some(found))
}

fn see_to_format(database: &Database) -> Result<(), Failure> {
    match format(database)? {
        // There is no older format yet. One that comes is brought up to date here, in one transaction.
        Some(FORMAT) => Ok(()),
        Some(found) => Err(Failure::Damaged(format!(
            "there never was a format {found}"
        ))),
        None => {
            let mut transaction = database.begin_write()?;
            transaction.set_quick_repair(true);
            let mut draft = Draft::of(&transaction);
            draft.put(META, META_FORMAT, &encode_number(FORMAT))?;
            drop(draft);
            Ok(transaction.commit()?)
        }
    }
}
