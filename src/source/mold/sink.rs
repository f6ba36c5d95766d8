//! What becomes of the messages that the arbiter delivers.

use zerocopy::IntoBytes;

use super::packet::{Header, Session};
use super::socket::Receiver;
use super::{ArbiterStats, Output};
use crate::source::{Burst, Decode, FeedCount, FeedCounters, Offset, OnMalformed, SourceError, Stamp};

/// How many malformed packets and messages are told of one by one.
const MALFORMED_TOLD: u64 = 10;

/// How far the stream is, and what is to be told at the end of a burst.
#[derive(Debug, Default)]
pub(in crate::source) struct Progress {
    pub(in crate::source) on_malformed: OnMalformed,
    /// What comes after the session is not the stream's.
    pub(in crate::source) ends_with_session: bool,
    pub(in crate::source) has_begun: bool,
    pub(in crate::source) has_ended: bool,
    pub(in crate::source) error: Option<SourceError>,
    pub(in crate::source) decoded: u64,
    pub(in crate::source) malformed: u64,
    /// How many malformed packets and messages were told of.
    pub(in crate::source) told: u64,
}

impl Progress {
    /// Tells what is wrong with a packet or a message that is left out, the first times.
    #[cold]
    pub(in crate::source) fn tell(&mut self, feed: &str, reason: &str) {
        self.told += 1;
        if self.told <= MALFORMED_TOLD {
            tracing::warn!(feed, reason, "left out, since it is malformed");
        }
    }

    pub(in crate::source) fn is_over(&self) -> bool {
        self.has_ended || self.error.is_some()
    }

    /// Adds what was counted since this was called before.
    pub(in crate::source) fn count(&mut self, stats: ArbiterStats, counters: &FeedCounters) {
        let malformed = stats.malformed + std::mem::take(&mut self.malformed);
        for (count, n) in [
            (FeedCount::Messages, std::mem::take(&mut self.decoded)),
            (FeedCount::Malformed, malformed),
            (FeedCount::Duplicates, stats.duplicates),
            (FeedCount::Reordered, stats.reordered),
            (FeedCount::Gaps, stats.gaps),
            (FeedCount::Missed, stats.missed),
            (FeedCount::Requested, stats.requested),
            (FeedCount::Recovered, stats.recovered),
        ] {
            counters.add(count, n);
        }
    }
}

/// Decodes what the arbiter delivers, into the burst.
pub(in crate::source) struct Sink<'a, D> {
    pub(in crate::source) decoder: &'a mut D,
    pub(in crate::source) burst: &'a mut Burst,
    pub(in crate::source) progress: &'a mut Progress,
    pub(in crate::source) name: &'a str,
    pub(in crate::source) server: Option<&'a Receiver>,
}

impl<D: Decode> Output for Sink<'_, D> {
    fn begin_session(&mut self, session: Session) {
        if self.progress.is_over() {
            return;
        }
        tracing::info!(feed = self.name, %session, "a session begins");
        if std::mem::replace(&mut self.progress.has_begun, true) {
            self.decoder.begin_session();
        }
    }

    fn message(&mut self, sequence: u64, receive_ns: u64, message: &[u8]) {
        if self.progress.is_over() {
            return;
        }
        match self.decoder.decode(message, Stamp { sequence, receive_ns }, self.burst) {
            Ok(()) => self.progress.decoded += 1,
            Err(malformed) if self.progress.on_malformed == OnMalformed::Stop => {
                self.progress.error = Some(SourceError::Malformed {
                    feed: self.name.to_owned(),
                    offset: Offset::Sequence(sequence),
                    kind: malformed.kind,
                    reason: malformed.reason,
                });
            }
            Err(malformed) => {
                self.progress.malformed += 1;
                self.progress
                    .tell(self.name, &format!("sequence {sequence}: {}: {}", malformed.kind, malformed.reason));
            }
        }
    }

    fn gap(&mut self, missed: u64) {
        if !self.progress.is_over() {
            self.burst.note_gap(missed);
            self.decoder.note_gap();
        }
    }

    fn end_session(&mut self, session: Session, told: bool) {
        if !self.progress.is_over() {
            tracing::info!(feed = self.name, %session, told, "the session has ended");
            self.progress.has_ended = told && self.progress.ends_with_session;
        }
    }

    fn request(&mut self, request: &Header) {
        if let Some(server) = self.server {
            server.send(request.as_bytes());
        }
    }
}
