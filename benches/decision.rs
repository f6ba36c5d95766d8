//! What it costs to decide about a message, and what other ways to decide would cost.
//!
//! ```text
//!   message ──▶ policy: which level? ──┐
//!          └──▶ priority: how much does it matter? ──▶ verdict: process, spill or shed
//! ```
//!
//! Run with `cargo bench --bench decision`; each part by itself, and then all three, message by message and as the worker
//! does it, which reads the policy once for 128 messages. Each of them runs over the same ticks, on one core, while nobody changes the
//! level: what a lock costs when several threads want it is not in here. `tools/count_instructions.sh` counts instead of
//! measuring, which tells more on a busy machine.

#[path = "harness/mod.rs"]
mod harness;

use std::collections::{HashMap, HashSet};
use std::hint::black_box;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, RwLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use criterion::{BenchmarkGroup, Criterion, Throughput, measurement::WallTime};
use plimsoll::internals::{Published, TierTable};
use plimsoll::{
    DataType, DegradationLevel, Message, MessagePriority, Price, SymbolId, SymbolTiers, Symbols, Tick, TickKind,
    Verdict, VerdictTable,
};

/// So many that a branch predictor does not know them by heart, and that a second-level cache holds them.
const TICKS: usize = 4096;
/// Messages for each look at the policy, as in a worker.
const CHUNK: usize = 128;
/// 20 symbols of tier 1, 40 of tier 2, and as many of tier 3.
const SYMBOLS: usize = 100;
/// Every so-many-th message is reference data.
const REFERENCE_EVERY: usize = 16;
/// LOW is shed, all else is processed.
const LEVEL: DegradationLevel = DegradationLevel::Graceful;

/// What all ways work on.
struct Stage {
    ticks: Vec<Tick>,
    symbols: Symbols,
    tiers: SymbolTiers,
    /// By symbol.
    names: Vec<String>,
    published: Published,
    table: VerdictTable,
    /// As a worker sees it: one level's verdicts by priority.
    row: [Verdict; 4],
}

impl Stage {
    fn new() -> Self {
        let tiers = SymbolTiers::default();
        let others = (0..SYMBOLS - 60).map(|i| format!("X{i:02}"));
        let names: Vec<String> = tiers.tier_1().into_iter().chain(tiers.tier_2()).chain(others).collect();
        let symbols = Symbols::default();
        for name in &names {
            symbols.intern(name).expect("room for 100 symbols");
        }
        let (mut ticks, mut random) = (Vec::new(), 0x9E37_79B9_7F4A_7C15_u64);
        for i in 0..TICKS {
            // Marsaglia's xorshift: any order will do that does not repeat.
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let symbol = SymbolId::new((random % SYMBOLS as u64) as u32);
            let kind = if i.is_multiple_of(REFERENCE_EVERY) { TickKind::Reference } else { TickKind::Trade };
            ticks.push(Tick { kind, ..Tick::trade(symbol, i as u64, Price::ZERO, random % 7) });
        }
        let table = VerdictTable::default();
        let published = Published::new(table);
        published.publish(LEVEL);
        let row = MessagePriority::ALL.map(|priority| table.verdict(LEVEL, priority));
        Self { ticks, symbols, tiers, names, published, table, row }
    }

    /// How many messages the verdict is to process, whichever way it is come by.
    fn expected(&self) -> u64 {
        let is_low = |tick: &&Tick| tick.data_type() == DataType::ReferenceData;
        (self.ticks.len() - self.ticks.iter().filter(is_low).count()) as u64
    }
}

/// Times one way over all ticks. `each` says what a tick counts for; their sum has to be what it should be.
fn measure(group: &mut BenchmarkGroup<'_, WallTime>, stage: &Stage, name: &str, mut each: impl FnMut(&Tick) -> u64) {
    let mut run = || stage.ticks.iter().map(|tick| each(black_box(tick))).sum::<u64>();
    assert_eq!(run(), stage.expected(), "{name} decides otherwise");
    group.bench_function(name, |bencher| bencher.iter(&mut run));
}

fn begin<'a>(criterion: &'a mut Criterion, name: &str) -> BenchmarkGroup<'a, WallTime> {
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements(TICKS as u64));
    group
}

/// 1 for what is processed at a level, by the default table.
#[inline]
fn one_if_processed(level: DegradationLevel, tick: &Tick) -> u64 {
    u64::from(level < DegradationLevel::Graceful || tick.data_type() != DataType::ReferenceData)
}

fn policy(criterion: &mut Criterion, stage: &Stage) {
    let mut group = begin(criterion, "policy");
    let level = black_box(LEVEL);
    measure(&mut group, stage, "not read", |tick| one_if_processed(level, tick));

    let atomic = AtomicU8::new(LEVEL as u8);
    measure(&mut group, stage, "AtomicU8, relaxed", |tick| {
        one_if_processed(DegradationLevel::ALL[usize::from(atomic.load(Ordering::Relaxed))], tick)
    });

    let mut reader = stage.published.reader();
    measure(&mut group, stage, "arc_swap::Cache", |tick| one_if_processed(reader.load().level, tick));

    let swap = ArcSwap::from_pointee(stage.published.policy());
    measure(&mut group, stage, "ArcSwap::load", |tick| one_if_processed(swap.load().level, tick));

    let mutex = Mutex::new(LEVEL);
    measure(&mut group, stage, "Mutex", |tick| one_if_processed(*mutex.lock().expect("no panic"), tick));

    let lock = RwLock::new(LEVEL);
    measure(&mut group, stage, "RwLock", |tick| one_if_processed(*lock.read().expect("no panic"), tick));
    group.finish();
}

/// The default table, written out.
#[inline]
fn verdict_by_match(level: DegradationLevel, priority: MessagePriority) -> Verdict {
    use DegradationLevel::{Aggressive, CircuitBreak, Graceful, Normal, Soft};
    use MessagePriority::{Critical, High, Low, Normal as Usual};
    match (level, priority) {
        (Normal | Soft, _) | (_, Critical) | (Graceful, High | Usual) | (Aggressive, High) => Verdict::Process,
        (Aggressive, Usual) | (CircuitBreak, High | Usual) => Verdict::Spill,
        (_, Low) => Verdict::Shed,
    }
}

fn verdict(criterion: &mut Criterion, stage: &Stage) {
    // As the stream has them, so that looking them up is not in here: a tick's `size` says.
    let tiers = stage.symbols.tier_table();
    let with_priority = |tick: &Tick| Tick { size: index_by_id(tiers, tick) as u64, ..*tick };
    let stage = &Stage { ticks: stage.ticks.iter().map(with_priority).collect(), ..Stage::new() };
    let index = |tick: &Tick| (tick.size & 3) as usize;
    let level = black_box(LEVEL);

    let mut group = begin(criterion, "verdict");
    let row = black_box(stage.row);
    measure(&mut group, stage, "row of the level", |tick| u64::from(row[index(tick)] == Verdict::Process));
    measure(&mut group, stage, "VerdictTable::verdict", |tick| {
        u64::from(stage.table.verdict(level, MessagePriority::ALL[index(tick)]) == Verdict::Process)
    });
    measure(&mut group, stage, "match", |tick| {
        u64::from(verdict_by_match(black_box(level), MessagePriority::ALL[index(tick)]) == Verdict::Process)
    });
    let pairs = DegradationLevel::ALL.iter().flat_map(|level| MessagePriority::ALL.map(|priority| (*level, priority)));
    let map: HashMap<(DegradationLevel, MessagePriority), Verdict> =
        pairs.map(|(level, priority)| ((level, priority), stage.table.verdict(level, priority))).collect();
    measure(&mut group, stage, "HashMap", |tick| {
        u64::from(map[&(level, MessagePriority::ALL[index(tick)])] == Verdict::Process)
    });
    group.finish();
}

#[inline]
fn index_by_id(tiers: TierTable<'_>, tick: &Tick) -> usize {
    tiers.priority_index(tiers.slot(tick.symbol()), tick.data_type())
}

#[inline]
fn one_if_not_low(priority: MessagePriority) -> u64 {
    u64::from(priority != MessagePriority::Low)
}

fn priority(criterion: &mut Criterion, stage: &Stage) {
    let mut group = begin(criterion, "priority");
    let tiers = stage.symbols.tier_table();
    measure(&mut group, stage, "table by id", |tick| u64::from(index_by_id(tiers, tick) != 3));

    let by_id: HashMap<SymbolId, _> = ids().map(|id| (id, stage.symbols.tier(id))).collect();
    measure(&mut group, stage, "HashMap by id", |tick| {
        one_if_not_low(MessagePriority::of(by_id[&tick.symbol], tick.data_type()))
    });

    let name = |tick: &Tick| stage.names[tick.symbol.index()].as_str();
    let by_name: HashMap<String, _> = stage.names.iter().map(|name| (name.clone(), stage.tiers.tier(name))).collect();
    measure(&mut group, stage, "HashMap by name", |tick| {
        one_if_not_low(MessagePriority::of(by_name[name(tick)], tick.data_type()))
    });

    // As the reference has it.
    measure(&mut group, stage, "two HashSets of names", |tick| {
        one_if_not_low(stage.tiers.priority(name(tick), tick.data_type()))
    });
    group.finish();
}

fn ids() -> impl Iterator<Item = SymbolId> {
    (0..SYMBOLS as u32).map(SymbolId::new)
}

fn together(criterion: &mut Criterion, stage: &Stage) {
    let mut group = begin(criterion, "together");
    let tiers = stage.symbols.tier_table();

    let mut reader = stage.published.reader();
    let run = || {
        let mut processed = 0;
        for chunk in stage.ticks.chunks(CHUNK) {
            let policy = **black_box(&mut reader).load();
            let row = MessagePriority::ALL.map(|priority| policy.table.verdict(policy.level, priority));
            for tick in chunk {
                processed += u64::from(row[index_by_id(tiers, black_box(tick))] == Verdict::Process);
            }
        }
        processed
    };
    measure_all(&mut group, stage, "by chunk: Cache, table by id, row", run);

    let mut reader = stage.published.reader();
    measure(&mut group, stage, "by message: Cache, table by id, row", |tick| {
        let policy = reader.load();
        let verdict = policy.table.verdict(policy.level, MessagePriority::ALL[index_by_id(tiers, tick)]);
        u64::from(verdict == Verdict::Process)
    });

    let by_id: HashMap<SymbolId, _> = ids().map(|id| (id, stage.symbols.tier(id))).collect();
    let lock = RwLock::new(LEVEL);
    measure(&mut group, stage, "by message: RwLock, HashMap by id, match", |tick| {
        let level = *lock.read().expect("no panic");
        let priority = MessagePriority::of(by_id[&tick.symbol], tick.data_type());
        u64::from(verdict_by_match(level, priority) == Verdict::Process)
    });

    let (tier_1, tier_2): (HashSet<_>, HashSet<_>) = (set(stage.tiers.tier_1()), set(stage.tiers.tier_2()));
    let mutex = Mutex::new(LEVEL);
    measure(&mut group, stage, "by message: Mutex, HashSets of names, match", |tick| {
        let level = *mutex.lock().expect("no panic");
        let name = stage.names[tick.symbol.index()].as_str();
        let priority = match () {
            () if tick.data_type() == DataType::ReferenceData => MessagePriority::Low,
            () if tier_1.contains(name) => MessagePriority::Critical,
            () if tier_2.contains(name) => MessagePriority::High,
            () => MessagePriority::Normal,
        };
        u64::from(verdict_by_match(level, priority) == Verdict::Process)
    });
    group.finish();
}

fn set(names: Vec<String>) -> HashSet<String> {
    names.into_iter().collect()
}

/// As [`measure`], where it is more than one tick at a time.
fn measure_all(group: &mut BenchmarkGroup<'_, WallTime>, stage: &Stage, name: &str, mut run: impl FnMut() -> u64) {
    assert_eq!(run(), stage.expected(), "{name} decides otherwise");
    group.bench_function(name, |bencher| bencher.iter(&mut run));
}

fn main() {
    harness::pin(0);
    println!("{}", harness::machine());
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(50)
        .configure_from_args();
    let stage = Stage::new();
    policy(&mut criterion, &stage);
    verdict(&mut criterion, &stage);
    priority(&mut criterion, &stage);
    together(&mut criterion, &stage);
    criterion.final_summary();
}
