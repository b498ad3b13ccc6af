use std::{
    io::{self, IoSliceMut},
    mem::MaybeUninit,
    os::fd::OwnedFd,
    path::Path,
    time::Duration,
};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, recvmsg};
use tappaas_core::backend::Endpoint;
use tokio::{
    io::{AsyncWriteExt, Interest},
    net::{TcpStream, UnixStream},
    time::timeout,
};

/// Opens a connection to an endpoint.
///
/// # Errors
/// Whatever the endpoint refuses with; `TimedOut` after `limit`.
pub(crate) async fn connect(endpoint: &Endpoint, limit: Duration) -> io::Result<TcpStream> {
    let attempt = async {
        match endpoint {
            Endpoint::Address(address) => TcpStream::connect(address).await,
            Endpoint::Dial { socket, port } => dial(socket, *port).await,
            Endpoint::Service { .. } => Err(io::ErrorKind::Unsupported.into()),
        }
    };
    let stream = timeout(limit, attempt)
        .await
        .map_err(|_| io::ErrorKind::TimedOut)??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Has the owner of `socket` open a connection to `port` where only it can, and hand the connection over.
async fn dial(socket: &Path, port: u16) -> io::Result<TcpStream> {
    let mut dialer = UnixStream::connect(socket).await?;
    dialer.write_all(&port.to_be_bytes()).await?;
    let (status, connection) = dialer
        .async_io(Interest::READABLE, || handed_over(&dialer))
        .await?;
    match (status, connection) {
        (0, Some(connection)) => {
            let stream = std::net::TcpStream::from(connection);
            stream.set_nonblocking(true)?;
            TcpStream::from_std(stream)
        }
        (0, None) => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "no connection was handed over",
        )),
        (status, _) => {
            let message = format!("port {port} refused inside, status {status}");
            Err(io::Error::new(io::ErrorKind::ConnectionRefused, message))
        }
    }
}

fn handed_over(dialer: &UnixStream) -> io::Result<(u8, Option<OwnedFd>)> {
    let mut status = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(
        dialer,
        &mut [IoSliceMut::new(&mut status)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    if received.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if received.flags.contains(ReturnFlags::CTRUNC) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "more than one connection was handed over",
        ));
    }
    let connection = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    Ok((status[0], connection))
}
