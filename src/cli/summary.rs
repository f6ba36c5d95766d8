//! What every run ends by printing: the ledger, the transitions, the latency.

use std::fmt::Write;
use std::time::Duration;

pub(crate) use plimsoll::internals::grouped;
use plimsoll::{DegradationLevel, LatencySnapshot, Ledger, MessagePriority, Tier, Transition};

/// `1 fault`, `2 faults`.
pub(crate) fn counted(count: usize, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

/// The ledger as a table, and whether it balances. `spills`: there is a spill log, so that its rows are of interest.
pub(crate) fn ledger(ledger: &Ledger, spills: bool) -> String {
    let mut out = String::from("ledger\n");
    let mut row = |name: &str, count: u64| {
        let _ = writeln!(out, "  {name:<16}{:>16}", grouped(count));
    };
    row("offered", ledger.offered);
    if ledger.redelivered > 0 {
        row("redelivered", ledger.redelivered);
    }
    row("refused", ledger.refused);
    row("full", ledger.full);
    row("accepted", ledger.accepted);
    row("processed", ledger.processed());
    if ledger.conflated > 0 {
        row("conflated", ledger.conflated);
    }
    row("shed", ledger.shed);
    row("in flight", ledger.in_flight);
    let spill = [
        ("recovered", ledger.recovered),
        ("spilled", ledger.spilled),
        ("replayed", ledger.replayed),
        ("spill pending", ledger.spill_pending),
        ("spill lost", ledger.spill_lost),
    ];
    if spills || spill.iter().any(|(_, count)| *count > 0) {
        spill.iter().for_each(|(name, count)| row(name, *count));
    }
    for tier in Tier::ALL {
        let cells = ledger.shed_by.iter().filter(|(t, _, count)| *t == tier && *count > 0);
        for (_, reason, count) in cells {
            let _ = writeln!(out, "  shed {} {}: {}", tier.label(), reason.label(), grouped(count));
        }
    }
    match ledger.check() {
        Ok(()) => out.push_str("  balanced: every message is accounted for\n"),
        Err(error) => {
            let _ = writeln!(out, "  {error}");
        }
    }
    out
}

/// One transition in a line: when, from, to, why.
pub(crate) fn transition(transition: &Transition) -> String {
    let Transition { at, from, to, cause, .. } = transition;
    let arrow = if transition.is_degradation() { '▲' } else { '▼' };
    format!("{:>8.2} s  {arrow} {from:<13} → {to:<13} {cause}", at.as_secs_f64())
}

/// How often the level changed, and how far it went.
pub(crate) fn levels(highest: DegradationLevel, transitions: u64) -> String {
    match transitions {
        0 => "level            NORMAL throughout\n".to_owned(),
        count => format!("level            {count} transitions, up to {highest}\n"),
    }
}

/// How long it took, and how many messages a second that makes.
pub(crate) fn rate(processed: u64, elapsed: Duration) -> String {
    let seconds = elapsed.as_secs_f64();
    let rate = processed as f64 / seconds.max(f64::MIN_POSITIVE);
    format!("time             {seconds:.2} s, {} messages/s\n", grouped(rate as u64))
}

/// Latency percentiles by priority; empty when nothing was sampled.
pub(crate) fn latency(latency: &[LatencySnapshot; 4]) -> String {
    let mut out = String::new();
    for (priority, snapshot) in MessagePriority::ALL.into_iter().zip(latency) {
        let quantiles = [0.5, 0.99, 0.999].map(|q| snapshot.quantile_ns(q));
        if let [Some(p50), Some(p99), Some(p999)] = quantiles {
            let [p50, p99, p999] = [p50, p99, p999].map(duration);
            let _ = writeln!(out, "  {:<10} p50 {p50:>8}  p99 {p99:>8}  p99.9 {p999:>8}", priority.name());
        }
    }
    if out.is_empty() { out } else { format!("latency, receive to processed (sampled)\n{out}") }
}

/// Bytes in the unit that suits them.
pub(crate) fn bytes(bytes: u64) -> String {
    let mut scaled = bytes as f64;
    for unit in ["bytes", "KiB", "MiB", "GiB"] {
        if scaled < 1024.0 {
            return if unit == "bytes" { format!("{bytes} bytes") } else { format!("{scaled:.1} {unit}") };
        }
        scaled /= 1024.0;
    }
    format!("{scaled:.1} TiB")
}

/// Nanoseconds in the unit that suits them.
pub(crate) fn duration(nanos: u64) -> String {
    match nanos {
        0..1_000 => format!("{nanos} ns"),
        1_000..1_000_000 => format!("{:.1} µs", nanos as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} ms", nanos as f64 / 1e6),
        _ => format!("{:.1} s", nanos as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_come_in_groups_of_three() {
        let texts = [0, 999, 1_000, 1_234_567].map(grouped);
        assert_eq!(texts, ["0", "999", "1 000", "1 234 567"]);
    }

    #[test]
    fn bytes_come_in_the_unit_that_suits_them() {
        let texts = [0, 1023, 1024, 64 << 20, 3 << 40].map(bytes);
        assert_eq!(texts, ["0 bytes", "1023 bytes", "1.0 KiB", "64.0 MiB", "3.0 TiB"]);
    }

    #[test]
    fn rows_of_the_spill_log_are_there_if_it_is() {
        let mut none = Ledger::default();
        assert!(!ledger(&none, false).contains("spill") && ledger(&none, true).contains("spill pending"));
        none.recovered = 1;
        assert!(ledger(&none, false).contains("recovered"));
    }
}
