mod cluster;
mod programs;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) use cluster::{Cluster, table};
pub(crate) use programs::build_meanwhile;
use programs::programs;

use crate::Result;
use crate::applications::in_a_cluster;
use crate::census::Census;
use crate::tools::{self, Tool};
use crate::workspace::{Workspace, run};

/// What it takes to build a testbed, and to run one.
pub(crate) const TOOLS: &[&Tool] = &[
    &tools::CNI,
    &tools::CONTAINERD,
    &tools::ENVOY,
    &tools::GO,
    &tools::IPTABLES,
    &tools::NFT,
    &tools::PIP,
    &tools::RUNC,
];

/// Simulated nodes of the step's cluster.
const SIMULATED: &str = "3";
const NOT_UP: &str = "no testbed runs here: `cargo xtask testbed up` starts one";
/// The module of tests that takes ten minutes to build an image first.
const INSIDE: &str = "inside";
/// Below the target folder: where the cluster of whoever types `testbed up` is, that of the steps, and that of a benchmark. A path is in the
/// command lines of a cluster's processes.
const OWN: &str = "testbed";
const STEPS: &str = "testbed-of-tests";
const FIGURES: &str = "testbed-of-figures";

/// `cargo xtask testbed up [--nodes N] | down | status | build | applications`.
pub(crate) fn run_verb(workspace: &Workspace, arguments: &[String]) -> Result {
    let (verb, options) = arguments
        .split_first()
        .ok_or("`testbed` needs one of: up, down, status, build, applications")?;
    let testbed = Testbed::of(workspace, OWN);
    match (verb.as_str(), options) {
        ("up", options) => {
            tools::provide(workspace, TOOLS.iter().copied(), workspace.unattended)?;
            testbed.up(workspace, options)
        }
        ("down", []) => testbed.down(),
        ("status", []) => match testbed.programs()? {
            Some(programs) => testbed.run(&programs, "status", &[]),
            None => Err(NOT_UP.into()),
        },
        ("build", []) => {
            tools::provide(workspace, TOOLS.iter().copied(), workspace.unattended)?;
            programs(workspace).map(drop)
        }
        ("applications", []) => match testbed.programs()? {
            Some(_) => in_a_cluster(workspace, &testbed.cluster()?),
            None => Err(NOT_UP.into()),
        },
        ("build" | "down" | "status" | "applications", [option, ..]) => {
            Err(format!("`testbed {verb}` has no option `{option}`").into())
        }
        _ => Err(format!(
            "`testbed` has no verb `{verb}`; there are up, down, status, build, applications"
        )
        .into()),
    }
}

/// The step: the tests that need a cluster, and an application's whole life in one.
pub(crate) fn kubernetes(workspace: &Workspace) -> Result {
    in_a_testbed(workspace, |testbed| {
        let mut tests = workspace.command("cargo");
        tests.args(["test", "--workspace", "--all-features", "--test", "cluster"]);
        run(tests.env("TAPPAAS_TESTBED", testbed.facts()))?;
        operators(workspace, testbed, &["--skip", INSIDE])?;
        in_a_cluster(workspace, &testbed.cluster()?)
    })
}

/// The step: an operator inside of a cluster, from the image that the platform builds of these sources.
pub(crate) fn operator_image(workspace: &Workspace) -> Result {
    in_a_testbed(workspace, |testbed| {
        operators(workspace, testbed, &[INSIDE])
    })
}

/// Tests of whole platforms, each with an installation of its own.
fn operators(workspace: &Workspace, testbed: &Testbed, which: &[&str]) -> Result {
    let mut operators = workspace.command("cargo");
    operators.args(["test", "--workspace", "--all-features"]);
    operators.args(["--test", "operator", "--", "--test-threads=2"]);
    run(operators
        .args(which)
        .env("TAPPAAS_TESTBED", testbed.facts()))
}

/// Measures something in a cluster of its own, given the file that tells where everything is.
pub(crate) fn for_figures<T>(
    workspace: &Workspace,
    nodes: &str,
    measure: impl FnOnce(&Path) -> Result<T>,
) -> Result<T> {
    in_one(workspace, FIGURES, nodes, |testbed| {
        measure(&testbed.facts())
    })
}

/// Does something with the steps' cluster.
fn in_a_testbed(workspace: &Workspace, work: impl FnOnce(&Testbed) -> Result) -> Result {
    in_one(workspace, STEPS, SIMULATED, work)
}

/// Does something with a cluster of its own, gone without a trace afterwards.
fn in_one<T>(
    workspace: &Workspace,
    folder: &str,
    nodes: &str,
    work: impl FnOnce(&Testbed) -> Result<T>,
) -> Result<T> {
    let testbed = Testbed::of(workspace, folder);
    // What a run before left that was cut off.
    testbed.down()?;
    let traces_of = [folder];
    let census = Census::take(&traces_of);
    testbed.up(workspace, &["--nodes".into(), nodes.into()])?;
    let done = work(&testbed);
    let traces = testbed.traces()?;
    let gone = testbed.down().and_then(|()| nothing_of(&traces));
    // Why the work failed comes first: what it left may follow from it.
    let done = done?;
    gone?;
    census.nothing_since(&traces_of)?;
    Ok(done)
}

/// The machine's census leaves clusters out, since there may be others.
fn nothing_of(traces: &[PathBuf]) -> Result {
    match traces.iter().find(|path| path.exists()) {
        None => Ok(()),
        Some(path) => Err(format!("left behind: {}", path.display()).into()),
    }
}

/// A cluster of this checkout.
struct Testbed {
    folder: PathBuf,
}

impl Testbed {
    fn of(workspace: &Workspace, folder: &str) -> Self {
        Self {
            folder: workspace.target.join(folder),
        }
    }

    /// Builds its programs, unless a checkout on this machine has done so, and starts it.
    fn up(&self, workspace: &Workspace, options: &[String]) -> Result {
        if !tools::is_root() {
            return Err("only root can start a testbed: its node makes namespaces".into());
        }
        self.run(&programs(workspace)?, "up", options)
    }

    fn down(&self) -> Result {
        match self.programs()? {
            Some(programs) => self.run(&programs, "down", &[]),
            None => Ok(()),
        }
    }

    fn run(&self, programs: &Path, verb: &str, options: &[String]) -> Result {
        let mut command = Command::new(programs.join("testbed"));
        command.arg(verb).arg("--dir").arg(&self.folder);
        run(command.arg("--programs").arg(programs).args(options))
    }

    /// The file that tells tests where everything is.
    fn facts(&self) -> PathBuf {
        self.folder.join("testbed.json")
    }

    /// What is to be known of it by who uses it.
    fn cluster(&self) -> Result<Cluster> {
        Ok(Cluster {
            program: Path::new(&self.fact("programs")?).join("testbed"),
            kubeconfig: self.fact("kubeconfig")?.into(),
            gateway: self
                .fact("gateway")?
                .trim_start_matches("http://")
                .parse()?,
            host: self.fact("host")?.parse()?,
            registries: self.fact("registries")?.into(),
        })
    }

    /// Those that it was started with, if it was: the checkout may have others by now, or none that can be built.
    fn programs(&self) -> Result<Option<PathBuf>> {
        match self.facts().exists() {
            true => Ok(Some(self.fact("programs")?.into())),
            false => Ok(None),
        }
    }

    /// What there is of it outside of its namespaces.
    fn traces(&self) -> Result<Vec<PathBuf>> {
        let mut traces = vec![Path::new("/sys/class/net").join(self.fact("device")?)];
        let (root, group) = (Path::new("/sys/fs/cgroup"), self.fact("group")?);
        traces.push(root.join(&group));
        let hierarchies = fs::read_dir(root)?.flatten();
        traces.extend(hierarchies.map(|hierarchy| hierarchy.path().join(&group)));
        Ok(traces)
    }

    fn fact(&self, name: &str) -> Result<String> {
        let facts = fs::read_to_string(self.facts())?;
        let missing = || format!("testbed.json does not tell its {name}");
        let (_, rest) = facts
            .split_once(&format!("\"{name}\": \""))
            .ok_or_else(missing)?;
        let (fact, _) = rest.split_once('"').ok_or_else(missing)?;
        Ok(fact.to_owned())
    }
}
