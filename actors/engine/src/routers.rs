//! Routers, joined over their addresses.
//!
//! A router is known by several: where its flows come from, its BGP session, its
//! BGP identifier, its interfaces. Two that turn out to share one are one, and
//! keep the id of the older. Addresses that every machine has (loopback proper,
//! link-local) join nothing; an interface address that two routers have
//! (a gateway's virtual one) belongs to neither.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use benocs_model::address::Address;
use benocs_model::network::Router;
use serde::{Deserialize, Serialize};

/// Who named the router; the later wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum NameSource {
    Address,
    /// The IGP's name of it.
    Igp,
    SysName,
    Configuration,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    pub id: u32,
    pub name: String,
    pub name_source: NameSource,
    /// What it is known by: exporter, session, identifier.
    pub identities: BTreeSet<Address>,
    /// Of its interfaces.
    pub interfaces: BTreeSet<Address>,
    pub vendor: Option<String>,
}

#[derive(Debug, Default)]
pub struct Routers {
    entries: BTreeMap<u32, Entry>,
    by_identity: HashMap<Address, u32>,
    next: u32,
}

/// True for an address that tells a router from another.
fn tells(address: Address) -> bool {
    match address.ip() {
        std::net::IpAddr::V4(v4) => {
            !v4.is_unspecified() && v4.octets() != [127, 0, 0, 1] && !v4.is_link_local() && !v4.is_broadcast()
        }
        std::net::IpAddr::V6(v6) => !v6.is_unspecified() && !v6.is_loopback() && v6.segments()[0] & 0xffc0 != 0xfe80,
    }
}

impl Routers {
    /// As it was kept over a restart.
    pub fn restore(entries: impl IntoIterator<Item = Entry>) -> Self {
        let mut routers = Self::default();
        for entry in entries {
            routers.next = routers.next.max(entry.id);
            routers.by_identity.extend(entry.identities.iter().map(|address| (*address, entry.id)));
            routers.entries.insert(entry.id, entry);
        }
        routers
    }

    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// The router with this identity, made if there is none. An address that tells nothing makes none.
    pub fn identify(&mut self, address: Address) -> Option<u32> {
        // An exporter at 127.0.0.1 is a router too; it just joins nothing else.
        if let Some(id) = self.by_identity.get(&address) {
            return Some(*id);
        }
        if address == Address::UNSPECIFIED {
            return None;
        }
        let owner = self.entries.values().find(|entry| tells(address) && entry.interfaces.contains(&address));
        let id = match owner {
            Some(owner) => owner.id,
            None => {
                self.next += 1;
                let entry = Entry {
                    id: self.next,
                    name: address.to_string(),
                    name_source: NameSource::Address,
                    identities: BTreeSet::new(),
                    interfaces: BTreeSet::new(),
                    vendor: None,
                };
                self.entries.insert(self.next, entry);
                self.next
            }
        };
        self.by_identity.insert(address, id);
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.identities.insert(address);
        }
        Some(id)
    }

    /// Both addresses are the same router's.
    pub fn join(&mut self, one: Address, other: Address) {
        if !tells(other) {
            return;
        }
        let (Some(one), Some(other)) = (self.identify(one), self.identify(other)) else { return };
        self.merge(one, other);
    }

    fn merge(&mut self, one: u32, other: u32) {
        let (kept, gone) = (one.min(other), one.max(other));
        if kept == gone {
            return;
        }
        let Some(gone) = self.entries.remove(&gone) else { return };
        self.by_identity.extend(gone.identities.iter().map(|address| (*address, kept)));
        if let Some(entry) = self.entries.get_mut(&kept) {
            if gone.name_source > entry.name_source {
                (entry.name, entry.name_source) = (gone.name, gone.name_source);
            }
            entry.identities.extend(gone.identities);
            entry.interfaces.extend(gone.interfaces);
            entry.vendor = entry.vendor.take().or(gone.vendor);
        }
    }

    /// A node of the graph is the router that has the address: its router ids are that one's too.
    pub fn joins_node(&mut self, one: Address, router_ids: &[Address], name: Option<&str>) {
        for router_id in router_ids {
            self.join(one, *router_id);
        }
        if let Some(name) = name {
            self.name(one, name, NameSource::Igp);
        }
    }

    pub fn name(&mut self, address: Address, name: &str, source: NameSource) {
        let Some(id) = self.identify(address) else { return };
        if let Some(entry) = self.entries.get_mut(&id)
            && source >= entry.name_source
            && !name.is_empty()
        {
            (entry.name, entry.name_source) = (name.to_owned(), source);
        }
    }

    pub fn describe(&mut self, address: Address, vendor: Option<String>) {
        let Some(id) = self.identify(address) else { return };
        if let (Some(entry), Some(vendor)) = (self.entries.get_mut(&id), vendor) {
            entry.vendor = Some(vendor);
        }
    }

    /// All interface addresses of the router whose exporter address this is.
    pub fn interfaces(&mut self, exporter: Address, addresses: impl IntoIterator<Item = Address>) {
        let Some(id) = self.identify(exporter) else { return };
        let addresses: BTreeSet<Address> = addresses.into_iter().filter(|address| tells(*address)).collect();
        // An interface that is another's identity: it was the same router all along.
        let same: Vec<u32> = addresses.iter().filter_map(|address| self.by_identity.get(address).copied()).collect();
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.interfaces = addresses;
        }
        let mut kept = id;
        for other in same {
            self.merge(kept, other);
            kept = kept.min(other);
        }
    }

    /// As they are published.
    pub fn table(&self) -> Vec<Router> {
        let mut owners: HashMap<Address, u32> = HashMap::new();
        for entry in self.entries.values() {
            entry.interfaces.iter().for_each(|address| *owners.entry(*address).or_default() += 1);
        }
        let alone = |address: &&Address| owners.get(*address) == Some(&1) && !self.by_identity.contains_key(*address);
        self.entries
            .values()
            .map(|entry| Router {
                id: entry.id,
                name: entry.name.clone(),
                addresses: entry.identities.iter().chain(entry.interfaces.iter().filter(alone)).copied().collect(),
                vendor: entry.vendor.clone(),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        Address::from(text.parse::<std::net::IpAddr>().expect("an address"))
    }

    #[test]
    fn addresses_that_meet_make_one_router_with_the_older_id() {
        let mut routers = Routers::default();
        routers.name(address("192.0.2.1"), "r1", NameSource::Configuration);
        routers.identify(address("198.51.100.1"));
        assert_eq!(routers.table().len(), 2);
        // SNMP of the first shows that the second is one of its interfaces.
        routers.interfaces(address("192.0.2.1"), [address("198.51.100.1"), address("127.0.0.1"), address("10.0.0.1")]);
        let table = routers.table();
        assert_eq!((table.len(), table[0].id, table[0].name.as_str()), (1, 1, "r1"));
        assert_eq!(table[0].addresses.len(), 3, "{:?}", table[0].addresses);
        routers.name(address("198.51.100.1"), "sysname", NameSource::SysName);
        assert_eq!(routers.table()[0].name, "r1", "configuration wins");
        // What comes later at an interface address is the same router.
        assert_eq!(routers.identify(address("10.0.0.1")), Some(1));
    }

    #[test]
    fn a_node_of_the_graph_brings_its_loopbacks_and_a_name() {
        let mut routers = Routers::default();
        routers.identify(address("192.0.2.1"));
        routers.join(address("192.0.2.2"), address("10.0.0.1"));
        // Exporter and session turn out to be one router: both are the node's.
        let loopbacks = [address("10.0.0.1"), address("2001:db8::1")];
        routers.joins_node(address("192.0.2.1"), &loopbacks, Some("core1"));
        let table = routers.table();
        assert_eq!((table.len(), table[0].name.as_str(), table[0].addresses.len()), (1, "core1", 4), "{table:?}");
        routers.name(address("192.0.2.2"), "core1.example", NameSource::SysName);
        routers.joins_node(address("192.0.2.1"), &loopbacks, Some("core1"));
        assert_eq!(routers.table()[0].name, "core1.example", "SNMP's name wins");
    }

    #[test]
    fn what_every_machine_has_joins_nothing() {
        let mut routers = Routers::default();
        for exporter in ["192.0.2.1", "192.0.2.2"] {
            let own = ["127.0.0.1", "::1", "fe80::1", "10.9.9.9"].map(address);
            routers.interfaces(address(exporter), own);
        }
        let table = routers.table();
        assert_eq!(table.len(), 2);
        assert!(
            table.iter().all(|router| router.addresses.len() == 1),
            "a shared virtual address is nobody's: {table:?}"
        );
    }

    #[test]
    fn a_restart_keeps_ids() {
        let mut routers = Routers::default();
        routers.name(address("192.0.2.1"), "r1", NameSource::Configuration);
        routers.join(address("192.0.2.2"), address("10.0.0.2"));
        let mut again = Routers::restore(routers.entries().cloned());
        assert_eq!(again.table(), routers.table());
        assert_eq!(again.identify(address("10.0.0.2")), Some(2));
        assert_eq!(again.identify(address("192.0.2.3")), Some(3));
    }
}
