//! What is printed: beautiful on a terminal, plain in a pipe, JSON where asked for.

use std::{
    io::{IsTerminal as _, Write as _},
    time::Duration,
};

use comfy_table::{Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::cli::Format;

/// Prints results to standard output and progress to standard error.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Printer {
    format: Format,
}

impl Printer {
    pub(crate) fn new(format: Format) -> Self {
        Self { format }
    }

    pub(crate) fn json(&self) -> bool {
        self.format == Format::Json
    }

    /// A line for people; nothing with JSON.
    #[expect(clippy::print_stdout, reason = "this is where the program prints")]
    pub(crate) fn line(&self, text: impl std::fmt::Display) {
        if !self.json() {
            println!("{text}");
        }
    }

    /// Bytes as they are.
    pub(crate) fn raw(&self, bytes: &[u8]) {
        // A reader that went away, as `head` does, is no failure.
        let _ = std::io::stdout()
            .write_all(bytes)
            .and_then(|()| std::io::stdout().flush());
    }

    /// A note for people, beside the result.
    #[expect(clippy::print_stderr, reason = "this is where the program prints")]
    pub(crate) fn note(&self, text: impl std::fmt::Display) {
        eprintln!("{text}");
    }

    /// A value: as JSON, or as `text` makes it.
    #[expect(clippy::print_stdout, reason = "this is where the program prints")]
    pub(crate) fn value<T: Serialize>(
        &self,
        value: &T,
        text: impl FnOnce(&T),
    ) -> anyhow::Result<()> {
        if self.json() {
            println!("{}", serde_json::to_string_pretty(value)?);
        } else {
            text(value);
        }
        Ok(())
    }

    /// Rows under headings, aligned.
    pub(crate) fn table<const N: usize>(
        &self,
        headings: [&str; N],
        rows: impl IntoIterator<Item = [String; N]>,
    ) {
        let mut table = Table::new();
        table
            .load_style(presets::NOTHING)
            .set_header(headings.map(str::to_uppercase));
        table.add_rows(rows);
        for column in table.column_iter_mut() {
            column.set_padding((0, 3));
        }
        for line in table.lines() {
            self.line(line.trim_end());
        }
    }

    /// Progress of long work.
    pub(crate) fn progress(&self) -> Progress {
        let terminal = !self.json() && std::io::stderr().is_terminal();
        let bar = terminal.then(|| {
            let bar = ProgressBar::new_spinner();
            let style = ProgressStyle::with_template("{spinner:.cyan} {msg} {elapsed:.dim}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Progress {
            printer: *self,
            bar,
            last: String::new(),
            since: Duration::ZERO,
        }
    }
}

/// Steps that took longer leave a line with their time on a terminal.
const TOLD_MIN: Duration = Duration::from_millis(500);

/// The steps of long work: one moving line on a terminal, under those that took their time; a line a step in a pipe.
#[derive(Debug)]
pub(crate) struct Progress {
    printer: Printer,
    bar: Option<ProgressBar>,
    last: String,
    /// When the last step began, after the first.
    since: Duration,
}

impl Progress {
    /// Says what happens now.
    pub(crate) fn step(&mut self, text: &str) {
        if text.is_empty() || text == self.last {
            return;
        }
        let before = std::mem::replace(&mut self.last, text.to_owned());
        match &self.bar {
            Some(bar) => {
                let took = bar.elapsed().saturating_sub(self.since);
                if took >= TOLD_MIN && !before.is_empty() {
                    bar.println(format!("  {before} ({:.1} s)", took.as_secs_f64()));
                }
                self.since = bar.elapsed();
                bar.set_message(text.to_owned());
            }
            None if self.printer.json() => {}
            None => self.printer.note(text),
        }
    }

    /// Ends it, leaving a last line.
    pub(crate) fn finish(self, mark: &str, text: &str) {
        match self.bar {
            Some(bar) => {
                let elapsed = bar.elapsed();
                bar.finish_and_clear();
                self.printer.note(format_args!(
                    "{mark} {text} ({:.1} s)",
                    elapsed.as_secs_f64()
                ));
            }
            None if self.printer.json() => {}
            None => self.printer.note(text),
        }
    }
}

/// How long ago something was, for people: `5s`, `3m`, `2h`, `4d`.
pub(crate) fn age(now: tappaas_core::Timestamp, then: Option<tappaas_core::Timestamp>) -> String {
    let Some(then) = then else {
        return "-".to_owned();
    };
    let seconds = now.duration_since(then).as_secs().max(0);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..86_400 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// Bytes for people, in powers of 1024: `2.3 KiB`, `64 MiB`.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut unit, mut whole, mut rest) = (0, bytes, 0);
    while whole >= 1024 && unit < UNITS.len() - 1 {
        (whole, rest) = (whole / 1024, whole % 1024);
        unit += 1;
    }
    match rest * 10 / 1024 {
        tenth @ 1.. if whole < 10 => format!("{whole}.{tenth} {}", UNITS[unit]),
        _ => format!("{whole} {}", UNITS[unit]),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn bytes_are_shown_with_two_digits_at_least() {
        let shown = [0, 1023, 1024, 2346, 10_240, 1_090_519, 64 << 20, u64::MAX].map(super::bytes);
        let expected = [
            "0 B",
            "1023 B",
            "1 KiB",
            "2.2 KiB",
            "10 KiB",
            "1 MiB",
            "64 MiB",
            "16777215 TiB",
        ];
        assert_eq!(shown, expected);
    }
}
