//! A first question to the cluster, so that what cannot work is told at the start.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError as ClientError, KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::metadata::Metadata;
use rdkafka::{ClientContext, types::RDKafkaRespErr};

use super::config::{ClusterConfig, KafkaConfig, OnError, refused};
use super::error::{KafkaError, Trouble};

/// How long an answer is waited for at once, in between which the client tells its troubles.
const STEP: Duration = Duration::from_millis(500);

/// Keeps what the client says of its troubles.
#[derive(Clone, Default)]
pub(super) struct Listener(Arc<Mutex<Option<(Code, String)>>>);

impl Listener {
    fn told(&self) -> Option<(Code, String)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn is_refused(&self) -> bool {
        self.told().is_some_and(|(code, _)| Trouble::of_code(code) == Trouble::Unauthorized)
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

/// A client that is no member of a group, for questions.
pub(super) fn client(mut config: ClientConfig) -> Result<BaseConsumer<Listener>, KafkaError> {
    config.remove("group.id").set("statistics.interval.ms", "0");
    BaseConsumer::from_config_and_context(&config, Listener::default()).map_err(refused)
}

/// What to ask for, and what not to wait for.
pub(super) struct Question<'a> {
    pub(super) brokers: &'a str,
    pub(super) topics: &'a [String],
    pub(super) within: Duration,
    pub(super) on_unreachable: OnError,
    pub(super) on_unknown_topic: OnError,
    pub(super) on_unauthorized: OnError,
}

impl<'a> Question<'a> {
    /// For a source.
    pub(super) fn of_source(config: &'a KafkaConfig) -> Self {
        Self {
            brokers: &config.cluster.brokers,
            topics: &config.topics,
            within: config.connect_timeout,
            on_unreachable: config.on_unreachable,
            on_unknown_topic: config.on_unknown_topic,
            on_unauthorized: config.on_unauthorized,
        }
    }

    /// Asks for topics that are to be written; brokers that make topics when they are asked for make them now.
    pub(super) fn ask_to_write(cluster: &ClusterConfig, topics: &[String]) -> Result<(), KafkaError> {
        let config = cluster.client(&[("allow.auto.create.topics", "true".to_owned())])?;
        let question = Question {
            brokers: &cluster.brokers,
            topics,
            within: Duration::from_secs(10),
            on_unreachable: OnError::Retry,
            on_unknown_topic: OnError::Fail,
            on_unauthorized: OnError::Fail,
        };
        question.ask(config)
    }

    /// Asks for the topics, and tells of what is not to be waited for.
    pub(super) fn ask(&self, config: ClientConfig) -> Result<(), KafkaError> {
        let client = client(config)?;
        let deadline = Instant::now() + self.within;
        for topic in self.topics.iter().filter(|topic| !topic.starts_with('^')) {
            match answer(&client, topic, deadline) {
                Ok(answer) => self.look_for(topic, &answer)?,
                Err(error) => return self.no_answer(&client, &error),
            }
        }
        Ok(())
    }

    fn no_answer(&self, client: &BaseConsumer<Listener>, error: &ClientError) -> Result<(), KafkaError> {
        let code = error.rdkafka_error_code().unwrap_or(Code::Fail);
        let (code, reason) = client.context().told().unwrap_or_else(|| (code, error.to_string()));
        let brokers = self.brokers.to_owned();
        if Trouble::of_code(code) == Trouble::Unauthorized {
            return unless_retried(self.on_unauthorized, KafkaError::Unauthorized { brokers, reason });
        }
        unless_retried(self.on_unreachable, KafkaError::Unreachable { brokers, reason })
    }

    fn look_for(&self, topic: &str, answer: &Metadata) -> Result<(), KafkaError> {
        let told = answer.topics().iter().find(|told| told.name() == topic);
        let is_there = told.is_some_and(|told| !told.partitions().is_empty());
        let trouble = told.and_then(|told| told.error()).map(|error| Trouble::of_code(error.into()));
        let (topic, brokers) = (topic.to_owned(), self.brokers.to_owned());
        match trouble {
            Some(Trouble::Unauthorized) => {
                let reason = format!("topic {topic} is not for us");
                unless_retried(self.on_unauthorized, KafkaError::Unauthorized { brokers, reason })
            }
            _ if !is_there => unless_retried(self.on_unknown_topic, KafkaError::UnknownTopic { topic, brokers }),
            _ => Ok(()),
        }
    }
}

/// What is known of a topic. A broker that makes the topic now may say so at first that it has no leader yet.
fn answer(client: &BaseConsumer<Listener>, topic: &str, deadline: Instant) -> KafkaResult<Metadata> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let answer = client.fetch_metadata(Some(topic), left.min(STEP).max(Duration::from_millis(1)));
        // Has the client tell its troubles.
        while client.poll(Duration::ZERO).is_some() {}
        let is_being_made = answer.as_ref().is_ok_and(|answer| {
            answer
                .topics()
                .iter()
                .any(|told| told.error() == Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE))
        });
        if (answer.is_ok() && !is_being_made) || client.context().is_refused() || left.is_zero() {
            return answer;
        }
    }
}

fn unless_retried(policy: OnError, error: KafkaError) -> Result<(), KafkaError> {
    if policy == OnError::Fail {
        return Err(error);
    }
    tracing::warn!(%error, "kafka: the client goes on trying");
    Ok(())
}
