//! How the policy reaches the workers, and how the gate is shut.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use crossbeam::utils::CachePadded;

use super::gradual::GradualPolicy;
use super::level::DegradationLevel;
use super::policy::{Mode, Policy, VerdictTable};

/// What a worker keeps: one relaxed load and a compare to see that nothing has changed.
pub type PolicyReader = arc_swap::Cache<Arc<ArcSwap<Policy>>, Arc<Policy>>;

/// The level is CIRCUIT_BREAK: offers are refused until it goes down.
const SHUT: u8 = 1;
/// The pipeline is ending: offers are refused for good.
const CLOSED: u8 = 2;
/// A worker has failed, so that messages were finished that no handler got.
const FAILED: u8 = 4;
/// A dry run, and the level would be CIRCUIT_BREAK: offers are counted, and taken all the same.
const OBSERVED: u8 = 8;

/// The published policy and the intake gate that goes with it.
///
/// Written by the monitor (level, settings) and by shutdown or a failing worker (closing); read by all.
#[derive(Debug)]
pub struct Published {
    policy: Arc<ArcSwap<Policy>>,
    /// A line of its own, so that a producer's check is one load of a line that changes only when the gate does, and so that producers
    /// never free a policy.
    gate: CachePadded<Gate>,
    /// Policies that workers may still hold: kept here so that it is never a worker that frees one.
    retired: Mutex<Vec<Arc<Policy>>>,
}

#[derive(Debug)]
struct Gate {
    /// `SHUT`, `CLOSED`, `FAILED` and `OBSERVED`.
    bits: AtomicU8,
    /// What a lane may hold for a producer that waits.
    window: AtomicU64,
    /// Messages that a busy worker may replay for each that it handles live: bits of an `f64`.
    replays_per_live: AtomicU64,
}

impl Published {
    /// At NORMAL, with the gate open.
    pub fn new(table: VerdictTable) -> Self {
        let policy = Policy {
            level: DegradationLevel::Normal,
            observed: None,
            epoch: 0,
            table,
            conflates: table.conflates(),
            gradual: GradualPolicy::default(),
            is_gradual: false,
        };
        let gate = Gate {
            bits: AtomicU8::new(0),
            window: AtomicU64::new(u64::MAX),
            replays_per_live: AtomicU64::new(1f64.to_bits()),
        };
        Self {
            policy: Arc::new(ArcSwap::from_pointee(policy)),
            gate: CachePadded::new(gate),
            retired: Mutex::default(),
        }
    }

    /// A worker's view. Make it on the worker's own thread: the first read on a thread allocates.
    pub fn reader(&self) -> PolicyReader {
        arc_swap::Cache::new(Arc::clone(&self.policy))
    }

    /// The policy in force. For slow paths; workers use [`reader`](Self::reader).
    pub fn policy(&self) -> Policy {
        **self.policy.load()
    }

    /// Publishes a level. One thread calls this: the monitor.
    pub fn publish(&self, level: DegradationLevel) {
        self.publish_with(level, Mode::Enforce, self.policy().table, GradualPolicy::default());
    }

    /// Publishes a level and what it means, unless that is in force already; returns whether it was not. One thread calls this: the monitor.
    pub(crate) fn publish_with(
        &self,
        level: DegradationLevel,
        mode: Mode,
        table: VerdictTable,
        gradual: GradualPolicy,
    ) -> bool {
        let old = self.policy.load_full();
        let (level, observed, gradual) = match mode {
            Mode::Enforce => (level, None, gradual),
            Mode::Observe => (DegradationLevel::Normal, Some(level), GradualPolicy::default()),
        };
        let (conflates, is_gradual) = (table.conflates(), gradual.is_any());
        let new = Policy { level, observed, epoch: old.epoch + 1, table, conflates, gradual, is_gradual };
        if (Policy { epoch: old.epoch, ..new }) == *old {
            return false;
        }
        let mut retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        retired.retain(|policy| Arc::strong_count(policy) > 1);
        retired.push(old);
        drop(retired);
        // Shut before the policy is out, open after it: no message gets in under a policy that
        // refuses it, but for those on their way through `offer` at that instant.
        if !new.accepts() {
            self.gate.bits.fetch_or(SHUT, Ordering::Relaxed);
        }
        self.policy.store(Arc::new(new));
        if new.accepts() {
            self.gate.bits.fetch_and(!SHUT, Ordering::Relaxed);
        }
        if observed == Some(DegradationLevel::CircuitBreak) {
            self.gate.bits.fetch_or(OBSERVED, Ordering::Relaxed);
        } else {
            self.gate.bits.fetch_and(!OBSERVED, Ordering::Relaxed);
        }
        true
    }

    /// What a lane may hold for a producer that waits, from now on.
    pub(crate) fn set_window(&self, messages: u64) {
        self.gate.window.store(messages, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn window(&self) -> u64 {
        self.gate.window.load(Ordering::Relaxed)
    }

    /// How much of a busy worker's work replay may be, from now on: less than 1.
    pub(crate) fn set_replay_share(&self, share: f64) {
        self.gate.replays_per_live.store((share / (1.0 - share)).to_bits(), Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn replays_per_live(&self) -> f64 {
        f64::from_bits(self.gate.replays_per_live.load(Ordering::Relaxed))
    }

    /// Shuts the gate for good.
    pub fn close(&self) {
        self.gate.bits.fetch_or(CLOSED, Ordering::Relaxed);
    }

    /// Shuts the gate for good, since a worker has failed. Its messages are finished (release) after this.
    pub fn fail(&self) {
        self.gate.bits.fetch_or(CLOSED | FAILED, Ordering::Relaxed);
    }

    /// Whether a worker has failed.
    pub fn has_failed(&self) -> bool {
        self.gate.bits.load(Ordering::Relaxed) & FAILED != 0
    }

    /// Whether offers are taken. Relaxed: the gate guards no data, it only has to be seen soon.
    #[inline]
    pub fn is_open(&self) -> bool {
        self.gate.bits.load(Ordering::Relaxed) & !OBSERVED == 0
    }

    /// Whether offers are taken, and would be if this were no dry run.
    #[inline]
    pub fn is_calm(&self) -> bool {
        self.gate.bits.load(Ordering::Relaxed) == 0
    }

    /// Whether the pipeline is ending.
    pub fn is_closed(&self) -> bool {
        self.gate.bits.load(Ordering::Relaxed) & CLOSED != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gate_follows_the_level_and_closing_outlives_it() {
        let published = Published::new(VerdictTable::default());
        assert!(published.is_open());
        published.publish(DegradationLevel::CircuitBreak);
        assert!(!published.is_open() && !published.is_closed());
        published.publish(DegradationLevel::Aggressive);
        assert!(published.is_open());
        published.close();
        published.publish(DegradationLevel::Normal);
        assert!(!published.is_open() && published.is_closed());
    }

    #[test]
    fn in_a_dry_run_the_gate_stays_open_and_the_policy_is_that_of_normal() {
        let published = Published::new(VerdictTable::default());
        let (level, table) = (DegradationLevel::CircuitBreak, VerdictTable::default());
        assert!(published.publish_with(level, Mode::Observe, table, GradualPolicy::default()));
        assert!(
            !published.publish_with(level, Mode::Observe, table, GradualPolicy::default()),
            "that is in force already"
        );
        assert!(published.is_open() && !published.is_calm());
        let policy = published.policy();
        assert_eq!((policy.level, policy.observed), (DegradationLevel::Normal, Some(level)));
        published.publish_with(level, Mode::Enforce, table, GradualPolicy::default());
        assert!(!published.is_open());
        published.publish_with(DegradationLevel::Soft, Mode::Observe, table, GradualPolicy::default());
        assert!(published.is_open() && published.is_calm());
    }

    #[test]
    fn a_reader_sees_the_newest_policy_and_never_drops_the_last_reference() {
        let published = Published::new(VerdictTable::default());
        let mut reader = published.reader();
        let first = Arc::downgrade(reader.load());
        for level in DegradationLevel::ALL {
            published.publish(level);
        }
        assert_eq!(reader.load().level, DegradationLevel::CircuitBreak);
        // NORMAL was in force already.
        assert_eq!(reader.load().epoch, 4);
        assert!(first.strong_count() > 0, "the reader freed a policy");
        published.publish(DegradationLevel::Normal);
        assert_eq!(first.strong_count(), 0, "retired policies that nobody holds are freed");
    }
}
