use std::{
    io::{IsTerminal as _, Write as _},
    process::ExitCode,
};

use anyhow::Result;
use futures::StreamExt as _;
use rustix::termios::{self, OptionalActions, Termios};
use tappaas_api::types::{ExecRequest, Frame, Terminal};
use tokio::io::AsyncReadExt as _;

use super::session::Session;
use crate::cli::ExecArgs;

/// Runs a command inside an instance, with this terminal as its own.
pub(super) async fn exec(session: &Session, args: &ExecArgs) -> Result<ExitCode> {
    let interactive = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let request = ExecRequest {
        process: args.process.clone(),
        instance: args.instance.clone(),
        command: args.command.clone(),
        terminal: interactive.then(size),
    };
    let app = &args.app.app;
    let (input, mut output) = session
        .client
        .exec(&session.environment, app, &request)
        .await?;
    let _raw = interactive.then(RawMode::enter).transpose()?;
    let feeding = tokio::spawn(feed(input));
    let mut code = None;
    while let Some(frame) = output.next().await {
        match frame? {
            Frame::Stdout(bytes) => session.printer.raw(&bytes),
            Frame::Stderr(bytes) => std::io::stderr().write_all(&bytes)?,
            Frame::Exited(exited) => code = Some(exited),
            Frame::Problem(problem) => return Err(tappaas_core::Error::from(problem).into()),
            Frame::Input(_) | Frame::Close => {}
        }
    }
    feeding.abort();
    let code = code.ok_or_else(|| anyhow::anyhow!("the command's instance went away"))?;
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)))
}

/// Passes standard input on.
async fn feed(input: tokio::sync::mpsc::Sender<bytes::Bytes>) {
    let mut stdin = tokio::io::stdin();
    let mut buffer = vec![0; 8 << 10];
    while let Ok(count) = stdin.read(&mut buffer).await {
        if count == 0
            || input
                .send(bytes::Bytes::copy_from_slice(&buffer[..count]))
                .await
                .is_err()
        {
            return;
        }
    }
}

fn size() -> Terminal {
    // `tcgetwinsize` (POSIX.1-2024) by way of rustix; a terminal that does not say is of the usual size.
    let size = termios::tcgetwinsize(std::io::stdout())
        .ok()
        .filter(|size| size.ws_col > 0);
    size.map_or(
        Terminal {
            columns: 80,
            rows: 24,
        },
        |size| Terminal {
            columns: size.ws_col,
            rows: size.ws_row,
        },
    )
}

/// A terminal that passes every key on, until this is dropped.
struct RawMode(Termios);

impl RawMode {
    fn enter() -> Result<Self> {
        let before = termios::tcgetattr(std::io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        termios::tcsetattr(std::io::stdin(), OptionalActions::Now, &raw)?;
        Ok(Self(before))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // Nothing can be done about a terminal that went away.
        let _ = termios::tcsetattr(std::io::stdin(), OptionalActions::Now, &self.0);
    }
}
