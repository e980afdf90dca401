//! The generalized TTL security mechanism (RFC 5082): what comes from further away is not taken.

#![allow(unsafe_code)]

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd as _};

/// `IPV6_MINHOPCOUNT` of linux/in6.h.
const IPV6_MINHOPCOUNT: libc::c_int = 73;
const TTL_MAX: u8 = 255;

/// Sends with the largest TTL, and has the kernel drop segments that came over more than `hops` hops
/// (1: from the neighbour itself).
pub fn set_ttl_security(socket: &impl AsFd, hops: u8) -> io::Result<()> {
    let least = libc::c_int::from(TTL_MAX - hops.max(1) + 1);
    let most = libc::c_int::from(TTL_MAX);
    let own = socket2::SockRef::from(&socket.as_fd()).local_addr()?;
    if own.is_ipv6() {
        set(socket, libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS, most)?;
        return set(socket, libc::IPPROTO_IPV6, IPV6_MINHOPCOUNT, least);
    }
    set(socket, libc::IPPROTO_IP, libc::IP_TTL, most)?;
    set(socket, libc::IPPROTO_IP, libc::IP_MINTTL, least)
}

fn set(socket: &impl AsFd, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: `value` is the integer that these options read, alive during the call, and its size is given.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            option,
            std::ptr::from_ref(&value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    use super::*;

    #[test]
    fn octets_of_a_low_ttl_do_not_arrive() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let mut near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (mut accepted, _) = listener.accept().unwrap();
            set_ttl_security(&accepted, 1).unwrap();
            accepted.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
            // The usual TTL of 64 is too low.
            near.write_all(b"far").unwrap();
            let mut octets = [0; 3];
            assert!(accepted.read_exact(&mut octets).is_err());
            // What the kernel sends again has the new one.
            set_ttl_security(&near, 1).unwrap();
            accepted.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
            accepted.read_exact(&mut octets).unwrap();
            assert_eq!(&octets, b"far");
        }
    }
}
