//! Carries the input and output of a command over an upgraded connection.

use std::{pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tappaas_core::{
    Error, Result,
    backend::{Exec, ExecOutput},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::codec::Framed;

use crate::types::{Frame, FrameCodec, Problem};

/// How long a client may take to leave once its command has ended.
const FAREWELL_MAX: Duration = Duration::from_secs(5);

/// Room for the commands that run at the same time.
#[derive(Clone, Debug)]
pub(crate) struct Commands(pub(crate) Arc<Semaphore>);

impl Commands {
    /// Takes room for one command.
    pub(crate) fn enter(&self) -> Result<OwnedSemaphorePermit> {
        let full =
            |_| Error::exhausted("too many commands run already; try again when one has ended");
        self.0.clone().try_acquire_owned().map_err(full)
    }
}

type Frames = futures::stream::SplitStream<Framed<TokioIo<Upgraded>, FrameCodec>>;

/// Relays until the command or the connection ends; the end of one is the end of the other.
pub(crate) async fn relay(connection: Upgraded, running: Exec) {
    let Exec { input, mut output } = running;
    let (mut sink, frames) = Framed::new(TokioIo::new(connection), FrameCodec).split();
    let produce = async {
        while let Some(item) = output.next().await {
            let last = !matches!(item, Ok(ExecOutput::Stdout(_) | ExecOutput::Stderr(_)));
            for frame in framed(item) {
                sink.send(frame).await?;
            }
            if last {
                return Ok(());
            }
        }
        let broken = Error::unavailable("the command ended without saying how");
        sink.send(Frame::Problem(Problem::from(&broken))).await
    };
    let mut consume = pin!(consume(frames, input));
    let produced: std::io::Result<()> = tokio::select! {
        produced = produce => produced,
        () = &mut consume => return,
    };
    if let Err(error) = produced {
        return tracing::debug!(%error, "the client of a command is gone");
    }
    // With input unread the kernel would reset the connection, and take the last frames from the client.
    if sink.close().await.is_ok() {
        let _ = tokio::time::timeout(FAREWELL_MAX, consume).await;
    }
}

/// Hands input over until the client is gone. After the end of input it still waits for that.
async fn consume(mut frames: Frames, input: mpsc::Sender<Bytes>) {
    let mut input = Some(input);
    while let Some(Ok(frame)) = frames.next().await {
        match frame {
            Frame::Input(bytes) => {
                if let Some(open) = &input
                    && open.send(bytes).await.is_err()
                {
                    // The command reads no more; what it still writes matters.
                    input = None;
                }
            }
            Frame::Close => input = None,
            Frame::Stdout(_) | Frame::Stderr(_) | Frame::Exited(_) | Frame::Problem(_) => return,
        }
    }
}

/// What comes out of a command as frames, none of them too long.
fn framed(item: Result<ExecOutput>) -> Vec<Frame> {
    let pieces = |mut bytes: Bytes, frame: fn(Bytes) -> Frame| {
        let mut frames = Vec::new();
        while !bytes.is_empty() {
            frames.push(frame(
                bytes.split_to(bytes.len().min(FrameCodec::PAYLOAD_MAX)),
            ));
        }
        frames
    };
    match item {
        Ok(ExecOutput::Stdout(bytes)) => pieces(bytes, Frame::Stdout),
        Ok(ExecOutput::Stderr(bytes)) => pieces(bytes, Frame::Stderr),
        Ok(ExecOutput::Exited(code)) => vec![Frame::Exited(code)],
        Err(error) => vec![Frame::Problem(Problem::from(&error))],
    }
}
