//! UPDATE (RFC 4271 4.3, RFC 4760), errors as RFC 7606 classes them.
//!
//! | withdrawn length u16 | withdrawn | attributes length u16 | attributes | NLRI to the end |
//! MP_REACH_NLRI:   | AFI u16 | SAFI u8 | next hop length u8 | next hop | reserved u8 | NLRI |
//! MP_UNREACH_NLRI: | AFI u16 | SAFI u8 | withdrawn |

use super::attribute::Attributes;
use super::error::{Class, Fault};
use super::link_state::{LinkStateNlri, LinkStateNlris};
use super::nlri::{Form, form};
use super::{Agreed, BgpError, Cursor, Family, HEADER_OCTETS, Nlri, code};
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
    /// The family is not one of prefixes.
    pub skipped: Option<&'a [u8]>,
    /// Why the first of its NLRI that are passed over is.
    discarded: Option<WireError>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MpUnreach<'a> {
    pub family: Family,
    pub withdrawn: Nlri<'a>,
    pub skipped: Option<&'a [u8]>,
    discarded: Option<WireError>,
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
        let at = cursor.offset;
        let withdrawn = cursor.take(length, "withdrawn routes").map_err(list)?;
        // RFC 7606 3 i.
        let (withdrawn, _) = Nlri::parse(withdrawn, at, Family::V4_UNICAST, true, agreed).map_err(field)?;
        let length = usize::from(cursor.u16("attributes length").map_err(list)?);
        let at = cursor.offset;
        let octets = cursor.take(length, "attributes").map_err(list)?;
        let (nlri, _) = Nlri::parse(cursor.rest, cursor.offset, Family::V4_UNICAST, false, agreed).map_err(field)?;

        let mut faults = Vec::new();
        let mut mp = (None, None);
        let attributes = Attributes::parse(octets, at, agreed, &mut mp, &mut faults)?;
        let mut update = Self { withdrawn, attributes, nlri, mp_reach: mp.0, mp_unreach: mp.1, faults };
        update.check_reachable()?;
        update.check_mandatory(at);
        update.tell_discarded();
        Ok(update)
    }

    /// RFC 7606 5.2: where no route is announced and an error might have hidden one, nothing is sure.
    fn check_reachable(&self) -> Result<(), BgpError> {
        let announces = !self.nlri.is_empty() || self.mp_reach.is_some_and(|reach| !reach.is_empty());
        let grave = self.faults.iter().find(|fault| fault.class != Class::AttributeDiscard);
        let only_withdraws = || self.attributes.iter().all(|attribute| attribute.code == code::MP_UNREACH_NLRI);
        match grave {
            // What is disabled is gone anyway.
            Some(Fault { class: Class::FamilyDisable(_), .. }) => Ok(()),
            Some(fault) if !announces && !only_withdraws() => Err(BgpError::update(1, fault.error)),
            _ => Ok(()),
        }
    }

    /// RFC 7606 3 d: ORIGIN, AS_PATH and, outside MP_REACH_NLRI, NEXT_HOP.
    fn check_mandatory(&mut self, offset: usize) {
        let announces = !self.nlri.is_empty() || self.mp_reach.is_some_and(|reach| !reach.is_empty());
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

    fn tell_discarded(&mut self) {
        let reach = self.mp_reach.and_then(|reach| reach.discarded).map(|error| (14, error));
        let unreach = self.mp_unreach.and_then(|unreach| unreach.discarded).map(|error| (15, error));
        let fault = |(attribute, error)| Fault { class: Class::NlriDiscard, attribute, error };
        self.faults.extend(reach.into_iter().chain(unreach).map(fault));
    }

    pub fn treat_as_withdraw(&self) -> bool {
        self.faults.iter().any(|fault| fault.class == Class::TreatAsWithdraw)
    }

    /// Families whose routes all go, and of which no more are to be taken.
    pub fn disabled(&self) -> impl Iterator<Item = Family> {
        self.faults.iter().filter_map(|fault| match fault.class {
            Class::FamilyDisable(family) => Some(family),
            _ => None,
        })
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

    /// Objects of link state that go; of a message in error, all it names.
    pub fn link_state_withdrawals(&self) -> impl Iterator<Item = LinkStateNlri<'a>> + use<'a> {
        let gone = self.mp_unreach.map(|unreach| link_state(unreach.family, unreach.skipped));
        let announced = self.mp_reach.filter(|_| self.treat_as_withdraw());
        let announced = announced.map(|reach| link_state(reach.family, reach.skipped));
        gone.into_iter().chain(announced).flatten()
    }

    /// Objects of link state that come, with what [`Attributes::link_state`] says of each; none of a message in error.
    pub fn link_state_announcements(&self) -> impl Iterator<Item = LinkStateNlri<'a>> + use<'a> {
        let reach = self.mp_reach.filter(|_| !self.treat_as_withdraw());
        reach.map(|reach| link_state(reach.family, reach.skipped)).into_iter().flatten()
    }
}

/// Of a family of link state, otherwise none.
fn link_state(family: Family, octets: Option<&[u8]>) -> LinkStateNlris<'_> {
    let octets = octets.filter(|_| family.is_link_state()).unwrap_or_default();
    LinkStateNlris::trusted(octets, family)
}

/// An MP attribute that cannot be read, by its family. RFC 7606 3 j leaves the choice: a family that packets are
/// forwarded by is worth a new session, which brings its routes again; another is not worth losing those.
pub(super) enum MpError {
    Reset(BgpError),
    Disable(Family, WireError),
}

impl MpError {
    pub(super) fn of(family: Family, error: WireError) -> Self {
        match form(family) {
            Some((Form::Unicast | Form::Labelled | Form::Vpn, _)) => MpError::Reset(BgpError::update(9, error)),
            _ => MpError::Disable(family, error),
        }
    }

    /// RFC 7606 5.3: flags other than RFC 4760's.
    pub(super) fn flags(value: &[u8], offset: usize, error: WireError) -> Self {
        match head(&mut Cursor::new(value, offset)) {
            Ok(family) => match Self::of(family, error) {
                MpError::Reset(_) => MpError::Reset(BgpError::update(4, error)),
                disable => disable,
            },
            Err(reset) => reset,
        }
    }
}

/// Without a family there is nothing to disable.
fn head(cursor: &mut Cursor<'_>) -> Result<Family, MpError> {
    let reset = |error| MpError::Reset(BgpError::update(9, error));
    let afi = cursor.u16("AFI").map_err(reset)?;
    let safi = cursor.u8("SAFI").map_err(reset)?;
    Ok(Family { afi, safi })
}

impl<'a> MpReach<'a> {
    /// RFC 7606 7.11. Beside it an error that its routes are withdrawn for.
    pub(super) fn parse(value: &'a [u8], offset: usize, agreed: &Agreed) -> Result<(Self, Option<WireError>), MpError> {
        let mut cursor = Cursor::new(value, offset);
        let family = head(&mut cursor)?;
        let error = |error| MpError::of(family, error);
        let next_hop = cursor.part("next hop").map_err(error)?;
        cursor.u8("reserved octet").map_err(error)?;
        let Some((form, v6)) = form(family) else {
            let next_hop = NextHop::Other(next_hop.rest);
            let discarded = parse_link_state(&cursor, family).map_err(error)?;
            let (nlri, skipped) = (Nlri::default(), Some(cursor.rest));
            return Ok((Self { family, next_hop, nlri, skipped, discarded }, None));
        };
        let next_hop = parse_next_hop(next_hop, form, v6).map_err(error)?;
        let (nlri, soft) = Nlri::parse(cursor.rest, cursor.offset, family, false, agreed).map_err(error)?;
        Ok((Self { family, next_hop, nlri, skipped: None, discarded: None }, soft))
    }

    fn is_empty(&self) -> bool {
        self.nlri.is_empty() && self.skipped.is_none_or(<[u8]>::is_empty)
    }
}

/// RFC 9552 8.2.2: an error where lengths do not add up; beside the result one that costs an object alone.
fn parse_link_state(rest: &Cursor<'_>, family: Family) -> Result<Option<WireError>, WireError> {
    if !family.is_link_state() {
        return Ok(None);
    }
    LinkStateNlris::parse(rest.rest, rest.offset, family).map(|(_, discarded)| discarded)
}

/// RFC 2545 3, RFC 8950 3: IPv4 routes have next hops of either family. RFC 4364 4.3.2, RFC 4659 3.2.1: a VPN's
/// have a distinguisher of zero before each address, which some leave out.
fn parse_next_hop(part: Cursor<'_>, form: Form, v6_routes: bool) -> Result<NextHop<'_>, WireError> {
    let error = WireError { offset: part.offset, reading: "next hop", why: Why::Length(part.rest.len() as u32) };
    let v4 = |octets: &[u8]| octets.try_into().map(NextHop::V4).map_err(|_| error);
    let v6 = |octets: &[u8]| <[u8; 16]>::try_from(octets).map_err(|_| error);
    let pair = |global: &[u8], link_local: &[u8]| Ok(NextHop::V6(v6(global)?, Some(v6(link_local)?)));
    let octets = part.rest;
    match (form, octets.len()) {
        // RFC 8955 4: to be ignored.
        (Form::FlowSpec | Form::VpnFlowSpec, _) => Ok(NextHop::Other(octets)),
        (Form::Vpn, 12) => v4(&octets[8..]),
        (Form::Vpn, 24) => Ok(NextHop::V6(v6(&octets[8..])?, None)),
        (Form::Vpn, 48) => pair(&octets[8..24], &octets[32..]),
        (_, 4) if !v6_routes => v4(octets),
        (_, 16) => Ok(NextHop::V6(v6(octets)?, None)),
        (_, 32) => pair(&octets[..16], &octets[16..]),
        _ => Err(error),
    }
}

impl<'a> MpUnreach<'a> {
    /// RFC 7606 7.12.
    pub(super) fn parse(value: &'a [u8], offset: usize, agreed: &Agreed) -> Result<Self, MpError> {
        let mut cursor = Cursor::new(value, offset);
        let family = head(&mut cursor)?;
        let error = |error| MpError::of(family, error);
        if form(family).is_none() {
            let discarded = parse_link_state(&cursor, family).map_err(error)?;
            return Ok(Self { family, withdrawn: Nlri::default(), skipped: Some(cursor.rest), discarded });
        }
        // A rule that was not understood when it came is withdrawn by its octets.
        let (withdrawn, _) = Nlri::parse(cursor.rest, cursor.offset, family, true, agreed).map_err(error)?;
        Ok(Self { family, withdrawn, skipped: None, discarded: None })
    }
}
