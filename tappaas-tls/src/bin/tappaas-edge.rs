//! The edge as a program of its own, for embedders whose `main` cannot call [`tappaas_tls::helper_main`].

use std::io::Write;

fn main() -> std::process::ExitCode {
    tappaas_tls::helper_main();
    // Without standard error there is nobody to tell.
    let _ = writeln!(
        std::io::stderr(),
        "this program is started by a TAPPaaS server, as the edge that serves its applications"
    );
    std::process::ExitCode::from(2)
}
