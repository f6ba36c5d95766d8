//! Topics as the sink.

use std::num::NonZeroU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use plimsoll::kafka::{ClusterConfig, KafkaError, KafkaSink, SinkConfig, SinkFormat, TickFormat};
use rdkafka::message::Message;
use rdkafka::types::RDKafkaApiKey;
use rdkafka::types::RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS;

use crate::cluster::{Cluster, text, unique, until};
use crate::member::{Member, Setup, config};

pub(crate) type Sinks = Arc<Mutex<Option<KafkaSink>>>;

/// A setup whose handlers write to a sink, which is found in the second.
pub(crate) fn with_sink(mut setup: Setup, sink: SinkConfig) -> (Setup, Sinks) {
    let started: Sinks = Arc::default();
    let place = Arc::clone(&started);
    setup.sink = Some(Box::new(move |symbols, workers| {
        let sink = KafkaSink::start(sink.clone(), symbols, workers).unwrap();
        let parts = ((0..workers).map(|worker| sink.handler(worker)).collect(), sink.progress());
        *place.lock().unwrap() = Some(sink);
        parts
    }));
    (setup, started)
}

#[test]
fn ticks_go_on_as_they_came_and_bars_as_they_close() {
    let cluster = Cluster::any();
    let (topic, group) = (cluster.topic(2), unique("group"));
    let (ticks, bars) = (cluster.topic(2), cluster.topic(1));
    let mut sink = SinkConfig::new(ClusterConfig::new(&cluster.brokers));
    sink.ticks = Some((ticks.clone(), SinkFormat::Json));
    sink.bars = Some((bars.clone(), NonZeroU64::new(100).unwrap()));
    let (setup, started) = with_sink(Setup::new(config(&cluster, &group, &topic)), sink);
    let member = Member::start(setup);
    cluster.produce_numbers(&topic, 2, 4, 1..401);
    until("all is seen", || member.notebook.count() == 400);
    let _ = member.end();
    let sink = started.lock().unwrap().take().unwrap();
    let counters = Arc::clone(sink.counters());
    sink.finish(Duration::from_secs(30)).unwrap();
    // 4 symbols, in each of which numbers from 1 to 400 make 5 bars of 100, the last of them for 400 alone, which is S0's.
    assert_eq!((counters.delivered(), counters.failed(), counters.on_their_way()), (400 + 17, 0, 0));

    let mut last = std::collections::HashMap::new();
    let written = cluster.read_all(&ticks, 2);
    for record in &written {
        let json: serde_json::Value = serde_json::from_str(&text(record)).unwrap();
        let (symbol, number) = (json["symbol"].as_str().unwrap().to_owned(), json["size"].as_u64().unwrap());
        assert_eq!(record.key().unwrap(), symbol.as_bytes());
        assert_eq!(format!("S{}", number % 4), symbol);
        let before = last.insert(symbol, number);
        assert!(before.is_none_or(|before| before < number), "in order");
    }
    assert_eq!(written.len(), 400);
    let written = cluster.read_all(&bars, 1);
    let trades = written.iter().map(|record| {
        let bar: serde_json::Value = serde_json::from_str(&text(record)).unwrap();
        assert_eq!((&bar["open"], &bar["high"], &bar["mid"]), (&1.5.into(), &1.5.into(), &().into()));
        bar["trades"].as_u64().unwrap()
    });
    assert_eq!((trades.sum::<u64>(), written.len()), (400, 17));
}

#[test]
fn what_one_writes_raw_another_reads_raw() {
    let cluster = Cluster::any();
    let (topic, between) = (cluster.topic(2), cluster.topic(2));
    let mut sink = SinkConfig::new(ClusterConfig::new(&cluster.brokers));
    sink.ticks = Some((between.clone(), SinkFormat::Raw));
    let (setup, started) = with_sink(Setup::new(config(&cluster, &unique("group"), &topic)), sink);
    let first = Member::start(setup);
    cluster.produce_numbers(&topic, 2, 5, 1..301);
    let mut setup = Setup::new(config(&cluster, &unique("group"), &between));
    setup.format = TickFormat::Raw;
    let second = Member::start(setup);
    until("all is seen", || second.notebook.count() == 300);
    let notebook = Arc::clone(&second.notebook);
    let _ = (first.end(), second.end());
    started.lock().unwrap().take().unwrap().finish(Duration::from_secs(30)).unwrap();
    assert!(notebook.times().into_iter().eq((1..301).map(|number| (number, 1))));
    notebook.assert_order();
}

#[test]
fn an_offset_waits_for_what_was_made_of_it_to_be_delivered() {
    let cluster = Cluster::mock();
    let (topic, group, ticks) = (cluster.topic(1), unique("group"), cluster.topic(1));
    cluster.produce_numbers(&topic, 1, 2, 1..101);
    let mut sink = SinkConfig::new(ClusterConfig::new(&cluster.brokers));
    sink.ticks = Some((ticks.clone(), SinkFormat::Json));
    // Each is repeated, with a pause that grows.
    cluster.fake().request_errors(RDKafkaApiKey::Produce, &[RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS; 4]);
    let (setup, started) = with_sink(Setup::new(config(&cluster, &group, &topic)), sink);
    let member = Member::start(setup);
    until("all is processed", || member.notebook.count() == 100);
    let delivered = || started.lock().unwrap().as_ref().unwrap().counters().delivered();
    let committed = || cluster.committed(&group, &topic, 1).get(&0).map_or(0, |(offset, _)| *offset as u64);
    // Never more is committed than was delivered before.
    until("all is committed", || {
        let committed = committed();
        assert!(committed <= delivered(), "{committed} are committed");
        committed == 100
    });
    assert_eq!(cluster.read_all(&ticks, 1).len(), 100, "once each, though it was tried again");
    let _ = member.end();
    started.lock().unwrap().take().unwrap().finish(Duration::from_secs(30)).unwrap();
}

#[test]
fn what_cannot_be_delivered_ends_the_source_and_is_not_committed() {
    let cluster = Cluster::mock();
    let (topic, group, ticks) = (cluster.topic(1), unique("group"), cluster.topic(1));
    cluster.produce_numbers(&topic, 1, 2, 1..101);
    let mut sink = SinkConfig::new(ClusterConfig::new(&cluster.brokers));
    sink.ticks = Some((ticks, SinkFormat::Json));
    sink.delivery_timeout = Duration::from_millis(1500);
    cluster.fake().request_errors(RDKafkaApiKey::Produce, &[RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS; 1000]);
    let mut setup = Setup::new(config(&cluster, &group, &topic));
    setup.config.drain_timeout = Duration::from_secs(2);
    let (setup, started) = with_sink(setup, sink);
    let member = Member::start(setup);
    until("the source ends", || member.has_ended());
    let (ended, ledger) = member.end();
    assert!(matches!(ended, Err(KafkaError::NotDelivered { .. })), "{ended:?}");
    assert_eq!(ledger.processed(), 100);
    assert_eq!(cluster.committed(&group, &topic, 1).get(&0).map_or(0, |(offset, _)| *offset), 0);
    let error = started.lock().unwrap().take().unwrap().finish(Duration::from_secs(5)).unwrap_err();
    assert!(matches!(error, KafkaError::NotDelivered { .. }), "{error}");
}
