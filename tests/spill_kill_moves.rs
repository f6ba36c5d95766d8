//! Proves that `kill -9` does no harm while records move between the logs of workers, since their number or the symbols' ids have
//! changed: what is committed and not replayed is still there, in the order of its symbol, and some of it more than once at worst.
//!
//! `PLIMSOLL_KILL_ROUNDS` says how often; 50 times by default.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use plimsoll::Tick;
use plimsoll::spill;
use support::spill::*;

/// Pages of a segment.
const PAGES: u64 = 6;

/// What the child process runs, told a seed and the next tick's number; in any other it does nothing.
#[test]
fn child_moves() {
    let Some((dir, plan)) = child_plan() else { return };
    let (seed, mut next) = plan.split_once(' ').map(|(a, b)| (a.parse().unwrap(), b.parse::<u64>().unwrap())).unwrap();
    let mut random = Random::new(seed);
    let workers = 1 + random.below(4) as usize;
    let symbols = symbols(seed);
    let (mut logs, report) = spill::open::<Tick>(&config(&dir, PAGES), &symbols, workers).unwrap();
    assert_eq!((report.lost(), report.faults().count()), (0, 0), "{report:?}");
    say('O', report.moved);
    loop {
        let count = random.below(200);
        say('a', next + count);
        for number in next..next + count {
            let tick = tick(&symbols, number);
            let log = &mut logs[spill::worker_of(tick.symbol, workers)];
            let deadline = Deadline::new("room");
            while !log.append(&tick, note(number)) {
                log.refresh();
                deadline.check();
            }
        }
        next += count;
        for log in &mut logs {
            log.commit();
        }
        say('C', next);
        // Recovery should have something to move, and not ever more.
        let pending: u64 = logs.iter().map(|log| log.pending()).sum();
        let max = if pending > 3000 { usize::MAX } else { random.below(50) as usize };
        for (worker, log) in logs.iter_mut().enumerate() {
            let deadline = Deadline::new("records to replay");
            let mut left = max.min(log.pending() as usize);
            while left > 0 {
                left -= log.replay(left.min(100), |replayed| {
                    let number = replayed.message.sequence;
                    assert_eq!((replayed.message, replayed.missed), (tick(&symbols, number), note(number)));
                    assert_eq!(spill::worker_of(replayed.message.symbol, workers), worker);
                    say('D', number);
                });
                deadline.check();
            }
            assert_eq!(log.take_lost(), 0);
        }
    }
}

/// What there is, by what the children said and by what was found in the log.
#[derive(Default)]
struct Model {
    /// Numbers of the ticks that were appended: some numbers were passed over, as a child was killed.
    exist: BTreeSet<u64>,
    delivered: BTreeSet<u64>,
    committed: u64,
    appended: u64,
    moved: u64,
}

impl Model {
    fn hear(&mut self, said: char, number: u64) {
        match said {
            'O' => self.moved += number,
            'a' => self.appended = number,
            'C' => {
                self.exist.extend(self.committed..number);
                self.committed = number;
            }
            'D' => drop(self.delivered.insert(number)),
            other => panic!("{other} {number}"),
        }
    }

    /// Looks at what the dead child has left.
    fn check(&mut self, dir: &Path, what: &str) {
        // By log and symbol, in order.
        let mut found: BTreeMap<(u32, &str), Vec<u64>> = BTreeMap::new();
        let logs = spill::read_records::<Tick>(dir, |record| {
            let number = record.message.sequence;
            assert_eq!((record.symbol, record.missed), (Some(name_of(number)), note(number)), "{what}");
            found.entry((record.worker, name_of(number))).or_default().push(number);
        });
        for log in logs.unwrap() {
            assert_eq!((log.lost(), &log.faults[..]), (0, &[][..]), "{what}");
        }
        let all: BTreeSet<u64> = found.values().flatten().copied().collect();
        assert!(all.iter().all(|number| *number < self.appended), "{what}: something was invented");
        // What was not committed is there or not.
        self.exist.extend(all.range(self.committed..));
        self.committed = self.appended;
        let missing: Vec<_> = self.exist.iter().filter(|n| !all.contains(n) && !self.delivered.contains(n)).collect();
        assert!(missing.is_empty(), "{what}: missing {missing:?}");
        // One that comes for the first time comes after all others of its symbol.
        for ((worker, name), numbers) in found {
            let mut seen = BTreeSet::new();
            for number in numbers {
                let before = self.exist.range(..number).rfind(|number| name_of(**number) == name);
                let is_seen = |number: &u64| seen.contains(number) || self.delivered.contains(number);
                let is_in_order = is_seen(&number) || before.is_none_or(is_seen);
                assert!(is_in_order, "{what}: {name} of worker {worker}: {number} comes before {before:?}");
                seen.insert(number);
            }
        }
    }
}

#[test]
fn records_that_move_survive_kill_9_again_and_again() {
    let rounds: u64 = std::env::var("PLIMSOLL_KILL_ROUNDS").map_or(50, |rounds| rounds.parse().unwrap());
    let mut random = Random::new(20_260_305);
    let dir = tempfile::tempdir().unwrap();
    let mut model = Model::default();
    for round in 0..rounds {
        let moment = match random.below(3) {
            // While it recovers and moves,
            0 | 1 => Moment { lines: 0, then: Duration::from_micros(random.below(20_000)) },
            _ => Moment { lines: 1 + random.below(5000), then: Duration::from_micros(random.below(1000)) },
        };
        let plan = format!("{} {}", random.below(u64::MAX), model.appended);
        kill(child("child_moves", dir.path(), &plan), &moment, |said, number| model.hear(said, number));
        model.check(dir.path(), &format!("round {round}, plan {plan}, {moment:?}"));
    }
    println!(
        "{rounds} rounds: {} appended, {} delivered, {} moved",
        model.exist.len(),
        model.delivered.len(),
        model.moved
    );
    assert!(model.moved > 0);
}
