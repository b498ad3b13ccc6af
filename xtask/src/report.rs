use std::time::{Duration, Instant};

use crate::Result;
use crate::steps::Step;
use crate::workspace::Workspace;

/// Runs all steps, also after one has failed, and ends with a table of what each did and took.
pub(crate) fn run_all(workspace: &Workspace, steps: &[&Step]) -> Result {
    let mut outcomes = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        println!(
            "\n== {}/{} {}: {}",
            index + 1,
            steps.len(),
            step.name,
            step.about
        );
        let started = now();
        let failure = (step.run)(workspace).err().map(|error| error.to_string());
        let outcome = Outcome {
            name: step.name,
            took: started.elapsed(),
            failure,
        };
        println!("== {}", outcome.line());
        outcomes.push(outcome);
    }
    print!("\n{}", table(&outcomes));
    conclude(&outcomes)
}

struct Outcome {
    name: &'static str,
    took: Duration,
    failure: Option<String>,
}

impl Outcome {
    fn line(&self) -> String {
        let verdict = if self.failure.is_some() {
            "FAILED"
        } else {
            "ok"
        };
        format!("{:<14} {verdict:<8} {:>8}", self.name, in_words(self.took))
    }
}

fn table(outcomes: &[Outcome]) -> String {
    let rows = outcomes.iter().map(|outcome| {
        let reason = outcome
            .failure
            .as_ref()
            .map(|text| format!("  {text}"))
            .unwrap_or_default();
        format!("{}{reason}\n", outcome.line())
    });
    let took = outcomes.iter().map(|outcome| outcome.took).sum();
    rows.chain([format!("{:<14} {:<8} {:>8}\n", "total", "", in_words(took))])
        .collect()
}

fn conclude(outcomes: &[Outcome]) -> Result {
    let failed: Vec<_> = outcomes
        .iter()
        .filter(|one| one.failure.is_some())
        .map(|one| one.name)
        .collect();
    if failed.is_empty() {
        println!(
            "\nxtask result: ok. {} steps passed; 0 failed",
            outcomes.len()
        );
        return Ok(());
    }
    let passed = outcomes.len() - failed.len();
    println!(
        "\nxtask result: FAILED. {passed} steps passed; {} failed",
        failed.len()
    );
    Err(format!("failed: {}", failed.join(", ")).into())
}

fn in_words(time: Duration) -> String {
    match time.as_secs() {
        0..60 => format!("{:.1} s", time.as_secs_f64()),
        seconds => format!("{} m {:02} s", seconds / 60, seconds % 60),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the times of a run are shown, nothing depends on them"
)]
pub(crate) fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(name: &'static str, seconds: u64, failure: Option<&str>) -> Outcome {
        Outcome {
            name,
            took: Duration::from_secs(seconds),
            failure: failure.map(str::to_owned),
        }
    }

    #[test]
    fn the_table_has_a_row_a_step_and_the_total() {
        let text = table(&[
            outcome("format", 1, None),
            outcome("lint", 70, Some("`x` failed")),
        ]);
        let rows: Vec<_> = text.lines().collect();
        assert_eq!(rows[0], "format         ok          1.0 s");
        assert_eq!(rows[1], "lint           FAILED   1 m 10 s  `x` failed");
        assert_eq!(rows[2], "total                   1 m 11 s");
    }

    #[test]
    fn one_failed_step_fails_the_run_and_is_named() {
        let error =
            conclude(&[outcome("lint", 1, Some("no")), outcome("docs", 1, None)]).unwrap_err();
        assert_eq!(error.to_string(), "failed: lint");
        assert!(conclude(&[outcome("docs", 1, None)]).is_ok());
    }
}
