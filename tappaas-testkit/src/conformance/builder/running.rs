use std::time::Duration;

use futures::{
    TryStreamExt as _,
    future::{Either, join, join3, select},
};
use tappaas_core::{ErrorKind, backend::BuildId};

use super::{Bench, BuilderFixture, Course, keys::with_id};
use crate::conformance::{
    Failure, PATIENCE, Verdict,
    macros::ensure,
    pass_over,
    verdict::{refused, same},
};

/// Long enough that something can be done meanwhile.
const WHILE: Duration = Duration::from_secs(3);
/// Longer than any case.
const FOR_EVER: Duration = Duration::from_secs(600);

/// Building a running key attaches to it: it is built once.
pub async fn a_running_key_is_attached_to(fixture: &dyn BuilderFixture) -> Verdict {
    let bench = Bench::new(fixture);
    let one = bench.good("1", "a", WHILE).await?;
    let two = with_id(&one, "2");
    let second = async {
        bench.running(&["1"]).await?;
        Ok::<_, Failure>(bench.build(&two).await?)
    };
    let both = bench.running(&["1", "2"]);
    let (first, second, both) = join3(bench.build(&one), second, both).await;
    both?;
    same(first?.image, second?.image, "the image of both requests")?;
    for id in [&one.id, &two.id] {
        let lines = bench.lines(id).await?;
        let begun = lines.iter().filter(|line| *line == "building a").count();
        ensure!(
            begun == 1,
            "request {id} sees that it began {begun} times: {lines:?}"
        );
    }
    Ok(())
}

/// Dropping the future of `build` does not end the build: calling it again attaches.
pub async fn a_build_goes_on_when_nobody_waits(fixture: &dyn BuilderFixture) -> Verdict {
    let bench = Bench::new(fixture);
    let request = bench.good("1", "a", WHILE).await?;
    {
        let building = std::pin::pin!(bench.build(&request));
        let running = std::pin::pin!(bench.running(&["1"]));
        match select(building, running).await {
            Either::Left((outcome, _)) => {
                return Err(format!("it ended before it was listed: {outcome:?}").into());
            }
            Either::Right((running, _)) => running?,
        }
    }
    bench.running(&["1"]).await?;
    bench.build(&request).await?;
    let lines = bench.lines(&request.id).await?;
    let begun = lines.iter().filter(|line| *line == "building a").count();
    ensure!(begun == 1, "it began {begun} times: {lines:?}");
    Ok(())
}

/// A build that fails because of its source is `Invalid`, with the reason.
pub async fn a_source_that_does_not_build_is_invalid(fixture: &dyn BuilderFixture) -> Verdict {
    let bench = Bench::new(fixture);
    let Some(request) = bench.request("1", "a", Course::Broken).await? else {
        pass_over(
            "a_source_that_does_not_build_is_invalid",
            "the builder has no such source",
        );
        return Ok(());
    };
    for _ in 0..2 {
        let answer = bench.build(&request).await;
        refused(answer, ErrorKind::Invalid, "a broken source")?;
    }
    bench.running(&[]).await
}

/// A build that exceeds a limit is `Exhausted`.
pub async fn a_build_above_a_limit_is_exhausted(fixture: &dyn BuilderFixture) -> Verdict {
    let bench = Bench::new(fixture);
    let Some(request) = bench.request("1", "a", Course::Greedy).await? else {
        pass_over(
            "a_build_above_a_limit_is_exhausted",
            "the builder has no limits",
        );
        return Ok(());
    };
    let answer = bench.build(&request).await;
    refused(answer, ErrorKind::Exhausted, "a build above a limit")
}

/// A cancelled build is `Conflict`, and may be built again.
pub async fn a_cancelled_build_is_a_conflict(fixture: &dyn BuilderFixture) -> Verdict {
    let bench = Bench::new(fixture);
    let request = bench.good("1", "a", FOR_EVER).await?;
    let cancelling = async {
        bench.running(&["1"]).await?;
        bench.builder.cancel(&request.id).await?;
        bench.builder.cancel(&request.id).await?;
        Ok::<_, Failure>(())
    };
    let both = join(bench.build(&request), cancelling);
    let late = |_| Failure::from("a cancelled build did not end");
    let (outcome, cancelled) = tokio::time::timeout(PATIENCE, both).await.map_err(late)?;
    cancelled?;
    refused(outcome, ErrorKind::Conflict, "a cancelled build")?;
    bench.running(&[]).await
}

/// `cancel` ends a build only if no other request is attached to it.
pub async fn cancelling_one_request_leaves_the_others(fixture: &dyn BuilderFixture) -> Verdict {
    let bench = Bench::new(fixture);
    let one = bench.good("1", "a", WHILE).await?;
    let two = with_id(&one, "2");
    let second = async {
        bench.running(&["1"]).await?;
        Ok::<_, Failure>(bench.build(&two).await?)
    };
    let cancelling = async {
        bench.running(&["1", "2"]).await?;
        bench.builder.cancel(&one.id).await?;
        bench.running(&["2"]).await
    };
    let (first, second, cancelled) = join3(bench.build(&one), second, cancelling).await;
    cancelled?;
    refused(first, ErrorKind::Conflict, "the cancelled request")?;
    bench.is_whole(&second?.image).await
}

/// `cancel` of an unknown or ended build succeeds.
pub async fn cancelling_the_unknown_succeeds(fixture: &dyn BuilderFixture) -> Verdict {
    let bench = Bench::new(fixture);
    bench.builder.cancel(&BuildId("unknown".to_owned())).await?;
    let request = bench.good("1", "a", Duration::ZERO).await?;
    bench.build(&request).await?;
    bench.builder.cancel(&request.id).await?;
    bench.build(&request).await?;
    Ok(())
}

/// `logs` returns the lines of a build in order, also after it ended; of an unknown one it is `NotFound`.
pub async fn logs_are_in_order_and_outlive_the_build(fixture: &dyn BuilderFixture) -> Verdict {
    let bench = Bench::new(fixture);
    let unknown = bench
        .builder
        .logs(&BuildId("unknown".to_owned()), false)
        .await;
    refused(unknown.map(drop), ErrorKind::NotFound, "an unknown build")?;
    let request = bench.good("1", "a", Duration::ZERO).await?;
    bench.build(&request).await?;
    for _ in 0..2 {
        let lines = bench.lines(&request.id).await?;
        let begun = lines.iter().position(|line| line == "building a");
        let done = lines.iter().position(|line| line == "done");
        ensure!(
            matches!((begun, done), (Some(begun), Some(done)) if begun < done),
            "the log is {lines:?}"
        );
    }
    Ok(())
}

/// With `follow`, `logs` goes on until the build ends.
pub async fn followed_logs_end_with_the_build(fixture: &dyn BuilderFixture) -> Verdict {
    let bench = Bench::new(fixture);
    let request = bench.good("1", "a", WHILE).await?;
    let following = async {
        bench.running(&["1"]).await?;
        let lines = bench.builder.logs(&request.id, true).await?;
        let lines: Vec<_> = lines.map_ok(|line| line.text).try_collect().await?;
        Ok::<_, Failure>(lines)
    };
    let both = join(bench.build(&request), following);
    let late = |_| Failure::from("the followed log did not end");
    let (outcome, lines) = tokio::time::timeout(PATIENCE, both).await.map_err(late)?;
    outcome?;
    let lines = lines?;
    ensure!(
        lines.iter().any(|line| line == "done"),
        "the followed log is {lines:?}"
    );
    Ok(())
}

/// `list` names every request that is queued or running.
pub async fn list_names_what_is_queued_or_running(fixture: &dyn BuilderFixture) -> Verdict {
    let bench = Bench::new(fixture);
    bench.running(&[]).await?;
    let one = bench.good("1", "a", WHILE).await?;
    let other = bench.good("2", "b", WHILE).await?;
    let listing = bench.running(&["1", "2"]);
    let (one, other, listed) = join3(bench.build(&one), bench.build(&other), listing).await;
    listed?;
    one?;
    other?;
    bench.running(&[]).await
}
