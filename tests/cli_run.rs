//! `plimsoll run` from outside: results, the ledger file, and what it says when something is wrong.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/feed.rs"]
mod feed;
#[path = "support/program.rs"]
mod program;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use assert_cmd::cargo::cargo_bin;
use program::{Outcome, plimsoll};
use serde_json::Value;
use tempfile::TempDir;

/// Runs over a feed with more flags; bars and ledger go to the second directory.
fn run(input: &Path, output: &Path, more: &[&str]) -> Outcome {
    let (bars, ledger) = (output.join("bars.csv"), output.join("ledger.json"));
    let mut arguments = vec!["run", "--format", "asx", "--input", input.to_str().unwrap()];
    let defaults = [("--bars", bars.to_str().unwrap()), ("--ledger", ledger.to_str().unwrap()), ("--pin", "off")];
    for (flag, value) in defaults.into_iter().filter(|(flag, _)| !more.contains(flag)) {
        arguments.extend([flag, value]);
    }
    arguments.extend(more);
    plimsoll(&arguments)
}

fn ledger(output: &Path) -> BTreeMap<String, Value> {
    serde_json::from_str(&fs::read_to_string(output.join("ledger.json")).unwrap()).unwrap()
}

/// The name of every file that is left in a directory.
fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn every_message_is_processed_and_bars_do_not_depend_on_the_workers() {
    let feed = feed::feed();
    let mut all = Vec::new();
    for workers in ["1", "2", "4"] {
        let output = TempDir::new().unwrap();
        let outcome = run(feed.path(), output.path(), &["--workers", workers]);
        assert_eq!(outcome.code, Some(0), "{}", outcome.err);
        assert!(outcome.out.contains("balanced: every message is accounted for"), "{}", outcome.out);
        let ledger = ledger(output.path());
        for (key, value) in [
            ("offered", feed::MESSAGES),
            ("accepted", feed::MESSAGES),
            ("processed_live", feed::MESSAGES),
            ("processed", feed::MESSAGES),
            ("refused", 0),
            ("full", 0),
            ("shed", 0),
            ("in_flight", 0),
            ("spilled", 0),
            ("replayed", 0),
            ("spill_pending", 0),
            ("spill_lost", 0),
        ] {
            assert_eq!(ledger[key], value, "{key}");
        }
        assert_eq!(names(output.path()), ["bars.csv", "ledger.json"]);
        all.push(fs::read_to_string(output.path().join("bars.csv")).unwrap());
    }
    assert!(all.iter().all(|bars| *bars == all[0]));
    let lines: Vec<&str> = all[0].lines().collect();
    assert_eq!(lines[0], "symbol,start_ns,open,high,low,close,volume,trades,vwap,mid,spread,vwap_deviation");
    assert_eq!(lines.len(), 1 + 3 * 10);
    let keys: Vec<(&str, &str)> =
        lines[1..].iter().map(|l| l.split_once(',').unwrap()).map(|(s, l)| (&l[..19], s)).collect();
    assert!(keys.is_sorted(), "by start, then by symbol");
    let trades: u64 = lines[1..].iter().map(|l| l.split(',').nth(7).unwrap().parse::<u64>().unwrap()).sum();
    assert_eq!(trades, feed::TRADES);
}

#[test]
fn an_open_loop_pace_offers_everything_too() {
    let (feed, output) = (feed::feed(), TempDir::new().unwrap());
    for pace in ["x100000", "100000/s"] {
        let outcome = run(feed.path(), output.path(), &["--pace", pace]);
        assert_eq!((outcome.code, ledger(output.path())["offered"].as_u64()), (Some(0), Some(feed::MESSAGES)));
    }
}

#[test]
fn overload_at_an_open_loop_pace_is_shed_by_rule_and_accounted_for() {
    let (feed, output) = (feed::feed(), TempDir::new().unwrap());
    let config = output.path().join("config.toml");
    // Memory is always above these marks, so the level is CIRCUIT_BREAK from the first sample on.
    let text = "[thresholds]\nheap_soft = 0\nheap_graceful = 1e-9\nheap_aggressive = 2e-9\nheap_circuit_break = 3e-9\n";
    fs::write(&config, text).unwrap();
    let outcome = run(feed.path(), output.path(), &["--config", config.to_str().unwrap(), "--pace", "2000/s"]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.err);
    assert!(outcome.err.contains("degraded") && outcome.err.contains("CIRCUIT_BREAK"), "{}", outcome.err);
    let ledger = ledger(output.path());
    let count = |key: &str| ledger[key].as_u64().unwrap();
    assert_eq!(count("offered"), feed::MESSAGES);
    assert!(count("refused") > 0);
    assert_eq!(count("offered"), count("accepted") + count("refused") + count("full"));
    assert_eq!(count("accepted"), count("processed_live") + count("shed"));
    assert!(outcome.out.contains("up to CIRCUIT_BREAK"), "{}", outcome.out);
}

#[test]
fn a_report_has_the_figures_of_the_ledger_and_its_place_is_looked_at_first() {
    let (feed, output) = (feed::feed(), TempDir::new().unwrap());
    let (config, report) = (output.path().join("config.toml"), output.path().join("report.html"));
    let text = "[thresholds]\nheap_soft = 0\nheap_graceful = 1e-9\nheap_aggressive = 2e-9\nheap_circuit_break = 3e-9\n\
                [signals.age]\nsoft = 1e6\ngraceful = 2e6\naggressive = 3e6\ncircuit_break = 4e6\n\
                [labels]\nservice = \"<b>&\"\n";
    fs::write(&config, text).unwrap();
    let arguments = ["--config", config.to_str().unwrap(), "--pace", "2000/s", "--report", report.to_str().unwrap()];
    let outcome = run(feed.path(), output.path(), &arguments);
    assert_eq!(outcome.code, Some(0), "{}", outcome.err);
    let page = fs::read_to_string(&report).unwrap();
    let json = page.split("id=\"ledger\">").nth(1).unwrap().split("</script>").next().unwrap();
    let (told, written): (Value, _) = (serde_json::from_str(json).unwrap(), ledger(output.path()));
    for key in ["offered", "accepted", "refused", "processed_live", "shed", "by_priority", "workers"] {
        assert_eq!(told[key], written[key], "{key}");
    }
    let sum =
        |key: &str| told["by_priority"].as_array().unwrap().iter().map(|part| part[key].as_u64().unwrap()).sum::<u64>();
    assert!(sum("refused") > 0 && told["refused"].as_u64() == Some(sum("refused")));
    for said in [
        "plimsoll run of asx",
        "up to CIRCUIT_BREAK",
        "memory ",
        "heap_soft = 0",
        "&lt;b&gt;&amp;",
        "<td>refused</td>",
        "Signal age against its thresholds",
        "in ms; each level",
    ] {
        assert!(page.contains(said), "no {said:?}");
    }
    assert!(!page.contains("<b>&\"") && !page.contains("{{"), "what is configured is text");

    let nowhere = output.path().join("nowhere/report.html");
    let outcome = run(feed.path(), output.path(), &["--report", nowhere.to_str().unwrap()]);
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.err.contains("nowhere/report.html: No such file"), "{}", outcome.err);
}

#[test]
fn malformed_rows_stop_the_run_or_are_counted() {
    let (feed, output) = (feed::feed(), TempDir::new().unwrap());
    let file = feed.path().join("trades/2.csv");
    feed::replace(&file, "10.02", "abc");
    let outcome = run(feed.path(), output.path(), &[]);
    assert_eq!(outcome.code, Some(1));
    let expected = format!("plimsoll: {}:1: column 3 (price): \"abc\": not a price", file.display());
    assert!(outcome.err.contains(&expected), "{}", outcome.err);
    assert_eq!(names(output.path()), Vec::<String>::new());

    let outcome = run(feed.path(), output.path(), &["--on-bad-row", "skip"]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.err);
    let ledger = ledger(output.path());
    assert_eq!(
        (ledger["feeds"]["asx"]["malformed"].as_u64(), ledger["offered"].as_u64()),
        (Some(1), Some(feed::MESSAGES - 1))
    );
    assert!(outcome.out.contains(", 1 malformed"), "{}", outcome.out);
}

#[test]
fn a_bad_row_in_the_middle_keeps_the_results_before_it() {
    let (feed, output) = (feed::feed(), TempDir::new().unwrap());
    let file = feed.path().join("trades/3.csv");
    let text = fs::read_to_string(&file).unwrap();
    let middle = text.lines().nth(200).unwrap().to_owned();
    feed::replace(&file, &middle, "03/10/2014,oops,1,1,0,,");
    let outcome = run(feed.path(), output.path(), &[]);
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.err.contains("trades/3.csv:201: column 2 (time): \"oops\""), "{}", outcome.err);
    assert!(outcome.err.contains("results cover the stream up to there"), "{}", outcome.err);
    let ledger = ledger(output.path());
    let processed = ledger["processed"].as_u64().unwrap();
    assert!(processed > feed::MESSAGES / 3 && processed < feed::MESSAGES, "{processed}");
    assert_eq!(names(output.path()), ["bars.csv", "ledger.json"]);
}

#[test]
fn a_result_that_cannot_be_written_takes_no_other_along() {
    let (feed, output) = (feed::feed(), TempDir::new().unwrap());
    let outcome = run(feed.path(), output.path(), &["--ledger", "/dev/full"]);
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.err.contains("/dev/full: No space left on device"), "{}", outcome.err);
    assert!(outcome.out.contains("balanced: every message is accounted for"), "{}", outcome.out);
    assert_eq!(names(output.path()), ["bars.csv"]);
    let outcome = run(feed.path(), output.path(), &["--bars", "/dev/full"]);
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.out.contains("balanced: every message is accounted for"), "{}", outcome.out);
    assert_eq!(names(output.path()), ["bars.csv", "ledger.json"]);
}

#[test]
fn a_link_stays_a_link() {
    let (feed, output) = (feed::feed(), TempDir::new().unwrap());
    let (real, link) = (output.path().join("real.csv"), output.path().join("latest.csv"));
    fs::write(&real, "stale").unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    let outcome = run(feed.path(), output.path(), &["--bars", link.to_str().unwrap()]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.err);
    assert!(link.symlink_metadata().unwrap().is_symlink());
    assert!(fs::read_to_string(&real).unwrap().starts_with("symbol,start_ns"));
}

#[test]
fn wrong_input_has_a_clear_error_and_its_exit_code() {
    let (feed, output) = (feed::feed(), TempDir::new().unwrap());
    let config = output.path().join("config.toml");
    let with_config = |text: &str| {
        fs::write(&config, text).unwrap();
        run(feed.path(), output.path(), &["--config", config.to_str().unwrap()])
    };
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let bars = output.path().join("bars.csv");
    let cases: Vec<(Outcome, i32, &str)> = vec![
        (run(Path::new("/nowhere/ticks"), output.path(), &[]), 1, "/nowhere/ticks: not found"),
        (run(feed.path(), Path::new("/nowhere"), &[]), 1, "/nowhere/bars.csv: No such file"),
        (run(feed.path(), output.path(), &["--metrics", &address]), 1, &address),
        (run(feed.path(), output.path(), &["--pace", "fast"]), 2, "\"fast\" is no pace"),
        (run(feed.path(), output.path(), &["--bar-interval", "0s"]), 2, "whole number above 0"),
        (run(feed.path(), output.path(), &["--pin", "x"]), 2, "\"x\" is no pinning"),
        (run(feed.path(), output.path(), &["--ledger", bars.to_str().unwrap()]), 2, "give them a file each"),
        (plimsoll(&["run"]), 2, "there is no feed: give --format and --input"),
        (plimsoll(&["sail"]), 2, "unrecognized subcommand"),
        (run(feed.path(), output.path(), &["--workers", "0"]), 78, "workers = 0 is out of range"),
        (
            run(feed.path(), output.path(), &["--lane-capacity", "5000000"]),
            78,
            "lane_capacity = 5000000 must exceed lag_circuit_break = 5000000",
        ),
        (
            with_config("[thresholds]\nlag_soft = 600_000\n"),
            78,
            "[thresholds] lag_soft = 600000 must be below lag_graceful = 500000",
        ),
        (with_config("[thresholds]\nrecovery_lag_factor = 1.5\n"), 78, "recovery_lag_factor = 1.5 is out of range"),
        (with_config("[thresholds]\nlag_sofft = 1\n"), 78, "unknown field `lag_sofft`"),
        (
            run(feed.path(), output.path(), &["--config", "/nowhere/x.toml"]),
            78,
            "/nowhere/x.toml cannot be read: No such file",
        ),
    ];
    for (outcome, code, said) in cases {
        assert_eq!(outcome.code, Some(code), "{said}: {}", outcome.err);
        assert!(outcome.err.contains(said), "{said:?} is not in {:?}", outcome.err);
    }
    assert_eq!(names(output.path()), ["config.toml"], "a failed start leaves nothing behind");
}

/// A run that paces itself, so that it is still there to be looked at or interrupted.
fn start_slow(feed: &Path, output: &Path, more: &[&str]) -> std::process::Child {
    Command::new(cargo_bin!("plimsoll"))
        .args(["run", "--format", "asx", "--pace", "100/s", "--pin", "off", "--input"])
        .arg(feed)
        .arg("--bars")
        .arg(output.join("bars.csv"))
        .arg("--ledger")
        .arg(output.join("ledger.json"))
        .args(more)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn metrics_are_served_while_it_runs_and_an_interrupt_still_accounts_for_everything() {
    let (feed, output) = (feed::feed(), TempDir::new().unwrap());
    let mut child = start_slow(feed.path(), output.path(), &["--metrics", "127.0.0.1:0"]);
    let mut err = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    err.read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("metrics on http://").and_then(|l| l.strip_suffix("/metrics")).unwrap();
    let get = |path: &str| {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        response
    };
    let deadline = Instant::now() + Duration::from_secs(30);
    let labels = "service=\"k2-platform\",environment=\"dev\",component=\"plimsoll\"";
    let processed = |text: &str| {
        let series = format!("k2_messages_processed_total{{{labels},priority=\"critical\"}} ");
        let value = text.lines().find_map(|l| l.strip_prefix(series.as_str())).unwrap_or_else(|| panic!("{text}"));
        value.parse::<u64>().unwrap()
    };
    loop {
        let response = get("/metrics");
        assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
        assert!(response.contains("content-type: text/plain; version=0.0.4"), "{response}");
        assert!(response.contains(&format!("k2_degradation_level{{{labels}}} 0")), "{response}");
        if processed(&response) > 0 {
            break;
        }
        assert!(Instant::now() < deadline, "nothing was processed in 30 s");
    }
    assert!(get("/nothing").starts_with("HTTP/1.1 404"));

    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    let status = child.wait().unwrap();
    let mut out = String::new();
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    assert_eq!(status.code(), Some(0));
    assert!(out.contains("balanced: every message is accounted for"), "{out}");
    let ledger = ledger(output.path());
    let offered = ledger["offered"].as_u64().unwrap();
    assert!(offered > 0 && offered < feed::MESSAGES, "{offered}");
    assert_eq!(ledger["processed"].as_u64(), Some(offered));
    assert_eq!(names(output.path()), ["bars.csv", "ledger.json"]);
}
