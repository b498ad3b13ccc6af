use std::{
    fs::{self, File},
    io::{ErrorKind, Seek as _},
    path::{Path, PathBuf},
};

use futures::StreamExt as _;
use tappaas_core::{
    Digest, Error, Name, Result,
    manifest::Manifest,
    model::ApplicationKey,
    platform::{Accepted, Platform},
};
use tappaas_local::archive::{self, Limits};
use tokio_util::io::ReaderStream;

/// A folder of source code, packed and ready to be deployed.
#[derive(Debug)]
pub struct Package {
    /// What the application is called: by the caller, else by the manifest, else by the folder.
    pub name: Name,
    /// The text of the folder's manifest, empty if it has none.
    pub manifest: String,
    /// The folder without what is ignored, as [`archive::pack`] packs it, in a file without a name. It is read from the start.
    pub archive: File,
    /// Of the archive.
    pub digest: Digest,
    /// Of the archive, in bytes.
    pub size: u64,
    /// What an archive cannot hold and was left out: sockets, pipes, devices.
    pub skipped: Vec<PathBuf>,
}

impl Package {
    /// Reads the manifest of a folder and packs the folder.
    ///
    /// # Errors
    /// `NotFound` without the folder; `Invalid` if the manifest or what is in the folder cannot be taken, saying what and where.
    pub fn read(folder: &Path, name: Option<&Name>) -> Result<Self> {
        let folder = find(folder)?;
        let manifest = read_manifest(&folder)?;
        let parsed = Manifest::parse(&manifest, Manifest::FILE)?;
        let name = match name.cloned().or_else(|| parsed.name.clone()) {
            Some(name) => name,
            None => name_of(&folder)?,
        };
        let failed = |error| Error::unavailable("cannot make a temporary file").with_source(error);
        let mut archive = tempfile::tempfile().map_err(failed)?;
        let packed = archive::pack(&folder, &parsed.build.ignore, &Limits::SOURCE, &mut archive)?;
        archive.rewind().map_err(failed)?;
        Ok(Self {
            name,
            manifest,
            archive,
            digest: packed.digest,
            size: packed.size,
            skipped: packed.skipped,
        })
    }

    /// Uploads the archive to a platform in this process, and deploys it as `key`.
    ///
    /// # Errors
    /// What [`Platform::upload`] and [`Platform::deploy`] say.
    pub async fn deploy(self, platform: &Platform, key: &ApplicationKey) -> Result<Accepted> {
        let manifest = Manifest::parse(&self.manifest, Manifest::FILE)?;
        let chunks = ReaderStream::new(tokio::fs::File::from_std(self.archive));
        let failed = |error| Error::unavailable("cannot read the packed source").with_source(error);
        let chunks = chunks.map(move |chunk| chunk.map_err(failed)).boxed();
        let source = platform.upload(key, &self.digest, chunks).await?;
        let resolved = manifest.resolve(&key.environment, source);
        platform.deploy(key, resolved.into()).await
    }
}

fn find(folder: &Path) -> Result<PathBuf> {
    let shown = folder.display();
    let found = fs::canonicalize(folder)
        .map_err(|error| Error::not_found(format!("cannot find {shown}")).with_source(error))?;
    match found.is_dir() {
        true => Ok(found),
        false => Err(Error::invalid(format!(
            "{shown} is no folder; name the folder of the source code"
        ))),
    }
}

fn read_manifest(folder: &Path) -> Result<String> {
    let path = folder.join(Manifest::FILE);
    let shown = path.display();
    let unreadable = |error| Error::invalid(format!("cannot read {shown}")).with_source(error);
    match fs::metadata(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(String::new()),
        Err(error) => return Err(unreadable(error)),
        Ok(metadata) if metadata.len() > Manifest::SIZE_MAX as u64 => {
            let max = Manifest::SIZE_MAX >> 10;
            return Err(Error::invalid(format!("{shown} has more than {max} KiB")));
        }
        Ok(_) => {}
    }
    fs::read_to_string(&path).map_err(unreadable)
}

/// The folder's name, as near as a name can be.
fn name_of(folder: &Path) -> Result<Name> {
    let name = folder.file_name();
    let name = name.and_then(|name| Name::nearest(&name.to_string_lossy()));
    let nameless = || {
        Error::invalid(format!(
            "{} gives the application no name; say one",
            folder.display()
        ))
    };
    name.ok_or_else(nameless)
}
