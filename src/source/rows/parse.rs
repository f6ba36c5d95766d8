//! Rows become ticks.

use super::fields::{Fields, Role, Trouble};
use super::time::{TimeFormat, TimeParser};
use crate::message::SymbolId;
use crate::price::Price;
use crate::tick::{Side, Tick, TickKind};

/// Makes a tick of each row.
#[derive(Clone, Debug)]
pub(in crate::source) struct Parser {
    time: TimeParser,
    /// What all rows are, if they do not say it themselves.
    kind: Option<TickKind>,
    /// Whether a price may be below 0.
    below_zero: bool,
}

impl Parser {
    pub(in crate::source) fn new(time: TimeFormat, kind: Option<TickKind>, below_zero: bool) -> Self {
        Self { time: TimeParser::new(time), kind, below_zero }
    }

    /// The tick of a row; its sequence is left open.
    pub(in crate::source) fn parse(&mut self, symbol: SymbolId, fields: &Fields<'_>) -> Result<Tick, Trouble> {
        let event_ns = self.time.parse(fields, Role::Ts)?;
        let receive_ns = match fields.get(Role::ReceiveTs) {
            Some(_) => self.time.parse(fields, Role::ReceiveTs)?,
            None => 0,
        };
        let tick = match self.kind(fields)? {
            TickKind::Quote => {
                let side = |price, size| match fields.get(price) {
                    Some(_) => Ok((self.price(fields, price)?, whole(fields, size)?)),
                    None => Ok((Price::ZERO, 0)),
                };
                Tick::quote(symbol, event_ns, side(Role::Bid, Role::BidSize)?, side(Role::Ask, Role::AskSize)?)
            }
            _ => {
                let (price, size) = (self.price(fields, Role::Price)?, whole(fields, Role::Size)?);
                let ask_size = fields.get(Role::TradeId).map_or(Ok(0), |_| whole(fields, Role::TradeId))?;
                Tick { ask_size, side: side(fields)?, ..Tick::trade(symbol, event_ns, price, size) }
            }
        };
        Ok(Tick { receive_ns, ..tick })
    }

    /// What the row says that it is; else what all are; else a trade, if it has a price, or a quote.
    fn kind(&self, fields: &Fields<'_>) -> Result<TickKind, Trouble> {
        let Some(text) = fields.get(Role::Kind) else {
            let by_price = if fields.get(Role::Price).is_some() { TickKind::Trade } else { TickKind::Quote };
            let kind = self.kind.unwrap_or(by_price);
            let is_empty =
                kind == TickKind::Quote && [Role::Bid, Role::Ask].iter().all(|role| fields.get(*role).is_none());
            if self.kind.is_none() && is_empty {
                return Err(Trouble::new(Role::Price, "it is missing, and so are bid and ask"));
            }
            return Ok(kind);
        };
        let is = |name: &str| text.eq_ignore_ascii_case(name) || text.eq_ignore_ascii_case(&name[..1]);
        match (is("trade"), is("quote")) {
            (true, _) => Ok(TickKind::Trade),
            (_, true) => Ok(TickKind::Quote),
            _ => Err(Trouble::new(Role::Kind, "neither trade nor quote")),
        }
    }

    fn price(&self, fields: &Fields<'_>, role: Role) -> Result<Price, Trouble> {
        let price = fields.need(role)?.parse::<Price>();
        let price = price.map_err(|error| Trouble::new(role, format!("not a price: {error}")))?;
        if price < Price::ZERO && !self.below_zero {
            return Err(Trouble::new(role, "a price is not negative"));
        }
        Ok(price)
    }
}

fn whole(fields: &Fields<'_>, role: Role) -> Result<u64, Trouble> {
    let text = fields.need(role)?;
    // Not `str::parse` alone: that takes a plus sign, too.
    let number = text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
    number.ok_or_else(|| Trouble::new(role, "not a whole number of 0 or more"))
}

fn side(fields: &Fields<'_>) -> Result<Side, Trouble> {
    let Some(text) = fields.get(Role::Side) else { return Ok(Side::Unknown) };
    let is = |name: &str| text.eq_ignore_ascii_case(name) || text.eq_ignore_ascii_case(&name[..1]);
    match (is("buy"), is("sell")) {
        (true, _) => Ok(Side::Buy),
        (_, true) => Ok(Side::Sell),
        _ => Err(Trouble::new(Role::Side, "neither buy nor sell")),
    }
}
