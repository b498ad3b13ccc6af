use std::{fmt, sync::Arc};

use async_trait::async_trait;
use futures::stream::BoxStream;
use tappaas_core::{
    Clock, Error, Event, Ids, Key, Kind, ListRequest, Object, Page, Precondition, Result, Revision,
    Store,
    store::{decide_delete, decide_put, decide_put_status},
};

use crate::{
    client::Client,
    config::Config,
    layout::{FORMAT, Layout},
    transaction::put,
    watching::Watched,
};

/// A [`Store`] in what an etcd cluster (3.4 or later) has below a prefix. Several servers may use one at the same time.
///
/// - A write is one transaction, guarded by the revision that its object was read at. One whose answer is lost is `Unavailable`, and may
///   have happened.
/// - A revision is etcd's own, which all that is in the cluster share.
/// - How long changes are kept for watches and listings is etcd's to say (`--auto-compaction-retention`, which is off unless set: then
///   etcd fills up). A watch of a kind in which nothing happens says so each ten minutes, or as often as etcd is set to.
/// - An object that is above etcd's limit for a request (`--max-request-bytes`, 1.5 MiB unless set) is `Exhausted`.
/// - What somebody else wrote below the prefix is not passed over: reading it is `Internal`, and names its key.
#[derive(Clone)]
pub struct Keyspace {
    pub(crate) client: Arc<Client>,
    pub(crate) layout: Arc<Layout>,
    pub(crate) clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
}

impl Keyspace {
    /// Opens a store, or creates it. To be called inside of tokio's runtime, which the connections then belong to.
    ///
    /// # Errors
    /// `Invalid` if the config cannot be one, `Unavailable` if no member answers, `Denied` if the login is wrong or may not do this,
    /// `Unsupported` if a newer version wrote what is there.
    pub async fn open(config: &Config, clock: Arc<dyn Clock>, ids: Arc<dyn Ids>) -> Result<Self> {
        let layout = Layout::new(&config.prefix)?;
        let keyspace = Self {
            client: Arc::new(Client::new(config)?),
            layout: Arc::new(layout),
            clock,
            ids,
        };
        keyspace.check_format().await?;
        Ok(keyspace)
    }

    /// What tells this store from all others: made when it is first asked for, and the same ever after for whoever opens it.
    ///
    /// # Errors
    /// `Unavailable` if no member answers, `Denied` if the login may not do this, `Internal` if somebody else wrote it.
    pub async fn id(&self) -> Result<String> {
        let key = self.layout.id();
        let doing = format!(
            "cannot tell the id of the store at `{}`",
            self.layout.prefix()
        );
        let mut found = self.find(&key, &doing).await?;
        if found.is_none() {
            let made = put(&key, self.ids.unique(), 0);
            // If somebody else makes another one right now, theirs is it.
            let made = self.client.commit(&key, 0, made).await;
            made.map_err(|status| self.client.failure(&doing, &status))?;
            found = self.find(&key, &doing).await?;
        }
        let value = found.map(|found| String::from_utf8(found.value));
        let damaged = || Error::internal(format!("{doing}: it is damaged"));
        value.and_then(Result::ok).ok_or_else(damaged)
    }

    /// Refuses what a newer version wrote. What is empty gets this version.
    async fn check_format(&self) -> Result<()> {
        let key = self.layout.format();
        let doing = format!("cannot open the store at `{}`", self.layout.prefix());
        let Some(found) = self.find(&key, &doing).await? else {
            let format = put(&key, FORMAT.to_string(), 0);
            // If somebody else creates it right now, that is as good.
            let created = self.client.commit(&key, 0, format).await;
            return created
                .map(|_| ())
                .map_err(|status| self.client.failure(doing, &status));
        };
        let text = String::from_utf8_lossy(&found.value);
        match text.parse::<u64>() {
            Ok(format) if format <= FORMAT => Ok(()),
            Ok(format) => Err(Error::unsupported(format!(
                "{doing}: it has format {format}, and this version knows {FORMAT}: use a newer version"
            ))),
            Err(_) => Err(Error::internal(format!(
                "{doing}: its format `{}` is damaged",
                text.escape_debug()
            ))),
        }
    }
}

impl fmt::Debug for Keyspace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyspace")
            .field("prefix", &self.layout.prefix())
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for Keyspace {
    async fn get(&self, key: &Key) -> Result<Option<Object>> {
        key.check()?;
        self.read(key).await
    }

    async fn list(&self, request: &ListRequest) -> Result<Page> {
        self.page(request).await
    }

    async fn put(&self, object: Object, precondition: Precondition) -> Result<Object> {
        let key = object.key();
        let decide = |existing: Option<&Object>| {
            let (uid, now) = (|| self.ids.unique(), self.clock.now());
            decide_put(existing, object.clone(), precondition, uid, now)
        };
        let written = self.write(&key, decide).await?;
        written.ok_or_else(|| Error::internal(format!("{key} was written and is not there")))
    }

    async fn put_status(&self, object: Object, precondition: Precondition) -> Result<Object> {
        let key = object.key();
        let decide =
            |existing: Option<&Object>| decide_put_status(existing, object.clone(), precondition);
        let written = self.write(&key, decide).await?;
        written.ok_or_else(|| Error::internal(format!("{key} was written and is not there")))
    }

    async fn delete(&self, key: &Key, precondition: Precondition) -> Result<Option<Object>> {
        let decide = |existing: Option<&Object>| {
            decide_delete(existing, key, precondition, self.clock.now())
        };
        self.write(key, decide).await
    }

    async fn watch(&self, kind: Kind, from: Revision) -> Result<BoxStream<'static, Event>> {
        let watched = Watched {
            client: Arc::clone(&self.client),
            layout: Arc::clone(&self.layout),
            kind,
        };
        watched.from(from).await
    }
}
