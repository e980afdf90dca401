//! What a person has to mend, and why a connection ended.

use std::path::PathBuf;

use benocs_model::names::service::BadDomain;
use benocs_wire::error::WireError;

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("dnstap.listen: {0:?} is not an address with a port, as in 0.0.0.0:5453")]
    Listen(String),
    #[error("dnstap cannot listen on {address}: {source}: is the port taken?")]
    Bind { address: std::net::SocketAddr, source: std::io::Error },
    #[error("dnstap cannot read {}: {source}", path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("service rules in {path}: {source}")]
    Rules { path: String, source: toml::de::Error },
    #[error("service rules in {path}: {source}")]
    Domain { path: String, source: BadDomain },
    #[error("dnstap.client_prefix_v4 is at most 32, dnstap.client_prefix_v6 at most 128")]
    ClientPrefix,
}

/// Why a resolver's connection ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ended {
    #[error("stopped by the resolver")]
    Stopped,
    #[error("closed by the resolver without a stop")]
    Closed,
    #[error("the receiver ends")]
    Draining,
    #[error("a frame is longer than dnstap.frame_octets_max: {0}")]
    Oversize(WireError),
    #[error("not Frame Streams: {0}")]
    Malformed(WireError),
    #[error("the resolver sends something else than protobuf:dnstap.Dnstap")]
    ContentType,
    #[error("data or an unexpected control frame before the start of the stream")]
    NotStarted,
    #[error("{0}")]
    Io(#[from] std::io::Error),
}
