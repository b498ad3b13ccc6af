//! The file server inside the image of a static site: `fileserver FOLDER` serves a folder over HTTP/1.1 on port `$PORT`.
//!
//! `build.rs` compiles it, without any crate, to a program that is linked statically, so that the image runs on nothing but itself. It trusts that the folder does not change while it runs, and stands behind an edge: TLS, compression, access log and
//! protection against slow clients are not its job.
//!
//! It keeps no state that a signal could damage, so it leaves `SIGTERM` to the kernel: whoever stops it has taken it out of the routes
//! and let its requests finish before.

mod request;
mod response;
mod site;
mod text;

use std::{
    env,
    io::{self, BufRead as _, BufReader, Read as _},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    path::Path,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use crate::{response::Response, site::Site};

/// One thread serves one connection. Further connections wait in the kernel's queue until one of these ends.
const CONNECTIONS_MAX: usize = 256;
const STACK_BYTES: usize = 128 << 10;
/// Longer than proxies keep an idle connection, so that they end it and no request is sent into a closing one.
const IDLE: Duration = Duration::from_secs(120);
/// How often an idle connection looks whether others wait for its thread.
const GLANCE: Duration = Duration::from_secs(1);
const STALLED: Duration = Duration::from_secs(30);
/// Of what a client sends after its last request so much is read and dropped.
const UNREAD_MAX: u64 = 1 << 20;

fn main() -> ExitCode {
    match run() {
        Ok(never) => match never {},
        Err(message) => {
            eprintln!("fileserver: {message}");
            ExitCode::FAILURE
        }
    }
}

enum Never {}

fn run() -> Result<Never, String> {
    let folder = env::args_os().nth(1).ok_or("usage: fileserver FOLDER")?;
    let root = Path::new(&folder).canonicalize();
    let root = root.map_err(|error| format!("cannot open {}: {error}", folder.display()))?;
    let port = env::var("PORT").unwrap_or_else(|_| "8080".to_owned());
    let port: u16 = port
        .parse()
        .map_err(|_| format!("PORT is `{port}`, which is no port"))?;
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port));
    let listener = listener.map_err(|error| format!("cannot listen on port {port}: {error}"))?;
    eprintln!("serving {} on port {port}", root.display());
    let server = Arc::new(Server {
        site: Site::new(root),
        connections: AtomicUsize::new(0),
    });
    loop {
        accept(&listener, &server);
    }
}

fn accept(listener: &TcpListener, server: &Arc<Server>) {
    while server.connections.load(Ordering::Acquire) >= CONNECTIONS_MAX {
        thread::sleep(Duration::from_millis(5));
    }
    let Ok((stream, _)) = listener.accept() else {
        // Out of file descriptors or memory for the moment.
        thread::sleep(Duration::from_millis(50));
        return;
    };
    server.connections.fetch_add(1, Ordering::AcqRel);
    let serving = Arc::clone(server);
    let connection = move || {
        // A client that went away is nobody's error.
        let _ = serving.connection(stream);
        serving.connections.fetch_sub(1, Ordering::AcqRel);
    };
    if thread::Builder::new()
        .stack_size(STACK_BYTES)
        .spawn(connection)
        .is_err()
    {
        server.connections.fetch_sub(1, Ordering::AcqRel);
    }
}

struct Server {
    site: Site,
    connections: AtomicUsize,
}

impl Server {
    fn connection(&self, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(STALLED))?;
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut writer = stream;
        while self.wait(&mut reader)? {
            let request = match request::read(&mut reader)? {
                Ok(request) => request,
                Err(status) => {
                    Response::plain(status).send(&mut writer, false, false)?;
                    return drain(reader);
                }
            };
            let crowded = self.connections.load(Ordering::Acquire) >= CONNECTIONS_MAX;
            let keep = request.keep_alive && !crowded;
            self.site
                .respond(&request)
                .send(&mut writer, request.head_only, keep)?;
            if request.has_body {
                return drain(reader);
            }
            if !keep {
                break;
            }
        }
        Ok(())
    }

    /// Waits for the next request. `false`: the client is done, or has been idle while others wait, or for too long.
    fn wait(&self, reader: &mut BufReader<TcpStream>) -> io::Result<bool> {
        reader.get_ref().set_read_timeout(Some(GLANCE))?;
        let mut idle = Duration::ZERO;
        loop {
            match reader.fill_buf() {
                Ok(bytes) => {
                    let more = !bytes.is_empty();
                    reader.get_ref().set_read_timeout(Some(STALLED))?;
                    return Ok(more);
                }
                Err(error) if timed_out(&error) => idle += GLANCE,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            if idle >= IDLE || self.connections.load(Ordering::Acquire) >= CONNECTIONS_MAX {
                return Ok(false);
            }
        }
    }
}

/// Closes a connection on which the client may still be sending. Bytes that nobody reads would turn the close into a reset, and the
/// client could lose the answer.
fn drain(mut reader: BufReader<TcpStream>) -> io::Result<()> {
    reader.get_ref().shutdown(Shutdown::Write)?;
    reader.get_ref().set_read_timeout(Some(GLANCE))?;
    io::copy(&mut reader.by_ref().take(UNREAD_MAX), &mut io::sink())?;
    Ok(())
}

fn timed_out(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}
