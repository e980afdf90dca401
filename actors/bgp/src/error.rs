//! Errors that a person reads.

use std::net::SocketAddr;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{setting} = \"{value}\" is not usable: {remedy}")]
    Value { setting: String, value: String, remedy: &'static str },
    #[error("{setting}: cannot read {path}: {source}: create it or remove the setting")]
    Password { setting: String, path: PathBuf, source: std::io::Error },
    #[error("cannot listen for bgp on {address}: {source}: change bgp.listen or free the port")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error("cannot listen for bmp on {address}: {source}: change bgp.bmp.listen or free the port")]
    ListenBmp { address: SocketAddr, source: std::io::Error },
    #[error("cannot sign tcp to {peer}: {source}: the kernel needs TCP_MD5SIG, or remove password_file")]
    Sign { peer: String, source: std::io::Error },
    #[error("cannot sign tcp to {peer} with TCP-AO: {source}: look at ao_key_file and ao_algorithm")]
    SignAo { peer: String, source: std::io::Error },
    #[error(
        "cannot sign tcp to {peer} with TCP-AO: this kernel has none (Linux 6.7 with CONFIG_TCP_AO): use password_file"
    )]
    NoAo { peer: String },
    #[error("cannot limit the hops to {peer}: {source}: remove ttl_security")]
    Ttl { peer: String, source: std::io::Error },
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    #[error("no router is called \"{0}\": give a name or an address of a router, or leave it out")]
    UnknownRouter(String),
    #[error("no router has routes of a vrf called \"{0}\": give a name of [[bgp.vrf]], or leave it out")]
    UnknownVrf(String),
}
