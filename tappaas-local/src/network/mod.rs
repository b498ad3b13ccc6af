//! The networks of instances, where root runs them: a bridge for each application, an address for each instance, and rules that let
//! nothing through but answers, what goes to the outside, and what was opened on purpose.

mod addresses;
mod filter;
mod foreign;
mod link;
mod netlink;
mod resolver;
mod rules;
mod wire;

use std::{
    collections::BTreeMap,
    fs, io,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tappaas_core::{Digest, Error, ErrorKind, Result};

pub use self::{addresses::Range, resolver::nameservers};
use self::{
    addresses::{ClaimError, Claims, Subnet},
    foreign::Foreign,
    link::{Link, Links},
    rules::Rules,
};
pub(crate) use self::{
    filter::probe as probe_filter,
    wire::{DUMMY, Wire, cut, set_up_private},
};

/// What the networks of a machine's instances look like.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkSettings {
    /// The addresses of instances. Nothing else on the machine's networks may use them.
    pub range: Range,
    /// Networks that instances never reach, each with its prefix: above all where clouds tell machines their secrets.
    pub denied: Vec<(Ipv4Addr, u8)>,
}

impl Default for NetworkSettings {
    fn default() -> Self {
        Self {
            range: Range::default(),
            // Link-local addresses, among them the metadata service of most clouds; and that of one that chose otherwise.
            denied: vec![
                (Ipv4Addr::new(169, 254, 0, 0), 16),
                (Ipv4Addr::new(100, 100, 100, 200), 32),
            ],
        }
    }
}

/// How an instance is connected to its application's bridge.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attachment {
    /// The name of the bridge.
    pub bridge: String,
    /// The instance's address.
    pub address: Ipv4Addr,
    /// How many leading bits all addresses of the application share.
    pub prefix: u8,
    /// The machine's address on the bridge.
    pub gateway: Ipv4Addr,
    /// The largest packet.
    pub mtu: u32,
    /// The name of the interface on the machine's side. No other instance has it, also not one that gets this address later: what is
    /// cleaned up after this one is this one's alone.
    pub link: String,
}

/// The networks of all instances of one installation. Needs root.
#[derive(Clone, Debug)]
pub struct Networks(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    folder: PathBuf,
    claims: Claims,
    rules: Rules,
    links: Links,
    /// Every application's subnet, with the ports open in it.
    subnets: BTreeMap<String, (Subnet, Vec<u16>)>,
    /// The rules in force are those of `subnets`.
    in_force: bool,
}

impl Networks {
    /// Opens the networks whose claims are kept in `folder`, and sets up again whatever a reboot has taken away. At most one value
    /// at a time may be open on a folder; clones share it.
    ///
    /// # Errors
    /// `Invalid` if the range is unfit, or in use by another interface of this machine while no application has a subnet of it.
    pub async fn open(folder: &Path, settings: &NetworkSettings) -> Result<Self> {
        let (folder, settings) = (folder.to_owned(), settings.clone());
        blocking(move || {
            let mut state = State::open(folder, settings)?;
            state.restore()?;
            Ok(Self(Arc::new(Mutex::new(state))))
        })
        .await
    }

    /// Claims an address for an instance, and a subnet with a bridge for its application if it has none. May be repeated.
    ///
    /// # Errors
    /// `Exhausted` if all addresses are in use, `Unavailable` if an application without a subnet finds the whole range used otherwise.
    pub async fn attach(&self, application: &str, instance: &str) -> Result<Attachment> {
        let (application, instance) = (application.to_owned(), instance.to_owned());
        self.with(move |state| {
            let subnet = state.join(&application)?;
            let address = state.claims.address(&subnet, &instance)?;
            Ok(Attachment {
                bridge: subnet.bridge(),
                address,
                prefix: state.rules.range.subnet_prefix,
                gateway: subnet.gateway(),
                mtu: link::mtu_outside(),
                link: link_name(address, &instance),
            })
        })
        .await
    }

    /// Gives an instance's address back. The last one of an application without open ports takes its bridge along. May be repeated.
    pub async fn detach(&self, application: &str, instance: &str) -> Result<()> {
        let (application, instance) = (application.to_owned(), instance.to_owned());
        self.with(move |state| {
            if let Some((subnet, doors)) = state.subnets.get(&application).cloned() {
                let unused = state.claims.release(&subnet, &instance)?;
                if unused && doors.is_empty() {
                    state.leave(&application)?;
                }
            }
            Ok(())
        })
        .await
    }

    /// Lets the instances of an application connect to these ports of its gateway, and to no others, and returns the gateway's
    /// address: where to listen on behalf of what it is bound to. May be repeated.
    pub async fn open_doors(&self, application: &str, ports: &[u16]) -> Result<Ipv4Addr> {
        let (application, mut ports) = (application.to_owned(), ports.to_vec());
        ports.sort_unstable();
        ports.dedup();
        self.with(move |state| {
            let subnet = state.join(&application)?;
            let before = state
                .subnets
                .get(&application)
                .map(|(_, doors)| doors.clone())
                .unwrap_or_default();
            if before != ports {
                state.claims.set_doors(&subnet, &ports)?;
                state
                    .subnets
                    .insert(application.clone(), (subnet.clone(), ports.clone()));
                state.in_force = false;
                state.enforce()?;
            }
            if ports.is_empty() && state.claims.addresses(&subnet)?.is_empty() {
                state.leave(&application)?;
            }
            Ok(subnet.gateway())
        })
        .await
    }

    /// Gives back the address of every instance that is not `alive`, by its id, and the subnets in which none is left, whatever ports
    /// are open there.
    pub async fn retain(&self, alive: impl Fn(&str) -> bool + Send + 'static) -> Result<()> {
        self.with(move |state| {
            for (application, (subnet, _)) in state.subnets.clone() {
                for (_, instance) in state.claims.addresses(&subnet)? {
                    if !alive(&instance) {
                        state.claims.release(&subnet, &instance)?;
                    }
                }
                if state.claims.addresses(&subnet)?.is_empty() {
                    state.leave(&application)?;
                }
            }
            Ok(())
        })
        .await
    }

    /// Takes every network down, whoever is still on it.
    pub async fn clear(&self) -> Result<()> {
        self.with(|state| {
            let applications: Vec<_> = state.subnets.keys().cloned().collect();
            applications
                .iter()
                .try_for_each(|application| state.leave(application))
        })
        .await
    }

    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut State) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let state = Arc::clone(&self.0);
        blocking(move || work(&mut state.lock().unwrap_or_else(PoisonError::into_inner))).await
    }
}

impl State {
    fn open(folder: PathBuf, settings: NetworkSettings) -> Result<Self> {
        let Range { base, prefix, .. } = settings.range;
        if !settings.range.is_valid() {
            return Err(Error::invalid(format!(
                "the address range {base}/{prefix} is not a private one with a prefix of 8 to 24 bits, cut into subnets of at most 29"
            )));
        }
        let claims = Claims::open(&folder, settings.range)?;
        let links = Links::here().map_err(|error| kernel("ask about network interfaces", error))?;
        let identity = fs::canonicalize(&folder).unwrap_or_else(|_| folder.clone());
        let identity = Sha256::digest(identity.as_os_str().as_encoded_bytes());
        let mut state = Self {
            rules: Rules {
                table: format!("tappaas-{}", hex::encode(&identity[..4])),
                range: settings.range,
                denied: settings.denied,
            },
            folder,
            claims,
            links,
            subnets: BTreeMap::new(),
            in_force: false,
        };
        for subnet in state.claims.all()? {
            let doors = state.claims.doors(&subnet)?;
            state.subnets.insert(subnet.owner.clone(), (subnet, doors));
        }
        state.refuse_foreign_addresses()?;
        Ok(state)
    }

    /// Bridges are lost by a reboot, rules too; claims are not.
    fn restore(&mut self) -> Result<()> {
        self.enforce()?;
        for (application, (subnet, _)) in self.subnets.clone() {
            if !self.bridge(&subnet)? {
                self.give_up(&application)?;
            }
        }
        Ok(())
    }

    /// Refuses a range that is somebody else's. Where instances have addresses of it already, whoever came later does not keep the
    /// platform from starting again: what overlaps is told, and given to nobody from then on.
    fn refuse_foreign_addresses(&mut self) -> Result<()> {
        let Range { base, prefix, .. } = self.rules.range;
        let links = self.all_links()?;
        for foreign in self.foreign_addresses(&links)? {
            let overlap =
                format!("the address range {base}/{prefix} for instances overlaps {foreign}");
            if self.subnets.is_empty() {
                return Err(Error::invalid(format!("{overlap}: choose another range")));
            }
            tracing::warn!("{overlap}: instances there may not reach it, nor be reached");
        }
        Ok(())
    }

    fn all_links(&mut self) -> Result<Vec<Link>> {
        let links = self.links.all();
        links.map_err(|error| kernel("list network interfaces", error))
    }

    fn foreign_addresses(&mut self, links: &[Link]) -> Result<Vec<Foreign>> {
        let addresses = self.links.addresses();
        let addresses = addresses.map_err(|error| kernel("list addresses", error))?;
        Ok(foreign::among(addresses, links, self.rules.range))
    }

    /// Makes sure that an application has a subnet, rules and a bridge, in this order: no bridge is ever without rules.
    fn join(&mut self, application: &str) -> Result<Subnet> {
        if let Some((subnet, _)) = self.subnets.get(application).cloned() {
            // Another installation may have stopped it on its way out.
            set_forwarding(true).map_err(|error| kernel("start forwarding", error))?;
            self.enforce()?;
            if self.bridge(&subnet)? {
                return Ok(subnet);
            }
            self.give_up(application)?;
        }
        for _ in 0..SUBNETS_TRIED_MAX {
            let subnet = self.claim(application)?;
            self.subnets
                .insert(application.to_owned(), (subnet.clone(), Vec::new()));
            if self.in_force {
                self.in_force = self.rules.add(&subnet, &[]).is_ok();
            }
            self.enforce()?;
            if self.bridge(&subnet)? {
                return Ok(subnet);
            }
            self.give_up(application)?;
        }
        Err(Error::unavailable(
            "other installations on this machine take every subnet that is tried; give this one another range",
        ))
    }

    /// Claims a subnet that no other installation on this machine has a bridge for (they may use the same range), nor anybody else an
    /// address in.
    fn claim(&mut self, application: &str) -> Result<Subnet> {
        let links = self.all_links()?;
        let foreign = self.foreign_addresses(&links)?;
        let range = self.rules.range;
        if let Some(whole) = foreign.iter().find(|one| one.covers(range)) {
            let Range { base, prefix, .. } = range;
            return Err(Error::unavailable(format!(
                "the address range {base}/{prefix} for instances is inside {whole}: choose another range"
            )));
        }
        let taken = |subnet: &Subnet| {
            let mut links = links.iter();
            links.any(|link| link.name == subnet.bridge() && !self.owns(link))
                || foreign.iter().any(|foreign| foreign.is_in(subnet, range))
        };
        Ok(self.claims.subnet(application, &taken)?)
    }

    /// Whether a bridge is this installation's.
    fn owns(&self, bridge: &Link) -> bool {
        let alias = bridge.alias.strip_prefix(ALIAS);
        alias.and_then(|alias| alias.split(' ').next()) == Some(&self.rules.table)
    }

    /// The reverse of [`State::join`], in the reverse order.
    fn leave(&mut self, application: &str) -> Result<()> {
        let Some((subnet, _)) = self.subnets.get(application) else {
            return Ok(());
        };
        let name = subnet.bridge();
        let failed = |error| kernel("delete a bridge", error);
        let bridge = self.links.find(&name).map_err(failed)?;
        if bridge.is_some_and(|bridge| self.owns(&bridge)) {
            self.links.delete(&name).map_err(failed)?;
        }
        self.give_up(application)
    }

    /// Gives up a subnet that is not in use any more, or whose bridge turned out to be another installation's. It is forgotten only
    /// once nothing is left of it, so that this may be repeated.
    fn give_up(&mut self, application: &str) -> Result<()> {
        let Some((subnet, doors)) = self.subnets.remove(application) else {
            return Ok(());
        };
        let withdrawn = self.withdraw(&subnet, &doors);
        if withdrawn.is_err() {
            self.subnets.insert(application.to_owned(), (subnet, doors));
            self.in_force = false;
        }
        withdrawn
    }

    /// Takes back the rules and the claim of a subnet.
    fn withdraw(&mut self, subnet: &Subnet, doors: &[u16]) -> Result<()> {
        if self.in_force {
            self.in_force = !self.subnets.is_empty() && self.rules.subtract(subnet, doors).is_ok();
        }
        self.enforce()?;
        self.claims.forget(subnet)?;
        Ok(())
    }

    /// Makes sure that the bridge of a subnet is there. `false`: another installation has it.
    fn bridge(&mut self, subnet: &Subnet) -> Result<bool> {
        let name = subnet.bridge();
        let alias = format!("{ALIAS}{} {}", self.rules.table, subnet.owner);
        let alias: String = alias
            .chars()
            .filter(char::is_ascii)
            .take(ALIAS_MAX)
            .collect();
        let refused = |error| kernel("set up a bridge", error);
        self.links
            .create_bridge(&name, &alias, subnet.gateway(), link::mtu_outside())
            .map_err(refused)?;
        let found = self.links.find(&name).map_err(refused)?;
        let bridge = found.ok_or_else(|| {
            Error::unavailable(format!("the bridge {name} was deleted by somebody else"))
        })?;
        if !self.owns(&bridge) {
            return Ok(false);
        }
        let index = bridge.index;
        fs::write(format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"), "1").ok();
        self.links
            .add_address(index, subnet.gateway(), self.rules.range.subnet_prefix)
            .map_err(refused)?;
        self.links.set_up(index).map_err(refused)?;
        Ok(true)
    }

    /// Makes the rules in force those of the subnets there are. Without any there are no rules either.
    fn enforce(&mut self) -> Result<()> {
        if self.in_force {
            return Ok(());
        }
        let was_off = self.folder.join("forwarding-was-off");
        if self.subnets.is_empty() {
            if was_off.exists() {
                let stopped = if others_forward() {
                    Ok(())
                } else {
                    set_forwarding(false)
                };
                stopped
                    .and_then(|()| fs::remove_file(&was_off))
                    .map_err(|error| kernel("stop forwarding", error))?;
            }
            return self
                .rules
                .delete()
                .map_err(|error| kernel("delete the packet filter's rules", error));
        }
        let subnets: Vec<_> = self
            .subnets
            .values()
            .map(|(subnet, doors)| (subnet, doors.as_slice()))
            .collect();
        if !forwarding().map_err(|error| kernel("read whether packets are forwarded", error))? {
            fs::write(&was_off, "")
                .map_err(|error| kernel("note that packets were not forwarded", error))?;
        }
        // Rules first: no packet is forwarded without them.
        let installed = self.rules.install(&subnets, was_off.exists());
        installed.map_err(|error| kernel("set the packet filter's rules", error))?;
        set_forwarding(true).map_err(|error| kernel("start forwarding", error))?;
        self.in_force = true;
        Ok(())
    }
}

/// Every bridge of instances carries a note that starts so.
const ALIAS: &str = "tappaas ";
/// How many subnets are tried that other installations turn out to have taken at the same moment.
const SUBNETS_TRIED_MAX: usize = 16;

/// The kernel's bound of an interface's note, less one.
const ALIAS_MAX: usize = 255;

const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";

fn forwarding() -> io::Result<bool> {
    Ok(fs::read_to_string(FORWARDING)?.trim() != "0")
}

fn set_forwarding(on: bool) -> io::Result<()> {
    if forwarding()? == on {
        Ok(())
    } else {
        fs::write(FORWARDING, if on { "1" } else { "0" })
    }
}

/// Somebody else has a bridge here, and may have come to rely on it.
fn others_forward() -> bool {
    let links = fs::read_dir("/sys/class/net")
        .into_iter()
        .flatten()
        .flatten();
    links
        .into_iter()
        .any(|link| link.path().join("bridge").exists())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Error::internal("the work on networks was cut short").with_source(error))?
}

fn kernel(what: &str, source: io::Error) -> Error {
    let kind = match source.kind() {
        io::ErrorKind::PermissionDenied => ErrorKind::Unsupported,
        _ => ErrorKind::Internal,
    };
    Error::new(kind, format!("cannot {what}")).with_source(source)
}

impl From<ClaimError> for Error {
    fn from(error: ClaimError) -> Self {
        match error {
            ClaimError::Full(_) => Self::exhausted(error.to_string()),
            ClaimError::Io { source, folder } => Self::internal(format!(
                "cannot keep account of addresses in {}",
                folder.display()
            ))
            .with_source(source),
        }
    }
}

/// Fits the 15 bytes that the kernel has for the name of an interface (IFNAMSIZ).
fn link_name(address: Ipv4Addr, instance: &str) -> String {
    let hash = Digest::of(instance);
    format!("tpv{:08x}{}", address.to_bits(), &hash.hex()[..4])
}
