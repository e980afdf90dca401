//! DNS answers (RFC 1035), A, AAAA (RFC 3596) and CNAME.

use std::net::IpAddr;

use super::Put as _;

const A: u16 = 1;
const CNAME: u16 = 5;
const AAAA: u16 = 28;

fn name(out: &mut Vec<u8>, text: &str) {
    for label in text.split('.').filter(|label| !label.is_empty()) {
        let label = &label.as_bytes()[..label.len().min(63)];
        out.u8(label.len() as u8);
        out.extend_from_slice(label);
    }
    out.u8(0);
}

/// What a resolver answered when asked for `asked`: aliases one after the other, then the addresses.
pub fn answer(id: u16, asked: &str, aliases: &[&str], addresses: &[IpAddr], ttl_s: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    out.u16(id);
    // Response, recursion desired and available.
    out.u16(0x8180);
    out.u16(1);
    out.u16((aliases.len() + addresses.len()) as u16);
    out.u16(0);
    out.u16(0);
    let wanted = if addresses.first().is_some_and(IpAddr::is_ipv6) { AAAA } else { A };
    name(&mut out, asked);
    out.u16(wanted);
    out.u16(1);
    let mut owner = asked;
    for alias in aliases {
        let mut data = Vec::new();
        name(&mut data, alias);
        record(&mut out, owner, CNAME, ttl_s, &data);
        owner = alias;
    }
    for address in addresses {
        match address {
            IpAddr::V4(v4) => record(&mut out, owner, A, ttl_s, &v4.octets()),
            IpAddr::V6(v6) => record(&mut out, owner, AAAA, ttl_s, &v6.octets()),
        }
    }
    out
}

fn record(out: &mut Vec<u8>, owner: &str, kind: u16, ttl_s: u32, data: &[u8]) {
    name(out, owner);
    out.u16(kind);
    out.u16(1);
    out.u32(ttl_s);
    out.u16(data.len() as u16);
    out.extend_from_slice(data);
}
