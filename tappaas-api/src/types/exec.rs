use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use tappaas_core::Name;
use tokio_util::codec::{Decoder, Encoder};
use utoipa::ToSchema;

use super::Problem;

/// What the connection is upgraded to by `exec` (the header `Upgrade`).
///
/// After the answer 101 both sides send frames: a byte that says what it is, the length of the rest in four bytes (big-endian), and the rest,
/// at most [`FrameCodec::PAYLOAD_MAX`]. The client sends [`Frame::Input`] and, if there is no more, [`Frame::Close`]; the server sends
/// [`Frame::Stdout`] and [`Frame::Stderr`], and last [`Frame::Exited`] or [`Frame::Problem`]. Whoever breaks off ends the command.
pub const PROTOCOL: &str = "tappaas-exec";

/// What to run inside an instance.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ExecRequest {
    /// In an instance of this process. Default: `web`, or the only one.
    #[schema(value_type = Option<String>)]
    pub process: Option<Name>,
    /// In this instance. Default: a ready one.
    pub instance: Option<String>,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// On a terminal of this size. Default: without one.
    pub terminal: Option<Terminal>,
}

/// The size of a terminal.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Terminal {
    /// Characters in a row.
    pub columns: u16,
    /// Rows.
    pub rows: u16,
}

/// What goes over an upgraded connection.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Frame {
    /// Bytes for standard input.
    Input(Bytes),
    /// No more input comes.
    Close,
    /// Bytes of standard output; on a terminal all output.
    Stdout(Bytes),
    /// Bytes of standard error.
    Stderr(Bytes),
    /// The command's exit code. The last frame.
    Exited(i32),
    /// The command cannot go on. The last frame.
    Problem(Problem),
}

/// Frames as bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct FrameCodec;

impl FrameCodec {
    /// The most bytes of a frame after its length.
    pub const PAYLOAD_MAX: usize = 64 << 10;

    const HEAD: usize = 5;
}

impl Encoder<Frame> for FrameCodec {
    type Error = std::io::Error;

    fn encode(&mut self, frame: Frame, buffer: &mut BytesMut) -> Result<(), Self::Error> {
        let (kind, payload) = match frame {
            Frame::Input(bytes) => (0, bytes),
            Frame::Close => (1, Bytes::new()),
            Frame::Stdout(bytes) => (2, bytes),
            Frame::Stderr(bytes) => (3, bytes),
            Frame::Exited(code) => (4, Bytes::copy_from_slice(&code.to_be_bytes())),
            Frame::Problem(problem) => (5, serde_json::to_vec(&problem)?.into()),
        };
        if payload.len() > Self::PAYLOAD_MAX {
            return Err(std::io::Error::other("a frame is too long to be sent"));
        }
        buffer.reserve(Self::HEAD + payload.len());
        buffer.put_u8(kind);
        // The payload is at most `PAYLOAD_MAX`, which fits.
        buffer.put_u32(payload.len() as u32);
        buffer.put(payload);
        Ok(())
    }
}

impl Decoder for FrameCodec {
    type Item = Frame;
    type Error = std::io::Error;

    fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame>, Self::Error> {
        let invalid = |message: &str| std::io::Error::new(std::io::ErrorKind::InvalidData, message);
        let Some(head) = buffer.first_chunk::<{ Self::HEAD }>() else {
            return Ok(None);
        };
        let [kind, length @ ..] = *head;
        let length = u32::from_be_bytes(length) as usize;
        if length > Self::PAYLOAD_MAX {
            return Err(invalid("a frame is too long"));
        }
        if buffer.len() < Self::HEAD + length {
            buffer.reserve(Self::HEAD + length - buffer.len());
            return Ok(None);
        }
        buffer.advance(Self::HEAD);
        let payload = buffer.split_to(length).freeze();
        let frame = match (kind, &payload[..]) {
            (0, _) => Frame::Input(payload),
            (1, []) => Frame::Close,
            (2, _) => Frame::Stdout(payload),
            (3, _) => Frame::Stderr(payload),
            (4, &[a, b, c, d]) => Frame::Exited(i32::from_be_bytes([a, b, c, d])),
            (5, json) => Frame::Problem(serde_json::from_slice(json)?),
            _ => return Err(invalid("a frame of an unknown kind")),
        };
        Ok(Some(frame))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Kind;

    #[test]
    fn frames_come_out_as_they_went_in_however_they_are_cut() {
        let frames = [
            Frame::Input("ls\n".into()),
            Frame::Close,
            Frame::Stdout(vec![0xff; FrameCodec::PAYLOAD_MAX].into()),
            Frame::Stderr(Bytes::new()),
            Frame::Exited(-1),
            Frame::Problem(Problem::new(Kind::NotFound, "gone")),
        ];
        let mut bytes = BytesMut::new();
        for frame in frames.clone() {
            FrameCodec.encode(frame, &mut bytes).unwrap();
        }
        let (mut buffer, mut decoded) = (BytesMut::new(), Vec::new());
        for piece in bytes.chunks(7) {
            buffer.extend_from_slice(piece);
            while let Some(frame) = FrameCodec.decode(&mut buffer).unwrap() {
                decoded.push(frame);
            }
        }
        assert_eq!(decoded, frames);
        assert!(buffer.is_empty());
    }

    #[test]
    fn what_is_no_frame_is_refused_before_it_is_read() {
        for bad in [
            &[9, 0, 0, 0, 0][..],
            &[0, 0xff, 0xff, 0xff, 0xff],
            &[1, 0, 0, 0, 1, 0],
            &[4, 0, 0, 0, 3, 0, 0, 0],
            &[5, 0, 0, 0, 1, b'x'],
        ] {
            assert!(
                FrameCodec.decode(&mut BytesMut::from(bad)).is_err(),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn a_frame_that_is_too_long_is_not_sent() {
        let long = Frame::Stdout(vec![0; FrameCodec::PAYLOAD_MAX + 1].into());
        assert!(FrameCodec.encode(long, &mut BytesMut::new()).is_err());
    }
}
