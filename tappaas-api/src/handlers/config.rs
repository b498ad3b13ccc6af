use std::collections::BTreeMap;

use axum::{extract::State as FromState, response::Response};

use super::accepted;
use crate::{
    State,
    extract::{Json, Path, Query},
    failure::{Answer, Failure},
    types::{Accepted, ApplicationPath, ConfigChange, Layer, List, RevealQuery, Variable},
};

/// Lists the environment variables of an application, each with what set it. Values are left out unless they are to be revealed.
#[utoipa::path(
    get,
    path = "/config",
    tag = "config",
    params(ApplicationPath, RevealQuery),
    responses((status = 200, description = "The variables.", body = List<Variable>))
)]
pub(super) async fn show_config(
    FromState(state): FromState<State>,
    Path(path): Path<ApplicationPath>,
    Query(RevealQuery { reveal }): Query<RevealQuery>,
) -> Answer<axum::Json<List<Variable>>> {
    let application = state.platform.application(&path.key())?;
    let content = application.spec.content;
    let layers = [
        (Layer::Manifest, content.environment),
        (Layer::Environment, content.overrides),
        (Layer::Config, content.config),
    ];
    let mut variables = BTreeMap::new();
    for (layer, values) in layers {
        variables.extend(
            values
                .into_iter()
                .map(|(name, value)| (name, (layer, value))),
        );
    }
    let shown = variables
        .into_iter()
        .map(|(name, (layer, value))| Variable {
            name,
            value: reveal.then_some(value),
            layer,
        });
    Ok(axum::Json(shown.collect()))
}

/// Sets and unsets environment variables, which win over the manifest's, and makes a release with them.
#[utoipa::path(
    patch,
    path = "/config",
    tag = "config",
    params(ApplicationPath),
    request_body = ConfigChange,
    responses(
        (status = 200, description = "Nothing changed.", body = Accepted),
        (status = 202, description = "The operation goes on.", body = Accepted),
    )
)]
pub(super) async fn change_config(
    FromState(state): FromState<State>,
    Path(path): Path<ApplicationPath>,
    Json(change): Json<ConfigChange>,
) -> Answer<Response> {
    let broken = change
        .set
        .iter()
        .find(|(_, value)| value.expose().contains('\0'));
    if let Some((name, _)) = broken {
        let name = name.escape_default();
        return Err(Failure::invalid(format!(
            "the value of `{name}` has a NUL character, which no environment can hold"
        )));
    }
    let key = path.key();
    let changed = state.platform.configure(&key, change.set, change.unset);
    Ok(accepted(&key, changed.await?))
}
