//! Price levels of one side of a book.

use crate::price::Price;
use crate::tick::Side;

/// A price, and what is offered there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// The price.
    pub price: Price,
    /// Sum of the sizes of its orders; above 0.
    pub size: u64,
    /// Number of orders; 0 where the feed does not tell of orders.
    pub orders: u32,
}

/// The levels of one side, the best one last, since nearly all that changes is near the best: little has to move.
#[derive(Clone, Debug, Default)]
pub(super) struct Levels(Vec<Level>);

/// That many of the best levels are looked through one by one.
const NEAR: usize = 8;
/// Levels of a side at most: far more than a book has, unless what ends orders does not come.
const LEVELS_MAX: usize = 1 << 16;

impl Levels {
    pub(super) fn best(&self) -> Option<&Level> {
        self.0.last()
    }

    /// From the best to the worst.
    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = &Level> {
        self.0.iter().rev()
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Puts one level in place of all.
    pub(super) fn set(&mut self, price: Price, size: u64) {
        self.0.clear();
        if size > 0 {
            self.0.push(Level { price, size, orders: 0 });
        }
    }

    /// Adds an order; `false` if the worst level had to go to make room.
    pub(super) fn gain(&mut self, side: Side, price: Price, size: u64) -> bool {
        match self.find(side, price) {
            Ok(at) => {
                let level = &mut self.0[at];
                level.size = level.size.saturating_add(size);
                level.orders = level.orders.saturating_add(1);
            }
            Err(at) if self.0.len() < LEVELS_MAX => self.0.insert(at, Level { price, size, orders: 1 }),
            Err(0) => return false,
            Err(at) => {
                self.0.remove(0);
                self.0.insert(at - 1, Level { price, size, orders: 1 });
                return false;
            }
        }
        true
    }

    /// Takes from an order, which may be gone with it; `false` if the level does not have that much.
    pub(super) fn lose(&mut self, side: Side, price: Price, size: u64, is_gone: bool) -> bool {
        let Ok(at) = self.find(side, price) else { return false };
        let level = &mut self.0[at];
        let fits = level.size >= size && level.orders >= u32::from(is_gone);
        level.size = level.size.saturating_sub(size);
        level.orders = level.orders.saturating_sub(u32::from(is_gone));
        // What is left without an order, or an order without anything left, would mean that the two do not agree.
        let agrees = (level.size == 0) == (level.orders == 0);
        if level.size == 0 || level.orders == 0 {
            self.0.remove(at);
        }
        fits && agrees
    }

    /// Where a price is, or where it would have to be.
    #[inline]
    fn find(&self, side: Side, price: Price) -> Result<usize, usize> {
        // Ascending is towards the best: up for bids, down for asks.
        let key = |price: Price| if side == Side::Buy { price.billionths() } else { !price.billionths() };
        let wanted = key(price);
        let near = self.0.len().saturating_sub(NEAR);
        for (at, level) in self.0.iter().enumerate().skip(near).rev() {
            let found = key(level.price);
            if found <= wanted {
                return if found == wanted { Ok(at) } else { Err(at + 1) };
            }
        }
        self.0[..near].binary_search_by_key(&wanted, |level| key(level.price))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn price(n: i64) -> Price {
        Price::from_billionths(n)
    }

    proptest! {
        /// Against a map of the orders at each price.
        #[test]
        fn levels_are_the_sums_of_their_orders(
            is_buy: bool,
            steps in proptest::collection::vec((-20i64..20, 1u64..50, any::<prop::sample::Index>(), any::<bool>()), 1..200),
        ) {
            let side = if is_buy { Side::Buy } else { Side::Sell };
            let (mut levels, mut orders) = (Levels::default(), Vec::<(i64, u64)>::new());
            for (at, size, which, adds) in steps {
                if adds || orders.is_empty() {
                    prop_assert!(levels.gain(side, price(at), size));
                    orders.push((at, size));
                } else {
                    let which = which.index(orders.len());
                    let (at, left) = orders[which];
                    let lost = size.min(left);
                    prop_assert!(levels.lose(side, price(at), lost, lost == left));
                    orders[which].1 -= lost;
                    orders.retain(|(_, left)| *left > 0);
                }
                let mut model = BTreeMap::<i64, (u64, u32)>::new();
                for (at, left) in &orders {
                    let level = model.entry(*at).or_default();
                    *level = (level.0 + left, level.1 + 1);
                }
                let mut expected: Vec<_> = model.into_iter().map(|(at, (size, orders))| Level { price: price(at), size, orders }).collect();
                if is_buy {
                    expected.reverse();
                }
                prop_assert_eq!(levels.iter().copied().collect::<Vec<_>>(), expected);
            }
        }
    }

    #[test]
    fn a_side_has_so_many_levels_and_no_more_and_keeps_the_best() {
        let mut levels = Levels::default();
        assert!((0..LEVELS_MAX as i64).all(|n| levels.gain(Side::Buy, price(n), 1)));
        assert!(!levels.gain(Side::Buy, price(-1), 1), "worse than all");
        assert!(!levels.gain(Side::Buy, price(1 << 20), 1), "better than all");
        assert!(levels.gain(Side::Buy, price(1 << 20), 1), "its level is there");
        assert_eq!((levels.iter().len(), levels.iter().last().unwrap().price), (LEVELS_MAX, price(1)));
        assert_eq!(levels.best(), Some(&Level { price: price(1 << 20), size: 2, orders: 2 }));
    }

    #[test]
    fn what_is_not_there_cannot_be_lost() {
        let mut levels = Levels::default();
        assert!(!levels.lose(Side::Buy, price(1), 1, true));
        levels.gain(Side::Buy, price(1), 5);
        assert!(!levels.lose(Side::Buy, price(2), 1, false));
        assert!(!levels.lose(Side::Buy, price(1), 6, true), "more than there is");
        assert_eq!(levels.best(), None);
        levels.gain(Side::Buy, price(1), 5);
        assert!(!levels.lose(Side::Buy, price(1), 4, true), "the only order is gone, and something is left");
        levels.gain(Side::Buy, price(1), 5);
        assert!(!levels.lose(Side::Buy, price(1), 5, false), "nothing is left of an order that is not gone");
    }
}
