//! Books that have lost messages are rebuilt, as soon as there is time for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::{Burst, Facts, FeedCounters, Flow, Source, SourceError};
use crate::message::SymbolId;

/// A set of symbols: any thread may add and remove.
#[derive(Debug)]
pub struct SymbolSet {
    members: Box<[AtomicBool]>,
    count: AtomicU64,
}

impl SymbolSet {
    /// An empty set of symbols with ids below `capacity`; others are left out.
    pub fn new(capacity: usize) -> Self {
        Self { members: (0..capacity).map(|_| AtomicBool::new(false)).collect(), count: AtomicU64::new(0) }
    }

    /// Adds a symbol.
    pub fn insert(&self, symbol: SymbolId) {
        self.set(symbol, true);
    }

    /// Takes a symbol out.
    pub fn remove(&self, symbol: SymbolId) {
        self.set(symbol, false);
    }

    fn set(&self, symbol: SymbolId, is_member: bool) {
        // Relaxed: a member is one byte that stands for itself, and the count a hint.
        if let Some(member) = self.members.get(symbol.index())
            && member.swap(is_member, Ordering::Relaxed) != is_member
        {
            let step = if is_member { 1 } else { u64::MAX };
            self.count.fetch_add(step, Ordering::Relaxed);
        }
    }

    /// Whether a symbol is in it.
    pub fn contains(&self, symbol: SymbolId) -> bool {
        self.members.get(symbol.index()).is_some_and(|member| member.load(Ordering::Relaxed))
    }

    /// How many there are.
    pub fn len(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Those that are in it now, ascending.
    pub fn iter(&self) -> impl Iterator<Item = SymbolId> {
        let ids = (0..self.members.len() as u32).map(SymbolId::new);
        ids.filter(|id| self.contains(*id))
    }
}

/// A feed that now and then adds a [picture](Source::snapshot) of the books that are stale, so that they become right again after
/// messages were shed.
///
/// Who keeps books adds a symbol to the set when its book becomes stale, and takes it out when it is right again. A picture
/// costs the feed a walk through all its orders, so there is one at most for each interval, for all stale symbols together, and
/// only while `calm` says so, which is best said at NORMAL alone: else the picture would be shed, too.
pub struct Rebuild<S, C> {
    source: S,
    stale: Arc<SymbolSet>,
    calm: C,
    interval: Duration,
    /// When to look again.
    next: Instant,
}

impl<S: Source, C: FnMut() -> bool + Send> Rebuild<S, C> {
    /// Rebuilds the books of the symbols in `stale`, one picture for each interval at most.
    pub fn new(source: S, stale: Arc<SymbolSet>, interval: Duration, calm: C) -> Self {
        Self { source, stale, calm, interval, next: Instant::now() + interval }
    }
}

impl<S: Source, C: FnMut() -> bool + Send> Source for Rebuild<S, C> {
    fn next_burst(&mut self, burst: &mut Burst) -> Result<Flow, SourceError> {
        if !self.stale.is_empty() && Instant::now() >= self.next {
            if (self.calm)() && self.source.snapshot(&self.stale, burst) {
                self.next = Instant::now() + self.interval;
                return Ok(Flow::More);
            }
            // What stands in the way may soon be over.
            self.next = Instant::now() + self.interval / 10;
        }
        self.source.next_burst(burst)
    }

    fn facts(&self) -> Facts {
        self.source.facts()
    }

    fn counters(&self) -> &Arc<FeedCounters> {
        self.source.counters()
    }

    fn snapshot(&mut self, symbols: &SymbolSet, burst: &mut Burst) -> bool {
        self.source.snapshot(symbols, burst)
    }
}

/// A boxed source is a source.
impl Source for Box<dyn Source> {
    fn next_burst(&mut self, burst: &mut Burst) -> Result<Flow, SourceError> {
        (**self).next_burst(burst)
    }

    fn facts(&self) -> Facts {
        (**self).facts()
    }

    fn counters(&self) -> &Arc<FeedCounters> {
        (**self).counters()
    }

    fn snapshot(&mut self, symbols: &SymbolSet, burst: &mut Burst) -> bool {
        (**self).snapshot(symbols, burst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tick::{Tick, flags};

    #[test]
    fn a_set_counts_its_members_once() {
        let set = SymbolSet::new(3);
        for id in [0, 2, 2, 9] {
            set.insert(SymbolId::new(id));
        }
        assert_eq!((set.len(), set.iter().map(SymbolId::get).collect::<Vec<_>>()), (2, vec![0, 2]));
        set.remove(SymbolId::new(2));
        set.remove(SymbolId::new(2));
        assert_eq!((set.len(), set.contains(SymbolId::new(2)), set.contains(SymbolId::new(0))), (1, false, true));
    }

    /// Has a picture of any symbol, if it has one at all.
    struct Feed {
        has_picture: bool,
        counters: Arc<FeedCounters>,
    }

    impl Source for Feed {
        fn next_burst(&mut self, _: &mut Burst) -> Result<Flow, SourceError> {
            Ok(Flow::Idle)
        }
        fn facts(&self) -> Facts {
            Facts { memory_bytes: 1, burst: 1, can_wait: false }
        }
        fn counters(&self) -> &Arc<FeedCounters> {
            &self.counters
        }
        fn snapshot(&mut self, symbols: &SymbolSet, burst: &mut Burst) -> bool {
            for symbol in symbols.iter().filter(|_| self.has_picture) {
                burst.push(Tick { flags: flags::CLEAR, ..Tick::reference(symbol, 0) });
            }
            self.has_picture
        }
    }

    #[test]
    fn stale_books_are_rebuilt_when_it_is_calm_and_there_is_a_picture() {
        for (stale, calm, has_picture) in
            [(true, true, true), (false, true, true), (true, false, true), (true, true, false)]
        {
            let set = Arc::new(SymbolSet::new(10));
            if stale {
                set.insert(SymbolId::new(7));
            }
            let feed = Feed { has_picture, counters: Arc::default() };
            let mut source = Rebuild::new(feed, set, Duration::ZERO, move || calm);
            let mut burst = Burst::new();
            let flow = source.next_burst(&mut burst).unwrap();
            let rebuilt = stale && calm && has_picture;
            assert_eq!(flow, if rebuilt { Flow::More } else { Flow::Idle });
            assert_eq!(
                burst.ticks().iter().map(|t| t.symbol.get()).collect::<Vec<_>>(),
                if rebuilt { vec![7] } else { vec![] }
            );
        }
    }
}
