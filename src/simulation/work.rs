//! What the workers do in a step.

use super::queue::{Cohort, Standing};
use super::{Conditions, Simulation};
use crate::degradation::gradual::PARTS;
use crate::degradation::{ShedReason, Verdict};
use crate::symbols::{MessagePriority, Tier};
use crate::worker::{CATCH_UP, CHUNK, replays_at};

impl Simulation {
    /// Takes messages off the lane, and out of the spill log, for as long as the step lasts.
    pub(super) fn work(&mut self, conditions: &Conditions) {
        let step = self.model.sample_interval.as_nanos() as f64 * self.model.workers as f64;
        let mut time = self.credit + step;
        while time > 0.0 {
            let Some(front) = self.lane.front().copied() else { break };
            if self.policy.is_gradual && front.standing == Standing::New {
                time -= self.sort(&front);
                continue;
            }
            let verdicts = self.verdicts(conditions, front.standing == Standing::Over);
            let replays = self.replays_for(&front, &verdicts);
            let live_ns: f64 = self.live_cost(&front, &verdicts, conditions);
            let cost = live_ns + replays as f64 * self.replay_cost(conditions);
            let share = if cost > 0.0 { (time / cost).min(1.0) } else { 1.0 };
            let taken = front.share(share);
            if taken.total() == 0 {
                // Not even one of the cheapest.
                break;
            }
            self.lane.take(&taken);
            time -= self.live_cost(&taken, &verdicts, conditions);
            self.finish(&taken, &verdicts);
            time -= self.replay((replays as f64 * share) as u64, conditions);
        }
        if self.lane.is_empty() {
            time -= self.hand_on(time, conditions);
            if replays_at(self.policy.level) {
                let affordable = (time.max(0.0) / self.replay_cost(conditions)) as u64;
                self.replay(affordable, conditions);
            }
            // Time that nobody wanted is gone.
            time = 0.0;
        }
        self.credit = time.min(step);
    }

    /// Sheds the share of the front's symbols that is out, and tells apart what is within budget and what is over; returns the nanoseconds that it
    /// took.
    fn sort(&mut self, front: &Cohort) -> f64 {
        let mut within = Cohort { standing: Standing::Within, ..*front };
        let mut over = Cohort { counts: [0; 4], standing: Standing::Over, ..*front };
        let mut out = 0;
        for priority in MessagePriority::ALL {
            let i = priority.index();
            let is_shed = self.policy.row()[i].otherwise() == Verdict::Shed;
            if !is_shed {
                let share = f64::from(self.policy.gradual.shed_parts[i]) / f64::from(PARTS);
                let shed = (within.counts[i] as f64 * share).round() as u64;
                within.counts[i] -= shed;
                self.ledger.shed += shed;
                self.ledger.by_priority[i].shed += shed;
                self.ledger.shed_by.count(tier_of(priority), ShedReason::Proportional, shed);
                out += shed;
            }
            if self.policy.gradual.has_budget[i] {
                let allowed = within.counts[i].min(self.tokens[i] as u64);
                over.counts[i] = within.counts[i] - allowed;
                within.counts[i] = allowed;
                self.tokens[i] -= allowed as f64;
            }
        }
        self.lane.replace_front([within, over]);
        out as f64 * self.model.shed_ns
    }

    /// What becomes of a message of each priority now. `over`: of those over budget.
    fn verdicts(&self, conditions: &Conditions, over: bool) -> [Fate; 4] {
        let waiting = self.spilled.counts();
        let has_budget = self.policy.gradual.has_budget;
        let verdict = |i: usize| if over && has_budget[i] { self.policy.row_above()[i] } else { self.policy.row()[i] };
        let reason = |i: usize| match self.policy.row()[i].otherwise() {
            Verdict::Process | Verdict::Spill if verdict(i) == Verdict::Shed => ShedReason::OverBudget,
            _ => ShedReason::at(self.policy.level),
        };
        let rest: [Outcome; 4] = std::array::from_fn(|i| match verdict(i).otherwise() {
            Verdict::Shed => Outcome::Shed(reason(i)),
            Verdict::Process if waiting[i] == 0 => Outcome::Process,
            _ => match self.model.spill {
                None => Outcome::Shed(ShedReason::at(self.policy.level)),
                Some(spill) if conditions.disk_full || self.spilled.len() >= spill.capacity => {
                    Outcome::Shed(ShedReason::SpillFull)
                }
                Some(_) => Outcome::Spill,
            },
        });
        std::array::from_fn(|i| {
            let verdict = verdict(i);
            let is_behind = verdict == Verdict::Process && self.policy.conflates && waiting[i] > 0;
            Fate { states: if verdict.conflates() || is_behind { self.model.states[i] } else { 0.0 }, rest: rest[i] }
        })
    }

    /// How many messages a worker replays while it works on these: see `worker::overflow`.
    fn replays_for(&self, live: &Cohort, verdicts: &[Fate; 4]) -> u64 {
        if self.spilled.is_empty() || !replays_at(self.policy.level) {
            return 0;
        }
        let spills = |i: &usize| verdicts[*i].rest == Outcome::Spill;
        let rest = |i: usize| (live.counts[i] as f64 * (1.0 - verdicts[i].states)) as u64;
        let spilled: u64 = (0..4).filter(spills).map(rest).sum();
        let share = self.model.replay_share;
        let allowed = (live.total() - spilled) as f64 * (share / (1.0 - share));
        let catch_up = spilled as f64 + live.total() as f64 * (CATCH_UP as f64 / CHUNK as f64);
        (allowed.max(catch_up) as u64).min(self.spilled.len())
    }

    /// Nanoseconds.
    fn live_cost(&self, cohort: &Cohort, verdicts: &[Fate; 4], conditions: &Conditions) -> f64 {
        let model = &self.model;
        let one = |i: usize| {
            let rest = match verdicts[i].rest {
                Outcome::Process => self.handler_cost(conditions),
                Outcome::Spill => model.spill_ns,
                Outcome::Shed(_) => model.shed_ns,
            };
            verdicts[i].states * model.conflate_ns + (1.0 - verdicts[i].states) * rest
        };
        (0..4).map(|i| cohort.counts[i] as f64 * one(i)).sum()
    }

    fn handler_cost(&self, conditions: &Conditions) -> f64 {
        let enrich = if self.policy.enriches() { self.model.enrich_ns } else { 0.0 };
        (self.model.process_ns + enrich) * conditions.slowdown
    }

    fn replay_cost(&self, conditions: &Conditions) -> f64 {
        self.handler_cost(conditions) + self.model.replay_ns
    }

    fn finish(&mut self, taken: &Cohort, verdicts: &[Fate; 4]) {
        let age = self.model.sample_interval.saturating_mul((self.steps - taken.step) as u32);
        for priority in MessagePriority::ALL {
            let i = priority.index();
            let count = taken.counts[i] - self.conflate(i, taken, verdicts[i].states);
            if count == 0 {
                continue;
            }
            let part = &mut self.ledger.by_priority[i];
            match verdicts[i].rest {
                Outcome::Process => {
                    part.processed_live += count;
                    self.ledger.processed_live += count;
                    self.latency[i].record(age.as_nanos() as u64, count);
                }
                Outcome::Spill => {
                    part.spilled += count;
                    self.ledger.spilled += count;
                    let mut counts = [0; 4];
                    counts[i] = count;
                    self.spilled.push(Cohort { step: taken.step, counts, ..Cohort::default() });
                }
                Outcome::Shed(reason) => {
                    part.shed += count;
                    self.ledger.shed += count;
                    self.ledger.shed_by.count(tier_of(priority), reason, count);
                }
            }
        }
    }

    /// Keeps this share of a priority's messages, one of each state, and leaves out the others; returns how many that were.
    fn conflate(&mut self, i: usize, taken: &Cohort, share: f64) -> u64 {
        if share == 0.0 {
            return 0;
        }
        self.state_parts[i] += taken.counts[i] as f64 * share;
        let count = (self.state_parts[i] as u64).min(taken.counts[i]);
        self.state_parts[i] -= count as f64;
        // So many states of those that do not wait yet are met, if all are equally likely.
        let keys = self.model.keys[i].max(1) as f64;
        let free = (keys - self.held.counts()[i] as f64).max(0.0);
        let fresh = ((free * (1.0 - (-(count as f64) / keys).exp())).round() as u64).min(count);
        let mut counts = [0; 4];
        counts[i] = fresh;
        self.held.push(Cohort { step: taken.step, counts, ..Cohort::default() });
        self.ledger.conflated += count - fresh;
        self.ledger.by_priority[i].conflated += count - fresh;
        count
    }

    /// Hands on what is kept, for so many nanoseconds; returns how many it took.
    fn hand_on(&mut self, time: f64, conditions: &Conditions) -> f64 {
        let cost = self.handler_cost(conditions);
        let (mut count, mut handed_on) = ((time.max(0.0) / cost) as u64, 0);
        while count > 0 {
            let Some(front) = self.held.front().copied() else { break };
            let taken = front.first(count);
            self.held.take(&taken);
            let place = self.model.sample_interval.saturating_mul((self.steps - taken.step) as u32).as_nanos() as u64;
            for (i, count) in taken.counts.into_iter().enumerate().filter(|(_, count)| *count > 0) {
                // What is in the place came last, and so not longer ago than a state takes to change.
                let rate = conditions.offered_per_second[i] * self.model.states[i];
                let change = self.model.keys[i] as f64 / rate.max(1e-9) * 1e9;
                self.latency[i].record(place.min(change as u64), count);
            }
            self.by_priority(&taken, |part, count| part.processed_live += count);
            (count, handed_on) = (count - taken.total(), handed_on + taken.total());
        }
        self.ledger.processed_live += handed_on;
        handed_on as f64 * cost
    }

    /// Replays so many, oldest first; returns the nanoseconds that it took.
    fn replay(&mut self, mut count: u64, conditions: &Conditions) -> f64 {
        let mut replayed = 0;
        while count > 0 {
            let Some(front) = self.spilled.front().copied() else { break };
            let taken = front.first(count);
            self.spilled.take(&taken);
            self.by_priority(&taken, |part, count| part.replayed += count);
            (count, replayed) = (count - taken.total(), replayed + taken.total());
        }
        self.ledger.replayed += replayed;
        replayed as f64 * self.replay_cost(conditions)
    }
}

/// What becomes of a priority's messages: this share is conflated, and the rest has an outcome.
#[derive(Clone, Copy, Debug)]
struct Fate {
    states: f64,
    rest: Outcome,
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Process,
    Spill,
    Shed(ShedReason),
}

/// The symbol tier that messages of a priority are of; reference data is of any, and counts as the third.
fn tier_of(priority: MessagePriority) -> Tier {
    match priority {
        MessagePriority::Critical => Tier::Tier1,
        MessagePriority::High => Tier::Tier2,
        MessagePriority::Normal | MessagePriority::Low => Tier::Tier3,
    }
}
