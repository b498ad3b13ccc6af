//! The helper program of `tappaas-local`, for embedders whose own `main` cannot call [`tappaas_local::helper_main`].

#[expect(clippy::print_stderr, reason = "somebody started it by hand")]
fn main() -> std::process::ExitCode {
    tappaas_local::helper_main();
    eprintln!("this program is started by a TAPPaaS server, not by hand");
    std::process::ExitCode::from(2)
}
