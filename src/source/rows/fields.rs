//! What the columns of a row mean.

use std::fmt;

/// What a column tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(usize)]
pub enum Role {
    /// The symbol's name.
    Symbol,
    /// The date, where it has a column of its own.
    Date,
    /// When it happened.
    Ts,
    /// When it was received.
    ReceiveTs,
    /// `trade` or `quote`, or their first letters.
    Kind,
    /// A trade's price.
    Price,
    /// A trade's size.
    Size,
    /// A trade's aggressor: `buy` or `sell`, or their first letters.
    Side,
    /// A trade's id: a whole number.
    TradeId,
    /// Best bid.
    Bid,
    /// Size at the best bid.
    BidSize,
    /// Best offer.
    Ask,
    /// Size at the best offer.
    AskSize,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::Symbol,
        Self::Date,
        Self::Ts,
        Self::ReceiveTs,
        Self::Kind,
        Self::Price,
        Self::Size,
        Self::Side,
        Self::TradeId,
        Self::Bid,
        Self::BidSize,
        Self::Ask,
        Self::AskSize,
    ];

    /// Its name, which is also its column's, unless another is given.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Symbol => "symbol",
            Self::Date => "date",
            Self::Ts => "ts",
            Self::ReceiveTs => "receive_ts",
            Self::Kind => "kind",
            Self::Price => "price",
            Self::Size => "size",
            Self::Side => "side",
            Self::TradeId => "trade_id",
            Self::Bid => "bid",
            Self::BidSize => "bid_size",
            Self::Ask => "ask",
            Self::AskSize => "ask_size",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The texts of a row by what they mean; one that is empty is not there.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::source) struct Fields<'a>([&'a str; Role::ALL.len()]);

impl<'a> Fields<'a> {
    pub(in crate::source) fn set(&mut self, role: Role, text: &'a str) {
        self.0[role as usize] = text;
    }

    /// The same, of a symbol that is told elsewhere, if it is.
    pub(super) fn of(mut self, symbol: Option<&'a str>) -> Self {
        if let Some(symbol) = symbol {
            self.set(Role::Symbol, symbol);
        }
        self
    }

    pub(super) fn get(&self, role: Role) -> Option<&'a str> {
        Some(self.0[role as usize]).filter(|text| !text.is_empty())
    }

    /// A text that has to be there.
    pub(super) fn need(&self, role: Role) -> Result<&'a str, Trouble> {
        self.get(role).ok_or_else(|| Trouble::new(role, "it is missing"))
    }
}

/// What is wrong with a row: with which of its fields, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::source) struct Trouble {
    pub(in crate::source) role: Role,
    pub(in crate::source) reason: String,
}

impl Trouble {
    pub(in crate::source) fn new(role: Role, reason: impl Into<String>) -> Self {
        Self { role, reason: reason.into() }
    }
}
