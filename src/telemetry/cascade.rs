//! Series of the level itself, and of whoever steers and supervises it.

use metrics::{Counter, Gauge};

use super::exporter::{Maker, Sample};
use super::{Telemetry, names};
use crate::degradation::{DegradationLevel, DegradationManager, ShedReason, SignalName};
use crate::ledger::{Counters, Ledger};
use crate::symbols::Tier;

/// Series of a set of thresholds: of those in force, or of a shadow.
pub(super) struct Cascade {
    level: Gauge,
    transitions: Vec<(DegradationLevel, DegradationLevel, Counter)>,
    /// From SOFT on.
    lag_thresholds: Vec<(DegradationLevel, Gauge)>,
    memory_thresholds: Vec<(DegradationLevel, Gauge)>,
}

impl Cascade {
    /// `component`: in the place of the component that all series have.
    pub(super) fn new(make: &Maker<'_>, component: Option<&str>) -> Self {
        let own = component.map(|component| ("component", component.to_owned()));
        let levels = DegradationLevel::ALL;
        let pairs = levels.iter().flat_map(|&from| levels.map(|to| (from, to)));
        let transitions = pairs.filter(|(from, to)| from != to).map(|(from, to)| {
            let labels = [("from_level", from.label().into()), ("to_level", to.label().into())];
            (from, to, make.counter(names::TRANSITIONS, labels.into_iter().chain(own.clone())))
        });
        let thresholds = |series| {
            let gauge = |level: DegradationLevel| {
                let labels = [("level", level.label().to_owned())].into_iter().chain(own.clone());
                (level, make.gauge(series, labels))
            };
            levels[1..].iter().copied().map(gauge).collect()
        };
        Self {
            level: make.gauge(names::LEVEL, own.clone()),
            transitions: transitions.collect(),
            lag_thresholds: thresholds(names::LAG_THRESHOLD),
            memory_thresholds: thresholds(names::MEMORY_THRESHOLD),
        }
    }

    pub(super) fn export(&self, manager: &DegradationManager) {
        self.level.set(f64::from(manager.level().value()));
        for (from, to, counter) in &self.transitions {
            counter.absolute(manager.transitions_total(*from, *to));
        }
        let triggers = |level| manager.thresholds().triggers(level).unwrap_or_default();
        for (level, gauge) in &self.lag_thresholds {
            gauge.set(triggers(*level).0 as f64);
        }
        for (level, gauge) in &self.memory_thresholds {
            gauge.set(triggers(*level).1 / 100.0);
        }
    }
}

/// Changes of settings that were put in force, those that were not, and restarts of the monitor.
pub(super) type SteeringCounts = [u64; 3];

/// Series of dry runs, pins, changes of settings, and supervision.
pub(super) struct Steering {
    observing: Gauge,
    would_shed: Vec<(Tier, ShedReason, Counter)>,
    would_conflate: Counter,
    would_spill: Counter,
    would_refuse: Counter,
    pinned: Gauge,
    reloads: Counter,
    reload_failures: Counter,
    monitor_restarts: Counter,
    /// By worker.
    worker_restarts: Vec<Counter>,
    stalled: Vec<Gauge>,
}

impl Steering {
    pub(super) fn new(make: &Maker<'_>, workers: usize) -> Self {
        let cells = Tier::ALL.iter().flat_map(|&tier| ShedReason::ALL.map(|reason| (tier, reason)));
        let would_shed = cells.map(|(tier, reason)| {
            let labels = [("symbol_tier", tier.label().into()), ("reason", reason.label().into())];
            (tier, reason, make.counter(names::OBSERVED_SHED, labels))
        });
        let label = |worker: usize| [("worker", worker.to_string())];
        Self {
            observing: make.gauge(names::OBSERVING, []),
            would_shed: would_shed.collect(),
            would_conflate: make.counter(names::OBSERVED_CONFLATED, []),
            would_spill: make.counter(names::OBSERVED_SPILLED, []),
            would_refuse: make.counter(names::OBSERVED_REFUSED, []),
            pinned: make.gauge(names::PINNED, []),
            reloads: make.counter(names::RELOADS, []),
            reload_failures: make.counter(names::RELOAD_FAILURES, []),
            monitor_restarts: make.counter(names::MONITOR_RESTARTS, []),
            worker_restarts: (0..workers).map(|n| make.counter(names::WORKER_RESTARTS, label(n))).collect(),
            stalled: (0..workers).map(|n| make.gauge(names::WORKER_STALLED, label(n))).collect(),
        }
    }

    pub(super) fn export(
        &self,
        counters: &Counters,
        ledger: &Ledger,
        manager: &DegradationManager,
        sample: &Sample,
        [reloads, failures, restarts]: SteeringCounts,
    ) {
        let flag = |is_so| if is_so { 1.0 } else { 0.0 };
        let observed = counters.observed();
        for (tier, reason, counter) in &self.would_shed {
            counter.absolute(observed.shed_by.get(*tier, *reason));
        }
        self.observing.set(flag(sample.observing));
        self.would_conflate.absolute(observed.conflated);
        self.would_spill.absolute(observed.spilled);
        self.would_refuse.absolute(observed.refused);
        self.pinned.set(flag(manager.pinned().is_some()));
        self.reloads.absolute(reloads);
        self.reload_failures.absolute(failures);
        self.monitor_restarts.absolute(restarts);
        for (counter, worker) in self.worker_restarts.iter().zip(&ledger.workers) {
            counter.absolute(worker.restarts);
        }
        for (gauge, is_stalled) in self.stalled.iter().zip(&sample.stalled) {
            gauge.set(flag(*is_stalled));
        }
    }
}

/// Series of signals beside lag and memory: those that are watched, from when they are.
#[derive(Default)]
pub(super) struct SignalsExporter {
    known: Vec<(SignalName, SignalSeries)>,
}

struct SignalSeries {
    value: Gauge,
    level: Gauge,
    stale: Gauge,
    /// From SOFT on.
    thresholds: [Gauge; 4],
}

impl SignalSeries {
    fn new(make: &Maker<'_>, name: SignalName) -> Self {
        let label = || [("signal", name.to_string())];
        let threshold = |i: usize| {
            let level = DegradationLevel::ALL[i + 1].label().to_owned();
            make.gauge(names::SIGNAL_THRESHOLD, label().into_iter().chain([("level", level)]))
        };
        Self {
            value: make.gauge(names::SIGNAL, label()),
            level: make.gauge(names::SIGNAL_LEVEL, label()),
            stale: make.gauge(names::SIGNAL_STALE, label()),
            thresholds: std::array::from_fn(threshold),
        }
    }
}

impl SignalsExporter {
    pub(super) fn export(&mut self, telemetry: &Telemetry, manager: &DegradationManager) {
        for status in manager.signals() {
            let name = status.signal.name;
            if !self.known.iter().any(|(known, _)| *known == name) {
                self.known.push((name, SignalSeries::new(&Maker(telemetry), name)));
            }
            let Some((_, series)) = self.known.iter().find(|(known, _)| *known == name) else { continue };
            series.value.set(status.value.unwrap_or(f64::NAN));
            series.level.set(f64::from(status.asks.value()));
            series.stale.set(if status.is_stale { 1.0 } else { 0.0 });
            for (gauge, threshold) in series.thresholds.iter().zip(status.signal.thresholds) {
                gauge.set(threshold);
            }
        }
    }
}
