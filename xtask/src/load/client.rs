use std::io::{BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::record::Record;
use super::reply::Reply;
use super::socket::Socket;
use super::{Clients, Manner};
use crate::Result;
use crate::report::now;
use crate::waiting::pause;

const REPLY_MAX: Duration = Duration::from_secs(15);
/// How long a WebSocket lasts: less than the ten seconds for which a release that is replaced may go on.
const SOCKET_LIFE: Duration = Duration::from_secs(5);
const UPLOAD_PIECES: usize = 20;
const PIECE_BYTES: usize = 4 << 10;
const PIECE_PAUSE: Duration = Duration::from_millis(100);

/// One client: it asks when a request is due, however late the answers before came.
pub(super) struct Client {
    host: String,
    front: SocketAddr,
    manner: Manner,
    every: Duration,
    kept: Option<BufReader<TcpStream>>,
    socket: Option<(Socket, Instant)>,
    sent: u64,
}

impl Client {
    pub(super) fn new(host: &str, front: SocketAddr, clients: Clients) -> Self {
        Self {
            host: format!("{host}:{}", front.port()),
            front,
            manner: clients.manner,
            every: Duration::from_secs(1) * clients.count / clients.rate,
            kept: None,
            socket: None,
            sent: 0,
        }
    }

    pub(super) fn run(&mut self, stop: &AtomicBool, record: &Record) {
        let mut due = now();
        while !stop.load(Ordering::Relaxed) {
            pause(due.saturating_duration_since(now()));
            self.sent += 1;
            match self.request() {
                Ok(()) => record.answered(self.manner, due.elapsed()),
                Err(error) => {
                    self.kept = None;
                    self.socket = None;
                    record.failed(self.manner, &error.to_string());
                }
            }
            // What is far behind does not try to catch up with a burst.
            due = (due + self.every).max(now().checked_sub(REPLY_MAX).unwrap_or(due));
        }
        if let Some((socket, _)) = self.socket.take() {
            // Nobody asks for more.
            let _ = socket.close();
        }
    }

    fn request(&mut self) -> Result {
        match self.manner {
            Manner::Kept => {
                let mut connection = match self.kept.take() {
                    Some(connection) => connection,
                    None => self.connect()?,
                };
                let kept = self.ask(&mut connection, "GET / HTTP/1.1", "")?;
                self.kept = kept.then_some(connection);
                Ok(())
            }
            Manner::New => {
                let mut connection = self.connect()?;
                self.ask(&mut connection, "GET / HTTP/1.1", "Connection: close\r\n")
                    .map(drop)
            }
            Manner::WebSocket => self.message(),
            Manner::SlowAnswer => {
                let mut connection = self.connect()?;
                self.ask(&mut connection, "GET /chunked/2 HTTP/1.1", "")
                    .map(drop)
            }
            Manner::SlowUpload => self.upload(),
        }
    }

    fn connect(&self) -> Result<BufReader<TcpStream>> {
        let connection = TcpStream::connect(self.front)?;
        connection.set_read_timeout(Some(REPLY_MAX))?;
        connection.set_nodelay(true)?;
        Ok(BufReader::new(connection))
    }

    fn ask(&self, connection: &mut BufReader<TcpStream>, line: &str, fields: &str) -> Result<bool> {
        let request = format!("{line}\r\nHost: {}\r\n{fields}\r\n", self.host);
        connection.get_mut().write_all(request.as_bytes())?;
        Reply::read(connection)?.good()
    }

    fn message(&mut self) -> Result {
        let (mut socket, since) = match self.socket.take() {
            Some(open) => open,
            None => {
                let socket = Socket::open(self.connect()?, &self.host, "/ws/echo")?;
                (socket, now())
            }
        };
        socket.echo(&format!("message {}", self.sent))?;
        match since.elapsed() < SOCKET_LIFE {
            true => self.socket = Some((socket, since)),
            false => socket.close()?,
        }
        Ok(())
    }

    fn upload(&self) -> Result {
        let mut connection = self.connect()?;
        let head = format!(
            "POST /echo HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n\r\n",
            self.host,
            UPLOAD_PIECES * PIECE_BYTES
        );
        connection.get_mut().write_all(head.as_bytes())?;
        for _ in 0..UPLOAD_PIECES {
            connection.get_mut().write_all(&[b'x'; PIECE_BYTES])?;
            pause(PIECE_PAUSE);
        }
        Reply::read(&mut connection)?.good().map(drop)
    }
}
