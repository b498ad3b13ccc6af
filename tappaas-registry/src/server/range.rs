use std::ops::Range;

/// Reads the `Content-Range` of an upload, `first-last`, as a half-open range. `None`: it is malformed.
pub(super) fn parse_content_range(text: &str) -> Option<Range<u64>> {
    let (first, last) = text.split_once('-')?;
    let range = digits(first)?..digits(last)?.checked_add(1)?;
    (range.start < range.end).then_some(range)
}

/// What a `Range` header asks of content with `size` bytes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Wanted {
    All,
    Part(Range<u64>),
    Unsatisfiable,
}

/// Reads a `Range` header (RFC 9110, section 14). What is malformed, in another unit or in several parts is answered with
/// the whole content, as the RFC allows.
pub(super) fn parse_range(text: &str, size: u64) -> Wanted {
    let Some((first, last)) = text
        .strip_prefix("bytes=")
        .and_then(|range| range.split_once('-'))
    else {
        return Wanted::All;
    };
    let range = match (first, digits(first), last, digits(last)) {
        ("", _, _, Some(suffix)) => size.saturating_sub(suffix)..size,
        (_, Some(first), "", _) => first..size,
        (_, Some(first), _, Some(last)) if first <= last => first..last.saturating_add(1).min(size),
        _ => return Wanted::All,
    };
    if range.start < range.end {
        Wanted::Part(range)
    } else {
        Wanted::Unsatisfiable
    }
}

/// Digits alone: `u64::from_str` would take a `+`.
fn digits(text: &str) -> Option<u64> {
    text.bytes()
        .all(|c| c.is_ascii_digit())
        .then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_range_is_two_numbers_in_order() {
        assert_eq!(parse_content_range("0-0"), Some(0..1));
        assert_eq!(parse_content_range("5-9"), Some(5..10));
        let overflow = format!("0-{}", u64::MAX);
        for bad in [
            "",
            "-",
            "1-",
            "-1",
            "5-4",
            "+1-2",
            "0x1-2",
            "1-2-3",
            "bytes 1-2",
            "1 - 2",
            &overflow,
        ] {
            assert_eq!(parse_content_range(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_range_is_one_part_or_everything() {
        for (text, wanted) in [
            ("bytes=0-0", Wanted::Part(0..1)),
            ("bytes=2-", Wanted::Part(2..10)),
            ("bytes=2-99", Wanted::Part(2..10)),
            ("bytes=-3", Wanted::Part(7..10)),
            ("bytes=-99", Wanted::Part(0..10)),
            ("bytes=0-18446744073709551615", Wanted::Part(0..10)),
            ("bytes=10-", Wanted::Unsatisfiable),
            ("bytes=-0", Wanted::Unsatisfiable),
            ("bytes=5-4", Wanted::All),
            ("bytes=0-1,3-4", Wanted::All),
            ("bytes=-", Wanted::All),
            ("lines=1-2", Wanted::All),
        ] {
            assert_eq!(parse_range(text, 10), wanted, "{text}");
        }
        assert_eq!(parse_range("bytes=0-", 0), Wanted::Unsatisfiable);
    }
}
