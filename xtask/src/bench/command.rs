use std::fs;

use super::benchmarks::{ALL, Benchmark, Course};
use super::figure::Figure;
use super::{machine, render};
use crate::Result;
use crate::tools;
use crate::workspace::Workspace;

const ROUNDS: usize = 5;
const ROUNDS_MAX: usize = 100;

/// Where the table for readers is kept.
const FIGURES: &str = "docs/figures.md";

/// All of ours that benchmarks run. Of a part alone cargo would build the dependencies anew, with other features.
const BUILD: &str = "build --quiet --release --package tappaas --package tappaas-store --package tappaas-tls --package tappaas-local \
     --package tappaas-k8s --bin tappaas --example figures --example etcd --example edge --example pace --example routes --example start \
     --example fleet";

/// `cargo xtask bench [--yes] [--write] [--rounds N] [NAME]...`
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result {
    let asked = Asked::read(arguments)?;
    let needed = asked.chosen.iter().flat_map(|one| one.tools).copied();
    tools::provide(workspace, needed, asked.yes || workspace.unattended)?;
    workspace.cargo(BUILD)?;
    let course = Course::new(workspace, asked.rounds);
    let mut failed = Vec::new();
    for benchmark in &asked.chosen {
        println!("\n== {}: {}", benchmark.name, benchmark.about);
        if let Err(error) = measure(workspace, benchmark, &course) {
            println!("{} did not run: {error}", benchmark.name);
            failed.push(benchmark.name);
        }
    }
    if asked.write {
        let names = ALL.iter().map(|one| (one.name, one.about));
        let page = render::page(&kept(workspace), names)?;
        fs::write(workspace.root.join(FIGURES), page)?;
        println!("\nwritten: {FIGURES}");
    }
    match failed.is_empty() {
        true => Ok(()),
        false => Err(format!("did not run: {}", failed.join(", ")).into()),
    }
}

fn measure(workspace: &Workspace, benchmark: &Benchmark, course: &Course) -> Result {
    let before = machine::Facts::look()?;
    let figures: Vec<Figure> = (benchmark.measure)(course)?;
    let facts = before.and_later(&machine::Facts::look()?);
    println!("{}\n\n{}", facts.line(), render::terminal(&figures));
    let kept = kept(workspace);
    fs::create_dir_all(&kept)?;
    let json = render::json(benchmark.name, &facts, course.rounds, &figures);
    fs::write(kept.join(format!("{}.json", benchmark.name)), json)?;
    let markdown = render::markdown(&facts, course.rounds, &figures);
    Ok(fs::write(
        kept.join(format!("{}.md", benchmark.name)),
        markdown,
    )?)
}

/// Where the results of the last run of each benchmark are.
fn kept(workspace: &Workspace) -> std::path::PathBuf {
    workspace.target.join("bench")
}

struct Asked {
    chosen: Vec<&'static Benchmark>,
    yes: bool,
    write: bool,
    rounds: usize,
}

impl Asked {
    fn read(arguments: &[String]) -> Result<Self> {
        let (mut names, mut yes, mut write, mut rounds) = (Vec::new(), false, false, ROUNDS);
        let mut words = arguments.iter();
        while let Some(word) = words.next() {
            match word.as_str() {
                "--yes" => yes = true,
                "--write" => write = true,
                "--rounds" => {
                    let number = words.next().and_then(|word| word.parse().ok());
                    let number = number.filter(|number| (1..=ROUNDS_MAX).contains(number));
                    rounds = number.ok_or("`--rounds` takes a number from 1 to 100")?;
                }
                option if option.starts_with('-') => {
                    return Err(format!(
                        "`bench` has no option `{option}`; `cargo xtask help` lists them"
                    )
                    .into());
                }
                name if ALL.iter().any(|one| one.name == name) => names.push(name),
                name => {
                    return Err(
                        format!("no benchmark `{name}`; `cargo xtask help` lists them").into(),
                    );
                }
            }
        }
        let wanted = |one: &&Benchmark| names.is_empty() || names.contains(&one.name);
        Ok(Self {
            chosen: ALL.iter().filter(wanted).collect(),
            yes,
            write,
            rounds,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(words: &[&str]) -> Result<Asked> {
        let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
        Asked::read(&words)
    }

    #[test]
    fn without_a_name_everything_is_measured() {
        let all = asked(&["--yes"]).unwrap();
        assert_eq!(
            (all.chosen.len(), all.rounds, all.yes, all.write),
            (ALL.len(), ROUNDS, true, false)
        );
    }

    #[test]
    fn only_what_was_named_is_measured() {
        let one = asked(&["--rounds", "2", "store", "--write"]).unwrap();
        assert_eq!(
            (one.chosen[0].name, one.chosen.len(), one.rounds, one.write),
            ("store", 1, 2, true)
        );
    }

    #[test]
    fn what_nobody_knows_is_refused_by_name() {
        for words in [
            &["stor"][..],
            &["--fast"],
            &["--rounds"],
            &["--rounds", "0"],
        ] {
            let error = asked(words).err().unwrap().to_string();
            assert!(error.contains(words[0]), "{error}");
        }
    }
}
