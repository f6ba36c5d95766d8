//! Proves that the level and the fate of every message are the ones that the recorded cases say, row by row, and
//! that the state machine keeps its promises on inputs that nobody recorded.

use std::path::Path;
use std::time::Duration;

use plimsoll::{
    Cause, DataType, DegradationLevel, DegradationManager, DegradationThresholds, LoadShedder, MessagePriority,
    SymbolTiers, Symbols, Transition, Verdict, VerdictTable,
};
use proptest::prelude::*;

/// The rows of a file under `tests/data`, without its header, as fields.
fn rows(file: &str, columns: usize) -> Vec<Vec<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(file);
    let text = std::fs::read_to_string(&path).expect("the data file is there");
    let rows: Vec<Vec<String>> = text.lines().skip(1).map(|l| l.split(',').map(str::to_owned).collect()).collect();
    assert!(rows.iter().all(|row| row.len() == columns), "{file} has {columns} columns in every row");
    rows
}

fn number<T: std::str::FromStr<Err: std::fmt::Debug>>(field: &str) -> T {
    field.parse().expect("a number")
}

fn thresholds_of(row: &[String]) -> DegradationThresholds {
    DegradationThresholds {
        lag_soft: number(&row[5]),
        lag_graceful: number(&row[6]),
        lag_aggressive: number(&row[7]),
        lag_circuit_break: number(&row[8]),
        heap_soft: number(&row[9]),
        heap_graceful: number(&row[10]),
        heap_aggressive: number(&row[11]),
        heap_circuit_break: number(&row[12]),
        recovery_lag_factor: number(&row[13]),
        recovery_heap_factor: number(&row[14]),
        recovery_cooldown_seconds: number(&row[15]),
    }
}

#[test]
fn every_recorded_sample_gives_the_recorded_level() {
    let rows = rows("golden_levels.csv", 16);
    assert_eq!(rows.len(), 9755);
    let mut cases = 0;
    for case in rows.chunk_by(|a, b| a[0] == b[0]) {
        assert_eq!(case[0][0], cases.to_string(), "cases are numbered in order");
        cases += 1;
        let thresholds = thresholds_of(&case[0]);
        let mut manager = DegradationManager::new(thresholds, SymbolTiers::default()).unwrap();
        for row in case {
            assert_eq!(thresholds_of(row), thresholds, "a case has one set of thresholds");
            let now = Duration::from_millis(number(&row[1]));
            let level = manager.check_and_degrade(now, number(&row[2]), number(&row[3]));
            assert_eq!(level.value().to_string(), row[4], "case {} at {} ms: {row:?}", row[0], row[1]);
            assert_eq!(manager.level(), level);
        }
    }
    assert_eq!(cases, 120);
}

#[test]
fn every_recorded_message_is_shed_as_recorded_by_name_and_by_id() {
    let rows = rows("golden_shedding.csv", 5);
    assert_eq!(rows.len(), 1280);
    let mut shedder = LoadShedder::default();
    let symbols = Symbols::default();
    let table = VerdictTable::default();
    for row in &rows {
        let [symbol, data_type, priority, level, processed] = row.as_slice() else { unreachable!() };
        let data_type = DataType::from_name(data_type);
        let level = DegradationLevel::from_value(number(level)).unwrap();
        let processed = match processed.as_str() {
            "0" => false,
            "1" => true,
            other => panic!("{other}"),
        };
        assert_eq!(shedder.priority(symbol, data_type).name(), priority, "{row:?}");
        assert_eq!(shedder.should_process(symbol, level, data_type), processed, "{row:?}");

        // The way that a worker takes: from the id to the tier to the priority to the verdict.
        let id = symbols.intern(symbol).unwrap();
        let by_id = MessagePriority::of(symbols.tier(id), data_type);
        assert_eq!(by_id.name(), priority, "{row:?}");
        assert_eq!(table.verdict(level, by_id) == Verdict::Process, processed, "{row:?}");
    }
    let shed = rows.iter().filter(|row| row[4] == "0").count() as u64;
    assert_eq!((shedder.stats().total_checked, shedder.stats().total_shed), (1280, shed));
}

/// One call of the manager: milliseconds since the call before, lag, memory.
type Sample = (u64, u64, f64);

/// Thresholds of all shapes, and samples that crowd around their edges.
fn scenario() -> impl Strategy<Value = (DegradationThresholds, Vec<Sample>)> {
    let lag = [0.1, 0.5, 0.9, 1.0].prop_map_factor();
    let heap = [0.5, 0.9, 1.0].prop_map_factor();
    let cooldown = prop_oneof![Just(0.0), Just(0.05), Just(1.5), Just(30.0)];
    let thresholds = (lag, heap, cooldown, 1u64..1000).prop_map(|(lag_factor, heap_factor, cooldown, scale)| {
        DegradationThresholds {
            lag_soft: 10 * scale,
            lag_graceful: 11 * scale,
            lag_aggressive: 50 * scale,
            lag_circuit_break: 500 * scale,
            recovery_lag_factor: lag_factor,
            recovery_heap_factor: heap_factor,
            recovery_cooldown_seconds: cooldown,
            ..Default::default()
        }
    });
    thresholds.prop_flat_map(|t| {
        let lags = [t.lag_soft, t.lag_graceful, t.lag_aggressive, t.lag_circuit_break];
        let heaps = [t.heap_soft, t.heap_graceful, t.heap_aggressive, t.heap_circuit_break];
        let lag_edge = (0usize..4, any::<bool>(), -1i64..=1).prop_map(move |(i, mark, off)| {
            let edge = if mark { (lags[i] as f64 * t.recovery_lag_factor) as u64 } else { lags[i] };
            edge.saturating_add_signed(off)
        });
        let heap_edge = (0usize..4, any::<bool>(), -1i8..=1).prop_map(move |(i, mark, off)| {
            let edge = if mark { heaps[i] * t.recovery_heap_factor } else { heaps[i] };
            edge + f64::from(off) * 1e-9
        });
        let lag = prop_oneof![3 => Just(0u64), 3 => lag_edge, 1 => 0..=2 * t.lag_circuit_break];
        let heap = prop_oneof![5 => Just(5.0), 3 => heap_edge, 1 => 0.0..=100.0, 1 => Just(f64::NAN)];
        let step = prop_oneof![Just(0u64), Just(49), Just(50), Just(51), Just(1500), Just(30_000), 0u64..40_000];
        (Just(t), prop::collection::vec((step, lag, heap), 1..300))
    })
}

trait Factors {
    fn prop_map_factor(self) -> BoxedStrategy<f64>;
}

impl<const N: usize> Factors for [f64; N] {
    fn prop_map_factor(self) -> BoxedStrategy<f64> {
        prop::sample::select(self.to_vec()).boxed()
    }
}

fn triggers(t: &DegradationThresholds, level: DegradationLevel) -> (u64, f64) {
    match level {
        DegradationLevel::Normal => (0, 0.0),
        DegradationLevel::Soft => (t.lag_soft, t.heap_soft),
        DegradationLevel::Graceful => (t.lag_graceful, t.heap_graceful),
        DegradationLevel::Aggressive => (t.lag_aggressive, t.heap_aggressive),
        DegradationLevel::CircuitBreak => (t.lag_circuit_break, t.heap_circuit_break),
    }
}

/// The highest level whose lag or memory trigger is reached.
fn target(t: &DegradationThresholds, lag: u64, memory: f64) -> DegradationLevel {
    let reached = |&level: &DegradationLevel| {
        let (lag_trigger, memory_trigger) = triggers(t, level);
        level == DegradationLevel::Normal || lag >= lag_trigger || memory >= memory_trigger
    };
    DegradationLevel::ALL.into_iter().rev().find(reached).expect("NORMAL is always reached")
}

fn manager(thresholds: DegradationThresholds) -> DegradationManager {
    DegradationManager::new(thresholds, SymbolTiers::default()).expect("the thresholds are valid")
}

/// Whether the recorded cause agrees with the signals, the thresholds and the direction.
fn cause_is_true(t: &DegradationThresholds, transition: &Transition) -> bool {
    let (to_lag, to_memory) = triggers(t, transition.to);
    let (from_lag, from_memory) = triggers(t, transition.from);
    let (seen_lag, seen_memory) = (transition.lag, transition.memory_pct);
    let up = transition.to > transition.from;
    match transition.cause {
        Cause::Lag { lag, trigger } => {
            up && lag == seen_lag
                && trigger == to_lag
                && lag >= trigger
                && (seen_memory.is_nan() || seen_memory < to_memory)
        }
        Cause::Memory { memory_pct, trigger } => {
            up && memory_pct == seen_memory && trigger == to_memory && memory_pct >= trigger && seen_lag < to_lag
        }
        Cause::LagAndMemory { lag, lag_trigger, memory_pct, memory_trigger } => {
            up && (lag, lag_trigger) == (seen_lag, to_lag)
                && (memory_pct, memory_trigger) == (seen_memory, to_memory)
                && lag >= lag_trigger
                && memory_pct >= memory_trigger
        }
        Cause::Recovered { lag, lag_mark, memory_pct, memory_mark } => {
            !up && (lag, memory_pct) == (seen_lag, seen_memory)
                && lag_mark == from_lag as f64 * t.recovery_lag_factor
                && memory_mark == from_memory * t.recovery_heap_factor
                && (lag as f64) < lag_mark
                && memory_pct < memory_mark
        }
        _ => false,
    }
}

proptest! {
    #[test]
    fn up_is_immediate_and_straight_to_the_level_that_the_signals_give((t, samples) in scenario()) {
        let mut manager = manager(t);
        let mut now = 0;
        for (step, lag, memory) in samples {
            now += step;
            let (before, target) = (manager.level(), target(&t, lag, memory));
            let after = manager.check_and_degrade(Duration::from_millis(now), lag, memory);
            if target >= before {
                prop_assert_eq!(after, target);
            } else {
                prop_assert!(after == before || after == target, "neither stayed nor went straight down");
            }
        }
    }

    #[test]
    fn down_needs_the_cooldown_and_two_calm_signals_and_no_more((t, samples) in scenario()) {
        let mut manager = manager(t);
        let mut now = Duration::ZERO;
        let mut last_transition = None;
        for (step, lag, memory) in samples {
            now += Duration::from_millis(step);
            let (before, target) = (manager.level(), target(&t, lag, memory));
            let (lag_trigger, memory_trigger) = triggers(&t, before);
            let cooled = last_transition
                .is_none_or(|last| now - last >= Duration::from_secs_f64(t.recovery_cooldown_seconds));
            let calm = (lag as f64) < lag_trigger as f64 * t.recovery_lag_factor
                && memory < memory_trigger * t.recovery_heap_factor;
            let after = manager.check_and_degrade(now, lag, memory);
            if target < before {
                prop_assert_eq!(after, if cooled && calm { target } else { before });
            }
            if after != before {
                last_transition = Some(now);
            }
            prop_assert_eq!(manager.status().last_transition, last_transition);
        }
    }

    #[test]
    fn the_same_calls_give_the_same_answers((t, samples) in scenario()) {
        let (mut first, mut second) = (manager(t), manager(t));
        let mut copy = None;
        let mut now = Duration::ZERO;
        for (i, (step, lag, memory)) in samples.into_iter().enumerate() {
            now += Duration::from_millis(step);
            let level = first.check_and_degrade(now, lag, memory);
            prop_assert_eq!(second.check_and_degrade(now, lag, memory), level);
            if i == 20 {
                copy = Some(first.clone());
            } else if let Some(copy) = &mut copy {
                prop_assert_eq!(copy.check_and_degrade(now, lag, memory), level);
            }
        }
        let words = |manager: &DegradationManager| manager.history().map(|t| format!("{t:?}")).collect::<Vec<_>>();
        prop_assert_eq!(words(&first), words(&second));
    }

    #[test]
    fn the_history_is_an_unbroken_chain_of_the_last_hundred_with_true_causes((t, samples) in scenario()) {
        let mut manager = manager(t);
        let mut all = Vec::new();
        let mut now = Duration::ZERO;
        for (step, lag, memory) in samples {
            now += Duration::from_millis(step);
            let from = manager.level();
            let to = manager.check_and_degrade(now, lag, memory);
            if from != to {
                all.push((now, from, to, lag, memory.to_bits()));
            }
        }
        let history: Vec<Transition> = manager.history().copied().collect();
        let kept: Vec<_> = history.iter().map(|t| (t.at, t.from, t.to, t.lag, t.memory_pct.to_bits())).collect();
        prop_assert_eq!(&kept[..], &all[all.len().saturating_sub(100)..]);
        prop_assert!(history.windows(2).all(|pair| pair[0].to == pair[1].from));
        for transition in &history {
            prop_assert!(cause_is_true(&t, transition), "{:?}", transition);
        }
        prop_assert_eq!(manager.status().history_count, history.len());
        prop_assert_eq!(manager.transition_count(), all.len() as u64);
        for from in DegradationLevel::ALL {
            for to in DegradationLevel::ALL {
                let count = all.iter().filter(|t| (t.1, t.2) == (from, to)).count() as u64;
                prop_assert_eq!(manager.transitions_total(from, to), count);
            }
        }
    }

    #[test]
    fn a_memory_of_not_a_number_neither_raises_nor_lowers_the_level((t, samples) in scenario()) {
        let mut manager = manager(t);
        let mut now = Duration::ZERO;
        for (step, lag, memory) in samples {
            // First what the recorded memory does, then any length of time without one.
            now += Duration::from_millis(step);
            let level = manager.check_and_degrade(now, lag, memory);
            now += Duration::from_secs(3600);
            prop_assert_eq!(manager.check_and_degrade(now, 0, f64::NAN), level);
        }
    }

    #[test]
    fn lag_raises_the_level_even_where_memory_is_not_known((t, samples) in scenario()) {
        let mut manager = manager(t);
        let mut highest = DegradationLevel::Normal;
        for (_, lag, _) in samples {
            highest = highest.max(target(&t, lag, f64::NAN));
            prop_assert_eq!(manager.check_and_degrade(Duration::ZERO, lag, f64::NAN), highest);
        }
    }
}

#[test]
fn more_than_a_hundred_transitions_are_counted_though_only_a_hundred_are_kept() {
    let mut manager = manager(DegradationThresholds { recovery_cooldown_seconds: 0.0, ..Default::default() });
    for round in 0..500u64 {
        let lag = if round % 2 == 0 { 5_000_000 } else { 0 };
        manager.check_and_degrade(Duration::from_secs(round), lag, 1.0);
    }
    assert_eq!((manager.transition_count(), manager.history().len()), (500, 100));
    assert_eq!(manager.transitions_total(DegradationLevel::Normal, DegradationLevel::CircuitBreak), 250);
    assert_eq!(manager.history().next().map(|t| t.at), Some(Duration::from_secs(400)));
}
