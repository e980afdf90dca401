//! Path attributes (RFC 4271 4.3 and 5), checked as RFC 7606 7 says.
//!
//! | flags u8: optional, transitive, partial, extended length | code u8 | length u8 or u16 | value |

use super::error::{Class, Fault};
use super::link_state::Information;
use super::update::MpError;
use super::{AS_TRANS, Agreed, BgpError, Cursor, MpReach, MpUnreach};
use crate::error::{Why, WireError};

/// Attribute codes that are read here.
pub mod code {
    pub const ORIGIN: u8 = 1;
    pub const AS_PATH: u8 = 2;
    pub const NEXT_HOP: u8 = 3;
    pub const MULTI_EXIT_DISC: u8 = 4;
    pub const LOCAL_PREF: u8 = 5;
    pub const ATOMIC_AGGREGATE: u8 = 6;
    pub const AGGREGATOR: u8 = 7;
    pub const COMMUNITIES: u8 = 8;
    pub const ORIGINATOR_ID: u8 = 9;
    pub const CLUSTER_LIST: u8 = 10;
    pub const MP_REACH_NLRI: u8 = 14;
    pub const MP_UNREACH_NLRI: u8 = 15;
    pub const EXTENDED_COMMUNITIES: u8 = 16;
    pub const AS4_PATH: u8 = 17;
    pub const AS4_AGGREGATOR: u8 = 18;
    pub const TRAFFIC_ENGINEERING: u8 = 24;
    pub const IPV6_EXTENDED_COMMUNITIES: u8 = 25;
    pub const AIGP: u8 = 26;
    pub const LINK_STATE: u8 = 29;
    pub const LARGE_COMMUNITIES: u8 = 32;
    pub const ONLY_TO_CUSTOMER: u8 = 35;
    pub const PREFIX_SID: u8 = 40;
    pub const ATTR_SET: u8 = 128;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags(pub u8);

impl Flags {
    pub const OPTIONAL: u8 = 0x80;
    pub const TRANSITIVE: u8 = 0x40;
    pub const PARTIAL: u8 = 0x20;
    pub const EXTENDED: u8 = 0x10;

    pub fn has(self, bit: u8) -> bool {
        self.0 & bit != 0
    }
}

/// Any attribute, as octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribute<'a> {
    pub flags: Flags,
    pub code: u8,
    pub value: &'a [u8],
}

/// RFC 4271 4.3 b, RFC 5065 3; unknown ones do not pass the check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentKind(pub u8);

impl SegmentKind {
    pub const SET: Self = Self(1);
    pub const SEQUENCE: Self = Self(2);
    pub const CONFEDERATION_SEQUENCE: Self = Self(3);
    pub const CONFEDERATION_SET: Self = Self(4);
}

/// A checked path: iterating does not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AsPath<'a> {
    octets: &'a [u8],
    four_octet_as: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment<'a> {
    pub kind: SegmentKind,
    octets: &'a [u8],
    four_octet_as: bool,
}

impl<'a> AsPath<'a> {
    /// RFC 7606 7.2, RFC 7607.
    fn parse(octets: &'a [u8], offset: usize, four_octet_as: bool) -> Result<Self, WireError> {
        let width = if four_octet_as { 4 } else { 2 };
        let mut cursor = Cursor::new(octets, offset);
        while !cursor.rest.is_empty() {
            let at = cursor.offset;
            let kind = cursor.u8("path segment type")?;
            if !(1..=4).contains(&kind) {
                let why = Why::Value(u32::from(kind));
                return Err(WireError { offset: at, reading: "path segment type", why });
            }
            let at = cursor.offset;
            let count = cursor.u8("path segment length")?;
            if count == 0 {
                return Err(WireError { offset: at, reading: "path segment length", why: Why::Length(0) });
            }
            let at = cursor.offset;
            let asns = cursor.take(usize::from(count) * width, "path segment")?;
            if asns.chunks_exact(width).any(|asn| asn.iter().all(|octet| *octet == 0)) {
                return Err(WireError { offset: at, reading: "AS in a path segment", why: Why::Value(0) });
            }
        }
        Ok(Self { octets, four_octet_as })
    }

    pub fn segments(&self) -> impl Iterator<Item = Segment<'a>> + use<'a> {
        let Self { mut octets, four_octet_as } = *self;
        std::iter::from_fn(move || {
            let ([kind, count], rest) = octets.split_first_chunk::<2>()?;
            let (segment, rest) = rest.split_at_checked(usize::from(*count) * if four_octet_as { 4 } else { 2 })?;
            octets = rest;
            Some(Segment { kind: SegmentKind(*kind), octets: segment, four_octet_as })
        })
    }
}

impl<'a> Segment<'a> {
    pub fn asns(&self) -> impl Iterator<Item = u32> + use<'a> {
        let width = if self.four_octet_as { 4 } else { 2 };
        self.octets.chunks_exact(width).map(|asn| asn.iter().fold(0, |number, octet| number << 8 | u32::from(*octet)))
    }
}

/// The path of a speaker of two octets, with the numbers that did not fit (RFC 6793 4.2.3).
pub fn merge_as4_path(as_path: &AsPath<'_>, as4_path: &AsPath<'_>) -> Vec<(SegmentKind, Vec<u32>)> {
    let is_plain = |segment: &Segment<'_>| matches!(segment.kind, SegmentKind::SET | SegmentKind::SEQUENCE);
    // RFC 5065 and RFC 6793 3: confederation segments do not count, and have no place in AS4_PATH.
    let length = |segment: &Segment<'_>| match segment.kind {
        SegmentKind::SET => 1,
        SegmentKind::SEQUENCE => segment.asns().count(),
        _ => 0,
    };
    let known: usize = as_path.segments().map(|segment| length(&segment)).sum();
    let new: usize = as4_path.segments().filter(is_plain).map(|segment| length(&segment)).sum();
    let mut merged: Vec<(SegmentKind, Vec<u32>)> = Vec::new();
    let Some(mut leading) = known.checked_sub(new) else {
        return as_path.segments().map(|segment| (segment.kind, segment.asns().collect())).collect();
    };
    for segment in as_path.segments() {
        match segment.kind {
            SegmentKind::SEQUENCE if leading > 0 => {
                let asns: Vec<u32> = segment.asns().take(leading).collect();
                leading -= asns.len();
                merged.push((segment.kind, asns));
            }
            SegmentKind::SET if leading > 0 => {
                leading -= 1;
                merged.push((segment.kind, segment.asns().collect()));
            }
            SegmentKind::CONFEDERATION_SEQUENCE | SegmentKind::CONFEDERATION_SET => {
                merged.push((segment.kind, segment.asns().collect()));
            }
            _ => {}
        }
    }
    for segment in as4_path.segments().filter(is_plain) {
        match merged.last_mut() {
            Some((SegmentKind::SEQUENCE, asns)) if segment.kind == SegmentKind::SEQUENCE => asns.extend(segment.asns()),
            _ => merged.push((segment.kind, segment.asns().collect())),
        }
    }
    merged
}

/// The attributes of an UPDATE, those that passed their checks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes<'a> {
    octets: &'a [u8],
    /// 0 IGP, 1 EGP, 2 incomplete.
    pub origin: Option<u8>,
    pub as_path: Option<AsPath<'a>>,
    pub next_hop: Option<[u8; 4]>,
    pub med: Option<u32>,
    pub local_pref: Option<u32>,
    pub atomic_aggregate: bool,
    /// AS and BGP identifier.
    pub aggregator: Option<(u32, [u8; 4])>,
    pub communities: &'a [[u8; 4]],
    pub originator_id: Option<[u8; 4]>,
    pub cluster_list: &'a [[u8; 4]],
    pub extended_communities: &'a [[u8; 8]],
    pub as4_path: Option<AsPath<'a>>,
    pub as4_aggregator: Option<(u32, [u8; 4])>,
    pub large_communities: &'a [[u8; 12]],
    /// RFC 9234 5.
    pub only_to_customer: Option<u32>,
    /// Accumulated IGP metric (RFC 7311).
    pub aigp: Option<u64>,
    /// RFC 9552 5.3.
    pub link_state: Option<Information<'a>>,
}

/// What an attribute's check came to.
enum Problem {
    Fault(Class, WireError),
    Reset(BgpError),
}

impl From<MpError> for Problem {
    fn from(error: MpError) -> Self {
        match error {
            MpError::Reset(error) => Problem::Reset(error),
            MpError::Disable(family, error) => Problem::Fault(Class::FamilyDisable(family), error),
        }
    }
}

impl<'a> Attributes<'a> {
    /// All of them as octets, in the message's order, up to one whose header is broken.
    pub fn iter(&self) -> impl Iterator<Item = Attribute<'a>> + use<'a> {
        let mut cursor = Cursor::new(self.octets, 0);
        std::iter::from_fn(move || {
            if cursor.rest.is_empty() {
                return None;
            }
            header(&mut cursor).ok().map(|(attribute, _)| attribute)
        })
    }

    /// RFC 4271 9: what is not read and still belongs to the route, in the message's order.
    pub fn unknown_transitive(&self) -> impl Iterator<Item = Attribute<'a>> + use<'a> {
        let mut seen = [0u64; 4];
        self.iter().filter(move |attribute| {
            let (word, bit) = (usize::from(attribute.code / 64), 1 << (attribute.code % 64));
            let first = seen[word] & bit == 0;
            seen[word] |= bit;
            first && attribute.flags.has(Flags::TRANSITIVE) && !is_read(attribute.code)
        })
    }

    /// The AS path; of a two-octet speaker, merged with AS4_PATH (RFC 6793 4.2.3).
    pub fn merged_as_path(&self) -> Vec<(SegmentKind, Vec<u32>)> {
        let Some(as_path) = &self.as_path else { return Vec::new() };
        // An aggregator that is not AS_TRANS means that AS4_PATH is older than the path.
        let is_older = self.aggregator.is_some_and(|(number, _)| number != u32::from(AS_TRANS));
        match &self.as4_path {
            Some(as4_path) if !is_older || self.as4_aggregator.is_none() => merge_as4_path(as_path, as4_path),
            _ => as_path.segments().map(|segment| (segment.kind, segment.asns().collect())).collect(),
        }
    }

    pub(super) fn parse(
        octets: &'a [u8],
        offset: usize,
        agreed: &Agreed,
        mp: &mut (Option<MpReach<'a>>, Option<MpUnreach<'a>>),
        faults: &mut Vec<Fault>,
    ) -> Result<Self, BgpError> {
        Self::parse_each(octets, offset, faults, |attributes, attribute, at| attributes.take(attribute, at, agreed, mp))
    }

    /// Of a route in a table (RFC 6396 4.3.4): MP_REACH_NLRI goes to `reach`, MP_UNREACH_NLRI has no place.
    pub(super) fn parse_route(
        octets: &'a [u8],
        offset: usize,
        agreed: &Agreed,
        reach: &mut Option<(usize, &'a [u8])>,
        faults: &mut Vec<Fault>,
    ) -> Result<Self, BgpError> {
        Self::parse_each(octets, offset, faults, |attributes, attribute, at| match attribute.code {
            code::MP_REACH_NLRI => {
                *reach = Some((at, attribute.value));
                Ok(())
            }
            code::MP_UNREACH_NLRI => Ok(()),
            _ => attributes.take(attribute, at, agreed, &mut (None, None)),
        })
    }

    fn parse_each(
        octets: &'a [u8],
        offset: usize,
        faults: &mut Vec<Fault>,
        mut take: impl FnMut(&mut Self, Attribute<'a>, usize) -> Result<(), Problem>,
    ) -> Result<Self, BgpError> {
        let mut attributes = Self { octets, ..Self::default() };
        let mut cursor = Cursor::new(octets, offset);
        let mut seen = [0u64; 4];
        while !cursor.rest.is_empty() {
            // RFC 7606 4: an attribute longer than what is left.
            let (attribute, at) = match header(&mut cursor) {
                Ok(header) => header,
                Err(error) => {
                    faults.push(Fault { class: Class::TreatAsWithdraw, attribute: 0, error });
                    break;
                }
            };
            let code = attribute.code;
            let (word, bit) = (usize::from(code / 64), 1 << (code % 64));
            let twice = seen[word] & bit != 0;
            seen[word] |= bit;
            if twice {
                let error =
                    WireError { offset: at, reading: "attribute that came before", why: Why::Value(code.into()) };
                // RFC 7606 3 g.
                if matches!(code, code::MP_REACH_NLRI | code::MP_UNREACH_NLRI) {
                    return Err(BgpError::update(1, error));
                }
                faults.push(Fault { class: Class::AttributeDiscard, attribute: code, error });
                continue;
            }
            match take(&mut attributes, attribute, at) {
                Ok(()) => {}
                Err(Problem::Fault(class, error)) => faults.push(Fault { class, attribute: code, error }),
                Err(Problem::Reset(error)) => return Err(error),
            }
        }
        Ok(attributes)
    }

    fn take(
        &mut self,
        Attribute { flags, code, value }: Attribute<'a>,
        offset: usize,
        agreed: &Agreed,
        mp: &mut (Option<MpReach<'a>>, Option<MpUnreach<'a>>),
    ) -> Result<(), Problem> {
        check_flags(flags, code, value, offset)?;
        let length = |reading| WireError { offset, reading, why: Why::Length(value.len() as u32) };
        let withdraw = |error| Problem::Fault(Class::TreatAsWithdraw, error);
        let discard = |error| Problem::Fault(Class::AttributeDiscard, error);
        match code {
            // RFC 7606 7.1.
            code::ORIGIN => match *value {
                [origin @ 0..=2] => self.origin = Some(origin),
                [origin] => {
                    let why = Why::Value(u32::from(origin));
                    return Err(withdraw(WireError { offset, reading: "ORIGIN", why }));
                }
                _ => return Err(withdraw(length("ORIGIN"))),
            },
            code::AS_PATH => {
                let path = AsPath::parse(value, offset, agreed.four_octet_as).map_err(withdraw)?;
                // RFC 5065 5: of another confederation there are no segments of one.
                if let Some(segment) = path.segments().find(|segment| agreed.external && segment.kind.0 > 2) {
                    let why = Why::Value(u32::from(segment.kind.0));
                    return Err(withdraw(WireError { offset, reading: "confederation segment", why }));
                }
                self.as_path = Some(path);
            }
            // RFC 7606 7.3; RFC 4271 6.3: a host's address.
            code::NEXT_HOP => {
                let next_hop: [u8; 4] = value.try_into().map_err(|_| withdraw(length("NEXT_HOP")))?;
                if next_hop == [0; 4] || next_hop[0] >= 224 {
                    let why = Why::Value(u32::from_be_bytes(next_hop));
                    return Err(withdraw(WireError { offset, reading: "NEXT_HOP", why }));
                }
                self.next_hop = Some(next_hop);
            }
            // RFC 7606 7.4.
            code::MULTI_EXIT_DISC => {
                self.med = Some(number(value).ok_or_else(|| withdraw(length("MULTI_EXIT_DISC")))?);
            }
            // RFC 7606 7.5, 7.9, 7.10: from another AS they mean nothing.
            code::LOCAL_PREF | code::ORIGINATOR_ID | code::CLUSTER_LIST if agreed.external => {
                return Err(discard(WireError {
                    offset,
                    reading: "attribute of an own AS from another one",
                    why: Why::Value(u32::from(code)),
                }));
            }
            code::LOCAL_PREF => {
                self.local_pref = Some(number(value).ok_or_else(|| withdraw(length("LOCAL_PREF")))?);
            }
            // RFC 7606 7.6.
            code::ATOMIC_AGGREGATE => {
                if !value.is_empty() {
                    return Err(discard(length("ATOMIC_AGGREGATE")));
                }
                self.atomic_aggregate = true;
            }
            // RFC 7606 7.7.
            code::AGGREGATOR => {
                let aggregator = match *value {
                    [a, b, c, d, w, x, y, z] if agreed.four_octet_as => {
                        (u32::from_be_bytes([a, b, c, d]), [w, x, y, z])
                    }
                    [a, b, w, x, y, z] if !agreed.four_octet_as => (u32::from_be_bytes([0, 0, a, b]), [w, x, y, z]),
                    _ => return Err(discard(length("AGGREGATOR"))),
                };
                // RFC 7607 2.
                if aggregator.0 == 0 {
                    return Err(discard(WireError { offset, reading: "AS of AGGREGATOR", why: Why::Value(0) }));
                }
                self.aggregator = Some(aggregator);
            }
            // RFC 7606 7.8.
            code::COMMUNITIES => {
                self.communities = whole(value).ok_or_else(|| withdraw(length("COMMUNITIES")))?;
            }
            // RFC 7606 7.9.
            code::ORIGINATOR_ID => {
                let id = value.try_into().map_err(|_| withdraw(length("ORIGINATOR_ID")))?;
                self.originator_id = Some(id);
            }
            // RFC 7606 7.10.
            code::CLUSTER_LIST => {
                self.cluster_list = whole(value).ok_or_else(|| withdraw(length("CLUSTER_LIST")))?;
            }
            code::MP_REACH_NLRI => {
                let (reach, soft) = MpReach::parse(value, offset, agreed)?;
                mp.0 = Some(reach);
                if let Some(error) = soft {
                    return Err(withdraw(error));
                }
            }
            code::MP_UNREACH_NLRI => mp.1 = Some(MpUnreach::parse(value, offset, agreed)?),
            // RFC 7606 7.13: a descriptor has 36 octets at least (RFC 5543 3).
            code::TRAFFIC_ENGINEERING if value.len() < 36 => return Err(withdraw(length("TRAFFIC_ENGINEERING"))),
            code::TRAFFIC_ENGINEERING => {}
            // RFC 7606 7.15.
            code::IPV6_EXTENDED_COMMUNITIES => {
                whole::<20>(value).ok_or_else(|| withdraw(length("IPV6_EXTENDED_COMMUNITIES")))?;
            }
            // RFC 7606 7.16, RFC 6368 5.
            code::ATTR_SET => check_attr_set(value, offset).map_err(withdraw)?,
            // RFC 7311 3.3: from another AS it means nothing.
            code::AIGP if agreed.external => {}
            // RFC 7311 3.2.
            code::AIGP => self.aigp = aigp(value, offset).map_err(discard)?,
            // RFC 8669 6.
            code::PREFIX_SID => check_tlvs(value, offset).map_err(discard)?,
            // RFC 7606 7.14.
            code::EXTENDED_COMMUNITIES => {
                self.extended_communities = whole(value).ok_or_else(|| withdraw(length("EXTENDED_COMMUNITIES")))?;
            }
            // RFC 6793 6: nothing of it where both speak four octets; discarded where it is malformed.
            code::AS4_PATH | code::AS4_AGGREGATOR if agreed.four_octet_as => {
                let why = Why::Value(u32::from(code));
                return Err(discard(WireError { offset, reading: "attribute of a two-octet speaker", why }));
            }
            code::AS4_PATH if value.is_empty() => return Err(discard(length("AS4_PATH"))),
            code::AS4_PATH => self.as4_path = Some(AsPath::parse(value, offset, true).map_err(discard)?),
            code::AS4_AGGREGATOR => match *value {
                // RFC 7607 2.
                [0, 0, 0, 0, ..] if value.len() == 8 => {
                    return Err(discard(WireError { offset, reading: "AS of AS4_AGGREGATOR", why: Why::Value(0) }));
                }
                [a, b, c, d, w, x, y, z] => {
                    self.as4_aggregator = Some((u32::from_be_bytes([a, b, c, d]), [w, x, y, z]));
                }
                _ => return Err(discard(length("AS4_AGGREGATOR"))),
            },
            // RFC 8092 6.
            code::LARGE_COMMUNITIES => {
                self.large_communities = whole(value).ok_or_else(|| withdraw(length("LARGE_COMMUNITIES")))?;
            }
            // RFC 9552 8.2.2.
            code::LINK_STATE => self.link_state = Some(Information::parse(value, offset).map_err(discard)?),
            // RFC 9234 5.
            code::ONLY_TO_CUSTOMER => {
                self.only_to_customer = Some(number(value).ok_or_else(|| withdraw(length("ONLY_TO_CUSTOMER")))?);
            }
            // RFC 4271 6.3: an unknown attribute that claims to be well known.
            _ if !flags.has(Flags::OPTIONAL) => {
                let why = Why::Value(u32::from(code));
                let error = WireError { offset, reading: "unknown well-known attribute", why };
                return Err(Problem::Reset(BgpError::update(2, error)));
            }
            _ => {}
        }
        Ok(())
    }
}

/// The attribute, and where its value starts.
fn header<'a>(cursor: &mut Cursor<'a>) -> Result<(Attribute<'a>, usize), WireError> {
    let flags = Flags(cursor.u8("attribute flags")?);
    let code = cursor.u8("attribute code")?;
    let length = if flags.has(Flags::EXTENDED) {
        usize::from(cursor.u16("attribute length")?)
    } else {
        usize::from(cursor.u8("attribute length")?)
    };
    let offset = cursor.offset;
    let value = cursor.take(length, "attribute")?;
    Ok((Attribute { flags, code, value }, offset))
}

/// Attributes that are read, or whose meaning ends at the session.
fn is_read(code: u8) -> bool {
    matches!(
        code,
        code::ORIGIN..=code::CLUSTER_LIST
            | code::MP_REACH_NLRI..=code::AS4_AGGREGATOR
            | code::AIGP
            | code::LARGE_COMMUNITIES
            | code::ONLY_TO_CUSTOMER
    )
}

/// | type u8 | length u16, these three octets included | value |, of type 1 a metric u64 (RFC 7311 3).
fn aigp(value: &[u8], offset: usize) -> Result<Option<u64>, WireError> {
    let mut cursor = Cursor::new(value, offset);
    let mut metric = None;
    while !cursor.rest.is_empty() {
        let kind = cursor.u8("AIGP type")?;
        let at = cursor.offset;
        let length = cursor.u16("AIGP length")?;
        let wrong = WireError { offset: at, reading: "AIGP length", why: Why::Length(u32::from(length)) };
        let part = cursor.take(usize::from(length.checked_sub(3).ok_or(wrong)?), "AIGP value")?;
        if kind == 1 {
            // RFC 7311 3.2: only the first counts.
            let first = part.try_into().map(u64::from_be_bytes).map_err(|_| wrong)?;
            metric = metric.or(Some(first));
        }
    }
    if value.is_empty() {
        return Err(WireError { offset, reading: "AIGP", why: Why::Length(0) });
    }
    Ok(metric)
}

/// | type u8 | length u16 | value |, repeated (RFC 8669 3).
fn check_tlvs(value: &[u8], offset: usize) -> Result<(), WireError> {
    let mut cursor = Cursor::new(value, offset);
    if value.is_empty() {
        return Err(WireError { offset, reading: "PREFIX_SID", why: Why::Length(0) });
    }
    while !cursor.rest.is_empty() {
        cursor.u8("TLV type")?;
        let length = cursor.u16("TLV length")?;
        cursor.take(usize::from(length), "TLV")?;
    }
    Ok(())
}

/// | origin AS u32 | attributes |, none of which is of this session (RFC 6368 5).
fn check_attr_set(value: &[u8], offset: usize) -> Result<(), WireError> {
    let mut cursor = Cursor::new(value, offset);
    cursor.take(4, "origin AS")?;
    while !cursor.rest.is_empty() {
        let (attribute, at) = header(&mut cursor)?;
        if matches!(attribute.code, code::MP_REACH_NLRI | code::MP_UNREACH_NLRI | code::NEXT_HOP) {
            let why = Why::Value(u32::from(attribute.code));
            return Err(WireError { offset: at, reading: "attribute in ATTR_SET", why });
        }
    }
    Ok(())
}

/// RFC 7606 3 c; RFC 7606 5.3 for those that hold routes, RFC 7311 3.2 for AIGP.
fn check_flags(flags: Flags, code: u8, value: &[u8], offset: usize) -> Result<(), Problem> {
    let expected = match code {
        code::ORIGIN | code::AS_PATH | code::NEXT_HOP | code::LOCAL_PREF | code::ATOMIC_AGGREGATE => Flags::TRANSITIVE,
        code::MULTI_EXIT_DISC
        | code::ORIGINATOR_ID
        | code::CLUSTER_LIST
        | code::MP_REACH_NLRI
        | code::MP_UNREACH_NLRI
        | code::TRAFFIC_ENGINEERING
        | code::AIGP
        | code::LINK_STATE => Flags::OPTIONAL,
        code::AGGREGATOR
        | code::COMMUNITIES
        | code::EXTENDED_COMMUNITIES
        | code::AS4_PATH
        | code::AS4_AGGREGATOR
        | code::LARGE_COMMUNITIES
        | code::IPV6_EXTENDED_COMMUNITIES
        | code::ATTR_SET
        | code::ONLY_TO_CUSTOMER => Flags::OPTIONAL | Flags::TRANSITIVE,
        _ => return Ok(()),
    };
    if flags.0 & (Flags::OPTIONAL | Flags::TRANSITIVE) == expected {
        return Ok(());
    }
    let error = WireError { offset, reading: "attribute flags", why: Why::Value(u32::from(flags.0)) };
    match code {
        code::MP_REACH_NLRI | code::MP_UNREACH_NLRI => Err(MpError::flags(value, offset, error).into()),
        code::AIGP => Err(Problem::Fault(Class::AttributeDiscard, error)),
        _ => Err(Problem::Fault(Class::TreatAsWithdraw, error)),
    }
}

fn number(value: &[u8]) -> Option<u32> {
    value.try_into().ok().map(u32::from_be_bytes)
}

/// A nonzero number of values of N octets.
fn whole<const N: usize>(value: &[u8]) -> Option<&[[u8; N]]> {
    let (values, rest) = value.as_chunks::<N>();
    (rest.is_empty() && !values.is_empty()).then_some(values)
}
