//! The parts: slices through what can be varied, each along one line from the base case.

use plimsoll::{DegradationLevel, MessagePriority, Verdict, VerdictTable};

use crate::contenders::Contender::{self, Channels, Lane, Offer, OfferWait, Rings};
use crate::contenders::Handling;
use crate::load::{Load, Order};
use crate::report::Report;

/// The first, and then others.
fn with(first: &[Contender], others: &[Contender]) -> Vec<Contender> {
    [first, others].concat()
}

pub(crate) fn peers(report: &mut Report<'_>, base: Load) {
    report.part("peers", "one producer, one worker, beside the bare lane and what a user would write instead");
    for burst in [1, 8, 32, 256] {
        let load = Load { burst, ..base };
        let contenders = with(&[Offer, OfferWait, Lane], &Contender::PEERS);
        report.case("peers", &format!("burst {burst}"), Handling::Sum, &load, &contenders);
    }
}

pub(crate) fn levels(report: &mut Report<'_>, base: Load) {
    report.part(
        "levels",
        "symbols at random, so that no verdict can be foreseen; no spill log: what would be spilled is shed",
    );
    let base = Load { order: Order::Random, ..base };
    for level in DegradationLevel::ALL {
        let load = Load { level, ..base };
        if level == DegradationLevel::CircuitBreak {
            report.case("levels", "CIRCUIT_BREAK: a refused offer", Handling::Sum, &load, &[Offer]);
        } else {
            report.case("levels", level.name(), Handling::Sum, &load, &with(&[Offer], &Contender::PEERS));
        }
    }
    for (name, verdict) in [("shed", Verdict::Shed), ("to be spilled, without a log", Verdict::Spill)] {
        let level = DegradationLevel::Aggressive;
        let all = |table: VerdictTable, priority| table.with(level, priority, verdict);
        let verdicts = MessagePriority::ALL.into_iter().fold(base.verdicts, all);
        let load = Load { level, verdicts, ..base };
        report.case("levels", &format!("AGGRESSIVE, all {name}"), Handling::Sum, &load, &[Offer, Rings]);
    }
}

pub(crate) fn workers(report: &mut Report<'_>, base: Load) {
    report.part("workers", "more threads than cores share them, and yield where they wait");
    for producers in [1, 2] {
        for workers in [1, 2, 4] {
            let load = Load { producers, workers, ..base };
            let plural = |n| if n == 1 { "" } else { "s" };
            let case = format!("{producers} producer{}, {workers} worker{}", plural(producers), plural(workers));
            report.case("workers", &case, Handling::Sum, &load, &with(&[Offer], &Contender::PEERS));
        }
    }
}

pub(crate) fn handlers(report: &mut Report<'_>, base: Load) {
    report.part("handlers", "what is left of the differences when there is work to do");
    for handling in [Handling::Empty, Handling::Sum, Handling::Bars] {
        report.case("handlers", handling.name(), handling, &base, &with(&[Offer, Lane], &Contender::PEERS));
    }
}

pub(crate) fn symbols(report: &mut Report<'_>, base: Load) {
    report.part("symbols", "a table of the handler's, by symbol, beside those of priorities");
    for (order, name) in [(Order::Round, "in turn"), (Order::Random, "at random")] {
        for symbols in [100, 10_000, 1_000_000] {
            let load = Load { symbols, order, ..base };
            let case = format!("{symbols} symbols {name}");
            report.case("symbols", &case, Handling::PerSymbol, &load, &[Offer, Lane, Rings, Channels]);
        }
    }
}
