use axum::{
    Extension,
    extract::{FromRequest as _, Request, State as FromState},
    response::{IntoResponse as _, Response},
};
use http::{HeaderMap, StatusCode, header};
use hyper::upgrade::OnUpgrade;
use tappaas_core::{
    Error, Name, Result,
    backend::{self, InstanceId, Track, WorkloadId},
    controller::application::processes,
    model::{ApplicationKey, ReleaseSpec},
};

use crate::{
    State,
    exec::{Commands, relay},
    extract::{Json, Path},
    failure::{Answer, Failure},
    types::{ApplicationPath, ExecRequest, PROTOCOL},
};

/// The most words that a command may have.
const WORDS_MAX: usize = 1000;

/// Runs a command inside an instance.
///
/// The request asks for an upgrade to `tappaas-exec`; its body says what to run. After the answer 101 both sides send frames: a byte that
/// says what it is, the length of the rest in four bytes (big-endian), and the rest, at most 65536 bytes. The client sends 0 (bytes for
/// standard input) and 1 (no more input); the server sends 2 (bytes of standard output) and 3 (bytes of standard error), and last 4 (the exit
/// code in four bytes, big-endian) or 5 (a problem in JSON).
#[utoipa::path(
    post,
    path = "/exec",
    tag = "applications",
    params(ApplicationPath),
    request_body = ExecRequest,
    responses((status = 101, description = "The command runs; the connection speaks `tappaas-exec`."))
)]
pub(super) async fn exec(
    FromState(state): FromState<State>,
    Extension(commands): Extension<Commands>,
    Path(path): Path<ApplicationPath>,
    mut request: Request,
) -> Answer<Response> {
    let upgrade = request.extensions_mut().remove::<OnUpgrade>();
    let upgrade = upgrade.filter(|_| asks_for_upgrade(request.headers()));
    let Json(wanted) = Json::<ExecRequest>::from_request(request, &state).await?;
    let Some(upgrade) = upgrade else {
        let failure = Failure::invalid(format!(
            "a command talks both ways: send `Connection: upgrade` and `Upgrade: {PROTOCOL}`"
        ));
        return Err(failure.with_status(StatusCode::UPGRADE_REQUIRED));
    };
    let key = path.key();
    state.platform.application(&key)?;
    let wanted = resolved(&state, &key, wanted)?;
    let room = commands.enter()?;
    let running = state.platform.backends().scheduler.exec(&wanted).await?;
    tokio::spawn(async move {
        match upgrade.await {
            Ok(connection) => relay(connection, running).await,
            Err(error) => tracing::debug!(%error, "a connection was not upgraded"),
        }
        drop(room);
    });
    let headers = [(header::CONNECTION, "upgrade"), (header::UPGRADE, PROTOCOL)];
    Ok((StatusCode::SWITCHING_PROTOCOLS, headers).into_response())
}

fn asks_for_upgrade(headers: &HeaderMap) -> bool {
    let wanted = headers.get(header::UPGRADE);
    wanted.is_some_and(|wanted| wanted.as_bytes().eq_ignore_ascii_case(PROTOCOL.as_bytes()))
}

fn resolved(
    state: &State,
    key: &ApplicationKey,
    wanted: ExecRequest,
) -> Result<backend::ExecRequest> {
    if wanted.command.is_empty() || wanted.command.len() > WORDS_MAX {
        return Err(Error::invalid(format!(
            "a command has 1 to {WORDS_MAX} words: a program and its arguments"
        )));
    }
    let process = match wanted.process {
        Some(process) => process,
        None => usual_process(state, key)?,
    };
    Ok(backend::ExecRequest {
        workload: WorkloadId {
            application: key.clone(),
            process,
            track: Track::Stable,
        },
        instance: wanted.instance.map(InstanceId),
        command: wanted.command,
        terminal: wanted
            .terminal
            .map(|terminal| (terminal.columns, terminal.rows)),
    })
}

/// `web`, or the only process of the release that serves.
fn usual_process(state: &State, key: &ApplicationKey) -> Result<Name> {
    let current = state.platform.application(key)?.status.current;
    let releases = state.platform.client().list::<ReleaseSpec>(&key.scope());
    let serves = |release: &&tappaas_core::model::Release| {
        release.spec.application == key.name && Some(release.spec.version) == current
    };
    let serving = releases.iter().find(serves);
    let serving = serving.ok_or_else(|| {
        Error::not_found(format!(
            "{} has no healthy release to run a command in",
            key.name
        ))
    })?;
    let mut names: Vec<Name> = processes(serving).into_keys().collect();
    let web = names.iter().position(|name| *name == "web");
    match (web, names.len()) {
        (Some(web), _) => Ok(names.swap_remove(web)),
        (None, 1) => Ok(names.remove(0)),
        (None, _) => {
            let names: Vec<&str> = names.iter().map(Name::as_str).collect();
            let names = names.join(", ");
            Err(Error::invalid(format!("name one of the processes {names}")))
        }
    }
}
