//! The monitor thread: samples lag and memory, moves the level, publishes it, exports metrics.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant};

use crate::degradation::published::Published;
use crate::degradation::{DegradationLevel, DegradationManager, Transition};
use crate::lane::Waker;
use crate::ledger::Counters;
use crate::signals::{LagSource, MemorySource};
use crate::source::{FeedCount, FeedCounters};
use crate::spill::Arm;
use crate::telemetry::{Exporter, Sample};
use crate::worker::panic_message;

/// Memory is sampled, and metrics are exported, no more often than this.
const SLOW_INTERVAL: Duration = Duration::from_millis(100);
/// Time constant of the workers' busy share.
const BUSY_WINDOW: Duration = Duration::from_secs(1);

/// What the monitor shares with the pipeline's handle. No lock in here is ever taken by a worker or a producer.
#[derive(Debug)]
pub(crate) struct MonitorShared {
    manager: Mutex<DegradationManager>,
    last: Mutex<Sample>,
    stop: AtomicBool,
}

impl MonitorShared {
    pub(crate) fn new(manager: DegradationManager) -> Self {
        Self { manager: Mutex::new(manager), last: Mutex::default(), stop: AtomicBool::new(false) }
    }

    pub(crate) fn manager(&self) -> MutexGuard<'_, DegradationManager> {
        self.manager.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn last(&self) -> Sample {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks the monitor, which runs on this thread, to take a last sample and end.
    pub(crate) fn stop(&self, monitor: &Thread) {
        self.stop.store(true, Ordering::Release);
        monitor.unpark();
    }
}

/// Called with every transition, on the monitor's thread.
pub(crate) type OnTransition = Box<dyn FnMut(&Transition) + Send>;

/// All that the monitor thread owns.
pub(crate) struct Monitor {
    pub(crate) shared: Arc<MonitorShared>,
    pub(crate) published: Arc<Published>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) lag: Box<dyn LagSource>,
    pub(crate) feeds: Vec<Arc<FeedCounters>>,
    pub(crate) memory: Box<dyn MemorySource>,
    pub(crate) exporter: Option<Exporter>,
    pub(crate) on_transition: Option<OnTransition>,
    /// Of all workers: one that waits may have to replay at a lower level.
    pub(crate) wakers: Vec<Arc<Waker>>,
    /// Of all spill logs: they make ready when it becomes likely that they are needed.
    pub(crate) arms: Vec<Arm>,
    pub(crate) interval: Duration,
    pub(crate) start: Instant,
    /// Transitions that were logged and told of.
    pub(crate) told: u64,
}

impl Monitor {
    /// As [`run`](Self::run). If that panics (in a signal source or a callback of the user's), the last level stays in force;
    /// but a gate that is shut then would never open again, and those who wait for it would wait for ever: so it
    /// is closed for good.
    pub(crate) fn run_guarded(self) {
        let published = Arc::clone(&self.published);
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.run())) {
            tracing::error!(cause = panic_message(&*panic), "the monitor panicked; the level is frozen");
            if !published.is_open() {
                published.close();
            }
            resume_unwind(panic);
        }
    }

    /// Samples until it is stopped, and once more then.
    fn run(mut self) {
        let mut sample =
            Sample { memory: self.memory.sample(), busy: vec![0.0; self.counters.workers.len()], ..Sample::default() };
        let mut slow_at = Instant::now() + SLOW_INTERVAL;
        let mut due = Some(Instant::now());
        loop {
            let stopping = self.shared.stop.load(Ordering::Acquire);
            let now = Instant::now();
            let slow = stopping || now >= slow_at;
            if slow {
                sample.memory = self.memory.sample();
                slow_at = now + SLOW_INTERVAL;
            }
            self.check(&mut sample);
            if slow && let Some(exporter) = &mut self.exporter {
                let manager = self.shared.manager();
                exporter.export(&self.counters, &manager, &sample);
            }
            if stopping {
                return;
            }
            // A late sample does not make the following ones early.
            due = due.and_then(|due| due.checked_add(self.interval)).map(|due| due.max(now));
            self.wait_until(due);
        }
    }

    /// Waits until a sample is due, or the monitor is stopped. `None`: never due.
    fn wait_until(&self, due: Option<Instant>) {
        while !self.shared.stop.load(Ordering::Acquire) {
            match due.map(|due| due.saturating_duration_since(Instant::now())) {
                None => std::thread::park(),
                Some(Duration::ZERO) => return,
                Some(left) => std::thread::park_timeout(left),
            }
        }
    }

    /// One sample: signals in, level out, and the level published where it has changed.
    fn check(&mut self, sample: &mut Sample) {
        let backlog: u64 = self.feeds.iter().map(|feed| feed.get(FeedCount::Backlog)).sum();
        sample.lag = self.lag.lag(self.counters.in_flight()).saturating_add(backlog);
        sample.count += 1;
        let weight = self.interval.div_duration_f64(BUSY_WINDOW).min(1.0);
        for (busy, worker) in sample.busy.iter_mut().zip(&self.counters.workers) {
            let is_busy = if worker.idle.load(Ordering::Relaxed) { 0.0 } else { 1.0 };
            *busy += (is_busy - *busy) * weight;
        }
        *self.shared.last.lock().unwrap_or_else(PoisonError::into_inner) = sample.clone();

        let mut manager = self.shared.manager();
        let level = manager.check_and_degrade(self.start.elapsed(), sample.lag, sample.memory.percent());
        // All that were not yet told of: a reset by hand is one, too.
        let untold = usize::try_from(manager.transition_count() - self.told).unwrap_or(usize::MAX);
        let transitions: Vec<Transition> = manager.history().rev().take(untold).rev().copied().collect();
        self.told = manager.transition_count();
        drop(manager);
        if level != self.published.policy().level {
            self.published.publish(level);
            self.arms.iter().for_each(|arm| arm(level > DegradationLevel::Normal));
            self.wakers.iter().for_each(|waker| waker.wake_if_parked());
        }
        for transition in &transitions {
            log(transition);
            if let Some(tell) = &mut self.on_transition {
                tell(transition);
            }
        }
    }
}

fn log(transition: &Transition) {
    let Transition { from, to, lag, memory_pct, cause, .. } = transition;
    if transition.is_degradation() {
        tracing::warn!(%from, %to, lag, memory_pct, %cause, "degraded");
    } else {
        tracing::info!(%from, %to, lag, memory_pct, %cause, "recovered");
    }
}
