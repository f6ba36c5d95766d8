//! Proves what an operator may rely on while it runs: the control socket, reloads, HTTP, what systemd is told, and the end.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/service.rs"]
mod service;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::process::Command;
use std::time::Duration;

use assert_cmd::cargo::cargo_bin;
use serde_json::Value;
use service::{Service, wait_until};
use tempfile::TempDir;

fn level(service: &Service) -> String {
    service.status()["level"]["name"].as_str().unwrap().to_owned()
}

#[test]
fn the_control_socket_is_the_owners_alone_and_does_what_it_says() {
    let dir = TempDir::new().unwrap();
    let mut run = Service::start(dir.path(), &["--bars", "bars.csv", "--ledger", "ledger.json"], &[]);
    let mode = fs::metadata(dir.path().join("control.sock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    run.feed(30);
    wait_until("all are processed", || run.status()["totals"]["processed_live"] == 30);
    let text = run.told(&["status"]);
    assert!(text.starts_with("NORMAL for ") && text.contains("\nready\n"), "{text}");
    let data: Value = serde_json::from_str(&run.told(&["status", "--json"])).unwrap();
    assert_eq!((&data["totals"]["offered"], &data["level"]["value"]), (&30.into(), &0.into()));

    assert_eq!(run.told(&["pin", "graceful", "--for", "10m"]), "held at GRACEFUL for 600s\n");
    assert_eq!(level(&run), "GRACEFUL");
    let text = run.told(&["explain"]);
    assert!(
        text.starts_with("GRACEFUL (level 2 of 4)") && text.contains("held at GRACEFUL by hand, for another"),
        "{text}"
    );
    assert!(run.get("/metrics").1.contains("k2_degradation_pinned"));
    wait_until("the pin is a metric", || {
        run.get("/metrics").1.lines().any(|line| line.starts_with("k2_degradation_pinned{") && line.ends_with(" 1"))
    });
    assert!(run.told(&["history"]).contains("▲ NORMAL        → GRACEFUL      pinned by hand"));
    assert_eq!(run.told(&["unpin"]), "let go; the level is GRACEFUL\n", "the cooldown is not over");
    assert_eq!(run.told(&["reset"]), "reset; the level is NORMAL\n");
    assert_eq!(run.told(&["pin", "4", "--for", "200ms"]), "held at CIRCUIT_BREAK for 200ms\n");
    run.told(&["reset"]);

    let (code, _, err) = run.ctl(&["pin", "hard"]);
    assert!(code == Some(2) && err.contains("give normal, soft, graceful"), "{err}");
    // Nonsense is answered, and does no harm.
    let mut stream = UnixStream::connect(dir.path().join("control.sock")).unwrap();
    stream.write_all(b"{\"command\":\"explode\"}\n").unwrap();
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).unwrap();
    assert!(answer.contains("\"ok\":false") && answer.contains("that is no request"), "{answer}");

    assert!(run.told(&["drain"]).starts_with("draining"));
    let ended = run.end();
    assert!(ended.status.success(), "{}", ended.err);
    assert!(ended.out.contains("balanced: every message is accounted for"), "{}", ended.out);
    let ledger: Value = serde_json::from_str(&fs::read_to_string(dir.path().join("ledger.json")).unwrap()).unwrap();
    assert_eq!((&ledger["offered"], &ledger["processed"], &ledger["balanced"]), (&30.into(), &30.into(), &true.into()));
    assert!(!dir.path().join("control.sock").exists(), "the socket goes with the process");
}

#[test]
fn a_socket_of_a_live_process_is_not_taken_away_and_one_of_a_dead_process_is() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("control.sock");
    // What a process that was killed leaves behind.
    drop(UnixListener::bind(&path).unwrap());
    let run = Service::start(dir.path(), &["--bars", "bars.csv"], &[]);
    let ended = Service::spawn(dir.path(), &["--bars", "other.csv"], &[]).end();
    assert_eq!(ended.status.code(), Some(1));
    assert!(
        ended.err.contains("control.sock: a live process listens there; give this one another path"),
        "{}",
        ended.err
    );
    assert!(run.told(&["status"]).starts_with("NORMAL"), "the first one is as it was");
    assert!(run.end().status.success());

    fs::write(&path, "a file of somebody's").unwrap();
    let ended = Service::spawn(dir.path(), &["--bars", "bars.csv"], &[]).end();
    assert!(
        ended.status.code() == Some(78) && ended.err.contains("there is something else that is no socket"),
        "{}",
        ended.err
    );
    assert_eq!(fs::read_to_string(&path).unwrap(), "a file of somebody's");

    let missing =
        Command::new(cargo_bin!("plimsoll")).args(["ctl", "status", "--socket", "/no/such.sock"]).output().unwrap();
    let err = String::from_utf8(missing.stderr).unwrap();
    assert!(missing.status.code() == Some(1) && err.contains("/no/such.sock: there is no such socket"), "{err}");
}

#[test]
fn a_reload_changes_what_can_be_changed_names_the_rest_and_keeps_the_old_on_an_error() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("c.toml");
    fs::write(&path, "[thresholds]\nlag_soft = 70_000\n[pipeline]\nworkers = 1\n").unwrap();
    let mut run = Service::start(dir.path(), &["--bars", "bars.csv", "--config", "c.toml"], &[]);
    let soft = |run: &Service| run.status()["lag"]["thresholds"][0].as_u64().unwrap();
    assert_eq!(soft(&run), 70_000);
    let nothing = "reloaded: nothing has changed that can be changed without a restart\n";
    assert_eq!(run.told(&["reload"]), nothing);

    let other =
        "[thresholds]\nlag_soft = 60_000\n[pipeline]\nworkers = 2\nmode = \"observe\"\n[tiers]\ntier_1 = [\"XYZ\"]\n";
    fs::write(&path, other).unwrap();
    let text = run.told(&["reload"]);
    assert_eq!(
        text,
        "reloaded: pipeline.mode, thresholds.lag_soft, tiers.tier_1\nonly after a restart: pipeline.workers\n"
    );
    assert_eq!((soft(&run), run.status()["level"]["mode"].as_str().unwrap()), (60_000, "observe"));
    // What wants a restart is named again, as long as it does.
    let again = run.told(&["reload"]);
    assert_eq!(again, format!("{nothing}only after a restart: pipeline.workers\n"));

    fs::write(&path, "[thresholds]\nlag_soft = 600_000\n").unwrap();
    let (code, _, err) = run.ctl(&["reload"]);
    assert!(
        code == Some(1) && err.contains("all stays as it was") && err.contains("lag_soft = 600000 must be below"),
        "{err}"
    );
    assert!(err.contains("c.toml:2:1"), "{err}");
    run.signal("HUP");
    run.wait_for("all stays as it was");
    fs::write(&path, "[thresholds]\nlag_circuit_break = 6_000_000\n").unwrap();
    let (_, _, err) = run.ctl(&["reload"]);
    assert!(err.contains("lane_capacity = 5250001 must exceed lag_circuit_break = 6000000"), "{err}");
    fs::remove_file(&path).unwrap();
    assert!(run.ctl(&["reload"]).2.contains("c.toml cannot be read"));
    assert_eq!(soft(&run), 60_000);

    fs::write(&path, "[thresholds]\nlag_soft = 50_000\n[http]\nnot_ready_from = \"soft\"\n").unwrap();
    run.signal("HUP");
    wait_until("the hangup is minded", || soft(&run) == 50_000);
    assert_eq!(run.status()["level"]["mode"], "enforce", "what is no longer set has its default again");
    run.told(&["pin", "soft"]);
    assert_eq!(run.get("/readyz").0, 503, "what is not ready has changed, too");
    run.told(&["reset"]);
    wait_until("reloads are counted", || {
        let metrics = run.get("/metrics").1;
        let is = |name: &str, n: u64| metrics.lines().any(|l| l.starts_with(name) && l.ends_with(&format!(" {n}")));
        is("k2_config_reloads_total", 4) && is("k2_config_reload_failures_total", 4)
    });
    run.feed(3);
    let ended = run.end();
    assert!(ended.status.success() && ended.out.contains("balanced"), "{}{}", ended.out, ended.err);
}

#[test]
fn http_tells_everything_and_changes_nothing() {
    let dir = TempDir::new().unwrap();
    let mut run = Service::start(dir.path(), &["--bars", "bars.csv"], &[("PLIMSOLL_SHADOW_THRESHOLDS_LAG_SOFT", "9")]);
    run.feed(9);
    wait_until("all are processed", || run.status()["totals"]["processed_live"] == 9);
    let status = run.status();
    assert_eq!(
        (&status["live"], &status["ready"], &status["level"]["shadow"]),
        (&true.into(), &true.into(), &"NORMAL".into())
    );
    assert_eq!(status["pid"], run.pid());
    assert_eq!((&status["feeds"][0]["name"], &status["feeds"][0]["messages"]), (&"csv".into(), &9.into()));
    assert_eq!((run.get("/livez"), run.get("/readyz")), ((200, "ok\n".to_owned()), (200, "ok\n".to_owned())));

    run.told(&["pin", "aggressive"]);
    assert_eq!(run.get("/readyz").0, 200, "not ready means CIRCUIT_BREAK");
    run.told(&["pin", "circuit_break"]);
    assert_eq!(run.get("/readyz"), (503, "CIRCUIT_BREAK: pinned by hand\n".to_owned()));
    assert_eq!(run.get("/livez").0, 200, "it is well all the same");
    run.told(&["reset"]);
    assert_eq!(run.get("/readyz").0, 200);

    wait_until("there is a history", || !run.get("/history.json").1.contains("\"rows\":[]"));
    let history: Value = serde_json::from_str(&run.get("/history.json").1).unwrap();
    let columns = history["columns"].as_array().unwrap();
    assert_eq!((columns[2].as_str(), history["rows"][0].as_array().unwrap().len()), (Some("lag"), columns.len()));

    let (code, head, page) = run.ask("GET", "/");
    assert!(
        code == 200 && page.contains("<title>Plimsoll</title>") && !page.contains("https://"),
        "nothing from elsewhere"
    );
    assert!(
        head.contains("content-security-policy: default-src 'none'") && head.contains("frame-ancestors 'none'"),
        "{head}"
    );
    for path in ["/", "/metrics", "/status.json", "/livez"] {
        for method in ["POST", "PUT", "DELETE"] {
            assert_eq!(run.ask(method, path).0, 405, "{method} {path}");
        }
    }
    assert_eq!(run.get("/pin").0, 404);
    // A client that says nothing, and one that talks too much, keep nobody from being answered.
    let address = run.url().replace("http://", "");
    let _silent = std::net::TcpStream::connect(&address).unwrap();
    let mut chatty = std::net::TcpStream::connect(&address).unwrap();
    let _ = chatty.write_all(format!("GET /{} HTTP/1.1\r\n", "x".repeat(1 << 20)).as_bytes());
    assert_eq!(run.get("/livez").0, 200);
    assert!(run.end().status.success());
}

#[test]
fn ready_can_mean_another_level_or_none() {
    let dir = TempDir::new().unwrap();
    let run = Service::start(dir.path(), &["--bars", "bars.csv"], &[("PLIMSOLL_HTTP_NOT_READY_FROM", "soft")]);
    run.told(&["pin", "soft"]);
    assert_eq!(run.get("/readyz").0, 503);
    assert!(run.end().status.success());
    let run = Service::start(dir.path(), &["--bars", "bars.csv"], &[("PLIMSOLL_HTTP_NOT_READY_FROM", "never")]);
    run.told(&["pin", "circuit_break"]);
    assert_eq!(run.get("/readyz").0, 200);
    run.told(&["reset"]);
    assert!(run.end().status.success());
}

#[test]
fn a_port_that_is_taken_is_told_and_nothing_is_begun() {
    let dir = TempDir::new().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    fs::write(dir.path().join("rows.csv"), "symbol,ts,kind,price,size\n").unwrap();
    let output = Command::new(cargo_bin!("plimsoll"))
        .args(["run", "--format", "csv", "--input", "rows.csv", "--metrics", &address])
        .current_dir(dir.path())
        .output()
        .unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && err.contains(&format!("cannot serve HTTP on {address}")), "{err}");
    assert!(err.contains("another process has it"), "{err}");
}

#[test]
fn systemd_is_told_of_the_start_of_reloads_of_life_and_of_the_end() {
    let dir = TempDir::new().unwrap();
    let socket = UnixDatagram::bind(dir.path().join("notify")).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let notify = dir.path().join("notify");
    let environment = [("NOTIFY_SOCKET", notify.to_str().unwrap()), ("WATCHDOG_USEC", "100000")];
    let run = Service::start(dir.path(), &["--bars", "bars.csv"], &environment);
    let next = |wanted: &str| {
        let mut buffer = [0; 4096];
        loop {
            let length = socket.recv(&mut buffer).expect(wanted);
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if text.lines().any(|line| line.starts_with(wanted)) {
                return text;
            }
        }
    };
    next("READY=1");
    (0..3).for_each(|_| drop(next("WATCHDOG=1")));
    run.signal("HUP");
    assert!(next("RELOADING=1").contains("MONOTONIC_USEC="));
    next("READY=1");
    run.signal("TERM");
    next("STOPPING=1");
    assert!(run.end().status.success());
}

#[test]
fn sigterm_under_load_drains_and_the_ledger_balances() {
    let dir = TempDir::new().unwrap();
    let mut run = Service::start(dir.path(), &["--bars", "bars.csv", "--ledger", "ledger.json"], &[]);
    let mut input = run.input.take().unwrap();
    let feeder = std::thread::spawn(move || {
        let rows: String = (1..=1000).map(|n| format!("BHP,{n},trade,10.5,1\n")).collect();
        // Until nobody reads any more.
        while input.write_all(rows.as_bytes()).is_ok() {}
    });
    wait_until("it is under load", || run.status()["totals"]["processed_live"].as_u64().unwrap() > 10_000);
    run.signal("TERM");
    let ended = run.wait();
    feeder.join().unwrap();
    assert!(ended.status.success(), "{}", ended.err);
    let ledger: Value = serde_json::from_str(&fs::read_to_string(dir.path().join("ledger.json")).unwrap()).unwrap();
    assert_eq!((&ledger["balanced"], &ledger["in_flight"]), (&true.into(), &0.into()));
    assert!(ledger["processed"].as_u64().unwrap() > 10_000);
}

#[test]
fn in_a_dry_run_nothing_is_refused_and_everybody_can_see_that_it_is_one() {
    let dir = TempDir::new().unwrap();
    let mut run = Service::start(dir.path(), &["--bars", "bars.csv"], &[("PLIMSOLL_PIPELINE_MODE", "observe")]);
    run.told(&["pin", "circuit_break"]);
    assert_eq!(run.get("/readyz").0, 200, "it takes work all the same");
    run.feed(30);
    wait_until("all are processed", || run.status()["totals"]["processed_live"] == 30);
    let status = run.status();
    assert_eq!((&status["level"]["name"], &status["level"]["mode"]), (&"CIRCUIT_BREAK".into(), &"observe".into()));
    assert_eq!((&status["totals"]["shed"], &status["observed"]["shed"]), (&0.into(), &20.into()));
    assert!(run.told(&["status"]).contains("dry run: levels have no effect"));
    assert!(run.end().status.success());
}

#[test]
fn log_events_are_json_objects_where_they_are_to_be() {
    let dir = TempDir::new().unwrap();
    let run = Service::start(dir.path(), &["--bars", "bars.csv", "--log-format", "json"], &[]);
    run.told(&["pin", "soft"]);
    run.told(&["reset"]);
    let ended = run.end();
    let events = ended.err.lines().filter(|line| line.starts_with('{')).map(|line| serde_json::from_str(line).unwrap());
    let events: Vec<Value> = events.collect();
    let find = |level: &str, to: &str| events.iter().find(|e| e["level"] == level && e["to"] == to);
    let up = find("WARN", "SOFT").unwrap_or_else(|| panic!("{}", ended.err));
    assert_eq!((&up["from"], &up["message"], &up["lag"]), (&"NORMAL".into(), &"degraded".into(), &0.into()));
    assert!(find("INFO", "NORMAL").is_some(), "recovery is logged, too");
}

#[test]
fn top_shows_the_same_once_as_text_and_as_json_over_http_and_over_the_socket() {
    let dir = TempDir::new().unwrap();
    let mut run = Service::start(dir.path(), &["--bars", "bars.csv", "--workers", "2"], &[]);
    run.feed(3);
    run.told(&["pin", "graceful"]);
    let socket = dir.path().join("control.sock");
    for place in [vec![run.url()], vec!["--socket".to_owned(), socket.to_str().unwrap().to_owned()]] {
        let top = |more: &[&str]| {
            let arguments = ["top", "--once", "--interval", "50ms"];
            let output = Command::new(cargo_bin!("plimsoll")).args(arguments).args(more).args(&place).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap()
        };
        let text = top(&[]);
        for said in
            ["2 GRACEFUL", "pinned by hand", "PINNED by hand until unpin", " offered ", "NORMAL        → GRACEFUL"]
        {
            assert!(text.contains(said), "no {said:?} in {text}");
        }
        let json: Value = serde_json::from_str(&top(&["--json"])).unwrap();
        assert_eq!((&json["status"]["level"]["value"], &json["status"]["totals"]["offered"]), (&2.into(), &3.into()));
        assert!(json["rates"]["offered"].is_number());
    }
    run.told(&["reset"]);
    assert!(run.end().status.success());
    let output = Command::new(cargo_bin!("plimsoll")).args(["top", "http://127.0.0.1:1"]).output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && err.contains("http://127.0.0.1:1/status.json: "), "{err}");
}

/// Whatever the memory is, it is above all marks, until they are changed.
const ALWAYS_BROKEN: [(&str, &str); 4] = [
    ("PLIMSOLL_THRESHOLDS_HEAP_SOFT", "0"),
    ("PLIMSOLL_THRESHOLDS_HEAP_GRACEFUL", "1e-9"),
    ("PLIMSOLL_THRESHOLDS_HEAP_AGGRESSIVE", "2e-9"),
    ("PLIMSOLL_THRESHOLDS_HEAP_CIRCUIT_BREAK", "3e-9"),
];

#[test]
fn a_circuit_that_stays_broken_ends_the_run_with_its_own_exit_code() {
    let dir = TempDir::new().unwrap();
    let mut environment = ALWAYS_BROKEN.to_vec();
    environment.push(("PLIMSOLL_SUPERVISION_STUCK_AFTER", "700ms"));
    let mut run = Service::spawn(dir.path(), &["--bars", "bars.csv"], &environment);
    run.wait_for("metrics on http://");
    wait_until("it is not ready", || run.get("/readyz").0 == 503);
    run.feed(3);
    let ended = run.wait();
    assert_eq!(ended.status.code(), Some(75), "{}", ended.err);
    assert!(ended.err.contains("the level was CIRCUIT_BREAK for 0.7 s without a break"), "{}", ended.err);
    assert!(ended.out.contains("balanced: every message is accounted for"), "{}", ended.out);
    assert!(dir.path().join("bars.csv").exists(), "it ended in good order");
}

#[test]
fn a_break_of_the_break_or_a_pin_by_hand_is_not_stuck() {
    let dir = TempDir::new().unwrap();
    let environment = [("PLIMSOLL_SUPERVISION_STUCK_AFTER", "700ms")];
    let run = Service::start(dir.path(), &["--bars", "bars.csv"], &environment);
    run.told(&["pin", "circuit_break"]);
    wait_until("it is held for longer", || run.status()["level"]["for_seconds"].as_f64() > Some(1.5));
    run.told(&["reset"]);
    assert!(run.end().status.success());

    // Broken in truth, with a dip now and then, the time begins anew.
    let mut environment = ALWAYS_BROKEN.to_vec();
    environment.push(("PLIMSOLL_SUPERVISION_STUCK_AFTER", "5s"));
    let mut run = Service::spawn(dir.path(), &["--bars", "bars.csv"], &environment);
    run.wait_for("metrics on http://");
    let started = std::time::Instant::now();
    for _ in 0..3 {
        run.told(&["pin", "soft", "--for", "1ms"]);
        wait_until("it is broken again", || {
            let level = &run.status()["level"];
            level["name"] == "CIRCUIT_BREAK" && level["for_seconds"].as_f64() > Some(1.9)
        });
    }
    assert!(started.elapsed() > std::time::Duration::from_secs(5), "longer than is allowed without a break");
    assert_eq!(run.status()["level"]["name"], "CIRCUIT_BREAK");
    assert!(run.end().status.success());
}

#[test]
fn what_is_finer_than_five_steps_is_configured_changed_and_shown() {
    let dir = TempDir::new().unwrap();
    let config = dir.path().join("c.toml");
    // Whatever is in hand is too old; and half of NORMAL's symbols are out whatever the lag.
    let text = "[signals.age]\nsoft = -3\ngraceful = -2\naggressive = -1\ncircuit_break = 1e9\n\
                [proportional.normal]\nfrom_lag = 0\nto_lag = 1\nfrom_percent = 50\nto_percent = 50\n";
    std::fs::write(&config, text).unwrap();
    let mut run = Service::start(dir.path(), &["--bars", "bars.csv", "--config", "c.toml"], &[]);
    wait_until("AGGRESSIVE", || run.status()["level"]["name"] == "AGGRESSIVE");
    let signal = &run.status()["signals"][0];
    assert_eq!(
        (&signal["name"], &signal["unit"], &signal["asks"]),
        (&"age".into(), &"ms".into(), &"AGGRESSIVE".into())
    );
    for said in [
        "age 0.0 had reached -1",
        "age is 0.0 ms; AGGRESSIVE begins at -1 ms",
        "Of NORMAL's symbols 50 % are shed by the lag.",
    ] {
        let text = run.told(&["explain"]);
        assert!(text.contains(said), "no {said:?} in {text}");
    }
    let is_there = |line: &str| line.starts_with("k2_signal_level{") && line.ends_with(" 3");
    wait_until("the metric", || run.get("/metrics").1.lines().any(is_there));
    // Without them, after a reload, and without a restart.
    std::fs::write(&config, "[thresholds]\nrecovery_cooldown_seconds = 0\n").unwrap();
    run.told(&["reload"]);
    wait_until("NORMAL", || run.status()["level"]["name"] == "NORMAL");
    assert_eq!(run.status()["signals"], serde_json::json!([]));
    run.feed(30);
    wait_until("all are processed", || run.status()["totals"]["processed_live"] == 30);
    assert!(run.end().status.success());
}
