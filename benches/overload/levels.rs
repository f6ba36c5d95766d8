//! The story of the levels in a run.

use std::time::Duration;

use plimsoll::DegradationLevel;
use serde_json::{Value, json};

use crate::feed::Schedule;

pub(crate) struct Levels {
    /// When, from, to.
    transitions: Vec<(Duration, DegradationLevel, DegradationLevel)>,
    storm: [Duration; 2],
    /// Samples that the monitor took.
    samples: u64,
}

impl Levels {
    pub(crate) fn new(
        transitions: Vec<(Duration, DegradationLevel, DegradationLevel)>,
        schedule: &Schedule,
        samples: u64,
    ) -> Self {
        let [begin, end, _] = schedule.marks();
        Self { transitions, storm: [begin, end], samples }
    }

    /// From the storm's begin until the level was this or higher; `None` if it never was.
    pub(crate) fn reached(&self, level: DegradationLevel) -> Option<Duration> {
        let first = self.transitions.iter().find(|(at, _, to)| *at >= self.storm[0] && *to >= level);
        first.map(|(at, ..)| *at - self.storm[0])
    }

    /// From the storm's end until the level was NORMAL for good; `None` if it was not, or was so already.
    pub(crate) fn recovered(&self) -> Option<Duration> {
        let (at, _, to) = self.transitions.last()?;
        at.checked_sub(self.storm[1]).filter(|_| *to == DegradationLevel::Normal)
    }

    /// How often the level went down while the storm lasted.
    pub(crate) fn recoveries_in_storm(&self) -> usize {
        let in_storm = |at: &Duration| (self.storm[0]..self.storm[1]).contains(at);
        self.transitions.iter().filter(|(at, from, to)| in_storm(at) && to < from).count()
    }

    /// Shares of the storm at each level.
    pub(crate) fn shares(&self) -> [f64; 5] {
        let mut time = [Duration::ZERO; 5];
        let (mut since, mut level) = (Duration::ZERO, DegradationLevel::Normal);
        let end = [(Duration::MAX, level, level)];
        for (at, _, to) in self.transitions.iter().chain(&end) {
            let within = |at: Duration| at.clamp(self.storm[0], self.storm[1]);
            time[level.index()] += within(*at) - within(since);
            (since, level) = (*at, *to);
        }
        time.map(|time| time.div_duration_f64(self.storm[1] - self.storm[0]))
    }

    pub(crate) fn to_json(&self) -> Value {
        let transitions = self.transitions.iter().map(|(at, from, to)| {
            let since = at.as_secs_f64() - self.storm[0].as_secs_f64();
            json!({ "seconds_since_storm": since, "from": from.name(), "to": to.name() })
        });
        json!({
            "transitions": transitions.collect::<Vec<_>>(),
            "recovered_seconds_after_storm": self.recovered().map(|time| time.as_secs_f64()),
            "share_of_storm_by_level": self.shares(),
            "monitor_samples": self.samples,
        })
    }
}
