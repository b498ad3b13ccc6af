use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, PoisonError},
};

use async_trait::async_trait;
use futures::stream::BoxStream;
use tappaas_core::{
    Batch, Durable, Event, Key, Kind, ListRequest, Object, Page, Precondition, Result, Revision,
    Row, Store,
};

use super::{Call, Fault, Faulty};

/// So many answers to the same question are remembered.
const ANSWERS_MAX: usize = 16;

/// What a store answered before, so that a read can be stale.
#[derive(Debug, Default)]
pub(super) struct Past {
    objects: Mutex<BTreeMap<Key, Answers<Option<Object>>>>,
    pages: Mutex<BTreeMap<String, Answers<Page>>>,
}

#[derive(Debug)]
struct Answers<R>(VecDeque<R>);

impl<R: Clone> Answers<R> {
    fn remember<K: Ord>(all: &Mutex<BTreeMap<K, Self>>, question: K, answer: &R) {
        let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
        let answers = all.entry(question).or_insert_with(|| Self(VecDeque::new()));
        if answers.0.len() == ANSWERS_MAX {
            answers.0.pop_front();
        }
        answers.0.push_back(answer.clone());
    }

    /// The answer so many answers ago, or the oldest one there is.
    fn recall<K: Ord>(all: &Mutex<BTreeMap<K, Self>>, question: &K, ago: usize) -> Option<R> {
        let all = all.lock().unwrap_or_else(PoisonError::into_inner);
        let answers = &all.get(question)?.0;
        let index = answers.len().saturating_sub(ago + 1);
        answers.get(index).cloned()
    }
}

impl<T: ?Sized> Faulty<T> {
    /// As [`Faulty::call`], but may be answered from the past.
    async fn read<K: Ord + Clone, R: Clone, F>(
        &self,
        verb: &'static str,
        all: &Mutex<BTreeMap<K, Answers<R>>>,
        question: K,
        call: impl Fn() -> F,
    ) -> Result<R>
    where
        F: Future<Output = Result<R>>,
    {
        let (told, fault) = self.faults.of_read(verb);
        self.faults.tell(told).await;
        let stale = match fault {
            Some(Fault::Stale(ago)) => Answers::recall(all, &question, ago),
            _ => None,
        };
        let answer = match stale {
            Some(answer) => Ok(answer),
            None => {
                let answer = self.meet(verb, fault, call).await;
                if let Ok(answer) = &answer {
                    Answers::remember(all, question, answer);
                }
                answer
            }
        };
        self.faults.tell(Call { done: true, ..told }).await;
        answer
    }

    /// Remembers what a write left, so that a later read can miss the write after it.
    fn left(&self, object: Object) -> Object {
        let question = object.key();
        Answers::remember(&self.past.objects, question, &Some(object.clone()));
        object
    }
}

#[async_trait]
impl<T: Store + ?Sized> Store for Faulty<T> {
    async fn get(&self, key: &Key) -> Result<Option<Object>> {
        let call = || self.inner.get(key);
        self.read("get", &self.past.objects, key.clone(), call)
            .await
    }

    async fn list(&self, request: &ListRequest) -> Result<Page> {
        let question = format!("{request:?}");
        let call = || self.inner.list(request);
        self.read("list", &self.past.pages, question, call).await
    }

    async fn put(&self, object: Object, precondition: Precondition) -> Result<Object> {
        let call = || self.inner.put(object.clone(), precondition);
        Ok(self.left(self.call("put", call).await?))
    }

    async fn put_status(&self, object: Object, precondition: Precondition) -> Result<Object> {
        let call = || self.inner.put_status(object.clone(), precondition);
        Ok(self.left(self.call("put_status", call).await?))
    }

    async fn delete(&self, key: &Key, precondition: Precondition) -> Result<Option<Object>> {
        self.call("delete", || self.inner.delete(key, precondition))
            .await
    }

    async fn watch(&self, kind: Kind, from: Revision) -> Result<BoxStream<'static, Event>> {
        let items = self.call("watch", || self.inner.watch(kind, from)).await?;
        Ok(self.items(items))
    }
}

#[async_trait]
impl<T: Durable + ?Sized> Durable for Faulty<T> {
    async fn get(&self, table: &str, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.call("get", || self.inner.get(table, key)).await
    }

    async fn scan(
        &self,
        table: &str,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<Row>> {
        self.call("scan", || self.inner.scan(table, prefix, after, limit))
            .await
    }

    async fn commit(&self, batch: Batch) -> Result<()> {
        self.call("commit", || self.inner.commit(batch.clone()))
            .await
    }
}
