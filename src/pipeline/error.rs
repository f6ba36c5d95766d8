//! What can go wrong with a pipeline.

use std::fmt;
use std::time::Duration;

use crate::degradation::{GradualError, SignalError, SignalName, ThresholdError};
use crate::ledger::Ledger;
use crate::spill::SpillError;

/// Why a pipeline cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The thresholds contradict themselves.
    #[error("{0}")]
    Thresholds(#[from] ThresholdError),
    /// The shadow thresholds contradict themselves.
    #[error("the shadow thresholds: {0}")]
    Shadow(#[source] ThresholdError),
    /// What a priority gets beside its verdicts makes no sense.
    #[error("{0}")]
    Gradual(#[from] GradualError),
    /// A signal makes no sense.
    #[error("{0}")]
    Signal(#[from] SignalError),
    /// A signal that has no source.
    #[error("signal {name} has no source: there are {known}")]
    UnknownSignal {
        /// Its name.
        name: SignalName,
        /// Those that have one.
        known: String,
    },
    /// The share of replay is not one.
    #[error("replay_share = {value} must be more than 0 and less than 1")]
    ReplayShare {
        /// Its value.
        value: f64,
    },
    /// A lane would be full before the lag could reach CIRCUIT_BREAK.
    #[error(
        "lane_capacity = {lane_capacity} must exceed lag_circuit_break = {lag_circuit_break}, or lanes run full before the \
         circuit can break: raise the one or lower the other"
    )]
    LaneTooSmall {
        /// Messages that a lane holds.
        lane_capacity: usize,
        /// Lag that breaks the circuit.
        lag_circuit_break: u64,
    },
    /// Zero, where at least one is needed, or more than fits.
    #[error("{setting} = {value} is out of range: {expected}")]
    OutOfRange {
        /// The setting.
        setting: &'static str,
        /// Its value.
        value: usize,
        /// What would be in range.
        expected: &'static str,
    },
    /// The system gave no memory for a lane.
    #[error(
        "no memory for a lane of {lane_capacity} messages of {message_bytes} bytes: lower lane_capacity, or lag_circuit_break with it"
    )]
    NoMemory {
        /// Messages that the lane should have held.
        lane_capacity: usize,
        /// Size of a message.
        message_bytes: usize,
    },
    /// The spill log cannot be opened.
    #[error("{0}")]
    Spill(#[from] SpillError),
    /// The system gave no thread.
    #[error("cannot start thread {thread}: {error}")]
    Thread {
        /// The thread's name.
        thread: String,
        /// What the system said.
        #[source]
        error: std::io::Error,
    },
}

/// One thing that went wrong in a run.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failure {
    /// A handler panicked. The gate was shut, and what its worker still had was shed as `worker_failed`. What waits in its spill
    /// log stays there; if the panic came in a replay, the message in hand is the first to come after the next start.
    WorkerPanicked {
        /// The worker.
        worker: usize,
        /// What the panic said.
        cause: String,
    },
    /// The monitor panicked, most likely in a signal source or a callback of the user's. The last level stayed in force.
    MonitorPanicked {
        /// What the panic said.
        cause: String,
    },
    /// A worker had messages waiting and finished none for too long; the gate was shut then. See
    /// [`Supervision::stall_after`](crate::Supervision::stall_after).
    WorkerStalled {
        /// The worker.
        worker: usize,
        /// For how long it had finished nothing.
        still: Duration,
    },
    /// Worker threads have ended without a word: a message's own methods panicked after the handler had.
    WorkersLost {
        /// How many.
        workers: usize,
    },
    /// Workers were not done in time: a producer still held its ingress, or a handler was slow or stuck.
    DrainTimeout {
        /// How many workers were not done.
        workers: usize,
        /// How long they were given.
        waited: Duration,
    },
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WorkerPanicked { worker, cause } => {
                write!(f, "the handler of worker {worker} panicked: {cause}")
            }
            Self::WorkerStalled { worker, still } => write!(
                f,
                "worker {worker} had messages waiting and finished none for {still:.1?}: its handler hangs, or is slower than \
                 stall_after allows for 128 messages"
            ),
            Self::MonitorPanicked { cause } => write!(f, "the monitor panicked: {cause}"),
            Self::WorkersLost { workers } => write!(f, "{workers} workers ended without a word"),
            Self::DrainTimeout { workers, waited } => write!(
                f,
                "{workers} workers were not done {waited:?} after intake was closed: a producer still holds its ingress, \
                 a handler is stuck, or there is more to replay than that"
            ),
        }
    }
}

/// A run that ended badly. Its ledger still accounts for every message.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PipelineError {
    /// What went wrong, in the order in which it was found; at least one.
    pub failures: Vec<Failure>,
    /// Where every message went.
    pub ledger: Box<Ledger>,
}

impl fmt::Display for PipelineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, failure) in self.failures.iter().enumerate() {
            if i > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{failure}")?;
        }
        Ok(())
    }
}

impl std::error::Error for PipelineError {}
