use std::{collections::BTreeSet, fs, net::Ipv4Addr, path::Path, time::Duration};

use rustix::{
    mount::{MountFlags, UnmountFlags, mount, unmount},
    process::Signal,
};
use tappaas_core::model::EnvValue;
use tappaas_local::{Attachment, Instance, Network, NetworkSettings, Networks, Spec, reap};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use super::{
    outside::{self, Outside},
    own::{on_a_machine_of_its_own, settings},
};
use crate::instance::{
    bench::{Bench, needs_root, output, signal_shim, until, wait_for, wait_for_output},
    inside,
};

pub(super) struct Net {
    bench: Option<Bench>,
    pub(super) networks: Networks,
    settings: NetworkSettings,
}

impl Net {
    pub(super) async fn new() -> Self {
        let bench = Bench::new().await;
        let settings = settings();
        let networks = Networks::open(&bench.dir("network"), &settings)
            .await
            .unwrap();
        Self {
            bench: Some(bench),
            networks,
            settings,
        }
    }

    async fn attach(&self, application: &str, id: &str, spec: &mut Spec) -> Attachment {
        let attachment = self.networks.attach(application, id).await.unwrap();
        spec.network = Network::Bridge(attachment.clone());
        attachment
    }

    /// A server of the application, on port 8080.
    pub(super) async fn server(&self, application: &str, id: &str) -> (Instance, Attachment) {
        self.serving(application, id, "a_server").await
    }

    pub(super) async fn serving(
        &self,
        application: &str,
        id: &str,
        how: &str,
    ) -> (Instance, Attachment) {
        let mut spec = self.bench().spec(id, "");
        inside::run(&mut spec, how);
        let attachment = self.attach(application, id, &mut spec).await;
        let instance = self.bench().start(&spec).await;
        wait_for_output(instance.dir(), "serving").await;
        (instance, attachment)
    }

    /// What an instance of the application hears when it connects to each of these addresses.
    pub(super) async fn hears(&self, application: &str, targets: &[String]) -> String {
        self.hears_by(application, targets, "a_client").await
    }

    pub(super) async fn hears_by(
        &self,
        application: &str,
        targets: &[String],
        how: &str,
    ) -> String {
        let mut spec = self.bench().spec("client", "");
        inside::run(&mut spec, how);
        self.attach(application, "client", &mut spec).await;
        spec.environment
            .insert("TARGETS".to_owned(), EnvValue::new(targets.join(" ")));
        let instance = self.bench().start(&spec).await;
        let mut status = instance.subscribe().await.unwrap();
        wait_for(&mut status, |status| {
            status.phase == tappaas_local::Phase::Ended
        })
        .await;
        let heard = output(instance.dir());
        assert!(heard.contains("tried all"), "{heard}");
        instance.remove().await.unwrap();
        self.networks.detach(application, "client").await.unwrap();
        let tries = heard
            .lines()
            .filter(|line| targets.iter().any(|target| line.starts_with(target)));
        tries.map(|line| format!("{line}\n")).collect()
    }

    /// Nothing of the networks is left, on the machine or in the account of them.
    pub(super) async fn check_census(mut self) {
        let mark = format!("{:04x}", self.settings.range.base.to_bits() >> 16);
        let prefixes = ["tpb", "tpv"].map(|kind| format!("{kind}{mark}"));
        let ours = |name: &str| prefixes.iter().any(|prefix| name.starts_with(prefix));
        let links = || {
            fs::read_dir("/sys/class/net")
                .unwrap()
                .flatten()
                .map(|link| link.file_name().into_string().unwrap())
                .filter(|name| ours(name))
                .collect::<Vec<_>>()
        };
        until("no interface is left", || async { links().is_empty() })
            .await
            .unwrap_or_else(|_| panic!("{:?}", links()));
        let folders = fs::read_dir(self.bench().path()).unwrap().flatten();
        let own: Vec<_> = folders.map(|folder| table(&folder.path())).collect();
        let left: Vec<_> = tables()
            .into_iter()
            .filter(|table| own.contains(table))
            .collect();
        assert!(left.is_empty(), "{left:?}");
        assert_eq!(
            fs::read_dir(self.bench().dir("network/subnets"))
                .unwrap()
                .count(),
            0
        );
        self.bench.take().unwrap().check_census().await;
    }

    fn bench(&self) -> &Bench {
        self.bench.as_ref().unwrap()
    }
}

/// A test that fails leaves no networks behind either.
impl Drop for Net {
    fn drop(&mut self) {
        drop(self.bench.take());
        if !std::thread::panicking() {
            return;
        }
        let networks = self.networks.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                networks.retain(|_| false).await.ok();
                for application in ["shop", "bank"] {
                    networks.open_doors(application, &[]).await.ok();
                }
            });
        })
        .join()
        .ok();
    }
}

#[tokio::test]
async fn cleaning_up_after_an_instance_spares_the_next_with_its_address() {
    if needs_root("networks of applications") {
        return;
    }
    let net = Net::new().await;
    let (first, attachment) = net.server("shop", "first").await;
    let dir = first.dir().to_owned();
    first.stop(None).await.unwrap();
    net.networks.detach("shop", "first").await.unwrap();
    let mut next = None;
    for number in 0..1000 {
        let id = format!("next-{number}");
        if net.networks.attach("shop", &id).await.unwrap().address == attachment.address {
            next = Some(id);
            break;
        }
        net.networks.detach("shop", &id).await.unwrap();
    }
    let id = next.expect("one of a thousand instances gets one of fourteen addresses");
    let (second, again) = net.server("shop", &id).await;
    assert_eq!(again.address, attachment.address);
    // As a server does that is started again.
    reap(&dir).await.unwrap();
    assert!(said(again.address, 8080).await.is_some(), "it is cut off");
    second.remove().await.unwrap();
    first.remove().await.unwrap();
    net.networks.detach("shop", &id).await.unwrap();
    net.check_census().await;
}

#[tokio::test]
async fn a_bridge_keeps_its_hardware_address_whoever_comes_and_goes() {
    if needs_root("networks of applications") {
        return;
    }
    let net = Net::new().await;
    let (first, attachment) = net.server("shop", "first").await;
    let hardware = || {
        let path = format!("/sys/class/net/{}/address", attachment.bridge);
        fs::read_to_string(path).unwrap()
    };
    let before = hardware();
    for id in ["second", "third", "fourth"] {
        let (instance, _) = net.server("shop", id).await;
        assert_eq!(hardware(), before);
        instance.remove().await.unwrap();
        net.networks.detach("shop", id).await.unwrap();
        assert_eq!(hardware(), before);
    }
    assert!(said(attachment.address, 8080).await.is_some());
    first.remove().await.unwrap();
    net.networks.detach("shop", "first").await.unwrap();
    net.check_census().await;
}

#[tokio::test]
async fn an_installation_leaves_a_subnet_to_another_that_took_it_first() {
    if needs_root("networks of applications") {
        return;
    }
    let net = Net::new().await;
    let (first, attachment) = net.server("shop", "first").await;
    // Another one that claimed the same subnet, as two do that look at the same moment.
    let (ours, theirs) = (net.bench().dir("network"), net.bench().dir("other"));
    let claimed = fs::read_dir(ours.join("subnets"))
        .unwrap()
        .flatten()
        .next()
        .unwrap();
    let subnet = Path::new("subnets").join(claimed.file_name());
    fs::create_dir_all(theirs.join(&subnet)).unwrap();
    fs::copy(
        ours.join(&subnet).join("owner"),
        theirs.join(&subnet).join("owner"),
    )
    .unwrap();
    let other = Networks::open(&theirs, &net.settings).await.unwrap();
    let elsewhere = other.attach("shop", "web").await.unwrap();
    assert_ne!(elsewhere.bridge, attachment.bridge);
    assert!(said(attachment.address, 8080).await.is_some());
    other.clear().await.unwrap();
    assert!(said(attachment.address, 8080).await.is_some());
    first.remove().await.unwrap();
    net.networks.detach("shop", "first").await.unwrap();
    net.check_census().await;
}

#[tokio::test]
async fn installations_that_start_together_share_nothing() {
    if needs_root("networks of applications") {
        return;
    }
    let net = Net::new().await;
    let others = (0..4).map(|number| {
        let (folder, settings) = (
            net.bench().dir(&format!("other-{number}")),
            net.settings.clone(),
        );
        tokio::spawn(async move {
            let networks = Networks::open(&folder, &settings).await.unwrap();
            let mut bridges = Vec::new();
            for application in ["shop", "bank", "blog"] {
                bridges.push(networks.attach(application, "web").await.unwrap().bridge);
            }
            (networks, bridges)
        })
    });
    let others = futures::future::try_join_all(others).await.unwrap();
    let all: Vec<_> = others.iter().flat_map(|(_, bridges)| bridges).collect();
    let distinct: BTreeSet<_> = all.iter().collect();
    assert_eq!(distinct.len(), 12, "{all:?}");
    for (networks, _) in &others {
        networks.clear().await.unwrap();
    }
    net.check_census().await;
}

#[test]
fn packets_are_forwarded_while_there_are_networks_and_no_longer() {
    if needs_root("networks of applications") {
        return;
    }
    const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";
    on_a_machine_of_its_own(async || {
        fs::write(FORWARDING, "0").unwrap();
        let forwarded = || fs::read_to_string(FORWARDING).unwrap().trim() == "1";
        let folder = tempfile::tempdir().unwrap();
        let networks = Networks::open(folder.path(), &settings()).await.unwrap();
        assert!(!forwarded());
        networks.attach("shop", "web").await.unwrap();
        assert_eq!(tables(), [table(folder.path())]);
        assert!(forwarded());
        networks.detach("shop", "web").await.unwrap();
        assert!(tables().is_empty());
        assert!(!forwarded());
    });
}

/// The packet filter's table of the networks whose account is kept in a folder.
fn table(folder: &Path) -> String {
    let folder = fs::canonicalize(folder).unwrap();
    let digest = tappaas_core::Digest::of(folder.as_os_str().as_encoded_bytes());
    format!("tappaas-{}", &digest.hex()[..8])
}

pub(super) fn at(address: Ipv4Addr, port: u16) -> String {
    format!("{address}:{port}")
}

pub(super) async fn said(address: Ipv4Addr, port: u16) -> Option<String> {
    let mut stream = timeout(Duration::from_secs(2), TcpStream::connect((address, port)))
        .await
        .ok()?
        .ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await.ok()?;
    Some(text)
}

/// A service of the machine itself, on all its addresses.
async fn service() -> u16 {
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"the machine").await.ok();
        }
    });
    port
}

/// The packet filter's tables whose names tell that they are of instances.
fn tables() -> Vec<String> {
    use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink};
    let socket = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        Some(netlink::NETFILTER),
    )
    .unwrap();
    // A request for all tables: length 20, NFT_MSG_GETTABLE, NLM_F_REQUEST | NLM_F_DUMP.
    let mut message = vec![20, 0, 0, 0, 1, 10];
    message.extend(0x301u16.to_ne_bytes());
    message.extend([0; 12]);
    rustix::net::sendto(
        &socket,
        &message,
        SendFlags::empty(),
        &netlink::SocketAddrNetlink::new(0, 0),
    )
    .unwrap();
    let mut answers = Vec::new();
    loop {
        let mut buffer = vec![0; 64 << 10];
        let (count, _) =
            rustix::net::recv(&socket, buffer.as_mut_slice(), RecvFlags::empty()).unwrap();
        const DONE: u16 = 3;
        let done = u16::from_ne_bytes([buffer[4], buffer[5]]) == DONE;
        answers.extend(&buffer[..count]);
        if done {
            break;
        }
    }
    let text = String::from_utf8_lossy(&answers).into_owned();
    text.split('\0')
        .filter(|word| word.starts_with("tappaas-"))
        .map(str::to_owned)
        .collect()
}

#[tokio::test]
async fn of_the_machine_itself_only_doors_opened_on_purpose_are_reached() {
    if needs_root("networks of applications") {
        return;
    }
    let net = Net::new().await;
    let (open, closed) = (service().await, service().await);
    let own = net.networks.open_doors("shop", &[open]).await.unwrap();
    let foreign = net.networks.open_doors("bank", &[closed]).await.unwrap();
    let targets = [
        at(own, open),
        at(own, closed),
        at(foreign, open),
        at(foreign, closed),
        at(Ipv4Addr::new(192, 0, 2, 2), open),
    ];
    let heard = net.hears("shop", &targets).await;
    assert!(
        heard.starts_with(&format!("{} said \"the machine\"\n", at(own, open))),
        "{heard}"
    );
    assert_eq!(heard.matches("said").count(), 1, "{heard}");
    net.networks.open_doors("shop", &[]).await.unwrap();
    let heard = net.hears("shop", &[at(own, open)]).await;
    assert_eq!(heard.matches("said").count(), 0, "{heard}");
    net.networks.open_doors("bank", &[]).await.unwrap();
    net.check_census().await;
}

#[tokio::test]
async fn the_outside_is_reached_in_the_name_of_the_machine_and_metadata_is_not() {
    if needs_root("networks of applications") {
        return;
    }
    let net = Net::new().await;
    let outside = Outside::new().await;
    assert_eq!(
        said(outside::METADATA, 8080).await.as_deref(),
        Some("you are 198.51.100.1")
    );
    let heard = net
        .hears(
            "shop",
            &[at(outside::HOST, 8080), at(outside::METADATA, 8080)],
        )
        .await;
    let expected = format!(
        "{} said \"you are {}\"\n",
        at(outside::HOST, 8080),
        outside::MACHINE
    );
    assert!(
        heard.starts_with(&expected) && heard.matches("said").count() == 1,
        "{heard}"
    );
    outside.end().await;
    net.check_census().await;
}

#[tokio::test]
async fn an_address_stays_with_its_instance_when_the_server_starts_again() {
    if needs_root("networks of applications") {
        return;
    }
    let mut net = Net::new().await;
    let (instance, attachment) = net.server("shop", "shop-web").await;
    net.networks.open_doors("shop", &[7_000]).await.unwrap();
    net.networks = Networks::open(&net.bench().dir("network"), &net.settings)
        .await
        .unwrap();
    assert_eq!(
        net.networks.attach("shop", "shop-web").await.unwrap(),
        attachment
    );
    assert_eq!(
        said(attachment.address, 8080).await.as_deref(),
        Some("hello")
    );
    let other = net.networks.attach("shop", "shop-web-2").await.unwrap();
    assert_ne!(other.address, attachment.address);
    instance.remove().await.unwrap();
    net.networks.retain(|_| false).await.unwrap();
    net.check_census().await;
}

#[tokio::test]
async fn a_dead_shim_leaves_no_interface_once_it_is_reaped() {
    if needs_root("networks of applications") {
        return;
    }
    let net = Net::new().await;
    let (instance, attachment) = net.server("shop", "shop-web").await;
    let mut status = instance.subscribe().await.unwrap();
    signal_shim(instance.dir(), Signal::KILL);
    wait_for(&mut status, |status| {
        status.phase == tappaas_local::Phase::Lost
    })
    .await;
    // Nobody supervises it, but it serves.
    assert_eq!(
        said(attachment.address, 8080).await.as_deref(),
        Some("hello")
    );
    reap(instance.dir()).await.unwrap();
    assert_eq!(said(attachment.address, 8080).await, None);
    net.networks.detach("shop", "shop-web").await.unwrap();
    net.check_census().await;
}

#[tokio::test]
async fn a_network_that_could_not_be_taken_down_whole_is_taken_down_by_the_next_try() {
    if needs_root("networks of applications") {
        return;
    }
    let net = Net::new().await;
    let attachment = net.networks.attach("shop", "shop-web").await.unwrap();
    let subnets = net.bench().dir("network/subnets");
    let base = Ipv4Addr::from_bits(attachment.gateway.to_bits() - 1);
    // What is mounted cannot be deleted, not even by root.
    let obstacle = subnets.join(base.to_string()).join("obstacle");
    fs::create_dir(&obstacle).unwrap();
    mount("none", &obstacle, "tmpfs", MountFlags::empty(), None).unwrap();
    net.networks.detach("shop", "shop-web").await.unwrap_err();
    unmount(&obstacle, UnmountFlags::empty()).unwrap();
    net.networks.detach("shop", "shop-web").await.unwrap();
    assert!(!subnets.join(base.to_string()).exists());
    net.check_census().await;
}
