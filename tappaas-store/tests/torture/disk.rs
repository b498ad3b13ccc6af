use std::{
    collections::BTreeSet,
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard},
    time::Duration,
};

use redb::StorageBackend;

use crate::random::Random;

/// The unit a disk writes whole, mostly.
const SECTOR: usize = 512;

/// What goes wrong with a disk, once, at a certain operation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fault {
    /// The power goes: of what was not synced any part may be there, any may not.
    Cut,
    /// A sync fails, and what it was to write is forgotten although it can still be read, as page caches do it.
    Sync,
    /// A write fails.
    Write,
    /// A write fails half way.
    Short,
    /// There is no room for some operations.
    Full,
    /// A read fails.
    Read,
}

/// A disk with a page cache before it. Clones are the same disk.
#[derive(Clone, Debug)]
pub(crate) struct Disk(Arc<(Mutex<Platter>, Condvar)>);

#[derive(Debug)]
struct Platter {
    /// What is there after a power cut.
    durable: Vec<u8>,
    /// What reads see.
    cached: Vec<u8>,
    /// What was done since the last sync, in order.
    pending: Vec<Change>,
    random: Random,
    plan: Option<(Fault, u64)>,
    /// Operations that still fail for want of room.
    full: u64,
    dead: bool,
    /// Syncs wait while it is closed.
    gate_closed: bool,
    at_gate: bool,
}

#[derive(Clone, Debug)]
enum Change {
    Write(usize, Vec<u8>),
    Resize(usize),
}

impl Disk {
    pub(crate) fn new(random: Random) -> Self {
        let platter = Platter {
            durable: Vec::new(),
            cached: Vec::new(),
            pending: Vec::new(),
            random,
            plan: None,
            full: 0,
            dead: false,
            gate_closed: false,
            at_gate: false,
        };
        Self(Arc::new((Mutex::new(platter), Condvar::new())))
    }

    /// Turns the power on. The fault happens at the operation of that number from now on.
    pub(crate) fn power_on(&self, plan: Option<(Fault, u64)>) {
        let mut platter = self.platter();
        platter.cached = platter.durable.clone();
        platter.pending.clear();
        platter.plan = plan;
        platter.full = 0;
        platter.dead = false;
        platter.gate_closed = false;
    }

    /// Turns the power off.
    pub(crate) fn power_off(&self) {
        self.platter().cut();
        self.0.1.notify_all();
    }

    pub(crate) fn dead(&self) -> bool {
        self.platter().dead
    }

    /// Opens the disk, whatever is in its cache.
    pub(crate) fn open(&self) -> io::Result<Self> {
        self.platter().alive()?;
        Ok(self.clone())
    }

    /// Makes syncs wait until [`Disk::open_gate`].
    pub(crate) fn close_gate(&self) {
        let mut platter = self.platter();
        platter.gate_closed = true;
        platter.at_gate = false;
    }

    /// Waits a little for a sync to come to the gate. Says whether one has come.
    pub(crate) fn sync_waits(&self) -> bool {
        let platter = self.platter();
        let waited = self
            .0
            .1
            .wait_timeout_while(platter, Duration::from_millis(2), |p| !p.at_gate && !p.dead);
        waited.unwrap().0.at_gate
    }

    pub(crate) fn open_gate(&self) {
        self.platter().gate_closed = false;
        self.0.1.notify_all();
    }

    /// Changes bits of what is durable, where there is anything. Says how many.
    pub(crate) fn flip_bits(&self, count: u64) -> u64 {
        let mut platter = self.platter();
        let used: Vec<_> = (0..platter.durable.len())
            .filter(|&at| platter.durable[at] != 0)
            .collect();
        if used.is_empty() {
            return 0;
        }
        for _ in 0..count {
            let at = used[platter.random.index(used.len())];
            let bit = platter.random.below(8);
            platter.durable[at] ^= 1 << bit;
        }
        count
    }

    fn platter(&self) -> MutexGuard<'_, Platter> {
        self.0.0.lock().unwrap()
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        let platter = self.platter();
        platter.alive()?;
        Ok(platter.cached.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut platter = self.platter();
        platter.alive()?;
        if platter.is_due(&[Fault::Read]).is_some() {
            return Err(broken());
        }
        let start = usize::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
        let bytes = platter.cached.get(start..start + out.len());
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let length = usize::try_from(length).map_err(|_| io::ErrorKind::InvalidInput)?;
        self.platter().change(Change::Resize(length))
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let offset = usize::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
        self.platter().change(Change::Write(offset, data.to_vec()))
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut platter = self.platter();
        if platter.gate_closed && !platter.dead {
            platter.at_gate = true;
            self.0.1.notify_all();
            platter = self
                .0
                .1
                .wait_while(platter, |p| p.gate_closed && !p.dead)
                .unwrap();
        }
        platter.sync()
    }
}

impl Platter {
    fn alive(&self) -> io::Result<()> {
        if self.dead { Err(broken()) } else { Ok(()) }
    }

    /// Counts an operation that any of these faults could hit. Says whether one does.
    fn is_due(&mut self, possible: &[Fault]) -> Option<Fault> {
        let (fault, left) = self.plan.as_mut()?;
        if !possible.contains(fault) {
            return None;
        }
        if let Some(less) = left.checked_sub(1) {
            *left = less;
            return None;
        }
        self.plan.take().map(|(fault, _)| fault)
    }

    fn change(&mut self, change: Change) -> io::Result<()> {
        self.alive()?;
        let possible = match change {
            Change::Write(..) => &[Fault::Cut, Fault::Write, Fault::Short, Fault::Full][..],
            Change::Resize(_) => &[Fault::Cut, Fault::Full],
        };
        match (self.is_due(possible), change) {
            (Some(Fault::Cut), change) => {
                self.pending.push(change);
                self.cut();
                return Err(broken());
            }
            (Some(Fault::Write), _) => return Err(broken()),
            (Some(Fault::Short), Change::Write(offset, mut data)) => {
                data.truncate(self.random.index(data.len().max(1)));
                self.apply(Change::Write(offset, data));
                return Err(no_room());
            }
            (Some(Fault::Full), _) => self.full = 1 + self.random.below(6),
            (_, change) if self.full == 0 => {
                self.apply(change);
                return Ok(());
            }
            _ => {}
        }
        self.full -= 1;
        Err(no_room())
    }

    fn apply(&mut self, change: Change) {
        change.apply(&mut self.cached);
        self.pending.push(change);
    }

    fn sync(&mut self) -> io::Result<()> {
        self.alive()?;
        match self.is_due(&[Fault::Cut, Fault::Sync]) {
            Some(Fault::Cut) => {
                self.cut();
                Err(broken())
            }
            Some(_) => {
                self.keep_some();
                Err(broken())
            }
            None => {
                for change in std::mem::take(&mut self.pending) {
                    change.apply(&mut self.durable);
                }
                Ok(())
            }
        }
    }

    fn cut(&mut self) {
        if !self.dead {
            self.keep_some();
        }
        self.dead = true;
    }

    /// Makes some of what is pending durable: each sector as it was after some of the changes to it.
    fn keep_some(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        let before = self.durable.clone();
        let lengths = pending.iter().filter_map(|change| match change {
            Change::Resize(length) => Some(*length),
            Change::Write(..) => None,
        });
        let lengths: Vec<_> = std::iter::once(before.len()).chain(lengths).collect();
        let length = lengths[self.random.index(lengths.len())];
        let longest = lengths.iter().copied().max().unwrap_or_default();
        let mut after = before;
        after.resize(longest, 0);
        let all_or_nothing = self.random.below(4);
        for sector in touched(&pending, longest) {
            let place = sector * SECTOR..((sector + 1) * SECTOR).min(longest);
            let changes: Vec<_> = pending
                .iter()
                .filter(|change| change.touches(sector))
                .collect();
            let kept = match all_or_nothing {
                0 => 0,
                1 => changes.len(),
                _ => self.random.index(changes.len() + 1),
            };
            let mut image = after[place.clone()].to_vec();
            for change in &changes[..kept] {
                change.apply_to(&mut image, place.start);
            }
            if kept < changes.len() && all_or_nothing > 1 && self.random.one_in(8) {
                let mut next = image.clone();
                changes[kept].apply_to(&mut next, place.start);
                let torn = self.random.index(image.len());
                image[..torn].copy_from_slice(&next[..torn]);
            }
            after[place].copy_from_slice(&image);
        }
        after.resize(length, 0);
        self.durable = after;
    }
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Resize(length) => bytes.resize(*length, 0),
            Self::Write(offset, data) => {
                let end = offset + data.len();
                bytes.resize(bytes.len().max(end), 0);
                bytes[*offset..end].copy_from_slice(data);
            }
        }
    }

    /// Applies what concerns the bytes from `start` on.
    fn apply_to(&self, bytes: &mut [u8], start: usize) {
        match self {
            Self::Resize(length) => {
                let kept = length.saturating_sub(start).min(bytes.len());
                bytes[kept..].fill(0);
            }
            Self::Write(offset, data) => {
                let from = start.max(*offset);
                let to = (start + bytes.len()).min(offset + data.len());
                if from < to {
                    bytes[from - start..to - start]
                        .copy_from_slice(&data[from - offset..to - offset]);
                }
            }
        }
    }

    fn touches(&self, sector: usize) -> bool {
        match self {
            Self::Resize(length) => (sector + 1) * SECTOR > *length,
            Self::Write(offset, data) => {
                offset / SECTOR <= sector && sector * SECTOR < offset + data.len()
            }
        }
    }
}

fn touched(changes: &[Change], length: usize) -> BTreeSet<usize> {
    let mut sectors = BTreeSet::new();
    for change in changes {
        match change {
            Change::Resize(shorter) => sectors.extend(shorter / SECTOR..length.div_ceil(SECTOR)),
            Change::Write(offset, data) => {
                sectors.extend(offset / SECTOR..(offset + data.len()).div_ceil(SECTOR));
            }
        }
    }
    sectors.retain(|sector| sector * SECTOR < length);
    sectors
}

fn broken() -> io::Error {
    io::Error::other("input/output error")
}

fn no_room() -> io::Error {
    io::Error::from(io::ErrorKind::StorageFull)
}
