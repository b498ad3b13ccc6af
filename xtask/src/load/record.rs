use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::Manner;
use crate::Result;

/// Failures that are kept to be shown; all of them are counted.
const FAILURES_KEPT: usize = 20;

/// What all clients of a load write down.
#[derive(Debug, Default)]
pub(super) struct Record(Mutex<Lap>);

impl Record {
    pub(super) fn answered(&self, manner: Manner, took: Duration) {
        self.of(manner, |figures| {
            figures.answered += 1;
            figures.took.push(took);
        });
    }

    pub(super) fn failed(&self, manner: Manner, error: &str) {
        self.of(manner, |figures| {
            figures.failed += 1;
            if figures.failures.len() < FAILURES_KEPT {
                figures.failures.push(format!("{}: {error}", manner.name()));
            }
        });
    }

    pub(super) fn take(&self) -> Lap {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn of(&self, manner: Manner, change: impl FnOnce(&mut Figures)) {
        let mut lap = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        change(lap.0.entry(manner).or_default());
    }
}

/// What was answered in some time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lap(BTreeMap<Manner, Figures>);

impl Lap {
    pub(crate) fn of(&self, manner: Manner) -> Figures {
        self.0.get(&manner).cloned().unwrap_or_default()
    }

    pub(crate) fn all(&self) -> Figures {
        let mut all = Figures::default();
        for figures in self.0.values() {
            all.add(figures.clone());
        }
        all
    }

    /// Counts failures of what lasts apart: it ends with the instance that it is on.
    pub(crate) fn excuse_what_lasts(&mut self) {
        for (manner, figures) in &mut self.0 {
            if manner.lasts() {
                figures.excused += std::mem::take(&mut figures.failed);
                figures.failures.clear();
            }
        }
    }

    pub(crate) fn add(&mut self, other: Self) {
        for (manner, figures) in other.0 {
            self.0.entry(manner).or_default().add(figures);
        }
    }

    /// The first failures, for people.
    pub(crate) fn failures(&self) -> Vec<String> {
        self.all().failures
    }

    /// How many requests were answered.
    ///
    /// # Errors
    /// If one failed, or none was made.
    pub(crate) fn whole(&self) -> Result<u64> {
        let all = self.all();
        match all.failures.first() {
            None if all.answered > 0 => Ok(all.answered),
            None => Err("no request was made".into()),
            Some(first) => {
                let (failed, made) = (all.failed, all.answered + all.failed);
                Err(format!("{failed} of {made} requests failed, the first so: {first}").into())
            }
        }
    }
}

/// What clients of one manner, or of all, were answered.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) answered: u64,
    pub(crate) failed: u64,
    /// Failed, as nothing could have kept them from.
    pub(crate) excused: u64,
    failures: Vec<String>,
    took: Vec<Duration>,
}

impl Figures {
    /// The time within which such a part of the requests was answered, from the moment when each was due.
    pub(crate) fn percentile(&self, part: f64) -> Duration {
        let mut took = self.took.clone();
        took.sort_unstable();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            clippy::cast_sign_loss,
            reason = "a place in a list that fits in memory"
        )]
        let place = (took.len() as f64 * part).ceil() as usize;
        took.get(place.saturating_sub(1))
            .copied()
            .unwrap_or_default()
    }

    fn add(&mut self, other: Self) {
        self.answered += other.answered;
        self.failed += other.failed;
        self.excused += other.excused;
        self.failures.extend(other.failures);
        self.failures.truncate(FAILURES_KEPT);
        self.took.extend(other.took);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_places_in_the_order() {
        let figures = Figures {
            took: (1..=100).rev().map(Duration::from_millis).collect(),
            ..Figures::default()
        };
        let at = |part| figures.percentile(part).as_millis();
        assert_eq!([at(0.5), at(0.99), at(1.0)], [50, 99, 100]);
        assert_eq!(Figures::default().percentile(0.5), Duration::ZERO);
    }
}
