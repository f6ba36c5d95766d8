//! Why the level is what it is, and what must happen for it to go down: in words.

use std::fmt;
use std::time::Duration;

use super::level::DegradationLevel;
use super::manager::{DegradationManager, Pin};
use super::signal::{Signal, SignalStatus};
use super::thresholds::DegradationThresholds;
use super::transition::{Cause, Transition};
use crate::symbols::MessagePriority;
use crate::words::{grouped, rounded};

/// Why a [`DegradationManager`] is at its level, and what must happen for it to go down. `Display` says it in words, a line for each thing.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// The level.
    pub level: DegradationLevel,
    /// How long it has been that, if it has ever changed.
    pub for_time: Option<Duration>,
    /// The transition that led to it, if there was one.
    pub transition: Option<Transition>,
    /// The level that is held by hand, and for how long yet.
    pub pinned: Option<(DegradationLevel, Option<Duration>)>,
    /// Lag, in messages.
    pub lag: u64,
    /// Memory, in percent; not-a-number where it is not known.
    pub memory_pct: f64,
    /// Signals beside these two.
    pub signals: Vec<SignalStatus>,
    /// By priority, most valuable first: the share of its symbols that is shed by the lag, 0 to 1; as the pipeline fills it in.
    pub shed_shares: [f64; 4],
    /// What of the cooldown is left.
    pub cooldown_left: Duration,
    /// The level that these signals ask for by themselves.
    pub target: DegradationLevel,
    /// The thresholds in force.
    pub thresholds: DegradationThresholds,
}

impl DegradationManager {
    /// Why the level is what it is, given the time and signals of the last sample.
    pub fn explain(&self, now: Duration, lag: u64, memory_pct: f64) -> Explanation {
        let transition = self.history().next_back().copied();
        let since_last = self.last_transition().map(|last| now.saturating_sub(last));
        let cooldown = self.thresholds().cooldown();
        Explanation {
            level: self.level(),
            for_time: transition.map(|transition| now.saturating_sub(transition.at)),
            transition,
            pinned: self.pinned().map(|Pin { level, until }| (level, until.map(|until| until.saturating_sub(now)))),
            lag,
            memory_pct,
            cooldown_left: since_last.map_or(Duration::ZERO, |since| cooldown.saturating_sub(since)),
            signals: self.signals().to_vec(),
            shed_shares: [0.0; 4],
            target: self.target(lag, memory_pct),
            thresholds: *self.thresholds(),
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (level {} of 4)", self.level, self.level.value())?;
        if let Some(time) = self.for_time {
            write!(f, " for {}", rounded(time))?;
        }
        match &self.transition {
            None => f.write_str(": it has never been anything else.")?,
            Some(transition) => write!(f, ", from {}: {}.", transition.from, in_words(&transition.cause))?,
        }
        self.signals(f)?;
        for (priority, share) in
            MessagePriority::ALL.into_iter().zip(self.shed_shares).filter(|(_, share)| *share > 0.0)
        {
            write!(f, "\nOf {}'s symbols {:.0} % are shed by the lag.", priority.name(), share * 100.0)?;
        }
        match self.pinned {
            None => self.way_down(f),
            Some((level, left)) => {
                write!(f, "\nIt is held at {level} by hand, ")?;
                match left {
                    Some(left) => write!(f, "for another {}", rounded(left))?,
                    None => f.write_str("until it is let go (unpin)")?,
                }
                let target = self.target;
                write!(f, "; then the signals decide again, which now ask for {target}.")
            }
        }
    }
}

impl Explanation {
    /// Each signal, and where the level's trigger and the next one are.
    fn signals(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let next = DegradationLevel::from_value(self.level.value() + 1);
        let levels = || [Some(self.level), next].into_iter().flatten();
        let triggers = || levels().filter_map(|level| Some((level, self.thresholds.triggers(level)?)));
        write!(f, "\nLag is {} messages", grouped(self.lag))?;
        triggers().try_for_each(|(level, (lag, _))| write!(f, "; {level} begins at {}", grouped(lag)))?;
        match self.memory_pct.is_nan() {
            true => f.write_str(".\nMemory is not known")?,
            false => write!(f, ".\nMemory is {:.1} %", self.memory_pct)?,
        }
        triggers().try_for_each(|(level, (_, memory))| write!(f, "; {level} begins at {memory} %"))?;
        f.write_str(".")?;
        for status in &self.signals {
            let (Signal { name, unit, thresholds, on_stale, .. }, is_stale) = (&status.signal, status.is_stale);
            match status.value {
                None => write!(f, "\n{name} is not known")?,
                Some(value) => write!(f, "\n{name} is {value:.1} {unit}")?,
            }
            if is_stale {
                write!(f, ", and was not refreshed in time ({on_stale:?})")?;
            }
            let begins = |level: DegradationLevel| Some((level, *thresholds.get(level.index().checked_sub(1)?)?));
            levels().filter_map(begins).try_for_each(|(level, at)| write!(f, "; {level} begins at {at} {unit}"))?;
            f.write_str(".")?;
        }
        Ok(())
    }

    /// What must happen for the level to go down.
    fn way_down(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((lag_mark, memory_mark)) = self.thresholds.recovery_marks(self.level) else { return Ok(()) };
        let so = |is_so| if is_so { ", which it is" } else { ", which it is not" };
        let (lag_is_calm, memory_is_calm) = ((self.lag as f64) < lag_mark, self.memory_pct < memory_mark);
        write!(f, "\nTo go down: lag must be below {}{}", grouped(lag_mark.ceil() as u64), so(lag_is_calm))?;
        write!(f, "; memory must be below {memory_mark:.1} %{}", so(memory_is_calm))?;
        let mut others_are_calm = true;
        for status in &self.signals {
            let (mark, is_calm) = (status.recovery_mark(self.level).unwrap_or_default(), status.is_calm(self.level));
            others_are_calm &= is_calm;
            write!(f, "; {} must be below {mark} {}{}", status.signal.name, status.signal.unit, so(is_calm))?;
        }
        match self.cooldown_left {
            Duration::ZERO => f.write_str("; the cooldown is over.")?,
            left => write!(f, "; and the cooldown must be over, in {}.", rounded(left))?,
        }
        if lag_is_calm && memory_is_calm && others_are_calm && self.target < self.level {
            write!(f, " It would then go to {}.", self.target)?;
        }
        Ok(())
    }
}

/// A cause, with numbers that can be read.
fn in_words(cause: &Cause) -> String {
    let lag_reached = |lag, trigger| format!("lag {} had reached {}", grouped(lag), grouped(trigger));
    let memory_reached = |memory: f64, trigger: f64| format!("memory {memory:.1} % had reached {trigger} %");
    match *cause {
        Cause::Lag { lag, trigger } => lag_reached(lag, trigger),
        Cause::Memory { memory_pct, trigger } => memory_reached(memory_pct, trigger),
        Cause::LagAndMemory { lag, lag_trigger, memory_pct, memory_trigger } => {
            format!("{} and {}", lag_reached(lag, lag_trigger), memory_reached(memory_pct, memory_trigger))
        }
        Cause::Recovered { lag, lag_mark, memory_pct, memory_mark } => format!(
            "lag {} was below {}, memory {memory_pct:.1} % below {memory_mark:.1} %, and the cooldown was over",
            grouped(lag),
            grouped(lag_mark.ceil() as u64),
        ),
        Cause::Signal { name, value, trigger } => format!("{name} {value:.1} had reached {trigger}"),
        Cause::Reset | Cause::Pinned => cause.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn it_names_signal_value_threshold_time_and_the_way_down() {
        let mut manager = DegradationManager::default();
        manager.check_and_degrade(at(1), 523_110, 41.25);
        let text = manager.explain(at(19), 412_000, 41.25).to_string();
        let expected = "GRACEFUL (level 2 of 4) for 18 s, from NORMAL: lag 523 110 had reached 500 000.\n\
            Lag is 412 000 messages; GRACEFUL begins at 500 000; AGGRESSIVE begins at 1 000 000.\n\
            Memory is 41.2 %; GRACEFUL begins at 80 %; AGGRESSIVE begins at 90 %.\n\
            To go down: lag must be below 250 000, which it is not; memory must be below 72.0 %, which it is; \
            and the cooldown must be over, in 12 s.";
        assert_eq!(text, expected);
        let text = manager.explain(at(200), 120_000, 41.25).to_string();
        assert!(text.starts_with("GRACEFUL (level 2 of 4) for 3 min 19 s"), "{text}");
        let end = "lag must be below 250 000, which it is; memory must be below 72.0 %, which it is; the cooldown is over. \
            It would then go to SOFT.";
        assert!(text.ends_with(end), "{text}");
    }

    #[test]
    fn normal_has_no_way_down_and_circuit_break_no_next_level() {
        let mut manager = DegradationManager::default();
        let text = manager.explain(at(5), 7, f64::NAN).to_string();
        assert_eq!(
            text,
            "NORMAL (level 0 of 4): it has never been anything else.\nLag is 7 messages; SOFT begins at 100 000.\n\
             Memory is not known; SOFT begins at 70 %."
        );
        manager.check_and_degrade(at(5), 0, 96.0);
        let text = manager.explain(at(6), 0, 96.0).to_string();
        assert!(text.contains("from NORMAL: memory 96.0 % had reached 95 %"), "{text}");
        assert!(text.contains("; CIRCUIT_BREAK begins at 95 %.\n"), "{text}");
    }

    #[test]
    fn a_pin_says_for_how_long_and_what_comes_then() {
        let mut manager = DegradationManager::default();
        manager.pin(DegradationLevel::Soft, Some(at(60)));
        manager.check_and_degrade(at(0), 600_000, 10.0);
        let text = manager.explain(at(15), 600_000, 10.0).to_string();
        assert!(text.starts_with("SOFT (level 1 of 4) for 15 s, from NORMAL: pinned by hand."), "{text}");
        let end =
            "It is held at SOFT by hand, for another 45 s; then the signals decide again, which now ask for GRACEFUL.";
        assert!(text.ends_with(end), "{text}");
    }
}
