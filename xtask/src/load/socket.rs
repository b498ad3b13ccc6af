use std::io::{BufReader, Read as _, Write as _};
use std::net::TcpStream;

use super::reply::read_head;
use crate::Result;

/// A WebSocket (RFC 6455) as a client needs it that sends short texts and reads what comes back.
pub(super) struct Socket(BufReader<TcpStream>);

const TEXT: u8 = 1;
const CLOSE: u8 = 8;
/// The mask says nothing to anybody; there only has to be one.
const MASK: [u8; 4] = [7, 77, 17, 71];

impl Socket {
    pub(super) fn open(
        mut connection: BufReader<TcpStream>,
        host: &str,
        path: &str,
    ) -> Result<Self> {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        connection.get_mut().write_all(request.as_bytes())?;
        let head = read_head(&mut connection)?;
        match head[0].split(' ').nth(1) {
            Some("101") => Ok(Self(connection)),
            _ => Err(format!("`{}` instead of a WebSocket", head[0]).into()),
        }
    }

    /// Sends a text, and reads until one comes that holds it.
    pub(super) fn echo(&mut self, text: &str) -> Result {
        self.send(TEXT, text.as_bytes())?;
        loop {
            let (kind, payload) = self.receive()?;
            if kind == CLOSE {
                return Err("the WebSocket was closed before it answered".into());
            }
            if kind == TEXT && String::from_utf8_lossy(&payload).contains(text) {
                return Ok(());
            }
        }
    }

    pub(super) fn close(mut self) -> Result {
        self.send(CLOSE, &1000_u16.to_be_bytes())
    }

    fn send(&mut self, kind: u8, payload: &[u8]) -> Result {
        let length = u8::try_from(payload.len())
            .ok()
            .filter(|length| *length < 126);
        let length = length.ok_or("too long for a short frame")?;
        let mut frame = vec![0x80 | kind, 0x80 | length];
        frame.extend(MASK);
        frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(a, b)| a ^ b));
        Ok(self.0.get_mut().write_all(&frame)?)
    }

    fn receive(&mut self) -> Result<(u8, Vec<u8>)> {
        let mut head = [0; 2];
        self.0.read_exact(&mut head)?;
        let length = match head[1] & 0x7f {
            126 => {
                let mut length = [0; 2];
                self.0.read_exact(&mut length)?;
                u16::from_be_bytes(length)
            }
            127 => return Err("a WebSocket's frame of more than 64 KiB".into()),
            short => u16::from(short),
        };
        let mut payload = vec![0; length.into()];
        self.0.read_exact(&mut payload)?;
        Ok((head[0] & 0x0f, payload))
    }
}
