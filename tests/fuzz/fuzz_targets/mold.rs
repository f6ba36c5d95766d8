#![no_main]

use libfuzzer_sys::fuzz_target;
use plimsoll::source::mold::{Arbiter, ArbiterConfig, Header, Line, Output, Session};

/// Checks that every number of a session comes once, in order, as a message or in a hole.
#[derive(Default)]
struct Stream {
    next: u64,
    requests: u64,
    has_ended: bool,
}

impl Output for Stream {
    fn begin_session(&mut self, _: Session) {
        (self.next, self.has_ended) = (1, false);
    }

    fn message(&mut self, sequence: u64, _: u64, _: &[u8]) {
        assert!(sequence == self.next && !self.has_ended);
        self.next += 1;
    }

    fn gap(&mut self, missed: u64) {
        assert!(missed > 0 && !self.has_ended);
        self.next += missed;
    }

    fn end_session(&mut self, _: Session, _: bool) {
        assert!(!std::mem::replace(&mut self.has_ended, true));
    }

    fn request(&mut self, _: &Header) {
        self.requests += 1;
    }
}

// Steps of a byte that says what, a byte of time, a byte of length, and so much of a packet.
fuzz_target!(|bytes: &[u8]| {
    let Some((&first, mut rest)) = bytes.split_first() else { return };
    let config = ArbiterConfig {
        can_request: first & 1 == 1,
        recover_from_start: first & 2 == 2,
        max_messages: 16,
        max_bytes: 4096,
        ..ArbiterConfig::default()
    };
    let (mut arbiter, mut stream, mut now_ns) = (Arbiter::new(&config), Stream::default(), 0);
    while let [what, time, length, tail @ ..] = rest {
        let (packet, tail) = tail.split_at(usize::from(*length).min(tail.len()));
        now_ns += u64::from(*time) * 100_000;
        let line = if what & 1 == 0 { Line::Feed } else { Line::Answer };
        let _ = arbiter.packet(line, packet, now_ns, 0, &mut stream);
        if what & 2 == 2 {
            arbiter.poll(now_ns, &mut stream);
        }
        assert!(arbiter.held() <= 16);
        rest = tail;
    }
    arbiter.finish(&mut stream);
    assert_eq!(arbiter.held(), 0);
});
