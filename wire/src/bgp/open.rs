//! OPEN and its capabilities (RFC 4271 4.2, RFC 5492, RFC 9072).
//!
//! | version u8 | AS u16 | hold time u16 s | BGP identifier 4 | length u8 | parameters |
//! parameter:  | type u8 = 2 | length u8 | capability ... |      RFC 9072: | 255 | 255 | length u16 | with u16 lengths
//! capability: | code u8 | length u8 | value |

use super::{BgpError, Cursor, HEADER_OCTETS, VERSION};
use crate::error::{Why, WireError};

/// Address family and subsequent address family, as IANA numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Family {
    pub afi: u16,
    pub safi: u8,
}

impl Family {
    pub const V4_UNICAST: Self = Self { afi: 1, safi: 1 };
    pub const V6_UNICAST: Self = Self { afi: 2, safi: 1 };
    /// RFC 8277.
    pub const V4_LABELLED: Self = Self { afi: 1, safi: 4 };
    pub const V6_LABELLED: Self = Self { afi: 2, safi: 4 };
    /// RFC 4364.
    pub const V4_VPN: Self = Self { afi: 1, safi: 128 };
    /// RFC 4659.
    pub const V6_VPN: Self = Self { afi: 2, safi: 128 };
    /// RFC 8955, RFC 8956.
    pub const V4_FLOW_SPEC: Self = Self { afi: 1, safi: 133 };
    pub const V6_FLOW_SPEC: Self = Self { afi: 2, safi: 133 };
    pub const V4_VPN_FLOW_SPEC: Self = Self { afi: 1, safi: 134 };
    pub const V6_VPN_FLOW_SPEC: Self = Self { afi: 2, safi: 134 };
    /// RFC 9552.
    pub const LINK_STATE: Self = Self { afi: 16_388, safi: 71 };
    pub const LINK_STATE_VPN: Self = Self { afi: 16_388, safi: 72 };

    pub fn is_link_state(self) -> bool {
        matches!(self, Self::LINK_STATE | Self::LINK_STATE_VPN)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open<'a> {
    pub version: u8,
    /// As in the message; the four-octet number is [`Open::remote_as`].
    pub as_two_octets: u16,
    pub hold_time_s: u16,
    pub bgp_id: [u8; 4],
    pub capabilities: Vec<Capability<'a>>,
}

/// One way of ADD-PATH for a family (RFC 7911 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddPath {
    pub family: Family,
    /// The speaker can read several paths.
    pub receive: bool,
    pub send: bool,
}

/// RFC 4724 3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GracefulRestart {
    /// The speaker restarted just now.
    pub restarted: bool,
    /// RFC 8538: a NOTIFICATION does not end the routes.
    pub notification: bool,
    pub time_s: u16,
    /// Family, and whether its forwarding state was kept.
    pub families: Vec<(Family, bool)>,
}

/// A capability; unknown ones survive as octets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Capability<'a> {
    /// 1, RFC 4760 8.
    MultiProtocol(Family),
    /// 2, RFC 2918.
    RouteRefresh,
    /// 5, RFC 8950: routes of the family may have a next hop of that AFI.
    ExtendedNextHop(Vec<(Family, u16)>),
    /// 6, RFC 8654.
    ExtendedMessage,
    /// 8, RFC 8277 2.1: labels of a route that the speaker reads at most.
    MultipleLabels(Vec<(Family, u8)>),
    /// 9, RFC 9234.
    Role(u8),
    /// 64, RFC 4724.
    GracefulRestart(GracefulRestart),
    /// 65, RFC 6793.
    FourOctetAs(u32),
    /// 69, RFC 7911.
    AddPath(Vec<AddPath>),
    /// 70, RFC 7313.
    EnhancedRouteRefresh,
    /// 71, RFC 9494: family, flags, stale time in seconds.
    LongLivedGracefulRestart(Vec<(Family, u8, u32)>),
    Unknown {
        code: u8,
        value: &'a [u8],
    },
}

impl<'a> Open<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Result<Self, BgpError> {
        let malformed = |error| BgpError::open(0, error);
        let mut cursor = Cursor::new(body, HEADER_OCTETS);
        let version = cursor.u8("version").map_err(malformed)?;
        // RFC 4271 6.2: unsupported version number; the data is the one supported.
        if version != VERSION {
            let error = WireError { offset: 19, reading: "version", why: Why::Value(u32::from(version)) };
            return Err(BgpError { data: u16::from(VERSION).to_be_bytes().to_vec(), ..BgpError::open(1, error) });
        }
        let as_two_octets = cursor.u16("AS").map_err(malformed)?;
        let at = cursor.offset;
        let hold_time_s = cursor.u16("hold time").map_err(malformed)?;
        // RFC 4271 6.2: hold times of one and two seconds are unacceptable.
        if matches!(hold_time_s, 1 | 2) {
            let error = WireError { offset: at, reading: "hold time", why: Why::Value(u32::from(hold_time_s)) };
            return Err(BgpError::open(6, error));
        }
        let at = cursor.offset;
        let bgp_id = cursor.array("BGP identifier").map_err(malformed)?;
        // RFC 6286 2.2: nonzero.
        if bgp_id == [0; 4] {
            return Err(BgpError::open(3, WireError { offset: at, reading: "BGP identifier", why: Why::Value(0) }));
        }
        let capabilities = parameters(&mut cursor)?;
        Ok(Self { version, as_two_octets, hold_time_s, bgp_id, capabilities })
    }

    /// RFC 6793 4.1.
    pub fn remote_as(&self) -> u32 {
        let four = self.capabilities.iter().find_map(|capability| match capability {
            Capability::FourOctetAs(number) => Some(*number),
            _ => None,
        });
        four.unwrap_or(u32::from(self.as_two_octets))
    }

    pub fn has_four_octet_as(&self) -> bool {
        self.capabilities.iter().any(|capability| matches!(capability, Capability::FourOctetAs(_)))
    }

    pub fn has_extended_messages(&self) -> bool {
        self.capabilities.contains(&Capability::ExtendedMessage)
    }

    pub fn has_route_refresh(&self) -> bool {
        self.capabilities.contains(&Capability::RouteRefresh)
    }

    /// Families it speaks; without the capability IPv4 unicast (RFC 4760 8).
    pub fn families(&self) -> Vec<Family> {
        let list: Vec<Family> = self
            .capabilities
            .iter()
            .filter_map(|capability| match capability {
                Capability::MultiProtocol(family) => Some(*family),
                _ => None,
            })
            .collect();
        if list.is_empty() { vec![Family::V4_UNICAST] } else { list }
    }

    /// Families in which it will send path identifiers to one who can read them.
    pub fn add_path_sends(&self) -> Vec<Family> {
        let lists = self.capabilities.iter().filter_map(|capability| match capability {
            Capability::AddPath(list) => Some(list),
            _ => None,
        });
        lists.flatten().filter(|way| way.send).map(|way| way.family).collect()
    }

    pub fn has_enhanced_refresh(&self) -> bool {
        self.capabilities.contains(&Capability::EnhancedRouteRefresh)
    }

    /// Families in which it will send several labels to one who can read them.
    pub fn multiple_labels(&self) -> Vec<Family> {
        let lists = self.capabilities.iter().filter_map(|capability| match capability {
            Capability::MultipleLabels(list) => Some(list),
            _ => None,
        });
        lists.flatten().map(|(family, _)| *family).collect()
    }

    /// RFC 9234 4.2: its role; an error where it says more than one.
    pub fn role(&self) -> Result<Option<u8>, BgpError> {
        let mut roles = self.capabilities.iter().filter_map(|capability| match capability {
            Capability::Role(role) => Some(*role),
            _ => None,
        });
        let Some(first) = roles.next() else { return Ok(None) };
        match roles.find(|role| *role != first) {
            Some(other) => {
                let why = Why::Value(u32::from(other));
                Err(BgpError::open(11, WireError { offset: HEADER_OCTETS, reading: "second role", why }))
            }
            None => Ok(Some(first)),
        }
    }

    /// RFC 9494 3: family, its flags, seconds.
    pub fn long_lived_graceful_restart(&self) -> impl Iterator<Item = (Family, u8, u32)> {
        let lists = self.capabilities.iter().filter_map(|capability| match capability {
            Capability::LongLivedGracefulRestart(list) => Some(list),
            _ => None,
        });
        lists.flatten().copied()
    }

    pub fn graceful_restart(&self) -> Option<&GracefulRestart> {
        self.capabilities.iter().find_map(|capability| match capability {
            Capability::GracefulRestart(restart) => Some(restart),
            _ => None,
        })
    }
}

fn parameters<'a>(cursor: &mut Cursor<'a>) -> Result<Vec<Capability<'a>>, BgpError> {
    let malformed = |error| BgpError::open(0, error);
    let mut length = usize::from(cursor.u8("parameters length").map_err(malformed)?);
    // RFC 9072 2: the first parameter's type is 255 where lengths are of two octets.
    let extended = length != 0 && cursor.rest.first() == Some(&255);
    if extended {
        cursor.u8("extended parameters").map_err(malformed)?;
        length = usize::from(cursor.u16("extended parameters length").map_err(malformed)?);
    }
    let at = cursor.offset;
    let mut parameters = Cursor::new(cursor.take(length, "parameters").map_err(malformed)?, at);
    if !cursor.rest.is_empty() {
        let why = Why::Length(length as u32);
        return Err(malformed(WireError { offset: cursor.offset, reading: "octets after the parameters", why }));
    }
    let mut list = Vec::new();
    while !parameters.rest.is_empty() {
        let start = parameters.offset;
        let kind = parameters.u8("parameter type").map_err(malformed)?;
        let length = if extended {
            parameters.u16("parameter length")
        } else {
            parameters.u8("parameter length").map(u16::from)
        };
        let length = usize::from(length.map_err(malformed)?);
        let at = parameters.offset;
        let mut value = Cursor::new(parameters.take(length, "parameter").map_err(malformed)?, at);
        // RFC 4271 6.2: one that is not recognised.
        if kind != 2 {
            let why = Why::Value(u32::from(kind));
            return Err(BgpError::open(4, WireError { offset: start, reading: "parameter type", why }));
        }
        while !value.rest.is_empty() {
            let code = value.u8("capability code").map_err(malformed)?;
            let part = value.part("capability").map_err(malformed)?;
            list.push(capability(code, part));
        }
    }
    Ok(list)
}

/// A capability whose value is not as its standard says is one that is not known.
fn capability(code: u8, value: Cursor<'_>) -> Capability<'_> {
    let unknown = Capability::Unknown { code, value: value.rest };
    known_capability(code, value).unwrap_or(unknown)
}

fn known_capability<'a>(code: u8, value: Cursor<'a>) -> Option<Capability<'a>> {
    let octets = value.rest;
    let family = |afi: [u8; 2], safi| Family { afi: u16::from_be_bytes(afi), safi };
    Some(match code {
        1 => match *octets {
            [a, b, _, safi] => Capability::MultiProtocol(family([a, b], safi)),
            _ => return None,
        },
        2 if octets.is_empty() => Capability::RouteRefresh,
        5 => {
            let (entries, rest) = octets.as_chunks::<6>();
            let entry = |[a, b, _, safi, c, d]: &[u8; 6]| (family([*a, *b], *safi), u16::from_be_bytes([*c, *d]));
            rest.is_empty().then(|| Capability::ExtendedNextHop(entries.iter().map(entry).collect()))?
        }
        6 if octets.is_empty() => Capability::ExtendedMessage,
        8 => {
            let (entries, rest) = octets.as_chunks::<4>();
            let entry = |[a, b, safi, count]: &[u8; 4]| (family([*a, *b], *safi), *count);
            // RFC 8277 2.1: a count of less than two is to be ignored.
            let sound = |entry: &&[u8; 4]| entry[3] > 1;
            rest.is_empty().then(|| Capability::MultipleLabels(entries.iter().filter(sound).map(entry).collect()))?
        }
        9 => match *octets {
            [role] => Capability::Role(role),
            _ => return None,
        },
        64 => {
            let (head, families) = octets.split_first_chunk::<2>()?;
            let (families, rest) = families.as_chunks::<4>();
            if !rest.is_empty() {
                return None;
            }
            Capability::GracefulRestart(GracefulRestart {
                restarted: head[0] & 0x80 != 0,
                notification: head[0] & 0x40 != 0,
                time_s: u16::from_be_bytes(*head) & 0x0fff,
                families: families
                    .iter()
                    .map(|[a, b, safi, flags]| (family([*a, *b], *safi), flags & 0x80 != 0))
                    .collect(),
            })
        }
        65 => Capability::FourOctetAs(u32::from_be_bytes(octets.try_into().ok()?)),
        69 => {
            let (entries, rest) = octets.as_chunks::<4>();
            let entry = |[a, b, safi, ways]: &[u8; 4]| AddPath {
                family: family([*a, *b], *safi),
                receive: ways & 1 != 0,
                send: ways & 2 != 0,
            };
            // RFC 7911 4: another value than 1, 2, 3 is to be ignored.
            let sound = |entry: &&[u8; 4]| (1..=3).contains(&entry[3]);
            rest.is_empty().then(|| Capability::AddPath(entries.iter().filter(sound).map(entry).collect()))?
        }
        70 if octets.is_empty() => Capability::EnhancedRouteRefresh,
        71 => {
            let (entries, rest) = octets.as_chunks::<7>();
            let entry = |[a, b, safi, flags, x, y, z]: &[u8; 7]| {
                (family([*a, *b], *safi), *flags, u32::from_be_bytes([0, *x, *y, *z]))
            };
            rest.is_empty().then(|| Capability::LongLivedGracefulRestart(entries.iter().map(entry).collect()))?
        }
        _ => return None,
    })
}
