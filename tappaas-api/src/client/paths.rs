//! Where things are. Names need no escaping: they are DNS labels.

use serde::Serialize;
use tappaas_core::{Error, Name, Result};

use crate::types::{EnvironmentPath, ProjectPath};

pub(super) fn environments(project: &ProjectPath) -> String {
    let ProjectPath { tenant, project } = project;
    format!("/api/v1/tenants/{tenant}/projects/{project}/environments")
}

pub(super) fn environment(within: &EnvironmentPath, rest: &str) -> String {
    let project = ProjectPath {
        tenant: within.tenant.clone(),
        project: within.project.clone(),
    };
    format!("{}/{}{rest}", environments(&project), within.environment)
}

pub(super) fn application(within: &EnvironmentPath, app: &Name, rest: &str) -> String {
    environment(within, &format!("/applications/{app}{rest}"))
}

/// An operation's id comes from people, and may be anything.
pub(super) fn operation(within: &EnvironmentPath, id: &str, rest: &str) -> Result<String> {
    let good = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    if id.is_empty() || !id.bytes().all(good) {
        let shown = id.escape_default();
        return Err(Error::not_found(format!("there is no operation `{shown}`")));
    }
    Ok(environment(within, &format!("/operations/{id}{rest}")))
}

/// A path with settings in its query.
pub(super) fn query(path: &str, settings: &impl Serialize) -> Result<String> {
    let broken = |error| Error::internal("a query cannot be written").with_source(error);
    let query = serde_urlencoded::to_string(settings).map_err(broken)?;
    Ok(format!("{path}?{query}"))
}
