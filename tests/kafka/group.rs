//! Offsets, commits and rebalances.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use plimsoll::kafka::{AssignmentStrategy, ClusterConfig, KafkaCount, SinkConfig, SinkFormat, StartAt};
use plimsoll::source::PumpEnd;

use crate::cluster::{Cluster, unique, until, until_committed};
use crate::member::{Member, Notebook, Setup, config};
use crate::sink::with_sink;

/// Messages that a worker takes off its lane at once.
const CHUNK: i64 = 128;

#[test]
fn all_is_processed_once_and_committed_and_the_next_member_goes_on_from_there() {
    let cluster = Cluster::any();
    let (topic, group) = (cluster.topic(4), unique("group"));
    cluster.produce_numbers(&topic, 4, 10, 1..3001);
    let first = Member::start(Setup::new(config(&cluster, &group, &topic)));
    until("all is seen", || first.notebook.count() >= 3000);
    let notebook = Arc::clone(&first.notebook);
    let (counters, (ended, ledger)) = (Arc::clone(&first.counters), first.end());
    assert_eq!(ended, Ok(PumpEnd::Stopped));
    assert_eq!((ledger.offered, ledger.processed(), ledger.redelivered), (3000, 3000, 0));
    assert_eq!((counters.get(KafkaCount::Records), counters.get(KafkaCount::Messages)), (3000, 3000));
    assert!(notebook.times().values().eq([1; 3000].iter()), "each number once");
    notebook.assert_order();
    let committed = cluster.committed(&group, &topic, 4);
    let offsets: BTreeMap<_, _> = committed.iter().map(|(partition, (offset, _))| (*partition, *offset)).collect();
    assert_eq!(offsets, cluster.ends(&topic, 4));

    cluster.produce_numbers(&topic, 4, 10, 3001..3051);
    let second = Member::start(Setup::new(config(&cluster, &group, &topic)));
    until("the rest is seen", || second.notebook.count() >= 50);
    let notebook = Arc::clone(&second.notebook);
    let (_, ledger) = second.end();
    assert_eq!((ledger.offered, ledger.redelivered), (50, 0));
    assert_eq!(notebook.times().keys().copied().collect::<Vec<_>>(), (3001..3051).collect::<Vec<_>>());
}

#[test]
fn an_offset_waits_for_the_lowest_record_that_is_not_finished_and_only_unfinished_ones_come_again() {
    let cluster = Cluster::any();
    let (topic, group) = (cluster.topic(3), unique("group"));
    let mut setup = Setup::new(config(&cluster, &group, &topic));
    setup.config.drain_timeout = Duration::from_millis(300);
    setup.notebook = Notebook::holding(301);
    cluster.produce_numbers(&topic, 3, 3, 1..601);
    let member = Member::start(setup);
    until("the number is held", || member.notebook.is_held());
    let offset_of = |partition| cluster.committed(&group, &topic, 3).get(&partition).map(|(offset, _)| *offset);
    // Partition 1 has 1, 4, 7…: 301 is at offset 100. What a worker has in hand at once, a chunk, is finished at once.
    until("the partition of the other worker is committed", || {
        (0..3).any(|partition| offset_of(partition) == Some(200))
    });
    let others: Vec<i32> = [0, 2].into_iter().filter(|partition| offset_of(*partition) == Some(200)).collect();
    let notebook = Arc::clone(&member.notebook);
    member.tell_to_stop();
    let counters = Arc::clone(&member.counters);
    until("it gives up waiting", || counters.get(KafkaCount::GivenUp) > 0);
    notebook.release();
    let (_, ledger) = member.end();
    let held = offset_of(1).unwrap_or(0);
    assert!((100 - CHUNK..=100).contains(&held), "not finished in time: {held}");
    for partition in others {
        assert_eq!(offset_of(partition), Some(200), "a partition of another worker does not wait");
    }
    let committed = cluster.committed(&group, &topic, 3);
    let offset_of = |partition| committed.get(partition).map_or(0, |(offset, _)| *offset);
    let unfinished: i64 = cluster.ends(&topic, 3).iter().map(|(partition, end)| end - offset_of(partition)).sum();
    assert_eq!(u64::try_from(unfinished).unwrap(), counters.get(KafkaCount::GivenUp) + (600 - ledger.offered));

    // What was not finished comes again, and what had been offered of it is known as such.
    let next = Member::start(Setup::new(config(&cluster, &group, &topic)));
    until("the rest is seen", || next.notebook.count() as i64 >= unfinished);
    let again = next.notebook.times();
    let redelivered = next.counters.partitions().iter().map(|partition| partition.redelivered()).sum::<u64>();
    let (_, second) = next.end();
    assert_eq!(second.offered, unfinished as u64);
    assert!(again.contains_key(&301), "{again:?}");
    // A broker may not keep what is written beside an offset; then nobody knows.
    let is_told = committed.values().all(|(_, beside)| !beside.is_empty());
    assert!(is_told || cluster.mock.is_none());
    let twice = ledger.offered + unfinished as u64 - 600;
    assert_eq!(second.redelivered, if is_told { twice } else { 0 }, "offered twice");
    assert_eq!(redelivered, second.redelivered);
    let mut all = notebook.times();
    again.keys().for_each(|number| *all.entry(*number).or_default() += 1);
    assert!(all.keys().copied().eq(1..601), "every number came at least once");
}

/// Members come and go while numbers keep coming. As all leave in good order, each number comes exactly once.
fn rebalance(assignment: AssignmentStrategy) {
    const PARTITIONS: i32 = 6;
    let cluster = Cluster::any();
    let (topic, group) = (cluster.topic(PARTITIONS), unique("group"));
    let join = || {
        let mut setup = Setup::new(config(&cluster, &group, &topic));
        setup.config.assignment = assignment;
        Member::start(setup)
    };
    let produced = std::cell::Cell::new(0);
    let produce = |count| {
        let before = produced.replace(produced.get() + count);
        cluster.produce_numbers(&topic, PARTITIONS, 12, before + 1..produced.get() + 1);
    };
    produce(600);
    let settle = || {
        if cluster.mock.is_some() {
            until_committed(&cluster, &group, &topic, PARTITIONS, produced.get())
        }
    };
    let a = join();
    until("the first has all partitions", || a.assigned() == 6);
    produce(600);
    settle();
    let b = join();
    until("two share them", || a.assigned() == 3 && b.assigned() == 3);
    produce(600);
    settle();
    let c = join();
    until("three share them", || [&a, &b, &c].iter().all(|member| member.assigned() == 2));
    produce(600);
    let seen = |members: &[&Member]| members.iter().map(|member| member.notebook.count()).sum::<usize>();
    until("all is seen", || seen(&[&a, &b, &c]) >= 2400);
    settle();
    let (b_book, b) = (Arc::clone(&b.notebook), b.end());
    until("two have the third one's", || a.assigned() == 3 && c.assigned() == 3);
    produce(600);
    until("all is seen", || seen(&[&a, &c]) + b_book.count() >= 3000);
    settle();
    let books = [Arc::clone(&a.notebook), b_book, Arc::clone(&c.notebook)];
    let ledgers = [a.end().1, b.1, c.end().1];
    let mut times: BTreeMap<u64, usize> = BTreeMap::new();
    for book in &books {
        book.assert_order();
        book.numbers().into_iter().for_each(|number| *times.entry(number).or_default() += 1);
    }
    assert!(times.iter().map(|(number, times)| (*number, *times)).eq((1..3001).map(|number| (number, 1))));
    assert_eq!(ledgers.iter().map(|ledger| ledger.offered).sum::<u64>(), 3000);
    assert_eq!(ledgers.iter().map(|ledger| ledger.redelivered).sum::<u64>(), 0);
    let committed = cluster.committed(&group, &topic, PARTITIONS);
    let offsets: BTreeMap<_, _> = committed.iter().map(|(partition, (offset, _))| (*partition, *offset)).collect();
    assert_eq!(offsets, cluster.ends(&topic, PARTITIONS));
}

#[test]
fn partitions_move_between_three_members_without_loss_or_repetition_cooperative() {
    rebalance(AssignmentStrategy::CooperativeSticky);
}

#[test]
fn partitions_move_between_three_members_without_loss_or_repetition_eager() {
    rebalance(AssignmentStrategy::Range);
}

#[test]
fn a_partition_that_comes_back_tells_handlers_of_what_others_have_had() {
    let cluster = Cluster::any();
    let (topic, group) = (cluster.topic(2), unique("group"));
    cluster.produce_numbers(&topic, 2, 2, 1..101);
    let a = Member::start(Setup::new(config(&cluster, &group, &topic)));
    until("the first has seen all", || a.notebook.count() == 100);
    until_committed(&cluster, &group, &topic, 2, 100);
    let b = Member::start(Setup::new(config(&cluster, &group, &topic)));
    until("two share them", || a.assigned() == 1 && b.assigned() == 1);
    cluster.produce_numbers(&topic, 2, 2, 101..201);
    until("both have seen all", || a.notebook.count() + b.notebook.count() == 200);
    let others = b.notebook.count() as u64;
    until_committed(&cluster, &group, &topic, 2, 200);
    let _ = b.end();
    until("the first has all again", || a.assigned() == 2);
    cluster.produce_numbers(&topic, 2, 2, 201..301);
    until("it has seen the rest", || a.notebook.count() as u64 == 300 - others);
    let notebook = Arc::clone(&a.notebook);
    let _ = a.end();
    // Told to each of both workers.
    assert_eq!(notebook.feed_gaps.load(std::sync::atomic::Ordering::Relaxed), 2 * others);
}

#[test]
fn topics_are_found_by_a_pattern_and_a_group_may_begin_at_the_end() {
    let cluster = Cluster::any();
    let (one, two, group) = (cluster.topic(1), cluster.topic(1), unique("group"));
    cluster.produce_numbers(&one, 1, 2, 1..101);
    let mut setup = Setup::new(config(&cluster, &group, &one));
    setup.config.topics = vec![format!("^({one}|{two})$")];
    setup.config.start = StartAt::Latest;
    let member = Member::start(setup);
    until("both are found", || member.assigned() == 2);
    until("it stands at the end", || {
        !member.counters.is_stale() && member.counters.partitions().iter().all(|p| p.high().is_some())
    });
    cluster.produce_numbers(&one, 1, 2, 101..111);
    cluster.produce_numbers(&two, 1, 2, 111..121);
    until("what is new is seen", || member.notebook.count() >= 20);
    let notebook = Arc::clone(&member.notebook);
    let _ = member.end();
    assert_eq!(notebook.times().keys().copied().collect::<Vec<_>>(), (101..121).collect::<Vec<_>>());
}

/// kcat is a client that is not ours: what it writes we read, and what we write it reads.
#[test]
fn an_independent_client_is_understood_and_understands() {
    use std::io::Write;
    use std::process::{Command, Stdio};

    let kcat = |arguments: &[&str], input: &str| {
        let mut child =
            Command::new("kcat").args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().ok()?;
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
        Some(String::from_utf8(output.stdout).unwrap())
    };
    if kcat(&["-V"], "").is_none() {
        assert!(std::env::var_os("PLIMSOLL_REQUIRE_KCAT").is_none(), "kcat is not installed");
        println!("skipped: kcat is not installed");
        return;
    }
    let cluster = Cluster::mock();
    let (topic, out, group) = (cluster.topic(3), cluster.topic(1), unique("group"));
    let rows =
        (1..301).map(|n| format!("S{0}\t{{\"symbol\":\"S{0}\",\"ts\":{n},\"price\":1.5,\"size\":{n}}}\n", n % 7));
    kcat(&["-P", "-b", &cluster.brokers, "-t", &topic, "-K", "\t", "-z", "lz4"], &rows.collect::<String>());
    let mut sink = SinkConfig::new(ClusterConfig::new(&cluster.brokers));
    sink.ticks = Some((out.clone(), SinkFormat::Json));
    let (setup, started) = with_sink(Setup::new(config(&cluster, &group, &topic)), sink);
    let member = Member::start(setup);
    until("all is seen", || member.notebook.count() == 300);
    let _ = member.end();
    started.lock().unwrap().take().unwrap().finish(Duration::from_secs(30)).unwrap();
    let read =
        kcat(&["-C", "-b", &cluster.brokers, "-t", &out, "-o", "beginning", "-e", "-q", "-f", "%k %s\n"], "").unwrap();
    let mut numbers: Vec<u64> = Vec::new();
    for line in read.lines() {
        let (key, row) = line.split_once(' ').unwrap();
        let row: serde_json::Value = serde_json::from_str(row).unwrap();
        assert_eq!(row["symbol"], key);
        numbers.push(row["size"].as_u64().unwrap());
    }
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(1..301));
}

#[test]
fn an_end_waits_for_what_is_in_hand_and_commits_it() {
    let cluster = Cluster::any();
    let (topic, group) = (cluster.topic(1), unique("group"));
    let mut setup = Setup::new(config(&cluster, &group, &topic));
    setup.notebook = Notebook::holding(100);
    cluster.produce_numbers(&topic, 1, 1, 1..101);
    let member = Member::start(setup);
    until("the last number is held", || member.notebook.is_held());
    member.tell_to_stop();
    member.notebook.release();
    let counters = Arc::clone(&member.counters);
    let (_, ledger) = member.end();
    assert_eq!((ledger.processed(), counters.get(KafkaCount::GivenUp)), (100, 0));
    assert_eq!(cluster.committed(&group, &topic, 1)[&0].0, 100);
}
