//! Messages in order of arrival, as counts.

use std::collections::VecDeque;

/// Messages that arrived in the same step, by priority.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cohort {
    pub(super) step: u64,
    pub(super) counts: [u64; 4],
    pub(super) standing: Standing,
}

/// Whether messages were looked at yet, and what came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Standing {
    #[default]
    New,
    /// Within their priority's budget, if there is one.
    Within,
    /// Over it.
    Over,
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
        Self { counts: self.counts.map(|count| (count as f64 * share) as u64), ..*self }
    }

    /// So many of them, or all.
    pub(super) fn first(&self, mut count: u64) -> Self {
        let counts = self.counts.map(|there| {
            let taken = there.min(count);
            count -= taken;
            taken
        });
        Self { counts, ..*self }
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
        let is_same = |last: &&mut Cohort| (last.step, last.standing) == (cohort.step, cohort.standing);
        match self.cohorts.back_mut().filter(is_same) {
            Some(last) => last.counts.iter_mut().zip(cohort.counts).for_each(|(all, count)| *all += count),
            None => self.cohorts.push_back(cohort),
        }
    }

    /// Puts these in the place of the front, which has them all and perhaps some more.
    pub(super) fn replace_front(&mut self, cohorts: [Cohort; 2]) {
        let Some(front) = self.cohorts.pop_front() else { return };
        self.counts.iter_mut().zip(front.counts).for_each(|(all, count)| *all -= count);
        for cohort in cohorts.into_iter().rev().filter(|cohort| cohort.total() > 0) {
            self.counts.iter_mut().zip(cohort.counts).for_each(|(all, count)| *all += count);
            self.cohorts.push_front(cohort);
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
