//! What a run comes to, in a few words: what each priority got, what was put off, given up and lost.

use plimsoll::{Ledger, MessagePriority, PriorityLedger};

use super::summary::grouped;

/// A share in percent, so that only all is 100 and only none is 0.
pub(crate) fn percent(part: u64, whole: u64) -> String {
    let exact = part as f64 / whole.max(1) as f64 * 100.0;
    let shown = match part {
        0 => 0.0,
        _ if part >= whole => 100.0,
        _ => exact.clamp(0.1, 99.9),
    };
    format!("{shown:.1} %")
}

/// What a handler got of what was offered.
pub(crate) fn kept(part: &PriorityLedger) -> String {
    percent(part.processed(), part.offered())
}

/// The sentence that a run ends with.
pub(crate) fn sentence(ledger: &Ledger) -> String {
    let critical = &ledger.by_priority[MessagePriority::Critical.index()];
    let balance = match ledger.check() {
        Ok(()) => "ledger balanced".to_owned(),
        Err(error) => error.to_string(),
    };
    let waiting = match ledger.spill_pending {
        0 => String::new(),
        pending => format!(" ({} wait)", grouped(pending)),
    };
    let [spilled, replayed, shed, refused, lost] =
        [ledger.spilled, ledger.replayed, ledger.shed, ledger.refused + ledger.full, ledger.spill_lost].map(grouped);
    format!(
        "CRITICAL kept {}, and {} of what was let in;\n{spilled} spilled and {replayed} replayed{waiting}, {shed} shed, {refused} refused;\n\
         {lost} lost, {balance}.",
        kept(critical),
        percent(critical.processed(), critical.offered() - critical.refused - critical.full)
    )
}

/// A line for each priority: what it was offered, and what became of that.
pub(crate) fn table(ledger: &Ledger) -> String {
    // A column of nothing would make it too wide for a terminal.
    let conflated = |text: String| if ledger.conflated > 0 { format!("{text:>11}") } else { String::new() };
    let mut text = format!(
        "{:<8}{:>11}{:>11}{}{:>10}{:>10}{:>10}{:>11}{:>9}\n",
        "",
        "offered",
        "processed",
        conflated("conflated".to_owned()),
        "spilled",
        "replayed",
        "shed",
        "refused",
        "kept"
    );
    for (priority, part) in MessagePriority::ALL.into_iter().zip(&ledger.by_priority) {
        let [offered, live, spilled, replayed, shed, refused] =
            [part.offered(), part.processed_live, part.spilled, part.replayed, part.shed, part.refused + part.full]
                .map(grouped);
        let name = priority.name();
        text += &format!(
            "{name:<8}{offered:>11}{live:>11}{}{spilled:>10}{replayed:>10}{shed:>10}{refused:>11}{:>9}\n",
            conflated(grouped(part.conflated)),
            kept(part)
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_all_is_a_hundred_and_only_none_is_nothing() {
        let shares = [(0, 0), (0, 7), (1, 1_000_000), (999_999, 1_000_000), (5, 5), (1, 3)].map(|(a, b)| percent(a, b));
        assert_eq!(shares, ["0.0 %", "0.0 %", "0.1 %", "99.9 %", "100.0 %", "33.3 %"]);
    }
}
