use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tappaas_core::Digest;

/// Keeps the sweep's hands off content that somebody is about to refer to.
///
/// Whoever relies on content being there pins its digest *before* looking. While a collection runs, everything ever
/// pinned during it stays; a removal happens under the same lock as a pin, so that one of the two comes first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pins(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    held: HashMap<Digest, usize>,
    /// What has been pinned since the collection began, if one is running.
    seen: Option<HashSet<Digest>>,
}

impl Pins {
    /// Protects `digests` until the guard is dropped.
    pub(crate) fn pin(&self, digests: Vec<Digest>) -> Pin {
        let mut state = self.lock();
        for digest in &digests {
            *state.held.entry(digest.clone()).or_default() += 1;
        }
        if let Some(seen) = &mut state.seen {
            seen.extend(digests.iter().cloned());
        }
        drop(state);
        Pin {
            pins: self.clone(),
            digests,
        }
    }

    /// Begins a collection: from now on every pin is remembered. `None` if one is running already.
    pub(crate) fn begin(&self) -> Option<Sweep> {
        let mut state = self.lock();
        if state.seen.is_some() {
            return None;
        }
        state.seen = Some(state.held.keys().cloned().collect());
        Some(Sweep { pins: self.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A protection; ends when dropped.
#[derive(Debug)]
pub(crate) struct Pin {
    pins: Pins,
    digests: Vec<Digest>,
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut state = self.pins.lock();
        for digest in &self.digests {
            if let Some(count) = state.held.get_mut(digest) {
                *count -= 1;
                if *count == 0 {
                    state.held.remove(digest);
                }
            }
        }
    }
}

/// A running collection; ends when dropped.
#[derive(Debug)]
pub(crate) struct Sweep {
    pins: Pins,
}

impl Sweep {
    /// Runs `removal` unless the digest was pinned since the collection began.
    pub(crate) fn unless_pinned<T>(
        &self,
        digest: &Digest,
        removal: impl FnOnce() -> T,
    ) -> Option<T> {
        let state = self.pins.lock();
        let pinned = state
            .seen
            .as_ref()
            .is_some_and(|seen| seen.contains(digest));
        (!pinned).then(removal)
    }
}

impl Drop for Sweep {
    fn drop(&mut self) {
        self.pins.lock().seen = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_pinned_before_or_during_a_collection_stays() {
        let (before, during, never) = (
            Digest::of("before"),
            Digest::of("during"),
            Digest::of("never"),
        );
        let pins = Pins::default();
        let held = pins.pin(vec![before.clone(), before.clone()]);
        let sweep = pins.begin().unwrap();
        drop(held);
        drop(pins.pin(vec![during.clone()]));
        assert_eq!(sweep.unless_pinned(&before, || ()), None);
        assert_eq!(sweep.unless_pinned(&during, || ()), None);
        assert_eq!(sweep.unless_pinned(&never, || ()), Some(()));
        drop(sweep);
        let next = pins.begin().unwrap();
        assert_eq!(
            next.unless_pinned(&before, || ()),
            Some(()),
            "a pin ends with its guard"
        );
    }

    #[test]
    fn only_one_collection_runs_at_a_time() {
        let pins = Pins::default();
        let first = pins.begin();
        assert!(first.is_some() && pins.begin().is_none());
        drop(first);
        assert!(pins.begin().is_some());
    }
}
