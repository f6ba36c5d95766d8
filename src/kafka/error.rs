//! What can go wrong with a cluster.

use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode as Code};

/// Why a source or a sink cannot start, or has ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KafkaError {
    /// Settings that make no sense.
    #[error("kafka: {0}")]
    Config(String),
    /// No broker answers.
    #[error("kafka: no broker of {brokers} can be reached: {reason}; check the address, or retry with on_unreachable")]
    Unreachable {
        /// The brokers that were asked.
        brokers: String,
        /// What the client says.
        reason: String,
    },
    /// A topic is not there.
    #[error("kafka: there is no topic {topic} at {brokers}: create it, or wait for it with on_unknown_topic")]
    UnknownTopic {
        /// The topic, or the pattern that fits none.
        topic: String,
        /// The brokers that were asked.
        brokers: String,
    },
    /// A broker refuses to know us, or lets us not do what we want.
    #[error("kafka: {brokers} refuse: {reason}; check the credentials, and what they may do")]
    Unauthorized {
        /// The brokers.
        brokers: String,
        /// What the client says.
        reason: String,
    },
    /// A record that cannot be decoded.
    #[error("kafka: {topic}[{partition}] at offset {offset}: {kind}: {reason}")]
    Undecodable {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The offset.
        offset: i64,
        /// What kind of message it is, as far as that is known.
        kind: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A record could not be delivered, after all that was tried.
    #[error("kafka: a record for topic {topic} could not be delivered: {reason}")]
    NotDelivered {
        /// The topic.
        topic: String,
        /// What the client says.
        reason: String,
    },
    /// A file of dead letters cannot be written.
    #[error("kafka: {path}: {reason}")]
    DeadLetters {
        /// The file.
        path: String,
        /// What the system says.
        reason: String,
    },
    /// The client cannot go on.
    #[error("kafka: {0}")]
    Client(String),
}

/// What an error of the client's means for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    Unreachable,
    UnknownTopic,
    Unauthorized,
    /// The client gets over it by itself.
    Passing,
    /// It does not.
    Lasting,
}

impl Trouble {
    pub(super) fn of(error: &ClientError) -> Self {
        if matches!(error, ClientError::MessageConsumptionFatal(_)) {
            return Self::Lasting;
        }
        error.rdkafka_error_code().map_or(Self::Passing, Self::of_code)
    }

    pub(super) fn of_code(code: Code) -> Self {
        match code {
            Code::BrokerTransportFailure
            | Code::AllBrokersDown
            | Code::Resolve
            | Code::BrokerNotAvailable
            | Code::OperationTimedOut
            | Code::RequestTimedOut
            | Code::NetworkException => Self::Unreachable,
            Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition => Self::UnknownTopic,
            Code::Authentication
            | Code::SaslAuthenticationFailed
            | Code::UnsupportedSASLMechanism
            | Code::IllegalSASLState
            | Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::SSL => Self::Unauthorized,
            Code::Fatal
            | Code::AutoOffsetReset
            | Code::InvalidTopic
            | Code::InvalidGroupId
            | Code::InconsistentGroupProtocol
            | Code::FencedInstanceId
            | Code::UnsupportedVersion => Self::Lasting,
            _ => Self::Passing,
        }
    }
}
