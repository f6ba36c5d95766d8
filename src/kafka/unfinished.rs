//! Which records are not finished, and so how far each partition's offset may be stored.
//!
//! A record is finished when all messages that were made of it are done with for good. A partition's records may be finished in any
//! order, since their symbols go to several workers; its offset is the lowest that is not finished.
//!
//! Each time a partition is assigned to this process it is a new [`Assignment`]. What comes late for one that is over is ignored, be the
//! partition here again or not.

use std::collections::VecDeque;

use crate::ingress::Place;

/// One partition's time with this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Assignment {
    /// Its place in the table, which others have after it.
    index: usize,
    /// Tells it from those that had the place before.
    generation: u64,
}

/// A record of an assignment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RecordId {
    assignment: Assignment,
    /// Counted from 0 within the assignment.
    number: u64,
}

impl RecordId {
    pub(super) fn assignment(self) -> Assignment {
        self.assignment
    }
}

/// Records that were taken from partitions, until they are finished.
#[derive(Debug, Default)]
pub(super) struct Unfinished {
    windows: Vec<Window>,
    generation: u64,
    /// By lane, in its order: the records that messages on their way were made of.
    lanes: Vec<VecDeque<(u64, RecordId)>>,
    /// Records in all windows.
    records: usize,
}

/// The records of an assignment from the lowest that is not finished on.
#[derive(Debug)]
struct Window {
    generation: u64,
    is_over: bool,
    /// The number of the first record in the window.
    first: u64,
    records: VecDeque<Open>,
    /// After the last record that was taken.
    next_offset: Option<i64>,
}

#[derive(Debug)]
struct Open {
    offset: i64,
    /// Parts of it that are not done with.
    left: u32,
}

impl Unfinished {
    pub(super) fn new(lanes: usize) -> Self {
        Self { lanes: vec![VecDeque::new(); lanes], ..Self::default() }
    }

    /// A partition was assigned.
    pub(super) fn assign(&mut self) -> Assignment {
        self.generation += 1;
        let generation = self.generation;
        let window = Window { generation, is_over: false, first: 0, records: VecDeque::new(), next_offset: None };
        let free = self.windows.iter().position(|window| window.is_over);
        let index = free.unwrap_or(self.windows.len());
        match free {
            Some(index) => self.windows[index] = window,
            None => self.windows.push(window),
        }
        Assignment { index, generation }
    }

    /// The partition is gone: nothing that is still to come for it counts.
    pub(super) fn release(&mut self, assignment: Assignment) {
        if let Some(window) = self.window(assignment) {
            window.is_over = true;
            let open = std::mem::take(&mut window.records).len();
            self.records -= open;
        }
    }

    /// A record was taken, of which `parts` are to be finished; one of none is finished at once. Records of a partition are taken in the
    /// order of their offsets. `None`: the assignment is over.
    pub(super) fn begin(&mut self, assignment: Assignment, offset: i64, parts: u32) -> Option<RecordId> {
        let window = self.window(assignment)?;
        let number = window.first + window.records.len() as u64;
        window.next_offset = Some(offset + 1);
        window.records.push_back(Open { offset, left: parts });
        self.records += 1;
        if parts == 0 {
            self.trim(assignment);
        }
        Some(RecordId { assignment, number })
    }

    /// A message that was made of the record is in this place. Places of a lane come in their order.
    pub(super) fn place(&mut self, record: RecordId, place: Place) {
        self.lanes[place.lane].push_back((place.number, record));
    }

    /// All messages of a lane up to this number are done with for good.
    pub(super) fn settle(&mut self, lane: usize, settled: u64) {
        while let Some(&(number, record)) = self.lanes[lane].front()
            && number <= settled
        {
            self.lanes[lane].pop_front();
            self.finish_part(record);
        }
    }

    /// One part of a record is done with.
    pub(super) fn finish_part(&mut self, record: RecordId) {
        let Some(window) = self.window(record.assignment) else { return };
        let open = record.number.checked_sub(window.first).and_then(|index| window.records.get_mut(index as usize));
        let Some(open) = open else { return };
        open.left = open.left.saturating_sub(1);
        if open.left == 0 && record.number == window.first {
            self.trim(record.assignment);
        }
    }

    /// The record at this offset, and all after it in its partition, count as not taken: they come again. Parts of it that are on their way
    /// do not matter any more.
    pub(super) fn untake(&mut self, record: RecordId, offset: i64) {
        let Some(window) = self.window(record.assignment) else { return };
        let Some(index) = record.number.checked_sub(window.first) else { return };
        let before = window.records.len();
        window.records.truncate(index as usize);
        window.next_offset = Some(offset);
        let gone = before - window.records.len();
        self.records -= gone;
    }

    /// The offset that may be stored: the lowest that is not finished, or the one after the last record. `None`: nothing was taken yet, or
    /// the assignment is over.
    pub(super) fn offset(&mut self, assignment: Assignment) -> Option<i64> {
        let window = self.window(assignment)?;
        window.records.front().map(|open| open.offset).or(window.next_offset)
    }

    /// Whether all records that were taken are finished.
    pub(super) fn is_drained(&mut self, assignment: Assignment) -> bool {
        self.window(assignment).is_none_or(|window| window.records.is_empty())
    }

    /// Records of an assignment that are not finished, with those behind them.
    pub(super) fn open(&mut self, assignment: Assignment) -> usize {
        self.window(assignment).map_or(0, |window| window.records.len())
    }

    /// Records that are kept: those not finished, and finished ones behind them.
    pub(super) fn records(&self) -> usize {
        self.records
    }

    fn window(&mut self, assignment: Assignment) -> Option<&mut Window> {
        let window = self.windows.get_mut(assignment.index)?;
        (window.generation == assignment.generation && !window.is_over).then_some(window)
    }

    /// Lets go of finished records at the front.
    fn trim(&mut self, assignment: Assignment) {
        let Some(window) = self.window(assignment) else { return };
        let mut gone = 0;
        while window.records.front().is_some_and(|open| open.left == 0) {
            window.records.pop_front();
            window.first += 1;
            gone += 1;
        }
        self.records -= gone;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_offset_is_the_lowest_that_is_not_finished() {
        let mut unfinished = Unfinished::new(2);
        let a = unfinished.assign();
        assert_eq!(unfinished.offset(a), None);
        let place = |lane, number| Place { lane, number };
        for (offset, at) in [(10, place(0, 1)), (11, place(1, 1)), (15, place(1, 2))] {
            let record = unfinished.begin(a, offset, 1).unwrap();
            unfinished.place(record, at);
        }
        unfinished.settle(1, 2);
        assert_eq!((unfinished.offset(a), unfinished.records()), (Some(10), 3), "10 is with a slow worker");
        unfinished.settle(0, 1);
        assert_eq!((unfinished.offset(a), unfinished.records()), (Some(16), 0));
        assert!(unfinished.is_drained(a));
    }

    #[test]
    fn a_record_is_finished_with_the_last_of_its_messages_and_one_without_any_at_once() {
        let mut unfinished = Unfinished::new(1);
        let a = unfinished.assign();
        let record = unfinished.begin(a, 5, 2).unwrap();
        unfinished.begin(a, 6, 0).unwrap();
        unfinished.finish_part(record);
        assert_eq!(unfinished.offset(a), Some(5));
        unfinished.finish_part(record);
        assert_eq!(unfinished.offset(a), Some(7));
        unfinished.begin(a, 9, 0).unwrap();
        assert_eq!(unfinished.offset(a), Some(10));
    }

    #[test]
    fn what_comes_late_for_a_lost_assignment_does_not_count_for_the_next() {
        let mut unfinished = Unfinished::new(1);
        let before = unfinished.assign();
        let late = unfinished.begin(before, 0, 1).unwrap();
        unfinished.place(late, Place { lane: 0, number: 1 });
        unfinished.release(before);
        let now = unfinished.assign();
        let record = unfinished.begin(now, 0, 1).unwrap();
        unfinished.settle(0, 1);
        assert_eq!((unfinished.offset(before), unfinished.offset(now)), (None, Some(0)));
        assert_eq!(unfinished.begin(before, 1, 1), None);
        unfinished.finish_part(record);
        assert_eq!(unfinished.offset(now), Some(1));
    }

    #[test]
    fn what_is_put_back_is_not_waited_for_and_comes_again() {
        let mut unfinished = Unfinished::new(1);
        let a = unfinished.assign();
        let first = unfinished.begin(a, 5, 1).unwrap();
        unfinished.place(first, Place { lane: 0, number: 1 });
        let second = unfinished.begin(a, 7, 2).unwrap();
        unfinished.place(second, Place { lane: 0, number: 2 });
        unfinished.begin(a, 9, 1).unwrap();
        unfinished.untake(second, 7);
        assert_eq!((unfinished.offset(a), unfinished.records(), unfinished.is_drained(a)), (Some(5), 1, false));
        unfinished.settle(0, 2);
        assert_eq!((unfinished.offset(a), unfinished.records(), unfinished.is_drained(a)), (Some(7), 0, true));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Assign(usize),
        Release(usize),
        Take { partition: usize, skip: i64, lanes: Vec<usize> },
        Settle { lane: usize, share: u8 },
    }

    const PARTITIONS: usize = 3;
    const LANES: usize = 2;

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            1 => (0..PARTITIONS).prop_map(Step::Assign),
            1 => (0..PARTITIONS).prop_map(Step::Release),
            6 => (0..PARTITIONS, 0i64..3, proptest::collection::vec(0..LANES, 0..4))
                .prop_map(|(partition, skip, lanes)| Step::Take { partition, skip, lanes }),
            4 => (0..LANES, any::<u8>()).prop_map(|(lane, share)| Step::Settle { lane, share }),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Against sets of open offsets, for any order of taking, settling, losing and regaining partitions.
        #[test]
        fn it_agrees_with_a_model(steps in proptest::collection::vec(step(), 1..120)) {
            let mut unfinished = Unfinished::new(LANES);
            let mut current: [Option<Assignment>; PARTITIONS] = [None; PARTITIONS];
            // By partition: the next offset, and by open offset how many messages are on their way.
            let mut model: [(Option<i64>, BTreeMap<i64, usize>); PARTITIONS] = Default::default();
            // By lane: what its messages were made of, while that assignment lasts; and how many were ever sent and settled.
            let mut sent: [VecDeque<Option<(Assignment, usize, i64)>>; LANES] = Default::default();
            let (mut sent_count, mut settled) = ([0u64; LANES], [0u64; LANES]);
            let mut offsets = [0i64; PARTITIONS];
            for step in steps {
                match step {
                    Step::Assign(p) if current[p].is_none() => {
                        current[p] = Some(unfinished.assign());
                        model[p] = Default::default();
                        offsets[p] = 0;
                    }
                    Step::Release(p) => {
                        if let Some(assignment) = current[p].take() {
                            unfinished.release(assignment);
                            model[p] = Default::default();
                        }
                    }
                    Step::Take { partition: p, skip, lanes } if current[p].is_some() => {
                        let assignment = current[p].unwrap();
                        offsets[p] += skip;
                        let offset = offsets[p];
                        offsets[p] += 1;
                        let record = unfinished.begin(assignment, offset, lanes.len() as u32).unwrap();
                        model[p].0 = Some(offset + 1);
                        if !lanes.is_empty() {
                            model[p].1.insert(offset, lanes.len());
                        }
                        for lane in lanes {
                            sent_count[lane] += 1;
                            sent[lane].push_back(Some((assignment, p, offset)));
                            unfinished.place(record, Place { lane, number: sent_count[lane] });
                        }
                    }
                    Step::Settle { lane, share } => {
                        let more = (sent_count[lane] - settled[lane]) * u64::from(share) / 255;
                        settled[lane] += more;
                        for _ in 0..more {
                            let Some((assignment, p, offset)) = sent[lane].pop_front().unwrap() else { continue };
                            if current[p] == Some(assignment) {
                                let left = model[p].1.get_mut(&offset).unwrap();
                                *left -= 1;
                                if *left == 0 {
                                    model[p].1.remove(&offset);
                                }
                            }
                        }
                        unfinished.settle(lane, settled[lane]);
                    }
                    _ => {}
                }
                for p in 0..PARTITIONS {
                    let Some(assignment) = current[p] else { continue };
                    let (next, open) = &model[p];
                    let lowest = open.keys().next().copied().or(*next);
                    prop_assert_eq!(unfinished.offset(assignment), lowest);
                    prop_assert_eq!(unfinished.is_drained(assignment), open.is_empty());
                }
            }
        }
    }
}
