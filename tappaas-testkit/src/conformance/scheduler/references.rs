use tappaas_core::{ErrorKind, model::EnvValue};

use super::{SchedulerFixture, Stage};
use crate::{
    Program,
    conformance::{Verdict, macros::ensure, verdict::refused, waiting::pass_over},
};

const VARIABLE: &str = "TOKEN";
const VALUE: &str = "two words, as they are kept";

/// A variable that refers to the store which the scheduler reads has the value that is there.
pub async fn a_variable_that_refers_to_a_secret_has_its_value(
    fixture: &dyn SchedulerFixture,
) -> Verdict {
    let mut stage = Stage::new(fixture);
    let Some(reference) = fixture.secret(VALUE).await else {
        let case = "a_variable_that_refers_to_a_secret_has_its_value";
        pass_over(case, "the scheduler reads no secret store");
        return Ok(());
    };
    let mut template = stage
        .template(Program::PrintVariable(VARIABLE.to_owned()))
        .await;
    let value = EnvValue::new(reference.to_string());
    template.environment.insert(VARIABLE.to_owned(), value);
    stage.apply(&[(1, 1, &template)]).await?;
    stage.logged(&format!("{VARIABLE}={VALUE}")).await
}

/// While there is no such value the instance does not start, and the reason names the secret.
pub async fn an_instance_whose_secret_is_missing_does_not_start_and_says_so(
    fixture: &dyn SchedulerFixture,
) -> Verdict {
    let mut stage = Stage::new(fixture);
    let Some(mut reference) = fixture.secret(VALUE).await else {
        let case = "an_instance_whose_secret_is_missing_does_not_start_and_says_so";
        pass_over(case, "the scheduler reads no secret store");
        return Ok(());
    };
    reference.key = Some("absent".to_owned());
    let mut template = stage.template(Program::Idle).await;
    let value = EnvValue::new(reference.to_string());
    template.environment.insert(VARIABLE.to_owned(), value);
    stage.apply(&[(1, 1, &template)]).await?;
    let path = reference.path.as_str();
    let status = stage
        .until("the missing secret is named", |status| {
            let mut instances = status.instances.iter();
            instances.any(|it| it.reason.as_ref().is_some_and(|why| why.contains(path)))
        })
        .await?;
    let started = status.instances.iter().find(|it| it.ready);
    ensure!(started.is_none(), "it started: {started:?}");
    Ok(())
}

/// A variable that refers to another secret store than the scheduler's own is refused with `Unsupported`, by the name of that.
pub async fn a_reference_to_another_secret_store_is_refused(
    fixture: &dyn SchedulerFixture,
) -> Verdict {
    let mut stage = Stage::new(fixture);
    let mut template = stage.serving("a").await;
    let value = EnvValue::new("secret://elsewhere/path#key");
    template.environment.insert("TOKEN".to_owned(), value);
    let workload = stage.next_of(1, 1, &template);
    let answer = stage.scheduler.apply(&workload).await;
    let named = |error: &tappaas_core::Error| error.to_string().contains("elsewhere");
    ensure!(
        answer.as_ref().is_err_and(named),
        "the store is not named: {answer:?}"
    );
    refused(answer, ErrorKind::Unsupported, "a reference")
}
