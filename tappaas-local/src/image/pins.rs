use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// What must not be collected, because a pull counts on it.
///
/// A pull pins each name *before* it looks whether that is there. A collection removes under the same lock, and spares whatever was
/// pinned at any time since it began: one of the two comes first, and neither waits for the other.
#[derive(Clone, Debug, Default)]
pub(super) struct Pins(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    held: BTreeMap<String, usize>,
    /// While something is collected: whatever was pinned since that began.
    seen: Option<BTreeSet<String>>,
}

impl Pins {
    /// Spares `name` until the guard is dropped.
    pub(super) fn pin(&self, name: &str) -> Pin {
        let mut state = self.state();
        *state.held.entry(name.to_owned()).or_default() += 1;
        if let Some(seen) = &mut state.seen {
            seen.insert(name.to_owned());
        }
        drop(state);
        Pin {
            pins: self.clone(),
            name: name.to_owned(),
        }
    }

    /// Begins a collection. `None`: there is one.
    pub(super) fn collect(&self) -> Option<Collection> {
        let mut state = self.state();
        if state.seen.is_some() {
            return None;
        }
        state.seen = Some(state.held.keys().cloned().collect());
        Some(Collection(self.clone()))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A name that is spared until this is dropped.
#[derive(Debug)]
pub(super) struct Pin {
    pins: Pins,
    name: String,
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut state = self.pins.state();
        if let Some(count) = state.held.get_mut(&self.name) {
            *count -= 1;
            if *count == 0 {
                state.held.remove(&self.name);
            }
        }
    }
}

/// A collection that goes on until this is dropped.
#[derive(Debug)]
pub(super) struct Collection(Pins);

impl Collection {
    /// Runs `removal`, which must be quick, unless `name` is spared. Says whether it did.
    pub(super) fn unless_pinned<E>(
        &self,
        name: &str,
        removal: impl FnOnce() -> Result<(), E>,
    ) -> Result<bool, E> {
        let state = self.0.state();
        let pinned = state.seen.as_ref().is_some_and(|seen| seen.contains(name));
        if !pinned {
            removal()?;
        }
        Ok(!pinned)
    }
}

impl Drop for Collection {
    fn drop(&mut self) {
        self.0.state().seen = None;
    }
}
