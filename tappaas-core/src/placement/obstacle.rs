use std::collections::BTreeMap;

/// Why a node does not take an instance.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Obstacle {
    NotReady,
    Label(String, String),
    Taint(String, String),
    Affinity(String),
    AntiAffinity(String),
    /// An occupant has anti-affinity to the instance's application.
    Repelled,
    Instances,
    Cpu {
        needed: u64,
        free: u64,
    },
    Memory {
        needed: u64,
        free: u64,
    },
}

/// One sentence for each group of nodes with the same obstacle, the largest group first.
pub(super) fn reasons(obstacles: &[Obstacle]) -> Vec<String> {
    if obstacles.is_empty() {
        return vec!["there is no node".to_owned()];
    }
    let mut groups: BTreeMap<String, (usize, u64)> = BTreeMap::new();
    for obstacle in obstacles {
        let (reason, free) = obstacle.reason();
        let (count, most) = groups.entry(reason).or_default();
        *count += 1;
        *most = free.max(*most);
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    groups.sort_by(|(reason, (count, _)), (other, (others, _))| {
        others.cmp(count).then_with(|| reason.cmp(other))
    });
    let total = obstacles.len();
    let sentence = |(reason, (count, most)): (String, (usize, u64))| {
        let nodes = if total == 1 { "node" } else { "nodes" };
        let reason = reason.replace("{free}", &most.to_string());
        format!("{count} of {total} {nodes}: {reason}")
    };
    groups.into_iter().map(sentence).collect()
}

impl Obstacle {
    /// Why, the same for all nodes of a group, and how much of what is too little is free; that stands for `{free}`.
    fn reason(&self) -> (String, u64) {
        let plain = |reason: String| (reason, 0);
        match self {
            Self::NotReady => plain("not ready".to_owned()),
            Self::Label(name, value) => plain(format!("without label {name}={value}")),
            Self::Taint(key, value) => plain(format!("taint {key}={value} is not tolerated")),
            Self::Affinity(name) => {
                plain(format!("without an instance of `{name}`, which is needed"))
            }
            Self::AntiAffinity(name) => plain(format!("an instance of `{name}` is there")),
            Self::Repelled => plain("kept away by an instance there".to_owned()),
            Self::Instances => plain("as many instances as it takes".to_owned()),
            Self::Cpu { needed, free } => (
                format!("too little CPU (needs {needed} thousandths of a core, {{free}} free)"),
                *free,
            ),
            Self::Memory { needed, free } => (
                format!(
                    "too little memory (needs {} MiB, {{free}} MiB free)",
                    needed.div_ceil(1 << 20)
                ),
                free >> 20,
            ),
        }
    }
}
