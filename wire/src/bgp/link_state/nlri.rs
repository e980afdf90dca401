//! What link-state NLRI name (RFC 9552 5.2, RFC 9514 6, RFC 9086 4).

use super::{Tlv, Tlvs, length, next, reachability};
use crate::bgp::{Cursor, Family, PrefixAddress};
use crate::error::{Why, WireError};

/// RFC 9552 5.2, RFC 9514 6; unknown ones survive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NlriKind(pub u16);

impl NlriKind {
    pub const NODE: Self = Self(1);
    pub const LINK: Self = Self(2);
    pub const PREFIX_V4: Self = Self(3);
    pub const PREFIX_V6: Self = Self(4);
    pub const SRV6_SID: Self = Self(6);
}

/// Where the object comes from (RFC 9552 5.2); unknown ones survive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Protocol(pub u8);

impl Protocol {
    pub const ISIS_LEVEL_1: Self = Self(1);
    pub const ISIS_LEVEL_2: Self = Self(2);
    pub const OSPF_V2: Self = Self(3);
    pub const DIRECT: Self = Self(4);
    pub const STATIC: Self = Self(5);
    pub const OSPF_V3: Self = Self(6);
    /// RFC 9086.
    pub const BGP: Self = Self(7);

    fn is_isis(self) -> bool {
        matches!(self, Self::ISIS_LEVEL_1 | Self::ISIS_LEVEL_2)
    }

    fn is_ospf(self) -> bool {
        matches!(self, Self::OSPF_V2 | Self::OSPF_V3)
    }
}

/// A node by what its protocol calls it (RFC 9552 5.2.1.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct NodeDescriptor<'a> {
    pub asn: Option<u32>,
    /// RFC 9552 5.2.1.4: of old speakers.
    pub bgp_ls_id: Option<u32>,
    /// Of OSPF.
    pub area: Option<[u8; 4]>,
    /// IS-IS: 6 octets, 7 of a pseudonode. OSPF: 4, 8 of a pseudonode (RFC 9552 5.2.1.4).
    pub igp_router_id: &'a [u8],
    /// RFC 9086 4.1.
    pub bgp_router_id: Option<[u8; 4]>,
    pub confederation_member: Option<u32>,
}

impl NodeDescriptor<'_> {
    /// A broadcast network, not a router.
    pub fn is_pseudonode(&self, protocol: Protocol) -> bool {
        match *self.igp_router_id {
            [.., number] if protocol.is_isis() => self.igp_router_id.len() == 7 && number != 0,
            _ => protocol.is_ospf() && self.igp_router_id.len() == 8,
        }
    }
}

/// Which of several links between two nodes (RFC 9552 5.2.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct LinkDescriptor {
    /// Local and remote number (RFC 5307); 0 is unknown.
    pub identifiers: Option<(u32, u32)>,
    pub local_v4: Option<[u8; 4]>,
    pub remote_v4: Option<[u8; 4]>,
    pub local_v6: Option<[u8; 16]>,
    pub remote_v6: Option<[u8; 16]>,
    /// Multi-topology id; absent is the default topology.
    pub topology: Option<u16>,
}

/// RFC 9552 5.2.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PrefixDescriptor {
    pub address: PrefixAddress,
    pub len: u8,
    pub topology: Option<u16>,
    /// Of OSPF: 1 intra-area, 2 inter-area, 3 and 4 external, 5 and 6 not-so-stubby.
    pub ospf_route_type: Option<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Object<'a> {
    Node(NodeDescriptor<'a>),
    Link {
        local: NodeDescriptor<'a>,
        remote: NodeDescriptor<'a>,
        link: LinkDescriptor,
    },
    Prefix {
        node: NodeDescriptor<'a>,
        prefix: PrefixDescriptor,
    },
    /// RFC 9514 6.
    Srv6Sid {
        node: NodeDescriptor<'a>,
        sid: [u8; 16],
        topology: Option<u16>,
    },
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkStateNlri<'a> {
    pub rd: Option<[u8; 8]>,
    pub kind: NlriKind,
    pub protocol: Protocol,
    /// RFC 9552 5.2: which of several instances of the protocol.
    pub identifier: u64,
    pub object: Object<'a>,
    /// Descriptors, those that are not known here too.
    pub tlvs: Tlvs<'a>,
    /// From its type to its end: equal ones name the same object.
    pub octets: &'a [u8],
}

/// NLRI of an MP attribute whose lengths add up. Those with an error of their own are passed over (RFC 9552 8.2.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkStateNlris<'a> {
    octets: &'a [u8],
    vpn: bool,
}

impl<'a> LinkStateNlris<'a> {
    /// An error where the message cannot be read on; beside the result the first of those that are passed over.
    pub(in crate::bgp) fn parse(
        octets: &'a [u8],
        offset: usize,
        family: Family,
    ) -> Result<(Self, Option<WireError>), WireError> {
        let nlris = Self::trusted(octets, family);
        let mut cursor = Cursor::new(octets, offset);
        let mut discarded = None;
        while !cursor.rest.is_empty() {
            if let Err(error) = nlris.one(&mut cursor)? {
                discarded = discarded.or(Some(error));
            }
        }
        Ok((nlris, discarded))
    }

    /// Of octets that [`Self::parse`] took.
    pub(in crate::bgp) fn trusted(octets: &'a [u8], family: Family) -> Self {
        Self { octets, vpn: family == Family::LINK_STATE_VPN }
    }

    pub fn is_empty(&self) -> bool {
        self.octets.is_empty()
    }

    /// The outer error leaves no way to the next one, the inner does.
    fn one(&self, cursor: &mut Cursor<'a>) -> Result<Result<LinkStateNlri<'a>, WireError>, WireError> {
        let whole = cursor.rest;
        let kind = NlriKind(cursor.u16("link-state NLRI type")?);
        let length = usize::from(cursor.u16("link-state NLRI length")?);
        let at = cursor.offset;
        let body = cursor.take(length, "link-state NLRI")?;
        Ok(body_of(kind, body, at, self.vpn, &whole[..4 + length]))
    }
}

impl<'a> Iterator for LinkStateNlris<'a> {
    type Item = LinkStateNlri<'a>;

    fn next(&mut self) -> Option<LinkStateNlri<'a>> {
        let mut cursor = Cursor::new(self.octets, 0);
        while !cursor.rest.is_empty() {
            let Ok(found) = self.one(&mut cursor) else { break };
            if let Ok(nlri) = found {
                self.octets = cursor.rest;
                return Some(nlri);
            }
        }
        self.octets = &[];
        None
    }
}

fn body_of<'a>(
    kind: NlriKind,
    body: &'a [u8],
    offset: usize,
    vpn: bool,
    octets: &'a [u8],
) -> Result<LinkStateNlri<'a>, WireError> {
    let mut cursor = Cursor::new(body, offset);
    let rd = if vpn { Some(cursor.array("route distinguisher")?) } else { None };
    let known = matches!(
        kind,
        NlriKind::NODE | NlriKind::LINK | NlriKind::PREFIX_V4 | NlriKind::PREFIX_V6 | NlriKind::SRV6_SID
    );
    if !known {
        // RFC 9552 5.2: of an unknown type only the length is sure.
        let (protocol, identifier) = match cursor.rest.split_first_chunk::<9>() {
            Some(([protocol, a, b, c, d, e, f, g, h], _)) => {
                (*protocol, u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]))
            }
            None => (0, 0),
        };
        let (protocol, tlvs) = (Protocol(protocol), Tlvs::default());
        return Ok(LinkStateNlri { rd, kind, protocol, identifier, object: Object::Unknown, tlvs, octets });
    }
    let protocol = Protocol(cursor.u8("protocol")?);
    let identifier = u64::from_be_bytes(cursor.array("identifier")?);
    let mut order = Order::default();
    let mut found = Found::default();
    let v6 = kind == NlriKind::PREFIX_V6;
    let tlvs = Tlvs::parse(cursor.rest, cursor.offset, |tlv, at| {
        order.check(tlv, at)?;
        found.take(tlv, at, protocol, v6)
    })?;
    let missing = |reading| WireError { offset, reading, why: Why::Truncated { left: 0 } };
    let local = found.local.ok_or_else(|| missing("local node"))?;
    let object = match kind {
        NlriKind::NODE => Object::Node(local),
        NlriKind::LINK => {
            Object::Link { local, remote: found.remote.ok_or_else(|| missing("remote node"))?, link: found.link }
        }
        NlriKind::SRV6_SID => {
            let sid = found.sid.ok_or_else(|| missing("SRv6 SID"))?;
            Object::Srv6Sid { node: local, sid, topology: found.link.topology }
        }
        _ => {
            let (address, len) = found.reachable.ok_or_else(|| missing("reachable prefix"))?;
            let (topology, ospf_route_type) = (found.link.topology, found.ospf_route_type);
            Object::Prefix { node: local, prefix: PrefixDescriptor { address, len, topology, ospf_route_type } }
        }
    };
    Ok(LinkStateNlri { rd, kind, protocol, identifier, object, tlvs, octets })
}

/// RFC 9552 5.1: ascending by type, those of one type by value; otherwise one object had several names.
#[derive(Default)]
struct Order<'a> {
    last: Option<Tlv<'a>>,
}

impl<'a> Order<'a> {
    fn check(&mut self, tlv: Tlv<'a>, offset: usize) -> Result<(), WireError> {
        if self.last.is_some_and(|last| (last.kind, last.value) > (tlv.kind, tlv.value)) {
            let why = Why::Value(u32::from(tlv.kind));
            return Err(WireError { offset, reading: "link-state TLV out of order", why });
        }
        self.last = Some(tlv);
        Ok(())
    }
}

#[derive(Default)]
struct Found<'a> {
    local: Option<NodeDescriptor<'a>>,
    remote: Option<NodeDescriptor<'a>>,
    link: LinkDescriptor,
    reachable: Option<(PrefixAddress, u8)>,
    ospf_route_type: Option<u8>,
    sid: Option<[u8; 16]>,
}

impl<'a> Found<'a> {
    /// RFC 9552 8.2.2: lengths of what is known. Of several of one type the first is it.
    fn take(&mut self, Tlv { kind, value }: Tlv<'a>, at: usize, protocol: Protocol, v6: bool) -> Result<(), WireError> {
        match kind {
            256 => drop(self.local.get_or_insert(node(value, at, protocol)?)),
            257 => drop(self.remote.get_or_insert(node(value, at, protocol)?)),
            258 => {
                let octets: [u8; 8] = value.try_into().map_err(|_| length(at, value, "link identifiers"))?;
                let [a, b, c, d, w, x, y, z] = octets;
                let pair = (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([w, x, y, z]));
                self.link.identifiers.get_or_insert(pair);
            }
            259 => first(&mut self.link.local_v4, value, at, "IPv4 interface address")?,
            260 => first(&mut self.link.remote_v4, value, at, "IPv4 neighbour address")?,
            261 => first(&mut self.link.local_v6, value, at, "IPv6 interface address")?,
            262 => first(&mut self.link.remote_v6, value, at, "IPv6 neighbour address")?,
            // RFC 9552 5.2.2.1: one id here; four bits are reserved.
            263 => match value {
                [high, low] => {
                    self.link.topology.get_or_insert(u16::from_be_bytes([*high, *low]) & 0x0fff);
                }
                _ => return Err(length(at, value, "multi-topology id")),
            },
            264 => match value {
                [kind] => drop(self.ospf_route_type.get_or_insert(*kind)),
                _ => return Err(length(at, value, "OSPF route type")),
            },
            265 => {
                let prefix = reachability(value, v6).ok_or_else(|| length(at, value, "reachable prefix"))?;
                self.reachable.get_or_insert(prefix);
            }
            518 => first(&mut self.sid, value, at, "SRv6 SID")?,
            _ => {}
        }
        Ok(())
    }
}

fn first<const N: usize>(
    slot: &mut Option<[u8; N]>,
    value: &[u8],
    at: usize,
    reading: &'static str,
) -> Result<(), WireError> {
    let value = value.try_into().map_err(|_| length(at, value, reading))?;
    slot.get_or_insert(value);
    Ok(())
}

fn node(value: &[u8], offset: usize, protocol: Protocol) -> Result<NodeDescriptor<'_>, WireError> {
    let mut node = NodeDescriptor::default();
    let mut order = Order::default();
    let mut cursor = Cursor::new(value, offset);
    while !cursor.rest.is_empty() {
        let (tlv, at) = next(&mut cursor)?;
        order.check(tlv, at)?;
        let Tlv { kind, value } = tlv;
        let number =
            |reading| <[u8; 4]>::try_from(value).map(u32::from_be_bytes).map_err(|_| length(at, value, reading));
        match kind {
            512 => drop(node.asn.get_or_insert(number("AS of a node")?)),
            513 => drop(node.bgp_ls_id.get_or_insert(number("BGP-LS identifier")?)),
            514 => first(&mut node.area, value, at, "OSPF area")?,
            515 if node.igp_router_id.is_empty() => {
                // RFC 9552 5.2.1.4.
                let sound = match value.len() {
                    6 | 7 if protocol.is_isis() => true,
                    4 | 8 if protocol.is_ospf() => true,
                    1..=16 => !protocol.is_isis() && !protocol.is_ospf(),
                    _ => false,
                };
                if !sound {
                    return Err(length(at, value, "IGP router id"));
                }
                node.igp_router_id = value;
            }
            516 => first(&mut node.bgp_router_id, value, at, "BGP router id")?,
            517 => drop(node.confederation_member.get_or_insert(number("member AS")?)),
            _ => {}
        }
    }
    // RFC 9552 5.2.1.4, RFC 9086 4.1: what tells it from others.
    if node.igp_router_id.is_empty() && node.bgp_router_id.is_none() {
        return Err(WireError { offset, reading: "id of a node", why: Why::Truncated { left: 0 } });
    }
    Ok(node)
}
