use std::collections::BTreeMap;

use tappaas_core::{Name, model::Command};

/// How a source is built and started.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(in crate::builder) struct Plan {
    /// What was found, for people.
    pub(in crate::builder) detected: String,
    /// What the stack must have.
    pub(in crate::builder) tools: Vec<Tool>,
    /// Run in this order, in the folder of the source.
    pub(in crate::builder) steps: Vec<Step>,
    /// What can be started, by name.
    pub(in crate::builder) processes: BTreeMap<Name, Command>,
    /// The environment of every process, and of the steps.
    pub(in crate::builder) environment: BTreeMap<&'static str, String>,
    /// Folders that come first in `PATH`.
    pub(in crate::builder) path: Vec<&'static str>,
    /// What the image needs beneath it.
    pub(in crate::builder) ground: Ground,
}

/// What an image needs beneath it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(in crate::builder) enum Ground {
    /// The stack.
    #[default]
    Stack,
    /// Nothing: it is this folder of the source, with the file server in it.
    FileServer {
        /// Relative; empty for all of the source.
        folder: &'static str,
    },
    /// Nothing: it is the programs that the build puts into `bin`, which need no C library of a stack.
    Alone,
    /// As the file server's, with the folder that the build puts an `index.html` into.
    Built,
}

/// A program that the stack must have.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::builder) struct Tool {
    /// The program.
    pub(in crate::builder) program: &'static str,
    /// What people call it, and what asks for it: `Go (go.mod says 1.26)`.
    pub(in crate::builder) shown: String,
}

/// One command of a build.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::builder) struct Step {
    /// Names it in the log.
    pub(in crate::builder) name: &'static str,
    /// What is run.
    pub(in crate::builder) command: Command,
    /// It may fail.
    pub(in crate::builder) optional: bool,
}

impl Step {
    /// A program and its arguments, executed directly.
    pub(super) fn exec(name: &'static str, command: &[&str]) -> Self {
        Self {
            name,
            command: Command::Exec(command.iter().map(|word| (*word).to_owned()).collect()),
            optional: false,
        }
    }
}

impl Tool {
    pub(super) fn new(program: &'static str, shown: impl Into<String>) -> Self {
        Self {
            program,
            shown: shown.into(),
        }
    }
}
