//! The contract of the builder, sentence by sentence.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use tappaas_core::{
    backend,
    manifest::Bytes,
    model::{BuildSpec, Command, Source},
};
use tappaas_local::Builder;
use tappaas_testkit::conformance::{
    Failure,
    builder::{BuilderFixture, Course, Project},
};

use super::bench::Bench;

tappaas_testkit::builder_conformance!(Fixture::new().await);

struct Fixture {
    bench: Bench,
    builder: Arc<Builder>,
}

impl Fixture {
    async fn new() -> Self {
        let mut bench = Bench::new().await;
        bench.config.limits.disk = Bytes(64 << 20);
        bench.config.concurrency = 2;
        let builder = Arc::new(bench.builder().await);
        Self { bench, builder }
    }
}

impl fmt::Debug for Fixture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.builder.fmt(f)
    }
}

#[async_trait]
impl BuilderFixture for Fixture {
    fn builder(&self) -> Arc<dyn backend::Builder> {
        Arc::clone(&self.builder) as _
    }

    fn registry(&self) -> Arc<dyn backend::Registry> {
        Arc::clone(&self.bench.parts.registry)
    }

    async fn source(&self, project: &Project) -> Result<Option<(Source, BuildSpec)>, Failure> {
        let name = &project.name;
        let source = self
            .bench
            .upload(&[("Procfile", "web: true\n"), ("name", name)])
            .await;
        let line = match project.course {
            Course::Good(takes) => {
                format!("echo building {name}; sleep {}; echo done", takes.as_secs())
            }
            Course::Broken => "exit 1".to_owned(),
            // Where the disk is measured, it needs time to be found out.
            Course::Greedy => "head -c 100000000 /dev/zero > big || exit 1; sleep 300".to_owned(),
        };
        let spec = BuildSpec {
            command: Some(Command::Shell(line)),
            ..BuildSpec::default()
        };
        Ok(Some((source, spec)))
    }
}
