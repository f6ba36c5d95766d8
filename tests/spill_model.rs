//! Proves that the spill log agrees with a model of it, whatever happens in whatever order: appends, commits, replays, restarts, crashes,
//! other numbers of workers, and symbols that have other ids. Symbols keep their order, nothing is lost or invented, and
//! records come twice only after a crash.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::sync::Arc;

use plimsoll::spill::{self, REPLAYED_TWICE_MAX, SpillConfig, SpillLog};
use plimsoll::zerocopy::{Immutable, IntoBytes, KnownLayout, TryFromBytes};
use plimsoll::{DataType, Message, SymbolId, Symbols, Tick};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use support::spill::*;

/// What happens.
#[derive(Clone, Debug)]
enum Step {
    Append(u64),
    Commit,
    Replay(u64),
    Refresh,
    /// A restart after all was closed, or after a crash.
    Restart(Life),
    Crash(Life),
}

/// What is different after a restart.
#[derive(Clone, Debug)]
struct Life {
    workers: usize,
    /// In which order the process meets the symbols.
    order: u64,
    segment_pages: u64,
}

fn life() -> impl Strategy<Value = Life> {
    (prop_oneof![2 => Just(1usize), 3 => 1usize..5], 0u64..50, 4u64..9)
        .prop_map(|(workers, order, segment_pages)| Life { workers, order, segment_pages })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1u64..400).prop_map(Step::Append),
        2 => Just(Step::Commit),
        4 => prop_oneof![1u64..100, 1u64..1500].prop_map(Step::Replay),
        1 => Just(Step::Refresh),
        2 => life().prop_map(Step::Restart),
        2 => life().prop_map(Step::Crash),
    ]
}

/// What the log should hold of a symbol.
#[derive(Debug, Default)]
struct Records {
    /// Came back already, since the log was opened.
    replayed: Vec<u64>,
    pending: VecDeque<u64>,
    /// Of those that are pending, so many are not committed.
    uncommitted: usize,
}

struct Model {
    dir: tempfile::TempDir,
    symbols: Arc<Symbols>,
    logs: Vec<SpillLog<Tick>>,
    records: HashMap<&'static str, Records>,
    /// Number of the next tick.
    next: u64,
}

fn open(dir: &Path, life: &Life) -> (Arc<Symbols>, Vec<SpillLog<Tick>>, u64) {
    let symbols = symbols(life.order);
    let config = config(dir, life.segment_pages);
    let (logs, report) = spill::open::<Tick>(&config, &symbols, life.workers).unwrap();
    assert_eq!((report.lost(), report.faults().count()), (0, 0), "{report:?}");
    assert_eq!((report.logs.len(), logs.len()), (life.workers, life.workers));
    assert_eq!(report.pending(), logs.iter().map(SpillLog::pending).sum::<u64>());
    (symbols, logs, report.pending())
}

impl Model {
    fn new(life: &Life) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (symbols, logs, _) = open(dir.path(), life);
        Self { dir, symbols, logs, records: HashMap::new(), next: 0 }
    }

    fn append(&mut self, count: u64) {
        let deadline = Deadline::new("room");
        for number in self.next..self.next + count {
            let tick = tick(&self.symbols, number);
            let worker = spill::worker_of(tick.symbol, self.logs.len());
            let log = &mut self.logs[worker];
            while !log.append(&tick, note(number)) {
                log.refresh();
                deadline.check();
            }
            let records = self.records.entry(name_of(number)).or_default();
            records.pending.push_back(number);
            records.uncommitted += 1;
        }
        self.next += count;
    }

    fn commit(&mut self) {
        let committed: u64 = self.logs.iter_mut().map(SpillLog::commit).sum();
        let all = self.records.values_mut().map(|records| std::mem::take(&mut records.uncommitted) as u64);
        assert_eq!(committed, all.sum::<u64>());
    }

    fn replay(&mut self, count: u64) {
        self.commit();
        let workers = self.logs.len();
        for (worker, log) in self.logs.iter_mut().enumerate() {
            let deadline = Deadline::new("records to replay");
            let mut left = count.min(log.pending());
            while left > 0 {
                let done = log.replay(left.min(100) as usize, |replayed| {
                    let number = replayed.message.sequence;
                    assert_eq!((replayed.message, replayed.missed), (tick(&self.symbols, number), note(number)));
                    assert_eq!(spill::worker_of(replayed.message.symbol, workers), worker);
                    let records = self.records.get_mut(name_of(number)).unwrap();
                    assert_eq!(records.pending.pop_front(), Some(number));
                    records.replayed.push(number);
                });
                left -= done as u64;
                deadline.check();
            }
        }
    }

    fn check_pending(&mut self) {
        let pending: usize = self.records.values().map(|records| records.pending.len()).sum();
        assert_eq!(self.logs.iter().map(SpillLog::pending).sum::<u64>(), pending as u64);
        for log in &mut self.logs {
            assert_eq!(log.is_pending(), log.pending() > 0);
            assert_eq!(log.take_lost(), 0);
        }
    }

    fn restart(&mut self, life: &Life) {
        self.commit();
        self.logs.clear();
        // What was replayed then comes back never, not even after a crash.
        self.records.values_mut().for_each(|records| records.replayed.clear());
        (self.symbols, self.logs, _) = open(self.dir.path(), life);
    }

    /// What a killed process leaves behind: the files as they are at that moment, in the page cache.
    fn crash(&mut self, life: &Life) {
        let files = read_files_of_a_live_log(self.dir.path());
        self.logs.clear();
        write_files(self.dir.path(), &files);
        let found = self.check_files();
        let pending;
        (self.symbols, self.logs, pending) = open(self.dir.path(), life);
        assert_eq!(pending, found);
    }

    /// Looks at the files after a crash. What is in them is pending from then on.
    fn check_files(&mut self) -> u64 {
        let mut found: HashMap<&str, VecDeque<u64>> = HashMap::new();
        spill::read_records::<Tick>(self.dir.path(), |record| {
            let number = record.message.sequence;
            assert_eq!((record.symbol, record.missed), (Some(name_of(number)), note(number)));
            found.entry(name_of(number)).or_default().push_back(number);
        })
        .unwrap();
        let mut count = 0;
        for (name, records) in &mut self.records {
            let found = found.remove(name).unwrap_or_default();
            count += found.len() as u64;
            // First those that were replayed last, then all that are pending, but maybe the last ones that are not committed.
            let all: Vec<u64> = records.replayed.iter().chain(&records.pending).copied().collect();
            let certain = all.len() - records.uncommitted;
            let is_as_it_should = |end: usize| end >= found.len() && all[end - found.len()..end].iter().eq(&found);
            let end = (certain..=all.len()).find(|end| is_as_it_should(*end));
            let end = end.unwrap_or_else(|| panic!("{name}: {records:?}, found {found:?}"));
            let first = end - found.len();
            assert!(first <= records.replayed.len(), "{name}: {records:?}, found {found:?}");
            assert!((records.replayed.len() - first) as u64 <= REPLAYED_TWICE_MAX);
            *records = Records { replayed: Vec::new(), pending: found, uncommitted: 0 };
        }
        assert!(found.is_empty(), "{found:?}");
        count
    }
}

/// The files of a log that is being written, as they all are at one moment: the cursor last, since what it says is replayed may be deleted.
fn read_files_of_a_live_log(dir: &Path) -> Files {
    let mut files = read_files(dir);
    for (path, bytes) in files.iter_mut().filter(|(path, _)| path.ends_with("cursor")) {
        let path = dir.join(path);
        // Until it was not being written to meanwhile.
        *bytes = std::iter::from_fn(|| Some((std::fs::read(&path).unwrap(), std::fs::read(&path).unwrap())))
            .find_map(|(once, again)| (once == again).then_some(once))
            .unwrap();
    }
    files
}

fn run(life: &Life, steps: &[Step]) {
    let mut model = Model::new(life);
    for step in steps {
        match step {
            Step::Append(count) => model.append(*count),
            Step::Commit => model.commit(),
            Step::Replay(count) => model.replay(*count),
            Step::Refresh => model.logs.iter_mut().for_each(SpillLog::refresh),
            Step::Restart(life) => model.restart(life),
            Step::Crash(life) => model.crash(life),
        }
        model.check_pending();
    }
    model.replay(u64::MAX);
    model.check_pending();
    assert!(model.records.values().all(|records| records.pending.is_empty()));
    model.restart(&Life { workers: 1, order: 0, segment_pages: 4 });
    model.check_pending();
    drop(model.logs);
    // Nothing is left of it but the cursors.
    let left: Vec<_> = read_files(model.dir.path()).into_keys().collect();
    assert!(left.iter().all(|path| path.ends_with("cursor") || path.ends_with("lock")), "{left:?}");
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 150, rng_seed: RngSeed::Fixed(20_140_303), failure_persistence: None, ..Default::default()
    })]

    #[test]
    fn the_log_agrees_with_its_model(life in life(), steps in prop::collection::vec(step(), 1..40)) {
        run(&life, &steps);
    }
}

#[test]
fn crashes_leave_nothing_behind_that_adds_up() {
    let life = Life { workers: 1, order: 0, segment_pages: 4 };
    let mut model = Model::new(&life);
    let mut most = 0;
    for round in 0..60 {
        model.append(10);
        model.commit();
        model.crash(&life);
        let ready = read_files(model.dir.path()).len();
        most = if round < 2 { ready } else { most };
        // Each life has a segment with records and a dictionary of its own.
        assert!(ready <= most + 2 * round, "{ready} files in round {round}, {most} at first");
    }
    model.replay(u64::MAX);
}

/// Appends, restarts and replays messages of a size.
fn round_trip<M: Message + PartialEq + std::fmt::Debug>(count: u64, make: impl Fn(SymbolId, u64) -> M) {
    let dir = tempfile::tempdir().unwrap();
    let config = SpillConfig { ..config(dir.path(), 6) };
    let first = symbols(1);
    let (mut logs, _) = spill::open::<M>(&config, &first, 1).unwrap();
    let deadline = Deadline::new("room");
    for number in 0..count {
        let message = make(first.id(name_of(number)).unwrap(), number);
        while !logs[0].append(&message, note(number)) {
            logs[0].refresh();
            deadline.check();
        }
        if number.is_multiple_of(37) {
            logs[0].commit();
        }
    }
    logs[0].commit();
    let mut back = 0;
    let mut replay = |log: &mut SpillLog<M>, symbols: &Symbols, until: u64| {
        let deadline = Deadline::new("records to replay");
        while back < until {
            log.replay((until - back).min(50) as usize, |replayed| {
                assert_eq!(replayed.message, make(symbols.id(name_of(back)).unwrap(), back));
                assert_eq!((replayed.sequence, replayed.missed), (back, note(back)));
                back += 1;
            });
            deadline.check();
        }
    };
    replay(&mut logs[0], &first, count / 3);
    drop(logs);
    let second = symbols(2);
    let (mut logs, report) = spill::open::<M>(&config, &second, 1).unwrap();
    assert_eq!((report.pending(), report.faults().count()), (count - count / 3, 0), "{report:?}");
    replay(&mut logs[0], &second, count);
    assert_eq!((logs[0].pending(), logs[0].take_lost()), (0, 0));
}

/// A message of so many bytes: a multiple of 8.
macro_rules! message {
    ($name:ident, $bytes:literal) => {
        #[derive(Clone, Copy, Debug, PartialEq, TryFromBytes, IntoBytes, Immutable, KnownLayout)]
        #[zerocopy(crate = "plimsoll::zerocopy")]
        #[repr(C)]
        struct $name {
            symbol: u32,
            check: u32,
            content: [u8; $bytes - 8],
        }

        impl $name {
            fn new(symbol: SymbolId, number: u64) -> Self {
                let content = std::array::from_fn(|i| mix(number + i as u64) as u8);
                Self { symbol: symbol.get(), check: mix(number) as u32, content }
            }
        }

        impl Message for $name {
            fn symbol(&self) -> SymbolId {
                SymbolId::new(self.symbol)
            }
            fn set_symbol(&mut self, symbol: SymbolId) {
                self.symbol = symbol.get();
            }
            fn data_type(&self) -> DataType {
                DataType::Other
            }
        }
    };
}

message!(Small, 16);
message!(Odd, 100);
message!(Large, 1000);
message!(Largest, 3968);

#[test]
fn messages_of_all_sizes_come_back() {
    round_trip::<Small>(5000, Small::new);
    round_trip::<Odd>(1000, Odd::new);
    round_trip::<Large>(200, Large::new);
    round_trip::<Largest>(60, Largest::new);
}
