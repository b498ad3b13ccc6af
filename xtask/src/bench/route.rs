use std::process::Command;

use super::benchmarks::Course;
use super::figure::{Figure, Goal, quantile};
use super::program::Printed;
use crate::Result;
use crate::scratch::Scratch;

const ROUTES: &str = "5000";
const CHANGES: &str = "200";

pub(super) fn measure(course: &Course) -> Result<Vec<Figure>> {
    let (mut usual, mut slowest, mut resident) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..course.rounds {
        let scratch = Scratch::new("bench-route")?;
        let mut command = Command::new(course.release.join("examples/routes"));
        let printed = Printed::by(command.arg(&scratch.path).args([ROUTES, CHANGES]))?;
        let changes = printed.all("change-ms");
        usual.extend(quantile(&changes, 0.5));
        slowest.extend(quantile(&changes, 0.99));
        resident.push(printed.one("edge-rss-mb")?);
        scratch.remove()?;
    }
    Ok(vec![
        Figure::new("a new route until its first answer, p50", "ms", usual),
        Figure::new("a new route until its first answer, p99", "ms", slowest).goal(Goal::Max(30.0)),
        Figure::new("memory of the edge then", "MB", resident).goal(Goal::Max(40.0)),
    ])
}
