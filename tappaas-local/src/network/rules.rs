use std::{io, net::Ipv4Addr};

use super::{
    addresses::{BRIDGE_PREFIX, Range, Subnet},
    filter::{self, Holds, Hook, Rule, Table, interface_key},
};

/// The bridges of all applications.
const BRIDGES: &str = "bridges";
/// Each bridge with itself: what stays within an application. The kernel may show such packets to the filter, see `br_netfilter`.
const WITHIN: &str = "within";
/// The ports of the machine that instances may connect to, each by one bridge.
const DOORS: &str = "doors";

/// What the rules of an installation depend on, other than its subnets.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    /// The name of the table.
    pub(super) table: String,
    pub(super) range: Range,
    /// Networks that instances never reach.
    pub(super) denied: Vec<(Ipv4Addr, u8)>,
}

impl Rules {
    /// Puts the rules for these subnets and the ports open in each in force, in the place of earlier ones.
    ///
    /// With `guard` the machine forwards nothing but what concerns instances, be they of other installations: it was no router
    /// before it ran any.
    pub(super) fn install(&self, subnets: &[(&Subnet, &[u16])], guard: bool) -> io::Result<()> {
        let mut table = Table::new(&self.table);
        let [bridges, within, doors] = [0, 1, 2].map(|set| {
            subnets
                .iter()
                .flat_map(|(subnet, ports)| elements(subnet, ports)[set].1.clone())
                .collect::<Vec<_>>()
        });
        table.set(BRIDGES, Holds::Interfaces, &bridges);
        table.set(WITHIN, Holds::InterfacePairs, &within);
        table.set(DOORS, Holds::Doors, &doors);
        input(&mut table);
        self.forward(&mut table, guard);
        self.source_nat(&mut table);
        table.commit()
    }

    /// Adds one subnet to rules in force.
    pub(super) fn add(&self, subnet: &Subnet, ports: &[u16]) -> io::Result<()> {
        filter::change_elements(&self.table, true, &elements(subnet, ports))
    }

    /// Takes one subnet out of rules in force.
    pub(super) fn subtract(&self, subnet: &Subnet, ports: &[u16]) -> io::Result<()> {
        filter::change_elements(&self.table, false, &elements(subnet, ports))
    }

    pub(super) fn delete(&self) -> io::Result<()> {
        Table::delete(&self.table)
    }

    /// Who may pass through the machine: within an application; answers; instances to the outside. Nobody to an instance.
    fn forward(&self, table: &mut Table, guard: bool) {
        table.chain("forward", Hook::Forward);
        let mut rule = |rule| table.rule("forward", rule);
        rule(Rule::new().between_pair_in(WITHIN).accept());
        rule(Rule::new().established().accept());
        rule(Rule::new().leaves_by_one_of(BRIDGES).reject());
        if guard {
            rule(
                Rule::new()
                    .between_interfaces_other_than(BRIDGE_PREFIX)
                    .drop(),
            );
        }
        rule(Rule::new().came_by_other_than(BRIDGES).accept());
        for (base, prefix) in &self.denied {
            rule(Rule::new().sent_to(*base, *prefix).reject());
        }
        // Instances have no address of version 6; whatever claims to come from one does not leave.
        rule(Rule::new().ipv6().drop());
    }

    fn source_nat(&self, table: &mut Table) {
        table.chain("source", Hook::SourceNat);
        let leaving = Rule::new()
            .sent_from(self.range.base, self.range.prefix)
            .leaves_by_other_than(BRIDGES);
        table.rule("source", leaving.masquerade());
    }
}

/// What instances may ask of the machine itself: answers to what it asked of them, and doors.
fn input(table: &mut Table) {
    table.chain("input", Hook::Input);
    let mut rule = |rule| table.rule("input", rule);
    rule(Rule::new().came_by_other_than(BRIDGES).accept());
    rule(Rule::new().established().accept());
    rule(Rule::new().connects_to_one_of(DOORS).accept());
    rule(Rule::new().reject());
}

/// What a subnet contributes to each set.
fn elements(subnet: &Subnet, ports: &[u16]) -> [(&'static str, Vec<Vec<u8>>); 3] {
    let bridge = interface_key(&subnet.bridge());
    let door = |port: &u16| {
        let mut key = bridge.to_vec();
        key.extend(subnet.gateway().octets());
        key.extend(port.to_be_bytes());
        key.extend([0; 2]);
        key
    };
    [
        (BRIDGES, vec![bridge.to_vec()]),
        (WITHIN, vec![[bridge, bridge].concat()]),
        (DOORS, ports.iter().map(door).collect()),
    ]
}
