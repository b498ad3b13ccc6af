use std::{io, os::fd::AsFd, sync::Arc, time::Duration};

use rustix::process::{Signal, pidfd_send_signal};
use tappaas_core::{Error, Result};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::{Semaphore, oneshot, watch},
    task::JoinSet,
    time::timeout,
};

use super::{
    machine::ended,
    ports::listeners,
    protocol::{self, Call, FRAME_MAX, Reply, Request, VERSION},
    supervisor::{Command, Executing, View},
};
use crate::{
    instance::{Phase, Status},
    sandbox::{Extra, Isolation, Network, StandardStreams, inside_of, usage_of},
};

/// Connections at once; a server needs a handful.
const CONNECTIONS_MAX: usize = 64;
/// A client that has connected asks at once.
const PATIENCE: Duration = Duration::from_secs(10);

/// Answers requests until the instance has ended and all who asked have heard of it.
pub(super) async fn serve(listener: UnixListener, view: View) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut answers = JoinSet::new();
    let mut over = Box::pin(over(view.status.clone()));
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    continue;
                };
                // Beyond the bound a connection is closed at once.
                if let Ok(place) = Arc::clone(&room).try_acquire_owned() {
                    let view = view.clone();
                    answers.spawn(async move {
                        answer(&stream, view).await.ok();
                        drop(place);
                    });
                }
            }
            Some(_) = answers.join_next() => {}
            () = &mut over => break,
        }
    }
    drop(view);
    while answers.join_next().await.is_some() {}
}

async fn over(mut status: watch::Receiver<Status>) {
    status
        .wait_for(|status| status.phase == Phase::Ended)
        .await
        .ok();
}

async fn answer(stream: &UnixStream, view: View) -> io::Result<()> {
    let (request, files) =
        timeout(PATIENCE, protocol::receive::<Request>(stream, FRAME_MAX)).await??;
    if request.version != VERSION {
        let error = Error::unsupported(format!(
            "this instance speaks version {VERSION}, not {}",
            request.version
        ));
        return reply(stream, &Reply::failed(&error)).await;
    }
    match request.call {
        Call::Status => {
            let status = view.status.borrow().clone();
            reply(stream, &Reply::Status(Box::new(status))).await
        }
        Call::Subscribe => subscribe(stream, view).await,
        Call::Stop { grace } => stop(stream, view, grace).await,
        Call::Restart => {
            view.commands.send(Command::Restart).await.ok();
            reply(stream, &Reply::Done).await
        }
        Call::Usage => reply(stream, &Reply::Usage(usage(&view))).await,
        Call::Listeners => reply(stream, &listening(&view)).await,
        Call::Exec {
            command,
            workdir,
            terminal,
        } => {
            let streams = match (terminal, <[_; 3]>::try_from(files)) {
                (Some(size), _) => StandardStreams::Terminal(size),
                (None, Ok(files)) => StandardStreams::Files(files),
                (None, Err(_)) => {
                    let error = Error::invalid(
                        "a command without a terminal needs three open files as its streams",
                    );
                    return reply(stream, &Reply::failed(&error)).await;
                }
            };
            let extra = Extra {
                command,
                workdir: workdir.unwrap_or_else(|| view.spec.workdir.clone()),
                streams,
            };
            exec(stream, view, extra).await
        }
    }
}

async fn subscribe(stream: &UnixStream, view: View) -> io::Result<()> {
    let mut status = view.status.clone();
    drop(view);
    loop {
        let now = status.borrow_and_update().clone();
        let ended = now.phase == Phase::Ended;
        reply(stream, &Reply::Status(Box::new(now))).await?;
        if ended {
            return Ok(());
        }
        tokio::select! {
            changed = status.changed() => changed.map_err(io::Error::other)?,
            gone = closed(stream) => return gone,
        }
    }
}

async fn stop(stream: &UnixStream, view: View, grace: Option<Duration>) -> io::Result<()> {
    let (done, told) = oneshot::channel();
    // Both fail only if it has stopped already.
    view.commands.send(Command::Stop { grace, done }).await.ok();
    told.await.ok();
    let status = view.status.borrow().clone();
    reply(stream, &Reply::Status(Box::new(status))).await
}

async fn exec(stream: &UnixStream, view: View, extra: Extra) -> io::Result<()> {
    let executing = match begin(&view, extra).await {
        Ok(executing) => executing,
        Err(error) => return reply(stream, &Reply::failed(&error)).await,
    };
    let pid = executing.run.pid.as_raw_nonzero().get();
    let console: Vec<_> = executing.console.iter().map(AsFd::as_fd).collect();
    protocol::send(stream, &Reply::Executing { pid }, &console).await?;
    let exit = tokio::select! {
        exit = ended(&executing.run.handle) => exit?,
        _ = closed(stream) => {
            // Nobody is left to see what it does.
            pidfd_send_signal(&executing.run.handle, Signal::KILL).ok();
            ended(&executing.run.handle).await?
        }
    };
    let killed = exit.signal.map(|signal| 128 + signal);
    let code = exit.code.or(killed).unwrap_or(-1);
    reply(stream, &Reply::Executed { code }).await
}

async fn begin(view: &View, extra: Extra) -> Result<Executing> {
    let gone = || Error::unavailable("the instance is being removed");
    let (started, told) = oneshot::channel();
    view.commands
        .send(Command::Exec { extra, started })
        .await
        .map_err(|_| gone())?;
    told.await.map_err(|_| gone())?
}

fn usage(view: &View) -> tappaas_core::backend::Usage {
    let counted = view.cgroup.enforced();
    if counted.memory && counted.cpu {
        return view.cgroup.usage();
    }
    let first = view
        .status
        .borrow()
        .pid
        .and_then(rustix::process::Pid::from_raw);
    let processes = match (first, view.spec.isolation) {
        (Some(first), Isolation::None) => vec![first],
        (Some(first), _) => inside_of(first),
        (None, _) => Vec::new(),
    };
    usage_of(&processes)
}

fn listening(view: &View) -> Reply {
    if view.spec.network == Network::Host {
        let error = Error::unsupported(
            "on the machine's own network nobody can tell an instance's ports from others",
        );
        return Reply::failed(&error);
    }
    match listeners() {
        Ok(found) => Reply::Listeners(found),
        Err(error) => Reply::failed(
            &Error::internal("cannot read which ports are listened on").with_source(error),
        ),
    }
}

async fn reply(stream: &UnixStream, reply: &Reply) -> io::Result<()> {
    protocol::send(stream, reply, &[]).await
}

/// Returns once the other side has closed the connection, or says more than it should.
async fn closed(stream: &UnixStream) -> io::Result<()> {
    loop {
        stream.readable().await?;
        match stream.try_read(&mut [0]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            outcome => return outcome.map(|_| ()),
        }
    }
}
