use std::path::{Path, PathBuf};

use ignore::gitignore::{Gitignore, GitignoreBuilder};

use super::Error;

/// Which files of a source folder stay out of its archive.
///
/// Folders of version control always do. Else the ignore list of the manifest decides, the last matching line first, and may also
/// bring back (`!dist`) what the others leave out. Else a file stays out that `.dockerignore` or a `.gitignore` excludes.
pub(super) struct Rules {
    manifest: Gitignore,
    docker: Vec<DockerRule>,
    reinclude: bool,
}

/// The `.gitignore` files from the top folder down to the one that is walked.
#[derive(Clone, Default)]
pub(super) struct GitRules {
    files: Vec<std::sync::Arc<Gitignore>>,
    excluded: bool,
}

struct DockerRule {
    pattern: Gitignore,
    negated: bool,
}

/// What is to be done with a file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Verdict {
    Keep,
    /// It stays out, but what is in it may be kept.
    Descend,
    Skip,
}

impl Rules {
    const VERSION_CONTROL: [&str; 8] =
        [".git", ".hg", ".svn", ".bzr", ".jj", ".sl", "CVS", "_darcs"];

    /// Reads the rules of `folder`. `manifest` holds lines as in a `.gitignore`.
    pub(super) fn read(folder: &Path, manifest: &[String]) -> Result<Self, Error> {
        let mut builder = GitignoreBuilder::new(folder);
        for line in manifest {
            builder.add_line(None, line).map_err(|error| {
                Error::Source(format!("`{line}` in the ignore list of the build: {error}"))
            })?;
        }
        let manifest = builder
            .build()
            .map_err(|error| Error::Source(format!("the ignore list of the build: {error}")))?;
        let docker = docker_rules(folder)?;
        let reinclude = manifest.num_whitelists() > 0 || docker.iter().any(|rule| rule.negated);
        Ok(Self {
            manifest,
            docker,
            reinclude,
        })
    }

    /// Decides about `path`, which is `relative` to the top folder.
    pub(super) fn verdict(
        &self,
        git: &GitRules,
        path: &Path,
        relative: &Path,
        directory: bool,
    ) -> Verdict {
        let name = relative.file_name().unwrap_or_default();
        if Self::VERSION_CONTROL.iter().any(|folder| name == *folder) {
            return Verdict::Skip;
        }
        let manifest = self
            .manifest
            .matched_path_or_any_parents(relative, directory);
        let excluded = match manifest {
            ignore::Match::Ignore(_) => true,
            ignore::Match::Whitelist(_) => false,
            ignore::Match::None => {
                self.docker_excludes(relative, directory) || git.excludes(path, directory)
            }
        };
        match excluded {
            false => Verdict::Keep,
            true if directory && self.reinclude => Verdict::Descend,
            true => Verdict::Skip,
        }
    }

    fn docker_excludes(&self, relative: &Path, directory: bool) -> bool {
        let matching = |rule: &&DockerRule| {
            rule.pattern
                .matched_path_or_any_parents(relative, directory)
                .is_ignore()
        };
        let last = self.docker.iter().rev().find(matching);
        last.is_some_and(|rule| !rule.negated)
    }
}

impl GitRules {
    /// The rules inside `folder`, given those around it. `kept` says whether the folder itself is.
    pub(super) fn enter(&self, folder: &Path, kept: bool) -> Result<Self, Error> {
        let mut rules = self.clone();
        rules.excluded |= !kept && self.excludes(folder, true);
        let file = folder.join(".gitignore");
        if file.is_file() {
            let mut builder = GitignoreBuilder::new(folder);
            if let Some(error) = builder.add(&file) {
                return Err(unreadable(&file, &error));
            }
            let rule = builder.build().map_err(|error| unreadable(&file, &error))?;
            rules.files.push(std::sync::Arc::new(rule));
        }
        Ok(rules)
    }

    fn excludes(&self, path: &Path, directory: bool) -> bool {
        let decided = self
            .files
            .iter()
            .rev()
            .map(|rules| rules.matched(path, directory))
            .find(|verdict| !verdict.is_none());
        self.excluded || decided.is_some_and(|verdict| verdict.is_ignore())
    }
}

/// Reads `.dockerignore`. Its patterns start at the top folder, unlike those of `.gitignore`, and the last one that matches a file or
/// a folder around it wins, so that a file of an excluded folder can be brought back.
fn docker_rules(folder: &Path) -> Result<Vec<DockerRule>, Error> {
    let file = folder.join(".dockerignore");
    let text = match std::fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::file("read", file)(error)),
    };
    let mut rules = Vec::new();
    for line in text.trim_start_matches('\u{feff}').lines() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (negated, pattern) = match line.strip_prefix('!') {
            Some(pattern) => (true, pattern.trim()),
            None => (false, line),
        };
        let Some(pattern) = clean(pattern) else {
            continue;
        };
        let mut builder = GitignoreBuilder::new(folder);
        let added = builder.add_line(None, &format!("/{pattern}"));
        let pattern = added.and_then(|builder| builder.build());
        let pattern = pattern.map_err(|error| unreadable(&file, &error))?;
        rules.push(DockerRule { pattern, negated });
    }
    Ok(rules)
}

/// Resolves `.`, `..` and empty parts, as `.dockerignore` asks for. `None`: it names the top folder itself or one outside.
fn clean(pattern: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in pattern.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

fn unreadable(file: &Path, error: &ignore::Error) -> Error {
    let file: PathBuf = file.to_owned();
    Error::Source(format!("cannot use {}: {error}", file.display()))
}
