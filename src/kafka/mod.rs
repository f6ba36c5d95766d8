//! Many Plimsolls in one Kafka consumer group: who outgrows one machine runs several, and Kafka divides the stream.
mod close;
mod config;
mod context;
mod counters;
mod dead_letters;
mod decode;
mod encode;
mod error;
mod lag;
mod partitions;
mod probe;
mod scaling;
mod sink;
mod source;
mod unfinished;
mod watch;

pub use config::{AssignmentStrategy, ClusterConfig, KafkaConfig, OnError, Secret, StartAt, is_secret};
pub use counters::{KafkaCount, KafkaCounters, PartitionCounters};
pub use dead_letters::OnUndecodable;
pub use decode::{DecodeRecord, Record, TickDecoder, TickFormat};
pub use error::KafkaError;
pub use lag::KafkaLag;
pub use scaling::{SCALING_RULES, ScalingAdvice, ScalingRule};
pub use sink::{KafkaSink, SinkConfig, SinkCounters, SinkFormat, SinkHandler, SinkProgress};
pub use source::KafkaSource;
