//! The shim's side of the network: its own namespace, and the wire out of it.

use std::{fs, net::Ipv4Addr};

use nix::sched::{CloneFlags, unshare};

use super::{Attachment, link::Links};
use crate::fault::{Context, Fault, Result};

/// The address that connections handed over by a shim come from and go to: IANA's IPv4 dummy address (RFC 7600). Not the loopback
/// address, so that what a process binds to `127.0.0.1` stays private, as it does where instances have addresses of their own.
pub(crate) const DUMMY: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 8);

/// Where clouds tell machines their secrets: not to be reached, should somebody wire the namespace.
const LINK_LOCAL: (Ipv4Addr, u8) = (Ipv4Addr::new(169, 254, 0, 0), 16);

/// The index of the loopback interface in every network namespace.
const LOOPBACK: u32 = 1;

/// A pair of interfaces: one in the application's bridge, the other in the namespace of the shim.
#[derive(Debug)]
pub(crate) struct Wire {
    /// The machine's interfaces, though the shim has left that namespace.
    outside: Links,
    name: String,
}

impl Wire {
    /// Leaves the machine's network namespace for a new one, attached to the application's bridge.
    pub(crate) fn attach(to: &Attachment) -> Result<Self> {
        let mut outside =
            Links::here().context(|| "ask the kernel about network interfaces".to_owned())?;
        let bridge = outside
            .find(&to.bridge)
            .context(|| format!("look for the bridge {}", to.bridge))?;
        let bridge = bridge.ok_or_else(|| {
            Fault::Unsupported(format!("the bridge {} does not exist", to.bridge))
        })?;
        unshare(CloneFlags::CLONE_NEWNET).context(|| "create a network namespace".to_owned())?;
        sysctl("net/ipv6/conf/default/disable_ipv6", "1");
        let here = fs::File::open("/proc/thread-self/ns/net")
            .context(|| "open the network namespace".to_owned())?;
        let name = to.link.clone();
        // One of that name belongs to a shim of this instance that died.
        outside
            .delete(&name)
            .context(|| format!("delete the interface {name}"))?;
        outside
            .create_pair(&name, bridge.index, to.mtu, (INSIDE, to.address), &here)
            .context(|| format!("create the interface {name}"))?;
        let mut wire = Self { outside, name };
        wire.configure(to).inspect_err(|_| wire.cut())?;
        Ok(wire)
    }

    /// Removes the pair. It would vanish with the namespace too, but some time later.
    pub(crate) fn cut(&mut self) {
        self.outside.delete(&self.name).ok();
    }

    fn configure(&mut self, to: &Attachment) -> Result<()> {
        let mut inside = loopback_up()?;
        let found = inside
            .find(INSIDE)
            .context(|| format!("look for {INSIDE}"))?;
        let index = found
            .ok_or_else(|| Fault::Unsupported(format!("{INSIDE} was not created")))?
            .index;
        inside
            .add_address(index, to.address, to.prefix)
            .context(|| format!("set the address {}", to.address))?;
        inside
            .set_up(index)
            .context(|| format!("set {INSIDE} up"))?;
        inside
            .add_default_route(to.gateway)
            .context(|| format!("route by {}", to.gateway))
    }
}

/// Sets up a new network namespace that stays without a wire.
pub(crate) fn set_up_private() -> Result<()> {
    let mut inside = loopback_up()?;
    inside
        .add_address(LOOPBACK, DUMMY, 32)
        .context(|| format!("set the address {DUMMY}"))?;
    let (base, prefix) = LINK_LOCAL;
    inside
        .deny(base, prefix)
        .context(|| format!("deny the network {base}/{prefix}"))
}

/// Deletes the interface that a dead shim has left, if it is still there.
pub(crate) fn cut(name: &str) -> std::io::Result<()> {
    Links::here()?.delete(name)
}

/// The name of the interface inside.
const INSIDE: &str = "eth0";

fn loopback_up() -> Result<Links> {
    let mut inside =
        Links::here().context(|| "ask the kernel about network interfaces".to_owned())?;
    inside
        .set_up(LOOPBACK)
        .context(|| "set the loopback interface up".to_owned())?;
    // Ports are not privileged where nothing else is on the network; without capabilities a process could not have port 80.
    sysctl("net/ipv4/ip_unprivileged_port_start", "0");
    Ok(inside)
}

/// Of the calling thread's network namespace. A kernel that lacks one of these does not need it.
fn sysctl(name: &str, value: &str) {
    fs::write(format!("/proc/sys/{name}"), value).ok();
}
