use std::{
    collections::{BTreeMap, HashMap},
    ffi::CString,
    io::Write,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::PermissionsExt,
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use libcontainer::{
    oci_spec::runtime::Spec as OciSpec,
    workload::{Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError},
};
use nix::errno::Errno;
use rustix::termios::{Winsize, tcsetwinsize};
use tappaas_core::model::EnvValue;

use crate::sandbox::Filter;

/// The last steps inside the sandbox: join the control groups, bind to the system call filter, execute.
///
/// The environment comes from here, so that it is in no file that `libcontainer` reads or writes.
#[derive(Clone)]
pub(crate) struct Launch {
    pub(crate) command: Vec<String>,
    /// The size of the terminal that the command runs on, if it does.
    pub(crate) terminal: Option<(u16, u16)>,
    pub(crate) environment: BTreeMap<String, EnvValue>,
    pub(crate) filter: Arc<Filter>,
    /// See [`super::Cgroup::doors`].
    pub(crate) doors: Arc<Vec<OwnedFd>>,
    /// Receives the reason of a failure. Closed without a word by a successful execution.
    pub(crate) failure: Arc<OwnedFd>,
}

impl Launch {
    fn run(&self) -> Result<(), String> {
        let environment = self.environment()?;
        let program = self.program()?;
        let words = self.command.iter().map(|word| CString::new(word.as_str()));
        let words: Vec<_> = words
            .collect::<Result<_, _>>()
            .map_err(|_| "the command contains a NUL".to_owned())?;
        for door in self.doors.iter() {
            rustix::io::write(door, b"0")
                .map_err(|error| format!("cannot join the control group: {error}"))?;
        }
        if let Some(size) = self.terminal {
            resize(std::io::stdin(), size)
                .map_err(|error| format!("cannot size the terminal: {error}"))?;
        }
        self.filter
            .install()
            .map_err(|error| format!("cannot install the system call filter: {error}"))?;
        let Err(errno) = nix::unistd::execve(&program, &words, &environment);
        Err(self.explain(errno, &program))
    }

    fn environment(&self) -> Result<Vec<CString>, String> {
        let pair = |(name, value): (&String, &EnvValue)| {
            CString::new(format!("{name}={}", value.expose()))
                .map_err(|_| format!("{name} contains a NUL"))
        };
        self.environment.iter().map(pair).collect()
    }

    /// Finds the program as `execvp` would.
    fn program(&self) -> Result<CString, String> {
        let name = self.command.first().ok_or("there is no command")?;
        let found = if name.contains('/') {
            PathBuf::from(name)
        } else {
            self.search(name)?
        };
        CString::new(found.into_os_string().into_encoded_bytes())
            .map_err(|_| "the program contains a NUL".to_owned())
    }

    fn search(&self, name: &str) -> Result<PathBuf, String> {
        let path = self
            .environment
            .get("PATH")
            .map_or(DEFAULT_PATH, EnvValue::expose);
        let executable = |path: &PathBuf| {
            path.metadata()
                .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
        };
        path.split(':')
            .map(|folder| Path::new(folder).join(name))
            .find(executable)
            .ok_or_else(|| format!("the program {name} is in none of the folders of PATH ({path})"))
    }

    fn explain(&self, errno: Errno, program: &CString) -> String {
        let program = program.to_string_lossy();
        match errno {
            Errno::ENOENT if Path::new(&*program).exists() => {
                format!(
                    "cannot execute {program}: the interpreter or loader that it names does not exist"
                )
            }
            Errno::ENOENT => format!("the program {program} does not exist"),
            Errno::EACCES => format!(
                "cannot execute {program}: it is not an executable file that user {} may run",
                nix::unistd::getuid()
            ),
            Errno::ENOEXEC => format!(
                "cannot execute {program}: it is no program of this machine, nor a script that names its interpreter"
            ),
            other => format!("cannot execute {program}: {}", other.desc()),
        }
    }
}

/// Tells whoever is on a terminal its size, in columns and rows.
pub(crate) fn resize(terminal: impl AsFd, (columns, rows): (u16, u16)) -> std::io::Result<()> {
    let size = Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    Ok(tcsetwinsize(terminal, size)?)
}

/// What a container has without any `PATH`.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl Executor for Launch {
    fn exec(&self, _: &OciSpec) -> Result<(), ExecutorError> {
        let Err(reason) = self.run() else {
            return Ok(());
        };
        if let Ok(pipe) = self.failure.try_clone() {
            std::fs::File::from(pipe).write_all(reason.as_bytes()).ok();
        }
        Err(ExecutorError::Other(reason))
    }

    fn validate(&self, _: &OciSpec) -> Result<(), ExecutorValidationError> {
        Ok(())
    }

    fn setup_envs(&self, _: HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        Ok(())
    }
}
