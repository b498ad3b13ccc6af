//! What a testbed consists of, built once for every checkout.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use crate::Result;
use crate::samples::module_folder;
use crate::tools;
use crate::workspace::{Workspace, run};

/// How many builds besides the newest are kept, each of 400 MB: other checkouts may use them.
const KEPT: usize = 2;
/// What is younger may still be being built.
const UNFINISHED_MAX: Duration = Duration::from_hours(24);
/// The module with Kubernetes and what starts it, below the checkout.
const MODULE: &str = "testbed/kubernetes";
/// The one with what answers for names, and how that is set up.
const NAMES: &str = "testbed/dns";
const NAMES_SETTINGS: &str = "Corefile";
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
/// Begins to build what [`kubernetes`](super::kubernetes) needs while other steps wait for something: only with what the machine has to spare.
pub(crate) fn build_meanwhile(workspace: &Workspace) -> Result {
    let place = workspace.cache.join("testbed").join(key(workspace)?);
    if place.exists() {
        return Ok(());
    }
    fs::create_dir_all(&workspace.target)?;
    let log = workspace.target.join("testbed-build.log");
    println!(
        "Building the testbed's programs meanwhile; see {}",
        log.display()
    );
    let log = File::create(log)?;
    let mut build = workspace.command("chrt");
    build.args(["--idle", "0"]).arg(this_program()?);
    build.args(["testbed", "build"]).stdin(Stdio::null());
    // Whoever needs them waits for its lock, and builds them itself if this failed.
    build.stdout(log.try_clone()?).stderr(log).spawn()?;
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "it starts itself once more")]
fn this_program() -> Result<PathBuf> {
    Ok(std::env::current_exe()?)
}

/// The folder with them, which other checkouts use, too.
pub(super) fn programs(workspace: &Workspace) -> Result<PathBuf> {
    let place = workspace.cache.join("testbed").join(key(workspace)?);
    fs::create_dir_all(workspace.cache.join("testbed"))?;
    let lock = File::create(place.with_extension("lock"))?;
    lock.lock()?;
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
    fs::rename(&draft, &place)?;
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
        if path != place && path.is_dir() {
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
    let names = workspace.root.join(NAMES);
    for folder in [module.join("pause"), module.join("programs"), module, names] {
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
    let go = |module: &str, arguments: &[&str]| {
        let mut command = workspace.command("go");
        command.current_dir(workspace.root.join(module));
        command.args(arguments).env("CGO_ENABLED", "0");
        command.env("GOBIN", draft);
        command
    };
    for (name, module, package) in [
        ("testbed", MODULE, "."),
        ("pause", MODULE, "./pause"),
        ("programs", MODULE, "./programs"),
        ("dns", NAMES, "."),
    ] {
        let words = ["build", "-trimpath", "-ldflags", LINKER, "-o"];
        run(go(module, &words).arg(draft.join(name)).arg(package))?;
    }
    let settings = workspace.root.join(NAMES).join(NAMES_SETTINGS);
    fs::copy(settings, draft.join(NAMES_SETTINGS))?;
    for program in PROGRAMS {
        let words = ["install", "-trimpath", "-ldflags", "-s -w", program];
        run(&mut go(MODULE, &words))?;
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
