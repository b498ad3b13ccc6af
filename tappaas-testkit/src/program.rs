use std::time::Duration;

/// What a process does that a suite wants to run. A fixture makes a template for it.
///
/// Except for [`Program::Exit`] and [`Program::EatMemory`] every program runs until it gets its stop signal; then it writes
/// `got SIGTERM`, or the other signal's name, and `bye` to standard output and exits with 0.
///
/// The instance also has the commands `cat`, `echo`, `env`, `false`, `id`, `rm`, `sleep`, `tee` and `true`, as coreutils has them, and may write
/// below `/tmp`.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Program {
    /// Listens on no port.
    Idle,
    /// Listens on the port of the environment variable `PORT`, and answers every GET with 200 and the body `NAME PATH`, after `latency`.
    Serve {
        /// The name.
        name: String,
        /// How long each answer takes.
        latency: Duration,
    },
    /// Listens on this port, whatever `PORT` says, and answers every GET with 200 and the body `found PATH`.
    ServeElsewhere(u16),
    /// Writes this environment variable as a line `NAME=value` to standard output, and listens on no port.
    PrintVariable(String),
    /// Writes `started` to standard output and exits with this code.
    Exit(i32),
    /// Ignores its stop signal. Listens on no port.
    IgnoreStop,
    /// Goes on for so long between `got SIGTERM` and `bye`. Listens on no port.
    SlowStop(Duration),
    /// Takes memory until it is killed for it.
    EatMemory,
}
