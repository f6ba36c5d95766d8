//! Where records go that cannot be decoded.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode as Code};
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};

use super::config::{ClusterConfig, is_topic_name, refused};
use super::counters::{KafkaCount, KafkaCounters};
use super::decode::Record;
use super::error::KafkaError;
use super::probe::Question;
use super::unfinished::RecordId;
use crate::source::{MALFORMED_TOLD, Malformed, OnMalformed};

/// What to do about a record that cannot be decoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum OnUndecodable {
    /// End the source with an error that names it.
    #[default]
    Stop,
    /// Leave it out and count it.
    Skip,
    /// Write it to a topic, as it is, with headers that tell where it was and why it is there: `plimsoll.reason`,
    /// `plimsoll.topic`, `plimsoll.partition`, `plimsoll.offset`.
    Topic(String),
    /// Append it to a file, as a JSON object a line: `topic`, `partition`, `offset`, `timestamp_ms`, `reason`, and `key` and `payload` as
    /// text if they are UTF-8, else `key_hex` and `payload_hex`.
    File(PathBuf),
}

impl From<OnMalformed> for OnUndecodable {
    fn from(on_malformed: OnMalformed) -> Self {
        match on_malformed {
            OnMalformed::Stop => Self::Stop,
            OnMalformed::Skip => Self::Skip,
        }
    }
}

/// Records on their way to the topic of dead letters, at most: no more are taken until some are delivered.
const ON_THEIR_WAY_MAX: usize = 1024;

pub(super) struct DeadLetters {
    place: Place,
    /// Left out, or in the file, and not told of yet.
    finished: Vec<RecordId>,
}

enum Place {
    None { skip: bool },
    File { path: PathBuf, file: File },
    Topic { topic: String, producer: Box<BaseProducer<Reports>>, reports: Reports, on_their_way: usize },
}

/// What came of records for the topic.
#[derive(Clone, Default)]
struct Reports(Arc<Mutex<VecDeque<Result<RecordId, String>>>>);

impl Reports {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Result<RecordId, String>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Reports {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, text: &str) {
        tracing::debug!(facility, "{text}");
    }

    fn error(&self, error: ClientError, reason: &str) {
        tracing::debug!(%error, reason, "dead letters");
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = Box<RecordId>;

    fn delivery(&self, result: &DeliveryResult<'_>, record: Box<RecordId>) {
        self.lock().push_back(match result {
            Ok(_) => Ok(*record),
            Err((error, _)) => Err(error.to_string()),
        });
    }
}

impl DeadLetters {
    pub(super) fn open(cluster: &ClusterConfig, on_undecodable: OnUndecodable) -> Result<Self, KafkaError> {
        let place = match on_undecodable {
            OnUndecodable::Stop => Place::None { skip: false },
            OnUndecodable::Skip => Place::None { skip: true },
            OnUndecodable::File(path) => {
                let file = OpenOptions::new().create(true).append(true).open(&path);
                let file = file.map_err(|error| cannot_write(&path, &error))?;
                Place::File { path, file }
            }
            OnUndecodable::Topic(topic) => {
                if !is_topic_name(&topic) {
                    return Err(KafkaError::Config(format!("{topic:?} is no topic's name for dead letters")));
                }
                let config = cluster.client(&super::sink::producer_properties())?;
                Question::ask_to_write(cluster, std::slice::from_ref(&topic))?;
                let reports = Reports::default();
                let producer = BaseProducer::from_config_and_context(&config, reports.clone()).map_err(refused)?;
                Place::Topic { topic, producer: Box::new(producer), reports, on_their_way: 0 }
            }
        };
        Ok(Self { place, finished: Vec::new() })
    }

    /// Whether more may come.
    pub(super) fn has_room(&self) -> bool {
        !matches!(self.place, Place::Topic { on_their_way, .. } if on_their_way >= ON_THEIR_WAY_MAX)
    }

    /// Writes a record that cannot be decoded. It is finished when [`settle`](Self::settle) says so.
    ///
    /// # Errors
    /// When it is to end the source, or cannot be written.
    pub(super) fn write(
        &mut self,
        record: &Record<'_>,
        id: RecordId,
        malformed: &Malformed,
        counters: &KafkaCounters,
    ) -> Result<(), KafkaError> {
        let error = KafkaError::Undecodable {
            topic: record.topic.to_owned(),
            partition: record.partition,
            offset: record.offset,
            kind: malformed.kind.clone(),
            reason: malformed.reason.clone(),
        };
        if let Place::None { skip: false } = self.place {
            return Err(error);
        }
        if counters.get(KafkaCount::Undecodable) <= MALFORMED_TOLD {
            tracing::warn!(%error, "left out");
        }
        match &mut self.place {
            Place::None { .. } => self.finished.push(id),
            Place::File { path, file } => {
                let line = json_line(record, malformed);
                // One write, so that a line is there or not, and in the file's place, so that it outlives the process.
                file.write_all(line.as_bytes()).map_err(|error| cannot_write(path, &error))?;
                counters.add(KafkaCount::DeadLetters, 1);
                self.finished.push(id);
            }
            Place::Topic { topic, producer, on_their_way, .. } => {
                send(producer, topic, record, id, malformed)?;
                *on_their_way += 1;
            }
        }
        Ok(())
    }

    /// Tells which records are finished by now.
    ///
    /// # Errors
    /// When one could not be delivered.
    pub(super) fn settle(
        &mut self,
        counters: &KafkaCounters,
        mut finish: impl FnMut(RecordId),
    ) -> Result<(), KafkaError> {
        self.finished.drain(..).for_each(&mut finish);
        let Place::Topic { topic, producer, reports, on_their_way } = &mut self.place else { return Ok(()) };
        if *on_their_way == 0 {
            return Ok(());
        }
        producer.poll(Duration::ZERO);
        for report in std::mem::take(&mut *reports.lock()) {
            *on_their_way -= 1;
            let id = report.map_err(|reason| KafkaError::NotDelivered { topic: topic.clone(), reason })?;
            counters.add(KafkaCount::DeadLetters, 1);
            finish(id);
        }
        Ok(())
    }
}

fn send(
    producer: &BaseProducer<Reports>,
    topic: &str,
    record: &Record<'_>,
    id: RecordId,
    malformed: &Malformed,
) -> Result<(), KafkaError> {
    let (partition, offset) = (record.partition.to_string(), record.offset.to_string());
    let reason = format!("{}: {}", malformed.kind, malformed.reason);
    let told = [("reason", &*reason), ("topic", record.topic), ("partition", &*partition), ("offset", &*offset)];
    let headers = told.into_iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
        headers.insert(Header { key: &format!("plimsoll.{key}"), value: Some(value) })
    });
    let mut letter = BaseRecord::<[u8], [u8], _>::with_opaque_to(topic, Box::new(id)).headers(headers);
    letter.key = record.key;
    letter.payload = record.payload;
    loop {
        match producer.send(letter) {
            Ok(()) => return Ok(()),
            // Bounded by what may be on its way, and by the producer's own time for a delivery.
            Err((ClientError::MessageProduction(Code::QueueFull), back)) => {
                letter = back;
                producer.poll(Duration::from_millis(10));
            }
            Err((error, _)) => {
                let (topic, reason) = (topic.to_owned(), error.to_string());
                return Err(KafkaError::NotDelivered { topic, reason });
            }
        }
    }
}

fn cannot_write(path: &std::path::Path, error: &std::io::Error) -> KafkaError {
    KafkaError::DeadLetters { path: path.display().to_string(), reason: error.to_string() }
}

fn json_line(record: &Record<'_>, malformed: &Malformed) -> String {
    let mut object = serde_json::Map::new();
    object.insert("topic".to_owned(), record.topic.into());
    object.insert("partition".to_owned(), record.partition.into());
    object.insert("offset".to_owned(), record.offset.into());
    object.insert("timestamp_ms".to_owned(), record.timestamp_ms.into());
    object.insert("reason".to_owned(), format!("{}: {}", malformed.kind, malformed.reason).into());
    for (name, bytes) in [("key", record.key), ("payload", record.payload)] {
        let Some(bytes) = bytes else { continue };
        match std::str::from_utf8(bytes) {
            Ok(text) => object.insert(name.to_owned(), text.into()),
            Err(_) => object.insert(format!("{name}_hex"), hex(bytes).into()),
        };
    }
    format!("{}\n", serde_json::Value::Object(object))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Drop for DeadLetters {
    fn drop(&mut self) {
        // What was not reported is not finished, and comes again: there is nothing to wait for.
        if let Place::Topic { producer, .. } = &self.place {
            producer.purge(rdkafka::producer::PurgeConfig::default().queue().inflight());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_where_a_record_was_and_why_it_is_there() {
        let record = Record {
            topic: "t",
            partition: 3,
            offset: 9,
            key: Some(b"BHP"),
            payload: Some(&[0xff, 0x00]),
            timestamp_ms: Some(5),
        };
        let malformed = Malformed { kind: "row".to_owned(), reason: "no \"price\"".to_owned() };
        let line = json_line(&record, &malformed);
        assert_eq!(
            line,
            "{\"key\":\"BHP\",\"offset\":9,\"partition\":3,\"payload_hex\":\"ff00\",\"reason\":\"row: no \\\"price\\\"\",\"timestamp_ms\":5,\"topic\":\"t\"}\n"
        );
    }
}
