//! Proves what an operator can rely on in the metrics: every series is there at 0 before the first message, under the
//! agreed names and labels, and after a run they say exactly what the ledger and the transitions say.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use plimsoll::spill::SpillConfig;
use plimsoll::{
    Context, DegradationLevel, Handler, Labels, Ledger, MessagePriority, Pipeline, ShedReason, SymbolId, Telemetry,
    Tick, Tier,
};
use support::{ForcedLag, TIER_1, TIER_3, forced_pipeline, reference, start_held, trade, wait_until};

/// Name and labels, without the three that every series has.
type Series = (String, BTreeMap<String, String>);

/// What a scrape says: values by series, and the kind of each name.
struct Scrape {
    values: BTreeMap<Series, f64>,
    kinds: BTreeMap<String, String>,
    helped: BTreeSet<String>,
}

impl Scrape {
    /// Reads Prometheus' text format. Panics at what it does not know, and where one of the `common` labels is missing.
    fn parse(text: &str, common: [(&str, &str); 3]) -> Self {
        let mut scrape = Self { values: BTreeMap::new(), kinds: BTreeMap::new(), helped: BTreeSet::new() };
        for line in text.lines().filter(|line| !line.is_empty()) {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect("a name and a kind");
                let before = scrape.kinds.insert(name.to_owned(), kind.to_owned());
                assert_eq!(before, None, "{name} has two kinds");
            } else if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').expect("a name and a text");
                assert!(!help.is_empty(), "{name}");
                scrape.helped.insert(name.to_owned());
            } else {
                let (series, value) = line.rsplit_once(' ').expect("a series and a value");
                let (name, labels) = series.split_once('{').expect("labels");
                let labels = labels.strip_suffix('}').expect("the end of the labels");
                let pair = |pair: &str| {
                    let (key, value) = pair.split_once('=').expect("a label and its value");
                    (key.to_owned(), value.trim_matches('"').to_owned())
                };
                let mut labels: BTreeMap<_, _> = labels.split(',').map(pair).collect();
                for (key, value) in common {
                    assert_eq!(labels.remove(key).as_deref(), Some(value), "{line}");
                }
                let before = scrape.values.insert((name.to_owned(), labels), value.parse().expect("a number"));
                assert_eq!(before, None, "twice: {line}");
            }
        }
        scrape
    }

    fn of(telemetry: &Telemetry) -> Self {
        let common = [("service", "k2-platform"), ("environment", "dev"), ("component", "plimsoll")];
        Self::parse(&telemetry.render(), common)
    }

    #[track_caller]
    fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let series = (name.to_owned(), labels);
        *self.values.get(&series).unwrap_or_else(|| panic!("no such series: {series:?}"))
    }

    #[track_caller]
    fn count(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let value = self.value(name, labels);
        assert!(value >= 0.0 && value.fract() == 0.0, "{name} = {value}");
        value as u64
    }

    fn series_of(&self, name: &str) -> usize {
        self.values.keys().filter(|(series, _)| series == name).count()
    }

    #[track_caller]
    fn check_against(&self, ledger: &Ledger) {
        for (name, expected) in [
            ("k2_messages_offered_total", ledger.offered),
            ("k2_messages_accepted_total", ledger.accepted),
            ("k2_messages_refused_total", ledger.refused),
            ("k2_messages_full_total", ledger.full),
            ("k2_messages_in_flight", ledger.in_flight),
            ("k2_messages_spilled_total", ledger.spilled),
            ("k2_messages_conflated_total", ledger.conflated),
            ("k2_messages_replayed_total", ledger.replayed),
            ("k2_messages_recovered_total", ledger.recovered),
            ("k2_messages_spill_lost_total", ledger.spill_lost),
            ("k2_symbol_gaps_total", ledger.workers.iter().map(|w| w.gaps).sum()),
        ] {
            assert_eq!(self.count(name, &[]), expected, "{name}");
        }
        for (worker, of_worker) in ledger.workers.iter().enumerate() {
            let pending = self.count("k2_spill_pending_messages", &[("worker", &worker.to_string())]);
            assert_eq!(pending, of_worker.spill_pending, "worker {worker}");
        }
        for priority in MessagePriority::ALL {
            let label = priority.name().to_lowercase();
            let processed = self.count("k2_messages_processed_total", &[("priority", &label)]);
            let part = ledger.by_priority[priority.index()];
            assert_eq!(processed, part.processed_live, "{label}");
            for (outcome, expected) in [
                ("refused", part.refused),
                ("full", part.full),
                ("processed_live", part.processed_live),
                ("spilled", part.spilled),
                ("conflated", part.conflated),
                ("shed", part.shed),
                ("replayed", part.replayed),
            ] {
                let labels = [("priority", &*label), ("outcome", outcome)];
                assert_eq!(self.count("k2_messages_by_priority_total", &labels), expected, "{labels:?}");
            }
        }
        for (tier, reason, count) in ledger.shed_by.iter() {
            let labels = [("symbol_tier", tier.label()), ("reason", reason.label())];
            assert_eq!(self.count("k2_messages_shed_total", &labels), count, "{labels:?}");
        }
    }
}

/// All ordered pairs of different levels.
fn level_pairs() -> Vec<(DegradationLevel, DegradationLevel)> {
    let all = DegradationLevel::ALL;
    all.into_iter().flat_map(|from| all.map(|to| (from, to))).filter(|(from, to)| from != to).collect()
}

fn transitions(scrape: &Scrape, from: DegradationLevel, to: DegradationLevel) -> u64 {
    let labels = [("from_level", from.label()), ("to_level", to.label())];
    scrape.count("k2_degradation_transitions_total", &labels)
}

struct Nothing;

impl Handler<Tick> for Nothing {
    fn process(&mut self, _: &Tick, _: &Context) {}
}

fn start(lag: &ForcedLag, telemetry: &Telemetry) -> Pipeline<Tick, Nothing> {
    forced_pipeline(lag).workers(2).producers(2).telemetry(telemetry.clone()).start(|_| Nothing).expect("it starts")
}

#[test]
fn every_series_is_there_at_0_before_the_first_message() {
    let telemetry = Telemetry::new(&Labels::default()).unwrap();
    assert_eq!(telemetry.render(), "", "the pipeline registers the series");
    let pipeline = start(&ForcedLag::default(), &telemetry);
    let scrape = Scrape::of(&telemetry);
    scrape.check_against(&Ledger::default());

    assert_eq!(level_pairs().len(), 20);
    assert!(level_pairs().into_iter().all(|(from, to)| transitions(&scrape, from, to) == 0));
    assert_eq!(scrape.series_of("k2_degradation_transitions_total"), 20);
    assert_eq!(scrape.series_of("k2_messages_shed_total"), Tier::ALL.len() * ShedReason::ALL.len());
    for tier in ["tier_1", "tier_2", "tier_3"] {
        for reason in ["low_priority", "normal_priority", "non_critical"] {
            assert_eq!(scrape.count("k2_messages_shed_total", &[("symbol_tier", tier), ("reason", reason)]), 0);
        }
    }
    assert_eq!(scrape.count("k2_degradation_level", &[]), 0);
    for name in ["k2_lag_messages", "k2_memory_used_bytes", "k2_memory_limit_bytes", "k2_memory_used_ratio"] {
        assert_eq!(scrape.series_of(name), 1, "{name}");
    }
    for worker in ["0", "1"] {
        scrape.value("k2_worker_busy_ratio", &[("worker", worker)]);
        for name in [
            "k2_spill_pending_messages",
            "k2_spill_disk_bytes",
            "k2_spill_segments",
            "k2_spill_full",
            "k2_spill_segment_not_ready_total",
            "k2_spill_sync_failures_total",
        ] {
            assert_eq!(scrape.count(name, &[("worker", worker)]), 0, "{name}");
        }
        for producer in ["0", "1"] {
            let fill = scrape.value("k2_lane_fill_ratio", &[("worker", worker), ("producer", producer)]);
            assert_eq!(fill, 0.0);
        }
    }
    for priority in ["critical", "high", "normal", "low"] {
        assert_eq!(scrape.count("k2_message_latency_seconds_count", &[("priority", priority)]), 0);
    }
    pipeline.join().unwrap();
}

#[test]
fn names_begin_alike_and_each_has_a_help_text_and_the_kind_that_its_name_promises() {
    let telemetry = Telemetry::new(&Labels::default()).unwrap();
    start(&ForcedLag::default(), &telemetry).join().unwrap();
    let scrape = Scrape::of(&telemetry);
    assert!(scrape.kinds.len() >= 15, "{:?}", scrape.kinds);
    for (name, kind) in &scrape.kinds {
        assert!(name.starts_with("k2_"), "{name}");
        assert!(scrape.helped.contains(name), "{name}");
        assert_eq!(name.ends_with("_total"), kind == "counter", "{name} is a {kind}");
    }
    for (name, _) in scrape.values.keys() {
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name);
        assert!(scrape.kinds.contains_key(name) || scrape.kinds[family] == "histogram", "{name}");
    }
    assert_eq!(scrape.kinds["k2_degradation_level"], "gauge");
    assert_eq!(scrape.kinds["k2_message_latency_seconds"], "histogram");
}

#[test]
fn labels_are_the_ones_that_were_asked_for() {
    let labels = Labels { service: "s".into(), environment: "e".into(), component: "c".into() };
    let telemetry = Telemetry::new(&labels).unwrap();
    start(&ForcedLag::default(), &telemetry).join().unwrap();
    let scrape = Scrape::parse(&telemetry.render(), [("service", "s"), ("environment", "e"), ("component", "c")]);
    scrape.check_against(&Ledger::default());
}

#[test]
fn after_a_run_the_metrics_say_what_the_ledger_and_the_transitions_say() {
    let telemetry = Telemetry::new(&Labels::default()).unwrap();
    let lag = ForcedLag::default();
    let mut pipeline = start(&lag, &telemetry);
    let mut feed = pipeline.ingress().unwrap();
    let ticks: Vec<Tick> = (1..=2000)
        .map(|i| {
            let make = if i % 4 == 0 { reference } else { trade };
            Tick { receive_ns: 1, ..make(SymbolId::new(i as u32 % 60), i) }
        })
        .collect();
    // The first message of a lane begins a block, and so is sampled for certain.
    assert_eq!(feed.offer_slice(&[Tick { receive_ns: 1, ..trade(TIER_1, 1) }]).accepted, 1);
    wait_until("the first message", || pipeline.ledger().in_flight == 0);
    for level in [0, 2, 3, 4, 1, 3, 0, 4].map(|i| DegradationLevel::ALL[i]) {
        lag.reach(&pipeline, level);
        let _ = feed.offer_slice(&ticks);
        wait_until("empty lanes", || pipeline.ledger().in_flight == 0);
    }
    pipeline.reset_level();
    wait_until("the reset", || pipeline.history().len() >= 9);
    lag.force(DegradationLevel::Soft);
    drop(feed);
    let finished = pipeline.join().unwrap();
    let (ledger, scrape) = (&finished.ledger, Scrape::of(&telemetry));
    ledger.check().unwrap();
    assert!(ledger.refused >= 2000 && ledger.shed > 0 && ledger.workers.iter().all(|w| w.gaps > 0), "{ledger:?}");
    scrape.check_against(ledger);
    for (from, to) in level_pairs() {
        let count = finished.transitions.iter().filter(|t| (t.from, t.to) == (from, to)).count() as u64;
        assert_eq!(transitions(&scrape, from, to), count, "{from} to {to}");
    }
    let last = finished.transitions.last().map(|t| t.to).unwrap();
    assert_eq!(scrape.count("k2_degradation_level", &[]), u64::from(last.value()));
    assert!(scrape.count("k2_monitor_samples_total", &[]) >= 9);
    assert_eq!(scrape.value("k2_memory_used_ratio", &[]), 0.1);
    assert_eq!(scrape.count("k2_memory_limit_bytes", &[]), 100);

    // Received at the beginning of time, so every sample lies beyond the last bucket.
    for priority in MessagePriority::ALL {
        let label = priority.name().to_lowercase();
        let samples = finished.latency[priority.index()].count();
        let count = |le| scrape.count("k2_message_latency_seconds_bucket", &[("priority", &label), ("le", le)]);
        assert_eq!(scrape.count("k2_message_latency_seconds_count", &[("priority", &label)]), samples);
        assert_eq!((count("300"), count("+Inf")), (0, samples), "{label}");
    }
    assert!(finished.latency[0].count() > 0);
    assert!(scrape.values.keys().all(|(_, labels)| !labels.contains_key("quantile")), "a summary, not a histogram");
}

#[test]
fn the_level_gauge_follows_the_level_while_the_pipeline_runs() {
    let telemetry = Telemetry::new(&Labels::default()).unwrap();
    let lag = ForcedLag::default();
    let pipeline = start(&lag, &telemetry);
    for level in [3, 1, 4, 0].map(|i| DegradationLevel::ALL[i]) {
        lag.reach(&pipeline, level);
        let gauge = |name| Scrape::of(&telemetry).count(name, &[]);
        wait_until("the level", || gauge("k2_degradation_level") == u64::from(level.value()));
        wait_until("the lag", || gauge("k2_lag_messages") == support::lag_of(level));
    }
    pipeline.join().unwrap();
}

#[test]
fn the_spill_log_shows_what_waits_what_it_takes_and_when_it_is_full() {
    let telemetry = Telemetry::new(&Labels::default()).unwrap();
    let (lag, dir) = (ForcedLag::default(), tempfile::tempdir().unwrap());
    let segment_bytes = 16 * 4096; // 826 ticks
    let budget_bytes = 2 * segment_bytes;
    let config = SpillConfig { segment_bytes, budget_bytes, free_space_floor_bytes: 0, ..SpillConfig::new(dir.path()) };
    let builder = forced_pipeline(&lag).telemetry(telemetry.clone()).spill(config);
    let mut pipeline = builder.start(|_| Nothing).unwrap();
    let mut feed = pipeline.ingress().unwrap();
    lag.reach(&pipeline, DegradationLevel::Aggressive);
    let ticks: Vec<Tick> = (1..=2000).map(|i| trade(TIER_3, i)).collect();
    assert_eq!(feed.offer_slice(&ticks).accepted, 2000);
    let of = |name| Scrape::of(&telemetry).count(name, &[("worker", "0")]);
    wait_until("a full log", || of("k2_spill_full") == 1);
    wait_until("the messages", || of("k2_spill_pending_messages") == 2 * 826);
    assert_eq!((of("k2_spill_segments"), of("k2_spill_disk_bytes")), (2, budget_bytes));
    assert!(of("k2_spill_segment_not_ready_total") >= 1);

    lag.reach(&pipeline, DegradationLevel::Normal);
    wait_until("replay", || of("k2_spill_pending_messages") == 0);
    // The worker sees the room when it looks, which it does when there is something to do.
    wait_until("room", || {
        let _ = feed.offer_slice(&[trade(TIER_3, 2001)]);
        of("k2_spill_full") == 0
    });
    drop(feed);
    let finished = pipeline.join().unwrap();
    finished.ledger.check().unwrap();
    let scrape = Scrape::of(&telemetry);
    scrape.check_against(&finished.ledger);
    let full = scrape.count("k2_messages_shed_total", &[("symbol_tier", "tier_3"), ("reason", "spill_full")]);
    assert_eq!(full, 2000 - 2 * 826);
    assert_eq!(scrape.count("k2_spill_disk_bytes", &[("worker", "0")]), 0, "all is replayed and deleted");
}

#[test]
fn what_an_earlier_run_has_left_counts_from_the_start_even_if_there_is_no_room_for_more() {
    let (lag, dir) = (ForcedLag::default(), tempfile::tempdir().unwrap());
    let config = SpillConfig { segment_bytes: 16 * 4096, free_space_floor_bytes: 0, ..SpillConfig::new(dir.path()) };
    let mut pipeline = forced_pipeline(&lag).spill(config.clone()).start(|_| Nothing).unwrap();
    let mut feed = pipeline.ingress().unwrap();
    lag.reach(&pipeline, DegradationLevel::Aggressive);
    assert_eq!(feed.offer_slice(&[trade(TIER_3, 1)]).accepted, 1);
    drop(feed);
    assert_eq!(pipeline.join().unwrap().ledger.spill_pending, 1);

    // The handler is held in the message, should it come back, so that it stays on disk.
    let (lag, telemetry) = (ForcedLag::default(), Telemetry::new(&Labels::default()).unwrap());
    let no_room = SpillConfig { free_space_floor_bytes: u64::MAX, ..config };
    let builder = forced_pipeline(&lag).telemetry(telemetry.clone()).spill(no_room);
    let (pipeline, hold) = start_held(builder);
    let of = |name| Scrape::of(&telemetry).count(name, &[("worker", "0")]);
    wait_until("the segment", || of("k2_spill_segments") == 1);
    assert!(of("k2_spill_disk_bytes") > 0);
    hold.store(false, Ordering::Release);
    pipeline.join().unwrap();
}

#[test]
fn a_lane_is_at_most_as_full_as_full() {
    let telemetry = Telemetry::new(&Labels::default()).unwrap();
    let hold = Arc::new(AtomicBool::new(true));
    let held = Arc::clone(&hold);
    let builder = forced_pipeline(&ForcedLag::default()).lane_capacity(300).telemetry(telemetry.clone());
    let mut pipeline = builder
        .start(move |_| {
            let held = Arc::clone(&held);
            move |_: &Tick, _: &Context| {
                while held.load(Ordering::Acquire) {
                    std::thread::yield_now();
                }
            }
        })
        .unwrap();
    let mut feed = pipeline.ingress().unwrap();
    wait_until("a full lane", || feed.offer_slice(&[trade(TIER_1, 1)]).full > 0);
    let in_lanes = pipeline.ledger().in_flight;
    wait_until("an export", || Scrape::of(&telemetry).count("k2_messages_in_flight", &[]) == in_lanes);
    // When two more have begun, the first of them is complete.
    for _ in 0..2 {
        let samples = || Scrape::of(&telemetry).count("k2_monitor_samples_total", &[]);
        let before = samples();
        wait_until("another export", || samples() > before);
    }
    let ratio = Scrape::of(&telemetry).value("k2_lane_fill_ratio", &[("worker", "0"), ("producer", "0")]);
    hold.store(false, Ordering::Release);
    drop(feed);
    pipeline.join().unwrap();
    assert!(ratio <= 1.0, "a share of the capacity, {ratio}");
}
