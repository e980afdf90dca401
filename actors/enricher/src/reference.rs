//! The small tables, indexed for the join: which router an address is, which
//! interface an ifIndex, which neighbour is behind it, which interface leads to a
//! next hop.
//!
//! Routers and exporters are *sites* here: numbers of this index, which is built
//! anew when a table changes. An exporter that no table knows is a site too.

use std::net::IpAddr;

use ahash::{AHashMap, AHashSet};
use benocs_model::address::{Address, Prefix};
use benocs_model::network::{Boundary, Interfaces, Network};

/// Number of a router or exporter in this index.
pub type SiteId = u32;

#[derive(Clone, Debug, Default)]
pub struct Site {
    /// Id in the router table.
    pub router: Option<u32>,
    pub addresses: Vec<Address>,
    /// Interface behind which a neighbour AS is; `None` where several are.
    by_neighbour: AHashMap<u32, Option<u32>>,
}

/// What is known of (exporter, ifIndex).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortInfo {
    /// Id of the interface's version that is valid now.
    pub interface: Option<u32>,
    pub boundary: Boundary,
    /// AS at the other end.
    pub neighbour: Option<u32>,
    /// Own router at the other end of an internal link.
    pub far: Option<SiteId>,
}

impl PortInfo {
    pub const UNKNOWN: Self = Self { interface: None, boundary: Boundary::Unknown, neighbour: None, far: None };
}

/// An interface in a subnet.
#[derive(Clone, Copy, Debug)]
struct LanPort {
    site: SiteId,
    exporter: Address,
    if_index: u32,
    interface: u32,
    boundary: Boundary,
}

/// Where traffic goes next, seen from a site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Out of the network, at this site; over this interface where it is known.
    Leaves {
        site: SiteId,
        interface: Option<u32>,
        ambiguous: bool,
    },
    /// To this router.
    Router(SiteId),
    Unknown,
}

#[derive(Clone, Debug)]
enum NextHop {
    Router(SiteId),
    /// External ports of the subnet.
    Lan(Vec<(SiteId, u32)>),
    Unknown,
}

#[derive(Debug, Default)]
pub struct Reference {
    own_as: Vec<u32>,
    own_prefixes: Vec<Prefix>,
    sites: Vec<Site>,
    site_of: AHashMap<Address, SiteId>,
    ports: AHashMap<(Address, u32), PortInfo>,
    lans: AHashMap<Prefix, Vec<LanPort>>,
    /// Prefix lengths that occur, longest first: IPv4, IPv6.
    lan_lens: [Vec<u8>; 2],
    next_hops: AHashMap<Address, NextHop>,
}

impl NextHop {
    fn step(&self, site: SiteId, inward: bool) -> Step {
        match self {
            NextHop::Router(at) if *at == site => Step::Leaves { site, interface: None, ambiguous: false },
            NextHop::Router(at) => Step::Router(*at),
            NextHop::Lan(ports) => {
                let own = ports.iter().find(|(at, _)| *at == site).filter(|_| !inward);
                let other = || ports.iter().find(|(at, _)| *at != site);
                match own.or_else(other).or(ports.first()) {
                    Some((at, interface)) => Step::Leaves {
                        site: *at,
                        interface: Some(*interface),
                        ambiguous: own.is_none() && ports.iter().any(|(more, _)| more != at && *more != site),
                    },
                    None => Step::Unknown,
                }
            }
            NextHop::Unknown => Step::Unknown,
        }
    }
}

/// Next hops remembered.
const NEXT_HOPS_MAX: usize = 1 << 20;

impl Reference {
    /// `bgp_next_hops` are distinct (next hop, first AS) of the routes; `local_as` stands in for
    /// an own AS that no table names.
    pub fn new(
        network: &Network,
        interfaces: &Interfaces,
        bgp_next_hops: impl Iterator<Item = (Address, u32)>,
        local_as: Option<u32>,
    ) -> Self {
        let mut reference = Self {
            own_as: if network.own_as.is_empty() { local_as.into_iter().collect() } else { network.own_as.clone() },
            own_prefixes: network.own_prefixes.clone(),
            ..Self::default()
        };
        for router in &network.routers {
            let site = reference.sites.len() as SiteId;
            for address in &router.addresses {
                reference.site_of.entry(*address).or_insert(site);
            }
            let addresses = router.addresses.clone();
            reference.sites.push(Site { router: Some(router.id), addresses, ..Site::default() });
        }
        reference.add_interfaces(interfaces);
        reference.link_internal();
        reference.add_neighbours(network, bgp_next_hops);
        reference
    }

    fn add_interfaces(&mut self, interfaces: &Interfaces) {
        for row in interfaces.rows.iter().filter(|row| row.valid_to.is_none()) {
            let site = self.site(row.exporter);
            let boundary = Boundary::from_code(row.boundary).unwrap_or(Boundary::Unknown);
            let info = PortInfo { interface: Some(row.id), boundary, neighbour: row.remote_as, ..PortInfo::UNKNOWN };
            self.ports.insert((row.exporter, row.if_index), info);
            for (address, len) in row.addresses.iter().filter(|(address, _)| !is_everywhere(*address)) {
                let owner = *self.site_of.entry(*address).or_insert(site);
                if owner == site && !self.sites[site as usize].addresses.contains(address) {
                    self.sites[site as usize].addresses.push(*address);
                }
                let v4 = address.is_v4();
                if *len < if v4 { 32 } else { 128 } {
                    let lens = &mut self.lan_lens[usize::from(!v4)];
                    if !lens.contains(len) {
                        lens.push(*len);
                    }
                    self.lans.entry(Prefix::new(*address, *len)).or_default().push(LanPort {
                        site,
                        exporter: row.exporter,
                        if_index: row.if_index,
                        interface: row.id,
                        boundary,
                    });
                }
            }
        }
        self.lan_lens.iter_mut().for_each(|lens| lens.sort_unstable_by(|a, b| b.cmp(a)));
    }

    /// Two sites in one internal subnet are each other's far end.
    fn link_internal(&mut self) {
        for lan in self.lans.values() {
            for port in lan.iter().filter(|port| port.boundary == Boundary::Internal) {
                let far = lan.iter().find(|other| other.site != port.site).map(|other| other.site);
                if let (Some(far), Some(info)) = (far, self.ports.get_mut(&(port.exporter, port.if_index))) {
                    info.far = Some(far);
                }
            }
        }
    }

    /// Whose AS is behind an interface: who the inventory says, else the one AS whose next hops lie in its subnet.
    fn add_neighbours(&mut self, network: &Network, bgp_next_hops: impl Iterator<Item = (Address, u32)>) {
        let mut seen: AHashMap<(Address, u32), Option<u32>> = AHashMap::new();
        for (next_hop, asn) in bgp_next_hops {
            if asn == 0 || self.own_as.contains(&asn) || self.site_of.contains_key(&next_hop) {
                continue;
            }
            for port in self.lan(next_hop).unwrap_or_default() {
                if port.boundary != Boundary::Internal {
                    let unique = seen.entry((port.exporter, port.if_index)).or_insert(Some(asn));
                    if *unique != Some(asn) {
                        *unique = None;
                    }
                }
            }
        }
        for (port, asn) in seen {
            if let Some(info) = self.ports.get_mut(&port) {
                info.neighbour = info.neighbour.or(asn);
            }
        }
        for neighbour in &network.neighbours {
            let port = (neighbour.exporter, neighbour.if_index);
            self.ports.entry(port).or_insert(PortInfo::UNKNOWN).neighbour = Some(neighbour.remote_as);
        }
        let mut met: AHashSet<(SiteId, u32, u32)> = AHashSet::new();
        for ((exporter, _), info) in &self.ports {
            let site = self.site_of.get(exporter).and_then(|site| self.sites.get_mut(*site as usize).zip(Some(*site)));
            if let (Some((site, number)), Some(asn), Some(interface)) = (site, info.neighbour, info.interface)
                && met.insert((number, asn, interface))
            {
                site.by_neighbour.entry(asn).and_modify(|one| *one = None).or_insert(Some(interface));
            }
        }
    }

    /// The subnet that holds the address.
    fn lan(&self, address: Address) -> Option<&[LanPort]> {
        let lens = &self.lan_lens[usize::from(!address.is_v4())];
        lens.iter().find_map(|len| self.lans.get(&Prefix::new(address, *len))).map(Vec::as_slice)
    }

    /// The site's own interface in whose subnet the address lies: where a router sends what it routes to itself.
    pub fn connected(&self, site: SiteId, address: Address) -> Option<u32> {
        let lens = &self.lan_lens[usize::from(!address.is_v4())];
        let own = |len: &u8| self.lans.get(&Prefix::new(address, *len))?.iter().find(|port| port.site == site);
        lens.iter().find_map(own).filter(|port| port.boundary != Boundary::Internal).map(|port| port.interface)
    }

    /// The site of an exporter; a new one where nothing knows it.
    pub fn site(&mut self, exporter: Address) -> SiteId {
        *self.site_of.entry(exporter).or_insert_with(|| {
            self.sites.push(Site { addresses: vec![exporter], ..Site::default() });
            (self.sites.len() - 1) as SiteId
        })
    }

    pub fn get(&self, site: SiteId) -> &Site {
        &self.sites[site as usize]
    }

    pub fn sites(&self) -> usize {
        self.sites.len()
    }

    pub fn port(&self, exporter: Address, if_index: u32) -> PortInfo {
        self.ports.get(&(exporter, if_index)).copied().unwrap_or(PortInfo::UNKNOWN)
    }

    /// The own AS; 0 where nothing names it.
    pub fn own_as(&self) -> u32 {
        self.own_as.first().copied().unwrap_or(0)
    }

    pub fn is_own(&self, address: Address) -> bool {
        self.own_prefixes.iter().any(|prefix| prefix.contains(address))
    }

    /// The site's interface to a neighbour, where there is just one.
    pub fn interface_to(&self, site: SiteId, neighbour: u32) -> Option<u32> {
        self.sites[site as usize].by_neighbour.get(&neighbour).copied().flatten()
    }

    /// Where a packet at `site` with this BGP next hop goes; `inward` says that it went on over an internal
    /// interface, so that of a subnet that several routers share it is another's.
    pub fn step(&mut self, site: SiteId, next_hop: Address, inward: bool) -> Step {
        if let Some(known) = self.next_hops.get(&next_hop) {
            return known.step(site, inward);
        }
        if self.next_hops.len() >= NEXT_HOPS_MAX {
            self.next_hops.clear();
        }
        let found = self.find_next_hop(next_hop);
        let step = found.step(site, inward);
        self.next_hops.insert(next_hop, found);
        step
    }

    fn find_next_hop(&self, next_hop: Address) -> NextHop {
        if let Some(site) = self.site_of.get(&next_hop) {
            return NextHop::Router(*site);
        }
        let ports: Vec<(SiteId, u32)> = self
            .lan(next_hop)
            .unwrap_or_default()
            .iter()
            .filter(|port| port.boundary != Boundary::Internal)
            .map(|port| (port.site, port.interface))
            .collect();
        if ports.is_empty() { NextHop::Unknown } else { NextHop::Lan(ports) }
    }
}

/// Addresses that every router has: they tell none apart, and no next hop is behind them.
fn is_everywhere(address: Address) -> bool {
    match address.ip() {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_link_local() || v4.is_unspecified(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unicast_link_local() || v6.is_unspecified(),
    }
}

#[cfg(test)]
mod tests {
    use benocs_model::network::{Interface, Neighbour, Router};

    use super::*;

    fn address(text: &str) -> Address {
        Address::from(text.parse::<std::net::IpAddr>().expect("an address"))
    }

    fn interface(id: u32, exporter: &str, if_index: u32, boundary: Boundary, own: &str, len: u8) -> Interface {
        Interface {
            id,
            exporter: address(exporter),
            if_index,
            name: String::new(),
            description: String::new(),
            speed: 0,
            connectivity: 0,
            boundary: boundary as u8,
            provider: None,
            remote_as: None,
            addresses: vec![(address(own), len)],
            valid_from: 0,
            valid_to: None,
        }
    }

    fn router(id: u32, addresses: &[&str]) -> Router {
        let addresses = addresses.iter().map(|text| address(text)).collect();
        Router { id, name: String::new(), addresses, vendor: None }
    }

    fn reference(neighbours: Vec<Neighbour>) -> Reference {
        let network = Network {
            generation: 1,
            own_as: vec![64500, 64499],
            own_prefixes: vec![Prefix::new(address("198.51.100.0"), 24)],
            routers: vec![router(10, &["10.0.0.1"]), router(20, &["10.0.0.2", "2001:db8::2"])],
            neighbours,
        };
        let old = Interface { valid_to: Some(5), ..interface(99, "10.0.0.1", 1, Boundary::Internal, "192.0.2.9", 30) };
        let interfaces = Interfaces {
            generation: 1,
            rows: vec![
                interface(1, "10.0.0.1", 1, Boundary::External, "192.0.2.1", 30),
                interface(2, "10.0.0.1", 2, Boundary::Internal, "10.1.0.1", 31),
                interface(3, "10.0.0.2", 1, Boundary::Internal, "10.1.0.0", 31),
                interface(4, "10.0.0.2", 2, Boundary::External, "203.0.113.2", 24),
                interface(5, "10.0.0.2", 3, Boundary::External, "192.0.2.5", 30),
                old,
            ],
        };
        let next_hops = [
            (address("192.0.2.2"), 64511),
            (address("203.0.113.7"), 64512),
            (address("203.0.113.8"), 64513),
            (address("10.0.0.2"), 64514),
            (address("192.0.2.6"), 64500),
        ];
        Reference::new(&network, &interfaces, next_hops.into_iter(), Some(1))
    }

    #[test]
    fn interfaces_routers_and_links_are_found() {
        let mut reference = reference(Vec::new());
        let one = reference.site(address("10.0.0.1"));
        let two = reference.site(address("2001:db8::2"));
        assert_eq!((reference.get(one).router, reference.get(two).router), (Some(10), Some(20)));
        assert_eq!(reference.port(address("10.0.0.1"), 1).interface, Some(1), "the version that is valid");
        assert_eq!(reference.port(address("10.0.0.1"), 2).far, Some(two));
        assert_eq!(reference.port(address("10.0.0.9"), 2), PortInfo::UNKNOWN);
        assert_eq!(reference.own_as(), 64500);
        assert!(reference.is_own(address("198.51.100.77")) && !reference.is_own(address("198.51.101.1")));
        let stranger = reference.site(address("10.0.0.9"));
        assert_eq!(reference.get(stranger).router, None);
        assert_eq!(reference.site(address("10.0.0.9")), stranger);
    }

    #[test]
    fn one_next_hop_in_the_subnet_names_the_neighbour_and_several_do_not() {
        let reference = reference(Vec::new());
        assert_eq!(reference.port(address("10.0.0.1"), 1).neighbour, Some(64511));
        assert_eq!(reference.port(address("10.0.0.2"), 2).neighbour, None, "an exchange");
        assert_eq!(reference.port(address("10.0.0.2"), 3).neighbour, None, "the own AS is no neighbour");
    }

    #[test]
    fn configured_neighbours_win() {
        let exchange = Neighbour { exporter: address("10.0.0.2"), if_index: 2, remote_as: 64520 };
        let mut reference = reference(vec![exchange]);
        assert_eq!(reference.port(address("10.0.0.2"), 2).neighbour, Some(64520));
        let two = reference.site(address("10.0.0.2"));
        assert_eq!(reference.interface_to(two, 64520), Some(4));
        assert_eq!(reference.interface_to(two, 64511), None);
    }

    #[test]
    fn a_description_names_the_neighbour_before_next_hops_do() {
        let described =
            Interface { remote_as: Some(64599), ..interface(1, "10.0.0.1", 1, Boundary::External, "192.0.2.1", 30) };
        let interfaces = Interfaces { generation: 1, rows: vec![described] };
        let next_hops = [(address("192.0.2.2"), 64511)];
        let reference = Reference::new(&Network::default(), &interfaces, next_hops.into_iter(), Some(64500));
        assert_eq!(reference.port(address("10.0.0.1"), 1).neighbour, Some(64599));
        assert_eq!(reference.own_as(), 64500, "the speaker's, where no table names one");
    }

    #[test]
    fn steps_follow_next_hops() {
        let mut reference = reference(Vec::new());
        let one = reference.site(address("10.0.0.1"));
        let two = reference.site(address("10.0.0.2"));
        assert_eq!(reference.step(one, address("10.0.0.2"), false), Step::Router(two));
        assert_eq!(reference.step(one, address("10.1.0.0"), false), Step::Router(two), "by an interface's address");
        let here = Step::Leaves { site: one, interface: None, ambiguous: false };
        assert_eq!(reference.step(one, address("10.0.0.1"), false), here);
        let exchange = Step::Leaves { site: two, interface: Some(4), ambiguous: false };
        assert_eq!(reference.step(two, address("203.0.113.7"), false), exchange);
        assert_eq!(
            reference.step(one, address("203.0.113.7"), false),
            exchange,
            "next hops that are kept as they were"
        );
        assert_eq!(reference.step(one, address("100.64.0.1"), false), Step::Unknown);
        let inward = Step::Leaves { site: two, interface: Some(4), ambiguous: false };
        assert_eq!(reference.step(two, address("203.0.113.7"), true), inward, "nobody else is at that exchange");
    }
}
