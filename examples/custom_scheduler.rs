//! A scheduler of your own: several machines behind one, each application on the machine that its key falls to.
//!
//! `cargo run --example custom_scheduler` deploys to it; `cargo test --example custom_scheduler` holds it to the contract that TAPPaaS'
//! own schedulers keep.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::sync::Arc;

use futures::{
    StreamExt as _,
    future::try_join_all,
    stream::{self, BoxStream},
};
use tappaas::{
    Backends, Platform, Settings,
    core::{
        Digest, Name, Result, Scope,
        backend::{
            Exec, ExecRequest, LogLine, LogRequest, Node, Peer, PeerAddress, Scheduler,
            SchedulerCapabilities, Workload, WorkloadId, WorkloadStatus,
        },
        manifest::Manifest,
        memory,
        model::{ApplicationKey, Limits, Source},
        placement::{Capacity, Offer},
    },
};

/// Machines that share the applications among them. It remembers nothing: where an application is follows from its key.
#[derive(Debug)]
struct Fleet {
    machines: Vec<Arc<dyn Scheduler>>,
}

impl Fleet {
    /// Rendezvous hashing (Thaler and Ravishankar, 1998): with a machine more or less, only the applications on that one move.
    fn home(&self, application: &ApplicationKey) -> &dyn Scheduler {
        let draw = |(number, _): &(usize, _)| Digest::of(format!("{application} {number}"));
        let home = self.machines.iter().enumerate().max_by_key(draw);
        &**home.expect("a fleet has machines").1
    }
}

#[async_trait::async_trait]
impl Scheduler for Fleet {
    /// What every machine can do.
    fn capabilities(&self) -> SchedulerCapabilities {
        let each: Vec<_> = self.machines.iter().map(|one| one.capabilities()).collect();
        SchedulerCapabilities {
            stepwise: each.iter().all(|can| can.stepwise),
            limits: each.iter().all(|can| can.limits),
            host_stack: each.iter().all(|can| can.host_stack),
            dial_endpoints: each.iter().any(|can| can.dial_endpoints),
            service_endpoints: each.iter().any(|can| can.service_endpoints),
            finds_ports: each.iter().all(|can| can.finds_ports),
            keeps_logs: each.iter().all(|can| can.keeps_logs),
            namespaces: each.iter().any(|can| can.namespaces),
            // Each machine would keep the limits by itself: together they would be as many times too high.
            quotas: false,
            autoscaling: each.iter().all(|can| can.autoscaling),
            // Wherever its key falls, an application finds what it asks for.
            runtimes: each
                .iter()
                .map(|can| can.runtimes.clone())
                .reduce(|some, others| &some & &others)
                .unwrap_or_default(),
            secrets: each
                .iter()
                .map(|can| can.secrets.clone())
                .reduce(|some, others| some.filter(|some| others.as_ref() == Some(some)))
                .flatten(),
            stop_signals: each.iter().all(|can| can.stop_signals),
        }
    }

    async fn nodes(&self) -> Result<Vec<Node>> {
        let nodes = self.machines.iter().map(|machine| machine.nodes());
        Ok(try_join_all(nodes).await?.concat())
    }

    async fn prepare(&self, environment: &Scope, limits: &Limits) -> Result<Option<String>> {
        let machines = self
            .machines
            .iter()
            .map(|it| it.prepare(environment, limits));
        let names = try_join_all(machines).await?;
        Ok(names.into_iter().flatten().next())
    }

    async fn discard(&self, environment: &Scope) -> Result<()> {
        let machines = self.machines.iter().map(|it| it.discard(environment));
        try_join_all(machines).await.map(drop)
    }

    async fn apply(&self, workload: &Workload) -> Result<()> {
        self.home(&workload.id.application).apply(workload).await
    }

    async fn observe(&self, id: &WorkloadId) -> Result<Option<WorkloadStatus>> {
        self.home(&id.application).observe(id).await
    }

    async fn list(&self) -> Result<Vec<WorkloadId>> {
        let workloads = self.machines.iter().map(|machine| machine.list());
        Ok(try_join_all(workloads).await?.concat())
    }

    async fn remove(&self, id: &WorkloadId) -> Result<()> {
        self.home(&id.application).remove(id).await
    }

    async fn logs(&self, request: &LogRequest) -> Result<BoxStream<'static, Result<LogLine>>> {
        self.home(&request.application).logs(request).await
    }

    async fn exec(&self, request: &ExecRequest) -> Result<Exec> {
        self.home(&request.workload.application).exec(request).await
    }

    async fn peer(&self, from: &ApplicationKey, peer: &Peer) -> Result<PeerAddress> {
        self.home(from).peer(from, peer).await
    }

    async fn watch(&self) -> Result<BoxStream<'static, WorkloadId>> {
        let watches = self.machines.iter().map(|machine| machine.watch());
        Ok(stream::select_all(try_join_all(watches).await?).boxed())
    }
}

/// A platform whose other parts are in memory, so that there is nothing to look at but the fleet.
fn platform(fleet: Fleet, network: &memory::Network, volumes: memory::Volumes) -> Result<Platform> {
    let (clock, ids) = (Arc::new(memory::Clock::new()), Arc::new(memory::Ids::new()));
    let registry = Arc::new(memory::Registry::new());
    let backends = Backends {
        store: Arc::new(memory::Store::new(clock.clone(), ids.clone())),
        builder: Arc::new(memory::Builder::new(clock.clone(), registry.clone())),
        registry,
        scheduler: Arc::new(fleet),
        ingress: Arc::new(memory::Ingress::new(clock.clone(), network)),
        volumes: Arc::new(volumes),
    };
    Platform::new(backends, Settings::default(), clock, ids)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let (network, volumes) = (memory::Network::new(), memory::Volumes::new());
    let machine = |name: &str| {
        let machine = memory::Scheduler::new(Arc::new(memory::Clock::new()), &network, &volumes);
        machine.set_nodes(vec![Node {
            name: name.to_owned(),
            offer: Offer {
                capacity: Capacity {
                    cpu_millis: 4000,
                    memory: 8 << 30,
                    instances: 100,
                },
                ..Offer::default()
            },
            ready: true,
            notes: Vec::new(),
        }]);
        Arc::new(machine) as Arc<dyn Scheduler>
    };
    let machines = ["oslo", "lima", "kyoto"].map(machine).to_vec();
    let platform = platform(Fleet { machines }, &network, volumes.clone())?;
    let running = platform.clone();
    tokio::spawn(async move { running.run().await });
    platform.client().sync().await;
    let [tenant, project, environment] = ["default", "default", "production"].map(Name::new);
    platform
        .create_environment(&tenant?, &project?, &environment?)
        .await?;

    for name in ["blog", "mail", "shop", "wiki"] {
        let key = format!("default/default/production/{name}").parse()?;
        let source = Source::Git {
            url: format!("https://example.com/{name}"),
            reference: "main".to_owned(),
            commit: "1f3870be274f6c49b3e31a0c6728957f".to_owned(),
        };
        let resolved = Manifest::default().resolve(&Name::new("production")?, source);
        let accepted = platform.deploy(&key, resolved.into()).await?;
        platform.settle(&key, &accepted).await?;
    }
    let fleet = &platform.backends().scheduler;
    for id in fleet.list().await? {
        let status = fleet.observe(&id).await?;
        for instance in status.into_iter().flat_map(|status| status.instances) {
            println!(
                "{:8}{:12}{}",
                id.application.name, instance.id, instance.node
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use tappaas::core::{
        backend::{Endpoint, Template, VolumeId},
        model::SecretReference,
    };
    use tappaas_testkit::{
        Memory, Program,
        conformance::{Failure, scheduler::SchedulerFixture},
    };

    use super::*;

    /// Three machines in memory, on one network.
    #[derive(Debug)]
    struct Three([Memory; 3]);

    impl Three {
        fn new() -> Self {
            let first = Memory::new();
            let (second, third) = (first.neighbour(), first.neighbour());
            Self([first, second, third])
        }
    }

    #[async_trait]
    impl SchedulerFixture for Three {
        fn scheduler(&self) -> Arc<dyn Scheduler> {
            let machines = self.0.iter().map(SchedulerFixture::scheduler);
            Arc::new(Fleet {
                machines: machines.collect(),
            })
        }

        async fn template(&self, program: &Program) -> Template {
            for machine in &self.0[1..] {
                machine.template(program).await;
            }
            self.0[0].template(program).await
        }

        async fn get(&self, endpoint: &Endpoint, path: &str) -> Result<String, Failure> {
            self.0[0].get(endpoint, path).await
        }

        fn fetch(&self, host: &str, port: u16) -> Vec<String> {
            self.0[0].fetch(host, port)
        }

        async fn secret(&self, _: &str) -> Option<SecretReference> {
            None
        }

        async fn volume(&self) -> Option<VolumeId> {
            self.0[0].volume().await
        }
    }

    tappaas_testkit::scheduler_conformance!(
        #[tokio::test(start_paused = true)]
        Three::new()
    );
}
