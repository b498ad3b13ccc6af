use std::{collections::BTreeSet, sync::Arc};

use async_trait::async_trait;
use futures::stream::{BoxStream, StreamExt as _};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::{Behaviour, Network, Volumes, userland::Streams, workloads::Workloads};
use crate::{
    Clock, Digest, Result, Scope,
    backend::{
        self, Exec, ExecRequest, LogLine, LogRequest, Node, Peer, PeerAddress,
        SchedulerCapabilities, Workload, WorkloadId, WorkloadStatus,
    },
    model::{ApplicationKey, Command, Limits},
    placement::{Capacity, Offer},
};

/// So many chunks of the input or output of a command wait to be read.
const EXEC_CHUNKS_MAX: usize = 16;

/// A scheduler whose instances are simulated: they do what their [`Behaviour`] says.
///
/// Has one node without bounds, unless told otherwise. Dropping it ends its instances.
#[derive(Debug)]
pub struct Scheduler {
    workloads: Arc<Workloads>,
}

impl Scheduler {
    /// Creates a scheduler whose instances listen on `network` and mount `volumes`.
    pub fn new(clock: Arc<dyn Clock>, network: &Network, volumes: &Volumes) -> Self {
        let workloads = Workloads::new(clock, network.clone(), volumes.clone());
        let scheduler = Self {
            workloads: Arc::new(workloads),
        };
        let capacity = Capacity {
            cpu_millis: u64::MAX,
            memory: u64::MAX,
            instances: u32::MAX,
        };
        scheduler.set_nodes(vec![Node {
            name: "memory".to_owned(),
            offer: Offer {
                capacity,
                ..Offer::default()
            },
            ready: true,
            notes: Vec::new(),
        }]);
        scheduler
    }

    /// From now on has these nodes. Instances that run stay where they are.
    pub fn set_nodes(&self, nodes: Vec<Node>) {
        self.workloads.set_nodes(nodes);
    }

    /// Instances of this image that are started from now on behave so.
    pub fn behave_by_image(&self, image: Digest, behaviour: Behaviour) {
        self.workloads
            .behave(|all| _ = all.by_image.insert(image, behaviour));
    }

    /// Instances of this command that are started from now on behave so, whatever their image.
    pub fn behave_by_command(&self, command: Command, behaviour: Behaviour) {
        self.workloads
            .behave(|all| all.by_command.push((command, behaviour)));
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        self.workloads.close();
    }
}

#[async_trait]
impl backend::Scheduler for Scheduler {
    fn capabilities(&self) -> SchedulerCapabilities {
        SchedulerCapabilities {
            stepwise: true,
            limits: true,
            host_stack: true,
            dial_endpoints: false,
            service_endpoints: false,
            finds_ports: true,
            keeps_logs: true,
            namespaces: false,
            quotas: false,
            autoscaling: false,
            runtimes: BTreeSet::new(),
            secrets: None,
            stop_signals: true,
        }
    }

    async fn nodes(&self) -> Result<Vec<Node>> {
        Ok(self.workloads.nodes())
    }

    async fn prepare(&self, _: &Scope, limits: &Limits) -> Result<Option<String>> {
        limits.refuse()?;
        Ok(None)
    }

    async fn discard(&self, _: &Scope) -> Result<()> {
        Ok(())
    }

    async fn apply(&self, workload: &Workload) -> Result<()> {
        workload.refuse_autoscale()?;
        workload.check_runtimes(&BTreeSet::new())?;
        workload.check_references(None)?;
        self.workloads.apply(workload)
    }

    async fn observe(&self, id: &WorkloadId) -> Result<Option<WorkloadStatus>> {
        Ok(self.workloads.observe(id))
    }

    async fn list(&self) -> Result<Vec<WorkloadId>> {
        Ok(self.workloads.list())
    }

    async fn remove(&self, id: &WorkloadId) -> Result<()> {
        self.workloads.remove(id);
        Ok(())
    }

    async fn logs(&self, request: &LogRequest) -> Result<BoxStream<'static, Result<LogLine>>> {
        Ok(Arc::clone(&self.workloads.logs).read(request))
    }

    async fn exec(&self, request: &ExecRequest) -> Result<Exec> {
        let inside = self
            .workloads
            .inside(&request.workload, request.instance.as_ref())?;
        let (input, inputs) = mpsc::channel(EXEC_CHUNKS_MAX);
        let (output, outputs) = mpsc::channel(EXEC_CHUNKS_MAX);
        let command = request.command.clone();
        let streams = Streams {
            input: inputs,
            output,
        };
        tokio::spawn(async move { inside.run(&command, streams).await });
        Ok(Exec {
            input,
            output: ReceiverStream::new(outputs).map(Ok).boxed(),
        })
    }

    async fn peer(&self, from: &ApplicationKey, peer: &Peer) -> Result<PeerAddress> {
        Ok(self.workloads.peer(from, peer))
    }

    async fn watch(&self) -> Result<BoxStream<'static, WorkloadId>> {
        Ok(self.workloads.changes.watch())
    }
}
