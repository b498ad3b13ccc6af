//! Network interfaces, their addresses and routes.

use std::{
    fs, io,
    net::Ipv4Addr,
    os::fd::{AsFd, AsRawFd},
};

use tappaas_core::Digest;

use super::netlink::{Answer, CREATE, DUMP, EXCLUSIVE, Message, Socket, attributes};

/// The interfaces of one network namespace.
#[derive(Debug)]
pub(super) struct Links(Socket);

/// A network interface.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) name: String,
    /// A note that any interface can carry.
    pub(super) alias: String,
}

impl Links {
    /// Those of the namespace that the calling thread is in now, whatever namespace it enters later.
    pub(super) fn here() -> io::Result<Self> {
        Ok(Self(Socket::open(None)?))
    }

    pub(super) fn find(&mut self, name: &str) -> io::Result<Option<Link>> {
        let message =
            Message::new(libc::RTM_GETLINK, 0, &interface(0, 0)).text(libc::IFLA_IFNAME, name);
        let mut found = None;
        match self.0.ask(message, |answer| {
            found = found.take().or_else(|| parse_link(&answer));
        }) {
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            outcome => outcome.map(|()| found),
        }
    }

    pub(super) fn all(&mut self) -> io::Result<Vec<Link>> {
        let mut found = Vec::new();
        let message = Message::new(libc::RTM_GETLINK, DUMP, &interface(0, 0));
        self.0
            .ask(message, |answer| found.extend(parse_link(&answer)))?;
        Ok(found)
    }

    /// All IPv4 addresses, each with its interface and the length of its network prefix.
    pub(super) fn addresses(&mut self) -> io::Result<Vec<(u32, Ipv4Addr, u8)>> {
        let mut found = Vec::new();
        let message = Message::new(libc::RTM_GETADDR, DUMP, &address(0, 0));
        self.0
            .ask(message, |answer| found.extend(parse_address(&answer)))?;
        Ok(found)
    }

    /// Creates a bridge for the owner of `ip`, down and without an address. `false`: there is an interface of that name already.
    ///
    /// It gets its name last: whoever finds one of that name finds the alias with it, and knows whose it is.
    pub(super) fn create_bridge(
        &mut self,
        name: &str,
        alias: &str,
        ip: Ipv4Addr,
        mtu: u32,
    ) -> io::Result<bool> {
        // Under this name nobody else makes one, and one that is there was left by a creation cut short.
        let unfinished = format!("tpn{}", &Digest::of(alias).hex()[..12]);
        self.delete(&unfinished)?;
        let bridge = Message::new(libc::RTM_NEWLINK, CREATE | EXCLUSIVE, &interface(0, 0))
            .text(libc::IFLA_IFNAME, &unfinished)
            .attribute(libc::IFLA_ADDRESS, &hardware_address(ip))
            .number(libc::IFLA_MTU, mtu)
            .nest(libc::IFLA_LINKINFO, |info| {
                info.text(libc::IFLA_INFO_KIND, "bridge")
            });
        self.0.request(bridge)?;
        match self.finish_bridge(&unfinished, name, alias) {
            Ok(()) => Ok(true),
            Err(error) => {
                self.delete(&unfinished)?;
                match error.kind() {
                    io::ErrorKind::AlreadyExists => Ok(false),
                    _ => Err(error),
                }
            }
        }
    }

    fn finish_bridge(&mut self, unfinished: &str, name: &str, alias: &str) -> io::Result<()> {
        let found = self.find(unfinished)?.ok_or(io::ErrorKind::NotFound)?;
        let alias = Message::new(libc::RTM_SETLINK, 0, &interface(found.index, 0))
            .attribute(libc::IFLA_IFALIAS, alias.as_bytes());
        self.0.request(alias)?;
        let name = Message::new(libc::RTM_SETLINK, 0, &interface(found.index, 0))
            .text(libc::IFLA_IFNAME, name);
        self.0.request(name)
    }

    /// Creates a pair of interfaces: one here, in the bridge `master`, its peer in `namespace`, for the owner of `ip`. Both are up.
    pub(super) fn create_pair(
        &mut self,
        name: &str,
        master: u32,
        mtu: u32,
        (peer, ip): (&str, Ipv4Addr),
        namespace: impl AsFd,
    ) -> io::Result<()> {
        const VETH_INFO_PEER: u16 = 1;
        let namespace = namespace.as_fd().as_raw_fd().unsigned_abs();
        let up = interface(0, libc::IFF_UP.unsigned_abs());
        let message = Message::new(libc::RTM_NEWLINK, CREATE | EXCLUSIVE, &up)
            .text(libc::IFLA_IFNAME, name)
            .number(libc::IFLA_MTU, mtu)
            .number(libc::IFLA_MASTER, master)
            .nest(libc::IFLA_LINKINFO, |info| {
                info.text(libc::IFLA_INFO_KIND, "veth")
                    .nest(libc::IFLA_INFO_DATA, |data| {
                        data.nest(VETH_INFO_PEER, |other| {
                            other
                                .raw(&interface(0, 0))
                                .text(libc::IFLA_IFNAME, peer)
                                .attribute(libc::IFLA_ADDRESS, &hardware_address(ip))
                                .number(libc::IFLA_MTU, mtu)
                                .number(libc::IFLA_NET_NS_FD, namespace)
                        })
                    })
            });
        self.0.request(message)
    }

    pub(super) fn set_up(&mut self, index: u32) -> io::Result<()> {
        let up = libc::IFF_UP.unsigned_abs();
        self.0
            .request(Message::new(libc::RTM_NEWLINK, 0, &interface(index, up)))
    }

    /// Gives an interface an address. That it has it already is no error.
    pub(super) fn add_address(&mut self, index: u32, ip: Ipv4Addr, prefix: u8) -> io::Result<()> {
        let message = Message::new(
            libc::RTM_NEWADDR,
            CREATE | EXCLUSIVE,
            &address(index, prefix),
        )
        .attribute(libc::IFA_LOCAL, &ip.octets())
        .attribute(libc::IFA_ADDRESS, &ip.octets());
        match self.0.request(message) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            outcome => outcome,
        }
    }

    pub(super) fn add_default_route(&mut self, gateway: Ipv4Addr) -> io::Result<()> {
        let route = route(0, libc::RTN_UNICAST);
        let message = Message::new(libc::RTM_NEWROUTE, CREATE | EXCLUSIVE, &route);
        self.0
            .request(message.attribute(libc::RTA_GATEWAY, &gateway.octets()))
    }

    /// Lets nobody of the namespace reach a network, whatever default route comes later.
    pub(super) fn deny(&mut self, base: Ipv4Addr, prefix: u8) -> io::Result<()> {
        let route = route(prefix, libc::RTN_UNREACHABLE);
        let message = Message::new(libc::RTM_NEWROUTE, CREATE | EXCLUSIVE, &route);
        self.0
            .request(message.attribute(libc::RTA_DST, &base.octets()))
    }

    /// Deletes an interface. That there is none is no error.
    pub(super) fn delete(&mut self, name: &str) -> io::Result<()> {
        match self.0.request(
            Message::new(libc::RTM_DELLINK, 0, &interface(0, 0)).text(libc::IFLA_IFNAME, name),
        ) {
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(()),
            outcome => outcome,
        }
    }
}

/// The largest packet that the machine's way to the outside takes.
pub(super) fn mtu_outside() -> u32 {
    const ETHERNET: u32 = 1500;
    let routes = fs::read_to_string("/proc/net/route").unwrap_or_default();
    let default = routes
        .lines()
        .map(|line| line.split_whitespace())
        .find_map(|mut fields| {
            let interface = fields.next()?;
            (fields.next()? == "00000000").then_some(interface)
        });
    let mtu =
        default.and_then(|name| fs::read_to_string(format!("/sys/class/net/{name}/mtu")).ok());
    mtu.and_then(|text| text.trim().parse().ok())
        .unwrap_or(ETHERNET)
}

/// The hardware address (locally administered, IEEE 802) that the owner of an address has. Left to the kernel, a bridge would change
/// its own with each interface that comes or goes, and neighbours would go on sending to the one before.
fn hardware_address(ip: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = ip.octets();
    [0x02, 0x74, a, b, c, d]
}

/// `struct ifinfomsg`, with `flags` to be set.
fn interface(index: u32, flags: u32) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes[8..12].copy_from_slice(&flags.to_ne_bytes());
    bytes[12..16].copy_from_slice(&flags.to_ne_bytes());
    bytes
}

/// `struct ifaddrmsg`.
fn address(index: u32, prefix: u8) -> [u8; 8] {
    let mut bytes = [
        byte(libc::AF_INET),
        prefix,
        0,
        libc::RT_SCOPE_UNIVERSE,
        0,
        0,
        0,
        0,
    ];
    bytes[4..8].copy_from_slice(&index.to_ne_bytes());
    bytes
}

/// A `struct rtmsg`.
fn route(prefix: u8, kind: u8) -> [u8; 12] {
    let [family, table] = [libc::AF_INET, i32::from(libc::RT_TABLE_MAIN)].map(byte);
    let (protocol, scope) = (libc::RTPROT_STATIC, libc::RT_SCOPE_UNIVERSE);
    [
        family, prefix, 0, 0, table, protocol, scope, kind, 0, 0, 0, 0,
    ]
}

fn byte(constant: i32) -> u8 {
    u8::try_from(constant).expect("the constant is below 256")
}

fn parse_link(answer: &Answer<'_>) -> Option<Link> {
    if answer.kind != libc::RTM_NEWLINK {
        return None;
    }
    let mut link = Link {
        index: u32::from_ne_bytes(answer.body.get(4..8)?.try_into().ok()?),
        ..Link::default()
    };
    for (kind, value) in attributes(answer.body, 16) {
        let text = || {
            String::from_utf8_lossy(value)
                .trim_end_matches('\0')
                .to_owned()
        };
        match kind {
            libc::IFLA_IFNAME => link.name = text(),
            libc::IFLA_IFALIAS => link.alias = text(),
            _ => {}
        }
    }
    Some(link)
}

fn parse_address(answer: &Answer<'_>) -> Option<(u32, Ipv4Addr, u8)> {
    if answer.kind != libc::RTM_NEWADDR || *answer.body.first()? != byte(libc::AF_INET) {
        return None;
    }
    let index = u32::from_ne_bytes(answer.body.get(4..8)?.try_into().ok()?);
    let (_, ip) = attributes(answer.body, 8).find(|(kind, _)| *kind == libc::IFA_LOCAL)?;
    Some((index, <[u8; 4]>::try_from(ip).ok()?.into(), answer.body[1]))
}
