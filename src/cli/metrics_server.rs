//! Serves `/metrics` over HTTP.

use std::net::{SocketAddr, TcpListener};
use std::thread::JoinHandle;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use plimsoll::Telemetry;
use tokio::sync::oneshot;

use super::CliError;

/// A server on a thread of its own, until it is dropped.
pub(crate) struct MetricsServer {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl MetricsServer {
    /// Binds the address and serves. Port 0 takes a free one; [`address`](Self::address) tells which.
    pub(crate) fn start(address: SocketAddr, telemetry: Telemetry) -> Result<Self, CliError> {
        let failed = |error: std::io::Error| CliError::Runtime(format!("cannot serve metrics on {address}: {error}"));
        let listener = TcpListener::bind(address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let (stop, stopped) = oneshot::channel::<()>();
        let serve = move || {
            let served = runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener)?;
                let metrics = move || {
                    let text = telemetry.render();
                    async move { ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text) }
                };
                let router = Router::new().route("/metrics", get(metrics));
                tokio::select! {
                    served = axum::serve(listener, router).into_future() => served,
                    _ = stopped => Ok(()),
                }
            });
            if let Err(error) = served {
                tracing::error!(%error, "the metrics server has stopped");
            }
        };
        let thread = std::thread::Builder::new().name("plimsoll-http".to_owned()).spawn(serve).map_err(failed)?;
        Ok(Self { address: bound, stop: Some(stop), thread: Some(thread) })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for MetricsServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the metrics server had panicked");
        }
    }
}
