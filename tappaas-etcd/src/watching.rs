use std::{collections::VecDeque, sync::Arc, time::Duration};

use futures::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use tappaas_core::{Chain, Event, Kind, Object, Result, Revision, Scope};
use tonic::{Status, Streaming};

use crate::{
    client::Client,
    failure::{is_expired, is_passing},
    layout::{Layout, counter, end_of, revision},
    messages::{RANGE, RangeRequest, RangeResponse, WatchCreateRequest, WatchEvent, WatchResponse},
    writing::gone,
};

/// How often a watch that broke off is begun again before it is given up: for about two minutes.
const ATTEMPTS: u32 = 64;
/// How long it waits before that the first time, and at most.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// The objects of one kind, to be watched.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) client: Arc<Client>,
    pub(crate) layout: Arc<Layout>,
    pub(crate) kind: Kind,
}

/// A watch that goes on where it was whenever its connection breaks.
struct Follower {
    watched: Watched,
    /// Everything up to this revision was told.
    at: i64,
    /// The cluster that counts so. One that was restored from a backup is another one.
    cluster: u64,
    told: Option<Streaming<WatchResponse>>,
    /// What was told and not handed out yet. At most what etcd says at once.
    events: VecDeque<Event>,
    /// How often the watch was begun without being told anything.
    vain: u32,
    ended: bool,
}

/// A watch that could begin where it was to, and the cluster that it is of.
type Begun = (u64, Streaming<WatchResponse>);

impl Watched {
    /// # Errors
    /// What etcd says; a watch that cannot begin at this revision yields `Expired` instead.
    pub(crate) async fn from(self, from: Revision) -> Result<BoxStream<'static, Event>> {
        let at = counter(from);
        let begun = self.begin(at).await.map_err(|status| {
            let doing = format!("cannot watch objects of kind {}", self.kind);
            self.client.failure(doing, &status)
        })?;
        let Some((cluster, told)) = begun else {
            return Ok(stream::iter([Event::Expired]).boxed());
        };
        let follower = Follower {
            watched: self,
            at,
            cluster,
            told: Some(told),
            events: VecDeque::new(),
            vain: 0,
            ended: false,
        };
        Ok(stream::unfold(follower, Follower::next).boxed())
    }

    /// `None` if it has expired.
    async fn begin(&self, at: i64) -> Result<Option<Begun>, Status> {
        let cluster = match self.cluster(at).await {
            Err(status) if is_expired(&status) => return Ok(None),
            cluster => cluster?,
        };
        let scope = self.layout.scope(self.kind, &Scope::cluster());
        let request = WatchCreateRequest {
            range_end: end_of(&scope),
            key: scope,
            start_revision: at + 1,
            progress_notify: true,
            prev_kv: true,
            // Else what a watch has missed comes at once, a thousand revisions of it.
            fragment: true,
        };
        let (first, told) = self.client.watch(request).await?;
        Ok((first.compact_revision == 0).then_some((cluster, told)))
    }

    /// The cluster's id, if it has this revision. A watch from one to come, as after a restore from a backup, would only wait; and one whose
    /// first change is the very one that was compacted would not be told of it if it was a removal, without a word.
    async fn cluster(&self, at: i64) -> Result<u64, Status> {
        let request = RangeRequest {
            key: self.layout.format(),
            revision: at,
            ..RangeRequest::default()
        };
        let answer: RangeResponse = self.client.call(&RANGE, request).await?;
        Ok(answer.header.unwrap_or_default().cluster_id)
    }

    /// What etcd tells, or `None` if that does not say enough: then whoever watches has to list, and learns there what is wrong.
    fn translate(&self, event: &WatchEvent) -> Option<Event> {
        let kv = event.kv.as_ref()?;
        if event.kind != WatchEvent::DELETE {
            return self.layout.decode(self.kind, kv).ok().map(Event::Applied);
        }
        // What was there before may be compacted by now.
        let before = self.layout.decode(self.kind, event.prev_kv.as_ref()?);
        let mut object: Object = gone(before.ok()?);
        object.metadata.revision = revision(kv.mod_revision);
        Some(Event::Deleted(object))
    }
}

impl Follower {
    async fn next(mut self) -> Option<(Event, Self)> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some((event, self));
            }
            if self.ended {
                return None;
            }
            match &mut self.told {
                Some(told) => match told.message().await {
                    Ok(Some(response)) => self.take(&response),
                    // It broke off.
                    Ok(None) | Err(_) => self.told = None,
                },
                None => self.resume().await,
            }
        }
    }

    fn take(&mut self, response: &WatchResponse) {
        if response.compact_revision > 0 {
            return self.expire();
        }
        if response.canceled {
            self.told = None;
            return;
        }
        self.vain = 0;
        for event in &response.events {
            let Some(translated) = self.watched.translate(event) else {
                return self.expire();
            };
            let at = event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
            self.at = self.at.max(at);
            self.events.push_back(translated);
        }
        if response.events.is_empty() && !response.created {
            let reached = response.header.as_ref().map_or(0, |header| header.revision);
            self.at = self.at.max(reached);
            self.events.push_back(Event::Bookmark(revision(self.at)));
        }
    }

    fn expire(&mut self) {
        self.events.push_back(Event::Expired);
        self.ended = true;
    }

    /// Begins again where it was. What would fail again ends the watch: whoever watches then learns why by watching again.
    async fn resume(&mut self) {
        if self.vain == ATTEMPTS {
            self.ended = true;
            return;
        }
        let pause = PAUSE * self.vain;
        tokio::time::sleep(pause.min(PAUSE_MAX)).await;
        self.vain += 1;
        match self.watched.begin(self.at).await {
            Ok(Some((cluster, told))) if cluster == self.cluster => self.told = Some(told),
            Ok(_) => self.expire(),
            Err(status) => {
                self.ended = !is_passing(&status);
                let kind = self.watched.kind;
                let error = self.watched.client.failure("cannot watch", &status);
                tracing::debug!(%kind, error = %Chain(&error), "a watch broke off");
            }
        }
    }
}
