//! Configuration of a pipeline.

use std::sync::Arc;
use std::time::Duration;

use super::error::StartError;
use super::footprint::Footprint;
use super::pinning::Pinning;
use super::settings::{Limits, SAMPLE_INTERVAL_MIN, Settings, Shadow};
use super::spilling::OnRecovery;
use crate::degradation::{DegradationThresholds, Gradual, Mode, Signal, SignalName, Transition, VerdictTable};
use crate::handler::BookCounters;
use crate::lane::WaitStrategy;
use crate::message::Message;
use crate::monitor::OnTransition;
use crate::signals::{LagSource, LaneLag, MemorySource, ProcessMemory, SignalSource};
use crate::source::FeedCounters;
use crate::spill::{SpillConfig, SpillError};
use crate::supervision::Supervision;
use crate::symbols::{MessagePriority, Symbols};
use crate::telemetry::{Exported, Telemetry};

/// Settings of a [`Pipeline`](crate::Pipeline), and its start.
pub struct PipelineBuilder {
    pub(super) workers: usize,
    pub(super) producers: usize,
    pub(super) lane_capacity: Option<usize>,
    pub(super) prefault: bool,
    pub(super) thresholds: DegradationThresholds,
    pub(super) table: VerdictTable,
    pub(super) symbols: Arc<Symbols>,
    pub(super) wait: WaitStrategy,
    pub(super) pinning: Pinning,
    pub(super) lag: Box<dyn LagSource>,
    pub(super) exported: Exported,
    pub(super) memory: Box<dyn MemorySource>,
    pub(super) gradual: [Gradual; 4],
    pub(super) signals: Vec<Signal>,
    pub(super) sources: Vec<(SignalName, Box<dyn SignalSource>)>,
    pub(super) sample_interval: Duration,
    pub(super) drain_timeout: Duration,
    pub(super) mode: Mode,
    pub(super) shadow: Option<Shadow>,
    pub(super) supervision: Supervision,
    pub(super) telemetry: Option<Telemetry>,
    pub(super) on_transition: Option<OnTransition>,
    pub(super) spill: Option<SpillConfig>,
    pub(super) on_recovery: Option<OnRecovery>,
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
            gradual: [Gradual::default(); 4],
            signals: Vec::new(),
            sources: Vec::new(),
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

    /// Producer threads, 1 by default: how many times [`Pipeline::ingress`](crate::Pipeline::ingress) answers. Each has a lane to each worker.
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

    /// How long [`Pipeline::shutdown`](crate::Pipeline::shutdown) waits for producers and lanes, 30 s by default.
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

    /// What a priority gets beside its row of the verdict table: a share of its symbols that is shed by lag, and a budget.
    #[must_use]
    pub fn gradual(mut self, priority: MessagePriority, gradual: Gradual) -> Self {
        self.gradual[priority.index()] = gradual;
        self
    }

    /// A signal beside lag and memory, and where its value comes from: downstream write latency, disk fullness, an error rate. The level is the highest that
    /// any signal asks for.
    #[must_use]
    pub fn signal(mut self, signal: Signal, source: impl SignalSource) -> Self {
        self.sources.push((signal.name, Box::new(source)));
        self.signals.push(signal);
        self
    }

    /// A signal that the pipeline measures by itself: [`Signal::age`] or [`Signal::spill_disk`].
    #[must_use]
    pub fn own_signal(mut self, signal: Signal) -> Self {
        self.signals.push(signal);
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
        Ok(Footprint::of::<M>(
            self.workers,
            self.producers,
            capacity,
            &self.symbols,
            self.table.conflates(),
            self.spill.as_ref(),
        ))
    }

    /// The lanes' capacity, after all that can be said against the settings.
    pub(super) fn checked_capacity(&self) -> Result<usize, StartError> {
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

    pub(super) fn limits(&self, lane_capacity: usize) -> Limits {
        let lanes = self.workers * self.producers;
        let signals = self.sources.iter().map(|(name, _)| *name).collect();
        Limits { lanes, lane_capacity, has_backlog: self.lag.has_backlog(), signals }
    }

    /// What can be changed later.
    pub(super) fn settings(&self) -> Settings {
        Settings {
            thresholds: self.thresholds,
            signals: self.signals.clone(),
            verdicts: self.table,
            gradual: self.gradual,
            tiers: (*self.symbols.tiers()).clone(),
            mode: self.mode,
            sample_interval: self.sample_interval.max(SAMPLE_INTERVAL_MIN),
            replay_share: self.spill.as_ref().map_or(REPLAY_SHARE, |config| config.replay_share),
            shadow: self.shadow.clone(),
        }
    }
}
