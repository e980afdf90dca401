//! BGP-4 messages (RFC 4271), as octets on an established agreement between two speakers.
//!
//! | marker 16 x 0xff | length u16 (header included) | type u8 | body |
//!
//! What two speakers agreed in their OPENs decides how an UPDATE is read: see
//! [`Agreed`]. Everything is borrowed from the input.

mod attribute;
mod encode;
mod error;
mod flow_spec;
pub mod link_state;
mod nlri;
mod notification;
mod open;
mod refresh;
mod table;
mod update;

pub use attribute::{AsPath, Attribute, Attributes, Flags, Segment, SegmentKind, code, merge_as4_path};
pub use encode::{
    RouteUpdate, encode_end_of_rib, encode_keepalive, encode_notification, encode_open, encode_route_refresh,
    encode_update,
};
pub use error::{BgpError, Class, Fault};
pub use flow_spec::FlowRule;
pub use nlri::{Labels, Nlri, NlriPrefix, NlriRoute, PrefixAddress};
pub use notification::{Notification, shutdown_message};
pub use open::{AddPath, Capability, Family, GracefulRestart, Open};
pub use refresh::RouteRefresh;
pub use table::{TableRoute, encode_table_attributes};
pub use update::{MpReach, MpUnreach, NextHop, Update};

use crate::error::WireError;

/// RFC 4271 4.1.
pub const HEADER_OCTETS: usize = 19;
pub const MESSAGE_OCTETS_MAX: usize = 4096;
/// RFC 8654.
pub const EXTENDED_OCTETS_MAX: usize = 65_535;
pub const VERSION: u8 = 4;
/// RFC 6793: stands for an AS number that has no two octets.
pub const AS_TRANS: u16 = 23_456;

/// RFC 4271 4.1, RFC 2918.
pub mod kind {
    pub const OPEN: u8 = 1;
    pub const UPDATE: u8 = 2;
    pub const NOTIFICATION: u8 = 3;
    pub const KEEPALIVE: u8 = 4;
    pub const ROUTE_REFRESH: u8 = 5;
}

/// What an UPDATE's reading depends on: the capabilities of both OPENs, and whose neighbour it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// RFC 6793.
    pub four_octet_as: bool,
    /// Families in which the peer sends path identifiers (RFC 7911).
    pub add_path: Vec<Family>,
    /// RFC 8654.
    pub extended_messages: bool,
    /// The peer is of another AS, or another confederation.
    pub external: bool,
    /// Families in which the peer may send several labels (RFC 8277 2.1).
    pub multiple_labels: Vec<Family>,
}

impl Default for Agreed {
    fn default() -> Self {
        Self {
            four_octet_as: true,
            add_path: Vec::new(),
            extended_messages: false,
            external: false,
            multiple_labels: Vec::new(),
        }
    }
}

impl Agreed {
    pub fn has_add_path(&self, family: Family) -> bool {
        self.add_path.contains(&family)
    }

    pub fn message_octets_max(&self) -> usize {
        if self.extended_messages { EXTENDED_OCTETS_MAX } else { MESSAGE_OCTETS_MAX }
    }
}

/// A message whose header is sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raw<'a> {
    pub kind: u8,
    pub body: &'a [u8],
}

#[derive(Clone, Debug, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "one lives at a time, on the stack; a box would be an allocation an update"
)]
pub enum Message<'a> {
    Open(Open<'a>),
    Update(Update<'a>),
    Notification(Notification<'a>),
    Keepalive,
    RouteRefresh(RouteRefresh),
}

/// The next message and what follows it; `None` where more octets are needed. Errors end the session.
pub fn frame<'a>(input: &'a [u8], agreed: &Agreed) -> Result<Option<(Raw<'a>, &'a [u8])>, BgpError> {
    let Some((header, _)) = input.split_first_chunk::<HEADER_OCTETS>() else { return Ok(None) };
    // RFC 4271 6.1: the marker is not synchronized.
    if let Some(at) = header[..16].iter().position(|octet| *octet != 0xff) {
        return Err(BgpError::header(at, "marker", error::MARKER, u32::from(header[at])));
    }
    let (length, kind) = (usize::from(u16::from_be_bytes([header[16], header[17]])), header[18]);
    let least = match kind {
        kind::OPEN => 29,
        kind::UPDATE => 23,
        kind::NOTIFICATION => 21,
        kind::ROUTE_REFRESH => 23,
        _ => HEADER_OCTETS,
    };
    // RFC 8654 4: OPEN and KEEPALIVE stay within 4,096 octets.
    let most = match kind {
        kind::OPEN | kind::KEEPALIVE => MESSAGE_OCTETS_MAX,
        _ => agreed.message_octets_max(),
    };
    if length < least || length > most || (kind == kind::KEEPALIVE && length != HEADER_OCTETS) {
        return Err(BgpError::header(16, "message length", error::LENGTH, length as u32));
    }
    // RFC 4271 6.1: bad message type.
    if !(kind::OPEN..=kind::ROUTE_REFRESH).contains(&kind) {
        return Err(BgpError::header(18, "message type", error::TYPE, u32::from(kind)));
    }
    match input.split_at_checked(length) {
        Some((message, rest)) => Ok(Some((Raw { kind, body: &message[HEADER_OCTETS..] }, rest))),
        None => Ok(None),
    }
}

/// Reads a framed message. Errors end the session; what does not is in [`Update::faults`].
pub fn parse<'a>(raw: Raw<'a>, agreed: &Agreed) -> Result<Message<'a>, BgpError> {
    Ok(match raw.kind {
        kind::OPEN => Message::Open(Open::parse(raw.body)?),
        kind::UPDATE => Message::Update(Update::parse(raw.body, agreed)?),
        kind::NOTIFICATION => Message::Notification(Notification::parse(raw.body)?),
        kind::ROUTE_REFRESH => Message::RouteRefresh(RouteRefresh::parse(raw.body)?),
        _ => Message::Keepalive,
    })
}

/// Octets of a message from its start; offsets in errors count from there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cursor<'a> {
    pub(crate) rest: &'a [u8],
    pub(crate) offset: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(rest: &'a [u8], offset: usize) -> Self {
        Self { rest, offset }
    }

    pub(crate) fn take(&mut self, count: usize, reading: &'static str) -> Result<&'a [u8], WireError> {
        let Some((taken, rest)) = self.rest.split_at_checked(count) else {
            let why = crate::error::Why::Truncated { left: self.rest.len() };
            return Err(WireError { offset: self.offset, reading, why });
        };
        self.rest = rest;
        self.offset += count;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self, reading: &'static str) -> Result<[u8; N], WireError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N, reading)?);
        Ok(array)
    }

    pub(crate) fn u8(&mut self, reading: &'static str) -> Result<u8, WireError> {
        self.array::<1>(reading).map(|[octet]| octet)
    }

    pub(crate) fn u16(&mut self, reading: &'static str) -> Result<u16, WireError> {
        self.array(reading).map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self, reading: &'static str) -> Result<u32, WireError> {
        self.array(reading).map(u32::from_be_bytes)
    }

    /// A part whose length is an octet before it.
    fn part(&mut self, reading: &'static str) -> Result<Cursor<'a>, WireError> {
        let length = usize::from(self.u8(reading)?);
        let offset = self.offset;
        Ok(Cursor { rest: self.take(length, reading)?, offset })
    }
}
