use std::{ffi::OsString, path::Path, process::exit};

/// First argument of a shim; the instance's folder follows. It shows in process lists, and tells whose a process is that was
/// cloned from a shim and has not executed anything yet.
pub(crate) const SHIM: &str = "__shim";
/// First argument of a process that tries what this machine allows and prints it.
pub(crate) const PROBE: &str = "__probe";

/// Acts as one of this crate's helper processes if the program was started as one, and then never returns.
///
/// Call it first thing in `main`, before any thread is started: sandboxes are cloned from the process. The program that calls it is
/// the `helper` that other functions of this crate ask for.
pub fn helper_main() {
    let mut arguments = std::env::args_os().skip(1);
    let word = arguments.next();
    let rest: Vec<OsString> = arguments.collect();
    match (
        word.as_ref().and_then(|word| word.to_str()),
        rest.as_slice(),
    ) {
        (Some(SHIM), [dir]) => exit(super::supervisor::run(Path::new(dir))),
        (Some(PROBE), [scratch]) => exit(crate::doctor::probe(Path::new(scratch))),
        _ => {}
    }
}
