use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::Result;

const CLIENTS: u64 = 8;
/// Of all clients together, each second.
const REQUESTS: u64 = 200;
/// After so many requests a client opens a new connection.
const CONNECTION_REQUESTS: u64 = 10;
const REPLY_MAX: Duration = Duration::from_secs(10);

/// Clients that ask for the front page of a host until they are told to stop.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    clients: Vec<JoinHandle<Vec<String>>>,
}

impl Load {
    pub(crate) fn start(host: &str, port: u16) -> Self {
        let (stop, answered) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let client = |_| {
            let mut client = Client {
                host: format!("{host}:{port}"),
                port,
                connection: None,
            };
            let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
            std::thread::spawn(move || client.run(&stop, &answered))
        };
        let clients = (0..CLIENTS).map(client).collect();
        Self {
            stop,
            answered,
            clients,
        }
    }

    /// Stops the clients. Answers how many requests were answered with status 200, if not one failed.
    pub(crate) fn end(self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        let mut failed = Vec::new();
        for client in self.clients {
            failed.extend(client.join().map_err(|_| "a client panicked")?);
        }
        let answered = self.answered.load(Ordering::Relaxed);
        match failed.as_slice() {
            [] if answered > 0 => Ok(answered),
            [] => Err("no request was made".into()),
            [first, ..] => {
                let (number, all) = (failed.len(), answered + failed.len() as u64);
                Err(format!("{number} of {all} requests failed, the first so: {first}").into())
            }
        }
    }
}

struct Client {
    host: String,
    port: u16,
    connection: Option<BufReader<TcpStream>>,
}

impl Client {
    #[expect(
        clippy::disallowed_methods,
        reason = "a pause between requests makes their rate"
    )]
    fn run(&mut self, stop: &AtomicBool, answered: &AtomicU64) -> Vec<String> {
        let mut failed = Vec::new();
        let mut requests = 0;
        while !stop.load(Ordering::Relaxed) {
            requests += 1;
            if requests % CONNECTION_REQUESTS == 0 {
                self.connection = None;
            }
            match self.request() {
                Ok(()) => _ = answered.fetch_add(1, Ordering::Relaxed),
                Err(error) => {
                    self.connection = None;
                    failed.push(error.to_string());
                }
            }
            std::thread::sleep(Duration::from_micros(1_000_000 * CLIENTS / REQUESTS));
        }
        failed
    }

    fn request(&mut self) -> Result {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let connection = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
                connection.set_read_timeout(Some(REPLY_MAX))?;
                BufReader::new(connection)
            }
        };
        let request = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", self.host);
        connection.get_mut().write_all(request.as_bytes())?;
        let kept = read_reply(&mut connection)?;
        self.connection = kept.then_some(connection);
        Ok(())
    }
}

/// Reads a reply with status 200 to its end, and says whether the connection is kept.
fn read_reply(connection: &mut BufReader<TcpStream>) -> Result<bool> {
    let (mut kept, mut length) = (true, None);
    let status = read_line(connection)?;
    loop {
        let line = read_line(connection)?.to_ascii_lowercase();
        match line.split_once(':') {
            None => break,
            Some(("connection", value)) => kept = value.trim() != "close",
            Some(("content-length", value)) => length = Some(value.trim().parse()?),
            Some(_) => {}
        }
    }
    match length {
        Some(length) => skip(connection, length)?,
        None => skip_chunks(connection)?,
    }
    match status.split(' ').nth(1) {
        Some("200") => Ok(kept),
        _ => Err(format!("`{status}`").into()),
    }
}

fn skip_chunks(connection: &mut BufReader<TcpStream>) -> Result {
    loop {
        let length = u64::from_str_radix(&read_line(connection)?, 16)?;
        skip(connection, length + 2)?;
        if length == 0 {
            return Ok(());
        }
    }
}

fn skip(connection: &mut BufReader<TcpStream>, length: u64) -> Result {
    let read = std::io::copy(&mut connection.take(length), &mut std::io::sink())?;
    match read == length {
        true => Ok(()),
        false => Err("the reply ended early".into()),
    }
}

fn read_line(connection: &mut BufReader<TcpStream>) -> Result<String> {
    const LINE_MAX: u64 = 16 << 10;
    let mut line = String::new();
    connection.take(LINE_MAX).read_line(&mut line)?;
    match line.strip_suffix("\r\n") {
        Some(line) => Ok(line.to_owned()),
        None => Err("the connection was closed in a reply's head".into()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn served(reply: &'static str) -> Result<u64> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                let mut connection = BufReader::new(connection.unwrap());
                std::thread::spawn(move || {
                    while read_line(&mut connection).is_ok() {
                        if read_line(&mut connection).is_ok_and(|line| !line.is_empty()) {
                            read_line(&mut connection).unwrap();
                        }
                        connection.get_mut().write_all(reply.as_bytes()).unwrap();
                    }
                });
            }
        });
        let load = Load::start("x.localhost", port);
        let answered = Arc::clone(&load.answered);
        let enough = || Ok(answered.load(Ordering::Relaxed) > 50);
        crate::waiting::within(Duration::from_secs(1), enough)?;
        load.end()
    }

    #[test]
    fn answered_requests_are_counted() {
        assert!(served("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap() > 50);
        let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
        assert!(served(chunked).unwrap() > 50);
    }

    #[test]
    fn a_request_that_fails_is_told() {
        let error = served("HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n").unwrap_err();
        assert!(error.to_string().contains("`HTTP/1.1 503 No`"), "{error}");
        let error = served("HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\n");
        assert!(error.is_err());
    }
}
