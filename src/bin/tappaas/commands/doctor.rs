use anyhow::{Context as _, Result};
use tappaas::local::{Finding, Report, State};

use crate::{output::Printer, place};

/// Says what this machine allows, and how to get more.
pub(super) async fn doctor(printer: Printer) -> Result<()> {
    let scratch = tempfile::tempdir().context("cannot make a temporary folder")?;
    let report = Report::of_this_machine(&place::program()?, scratch.path()).await?;
    printer.value(&report, |report| show(printer, report))
}

fn show(printer: Printer, report: &Report) {
    let user = if report.root { "root" } else { "a plain user" };
    printer.line(format_args!("Linux {}, as {user}", report.kernel));
    let findings = [
        ("sandboxes", &report.namespaces),
        ("images", &report.overlay),
        ("system calls", &report.seccomp),
        ("limits", &report.limits),
        ("network", &report.network),
    ];
    for (what, finding) in findings {
        line(printer, what, finding);
    }
    match report.isolation() {
        Ok(_) => printer.line("applications can run here"),
        Err(error) => printer.line(error),
    }
}

fn line(printer: Printer, what: &str, finding: &Finding) {
    let mark = match finding.state {
        State::Ok => "✓",
        State::Limited => "!",
        State::Missing => "✗",
    };
    printer.line(format_args!("{mark} {what:<14} {}", finding.detail));
    if let Some(remedy) = &finding.remedy {
        printer.line(format_args!("  {:<14} → {remedy}", ""));
    }
}
