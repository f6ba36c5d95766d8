//! The start of a pipeline: lanes, threads, and what they share.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use core_affinity::CoreId;
use crossbeam::channel::{Sender as ChannelSender, bounded};
use crossbeam::utils::CachePadded;

use super::builder::PipelineBuilder;
use super::control::Control;
use super::error::StartError;
use super::lanes::Lanes;
use super::pinning::Pinning;
use super::spilling::Spilling;
use super::{Pipeline, WorkerNews};
use crate::degradation::DegradationManager;
use crate::degradation::gradual::GradualPolicy;
use crate::degradation::published::Published;
use crate::handler::Handler;
use crate::holes::LastHoles;
use crate::ingress::{Ingress, IngressParts};
use crate::lane::Waker;
use crate::ledger::{Counters, Tally, WorkerCounters};
use crate::message::Message;
use crate::monitor::{Monitor, MonitorShared};
use crate::settled::Settled;
use crate::supervision::{RestartBudget, StallWatch};
use crate::telemetry::Exporter;
use crate::worker::{Conflation, WorkerParts};

impl PipelineBuilder {
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
    /// [`Supervision::restarts`](crate::Supervision::restarts) allows, and only then does the run end.
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
        let mut manager = DegradationManager::new(self.thresholds, settings.tiers.clone())?;
        manager.set_signals(settings.signals.clone())?;
        let start = Instant::now();
        let published = Arc::new(Published::new(self.table));
        published.set_window(settings.window(&limits));
        published.set_replay_share(settings.replay_share);
        published.publish_with(manager.level(), settings.mode, settings.verdicts, GradualPolicy::default());

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
            limits: limits.clone(),
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
            let mut conflation = Conflation::new(self.producers);
            if self.table.conflates() {
                // Now, and not in the first storm.
                conflation.prepare(self.symbols.capacity() + 1);
            }
            let parts = WorkerParts {
                id,
                receivers,
                symbols: Arc::clone(&self.symbols),
                published: Arc::clone(&published),
                counters: Arc::clone(&counters.workers[id]),
                overflow,
                conflation,
                last_holes: last_holes.clone(),
                waker,
                wait: self.wait,
            };
            let restart = again.clone().map(|again| (again, RestartBudget::new(self.supervision.restarts)));
            pipeline.spawn_worker(parts, (make_handler(id), restart), plan[id], tell.clone())?;
        }
        let settings = shared.settings();
        let spill_budget_bytes = self.exported.spill_budget_bytes;
        let monitor = Monitor {
            shared: Arc::clone(&shared),
            published,
            feeds: self.exported.feeds.iter().map(|(_, counters)| Arc::clone(counters)).collect(),
            exporter: self.telemetry.map(|telemetry| Exporter::new(telemetry, &counters, self.exported)),
            counters,
            lag: self.lag,
            memory: self.memory,
            sources: self.sources,
            spill_budget_bytes,
            budgets: Default::default(),
            on_transition: self.on_transition,
            wakers,
            arms: spilling.arms,
            symbols: self.symbols,
            limits,
            supervision: self.supervision,
            stalls: vec![StallWatch::default(); self.workers],
            restarts: again.is_some().then(|| RestartBudget::new(self.supervision.restarts)),
            shadow: settings.shadow.as_ref().and_then(|shadow| shadow.evaluate(&settings.signals, None)),
            settings,
            start,
            told: 0,
        };
        let monitor = spawn("plimsoll-mon", move || monitor.run_guarded())?;
        shared.started(monitor.thread(), pipeline.pinned.clone());
        pipeline.monitor = Some(monitor);
        Ok(pipeline)
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
