use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _, stream::BoxStream};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tappaas_core::{Error, Result};
use tokio::sync::mpsc;
use tokio_util::codec::Framed;

use crate::types::{Frame, FrameCodec};

/// How many pieces of input may wait to be sent.
const INPUT_MAX: usize = 16;

/// Turns a connection into the two ends of a command.
pub(super) fn converse(
    connection: Upgraded,
) -> (mpsc::Sender<Bytes>, BoxStream<'static, Result<Frame>>) {
    let (mut sink, frames) = Framed::new(TokioIo::new(connection), FrameCodec).split();
    let (input, mut pieces) = mpsc::channel::<Bytes>(INPUT_MAX);
    tokio::spawn(async move {
        while let Some(mut bytes) = pieces.recv().await {
            while !bytes.is_empty() {
                let piece = bytes.split_to(bytes.len().min(FrameCodec::PAYLOAD_MAX));
                if sink.send(Frame::Input(piece)).await.is_err() {
                    // Nobody reads any more; the output tells why.
                    return;
                }
            }
        }
        let _ = sink.send(Frame::Close).await;
    });
    let broken =
        |error| Error::unavailable("the connection to the command broke off").with_source(error);
    (
        input,
        frames.map(move |frame| frame.map_err(broken)).boxed(),
    )
}
