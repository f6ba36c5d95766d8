use super::*;
use crate::lane::wait::WaitStrategy;
use proptest::prelude::*;

fn small_lane(capacity: usize) -> (Sender<u64>, Receiver<u64>) {
    lane(capacity, false, Arc::new(Waker::new(WaitStrategy::BusySpin))).unwrap()
}

impl Sender<u64> {
    /// `false` when the lane is full.
    fn push(&mut self, message: u64) -> bool {
        self.push_after(0, message)
    }

    /// Writes a message after so many missed ones, and publishes a full block, as an ingress does.
    fn push_after(&mut self, missed: u32, message: u64) -> bool {
        let Some(mut reserved) = self.reserve() else { return false };
        if missed > 0 {
            reserved.note(missed, false);
        }
        if reserved.write(message) {
            self.publish();
        }
        true
    }
}

/// Takes all that is there.
fn drain(receiver: &mut Receiver<u64>, max: usize) -> Vec<(u64, u32)> {
    let mut out = Vec::new();
    while let Some(chunk) = receiver.front(max) {
        let count = chunk.messages.len();
        for (i, message) in chunk.messages.iter().enumerate() {
            let missed = chunk.missed.map_or(0, |m| m[i].load(Ordering::Relaxed));
            out.push((*message, missed));
        }
        receiver.finish(count);
    }
    out
}

#[test]
fn a_message_is_invisible_until_published_and_then_at_once() {
    let (mut sender, mut receiver) = small_lane(1000);
    assert!(sender.push(7));
    assert!(receiver.front(10).is_none());
    sender.publish();
    assert_eq!(drain(&mut receiver, 10), [(7, 0)]);
}

#[test]
fn a_full_block_asks_to_be_published() {
    let (mut sender, mut receiver) = small_lane(1000);
    for i in 0..BLOCK as u64 {
        sender.push(i);
    }
    assert_eq!(drain(&mut receiver, 1000).len(), BLOCK);
}

#[test]
fn single_message_bursts_do_not_shrink_the_capacity() {
    let (mut sender, mut receiver) = small_lane(1000);
    let mut next = 0;
    for skip in [0, 1, 255, 256, 257, 999] {
        // Move the place in the block where filling begins.
        for _ in 0..skip {
            assert!(sender.push(next));
            sender.publish();
            assert_eq!(drain(&mut receiver, 10), [(next, 0)]);
            next += 1;
        }
        let first = next;
        while sender.push(next) {
            sender.publish();
            next += 1;
        }
        assert!(next - first >= 1000, "only {} fit", next - first);
        let drained: Vec<u64> = drain(&mut receiver, 10).into_iter().map(|m| m.0).collect();
        assert_eq!(drained, (first..next).collect::<Vec<_>>());
    }
}

/// Sends so many blocks, each read before the next, and returns the blocks used, in order.
fn blocks_used(sender: &mut Sender<u64>, receiver: &mut Receiver<u64>, count: usize) -> Vec<usize> {
    let mut blocks = Vec::new();
    for i in 0..(count * BLOCK) as u64 {
        assert!(sender.push(i));
        blocks.push(sender.first / BLOCK);
        sender.publish();
        drain(receiver, BLOCK);
    }
    blocks.dedup();
    blocks
}

#[test]
fn while_the_receiver_keeps_up_a_few_blocks_go_round_and_the_rest_stays_untouched() {
    let warm = WARM_BYTES / (BLOCK * size_of::<u64>());
    let (mut sender, mut receiver) = small_lane(4 * warm * BLOCK);
    let used = blocks_used(&mut sender, &mut receiver, 3 * warm);
    assert_eq!(used, (0..warm).cycle().take(3 * warm).collect::<Vec<_>>());
    // The receiver falls behind: all are used. It catches up: few are again.
    let mut i = 0;
    while sender.push(i) {
        i += 1;
    }
    assert!(i >= (4 * warm * BLOCK) as u64);
    sender.publish();
    drain(&mut receiver, BLOCK);
    let used = blocks_used(&mut sender, &mut receiver, 5 * warm);
    let distinct: std::collections::HashSet<_> = used[warm..].iter().collect();
    assert_eq!(distinct.len(), warm);
}

#[test]
fn notes_belong_to_their_message_and_vanish_with_the_block() {
    let (mut sender, mut receiver) = small_lane(2 * BLOCK);
    for round in 0..10 {
        for i in 0..BLOCK as u64 {
            let missed = if round % 2 == 0 && i % 100 == 3 { 5 } else { 0 };
            assert!(sender.push_after(missed, i));
        }
        for (message, missed) in drain(&mut receiver, 64) {
            let expected = if round % 2 == 0 && message % 100 == 3 { 5 } else { 0 };
            assert_eq!(missed, expected, "message {message} in round {round}");
        }
    }
}

#[test]
fn what_was_not_published_is_when_the_sender_goes() {
    let (mut sender, mut receiver) = small_lane(10);
    sender.push(1);
    assert!(!receiver.is_done());
    drop(sender);
    assert!(!receiver.is_done());
    assert_eq!(drain(&mut receiver, 10), [(1, 0)]);
    assert!(receiver.is_done());
}

proptest! {
    /// Against a queue: same messages, same order, same counts, for any mix of steps.
    #[test]
    fn a_lane_is_a_bounded_queue(
        capacity in 1usize..700,
        steps in proptest::collection::vec((0u8..5, 1usize..600), 1..60),
    ) {
        let (mut sender, mut receiver) = small_lane(capacity);
        let mut model = std::collections::VecDeque::new();
        let (mut next, mut visible) = (0u64, 0usize);
        for (step, size) in steps {
            match step {
                0 | 1 => for _ in 0..size {
                    if sender.push(next) {
                        model.push_back(next);
                        next += 1;
                        if next.is_multiple_of(BLOCK as u64) { visible = model.len(); }
                    } else {
                        prop_assert!(model.len() >= capacity);
                    }
                },
                2 => { sender.publish(); visible = model.len(); }
                3 => if let Some(reserved) = sender.reserve() {
                    let count = reserved.write_some(size, |i| next + i as u64);
                    model.extend(next..next + count as u64);
                    next += count as u64;
                    let is_full = next.is_multiple_of(BLOCK as u64);
                    prop_assert!(count == size || is_full);
                    if is_full { sender.publish(); visible = model.len(); }
                } else {
                    prop_assert!(model.len() >= capacity);
                },
                _ => {
                    let mut left = size.min(visible);
                    while left > 0 {
                        let chunk = receiver.front(left).expect("published messages are there");
                        let count = chunk.messages.len();
                        for message in chunk.messages.iter() {
                            prop_assert_eq!(Some(*message), model.pop_front());
                        }
                        receiver.finish(count);
                        left -= count;
                        visible -= count;
                    }
                }
            }
            prop_assert_eq!(receiver.is_ready(), visible > 0);
            let on_their_way = model.len() as u64;
            prop_assert!(sender.is_within(on_their_way + 1) && !sender.is_within(on_their_way));
        }
    }
}

/// Two threads, random bursts, a lane far too small: order and sum must hold.
#[test]
fn order_and_sum_hold_across_threads() {
    const COUNT: u64 = 2_000_000;
    for capacity in [1, 300, 5_000] {
        let (mut sender, mut receiver) = small_lane(capacity);
        let producer = std::thread::spawn(move || {
            let mut random = 0x9E37_79B9_7F4A_7C15u64;
            for i in 0..COUNT {
                while !sender.push(i) {
                    sender.publish();
                    std::thread::yield_now();
                }
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                if random.is_multiple_of(37) {
                    sender.publish();
                }
            }
        });
        let mut expected = 0;
        while !receiver.is_done() {
            let Some(chunk) = receiver.front(64) else {
                std::thread::yield_now();
                continue;
            };
            let count = chunk.messages.len();
            for message in chunk.messages.iter_mut() {
                assert_eq!(*message, expected);
                expected += 1;
                *message = u64::MAX; // the receiver owns the slot
            }
            receiver.finish(count);
        }
        assert_eq!(expected, COUNT);
        producer.join().unwrap();
    }
}

/// What a receiver is told: messages, and holes of the feed among them.
fn told(receiver: &mut Receiver<u64>) -> Vec<Result<u64, u64>> {
    let mut told = Vec::new();
    while let Some(chunk) = receiver.front(64) {
        told.extend(chunk.feed_gap.map(Err));
        told.extend(chunk.messages.iter().map(|message| Ok(*message)));
        let count = chunk.messages.len();
        receiver.finish(count);
    }
    told
}

#[test]
fn each_hole_in_the_feed_is_told_at_its_place() {
    let (mut sender, mut receiver) = small_lane(1000);
    let push = |sender: &mut Sender<u64>, message: u64, feed_gap: bool| {
        let mut reserved = sender.reserve().unwrap();
        if feed_gap {
            reserved.note(0, true);
        }
        if reserved.write(message) {
            sender.publish();
        }
    };
    // Among messages.
    for (message, feed_gap) in [(0, false), (1, false), (2, true), (3, false), (4, true)] {
        if feed_gap {
            sender.tell_feed_gap(message + 10);
        }
        push(&mut sender, message, feed_gap);
    }
    sender.publish();
    // What both lack is known by the time the first is come to.
    assert_eq!(told(&mut receiver), [Ok(0), Ok(1), Err(26), Ok(2), Ok(3), Err(0), Ok(4)]);
    // With nothing after it, and then with a message that follows it.
    push(&mut sender, 5, false);
    sender.tell_feed_gap(7);
    assert!(receiver.is_ready());
    assert_eq!(told(&mut receiver), [Ok(5), Err(7)]);
    assert!(!receiver.is_ready());
    push(&mut sender, 6, true);
    sender.publish();
    assert_eq!(told(&mut receiver), [Err(0), Ok(6)]);
    // At the end.
    sender.tell_feed_gap(8);
    drop(sender);
    assert!(!receiver.is_done());
    assert_eq!(told(&mut receiver), [Err(8)]);
    assert!(receiver.is_done());
}
