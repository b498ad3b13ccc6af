use std::path::PathBuf;

use super::figure::Figure;
use super::{deploy, proxy, route, server, start, store};
use crate::Result;
use crate::tools::{self, Tool};
use crate::workspace::Workspace;

/// Something that is measured beside others that do the same.
pub(crate) struct Benchmark {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    /// The peers and what puts load on them.
    pub(crate) tools: &'static [&'static Tool],
    /// What of ours it runs, as it is asked of `cargo build --release`.
    pub(super) builds: &'static [&'static str],
    pub(super) measure: fn(&Course) -> Result<Vec<Figure>>,
}

/// What a benchmark runs with.
pub(super) struct Course {
    /// Where the release builds of our programs and examples are.
    pub(super) release: PathBuf,
    /// How often ours and the peers take their turn.
    pub(super) rounds: usize,
}

impl Course {
    pub(super) fn new(workspace: &Workspace, rounds: usize) -> Self {
        Self {
            release: workspace.target.join("release"),
            rounds,
        }
    }
}

const PROGRAM: &[&str] = &["--package tappaas --bin tappaas"];

/// Every benchmark, in the order of a whole run.
pub(crate) const ALL: &[Benchmark] = &[
    Benchmark {
        name: "store",
        about: "durable writes beside etcd's, one write beside one sync, compaction, a restart",
        tools: &[&tools::ETCD],
        builds: &["--package tappaas-store --example figures --example etcd"],
        measure: store::measure,
    },
    Benchmark {
        name: "proxy",
        about: "proxied HTTP requests of one core, and their latency at half of that, beside haproxy and nginx",
        tools: &[&tools::HAPROXY, &tools::NGINX, &tools::TASKSET, &tools::WRK],
        builds: &["--package tappaas-tls --example edge --example pace"],
        measure: proxy::measure,
    },
    Benchmark {
        name: "route",
        about: "from a change of one route to the first answer by it, with 5,000 routes",
        tools: &[],
        builds: &["--package tappaas-tls --example routes"],
        measure: route::measure,
    },
    Benchmark {
        name: "start",
        about: "a sandboxed instance beside a runc container with the same namespaces, mounts and limits",
        tools: &[&tools::RUNC],
        builds: &["--package tappaas-local --example start"],
        measure: start::measure,
    },
    Benchmark {
        name: "deploy",
        about: "deploys of a static site: of an image that is there, of no change, of a hundred applications at once",
        tools: &[],
        builds: PROGRAM,
        measure: deploy::measure,
    },
    Benchmark {
        name: "server",
        about: "a server with 10,000 applications: its start after a crash, its memory, reads over its socket",
        tools: &[],
        builds: PROGRAM,
        measure: server::measure,
    },
];
