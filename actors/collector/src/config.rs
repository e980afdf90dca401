//! Settings of the collector.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _, UdpSocket};
use std::path::PathBuf;

use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Serialize};

use crate::decode;
use crate::error::ConfigError;
use crate::tls;

/// `[collector]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// UDP addresses for NetFlow v5, v9 and IPFIX (sFlow is understood too); one on an IPv6 address takes IPv6 only.
    pub listen: Vec<String>,
    /// An address `[::]` of any list takes IPv4 too.
    pub dual_stack: bool,
    /// TCP addresses for IPFIX (RFC 7011 10.4); 4739 is the usual port.
    pub ipfix_tcp_listen: Vec<String>,
    /// TLS addresses for IPFIX (RFC 7011 11); 4740 is the usual port.
    pub ipfix_tls_listen: Vec<String>,
    /// Certificate chain for TLS, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipfix_tls_certificate_file: Option<PathBuf>,
    /// Its private key, PEM, readable by nobody else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipfix_tls_key_file: Option<PathBuf>,
    /// Authorities, PEM: exporters must show a certificate of one of them. Without it, any exporter may connect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipfix_tls_client_ca_file: Option<PathBuf>,
    /// TCP and TLS connections at a time; further ones are refused and counted.
    pub ipfix_sessions_max: usize,
    /// A connection that sends no whole message for so long is closed, in seconds.
    pub ipfix_idle_s: u64,
    /// Threads, each with a socket of its own, that share an address of `listen`; the kernel spreads exporters.
    pub threads_per_socket: usize,
    /// Networks that may send; empty is everybody. The firewall comes first.
    pub allow: Vec<IpNet>,
    /// Datagrams a second that one exporter may send; further ones are dropped and counted, and a TCP or TLS
    /// connection is held back. 0 is no limit.
    pub rate_max: u32,
    /// Datagrams that may come at once beyond that.
    pub rate_burst: u32,
    /// An exporter that sends regularly is called silent when nothing came for so long, in seconds.
    pub silent_after_s: u32,
    /// Wanted size of a socket's queue in the kernel, in octets.
    pub receive_buffer_octets: usize,
    /// Pause after a small batch of datagrams, so that the next is larger, in milliseconds; 0 is none.
    pub nap_ms: u64,
    /// A batch is sealed when it has so many rows.
    pub batch_rows: usize,
    /// A batch is sealed when it is so old, in milliseconds.
    pub batch_ms: u64,
    /// Sealed batches that wait for the log; beyond, rows are dropped and counted.
    pub queue_batches: usize,
    /// The log is synced to the disk at most this often, in milliseconds.
    pub log_sync_ms: u64,
    /// Size of the log, in octets; when it is full, new rows are refused and counted.
    pub log_octets_max: u64,
    /// Size of a file of the log, in octets.
    pub log_segment_octets: u64,
    /// Memory for batches on their way from the log to the next actor, in octets; beyond, files are read.
    pub log_memory_octets: usize,
    /// Time for everything downstream to take what was received before a stop, in milliseconds.
    pub drain_ms: u64,
    /// Other collectors that get the datagrams too.
    pub fan_out: Vec<FanOutConfig>,
    /// How datagrams become rows.
    pub decode: decode::Config,
    /// `[sflow]` of the configuration file.
    #[serde(skip)]
    pub sflow: SflowConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: vec!["0.0.0.0:2055".to_owned()],
            dual_stack: false,
            ipfix_tcp_listen: Vec::new(),
            ipfix_tls_listen: Vec::new(),
            ipfix_tls_certificate_file: None,
            ipfix_tls_key_file: None,
            ipfix_tls_client_ca_file: None,
            ipfix_sessions_max: 256,
            ipfix_idle_s: 1800,
            threads_per_socket: 1,
            allow: Vec::new(),
            rate_max: 0,
            rate_burst: 10_000,
            silent_after_s: 300,
            receive_buffer_octets: 32 << 20,
            nap_ms: 5,
            batch_rows: 4096,
            batch_ms: 50,
            queue_batches: 64,
            log_sync_ms: 50,
            log_octets_max: 8 << 30,
            log_segment_octets: 64 << 20,
            log_memory_octets: 64 << 20,
            drain_ms: 10_000,
            fan_out: Vec::new(),
            decode: decode::Config::default(),
            sflow: SflowConfig::default(),
        }
    }
}

/// `[[collector.fan_out]]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FanOutConfig {
    /// host:port of each.
    pub to: Vec<String>,
    #[serde(default)]
    pub mode: FanOutMode,
    /// The datagrams seem to come from the exporter: needs CAP_NET_RAW. Otherwise they come from this machine.
    #[serde(default = "yes")]
    pub keep_source: bool,
}

fn yes() -> bool {
    true
}

/// Who gets a datagram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FanOutMode {
    /// Every one.
    #[default]
    All,
    /// One after the other.
    RoundRobin,
    /// The same one for all datagrams of an exporter's address.
    ExporterHash,
}

impl Config {
    /// What the types cannot hold.
    pub fn check(&self) -> Result<(), ConfigError> {
        for (setting, listen) in [
            ("collector.ipfix_tcp_listen", &self.ipfix_tcp_listen),
            ("collector.ipfix_tls_listen", &self.ipfix_tls_listen),
        ] {
            for text in listen {
                address(setting, text)?;
            }
        }
        if !self.ipfix_tls_listen.is_empty() {
            tls::server_config(self)?;
        }
        for fan_out in &self.fan_out {
            self.targets(fan_out)?;
        }
        Ok(())
    }

    /// Where a fan-out goes; never to this collector itself.
    pub(crate) fn targets(&self, fan_out: &FanOutConfig) -> Result<Vec<SocketAddr>, ConfigError> {
        if fan_out.to.is_empty() {
            return Err(ConfigError::NoTarget);
        }
        fan_out
            .to
            .iter()
            .map(|text| {
                let wrong = || ConfigError::Target(text.clone());
                let target = text.to_socket_addrs().map_err(|_| wrong())?.next().ok_or_else(wrong)?;
                let target = SocketAddr::new(target.ip().to_canonical(), target.port());
                if target.port() == 0 || target.ip().is_unspecified() {
                    return Err(wrong());
                }
                if self.listens_on(target) {
                    return Err(ConfigError::Loop(text.clone()));
                }
                Ok(target)
            })
            .collect()
    }

    fn listens_on(&self, target: SocketAddr) -> bool {
        let listen = self.listen.iter().chain(&self.sflow.listen).filter_map(|text| text.to_socket_addrs().ok());
        listen.flatten().any(|own| {
            own.port() == target.port()
                && (own.ip().to_canonical() == target.ip() || own.ip().is_unspecified() && is_own(target.ip()))
        })
    }

    /// Networks that may send; those of mapped IPv4 addresses as IPv4.
    pub(crate) fn allowed(&self) -> Vec<IpNet> {
        self.allow.iter().map(|network| canonical(*network)).collect()
    }
}

/// This machine has the address.
fn is_own(ip: IpAddr) -> bool {
    UdpSocket::bind((ip, 0)).is_ok()
}

/// `::ffff:a.b.c.d/n` is `a.b.c.d/(n - 96)`.
fn canonical(network: IpNet) -> IpNet {
    if let IpNet::V6(v6) = network
        && let (Some(v4), Some(length)) = (v6.addr().to_ipv4_mapped(), v6.prefix_len().checked_sub(96))
        && let Ok(v4) = Ipv4Net::new(v4, length)
    {
        return IpNet::V4(v4);
    }
    network
}

pub(crate) fn address(setting: &'static str, text: &str) -> Result<SocketAddr, ConfigError> {
    let found = text.to_socket_addrs().ok().and_then(|mut addresses| addresses.next());
    found.ok_or_else(|| ConfigError::Listen { setting, text: text.to_owned() })
}

/// `[sflow]`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SflowConfig {
    /// UDP addresses for sFlow v5 (the others are understood too).
    pub listen: Vec<String>,
}

impl Default for SflowConfig {
    fn default() -> Self {
        Self { listen: vec!["0.0.0.0:6343".to_owned()] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(listen: &str, to: &str) -> Config {
        let fan_out = FanOutConfig { to: vec![to.to_owned()], mode: FanOutMode::All, keep_source: false };
        Config { listen: vec![listen.to_owned()], fan_out: vec![fan_out], ..Config::default() }
    }

    #[test]
    fn a_fan_out_to_oneself_is_refused() {
        for (listen, to) in [
            ("0.0.0.0:2055", "127.0.0.1:2055"),
            ("[::]:2055", "[::1]:2055"),
            ("127.0.0.1:2055", "127.0.0.1:2055"),
            ("127.0.0.1:2055", "[::ffff:127.0.0.1]:2055"),
        ] {
            let error = with(listen, to).check().unwrap_err().to_string();
            assert!(error.contains("this collector itself"), "{listen} {to}: {error}");
        }
        for (listen, to) in [("127.0.0.1:2055", "127.0.0.1:2056"), ("0.0.0.0:2055", "192.0.2.200:2055")] {
            with(listen, to).check().unwrap();
        }
        for to in ["192.0.2.1", "192.0.2.1:0", "0.0.0.0:2055"] {
            let error = with("127.0.0.1:2055", to).check().unwrap_err().to_string();
            assert!(error.contains("collector.fan_out"), "{to}: {error}");
        }
    }

    #[test]
    fn mapped_networks_are_ipv4() {
        let allow = ["::ffff:192.0.2.0/120", "192.0.2.0/24", "2001:db8::/32", "::/0"];
        let allow: Vec<IpNet> = allow.iter().map(|text| text.parse().unwrap()).collect();
        let allowed = Config { allow: allow.clone(), ..Config::default() }.allowed();
        assert_eq!(allowed, [allow[1], allow[1], allow[2], allow[3]]);
    }
}
