//! Requests to a cluster of several members, of which some may be gone.

use std::{
    fmt::Display,
    sync::atomic::{AtomicUsize, Ordering},
};

use prost::Message;
use tappaas_core::{Error, Result};
use tokio::sync::Mutex;
use tonic::{Status, metadata::AsciiMetadataValue};

use crate::{
    config::{Config, Login},
    failure::{failure, is_passing, is_stale_login, is_unsent},
    member::{Member, Told},
    messages::{
        AUTHENTICATE, AuthenticateRequest, AuthenticateResponse, KeyValue, Method, RANGE,
        RangeRequest, RangeResponse, WATCH, WatchCreateRequest,
    },
};

/// Asks one member of a cluster until it does not answer, and then the next.
#[derive(Debug)]
pub(crate) struct Client {
    members: Vec<Member>,
    current: AtomicUsize,
    login: Option<Login>,
    /// What etcd gave for the password.
    token: Mutex<Option<AsciiMetadataValue>>,
}

impl Client {
    /// Connects to nobody yet. To be called inside of tokio's runtime.
    ///
    /// # Errors
    /// `Invalid` if the config cannot be one.
    pub(crate) fn new(config: &Config) -> Result<Self> {
        let members = config.endpoints.iter();
        let members = members.map(|endpoint| Member::new(endpoint, config.tls.as_ref()));
        let members: Vec<_> = members.collect::<Result<_>>()?;
        if members.is_empty() {
            return Err(Error::invalid("an etcd cluster has at least one endpoint"));
        }
        let login = config.login.as_ref();
        if login.is_some_and(|login| std::str::from_utf8(login.password.expose()).is_err()) {
            return Err(Error::invalid("the password for etcd is not UTF-8"));
        }
        Ok(Self {
            members,
            current: AtomicUsize::new(0),
            login: config.login.clone(),
            token: Mutex::default(),
        })
    }

    /// Makes a request. Another member is asked where one does not answer, unless the request may have been carried out already and must not
    /// be repeated.
    pub(crate) async fn call<Q, A>(&self, method: &Method, message: Q) -> Result<A, Status>
    where
        Q: Message + Clone + 'static,
        A: Message + Default + 'static,
    {
        let token = self.log_in(None).await?;
        match self.send(method, &message, token.as_ref()).await {
            Err(status) if token.is_some() && is_stale_login(&status) => {
                let token = self.log_in(token).await?;
                self.send(method, &message, token.as_ref()).await
            }
            answered => answered,
        }
    }

    /// Begins a watch, and returns what it says first. It has a connection of its own: what is not read is held back, on the whole connection.
    pub(crate) async fn watch(&self, request: WatchCreateRequest) -> Result<Told, Status> {
        let token = self.log_in(None).await?;
        let mut left = self.members.len();
        loop {
            let index = self.current.load(Ordering::Relaxed);
            let begun = self.members[index].watch(request.clone(), token.as_ref());
            match begun.await {
                Err(status) if self.goes_on(index, &mut left, &WATCH, &status) => {}
                begun => return begun,
            }
        }
    }

    /// What a key has now.
    pub(crate) async fn find(&self, key: &[u8]) -> Result<Option<KeyValue>, Status> {
        let request = RangeRequest {
            key: key.to_vec(),
            ..RangeRequest::default()
        };
        let answer: RangeResponse = self.call(&RANGE, request).await?;
        Ok(answer.kvs.into_iter().next())
    }

    /// Says in core's terms what became of a request.
    pub(crate) fn failure(&self, doing: impl Display, status: &Status) -> Error {
        failure(doing, &self.endpoints(), status)
    }

    fn endpoints(&self) -> String {
        let endpoints = self.members.iter();
        let endpoints: Vec<_> = endpoints.map(|member| member.url()).collect();
        endpoints.join(", ")
    }

    async fn send<Q, A>(
        &self,
        method: &Method,
        message: &Q,
        token: Option<&AsciiMetadataValue>,
    ) -> Result<A, Status>
    where
        Q: Message + Clone + 'static,
        A: Message + Default + 'static,
    {
        let mut left = self.members.len();
        loop {
            let index = self.current.load(Ordering::Relaxed);
            let asked = self.members[index].ask(method, message.clone(), token);
            match asked.await {
                Err(status) if self.goes_on(index, &mut left, method, &status) => {}
                answered => return answered,
            }
        }
    }

    /// Turns away from a member that did not answer, and says whether to ask the next one: as many are asked as there are.
    fn goes_on(&self, index: usize, left: &mut usize, method: &Method, status: &Status) -> bool {
        if !is_passing(status) {
            return false;
        }
        let next = (index + 1) % self.members.len();
        // Somebody else may have turned away from it before.
        let _ = self
            .current
            .compare_exchange(index, next, Ordering::Relaxed, Ordering::Relaxed);
        *left -= 1;
        *left > 0 && (method.repeatable || is_unsent(status))
    }

    /// What to show with each request: something else than what is stale.
    async fn log_in(
        &self,
        stale: Option<AsciiMetadataValue>,
    ) -> Result<Option<AsciiMetadataValue>, Status> {
        let Some(login) = &self.login else {
            return Ok(None);
        };
        // Held meanwhile, so that of many requests one logs in.
        let mut token = self.token.lock().await;
        if token.is_some() && *token != stale {
            return Ok(token.clone());
        }
        let request = AuthenticateRequest {
            name: login.user.clone(),
            password: String::from_utf8_lossy(login.password.expose()).into_owned(),
        };
        let answer: AuthenticateResponse = self.send(&AUTHENTICATE, &request, None).await?;
        let mut shown = AsciiMetadataValue::try_from(answer.token)
            .map_err(|_| Status::internal("etcd's token is no text"))?;
        shown.set_sensitive(true);
        *token = Some(shown);
        Ok(token.clone())
    }
}
