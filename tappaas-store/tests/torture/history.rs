//! What clients asked of a store and what they were told, held against what happened: is it linearizable?
//!
//! Every change has a revision, and revisions are the order in which changes took effect. Each request then took effect at a revision:
//! a change at its own, anything else at one at which its answer was true. The request is given the earliest one that is not before
//! that of any request answered before it was made (Herlihy and Wing, "Linearizability", 1990: the order keeps real time). If there is
//! none, no order explains the answers.

use std::collections::{BTreeMap, BTreeSet};

use crate::Outcome;

/// A version of a thing: its revision, and the id that was written with it; `None` once it is removed.
pub(crate) type Version = (u64, Option<u64>);

/// What there is of each thing.
pub(crate) type State = BTreeMap<String, (u64, u64)>;

#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Ask {
    Get(String),
    List,
    Put(String, u64, Condition),
    Delete(String, Condition),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Condition {
    Absent,
    Present,
    Revision(u64),
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Answer {
    Nothing,
    Found(u64, u64),
    Listed(u64, State),
    Written(u64),
    Refused,
}

/// Something that was printed, in the order of time.
#[derive(Clone, Debug)]
pub(crate) enum Line {
    Asked(u64, Ask),
    Answered(u64, Answer),
    /// What a watcher saw.
    Seen(String, Version),
}

/// What happened since a state, in the order of revisions.
#[derive(Debug)]
pub(crate) struct Truth {
    from: u64,
    /// The versions of each thing, that of the beginning first.
    things: BTreeMap<String, Vec<Version>>,
    changes: Vec<(String, Version)>,
}

impl Truth {
    pub(crate) fn new(from: u64, state: &State, changes: Vec<(String, Version)>) -> Outcome<Self> {
        let mut things: BTreeMap<_, Vec<Version>> = BTreeMap::new();
        for (key, (revision, id)) in state {
            things.insert(key.clone(), vec![(*revision, Some(*id))]);
        }
        for ((key, version), expected) in changes.iter().zip(from + 1..) {
            if version.0 != expected {
                return Err(
                    format!("revision {expected} is missing before {key} {version:?}").into(),
                );
            }
            things
                .entry(key.clone())
                .or_insert_with(|| vec![(0, None)])
                .push(*version);
        }
        Ok(Self {
            from,
            things,
            changes,
        })
    }

    /// The state after all changes.
    pub(crate) fn end(&self) -> State {
        self.at(u64::MAX)
    }

    /// Whether requests, answers and what watchers saw can be explained by what happened.
    ///
    /// # Errors
    /// The first line that cannot.
    pub(crate) fn explains(&self, lines: &[Line]) -> Outcome {
        let (mut asked, mut points) = (BTreeMap::new(), BTreeMap::new());
        let answers: BTreeMap<_, _> = lines.iter().filter_map(Line::answer).collect();
        let mut floor = self.from;
        let mut seen = 0;
        for line in lines {
            match line {
                Line::Asked(number, ask) => {
                    let point = match answers.get(number) {
                        Some(answer) => self.point(ask, answer, floor),
                        None => self.unanswered(ask, floor),
                    };
                    let point = point.map_err(|why| {
                        format!(
                            "after revision {floor}: {ask:?} {:?}: {why}",
                            answers.get(number)
                        )
                    })?;
                    points.insert(*number, point);
                    asked.insert(*number, ask);
                }
                Line::Answered(number, _) => {
                    floor = floor.max(points.get(number).copied().unwrap_or(0));
                }
                Line::Seen(key, version) => {
                    if self.changes.get(seen) != Some(&(key.clone(), *version)) {
                        return Err(format!(
                            "a watcher saw {key} {version:?} where {:?} happened",
                            self.changes.get(seen)
                        )
                        .into());
                    }
                    seen += 1;
                }
            }
        }
        self.all_asked_for(&asked, &answers)
    }

    /// The earliest revision, not before `floor`, at which an answer is true.
    fn point(&self, ask: &Ask, answer: &Answer, floor: u64) -> Result<u64, &'static str> {
        match (ask, answer) {
            (Ask::Get(key), Answer::Nothing) => {
                self.earliest(key, floor, |version| version.1.is_none())
            }
            (Ask::Get(key), Answer::Found(revision, id)) => {
                self.earliest(key, floor, |version| version == (*revision, Some(*id)))
            }
            (Ask::List, Answer::Listed(revision, state)) if *revision >= floor => {
                (self.at(*revision) == *state)
                    .then_some(*revision)
                    .ok_or("it was not so then")
            }
            (Ask::Put(key, id, condition), Answer::Written(revision)) => {
                self.change(key, (*revision, Some(*id)), *condition, floor)
            }
            (Ask::Delete(key, condition), Answer::Written(revision)) => {
                self.change(key, (*revision, None), *condition, floor)
            }
            (Ask::Put(key, _, condition) | Ask::Delete(key, condition), Answer::Refused) => {
                self.earliest(key, floor, |version| !condition.holds(version))
            }
            (Ask::Delete(key, _), Answer::Nothing) => {
                self.earliest(key, floor, |version| version.1.is_none())
            }
            _ => Err("such an answer is none to this"),
        }
    }

    /// What was not answered may have happened or not, but not before it was asked for.
    fn unanswered(&self, ask: &Ask, floor: u64) -> Result<u64, &'static str> {
        let Ask::Put(key, id, condition) = ask else {
            return Ok(floor);
        };
        let versions = self.things.get(key).map_or(&[][..], Vec::as_slice);
        match versions.iter().find(|version| version.1 == Some(*id)) {
            Some(version) => self.change(key, *version, *condition, floor),
            None => Ok(floor),
        }
    }

    fn change(
        &self,
        key: &str,
        change: Version,
        condition: Condition,
        floor: u64,
    ) -> Result<u64, &'static str> {
        let versions = self.things.get(key).ok_or("it did not happen")?;
        let place = versions.iter().position(|version| *version == change);
        let place = place
            .filter(|place| *place > 0)
            .ok_or("it did not happen")?;
        if change.0 <= floor {
            return Err("it happened before it was asked for");
        }
        if !condition.holds(versions[place - 1]) {
            return Err("its condition did not hold");
        }
        Ok(change.0)
    }

    fn earliest(
        &self,
        key: &str,
        floor: u64,
        is: impl Fn(Version) -> bool,
    ) -> Result<u64, &'static str> {
        let Some(versions) = self.things.get(key) else {
            return is((0, None)).then_some(floor).ok_or("it never existed");
        };
        let ends = versions
            .iter()
            .skip(1)
            .map(|next| next.0 - 1)
            .chain([u64::MAX]);
        let mut fitting = versions
            .iter()
            .zip(ends)
            .filter(|(version, end)| *end >= floor && is(**version));
        let (version, _) = fitting.next().ok_or("it was never so since")?;
        Ok(version.0.max(floor))
    }

    fn at(&self, revision: u64) -> State {
        let then = |versions: &[Version]| {
            versions
                .iter()
                .rfind(|version| version.0 <= revision)
                .copied()
        };
        let things = self.things.iter().filter_map(|(key, versions)| {
            let (revision, id) = then(versions)?;
            Some((key.clone(), (revision, id?)))
        });
        things.collect()
    }

    /// Nothing happened that nobody asked for, and nothing twice.
    fn all_asked_for(
        &self,
        asked: &BTreeMap<u64, &Ask>,
        answers: &BTreeMap<u64, &Answer>,
    ) -> Outcome {
        let mut puts = BTreeSet::new();
        let mut removals: BTreeMap<&str, usize> = BTreeMap::new();
        for (number, ask) in asked {
            match (ask, answers.get(number)) {
                (Ask::Put(_, id, _), None | Some(Answer::Written(_))) => _ = puts.insert(*id),
                (Ask::Delete(key, _), None | Some(Answer::Written(_))) => {
                    *removals.entry(key).or_default() += 1;
                }
                _ => {}
            }
        }
        for (key, (revision, id)) in &self.changes {
            let asked_for = match id {
                Some(id) => puts.remove(id),
                None => match removals.get_mut(key.as_str()) {
                    Some(left) if *left > 0 => {
                        *left -= 1;
                        true
                    }
                    _ => false,
                },
            };
            if !asked_for {
                return Err(format!("nobody asked for revision {revision} of {key}").into());
            }
        }
        Ok(())
    }
}

impl Line {
    fn answer(&self) -> Option<(u64, &Answer)> {
        match self {
            Self::Answered(number, answer) => Some((*number, answer)),
            Self::Asked(..) | Self::Seen(..) => None,
        }
    }
}

impl Condition {
    fn holds(self, version: Version) -> bool {
        match self {
            Self::Absent => version.1.is_none(),
            Self::Present => version.1.is_some(),
            Self::Revision(revision) => version.1.is_some() && version.0 == revision,
        }
    }
}

/// Tries the check itself: it must find what no order explains.
pub(crate) fn finds_what_cannot_be() -> Outcome {
    let happened = [
        ("a", (1, Some(10))),
        ("a", (2, Some(20))),
        ("b", (3, Some(30))),
        ("a", (4, None)),
    ];
    let changes = happened.map(|(key, version)| (key.to_owned(), version));
    let truth = Truth::new(0, &State::new(), changes.to_vec())?;
    let asked = [
        "asked 1 put a 10 absent",
        "answered 1 written 1",
        "seen a 1 10",
        "asked 2 put a 20 1",
        "asked 3 get a",
        "answered 3 found 2 20",
        "answered 2 written 2",
        "asked 4 put b 30 absent",
        "asked 5 delete a present",
        "answered 5 written 4",
    ];
    let with = |line: &str, instead: &str| {
        let lines = asked
            .iter()
            .map(|one| if *one == line { instead } else { *one });
        let lines = lines
            .filter(|line| !line.is_empty())
            .map(crate::script::read);
        truth.explains(&lines.collect::<Outcome<Vec<_>>>()?)
    };
    with("", "")?;
    let wrong = [
        ("answered 3 found 2 20", "answered 3 found 3 30"),
        ("answered 3 found 2 20", "answered 3 nothing"),
        ("answered 2 written 2", "answered 2 refused"),
        ("answered 2 written 2", "answered 2 written 3"),
        ("asked 2 put a 20 1", "asked 2 put a 20 absent"),
        ("asked 2 put a 20 1", ""),
        ("asked 4 put b 30 absent", ""),
        ("asked 5 delete a present", "asked 5 get a"),
        ("answered 5 written 4", "answered 5 nothing"),
        ("seen a 1 10", "seen a 2 20"),
    ];
    for (line, instead) in wrong {
        if with(line, instead).is_ok() {
            return Err(format!("`{instead}` instead of `{line}` was not found").into());
        }
    }
    // What was told once cannot be untold: a read that comes later may not see less.
    let stale = [&asked[..], &["asked 6 get a", "answered 6 found 2 20"]].concat();
    let stale = stale.into_iter().map(crate::script::read);
    match truth.explains(&stale.collect::<Outcome<Vec<_>>>()?) {
        Err(_) => Ok(()),
        Ok(()) => Err("a stale read was not found".into()),
    }
}
