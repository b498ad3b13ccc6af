use std::{io, path::PathBuf, time::Duration};

use bytes::Bytes;
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{
    BodyDataStream, BodyExt as _, Full, Limited, StreamBody, combinators::UnsyncBoxBody,
};
use hyper::{
    body::{Frame, Incoming},
    client::conn::http1::{self, SendRequest},
    upgrade::Upgraded,
};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use tappaas_core::{Error, Result};
use tokio::net::UnixStream;
use tokio_util::{
    codec::{FramedRead, LinesCodec},
    io::StreamReader,
};

use crate::types::{PROTOCOL, Problem};

/// How long the head of an answer may take, and then the rest of one that is not a stream.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// The most bytes of an answer that is not a stream.
const ANSWER_MAX: usize = 64 << 20;

/// The most bytes of a line of a stream.
const LINE_MAX: usize = 4 << 20;

type Body = UnsyncBoxBody<Bytes, io::Error>;

/// A server's socket. Each request has a connection of its own.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    socket: PathBuf,
}

impl Connection {
    pub(super) fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// Sends a request and reads the whole answer.
    pub(super) async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<Bytes>,
    ) -> Result<T> {
        let response = self.request(request(method, path, body)?).await?;
        let bytes = whole(response).await?;
        // An answer without a body says that it was done.
        let json = if bytes.is_empty() {
            b"null"
        } else {
            &bytes[..]
        };
        serde_json::from_slice(json).map_err(|error| {
            Error::internal("the server's answer is not what this version expects")
                .with_source(error)
        })
    }

    /// Sends a request whose answer is a stream.
    pub(super) async fn get(&self, path: &str) -> Result<Response<Incoming>> {
        self.request(request(Method::GET, path, None)?).await
    }

    /// Sends a long body.
    pub(super) async fn upload(
        &self,
        path: &str,
        bytes: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> Result<()> {
        let body = StreamBody::new(bytes.map_ok(Frame::data)).boxed_unsync();
        let request = head(Method::PUT, path)
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .body(body)
            .map_err(malformed)?;
        let answered = self.connect().await?.send_request(request).await;
        accepted(answered.map_err(|error| broken(error.into()))?).await?;
        Ok(())
    }

    /// Sends a request that turns the connection into one for a command.
    pub(super) async fn upgrade(&self, path: &str, body: &impl Serialize) -> Result<Upgraded> {
        let mut request = request(Method::POST, path, Some(json(body)?))?;
        let headers = request.headers_mut();
        headers.insert(
            header::CONNECTION,
            header::HeaderValue::from_static("upgrade"),
        );
        headers.insert(header::UPGRADE, header::HeaderValue::from_static(PROTOCOL));
        let response = self.request(request).await?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(Error::internal(format!(
                "the server answered {} instead of upgrading the connection",
                response.status()
            )));
        }
        hyper::upgrade::on(response)
            .await
            .map_err(|error| broken(error.into()))
    }

    async fn request(&self, request: Request<Body>) -> Result<Response<Incoming>> {
        let answered = async {
            let mut sender = self.connect().await?;
            let answered = sender.send_request(request).await;
            answered.map_err(|error| broken(error.into()))
        };
        let late = |_| Error::unavailable("the server does not answer");
        let answered = tokio::time::timeout(ANSWER_TIMEOUT, answered).await;
        accepted(answered.map_err(late)??).await
    }

    async fn connect(&self) -> Result<SendRequest<Body>> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| {
            let shown = self.socket.display();
            Error::unavailable(format!("no server answers on `{shown}`")).with_source(error)
        })?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| broken(error.into()))?;
        // Ends with the answer, or with whoever waits for it; it tells that one why.
        tokio::spawn(connection.with_upgrades());
        Ok(sender)
    }
}

/// The events of a stream of newline-delimited JSON.
pub(super) fn events<T: DeserializeOwned + Send + 'static>(
    response: Response<Incoming>,
) -> impl Stream<Item = Result<T>> + Send + 'static {
    let bytes = BodyDataStream::new(response.into_body()).map_err(io::Error::other);
    let lines = FramedRead::new(
        StreamReader::new(bytes),
        LinesCodec::new_with_max_length(LINE_MAX),
    );
    lines.map(|line| {
        let line = line.map_err(|error| broken(error.into()))?;
        serde_json::from_str(&line).map_err(|error| {
            Error::internal("a line of the server's answer is not what this version expects")
                .with_source(error)
        })
    })
}

/// A body of JSON.
pub(super) fn json(body: &impl Serialize) -> Result<Bytes> {
    let broken = |error| Error::internal("a request cannot be written").with_source(error);
    serde_json::to_vec(body).map(Bytes::from).map_err(broken)
}

fn request(method: Method, path: &str, body: Option<Bytes>) -> Result<Request<Body>> {
    let mut head = head(method, path);
    if body.is_some() {
        head = head.header(header::CONTENT_TYPE, "application/json");
    }
    let body = Full::new(body.unwrap_or_default()).map_err(|never| match never {});
    head.body(body.boxed_unsync()).map_err(malformed)
}

/// HTTP/1.1 wants a host, and a socket has none.
fn head(method: Method, path: &str) -> http::request::Builder {
    Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "localhost")
}

/// Turns an answer that says no into the error it is about.
async fn accepted(response: Response<Incoming>) -> Result<Response<Incoming>> {
    let status = response.status();
    if status.is_success() || status == StatusCode::SWITCHING_PROTOCOLS {
        return Ok(response);
    }
    let bytes = whole(response).await?;
    Err(match serde_json::from_slice::<Problem>(&bytes) {
        Ok(problem) => problem.into(),
        Err(error) => Error::internal(format!(
            "the server answered {status}, and not as this version expects"
        ))
        .with_source(error),
    })
}

/// The body of an answer that is not a stream.
async fn whole(response: Response<Incoming>) -> Result<Bytes> {
    let body = Limited::new(response.into_body(), ANSWER_MAX).collect();
    let body = tokio::time::timeout(ANSWER_TIMEOUT, body).await;
    let body = body.map_err(|_| Error::unavailable("the server's answer does not end"))?;
    Ok(body.map_err(broken)?.to_bytes())
}

fn malformed(error: http::Error) -> Error {
    Error::internal("a request cannot be written").with_source(error)
}

fn broken(error: Box<dyn std::error::Error + Send + Sync>) -> Error {
    Error::unavailable("the connection to the server broke off").with_source(error)
}
