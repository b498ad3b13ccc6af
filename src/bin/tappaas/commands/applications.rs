use anyhow::Result;
use tappaas::SystemClock;
use tappaas_api::types::{Application, Instance, Phase, RevealQuery};
use tappaas_core::{Clock as _, Name};

use super::session::Session;
use crate::{
    cli::DiffArgs,
    output::{age, bytes},
};

pub(super) async fn apps(session: &Session) -> Result<()> {
    let list = session.client.applications(&session.environment).await?;
    let printer = session.printer;
    printer.value(&list, |list| {
        if list.items.is_empty() {
            return printer.note("no applications yet; `tappaas up PATH` makes one");
        }
        let rows = list.items.iter().map(|app| {
            let ready: u32 = app.processes.values().map(|process| process.ready).sum();
            let wanted: u32 = app.processes.values().map(|process| process.wanted).sum();
            let release = app
                .current
                .map_or_else(|| "-".to_owned(), |release| release.to_string());
            [
                app.name.to_string(),
                word(&app.phase),
                release,
                format!("{ready}/{wanted}"),
                app.hosts.join(" "),
            ]
        });
        printer.table(["app", "phase", "release", "ready", "hosts"], rows);
    })
}

pub(super) async fn status(session: &Session, app: &Name) -> Result<()> {
    let application = session
        .client
        .application(&session.environment, app)
        .await?;
    let instances = session.client.instances(&session.environment, app).await?;
    let printer = session.printer;
    let whole = serde_json::json!({ "application": application, "instances": instances.items });
    printer.value(&whole, |_| {
        overview(session, &application);
        if !instances.items.is_empty() {
            printer.line("");
            table(session, &instances.items);
        }
    })
}

fn overview(session: &Session, app: &Application) {
    let printer = session.printer;
    let rolling = app
        .latest
        .filter(|_| matches!(app.phase, Phase::Releasing | Phase::RollingOut))
        // One that is healthy, and whose routes still follow.
        .filter(|latest| Some(*latest) != app.current);
    let release = match (app.current, rolling) {
        (Some(current), Some(rolling)) => format!("{current}, {rolling} is rolling out"),
        (Some(current), None) => current.to_string(),
        (None, Some(rolling)) => format!("none yet, {rolling} is rolling out"),
        (None, None) => "none yet".to_owned(),
    };
    printer.line(format_args!("{}   {}", app.name, word(&app.phase)));
    if !app.message.is_empty() {
        printer.line(format_args!("message   {}", app.message));
    }
    printer.line(format_args!("release   {release}"));
    for host in &app.hosts {
        printer.line(format_args!("host      {host}"));
    }
    if let Some(image) = &app.image {
        printer.line(format_args!("image     {image}"));
    }
    for (name, process) in &app.processes {
        let reasons = match process.reasons.is_empty() {
            true => String::new(),
            false => format!("  {}", process.reasons.join(", ")),
        };
        printer.line(format_args!(
            "process   {name}: {} of {} ready{reasons}",
            process.ready, process.wanted
        ));
    }
    for note in &app.notes {
        printer.line(format_args!("note      {note}"));
    }
}

fn table(session: &Session, instances: &[Instance]) {
    let now = SystemClock.now();
    let rows = instances.iter().map(|instance| {
        let usage = instance.usage.as_ref();
        let state = if instance.ready {
            "ready".to_owned()
        } else {
            word(&instance.state)
        };
        [
            instance.id.clone(),
            instance.process.to_string(),
            instance.release.to_string(),
            state,
            instance.restarts.to_string(),
            usage.map_or_else(|| "-".to_owned(), |usage| bytes(usage.memory)),
            usage.map_or_else(
                || "-".to_owned(),
                |usage| format!("{:.1}s", usage.cpu_seconds),
            ),
            age(now, Some(instance.created)),
            instance.reason.clone().unwrap_or_default(),
        ]
    });
    session.printer.table(
        [
            "instance", "process", "release", "state", "restarts", "memory", "cpu", "age", "reason",
        ],
        rows,
    );
}

pub(super) async fn releases(session: &Session, app: &Name) -> Result<()> {
    let list = session.client.releases(&session.environment, app).await?;
    let printer = session.printer;
    printer.value(&list, |list| {
        let now = SystemClock.now();
        let rows = list.items.iter().rev().map(|release| {
            let version = if release.current {
                format!("{} (current)", release.version)
            } else {
                release.version.to_string()
            };
            let from = release
                .rollback
                .map(|from| format!("content of release {from}"))
                .unwrap_or_default();
            let note = if release.message.is_empty() {
                from
            } else {
                release.message.clone()
            };
            [
                version,
                word(&release.phase),
                age(now, release.created),
                note,
            ]
        });
        printer.table(["release", "phase", "age", "note"], rows);
    })
}

pub(super) async fn builds(session: &Session, app: &Name) -> Result<()> {
    let list = session.client.builds(&session.environment, app).await?;
    let printer = session.printer;
    printer.value(&list, |list| {
        let now = SystemClock.now();
        let rows = list.items.iter().rev().map(|build| {
            let seconds = build
                .started
                .zip(build.ended)
                .map(|(started, ended)| ended.duration_since(started).as_secs_f64());
            let took = seconds.map_or_else(|| "-".to_owned(), |seconds| format!("{seconds:.1}s"));
            let note = if build.message.is_empty() {
                build.detected.clone().unwrap_or_default()
            } else {
                build.message.clone()
            };
            [
                build.number.to_string(),
                word(&build.phase),
                took,
                age(now, build.started),
                note,
            ]
        });
        printer.table(["build", "phase", "took", "age", "note"], rows);
    })
}

pub(super) async fn diff(session: &Session, args: &DiffArgs) -> Result<()> {
    let reveal = RevealQuery {
        reveal: args.reveal,
    };
    let list = session
        .client
        .diff(
            &session.environment,
            &args.app.app,
            args.from,
            args.to,
            &reveal,
        )
        .await?;
    let printer = session.printer;
    printer.value(&list, |list| {
        if list.items.is_empty() {
            printer.line("no difference");
        }
        for difference in &list.items {
            let hidden = if difference.masked {
                "  (--reveal shows the values)"
            } else {
                ""
            };
            printer.line(format_args!("{}{hidden}", difference.path));
            if let Some(before) = &difference.before {
                printer.line(format_args!("  - {before}"));
            }
            if let Some(after) = &difference.after {
                printer.line(format_args!("  + {after}"));
            }
        }
    })
}

/// A word of the API as it is on the wire.
fn word(word: &impl serde::Serialize) -> String {
    let json = serde_json::to_value(word).unwrap_or_default();
    json.as_str().unwrap_or_default().to_owned()
}
