//! The helper program of `tappaas-local`, for embedders whose own `main` cannot call [`tappaas_local::helper_main`].

#[expect(
    clippy::print_stderr,
    reason = "it has nothing else to say, and nobody else to say it to"
)]
fn main() -> std::process::ExitCode {
    tappaas_local::helper_main();
    eprintln!("this program is started by a TAPPaaS server, not by hand");
    std::process::ExitCode::from(2)
}
