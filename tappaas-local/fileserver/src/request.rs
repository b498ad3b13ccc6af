use std::{
    io::{self, BufRead as _, BufReader, Read as _},
    net::TcpStream,
};

use crate::text;

const HEAD_BYTES_MAX: u64 = 16 << 10;

/// The head of a request, as far as it matters for files.
pub(crate) struct Request {
    pub(crate) method_allowed: bool,
    pub(crate) head_only: bool,
    path: String,
    query: Option<String>,
    /// The path ends with a slash.
    pub(crate) folder: bool,
    pub(crate) keep_alive: bool,
    /// A body follows, which is not read.
    pub(crate) has_body: bool,
    none_match: Option<String>,
    modified_since: Option<String>,
    pub(crate) range: Option<String>,
    if_range: Option<String>,
}

/// Reads the head of a request. The inner error is the status to answer with before closing.
pub(crate) fn read(reader: &mut BufReader<TcpStream>) -> io::Result<Result<Request, u16>> {
    let mut head = reader.take(HEAD_BYTES_MAX);
    let mut lines = Vec::new();
    loop {
        let mut line = Vec::new();
        head.read_until(b'\n', &mut line)?;
        if line.last() != Some(&b'\n') {
            return Ok(Err(if head.limit() == 0 { 431 } else { 400 }));
        }
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        match (line.is_empty(), lines.is_empty()) {
            (true, true) => {}
            (true, false) => return Ok(parse(&lines)),
            (false, _) => match String::from_utf8(line) {
                Ok(line) => lines.push(line),
                Err(_) => return Ok(Err(400)),
            },
        }
    }
}

fn parse(lines: &[String]) -> Result<Request, u16> {
    let mut words = lines[0].split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(400);
    };
    if !matches!(version, "HTTP/1.1" | "HTTP/1.0") {
        return Err(505);
    }
    let target = target.split_once("://").map_or(target, |(_, rest)| {
        rest.find('/').map_or("/", |slash| &rest[slash..])
    });
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query.to_owned())),
        None => (target, None),
    };
    let mut request = Request {
        method_allowed: matches!(method, "GET" | "HEAD"),
        head_only: method == "HEAD",
        path: path.to_owned(),
        query,
        folder: path.ends_with('/'),
        keep_alive: version == "HTTP/1.1",
        has_body: false,
        none_match: None,
        modified_since: None,
        range: None,
        if_range: None,
    };
    for line in &lines[1..] {
        let (name, value) = line.split_once(':').ok_or(400_u16)?;
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "connection" => request.connection(value),
            "if-none-match" => request.none_match = Some(value.to_owned()),
            "if-modified-since" => request.modified_since = Some(value.to_owned()),
            "range" => request.range = Some(value.to_owned()),
            "if-range" => request.if_range = Some(value.to_owned()),
            "content-length" => request.has_body |= value != "0",
            "transfer-encoding" => request.has_body = true,
            _ => {}
        }
    }
    // What follows on the connection would be taken for a request.
    request.keep_alive &= !request.has_body;
    Ok(request)
}

impl Request {
    fn connection(&mut self, value: &str) {
        for token in value.split(',').map(str::trim) {
            if token.eq_ignore_ascii_case("close") {
                self.keep_alive = false;
            } else if token.eq_ignore_ascii_case("keep-alive") {
                self.keep_alive = true;
            }
        }
    }

    /// The decoded parts of the path. `None`: it is malformed or leads upwards.
    pub(crate) fn path_parts(&self) -> Option<Vec<String>> {
        let path = self.path.strip_prefix('/')?;
        let mut parts = Vec::new();
        for part in path
            .split('/')
            .filter(|part| !part.is_empty() && *part != ".")
        {
            let part = text::percent_decode(part)?;
            if part == "." || part == ".." || part.contains(['/', '\0']) {
                return None;
            }
            parts.push(part);
        }
        Some(parts)
    }

    /// Where the folder of these parts really is. Never starts with two slashes, which would name another host.
    pub(crate) fn location(&self, parts: &[String]) -> String {
        let mut location = String::new();
        for part in parts {
            location.push('/');
            text::percent_encode(part, &mut location);
        }
        location.push('/');
        if let Some(query) = &self.query {
            location.push('?');
            location.push_str(query);
        }
        location
    }

    pub(crate) fn unchanged(&self, tag: Option<&str>, modified: Option<&str>) -> bool {
        match (&self.none_match, tag) {
            (Some(wanted), Some(tag)) => {
                let same = |other: &str| other == "*" || other.trim_start_matches("W/") == tag;
                wanted.split(',').map(str::trim).any(same)
            }
            (Some(_), None) => false,
            (None, _) => modified.is_some() && self.modified_since.as_deref() == modified,
        }
    }

    pub(crate) fn range_applies(&self, tag: Option<&str>) -> bool {
        self.if_range.is_none() || self.if_range.as_deref() == tag
    }
}

pub(crate) enum Range {
    /// From the first byte to the one after the last.
    Part(u64, u64),
    Unsatisfiable,
    /// Malformed or several: the whole file is a right answer.
    Ignored,
}

impl Range {
    pub(crate) fn parse(range: &str, size: u64) -> Self {
        let Some((first, last)) = range
            .strip_prefix("bytes=")
            .and_then(|range| range.split_once('-'))
        else {
            return Self::Ignored;
        };
        let number = |text: &str| {
            text.bytes()
                .all(|byte| byte.is_ascii_digit())
                .then(|| text.parse::<u64>().ok())
                .flatten()
        };
        let (start, end) = match (number(first), number(last)) {
            (Some(start), Some(last)) if start <= last => (start, last.saturating_add(1).min(size)),
            (Some(start), None) if last.is_empty() => (start, size),
            (None, Some(0)) if first.is_empty() => return Self::Unsatisfiable,
            (None, Some(count)) if first.is_empty() => (size.saturating_sub(count), size),
            _ => return Self::Ignored,
        };
        match start < end {
            true => Self::Part(start, end),
            false => Self::Unsatisfiable,
        }
    }
}
