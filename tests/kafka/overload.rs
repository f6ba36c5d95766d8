//! Lag, levels, pauses.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use plimsoll::kafka::KafkaCount;
use plimsoll::spill::{Durability, SpillConfig};
use plimsoll::{DegradationLevel, DegradationThresholds, SymbolTiers};

use crate::cluster::{Cluster, unique, until, until_committed};
use crate::member::{Member, Notebook, Setup, config};

#[test]
fn circuit_break_pauses_once_keeps_its_place_in_the_group_and_goes_on_without_loss() {
    let cluster = Cluster::any();
    let (topic, group) = (cluster.topic(3), unique("group"));
    let mut setup = Setup::new(config(&cluster, &group, &topic));
    // Who does not poll for so long is expelled.
    setup.config.cluster.properties.insert("max.poll.interval.ms".to_owned(), "6000".to_owned());
    let member = Member::start(setup);
    cluster.produce_numbers(&topic, 3, 9, 1..501);
    until("the first are seen", || member.notebook.count() == 500);
    member.memory.store(99, Ordering::Relaxed);
    until("the circuit breaks", || member.level() == DegradationLevel::CircuitBreak);
    until("it is paused", || member.counters.is_paused());
    cluster.produce_numbers(&topic, 3, 9, 501..1501);
    let since = Instant::now();
    until("longer than the group would wait", || since.elapsed() > Duration::from_secs(7));
    assert_eq!((member.notebook.count(), member.counters.get(KafkaCount::Pauses)), (500, 1));
    assert_eq!((member.assigned(), member.counters.get(KafkaCount::Lost)), (3, 0));
    member.memory.store(10, Ordering::Relaxed);
    until("the rest is seen", || member.notebook.count() >= 1500);
    assert!(!member.counters.is_paused());
    let (notebook, counters) = (Arc::clone(&member.notebook), Arc::clone(&member.counters));
    let (_, ledger) = member.end();
    assert_eq!((ledger.offered, ledger.refused, ledger.redelivered), (1500, 0, 0));
    assert_eq!(counters.get(KafkaCount::Rebalances), 1);
    assert!(notebook.times().into_iter().eq((1..1501).map(|number| (number, 1))));
    notebook.assert_order();
}

/// Thresholds for some hundred messages.
fn thresholds() -> DegradationThresholds {
    DegradationThresholds {
        lag_soft: 100,
        lag_graceful: 300,
        lag_aggressive: 600,
        lag_circuit_break: 1_000,
        recovery_cooldown_seconds: 0.2,
        ..Default::default()
    }
}

#[test]
fn the_groups_backlog_is_lag_and_a_breaker_that_it_has_tripped_closes_again() {
    let cluster = Cluster::any();
    let (topic, group) = (cluster.topic(2), unique("group"));
    let mut setup = Setup::new(config(&cluster, &group, &topic));
    setup.thresholds = thresholds();
    // Everything is critical, so that nothing is shed.
    setup.tiers = SymbolTiers::new((0..4).map(|n| format!("S{n}")), []);
    setup.notebook = Notebook::holding_the_first();
    setup.workers = 1;
    let member = Member::start(setup);
    // The first is in hand before there is a backlog: a breaker that is tripped while lanes are empty is half open at once.
    cluster.produce_numbers(&topic, 2, 4, 1..11);
    until("the first is held", || member.notebook.is_held());
    cluster.produce_numbers(&topic, 2, 4, 11..4001);
    // All but what is done, and the few that wait for room in a lane.
    until("the backlog is lag", || member.lag() as usize + member.notebook.count() + 10 >= 4000);
    until("the circuit breaks", || member.level() == DegradationLevel::CircuitBreak);
    until("it is paused", || member.counters.is_paused());
    assert!(!member.counters.is_stale() || member.counters.backlog() > 0);
    member.notebook.release();
    until("all is seen", || member.notebook.count() >= 4000);
    until("all is calm", || member.level() == DegradationLevel::Normal);
    until("nothing waits", || member.lag() == 0);
    let notebook = Arc::clone(&member.notebook);
    let (_, ledger) = member.end();
    assert_eq!((ledger.offered, ledger.processed(), ledger.shed), (4000, 4000, 0));
    assert!(notebook.times().into_iter().eq((1..4001).map(|number| (number, 1))));
}

#[test]
fn lanes_without_room_hold_nothing_up_but_themselves() {
    let cluster = Cluster::any();
    let (topic, group) = (cluster.topic(2), unique("group"));
    let mut setup = Setup::new(config(&cluster, &group, &topic));
    setup.notebook = Notebook::holding_the_first();
    setup.workers = 1;
    let member = Member::start(setup);
    cluster.produce_numbers(&topic, 2, 4, 1..8001);
    until("it is paused, since lanes are full", || member.counters.is_paused());
    // It takes part in the group all the same.
    let other = Member::start(Setup::new(config(&cluster, &group, &topic)));
    // But what it has in hand it finishes before it gives anything up: the other one waits for that.
    let asked = Instant::now();
    until("a rebalance would be over", || asked.elapsed() > Duration::from_secs(8));
    assert_eq!((member.assigned(), other.assigned()), (2, 0));
    member.notebook.release();
    until("two share them", || member.assigned() == 1 && other.assigned() == 1);
    until("all is seen", || {
        let mut all = member.notebook.times();
        other.notebook.times().keys().for_each(|number| *all.entry(*number).or_default() += 1);
        all.len() == 8000
    });
    assert_eq!(member.counters.get(KafkaCount::GivenUp), 0);
    let _ = (member.end(), other.end());
}

#[test]
fn what_is_shed_is_finished_and_counted() {
    let cluster = Cluster::any();
    let (topic, group) = (cluster.topic(2), unique("group"));
    let mut setup = Setup::new(config(&cluster, &group, &topic));
    setup.memory.store(92, Ordering::Relaxed); // AGGRESSIVE, and there is no spill log
    setup.tiers = SymbolTiers::new(["S0"], ["S1"]);
    let member = Member::start(setup);
    until("the level is AGGRESSIVE", || member.level() == DegradationLevel::Aggressive);
    cluster.produce_numbers(&topic, 2, 4, 1..4001);
    until_committed(&cluster, &group, &topic, 2, 4000);
    let counters = Arc::clone(&member.counters);
    let (_, ledger) = member.end();
    assert_eq!(
        (ledger.processed_live, ledger.shed),
        (2000, 2000),
        "{ledger:?} {counters:?} {:?}",
        cluster.read_all(&topic, 2).len()
    );
}

#[test]
fn what_is_spilled_is_finished_when_it_is_safe_and_is_replayed_later() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::any();
    let (topic, group) = (cluster.topic(2), unique("group"));
    let mut setup = Setup::new(config(&cluster, &group, &topic));
    setup.memory.store(92, Ordering::Relaxed); // AGGRESSIVE
    setup.tiers = SymbolTiers::new(["S0"], ["S1"]);
    let spill = SpillConfig { segment_bytes: 1 << 20, ..SpillConfig::new(dir.path()) };
    setup.spill = Some(SpillConfig {
        durability: Durability::Interval(Duration::from_millis(20)),
        free_space_floor_bytes: 0,
        ..spill
    });
    let member = Member::start(setup);
    until("the level is AGGRESSIVE", || member.level() == DegradationLevel::Aggressive);
    cluster.produce_numbers(&topic, 2, 4, 1..4001);
    until_committed(&cluster, &group, &topic, 2, 4000);
    let ledger = member.ledger();
    assert_eq!((ledger.processed_live, ledger.spilled), (2000, 2000), "{ledger:?}");
    // Recovery: what was spilled is replayed, and was not asked for again.
    member.memory.store(10, Ordering::Relaxed);
    until("what was spilled is replayed", || {
        let ledger = member.ledger();
        ledger.spill_pending == 0 && ledger.replayed == ledger.spilled
    });
    let notebook = Arc::clone(&member.notebook);
    let (_, ledger) = member.end();
    assert_eq!((ledger.offered, ledger.redelivered), (4000, 0));
    assert_eq!(notebook.count() as u64, ledger.processed());
    notebook.assert_order();
}
