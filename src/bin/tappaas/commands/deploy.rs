use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result, bail};
use tappaas::Package;
use tappaas_api::types::{Deployment, RollbackRequest, Scale, SourceRequest};
use tappaas_core::Name;

use super::{install, operation, session::Session};
use crate::{
    cli::{DeployArgs, DestroyArgs, PlanArgs, RollbackArgs, ScaleArgs},
    output::bytes,
};

/// The request that deploys a package once its archive is uploaded.
pub(super) fn deployment(package: &Package) -> Deployment {
    Deployment {
        source: SourceRequest::Upload {
            digest: package.digest.clone(),
        },
        manifest: package.manifest.clone(),
    }
}

/// Sends a package's archive to the server, and says what is not in it.
pub(super) async fn upload(session: &Session, package: &Package) -> Result<()> {
    for path in &package.skipped {
        session.printer.note(format_args!(
            "note: left out {path:?}: it is neither a file nor a folder nor a link"
        ));
    }
    let archive = package.archive.try_clone();
    let archive = tokio::fs::File::from_std(archive.context("cannot open the packed source")?);
    session
        .client
        .upload(
            &session.environment,
            &package.name,
            &package.digest,
            archive,
        )
        .await?;
    Ok(())
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
            upload(session, &package).await?;
            let deployment = deployment(&package);
            (package.name, deployment)
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
    let hosts = application.hosts.iter();
    let hosts = hosts.filter(|host| !host.starts_with('*'));
    let ingress = session.client.version().await?.ingress;
    let Some(address) = ingress.and_then(|address| address.parse::<std::net::SocketAddr>().ok())
    else {
        // At which port a cluster's proxies listen nobody tells.
        hosts.clone().for_each(|host| session.printer.line(host));
        return Ok(hosts.cloned().collect());
    };
    let port = address.port();
    let mut urls = Vec::new();
    for host in hosts {
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
        .plan(&session.environment, &package.name, &deployment(&package))
        .await?;
    let printer = session.printer;
    printer.value(&plan, |plan| {
        if plan.steps.is_empty() {
            return printer.line("nothing to do");
        }
        for (i, step) in plan.steps.iter().enumerate() {
            printer.line(format_args!("{:>3}  {}", i + 1, step.description));
        }
        printer.note("later steps follow from what these come to");
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
