//! DNS answers: which addresses a name has, and over which other names (RFC 1035).
//!
//!   message:  | id, flags, counts of question, answer, authority, additional: 6 x u16 |
//!             | question: name, type, class | records: name, type, class, TTL u32, length u16, data | ... |
//!
//! A name is labels of up to 63 octets; `11` in a length's top bits points back
//! (RFC 1035 4.1.4). Names are kept in lower-case wire form, whatever their octets.

use crate::error::{Why, WireError};

/// RFC 1035 2.3.4.
pub const NAME_OCTETS_MAX: usize = 255;
const HEADER_OCTETS: usize = 12;
/// Records of one answer that are looked at.
const RECORDS_MAX: usize = 512;
/// CNAME and DNAME steps that are followed.
const CHAIN_MAX: usize = 16;

mod rtype {
    pub const A: u16 = 1;
    pub const CNAME: u16 = 5;
    pub const AAAA: u16 = 28;
    /// RFC 6672.
    pub const DNAME: u16 = 39;
    /// RFC 9460.
    pub const SVCB: u16 = 64;
    pub const HTTPS: u16 = 65;
}

const CLASS_IN: u16 = 1;

/// A name in lower-case wire form, on the stack.
#[derive(Clone, Copy)]
pub struct Name {
    octets: [u8; NAME_OCTETS_MAX],
    len: u8,
}

impl Default for Name {
    fn default() -> Self {
        Self { octets: [0; NAME_OCTETS_MAX], len: 1 }
    }
}

impl std::fmt::Debug for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.wire().escape_ascii())
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.wire() == other.wire()
    }
}

impl Name {
    /// Labels with their lengths, ending in the root's zero.
    pub fn wire(&self) -> &[u8] {
        &self.octets[..usize::from(self.len)]
    }

    fn push(&mut self, at: usize, octets: &[u8]) -> Option<usize> {
        self.octets.get_mut(at..at + octets.len())?.copy_from_slice(octets);
        Some(at + octets.len())
    }

    /// The name with the suffix `from` replaced by `to` (RFC 6672 2.2); `None` where
    /// it does not end so, is the suffix itself, or gets too long.
    fn substituted(&self, from: &Name, to: &Name) -> Option<Name> {
        let keep = self.wire().len().checked_sub(from.wire().len()).filter(|keep| *keep > 0)?;
        let (head, tail) = self.wire().split_at(keep);
        if tail != from.wire() {
            return None;
        }
        // The suffix must begin at a label.
        let mut at = 0;
        while at < keep {
            at += 1 + usize::from(self.octets[at]);
        }
        if at != keep {
            return None;
        }
        let mut name = Name::default();
        let len = name.push(0, head).and_then(|at| name.push(at, to.wire()))?;
        name.len = u8::try_from(len).ok()?;
        Some(name)
    }
}

fn u16_at(message: &[u8], at: usize) -> Option<u16> {
    message.get(at..)?.first_chunk().map(|octets| u16::from_be_bytes(*octets))
}

fn error(offset: usize, reading: &'static str, why: Why) -> WireError {
    WireError { offset, reading, why }
}

fn truncated(message: &[u8], offset: usize, reading: &'static str) -> WireError {
    // A label may promise more than there is.
    let offset = offset.min(message.len());
    error(offset, reading, Why::Truncated { left: message.len() - offset })
}

/// The name at `offset`, and where what follows it begins.
pub fn name_at(message: &[u8], offset: usize) -> Result<(Name, usize), WireError> {
    let mut name = Name::default();
    let mut len = 0;
    let mut at = offset;
    let mut after = None;
    // A pointer leads to a prior place (RFC 1035 4.1.4): each one before the last, so no loop.
    let mut lowest = offset;
    loop {
        let Some(octet) = message.get(at).copied() else { return Err(truncated(message, at, "name")) };
        match octet {
            0 => {
                name.octets[len] = 0;
                name.len = len as u8 + 1;
                return Ok((name, after.unwrap_or(at + 1)));
            }
            1..=63 => {
                let label = usize::from(octet);
                let Some(octets) = message.get(at + 1..at + 1 + label) else {
                    return Err(truncated(message, at, "label"));
                };
                // One octet is left for the root.
                if len + 1 + label >= NAME_OCTETS_MAX {
                    return Err(error(at, "name", Why::Length((len + 2 + label) as u32)));
                }
                name.octets[len] = octet;
                for (to, from) in name.octets[len + 1..].iter_mut().zip(octets) {
                    *to = from.to_ascii_lowercase();
                }
                len += 1 + label;
                at += 1 + label;
            }
            0xc0.. => {
                let Some(pointer) = u16_at(message, at) else { return Err(truncated(message, at, "name pointer")) };
                let target = usize::from(pointer & 0x3fff);
                if target >= lowest {
                    return Err(error(at, "name pointer", Why::Value(target as u32)));
                }
                after = after.or(Some(at + 2));
                lowest = target;
                at = target;
            }
            other => return Err(error(at, "label type", Why::Value(u32::from(other)))),
        }
    }
}

/// Where what follows the name begins; pointers are not followed.
fn skip_name(message: &[u8], offset: usize) -> Result<usize, WireError> {
    let mut at = offset;
    loop {
        match message.get(at).copied() {
            None => return Err(truncated(message, at, "name")),
            Some(0) => return Ok(at + 1),
            Some(label @ 1..=63) => at += 1 + usize::from(label),
            Some(0xc0..) => return Ok(at + 2),
            Some(other) => return Err(error(at, "label type", Why::Value(u32::from(other)))),
        }
    }
}

/// What an answer says about a name; reused from message to message.
#[derive(Clone, Debug, Default)]
pub struct Resolution {
    pub asked: Name,
    pub question_type: u16,
    /// RFC 1035 4.1.1: 0 is no error, 3 is no such name.
    pub response_code: u8,
    /// The sender says so (TC).
    pub truncated: bool,
    /// Names on the way, in order, each with the TTL of the step to it in seconds.
    pub aliases: Vec<(Name, u32)>,
    /// Sixteen octets, IPv4 mapped, with the TTL in seconds.
    pub addresses: Vec<([u8; 16], u32)>,
    records: Vec<Record>,
}

#[derive(Clone, Copy, Debug)]
struct Record {
    owner: Name,
    rtype: u16,
    ttl_s: u32,
    data: usize,
    len: usize,
}

/// Why a message that can be read says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Resolved,
    /// A question, not an answer.
    Query,
    /// Neither one question nor of class IN.
    OtherQuestion,
    /// An error, or no records that lead to an address.
    Empty,
}

/// Reads a response. In one that the sender cut (TC) what is whole counts.
pub fn resolve(message: &[u8], resolution: &mut Resolution) -> Result<Outcome, WireError> {
    resolution.aliases.clear();
    resolution.addresses.clear();
    resolution.records.clear();
    let Some(header) = message.first_chunk::<HEADER_OCTETS>() else {
        return Err(truncated(message, 0, "header"));
    };
    let [_, _, flags_high, flags_low, questions_high, questions_low, answers_high, answers_low, ..] = *header;
    resolution.truncated = flags_high & 0x02 != 0;
    resolution.response_code = flags_low & 0x0f;
    if flags_high & 0x80 == 0 {
        return Ok(Outcome::Query);
    }
    // Opcode QUERY only (RFC 1035 4.1.1); one question (RFC 9619).
    if flags_high & 0x78 != 0 || [questions_high, questions_low] != [0, 1] {
        return Ok(Outcome::OtherQuestion);
    }
    let (asked, at) = name_at(message, HEADER_OCTETS)?;
    let (Some(question_type), Some(class)) = (u16_at(message, at), u16_at(message, at + 2)) else {
        return Err(truncated(message, at, "question"));
    };
    (resolution.asked, resolution.question_type) = (asked, question_type);
    if class != CLASS_IN {
        return Ok(Outcome::OtherQuestion);
    }
    let answers = usize::from(u16::from_be_bytes([answers_high, answers_low])).min(RECORDS_MAX);
    match read_records(message, at + 4, answers, resolution) {
        Ok(()) => {}
        Err(_) if resolution.truncated => {}
        Err(error) => return Err(error),
    }
    follow(message, resolution)?;
    Ok(if resolution.addresses.is_empty() && resolution.aliases.is_empty() {
        Outcome::Empty
    } else {
        Outcome::Resolved
    })
}

/// Records of interest, with their owners; others are skipped.
fn read_records(message: &[u8], from: usize, number: usize, resolution: &mut Resolution) -> Result<(), WireError> {
    let mut at = from;
    for _ in 0..number {
        let owner_at = at;
        at = skip_name(message, owner_at)?;
        let Some(fixed) = message.get(at..).and_then(|rest| rest.first_chunk::<10>()) else {
            return Err(truncated(message, at, "record"));
        };
        let [t0, t1, c0, c1, ttl @ .., l0, l1] = *fixed;
        let (rtype, class) = (u16::from_be_bytes([t0, t1]), u16::from_be_bytes([c0, c1]));
        let len = usize::from(u16::from_be_bytes([l0, l1]));
        let data = at + 10;
        if message.len() < data + len {
            return Err(truncated(message, data, "record data"));
        }
        at = data + len;
        let known = matches!(rtype, rtype::A | rtype::AAAA | rtype::CNAME | rtype::DNAME | rtype::SVCB | rtype::HTTPS);
        if class != CLASS_IN || !known {
            continue;
        }
        // RFC 2181 8: the top bit set means zero.
        let ttl_s = u32::from_be_bytes(ttl);
        let ttl_s = if ttl_s >> 31 == 0 { ttl_s } else { 0 };
        // Nearly every owner is a pointer to the question.
        let owner = match message.get(owner_at..owner_at + 2) {
            Some([0xc0, 0x0c]) => resolution.asked,
            _ => name_at(message, owner_at)?.0,
        };
        resolution.records.push(Record { owner, rtype, ttl_s, data, len });
    }
    Ok(())
}

/// From the name asked for along CNAME and DNAME to the addresses, whatever the records' order.
fn follow(message: &[u8], resolution: &mut Resolution) -> Result<(), WireError> {
    let Resolution { asked, aliases, addresses, records, .. } = resolution;
    let mut current = *asked;
    while aliases.len() < CHAIN_MAX {
        let step = records.iter().find(|record| record.rtype == rtype::CNAME && record.owner == current);
        let next = match step {
            Some(record) => Some((name_at(message, record.data)?.0, record.ttl_s)),
            // A resolver that left out the CNAME it should have made (RFC 6672 3.2).
            None => records.iter().filter(|record| record.rtype == rtype::DNAME).find_map(|record| {
                let (target, _) = name_at(message, record.data).ok()?;
                Some((current.substituted(&record.owner, &target)?, record.ttl_s))
            }),
        };
        match next {
            // Not in circles.
            Some((target, ttl_s)) if target != *asked && !aliases.iter().any(|(alias, _)| *alias == target) => {
                aliases.push((target, ttl_s));
                current = target;
            }
            _ => break,
        }
    }
    for record in records.iter() {
        if record.owner != *asked && !aliases.iter().any(|(alias, _)| *alias == record.owner) {
            continue;
        }
        let data = message.get(record.data..record.data + record.len).unwrap_or_default();
        match record.rtype {
            rtype::A => match <[u8; 4]>::try_from(data) {
                Ok(v4) => addresses.push((mapped(v4), record.ttl_s)),
                Err(_) => return Err(error(record.data, "A record", Why::Length(record.len as u32))),
            },
            rtype::AAAA => match <[u8; 16]>::try_from(data) {
                Ok(v6) => addresses.push((v6, record.ttl_s)),
                Err(_) => return Err(error(record.data, "AAAA record", Why::Length(record.len as u32))),
            },
            rtype::SVCB | rtype::HTTPS => hints(message, record, addresses)?,
            _ => {}
        }
    }
    Ok(())
}

fn mapped([a, b, c, d]: [u8; 4]) -> [u8; 16] {
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d]
}

/// Address hints of a service binding (RFC 9460 2.2, 7.3):
/// | priority u16 | target name, uncompressed | key u16, length u16, value | ... |
fn hints(message: &[u8], record: &Record, addresses: &mut Vec<([u8; 16], u32)>) -> Result<(), WireError> {
    let end = record.data + record.len;
    let mut at = skip_name(message, record.data + 2)?;
    while at < end {
        let (Some(key), Some(len)) = (u16_at(message, at), u16_at(message, at + 2)) else {
            return Err(truncated(message, at, "service parameter"));
        };
        let from = at + 4;
        at = from + usize::from(len);
        if at > end {
            return Err(error(from, "service parameter", Why::Length(u32::from(len))));
        }
        let value = message.get(from..at).unwrap_or_default();
        match key {
            4 => addresses.extend(value.as_chunks::<4>().0.iter().map(|v4| (mapped(*v4), record.ttl_s))),
            6 => addresses.extend(value.as_chunks::<16>().0.iter().map(|v6| (*v6, record.ttl_s))),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(name: &str) -> Vec<u8> {
        let mut wire: Vec<u8> =
            name.split('.').flat_map(|label| std::iter::once(label.len() as u8).chain(label.bytes())).collect();
        wire.push(0);
        wire
    }

    fn header(flags: u16, answers: u16) -> Vec<u8> {
        let words = [1, flags, 1, answers, 0, 0];
        words.iter().flat_map(|word: &u16| word.to_be_bytes()).collect()
    }

    fn record(owner: &[u8], rtype: u16, ttl_s: u32, data: &[u8]) -> Vec<u8> {
        let mut record = owner.to_vec();
        record.extend_from_slice(&rtype.to_be_bytes());
        record.extend_from_slice(&CLASS_IN.to_be_bytes());
        record.extend_from_slice(&ttl_s.to_be_bytes());
        record.extend_from_slice(&(data.len() as u16).to_be_bytes());
        record.extend_from_slice(data);
        record
    }

    fn message(asked: &str, records: &[Vec<u8>]) -> Vec<u8> {
        let mut message = header(0x8180, records.len() as u16);
        message.extend(wire(asked));
        message.extend_from_slice(&[0, 1, 0, 1]);
        records.iter().for_each(|record| message.extend(record));
        message
    }

    fn read(message: &[u8]) -> Result<(Outcome, Resolution), WireError> {
        let mut resolution = Resolution::default();
        resolve(message, &mut resolution).map(|outcome| (outcome, resolution))
    }

    const ASKED: &[u8] = &[0xc0, 12];

    #[test]
    fn a_chain_is_followed_in_any_order() {
        let records = [
            record(ASKED, rtype::CNAME, 300, &wire("edge.CDN.example.net")),
            record(&wire("edge.cdn.example.net"), rtype::CNAME, 60, &wire("node7.example.net")),
            record(&wire("NODE7.example.net"), rtype::A, 20, &[192, 0, 2, 7]),
            record(&wire("node7.example.net"), rtype::A, 20, &[192, 0, 2, 8]),
            record(&wire("other.example.net"), rtype::A, 20, &[192, 0, 2, 9]),
        ];
        let mut backwards = records.to_vec();
        backwards.reverse();
        for records in [records.to_vec(), backwards] {
            let (outcome, resolution) = read(&message("www.Example.com", &records)).expect("well formed");
            assert_eq!(outcome, Outcome::Resolved);
            assert_eq!(resolution.asked.wire(), wire("www.example.com"));
            let aliases: Vec<_> =
                resolution.aliases.iter().map(|(name, ttl_s)| (name.wire().to_vec(), *ttl_s)).collect();
            assert_eq!(aliases, [(wire("edge.cdn.example.net"), 300), (wire("node7.example.net"), 60)]);
            let mut addresses = resolution.addresses.clone();
            addresses.sort_unstable();
            assert_eq!(addresses, [(mapped([192, 0, 2, 7]), 20), (mapped([192, 0, 2, 8]), 20)]);
        }
    }

    #[test]
    fn dname_without_its_cname_is_substituted() {
        let records = [
            record(&wire("example.com"), rtype::DNAME, 60, &wire("example.org")),
            record(&wire("a.b.example.org"), rtype::AAAA, 5, &[1; 16]),
        ];
        let (_, resolution) = read(&message("a.b.example.com", &records)).expect("well formed");
        assert_eq!(resolution.aliases[0].0.wire(), wire("a.b.example.org"));
        assert_eq!(resolution.addresses, [([1; 16], 5)]);
        // "xexample.com" ends in the same letters, not in the same labels.
        let (outcome, _) = read(&message("xexample.com", &records[..1])).expect("well formed");
        assert_eq!(outcome, Outcome::Empty);
    }

    #[test]
    fn compression_loops_are_refused() {
        let mut own = message("a", &[record(&[0xc0, 12], rtype::A, 1, &[1, 2, 3, 4])]);
        // The question's name points to itself.
        own[12..14].copy_from_slice(&[0xc0, 12]);
        let failed = read(&own).expect_err("a loop");
        assert_eq!((failed.offset, failed.why), (12, Why::Value(12)));
        let forward = message("a", &[record(&[0xc0, 0xff], rtype::A, 1, &[1, 2, 3, 4])]);
        assert_eq!(read(&forward).expect_err("forward").reading, "name pointer");
    }

    #[test]
    fn canonical_name_loops_end() {
        let records = [
            record(ASKED, rtype::CNAME, 1, &wire("b.example")),
            record(&wire("b.example"), rtype::CNAME, 1, &wire("a.example")),
        ];
        let (_, resolution) = read(&message("a.example", &records)).expect("well formed");
        assert_eq!(resolution.aliases.len(), 1);
    }

    #[test]
    fn odd_octets_are_kept() {
        let mut asked = header(0x8180, 1);
        asked.extend_from_slice(&[4, 0, 0xff, b'.', b'A', 3, b'c', b'o', b'm', 0, 0, 1, 0, 1]);
        asked.extend(record(ASKED, rtype::A, 0, &[192, 0, 2, 1]));
        let (_, resolution) = read(&asked).expect("well formed");
        assert_eq!(resolution.asked.wire(), [4, 0, 0xff, b'.', b'a', 3, b'c', b'o', b'm', 0]);
        assert_eq!(resolution.addresses.len(), 1);
    }

    #[test]
    fn names_are_bounded() {
        let label = "x".repeat(63);
        let longest = format!("{label}.{label}.{label}.{}", "x".repeat(61));
        assert_eq!(wire(&longest).len(), NAME_OCTETS_MAX);
        assert!(read(&message(&longest, &[])).is_ok());
        assert!(read(&message(&format!("{longest}x"), &[])).is_err());
        // A long label and a pointer to a long name.
        let mut owner = vec![1, b'y'];
        owner.extend_from_slice(ASKED);
        let failed = read(&message(&longest, &[record(&owner, rtype::A, 1, &[0; 4])])).expect_err("too long");
        assert!(matches!(failed.why, Why::Length(_)));
    }

    #[test]
    fn service_bindings_give_hints() {
        let mut data = vec![0, 1, 0];
        data.extend_from_slice(&[0, 1, 0, 3, 2, b'h', b'2']);
        data.extend_from_slice(&[0, 4, 0, 8, 192, 0, 2, 1, 192, 0, 2, 2]);
        data.extend_from_slice(&[0, 6, 0, 16]);
        data.extend_from_slice(&[9; 16]);
        let (_, resolution) = read(&message("a.example", &[record(ASKED, rtype::HTTPS, 30, &data)])).expect("fine");
        assert_eq!(resolution.addresses.len(), 3);
        let cut = [0, 1, 0, 0, 4, 0, 8, 192, 0];
        assert!(read(&message("a.example", &[record(ASKED, rtype::HTTPS, 30, &cut)])).is_err());
    }

    #[test]
    fn what_the_sender_cut_counts_as_far_as_it_goes() {
        let whole = [record(ASKED, rtype::A, 60, &[192, 0, 2, 1]), record(ASKED, rtype::A, 60, &[192, 0, 2, 2])];
        let mut cut = message("a.example", &whole);
        cut.truncate(cut.len() - 3);
        assert!(read(&cut).is_err(), "cut by somebody else");
        cut[2] |= 0x02;
        let (_, resolution) = read(&cut).expect("cut by the sender");
        assert_eq!(resolution.addresses, [(mapped([192, 0, 2, 1]), 60)]);
        assert!(resolution.truncated);
    }

    #[test]
    fn other_messages_say_so() {
        let mut query = message("a.example", &[]);
        query[2] = 0x01;
        assert_eq!(read(&query).expect("fine").0, Outcome::Query);
        let mut update = message("a.example", &[]);
        update[2] = 0xa8;
        assert_eq!(read(&update).expect("fine").0, Outcome::OtherQuestion);
        let mut chaos = message("version.bind", &[]);
        let end = chaos.len();
        chaos[end - 1] = 3;
        assert_eq!(read(&chaos).expect("fine").0, Outcome::OtherQuestion);
        assert_eq!(read(&message("a.example", &[])).expect("fine").0, Outcome::Empty);
        assert_eq!(read(&[0; 11]).expect_err("short").reading, "header");
        let four = message("a.example", &[record(ASKED, rtype::A, 60, &[1, 2, 3])]);
        assert_eq!(read(&four).expect_err("three octets").reading, "A record");
    }

    #[test]
    fn every_prefix_is_an_error() {
        let whole = message("www.example.com", &[record(ASKED, rtype::CNAME, 9, &wire("b.example"))]);
        for end in 0..whole.len() {
            assert!(read(&whole[..end]).is_err(), "prefix of {end} octets");
        }
    }

    #[test]
    fn mutated_messages_are_read_or_refused() {
        let records = [
            record(ASKED, rtype::CNAME, 300, &wire("edge.cdn.example.net")),
            record(&wire("edge.cdn.example.net"), rtype::DNAME, 60, &wire("example.org")),
            record(ASKED, rtype::HTTPS, 30, &[0, 1, 0, 0, 4, 0, 4, 192, 0, 2, 1]),
            record(&[4, b'e', b'd', b'g', b'e', 0xc0, 12], rtype::A, 20, &[192, 0, 2, 7]),
        ];
        let whole = message("www.example.com", &records);
        let mut resolution = Resolution::default();
        // A linear congruential generator: the same octets each time.
        let mut state = 1u64;
        let mut next = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below
        };
        let (mut read, mut refused) = (0, 0);
        for _ in 0..200_000 {
            let mut mutated = whole.clone();
            for _ in 0..=next(4) {
                let at = next(mutated.len());
                mutated[at] = match next(3) {
                    0 => next(256) as u8,
                    1 => mutated[at] ^ 1 << next(8),
                    _ => [0, 1, 12, 0x3f, 0x40, 0xc0, 0xff][next(7)],
                };
            }
            mutated.truncate(mutated.len() - next(8).saturating_sub(5) * next(20));
            match resolve(&mutated, &mut resolution) {
                Ok(_) => read += 1,
                Err(error) => {
                    assert!(error.offset <= mutated.len(), "{error}");
                    refused += 1;
                }
            }
            assert!(resolution.aliases.len() <= CHAIN_MAX && resolution.addresses.len() <= 4 * RECORDS_MAX);
        }
        assert!(read > 10_000 && refused > 10_000, "{read} {refused}");
    }
}
