use std::path::PathBuf;

use super::figure::Figure;
use super::{deploy, kubernetes, neighbours, proxy, rebuild, route, server, start, store};
use crate::Result;
use crate::testbed;
use crate::tools::{self, Tool};
use crate::workspace::Workspace;

/// Something that is measured beside others that do the same.
pub(crate) struct Benchmark {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    /// The peers and what puts load on them.
    pub(crate) tools: &'static [&'static Tool],
    pub(super) measure: fn(&Course) -> Result<Vec<Figure>>,
}

/// What a benchmark runs with.
pub(super) struct Course {
    pub(super) workspace: Workspace,
    /// The checkout.
    pub(super) root: PathBuf,
    /// Where the release builds of our programs and examples are.
    pub(super) release: PathBuf,
    /// How often ours and the peers take their turn.
    pub(super) rounds: usize,
}

impl Course {
    pub(super) fn new(workspace: &Workspace, rounds: usize) -> Self {
        Self {
            workspace: workspace.clone(),
            root: workspace.root.clone(),
            release: workspace.target.join("release"),
            rounds,
        }
    }
}

/// Every benchmark, in the order of a whole run.
pub(crate) const ALL: &[Benchmark] = &[
    Benchmark {
        name: "store",
        about: "durable writes beside etcd's, one write beside one sync, compaction, a restart",
        tools: &[&tools::ETCD],
        measure: store::measure,
    },
    Benchmark {
        name: "proxy",
        about: "proxied HTTP requests of one core, and their latency at half of that, beside haproxy, nginx and Envoy",
        tools: &[
            &tools::ENVOY,
            &tools::HAPROXY,
            &tools::NGINX,
            &tools::PIP,
            &tools::TASKSET,
            &tools::WRK,
        ],
        measure: proxy::measure,
    },
    Benchmark {
        name: "route",
        about: "from a change of one route to the first answer by it, with 5,000 routes",
        tools: &[],
        measure: route::measure,
    },
    Benchmark {
        name: "start",
        about: "a sandboxed instance beside a runc container with the same namespaces, mounts and limits",
        tools: &[&tools::RUNC],
        measure: start::measure,
    },
    Benchmark {
        name: "deploy",
        about: "deploys of a static site: of an image that is there, of no change, of a hundred applications at once",
        tools: &[],
        measure: deploy::measure,
    },
    Benchmark {
        name: "rebuild",
        about: "podinfo with nothing and with one file changed, beside buildah with layers and caches",
        tools: &[&tools::BUILDAH, &tools::GO],
        measure: rebuild::measure,
    },
    Benchmark {
        name: "server",
        about: "a server with 10,000 applications: its start after a crash, its memory, reads over its socket",
        tools: &[],
        measure: server::measure,
    },
    Benchmark {
        name: "neighbours",
        about: "an application's answers beside others, and builds, that take all they get",
        tools: &[],
        measure: neighbours::measure,
    },
    Benchmark {
        name: "kubernetes",
        about: "an operator with 200 applications on simulated nodes, beside the same objects without one",
        tools: testbed::TOOLS,
        measure: kubernetes::measure,
    },
];
