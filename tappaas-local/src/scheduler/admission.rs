//! Whether this machine takes another instance. Pure.

use std::collections::BTreeSet;

use tappaas_core::{
    backend::Node,
    model::{ApplicationKey, Resources},
    placement::{Constraints, Effect},
};

/// What instances have taken of the machine.
#[derive(Debug, Default)]
pub(super) struct Taken<'a> {
    pub(super) cpu_millis: u64,
    pub(super) memory: u64,
    pub(super) instances: u32,
    pub(super) applications: BTreeSet<&'a ApplicationKey>,
}

impl<'a> Taken<'a> {
    pub(super) fn add(&mut self, application: &'a ApplicationKey, requests: &Resources) {
        self.cpu_millis += u64::from(requests.cpu_millis.unwrap_or(0));
        self.memory += requests.memory.unwrap_or(0);
        self.instances += 1;
        self.applications.insert(application);
    }
}

/// Says why a node does not take another instance; nothing: it does. What an instance does not request is not counted.
pub(super) fn refusals(
    node: &Node,
    taken: &Taken<'_>,
    application: &ApplicationKey,
    wanted: &Constraints,
) -> Vec<String> {
    let offer = &node.offer;
    let mut reasons = Vec::new();
    let mut short = |what: &str, wanted: u64, left: u64, unit: &str| {
        if wanted > left {
            reasons.push(format!(
                "node {} has {left} {unit} of {what} left, {wanted} are requested",
                node.name
            ));
        }
    };
    let capacity = &offer.capacity;
    let cpu = u64::from(wanted.requests.cpu_millis.unwrap_or(0));
    short(
        "CPU",
        cpu,
        capacity.cpu_millis.saturating_sub(taken.cpu_millis),
        "thousandths of a core",
    );
    let memory = wanted.requests.memory.unwrap_or(0);
    short(
        "memory",
        memory,
        capacity.memory.saturating_sub(taken.memory),
        "bytes",
    );
    if taken.instances >= capacity.instances {
        reasons.push(format!(
            "node {} runs {} instances, which is its limit",
            node.name, taken.instances
        ));
    }
    let missing = wanted
        .node_labels
        .iter()
        .filter(|(key, value)| offer.labels.get(*key) != Some(value));
    reasons.extend(
        missing.map(|(key, value)| format!("node {} has no label {key}={value}", node.name)),
    );
    let repelling = offer.taints.iter().filter(|taint| {
        let tolerated = wanted.tolerations.iter().any(|toleration| {
            toleration.key == taint.key
                && toleration
                    .value
                    .as_ref()
                    .is_none_or(|value| *value == taint.value)
        });
        taint.effect == Effect::NoSchedule && !tolerated
    });
    reasons.extend(repelling.map(|taint| {
        format!(
            "node {} has the taint {}={}",
            node.name, taint.key, taint.value
        )
    }));
    let here = |name: &String| {
        let mut other = taken.applications.iter();
        other
            .find(|other| other.scope() == application.scope() && other.name == name.as_str())
            .copied()
    };
    let avoided = wanted.anti_affinity.iter().filter_map(here);
    reasons.extend(avoided.map(|other| {
        format!(
            "node {} runs {other}, which it must be apart from",
            node.name
        )
    }));
    reasons
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use tappaas_core::placement::{Capacity, Offer};

    use super::*;

    fn node() -> Node {
        Node {
            name: "n".to_owned(),
            offer: Offer {
                capacity: Capacity {
                    cpu_millis: 1000,
                    memory: 100,
                    instances: 2,
                },
                ..Offer::default()
            },
            ready: true,
            notes: Vec::new(),
        }
    }

    fn application(name: &str) -> ApplicationKey {
        format!("t/p/e/{name}").parse().unwrap()
    }

    #[test]
    fn each_shortage_has_a_reason_of_its_own() {
        let (one, other) = (application("one"), application("other"));
        let requests = Resources {
            cpu_millis: Some(600),
            memory: Some(60),
            pids: None,
        };
        let mut wanted = Constraints {
            requests,
            ..Constraints::default()
        };
        let mut taken = Taken::default();
        assert!(refusals(&node(), &taken, &one, &wanted).is_empty());
        taken.add(&one, &requests);
        taken.add(&other, &Resources::default());
        wanted.anti_affinity.push("other".to_owned());
        wanted.node_labels = BTreeMap::from([("disk".to_owned(), "ssd".to_owned())]);
        let reasons = refusals(&node(), &taken, &one, &wanted).join("\n");
        for word in ["of CPU", "of memory", "limit", "disk=ssd", "t/p/e/other"] {
            assert!(reasons.contains(word), "{word}: {reasons}");
        }
    }

    #[test]
    fn what_is_not_requested_is_not_counted() {
        let one = application("one");
        let mut taken = Taken::default();
        taken.add(&one, &Resources::default());
        assert!(refusals(&node(), &taken, &one, &Constraints::default()).is_empty());
    }
}
