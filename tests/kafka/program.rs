//! The program as a member of a group: what it prints, writes and exits with; and what becomes of a group whose processes die.
#![cfg(feature = "cli")]

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use assert_cmd::cargo::cargo_bin;
use serde_json::Value;
use tempfile::TempDir;

use crate::cluster::{Cluster, text, unique, until, until_committed};

fn plimsoll(arguments: &[&str]) -> Command {
    let mut command = Command::new(cargo_bin!("plimsoll"));
    command.args(arguments).env_remove("RUST_LOG").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn signal(child: &Child, signal: &str) {
    let status = Command::new("kill").args(["-s", signal, &child.id().to_string()]).status().unwrap();
    assert!(status.success(), "kill -s {signal}: {status}");
}

/// What a run printed to both, and its exit code.
fn told(output: &Output) -> (Option<i32>, String) {
    let text = [&output.stdout[..], &output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

#[test]
fn a_run_reads_a_topic_and_ends_in_good_order_when_it_is_told_to() {
    let cluster = Cluster::any();
    let (topic, bars, group, dir) = (cluster.topic(2), cluster.topic(1), unique("group"), TempDir::new().unwrap());
    cluster.produce_numbers(&topic, 2, 4, 1..2001);
    let ledger = dir.path().join("ledger.json");
    let mut child = plimsoll(&["run", "--kafka", &cluster.brokers, "--topic", &topic, "--group", &group])
        .args(["--sink-bars", &bars, "--bar-interval", "100ns", "--workers", "2", "--pin", "off"])
        .args(["--metrics", "127.0.0.1:0", "--ledger"])
        .arg(&ledger)
        .spawn()
        .unwrap();
    let mut err = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    err.read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("metrics on http://").unwrap().strip_suffix("/metrics").unwrap().to_owned();
    until_committed(&cluster, &group, &topic, 2, 2000);
    let metric = |name: &str| {
        let mut stream = TcpStream::connect(&address).unwrap();
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let lines = text.lines().filter(|line| line.starts_with(&format!("{name}{{"))).map(str::to_owned);
        lines.collect::<Vec<_>>()
    };
    let value = |line: &String| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap();
    until("metrics tell the positions", || {
        metric("k2_kafka_partition_position").iter().map(value).sum::<f64>() == 2000.0
    });
    until("metrics tell the lag", || metric("k2_kafka_partition_lag_messages").iter().map(value).sum::<f64>() == 0.0);
    assert_eq!(metric("k2_recommended_instances").iter().map(value).collect::<Vec<_>>(), [1.0]);
    assert_eq!(metric("k2_kafka_rebalances_total").iter().map(value).collect::<Vec<_>>(), [1.0]);
    assert_eq!(metric("k2_messages_redelivered_total").iter().map(value).collect::<Vec<_>>(), [0.0]);
    assert!(metric("k2_kafka_partition_paused").iter().all(|line| line.contains(&format!("topic=\"{topic}\""))));

    let asked = Instant::now();
    signal(&child, "TERM");
    let output = child.wait_with_output().unwrap();
    assert!(asked.elapsed() < Duration::from_secs(15), "{:?}", asked.elapsed());
    let (code, text) = told(&output);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("balanced: every message is accounted for") && text.contains("2 000 records"), "{text}");
    let ledger: BTreeMap<String, Value> = serde_json::from_str(&fs::read_to_string(ledger).unwrap()).unwrap();
    assert_eq!(
        (&ledger["processed"], &ledger["redelivered"], &ledger["balanced"]),
        (&2000.into(), &0.into(), &true.into())
    );
    let trades = cluster.read_all(&bars, 1).into_iter().map(|record| {
        serde_json::from_str::<Value>(&crate::cluster::text(&record)).unwrap()["trades"].as_u64().unwrap()
    });
    assert_eq!(trades.sum::<u64>(), 2000);
}

#[test]
fn what_is_wrong_is_told_with_the_right_exit_code_and_no_secret() {
    let dir = TempDir::new().unwrap();
    let config = dir.path().join("config.toml");
    let source =
        "[source.kafka]\nbrokers = \"127.0.0.1:1\"\ntopics = [\"t\"]\ngroup = \"g\"\nconnect_timeout = \"500ms\"\n";
    let run = |more: &str, arguments: &[&str]| {
        fs::write(&config, format!("{source}{more}")).unwrap();
        let output = plimsoll(&["run", "--config", config.to_str().unwrap()])
            .args(arguments)
            .env("PLIMSOLL_TEST_SECRET", "hunter2")
            .output()
            .unwrap();
        told(&output)
    };
    let secret = "secrets = { \"sasl.password\" = { env = \"PLIMSOLL_TEST_SECRET\" } }\n";
    for (more, arguments, code, said) in [
        ("on_unreachable = \"fail\"\n", &[][..], 1, "no broker of 127.0.0.1:1 can be reached"),
        (&*format!("on_unreachable = \"fail\"\n{secret}"), &[], 1, "no broker of 127.0.0.1:1"),
        (&*format!("{secret}properties = {{ \"no.such\" = \"1\" }}\n"), &[], 78, "no.such"),
        ("properties = { \"sasl.password\" = \"hunter2\" }\n", &[], 78, "sasl.password is a secret"),
        ("properties = { \"enable.auto.commit\" = \"true\" }\n", &[], 78, "decided by commit_interval"),
        ("commit_interval = \"2h\"\n", &[], 78, "commit_interval = 7200s is out of range"),
        ("topic = \"t\"\n", &[], 78, "unknown field `topic`"),
        ("messages = \"csv\"\n", &[], 78, "give them with header"),
        ("[[feed]]\nkind = \"asx\"\ninput = \"x\"\n", &[], 2, "give one or the other"),
        ("", &["-X", "sasl.password=hunter2"], 2, "sasl.password is a secret"),
        ("", &["--dead-letter-topic", "a b"], 1, "can be reached"),
    ] {
        let more = if code == 1 && !more.contains("fail") {
            format!("on_unreachable = \"fail\"\n{more}")
        } else {
            more.to_owned()
        };
        let (found, text) = run(&more, arguments);
        assert_eq!(found, Some(code), "{more}: {text}");
        assert!(text.contains(said), "{more}: {text}");
        // What clap repeats of a process's own arguments is no news to who gave them.
        assert!(arguments.contains(&"-X") || !text.contains("hunter2"), "{text}");
    }
    let output = plimsoll(&["run", "--topic", "t", "--group", "g"]).output().unwrap();
    assert!(told(&output).1.contains("give --kafka BROKERS"), "{output:?}");
    assert_eq!(output.status.code(), Some(2));
}

/// Members of a group as processes, which die, stand still and come back.
struct Campaign<'a> {
    cluster: &'a Cluster,
    dir: &'a Path,
    topic: String,
    group: String,
    outs: Vec<String>,
    children: Vec<Child>,
}

const PARTITIONS: i32 = 6;
const SYMBOLS: u64 = 24;
const MEMBERS: usize = 3;
/// What a member may have unfinished.
const UNFINISHED_MAX: u64 = 4_000;
/// What may be finished between two commits, generously: 100 ms and a little at more than these machines do.
const BETWEEN_COMMITS: u64 = 30_000;

impl Campaign<'_> {
    fn config(&self, member: usize) -> PathBuf {
        let path = self.dir.join(format!("member-{member}.toml"));
        let Self { cluster, topic, group, outs, .. } = self;
        let toml = format!(
            "[thresholds]\nlag_soft = 500\nlag_graceful = 1_000\nlag_aggressive = 2_000\nlag_circuit_break = 5_000\nrecovery_cooldown_seconds = 0.3\n\
             heap_soft = 96.0\nheap_graceful = 97.0\nheap_aggressive = 98.0\nheap_circuit_break = 99.0\n\
             [tiers]\ntier_1 = [\"S0\", \"S1\", \"S2\", \"S3\"]\ntier_2 = [\"S4\", \"S5\"]\n\
             [pipeline]\nworkers = 2\npin = \"off\"\n\
             [spill]\ndir = {:?}\nsegment_bytes = \"1MiB\"\nbudget_bytes = \"64MiB\"\nfree_space_floor_bytes = 0\nat_shutdown = \"replay\"\n\
             [source.kafka]\nbrokers = \"{}\"\ntopics = [\"{topic}\"]\ngroup = \"{group}\"\ncommit_interval = \"100ms\"\nsession_timeout = \"6s\"\n\
             statistics_interval = \"50ms\"\nunfinished_max = {UNFINISHED_MAX}\ndrain_timeout = \"160s\"\n\
             [sink.kafka]\nticks = \"{}\"\n",
            self.dir.join(format!("spill-{member}")),
            cluster.brokers,
            outs[member],
        );
        fs::write(&path, toml).unwrap();
        path
    }

    fn start(&self, member: usize) -> Child {
        let log = fs::File::options().create(true).append(true).open(self.dir.join(format!("log-{member}"))).unwrap();
        let mut command = plimsoll(&["run", "--config", self.config(member).to_str().unwrap()]);
        command.args(["--ledger", self.dir.join(format!("ledger-{member}.json")).to_str().unwrap()]);
        // So that recoveries are told, too.
        command.env("RUST_LOG", "plimsoll=info").stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
    }
}

/// Seconds that the campaign goes on in the suite; more with `PLIMSOLL_KAFKA_CAMPAIGN`.
const SHORT: u32 = 25;

/// How long the campaign goes on, and how long it waits between portions: for as many in all, since the mock keeps only so much.
fn campaign_time() -> (Duration, Duration) {
    let seconds = std::env::var("PLIMSOLL_KAFKA_CAMPAIGN").map_or(SHORT, |text| text.parse().unwrap()).max(SHORT);
    (Duration::from_secs(seconds.into()), Duration::from_millis(20) * seconds / SHORT)
}

#[test]
fn a_group_whose_processes_die_and_stand_still_loses_nothing() {
    let cluster = Cluster::any();
    let dir = TempDir::new().unwrap();
    let outs = (0..MEMBERS).map(|_| cluster.topic(PARTITIONS)).collect();
    let (topic, group) = (cluster.topic(PARTITIONS), unique("group"));
    let mut campaign = Campaign { cluster: &cluster, dir: dir.path(), topic, group, outs, children: Vec::new() };
    campaign.children = (0..MEMBERS).map(|member| campaign.start(member)).collect();
    let (time, pause) = campaign_time();
    let end = Instant::now() + time;
    let (mut next, mut events) = (1, 0);
    let mut still: Option<(usize, Instant)> = None;
    let mut event_at = Instant::now() + Duration::from_secs(6);
    while Instant::now() < end {
        // A steady stream, and now and then a flood that takes members up to CIRCUIT_BREAK.
        let count = if next % 7 == 0 { 6_000 } else { 100 };
        cluster.produce_numbers(&campaign.topic, PARTITIONS, SYMBOLS, next..next + count);
        next += count;
        if let Some((member, since)) = still
            && since.elapsed() > Duration::from_secs(8)
        {
            signal(&campaign.children[member], "CONT");
            still = None;
        }
        if Instant::now() >= event_at {
            event_at = Instant::now() + Duration::from_secs(4);
            let member = events % MEMBERS;
            if still.is_none() && events % 3 == 2 {
                // For longer than the group waits for a sign of life.
                signal(&campaign.children[member], "STOP");
                still = Some((member, Instant::now()));
            } else if still.is_none_or(|(stands, _)| stands != member) {
                campaign.children[member].kill().unwrap();
                campaign.children[member].wait().unwrap();
                campaign.children[member] = campaign.start(member);
            }
            events += 1;
        }
        std::thread::sleep(pause);
    }
    if let Some((member, _)) = still {
        signal(&campaign.children[member], "CONT");
    }
    until_committed(&cluster, &campaign.group, &campaign.topic, PARTITIONS, next - 1);
    let children = std::mem::take(&mut campaign.children);
    children.iter().for_each(|child| signal(child, "TERM"));
    for (member, mut child) in children.into_iter().enumerate() {
        let status = child.wait().unwrap();
        let log = || fs::read_to_string(dir.path().join(format!("log-{member}"))).unwrap();
        assert!(status.success(), "{status}: {}", log());
        let ledger: Value =
            serde_json::from_str(&fs::read_to_string(dir.path().join(format!("ledger-{member}.json"))).unwrap())
                .unwrap();
        assert_eq!(
            (&ledger["balanced"], &ledger["spill_pending"], &ledger["shed"]),
            (&true.into(), &0.into(), &0.into()),
            "{ledger}"
        );
    }

    let logs: String = (0..MEMBERS).map(|n| fs::read_to_string(dir.path().join(format!("log-{n}"))).unwrap()).collect();
    for level in ["AGGRESSIVE", "CIRCUIT_BREAK"] {
        assert!(logs.contains(&format!("to={level}")), "no member has been at {level}: {logs}");
    }

    let mut times: HashMap<u64, u64> = HashMap::new();
    for out in &campaign.outs {
        let mut last: HashMap<u64, u64> = HashMap::new();
        let mut back: HashMap<u64, usize> = HashMap::new();
        for record in cluster.read_all(out, PARTITIONS) {
            let number = serde_json::from_str::<Value>(&text(&record)).unwrap()["size"].as_u64().unwrap();
            *times.entry(number).or_default() += 1;
            if last.insert(number % SYMBOLS, number).is_some_and(|before| before >= number) {
                *back.entry(number % SYMBOLS).or_default() += 1;
            }
        }
        // A symbol goes back where an assignment begins, and where what was spilled in an earlier one is replayed.
        let most = back.values().copied().max().unwrap_or(0);
        assert!(most <= 6 * (events + 2), "{most} times back after {events} events");
    }
    let missing: Vec<u64> = (1..next).filter(|number| !times.contains_key(number)).take(10).collect();
    assert!(missing.is_empty(), "of {next} numbers after {events} events these and more are missing: {missing:?}");
    let repeated = times.values().sum::<u64>() - (next - 1);
    let bound = events as u64 * (UNFINISHED_MAX + BETWEEN_COMMITS) * 2;
    assert!(repeated <= bound, "{repeated} > {bound}");
    println!("{} numbers, {events} events, {repeated} repeated, at most {bound} may be", next - 1);
}
