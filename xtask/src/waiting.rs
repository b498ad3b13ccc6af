use std::process::Child;
use std::time::Duration;

use crate::Result;
use crate::report::now;

/// Waits for the end of `child` and answers whether it succeeded; ends it when it takes too long.
pub(crate) fn wait_for(child: &mut Child, time_max: Duration) -> Result<bool> {
    if within(time_max, || Ok(child.try_wait()?.is_some()))? {
        return Ok(child.wait()?.success());
    }
    child.kill()?;
    child.wait()?;
    Err(format!("no end after {} s", time_max.as_secs()).into())
}

/// Whether `condition` came true before the deadline.
pub(crate) fn within(time_max: Duration, condition: impl FnMut() -> Result<bool>) -> Result<bool> {
    within_steps(time_max, Duration::from_millis(20), condition)
}

/// As [`within`], with such a pause between two looks.
pub(crate) fn within_steps(
    time_max: Duration,
    step: Duration,
    mut condition: impl FnMut() -> Result<bool>,
) -> Result<bool> {
    let started = now();
    while !condition()? {
        if started.elapsed() > time_max {
            return Ok(false);
        }
        pause(step);
    }
    Ok(true)
}

/// Lets time pass: between questions, between requests that make a rate, while nothing is to happen.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place where a task sleeps"
)]
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_program_that_does_not_end_is_ended() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        let error = wait_for(&mut child, Duration::from_millis(50)).unwrap_err();
        assert_eq!(error.to_string(), "no end after 0 s");
        assert!(child.try_wait().unwrap().is_some());
    }
}
