//! Messages that came before their turn.

use std::collections::BTreeMap;

/// A message, and when it was received.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) receive_ns: u64,
    pub(super) bytes: Box<[u8]>,
}

/// Messages by number: at most so many, and so many bytes.
#[derive(Debug)]
pub(super) struct Store {
    held: BTreeMap<u64, Held>,
    bytes: usize,
    max_messages: usize,
    max_bytes: usize,
}

impl Store {
    pub(super) fn new(max_messages: usize, max_bytes: usize) -> Self {
        Self { held: BTreeMap::new(), bytes: 0, max_messages, max_bytes }
    }

    /// The most memory that it takes, in bytes.
    pub(super) fn memory_bytes(&self) -> u64 {
        // A node of the tree is half empty at worst; a message's own memory is rounded up.
        let overhead = 2 * size_of::<(u64, Held)>() + 32;
        (self.max_messages as u64).saturating_mul(overhead as u64).saturating_add(self.max_bytes as u64)
    }

    pub(super) fn has_room(&self, message: &[u8]) -> bool {
        self.held.len() < self.max_messages && message.len() <= self.max_bytes - self.bytes
    }

    /// Keeps a message. The caller has seen to it that there is room.
    pub(super) fn insert(&mut self, sequence: u64, receive_ns: u64, message: &[u8]) {
        debug_assert!(self.has_room(message) && !self.contains(sequence));
        self.bytes += message.len();
        self.held.insert(sequence, Held { receive_ns, bytes: message.into() });
    }

    /// Takes the first message, if it is this one.
    pub(super) fn take(&mut self, sequence: u64) -> Option<Held> {
        let first = self.held.first_entry().filter(|first| *first.key() == sequence)?;
        let held = first.remove();
        self.bytes -= held.bytes.len();
        Some(held)
    }

    pub(super) fn contains(&self, sequence: u64) -> bool {
        self.held.contains_key(&sequence)
    }

    pub(super) fn len(&self) -> usize {
        self.held.len()
    }
}
