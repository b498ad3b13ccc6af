use std::sync::{Arc, atomic::Ordering::Relaxed};

use super::{Forward, RouteStats, Seat, Ticket, router::Target};

/// Seats looked at before the least busy of them is taken.
const SAMPLE_MAX: usize = 16;
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// Who answers a request.
#[derive(Debug)]
pub(crate) enum Pick {
    /// This one.
    Seat(Ticket),
    /// The table is no longer the newest: look the route up again.
    Stale,
    /// The route has no endpoint.
    Empty,
    /// Every endpoint was tried.
    Exhausted,
}

/// Chooses a target by weight, then the least busy of its endpoints that is not ejected and not in `tried`.
///
/// `chosen` keeps the target between the tries of one request. If all endpoints are ejected one of them is tried all the same: its
/// refusal is the answer then.
pub(crate) fn pick(
    forward: &Forward,
    stats: &RouteStats,
    chosen: &mut Option<usize>,
    tried: &[Arc<Seat>],
    now_ms: u64,
) -> Pick {
    let target = match *chosen {
        Some(index) if index < forward.targets.len() => index,
        _ => match draw(&forward.targets, stats) {
            Some(index) => *chosen.insert(index),
            None => return Pick::Empty,
        },
    };
    let seats = &forward.targets[target].seats;
    let turn = if seats.len() > 1 {
        stats.draws.fetch_add(1, Relaxed)
    } else {
        0
    };
    let Some(seat) = least_busy(seats, turn, tried, now_ms) else {
        return if seats.is_empty() {
            Pick::Empty
        } else {
            Pick::Exhausted
        };
    };
    seat.upstream().health.probe(now_ms);
    seat.take().map_or(Pick::Stale, Pick::Seat)
}

/// Draws by a low-discrepancy sequence, so that even few requests meet the weights closely. Targets without endpoints take no part.
fn draw(targets: &[Target], stats: &RouteStats) -> Option<usize> {
    let weight = |target: &Target| {
        if target.seats.is_empty() {
            0
        } else {
            target.weight
        }
    };
    let total: u64 = targets.iter().map(weight).sum();
    if total == 0 {
        return None;
    }
    let first = targets.iter().position(|target| weight(target) > 0)?;
    if weight(&targets[first]) == total {
        return Some(first);
    }
    let unit = stats.draws.fetch_add(1, Relaxed).wrapping_mul(GOLDEN);
    let mut point = u64::try_from((u128::from(unit) * u128::from(total)) >> 64).ok()?;
    targets.iter().position(|target| {
        let weight = weight(target);
        let hit = point < weight;
        point = point.saturating_sub(weight);
        hit
    })
}

fn least_busy<'a>(
    seats: &'a [Arc<Seat>],
    turn: u64,
    tried: &[Arc<Seat>],
    now_ms: u64,
) -> Option<&'a Arc<Seat>> {
    let start = usize::try_from(turn % u64::try_from(seats.len()).ok()?.max(1)).ok()?;
    let in_turn = || seats[start..].iter().chain(&seats[..start]);
    let untried = || in_turn().filter(|seat| !tried.iter().any(|tried| Arc::ptr_eq(tried, seat)));
    let healthy = |seat: &&Arc<Seat>| !seat.upstream().health.ejected(now_ms);
    // With one seat there is nothing to compare: spare its counters.
    if let [seat] = seats {
        return tried.is_empty().then_some(seat);
    }
    let best = untried()
        .filter(healthy)
        .take(SAMPLE_MAX)
        .min_by_key(|seat| seat.in_flight());
    best.or_else(|| untried().next())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::Upstream;

    fn seats(count: u16) -> Vec<Arc<Seat>> {
        let address =
            |port| tappaas_core::backend::Endpoint::Address(([127, 0, 0, 1], port).into());
        (0..count)
            .map(|port| Seat::new(Arc::new(Upstream::new(address(port)))))
            .collect()
    }

    fn forward(targets: Vec<(u64, u16)>) -> Forward {
        let target = |(weight, count)| Target {
            weight,
            seats: seats(count),
        };
        Forward {
            targets: targets.into_iter().map(target).collect(),
            strip: 0,
            hold: std::time::Duration::ZERO,
        }
    }

    fn hits(forward: &Forward, requests: usize) -> Vec<usize> {
        let stats = RouteStats::default();
        let mut hits = vec![0; forward.targets.len()];
        for _ in 0..requests {
            let mut chosen = None;
            assert!(matches!(
                pick(forward, &stats, &mut chosen, &[], 0),
                Pick::Seat(_)
            ));
            hits[chosen.unwrap()] += 1;
        }
        hits
    }

    #[test]
    fn weights_are_met_closely_by_few_requests() {
        let hits = hits(&forward(vec![(90, 1), (10, 1), (0, 1)]), 100);
        assert!((89..=91).contains(&hits[0]), "{hits:?}");
        assert!((9..=11).contains(&hits[1]), "{hits:?}");
        assert_eq!(hits[2], 0);
    }

    #[test]
    fn a_target_without_endpoints_leaves_its_share_to_the_others() {
        assert_eq!(hits(&forward(vec![(50, 0), (50, 1)]), 10), [0, 10]);
        let none = forward(vec![(50, 0), (0, 1)]);
        assert!(matches!(
            pick(&none, &RouteStats::default(), &mut None, &[], 0),
            Pick::Empty
        ));
    }

    #[test]
    fn the_least_busy_endpoint_is_taken() {
        let forward = forward(vec![(1, 4)]);
        let stats = RouteStats::default();
        let mut held = Vec::new();
        for round in 1..=3 {
            for _ in 0..4 {
                let Pick::Seat(ticket) = pick(&forward, &stats, &mut None, &[], 0) else {
                    panic!()
                };
                held.push(ticket);
            }
            assert!(
                forward.targets[0]
                    .seats
                    .iter()
                    .all(|seat| seat.in_flight() == round)
            );
        }
    }

    #[test]
    fn an_ejected_endpoint_is_passed_over_while_another_is_there() {
        let forward = forward(vec![(1, 2)]);
        let stats = RouteStats::default();
        let [bad, good] = &forward.targets[0].seats[..] else {
            panic!()
        };
        bad.upstream().health.refused(0);
        for _ in 0..10 {
            let Pick::Seat(ticket) = pick(&forward, &stats, &mut None, &[], 1) else {
                panic!()
            };
            assert!(Arc::ptr_eq(ticket.seat(), good));
        }
        let tried = [Arc::clone(good)];
        let Pick::Seat(ticket) = pick(&forward, &stats, &mut Some(0), &tried, 1) else {
            panic!()
        };
        assert!(Arc::ptr_eq(ticket.seat(), bad));
        let tried = [Arc::clone(good), Arc::clone(bad)];
        assert!(matches!(
            pick(&forward, &stats, &mut Some(0), &tried, 1),
            Pick::Exhausted
        ));
    }
}
