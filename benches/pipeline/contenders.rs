//! Who takes turns, and with which handler.

use plimsoll::BarsHandler;

use crate::handlers::{Checked, Empty, PerSymbol, Sum};
use crate::harness::on_own_thread;
use crate::load::Load;
use crate::race::Turn;
use crate::{bare_lane, channels, ours, rings, tasks};

/// A way from producers to handlers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contender {
    /// Plimsoll, by `offer`.
    Offer,
    /// Plimsoll, by `offer_wait`.
    OfferWait,
    Lane,
    Rings,
    Channels,
    Tasks,
}

impl Contender {
    pub(crate) const PEERS: [Self; 3] = [Self::Rings, Self::Channels, Self::Tasks];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Offer => "plimsoll",
            Self::OfferWait => "plimsoll, offer_wait",
            Self::Lane => "bare lane",
            Self::Rings => "disruptor + atomic",
            Self::Channels => "crossbeam channel + mutex",
            Self::Tasks => "tokio mpsc + service",
        }
    }

    /// How many times fewer messages it gets, so that the fast ones can have many.
    fn slowness(self) -> u64 {
        if self == Self::Tasks { 4 } else { 1 }
    }

    /// A checked turn; returns nanoseconds a message.
    pub(crate) fn turn(self, handling: Handling, load: &Load) -> f64 {
        on_own_thread(|| match (handling, load.producers) {
            (Handling::Empty, _) => self.checked::<Empty>(load),
            (Handling::Sum, 1) => self.checked::<Sum<1>>(load),
            (Handling::Sum, 2) => self.checked::<Sum<2>>(load),
            (Handling::Sum, _) => unreachable!("no part has so many producers"),
            (Handling::PerSymbol, _) => self.checked::<PerSymbol>(load),
            (Handling::Bars, _) => self.checked::<BarsHandler>(load),
        })
    }

    fn checked<H: Checked>(self, load: &Load) -> f64 {
        let load = &Load { messages: load.messages / self.slowness(), ..*load };
        let run: fn(&Load) -> Turn = match self {
            Self::Offer => ours::offer::<H>,
            Self::OfferWait => ours::offer_wait::<H>,
            Self::Lane => bare_lane::turn::<H>,
            Self::Rings => rings::turn::<H>,
            Self::Channels => channels::turn::<H>,
            Self::Tasks => tasks::turn::<H>,
        };
        run(load).checked::<H>(load)
    }
}

/// Which handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Handling {
    Empty,
    Sum,
    PerSymbol,
    Bars,
}

impl Handling {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Sum => "sum",
            Self::PerSymbol => "sum by symbol",
            Self::Bars => "bars",
        }
    }
}
