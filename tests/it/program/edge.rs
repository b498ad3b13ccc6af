use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use serde_json::Value;

const ANSWER_MAX: Duration = Duration::from_secs(15);

/// A route, as the running edge tells it.
#[derive(Clone, Debug)]
pub(super) struct Route {
    application: String,
    frontend: String,
    endpoints: usize,
}

impl Route {
    pub(super) fn line(&self) -> String {
        let Self {
            application,
            frontend,
            endpoints,
        } = self;
        format!("route {application} {frontend} to {endpoints:?} endpoints")
    }
}

/// The routes of a platform's edge, by its own word. None if it does not run.
pub(super) fn routes(data: &Path) -> Vec<Route> {
    let Ok(table) = ask(data, "table") else {
        return Vec::new();
    };
    let routes = table["table"]["routes"].as_array();
    let routes = routes.unwrap_or_else(|| panic!("the edge tells no table: {table}"));
    let read = |route: &Value| {
        let targets = route["action"]["forward"]["targets"].as_array();
        let endpoints = |target: &Value| target["endpoints"].as_array().map_or(0, Vec::len);
        Route {
            application: route["id"]["application"].to_string(),
            frontend: route["frontend"].to_string(),
            endpoints: targets.into_iter().flatten().map(endpoints).sum(),
        }
    };
    routes.iter().map(read).collect()
}

/// Sends a question that is one word. A frame is its length in four bytes, and its JSON.
fn ask(data: &Path, question: &str) -> std::io::Result<Value> {
    let mut edge = UnixStream::connect(data.join("edge/edge.sock"))?;
    edge.set_read_timeout(Some(ANSWER_MAX))?;
    let question = serde_json::to_vec(question)?;
    let length = u32::try_from(question.len()).unwrap();
    edge.write_all(&length.to_be_bytes())?;
    edge.write_all(&question)?;
    let mut length = [0; 4];
    edge.read_exact(&mut length)?;
    let mut answer = vec![0; u32::from_be_bytes(length) as usize];
    edge.read_exact(&mut answer)?;
    Ok(serde_json::from_slice(&answer)?)
}
