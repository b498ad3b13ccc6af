use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::SignedDuration;
use tappaas_core::{
    Cursor, Error, Kind, ListRequest, Object, Page, Result, Revision, Scope, Timestamp,
};

/// How many listings of several pages may be open; with one more the oldest expires.
const OPEN_MAX: usize = 4 * Kind::ALL.len();
/// How long one may be open.
const OPEN_FOR_MAX: SignedDuration = SignedDuration::from_mins(1);

/// The listings of which more pages may be asked for.
///
/// The API server orders by namespace, and its pages are of one namespace or of all: a listing in order of the keys is therefore read
/// whole, and handed out in pages.
#[derive(Debug, Default)]
pub(super) struct Listings(Mutex<VecDeque<Listing>>);

#[derive(Debug)]
struct Listing {
    id: String,
    begun: Timestamp,
    kind: Kind,
    scope: Scope,
    objects: Arc<[Object]>,
    revision: Revision,
}

impl Listings {
    /// The first page of a new listing called `id`.
    pub(super) fn begin(
        &self,
        id: String,
        request: &ListRequest,
        objects: Vec<Object>,
        revision: Revision,
        now: Timestamp,
    ) -> Page {
        if objects.len() <= limit(request) {
            return Page {
                objects,
                revision,
                next: None,
            };
        }
        let listing = Listing {
            id,
            begun: now,
            kind: request.kind,
            scope: request.scope.clone(),
            objects: objects.into(),
            revision,
        };
        let page = listing.page(0, limit(request));
        let mut open = self.open(now);
        open.push_back(listing);
        if open.len() > OPEN_MAX {
            open.pop_front();
        }
        page
    }

    /// A later page. After the last one the listing is closed.
    ///
    /// # Errors
    /// `Expired` if the listing is not open any more, `Invalid` if the cursor is of another one.
    pub(super) fn go_on(&self, request: &ListRequest, now: Timestamp) -> Result<Page> {
        let expired = || Error::expired("the listing was open for too long: list again");
        let cursor = request.after.as_ref().ok_or_else(expired)?;
        let (id, from) = cursor.0.split_once('/').ok_or_else(expired)?;
        let from = from.parse().map_err(|_| expired())?;
        let mut open = self.open(now);
        let index = open.iter().position(|listing| listing.id == id);
        let index = index.ok_or_else(expired)?;
        let listing = &open[index];
        if listing.kind != request.kind || listing.scope != request.scope {
            return Err(Error::invalid("the cursor belongs to another listing"));
        }
        let page = listing.page(from, limit(request));
        if page.next.is_none() {
            open.remove(index);
        }
        Ok(page)
    }

    /// Those that are open; what was open for too long is closed.
    fn open(&self, now: Timestamp) -> MutexGuard<'_, VecDeque<Listing>> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|listing| now.duration_since(listing.begun) < OPEN_FOR_MAX);
        open
    }
}

fn limit(request: &ListRequest) -> usize {
    request.limit.min(ListRequest::LIMIT_MAX)
}

impl Listing {
    fn page(&self, from: usize, limit: usize) -> Page {
        let rest = self.objects.get(from..).unwrap_or_default();
        let end = rest.len().min(limit);
        let more = end < rest.len();
        Page {
            objects: rest[..end].to_vec(),
            revision: self.revision,
            next: more.then(|| Cursor(format!("{}/{}", self.id, from + end))),
        }
    }
}
