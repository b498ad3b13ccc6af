use anyhow::Result;
use serde_json::json;
use tappaas::SystemClock;
use tappaas_core::Clock as _;

use super::session::Session;
use crate::{cli::EnvCommand, output::age};

pub(super) async fn environments(session: &Session, command: EnvCommand) -> Result<()> {
    let (printer, project) = (session.printer, session.project());
    match command {
        EnvCommand::Ls => {
            let list = session.client.environments(&project).await?;
            printer.value(&list, |list| {
                let now = SystemClock.now();
                let rows = list.items.iter().map(|environment| {
                    [
                        environment.name.to_string(),
                        environment.applications.to_string(),
                        age(now, environment.created),
                    ]
                });
                printer.table(["environment", "apps", "age"], rows);
            })
        }
        EnvCommand::Create { name } => {
            session.client.create_environment(&project, &name).await?;
            printer.value(&json!({ "created": name }), |_| {
                printer.line(format_args!("created environment {name}"));
            })
        }
        EnvCommand::Rm { name } => {
            session.client.remove_environment(&project, &name).await?;
            printer.value(&json!({ "removed": name }), |_| {
                printer.line(format_args!("removed environment {name}"));
            })
        }
    }
}
