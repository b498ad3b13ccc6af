use super::tree::Text;

const LINES_MAX: usize = 600;

const FORBIDDEN: &[(&str, &str)] = &[
    (
        "#[allow(",
        "use `#[expect(…, reason = …)]`, which tells when it is no longer needed",
    ),
    (
        "#![allow(",
        "use `#![expect(…, reason = …)]`, which tells when it is no longer needed",
    ),
    ("#[ignore]", "a test that does not run tests nothing"),
    ("#[path", "a module lies where its name says"),
    ("fn get_", "a getter is named like what it answers"),
    ("fn test_", "the name of a test is the sentence it proves"),
    ("should_panic", "assert on the error"),
    ("todo!", "finish it, or leave it out"),
    ("unimplemented!", "finish it, or leave it out"),
];

const SHELLS: &[&str] = &["ash", "bash", "dash", "ksh", "sh", "zsh"];

/// A file with more lines of production code than a reader can hold.
pub(super) fn too_long(source: &Text) -> Vec<String> {
    let lines = production(&source.content).lines().count();
    let message = format!("{lines} lines above its tests; {LINES_MAX} are the limit");
    (lines > LINES_MAX)
        .then(|| source.finding(lines, &message))
        .into_iter()
        .collect()
}

/// The one good reason to ignore a test: it is the body of a process that another test starts by this test's name.
const STARTED: &str = "#[ignore = \"started ";

/// A test that is ignored for another reason than that another test starts it.
fn ignored(line: &str) -> bool {
    line.contains("#[ignore =") && !line.contains(STARTED)
}

/// Code that is unfinished, silences a lint, or tests nothing.
pub(super) fn forbidden(source: &Text) -> Vec<String> {
    let code = source
        .lines()
        .filter(|(_, line)| !line.trim_start().starts_with("//"));
    code.flat_map(|(number, line)| {
        let found = FORBIDDEN
            .iter()
            .filter(move |(pattern, _)| line.contains(pattern));
        let ignored =
            ignored(line).then_some(&("#[ignore =", "a test that does not run tests nothing"));
        let found = found.chain(ignored);
        found.map(move |(pattern, why)| source.finding(number, &format!("`{pattern}`: {why}")))
    })
    .collect()
}

/// A shell started by production code.
pub(super) fn shells(source: &Text) -> Vec<String> {
    if !(source.path.starts_with("src/") || source.path.contains("/src/")) {
        return Vec::new();
    }
    // A call may be broken over lines.
    let code: String = production(&source.content).split_whitespace().collect();
    let programs = code
        .split("Command::new(\"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next());
    let shells = programs.filter(|path| {
        path.rsplit('/')
            .next()
            .is_some_and(|name| SHELLS.contains(&name))
    });
    shells
        .map(|path| source.finding(1, &format!("starts the shell `{path}`")))
        .collect()
}

/// A source file without the test module at its end.
fn production(source: &str) -> &str {
    source
        .rfind("\n#[cfg(test)]\nmod ")
        .map_or(source, |end| &source[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(content: &str) -> Text {
        Text::new("x/src/lib.rs", content)
    }

    #[test]
    fn a_long_file_is_found_but_its_tests_do_not_count() {
        assert_eq!(too_long(&source(&"\n".repeat(LINES_MAX + 1))).len(), 1);
        let tests = "\n".repeat(LINES_MAX);
        assert!(
            too_long(&source(&format!(
                "fn one() {{}}\n\n#[cfg(test)]\nmod tests {{{tests}}}"
            )))
            .is_empty()
        );
    }

    #[test]
    fn a_file_at_the_limit_passes() {
        assert!(too_long(&source(&"\n".repeat(LINES_MAX))).is_empty());
    }

    #[test]
    fn every_forbidden_pattern_is_found_on_its_line() {
        for (pattern, _) in FORBIDDEN {
            let found = forbidden(&source(&format!("fn one() {{}}\n    {pattern}")));
            assert_eq!(found.len(), 1, "{pattern}");
            assert!(found[0].starts_with("x/src/lib.rs:2: "), "{found:?}");
        }
    }

    #[test]
    fn comments_may_speak_of_what_is_forbidden() {
        assert!(forbidden(&source("/// Like `todo!`, but honest.\nfn one() {}")).is_empty());
    }

    #[test]
    fn a_shell_is_found_by_name_by_path_and_over_lines() {
        assert_eq!(shells(&source(r#"Command::new("sh").arg("-c")"#)).len(), 1);
        assert_eq!(
            shells(&source("Command::new(\n        \"/usr/bin/bash\",\n    )")).len(),
            1
        );
        assert!(shells(&source(r#"Command::new("ssh")"#)).is_empty());
    }

    #[test]
    fn a_shell_in_tests_is_not_production_code() {
        assert!(
            shells(&source(
                "fn one() {}\n#[cfg(test)]\nmod tests { Command::new(\"sh\") }"
            ))
            .is_empty()
        );
        assert!(shells(&Text::new("x/tests/it/main.rs", r#"Command::new("sh")"#)).is_empty());
    }
}
