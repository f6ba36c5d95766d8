//! The monitor thread: samples lag and memory, moves the level, publishes it, exports metrics.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use crate::degradation::gradual::{BudgetClock, GradualPolicy};
use crate::degradation::published::Published;
use crate::degradation::{DegradationLevel, DegradationManager, Mode, Signal, SignalName, Transition};
use crate::lane::Waker;
use crate::ledger::Counters;
use crate::message::wall_clock_ns;
use crate::pipeline::{Limits, SAMPLE_INTERVAL_MIN, Settings};
use crate::signals::{LagSource, MemorySource, SignalSource};
use crate::source::{FeedCount, FeedCounters};
use crate::spill::Arm;
use crate::supervision::{OnStall, RestartBudget, StallWatch, Supervision};
use crate::symbols::Symbols;
use crate::telemetry::{Exporter, Sample};
use crate::worker::panic_message;

/// Memory is sampled, and metrics are exported, no more often than this.
const SLOW_INTERVAL: Duration = Duration::from_millis(100);
/// Time constant of the workers' busy share.
const BUSY_WINDOW: Duration = Duration::from_secs(1);

/// What the monitor shares with the pipeline's handles. No lock in here is ever taken by a worker or a producer.
#[derive(Debug)]
pub(crate) struct MonitorShared {
    manager: Mutex<DegradationManager>,
    last: Mutex<Sample>,
    settings: ArcSwap<Settings>,
    stop: AtomicBool,
    /// The monitor's thread, once there is one.
    thread: OnceLock<Thread>,
    /// By worker.
    pinned_cores: OnceLock<Vec<Option<usize>>>,
    /// Samples that were asked for, by number.
    asked: AtomicU64,
    /// The last one that was asked for and is done.
    served: Mutex<u64>,
    is_served: Condvar,
    is_dead: AtomicBool,
    has_ended: AtomicBool,
    /// Workers that stand still, by which the run is to end.
    stalls: Mutex<Vec<Stall>>,
    /// Changes of settings that were put in force, and those that were not.
    reloads: [AtomicU64; 2],
    /// How often the monitor went on after a panic.
    restarts: AtomicU64,
}

/// A worker, and for how long it has stood still.
pub(crate) type Stall = (usize, Duration);

impl MonitorShared {
    pub(crate) fn new(manager: DegradationManager, settings: Settings) -> Self {
        Self {
            manager: Mutex::new(manager),
            last: Mutex::default(),
            settings: ArcSwap::from_pointee(settings),
            stop: AtomicBool::new(false),
            thread: OnceLock::new(),
            pinned_cores: OnceLock::new(),
            asked: AtomicU64::new(0),
            served: Mutex::new(0),
            is_served: Condvar::new(),
            is_dead: AtomicBool::new(false),
            has_ended: AtomicBool::new(false),
            stalls: Mutex::default(),
            reloads: Default::default(),
            restarts: AtomicU64::new(0),
        }
    }

    pub(crate) fn manager(&self) -> MutexGuard<'_, DegradationManager> {
        lock(&self.manager)
    }

    pub(crate) fn last(&self) -> Sample {
        lock(&self.last).clone()
    }

    pub(crate) fn settings(&self) -> Arc<Settings> {
        self.settings.load_full()
    }

    /// In force with the next sample.
    pub(crate) fn set_settings(&self, settings: Settings) {
        self.settings.store(Arc::new(settings));
    }

    /// The threads are there.
    pub(crate) fn started(&self, monitor: &Thread, pinned_cores: Vec<Option<usize>>) {
        let _ = (self.thread.set(monitor.clone()), self.pinned_cores.set(pinned_cores));
    }

    pub(crate) fn pinned_core(&self, worker: usize) -> Option<usize> {
        self.pinned_cores.get().and_then(|cores| cores.get(worker).copied().flatten())
    }

    /// Has the monitor take a sample that begins now, and waits until it is done; returns whether it was in time.
    pub(crate) fn poke(&self, patience: Duration) -> bool {
        let number = self.asked.fetch_add(1, Ordering::AcqRel) + 1;
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
        let waits = |served: &mut u64| *served < number && !self.is_dead() && !self.has_ended();
        let served = self.is_served.wait_timeout_while(lock(&self.served), patience, waits);
        *served.unwrap_or_else(PoisonError::into_inner).0 >= number
    }

    /// The monitor has panicked for good.
    pub(crate) fn is_dead(&self) -> bool {
        self.is_dead.load(Ordering::Acquire)
    }

    /// The monitor's thread has ended, in good order or not.
    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Acquire)
    }

    /// Workers that stand still, since this was last asked.
    pub(crate) fn take_stalls(&self) -> Vec<Stall> {
        std::mem::take(&mut *lock(&self.stalls))
    }

    pub(crate) fn count_reload(&self, is_done: bool) {
        self.reloads[usize::from(!is_done)].fetch_add(1, Ordering::Relaxed);
    }

    /// Changes of settings that were put in force, those that were not, and restarts of the monitor.
    pub(crate) fn counts(&self) -> [u64; 3] {
        let [done, failed] = self.reloads.each_ref().map(|count| count.load(Ordering::Relaxed));
        [done, failed, self.restarts.load(Ordering::Relaxed)]
    }

    /// Asks the monitor, which runs on this thread, to take a last sample and end.
    pub(crate) fn stop(&self, monitor: &Thread) {
        self.stop.store(true, Ordering::Release);
        monitor.unpark();
    }

    fn serve(&self, number: u64) {
        *lock(&self.served) = number;
        self.is_served.notify_all();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
    /// Of all spill logs; 0 without.
    pub(crate) spill_budget_bytes: u64,
    /// Of the settings' signals, but for those that are known here.
    pub(crate) sources: Vec<(SignalName, Box<dyn SignalSource>)>,
    pub(crate) exporter: Option<Exporter>,
    pub(crate) on_transition: Option<OnTransition>,
    /// Of all workers: one that waits may have to replay at a lower level.
    pub(crate) wakers: Vec<Arc<Waker>>,
    /// Of all spill logs: they make ready when it becomes likely that they are needed.
    pub(crate) arms: Vec<Arm>,
    pub(crate) symbols: Arc<Symbols>,
    pub(crate) limits: Limits,
    pub(crate) supervision: Supervision,
    /// By worker.
    pub(crate) stalls: Vec<StallWatch>,
    /// By priority.
    pub(crate) budgets: [BudgetClock; 4],
    /// Goes on after a panic, as often as this allows; `None`: not at all.
    pub(crate) restarts: Option<RestartBudget>,
    /// What the shadow thresholds give.
    pub(crate) shadow: Option<DegradationManager>,
    /// The settings that are in force.
    pub(crate) settings: Arc<Settings>,
    pub(crate) start: Instant,
    /// Transitions that were logged and told of.
    pub(crate) told: u64,
}

impl Monitor {
    /// As [`run`](Self::run). If that panics (in a signal source or a callback of the user's), it goes on after a while, if it may. If not,
    /// the last level stays in force; but a gate that is shut then would never open again, and those who wait for it would wait for
    /// ever: so it is closed for good.
    pub(crate) fn run_guarded(mut self) {
        let (shared, published) = (Arc::clone(&self.shared), Arc::clone(&self.published));
        let ended = loop {
            let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.run())) else { break Ok(()) };
            let cause = panic_message(&*panic);
            if !self.restarts.as_mut().is_some_and(|budget| budget.take(Instant::now())) {
                tracing::error!(cause, "the monitor panicked; the level is frozen");
                break Err(panic);
            }
            tracing::error!(cause, "the monitor panicked; it goes on");
            shared.restarts.fetch_add(1, Ordering::Relaxed);
            self.wait_until(Instant::now().checked_add(SLOW_INTERVAL));
        };
        shared.is_dead.store(ended.is_err(), Ordering::Release);
        shared.has_ended.store(true, Ordering::Release);
        // So that nobody misses it between a look and a wait.
        drop(lock(&shared.served));
        shared.is_served.notify_all();
        if let Err(panic) = ended {
            if !published.is_open() {
                published.close();
            }
            resume_unwind(panic);
        }
    }

    /// Samples until it is stopped, and once more then.
    fn run(&mut self) {
        let workers = self.counters.workers.len();
        let mut sample = self.shared.last();
        sample.memory = self.memory.sample();
        (sample.busy, sample.stalled) = (vec![0.0; workers], vec![false; workers]);
        let mut last_slow = Instant::now();
        let mut due = last_slow;
        loop {
            let asked = self.shared.asked.load(Ordering::Acquire);
            let stopping = self.shared.stop.load(Ordering::Acquire);
            let now = Instant::now();
            let slow = stopping || now >= last_slow + SLOW_INTERVAL;
            if slow {
                sample.memory = self.memory.sample();
                // Time in which nobody ran is nobody's fault.
                let elapsed = (now - last_slow).min(SLOW_INTERVAL.max(self.settings.sample_interval).saturating_mul(2));
                self.look_for_stalls(&mut sample, elapsed);
                last_slow = now;
            }
            self.check(&mut sample);
            if slow && let Some(exporter) = &mut self.exporter {
                let manager = self.shared.manager();
                exporter.export(&self.counters, &manager, &sample, self.shared.counts());
                if let (Some(shadow), Some(settings)) = (&self.shadow, &self.settings.shadow) {
                    exporter.export_shadow(shadow, &settings.component);
                }
            }
            self.shared.serve(asked);
            if stopping {
                return;
            }
            // Neither a late sample nor one that was asked for makes the following ones early, or late.
            let next = due.min(now).checked_add(self.settings.sample_interval.max(SAMPLE_INTERVAL_MIN));
            self.wait_until(next.map(|next| next.max(now)));
            due = next.map_or_else(Instant::now, |next| next.max(now));
        }
    }

    /// Waits until a sample is due or asked for, or the monitor is stopped. `None`: never due.
    fn wait_until(&self, due: Option<Instant>) {
        let is_asked = || self.shared.asked.load(Ordering::Acquire) > *lock(&self.shared.served);
        while !self.shared.stop.load(Ordering::Acquire) && !is_asked() {
            match due.map(|due| due.saturating_duration_since(Instant::now())) {
                None => std::thread::park(),
                Some(Duration::ZERO) => return,
                Some(left) => std::thread::park_timeout(left),
            }
        }
    }

    /// One sample: signals in, level out, and the level published where it, or what it means, has changed.
    fn check(&mut self, sample: &mut Sample) {
        let settings = self.shared.settings();
        if !Arc::ptr_eq(&settings, &self.settings) {
            self.apply(settings);
        }
        let backlog: u64 = self.feeds.iter().map(|feed| feed.get(FeedCount::Backlog)).sum();
        sample.lag = self.lag.lag(self.counters.in_flight()).saturating_add(backlog);
        sample.count += 1;
        sample.at = self.start.elapsed();
        let weight = self.settings.sample_interval.div_duration_f64(BUSY_WINDOW).min(1.0);
        for (busy, worker) in sample.busy.iter_mut().zip(&self.counters.workers) {
            let is_busy = if worker.idle.load(Ordering::Relaxed) { 0.0 } else { 1.0 };
            *busy += (is_busy - *busy) * weight;
        }
        let (lag, memory) = (sample.lag, sample.memory.percent());
        sample.age_ns = self.counters.age_ns(wall_clock_ns());
        let readings = self.readings(sample.age_ns);
        sample.observing = self.settings.mode == Mode::Observe;
        sample.shadow =
            self.shadow.as_mut().map(|shadow| shadow.check_all(sample.at, lag, memory, readings.iter().copied()));

        let mut manager = self.shared.manager();
        let level = manager.check_all(sample.at, lag, memory, readings);
        // All that were not yet told of: a reset by hand is one, too.
        let untold = usize::try_from(manager.transition_count() - self.told).unwrap_or(usize::MAX);
        let transitions: Vec<Transition> = manager.history().rev().take(untold).rev().copied().collect();
        self.told = manager.transition_count();
        drop(manager);
        let gradual = GradualPolicy::at(&self.settings.gradual, lag, &self.published.policy().gradual);
        sample.shed_parts = gradual.shed_parts;
        *lock(&self.shared.last) = sample.clone();
        self.refill(sample.at);
        if self.published.publish_with(level, self.settings.mode, self.settings.verdicts, gradual) {
            let in_force = self.published.policy().level;
            self.arms.iter().for_each(|arm| arm(in_force > DegradationLevel::Normal));
            self.wakers.iter().for_each(|waker| waker.wake_if_parked());
        }
        for transition in &transitions {
            log(transition, self.settings.mode);
            if let Some(tell) = &mut self.on_transition {
                tell(transition);
            }
        }
    }

    /// Gives workers what the budgets come to since the last time.
    fn refill(&mut self, now: Duration) {
        for (i, (gradual, clock)) in self.settings.gradual.iter().zip(&mut self.budgets).enumerate() {
            match &gradual.budget {
                Some(budget) => self.counters.refill(i, clock.due(now, budget), budget.burst),
                // One that comes again is a new one.
                None => *clock = BudgetClock::default(),
            }
        }
    }

    /// A reading of each of the settings' signals, in their order.
    fn readings(&mut self, age_ns: u64) -> Vec<Option<f64>> {
        let sources = &mut self.sources;
        let (spilled, budget) = (self.counters.spill_bytes() as f64, self.spill_budget_bytes as f64);
        let reading = |signal: &Signal| {
            match signal.name.as_str() {
                SignalName::AGE => return Some(age_ns as f64 / 1e6),
                SignalName::SPILL_DISK => return (budget > 0.0).then_some(spilled / budget * 100.0),
                _ => {}
            }
            let source = sources.iter_mut().find(|(name, _)| *name == signal.name);
            source.and_then(|(_, source)| source.sample())
        };
        self.settings.signals.iter().map(reading).collect()
    }

    /// Puts settings in force that were checked before.
    fn apply(&mut self, settings: Arc<Settings>) {
        let old = std::mem::replace(&mut self.settings, settings);
        let new = &self.settings;
        let mut manager = self.shared.manager();
        if let Err(error) = manager.set_thresholds(new.thresholds) {
            tracing::error!(%error, "thresholds that were not checked");
        }
        if let Err(error) = manager.set_signals(new.signals.clone()) {
            tracing::error!(%error, "signals that were not checked");
        }
        if new.tiers != old.tiers {
            manager.set_tiers(new.tiers.clone());
            self.symbols.set_tiers(new.tiers.clone());
        }
        drop(manager);
        self.lag.set_thresholds(&new.thresholds);
        self.published.set_window(new.window(&self.limits));
        self.published.set_replay_share(new.replay_share);
        let component = |settings: &Settings| settings.shadow.as_ref().map(|shadow| shadow.component.clone());
        if component(&old) != component(new) {
            self.shadow = None;
        }
        self.shadow = new.shadow.as_ref().and_then(|shadow| shadow.evaluate(&new.signals, self.shadow.take()));
    }

    /// Looks which workers stand still.
    fn look_for_stalls(&mut self, sample: &mut Sample, elapsed: Duration) {
        let Supervision { stall_after, on_stall, .. } = self.supervision;
        for (worker, watch) in self.stalls.iter_mut().enumerate() {
            let (lanes, counters) = (&self.counters.lanes[worker], &self.counters.workers[worker]);
            let finished: u64 = lanes.iter().map(|lane| lane.finished.load(Ordering::Relaxed)).sum();
            let has_more = lanes.iter().any(|lane| lane.in_flight() > 0);
            if watch.look(finished + counters.replayed(), has_more, elapsed, stall_after) {
                let still = watch.still;
                tracing::error!(worker, ?still, "the worker stands still: it has messages waiting, and finishes none");
                if on_stall == OnStall::Stop {
                    lock(&self.shared.stalls).push((worker, still));
                    self.published.close();
                }
            }
            sample.stalled[worker] = watch.is_stalled;
        }
    }
}

fn log(transition: &Transition, mode: Mode) {
    let observed = mode == Mode::Observe;
    let Transition { from, to, lag, memory_pct, cause, .. } = transition;
    if transition.is_degradation() {
        tracing::warn!(%from, %to, lag, memory_pct, %cause, observed, "degraded");
    } else {
        tracing::info!(%from, %to, lag, memory_pct, %cause, observed, "recovered");
    }
}
