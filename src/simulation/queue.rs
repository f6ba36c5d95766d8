//! Messages in order of arrival, as counts.

use std::collections::VecDeque;

/// Messages that arrived in the same step, by priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cohort {
    pub(super) step: u64,
    pub(super) counts: [u64; 4],
}

impl Cohort {
    pub(super) fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// This share (0–1) of each priority, rounded down.
    pub(super) fn share(&self, share: f64) -> Self {
        if share >= 1.0 {
            return *self;
        }
        Self { step: self.step, counts: self.counts.map(|count| (count as f64 * share) as u64) }
    }

    /// So many of them, or all.
    pub(super) fn first(&self, mut count: u64) -> Self {
        let counts = self.counts.map(|there| {
            let taken = there.min(count);
            count -= taken;
            taken
        });
        Self { step: self.step, counts }
    }
}

/// Cohorts, oldest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Queue {
    cohorts: VecDeque<Cohort>,
    counts: [u64; 4],
}

impl Queue {
    pub(super) fn len(&self) -> u64 {
        self.counts.iter().sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.cohorts.is_empty()
    }

    /// By priority.
    pub(super) fn counts(&self) -> [u64; 4] {
        self.counts
    }

    pub(super) fn front(&self) -> Option<&Cohort> {
        self.cohorts.front()
    }

    pub(super) fn push(&mut self, cohort: Cohort) {
        if cohort.total() == 0 {
            return;
        }
        self.counts.iter_mut().zip(cohort.counts).for_each(|(all, count)| *all += count);
        match self.cohorts.back_mut().filter(|last| last.step == cohort.step) {
            Some(last) => last.counts.iter_mut().zip(cohort.counts).for_each(|(all, count)| *all += count),
            None => self.cohorts.push_back(cohort),
        }
    }

    /// Takes these off the front, which has them.
    pub(super) fn take(&mut self, taken: &Cohort) {
        let Some(front) = self.cohorts.front_mut() else { return };
        for (i, count) in taken.counts.iter().enumerate() {
            front.counts[i] -= count;
            self.counts[i] -= count;
        }
        if front.total() == 0 {
            self.cohorts.pop_front();
        }
    }
}
