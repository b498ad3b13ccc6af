use std::{error::Error as StdError, fmt};

use tappaas_core::{ErrorKind, Result};

/// Which sentence of a contract is broken and how.
pub type Failure = Box<dyn StdError + Send + Sync>;

/// What a case comes to: nothing to say, or a failure.
pub type Verdict = std::result::Result<(), Failure>;

/// Holds a fact against what the contract says.
#[expect(
    clippy::needless_pass_by_value,
    reason = "a case reads as one sentence without borrows"
)]
pub(super) fn same<T: PartialEq + fmt::Debug>(found: T, expected: T, what: &str) -> Verdict {
    if found == expected {
        return Ok(());
    }
    Err(format!("{what}: found {found:?}, expected {expected:?}").into())
}

/// Holds a condition against what the contract says.
pub(super) fn holds(condition: bool, what: &str) -> Verdict {
    if condition { Ok(()) } else { Err(what.into()) }
}

/// Expects a call to fail in a certain way.
pub(super) fn refused<T: fmt::Debug>(result: Result<T>, kind: ErrorKind, what: &str) -> Verdict {
    match result {
        Err(error) if error.kind() == kind => Ok(()),
        other => Err(format!("{what}: found {other:?}, expected {kind:?}").into()),
    }
}
