//! Configuration: `[bgp]`, `[[bgp.peer]]`, `[[bgp.range]]`.

use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::error::ConfigError;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Addresses to accept sessions on; empty accepts none.
    pub listen: Vec<String>,
    /// Own AS number.
    pub local_as: u32,
    /// BGP identifier: an IPv4 address that is unique in the network.
    pub router_id: String,
    /// Hold time that is offered, in seconds; 0 or at least 3.
    pub hold_time_s: u16,
    /// Pause between attempts of sessions that are opened from here, in seconds.
    pub connect_retry_s: u64,
    /// Longest time between a route's arrival and its being seen by look-ups, in milliseconds.
    pub publish_ms: u64,
    /// Routes that one peer may announce before its session is ended.
    pub routes_max: u32,
    /// Peers that ranges may bring.
    pub range_peers_max: usize,
    /// Batches that wait for one receiver of the table before it gets a new snapshot instead.
    pub feed_batches_max: usize,
    /// Routers to have sessions with.
    pub peer: Vec<PeerConfig>,
    /// Whole prefixes to accept sessions from.
    pub range: Vec<RangeConfig>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: vec!["0.0.0.0:179".to_owned()],
            local_as: 64_512,
            router_id: "192.0.2.1".to_owned(),
            hold_time_s: 90,
            connect_retry_s: 15,
            publish_ms: 100,
            routes_max: 8_000_000,
            range_peers_max: 1_000,
            feed_batches_max: 1_024,
            peer: Vec::new(),
            range: Vec::new(),
        }
    }
}

/// A router.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PeerConfig {
    /// Its address.
    pub address: String,
    /// Name in metrics and answers; empty is the address.
    pub name: String,
    /// Its AS number; the own one is an iBGP session.
    pub remote_as: u32,
    /// Own address of the session; empty is any.
    pub local_address: String,
    /// Its port, where the session is opened from here.
    pub port: u16,
    /// File with the TCP-MD5 password (RFC 2385); empty is none.
    pub password_file: PathBuf,
    /// Waits for the router; false also connects to it.
    pub passive: bool,
    /// A route reflector: its table holds other routers' paths, and answers for those that have no session.
    pub reflector: bool,
}

impl Default for PeerConfig {
    fn default() -> Self {
        Self {
            address: String::new(),
            name: String::new(),
            remote_as: 0,
            local_address: String::new(),
            port: 179,
            password_file: PathBuf::new(),
            passive: true,
            reflector: false,
        }
    }
}

/// Routers that need not be named one by one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RangeConfig {
    /// Prefix of the routers' addresses.
    pub prefix: String,
    /// Their AS number; 0 is any.
    pub remote_as: u32,
}

/// A peer, its texts read.
#[derive(Clone, Debug)]
pub(crate) struct PeerPlan {
    pub(crate) name: String,
    pub(crate) address: IpAddr,
    /// 0 is any.
    pub(crate) remote_as: u32,
    pub(crate) local_address: Option<IpAddr>,
    pub(crate) port: u16,
    pub(crate) password: Vec<u8>,
    pub(crate) passive: bool,
    pub(crate) reflector: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct RangePlan {
    pub(crate) prefix: IpNet,
    pub(crate) remote_as: u32,
}

/// The configuration, its texts read.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) listen: Vec<std::net::SocketAddr>,
    pub(crate) router_id: [u8; 4],
    pub(crate) peers: Vec<PeerPlan>,
    pub(crate) ranges: Vec<RangePlan>,
}

impl Config {
    /// Finds what is wrong without opening anything but password files.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.plan().map(|_| ())
    }

    pub(crate) fn plan(&self) -> Result<Plan, ConfigError> {
        let value = |setting: String, text: &str, remedy: &'static str| ConfigError::Value {
            setting,
            value: text.to_owned(),
            remedy,
        };
        let address = |setting: String, text: &str| {
            text.parse::<IpAddr>().map_err(|_| value(setting, text, "give an IPv4 or IPv6 address"))
        };
        if matches!(self.hold_time_s, 1 | 2) {
            let text = self.hold_time_s.to_string();
            return Err(value("bgp.hold_time_s".into(), &text, "give 0 or at least 3"));
        }
        if self.local_as == 0 {
            return Err(value("bgp.local_as".into(), "0", "give the network's AS number"));
        }
        let router_id: std::net::Ipv4Addr = self
            .router_id
            .parse()
            .map_err(|_| value("bgp.router_id".into(), &self.router_id, "give an IPv4 address"))?;
        if router_id.is_unspecified() {
            return Err(value("bgp.router_id".into(), &self.router_id, "give an address other than 0.0.0.0"));
        }
        let listen = self
            .listen
            .iter()
            .map(|text| text.parse().map_err(|_| value("bgp.listen".into(), text, "give address:port")))
            .collect::<Result<_, _>>()?;
        let mut peers = Vec::with_capacity(self.peer.len());
        for (number, peer) in self.peer.iter().enumerate() {
            let setting = |field: &str| format!("bgp.peer[{number}].{field}");
            let remote = address(setting("address"), &peer.address)?;
            if peer.remote_as == 0 {
                return Err(value(setting("remote_as"), "0", "give the router's AS number"));
            }
            let local_address = match peer.local_address.as_str() {
                "" => None,
                text => Some(address(setting("local_address"), text)?),
            };
            let password = match peer.password_file.as_os_str().is_empty() {
                true => Vec::new(),
                false => std::fs::read(&peer.password_file).map_err(|source| ConfigError::Password {
                    setting: setting("password_file"),
                    path: peer.password_file.clone(),
                    source,
                })?,
            };
            peers.push(PeerPlan {
                name: if peer.name.is_empty() { peer.address.clone() } else { peer.name.clone() },
                address: remote,
                remote_as: peer.remote_as,
                local_address,
                port: peer.port,
                password: password.trim_ascii_end().to_vec(),
                passive: peer.passive,
                reflector: peer.reflector,
            });
        }
        let range = |(number, range): (usize, &RangeConfig)| {
            let setting = format!("bgp.range[{number}].prefix");
            let prefix = range.prefix.parse().map_err(|_| value(setting, &range.prefix, "give address/length"))?;
            Ok(RangePlan { prefix, remote_as: range.remote_as })
        };
        let ranges = self.range.iter().enumerate().map(range).collect::<Result<_, ConfigError>>()?;
        Ok(Plan { listen, router_id: router_id.octets(), peers, ranges })
    }
}
