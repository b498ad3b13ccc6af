use std::{fmt, ops::Range};

use toml::de::{DeTable, DeValue};

/// How much of a line is shown.
const EXCERPT_MAX: usize = 120;

/// Something in a manifest or a Procfile that cannot be meant.
///
/// `Display` shows file, line and column, the reason, and the line with carets below what is wrong.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Error {
    file: String,
    message: String,
    place: Option<Place>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct Place {
    line: usize,
    column: usize,
    excerpt: String,
    /// Characters before the carets in the excerpt.
    indent: usize,
    carets: usize,
}

impl Error {
    /// What is wrong, without the place.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The line, from 1, if the error is about a place in the file.
    pub fn line(&self) -> Option<usize> {
        self.place.as_ref().map(|place| place.line)
    }

    /// The column in characters, from 1, if the error is about a place in the file.
    pub fn column(&self) -> Option<usize> {
        self.place.as_ref().map(|place| place.column)
    }

    pub(super) fn new(file: &str, text: &str, span: Option<Range<usize>>, message: String) -> Self {
        Self {
            file: file.to_owned(),
            message,
            place: span.map(|span| Place::new(text, span)),
        }
    }

    pub(super) fn from_toml(file: &str, text: &str, error: &toml::de::Error) -> Self {
        Self::new(file, text, error.span(), reword(error.message()))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(place) = &self.place else {
            return write!(f, "{}: {}", self.file, self.message);
        };
        let (line, column) = (place.line, place.column);
        writeln!(f, "{}:{line}:{column}: {}", self.file, self.message)?;
        let margin = line.to_string().len();
        writeln!(f, "{:margin$} |", "")?;
        writeln!(f, "{line} | {}", place.excerpt)?;
        let (indent, carets) = (place.indent, "^".repeat(place.carets));
        write!(f, "{:margin$} | {:indent$}{carets}", "", "")
    }
}

impl std::error::Error for Error {}

impl From<Error> for crate::Error {
    fn from(error: Error) -> Self {
        Self::invalid(error.to_string())
    }
}

impl Place {
    fn new(text: &str, span: Range<usize>) -> Self {
        let start = text.floor_char_boundary(span.start.min(text.len()));
        let end = text.floor_char_boundary(span.end.clamp(start, text.len()));
        let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let line = text[line_start..].lines().next().unwrap_or_default();
        let before = text[line_start..start].chars().count();
        let marked = text[start..end].lines().next().unwrap_or_default();
        // A long line is shown from a little before what is wrong.
        let skipped = if before + marked.chars().count() > EXCERPT_MAX {
            before.saturating_sub(EXCERPT_MAX / 4)
        } else {
            0
        };
        let shown = line.chars().skip(skipped).take(EXCERPT_MAX);
        let indent = before - skipped;
        Self {
            line: text[..start].matches('\n').count() + 1,
            column: before + 1,
            // A control character could repaint the reader's terminal.
            excerpt: shown
                .map(|c| if c.is_control() { ' ' } else { c })
                .collect(),
            indent,
            carets: marked.chars().count().clamp(1, EXCERPT_MAX - indent),
        }
    }
}

/// Something that cannot be meant, by where it stands in the manifest's tables.
#[derive(Debug)]
pub(super) struct Problem {
    /// Keys and array indices from the outermost inwards.
    path: Vec<String>,
    /// The `[environments.<name>]` in which the problem arises, whose values are looked at first.
    environment: Option<String>,
    message: String,
}

impl Problem {
    pub(super) fn new(path: &[&str], message: impl Into<String>) -> Self {
        Self {
            path: path.iter().map(|&key| key.to_owned()).collect(),
            environment: None,
            message: message.into(),
        }
    }

    pub(super) fn in_environment(mut self, environment: &str) -> Self {
        self.environment = Some(environment.to_owned());
        self
    }

    pub(super) fn locate(self, file: &str, text: &str) -> Error {
        let span = self.span(text);
        let message = match &self.environment {
            Some(environment) => format!("in environment `{environment}`: {}", self.message),
            None => self.message,
        };
        Error::new(file, text, span, message)
    }

    fn span(&self, text: &str) -> Option<Range<usize>> {
        let document = DeTable::parse(text).ok()?;
        let own = self.environment.as_deref().and_then(|environment| {
            let inner = ["environments", environment].into_iter();
            let path: Vec<_> = inner.chain(self.path.iter().map(String::as_str)).collect();
            find(document.get_ref(), &path).filter(|(_, depth)| *depth == path.len())
        });
        let path: Vec<_> = self.path.iter().map(String::as_str).collect();
        let found = own.or_else(|| find(document.get_ref(), &path));
        found.map(|(span, _)| span)
    }
}

/// The span of the innermost thing on the path that is there, and its depth.
fn find(table: &DeTable<'_>, path: &[&str]) -> Option<(Range<usize>, usize)> {
    let (first, rest) = path.split_first()?;
    let (key, value) = table
        .iter()
        .find(|(key, _)| key.get_ref().as_ref() == *first)?;
    let here = match value.get_ref() {
        DeValue::Table(_) => key.span(),
        _ => value.span(),
    };
    let inside = descend(value.get_ref(), rest);
    Some(inside.map_or((here, 1), |(span, depth)| (span, depth + 1)))
}

fn descend(value: &DeValue<'_>, path: &[&str]) -> Option<(Range<usize>, usize)> {
    match value {
        DeValue::Table(table) => find(table, path),
        DeValue::Array(elements) => {
            let (index, rest) = path.split_first()?;
            let element = elements.get(index.parse::<usize>().ok()?)?;
            let inside = descend(element.get_ref(), rest);
            Some(inside.map_or_else(|| (element.span(), 1), |(span, depth)| (span, depth + 1)))
        }
        _ => None,
    }
}

/// Says in the words of a manifest what serde says in those of Rust.
fn reword(message: &str) -> String {
    for (theirs, ours) in [("unknown field `", "key"), ("unknown variant `", "value")] {
        if let Some(rest) = message.strip_prefix(theirs) {
            return unknown(ours, rest);
        }
    }
    if message.contains("recurs") {
        return "this is nested too deeply: no manifest needs more than a few levels".to_owned();
    }
    message
        .replace("expected a nonzero u32", "expected a whole number from 1")
        .replace("expected u32", "expected a whole number from 0")
}

/// Names what was probably meant, or all there is. `quoted` begins with the unknown word, and quotes the known ones after it.
fn unknown(what: &str, quoted: &str) -> String {
    let mut words = quoted.split('`').step_by(2);
    let unknown = words.next().unwrap_or_default();
    let known: Vec<_> = words.filter(|word| !word.is_empty()).collect();
    format!("unknown {what} `{unknown}`; {}", hint(unknown, &known))
}

/// Points to the one that was probably meant, or to all there are.
pub(super) fn hint(word: &str, known: &[&str]) -> String {
    match nearest(word, known) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("known: `{}`", known.join("`, `")),
    }
}

/// The candidate that differs least, if it is near enough to be what was meant.
fn nearest<'a>(word: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let (distance, candidate) = candidates
        .iter()
        .map(|candidate| (strsim::osa_distance(word, candidate), *candidate))
        .min()?;
    (distance <= word.chars().count().max(3) / 3).then_some(candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_near_enough_or_none() {
        let known = ["command", "port", "ports", "replicas"];
        assert_eq!(nearest("prot", &known), Some("port"));
        assert_eq!(nearest("pory", &known), Some("port"));
        assert_eq!(nearest("comand", &known), Some("command"));
        assert_eq!(nearest("replica", &known), Some("replicas"));
        assert_eq!(nearest("health", &known), None);
    }

    #[test]
    fn a_span_at_the_end_or_beyond_is_shown() {
        let error = Error::new("f", "a\nb", Some(3..9), "end".to_owned());
        assert_eq!((error.line(), error.column()), (Some(2), Some(2)));
        let empty = Error::new("f", "", Some(0..0), "end".to_owned());
        assert_eq!((empty.line(), empty.column()), (Some(1), Some(1)));
    }

    #[test]
    fn a_long_line_is_cut_around_what_is_wrong() {
        let text = format!("{}X{}", "a".repeat(500), "b".repeat(500));
        let shown = Error::new("f", &text, Some(500..501), "here".to_owned()).to_string();
        let lines: Vec<_> = shown.lines().collect();
        let column = lines[3].find('^').unwrap();
        assert_eq!(lines[2].as_bytes()[column], b'X');
        assert!(lines[2].len() < 130, "{shown}");
    }

    #[test]
    fn control_characters_are_not_shown() {
        let error = Error::new("f", "a\u{1b}[31mb", Some(0..1), "here".to_owned());
        assert!(!error.to_string().contains('\u{1b}'));
    }
}
