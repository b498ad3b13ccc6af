use super::tree::Text;

const DECISIONS: &str = "docs/adr/";
const DECISION_LINES_MAX: usize = 60;
const ARCHITECTURE_LINES_MAX: usize = 200;

/// A document that asks for more time than it may.
pub(super) fn too_long(text: &Text) -> Vec<String> {
    let lines_max = match text.path.as_str() {
        "ARCHITECTURE.md" => ARCHITECTURE_LINES_MAX,
        path if path.starts_with(DECISIONS) => DECISION_LINES_MAX,
        _ => return Vec::new(),
    };
    let lines = text.content.lines().count();
    let message = format!("{lines} lines; {lines_max} are the limit");
    (lines > lines_max)
        .then(|| text.finding(lines, &message))
        .into_iter()
        .collect()
}

/// Decision records whose names are not `NNNN-title.md`, or that share a number with another.
pub(super) fn misnumbered(texts: &[Text]) -> Vec<String> {
    let records = texts.iter().filter(|text| text.path.starts_with(DECISIONS));
    let mut numbers = std::collections::BTreeMap::new();
    let mut findings = Vec::new();
    for record in records.filter(|text| !text.path.ends_with("/README.md")) {
        match number(&record.path[DECISIONS.len()..]) {
            None => findings.push(record.finding(1, "is not named NNNN-title.md")),
            Some(number) => {
                if let Some(other) = numbers.insert(number, &record.path) {
                    findings.push(record.finding(1, &format!("has the number of {other}")));
                }
            }
        }
    }
    findings
}

/// A changelog without a place for the next entry.
pub(super) fn changelog(text: &Text) -> Vec<String> {
    let open = text.lines().any(|(_, line)| line == "## [Unreleased]");
    (!open)
        .then(|| text.finding(1, "has no heading `## [Unreleased]`"))
        .into_iter()
        .collect()
}

fn number(name: &str) -> Option<&str> {
    let (number, title) = name.strip_suffix(".md")?.split_once('-')?;
    let digits = number.len() == 4 && number.bytes().all(|byte| byte.is_ascii_digit());
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (digits && !title.is_empty() && title.bytes().all(plain)).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_over_its_limit_is_found() {
        let of = |path: &str, lines: usize| too_long(&Text::new(path, &"x\n".repeat(lines))).len();
        assert_eq!(of("docs/adr/0001-one.md", DECISION_LINES_MAX + 1), 1);
        assert_eq!(of("docs/adr/0001-one.md", DECISION_LINES_MAX), 0);
        assert_eq!(of("ARCHITECTURE.md", ARCHITECTURE_LINES_MAX + 1), 1);
        assert_eq!(of("README.md", 1000), 0);
    }

    #[test]
    fn a_record_without_a_number_of_its_own_is_found() {
        let names = [
            "0001-one.md",
            "0001-two.md",
            "3-three.md",
            "0004_four.md",
            "README.md",
        ];
        let records = names.map(|name| Text::new(&format!("docs/adr/{name}"), ""));
        let found = misnumbered(&records);
        assert_eq!(
            found[0],
            "docs/adr/0001-two.md:1: has the number of docs/adr/0001-one.md"
        );
        assert_eq!(found.len(), 3, "{found:?}");
    }

    #[test]
    fn a_changelog_that_is_closed_is_found() {
        assert_eq!(
            changelog(&Text::new("CHANGELOG.md", "# Changelog\n\n## 0.1.0\n")).len(),
            1
        );
        assert!(
            changelog(&Text::new(
                "CHANGELOG.md",
                "# Changelog\n\n## [Unreleased]\n"
            ))
            .is_empty()
        );
    }
}
