#![allow(clippy::unwrap_used, reason = "a failed assumption fails the test")]

use super::*;
use crate::hostdir::protocol::opcode;

/// A request as the kernel lays it out.
fn request(code: u32, arguments: &[u8]) -> Vec<u8> {
    let length = u32::try_from(40 + arguments.len()).unwrap();
    let mut bytes = Vec::new();
    [length, code].iter().for_each(|value| bytes.extend(value.to_ne_bytes()));
    [42_u64 | RESEND_BIT, 7].iter().for_each(|value| bytes.extend(value.to_ne_bytes()));
    [1000_u32, 1001, 99, 0].iter().for_each(|value| bytes.extend(value.to_ne_bytes()));
    bytes.extend_from_slice(arguments);
    bytes
}

fn words(values: &[u64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_ne_bytes()).collect()
}

#[test]
fn a_header_is_read_with_the_resend_bit_apart() {
    let bytes = request(opcode::LOOKUP, b"name\0");
    let (header, arguments) = parse_header(&bytes).unwrap();
    assert_eq!((header.id(), header.is_resent()), (42, true));
    assert_eq!((header.node, header.uid, header.gid), (7, 1000, 1001));
    assert_eq!(arguments, b"name\0");
}

#[test]
fn a_header_must_say_the_length_that_was_read() {
    let mut bytes = request(opcode::GETATTR, &[0; 16]);
    bytes.push(0);
    assert_eq!(parse_header(&bytes).unwrap_err(), Malformed::WrongLength);
    assert_eq!(parse_header(&bytes[..39]).unwrap_err(), Malformed::TooShort);
    assert_eq!(parse_header(&[]).unwrap_err(), Malformed::TooShort);
}

#[test]
fn names_are_one_component() {
    for (name, expected) in [
        (c"", Err(Malformed::NotOneComponent)),
        (c".", Err(Malformed::NotOneComponent)),
        (c"..", Err(Malformed::NotOneComponent)),
        (c"a/b", Err(Malformed::NotOneComponent)),
        (c"/", Err(Malformed::NotOneComponent)),
        (c"...", Ok(())),
        (c".hidden", Ok(())),
    ] {
        assert_eq!(Name::new(name).map(drop), expected, "{name:?}");
    }
    let long = std::ffi::CString::new(vec![b'n'; NAME_MAX + 1]).unwrap();
    assert_eq!(Name::new(&long), Err(Malformed::NameTooLong));
}

#[test]
fn a_write_holds_exactly_its_data() {
    let mut arguments = words(&[3, 4096, 5, 0, 0]);
    arguments.extend_from_slice(b"hello and more");
    let operation = parse_operation(opcode::WRITE, &arguments).unwrap();
    let Operation::Write { handle: 3, offset: 4096, data: b"hello", privileges: Privileges::Keep } =
        operation
    else {
        panic!("{operation:?}")
    };
    arguments.truncate(44);
    assert_eq!(parse_operation(opcode::WRITE, &arguments).unwrap_err(), Malformed::TooShort);
}

#[test]
fn attributes_to_set_are_taken_from_the_fields_that_are_valid() {
    let mut arguments = vec![0; 88];
    let valid = 1_u32 | 1 << 3 | 1 << 5 | 1 << 7 | 1 << 11; // mode, size, mtime, atime now, drop privileges
    arguments[..4].copy_from_slice(&valid.to_ne_bytes());
    arguments[16..24].copy_from_slice(&77_u64.to_ne_bytes());
    arguments[40..48].copy_from_slice(&(-5_i64).to_ne_bytes());
    arguments[60..64].copy_from_slice(&9_u32.to_ne_bytes());
    arguments[68..72].copy_from_slice(&0o4755_u32.to_ne_bytes());
    let Operation::SetAttr(asked) = parse_operation(opcode::SETATTR, &arguments).unwrap() else { panic!() };
    let expected = SetAttr {
        mode: Some(0o4755),
        size: Some(77),
        atime: Some(SetTime::Now),
        mtime: Some(SetTime::At { seconds: -5, nanoseconds: 9 }),
        privileges: Privileges::Drop,
        ..SetAttr::default()
    };
    assert_eq!(asked, expected);
}

#[test]
fn a_forget_list_must_be_as_long_as_it_says() {
    let arguments = words(&[2, 5, 1, 6, 2]);
    let Operation::BatchForget(list) = parse_operation(opcode::BATCH_FORGET, &arguments).unwrap() else {
        panic!()
    };
    assert_eq!(list.iter().collect::<Vec<_>>(), [(5, 1), (6, 2)]);
    for count in [3, u64::from(u32::MAX)] {
        let arguments = words(&[count, 5, 1, 6, 2]);
        assert_eq!(parse_operation(opcode::BATCH_FORGET, &arguments).unwrap_err(), Malformed::TooShort);
    }
}

#[test]
fn every_operation_refuses_arguments_cut_short() {
    let without_arguments = [
        opcode::READLINK,
        opcode::STATFS,
        opcode::OPENDIR,
        opcode::INTERRUPT,
        opcode::DESTROY,
        opcode::IOCTL,
    ];
    for code in opcode::ALL.iter().filter(|code| !without_arguments.contains(code)) {
        assert!(parse_operation(*code, &[]).is_err(), "operation {code}");
        assert!(parse_operation(*code, &[0xff; 3]).is_err(), "operation {code}");
    }
}

/// 400,000 requests of random bytes, with random headers and lengths: parsing ends, and a name is one component.
#[test]
fn random_bytes_never_panic() {
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    let mut understood = 0_u32;
    for _ in 0..400_000 {
        let length = usize::try_from(next() % 160).unwrap();
        let mut bytes: Vec<u8> = (0..length).map(|_| next().to_le_bytes()[0] & 0x83).collect();
        if let Some(head) = bytes.get_mut(..8) {
            head[..4].copy_from_slice(&u32::try_from(length).unwrap().to_ne_bytes());
            head[4..].copy_from_slice(&u32::try_from(next() % 60).unwrap().to_ne_bytes());
        }
        let Ok((header, arguments)) = parse_header(&bytes) else { continue };
        match parse_operation(header.opcode, arguments) {
            Ok(Operation::Lookup { name }) => assert!(!name.as_c_str().to_bytes().contains(&b'/')),
            Ok(Operation::BatchForget(list)) => assert!(list.iter().count() <= length),
            Ok(Operation::Write { data, .. }) => assert!(data.len() <= length),
            Ok(_) => {}
            Err(_) => continue,
        }
        understood += 1;
    }
    assert!(understood > 10_000, "the loop must reach the operations too: {understood}");
}
