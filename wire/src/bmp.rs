//! BGP monitoring protocol, version 3 (RFC 7854), with Adj-RIB-Out (RFC 8671) and Loc-RIB (RFC 9069).
//!
//! | version u8 = 3 | octets u32 (header included) | type u8 | body |
//! peer:  | type u8 | flags u8 | distinguisher 8 | address 16 | AS u32 | BGP id 4 | time u32 s | u32 µs |
//! bodies: route monitoring  | peer | BGP UPDATE |
//!         statistics        | peer | count u32 | TLV ... |
//!         peer down         | peer | reason u8 | data |
//!         peer up           | peer | local address 16 | local port u16 | remote port u16 | sent OPEN | received OPEN | TLV ... |
//!         initiation, termination | TLV ... |
//!         route mirroring   | peer | TLV ... |
//! TLV:   | type u16 | octets u16 | value |
//!
//! BGP messages within are left as octets: how they are read depends on what their peer agreed ([`PeerUp::agreed`]).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::bgp::{self, Agreed, Capability, Cursor, Family, Message as BgpMessage, Open};
use crate::error::{Why, WireError};

/// RFC 7854 4.1.
pub const HEADER_OCTETS: usize = 6;
pub const VERSION: u8 = 3;
/// A message that says it is longer is damage: the longest real one has a BGP message of 65,535 octets, mirrored with others.
pub const MESSAGE_OCTETS_MAX: usize = 256 << 10;

/// RFC 7854 4.1.
pub mod kind {
    pub const ROUTE_MONITORING: u8 = 0;
    pub const STATISTICS: u8 = 1;
    pub const PEER_DOWN: u8 = 2;
    pub const PEER_UP: u8 = 3;
    pub const INITIATION: u8 = 4;
    pub const TERMINATION: u8 = 5;
    pub const ROUTE_MIRRORING: u8 = 6;
}

/// RFC 7854 4.4, 4.5.
pub mod tlv {
    pub const TEXT: u16 = 0;
    pub const SYSTEM_DESCRIPTION: u16 = 1;
    pub const SYSTEM_NAME: u16 = 2;
    pub const TERMINATION_REASON: u16 = 1;
}

/// RFC 7854 4.2, RFC 9069 4.1; unknown ones survive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerKind(pub u8);

impl PeerKind {
    pub const GLOBAL: Self = Self(0);
    /// Of a VRF, by its route distinguisher.
    pub const DISTINGUISHED: Self = Self(1);
    /// Of an instance that has a distinguisher on this router alone.
    pub const LOCAL: Self = Self(2);
    pub const LOC_RIB: Self = Self(3);
}

/// Which table a route is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum View {
    AdjInPre,
    AdjInPost,
    AdjOutPre,
    AdjOutPost,
    LocRib,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    pub kind: PeerKind,
    pub flags: u8,
    /// Zero of the router's global instance.
    pub distinguisher: [u8; 8],
    /// Zero where the peer is Loc-RIB.
    pub address: IpAddr,
    pub remote_as: u32,
    pub bgp_id: [u8; 4],
    /// Unix; 0 where the router does not say.
    pub time_s: u32,
    pub microseconds: u32,
}

impl Peer {
    const V6: u8 = 0x80;
    const POST_POLICY: u8 = 0x40;
    const TWO_OCTET_AS: u8 = 0x20;
    const ADJ_OUT: u8 = 0x10;

    pub fn view(&self) -> View {
        let has = |flag| self.flags & flag != 0;
        match (self.kind, has(Self::ADJ_OUT), has(Self::POST_POLICY)) {
            (PeerKind::LOC_RIB, _, _) => View::LocRib,
            (_, false, false) => View::AdjInPre,
            (_, false, true) => View::AdjInPost,
            (_, true, false) => View::AdjOutPre,
            (_, true, true) => View::AdjOutPost,
        }
    }

    /// RFC 7854 4.2, A flag: AS_PATH in the old form. RFC 9069 4.2 has none for Loc-RIB.
    pub fn has_two_octet_as(&self) -> bool {
        self.kind != PeerKind::LOC_RIB && self.flags & Self::TWO_OCTET_AS != 0
    }

    /// RFC 9069 4.2, F flag: the router does not tell of all its routes.
    pub fn is_filtered(&self) -> bool {
        self.kind == PeerKind::LOC_RIB && self.flags & Self::V6 != 0
    }

    fn parse(cursor: &mut Cursor<'_>) -> Result<Self, WireError> {
        let kind = PeerKind(cursor.u8("peer type")?);
        let flags = cursor.u8("peer flags")?;
        let distinguisher = cursor.array("peer distinguisher")?;
        // RFC 9069 4.1: no address, and the bit is another flag.
        let v6 = kind != PeerKind::LOC_RIB && flags & Self::V6 != 0;
        let address = address(cursor, v6, "peer address")?;
        let remote_as = cursor.u32("peer AS")?;
        let bgp_id = cursor.array("peer's BGP identifier")?;
        let time_s = cursor.u32("time")?;
        let microseconds = cursor.u32("microseconds")?;
        Ok(Self { kind, flags, distinguisher, address, remote_as, bgp_id, time_s, microseconds })
    }
}

/// IPv4 addresses are in the last four octets.
fn address(cursor: &mut Cursor<'_>, v6: bool, reading: &'static str) -> Result<IpAddr, WireError> {
    let octets = cursor.array::<16>(reading)?;
    let [.., a, b, c, d] = octets;
    Ok(if v6 { Ipv6Addr::from(octets).into() } else { Ipv4Addr::from([a, b, c, d]).into() })
}

/// Types and values that were checked: iterating does not fail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tlvs<'a>(&'a [u8]);

impl<'a> Tlvs<'a> {
    fn parse(cursor: &mut Cursor<'a>) -> Result<Self, WireError> {
        let octets = cursor.rest;
        while !cursor.rest.is_empty() {
            one(cursor)?;
        }
        Ok(Self(octets))
    }

    pub fn iter(&self) -> impl Iterator<Item = (u16, &'a [u8])> + use<'a> {
        let mut cursor = Cursor::new(self.0, 0);
        std::iter::from_fn(move || one(&mut cursor).ok())
    }

    pub fn get(&self, wanted: u16) -> Option<&'a [u8]> {
        self.iter().find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
    }
}

fn one<'a>(cursor: &mut Cursor<'a>) -> Result<(u16, &'a [u8]), WireError> {
    let kind = cursor.u16("TLV type")?;
    let length = usize::from(cursor.u16("TLV length")?);
    Ok((kind, cursor.take(length, "TLV value")?))
}

/// RFC 7854 4.10.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerUp<'a> {
    pub peer: Peer,
    pub local_address: IpAddr,
    pub local_port: u16,
    pub remote_port: u16,
    /// With its header.
    pub sent_open: &'a [u8],
    pub received_open: &'a [u8],
    pub information: Tlvs<'a>,
}

/// RFC 7854 4.9, RFC 9069 5.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerDown<'a> {
    pub peer: Peer,
    pub reason: u8,
    /// A NOTIFICATION with its header (1, 3), an event of the state machine u16 (2), TLVs (6).
    pub data: &'a [u8],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// The UPDATE, with its header.
    RouteMonitoring(Peer, &'a [u8]),
    Statistics(Peer, Tlvs<'a>),
    PeerDown(PeerDown<'a>),
    PeerUp(PeerUp<'a>),
    Initiation(Tlvs<'a>),
    Termination(Tlvs<'a>),
    RouteMirroring(Peer, Tlvs<'a>),
    /// RFC 7854 4.1: to be ignored.
    Unknown(u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raw<'a> {
    pub kind: u8,
    pub body: &'a [u8],
}

/// The next message and what follows it; `None` where more octets are needed. After an error nothing can be told apart.
pub fn frame(input: &[u8]) -> Result<Option<(Raw<'_>, &[u8])>, WireError> {
    if let Some(&version) = input.first()
        && version != VERSION
    {
        return Err(WireError { offset: 0, reading: "version", why: Why::Value(u32::from(version)) });
    }
    let Some(([_, a, b, c, d, kind], _)) = input.split_first_chunk::<HEADER_OCTETS>() else { return Ok(None) };
    let length = u32::from_be_bytes([*a, *b, *c, *d]);
    if !(HEADER_OCTETS..=MESSAGE_OCTETS_MAX).contains(&(length as usize)) {
        return Err(WireError { offset: 1, reading: "message length", why: Why::Length(length) });
    }
    let whole = input.split_at_checked(length as usize);
    Ok(whole.map(|(message, rest)| (Raw { kind: *kind, body: &message[HEADER_OCTETS..] }, rest)))
}

/// Offsets in errors count from the message's first octet.
pub fn parse(raw: Raw<'_>) -> Result<Message<'_>, WireError> {
    let mut cursor = Cursor::new(raw.body, HEADER_OCTETS);
    let cursor = &mut cursor;
    Ok(match raw.kind {
        kind::ROUTE_MONITORING => Message::RouteMonitoring(Peer::parse(cursor)?, cursor.rest),
        kind::STATISTICS => {
            let peer = Peer::parse(cursor)?;
            cursor.u32("count of statistics")?;
            Message::Statistics(peer, Tlvs::parse(cursor)?)
        }
        kind::PEER_DOWN => {
            let peer = Peer::parse(cursor)?;
            let reason = cursor.u8("reason")?;
            Message::PeerDown(PeerDown { peer, reason, data: cursor.rest })
        }
        kind::PEER_UP => {
            let peer = Peer::parse(cursor)?;
            // RFC 7854 4.10: the V flag is of this address too.
            let local_address = address(cursor, peer.address.is_ipv6(), "local address")?;
            let local_port = cursor.u16("local port")?;
            let remote_port = cursor.u16("remote port")?;
            let sent_open = open(cursor, "sent OPEN")?;
            let received_open = open(cursor, "received OPEN")?;
            let information = Tlvs::parse(cursor)?;
            Message::PeerUp(PeerUp {
                peer,
                local_address,
                local_port,
                remote_port,
                sent_open,
                received_open,
                information,
            })
        }
        kind::INITIATION => Message::Initiation(Tlvs::parse(cursor)?),
        kind::TERMINATION => Message::Termination(Tlvs::parse(cursor)?),
        kind::ROUTE_MIRRORING => Message::RouteMirroring(Peer::parse(cursor)?, Tlvs::parse(cursor)?),
        kind => Message::Unknown(kind),
    })
}

/// A BGP message by its own length.
fn open<'a>(cursor: &mut Cursor<'a>, reading: &'static str) -> Result<&'a [u8], WireError> {
    let at = cursor.offset;
    let length = match cursor.rest.get(16..18) {
        Some(&[high, low]) => u16::from_be_bytes([high, low]),
        _ => return Err(WireError { offset: at, reading, why: Why::Truncated { left: cursor.rest.len() } }),
    };
    if usize::from(length) < bgp::HEADER_OCTETS {
        return Err(WireError { offset: at + 16, reading, why: Why::Length(u32::from(length)) });
    }
    cursor.take(usize::from(length), reading)
}

fn parsed(open: &[u8]) -> Option<Open<'_>> {
    let agreed = Agreed::default();
    let (raw, _) = bgp::frame(open, &agreed).ok()??;
    match bgp::parse(raw, &agreed) {
        Ok(BgpMessage::Open(open)) => Some(open),
        _ => None,
    }
}

impl PeerUp<'_> {
    /// How UPDATEs of one of the peer's views are to be read: two-octet AS numbers as that view's header says,
    /// path identifiers where both OPENs have them for the direction (RFC 7854 5, RFC 8671 5, RFC 9069 5.2).
    pub fn agreed(&self, view: View, two_octet_as: bool) -> Agreed {
        let (sent, received) = (parsed(self.sent_open), parsed(self.received_open));
        let ways = |open: &Option<Open<'_>>, sends: bool| -> Vec<Family> {
            let lists = open.iter().flat_map(|open| &open.capabilities).filter_map(|capability| match capability {
                Capability::AddPath(list) => Some(list),
                _ => None,
            });
            lists.flatten().filter(|way| if sends { way.send } else { way.receive }).map(|way| way.family).collect()
        };
        let both = |from: &Option<Open<'_>>, to: &Option<Open<'_>>| {
            let reads = ways(to, false);
            ways(from, true).into_iter().filter(|family| reads.contains(family)).collect::<Vec<Family>>()
        };
        let mut add_path = match view {
            View::AdjInPre | View::AdjInPost => both(&received, &sent),
            View::AdjOutPre | View::AdjOutPost => both(&sent, &received),
            // Both are made up by the router to say how it writes its table.
            View::LocRib => [both(&sent, &received), both(&received, &sent)].concat(),
        };
        add_path.dedup();
        Agreed { four_octet_as: !two_octet_as, add_path, extended_messages: true, ..Agreed::default() }
    }
}

/// Why a peer went down, in words.
impl fmt::Display for PeerDown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let notification = || {
            let agreed = Agreed { extended_messages: true, ..Agreed::default() };
            let (raw, _) = bgp::frame(self.data, &agreed).ok()??;
            match bgp::parse(raw, &agreed) {
                Ok(BgpMessage::Notification(notification)) => Some(notification.to_string()),
                _ => None,
            }
        };
        let said = || notification().unwrap_or_else(|| "a notification".to_owned());
        match self.reason {
            1 => write!(f, "closed by the router: {}", said()),
            2 => match self.data {
                [high, low, ..] => write!(f, "closed by the router: event {}", u16::from_be_bytes([*high, *low])),
                _ => f.write_str("closed by the router"),
            },
            3 => write!(f, "closed by its peer: {}", said()),
            4 => f.write_str("closed by its peer without a notification"),
            5 => f.write_str("no longer monitored"),
            6 => f.write_str("the router's table is gone"),
            reason => write!(f, "reason {reason}"),
        }
    }
}

/// Why a router ends (RFC 7854 4.5), in words.
pub fn termination_text(information: &Tlvs<'_>) -> String {
    let reason = match information.get(tlv::TERMINATION_REASON) {
        Some([0, 0]) => "closed by its administrator",
        Some([0, 2]) => "out of resources",
        Some([0, 3]) => "this connection is redundant",
        Some([0, 4]) => "closed for good",
        _ => "no reason given",
    };
    match information.get(tlv::TEXT).filter(|text| !text.is_empty()) {
        Some(text) => format!("{reason}: {}", text_of(text)),
        None => reason.to_owned(),
    }
}

/// Text of a TLV, made printable.
pub fn text_of(octets: &[u8]) -> String {
    const OCTETS_MAX: usize = 255;
    let text = String::from_utf8_lossy(&octets[..octets.len().min(OCTETS_MAX)]);
    text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect::<String>().trim().into()
}
