//! [`Scheduler`] over the cluster's own controllers, which roll by themselves.

mod applying;
mod autoscaling;
mod controllers;
mod exec;
mod forms;
mod holding;
mod logs;
mod names;
mod observing;
mod parts;
mod placing;
mod pod;
mod quotas;
mod record;
mod references;
mod refusals;
mod removing;
mod settings;
mod watching;

use std::{collections::BTreeSet, fmt, sync::Arc};

use async_trait::async_trait;
use futures::stream::BoxStream;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{ConfigMap, Node as KubernetesNode, Pod, Secret};
use kube::{Api, Client, Resource, ResourceExt as _, api::ListParams};
use serde::de::DeserializeOwned;
use tappaas_core::{
    Clock, Error, Result, Scope,
    backend::{
        Exec, ExecRequest, LogLine, LogRequest, Node, Peer, PeerAddress, Scheduler,
        SchedulerCapabilities, Track, Workload, WorkloadId, WorkloadStatus,
    },
    model::{ApplicationKey, Limits},
    placement::{Capacity, Offer},
};

use self::forms::Forms;
pub use self::settings::{Egress, GatewaySource, RuntimeNodes, SchedulerSettings};
pub(crate) use self::{
    names::{application_labels, claim},
    record::difference,
};
use crate::{
    PlatformId,
    failure::{failure, within},
    quantity::quantity,
    store::Namespaces,
};

/// Objects per request of a listing.
const CHUNK: u32 = 500;

/// Runs workloads on a Kubernetes cluster (1.33 or later): instances that run on as a Deployment, those with a volume as a StatefulSet,
/// those that run once as Jobs.
///
/// Each environment has a namespace, each workload a Service, a NetworkPolicy and, with several instances, a PodDisruptionBudget. Pods
/// fulfil the restricted profile of the Pod Security Standards. What can change is applied by server-side apply; secrets and jobs are made
/// anew instead.
///
/// What was applied last is written on the object that makes the pods, and changed by compare-and-swap: so a controller that lags cannot
/// move a workload back.
pub struct KubernetesScheduler {
    client: Client,
    platform: PlatformId,
    settings: SchedulerSettings,
    clock: Arc<dyn Clock>,
    namespaces: Namespaces,
    forms: Forms,
}

impl KubernetesScheduler {
    /// The scheduler of a platform on the cluster that `client` speaks to.
    pub fn new(
        client: Client,
        platform: PlatformId,
        settings: SchedulerSettings,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            namespaces: Namespaces::new(client.clone(), platform.clone()),
            client,
            platform,
            settings,
            clock,
            forms: Forms::default(),
        }
    }

    /// The workloads that an object of a kind is left of.
    async fn left<K>(&self, left: &mut BTreeSet<WorkloadId>) -> Result<()>
    where
        K: Resource<DynamicType = ()> + Clone + fmt::Debug + DeserializeOwned,
    {
        let api: Api<K> = Api::all(self.client.clone());
        let ours = self.platform.selector();
        let mut request = ListParams::default().labels(&ours).limit(CHUNK);
        loop {
            let page = within(api.list_metadata(&request)).await;
            let page = page.map_err(|error| {
                failure(
                    format!("cannot list objects of kind {}", K::kind(&())),
                    error,
                )
            })?;
            left.extend(
                page.items
                    .iter()
                    .filter_map(|it| names::workload(&self.platform, &it.metadata)),
            );
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => request = request.continue_token(&token),
                None => return Ok(()),
            }
        }
    }
}

impl fmt::Debug for KubernetesScheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KubernetesScheduler")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Scheduler for KubernetesScheduler {
    fn capabilities(&self) -> SchedulerCapabilities {
        SchedulerCapabilities {
            stepwise: false,
            limits: true,
            host_stack: false,
            dial_endpoints: false,
            service_endpoints: true,
            finds_ports: false,
            keeps_logs: false,
            namespaces: true,
            quotas: true,
            autoscaling: true,
            runtimes: self.settings.runtimes.keys().copied().collect(),
            secrets: Some(references::store()),
            stop_signals: false,
        }
    }

    async fn nodes(&self) -> Result<Vec<Node>> {
        let api: Api<KubernetesNode> = Api::all(self.client.clone());
        let found = within(api.list(&ListParams::default())).await;
        let found = found.map_err(|error| failure("cannot list the nodes", error))?;
        Ok(found.items.iter().map(node).collect())
    }

    async fn prepare(&self, environment: &Scope, limits: &Limits) -> Result<Option<String>> {
        self.namespaces.prepare(environment).await?;
        self.limit(environment, limits).await?;
        Ok(Some(self.namespaces.name(environment)))
    }

    async fn discard(&self, environment: &Scope) -> Result<()> {
        self.namespaces.remove(environment).await
    }

    async fn apply(&self, workload: &Workload) -> Result<()> {
        let capabilities = self.capabilities();
        workload.check_runtimes(&capabilities.runtimes)?;
        workload.check_references(capabilities.secrets.as_ref())?;
        self.take(workload).await
    }

    async fn observe(&self, id: &WorkloadId) -> Result<Option<WorkloadStatus>> {
        Box::pin(self.look(id)).await
    }

    async fn list(&self) -> Result<Vec<WorkloadId>> {
        let mut left = BTreeSet::new();
        self.left::<Deployment>(&mut left).await?;
        self.left::<StatefulSet>(&mut left).await?;
        self.left::<ConfigMap>(&mut left).await?;
        self.left::<Pod>(&mut left).await?;
        // Made first and removed last: by it what a crash left is found.
        self.left::<Secret>(&mut left).await?;
        Ok(left.into_iter().collect())
    }

    async fn remove(&self, id: &WorkloadId) -> Result<()> {
        self.remove_all(id).await
    }

    async fn logs(&self, request: &LogRequest) -> Result<BoxStream<'static, Result<LogLine>>> {
        self.read(request).await
    }

    async fn exec(&self, request: &ExecRequest) -> Result<Exec> {
        self.run(request).await
    }

    async fn peer(&self, from: &ApplicationKey, peer: &Peer) -> Result<PeerAddress> {
        if from.scope() != peer.application.scope() {
            return Err(Error::invalid(format!(
                "{from} cannot be bound to {}, which is in another environment",
                peer.application
            )));
        }
        let id = WorkloadId {
            application: peer.application.clone(),
            process: peer.process.clone(),
            track: Track::Stable,
        };
        Ok(PeerAddress {
            host: parts::host(&self.platform, &id),
            port: parts::service_port(&peer.port),
            listen: None,
        })
    }

    async fn watch(&self) -> Result<BoxStream<'static, WorkloadId>> {
        Ok(watching::watch(&self.client, &self.platform))
    }
}

fn node(node: &KubernetesNode) -> Node {
    let status = node.status.clone().unwrap_or_default();
    let amounts = status.allocatable.unwrap_or_default();
    let amount = |name: &str| amounts.get(name).map_or(0.0, |amount| quantity(&amount.0));
    let conditions = status.conditions.unwrap_or_default();
    let ready = |type_: &str, status: &str| type_ == "Ready" && status == "True";
    let cordoned = node
        .spec
        .as_ref()
        .and_then(|spec| spec.unschedulable)
        .unwrap_or(false);
    Node {
        name: node.name_any(),
        offer: Offer {
            capacity: Capacity {
                cpu_millis: (amount("cpu") * 1000.0) as u64,
                memory: amount("memory") as u64,
                instances: amount("pods") as u32,
            },
            labels: node.labels().clone(),
            taints: Vec::new(),
        },
        ready: !cordoned && conditions.iter().any(|one| ready(&one.type_, &one.status)),
        notes: cordoned
            .then(|| "it is cordoned".to_owned())
            .into_iter()
            .collect(),
    }
}
