//! Puts a changed configuration in force, as far as that goes without a restart.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use plimsoll::Control;
use toml::{Table, Value};

use super::super::CliError;
use crate::config::{Loader, NotReady, keys};

/// What is in force without a restart: these keys, and all below them.
const RELOADABLE: [&str; 11] = [
    "thresholds",
    "tiers",
    "verdicts",
    "shadow",
    "signals",
    "proportional",
    "budget",
    "pipeline.mode",
    "pipeline.sample_interval",
    "spill.replay_share",
    "http.not_ready_from",
];

/// The configuration of a run, to be read again.
pub(crate) struct Reloader {
    loader: Loader,
    running: Mutex<Running>,
}

/// What is in force.
struct Running {
    table: Table,
    not_ready_from: NotReady,
}

/// What a reload has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reloaded {
    /// Keys whose new value is in force.
    pub(crate) changed: Vec<String>,
    /// Keys that have changed, and want a restart.
    pub(crate) needs_restart: Vec<String>,
    pub(crate) warnings: Vec<String>,
}

impl fmt::Display for Reloaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.changed.is_empty() {
            true => f.write_str("reloaded: nothing has changed that can be changed without a restart")?,
            false => write!(f, "reloaded: {}", self.changed.join(", "))?,
        }
        if !self.needs_restart.is_empty() {
            write!(f, "\nonly after a restart: {}", self.needs_restart.join(", "))?;
        }
        self.warnings.iter().try_for_each(|warning| write!(f, "\nwarning: {warning}"))
    }
}

impl Reloader {
    pub(crate) fn new(loader: Loader, table: Table, not_ready_from: NotReady) -> Self {
        Self { loader, running: Mutex::new(Running { table, not_ready_from }) }
    }

    pub(super) fn not_ready_from(&self) -> NotReady {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).not_ready_from
    }

    /// Reads and checks all of it, and puts in force what can be.
    ///
    /// # Errors
    /// When it is wrong, or the monitor does not answer; all stays as it was then.
    pub(super) fn reload(&self, control: &Control) -> Result<Reloaded, CliError> {
        let loaded = self.loader.load().inspect_err(|_| control.note_failed_reload())?;
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let share = loaded.config.spill.as_ref().and_then(|spill| spill.replay_share);
        // Without a key of its own, replay goes on as it does.
        let share = share.unwrap_or_else(|| control.settings().replay_share);
        control.apply(loaded.config.settings(share)).map_err(|error| CliError::Config(error.to_string()))?;
        running.not_ready_from = loaded.config.http.not_ready_from;
        let changes = changes(&running.table, &loaded.table).into_iter();
        let (changed, needs_restart): (Vec<_>, Vec<_>) = changes.partition(|key| is_reloadable(key));
        for key in &changed {
            take_over(key, &loaded.table, &mut running.table);
        }
        Ok(Reloaded { changed, needs_restart, warnings: loaded.warnings })
    }
}

fn is_reloadable(key: &str) -> bool {
    RELOADABLE
        .iter()
        .any(|prefix| key.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
}

/// Keys whose values differ.
fn changes(old: &Table, new: &Table) -> Vec<String> {
    let values = |table: &Table| {
        let mut values = Vec::new();
        keys::set_values(table, &mut |path, value| values.push((path.to_owned(), value.clone())));
        values
    };
    let (old, new) = (values(old), values(new));
    let differs = |(path, value): &(String, Value), others: &[(String, Value)]| {
        others.iter().find(|(other, _)| other == path).is_none_or(|(_, other)| other != value)
    };
    let mut changed: Vec<_> = old.iter().filter(|entry| differs(entry, &new)).map(|(path, _)| path.clone()).collect();
    changed.extend(new.iter().filter(|entry| differs(entry, &old)).map(|(path, _)| path.clone()));
    changed.sort();
    changed.dedup();
    changed
}

/// Sets a key to what it is in another table, or takes it out.
fn take_over(key: &str, from: &Table, to: &mut Table) {
    let Some((first, rest)) = key.split_once('.') else {
        match from.get(key) {
            Some(value) => drop(to.insert(key.to_owned(), value.clone())),
            None => drop(to.remove(key)),
        }
        return;
    };
    let empty = Table::new();
    let inner = from.get(first).and_then(Value::as_table).unwrap_or(&empty);
    let place = to.entry(first).or_insert_with(|| Value::Table(Table::new()));
    if let Value::Table(place) = place {
        take_over(rest, inner, place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Table {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn what_differs_is_named_by_its_key_and_told_apart_by_whether_it_wants_a_restart() {
        let old =
            table("[thresholds]\nlag_soft = 1\n[pipeline]\nworkers = 2\nmode = \"enforce\"\n[[feed]]\nkind = \"itch\"");
        let new = table("[pipeline]\nworkers = 3\nmode = \"observe\"\n[tiers]\ntier_1 = []\n[[feed]]\nkind = \"dbn\"");
        let all = ["feed.1.kind", "pipeline.mode", "pipeline.workers", "thresholds.lag_soft", "tiers.tier_1"];
        assert_eq!(changes(&old, &new), all);
        assert_eq!(all.map(is_reloadable), [false, true, false, true, true]);
        assert!(!is_reloadable("thresholdss") && !is_reloadable("pipeline.mode_of_old"));
    }

    #[test]
    fn keys_are_taken_over_and_out() {
        let from = table("[thresholds]\nlag_soft = 1\n[shadow.thresholds]\nlag_soft = 2");
        let mut to = table("[thresholds]\nlag_graceful = 7\n[pipeline]\nmode = \"observe\"");
        for key in ["thresholds.lag_soft", "thresholds.lag_graceful", "shadow.thresholds.lag_soft", "pipeline.mode"] {
            take_over(key, &from, &mut to);
        }
        assert_eq!(to, table("[thresholds]\nlag_soft = 1\n[shadow.thresholds]\nlag_soft = 2\n[pipeline]"));
    }
}
