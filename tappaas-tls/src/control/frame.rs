use std::io;

use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

/// The most bytes of a frame: a table of many thousand routes.
const FRAME_BYTES_MAX: u32 = 64 << 20;

/// Sends one frame: its length in four bytes, big-endian, then its JSON.
///
/// # Errors
/// What the socket breaks with; `InvalidInput` if the message is too long.
pub(super) async fn write(stream: &mut UnixStream, message: &impl Serialize) -> io::Result<()> {
    let mut frame = vec![0; 4];
    serde_json::to_writer(&mut frame, message)?;
    let length = u32::try_from(frame.len() - 4)
        .ok()
        .filter(|length| *length <= FRAME_BYTES_MAX);
    let length = length.ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            "the message is too long for a frame",
        )
    })?;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    stream.write_all(&frame).await
}

/// Receives one frame; `None` once the other side has closed between two frames. Takes nothing of what follows it.
///
/// # Errors
/// What the socket breaks with; `InvalidData` if the frame is too long or not the JSON expected.
pub(super) async fn read<T: DeserializeOwned>(stream: &mut UnixStream) -> io::Result<Option<T>> {
    let mut length = [0; 4];
    match stream.read_exact(&mut length).await {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    };
    let length = u32::from_be_bytes(length);
    if length > FRAME_BYTES_MAX {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the frame is too long",
        ));
    }
    let mut frame = vec![0; length as usize];
    stream.read_exact(&mut frame).await?;
    serde_json::from_slice(&frame).map(Some).map_err(Into::into)
}
