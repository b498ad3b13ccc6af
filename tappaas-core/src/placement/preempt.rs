use super::{Instance, place::Seat, site::Site};

/// Up to so many victims the fewest are searched for; of more, just none that could be spared.
const FEWEST_MAX: usize = 3;

/// Who must be gone from a node so that an instance can come; as few as possible. `None`: it would not help.
///
/// Only occupants of strictly lower priority are evicted. Those that are leaving anyway are waited for.
pub(super) fn victims<'a>(
    site: &Site<'a>,
    instance: &Instance,
    founder: bool,
) -> Option<Vec<Seat<'a>>> {
    site.check_node(instance).ok()?;
    let (leaving, staying): (Vec<_>, Vec<_>) = site.seats().partition(|seat| seat.leaving);
    let priority = instance.constraints.priority;
    let mut lower: Vec<_> = staying
        .into_iter()
        .filter(|seat| seat.instance.constraints.priority < priority)
        .collect();
    lower.sort_by_key(|seat| (seat.instance.constraints.priority, &seat.instance.id));
    let helps = |victims: &[Seat<'a>]| helps(site, instance, founder, victims);
    let few = (0..=FEWEST_MAX.min(lower.len())).find_map(|count| {
        let mut victims = leaving.clone();
        choose(&lower, count, &mut victims, &helps).then_some(victims)
    });
    let mut victims = match few {
        Some(victims) => victims,
        None => {
            let all: Vec<_> = leaving.iter().chain(&lower).copied().collect();
            helps(&all).then_some(all)?
        }
    };
    // Whoever can stay stays: first those of the highest priority, and nobody is waited for in vain.
    for seat in lower.iter().rev().chain(&leaving) {
        let others = victims
            .iter()
            .filter(|victim| victim.instance.id != seat.instance.id);
        let others: Vec<_> = others.copied().collect();
        if others.len() < victims.len() && helps(&others) {
            victims = others;
        }
    }
    Some(victims)
}

/// Adds `count` of the candidates to the chosen, so that it helps. The first such choice wins.
fn choose<'a>(
    candidates: &[Seat<'a>],
    count: usize,
    chosen: &mut Vec<Seat<'a>>,
    helps: &dyn Fn(&[Seat<'a>]) -> bool,
) -> bool {
    if count == 0 {
        return helps(chosen);
    }
    for (index, candidate) in candidates.iter().enumerate() {
        chosen.push(*candidate);
        if choose(&candidates[index + 1..], count - 1, chosen, helps) {
            return true;
        }
        chosen.pop();
    }
    false
}

/// Says whether an instance can come once these are gone, without taking from anybody who stays what it has affinity to.
fn helps(site: &Site<'_>, instance: &Instance, founder: bool, victims: &[Seat<'_>]) -> bool {
    let mut after = site.clone();
    for victim in victims {
        after.remove(&victim.instance.id);
    }
    let deprived = |seat: Seat<'_>| {
        !seat.leaving && site.is_content(seat.instance) && !after.is_content(seat.instance)
    };
    after.check(instance, founder).is_ok() && !after.seats().any(deprived)
}
