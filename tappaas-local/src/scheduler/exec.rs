use bytes::Bytes;
use futures::stream::{self, StreamExt as _};
use tappaas_core::{
    Error, Result,
    backend::{Exec, ExecOutput, ExecRequest},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    sync::mpsc,
};

use super::world::World;
use crate::{Execution, Streams, Terminal};

/// So many chunks of the input or output of a command wait to be read.
const CHUNKS_MAX: usize = 16;
const CHUNK: usize = 16 << 10;

type Output = mpsc::Sender<Result<ExecOutput>>;

impl World {
    pub(super) async fn exec(&self, request: &ExecRequest) -> Result<Exec> {
        let instance = self.inside(&request.workload, request.instance.as_ref())?;
        let execution = instance
            .exec(request.command.clone(), None, request.terminal)
            .await?;
        let (input, inputs) = mpsc::channel(CHUNKS_MAX);
        let (output, outputs) = mpsc::channel(CHUNKS_MAX);
        tokio::spawn(attend(execution, inputs, output));
        let outputs = stream::unfold(outputs, |mut outputs| async move {
            Some((outputs.recv().await?, outputs))
        });
        Ok(Exec {
            input,
            output: outputs.boxed(),
        })
    }
}

/// Passes input and output on until the command has ended, or nobody is there for either. Then the command is killed by dropping it.
async fn attend(mut execution: Execution, mut inputs: mpsc::Receiver<Bytes>, output: Output) {
    let deserted = output.clone();
    let ended = async {
        converse(&mut execution, &mut inputs, &output).await;
        let last = execution.wait().await.map(ExecOutput::Exited);
        output.send(last).await.ok();
    };
    tokio::select! {
        () = ended => {}
        () = deserted.closed() => {}
    }
}

/// Returns once the command closed its output.
async fn converse(execution: &mut Execution, inputs: &mut mpsc::Receiver<Bytes>, output: &Output) {
    match &mut execution.streams {
        Streams::Pipes {
            stdin,
            stdout,
            stderr,
        } => {
            let outputs = async {
                tokio::join!(
                    forward(stdout, output, ExecOutput::Stdout),
                    forward(stderr, output, ExecOutput::Stderr)
                );
            };
            let input = async {
                while let Some(bytes) = inputs.recv().await {
                    if stdin.write_all(&bytes).await.is_err() {
                        break;
                    }
                }
            };
            tokio::pin!(outputs);
            tokio::select! {
                () = &mut outputs => return,
                () = input => {}
            }
            // The end of the input is told by closing the pipe.
            close(stdin);
            outputs.await;
        }
        Streams::Terminal(terminal) => {
            let input = async {
                while let Some(bytes) = inputs.recv().await {
                    if terminal.write(&bytes).await.is_err() {
                        break;
                    }
                }
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = read(terminal, output) => {}
                () = input => {}
            }
        }
    }
}

/// Replaces the pipe by one that nobody reads.
fn close(stdin: &mut tokio::net::unix::pipe::Sender) {
    if let Ok((sender, _)) = tokio::net::unix::pipe::pipe() {
        *stdin = sender;
    }
}

async fn forward(
    source: &mut (impl AsyncRead + Unpin),
    output: &Output,
    kind: fn(Bytes) -> ExecOutput,
) {
    let mut chunk = vec![0; CHUNK];
    while let Ok(count @ 1..) = source.read(&mut chunk).await {
        if output
            .send(Ok(kind(Bytes::copy_from_slice(&chunk[..count]))))
            .await
            .is_err()
        {
            return;
        }
    }
}

async fn read(terminal: &Terminal, output: &Output) {
    let mut chunk = vec![0; CHUNK];
    loop {
        let sent = match terminal.read(&mut chunk).await {
            Ok(0) => return,
            Ok(count) => {
                output
                    .send(Ok(ExecOutput::Stdout(Bytes::copy_from_slice(
                        &chunk[..count],
                    ))))
                    .await
            }
            Err(error) => {
                let error = Error::internal("cannot read from a terminal").with_source(error);
                output.send(Err(error)).await.ok();
                return;
            }
        };
        if sent.is_err() {
            return;
        }
    }
}
