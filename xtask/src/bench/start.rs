use std::process::Command;

use super::benchmarks::Course;
use super::figure::{Figure, Goal, median};
use super::program::Printed;
use crate::Result;
use crate::scratch::Scratch;

/// Of each, in turn, each round.
const TURNS: &str = "20";

pub(super) fn measure(course: &Course) -> Result<Vec<Figure>> {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..course.rounds {
        let scratch = Scratch::new("bench-start")?;
        let mut command = Command::new(course.release.join("examples/start"));
        let printed = Printed::by(command.arg(&scratch.path).arg(TURNS))?;
        ours.extend(median(&printed.all("ours-ms")));
        theirs.extend(median(&printed.all("runc-ms")));
        scratch.remove()?;
    }
    let what = "an instance with limits, from its creation until its process is executed";
    Ok(vec![
        Figure::new(what, "ms", ours)
            .beside("runc", theirs)
            .goal(Goal::MaxRatio(0.7)),
    ])
}
