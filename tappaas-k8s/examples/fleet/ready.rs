use std::{collections::BTreeSet, pin::pin, process::Command, time::Duration};

use futures::{TryStreamExt as _, future::try_join_all};
use kube::{
    Api, Client, ResourceExt as _,
    api::{ApiResource, DynamicObject, GroupVersionKind},
    runtime::{WatchStreamExt as _, watcher},
};
use serde_json::Value;
use tokio::time::{Instant, timeout};

use crate::Outcome;

const READY_MAX: Duration = Duration::from_secs(600);

/// Objects that are to come true.
pub(crate) struct Wanted {
    resource: ApiResource,
    /// Where their conditions are.
    conditions: &'static str,
    condition: &'static str,
    count: usize,
}

impl Wanted {
    pub(crate) fn applications(group: &str, count: usize) -> Self {
        Self::new(group, "Application", "/status/conditions", "Ready", count)
    }

    pub(crate) fn deployments(count: usize) -> Self {
        Self::new(
            "apps",
            "Deployment",
            "/status/conditions",
            "Available",
            count,
        )
    }

    pub(crate) fn routes(count: usize) -> Self {
        let (group, conditions) = ("gateway.networking.k8s.io", "/status/parents/0/conditions");
        Self::new(group, "HTTPRoute", conditions, "Accepted", count)
    }

    fn new(
        group: &str,
        kind: &str,
        conditions: &'static str,
        condition: &'static str,
        count: usize,
    ) -> Self {
        Self {
            resource: ApiResource::from_gvk(&GroupVersionKind::gvk(group, "v1", kind)),
            conditions,
            condition,
            count,
        }
    }

    fn is_true(&self, object: &DynamicObject) -> bool {
        let conditions = object
            .data
            .pointer(self.conditions)
            .and_then(Value::as_array);
        let mut conditions = conditions.into_iter().flatten();
        conditions.any(|one| one["type"] == self.condition && one["status"] == "True")
    }

    /// Returns once so many are.
    async fn reached(&self, client: &Client, namespace: &str) -> Outcome {
        let api = Api::<DynamicObject>::namespaced_with(client.clone(), namespace, &self.resource);
        let mut objects = pin!(
            watcher(api, watcher::Config::default())
                .default_backoff()
                .applied_objects()
        );
        let mut ready = BTreeSet::new();
        while ready.len() < self.count {
            let object = objects.try_next().await?.ok_or("a watch ended")?;
            match self.is_true(&object) {
                true => ready.insert(object.name_any()),
                false => ready.remove(&object.name_any()),
            };
        }
        Ok(())
    }
}

/// How long it takes from a command until all that is wanted in a namespace is so.
pub(crate) async fn applied_until(
    client: &Client,
    namespace: &str,
    wanted: &[Wanted],
    mut apply: Command,
) -> Outcome<Duration> {
    let began = Instant::now();
    let mut apply = apply.spawn()?;
    let applied = async {
        let status = tokio::task::spawn_blocking(move || apply.wait()).await??;
        println!("applied after {:.1} s", began.elapsed().as_secs_f64());
        match status.success() {
            true => Ok(()),
            false => Err(format!("kubectl apply: {status}").into()),
        }
    };
    let reached = try_join_all(wanted.iter().map(|one| one.reached(client, namespace)));
    let both = async { futures::try_join!(applied, reached) };
    timeout(READY_MAX, both).await??;
    Ok(began.elapsed())
}
