//! What is disturbed: one request each, to an application that others brought where it is.

use std::{collections::BTreeMap, time::Duration};

use tappaas_core::{
    Name,
    memory::{Behaviour, End, Recipe},
    model::{
        ApplicationContent, ApplicationKey, BuildSpec, Command, EnvValue, OperationState, Rollout,
        Source, VolumeMount,
    },
};

/// A request to application `web`.
#[derive(Clone, Debug)]
pub(crate) enum Ask {
    Deploy(Box<ApplicationContent>, u32),
    Scale(u32),
    Configure(&'static str, &'static str),
    Rollback(u64),
    Restart,
    Destroy,
}

/// One request, what comes before it, and what becomes of it.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// Carried out undisturbed.
    pub(crate) before: Vec<Ask>,
    pub(crate) ask: Ask,
    pub(crate) verdict: OperationState,
    /// Once it answers, the application always does.
    pub(crate) steady: bool,
}

impl Scenario {
    /// Every scenario.
    pub(crate) fn all() -> Vec<Self> {
        let deploy = |source: &str, count| Ask::Deploy(Box::new(content(source)), count);
        let (v1, v2) = (deploy("v1", 2), deploy("v2", 2));
        let kept = |source| Ask::Deploy(Box::new(with_volume(source)), 1);
        let commanded = |source, command| Ask::Deploy(Box::new(commanded(source, command)), 1);
        let scenario = |name, before: &[&Ask], ask: &Ask| Self {
            name,
            before: before.iter().copied().cloned().collect(),
            ask: ask.clone(),
            verdict: OperationState::Succeeded,
            steady: true,
        };
        let failing = |name, before: &[&Ask], ask: &Ask| Self {
            verdict: OperationState::Failed,
            ..scenario(name, before, ask)
        };
        let stopping = |name, before: &[&Ask], ask: &Ask| Self {
            steady: false,
            ..scenario(name, before, ask)
        };
        vec![
            scenario("deploy", &[], &v1),
            scenario("redeploy", &[&v1], &v2),
            scenario("build", &[&v1], &deploy("slow", 2)),
            scenario("grow", &[&v1], &Ask::Scale(4)),
            scenario("shrink", &[&deploy("v1", 4)], &Ask::Scale(1)),
            scenario("rollback", &[&v1, &v2], &Ask::Rollback(1)),
            scenario("configure", &[&v1], &Ask::Configure("COLOR", "blue")),
            scenario("restart", &[&v1], &Ask::Restart),
            scenario("command", &[&v1], &commanded("v2", "migrate")),
            failing("refused", &[&v1], &deploy("bad", 2)),
            failing("broken", &[&v1], &deploy("broken", 2)),
            failing("explode", &[&v1], &commanded("v2", "explode")),
            // One instance at a time holds the volume, so the old one stops first.
            stopping("volume", &[&kept("v1")], &kept("v2")),
            stopping("destroy", &[&kept("v1")], &Ask::Destroy),
        ]
    }
}

/// What building a source comes to, and how its processes behave.
pub(crate) fn sources() -> Vec<(Source, Recipe, Command, Behaviour)> {
    let listening = |source: &str| Behaviour {
        answer: Some(source.to_owned()),
        ..Behaviour::listening_after(Duration::from_millis(300))
    };
    let each = ["v1", "v2", "slow", "bad", "broken"].map(|source| {
        let command = Command::Exec(vec![source.to_owned()]);
        let mut recipe = Recipe {
            processes: BTreeMap::from([(name("web"), command.clone())]),
            ..Recipe::default()
        };
        let mut behaviour = listening(source);
        match source {
            "slow" => recipe.takes = Duration::from_secs(5),
            "bad" => behaviour = Behaviour::exiting(1),
            "broken" => {
                let kind = tappaas_core::ErrorKind::Invalid;
                recipe.fails = Some((kind, "main.go:3: syntax error".to_owned()));
            }
            _ => {}
        }
        (git(source), recipe, command, behaviour)
    });
    each.into()
}

/// The release commands, and how they end.
pub(crate) fn commands() -> [(Command, Behaviour); 2] {
    [("migrate", 0), ("explode", 9)].map(|(line, code)| {
        let behaviour = Behaviour {
            end: Some((Duration::from_secs(1), End::Code(code))),
            ..Behaviour::never_listening()
        };
        (Command::Shell(line.to_owned()), behaviour)
    })
}

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

pub(crate) fn key(application: &str) -> ApplicationKey {
    let key = format!("default/default/production/{application}");
    key.parse().unwrap()
}

pub(crate) fn variable(name: &str, value: &str) -> BTreeMap<String, EnvValue> {
    BTreeMap::from([(name.to_owned(), EnvValue::new(value))])
}

pub(crate) fn content(source: &str) -> ApplicationContent {
    ApplicationContent {
        source: git(source),
        build: BuildSpec::default(),
        processes: BTreeMap::new(),
        environment: BTreeMap::new(),
        overrides: BTreeMap::new(),
        config: BTreeMap::new(),
        volumes: BTreeMap::new(),
        bindings: BTreeMap::new(),
        routes: Vec::new(),
        rollout: Rollout {
            deadline_seconds: 120,
            drain_seconds: 10,
            ..Rollout::default()
        },
        release_command: None,
    }
}

fn with_volume(source: &str) -> ApplicationContent {
    let mount = VolumeMount {
        path: "/data".into(),
        size: None,
        process: name("web"),
    };
    let volumes = BTreeMap::from([(name("data"), mount)]);
    ApplicationContent {
        volumes,
        ..content(source)
    }
}

fn commanded(source: &str, command: &str) -> ApplicationContent {
    let release_command = Some(Command::Shell(command.to_owned()));
    ApplicationContent {
        release_command,
        ..content(source)
    }
}

fn git(source: &str) -> Source {
    Source::Git {
        url: "https://example.com/web".to_owned(),
        reference: "main".to_owned(),
        commit: source.to_owned(),
    }
}
