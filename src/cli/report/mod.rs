//! A run as one page that stands by itself: pictures, tables, configuration and host. Nothing in it comes from elsewhere.

mod charts;
mod host;
mod tables;

use std::time::SystemTime;

use plimsoll::internals::rounded;

use super::output::OutputFile;
use super::picture::{escaped, style};
use super::recording::Recording;
use super::summary::{counted, grouped};
use super::version::VERSION;
use super::{CliError, verdict};

const PAGE: &str = include_str!("page.html");

/// What a report tells of.
pub(crate) struct Report<'a> {
    pub(crate) title: &'a str,
    /// What was run, in words.
    pub(crate) subject: String,
    pub(crate) begun: SystemTime,
    pub(crate) recording: &'a Recording,
    /// As the configuration file would have it.
    pub(crate) configuration: String,
}

impl Report<'_> {
    /// Writes the page.
    pub(crate) fn write(&self, file: OutputFile) -> Result<(), CliError> {
        let page = self.page();
        file.finish(|out| out.write_all(page.as_bytes()))
    }

    fn page(&self) -> String {
        let recording = self.recording;
        let ledger = &recording.ledger;
        let begun = jiff::Timestamp::try_from(self.begun).unwrap_or_default().strftime("%Y-%m-%d %H:%M:%S UTC");
        let subtitle = format!("{} · {begun} · {} · plimsoll {VERSION}", self.subject, rounded(recording.length()));
        let has_spill = ledger.spilled + ledger.recovered > 0;
        let spill = if has_spill { charts::spill(recording) } else { String::new() };
        let transitions = recording.transition_count as usize;
        let left_out = transitions - recording.transitions.len();
        let highest = recording.transitions.iter().map(|transition| transition.to).max().unwrap_or_default();
        let level_note = match transitions {
            0 => "NORMAL throughout".to_owned(),
            _ => format!("{}, up to {highest}", counted(transitions, "change")),
        };
        let transition_note = match left_out {
            0 => counted(transitions, "change"),
            _ => {
                format!("the first {} of {}", grouped(recording.transitions.len() as u64), grouped(transitions as u64))
            }
        };
        let balance = match ledger.check() {
            Ok(()) => "balanced: every message is accounted for".to_owned(),
            Err(error) => error.to_string(),
        };
        let is_good = ledger.check().is_ok() && ledger.spill_lost == 0;
        let json = serde_json::to_string(ledger).unwrap_or_default();
        fill(
            PAGE,
            &[
                ("title", escaped(self.title)),
                ("colours", style()),
                ("subtitle", escaped(&subtitle)),
                ("bad", if is_good { String::new() } else { " class=\"bad\"".to_owned() }),
                ("verdict", unbroken(&escaped(&verdict::sentence(ledger)))),
                ("cards", tables::cards(ledger)),
                ("level_note", escaped(&level_note)),
                ("levels", charts::levels(recording)),
                ("water", charts::water(recording)),
                ("signals", charts::signals(recording)),
                ("flows", charts::flows(recording)),
                ("priorities", tables::priorities(ledger)),
                ("spill", spill),
                ("latencies", charts::latencies(recording)),
                ("latency_table", tables::latency(recording)),
                ("transition_note", escaped(&transition_note)),
                ("transitions", tables::transitions(recording)),
                ("balance", escaped(&balance)),
                ("ledger", tables::ledger(ledger)),
                ("host", tables::pairs(&host::facts())),
                ("configuration", escaped(&self.configuration)),
                // In a script's text only its end is special.
                ("ledger_json", json.replace("</", "<\\/")),
            ],
        )
    }
}

/// Groups of digits stay together: the space between them is one that a line is not broken at.
fn unbroken(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let is_digit = |i: usize| chars.get(i).is_some_and(char::is_ascii_digit);
    let narrow = |i: usize| chars[i] == ' ' && i > 0 && is_digit(i - 1) && is_digit(i + 1);
    (0..chars.len()).map(|i| if narrow(i) { '\u{202f}' } else { chars[i] }).collect()
}

/// Puts values in the places of their names, each of which is there once.
fn fill(page: &str, values: &[(&str, String)]) -> String {
    let mut text = String::with_capacity(page.len() + values.iter().map(|(_, value)| value.len()).sum::<usize>());
    let mut rest = page;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) = after.split_once("}}").expect("the page's own text is well-formed");
        let value = values.iter().find(|(known, _)| *known == name).map(|(_, value)| value);
        text += before;
        text += value.expect("the page's own text names what there is");
        rest = after;
    }
    text + rest
}
