//! A platform inside your own program: deploys a folder, prints where it answers, and serves it for a minute.
use std::{error::Error, fs, path::Path, time::Duration};

use tappaas::{Package, Server, ServerConfig};

fn main() -> Result<(), Box<dyn Error>> {
    tappaas::helper_main(); // instances and the edge are processes of this same program
    tokio::runtime::Runtime::new()?.block_on(serve("examples/apps/hello".as_ref()))
}

#[expect(clippy::print_stdout, reason = "an example shows what it does")]
async fn serve(folder: &Path) -> Result<(), Box<dyn Error>> {
    let (data, program) = (tempfile::tempdir()?, fs::canonicalize("/proc/self/exe")?);
    let server = Server::open(ServerConfig::new(data.path(), program)).await?;
    let platform = server.platform();

    let key = "default/default/production/hello".parse()?;
    let accepted = Package::read(folder, None)?.deploy(platform, &key).await?;
    let application = platform.settle(&key, &accepted).await?; // built, started, healthy, routed

    println!("http://{}:8080", application.status.hosts[0]);
    tokio::time::sleep(Duration::from_secs(60)).await;
    Ok(server.stop_applications().await?)
}
