use std::{future::pending, net::SocketAddr, time::Duration};

use tokio::sync::mpsc;

use super::{
    instance::Life,
    userland::{Inside, Streams},
};
use crate::{
    Name,
    backend::{Endpoint, ExecOutput},
    model::{Port, Probe, ProbeCheck},
};

/// How often readiness is checked while an instance is not ready.
const IMPATIENT: Duration = Duration::from_millis(100);
/// How long a process without a port must have run to be ready.
const RUNS: Duration = Duration::from_secs(1);

impl Life {
    /// Checks the instance's health, and returns when its process must be killed for it.
    pub(super) async fn probe(&self) {
        if let Some(startup) = &self.inside.template.probes.startup
            && !self.starts(startup).await
        {
            return;
        }
        tokio::select! {
            () = self.watch_readiness() => {}
            () = self.watch_liveness() => {}
        }
    }

    async fn starts(&self, probe: &Probe) -> bool {
        self.sleep(seconds(probe.delay_seconds)).await;
        for _ in 0..probe.failures.max(1) {
            if self.check(probe).await.is_ok() {
                return true;
            }
            self.sleep(seconds(probe.period_seconds.max(1))).await;
        }
        false
    }

    async fn watch_liveness(&self) {
        let Some(probe) = &self.inside.template.probes.liveness else {
            return pending().await;
        };
        self.sleep(seconds(probe.delay_seconds)).await;
        let mut failed = 0;
        loop {
            match self.check(probe).await {
                Ok(()) => failed = 0,
                Err(_) => failed += 1,
            }
            if failed >= probe.failures {
                return;
            }
            self.sleep(seconds(probe.period_seconds.max(1))).await;
        }
    }

    async fn watch_readiness(&self) {
        let template = &self.inside.template;
        let connection = Probe {
            period_seconds: 1,
            failures: 1,
            ..Probe::new(ProbeCheck::Tcp { port: None })
        };
        let probe = match &template.probes.readiness {
            Some(probe) => probe,
            None if template.ports.is_empty() => {
                self.sleep(RUNS).await;
                self.tell(Ok(()));
                return pending().await;
            }
            None => &connection,
        };
        self.sleep(seconds(probe.delay_seconds)).await;
        let (mut ready, mut failed) = (false, 0);
        loop {
            let checked = self.check(probe).await;
            failed = if checked.is_ok() { 0 } else { failed + 1 };
            // One slow answer does not take a ready instance out of traffic.
            if checked.is_ok() || !ready || failed >= probe.failures {
                ready = checked.is_ok();
                self.tell(checked);
            }
            let period = seconds(probe.period_seconds.max(1));
            self.sleep(if ready { period } else { IMPATIENT.min(period) })
                .await;
        }
    }

    fn tell(&self, readiness: Result<(), String>) {
        let ports = &self.inside.template.ports;
        let found = ports.iter().find_map(|port| {
            let number = self.number(port);
            (number != port.number).then_some(number)
        });
        let endpoint = |port: &Port| {
            let address = SocketAddr::new(self.ip, self.number(port));
            (port.name.clone(), Endpoint::Address(address))
        };
        self.update(|status| {
            status.ready = readiness.is_ok();
            status.reason = readiness.err();
            if status.ready {
                status.endpoints = ports.iter().map(endpoint).collect();
                status.found_port = found;
            }
        });
    }

    async fn check(&self, probe: &Probe) -> Result<(), String> {
        let patience = seconds(probe.timeout_seconds.max(1));
        tokio::select! {
            checked = self.check_once(&probe.check) => checked,
            () = self.sleep(patience) => Err(format!("its probe takes longer than {patience:?}")),
        }
    }

    async fn check_once(&self, check: &ProbeCheck) -> Result<(), String> {
        let network = &self.inside.world.network;
        match check {
            ProbeCheck::Http { path, port } => {
                let address = self.address(port.as_ref())?;
                match network.request(address, path).await {
                    Ok(answer) if (200..400).contains(&answer.status) => Ok(()),
                    Ok(answer) => Err(format!("{path} answers {}", answer.status)),
                    Err(_) => Err(format!("nothing listens on port {}", address.port())),
                }
            }
            ProbeCheck::Tcp { port } => {
                let port = self.address(port.as_ref())?.port();
                match network.ports(self.ip).contains(&port) {
                    true => Ok(()),
                    false => Err(format!("nothing listens on port {port}")),
                }
            }
            ProbeCheck::Exec { command } => match self.inside.exit_code(&command.argv()).await {
                0 => Ok(()),
                code => Err(format!("its probe exits with code {code}")),
            },
        }
    }

    fn address(&self, name: Option<&Name>) -> Result<SocketAddr, String> {
        let mut ports = self.inside.template.ports.iter();
        let port = ports.find(|port| name.is_none_or(|name| *name == port.name));
        let port = port.ok_or("its probe names a port that it does not have")?;
        Ok(SocketAddr::new(self.ip, self.number(port)))
    }

    /// The number of a port: of an undeclared one, the only one that is listened on instead.
    fn number(&self, port: &Port) -> u16 {
        let listening = self.inside.world.network.ports(self.ip);
        match listening.first() {
            Some(only) if !port.declared && listening.len() == 1 => *only,
            _ => port.number,
        }
    }
}

impl Inside {
    async fn exit_code(&self, command: &[String]) -> i32 {
        let (_, input) = mpsc::channel(1);
        let (output, mut outputs) = mpsc::channel(1);
        let read = async {
            let mut code = 0;
            while let Some(output) = outputs.recv().await {
                if let ExecOutput::Exited(exited) = output {
                    code = exited;
                }
            }
            code
        };
        let ((), code) = tokio::join!(self.run(command, Streams { input, output }), read);
        code
    }
}

fn seconds(count: u32) -> Duration {
    Duration::from_secs(count.into())
}
