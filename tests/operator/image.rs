//! The operator's image, built by the platform from these sources and served by its own registry.

use std::{net::SocketAddr, path::PathBuf, process::Command, sync::Arc};

use futures::{StreamExt as _, future};
use tappaas::{Machine, MachineConfig, Package, RandomIds, SystemClock, registry};
use tappaas_core::{
    backend::BuildId,
    model::{ApplicationKey, BuildObjectSpec},
};
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::{cluster::Cluster, world::sources};

/// As the cluster's nodes know the registry.
const HOST: &str = "images.test";
/// Nothing of it is to run here.
const MANIFEST: &str = r#"
[build]
stack = "scratch"

[processes.web]
command = ["/app/bin/tappaas", "operator"]
replicas = 0
"#;

/// A registry that the cluster's nodes pull from.
pub(crate) struct Served {
    /// The image's name there.
    pub(crate) reference: String,
    _folder: TempDir,
}

/// Builds the image, and serves it for as long as the test runs.
pub(crate) async fn build_and_serve(cluster: &Cluster) -> Served {
    let folder = tempfile::tempdir().unwrap();
    let image = build(&folder).await;
    let store = registry::Config::new(folder.path().join("registry"));
    let store = registry::Store::open(store, Arc::new(SystemClock)).await;
    let router = registry::server::router(store.unwrap(), Arc::new(RandomIds));
    let listener = TcpListener::bind((cluster.fact("host"), 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(registry::server::serve(
        listener,
        router,
        16,
        future::pending(),
    ));
    introduce(cluster, address);
    Served {
        reference: format!("{HOST}/{image}"),
        _folder: folder,
    }
}

/// Deploys the sources as people would, and returns the image that came of it.
async fn build(folder: &TempDir) -> String {
    let mut config = MachineConfig::new(folder.path(), env!("CARGO_BIN_EXE_tappaas"));
    config.edge.listen = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
    config.builder.limits.memory.0 = 8 << 30;
    config.builder.toolchains = vec![toolchain()];
    let machine = Machine::open(config).await.unwrap();
    let platform = machine.platform();
    let key: ApplicationKey = "default/default/production/tappaas".parse().unwrap();
    let mut package = Package::read(sources(), Some(&key.name)).unwrap();
    package.manifest = MANIFEST.to_owned();
    let accepted = package.deploy(platform, &key).await.unwrap();
    let settled = platform.settle(&key, &accepted).await;
    let log = match &settled {
        Ok(_) => String::new(),
        Err(_) => log(&machine, &key).await,
    };
    // Also after a failure: the edge would go on.
    machine.stop_applications().await.unwrap();
    let settled = settled.unwrap_or_else(|error| panic!("{error}\n{log}"));
    settled.status.image.unwrap().to_string()
}

/// The folder of the compiler that compiled this test.
fn toolchain() -> PathBuf {
    let mut rustc = Command::new("rustc");
    let printed = rustc.args(["--print", "sysroot"]).output().unwrap();
    String::from_utf8(printed.stdout).unwrap().trim().into()
}

/// What the builds wrote.
async fn log(machine: &Machine, key: &ApplicationKey) -> String {
    let platform = machine.platform();
    let mut text = String::new();
    for build in platform.client().list::<BuildObjectSpec>(&key.scope()) {
        let id = BuildId(build.metadata.uid);
        let lines = platform.backends().builder.logs(&id, false).await.unwrap();
        let lines: Vec<_> = lines.collect().await;
        for line in lines.into_iter().flatten() {
            text.push_str(&line.text);
            text.push('\n');
        }
    }
    text
}

/// Tells the nodes' containerd where the registry is (its `hosts.toml`).
fn introduce(cluster: &Cluster, address: SocketAddr) {
    let server = format!("http://{address}");
    let mut host = toml::Table::new();
    host.insert("capabilities".to_owned(), vec!["pull", "resolve"].into());
    let mut hosts = toml::Table::new();
    hosts.insert(server.clone(), host.into());
    let mut file = toml::Table::new();
    file.insert("server".to_owned(), server.into());
    file.insert("host".to_owned(), hosts.into());
    let folder = std::path::Path::new(cluster.fact("registries")).join(HOST);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("hosts.toml"), file.to_string()).unwrap();
}
