//! The state of the feeds, as `/api/v1/status` and `benocs status --json` give it.
//!
//! The composition root fills it from what the actors report; a list that no
//! actor of this process fills stays empty, and the page leaves it out.

use serde::{Deserialize, Serialize};

/// How something does; the page colours it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    Good,
    /// It works, and somebody should look.
    Attention,
    Bad,
    /// Not configured, or nothing came yet.
    #[default]
    Off,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    pub version: String,
    pub role: String,
    pub now_ms: i64,
    pub started_ms: i64,
    /// End of the newest data in the store.
    pub newest_ms: Option<i64>,
    /// `flows`, `bgp`, `snmp`, `dnstap`, `store`, `links`: what an operator connects.
    pub feeds: Vec<Feed>,
    pub exporters: Vec<Exporter>,
    pub bgp_peers: Vec<BgpPeer>,
    pub snmp_targets: Vec<SnmpTarget>,
    pub resolvers: Vec<Resolver>,
    pub store: Option<Store>,
    pub links: Vec<Link>,
    /// Everything that was lost, by who lost it and why.
    pub losses: Vec<Loss>,
    pub mailboxes: Vec<Mailbox>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Feed {
    pub name: String,
    pub title: String,
    pub health: Health,
    /// What there is: "412 k records/s of 12 exporters".
    pub summary: String,
    /// What is wrong, and what to do; empty where nothing is.
    pub problem: String,
    pub last_ms: Option<i64>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Exporter {
    pub address: String,
    pub name: Option<String>,
    /// `netflow9`, `ipfix`, ...
    pub protocol: String,
    pub records: u64,
    pub datagrams: u64,
    pub records_per_s: Option<f64>,
    pub datagrams_per_s: Option<f64>,
    /// Datagrams or records that its sequence numbers miss.
    pub lost: u64,
    /// What was received of it and is no row, by cause.
    pub dropped: std::collections::BTreeMap<String, u64>,
    /// It sent regularly, and does not any more.
    pub silent: bool,
    pub templates: u64,
    /// Sets that wait for a template.
    pub waiting: u64,
    /// 1:N; `None` is unknown and counted as 1:1.
    pub sampling: Option<f64>,
    /// `record`, `options`, `header`, `configuration`.
    pub sampling_source: String,
    pub last_ms: Option<i64>,
    pub health: Health,
    pub problem: String,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct BgpPeer {
    pub name: String,
    pub address: String,
    /// `bgp`, a session; `bmp`, a table of a router that monitors; `bmp-router`, such a router; `file`.
    pub source: String,
    pub remote_as: u32,
    /// RFC 4271 8.2.2: `idle`, `connect`, `active`, `open_sent`, `open_confirm`, `established`.
    pub state: String,
    pub since_ms: Option<i64>,
    pub routes_v4: u64,
    pub routes_v6: u64,
    pub updates: u64,
    pub health: Health,
    pub problem: String,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SnmpTarget {
    pub name: String,
    pub address: String,
    pub interfaces: u64,
    pub polls: u64,
    pub failures: u64,
    pub last_ms: Option<i64>,
    pub health: Health,
    pub problem: String,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Resolver {
    pub name: String,
    pub address: String,
    pub connected: bool,
    pub answers: u64,
    pub names: u64,
    pub last_ms: Option<i64>,
    pub health: Health,
    pub problem: String,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Store {
    pub rows: u64,
    pub files: u64,
    pub octets: u64,
    pub oldest_ms: Option<i64>,
    pub newest_ms: Option<i64>,
    /// Octets of the segment log that the store has not taken over yet.
    pub log_octets: u64,
    pub disk_free_octets: Option<u64>,
    pub health: Health,
    pub problem: String,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Link {
    pub name: String,
    pub peer: String,
    pub connected: bool,
    pub batches: u64,
    pub waiting: u64,
    pub last_ms: Option<i64>,
    pub health: Health,
    pub problem: String,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Loss {
    pub actor: String,
    pub cause: String,
    pub count: u64,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Mailbox {
    pub actor: String,
    pub batches: u64,
    pub capacity: u64,
}
