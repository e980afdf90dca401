//! Reference tables: small, published whole, with a generation; written by one
//! owner, read by everybody without a lock.
//!
//! The owner sends a [`TableUpdate`] whenever its table changes; whoever keeps
//! a replica (the same process, or a link's other end) publishes it in
//! [`Tables`]. The route table and the name table are large and have streams of
//! their own ([`crate::route`], `names`).

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};

use crate::network::{Exporters, Interfaces, Labels, Network, Services};
use crate::route::PathEntry;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum TableUpdate {
    /// Owner: netflow00.
    Exporters(Arc<Exporters>),
    /// Owner: ce00.
    Interfaces(Arc<Interfaces>),
    /// Owner: ce00.
    Network(Arc<Network>),
    /// Owner: dns00.
    Services(Arc<Services>),
    /// Path attributes that flow rows refer to by hash; additions only. Owner: process00.
    Paths(Vec<PathEntry>),
    /// AS names; additions and changes. Owner: configuration.
    AsNames(Arc<Vec<(u32, String)>>),
    /// Owner: netflow00.
    Labels(Arc<Labels>),
}

/// Published replicas of the small tables.
#[derive(Debug, Default)]
pub struct Tables {
    pub exporters: ArcSwap<Exporters>,
    pub interfaces: ArcSwap<Interfaces>,
    pub network: ArcSwap<Network>,
    pub services: ArcSwap<Services>,
    pub labels: ArcSwap<Labels>,
    /// Names of autonomous systems by number.
    pub as_names: ArcSwap<HashMap<u32, Arc<str>>>,
}

impl Tables {
    /// Publishes what is newer than the replica; true where it was.
    pub fn apply(&self, update: &TableUpdate) -> bool {
        macro_rules! publish {
            ($slot:expr, $table:expr) => {{
                let newer = $table.generation > $slot.load().generation;
                if newer {
                    $slot.store($table.clone());
                }
                newer
            }};
        }
        match update {
            TableUpdate::Exporters(table) => publish!(self.exporters, table),
            TableUpdate::Interfaces(table) => publish!(self.interfaces, table),
            TableUpdate::Network(table) => publish!(self.network, table),
            TableUpdate::Services(table) => publish!(self.services, table),
            TableUpdate::Labels(table) => publish!(self.labels, table),
            TableUpdate::Paths(_) => true,
            TableUpdate::AsNames(names) => {
                let mut table = HashMap::clone(&self.as_names.load());
                table.extend(names.iter().map(|(asn, name)| (*asn, Arc::from(name.as_str()))));
                self.as_names.store(Arc::new(table));
                true
            }
        }
    }

    /// Publishes a whole table whatever its generation: the replica follows one that has the say, also after that began anew.
    pub fn replace(&self, update: &TableUpdate) {
        match update {
            TableUpdate::Exporters(table) => self.exporters.store(table.clone()),
            TableUpdate::Interfaces(table) => self.interfaces.store(table.clone()),
            TableUpdate::Network(table) => self.network.store(table.clone()),
            TableUpdate::Services(table) => self.services.store(table.clone()),
            TableUpdate::Labels(table) => self.labels.store(table.clone()),
            additions => {
                self.apply(additions);
            }
        }
    }
}
