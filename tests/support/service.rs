//! The program as a service: a run that is fed over its standard input, and asked over HTTP and its control socket.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use assert_cmd::cargo::cargo_bin;
use serde_json::Value;

/// Far off: it turns a hang into a failure.
const PATIENCE: Duration = Duration::from_secs(60);

/// A run, killed when it is dropped.
pub(crate) struct Service {
    child: Child,
    pub(crate) input: Option<ChildStdin>,
    errors: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
    pub(crate) dir: PathBuf,
    next: u64,
}

/// How a run ended.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Service {
    /// A run that reads rows from its standard input, in a directory of its own, and is ready to be asked.
    pub(crate) fn start(dir: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut service = Self::spawn(dir, arguments, environment);
        service.wait_for("metrics on http://");
        wait_until("it is ready", || service.get("/readyz").0 == 200);
        service
    }

    /// The same, before it is known whether it runs.
    pub(crate) fn spawn(dir: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let always =
            ["run", "--format", "csv", "--input", "-", "--metrics", "127.0.0.1:0", "--control", "control.sock"];
        let mut child = Command::new(cargo_bin!("plimsoll"))
            .args(always)
            .args(arguments)
            .envs(environment.iter().copied())
            .env_remove("RUST_LOG")
            .current_dir(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let errors = Arc::<Mutex<String>>::default();
        let (err, text) = (child.stderr.take().unwrap(), Arc::clone(&errors));
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(err).lines() {
                let mut text = text.lock().unwrap();
                *text += &(line.unwrap() + "\n");
            }
        });
        let mut input = child.stdin.take();
        if let Some(input) = &mut input {
            // It may have ended by then, if it was started wrongly.
            let _ = input.write_all(b"symbol,ts,kind,price,size\n");
        }
        Self { child, input, errors, reader: Some(reader), dir: dir.to_path_buf(), next: 1 }
    }

    /// What it has said on standard error so far.
    pub(crate) fn errors(&self) -> String {
        self.errors.lock().unwrap().clone()
    }

    pub(crate) fn wait_for(&mut self, text: &str) {
        let start = Instant::now();
        while !self.errors().contains(text) {
            let ended = self.child.try_wait().unwrap();
            let is_late = start.elapsed() > PATIENCE || ended.is_some();
            assert!(!is_late || self.errors().contains(text), "no {text:?} in: {}", self.errors());
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Writes so many rows, of symbols of all tiers.
    pub(crate) fn feed(&mut self, rows: u64) {
        let input = self.input.as_mut().unwrap();
        let mut text = String::new();
        for _ in 0..rows {
            let n = self.next;
            self.next += 1;
            text += &format!("{},{n},trade,10.5,1\n", ["BHP", "QAN", "XYZ"][n as usize % 3]);
        }
        input.write_all(text.as_bytes()).unwrap();
        input.flush().unwrap();
    }

    fn address(&self) -> String {
        let errors = self.errors();
        let rest = errors.split_once("metrics on http://").expect("it serves HTTP").1;
        rest.split_once('/').unwrap().0.to_owned()
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// The status code and the body of an answer.
    pub(crate) fn get(&self, path: &str) -> (u16, String) {
        let (code, _, body) = self.ask("GET", path);
        (code, body)
    }

    /// Code, head and body.
    pub(crate) fn ask(&self, method: &str, path: &str) -> (u16, String, String) {
        let mut stream = TcpStream::connect(self.address()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let code = head.split(' ').nth(1).unwrap().parse().unwrap();
        (code, head.to_owned(), body.to_owned())
    }

    pub(crate) fn status(&self) -> Value {
        let (code, body) = self.get("/status.json");
        assert_eq!(code, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    /// `plimsoll ctl`: exit code, standard output, standard error.
    pub(crate) fn ctl(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let socket = self.dir.join("control.sock");
        let output = Command::new(cargo_bin!("plimsoll"))
            .arg("ctl")
            .args(arguments)
            .env("PLIMSOLL_CONTROL_SOCKET", socket)
            .env_remove("RUST_LOG")
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    }

    /// The same, which has to work; returns what it prints.
    pub(crate) fn told(&self, arguments: &[&str]) -> String {
        let (code, out, err) = self.ctl(arguments);
        assert_eq!(code, Some(0), "ctl {arguments:?}: {err}");
        out
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end.
    pub(crate) fn wait(mut self) -> Ended {
        let mut out = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        let status = self.child.wait().unwrap();
        self.reader.take().unwrap().join().unwrap();
        Ended { status, out, err: self.errors() }
    }

    /// Ends the feed, and waits.
    pub(crate) fn end(mut self) -> Ended {
        drop(self.input.take());
        self.wait()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for a condition.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
