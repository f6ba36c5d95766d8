//! Proves what an operator may rely on in the configuration: that every mistake is told with its place and what to do, that the
//! environment counts more than the file, and that it can be seen what is in force and why.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

use assert_cmd::cargo::cargo_bin;
use tempfile::TempDir;

/// Runs it in a directory, with these variables.
fn plimsoll(dir: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let mut command = Command::new(cargo_bin!("plimsoll"));
    command.args(arguments).current_dir(dir).env_remove("RUST_LOG").envs(environment.iter().copied());
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// Writes a configuration and validates it.
fn validate(text: &str, flags: &[&str]) -> (Option<i32>, String, String) {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("c.toml"), text).unwrap();
    plimsoll(dir.path(), &[&["validate", "c.toml"], flags].concat(), &[])
}

#[test]
fn what_init_writes_is_valid_and_no_file_is_written_over() {
    let dir = TempDir::new().unwrap();
    let (code, out, _) = plimsoll(dir.path(), &["init"], &[]);
    assert_eq!((code, out.contains("wrote plimsoll.toml")), (Some(0), true), "{out}");
    let (code, out, err) = plimsoll(dir.path(), &["validate", "plimsoll.toml"], &[]);
    assert_eq!((code, out.as_str()), (Some(0), "plimsoll.toml is valid\n"), "{err}");
    let text = fs::read_to_string(dir.path().join("plimsoll.toml")).unwrap();
    assert_eq!(plimsoll(dir.path(), &["init", "--print"], &[]).1, text);

    fs::write(dir.path().join("plimsoll.toml"), "mine").unwrap();
    let (code, _, err) = plimsoll(dir.path(), &["init"], &[]);
    assert!(code == Some(1) && err.contains("plimsoll.toml is there already"), "{err}");
    assert_eq!(fs::read_to_string(dir.path().join("plimsoll.toml")).unwrap(), "mine");
}

#[test]
fn mistakes_are_told_with_their_line_and_what_would_be_right() {
    let cases = [
        ("[thresholds]\nlag_sofft = 1", &["unknown field `lag_sofft`", "`lag_soft`", "c.toml:2:1"][..]),
        ("[threshold]\nlag_soft = 1", &["unknown field `threshold`", "c.toml:1:"]),
        ("[thresholds]\nlag_soft = 600_000", &["lag_soft = 600000 must be below lag_graceful = 500000", "c.toml:2:1"]),
        ("[thresholds]\nlag_soft = \"many\"", &["invalid type: string \"many\"", "c.toml:2:12"]),
        ("[thresholds]\nheap_soft = 170.0", &["heap_soft = 170", "a percentage from 0 to 100", "c.toml:2:1"]),
        ("[shadow.thresholds]\nlag_soft = 600_000", &["[shadow.thresholds] lag_soft = 600000 must be", "c.toml:2:1"]),
        ("[pipeline]\nsample_interval = \"10\"", &["\"10\" is no time", "a unit: ns, us, ms", "c.toml:2:19"]),
        ("[pipeline]\nwait = \"sleep\"", &["unknown variant `sleep`", "c.toml:2:8"]),
        ("[pipeline]\nmode = \"dry\"", &["`dry`", "`enforce` or `observe`", "c.toml:2:8"]),
        ("[pipeline]\nlane_capacity = 10", &["lane_capacity = 10 must exceed lag_circuit_break = 5000000"]),
        ("[verdicts]\nsoft = [\"process\"]", &["an array of length 4", "c.toml:2:8"]),
        ("[spill]\ndir = \"x\"\nbudget_bytes = \"64MB\"", &["\"64MB\" is no size", "KiB, MiB", "c.toml:3:16"]),
        ("[spill]\nreplay_share = 0.5", &["[spill] has no dir"]),
        ("[signals.error_rate]\nsoft = 1", &["unknown field `error_rate`", "`age` or `spill_disk`"]),
        (
            "[signals.age]\nsoft = 5\ngraceful = 5\naggressive = 6\ncircuit_break = 7",
            &["signal age: thresholds [5.0, 5.0, 6.0, 7.0] must be numbers that rise strictly"],
        ),
        (
            "[proportional.normal]\nfrom_lag = 1\nto_lag = 2\nto_percent = 120",
            &["NORMAL: to_percent = 120 is out of range: a percentage from 0 to 100"],
        ),
        ("[proportional.normal]\nfrom_lag = 2\nto_lag = 2", &["NORMAL: from_lag = 2 must be below to_lag = 2"]),
        (
            "[budget.low]\nmessages_per_second = 0\nburst = 1",
            &["LOW: messages_per_second = 0 is out of range: above 0"],
        ),
        ("[budget.usual]\nburst = 1", &["`usual`", "`critical`"]),
        (
            "[verdicts]\nsoft = [\"process\", \"merge\", \"shed\", \"shed\"]",
            &["\"merge\" is no verdict", "`conflate-else-spill`"],
        ),
        ("[http]\nnot_ready_from = \"hard\"", &["`hard`", "`never`"]),
        ("[supervision]\non_panic = \"ignore\"", &["`ignore`", "`stop` or `restart-worker`"]),
        (
            "[[feed]]\nkind = \"itch\"\ninput = \"x\"\ndelimiter = \";\"",
            &["feed itch: delimiter means nothing to a feed of kind itch"],
        ),
        ("[[feed]]\ninput = \"x\"", &["feed 1: it has no kind"]),
        ("[log]\nfilter = \"plimsoll=loud\"", &["[log] filter", "plimsoll=loud"]),
        ("[pipeline\nworkers = 1", &["c.toml:1:"]),
    ];
    for (text, said) in cases {
        let (code, out, err) = validate(text, &["--no-environment"]);
        assert_eq!((code, out.as_str()), (Some(78), ""), "{text}: {err}");
        for words in said {
            assert!(err.contains(words), "{text}: no {words:?} in {err}");
        }
    }
    let (code, _, err) = plimsoll(Path::new("/"), &["validate", "/no/such.toml"], &[]);
    assert!(code == Some(78) && err.contains("/no/such.toml cannot be read: No such file"), "{err}");
}

#[test]
fn what_this_machine_does_not_have_is_an_error_unless_it_is_not_asked() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap();
    let cases = [
        ("[spill]\ndir = \"/proc/spool\"".to_owned(), "no file can be made in /proc"),
        ("[spill]\ndir = \"c.toml/spool\"".to_owned(), "c.toml is no directory"),
        ("[pipeline]\npin = \"0,9999\"".to_owned(), "this process may not run on core 9999"),
        (format!("[http]\nlisten = \"{port}\""), "Address already in use"),
        ("[[feed]]\nkind = \"itch\"\ninput = \"/no/such.itch\"".to_owned(), "/no/such.itch"),
        ("[control]\nsocket = \"/no/such/dir/c.sock\"".to_owned(), "its directory: No such file"),
    ];
    for (text, said) in cases {
        let (code, _, err) = validate(&text, &[]);
        assert!(code == Some(78) && err.contains("error: ") && err.contains(said), "{text}: {err}");
        let (code, out, err) = validate(&text, &["--no-environment"]);
        assert_eq!((code, out.as_str()), (Some(0), "c.toml is valid\n"), "{text}: {err}");
    }
}

#[test]
fn a_warning_is_an_error_where_it_is_to_be_one() {
    let text = "[tiers]\ntier_1 = [\"A\"]\ntier_2 = [\"A\"]";
    let (code, _, err) = validate(text, &[]);
    assert!(code == Some(0) && err.contains("warning: A are in tier_1 and in tier_2"), "{err}");
    let (code, out, err) = validate(text, &["--deny-warnings"]);
    assert!(code == Some(78) && out.is_empty() && err.contains("there are warnings"), "{err}");
    let whole = "[spill]\ndir = \"spool\"\n[[feed]]\nkind = \"csv\"\ninput = \"-\"";
    assert_eq!(validate(whole, &["--deny-warnings"]).0, Some(0));
}

#[test]
fn the_environment_counts_more_than_the_file_and_it_is_shown_where_a_value_came_from() {
    let dir = TempDir::new().unwrap();
    let text = "[thresholds]\nlag_soft = 7\n\n[source.kafka]\nbrokers = \"b\"\n[[feed]]\nkind = \"csv\"\n";
    let text =
        if cfg!(feature = "kafka") { text.to_owned() } else { text.replace("[source.kafka]\nbrokers = \"b\"\n", "") };
    fs::write(dir.path().join("c.toml"), text).unwrap();
    let environment = [
        ("PLIMSOLL_THRESHOLDS_LAG_GRACEFUL", "50_000"),
        ("PLIMSOLL_THRESHOLDS_HEAP_SOFT", "65"),
        ("PLIMSOLL_TIERS_TIER_1", "BHP, RIO"),
        ("PLIMSOLL_SPILL_DIR", "spool"),
        ("PLIMSOLL_FEED_1_INPUT", "-"),
        ("PLIMSOLL_FEED_2_KIND", "itch"),
        ("PLIMSOLL_SHADOW_THRESHOLDS_LAG_SOFT", "3"),
        ("PLIMSOLL_CONFIG", "c.toml"),
    ];
    let (code, out, err) = plimsoll(dir.path(), &["config", "show", "--origin"], &environment);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    let origin = |key: &str| {
        let line =
            out.lines().find(|line| line.starts_with(&format!("{key} = "))).unwrap_or_else(|| panic!("{key} in {out}"));
        let (value, origin) = line.split_once('#').unwrap();
        (value.split_once('=').unwrap().1.trim().to_owned(), origin.trim().to_owned())
    };
    let is = |value: &str, origin: &str| (value.to_owned(), origin.to_owned());
    assert_eq!(origin("lag_soft"), is("7", "c.toml:2"));
    assert_eq!(origin("lag_graceful"), is("50000", "environment, PLIMSOLL_THRESHOLDS_LAG_GRACEFUL"));
    assert_eq!(origin("heap_soft"), is("65.0", "environment, PLIMSOLL_THRESHOLDS_HEAP_SOFT"));
    assert_eq!(origin("heap_graceful"), is("80.0", "default"));
    assert_eq!(origin("tier_1"), is("[\"BHP\", \"RIO\"]", "environment, PLIMSOLL_TIERS_TIER_1"));
    assert_eq!(origin("dir"), is("\"spool\"", "environment, PLIMSOLL_SPILL_DIR"));
    assert_eq!(origin("stall_after"), is("\"30s\"", "default"));
    assert_eq!(origin("segment_bytes"), is("\"64MiB\"", "default"));
    assert_eq!(origin("input"), is("\"-\"", "environment, PLIMSOLL_FEED_1_INPUT"));
    // What it shows is a configuration, with the same meaning.
    let (_, shown, _) = plimsoll(dir.path(), &["config", "show"], &environment);
    fs::write(dir.path().join("shown.toml"), &shown).unwrap();
    let (code, again, err) = plimsoll(dir.path(), &["config", "show", "--config", "shown.toml"], &[]);
    assert_eq!((code, again), (Some(0), shown), "{err}");
}

#[test]
fn variables_that_make_no_sense_are_named() {
    let dir = TempDir::new().unwrap();
    for (name, value, said) in [
        (
            "PLIMSOLL_THRESHOLDS_LAG_SOFTT",
            "1",
            "PLIMSOLL_THRESHOLDS_LAG_SOFTT is set, and [thresholds] has no such key",
        ),
        ("PLIMSOLL_THRESHOLDS_LAG_SOFT", "many", "PLIMSOLL_THRESHOLDS_LAG_SOFT = \"many\": give a whole number"),
        ("PLIMSOLL_PIPELINE_PREFAULT", "yes", "PLIMSOLL_PIPELINE_PREFAULT = \"yes\": give true or false"),
        ("PLIMSOLL_PIPELINE_WAIT", "sleep", "unknown variant `sleep`"),
        ("PLIMSOLL_THRESHOLDS_LAG_SOFT", "600000", "(set by the environment, PLIMSOLL_THRESHOLDS_LAG_SOFT)"),
        ("PLIMSOLL_FEED_3_KIND", "itch", "PLIMSOLL_FEED_3_KIND: there are 0 feeds, so give a number from 1 to 1"),
    ] {
        let (code, _, err) = plimsoll(dir.path(), &["config", "show"], &[(name, value)]);
        assert!(code == Some(78) && err.contains(said), "{name}={value}: {err}");
    }
    let (code, _, err) = plimsoll(dir.path(), &["config", "show"], &[("PLIMSOLL_TRESHOLDS_LAG_SOFT", "1")]);
    assert!(code == Some(0) && err.contains("warning: PLIMSOLL_TRESHOLDS_LAG_SOFT is set"), "{err}");
}

#[cfg(feature = "kafka")]
#[test]
fn mistakes_in_what_is_for_kafka_are_found_without_a_broker() {
    let source = "[source.kafka]\nbrokers = \"b\"\ntopics = [\"t\"]\ngroup = \"g\"\n";
    for (text, said) in [
        ("[source.kafka]\nbrokers = \"b\"\ngroup = \"g\"\n".to_owned(), "topic"),
        (format!("{source}messages = \"raw\"\nrows = {{ time = \"ms\" }}"), "raw ticks have no rows"),
        ("[sink.kafka]\nbars = \"b\"".to_owned(), "there is no cluster"),
    ] {
        let (code, _, err) = validate(&text, &["--no-environment"]);
        assert!(code == Some(78) && err.contains(said), "{text}: {err}");
    }
    let secret = format!("{source}[source.kafka.secrets]\n\"sasl.password\" = {{ env = \"NO_SUCH_VARIABLE\" }}");
    assert_eq!(validate(&secret, &["--no-environment"]).0, Some(0));
    let (code, _, err) = validate(&secret, &[]);
    assert!(code == Some(78) && err.contains("NO_SUCH_VARIABLE"), "{err}");
}

#[cfg(feature = "kafka")]
#[test]
fn what_may_be_a_secret_is_not_shown() {
    let dir = TempDir::new().unwrap();
    let text = "[source.kafka]\nbrokers = \"b\"\n[source.kafka.properties]\n\"sasl.password\" = \"hunter2\"\n\"sasl.username\" = \"me\"";
    fs::write(dir.path().join("c.toml"), text).unwrap();
    let (_, out, err) = plimsoll(dir.path(), &["config", "show", "--config", "c.toml"], &[]);
    assert!(!out.contains("hunter2") && out.contains("\"me\""), "{out}{err}");
}

#[test]
fn completions_manual_and_version_are_there() {
    let dir = TempDir::new().unwrap();
    for (shell, said) in [("bash", "_plimsoll()"), ("zsh", "#compdef plimsoll"), ("fish", "complete -c plimsoll")] {
        let (code, out, _) = plimsoll(dir.path(), &["completions", shell], &[]);
        assert!(code == Some(0) && out.contains(said) && out.contains("validate"), "{shell}");
    }
    let (code, out, _) = plimsoll(dir.path(), &["man"], &[]);
    assert!(code == Some(0) && out.starts_with(".ie") && out.contains("degrades gracefully"), "{out}");
    let (code, _, err) = plimsoll(dir.path(), &["man", "--dir", "man1"], &[]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let pages: Vec<_> =
        fs::read_dir(dir.path().join("man1")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    for page in ["plimsoll.1", "plimsoll-run.1", "plimsoll-ctl.1", "plimsoll-top.1"] {
        assert!(pages.iter().any(|name| name == page), "{pages:?}");
    }
    let (code, out, _) = plimsoll(dir.path(), &["--version"], &[]);
    assert!(code == Some(0) && out.starts_with(concat!("plimsoll ", env!("CARGO_PKG_VERSION"))), "{out}");
}

#[test]
fn every_command_that_takes_anything_has_an_example() {
    let dir = TempDir::new().unwrap();
    for command in
        ["calibrate", "config show", "completions", "ctl", "gen", "init", "man", "run", "simulate", "top", "validate"]
    {
        let arguments: Vec<&str> = command.split(' ').chain(["--help"]).collect();
        let (code, out, _) = plimsoll(dir.path(), &arguments, &[]);
        assert!(
            code == Some(0) && out.contains("Example") && out.contains(&format!("plimsoll {command}")),
            "{command}: {out}"
        );
    }
}

#[test]
fn what_calibrate_proposes_is_a_configuration() {
    let dir = TempDir::new().unwrap();
    let spool = dir.path().join("spool");
    let arguments = ["calibrate", "--round", "20ms", "--handler", "bars", "--spill", "spool", "--out", "t.toml"];
    let (code, out, err) = plimsoll(dir.path(), &arguments, &[("PLIMSOLL_SPILL_FREE_SPACE_FLOOR_BYTES", "0")]);
    assert_eq!((code, out.as_str()), (Some(0), ""), "{err}");
    let text = fs::read_to_string(dir.path().join("t.toml")).unwrap();
    for said in
        ["# Capacity: ", "# Memory: ", "# Disk: the spill log takes ", "lag_soft = ", "recovery_cooldown_seconds = "]
    {
        assert!(text.contains(said), "{text}");
    }
    let (code, _, err) = plimsoll(dir.path(), &["validate", "t.toml"], &[]);
    assert_eq!(code, Some(0), "{err}{text}");
    assert_eq!(fs::read_dir(spool).unwrap().count(), 0, "what it made for the measurement is gone");
    let (code, _, err) = plimsoll(dir.path(), &arguments, &[]);
    assert!(code == Some(1) && err.contains("t.toml is there already"), "{err}");
}
