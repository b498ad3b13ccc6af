use std::{io::Write as _, time::Duration};

use super::{Failure, Verdict};

/// How long a case waits for what must happen. Far more than a slow machine needs: a case that passes waits no longer than it must.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How long nothing must happen for a case to believe that it never does.
const STAYS: Duration = Duration::from_secs(2);
/// How often a case looks.
const PERIOD: Duration = Duration::from_millis(20);

/// Says on standard error, also past a test harness that captures output, why a case does not apply to a backend.
pub fn pass_over(case: &str, reason: &str) {
    // A closed standard error is no reason to fail.
    let _told = writeln!(std::io::stderr(), "{case} is passed over: {reason}");
}

/// Waits until `look` finds something, at most [`PATIENCE`].
///
/// # Errors
/// `look` fails, or finds nothing in time; `what` says what was waited for.
pub async fn until<T>(
    what: &str,
    mut look: impl AsyncFnMut() -> Result<Option<T>, Failure>,
) -> Result<T, Failure> {
    let looking = async {
        loop {
            if let Some(found) = look().await? {
                return Ok(found);
            }
            tokio::time::sleep(PERIOD).await;
        }
    };
    let late = |_| Err(format!("waited {PATIENCE:?} in vain until {what}").into());
    tokio::time::timeout(PATIENCE, looking)
        .await
        .unwrap_or_else(late)
}

/// Makes sure that `look` holds, and goes on to hold for two seconds.
///
/// # Errors
/// It does not; `what` says what should have stayed so.
pub async fn stays(what: &str, mut look: impl AsyncFnMut() -> Result<bool, Failure>) -> Verdict {
    let looking = async {
        while look().await? {
            tokio::time::sleep(PERIOD).await;
        }
        Err(format!("it did not stay so that {what}").into())
    };
    tokio::time::timeout(STAYS, looking).await.unwrap_or(Ok(()))
}
