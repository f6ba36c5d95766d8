//! Records that cannot be decoded.

use std::sync::Arc;

use plimsoll::kafka::{KafkaCount, KafkaError, OnUndecodable};
use rdkafka::message::{Headers, Message};
use rdkafka::types::RDKafkaApiKey;
use rdkafka::types::RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS;

use crate::cluster::{Cluster, text, unique, until};
use crate::member::{Member, Setup, config};

const GOOD: &str = "{\"symbol\":\"S0\",\"ts\":1,\"price\":1.5,\"size\":1}";
const BAD: &str = "{\"symbol\":\"S0\",\"ts\":1,\"price\":\"x\",\"size\":1}";

/// Five good records, a bad one at offset 3 among them.
fn produce(cluster: &Cluster, topic: &str) {
    for n in 1..7u64 {
        let payload = if n == 4 { BAD.to_owned() } else { GOOD.replace("\"size\":1", &format!("\"size\":{n}")) };
        cluster.produce(topic, 0, "S0", payload.as_bytes());
    }
    cluster.flush();
}

fn run(cluster: &Cluster, on_undecodable: OnUndecodable) -> (String, String, Member) {
    let (topic, group) = (cluster.topic(1), unique("group"));
    produce(cluster, &topic);
    let mut setup = Setup::new(config(cluster, &group, &topic));
    setup.on_undecodable = on_undecodable;
    (topic, group, Member::start(setup))
}

#[test]
fn one_ends_the_source_with_its_place_and_what_was_before_it_is_committed() {
    let cluster = Cluster::any();
    let (topic, group, member) = run(&cluster, OnUndecodable::Stop);
    until("it ends", || member.has_ended());
    let (ended, ledger) = member.end();
    let error = ended.unwrap_err();
    assert!(matches!(error, KafkaError::Undecodable { partition: 0, offset: 3, .. }), "{error}");
    assert!(error.to_string().contains(&format!("{topic}[0] at offset 3: row: price: \"x\"")), "{error}");
    assert_eq!(ledger.processed(), 3);
    assert_eq!(cluster.committed(&group, &topic, 1)[&0].0, 3);
}

#[test]
fn they_may_be_left_out_and_are_counted() {
    let cluster = Cluster::any();
    let (topic, group, member) = run(&cluster, OnUndecodable::Skip);
    until("the good ones are seen", || member.notebook.count() == 5);
    let counters = Arc::clone(&member.counters);
    let (_, ledger) = member.end();
    assert_eq!((ledger.processed(), counters.get(KafkaCount::Undecodable)), (5, 1));
    assert_eq!(cluster.committed(&group, &topic, 1)[&0].0, 6);
}

#[test]
fn they_go_to_a_file_with_their_place_and_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("letters.ndjson");
    let cluster = Cluster::any();
    let (topic, group, member) = run(&cluster, OnUndecodable::File(path.clone()));
    until("the good ones are seen", || member.notebook.count() == 5);
    let counters = Arc::clone(&member.counters);
    let _ = member.end();
    assert_eq!(counters.get(KafkaCount::DeadLetters), 1);
    assert_eq!(cluster.committed(&group, &topic, 1)[&0].0, 6);
    let letters = std::fs::read_to_string(&path).unwrap();
    let letter: serde_json::Value = serde_json::from_str(&letters).unwrap();
    assert_eq!((&letter["topic"], &letter["partition"], &letter["offset"]), (&topic.into(), &0.into(), &3.into()));
    assert_eq!((&letter["key"], &letter["payload"]), (&"S0".into(), &BAD.into()));
    assert!(letter["reason"].as_str().unwrap().contains("not a price"), "{letter}");
}

#[test]
fn a_file_that_cannot_be_written_is_told_at_the_start() {
    let cluster = Cluster::any();
    let topic = cluster.topic(1);
    let mut setup = Setup::new(config(&cluster, &unique("group"), &topic));
    setup.on_undecodable = OnUndecodable::File("/no/such/place/letters".into());
    let error = Member::try_start(setup).err().unwrap().to_string();
    assert!(error.contains("/no/such/place/letters") && error.contains("No such file"), "{error}");
}

#[test]
fn they_go_to_a_topic_as_they_are_with_headers() {
    let cluster = Cluster::any();
    let letters = cluster.topic(1);
    let (topic, group, member) = run(&cluster, OnUndecodable::Topic(letters.clone()));
    until("the good ones are seen", || member.notebook.count() == 5);
    let counters = Arc::clone(&member.counters);
    until("the letter is delivered", || counters.get(KafkaCount::DeadLetters) == 1);
    let _ = member.end();
    assert_eq!(cluster.committed(&group, &topic, 1)[&0].0, 6);
    let letters = cluster.read_all(&letters, 1);
    assert_eq!((letters.len(), &*text(&letters[0]), letters[0].key()), (1, BAD, Some(&b"S0"[..])));
    let headers = letters[0].headers().unwrap();
    let header = |name: &str| {
        let found = headers.iter().find(|header| header.key == name).unwrap();
        String::from_utf8(found.value.unwrap().to_vec()).unwrap()
    };
    assert_eq!((header("plimsoll.topic"), &*header("plimsoll.partition")), (topic, "0"));
    assert_eq!(header("plimsoll.offset"), "3");
    assert!(header("plimsoll.reason").contains("not a price"));
}

#[test]
fn an_offset_waits_for_the_letter_to_be_delivered() {
    let cluster = Cluster::mock();
    let (letters, topic, group) = (cluster.topic(1), cluster.topic(1), unique("group"));
    produce(&cluster, &topic);
    cluster.fake().request_errors(RDKafkaApiKey::Produce, &[RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS; 5]);
    let mut setup = Setup::new(config(&cluster, &group, &topic));
    setup.on_undecodable = OnUndecodable::Topic(letters.clone());
    let member = Member::start(setup);
    until("all is committed", || {
        let committed = cluster.committed(&group, &topic, 1).get(&0).map_or(0, |(offset, _)| *offset);
        let is_delivered = member.counters.get(KafkaCount::DeadLetters) == 1;
        assert!(committed <= 3 || is_delivered, "{committed} are committed");
        committed == 6
    });
    assert_eq!(cluster.read_all(&letters, 1).len(), 1);
    let _ = member.end();
}
