use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::Result;
use crate::census::Census;
use crate::samples::module_folder;
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

/// How many builds besides the newest are kept, each of 400 MB: other checkouts may use them.
const KEPT: usize = 2;
/// What is younger may still be being built.
const UNFINISHED_MAX: Duration = Duration::from_hours(24);
/// Simulated nodes of the step's cluster.
const SIMULATED: &str = "3";
/// What is in the command lines of its processes.
const TRACES: &[&str] = &[STEPS];
/// The module with Kubernetes and what starts it, below the checkout.
const MODULE: &str = "testbed/kubernetes";
/// Kubernetes asks the linker which version it is; `go.mod` has it once more.
const LINKER: &str = "-s -w -X k8s.io/component-base/version.gitVersion=v1.36.3 \
    -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=36";
/// Programs whose requirements cannot be met together with those of Kubernetes.
const PROGRAMS: [&str; 2] = [
    "sigs.k8s.io/kwok/cmd/kwok@v0.8.0",
    "github.com/projectcontour/contour/cmd/contour@v1.33.8",
];
/// Files of modules: the module, where they are in it, and the folder that they are put in.
const FILES: [(&str, &str, &str); 5] = [
    (
        "sigs.k8s.io/gateway-api@v1.3.0",
        "config/crd/experimental",
        "gateway-crds",
    ),
    (
        "github.com/projectcontour/contour@v1.33.8",
        "examples/contour/01-crds.yaml",
        "contour-crds",
    ),
    (KWOK, "kustomize/stage/node/fast", STAGES),
    (KWOK, "kustomize/stage/node/heartbeat-with-lease", STAGES),
    (KWOK, "kustomize/stage/pod/fast", STAGES),
];
const KWOK: &str = "sigs.k8s.io/kwok@v0.8.0";
const STAGES: &str = "kwok-stages";
/// Below the target folder: where the cluster of whoever types `testbed up` is, and where that of the step.
const OWN: &str = "testbed";
const STEPS: &str = "testbed-of-tests";

/// `cargo xtask testbed up [--nodes N] | down | status`.
pub(crate) fn run_verb(workspace: &Workspace, arguments: &[String]) -> Result {
    let (verb, options) = arguments
        .split_first()
        .ok_or("`testbed` needs one of: up, down, status")?;
    let testbed = Testbed::of(workspace, OWN);
    match (verb.as_str(), options) {
        ("up", options) => {
            tools::provide(workspace, TOOLS.iter().copied(), workspace.unattended)?;
            testbed.up(workspace, options)
        }
        ("down", []) => testbed.down(),
        ("status", []) => match testbed.programs()? {
            Some(programs) => testbed.run(&programs, "status", &[]),
            None => Err("no testbed runs here: `cargo xtask testbed up` starts one".into()),
        },
        ("down" | "status", [option, ..]) => {
            Err(format!("`testbed {verb}` has no option `{option}`").into())
        }
        _ => Err(format!("`testbed` has no verb `{verb}`; there are up, down, status").into()),
    }
}

/// The step: a cluster of its own for the tests that need one, gone without a trace afterwards.
pub(crate) fn kubernetes(workspace: &Workspace) -> Result {
    let testbed = Testbed::of(workspace, STEPS);
    // What a run before left that was cut off.
    testbed.down()?;
    let census = Census::take(TRACES);
    testbed.up(workspace, &["--nodes".into(), SIMULATED.into()])?;
    let mut tests = workspace.command("cargo");
    tests.args(["test", "--package", "tappaas-k8s", "--test", "cluster"]);
    let tested = run(tests.env("TAPPAAS_TESTBED", testbed.facts()));
    // Whole platforms, of which a cluster has one at a time.
    let mut operators = workspace.command("cargo");
    operators.args(["test", "--package", "tappaas", "--all-features"]);
    operators.args(["--test", "operator", "--", "--test-threads=1"]);
    let tested = tested.and_then(|()| run(operators.env("TAPPAAS_TESTBED", testbed.facts())));
    let traces = testbed.traces()?;
    let gone = testbed.down().and_then(|()| nothing_of(&traces));
    // Why the tests failed comes first: what they left may follow from it.
    tested?;
    gone?;
    census.nothing_since(TRACES)
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

fn programs(workspace: &Workspace) -> Result<PathBuf> {
    let place = workspace.cache.join("testbed").join(key(workspace)?);
    if place.exists() {
        return Ok(place);
    }
    println!("Building the testbed's programs: about a quarter of an hour on two cores, once.");
    let draft = place.with_extension(format!("new-{}", std::process::id()));
    fs::create_dir_all(&draft)?;
    if let Err(error) = build(workspace, &draft) {
        fs::remove_dir_all(&draft)?;
        return Err(error);
    }
    if let Err(error) = fs::rename(&draft, &place) {
        fs::remove_dir_all(&draft)?;
        // Another checkout may have been faster, and have made the same.
        if !place.exists() {
            return Err(error.into());
        }
    }
    forget_others(&place)?;
    Ok(place)
}

/// Keeps what was built last, and what is not finished nor a day old.
fn forget_others(place: &Path) -> Result {
    let all = place.parent().ok_or("a folder without a parent")?;
    let age = |path: &Path| -> Result<Duration> { Ok(fs::metadata(path)?.modified()?.elapsed()?) };
    let mut others = Vec::new();
    for entry in fs::read_dir(all)?.flatten() {
        let path = entry.path();
        if path != place {
            others.push((age(&path).unwrap_or_default(), path));
        }
    }
    others.sort();
    for (index, (age, path)) in others.iter().enumerate() {
        if index >= KEPT && *age > UNFINISHED_MAX {
            fs::remove_dir_all(path)?;
        }
    }
    Ok(())
}

/// Other sources or another toolchain make other programs.
fn key(workspace: &Workspace) -> Result<String> {
    let mut hasher = DefaultHasher::new();
    (LINKER, PROGRAMS, FILES, tools::ENVOY_WHEEL).hash(&mut hasher);
    let version = workspace.command("go").arg("version").output()?;
    version.stdout.hash(&mut hasher);
    let module = workspace.root.join(MODULE);
    for folder in [module.join("pause"), module.join("programs"), module] {
        for path in files(&folder)? {
            path.file_name().hash(&mut hasher);
            fs::read(path)?.hash(&mut hasher);
        }
    }
    Ok(format!("{:016x}", hasher.finish()))
}

/// The files of a folder, or the one file that it is, in order of their names.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    if folder.is_file() {
        return Ok(vec![folder.to_owned()]);
    }
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let paths = entries.flatten().map(|entry| entry.path());
    let mut files: Vec<_> = paths.filter(|path| path.is_file()).collect();
    files.sort();
    Ok(files)
}

fn build(workspace: &Workspace, draft: &Path) -> Result {
    let go = |arguments: &[&str]| {
        let mut command = workspace.command("go");
        command.current_dir(workspace.root.join(MODULE));
        command.args(arguments).env("CGO_ENABLED", "0");
        command.env("GOBIN", draft);
        command
    };
    for (name, package) in [
        ("testbed", "."),
        ("pause", "./pause"),
        ("programs", "./programs"),
    ] {
        run(go(&["build", "-trimpath", "-ldflags", LINKER, "-o"])
            .arg(draft.join(name))
            .arg(package))?;
    }
    for program in PROGRAMS {
        run(&mut go(&[
            "install",
            "-trimpath",
            "-ldflags",
            "-s -w",
            program,
        ]))?;
    }
    for (module, from, to) in FILES {
        let (module, to) = (module_folder(module, draft)?, draft.join(to));
        fs::create_dir_all(&to)?;
        for path in files(&module.join(from))? {
            let name = path.file_name().ok_or("a file without a name")?;
            if name != "kustomization.yaml" {
                fs::copy(&path, to.join(name))?;
            }
        }
    }
    fs::copy(
        workspace.root.join(tools::ENVOY_PROGRAM),
        draft.join("envoy"),
    )?;
    Ok(())
}
