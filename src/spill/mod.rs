//! The spill log: overflow goes to disk, survives the process, and comes back in order.
//!
//! # Constraints
//!
//! * An append costs the worker a copy and its share of a checksum: no system call, no page fault, no allocation, no lock.
//! * What counts as spilled survives `kill -9`; what else it survives is a [choice](Durability).
//! * Damage costs what is damaged and nothing more, and the report says exactly which records that were. Never
//!   is a wrong record replayed.
//! * A full disk ends spilling, not the process: what would be spilled is shed, with a reason of its own, until there is room.
//! * Memory is bounded, whatever the log's size.
//!
//! # Layout
//!
//! ```text
//! DIR/lock                    locked by the process that uses the directory; holds its number
//! DIR/symbols-LIFE            what symbol ids mean, one file for each life of a process
//! DIR/worker-N/cursor         how far replay has come
//! DIR/worker-N/SEGMENT.spill  segments, numbered from 1 on
//! ```
//!
//! All headers are little-endian; records are the messages' own bytes. Checksums are CRC-32C. A *life* is the random number of one
//! process's use of the directory; an *epoch* that of one segment.
//!
//! **Segment.** Pages of 4096 bytes. The first and the last one begin with the same header, so that a bad page leaves a good copy;
//! those between are frames, numbered from 1.
//!
//! | bytes | header of a segment |
//! |---|---|
//! | 0–7 | `PLIMSEG`, 0 |
//! | 8–9 | version of the format: 1 |
//! | 10, 11 | byte order of the records: 1 little, 2 big; 0 |
//! | 12–15, 16–19, 20–23 | bytes of a frame (4096), bytes of a record, records of a frame |
//! | 24–31 | bytes of the segment |
//! | 32–35, 36–39 | worker, number of the segment |
//! | 40–47, 48–55 | epoch, life |
//! | 56–63 | made at: nanoseconds since the Unix epoch |
//! | 64–71 | FNV-1a of the [name of the messages' layout](crate::Message::layout_name) |
//! | 72–135 | that name, cut to 64 bytes, padded with zeros |
//! | 136–139 | 0 |
//! | 140–143 | checksum of bytes 0–139 |
//!
//! **Frame.** A header of 64 bytes; a note of 4 bytes for each record; then, at the next multiple of 64, the records. As many as fit:
//! 59 of 64 bytes. There are no lengths, so after damage the next frame is simply the next page. All frames of a segment are full but
//! the last.
//!
//! | bytes | header of a frame |
//! |---|---|
//! | 0–3 | `PLFR` |
//! | 4–5, 6–7 | version of the format: 1; 0 |
//! | 8–15 | epoch of the segment |
//! | 16–19, 20–23 | number of the segment, number of the frame |
//! | 24–31 | sequence number of the first record: one a worker, without gaps, from 0 |
//! | 32–39 | records below this sequence number were on the disk when the frame was opened |
//! | 40–47 | opened at: nanoseconds since the Unix epoch, to about a millisecond |
//! | 48–51, 52–55 | names in the dictionary when the frame was opened; 0 |
//! | 56–63 | **commit word**: checksum (low 32 bits), number of records (high 32 bits) |
//!
//! A record's note is the number of messages of its symbol that are missing before it, so that holes are told of at their
//! place after a replay, too. The checksum covers bytes 0–55, then the records in order, and before each record that has a
//! note other than 0 that note.
//!
//! **Cursor.** Two places, at 0 and at 4096, that are written in turn; the whole one with the higher generation counts.
//!
//! | bytes | place in the cursor |
//! |---|---|
//! | 0–7 | `PLIMCUR`, 0 |
//! | 8–9, 10–11 | version: 1; 1 if the log was closed in good order, else 0 |
//! | 12–15 | names in the dictionary of the life below |
//! | 16–23 | generation |
//! | 24–31, 32–39 | records below this sequence number are replayed; records below this one were appended |
//! | 40–47 | life |
//! | 48–51 | 0 |
//! | 52–55 | checksum of bytes 0–51 |
//!
//! **Dictionary.** Entries of 64 bytes: checksum of the rest (4), symbol id (4), bytes of the name (4), number of the piece (2), 0 (2), and
//! a piece of the name (48). Ids come in order; a long name takes several entries.
//!
//! # Operation
//!
//! **Append.** The worker copies records and notes into the open frame. *Spilled* means that the commit word is stored, one aligned
//! store that releases what it covers; it is stored when a frame is full and at the end of each chunk of messages, and adding to a frame
//! adds to the checksum's running state. The page cache outlives the process, so nothing has to be written back for that.
//!
//! **Segments** are made by a helper thread, the *keeper*: all blocks allocated before the file is mapped, so that a full disk shows as an
//! error there and not as a signal here; pages brought into the page cache by writing zeros, and made present ahead of the writer. From
//! SOFT up the keeper looks more often, as there may soon be something to spill. When a segment is full, the worker exchanges it for one
//! that is ready. If none is, it does not wait: that is a lack of room, and counted. With [`Durability::Interval`] a second helper,
//! the *syncer*, writes back.
//!
//! **Replay.** Complete segments are read by the keeper, with `pread`, checked, and handed over in portions; the segment that is written to
//! is read where it is. So replay catches up with appending however slow the disk is. Delivered, then noted on disk, then
//! deleted: after the end of a process, records come twice at worst, at most [`REPLAYED_TWICE_MAX`] of a worker's, and are never skipped.
//!
//! **Recovery** reads everything by `pread`, once as a rule. The end of the log is its last valid frame, not its first bad page; what is missing
//! between two valid frames is lost, and their sequence numbers say which records that were. Nothing is ever appended to a recovered
//! segment. If symbols have other workers now, their records are moved to those workers' logs first.
//!
//! Symbols either all have names in the registry, or none has, since the embedder numbers them itself: where there are names, a record
//! whose id has none is lost, as nobody can tell whose it is.
//!
//! File systems that copy on write (btrfs, and others with reflinks in use) cannot promise that an allocated block can be written:
//! on those, keep the free-space floor well above zero.

mod backlog;
mod budget;
mod config;
mod cursor;
mod dictionary;
mod error;
mod format;
mod held;
mod inspect;
mod keeper;
mod log;
mod map;
mod mover;
mod progress;
mod reader;
mod recovery;
mod scan;
mod segment;
mod shared;
mod store;
mod summary;
mod syncer;
mod writer;

pub use config::{AtShutdown, Durability, OnDamage, SpillConfig};
pub(crate) use dictionary::Dictionary;
pub use error::SpillError;
pub use format::RecordType;
pub use inspect::{Record, inspect, read_records};
pub(crate) use keeper::bytes_of;
pub use log::{REPLAYED_TWICE_MAX, Replayed, SpillLog};
pub(crate) use progress::SpillProgress;
pub use recovery::RecoveryReport;
pub(crate) use shared::{Arm, Notify, SpillStats};
pub use store::open;
pub(crate) use store::open_for;
pub use summary::{Fault, FaultKind, LogSummary, SegmentSummary};

pub use crate::ingress::worker_of;
