use crate::Result;
use crate::testbed;
use crate::workspace::{Workspace, run};

/// Simulated power cuts.
const SEEDS: &str = "10000";
/// Rounds of killing a process that writes, and of killing the server.
const KILLS: &str = "500";
/// Steps of a deploy at which the server is killed: from the first one on, every one.
const STEPS: &str = "1/1";
/// Random moments at which the server is killed: where they are drawn from, and how many.
const MOMENTS: &str = "1/100";
/// Random cases of each property.
const CASES: &str = "20000";
/// Random walks of a whole platform from state to state.
const WALKS: &str = "2000";

/// The long runs: what every `cargo xtask test` does a little of, in full numbers.
pub(crate) fn run_all(workspace: &Workspace) -> Result {
    let torture = "test --release --package tappaas-store --test torture --";
    workspace.cargo(&format!("{torture} power-cut {SEEDS}"))?;
    workspace.cargo(&format!("{torture} kill {KILLS}"))?;
    let with = |arguments: &str, variables: &[(&str, &str)]| {
        let mut command = workspace.command("cargo");
        run(command
            .args(arguments.split(' '))
            .envs(variables.iter().copied()))
    };
    with(
        "test --package tappaas --all-features --test it acknowledged -- --nocapture",
        &[("TAPPAAS_KILLS", KILLS)],
    )?;
    with(
        "test --package tappaas --all-features --test it killed_at_any -- --nocapture",
        &[("TAPPAAS_STEPS", STEPS), ("TAPPAAS_MOMENTS", MOMENTS)],
    )?;
    with(
        "test --release --package tappaas-core --test it placement",
        &[("PROPTEST_CASES", CASES)],
    )?;
    with(
        "test --release --package tappaas-testkit --test it sieve",
        &[("SIEVE", "all"), ("PROPTEST_CASES", WALKS)],
    )?;
    testbed::operator_image(workspace)
}
