use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::Ipv4Addr,
    os::unix::fs::FileTypeExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use tappaas_core::Digest;

use super::{
    edge::{self, Route},
    instances::Instance,
};

/// What one platform has on this machine outside of its data directory, one line each, and inside of it what is not to stay there.
///
/// Everything is told by the data directory, so that other platforms on the machine may come and go.
#[derive(Debug, Default, Eq, PartialEq)]
pub(super) struct Census(BTreeSet<String>);

/// A census without names and numbers: how many there are of what looks alike. Two moments at which a platform should have the same
/// have the same shape.
pub(super) type Shape = BTreeMap<String, usize>;

/// What is in these folders is in use, or should not be there.
const TEMPORARY: [&str; 5] = [
    "builds/run",
    "builds/tmp",
    "local/images/drafts",
    "local/network/subnets",
    "registry/uploads",
];
/// What is in these folders belongs to the releases that run.
const IMAGES: [&str; 2] = ["local/images/images", "local/images/layers"];
const GROUP: &str = "control group ";
/// Of an instance that ended the log is kept for a while.
const ENDED: &str = " (ended)";
/// How many bits of an address tell instances of one application apart.
const HOST_BITS: u32 = 6;
/// How the name of a file ends that is being written, to be renamed when it is whole.
const DRAFT: &str = ".new";

impl Census {
    pub(super) fn take(data: &Path) -> Self {
        let processes = processes(data);
        let mut found = network_namespaces(&processes);
        found.extend(
            processes
                .into_iter()
                .map(|process| format!("process {}: {}", process.id, process.command)),
        );
        found.extend(mounts(data));
        found.extend(loop_devices(data));
        found.extend(interfaces(data));
        found.extend(filter_rules(data));
        found.extend(edge::routes(data).iter().map(Route::line));
        control_groups(Path::new("/sys/fs/cgroup"), data, 0, &mut found);
        for folder in TEMPORARY {
            found.extend(names_in(&data.join(folder)).map(|name| format!("{folder}/{name}")));
        }
        let subnets = data.join("local/network/subnets");
        for subnet in names_in(&subnets) {
            found.extend(names_in(&subnets.join(subnet)).map(|name| format!("address {name}")));
        }
        found.extend(instances(data));
        passing_files(data, &mut found);
        Self(found)
    }

    /// The shape of it and of what the releases that run have on the disk. The logs of instances that ended are not in it.
    pub(super) fn shape(data: &Path) -> Shape {
        let Self(found) = Self::take(data);
        let images = IMAGES.iter().flat_map(|folder| {
            names_in(&data.join(folder)).map(move |name| format!("{folder}/{name}"))
        });
        let mut shape = Shape::new();
        for line in found.into_iter().chain(images) {
            if !line.ends_with(ENDED) {
                *shape.entry(without_names(&line)).or_default() += 1;
            }
        }
        shape
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What of two shapes is not in both, if they differ.
pub(super) fn difference(wanted: &Shape, found: &Shape) -> Option<String> {
    let lines: BTreeSet<_> = wanted.keys().chain(found.keys()).collect();
    let differing = lines.into_iter().filter_map(|line| {
        let [wanted, found] = [wanted, found].map(|shape| shape.get(line).copied().unwrap_or(0));
        (wanted != found).then(|| format!("\n  {found} instead of {wanted}: {line}"))
    });
    let differing: String = differing.collect();
    (!differing.is_empty()).then_some(differing)
}

/// A text in which every word with a digit in it is a `#`.
pub(super) fn without_names(line: &str) -> String {
    let mut text = String::new();
    for part in line.split_inclusive(|part: char| !part.is_ascii_alphanumeric()) {
        let word = part.trim_end_matches(|part: char| !part.is_ascii_alphanumeric());
        let numbered = word.contains(|part: char| part.is_ascii_digit());
        text.push_str(if numbered { "#" } else { word });
        text.push_str(&part[word.len()..]);
    }
    text
}

/// A process that belongs to a platform.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Process {
    pub(super) id: i32,
    pub(super) command: String,
}

impl Process {
    /// Ends it with `SIGKILL`, which it cannot notice.
    pub(super) fn kill(&self) {
        // It may end by itself between being seen and being killed.
        let _ = kill_process(Pid::from_raw(self.id).unwrap(), Signal::KILL);
    }
}

/// The processes whose command line or control group names the data directory or an instance in it.
pub(super) fn processes(data: &Path) -> Vec<Process> {
    let data_name = data.to_str().unwrap();
    let ids = names_in(Path::new("/proc")).filter_map(|name| name.parse::<i32>().ok());
    let all = ids.filter(|id| *id != std::process::id().cast_signed());
    let ours = all.filter_map(|id| {
        let folder = PathBuf::from(format!("/proc/{id}"));
        let command = fs::read(folder.join("cmdline")).ok()?;
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        let groups = fs::read_to_string(folder.join("cgroup")).unwrap_or_default();
        let ours = command.contains(data_name) || groups.lines().any(|group| is_group(group, data));
        ours.then(|| Process {
            id,
            command: command.trim_end().to_owned(),
        })
    });
    let mut ours: Vec<_> = ours.collect();
    ours.sort();
    ours
}

/// Whether a control group is that of an instance below `data`: it is named by the instance and the digest of its folder.
fn is_group(path: &str, data: &Path) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    let Some((id, mark)) = name.rsplit_once('-') else {
        return false;
    };
    let instance = data.join("local/instances").join(id);
    hex(instance.to_str().unwrap()) == mark
}

/// The table of the packet filter, by which its bridges are known, too.
fn table(data: &Path) -> String {
    let folder = data.join("local/network");
    format!("tappaas-{}", hex(folder.to_str().unwrap()))
}

/// The first four bytes of the SHA-256 of a text.
fn hex(text: &str) -> String {
    let digest = Digest::of(text).to_string();
    let (_, digits) = digest.split_once(':').unwrap();
    digits[..8].to_owned()
}

fn mounts(data: &Path) -> BTreeSet<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let ours = table
        .lines()
        .filter(|line| line.contains(data.to_str().unwrap()));
    ours.map(|line| format!("mount {line}")).collect()
}

/// What is mounted from a file below `data`.
fn loop_devices(data: &Path) -> BTreeSet<String> {
    let devices = Path::new("/sys/block");
    let ours = names_in(devices).filter_map(|device| {
        let file = devices.join(&device).join("loop/backing_file");
        let file = fs::read_to_string(file).ok()?;
        file.starts_with(data.to_str().unwrap())
            .then(|| format!("loop device {device}: {}", file.trim()))
    });
    ours.collect()
}

/// The bridges of a platform, what is plugged into them, and what was made to be.
fn interfaces(data: &Path) -> BTreeSet<String> {
    let (all, table) = (Path::new("/sys/class/net"), table(data));
    let bridges = names_in(all).filter(|name| {
        fs::read_to_string(all.join(name).join("ifalias")).is_ok_and(|alias| alias.contains(&table))
    });
    let with_ports = bridges.flat_map(|bridge| {
        let ports: Vec<_> = names_in(&all.join(&bridge).join("brif")).collect();
        ports.into_iter().chain([bridge])
    });
    let subnets: BTreeSet<_> = names_in(&data.join("local/network/subnets"))
        .filter_map(|subnet| Some(u32::from(subnet.parse::<Ipv4Addr>().ok()?) >> HOST_BITS))
        .collect();
    // Its name is made from the address of its instance.
    let made = names_in(all).filter(|name| {
        let address = name.strip_prefix("tpv").and_then(|name| name.get(..8));
        let address = address.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        address.is_some_and(|address| subnets.contains(&(address >> HOST_BITS)))
    });
    with_ports
        .chain(made)
        .map(|name| format!("interface {name}"))
        .collect()
}

/// The network namespaces that processes of a platform are in, apart from everybody's.
fn network_namespaces(processes: &[Process]) -> BTreeSet<String> {
    let of = |process: &str| fs::read_link(format!("/proc/{process}/ns/net")).ok();
    let everybodys = of("self");
    let all = processes
        .iter()
        .filter_map(|process| of(&process.id.to_string()));
    let own = all.filter(|namespace| Some(namespace) != everybodys.as_ref());
    own.map(|namespace| format!("network namespace {}", namespace.display()))
        .collect()
}

/// What the packet filter has for a platform, as its own program shows it.
fn filter_rules(data: &Path) -> BTreeSet<String> {
    let folders = ["/usr/sbin/nft", "/sbin/nft", "/usr/bin/nft"];
    let Some(nft) = folders.iter().find(|nft| Path::new(nft).exists()) else {
        eprintln!("NOT TRIED, because there is no `nft`: that no rules of the packet filter stay");
        return BTreeSet::new();
    };
    let listed = Command::new(nft)
        .args(["list", "table", "inet", &table(data)])
        .stderr(Stdio::null())
        .output()
        .unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    // Elements of a set are as many as the lines and commas that they take.
    let rules = listed.split(['\n', ',']).enumerate();
    let rules = rules.filter(|(_, rule)| !matches!(rule.trim(), "" | "}"));
    rules
        .map(|(number, rule)| format!("filter {number} {}", rule.trim()))
        .collect()
}

/// The folders of instances, and what else is beside them.
fn instances(data: &Path) -> BTreeSet<String> {
    let all = Instance::all(data);
    let ended: BTreeSet<_> = all
        .iter()
        .filter(|one| one.gone)
        .map(|one| &one.id)
        .collect();
    let names = names_in(&data.join("local/instances"));
    let lines = names.map(|name| {
        let id = name.trim_end_matches(".json");
        let end = if ended.contains(&id.to_owned()) {
            ENDED
        } else {
            ""
        };
        format!("local/instances/{name}{end}")
    });
    lines.collect()
}

/// Sockets, and files that were being written.
fn passing_files(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let Ok(kind) = entry.file_type() else {
            continue;
        };
        if kind.is_dir() {
            passing_files(&path, found);
        } else if kind.is_socket() || name.to_string_lossy().ends_with(DRAFT) {
            found.insert(format!("file {}", path.display()));
        }
    }
}

/// The folders that have a control group of an instance.
pub(super) fn parents_of_control_groups(data: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    control_groups(Path::new("/sys/fs/cgroup"), data, 0, &mut found);
    let groups = found.iter().filter_map(|line| line.strip_prefix(GROUP));
    let parents = groups.filter_map(|group| Path::new(group).parent());
    parents.map(Path::to_owned).collect()
}

fn control_groups(folder: &Path, data: &Path, depth: usize, found: &mut BTreeSet<String>) {
    // Controllers, slices, services, units, the group of all instances, an instance.
    const DEPTH_MAX: usize = 7;
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    let folders = entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    for path in folders.map(|entry| entry.path()) {
        if is_group(path.to_str().unwrap_or_default(), data) {
            found.insert(format!("{GROUP}{}", path.display()));
        }
        if depth < DEPTH_MAX {
            control_groups(&path, data, depth + 1, found);
        }
    }
}

fn names_in(folder: &Path) -> impl Iterator<Item = String> + use<> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned())
}
