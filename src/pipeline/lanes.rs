//! The lanes of a pipeline that is being built.

use std::sync::Arc;

use super::error::StartError;
use crate::lane::{LaneCounters, Receiver, Sender, Waker, lane};
use crate::message::Message;

/// Lanes under construction, sorted for those who get them.
pub(super) struct Lanes<M> {
    pub(super) receivers: Vec<Vec<Receiver<M>>>,
    pub(super) counters: Vec<Vec<Arc<LaneCounters>>>,
}

impl<M: Message> Lanes<M> {
    pub(super) fn new(workers: usize) -> Self {
        Self { receivers: (0..workers).map(|_| Vec::new()).collect(), counters: vec![Vec::new(); workers] }
    }

    /// A lane from one producer to each worker; returns the producer's ends.
    pub(super) fn open_to_all(
        &mut self,
        wakers: &[Arc<Waker>],
        capacity: usize,
        prefault: bool,
    ) -> Result<Vec<Sender<M>>, StartError> {
        let open = |(worker, waker): (usize, &Arc<Waker>)| {
            let no_memory = |_| StartError::NoMemory { lane_capacity: capacity, message_bytes: size_of::<M>() };
            let (sender, receiver) = lane(capacity, prefault, Arc::clone(waker)).map_err(no_memory)?;
            self.receivers[worker].push(receiver);
            self.counters[worker].push(Arc::clone(sender.counters()));
            Ok(sender)
        };
        wakers.iter().enumerate().map(open).collect()
    }
}
