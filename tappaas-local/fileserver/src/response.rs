use std::{
    fmt::Write as _,
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    net::TcpStream,
    time::SystemTime,
};

use crate::text;

/// Up to this size a file is sent in one write with its head.
const SMALL_BYTES: u64 = 64 << 10;

pub(crate) struct Response {
    pub(crate) status: u16,
    headers: String,
    pub(crate) body: Body,
}

pub(crate) enum Body {
    Text(String),
    /// A file from the first byte to the one after the last.
    File(File, u64, u64),
}

impl Response {
    pub(crate) fn new(status: u16) -> Self {
        Self {
            status,
            headers: String::new(),
            body: Body::Text(String::new()),
        }
    }

    pub(crate) fn plain(status: u16) -> Self {
        let mut response = Self::new(status);
        response.header("Content-Type", "text/plain; charset=utf-8");
        response.body = Body::Text(format!("{status} {}\n", text::reason(status)));
        response
    }

    pub(crate) fn header(&mut self, name: &str, value: &str) {
        let _ = write!(self.headers, "{name}: {value}\r\n");
    }

    pub(crate) fn limit_to(&mut self, start: u64, end: u64, size: u64) {
        self.status = 206;
        self.header(
            "Content-Range",
            &format!("bytes {start}-{}/{size}", end - 1),
        );
        if let Body::File(_, first, last) = &mut self.body {
            (*first, *last) = (start, end);
        }
    }

    pub(crate) fn send(
        self,
        stream: &mut TcpStream,
        head_only: bool,
        keep: bool,
    ) -> io::Result<()> {
        let length = match &self.body {
            Body::Text(text) => text.len() as u64,
            Body::File(_, start, end) => end - start,
        };
        let mut message = format!("HTTP/1.1 {} {}\r\n", self.status, text::reason(self.status));
        let _ = write!(message, "Date: {}\r\n", text::http_date(SystemTime::now()));
        message.push_str(&self.headers);
        message.push_str("X-Content-Type-Options: nosniff\r\n");
        if self.status != 304 {
            let _ = write!(message, "Content-Length: {length}\r\n");
        }
        message.push_str(if keep {
            "\r\n"
        } else {
            "Connection: close\r\n\r\n"
        });
        let mut message = message.into_bytes();
        match self.body {
            _ if head_only || self.status == 304 => stream.write_all(&message),
            Body::Text(text) => {
                message.extend_from_slice(text.as_bytes());
                stream.write_all(&message)
            }
            Body::File(mut file, start, _) => {
                file.seek(SeekFrom::Start(start))?;
                let mut content = file.take(length);
                if length <= SMALL_BYTES {
                    content.read_to_end(&mut message)?;
                    return stream.write_all(&message);
                }
                stream.write_all(&message)?;
                let sent = io::copy(&mut content, stream)?;
                // A file that shrank leaves the client waiting unless the connection ends.
                if sent == length {
                    Ok(())
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                }
            }
        }
    }
}
