//! Sockets: what the standard library does not offer and the product needs.
//!
//! Datagrams in batches (`recvmmsg`, `sendmmsg`), also from another's address,
//! large receive buffers, the kernel's drop counter, ports shared between threads
//! and IP versions, TCP-MD5 (RFC 2385), TCP-AO (RFC 5925), GTSM (RFC 5082), what a closed pipe does, and
//! hints to the cache.
//! Linux only. This is the only crate with `unsafe`; each block says why it holds.

mod address;
mod authentication;
mod listen;
mod md5;
mod prefetch;
mod receive;
mod send;
mod signal;
mod spoof;
mod ttl;

pub use authentication::{AoAlgorithm, AoKey, has_tcp_ao, set_tcp_ao};
pub use listen::listen_tcp;
pub use md5::{KEY_OCTETS_MAX, set_tcp_md5, set_tcp_md5_prefix};
pub use prefetch::prefetch;
pub use receive::{BATCH, Datagram, ReceiveOptions, UdpReceiver};
pub use send::UdpSender;
pub use signal::end_on_broken_pipe;
pub use spoof::{Sent, SpoofSender};
pub use ttl::set_ttl_security;
