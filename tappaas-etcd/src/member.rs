//! One member of a cluster.

use std::time::Duration;

use futures::{StreamExt as _, stream};
use http::uri::{PathAndQuery, Scheme};
use prost::Message;
use tappaas_core::{Error, Result};
use tonic::{
    Request, Status, Streaming,
    client::Grpc,
    metadata::AsciiMetadataValue,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};
use tonic_prost::ProstCodec;

use crate::{
    config::Tls,
    messages::{Method, WATCH, WatchCreateRequest, WatchRequest, WatchResponse},
};

/// Within this a member answers a request, or is taken for gone. etcd itself gives a request up after 7 seconds.
const REQUEST_MAX: Duration = Duration::from_secs(10);
/// Within this a connection is made.
const CONNECT_MAX: Duration = Duration::from_secs(3);
/// How often a connection that is waited on is pinged; etcd takes more than one ping in 5 seconds for an attack.
const PING_PERIOD: Duration = Duration::from_secs(10);
/// Within this a ping is answered, or the connection is taken for broken.
const PING_MAX: Duration = Duration::from_secs(5);
/// The most bytes of an answer.
pub(crate) const MESSAGE_MAX: usize = 32 << 20;

/// What a watch says first, and what it goes on to say.
pub(crate) type Told = (WatchResponse, Streaming<WatchResponse>);

#[derive(Debug)]
pub(crate) struct Member {
    endpoint: Endpoint,
    /// For requests. Connects by itself, again and again.
    channel: Channel,
}

impl Member {
    /// # Errors
    /// `Invalid` if the endpoint or the settings for TLS cannot be ones.
    pub(crate) fn new(text: &str, tls: Option<&Tls>) -> Result<Self> {
        let invalid = |problem: &str| {
            // Somebody may have put a password into it.
            let shown = text.rsplit('@').next().unwrap_or_default();
            Error::invalid(format!("`{shown}` is no endpoint of etcd: {problem}"))
        };
        let endpoint = Endpoint::from_shared(text.to_owned())
            .map_err(|error| invalid("it is no URL").with_source(error))?;
        let uri = endpoint.uri();
        let scheme = match tls {
            Some(_) => Scheme::HTTPS,
            None => Scheme::HTTP,
        };
        if uri.scheme() != Some(&scheme) {
            let tls = if tls.is_some() { "with" } else { "without" };
            return Err(invalid(&format!("{tls} TLS it begins with `{scheme}://`")));
        }
        let plain = uri.authority().is_some_and(|a| !a.as_str().contains('@'));
        if !plain || !["", "/"].contains(&uri.path()) || uri.query().is_some() {
            return Err(invalid("it has a host, a port, and nothing else"));
        }
        let mut endpoint = endpoint
            .connect_timeout(CONNECT_MAX)
            .http2_keep_alive_interval(PING_PERIOD)
            .keep_alive_timeout(PING_MAX);
        if let Some(tls) = tls {
            endpoint = endpoint.tls_config(client_tls(tls)).map_err(|error| {
                invalid("the settings for TLS cannot be used").with_source(error)
            })?;
        }
        Ok(Self {
            channel: endpoint.connect_lazy(),
            endpoint,
        })
    }

    pub(crate) fn url(&self) -> String {
        self.endpoint.uri().to_string()
    }

    /// One request and one answer, also by a method that takes more of both.
    pub(crate) async fn ask<Q, A>(
        &self,
        method: &Method,
        message: Q,
        token: Option<&AsciiMetadataValue>,
    ) -> Result<A, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let path = PathAndQuery::from_static(method.path);
        let request = signed(message, token);
        within(async {
            let mut grpc = ready(self.channel.clone()).await?;
            let answer = grpc.unary(request, path, ProstCodec::<Q, A>::default());
            Ok(answer.await?.into_inner())
        })
        .await
    }

    /// Begins a watch on a connection of its own.
    pub(crate) async fn watch(
        &self,
        request: WatchCreateRequest,
        token: Option<&AsciiMetadataValue>,
    ) -> Result<Told, Status> {
        within(open(self.endpoint.connect_lazy(), request, token)).await
    }
}

fn client_tls(tls: &Tls) -> ClientTlsConfig {
    let mut config = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&tls.authorities));
    if let Some(name) = &tls.server_name {
        config = config.domain_name(name);
    }
    if let Some(identity) = &tls.identity {
        let key = identity.key.expose();
        config = config.identity(Identity::from_pem(&identity.certificates, key));
    }
    config
}

async fn open(
    channel: Channel,
    request: WatchCreateRequest,
    token: Option<&AsciiMetadataValue>,
) -> Result<Told, Status> {
    let mut grpc = ready(channel).await?;
    let first = WatchRequest {
        create_request: Some(request),
    };
    // The watch ends with what is sent.
    let sent = stream::iter([first]).chain(stream::pending());
    let path = PathAndQuery::from_static(WATCH.path);
    let mut request = signed(sent, token);
    // A member that is cut off from its cluster is not to leave it waiting.
    let metadata = request.metadata_mut();
    metadata.insert("hasleader", AsciiMetadataValue::from_static("true"));
    let told = grpc.streaming(
        request,
        path,
        ProstCodec::<WatchRequest, WatchResponse>::default(),
    );
    let mut told = told.await?.into_inner();
    let first = told.message().await?;
    let first = first.ok_or_else(|| Status::unavailable("a watch ended before it began"))?;
    match first.canceled && first.compact_revision == 0 {
        true => Err(refused(&first.cancel_reason)),
        false => Ok((first, told)),
    }
}

/// A refusal of a watch, which comes as text.
fn refused(reason: &str) -> Status {
    match reason.contains("permission denied") {
        true => Status::permission_denied(reason),
        false => Status::unavailable(reason),
    }
}

async fn ready(channel: Channel) -> Result<Grpc<Channel>, Status> {
    let mut grpc = Grpc::new(channel).max_decoding_message_size(MESSAGE_MAX);
    let ready = grpc.ready().await;
    ready.map_err(|error| Status::from_error(error.into()))?;
    Ok(grpc)
}

/// A request and who makes it.
fn signed<M>(message: M, token: Option<&AsciiMetadataValue>) -> Request<M> {
    let mut request = Request::new(message);
    if let Some(token) = token {
        request.metadata_mut().insert("token", token.clone());
    }
    request
}

async fn within<T>(request: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    let answer = tokio::time::timeout(REQUEST_MAX, request).await;
    answer.unwrap_or_else(|_| {
        let late = format!("no answer within {} seconds", REQUEST_MAX.as_secs());
        Err(Status::deadline_exceeded(late))
    })
}
