//! Exporters, interfaces, routers, services: who and what the ids in a flow row are.
//!
//! An id is given once, by the machine that owns the table, and kept for ever.
//! An interface whose ifIndex, name or description changes gets a new version
//! with a new id; the old one keeps its validity.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::address::{Address, Prefix};
use crate::flow::codes;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Exporter {
    pub id: u32,
    pub address: Address,
    /// From configuration; a router's sysName is in [`Router`].
    pub name: Option<String>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Exporters {
    pub generation: u64,
    pub rows: Vec<Exporter>,
}

codes! {
    /// What is behind an interface.
    Connectivity {
        Unknown = 0 "unknown", Transit = 1 "transit", Peering = 2 "peering", Exchange = 3 "exchange",
        Customer = 4 "customer", Core = 5 "core", Cache = 6 "cache",
    }
}

codes! {
    /// Whether traffic that comes over the interface enters the network there.
    Boundary { Unknown = 0 "unknown", External = 1 "external", Internal = 2 "internal" }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interface {
    /// Of this version of the interface.
    pub id: u32,
    /// Address of the exporter it belongs to.
    pub exporter: Address,
    pub if_index: u32,
    pub name: String,
    /// ifAlias, else ifDescr.
    pub description: String,
    /// Bits a second; 0 is unknown.
    pub speed: u64,
    /// [`Connectivity`] and [`Boundary`] by code.
    pub connectivity: u8,
    pub boundary: u8,
    pub provider: Option<String>,
    /// AS of the neighbour behind it, where configuration or description names one.
    pub remote_as: Option<u32>,
    /// Its addresses with their subnets (IP-MIB).
    pub addresses: Vec<(Address, u8)>,
    /// Unix ms; `None` is now.
    pub valid_from: i64,
    pub valid_to: Option<i64>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Interfaces {
    pub generation: u64,
    pub rows: Vec<Interface>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Router {
    pub id: u32,
    pub name: String,
    /// Exporter address, BGP session address, BGP identifier, loopbacks, interface addresses.
    pub addresses: Vec<Address>,
    pub vendor: Option<String>,
}

/// Routers, and whose neighbour is behind which interface.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Network {
    pub generation: u64,
    /// The own AS, and further ones that count as own.
    pub own_as: Vec<u32>,
    pub own_prefixes: Vec<Prefix>,
    pub routers: Vec<Router>,
    /// Neighbour AS by (exporter address, ifIndex), where configuration or inventory names one.
    pub neighbours: Vec<Neighbour>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Neighbour {
    pub exporter: Address,
    pub if_index: u32,
    pub remote_as: u32,
}

impl Network {
    /// Router id by any of its addresses.
    pub fn router_index(&self) -> HashMap<Address, u32> {
        self.routers.iter().flat_map(|router| router.addresses.iter().map(|address| (*address, router.id))).collect()
    }
}

codes! {
    /// What an exporter gave a name to.
    LabelKind { Interface = 1 "interface", Vrf = 2 "vrf", Application = 3 "application" }
}

/// A name that an exporter gave to a number of its own, in options records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Label {
    pub exporter: Address,
    /// [`LabelKind`] by code.
    pub kind: u8,
    /// ifIndex, VRF id, or application id as in the flow row.
    pub number: u64,
    pub name: String,
    /// Empty where there is none.
    pub description: String,
}

/// Sorted by exporter, kind and number.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Labels {
    pub generation: u64,
    pub rows: Vec<Label>,
}

impl Labels {
    pub fn find(&self, exporter: Address, kind: LabelKind, number: u64) -> Option<&Label> {
        let key = (exporter, kind as u8, number);
        let at = self.rows.binary_search_by_key(&key, |row| (row.exporter, row.kind, row.number)).ok()?;
        self.rows.get(at)
    }

    /// Of one exporter, of one kind.
    pub fn of(&self, exporter: Address, kind: LabelKind) -> &[Label] {
        let from = self.rows.partition_point(|row| (row.exporter, row.kind) < (exporter, kind as u8));
        let rows = &self.rows[from..];
        &rows[..rows.partition_point(|row| (row.exporter, row.kind) == (exporter, kind as u8))]
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Service {
    pub id: u32,
    pub name: String,
    pub provider: Option<String>,
    pub category: Option<String>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Services {
    pub generation: u64,
    pub rows: Vec<Service>,
}
