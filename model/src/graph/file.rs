//! The graph from a file: where no router tells it over BGP-LS. The same as `benocs simulate --graph` writes.
//!
//! nodes:    name, system_id (any text that is its own), [asn, router_id_v4, router_id_v6, addresses, overload]
//! links:    local, remote (system_id), metric, [local_v4, remote_v4, local_v6, remote_v6, admin_group,
//!           bandwidth_bits_per_s]; one direction each, and both are needed
//! prefixes: node (system_id), prefix, [metric]

use std::collections::HashSet;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;
use serde::Deserialize;

use super::{FILE, GraphBatch, GraphEvent, Igp, LinkFacts, LinkObject, Name, NodeFacts, NodeKey, Object, PrefixObject};
use crate::address::{Address, Prefix};

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    #[error("node {0:?} is there twice: give each a system_id of its own")]
    Twice(String),
    #[error("{what} {number} is of a node {name:?} that is not there: add it to nodes")]
    NoNode { what: &'static str, number: usize, name: String },
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct GraphFile {
    pub nodes: Vec<FileNode>,
    #[serde(default)]
    pub links: Vec<FileLink>,
    #[serde(default)]
    pub prefixes: Vec<FilePrefix>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct FileNode {
    #[serde(default)]
    pub name: Option<String>,
    pub system_id: String,
    #[serde(default)]
    pub asn: u32,
    pub router_id_v4: Option<Ipv4Addr>,
    pub router_id_v6: Option<Ipv6Addr>,
    /// Further ones that the router is known by.
    #[serde(default)]
    pub addresses: Vec<std::net::IpAddr>,
    #[serde(default)]
    pub overload: bool,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct FileLink {
    pub local: String,
    pub remote: String,
    pub metric: u32,
    pub local_v4: Option<Ipv4Addr>,
    pub remote_v4: Option<Ipv4Addr>,
    pub local_v6: Option<Ipv6Addr>,
    pub remote_v6: Option<Ipv6Addr>,
    pub admin_group: Option<u32>,
    pub bandwidth_bits_per_s: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct FilePrefix {
    pub node: String,
    pub prefix: IpNet,
    #[serde(default)]
    pub metric: u32,
}

impl GraphFile {
    /// All that it says, in the place of what it said before.
    pub fn batch(&self) -> Result<GraphBatch, FileError> {
        let mut known = HashSet::new();
        for node in &self.nodes {
            if !known.insert(node.system_id.as_str()) {
                return Err(FileError::Twice(node.system_id.clone()));
            }
        }
        let key = |what: &'static str, number: usize, name: &str| match known.contains(name) {
            true => Ok(node_key(name)),
            false => Err(FileError::NoNode { what, number, name: name.to_owned() }),
        };
        let mut objects: Vec<(Name, Object)> = Vec::new();
        for node in &self.nodes {
            let v4 = node.router_id_v4.map(Address::from);
            let v6 = node.router_id_v6.map(Address::from);
            let further = node.addresses.iter().copied().map(Address::from);
            let facts = NodeFacts {
                name: node.name.clone(),
                router_ids: v4.into_iter().chain(v6).chain(further).collect(),
                overload: node.overload,
                ..NodeFacts::default()
            };
            objects.push((name("node", &node.system_id), Object::Node(node_key(&node.system_id), facts)));
        }
        for (number, link) in self.links.iter().enumerate() {
            let addresses = |v4: Option<Ipv4Addr>, v6: Option<Ipv6Addr>| {
                v4.map(Address::from).into_iter().chain(v6.map(Address::from)).collect()
            };
            let object = LinkObject {
                from: key("link", number, &link.local)?,
                to: key("link", number, &link.remote)?,
                part: 0,
                topology: 0,
                local: addresses(link.local_v4, link.local_v6),
                remote: addresses(link.remote_v4, link.remote_v6),
                facts: LinkFacts {
                    metric: Some(link.metric),
                    admin_group: link.admin_group,
                    bandwidth_bits_per_s: link.bandwidth_bits_per_s,
                    ..LinkFacts::default()
                },
            };
            objects.push((name("link", &number.to_string()), Object::Link(Box::new(object))));
        }
        for (number, prefix) in self.prefixes.iter().enumerate() {
            let object = PrefixObject {
                node: key("prefix", number, &prefix.node)?,
                prefix: Prefix::new(Address::from(prefix.prefix.addr()), prefix.prefix.prefix_len()),
                topology: 0,
                metric: prefix.metric,
            };
            objects.push((name("prefix", &number.to_string()), Object::Prefix(object)));
        }
        let events =
            vec![GraphEvent::Stale(FILE), GraphEvent::Announce { source: FILE, objects }, GraphEvent::Sweep(FILE)];
        Ok(GraphBatch { events })
    }
}

fn node_key(name: &str) -> NodeKey {
    let id = Arc::from(name.as_bytes());
    NodeKey { igp: Igp::File as u8, instance: 0, asn: 0, ls_id: 0, part: 0, id, pseudonode: false }
}

/// No NLRI begins so.
fn name(kind: &str, of: &str) -> Name {
    Arc::from(format!("file {kind} {of}").as_bytes())
}
