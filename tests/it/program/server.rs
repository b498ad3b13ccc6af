//! The program that the tests' applications serve with. It is compiled by itself, with nothing but the standard library.
//!
//! It listens on `$PORT`. `/env/NAME` answers a variable's value; `/fetch/NAME` asks the URL in a variable for its page; `/rude/…` answers
//! in ways that nobody should; every other path answers the content of the file `page`.

use std::{
    env, fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

const FETCH_MAX: Duration = Duration::from_secs(3);

fn main() {
    let port = env::var("PORT").expect("the platform says the port");
    let port: u16 = port.parse().expect("the port is a number");
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).expect("the port is free");
    println!("listening on {port}");
    for stream in listener.incoming().flatten() {
        thread::spawn(move || serve(stream));
    }
}

/// Answers the requests of one connection until it ends.
fn serve(mut stream: TcpStream) -> Option<()> {
    let mut lines = BufReader::new(stream.try_clone().ok()?).lines();
    loop {
        let first = lines.next()?.ok()?;
        let path = first.split(' ').nth(1)?.to_owned();
        lines.find(|line| line.as_ref().map_or(true, String::is_empty));
        if let Some(how) = path.strip_prefix("/rude/") {
            return rude(how, &mut stream);
        }
        let (status, body) = match answer(&path) {
            Ok(body) => ("200 OK", body),
            Err(problem) => ("502 Bad Gateway", problem),
        };
        let length = body.len();
        let reply = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{body}");
        stream.write_all(reply.as_bytes()).ok()?;
    }
}

/// Never ends an answer, or its head, or never begins one.
fn rude(how: &str, stream: &mut TcpStream) -> Option<()> {
    let (start, rest) = match how {
        "endless" => ("HTTP/1.1 200 OK\r\n\r\n", "x".repeat(64 << 10)),
        "heads" => (
            "HTTP/1.1 200 OK\r\n",
            format!("x-x: {}\r\n", "x".repeat(4 << 10)),
        ),
        "nonsense" => ("?", "\0".repeat(4 << 10)),
        _ => loop {
            thread::park();
        },
    };
    stream.write_all(start.as_bytes()).ok()?;
    loop {
        stream.write_all(rest.as_bytes()).ok()?;
    }
}

fn answer(path: &str) -> Result<String, String> {
    if let Some(name) = path.strip_prefix("/env/") {
        return env::var(name).map_err(|error| format!("{name}: {error}"));
    }
    if let Some(name) = path.strip_prefix("/fetch/") {
        let url = env::var(name).map_err(|error| format!("{name}: {error}"))?;
        return fetch(&url).map_err(|error| format!("{url}: {error}"));
    }
    fs::read_to_string("page").map_err(|error| error.to_string())
}

/// The body of the page at `http://HOST:PORT`.
fn fetch(url: &str) -> Result<String, String> {
    let address = url.trim_start_matches("http://").trim_end_matches('/');
    let socket = address.parse().map_err(|error| format!("{error}"))?;
    let stream = TcpStream::connect_timeout(&socket, FETCH_MAX);
    let mut stream = stream.map_err(|error| error.to_string())?;
    let request = format!("GET / HTTP/1.0\r\nhost: {address}\r\n\r\n");
    let sent = stream.write_all(request.as_bytes());
    sent.map_err(|error| error.to_string())?;
    stream.set_read_timeout(Some(FETCH_MAX)).ok();
    let mut reply = BufReader::new(stream);
    let (mut line, mut length) = (String::new(), 0);
    while reply.read_line(&mut line).is_ok() && !line.trim().is_empty() {
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
        line.clear();
    }
    let mut body = vec![0; length];
    let read = reply.read_exact(&mut body);
    read.map_err(|error| error.to_string())?;
    String::from_utf8(body).map_err(|error| error.to_string())
}
