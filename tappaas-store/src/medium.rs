use std::{
    fs::{DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
    sync::Arc,
};

use redb::{Builder, Database, ReadOnlyDatabase, StorageBackend, backends::FileBackend};
use tappaas_core::ErrorKind;

use crate::{
    failure::{Failure, contained},
    history,
    layout::{FORMAT, META, META_FORMAT, decode_number, encode_number},
    rows::{Draft, Snapshot, find_damage},
};

/// What a database lies on. It can be opened again, after a failure.
pub(crate) struct Medium {
    name: String,
    cache_bytes: usize,
    prepare: Box<dyn Fn() -> Result<(), Failure> + Send>,
    open: Open<Database>,
    peek: Open<Option<ReadOnlyDatabase>>,
}

type Open<T> = Box<dyn Fn(&Builder) -> Result<T, Failure> + Send>;

impl Medium {
    /// A file in a directory.
    pub(crate) fn directory(directory: &Path, cache_bytes: usize) -> Self {
        let path = directory.join(file_name(FORMAT));
        let name = path.display().to_string();
        let file = path.clone();
        let storage = move || Ok(FileBackend::new(open_file(&path, false)?)?);
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
        prepare: impl Fn() -> Result<(), Failure> + Send + 'static,
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

    /// Opens the database, checks all of it, and sees to its format. Says which revision was given out last.
    pub(crate) fn open(&self) -> Result<(Database, u64), Failure> {
        let mut builder = Builder::new();
        builder.set_cache_size(self.cache_bytes);
        builder.set_check_integrity_on_open(true);
        let opened = contained(|| {
            (self.prepare)()?;
            let database = (self.open)(&builder)?;
            see_to_format(&database)?;
            let revision = history::revision(&Snapshot::of(&database)?)?;
            Ok((database, revision))
        });
        opened.map_err(|failure| match failure.kind() {
            ErrorKind::Internal => self.find_damage(&builder).unwrap_or(failure),
            _ => failure,
        })
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

/// The name of the database's file. It says the format, so that an older program leaves a newer file alone without looking into it.
fn file_name(format: u64) -> String {
    format!("store-{format}.redb")
}

/// Sees to it that the file is there, and none of a newer format.
fn prepare_file(path: &Path) -> Result<(), Failure> {
    refuse_newer(path.parent().unwrap_or(path))?;
    if !path.try_exists()? {
        return create_file(path);
    }
    if path.metadata()?.len() == 0 {
        return Err(Failure::Damaged(
            "the file is empty, and no store leaves it so".to_owned(),
        ));
    }
    Ok(())
}

fn refuse_newer(directory: &Path) -> Result<(), Failure> {
    for entry in directory.read_dir()? {
        let name = entry?.file_name();
        let format = name
            .to_str()
            .and_then(|name| name.strip_prefix("store-")?.strip_suffix(".redb"));
        if let Some(found) = format.and_then(|format| format.parse().ok())
            && found > FORMAT
        {
            return Err(Failure::Newer {
                found,
                known: FORMAT,
            });
        }
    }
    Ok(())
}

/// Creates the file under another name first: the database cannot open what is left of its own creation when that is cut short.
fn create_file(path: &Path) -> Result<(), Failure> {
    let unfinished = path.with_extension("unfinished");
    let file = open_file(&unfinished, true)?;
    file.set_len(0)?;
    let database = Builder::new().create_with_backend(FileBackend::new(file)?)?;
    see_to_format(&database)?;
    database.close()?;
    std::fs::rename(&unfinished, path)?;
    if let Some(directory) = path.parent() {
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}

fn open_file(path: &Path, create: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .create(create)
        .truncate(false)
        .mode(0o600);
    options.open(path)
}

/// Writes the format into a new database, and looks at the one in another.
fn see_to_format(database: &Database) -> Result<(), Failure> {
    let snapshot = Snapshot::of(database)?;
    match snapshot.get(META, META_FORMAT)? {
        Some(format) => match decode_number(META, META_FORMAT, &format)? {
            FORMAT => Ok(()),
            found if found > FORMAT => Err(Failure::Newer {
                found,
                known: FORMAT,
            }),
            // There is no older format. The file of one that comes is copied to one of the newer name, and stays.
            found => Err(Failure::Damaged(format!(
                "there never was a format {found}"
            ))),
        },
        None if !snapshot.tables()?.is_empty() => Err(Failure::Damaged(
            "it says nothing about its format".to_owned(),
        )),
        None => {
            drop(snapshot);
            let mut transaction = database.begin_write()?;
            transaction.set_quick_repair(true);
            let mut draft = Draft::of(&transaction);
            draft.put(META, META_FORMAT, &encode_number(FORMAT))?;
            drop(draft);
            Ok(transaction.commit()?)
        }
    }
}
