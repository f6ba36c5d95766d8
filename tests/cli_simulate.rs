//! `plimsoll simulate` from outside: every recorded vector of the level logic, and wrong traces.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use assert_cmd::cargo::cargo_bin;
use tempfile::TempDir;

const GOLDEN: &str = include_str!("data/golden_levels.csv");
/// Columns of the vectors that are thresholds, by their names in a configuration file.
const FIELDS: [&str; 11] = [
    "lag_soft",
    "lag_graceful",
    "lag_aggressive",
    "lag_circuit_break",
    "heap_soft",
    "heap_graceful",
    "heap_aggressive",
    "heap_circuit_break",
    "recovery_lag_factor",
    "recovery_heap_factor",
    "recovery_cooldown_seconds",
];

fn simulate(trace: &Path, config: Option<&Path>) -> Output {
    let mut command = Command::new(cargo_bin!("plimsoll"));
    command.arg("simulate").arg("--trace").arg(trace);
    if let Some(config) = config {
        command.arg("--config").arg(config);
    }
    command.output().unwrap()
}

#[test]
fn every_recorded_case_comes_out_line_by_line() {
    let dir = TempDir::new().unwrap();
    let (trace, config) = (dir.path().join("trace.csv"), dir.path().join("config.toml"));
    let rows: Vec<Vec<&str>> = GOLDEN.lines().skip(1).map(|line| line.split(',').collect()).collect();
    assert_eq!(rows.len(), 9_755);
    for case in rows.chunk_by(|a, b| a[0] == b[0]) {
        let mut expected = "t_ms,lag,heap_pct,level\n".to_owned();
        let mut input = "t_ms,lag,heap_pct\n".to_owned();
        for row in case {
            writeln!(input, "{}", row[1..4].join(",")).unwrap();
            writeln!(expected, "{}", row[1..5].join(",")).unwrap();
        }
        let mut toml = "[thresholds]\n".to_owned();
        for (field, value) in FIELDS.iter().zip(&case[0][5..]) {
            writeln!(toml, "{field} = {value}").unwrap();
        }
        fs::write(&trace, input).unwrap();
        fs::write(&config, toml).unwrap();
        let output = simulate(&trace, Some(&config));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(String::from_utf8(output.stdout).unwrap(), expected, "case {}", case[0][0]);
    }
}

#[test]
fn columns_are_found_by_name_and_texts_are_kept() {
    let dir = TempDir::new().unwrap();
    let trace = dir.path().join("trace.csv");
    fs::write(&trace, "host,heap_pct, lag ,t_ms\na,70.00,0,0\nb,1.5,100000,12.5\n").unwrap();
    let output = simulate(&trace, None);
    let expected = "t_ms,lag,heap_pct,level\n0,0,70.00,1\n12.5,100000,1.5,1\n";
    assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
    fs::write(&trace, "t_ms,lag,heap_pct\r\n0,0,70.00\r\n12.5,100000,1.5\r\n").unwrap();
    assert_eq!(String::from_utf8(simulate(&trace, None).stdout).unwrap(), expected);
}

#[test]
fn a_wrong_trace_is_named_to_the_column() {
    let dir = TempDir::new().unwrap();
    let trace = dir.path().join("trace.csv");
    for (text, said) in [
        ("t_ms,heap_pct\n", ":1: no column \"lag\""),
        ("", ":1: no column \"t_ms\""),
        ("t_ms,lag,heap_pct\n0,0,0\n1,-5,0\n", ":3: column 2 (lag): \"-5\""),
        ("t_ms,lag,heap_pct\n0,1.5,0\n", ":2: column 2 (lag): \"1.5\""),
        ("t_ms,lag,heap_pct\n0,0,NaN\n", ":2: column 3 (heap_pct): \"NaN\""),
        ("t_ms,lag,heap_pct\n-1,0,0\n", ":2: column 1 (t_ms): \"-1\""),
        ("t_ms,lag,heap_pct\n5,0,0\n4,0,0\n", ":3: column 1 (t_ms): \"4\": earlier than"),
        ("t_ms,lag,heap_pct\r\n4,0,0\r\n5,x,0\r\n", ":3: column 2 (lag): \"x\""),
        ("t_ms,lag,heap_pct\n5,0\n", "trace.csv"),
    ] {
        fs::write(&trace, text).unwrap();
        let output = simulate(&trace, None);
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{text:?}");
        assert!(err.contains(said), "{said:?} is not in {err:?}");
    }
    let output = simulate(Path::new("/nowhere/trace.csv"), None);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("/nowhere/trace.csv: No such file"));
}

#[test]
fn the_reader_of_the_output_may_leave() {
    let dir = TempDir::new().unwrap();
    let trace = dir.path().join("trace.csv");
    let mut text = "t_ms,lag,heap_pct\n".to_owned();
    (0..200_000).for_each(|t| writeln!(text, "{t},0,0").unwrap());
    fs::write(&trace, text).unwrap();
    let program = cargo_bin!("plimsoll");
    let line = format!("set -o pipefail; {} simulate --trace {} | head -1", program.display(), trace.display());
    let output = Command::new("bash").args(["-c", &line]).output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
    assert_eq!(output.stdout, b"t_ms,lag,heap_pct,level\n");
}
