//! The `tappaas` program: the server, and the command line that speaks to it.

mod cli;
mod commands;
mod output;
mod place;
mod serve;

use std::process::ExitCode;

use clap::Parser as _;
use tappaas_api::types::Problem;
use tappaas_core::Chain;

use crate::{cli::Cli, output::Printer};

fn main() -> ExitCode {
    // The program is its own helper: instances and the edge are processes of their own.
    tappaas::helper_main();
    let cli = Cli::parse();
    let printer = Printer::new(cli.global.output);
    let outcome = tokio::runtime::Runtime::new()
        .map_err(Into::into)
        .and_then(|runtime| {
            let outcome = runtime.block_on(commands::run(cli));
            // What still reads from a terminal must not keep the program alive.
            runtime.shutdown_background();
            outcome
        });
    match outcome {
        Ok(code) => code,
        Err(error) => {
            report(printer, &error);
            ExitCode::FAILURE
        }
    }
}

#[expect(
    clippy::print_stderr,
    reason = "this is where the program says why it failed"
)]
fn report(printer: Printer, error: &anyhow::Error) {
    let text = Chain(error.as_ref()).to_string();
    eprintln!("error: {text}");
    if printer.json() {
        let kind = error.downcast_ref().map(|error| Problem::from(error).kind);
        let mut line = serde_json::json!({ "error": text, "kind": kind }).to_string();
        line.push('\n');
        printer.raw(line.as_bytes());
    }
}
