use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpStream;

use crate::Result;

/// A reply that was read to its end.
pub(super) struct Reply {
    /// The first line.
    pub(super) status: String,
    /// The connection can be used for another request.
    pub(super) kept: bool,
}

impl Reply {
    /// Reads a reply with its body.
    pub(super) fn read(connection: &mut BufReader<TcpStream>) -> Result<Self> {
        let head = read_head(connection)?;
        let field = |name: &str| {
            let mut fields = head.iter().skip(1).filter_map(|line| line.split_once(':'));
            let found = fields.find(|(key, _)| key.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.trim().to_ascii_lowercase())
        };
        match field("content-length") {
            Some(length) => skip(connection, length.parse()?)?,
            None => skip_chunks(connection)?,
        }
        Ok(Self {
            status: head[0].clone(),
            kept: field("connection").is_none_or(|value| value != "close"),
        })
    }

    /// The connection can be used again, if the status is in the two hundreds.
    pub(super) fn good(&self) -> Result<bool> {
        match self.status.split(' ').nth(1) {
            Some(code) if code.starts_with('2') => Ok(self.kept),
            _ => Err(format!("`{}`", self.status).into()),
        }
    }
}

/// The lines of a head, of which there is at least one.
pub(super) fn read_head(connection: &mut BufReader<TcpStream>) -> Result<Vec<String>> {
    let mut lines = vec![read_line(connection)?];
    loop {
        let line = read_line(connection)?;
        if line.is_empty() {
            return Ok(lines);
        }
        lines.push(line);
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
