//! Link state over BGP (RFC 9552): what the IGP knows of nodes, links and prefixes.
//!
//! NLRI:      | type u16 | length u16 | [route distinguisher 8 (SAFI 72)] | protocol u8 | identifier u64 | TLV ... |
//! attribute: | TLV ... |
//! TLV:       | type u16 | length u16 | value |
//!
//! The NLRI names an object, attribute 29 says what is known of it. What is not known
//! here survives by its number.

mod information;
mod nlri;

pub use information::{Delay, EndSid, Fact, Information, NodeFlags, Sid, SidRange, SidRanges, Srv6Structure};
pub use nlri::{
    LinkDescriptor, LinkStateNlri, LinkStateNlris, NlriKind, NodeDescriptor, Object, PrefixDescriptor, Protocol,
};

use super::{Cursor, PrefixAddress};
use crate::error::{Why, WireError};

/// One value, by its number in IANA's registry of BGP-LS TLVs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tlv<'a> {
    pub kind: u16,
    pub value: &'a [u8],
}

/// TLVs whose lengths add up: iterating does not fail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tlvs<'a>(&'a [u8]);

impl<'a> Tlvs<'a> {
    /// RFC 9552 8.2.2: the sum of all lengths is the whole's. `check` sees each with its value's offset.
    fn parse(
        octets: &'a [u8],
        offset: usize,
        mut check: impl FnMut(Tlv<'a>, usize) -> Result<(), WireError>,
    ) -> Result<Self, WireError> {
        let mut cursor = Cursor::new(octets, offset);
        while !cursor.rest.is_empty() {
            let (tlv, at) = next(&mut cursor)?;
            check(tlv, at)?;
        }
        Ok(Self(octets))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn octets(&self) -> &'a [u8] {
        self.0
    }

    pub fn get(self, kind: u16) -> Option<&'a [u8]> {
        self.into_iter().find(|tlv| tlv.kind == kind).map(|tlv| tlv.value)
    }
}

impl<'a> Iterator for Tlvs<'a> {
    type Item = Tlv<'a>;

    fn next(&mut self) -> Option<Tlv<'a>> {
        if self.0.is_empty() {
            return None;
        }
        let mut cursor = Cursor::new(self.0, 0);
        let found = next(&mut cursor).ok().map(|(tlv, _)| tlv);
        self.0 = if found.is_some() { cursor.rest } else { &[] };
        found
    }
}

/// The TLV, and where its value starts.
fn next<'a>(cursor: &mut Cursor<'a>) -> Result<(Tlv<'a>, usize), WireError> {
    let kind = cursor.u16("link-state TLV type")?;
    let length = usize::from(cursor.u16("link-state TLV length")?);
    let at = cursor.offset;
    Ok((Tlv { kind, value: cursor.take(length, "link-state TLV")? }, at))
}

fn length(offset: usize, value: &[u8], reading: &'static str) -> WireError {
    WireError { offset, reading, why: Why::Length(value.len() as u32) }
}

/// RFC 9552 5.2.3.2: | length in bits u8 | at least as many octets as it needs |
fn reachability(value: &[u8], v6: bool) -> Option<(PrefixAddress, u8)> {
    let (&len, octets) = value.split_first()?;
    let width = if v6 { 128 } else { 32 };
    if len > width || octets.len() < usize::from(len).div_ceil(8) || octets.len() > usize::from(width / 8) {
        return None;
    }
    let mut filled = [0; 16];
    filled[..octets.len()].copy_from_slice(octets);
    let mask = if len == 0 { 0 } else { u128::MAX << (128 - u32::from(len)) };
    let bits = (u128::from_be_bytes(filled) & mask).to_be_bytes();
    let address = match (v6, bits) {
        (true, bits) => PrefixAddress::V6(bits),
        (false, [a, b, c, d, ..]) => PrefixAddress::V4([a, b, c, d]),
    };
    Some((address, len))
}
