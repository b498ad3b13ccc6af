use tappaas_core::{ErrorKind, model::Runtime};

use super::{SchedulerFixture, Stage};
use crate::conformance::{Verdict, macros::ensure, verdict::refused};

/// A runtime that it does not have is refused with `Unsupported`, by its name.
pub async fn a_runtime_that_is_not_there_is_refused(fixture: &dyn SchedulerFixture) -> Verdict {
    let mut stage = Stage::new(fixture);
    let had = stage.scheduler.capabilities().runtimes;
    let lacking = Runtime::ALL.into_iter();
    let lacking = lacking.filter(|it| !it.is_standard() && !had.contains(it));
    for runtime in lacking {
        let mut template = stage.serving("a").await;
        template.placement.runtime = runtime;
        let workload = stage.next_of(1, 1, &template);
        let answer = stage.scheduler.apply(&workload).await;
        let named = |error: &tappaas_core::Error| error.to_string().contains(&runtime.to_string());
        ensure!(
            answer.as_ref().is_err_and(named),
            "{runtime} is not named: {answer:?}"
        );
        refused(answer, ErrorKind::Unsupported, "a runtime")?;
    }
    let template = stage.serving("a").await;
    stage.apply(&[(1, 1, &template)]).await?;
    stage.ready(1).await?;
    Ok(())
}
