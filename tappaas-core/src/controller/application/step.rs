use std::fmt;

use serde::Serialize;

use crate::{
    Name,
    backend::{Frontend, Route, RouteId, Volume, Workload, WorkloadId},
    model::{
        ApplicationStatus, BuildObjectSpec, Host, OperationStatus, ReleaseSpec, ReleaseStatus,
    },
};

/// One idempotent step of a [`Plan`](super::Plan).
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub enum Step {
    /// Take charge of an application that somebody made as an object: from now on it goes only once nothing of it is left.
    Adopt {
        /// The application's name.
        application: Name,
    },
    /// Ask for a build.
    CreateBuild(Box<BuildObjectSpec>),
    /// End a build that nobody wants any more.
    CancelBuild {
        /// Its number.
        number: u64,
    },
    /// Take a host, unless somebody else has it.
    ClaimHost {
        /// The host.
        host: Host,
    },
    /// Give a host back.
    ReleaseHost {
        /// The host.
        host: Host,
    },
    /// Make a volume.
    ApplyVolume(Volume),
    /// Make a release.
    CreateRelease(Box<ReleaseSpec>),
    /// Record what became of a release.
    Judge {
        /// Its version.
        release: u64,
        /// What became of it.
        status: Box<ReleaseStatus>,
    },
    /// Run so many instances of these releases.
    ApplyWorkload(Box<Workload>),
    /// Stop a workload.
    RemoveWorkload(WorkloadId),
    /// Send requests to these instances.
    ApplyRoute(Box<Route>),
    /// Send no more requests.
    RemoveRoute(RouteId),
    /// Record how an operation goes.
    Report {
        /// Its id.
        operation: String,
        /// How it goes.
        status: Box<OperationStatus>,
    },
    /// Record how the application is.
    SetStatus(Box<ApplicationStatus>),
    /// Delete the records of builds, releases and hosts, and let the application go.
    Forget {
        /// The application's name.
        application: Name,
    },
}

impl Step {
    /// Says whether this is refused if the application is not as it was planned from.
    pub(super) fn compares(&self) -> bool {
        matches!(self, Self::Adopt { .. } | Self::SetStatus(_))
    }

    /// Says whether an operation is told to have ended.
    pub(super) fn ends_operation(&self) -> bool {
        matches!(self, Self::Report { status, .. } if status.state.ended())
    }

    /// The name of the route that this makes.
    pub(super) fn route(&self) -> Option<Name> {
        match self {
            Self::ApplyRoute(route) => Some(route.id.name.clone()),
            _ => None,
        }
    }

    /// Says whether this makes a way in for another application.
    pub(super) fn is_inner_route(&self) -> bool {
        let inner = |route: &Route| matches!(route.frontend, Frontend::Inner { .. });
        matches!(self, Self::ApplyRoute(route) if inner(route))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Adopt { application } => write!(f, "take charge of {application}"),
            Self::CreateBuild(build) => write!(f, "build {}", build.number),
            Self::CancelBuild { number } => write!(f, "cancel build {number}"),
            Self::ClaimHost { host } => write!(f, "claim host {host}"),
            Self::ReleaseHost { host } => write!(f, "give back host {host}"),
            Self::ApplyVolume(volume) => write!(f, "make volume {}", volume.id.name),
            Self::CreateRelease(release) => write!(
                f,
                "make release {} of image {}",
                release.version,
                release.image.digest.short()
            ),
            Self::Judge { release, status } => {
                write!(f, "record release {release} as {}", phase(status))
            }
            Self::ApplyWorkload(workload) => display_workload(f, workload),
            Self::RemoveWorkload(id) => write!(f, "stop process {}", id.process),
            Self::ApplyRoute(route) => display_route(f, route),
            Self::RemoveRoute(id) => write!(f, "take away route {}", id.name),
            Self::Report { operation, status } => {
                write!(f, "report operation {operation}: {}", status.message)
            }
            Self::SetStatus(status) => write!(f, "note in the status: {}", status.message),
            Self::Forget { application } => write!(f, "forget {application}"),
        }
    }
}

fn phase(status: &ReleaseStatus) -> &'static str {
    use crate::model::ReleasePhase as Phase;
    match status.phase {
        Phase::Pending => "pending",
        Phase::RollingOut => "rolling out",
        Phase::Healthy => "healthy",
        Phase::Failed => "failed",
        Phase::Superseded => "superseded",
    }
}

fn display_workload(f: &mut fmt::Formatter<'_>, workload: &Workload) -> fmt::Result {
    write!(f, "run process {}", workload.id.process)?;
    for (i, set) in workload.releases.iter().enumerate() {
        let comma = if i == 0 { ":" } else { "," };
        write!(f, "{comma} {} of release {}", set.count, set.release)?;
    }
    if workload.releases.is_empty() {
        f.write_str(": no instances")?;
    }
    Ok(())
}

fn display_route(f: &mut fmt::Formatter<'_>, route: &Route) -> fmt::Result {
    use crate::backend::Action;
    match &route.frontend {
        Frontend::Http { hosts, path } => {
            let hosts: Vec<_> = hosts.iter().map(Host::as_str).collect();
            write!(f, "route {}{path}", hosts.join(", "))?;
        }
        Frontend::Inner { listen } => write!(f, "route inner {listen}")?,
    }
    match &route.action {
        Action::Forward { targets, .. } => {
            let endpoints: usize = targets.iter().map(|target| target.endpoints.len()).sum();
            write!(f, " to {endpoints} instances")
        }
        Action::Redirect { to, .. } => write!(f, " to {to}"),
    }
}
