//! A platform inside your own program: deploys a folder, prints where it answers, and serves it for a minute.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]
use std::{collections::BTreeMap, error::Error, time::Duration};

use futures::StreamExt as _;
use tappaas::{Deployment, Machine, MachineConfig, core::manifest::Manifest, local::archive};

fn main() -> Result<(), Box<dyn Error>> {
    tappaas::helper_main(); // instances and the edge are processes of this same program
    tokio::runtime::Runtime::new()?.block_on(serve("examples/apps/hello".as_ref()))
}

async fn serve(folder: &std::path::Path) -> Result<(), Box<dyn Error>> {
    let (data, program) = (
        tempfile::tempdir()?,
        std::fs::canonicalize("/proc/self/exe")?,
    );
    let machine = Machine::open(MachineConfig::new(data.path(), program)).await?;
    let (platform, app) = (
        machine.platform(),
        "default/default/production/hello".parse()?,
    );
    let mut source = Vec::new();
    let packed = archive::pack(folder, &[], &archive::Limits::SOURCE, &mut source)?;
    let source = futures::stream::iter([Ok(source.into())]).boxed();
    let source = platform.upload(&app, &packed.digest, source).await?;
    let content = Manifest::default()
        .resolve(&app.environment, source)
        .content;
    platform
        .deploy(
            &app,
            Deployment {
                content,
                scale: BTreeMap::new(),
            },
        )
        .await?;
    while platform.application(&app)?.status.current.is_none() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    println!(
        "http://{}:8080",
        platform.application(&app)?.status.hosts[0]
    );
    tokio::time::sleep(Duration::from_secs(60)).await;
    Ok(machine.stop_applications().await?)
}
