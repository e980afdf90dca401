//! TCP segments signed with MD5 (RFC 2385), as BGP sessions use it.

#![allow(unsafe_code)]

use std::io;
use std::mem::size_of;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd as _};

use crate::address;

/// Longest key that the kernel takes (`TCP_MD5SIG_MAXKEYLEN`), in octets.
pub const KEY_OCTETS_MAX: usize = 80;

/// `TCP_MD5SIG_EXT` and `TCP_MD5SIG_FLAG_PREFIX` of linux/tcp.h.
const TCP_MD5SIG_EXT: libc::c_int = 32;
const FLAG_PREFIX: u8 = 1;

/// `struct tcp_md5sig` of linux/tcp.h.
#[repr(C)]
struct TcpMd5Sig {
    address: libc::sockaddr_storage,
    flags: u8,
    prefix_length: u8,
    key_length: u16,
    if_index: libc::c_int,
    key: [u8; KEY_OCTETS_MAX],
}

/// Signs what `socket` sends to `peer`, and refuses from it what is not signed with `key`. To be set on
/// a listening socket for each peer, and before `connect` on an outgoing one. An empty key removes it.
pub fn set_tcp_md5(socket: &impl AsFd, peer: IpAddr, key: &[u8]) -> io::Result<()> {
    set(socket, peer, None, key)
}

/// The same for all peers of a prefix; of several keys the one of the longest prefix counts.
pub fn set_tcp_md5_prefix(socket: &impl AsFd, prefix: IpAddr, length: u8, key: &[u8]) -> io::Result<()> {
    set(socket, prefix, Some(length), key)
}

fn set(socket: &impl AsFd, peer: IpAddr, prefix_length: Option<u8>, key: &[u8]) -> io::Result<()> {
    if key.len() > KEY_OCTETS_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a TCP-MD5 key has at most 80 octets"));
    }
    let socket = socket.as_fd();
    let own = socket2::SockRef::from(&socket).local_addr()?;
    let maps = own.is_ipv6() && peer.is_ipv4();
    let peer = if maps { address::mapped(peer) } else { peer };
    let (storage, _) = address::encode(SocketAddr::new(peer, 0));
    let mut octets = [0; KEY_OCTETS_MAX];
    octets[..key.len()].copy_from_slice(key);
    let option = TcpMd5Sig {
        address: storage,
        flags: if prefix_length.is_some() { FLAG_PREFIX } else { 0 },
        // The kernel counts an IPv4 prefix's bits, also on a socket of IPv6.
        prefix_length: prefix_length.unwrap_or(0),
        key_length: key.len() as u16,
        if_index: 0,
        key: octets,
    };
    // SAFETY: `option` is the structure that these options read, alive during the call, and its size is given.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            if prefix_length.is_some() { TCP_MD5SIG_EXT } else { libc::TCP_MD5SIG },
            std::ptr::from_ref(&option).cast(),
            size_of::<TcpMd5Sig>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
    use std::time::Duration;

    use socket2::{Domain, SockAddr, Socket, Type};

    use super::*;

    fn client(to: SocketAddr, key: &[u8]) -> io::Result<Socket> {
        let own = if to.is_ipv6() { IpAddr::from(Ipv6Addr::LOCALHOST) } else { Ipv4Addr::LOCALHOST.into() };
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
        socket.bind(&SockAddr::from(SocketAddr::new(own, 0)))?;
        set_tcp_md5(&socket, to.ip(), key)?;
        socket.connect_timeout(&SockAddr::from(to), Duration::from_millis(300))?;
        Ok(socket)
    }

    #[test]
    fn only_the_right_key_connects() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        if let Err(error) = set_tcp_md5(&listener, address.ip(), b"secret") {
            assert!(std::env::var_os("CI").is_none(), "the kernel refuses TCP-MD5: {error}");
            println!("skipped: the kernel refuses TCP-MD5: {error}");
            return;
        }
        assert!(client(address, b"wrong").is_err());
        let mut socket = client(address, b"secret").unwrap();
        socket.write_all(b"open").unwrap();
        let (mut accepted, _) = listener.accept().unwrap();
        let mut octets = [0; 4];
        accepted.read_exact(&mut octets).unwrap();
        assert_eq!(&octets, b"open");
    }

    #[test]
    fn ipv6_is_signed_too() {
        let listener = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        for set in [
            set_tcp_md5(&listener, address.ip(), b"secret"),
            set_tcp_md5_prefix(&listener, Ipv6Addr::LOCALHOST.into(), 64, b"wide"),
        ] {
            if let Err(error) = set {
                assert!(std::env::var_os("CI").is_none(), "the kernel refuses TCP-MD5: {error}");
                println!("skipped: the kernel refuses TCP-MD5: {error}");
                return;
            }
        }
        client(address, b"secret").unwrap();
        assert!(client(address, b"wide").is_err(), "the longer prefix counts");
        set_tcp_md5(&listener, address.ip(), b"").unwrap();
        client(address, b"wide").unwrap();
    }

    #[test]
    fn a_prefix_has_a_key_and_a_longer_one_its_own() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        if let Err(error) = set_tcp_md5_prefix(&listener, Ipv4Addr::new(127, 0, 0, 0).into(), 8, b"wide") {
            assert!(std::env::var_os("CI").is_none(), "the kernel refuses TCP-MD5: {error}");
            println!("skipped: the kernel refuses TCP-MD5: {error}");
            return;
        }
        client(address, b"wide").unwrap();
        assert!(client(address, b"wrong").is_err());
        set_tcp_md5_prefix(&listener, Ipv4Addr::new(127, 0, 0, 0).into(), 24, b"narrow").unwrap();
        client(address, b"narrow").unwrap();
        assert!(client(address, b"wide").is_err());
        assert!(set_tcp_md5_prefix(&listener, Ipv4Addr::new(127, 0, 0, 0).into(), 33, b"x").is_err());
    }

    #[test]
    fn a_key_that_is_too_long_is_refused() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let error = set_tcp_md5(&listener, Ipv4Addr::LOCALHOST.into(), &[1; 81]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}
