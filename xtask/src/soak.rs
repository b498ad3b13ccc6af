use crate::Result;
use crate::workspace::{Workspace, run};

/// Simulated power cuts.
const SEEDS: &str = "10000";
/// Rounds of killing a process that writes, and of killing the server.
const KILLS: &str = "500";
/// Random cases of each property.
const CASES: &str = "20000";

/// The long runs: what every `cargo xtask test` does a little of, in full numbers.
pub(crate) fn run_all(workspace: &Workspace) -> Result {
    let torture = "test --release --package tappaas-store --test torture --";
    workspace.cargo(&format!("{torture} power-cut {SEEDS}"))?;
    workspace.cargo(&format!("{torture} kill {KILLS}"))?;
    let server = "test --package tappaas --all-features --test it acknowledged -- --nocapture";
    run(workspace
        .command("cargo")
        .args(server.split(' '))
        .env("TAPPAAS_KILLS", KILLS))?;
    let properties = "test --release --package tappaas-core --test it placement";
    run(workspace
        .command("cargo")
        .args(properties.split(' '))
        .env("PROPTEST_CASES", CASES))
}
