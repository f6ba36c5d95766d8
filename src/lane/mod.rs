//! A lane: one producer, one worker, messages in blocks.
//!
//! ```text
//!            full blocks (ArrayQueue of block numbers)
//!   Sender ────────────────────────────────────────────▶ Receiver
//!     │ writes the open block           reads what is published │
//!     └──────────── published: a message count ─────────────────┘
//!            empty blocks (ArrayQueue of block numbers)
//!   Sender ◀──────────────────────────────────────────── Receiver
//! ```
//!
//! * All blocks are made at start, and only their numbers travel. A block is on its way as soon as the
//!   sender opens it; the sender goes on filling it, and says with one release store of
//!   `published` (the count of messages ever sent) how far the receiver may read. So a burst of one
//!   message costs one store, a block of 256 costs one hand-off, and a lane's capacity does
//!   not shrink when bursts are small.
//! * The sender reuses the block that came back last. While the receiver keeps up, a few blocks stay in
//!   cache and the rest of the pool is never touched.
//! * `finished` counts messages that the receiver is done with; `published − finished` is the lane's lag.
//! * When offers of a symbol failed, the sender notes beside the symbol's next message how many were
//!   missed, so that a hole is reported at its place in the stream.
//!
//! No locks on the data path. (`ArrayQueue` is Vyukov's bounded queue: a thread that is preempted in
//! the middle of a push can delay the other side, but both ends of ours have a single user.)

mod block;
mod ring;
mod wait;

pub(crate) use ring::LaneCounters;
pub use ring::{Chunk, Receiver, Sender, lane};
pub use wait::{WaitStrategy, Waiter, Waker};
