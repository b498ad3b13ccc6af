//! Who has which address, kept as one small file for each claim: creating a file is atomic, so no two claims ever meet, and a claim
//! survives whatever happens to the process that made it.

use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    io::{self, Write},
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// A range of addresses, cut into subnets of equal size, one for each application.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Range {
    /// The first address.
    pub base: Ipv4Addr,
    /// How many leading bits all addresses of the range share: 8 to 24.
    pub prefix: u8,
    /// How many leading bits all addresses of an application share: up to 29.
    pub subnet_prefix: u8,
}

impl Default for Range {
    /// 16,384 applications of up to 61 instances each.
    fn default() -> Self {
        Self {
            base: Ipv4Addr::new(10, 208, 0, 0),
            prefix: 12,
            subnet_prefix: 26,
        }
    }
}

impl Range {
    pub(super) fn is_valid(&self) -> bool {
        let prefixes =
            (8..=24).contains(&self.prefix) && (self.prefix..=29).contains(&self.subnet_prefix);
        prefixes
            && self.base.is_private()
            && self.base.to_bits().trailing_zeros() >= 32 - u32::from(self.prefix)
    }

    /// The two ranges have addresses in common.
    pub(super) fn overlaps(&self, base: Ipv4Addr, prefix: u8) -> bool {
        let shared = self.prefix.min(prefix);
        let difference = base.to_bits() ^ self.base.to_bits();
        difference.checked_shr(32 - u32::from(shared)).unwrap_or(0) == 0
    }

    fn subnets(&self) -> u32 {
        1 << (self.subnet_prefix - self.prefix)
    }

    fn subnet(&self, index: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.base.to_bits() + (index << (32 - self.subnet_prefix)))
    }

    /// The addresses for instances: neither the network's, nor the gateway's, nor the broadcast address.
    fn hosts(&self) -> u32 {
        (1 << (32 - self.subnet_prefix)) - 3
    }
}

/// What the names of all bridges of instances start with.
pub(super) const BRIDGE_PREFIX: &str = "tpb";

/// The claims, in a folder. `subnets` has a folder for each subnet in use, in it one file for each address in use and `owner` with the
/// name of the application. `lately` has a file for each subnet that was ever in use, with the address that was claimed last.
#[derive(Debug)]
pub(super) struct Claims {
    folder: PathBuf,
    lately: PathBuf,
    range: Range,
}

/// A subnet that an application has claimed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Subnet {
    pub(super) base: Ipv4Addr,
    pub(super) owner: String,
}

impl Subnet {
    /// The machine's own address in the subnet.
    pub(super) fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.base.to_bits() + 1)
    }

    /// The name of the application's bridge. Interface names have at most 15 characters.
    pub(super) fn bridge(&self) -> String {
        format!("{BRIDGE_PREFIX}{:08x}", self.base.to_bits())
    }
}

/// Why no address was claimed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClaimError {
    #[error("all {0} are in use")]
    Full(String),
    #[error("cannot keep account of addresses in {folder}")]
    Io {
        folder: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl Claims {
    pub(super) fn open(folder: &Path, range: Range) -> Result<Self, ClaimError> {
        let claims = Self {
            folder: folder.join("subnets"),
            lately: folder.join("lately"),
            range,
        };
        for folder in [&claims.folder, &claims.lately] {
            fs::create_dir_all(folder).map_err(|error| claims.error(error))?;
        }
        Ok(claims)
    }

    /// The subnet of an application, claimed now if it has none. Those for which `taken` says so are left to whoever has them.
    pub(super) fn subnet(
        &self,
        owner: &str,
        taken: &dyn Fn(&Subnet) -> bool,
    ) -> Result<Subnet, ClaimError> {
        let count = self.range.subnets();
        // The same application gets the same addresses again, as far as possible.
        let first = hash(owner) % count;
        for index in (0..count).map(|step| (first + step) % count) {
            let subnet = Subnet {
                base: self.range.subnet(index),
                owner: owner.to_owned(),
            };
            let folder = self.folder_of(&subnet);
            match self.owner(&folder)? {
                Some(found) if found == owner => return Ok(subnet),
                Some(_) => {}
                None if taken(&subnet) => {}
                None => {
                    if self.claim_subnet(&folder, owner)? {
                        return Ok(subnet);
                    }
                }
            }
        }
        Err(ClaimError::Full(format!(
            "{count} subnets of {}/{}",
            self.range.base, self.range.prefix
        )))
    }

    /// The address of an instance, claimed now if it has none.
    pub(super) fn address(&self, subnet: &Subnet, instance: &str) -> Result<Ipv4Addr, ClaimError> {
        let count = self.range.hosts();
        let folder = self.folder_of(subnet);
        if let Some((address, _)) = self
            .addresses(subnet)?
            .into_iter()
            .find(|(_, holder)| holder == instance)
        {
            return Ok(address);
        }
        // In turn: connections to an instance that has just gone may still be under way, and must not meet another one.
        let first = match self.last(subnet) {
            Some(last) => last + 1,
            None => hash(instance) % count,
        };
        for host in (0..count).map(|step| (first + step) % count) {
            let address = Ipv4Addr::from_bits(subnet.base.to_bits() + 2 + host);
            if claim(&folder.join(address.to_string()), instance)
                .map_err(|error| self.error(error))?
            {
                self.set_last(subnet, host)?;
                return Ok(address);
            }
        }
        Err(ClaimError::Full(format!(
            "{count} addresses of {}/{}",
            subnet.base, self.range.subnet_prefix
        )))
    }

    /// Gives an instance's address back. Says whether the subnet has no address in use any more.
    pub(super) fn release(&self, subnet: &Subnet, instance: &str) -> Result<bool, ClaimError> {
        let mut left = 0;
        for (address, holder) in self.addresses(subnet)? {
            if holder == instance {
                let removed = fs::remove_file(self.folder_of(subnet).join(address.to_string()));
                removed.map_err(|error| self.error(error))?;
            } else {
                left += 1;
            }
        }
        Ok(left == 0)
    }

    /// Who has which address of a subnet.
    pub(super) fn addresses(&self, subnet: &Subnet) -> Result<Vec<(Ipv4Addr, String)>, ClaimError> {
        let mut found = Vec::new();
        for name in self.names(&self.folder_of(subnet))? {
            if let Ok(address) = name.parse() {
                let holder = fs::read_to_string(self.folder_of(subnet).join(name));
                found.push((address, holder.map_err(|error| self.error(error))?));
            }
        }
        Ok(found)
    }

    /// Every subnet in use.
    pub(super) fn all(&self) -> Result<Vec<Subnet>, ClaimError> {
        let mut found = Vec::new();
        for name in self.names(&self.folder)? {
            if let (Ok(base), Some(owner)) = (name.parse(), self.owner(&self.folder.join(&name))?) {
                found.push(Subnet { base, owner });
            }
        }
        found.sort_by_key(|subnet| subnet.base);
        Ok(found)
    }

    /// Gives a subnet back, with all addresses in it.
    pub(super) fn forget(&self, subnet: &Subnet) -> Result<(), ClaimError> {
        match fs::remove_dir_all(self.folder_of(subnet)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.error(error)),
            _ => Ok(()),
        }
    }

    /// The ports of a subnet's gateway that its instances may reach.
    pub(super) fn doors(&self, subnet: &Subnet) -> Result<Vec<u16>, ClaimError> {
        match fs::read_to_string(self.folder_of(subnet).join("doors")) {
            Ok(text) => Ok(text
                .split_whitespace()
                .filter_map(|port| port.parse().ok())
                .collect()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(self.error(error)),
        }
    }

    pub(super) fn set_doors(&self, subnet: &Subnet, ports: &[u16]) -> Result<(), ClaimError> {
        let text: Vec<_> = ports.iter().map(u16::to_string).collect();
        let folder = self.folder_of(subnet);
        let written = fs::write(folder.join("doors.new"), text.join(" "));
        let moved =
            written.and_then(|()| fs::rename(folder.join("doors.new"), folder.join("doors")));
        moved.map_err(|error| self.error(error))
    }

    /// The place in its subnet of the address that was claimed last. It is kept when the subnet is given back.
    fn last(&self, subnet: &Subnet) -> Option<u32> {
        let text = fs::read_to_string(self.last_file(subnet)).ok()?;
        text.parse().ok().filter(|last| *last < self.range.hosts())
    }

    fn set_last(&self, subnet: &Subnet, host: u32) -> Result<(), ClaimError> {
        let written = fs::write(self.last_file(subnet), host.to_string());
        written.map_err(|error| self.error(error))
    }

    fn last_file(&self, subnet: &Subnet) -> PathBuf {
        self.lately.join(subnet.base.to_string())
    }

    fn folder_of(&self, subnet: &Subnet) -> PathBuf {
        self.folder.join(subnet.base.to_string())
    }

    /// A folder without an owner is a claim cut short, as good as none.
    fn owner(&self, folder: &Path) -> Result<Option<String>, ClaimError> {
        match fs::read_to_string(folder.join("owner")) {
            Ok(owner) => Ok(Some(owner).filter(|owner| !owner.is_empty())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.error(error)),
        }
    }

    fn claim_subnet(&self, folder: &Path, owner: &str) -> Result<bool, ClaimError> {
        let made = fs::create_dir_all(folder).and_then(|()| {
            if fs::metadata(folder.join("owner")).is_ok_and(|file| file.len() == 0) {
                fs::remove_file(folder.join("owner"))?;
            }
            claim(&folder.join("owner"), owner)
        });
        made.map_err(|error| self.error(error))
    }

    fn names(&self, folder: &Path) -> Result<Vec<String>, ClaimError> {
        let entries = match fs::read_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(|error| self.error(error))?,
        };
        let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        names
            .collect::<io::Result<_>>()
            .map_err(|error| self.error(error))
    }

    fn error(&self, source: io::Error) -> ClaimError {
        ClaimError::Io {
            folder: self.folder.clone(),
            source,
        }
    }
}

/// Creates a file. `false`: it is there already.
fn claim(path: &Path, content: &str) -> io::Result<bool> {
    match fs::File::create_new(path) {
        Ok(mut file) => file.write_all(content.as_bytes()).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

fn hash(text: &str) -> u32 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    u32::try_from(hasher.finish() >> 32).expect("half of 64 bits are 32")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const SMALL: Range = Range {
        base: Ipv4Addr::new(10, 1, 0, 0),
        prefix: 24,
        subnet_prefix: 28,
    };

    fn claims() -> (tempfile::TempDir, Claims) {
        let folder = tempfile::tempdir().unwrap();
        let claims = Claims::open(folder.path(), SMALL).unwrap();
        (folder, claims)
    }

    #[test]
    fn every_application_and_instance_gets_its_own_until_none_is_left() {
        let (_folder, claims) = claims();
        let subnets: BTreeSet<_> = (0..16)
            .map(|number| {
                claims
                    .subnet(&format!("app-{number}"), &|_| false)
                    .unwrap()
                    .base
            })
            .collect();
        assert_eq!(subnets.len(), 16);
        assert!(matches!(
            claims.subnet("one more", &|_| false),
            Err(ClaimError::Full(_))
        ));
        let subnet = claims.subnet("app-3", &|_| false).unwrap();
        let addresses: BTreeSet<_> = (0..13)
            .map(|number| claims.address(&subnet, &format!("i-{number}")).unwrap())
            .collect();
        assert_eq!(addresses.len(), 13);
        assert!(!addresses.contains(&subnet.gateway()));
        assert!(matches!(
            claims.address(&subnet, "one more"),
            Err(ClaimError::Full(_))
        ));
    }

    #[test]
    fn a_claim_is_found_again_and_can_be_given_back() {
        let (folder, claims) = claims();
        let subnet = claims.subnet("shop", &|_| false).unwrap();
        let address = claims.address(&subnet, "web-1").unwrap();
        let later = Claims::open(folder.path(), SMALL).unwrap();
        assert_eq!(later.subnet("shop", &|_| true).unwrap(), subnet);
        assert_eq!(later.address(&subnet, "web-1").unwrap(), address);
        later.address(&subnet, "web-2").unwrap();
        assert!(!later.release(&subnet, "web-1").unwrap());
        assert!(later.release(&subnet, "web-2").unwrap());
        later.forget(&subnet).unwrap();
        assert!(later.all().unwrap().is_empty());
    }

    #[test]
    fn an_address_is_not_claimed_again_before_all_others_were() {
        let (_folder, claims) = claims();
        let mut lately = BTreeSet::new();
        for number in 0..13 {
            let subnet = claims.subnet("shop", &|_| false).unwrap();
            let instance = format!("web-{number}");
            let address = claims.address(&subnet, &instance).unwrap();
            assert!(lately.insert(address), "{address} again after {number}");
            assert!(claims.release(&subnet, &instance).unwrap());
            // It is the same application's again, as it was its last instance.
            claims.forget(&subnet).unwrap();
        }
        let subnet = claims.subnet("shop", &|_| false).unwrap();
        assert!(lately.contains(&claims.address(&subnet, "one more").unwrap()));
    }

    #[test]
    fn a_subnet_that_somebody_else_has_is_passed_over() {
        let (_folder, claims) = claims();
        let first = claims.subnet("shop", &|_| false).unwrap();
        claims.forget(&first).unwrap();
        let second = claims
            .subnet("shop", &|subnet| subnet.base == first.base)
            .unwrap();
        assert_ne!(first.base, second.base);
    }

    #[test]
    fn overlapping_ranges_are_told() {
        assert!(SMALL.overlaps(Ipv4Addr::new(10, 0, 0, 0), 8));
        assert!(SMALL.overlaps(Ipv4Addr::new(10, 1, 0, 77), 32));
        assert!(SMALL.overlaps(Ipv4Addr::UNSPECIFIED, 0));
        assert!(!SMALL.overlaps(Ipv4Addr::new(10, 1, 1, 0), 24));
        assert!(SMALL.is_valid() && Range::default().is_valid());
        assert!(
            !Range {
                base: Ipv4Addr::new(10, 1, 0, 1),
                ..SMALL
            }
            .is_valid()
        );
        assert!(
            !Range {
                base: Ipv4Addr::new(8, 8, 8, 0),
                ..SMALL
            }
            .is_valid()
        );
    }
}
