use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Result;

/// The checkout this program was built from, and what the environment says about it.
#[derive(Clone, Debug)]
pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    pub(crate) target: PathBuf,
    /// What all checkouts on this machine share.
    pub(crate) cache: PathBuf,
    /// `CI=true`: nobody is there to answer a question.
    pub(crate) unattended: bool,
}

impl Workspace {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the environment"
    )]
    pub(crate) fn from_environment() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let root = root.canonicalize().unwrap_or(root);
        let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
        let home = || std::env::home_dir().map(|home| home.join(".cache"));
        let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(home, |path| Some(path.into()));
        let target = root.join(target);
        Self {
            cache: cache.map_or_else(|| target.join("cache"), |cache| cache.join("tappaas")),
            target,
            unattended: std::env::var_os("CI").is_some_and(|value| value == "true"),
            root,
        }
    }

    /// A command that starts in the root of the checkout.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.root);
        command
    }

    /// Runs `cargo` with `arguments`, written as one would type them; no argument holds a space.
    pub(crate) fn cargo(&self, arguments: &str) -> Result {
        run(self.command("cargo").args(arguments.split_whitespace()))
    }
}

/// Runs a command on this terminal, after showing it; anything but success is an error.
pub(crate) fn run(command: &mut Command) -> Result {
    let line = line_of(command);
    println!("$ {line}");
    let status = command
        .status()
        .map_err(|error| format!("cannot start `{line}`: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("`{line}` failed: {status}").into())
    }
}

fn line_of(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_fails_is_an_error_that_names_it() {
        let error = run(Command::new("false").arg("--now")).unwrap_err();
        assert_eq!(error.to_string(), "`false --now` failed: exit status: 1");
    }

    #[test]
    fn a_command_that_does_not_exist_is_an_error_that_names_it() {
        let error = run(&mut Command::new("no-such-program-here")).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("cannot start `no-such-program-here`"),
            "{error}"
        );
    }
}
