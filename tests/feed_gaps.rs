//! A hole in a whole feed reaches every worker's handler at its place in the stream.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::ops::ControlFlow;
use std::sync::Arc;

use plimsoll::source::{Burst, Facts, FeedCounters, Flow, Pace, PumpEnd, Source, SourceError, pump};
use plimsoll::{Context, Handler, Pipeline, PipelineBuilder, SymbolId, Tick, WaitStrategy};
use proptest::prelude::*;

/// What a handler is told, in order.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Told {
    Message(u64),
    Gap(u64),
}

#[derive(Default)]
struct Recorder(Vec<Told>);

impl Handler<Tick> for Recorder {
    fn process(&mut self, tick: &Tick, _: &Context) {
        self.0.push(Told::Message(tick.sequence));
    }

    fn on_feed_gap(&mut self, missed: u64) {
        self.0.push(Told::Gap(missed));
    }
}

/// Bursts of ticks with gaps, as given.
struct Script {
    bursts: Vec<Vec<Result<Tick, u64>>>,
    can_wait: bool,
    counters: Arc<FeedCounters>,
}

impl Source for Script {
    fn next_burst(&mut self, burst: &mut Burst) -> Result<Flow, SourceError> {
        let Some(next) = self.bursts.pop() else { return Ok(Flow::End) };
        for step in next {
            match step {
                Ok(tick) => burst.push(tick),
                Err(missed) => burst.note_gap(missed),
            }
        }
        Ok(Flow::More)
    }

    fn facts(&self) -> Facts {
        Facts { memory_bytes: 0, burst: 100, can_wait: self.can_wait }
    }

    fn counters(&self) -> &Arc<FeedCounters> {
        &self.counters
    }
}

/// Steps: a message of a symbol, or a hole.
fn steps() -> impl Strategy<Value = Vec<Vec<Result<u32, u64>>>> {
    let step = prop_oneof![8 => (0u32..20).prop_map(Ok), 1 => (1u64..1000).prop_map(Err)];
    proptest::collection::vec(proptest::collection::vec(step, 0..400), 0..8)
}

fn start(workers: usize, wait: WaitStrategy) -> Pipeline<Tick, Recorder> {
    PipelineBuilder::new().workers(workers).wait_strategy(wait).start(|_| Recorder::default()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn every_worker_hears_of_each_hole_between_what_was_before_and_what_came_after(
        bursts in steps(),
        workers in 1usize..4,
        can_wait: bool,
        parks: bool,
    ) {
        let wait = if parks { WaitStrategy::SpinThenPark } else { WaitStrategy::SpinThenYield };
        let mut pipeline = start(workers, wait);
        let mut number = 0;
        let mut script: Vec<Vec<_>> = Vec::new();
        // The number of the last message before each hole, and what it lacks.
        let mut gaps: Vec<(u64, u64)> = Vec::new();
        for burst in &bursts {
            script.push(burst.iter().map(|step| match *step {
                Ok(symbol) => {
                    number += 1;
                    Ok(Tick { sequence: number, ..Tick::reference(SymbolId::new(symbol), 1) })
                }
                Err(missed) => {
                    gaps.push((number, missed));
                    Err(missed)
                }
            }).collect());
        }
        script.reverse();
        let mut source = Script { bursts: script, can_wait, counters: Arc::default() };
        let mut ingress = pipeline.ingress().unwrap();
        let end = pump(&mut source, &mut ingress, Pace::Max, || ControlFlow::Continue(())).unwrap();
        prop_assert_eq!(end, PumpEnd::Finished);
        drop(ingress);
        let finished = pipeline.join().unwrap();
        let total: u64 = gaps.iter().map(|gap| gap.1).sum();
        let mut seen = 0;
        for handler in finished.handlers {
            let is_gap = |event: &Told| matches!(event, Told::Gap(_));
            let number_of = |event: &Told| if let Told::Message(number) = event { Some(*number) } else { None };
            let numbers: Vec<_> = handler.0.iter().filter_map(number_of).collect();
            prop_assert!(numbers.is_sorted());
            seen += numbers.len() as u64;
            for &(before, _) in &gaps {
                let after = handler.0.iter().position(|event| number_of(event) > Some(before)).unwrap_or(handler.0.len());
                let told = handler.0[..after].iter().rev().take_while(|event| number_of(event).is_none()).any(is_gap);
                prop_assert!(told, "nothing was said between message {} and the next", before);
            }
            let told = handler.0.iter().map(|event| if let Told::Gap(missed) = event { *missed } else { 0 });
            prop_assert_eq!(told.sum::<u64>(), total);
        }
        prop_assert_eq!(seen, number);
    }
}

/// A worker that has nothing to do hears of it, too, before any other message comes.
#[test]
fn a_hole_that_nothing_follows_is_told_of_while_the_feed_goes_on() {
    for wait in [WaitStrategy::SpinThenPark, WaitStrategy::SpinThenYield] {
        let (tell, told) = crossbeam::channel::unbounded();
        struct Teller(crossbeam::channel::Sender<u64>);
        impl Handler<Tick> for Teller {
            fn process(&mut self, _: &Tick, _: &Context) {}
            fn on_feed_gap(&mut self, missed: u64) {
                self.0.send(missed).unwrap();
            }
        }
        let builder = PipelineBuilder::new().workers(2).wait_strategy(wait);
        let mut pipeline = builder.start(|_| Teller(tell.clone())).unwrap();
        let mut ingress = pipeline.ingress().unwrap();
        for missed in [5, 7] {
            ingress.note_gap(missed);
            // Both workers; a lost wake-up hangs here.
            assert_eq!([told.recv().unwrap(), told.recv().unwrap()], [missed, missed]);
        }
        drop(ingress);
        pipeline.join().unwrap();
        assert!(told.is_empty());
    }
}
