//! As fast as it goes.

use serde_json::{Value, json};

use crate::contenders::{LIMIT, PEERS, QUEUES, Queue, Settings, run as send};
use crate::harness::{Options, Rounds};
use crate::load::{Saturated, Sums};
use crate::tune;

pub(crate) const BURSTS: [u64; 4] = [1, 8, 32, 256];
const MESSAGES: u64 = 4_000_000;

/// Nanoseconds a message.
pub(crate) fn turn(queue: Queue, settings: Settings, load: Saturated) -> f64 {
    let (sums, elapsed) = send(queue, settings, load, |_| Sums::default());
    sums.check(load.messages);
    elapsed.as_secs_f64() * 1e9 / load.messages as f64
}

pub(crate) fn run(options: &Options) -> Value {
    let messages = if options.quick { 50_000 } else { MESSAGES };
    println!("\nsaturated: {messages} messages of 64 bytes, {} rounds, ns a message", options.rounds);
    let names = QUEUES.map(|(name, _)| name);
    let mut report = json!({});
    for burst in BURSTS {
        let load = Saturated { messages, burst };
        let rounds = Rounds::run(&names, options.rounds, |i| {
            let queue = QUEUES[i].1;
            turn(queue, tune::fastest(queue, burst), load)
        });
        print(burst, &rounds);
        report[burst.to_string()] = rounds.to_json();
    }
    report
}

fn print(burst: u64, rounds: &Rounds) {
    let of_best = PEERS.min_by(|a, b| rounds.median(*a).total_cmp(&rounds.median(*b))).unwrap();
    let best_name = &rounds.names()[of_best];
    println!("\nburst {burst:<21}{:>9}{:>8}   ÷ lane, busy spin (quartiles)", "median", "best");
    for (i, name) in rounds.names().iter().enumerate() {
        let [low, middle, high] = rounds.ratio(i, 0);
        let (median, best) = (rounds.median(i), rounds.best(i));
        println!("{name:<27}{median:>9.2}{best:>8.2}{middle:>9.2}  ({low:.2} to {high:.2})");
    }
    let [low, middle, high] = rounds.ratio(of_best, 0);
    println!("best peer ÷ ours: {middle:.2} ({low:.2} to {high:.2}), {best_name}");
    let [low, middle, high] = rounds.ratio(0, LIMIT);
    println!("ours ÷ limit:     {middle:.2} ({low:.2} to {high:.2})");
}
