use crate::census::Census;
use crate::tools::{self, Tool};
use crate::workspace::{Workspace, run};
use crate::{Result, applications, smoke, testbed};

/// One thing that `cargo xtask test` checks.
pub(crate) struct Step {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) tools: &'static [&'static Tool],
    pub(crate) run: fn(&Workspace) -> Result,
}

/// Every step, in the order of a whole run: the cheap ones and the likely failures first.
pub(crate) const ALL: &[Step] = &[
    Step {
        name: "format",
        about: "every source file is as rustfmt would write it",
        tools: &[&tools::RUSTFMT],
        run: |workspace| workspace.cargo("fmt --all --check"),
    },
    Step {
        name: "lint",
        about: "clippy finds nothing, with all features, one machine's, and none",
        tools: &[&tools::CLIPPY],
        run: lint,
    },
    Step {
        name: "dependencies",
        about: "licences, sources, and no crate twice or banned (deny.toml)",
        tools: &[&tools::CARGO_DENY],
        run: |workspace| {
            workspace.cargo("deny --all-features --workspace check bans licenses sources")
        },
    },
    Step {
        name: "tests",
        about: "unit and integration tests of all crates, and the examples in their documentation",
        tools: &[],
        // Naming targets would leave the example programs unbuilt that tests start.
        run: |workspace| workspace.cargo("test --workspace --all-features --no-fail-fast"),
    },
    Step {
        name: "docs",
        about: "the documentation builds without a warning",
        tools: &[],
        run: docs,
    },
    Step {
        name: "examples",
        about: "the Rust examples build, and so do the sample applications",
        tools: &[&tools::GO, &tools::NODE, &tools::PYTHON],
        run: examples,
    },
    Step {
        name: "smoke",
        about: "in a fresh clone, the README's first command serves examples/apps/hello",
        tools: &[&tools::GIT],
        run: smoke::first_command_in_a_fresh_clone,
    },
    Step {
        name: "applications",
        about: "podinfo, an npm server and a PyPI application, from source to removal, under load",
        tools: &[&tools::GO, &tools::NODE, &tools::PYTHON],
        run: applications::from_source_to_removal,
    },
    Step {
        name: "etcd",
        about: "the store on etcd, against real ones that are killed and started again",
        tools: &[&tools::ETCD],
        run: etcd,
    },
    Step {
        name: "kubernetes",
        about: "the backends on Kubernetes, against a real API server and a real node",
        tools: testbed::TOOLS,
        run: testbed::kubernetes,
    },
    Step {
        name: "operator-image",
        about: "the operator inside of a cluster, from the image that the platform builds of it",
        tools: testbed::TOOLS,
        run: testbed::operator_image,
    },
];

/// What is in the command line of each etcd that tests start.
const ETCD_TRACES: &[&str] = &["--name=tappaas-"];

/// Steps that a whole run leaves out; naming one runs it.
pub(crate) const ONLY_BY_NAME: &[&str] = &["operator-image"];

/// The named steps, or a whole run if none is named; always in the order of [`ALL`].
pub(crate) fn choose(names: &[&String]) -> Result<Vec<&'static Step>> {
    if let Some(name) = names
        .iter()
        .find(|name| ALL.iter().all(|step| step.name != name.as_str()))
    {
        return Err(format!("no step `{name}`; `cargo xtask help` lists them").into());
    }
    let wanted = |step: &&Step| {
        if names.is_empty() {
            !ONLY_BY_NAME.contains(&step.name)
        } else {
            names.iter().any(|name| name.as_str() == step.name)
        }
    };
    Ok(ALL.iter().filter(wanted).collect())
}

fn lint(workspace: &Workspace) -> Result {
    workspace.cargo("clippy --workspace --all-targets --all-features -- -D warnings")?;
    // Not among all targets, for they are no tests of `cargo test`.
    workspace.cargo(
        "clippy --workspace --all-features --test etcd --test cluster --test operator -- -D warnings",
    )?;
    workspace.cargo(
        "clippy --package tappaas --no-default-features --features machine -- -D warnings",
    )?;
    workspace.cargo("clippy --package tappaas --no-default-features -- -D warnings")
}

/// Its tests start what they need, and see to it that it ends.
fn etcd(workspace: &Workspace) -> Result {
    let census = Census::take(ETCD_TRACES);
    workspace.cargo("test --workspace --all-features --test etcd --no-fail-fast")?;
    census.nothing_since(ETCD_TRACES)
}

fn docs(workspace: &Workspace) -> Result {
    let arguments = ["doc", "--workspace", "--all-features", "--no-deps"];
    run(workspace
        .command("cargo")
        .args(arguments)
        .env("RUSTDOCFLAGS", "-D warnings"))
}

fn examples(workspace: &Workspace) -> Result {
    workspace.cargo("build --workspace --all-features --examples")?;
    let apps = workspace.root.join("examples/apps");
    run(workspace
        .command("go")
        .args(["vet", "./..."])
        .current_dir(apps.join("go")))?;
    run(workspace
        .command("node")
        .args(["--check", "server.js"])
        .current_dir(apps.join("node")))?;
    let sources = ["python/app.py", "worker/web.py", "worker/worker.py"];
    let bound = ["binding/api/app.py", "binding/front/app.py"];
    // Compiled files go to the target folder: the sample folders stay as they are in the clone.
    let compiled = workspace.target.join("pycache");
    let python = ["-m", "py_compile"].into_iter().chain(sources).chain(bound);
    run(workspace
        .command("python3")
        .args(python)
        .current_dir(apps)
        .env("PYTHONPYCACHEPREFIX", compiled))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names_of(steps: &[&Step]) -> Vec<&'static str> {
        steps.iter().map(|step| step.name).collect()
    }

    #[test]
    fn a_whole_run_leaves_out_only_what_is_listed() {
        let steps = choose(&[]).unwrap();
        assert_eq!(steps.len() + ONLY_BY_NAME.len(), ALL.len());
    }

    #[test]
    fn named_steps_run_in_the_order_of_the_whole_run() {
        let steps = choose(&[&"smoke".to_owned(), &"format".to_owned()]).unwrap();
        assert_eq!(names_of(&steps), ["format", "smoke"]);
    }

    #[test]
    fn an_unknown_step_is_refused_by_name() {
        let error = choose(&[&"formt".to_owned()]).err().unwrap();
        assert!(error.to_string().contains("`formt`"), "{error}");
    }

    #[test]
    fn only_steps_that_exist_are_left_out() {
        let known = names_of(&ALL.iter().collect::<Vec<_>>());
        assert!(ONLY_BY_NAME.iter().all(|name| known.contains(name)));
    }
}
