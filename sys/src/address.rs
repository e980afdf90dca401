//! Socket addresses as the kernel writes them.

#![allow(unsafe_code)]

use std::mem::size_of;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// The address in `storage`; an IPv4 address that is mapped into IPv6 is given as IPv4.
pub(crate) fn decode(storage: &libc::sockaddr_storage, length: libc::socklen_t) -> Option<SocketAddr> {
    let length = length as usize;
    match i32::from(storage.ss_family) {
        libc::AF_INET if length >= size_of::<libc::sockaddr_in>() => {
            // SAFETY: the family says that the kernel wrote a sockaddr_in, the length that it is whole;
            // sockaddr_storage is at least as large and as aligned as every socket address.
            let v4 = unsafe { &*std::ptr::from_ref(storage).cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr));
            Some(SocketAddr::V4(SocketAddrV4::new(ip, u16::from_be(v4.sin_port))))
        }
        libc::AF_INET6 if length >= size_of::<libc::sockaddr_in6>() => {
            // SAFETY: as above, for sockaddr_in6.
            let v6 = unsafe { &*std::ptr::from_ref(storage).cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
            let port = u16::from_be(v6.sin6_port);
            Some(match ip.to_ipv4_mapped() {
                Some(v4) => SocketAddr::V4(SocketAddrV4::new(v4, port)),
                None => SocketAddr::V6(SocketAddrV6::new(ip, port, u32::from_be(v6.sin6_flowinfo), v6.sin6_scope_id)),
            })
        }
        _ => None,
    }
}

/// `address` as the kernel reads it, and its length.
pub(crate) fn encode(address: SocketAddr) -> (libc::sockaddr_storage, libc::socklen_t) {
    let address = socket2::SockAddr::from(address);
    let length = address.len();
    // SAFETY: sockaddr_storage is plain integers, for which all zeros is a value; and `address` holds
    // `length` initialised octets, which is never more than a sockaddr_storage.
    let storage = unsafe {
        let mut storage: libc::sockaddr_storage = std::mem::zeroed();
        std::ptr::copy_nonoverlapping(
            address.as_ptr().cast::<u8>(),
            std::ptr::from_mut(&mut storage).cast::<u8>(),
            length as usize,
        );
        storage
    };
    (storage, length)
}

/// The same address for a socket of family IPv6, which knows IPv4 only as mapped.
pub(crate) fn mapped(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(v4) => IpAddr::V6(v4.to_ipv6_mapped()),
        IpAddr::V6(_) => ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_kernel_form() {
        for text in ["192.0.2.1:2055", "[2001:db8::1]:6343", "0.0.0.0:0", "[fe80::1%3]:9"] {
            let address: SocketAddr = text.parse().unwrap();
            let (storage, length) = encode(address);
            assert_eq!(decode(&storage, length), Some(address));
            assert_eq!(decode(&storage, 2), None, "a short address is none");
        }
    }

    #[test]
    fn mapped_addresses_are_given_as_ipv4() {
        let (storage, length) = encode("[::ffff:192.0.2.7]:5".parse().unwrap());
        assert_eq!(decode(&storage, length), Some("192.0.2.7:5".parse().unwrap()));
        assert_eq!(mapped("192.0.2.7".parse().unwrap()).to_string(), "::ffff:192.0.2.7");
    }
}
