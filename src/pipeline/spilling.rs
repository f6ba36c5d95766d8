//! The spill logs of a pipeline that is being built.

use std::sync::Arc;

use crossbeam::utils::CachePadded;

use super::error::StartError;
use crate::lane::Waker;
use crate::ledger::WorkerCounters;
use crate::message::Message;
use crate::spill::{self, Arm, Fault, Notify, RecoveryReport, SpillConfig, SpillStats};
use crate::symbols::Symbols;
use crate::worker::Overflow;

/// Called with bytes read and bytes to read.
pub(super) type OnRecovery = Box<dyn FnMut(u64, u64)>;

/// What the workers get, and what is known of it.
pub(super) struct Spilling<M: Message> {
    /// By worker.
    pub(super) overflows: Vec<Overflow<M>>,
    pub(super) stats: Vec<Arc<SpillStats>>,
    pub(super) arms: Vec<Arm>,
    pub(super) report: Option<RecoveryReport>,
}

impl<M: Message> Spilling<M> {
    /// Without spill logs.
    pub(super) fn none(workers: usize) -> Self {
        Self {
            overflows: (0..workers).map(|_| Overflow::none()).collect(),
            stats: Vec::new(),
            arms: Vec::new(),
            report: None,
        }
    }

    /// Recovers and opens the logs, and counts what was found.
    pub(super) fn open(
        config: &SpillConfig,
        on_recovery: Option<OnRecovery>,
        symbols: &Arc<Symbols>,
        wakers: &[Arc<Waker>],
        counters: &[Arc<CachePadded<WorkerCounters>>],
    ) -> Result<Self, StartError> {
        let notify = wakers.iter().map(|waker| {
            let waker = Arc::clone(waker);
            Arc::new(move || waker.wake_if_parked()) as Notify
        });
        let mut progress = on_recovery.unwrap_or_else(|| Box::new(|_, _| {}));
        let (logs, report) = spill::open_for::<M>(config, symbols, notify.collect(), &mut progress)?;
        report.faults().for_each(|fault| tracing::error!(%fault, "the spill log is damaged"));
        for (log, counters) in report.logs.iter().zip(counters) {
            count_found(counters, log.pending, log.lost());
        }
        // Of logs that are gone, so that no worker is to be blamed.
        let homeless = report.nameless + report.moved_faults.iter().map(Fault::lost_records).sum::<u64>();
        count_found(&counters[0], 0, homeless);
        let stats = logs.iter().map(spill::SpillLog::stats).collect();
        let arms = logs.iter().map(spill::SpillLog::arm).collect();
        let overflows = logs.into_iter().map(|log| Overflow::new(log, config.at_shutdown));
        Ok(Self { overflows: overflows.collect(), stats, arms, report: Some(report) })
    }
}

fn count_found(counters: &WorkerCounters, pending: u64, lost: u64) {
    counters.recovered.add(pending + lost);
    counters.spill_pending.add(pending);
    counters.spill_lost.add(lost);
}
