use std::ops::Bound;

use tappaas_core::{Event, Kind};

use crate::{
    Limits,
    failure::Failure,
    layout::{META, META_REVISION, decode_change, decode_number, encode_number, history},
    rows::{Draft, Snapshot},
};

/// How many changes a watcher reads at once, and how many bytes of them.
const CHUNK_CHANGES: usize = 256;
const CHUNK_BYTES: usize = 1 << 20;

/// How many changes more than were written one transaction forgets, so that a lowered limit is reached without a long pause.
const FORGET_MAX: u64 = 64;

/// The changes of one kind as a transaction sees them.
struct Extent {
    /// Changes up to this revision are forgotten.
    forgotten: u64,
    /// The bytes of the others.
    bytes: u64,
}

/// Adds changes of one kind and forgets the oldest beyond the limits.
pub(crate) fn append(
    draft: &mut Draft<'_>,
    kind: Kind,
    changes: &[(u64, Vec<u8>)],
    limits: &Limits,
) -> Result<(), Failure> {
    let table = history(kind);
    let mut extent = extent(draft, kind)?;
    for (revision, change) in changes {
        extent.bytes += change.len() as u64;
        draft.put(&table, &encode_number(*revision), change)?;
    }
    let most = changes.len() as u64 + FORGET_MAX;
    forget(
        draft,
        kind,
        &mut extent,
        limits.history_changes,
        limits.history_bytes,
        most,
    )?;
    keep_extent(draft, kind, &extent)
}

/// Forgets at most `most` of the oldest changes of a kind, until `keep` are left. Says whether there are more to forget.
pub(crate) fn trim(
    draft: &mut Draft<'_>,
    kind: Kind,
    keep: u64,
    most: u64,
) -> Result<bool, Failure> {
    let mut extent = extent(draft, kind)?;
    let forgotten = forget(draft, kind, &mut extent, keep, u64::MAX, most)?;
    if forgotten > 0 {
        keep_extent(draft, kind, &extent)?;
    }
    Ok(draft.len(&history(kind))? > keep)
}

/// What a watcher at a revision gets next.
pub(crate) enum Next {
    /// These changes, in order; none if nothing has happened since.
    Changes(Vec<Event>),
    /// The history from there on is not there.
    Expired,
}

/// Reads the changes of a kind after a revision, as many as come in one chunk.
pub(crate) fn after(snapshot: &Snapshot, kind: Kind, position: u64) -> Result<Next, Failure> {
    let forgotten = match snapshot.get(META, history(kind).as_bytes())? {
        Some(bytes) => decode_extent(kind, &bytes)?.forgotten,
        None => 0,
    };
    if position < forgotten || position > revision(snapshot)? {
        return Ok(Next::Expired);
    }
    let table = history(kind);
    let (mut events, mut bytes) = (Vec::new(), 0);
    snapshot.scan(
        &table,
        Bound::Excluded(&encode_number(position)),
        |key, change| {
            events.push(decode_change(&table, key, change)?);
            bytes += change.len();
            Ok(events.len() < CHUNK_CHANGES && bytes < CHUNK_BYTES)
        },
    )?;
    Ok(Next::Changes(events))
}

/// The last revision given out.
pub(crate) fn revision(snapshot: &Snapshot) -> Result<u64, Failure> {
    let bytes = snapshot.get(META, META_REVISION)?;
    bytes.map_or(Ok(0), |bytes| decode_number(META, META_REVISION, &bytes))
}

fn forget(
    draft: &mut Draft<'_>,
    kind: Kind,
    extent: &mut Extent,
    keep: u64,
    keep_bytes: u64,
    most: u64,
) -> Result<u64, Failure> {
    let table = history(kind);
    let mut forgotten = 0;
    while forgotten < most && (draft.len(&table)? > keep || extent.bytes > keep_bytes) {
        let Some((key, length)) = draft.remove_first(&table)? else {
            break;
        };
        extent.forgotten = decode_number(&table, &key, &key)?;
        extent.bytes = extent.bytes.saturating_sub(length as u64);
        forgotten += 1;
    }
    Ok(forgotten)
}

fn extent(draft: &mut Draft<'_>, kind: Kind) -> Result<Extent, Failure> {
    match draft.get(META, history(kind).as_bytes())? {
        Some(bytes) => decode_extent(kind, &bytes),
        None => Ok(Extent {
            forgotten: 0,
            bytes: 0,
        }),
    }
}

fn keep_extent(draft: &mut Draft<'_>, kind: Kind, extent: &Extent) -> Result<(), Failure> {
    let value = [encode_number(extent.forgotten), encode_number(extent.bytes)].concat();
    draft.put(META, history(kind).as_bytes(), &value)
}

fn decode_extent(kind: Kind, bytes: &[u8]) -> Result<Extent, Failure> {
    let key = history(kind);
    let (forgotten, length) = bytes.split_at(bytes.len().min(8));
    Ok(Extent {
        forgotten: decode_number(META, key.as_bytes(), forgotten)?,
        bytes: decode_number(META, key.as_bytes(), length)?,
    })
}
