//! Datagrams in batches.
//!
//! Each of the [`BATCH`] datagrams of a call has a slot of 2 KiB, so that a
//! batch of ordinary ones stays in the processor's cache; what is longer runs
//! over into a second slot of 64 KiB, which costs memory only once it is used.

#![allow(unsafe_code)]

use std::io;
use std::mem::size_of;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use crate::address;

/// Datagrams of one system call, at most.
pub const BATCH: usize = 256;

const SMALL: usize = 2048;
/// Slots do not begin at the same lines of the cache.
const SMALL_STRIDE: usize = SMALL + 64;
/// No datagram of IPv4 or IPv6 without jumbograms is longer.
const LARGE: usize = 65_536;
/// asm-generic/socket.h; not in the libc crate for every target.
const SO_MEMINFO: libc::c_int = 55;

/// How a socket is opened.
#[derive(Clone, Copy, Debug)]
pub struct ReceiveOptions {
    /// Wanted size of the kernel's queue, in octets; beyond `net.core.rmem_max` only with CAP_NET_ADMIN.
    pub buffer_octets: usize,
    /// Lets several sockets of this user bind the same port; the kernel spreads senders among them by hash.
    pub shared_port: bool,
    /// A socket on `[::]` takes IPv4 too.
    pub dual_stack: bool,
}

/// A bound UDP socket with the memory for a batch of datagrams.
pub struct UdpReceiver {
    socket: UdpSocket,
    small: Box<[u8]>,
    large: Box<[u8]>,
    names: Box<[libc::sockaddr_storage]>,
    pieces: Box<[[libc::iovec; 2]]>,
    headers: Box<[libc::mmsghdr]>,
    received: usize,
    drops_seen: u32,
    drops: u64,
}

// SAFETY: the raw pointers in `pieces` and `headers` point into boxes of the same value. They are written
// anew before each system call and read by nobody else, so it does not matter which thread that is.
unsafe impl Send for UdpReceiver {}

/// One datagram of the last batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram<'a> {
    pub source: SocketAddr,
    pub payload: &'a [u8],
}

impl UdpReceiver {
    /// A socket on `address`; one on an IPv6 address takes IPv4 only where that is asked for.
    pub fn bind(address: SocketAddr, options: ReceiveOptions) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            socket.set_only_v6(!options.dual_stack)?;
        }
        if options.shared_port {
            socket.set_reuse_port(true)?;
        }
        set_receive_buffer(&socket, options.buffer_octets)?;
        socket.bind(&address.into())?;
        // SAFETY: both are plain integers and pointers, for which all zeros is a value.
        let (name, header) =
            unsafe { (std::mem::zeroed::<libc::sockaddr_storage>(), std::mem::zeroed::<libc::mmsghdr>()) };
        let piece = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        let mut receiver = Self {
            socket: socket.into(),
            small: vec![0; BATCH * SMALL_STRIDE].into_boxed_slice(),
            large: vec![0; BATCH * LARGE].into_boxed_slice(),
            names: vec![name; BATCH].into_boxed_slice(),
            pieces: vec![[piece; 2]; BATCH].into_boxed_slice(),
            headers: vec![header; BATCH].into_boxed_slice(),
            received: 0,
            drops_seen: 0,
            drops: 0,
        };
        receiver.drops_seen = receiver.kernel_drops().unwrap_or(0);
        Ok(receiver)
    }

    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// What the kernel grants to the queue; half of it is for datagrams, the rest for its own records of them.
    pub fn buffer_octets(&self) -> io::Result<usize> {
        socket2::SockRef::from(&self.socket).recv_buffer_size()
    }

    /// Waits until a datagram is there, at most `limit`.
    pub fn wait(&self, limit: Duration) -> io::Result<bool> {
        let mut poll = libc::pollfd { fd: self.socket.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let limit_ms = limit.as_millis().min(60_000) as libc::c_int;
        // SAFETY: one pollfd, alive during the call.
        let result = unsafe { libc::poll(&mut poll, 1, limit_ms) };
        match result {
            0 => Ok(false),
            1.. => Ok(true),
            _ => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => Ok(false),
                error => Err(error),
            },
        }
    }

    /// Takes what is queued, at most [`BATCH`] datagrams, without waiting. They are then in [`Self::datagrams`].
    pub fn receive(&mut self) -> io::Result<usize> {
        self.received = 0;
        let slots = self.small.chunks_exact_mut(SMALL_STRIDE).zip(self.large.chunks_exact_mut(LARGE));
        let memory = self.headers.iter_mut().zip(&mut self.pieces).zip(&mut self.names).zip(slots);
        for (((header, pieces), name), (small, large)) in memory {
            pieces[0] = libc::iovec { iov_base: small.as_mut_ptr().cast(), iov_len: SMALL };
            pieces[1] = libc::iovec { iov_base: large[SMALL..].as_mut_ptr().cast(), iov_len: LARGE - SMALL };
            header.msg_len = 0;
            header.msg_hdr.msg_name = std::ptr::from_mut(name).cast();
            header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            header.msg_hdr.msg_iov = pieces.as_mut_ptr();
            header.msg_hdr.msg_iovlen = 2;
            header.msg_hdr.msg_flags = 0;
        }
        // SAFETY: every header was just pointed at memory of this value, with its length; nothing else
        // refers to that memory while `self` is borrowed mutably.
        let result = unsafe {
            libc::recvmmsg(
                self.socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                BATCH as libc::c_uint,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        if result < 0 {
            let error = io::Error::last_os_error();
            return match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(0),
                _ => Err(error),
            };
        }
        self.received = result as usize;
        for (index, header) in self.headers[..self.received].iter().enumerate() {
            if header.msg_len as usize > SMALL {
                let small = &self.small[index * SMALL_STRIDE..][..SMALL];
                self.large[index * LARGE..][..SMALL].copy_from_slice(small);
            }
        }
        Ok(self.received)
    }

    /// The datagrams of the last [`Self::receive`], in order of arrival.
    pub fn datagrams(&self) -> impl Iterator<Item = Datagram<'_>> {
        self.headers[..self.received].iter().zip(&self.names).enumerate().filter_map(|(index, (header, name))| {
            let length = (header.msg_len as usize).min(LARGE);
            let payload = if length <= SMALL {
                &self.small[index * SMALL_STRIDE..][..length]
            } else {
                &self.large[index * LARGE..][..length]
            };
            Some(Datagram { source: address::decode(name, header.msg_hdr.msg_namelen)?, payload })
        })
    }

    /// Datagrams that the kernel has dropped since the socket was bound: its queue was full, or the checksum wrong.
    pub fn drops(&mut self) -> io::Result<u64> {
        let now = self.kernel_drops()?;
        self.drops += u64::from(now.wrapping_sub(self.drops_seen));
        self.drops_seen = now;
        Ok(self.drops)
    }

    /// The socket's own counter, which SO_RXQ_OVFL would tell only with the next datagram that is not dropped.
    fn kernel_drops(&self) -> io::Result<u32> {
        const WORDS: usize = libc::SK_MEMINFO_DROPS as usize + 1;
        let mut words = [0u32; WORDS];
        let mut length = size_of::<[u32; WORDS]>() as libc::socklen_t;
        // SAFETY: the kernel writes at most `length` octets into `words`, alive during the call.
        let result = unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_SOCKET,
                SO_MEMINFO,
                words.as_mut_ptr().cast(),
                &mut length,
            )
        };
        if result == 0 { Ok(words[WORDS - 1]) } else { Err(io::Error::last_os_error()) }
    }
}

/// As large as allowed: with the capability regardless of `net.core.rmem_max`, without it up to that.
fn set_receive_buffer(socket: &Socket, octets: usize) -> io::Result<()> {
    let wanted = libc::c_int::try_from(octets).unwrap_or(libc::c_int::MAX / 2);
    // SAFETY: the option reads one int, alive during the call.
    let forced = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVBUFFORCE,
            std::ptr::from_ref(&wanted).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if forced == 0 { Ok(()) } else { socket.set_recv_buffer_size(wanted as usize) }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::UdpSender;

    const OPTIONS: ReceiveOptions = ReceiveOptions { buffer_octets: 4 << 20, shared_port: false, dual_stack: false };

    fn loopback() -> SocketAddr {
        "127.0.0.1:0".parse().unwrap()
    }

    fn collect(receiver: &mut UdpReceiver, count: usize) -> Vec<(SocketAddr, Vec<u8>)> {
        let deadline = Instant::now() + Duration::from_secs(5);
        let mut all = Vec::new();
        while all.len() < count && Instant::now() < deadline {
            if receiver.wait(Duration::from_millis(50)).unwrap() {
                receiver.receive().unwrap();
                all.extend(receiver.datagrams().map(|datagram| (datagram.source, datagram.payload.to_vec())));
            }
        }
        all
    }

    #[test]
    fn datagrams_of_every_length_arrive_whole_and_in_order() {
        let mut receiver = UdpReceiver::bind(loopback(), OPTIONS).unwrap();
        let mut sender = UdpSender::bind(loopback()).unwrap();
        let packets: Vec<Vec<u8>> = [0, 1, 1472, 2047, 2048, 2049, 9000, 65_507]
            .iter()
            .cycle()
            .take(40)
            .enumerate()
            .map(|(index, &length)| (0..length).map(|at| (at * 7 + index) as u8).collect())
            .collect();
        assert_eq!(sender.send(&packets, receiver.local_addr().unwrap()).unwrap(), packets.len());
        let got = collect(&mut receiver, packets.len());
        assert_eq!(got.len(), packets.len());
        for ((source, payload), packet) in got.iter().zip(&packets) {
            assert_eq!(*source, sender.local_addr().unwrap());
            assert!(payload == packet, "{} octets differ", packet.len());
        }
        assert_eq!(receiver.drops().unwrap(), 0);
    }

    #[test]
    fn what_the_kernel_drops_is_counted() {
        let options = ReceiveOptions { buffer_octets: 4096, ..OPTIONS };
        let mut receiver = UdpReceiver::bind(loopback(), options).unwrap();
        let mut sender = UdpSender::bind(loopback()).unwrap();
        let packets = vec![vec![7u8; 1400]; 300];
        sender.send(&packets, receiver.local_addr().unwrap()).unwrap();
        let mut got = 0;
        while receiver.wait(Duration::from_millis(100)).unwrap() {
            got += receiver.receive().unwrap();
        }
        let drops = receiver.drops().unwrap();
        assert!(drops > 0, "nothing was dropped");
        assert_eq!(got as u64 + drops, 300);
    }

    #[test]
    fn one_socket_takes_both_families_where_that_is_wanted() {
        let both = ReceiveOptions { dual_stack: true, ..OPTIONS };
        let mut receiver = UdpReceiver::bind("[::]:0".parse().unwrap(), both).unwrap();
        let port = receiver.local_addr().unwrap().port();
        for (own, to) in [("127.0.0.1:0", "127.0.0.1"), ("[::1]:0", "::1")] {
            let mut sender = UdpSender::bind(own.parse().unwrap()).unwrap();
            sender.send(&[own], SocketAddr::new(to.parse().unwrap(), port)).unwrap();
            let got = collect(&mut receiver, 1);
            assert_eq!(got, [(sender.local_addr().unwrap(), own.as_bytes().to_vec())], "a mapped address is IPv4");
        }
    }

    #[test]
    fn an_empty_queue_is_no_error_and_a_port_can_be_shared() {
        let shared = ReceiveOptions { shared_port: true, ..OPTIONS };
        let mut first = UdpReceiver::bind(loopback(), shared).unwrap();
        let address = first.local_addr().unwrap();
        assert_eq!(first.receive().unwrap(), 0);
        assert!(!first.wait(Duration::from_millis(1)).unwrap());
        assert!(first.buffer_octets().unwrap() > 0);
        let second = UdpReceiver::bind(address, shared).unwrap();
        assert_eq!(second.local_addr().unwrap(), address);
        assert!(UdpReceiver::bind(address, OPTIONS).is_err());
    }
}
