//! Conflation: of messages that tell a state, only the newest of each key waits for the handler.
//!
//! A key is a symbol and a [class](crate::Message::conflation_class). The messages wait in a queue, in the order in which their keys began to;
//! a newer one takes the place of the one that waits, and keeps that place. A key that is wanted before its turn, since another message of its symbol is to be
//! handled, is taken out, and leaves a gap that is passed over.

use std::collections::VecDeque;

use crate::message::{CONFLATION_CLASSES, Message};

/// A message that waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held<M> {
    pub(super) message: M,
    /// Messages that it has taken the place of.
    pub(super) conflated: u32,
    /// Messages of its symbol that are missing before it.
    pub(super) missed: u32,
    key: u32,
    /// The lane that its key's first message came off, and that message's number there.
    lane: u32,
    number: u64,
    is_taken: bool,
}

/// Messages that wait, by key.
pub(crate) struct Conflation<M> {
    /// Of each key the number of its place in the queue, and one more; 0: it has none.
    places: Vec<u64>,
    queue: VecDeque<Held<M>>,
    /// The number of the place at the front.
    front: u64,
    /// Places that are not passed over.
    held: usize,
    /// Of each lane: how many keys wait whose first message came off it, and the number of the first of them.
    by_lane: Vec<(usize, u64)>,
    /// Handed to the handler and not yet back: what a panic leaves behind.
    in_hand: Option<Held<M>>,
}

/// Bytes that a worker takes for the messages of so many symbols.
pub(crate) fn bytes_of<M: Message>(slots: usize) -> u64 {
    let keys = slots * CONFLATION_CLASSES;
    (keys * size_of::<u64>() + places_of(keys) * size_of::<Held<M>>()) as u64
}

/// Half as many again, for places that are passed over.
fn places_of(keys: usize) -> usize {
    keys + keys / 2 + 64
}

impl<M: Message> Conflation<M> {
    /// Without memory for any message.
    pub(crate) fn new(lanes: usize) -> Self {
        let (places, queue) = (Vec::new(), VecDeque::new());
        Self { places, queue, front: 1, held: 0, by_lane: vec![(0, 0); lanes], in_hand: None }
    }

    /// Memory for the messages of so many symbols, which the system gives when it is used; not again, where it is there already.
    #[cold]
    pub(crate) fn prepare(&mut self, slots: usize) {
        let keys = slots * CONFLATION_CLASSES;
        self.places.resize(keys, 0);
        self.queue.reserve_exact(places_of(keys).saturating_sub(self.queue.len()));
    }

    pub(super) fn is_prepared(&self) -> bool {
        !self.places.is_empty()
    }

    /// Messages that wait.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.held
    }

    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// The key of a symbol's class.
    #[inline]
    pub(super) fn key(slot: usize, class: u8) -> usize {
        slot * CONFLATION_CLASSES + usize::from(class) % CONFLATION_CLASSES
    }

    /// Puts a message in the place of the one of its key, if there is one, or at the end; returns whether there was one. `missed`: messages of its
    /// symbol before it.
    #[inline]
    pub(super) fn put(&mut self, key: usize, message: &M, missed: u32, (lane, number): (usize, u64)) -> bool {
        let place = self.places[key];
        if place > 0 {
            let held = &mut self.queue[(place - self.front) as usize];
            held.message = *message;
            held.conflated += 1;
            held.missed = held.missed.saturating_add(missed);
            return true;
        }
        if self.queue.len() == self.queue.capacity() {
            self.close_gaps();
        }
        self.places[key] = self.front + self.queue.len() as u64;
        let (message, key) = (*message, key as u32);
        self.queue.push_back(Held { message, conflated: 0, missed, key, lane: lane as u32, number, is_taken: false });
        self.held += 1;
        let (count, first) = &mut self.by_lane[lane];
        if *count == 0 {
            *first = number;
        }
        *count += 1;
        false
    }

    /// The oldest one, which is in hand from now on.
    pub(super) fn take_next(&mut self) -> Option<Held<M>> {
        loop {
            let held = self.queue.pop_front()?;
            self.step();
            if !held.is_taken {
                self.places[held.key as usize] = 0;
                return Some(self.taken(held));
            }
        }
    }

    /// The one of this key, if there is one, which is in hand from now on.
    #[inline]
    pub(super) fn take(&mut self, key: usize) -> Option<Held<M>> {
        let place = std::mem::take(&mut self.places[key]);
        if place == 0 {
            return None;
        }
        let at = (place - self.front) as usize;
        let held = self.queue[at];
        self.queue[at].is_taken = true;
        Some(self.taken(held))
    }

    /// Whether a symbol has any.
    #[inline]
    pub(super) fn holds(&self, slot: usize) -> bool {
        let first = slot * CONFLATION_CLASSES;
        self.places[first..first + CONFLATION_CLASSES].iter().any(|place| *place > 0)
    }

    fn taken(&mut self, held: Held<M>) -> Held<M> {
        self.held -= 1;
        self.by_lane[held.lane as usize].0 -= 1;
        // So that what is at the front is one that waits: its lane's first one is known then.
        while self.queue.front().is_some_and(|front| front.is_taken) {
            self.queue.pop_front();
            self.step();
        }
        if let Some(front) = self.queue.front() {
            self.by_lane[front.lane as usize].1 = front.number;
        }
        self.in_hand = Some(held);
        held
    }

    /// The handler is done with what was in hand.
    #[inline]
    pub(super) fn done(&mut self) {
        self.in_hand = None;
    }

    /// What the handler was not done with.
    pub(super) fn take_in_hand(&mut self) -> Option<Held<M>> {
        self.in_hand.take()
    }

    /// The number of a lane's first message that waits, or of one before it; 0, where none waits.
    pub(super) fn held_from(&self, lane: usize) -> u64 {
        let (count, first) = self.by_lane[lane];
        if count == 0 { 0 } else { first }
    }

    fn step(&mut self) {
        self.front += 1;
    }

    #[cold]
    fn close_gaps(&mut self) {
        self.queue.retain(|held| !held.is_taken);
        for (place, held) in (self.front..).zip(&self.queue) {
            self.places[held.key as usize] = place;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::SymbolId;
    use crate::tick::Tick;
    use proptest::prelude::*;

    const KEYS: usize = 2 * CONFLATION_CLASSES;

    #[derive(Clone, Debug)]
    enum Step {
        Put { key: usize, lane: usize, missed: u32 },
        TakeNext,
        Take { key: usize },
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..KEYS, 0..2usize, 0..3u32).prop_map(|(key, lane, missed)| Step::Put { key, lane, missed }),
            1 => Just(Step::TakeNext),
            2 => (0..KEYS).prop_map(|key| Step::Take { key }),
        ]
    }

    /// What waits of a key: its sequence, how many it has replaced, what is missing before it, its lane and first number.
    #[derive(Clone, Copy, Debug)]
    struct Expected {
        key: usize,
        sequence: u64,
        conflated: u32,
        missed: u32,
        lane: usize,
        number: u64,
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        #[test]
        fn it_keeps_the_newest_of_each_key_in_the_order_in_which_keys_began_to_wait(
            steps in prop::collection::vec(step(), 0..600)
        ) {
            let mut conflation = Conflation::<Tick>::new(2);
            conflation.prepare(2);
            let capacity = conflation.queue.capacity();
            let mut model: Vec<Expected> = Vec::new();
            let mut numbers = [0u64; 2];
            for (sequence, step) in (1..).zip(steps) {
                let check = |held: Option<Held<Tick>>, expected: Option<Expected>| {
                    let found = held.map(|held| (held.message.sequence, held.conflated, held.missed));
                    prop_assert_eq!(found, expected.map(|e| (e.sequence, e.conflated, e.missed)));
                    Ok(())
                };
                match step {
                    Step::Put { key, lane, missed } => {
                        numbers[lane] += 1;
                        let number = numbers[lane];
                        let tick = Tick { sequence, ..Tick::reference(SymbolId::new(0), 0) };
                        let was_there = conflation.put(key, &tick, missed, (lane, number));
                        let known = model.iter_mut().find(|e| e.key == key);
                        prop_assert_eq!(was_there, known.is_some());
                        match known {
                            Some(e) => (e.sequence, e.conflated, e.missed) = (sequence, e.conflated + 1, e.missed + missed),
                            None => model.push(Expected { key, sequence, conflated: 0, missed, lane, number }),
                        }
                    }
                    Step::TakeNext => {
                        let expected = (!model.is_empty()).then(|| model.remove(0));
                        check(conflation.take_next(), expected)?;
                        conflation.done();
                    }
                    Step::Take { key } => {
                        let at = model.iter().position(|e| e.key == key);
                        let expected = at.map(|at| model.remove(at));
                        check(conflation.take(key), expected)?;
                        conflation.done();
                    }
                }
                prop_assert_eq!(conflation.len(), model.len());
                for slot in 0..2 {
                    let holds = model.iter().any(|e| e.key / CONFLATION_CLASSES == slot);
                    prop_assert_eq!(conflation.holds(slot), holds);
                }
                for lane in 0..2 {
                    let first = model.iter().filter(|e| e.lane == lane).map(|e| e.number).min().unwrap_or(0);
                    let told = conflation.held_from(lane);
                    // It may be one before, but not none, and not one after.
                    prop_assert!((told == 0) == (first == 0) && told <= first, "{told}, {first}");
                    if let Some(front) = model.first().filter(|front| front.lane == lane) {
                        prop_assert_eq!(told, front.number);
                    }
                }
            }
            prop_assert_eq!(conflation.queue.capacity(), capacity, "no allocation");
        }
    }
}
