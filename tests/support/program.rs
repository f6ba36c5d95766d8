//! The program as a process.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::process::Command;

use assert_cmd::cargo::cargo_bin;

/// A run's exit code, standard output and standard error.
pub(crate) struct Outcome {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Runs the program to its end.
pub(crate) fn plimsoll(arguments: &[&str]) -> Outcome {
    let output = Command::new(cargo_bin!("plimsoll")).args(arguments).env_remove("RUST_LOG").output().unwrap();
    Outcome {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}
