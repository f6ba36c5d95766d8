//! The cascade in closed loop and simulated time, against timelines worked out by hand.
//!
//! What is expected follows from the rules (thresholds, cooldown, recovery factors, verdicts) and from what a message costs; it was
//! written down before the first run. Of a message with the usual mix of priorities (CRITICAL 30 %, HIGH 20 %, NORMAL 40 %, LOW 10 %)
//! the default model makes
//!
//! | level | cost | a second |
//! |---|---|---|
//! | NORMAL | 6.5 µs | 153 846 |
//! | SOFT | 4 µs | 250 000 |
//! | GRACEFUL | 0.9 × 4 µs + 0.1 × 20 ns | 277 600 |
//! | AGGRESSIVE | 0.5 × 4 µs + 0.4 × 200 ns + 0.1 × 20 ns | 480 300 |
//! | CIRCUIT_BREAK | 0.3 × 4 µs + 0.6 × 200 ns + 0.1 × 20 ns | 756 400 |
//!
//! and so, with so many offered, the lag reaches the next trigger after (trigger − lag) / (offered − managed), at the next sample.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use plimsoll::simulation::{Conditions, Model, Scenario, Simulation, SpillModel};
use plimsoll::{
    Budget,
    DegradationLevel::{self, Aggressive, CircuitBreak, Graceful, Normal, Soft},
    DegradationThresholds, Gradual, MessagePriority, ProportionalShedding, ShedReason, Signal, Tier, Transition,
    VerdictTable,
};

fn simulation(model: Model) -> Simulation {
    Simulation::new(model, DegradationThresholds::default(), VerdictTable::default()).unwrap()
}

fn played(scenario: Scenario) -> Simulation {
    let mut simulation = simulation(Model::default());
    simulation.run(scenario.length(), |at| scenario.conditions(at));
    check(&simulation);
    simulation
}

/// What holds after every storm: nothing lost, all that was spilled replayed, and no more recoveries than the cooldown allows.
fn check(simulation: &Simulation) {
    let ledger = simulation.ledger();
    ledger.check().unwrap();
    assert_eq!(simulation.level(), Normal);
    assert_eq!((ledger.spill_pending, ledger.spill_lost, ledger.full), (0, 0, 0));
    assert_eq!(ledger.spilled, ledger.replayed);
    let critical = ledger.by_priority[MessagePriority::Critical.index()];
    assert_eq!((critical.shed, critical.spilled), (0, 0), "CRITICAL is processed as it comes, or refused");

    let timeline = simulation.timeline();
    let cooldown = Duration::from_secs(30);
    for pair in timeline.transitions().windows(2) {
        let [before, after] = pair else { unreachable!() };
        assert_eq!(before.to, after.from);
        assert!(after.is_degradation() || after.at - before.at >= cooldown, "{before:?}, {after:?}");
    }
    let recoveries = timeline.transitions().iter().filter(|transition| !transition.is_degradation()).count();
    let allowed = timeline.length().as_secs() / cooldown.as_secs() + 1;
    assert!(recoveries as u64 <= allowed && timeline.flaps() <= allowed, "{recoveries} recoveries");
    let at_levels: Duration = DegradationLevel::ALL.iter().map(|&level| timeline.time_at(level)).sum();
    assert_eq!(at_levels, timeline.length());
}

/// Each transition where it was expected, in seconds, give or take three samples.
fn assert_timeline(transitions: &[Transition], expected: &[(f64, DegradationLevel)]) {
    let found: Vec<_> = transitions.iter().map(|transition| (transition.at.as_secs_f64(), transition.to)).collect();
    let fits = |(found, expected): (&(f64, DegradationLevel), &(f64, DegradationLevel))| {
        found.1 == expected.1 && (found.0 - expected.0).abs() < 0.035
    };
    let is_expected = found.len() == expected.len() && found.iter().zip(expected).all(fits);
    assert!(is_expected, "found    {found:?}\nexpected {expected:?}");
}

/// The lag grows by 846 154 a second at NORMAL, then 750 000, 722 400 and 519 700; at CIRCUIT_BREAK 5 million are worked off in 6.6 s, and
/// what is left of the cooldown is waited for. Then the same again, only that HIGH and NORMAL go behind what waits in the spill log: growth by
/// 881 200, 811 000, 795 600 and 243 600. So a round takes 0.12 + 0.49 + 0.63 + 16.41 + 30 = 47.65 s, and the 75th is the last.
#[test]
fn ten_times_the_load_for_an_hour() {
    let simulation = played(Scenario::TenTimesLoad);
    let timeline = simulation.timeline();
    let first = [(10.12, Soft), (10.66, Graceful), (11.35, Aggressive), (19.04, CircuitBreak), (49.04, Normal)];
    assert_timeline(&timeline.transitions()[..5], &first);
    let second = [(49.16, Soft), (49.65, Graceful), (50.28, Aggressive), (66.69, CircuitBreak), (96.69, Normal)];
    assert_timeline(&timeline.transitions()[5..10], &second);
    assert_eq!(timeline.transitions().len(), 5 * 76);
    assert_eq!(timeline.flaps(), 75);
    let recovered = timeline.recovered_at().unwrap();
    let storm_end = Scenario::TenTimesLoad.storm_end();
    assert!(recovered > storm_end && recovered < storm_end + Duration::from_secs(30), "{recovered:?}");
}

/// 100 000 → 10 million messages a second. Growth by 9.846 million a second, then 9.75, 9.722 and 9.52 million; CIRCUIT_BREAK half a second after it
/// began. 9.47 s at 10 million and 20.53 s at 100 000 a second are refused.
#[test]
fn a_flash_crash_of_a_hundred_times_the_load() {
    let simulation = played(Scenario::FlashCrash);
    let timeline = simulation.timeline();
    let expected = [(10.02, Soft), (10.06, Graceful), (10.11, Aggressive), (10.53, CircuitBreak), (40.53, Normal)];
    assert_timeline(timeline.transitions(), &expected);
    assert_eq!(timeline.flaps(), 0);
    let seconds = DegradationLevel::ALL.map(|level| timeline.time_at(level).as_secs_f64());
    let expected = [timeline.length().as_secs_f64() - 30.51, 0.04, 0.05, 0.42, 30.0];
    let is_near = seconds.iter().zip(expected).all(|(seconds, expected)| (seconds - expected).abs() < 0.035);
    assert!(is_near, "{seconds:?}");
    let refused = simulation.ledger().refused as f64 / 1e6;
    assert!((refused - 96.75).abs() < 0.4, "{refused} million");
}

/// Everything that the handler does takes ten times as long: growth by 84 615 a second, 75 000, 72 224 and 50 204. At CIRCUIT_BREAK 82 500 a second are
/// worked off: below 2.5 million after 30.3 s, which is AGGRESSIVE still. With HIGH and NORMAL behind what was spilled that grows by
/// 17 500 a second: CIRCUIT_BREAK again after 142.9 s, AGGRESSIVE again after 30.3 s. When the storm is over, 656 000 a second are
/// worked off, and the cooldown is waited for.
#[test]
fn a_slow_downstream_for_five_minutes() {
    let simulation = played(Scenario::SlowDownstream);
    let transitions = simulation.timeline().transitions();
    let expected = [(11.19, Soft), (16.52, Graceful), (23.44, Aggressive), (103.11, CircuitBreak)];
    assert_timeline(&transitions[..4], &expected);
    let rest: Vec<_> = transitions[4..].iter().map(|transition| transition.to).collect();
    assert_eq!(rest, [Aggressive, CircuitBreak, Aggressive, Normal]);
    for (transition, expected) in transitions[4..].iter().zip([133.42, 276.3, 306.6, 336.6]) {
        let at = transition.at.as_secs_f64();
        assert!((at - expected).abs() < 0.5, "{at} s, not {expected} s");
    }
    assert_eq!((simulation.timeline().flaps(), simulation.ledger().refused > 0), (0, true));
}

/// As ten times the load, until the disk is full at the thirteenth second: NORMAL is shed then, for 20 ns, and the lag grows by 502 500 a second from
/// 1 862 500 on.
#[test]
fn a_full_disk_at_aggressive() {
    let simulation = played(Scenario::DiskFull);
    let first = [(10.12, Soft), (10.66, Graceful), (11.35, Aggressive), (19.25, CircuitBreak), (49.25, Normal)];
    assert_timeline(&simulation.timeline().transitions()[..5], &first);
    let second = [(49.37, Soft), (49.84, Graceful), (50.43, Aggressive), (58.39, CircuitBreak), (88.39, Normal)];
    assert_timeline(&simulation.timeline().transitions()[5..], &second);
    let ledger = simulation.ledger();
    // 1.65 s at 480 300 a second, of which 40 % are NORMAL: 317 000. 177 000 of them are replayed in the 1.2 s of the second climb; when the
    // disk takes messages again, NORMAL goes behind the other 140 000, at 40 000 a second, and 89 800 a second are replayed.
    assert!((420_000..440_000).contains(&ledger.spilled), "{}", ledger.spilled);
    let full = ledger.shed_by.get(Tier::Tier3, ShedReason::SpillFull);
    assert!(full > 1_000_000, "{full}");
}

/// 260 000 a second for four seconds, 60 000 for four. SOFT manages 250 000, so that the lag is 0 again in every lull; NORMAL does not. So SOFT
/// comes 0.95 s after a high begins, NORMAL at the end of the cooldown, which is in a lull, and SOFT in the next high, 2 s later: every 32 s.
#[test]
fn load_that_swings_about_the_edge() {
    let simulation = played(Scenario::Oscillating);
    let rounds = (0..19).map(|round| f64::from(round) * 32.0);
    let expected: Vec<_> = rounds.flat_map(|begin| [(begin + 10.95, Soft), (begin + 40.95, Normal)]).collect();
    assert_timeline(simulation.timeline().transitions(), &expected);
    assert_eq!(simulation.timeline().flaps(), 18);
}

/// Without hysteresis, the same load makes the level flap with it: that is what the scenario is for.
#[test]
fn without_a_cooldown_the_level_swings_with_the_load() {
    let thresholds =
        DegradationThresholds { recovery_cooldown_seconds: 0.0, recovery_lag_factor: 1.0, ..Default::default() };
    let mut simulation = Simulation::new(Model::default(), thresholds, VerdictTable::default()).unwrap();
    let scenario = Scenario::Oscillating;
    simulation.run(scenario.length(), |at| scenario.conditions(at));
    // Up and down in each of the 75 rounds of eight seconds.
    assert_eq!(simulation.timeline().transitions().len(), 150);
}

#[test]
fn what_the_model_leaves_over_is_kept() {
    // Costs and rates that never come out even, and a lane that is full now and then.
    let model = Model {
        process_ns: 3_333.3,
        workers: 2,
        lane_capacity: 5_000_001,
        spill: Some(SpillModel { capacity: 1_000_000 }),
        sample_interval: Duration::from_millis(7),
        ..Model::default()
    };
    let mut simulation = simulation(model);
    let odd = |at: Duration| Conditions {
        offered_per_second: [1_234.5, 76_543.2, 33.3, 0.1].map(|rate| rate * (1 + at.as_secs() % 17) as f64 * 3.0),
        ..Conditions::offered(0.0)
    };
    let mut offered = 0.0;
    while simulation.now() < Duration::from_secs(300) {
        let conditions = odd(simulation.now());
        offered += conditions.offered_per_second.iter().sum::<f64>() * 0.007;
        simulation.step(&conditions);
        simulation.ledger().check().unwrap();
    }
    assert!((simulation.ledger().offered as f64 - offered).abs() < 5.0);
    assert!(simulation.ledger().spilled > 0 && simulation.ledger().shed > 0);
    // And then nothing more comes: all of it ends.
    simulation.run(Duration::from_secs(900), |_| Conditions::offered(0.0));
    assert_eq!((simulation.ledger().in_flight, simulation.ledger().spill_pending), (0, 0));
    simulation.ledger().check().unwrap();
}

/// 1.5 million messages a sample, into a lane that holds 5.25 million: the fourth does not fit, and the gate is shut after it.
#[test]
fn a_lane_that_is_full_before_the_gate_is_shut_turns_messages_away() {
    let mut simulation = simulation(Model::default());
    let flood = Conditions::offered(150e6);
    for _ in 0..4 {
        let step = simulation.step(&flood);
        assert!(step.lag <= 5_250_000);
        // A fifth, and four for each million in the lane.
        assert!((step.memory_pct - (20.0 + step.lag as f64 * 4e-6)).abs() < 1e-9);
    }
    let ledger = simulation.ledger();
    ledger.check().unwrap();
    let shares = ledger.by_priority.map(|part| part.full as f64 / ledger.full as f64);
    assert!(shares.iter().zip(Conditions::MIX).all(|(share, mix)| (share - mix).abs() < 1e-5), "{shares:?}");
    assert!((700_000..760_000).contains(&ledger.full), "{}", ledger.full);
    assert_eq!((simulation.level(), ledger.refused), (CircuitBreak, 0));
    simulation.step(&flood);
    assert_eq!(simulation.ledger().refused, 1_500_000);
}

#[test]
fn latency_is_the_time_in_the_lane() {
    // 1 000 messages a sample, 500 of which are managed.
    let model = Model { process_ns: 20_000.0, enrich_ns: 0.0, ..Model::default() };
    let mut simulation = simulation(model);
    let conditions = Conditions { offered_per_second: [100_000.0, 0.0, 0.0, 0.0], ..Conditions::offered(0.0) };
    for _ in 0..100 {
        simulation.step(&conditions);
    }
    // After a second half of it is left, and what is at the front arrived half a second ago.
    assert_eq!(simulation.lag(), 50_000);
    let step = simulation.step(&conditions);
    assert_eq!(step.age, Duration::from_millis(510));
    let latency = &simulation.latency()[MessagePriority::Critical.index()];
    let worst = Duration::from_nanos(latency.quantile_ns(1.0).unwrap());
    assert!((Duration::from_millis(450)..Duration::from_millis(560)).contains(&worst), "{worst:?}");
}

/// 100 000 a second, of which 50 000 are managed: after two seconds the message at the front is a second old, and GRACEFUL by its age alone.
#[test]
fn the_age_of_messages_and_a_full_disk_are_signals_here_too() {
    let model = Model { process_ns: 20_000.0, enrich_ns: 0.0, ..Model::default() };
    let age = Signal::age([500.0, 1_000.0, 60_000.0, 120_000.0]);
    let mut simulation = simulation(model).with_signals(vec![age]).unwrap();
    let conditions = Conditions { offered_per_second: [100_000.0, 0.0, 0.0, 0.0], ..Conditions::offered(0.0) };
    simulation.run(Duration::from_secs(3), |_| conditions);
    assert_timeline(simulation.timeline().transitions(), &[(1.0, Soft), (2.0, Graceful)]);
    assert!(simulation.timeline().transitions()[1].cause.to_string().starts_with("age 10"));

    let model = Model { spill: Some(SpillModel { capacity: 100_000 }), ..Model::default() };
    let disk = Signal::spill_disk([50.0, 60.0, 70.0, 80.0]);
    let mut simulation = self::simulation(model).with_signals(vec![disk]).unwrap();
    simulation.run(Duration::from_secs(3), |_| Conditions::offered(1e6));
    assert_eq!(simulation.level(), CircuitBreak);
    // Its lag would have taken until 7.8 s; messages of tier 3 fill four fifths of the log in half a second.
    let last = simulation.timeline().transitions().last().unwrap();
    assert!(last.cause.to_string().starts_with("spill_disk 8") && last.at < Duration::from_secs(3), "{last:?}");
}

/// With quotes conflated, what would take seconds of queueing takes one state's turn, and nothing of it is spilled or shed.
#[test]
fn conflation_keeps_states_fresh_where_queues_do_not() {
    // 16 000 a second are managed of 100 000, nine of ten of which are quotes.
    let model =
        Model { process_ns: 60_000.0, enrich_ns: 0.0, states: [0.9; 4], keys: [20, 40, 500, 1], ..Model::default() };
    let thresholds = DegradationThresholds {
        lag_soft: 500,
        lag_graceful: 1_000,
        lag_aggressive: 5_000,
        lag_circuit_break: 1_000_000,
        ..Default::default()
    };
    let run = |table| {
        let mut simulation = Simulation::new(model, thresholds, table).unwrap();
        let conditions =
            Conditions { offered_per_second: [40_000.0, 30_000.0, 30_000.0, 0.0], ..Conditions::offered(0.0) };
        simulation.run(Duration::from_secs(60), |_| conditions);
        simulation.ledger().check().unwrap();
        let age = simulation.latency()[0].quantile_ns(0.99).unwrap_or_default();
        (Duration::from_nanos(age), simulation.ledger().clone())
    };
    let ((plain, _), (conflated, ledger)) = (run(VerdictTable::default()), run(VerdictTable::conflate()));
    assert!(plain > Duration::from_secs(5) && conflated < Duration::from_millis(500), "{plain:?}, {conflated:?}");
    assert!(ledger.conflated > 1_000_000 && ledger.refused == 0, "{ledger:?}");
}

/// 300 000 a second at SOFT, which manages 250 000: without more, GRACEFUL. With a share of NORMAL's symbols shed from a lag of 100 000 on, the load falls until it
/// is what is managed: 50 000 of 120 000, which is 27 of 64 parts, and stays there; the level does not.
#[test]
fn proportional_shedding_finds_its_balance_where_steps_would_swing() {
    let shed = ProportionalShedding { from_lag: 100_000, to_lag: 500_000, from_percent: 0.0, to_percent: 100.0 };
    let mut model = Model::default();
    let conditions = Conditions::offered(300_000.0);
    let mut plain = simulation(model);
    plain.run(Duration::from_secs(60), |_| conditions);
    assert!(plain.timeline().highest() >= Graceful);
    model.gradual[MessagePriority::Normal.index()] = Gradual { shed: Some(shed), budget: None };
    let mut simulation = simulation(model);
    simulation.run(Duration::from_secs(60), |_| conditions);
    assert_eq!(simulation.timeline().transitions().len(), 1);
    assert_eq!(simulation.level(), Soft);
    let before = (simulation.lag(), simulation.ledger().shed);
    simulation.run(Duration::from_secs(120), |_| conditions);
    let ledger = simulation.ledger();
    ledger.check().unwrap();
    let rate = (ledger.shed - before.1) as f64 / 60.0;
    assert!((rate - 50_000.0).abs() < 3_000.0, "{rate} a second are shed");
    let parts = (simulation.lag() as f64 - 100_000.0) / 400_000.0 * 64.0;
    assert!((24.0..=30.0).contains(&parts) && simulation.lag().abs_diff(before.0) < 25_000, "{}", simulation.lag());
    assert_eq!(ledger.shed_by.get(Tier::Tier3, ShedReason::Proportional), ledger.shed);
}

/// 20 000 a second of LOW, and a budget of 5 000 at GRACEFUL's next level, which sheds it: at SOFT, where all is processed within budget.
#[test]
fn a_budget_lets_through_what_it_says() {
    let mut model = Model::default();
    let budget = Budget { messages_per_second: 5_000.0, burst: 1_000 };
    model.gradual[MessagePriority::Low.index()] = Gradual { shed: None, budget: Some(budget) };
    let thresholds = DegradationThresholds { lag_soft: 1, ..Default::default() };
    let mut simulation = Simulation::new(model, thresholds, VerdictTable::default()).unwrap();
    // Of 200 000 a second, which SOFT manages.
    simulation.run(Duration::from_secs(100), |_| Conditions::offered(200_000.0));
    assert_eq!(simulation.level(), Soft);
    let ledger = simulation.ledger();
    ledger.check().unwrap();
    let low = ledger.by_priority[MessagePriority::Low.index()];
    let rate = low.processed_live as f64 / 100.0;
    assert!((rate - 5_000.0).abs() < 100.0, "{rate}");
    assert!(ledger.shed_by.get(Tier::Tier3, ShedReason::OverBudget) > 1_000_000, "{ledger:?}");
    assert_eq!(ledger.shed_by.get(Tier::Tier3, ShedReason::OverBudget), ledger.shed);
}

#[test]
fn models_that_make_no_sense_are_refused_by_name() {
    let error = |model| {
        Simulation::new(model, DegradationThresholds::default(), VerdictTable::default()).unwrap_err().to_string()
    };
    let model = Model::default();
    for (model, begin) in [
        (Model { process_ns: 0.0, ..model }, "process_ns = 0 "),
        (Model { enrich_ns: f64::NAN, ..model }, "enrich_ns = NaN "),
        (Model { workers: 0, ..model }, "workers = 0 "),
        (Model { states: [0.0, 1.5, 0.0, 0.0], ..model }, "states = 1.5 "),
        (Model { replay_share: 1.0, ..model }, "replay_share = 1 "),
        (Model { sample_interval: Duration::ZERO, ..model }, "sample_interval = 0 "),
        (
            Model { lane_capacity: 5_000_000, ..model },
            "lane_capacity = 5000000 must exceed lag_circuit_break = 5000000",
        ),
    ] {
        assert!(error(model).starts_with(begin), "{}", error(model));
    }
}
