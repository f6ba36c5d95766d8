//! `plimsoll simulate` and `tune` on incidents: what Prometheus has of them, in open and closed loop, against figures worked out by hand.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use assert_cmd::cargo::cargo_bin;
use serde_json::{Value, json};
use tempfile::TempDir;

fn plimsoll(dir: &Path, arguments: &[&str]) -> Output {
    Command::new(cargo_bin!("plimsoll")).current_dir(dir).args(arguments).output().unwrap()
}

fn told(dir: &Path, arguments: &[&str]) -> String {
    let output = plimsoll(dir, arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn sets(dir: &Path, arguments: &[&str]) -> Vec<Value> {
    let arguments: Vec<_> = ["simulate", "--json"].into_iter().chain(arguments.iter().copied()).collect();
    serde_json::from_str(&told(dir, &arguments)).unwrap()
}

fn failed(dir: &Path, arguments: &[&str], code: i32) -> String {
    let output = plimsoll(dir, arguments);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{error}");
    error
}

/// Series of one process, a value every ten seconds.
struct Prometheus {
    instance: &'static str,
    series: Vec<Value>,
}

impl Prometheus {
    fn add(&mut self, name: &str, labels: &[(&str, &str)], values: &[f64]) -> &mut Self {
        let mut metric = json!({ "__name__": name, "instance": self.instance, "component": "circuit_breaker" });
        for (label, value) in labels {
            metric[label] = json!(value);
        }
        let values: Vec<_> =
            values.iter().enumerate().map(|(i, v)| json!([1_700_000_000.5 + 10.0 * i as f64, v.to_string()])).collect();
        self.series.push(json!({ "metric": metric, "values": values }));
        self
    }
}

fn answer(processes: &[&Prometheus]) -> String {
    let result: Vec<_> = processes.iter().flat_map(|process| process.series.clone()).collect();
    json!({ "status": "success", "data": { "resultType": "matrix", "result": result } }).to_string()
}

/// NORMAL, SOFT, AGGRESSIVE, CIRCUIT_BREAK by memory, and down again after 30 s.
fn incident(instance: &'static str) -> Prometheus {
    let mut process = Prometheus { instance, series: Vec::new() };
    process
        .add("k2_lag_messages", &[], &[0.0, 2e3, 12e3, 100.0, 100.0, 100.0, 100.0])
        .add("k2_memory_used_ratio", &[], &[0.2, 0.2, 0.2, 0.96, 0.5, 0.5, 0.5])
        // Of shadow thresholds: not what was in force.
        .add("k2_degradation_level", &[("component", "shadow")], &[4.0; 7])
        .add("k2_degradation_level", &[], &[0.0, 1.0, 3.0, 4.0, 4.0, 4.0, 0.0]);
    let thresholds =
        [("soft", 1e3, 0.7), ("graceful", 5e3, 0.8), ("aggressive", 1e4, 0.9), ("circuit_break", 5e4, 0.95)];
    for (level, lag, memory) in thresholds {
        process.add("k2_degradation_lag_threshold_messages", &[("level", level)], &[lag; 7]);
        process.add("k2_degradation_memory_threshold_ratio", &[("level", level)], &[memory; 7]);
    }
    // In each of the six spans 1000 of CRITICAL and 500 of NORMAL; the counter of CRITICAL begins anew in the third.
    let critical = [5_000.0, 6_000.0, 7_000.0, 1_000.0, 1_000.0, 1_000.0, 2_000.0];
    process
        .add("k2_messages_by_priority_total", &[("priority", "critical"), ("outcome", "processed_live")], &critical)
        .add(
            "k2_messages_by_priority_total",
            &[("priority", "critical"), ("outcome", "refused")],
            &[0.0, 0.0, 0.0, 0.0, 1_000.0, 2_000.0, 2_000.0],
        )
        .add(
            "k2_messages_by_priority_total",
            &[("priority", "normal"), ("outcome", "spilled")],
            &[0.0, 500.0, 1_000.0, 1_500.0, 2_000.0, 2_500.0, 3_000.0],
        )
        // What is replayed was spilled before, and is not offered again.
        .add(
            "k2_messages_by_priority_total",
            &[("priority", "normal"), ("outcome", "replayed")],
            &[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 6e6],
        );
    process
}

#[test]
fn an_incident_is_reproduced_from_its_metrics() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("incident.json"), answer(&[&incident("a:1")])).unwrap();
    let found = sets(dir.path(), &["--trace", "incident.json"]);
    assert_eq!(found.len(), 1);
    let set = &found[0];
    // The thresholds are the trace's, and give the levels that it tells of.
    assert_eq!(set["name"], "as recorded");
    assert_eq!(set["as_recorded"], json!({ "agreed": 7, "known": 7 }));
    let seconds = json!({ "NORMAL": 10.0, "SOFT": 10.0, "GRACEFUL": 0.0, "AGGRESSIVE": 10.0, "CIRCUIT_BREAK": 30.0 });
    assert_eq!(set["seconds_at_level"], seconds);
    let transitions = set["transitions"].as_array().unwrap();
    assert_eq!((transitions.len(), transitions[2]["cause"].as_str()), (4, Some("memory 96.0 % ≥ 95 %")));
    assert_eq!((set["flaps"].as_u64(), set["peak_lag"].as_u64()), (Some(0), Some(12_000)));
    // Of six spans as large as each other one was at NORMAL, one at SOFT, one at AGGRESSIVE, three at CIRCUIT_BREAK.
    let near = |priority: &str, outcome: &str, expected: f64| {
        let share = set["shares"][priority][outcome].as_f64().unwrap();
        assert!((share - expected).abs() < 1e-9, "{priority} {outcome}: {share}, not {expected}");
    };
    near("CRITICAL", "processed", 0.5);
    near("CRITICAL", "refused", 0.5);
    near("NORMAL", "processed", 2.0 / 6.0);
    near("NORMAL", "spilled", 1.0 / 6.0);
    near("NORMAL", "refused", 0.5);

    let table = told(dir.path(), &["simulate", "--trace", "incident.json", "--summary"]);
    for said in [
        "as recorded             7 of 7",
        "time at CIRCUIT_BREAK         30.00 s",
        "CRITICAL processed            50.00 %",
    ] {
        let squeeze = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(squeeze(&table).contains(&squeeze(said)), "no {said:?} in {table}");
    }
    assert!(table.ends_with("Shares are of what was offered.\n"));
    // Plainly it is the samples.
    let samples = told(dir.path(), &["simulate", "--trace", "incident.json"]);
    assert!(
        samples.starts_with("t_ms,lag,heap_pct,level\n0,0,20,0\n10000,2000,20,1\n20000,12000,20,3\n30000,100,96,4\n"),
        "{samples}"
    );
}

#[test]
fn several_sets_are_compared_and_drawn() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("incident.json"), answer(&[&incident("a:1")])).unwrap();
    fs::write(dir.path().join("eager & low.toml"), "[thresholds]\nlag_soft = 50\nrecovery_cooldown_seconds = 10\n")
        .unwrap();
    let arguments = ["--trace", "incident.json", "--config", "eager & low.toml", "--defaults", "--svg", "picture.svg"];
    let found = sets(dir.path(), &arguments);
    let names: Vec<_> = found.iter().map(|set| set["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["eager & low", "defaults"]);
    // The cooldown is over after one sample, but the lag is not below half of 50.
    assert_eq!(found[0]["seconds_at_level"]["CIRCUIT_BREAK"], 10.0);
    assert_eq!(found[0]["seconds_at_level"]["SOFT"], 40.0);
    assert_eq!(found[0]["as_recorded"], json!({ "agreed": 3, "known": 7 }));
    // By lag they do nothing; memory they have in common.
    assert_eq!(found[1]["seconds_at_level"]["NORMAL"], 30.0);
    let picture = fs::read_to_string(dir.path().join("picture.svg")).unwrap();
    assert!(picture.starts_with("<svg ") && picture.ends_with("</svg>\n"));
    assert_eq!(picture.matches("<svg ").count(), picture.matches("</svg>").count());
    for said in ["eager &amp; low: 3 transitions", "defaults: 2 transitions", "plimsoll simulate: incident.json"] {
        assert!(picture.contains(said), "no {said:?}");
    }
    assert_eq!(picture.matches("<svg ").count(), 4, "the whole, the signals, and a level for each set");
}

#[test]
fn an_answer_that_is_no_trace_is_told_apart() {
    let dir = TempDir::new().unwrap();
    let both = answer(&[&incident("a:1"), &incident("b:1")]);
    let trace = dir.path().join("trace.json");
    let vector = json!({ "status": "success", "data": { "resultType": "vector", "result": [] } }).to_string();
    let error = json!({ "status": "error", "errorType": "bad_data", "error": "parse error at char 3" }).to_string();
    let nothing = json!({ "status": "success", "data": { "resultType": "matrix", "result": [] } }).to_string();
    for (text, more, said) in [
        (&both, &[][..], "there are several processes: choose one by --instance, of a:1, b:1"),
        (&both, &["--instance", "c:1"], "no k2_lag_messages of an instance \"c:1\"; there is: a:1, b:1"),
        (&vector, &[], "the answer is a vector"),
        (&error, &[], "Prometheus has answered with an error: parse error at char 3"),
        (&nothing, &[], "there is no series k2_lag_messages: ask for all of them"),
        (&"{\"status\": 1}".to_owned(), &[], "that is no answer of Prometheus's query_range"),
    ] {
        fs::write(&trace, text).unwrap();
        let arguments: Vec<_> = ["simulate", "--trace", "trace.json"].iter().chain(more).copied().collect();
        let error = failed(dir.path(), &arguments, 1);
        assert!(error.contains("trace.json: ") && error.contains(said), "{error}");
    }
    fs::write(&trace, both).unwrap();
    let found = sets(dir.path(), &["--trace", "trace.json", "--instance", "b:1"]);
    assert_eq!(found[0]["as_recorded"]["agreed"], 7);
}

#[test]
fn in_closed_loop_what_was_offered_meets_a_handler_that_takes_its_time() {
    let dir = TempDir::new().unwrap();
    // 200 000 CRITICAL messages a second for four seconds, of which 100 000 are managed; then nothing.
    let rows = (1..=10).map(|s| format!("{},0,10,{},0,0,0\n", s * 1000, if s <= 4 { 200_000 } else { 0 }));
    let header = "t_ms,lag,heap_pct,offered_critical,offered_high,offered_normal,offered_low\n0,0,10,0,0,0,0\n";
    fs::write(dir.path().join("load.csv"), header.to_owned() + &rows.collect::<String>()).unwrap();
    let found = sets(dir.path(), &["--trace", "load.csv", "--closed", "--cost", "10us"]);
    let set = &found[0];
    // After a second it is SOFT, and at the end there are 400 000.
    assert_eq!(set["transitions"][0]["at_seconds"], 1.0);
    assert_eq!(set["transitions"][0]["to"], "SOFT");
    assert_eq!(set["peak_lag"], 400_000);
    assert_eq!(set["shares"]["CRITICAL"]["processed"], 1.0);
    let longest = set["critical_latency_seconds"][2].as_f64().unwrap();
    assert!((3.6..4.2).contains(&longest), "400 000 take four seconds: {longest}");

    // The same from its lag alone, which is as much as what is not managed.
    let rows = (1..=10i64)
        .map(|s| format!("{},{},10\n", s * 1000, if s <= 4 { s * 100_000 } else { 0.max(800_000 - s * 100_000) }));
    let text = "t_ms,lag,heap_pct\n0,0,10\n".to_owned() + &rows.collect::<String>();
    fs::write(dir.path().join("lag.csv"), text).unwrap();
    let found = sets(dir.path(), &["--trace", "lag.csv", "--closed", "--cost", "10us"]);
    let peak = found[0]["peak_lag"].as_u64().unwrap();
    assert!((398_000..=402_000).contains(&peak), "{peak}");
    assert_eq!(found[0]["transitions"][0]["at_seconds"], 1.0);

    let error = failed(dir.path(), &["simulate", "--trace", "lag.csv", "--closed"], 2);
    assert!(error.contains("say what one takes, by --cost"), "{error}");
    let error =
        failed(dir.path(), &["simulate", "--trace", "load.csv", "--samples", "--defaults", "--config", "x.toml"], 78);
    assert!(error.contains("x.toml"), "{error}");
    fs::write(dir.path().join("load.csv"), header.replace(",offered_low", "")).unwrap();
    let error = failed(dir.path(), &["simulate", "--trace", "load.csv", "--summary"], 1);
    assert!(error.contains("load.csv:1: no column \"offered_low\""), "{error}");
    fs::write(dir.path().join("load.csv"), header.to_owned() + "1,2,3,4,-5,6,7\n").unwrap();
    let error = failed(dir.path(), &["simulate", "--trace", "load.csv", "--summary"], 1);
    assert!(error.contains("load.csv:3: column 5 (offered_high): \"-5\": not messages a second"), "{error}");
}

#[test]
fn a_storm_comes_out_as_the_library_has_it() {
    let dir = TempDir::new().unwrap();
    let found = sets(dir.path(), &["--scenario", "flash-crash"]);
    let transitions = found[0]["transitions"].as_array().unwrap();
    let told: Vec<_> =
        transitions.iter().map(|t| (t["to"].as_str().unwrap(), t["at_seconds"].as_f64().unwrap())).collect();
    let expected =
        [("SOFT", 10.02), ("GRACEFUL", 10.06), ("AGGRESSIVE", 10.11), ("CIRCUIT_BREAK", 10.53), ("NORMAL", 40.53)];
    assert_eq!(told, expected);
    // Its samples are a trace, which gives the same levels.
    let samples = told_samples(dir.path(), &["simulate", "--scenario", "flash-crash", "--samples"]);
    fs::write(dir.path().join("crash.csv"), &samples).unwrap();
    assert_eq!(told_samples(dir.path(), &["simulate", "--trace", "crash.csv"]), samples);
}

fn told_samples(dir: &Path, arguments: &[&str]) -> String {
    let text = told(dir, arguments);
    assert!(text.starts_with("t_ms,lag,heap_pct,level\n"));
    text
}

#[test]
fn tune_finds_thresholds_that_keep_the_goals_and_the_same_ones_again() {
    let dir = TempDir::new().unwrap();
    let arguments = ["tune", "--scenario", "flash-crash", "--critical-p99", "2s", "--transitions", "250", "--out"];
    let tuned = |out: &str| {
        let text = told(dir.path(), &arguments.iter().copied().chain([out]).collect::<Vec<_>>());
        (text, fs::read_to_string(dir.path().join(out)).unwrap())
    };
    let (text, config) = tuned("tuned.toml");
    assert_eq!(tuned("again.toml"), (text.clone(), config.clone()));
    assert!(text.contains("541 sets of thresholds, tried on flash-crash"), "{text}");
    assert!(text.contains("← the choice") && text.contains("now: misses the goals"), "{text}");
    assert!(config.contains("# Goals: CRITICAL p99 ≤ 2.0 s, transitions ≤ 250 an hour, shed and refuse"), "{config}");
    told(dir.path(), &["validate", "tuned.toml", "--no-environment"]);
    // What it says of itself holds, and the defaults do not keep the goals.
    let found = sets(dir.path(), &["--scenario", "flash-crash", "--config", "tuned.toml", "--defaults"]);
    let p99 = |set: &Value| set["critical_latency_seconds"][1].as_f64().unwrap();
    assert!(p99(&found[0]) <= 2.0 && p99(&found[1]) > 2.0, "{} {}", p99(&found[0]), p99(&found[1]));
}

#[test]
fn goals_that_cannot_be_kept_are_an_error_that_shows_what_there_is_to_choose_from() {
    let dir = TempDir::new().unwrap();
    let arguments =
        ["tune", "--scenario", "flash-crash", "--critical-p99", "1ns", "--transitions", "0", "--out", "tuned.toml"];
    let output = plimsoll(dir.path(), &arguments);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("no set of thresholds keeps the goals"));
    assert!(String::from_utf8(output.stdout).unwrap().contains("misses the goals"));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is written, nothing is left over");
}
