//! The contract of [`Volumes`], case by case.

use std::{fmt, path::PathBuf, sync::Arc};

use tappaas_core::{
    ErrorKind,
    backend::{Mount, Template, Volume, VolumeId, Volumes},
};

use super::{
    Failure, Verdict, application_key,
    macros::ensure,
    name, pass_over,
    scheduler::{SchedulerFixture, Stage},
    until,
    verdict::{refused, same},
};
use crate::Program;

/// What the suite needs to know of volumes. One fixture has no volume yet.
pub trait VolumesFixture: fmt::Debug + Send + Sync {
    /// The volumes.
    fn volumes(&self) -> Arc<dyn Volumes>;

    /// The scheduler that mounts them.
    fn scheduling(&self) -> &dyn SchedulerFixture;
}

/// Expands to a test for each sentence of the contract of [`Volumes`](tappaas_core::backend::Volumes).
///
/// Takes an expression for a [`VolumesFixture`](crate::conformance::volumes::VolumesFixture), which may `.await`, and before it,
/// optionally, the attribute that makes a test: `#[tokio::test]` if none is given.
#[macro_export]
macro_rules! volumes_conformance {
    (#[$test:meta] $fixture:expr) => {
        $crate::conformance_tests! { volumes, $test, $fixture,
            an_applied_volume_is_there
            a_size_may_rise_and_never_fall
            content_is_there_for_the_next_instance
            applying_again_keeps_the_content
            a_mount_that_is_read_only_refuses_writes
            remove_deletes_the_content
            a_held_volume_is_not_removed
            removing_the_unknown_succeeds
            a_snapshot_has_its_name_for_itself
        }
    };
    ($fixture:expr) => {
        $crate::volumes_conformance!(
            #[tokio::test]
            $fixture
        );
    };
}

/// `apply` creates a volume; `observe` and `list` tell of every volume there is, and of no other.
pub async fn an_applied_volume_is_there(fixture: &dyn VolumesFixture) -> Verdict {
    let volumes = fixture.volumes();
    let (one, two) = (volume("one", None), volume("two", Some(1 << 20)));
    ensure!(
        volumes.observe(&one.id).await?.is_none(),
        "a volume never applied is observed"
    );
    same(
        volumes.list().await?,
        vec![],
        "the volumes before the first",
    )?;
    for volume in [&one, &two, &one] {
        volumes.apply(volume).await?;
        ensure!(
            volumes.observe(&volume.id).await?.is_some(),
            "an applied volume is not observed"
        );
    }
    let mut listed = volumes.list().await?;
    listed.sort();
    same(listed, vec![one.id, two.id], "the volumes")
}

/// `apply` may raise a volume's size; lowering it is `Invalid`.
pub async fn a_size_may_rise_and_never_fall(fixture: &dyn VolumesFixture) -> Verdict {
    let volumes = fixture.volumes();
    for size in [1 << 20, 2 << 20, 2 << 20] {
        volumes.apply(&volume("a", Some(size))).await?;
    }
    let answer = volumes.apply(&volume("a", Some(1 << 20))).await;
    refused(answer, ErrorKind::Invalid, "a smaller size")
}

/// Content written by an instance is there for the next instance that mounts the volume, also of a later workload.
pub async fn content_is_there_for_the_next_instance(fixture: &dyn VolumesFixture) -> Verdict {
    let desk = Desk::new(fixture).await?;
    desk.write("one", "content").await?;
    let read = desk.read("two").await?;
    same(
        read.as_deref(),
        Some("content"),
        "what the next instance reads",
    )
}

/// `apply` changes nothing about a volume's content if it is there.
pub async fn applying_again_keeps_the_content(fixture: &dyn VolumesFixture) -> Verdict {
    let desk = Desk::new(fixture).await?;
    desk.write("one", "content").await?;
    let larger = Volume {
        id: desk.id.clone(),
        size: Some(64 << 20),
    };
    fixture.volumes().apply(&larger).await?;
    let read = desk.read("one").await?;
    same(read.as_deref(), Some("content"), "what is read afterwards")
}

/// Writes to a read-only mount are refused.
pub async fn a_mount_that_is_read_only_refuses_writes(fixture: &dyn VolumesFixture) -> Verdict {
    let desk = Desk::new(fixture).await?;
    desk.write("one", "content").await?;
    let mut stage = desk.open("two", true).await?;
    let ran = stage.exec(&["tee", "/data/file"], "other").await?;
    ensure!(ran.code != 0, "a read-only mount was written to: {ran:?}");
    desk.close(&mut stage).await?;
    let read = desk.read("two").await?;
    same(read.as_deref(), Some("content"), "what is there afterwards")
}

/// `remove` deletes the content.
pub async fn remove_deletes_the_content(fixture: &dyn VolumesFixture) -> Verdict {
    let desk = Desk::new(fixture).await?;
    desk.write("one", "content").await?;
    let volumes = fixture.volumes();
    volumes.remove(&desk.id).await?;
    ensure!(
        volumes.observe(&desk.id).await?.is_none(),
        "a removed volume is observed"
    );
    same(volumes.list().await?, vec![], "the volumes left")?;
    let again = Desk::new(fixture).await?;
    same(
        again.read("two").await?,
        None,
        "what a new volume of the same name has",
    )
}

/// `remove` of a volume that an instance holds is `Conflict`, and leaves its content.
pub async fn a_held_volume_is_not_removed(fixture: &dyn VolumesFixture) -> Verdict {
    let desk = Desk::new(fixture).await?;
    let volumes = fixture.volumes();
    desk.write("one", "content").await?;
    for read_only in [false, true] {
        let mut stage = desk.open("two", read_only).await?;
        let answer = volumes.remove(&desk.id).await;
        refused(answer, ErrorKind::Conflict, "a held volume")?;
        let read = stage.exec(&["cat", "/data/file"], "").await?;
        ensure!(read.output == "content", "the content is gone: {read:?}");
        desk.close(&mut stage).await?;
    }
    volumes.remove(&desk.id).await?;
    Ok(())
}

/// `remove` of an unknown volume succeeds.
pub async fn removing_the_unknown_succeeds(fixture: &dyn VolumesFixture) -> Verdict {
    let volumes = fixture.volumes();
    let unknown = volume("unknown", None);
    volumes.remove(&unknown.id).await?;
    volumes.apply(&unknown).await?;
    volumes.remove(&unknown.id).await?;
    volumes.remove(&unknown.id).await?;
    Ok(())
}

/// `snapshot` keeps a copy under a name; the same name again is `AlreadyExists`.
pub async fn a_snapshot_has_its_name_for_itself(fixture: &dyn VolumesFixture) -> Verdict {
    let volumes = fixture.volumes();
    let volume = volume("a", None);
    volumes.apply(&volume).await?;
    match volumes.snapshot(&volume.id, &name("first")).await {
        Err(error) if error.kind() == ErrorKind::Unsupported => {
            pass_over("a_snapshot_has_its_name_for_itself", error.message());
            return Ok(());
        }
        taken => taken?,
    }
    let answer = volumes.snapshot(&volume.id, &name("first")).await;
    refused(answer, ErrorKind::AlreadyExists, "a snapshot's name again")?;
    volumes.snapshot(&volume.id, &name("second")).await?;
    let unknown = self::volume("unknown", None);
    let answer = volumes.snapshot(&unknown.id, &name("first")).await;
    refused(
        answer,
        ErrorKind::NotFound,
        "a snapshot of an unknown volume",
    )
}

/// A volume, and instances that mount it at `/data`.
struct Desk<'a> {
    scheduling: &'a dyn SchedulerFixture,
    id: VolumeId,
}

impl<'a> Desk<'a> {
    async fn new(fixture: &'a dyn VolumesFixture) -> Result<Self, Failure> {
        let volume = volume("a", None);
        fixture.volumes().apply(&volume).await?;
        Ok(Self {
            scheduling: fixture.scheduling(),
            id: volume.id,
        })
    }

    /// Runs an instance of an application that mounts the volume.
    async fn open(&self, application: &str, read_only: bool) -> Result<Stage<'a>, Failure> {
        let mut stage = Stage::of(self.scheduling, application);
        let mut template: Template = stage.template(Program::Idle).await;
        template.mounts.push(Mount {
            volume: self.id.clone(),
            path: PathBuf::from("/data"),
            read_only,
        });
        stage.apply(&[(1, 1, &template)]).await?;
        stage.ready(1).await?;
        Ok(stage)
    }

    /// Takes the application away again.
    async fn close(&self, stage: &mut Stage<'_>) -> Verdict {
        stage.scheduler.remove(&stage.id).await?;
        until("the instance is gone", async || {
            Ok((!stage.scheduler.list().await?.contains(&stage.id)).then_some(()))
        })
        .await
    }

    async fn write(&self, application: &str, content: &str) -> Verdict {
        let mut stage = self.open(application, false).await?;
        let ran = stage.exec(&["tee", "/data/file"], content).await?;
        ensure!(ran.code == 0, "the volume cannot be written to: {ran:?}");
        self.close(&mut stage).await
    }

    async fn read(&self, application: &str) -> Result<Option<String>, Failure> {
        let mut stage = self.open(application, false).await?;
        let ran = stage.exec(&["cat", "/data/file"], "").await?;
        self.close(&mut stage).await?;
        Ok((ran.code == 0).then_some(ran.output))
    }
}

fn volume(volume: &str, size: Option<u64>) -> Volume {
    Volume {
        id: VolumeId {
            application: application_key("app"),
            name: name(volume),
        },
        size,
    }
}
