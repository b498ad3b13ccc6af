use std::{collections::BTreeMap, io::Read as _, process::ExitCode};

use anyhow::{Context as _, Result, bail};
use tappaas_api::types::{ConfigChange, Layer, RevealQuery};
use tappaas_core::{Name, model::EnvValue};

use super::{operation, session::Session};
use crate::cli::ConfigCommand;

/// The most bytes a value read from standard input may have.
const VALUE_MAX: u64 = 1 << 16;

pub(super) async fn config(session: &Session, command: ConfigCommand) -> Result<ExitCode> {
    match command {
        ConfigCommand::Set {
            app,
            variables,
            no_wait,
        } => {
            let set = variables
                .iter()
                .map(|variable| parse(variable))
                .collect::<Result<_>>()?;
            session
                .printer
                .note("note: values are stored unencrypted, readable by the server's user alone");
            let change = ConfigChange {
                set,
                unset: Vec::new(),
            };
            apply(session, &app.app, &change, no_wait).await
        }
        ConfigCommand::Unset {
            app,
            names,
            no_wait,
        } => {
            let change = ConfigChange {
                set: BTreeMap::new(),
                unset: names,
            };
            apply(session, &app.app, &change, no_wait).await
        }
        ConfigCommand::List { app, reveal } => list(session, &app.app, reveal)
            .await
            .map(|()| ExitCode::SUCCESS),
    }
}

/// `KEY=VALUE`, or `KEY=-` for a value that must not be seen in a list of processes.
fn parse(variable: &str) -> Result<(String, EnvValue)> {
    let (name, value) = variable
        .split_once('=')
        .with_context(|| format!("`{variable}` is not KEY=VALUE"))?;
    if value != "-" {
        return Ok((name.to_owned(), EnvValue::new(value)));
    }
    let mut value = String::new();
    std::io::stdin()
        .take(VALUE_MAX + 1)
        .read_to_string(&mut value)
        .context("cannot read the value from standard input")?;
    if value.len() as u64 > VALUE_MAX {
        bail!("the value of {name} has more than {VALUE_MAX} bytes");
    }
    let value = value.strip_suffix('\n').unwrap_or(&value);
    Ok((name.to_owned(), EnvValue::new(value)))
}

async fn apply(
    session: &Session,
    app: &Name,
    change: &ConfigChange,
    no_wait: bool,
) -> Result<ExitCode> {
    let accepted = session
        .client
        .configure(&session.environment, app, change)
        .await?;
    operation::settle(session, &accepted, !no_wait).await
}

async fn list(session: &Session, app: &Name, reveal: bool) -> Result<()> {
    let list = session
        .client
        .config(&session.environment, app, &RevealQuery { reveal })
        .await?;
    let printer = session.printer;
    printer.value(&list, |list| {
        if list.items.is_empty() {
            return printer.note("no variables; `tappaas config set` sets some");
        }
        let rows = list.items.iter().map(|variable| {
            let value = variable.value.as_ref().map_or("********", EnvValue::expose);
            let layer = match variable.layer {
                Layer::Manifest => "manifest",
                Layer::Environment => "manifest, for this environment",
                Layer::Config => "config set",
            };
            [variable.name.clone(), value.to_owned(), layer.to_owned()]
        });
        printer.table(["name", "value", "from"], rows);
    })
}
