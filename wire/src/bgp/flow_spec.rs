//! Rules of FlowSpec (RFC 8955 4.2, RFC 8956 3).
//!
//! | component type u8 | value |   repeated, types ascending
//! prefix IPv4: | length in bits u8 | octets |      IPv6: | length u8 | offset u8 | octets from the offset on |
//! the others:  | operator u8 | value of 1, 2, 4 or 8 octets |   repeated, to the operator with the end bit

use std::fmt::{self, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr};

use super::Cursor;
use crate::error::{Why, WireError};

const END: u8 = 0x80;
const AND: u8 = 0x40;
const LESS: u8 = 0x04;
const GREATER: u8 = 0x02;
const EQUAL: u8 = 0x01;
/// Of a bitmask.
const NOT: u8 = 0x02;
const MATCH: u8 = 0x01;

/// One rule; its text is what [`fmt::Display`] writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowRule<'a> {
    /// 0 where not agreed.
    pub path_id: u32,
    /// Of a VPN family.
    pub rd: Option<[u8; 8]>,
    /// The components.
    pub octets: &'a [u8],
    pub v6: bool,
}

/// What a component says.
enum Component<'a> {
    /// Type, length and offset in bits, octets.
    Prefix(u8, u8, u8, &'a [u8]),
    /// Type, terms.
    Terms(u8, &'a [u8]),
}

impl<'a> FlowRule<'a> {
    /// RFC 8955 4.2: known components, in order, each whole.
    pub(super) fn check(&self, offset: usize) -> Result<(), WireError> {
        let mut cursor = Cursor::new(self.octets, offset);
        let mut last = 0;
        while !cursor.rest.is_empty() {
            let at = cursor.offset;
            let (Component::Prefix(kind, ..) | Component::Terms(kind, _)) = component(&mut cursor, self.v6)?;
            if kind <= last {
                return Err(WireError { offset: at, reading: "order of components", why: Why::Value(kind.into()) });
            }
            last = kind;
        }
        if last == 0 {
            return Err(WireError { offset, reading: "components", why: Why::Length(0) });
        }
        Ok(())
    }
}

fn component<'a>(cursor: &mut Cursor<'a>, v6: bool) -> Result<Component<'a>, WireError> {
    let at = cursor.offset;
    let kind = cursor.u8("component type")?;
    match kind {
        1 | 2 => {
            let at = cursor.offset;
            let len = cursor.u8("prefix length")?;
            let from = if v6 { cursor.u8("prefix offset")? } else { 0 };
            if len > if v6 { 128 } else { 32 } || (from >= len && from != 0) {
                return Err(WireError { offset: at, reading: "prefix length", why: Why::Length(len.into()) });
            }
            let octets = cursor.take(usize::from(len - from).div_ceil(8), "prefix")?;
            Ok(Component::Prefix(kind, len, from, octets))
        }
        3..=12 => terms(cursor, kind),
        13 if v6 => terms(cursor, kind),
        _ => Err(WireError { offset: at, reading: "component type", why: Why::Value(kind.into()) }),
    }
}

fn terms<'a>(cursor: &mut Cursor<'a>, kind: u8) -> Result<Component<'a>, WireError> {
    let start = cursor.rest;
    loop {
        let operator = cursor.u8("operator")?;
        cursor.take(width(operator), "value")?;
        if operator & END != 0 {
            let used = start.len() - cursor.rest.len();
            return Ok(Component::Terms(kind, &start[..used]));
        }
    }
}

fn width(operator: u8) -> usize {
    1 << (operator >> 4 & 3)
}

fn name(kind: u8) -> &'static str {
    match kind {
        1 => "destination",
        2 => "source",
        3 => "protocol",
        4 => "port",
        5 => "destination-port",
        6 => "source-port",
        7 => "icmp-type",
        8 => "icmp-code",
        9 => "tcp-flags",
        10 => "packet-length",
        11 => "dscp",
        12 => "fragment",
        _ => "flow-label",
    }
}

/// "destination 192.0.2.0/24 protocol =17 port >=1024&<=2048"; what is not understood is in hexadecimal.
impl fmt::Display for FlowRule<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut cursor = Cursor::new(self.octets, 0);
        let mut separator = "";
        while !cursor.rest.is_empty() {
            let before = cursor.rest;
            f.write_str(separator)?;
            separator = " ";
            match component(&mut cursor, self.v6) {
                Ok(Component::Prefix(kind, len, from, octets)) => {
                    let mut bits = [0u8; 16];
                    bits.iter_mut().zip(octets).for_each(|(to, octet)| *to = *octet);
                    // The octets begin at the offset.
                    let value = u128::from_be_bytes(bits) >> from & mask(len);
                    let address = value.to_be_bytes();
                    write!(f, "{} ", name(kind))?;
                    if self.v6 {
                        write!(f, "{}/{len}", Ipv6Addr::from(address))?;
                        if from > 0 {
                            write!(f, " offset {from}")?;
                        }
                    } else {
                        let [a, b, c, d, ..] = address;
                        write!(f, "{}/{len}", Ipv4Addr::new(a, b, c, d))?;
                    }
                }
                Ok(Component::Terms(kind, terms)) => {
                    write!(f, "{} ", name(kind))?;
                    write_terms(f, kind, terms)?;
                }
                Err(_) => {
                    f.write_str("0x")?;
                    for octet in before {
                        write!(f, "{octet:02x}")?;
                    }
                    break;
                }
            }
        }
        Ok(())
    }
}

fn mask(len: u8) -> u128 {
    if len == 0 { 0 } else { u128::MAX << (128 - len.min(128)) }
}

fn write_terms(f: &mut fmt::Formatter<'_>, kind: u8, mut terms: &[u8]) -> fmt::Result {
    let is_mask = matches!(kind, 9 | 12);
    let mut first = true;
    while let Some((&operator, rest)) = terms.split_first() {
        let Some((value, rest)) = rest.split_at_checked(width(operator)) else { return Ok(()) };
        terms = rest;
        if !first {
            f.write_char(if operator & AND != 0 { '&' } else { ',' })?;
        }
        first = false;
        let number = value.iter().fold(0u64, |number, octet| number << 8 | u64::from(*octet));
        if is_mask {
            let not = if operator & NOT != 0 { "!" } else { "" };
            let exact = if operator & MATCH != 0 { "=" } else { "" };
            write!(f, "{not}{exact}0x{number:x}")?;
        } else {
            let sign = match operator & (LESS | GREATER | EQUAL) {
                0 => "false",
                EQUAL => "=",
                GREATER => ">",
                0x03 => ">=",
                LESS => "<",
                0x05 => "<=",
                0x06 => "!=",
                _ => "true",
            };
            write!(f, "{sign}{number}")?;
        }
        if operator & END != 0 {
            break;
        }
    }
    Ok(())
}
