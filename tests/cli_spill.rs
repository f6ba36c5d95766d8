//! `plimsoll spill` and `plimsoll run --spill` from outside: real processes on real directories.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/feed.rs"]
#[allow(dead_code, reason = "of what all tests share, each needs some")]
mod feed;
#[path = "support/program.rs"]
mod program;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use assert_cmd::cargo::cargo_bin;
use plimsoll::spill::{self, SpillConfig, SpillLog};
use plimsoll::{Price, Side, SymbolId, Symbols, Tick};
use program::{Outcome, plimsoll};
use serde_json::Value;
use tempfile::TempDir;

/// Records of a frame, where they are ticks.
const PER_FRAME: u64 = 59;
const FRAME: u64 = 4096;
const NAMES: [&str; 3] = ["BHP", "QAN", "XYZ"];

/// `plimsoll spill COMMAND DIR …`.
fn look(command: &str, dir: &TempDir, more: &[&str]) -> Outcome {
    let mut arguments = vec!["spill", command, dir.path().to_str().unwrap()];
    arguments.extend(more);
    plimsoll(&arguments)
}

/// Ten o'clock on the feed's day, and so many seconds.
const TEN: u64 = 1_412_330_400_000_000_000;

fn tick(ids: &[SymbolId], i: u64) -> Tick {
    let price = Price::from_billionths(10_000_000_000 + i as i64 * 1_000_000);
    let trade = Tick::trade(ids[i as usize % ids.len()], TEN + i * 1_000_000_000, price, i % 9 + 1);
    Tick { sequence: i + 1, receive_ns: TEN, side: Side::Buy, flags: 9, ..trade }
}

fn open(dir: &Path) -> (SpillLog<Tick>, Vec<SymbolId>) {
    let config = SpillConfig { segment_bytes: 16 * FRAME, free_space_floor_bytes: 0, ..SpillConfig::new(dir) };
    let symbols = Arc::new(Symbols::default());
    let ids = NAMES.iter().map(|name| symbols.intern(name).unwrap()).collect();
    let (mut logs, _) = spill::open::<Tick>(&config, &symbols, 1).unwrap();
    (logs.pop().unwrap(), ids)
}

fn append(log: &mut SpillLog<Tick>, ids: &[SymbolId], count: u64) {
    for i in 0..count {
        while !log.append(&tick(ids, i), u32::from(i == 10)) {
            std::thread::yield_now();
            log.refresh();
        }
    }
    log.commit();
}

/// A log of one worker with 2000 trades of three symbols: 34 frames, in three segments of 14.
fn log() -> TempDir {
    let dir = TempDir::new().unwrap();
    let (mut log, ids) = open(dir.path());
    append(&mut log, &ids, 2000);
    dir
}

fn segment(dir: &TempDir, number: u32) -> PathBuf {
    dir.path().join(format!("worker-0/{number:010}.spill"))
}

/// Damages a frame of a segment; frames count from 1.
fn damage(dir: &TempDir, number: u32, frame: u64) {
    let file = fs::OpenOptions::new().write(true).open(segment(dir, number)).unwrap();
    file.write_all_at(b"damage", frame * FRAME + 1000).unwrap();
}

#[test]
fn ls_lists_segments_and_what_waits() {
    let dir = log();
    let outcome = look("ls", &dir, &[]);
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""));
    let lines: Vec<&str> = outcome.out.lines().collect();
    assert!(lines[0].contains("segment") && lines[0].contains("sequence numbers"), "{}", outcome.out);
    let words: Vec<&str> = lines[1].split_whitespace().collect();
    assert_eq!(words[..2], ["0", "1"]);
    assert!(words[2].starts_with("20") && words[2].ends_with('Z'), "{}", lines[1]);
    assert_eq!(words[3..].join(" "), "64.0 KiB 14 826 0 to 825 plimsoll.tick.v2 of 64 bytes");
    assert!(lines[3].contains(" 348  1652 to 1999 "), "{}", lines[3]);
    assert_eq!(lines[4], "worker 0: replay from 0, end 2 000, 2 000 pending, 0 lost");
    assert_eq!(lines[5], "total: 3 segments, 160.0 KiB on disk, 2 000 pending, 0 lost");
}

#[test]
fn verify_says_ok_of_a_whole_log() {
    let dir = log();
    let outcome = look("verify", &dir, &[]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.err);
    assert_eq!(outcome.out, "ok: 2 000 records in 3 segments, 2 000 of them to be replayed\n");
    assert!(outcome.err.contains("read 192.0 KiB in "), "{}", outcome.err);
}

#[test]
fn verify_names_the_file_and_exactly_what_is_lost() {
    let dir = log();
    damage(&dir, 1, 3);
    damage(&dir, 2, 5);
    let (first, second) = (2 * PER_FRAME, (14 + 4) * PER_FRAME);
    let outcome = look("verify", &dir, &[]);
    assert_eq!(outcome.code, Some(1), "{}", outcome.err);
    let path = segment(&dir, 1);
    let text = format!(
        "{}: damaged frames, 4096 bytes at offset {}; lost: 59 records, sequence {first} to {}",
        path.display(),
        3 * FRAME,
        first + 58
    );
    assert!(outcome.out.contains(&text), "{}", outcome.out);
    assert!(outcome.out.contains(&format!(
        "worker 0: lost 118 records: {first} to {}, {second} to {}\n",
        first + 58,
        second + 58
    )));
    let last = "damaged: 2 faults, 118 records lost; whole: 1 882 records in 3 segments, 1 882 of them to be replayed";
    assert_eq!(outcome.out.lines().last(), Some(last));
    assert!(!outcome.err.contains("see above"), "{}", outcome.err);
    assert!(look("ls", &dir, &[]).out.contains("1 882 pending, 118 lost, 2 faults: see `plimsoll spill verify`"));

    let outcome = look("verify", &dir, &["--json"]);
    assert_eq!(outcome.code, Some(1));
    let report: Value = serde_json::from_str(&outcome.out).unwrap();
    assert_eq!((&report["ok"], &report["lost"], &report["records"]), (&false.into(), &118.into(), &1882.into()));
    let fault = &report["faults"][1];
    assert_eq!((&fault["lost_first"], &fault["lost_last"]), (&second.into(), &(second + 58).into()));
    assert_eq!(fault["file"], segment(&dir, 2).to_str().unwrap());
}

#[test]
fn dump_prints_messages_as_csv_and_as_json() {
    let dir = log();
    let outcome = look("dump", &dir, &[]);
    assert_eq!((outcome.code, outcome.err.as_str()), (Some(0), ""));
    let lines: Vec<&str> = outcome.out.lines().collect();
    assert_eq!(lines.len(), 2001);
    let header = "worker,sequence,missed,spilled,symbol,kind,event_ns,receive_ns,feed_sequence,price,size,ask_price,ask_size,side,flags";
    assert_eq!(lines[0], header);
    assert!(lines[11].starts_with("0,10,1,20"), "{}", lines[11]);
    let rest = "Z,QAN,trade,1412330410000000000,1412330400000000000,11,10.01,2,0,0,buy,9";
    assert!(lines[11].ends_with(rest), "{}", lines[11]);

    let outcome = look("dump", &dir, &["--format", "ndjson", "--symbol", "XYZ", "--limit", "3", "--worker", "0"]);
    let rows: Vec<Value> = outcome.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.iter().map(|row| row["sequence"].as_u64().unwrap()).collect::<Vec<_>>(), [2, 5, 8]);
    assert_eq!((&rows[0]["symbol"], &rows[0]["price"]), (&"XYZ".into(), &"10.002".into()));
    assert_eq!(look("dump", &dir, &["--worker", "1"]).out.lines().count(), 1, "only the header");
}

#[test]
fn dump_does_not_mind_if_its_reader_goes() {
    let dir = log();
    let mut child = Command::new(cargo_bin!("plimsoll"))
        .args(["spill", "dump"])
        .arg(dir.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), b"".as_slice()));
}

#[test]
fn replay_makes_bars_and_takes_the_messages_off() {
    let (dir, output) = (log(), TempDir::new().unwrap());
    let bars = output.path().join("bars.csv");
    let outcome = look("replay", &dir, &["--bars", bars.to_str().unwrap()]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.err);
    assert!(outcome.err.contains("2 000 messages of an earlier run wait in"), "{}", outcome.err);
    assert!(outcome.out.contains("replayed         2 000\nlost             0\n"), "{}", outcome.out);
    let text = fs::read_to_string(&bars).unwrap();
    let lines: Vec<&str> = text.lines().skip(1).collect();
    assert_eq!(lines.len(), 3 * 34, "2000 seconds are 34 minutes");
    assert!(lines[0].starts_with("BHP,1412330400000000000,10,10.057,10,10.057,"), "{}", lines[0]);
    let trades: u64 = lines.iter().map(|line| line.split(',').nth(7).unwrap().parse::<u64>().unwrap()).sum();
    assert_eq!(trades, 2000);
    let left = look("ls", &dir, &[]);
    assert!(left.out.contains("0 pending, 0 lost\ntotal: 0 segments"), "{}", left.out);
}

#[test]
fn what_is_lost_is_told_by_a_replay_and_the_rest_replayed() {
    let (dir, output) = (log(), TempDir::new().unwrap());
    damage(&dir, 1, 3);
    let bars = output.path().join("bars.csv");
    let outcome = look("replay", &dir, &["--bars", bars.to_str().unwrap()]);
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.err.contains("59 messages are lost"), "{}", outcome.err);
    assert!(outcome.out.contains("replayed         1 941\nlost             59\n"), "{}", outcome.out);
    assert!(fs::read_to_string(&bars).unwrap().lines().count() > 90);
}

#[test]
fn bars_that_cannot_be_written_leave_the_log_as_it_is() {
    let dir = log();
    for bars in ["/nowhere/bars.csv", "/dev/full"] {
        let outcome = look("replay", &dir, &["--bars", bars]);
        assert_eq!(outcome.code, Some(1));
        assert!(outcome.err.contains(bars), "{}", outcome.err);
        assert!(look("ls", &dir, &[]).out.contains("2 000 pending, 0 lost"));
    }
}

#[test]
fn messages_without_their_symbols_name_are_lost_not_given_to_another_symbol() {
    let (dir, output) = (log(), TempDir::new().unwrap());
    let dictionary = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
    let dictionary = dictionary.into_iter().find(|path| path.to_str().unwrap().contains("symbols-")).unwrap();
    // The entry of the second name, QAN.
    fs::OpenOptions::new().write(true).open(dictionary).unwrap().write_all_at(b"x", 64 + 20).unwrap();
    let bars = output.path().join("bars.csv");
    let outcome = look("replay", &dir, &["--bars", bars.to_str().unwrap()]);
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.err.contains("names missing from the dictionary"), "{}", outcome.err);
    assert!(outcome.out.contains("replayed         1 333\nlost             667\n"), "{}", outcome.out);
    let text = fs::read_to_string(&bars).unwrap();
    let symbols: BTreeMap<&str, u64> = text.lines().skip(1).fold(BTreeMap::new(), |mut all, line| {
        let columns: Vec<&str> = line.split(',').collect();
        *all.entry(columns[0]).or_default() += columns[7].parse::<u64>().unwrap();
        all
    });
    assert_eq!(symbols, BTreeMap::from([("BHP", 667), ("XYZ", 666)]));
}

#[test]
fn a_log_in_use_can_be_looked_at_and_not_be_replayed() {
    let (dir, output) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (mut log, ids) = open(dir.path());
    append(&mut log, &ids, 200);
    let in_use = format!("is in use by process {}", std::process::id());
    for command in ["ls", "verify", "dump"] {
        let outcome = look(command, &dir, &[]);
        assert_eq!(outcome.code, Some(0), "{command}: {}", outcome.err);
        assert!(outcome.err.contains(&in_use), "{command}: {}", outcome.err);
    }
    assert!(look("ls", &dir, &[]).out.contains("end 200, 200 pending, 0 lost"));
    let bars = output.path().join("bars.csv");
    let outcome = look("replay", &dir, &["--bars", bars.to_str().unwrap()]);
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.err.contains(&in_use) && outcome.err.contains("stop it"), "{}", outcome.err);
    assert_eq!(fs::read_dir(output.path()).unwrap().count(), 0);
    drop(log);
    assert!(!look("ls", &dir, &[]).err.contains("in use"));
}

#[test]
fn a_directory_that_is_no_spill_log_is_said_to_be_none() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("bars.csv"), "").unwrap();
    for command in ["ls", "verify", "dump"] {
        let outcome = look(command, &dir, &[]);
        assert_eq!((outcome.code, outcome.out.as_str()), (Some(1), ""), "{command}");
        assert!(outcome.err.contains("is no spill log"), "{command}: {}", outcome.err);
    }
    let outcome = look("replay", &dir, &["--bars", "/dev/null"]);
    assert_eq!(outcome.code, Some(1));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "and it is none afterwards");
    let outcome = plimsoll(&["spill", "ls", "/nowhere/spill"]);
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.err.contains("/nowhere/spill: No such file"), "{}", outcome.err);
}

/// `plimsoll run` over a feed; results go to `output`.
fn run(input: &Path, output: &Path, more: &[&str]) -> Outcome {
    let [bars, ledger] = ["bars.csv", "ledger.json"].map(|name| output.join(name).to_str().unwrap().to_owned());
    let input = input.to_str().unwrap();
    let arguments = ["run", "--format", "asx", "--pin", "off", "--input", input, "--bars", &bars, "--ledger", &ledger];
    plimsoll(&[arguments.as_slice(), more].concat())
}

fn ledger(output: &Path) -> BTreeMap<String, Value> {
    serde_json::from_str(&fs::read_to_string(output.join("ledger.json")).unwrap()).unwrap()
}

fn config(dir: &Path, text: &str) -> String {
    let path = dir.join("config.toml");
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Memory is always above the mark of AGGRESSIVE and never above that of CIRCUIT_BREAK, so what is NORMAL is spilled.
const AGGRESSIVE: &str =
    "[thresholds]\nheap_soft = 0\nheap_graceful = 1e-9\nheap_aggressive = 2e-9\nheap_circuit_break = 100\n";

#[test]
fn a_run_leaves_what_it_spilled_and_the_next_one_replays_it() {
    let (feed, output, spill) = (feed::feed(), TempDir::new().unwrap(), TempDir::new().unwrap());
    let dir = spill.path().join("log");
    let (floor, dir_text) = ("[spill]\nfree_space_floor_bytes = 0\n", dir.to_str().unwrap());
    let overloaded = config(output.path(), &format!("{AGGRESSIVE}{floor}"));
    let flags = ["--spill", dir_text, "--spill-budget", "256MiB"];
    let outcome =
        run(feed.path(), output.path(), &[&flags[..], &["--config", &overloaded, "--pace", "2000/s"]].concat());
    assert_eq!(outcome.code, Some(0), "{}", outcome.err);
    assert!(outcome.out.contains("spill pending"), "{}", outcome.out);
    let first = ledger(output.path());
    let left = first["spill_pending"].as_u64().unwrap();
    assert!(left > 0, "{}", outcome.out);
    assert!(outcome.out.contains(&format!("messages left in {dir_text} for the next start\n")), "{}", outcome.out);

    let calm = config(output.path(), floor);
    let outcome =
        run(feed.path(), output.path(), &[&flags[..], &["--config", &calm, "--at-shutdown", "replay"]].concat());
    assert_eq!(outcome.code, Some(0), "{}", outcome.err);
    assert!(outcome.err.contains(" messages of an earlier run wait in "), "{}", outcome.err);
    assert!(outcome.out.contains("spill            all replayed\n"), "{}", outcome.out);
    let second = ledger(output.path());
    let count = |key: &str| second[key].as_u64().unwrap();
    assert_eq!((count("recovered"), count("spill_pending"), count("spill_lost")), (left, 0, 0));
    assert_eq!(count("processed"), feed::MESSAGES + left);
}

#[test]
fn a_run_that_cannot_start_leaves_the_log_as_it_is() {
    let (feed, output, dir) = (feed::feed(), TempDir::new().unwrap(), log());
    let config = config(output.path(), "[spill]\nfree_space_floor_bytes = 0\n");
    let flags = ["--config", &config, "--spill", dir.path().to_str().unwrap(), "--at-shutdown", "replay"];
    for (outcome, said) in [
        (run(Path::new("/nowhere/ticks"), output.path(), &flags), "/nowhere/ticks"),
        (run(feed.path(), Path::new("/nowhere"), &flags), "/nowhere/bars.csv"),
        (run(feed.path(), output.path(), &[&flags[..], &["--metrics", "192.0.2.1:1"]].concat()), "192.0.2.1"),
    ] {
        assert_eq!(outcome.code, Some(1));
        assert!(outcome.err.contains(said), "{}", outcome.err);
        assert!(look("ls", &dir, &[]).out.contains("2 000 pending, 0 lost"));
    }
}

#[test]
fn wrong_settings_and_a_log_that_cannot_be_used_have_their_exit_codes() {
    let (feed, output, used) = (feed::feed(), TempDir::new().unwrap(), TempDir::new().unwrap());
    let _in_use = open(used.path());
    let dir = output.path().join("log").to_str().unwrap().to_owned();
    let with = |text: &str, more: &[&str]| {
        let config = config(output.path(), text);
        run(feed.path(), output.path(), &[&["--config", &config], more].concat())
    };
    let file = output.path().join("config.toml").join("log");
    for (outcome, code, said) in [
        (with("[spill]\nreplay_share = 0.2\n", &[]), 78, "[spill] has no dir"),
        (with("[spill]\ndirr = \"x\"\n", &[]), 78, "unknown field `dirr`"),
        (with("[spill]\nbudget_bytes = \"64MB\"\n", &["--spill", &dir]), 78, "\"64MB\" is no size"),
        (with("[spill]\nreplay_share = 1.5\n", &["--spill", &dir]), 78, "replay_share = 1.5"),
        (with("[spill]\nsegment_bytes = 5000\n", &["--spill", &dir]), 78, "segment_bytes = 5000"),
        (with("", &["--spill", &dir, "--spill-budget", "1MiB"]), 78, "budget_bytes = 1048576 must be at least"),
        (with("", &["--spill", &dir, "--spill-budget", "1MB"]), 2, "\"1MB\" is no size"),
        (with("", &["--spill", &dir, "--spill-durability", "often"]), 2, "\"often\" is no durability"),
        (with("", &["--spill-durability", "strict"]), 2, "--spill-durability is for a spill log"),
        (with("", &["--spill", used.path().to_str().unwrap()]), 1, "is in use by process"),
        (with("", &["--spill", file.to_str().unwrap()]), 1, "config.toml/log: Not a directory"),
    ] {
        assert_eq!(outcome.code, Some(code), "{said}: {}", outcome.err);
        assert!(outcome.err.contains(said), "{said:?} is not in {:?}", outcome.err);
    }
}
