use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    net::TcpListener,
    os::fd::{BorrowedFd, OwnedFd},
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use tokio::{io::Interest, net::UnixStream};

/// Descriptors of one message; the kernel's own bound is 253.
const BATCH: usize = 64;

/// Sends descriptors, in order.
///
/// # Errors
/// What the socket breaks with.
pub(super) async fn send(stream: &UnixStream, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    for batch in descriptors.chunks(BATCH) {
        let sent = || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            if !control.push(SendAncillaryMessage::ScmRights(batch)) {
                return Err(io::ErrorKind::OutOfMemory.into());
            }
            sendmsg(
                stream,
                &[IoSlice::new(&[0])],
                &mut control,
                SendFlags::NOSIGNAL,
            )
            .map_err(Into::into)
        };
        stream.async_io(Interest::WRITABLE, sent).await?;
    }
    Ok(())
}

/// Receives `count` descriptors.
///
/// # Errors
/// What the socket breaks with; `InvalidData` if fewer came.
pub(super) async fn receive(stream: &UnixStream, count: usize) -> io::Result<Vec<OwnedFd>> {
    let mut received = Vec::with_capacity(count);
    while received.len() < count {
        let batch = stream
            .async_io(Interest::READABLE, || receive_batch(stream))
            .await?;
        if batch.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "fewer descriptors came than were told",
            ));
        }
        received.extend(batch);
    }
    Ok(received)
}

fn receive_batch(stream: &UnixStream) -> io::Result<Vec<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let message = recvmsg(
        stream,
        &mut [IoSliceMut::new(&mut byte)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    if message.flags.contains(ReturnFlags::CTRUNC) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "descriptors were cut off",
        ));
    }
    let rights = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    Ok(rights.flatten().collect())
}

/// Receives as many listening sockets, the last one a control socket.
///
/// # Errors
/// As [`receive`].
pub(crate) async fn receive_listeners(
    stream: &UnixStream,
    count: usize,
) -> io::Result<(Vec<TcpListener>, std::os::unix::net::UnixListener)> {
    let mut descriptors = receive(stream, count).await?;
    let control = descriptors.pop().ok_or(io::ErrorKind::InvalidData)?;
    Ok((
        descriptors.into_iter().map(TcpListener::from).collect(),
        control.into(),
    ))
}
