//! TCP's authentication option (RFC 5925), where the kernel has it (Linux 6.7, `CONFIG_TCP_AO`).

#![allow(unsafe_code)]

use std::io;
use std::mem::size_of;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd as _};

use socket2::{Domain, Protocol, Socket, Type};

use crate::address;

/// `TCP_AO_ADD_KEY` of linux/tcp.h.
const TCP_AO_ADD_KEY: libc::c_int = 38;
const KEY_OCTETS_MAX: usize = 80;
/// RFC 5926 3.2: 96 bits.
const MAC_OCTETS: u8 = 12;

/// How segments are signed (RFC 5926 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AoAlgorithm {
    HmacSha1,
    AesCmac,
}

/// A master key tuple (RFC 5925 3.1), the same for both directions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AoKey {
    pub id: u8,
    pub algorithm: AoAlgorithm,
    pub secret: Vec<u8>,
}

/// `struct tcp_ao_add` of linux/tcp.h.
#[repr(C, align(8))]
struct TcpAoAdd {
    address: libc::sockaddr_storage,
    algorithm: [u8; 64],
    if_index: i32,
    /// Bit 0: the key is the current one; bit 1: the one asked for next.
    flags: u32,
    reserved: u16,
    prefix_length: u8,
    send_id: u8,
    receive_id: u8,
    mac_length: u8,
    key_flags: u8,
    key_length: u8,
    key: [u8; KEY_OCTETS_MAX],
}

/// Signs what `socket` exchanges with peers of the prefix. To be set on a listening socket for each peer or
/// range, and before `connect` on an outgoing one.
pub fn set_tcp_ao(socket: &impl AsFd, prefix: IpAddr, length: u8, key: &AoKey) -> io::Result<()> {
    if key.secret.is_empty() || key.secret.len() > KEY_OCTETS_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a TCP-AO key has 1 to 80 octets"));
    }
    let socket = socket.as_fd();
    let (storage, _) = address::encode(SocketAddr::new(prefix, 0));
    let name: &[u8] = match key.algorithm {
        AoAlgorithm::HmacSha1 => b"hmac(sha1)",
        AoAlgorithm::AesCmac => b"cmac(aes128)",
    };
    let mut option = TcpAoAdd {
        address: storage,
        algorithm: [0; 64],
        if_index: 0,
        flags: 0,
        reserved: 0,
        prefix_length: length,
        send_id: key.id,
        receive_id: key.id,
        mac_length: MAC_OCTETS,
        key_flags: 0,
        key_length: key.secret.len() as u8,
        key: [0; KEY_OCTETS_MAX],
    };
    option.algorithm[..name.len()].copy_from_slice(name);
    option.key[..key.secret.len()].copy_from_slice(&key.secret);
    // SAFETY: `option` is the structure that this option reads, alive during the call, and its size is given.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            TCP_AO_ADD_KEY,
            std::ptr::from_ref(&option).cast(),
            size_of::<TcpAoAdd>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether the kernel has it: a key is set on a socket that is thrown away.
pub fn has_tcp_ao() -> bool {
    let key = AoKey { id: 1, algorithm: AoAlgorithm::HmacSha1, secret: b"probe".to_vec() };
    Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))
        .and_then(|socket| set_tcp_ao(&socket, Ipv4Addr::LOCALHOST.into(), 32, &key))
        .is_ok()
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn signed_connections_are_where_the_kernel_has_them() {
        let key = AoKey { id: 7, algorithm: AoAlgorithm::AesCmac, secret: b"secret".to_vec() };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let set = set_tcp_ao(&listener, Ipv4Addr::new(127, 0, 0, 0).into(), 8, &key);
        if !has_tcp_ao() {
            // A kernel without it says so; it does not sign with something else.
            assert_eq!(set.unwrap_err().raw_os_error(), Some(libc::ENOPROTOOPT));
            return;
        }
        set.unwrap();
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        set_tcp_ao(&socket, Ipv4Addr::LOCALHOST.into(), 32, &key).unwrap();
        socket.connect(&listener.local_addr().unwrap().into()).unwrap();
        (&socket).write_all(b"open").unwrap();
        let mut octets = [0; 4];
        listener.accept().unwrap().0.read_exact(&mut octets).unwrap();
        assert_eq!(&octets, b"open");
    }

    #[test]
    fn a_key_without_a_secret_is_refused() {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let key = AoKey { id: 1, algorithm: AoAlgorithm::HmacSha1, secret: Vec::new() };
        let error = set_tcp_ao(&socket, Ipv4Addr::LOCALHOST.into(), 32, &key).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}
