use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use super::platform::until;

const CLIENTS: usize = 4;
/// Each client sends so many requests on a connection, then takes a new one.
const REQUESTS_OF_CONNECTION: u64 = 25;
/// With four clients, about 400 requests a second.
const PACE: Duration = Duration::from_millis(10);
const REPLY_MAX: Duration = Duration::from_secs(15);
const FAILURES_SHOWN: usize = 20;

/// Clients that ask for one page again and again, until they are told to stop.
#[derive(Debug)]
pub(super) struct Load {
    asked: Arc<Asked>,
    clients: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Asked {
    enough: AtomicBool,
    served: AtomicU64,
    failures: Mutex<Vec<String>>,
}

impl Load {
    /// Starts asking `host`, whose page is always one of `pages`.
    pub(super) fn on(port: u16, host: &'static str, pages: &'static [&'static str]) -> Self {
        let asked = Arc::new(Asked::default());
        let client = |_| {
            let asked = Arc::clone(&asked);
            std::thread::spawn(move || {
                while !asked.enough.load(Ordering::Relaxed) {
                    if let Err(error) = asked.on_one_connection(port, host, pages) {
                        asked.failures.lock().unwrap().push(error.to_string());
                    }
                }
            })
        };
        let clients = (0..CLIENTS).map(client).collect();
        Self { asked, clients }
    }

    /// Waits until so many more requests were answered well or one was not.
    pub(super) fn goes_on(&self, requests: u64) {
        let asked = &self.asked;
        let aim = asked.served.load(Ordering::Relaxed) + requests;
        until("requests are answered", || {
            asked.served.load(Ordering::Relaxed) >= aim
                || !asked.failures.lock().unwrap().is_empty()
        });
    }

    /// Ends it: every single request must have been answered well.
    #[track_caller]
    pub(super) fn none_failed(mut self) {
        self.asked.enough.store(true, Ordering::Relaxed);
        for client in self.clients.drain(..) {
            client.join().unwrap();
        }
        let served = self.none_failed_yet();
        println!("{served} requests, none failed");
    }

    /// Every request so far must have been answered well; how many there were.
    #[track_caller]
    pub(super) fn none_failed_yet(&self) -> u64 {
        let served = self.asked.served.load(Ordering::Relaxed);
        let failures = self.asked.failures.lock().unwrap();
        let shown = &failures[..failures.len().min(FAILURES_SHOWN)];
        assert!(
            failures.is_empty(),
            "{} of {} requests failed: {shown:#?}",
            failures.len(),
            served + failures.len() as u64
        );
        served
    }
}

impl Asked {
    fn on_one_connection(&self, port: u16, host: &str, pages: &[&str]) -> io::Result<()> {
        let connection = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        connection.set_read_timeout(Some(REPLY_MAX))?;
        connection.set_nodelay(true)?;
        let mut replies = BufReader::new(connection.try_clone()?);
        for _ in 0..REQUESTS_OF_CONNECTION {
            if self.enough.load(Ordering::Relaxed) {
                break;
            }
            (&connection)
                .write_all(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes())?;
            let (head, body) = read_reply(&mut replies)?;
            if !head.starts_with("HTTP/1.1 200 ") || !pages.contains(&body.as_str()) {
                return Err(io::Error::other(format!("{head}{body}")));
            }
            self.served.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(PACE);
        }
        Ok(())
    }
}

/// A reply whose length is said, as a page has.
fn read_reply(replies: &mut BufReader<TcpStream>) -> io::Result<(String, String)> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if replies.read_line(&mut head)? == 0 {
            return Err(io::Error::other(format!(
                "the connection ended in {head:?}"
            )));
        }
    }
    let lower = head.to_lowercase();
    let length = lower
        .lines()
        .find_map(|line| line.strip_prefix("content-length:"));
    let length = length.and_then(|length| length.trim().parse().ok());
    let length: usize = length.ok_or_else(|| io::Error::other(format!("no length in {head}")))?;
    let mut body = vec![0; length];
    replies.read_exact(&mut body)?;
    Ok((head, String::from_utf8_lossy(&body).into_owned()))
}
