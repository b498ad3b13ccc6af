//! The program as people meet it: a server of its own for every test, commands typed at it, requests sent through its edge.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test fails by panicking, waits for conditions, and says what it could not try"
)]

mod acknowledged;
mod census;
mod edge;
mod fire;
mod first_page;
mod full_disk;
mod hostile_sources;
mod hostile_words;
mod inside;
mod instances;
mod interrupts;
mod kills;
mod load;
mod neighbours;
mod platform;
mod refusals;
mod releases;
#[expect(
    dead_code,
    reason = "it is compiled by itself, to run inside instances"
)]
mod server;
mod sources;
mod steps;
mod survival;
mod upload;
mod wrong_use;
