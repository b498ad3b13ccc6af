use std::process::Command;

use super::benchmarks::Course;
use super::figure::{Figure, Goal};
use super::program::Printed;
use crate::Result;
use crate::scratch::Scratch;
use crate::testbed;

/// Room for the pods of two rounds: those of the one before may still be going.
const NODES: &str = "5";

pub(super) fn measure(course: &Course) -> Result<Vec<Figure>> {
    let scratch = Scratch::new("bench-kubernetes")?;
    let printed = testbed::for_figures(&course.workspace, NODES, |facts| {
        let mut fleet = Command::new(course.release.join("examples/fleet"));
        fleet.arg(facts).arg(course.release.join("tappaas"));
        fleet.arg(&scratch.path).arg(course.rounds.to_string());
        Printed::by(&mut fleet)
    })?;
    scratch.remove()?;
    let all = |name: &str| printed.all(name);
    Ok(vec![
        Figure::new(
            "200 applications at once, from `kubectl apply` until all are ready",
            "s",
            all("ours-s"),
        )
        .beside("their objects alone", all("theirs-s"))
        .goal(Goal::MaxRatio(1.3)),
        Figure::new(
            "requests to the API server for an application, until it is ready",
            "requests",
            all("requests-until-ready"),
        ),
        Figure::new(
            "of an application until the operator is quiet",
            "requests",
            all("requests-in-all"),
        ),
        Figure::new(
            "of these, writes; an application is so many objects of Kubernetes' own",
            "requests",
            all("writes-in-all"),
        )
        .beside("objects", all("objects")),
        Figure::new(
            "memory of the operator, the most while it made 200 applications",
            "MB",
            all("peak-mb"),
        )
        .goal(Goal::Max(100.0)),
        Figure::new(
            "memory of the operator afterwards",
            "MB",
            all("resident-mb"),
        ),
        Figure::new(
            "writes of an operator that starts where nothing is to do",
            "requests",
            all("second-writes"),
        )
        .goal(Goal::Max(0.0)),
        Figure::new(
            "its reads for an application",
            "requests",
            all("second-reads"),
        ),
    ])
}
