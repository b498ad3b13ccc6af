use std::{future::Future, pin::pin, sync::Arc, time::Duration};

use axum::{Router, serve::Listener};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use tokio::sync::Semaphore;

/// How long a client may take to send the head of a request, and so how long an idle connection is kept.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// How long requests that run when the server stops may go on.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves a router on a unix socket or TCP listener until `stop` completes, then lets running requests end.
///
/// At most `connections_max` connections are served at once; further ones wait in the listener's queue.
pub async fn serve<L: Listener>(
    mut listener: L,
    router: Router,
    connections_max: usize,
    stop: impl Future<Output = ()>,
) {
    let mut stop = pin!(stop);
    let places = Arc::new(Semaphore::new(connections_max));
    let running = GracefulShutdown::new();
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT);
    loop {
        let accepted = async {
            let place = places.clone().acquire_owned().await;
            (listener.accept().await, place)
        };
        let ((stream, _peer), place) = tokio::select! {
            accepted = accepted => accepted,
            () = &mut stop => break,
        };
        let service = TowerToHyperService::new(router.clone());
        let connection = running.watch(http.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            // A client that goes away is its own business.
            let _closed = connection.await;
            drop(place);
        });
    }
    drop(listener);
    if tokio::time::timeout(DRAIN_TIMEOUT, running.shutdown())
        .await
        .is_err()
    {
        tracing::warn!("registry stops with requests still running");
    }
}
