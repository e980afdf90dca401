//! A route's attributes as tables store them (RFC 6396 4.2, 4.3.4).
//!
//! MP_REACH_NLRI in TABLE_DUMP_V2: | next hop length u8 | next hop |
//! of TABLE_DUMP, and of writers that keep it whole: as in an UPDATE, its first octet, of the AFI, is 0

use super::attribute::{Attributes, Flags, code};
use super::encode::{attribute, encode_attributes, next_hop};
use super::error::{Class, Fault};
use super::{Agreed, BgpError, Cursor, NextHop, Nlri, RouteUpdate, Update};
use crate::error::{Why, WireError};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableRoute<'a> {
    pub attributes: Attributes<'a>,
    /// Of MP_REACH_NLRI, else of NEXT_HOP.
    pub next_hop: Option<NextHop<'a>>,
    pub faults: Vec<Fault>,
}

impl<'a> TableRoute<'a> {
    /// `offset` is where the attributes begin. A fault of class [`Class::TreatAsWithdraw`] is a route that is none.
    pub fn parse(octets: &'a [u8], offset: usize, four_octet_as: bool) -> Result<Self, BgpError> {
        let agreed = Agreed { four_octet_as, ..Agreed::default() };
        let (mut reach, mut faults) = (None, Vec::new());
        let attributes = Attributes::parse_route(octets, offset, &agreed, &mut reach, &mut faults)?;
        let mut hop = attributes.next_hop.map(NextHop::V4);
        if let Some((at, value)) = reach {
            match reach_next_hop(value, at) {
                Ok(address) => hop = Some(address),
                Err(error) => {
                    faults.push(Fault { class: Class::TreatAsWithdraw, attribute: code::MP_REACH_NLRI, error });
                }
            }
        }
        Ok(Self { attributes, next_hop: hop, faults })
    }

    /// An UPDATE that announces no prefix, with these attributes.
    pub fn into_update(self) -> Update<'a> {
        Update {
            withdrawn: Nlri::default(),
            attributes: self.attributes,
            nlri: Nlri::default(),
            mp_reach: None,
            mp_unreach: None,
            faults: self.faults,
        }
    }

    pub fn treat_as_withdraw(&self) -> bool {
        self.faults.iter().any(|fault| fault.class == Class::TreatAsWithdraw)
    }
}

fn reach_next_hop(value: &[u8], offset: usize) -> Result<NextHop<'_>, WireError> {
    let mut cursor = Cursor::new(value, offset);
    if value.first() == Some(&0) {
        cursor.take(3, "AFI and SAFI")?;
    }
    let at = cursor.offset;
    let length = cursor.u8("next hop length")?;
    let error = WireError { offset: at, reading: "next hop", why: Why::Length(u32::from(length)) };
    let octets = cursor.take(usize::from(length), "next hop")?;
    let v6 = |octets: &[u8]| <[u8; 16]>::try_from(octets).map_err(|_| error);
    match octets.len() {
        4 => Ok(NextHop::V4(octets.try_into().map_err(|_| error)?)),
        16 => Ok(NextHop::V6(v6(octets)?, None)),
        // RFC 2545 3.
        32 => Ok(NextHop::V6(v6(&octets[..16])?, Some(v6(&octets[16..])?))),
        _ => Err(error),
    }
}

/// Appends the attributes of a route of TABLE_DUMP_V2; AS numbers have four octets there (RFC 6396 4.3.4).
pub fn encode_table_attributes(out: &mut Vec<u8>, route: &RouteUpdate<'_>) {
    out.extend_from_slice(&encode_attributes(route, false, &Agreed::default()));
    if !matches!(route.next_hop, NextHop::V4(_)) {
        let mut value = Vec::with_capacity(33);
        next_hop(&mut value, &route.next_hop);
        attribute(out, Flags::OPTIONAL, code::MP_REACH_NLRI, &value);
    }
}
