//! One security: its orders, and what is true of it.

use super::Best;

/// Orders of a security that are live at the same time, at most.
pub(super) const ORDERS_MAX: usize = 64;

/// A displayed order. Prices are whole cents.
#[derive(Clone, Copy, Debug)]
pub(super) struct Live {
    pub(super) reference: u64,
    pub(super) buys: bool,
    pub(super) cents: u32,
    pub(super) shares: u32,
}

#[derive(Debug)]
pub(super) struct Stock {
    pub(super) locate: u16,
    /// Padded with blanks.
    pub(super) name: [u8; 8],
    /// Where the next orders gather.
    pub(super) mid: u32,
    /// The newest last.
    pub(super) orders: Vec<Live>,
    /// Id of its last trade.
    pub(super) last_trade: Option<u64>,
    /// Of printable trades.
    pub(super) volume: u64,
    pub(super) trades: u64,
    /// Σ cents × shares.
    pub(super) turnover: u128,
}

impl Stock {
    pub(super) fn new(locate: u16, name: &str, mid: u32) -> Self {
        let mut padded = [b' '; 8];
        padded[..name.len()].copy_from_slice(name.as_bytes());
        let orders = Vec::with_capacity(ORDERS_MAX);
        Self { locate, name: padded, mid, orders, last_trade: None, volume: 0, trades: 0, turnover: 0 }
    }

    /// Best price of a side, in cents, and the shares there.
    pub(super) fn best(&self, buys: bool) -> Option<(u32, u64)> {
        let side = || self.orders.iter().filter(|order| order.buys == buys);
        let price = |order: &Live| order.cents;
        let best = if buys { side().map(price).max() } else { side().map(price).min() }?;
        Some((best, side().filter(|order| order.cents == best).map(|order| u64::from(order.shares)).sum()))
    }

    /// A price for a new order, so many cents from the middle, that crosses no order of the other side.
    pub(super) fn passive(&self, buys: bool, distance: u32) -> u32 {
        let other = self.best(!buys).map(|(cents, _)| cents);
        if buys {
            let price = self.mid.saturating_sub(1 + distance);
            price.min(other.map_or(u32::MAX, |ask| ask - 1)).max(1)
        } else {
            (self.mid + 1 + distance).max(other.map_or(0, |bid| bid + 1))
        }
    }

    /// The order at the front of a side, by its place.
    pub(super) fn front(&self, buys: bool) -> Option<usize> {
        let (best, _) = self.best(buys)?;
        self.orders.iter().position(|order| order.buys == buys && order.cents == best)
    }

    /// Takes shares off an order.
    pub(super) fn reduce(&mut self, at: usize, shares: u32) {
        self.orders[at].shares -= shares;
        if self.orders[at].shares == 0 {
            self.orders.remove(at);
        }
    }

    /// A trade that counts.
    pub(super) fn print(&mut self, cents: u32, shares: u64) {
        self.volume += shares;
        self.trades += 1;
        self.turnover += u128::from(cents) * u128::from(shares);
    }

    pub(super) fn truth(&self) -> super::Truth {
        let price = |(cents, shares)| Best { cents, shares };
        super::Truth {
            symbol: String::from_utf8_lossy(&self.name).trim_end().to_owned(),
            bid: self.best(true).map(price),
            ask: self.best(false).map(price),
            volume: self.volume,
            trades: self.trades,
            turnover_cents: self.turnover,
            orders: self.orders.len(),
        }
    }
}
