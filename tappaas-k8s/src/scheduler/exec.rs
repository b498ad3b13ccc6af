//! Commands inside instances.

use bytes::Bytes;
use futures::StreamExt as _;
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::Status};
use kube::{
    ResourceExt as _,
    api::{AttachParams, AttachedProcess, TerminalSize},
};
use tappaas_core::{
    Error, Result,
    backend::{Exec, ExecOutput, ExecRequest, InstanceState},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    sync::mpsc,
};
use tokio_stream::wrappers::ReceiverStream;

use super::{KubernetesScheduler, observing};
use crate::failure::{failure, within};

/// So many chunks of the input or output of a command wait to be read.
const CHUNKS_MAX: usize = 16;
/// The bytes of one.
const CHUNK: usize = 16 << 10;

type Output = mpsc::Sender<Result<ExecOutput>>;

impl KubernetesScheduler {
    pub(super) async fn run(&self, request: &ExecRequest) -> Result<Exec> {
        let pod = self.runs(request).await?;
        let parameters = AttachParams {
            container: Some(request.workload.process.to_string()),
            stdin: true,
            stdout: true,
            stderr: request.terminal.is_none(),
            tty: request.terminal.is_some(),
            ..AttachParams::default()
        };
        let api = self.api::<Pod>(&request.workload);
        let begun = within(api.exec(&pod.name_any(), &request.command, &parameters)).await;
        let doing = || {
            format!(
                "cannot run a command in an instance of {}",
                request.workload
            )
        };
        let mut process = begun.map_err(|error| failure(doing(), error))?;
        if let (Some((width, height)), Some(mut sizes)) =
            (request.terminal, process.terminal_size())
        {
            let size = TerminalSize { width, height };
            // A command that has ended needs no size.
            sizes.try_send(size).ok();
        }
        let (input, inputs) = mpsc::channel(CHUNKS_MAX);
        let (output, outputs) = mpsc::channel(CHUNKS_MAX);
        tokio::spawn(async move {
            // Whoever reads no more wants no more of it.
            let closed = output.clone();
            tokio::select! {
                () = carry(process, inputs, output) => {}
                () = closed.closed() => {}
            }
        });
        Ok(Exec {
            input,
            output: ReceiverStream::new(outputs).boxed(),
        })
    }

    /// The pod of the instance asked for, or of any that is ready.
    async fn runs(&self, request: &ExecRequest) -> Result<Pod> {
        let now = self.clock.now();
        let mut pods = self.pods(&request.workload).await?.into_iter();
        let found = pods.find(|pod| match &request.instance {
            Some(id) => observing::instance_id(pod) == *id,
            None => observing::instance(pod, now).ready,
        });
        let pod = found.ok_or_else(|| match &request.instance {
            Some(id) => Error::not_found(format!("{} has no instance {id}", request.workload)),
            None => Error::not_found(format!("{} has no ready instance", request.workload)),
        })?;
        if observing::instance(&pod, now).state != InstanceState::Running {
            let id = observing::instance_id(&pod);
            return Err(Error::not_found(format!(
                "no process runs in instance {id}"
            )));
        }
        Ok(pod)
    }
}

/// Carries input in and output out, and at last how the command ended.
async fn carry(mut process: AttachedProcess, mut inputs: mpsc::Receiver<Bytes>, output: Output) {
    let (stdin, status) = (process.stdin(), process.take_status());
    let writing = async move {
        let Some(mut stdin) = stdin else { return };
        while let Some(chunk) = inputs.recv().await {
            if stdin.write_all(&chunk).await.is_err() {
                return;
            }
        }
        // The command sees the end of its input.
        stdin.shutdown().await.ok();
    };
    let reading = async {
        let pumping = async {
            tokio::join!(
                pump(process.stdout(), &output, ExecOutput::Stdout),
                pump(process.stderr(), &output, ExecOutput::Stderr),
            )
        };
        let status = status?;
        let mut pumping = std::pin::pin!(pumping);
        let mut status = std::pin::pin!(status);
        tokio::select! {
            _ = &mut pumping => status.await,
            // Where the connection breaks off nobody ends the output.
            ended = &mut status => match ended {
                Some(ended) => {
                    pumping.await;
                    Some(ended)
                }
                None => None,
            },
        }
    };
    let mut reading = std::pin::pin!(reading);
    let ended = tokio::select! {
        ended = &mut reading => ended,
        () = writing => reading.await,
    };
    let last = match ended.map(code) {
        Some(Ok(code)) => Ok(ExecOutput::Exited(code)),
        Some(Err(why)) => Err(Error::invalid(format!("the command could not run: {why}"))),
        None => Err(Error::unavailable(
            "the connection to the command broke off",
        )),
    };
    output.send(last).await.ok();
}

async fn pump(
    from: Option<impl AsyncRead + Unpin>,
    to: &Output,
    as_output: fn(Bytes) -> ExecOutput,
) {
    let Some(mut from) = from else { return };
    let mut buffer = vec![0; CHUNK];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let chunk = Bytes::copy_from_slice(&buffer[..read]);
        if to.send(Ok(as_output(chunk))).await.is_err() {
            return;
        }
    }
}

/// The exit code, as the kubelet tells it.
fn code(status: Status) -> Result<i32, String> {
    if status.status.as_deref() == Some("Success") {
        return Ok(0);
    }
    let causes = status
        .details
        .and_then(|details| details.causes)
        .unwrap_or_default();
    let mut codes = causes
        .into_iter()
        .filter(|cause| cause.reason.as_deref() == Some("ExitCode"));
    let code = codes.next().and_then(|cause| cause.message?.parse().ok());
    code.ok_or_else(|| status.message.unwrap_or_default())
}
