use std::fs;
use std::path::Path;

/// A text file of the project; the path is relative to its root.
#[derive(Clone, Debug)]
pub(super) struct Text {
    pub(super) path: String,
    pub(super) content: String,
}

impl Text {
    pub(super) fn new(path: &str, content: &str) -> Self {
        Self {
            path: path.to_owned(),
            content: content.to_owned(),
        }
    }

    /// The rules name what they forbid, so the files that hold them cannot keep them.
    pub(super) fn is_not_a_rule(&self) -> bool {
        !self.path.starts_with("tests/it/tidy")
    }

    /// Lines with their numbers, counted from one.
    pub(super) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.content
            .lines()
            .enumerate()
            .map(|(index, line)| (index + 1, line))
    }

    pub(super) fn finding(&self, line: usize, message: &str) -> String {
        format!("{}:{line}: {message}", self.path)
    }
}

/// Every text file of the checkout, apart from what tools produce.
#[derive(Debug)]
pub(super) struct Tree(Vec<Text>);

impl Tree {
    pub(super) fn read() -> Self {
        let mut texts = Vec::new();
        collect(Path::new(env!("CARGO_MANIFEST_DIR")), "", &mut texts);
        texts.sort_by(|one, other| one.path.cmp(&other.path));
        Self(texts)
    }

    pub(super) fn texts(self) -> impl Iterator<Item = Text> {
        self.0.into_iter()
    }

    pub(super) fn rust(self) -> impl Iterator<Item = Text> {
        self.texts().filter(|text| text.path.ends_with(".rs"))
    }

    /// The manifests of the workspace's packages: in the root, and one folder below it.
    pub(super) fn manifests(&self) -> impl Iterator<Item = Text> {
        let is_manifest = |text: &&Text| match text.path.rsplit_once('/') {
            Some((folder, name)) => !folder.contains('/') && name == "Cargo.toml",
            None => text.path == "Cargo.toml",
        };
        self.0
            .iter()
            .filter(is_manifest)
            .cloned()
            .collect::<Vec<_>>()
            .into_iter()
    }

    pub(super) fn text(&self, path: &str) -> Text {
        let found = self.0.iter().find(|text| text.path == path);
        found.unwrap_or_else(|| panic!("{path} is missing")).clone()
    }
}

fn collect(folder: &Path, prefix: &str, texts: &mut Vec<Text>) {
    let entries =
        fs::read_dir(folder).unwrap_or_else(|error| panic!("cannot list {folder:?}: {error}"));
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{prefix}{name}");
        let Ok(kind) = entry.file_type() else {
            continue;
        };
        if kind.is_dir() && belongs_to_us(&name) {
            collect(&entry.path(), &format!("{path}/"), texts);
        } else if kind.is_file() && name != "Cargo.lock" {
            // What is not UTF-8 is an image or an archive, and no rule speaks about those.
            texts.extend(
                fs::read_to_string(entry.path())
                    .ok()
                    .map(|content| Text { path, content }),
            );
        }
    }
}

fn belongs_to_us(folder: &str) -> bool {
    let ours = [".cargo", ".ci"];
    let produced = ["__pycache__", "node_modules", "target"];
    ours.contains(&folder) || !(folder.starts_with('.') || produced.contains(&folder))
}

#[test]
fn the_tree_holds_sources_and_documents_but_nothing_produced() {
    let tree = Tree::read();
    assert!(
        tree.text("tests/it/tidy/tree.rs")
            .content
            .contains("fn the_tree_holds")
    );
    assert!(
        tree.manifests()
            .any(|text| text.path == "tappaas-core/Cargo.toml")
    );
    assert!(tree.manifests().any(|text| text.path == "Cargo.toml"));
    assert!(tree.texts().all(|text| !text.path.starts_with("target/")));
}
