//! What is watched while a pipeline runs, and what is done about it: handlers that panic, workers that stand still, a monitor that dies.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// What becomes of a worker that stands still, and how often what has panicked is made anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Supervision {
    /// A worker that has messages waiting and has finished none for so long is stalled: 30 s by default. Longer than a handler may take
    /// for 128 messages, as that is how often a worker says how far it has come. `None`: no worker ever is. Time in which the whole process was
    /// stopped does not count.
    pub stall_after: Option<Duration>,
    /// What is done then.
    pub on_stall: OnStall,
    /// How often a handler, and the monitor, is made anew, if the pipeline was started with
    /// [`start_restarting`](crate::PipelineBuilder::start_restarting).
    pub restarts: Restarts,
}

impl Default for Supervision {
    fn default() -> Self {
        Self { stall_after: Some(Duration::from_secs(30)), on_stall: OnStall::default(), restarts: Restarts::default() }
    }
}

/// What is done about a worker that stands still. A thread cannot be taken out of a handler that does not return, so it cannot be
/// restarted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(serde::Deserialize, serde::Serialize))]
#[cfg_attr(feature = "cli", serde(rename_all = "lowercase"))]
pub enum OnStall {
    /// The gate is shut for good, and the run ends as a failed one, within the
    /// [drain timeout](crate::PipelineBuilder::drain_timeout).
    #[default]
    Stop,
    /// It is logged, and shown in metrics and the status, until the worker goes on.
    Report,
}

/// How often something is made anew: what panics more often than this is given up, and the run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restarts {
    /// So many times: 5 by default.
    pub max: u32,
    /// Within this time: a minute by default.
    pub within: Duration,
}

impl Default for Restarts {
    fn default() -> Self {
        Self { max: 5, within: Duration::from_secs(60) }
    }
}

/// Keeps count of restarts.
#[derive(Debug)]
pub(crate) struct RestartBudget {
    restarts: Restarts,
    /// The times of the last ones.
    last: VecDeque<Instant>,
}

impl RestartBudget {
    pub(crate) fn new(restarts: Restarts) -> Self {
        Self { restarts, last: VecDeque::new() }
    }

    /// Whether there may be another restart now; if so, it counts.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let within = self.restarts.within;
        self.last.retain(|at| now.saturating_duration_since(*at) < within);
        let is_left = self.last.len() < self.restarts.max as usize;
        if is_left {
            self.last.push_back(now);
        }
        is_left
    }
}

/// Watches whether a worker gets on.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct StallWatch {
    /// What it had done at the last look.
    done: u64,
    /// For how long it has not got on.
    pub(crate) still: Duration,
    pub(crate) is_stalled: bool,
}

impl StallWatch {
    /// A look, so long after the last one: what the worker has done so far, and whether there is more to do. Returns whether the worker
    /// has just become stalled.
    pub(crate) fn look(&mut self, done: u64, has_more: bool, elapsed: Duration, after: Option<Duration>) -> bool {
        if done != self.done || !has_more {
            *self = Self { done, ..Self::default() };
            return false;
        }
        self.still += elapsed;
        let was_stalled = self.is_stalled;
        self.is_stalled = after.is_some_and(|after| self.still >= after);
        self.is_stalled && !was_stalled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_for_a_time_and_fills_up_again() {
        let mut budget = RestartBudget::new(Restarts { max: 2, within: Duration::from_secs(10) });
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!([0, 4, 9, 10, 11, 14].map(|s| budget.take(at(s))), [true, true, false, true, false, true]);
    }

    #[test]
    fn a_worker_is_stalled_when_it_has_work_and_does_none_of_it() {
        let mut watch = StallWatch::default();
        let second = Duration::from_secs(1);
        let mut look = |done, has_more| {
            let is_new = watch.look(done, has_more, second, Some(3 * second));
            (is_new, watch.is_stalled)
        };
        assert_eq!(look(5, true), (false, false));
        assert_eq!([look(5, true), look(5, true)], [(false, false); 2]);
        assert_eq!(look(5, true), (true, true), "for three seconds now");
        assert_eq!(look(5, true), (false, true), "told once");
        assert_eq!(look(6, true), (false, false), "it goes on");
        assert_eq!([look(6, false), look(6, false), look(6, false)], [(false, false); 3], "nothing to do");
        assert_eq!([look(6, true), look(6, true)], [(false, false); 2]);
        assert_eq!(look(6, true), (true, true));
    }

    #[test]
    fn without_a_limit_no_worker_is_stalled() {
        let mut watch = StallWatch::default();
        assert!(!(0..100).any(|_| watch.look(0, true, Duration::from_secs(1000), None)));
    }
}
