use super::tree::Text;

/// Where people and build machines keep their own files.
const HOMES: &[&str] = &["/Users/", "/home/", "/root/"];

/// Words about the making of a file. A file speaks about what it is; history has the rest.
const DIARY: &[&str] = &[
    "as discussed",
    "as requested",
    "FIXME",
    "in this session",
    "sprint",
    "subagent",
    "this commit",
    "this pull request",
    "TODO",
    "XXX",
];

/// Paths that exist on the machine of whoever wrote the file, `checkout` among them.
pub(super) fn machine_paths(text: &Text, checkout: &str) -> Vec<String> {
    // A checkout directly below the root, such as `/app`, is also an ordinary path.
    let checkout = Some(checkout).filter(|path| path.matches('/').count() > 1);
    let places: Vec<_> = HOMES.iter().copied().chain(checkout).collect();
    text.lines()
        .flat_map(|(number, line)| {
            let found = places.iter().filter(move |place| begins_in(line, place));
            found.map(move |place| {
                text.finding(number, &format!("names a place on a machine: `{place}`"))
            })
        })
        .collect()
}

/// Words about how a file came about.
pub(super) fn diary(text: &Text) -> Vec<String> {
    text.lines()
        .flat_map(|(number, line)| {
            let found = DIARY.iter().filter(move |words| stands_in(line, words));
            found.map(move |words| {
                text.finding(number, &format!("`{words}` belongs into the history"))
            })
        })
        .collect()
}

/// Whether an absolute path in `line` begins with `place` and goes on after it.
fn begins_in(line: &str, place: &str) -> bool {
    let goes_on =
        |rest: &str| rest.starts_with(|one: char| one.is_alphanumeric() || "._-/".contains(one));
    let inside =
        |before: &str| before.ends_with(|one: char| one.is_alphanumeric() || "._-/}".contains(one));
    line.match_indices(place).any(|(at, _)| {
        let rest = &line[at + place.len()..];
        !inside(&line[..at]) && (goes_on(rest) || !place.ends_with('/'))
    })
}

/// Whether `words` stand in `line` as whole words.
fn stands_in(line: &str, words: &str) -> bool {
    line.match_indices(words).any(|(at, _)| {
        let before = line[..at].ends_with(char::is_alphanumeric);
        !before && !line[at + words.len()..].starts_with(char::is_alphanumeric)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(line: &str) -> usize {
        machine_paths(&Text::new("README.md", line), "/somewhere/checkout").len()
    }

    #[test]
    fn a_path_in_somebodys_home_is_found() {
        assert_eq!(found("see `/home/ada/notes.txt`"), 1);
        assert_eq!(found("\"/root/.cargo\""), 1);
        assert_eq!(found("(/Users/ada)"), 1);
    }

    #[test]
    fn a_path_in_the_checkout_is_found() {
        assert_eq!(found("built in /somewhere/checkout/target"), 1);
        let text = Text::new("README.md", "served from /app/public");
        assert!(machine_paths(&text, "/app").is_empty());
    }

    #[test]
    fn the_folders_themselves_and_other_paths_pass() {
        assert_eq!(found("never /root, /home or /var"), 0);
        assert_eq!(found("never /home/ itself"), 0);
        assert_eq!(found("{rootfs}/root/file and layers/home/ada"), 0);
    }

    #[test]
    fn every_word_about_the_making_is_found() {
        for words in DIARY {
            let text = Text::new("README.md", &format!("one\ntwo, {words}: three"));
            assert_eq!(diary(&text).len(), 1, "{words}");
        }
    }

    #[test]
    fn parts_of_longer_words_pass() {
        assert!(
            diary(&Text::new(
                "x.rs",
                "mktemp tmp.XXXXXX; the sprinter's TODOs"
            ))
            .is_empty()
        );
    }
}
