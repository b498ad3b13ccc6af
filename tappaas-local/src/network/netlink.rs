//! Requests to the kernel over netlink: just as much of the encoding as links, addresses, routes and packet filter rules need.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType,
    netlink::SocketAddrNetlink,
    recv, sendto, socket_with,
    sockopt::{
        Timeout, set_socket_recv_buffer_size, set_socket_send_buffer_size_force, set_socket_timeout,
    },
};

/// This message is a request.
pub(super) const REQUEST: u16 = libc::NLM_F_REQUEST as u16;
/// Answer even if all went well.
pub(super) const ACK: u16 = libc::NLM_F_ACK as u16;
/// Create what is not there.
pub(super) const CREATE: u16 = libc::NLM_F_CREATE as u16;
/// Fail if it is there already.
pub(super) const EXCLUSIVE: u16 = libc::NLM_F_EXCL as u16;
/// Behind what is there already.
pub(super) const APPEND: u16 = libc::NLM_F_APPEND as u16;
/// All there are.
pub(super) const DUMP: u16 = libc::NLM_F_DUMP as u16;

const HEADER: usize = 16;

/// A message under construction: a header, a body of fixed size, and attributes.
#[derive(Clone, Debug)]
pub(super) struct Message {
    bytes: Vec<u8>,
}

impl Message {
    pub(super) fn new(kind: u16, flags: u16, body: &[u8]) -> Self {
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(flags | REQUEST).to_ne_bytes());
        bytes.extend(body);
        let mut message = Self { bytes };
        message.align();
        message
    }

    pub(super) fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(4 + value.len()).expect("no attribute is that long");
        self.bytes.extend(length.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(value);
        self.align();
        self
    }

    pub(super) fn text(self, kind: u16, value: &str) -> Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.attribute(kind, &bytes)
    }

    /// In the machine's byte order, as routing wants numbers.
    pub(super) fn number(self, kind: u16, value: u32) -> Self {
        self.attribute(kind, &value.to_ne_bytes())
    }

    /// In the network's byte order, as the packet filter wants numbers.
    pub(super) fn number_be(self, kind: u16, value: u32) -> Self {
        self.attribute(kind, &value.to_be_bytes())
    }

    pub(super) fn nest(mut self, kind: u16, fill: impl FnOnce(Self) -> Self) -> Self {
        let start = self.bytes.len();
        self = fill(self.attribute(kind | libc::NLA_F_NESTED as u16, &[]));
        let length = u16::try_from(self.bytes.len() - start).expect("no attribute is that long");
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self
    }

    pub(super) fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend(bytes);
        self.align();
        self
    }

    /// The attributes alone of a message without a body, to be put into another one.
    pub(super) fn into_attributes(mut self) -> Vec<u8> {
        self.bytes.split_off(HEADER)
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn finish(mut self, sequence: u32, extra_flags: u16) -> Vec<u8> {
        let length = u32::try_from(self.bytes.len()).expect("no message is that long");
        self.bytes[0..4].copy_from_slice(&length.to_ne_bytes());
        let flags = u16::from_ne_bytes([self.bytes[6], self.bytes[7]]) | extra_flags;
        self.bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        self.bytes
    }
}

/// What the kernel answered.
pub(super) struct Answer<'a> {
    pub(super) kind: u16,
    pub(super) body: &'a [u8],
}

/// A connection to the kernel, in the network namespace in which it was opened.
#[derive(Debug)]
pub(super) struct Socket {
    fd: OwnedFd,
    sequence: u32,
}

impl Socket {
    /// Without a protocol it is that of routing.
    pub(super) fn open(protocol: Option<Protocol>) -> io::Result<Self> {
        let fd = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            protocol,
        )?;
        // The kernel answers before a request returns; nothing but a lost answer ever waits.
        set_socket_timeout(&fd, Timeout::Recv, Some(Duration::from_secs(5)))?;
        Ok(Self { fd, sequence: 0 })
    }

    /// Makes room for large transactions and the answers to them.
    pub(super) fn enlarge(&self) {
        const BYTES: usize = 8 << 20;
        set_socket_send_buffer_size_force(&self.fd, BYTES).ok();
        set_socket_recv_buffer_size(&self.fd, BYTES).ok();
    }

    /// Sends one message and waits for its acknowledgement.
    pub(super) fn request(&mut self, message: Message) -> io::Result<()> {
        self.exchange(vec![message], 0)
    }

    /// Sends messages that take effect together or not at all, between the two that mark such a transaction.
    pub(super) fn transaction(
        &mut self,
        begin: Message,
        messages: Vec<Message>,
        end: Message,
    ) -> io::Result<()> {
        let last = messages.len();
        self.exchange(
            [begin].into_iter().chain(messages).chain([end]).collect(),
            last,
        )
    }

    /// Sends messages as one, and waits for the acknowledgement of the one at index `last`. Returns the first failure.
    fn exchange(&mut self, messages: Vec<Message>, last: usize) -> io::Result<()> {
        let first = self.sequence + 1;
        let mut bytes = Vec::new();
        for (index, message) in messages.into_iter().enumerate() {
            self.sequence += 1;
            bytes.extend(message.finish(self.sequence, if index == last { ACK } else { 0 }));
        }
        self.send(&bytes)?;
        let awaited = first + u32::try_from(last).expect("no transaction is that long");
        let mut failure = None;
        self.answers(|sequence, answer| {
            if answer.kind != libc::NLMSG_ERROR as u16 || sequence < first {
                return false;
            }
            let error = error_of(answer.body);
            // What is refused as a whole is answered at its beginning alone.
            let finished = sequence == awaited || (sequence == first && error.is_some());
            failure = failure.take().or(error);
            finished
        })?;
        failure.map_or(Ok(()), Err)
    }

    /// Sends one message and hands over every answer. A request for one thing is answered by that and an acknowledgement.
    pub(super) fn ask(
        &mut self,
        message: Message,
        mut each: impl FnMut(Answer<'_>),
    ) -> io::Result<()> {
        self.sequence += 1;
        let sequence = self.sequence;
        self.send(&message.finish(sequence, ACK))?;
        let mut failure = None;
        self.answers(|answered, answer| {
            if answered != sequence {
                return false;
            }
            if answer.kind == libc::NLMSG_ERROR as u16 {
                failure = error_of(answer.body);
                return true;
            }
            let done = answer.kind == libc::NLMSG_DONE as u16;
            if !done {
                each(answer);
            }
            done
        })?;
        failure.map_or(Ok(()), Err)
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        let kernel = SocketAddrNetlink::new(0, 0);
        let sent = sendto(self.fd.as_fd(), bytes, SendFlags::empty(), &kernel)?;
        if sent == bytes.len() {
            Ok(())
        } else {
            Err(io::ErrorKind::WriteZero.into())
        }
    }

    fn answers(&self, mut finished: impl FnMut(u32, Answer<'_>) -> bool) -> io::Result<()> {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let (count, _) = recv(self.fd.as_fd(), buffer.as_mut_slice(), RecvFlags::empty())?;
            let mut rest = &buffer[..count];
            while let Some((sequence, answer, after)) = split(rest) {
                if finished(sequence, answer) {
                    return Ok(());
                }
                rest = after;
            }
        }
    }
}

/// Cuts the first message off.
fn split(bytes: &[u8]) -> Option<(u32, Answer<'_>, &[u8])> {
    let length = u32::from_ne_bytes(bytes.get(0..4)?.try_into().ok()?) as usize;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let sequence = u32::from_ne_bytes(bytes.get(8..12)?.try_into().ok()?);
    let body = bytes.get(HEADER..length)?;
    let after = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((sequence, Answer { kind, body }, after))
}

fn error_of(body: &[u8]) -> Option<io::Error> {
    let code = body
        .get(0..4)
        .and_then(|bytes| bytes.try_into().ok())
        .map_or(-libc::EIO, i32::from_ne_bytes);
    (code != 0).then(|| io::Error::from_raw_os_error(-code))
}

/// The attributes behind a body of `fixed` bytes.
pub(super) fn attributes(body: &[u8], fixed: usize) -> impl Iterator<Item = (u16, &[u8])> {
    const KIND: u16 = libc::NLA_TYPE_MASK as u16;
    let mut rest = body.get(fixed..).unwrap_or_default();
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(rest.get(0..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(rest.get(2..4)?.try_into().ok()?) & KIND;
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_attributes_are_read_back_as_written() {
        let message = Message::new(16, 0, &[7; 4])
            .text(1, "lo")
            .nest(2, |inner| inner.number(3, 9).attribute(4, &[1]));
        let bytes = message.finish(5, 0);
        let (sequence, answer, rest) = split(&bytes).unwrap();
        assert_eq!((sequence, answer.kind, rest.len()), (5, 16, 0));
        let outer: Vec<_> = attributes(answer.body, 4).collect();
        assert_eq!(outer[0], (1, &b"lo\0"[..]));
        let inner: Vec<_> = attributes(outer[1].1, 0).collect();
        assert_eq!(inner, [(3, &9u32.to_ne_bytes()[..]), (4, &[1][..])]);
    }

    #[test]
    fn damaged_answers_end_the_reading_and_nothing_else() {
        for bytes in [
            &[][..],
            &[1, 0],
            &[255; 20],
            &[3, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0],
        ] {
            assert!(split(bytes).is_none());
            assert_eq!(attributes(bytes, 0).count(), 0);
        }
    }
}
