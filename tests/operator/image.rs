//! The operator's image, built by the platform from these sources and served by its own registry.

use std::{net::SocketAddr, path::PathBuf, process::Command};

use futures::StreamExt as _;
use tappaas::{IngressConfig, Package, Server, ServerConfig, tls::EdgeConfig};
use tappaas_core::{
    backend::BuildId,
    model::{ApplicationKey, BuildObjectSpec},
};
use tempfile::TempDir;

use crate::{cluster::Cluster, world::sources};

/// As the cluster's nodes know the registry.
const HOST: &str = "images.test";
/// Nothing of it is to run here. Without the command it would be optimised, which takes several times as long.
const MANIFEST: &str = r#"
[build]
stack = "scratch"
command = """
export CARGO_PROFILE_DEV_DEBUG=0 RUSTFLAGS='-C target-feature=+crt-static -C strip=symbols'
cargo build --locked --bin tappaas --target x86_64-unknown-linux-gnu
mkdir -p bin
mv "${CARGO_TARGET_DIR:-target}/x86_64-unknown-linux-gnu/debug/tappaas" bin/
"""

[processes.web]
command = ["/app/bin/tappaas", "operator"]
replicas = 0
"#;

/// A registry that the cluster's nodes pull from.
pub(crate) struct Served {
    /// The image's name there.
    pub(crate) reference: String,
    server: Server,
    _folder: TempDir,
}

impl Served {
    /// Ends all that runs for it.
    pub(crate) async fn end(self) {
        self.server.stop_applications().await.unwrap();
    }
}

/// Deploys the sources as people would, and serves the image that comes of it for as long as the test runs.
pub(crate) async fn build_and_serve(cluster: &Cluster) -> Served {
    let folder = tempfile::tempdir().unwrap();
    let mut config = ServerConfig::new(folder.path(), env!("CARGO_BIN_EXE_tappaas"));
    config.ingress = IngressConfig::Edge(EdgeConfig {
        listen: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
        ..EdgeConfig::default()
    });
    config.builder.limits.memory.0 = 8 << 30;
    config.builder.toolchains = vec![toolchain()];
    let host = cluster.fact("host").parse().unwrap();
    config.registry.listen = Some(SocketAddr::new(host, 0));
    let server = Server::open(config).await.unwrap();
    let image = build(&server).await;
    introduce(cluster, server.pulls().unwrap());
    Served {
        reference: format!("{HOST}/{image}"),
        server,
        _folder: folder,
    }
}

async fn build(server: &Server) -> String {
    let platform = server.platform();
    let key: ApplicationKey = "default/default/production/tappaas".parse().unwrap();
    let mut package = Package::read(sources(), Some(&key.name)).unwrap();
    package.manifest = MANIFEST.to_owned();
    let accepted = package.deploy(platform, &key).await.unwrap();
    let settled = platform.settle(&key, &accepted).await;
    let log = match &settled {
        Ok(_) => String::new(),
        Err(_) => log(server, &key).await,
    };
    if settled.is_err() {
        // The edge would go on.
        server.stop_applications().await.unwrap();
    }
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
async fn log(server: &Server, key: &ApplicationKey) -> String {
    let platform = server.platform();
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
