use std::fs;
use std::path::Path;

use super::figure::{Figure, Goal, median, spread};
use super::machine::Facts;
use crate::Result;

const HEAD: [&str; 6] = ["what", "ours", "peer", "ratio", "goal", "met"];

/// The table of a benchmark for a terminal.
pub(super) fn terminal(figures: &[Figure]) -> String {
    let rows: Vec<_> = figures.iter().flat_map(rows).collect();
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([HEAD[column].len()]).max().unwrap_or_default()
    };
    let widths: [usize; 6] = std::array::from_fn(width);
    let line = |cells: [&str; 6]| {
        let padded = cells.iter().zip(widths);
        let padded = padded.map(|(cell, width)| format!("{cell:<width$}"));
        format!("{}\n", padded.collect::<Vec<_>>().join("  ").trim_end())
    };
    let body = rows
        .iter()
        .map(|row| line(row.each_ref().map(String::as_str)));
    [line(HEAD)].into_iter().chain(body).collect()
}

/// The part of a page that is about one benchmark.
pub(super) fn markdown(facts: &Facts, rounds: usize, figures: &[Figure]) -> String {
    let line = |cells: &[String; 6]| format!("| {} |\n", cells.join(" | "));
    let head = line(&HEAD.map(str::to_owned));
    let body: String = figures
        .iter()
        .flat_map(rows)
        .map(|row| line(&row))
        .collect();
    format!(
        "{head}|---|---|---|---|---|---|\n{body}\n{}; {rounds} rounds.\n",
        facts.line()
    )
}

/// Everything that was measured, for programs.
pub(super) fn json(name: &str, facts: &Facts, rounds: usize, figures: &[Figure]) -> String {
    let figures: Vec<_> = figures.iter().map(figure_json).collect();
    format!(
        "{{\n  \"name\": {},\n  \"machine\": {},\n  \"fdatasyncMs\": {},\n  \"rounds\": {rounds},\n  \"figures\": [\n    {}\n  ]\n}}\n",
        text(name),
        text(&facts.line()),
        facts.sync_ms,
        figures.join(",\n    ")
    )
}

/// The page with the last run of every benchmark that ran.
pub(super) fn page<'a>(
    kept: &Path,
    names: impl Iterator<Item = (&'a str, &'a str)>,
) -> Result<String> {
    let mut page = "# Figures\n\nMeasured by `cargo xtask bench --write`; that command makes this page anew. Medians, with the least and the most \
        in parentheses. Ours and the peers took turns on one machine; a ratio is the median of the rounds' ratios, ours divided by the peer's. \
        ✓ and ✗ say whether the goal is met.\n"
        .to_owned();
    for (name, about) in names {
        let path = kept.join(format!("{name}.md"));
        if path.exists() {
            page += &format!("\n## {name}\n\n{about}.\n\n{}", fs::read_to_string(path)?);
        }
    }
    Ok(page)
}

/// One row for each peer; only the first has ours and the goal.
fn rows(figure: &Figure) -> Vec<[String; 6]> {
    let goal = figure
        .goal
        .map_or_else(|| "–".to_owned(), |goal| goal_text(goal, figure.unit));
    let met = figure.met().map_or("–", |met| if met { "✓" } else { "✗" });
    let mut rows = vec![[
        figure.what.clone(),
        samples_text(&figure.ours, figure.unit),
        "–".to_owned(),
        "–".to_owned(),
        goal,
        met.to_owned(),
    ]];
    for (index, (name, samples)) in figure.peers.iter().enumerate() {
        if index > 0 {
            rows.push(std::array::from_fn(|_| String::new()));
        }
        rows[index][2] = format!("{name} {}", samples_text(samples, figure.unit));
        rows[index][3] = figure
            .ratio(index)
            .map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.2}×"));
    }
    rows
}

fn goal_text(goal: Goal, unit: &str) -> String {
    match goal {
        Goal::Min(value) => format!("≥ {} {unit}", number(value)),
        Goal::Max(value) => format!("≤ {} {unit}", number(value)),
        Goal::MinRatio(times) => format!("≥ {times}×"),
        Goal::MaxRatio(times) => format!("≤ {times}×"),
    }
}

fn samples_text(samples: &[f64], unit: &str) -> String {
    match (median(samples), spread(samples)) {
        (Some(median), Some((least, most))) if samples.len() > 1 => {
            format!(
                "{} {unit} ({}–{})",
                number(median),
                number(least),
                number(most)
            )
        }
        (Some(median), _) => format!("{} {unit}", number(median)),
        (None, _) => "–".to_owned(),
    }
}

/// Three digits that mean something, and thousands apart.
fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        small if small < 1.0 => format!("{value:.3}"),
        small if small < 10.0 => format!("{value:.2}"),
        small if small < 100.0 => format!("{value:.1}"),
        _ => thousands(&format!("{value:.0}")),
    }
}

fn thousands(digits: &str) -> String {
    let mut apart = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            apart.push(',');
        }
        apart.push(digit);
    }
    apart
}

fn figure_json(figure: &Figure) -> String {
    let peers = figure
        .peers
        .iter()
        .enumerate()
        .map(|(index, (name, samples))| {
            let ratio = figure
                .ratio(index)
                .map_or_else(|| "null".to_owned(), |ratio| ratio.to_string());
            format!(
                "{{\"name\": {}, \"samples\": {samples:?}, \"ratio\": {ratio}}}",
                text(name)
            )
        });
    let goal = figure.goal.map_or_else(
        || "null".to_owned(),
        |goal| text(&goal_text(goal, figure.unit)),
    );
    let met = figure
        .met()
        .map_or_else(|| "null".to_owned(), |met| met.to_string());
    format!(
        "{{\"what\": {}, \"unit\": {}, \"samples\": {:?}, \"peers\": [{}], \"goal\": {goal}, \"met\": {met}}}",
        text(&figure.what),
        text(figure.unit),
        figure.ours,
        peers.collect::<Vec<_>>().join(", ")
    )
}

/// A JSON string.
fn text(text: &str) -> String {
    let mut quoted = "\"".to_owned();
    for letter in text.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            control if control.is_control() => quoted += &format!("\\u{:04x}", u32::from(control)),
            plain => quoted.push(plain),
        }
    }
    quoted + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure() -> Figure {
        Figure::new("puts", "puts/s", vec![2000.0, 2200.0, 2100.0])
            .beside("etcd", vec![1000.0, 1100.0, 1050.0])
            .beside("other", vec![4000.0, 4400.0, 4200.0])
            .goal(Goal::MinRatio(4.0))
    }

    #[test]
    fn a_missed_goal_is_shown_as_missed_and_each_peer_has_a_row() {
        let table = terminal(&[figure()]);
        let lines: Vec<_> = table.lines().collect();
        assert!(
            lines[1].contains("2,100 puts/s (2,000–2,200)  etcd 1,050 puts/s (1,000–1,100)"),
            "{table}"
        );
        assert!(lines[1].ends_with("2.00×  ≥ 4×  ✗"), "{table}");
        assert!(lines[2].ends_with("0.50×"), "{table}");
    }

    #[test]
    fn numbers_keep_three_digits_that_mean_something() {
        let written = [0.1234, 1.234, 12.34, 123.4, 1234.5, 1_234_567.0].map(number);
        assert_eq!(
            written,
            ["0.123", "1.23", "12.3", "123", "1,234", "1,234,567"]
        );
    }

    #[test]
    fn json_has_all_samples_and_no_raw_quotes() {
        let written = figure_json(&Figure::new("a \"b\"", "ms", vec![1.0, 2.5]));
        assert_eq!(
            written,
            r#"{"what": "a \"b\"", "unit": "ms", "samples": [1.0, 2.5], "peers": [], "goal": null, "met": null}"#
        );
        assert!(figure_json(&figure()).contains(r#""goal": "≥ 4×", "met": false"#));
    }
}
