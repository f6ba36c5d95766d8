//! Tuning: which settings matter, which way, and why. Nothing here is code.
//!
//! Measure on the machine that it will run on, with `cargo bench`: `handoff` (a lane beside other queues), `pipeline` (the whole way),
//! `decision` (policy, priority, verdict), `idle` (what waiting costs, and waking), `overload` (what becomes of messages in
//! a storm), `spill`. Contenders take turns there, since virtual cores may share a real one at one moment and not at the next.
//!
//! # Wait strategy
//!
//! | | a lone message waits | an idle worker costs | for |
//! |---|---|---|---|
//! | [`BusySpin`](crate::WaitStrategy::BusySpin) | for one trip of a cache line, some 100 ns to 300 ns | a core | a core that the worker has to itself |
//! | [`SpinThenYield`](crate::WaitStrategy::SpinThenYield) | as long, if nobody else wants the core | a core, lent to others | more threads than cores |
//! | [`SpinThenPark`](crate::WaitStrategy::SpinThenPark), the default | as long within some 40 µs to 200 µs after the last one, then for a thread to wake, some 50 µs | nothing measurable | everything else |
//!
//! Parking costs a producer nothing while the worker is awake: no fence, no system call. A flush that finds the worker asleep wakes it,
//! which takes the producer some 16 µs. Where a feed cannot afford that, let the worker spin.
//!
//! # Flush
//!
//! [`flush`](crate::Ingress::flush) at the end of each burst that the network hands you, not after each message: what a flush costs is
//! shared by the burst. From 8 messages on it no longer shows. A full block of 256 is flushed by itself.
//!
//! # Workers
//!
//! One worker takes more than a hundred million messages a second through an empty handler, so the handler decides. Divide the rate at the
//! worst moment by what one handler manages, and round up; more workers than cores cost context switches. Each
//! producer has a lane to each worker, so lanes, and their memory, are workers × producers. A symbol always meets the same worker: a
//! single symbol never goes faster than one worker does.
//!
//! # Lane capacity
//!
//! A lane must hold `lag_circuit_break` messages, or the gate would come too late. Beyond that it does not help: depth is
//! latency, and what a lane holds when the storm breaks is what the last message waits for. Choose
//! thresholds by latency: lag × what the handler takes for a message is how long a message waits. Where a handler takes 20 µs, a
//! `lag_soft` of 250 is 5 ms. While workers keep up, a lane goes round 1 MiB of its pool and leaves the rest untouched, so a deep
//! lane costs no cache. [`prefault`](crate::PipelineBuilder::prefault) takes the page faults at the start instead of in the
//! first storm. [`footprint`](crate::PipelineBuilder::footprint) says what all of it comes to.
//!
//! # Blocks and chunks
//!
//! Fixed: blocks of 256 messages, and a look at the policy every 128 at most. So a new level takes hold after 128
//! messages at the latest: 1 µs with a handler of 8 ns, 2.6 ms with one of 20 µs. Replay looks at the lanes every 32 messages.
//!
//! # Pinning and isolated cores
//!
//! Pin workers ([`Pinning`](crate::Pinning)) and the feed's thread, each to a core of its own, on the same socket; hyperthreads of one core
//! are near each other but share its units. The monitor and the spill log's helpers wake often and briefly: leave them a core
//! that no worker has. Start the pipeline from an unpinned thread, as threads inherit the mask of who starts them. For the last microseconds boot
//! with `isolcpus=`, `nohz_full=` and `rcu_nocbs=` for the workers' cores, and move interrupts away from them.
//!
//! # Sampling
//!
//! The monitor samples the lag every 10 ms, and until then a storm goes unseen. At 5 million messages a second that is a lag of 50 000. With low
//! thresholds sample more often: [`sample_interval`](crate::PipelineBuilder::sample_interval), 100 µs at least.
//!
//! # Instructions
//!
//! Times differ from machine to machine and from day to day; counts of instructions do not. `tools/count_instructions.sh` counts them; see
//! the README for the counts of this version.
