use std::time::Duration;

use anyhow::{Result, bail};
use tappaas_api::types::Stop;

use super::session::Session;
use crate::cli::StopArgs;

/// How long a server may take to stop; with applications, their grace comes on top.
const STOP_TIMEOUT: Duration = Duration::from_secs(90);

pub(super) async fn stop(session: &Session, args: &StopArgs) -> Result<()> {
    session.client.stop(&Stop { apps: args.apps }).await?;
    let gone = async {
        while session.alive().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    if tokio::time::timeout(STOP_TIMEOUT, gone).await.is_err() {
        bail!(
            "the server has not stopped within {} s; its log says why",
            STOP_TIMEOUT.as_secs()
        );
    }
    let what = if args.apps {
        "the server and all applications"
    } else {
        "the server; applications go on"
    };
    session.printer.line(format_args!("stopped {what}"));
    Ok(())
}
