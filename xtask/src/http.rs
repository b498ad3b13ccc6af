use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use crate::Result;

const REPLY_MAX: Duration = Duration::from_secs(10);
const REPLY_BYTES_MAX: u64 = 1 << 20;

/// Asks for a page of `host` on the loopback address. The resolver has no part in it: many do
/// not know `*.localhost`.
pub(crate) fn fetch(host: &str, path: &str, port: u16) -> Result<Vec<u8>> {
    fetch_from(SocketAddr::from((Ipv4Addr::LOCALHOST, port)), host, path)
}

/// Asks for a page of `host` at an address.
pub(crate) fn fetch_from(address: SocketAddr, host: &str, path: &str) -> Result<Vec<u8>> {
    let mut connection = TcpStream::connect_timeout(&address, REPLY_MAX)?;
    connection.set_read_timeout(Some(REPLY_MAX))?;
    // The reply ends with the connection.
    let port = address.port();
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n");
    connection.write_all(request.as_bytes())?;
    let mut reply = Vec::new();
    connection.take(REPLY_BYTES_MAX).read_to_end(&mut reply)?;
    Ok(reply)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_request_names_the_host_and_returns_the_whole_reply() {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = server.local_addr().unwrap().port();
        let peer = std::thread::spawn(move || {
            let (mut connection, _) = server.accept().unwrap();
            let mut request = [0; 256];
            let length = connection.read(&mut request).unwrap();
            connection
                .write_all(b"HTTP/1.0 200 OK\r\n\r\npage")
                .unwrap();
            String::from_utf8_lossy(&request[..length]).into_owned()
        });
        assert_eq!(
            fetch("hello.localhost", "/", port).unwrap(),
            b"HTTP/1.0 200 OK\r\n\r\npage"
        );
        assert!(
            peer.join()
                .unwrap()
                .contains(&format!("Host: hello.localhost:{port}\r\n"))
        );
    }
}
