use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use tappaas_core::{backend::Exit, model::RestartPolicy};

use crate::sandbox::Restart;

/// Decides when a process that ended is started again.
#[derive(Debug)]
pub(crate) struct Restarts {
    settings: Restart,
    /// Spreads the restarts of instances that crashed together.
    seed: String,
    /// How often it was started again.
    count: u32,
    /// Unhealthy runs in a row.
    unhealthy: u32,
}

impl Restarts {
    pub(crate) fn new(settings: Restart, seed: &str) -> Self {
        Self {
            settings,
            seed: seed.to_owned(),
            count: 0,
            unhealthy: 0,
        }
    }

    /// Takes note of a run that ended; `exit` is `None` if it could not even be started. Returns the delay before the next one, or
    /// `None` if there is none.
    pub(crate) fn ended(&mut self, exit: Option<&Exit>, ran: Duration) -> Option<Duration> {
        let again = match self.settings.policy {
            RestartPolicy::Always => true,
            RestartPolicy::OnFailure => !exit.is_some_and(Exit::success),
            RestartPolicy::Never => false,
        };
        if !again {
            return None;
        }
        self.count = self.count.saturating_add(1);
        self.unhealthy = if ran >= self.settings.healthy_after {
            1
        } else {
            self.unhealthy.saturating_add(1)
        };
        Some(self.delay())
    }

    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    pub(crate) fn crash_loop(&self) -> bool {
        self.unhealthy >= self.settings.crash_loop_after
    }

    /// Doubles with each unhealthy run, up to the longest, less a fifth at most.
    fn delay(&self) -> Duration {
        let doublings = (self.unhealthy - 1).min(31);
        let full = self
            .settings
            .delay_min
            .saturating_mul(1 << doublings)
            .min(self.settings.delay_max);
        let mut hasher = DefaultHasher::new();
        (&self.seed, self.count).hash(&mut hasher);
        full - full / 5 * u32::try_from(hasher.finish() % 1000).expect("less than 1000 fits") / 1000
    }
}

#[cfg(test)]
mod tests {
    use tappaas_core::Timestamp;

    use super::*;

    fn exit(code: i32) -> Exit {
        Exit {
            code: Some(code),
            signal: None,
            out_of_memory: false,
            at: Timestamp::UNIX_EPOCH,
        }
    }

    fn restarts(policy: RestartPolicy) -> Restarts {
        let settings = Restart {
            policy,
            ..Restart::default()
        };
        Restarts::new(settings, "web-1")
    }

    #[test]
    fn delays_double_up_to_the_longest_and_no_two_instances_agree() {
        let (mut one, mut other) = (
            restarts(RestartPolicy::Always),
            Restarts::new(Restart::default(), "web-2"),
        );
        let mut full = Duration::from_millis(500);
        let mut equal = 0;
        for _ in 0..20 {
            let delay = one.ended(Some(&exit(1)), Duration::ZERO).unwrap();
            assert!(
                delay <= full && delay >= full * 4 / 5,
                "{delay:?} of {full:?}"
            );
            equal += u32::from(other.ended(Some(&exit(1)), Duration::ZERO) == Some(delay));
            full = (full * 2).min(Duration::from_secs(60));
        }
        assert!(equal < 3 && one.crash_loop());
    }

    #[test]
    fn a_healthy_run_starts_the_delays_anew() {
        let mut restarts = restarts(RestartPolicy::Always);
        for _ in 0..9 {
            restarts.ended(Some(&exit(1)), Duration::ZERO);
        }
        assert!(restarts.crash_loop());
        let delay = restarts
            .ended(Some(&exit(1)), Duration::from_secs(61))
            .unwrap();
        assert!(delay <= Duration::from_millis(500) && !restarts.crash_loop());
        assert_eq!(restarts.count(), 10);
    }

    #[test]
    fn the_policy_decides_about_success_and_failure() {
        let ends =
            |policy, exit: Option<&Exit>| restarts(policy).ended(exit, Duration::ZERO).is_none();
        assert!(!ends(RestartPolicy::Always, Some(&exit(0))));
        assert!(
            ends(RestartPolicy::OnFailure, Some(&exit(0)))
                && !ends(RestartPolicy::OnFailure, Some(&exit(1)))
        );
        assert!(!ends(RestartPolicy::OnFailure, None));
        assert!(ends(RestartPolicy::Never, Some(&exit(1))));
    }
}
