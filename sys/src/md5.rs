//! TCP segments signed with MD5 (RFC 2385), as BGP sessions use it.

#![allow(unsafe_code)]

use std::io;
use std::mem::size_of;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd as _};

use crate::address;

/// Longest key that the kernel takes (`TCP_MD5SIG_MAXKEYLEN`), in octets.
pub const KEY_OCTETS_MAX: usize = 80;

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
    if key.len() > KEY_OCTETS_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a TCP-MD5 key has at most 80 octets"));
    }
    let socket = socket.as_fd();
    let own = socket2::SockRef::from(&socket).local_addr()?;
    let peer = if own.is_ipv6() { address::mapped(peer) } else { peer };
    let (storage, _) = address::encode(SocketAddr::new(peer, 0));
    let mut octets = [0; KEY_OCTETS_MAX];
    octets[..key.len()].copy_from_slice(key);
    let option = TcpMd5Sig {
        address: storage,
        flags: 0,
        prefix_length: 0,
        key_length: key.len() as u16,
        if_index: 0,
        key: octets,
    };
    // SAFETY: `option` is the structure that this option reads, alive during the call, and its size is given.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_MD5SIG,
            std::ptr::from_ref(&option).cast(),
            size_of::<TcpMd5Sig>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{Ipv4Addr, TcpListener};
    use std::time::Duration;

    use socket2::{Domain, SockAddr, Socket, Type};

    use super::*;

    fn client(to: SocketAddr, key: &[u8]) -> io::Result<Socket> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&SockAddr::from(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0)))?;
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
    fn a_key_that_is_too_long_is_refused() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let error = set_tcp_md5(&listener, Ipv4Addr::LOCALHOST.into(), &[1; 81]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}
