//! The program that instances of these tests serve with. It is compiled by itself, with nothing but the standard library.
//!
//! With the arguments port, name and delay in milliseconds it answers every GET with 200 and `NAME PATH`, after the delay. With the
//! arguments `fetch`, host and port it sends a GET for `/` there and writes the body of the answer.

use std::{
    env,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [verb, host, port] = arguments.as_slice()
        && verb == "fetch"
    {
        return fetch(host, port);
    }
    let [port, name, delay] = <[String; 3]>::try_from(arguments).expect("three arguments");
    let port: u16 = port.parse().expect("a port");
    let delay = Duration::from_millis(delay.parse().expect("milliseconds"));
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).expect("the port is free");
    for stream in listener.incoming().flatten() {
        let name = name.clone();
        thread::spawn(move || answer(stream, &name, delay));
    }
}

fn fetch(host: &str, port: &str) {
    let mut stream = TcpStream::connect(format!("{host}:{port}")).expect("a connection");
    write!(
        stream,
        "GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"
    )
    .expect("a request is taken");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    print!("{body}");
}

/// Whoever does not ask, such as a probe that only connects, gets no answer.
fn answer(mut stream: TcpStream, name: &str, delay: Duration) -> Option<()> {
    let mut lines = BufReader::new(stream.try_clone().ok()?).lines();
    let first = lines.next()?.ok()?;
    let path = first.split(' ').nth(1)?.to_owned();
    lines.find(|line| line.as_ref().map_or(true, String::is_empty));
    thread::sleep(delay);
    let body = format!("{name} {path}");
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )
    .ok()
}
