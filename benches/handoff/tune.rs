//! Which settings suit each contender best.

use serde_json::{Value, json};

use crate::contenders::{Queue, Settings};
use crate::harness::{Options, Rounds};
use crate::load::Saturated;
use crate::saturated::{BURSTS, turn};

const PEERS: [(&str, Queue); 5] = [
    ("crossbeam ArrayQueue", Queue::ArrayQueue),
    ("crossbeam channel", Queue::CrossbeamChannel),
    ("rtrb, chunks", Queue::RtrbChunks),
    ("disruptor, batches", Queue::Disruptor),
    ("std sync_channel", Queue::SyncChannel),
];
const CAPACITIES: [usize; 3] = [1 << 10, 1 << 14, 1 << 16];
const PAUSES: [u32; 4] = [0, 1, 16, 128];

/// What was fastest here, on a machine whose cores are far apart: the differences beyond these were noise. Ours has no settings
/// but its capacity.
pub(crate) fn fastest(queue: Queue, burst: u64) -> Settings {
    match queue {
        Queue::ArrayQueue => Settings { capacity: 1 << 16, pauses: 128 },
        Queue::CrossbeamChannel | Queue::SyncChannel => Settings { capacity: 1 << 16, pauses: 1 },
        Queue::RtrbChunks if burst == 1 => Settings { capacity: 1 << 14, pauses: 128 },
        _ => SOONEST,
    }
}

/// For latency all look again after the shortest pause that there is, as ours does.
pub(crate) const SOONEST: Settings = Settings { capacity: 1 << 14, pauses: 1 };

pub(crate) fn run(options: &Options) -> Value {
    let messages = if options.quick { 20_000 } else { 1_000_000 };
    let mut report = json!({});
    for burst in BURSTS {
        println!("\ntune: burst {burst}, {messages} messages, {} rounds, ns a message", options.rounds);
        for (name, queue) in PEERS {
            let all: Vec<Settings> = CAPACITIES
                .into_iter()
                .flat_map(|capacity| PAUSES.map(|pauses| Settings { capacity, pauses }))
                .collect();
            let names: Vec<String> = all.iter().map(|s| format!("{} slots, {} pauses", s.capacity, s.pauses)).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let rounds = Rounds::run(&names, options.rounds, |i| turn(queue, all[i], Saturated { messages, burst }));
            let mut order: Vec<usize> = (0..all.len()).collect();
            order.sort_by(|a, b| rounds.median(*a).total_cmp(&rounds.median(*b)));
            println!("{name}");
            for i in order.into_iter().take(4) {
                println!("    {:<26}{:>8.2}{:>8.2}", names[i], rounds.median(i), rounds.best(i));
            }
            report[burst.to_string()][name] = rounds.to_json();
        }
    }
    report
}
