//! Symbols: names ↔ ids, tiers, and from both the priority of a message.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, PoisonError, RwLock, Weak};

use arc_swap::ArcSwap;

use crate::message::{DataType, SymbolId};
use crate::spill::Dictionary;

/// How much a message matters. Lower is more valuable; the numbers are the reference's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum MessagePriority {
    /// Symbols of tier 1: processed at every level.
    Critical = 1,
    /// Symbols of tier 2.
    High = 2,
    /// All other symbols, unknown ones too.
    Normal = 3,
    /// Reference data, whatever its symbol.
    Low = 4,
}

impl MessagePriority {
    /// All four, most valuable first.
    pub const ALL: [Self; 4] = [Self::Critical, Self::High, Self::Normal, Self::Low];

    /// The priority of a message, given its symbol's tier and what it carries.
    #[inline]
    pub const fn of(tier: Tier, data_type: DataType) -> Self {
        if matches!(data_type, DataType::ReferenceData) {
            return Self::Low;
        }
        match tier {
            Tier::Tier1 => Self::Critical,
            Tier::Tier2 => Self::High,
            Tier::Tier3 => Self::Normal,
        }
    }

    /// Its place in [`ALL`](Self::ALL), for tables.
    #[inline]
    pub const fn index(self) -> usize {
        self as usize - 1
    }

    /// Upper-case name, as the reference prints it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Critical => "CRITICAL",
            Self::High => "HIGH",
            Self::Normal => "NORMAL",
            Self::Low => "LOW",
        }
    }
}

/// A symbol's liquidity tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Tier {
    /// The most liquid symbols.
    Tier1 = 0,
    /// The next most liquid ones.
    Tier2 = 1,
    /// All others.
    Tier3 = 2,
}

impl Tier {
    /// All three, most liquid first.
    pub const ALL: [Self; 3] = [Self::Tier1, Self::Tier2, Self::Tier3];

    /// Its place in [`ALL`](Self::ALL), for tables.
    #[inline]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The value of the metric label `symbol_tier`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Tier1 => "tier_1",
            Self::Tier2 => "tier_2",
            Self::Tier3 => "tier_3",
        }
    }
}

/// The 20 ASX symbols of the default tier 1.
const DEFAULT_TIER_1: [&str; 20] = [
    "ALL", "AMC", "ANZ", "BHP", "CBA", "COL", "CSL", "FMG", "GMG", "MQG", "NAB", "NCM", "RIO", "STO", "TCL", "TLS",
    "WBC", "WES", "WOW", "WPL",
];

/// The 40 ASX symbols of the default tier 2.
const DEFAULT_TIER_2: [&str; 40] = [
    "AGL", "ALU", "ALX", "APA", "ASX", "AZJ", "BOQ", "BXB", "CHC", "CPU", "DXS", "EVN", "GPT", "HVN", "IAG", "ILU",
    "IPL", "JBH", "JHX", "LLC", "MGR", "MIN", "MPL", "NST", "ORA", "ORG", "ORI", "QAN", "QBE", "REA", "RMD", "S32",
    "SCG", "SDF", "SEK", "SGP", "SHL", "TAH", "VCX", "WHC",
];

/// Which symbols belong to tier 1 and tier 2. Names are case-sensitive; a name in both is tier 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SymbolTiers {
    tier_1: HashSet<String>,
    tier_2: HashSet<String>,
}

impl SymbolTiers {
    /// Tiers of the given names.
    pub fn new<S: Into<String>>(tier_1: impl IntoIterator<Item = S>, tier_2: impl IntoIterator<Item = S>) -> Self {
        Self {
            tier_1: tier_1.into_iter().map(Into::into).collect(),
            tier_2: tier_2.into_iter().map(Into::into).collect(),
        }
    }

    /// The tier of a symbol; names that are in no set are tier 3.
    pub fn tier(&self, symbol: &str) -> Tier {
        if self.tier_1.contains(symbol) {
            Tier::Tier1
        } else if self.tier_2.contains(symbol) {
            Tier::Tier2
        } else {
            Tier::Tier3
        }
    }

    /// The priority of a message of that symbol and type.
    pub fn priority(&self, symbol: &str, data_type: DataType) -> MessagePriority {
        MessagePriority::of(self.tier(symbol), data_type)
    }

    /// The names of tier 1, in order.
    pub fn tier_1(&self) -> Vec<String> {
        sorted(&self.tier_1)
    }

    /// The names of tier 2, in order; those that are in tier 1, too, count as tier 1.
    pub fn tier_2(&self) -> Vec<String> {
        sorted(&self.tier_2)
    }

    /// How many names tier 1 has.
    pub fn tier_1_count(&self) -> usize {
        self.tier_1.len()
    }

    /// How many names tier 2 has.
    pub fn tier_2_count(&self) -> usize {
        self.tier_2.len()
    }
}

fn sorted(names: &HashSet<String>) -> Vec<String> {
    let mut names: Vec<String> = names.iter().cloned().collect();
    names.sort();
    names
}

/// The reference's ASX tiers: 20 symbols and 40 symbols.
impl Default for SymbolTiers {
    fn default() -> Self {
        Self::new(DEFAULT_TIER_1, DEFAULT_TIER_2)
    }
}

/// All symbols of one pipeline: a bounded registry that hands out [`SymbolId`]s.
///
/// Feeds intern names as they meet them, off the hot path; workers read tiers by id, one relaxed
/// atomic load each. The capacity bounds memory: workers and producers keep four bytes per
/// possible symbol. Ids at or beyond it are not an error: they are all treated as one unknown symbol
/// of tier 3, and a hole of one of them is told to whichever of them comes next. Give the registry room for every id
/// that the feed uses.
#[derive(Debug)]
pub struct Symbols {
    tiers: ArcSwap<SymbolTiers>,
    names: RwLock<Names>,
    /// Tier by id; one slot more than the capacity, for all ids beyond it.
    tier_of: Box<[AtomicU8]>,
}

#[derive(Debug, Default)]
struct Names {
    by_id: Vec<Arc<str>>,
    ids: HashMap<Arc<str>, SymbolId>,
    /// Spill logs that want to know of every name.
    dictionaries: Vec<Weak<Dictionary>>,
}

/// The registry holds as many symbols as it was made for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no room for symbol {name:?}: the registry was made for {capacity} symbols; raise its capacity")]
pub struct SymbolsFull {
    /// The name that found no room.
    pub name: String,
    /// How many symbols the registry holds.
    pub capacity: usize,
}

impl Symbols {
    /// Capacity of [`Symbols::default`].
    pub const DEFAULT_CAPACITY: usize = 65_536;

    /// An empty registry with room for `capacity` symbols, which get their tiers from `tiers`.
    pub fn new(tiers: SymbolTiers, capacity: usize) -> Self {
        let tier_of = (0..=capacity).map(|_| AtomicU8::new(Tier::Tier3 as u8)).collect();
        Self { tiers: ArcSwap::from_pointee(tiers), names: RwLock::default(), tier_of }
    }

    /// How many symbols fit.
    pub fn capacity(&self) -> usize {
        self.tier_of.len() - 1
    }

    /// Slots of a table by symbol: one more than the capacity, for all ids beyond it.
    pub(crate) fn slots(&self) -> usize {
        self.tier_of.len()
    }

    /// Bytes of the table of tiers.
    pub(crate) fn table_bytes(&self) -> u64 {
        size_of_val(&*self.tier_of) as u64
    }

    /// The tiers that names are looked up in.
    pub fn tiers(&self) -> Arc<SymbolTiers> {
        self.tiers.load_full()
    }

    /// Other tiers, for names that are known and for those to come. Each symbol's takes effect on messages that a worker looks at from now
    /// on; what waits in the spill log keeps its place before them.
    pub fn set_tiers(&self, tiers: SymbolTiers) {
        // Locked for writing, so that no name gets a tier of the old ones meanwhile.
        let names = self.names.write().unwrap_or_else(PoisonError::into_inner);
        for (id, name) in names.by_id.iter().enumerate() {
            self.set_tier(SymbolId::new(id as u32), tiers.tier(name));
        }
        self.tiers.store(Arc::new(tiers));
    }

    /// How many symbols there are.
    pub fn len(&self) -> usize {
        self.read().by_id.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The id of a name, new or known. Takes a lock: call it when a feed meets a symbol, not per message.
    ///
    /// # Errors
    /// [`SymbolsFull`] when the name is new and the capacity is used up.
    pub fn intern(&self, name: &str) -> Result<SymbolId, SymbolsFull> {
        if let Some(id) = self.id(name) {
            return Ok(id);
        }
        let mut names = self.names.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(&id) = names.ids.get(name) {
            return Ok(id);
        }
        let index = names.by_id.len();
        if index >= self.capacity() {
            return Err(SymbolsFull { name: name.to_owned(), capacity: self.capacity() });
        }
        let id = SymbolId::new(index as u32);
        let name: Arc<str> = name.into();
        names.by_id.push(name.clone());
        names.ids.insert(name.clone(), id);
        names.dictionaries.iter().filter_map(Weak::upgrade).for_each(|dictionary| dictionary.add(id, &name));
        self.set_tier(id, self.tiers.load().tier(&name));
        Ok(id)
    }

    /// The id of a name that is known.
    pub fn id(&self, name: &str) -> Option<SymbolId> {
        self.read().ids.get(name).copied()
    }

    /// The name of an id that [`intern`](Self::intern) gave out.
    pub fn name(&self, id: SymbolId) -> Option<Arc<str>> {
        self.read().by_id.get(id.index()).cloned()
    }

    /// Tells a dictionary of all names, and from now on of each new one before its id is given out.
    pub(crate) fn attach(&self, dictionary: &Arc<Dictionary>) {
        let mut names = self.names.write().unwrap_or_else(PoisonError::into_inner);
        for (id, name) in names.by_id.iter().enumerate() {
            dictionary.add(SymbolId::new(id as u32), name);
        }
        names.dictionaries.retain(|dictionary| dictionary.strong_count() > 0);
        names.dictionaries.push(Arc::downgrade(dictionary));
    }

    /// The names of this id and all after it.
    pub(crate) fn names_from(&self, id: usize) -> Vec<(SymbolId, Arc<str>)> {
        let names = self.read();
        let from = names.by_id.iter().enumerate().skip(id);
        from.map(|(id, name)| (SymbolId::new(id as u32), Arc::clone(name))).collect()
    }

    /// Calls with the number of names, while none is added.
    pub(crate) fn with_names(&self, call: impl FnOnce(usize)) {
        let names = self.read();
        call(names.by_id.len());
    }

    /// Sets the tier of an id directly, for embedders who number symbols themselves.
    ///
    /// Takes effect on messages that a worker looks at from now on. Ids beyond the capacity are left alone.
    pub fn set_tier(&self, id: SymbolId, tier: Tier) {
        if id.index() < self.capacity() {
            // Relaxed: a tier is one byte that stands for itself. A feed that interns a symbol before it
            // offers its first message is ordered before the worker by the lane's hand-off.
            self.tier_of[id.index()].store(tier as u8, Ordering::Relaxed);
        }
    }

    /// The tier of an id.
    #[inline]
    pub fn tier(&self, id: SymbolId) -> Tier {
        match self.tier_of[self.slot(id)].load(Ordering::Relaxed) {
            0 => Tier::Tier1,
            1 => Tier::Tier2,
            _ => Tier::Tier3,
        }
    }

    /// The tiers by id, as a worker's loop wants them.
    #[inline]
    pub fn tier_table(&self) -> TierTable<'_> {
        TierTable(&self.tier_of)
    }

    /// As [`TierTable::slot`].
    #[inline]
    pub fn slot(&self, id: SymbolId) -> usize {
        self.tier_table().slot(id)
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Names> {
        self.names.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Priorities by symbol id, without a detour: a worker looks one up for each message.
#[derive(Clone, Copy)]
pub struct TierTable<'a>(&'a [AtomicU8]);

impl TierTable<'_> {
    /// The table slot of an id: its number, or the last slot for all ids beyond the capacity.
    #[inline]
    pub fn slot(self, id: SymbolId) -> usize {
        // So that the compiler knows the slot to be one: there is always the last.
        assert!(!self.0.is_empty());
        id.index().min(self.0.len() - 1)
    }

    /// [`Tier::index`] of the symbol in a slot.
    #[inline]
    pub fn tier_number(self, slot: usize) -> u8 {
        self.0[slot].load(Ordering::Relaxed)
    }

    /// [`MessagePriority::index`] of a message, given its symbol's slot: a tier's number is the index of its priority.
    #[inline]
    pub fn priority_index(self, slot: usize, data_type: DataType) -> usize {
        let tier = self.tier_number(slot);
        // The mask tells the compiler what `set_tier` guarantees.
        if matches!(data_type, DataType::ReferenceData) { MessagePriority::Low.index() } else { usize::from(tier & 3) }
    }
}

/// Default tiers, room for [`Symbols::DEFAULT_CAPACITY`].
impl Default for Symbols {
    fn default() -> Self {
        Self::new(SymbolTiers::default(), Self::DEFAULT_CAPACITY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_ids_are_one_to_one_and_tiers_follow_the_name() {
        let symbols = Symbols::default();
        let bhp = symbols.intern("BHP").unwrap();
        let qan = symbols.intern("QAN").unwrap();
        let lower = symbols.intern("bhp").unwrap();
        assert_eq!(symbols.intern("BHP").unwrap(), bhp);
        assert_eq!(symbols.len(), 3);
        assert_eq!(symbols.name(qan).as_deref(), Some("QAN"));
        assert_eq!([bhp, qan, lower].map(|id| symbols.tier(id)), [Tier::Tier1, Tier::Tier2, Tier::Tier3]);
    }

    #[test]
    fn other_tiers_are_for_names_that_are_known_and_those_to_come() {
        let symbols = Symbols::new(SymbolTiers::new(["A"], ["B"]), 8);
        let [a, b] = ["A", "B"].map(|name| symbols.intern(name).unwrap());
        symbols.set_tiers(SymbolTiers::new(["B"], ["C"]));
        let c = symbols.intern("C").unwrap();
        assert_eq!([a, b, c].map(|id| symbols.tier(id)), [Tier::Tier3, Tier::Tier1, Tier::Tier2]);
        assert_eq!(symbols.tiers().tier_2(), ["C"]);
    }

    #[test]
    fn the_table_agrees_with_the_definition_for_every_tier_and_type() {
        let symbols = Symbols::new(SymbolTiers::default(), 3);
        for (number, tier) in Tier::ALL.into_iter().enumerate() {
            let id = SymbolId::new(number as u32);
            symbols.set_tier(id, tier);
            for data_type in [DataType::Trades, DataType::Quotes, DataType::ReferenceData, DataType::Other] {
                let table = symbols.tier_table();
                let index = table.priority_index(table.slot(id), data_type);
                assert_eq!(index, MessagePriority::of(tier, data_type).index());
            }
        }
    }

    #[test]
    fn a_full_registry_names_the_symbol_and_keeps_answering() {
        let symbols = Symbols::new(SymbolTiers::default(), 1);
        symbols.intern("BHP").unwrap();
        let error = symbols.intern("RIO").unwrap_err();
        assert_eq!((error.name.as_str(), error.capacity), ("RIO", 1));
        assert!(symbols.intern("BHP").is_ok());
    }

    #[test]
    fn ids_beyond_the_capacity_are_one_unknown_symbol_of_tier_3() {
        let symbols = Symbols::new(SymbolTiers::default(), 2);
        symbols.set_tier(SymbolId::new(2), Tier::Tier1);
        symbols.set_tier(SymbolId::new(u32::MAX), Tier::Tier1);
        assert_eq!(symbols.tier(SymbolId::new(2)), Tier::Tier3);
        assert_eq!(symbols.tier(SymbolId::new(u32::MAX)), Tier::Tier3);
        assert_eq!(symbols.slot(SymbolId::new(u32::MAX)), 2);
    }
}
