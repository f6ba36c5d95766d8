//! Looking into a log from outside, without changing anything. The process that writes it may go on meanwhile.

use std::collections::HashMap;
use std::path::Path;

use super::dictionary::{self, Names};
use super::error::{SpillError, at};
use super::format::RecordType;
use super::reader::decode;
use super::recovery::{dictionary_fault, worker_dir, worker_dirs};
use super::scan::{Frame, scan};
use super::summary::LogSummary;
use crate::message::Message;

/// A record of a log.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a, M> {
    /// The worker whose log it is in.
    pub worker: u32,
    /// Its sequence number in that log.
    pub sequence: u64,
    /// How many messages of its symbol are missing before it.
    pub missed: u32,
    /// When its frame was opened: nanoseconds since the Unix epoch, to about a millisecond.
    pub spilled_ns: u64,
    /// The message as it was written; its symbol's id is of the process that wrote it.
    pub message: M,
    /// The symbol's name; `None` where the embedder numbers symbols itself.
    pub symbol: Option<&'a str>,
}

/// Reads all logs in a directory and says what is in them and what is wrong with them.
///
/// `progress` is told how many bytes were read, segment by segment.
///
/// # Errors
/// When a directory cannot be read, or a segment is of another version of the format. Damage is no error here, but in
/// [`LogSummary::faults`].
pub fn inspect(dir: &Path, mut progress: impl FnMut(u64)) -> Result<Vec<LogSummary>, SpillError> {
    let mut logs = Vec::new();
    for worker in workers(dir)? {
        let mut log = scan(worker, &worker_dir(dir, worker), None, u32::MAX, |_| {}, &mut progress)?;
        check_names(dir, &mut log)?;
        logs.push(log);
    }
    Ok(logs)
}

/// Notes names that are missing: of lives whose records the log holds.
fn check_names(dir: &Path, log: &mut LogSummary) -> Result<(), SpillError> {
    for (life, known) in log.names_needed() {
        let names = Names::read(dir, life).map_err(at(&dictionary::path(dir, life)))?;
        if !names.are_whole(known) {
            log.faults.push(dictionary_fault(dir, life));
        }
    }
    Ok(())
}

/// Shows all records that wait in a directory to be replayed, log by log, oldest first. Those whose symbol's name is lost cannot be
/// replayed; they are not shown, but counted in [`LogSummary::nameless`].
///
/// # Errors
/// When a directory cannot be read, or a segment is of another version or holds other messages.
pub fn read_records<M: Message>(
    dir: &Path,
    mut show: impl FnMut(Record<'_, M>),
) -> Result<Vec<LogSummary>, SpillError> {
    let record = RecordType::of::<M>();
    let mut lives = HashMap::new();
    for life in dictionary::lives(dir).map_err(at(dir))? {
        lives.insert(life, Names::read(dir, life).map_err(at(&dictionary::path(dir, life)))?);
    }
    let mut logs = Vec::new();
    for worker in workers(dir)? {
        let mut nameless = 0;
        let see = |frame: Frame<'_>| {
            let names = lives.get(&frame.life);
            // The embedder numbers symbols itself.
            let has_no_names = frame.info.names == 0 && names.is_none_or(Names::are_none);
            for (sequence, missed, bytes) in frame.records() {
                let message = decode::<M>(bytes);
                let symbol = message.and_then(|message| names.and_then(|names| names.get(message.symbol())));
                match message.filter(|_| has_no_names || symbol.is_some()) {
                    Some(message) => {
                        let spilled_ns = frame.info.opened_ns;
                        show(Record { worker, sequence, missed, spilled_ns, message, symbol });
                    }
                    None => nameless += 1,
                }
            }
        };
        let mut log = scan(worker, &worker_dir(dir, worker), Some(&record), u32::MAX, see, |_| {})?;
        log.pending -= nameless;
        log.nameless = nameless;
        check_names(dir, &mut log)?;
        logs.push(log);
    }
    Ok(logs)
}

fn workers(dir: &Path) -> Result<Vec<u32>, SpillError> {
    worker_dirs(dir).map_err(at(dir))
}
