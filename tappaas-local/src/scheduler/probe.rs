use std::{convert::Infallible, future::pending, time::Duration};

use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use tappaas_core::{
    Name,
    model::{Port, Probe, ProbeCheck},
};
use tokio::time::{Instant as Moment, timeout};

use super::{about::Ready, life::Life};
use crate::{Instance, Status, Streams};

/// How often readiness is checked while a process that was just started is not ready, and for how long it counts as just started.
const EAGER: Duration = Duration::from_millis(25);
const EAGER_FOR: Duration = Duration::from_secs(5);
/// How often it is checked after that.
const PATIENT: Duration = Duration::from_millis(500);
/// A command takes more of the machine than a connection.
const EAGER_EXEC: Duration = Duration::from_millis(250);
/// How long a process must listen on one port alone for it to be taken instead of an undeclared one.
const ALONE: Duration = Duration::from_millis(250);
/// How long a process without a port must have run to be ready.
const RUNS: Duration = Duration::from_secs(1);

/// One run of an instance's process, under its probes.
struct Run<'a> {
    instance: &'a Instance,
    status: &'a Status,
    began: Moment,
    /// The port that it listens on instead of an undeclared one.
    found: Option<u16>,
    /// The only port that it was seen listening on, and since when.
    candidate: Option<(u16, Moment)>,
}

impl Life {
    /// Checks the health of a run, and returns when its process must be killed for it, saying why.
    pub(super) async fn probe(&mut self, instance: &Instance, status: &Status) -> String {
        let known = self
            .about
            .ready
            .clone()
            .filter(|ready| ready.started == status.started);
        let adopted = known.is_some();
        let mut run = Run {
            instance,
            status,
            began: Moment::now(),
            found: known.and_then(|ready| ready.found_port),
            candidate: None,
        };
        if adopted {
            self.tell(&run, Ok(()));
        } else if let Some(startup) = self.template.probes.startup.clone()
            && let Err(reason) = self.starts(&mut run, &startup).await
        {
            return format!("its startup probe fails: {reason}");
        }
        let found = run.found;
        let liveness = Liveness {
            template: std::sync::Arc::clone(&self.template),
            ports: self.about.ports.clone(),
        };
        tokio::select! {
            never = self.watch_readiness(&mut run, adopted) => match never {},
            reason = liveness.watch(instance, status, found) => format!("its liveness probe fails: {reason}"),
        }
    }

    async fn starts(&self, run: &mut Run<'_>, probe: &Probe) -> Result<(), String> {
        tokio::time::sleep(seconds(probe.delay_seconds)).await;
        let mut last = String::new();
        for _ in 0..probe.failures.max(1) {
            let checked = run.check(&self.template, &self.about.ports, probe).await;
            let Err(reason) = checked else {
                return Ok(());
            };
            last.clone_from(&reason);
            self.update(|seat| seat.status.reason = Some(reason));
            tokio::time::sleep(seconds(probe.period_seconds.max(1))).await;
        }
        Err(last)
    }

    async fn watch_readiness(&mut self, run: &mut Run<'_>, adopted: bool) -> Infallible {
        let template = std::sync::Arc::clone(&self.template);
        let connection = Probe {
            period_seconds: 2,
            failures: 1,
            ..Probe::new(ProbeCheck::Tcp { port: None })
        };
        let probe = match &template.probes.readiness {
            Some(probe) => probe,
            None if template.ports.is_empty() => {
                if !adopted {
                    tokio::time::sleep(RUNS).await;
                    self.tell(run, Ok(()));
                }
                return pending().await;
            }
            None => &connection,
        };
        let (mut ready, mut failed) = (adopted, 0);
        if !adopted {
            tokio::time::sleep(seconds(probe.delay_seconds)).await;
        }
        loop {
            let checked = run.check(&template, &self.about.ports, probe).await;
            failed = if checked.is_ok() { 0 } else { failed + 1 };
            // One slow answer does not take a ready instance out of traffic.
            if checked.is_ok() || !ready || failed >= probe.failures {
                ready = checked.is_ok();
                self.tell(run, checked);
            }
            tokio::time::sleep(pause(ready, probe, run.began.elapsed())).await;
        }
    }

    fn tell(&mut self, run: &Run<'_>, readiness: Result<(), String>) {
        let ready = readiness.is_ok().then_some(Ready {
            started: run.status.started,
            found_port: run.found,
        });
        self.note_ready(ready);
        let (template, numbers) = (&self.template, &self.about.ports);
        let endpoints = || {
            let endpoint = |port: &Port| {
                let number = numbers.get(&port.name).copied().unwrap_or(port.number);
                let number = run.found.filter(|_| !port.declared).unwrap_or(number);
                (port.name.clone(), run.instance.endpoint(number))
            };
            template.ports.iter().map(endpoint).collect()
        };
        self.update(|seat| {
            let status = &mut seat.status;
            status.ready = readiness.is_ok();
            status.reason = readiness.err();
            if status.ready {
                status.endpoints = endpoints();
                status.found_port = run.found;
            }
        });
    }
}

fn pause(ready: bool, probe: &Probe, running: Duration) -> Duration {
    let period = seconds(probe.period_seconds.max(1));
    let eager = match (&probe.check, running < EAGER_FOR) {
        (ProbeCheck::Exec { .. }, true) => EAGER_EXEC,
        (_, true) => EAGER,
        (_, false) => PATIENT,
    };
    if ready { period } else { eager.min(period) }
}

/// What the liveness probe of a run needs, apart from who watches its readiness.
struct Liveness {
    template: std::sync::Arc<tappaas_core::backend::Template>,
    ports: std::collections::BTreeMap<Name, u16>,
}

impl Liveness {
    /// Returns the last reason when the probe has failed for good.
    async fn watch(&self, instance: &Instance, status: &Status, found: Option<u16>) -> String {
        let Some(probe) = &self.template.probes.liveness else {
            return pending().await;
        };
        let mut run = Run {
            instance,
            status,
            began: Moment::now(),
            found,
            candidate: None,
        };
        tokio::time::sleep(seconds(probe.delay_seconds)).await;
        let mut failed = 0;
        loop {
            match run.check(&self.template, &self.ports, probe).await {
                Ok(()) => failed = 0,
                Err(reason) if failed + 1 >= probe.failures => return reason,
                Err(_) => failed += 1,
            }
            tokio::time::sleep(seconds(probe.period_seconds.max(1))).await;
        }
    }
}

type Numbers = std::collections::BTreeMap<Name, u16>;

impl Run<'_> {
    /// Checks once. An error says in a sentence what is wrong.
    async fn check(
        &mut self,
        template: &tappaas_core::backend::Template,
        numbers: &Numbers,
        probe: &Probe,
    ) -> Result<(), String> {
        let patience = seconds(probe.timeout_seconds.max(1));
        let port = |name: &Option<Name>| {
            let mut ports = template.ports.iter();
            let port = ports.find(|port| name.as_ref().is_none_or(|name| *name == port.name));
            port.ok_or_else(|| "its probe names a port that it does not have".to_owned())
        };
        let checked = async {
            match &probe.check {
                ProbeCheck::Http { path, port: name } => {
                    let port = port(name)?;
                    let (stream, number) = self.connect(port, numbers).await?;
                    request(stream, number, path).await
                }
                ProbeCheck::Tcp { port: name } => {
                    self.connect(port(name)?, numbers).await.map(drop)
                }
                ProbeCheck::Exec { command } => execute(self.instance, command.argv()).await,
            }
        };
        let late = |_| Err(format!("its probe takes longer than {patience:?}"));
        timeout(patience, checked).await.unwrap_or_else(late)
    }

    /// Connects to a port: of an undeclared one, to the only one that is listened on instead.
    async fn connect(
        &mut self,
        port: &Port,
        numbers: &Numbers,
    ) -> Result<(tokio::net::TcpStream, u16), String> {
        let number = numbers.get(&port.name).copied().unwrap_or(port.number);
        let number = self.found.filter(|_| !port.declared).unwrap_or(number);
        if let Ok(stream) = self.instance.connect_to(number).await {
            return Ok((stream, number));
        }
        let listeners = self.instance.listeners().await.unwrap_or_default();
        let reachable: Vec<u16> = listeners
            .iter()
            .filter(|one| !one.loopback)
            .map(|one| one.port)
            .collect();
        if reachable.contains(&number) {
            // It began to listen in between.
            let stream = self.instance.connect_to(number).await;
            let stream = stream.map_err(|_| format!("port {number} takes no connections"))?;
            return Ok((stream, number));
        }
        match (port.declared, reachable.as_slice()) {
            (false, [only]) if !self.settled(*only) => Err(format!(
                "nothing listens on port {number}; it listens on {only}"
            )),
            (false, [only]) => {
                let stream = self.instance.connect_to(*only).await;
                let stream = stream.map_err(|_| format!("nothing listens on port {only}"))?;
                self.found = Some(*only);
                Ok((stream, *only))
            }
            _ if listeners
                .iter()
                .any(|one| one.loopback && one.port == number) =>
            {
                Err(format!(
                    "it listens on port {number} for itself alone: let it listen on 0.0.0.0, not on localhost"
                ))
            }
            (_, []) => Err(format!("nothing listens on port {number}")),
            (_, others) => {
                let others: Vec<_> = others.iter().map(u16::to_string).collect();
                Err(format!(
                    "nothing listens on port {number}; it listens on {}",
                    others.join(", ")
                ))
            }
        }
    }
}

impl Run<'_> {
    /// A process may open several ports, one after another: the only one counts once it is alone for a while.
    fn settled(&mut self, only: u16) -> bool {
        match self.candidate {
            Some((port, since)) if port == only => since.elapsed() >= ALONE,
            _ => {
                self.candidate = Some((only, Moment::now()));
                false
            }
        }
    }
}

async fn request(stream: tokio::net::TcpStream, port: u16, path: &str) -> Result<(), String> {
    let failed = |error: hyper::Error| format!("{path} on port {port} does not answer: {error}");
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(failed)?;
    let request = hyper::Request::get(path)
        .header(hyper::header::HOST, "localhost")
        .header(hyper::header::USER_AGENT, "tappaas-probe")
        .header(hyper::header::CONNECTION, "close")
        .body(Empty::<bytes::Bytes>::new());
    let request = request.map_err(|error| format!("its probe's path is wrong: {error}"))?;
    let answer = async { sender.send_request(request).await };
    tokio::pin!(answer, connection);
    let answer = tokio::select! {
        biased;
        answer = &mut answer => answer,
        // Many close the connection right behind their answer, which is there then.
        _ = &mut connection => answer.await,
    };
    match answer.map_err(failed)?.status() {
        status if status.is_success() || status.is_redirection() => Ok(()),
        status => Err(format!("{path} on port {port} answers {}", status.as_u16())),
    }
}

async fn execute(instance: &Instance, command: Vec<String>) -> Result<(), String> {
    let failed = |error: tappaas_core::Error| {
        format!("its probe cannot be run: {}", tappaas_core::Chain(&error))
    };
    let mut execution = instance.exec(command, None, None).await.map_err(failed)?;
    // What it writes is of no interest, but it must not wait for somebody to read it.
    let ended = match &mut execution.streams {
        Streams::Pipes { stdout, stderr, .. } => {
            let (mut out, mut err) = (tokio::io::sink(), tokio::io::sink());
            let read = tokio::io::copy(stdout, &mut out);
            let read_errors = tokio::io::copy(stderr, &mut err);
            tokio::try_join!(read, read_errors).map(drop)
        }
        Streams::Terminal(_) => Ok(()),
    };
    ended.map_err(|error| format!("its probe cannot be run: {error}"))?;
    match execution.wait().await.map_err(failed)? {
        0 => Ok(()),
        code => Err(format!("its probe exits with code {code}")),
    }
}

fn seconds(count: u32) -> Duration {
    Duration::from_secs(count.into())
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::{TcpListener, TcpStream},
    };

    use super::*;

    #[tokio::test]
    async fn an_answer_counts_also_when_the_connection_is_closed_right_behind_it() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let read = stream.read(&mut [0; 1024]).await.unwrap();
                assert!(read > 0);
                let answer = b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok";
                stream.write_all(answer).await.unwrap();
            }
        });
        for _ in 0..200 {
            let stream = TcpStream::connect(address).await.unwrap();
            assert_eq!(request(stream, address.port(), "/").await, Ok(()));
        }
    }
}
