//! When messages come: the shape of a trading day.

/// Nanoseconds of a minute.
const MINUTE: u64 = 60_000_000_000;

/// Nanoseconds since midnight.
pub(super) const fn at(hour: u64, minute: u64) -> u64 {
    (hour * 60 + minute) * MINUTE
}

/// Beginnings of parts of the day, and how many of 1000 messages come in each; the last one is the end.
const ORDINARY: &[(u64, u64)] = &[
    (at(4, 0), 20),
    (at(9, 0), 30),
    (at(9, 30), 160), // the opening burst: 15 minutes
    (at(9, 45), 190),
    (at(11, 0), 230), // quiet midday
    (at(14, 30), 210),
    (at(15, 45), 150), // the rise to the close: 15 minutes
    (at(16, 0), 10),
    (at(20, 0), 0),
];

/// The same with a minute in the afternoon in which the market crashes.
const FLASH_CRASH: &[(u64, u64)] = &[
    (at(4, 0), 15),
    (at(9, 0), 25),
    (at(9, 30), 140),
    (at(9, 45), 170),
    (at(11, 0), 200),
    (at(14, 30), 40),
    (CRASH, 120),
    (CRASH + MINUTE, 150),
    (at(15, 45), 130),
    (at(16, 0), 10),
    (at(20, 0), 0),
];

/// When a crash begins; it takes a minute.
const CRASH: u64 = at(14, 45);

/// The day's shape.
#[derive(Debug)]
pub(super) struct Schedule {
    parts: &'static [(u64, u64)],
    messages: u64,
}

impl Schedule {
    pub(super) fn new(messages: u64, flash_crash: bool) -> Self {
        Self { parts: if flash_crash { FLASH_CRASH } else { ORDINARY }, messages }
    }

    /// When message `i` of them is due; ascending.
    pub(super) fn time_ns(&self, i: u64) -> u64 {
        // In thousandths of messages, so that whole numbers will do.
        let mut left = u128::from(i) * 1000;
        for pair in self.parts.windows(2) {
            let ((begin, share), (end, _)) = (pair[0], pair[1]);
            let here = u128::from(share) * u128::from(self.messages);
            if left < here {
                return begin + (u128::from(end - begin) * left / here) as u64;
            }
            left -= here;
        }
        self.parts[self.parts.len() - 1].0
    }

    /// Whether the market crashes at this time.
    pub(super) fn is_crash(&self, time_ns: u64) -> bool {
        self.parts.iter().any(|part| part.0 == CRASH) && (CRASH..CRASH + MINUTE).contains(&time_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_has_an_opening_burst_a_quiet_midday_and_a_rise_to_the_close() {
        for flash_crash in [false, true] {
            let schedule = Schedule::new(100_000, flash_crash);
            assert_eq!(schedule.parts.iter().map(|part| part.1).sum::<u64>(), 1000);
            let times: Vec<_> = (0..100_000).map(|i| schedule.time_ns(i)).collect();
            assert!(times.is_sorted() && times[0] == at(4, 0) && times[99_999] < at(20, 0));
            let within = |from, to| times.iter().filter(|t| (from..to).contains(*t)).count();
            let midday = within(at(12, 0), at(12, 15));
            assert!(within(at(9, 30), at(9, 45)) > 5 * midday && within(at(15, 45), at(16, 0)) > 5 * midday);
            let crash = within(CRASH, CRASH + MINUTE);
            assert_eq!(crash > 20 * within(at(14, 40), at(14, 41)), flash_crash, "{crash}");
        }
    }
}
