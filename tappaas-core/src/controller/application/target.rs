use std::collections::BTreeMap;

use super::{
    Snapshot, Step,
    plan::{Draft, wanted_origin},
    routes,
};
use crate::{
    Chain,
    backend::{BuildOutcome, Image},
    controller::domains::{FOREIGN_HOST, NO_POOL},
    model::{
        Build, BuildObjectSpec, BuildPhase, Release, ReleasePhase, ReleaseSpec, ReleaseStatus,
    },
};

/// What the application's spec leads to.
#[derive(Debug)]
pub(super) enum Target<'a> {
    /// This release.
    Release(&'a Release),
    /// A release that cannot be made yet; so far it is.
    Building(String),
    /// No release.
    Refused(Refusal),
}

/// Why there is no release.
#[derive(Debug)]
pub(super) struct Refusal {
    /// In one word, for programs.
    pub(super) reason: &'static str,
    /// For people.
    pub(super) message: String,
}

impl Target<'_> {
    fn refused(reason: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self::Refused(Refusal { reason, message })
    }
}

/// Finds the release that the spec asks for, or takes the next step towards making it.
pub(super) fn choose<'a>(snapshot: &'a Snapshot, draft: &mut Draft) -> Target<'a> {
    if let Err(error) = snapshot.spec().check() {
        cancel_builds(snapshot, None, draft);
        return Target::refused("Invalid", Chain(&error).to_string());
    }
    let origin = wanted_origin(snapshot);
    if let Some(latest) = snapshot
        .releases
        .last()
        .filter(|latest| latest.spec.origin == origin)
    {
        cancel_builds(snapshot, None, draft);
        return Target::Release(latest);
    }
    // Of what follows nothing ends what runs: it was all right when its release was made.
    if let Err(error) = routes::check(snapshot) {
        cancel_builds(snapshot, None, draft);
        return Target::refused(FOREIGN_HOST, Chain(&error).to_string());
    }
    if let Some(hold) = &snapshot.hold {
        if hold.waits {
            return Target::Building(hold.message.clone());
        }
        cancel_builds(snapshot, None, draft);
        return Target::refused(hold.reason, &*hold.message);
    }
    if let Some(problem) = foreign_secret(snapshot) {
        cancel_builds(snapshot, None, draft);
        return Target::refused("NoSecretStore", problem);
    }
    if let Some(problem) = routes::hostless(snapshot) {
        cancel_builds(snapshot, None, draft);
        return Target::refused(NO_POOL, problem);
    }
    match image(snapshot, draft) {
        Ok((image, outcome)) => {
            create_release(snapshot, image, outcome, draft);
            Target::Building("making the release".to_owned())
        }
        Err(target) => target,
    }
}

/// A variable that refers to a secret store which is not here.
fn foreign_secret(snapshot: &Snapshot) -> Option<String> {
    let content = &snapshot.spec().content;
    let had = snapshot.secret_store.as_ref();
    let mut variables = BTreeMap::from_iter(&content.environment);
    variables.extend(&content.overrides);
    variables.extend(&content.config);
    variables.into_iter().find_map(|(name, value)| {
        let reference = value.reference().ok().flatten()?;
        (Some(&reference.store) != had).then(|| reference.not_here(name, had))
    })
}

fn create_release(
    snapshot: &Snapshot,
    image: Image,
    outcome: Option<BuildOutcome>,
    draft: &mut Draft,
) {
    let latest = snapshot.releases.last();
    let version = latest.map_or(0, |latest| latest.spec.version) + 1;
    if let Some(latest) = latest.filter(|latest| !latest.status.phase.ended()) {
        draft.steps.push(Step::Judge {
            release: latest.spec.version,
            status: Box::new(ReleaseStatus {
                phase: ReleasePhase::Superseded,
                message: format!("superseded by release {version}"),
                ended: Some(snapshot.now),
                ..latest.status.clone()
            }),
        });
    }
    let from = snapshot
        .spec()
        .rollback
        .and_then(|from| snapshot.release(from));
    let detected = match (outcome, from) {
        (Some(outcome), _) => outcome.processes,
        (None, Some(from)) => from.spec.detected.clone(),
        (None, None) => Default::default(),
    };
    draft.steps.push(Step::CreateRelease(Box::new(ReleaseSpec {
        application: snapshot.key.name.clone(),
        version,
        origin: wanted_origin(snapshot),
        image,
        content: snapshot.spec().content.clone(),
        detected,
        host: Some(snapshot.domains.default_host(&snapshot.key)),
        rollback: snapshot.spec().rollback,
    })));
}

/// The image of the release to make, or what is still in its way.
fn image<'a>(
    snapshot: &'a Snapshot,
    draft: &mut Draft,
) -> Result<(Image, Option<BuildOutcome>), Target<'a>> {
    if let Some(from) = snapshot.spec().rollback {
        let release = snapshot.release(from);
        let gone = || {
            Target::refused(
                "ReleaseGone",
                format!("release {from} is not kept any more"),
            )
        };
        return release
            .map(|release| (release.spec.image.clone(), None))
            .ok_or_else(gone);
    }
    let same = |build: &&Build| {
        let wanted = &snapshot.spec().content;
        let mut spec = build.spec.build.clone();
        spec.attempt = wanted.build.attempt;
        build.spec.source == wanted.source && spec == wanted.build && !build.spec.cancelled
    };
    let newest = snapshot.builds.iter().rev().find(same);
    cancel_builds(snapshot, newest.map(|build| build.spec.number), draft);
    let Some(build) = newest else {
        return Err(create_build(snapshot, draft));
    };
    let number = build.spec.number;
    match (build.status.phase, &build.status.outcome) {
        (BuildPhase::Succeeded, Some(outcome)) => {
            Ok((outcome.image.clone(), Some(outcome.clone())))
        }
        (BuildPhase::Queued, _) => Err(Target::Building(format!("build {number} is queued"))),
        (BuildPhase::Running, _) => Err(Target::Building(running(build))),
        _ if build.spec.build.attempt != snapshot.spec().attempt => {
            Err(create_build(snapshot, draft))
        }
        _ => Err(Target::refused(
            "BuildFailed",
            format!("build {number} failed: {}", build.status.message),
        )),
    }
}

/// What is in the way of a build is told, though it may pass.
fn running(build: &Build) -> String {
    let number = build.spec.number;
    match build.status.message.as_str() {
        "" => format!("build {number} runs"),
        hindrance => format!("build {number} is tried again: {hindrance}"),
    }
}

fn create_build<'a>(snapshot: &Snapshot, draft: &mut Draft) -> Target<'a> {
    if !snapshot.sources && !snapshot.spec().content.source.is_image() {
        return Target::refused("NoBuilder", "this platform has no builder: give an image");
    }
    let number = snapshot.builds.last().map_or(0, |build| build.spec.number) + 1;
    let content = &snapshot.spec().content;
    let mut build = content.build.clone();
    build.attempt = snapshot.spec().attempt;
    draft
        .steps
        .push(Step::CreateBuild(Box::new(BuildObjectSpec {
            application: snapshot.key.name.clone(),
            number,
            source: content.source.clone(),
            build,
            repository: snapshot.settings.repository(&snapshot.key),
            cancelled: false,
        })));
    Target::Building(format!("build {number} is queued"))
}

/// Ends the builds that the spec no longer asks for.
fn cancel_builds(snapshot: &Snapshot, but: Option<u64>, draft: &mut Draft) {
    let open = snapshot
        .builds
        .iter()
        .filter(|build| !build.status.phase.ended() && !build.spec.cancelled);
    let others = open
        .map(|build| build.spec.number)
        .filter(|number| Some(*number) != but);
    draft
        .steps
        .extend(others.map(|number| Step::CancelBuild { number }));
}
