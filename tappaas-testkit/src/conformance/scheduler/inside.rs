use tappaas_core::{
    ErrorKind, Name,
    backend::{ExecRequest, InstanceId, InstanceState, Peer},
    model::{EnvValue, User},
};

use super::{SchedulerFixture, Stage};
use crate::{
    Program,
    conformance::{Verdict, application_key, macros::ensure, name, verdict::refused},
};

/// Each process sees the environment of its template.
pub async fn a_process_sees_its_environment(fixture: &dyn SchedulerFixture) -> Verdict {
    let mut stage = Stage::new(fixture);
    let variable = "GREETING";
    let mut template = stage
        .template(Program::PrintVariable(variable.to_owned()))
        .await;
    let value = EnvValue::new("two words, a $sign and an = sign");
    template.environment.insert(variable.to_owned(), value);
    stage.apply(&[(1, 1, &template)]).await?;
    stage
        .logged("GREETING=two words, a $sign and an = sign")
        .await
}

/// Each process has the user of its template: without a privilege it is not root.
pub async fn a_process_without_privilege_is_not_root(fixture: &dyn SchedulerFixture) -> Verdict {
    let mut stage = Stage::new(fixture);
    let template = stage.template(Program::Idle).await;
    ensure!(
        template.user == User::Unprivileged,
        "the fixture asks for {:?}",
        template.user
    );
    stage.apply(&[(1, 1, &template)]).await?;
    stage.ready(1).await?;
    let ran = stage.exec(&["id", "-u"], "").await?;
    let user = ran.output.trim().parse::<u32>();
    ensure!(
        user.as_ref().is_ok_and(|user| *user != 0),
        "`id -u` came to {ran:?}"
    );
    Ok(())
}

/// `exec` runs a command inside an instance and returns its output and exit code.
pub async fn exec_returns_output_and_exit_code(fixture: &dyn SchedulerFixture) -> Verdict {
    let mut stage = Stage::new(fixture);
    let mut template = stage.template(Program::Idle).await;
    template
        .environment
        .insert("SEEN".to_owned(), EnvValue::new("yes"));
    stage.apply(&[(1, 1, &template)]).await?;
    let instance = stage.ready(1).await?.remove(0).id;
    let echo = stage
        .exec_in(Some(&instance), &["echo", "$HOME; `no` shell", "here"], "")
        .await?;
    ensure!(
        (echo.output.as_str(), echo.code) == ("$HOME; `no` shell here\n", 0),
        "echo came to {echo:?}"
    );
    let code = stage.exec(&["false"], "").await?.code;
    ensure!(code == 1, "`false` exited with {code}");
    let missing = stage.exec(&["cat", "/tmp/missing"], "").await?;
    ensure!(
        missing.code != 0 && missing.output.is_empty() && !missing.error.is_empty(),
        "`cat` of a missing file came to {missing:?}"
    );
    let environment = stage.exec(&["env"], "").await?.output;
    ensure!(
        environment.lines().any(|line| line == "SEEN=yes"),
        "a command does not see the environment: {environment}"
    );
    Ok(())
}

/// What goes into an [`Exec`](tappaas_core::backend::Exec) is the command's standard input, to its end.
pub async fn exec_passes_input_on(fixture: &dyn SchedulerFixture) -> Verdict {
    let mut stage = Stage::new(fixture);
    let template = stage.template(Program::Idle).await;
    stage.apply(&[(1, 1, &template)]).await?;
    stage.ready(1).await?;
    let ran = stage.exec(&["cat"], "one\ntwo").await?;
    ensure!(
        (ran.output.as_str(), ran.code) == ("one\ntwo", 0),
        "`cat` came to {ran:?}"
    );
    Ok(())
}

/// `exec` in an instance that is not there, or in none that runs, is `NotFound`.
pub async fn exec_without_an_instance_is_not_found(fixture: &dyn SchedulerFixture) -> Verdict {
    let mut stage = Stage::new(fixture);
    let request = |instance| ExecRequest {
        workload: stage.id.clone(),
        instance,
        command: vec!["true".to_owned()],
        terminal: None,
    };
    let (anywhere, nowhere) = (
        request(None),
        request(Some(InstanceId("nowhere".to_owned()))),
    );
    let answer = stage.scheduler.exec(&anywhere).await;
    refused(answer, ErrorKind::NotFound, "exec in an unknown workload")?;
    let template = stage.template(Program::Exit(0)).await;
    stage.apply(&[(1, 1, &template)]).await?;
    stage.only(InstanceState::Exited).await?;
    let answer = stage.scheduler.exec(&anywhere).await;
    refused(answer, ErrorKind::NotFound, "exec without a ready instance")?;
    let answer = stage.scheduler.exec(&nowhere).await;
    refused(answer, ErrorKind::NotFound, "exec in an unknown instance")
}

/// `peer` always gives the same answer for the same question.
pub async fn a_peer_is_always_at_the_same_address(fixture: &dyn SchedulerFixture) -> Verdict {
    let scheduler = fixture.scheduler();
    let (from, other) = (application_key("from"), application_key("other"));
    let peer = |application: &str| Peer {
        application: application_key(application),
        process: name("web"),
        port: Name::new("http").expect("`http` is a name"),
    };
    let first = scheduler.peer(&from, &peer("to")).await?;
    let second = scheduler.peer(&from, &peer("also-to")).await?;
    ensure!(
        first != second,
        "two peers of one application are both at {first:?}"
    );
    scheduler.peer(&other, &peer("to")).await?;
    let again = scheduler.peer(&from, &peer("to")).await?;
    ensure!(first == again, "first it was {first:?}, then {again:?}");
    Ok(())
}
