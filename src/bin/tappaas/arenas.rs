use std::{env, os::unix::process::CommandExt as _, process::Command, thread};

use crate::place;

/// Starts this program anew in its own place, with as many arenas as cores unless the environment says how many.
///
/// By default glibc's threads share eight arenas a core, each of which keeps what was freed in it: with 10,000 applications that was a
/// third of the server's memory.
pub(crate) fn limit() {
    if place::has_arenas() {
        return;
    }
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let mut arguments = env::args_os();
    let mut command = Command::new("/proc/self/exe");
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    // This only returns if it fails, and then the program goes on as it is.
    let _ = command
        .args(arguments)
        .env(place::ARENAS, cores.to_string())
        .exec();
}
