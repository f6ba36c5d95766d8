//! What is missing in a stream, when it was missed, and when it was asked for.

use std::collections::BTreeMap;

/// How long holes are waited for, and how they are asked for. Times are in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// How long lines and reordering may take to fill a hole that is not asked for.
    pub(super) window_ns: u64,
    /// When to ask, after a hole was seen.
    pub(super) ask_after_ns: u64,
    /// When to ask for what an answer has left out, after that answer. An answer may take several packets.
    pub(super) ask_rest_after_ns: u64,
    /// When to ask again, where no answer came.
    pub(super) ask_again_after_ns: u64,
    /// How long to wait for answers, after the first request or the last answer.
    pub(super) answer_within_ns: u64,
    /// Requests for the same messages.
    pub(super) requests: u32,
    /// Messages of one request.
    pub(super) chunk: u64,
    /// Messages that may be asked for at the same time.
    pub(super) max_outstanding: u64,
}

/// Holes at the same time. Whoever has so many will hardly have a use for what is between them.
const MAX_HOLES: usize = 1 << 14;

/// Never.
const NEVER: u64 = u64::MAX;

#[derive(Clone, Copy, Debug)]
struct Hole {
    /// The first message after it.
    to: u64,
    seen_ns: u64,
    /// When to stop waiting; [`NEVER`] as long as it is still to be asked for.
    give_up_ns: u64,
    /// When to ask.
    ask_ns: u64,
    requests_left: u32,
    is_asked: bool,
}

/// Missing ranges, by their first message. They do not overlap; those that adjoin were missed at different times, or
/// are asked for one by one.
#[derive(Debug, Default)]
pub(super) struct Holes {
    holes: BTreeMap<u64, Hole>,
    /// No hole is to be asked for before.
    next_ask_ns: u64,
    /// Messages that are asked for, and missing.
    outstanding: u64,
    /// Whether something is to be asked for as soon as there is room for it.
    is_blocked: bool,
}

impl Holes {
    pub(super) fn is_empty(&self) -> bool {
        self.holes.is_empty()
    }

    /// Whether there are as many as there may be: one is to be given up before the next packet.
    pub(super) fn is_full(&self) -> bool {
        self.holes.len() >= MAX_HOLES
    }

    /// The most memory that they take, in bytes.
    pub(super) const fn memory_bytes() -> u64 {
        // A node of the tree is half empty at worst.
        (2 * MAX_HOLES * size_of::<(u64, Hole)>()) as u64
    }

    /// `from..to` is missing, all of it after the holes known so far.
    pub(super) fn add(&mut self, from: u64, to: u64, now_ns: u64, patience: &Patience, ask: bool) {
        debug_assert!(from < to && self.holes.last_key_value().is_none_or(|(_, last)| last.to <= from));
        let ask_ns = if ask { now_ns.saturating_add(patience.ask_after_ns) } else { NEVER };
        let give_up_ns = if ask { NEVER } else { now_ns.saturating_add(patience.window_ns) };
        self.next_ask_ns = if self.is_empty() { ask_ns } else { self.next_ask_ns.min(ask_ns) };
        let requests_left = if ask { patience.requests } else { 0 };
        let hole = Hole { to, seen_ns: now_ns, give_up_ns, ask_ns, requests_left, is_asked: false };
        self.holes.insert(from, hole);
    }

    /// `from..to` has come; `answered`: as the answer to a request, which gives what is left of the hole new time.
    pub(super) fn fill(&mut self, from: u64, to: u64, answered: Option<(u64, &Patience)>) {
        while let Some((&begin, &hole)) = self.holes.range(..to).next_back() {
            if hole.to <= from {
                break;
            }
            self.holes.remove(&begin);
            self.forget(begin.max(from), hole.to.min(to), &hole);
            let mut rest = hole;
            if let Some((now_ns, patience)) = answered.filter(|_| hole.is_asked) {
                rest.give_up_ns = now_ns.saturating_add(patience.answer_within_ns);
                rest.ask_ns = now_ns.saturating_add(patience.ask_rest_after_ns);
                rest.requests_left = patience.requests;
                self.next_ask_ns = self.next_ask_ns.min(rest.ask_ns);
            }
            if to < hole.to {
                self.holes.insert(to, rest);
            }
            if begin < from {
                self.holes.insert(begin, Hole { to: from, ..rest });
                break;
            }
        }
    }

    /// Takes the first hole if its time is up at `now_ns`, or in any case, together with what adjoins it and is no better.
    pub(super) fn give_up_first(&mut self, now_ns: u64, in_any_case: bool) -> Option<(u64, u64)> {
        let first = self.holes.first_entry()?;
        if !in_any_case && first.get().give_up_ns > now_ns {
            return None;
        }
        let (from, hole) = first.remove_entry();
        self.forget(from, hole.to, &hole);
        let mut to = hole.to;
        while let Some(next) = self.holes.first_entry() {
            // What was missed at the same time is not asked for either when no answer came: the server is silent.
            let is_due = in_any_case || next.get().give_up_ns <= now_ns || next.get().seen_ns == hole.seen_ns;
            if *next.key() != to || !is_due {
                break;
            }
            let (from, hole) = next.remove_entry();
            self.forget(from, hole.to, &hole);
            to = hole.to;
        }
        Some((from, to))
    }

    /// `from..to`, a part of `hole`, is no longer missing, or no longer waited for.
    fn forget(&mut self, from: u64, to: u64, hole: &Hole) {
        if hole.is_asked {
            self.outstanding -= to - from;
        }
        if std::mem::take(&mut self.is_blocked) {
            self.next_ask_ns = 0;
        }
    }

    /// What is to be asked for at `now_ns`: calls `ask` with the first message, their number, and how many of them are
    /// asked for for the first time.
    pub(super) fn ask(&mut self, now_ns: u64, patience: &Patience, mut ask: impl FnMut(u64, u64, u64)) {
        if self.is_empty() || now_ns < self.next_ask_ns {
            return;
        }
        (self.next_ask_ns, self.is_blocked) = (NEVER, false);
        let mut at = 0;
        while let Some((&from, &hole)) = self.holes.range(at..).next() {
            at = hole.to;
            if hole.ask_ns > now_ns || hole.requests_left == 0 {
                if hole.requests_left > 0 {
                    self.next_ask_ns = self.next_ask_ns.min(hole.ask_ns);
                }
                continue;
            }
            let room = patience.max_outstanding.saturating_sub(self.outstanding);
            let most = if hole.is_asked { patience.chunk } else { patience.chunk.min(room) };
            if most == 0 || self.is_full() {
                self.is_blocked = true;
                continue;
            }
            let to = hole.to.min(from.saturating_add(most));
            if to < hole.to {
                self.holes.insert(to, hole);
            }
            at = to;
            let asked = hole.after_asking(to, now_ns, patience);
            self.next_ask_ns = self.next_ask_ns.min(asked.ask_ns);
            self.holes.insert(from, asked);
            let new = if hole.is_asked { 0 } else { to - from };
            self.outstanding += new;
            ask(from, to - from, new);
        }
    }

    /// Messages that are asked for, and missing.
    #[cfg(test)]
    pub(super) fn outstanding(&self) -> u64 {
        self.holes.iter().filter(|(_, hole)| hole.is_asked).map(|(from, hole)| hole.to - from).sum()
    }

    /// When something is to be done.
    pub(super) fn due_ns(&self) -> Option<u64> {
        let (_, first) = self.holes.first_key_value()?;
        Some(first.give_up_ns.min(self.next_ask_ns))
    }
}

impl Hole {
    fn after_asking(self, to: u64, now_ns: u64, patience: &Patience) -> Self {
        let requests_left = self.requests_left - 1;
        let ask_ns = if requests_left == 0 { NEVER } else { now_ns.saturating_add(patience.ask_again_after_ns) };
        let give_up_ns = if self.is_asked { self.give_up_ns } else { now_ns.saturating_add(patience.answer_within_ns) };
        Self { to, ask_ns, give_up_ns, requests_left, is_asked: true, ..self }
    }
}
