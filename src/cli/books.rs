//! Books of a run: changes of the best prices as they come, and all levels at the end.

use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::queue::ArrayQueue;
use plimsoll::source::{Rebuild, SymbolSet};
use plimsoll::{Bbo, BboFormat, BookCounters, BookCounts, BookHandler, Side, SymbolId, Symbols, write_bbo};

use super::CliError;
use super::output::OutputFile;
use super::summary::grouped;
use crate::config::Feed;

/// What a worker does with a change of the best prices.
pub(crate) type Tell = Box<dyn FnMut(&Bbo) + Send>;

/// Rows that wait to be written, at most.
const QUEUE: usize = 1 << 16;
/// The writer looks for rows that often, so that no worker has to wake it.
const LOOK: Duration = Duration::from_millis(1);
/// Pictures for stale books are made that often at most.
const REBUILD_EVERY: Duration = Duration::from_secs(1);

/// What the workers' books share.
pub(crate) struct Books {
    bbo: Option<BboFile>,
    stale: Arc<SymbolSet>,
    is_calm: Arc<AtomicBool>,
    counters: Vec<Arc<BookCounters>>,
}

impl Books {
    pub(crate) fn new(bbo: Option<BboFile>, symbols: &Symbols, workers: usize) -> Self {
        Self {
            bbo,
            stale: Arc::new(SymbolSet::new(symbols.capacity())),
            is_calm: Arc::new(AtomicBool::new(true)),
            counters: (0..workers).map(|_| Arc::default()).collect(),
        }
    }

    /// The counts of each worker.
    pub(crate) fn counters(&self) -> &[Arc<BookCounters>] {
        &self.counters
    }

    /// What makes the books of workers.
    pub(crate) fn maker(&self) -> BookMaker {
        let queue = self.bbo.as_ref().map(|bbo| Arc::clone(&bbo.queue));
        BookMaker { queue, stale: Arc::clone(&self.stale), counters: self.counters.clone() }
    }

    /// The feed, which shows the books of stale symbols anew while all is calm.
    pub(crate) fn rebuild(&self, feed: Feed) -> Feed {
        let is_calm = Arc::clone(&self.is_calm);
        let calm = move || is_calm.load(Ordering::Relaxed);
        let source = Rebuild::new(feed.source, Arc::clone(&self.stale), REBUILD_EVERY, calm);
        Feed { source: Box::new(source), ..feed }
    }

    /// Says whether there is time for pictures.
    pub(crate) fn set_calm(&self, is_calm: bool) {
        self.is_calm.store(is_calm, Ordering::Relaxed);
    }

    /// Ends the file of changes, when the workers have stopped; and what there is to say.
    pub(crate) fn finish(self) -> Result<String, CliError> {
        let counts: BookCounts = self.counters.iter().map(|counters| counters.get()).sum();
        let mut text =
            format!("books            {:>16} symbols, {} stale", grouped(counts.books), grouped(counts.stale));
        if counts.stale_ns > 0 {
            text += &format!(", for {:.3} s in all", counts.stale_ns as f64 / 1e9);
        }
        if counts.unmatched > 0 {
            text += &format!(", {} unmatched", grouped(counts.unmatched));
        }
        text += "\n";
        if let Some(bbo) = self.bbo {
            let (rows, path) = bbo.finish()?;
            text += &format!("bbo              {:>16} changes → {path}\n", grouped(rows));
        }
        Ok(text)
    }
}

/// Makes the books of workers.
pub(crate) struct BookMaker {
    /// Where changes of the best prices go, if they are wanted.
    queue: Option<Arc<ArrayQueue<Bbo>>>,
    stale: Arc<SymbolSet>,
    counters: Vec<Arc<BookCounters>>,
}

impl BookMaker {
    /// The books of one worker.
    pub(crate) fn handler(&self, worker: usize) -> BookHandler<Tell> {
        let tell: Tell = match &self.queue {
            Some(queue) => tell_to(Arc::clone(queue)),
            None => Box::new(|_| {}),
        };
        BookHandler::new(tell).rebuilding(Arc::clone(&self.stale)).counting(Arc::clone(&self.counters[worker]))
    }
}

fn tell_to(queue: Arc<ArrayQueue<Bbo>>) -> Tell {
    Box::new(move |bbo| {
        let mut row = *bbo;
        while let Err(back) = queue.push(row) {
            row = back;
            std::thread::yield_now();
        }
    })
}

/// A file of changes of the best prices, written by a thread of its own.
///
/// A worker waits when the queue is full: changes are not lost, and a disk that is too slow becomes lag.
pub(crate) struct BboFile {
    queue: Arc<ArrayQueue<Bbo>>,
    end: Arc<OnceLock<End>>,
    writer: Option<JoinHandle<Result<u64, CliError>>>,
    path: String,
}

/// How the stream of changes ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// What is in the queue is the rest.
    Complete,
    /// The run has failed: the file is not wanted.
    Abandoned,
}

impl BboFile {
    pub(crate) fn start(path: &Path, symbols: &Arc<Symbols>) -> Result<Self, CliError> {
        let file = OutputFile::create(path)?;
        let is_json = path.extension().is_some_and(|extension| extension == "ndjson" || extension == "jsonl");
        let mut rows = Rows {
            queue: Arc::new(ArrayQueue::new(QUEUE)),
            end: Arc::default(),
            format: if is_json { BboFormat::Ndjson } else { BboFormat::Csv },
            symbols: Arc::clone(symbols),
            names: Vec::new(),
        };
        let (queue, end) = (Arc::clone(&rows.queue), Arc::clone(&rows.end));
        let write = move || {
            let written = file.finish(|out| rows.write(out));
            // What cannot be written must not keep the workers waiting.
            rows.discard();
            written
        };
        let writer = std::thread::Builder::new().name("bbo".to_owned()).spawn(write);
        let writer = writer.map_err(|error| CliError::io(&"the thread for --bbo", &error))?;
        Ok(Self { queue, end, writer: Some(writer), path: path.display().to_string() })
    }

    /// Writes what is left; returns the number of rows, and the path.
    fn finish(mut self) -> Result<(u64, String), CliError> {
        let rows = self.end(End::Complete)?;
        Ok((rows, std::mem::take(&mut self.path)))
    }

    fn end(&mut self, end: End) -> Result<u64, CliError> {
        let Some(writer) = self.writer.take() else { return Ok(0) };
        let _ = self.end.set(end);
        let panicked = |_| CliError::Runtime("the thread that writes --bbo has panicked".to_owned());
        writer.join().map_err(panicked)?
    }
}

impl Drop for BboFile {
    fn drop(&mut self) {
        let _ = self.end(End::Abandoned);
    }
}

/// The writer's end of the queue.
struct Rows {
    queue: Arc<ArrayQueue<Bbo>>,
    end: Arc<OnceLock<End>>,
    format: BboFormat,
    symbols: Arc<Symbols>,
    /// By symbol id, as far as they were needed.
    names: Vec<Option<Arc<str>>>,
}

impl Rows {
    fn write(&mut self, out: &mut dyn Write) -> io::Result<u64> {
        out.write_all(self.format.header().as_bytes())?;
        let mut rows = 0;
        while let Some(bbo) = self.next(&mut || out.flush())? {
            let index = bbo.symbol.index();
            if index >= self.names.len() {
                self.names.resize(index + 1, None);
            }
            let name = self.names[index].get_or_insert_with(|| symbol_name(&self.symbols, bbo.symbol));
            write_bbo(out, self.format, name, &bbo)?;
            rows += 1;
        }
        Ok(rows)
    }

    /// Takes rows until the end, and forgets them.
    fn discard(&mut self) {
        while let Ok(Some(_)) = self.next(&mut || Ok(())) {}
    }

    /// The next row; `None` at the end. `idle` is called when there is none yet.
    fn next(&self, idle: &mut dyn FnMut() -> io::Result<()>) -> io::Result<Option<Bbo>> {
        loop {
            // Looked at before the queue: what was put there before the end is not overlooked.
            let end = self.end.get().copied();
            if let Some(bbo) = self.queue.pop() {
                return Ok(Some(bbo));
            }
            match end {
                Some(End::Complete) => return Ok(None),
                Some(End::Abandoned) => return Err(io::Error::other("the run has failed")),
                None => {}
            }
            idle()?;
            std::thread::sleep(LOOK);
        }
    }
}

pub(crate) fn symbol_name(symbols: &Symbols, id: SymbolId) -> Arc<str> {
    symbols.name(id).unwrap_or_else(|| id.to_string().into())
}

/// Writes the levels of all books as CSV, `depth` a side at most, by symbol, bids first, the best first; returns how many.
pub(crate) fn write_books(
    file: OutputFile,
    books: &[&BookHandler<Tell>],
    symbols: &Symbols,
    depth: usize,
) -> Result<u64, CliError> {
    let all = books.iter().flat_map(|handler| handler.books());
    let mut all: Vec<_> = all.map(|(id, book)| (symbol_name(symbols, id), book)).collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    file.finish(|out| {
        let mut csv = csv::Writer::from_writer(out);
        csv.write_record(["symbol", "side", "level", "price", "size", "orders", "stale"])?;
        let mut rows = 0;
        for (name, book) in &all {
            let stale = if book.is_stale() { "1" } else { "0" };
            for (side, title) in [(Side::Buy, "bid"), (Side::Sell, "ask")] {
                for (number, level) in book.levels(side).take(depth).enumerate() {
                    let number = (number + 1).to_string();
                    let (price, size, orders) =
                        (level.price.to_string(), level.size.to_string(), level.orders.to_string());
                    csv.write_record([name, title, &*number, &*price, &*size, &*orders, stale])?;
                    rows += 1;
                }
            }
        }
        csv.flush()?;
        Ok(rows)
    })
}
