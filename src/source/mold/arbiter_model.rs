//! The arbiter against what is known of the packets that it was given.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::ops::Range;

use proptest::prelude::*;

use super::tests::{A, MS, Rig, alone, packet_of, with_server};
use super::*;
use crate::source::mold::packet::{END_OF_SESSION, HEARTBEAT};

/// A packet on its way.
#[derive(Clone, Debug)]
struct Sent {
    lost: bool,
    twice: bool,
    /// Numbers repeated from the packet before, and its own.
    overlap: u64,
    count: u64,
    jitter_ns: u64,
}

fn sent() -> impl Strategy<Value = Sent> {
    let jitter = prop_oneof![3 => Just(0), 1 => 0..8 * MS];
    (prop::bool::weighted(0.2), prop::bool::weighted(0.1), 0u64..4, 0u64..5, jitter)
        .prop_map(|(lost, twice, overlap, count, jitter_ns)| Sent { lost, twice, overlap, count, jitter_ns })
}

/// When each packet of a line comes, and what is in it. A packet without numbers is a heartbeat.
fn arrivals(line: &[Sent], lag_ns: u64) -> Vec<(u64, Range<u64>)> {
    let mut next = 1u64;
    let mut arrivals = Vec::new();
    for (i, sent) in line.iter().enumerate() {
        let first = if sent.count == 0 { next } else { next.saturating_sub(sent.overlap).max(1) };
        next += sent.count;
        // A step is shorter than the jitter, so that packets overtake each other.
        let at = i as u64 * 2 * MS + lag_ns + sent.jitter_ns;
        if !sent.lost {
            arrivals.push((at, first..next));
        }
        if sent.twice {
            arrivals.push((at + MS, first..next));
        }
    }
    arrivals
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// The same numbers over one to three lines, cut into different packets, lost, doubled and out of order.
    #[test]
    fn all_that_came_in_time_is_delivered_and_the_rest_is_announced(
        lines in prop::collection::vec((prop::collection::vec(sent(), 1..60), 0..4 * MS), 1..4),
    ) {
        let mut events: Vec<_> = lines.iter().flat_map(|(line, lag_ns)| arrivals(line, *lag_ns)).collect();
        events.sort_by_key(|(at, _)| *at);
        let mut rig = Rig::new(ArbiterConfig::default());
        let mut received = 0;
        for (at, numbers) in &events {
            rig.poll(at.saturating_sub(1));
            received += numbers.end - numbers.start;
            rig.bytes(Line::Feed, &packet_of(A, numbers.clone()), *at);
        }
        let end = events.iter().map(|(_, numbers)| numbers.end).max().unwrap_or(1);
        let last = events.last().map_or(0, |(at, _)| *at);
        rig.bytes(Line::Feed, &alone(A, end, END_OF_SESSION), last).poll(last + 10 * MS);
        prop_assert_eq!((rig.log.next, rig.arbiter.has_ended(), rig.arbiter.held()), (end, true, 0));
        for number in rig.log.gaps.iter().flat_map(|(first, end)| *first..*end) {
            let came = events.iter().find(|(_, numbers)| numbers.contains(&number)).map(|(at, _)| *at);
            let missed = events.iter().find(|(_, numbers)| numbers.end > number).map_or(last, |(at, _)| *at);
            prop_assert!(came.is_none_or(|came| came >= missed + 10 * MS), "{} was there in time", number);
        }
        let stats = rig.stats();
        let missed: u64 = rig.log.gaps.iter().map(|(first, end)| end - first).sum();
        prop_assert_eq!(stats.delivered + stats.duplicates, received);
        prop_assert_eq!(stats.delivered + stats.missed, end - 1);
        prop_assert_eq!((stats.missed, stats.gaps), (missed, rig.log.gaps.len() as u64));
    }

    /// One line, and a server that answers, though not always, in packets of a few messages.
    #[test]
    fn what_the_server_has_is_not_missed(
        line in prop::collection::vec(sent(), 1..60),
        answers in prop::collection::vec((prop::bool::weighted(0.3), 0..50 * MS), 1..20),
        chunk in 1u16..10,
        max_outstanding in 1u64..30,
    ) {
        let config = ArbiterConfig { request_messages: chunk, max_outstanding, recover_from_start: true, request_retries: 12, ..with_server() };
        let mut rig = Rig::new(config);
        let mut events: BinaryHeap<_> =
            arrivals(&line, 0).into_iter().map(|(at, numbers)| Reverse((at, 0, numbers.start, numbers.end))).collect();
        let end = events.iter().map(|Reverse(event)| event.3).max().unwrap_or(1);
        let (mut attempts, mut losses) = (answers.iter().cycle(), HashMap::new());
        let (mut now, mut steps) = (0, 0);
        while !events.is_empty() || rig.arbiter.due_ns().is_some() {
            steps += 1;
            prop_assert!(steps < 100_000, "nothing is due, and yet something is");
            let due = rig.arbiter.due_ns().unwrap_or(u64::MAX);
            match events.pop() {
                Some(Reverse((at, kind, first, to))) if at <= due => {
                    let line = if kind == 0 { Line::Feed } else { Line::Answer };
                    now = at;
                    rig.bytes(line, &packet_of(A, first..to), at);
                }
                later => {
                    events.extend(later);
                    now = now.max(due);
                }
            }
            rig.poll(now);
            for (first, count) in rig.log.requests.drain(..) {
                let (lost, delay_ns) = attempts.next().unwrap();
                // So often is a request lost in a row, by bad luck, and no more.
                let lost_before = losses.entry(first).or_insert(0);
                if *lost && *lost_before < 5 {
                    *lost_before += 1;
                } else {
                    events.push(Reverse((now + delay_ns, 1, first, first + u64::from(count).div_ceil(2))));
                }
            }
        }
        prop_assert_eq!((rig.log.next.max(1), rig.arbiter.held()), (end, 0));
        let stats = rig.stats();
        prop_assert!(stats.requested >= stats.recovered && stats.missed == 0, "{:?} {:?}", stats, rig.log.gaps);
    }

    /// Anything may come: nothing breaks, nothing grows, and the order holds.
    #[test]
    fn hostile_packets_are_taken_in_stride(
        steps in prop::collection::vec((0u8..8, 0u64..12, any::<bool>(), 0u16..20, 0u64..20 * MS), 1..200),
        garbage in prop::collection::vec(any::<u8>(), 0..60),
        can_request in any::<bool>(),
    ) {
        let config = ArbiterConfig { can_request, max_messages: 20, max_bytes: 100, recover_from_start: true, ..ArbiterConfig::default() };
        let mut rig = Rig::new(config);
        let (mut received, mut malformed, mut now) = (0, 0, 0);
        for (what, near, answer, count, step) in steps {
            now += step;
            let line = if answer { Line::Answer } else { Line::Feed };
            let session = Session([b'A' + near as u8; 10]);
            let base = match what { 0 => u64::MAX - 30, 1 => u64::MAX / 2, _ => rig.log.next.saturating_sub(5) };
            let first = base.saturating_add(near).max(1);
            let bytes = match what {
                7 => garbage.clone(),
                6 => alone(A, first, END_OF_SESSION),
                5 => alone(A, first, HEARTBEAT),
                4 if near == 0 => packet_of(session, 1..1 + u64::from(count)),
                _ => packet_of(A, first..first.saturating_add(count.into())),
            };
            match Packet::parse(&bytes) {
                Ok(packet) => received += u64::from(packet.count()),
                Err(_) => malformed += 1,
            }
            let _ = rig.arbiter.packet(line, &bytes, now, now, &mut rig.log);
            rig.poll(now);
            prop_assert!(rig.arbiter.held() <= 20);
        }
        let held = rig.arbiter.held() as u64;
        let stats = rig.stats();
        prop_assert_eq!(stats.delivered + stats.duplicates + held, received);
        prop_assert_eq!((stats.malformed, stats.delivered), (malformed, rig.log.messages));
        rig.arbiter.finish(&mut rig.log);
        prop_assert_eq!(rig.arbiter.held(), 0);
    }
}
