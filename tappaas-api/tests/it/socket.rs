use std::{os::unix::fs::PermissionsExt as _, path::PathBuf, time::Duration};

use futures::{StreamExt as _, TryStreamExt as _};
use tappaas_api::{
    Limits,
    client::Client,
    listen, serve,
    types::{
        ConfigChange, Deployment, EnvironmentPath, ExecRequest, Frame, LogQuery, OperationState,
        ProjectPath, RevealQuery, RollbackRequest, Scale, SourceRequest, Stop,
    },
};
use tappaas_core::{Chain, Digest, ErrorKind, Name};
use tempfile::TempDir;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::world::{ARCHIVE, World, name};

/// A server on a real socket, and a client of it.
struct Served {
    world: World,
    client: Client,
    stop: CancellationToken,
    serving: AbortOnDropHandle<tappaas_core::Result<()>>,
    folder: TempDir,
}

impl Served {
    async fn new() -> Self {
        Self::with(Limits::default()).await
    }

    async fn with(limits: Limits) -> Self {
        let world = World::with(limits).await;
        let folder = tempfile::tempdir().unwrap();
        let listener = listen(&folder.path().join("api.sock")).await.unwrap();
        let stop = CancellationToken::new();
        let serving = serve(
            listener,
            world.state.clone(),
            stop.clone().cancelled_owned(),
        );
        Self {
            client: Client::new(folder.path().join("api.sock")),
            serving: AbortOnDropHandle::new(tokio::spawn(serving)),
            world,
            stop,
            folder,
        }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("api.sock")
    }

    /// Deploys, and waits until it serves.
    async fn serving(&self, manifest: &str) {
        let (client, within, app) = (&self.client, within(), app());
        let digest = Digest::of(ARCHIVE);
        client
            .upload(&within, &app, &digest, ARCHIVE)
            .await
            .unwrap();
        let deployment = Deployment {
            source: SourceRequest::Upload { digest },
            manifest: manifest.to_owned(),
        };
        let accepted = client.deploy(&within, &app, &deployment).await.unwrap();
        self.succeeded(accepted).await;
    }

    async fn succeeded(&self, accepted: tappaas_api::types::Accepted) {
        let id = accepted.operation.unwrap();
        let operations = self.client.watch_operation(&within(), &id).await.unwrap();
        let operations: Vec<_> = operations.try_collect().await.unwrap();
        let last = operations.last().unwrap();
        assert_eq!(last.state, OperationState::Succeeded, "{}", last.message);
        assert_eq!(self.client.operation(&within(), &id).await.unwrap(), *last);
    }

    async fn run(&self, command: &[&str], input: &[u8]) -> (Vec<u8>, Vec<u8>, i32) {
        let request = ExecRequest {
            command: command.iter().map(|&word| word.to_owned()).collect(),
            ..ExecRequest::default()
        };
        let (sender, mut frames) = self.client.exec(&within(), &app(), &request).await.unwrap();
        if !input.is_empty() {
            sender.send(input.to_vec().into()).await.unwrap();
        }
        drop(sender);
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        while let Some(frame) = frames.next().await {
            match frame.unwrap() {
                Frame::Stdout(bytes) => stdout.extend(bytes),
                Frame::Stderr(bytes) => stderr.extend(bytes),
                Frame::Exited(code) => return (stdout, stderr, code),
                other => panic!("{other:?}"),
            }
        }
        panic!("the command did not exit");
    }
}

fn within() -> EnvironmentPath {
    EnvironmentPath {
        tenant: name("default"),
        project: name("default"),
        environment: name("production"),
    }
}

fn project() -> ProjectPath {
    ProjectPath {
        tenant: name("default"),
        project: name("default"),
    }
}

fn app() -> Name {
    name("shop")
}

#[tokio::test]
async fn the_client_sees_what_there_is() {
    let served = Served::new().await;
    served.serving("[processes.web]").await;
    let (client, within, app) = (&served.client, within(), app());
    assert_eq!(client.version().await.unwrap().version, "1.2.3");
    client
        .create_environment(&project(), &name("staging"))
        .await
        .unwrap();
    assert_eq!(
        client.environments(&project()).await.unwrap().items.len(),
        2
    );
    client
        .remove_environment(&project(), &name("staging"))
        .await
        .unwrap();
    assert_eq!(
        client.applications(&within).await.unwrap().items[0].name,
        app
    );
    assert_eq!(
        client.application(&within, &app).await.unwrap().current,
        Some(1)
    );
    assert_eq!(
        client.instances(&within, &app).await.unwrap().items.len(),
        1
    );
    assert_eq!(client.builds(&within, &app).await.unwrap().items.len(), 1);
    let lines = client.build_logs(&within, &app, 1, true).await.unwrap();
    let lines: Vec<_> = lines.try_collect().await.unwrap();
    assert_eq!(lines[0].text, "building");
    let deployment = Deployment {
        source: SourceRequest::Upload {
            digest: Digest::of("other"),
        },
        manifest: String::new(),
    };
    let plan = client.plan(&within, &app, &deployment).await.unwrap();
    assert!(
        plan.steps.iter().any(|step| step.description == "build 2"),
        "{plan:?}"
    );
}

#[tokio::test]
async fn the_client_changes_what_there_is() {
    let mut served = Served::new().await;
    served
        .serving("env.A = \"1\"\n[volumes.data]\npath = \"/data\"")
        .await;
    let (client, within, app) = (served.client.clone(), within(), app());
    let change = ConfigChange {
        set: [("B".to_owned(), tappaas_core::model::EnvValue::new("2"))].into(),
        unset: Vec::new(),
    };
    served
        .succeeded(client.configure(&within, &app, &change).await.unwrap())
        .await;
    let reveal = RevealQuery { reveal: true };
    let variables = client.config(&within, &app, &reveal).await.unwrap().items;
    assert_eq!(variables[1].value.as_ref().unwrap().expose(), "2");
    let differences = client
        .diff(&within, &app, 1, 2, &reveal)
        .await
        .unwrap()
        .items;
    assert_eq!(differences[0].after.as_deref(), Some("2"));
    let request = RollbackRequest::default();
    served
        .succeeded(client.rollback(&within, &app, &request).await.unwrap())
        .await;
    served
        .succeeded(client.restart(&within, &app).await.unwrap())
        .await;
    assert_eq!(client.releases(&within, &app).await.unwrap().items.len(), 4);
    let many = Scale {
        processes: [(name("web"), 2)].into(),
    };
    let refused = client.scale(&within, &app, &many).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Invalid, "{refused}");

    served
        .succeeded(client.destroy(&within, &app).await.unwrap())
        .await;
    assert_eq!(
        client.volumes(&within).await.unwrap().items[0].name,
        name("data")
    );
    client
        .remove_volume(&within, &app, &name("data"))
        .await
        .unwrap();
    client.stop(&Stop { apps: false }).await.unwrap();
    assert!(!served.world.stopped.recv().await.unwrap().apps);
}

#[tokio::test]
async fn an_error_comes_back_with_its_kind_and_causes() {
    let served = Served::new().await;
    let missing = served
        .client
        .application(&within(), &app())
        .await
        .unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    assert!(
        missing.message().contains("there is no application `shop`"),
        "{missing}"
    );
    for id in ["none", "", "../../version", "a b"] {
        let missing = served.client.cancel(&within(), id).await.unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::NotFound, "{id}");
    }

    let nowhere = Client::new(served.folder.path().join("nothing.sock"));
    let unreachable = nowhere.version().await.unwrap_err();
    assert_eq!(unreachable.kind(), ErrorKind::Unavailable);
    let chain = Chain(&unreachable).to_string();
    assert!(
        chain.contains("nothing.sock") && chain.contains("No such file"),
        "{chain}"
    );
}

#[tokio::test]
async fn what_is_not_there_is_named_however_much_is_sent_or_asked() {
    let served = Served::new().await;
    let mut nowhere = within();
    nowhere.environment = name("stagin");
    let content = vec![7; 4 << 20];
    let digest = Digest::of(&content);
    let archive = std::io::Cursor::new(content);
    let uploaded = served
        .client
        .upload(&nowhere, &app(), &digest, archive)
        .await;
    let error = uploaded.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");

    served.serving("").await;
    let query = LogQuery {
        process: Some(name("wob")),
        ..LogQuery::default()
    };
    let logs = served.client.logs(&within(), &app(), &query).await;
    let error = logs.err().unwrap();
    assert!(
        error.message().contains("no process wob; it has web"),
        "{error}"
    );
}

#[tokio::test]
async fn a_source_that_is_too_large_is_an_error_of_the_client_too() {
    let served = Served::with(Limits {
        source: 1000,
        ..Limits::default()
    })
    .await;
    let content = vec![7; 10 << 20];
    let digest = Digest::of(&content);
    let archive = std::io::Cursor::new(content);
    let uploaded = served
        .client
        .upload(&within(), &app(), &digest, archive)
        .await;
    assert_eq!(uploaded.unwrap_err().kind(), ErrorKind::Exhausted);
}

#[tokio::test]
async fn a_command_talks_both_ways_and_tells_its_exit() {
    let served = Served::new().await;
    served.serving("").await;
    assert_eq!(
        served.run(&["echo", "hello"], b"").await,
        (b"hello\n".to_vec(), Vec::new(), 0)
    );
    assert_eq!(served.run(&["false"], b"").await.2, 1);
    let (_, complaint, code) = served.run(&["cat", "/nothing"], b"").await;
    assert!(!complaint.is_empty() && code == 1);
    let long: Vec<u8> = (0..1_000_000_u32).map(|i| i as u8).collect();
    let (echoed, _, code) = served.run(&["cat"], &long).await;
    assert_eq!((echoed == long, code), (true, 0));
}

#[tokio::test]
async fn the_strongest_layer_of_a_variable_reaches_the_process() {
    let served = Served::new().await;
    let manifest = "env = { A = \"1\", B = \"1\", C = \"1\" }\nenvironments.production.env = { B = \"2\", C = \"2\" }";
    served.serving(manifest).await;
    let change = ConfigChange {
        set: [("C".to_owned(), tappaas_core::model::EnvValue::new("3"))].into(),
        unset: Vec::new(),
    };
    let accepted = served.client.configure(&within(), &app(), &change).await;
    served.succeeded(accepted.unwrap()).await;
    let (output, _, _) = served.run(&["env"], b"").await;
    let output = String::from_utf8(output).unwrap();
    let seen: Vec<_> = output
        .lines()
        .filter(|line| line.as_bytes()[1] == b'=')
        .collect();
    assert_eq!(seen, ["A=1", "B=2", "C=3"]);
}

#[tokio::test]
async fn a_command_that_cannot_be_run_is_an_error() {
    let served = Served::new().await;
    let request = |command: &[&str], process: Option<&str>| ExecRequest {
        command: command.iter().map(|&word| word.to_owned()).collect(),
        process: process.map(name),
        ..ExecRequest::default()
    };
    let run = async |request: &ExecRequest| {
        let refused = served.client.exec(&within(), &app(), request).await;
        refused.err().unwrap().kind()
    };
    assert_eq!(run(&request(&["true"], None)).await, ErrorKind::NotFound);
    served.serving("").await;
    assert_eq!(run(&request(&[], None)).await, ErrorKind::Invalid);
    assert_eq!(
        run(&request(&["true"], Some("worker"))).await,
        ErrorKind::NotFound
    );
}

#[tokio::test]
async fn so_many_commands_run_and_no_more() {
    let served = Served::with(Limits {
        commands: 1,
        ..Limits::default()
    })
    .await;
    served.serving("").await;
    let request = ExecRequest {
        command: vec!["cat".to_owned()],
        ..ExecRequest::default()
    };
    let run = async || served.client.exec(&within(), &app(), &request).await;
    let (input, frames) = run().await.unwrap();
    assert_eq!(run().await.err().unwrap().kind(), ErrorKind::Exhausted);
    // Whoever breaks off ends the command, and there is room again.
    drop((input, frames));
    let room = async {
        while run().await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), room)
        .await
        .unwrap();
}

#[tokio::test]
async fn lines_are_followed_until_the_server_stops() {
    let served = Served::with(Limits {
        drain: Duration::from_millis(100),
        ..Limits::default()
    })
    .await;
    served.serving("").await;
    let query = LogQuery {
        follow: true,
        ..LogQuery::default()
    };
    let mut lines = served.client.logs(&within(), &app(), &query).await.unwrap();
    served.stop.cancel();
    let end = async { while let Some(Ok(_)) = lines.next().await {} };
    tokio::time::timeout(Duration::from_secs(10), end)
        .await
        .unwrap();
    tokio::time::timeout(Duration::from_secs(10), served.serving)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn the_socket_is_its_owners_alone() {
    let served = Served::new().await;
    let mode = std::fs::metadata(served.socket())
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o7777, 0o600);
    let left: Vec<_> = std::fs::read_dir(served.folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["api.sock"]);
}

#[tokio::test]
async fn a_socket_in_use_is_left_alone_and_a_dead_one_replaced() {
    let served = Served::new().await;
    let taken = listen(&served.socket()).await.unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::AlreadyExists);
    let socket = served.socket();
    served.stop.cancel();
    served.serving.await.unwrap().unwrap();
    assert!(socket.exists());
    listen(&socket).await.unwrap();
}

#[tokio::test]
async fn a_path_that_no_socket_can_have_is_refused_with_a_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let error = listen(&folder.path().join("x".repeat(120)))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(
        error.message().contains("shorter data directory"),
        "{error}"
    );
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_their_turn() {
    let served = Served::with(Limits {
        connections: 1,
        ..Limits::default()
    })
    .await;
    let held = tokio::net::UnixStream::connect(served.socket())
        .await
        .unwrap();
    let waiting = tokio::time::timeout(Duration::from_millis(200), served.client.version()).await;
    assert!(waiting.is_err(), "a second connection was served");
    drop(held);
    tokio::time::timeout(Duration::from_secs(10), served.client.version())
        .await
        .unwrap()
        .unwrap();
}
