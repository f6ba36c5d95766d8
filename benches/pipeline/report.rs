//! The tables, and the same for `--json`.

use serde_json::{Map, Value, json};

use crate::contenders::{Contender, Handling};
use crate::harness::{Options, Rounds, machine};
use crate::load::Load;

/// Collects cases and prints each as soon as it is done.
pub(crate) struct Report<'a> {
    options: &'a Options,
    parts: Map<String, Value>,
}

impl<'a> Report<'a> {
    pub(crate) fn new(options: &'a Options) -> Self {
        let quick = if options.quick { ", quick: the figures mean nothing" } else { "" };
        println!("{}\n{} rounds{quick}; nanoseconds a message of 64 bytes", machine(), options.rounds);
        Self { options, parts: Map::new() }
    }

    /// Begins a part.
    pub(crate) fn part(&mut self, name: &str, what: &str) {
        println!("\n{name}: {what}");
        self.parts.insert(name.to_owned(), json!([]));
    }

    /// Runs a case of a part: each contender's turns under a load. The first contender is what the others are compared with.
    pub(crate) fn case(&mut self, part: &str, case: &str, handling: Handling, load: &Load, contenders: &[Contender]) {
        let names: Vec<_> = contenders.iter().map(|contender| contender.name()).collect();
        let rounds = Rounds::run(&names, self.options.rounds, |i| contenders[i].turn(handling, load));
        println!("\n  {case}");
        println!("  {:<28}{:>9}{:>9}{:>12}{:>16}", "", "median", "best", "÷ the first", "quartiles");
        for (i, name) in names.iter().enumerate() {
            let (median, best, [low, ratio, high]) = (rounds.median(i), rounds.best(i), rounds.ratio(i, 0));
            print!("  {name:<28}{median:>9.2}{best:>9.2}");
            if i == 0 {
                println!();
            } else {
                println!("{ratio:>12.2}{:>16}", format!("{low:.2}–{high:.2}"));
            }
        }
        if let Some(lane) = contenders.iter().position(|contender| *contender == Contender::Lane) {
            let [low, ratio, high] = rounds.ratio(0, lane);
            println!("  {} ÷ {}: {ratio:.2}, quartiles {low:.2}–{high:.2}", names[0], names[lane]);
        }
        let report = json!({
            "case": case,
            "handler": handling.name(),
            "messages": load.messages,
            "burst": load.burst,
            "producers": load.producers,
            "workers": load.workers,
            "symbols": load.symbols,
            "order": format!("{:?}", load.order).to_lowercase(),
            "level": load.level.name(),
            "ns_per_message": rounds.to_json(),
        });
        self.parts[part].as_array_mut().expect("made as one").push(report);
    }

    pub(crate) fn end(self) {
        self.options.write_json(&json!({
            "bench": "pipeline",
            "machine": machine(),
            "rounds": self.options.rounds,
            "quick": self.options.quick,
            "parts": self.parts,
        }));
    }
}
