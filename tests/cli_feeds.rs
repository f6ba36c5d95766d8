//! Feeds from outside: one generated day, however it comes, is the same day; and what is wrong with a feed is told.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/program.rs"]
mod program;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use assert_cmd::cargo::cargo_bin;
use program::{Outcome, plimsoll};
use serde_json::Value;
use tempfile::TempDir;

const MESSAGES: u64 = 40_000;

/// A directory with a day in it, in files of these names.
fn days(names: &[&str], more: &[&str]) -> TempDir {
    let dir = TempDir::new().unwrap();
    for name in names {
        let path = dir.path().join(name);
        let messages = MESSAGES.to_string();
        let mut arguments =
            vec!["gen", "--seed", "7", "--messages", &messages, "--symbols", "60", "--out", path.to_str().unwrap()];
        arguments.extend(more);
        let outcome = plimsoll(&arguments);
        assert_eq!(outcome.code, Some(0), "{}", outcome.err);
    }
    dir
}

/// Bars, best prices, books and the ledger of a run.
struct Results {
    outcome: Outcome,
    dir: TempDir,
}

impl Results {
    fn of(more: &[&str]) -> Self {
        let dir = TempDir::new().unwrap();
        let arguments = Self::arguments(dir.path(), more);
        let outcome = plimsoll(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        Self { outcome, dir }
    }

    fn arguments(dir: &Path, more: &[&str]) -> Vec<String> {
        let file = |name: &str| dir.join(name).to_str().unwrap().to_owned();
        let results =
            [("--bars", "bars.csv"), ("--bbo", "bbo.csv"), ("--book", "book.csv"), ("--ledger", "ledger.json")];
        let mut arguments: Vec<String> = ["run", "--pin", "off"].map(str::to_owned).into();
        results.iter().for_each(|(flag, name)| arguments.extend([(*flag).to_owned(), file(name)]));
        arguments.extend(more.iter().map(|argument| (*argument).to_owned()));
        arguments
    }

    fn file(&self, name: &str) -> String {
        fs::read_to_string(self.dir.path().join(name)).unwrap()
    }

    /// Everything but what depends on how messages are numbered.
    fn all(&self) -> [String; 3] {
        ["bars.csv", "bbo.csv", "book.csv"].map(|name| self.file(name))
    }

    /// Bars without enrichment, and best prices without the messages' numbers.
    fn of_rows(&self) -> [String; 2] {
        let without = |text: String, keep: &dyn Fn(usize) -> bool| {
            let row = |line: &str| {
                let fields = line.split(',').enumerate().filter(|(column, _)| keep(*column)).map(|(_, field)| field);
                fields.collect::<Vec<_>>().join(",") + "\n"
            };
            text.lines().map(row).collect::<String>()
        };
        [without(self.file("bars.csv"), &|column| column < 9), without(self.file("bbo.csv"), &|column| column != 2)]
    }

    fn count(&self, feed: &str, count: &str) -> u64 {
        let ledger: Value = serde_json::from_str(&self.file("ledger.json")).unwrap();
        ledger["feeds"][feed][count].as_u64().unwrap()
    }
}

fn run(kind: &str, input: &Path, more: &[&str]) -> Results {
    let arguments = [&["--format", kind, "--input", input.to_str().unwrap()][..], more].concat();
    let results = Results::of(&arguments);
    assert_eq!(results.outcome.code, Some(0), "{kind} {}: {}", input.display(), results.outcome.err);
    assert!(results.outcome.out.contains("balanced: every message is accounted for"));
    results
}

#[test]
fn one_day_is_the_same_from_every_kind_of_file() {
    let dir = days(&["d.itch", "d.itch.gz", "d.pcap", "d.pcap.zst", "d.csv", "d.csv.gz", "d.ndjson"], &[]);
    let file = |name: &str| dir.path().join(name);
    let itch = run("itch", &file("d.itch"), &[]);
    assert_eq!(itch.count("itch", "messages"), MESSAGES);
    let (rows, bars) = (itch.file("bbo.csv").lines().count(), itch.file("bars.csv").lines().count());
    assert!(rows > 5000 && bars > 500 && itch.file("book.csv").lines().count() > 500, "{rows} {bars}");
    assert!(itch.outcome.out.contains("60 symbols, 0 stale"), "{}", itch.outcome.out);
    for (kind, name) in [("itch", "d.itch.gz"), ("pcap", "d.pcap"), ("pcap", "d.pcap.zst")] {
        assert!(run(kind, &file(name), &[]).all() == itch.all(), "{name}");
    }
    for (kind, name) in [("csv", "d.csv"), ("csv", "d.csv.gz"), ("ndjson", "d.ndjson")] {
        assert!(run(kind, &file(name), &[]).of_rows() == itch.of_rows(), "{name}");
    }
    // Several workers have the same, in another order.
    let workers = run("itch", &file("d.itch"), &["--workers", "3"]);
    assert!(workers.file("bars.csv") == itch.file("bars.csv") && workers.file("book.csv") == itch.file("book.csv"));
    let sorted = |text: String| {
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert!(sorted(workers.file("bbo.csv")) == sorted(itch.file("bbo.csv")));
}

#[test]
fn rows_come_from_standard_input_too() {
    let dir = days(&["d.csv", "d.itch"], &[]);
    let results = TempDir::new().unwrap();
    let arguments = Results::arguments(results.path(), &["--format", "csv", "--input", "-"]);
    let mut child = Command::new(cargo_bin!("plimsoll"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&fs::read(dir.path().join("d.csv")).unwrap()).unwrap();
    assert!(child.wait().unwrap().success());
    let outcome = Outcome { code: Some(0), out: String::new(), err: String::new() };
    let from_input = Results { outcome, dir: results };
    assert!(from_input.of_rows() == run("itch", &dir.path().join("d.itch"), &[]).of_rows());
}

#[test]
fn a_result_may_go_to_standard_output_and_the_summary_goes_elsewhere_then() {
    let dir = days(&["d.itch"], &[]);
    let path = dir.path().join("d.itch");
    let outcome =
        plimsoll(&["run", "--format", "itch", "--input", path.to_str().unwrap(), "--pin", "off", "--bbo", "-"]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.err);
    assert!(outcome.out == run("itch", &path, &[]).file("bbo.csv"));
    assert!(outcome.err.contains("balanced: every message is accounted for"));
}

/// Runs a feed on two lines of the loopback, and sends a day there. The results, and what the sender said.
///
/// What has not come is waited for so long that no stall of the machine makes it a hole.
fn over_udp(more: &str, sender: &[&str]) -> (Results, String) {
    let dir = TempDir::new().unwrap();
    let config = dir.path().join("plimsoll.toml");
    let lines = "[{ listen = \"127.0.0.1:0\" }, { listen = \"127.0.0.1:0\" }]";
    let feed = format!(
        "[[feed]]\nkind = \"mold\"\nday = \"1970-01-01\"\nzone = \"UTC\"\nwindow = \"1s\"\nlines = {lines}\n{more}"
    );
    fs::write(&config, feed).unwrap();
    let arguments = Results::arguments(dir.path(), &["--config", config.to_str().unwrap()]);
    let mut child = Command::new(cargo_bin!("plimsoll"))
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut told = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    let (a, b) = loop {
        line.clear();
        assert!(told.read_line(&mut line).unwrap() > 0, "it ended before it listened");
        if let Some((_, addresses)) = line.split_once("listens on ") {
            break addresses.trim().split_once(" and ").unwrap();
        }
    };
    let messages = MESSAGES.to_string();
    let day =
        ["gen", "--seed", "7", "--messages", &messages, "--symbols", "60", "--pace", "40000/s", "--udp", a, "--udp", b];
    let sent = plimsoll(&[&day[..], sender].concat());
    assert_eq!(sent.code, Some(0), "{}", sent.err);
    let (mut out, mut err) = (String::new(), String::new());
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    told.read_to_string(&mut err).unwrap();
    assert!(child.wait().unwrap().success(), "{err}");
    let outcome = Outcome { code: Some(0), out, err };
    (Results { outcome, dir }, sent.out)
}

/// An address of the loopback that was free a moment ago.
fn free_address() -> String {
    std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

#[test]
fn one_day_is_the_same_over_bad_lines_with_a_server_that_sends_again() {
    let dir = days(&["d.itch"], &[]);
    let server = free_address();
    let bad =
        ["--loss", "0.01", "--duplicates", "0.01", "--reorder", "0.01", "--lag-b", "2ms", "--loss-everywhere", "0.001"];
    let (results, said) = over_udp(
        &format!("rerequest = {server:?}\nrequest_timeout = \"60s\"\n"),
        &[&bad[..], &["--rerequest", &server, "--linger", "3s"]].concat(),
    );
    let count = |name: &str| results.count("mold", name);
    assert_eq!((count("messages"), count("missed"), count("gaps")), (MESSAGES, 0, 0), "{said}");
    assert!(count("recovered") > 0 && count("duplicates") > 30_000, "{}", results.outcome.out);
    assert!(results.all() == run("itch", &dir.path().join("d.itch"), &[]).all());
}

#[test]
fn what_no_line_brings_is_announced_and_makes_books_stale() {
    let (results, said) =
        over_udp("", &["--loss", "0.01", "--duplicates", "0.01", "--lag-b", "2ms", "--loss-everywhere", "0.001"]);
    let count = |name: &str| results.count("mold", name);
    let nowhere = said.lines().find_map(|line| line.strip_prefix("on no line")).unwrap();
    let nowhere: u64 = nowhere.split(" messages").next().unwrap().replace(' ', "").parse().unwrap();
    assert!(nowhere > 0);
    assert_eq!(count("messages") + count("missed"), MESSAGES);
    // The kernel may have had no room for more.
    if count("kernel_drops") == 0 {
        assert_eq!(count("missed"), nowhere, "{said}{}", results.outcome.out);
    }
    assert!(results.outcome.out.contains("stale, for "), "{}", results.outcome.out);
    let bbo = results.file("bbo.csv");
    assert!(bbo.lines().any(|row| row.ends_with(",1")) && bbo.lines().any(|row| row.ends_with(",0")));
}

/// A file whose middle is damaged: the type of a message becomes one that is not known. Where that is.
fn damaged(dir: &Path) -> (PathBuf, usize) {
    let mut bytes = fs::read(dir.join("d.itch")).unwrap();
    let (mut at, middle) = (0, bytes.len() / 2);
    while at < middle {
        at += 2 + usize::from(u16::from_be_bytes([bytes[at], bytes[at + 1]]));
    }
    bytes[at + 2] = b'z';
    let path = dir.join("damaged.itch");
    fs::write(&path, bytes).unwrap();
    (path, at)
}

#[test]
fn a_malformed_message_stops_the_run_with_its_place_or_is_left_out() {
    let dir = days(&["d.itch"], &[]);
    let (path, at) = damaged(dir.path());
    let input = path.to_str().unwrap();
    let stopped = Results::of(&["--format", "itch", "--input", input]);
    assert_eq!(stopped.outcome.code, Some(1));
    let reason = format!("damaged.itch: at byte {at}: type 'z': ITCH 5.0 has no such message");
    assert!(stopped.outcome.err.contains(&reason), "{}", stopped.outcome.err);
    assert!(stopped.outcome.err.contains("results cover the stream up to there"));
    let before = stopped.count("itch", "messages");
    assert!((10_000..30_000).contains(&before) && stopped.file("bars.csv").lines().count() > 100, "{before}");
    let skipped = run("itch", &path, &["--on-malformed", "skip"]);
    assert_eq!((skipped.count("itch", "messages"), skipped.count("itch", "malformed")), (MESSAGES, 1));
    assert!(skipped.outcome.out.contains("1 malformed"), "{}", skipped.outcome.out);
}

#[test]
fn several_feeds_run_at_once_each_for_itself() {
    let dir = days(&["d.itch", "d.csv", "d.pcap"], &[]);
    let config = dir.path().join("plimsoll.toml");
    let input = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let text = format!(
        "[[feed]]\nkind = \"itch\"\ninput = {:?}\norders_max = 10000\n\n\
         [[feed]]\nname = \"rows\"\nkind = \"csv\"\ninput = {:?}\nprefix = \"R:\"\ncolumns = {{ price = \"price\" }}\n\n\
         [[feed]]\nkind = \"pcap\"\ninput = {:?}\nprefix = \"P:\"\nports = [26400]\n",
        input("d.itch"),
        input("d.csv"),
        input("d.pcap"),
    );
    fs::write(&config, &text).unwrap();
    let all = Results::of(&["--config", config.to_str().unwrap(), "--workers", "2"]);
    assert_eq!(all.outcome.code, Some(0), "{}", all.outcome.err);
    assert_eq!((all.count("itch", "messages"), all.count("pcap-3", "messages")), (MESSAGES, MESSAGES));
    let alone = run("itch", &dir.path().join("d.itch"), &[]);
    let bars = |prefix: &str| {
        let row = |line: &str| line.split(',').take(9).collect::<Vec<_>>().join(",");
        let of = all.file("bars.csv");
        let mine = of.lines().filter(|line| line.starts_with(prefix)).map(|line| row(&line[prefix.len()..]));
        mine.filter(|line| !line.contains(':') && !line.starts_with("symbol")).collect::<Vec<_>>()
    };
    let expected: Vec<_> = alone.of_rows()[0].lines().skip(1).map(str::to_owned).collect();
    for prefix in ["", "R:", "P:"] {
        assert!(bars(prefix) == expected, "{prefix:?}");
    }

    // One fails, and the others go on; the failure is told with its feed.
    fs::write(&config, text.replace("columns = { price = \"price\" }", "time = \"us\"")).unwrap();
    fs::write(dir.path().join("d.csv"), "symbol,ts,price,size\nA,1,x,1\n").unwrap();
    let failed = Results::of(&["--config", config.to_str().unwrap()]);
    assert_eq!(failed.outcome.code, Some(1));
    assert!(
        failed.outcome.err.contains("feed rows: ") && failed.outcome.err.contains("d.csv: at line 2: row: price"),
        "{}",
        failed.outcome.err
    );
    assert_eq!(failed.count("itch", "messages"), MESSAGES);
}

#[test]
fn wrong_feeds_are_told_with_what_to_do() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("plimsoll.toml");
    let some = dir.path().join("some.csv");
    fs::write(&some, "a,b\n1,2\n").unwrap();
    for (feed, code, reason) in [
        ("kind = \"itchy\"", 78, "unknown variant `itchy`"),
        ("name = \"x\"", 78, "feed x: it has no kind; give kind = \"itch\", for instance"),
        ("kind = \"itch\"", 78, "feed itch: it has no input; give a file's path"),
        (
            "kind = \"itch\"\ninput = \"a\"\nports = [1]",
            78,
            "ports means nothing to a feed of kind itch: it takes input, pace,",
        ),
        ("kind = \"mold\"", 78, "feed mold: it has no lines"),
        ("kind = \"mold\"\nlines = [{ listen = \"nowhere\" }]", 78, "invalid socket address"),
        ("kind = \"csv\"\ninput = \"a\"\ntime = \"%H\"", 78, "is local: give its zone"),
        ("kind = \"csv\"\ninput = \"a\"\ncolumns = { prize = \"x\" }", 78, "unknown variant `prize`"),
        (
            "kind = \"csv\"\ninput = \"SOME\"",
            1,
            "some.csv: there is no column \"symbol\", which has the symbol; there are: a, b",
        ),
        ("kind = \"dbn\"\ninput = \"SOME\"", 1, "some.csv: it is no DBN file: give one, plain or packed"),
        ("kind = \"pcap\"\ninput = \"SOME\"", 1, "some.csv: it is no pcap or pcapng file: give a capture"),
        ("kind = \"itch\"\ninput = \"/nowhere/x.itch\"", 1, "/nowhere/x.itch: not found"),
        ("kind = \"mold\"\nlines = [{ listen = \"192.0.2.1:9\" }]", 1, "192.0.2.1:9: cannot listen there"),
        (
            "kind = \"mold\"\nlines = [{ listen = \"239.1.2.3:0\", interface = \"192.0.2.1\" }]",
            1,
            "239.1.2.3:0, interface 192.0.2.1: cannot join the multicast group",
        ),
        ("kind = \"itch\"\ninput = \"a\"\nday = \"yesterday\"", 78, "day"),
        ("kind = \"itch\"\ninput = \"a\"\npace = \"fast\"", 78, "\"fast\" is no pace"),
    ] {
        fs::write(&file, format!("[[feed]]\n{}\n", feed.replace("SOME", some.to_str().unwrap()))).unwrap();
        let outcome = plimsoll(&["run", "--config", file.to_str().unwrap()]);
        assert_eq!(outcome.code, Some(code), "{feed}: {}", outcome.err);
        assert!(outcome.err.contains(reason), "{feed}: {}", outcome.err);
    }
    let twice = format!(
        "[[feed]]\nname = \"x\"\nkind = \"csv\"\ninput = {some:?}\nheader = [\"symbol\", \"ts\", \"price\", \"size\"]\n"
    );
    fs::write(&file, twice.repeat(2)).unwrap();
    let outcome = plimsoll(&["run", "--config", file.to_str().unwrap()]);
    assert_eq!((outcome.code, outcome.err.contains("two feeds are called x")), (Some(78), true), "{}", outcome.err);
    let out = dir.path().join("d.itch");
    for (arguments, reason) in [
        (vec!["gen", "--out", out.to_str().unwrap(), "--loss", "0.1"], "holds messages, not packets"),
        (vec!["gen", "--out", "day.parquet"], "what .parquet holds is not known: give .itch, .pcap"),
        (vec!["gen", "--out", out.to_str().unwrap(), "--messages", "5"], "messages = 5 are too few"),
        (vec!["gen", "--udp", "127.0.0.1:1", "--loss", "2"], "\"2\" is no share"),
        (vec!["run", "--format", "csv", "--input", "a", "--column", "prize=x"], "\"prize\" is no meaning of a column"),
        (vec!["run"], "there is no feed: give --format and --input"),
    ] {
        let outcome = plimsoll(&arguments);
        assert_eq!(outcome.code, Some(2), "{arguments:?}: {}", outcome.err);
        assert!(outcome.err.contains(reason), "{arguments:?}: {}", outcome.err);
    }
    assert!(!out.exists(), "nothing was begun");
}
