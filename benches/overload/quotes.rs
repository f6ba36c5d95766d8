//! Quotes under overload: how old the newest quote that the handler knows of each symbol is, by the default verdicts and conflated.
//!
//! Every symbol's quote changes all the time, a hundred times as often in all as the handler manages. At the storm's end, and with each quote that is handed
//! over, it is asked how long ago the last one that the handler had of that symbol came off the feed.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use plimsoll::spill::SpillConfig;
use plimsoll::{
    Context, Handler, MemoryUse, Offer, Pinning, PipelineBuilder, Price, SymbolId, SymbolTiers, Symbols, Tick,
    VerdictTable, WaitStrategy,
};

use crate::ours::{LANE, SAMPLE_INTERVAL, thresholds};
use crate::work::{COST, histogram};

const TIMES: f64 = 100.0;
/// Symbols of tier 3, beside the sixty of the default tiers.
const UNLISTED: usize = 440;

/// The newest quote that the handler had of each symbol, by when it was sent.
struct Known {
    start: Instant,
    storm_end: Duration,
    /// By symbol, in nanoseconds since the start.
    sent: Vec<u64>,
    staleness: Histogram<u64>,
    /// At the storm's end, by symbol.
    told: Arc<Mutex<Option<Outcome>>>,
}

#[derive(Clone, Default)]
struct Outcome {
    p50: Duration,
    p99: Duration,
    highest: Duration,
    /// Of all symbols, when the storm ended.
    oldest_at_end: Duration,
}

impl Handler<Tick> for Known {
    fn process(&mut self, tick: &Tick, context: &Context) {
        let begin = Instant::now();
        while begin.elapsed() < COST {
            std::hint::spin_loop();
        }
        let now = self.start.elapsed();
        let known = &mut self.sent[tick.symbol.index()];
        if now < self.storm_end {
            self.staleness.saturating_record((now.as_nanos() as u64).saturating_sub(*known));
        } else if let told @ None = &mut *self.told.lock().unwrap() {
            let at = |q| Duration::from_nanos(self.staleness.value_at_quantile(q));
            let oldest = self.sent.iter().copied().min().unwrap_or_default();
            let oldest_at_end = self.storm_end.saturating_sub(Duration::from_nanos(oldest));
            *told = Some(Outcome { p50: at(0.5), p99: at(0.99), highest: at(1.0), oldest_at_end });
        }
        // One that comes out of the spill log may be older than what is known.
        let known = &mut self.sent[tick.symbol.index()];
        if !context.replayed() {
            *known = (*known).max(tick.event_ns);
        }
    }
}

fn run(verdicts: VerdictTable, capacity: f64, storm: Duration) -> (Outcome, plimsoll::Ledger) {
    let dir = tempfile::tempdir().unwrap();
    let spill = SpillConfig { segment_bytes: 8 << 20, free_space_floor_bytes: 0, ..SpillConfig::new(dir.path()) };
    let symbols = Arc::new(Symbols::default());
    let tiers = SymbolTiers::default();
    let unlisted = (0..UNLISTED).map(|i| format!("X{i:03}"));
    let names = tiers.tier_1().into_iter().chain(tiers.tier_2()).chain(unlisted);
    let ids: Vec<SymbolId> = names.map(|name| symbols.intern(&name).unwrap()).collect();
    let start = Instant::now();
    let told = Arc::new(Mutex::new(None));
    let of = Arc::clone(&told);
    let count = ids.len();
    let mut pipeline = PipelineBuilder::new()
        .symbols(Arc::clone(&symbols))
        .lane_capacity(LANE)
        .prefault(true)
        .thresholds(thresholds())
        .verdicts(verdicts)
        .sample_interval(SAMPLE_INTERVAL)
        .memory_source(|| MemoryUse { used_bytes: 0, limit_bytes: 1 })
        .wait_strategy(WaitStrategy::BusySpin)
        .pinning(Pinning::Cores(vec![1]))
        .spill(spill)
        .start(move |_| Known {
            start,
            storm_end: storm,
            sent: vec![0; count],
            staleness: histogram(),
            told: Arc::clone(&of),
        })
        .unwrap();
    let mut feed = pipeline.ingress().unwrap();
    let rate = capacity * TIMES;
    let mut sent = 0;
    while start.elapsed() < storm {
        let due = (start.elapsed().as_secs_f64() * rate) as usize;
        while sent < due {
            let now = start.elapsed().as_nanos() as u64;
            for _ in 0..(due - sent).min(256) {
                let (bid, ask) = (Price::from_billionths(sent as i64 + 1), Price::from_billionths(sent as i64 + 2));
                // In no order that a chunk could fall in step with.
                let symbol = ids[sent.wrapping_mul(0x9E37_79B1) % count];
                let (Offer::Accepted | Offer::Refused | Offer::Full) =
                    feed.offer(Tick::quote(symbol, now, (bid, 1), (ask, 1)));
                sent += 1;
            }
            feed.flush();
        }
    }
    // One more, so that there is a look at how things are.
    std::thread::sleep(SAMPLE_INTERVAL);
    let _ = feed
        .offer_wait(Tick::quote(ids[0], start.elapsed().as_nanos() as u64, (Price::ZERO, 0), (Price::ZERO, 0)), || {
            false
        });
    drop(feed);
    let finished = pipeline.join().unwrap();
    finished.ledger.check().unwrap();
    let outcome = told.lock().unwrap().clone().unwrap_or_default();
    (outcome, finished.ledger)
}

/// Both in turn, so many rounds; the one with the median age at the storm's end is shown.
pub(crate) fn compare(capacity: f64, rounds: usize, quick: bool) {
    let storm = Duration::from_secs_f64(if quick { 0.3 } else { 2.0 });
    println!(
        "\nquotes alone, {} symbols, {:.0} messages/s for {storm:?}: how old is what the handler knows of a symbol?",
        60 + UNLISTED,
        capacity * TIMES
    );
    println!(
        "{:<22}{:>12}{:>12}{:>12}{:>16}  {:>11}{:>12}{:>11}{:>11}{:>11}",
        "",
        "p50, ms",
        "p99, ms",
        "highest, ms",
        "oldest at end",
        "processed",
        "conflated",
        "spilled",
        "shed",
        "refused"
    );
    let contenders = [("Plimsoll, default", VerdictTable::default()), ("Plimsoll, conflate", VerdictTable::conflate())];
    let mut runs = [Vec::new(), Vec::new()];
    for _ in 0..rounds {
        for ((_, verdicts), runs) in contenders.iter().zip(&mut runs) {
            runs.push(crate::harness::on_own_thread(|| {
                crate::harness::pin(0);
                run(*verdicts, capacity, storm)
            }));
        }
    }
    for ((name, _), mut runs) in contenders.into_iter().zip(runs) {
        runs.sort_by_key(|(outcome, _)| outcome.oldest_at_end);
        let (outcome, ledger) = &runs[runs.len() / 2];
        let ms = |time: Duration| format!("{:.1}", time.as_secs_f64() * 1e3);
        println!(
            "{name:<22}{:>12}{:>12}{:>12}{:>16}  {:>11}{:>12}{:>11}{:>11}{:>11}",
            ms(outcome.p50),
            ms(outcome.p99),
            ms(outcome.highest),
            ms(outcome.oldest_at_end),
            ledger.processed_live,
            ledger.conflated,
            ledger.spilled,
            ledger.shed,
            ledger.refused
        );
    }
}
