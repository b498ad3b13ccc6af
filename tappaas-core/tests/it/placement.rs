//! Placement, held against an oracle that tries everything.

mod oracle;
mod world;

use proptest::prelude::*;
use tappaas_core::{
    backend::InstanceId,
    placement::{Effect, Instance, Occupant, Plan, Spread, Taint, place},
};

use oracle::Oracle;
use world::{World, instance, node};

/// The plan, held against everything that must be true of any plan.
fn checked(world: &World) -> Result<Plan, TestCaseError> {
    let plan = place(&world.nodes, &world.running, &world.pending);
    let before = Oracle::new(&world.nodes, &world.running);
    let after = before.after(&plan, &world.pending);
    for pending in &world.pending {
        let placed = plan.assignments.contains_key(&pending.id);
        let unplaced = plan.unplaced.get(&pending.id);
        prop_assert!(
            placed != unplaced.is_some(),
            "{} is both or neither",
            pending.id
        );
        prop_assert!(unplaced.is_none_or(|reasons| !reasons.is_empty()));
    }
    for (id, node) in &plan.assignments {
        let pending = world
            .pending
            .iter()
            .find(|pending| pending.id == *id)
            .unwrap();
        if let Some(fault) = after.fault_later(pending, node) {
            return Err(TestCaseError::fail(format!(
                "{id} on {node}: {fault}\n{plan:#?}"
            )));
        }
    }
    for (victim, heir) in &plan.evictions {
        let victim = world
            .running
            .iter()
            .find(|running| running.instance.id == *victim)
            .unwrap();
        let heir = world
            .pending
            .iter()
            .find(|pending| pending.id == *heir)
            .unwrap();
        prop_assert!(
            victim.leaving || victim.instance.constraints.priority < heir.constraints.priority
        );
        prop_assert_eq!(Some(&victim.node), plan.assignments.get(&heir.id));
    }
    for pending in world
        .pending
        .iter()
        .filter(|pending| plan.unplaced.contains_key(&pending.id))
    {
        for node in &world.nodes {
            let way = after.fewest_evictions(pending, &node.name);
            prop_assert!(
                way.is_none(),
                "{} fits on {} after all:\n{plan:#?}",
                pending.id,
                node.name
            );
        }
    }
    Ok(plan)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 4 * ProptestConfig::default().cases, // so that PROPTEST_CASES counts
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_plan_breaks_no_rule_and_leaves_nobody_out_in_vain(world in world::any(5, 6)) {
        checked(&world)?;
    }

    #[test]
    fn the_order_of_the_arguments_has_no_influence(
        (world, shuffled) in world::any(5, 6).prop_flat_map(World::and_shuffled)
    ) {
        let plan = place(&world.nodes, &world.running, &world.pending);
        let again = place(&shuffled.nodes, &shuffled.running, &shuffled.pending);
        prop_assert_eq!(plan, again);
    }

    #[test]
    fn one_instance_goes_where_the_least_speaks_against_it(mut world in world::any(5, 6)) {
        world.pending.truncate(1);
        let Some(pending) = world.pending.first().cloned() else {
            return Ok(());
        };
        let plan = checked(&world)?;
        let oracle = Oracle::new(&world.nodes, &world.running);
        let Some(chosen) = plan.assignments.get(&pending.id) else {
            return Ok(());
        };
        let ways = world.nodes.iter().filter_map(|node| {
            Some((oracle.fewest_evictions(&pending, &node.name)?, node.name.clone()))
        });
        let ways: Vec<_> = ways.collect();
        let fewest = ways.iter().map(|(evictions, _)| *evictions).min().unwrap();
        let live = |victim: &InstanceId| world.running.iter().any(|running| running.instance.id == *victim && !running.leaving);
        let evicted = plan.evictions.keys().filter(|victim| live(victim)).count();
        prop_assert_eq!(evicted, fewest.live, "{:#?}", plan);
        prop_assert_eq!(plan.evictions.is_empty(), fewest.all == 0, "{:#?}", plan);
        for spared in plan.evictions.keys() {
            let others: Vec<_> = plan.evictions.keys().filter(|victim| *victim != spared).collect();
            prop_assert!(!oracle.suffices(&pending, chosen, &others), "{spared} could stay: {plan:#?}");
        }
        if fewest.all == 0 {
            let rank = |node: &str| (oracle.avoided(&pending, node), oracle.crowd(&pending, node));
            let free = ways.iter().filter(|(evictions, _)| evictions.all == 0);
            let best = free.map(|(_, node)| rank(node)).min().unwrap();
            prop_assert_eq!(rank(chosen), best);
        }
    }

    #[test]
    fn spread_instances_differ_by_at_most_one_on_equal_nodes(nodes in 1_u32..6, count in 0_u32..12, zones: bool) {
        let names: Vec<_> = (0..nodes).map(|n| format!("n{n}")).collect();
        let nodes: Vec<_> = names.iter().map(|name| {
            let mut node = node(name);
            node.offer.labels.insert("zone".to_owned(), name.clone());
            node
        }).collect();
        let pending: Vec<_> = (0..count).map(|i| {
            let mut instance = instance(&format!("i{i}"), "app");
            instance.constraints.spread = Some(if zones { Spread::Zone } else { Spread::Node });
            instance
        }).collect();
        let plan = place(&nodes, &[], &pending);
        let on = |name: &String| plan.assignments.values().filter(|node| *node == name).count();
        let counts: Vec<_> = names.iter().map(on).collect();
        prop_assert_eq!(counts.iter().sum::<usize>(), count as usize);
        prop_assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1);
    }
}

#[test]
fn reasons_are_told_by_groups_of_nodes() {
    let mut nodes = ["a", "b", "c"].map(node).to_vec();
    nodes[0].offer.capacity.memory = 100 << 20;
    nodes[1].offer.capacity.memory = 50 << 20;
    nodes[2].offer.taints.push(Taint {
        key: "gpu".to_owned(),
        value: "yes".to_owned(),
        effect: Effect::NoSchedule,
    });
    let mut large = instance("large", "app");
    large.constraints.requests.memory = Some(512 << 20);
    let plan = place(&nodes, &[], std::slice::from_ref(&large));
    assert_eq!(
        plan.unplaced[&large.id],
        [
            "2 of 3 nodes: too little memory (needs 512 MiB, 100 MiB free)",
            "1 of 3 nodes: taint gpu=yes is not tolerated",
        ]
    );
    let plan = place(&[], &[], std::slice::from_ref(&large));
    assert_eq!(plan.unplaced[&large.id], ["there is no node"]);
}

#[test]
fn zones_are_kept_even_where_their_sizes_differ() {
    let mut nodes = ["a", "b", "c"].map(node);
    for (node, zone) in nodes.iter_mut().zip(["one", "one", "two"]) {
        node.offer.labels.insert("zone".to_owned(), zone.to_owned());
    }
    let pending = ["1", "2", "3", "4"].map(|id| {
        let mut instance = instance(id, "app");
        instance.constraints.spread = Some(Spread::Zone);
        instance
    });
    let plan = place(&nodes, &[], &pending);
    let on_c = plan.assignments.values().filter(|node| *node == "c");
    assert_eq!(on_c.count(), 2, "{plan:?}");
}

#[test]
fn what_is_placed_first_may_be_what_another_needs() {
    let mut follower = instance("a-follower", "follower");
    follower.constraints.affinity.push("leader".to_owned());
    follower.constraints.priority = 5;
    let leader = instance("leader", "leader");
    let plan = place(
        &["a", "b"].map(node),
        &[],
        &[follower.clone(), leader.clone()],
    );
    assert_eq!(plan.assignments[&follower.id], plan.assignments[&leader.id]);
}

#[test]
fn the_first_of_its_application_meets_its_own_affinity() {
    let pending = ["1", "2"].map(|id| {
        let mut instance = instance(id, "app");
        instance.constraints.affinity.push("app".to_owned());
        instance
    });
    let plan = place(&["a", "b"].map(node), &[], &pending);
    assert_eq!(
        plan.assignments[&pending[0].id],
        plan.assignments[&pending[1].id]
    );
}

#[test]
fn nobody_is_evicted_where_it_does_not_help() {
    let mut small = node("a");
    small.offer.capacity.memory = 10;
    let low = |id: &str| Occupant {
        instance: instance(id, "low"),
        node: "a".to_owned(),
        leaving: false,
    };
    let mut high: Instance = instance("high", "high");
    high.constraints.priority = 1;
    high.constraints.requests.memory = Some(11);
    let plan = place(&[small], &[low("1"), low("2")], std::slice::from_ref(&high));
    assert!(plan.evictions.is_empty(), "{plan:?}");
    assert!(plan.unplaced.contains_key(&high.id), "{plan:?}");
}

#[test]
fn who_is_leaving_is_waited_for_before_anybody_is_evicted() {
    let mut one = node("a");
    one.offer.capacity.instances = 2;
    let occupant = |id: &str, leaving| Occupant {
        instance: instance(id, "low"),
        node: "a".to_owned(),
        leaving,
    };
    let mut high = instance("high", "high");
    high.constraints.priority = 1;
    let running = [occupant("leaving", true), occupant("staying", false)];
    let plan = place(&[one], &running, std::slice::from_ref(&high));
    let evicted: Vec<_> = plan.evictions.keys().map(|id| id.0.as_str()).collect();
    assert_eq!(evicted, ["leaving"], "{plan:?}");
}

#[test]
fn nobody_follows_who_is_leaving() {
    let mut one = node("a");
    one.offer.capacity.instances = 2;
    let running = Occupant {
        instance: instance("leader", "leader"),
        node: "a".to_owned(),
        leaving: true,
    };
    let mut follower = instance("follower", "follower");
    follower.constraints.affinity.push("leader".to_owned());
    let plan = place(&[one], &[running], std::slice::from_ref(&follower));
    assert!(plan.unplaced.contains_key(&follower.id), "{plan:?}");
}
