//! What runs beside a run for its operator, on a thread of its own: the HTTP server, the control socket, reloads, and systemd.

mod history;
mod http;
mod notify;
mod reload;
mod socket;

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use plimsoll::{Control, Telemetry};
use tokio::sync::oneshot;

use super::CliError;
use super::feeds::Counts;
use super::signal::StopFlag;
use super::status::Status;
use history::History;
pub(crate) use reload::Reloader;
pub(crate) use socket::{Answer, Request};

/// How often it looks whether there is something to do.
const TICK: Duration = Duration::from_millis(50);

/// What all parts of the service share.
pub(crate) struct Shared {
    telemetry: Telemetry,
    feeds: Counts,
    /// There, once the pipeline runs.
    control: OnceLock<Control>,
    history: Mutex<History>,
    reloader: Reloader,
    /// Asks for an orderly end.
    stop: StopFlag,
    /// Somebody wants a reload.
    hangup: Arc<AtomicBool>,
}

impl Shared {
    pub(crate) fn new(
        telemetry: Telemetry,
        feeds: Counts,
        reloader: Reloader,
        stop: StopFlag,
    ) -> Result<Arc<Self>, CliError> {
        let hangup = Arc::new(AtomicBool::new(false));
        signal_hook::flag::register(signal_hook::consts::SIGHUP, Arc::clone(&hangup))
            .map_err(|error| CliError::io(&"signal handler", &error))?;
        let history = Mutex::default();
        Ok(Arc::new(Self { telemetry, feeds, control: OnceLock::new(), history, reloader, stop, hangup }))
    }

    /// `None` until the pipeline runs.
    fn status(&self) -> Option<Status> {
        let control = self.control.get()?;
        Some(Status::of(control, &self.feeds, self.reloader.not_ready_from()))
    }

    fn history(&self) -> std::sync::MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The service of a run, until it is dropped.
pub(crate) struct Service {
    shared: Arc<Shared>,
    address: Option<SocketAddr>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    /// Removed at the end.
    _socket: Option<socket::SocketFile>,
}

impl Service {
    /// Binds what there is to bind, and serves. Port 0 takes a free one; [`address`](Self::address) tells which.
    ///
    /// # Errors
    /// When an address or a socket is taken, or may not be bound.
    pub(crate) fn start(
        address: Option<SocketAddr>,
        socket: Option<&Path>,
        shared: Arc<Shared>,
    ) -> Result<Self, CliError> {
        let http = address.map(bind).transpose()?;
        let bound = http.as_ref().and_then(|listener| listener.local_addr().ok());
        let (socket, file) = socket.map(socket::bind).transpose()?.unzip();
        let failed = |error| CliError::io(&"the service's thread", &error);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let (stop, stopped) = oneshot::channel::<()>();
        let state = Arc::clone(&shared);
        let serve = move || {
            runtime.block_on(async {
                if let Some(listener) = http {
                    tokio::spawn(http::serve(listener, Arc::clone(&state)));
                }
                if let Some(listener) = socket {
                    tokio::spawn(socket::serve(listener, Arc::clone(&state)));
                }
                tokio::select! {
                    () = tick(&state) => {}
                    _ = stopped => {}
                }
            });
            // Those who are being answered get their answer, but nobody is waited for who does not read it.
            runtime.shutdown_timeout(Duration::from_millis(200));
        };
        let thread = std::thread::Builder::new().name("plimsoll-http".to_owned()).spawn(serve).map_err(failed)?;
        Ok(Self { shared, address: bound, stop: Some(stop), thread: Some(thread), _socket: file })
    }

    /// Where HTTP is served, if it is.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// The pipeline runs: says so to whoever has started this process, and serves its status from now on.
    pub(crate) fn started(&self, control: Control) {
        let _ = self.shared.control.set(control);
        notify::ready();
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        notify::stopping();
        drop(self.stop.take());
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the service's thread had panicked");
        }
    }
}

fn bind(address: SocketAddr) -> Result<TcpListener, CliError> {
    let failed = |error: std::io::Error| {
        let hint = match error.kind() {
            std::io::ErrorKind::AddrInUse => "; another process has it: give another port, or 0 for any",
            std::io::ErrorKind::AddrNotAvailable => "; this machine has no such address",
            std::io::ErrorKind::PermissionDenied => "; ports below 1024 want a privilege",
            _ => "",
        };
        CliError::Runtime(format!("cannot serve HTTP on {address}: {error}{hint}"))
    };
    let listener = TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}

/// Whatever comes up by time.
async fn tick(shared: &Shared) {
    let mut interval = tokio::time::interval(TICK);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut watchdog = notify::Watchdog::new();
    loop {
        interval.tick().await;
        let Some(control) = shared.control.get() else { continue };
        shared.history().look(control);
        watchdog.look(|| control.health().is_well());
        if shared.hangup.swap(false, Ordering::Relaxed) {
            notify::reloading();
            match shared.reloader.reload(control) {
                Ok(reloaded) => tracing::warn!("{}", reloaded.to_string().replace('\n', "; ")),
                Err(error) => tracing::error!("{}", socket::reload_failed(&error)),
            }
            notify::ready();
        }
    }
}
