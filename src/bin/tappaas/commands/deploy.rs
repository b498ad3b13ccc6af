use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail};
use tappaas_api::types::{Deployment, RollbackRequest, Scale, SourceRequest};
use tappaas_core::{Digest, Name, manifest::Manifest};
use tappaas_local::archive::{self, Limits};

use super::{install, operation, session::Session};
use crate::{
    cli::{DeployArgs, DestroyArgs, PlanArgs, RollbackArgs, ScaleArgs},
    output::bytes,
};

/// A folder, packed and ready to be deployed.
pub(super) struct Package {
    pub(super) name: Name,
    pub(super) manifest: String,
    pub(super) archive: tempfile::NamedTempFile,
    pub(super) digest: Digest,
    pub(super) size: u64,
}

impl Package {
    /// Reads the manifest of a folder and packs the folder, without what is ignored.
    pub(super) fn read(path: &Path, name: Option<&Name>) -> Result<Self> {
        let shown = path.display();
        let folder = fs::canonicalize(path).with_context(|| format!("cannot find {shown}"))?;
        if !folder.is_dir() {
            bail!("{shown} is no folder; name the folder of the source code");
        }
        let manifest = read_manifest(&folder)?;
        let parsed = Manifest::parse(&manifest, Manifest::FILE)?;
        let name = match name.cloned().or_else(|| parsed.name.clone()) {
            Some(name) => name,
            None => name_of(&folder)?,
        };
        let mut archive = tempfile::NamedTempFile::new().context("cannot make a temporary file")?;
        let packed = archive::pack(
            &folder,
            &parsed.build.ignore,
            &Limits::SOURCE,
            archive.as_file_mut(),
        )?;
        Ok(Self {
            name,
            manifest,
            archive,
            digest: packed.digest,
            size: packed.size,
        })
    }

    pub(super) fn deployment(&self) -> Deployment {
        Deployment {
            source: SourceRequest::Upload {
                digest: self.digest.clone(),
            },
            manifest: self.manifest.clone(),
        }
    }

    /// Sends the archive to the server.
    pub(super) async fn upload(&self, session: &Session) -> Result<()> {
        let file = tokio::fs::File::open(self.archive.path())
            .await
            .context("cannot open the packed source")?;
        session
            .client
            .upload(&session.environment, &self.name, &self.digest, file)
            .await?;
        Ok(())
    }
}

fn read_manifest(folder: &Path) -> Result<String> {
    let path = folder.join(Manifest::FILE);
    let shown = path.display();
    match fs::metadata(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(String::new()),
        Err(error) => return Err(error).with_context(|| format!("cannot look at {shown}")),
        Ok(metadata) if metadata.len() > Manifest::SIZE_MAX as u64 => {
            bail!("{shown} has more than {}", bytes(Manifest::SIZE_MAX as u64))
        }
        Ok(_) => {}
    }
    fs::read_to_string(&path).with_context(|| format!("cannot read {shown}"))
}

/// The folder's name, as near as a name can be.
fn name_of(folder: &Path) -> Result<Name> {
    let name = folder
        .file_name()
        .and_then(|name| Name::nearest(&name.to_string_lossy()));
    name.with_context(|| {
        format!(
            "{} gives the application no name; give it one with --name",
            folder.display()
        )
    })
}

pub(super) async fn deploy(session: &Session, args: &DeployArgs) -> Result<ExitCode> {
    let (name, deployment) = match (&args.image, &args.path) {
        (Some(reference), _) => image(args, reference)?,
        (None, path) => {
            let path = path.clone().unwrap_or_else(|| PathBuf::from("."));
            let package = Package::read(&path, args.name.as_ref())?;
            session.printer.note(format_args!(
                "packed {} ({})",
                path.display(),
                bytes(package.size)
            ));
            package.upload(session).await?;
            (package.name.clone(), package.deployment())
        }
    };
    let accepted = session
        .client
        .deploy(&session.environment, &name, &deployment)
        .await?;
    let code = operation::settle(session, &accepted, !args.no_wait).await?;
    if code == ExitCode::SUCCESS && !args.no_wait && !session.printer.json() {
        urls(session, &name).await?;
    }
    Ok(code)
}

fn image(args: &DeployArgs, reference: &str) -> Result<(Name, Deployment)> {
    let last = reference.rsplit('/').next().unwrap_or(reference);
    let word = last.split([':', '@']).next().unwrap_or(last);
    let name = args.name.clone().or_else(|| Name::nearest(word));
    let name = name.with_context(|| {
        format!("`{reference}` gives the application no name; give it one with --name")
    })?;
    let source = SourceRequest::Image {
        reference: reference.to_owned(),
    };
    Ok((
        name,
        Deployment {
            source,
            manifest: String::new(),
        },
    ))
}

/// Prints where an application answers, and how to ask it where names under `localhost` do not resolve.
pub(super) async fn urls(session: &Session, app: &Name) -> Result<Vec<String>> {
    let application = session
        .client
        .application(&session.environment, app)
        .await?;
    let ingress = session.client.version().await?.ingress;
    let Some(address) = ingress.and_then(|address| address.parse::<std::net::SocketAddr>().ok())
    else {
        return Ok(Vec::new());
    };
    let port = address.port();
    let mut urls = Vec::new();
    for host in application
        .hosts
        .iter()
        .filter(|host| !host.starts_with('*'))
    {
        let url = if port == 80 {
            format!("http://{host}")
        } else {
            format!("http://{host}:{port}")
        };
        let ip = if address.ip().is_unspecified() {
            "127.0.0.1".to_owned()
        } else {
            address.ip().to_string()
        };
        session.printer.line(&url);
        session
            .printer
            .line(format_args!("  curl --resolve {host}:{port}:{ip} {url}"));
        urls.push(url);
    }
    Ok(urls)
}

pub(super) async fn plan(session: &Session, args: &PlanArgs) -> Result<()> {
    let package = Package::read(&args.path, args.name.as_ref())?;
    let plan = session
        .client
        .plan(&session.environment, &package.name, &package.deployment())
        .await?;
    let printer = session.printer;
    printer.value(&plan, |plan| {
        if plan.steps.is_empty() {
            printer.line("nothing to do");
        }
        for (i, step) in plan.steps.iter().enumerate() {
            printer.line(format_args!("{:>3}  {}", i + 1, step.description));
        }
        printer.note("the next steps follow from what these come to");
    })
}

pub(super) async fn rollback(session: &Session, args: &RollbackArgs) -> Result<ExitCode> {
    let request = RollbackRequest {
        release: args.release,
    };
    let accepted = session
        .client
        .rollback(&session.environment, &args.app.app, &request)
        .await?;
    operation::settle(session, &accepted, !args.no_wait).await
}

pub(super) async fn restart(session: &Session, app: &Name, no_wait: bool) -> Result<ExitCode> {
    let accepted = session.client.restart(&session.environment, app).await?;
    operation::settle(session, &accepted, !no_wait).await
}

pub(super) async fn scale(session: &Session, args: &ScaleArgs) -> Result<ExitCode> {
    let processes = args
        .counts
        .iter()
        .map(|scale| (scale.process.clone(), scale.count))
        .collect();
    let accepted = session
        .client
        .scale(&session.environment, &args.app.app, &Scale { processes })
        .await?;
    operation::settle(session, &accepted, !args.no_wait).await
}

pub(super) async fn destroy(session: &Session, args: &DestroyArgs) -> Result<ExitCode> {
    let app = &args.app.app;
    let volumes = session.client.volumes(&session.environment).await?;
    let volumes: Vec<_> = volumes
        .items
        .into_iter()
        .filter(|volume| volume.application == *app)
        .collect();
    if args.volumes && !volumes.is_empty() && !args.yes {
        let question = format!(
            "This deletes {} volume(s) of {app} for good. Type the application's name to go on: ",
            volumes.len()
        );
        if install::answer(&question)?.as_deref() != Some(app.as_str()) {
            bail!("nothing was destroyed");
        }
    }
    let accepted = session.client.destroy(&session.environment, app).await?;
    let code = operation::settle(session, &accepted, true).await?;
    for volume in volumes {
        if args.volumes {
            session
                .client
                .remove_volume(&session.environment, app, &volume.name)
                .await?;
            session
                .printer
                .line(format_args!("deleted volume {}", volume.name));
        } else {
            session.printer.line(format_args!(
                "kept volume {}; delete it with `tappaas volumes rm {app} {}`",
                volume.name, volume.name
            ));
        }
    }
    Ok(code)
}
