//! Proves that what counts as spilled survives `kill -9`, at whatever moment, again and again in the same directory: a child process
//! recovers, replays and spills, and says what it does; it is killed; and then the log must hold all that the child had
//! committed and not replayed, in order, and nothing that it did not append, and no fault.
//!
//! `PLIMSOLL_KILL_ROUNDS` says how often; 50 times by default.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use plimsoll::spill::{self, Durability, REPLAYED_TWICE_MAX, SpillConfig, SpillLog};
use plimsoll::{Symbols, Tick};
use support::spill::*;

/// Pages of a segment: few, so that segments come and go all the time.
const PAGES: u64 = 8;
const BUDGET: u64 = 64 * PAGES * PAGE as u64;

fn rounds() -> u64 {
    std::env::var("PLIMSOLL_KILL_ROUNDS").map_or(50, |rounds| rounds.parse().unwrap())
}

/// What the child says: it has opened the log, which ends here; it is about to replay, or has replayed, up to here; it is about to append,
/// or has committed, up to here.
const SAID: [char; 5] = ['O', 'r', 'R', 'a', 'C'];

/// The child's log, with how far it has come.
struct Worker {
    log: SpillLog<Tick>,
    symbols: Arc<Symbols>,
    replayed: u64,
    random: Random,
}

impl Worker {
    fn replay(&mut self, count: u64) {
        let count = count.min(self.log.pending());
        if count == 0 {
            return;
        }
        say('r', self.replayed + count);
        let numbers = replay(&mut self.log, &self.symbols, count);
        assert!(numbers.into_iter().eq(self.replayed..self.replayed + count));
        assert_eq!(self.log.take_lost(), 0);
        self.replayed += count;
        say('R', self.replayed);
    }

    fn append(&mut self, count: u64) {
        let first = self.log.next_sequence();
        say('a', first + count);
        self.log.refresh();
        for number in first..first + count {
            if !self.log.append(&tick(&self.symbols, number), note(number)) {
                break;
            }
        }
        self.log.commit();
        say('C', self.log.next_sequence());
    }

    fn run(mut self) -> ! {
        for _ in 0..self.random.below(40) {
            let count = self.random.below(400);
            self.replay(count);
        }
        loop {
            let count = 1 + self.random.below(300);
            self.append(count);
            // Now less than is appended, and now more.
            if self.random.below(3) == 0 || self.log.pending() > 8000 {
                let count = self.random.below(1200);
                self.replay(count);
            }
        }
    }
}

/// What the child process runs; in any other it does nothing.
#[test]
fn child_spills() {
    let Some((dir, plan)) = child_plan() else { return };
    let seed: u64 = plan.parse().unwrap();
    let durability = match mix(seed) % 8 {
        0 => Durability::Strict,
        1 | 2 => Durability::Interval(Duration::from_millis(1)),
        _ => Durability::None,
    };
    let symbols = symbols(seed);
    let config = SpillConfig { budget_bytes: BUDGET, durability, ..config(&dir, PAGES) };
    let (log, report) = open_one(&config, &symbols).unwrap();
    assert_eq!((report.lost(), report.faults().count()), (0, 0), "{report:?}");
    let replayed = report.logs[0].replay_from;
    assert_eq!(log.pending(), log.next_sequence() - replayed);
    say('O', log.next_sequence());
    Worker { log, symbols, replayed, random: Random::new(seed) }.run()
}

/// Bounds for what must be in the log, from what the child said.
#[derive(Clone, Debug)]
struct Model {
    /// The log begins somewhere in here,
    replayed: Range<u64>,
    /// and ends somewhere in here.
    appended: Range<u64>,
}

impl Model {
    fn hear(&mut self, said: char, number: u64) {
        match said {
            'O' => assert_eq!(number, self.appended.start, "the log has another end"),
            'r' => self.replayed.end = number,
            'R' => self.replayed.start = number.saturating_sub(REPLAYED_TWICE_MAX).max(self.replayed.start),
            'a' => self.appended.end = number,
            'C' => self.appended.start = number,
            other => panic!("{other} {number}"),
        }
    }

    /// Looks at what the dead child has left; from then on that is what there is.
    fn check(&mut self, dir: &Path, what: &str) {
        let symbols = symbols(0);
        let mut found = Vec::new();
        let logs = spill::read_records::<Tick>(dir, |record| {
            let (sequence, name) = (record.sequence, record.symbol);
            assert_eq!(name, Some(name_of(sequence)), "{what}");
            let message = Tick { symbol: symbols.id(name_of(sequence)).unwrap(), ..record.message };
            assert_eq!((message, record.missed), (tick(&symbols, sequence), note(sequence)), "{what}");
            found.push(sequence);
        });
        let logs = logs.unwrap();
        let Some(log) = logs.first() else {
            assert_eq!(self.appended.start, 0, "{what}: the log is gone");
            return;
        };
        assert_eq!((log.lost(), &log.faults[..]), (0, &[][..]), "{what}");
        assert!(found.iter().copied().eq(log.replay_from..log.end), "{what}: {self:?}, {log:?}");
        let Self { replayed, appended } = &self;
        assert!((replayed.start..=replayed.end).contains(&log.replay_from), "{what}: {self:?}, {log:?}");
        assert!((appended.start..=appended.end).contains(&log.end), "{what}: {self:?}, {log:?}");
        // Each killed process leaves its ready segments behind at most.
        assert!(log.allocated_bytes() <= BUDGET, "{what}: {}", log.allocated_bytes());
        *self = Self { replayed: log.replay_from..log.replay_from, appended: log.end..log.end };
    }
}

/// Kills so many children in one directory, and then opens the log in this process: all that was not replayed comes back.
fn campaign(random: &mut Random, rounds: u64, moment: impl Fn(&mut Random) -> Moment) -> [u64; SAID.len()] {
    let dir = tempfile::tempdir().unwrap();
    let mut model = Model { replayed: 0..0, appended: 0..0 };
    let mut heard = [0; SAID.len()];
    for round in 0..rounds {
        let (moment, seed) = (moment(random), random.below(u64::MAX));
        kill(child("child_spills", dir.path(), &seed.to_string()), &moment, |said, number| {
            model.hear(said, number);
            heard[SAID.iter().position(|other| *other == said).unwrap()] += 1;
        });
        model.check(dir.path(), &format!("round {round}, seed {seed}, {moment:?}"));
    }
    let symbols = symbols(1);
    let config = SpillConfig { budget_bytes: BUDGET, ..config(dir.path(), PAGES) };
    let (mut log, report) = open_one(&config, &symbols).unwrap();
    assert_eq!((report.lost(), report.faults().count()), (0, 0), "{report:?}");
    assert!(replay(&mut log, &symbols, u64::MAX).into_iter().eq(model.replayed.start..model.appended.start));
    assert_eq!((log.pending(), log.take_lost()), (0, 0));
    heard
}

#[test]
fn what_is_committed_survives_kill_9_again_and_again() {
    let mut random = Random::new(20_260_303);
    let heard = campaign(&mut random, rounds(), |random| match random.below(4) {
        // While it starts, recovers, replays, or makes its first segments.
        0 | 1 => Moment { lines: 0, then: Duration::from_micros(random.below(8_000)) },
        2 => Moment { lines: 1 + random.below(20), then: Duration::from_micros(random.below(1000)) },
        _ => Moment { lines: 1 + random.below(2000), then: Duration::from_micros(random.below(3000)) },
    });
    println!("{} rounds; lines {heard:?}", rounds());
    assert!(heard.iter().all(|count| *count > 0), "{heard:?}");
}

#[test]
fn a_log_that_is_just_being_made_survives_kill_9() {
    let mut random = Random::new(20_260_304);
    for _ in 0..rounds() {
        campaign(&mut random, 3, |random| Moment { lines: 0, then: Duration::from_micros(random.below(6_000)) });
    }
}
