//! Which form workloads were last seen in.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tappaas_core::backend::WorkloadId;

use super::controllers::Form;

/// With more workloads than this all are forgotten.
const KNOWN_MAX: usize = 100_000;

/// Remembers the only form of workloads, so that a look asks for that one alone. Forgotten, it costs a look for each form.
#[derive(Debug, Default)]
pub(super) struct Forms(Mutex<HashMap<WorkloadId, Form>>);

impl Forms {
    pub(super) fn get(&self, id: &WorkloadId) -> Option<Form> {
        self.lock().get(id).copied()
    }

    pub(super) fn learn(&self, id: &WorkloadId, form: Form) {
        let mut known = self.lock();
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        known.insert(id.clone(), form);
    }

    pub(super) fn forget(&self, id: &WorkloadId) {
        self.lock().remove(id);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<WorkloadId, Form>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
