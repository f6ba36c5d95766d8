//! The report's figures, from the ledger and nowhere else.

use std::fmt::{Display, Write as _};

use plimsoll::{Ledger, MessagePriority};

use crate::cli::picture::escaped;
use crate::cli::recording::Recording;
use crate::cli::summary::{duration, grouped};
use crate::cli::verdict::{kept, percent};

/// What matters most.
pub(super) fn cards(ledger: &Ledger) -> String {
    let critical = &ledger.by_priority[MessagePriority::Critical.index()];
    let cards = [
        (kept(critical), "of CRITICAL kept"),
        (grouped(ledger.offered), "offered"),
        (grouped(ledger.processed()), "processed"),
        (grouped(ledger.replayed), "of these by replay"),
        (grouped(ledger.shed), "shed"),
        (grouped(ledger.refused + ledger.full), "refused"),
        (grouped(ledger.spill_lost), "lost"),
    ];
    cards.into_iter().fold(String::new(), |mut text, (figure, words)| {
        let _ = write!(text, "<div><b>{figure}</b>{words}</div>");
        text
    })
}

/// A table of texts; the first row is the head.
fn table<T: Display>(id: &str, head: &[&str], rows: impl IntoIterator<Item = Vec<T>>) -> String {
    // Some columns are words.
    let is_words = |i: usize| ["level", "why", ""].contains(&head.get(i).copied().unwrap_or_default()) && i > 0;
    let mut text = format!("<table id=\"{id}\"><tr>");
    for (i, name) in head.iter().enumerate() {
        let _ = write!(text, "<th{}>{name}</th>", if is_words(i) { " class=\"words\"" } else { "" });
    }
    text += "</tr>";
    for row in rows {
        text += "<tr>";
        for (i, cell) in row.iter().enumerate() {
            let class = if is_words(i) { " class=\"words\"" } else { "" };
            let _ = write!(text, "<td{class}>{}</td>", escaped(&cell.to_string()));
        }
        text += "</tr>";
    }
    text + "</table>"
}

pub(super) fn priorities(ledger: &Ledger) -> String {
    let head = ["", "offered", "processed live", "conflated", "spilled", "replayed", "shed", "refused", "full", "kept"];
    let rows = MessagePriority::ALL.into_iter().zip(&ledger.by_priority).map(|(priority, part)| {
        let counts = [
            part.offered(),
            part.processed_live,
            part.conflated,
            part.spilled,
            part.replayed,
            part.shed,
            part.refused,
            part.full,
        ];
        let mut row = vec![priority.name().to_owned()];
        row.extend(counts.map(grouped));
        row.push(kept(part));
        row
    });
    table("priorities", &head, rows)
}

pub(super) fn latency(recording: &Recording) -> String {
    let Some(last) = recording.rows.last() else { return String::new() };
    let rows = MessagePriority::ALL.into_iter().zip(&last.latency).filter_map(|(priority, snapshot)| {
        let quantile = |q| snapshot.quantile_ns(q).map(duration);
        let found = [quantile(0.5)?, quantile(0.99)?, quantile(0.999)?, quantile(1.0)?, grouped(snapshot.count())];
        Some(std::iter::once(priority.name().to_owned()).chain(found).collect())
    });
    table("latency", &["", "p50", "p99", "p99.9", "highest", "samples"], rows)
}

pub(super) fn transitions(recording: &Recording) -> String {
    let rows = recording.transitions.iter().map(|transition| {
        let arrow = if transition.is_degradation() { '▲' } else { '▼' };
        let at = format!("{:.2} s", transition.at.as_secs_f64());
        vec![at, format!("{} {arrow} {}", transition.from, transition.to), transition.cause.to_string()]
    });
    table("transitions", &["at", "level", "why"], rows)
}

/// The whole ledger, in the order in which it adds up.
pub(super) fn ledger(ledger: &Ledger) -> String {
    let whole = ledger.offered;
    let row = |name: &str, count: u64| vec![name.to_owned(), grouped(count), percent(count, whole)];
    let mut rows = vec![
        row("offered", ledger.offered),
        row("refused", ledger.refused),
        row("full", ledger.full),
        row("accepted", ledger.accepted),
        row("processed live", ledger.processed_live),
        row("conflated", ledger.conflated),
        row("spilled", ledger.spilled),
        row("shed", ledger.shed),
    ];
    for (tier, reason, count) in ledger.shed_by.iter().filter(|(.., count)| *count > 0) {
        rows.push(row(&format!("· of {}, as {}", tier.label(), reason.label()), count));
    }
    rows.extend([
        row("in flight", ledger.in_flight),
        row("recovered", ledger.recovered),
        row("replayed", ledger.replayed),
        row("spill pending", ledger.spill_pending),
        row("spill lost", ledger.spill_lost),
        row("processed in all", ledger.processed()),
    ]);
    table("figures", &["", "messages", "of offered"], rows)
}

pub(super) fn pairs(pairs: &[(String, String)]) -> String {
    table("host", &["", ""], pairs.iter().map(|(name, value)| vec![name, value]))
}
