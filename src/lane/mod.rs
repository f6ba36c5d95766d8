//! A lane: one producer, one worker, messages in blocks.
//!
//! ```text
//!                   blocks of 256 messages, and the route: which block comes after which
//!   Sender ───────────────────────────────────────────────────────────────────────────▶ Receiver
//!     │ writes into the open block                                 reads what is published │
//!     ├──────────────────── published: messages ever sent ─────────────────────────────────┤
//!     └──────────────────── finished: messages ever done with ─────────────────────────────┘
//! ```
//!
//! * All blocks are made at start. Two counters are the whole hand-off. A sender that opens a block writes its number
//!   into the route, fills it, and says with one release store of `published` how far the receiver may read. A receiver
//!   says with one release store of `finished` how far it has read; blocks before that are empty again, in the order of the
//!   route. So a burst costs one store whatever its length, and a lane's capacity does not shrink when bursts are small.
//! * While the receiver keeps up, the sender goes round a few blocks, some distance behind the receiver's back, and the rest
//!   of the pool is never touched; see [`supply`].
//! * `published − finished` is the lane's lag.
//! * When offers of a symbol failed, the sender notes beside the symbol's next message how many were
//!   missed, so that a hole is reported at its place in the stream.
//!
//! Neither end ever waits for the other, locks, or repeats a step that the other has upset: both are wait-free.

mod block;
mod ring;
mod supply;
mod wait;

pub use ring::{Chunk, Receiver, Reserved, Sender, lane};
pub(crate) use ring::{LaneCounters, lane_bytes};
pub use wait::{WaitStrategy, Waiter, Waker};
