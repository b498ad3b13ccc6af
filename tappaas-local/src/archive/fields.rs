//! The fields of tar headers, read strictly.

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use super::Error;

/// Names and link targets are at most this long.
const PATH_MAX: usize = 4096;
/// Each part of a name is at most this long.
const NAME_MAX: usize = 255;

/// What extended headers say about the entry after them.
#[derive(Default)]
pub(super) struct Extensions {
    pub(super) path: Option<Vec<u8>>,
    pub(super) target: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    seen: bool,
}

impl Extensions {
    pub(super) fn empty(&self) -> bool {
        self.path.is_none() && self.target.is_none() && !self.seen
    }

    pub(super) fn set_path(&mut self, path: Vec<u8>) -> Result<(), Error> {
        match self.path.replace(path) {
            None => Ok(()),
            Some(_) => Err(refused("an entry is named twice")),
        }
    }

    pub(super) fn set_target(&mut self, target: Vec<u8>) -> Result<(), Error> {
        match self.target.replace(target) {
            None => Ok(()),
            Some(_) => Err(refused("an entry has two link targets")),
        }
    }

    pub(super) fn add(&mut self, records: &[u8]) -> Result<(), Error> {
        if std::mem::replace(&mut self.seen, true) {
            return Err(refused("an entry has two extended headers"));
        }
        for (key, value) in pax(records)? {
            match key {
                b"path" => self.set_path(value.to_vec())?,
                b"linkpath" => self.set_target(value.to_vec())?,
                b"size" => {
                    let size = std::str::from_utf8(value)
                        .ok()
                        .filter(|text| !text.starts_with('+'));
                    let size = size.and_then(|text| text.parse().ok());
                    let size =
                        size.ok_or_else(|| refused("a size in an extended header is no number"))?;
                    if self.size.replace(size).is_some() {
                        return Err(refused("an entry has two sizes"));
                    }
                }
                key if key.starts_with(b"GNU.sparse.") => {
                    return Err(refused("it holds a sparse file"));
                }
                // Times, owners, attributes and comments are dropped.
                _ => {}
            }
        }
        Ok(())
    }
}

/// Checks a header that is about all entries: it may comment, but not rename.
pub(super) fn global(records: &[u8]) -> Result<(), Error> {
    let about_content = |key: &[u8]| {
        matches!(key, b"path" | b"linkpath" | b"size") || key.starts_with(b"GNU.sparse.")
    };
    match pax(records)?.iter().any(|(key, _)| about_content(key)) {
        true => Err(refused("a global header renames or resizes every entry")),
        false => Ok(()),
    }
}

/// A key and its value.
type Record<'a> = (&'a [u8], &'a [u8]);

/// Splits records `length key=value\n` (POSIX pax), where the length counts all of the record.
fn pax(mut records: &[u8]) -> Result<Vec<Record<'_>>, Error> {
    let malformed = || refused("an extended header is malformed");
    let mut pairs = Vec::new();
    while !records.is_empty() {
        let space = records
            .iter()
            .position(|byte| *byte == b' ')
            .ok_or_else(malformed)?;
        let digits = &records[..space];
        let plain =
            !digits.is_empty() && digits.len() < 10 && digits.iter().all(u8::is_ascii_digit);
        let length = std::str::from_utf8(digits).ok().filter(|_| plain);
        let length: usize = length
            .and_then(|text| text.parse().ok())
            .ok_or_else(malformed)?;
        if length <= space + 1 || length > records.len() || records[length - 1] != b'\n' {
            return Err(malformed());
        }
        let record = &records[space + 1..length - 1];
        let equals = record
            .iter()
            .position(|byte| *byte == b'=')
            .ok_or_else(malformed)?;
        pairs.push((&record[..equals], &record[equals + 1..]));
        records = &records[length..];
    }
    Ok(pairs)
}

/// The content of a GNU long name: the name and a NUL.
pub(super) fn long_name(mut name: Vec<u8>) -> Result<Vec<u8>, Error> {
    if name.last() == Some(&0) {
        name.pop();
    }
    match name.is_empty() || name.contains(&0) {
        true => Err(refused("a long name is empty or holds a NUL")),
        false => Ok(name),
    }
}

/// Reads an octal number, or a GNU binary one, with nothing else in its field.
pub(super) fn number(field: &[u8], what: &str) -> Result<u64, Error> {
    let wrong = || refused(format!("a header's {what} is no number"));
    if field[0] & 0x80 != 0 {
        let (high, low) = field.split_at(field.len().saturating_sub(8));
        let zero = |(index, byte): (usize, &u8)| *byte == if index == 0 { 0x80 } else { 0 };
        return match <[u8; 8]>::try_from(low) {
            Ok(low) if !high.is_empty() && high.iter().enumerate().all(zero) => {
                Ok(u64::from_be_bytes(low))
            }
            _ => Err(wrong()),
        };
    }
    let blank = |byte: &u8| matches!(byte, b' ' | 0);
    let start = field
        .iter()
        .position(|byte| *byte != b' ')
        .unwrap_or(field.len());
    let digits = &field[start..];
    let end = digits.iter().position(blank).unwrap_or(digits.len());
    if !digits[end..].iter().all(blank) {
        return Err(wrong());
    }
    digits[..end]
        .iter()
        .try_fold(0_u64, |value, digit| match digit {
            b'0'..=b'7' => Ok((value << 3) | u64::from(digit - b'0')),
            _ => Err(wrong()),
        })
}

pub(super) fn clean(name: &[u8]) -> Result<PathBuf, Error> {
    let wrong = |why: &str| refused(format!("`{}` {why}", shown(name)));
    if name.is_empty() || name.len() > PATH_MAX || name.contains(&0) {
        return Err(wrong("is no name"));
    }
    if name.starts_with(b"/") {
        return Err(wrong("is an absolute name"));
    }
    let mut path = PathBuf::new();
    for part in name.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return Err(wrong("leads out of the archive")),
            part if part.len() > NAME_MAX => {
                return Err(wrong("has too long a part"));
            }
            part => path.push(OsStr::from_bytes(part)),
        }
    }
    Ok(path)
}

pub(super) fn link_target(name: &str, target: &[u8]) -> Result<PathBuf, Error> {
    if target.is_empty() || target.len() > PATH_MAX || target.contains(&0) {
        return Err(refused(format!("`{name}` is a link to nothing")));
    }
    Ok(Path::new(OsStr::from_bytes(target)).to_owned())
}

/// A name from an archive, made fit for a message: not too long, and nothing that a terminal would obey.
pub(super) fn shown(name: &[u8]) -> String {
    const SHOWN_MAX: usize = 200;
    let text = String::from_utf8_lossy(&name[..name.len().min(SHOWN_MAX)]);
    let more = if name.len() > SHOWN_MAX { "…" } else { "" };
    format!("{}{more}", text.escape_debug())
}

pub(super) fn refused(why: impl Into<String>) -> Error {
    Error::Refused(why.into())
}
