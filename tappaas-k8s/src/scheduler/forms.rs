//! Which form workloads were last seen in.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tappaas_core::backend::WorkloadId;
use tokio::time::Instant;

use super::controllers::Form;

/// With more workloads than this all are forgotten.
const KNOWN_MAX: usize = 100_000;

/// After so long it is looked at again whether there is another one: some other process may have begun it, or left it behind.
const KNOWN_FOR: Duration = Duration::from_secs(300);

/// Remembers the only form of workloads, so that a look asks for that one alone. Forgotten, it costs a look for each form.
#[derive(Debug, Default)]
pub(super) struct Forms(Mutex<HashMap<WorkloadId, (Form, Instant)>>);

impl Forms {
    pub(super) fn get(&self, id: &WorkloadId) -> Option<Form> {
        let known = self.lock();
        let (form, since) = known.get(id)?;
        (since.elapsed() < KNOWN_FOR).then_some(*form)
    }

    /// Of a workload that was looked at for each form.
    pub(super) fn learn(&self, id: &WorkloadId, form: Form) {
        let mut known = self.lock();
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        known.insert(id.clone(), (form, Instant::now()));
    }

    pub(super) fn forget(&self, id: &WorkloadId) {
        self.lock().remove(id);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<WorkloadId, (Form, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tappaas_core::{Name, Scope, backend::Track, model::ApplicationKey};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_form_is_known_for_a_while() {
        let forms = Forms::default();
        let web = Name::new("web").unwrap();
        let scope = Scope::environment(web.clone(), web.clone(), web.clone());
        let id = WorkloadId {
            application: ApplicationKey::new(&scope, "web").unwrap(),
            process: web,
            track: Track::Stable,
        };
        assert_eq!(forms.get(&id), None);
        forms.learn(&id, Form::Jobs);
        tokio::time::advance(KNOWN_FOR / 2).await;
        assert_eq!(forms.get(&id), Some(Form::Jobs));
        tokio::time::advance(KNOWN_FOR / 2).await;
        assert_eq!(forms.get(&id), None);
        forms.learn(&id, Form::Jobs);
        forms.forget(&id);
        assert_eq!(forms.get(&id), None);
    }
}
