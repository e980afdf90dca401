//! Sockets: what the standard library does not offer and the product needs.
//!
//! Datagrams in batches (`recvmmsg`, `sendmmsg`), also from another's address,
//! large receive buffers, the kernel's drop counter, ports shared between threads
//! and IP versions, TCP-MD5 (RFC 2385), and what a closed pipe does.
//! Linux only. This is the only crate with `unsafe`; each block says why it holds.

mod address;
mod listen;
mod md5;
mod receive;
mod send;
mod signal;
mod spoof;

pub use listen::listen_tcp;
pub use md5::{KEY_OCTETS_MAX, set_tcp_md5};
pub use receive::{BATCH, Datagram, ReceiveOptions, UdpReceiver};
pub use send::UdpSender;
pub use signal::end_on_broken_pipe;
pub use spoof::{Sent, SpoofSender};
