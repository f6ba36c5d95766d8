use super::*;
use crate::source::mold::packet::{END_OF_SESSION, HEADER_BYTES, HEARTBEAT, PacketWriter};
use std::ops::Range;
use zerocopy::IntoBytes;

pub(super) const MS: u64 = 1_000_000;
pub(super) const A: Session = Session(*b"A         ");
const B: Session = Session(*b"B         ");

/// What came out, checked as it comes.
#[derive(Debug, Default)]
pub(super) struct Log {
    pub(super) next: u64,
    /// The first missing number, and the first after the hole.
    pub(super) gaps: Vec<(u64, u64)>,
    pub(super) begun: Vec<Session>,
    pub(super) ended: Vec<(Session, bool)>,
    pub(super) requests: Vec<(u64, u16)>,
    /// Where each message in a row was received.
    pub(super) received: Vec<u64>,
    pub(super) messages: u64,
}

impl Output for Log {
    fn begin_session(&mut self, session: Session) {
        assert_eq!(self.begun.len(), self.ended.len(), "one session at a time");
        self.begun.push(session);
        self.next = 1;
    }

    fn message(&mut self, sequence: u64, receive_ns: u64, message: &[u8]) {
        assert_eq!((sequence, message), (self.next, &text(sequence)[..]));
        self.next += 1;
        self.messages += 1;
        self.received.push(receive_ns);
    }

    fn gap(&mut self, missed: u64) {
        assert!(missed > 0);
        let first = self.next;
        self.next += missed;
        self.gaps.push((first, self.next));
    }

    fn end_session(&mut self, session: Session, told: bool) {
        assert_eq!(self.begun.last(), Some(&session));
        self.ended.push((session, told));
    }

    fn request(&mut self, request: &Header) {
        assert_eq!(Some(&request.session), self.begun.last());
        self.requests.push((request.sequence.get(), request.count.get()));
    }
}

fn text(sequence: u64) -> Vec<u8> {
    sequence.to_be_bytes()[(sequence % 5) as usize..].to_vec()
}

pub(super) fn packet_of(session: Session, numbers: Range<u64>) -> Vec<u8> {
    let mut writer = PacketWriter::new(session, 65_000);
    writer.begin(numbers.start);
    assert!(numbers.clone().all(|n| writer.push(&text(n))));
    writer.bytes().to_vec()
}

pub(super) fn alone(session: Session, sequence: u64, count: u16) -> Vec<u8> {
    Header::new(session, sequence, count).as_bytes().to_vec()
}

/// An arbiter and what came out of it.
pub(super) struct Rig {
    pub(super) arbiter: Arbiter,
    pub(super) log: Log,
}

impl Rig {
    pub(super) fn new(config: ArbiterConfig) -> Self {
        Self { arbiter: Arbiter::new(&config), log: Log::default() }
    }

    /// Numbers of session A, received when they come.
    fn numbers(&mut self, numbers: Range<u64>, now_ns: u64) -> &mut Self {
        self.bytes(Line::Feed, &packet_of(A, numbers), now_ns)
    }

    pub(super) fn bytes(&mut self, line: Line, bytes: &[u8], now_ns: u64) -> &mut Self {
        self.arbiter.packet(line, bytes, now_ns, now_ns, &mut self.log).unwrap();
        self
    }

    pub(super) fn poll(&mut self, now_ns: u64) -> &mut Self {
        self.arbiter.poll(now_ns, &mut self.log);
        self
    }

    pub(super) fn stats(&mut self) -> ArbiterStats {
        self.arbiter.take_stats()
    }
}

pub(super) fn with_server() -> ArbiterConfig {
    ArbiterConfig { can_request: true, ..ArbiterConfig::default() }
}

#[test]
fn the_first_copy_wins() {
    let mut rig = Rig::new(ArbiterConfig::default());
    rig.numbers(1..4, 10).numbers(1..4, 20).numbers(2..6, 30);
    assert_eq!((rig.log.next, &rig.log.received[..]), (6, &[10, 10, 10, 30, 30][..]));
    assert_eq!(rig.stats(), ArbiterStats { delivered: 5, duplicates: 5, ..Default::default() });
    assert_eq!(rig.stats(), ArbiterStats::default());
}

#[test]
fn what_came_too_early_waits_and_keeps_its_receive_time() {
    let mut rig = Rig::new(ArbiterConfig::default());
    rig.numbers(1..2, 1).numbers(4..6, 2).numbers(5..7, 3);
    assert_eq!((rig.log.next, rig.arbiter.held()), (2, 3));
    rig.numbers(2..4, 4).poll(u64::MAX - 1);
    assert_eq!((rig.log.next, rig.arbiter.held(), rig.log.gaps.len()), (7, 0, 0));
    assert_eq!(rig.log.received, [1, 4, 4, 2, 2, 3]);
    assert_eq!(rig.stats(), ArbiterStats { delivered: 6, duplicates: 1, reordered: 2, ..Default::default() });
}

#[test]
fn a_hole_is_announced_at_its_place_after_the_window() {
    let mut rig = Rig::new(ArbiterConfig::default());
    rig.numbers(1..2, 0).numbers(3..5, MS).numbers(6..7, 2 * MS).poll(11 * MS - 1);
    assert_eq!((rig.log.next, rig.arbiter.due_ns()), (2, Some(11 * MS)));
    rig.poll(11 * MS);
    assert_eq!((rig.log.next, &rig.log.gaps[..]), (5, &[(2, 3)][..]));
    rig.poll(12 * MS).numbers(2..3, 13 * MS);
    assert_eq!((rig.log.next, &rig.log.gaps[..], rig.arbiter.due_ns()), (7, &[(2, 3), (5, 6)][..], None));
    let stats = ArbiterStats { delivered: 4, duplicates: 1, gaps: 2, missed: 2, ..Default::default() };
    assert_eq!(rig.stats(), stats);
}

#[test]
fn who_joins_late_is_told_what_was_before() {
    let mut rig = Rig::new(with_server());
    rig.numbers(1000..1002, 0).poll(9 * MS);
    assert!(rig.log.requests.is_empty(), "the other line may still bring it, but nobody asks for it");
    rig.poll(10 * MS);
    assert_eq!((&rig.log.gaps[..], rig.log.next), (&[(1, 1000)][..], 1002));
    let mut rig = Rig::new(ArbiterConfig { recover_from_start: true, ..with_server() });
    rig.numbers(1000..1002, 0).poll(5 * MS);
    assert_eq!(rig.log.requests, [(1, 999)]);
}

#[test]
fn a_heartbeat_shows_what_is_missing_at_the_end() {
    let mut rig = Rig::new(ArbiterConfig::default());
    rig.numbers(1..2, 0).bytes(Line::Feed, &alone(A, 2, HEARTBEAT), 0);
    assert_eq!(rig.arbiter.due_ns(), None);
    rig.bytes(Line::Feed, &alone(A, 4, HEARTBEAT), 0).numbers(2..3, 1).poll(10 * MS);
    assert_eq!((&rig.log.gaps[..], rig.log.next), (&[(3, 4)][..], 4));
    assert_eq!(rig.stats().reordered, 0, "nothing later had come");
}

#[test]
fn a_session_ends_when_all_of_it_is_delivered_or_given_up() {
    let mut rig = Rig::new(ArbiterConfig::default());
    rig.numbers(1..2, 0).bytes(Line::Feed, &alone(A, 4, END_OF_SESSION), 0);
    assert!(!rig.arbiter.has_ended());
    rig.numbers(2..3, 1).poll(10 * MS);
    assert!(rig.arbiter.has_ended());
    rig.bytes(Line::Feed, &alone(A, 4, END_OF_SESSION), 0).numbers(3..4, 11 * MS);
    assert_eq!((&rig.log.ended[..], &rig.log.gaps[..]), (&[(A, true)][..], &[(3, 4)][..]));
    assert_eq!(rig.stats().duplicates, 1);
}

#[test]
fn another_session_ends_the_one_before() {
    let mut rig = Rig::new(ArbiterConfig::default());
    rig.numbers(1..2, 0).numbers(4..5, 0).bytes(Line::Feed, &packet_of(B, 2..3), 1);
    assert_eq!((&rig.log.begun[..], &rig.log.ended[..]), (&[A, B][..], &[(A, false)][..]));
    assert_eq!((&rig.log.gaps[..], rig.log.messages), (&[(2, 4)][..], 2));
    rig.numbers(2..3, 2).poll(20 * MS);
    assert_eq!((rig.log.begun.len(), rig.stats().duplicates), (2, 1), "the last of an earlier session");
    assert_eq!((&rig.log.gaps[1..], rig.log.next), (&[(1, 2)][..], 3));
}

#[test]
fn a_full_store_gives_the_hole_up() {
    for config in [
        ArbiterConfig { max_messages: 3, ..with_server() },
        ArbiterConfig { max_bytes: 3 * 8, ..ArbiterConfig::default() },
    ] {
        let mut rig = Rig::new(config);
        rig.numbers(1..2, 0).numbers(3..5, 0).numbers(6..7, 0);
        assert_eq!((rig.log.gaps.len(), rig.arbiter.held()), (0, 3));
        rig.numbers(7..20, 0);
        assert_eq!(rig.log.gaps, [(2, 3), (5, 6)]);
        assert_eq!((rig.log.next, rig.arbiter.held(), rig.log.messages), (20, 0, 17));
    }
}

#[test]
fn what_is_missing_is_asked_for_in_pieces_and_in_time() {
    let config = ArbiterConfig { request_messages: 10, max_outstanding: 25, ..with_server() };
    let mut rig = Rig::new(config);
    rig.numbers(1..2, 0).numbers(52..53, MS).poll(6 * MS - 1);
    assert!(rig.log.requests.is_empty());
    rig.poll(6 * MS);
    assert_eq!(rig.log.requests, [(2, 10), (12, 10), (22, 5)]);
    rig.poll(7 * MS);
    assert_eq!((rig.log.requests.len(), rig.arbiter.holes.outstanding()), (3, 25));
    rig.bytes(Line::Answer, &packet_of(A, 12..22), 8 * MS).poll(8 * MS);
    assert_eq!((&rig.log.requests[3..], rig.log.next), (&[(27, 10)][..], 2));
    rig.bytes(Line::Answer, &packet_of(A, 2..12), 9 * MS);
    rig.bytes(Line::Answer, &packet_of(A, 22..52), 9 * MS).poll(9 * MS);
    assert_eq!((rig.log.next, rig.log.requests.len(), rig.arbiter.due_ns()), (53, 4, None));
    let stats = ArbiterStats { delivered: 52, requested: 35, recovered: 50, ..Default::default() };
    assert_eq!(rig.stats(), stats);
}

#[test]
fn a_silent_server_is_asked_again_and_then_no_more() {
    let mut rig = Rig::new(ArbiterConfig { request_messages: 10, max_outstanding: 10, ..with_server() });
    rig.numbers(1..2, 0).numbers(1002..1003, 0);
    (0..505).for_each(|ms| _ = rig.poll(ms * MS));
    assert_eq!((&rig.log.requests[..], rig.log.next), (&[(2, 10); 4][..], 2));
    rig.poll(505 * MS);
    assert_eq!((&rig.log.gaps[..], rig.log.next), (&[(2, 1002)][..], 1003));
    assert_eq!(rig.stats().requested, 10);
}

#[test]
fn a_server_that_answers_bit_by_bit_is_given_time() {
    let mut rig = Rig::new(with_server());
    rig.numbers(1..2, 0).numbers(102..103, 0).poll(5 * MS);
    let mut now = 5 * MS;
    for first in (2..102).step_by(10) {
        assert_eq!(rig.log.requests.last(), Some(&(first, (102 - first) as u16)));
        now += 400 * MS;
        rig.bytes(Line::Answer, &packet_of(A, first..first + 10), now).poll(now + 5 * MS);
    }
    assert_eq!((rig.log.next, rig.log.gaps.len()), (103, 0));
    assert_eq!((rig.stats().requested, rig.log.requests.len()), (100, 10));
}

#[test]
fn an_answer_of_several_packets_is_not_asked_for_again() {
    let mut rig = Rig::new(ArbiterConfig { request_after: Some(Duration::ZERO), ..with_server() });
    rig.numbers(1..2, 0).numbers(102..103, 0).poll(0);
    for first in (2..102).step_by(10) {
        rig.bytes(Line::Answer, &packet_of(A, first..first + 10), first * 1000).poll(first * 1000);
    }
    assert_eq!((&rig.log.requests[..], rig.log.next), (&[(2, 100)][..], 103));
}

#[test]
fn an_answer_of_another_session_begins_nothing() {
    let mut rig = Rig::new(with_server());
    rig.numbers(1..2, 0).bytes(Line::Answer, &packet_of(B, 1..3), 0);
    assert_eq!((rig.stats().duplicates, &rig.log.begun[..]), (2, &[A][..]));
}

#[test]
fn the_greatest_numbers_are_numbers() {
    let mut rig = Rig::new(ArbiterConfig { recover_from_start: true, ..with_server() });
    rig.numbers(u64::MAX - 1..u64::MAX, 0).bytes(Line::Feed, &alone(A, u64::MAX, HEARTBEAT), 0);
    rig.poll(0).poll(5 * MS).poll(6 * MS).numbers(7..9, 7 * MS);
    assert_eq!(rig.log.requests.len(), 8);
    rig.poll(600 * MS);
    assert_eq!((rig.log.next, rig.log.messages), (u64::MAX, 3));
    rig.bytes(Line::Feed, &alone(A, u64::MAX, END_OF_SESSION), 0);
    assert!(rig.arbiter.has_ended());
}

#[test]
fn ever_new_holes_are_bounded() {
    let mut rig = Rig::new(ArbiterConfig::default());
    (2..40_000).for_each(|next| _ = rig.bytes(Line::Feed, &alone(A, next, HEARTBEAT), next));
    assert!(rig.log.next > 20_000);
    assert_eq!(rig.log.gaps.len(), 2);
}

#[test]
fn a_malformed_packet_changes_nothing() {
    let mut rig = Rig::new(ArbiterConfig::default());
    let whole = packet_of(A, 1..3);
    let cut = &whole[..whole.len() - 1];
    assert!(rig.arbiter.packet(Line::Feed, cut, 0, 0, &mut rig.log).is_err());
    assert!(rig.arbiter.packet(Line::Feed, &whole[..HEADER_BYTES], 0, 0, &mut rig.log).is_err());
    assert_eq!((rig.log.begun.len(), rig.stats().malformed), (0, 2));
}
