/// What was measured of one thing, ours and the peers', and what it should be.
#[derive(Debug)]
pub(super) struct Figure {
    pub(super) what: String,
    pub(super) unit: &'static str,
    /// One sample a round.
    pub(super) ours: Vec<f64>,
    /// The same of the peers, by name. Goals that are ratios are about the first one.
    pub(super) peers: Vec<(&'static str, Vec<f64>)>,
    pub(super) goal: Option<Goal>,
}

/// What a figure should be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Goal {
    Min(f64),
    Max(f64),
    /// So many times the first peer's.
    MinRatio(f64),
    MaxRatio(f64),
}

impl Figure {
    pub(super) fn new(what: impl Into<String>, unit: &'static str, ours: Vec<f64>) -> Self {
        Self {
            what: what.into(),
            unit,
            ours,
            peers: Vec::new(),
            goal: None,
        }
    }

    pub(super) fn beside(mut self, name: &'static str, samples: Vec<f64>) -> Self {
        self.peers.push((name, samples));
        self
    }

    pub(super) fn goal(mut self, goal: Goal) -> Self {
        self.goal = Some(goal);
        self
    }

    /// Ours divided by a peer's: the median over the rounds, so that both sides of each quotient are of the same moment.
    pub(super) fn ratio(&self, peer: usize) -> Option<f64> {
        let (_, theirs) = self.peers.get(peer)?;
        let quotients: Vec<_> = self
            .ours
            .iter()
            .zip(theirs)
            .map(|(ours, theirs)| ours / theirs)
            .collect();
        median(&quotients)
    }

    /// Whether the goal is met; `None` without a goal.
    pub(super) fn met(&self) -> Option<bool> {
        let value = match self.goal? {
            Goal::Min(_) | Goal::Max(_) => median(&self.ours)?,
            Goal::MinRatio(_) | Goal::MaxRatio(_) => self.ratio(0)?,
        };
        Some(match self.goal? {
            Goal::Min(goal) | Goal::MinRatio(goal) => value >= goal,
            Goal::Max(goal) | Goal::MaxRatio(goal) => value <= goal,
        })
    }
}

/// The middle one, or the mean of the two in the middle.
pub(super) fn median(samples: &[f64]) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

/// The sample that `part` of all are not above.
pub(super) fn quantile(samples: &[f64], part: f64) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (sorted.len() as f64 * part).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied()
}

/// The least and the most.
pub(super) fn spread(samples: &[f64]) -> Option<(f64, f64)> {
    let least = samples.iter().copied().min_by(f64::total_cmp)?;
    let most = samples.iter().copied().max_by(f64::total_cmp)?;
    Some((least, most))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn a_quantile_is_one_of_the_samples() {
        let samples: Vec<_> = (1..=100).map(f64::from).collect();
        assert_eq!(quantile(&samples, 0.99), Some(99.0));
        assert_eq!(quantile(&[7.0], 0.99), Some(7.0));
        assert_eq!(quantile(&[], 0.5), None);
    }

    #[test]
    fn a_ratio_compares_what_ran_side_by_side() {
        let figure =
            Figure::new("x", "/s", vec![10.0, 100.0, 20.0]).beside("peer", vec![5.0, 50.0, 10.0]);
        assert_eq!(figure.ratio(0), Some(2.0));
        assert_eq!(figure.ratio(1), None);
    }

    #[test]
    fn a_goal_is_held_against_the_median_or_the_ratio() {
        let figure = |goal| {
            Figure::new("x", "ms", vec![4.0])
                .beside("peer", vec![5.0])
                .goal(goal)
                .met()
        };
        assert_eq!(figure(Goal::Max(4.0)), Some(true));
        assert_eq!(figure(Goal::Min(4.5)), Some(false));
        assert_eq!(figure(Goal::MaxRatio(0.7)), Some(false));
        assert_eq!(figure(Goal::MinRatio(0.7)), Some(true));
        assert_eq!(Figure::new("x", "ms", vec![4.0]).met(), None);
    }
}
