//! The order table: what a feed that tells of single orders has to remember of each.

use std::hash::{BuildHasher, Hash, Hasher};

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use super::{FeedCount, FeedCounters};
use crate::message::SymbolId;
use crate::price::Price;
use crate::tick::{Side, Tick, flags};

/// A displayed order: 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) price: Price,
    /// What is left of it.
    pub(super) size: u32,
    /// Symbol, and in the lowest bit whether it sells.
    symbol_and_side: u32,
}

impl Order {
    /// `side`: anything but [`Side::Sell`] buys. Symbol ids are below 2³¹.
    pub(super) fn new(symbol: SymbolId, side: Side, price: Price, size: u32) -> Self {
        Self { price, size, symbol_and_side: symbol.get() << 1 | u32::from(side == Side::Sell) }
    }

    pub(super) fn symbol(&self) -> SymbolId {
        SymbolId::new(self.symbol_and_side >> 1)
    }

    pub(super) fn side(&self) -> Side {
        if self.symbol_and_side & 1 == 0 { Side::Buy } else { Side::Sell }
    }
}

/// What became of an order that was to be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Put {
    Added,
    /// There was one of the same key.
    Replaced(Order),
    /// The table is full.
    Full,
}

/// Orders by the venue's reference: at most so many, in memory that is reserved at once.
#[derive(Debug)]
pub(super) struct OrderTable<K> {
    orders: HashMap<K, Order, Nearby>,
    max: usize,
    /// Messages about orders, or symbols, that are not known.
    pub(super) unresolved: u64,
    /// Orders that found the table full.
    untracked: u64,
    /// Messages are missing, or orders found no place: what is in the table may be wrong.
    is_wrong: bool,
}

impl<K: Copy + Eq + Hash> OrderTable<K> {
    pub(super) fn new(max: usize) -> Self {
        let orders = HashMap::with_capacity_and_hasher(max, Nearby);
        Self { orders, max, unresolved: 0, untracked: 0, is_wrong: false }
    }

    /// The bytes that it takes at most; they become real memory as they are used.
    pub(super) fn memory_bytes(&self) -> u64 {
        // hashbrown fills 7 of 8 buckets at most, and has a power of two of them, each with a control byte.
        let buckets = (self.max as u64).saturating_mul(8).div_ceil(7).next_power_of_two();
        buckets * (size_of::<(K, Order)>() as u64 + 1)
    }

    /// Adds an order, in place of one of the same key.
    #[inline]
    pub(super) fn put(&mut self, key: K, order: Order) -> Put {
        let is_full = self.orders.len() >= self.max;
        match self.orders.entry(key) {
            Entry::Occupied(mut entry) => Put::Replaced(entry.insert(order)),
            Entry::Vacant(_) if is_full => Put::Full,
            Entry::Vacant(entry) => {
                entry.insert(order);
                Put::Added
            }
        }
    }

    /// The same, counted; the flags of the order's tick.
    #[inline]
    pub(super) fn track(&mut self, key: K, order: Order) -> u16 {
        match self.put(key, order) {
            Put::Added => 0,
            Put::Replaced(_) => {
                self.unresolved += 1;
                flags::INCOMPLETE
            }
            Put::Full => {
                self.untracked += 1;
                self.is_wrong = true;
                flags::INCOMPLETE
            }
        }
    }

    /// The stream has a hole: what is in the table may be wrong from now on.
    pub(super) fn note_gap(&mut self) {
        self.is_wrong = true;
    }

    /// Whether it cannot be told to be right.
    pub(super) fn is_wrong(&self) -> bool {
        self.is_wrong
    }

    pub(super) fn count(&self, counters: &FeedCounters) {
        counters.set(FeedCount::Orders, self.orders.len() as u64);
        counters.set(FeedCount::Unresolved, self.unresolved);
        counters.set(FeedCount::Untracked, self.untracked);
    }

    /// Takes `size` off an order, which goes when nothing is left. The order as it was, and whether it is gone.
    #[inline]
    pub(super) fn reduce(&mut self, key: K, size: u32) -> Option<(Order, bool)> {
        let Entry::Occupied(mut entry) = self.orders.entry(key) else { return None };
        let order = *entry.get();
        let gone = order.size <= size;
        if gone {
            entry.remove();
        } else {
            entry.get_mut().size -= size;
        }
        Some((order, gone))
    }

    /// Takes an order out.
    #[inline]
    pub(super) fn remove(&mut self, key: K) -> Option<Order> {
        self.orders.remove(&key)
    }

    pub(super) fn len(&self) -> usize {
        self.orders.len()
    }

    /// Empties it, whereupon it is right again.
    pub(super) fn clear(&mut self) {
        self.orders.clear();
        self.is_wrong = false;
    }

    /// Removes those for which `remove` says so.
    pub(super) fn remove_if(&mut self, mut remove: impl FnMut(&K, &Order) -> bool) {
        self.orders.retain(|key, order| !remove(key, order));
    }

    /// Shows the books of these symbols, which are ascending, as a [picture](crate::flags::SNAPSHOT): each is cleared, then come all orders, and then
    /// each is complete. Event time and sequence are left open.
    pub(super) fn picture(&self, symbols: &[SymbolId], mut push: impl FnMut(Tick)) {
        if symbols.is_empty() {
            // A walk through the table is not for nothing.
            return;
        }
        let nothing = (Price::ZERO, 0);
        let mark =
            |symbol: &SymbolId, flags| Tick { flags, ..Tick::order(*symbol, 0, Side::Unknown, nothing, nothing) };
        symbols.iter().for_each(|symbol| push(mark(symbol, flags::CLEAR | flags::SNAPSHOT)));
        for order in self.orders.values().filter(|order| symbols.binary_search(&order.symbol()).is_ok()) {
            let tick = Tick::order(order.symbol(), 0, order.side(), (order.price, order.size.into()), nothing);
            push(Tick { flags: flags::SNAPSHOT, ..tick });
        }
        symbols.iter().for_each(|symbol| push(mark(symbol, flags::SNAPSHOT | flags::SNAPSHOT_END)));
    }
}

/// Hashes so that references near each other have places near each other: venues count them up, and most orders do not
/// live long, so that the part of the table in use stays small and in the cache. Runs of 1024 are scattered, so that no regular
/// gaps between references make one place crowded.
#[derive(Clone, Copy, Debug, Default)]
struct Nearby;

#[derive(Default)]
struct NearbyHasher(u64);

const RUN: u32 = 10;

impl BuildHasher for Nearby {
    type Hasher = NearbyHasher;

    fn build_hasher(&self) -> NearbyHasher {
        NearbyHasher(0)
    }
}

impl Hasher for NearbyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u32(&mut self, n: u32) {
        self.write_u64(n.into());
    }

    #[inline]
    fn write_u64(&mut self, n: u64) {
        const ODD: u64 = 0x9E37_79B9_7F4A_7C15; // 2⁶⁴ ÷ golden ratio
        let n = n ^ self.0.wrapping_mul(ODD) >> 16;
        let run = (n >> RUN).wrapping_mul(ODD);
        // Within its run each reference keeps its neighbours; which of the run's places is the first, the run decides.
        let within = (n ^ run >> (64 - RUN)) & ((1 << RUN) - 1);
        // The table takes the place from the low bits, and the tag that it compares first from the top seven.
        let tag = n.wrapping_mul(ODD) >> 57 << 57;
        self.0 = ((run ^ run >> 32) << RUN | within) & (u64::MAX >> 7) | tag;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap as Model;

    fn order(size: u32) -> Order {
        Order::new(SymbolId::new(7), Side::Sell, Price::from_billionths(5), size)
    }

    /// Puts an order in; whether there was room.
    fn put(table: &mut OrderTable<u64>, key: u64, size: u32) -> bool {
        table.put(key, order(size)) != Put::Full
    }

    #[test]
    fn an_order_is_16_bytes_and_tells_its_symbol_and_side() {
        assert_eq!(size_of::<(u64, Order)>(), 24);
        assert_eq!((order(1).symbol().get(), order(1).side()), (7, Side::Sell));
        let buy = Order::new(SymbolId::new(3), Side::Buy, Price::ZERO, 1);
        assert_eq!((buy.symbol().get(), buy.side()), (3, Side::Buy));
    }

    #[test]
    fn a_full_table_takes_no_more_and_neither_grows_nor_moves() {
        let mut table = OrderTable::new(1000);
        let room = table.orders.capacity();
        assert!((0..1000u64).all(|key| put(&mut table, key, 1)));
        assert!(!put(&mut table, 1000, 1) && put(&mut table, 999, 2));
        assert_eq!((table.len(), table.orders.capacity()), (1000, room));
        assert!(table.memory_bytes() >= table.orders.allocation_size() as u64 - 64);
    }

    /// References in steps of any power of two, and of instruments with the same references, must not crowd.
    #[test]
    fn regular_references_do_not_crowd() {
        for shift in 0..40 {
            let places = |hash: u64| hash & 0xFFFF;
            let hashes = (0..4096u64).map(|n| places(Nearby.hash_one(n << shift)));
            let distinct = hashes.collect::<std::collections::HashSet<_>>().len();
            assert!(distinct > 2000, "steps of 2^{shift}: {distinct}");
            let pairs = (0..4096u32).map(|n| places(Nearby.hash_one((n, 1u64 << shift))));
            let distinct = pairs.collect::<std::collections::HashSet<_>>().len();
            assert!(distinct > 2000, "instruments at 2^{shift}: {distinct}");
        }
    }

    proptest! {
        #[test]
        fn it_is_a_map_of_what_is_left(steps in proptest::collection::vec((0u8..3, 0u64..20, 1u32..5), 1..200)) {
            let mut table = OrderTable::new(12);
            let mut model: Model<u64, u32> = Model::new();
            for (what, key, size) in steps {
                match what {
                    0 => {
                        let fits = model.len() < 12 || model.contains_key(&key);
                        prop_assert_eq!(put(&mut table, key, size), fits);
                        if fits {
                            model.insert(key, size);
                        }
                    }
                    1 => {
                        let was = model.get(&key).copied();
                        let gone = was.is_some_and(|was| was <= size);
                        prop_assert_eq!(table.reduce(key, size), was.map(|was| (order(was), gone)));
                        if gone {
                            model.remove(&key);
                        } else if let Some(left) = model.get_mut(&key) {
                            *left -= size;
                        }
                    }
                    _ => prop_assert_eq!(table.remove(key).map(|o| o.size), model.remove(&key)),
                }
                prop_assert_eq!(table.len(), model.len());
            }
        }
    }
}
