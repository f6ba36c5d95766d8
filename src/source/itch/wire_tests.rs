use super::*;

#[test]
fn every_type_is_read_at_its_length_and_at_no_other() {
    assert_eq!(TYPES.len(), 23);
    for &(kind, length) in TYPES {
        let mut bytes = vec![kind; length + 1];
        for found in 1..=length + 1 {
            let parsed = Message::parse(&bytes[..found]);
            let head = Message::head_of(&bytes[..found]).map(|head| head.kind);
            assert_eq!(head, parsed.map(|message| message.head().kind));
            match parsed {
                Ok(message) => assert_eq!((found, message.head().kind), (length, kind)),
                Err(error) => assert_eq!(error, WireError::Length { kind, found, expected: length }),
            }
        }
        bytes[0] = b'z';
        assert_eq!(Message::parse(&bytes).unwrap_err(), WireError::UnknownType(b'z'));
    }
    assert_eq!(Message::parse(&[]).unwrap_err(), WireError::Empty);
    assert_eq!(Message::head_of(&[]).unwrap_err(), WireError::Empty);
}

#[test]
fn the_head_is_type_locate_tracking_number_and_48_bits_of_time() {
    let bytes = [b'D', 1, 2, 3, 4, 0xa1, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0, 0, 0, 0, 0, 0, 0, 9];
    let Message::OrderDelete(delete) = Message::parse(&bytes).unwrap() else { panic!() };
    assert_eq!((delete.head.locate.get(), delete.head.tracking()), (0x0102, 0x0304));
    assert_eq!((delete.head.time_ns(), delete.reference.get()), (0xa1a2_a3a4_a5a6, 9));
}

#[test]
fn errors_name_the_type() {
    let error = Message::parse(b"A123").unwrap_err();
    assert_eq!(format!("{}: {error}", error.kind()), "add order ('A'): it has 4 bytes, not 36");
    let error = Message::parse(&[7, 1]).unwrap_err();
    assert_eq!(format!("{}: {error}", error.kind()), "type 0x07: ITCH 5.0 has no such message");
}
