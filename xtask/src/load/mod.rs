//! Clients that ask a host, each in its own manner and at its own pace, until they are told to stop.

mod client;
mod record;
mod reply;
mod socket;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use client::Client;
use record::Record;
pub(crate) use record::{Figures, Lap};

use crate::Result;

/// How a client asks.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Manner {
    /// Many requests on one connection.
    Kept,
    /// A new connection for every request.
    New,
    /// Messages on a WebSocket, which lasts for some seconds.
    WebSocket,
    /// An answer that takes two seconds.
    SlowAnswer,
    /// A request whose body takes two seconds.
    SlowUpload,
}

impl Manner {
    pub(crate) const ALL: [Self; 5] = [
        Self::Kept,
        Self::New,
        Self::WebSocket,
        Self::SlowAnswer,
        Self::SlowUpload,
    ];

    /// A request is under way for seconds.
    pub(crate) fn lasts(self) -> bool {
        matches!(self, Self::WebSocket | Self::SlowAnswer | Self::SlowUpload)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kept => "kept connections",
            Self::New => "new connections",
            Self::WebSocket => "WebSocket messages",
            Self::SlowAnswer => "slow answers",
            Self::SlowUpload => "slow uploads",
        }
    }
}

/// So many clients that ask in one manner.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clients {
    pub(crate) manner: Manner,
    pub(crate) count: u32,
    /// Requests a second of all of them together, where they answer in time.
    pub(crate) rate: u32,
}

/// 200 requests a second, for applications that answer any path.
pub(crate) const LIGHT: &[Clients] = &[
    Clients {
        manner: Manner::Kept,
        count: 7,
        rate: 180,
    },
    Clients {
        manner: Manner::New,
        count: 1,
        rate: 20,
    },
];

/// Clients at work.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    record: Arc<Record>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    pub(crate) fn start(host: &str, front: SocketAddr, clients: &[Clients]) -> Self {
        let (stop, record) = (Arc::<AtomicBool>::default(), Arc::<Record>::default());
        let each = clients
            .iter()
            .flat_map(|clients| (0..clients.count).map(move |_| clients));
        let threads = each.map(|clients| {
            let mut client = Client::new(host, front, *clients);
            let (stop, record) = (Arc::clone(&stop), Arc::clone(&record));
            std::thread::spawn(move || client.run(&stop, &record))
        });
        Self {
            threads: threads.collect(),
            stop,
            record,
        }
    }

    /// What was answered since the last time it was asked, or since the start.
    pub(crate) fn lap(&self) -> Lap {
        self.record.take()
    }

    /// Stops the clients, waits for the answers that they wait for, and tells what was answered since the last lap.
    pub(crate) fn end(self) -> Result<Lap> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().map_err(|_| "a client panicked")?;
        }
        Ok(self.record.take())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Write as _};
    use std::net::{Ipv4Addr, TcpListener};
    use std::time::Duration;

    use super::*;
    use crate::waiting::within;

    fn served(answer: &'static str) -> Result<Lap> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let front = listener.local_addr()?;
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let mut connection = BufReader::new(connection.unwrap());
                std::thread::spawn(move || {
                    while reply::read_head(&mut connection).is_ok() {
                        connection.get_mut().write_all(answer.as_bytes()).unwrap();
                    }
                });
            }
        });
        let load = Load::start("x.localhost", front, LIGHT);
        let mut lap = Lap::default();
        within(Duration::from_secs(5), || {
            lap.add(load.lap());
            Ok(lap.all().answered + lap.all().failed > 20)
        })?;
        lap.add(load.end()?);
        Ok(lap)
    }

    #[test]
    fn answered_requests_are_counted_by_manner() {
        let lap = served("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
        assert!(lap.of(Manner::Kept).answered > lap.of(Manner::New).answered);
        assert_eq!(lap.all().failed, 0, "{:?}", lap.failures());
        assert!(lap.whole().unwrap() > 20);
        let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
        assert!(served(chunked).unwrap().whole().unwrap() > 20);
    }

    #[test]
    fn a_request_that_fails_is_told() {
        let failing = served("HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n").unwrap();
        let error = failing.whole().unwrap_err().to_string();
        assert!(error.contains("HTTP/1.1 503 No"), "{error}");
        let short = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\n";
        // Its end comes as a time-out, or when the next answer is taken for the body of this one.
        assert!(served(short).unwrap().whole().is_err());
    }
}
