//! The packet filter's language, as far as it is needed: tables, chains, sets, and rules of a few expressions (`nf_tables`).

use std::{io, net::Ipv4Addr};

use super::netlink::{APPEND, CREATE, Message, Socket};

/// A table for IPv4 and IPv6, replaced as a whole or not at all.
#[derive(Debug)]
pub(super) struct Table {
    name: String,
    messages: Vec<Message>,
}

/// Where in a packet's way a chain is asked.
#[derive(Clone, Copy, Debug)]
pub(super) enum Hook {
    /// Packets to the machine itself.
    Input,
    /// Packets passing through.
    Forward,
    /// Packets leaving, whose source may be changed.
    SourceNat,
}

/// What a set holds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Holds {
    /// Names of interfaces.
    Interfaces,
    /// An interface and one that its packets leave by.
    InterfacePairs,
    /// An interface, an address and a port.
    Doors,
}

impl Holds {
    /// What `nft list` calls the type, and the bytes of an element.
    fn encoding(self) -> (u32, u32) {
        const IFNAME: u32 = 41;
        const IPV4_ADDR: u32 = 7;
        const INET_SERVICE: u32 = 13;
        match self {
            Self::Interfaces => (IFNAME, 16),
            Self::InterfacePairs => (IFNAME << 6 | IFNAME, 32),
            Self::Doors => ((IFNAME << 6 | IPV4_ADDR) << 6 | INET_SERVICE, 24),
        }
    }
}

impl Table {
    /// An empty table that replaces the one of that name.
    pub(super) fn new(name: &str) -> Self {
        let table = |message, flags| Message::new(message, flags, &HEADER).text(1, name);
        // Deleting one that is not there is an error, hence the first message.
        let messages = vec![
            table(NEW_TABLE, CREATE),
            table(DELETE_TABLE, 0),
            table(NEW_TABLE, CREATE),
        ];
        Self {
            name: name.to_owned(),
            messages,
        }
    }

    /// Adds a chain that accepts what none of its rules decides.
    pub(super) fn chain(&mut self, name: &str, hook: Hook) {
        const ACCEPT_ALL: u32 = 1;
        let (number, priority, kind) = match hook {
            Hook::Input => (1, 0, "filter"),
            Hook::Forward => (2, 0, "filter"),
            Hook::SourceNat => (4, 100, "nat"),
        };
        let message = Message::new(NEW_CHAIN, CREATE, &HEADER)
            .text(1, &self.name)
            .text(3, name)
            .nest(4, |hook| hook.number_be(1, number).number_be(2, priority))
            .number_be(5, ACCEPT_ALL)
            .text(7, kind);
        self.messages.push(message);
    }

    /// Adds a set with its elements.
    pub(super) fn set(&mut self, name: &str, holds: Holds, elements: &[Vec<u8>]) {
        // An attribute holds less than 64 KiB, and a set's elements are one attribute.
        const PER_MESSAGE: usize = 500;
        let (kind, length) = holds.encoding();
        let identity = u32::try_from(self.messages.len()).expect("a table has few messages");
        let message = Message::new(NEW_SET, CREATE, &HEADER)
            .text(1, &self.name)
            .text(2, name)
            .number_be(3, 0)
            .number_be(4, kind)
            .number_be(5, length)
            .number_be(10, identity);
        self.messages.push(match holds {
            Holds::Interfaces => message.attribute(13, &NAMES_IN_HOST_ORDER),
            Holds::InterfacePairs | Holds::Doors => message,
        });
        for part in elements.chunks(PER_MESSAGE) {
            self.messages
                .push(elements_message(NEW_ELEMENTS, &self.name, name, part));
        }
    }

    /// Adds a rule to the end of a chain.
    pub(super) fn rule(&mut self, chain: &str, rule: Rule) {
        let message = Message::new(NEW_RULE, CREATE | APPEND, &HEADER)
            .text(1, &self.name)
            .text(2, chain);
        let message = message.nest(4, |list| {
            rule.0.into_iter().fold(list, |list, (name, data)| {
                list.nest(1, |expression| {
                    expression.text(1, name).nest(2, |nest| nest.raw(&data))
                })
            })
        });
        self.messages.push(message);
    }

    /// Puts the table in force, in the place of an earlier one of its name.
    pub(super) fn commit(self) -> io::Result<()> {
        transaction(self.messages)
    }

    /// Deletes the table of that name. That there is none is no error.
    pub(super) fn delete(name: &str) -> io::Result<()> {
        let table = |message, flags| Message::new(message, flags, &HEADER).text(1, name);
        transaction(vec![table(NEW_TABLE, CREATE), table(DELETE_TABLE, 0)])
    }
}

/// Adds elements to sets of a table that is in force, or takes them out: pairs of a set's name and its elements.
pub(super) fn change_elements(
    table: &str,
    add: bool,
    changes: &[(&str, Vec<Vec<u8>>)],
) -> io::Result<()> {
    let kind = if add { NEW_ELEMENTS } else { DELETE_ELEMENTS };
    let changes = changes.iter().filter(|(_, elements)| !elements.is_empty());
    let messages = changes.map(|(set, elements)| elements_message(kind, table, set, elements));
    transaction(messages.collect())
}

fn elements_message(kind: u16, table: &str, set: &str, elements: &[Vec<u8>]) -> Message {
    let flags = if kind == NEW_ELEMENTS { CREATE } else { 0 };
    let message = Message::new(kind, flags, &HEADER)
        .text(1, table)
        .text(2, set);
    message.nest(3, |list| {
        elements.iter().fold(list, |list, key| {
            list.nest(1, |element| element.nest(1, |data| data.attribute(1, key)))
        })
    })
}

/// Asks the kernel something harmless, to learn whether it has a packet filter that this process may change.
pub(crate) fn probe() -> io::Result<()> {
    const GET_GENERATION: u16 = SUBSYSTEM | 16;
    let mut socket = Socket::open(Some(rustix::net::netlink::NETFILTER))?;
    socket.ask(Message::new(GET_GENERATION, 0, &[0; 4]), |_| ())
}

/// A rule under construction: expressions evaluated from left to right until one does not hold.
#[derive(Debug, Default)]
pub(super) struct Rule(Vec<(&'static str, Vec<u8>)>);

/// Registers of four bytes each. An interface's name takes four of them.
const REGISTER: u32 = 8;

impl Rule {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// The packet came in by none of the interfaces in `set`.
    pub(super) fn came_by_other_than(self, set: &str) -> Self {
        self.meta(META_IIFNAME, REGISTER).lookup(set, true)
    }

    /// The packet leaves by an interface in `set`.
    pub(super) fn leaves_by_one_of(self, set: &str) -> Self {
        self.meta(META_OIFNAME, REGISTER).lookup(set, false)
    }

    /// The packet leaves by none of the interfaces in `set`.
    pub(super) fn leaves_by_other_than(self, set: &str) -> Self {
        self.meta(META_OIFNAME, REGISTER).lookup(set, true)
    }

    /// The names of the interfaces that it comes in and leaves by both do not start so.
    pub(super) fn between_interfaces_other_than(self, start: &str) -> Self {
        self.meta(META_IIFNAME, REGISTER)
            .differs(REGISTER, start.as_bytes())
            .meta(META_OIFNAME, REGISTER)
            .differs(REGISTER, start.as_bytes())
    }

    /// The interfaces that it comes in and leaves by are a pair in `set`.
    pub(super) fn between_pair_in(self, set: &str) -> Self {
        self.meta(META_IIFNAME, REGISTER)
            .meta(META_OIFNAME, REGISTER + 4)
            .lookup(set, false)
    }

    /// It is a TCP packet whose interface, destination address and destination port are in `set`.
    pub(super) fn connects_to_one_of(self, set: &str) -> Self {
        const TCP: u8 = 6;
        self.ipv4()
            .meta(META_L4PROTO, REGISTER)
            .equals(REGISTER, &[TCP])
            .meta(META_IIFNAME, REGISTER)
            .payload(REGISTER + 4, NETWORK_HEADER, 16, 4)
            .payload(REGISTER + 5, TRANSPORT_HEADER, 2, 2)
            .lookup(set, false)
    }

    pub(super) fn ipv4(self) -> Self {
        self.meta(META_NFPROTO, REGISTER).equals(REGISTER, &[2])
    }

    pub(super) fn ipv6(self) -> Self {
        self.meta(META_NFPROTO, REGISTER).equals(REGISTER, &[10])
    }

    pub(super) fn sent_from(self, base: Ipv4Addr, prefix: u8) -> Self {
        self.ipv4()
            .payload(REGISTER, NETWORK_HEADER, 12, 4)
            .within(base, prefix)
    }

    pub(super) fn sent_to(self, base: Ipv4Addr, prefix: u8) -> Self {
        self.ipv4()
            .payload(REGISTER, NETWORK_HEADER, 16, 4)
            .within(base, prefix)
    }

    /// The packet belongs to a connection that was let through, or tells of one.
    pub(super) fn established(self) -> Self {
        const ESTABLISHED_OR_RELATED: u32 = 2 | 4;
        let mask = ESTABLISHED_OR_RELATED.to_ne_bytes();
        self.push("ct", |data| data.number_be(1, REGISTER).number_be(2, 0))
            .masked(&mask)
            .differs(REGISTER, &[0; 4])
    }

    pub(super) fn accept(self) -> Self {
        const ACCEPT: u32 = 1;
        self.push("immediate", |data| {
            data.number_be(1, 0).nest(2, |value| {
                value.nest(2, |verdict| verdict.number_be(1, ACCEPT))
            })
        })
    }

    pub(super) fn drop(self) -> Self {
        self.push("immediate", |data| {
            data.number_be(1, 0)
                .nest(2, |value| value.nest(2, |verdict| verdict.number_be(1, 0)))
        })
    }

    /// Refuses it, and tells the sender, who need not wait for an answer that never comes.
    pub(super) fn reject(self) -> Self {
        const ICMPX: u32 = 2;
        const ADMINISTRATIVELY_PROHIBITED: u8 = 3;
        self.push("reject", |data| {
            data.number_be(1, ICMPX)
                .attribute(2, &[ADMINISTRATIVELY_PROHIBITED])
        })
    }

    /// Gives it the address of the interface that it leaves by as its source.
    pub(super) fn masquerade(self) -> Self {
        self.push("masq", |data| data)
    }

    fn within(self, base: Ipv4Addr, prefix: u8) -> Self {
        let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
        self.masked(&mask.to_be_bytes())
            .equals(REGISTER, &(base.to_bits() & mask).to_be_bytes())
    }

    fn meta(self, key: u32, register: u32) -> Self {
        self.push("meta", |data| data.number_be(1, register).number_be(2, key))
    }

    fn payload(self, register: u32, base: u32, offset: u32, length: u32) -> Self {
        self.push("payload", |data| {
            data.number_be(1, register)
                .number_be(2, base)
                .number_be(3, offset)
                .number_be(4, length)
        })
    }

    fn lookup(self, set: &str, inverted: bool) -> Self {
        self.push("lookup", |data| {
            data.text(1, set)
                .number_be(2, REGISTER)
                .number_be(5, u32::from(inverted))
        })
    }

    fn masked(self, mask: &[u8; 4]) -> Self {
        self.push("bitwise", |data| {
            data.number_be(1, REGISTER)
                .number_be(2, REGISTER)
                .number_be(3, 4)
                .nest(4, |value| value.attribute(1, mask))
                .nest(5, |value| value.attribute(1, &[0; 4]))
        })
    }

    fn equals(self, register: u32, value: &[u8]) -> Self {
        self.compare(register, 0, value)
    }

    fn differs(self, register: u32, value: &[u8]) -> Self {
        self.compare(register, 1, value)
    }

    fn compare(self, register: u32, operator: u32, value: &[u8]) -> Self {
        self.push("cmp", |data| {
            data.number_be(1, register)
                .number_be(2, operator)
                .nest(3, |nest| nest.attribute(1, value))
        })
    }

    fn push(mut self, name: &'static str, fill: impl FnOnce(Message) -> Message) -> Self {
        self.0
            .push((name, fill(Message::new(0, 0, &[])).into_attributes()));
        self
    }
}

/// A note for `nft list`, which prints nothing but empty names without it: the order of an element's bytes is the machine's.
const NAMES_IN_HOST_ORDER: [u8; 6] = [0, 4, 1, 0, 0, 0];

/// An interface's name, padded as the packet filter compares it.
pub(super) fn interface_key(name: &str) -> [u8; 16] {
    let mut key = [0; 16];
    let length = name.len().min(15);
    key[..length].copy_from_slice(&name.as_bytes()[..length]);
    key
}

fn transaction(messages: Vec<Message>) -> io::Result<()> {
    let edge = |kind| Message::new(kind, 0, &[0, 0, 0, NFTABLES]);
    let mut socket = Socket::open(Some(rustix::net::netlink::NETFILTER))?;
    socket.enlarge();
    socket.transaction(edge(BATCH_BEGIN), messages, edge(BATCH_END))
}

const NFTABLES: u8 = libc::NFNL_SUBSYS_NFTABLES as u8;
const SUBSYSTEM: u16 = (NFTABLES as u16) << 8;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const NEW_TABLE: u16 = SUBSYSTEM;
const DELETE_TABLE: u16 = SUBSYSTEM | 2;
const NEW_CHAIN: u16 = SUBSYSTEM | 3;
const NEW_RULE: u16 = SUBSYSTEM | 6;
const NEW_SET: u16 = SUBSYSTEM | 9;
const NEW_ELEMENTS: u16 = SUBSYSTEM | 12;
const DELETE_ELEMENTS: u16 = SUBSYSTEM | 14;

/// `struct nfgenmsg` for both versions of IP (`NFPROTO_INET`).
const HEADER: [u8; 4] = [1, 0, 0, 0];

const META_IIFNAME: u32 = 6;
const META_OIFNAME: u32 = 7;
const META_NFPROTO: u32 = 15;
const META_L4PROTO: u32 = 16;
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;
