//! A member of a consumer group, which feeds a pipeline.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode as Code};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::close::{self, Member};
use super::config::{KafkaConfig, OnError, StartAt, refused};
use super::context::{self, Change, Client, Context};
use super::counters::{KafkaCount, KafkaCounters};
use super::dead_letters::{DeadLetters, OnUndecodable};
use super::decode::DecodeRecord;
use super::error::{KafkaError, Trouble};
use super::lag::KafkaLag;
use super::outbox::SinkProgress;
use super::partitions::Partitions;
use super::probe::Question;
use super::taking::{Pending, Taking, record_of};
use super::unfinished::{Assignment, Unfinished};
use super::watch::Watch;
use crate::degradation::DegradationThresholds;
use crate::ingress::Ingress;
use crate::message::{Message, wall_clock_ns};
use crate::source::PumpEnd;

/// Records that are taken at once, before anything else is looked at.
const BURST: usize = 512;
/// How often finished offsets are stored.
const STORE_INTERVAL: Duration = Duration::from_millis(20);
/// For how long lanes may have no room before the partitions are paused, so that the client can be polled without getting records.
const STUCK: Duration = Duration::from_millis(500);
/// A look at what is going on, while there is nothing to take.
const NAP: Duration = Duration::from_millis(20);
/// The same, while something is on its way.
const SHORT_NAP: Duration = Duration::from_millis(1);
/// While lanes have no room.
const MOMENT: Duration = Duration::from_micros(50);
/// How long the group is asked for what it has committed.
const ASK: Duration = Duration::from_secs(5);

/// A source that takes its share of the partitions of some topics. See [the module](super).
pub struct KafkaSource<M, D> {
    client: Member,
    config: KafkaConfig,
    decoder: D,
    counters: Arc<KafkaCounters>,
    dead_letters: DeadLetters,
    sink: Option<SinkProgress>,
    /// Ends with the source.
    _watch: Watch,
    partitions: Partitions,
    unfinished: Unfinished,
    /// Messages that were made of records and are not in a lane yet, in order.
    pending: VecDeque<Pending<M>>,
    /// Messages of the record in hand.
    decoded: Vec<M>,
    /// Since when lanes have no room.
    stuck_since: Option<Instant>,
    next_store: Instant,
    /// What was said of already, so that it is said once.
    told: Option<Trouble>,
}

impl<M: Message, D: DecodeRecord<M>> KafkaSource<M, D> {
    /// Joins the group; partitions come while it [runs](Self::run).
    ///
    /// # Errors
    /// When the settings make no sense; and when no broker can be reached, a topic is not there, or a broker refuses us, unless the
    /// settings say to go on trying.
    pub fn open(config: KafkaConfig, decoder: D, on_undecodable: OnUndecodable) -> Result<Self, KafkaError> {
        let client_config = config.consumer()?;
        Question::of_source(&config).ask(client_config.clone())?;
        let counters = Arc::new(KafkaCounters::new((config.statistics_interval * 8).max(Duration::from_secs(2))));
        let dead_letters = DeadLetters::open(&config.cluster, on_undecodable)?;
        let watch = Watch::start(client_config.clone(), config.group.clone(), &counters)?;
        let client = Client::from_config_and_context(&client_config, Context::new(Arc::clone(&counters)));
        let client = client.map_err(refused)?;
        let topics: Vec<&str> = config.topics.iter().map(String::as_str).collect();
        client.subscribe(&topics).map_err(|error| KafkaError::Client(error.to_string()))?;
        Ok(Self {
            client: Member::new(client),
            config,
            decoder,
            counters,
            dead_letters,
            sink: None,
            _watch: watch,
            partitions: Partitions::default(),
            unfinished: Unfinished::default(),
            pending: VecDeque::new(),
            decoded: Vec::new(),
            stuck_since: None,
            next_store: Instant::now(),
            told: None,
        })
    }

    /// What it counts, and where its partitions stand: for [metrics](crate::PipelineBuilder::kafka).
    pub fn counters(&self) -> &Arc<KafkaCounters> {
        &self.counters
    }

    /// The lag of this member, for a pipeline with these thresholds.
    pub fn lag(&self, thresholds: &DegradationThresholds) -> KafkaLag {
        KafkaLag::new(Arc::clone(&self.counters), thresholds)
    }

    /// A record counts as finished only when what handlers have handed to this sink for it is delivered.
    #[must_use]
    pub fn with_sink(mut self, sink: SinkProgress) -> Self {
        self.sink = Some(sink);
        self
    }

    /// Feeds the pipeline until `stop` says so; it is asked often. Then finishes what was taken, commits and leaves the group, within
    /// [`drain_timeout`](KafkaConfig::drain_timeout).
    ///
    /// # Errors
    /// What the client cannot go on after, or may not by the settings; a record that cannot be decoded, if that is to end it; a sink or
    /// dead letters that cannot be written. Offsets of what was finished are committed all the same.
    pub fn run(mut self, ingress: &mut Ingress<M>, mut stop: impl FnMut() -> bool) -> Result<PumpEnd, KafkaError> {
        self.unfinished = Unfinished::new(ingress.lanes());
        let ended = loop {
            if stop() {
                break Ok(PumpEnd::Stopped);
            }
            if ingress.is_closed() {
                break Ok(PumpEnd::PipelineClosed);
            }
            if let Err(error) = self.turn(ingress) {
                break Err(error);
            }
        };
        self.finish(ingress);
        ended
    }

    /// One round of everything.
    fn turn(&mut self, ingress: &mut Ingress<M>) -> Result<(), KafkaError> {
        while let Some(change) = self.client.context().next_change() {
            match change {
                Change::Assign(partitions) => self.take(&partitions)?,
                Change::Revoke(partitions) => self.give_up(&partitions, ingress),
            }
        }
        self.move_pending(ingress);
        self.pause_or_resume(ingress)?;
        self.poll(ingress)?;
        ingress.flush();
        self.settle(ingress)?;
        if Instant::now() >= self.next_store {
            self.next_store = Instant::now() + STORE_INTERVAL;
            self.store();
        }
        Ok(())
    }

    /// Takes records, if there is room for what is made of them, and has the client do what else it has to do.
    fn poll(&mut self, ingress: &mut Ingress<M>) -> Result<(), KafkaError> {
        let is_paused = self.counters.is_paused();
        if !is_paused && !self.has_room() {
            std::thread::sleep(MOMENT);
            return Ok(());
        }
        let nap = if self.unfinished.records() > 0 || !self.pending.is_empty() { SHORT_NAP } else { NAP };
        let mut receive_ns = None;
        let mut wait = nap;
        for _ in 0..BURST {
            // The client is borrowed by the record, so the record is copied out of by what else there is.
            let Self { client, partitions, unfinished, decoder, decoded, pending, counters, .. } = self;
            match client.poll(wait) {
                None => return Ok(()),
                Some(Err(error)) => return self.trouble(&error),
                Some(Ok(message)) => {
                    self.told = None;
                    // Once a burst, and not before the wait for it.
                    let receive_ns = *receive_ns.get_or_insert_with(wall_clock_ns);
                    let mut taking = Taking { partitions, unfinished, decoder, decoded, pending, counters, receive_ns };
                    let undecodable = taking.take(&message, ingress);
                    if let Some((record_id, malformed)) = undecodable {
                        self.dead_letters.write(&record_of(&message), record_id, &malformed, &self.counters)?;
                    }
                }
            }
            if !is_paused && !self.has_room() {
                return Ok(());
            }
            wait = Duration::ZERO;
        }
        Ok(())
    }

    /// Whether more records may be taken.
    fn has_room(&self) -> bool {
        self.pending.is_empty()
            && self.unfinished.records() < self.config.unfinished_max
            && self.dead_letters.has_room()
    }

    /// Moves what waits into the lanes, as far as they have room.
    fn move_pending(&mut self, ingress: &mut Ingress<M>) {
        while let Some(&(record, offset, message)) = self.pending.front() {
            let Some(place) = ingress.try_offer(message) else { break };
            self.unfinished.place(record, place);
            self.partitions.offered(record.assignment(), offset);
            self.pending.pop_front();
        }
        self.stuck_since = if self.has_room() { None } else { self.stuck_since.or_else(|| Some(Instant::now())) };
    }

    /// Pauses all partitions at CIRCUIT_BREAK, and when lanes have had no room for a while: the client has to be polled, or the group gives
    /// up on this member.
    fn pause_or_resume(&mut self, ingress: &Ingress<M>) -> Result<(), KafkaError> {
        let is_stuck = self.stuck_since.is_some_and(|since| since.elapsed() > STUCK);
        let is_paused = self.counters.is_paused();
        let shall_pause = !ingress.is_open() || is_stuck || (is_paused && !self.has_room());
        if shall_pause == is_paused {
            return Ok(());
        }
        let partitions = self.partitions.list();
        if shall_pause {
            self.client.pause(&partitions).map_err(lasting)?;
            self.counters.add(KafkaCount::Pauses, 1);
        } else {
            self.client.resume(&partitions).map_err(lasting)?;
        }
        self.counters.set_paused(shall_pause);
        Ok(())
    }

    /// Partitions have been assigned.
    fn take(&mut self, partitions: &TopicPartitionList) -> Result<(), KafkaError> {
        self.counters.add(KafkaCount::Rebalances, 1);
        // For what was written beside the offsets. The client asks for the offsets itself, as often as need be.
        let committed = match self.client.committed_offsets(partitions.clone(), ASK) {
            Ok(committed) => committed,
            Err(error) => {
                tracing::warn!(%error, "the group does not tell what it has committed: redelivered messages are not counted");
                TopicPartitionList::new()
            }
        };
        // What is here already begins anew: with an eager protocol, an assignment is all there is.
        let repeated = self.partitions.among(Some(partitions));
        self.partitions.remove(&repeated, &mut self.unfinished);
        let mut assignment = TopicPartitionList::new();
        for element in partitions.elements() {
            let (topic, number) = (element.topic(), element.partition());
            let found = committed.find_partition(topic, number);
            let committed = found.as_ref().and_then(|found| match found.offset() {
                Offset::Offset(offset) => Some((offset, found.metadata())),
                _ => None,
            });
            let is_from_start = self.config.start == StartAt::Earliest;
            let begin =
                self.partitions.add((topic, number), committed, is_from_start, &self.counters, &mut self.unfinished);
            let mut element = assignment.add_partition(topic, number);
            if let Some(begin) = begin {
                element.set_offset(Offset::Offset(begin)).map_err(lasting)?;
            }
        }
        context::assign(&self.client, &assignment).map_err(lasting)?;
        if self.counters.is_paused() && partitions.count() > 0 {
            self.client.pause(partitions).map_err(lasting)?;
        }
        tracing::info!(partitions = partitions.count(), group = %self.config.group, "partitions were assigned");
        Ok(())
    }

    /// Partitions are to be given up: their records are finished as far as possible, and their offsets committed, before others
    /// get them.
    fn give_up(&mut self, partitions: &TopicPartitionList, ingress: &mut Ingress<M>) {
        let gone = self.partitions.among(Some(partitions));
        let is_lost = self.client.assignment_lost();
        if is_lost {
            self.put_back(&gone);
            self.counters.add(KafkaCount::Lost, gone.len() as u64);
            tracing::warn!(
                partitions = gone.len(),
                "the group has given up on this member: what was not committed comes again"
            );
        } else {
            self.drain(&gone, ingress, Instant::now() + self.config.drain_timeout);
            let offsets = self.last_offsets(&gone);
            if offsets.count() > 0
                && let Err(error) = self.client.commit(&offsets, CommitMode::Sync)
            {
                self.counters.add(KafkaCount::CommitFailures, 1);
                tracing::warn!(%error, "offsets of partitions that go could not be committed: what they cover comes again");
            }
        }
        self.partitions.remove(&gone, &mut self.unfinished);
        if let Err(error) = context::revoke(&self.client, partitions) {
            tracing::warn!(%error, "partitions could not be given up in good order");
        }
        tracing::info!(partitions = gone.len(), group = %self.config.group, "partitions were given up");
    }

    /// Lets go of messages of partitions that are in no lane yet: their records count as not taken.
    fn put_back(&mut self, gone: &[Assignment]) {
        let Self { pending, unfinished, .. } = self;
        // From the last on, so that each partition ends with its first.
        for (record, offset, _) in pending.iter().rev().filter(|(record, ..)| gone.contains(&record.assignment())) {
            unfinished.untake(*record, *offset);
        }
        pending.retain(|(record, ..)| !gone.contains(&record.assignment()));
    }

    /// Waits until the records of partitions are finished. Messages that are in no lane yet are let go: they come again.
    fn drain(&mut self, gone: &[Assignment], ingress: &mut Ingress<M>, deadline: Instant) {
        self.put_back(gone);
        ingress.flush();
        let is_drained = |unfinished: &mut Unfinished| gone.iter().all(|gone| unfinished.is_drained(*gone));
        while !is_drained(&mut self.unfinished) && Instant::now() < deadline && !ingress.has_failed() {
            if self.settle(ingress).is_err() {
                break;
            }
            std::thread::sleep(MOMENT);
        }
        let left = gone.iter().map(|gone| self.unfinished.open(*gone)).sum::<usize>();
        if left > 0 {
            self.counters.add(KafkaCount::GivenUp, left as u64);
            tracing::warn!(records = left, "records were not finished when their partitions went: they come again");
        }
    }

    /// Looks what is finished by now.
    fn settle(&mut self, ingress: &mut Ingress<M>) -> Result<(), KafkaError> {
        ingress.look_settled();
        for lane in 0..ingress.lanes() {
            let settled = ingress.settled(lane);
            let settled = self.sink.as_mut().map_or(settled, |sink| sink.settled(lane, settled));
            self.unfinished.settle(lane, settled);
        }
        if let Some(sink) = &self.sink {
            sink.check()?;
        }
        let Self { dead_letters, unfinished, counters, .. } = self;
        dead_letters.settle(counters, |record| unfinished.finish_part(record))
    }

    /// How far partitions that go have come, stored: what the client has stored, it commits by itself when they go, and that must not be
    /// less than what is committed by us.
    fn last_offsets(&mut self, gone: &[Assignment]) -> TopicPartitionList {
        let offsets = self.partitions.offsets(Some(gone), &mut self.unfinished);
        if offsets.count() > 0
            && let Err(error) = self.client.store_offsets(&offsets)
        {
            tracing::warn!(%error, "offsets could not be stored");
        }
        offsets
    }

    /// Stores how far the partitions have come; the client commits that by and by.
    fn store(&mut self) {
        let offsets = self.partitions.offsets(None, &mut self.unfinished);
        if offsets.count() > 0
            && let Err(error) = self.client.store_offsets(&offsets)
        {
            tracing::warn!(%error, "offsets could not be stored");
        }
    }

    /// What the client reports.
    fn trouble(&mut self, error: &ClientError) -> Result<(), KafkaError> {
        let trouble = Trouble::of(error);
        let reason = || self.client.context().reason(trouble, error);
        let brokers = || self.config.cluster.brokers.clone();
        let policy = match trouble {
            Trouble::Unreachable => self.config.on_unreachable,
            Trouble::UnknownTopic => self.config.on_unknown_topic,
            Trouble::Unauthorized => self.config.on_unauthorized,
            Trouble::Lasting => OnError::Fail,
            Trouble::Passing => OnError::Retry,
        };
        // One broker of several may go.
        let is_all = trouble != Trouble::Unreachable || error.rdkafka_error_code() == Some(Code::AllBrokersDown);
        if policy == OnError::Fail && is_all {
            return Err(match trouble {
                Trouble::Unreachable => KafkaError::Unreachable { brokers: brokers(), reason: reason() },
                Trouble::UnknownTopic => {
                    KafkaError::UnknownTopic { topic: self.config.topics.join(", "), brokers: brokers() }
                }
                Trouble::Unauthorized => KafkaError::Unauthorized { brokers: brokers(), reason: reason() },
                Trouble::Passing | Trouble::Lasting => KafkaError::Client(reason()),
            });
        }
        self.counters.add(KafkaCount::Errors, 1);
        if self.told.replace(trouble) != Some(trouble) {
            tracing::warn!(reason = reason(), brokers = %self.config.cluster.brokers, "kafka: the client goes on trying");
        }
        Ok(())
    }

    /// Finishes what was taken, commits, and leaves the group.
    fn finish(mut self, ingress: &mut Ingress<M>) {
        let deadline = Instant::now() + self.config.drain_timeout;
        let all = self.partitions.among(None);
        self.drain(&all, ingress, deadline);
        let offsets = self.last_offsets(&all);
        self.partitions.remove(&all, &mut self.unfinished);
        close::leave(self.client, offsets, &self.counters, deadline);
    }
}

/// An error that the client does not get over.
fn lasting(error: ClientError) -> KafkaError {
    KafkaError::Client(error.to_string())
}

impl<M, D> std::fmt::Debug for KafkaSource<M, D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaSource").field("group", &self.config.group).finish_non_exhaustive()
    }
}
