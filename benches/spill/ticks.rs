//! The records: a few ticks over and over, so that making them costs nothing.

use plimsoll::spill::{Durability, SpillConfig};
use plimsoll::{Price, SymbolId, Tick};

/// As many as a first-level cache does not mind.
pub(crate) const POOL: usize = 256;
/// Messages between two commits, as in a worker.
pub(crate) const CHUNK: usize = 128;
/// Symbols of the ticks.
pub(crate) const SYMBOLS: u32 = 100;
/// Where in a tick its size is.
pub(crate) const SIZE_AT: usize = std::mem::offset_of!(Tick, size);
pub(crate) const RECORD: usize = size_of::<Tick>();

pub(crate) fn pool() -> Vec<Tick> {
    let tick = |i: u64| {
        let trade = Tick::trade(SymbolId::new(i as u32 % SYMBOLS), i, Price::from_billionths(i as i64), i % 7);
        Tick { sequence: i, ..trade }
    };
    (0..POOL as u64).map(tick).collect()
}

/// The sum of the sizes of so many ticks out of the pool.
pub(crate) fn expected_sum(records: u64) -> u64 {
    let pool = pool();
    let all: u64 = pool.iter().map(|tick| tick.size).sum();
    let rest = &pool[..(records % POOL as u64) as usize];
    records / POOL as u64 * all + rest.iter().map(|tick| tick.size).sum::<u64>()
}

/// The sum of the sizes of records in a row.
pub(crate) fn sum_of(records: &[u8]) -> u64 {
    let size = |record: &[u8]| u64::from_ne_bytes(record[SIZE_AT..SIZE_AT + 8].try_into().unwrap());
    records.chunks_exact(RECORD).map(size).sum()
}

pub(crate) fn config(dir: &std::path::Path) -> SpillConfig {
    SpillConfig { durability: Durability::None, free_space_floor_bytes: 0, ..SpillConfig::new(dir) }
}
