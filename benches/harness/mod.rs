//! What the benches have in common: contenders take turns, round after round, and are compared within each round.
//!
//! The machines that these run on may be anything, and virtual cores may share one real core at one moment and not at the
//! next. So an absolute figure says something of the machine at that moment; the median over the rounds of the ratio of two
//! contenders in the same round says something of the code.
#![allow(dead_code, unused_imports, reason = "each bench uses a part")]

mod machine;
mod options;
mod rounds;

pub(crate) use machine::{machine, on_own_thread, pin};
pub(crate) use options::Options;
pub(crate) use rounds::{Rounds, median, quantile};
