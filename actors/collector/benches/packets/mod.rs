//! Datagrams as a provider's router sends them: nineteen fields, nineteen records.

pub const NOW_MS: i64 = 1_700_000_000_000;
/// Of one datagram.
pub const RECORDS: usize = 19;

/// Nineteen fields as a provider's router exports them (element, octets).
pub const FIELDS: [(u16, u16); 19] = [
    (8, 4),
    (12, 4),
    (15, 4),
    (10, 4),
    (14, 4),
    (2, 8),
    (1, 8),
    (152, 8),
    (153, 8),
    (7, 2),
    (11, 2),
    (4, 1),
    (6, 1),
    (5, 1),
    (16, 4),
    (17, 4),
    (9, 1),
    (13, 1),
    (61, 1),
];

pub fn message(sequence: u32, sets: &[u8]) -> Vec<u8> {
    let mut message = vec![0, 10];
    message.extend((sets.len() as u16 + 16).to_be_bytes());
    message.extend(((NOW_MS / 1000) as u32).to_be_bytes());
    message.extend(sequence.to_be_bytes());
    message.extend([0, 0, 0, 1]);
    message.extend(sets);
    message
}

pub fn set(id: u16, body: &[u8]) -> Vec<u8> {
    [&id.to_be_bytes()[..], &(body.len() as u16 + 4).to_be_bytes(), body].concat()
}

pub fn template() -> Vec<u8> {
    let mut body = vec![1, 0, 0, FIELDS.len() as u8];
    for (element, length) in FIELDS {
        body.extend(element.to_be_bytes());
        body.extend(length.to_be_bytes());
    }
    set(2, &body)
}

pub fn data(datagram: usize) -> Vec<u8> {
    data_of(&FIELDS, 256, datagram)
}

/// A set of nineteen records of these fields.
pub fn data_of(fields: &[(u16, u16)], template: u16, datagram: usize) -> Vec<u8> {
    let mut body = Vec::new();
    for record in 0..RECORDS {
        let number = (datagram * RECORDS + record) as u64;
        for &(element, length) in fields {
            let value = match element {
                152 => NOW_MS as u64 - 60_000 + number % 1000,
                153 => NOW_MS as u64 - number % 1000,
                4 => 6,
                61 => 0,
                _ => number.wrapping_mul(0x9e37_79b9_7f4a_7c15),
            };
            body.extend(&value.to_be_bytes()[8 - usize::from(length)..]);
        }
    }
    set(template, &body)
}
