//! Symbols of instruments, which a file gives numbers that may change from day to day.

use std::collections::HashMap;
use std::sync::Arc;

use dbn::symbol_map::TsSymbolMap;

use crate::message::SymbolId;
use crate::symbols::{Symbols, SymbolsFull};

const NS_PER_DAY: u64 = 86_400_000_000_000;

/// Finds the symbol of an instrument at a time.
#[derive(Debug)]
pub(super) struct Names {
    symbols: Arc<Symbols>,
    prefix: String,
    by_time: TsSymbolMap,
    /// Instruments that the file names in its stream: by a definition, or by a mapping.
    told: HashMap<u32, String>,
    /// What was found, and for which day.
    found: HashMap<u32, (u64, SymbolId)>,
}

impl Names {
    pub(super) fn new(symbols: Arc<Symbols>, prefix: String, by_time: TsSymbolMap) -> Self {
        Self { symbols, prefix, by_time, told: HashMap::new(), found: HashMap::new() }
    }

    /// The stream names an instrument. What the metadata says goes before.
    pub(super) fn tell(&mut self, instrument: u32, name: &str) {
        let is_new = self.told.get(&instrument).is_none_or(|told| told != name);
        if is_new
            && !name.is_empty()
            && (self.told.len() < self.symbols.capacity() || self.told.contains_key(&instrument))
        {
            self.told.insert(instrument, name.to_owned());
            self.found.remove(&instrument);
        }
    }

    /// The symbol, and whether its name is known; one without a name is called by its number.
    #[inline]
    pub(super) fn symbol(&mut self, instrument: u32, ts: u64) -> Result<(SymbolId, bool), SymbolsFull> {
        let day = ts / NS_PER_DAY;
        match self.found.get(&instrument) {
            Some((found, symbol)) if *found == day => Ok((*symbol, true)),
            _ => self.look_up(instrument, ts, day),
        }
    }

    /// The symbols found so far, ascending.
    pub(super) fn symbols(&self) -> Vec<SymbolId> {
        let mut symbols: Vec<_> = self.found.values().map(|(_, symbol)| *symbol).collect();
        symbols.sort_unstable();
        symbols.dedup();
        symbols
    }

    #[cold]
    fn look_up(&mut self, instrument: u32, ts: u64, day: u64) -> Result<(SymbolId, bool), SymbolsFull> {
        let name = self.by_time.get_for_ts(ts, instrument).or_else(|| self.told.get(&instrument));
        let is_known = name.is_some();
        let name =
            name.map_or_else(|| format!("{}#{instrument}", self.prefix), |name| format!("{}{name}", self.prefix));
        let symbol = self.symbols.intern(&name)?;
        self.found.insert(instrument, (day, symbol));
        Ok((symbol, is_known))
    }
}
