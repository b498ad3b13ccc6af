use axum::extract::State as FromState;
use http::StatusCode;
use tappaas_core::model::{ApplicationSpec, VolumeObjectSpec};

use crate::{
    State,
    extract::Path,
    failure::Answer,
    types::{EnvironmentPath, List, Volume, VolumePath},
};

/// Lists the volumes of an environment, also those whose application is gone.
#[utoipa::path(
    get,
    path = "/volumes",
    tag = "volumes",
    params(EnvironmentPath),
    responses((status = 200, description = "The volumes.", body = List<Volume>))
)]
pub(super) async fn list_volumes(
    FromState(state): FromState<State>,
    Path(path): Path<EnvironmentPath>,
) -> Answer<axum::Json<List<Volume>>> {
    let scope = path.scope();
    state.platform.require_environment(&scope)?;
    let client = state.platform.client();
    let mut shown = Vec::new();
    for object in client.list::<VolumeObjectSpec>(&scope) {
        let spec = object.spec;
        let application = client.get::<ApplicationSpec>(&scope, spec.application.as_str())?;
        let volumes = application.map(|application| application.spec.content.volumes);
        let id = VolumePath {
            application: spec.application.clone(),
            volume: spec.volume.clone(),
        };
        let status = state
            .platform
            .backends()
            .volumes
            .observe(&id.id(&path))
            .await?;
        shown.push(Volume {
            used: volumes.is_some_and(|volumes| volumes.contains_key(&spec.volume)),
            application: spec.application,
            name: spec.volume,
            size: spec.size,
            held: status.as_ref().and_then(|status| status.used),
            created: object.metadata.created,
            notes: status.map(|status| status.notes).unwrap_or_default(),
        });
    }
    Ok(axum::Json(List { items: shown }))
}

/// Deletes a volume and its content.
#[utoipa::path(
    delete,
    path = "/volumes/{application}/{volume}",
    tag = "volumes",
    params(EnvironmentPath, VolumePath),
    responses((status = 204, description = "The volume is gone."))
)]
pub(super) async fn remove_volume(
    FromState(state): FromState<State>,
    Path(path): Path<EnvironmentPath>,
    Path(volume): Path<VolumePath>,
) -> Answer<StatusCode> {
    state.platform.remove_volume(&volume.id(&path)).await?;
    Ok(StatusCode::NO_CONTENT)
}
