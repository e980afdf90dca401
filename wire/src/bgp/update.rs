//! UPDATE (RFC 4271 4.3, RFC 4760), errors as RFC 7606 classes them.
//!
//! | withdrawn length u16 | withdrawn | attributes length u16 | attributes | NLRI to the end |
//! MP_REACH_NLRI:   | AFI u16 | SAFI u8 | next hop length u8 | next hop | reserved u8 | NLRI |
//! MP_UNREACH_NLRI: | AFI u16 | SAFI u8 | withdrawn |

use super::attribute::Attributes;
use super::error::{Class, Fault};
use super::{Agreed, BgpError, Cursor, Family, HEADER_OCTETS, Nlri};
use crate::error::{Why, WireError};

#[derive(Clone, Debug, PartialEq)]
pub struct Update<'a> {
    pub withdrawn: Nlri<'a>,
    pub attributes: Attributes<'a>,
    pub nlri: Nlri<'a>,
    pub mp_reach: Option<MpReach<'a>>,
    pub mp_unreach: Option<MpUnreach<'a>>,
    /// What is wrong with it and does not end the session.
    pub faults: Vec<Fault>,
}

/// Of an unknown family only the octets: it is skipped whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MpReach<'a> {
    pub family: Family,
    pub next_hop: NextHop<'a>,
    pub nlri: Nlri<'a>,
    /// The family is not one that is read.
    pub skipped: Option<&'a [u8]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MpUnreach<'a> {
    pub family: Family,
    pub withdrawn: Nlri<'a>,
    pub skipped: Option<&'a [u8]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextHop<'a> {
    V4([u8; 4]),
    /// With its link-local companion where there is one (RFC 2545 3).
    V6([u8; 16], Option<[u8; 16]>),
    /// Of a family that is not read.
    Other(&'a [u8]),
}

impl<'a> Update<'a> {
    pub(super) fn parse(body: &'a [u8], agreed: &Agreed) -> Result<Self, BgpError> {
        // RFC 7606 3 j, RFC 4271 6.3: lengths that contradict the message's.
        let list = |error| BgpError::update(1, error);
        let field = |error| BgpError::update(10, error);
        let mut cursor = Cursor::new(body, HEADER_OCTETS);
        let length = usize::from(cursor.u16("withdrawn routes length").map_err(list)?);
        let add_path = agreed.has_add_path(Family::V4_UNICAST);
        let at = cursor.offset;
        let withdrawn = cursor.take(length, "withdrawn routes").map_err(list)?;
        let withdrawn = Nlri::parse(withdrawn, at, false, add_path).map_err(field)?;
        let length = usize::from(cursor.u16("attributes length").map_err(list)?);
        let at = cursor.offset;
        let octets = cursor.take(length, "attributes").map_err(list)?;
        let nlri = Nlri::parse(cursor.rest, cursor.offset, false, add_path).map_err(field)?;

        let mut faults = Vec::new();
        let mut mp = (None, None);
        let attributes = Attributes::parse(octets, at, agreed, &mut mp, &mut faults)?;
        let mut update = Self { withdrawn, attributes, nlri, mp_reach: mp.0, mp_unreach: mp.1, faults };
        update.check_mandatory(at);
        Ok(update)
    }

    /// RFC 7606 3 d: ORIGIN, AS_PATH and, outside MP_REACH_NLRI, NEXT_HOP.
    fn check_mandatory(&mut self, offset: usize) {
        let announces = !self.nlri.is_empty() || self.mp_reach.is_some_and(|reach| !reach.nlri.is_empty());
        if !announces || self.treat_as_withdraw() {
            return;
        }
        let missing = [
            (1, self.attributes.origin.is_none(), "mandatory ORIGIN"),
            (2, self.attributes.as_path.is_none(), "mandatory AS_PATH"),
            (3, self.attributes.next_hop.is_none() && !self.nlri.is_empty(), "mandatory NEXT_HOP"),
        ];
        if let Some((attribute, _, reading)) = missing.into_iter().find(|(_, missing, _)| *missing) {
            let error = WireError { offset, reading, why: Why::Truncated { left: 0 } };
            self.faults.push(Fault { class: Class::TreatAsWithdraw, attribute, error });
        }
    }

    pub fn treat_as_withdraw(&self) -> bool {
        self.faults.iter().any(|fault| fault.class == Class::TreatAsWithdraw)
    }

    /// RFC 4724 2: no routes at all, or none in MP_UNREACH_NLRI that is alone.
    pub fn end_of_rib(&self) -> Option<Family> {
        if !self.withdrawn.is_empty() || !self.nlri.is_empty() || self.mp_reach.is_some() || !self.faults.is_empty() {
            return None;
        }
        match self.mp_unreach {
            Some(unreach) if unreach.withdrawn.is_empty() && unreach.skipped.is_none_or(<[u8]>::is_empty) => {
                (self.attributes.iter().count() == 1).then_some(unreach.family)
            }
            Some(_) => None,
            None => (self.attributes.iter().next().is_none()).then_some(Family::V4_UNICAST),
        }
    }

    /// Prefixes that go, in the families that are read; of a message in error, all it names.
    pub fn withdrawals(&self) -> impl Iterator<Item = Nlri<'a>> + use<'a> {
        let all = self.treat_as_withdraw();
        let announced = [self.nlri, self.mp_reach.map_or(Nlri::default(), |reach| reach.nlri)];
        [self.withdrawn, self.mp_unreach.map_or(Nlri::default(), |unreach| unreach.withdrawn)]
            .into_iter()
            .chain(announced.into_iter().filter(move |_| all))
            .filter(|nlri| !nlri.is_empty())
    }

    /// Prefixes that come with their next hop, in the families that are read; none of a message in error.
    pub fn announcements(&self) -> impl Iterator<Item = (NextHop<'a>, Nlri<'a>)> + use<'a> {
        let none = self.treat_as_withdraw();
        let plain = self.attributes.next_hop.map(|next_hop| (NextHop::V4(next_hop), self.nlri));
        let multi = self.mp_reach.map(|reach| (reach.next_hop, reach.nlri));
        plain.into_iter().chain(multi).filter(move |(_, nlri)| !none && !nlri.is_empty())
    }
}

fn read(family: Family) -> Option<bool> {
    match family {
        Family::V4_UNICAST => Some(false),
        Family::V6_UNICAST => Some(true),
        _ => None,
    }
}

impl<'a> MpReach<'a> {
    /// RFC 7606 7.11: errors end the session.
    pub(super) fn parse(value: &'a [u8], offset: usize, agreed: &Agreed) -> Result<Self, BgpError> {
        let reset = |error| BgpError::update(9, error);
        let mut cursor = Cursor::new(value, offset);
        let afi = cursor.u16("AFI").map_err(reset)?;
        let safi = cursor.u8("SAFI").map_err(reset)?;
        let family = Family { afi, safi };
        let next_hop = cursor.part("next hop").map_err(reset)?;
        cursor.u8("reserved octet").map_err(reset)?;
        let Some(v6) = read(family) else {
            let next_hop = NextHop::Other(next_hop.rest);
            return Ok(Self { family, next_hop, nlri: Nlri::default(), skipped: Some(cursor.rest) });
        };
        let next_hop = parse_next_hop(next_hop, v6).map_err(reset)?;
        let nlri = Nlri::parse(cursor.rest, cursor.offset, v6, agreed.has_add_path(family)).map_err(reset)?;
        Ok(Self { family, next_hop, nlri, skipped: None })
    }
}

/// RFC 2545 3, RFC 8950 3: IPv4 routes have next hops of either family.
fn parse_next_hop(part: Cursor<'_>, v6_routes: bool) -> Result<NextHop<'static>, WireError> {
    let error = WireError { offset: part.offset, reading: "next hop", why: Why::Length(part.rest.len() as u32) };
    let v6 = |octets: &[u8]| <[u8; 16]>::try_from(octets).map_err(|_| error);
    match part.rest.len() {
        4 if !v6_routes => Ok(NextHop::V4(part.rest.try_into().map_err(|_| error)?)),
        16 => Ok(NextHop::V6(v6(part.rest)?, None)),
        32 => {
            let (global, link_local) = part.rest.split_at(16);
            Ok(NextHop::V6(v6(global)?, Some(v6(link_local)?)))
        }
        _ => Err(error),
    }
}

impl<'a> MpUnreach<'a> {
    /// RFC 7606 7.12: errors end the session.
    pub(super) fn parse(value: &'a [u8], offset: usize, agreed: &Agreed) -> Result<Self, BgpError> {
        let reset = |error| BgpError::update(9, error);
        let mut cursor = Cursor::new(value, offset);
        let afi = cursor.u16("AFI").map_err(reset)?;
        let safi = cursor.u8("SAFI").map_err(reset)?;
        let family = Family { afi, safi };
        let Some(v6) = read(family) else {
            return Ok(Self { family, withdrawn: Nlri::default(), skipped: Some(cursor.rest) });
        };
        let withdrawn = Nlri::parse(cursor.rest, cursor.offset, v6, agreed.has_add_path(family)).map_err(reset)?;
        Ok(Self { family, withdrawn, skipped: None })
    }
}
