use std::{
    future::poll_fn,
    io,
    pin::{Pin, pin},
    sync::{Arc, PoisonError, atomic::Ordering::Relaxed},
    task::{Poll, Waker},
};

use hyper::{
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    net::TcpStream,
    time::{Instant, sleep, sleep_until, timeout_at},
};

use super::{Client, service::answer, vitals::Watched};
use crate::config::ms;

/// Serves a client's connection until it ends: HTTP/1.1, HTTP/2 with prior knowledge, or what either was upgraded to.
pub(crate) async fn serve(stream: TcpStream, client: Arc<Client>) {
    // A connection without its options still works; one that is broken says so at once.
    let _ = stream.set_nodelay(true);
    let context = &client.context;
    let first_byte = Instant::now() + ms(context.timeouts.first_byte_ms);
    let multiplexed = match timeout_at(first_byte, speaks_http2(&stream)).await {
        Ok(Ok(multiplexed)) => multiplexed,
        Ok(Err(_)) => return,
        Err(_) => {
            context.totals.timed_out.fetch_add(1, Relaxed);
            return;
        }
    };
    let service = service_fn(|request| answer(Arc::clone(&client), request));
    let limits = &context.limits;
    client.vitals.multiplexed.store(multiplexed, Relaxed);
    let io = TokioIo::new(Watched {
        stream,
        vitals: Arc::clone(&client.vitals),
    });
    let head_bytes = limits.head_bytes;
    if multiplexed {
        let service = {
            let client = Arc::clone(&client);
            service_fn(move |request| answer(Arc::clone(&client), request))
        };
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(limits.streams)
            .max_header_list_size(u32::try_from(head_bytes).unwrap_or(u32::MAX))
            .serve_connection(io, service);
        drive(connection, &client, http2::Connection::graceful_shutdown).await;
    } else {
        let mut builder = http1::Builder::new();
        if limits.headers != HYPER_HEADERS {
            builder.max_headers(limits.headers);
        }
        let connection = builder
            // See `Vitals`: this edge has its own timer, for each connection one.
            .header_read_timeout(None)
            .max_header_size(head_bytes)
            .max_buf_size(head_bytes.max(MIN_BUFFER))
            .serve_connection(io, service)
            .with_upgrades();
        drive(connection, &client, |_| {}).await;
    }
    let tunnel = client
        .tunnel
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    if let Some(tunnel) = tunnel {
        // How a tunnel ends is its two sides' business.
        let _ = tunnel.run(ms(context.timeouts.tunnel_idle_ms)).await;
    }
}

/// hyper's own bound on header lines; only with this one it keeps their table on the stack.
const HYPER_HEADERS: usize = 100;
/// hyper refuses smaller ones; larger ones move long bodies in fewer pieces.
const MIN_BUFFER: usize = 64 * 1024;

/// Runs a connection to its end, or to the moment its client is too slow.
///
/// `go_away` is what a protocol can tell its client when this edge leaves. HTTP/1.1 can only say it with an answer, which
/// [`answer`] does; a connection that is between two requests is left open for a moment, as closing it could cross a request.
async fn drive<C: Future>(connection: C, client: &Client, go_away: impl Fn(Pin<&mut C>)) {
    let (vitals, timeouts) = (&client.vitals, &client.context.timeouts);
    let mut connection = pin!(connection);
    let leave = &client.context.leave;
    let token = leave.token();
    let mut told = pin!(token.cancelled());
    let mut listening: Option<Waker> = None;
    let mut leaving = false;
    let mut timer = pin!(sleep_until(Instant::now() + ms(timeouts.idle_ms)));
    poll_fn(|cx| {
        // The token has a lock: it is asked once to wake this task, and when it did.
        let deaf = !listening
            .as_ref()
            .is_some_and(|waker| waker.will_wake(cx.waker()));
        if !leaving && (deaf || leave.leaving()) {
            listening = Some(cx.waker().clone());
            if told.as_mut().poll(cx).is_ready() {
                leaving = true;
                go_away(connection.as_mut());
            }
        }
        if connection.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        loop {
            let deadline = vitals.deadline(timeouts, leaving);
            // Deadlines move back with every request. The timer follows only when it fires, or when one moved forward.
            if let Some(deadline) = deadline.filter(|deadline| *deadline < timer.deadline()) {
                timer.as_mut().reset(deadline);
            }
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            let now = Instant::now();
            if deadline.is_some_and(|deadline| deadline <= now) {
                client.context.totals.timed_out.fetch_add(1, Relaxed);
                return Poll::Ready(());
            }
            // With a request in flight there is none: the streams of HTTP/2 end without a word to this task, so look again.
            timer
                .as_mut()
                .reset(deadline.unwrap_or_else(|| now + ms(timeouts.idle_ms)));
        }
    })
    .await;
}

/// Whether a client starts with HTTP/2's preface. Nothing is taken from the stream.
async fn speaks_http2(stream: &TcpStream) -> io::Result<bool> {
    const PREFACE: &[u8] = b"PRI ";
    let mut start = [0; PREFACE.len()];
    loop {
        let seen = stream.peek(&mut start).await?;
        if seen == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if seen == PREFACE.len() || start[..seen] != PREFACE[..seen] {
            return Ok(start[..seen] == *PREFACE);
        }
        // Too few bytes to tell, and the stream stays readable: look again, but not at once.
        sleep(ms(5)).await;
    }
}
