//! Connections into a network namespace without an address outside, for the edge: the client writes the port (two bytes,
//! big-endian) and receives one status byte, with the connected socket if it is [`CONNECTED`].

use std::{
    net::Ipv4Addr,
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::AsyncReadExt,
    net::{TcpStream, UnixListener, UnixStream},
    sync::Semaphore,
    time::timeout,
};

use super::passing;

/// The socket comes along.
pub(crate) const CONNECTED: u8 = 0;
/// Nothing listens on that port.
pub(crate) const REFUSED: u8 = 1;
/// It took too long, or there is no room for more connections under way.
pub(crate) const TIMED_OUT: u8 = 2;

/// Connections under way at once. An established one is the client's alone and does not count.
const PENDING_MAX: usize = 512;
const PATIENCE: Duration = Duration::from_secs(5);

/// Serves connections to `address` until dropped.
pub(crate) async fn serve(listener: UnixListener, address: Ipv4Addr) {
    let room = Arc::new(Semaphore::new(PENDING_MAX));
    loop {
        let Ok((client, _)) = listener.accept().await else {
            // Out of file descriptors: others close theirs.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let Ok(place) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        tokio::spawn(async move {
            timeout(2 * PATIENCE, answer(client, address)).await.ok();
            drop(place);
        });
    }
}

async fn answer(mut client: UnixStream, address: Ipv4Addr) -> std::io::Result<()> {
    let port = client.read_u16().await?;
    let connected = timeout(PATIENCE, TcpStream::connect((address, port))).await;
    let refuse = |status: u8| (status, None);
    let (status, stream) = match connected {
        Ok(Ok(stream)) => (CONNECTED, Some(stream)),
        Ok(Err(_)) => refuse(REFUSED),
        Err(_) => refuse(TIMED_OUT),
    };
    let files: Vec<BorrowedFd<'_>> = stream.iter().map(AsFd::as_fd).collect();
    passing::send(&client, &[status], &files).await
}
