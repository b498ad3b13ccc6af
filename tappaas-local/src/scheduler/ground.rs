use std::{num::NonZeroUsize, sync::Arc};

use tappaas_core::{
    Clock, Durable, Error, Ids, Result,
    backend::{Node, Registry},
    placement::{Capacity, Offer},
};
use tokio::sync::{OnceCell, Semaphore};

use super::{
    about::Folders,
    config::{SchedulerConfig, unusable},
    confines::{Confines, Found},
    slots::Slots,
};
use crate::{
    image::Images,
    network::Networks,
    sandbox::{Enforced, HostStack, Isolation},
    volumes::Volumes,
};

/// What instances of this machine are made with.
#[derive(Debug)]
pub(super) struct Ground {
    pub(super) config: SchedulerConfig,
    pub(super) isolation: Isolation,
    pub(super) enforced: Enforced,
    pub(super) node: Node,
    /// Where root runs instances in sandboxes.
    pub(super) networks: Option<Networks>,
    /// The stack `host`, once somebody looked.
    pub(super) stack: OnceCell<Arc<HostStack>>,
    pub(super) images: Images,
    pub(super) volumes: Volumes,
    pub(super) slots: Slots,
    pub(super) folders: Folders,
    pub(super) durable: Arc<dyn Durable>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) ids: Arc<dyn Ids>,
    /// So many instances start at once.
    pub(super) starting: Semaphore,
}

impl Ground {
    pub(super) async fn prepare(
        mut config: SchedulerConfig,
        registry: Arc<dyn Registry>,
        durable: Arc<dyn Durable>,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn Ids>,
    ) -> Result<Self> {
        let data = config.data_dir.clone();
        let at = |name: &str| data.join(name);
        let folders =
            Folders::open(at("instances")).map_err(|error| unusable(&config.data_dir, error))?;
        let found = Found::of(&config).await?;
        let Confines {
            isolation,
            networks,
            pasta,
        } = found.confines;
        config.network.pasta = pasta;
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Ok(Self {
            node: node(&config, cores, found.notes),
            stack: OnceCell::new(),
            images: Images::open(at("images"), registry).await?,
            volumes: Volumes::open(at("volumes")).await?,
            slots: Slots::new(Arc::clone(&durable)),
            starting: Semaphore::new((2 * cores).clamp(4, 32)),
            config,
            isolation,
            enforced: found.enforced,
            networks,
            folders,
            durable,
            clock,
            ids,
        })
    }

    /// The stack `host`, as it was when it was first asked for: instances of one server agree about it.
    pub(super) async fn stack(&self) -> Result<Arc<HostStack>> {
        let look = || async {
            let (folder, toolchains) = (
                self.config.data_dir.join("stack"),
                self.config.toolchains.clone(),
            );
            let looked =
                tokio::task::spawn_blocking(move || HostStack::prepare(&folder, &toolchains)).await;
            let looked = looked.map_err(|error| {
                Error::internal("looking at the userland was cut short").with_source(error)
            })?;
            looked.map(Arc::new)
        };
        self.stack.get_or_try_init(look).await.cloned()
    }

    /// Instances share the machine's network.
    pub(super) fn host_network(&self) -> bool {
        match self.isolation {
            Isolation::Privileged => false,
            Isolation::Rootless => self.config.network.host,
            Isolation::None => true,
        }
    }
}

fn node(config: &SchedulerConfig, cores: usize, notes: Vec<String>) -> Node {
    let total = std::fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| {
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix("MemTotal:"))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        });
    let capacity = &config.capacity;
    Node {
        name: config.node.clone(),
        offer: Offer {
            capacity: Capacity {
                cpu_millis: capacity.cpu_millis.unwrap_or(1000 * cores as u64),
                memory: capacity
                    .memory_bytes
                    .or_else(|| Some(total? << 10))
                    .unwrap_or(u64::MAX),
                instances: capacity.instances.unwrap_or(INSTANCES),
            },
            ..Offer::default()
        },
        ready: true,
        notes,
    }
}

const INSTANCES: u32 = 1000;
