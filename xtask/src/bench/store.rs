use std::path::Path;
use std::process::Command;

use super::benchmarks::Course;
use super::figure::{Figure, Goal};
use super::program::{Printed, Server};
use crate::Result;
use crate::platform::free_port;
use crate::scratch::Scratch;

const WRITERS: &str = "64";
const OBJECTS: &str = "10000";

pub(super) fn measure(course: &Course) -> Result<Vec<Figure>> {
    let scratch = Scratch::new("bench-store")?;
    let (mut ours, mut theirs) = (Many::default(), Many::default());
    let (mut alone, mut syncs) = (Vec::new(), Vec::new());
    let (mut quiet, mut compacting, mut reopened) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..course.rounds {
        let figures = |what: &str, argument: &[&str]| {
            let mut command = Command::new(course.release.join("examples/figures"));
            Printed::by(command.arg(what).arg(&scratch.path).args(argument))
        };
        ours.take(&figures("puts", &[WRITERS])?)?;
        theirs.take(&etcd(course, &scratch.path)?)?;
        alone.push(figures("puts", &["1"])?.one("put-p50-ms")?);
        syncs.push(figures("sync", &[])?.one("sync-p50-ms")?);
        let compaction = figures("compaction", &[OBJECTS])?;
        quiet.push(compaction.one("quiet-p99-ms")?);
        compacting.push(compaction.one("compacting-p99-ms")?);
        reopened.push(figures("reopening", &[OBJECTS])?.one("crashed-ms")?);
    }
    scratch.remove()?;
    Ok(vec![
        Figure::new("64 writers of 256 B, the library", "puts/s", ours.rates)
            .beside("etcd", theirs.rates)
            .goal(Goal::MinRatio(2.0)),
        Figure::new("64 writers, a write's p99", "ms", ours.slowest).beside("etcd", theirs.slowest),
        // A commit takes two syncs, for quick repair.
        Figure::new("one writer, a write's p50", "ms", alone)
            .beside("one fdatasync", syncs)
            .goal(Goal::MaxRatio(3.5)),
        Figure::new(
            "8 writers' p99 while 10,000 changes are forgotten",
            "ms",
            compacting,
        )
        .beside("without", quiet)
        .goal(Goal::MaxRatio(2.0)),
        Figure::new(
            "opening 10,000 objects of 2 KiB after a crash, all of it checked",
            "ms",
            reopened,
        ),
    ])
}

#[derive(Default)]
struct Many {
    rates: Vec<f64>,
    slowest: Vec<f64>,
}

impl Many {
    fn take(&mut self, printed: &Printed) -> Result {
        self.rates.push(printed.one("put-per-s")?);
        self.slowest.push(printed.one("put-p99-ms")?);
        Ok(())
    }
}

/// An etcd by its defaults on the same disk, and as many connections as ours has writers.
fn etcd(course: &Course, folder: &Path) -> Result<Printed> {
    let data = folder.join("etcd");
    let (port, peers) = (free_port()?, free_port()?);
    let (client, peer) = (
        format!("http://127.0.0.1:{port}"),
        format!("http://127.0.0.1:{peers}"),
    );
    let mut command = Command::new("etcd");
    command.arg("--data-dir").arg(&data);
    command.args([
        "--listen-client-urls",
        &client,
        "--advertise-client-urls",
        &client,
    ]);
    command.args([
        "--listen-peer-urls",
        &peer,
        "--initial-advertise-peer-urls",
        &peer,
    ]);
    command.args([
        "--initial-cluster",
        &format!("default={peer}"),
        "--log-level",
        "error",
    ]);
    let server = Server::start(&mut command, port)?;
    let mut load = Command::new(course.release.join("examples/etcd"));
    let printed = Printed::by(load.args([&format!("127.0.0.1:{port}"), WRITERS]))?;
    drop(server);
    std::fs::remove_dir_all(data)?;
    Ok(printed)
}
