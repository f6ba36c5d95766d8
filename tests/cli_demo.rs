//! `plimsoll demo` from outside: a day that goes up to CIRCUIT_BREAK, comes back, and accounts for everything, on paper too.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/browser.rs"]
mod browser;

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use assert_cmd::cargo::cargo_bin;
use browser::{browse, chromium};
use serde_json::Value;
use tempfile::TempDir;

fn demo(dir: &Path, arguments: &[&str]) -> Output {
    Command::new(cargo_bin!("plimsoll")).current_dir(dir).args(["demo", "--quick"]).args(arguments).output().unwrap()
}

/// The figures of a table's row, `1 234` being one.
fn figures(out: &str, row: &str) -> Vec<u64> {
    let line = out.lines().find(|line| line.trim_start().starts_with(row)).unwrap();
    let cells = line.trim_start().strip_prefix(row).unwrap().split("  ").map(|cell| cell.replace(' ', ""));
    cells.filter_map(|cell| cell.parse().ok()).collect()
}

#[test]
fn the_day_goes_up_to_circuit_break_and_back_and_its_report_has_the_figures_of_the_ledger() {
    let dir = TempDir::new().unwrap();
    let output = demo(dir.path(), &[]);
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
    assert_eq!((transitions.first().unwrap().0, transitions.last().unwrap().1), ("NORMAL", "NORMAL"));
    assert!(transitions.iter().any(|t| t.1 == "CIRCUIT_BREAK"), "{transitions:?}");
    for said in ["lag ", " ≥ 75000", "recovered: ", "memory ", " ≥ 70 %", "10:00  The open", "14:15  Flash crash"] {
        assert!(out.contains(said), "no {said:?} in {out}");
    }
    assert!(out.contains("balanced: every message is accounted for"), "{out}");
    assert!(out.contains("100.0 % of what was let in") && out.contains("\n0 lost, ledger balanced."), "{out}");

    // What is printed, by priority and in all, and what the report has.
    let page = std::fs::read_to_string(dir.path().join("plimsoll-demo.html")).unwrap();
    let json = page.split("id=\"ledger\">").nth(1).unwrap().split("</script>").next().unwrap();
    let ledger: Value = serde_json::from_str(json).unwrap();
    for (name, key) in [("offered", "offered"), ("spilled", "spilled"), ("shed", "shed"), ("replayed", "replayed")] {
        assert_eq!(figures(&out, name), [ledger[key].as_u64().unwrap()], "{name}");
    }
    assert!(ledger["spilled"].as_u64() > Some(0) && ledger["spilled"] == ledger["replayed"], "{ledger}");
    for (i, name) in ["CRITICAL ", "HIGH ", "NORMAL ", "LOW "].into_iter().enumerate() {
        let part = &ledger["by_priority"][i];
        let of = |key: &str| part[key].as_u64().unwrap();
        let refused = of("refused") + of("full");
        let offered = of("processed_live") + of("spilled") + of("shed") + refused;
        let expected = [offered, of("processed_live"), of("spilled"), of("replayed"), of("shed"), refused];
        let table = &out[out.find("balanced: ").unwrap()..];
        assert_eq!(figures(table, name), expected, "{name}");
    }
    check_in_browser(&dir.path().join("plimsoll-demo.html"), &ledger);
}

/// As a reader sees it: figures, pictures, both schemes, a phone, and paper.
fn check_in_browser(page: &Path, ledger: &Value) {
    let Some(browser) = chromium() else { return };
    let url = format!("file://{}", page.display());
    let mut shots = Vec::new();
    for (size, is_dark) in [((1200, 3400), false), ((1200, 3400), true), ((400, 5000), false)] {
        let text = String::from_utf8(browse(&browser, size, is_dark, &["--dump-dom"], &url)).unwrap();
        let digits: String = text.chars().filter(|c| *c != ' ').collect();
        for key in ["offered", "processed_live", "spilled", "shed", "refused", "accepted"] {
            let (name, figure) = (key.replace('_', ""), ledger[key].as_u64().unwrap());
            assert!(digits.contains(&format!("<td>{name}</td><td>{figure}</td>")), "{key}: {figure}");
        }
        // Levels, water, four flows, the spill log and latencies, each twice.
        assert!(text.matches("<svg class=\"wide\"").count() >= 9, "{}", text.matches("<svg").count());
        assert_eq!(text.matches("<svg class=\"wide\"").count(), text.matches("<svg class=\"narrow\"").count());
        let elsewhere = text.match_indices("http").find(|(at, _)| !text[*at..].starts_with("http://www.w3.org/"));
        assert_eq!(elsewhere, None, "nothing comes from elsewhere");
        let shot = page.with_file_name(format!("report-{}-{is_dark}.png", size.0));
        browse(&browser, size, is_dark, &[&format!("--screenshot={}", shot.display())], &url);
        shots.push(std::fs::read(&shot).unwrap());
        browser::keep(&shot);
    }
    assert!(shots.iter().all(|shot| shot.len() > 50_000), "there is something on each");
    assert_ne!(shots[0], shots[1], "dark is not light");
    let paper = page.with_file_name("report.pdf");
    browse(
        &browser,
        (1200, 3400),
        true,
        &["--no-pdf-header-footer", &format!("--print-to-pdf={}", paper.display())],
        &url,
    );
    assert!(std::fs::metadata(&paper).unwrap().len() > 20_000);
    browser::keep(&paper);
}

#[test]
fn a_report_that_was_asked_for_and_cannot_be_written_is_an_error_before_the_day_begins() {
    let dir = TempDir::new().unwrap();
    let output = demo(dir.path(), &["--report", "missing/report.html"]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("missing/report.html: No such file"), "{error}");
    assert!(output.stdout.is_empty());
}

#[test]
fn without_a_place_for_a_report_the_day_goes_on_and_a_signal_ends_it_in_good_order() {
    let dir = TempDir::new().unwrap();
    std::fs::create_dir(dir.path().join("plimsoll-demo.html")).unwrap();
    let mut demo = Command::new(cargo_bin!("plimsoll"))
        .current_dir(dir.path())
        .arg("demo")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(demo.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    let begin = "There will be no report, since it cannot be written here: plimsoll-demo.html: is a directory";
    assert!(line.starts_with(begin), "{line}");
    while !line.contains("Before the open") {
        line.clear();
        assert!(out.read_line(&mut line).unwrap() > 0);
    }
    assert!(Command::new("kill").arg(demo.id().to_string()).status().unwrap().success());
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    assert!(demo.wait().unwrap().success());
    assert!(rest.contains("balanced: every message is accounted for"), "{rest}");
    assert!(rest.ends_with("Stopped by a signal.\n") && !rest.contains("10:00  The open"), "{rest}");
}
