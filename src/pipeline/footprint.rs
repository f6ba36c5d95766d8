//! How much memory a pipeline takes, told before it starts.

use crossbeam::utils::CachePadded;

use crate::holes::Holes;
use crate::lane::lane_bytes;
use crate::ledger::WorkerCounters;
use crate::message::Message;
use crate::spill::{self, SpillConfig};
use crate::symbols::Symbols;
use crate::worker::conflation_bytes;

/// How much memory a pipeline takes, in bytes: its settings say it, whatever the feed does. On the heap it is never more; for what is
/// mapped, see below. From
/// [`PipelineBuilder::footprint`](crate::PipelineBuilder::footprint).
///
/// With W workers, P producers, messages of m bytes, lanes of C messages and room for S symbols:
///
/// | | bytes |
/// |---|---|
/// | [`lanes`](Self::lanes) | `W × P × (⌈C / 256⌉ + 1) × (256 × (m + 4) + 9)` |
/// | [`tables`](Self::tables) | `(S + 1) × (1 + 4 × (W + P))`, and about 10 KiB of counters a worker |
/// | [`conflation`](Self::conflation) | `W × ((S + 1) × 4 × (8 + 1.5 k) + 64 k)` if anything is conflated, else 0; k: m + 32, rounded up to a multiple of the message's alignment |
/// | [`spill_heap`](Self::spill_heap) | `W × (8 × (S + 1) + 1.8 MiB)` with a spill log, else 0 |
/// | [`spill_mapped`](Self::spill_mapped) | `W × (R + 1) × segment_bytes`, at most the budget, with a spill log, else 0 |
///
/// R is how many segments are kept ready: 16 MiB of them, but 2 at least and 16 at most, and no more than a worker's share of the
/// budget, but 1 at least.
///
/// All but the last are [heap](Self::heap), anonymous memory, which the default
/// [`MemorySource`](crate::MemorySource) counts. It is real as far as it was ever touched; lanes are touched at start
/// with [`prefault`](crate::PipelineBuilder::prefault). Mapped pages belong to files: the system writes
/// them back and takes them away when it needs memory.
///
/// Not counted: handlers, threads' stacks, the symbols' names, telemetry, what the last transitions take, the list of segments on disk,
/// what recovery reads at the start, and some hundred bytes for each lane and thread.
///
/// `spill_mapped` holds while the log's helper threads keep up. Segments that a worker has left stay mapped until they come to
/// it, and with [`Durability::Interval`](crate::spill::Durability::Interval) until they are on the disk: when a flood fills segments as
/// fast as the disk takes them, several times as much can be mapped. The budget bounds that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Footprint {
    /// Messages on their way to the workers: the lanes' blocks, and what is kept for each block.
    pub lanes: u64,
    /// What is kept for each symbol there may be, but for names, and the workers' counters.
    pub tables: u64,
    /// Messages that are kept to be conflated, if any are.
    pub conflation: u64,
    /// The spill logs' tables and buffers.
    pub spill_heap: u64,
    /// The spill logs' segments that are mapped.
    pub spill_mapped: u64,
}

impl Footprint {
    /// Anonymous memory.
    pub fn heap(&self) -> u64 {
        self.lanes.saturating_add(self.tables).saturating_add(self.conflation).saturating_add(self.spill_heap)
    }

    /// All of it.
    pub fn total(&self) -> u64 {
        self.heap().saturating_add(self.spill_mapped)
    }

    /// Of checked settings.
    pub(super) fn of<M: Message>(
        workers: usize,
        producers: usize,
        lane_capacity: usize,
        symbols: &Symbols,
        conflates: bool,
        spill: Option<&SpillConfig>,
    ) -> Self {
        let slots = symbols.slots();
        let holes = (workers + producers) as u64 * Holes::bytes(slots);
        let counters = (workers * size_of::<CachePadded<WorkerCounters>>()) as u64;
        let (spill_heap, spill_mapped) = spill.map_or((0, 0), |config| spill::bytes_of(config, workers, slots));
        Self {
            lanes: lane_bytes::<M>(lane_capacity).saturating_mul((workers * producers) as u64),
            tables: symbols.table_bytes() + holes + counters,
            conflation: if conflates { workers as u64 * conflation_bytes::<M>(symbols.capacity() + 1) } else { 0 },
            spill_heap,
            spill_mapped,
        }
    }
}
