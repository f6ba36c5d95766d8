use super::*;
use crate::source::Malformed;
use crate::symbols::Symbols;
use crate::tick::Tick;
use proptest::prelude::*;

/// Takes messages of three bytes, whose first is not `!`; the ticks tell their bytes.
#[derive(Default)]
struct Three {
    sessions: u32,
}

impl Decode for Three {
    fn decode(&mut self, message: &[u8], at: Stamp, burst: &mut Burst) -> Result<(), Malformed> {
        if message.len() != 3 || message[0] == b'!' {
            return Err(Malformed { kind: "three".into(), reason: format!("{message:?}") });
        }
        let number = u64::from_be_bytes([0, 0, 0, 0, 0, message[0], message[1], message[2]]);
        let symbol = crate::SymbolId::new(0);
        burst.push(Tick { sequence: at.sequence, size: number, ..Tick::reference(symbol, 0) });
        Ok(())
    }

    fn begin_session(&mut self) {
        self.sessions += 1;
    }

    fn memory_bytes(&self) -> u64 {
        0
    }

    fn count(&mut self, _: &FeedCounters) {}
}

fn blocks(messages: &[&[u8]]) -> Vec<u8> {
    messages.iter().flat_map(|m| [&(m.len() as u16).to_be_bytes()[..], m].concat()).collect()
}

fn open(bytes: Vec<u8>, on_malformed: OnMalformed) -> ItchFile<Three> {
    let counters = Arc::default();
    let input = Input::new(Path::new("day.itch"), Box::new(std::io::Cursor::new(bytes)), &counters).unwrap();
    ItchFile::new(input, Three::default(), on_malformed, counters)
}

/// Sequences and contents up to the end, or the error.
fn drain(source: &mut dyn Source) -> (Vec<(u64, u64)>, Option<String>) {
    let (mut burst, mut ticks) = (Burst::new(), Vec::new());
    let error = loop {
        burst.clear();
        let flow = source.next_burst(&mut burst);
        ticks.extend(burst.ticks().iter().map(|tick| (tick.sequence, tick.size)));
        match flow {
            Ok(Flow::End) => break None,
            Ok(_) => {}
            Err(error) => break Some(error.to_string()),
        }
    };
    (ticks, error)
}

#[test]
fn a_malformed_message_ends_the_stream_or_is_left_out() {
    let bytes = blocks(&[b"\0\0\x01", b"!!!", b"\0\0\x02", b"four", b"\0\0\x03"]);
    let (ticks, error) = drain(&mut open(bytes.clone(), OnMalformed::Stop));
    assert_eq!(ticks, [(1, 1)]);
    assert_eq!(error.unwrap(), "day.itch: at byte 5: three: [33, 33, 33]");
    let mut source = open(bytes, OnMalformed::Skip);
    assert_eq!(drain(&mut source), (vec![(1, 1), (3, 2), (5, 3)], None));
    assert_eq!([FeedCount::Messages, FeedCount::Malformed].map(|c| source.counters().get(c)), [5, 2]);
}

#[test]
fn a_file_that_ends_within_a_block_says_so() {
    let whole = blocks(&[b"\0\0\x01", b"\0\0\x02"]);
    for (length, said) in [
        (9, "day.itch: at byte 5: block: the file ends within it: 2 of its 3 bytes are there"),
        (6, "day.itch: at byte 5: block: the file ends within its length"),
    ] {
        let (ticks, error) = drain(&mut open(whole[..length].to_vec(), OnMalformed::Stop));
        assert_eq!((ticks, error.as_deref()), (vec![(1, 1)], Some(said)));
        let mut source = open(whole[..length].to_vec(), OnMalformed::Skip);
        assert_eq!(drain(&mut source), (vec![(1, 1)], None));
        assert_eq!(source.counters().get(FeedCount::Malformed), 1);
    }
    assert_eq!(drain(&mut open(Vec::new(), OnMalformed::Stop)), (vec![], None));
}

#[test]
fn an_empty_block_ends_a_session() {
    let bytes = blocks(&[b"\0\0\x01", b"", b"\0\0\x02", b""]);
    let mut source = open(bytes, OnMalformed::Stop);
    assert_eq!(drain(&mut source), (vec![(1, 1), (2, 2)], None));
    assert_eq!(source.decoder().sessions, 2);
}

#[test]
fn bursts_are_short_and_the_longest_block_fits() {
    let many = blocks(&vec![&b"\0\0\x01"[..]; 1000]);
    let mut source = open(many, OnMalformed::Stop);
    let mut burst = Burst::new();
    assert_eq!((source.next_burst(&mut burst).unwrap(), burst.len()), (Flow::More, Burst::TICKS));
    let longest = vec![b'!'; usize::from(u16::MAX)];
    let mut source = open(blocks(&[&longest, b"\0\0\x01"]), OnMalformed::Skip);
    assert_eq!(drain(&mut source), (vec![(2, 1)], None));
}

/// Gives its bytes in the pieces asked for.
struct Pieces(Vec<u8>, usize, Vec<usize>);

impl Read for Pieces {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let piece = self.2.pop().unwrap_or(usize::MAX).min(buf.len()).min(self.0.len() - self.1);
        buf[..piece].copy_from_slice(&self.0[self.1..self.1 + piece]);
        self.1 += piece;
        Ok(piece)
    }
}

proptest! {
    /// However the bytes come.
    #[test]
    fn blocks_come_whole_whatever_the_reads(
        count in 0usize..2000,
        pieces in proptest::collection::vec(1usize..300, 0..50),
    ) {
        let messages: Vec<_> = (0..count as u32).map(|n| n.to_be_bytes()).collect();
        let bytes = blocks(&messages.iter().map(|m| &m[1..]).collect::<Vec<_>>());
        let counters = Arc::default();
        let input = Input::new(Path::new("x"), Box::new(Pieces(bytes, 0, pieces)), &counters).unwrap();
        let mut source = ItchFile::new(input, Three::default(), OnMalformed::Stop, counters);
        let expected = (0..count as u64).map(|n| (n + 1, n)).collect();
        // `!` as a first byte does not come up below 2^21.
        prop_assert_eq!(drain(&mut source), (expected, None));
    }

    /// Random bytes: an end or an error, never a panic.
    #[test]
    fn no_bytes_are_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2000), skip: bool) {
        let on_malformed = if skip { OnMalformed::Skip } else { OnMalformed::Stop };
        let counters = Arc::default();
        let Ok(input) = Input::new(Path::new("x"), Box::new(std::io::Cursor::new(bytes)), &counters) else { return Ok(()) };
        let config = super::super::ItchConfig { orders_max: 100, ..Default::default() };
        let decoder = super::super::ItchDecoder::new(Arc::new(Symbols::default()), config);
        drain(&mut ItchFile::new(input, decoder, on_malformed, counters));
    }
}
