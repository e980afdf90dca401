//! Prefixes as they are announced and withdrawn.
//!
//! | [path identifier u32 (RFC 7911)] | length in bits u8 | ceil(length / 8) octets |   repeated

use super::Cursor;
use crate::error::{Why, WireError};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PrefixAddress {
    V4([u8; 4]),
    V6([u8; 16]),
}

/// Bits after `len` are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NlriPrefix {
    /// 0 where not agreed.
    pub path_id: u32,
    pub address: PrefixAddress,
    pub len: u8,
}

/// Prefixes of one family that were checked: iterating does not fail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Nlri<'a> {
    octets: &'a [u8],
    v6: bool,
    add_path: bool,
}

impl<'a> Nlri<'a> {
    /// Checks each prefix: RFC 4271 6.3, RFC 7606 5.3.
    pub(super) fn parse(octets: &'a [u8], offset: usize, v6: bool, add_path: bool) -> Result<Self, WireError> {
        let mut cursor = Cursor::new(octets, offset);
        while !cursor.rest.is_empty() {
            if add_path {
                cursor.take(4, "path identifier")?;
            }
            let at = cursor.offset;
            let len = cursor.u8("prefix length")?;
            if len > if v6 { 128 } else { 32 } {
                return Err(WireError { offset: at, reading: "prefix length", why: Why::Length(u32::from(len)) });
            }
            cursor.take(usize::from(len).div_ceil(8), "prefix")?;
        }
        Ok(Self { octets, v6, add_path })
    }

    pub fn is_empty(&self) -> bool {
        self.octets.is_empty()
    }

    pub fn is_v6(&self) -> bool {
        self.v6
    }
}

impl Iterator for Nlri<'_> {
    type Item = NlriPrefix;

    fn next(&mut self) -> Option<NlriPrefix> {
        let mut rest = self.octets;
        let mut path_id = 0;
        if self.add_path {
            let (id, after) = rest.split_first_chunk::<4>()?;
            path_id = u32::from_be_bytes(*id);
            rest = after;
        }
        let (&len, after) = rest.split_first()?;
        let (octets, after) = after.split_at_checked(usize::from(len).div_ceil(8))?;
        self.octets = after;
        let address = if self.v6 {
            PrefixAddress::V6((u128::from_be_bytes(filled(octets)?) & mask(len, 128)).to_be_bytes())
        } else {
            PrefixAddress::V4((u32::from_be_bytes(filled(octets)?) & mask(len, 32) as u32).to_be_bytes())
        };
        Some(NlriPrefix { path_id, address, len })
    }
}

fn filled<const N: usize>(octets: &[u8]) -> Option<[u8; N]> {
    let mut array = [0; N];
    array.get_mut(..octets.len())?.copy_from_slice(octets);
    Some(array)
}

fn mask(len: u8, width: u8) -> u128 {
    if len == 0 { 0 } else { u128::MAX << (width - len.min(width)) }
}
