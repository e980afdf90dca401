//! What can go wrong with the configuration, with a session, and with the log.

use std::io;
use std::path::PathBuf;

/// A setting that cannot be.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{setting}: {text:?} is not an address with a port, as in 0.0.0.0:4739")]
    Listen { setting: &'static str, text: String },
    #[error("collector.ipfix_tls_listen needs {0}: give a PEM file")]
    TlsMissing(&'static str),
    #[error("{setting}: cannot read {}: {reason}", path.display())]
    Pem { setting: &'static str, path: PathBuf, reason: rustls_pki_types::pem::Error },
    #[error("{setting}: {} cannot be used: {reason}", path.display())]
    Certificate { setting: &'static str, path: PathBuf, reason: String },
    #[error("collector.fan_out has nobody to send to: give `to`, as in [\"192.0.2.20:2055\"]")]
    NoTarget,
    #[error("collector.fan_out: {0:?} is not a host with a port that can be sent to, as in 192.0.2.20:2055")]
    Target(String),
    #[error("collector.fan_out: {0} is this collector itself: every datagram would go round for ever")]
    Loop(String),
}

/// Why an IPFIX session over TCP or TLS ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ended {
    #[error("the exporter closed it")]
    Closed,
    #[error("it was closed {0} octets into a message")]
    Cut(usize),
    #[error("version {0} where a message should begin: IPFIX is 10 (RFC 7011 3.1)")]
    Version(u16),
    #[error("a message of {0} octets: its header alone has 16 (RFC 7011 3.1)")]
    Length(u16),
    #[error("no whole message came for {0} s (collector.ipfix_idle_s)")]
    Idle(u64),
    #[error("TLS: {0}")]
    Handshake(io::Error),
    #[error("the TLS handshake took longer than {0} s")]
    HandshakeTime(u64),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("the collector stops")]
    Draining,
}

impl Ended {
    /// Somebody should look.
    pub(crate) fn is_fault(&self) -> bool {
        !matches!(self, Self::Closed | Self::Draining | Self::Idle(_) | Self::Io(_))
    }
}

#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("cannot {doing} {}: {source}", path.display())]
    File { doing: &'static str, path: PathBuf, source: io::Error },
    /// A version of the program that this one does not know wrote it, or it is no part of a log.
    #[error("{} is not a segment of a flow log of this version: move it away", path.display())]
    Foreign { path: PathBuf },
    /// Another process appends to it.
    #[error("the flow log in {} is in use: is another benocs running on this data directory?", path.display())]
    Busy { path: PathBuf },
    /// Refused, nothing was written: `log_octets_max` is reached, or the disk is full.
    #[error("the flow log is full")]
    Full,
    #[error("cannot encode a batch for the flow log: {0}")]
    Encode(#[from] arrow::error::ArrowError),
}

impl LogError {
    pub(crate) fn file(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { doing, path, source }
    }
}
