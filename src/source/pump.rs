//! Moves ticks from a source into a pipeline, at a pace.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use super::burst::Burst;
use super::pace::Pace;
use super::{Flow, Source, SourceError};
use crate::ingress::Ingress;
use crate::message::wall_clock_ns;
use crate::tick::Tick;

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

/// Moves ticks until the source ends. The ingress is flushed after each burst.
///
/// A feed that cannot wait is an open loop: its ticks are offered as they come, and what the pipeline refuses is gone. `pace` is
/// for recorded feeds: at [`Pace::Max`] they wait for the pipeline; at any other pace they are an open loop, too. They are played by the
/// receive time that they give, or by event time where they give none; and ticks get their receive time here, one clock reading
/// a burst. Ticks of a feed that cannot wait keep theirs, if they have one.
///
/// `observe` is called after each burst and while waiting; it may end the run.
///
/// # Errors
/// What the source reports. Ticks before that were moved.
pub fn pump(
    source: &mut dyn Source,
    ingress: &mut Ingress<Tick>,
    pace: Pace,
    observe: impl FnMut() -> ControlFlow<()>,
) -> Result<PumpEnd, SourceError> {
    let start = Instant::now();
    let live = !source.facts().can_wait;
    let mut mover = Mover { ingress, pace, observe, start, clock: Clock::read(start), first_ns: None, index: 0 };
    let mut burst = Burst::new();
    loop {
        burst.clear();
        let flow = source.next_burst(&mut burst);
        mover.clock = Clock::read(start);
        let moved = mover.hand_over(&burst, live);
        mover.ingress.flush();
        if let Err(end) = moved.and_then(|()| mover.go_on()) {
            return Ok(end);
        }
        if flow? == Flow::End {
            return Ok(PumpEnd::Finished);
        }
    }
}

/// The moving parts.
struct Mover<'a, O> {
    ingress: &'a mut Ingress<Tick>,
    pace: Pace,
    observe: O,
    start: Instant,
    clock: Clock,
    /// When the first tick was recorded.
    first_ns: Option<u64>,
    /// Ticks played.
    index: u64,
}

impl<O: FnMut() -> ControlFlow<()>> Mover<'_, O> {
    /// Hands over ticks and gaps, each at its place.
    fn hand_over(&mut self, burst: &Burst, live: bool) -> Result<(), PumpEnd> {
        let mut from = 0;
        for &(at, missed) in burst.gaps() {
            self.hand_over_ticks(&burst.ticks()[from..at], live)?;
            self.ingress.note_gap(missed);
            from = at;
        }
        self.hand_over_ticks(&burst.ticks()[from..], live)
    }

    fn hand_over_ticks(&mut self, ticks: &[Tick], live: bool) -> Result<(), PumpEnd> {
        for &tick in ticks {
            if live { self.offer(tick) } else { self.play(tick)? }
        }
        Ok(())
    }

    /// Offers what a live feed has got.
    #[inline]
    fn offer(&mut self, tick: Tick) {
        let receive_ns = if tick.receive_ns == 0 { self.clock.wall_ns } else { tick.receive_ns };
        // Counted in the ledger, and told to the symbol's handler, if it is not accepted.
        let _ = self.ingress.offer(Tick { receive_ns, ..tick });
    }

    /// Plays what was recorded.
    #[inline]
    fn play(&mut self, tick: Tick) -> Result<(), PumpEnd> {
        let recorded_ns = if tick.receive_ns == 0 { tick.event_ns } else { tick.receive_ns };
        let since_first = recorded_ns.saturating_sub(*self.first_ns.get_or_insert(recorded_ns));
        match self.pace.due(self.index, Duration::from_nanos(since_first)) {
            Some(due) => {
                if due > self.clock.elapsed {
                    self.ingress.flush();
                    self.clock = Clock::read(self.start);
                    self.wait_until(due)?;
                }
                let _ = self.ingress.offer(Tick { receive_ns: self.clock.wall_ns, ..tick });
            }
            None => {
                let observe = &mut self.observe;
                let tick = Tick { receive_ns: self.clock.wall_ns, ..tick };
                if !self.ingress.offer_wait(tick, || observe().is_break()) {
                    return Err(if self.ingress.is_closed() { PumpEnd::PipelineClosed } else { PumpEnd::Stopped });
                }
            }
        }
        self.index += 1;
        Ok(())
    }

    /// Sleeps until `due`, in naps, unless the caller says to end.
    fn wait_until(&mut self, due: Duration) -> Result<(), PumpEnd> {
        while let Some(left) = due.checked_sub(self.clock.elapsed).filter(|left| !left.is_zero()) {
            self.go_on()?;
            std::thread::sleep(left.min(NAP));
            self.clock = Clock::read(self.start);
        }
        Ok(())
    }

    fn go_on(&mut self) -> Result<(), PumpEnd> {
        if self.ingress.is_closed() {
            return Err(PumpEnd::PipelineClosed);
        }
        if (self.observe)().is_break() { Err(PumpEnd::Stopped) } else { Ok(()) }
    }
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
}
