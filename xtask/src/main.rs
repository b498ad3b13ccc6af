//! Developer tasks of the workspace. `cargo xtask help` says what there is.
//!
//! Standard library only, so that the first task starts within seconds of a fresh clone.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the terminal is this program's only surface"
)]

mod applications;
mod bench;
mod census;
mod http;
mod load;
mod platform;
mod report;
mod samples;
mod scratch;
mod smoke;
mod soak;
mod steps;
mod switch;
mod testbed;
mod tools;
mod waiting;
mod workspace;

use std::error::Error;
use std::process::ExitCode;

use workspace::Workspace;

/// What every task answers; the text of the error is for the developer.
type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Result {
    let asks = |word: &String| ["help", "-h", "--help"].contains(&word.as_str());
    match arguments.split_first() {
        Some((task, rest)) if task == "test" && !rest.iter().any(asks) => test(rest),
        Some((task, rest)) if task == "soak" && rest.is_empty() => {
            soak::run_all(&Workspace::from_environment())
        }
        Some((task, rest))
            if task == "bench" && rest.first().is_some_and(|name| name == "switch") =>
        {
            let amount = switch::Amount::of(&rest[1..])?;
            switch::run_all(&Workspace::from_environment(), amount)
        }
        Some((task, rest)) if task == "bench" && !rest.iter().any(asks) => {
            bench::run(&Workspace::from_environment(), rest)
        }
        Some((task, rest)) if task == "testbed" && !rest.iter().any(asks) => {
            testbed::run_verb(&Workspace::from_environment(), rest)
        }
        Some((task, _))
            if !["test", "soak", "bench", "testbed"].contains(&task.as_str()) && !asks(task) =>
        {
            Err(format!("no task `{task}`; `cargo xtask help` lists them").into())
        }
        _ => {
            help();
            Ok(())
        }
    }
}

fn test(arguments: &[String]) -> Result {
    let (flags, names): (Vec<_>, Vec<_>) = arguments.iter().partition(|word| word.starts_with('-'));
    if let Some(flag) = flags.iter().find(|flag| flag.as_str() != "--yes") {
        return Err(format!("`test` has no option `{flag}`; `cargo xtask help` lists them").into());
    }
    let workspace = Workspace::from_environment();
    let chosen = steps::choose(&names)?;
    let may_install = !flags.is_empty() || workspace.unattended;
    let needed = chosen.iter().flat_map(|step| step.tools).copied();
    tools::provide(&workspace, needed, may_install)?;
    if chosen.len() > 1 && chosen.iter().any(|step| step.name == "kubernetes") {
        testbed::build_meanwhile(&workspace)?;
    }
    report::run_all(&workspace, &chosen)
}

fn help() {
    println!("cargo xtask test [--yes] [STEP]...   check everything, or only the steps named\n");
    println!(
        "cargo xtask soak                     the long runs: full numbers of seeds, cases and kills\n"
    );
    println!("cargo xtask bench [--yes] [--write] [--rounds N] [NAME]...");
    println!(
        "                                     measure ours beside the peers'; --write makes docs/figures.md anew\n"
    );
    println!(
        "cargo xtask bench switch             podinfo under load through 100 deploys, crashes and upgrades: what fails\n"
    );
    println!("cargo xtask testbed up [--nodes N] | down | status | build | applications");
    println!(
        "                                     a Kubernetes cluster with one real node and N simulated ones\n"
    );
    println!(
        "`test`, `bench` and `testbed` first print what they would have to install, and ask; --yes or CI=true agree.\n"
    );
    for step in steps::ALL {
        let alone = if steps::ONLY_BY_NAME.contains(&step.name) {
            " (only by name)"
        } else {
            ""
        };
        println!("  {:<14} {}{alone}", step.name, step.about);
    }
    println!("\nBenchmarks:\n");
    for benchmark in bench::ALL {
        println!("  {:<14} {}", benchmark.name, benchmark.about);
    }
}
