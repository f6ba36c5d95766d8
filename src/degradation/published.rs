//! How the policy reaches the workers, and how the gate is shut.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use crossbeam::utils::CachePadded;

use super::level::DegradationLevel;
use super::policy::{Policy, VerdictTable};

/// What a worker keeps: one relaxed load and a compare to see that nothing has changed.
pub type PolicyReader = arc_swap::Cache<Arc<ArcSwap<Policy>>, Arc<Policy>>;

/// The level is CIRCUIT_BREAK: offers are refused until it goes down.
const SHUT: u8 = 1;
/// The pipeline is ending: offers are refused for good.
const CLOSED: u8 = 2;
/// A worker has failed, so that messages were finished that no handler got.
const FAILED: u8 = 4;

/// The published policy and the intake gate that goes with it.
///
/// Written by the monitor (level) and by shutdown or a failing worker (closing); read by all.
#[derive(Debug)]
pub struct Published {
    policy: Arc<ArcSwap<Policy>>,
    /// `SHUT`, `CLOSED` and `FAILED` bits. A byte of its own, so that a producer's check is one load of a line
    /// that changes only when the gate does, and so that producers never free a policy.
    gate: CachePadded<AtomicU8>,
    /// Policies that workers may still hold: kept here so that it is never a worker that frees one.
    retired: Mutex<Vec<Arc<Policy>>>,
}

impl Published {
    /// At NORMAL, with the gate open.
    pub fn new(table: VerdictTable) -> Self {
        let policy = Policy { level: DegradationLevel::Normal, epoch: 0, table };
        Self {
            policy: Arc::new(ArcSwap::from_pointee(policy)),
            gate: CachePadded::new(AtomicU8::new(0)),
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
        let old = self.policy.load_full();
        let new = Policy { level, epoch: old.epoch + 1, table: old.table };
        let mut retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        retired.retain(|policy| Arc::strong_count(policy) > 1);
        retired.push(old);
        drop(retired);
        // Shut before the policy is out, open after it: no message gets in under a policy that
        // refuses it, but for those on their way through `offer` at that instant.
        if !new.accepts() {
            self.gate.fetch_or(SHUT, Ordering::Relaxed);
        }
        self.policy.store(Arc::new(new));
        if new.accepts() {
            self.gate.fetch_and(!SHUT, Ordering::Relaxed);
        }
    }

    /// Shuts the gate for good.
    pub fn close(&self) {
        self.gate.fetch_or(CLOSED, Ordering::Relaxed);
    }

    /// Shuts the gate for good, since a worker has failed. Its messages are finished (release) after this.
    pub fn fail(&self) {
        self.gate.fetch_or(CLOSED | FAILED, Ordering::Relaxed);
    }

    /// Whether a worker has failed.
    pub fn has_failed(&self) -> bool {
        self.gate.load(Ordering::Relaxed) & FAILED != 0
    }

    /// Whether offers are taken. Relaxed: the gate guards no data, it only has to be seen soon.
    #[inline]
    pub fn is_open(&self) -> bool {
        self.gate.load(Ordering::Relaxed) == 0
    }

    /// Whether the pipeline is ending.
    pub fn is_closed(&self) -> bool {
        self.gate.load(Ordering::Relaxed) & CLOSED != 0
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
    fn a_reader_sees_the_newest_policy_and_never_drops_the_last_reference() {
        let published = Published::new(VerdictTable::default());
        let mut reader = published.reader();
        let first = Arc::downgrade(reader.load());
        for level in DegradationLevel::ALL {
            published.publish(level);
        }
        assert_eq!(reader.load().level, DegradationLevel::CircuitBreak);
        assert_eq!(reader.load().epoch, 5);
        assert!(first.strong_count() > 0, "the reader freed a policy");
        published.publish(DegradationLevel::Normal);
        assert_eq!(first.strong_count(), 0, "retired policies that nobody holds are freed");
    }
}
