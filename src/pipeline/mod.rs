//! A running pipeline: its threads, its state, and its end.
//!
//! * [`PipelineBuilder`] checks the configuration and starts the threads.
//! * [`Pipeline`] hands out the producers' ends, tells what is going on, and ends the run: by
//!   [`join`](Pipeline::join), when the producers are done, or [`shutdown`](Pipeline::shutdown), when they are told to be.

mod builder;
mod control;
mod error;
mod footprint;
mod lanes;
mod pinning;
mod settings;
mod spilling;
mod start;

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError};

pub use builder::PipelineBuilder;
pub use control::{Control, ControlError, Health, Snapshot, WorkerSnapshot};
pub use error::{Failure, PipelineError, StartError};
pub use footprint::Footprint;
pub use pinning::Pinning;
pub(crate) use settings::{Limits, SAMPLE_INTERVAL_MIN};
pub use settings::{Settings, Shadow};

use crate::degradation::{DegradationLevel, DegradationStatus, Policy, Transition};
use crate::handler::Handler;
use crate::ingress::Ingress;
use crate::ledger::Ledger;
use crate::message::Message;
use crate::spill::RecoveryReport;
use crate::symbols::{MessagePriority, Symbols};
use crate::telemetry::LatencySnapshot;
use crate::worker::panic_message;

/// How often the end of a run looks for workers that stand still.
const STALL_LOOK: Duration = Duration::from_millis(50);

/// What a worker says of itself.
enum WorkerNews<H> {
    /// The handler panicked; the worker goes on to empty its lanes.
    Failed { worker: usize, cause: String },
    /// All is done. The handler, unless it had panicked.
    Ended { worker: usize, handler: Option<H> },
}

/// A running pipeline. `M` is what flows, `H` what handles it.
///
/// Dropping it without [`join`](Self::join) or [`shutdown`](Self::shutdown) shuts the gate and lets the threads end by
/// themselves, once the producers are gone.
pub struct Pipeline<M: Message, H: Handler<M>> {
    ingresses: Vec<Ingress<M>>,
    news: Receiver<WorkerNews<H>>,
    workers: Vec<JoinHandle<()>>,
    monitor: Option<JoinHandle<()>>,
    control: Control,
    pinned: Vec<Option<usize>>,
    drain_timeout: Duration,
    recovery: Option<RecoveryReport>,
}

/// What is left of a pipeline that ended well.
#[derive(Debug)]
#[non_exhaustive]
pub struct Finished<H> {
    /// The handlers, by worker.
    pub handlers: Vec<H>,
    /// Where every message went; nothing is in flight any more.
    pub ledger: Ledger,
    /// The last transitions, oldest first.
    pub transitions: Vec<Transition>,
    /// How often the level changed in all.
    pub transition_count: u64,
    /// The highest level that was reached.
    pub highest: DegradationLevel,
    /// Receive to processed, by priority, most valuable first.
    pub latency: [LatencySnapshot; 4],
}

impl<M: Message, H: Handler<M>> Pipeline<M, H> {
    /// The next producer's end; `None` when as many were taken as the builder was told of
    /// ([`PipelineBuilder::producers`], one by default).
    pub fn ingress(&mut self) -> Option<Ingress<M>> {
        self.ingresses.pop()
    }

    /// Where every message is. Exact at quiet moments; see [`Ledger`].
    pub fn ledger(&self) -> Ledger {
        self.control.ledger()
    }

    /// A handle for whoever watches and steers this pipeline, on any thread.
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// The level: in a [dry run](crate::Mode::Observe) the one that would be in force.
    pub fn level(&self) -> DegradationLevel {
        self.control.level()
    }

    /// The policy in force.
    pub fn policy(&self) -> Policy {
        self.control.policy()
    }

    /// The manager's summary.
    pub fn status(&self) -> DegradationStatus {
        self.control.status()
    }

    /// The last 100 transitions, oldest first. Times are since the start.
    pub fn history(&self) -> Vec<Transition> {
        self.control.history()
    }

    /// Back to NORMAL, without waiting for the cooldown; takes effect with the monitor's next sample, which may
    /// well degrade again.
    pub fn reset_level(&self) {
        let Control { shared, start, .. } = &self.control;
        shared.manager().reset(start.elapsed());
    }

    /// The lag, in messages, and the memory, in percent, that the monitor saw last.
    pub fn signals(&self) -> (u64, f64) {
        let last = self.control.shared.last();
        (last.lag, last.memory.percent())
    }

    /// Samples that the monitor has taken. Stands still if the monitor has died; the level is then frozen.
    pub fn monitor_samples(&self) -> u64 {
        self.control.shared.last().count
    }

    /// The symbols.
    pub fn symbols(&self) -> &Arc<Symbols> {
        self.control.symbols()
    }

    /// By worker, the core that it is pinned to; `None` where it is not.
    pub fn pinned_cores(&self) -> &[Option<usize>] {
        &self.pinned
    }

    /// What the start found in the spill log; `None` without one.
    pub fn recovery(&self) -> Option<&RecoveryReport> {
        self.recovery.as_ref()
    }

    /// Waits until every producer has dropped its [`Ingress`] and every message is finished.
    ///
    /// An ingress that was never taken does not count. Holding one on the calling thread waits for ever.
    ///
    /// # Errors
    /// When a worker's handler or the monitor panicked.
    pub fn join(self) -> Result<Finished<H>, PipelineError> {
        self.end(None)
    }

    /// Shuts the gate for good, waits for the producers to drop their [`Ingress`], and finishes what was accepted.
    ///
    /// # Errors
    /// As [`join`](Self::join); and when the lanes were not empty, or a producer still held its ingress, after the builder's
    /// [`drain_timeout`](PipelineBuilder::drain_timeout). What such a producer had not flushed is processed when it lets go
    /// of its ingress, and is not in the error's ledger.
    pub fn shutdown(self) -> Result<Finished<H>, PipelineError> {
        self.control.published.close();
        let deadline = self.drain_deadline();
        self.end(deadline)
    }

    fn end(mut self, mut deadline: Option<Instant>) -> Result<Finished<H>, PipelineError> {
        self.ingresses.clear();
        let mut failures = Vec::new();
        let mut handlers: Vec<(usize, H)> = Vec::new();
        let mut running = self.workers.len();
        while running > 0 {
            let look = Instant::now() + STALL_LOOK;
            let news = self.news.recv_deadline(deadline.map_or(look, |deadline| deadline.min(look)));
            for (worker, still) in self.control.shared.take_stalls() {
                failures.push(Failure::WorkerStalled { worker, still });
                deadline = deadline.or_else(|| self.drain_deadline());
            }
            let is_late = deadline.is_some_and(|deadline| Instant::now() >= deadline);
            match news {
                Err(RecvTimeoutError::Timeout) if !is_late => {}
                Ok(WorkerNews::Ended { worker, handler }) => {
                    running -= 1;
                    handlers.extend(handler.map(|handler| (worker, handler)));
                }
                Ok(WorkerNews::Failed { worker, cause }) => {
                    failures.push(Failure::WorkerPanicked { worker, cause });
                    // The gate is shut now; producers are given as long as in a shutdown to take notice.
                    deadline = deadline.or_else(|| self.drain_deadline());
                }
                Err(error) => {
                    let (workers, waited) = (running, self.drain_timeout);
                    failures.push(match error {
                        RecvTimeoutError::Timeout => Failure::DrainTimeout { workers, waited },
                        RecvTimeoutError::Disconnected => Failure::WorkersLost { workers },
                    });
                    break;
                }
            }
        }
        if running == 0 {
            self.workers.drain(..).for_each(|worker| drop(worker.join()));
        }
        if let Some(cause) = self.stop_monitor() {
            failures.push(Failure::MonitorPanicked { cause });
        }
        let Control { counters, shared, .. } = &self.control;
        let ledger = counters.ledger();
        if !failures.is_empty() {
            return Err(PipelineError { failures, ledger: Box::new(ledger) });
        }
        handlers.sort_by_key(|(worker, _)| *worker);
        let manager = shared.manager();
        Ok(Finished {
            handlers: handlers.into_iter().map(|(_, handler)| handler).collect(),
            ledger,
            transitions: manager.history().copied().collect(),
            transition_count: manager.transition_count(),
            highest: manager.highest(),
            latency: MessagePriority::ALL.map(|priority| counters.latency(priority)),
        })
    }

    /// When a shutdown that begins now gives up; `None` for never.
    fn drain_deadline(&self) -> Option<Instant> {
        Instant::now().checked_add(self.drain_timeout)
    }

    /// Ends the monitor; returns what it said if it had panicked.
    fn stop_monitor(&mut self) -> Option<String> {
        let monitor = self.monitor.take()?;
        self.control.shared.stop(monitor.thread());
        monitor.join().err().map(|panic| panic_message(&*panic))
    }
}

impl<M: Message, H: Handler<M>> std::fmt::Debug for Pipeline<M, H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pipeline").field("level", &self.level()).finish_non_exhaustive()
    }
}

impl<M: Message, H: Handler<M>> Drop for Pipeline<M, H> {
    fn drop(&mut self) {
        self.control.published.close();
        if let Some(monitor) = &self.monitor {
            self.control.shared.stop(monitor.thread());
        }
    }
}
