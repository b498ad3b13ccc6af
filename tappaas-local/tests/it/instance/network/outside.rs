//! The world outside of the machine, made of a network namespace.

use std::{
    fs::File,
    io::Write,
    net::{Ipv4Addr, TcpListener},
    os::fd::AsRawFd,
};

use nix::sched::{CloneFlags, unshare};
use rtnetlink::{Handle, LinkUnspec, LinkVeth, new_connection};
use tokio::sync::{Mutex, MutexGuard, oneshot};

/// The machine's address towards the outside. Of a block for documentation: nobody has it.
pub(super) const MACHINE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// A host outside, which tells everybody who connects to port 8080 whom it takes them for.
pub(super) const HOST: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
/// Where clouds tell machines their secrets. This one would answer, too.
pub(super) const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);

/// Exists while this value does.
pub(super) struct Outside {
    near: String,
    handle: Handle,
    _end: oneshot::Sender<()>,
    _alone: MutexGuard<'static, ()>,
}

impl Outside {
    /// Waits until no other test has one: their addresses are the same.
    pub(super) async fn new() -> Self {
        static ONE: Mutex<()> = Mutex::const_new(());
        let alone = ONE.lock().await;
        let (connection, handle, _) = new_connection().unwrap();
        tokio::spawn(connection);
        let (near, far) = (
            format!("tpo{:05}n", std::process::id()),
            format!("tpo{:05}f", std::process::id()),
        );
        let (end, ended) = oneshot::channel();
        let (namespace, wired, ready) = thread(far.clone(), ended);
        let namespace = namespace.await.unwrap();
        handle
            .link()
            .add(LinkVeth::new(&near, &far).build())
            .execute()
            .await
            .unwrap();
        let index = |name: &str| {
            let found = std::fs::read_to_string(format!("/sys/class/net/{name}/ifindex")).unwrap();
            found.trim().parse::<u32>().unwrap()
        };
        let (near_index, far_index) = (index(&near), index(&far));
        let moved = LinkUnspec::new_with_index(far_index)
            .setns_by_fd(namespace.as_raw_fd())
            .build();
        handle.link().set(moved).execute().await.unwrap();
        handle
            .address()
            .add(near_index, MACHINE.into(), 24)
            .execute()
            .await
            .unwrap();
        handle
            .link()
            .set(LinkUnspec::new_with_index(near_index).up().build())
            .execute()
            .await
            .unwrap();
        wired.send(()).unwrap();
        ready.await.unwrap();
        let to_metadata = rtnetlink::RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(METADATA, 32)
            .gateway(HOST)
            .build();
        handle.route().add(to_metadata).execute().await.unwrap();
        Self {
            near,
            handle,
            _end: end,
            _alone: alone,
        }
    }

    pub(super) async fn end(self) {
        let index =
            std::fs::read_to_string(format!("/sys/class/net/{}/ifindex", self.near)).unwrap();
        self.handle
            .link()
            .del(index.trim().parse().unwrap())
            .execute()
            .await
            .unwrap();
    }
}

type Steps = (
    oneshot::Receiver<File>,
    oneshot::Sender<()>,
    oneshot::Receiver<()>,
);

/// A thread of its own, for a network namespace belongs to a thread.
fn thread(far: String, ended: oneshot::Receiver<()>) -> Steps {
    let (namespace, taken) = oneshot::channel();
    let (wired, wire) = oneshot::channel();
    let (ready, served) = oneshot::channel();
    std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        namespace
            .send(File::open("/proc/thread-self/ns/net").unwrap())
            .unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async move {
            wire.await.unwrap();
            configure(&far).await;
            serve();
            ready.send(()).unwrap();
            ended.await.ok();
        });
    });
    (taken, wired, served)
}

async fn configure(far: &str) {
    let (connection, handle, _) = new_connection().unwrap();
    tokio::spawn(connection);
    let mut links = handle.link().get().match_name(far.to_owned()).execute();
    let link = futures::TryStreamExt::try_next(&mut links)
        .await
        .unwrap()
        .unwrap();
    let index = link.header.index;
    for address in [HOST, METADATA] {
        handle
            .address()
            .add(index, address.into(), if address == HOST { 24 } else { 32 })
            .execute()
            .await
            .unwrap();
    }
    for index in [1, index] {
        handle
            .link()
            .set(LinkUnspec::new_with_index(index).up().build())
            .execute()
            .await
            .unwrap();
    }
}

/// Threads inherit the namespace.
fn serve() {
    let listener = TcpListener::bind("0.0.0.0:8080").unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let peer = stream.peer_addr().unwrap().ip();
            write!(stream, "you are {peer}").ok();
        }
    });
}
