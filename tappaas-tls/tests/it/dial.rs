use std::{io::IoSlice, mem::MaybeUninit, net::SocketAddr, os::fd::AsFd, path::PathBuf};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tappaas_core::backend::Endpoint;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UnixListener},
};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    client::get,
    origin::mirror,
    rig::{HOST, Rig},
};

/// Opens connections for others, as the owner of a network namespace does: to `inside` for port 80, to nothing for the others.
struct Dialer {
    socket: PathBuf,
    _task: AbortOnDropHandle<()>,
}

impl Dialer {
    fn start(socket: PathBuf, inside: SocketAddr) -> Self {
        let listener = UnixListener::bind(&socket).unwrap();
        let task = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                if stream.read_u16().await.unwrap() != 80 {
                    stream.write_all(&[1]).await.unwrap();
                    continue;
                }
                let connection = TcpStream::connect(inside)
                    .await
                    .unwrap()
                    .into_std()
                    .unwrap();
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
                let mut control = SendAncillaryBuffer::new(&mut space);
                let rights = [connection.as_fd()];
                assert!(control.push(SendAncillaryMessage::ScmRights(&rights)));
                sendmsg(
                    &stream,
                    &[IoSlice::new(&[0])],
                    &mut control,
                    SendFlags::empty(),
                )
                .unwrap();
            }
        });
        Self {
            socket,
            _task: AbortOnDropHandle::new(task),
        }
    }

    fn endpoint(&self, port: u16) -> Endpoint {
        Endpoint::Dial {
            socket: self.socket.clone(),
            port,
        }
    }
}

#[tokio::test]
async fn an_endpoint_behind_a_hand_over_socket_is_reached() {
    let (rig, origin) = (Rig::start().await, mirror().await);
    let dialer = Dialer::start(rig.state.path().join("dial.sock"), origin.address);
    rig.serve(1, &[dialer.endpoint(80)]).await;
    for _ in 0..3 {
        assert_eq!(get(rig.address, HOST, "/").await.status(), 200);
    }
    assert_eq!(origin.connections(), 1, "it is kept like any other");
    rig.serve(2, &[dialer.endpoint(81)]).await;
    assert_eq!(get(rig.address, HOST, "/").await.status(), 502);
    rig.serve(
        3,
        &[
            Endpoint::Dial {
                socket: "/nonexistent".into(),
                port: 80,
            },
            dialer.endpoint(80),
        ],
    )
    .await;
    assert_eq!(get(rig.address, HOST, "/").await.status(), 200);
}
