//! The control socket: one request a line, one answer a line, as JSON. Whoever may open the socket may do what it offers.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use plimsoll::{Control, ControlError, DegradationLevel};
use rustix::fs::Mode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

use super::super::CliError;
use super::Shared;

/// Bytes of a request at most.
const REQUEST_MAX: u64 = 4096;
/// How long who has connected may take to say what he wants.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is asked of a process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "lowercase", deny_unknown_fields)]
pub(crate) enum Request {
    /// What there is to see.
    Status,
    /// Back to NORMAL.
    Reset,
    /// Hold a level.
    Pin {
        /// Its number.
        level: u8,
        /// For so long; without an end, if it is left out.
        for_seconds: Option<f64>,
    },
    /// Let the signals decide again.
    Unpin,
    /// Read the configuration again.
    Reload,
    /// The last transitions.
    History,
    /// Why the level is what it is.
    Explain,
    /// End in good order.
    Drain,
}

/// What a process answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Answer {
    pub(crate) ok: bool,
    /// For people.
    pub(crate) text: String,
    /// For programs.
    pub(crate) data: Value,
}

/// The socket's file, which goes with the process.
pub(crate) struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Not another's, who has come in the meantime.
        if fs::symlink_metadata(&self.path).is_ok_and(|file| file.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Makes the socket, with mode 0600, in the place of one that a dead process has left.
pub(super) fn bind(path: &Path) -> Result<(UnixListener, SocketFile), CliError> {
    let failed = |error: io::Error| {
        let hint = match error.kind() {
            ErrorKind::NotFound => "; its directory is not there",
            ErrorKind::InvalidInput => "; a socket's path has 107 bytes at most",
            _ => "",
        };
        CliError::Runtime(format!("the control socket {}: {error}{hint}", path.display()))
    };
    if let Ok(there) = fs::symlink_metadata(path) {
        if !there.file_type().is_socket() {
            let path = path.display();
            return Err(CliError::Config(format!(
                "the control socket {path}: there is something else that is no socket"
            )));
        }
        if UnixStream::connect(path).is_ok() {
            return Err(CliError::Runtime(format!(
                "the control socket {}: a live process listens there; give this one another path, with --control or \
                 [control] socket",
                path.display()
            )));
        }
        fs::remove_file(path).map_err(failed)?;
    }
    // So that there is no moment in which others may open it.
    let old = rustix::process::umask(Mode::RWXG | Mode::RWXO | Mode::XUSR);
    let bound = UnixListener::bind(path);
    rustix::process::umask(old);
    let listener = bound.map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let inode = fs::symlink_metadata(path).map_err(failed)?.ino();
    Ok((listener, SocketFile { path: path.to_path_buf(), inode }))
}

/// Serves until the runtime ends.
pub(super) async fn serve(listener: UnixListener, shared: Arc<Shared>) {
    let listener = match tokio::net::UnixListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "the control socket does not work"),
    };
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let shared = Arc::clone(&shared);
                tokio::spawn(async move { drop(tokio::time::timeout(PATIENCE, answer(stream, &shared)).await) });
            }
            Err(error) => {
                tracing::warn!(%error, "the control socket");
                // Out of file handles, most likely, which passes.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn answer(stream: tokio::net::UnixStream, shared: &Shared) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    BufReader::new(read.take(REQUEST_MAX)).read_line(&mut line).await?;
    let answer = match serde_json::from_str(&line) {
        Ok(request) => carry_out(&request, shared),
        Err(error) => refuse(format!("that is no request: {error}")),
    };
    let mut text = serde_json::to_string(&answer)?;
    text.push('\n');
    write.write_all(text.as_bytes()).await
}

fn refuse(text: String) -> Answer {
    Answer { ok: false, text, data: Value::Null }
}

/// In words, why nothing has changed.
pub(super) fn reload_failed(error: &CliError) -> String {
    match error {
        CliError::Report(report) => format!("all stays as it was; the configuration is wrong\n{report:?}"),
        error => format!("all stays as it was: {error}"),
    }
}

fn carry_out(request: &Request, shared: &Shared) -> Answer {
    let Some(control) = shared.control.get() else {
        return refuse("it is starting: the spill log is being read".to_owned());
    };
    if !matches!(request, Request::Status | Request::History | Request::Explain) {
        tracing::warn!(?request, "asked over the control socket");
    }
    match try_carry_out(request, control, shared) {
        Ok((text, data)) => Answer { ok: true, text, data },
        Err(text) => refuse(text),
    }
}

fn try_carry_out(request: &Request, control: &Control, shared: &Shared) -> Result<(String, Value), String> {
    let words = |error: ControlError| error.to_string();
    let now_at = |control: &Control| format!("the level is {}", control.level());
    let status = || shared.status().ok_or_else(|| "it is starting".to_owned());
    Ok(match request {
        Request::Status => {
            let status = status()?;
            let data = serde_json::to_value(&status).map_err(|error| error.to_string())?;
            (super::super::ctl::status_text(&status), data)
        }
        Request::Reset => {
            control.reset().map_err(words)?;
            (format!("reset; {}", now_at(control)), json!({ "level": control.level().name() }))
        }
        Request::Pin { level, for_seconds } => {
            let level = DegradationLevel::from_value(*level).ok_or("levels are 0 to 4")?;
            let time = for_seconds.map(Duration::try_from_secs_f64).transpose().map_err(|error| error.to_string())?;
            control.pin(level, time).map_err(words)?;
            let until = time.map_or("until unpin".to_owned(), |time| format!("for {time:?}"));
            (format!("held at {level} {until}"), json!({ "level": level.name(), "for_seconds": for_seconds }))
        }
        Request::Unpin => {
            let was_pinned = control.unpin().map_err(words)?;
            let done = if was_pinned { "let go" } else { "no level was held" };
            (
                format!("{done}; {}", now_at(control)),
                json!({ "was_pinned": was_pinned, "level": control.level().name() }),
            )
        }
        Request::Reload => {
            let done = shared.reloader.reload(control).map_err(|error| reload_failed(&error))?;
            let data = json!({
                "changed": done.changed, "needs_restart": done.needs_restart, "warnings": done.warnings,
            });
            (done.to_string(), data)
        }
        Request::History => {
            let transitions = status()?.transitions;
            let line = |t: &super::super::status::TransitionStatus| {
                format!(
                    "{:>10.1} s ago  {} {:<13} → {:<13} {}",
                    t.ago_seconds,
                    if t.is_up { '▲' } else { '▼' },
                    t.from,
                    t.to,
                    t.cause
                )
            };
            let lines: Vec<_> = transitions.iter().rev().map(line).collect();
            let text = if lines.is_empty() { "the level has never changed".to_owned() } else { lines.join("\n") };
            (text, serde_json::to_value(transitions).map_err(|error| error.to_string())?)
        }
        Request::Explain => {
            let text = control.explain().to_string();
            let data = json!({ "explanation": text.lines().collect::<Vec<_>>() });
            (text, data)
        }
        Request::Drain => {
            shared.stop.raise();
            ("draining: feeds end, what was accepted is finished, then the process ends".to_owned(), Value::Null)
        }
    })
}
