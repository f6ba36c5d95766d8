//! Tests of the bytes on disk.

use super::*;

const SEGMENT: SegmentId = SegmentId { worker: 3, number: 7, epoch: 0x0123_4567_89AB_CDEF, life: 5 };
const INFO: FrameInfo = FrameInfo { first: 590, durable: 118, opened_ns: 1_394_445_600_000_000_000, names: 2 };

fn geometry() -> Geometry {
    Geometry::of(64).unwrap()
}

/// A frame with records of just their number, and a note beside each third.
fn frame(records: usize) -> Box<[u8; FRAME]> {
    let (mut page, geometry) = (zero_page(), geometry());
    page[..size_of::<FrameHeader>()].copy_from_slice(FrameHeader::new(SEGMENT, 11, INFO).as_bytes());
    let mut checksum = FrameChecksum::new();
    checksum.begin(&page[..]);
    for index in 0..records {
        page[geometry.record_at(index)..geometry.record_at(index + 1)].fill(index as u8);
        page[geometry.note_at(index)] = if index % 3 == 0 { 9 } else { 0 };
        // One by one, which makes no difference.
        checksum.add_noted(geometry, &page[..], index, index + 1);
    }
    page[COMMIT_AT..COMMIT_AT + 8].copy_from_slice(&checksum.commit_word(records).to_le_bytes());
    page
}

#[test]
fn as_many_records_fit_as_there_is_room_for() {
    assert_eq!(Geometry::of(64), Some(Geometry { record: 64, per_frame: 59, records_at: 320 }));
    for record in 1..=FRAME {
        let Some(Geometry { per_frame, records_at, .. }) = Geometry::of(record) else {
            assert!(record > FRAME - 128, "{record}");
            continue;
        };
        assert!(records_at >= NOTES_AT + 4 * per_frame && records_at + per_frame * record <= FRAME, "{record}");
        let more = (NOTES_AT + 4 * (per_frame + 1)).next_multiple_of(64) + (per_frame + 1) * record;
        assert!(more > FRAME, "{record}");
    }
    assert_eq!((Geometry::of(0), Geometry::of(FRAME)), (None, None));
}

#[test]
fn a_frame_is_valid_in_its_place_and_nowhere_else() {
    for records in 1..=59 {
        assert_eq!(check_page(&frame(records), SEGMENT, 11, geometry()), Page::Valid(INFO, records));
    }
    let page = frame(5);
    assert_eq!(check_page(&page, SEGMENT, 12, geometry()), Page::Bad(Some(5)));
    assert_eq!(check_page(&page, SegmentId { epoch: 1, ..SEGMENT }, 11, geometry()), Page::Stale);
    assert_eq!(check_page(&page, SegmentId { number: 8, ..SEGMENT }, 11, geometry()), Page::Stale);
    assert_eq!(check_page(&zero_page(), SEGMENT, 11, geometry()), Page::Zero);
}

#[test]
fn whatever_part_of_a_header_was_written_when_the_process_was_killed_is_no_damage() {
    let mut whole = frame(59);
    whole[COMMIT_AT..COMMIT_AT + 8].fill(0);
    assert_eq!(check_page(&whole, SEGMENT, 11, geometry()), Page::Open);
    for words in 1..1_u32 << 7 {
        let mut page = whole.clone();
        let missing = (0..7).filter(|word| words & 1 << word != 0);
        missing.for_each(|word| page[8 * word..8 * word + 8].fill(0));
        assert_eq!(check_page(&page, SEGMENT, 11, geometry()), Page::Open, "{words:b}");
    }
    let mut other = whole;
    other[8] ^= 1;
    assert_eq!(check_page(&other, SEGMENT, 11, geometry()), Page::Bad(None));
}
