//! Moves ticks from a source into a pipeline, at a pace.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use super::pace::Pace;
use super::{Source, SourceError};
use crate::ingress::Ingress;
use crate::message::wall_clock_ns;
use crate::tick::Tick;

/// Ticks between two looks at the clock, where nothing else asks for one.
const BURST: u64 = 256;
/// Longest sleep between two looks at whether to stop.
const NAP: Duration = Duration::from_millis(20);

/// Why the pump stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PumpEnd {
    /// The stream is at its end.
    Finished,
    /// The caller said so.
    Stopped,
    /// The pipeline takes nothing any more: a worker failed, or it is shutting down.
    PipelineClosed,
}

/// Moves ticks until the source ends. The ingress is flushed at the end.
///
/// At [`Pace::Max`] it waits for the pipeline; at any other pace it is an open loop: a tick that is due is offered, and
/// what the pipeline refuses is gone. Ticks get their receive time here, one clock reading a burst. `observe` is
/// called after each burst and while waiting; it may end the run.
///
/// # Errors
/// What the source reports. Ticks before that were moved.
pub fn pump(
    source: &mut dyn Source,
    ingress: &mut Ingress<Tick>,
    pace: Pace,
    mut observe: impl FnMut(&dyn Source) -> ControlFlow<()>,
) -> Result<PumpEnd, SourceError> {
    let start = Instant::now();
    let mut clock = Clock::read(start);
    let mut first_event = None;
    let mut index = 0u64;
    let end = loop {
        if index.is_multiple_of(BURST) {
            ingress.flush();
            clock = Clock::read(start);
            if observe(source).is_break() {
                break PumpEnd::Stopped;
            }
        }
        if ingress.is_closed() {
            break PumpEnd::PipelineClosed;
        }
        let Some(mut tick) = source.next_tick().inspect_err(|_| ingress.flush())? else {
            break PumpEnd::Finished;
        };
        let event = tick.event_ns.saturating_sub(*first_event.get_or_insert(tick.event_ns));
        match pace.due(index, Duration::from_nanos(event)) {
            Some(due) => {
                if due > clock.elapsed {
                    ingress.flush();
                    clock = Clock::read(start);
                    if clock.wait_for(due, start, || observe(source).is_break()).is_break() {
                        break PumpEnd::Stopped;
                    }
                }
                tick.receive_ns = clock.wall_ns;
                // Counted in the ledger, and told to the symbol's handler, if it is not accepted.
                let _ = ingress.offer(tick);
            }
            None => {
                tick.receive_ns = clock.wall_ns;
                if !ingress.offer_wait(tick, || observe(source).is_break()) {
                    break if ingress.is_closed() { PumpEnd::PipelineClosed } else { PumpEnd::Stopped };
                }
            }
        }
        index += 1;
    };
    ingress.flush();
    Ok(end)
}

/// A reading of both clocks.
#[derive(Clone, Copy)]
struct Clock {
    /// Since the start.
    elapsed: Duration,
    /// Since the Unix epoch.
    wall_ns: u64,
}

impl Clock {
    fn read(start: Instant) -> Self {
        Self { elapsed: start.elapsed(), wall_ns: wall_clock_ns() }
    }

    /// Sleeps until `due`, in naps, unless `stop` says to end; then reads the clock again.
    fn wait_for(&mut self, due: Duration, start: Instant, mut stop: impl FnMut() -> bool) -> ControlFlow<()> {
        while let Some(left) = due.checked_sub(self.elapsed).filter(|left| !left.is_zero()) {
            if stop() {
                return ControlFlow::Break(());
            }
            std::thread::sleep(left.min(NAP));
            *self = Self::read(start);
        }
        ControlFlow::Continue(())
    }
}
