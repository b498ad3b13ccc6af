use anyhow::{Result, bail};

use super::{install, session::Session};
use crate::{cli::VolumesCommand, output::bytes};

pub(super) async fn volumes(session: &Session, command: VolumesCommand) -> Result<()> {
    let printer = session.printer;
    match command {
        VolumesCommand::Ls => {
            let list = session.client.volumes(&session.environment).await?;
            printer.value(&list, |list| {
                if list.items.is_empty() {
                    return printer
                        .note("no volumes; a manifest declares them under [volumes.NAME]");
                }
                let rows = list.items.iter().map(|volume| {
                    let size = |size: Option<u64>| size.map_or_else(|| "-".to_owned(), bytes);
                    let used = if volume.used { "used" } else { "kept" };
                    [
                        volume.application.to_string(),
                        volume.name.to_string(),
                        used.to_owned(),
                        size(volume.held),
                        size(volume.size),
                    ]
                });
                printer.table(["app", "volume", "state", "holds", "size"], rows);
            })
        }
        VolumesCommand::Rm { app, volume, yes } => {
            let app = app.app;
            if !yes
                && !install::confirmed(&format!(
                    "Delete volume {volume} of {app} and all that is in it?"
                ))?
            {
                bail!("nothing was deleted; on a terminal this asks, elsewhere pass --yes");
            }
            session
                .client
                .remove_volume(&session.environment, &app, &volume)
                .await?;
            let deleted = serde_json::json!({ "application": app, "deleted": volume });
            printer.value(&deleted, |_| {
                printer.line(format_args!("deleted volume {volume} of {app}"));
            })
        }
    }
}
