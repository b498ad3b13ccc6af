use std::{fmt, net::Ipv4Addr};

use super::{
    ALIAS,
    addresses::{Range, Subnet},
    link::Link,
};

/// An address of somebody else's in the range for instances, with the network that it is in.
#[derive(Debug)]
pub(super) struct Foreign {
    link: String,
    address: Ipv4Addr,
    prefix: u8,
}

/// The addresses in the range that no bridge of instances has. Each is given with its interface's index and its prefix.
pub(super) fn among(
    addresses: Vec<(u32, Ipv4Addr, u8)>,
    links: &[Link],
    range: Range,
) -> Vec<Foreign> {
    let found = addresses
        .into_iter()
        .filter_map(|(index, address, prefix)| {
            let link = links.iter().find(|link| link.index == index);
            let bridge_of_instances = link.is_some_and(|link| link.alias.starts_with(ALIAS));
            let foreign = range.overlaps(address, prefix) && !bridge_of_instances;
            foreign.then(|| Foreign {
                link: link.map_or("an interface", |link| &link.name).to_owned(),
                address,
                prefix,
            })
        });
    found.collect()
}

impl Foreign {
    /// Its network leaves nothing of the range, with which it has addresses in common.
    pub(super) fn covers(&self, range: Range) -> bool {
        self.prefix <= range.prefix
    }

    pub(super) fn is_in(&self, subnet: &Subnet, range: Range) -> bool {
        let subnet = Range {
            base: subnet.base,
            prefix: range.subnet_prefix,
            ..range
        };
        subnet.overlaps(self.address, self.prefix)
    }
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} of {}", self.address, self.prefix, self.link)
    }
}
