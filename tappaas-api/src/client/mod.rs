//! The typed client of the API.

mod connection;
mod exec;
mod paths;

use std::path::PathBuf;

use bytes::Bytes;
use futures::{StreamExt as _, stream::BoxStream};
use http::Method;
use serde::{Serialize, de::DeserializeOwned};
use tappaas_core::{Digest, Error, Name, Result};
use tokio::{io::AsyncRead, sync::mpsc};
use tokio_util::io::ReaderStream;

use self::{
    connection::{Connection, events},
    paths::{application, environment, environments, query},
};
use crate::types::{
    Accepted, Application, Build, BuildLogQuery, ConfigChange, Deployment, Difference, Environment,
    EnvironmentPath, ExecRequest, Frame, Instance, List, LogEvent, LogLine, LogQuery, Operation,
    OperationEvent, Plan, ProjectPath, Release, RevealQuery, RollbackRequest, Scale, Stop,
    Variable, Version, Volume,
};

/// Speaks the API over the unix socket of a server.
///
/// Every method fails with the server's error (kind, message and causes), with `Unavailable` if no server answers, and with `Internal` if what
/// answers is not this API.
#[derive(Clone, Debug)]
pub struct Client {
    connection: Connection,
}

impl Client {
    /// Names the server by its socket. Connects with each request.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self {
            connection: Connection::new(socket.into()),
        }
    }

    /// Says what the server is.
    pub async fn version(&self) -> Result<Version> {
        self.read("/version").await
    }

    /// Stops the server.
    pub async fn stop(&self, stop: &Stop) -> Result<()> {
        self.send(Method::POST, "/api/v1/server/stop", stop).await
    }

    /// Lists the environments of a project.
    pub async fn environments(&self, project: &ProjectPath) -> Result<List<Environment>> {
        self.read(&environments(project)).await
    }

    /// Creates an environment; one that exists stays as it is.
    pub async fn create_environment(&self, project: &ProjectPath, name: &Name) -> Result<()> {
        let path = format!("{}/{name}", environments(project));
        self.call(Method::PUT, &path).await
    }

    /// Removes an environment that nothing is in.
    pub async fn remove_environment(&self, project: &ProjectPath, name: &Name) -> Result<()> {
        let path = format!("{}/{name}", environments(project));
        self.call(Method::DELETE, &path).await
    }

    /// Lists the applications of an environment.
    pub async fn applications(&self, within: &EnvironmentPath) -> Result<List<Application>> {
        self.read(&environment(within, "/applications")).await
    }

    /// Shows an application.
    pub async fn application(&self, within: &EnvironmentPath, app: &Name) -> Result<Application> {
        self.read(&application(within, app, "")).await
    }

    /// Uploads a source archive; the server verifies it against the digest.
    pub async fn upload(
        &self,
        within: &EnvironmentPath,
        app: &Name,
        digest: &Digest,
        archive: impl AsyncRead + Send + 'static,
    ) -> Result<()> {
        let path = application(within, app, &format!("/sources/{digest}"));
        let bytes = ReaderStream::with_capacity(archive, 64 << 10);
        self.connection.upload(&path, bytes).await
    }

    /// Deploys an application.
    pub async fn deploy(
        &self,
        within: &EnvironmentPath,
        app: &Name,
        deployment: &Deployment,
    ) -> Result<Accepted> {
        let path = application(within, app, "");
        self.send(Method::PUT, &path, deployment).await
    }

    /// Says what a deployment would do.
    pub async fn plan(
        &self,
        within: &EnvironmentPath,
        app: &Name,
        deployment: &Deployment,
    ) -> Result<Plan> {
        let path = application(within, app, "/plan");
        self.send(Method::POST, &path, deployment).await
    }

    /// Changes how many instances run.
    pub async fn scale(
        &self,
        within: &EnvironmentPath,
        app: &Name,
        scale: &Scale,
    ) -> Result<Accepted> {
        let path = application(within, app, "/scale");
        self.send(Method::PATCH, &path, scale).await
    }

    /// Goes back to an older release.
    pub async fn rollback(
        &self,
        within: &EnvironmentPath,
        app: &Name,
        request: &RollbackRequest,
    ) -> Result<Accepted> {
        let path = application(within, app, "/rollback");
        self.send(Method::POST, &path, request).await
    }

    /// Replaces every instance by a new one of the same content.
    pub async fn restart(&self, within: &EnvironmentPath, app: &Name) -> Result<Accepted> {
        let path = application(within, app, "/restart");
        self.call(Method::POST, &path).await
    }

    /// Ends an application. Its volumes stay.
    pub async fn destroy(&self, within: &EnvironmentPath, app: &Name) -> Result<Accepted> {
        let path = application(within, app, "");
        self.call(Method::DELETE, &path).await
    }

    /// Lists the instances of an application.
    pub async fn instances(&self, within: &EnvironmentPath, app: &Name) -> Result<List<Instance>> {
        self.read(&application(within, app, "/instances")).await
    }

    /// Lists the environment variables of an application.
    pub async fn config(
        &self,
        within: &EnvironmentPath,
        app: &Name,
        reveal: &RevealQuery,
    ) -> Result<List<Variable>> {
        let path = application(within, app, "/config");
        self.read(&query(&path, reveal)?).await
    }

    /// Sets and unsets environment variables.
    pub async fn configure(
        &self,
        within: &EnvironmentPath,
        app: &Name,
        change: &ConfigChange,
    ) -> Result<Accepted> {
        let path = application(within, app, "/config");
        self.send(Method::PATCH, &path, change).await
    }

    /// Lists the releases of an application, the newest last.
    pub async fn releases(&self, within: &EnvironmentPath, app: &Name) -> Result<List<Release>> {
        self.read(&application(within, app, "/releases")).await
    }

    /// Compares two releases.
    pub async fn diff(
        &self,
        within: &EnvironmentPath,
        app: &Name,
        from: u64,
        to: u64,
        reveal: &RevealQuery,
    ) -> Result<List<Difference>> {
        let path = application(within, app, &format!("/releases/{from}/diff/{to}"));
        self.read(&query(&path, reveal)?).await
    }

    /// Lists the builds of an application, the newest last.
    pub async fn builds(&self, within: &EnvironmentPath, app: &Name) -> Result<List<Build>> {
        self.read(&application(within, app, "/builds")).await
    }

    /// Reads what a build wrote.
    pub async fn build_logs(
        &self,
        within: &EnvironmentPath,
        app: &Name,
        build: u64,
        follow: bool,
    ) -> Result<BoxStream<'static, Result<LogLine>>> {
        let path = application(within, app, &format!("/builds/{build}/logs"));
        self.lines(&query(&path, &BuildLogQuery { follow })?).await
    }

    /// Reads what the instances of an application wrote.
    pub async fn logs(
        &self,
        within: &EnvironmentPath,
        app: &Name,
        wanted: &LogQuery,
    ) -> Result<BoxStream<'static, Result<LogLine>>> {
        let path = application(within, app, "/logs");
        self.lines(&query(&path, wanted)?).await
    }

    /// Runs a command inside an instance: what is sent goes to its standard input, and what it writes comes as frames, the exit last.
    ///
    /// Dropping the sender ends its input; dropping both ends the command.
    pub async fn exec(
        &self,
        within: &EnvironmentPath,
        app: &Name,
        request: &ExecRequest,
    ) -> Result<(mpsc::Sender<Bytes>, BoxStream<'static, Result<Frame>>)> {
        let path = application(within, app, "/exec");
        Ok(exec::converse(
            self.connection.upgrade(&path, request).await?,
        ))
    }

    /// Shows an operation.
    pub async fn operation(&self, within: &EnvironmentPath, id: &str) -> Result<Operation> {
        let path = paths::operation(within, id, "")?;
        self.read(&path).await
    }

    /// Follows an operation: yields how it is now, and each time that changes, until it has ended.
    pub async fn watch_operation(
        &self,
        within: &EnvironmentPath,
        id: &str,
    ) -> Result<BoxStream<'static, Result<Operation>>> {
        let path = paths::operation(within, id, "/progress")?;
        let response = self.connection.get(&path).await?;
        let operations = events(response).map(|event| match event? {
            OperationEvent::Operation(operation) => Ok(operation),
            OperationEvent::Problem(problem) => Err(problem.into()),
        });
        Ok(operations.boxed())
    }

    /// Cancels an operation.
    pub async fn cancel(&self, within: &EnvironmentPath, id: &str) -> Result<()> {
        let path = paths::operation(within, id, "")?;
        self.call(Method::DELETE, &path).await
    }

    /// Lists the volumes of an environment.
    pub async fn volumes(&self, within: &EnvironmentPath) -> Result<List<Volume>> {
        self.read(&environment(within, "/volumes")).await
    }

    /// Deletes a volume and its content.
    pub async fn remove_volume(
        &self,
        within: &EnvironmentPath,
        app: &Name,
        volume: &Name,
    ) -> Result<()> {
        let path = environment(within, &format!("/volumes/{app}/{volume}"));
        self.call(Method::DELETE, &path).await
    }

    async fn read<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.call(Method::GET, path).await
    }

    async fn call<T: DeserializeOwned>(&self, method: Method, path: &str) -> Result<T> {
        self.connection.call(method, path, None).await
    }

    async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T> {
        let body = connection::json(body)?;
        self.connection.call(method, path, Some(body)).await
    }

    async fn lines(&self, path: &str) -> Result<BoxStream<'static, Result<LogLine>>> {
        let response = self.connection.get(path).await?;
        let lines = events(response).map(|event| match event? {
            LogEvent::Line(line) => Ok(line),
            LogEvent::Problem(problem) => Err(Error::from(problem)),
        });
        Ok(lines.boxed())
    }
}
