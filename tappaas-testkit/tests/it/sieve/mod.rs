//! The same end state from any interleaving: every scenario is run once undisturbed, and then again and again, with one thing going
//! wrong each time, at every call and at every event there is.
//!
//! The variable `SIEVE` says which runs: `all`, or those with a word in the name that a failure prints; without it an even choice.

mod lagging;
mod poison;
mod run;
mod scenario;
mod state;
mod upset;
mod walks;
mod world;

use run::{Outcome, run};
use scenario::Scenario;
use state::State;
use tappaas_core::Digest;
use upset::Upset;

/// So many runs of each scenario, unless all are asked for.
const RUNS: usize = 30;

fn sift(name: &str) {
    #[expect(
        clippy::disallowed_methods,
        reason = "as with PROPTEST_CASES, whoever runs the tests says how many"
    )]
    let chosen = std::env::var("SIEVE").ok();
    let scenario = Scenario::all()
        .into_iter()
        .find(|s| s.name == name)
        .unwrap();
    let calm = run(&scenario, &Upset::NONE).unwrap();
    assert_eq!(calm.verdict, scenario.verdict, "{:#?}", calm.state);
    assert_eq!(calm.violations, [] as [String; 0]);
    let upsets: Vec<Upset> = calm
        .counts
        .iter()
        .flat_map(|(backend, verb, count)| Upset::of(*backend, verb, *count))
        .collect();
    let label = |upset: &Upset| format!("{name}/{upset}");
    let wanted = |upset: &&Upset| match chosen.as_deref() {
        Some("all") => true,
        Some(chosen) => label(upset).contains(chosen),
        None => spread(&label(upset)).is_multiple_of(upsets.len().div_ceil(RUNS)),
    };
    let runs: Vec<_> = upsets.iter().filter(wanted).collect();
    let mut failures = Vec::new();
    for upset in &runs {
        let failure = match run(&scenario, upset) {
            Ok(outcome) => differences(&calm, &outcome),
            Err(endless) => vec![endless],
        };
        if !failure.is_empty() {
            let label = label(upset);
            failures.push(format!("SIEVE={label}\n  {}", failure.join("\n  ")));
        }
    }
    let own = format!("{name}/");
    let meant = chosen.is_none_or(|chosen| chosen == "all" || chosen.starts_with(&own));
    assert!(!meant || !runs.is_empty(), "none of {} runs", upsets.len());
    assert!(
        failures.is_empty(),
        "{} of {} runs differ:\n{}",
        failures.len(),
        runs.len(),
        failures.join("\n")
    );
}

/// A number that says nothing of what it is made from, so that a choice by it favours nothing.
fn spread(label: &str) -> usize {
    usize::from_str_radix(&Digest::of(label).hex()[..8], 16).unwrap()
}

/// What a disturbed run did otherwise than the undisturbed one.
fn differences(calm: &Outcome, outcome: &Outcome) -> Vec<String> {
    let mut all = State::difference(&calm.state.essence, &outcome.state.essence);
    if !outcome.repeated {
        let (wanted, found) = (&calm.state.history, &outcome.state.history);
        all.extend(State::difference(wanted, found));
    }
    if outcome.verdict != calm.verdict {
        all.push(format!("it is {:?}", outcome.verdict));
    }
    all.extend(outcome.violations.iter().take(3).cloned());
    all
}

macro_rules! scenarios {
    ($($scenario:ident)*) => {
        $(#[test]
        fn $scenario() {
            sift(stringify!($scenario));
        })*

        #[test]
        fn every_scenario_is_run() {
            let names: Vec<_> = Scenario::all().iter().map(|scenario| scenario.name).collect();
            assert_eq!(names, [$(stringify!($scenario)),*]);
        }
    };
}

scenarios!(deploy redeploy build grow shrink rollback configure restart command refused broken explode volume destroy);
