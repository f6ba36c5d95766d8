//! Candidates, what each comes to in closed loop, and which are worth a look.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use plimsoll::simulation::{Conditions, Model, Simulation, SimulationError};
use plimsoll::{DegradationThresholds, VerdictTable};

/// `lag_circuit_break`.
const BREAKS: [u64; 12] =
    [1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000, 2_000_000, 5_000_000];
/// The three below it, as shares of it: the defaults', and two with the levels closer together.
const SHAPES: [[f64; 3]; 3] = [[0.02, 0.1, 0.2], [0.125, 0.25, 0.5], [0.3, 0.5, 0.7]];
/// `recovery_lag_factor`.
const FACTORS: [f64; 3] = [0.25, 0.5, 0.75];
/// `recovery_cooldown_seconds`.
const COOLDOWNS: [f64; 5] = [1.0, 5.0, 10.0, 30.0, 60.0];

/// All thresholds that are tried, in order: those of memory stay as they are.
pub(super) fn candidates(base: &DegradationThresholds) -> Vec<DegradationThresholds> {
    let mut all = vec![*base];
    for lag_circuit_break in BREAKS {
        for shape in SHAPES {
            let [lag_soft, lag_graceful, lag_aggressive] = shape.map(|share| (share * lag_circuit_break as f64) as u64);
            for recovery_lag_factor in FACTORS {
                for recovery_cooldown_seconds in COOLDOWNS {
                    all.push(DegradationThresholds {
                        lag_soft,
                        lag_graceful,
                        lag_aggressive,
                        lag_circuit_break,
                        recovery_lag_factor,
                        recovery_cooldown_seconds,
                        ..*base
                    });
                }
            }
        }
    }
    all
}

/// What thresholds come to: the worst of all loads, and the sum of what they gave up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Score {
    /// CRITICAL's p99 in nanoseconds; 0 is less than a sample interval.
    pub(super) critical_p99: u64,
    pub(super) transitions_per_hour: f64,
    /// Share of what was offered that was shed or refused.
    pub(super) given_up: f64,
    /// And that was spilled.
    pub(super) spilled: f64,
    /// Share of CRITICAL that was processed.
    pub(super) critical_kept: f64,
}

impl Score {
    /// Whether the other is no worse in anything that is traded off, and better in something.
    fn is_beaten_by(&self, other: &Self) -> bool {
        let pairs = [
            (self.critical_p99 as f64, other.critical_p99 as f64),
            (self.transitions_per_hour, other.transitions_per_hour),
            (self.given_up, other.given_up),
        ];
        pairs.iter().all(|(own, other)| other <= own) && pairs.iter().any(|(own, other)| other < own)
    }

    /// What is better comes first; what is equal stays in order.
    pub(super) fn rank(&self, other: &Self) -> std::cmp::Ordering {
        let by = |own: f64, other: f64| own.total_cmp(&other);
        by(self.given_up, other.given_up)
            .then(by(self.spilled, other.spilled))
            .then(by(self.transitions_per_hour, other.transitions_per_hour))
            .then(self.critical_p99.cmp(&other.critical_p99))
    }
}

/// Something to try candidates on.
pub(super) struct Trial<'a> {
    pub(super) model: Model,
    pub(super) length: Duration,
    pub(super) conditions: Box<dyn Fn(Duration) -> Conditions + Sync + 'a>,
}

/// What a candidate comes to in all trials.
fn score(
    trials: &[Trial<'_>],
    thresholds: &DegradationThresholds,
    verdicts: &VerdictTable,
) -> Result<Score, SimulationError> {
    let (mut critical_p99, mut transitions_per_hour) = (0, 0.0_f64);
    let (mut offered, mut given_up, mut spilled, mut critical, mut kept) = (0, 0, 0, 0, 0);
    for trial in trials {
        // A lane is as large as the thresholds want it.
        let enough = thresholds.lag_circuit_break + thresholds.lag_circuit_break / 20 + 1;
        let model = Model { lane_capacity: trial.model.lane_capacity.max(enough), ..trial.model };
        let mut simulation = Simulation::new(model, *thresholds, *verdicts)?;
        simulation.run(trial.length, &trial.conditions);
        let ledger = simulation.ledger();
        let p99 = simulation.latency()[0].quantile_ns(0.99).unwrap_or_default();
        critical_p99 = critical_p99.max(p99);
        transitions_per_hour = transitions_per_hour.max(simulation.timeline().transitions_per_hour());
        offered += ledger.offered;
        given_up += ledger.shed + ledger.refused + ledger.full;
        spilled += ledger.spilled;
        critical += ledger.by_priority[0].offered();
        kept += ledger.by_priority[0].processed();
    }
    let share = |part: u64, whole: u64| part as f64 / whole.max(1) as f64;
    Ok(Score {
        critical_p99,
        transitions_per_hour,
        given_up: share(given_up, offered),
        spilled: share(spilled, offered),
        critical_kept: share(kept, critical),
    })
}

/// What each candidate comes to, in their order, whichever thread it was that found out. `tell` is called now and then with how many are done.
pub(super) fn search(
    trials: &[Trial<'_>],
    candidates: &[DegradationThresholds],
    verdicts: &VerdictTable,
    tell: impl Fn(usize) + Sync,
) -> Result<Vec<Score>, SimulationError> {
    let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let work = || {
        let mut found = Vec::new();
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            let Some(candidate) = candidates.get(i) else { return found };
            found.push((i, score(trials, candidate, verdicts)));
            tell(done.fetch_add(1, Ordering::Relaxed) + 1);
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut all: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    all.sort_by_key(|(i, _)| *i);
    all.into_iter().map(|(_, score)| score).collect()
}

/// Those that none other beats, by what they give up; of equal ones the first.
pub(super) fn front(scores: &[Score]) -> Vec<usize> {
    let is_first = |i: usize| {
        !scores[..i].iter().any(|before| {
            let own = &scores[i];
            (before.critical_p99, before.transitions_per_hour, before.given_up)
                == (own.critical_p99, own.transitions_per_hour, own.given_up)
        })
    };
    let is_unbeaten = |i: usize| !scores.iter().any(|other| scores[i].is_beaten_by(other));
    let mut front: Vec<usize> = (0..scores.len()).filter(|&i| is_first(i) && is_unbeaten(i)).collect();
    front.sort_by(|&a, &b| scores[a].rank(&scores[b]).then(a.cmp(&b)));
    front
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score_of(critical_p99: u64, transitions_per_hour: f64, given_up: f64) -> Score {
        Score { critical_p99, transitions_per_hour, given_up, spilled: 0.0, critical_kept: 1.0 }
    }

    #[test]
    fn the_front_is_what_none_other_beats() {
        let scores = [
            score_of(10, 5.0, 0.3),
            score_of(20, 5.0, 0.1),
            score_of(20, 6.0, 0.1), // beaten by the second
            score_of(10, 5.0, 0.3), // the first again
            score_of(30, 1.0, 0.2),
        ];
        assert_eq!(front(&scores), [1, 4, 0]);
    }

    #[test]
    fn candidates_are_valid_and_different() {
        let all = candidates(&DegradationThresholds::default());
        assert_eq!(all.len(), 1 + 12 * 3 * 3 * 5);
        assert!(all.iter().all(|candidate| candidate.validated().is_ok()));
        let defaults = all.iter().filter(|candidate| **candidate == DegradationThresholds::default());
        assert_eq!(defaults.count(), 2, "the base, and its place in the grid");
    }
}
