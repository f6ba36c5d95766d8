//! The queues, each as its users would write it for speed.

use std::hint::spin_loop;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel;
use crossbeam::queue::ArrayQueue;
use plimsoll::internals::{Sender, Waiter, Waker, lane};
use plimsoll::{Price, SymbolId, Tick, WaitStrategy};

use crate::harness;
use crate::load::{Load, Outlet, Sink, tick};

/// Settings of a contender.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Settings {
    /// Messages that the queue holds.
    pub(crate) capacity: usize,
    /// Pauses of a consumer that runs dry, before it looks again; and of a producer that finds no room. Where the contender
    /// does not bring a way to wait of its own.
    pub(crate) pauses: u32,
}

/// A queue, and how it is used.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(clippy::enum_variant_names, reason = "they are called so")]
pub(crate) enum Queue {
    /// Ours.
    Lane(WaitStrategy),
    ArrayQueue,
    CrossbeamChannel,
    RtrbChunks,
    Disruptor,
    SyncChannel,
    /// Not a queue: two threads that exchange large buffers, which is the least that it can cost.
    Buffers,
}

/// Ours first; then the peers; and what no queue can be faster than.
pub(crate) const QUEUES: [(&str, Queue); 9] = [
    ("lane, busy spin", Queue::Lane(WaitStrategy::BusySpin)),
    ("lane, spin then yield", Queue::Lane(WaitStrategy::SpinThenYield)),
    ("lane, spin then park", Queue::Lane(WaitStrategy::SpinThenPark)),
    ("crossbeam ArrayQueue", Queue::ArrayQueue),
    ("crossbeam channel", Queue::CrossbeamChannel),
    ("rtrb, chunks", Queue::RtrbChunks),
    ("disruptor, batches", Queue::Disruptor),
    ("std sync_channel", Queue::SyncChannel),
    ("limit: buffers of 64 Ki", Queue::Buffers),
];
pub(crate) const LIMIT: usize = QUEUES.len() - 1;
pub(crate) const PEERS: std::ops::Range<usize> = 3..LIMIT;

/// Sends a load through a queue. Returns the consumer's findings and the time from the first message sent to the last one taken.
///
/// `sink` is made when all is ready, with the time of the start.
pub(crate) fn run<S: Sink>(
    queue: Queue,
    settings: Settings,
    load: impl Load,
    sink: impl FnOnce(Instant) -> S,
) -> (S, Duration) {
    // Time for the consumer to start and to run dry. Not counted.
    let start = Instant::now() + Duration::from_millis(20);
    let sink = sink(start);
    match queue {
        Queue::Lane(wait) => over_lane(wait, settings, start, load, sink),
        Queue::ArrayQueue => over_array_queue(settings, start, load, sink),
        Queue::CrossbeamChannel => over_channel(settings, start, load, sink),
        Queue::RtrbChunks => over_rtrb(settings, start, load, sink),
        Queue::Disruptor => over_disruptor(settings, start, load, sink),
        Queue::SyncChannel => over_sync_channel(settings, start, load, sink),
        Queue::Buffers => over_buffers(start, load, sink),
    }
}

#[inline]
fn pause(pauses: u32) {
    (0..pauses).for_each(|_| spin_loop());
}

/// Starts a consumer on core 1.
fn consumer<S: Sink>(mut sink: S, consume: impl FnOnce(&mut S) + Send + 'static) -> JoinHandle<S> {
    std::thread::spawn(move || {
        harness::pin(1);
        consume(&mut sink);
        sink
    })
}

/// Sends it all. `outlet` goes before the consumer is waited for, since it may be what tells that no more will come.
fn produce<S: Sink>(
    start: Instant,
    load: impl Load,
    mut outlet: impl Outlet,
    consumer: JoinHandle<S>,
) -> (S, Duration) {
    while Instant::now() < start {
        spin_loop();
    }
    load.produce(start, &mut outlet);
    drop(outlet);
    let sink = consumer.join().unwrap();
    (sink, start.elapsed())
}

struct LaneOutlet {
    sender: Sender<Tick>,
}

impl Outlet for LaneOutlet {
    #[inline(always)] // the loop over the bursts is inlined for all, or for none
    fn send(&mut self, first: u64, count: u64) {
        let (mut next, end) = (first, first + count);
        while next < end {
            match self.sender.reserve() {
                Some(reserved) => next += reserved.write_some((end - next) as usize, |i| tick(next + i as u64)) as u64,
                None => spin_loop(),
            }
            self.sender.publish();
        }
    }
}

fn over_lane<S: Sink>(
    wait: WaitStrategy,
    settings: Settings,
    start: Instant,
    load: impl Load,
    sink: S,
) -> (S, Duration) {
    let waker = Arc::new(Waker::new(wait));
    let (sender, mut receiver) = lane::<Tick>(settings.capacity, true, Arc::clone(&waker)).unwrap();
    let consumer = consumer(sink, move |sink| {
        let mut waiter = Waiter::new(wait, &waker);
        loop {
            if let Some(chunk) = receiver.front(128) {
                let count = chunk.messages.len();
                chunk.messages.iter().for_each(|tick| sink.take(tick));
                receiver.finish(count);
                waiter.worked(count);
            } else if receiver.is_done() {
                return;
            } else {
                waiter.wait(|| receiver.is_ready() || receiver.is_done());
            }
        }
    });
    produce(start, load, LaneOutlet { sender }, consumer)
}

/// A queue that takes one message at a time.
struct OneByOne<F>(F);

impl<F: FnMut(Tick)> Outlet for OneByOne<F> {
    #[inline(always)] // the loop over the bursts is inlined for all, or for none
    fn send(&mut self, first: u64, count: u64) {
        (first..first + count).for_each(|i| (self.0)(tick(i)));
    }
}

fn over_array_queue<S: Sink>(settings: Settings, start: Instant, load: impl Load, sink: S) -> (S, Duration) {
    let queue = Arc::new(ArrayQueue::<Tick>::new(settings.capacity));
    let (total, source) = (load.total(), Arc::clone(&queue));
    let consumer = consumer(sink, move |sink| {
        while sink.taken() < total {
            match source.pop() {
                Some(tick) => sink.take(&tick),
                None => pause(settings.pauses),
            }
        }
    });
    let send = move |mut tick| {
        while let Err(back) = queue.push(tick) {
            tick = back;
            spin_loop();
        }
    };
    produce(start, load, OneByOne(send), consumer)
}

fn over_channel<S: Sink>(settings: Settings, start: Instant, load: impl Load, sink: S) -> (S, Duration) {
    let (sender, receiver) = channel::bounded::<Tick>(settings.capacity);
    let consumer = consumer(sink, move |sink| {
        loop {
            match receiver.try_recv() {
                Ok(tick) => sink.take(&tick),
                Err(channel::TryRecvError::Empty) => pause(settings.pauses),
                Err(channel::TryRecvError::Disconnected) => return,
            }
        }
    });
    produce(start, load, OneByOne(move |tick| sender.send(tick).unwrap()), consumer)
}

fn over_sync_channel<S: Sink>(settings: Settings, start: Instant, load: impl Load, sink: S) -> (S, Duration) {
    use std::sync::mpsc::{TryRecvError, sync_channel};
    let (sender, receiver) = sync_channel::<Tick>(settings.capacity);
    let consumer = consumer(sink, move |sink| {
        loop {
            match receiver.try_recv() {
                Ok(tick) => sink.take(&tick),
                Err(TryRecvError::Empty) => pause(settings.pauses),
                Err(TryRecvError::Disconnected) => return,
            }
        }
    });
    produce(start, load, OneByOne(move |tick| sender.send(tick).unwrap()), consumer)
}

struct RtrbOutlet {
    producer: rtrb::Producer<Tick>,
    /// The most that one chunk may have.
    most: u64,
}

impl Outlet for RtrbOutlet {
    #[inline(always)] // the loop over the bursts is inlined for all, or for none
    fn send(&mut self, first: u64, count: u64) {
        let (mut next, end) = (first, first + count);
        while next < end {
            let wanted = (end - next).min(self.most);
            match self.producer.write_chunk_uninit(wanted as usize) {
                Ok(chunk) => {
                    chunk.fill_from_iter((next..next + wanted).map(tick));
                    next += wanted;
                }
                Err(_) => spin_loop(),
            }
        }
    }
}

fn over_rtrb<S: Sink>(settings: Settings, start: Instant, load: impl Load, sink: S) -> (S, Duration) {
    let (producer, mut source) = rtrb::RingBuffer::<Tick>::new(settings.capacity);
    let total = load.total();
    let consumer = consumer(sink, move |sink| {
        while sink.taken() < total {
            let slots = source.slots();
            if slots == 0 {
                pause(settings.pauses);
                continue;
            }
            let chunk = source.read_chunk(slots).unwrap();
            let (one, two) = chunk.as_slices();
            one.iter().chain(two).for_each(|tick| sink.take(tick));
            chunk.commit_all();
        }
    });
    produce(start, load, RtrbOutlet { producer, most: settings.capacity as u64 / 2 }, consumer)
}

struct DisruptorOutlet<P> {
    producer: P,
    most: u64,
}

impl<P: disruptor::Producer<Tick>> Outlet for DisruptorOutlet<P> {
    #[inline(always)] // the loop over the bursts is inlined for all, or for none
    fn send(&mut self, first: u64, count: u64) {
        let (mut next, end) = (first, first + count);
        while next < end {
            let burst = (end - next).min(self.most);
            if burst == 1 {
                self.producer.publish(|slot| *slot = tick(next));
            } else {
                self.producer.batch_publish(burst as usize, |slots| {
                    slots.zip(next..).for_each(|(slot, i)| *slot = tick(i));
                });
            }
            next += burst;
        }
    }
}

/// How a disruptor's consumer waits: the library asks for a type.
#[derive(Clone, Copy)]
struct Pauses(u32);

impl disruptor::wait_strategies::WaitStrategy for Pauses {
    #[inline]
    fn wait_for(&self, _: disruptor::Sequence) {
        pause(self.0);
    }
}

fn over_disruptor<S: Sink>(settings: Settings, start: Instant, load: impl Load, sink: S) -> (S, Duration) {
    let empty = || Tick::trade(SymbolId::new(0), 0, Price::from_billionths(0), 0);
    let total = load.total();
    let (done, finished) = channel::bounded(1);
    let on_its_thread = move || {
        harness::pin(1);
        Some(sink)
    };
    let handle = move |sink: &mut Option<S>, tick: &Tick, _, _| {
        if let Some(current) = sink {
            current.take(tick);
            if current.taken() == total {
                done.send(sink.take()).unwrap();
            }
        }
    };
    let producer = disruptor::build_single_producer(settings.capacity, empty, Pauses(settings.pauses))
        .handle_events_and_state_with(handle, on_its_thread)
        .build();
    let consumer = std::thread::spawn(move || finished.recv().unwrap().unwrap());
    produce(start, load, DisruptorOutlet { producer, most: settings.capacity as u64 / 2 }, consumer)
}

/// Two buffers, and which of them are full.
struct BuffersOutlet {
    shared: Arc<[Buffer; 2]>,
    turn: usize,
    open: Option<Vec<Tick>>,
}

const BUFFER: usize = 1 << 16;

struct Buffer {
    full: AtomicBool,
    ticks: ArrayQueue<Vec<Tick>>,
}

impl BuffersOutlet {
    fn hand_over(&mut self) {
        let Some(buffer) = self.open.take() else { return };
        let place = &self.shared[self.turn];
        place.ticks.push(buffer).unwrap();
        place.full.store(true, Ordering::Release);
        self.turn = 1 - self.turn;
    }
}

impl Outlet for BuffersOutlet {
    #[inline(always)] // the loop over the bursts is inlined for all, or for none
    fn send(&mut self, first: u64, count: u64) {
        let (mut next, end) = (first, first + count);
        while next < end {
            if self.open.is_none() {
                let place = &self.shared[self.turn];
                while place.full.load(Ordering::Acquire) {
                    spin_loop();
                }
                self.open = place.ticks.pop();
                self.open.as_mut().unwrap().clear();
            }
            let buffer = self.open.as_mut().unwrap();
            let some = (end - next).min((BUFFER - buffer.len()) as u64);
            buffer.extend((next..next + some).map(tick));
            next += some;
            if buffer.len() == BUFFER {
                self.hand_over();
            }
        }
    }
}

impl Drop for BuffersOutlet {
    fn drop(&mut self) {
        self.hand_over();
    }
}

fn over_buffers<S: Sink>(start: Instant, load: impl Load, sink: S) -> (S, Duration) {
    let shared = Arc::new([(); 2].map(|()| {
        let ticks = ArrayQueue::new(1);
        ticks.push(vec![tick(0); BUFFER]).unwrap();
        Buffer { full: AtomicBool::new(false), ticks }
    }));
    let (total, source) = (load.total(), Arc::clone(&shared));
    let consumer = consumer(sink, move |sink| {
        for turn in (0..2).cycle() {
            if sink.taken() == total {
                return;
            }
            let place = &source[turn];
            while !place.full.load(Ordering::Acquire) {
                spin_loop();
            }
            let buffer = place.ticks.pop().unwrap();
            buffer.iter().for_each(|tick| sink.take(tick));
            place.ticks.push(buffer).unwrap();
            place.full.store(false, Ordering::Release);
        }
    });
    produce(start, load, BuffersOutlet { shared, turn: 0, open: None }, consumer)
}
