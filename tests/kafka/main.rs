//! Members of a consumer group, against librdkafka's mock cluster, or against the brokers that `PLIMSOLL_TEST_KAFKA` names as
//! `HOST:PORT`. Each test makes topics and groups of its own, and deletes its topics.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod cluster;
mod group;
mod letters;
mod member;
mod overload;
mod program;
mod sink;
mod troubles;
