//! Brokers that are away, slow, wrong, or that refuse.

use std::sync::Arc;
use std::time::{Duration, Instant};

use plimsoll::kafka::{KafkaCount, KafkaError, OnError};
use rdkafka::types::RDKafkaApiKey::{self, Fetch, Heartbeat, JoinGroup, OffsetCommit, OffsetFetch, SyncGroup};
use rdkafka::types::RDKafkaRespErr::{self, *};

use crate::cluster::{Cluster, PATIENCE, unique, until, until_committed, until_within};
use crate::member::{Member, Notebook, Setup, config};

#[test]
fn what_cannot_work_is_told_at_the_start() {
    let cluster = Cluster::any();
    let topic = cluster.topic(1);
    let start = |change: &dyn Fn(&mut Setup)| {
        let mut setup = Setup::new(config(&cluster, &unique("group"), &topic));
        setup.config.connect_timeout = Duration::from_millis(1500);
        change(&mut setup);
        Member::try_start(setup).err()
    };
    let missing = unique("missing");
    let error = start(&|setup| setup.config.topics = vec![missing.clone()]);
    // A broker may make topics when they are asked for.
    if let Some(error) = error {
        assert!(matches!(error, KafkaError::UnknownTopic { .. }), "{error}");
        assert!(error.to_string().contains(&missing) && error.to_string().contains(&cluster.brokers), "{error}");
    }
    let nobody = "127.0.0.1:1".to_owned();
    let error = start(&|setup| {
        setup.config.cluster.brokers.clone_from(&nobody);
        setup.config.on_unreachable = OnError::Fail;
    });
    let error = error.unwrap();
    assert!(matches!(error, KafkaError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("127.0.0.1:1"), "{error}");
}

#[test]
fn a_topic_that_is_refused_is_told_and_a_start_may_wait_for_a_broker() {
    let cluster = Cluster::mock();
    let topic = cluster.topic(1);
    let setup = || Setup::new(config(&cluster, &unique("group"), &topic));
    cluster.fake().topic_error(&topic, RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED).unwrap();
    let error = Member::try_start(setup()).err().unwrap();
    assert!(matches!(error, KafkaError::Unauthorized { .. }) && error.to_string().contains(&topic), "{error}");
    cluster.fake().topic_error(&topic, RD_KAFKA_RESP_ERR_NO_ERROR).unwrap();
    cluster.produce_numbers(&topic, 1, 1, 1..11);

    for broker in 1..4 {
        cluster.fake().broker_down(broker).unwrap();
    }
    let mut waiting = setup();
    waiting.config.connect_timeout = Duration::from_millis(300);
    let member = Member::start(waiting);
    until("the trouble is noted", || member.counters.get(KafkaCount::Errors) > 0);
    for broker in 1..4 {
        cluster.fake().broker_up(broker).unwrap();
    }
    until("all is seen", || member.notebook.count() >= 10);
    let _ = member.end();
}

#[test]
fn while_brokers_are_away_the_lag_is_stale_and_says_so_and_nothing_is_lost() {
    let cluster = Cluster::mock();
    let (topic, group) = (cluster.topic(3), unique("group"));
    let member = Member::start(Setup::new(config(&cluster, &group, &topic)));
    cluster.produce_numbers(&topic, 3, 6, 1..301);
    until("the first are seen", || member.notebook.count() == 300);
    until("the lag is known", || !member.counters.is_stale());
    for broker in 1..4 {
        cluster.fake().broker_down(broker).unwrap();
    }
    until("the lag is stale", || member.counters.is_stale());
    for broker in 1..4 {
        cluster.fake().broker_up(broker).unwrap();
    }
    cluster.produce_numbers(&topic, 3, 6, 301..601);
    until("the rest is seen", || member.notebook.times().len() == 600);
    until("the lag is news", || !member.counters.is_stale());
    let notebook = Arc::clone(&member.notebook);
    let _ = member.end();
    assert!(notebook.times().keys().copied().eq(1..601));
}

#[test]
fn a_stop_is_over_in_time_even_if_no_broker_answers() {
    let cluster = Cluster::mock();
    let (topic, group) = (cluster.topic(1), unique("group"));
    let mut setup = Setup::new(config(&cluster, &group, &topic));
    setup.config.drain_timeout = Duration::from_secs(2);
    let member = Member::start(setup);
    cluster.produce_numbers(&topic, 1, 1, 1..101);
    until("all is seen", || member.notebook.count() == 100);
    for broker in 1..4 {
        cluster.fake().broker_down(broker).unwrap();
    }
    let asked = Instant::now();
    let (_, ledger) = member.end();
    assert!(
        asked.elapsed() < Duration::from_secs(20),
        "{:?}: a client that hangs would take a minute",
        asked.elapsed()
    );
    assert_eq!(ledger.processed(), 100);
}

/// Errors of a broker, each several times in a row, while numbers keep coming.
#[test]
fn errors_of_brokers_cost_time_and_repetitions_at_most() {
    let cluster = Cluster::mock();
    let (topic, group) = (cluster.topic(3), unique("group"));
    let member = Member::start(Setup::new(config(&cluster, &group, &topic)));
    let inject: [(RDKafkaApiKey, RDKafkaRespErr); 7] = [
        (OffsetCommit, RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE),
        (Fetch, RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION),
        (Heartbeat, RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID),
        (OffsetFetch, RD_KAFKA_RESP_ERR_NOT_COORDINATOR),
        (JoinGroup, RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS),
        (SyncGroup, RD_KAFKA_RESP_ERR_REBALANCE_IN_PROGRESS),
        (OffsetCommit, RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT),
    ];
    let mut next = 1;
    for (api, error) in inject {
        cluster.fake().request_errors(api, &[error; 3]);
        cluster.produce_numbers(&topic, 3, 6, next..next + 300);
        next += 300;
        // The client and the mock may take a minute over a broken rebalance.
        let is_seen = || member.notebook.times().len() as u64 == next - 1;
        until_within(4 * PATIENCE, "all so far is seen", is_seen);
    }
    until_committed(&cluster, &group, &topic, 3, next - 1);
    let (notebook, lost) = (Arc::clone(&member.notebook), member.counters.get(KafkaCount::Lost));
    let (_, ledger) = member.end();
    assert!(notebook.times().keys().copied().eq(1..next));
    let repeated = notebook.count() as u64 - (next - 1);
    assert_eq!(ledger.redelivered, repeated, "{ledger:?}");
    assert_eq!(lost % 3, 0);
}

#[test]
fn a_slow_broker_is_only_slow() {
    let cluster = Cluster::mock();
    let (topic, group) = (cluster.topic(3), unique("group"));
    for broker in 1..4 {
        cluster.fake().broker_round_trip_time(broker, Duration::from_millis(150)).unwrap();
    }
    let member = Member::start(Setup::new(config(&cluster, &group, &topic)));
    cluster.produce_numbers(&topic, 3, 6, 1..601);
    until("all is seen", || member.notebook.count() >= 600);
    let notebook = Arc::clone(&member.notebook);
    let (_, ledger) = member.end();
    assert_eq!((ledger.offered, ledger.redelivered), (600, 0));
    assert!(notebook.times().keys().copied().eq(1..601));
}

#[test]
fn a_member_that_is_lost_starts_anew_and_what_comes_late_does_not_count() {
    let cluster = Cluster::mock();
    let (topic, group) = (cluster.topic(1), unique("group"));
    let mut setup = Setup::new(config(&cluster, &group, &topic));
    setup.notebook = Notebook::holding(50);
    let member = Member::start(setup);
    cluster.produce_numbers(&topic, 1, 1, 1..101);
    until("a number is held", || member.notebook.is_held());
    cluster.fake().request_errors(Heartbeat, &[RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID]);
    until("the group has given up on it", || member.counters.get(KafkaCount::Lost) == 1);
    assert_eq!(
        cluster.committed(&group, &topic, 1).get(&0).map_or(0, |(offset, _)| *offset),
        0,
        "nothing was finished"
    );
    member.notebook.release();
    until("all came again", || member.notebook.count() >= 200);
    let notebook = Arc::clone(&member.notebook);
    let (_, ledger) = member.end();
    assert_eq!((ledger.offered, ledger.redelivered), (200, 100));
    assert!(notebook.times().into_iter().eq((1..101).map(|number| (number, 2))));
    assert_eq!(cluster.committed(&group, &topic, 1)[&0].0, 100);
}

#[test]
fn a_source_that_never_runs_leaves_the_group_all_the_same() {
    use plimsoll::kafka::{KafkaSource, OnUndecodable, TickDecoder};

    let cluster = Cluster::any();
    let (topic, group) = (cluster.topic(1), unique("group"));
    let setup = Setup::new(config(&cluster, &group, &topic));
    let decoder = TickDecoder::new(Arc::default(), setup.format, "").unwrap();
    let source = KafkaSource::open(setup.config, decoder, OnUndecodable::Stop).unwrap();
    let dropped = std::thread::spawn(move || {
        // Long enough to be given partitions.
        std::thread::sleep(Duration::from_secs(4));
        drop(source);
    });
    until("it is dropped", || dropped.is_finished());
    cluster.produce_numbers(&topic, 1, 1, 1..11);
    let next = Member::start(Setup::new(config(&cluster, &group, &topic)));
    until("another has its partitions", || next.notebook.count() == 10);
    let _ = next.end();
}
