use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::Result;
use crate::report::now;

const REPLY_MAX: Duration = Duration::from_secs(30);
const BODY_BYTES_MAX: u64 = 64 << 20;
const LINE_BYTES_MAX: u64 = 16 << 10;

/// A connection to the API's socket, which is kept.
pub(super) struct Session(BufReader<UnixStream>);

impl Session {
    pub(super) fn open(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(REPLY_MAX))?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Asks, and answers the body of the reply, which has to be of the kind 2xx.
    pub(super) fn ask(&mut self, method: &str, path: &str, body: &str) -> Result<Vec<u8>> {
        let length = body.len();
        let request = format!(
            "{method} /api/v1/tenants/default/projects/default/environments/production{path} HTTP/1.1\r\n\
             Host: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        self.0.get_mut().write_all(request.as_bytes())?;
        let status = self.line()?;
        let mut length = 0;
        loop {
            let line = self.line()?.to_ascii_lowercase();
            match line.split_once(':') {
                None => break,
                Some(("content-length", value)) => length = value.trim().parse()?,
                Some(("transfer-encoding", _)) => return Err("the reply is in chunks".into()),
                Some(_) => {}
            }
        }
        if length > BODY_BYTES_MAX {
            return Err(format!("a reply of {length} bytes").into());
        }
        let mut body = vec![0; usize::try_from(length)?];
        self.0.read_exact(&mut body)?;
        match status.split(' ').nth(1) {
            Some(code) if code.starts_with('2') => Ok(body),
            _ => Err(format!("`{status}`: {}", String::from_utf8_lossy(&body)).into()),
        }
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        let mut limited = (&mut self.0).take(LINE_BYTES_MAX);
        limited.read_line(&mut line)?;
        match line.strip_suffix("\r\n") {
            Some(line) => Ok(line.to_owned()),
            None => Err("the connection was closed in a reply's head".into()),
        }
    }
}

/// Readers, each with a connection of its own and one request after the other, for `time`. Answers the milliseconds of each request.
pub(super) fn read_for(
    socket: &Path,
    readers: usize,
    time: Duration,
    path: impl Fn(usize) -> String + Copy + Send + 'static,
) -> Result<Vec<f64>> {
    let stop = std::sync::Arc::<AtomicBool>::default();
    let reader = |reader: usize| {
        let (stop, socket) = (stop.clone(), PathBuf::from(socket));
        std::thread::spawn(move || {
            read_until(&socket, &stop, reader, path).map_err(|error| error.to_string())
        })
    };
    let readers: Vec<_> = (0..readers).map(reader).collect();
    let began = now();
    crate::waiting::within(time, || Ok(false))?;
    stop.store(true, Ordering::Relaxed);
    let took = began.elapsed();
    let mut latencies = Vec::new();
    for reader in readers {
        latencies.extend(reader.join().map_err(|_| "a reader panicked")??);
    }
    match took < time * 2 {
        true => Ok(latencies),
        false => Err("the readers could not be stopped in time".into()),
    }
}

fn read_until(
    socket: &Path,
    stop: &AtomicBool,
    reader: usize,
    path: impl Fn(usize) -> String,
) -> Result<Vec<f64>> {
    let mut session = Session::open(socket)?;
    let mut latencies = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        // Neighbouring requests are about different things, and so are those of different readers.
        let path = path(reader * 7919 + latencies.len() * 104_729);
        let began = now();
        session.ask("GET", &path, "")?;
        latencies.push(began.elapsed().as_secs_f64() * 1e3);
    }
    Ok(latencies)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::scratch::Scratch;

    fn answered(reply: &'static str) -> Result<Vec<u8>> {
        let scratch = Scratch::new(&format!("socket-{}", reply.len()))?;
        let socket = scratch.path.join("s");
        let listener = UnixListener::bind(&socket)?;
        let server = std::thread::spawn(move || {
            let (mut connection, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let read = connection.read(&mut request).unwrap();
            connection.write_all(reply.as_bytes()).unwrap();
            String::from_utf8_lossy(&request[..read]).into_owned()
        });
        let body = Session::open(&socket)?.ask("GET", "/applications/a", "");
        assert!(
            server
                .join()
                .unwrap()
                .contains("/production/applications/a HTTP/1.1\r\n")
        );
        body
    }

    #[test]
    fn a_reply_is_its_body() {
        let reply = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        assert_eq!(answered(reply).unwrap(), b"ok");
    }

    #[test]
    fn a_refusal_is_an_error_with_its_reason() {
        let reply = "HTTP/1.1 404 Not Found\r\nContent-Length: 6\r\n\r\nno app";
        let error = answered(reply).unwrap_err().to_string();
        assert!(error.contains("404") && error.contains("no app"), "{error}");
    }
}
