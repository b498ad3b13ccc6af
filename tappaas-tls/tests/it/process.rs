//! The edge as a process of its own.

use std::{
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use futures::FutureExt as _;
use http::Response;
use rustix::process::{Pid, Signal, geteuid, getpriority_process, kill_process, test_kill_process};
use tappaas_core::backend::IngressProvider;
use tappaas_tls::{EdgeConfig, Ingress, Place};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    net::TcpListener,
    process::{Child, Command},
    sync::Semaphore,
    task::JoinSet,
};

use crate::{
    client::{Raw, get},
    origin::{Origin, full},
    rig::{HOST, eventually, id, start, web},
};

pub(crate) const HELPER: &str = env!("CARGO_BIN_EXE_tappaas-edge");

/// A state directory whose edges end with it, also when a test fails.
#[derive(Debug)]
pub(crate) struct Home(TempDir);

impl Home {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    async fn ingress(&self, change: impl FnOnce(&mut EdgeConfig)) -> Ingress {
        start(
            self.path(),
            Place::Process {
                helper: HELPER.into(),
            },
            change,
        )
        .await
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        for pid in edges(self.path()) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}

/// The edges of a state directory that run.
fn edges(state: &Path) -> Vec<Pid> {
    let processes = std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let of_state = |pid: &i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut arguments = line.split(|byte| *byte == 0).skip(1);
        arguments.next() == Some(b"__edge")
            && arguments.next() == Some(state.as_os_str().as_encoded_bytes())
    };
    processes
        .filter(of_state)
        .filter_map(Pid::from_raw)
        .collect()
}

fn runs(pid: u32) -> bool {
    // A process that ended and is not collected yet does not run any more.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

fn pid(pid: u32) -> Pid {
    Pid::from_raw(i32::try_from(pid).unwrap()).unwrap()
}

/// Clients that ask all the time, each over one connection for some requests and then over another.
struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    clients: JoinSet<()>,
}

impl Load {
    fn start(address: SocketAddr) -> Self {
        let (stop, answered) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicUsize::new(0)),
        );
        let mut clients = JoinSet::new();
        for client in 0..8 {
            let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
            clients.spawn(async move {
                while !stop.load(SeqCst) {
                    let mut connection = Raw::open(address).await;
                    for _ in 0..=client * 4 {
                        let answer = connection
                            .ask(format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n"))
                            .await;
                        assert_eq!((answer.status(), &*answer.body), (200, "ok"));
                        answered.fetch_add(1, SeqCst);
                        if answer.header("connection") == Some("close") {
                            break;
                        }
                    }
                }
            });
        }
        Self {
            stop,
            answered,
            clients,
        }
    }

    /// Waits for this many more answers.
    async fn more(&self, answers: usize) {
        let goal = self.answered.load(SeqCst) + answers;
        eventually("more requests are answered", || async {
            self.answered.load(SeqCst) >= goal
        })
        .await;
    }

    /// Ends the clients; every one of their requests was answered.
    async fn end(mut self) {
        self.stop.store(true, SeqCst);
        while let Some(client) = self.clients.join_next().await {
            client.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_edge_serves_on_when_its_server_is_killed_and_is_adopted_by_the_next() {
    let (home, origin) = (Home::new(), Origin::text("ok").await);
    let address = free_address().await;
    let (mut server, edge) = server(home.path(), address, origin.address).await;
    let load = Load::start(address);
    load.more(100).await;
    kill_process(pid(server.id().unwrap()), Signal::KILL).unwrap();
    server.wait().await.unwrap();
    load.more(500).await;
    let (mut second, adopted) = self::server(home.path(), address, origin.address).await;
    assert_eq!(adopted, edge, "the edge kept its process");
    load.more(100).await;
    load.end().await;
    second.kill().await.unwrap();
    assert!(runs(edge));
    assert_eq!(
        rustix::process::getsid(Some(pid(edge))).unwrap(),
        pid(edge),
        "it leads a session of its own"
    );
}

/// Starts the example `edge` and waits until it says which edge serves.
async fn server(state: &Path, listen: SocketAddr, endpoint: SocketAddr) -> (Child, u32) {
    let program = PathBuf::from(HELPER)
        .with_file_name("examples")
        .join("edge");
    assert!(
        program.exists(),
        "{} is missing: `cargo test` without `--test` builds it",
        program.display()
    );
    let mut child = Command::new(program)
        .arg(state)
        .args([listen.to_string(), HOST.to_owned(), endpoint.to_string()])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .await
        .unwrap();
    let edge = line
        .split(' ')
        .nth(1)
        .unwrap_or_else(|| panic!("it did not start: {line:?}"));
    (child, edge.parse().unwrap())
}

async fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap()
}

#[tokio::test]
async fn a_question_that_is_given_up_spoils_no_later_answer() {
    let (home, origin) = (Home::new(), Origin::text("ok").await);
    let ingress = home.ingress(|_| {}).await;
    ingress.apply(&web(3, &[origin.endpoint()])).await.unwrap();
    for _ in 0..20 {
        // Asked, and given up before the answer is read, unless it is there at once.
        _ = ingress.observe(&id("web")).now_or_never();
        assert!(ingress.observe(&id("other")).await.unwrap().is_none());
        assert!(ingress.observe(&id("web")).await.unwrap().is_some());
    }
}

#[tokio::test]
async fn an_ingress_finds_the_routes_that_the_edge_serves() {
    let (home, origin) = (Home::new(), Origin::text("ok").await);
    let first = home.ingress(|_| {}).await;
    first.apply(&web(3, &[origin.endpoint()])).await.unwrap();
    let (address, edge) = (first.listen().await.unwrap()[0], first.pid().await.unwrap());
    drop(first);
    assert_eq!(get(address, HOST, "/").await.body, "ok");
    let second = home.ingress(|_| {}).await;
    assert_eq!(
        (second.pid().await.unwrap(), second.listen().await.unwrap()),
        (edge, vec![address])
    );
    assert_eq!(second.list().await.unwrap(), [id("web")]);
    assert_eq!(
        second.observe(&id("web")).await.unwrap().unwrap().route,
        web(3, &[origin.endpoint()])
    );
    second.apply(&web(4, &[])).await.unwrap();
    assert_eq!(get(address, HOST, "/").await.status(), 503);
    assert!(
        second
            .metrics()
            .await
            .unwrap()
            .contains("tappaas_edge_table_generation 2")
    );
    second.stop(Duration::from_secs(5)).await.unwrap();
    eventually("the kernel has buried it", || async { !runs(edge) }).await;
    assert!(
        !home.path().join("edge.sock").exists(),
        "nothing is left listening"
    );
}

#[tokio::test]
async fn an_edge_that_is_killed_comes_back_with_its_routes() {
    let (home, origin) = (Home::new(), Origin::text("ok").await);
    let address = free_address().await;
    let ingress = home.ingress(|edge| edge.listen = vec![address]).await;
    ingress.apply(&web(1, &[origin.endpoint()])).await.unwrap();
    let first = ingress.pid().await.unwrap();
    kill_process(pid(first), Signal::KILL).unwrap();
    eventually("another edge serves", || async {
        tokio::net::TcpStream::connect(address).await.is_ok()
            && ingress.pid().await.is_ok_and(|pid| pid != first)
    })
    .await;
    assert_eq!(get(address, HOST, "/").await.body, "ok");
    assert_eq!(
        ingress
            .observe(&id("web"))
            .await
            .unwrap()
            .unwrap()
            .generation,
        1
    );
    ingress.apply(&web(2, &[])).await.unwrap();
    assert_eq!(get(address, HOST, "/").await.status(), 503);
}

#[tokio::test]
async fn an_edge_restores_its_table_without_a_server() {
    let (home, origin) = (Home::new(), Origin::text("ok").await);
    let address = free_address().await;
    let ingress = home.ingress(|edge| edge.listen = vec![address]).await;
    ingress.apply(&web(1, &[origin.endpoint()])).await.unwrap();
    ingress.stop(Duration::ZERO).await.unwrap();
    eventually("the first edge has gone", || async {
        edges(home.path()).is_empty()
    })
    .await;
    let mut edge = Command::new(HELPER);
    let mut edge = edge
        .arg("__edge")
        .arg(home.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    eventually("the second edge listens", || async {
        tokio::net::TcpStream::connect(address).await.is_ok()
    })
    .await;
    assert_eq!(get(address, HOST, "/").await.body, "ok");
    let mut rival = Command::new(HELPER);
    let rival = rival.arg("__edge").arg(home.path()).output().await.unwrap();
    assert!(!rival.status.success(), "one directory has one edge");
    assert!(
        String::from_utf8_lossy(&rival.stdout).contains("runs in"),
        "{rival:?}"
    );
    edge.kill().await.unwrap();
}

#[tokio::test]
async fn every_thread_of_an_edge_goes_before_those_of_applications() {
    let home = Home::new();
    let _ingress = home.ingress(|_| {}).await;
    let edge = edges(home.path())[0];
    let own = getpriority_process(None).unwrap();
    let may = geteuid().is_root();
    let threads = std::fs::read_dir(format!("/proc/{}/task", edge.as_raw_nonzero())).unwrap();
    let threads = threads.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let nice = threads.map(|thread| {
        let thread = Pid::from_raw(thread.parse().unwrap());
        getpriority_process(thread).unwrap()
    });
    let nice: Vec<i32> = nice.collect();
    assert!(nice.len() > 1, "it has more than one thread");
    let wanted = if may { own.min(-10) } else { own };
    assert_eq!(nice, vec![wanted; nice.len()]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_edge_takes_over_and_no_request_is_lost() {
    let (home, origin) = (Home::new(), Origin::text("ok").await);
    let mut ingress = home.ingress(|_| {}).await;
    ingress.apply(&web(1, &[origin.endpoint()])).await.unwrap();
    let address = ingress.listen().await.unwrap()[0];
    let load = Load::start(address);
    for limit in [101, 102, 103] {
        load.more(300).await;
        let old = ingress.pid().await.unwrap();
        // Another configuration is taken up by another edge, as another version is.
        ingress = home.ingress(|edge| edge.limits.headers = limit).await;
        assert_ne!(ingress.pid().await.unwrap(), old);
        assert_eq!(ingress.listen().await.unwrap(), [address]);
        load.more(300).await;
        eventually("the old edge ends once its connections have", || async {
            !runs(old)
        })
        .await;
    }
    assert_eq!(
        ingress
            .observe(&id("web"))
            .await
            .unwrap()
            .unwrap()
            .generation,
        1
    );
    load.end().await;
    assert_eq!(edges(home.path()).len(), 1);
}

#[tokio::test]
async fn what_is_left_in_an_old_edge_is_counted_and_kept_up_to_date() {
    let (home, gate, arrived) = (
        Home::new(),
        Arc::new(Semaphore::new(0)),
        Arc::new(AtomicUsize::new(0)),
    );
    let (held, count) = (Arc::clone(&gate), Arc::clone(&arrived));
    let old = Origin::http(move |_| {
        let (held, count) = (Arc::clone(&held), Arc::clone(&count));
        async move {
            count.fetch_add(1, SeqCst);
            held.acquire().await.unwrap().forget();
            Response::new(full("old"))
        }
    })
    .await;
    let new = Origin::text("new").await;
    let first = home.ingress(|_| {}).await;
    first.apply(&web(1, &[old.endpoint()])).await.unwrap();
    let (address, first_edge) = (first.listen().await.unwrap()[0], first.pid().await.unwrap());
    // A connection of the old edge that is between two requests, and one with a request in flight.
    let mut waiting = Raw::open(address).await;
    gate.add_permits(1);
    waiting
        .ask(format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n"))
        .await;
    let mut busy = Raw::open(address).await;
    busy.send(format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n"))
        .await;
    eventually("the request is there", || async {
        arrived.load(SeqCst) == 2
    })
    .await;
    drop(first);
    let second = home.ingress(|edge| edge.limits.headers = 99).await;
    second.apply(&web(2, &[new.endpoint()])).await.unwrap();
    let draining = || async { second.observe(&id("web")).await.unwrap().unwrap().draining };
    let left = draining().await;
    assert_eq!(
        (left.len(), &left[0].endpoint, left[0].in_flight),
        (1, &old.endpoint(), 1)
    );
    let answer = waiting
        .ask(format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n"))
        .await;
    assert_eq!(answer.body, "new", "the old edge has the new table as well");
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(runs(first_edge));
    gate.add_permits(1);
    assert_eq!(busy.answer().await.body, "old");
    eventually("it is drained", || async { draining().await.is_empty() }).await;
    eventually("the old edge ends", || async { !runs(first_edge) }).await;
    assert_eq!(get(address, HOST, "/").await.body, "new");
}

#[tokio::test]
async fn an_edge_that_is_stopped_leaves_no_edge_before_it_behind() {
    let home = Home::new();
    let held = Origin::tcp(|stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let first = home.ingress(|_| {}).await;
    first.apply(&web(1, &[held.endpoint()])).await.unwrap();
    let address = first.listen().await.unwrap()[0];
    let mut busy = Raw::open(address).await;
    busy.send(format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n\r\n"))
        .await;
    eventually("the request is there", || async { held.connections() == 1 }).await;
    drop(first);
    let second = home.ingress(|edge| edge.limits.headers = 99).await;
    assert_eq!(edges(home.path()).len(), 2);
    second.stop(Duration::from_millis(100)).await.unwrap();
    eventually("both have gone", || async { edges(home.path()).is_empty() }).await;
    assert_eq!(busy.rest().await, "");
}

#[tokio::test]
async fn a_taker_that_fails_changes_nothing() {
    let (home, origin) = (Home::new(), Origin::text("ok").await);
    let ingress = home.ingress(|_| {}).await;
    ingress.apply(&web(1, &[origin.endpoint()])).await.unwrap();
    let (address, edge) = (
        ingress.listen().await.unwrap()[0],
        ingress.pid().await.unwrap(),
    );
    let squatter = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let taken = squatter.local_addr().unwrap();
    let second = home.ingress(|edge| edge.listen.push(taken)).await;
    assert_eq!(
        second.pid().await.unwrap(),
        edge,
        "the one that serves is kept"
    );
    second.apply(&web(2, &[origin.endpoint()])).await.unwrap();
    assert_eq!(get(address, HOST, "/").await.body, "ok");
}

#[tokio::test]
async fn nobody_else_can_drive_the_edge() {
    let home = Home::new();
    let state = home.path().join("made/by/the/edge").join("d".repeat(100));
    let ingress = start(
        &state,
        Place::Process {
            helper: HELPER.into(),
        },
        |_| {},
    )
    .await;
    let edge = ingress.pid().await.unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&state), 0o700);
    ingress.apply(&web(1, &[])).await.unwrap();
    for file in [
        "edge.sock",
        "edge.json",
        "edge.lock",
        "edge.log",
        "table.json",
        "access.log",
    ] {
        assert_eq!(mode(&state.join(file)), 0o600, "{file}");
    }
    test_kill_process(pid(edge)).unwrap();
    ingress.stop(Duration::ZERO).await.unwrap();
}

#[tokio::test]
async fn a_helper_that_is_none_is_told() {
    let state = tempfile::tempdir().unwrap();
    for (helper, word) in [
        ("/bin/true", "helper_main"),
        ("/nonexistent", "cannot start the edge"),
    ] {
        let config = tappaas_tls::IngressConfig {
            state: state.path().to_owned(),
            place: Place::Process {
                helper: helper.into(),
            },
            edge: EdgeConfig::default(),
        };
        let error = Ingress::start(config, Arc::new(crate::rig::SystemClock))
            .await
            .unwrap_err();
        let told = tappaas_core::Chain(&error).to_string();
        assert!(told.contains(word), "{told}");
    }
}
