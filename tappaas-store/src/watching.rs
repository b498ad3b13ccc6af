use std::{collections::VecDeque, sync::Arc};

use futures::{StreamExt, stream, stream::BoxStream};
use tappaas_core::{Event, Kind, Revision};
use tokio::sync::watch;

use crate::{
    failure::Failure,
    history::{self, Next},
    state::State,
};

/// Reads the history of one kind from where it is. Keeps one chunk, so that a slow watcher costs nothing.
struct Watcher {
    state: Arc<State>,
    changed: watch::Receiver<()>,
    kind: Kind,
    position: u64,
    chunk: VecDeque<Event>,
    ended: bool,
}

pub(crate) fn watch(state: Arc<State>, kind: Kind, from: Revision) -> BoxStream<'static, Event> {
    let watcher = Watcher {
        changed: state.subscribe(kind),
        state,
        kind,
        position: from.counter(),
        chunk: VecDeque::new(),
        ended: false,
    };
    stream::unfold(watcher, Watcher::next).boxed()
}

impl Watcher {
    async fn next(mut self) -> Option<(Event, Self)> {
        loop {
            if let Some(event) = self.chunk.pop_front() {
                return Some((event, self));
            }
            if self.ended {
                return None;
            }
            // Seen before reading, so that what comes while reading wakes this watcher again.
            self.changed.mark_unchanged();
            match self.read().await {
                Ok(Next::Changes(events)) if events.is_empty() => {
                    self.changed.changed().await.ok()?;
                }
                Ok(Next::Changes(events)) => self.take(events),
                Ok(Next::Expired) => {
                    self.ended = true;
                    self.chunk.push_back(Event::Expired);
                }
                Err(failure) => {
                    tracing::debug!(kind = %self.kind, %failure, "a watch broke off");
                    return None;
                }
            }
        }
    }

    fn take(&mut self, events: Vec<Event>) {
        if let Some(Event::Applied(last) | Event::Deleted(last)) = events.last() {
            self.position = last.metadata.revision.counter();
        }
        self.chunk.extend(events);
    }

    async fn read(&self) -> Result<Next, Failure> {
        let (state, kind, position) = (self.state.clone(), self.kind, self.position);
        let read = move || state.read(|snapshot| history::after(&snapshot, kind, position));
        let read = tokio::task::spawn_blocking(read).await;
        read.unwrap_or(Err(Failure::Closed))
    }
}
