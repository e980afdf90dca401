//! Prebuilt datagrams, sent in batches from a chosen address.

#![allow(unsafe_code)]

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;

use socket2::{Domain, Protocol, Socket, Type};

use crate::BATCH;
use crate::address;

/// A UDP socket bound to the address that its datagrams come from.
pub struct UdpSender {
    socket: UdpSocket,
    pieces: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
}

// SAFETY: the raw pointers are written anew before each system call, from references that outlive it, and
// are read by nobody else, so it does not matter which thread that is.
unsafe impl Send for UdpSender {}

impl UdpSender {
    /// Port 0 lets the kernel choose one. Loopback addresses other than 127.0.0.1 need no configuration.
    pub fn bind(local: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(local), Type::DGRAM, Some(Protocol::UDP))?;
        socket.bind(&local.into())?;
        Ok(Self { socket: socket.into(), pieces: Vec::with_capacity(BATCH), headers: Vec::with_capacity(BATCH) })
    }

    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Sends each packet as one datagram, in order; waits where the socket's buffer is full. Gives the
    /// number sent, which is all of them unless there is an error after the first.
    pub fn send<P: AsRef<[u8]>>(&mut self, packets: &[P], to: SocketAddr) -> io::Result<usize> {
        let (mut name, name_length) = address::encode(to);
        let mut sent = 0;
        while sent < packets.len() {
            let some = &packets[sent..packets.len().min(sent + BATCH)];
            self.pieces.clear();
            self.pieces.extend(some.iter().map(|packet| {
                let octets = packet.as_ref();
                libc::iovec { iov_base: octets.as_ptr().cast_mut().cast(), iov_len: octets.len() }
            }));
            self.headers.clear();
            for piece in &mut self.pieces {
                // SAFETY: plain integers and pointers, for which all zeros is a value.
                let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
                header.msg_hdr.msg_name = std::ptr::from_mut(&mut name).cast();
                header.msg_hdr.msg_namelen = name_length;
                header.msg_hdr.msg_iov = piece;
                header.msg_hdr.msg_iovlen = 1;
                self.headers.push(header);
            }
            // SAFETY: the headers point at `name`, at `pieces`, and through these at `packets`; all outlive
            // the call, and the kernel only reads them.
            let result = unsafe {
                libc::sendmmsg(
                    self.socket.as_raw_fd(),
                    self.headers.as_mut_ptr(),
                    self.headers.len() as libc::c_uint,
                    0,
                )
            };
            match result {
                0 => break,
                1.. => sent += result as usize,
                _ => match io::Error::last_os_error() {
                    error if error.kind() == io::ErrorKind::Interrupted => {}
                    error if sent == 0 => return Err(error),
                    _ => break,
                },
            }
        }
        Ok(sent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_come_from_the_chosen_address() {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut sender = UdpSender::bind("127.9.8.7:0".parse().unwrap()).unwrap();
        assert_eq!(sender.send(&[b"one".as_slice(), b"two"], receiver.local_addr().unwrap()).unwrap(), 2);
        let mut octets = [0; 16];
        for expected in [b"one", b"two"] {
            let (length, source) = receiver.recv_from(&mut octets).unwrap();
            assert_eq!(&octets[..length], expected);
            assert_eq!(source, sender.local_addr().unwrap());
            assert_eq!(source.ip().to_string(), "127.9.8.7");
        }
    }

    #[test]
    fn an_impossible_packet_is_an_error() {
        let mut sender = UdpSender::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        assert!(sender.send(&[vec![0u8; 70_000]], "127.0.0.1:9".parse().unwrap()).is_err());
        assert_eq!(sender.send::<&[u8]>(&[], "127.0.0.1:9".parse().unwrap()).unwrap(), 0);
    }
}
