//! dnstap: what a DNS server saw, as protocol buffers (dnstap.info, dnstap.proto).
//!
//!   Dnstap:  identity 1, version 2, extra 3, message 14, type 15
//!   Message: type 1, family 2, protocol 3, query address 4, response address 5, ports 6 and 7,
//!            query time 8 (s) and 9 (ns, fixed32), query message 10, zone 11,
//!            response time 12 and 13, response message 14
//!
//! Encoding: a key (field number << 3 | wire type) and a value: 0 varint, 1 eight
//! octets, 2 length and octets, 5 four octets. The last of a repeated field counts;
//! unknown fields are skipped.

use std::net::IpAddr;

use crate::error::{Why, WireError};

/// Kind of message: who asked whom, and whether it is the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageType(pub u32);

/// Names of [`MessageType`] by code; 0 stands for those that have none.
pub const MESSAGE_TYPES: [&str; 15] = [
    "unknown",
    "auth_query",
    "auth_response",
    "resolver_query",
    "resolver_response",
    "client_query",
    "client_response",
    "forwarder_query",
    "forwarder_response",
    "stub_query",
    "stub_response",
    "tool_query",
    "tool_response",
    "update_query",
    "update_response",
];

impl MessageType {
    pub const AUTH_RESPONSE: Self = Self(2);
    pub const RESOLVER_RESPONSE: Self = Self(4);
    pub const CLIENT_RESPONSE: Self = Self(6);
    pub const FORWARDER_RESPONSE: Self = Self(8);

    /// Index into [`MESSAGE_TYPES`].
    pub fn index(self) -> usize {
        if (self.0 as usize) < MESSAGE_TYPES.len() { self.0 as usize } else { 0 }
    }

    pub fn name(self) -> &'static str {
        MESSAGE_TYPES[self.index()]
    }
}

/// A decoded frame; everything is borrowed from it, absent is empty or `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dnstap<'a> {
    pub identity: &'a [u8],
    pub version: &'a [u8],
    /// Of the message; 0 where there is none.
    pub kind: MessageType,
    pub query_address: &'a [u8],
    pub response_address: &'a [u8],
    pub query_port: u32,
    pub response_port: u32,
    /// Seconds and nanoseconds.
    pub query_time: Option<(u64, u32)>,
    pub response_time: Option<(u64, u32)>,
    pub query_message: &'a [u8],
    pub response_message: &'a [u8],
}

impl Dnstap<'_> {
    pub fn query_ip(&self) -> Option<IpAddr> {
        ip(self.query_address)
    }

    pub fn response_ip(&self) -> Option<IpAddr> {
        ip(self.response_address)
    }
}

fn ip(octets: &[u8]) -> Option<IpAddr> {
    match octets.len() {
        4 => <[u8; 4]>::try_from(octets).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(octets).ok().map(IpAddr::from),
        _ => None,
    }
}

/// A field's value.
#[derive(Clone, Copy)]
enum Value<'a> {
    Number(u64),
    Octets(&'a [u8]),
}

impl<'a> Value<'a> {
    fn number(self) -> u64 {
        match self {
            Self::Number(number) => number,
            Self::Octets(_) => 0,
        }
    }

    fn octets(self) -> &'a [u8] {
        match self {
            Self::Number(_) => &[],
            Self::Octets(octets) => octets,
        }
    }
}

/// Fields of one message, with offsets in the frame for errors.
struct Fields<'a> {
    rest: &'a [u8],
    offset: usize,
}

impl<'a> Fields<'a> {
    fn error(&self, reading: &'static str, why: Why) -> WireError {
        WireError { offset: self.offset, reading, why }
    }

    fn take(&mut self, len: usize, reading: &'static str) -> Result<&'a [u8], WireError> {
        let Some((octets, rest)) = self.rest.split_at_checked(len) else {
            return Err(self.error(reading, Why::Truncated { left: self.rest.len() }));
        };
        self.rest = rest;
        self.offset += len;
        Ok(octets)
    }

    fn varint(&mut self, reading: &'static str) -> Result<u64, WireError> {
        let mut value = 0u64;
        for (at, octet) in self.rest.iter().take(10).enumerate() {
            value |= u64::from(octet & 0x7f) << (7 * at).min(63);
            if octet & 0x80 == 0 {
                self.take(at + 1, reading)?;
                return Ok(value);
            }
        }
        Err(match self.rest.len() {
            10.. => self.error(reading, Why::Length(10)),
            left => self.error(reading, Why::Truncated { left }),
        })
    }

    fn next(&mut self) -> Result<Option<(u64, Value<'a>)>, WireError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let key = self.varint("field key")?;
        let value = match key & 7 {
            0 => Value::Number(self.varint("field value")?),
            1 => Value::Octets(self.take(8, "field of eight octets")?),
            2 => {
                let len = self.varint("field length")?;
                Value::Octets(self.take(usize::try_from(len).unwrap_or(usize::MAX), "field of octets")?)
            }
            5 => {
                let octets = self.take(4, "field of four octets")?;
                let mut word = [0; 4];
                word.copy_from_slice(octets);
                Value::Number(u64::from(u32::from_le_bytes(word)))
            }
            other => return Err(self.error("field wire type", Why::Value(other as u32))),
        };
        Ok(Some((key >> 3, value)))
    }
}

/// Decodes the payload of one data frame.
pub fn parse(frame: &[u8]) -> Result<Dnstap<'_>, WireError> {
    let mut dnstap = Dnstap::default();
    let mut fields = Fields { rest: frame, offset: 0 };
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => dnstap.identity = value.octets(),
            2 => dnstap.version = value.octets(),
            14 => {
                let octets = value.octets();
                parse_message(Fields { rest: octets, offset: fields.offset - octets.len() }, &mut dnstap)?;
            }
            _ => {}
        }
    }
    Ok(dnstap)
}

fn parse_message<'a>(mut fields: Fields<'a>, dnstap: &mut Dnstap<'a>) -> Result<(), WireError> {
    let seconds = |time: &mut Option<(u64, u32)>, value: Value<'_>| time.get_or_insert_default().0 = value.number();
    let nanos =
        |time: &mut Option<(u64, u32)>, value: Value<'_>| time.get_or_insert_default().1 = value.number() as u32;
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => dnstap.kind = MessageType(value.number() as u32),
            4 => dnstap.query_address = value.octets(),
            5 => dnstap.response_address = value.octets(),
            6 => dnstap.query_port = value.number() as u32,
            7 => dnstap.response_port = value.number() as u32,
            8 => seconds(&mut dnstap.query_time, value),
            9 => nanos(&mut dnstap.query_time, value),
            10 => dnstap.query_message = value.octets(),
            12 => seconds(&mut dnstap.response_time, value),
            13 => nanos(&mut dnstap.response_time, value),
            14 => dnstap.response_message = value.octets(),
            _ => {}
        }
    }
    Ok(())
}

/// Encodes a frame's payload; what tests and the simulator send.
pub fn encode(dnstap: &Dnstap<'_>) -> Vec<u8> {
    let mut message = Vec::with_capacity(64 + dnstap.query_message.len() + dnstap.response_message.len());
    let family = match dnstap.query_address.len().max(dnstap.response_address.len()) {
        16 => 2,
        _ => 1,
    };
    put_number(&mut message, 1, u64::from(dnstap.kind.0));
    put_number(&mut message, 2, family);
    put_number(&mut message, 3, 1);
    put_octets(&mut message, 4, dnstap.query_address);
    put_octets(&mut message, 5, dnstap.response_address);
    for (number, port) in [(6, dnstap.query_port), (7, dnstap.response_port)] {
        if port != 0 {
            put_number(&mut message, number, u64::from(port));
        }
    }
    let times =
        [(8, dnstap.query_time, 10, dnstap.query_message), (12, dnstap.response_time, 14, dnstap.response_message)];
    for (number, time, message_number, octets) in times {
        if let Some((seconds, nanos)) = time {
            put_number(&mut message, number, seconds);
            put_varint(&mut message, (number + 1) << 3 | 5);
            message.extend_from_slice(&nanos.to_le_bytes());
        }
        put_octets(&mut message, message_number, octets);
    }
    let mut frame = Vec::with_capacity(message.len() + 64);
    put_octets(&mut frame, 1, dnstap.identity);
    put_octets(&mut frame, 2, dnstap.version);
    put_octets(&mut frame, 14, &message);
    put_number(&mut frame, 15, 1);
    frame
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_number(out: &mut Vec<u8>, number: u64, value: u64) {
    put_varint(out, number << 3);
    put_varint(out, value);
}

fn put_octets(out: &mut Vec<u8>, number: u64, octets: &[u8]) {
    if !octets.is_empty() {
        put_varint(out, number << 3 | 2);
        put_varint(out, octets.len() as u64);
        out.extend_from_slice(octets);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Dnstap<'static> {
        Dnstap {
            identity: b"resolver-1",
            version: b"test",
            kind: MessageType::CLIENT_RESPONSE,
            query_address: &[192, 0, 2, 1],
            response_address: &[192, 0, 2, 53],
            query_port: 40_000,
            response_port: 53,
            query_time: Some((1_700_000_000, 5)),
            response_time: Some((1_700_000_001, 999_999_999)),
            query_message: b"question",
            response_message: b"answer",
        }
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        let frame = encode(&sample());
        assert_eq!(parse(&frame), Ok(sample()));
        assert_eq!(sample().query_ip(), Some(IpAddr::from([192, 0, 2, 1])));
        assert_eq!(sample().kind.name(), "client_response");
    }

    #[test]
    fn every_prefix_is_an_error_or_a_shorter_message() {
        let frame = encode(&sample());
        let mut errors = 0;
        // The last field of two octets says only that there was a message.
        for end in 0..frame.len() - 2 {
            match parse(&frame[..end]) {
                Ok(shorter) => assert_ne!(shorter, sample(), "prefix of {end} octets"),
                Err(error) => {
                    assert!(error.offset <= end);
                    errors += 1;
                }
            }
        }
        assert!(errors > frame.len() / 2);
    }

    #[test]
    fn odd_fields_are_skipped_or_refused() {
        let mut frame = vec![0x98, 0x06, 0x01, 0x99, 0x06, 1, 2, 3, 4, 5, 6, 7, 8];
        frame.extend(encode(&sample()));
        assert_eq!(parse(&frame), Ok(sample()));
        assert_eq!(parse(&[0x0b]).map_err(|error| error.why), Err(Why::Value(3)));
        assert_eq!(parse(&[0xff; 11]).map_err(|error| error.why), Err(Why::Length(10)));
        let huge = [0x72, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        assert_eq!(parse(&huge).map_err(|error| error.why), Err(Why::Truncated { left: 0 }));
        assert_eq!(MessageType(77).name(), "unknown");
    }
}
