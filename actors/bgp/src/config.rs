//! Configuration: `[bgp]`, `[[bgp.peer]]`, `[[bgp.range]]`, `[[bgp.vrf]]`, `[[bgp.announce]]`.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use benocs_sys::{AoAlgorithm, AoKey};
use benocs_wire::bgp::Family;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::error::ConfigError;
use crate::history::HistoryConfig;
use crate::vrf::VrfPlan;

/// Names of the families that are read.
pub(crate) const FAMILIES: [(&str, Family); 11] = [
    ("ipv4-unicast", Family::V4_UNICAST),
    ("ipv6-unicast", Family::V6_UNICAST),
    ("ipv4-labelled", Family::V4_LABELLED),
    ("ipv6-labelled", Family::V6_LABELLED),
    ("ipv4-vpn", Family::V4_VPN),
    ("ipv6-vpn", Family::V6_VPN),
    ("ipv4-flowspec", Family::V4_FLOW_SPEC),
    ("ipv6-flowspec", Family::V6_FLOW_SPEC),
    ("ipv4-vpn-flowspec", Family::V4_VPN_FLOW_SPEC),
    ("ipv6-vpn-flowspec", Family::V6_VPN_FLOW_SPEC),
    ("link-state", Family::LINK_STATE),
];

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Addresses to accept sessions on; empty accepts none.
    pub listen: Vec<String>,
    /// Own AS number.
    pub local_as: u32,
    /// BGP identifier: an IPv4 address that is unique in the network.
    pub router_id: String,
    /// The confederation that the own AS is a member of (RFC 5065), and its other members; 0 is none.
    pub confederation: u32,
    pub confederation_members: Vec<u32>,
    /// Families of sessions that do not name their own: ipv4-unicast, ipv6-unicast, ipv4-labelled, ipv6-labelled,
    /// ipv4-vpn, ipv6-vpn, ipv4-flowspec, ipv6-flowspec, ipv4-vpn-flowspec, ipv6-vpn-flowspec, link-state. The last
    /// is left out of sessions with another AS unless they name it.
    pub families: Vec<String>,
    /// Hold time that is offered, in seconds; 0 or at least 3.
    pub hold_time_s: u16,
    /// Pause between attempts of sessions that are opened from here, in seconds.
    pub connect_retry_s: u64,
    /// Longest pause after sessions that ended in an error; it begins with a second and doubles each time.
    pub idle_hold_max_s: u64,
    /// Longest time that routes of a session that ended are kept, whatever the router asks for, in seconds.
    pub stale_max_s: u32,
    /// Longest time between a route's arrival and its being seen by look-ups, in milliseconds.
    pub publish_ms: u64,
    /// Routes that one peer may announce before its session is ended.
    pub routes_max: u32,
    /// FlowSpec rules of one peer that are kept; further ones are counted.
    pub flow_rules_max: usize,
    /// Peers that ranges may bring.
    pub range_peers_max: usize,
    /// Batches that wait for one receiver of the table before it gets a new snapshot instead.
    pub feed_batches_max: usize,
    /// Routes that may be announced to a router; 0 announces nothing.
    pub announce_max: usize,
    /// Pause between savings of the table, which is read back at start, in seconds; 0 saves nothing.
    pub save_s: u64,
    /// What happened to each prefix, kept on disk.
    pub history: HistoryConfig,
    /// Routers to have sessions with.
    pub peer: Vec<PeerConfig>,
    /// Whole prefixes to accept sessions from.
    pub range: Vec<RangeConfig>,
    /// VRFs that take VPN routes.
    pub vrf: Vec<VrfConfig>,
    /// Routes to announce.
    pub announce: Vec<AnnounceConfig>,
    /// Monitoring by routers.
    pub bmp: crate::bmp::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: vec!["0.0.0.0:179".to_owned()],
            local_as: 64_512,
            router_id: "192.0.2.1".to_owned(),
            confederation: 0,
            confederation_members: Vec::new(),
            families: ["ipv4-unicast", "ipv6-unicast", "link-state"].map(str::to_owned).into(),
            hold_time_s: 90,
            connect_retry_s: 15,
            idle_hold_max_s: 120,
            stale_max_s: 86_400,
            publish_ms: 100,
            routes_max: 8_000_000,
            flow_rules_max: 10_000,
            range_peers_max: 1_000,
            feed_batches_max: 1_024,
            announce_max: 0,
            save_s: 300,
            history: HistoryConfig::default(),
            peer: Vec::new(),
            range: Vec::new(),
            vrf: Vec::new(),
            announce: Vec::new(),
            bmp: crate::bmp::Config::default(),
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
    /// File with the secret of TCP-AO (RFC 5925); empty is none.
    pub ao_key_file: PathBuf,
    /// Number of that key, on both sides.
    pub ao_key_id: u8,
    /// hmac-sha1 or aes-cmac.
    pub ao_algorithm: String,
    /// Waits for the router; false also connects to it.
    pub passive: bool,
    /// A route reflector: its table holds other routers' paths, and answers for those that have no session.
    pub reflector: bool,
    /// Families of the session; empty is `bgp.families`.
    pub families: Vec<String>,
    /// Instead of `bgp.hold_time_s`.
    pub hold_time_s: Option<u16>,
    /// Hops that the router is away at most (RFC 5082); 0 takes it from anywhere.
    pub ttl_security: u8,
    /// What the own network is to the router's (RFC 9234): provider, customer, peer, rs, rs-client; empty says nothing.
    pub role: String,
    /// Takes no session without a role.
    pub role_strict: bool,
    /// Instead of `bgp.routes_max`.
    pub routes_max: Option<u32>,
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
            ao_key_file: PathBuf::new(),
            ao_key_id: 1,
            ao_algorithm: "hmac-sha1".to_owned(),
            passive: true,
            reflector: false,
            families: Vec::new(),
            hold_time_s: None,
            ttl_security: 0,
            role: String::new(),
            role_strict: false,
            routes_max: None,
        }
    }
}

/// Routers that need not be named one by one; what a peer has besides is as there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RangeConfig {
    /// Prefix of the routers' addresses; of several the longest counts.
    pub prefix: String,
    /// Names, with `{address}` in the place of the router's; empty is the address.
    pub name: String,
    /// Their AS number; 0 is any.
    pub remote_as: u32,
    pub local_address: String,
    pub password_file: PathBuf,
    pub ao_key_file: PathBuf,
    pub ao_key_id: u8,
    pub ao_algorithm: String,
    pub reflector: bool,
    pub families: Vec<String>,
    pub hold_time_s: Option<u16>,
    pub ttl_security: u8,
    pub role: String,
    pub role_strict: bool,
    pub routes_max: Option<u32>,
}

impl Default for RangeConfig {
    fn default() -> Self {
        let peer = PeerConfig::default();
        Self {
            prefix: String::new(),
            name: String::new(),
            remote_as: 0,
            local_address: String::new(),
            password_file: PathBuf::new(),
            ao_key_file: PathBuf::new(),
            ao_key_id: peer.ao_key_id,
            ao_algorithm: peer.ao_algorithm,
            reflector: false,
            families: Vec::new(),
            hold_time_s: None,
            ttl_security: 0,
            role: String::new(),
            role_strict: false,
            routes_max: None,
        }
    }
}

/// A table that VPN routes are taken into by their route targets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VrfConfig {
    pub name: String,
    /// Route targets, as in "rt:64500:1" or "rt:192.0.2.1:1".
    pub import: Vec<String>,
}

/// A route that this machine announces.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AnnounceConfig {
    pub prefix: String,
    pub next_hop: String,
    /// Communities, as in "64500:1", and large ones, as in "64500:1:2".
    pub communities: Vec<String>,
    /// LOCAL_PREF towards the own AS.
    pub local_pref: Option<u32>,
    pub med: Option<u32>,
    /// Names of the peers that it goes to, which may be those of ranges.
    pub peers: Vec<String>,
}

/// What a peer has in common with those of its range, its texts read.
#[derive(Clone, Debug)]
pub(crate) struct Template {
    /// 0 is any.
    pub(crate) remote_as: u32,
    pub(crate) local_address: Option<IpAddr>,
    pub(crate) password: Vec<u8>,
    pub(crate) ao_key: Option<AoKey>,
    pub(crate) reflector: bool,
    pub(crate) families: Vec<Family>,
    pub(crate) hold_time_s: u16,
    pub(crate) ttl_security: u8,
    pub(crate) role: Option<u8>,
    pub(crate) role_strict: bool,
    pub(crate) routes_max: u32,
}

/// A peer, its texts read.
#[derive(Clone, Debug)]
pub(crate) struct PeerPlan {
    pub(crate) name: String,
    pub(crate) address: IpAddr,
    pub(crate) port: u16,
    pub(crate) passive: bool,
    pub(crate) template: Template,
}

#[derive(Clone, Debug)]
pub(crate) struct RangePlan {
    pub(crate) prefix: IpNet,
    pub(crate) name: String,
    pub(crate) template: Template,
}

impl RangePlan {
    pub(crate) fn peer(&self, address: IpAddr) -> PeerPlan {
        let text = address.to_string();
        let name = if self.name.is_empty() { text } else { self.name.replace("{address}", &text) };
        PeerPlan { name, address, port: 179, passive: true, template: self.template.clone() }
    }
}

/// A route to announce.
#[derive(Clone, Debug)]
pub(crate) struct AnnouncePlan {
    pub(crate) prefix: IpNet,
    pub(crate) next_hop: IpAddr,
    pub(crate) communities: Vec<u32>,
    pub(crate) large_communities: Vec<[u32; 3]>,
    pub(crate) local_pref: Option<u32>,
    pub(crate) med: Option<u32>,
    pub(crate) peers: Vec<String>,
}

/// The configuration, its texts read.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) listen: Vec<std::net::SocketAddr>,
    pub(crate) router_id: [u8; 4],
    pub(crate) peers: Vec<PeerPlan>,
    pub(crate) ranges: Vec<RangePlan>,
    pub(crate) vrfs: Vec<VrfPlan>,
    pub(crate) announces: Vec<AnnouncePlan>,
}

fn value(setting: String, text: &str, remedy: &'static str) -> ConfigError {
    ConfigError::Value { setting, value: text.to_owned(), remedy }
}

fn address(setting: String, text: &str) -> Result<IpAddr, ConfigError> {
    text.parse().map_err(|_| value(setting, text, "give an IPv4 or IPv6 address"))
}

fn prefix(setting: String, text: &str) -> Result<IpNet, ConfigError> {
    text.parse::<IpNet>().map(|prefix| prefix.trunc()).map_err(|_| value(setting, text, "give address/length"))
}

impl Config {
    /// Finds what is wrong without opening anything but password files.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.bmp.addresses()?;
        self.plan().map(|_| ())
    }

    /// Which VPN routes go into which VRF.
    pub fn imports(&self) -> Result<crate::vrf::Imports, ConfigError> {
        self.plan().map(|plan| crate::vrf::Imports::new(&plan.vrfs))
    }

    /// The AS that a peer of that AS knows this speaker by (RFC 5065 4).
    pub(crate) fn local_as_for(&self, remote_as: u32) -> u32 {
        if self.confederation == 0 || self.is_inside(remote_as) { self.local_as } else { self.confederation }
    }

    /// Of the own AS, or of the own confederation.
    pub(crate) fn is_inside(&self, remote_as: u32) -> bool {
        remote_as == self.local_as || (self.confederation != 0 && self.confederation_members.contains(&remote_as))
    }

    pub(crate) fn plan(&self) -> Result<Plan, ConfigError> {
        hold_time("bgp.hold_time_s", self.hold_time_s)?;
        if self.local_as == 0 {
            return Err(value("bgp.local_as".into(), "0", "give the network's AS number"));
        }
        let router_id: Ipv4Addr = self
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
        families("bgp.families".into(), &self.families)?;
        let mut peers = Vec::with_capacity(self.peer.len());
        for (number, peer) in self.peer.iter().enumerate() {
            let setting = |field: &str| format!("bgp.peer[{number}].{field}");
            let remote = address(setting("address"), &peer.address)?;
            if peer.remote_as == 0 {
                return Err(value(setting("remote_as"), "0", "give the router's AS number"));
            }
            peers.push(PeerPlan {
                name: if peer.name.is_empty() { peer.address.clone() } else { peer.name.clone() },
                address: remote,
                port: peer.port,
                passive: peer.passive,
                template: self.template(&setting, peer)?,
            });
        }
        let mut ranges = Vec::with_capacity(self.range.len());
        for (number, range) in self.range.iter().enumerate() {
            let setting = |field: &str| format!("bgp.range[{number}].{field}");
            ranges.push(RangePlan {
                prefix: prefix(setting("prefix"), &range.prefix)?,
                name: range.name.clone(),
                template: self.template(&setting, &range.as_peer())?,
            });
        }
        ranges.sort_by_key(|range| std::cmp::Reverse(range.prefix.prefix_len()));
        let mut vrfs: Vec<VrfPlan> = Vec::with_capacity(self.vrf.len());
        for (number, vrf) in self.vrf.iter().enumerate() {
            let setting = |field: &str| format!("bgp.vrf[{number}].{field}");
            if vrf.name.is_empty() || vrfs.iter().any(|other| other.name == vrf.name) {
                return Err(value(setting("name"), &vrf.name, "give each VRF a name of its own"));
            }
            vrfs.push(VrfPlan::new(&setting, vrf)?);
        }
        if vrfs.len() > VrfPlan::MAX {
            return Err(value("bgp.vrf".into(), &vrfs.len().to_string(), "give at most 4000"));
        }
        let announces = self.announces()?;
        Ok(Plan { listen, router_id: router_id.octets(), peers, ranges, vrfs, announces })
    }

    fn template(&self, setting: &dyn Fn(&str) -> String, peer: &PeerConfig) -> Result<Template, ConfigError> {
        let local_address = match peer.local_address.as_str() {
            "" => None,
            text => Some(address(setting("local_address"), text)?),
        };
        let read = |field: &str, path: &PathBuf| match path.as_os_str().is_empty() {
            true => Ok(Vec::new()),
            false => std::fs::read(path)
                .map(|octets| octets.trim_ascii_end().to_vec())
                .map_err(|source| ConfigError::Password { setting: setting(field), path: path.clone(), source }),
        };
        let password = read("password_file", &peer.password_file)?;
        let secret = read("ao_key_file", &peer.ao_key_file)?;
        let algorithm = match peer.ao_algorithm.as_str() {
            "hmac-sha1" => AoAlgorithm::HmacSha1,
            "aes-cmac" => AoAlgorithm::AesCmac,
            other => return Err(value(setting("ao_algorithm"), other, "give hmac-sha1 or aes-cmac")),
        };
        if !password.is_empty() && !secret.is_empty() {
            let file = peer.ao_key_file.display().to_string();
            return Err(value(setting("ao_key_file"), &file, "give this or password_file, not both"));
        }
        let hold_time_s = peer.hold_time_s.unwrap_or(self.hold_time_s);
        hold_time(&setting("hold_time_s"), hold_time_s)?;
        let names = if peer.families.is_empty() { &self.families } else { &peer.families };
        let mut families = families(setting("families"), names)?;
        // RFC 9552 8.2: the topology is the own network's, and nobody else is to say what it is.
        if peer.families.is_empty() && !self.is_inside(peer.remote_as) {
            families.retain(|family| *family != Family::LINK_STATE);
        }
        let role = match peer.role.as_str() {
            "" => None,
            "provider" => Some(0),
            "rs" => Some(1),
            "rs-client" => Some(2),
            "customer" => Some(3),
            "peer" => Some(4),
            other => return Err(value(setting("role"), other, "give provider, customer, peer, rs or rs-client")),
        };
        // RFC 9234 4.1: between networks.
        if role.is_some() && peer.remote_as == self.local_as {
            return Err(value(setting("role"), &peer.role, "leave it out within the own AS"));
        }
        if role.is_none() && peer.role_strict {
            return Err(value(setting("role_strict"), "true", "give a role too"));
        }
        Ok(Template {
            remote_as: peer.remote_as,
            local_address,
            password,
            ao_key: (!secret.is_empty()).then_some(AoKey { id: peer.ao_key_id, algorithm, secret }),
            reflector: peer.reflector,
            families,
            hold_time_s,
            ttl_security: peer.ttl_security,
            role,
            role_strict: peer.role_strict,
            routes_max: peer.routes_max.unwrap_or(self.routes_max),
        })
    }

    fn announces(&self) -> Result<Vec<AnnouncePlan>, ConfigError> {
        let mut announces = Vec::with_capacity(self.announce.len());
        for (number, announce) in self.announce.iter().enumerate() {
            let setting = |field: &str| format!("bgp.announce[{number}].{field}");
            let prefix = prefix(setting("prefix"), &announce.prefix)?;
            let next_hop = address(setting("next_hop"), &announce.next_hop)?;
            if next_hop.is_unspecified() || next_hop.is_multicast() || (prefix.addr().is_ipv6() && next_hop.is_ipv4()) {
                return Err(value(setting("next_hop"), &announce.next_hop, "give a router's address of the family"));
            }
            if announce.peers.is_empty() {
                return Err(value(setting("peers"), "[]", "name the peers that it goes to"));
            }
            let (mut communities, mut large_communities) = (Vec::new(), Vec::new());
            for text in &announce.communities {
                let numbers: Option<Vec<u32>> = text.split(':').map(|number| number.parse().ok()).collect();
                match numbers.as_deref() {
                    Some([high @ ..=0xffff, low @ ..=0xffff]) => communities.push(high << 16 | low),
                    Some([global, a, b]) => large_communities.push([*global, *a, *b]),
                    _ => return Err(value(setting("communities"), text, "give them as in 64500:1 or 64500:1:2")),
                }
            }
            announces.push(AnnouncePlan {
                prefix,
                next_hop,
                communities,
                large_communities,
                local_pref: announce.local_pref,
                med: announce.med,
                peers: announce.peers.clone(),
            });
        }
        for (number, announce) in announces.iter().enumerate() {
            // Peers of ranges have names of their own.
            let unknown = |name: &&String| !self.peer.iter().any(|peer| peer.name == **name || peer.address == **name);
            if let Some(name) = announce.peers.iter().find(unknown).filter(|_| self.range.is_empty()) {
                return Err(value(format!("bgp.announce[{number}].peers"), name, "give names of [[bgp.peer]]"));
            }
        }
        // The guard: what a router would be told must be meant twice.
        for announce in &announces {
            for peer in &announce.peers {
                let count = announces.iter().filter(|other| other.peers.contains(peer)).count();
                if count > self.announce_max {
                    let remedy = "more is to be announced to one peer than that: raise it, or announce less";
                    return Err(value("bgp.announce_max".into(), &self.announce_max.to_string(), remedy));
                }
            }
        }
        Ok(announces)
    }
}

impl RangeConfig {
    fn as_peer(&self) -> PeerConfig {
        let Self {
            prefix: _,
            name: _,
            remote_as,
            local_address,
            password_file,
            ao_key_file,
            ao_key_id,
            ao_algorithm,
            reflector,
            families,
            hold_time_s,
            ttl_security,
            role,
            role_strict,
            routes_max,
        } = self.clone();
        PeerConfig {
            remote_as,
            local_address,
            password_file,
            ao_key_file,
            ao_key_id,
            ao_algorithm,
            reflector,
            families,
            hold_time_s,
            ttl_security,
            role,
            role_strict,
            routes_max,
            ..PeerConfig::default()
        }
    }
}

fn hold_time(setting: &str, seconds: u16) -> Result<(), ConfigError> {
    if matches!(seconds, 1 | 2) {
        return Err(value(setting.to_owned(), &seconds.to_string(), "give 0 or at least 3"));
    }
    Ok(())
}

fn families(setting: String, names: &[String]) -> Result<Vec<Family>, ConfigError> {
    let family = |name: &String| FAMILIES.iter().find(|(known, _)| known == name).map(|(_, family)| *family);
    if names.is_empty() {
        return Err(value(setting, "[]", "give at least ipv4-unicast"));
    }
    let unknown = names.iter().find(|name| family(name).is_none());
    if let Some(name) = unknown {
        return Err(value(setting, name, "give names as in ipv4-unicast, ipv6-vpn, ipv4-flowspec"));
    }
    Ok(names.iter().filter_map(family).collect())
}
