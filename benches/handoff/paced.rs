//! At an even pace, in an open loop.

use serde_json::{Value, json};

use crate::contenders::{LIMIT, PEERS, QUEUES as ALL, Queue, run as send};
use crate::harness::{Options, median, quantile};
use crate::load::{Latencies, Paced};
use crate::tune;

const RATES: [u64; 3] = [100_000, 1_000_000, 5_000_000];
const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999), ("p99.99", 0.9999)];

/// All but the limit, which is no queue.
const QUEUES: &[(&str, Queue)] = ALL.split_at(LIMIT).0;

/// Latencies in ns: by contender, by quantile, by round.
type Table = Vec<Vec<Vec<f64>>>;

pub(crate) fn run(options: &Options) -> Value {
    let rounds = if options.quick { 1 } else { 4 * options.rounds };
    let mut report = json!({});
    for per_second in RATES {
        // Short rounds, so that most of them meet no stall of the machine itself.
        let seconds = if options.quick { 0.02 } else { 0.1 };
        let load = Paced { per_second, messages: (per_second as f64 * seconds) as u64 };
        let mut table: Table = vec![vec![Vec::new(); QUANTILES.len()]; QUEUES.len()];
        for round in 0..rounds {
            for turn in 0..QUEUES.len() {
                let i = if round % 2 == 0 { turn } else { QUEUES.len() - 1 - turn };
                let queue = QUEUES[i].1;
                let (sink, _) = send(queue, tune::SOONEST, load, |start| Latencies::new(start, load));
                sink.check(load.messages);
                for (cell, (_, quantile)) in table[i].iter_mut().zip(QUANTILES) {
                    cell.push(sink.histogram.value_at_quantile(quantile) as f64);
                }
            }
        }
        print(load, rounds, &table);
        let by_name = QUEUES.iter().zip(&table).map(|((name, _), by_quantile)| {
            let figures: Value = QUANTILES
                .iter()
                .zip(by_quantile)
                .map(|((name, _), rounds)| ((*name).to_owned(), json!(rounds)))
                .collect();
            ((*name).to_owned(), figures)
        });
        report[per_second.to_string()] = by_name.collect();
    }
    report
}

fn print(load: Paced, rounds: usize, table: &Table) {
    println!(
        "\npaced: {} messages a second, {rounds} rounds of {}, ns since due, median of the rounds",
        load.per_second, load.messages
    );
    print!("{:<27}", "");
    QUANTILES.iter().for_each(|(name, _)| print!("{name:>9}{:>7}", "÷ ours"));
    println!();
    let ratio = |i: usize, q: usize| -> Vec<f64> {
        table[i][q].iter().zip(&table[0][q]).map(|(its, ours)| its / ours).collect()
    };
    for (i, (name, _)) in QUEUES.iter().enumerate() {
        print!("{name:<27}");
        for (q, rounds) in table[i].iter().enumerate() {
            print!("{:>9.0}{:>7.2}", median(rounds), median(&ratio(i, q)));
        }
        println!();
    }
    for (q, (name, _)) in QUANTILES.iter().enumerate() {
        let best = PEERS.min_by(|a, b| median(&table[*a][q]).total_cmp(&median(&table[*b][q]))).unwrap();
        let [low, middle, high] = [0.25, 0.5, 0.75].map(|share| quantile(&ratio(best, q), share));
        println!("{name:>7}: best peer ÷ ours {middle:.2} ({low:.2} to {high:.2}), {}", QUEUES[best].0);
    }
}
