//! What it costs to hand messages from one thread to another: our lane, and the queues one would take instead.
//!
//! ```text
//!   producer (core 0): makes ticks, hands them over in bursts ──▶ consumer (core 1): checks order, sums by symbol
//! ```
//!
//! Run with `cargo bench --bench handoff`, and one or more of the parts as arguments for these alone:
//!
//! * `saturated`: the producer goes as fast as it can, in bursts of 1, 8, 32 and 256; nanoseconds a message.
//! * `paced`: messages fall due at an even pace, whether or not the consumer keeps up (an open loop), and latency is taken from
//!   the moment a message was due, so that a stall counts against all that fell due in it.
//! * `tune`: tries settings of the peers (capacity, pauses of a consumer that runs dry). The other two parts give each peer the
//!   one that was best here; not run unless asked for.
//!
//! All contenders carry the same 64-byte messages, built in the same way, to the same consumer.
#![allow(clippy::unwrap_used, reason = "a bench may panic")]

#[path = "../harness/mod.rs"]
mod harness;

mod contenders;
mod load;
mod paced;
mod saturated;
mod tune;

use harness::Options;
use serde_json::json;

fn main() {
    let options = Options::parse(&["saturated", "paced", "tune"], 9);
    harness::pin(0);
    println!("{}", harness::machine());
    let mut report = json!({ "machine": harness::machine(), "rounds": options.rounds });
    if options.wants("saturated") {
        report["saturated"] = saturated::run(&options);
    }
    if options.wants("paced") {
        report["paced"] = paced::run(&options);
    }
    if options.asked_for("tune") {
        report["tune"] = tune::run(&options);
    }
    options.write_json(&report);
}
