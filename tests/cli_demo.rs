//! `plimsoll demo` from outside: it climbs to CIRCUIT_BREAK, comes back, and accounts for everything.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::process::Command;

use assert_cmd::cargo::cargo_bin;

#[test]
fn the_demo_goes_up_to_circuit_break_and_back_to_normal() {
    let output = Command::new(cargo_bin!("plimsoll")).arg("demo").output().unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{out}{}", String::from_utf8_lossy(&output.stderr));
    let transitions: Vec<(&str, &str)> = out
        .lines()
        .filter(|line| line.contains(" → "))
        .map(|line| {
            let (before, after) = line.split_once(" → ").unwrap();
            (before.split_whitespace().last().unwrap(), after.split_whitespace().next().unwrap())
        })
        .collect();
    assert!(transitions.iter().zip(&transitions[1..]).all(|(a, b)| a.1 == b.0), "{transitions:?}");
    assert_eq!(transitions.first().unwrap().0, "NORMAL");
    assert_eq!(transitions.last().unwrap().1, "NORMAL");
    assert!(transitions.iter().any(|t| t.1 == "CIRCUIT_BREAK"), "{transitions:?}");
    assert!(out.contains("lag ") && out.contains(" ≥ 300000") && out.contains("recovered: "), "{out}");
    assert!(out.contains("balanced: every message is accounted for"), "{out}");
}
