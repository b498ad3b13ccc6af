use std::borrow::Cow;

use thiserror::Error;

/// A path that two readers could read as two different ones.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub(crate) enum Confusing {
    #[error("the path does not start with `/`")]
    NotAbsolute,
    #[error("the path leaves the root by `..`")]
    Escape,
    #[error("the path hides `.` or `..` in an encoding or a parameter")]
    HiddenDots,
    #[error("the path has a `%` that starts no escape")]
    BadEscape,
    #[error("the path has a control character")]
    Control,
    #[error("the path has a backslash")]
    Backslash,
}

/// Brings a path into the one form that is routed on *and* forwarded.
///
/// Escapes of unreserved characters are undone, the others written in capitals, bytes above ASCII escaped, and plain `.` and `..`
/// segments resolved. `%2F` stays what it is: no separator here. Paths that a laxer reader behind this edge could take for another
/// path are refused. Borrowed when nothing changed, the common case.
///
/// # Errors
/// [`Confusing`], saying why.
pub(crate) fn normalise(path: &str) -> Result<Cow<'_, str>, Confusing> {
    if !path.starts_with('/') {
        return Err(Confusing::NotAbsolute);
    }
    if plain(path.as_bytes()) {
        return Ok(Cow::Borrowed(path));
    }
    resolve(&unescape(path.as_bytes())?).map(|normal| {
        if normal == path {
            Cow::Borrowed(path)
        } else {
            Cow::Owned(normal)
        }
    })
}

/// Whether a path surely needs no change. One pass, as it is run for every request.
fn plain(path: &[u8]) -> bool {
    let mut after_slash = false;
    for &byte in path {
        match byte {
            b'%' | b'\\' | b';' | 0x00..=0x20 | 0x7F.. => return false,
            b'.' if after_slash => return false,
            _ => after_slash = byte == b'/',
        }
    }
    true
}

fn unescape(path: &[u8]) -> Result<Unescaped, Confusing> {
    let mut text = String::with_capacity(path.len() + 8);
    let mut dots = Vec::new();
    let mut at = 0;
    while let Some(&byte) = path.get(at) {
        at += 1;
        match byte {
            b'\\' => return Err(Confusing::Backslash),
            0x00..=0x20 | 0x7F => return Err(Confusing::Control),
            b'%' => {
                let escaped = hex(path.get(at)).zip(hex(path.get(at + 1)));
                let (high, low) = escaped.ok_or(Confusing::BadEscape)?;
                at += 2;
                match high << 4 | low {
                    0x00..=0x1F | 0x7F => return Err(Confusing::Control),
                    byte if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => {
                        if byte == b'.' {
                            dots.push(text.len());
                        }
                        text.push(byte.into());
                    }
                    byte => escape(&mut text, byte),
                }
            }
            0x80.. => escape(&mut text, byte),
            _ => text.push(byte.into()),
        }
    }
    Ok(Unescaped { text, dots })
}

struct Unescaped {
    text: String,
    /// Where dots stand that were written as escapes.
    dots: Vec<usize>,
}

fn hex(digit: Option<&u8>) -> Option<u8> {
    char::from(*digit?)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

fn escape(text: &mut String, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    text.push('%');
    text.push(DIGITS[usize::from(byte >> 4)].into());
    text.push(DIGITS[usize::from(byte & 15)].into());
}

fn resolve(path: &Unescaped) -> Result<String, Confusing> {
    let mut kept: Vec<&str> = Vec::new();
    let mut at = 1;
    let mut segments = path.text[1..].split('/').peekable();
    while let Some(segment) = segments.next() {
        let end = at + segment.len();
        let written_out = !path.dots.iter().any(|dot| (at..end).contains(dot));
        at = end + 1;
        let last = segments.peek().is_none();
        match segment {
            "." | ".." if !written_out => return Err(Confusing::HiddenDots),
            "." if last => kept.push(""),
            "." => {}
            ".." => {
                kept.pop().ok_or(Confusing::Escape)?;
                if last {
                    kept.push("");
                }
            }
            _ if hides_dots(segment) => return Err(Confusing::HiddenDots),
            _ => kept.push(segment),
        }
    }
    Ok(format!("/{}", kept.join("/")))
}

/// Whether a reader that decodes `%2F` and `%5C`, or drops `;parameters`, finds a `.` or `..` segment.
fn hides_dots(segment: &str) -> bool {
    if !segment.contains(['%', ';']) {
        return false;
    }
    let decoded = segment
        .replace("%2F", "/")
        .replace("%5C", "/")
        .replace("%3B", ";");
    decoded
        .split('/')
        .any(|part| matches!(part.split(';').next(), Some("." | "..")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_path_has_one_form() {
        for (path, normal) in [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/a//b", "/a//b"),
            ("/a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/a/b/..", "/a/"),
            ("/a/.", "/a/"),
            ("/%61%7e%2D", "/a~-"),
            ("/%2f%c3%a9", "/%2F%C3%A9"),
            ("/é", "/%C3%A9"),
            ("/.well-known/x", "/.well-known/x"),
            ("/...", "/..."),
            ("/a.b/c..d", "/a.b/c..d"),
            ("/@scope%2fname", "/@scope%2Fname"),
            ("/a;v=1/b", "/a;v=1/b"),
            ("/a%2eb", "/a.b"),
            ("/%2525", "/%2525"),
        ] {
            assert_eq!(normalise(path).as_deref(), Ok(normal), "{path}");
        }
    }

    #[test]
    fn a_path_with_two_readings_is_refused() {
        for (path, fault) in [
            ("", Confusing::NotAbsolute),
            ("*", Confusing::NotAbsolute),
            ("a", Confusing::NotAbsolute),
            ("/..", Confusing::Escape),
            ("/a/../../b", Confusing::Escape),
            ("/%2e%2e/a", Confusing::HiddenDots),
            ("/.%2e/a", Confusing::HiddenDots),
            ("/%2E", Confusing::HiddenDots),
            ("/..%2fa", Confusing::HiddenDots),
            ("/a%2f..%2fb", Confusing::HiddenDots),
            ("/a%5c..%5cb", Confusing::HiddenDots),
            ("/..;/a", Confusing::HiddenDots),
            ("/..;x=1/a", Confusing::HiddenDots),
            ("/.%2e;/a", Confusing::HiddenDots),
            ("/..%3b/a", Confusing::HiddenDots),
            ("/%2e%2e%2fa", Confusing::HiddenDots),
            ("/a\\b", Confusing::Backslash),
            ("/%00", Confusing::Control),
            ("/a%0d%0aX: y", Confusing::Control),
            ("/%", Confusing::BadEscape),
            ("/%2", Confusing::BadEscape),
            ("/%zz", Confusing::BadEscape),
            ("/%+1", Confusing::BadEscape),
        ] {
            assert_eq!(normalise(path), Err(fault), "{path}");
        }
    }

    proptest! {
        #[test]
        fn the_form_is_stable_and_never_climbs(path in "/([a./%;\\\\]|%2e|%2F|%5c|%3b|\\.\\.|é){0,12}") {
            if let Ok(normal) = normalise(&path) {
                let again = normalise(&normal).map(Cow::into_owned);
                prop_assert_eq!(again, Ok(normal.to_string()));
                prop_assert!(normal.starts_with('/'));
                let lax = normal.replace("%2F", "/").replace("%5C", "/");
                for segment in lax.split('/') {
                    let name = segment.split(';').next().unwrap_or_default();
                    prop_assert!(name != "." && name != "..", "{} -> {}", path, normal);
                }
            }
        }
    }
}
