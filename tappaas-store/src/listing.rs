use std::{
    collections::VecDeque,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tappaas_core::{Cursor, Error, Kind, ListRequest, Object, Page, Result, Revision, Scope};

use crate::{
    failure::Failure,
    history,
    layout::{decode_object, objects, scope_prefix},
    rows::Snapshot,
};

/// How many listings of several pages may be open; with one more the oldest expires.
const OPEN_MAX: usize = 16;

/// How many pages of the file an open listing may keep from being used again before it expires: 256 MiB.
const PINNED_MAX: u64 = 65_536;

/// About how many pages of the file one commit replaces besides those of the changed rows.
const PAGES_A_COMMIT: u64 = 12;

/// The listings of which more pages may be asked for. Each shows the snapshot that its first page came from.
#[derive(Default)]
pub(crate) struct Listings(VecDeque<Listing>);

struct Listing {
    id: String,
    kind: Kind,
    scope: Scope,
    snapshot: Arc<Snapshot>,
    pinned: u64,
}

impl Listings {
    /// The snapshot of the listing that a cursor belongs to, its id, and the key after which it goes on.
    fn resume(
        &self,
        request: &ListRequest,
        cursor: &Cursor,
    ) -> Result<(Arc<Snapshot>, String, Vec<u8>)> {
        let expired = || Error::expired("the listing was open for too long: list again");
        let (id, after) = cursor.0.split_once('/').ok_or_else(expired)?;
        let listing = self
            .0
            .iter()
            .find(|listing| listing.id == id)
            .ok_or_else(expired)?;
        if listing.kind != request.kind || listing.scope != request.scope {
            return Err(Error::invalid("the cursor belongs to another listing"));
        }
        Ok((
            listing.snapshot.clone(),
            id.to_owned(),
            after.replace('/', "\0").into_bytes(),
        ))
    }

    /// Keeps a listing open for its later pages.
    fn keep(&mut self, id: String, request: &ListRequest, snapshot: Arc<Snapshot>) {
        self.0.push_back(Listing {
            id,
            kind: request.kind,
            scope: request.scope.clone(),
            snapshot,
            pinned: 0,
        });
        if self.0.len() > OPEN_MAX {
            self.0.pop_front();
        }
    }

    /// Lets those expire that hold on to too much of the file, after one more commit.
    pub(crate) fn age(&mut self, rows: u64) {
        for listing in &mut self.0 {
            listing.pinned += rows + PAGES_A_COMMIT;
        }
        self.0.retain(|listing| listing.pinned <= PINNED_MAX);
    }

    /// Lets all expire.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

/// Reads the page of a listing that is asked for: the first of a new one called `id`, or a later one of one that is open.
///
/// To be called while the database cannot be closed, because an open listing keeps it busy.
pub(crate) fn next_page(
    listings: &Mutex<Listings>,
    snapshot: Snapshot,
    request: &ListRequest,
    id: String,
) -> Result<Result<Page>, Failure> {
    if let Some(cursor) = &request.after {
        let resumed = lock(listings).resume(request, cursor);
        return match resumed {
            Ok((snapshot, id, after)) => page(&snapshot, &id, request, Some(&after)).map(Ok),
            Err(error) => Ok(Err(error)),
        };
    }
    let page = page(&snapshot, &id, request, None)?;
    if page.next.is_some() {
        lock(listings).keep(id, request, Arc::new(snapshot));
    }
    Ok(Ok(page))
}

/// Reads one page of a listing.
fn page(
    snapshot: &Snapshot,
    id: &str,
    request: &ListRequest,
    after: Option<&[u8]>,
) -> Result<Page, Failure> {
    let limit = request.limit.min(ListRequest::LIMIT_MAX);
    let (table, prefix) = (objects(request.kind), scope_prefix(&request.scope));
    let from = after.map_or(Bound::Included(&*prefix), Bound::Excluded);
    let mut found: Vec<Object> = Vec::new();
    let mut next = None;
    let mut last = Vec::new();
    snapshot.scan(&table, from, |key, json| {
        if !key.starts_with(&prefix) {
            return Ok(false);
        }
        if found.len() == limit {
            next = Some(Cursor(format!(
                "{id}/{}",
                String::from_utf8_lossy(&last).replace('\0', "/")
            )));
            return Ok(false);
        }
        found.push(decode_object(&table, key, json)?);
        last = key.to_vec();
        Ok(true)
    })?;
    Ok(Page {
        objects: found,
        revision: Revision::from_counter(history::revision(snapshot)?),
        next,
    })
}

fn lock(listings: &Mutex<Listings>) -> MutexGuard<'_, Listings> {
    listings.lock().unwrap_or_else(PoisonError::into_inner)
}
