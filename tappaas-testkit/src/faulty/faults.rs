use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::future::BoxFuture;
use tappaas_core::{Digest, ErrorKind};

/// What goes wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// The call waits first; an item of a watch comes later.
    Delay(Duration),
    /// An item of a watch comes twice.
    Double,
    /// A watch ends before an item.
    End,
    /// The call is made and succeeds, but its caller gets `Unavailable`.
    LoseReply,
    /// An item of a watch does not come.
    Miss,
    /// The call is not made; its caller gets an error of this kind.
    Refuse(ErrorKind),
    /// The reply is lost and the caller asks again at once: the call is made twice.
    Repeat,
    /// `get` or `list` of a `Store` is answered as it was so many answers ago, or with the oldest one there is.
    Stale(usize),
}

impl Fault {
    fn of_item(self) -> bool {
        match self {
            Self::Delay(_) | Self::Double | Self::End | Self::Miss => true,
            Self::LoseReply | Self::Refuse(_) | Self::Repeat | Self::Stale(_) => false,
        }
    }

    fn of_call(self) -> bool {
        match self {
            Self::Delay(_) | Self::LoseReply | Self::Refuse(_) | Self::Repeat | Self::Stale(_) => {
                true
            }
            Self::Double | Self::End | Self::Miss => false,
        }
    }
}

/// How often what goes wrong, per thousand calls or items. What does not apply to a call does not happen to it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Odds {
    /// [`Fault::Delay`], by up to [`Odds::delay_max`].
    pub delay: u32,
    /// The longest delay.
    pub delay_max: Duration,
    /// [`Fault::Double`].
    pub double: u32,
    /// [`Fault::End`].
    pub end: u32,
    /// [`Fault::LoseReply`].
    pub lose_reply: u32,
    /// [`Fault::Miss`].
    pub miss: u32,
    /// [`Fault::Refuse`] with `Unavailable`.
    pub refuse: u32,
    /// [`Fault::Repeat`].
    pub repeat: u32,
    /// [`Fault::Stale`], by up to [`Odds::stale_max`].
    pub stale: u32,
    /// The most answers ago.
    pub stale_max: usize,
}

/// Which call meets which fault. The same script or seed always means the same faults: they depend on the verb and on how
/// often it was called, not on time or on other verbs.
#[derive(Debug)]
pub struct Faults {
    rule: Rule,
    spared: BTreeSet<String>,
    hook: Option<Hook>,
    turns: Mutex<Turns>,
}

/// A call on its way, as [`Faults::hooked`] is told of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Call {
    /// What is called.
    pub verb: &'static str,
    /// Which call of this verb, from 1.
    pub number: u64,
    /// It was made, or met its fault, and its caller is about to be answered. If not, it is about to be made.
    pub done: bool,
}

struct Hook(Arc<dyn Fn(Call) -> BoxFuture<'static, ()> + Send + Sync>);

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Hook").finish_non_exhaustive()
    }
}

#[derive(Debug)]
enum Rule {
    Script(BTreeMap<(String, u64), Fault>),
    Seed(u64, Odds),
}

#[derive(Debug, Default)]
struct Turns {
    counts: BTreeMap<&'static str, u64>,
    injected: Vec<Injected>,
}

/// A fault that happened.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Injected {
    /// The verb that was called; `watch item` for an item of a watch.
    pub verb: &'static str,
    /// Which call of this verb, from 1.
    pub call: u64,
    /// What went wrong.
    pub fault: Fault,
}

impl Faults {
    /// Nothing goes wrong.
    pub fn none() -> Self {
        Self::script([])
    }

    /// The k-th call of a verb, from 1, meets a fault. Items of watches are calls of `watch item`.
    pub fn script<'a>(script: impl IntoIterator<Item = (&'a str, u64, Fault)>) -> Self {
        let script = script.into_iter();
        Self::new(Rule::Script(
            script
                .map(|(verb, call, fault)| ((verb.to_owned(), call), fault))
                .collect(),
        ))
    }

    /// Calls meet faults as a seed and the odds say.
    pub fn seeded(seed: u64, odds: Odds) -> Self {
        Self::new(Rule::Seed(seed, odds))
    }

    /// Calls of this verb meet no fault.
    #[must_use]
    pub fn sparing(mut self, verb: &str) -> Self {
        self.spared.insert(verb.to_owned());
        self
    }

    /// Every call waits for `hook` twice: before it is made, and before its caller is answered. A hook that never returns is what a
    /// caller sees of its own death. Items of watches are not calls.
    #[must_use]
    pub fn hooked<F>(mut self, hook: impl Fn(Call) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.hook = Some(Hook(Arc::new(move |call| Box::pin(hook(call)))));
        self
    }

    /// How often each verb was called, and how many items of watches came.
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        let turns = self.turns.lock();
        let turns = turns.unwrap_or_else(PoisonError::into_inner);
        turns.counts.clone()
    }

    /// The faults that happened, in order.
    pub fn injected(&self) -> Vec<Injected> {
        let turns = self.turns.lock();
        turns
            .unwrap_or_else(PoisonError::into_inner)
            .injected
            .clone()
    }

    fn new(rule: Rule) -> Self {
        Self {
            rule,
            spared: BTreeSet::new(),
            hook: None,
            turns: Mutex::default(),
        }
    }

    pub(super) fn of_call(&self, verb: &'static str) -> (Call, Option<Fault>) {
        self.turn(verb, |fault| {
            fault.of_call() && !matches!(fault, Fault::Stale(_))
        })
    }

    /// As [`Faults::of_call`], for a verb that can be answered from the past.
    pub(super) fn of_read(&self, verb: &'static str) -> (Call, Option<Fault>) {
        self.turn(verb, Fault::of_call)
    }

    pub(super) fn of_item(&self, verb: &'static str) -> Option<Fault> {
        self.turn(verb, Fault::of_item).1
    }

    pub(super) async fn tell(&self, call: Call) {
        if let Some(Hook(hook)) = &self.hook {
            hook(call).await;
        }
    }

    fn turn(&self, verb: &'static str, applies: impl Fn(Fault) -> bool) -> (Call, Option<Fault>) {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        let count = turns.counts.entry(verb).or_default();
        *count += 1;
        let number = *count;
        let fault = match &self.rule {
            Rule::Script(script) => script.get(&(verb.to_owned(), number)).copied(),
            Rule::Seed(seed, odds) => odds.draw(&format!("{seed} {verb} {number}"), &applies),
        };
        let fault = fault.filter(|fault| applies(*fault) && !self.spared.contains(verb));
        turns.injected.extend(fault.map(|fault| Injected {
            verb,
            call: number,
            fault,
        }));
        let done = false;
        (Call { verb, number, done }, fault)
    }
}

impl Odds {
    fn draw(&self, seed: &str, applies: &impl Fn(Fault) -> bool) -> Option<Fault> {
        // Only to spread the draws evenly and alike on every machine.
        let random = |what: &str, below: u64| {
            let digest = Digest::of(format!("{seed} {what}"));
            u64::from_str_radix(&digest.hex()[..15], 16).unwrap_or(0) % below.max(1)
        };
        let delay_max = u64::try_from(self.delay_max.as_millis()).unwrap_or(u64::MAX);
        let delay = Duration::from_millis(random("delay", delay_max.saturating_add(1)));
        let stale = random("stale", self.stale_max.max(1) as u64) + 1;
        let mut draw = random("which", 1000);
        let odds = [
            (self.delay, Fault::Delay(delay)),
            (self.double, Fault::Double),
            (self.end, Fault::End),
            (self.lose_reply, Fault::LoseReply),
            (self.miss, Fault::Miss),
            (self.refuse, Fault::Refuse(ErrorKind::Unavailable)),
            (self.repeat, Fault::Repeat),
            (
                self.stale,
                Fault::Stale(usize::try_from(stale).unwrap_or(1)),
            ),
        ];
        for (odds, fault) in odds.into_iter().filter(|(_, fault)| applies(*fault)) {
            let odds = u64::from(odds);
            if draw < odds {
                return Some(fault);
            }
            draw -= odds;
        }
        None
    }
}
