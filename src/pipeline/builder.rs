//! Configuration and start of a pipeline.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use core_affinity::CoreId;
use crossbeam::channel::{Sender as ChannelSender, bounded};
use crossbeam::utils::CachePadded;

use super::control::Control;
use super::error::StartError;
use super::footprint::Footprint;
use super::lanes::Lanes;
use super::pinning::Pinning;
use super::settings::{Limits, SAMPLE_INTERVAL_MIN, Settings, Shadow};
use super::spilling::{OnRecovery, Spilling};
use super::{Pipeline, WorkerNews};
use crate::degradation::published::Published;
use crate::degradation::{DegradationManager, DegradationThresholds, Mode, Transition, VerdictTable};
use crate::handler::{BookCounters, Handler};
use crate::holes::LastHoles;
use crate::ingress::{Ingress, IngressParts};
use crate::lane::{WaitStrategy, Waker};
use crate::ledger::{Counters, Tally, WorkerCounters};
use crate::message::Message;
use crate::monitor::{Monitor, MonitorShared, OnTransition};
use crate::settled::Settled;
use crate::signals::{LagSource, LaneLag, MemorySource, ProcessMemory};
use crate::source::FeedCounters;
use crate::spill::{SpillConfig, SpillError};
use crate::supervision::{RestartBudget, StallWatch, Supervision};
use crate::symbols::Symbols;
use crate::telemetry::{Exported, Exporter, Telemetry};
use crate::worker::WorkerParts;

/// Settings of a [`Pipeline`], and its start.
pub struct PipelineBuilder {
    workers: usize,
    producers: usize,
    lane_capacity: Option<usize>,
    prefault: bool,
    thresholds: DegradationThresholds,
    table: VerdictTable,
    symbols: Arc<Symbols>,
    wait: WaitStrategy,
    pinning: Pinning,
    lag: Box<dyn LagSource>,
    exported: Exported,
    memory: Box<dyn MemorySource>,
    sample_interval: Duration,
    drain_timeout: Duration,
    mode: Mode,
    shadow: Option<Shadow>,
    supervision: Supervision,
    telemetry: Option<Telemetry>,
    on_transition: Option<OnTransition>,
    spill: Option<SpillConfig>,
    on_recovery: Option<OnRecovery>,
}

impl Default for PipelineBuilder {
    fn default() -> Self {
        Self {
            workers: 1,
            producers: 1,
            lane_capacity: None,
            prefault: false,
            thresholds: DegradationThresholds::default(),
            table: VerdictTable::default(),
            symbols: Arc::default(),
            wait: WaitStrategy::default(),
            pinning: Pinning::default(),
            lag: Box::new(LaneLag),
            exported: Exported::default(),
            memory: Box::new(ProcessMemory::new()),
            sample_interval: Duration::from_millis(10),
            drain_timeout: Duration::from_secs(30),
            mode: Mode::default(),
            shadow: None,
            supervision: Supervision::default(),
            telemetry: None,
            on_transition: None,
            spill: None,
            on_recovery: None,
        }
    }
}

impl std::fmt::Debug for PipelineBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PipelineBuilder").field("workers", &self.workers).finish_non_exhaustive()
    }
}

/// What replay may take where there is nothing to replay.
const REPLAY_SHARE: f64 = 0.5;
/// Blocks are numbered with 32 bits.
const LANE_CAPACITY_MAX: usize = 1 << 38;

impl PipelineBuilder {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Worker threads, 1 by default. A symbol always meets the same one.
    #[must_use]
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self
    }

    /// Producer threads, 1 by default: how many times [`Pipeline::ingress`] answers. Each has a lane to each worker.
    #[must_use]
    pub fn producers(mut self, producers: usize) -> Self {
        self.producers = producers;
        self
    }

    /// Messages that a lane holds, at least. By default just enough for `lag_circuit_break`, and a twentieth more.
    ///
    /// A lane's memory is `(⌈capacity / 256⌉ + 1) × 256 × (size_of::<M>() + 4)` bytes of address space, and a little for each
    /// block; [`footprint`](Self::footprint) adds up all that a pipeline takes. It is touched, and so
    /// becomes real, as far as the lane has ever been filled; or at start, with [`prefault`](Self::prefault).
    #[must_use]
    pub fn lane_capacity(mut self, messages: usize) -> Self {
        self.lane_capacity = Some(messages);
        self
    }

    /// Whether to touch the lanes' memory at start, so that the first overload takes no page faults. Off by default.
    #[must_use]
    pub fn prefault(mut self, prefault: bool) -> Self {
        self.prefault = prefault;
        self
    }

    /// When to degrade and recover.
    #[must_use]
    pub fn thresholds(mut self, thresholds: DegradationThresholds) -> Self {
        self.thresholds = thresholds;
        self
    }

    /// What each level does to each priority. A verdict to spill sheds where there is no [spill log](Self::spill).
    #[must_use]
    pub fn verdicts(mut self, table: VerdictTable) -> Self {
        self.table = table;
        self
    }

    /// The symbols: made by the caller, who interns names into it, before the start or later.
    #[must_use]
    pub fn symbols(mut self, symbols: Arc<Symbols>) -> Self {
        self.symbols = symbols;
        self
    }

    /// How workers wait for messages.
    #[must_use]
    pub fn wait_strategy(mut self, wait: WaitStrategy) -> Self {
        self.wait = wait;
        self
    }

    /// Which cores workers are pinned to; none by default.
    #[must_use]
    pub fn pinning(mut self, pinning: Pinning) -> Self {
        self.pinning = pinning;
        self
    }

    /// A feed's counts, by its name: they become metrics, and its [backlog](crate::source::FeedCount::Backlog) counts as lag, beside what
    /// the [lag source](Self::lag_source) says.
    #[must_use]
    pub fn feed(mut self, name: impl Into<String>, counters: Arc<FeedCounters>) -> Self {
        self.exported.feeds.push((name.into(), counters));
        self
    }

    /// What a [book handler](crate::BookHandler) counts becomes metrics; those of several are added up.
    #[must_use]
    pub fn books(mut self, counters: Arc<BookCounters>) -> Self {
        self.exported.books.push(counters);
        self
    }

    /// What a [Kafka source](crate::kafka::KafkaSource), and a sink if there is one, count becomes metrics, and so does how many
    /// instances there should be, by the [rules](crate::kafka::SCALING_RULES): of `instances` that there are, as long as nobody tells how many
    /// members the group has. The source's [lag](crate::kafka::KafkaSource::lag) is for [`lag_source`](Self::lag_source).
    #[cfg(feature = "kafka")]
    #[must_use]
    pub fn kafka(
        mut self,
        source: Arc<crate::kafka::KafkaCounters>,
        sink: Option<Arc<crate::kafka::SinkCounters>>,
        instances: u64,
    ) -> Self {
        self.exported.kafka = Some(crate::telemetry::Kafka { source, sink, instances });
        self
    }

    /// Where the lag comes from; by default from the lanes alone.
    #[must_use]
    pub fn lag_source(mut self, source: impl LagSource) -> Self {
        self.lag = Box::new(source);
        self
    }

    /// Where memory comes from; by default [`ProcessMemory`].
    #[must_use]
    pub fn memory_source(mut self, source: impl MemorySource) -> Self {
        self.memory = Box::new(source);
        self
    }

    /// How often the monitor samples the lag: 10 ms by default, 100 µs at least. Memory is sampled every 100 ms at most.
    #[must_use]
    pub fn sample_interval(mut self, interval: Duration) -> Self {
        self.sample_interval = interval;
        self
    }

    /// How long [`Pipeline::shutdown`] waits for producers and lanes, 30 s by default.
    #[must_use]
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.drain_timeout = timeout;
        self
    }

    /// Whether levels have any effect; [`Mode::Observe`] is a dry run.
    #[must_use]
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// Thresholds to try out: their level is exported beside the real one, and has no effect. None by default.
    #[must_use]
    pub fn shadow(mut self, shadow: Shadow) -> Self {
        self.shadow = Some(shadow);
        self
    }

    /// What is done about workers that stand still, and how often a handler that has panicked is made anew.
    #[must_use]
    pub fn supervision(mut self, supervision: Supervision) -> Self {
        self.supervision = supervision;
        self
    }

    /// Where metrics go; nowhere by default.
    #[must_use]
    pub fn telemetry(mut self, telemetry: Telemetry) -> Self {
        self.telemetry = Some(telemetry);
        self
    }

    /// Called with every transition, on the monitor's thread: keep it short.
    #[must_use]
    pub fn on_transition(mut self, tell: impl FnMut(&Transition) + Send + 'static) -> Self {
        self.on_transition = Some(Box::new(tell));
        self
    }

    /// Where to spill what a verdict says to spill; without it, that is shed. What an earlier process left there is replayed.
    #[must_use]
    pub fn spill(mut self, config: SpillConfig) -> Self {
        self.exported.spill_budget_bytes = config.budget_bytes;
        self.spill = Some(config);
        self
    }

    /// Called with the bytes read so far, and all there are to read, while [`start`](Self::start) reads what an earlier process
    /// has left in the spill log.
    #[must_use]
    pub fn on_recovery(mut self, tell: impl FnMut(u64, u64) + 'static) -> Self {
        self.on_recovery = Some(Box::new(tell));
        self
    }

    /// How much memory a pipeline with these settings takes, for messages of this type.
    ///
    /// ```
    /// use plimsoll::{PipelineBuilder, Tick};
    ///
    /// let footprint = PipelineBuilder::new().workers(2).footprint::<Tick>()?;
    /// assert!(footprint.heap() < 1 << 30, "{footprint:?}");
    /// # Ok::<(), plimsoll::StartError>(())
    /// ```
    ///
    /// # Errors
    /// When the settings are not valid; see [`StartError`].
    pub fn footprint<M: Message>(&self) -> Result<Footprint, StartError> {
        let capacity = self.checked_capacity()?;
        if let Some(config) = &self.spill {
            config.check(self.workers).map_err(SpillError::Config)?;
        }
        Ok(Footprint::of::<M>(self.workers, self.producers, capacity, &self.symbols, self.spill.as_ref()))
    }

    /// Starts the threads. `make_handler` is called once for each worker, with its number. A handler that panics ends the run: see
    /// [`Failure::WorkerPanicked`](crate::Failure::WorkerPanicked).
    ///
    /// # Errors
    /// See [`StartError`]; nothing runs then.
    pub fn start<M: Message, H: Handler<M>>(
        self,
        make_handler: impl FnMut(usize) -> H,
    ) -> Result<Pipeline<M, H>, StartError> {
        self.start_with(make_handler, None)
    }

    /// The same, but for what becomes of a handler that panics, and of the monitor: it is made anew, as often as
    /// [`Supervision::restarts`] allows, and only then does the run end.
    ///
    /// The message in hand is shed as [`ShedReason::WorkerFailed`](crate::ShedReason::WorkerFailed), or lost from the spill log if it came from
    /// there, and counted; what the old handler had is gone with it, and the new one is told of no hole but that message. Where messages are acknowledged when they
    /// are finished, those that the old handler had finished are. [`WorkerLedger::restarts`](crate::WorkerLedger::restarts) counts.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_restarting<M: Message, H: Handler<M>>(
        self,
        make_handler: impl Fn(usize) -> H + Send + Sync + 'static,
    ) -> Result<Pipeline<M, H>, StartError> {
        let make_handler = Arc::new(make_handler);
        let again = Arc::clone(&make_handler);
        self.start_with(move |worker| make_handler(worker), Some(again))
    }

    fn start_with<M: Message, H: Handler<M>>(
        self,
        mut make_handler: impl FnMut(usize) -> H,
        again: Option<Arc<MakeAgain<H>>>,
    ) -> Result<Pipeline<M, H>, StartError> {
        let capacity = self.checked_capacity()?;
        let limits = self.limits(capacity);
        let settings = self.settings();
        settings.check(&limits)?;
        let manager = DegradationManager::new(self.thresholds, settings.tiers.clone())?;
        let start = Instant::now();
        let published = Arc::new(Published::new(self.table));
        published.set_window(settings.window(&limits));
        published.set_replay_share(settings.replay_share);
        published.publish_with(manager.level(), settings.mode, settings.verdicts);

        let wakers: Vec<_> = (0..self.workers).map(|_| Arc::new(Waker::new(self.wait))).collect();
        let tallies =
            || -> Vec<_> { (0..self.producers).map(|_| Arc::new(CachePadded::new(Tally::default()))).collect() };
        let (offered, redelivered) = (tallies(), tallies());
        let workers: Vec<Arc<CachePadded<WorkerCounters>>> = (0..self.workers).map(|_| Arc::default()).collect();
        let spilling = match &self.spill {
            Some(config) => Spilling::open(config, self.on_recovery, &self.symbols, &wakers, &workers)?,
            None => Spilling::none(self.workers),
        };
        let mut lanes = Lanes::new(self.workers);
        let last_holes = LastHoles::new(self.workers);
        let mut ingresses = Vec::with_capacity(self.producers);
        for (offered, redelivered) in offered.iter().zip(&redelivered) {
            let senders = lanes.open_to_all(&wakers, capacity, self.prefault)?;
            let ends = senders.iter().zip(&spilling.overflows);
            let settled =
                ends.map(|(sender, overflow)| Settled::new(Arc::clone(sender.counters()), overflow.progress()));
            let parts = IngressParts {
                published: Arc::clone(&published),
                symbols: Arc::clone(&self.symbols),
                offered: Arc::clone(offered),
                redelivered: Arc::clone(redelivered),
                last_holes: last_holes.clone(),
                settled: settled.collect(),
            };
            ingresses.push(Ingress::new(senders, parts));
        }
        ingresses.reverse(); // handed out from the end
        let counters =
            Arc::new(Counters { workers, lanes: lanes.counters, offered, redelivered, spill: spilling.stats });

        let shared = Arc::new(MonitorShared::new(manager, settings));
        let (tell, news) = bounded(2 * self.workers);
        let cores = match self.pinning {
            // It answers for the calling thread, so it is asked here, before any thread is pinned.
            Pinning::Auto => core_affinity::get_core_ids().unwrap_or_default(),
            Pinning::Off | Pinning::Cores(_) => Vec::new(),
        };
        let plan = self.pinning.plan(self.workers, &cores);
        let control = Control {
            shared: Arc::clone(&shared),
            published: Arc::clone(&published),
            counters: Arc::clone(&counters),
            symbols: Arc::clone(&self.symbols),
            start,
            limits,
        };
        let mut pipeline = Pipeline {
            ingresses,
            news,
            workers: Vec::with_capacity(self.workers),
            monitor: None,
            control,
            pinned: Vec::with_capacity(self.workers),
            drain_timeout: self.drain_timeout,
            recovery: spilling.report,
        };
        let ends = lanes.receivers.into_iter().zip(wakers.iter().cloned()).zip(spilling.overflows);
        for (id, ((receivers, waker), overflow)) in ends.enumerate() {
            let parts = WorkerParts {
                id,
                receivers,
                symbols: Arc::clone(&self.symbols),
                published: Arc::clone(&published),
                counters: Arc::clone(&counters.workers[id]),
                overflow,
                last_holes: last_holes.clone(),
                waker,
                wait: self.wait,
            };
            let restart = again.clone().map(|again| (again, RestartBudget::new(self.supervision.restarts)));
            pipeline.spawn_worker(parts, (make_handler(id), restart), plan[id], tell.clone())?;
        }
        let settings = shared.settings();
        let monitor = Monitor {
            shared: Arc::clone(&shared),
            published,
            feeds: self.exported.feeds.iter().map(|(_, counters)| Arc::clone(counters)).collect(),
            exporter: self.telemetry.map(|telemetry| Exporter::new(telemetry, &counters, self.exported)),
            counters,
            lag: self.lag,
            memory: self.memory,
            on_transition: self.on_transition,
            wakers,
            arms: spilling.arms,
            symbols: self.symbols,
            limits,
            supervision: self.supervision,
            stalls: vec![StallWatch::default(); self.workers],
            restarts: again.is_some().then(|| RestartBudget::new(self.supervision.restarts)),
            shadow: settings.shadow.as_ref().and_then(|shadow| shadow.evaluate(None)),
            settings,
            start,
            told: 0,
        };
        let monitor = spawn("plimsoll-mon", move || monitor.run_guarded())?;
        shared.started(monitor.thread(), pipeline.pinned.clone());
        pipeline.monitor = Some(monitor);
        Ok(pipeline)
    }

    /// The lanes' capacity, after all that can be said against the settings.
    fn checked_capacity(&self) -> Result<usize, StartError> {
        let in_range = |setting, value: usize, max: usize, expected| {
            let ok = (1..=max).contains(&value);
            if ok { Ok(()) } else { Err(StartError::OutOfRange { setting, value, expected }) }
        };
        in_range("workers", self.workers, 1024, "1 to 1024")?;
        in_range("producers", self.producers, 1024, "1 to 1024")?;
        self.thresholds.validated()?;
        let lag_circuit_break = self.thresholds.lag_circuit_break;
        let enough = || {
            let enough = lag_circuit_break.saturating_add(lag_circuit_break / 20).saturating_add(1);
            usize::try_from(enough).unwrap_or(usize::MAX)
        };
        let capacity = self.lane_capacity.unwrap_or_else(enough);
        in_range("lane_capacity", capacity, LANE_CAPACITY_MAX, "1 to 2³⁸ messages")?;
        if capacity as u64 <= lag_circuit_break && !self.lag.has_backlog() {
            return Err(StartError::LaneTooSmall { lane_capacity: capacity, lag_circuit_break });
        }
        Ok(capacity)
    }

    fn limits(&self, lane_capacity: usize) -> Limits {
        let lanes = self.workers * self.producers;
        Limits { lanes, lane_capacity, has_backlog: self.lag.has_backlog() }
    }

    /// What can be changed later.
    fn settings(&self) -> Settings {
        Settings {
            thresholds: self.thresholds,
            verdicts: self.table,
            tiers: (*self.symbols.tiers()).clone(),
            mode: self.mode,
            sample_interval: self.sample_interval.max(SAMPLE_INTERVAL_MIN),
            replay_share: self.spill.as_ref().map_or(REPLAY_SHARE, |config| config.replay_share),
            shadow: self.shadow.clone(),
        }
    }
}

impl<M: Message, H: Handler<M>> Pipeline<M, H> {
    fn spawn_worker(
        &mut self,
        parts: WorkerParts<M>,
        (mut handler, mut restart): (H, Option<Restart<H>>),
        core: Option<CoreId>,
        news: ChannelSender<WorkerNews<H>>,
    ) -> Result<(), StartError> {
        let worker = parts.id;
        let (pinned, was_pinned) = bounded(1);
        let thread = spawn(&format!("plimsoll-{worker}"), move || {
            let core = core.filter(|core| {
                let done = core_affinity::set_for_current(*core);
                if !done {
                    tracing::warn!(worker, core = core.id, "not pinned: no such core, or the system denies it");
                }
                done
            });
            let _ = pinned.send(core.map(|core| core.id));
            // Sending fails when the pipeline was dropped: then nobody wants to know.
            let mut failed = false;
            let renew = |handler: &mut H, cause: &str| {
                let new = restart.as_mut().and_then(|restart| make_again(restart, worker));
                let Some(new) = new else { return false };
                tracing::error!(worker, cause, "the handler panicked, and was made anew");
                // Half-changed as it is, it may well panic again.
                let _ = catch_unwind(AssertUnwindSafe(|| *handler = new));
                true
            };
            parts.run(&mut handler, renew, |cause| {
                failed = true;
                tracing::error!(worker, %cause, "the handler panicked");
                let _ = news.send(WorkerNews::Failed { worker, cause });
            });
            let handler = if failed {
                // Half-changed as it is, it may well panic again.
                let _ = catch_unwind(AssertUnwindSafe(|| drop(handler)));
                None
            } else {
                Some(handler)
            };
            let _ = news.send(WorkerNews::Ended { worker, handler });
        })?;
        self.workers.push(thread);
        self.pinned.push(was_pinned.recv().unwrap_or_default());
        Ok(())
    }
}

/// Makes a handler another time.
type MakeAgain<H> = dyn Fn(usize) -> H + Send + Sync;
type Restart<H> = (Arc<MakeAgain<H>>, RestartBudget);

/// A new handler, if there may be one, and if it can be made.
fn make_again<H>((make, budget): &mut Restart<H>, worker: usize) -> Option<H> {
    let may = budget.take(Instant::now());
    may.then(|| catch_unwind(AssertUnwindSafe(|| make(worker))).ok()).flatten()
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<std::thread::JoinHandle<()>, StartError> {
    let builder = std::thread::Builder::new().name(name.to_owned());
    builder.spawn(body).map_err(|error| StartError::Thread { thread: name.to_owned(), error })
}
