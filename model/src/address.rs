//! Addresses of sixteen octets: IPv6 as it is, IPv4 mapped (RFC 4291, 2.5.5.2).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

/// An IPv4 or IPv6 address as the flow row stores it; IPv4 is `::ffff:a.b.c.d`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
pub struct Address(pub [u8; 16]);

impl Address {
    pub const UNSPECIFIED: Self = Self([0; 16]);

    pub const fn from_v4(octets: [u8; 4]) -> Self {
        let [a, b, c, d] = octets;
        Self([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d])
    }

    /// The IPv4 address, where it is a mapped one.
    pub fn v4(&self) -> Option<[u8; 4]> {
        match self.0 {
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d] => Some([a, b, c, d]),
            _ => None,
        }
    }

    pub fn is_v4(&self) -> bool {
        self.v4().is_some()
    }

    pub fn ip(&self) -> IpAddr {
        match self.v4() {
            Some(octets) => IpAddr::V4(Ipv4Addr::from(octets)),
            None => IpAddr::V6(Ipv6Addr::from(self.0)),
        }
    }

    /// Truncated to `len` bits of its own family (0..=32 or 0..=128).
    pub fn truncate(&self, len: u8) -> Self {
        let bits = u32::from(len) + if self.is_v4() { 96 } else { 0 };
        let mask = if bits == 0 { 0 } else { u128::MAX << (128 - bits.min(128)) };
        Self((u128::from_be_bytes(self.0) & mask).to_be_bytes())
    }
}

impl From<IpAddr> for Address {
    fn from(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(v4) => Self::from_v4(v4.octets()),
            IpAddr::V6(v6) => Self(v6.octets()),
        }
    }
}

impl From<Ipv4Addr> for Address {
    fn from(v4: Ipv4Addr) -> Self {
        Self::from_v4(v4.octets())
    }
}

impl From<Ipv6Addr> for Address {
    fn from(v6: Ipv6Addr) -> Self {
        Self(v6.octets())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ip().fmt(f)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ip().fmt(f)
    }
}

/// A prefix of either family; `len` counts in the family of `address`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Prefix {
    pub address: Address,
    pub len: u8,
}

impl Prefix {
    /// Host bits are cleared.
    pub fn new(address: Address, len: u8) -> Self {
        Self { address: address.truncate(len), len }
    }

    pub fn contains(&self, address: Address) -> bool {
        self.address.is_v4() == address.is_v4() && address.truncate(self.len) == self.address
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.len)
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
