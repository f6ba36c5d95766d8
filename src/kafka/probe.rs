//! A first question to the cluster, so that what cannot work is told at the start.

use rdkafka::ClientConfig;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode as Code};
use rdkafka::{ClientContext, config::RDKafkaLogLevel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::config::{KafkaConfig, OnError, refused};
use super::error::{KafkaError, Trouble};

/// Keeps what the client says of its troubles.
#[derive(Clone, Default)]
struct Listener(Arc<Mutex<Option<(Code, String)>>>);

impl Listener {
    fn told(&self) -> Option<(Code, String)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ClientContext for Listener {
    fn log(&self, _: RDKafkaLogLevel, facility: &str, text: &str) {
        tracing::debug!(facility, "{text}");
    }

    fn error(&self, error: ClientError, reason: &str) {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(code) = error.rdkafka_error_code() else { return };
        // What says why is worth more than that all are down by now.
        if code != Code::AllBrokersDown || told.is_none() {
            *told = Some((code, reason.to_owned()));
        }
    }
}

impl ConsumerContext for Listener {}

/// Asks for the topics, and tells of what the settings do not want to wait for.
pub(super) fn ask(config: &KafkaConfig) -> Result<(), KafkaError> {
    let mut client_config: ClientConfig = config.consumer()?;
    // Without a group, so that nobody joins.
    client_config.remove("group.id").set("statistics.interval.ms", "0");
    let listener = Listener::default();
    let client = BaseConsumer::from_config_and_context(&client_config, listener.clone()).map_err(refused)?;
    let deadline = Instant::now() + config.connect_timeout;
    let brokers = || config.cluster.brokers.clone();
    for topic in config.topics.iter().filter(|topic| !topic.starts_with('^')) {
        let answer = loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let answer = client.fetch_metadata(Some(topic), left.min(Duration::from_millis(500)));
            // Has the client tell its troubles.
            while client.poll(Duration::ZERO).is_some() {}
            let is_refused = listener.told().is_some_and(|(code, _)| Trouble::of_code(code) == Trouble::Unauthorized);
            if answer.is_ok() || is_refused || left.is_zero() {
                break answer;
            }
        };
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                let told = listener.told();
                let (code, reason) =
                    told.unwrap_or_else(|| (error.rdkafka_error_code().unwrap_or(Code::Fail), error.to_string()));
                if Trouble::of_code(code) == Trouble::Unauthorized {
                    let refused = KafkaError::Unauthorized { brokers: brokers(), reason };
                    return unless_retried(config.on_unauthorized, refused);
                }
                return unless_retried(config.on_unreachable, KafkaError::Unreachable { brokers: brokers(), reason });
            }
        };
        let told = answer.topics().iter().find(|told| told.name() == topic);
        let error = told.and_then(|told| told.error()).map(Code::from);
        let is_there = told.is_some_and(|told| !told.partitions().is_empty());
        match error.map(Trouble::of_code) {
            Some(Trouble::Unauthorized) => {
                let reason = format!("topic {topic}: not allowed");
                unless_retried(config.on_unauthorized, KafkaError::Unauthorized { brokers: brokers(), reason })?;
            }
            Some(Trouble::UnknownTopic) | None if !is_there => {
                let unknown = KafkaError::UnknownTopic { topic: topic.clone(), brokers: brokers() };
                unless_retried(config.on_unknown_topic, unknown)?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn unless_retried(policy: OnError, error: KafkaError) -> Result<(), KafkaError> {
    if policy == OnError::Fail {
        return Err(error);
    }
    tracing::warn!(%error, "kafka: the client goes on trying");
    Ok(())
}
