//! Every key that there is, read off the template: for the environment, and for who asks what is set.

use std::sync::LazyLock;

use toml::{Table, Value};

/// What `plimsoll init` writes.
pub(crate) const TEMPLATE: &str = include_str!("template.toml");

/// Tables that are one value: their keys are not ours.
const WHOLE: [&str; 7] = [
    "feed.columns",
    "feed.lines",
    "source.kafka.properties",
    "source.kafka.secrets",
    "source.kafka.rows",
    "sink.kafka.properties",
    "sink.kafka.secrets",
];

/// Keys that the template does not show in the place where they may stand.
const MORE: &str = "[source.kafka]\ndead_letter_file = \"dead.ndjson\"\n[sink.kafka]\nproperties = {}\nsecrets = {}\n\
    [shadow.thresholds]\nlag_graceful = 1\nlag_aggressive = 1\nlag_circuit_break = 1\nheap_soft = 1.0\nheap_graceful = 1.0\n\
    heap_aggressive = 1.0\nheap_circuit_break = 1.0\nrecovery_lag_factor = 1.0\nrecovery_heap_factor = 1.0\n\
    recovery_cooldown_seconds = 1.0\n\
    [proportional.critical]\nfrom_lag = 1\nto_lag = 2\nfrom_percent = 0.0\nto_percent = 100.0\n\
    [proportional.high]\nfrom_lag = 1\nto_lag = 2\nfrom_percent = 0.0\nto_percent = 100.0\n\
    [proportional.low]\nfrom_lag = 1\nto_lag = 2\nfrom_percent = 0.0\nto_percent = 100.0\n\
    [budget.critical]\nmessages_per_second = 1.0\nburst = 1\n[budget.high]\nmessages_per_second = 1.0\nburst = 1\n\
    [budget.low]\nmessages_per_second = 1.0\nburst = 1\n";

/// The template with nothing commented out; without Kafka, where there is none.
#[cfg(test)]
pub(crate) fn template_in_full() -> String {
    let has_kafka = cfg!(feature = "kafka");
    let lines = in_full().take_while(|line| has_kafka || !line.starts_with("[source.kafka]"));
    lines.fold(String::new(), |text, line| text + line + "\n")
}

/// A key: its path with dots, and an example of its value. `feed.` is before the keys of each feed.
#[derive(Clone, Debug)]
pub(crate) struct KeyInfo {
    pub(crate) path: String,
    pub(crate) example: Value,
}

impl KeyInfo {
    /// The environment variable's name.
    pub(crate) fn variable(&self) -> String {
        variable(&self.path)
    }
}

/// The environment variable of a key, or of a whole table.
pub(crate) fn variable(path: &str) -> String {
    format!("PLIMSOLL_{}", path.replace('.', "_").to_uppercase())
}

/// The template's lines with no key commented out.
fn in_full() -> impl Iterator<Item = &'static str> {
    TEMPLATE.lines().map(|line| match line.strip_prefix('#') {
        Some(rest) if !rest.starts_with(' ') => rest,
        _ => line,
    })
}

/// All keys, Kafka's too, be it built in or not; in the template's order.
pub(crate) fn all() -> &'static [KeyInfo] {
    static ALL: LazyLock<Vec<KeyInfo>> = LazyLock::new(read_all);
    &ALL
}

fn read_all() -> Vec<KeyInfo> {
    let full = in_full().fold(String::new(), |text, line| text + line + "\n");
    let mut keys: Vec<KeyInfo> = Vec::new();
    for text in [full.as_str(), MORE] {
        let table: Table = toml::from_str(text).unwrap_or_default();
        leaves(&table, "", &mut |path, example| {
            if keys.iter().all(|key| key.path != path) {
                keys.push(KeyInfo { path: path.to_owned(), example: example.clone() });
            }
        });
    }
    keys
}

/// Calls with each value that is no table, and with tables that are one value; those of an array of feeds without their number.
fn leaves(table: &Table, prefix: &str, call: &mut impl FnMut(&str, &Value)) {
    for (key, value) in table {
        let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            Value::Table(inner) if !WHOLE.contains(&path.as_str()) => leaves(inner, &path, call),
            Value::Array(feeds) if path == "feed" => {
                feeds.iter().filter_map(Value::as_table).for_each(|feed| leaves(feed, &path, call));
            }
            value => call(&path, value),
        }
    }
}

/// Calls with each value that is set; those of feeds with their number from 1.
pub(crate) fn set_values(table: &Table, call: &mut impl FnMut(&str, &Value)) {
    let mut others = table.clone();
    let feeds = others.remove("feed");
    leaves(&others, "", call);
    for (i, feed) in feeds.iter().filter_map(Value::as_array).flatten().enumerate() {
        if let Some(feed) = feed.as_table() {
            let number = i + 1;
            for (key, value) in feed {
                call(&format!("feed.{number}.{key}"), value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fields of a section, as the parser lists them when it is given one that it does not know.
    fn fields_of(section: &str) -> Vec<String> {
        let text = match section {
            "" => "no_such_key = 1".to_owned(),
            "feed" => "[[feed]]\nno_such_key = 1".to_owned(),
            section => format!("[{section}]\nno_such_key = 1"),
        };
        let error = toml::from_str::<super::super::Config>(&text).unwrap_err().message().to_owned();
        let listed = error.split_once("expected").expect("it lists the fields").1;
        listed.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    }

    #[test]
    fn no_key_is_missing() {
        let keys = all();
        let mut sections = vec![
            "thresholds",
            "tiers",
            "verdicts",
            "shadow",
            "shadow.thresholds",
            "signals.age",
            "signals.spill_disk",
            "proportional.normal",
            "proportional.low",
            "budget.normal",
            "budget.critical",
            "pipeline",
            "supervision",
            "http",
            "control",
            "log",
            "labels",
            "spill",
            "feed",
        ];
        if cfg!(feature = "kafka") {
            sections.extend(["source.kafka", "sink.kafka"]);
        }
        for section in sections {
            for field in fields_of(section) {
                let path = format!("{section}.{field}");
                let is_there = |key: &KeyInfo| key.path == path || key.path.starts_with(&format!("{path}."));
                assert!(keys.iter().any(is_there), "{path} is not in the template");
            }
        }
    }

    #[test]
    fn variables_are_told_apart() {
        let keys = all();
        let mut names: Vec<_> = keys.iter().map(KeyInfo::variable).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), keys.len());
        assert!(names.contains(&"PLIMSOLL_THRESHOLDS_LAG_SOFT".to_owned()), "{names:?}");
        assert!(names.contains(&"PLIMSOLL_SOURCE_KAFKA_DEAD_LETTER_FILE".to_owned()));
    }
}
