use std::path::Path;

/// Writes a number of bytes for people: `512 B`, `1.5 MiB`, `2 GiB`.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut divisor = 1_u64;
    while count / divisor >= 1024 && unit + 1 < UNITS.len() {
        divisor *= 1024;
        unit += 1;
    }
    let tenths = count.saturating_mul(10) / divisor;
    match tenths % 10 {
        0 => format!("{} {}", tenths / 10, UNITS[unit]),
        tenth => format!("{}.{tenth} {}", tenths / 10, UNITS[unit]),
    }
}

/// Writes a path for people. What is in a name that somebody chose must neither begin another line nor repaint a terminal.
pub(crate) fn path(path: &Path) -> String {
    let shown = path.display().to_string();
    let escaped = |c: char| match c.is_control() {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    };
    shown.chars().map(escaped).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_on_its_line_and_leaves_the_terminal_alone() {
        let shown = path(Path::new("a\nb\u{1b}[31m/é"));
        assert_eq!(shown, "a\\nb\\u{1b}[31m/é");
    }

    #[test]
    fn sizes_are_readable() {
        for (count, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1 KiB"),
            (1536, "1.5 KiB"),
            (5 << 30, "5 GiB"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }
}
