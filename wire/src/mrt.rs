//! MRT (RFC 6396): what routers and route collectors write of BGP, with path identifiers (RFC 8050).
//!
//! record:           | time u32 s | type u16 | subtype u16 | octets u32 | body |         _ET: body begins with u32 µs
//! TABLE_DUMP:       | view u16 | sequence u16 | prefix 4/16 | length u8 | status u8 | since u32 | peer 4/16 | AS u16 |
//!                   | octets u16 | attributes |
//! PEER_INDEX_TABLE: | collector's id 4 | octets u16 | view | count u16 | type u8 | BGP id 4 | address 4/16 | AS 2/4 | ...
//! RIB:              | sequence u32 | length u8 | prefix | count u16 | entry ...
//! entry:            | peer u16 | since u32 | [path identifier u32] | octets u16 | attributes |
//! BGP4MP:           | peer's AS 2/4 | local AS 2/4 | interface u16 | AFI u16 | peer 4/16 | local 4/16 | message, or states |
//! BGP (before 2001): | peer's AS u16 | peer 4 | local AS u16 | local 4 | body of an UPDATE |
//!
//! A body is borrowed; what it holds is checked when it is parsed, attributes when they are asked for.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::bgp::{
    self, Agreed, BgpError, Cursor, Family, NlriPrefix, PrefixAddress, RouteUpdate, TableRoute, encode_table_attributes,
};
use crate::error::{Why, WireError};

pub const HEADER_OCTETS: usize = 12;
/// A record that says it is longer is damage. The largest real ones have the paths of some hundred peers.
pub const BODY_OCTETS_MAX: usize = 16 << 20;

/// RFC 6396 4, appendix B.
pub mod kind {
    pub const BGP: u16 = 5;
    pub const TABLE_DUMP: u16 = 12;
    pub const TABLE_DUMP_V2: u16 = 13;
    pub const BGP4MP: u16 = 16;
    pub const BGP4MP_ET: u16 = 17;
}

/// RFC 6396 4.3, RFC 8050 4.
pub mod subtype {
    pub const PEER_INDEX_TABLE: u16 = 1;
    pub const RIB_IPV4_UNICAST: u16 = 2;
    pub const RIB_IPV6_UNICAST: u16 = 4;
    pub const RIB_IPV4_UNICAST_ADDPATH: u16 = 8;
    pub const RIB_IPV6_UNICAST_ADDPATH: u16 = 10;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Unix.
    pub time_s: u32,
    pub kind: u16,
    pub subtype: u16,
    /// Of the body.
    pub octets: usize,
}

impl Header {
    pub fn parse(octets: &[u8; HEADER_OCTETS]) -> Result<Self, WireError> {
        let [t0, t1, t2, t3, k0, k1, s0, s1, l0, l1, l2, l3] = *octets;
        let length = u32::from_be_bytes([l0, l1, l2, l3]);
        if length as usize > BODY_OCTETS_MAX {
            return Err(WireError { offset: 8, reading: "record length", why: Why::Length(length) });
        }
        Ok(Self {
            time_s: u32::from_be_bytes([t0, t1, t2, t3]),
            kind: u16::from_be_bytes([k0, k1]),
            subtype: u16::from_be_bytes([s0, s1]),
            octets: length as usize,
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    PeerIndex(PeerIndex<'a>),
    Rib(Rib<'a>),
    Table(TableEntry<'a>),
    Bgp(BgpMessage<'a>),
    State(StateChange),
    /// Of a type, subtype or family that is not read.
    Skipped,
}

/// RFC 6396 4.3.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerIndex<'a> {
    pub collector_id: [u8; 4],
    pub view: &'a [u8],
    peers: &'a [u8],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IndexedPeer {
    pub bgp_id: [u8; 4],
    pub address: IpAddr,
    pub remote_as: u32,
}

impl<'a> PeerIndex<'a> {
    /// In the order of their numbers.
    pub fn peers(&self) -> impl Iterator<Item = IndexedPeer> + use<'a> {
        let mut cursor = Cursor::new(self.peers, 0);
        std::iter::from_fn(move || indexed_peer(&mut cursor).ok())
    }
}

/// A prefix and the routes to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rib<'a> {
    pub sequence: u32,
    pub prefix: NlriPrefix,
    entries: Cursor<'a>,
    add_path: bool,
}

/// One peer's route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// In the last PEER_INDEX_TABLE.
    pub peer: u16,
    /// Unix, seconds.
    pub since_s: u32,
    /// 0 where there is none.
    pub path_id: u32,
    attributes: Cursor<'a>,
}

impl<'a> Rib<'a> {
    pub fn entries(&self) -> impl Iterator<Item = Entry<'a>> + use<'a> {
        let Self { mut entries, add_path, .. } = *self;
        std::iter::from_fn(move || entry(&mut entries, add_path).ok())
    }

    /// The entries have path identifiers.
    pub fn has_path_ids(&self) -> bool {
        self.add_path
    }
}

impl<'a> Entry<'a> {
    pub fn attributes(&self) -> &'a [u8] {
        self.attributes.rest
    }

    /// RFC 6396 4.3.4: AS numbers of four octets.
    pub fn route(&self) -> Result<TableRoute<'a>, BgpError> {
        TableRoute::parse(self.attributes.rest, self.attributes.offset, true)
    }
}

/// RFC 6396 4.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableEntry<'a> {
    pub sequence: u16,
    pub prefix: NlriPrefix,
    pub since_s: u32,
    pub peer: IpAddr,
    pub peer_as: u32,
    attributes: Cursor<'a>,
}

impl<'a> TableEntry<'a> {
    pub fn attributes(&self) -> &'a [u8] {
        self.attributes.rest
    }

    /// AS numbers of two octets.
    pub fn route(&self) -> Result<TableRoute<'a>, BgpError> {
        TableRoute::parse(self.attributes.rest, self.attributes.offset, false)
    }
}

/// RFC 6396 4.4: a message as it was received, or sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BgpMessage<'a> {
    pub peer: IpAddr,
    pub peer_as: u32,
    pub local: IpAddr,
    pub local_as: u32,
    /// Sent by the one who wrote the record.
    pub is_local: bool,
    four_octet_as: bool,
    add_path: bool,
    message: Cursor<'a>,
    /// The message has no header: an UPDATE.
    is_body: bool,
}

impl<'a> BgpMessage<'a> {
    /// Offsets in errors count from the message's first octet.
    pub fn read(&self) -> Result<bgp::Message<'a>, BgpError> {
        match self.read_as(self.add_path) {
            // RFC 4271 6.3, prefixes that are none: writers before RFC 8050 had no subtype for path identifiers.
            Err(error) if !self.add_path && error.code == 3 && matches!(error.subcode, 9 | 10) => {
                self.read_as(true).map_err(|_| error)
            }
            read => read,
        }
    }

    fn read_as(&self, add_path: bool) -> Result<bgp::Message<'a>, BgpError> {
        let agreed = Agreed {
            four_octet_as: self.four_octet_as,
            // RFC 8050 3: such a record's routes have identifiers.
            add_path: if add_path { vec![Family::V4_UNICAST, Family::V6_UNICAST] } else { Vec::new() },
            extended_messages: true,
            ..Agreed::default()
        };
        if self.is_body {
            return bgp::parse(bgp::Raw { kind: bgp::kind::UPDATE, body: self.message.rest }, &agreed);
        }
        match bgp::frame(self.message.rest, &agreed)? {
            Some((raw, _)) => bgp::parse(raw, &agreed),
            None => Err(BgpError::cut(self.message.rest.len())),
        }
    }

    /// Where the message begins in its record.
    pub fn offset(&self) -> usize {
        self.message.offset
    }

    pub fn has_path_ids(&self) -> bool {
        self.add_path
    }
}

/// States as RFC 4271 8 has them, from 1, Idle, to 6, Established.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateChange {
    pub peer: IpAddr,
    pub peer_as: u32,
    pub old: u16,
    pub new: u16,
}

pub const ESTABLISHED: u16 = 6;

/// Offsets in errors count from the record's first octet.
pub fn parse<'a>(header: &Header, body: &'a [u8]) -> Result<Message<'a>, WireError> {
    let mut cursor = Cursor::new(body, HEADER_OCTETS);
    match (header.kind, header.subtype) {
        (kind::TABLE_DUMP, 1 | 2) => table_dump(&mut cursor, header.subtype == 2),
        (kind::TABLE_DUMP_V2, subtype::PEER_INDEX_TABLE) => peer_index(&mut cursor),
        (kind::TABLE_DUMP_V2, subtype::RIB_IPV4_UNICAST) => rib(&mut cursor, false, false),
        (kind::TABLE_DUMP_V2, subtype::RIB_IPV6_UNICAST) => rib(&mut cursor, true, false),
        (kind::TABLE_DUMP_V2, subtype::RIB_IPV4_UNICAST_ADDPATH) => rib(&mut cursor, false, true),
        (kind::TABLE_DUMP_V2, subtype::RIB_IPV6_UNICAST_ADDPATH) => rib(&mut cursor, true, true),
        (kind::BGP4MP, subtype) => bgp4mp(&mut cursor, subtype),
        (kind::BGP4MP_ET, subtype) => {
            cursor.u32("microseconds")?;
            bgp4mp(&mut cursor, subtype)
        }
        (kind::BGP, subtype @ (1 | 3)) => bgp_old(&mut cursor, subtype),
        _ => Ok(Message::Skipped),
    }
}

fn address(cursor: &mut Cursor<'_>, v6: bool, reading: &'static str) -> Result<IpAddr, WireError> {
    Ok(if v6 {
        Ipv6Addr::from(cursor.array::<16>(reading)?).into()
    } else {
        Ipv4Addr::from(cursor.array::<4>(reading)?).into()
    })
}

fn as_number(cursor: &mut Cursor<'_>, four_octets: bool, reading: &'static str) -> Result<u32, WireError> {
    if four_octets { cursor.u32(reading) } else { cursor.u16(reading).map(u32::from) }
}

/// A part whose length is two octets before it.
fn part<'a>(cursor: &mut Cursor<'a>, reading: &'static str) -> Result<Cursor<'a>, WireError> {
    let length = usize::from(cursor.u16(reading)?);
    let offset = cursor.offset;
    Ok(Cursor::new(cursor.take(length, reading)?, offset))
}

/// Bits behind the length are cleared: writers leave them as they were sent.
fn prefix(octets: &[u8], len: u8, v6: bool, offset: usize) -> Result<NlriPrefix, WireError> {
    let most = if v6 { 128 } else { 32 };
    if len > most {
        return Err(WireError { offset, reading: "prefix length", why: Why::Length(u32::from(len)) });
    }
    let mut filled = [0; 16];
    filled.iter_mut().zip(octets).for_each(|(to, from)| *to = *from);
    let mask = if len == 0 { 0 } else { u128::MAX << (128 - u32::from(len)) };
    let masked = (u128::from_be_bytes(filled) & mask).to_be_bytes();
    let [a, b, c, d, ..] = masked;
    let address = if v6 { PrefixAddress::V6(masked) } else { PrefixAddress::V4([a, b, c, d]) };
    Ok(NlriPrefix { path_id: 0, address, len })
}

fn table_dump<'a>(cursor: &mut Cursor<'a>, v6: bool) -> Result<Message<'a>, WireError> {
    cursor.u16("view number")?;
    let sequence = cursor.u16("sequence number")?;
    let octets = cursor.take(if v6 { 16 } else { 4 }, "prefix")?;
    let at = cursor.offset;
    let len = cursor.u8("prefix length")?;
    let prefix = prefix(octets, len, v6, at)?;
    cursor.u8("status")?;
    let since_s = cursor.u32("time of origination")?;
    let peer = address(cursor, v6, "peer address")?;
    let peer_as = as_number(cursor, false, "peer AS")?;
    let attributes = part(cursor, "attributes")?;
    Ok(Message::Table(TableEntry { sequence, prefix, since_s, peer, peer_as, attributes }))
}

fn peer_index<'a>(cursor: &mut Cursor<'a>) -> Result<Message<'a>, WireError> {
    let collector_id = cursor.array("collector identifier")?;
    let view = part(cursor, "view name")?.rest;
    let count = cursor.u16("peer count")?;
    let start = cursor.rest;
    for _ in 0..count {
        indexed_peer(cursor)?;
    }
    let peers = &start[..start.len() - cursor.rest.len()];
    Ok(Message::PeerIndex(PeerIndex { collector_id, view, peers }))
}

fn indexed_peer(cursor: &mut Cursor<'_>) -> Result<IndexedPeer, WireError> {
    let kind = cursor.u8("peer type")?;
    let bgp_id = cursor.array("peer's BGP identifier")?;
    let address = address(cursor, kind & 1 != 0, "peer address")?;
    let remote_as = as_number(cursor, kind & 2 != 0, "peer AS")?;
    Ok(IndexedPeer { bgp_id, address, remote_as })
}

fn rib<'a>(cursor: &mut Cursor<'a>, v6: bool, add_path: bool) -> Result<Message<'a>, WireError> {
    let sequence = cursor.u32("sequence number")?;
    let at = cursor.offset;
    let len = cursor.u8("prefix length")?;
    let octets = cursor.take(usize::from(len).div_ceil(8), "prefix")?;
    let prefix = prefix(octets, len, v6, at)?;
    let count = cursor.u16("entry count")?;
    let start = *cursor;
    for _ in 0..count {
        entry(cursor, add_path)?;
    }
    let octets = start.rest.len() - cursor.rest.len();
    let entries = Cursor::new(&start.rest[..octets], start.offset);
    Ok(Message::Rib(Rib { sequence, prefix, entries, add_path }))
}

fn entry<'a>(cursor: &mut Cursor<'a>, add_path: bool) -> Result<Entry<'a>, WireError> {
    let peer = cursor.u16("peer index")?;
    let since_s = cursor.u32("time of origination")?;
    let path_id = if add_path { cursor.u32("path identifier")? } else { 0 };
    let attributes = part(cursor, "attributes")?;
    Ok(Entry { peer, since_s, path_id, attributes })
}

/// RFC 6396 4.4, RFC 8050 3; subtypes 2 and 3, a table's entry and a snapshot, are of no standard.
fn bgp4mp<'a>(cursor: &mut Cursor<'a>, subtype: u16) -> Result<Message<'a>, WireError> {
    let (four_octet_as, is_local, add_path) = match subtype {
        0 | 1 => (false, false, false),
        4 | 5 => (true, false, false),
        6 => (false, true, false),
        7 => (true, true, false),
        8 => (false, false, true),
        9 => (true, false, true),
        10 => (false, true, true),
        11 => (true, true, true),
        _ => return Ok(Message::Skipped),
    };
    let is_short = subtype == 0 && cursor.rest.len() == 8;
    let peer_as = as_number(cursor, four_octet_as, "peer AS")?;
    let local_as = as_number(cursor, four_octet_as, "local AS")?;
    if is_short {
        // Zebra left the addresses out where it did not know its peer yet.
        let (peer, old, new) = (Ipv4Addr::UNSPECIFIED.into(), cursor.u16("old state")?, cursor.u16("new state")?);
        return Ok(Message::State(StateChange { peer, peer_as, old, new }));
    }
    cursor.u16("interface index")?;
    let v6 = match cursor.u16("AFI")? {
        1 => false,
        2 => true,
        _ => return Ok(Message::Skipped),
    };
    let peer = address(cursor, v6, "peer address")?;
    let local = address(cursor, v6, "local address")?;
    if matches!(subtype, 0 | 5) {
        let old = cursor.u16("old state")?;
        let new = cursor.u16("new state")?;
        return Ok(Message::State(StateChange { peer, peer_as, old, new }));
    }
    let (message, is_body) = (*cursor, false);
    Ok(Message::Bgp(BgpMessage { peer, peer_as, local, local_as, is_local, four_octet_as, add_path, message, is_body }))
}

/// RFC 6396 B.2: of the MRT toolkit, before BGP4MP.
fn bgp_old<'a>(cursor: &mut Cursor<'a>, subtype: u16) -> Result<Message<'a>, WireError> {
    let peer_as = as_number(cursor, false, "peer AS")?;
    let peer = address(cursor, false, "peer address")?;
    if subtype == 3 {
        let old = cursor.u16("old state")?;
        let new = cursor.u16("new state")?;
        return Ok(Message::State(StateChange { peer, peer_as, old, new }));
    }
    let local_as = as_number(cursor, false, "local AS")?;
    let local = address(cursor, false, "local address")?;
    Ok(Message::Bgp(BgpMessage {
        peer,
        peer_as,
        local,
        local_as,
        is_local: false,
        four_octet_as: false,
        add_path: false,
        message: *cursor,
        is_body: true,
    }))
}

/// Appends a record; `body` writes what follows the header.
fn record(out: &mut Vec<u8>, time_s: u32, subtype: u16, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&time_s.to_be_bytes());
    out.extend_from_slice(&kind::TABLE_DUMP_V2.to_be_bytes());
    out.extend_from_slice(&subtype.to_be_bytes());
    out.extend_from_slice(&[0; 4]);
    body(out);
    let octets = (out.len() - start - HEADER_OCTETS) as u32;
    out[start + 8..start + HEADER_OCTETS].copy_from_slice(&octets.to_be_bytes());
}

/// Appends a PEER_INDEX_TABLE of up to 65,535 peers; entries name them by their place in the list.
pub fn encode_peer_index(out: &mut Vec<u8>, time_s: u32, collector_id: [u8; 4], view: &str, peers: &[IndexedPeer]) {
    record(out, time_s, subtype::PEER_INDEX_TABLE, |out| {
        out.extend_from_slice(&collector_id);
        let view = &view.as_bytes()[..view.len().min(usize::from(u16::MAX))];
        out.extend_from_slice(&(view.len() as u16).to_be_bytes());
        out.extend_from_slice(view);
        let peers = &peers[..peers.len().min(usize::from(u16::MAX))];
        out.extend_from_slice(&(peers.len() as u16).to_be_bytes());
        for peer in peers {
            out.push(2 | u8::from(peer.address.is_ipv6()));
            out.extend_from_slice(&peer.bgp_id);
            match peer.address {
                IpAddr::V4(address) => out.extend_from_slice(&address.octets()),
                IpAddr::V6(address) => out.extend_from_slice(&address.octets()),
            }
            out.extend_from_slice(&peer.remote_as.to_be_bytes());
        }
    });
}

/// A route to be written: peer, Unix seconds, path identifier, attributes as [`encode_attributes`] made them.
pub type NewEntry<'a> = (u16, u32, u32, &'a [u8]);

/// Appends the attributes of an entry; false where they are longer than one may be, and nothing is appended.
pub fn encode_attributes(out: &mut Vec<u8>, route: &RouteUpdate<'_>) -> bool {
    let start = out.len();
    encode_table_attributes(out, route);
    let fits = out.len() - start <= usize::from(u16::MAX);
    if !fits {
        out.truncate(start);
    }
    fits
}

/// Appends a RIB record of up to 65,535 entries, with path identifiers where one is not 0.
pub fn encode_rib(out: &mut Vec<u8>, time_s: u32, sequence: u32, prefix: &NlriPrefix, entries: &[NewEntry<'_>]) {
    let entries = &entries[..entries.len().min(usize::from(u16::MAX))];
    let add_path = entries.iter().any(|(_, _, path_id, _)| *path_id != 0);
    let (octets, most, subtype): (&[u8], u8, u16) = match &prefix.address {
        PrefixAddress::V4(octets) if add_path => (octets, 32, subtype::RIB_IPV4_UNICAST_ADDPATH),
        PrefixAddress::V4(octets) => (octets, 32, subtype::RIB_IPV4_UNICAST),
        PrefixAddress::V6(octets) if add_path => (octets, 128, subtype::RIB_IPV6_UNICAST_ADDPATH),
        PrefixAddress::V6(octets) => (octets, 128, subtype::RIB_IPV6_UNICAST),
    };
    let len = prefix.len.min(most);
    record(out, time_s, subtype, |out| {
        out.extend_from_slice(&sequence.to_be_bytes());
        out.push(len);
        out.extend_from_slice(&octets[..usize::from(len).div_ceil(8)]);
        out.extend_from_slice(&(entries.len() as u16).to_be_bytes());
        for (peer, since_s, path_id, attributes) in entries {
            out.extend_from_slice(&peer.to_be_bytes());
            out.extend_from_slice(&since_s.to_be_bytes());
            if add_path {
                out.extend_from_slice(&path_id.to_be_bytes());
            }
            out.extend_from_slice(&(attributes.len() as u16).to_be_bytes());
            out.extend_from_slice(attributes);
        }
    });
}
