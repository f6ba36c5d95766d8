//! Makes one stream, in order, of what comes over several lines.
//!
//! A state machine without input or output of its own: packets and the time go in, messages come out.

use std::collections::VecDeque;
use std::time::Duration;

use super::holes::{Holes, Patience};
use super::packet::{Header, MAX_COUNT, Packet, PacketError, Session};
use super::store::Store;

/// Sessions remembered, whose late packets do not begin them anew.
const SESSIONS_REMEMBERED: usize = 8;

/// What the [`Arbiter`] does about holes, and how much it keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArbiterConfig {
    /// How long a missing message is waited for, on all lines, from when it was missed. Default 10 ms.
    pub window: Duration,
    /// Whether what is missing can be asked for again. Default no.
    pub can_request: bool,
    /// When to ask for it, from when it was missed. Default: half of `window`, in which another line may still bring it;
    /// at once with a [`MoldSource`](super::MoldSource) of one line.
    pub request_after: Option<Duration>,
    /// How long to wait for an answer, from the first request or the last answer that brought something. Default 500 ms.
    pub request_timeout: Duration,
    /// How often to repeat a request within `request_timeout`. Default 3.
    pub request_retries: u32,
    /// Messages of one request, up to 65,534. Default 1,024.
    pub request_messages: u16,
    /// Messages that may be asked for at the same time. Default 8,192.
    pub max_outstanding: u64,
    /// Whether, when the first packet ever shows that the session has begun before, its beginning is asked for. Else it
    /// is announced as a hole, after `window`, in which another line may bring some of it. Default no.
    pub recover_from_start: bool,
    /// Messages kept at most while a hole is waited for. When there is no more room, the hole is given up. Default 131,072.
    pub max_messages: usize,
    /// Bytes of messages kept at most. Default 16 MiB.
    pub max_bytes: usize,
}

impl Default for ArbiterConfig {
    fn default() -> Self {
        Self {
            window: Duration::from_millis(10),
            can_request: false,
            request_after: None,
            request_timeout: Duration::from_millis(500),
            request_retries: 3,
            request_messages: 1024,
            max_outstanding: 8192,
            recover_from_start: false,
            max_messages: 1 << 17,
            max_bytes: 16 << 20,
        }
    }
}

impl ArbiterConfig {
    fn patience(&self) -> Patience {
        let ns = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let requests = self.request_retries.saturating_add(1);
        let ask_after = self.request_after.unwrap_or(self.window / 2);
        let ask_again_after = self.request_timeout / requests;
        let ask_rest_after = ask_after.max(self.window / 2).max(Duration::from_millis(1)).min(ask_again_after);
        Patience {
            window_ns: ns(self.window),
            ask_after_ns: ns(ask_after),
            ask_rest_after_ns: ns(ask_rest_after),
            ask_again_after_ns: ns(ask_again_after),
            answer_within_ns: ns(self.request_timeout),
            requests,
            chunk: self.request_messages.clamp(1, MAX_COUNT).into(),
            max_outstanding: self.max_outstanding.max(1),
        }
    }
}

/// Where a packet came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// One of the feed's lines; they are all alike.
    Feed,
    /// The answer to a request.
    Answer,
}

/// What comes out of the [`Arbiter`].
pub trait Output {
    /// A session begins: its first message has number 1.
    fn begin_session(&mut self, session: Session);

    /// The next message of the session.
    fn message(&mut self, sequence: u64, receive_ns: u64, message: &[u8]);

    /// `missed` messages, the next of the session, have not come, and will not.
    fn gap(&mut self, missed: u64);

    /// The session has ended: `told` by its end packet, or else by another session's packet.
    fn end_session(&mut self, session: Session, told: bool);

    /// To be sent to the re-request server. Only with [`ArbiterConfig::can_request`].
    fn request(&mut self, request: &Header) {
        let _ = request;
    }
}

/// What an [`Arbiter`] has counted, in messages where nothing else is said.
///
/// Of messages in well-formed packets, `delivered + duplicates` and those held are all; of a session's numbers,
/// `delivered + missed` are all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ArbiterStats {
    /// Delivered.
    pub delivered: u64,
    /// Packets that were malformed and left out.
    pub malformed: u64,
    /// Came again, too late, or in a session that is over; and were dropped.
    pub duplicates: u64,
    /// Came on a line after a later one, and were put in their place.
    pub reordered: u64,
    /// Holes that were announced.
    pub gaps: u64,
    /// Missing in announced holes.
    pub missed: u64,
    /// Asked for; those asked for repeatedly count once.
    pub requested: u64,
    /// Came as the answer to a request, and were put in their place.
    pub recovered: u64,
}

/// Makes one stream of the packets of any number of lines, which carry the same messages: the first copy of a message wins,
/// and messages come out by their number, each once.
///
/// A message that is missing is waited for, or asked for, as [`ArbiterConfig`] says. What has not come by then is
/// announced as a hole at its place, so that all numbers from 1 on are either delivered or announced. A message whose
/// turn has passed is a duplicate, whatever it was.
#[derive(Debug)]
pub struct Arbiter {
    patience: Patience,
    can_request: bool,
    recover_from_start: bool,
    /// The session, and whether it has ended.
    session: Option<Session>,
    has_ended: bool,
    earlier: VecDeque<Session>,
    /// The next message to deliver.
    next: u64,
    /// The first number that nothing was heard of.
    known: u64,
    /// The first number above all messages that have come.
    top: u64,
    /// The first number that the session does not have, once that is told.
    ends_at: Option<u64>,
    /// What is missing in `next..known`; the rest of it is in the store.
    holes: Holes,
    store: Store,
    stats: ArbiterStats,
}

impl Arbiter {
    /// Waits for the first packet.
    pub fn new(config: &ArbiterConfig) -> Self {
        Self {
            patience: config.patience(),
            can_request: config.can_request,
            recover_from_start: config.recover_from_start,
            session: None,
            has_ended: false,
            earlier: VecDeque::with_capacity(SESSIONS_REMEMBERED),
            next: 1,
            known: 1,
            top: 1,
            ends_at: None,
            holes: Holes::default(),
            store: Store::new(config.max_messages, config.max_bytes),
            stats: ArbiterStats::default(),
        }
    }

    /// Takes a packet that was received at `receive_ns` of the wall clock. `now_ns` is the time in any clock, the one
    /// of [`poll`](Self::poll).
    ///
    /// # Errors
    /// When the packet is malformed. It is counted, and has changed nothing.
    pub fn packet(
        &mut self,
        line: Line,
        bytes: &[u8],
        now_ns: u64,
        receive_ns: u64,
        out: &mut impl Output,
    ) -> Result<(), PacketError> {
        let packet = Packet::parse(bytes).inspect_err(|_| self.stats.malformed += 1)?;
        if self.is_of_the_past(&packet, line) {
            self.stats.duplicates += u64::from(packet.count());
            return Ok(());
        }
        let joins = self.session.is_none();
        if self.session != Some(packet.session()) {
            self.change_session(packet.session(), out);
        }
        if self.holes.is_full() {
            self.give_up_first(u64::MAX, true, out);
        }
        self.learn(&packet, line, now_ns, joins);
        self.place(&packet, line, receive_ns, out);
        self.end_if_complete(out);
        Ok(())
    }

    /// Gives up what was waited for long enough at `now_ns`, and asks for what is missing.
    ///
    /// Where lines are read in turn, `now_ns` is a time up to which all of them were read.
    pub fn poll(&mut self, now_ns: u64, out: &mut impl Output) {
        while self.give_up_first(now_ns, false, out) {}
        self.end_if_complete(out);
        let Some(session) = self.session.filter(|_| self.can_request) else { return };
        let stats = &mut self.stats;
        self.holes.ask(now_ns, &self.patience, |first, count, new| {
            stats.requested += new;
            out.request(&Header::new(session, first, count as u16));
        });
    }

    /// When [`poll`](Self::poll) will have something to do, if nothing else happens.
    pub fn due_ns(&self) -> Option<u64> {
        self.holes.due_ns()
    }

    /// Delivers what is held, and announces the holes before it: there will be no more packets.
    pub fn finish(&mut self, out: &mut impl Output) {
        while self.give_up_first(u64::MAX, true, out) {}
        self.end_if_complete(out);
    }

    /// Whether the session has ended, and everything was delivered or announced.
    pub fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Messages that came before their turn, and are held until then.
    pub fn held(&self) -> usize {
        self.store.len()
    }

    /// The most memory that it takes, in bytes.
    pub fn memory_bytes(&self) -> u64 {
        self.store.memory_bytes() + Holes::memory_bytes()
    }

    /// What it has counted since this was called before.
    pub fn take_stats(&mut self) -> ArbiterStats {
        std::mem::take(&mut self.stats)
    }

    /// Whether all that it brings has been delivered or given up, as with most packets of the second line.
    fn is_of_the_past(&self, packet: &Packet<'_>, line: Line) -> bool {
        if self.session == Some(packet.session()) {
            return self.has_ended || (packet.end() <= self.next && !packet.is_end_of_session());
        }
        // The server is asked for the session that goes on; it does not begin another.
        line == Line::Answer || self.earlier.contains(&packet.session())
    }

    /// Ends the session, if there is one, and begins another.
    fn change_session(&mut self, session: Session, out: &mut impl Output) {
        if let Some(last) = self.session {
            while self.give_up_first(u64::MAX, true, out) {}
            if !self.has_ended {
                out.end_session(last, false);
            }
            if self.earlier.len() == SESSIONS_REMEMBERED {
                self.earlier.pop_front();
            }
            self.earlier.push_back(last);
        }
        debug_assert!(self.holes.is_empty() && self.store.len() == 0);
        (self.session, self.has_ended, self.ends_at) = (Some(session), false, None);
        (self.next, self.known, self.top) = (1, 1, 1);
        out.begin_session(session);
    }

    /// Learns from a packet what there is, and what is missing. `joins`: it is the first packet ever, and what it says is
    /// missing was before our time.
    fn learn(&mut self, packet: &Packet<'_>, line: Line, now_ns: u64, joins: bool) {
        let (first, end) = (packet.sequence(), packet.end());
        if first > self.known {
            let ask = self.can_request && (!joins || self.recover_from_start);
            self.holes.add(self.known, first, now_ns, &self.patience, ask);
        }
        if first < self.known && packet.count() > 0 {
            let answered = (line == Line::Answer).then_some((now_ns, &self.patience));
            self.holes.fill(first, end, answered);
        }
        self.known = self.known.max(end);
        if packet.is_end_of_session() {
            self.ends_at = Some(end);
        }
    }

    /// Delivers a packet's messages, or keeps them until their turn.
    fn place(&mut self, packet: &Packet<'_>, line: Line, receive_ns: u64, out: &mut impl Output) {
        let top = self.top;
        for (sequence, message) in packet.messages() {
            if sequence < self.next || self.store.contains(sequence) {
                self.stats.duplicates += 1;
                continue;
            }
            while sequence != self.next && !self.store.has_room(message) && self.give_up_first(u64::MAX, true, out) {}
            if sequence == self.next {
                self.deliver(receive_ns, message, out);
                self.drain(out);
            } else {
                self.store.insert(sequence, receive_ns, message);
            }
            match line {
                Line::Answer => self.stats.recovered += 1,
                Line::Feed => self.stats.reordered += u64::from(sequence < top),
            }
        }
        if packet.count() > 0 {
            self.top = top.max(packet.end());
        }
    }

    #[inline]
    fn deliver(&mut self, receive_ns: u64, message: &[u8], out: &mut impl Output) {
        out.message(self.next, receive_ns, message);
        self.next += 1;
        self.stats.delivered += 1;
    }

    /// Delivers held messages whose turn has come.
    fn drain(&mut self, out: &mut impl Output) {
        while let Some(held) = self.store.take(self.next) {
            self.deliver(held.receive_ns, &held.bytes, out);
        }
    }

    /// Announces the first hole, if its time is up or in any case, and goes on after it; `false`: there was none.
    fn give_up_first(&mut self, now_ns: u64, in_any_case: bool, out: &mut impl Output) -> bool {
        let Some((from, to)) = self.holes.give_up_first(now_ns, in_any_case) else { return false };
        debug_assert_eq!(from, self.next, "what comes before the first hole is delivered");
        out.gap(to - from);
        self.stats.gaps += 1;
        self.stats.missed = self.stats.missed.saturating_add(to - from);
        self.next = to;
        self.drain(out);
        true
    }

    fn end_if_complete(&mut self, out: &mut impl Output) {
        let Some(session) = self.session.filter(|_| !self.has_ended) else { return };
        if self.ends_at.is_some_and(|end| self.next >= end) && self.holes.is_empty() && self.store.len() == 0 {
            self.has_ended = true;
            out.end_session(session, true);
        }
    }
}

#[cfg(test)]
#[path = "arbiter_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "arbiter_model.rs"]
mod model;
