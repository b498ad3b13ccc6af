use tappaas_core::{Cursor, Error, Key, ListRequest, Object, Page, Result};
use tonic::Status;

use crate::{
    Keyspace,
    failure::is_too_long,
    layout::{end_of, revision},
    messages::{KeyValue, RANGE, RangeRequest, RangeResponse},
};

impl Keyspace {
    pub(crate) async fn read(&self, key: &Key) -> Result<Option<Object>> {
        let doing = format!("cannot read {key}");
        let found = self.find(&self.layout.object(key), &doing).await?;
        let found = found.map(|found| self.layout.decode(key.kind, &found));
        found.transpose()
    }

    pub(crate) async fn find(&self, key: &[u8], doing: &str) -> Result<Option<KeyValue>> {
        let found = self.client.find(key).await;
        found.map_err(|status| self.client.failure(doing, &status))
    }

    /// One page of a listing, at the revision of its first page, which etcd keeps until it compacts.
    pub(crate) async fn page(&self, request: &ListRequest) -> Result<Page> {
        if request.limit == 0 {
            return Err(Error::invalid("a listing needs a limit of at least 1"));
        }
        let scope = self.layout.scope(request.kind, &request.scope);
        let place = request
            .after
            .as_ref()
            .map(|cursor| Place::of(cursor, &scope));
        let place = place.transpose()?;
        let range = RangeRequest {
            range_end: end_of(&scope),
            limit: i64::try_from(request.limit.min(ListRequest::LIMIT_MAX)).unwrap_or(i64::MAX),
            revision: place.as_ref().map_or(0, |place| place.revision),
            key: place.map_or_else(|| scope.clone(), |place| place.next),
        };
        let at = range.revision;
        let answer = self.fitting(range).await.map_err(|status| {
            let doing = format!("cannot list objects of kind {}", request.kind);
            self.client.failure(doing, &status)
        })?;
        let at = match at {
            0 => answer.header.unwrap_or_default().revision,
            at => at,
        };
        let last = answer.kvs.last().filter(|_| answer.more);
        let next = last.map(|last| Place::cursor(at, &last.key, &scope));
        let objects = answer.kvs.iter();
        let objects = objects.map(|found| self.layout.decode(request.kind, found));
        Ok(Page {
            objects: objects.collect::<Result<_>>()?,
            revision: revision(at),
            next,
        })
    }

    /// As much of a range as fits into an answer.
    async fn fitting(&self, mut range: RangeRequest) -> Result<RangeResponse, Status> {
        loop {
            let answer = self.client.call(&RANGE, range.clone()).await;
            match answer {
                Err(status) if is_too_long(&status) && range.limit > 1 => range.limit /= 4,
                answer => return answer,
            }
            range.limit = range.limit.max(1);
        }
    }
}

/// Where a page begins.
struct Place {
    revision: i64,
    next: Vec<u8>,
}

impl Place {
    /// Names the revision of the listing and the last key that was handed out, without its scope.
    fn cursor(revision: i64, last: &[u8], scope: &[u8]) -> Cursor {
        let last = last.strip_prefix(scope).unwrap_or(last);
        let scope = String::from_utf8_lossy(scope);
        Cursor(format!(
            "{revision} {scope} {}",
            String::from_utf8_lossy(last)
        ))
    }

    /// # Errors
    /// `Expired` if it is no cursor, `Invalid` if it is one of another listing.
    fn of(cursor: &Cursor, scope: &[u8]) -> Result<Self> {
        let expired = || Error::expired("the cursor is of no listing: list again");
        let (revision, place) = cursor.0.split_once(' ').ok_or_else(expired)?;
        let (listed, last) = place.split_once(' ').ok_or_else(expired)?;
        let revision = revision.parse().ok().filter(|revision| *revision > 0);
        let revision = revision.ok_or_else(expired)?;
        if listed.as_bytes() != scope {
            return Err(Error::invalid("the cursor belongs to another listing"));
        }
        let next = [scope, last.as_bytes(), b"\0"].concat();
        Ok(Self { revision, next })
    }
}

#[cfg(test)]
mod tests {
    use tappaas_core::ErrorKind;

    use super::*;

    #[test]
    fn a_cursor_leads_right_after_the_key_that_it_was_made_of() {
        let cursor = Place::cursor(7, b"/t/Volume/one,p,e,x", b"/t/Volume/one,");
        let place = Place::of(&cursor, b"/t/Volume/one,").unwrap();
        assert_eq!(place.revision, 7);
        assert_eq!(place.next, b"/t/Volume/one,p,e,x\0");
    }

    #[test]
    fn a_cursor_of_another_listing_is_refused() {
        let cursor = Place::cursor(7, b"/t/Volume/one,p,e,x", b"/t/Volume/");
        let other = Place::of(&cursor, b"/t/Volume/one,").err().unwrap();
        assert_eq!(other.kind(), ErrorKind::Invalid);
        for nonsense in ["", "7", "x /t/Volume/ y", "no such cursor"] {
            let cursor = Cursor(nonsense.to_owned());
            let error = Place::of(&cursor, b"/t/Volume/").err().unwrap();
            assert_eq!(error.kind(), ErrorKind::Expired, "{nonsense:?}");
        }
    }
}
