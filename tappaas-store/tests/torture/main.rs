//! What a store must survive: power cuts and failing disks, in a simulation that a seed repeats, and `kill -9` of a real process.
//!
//! `cargo test` runs a little of both. `cargo test --release -p tappaas-store --test torture -- power-cut 10000` runs as many seeds, with
//! `7` behind it beginning at seed 7, and `-- kill 500` as many rounds.
#![cfg(test)]

mod disk;
mod history;
mod kill;
mod model;
mod power_cut;
mod random;
mod script;

use std::{error::Error, process::ExitCode};

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

type Test = (&'static str, fn() -> Outcome);

const SEEDS: u64 = 1000;
const ROUNDS: u64 = 50;

fn main() -> ExitCode {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        // The database panics on some damaged files; the store contains that, and the tests look at what it makes of it.
        if !panic
            .location()
            .is_some_and(|place| place.file().contains("/redb-"))
        {
            report(panic);
        }
    }));
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let outcome = match &arguments[..] {
        ["write", directory] => kill::write(directory.as_ref()),
        ["power-cut", seeds] => soak(power_cut::soak, "0", seeds),
        ["power-cut", seeds, first] => soak(power_cut::soak, first, seeds),
        ["kill", rounds] => soak(kill::soak, "0", rounds),
        // What cargo passes on to every test program: options and the part of a name.
        filters => run(filters),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(filters: &[&str]) -> Outcome {
    let list = filters.contains(&"--list");
    let filters: Vec<_> = filters
        .iter()
        .filter(|filter| !filter.starts_with('-'))
        .collect();
    let tests: [Test; 3] = [
        (
            "answers_that_no_order_explains_are_found",
            history::finds_what_cannot_be,
        ),
        ("power_cuts_lose_nothing_that_was_answered", || {
            power_cut::soak(0, SEEDS)
        }),
        ("kills_lose_nothing_that_was_answered", || {
            kill::soak(0, ROUNDS)
        }),
    ];
    for (name, test) in tests {
        if list {
            println!("{name}: test");
        } else if filters.is_empty() || filters.iter().any(|filter| name.contains(**filter)) {
            test()?;
            println!("test {name} ... ok");
        }
    }
    Ok(())
}

fn soak(test: fn(u64, u64) -> Outcome, first: &str, count: &str) -> Outcome {
    test(first.parse()?, count.parse()?)
}
