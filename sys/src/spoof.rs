//! Datagrams that keep their source: sent on by a host between exporter and collector.
//!
//! A raw socket of protocol UDP (raw(7)): the UDP header is written here, the IP
//! header by the kernel, which also fragments what is longer than the path's MTU.
//! IP_TRANSPARENT lets a control message (IP_PKTINFO, IPV6_PKTINFO) name a source
//! that is not this machine's. Both need CAP_NET_RAW.

#![allow(unsafe_code)]

use std::io;
use std::mem::size_of;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use crate::BATCH;

const UDP_HEADER: usize = 8;
/// Room for the larger of the two control messages, aligned as they have to be.
type Control = [u64; 6];
const SEND_BUFFER_OCTETS: usize = 4 << 20;
/// A device that takes nothing for so long loses the datagram.
const PATIENCE: Duration = Duration::from_millis(100);

/// What became of datagrams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    pub sent: u64,
    /// Longer than IP carries, or than the path takes in one piece.
    pub too_long: u64,
    /// The source is of the other IP version.
    pub other_family: u64,
    /// Refused by the kernel for another reason.
    pub failed: u64,
}

impl Sent {
    pub fn add(&mut self, more: Self) {
        self.sent += more.sent;
        self.too_long += more.too_long;
        self.other_family += more.other_family;
        self.failed += more.failed;
    }
}

/// Sends to one destination from any source of its IP version.
pub struct SpoofSender {
    socket: Socket,
    to: SocketAddr,
    udp: Box<[[u8; UDP_HEADER]]>,
    pieces: Box<[[libc::iovec; 2]]>,
    controls: Box<[Control]>,
    headers: Box<[libc::mmsghdr]>,
}

// SAFETY: the raw pointers are written anew before each system call, to memory that outlives it, and are
// read by nobody else, so it does not matter which thread that is.
unsafe impl Send for SpoofSender {}

impl SpoofSender {
    /// `PermissionDenied` without CAP_NET_RAW.
    pub fn connect(to: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(to), Type::RAW, Some(Protocol::UDP))?;
        match to {
            SocketAddr::V4(_) => {
                socket.set_ip_transparent_v4(true)?;
                // Never "do not fragment": there is nobody to hear that a path is too narrow.
                set_int(&socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DONT)?;
            }
            SocketAddr::V6(_) => set_int(&socket, libc::IPPROTO_IPV6, libc::IPV6_TRANSPARENT, 1)?,
        }
        // A raw socket gets a copy of what comes; connected, only of what comes from there, and it has no room.
        socket.set_recv_buffer_size(0)?;
        let _ = socket.set_send_buffer_size(SEND_BUFFER_OCTETS);
        socket.set_write_timeout(Some(PATIENCE))?;
        socket.connect(&SocketAddr::new(to.ip(), 0).into())?;
        // SAFETY: plain integers and pointers, for which all zeros is a value.
        let header = unsafe { std::mem::zeroed::<libc::mmsghdr>() };
        let piece = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        Ok(Self {
            socket,
            to,
            udp: vec![[0; UDP_HEADER]; BATCH].into_boxed_slice(),
            pieces: vec![[piece; 2]; BATCH].into_boxed_slice(),
            controls: vec![[0; 6]; BATCH].into_boxed_slice(),
            headers: vec![header; BATCH].into_boxed_slice(),
        })
    }

    /// Sends each payload from its source, in order. What cannot be sent is counted and passed over.
    pub fn send(&mut self, datagrams: &[(SocketAddr, &[u8])]) -> Sent {
        let mut total = Sent::default();
        for some in datagrams.chunks(BATCH) {
            total.add(self.send_batch(some));
        }
        total
    }

    fn send_batch(&mut self, datagrams: &[(SocketAddr, &[u8])]) -> Sent {
        let mut total = Sent::default();
        let mut count = 0;
        for (source, payload) in datagrams {
            let source = SocketAddr::new(source.ip().to_canonical(), source.port());
            if source.is_ipv4() != self.to.is_ipv4() {
                total.other_family += 1;
                continue;
            }
            let Some(udp) = udp_header(source, self.to, payload) else {
                total.too_long += 1;
                continue;
            };
            self.udp[count] = udp;
            let control = &mut self.controls[count];
            let control_length = write_control(control, source.ip());
            let pieces = &mut self.pieces[count];
            pieces[0] = libc::iovec { iov_base: self.udp[count].as_mut_ptr().cast(), iov_len: UDP_HEADER };
            pieces[1] = libc::iovec { iov_base: payload.as_ptr().cast_mut().cast(), iov_len: payload.len() };
            let header = &mut self.headers[count].msg_hdr;
            header.msg_iov = pieces.as_mut_ptr();
            header.msg_iovlen = 2;
            header.msg_control = control.as_mut_ptr().cast();
            header.msg_controllen = control_length;
            count += 1;
        }
        let (mut at, mut retried) = (0, false);
        while at < count {
            // SAFETY: the first `count` headers were just pointed at memory of this value and at `datagrams`,
            // which outlive the call; the kernel only reads them.
            let result = unsafe {
                libc::sendmmsg(
                    self.socket.as_raw_fd(),
                    self.headers[at..].as_mut_ptr(),
                    (count - at) as libc::c_uint,
                    0,
                )
            };
            if result > 0 {
                at += result as usize;
                total.sent += result as u64;
                retried = false;
                continue;
            }
            let error = io::Error::last_os_error();
            if error.kind() == io::ErrorKind::Interrupted {
                continue;
            }
            // An ICMP error about an earlier datagram is told once: this one has not been tried yet.
            if !retried {
                retried = true;
                continue;
            }
            if error.raw_os_error() == Some(libc::EMSGSIZE) {
                total.too_long += 1
            } else {
                total.failed += 1
            }
            (at, retried) = (at + 1, false);
        }
        total
    }
}

fn set_int(socket: &Socket, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the option reads one int, alive during the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(&value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Names the source; gives the length of the control message.
fn write_control(control: &mut Control, source: IpAddr) -> usize {
    match source {
        IpAddr::V4(ip) => {
            // SAFETY: plain integers, for which all zeros is a value.
            let mut info: libc::in_pktinfo = unsafe { std::mem::zeroed() };
            info.ipi_spec_dst.s_addr = u32::from(ip).to_be();
            write_message(control, libc::IPPROTO_IP, libc::IP_PKTINFO, info)
        }
        IpAddr::V6(ip) => {
            let info = libc::in6_pktinfo { ipi6_addr: libc::in6_addr { s6_addr: ip.octets() }, ipi6_ifindex: 0 };
            write_message(control, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info)
        }
    }
}

fn write_message<T: Copy>(control: &mut Control, level: libc::c_int, kind: libc::c_int, value: T) -> usize {
    // SAFETY: these only calculate.
    let (space, length) =
        unsafe { (libc::CMSG_SPACE(size_of::<T>() as u32) as usize, libc::CMSG_LEN(size_of::<T>() as u32) as usize) };
    assert!(space <= size_of::<Control>(), "a control message is longer than its room");
    let header = control.as_mut_ptr().cast::<libc::cmsghdr>();
    // SAFETY: `control` is as aligned as a cmsghdr and has room for it and the value behind it, as was just
    // checked; the value is written without regard to its alignment.
    unsafe {
        (*header).cmsg_level = level;
        (*header).cmsg_type = kind;
        (*header).cmsg_len = length as _;
        std::ptr::write_unaligned(libc::CMSG_DATA(header).cast::<T>(), value);
    }
    space
}

/// | source u16 | destination u16 | length u16 | checksum u16 | (RFC 768); `None` where it is too long.
fn udp_header(source: SocketAddr, to: SocketAddr, payload: &[u8]) -> Option<[u8; UDP_HEADER]> {
    let length = u16::try_from(UDP_HEADER + payload.len()).ok()?;
    let mut header = [0; UDP_HEADER];
    header[0..2].copy_from_slice(&source.port().to_be_bytes());
    header[2..4].copy_from_slice(&to.port().to_be_bytes());
    header[4..6].copy_from_slice(&length.to_be_bytes());
    // The pseudo header (RFC 768; RFC 8200 8.1): addresses, protocol, length.
    let mut sum = libc::IPPROTO_UDP as u64 + u64::from(length);
    for address in [source.ip(), to.ip()] {
        sum += match address {
            IpAddr::V4(ip) => words(&ip.octets()),
            IpAddr::V6(ip) => words(&ip.octets()),
        };
    }
    sum += words(&header) + words(payload);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    // 0 means that there is none.
    let checksum = match !(sum as u16) {
        0 => 0xffff,
        checksum => checksum,
    };
    header[6..8].copy_from_slice(&checksum.to_be_bytes());
    Some(header)
}

/// Sum of 16-bit words; an odd octet is followed by a zero.
fn words(octets: &[u8]) -> u64 {
    let pairs = octets.chunks_exact(2);
    let odd = pairs.remainder().first().map_or(0, |octet| u64::from(*octet) << 8);
    pairs.map(|pair| u64::from(u16::from_be_bytes([pair[0], pair[1]]))).sum::<u64>() + odd
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn checksums_are_those_of_the_kernel() {
        // A DNS query as a kernel sent it: 192.168.1.3:53 and its answer's checksum by hand.
        let (source, to) = ("192.0.2.1:2000".parse().unwrap(), "192.0.2.2:53".parse().unwrap());
        let header = udp_header(source, to, b"abc").unwrap();
        let mut all = words(&header) + words(b"abc") + 17 + 11;
        all += words(&[192, 0, 2, 1]) + words(&[192, 0, 2, 2]);
        while all > 0xffff {
            all = (all & 0xffff) + (all >> 16);
        }
        assert_eq!((all, &header[..6]), (0xffff, &[7, 208, 0, 53, 0, 11][..]), "the sum over everything is all ones");
        assert_eq!(udp_header(source, to, &[0; 65_528]), None);
    }

    #[test]
    fn a_source_of_this_machine_is_kept_and_what_cannot_go_is_counted() {
        for (own, other) in [("127.0.0.1:0", "[::1]:9"), ("[::1]:0", "127.0.0.1:9")] {
            let receiver = UdpSocket::bind(own).unwrap();
            receiver.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            let to = receiver.local_addr().unwrap();
            let mut sender = match SpoofSender::connect(to) {
                Ok(sender) => sender,
                Err(error) => {
                    assert!(std::env::var_os("CI").is_none(), "no raw sockets: {error}");
                    println!("skipped: no raw sockets: {error}");
                    return;
                }
            };
            let source = SocketAddr::new(if to.is_ipv4() { "127.9.8.7".parse().unwrap() } else { to.ip() }, 777);
            let large = vec![7u8; 30_000];
            let datagrams = [
                (source, b"one".as_slice()),
                (other.parse().unwrap(), b"two"),
                (source, &large),
                (source, &[0; 65_530]),
                (source, b"three!"),
            ];
            let sent = sender.send(&datagrams);
            assert_eq!(sent, Sent { sent: 3, too_long: 1, other_family: 1, failed: 0 });
            let mut octets = vec![0; 65_536];
            for expected in [b"one".as_slice(), &large, b"three!"] {
                let (length, from) = receiver.recv_from(&mut octets).unwrap();
                assert_eq!((&octets[..length], from), (expected, source));
            }
        }
    }
}
