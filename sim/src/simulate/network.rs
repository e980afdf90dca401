//! The provider: points of presence, routers, links, interfaces, neighbours, and
//! who owns which addresses. Built from a seed; the same seed builds the same.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};
use rand::seq::{IndexedRandom as _, SliceRandom as _};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::Scale;
use crate::as_table::{AsTable, Kind};

pub type RouterId = usize;
pub type IfId = usize;
pub type GroupId = usize;
pub type NeighbourId = usize;

/// How a router exports flows and sets next hops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Vendor {
    /// Version 9: templates and options first, sampler ids; next-hop-self.
    CiscoXr,
    /// IPFIX: data first, templates after; sampling in options.
    Juniper,
    /// IPFIX: templates between data, both directions; sampling as interval and space.
    Nokia,
    /// Version 9: sampling in each record; next-hop-self.
    Huawei,
    /// Version 5, and version 9 for IPv6; sampling in the header; next-hop-self.
    CiscoIos,
    /// sFlow.
    Arista,
}

impl Vendor {
    /// Replaces the next hop of what its neighbours told by its own address.
    pub fn next_hop_self(self) -> bool {
        matches!(self, Vendor::CiscoXr | Vendor::Huawei | Vendor::CiscoIos)
    }

    pub fn description(self) -> &'static str {
        match self {
            Vendor::CiscoXr => "Cisco IOS XR Software (ASR9K), Version 7.9.2",
            Vendor::Juniper => "Juniper Networks, Inc. mx480 internet router, kernel JUNOS 22.4R3",
            Vendor::Nokia => "TiMOS-C-23.10.R2 cpm/hops64 Nokia 7750 SR",
            Vendor::Huawei => "Huawei Versatile Routing Platform Software VRP NE40E V800R022",
            Vendor::CiscoIos => "Cisco IOS Software, c7600s72033_rp, Version 15.5(3)S9",
            Vendor::Arista => "Arista Networks EOS version 4.30.1F running on DCS-7280CR3",
        }
    }

    /// enterprises.N of sysObjectID.
    pub fn enterprise(self) -> u32 {
        match self {
            Vendor::CiscoXr | Vendor::CiscoIos => 9,
            Vendor::Juniper => 2636,
            Vendor::Nokia => 6527,
            Vendor::Huawei => 2011,
            Vendor::Arista => 30065,
        }
    }

    fn port(self, number: u32) -> String {
        match self {
            Vendor::CiscoXr => format!("HundredGigE0/0/0/{number}"),
            Vendor::Juniper => format!("et-0/0/{number}.0"),
            Vendor::Nokia => format!("1/1/c{number}/1"),
            Vendor::Huawei => format!("100GE1/0/{number}"),
            Vendor::CiscoIos => format!("TenGigabitEthernet1/{number}"),
            Vendor::Arista => format!("Ethernet{number}/1"),
        }
    }

    fn if_index(self, number: u32) -> u32 {
        match self {
            Vendor::CiscoXr => 40 + number,
            Vendor::Juniper => 520 + number,
            Vendor::Nokia => 35_684_352 + number * 32_768,
            Vendor::Huawei => 12 + number,
            Vendor::CiscoIos => 1 + number,
            Vendor::Arista => 1001 + number * 4,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connectivity {
    Transit,
    Peering,
    Exchange,
    Customer,
    Core,
    Cache,
    Loopback,
}

#[derive(Clone, Debug)]
pub struct Router {
    pub name: String,
    pub pop: usize,
    pub edge: bool,
    pub vendor: Vendor,
    /// Source of flows, of the BGP session, and address of the SNMP agent.
    pub address: Ipv4Addr,
    /// BGP identifier, and next hop where it sets itself.
    pub loopback: Ipv4Addr,
    pub loopback6: Ipv6Addr,
    pub interfaces: Vec<IfId>,
}

#[derive(Clone, Debug)]
pub struct Interface {
    pub router: RouterId,
    pub if_index: u32,
    pub name: String,
    pub description: String,
    pub connectivity: Connectivity,
    pub speed: u64,
    pub v4: (Ipv4Addr, u8),
    pub v6: (Ipv6Addr, u8),
    /// Other end of a core link.
    pub far: Option<IfId>,
    /// Of a core link in the IGP.
    pub metric: u32,
}

/// Another network that is connected.
#[derive(Clone, Debug)]
pub struct Neighbour {
    pub asn: u32,
    pub connectivity: Connectivity,
    /// Interface and the neighbour's addresses there.
    pub sessions: Vec<Session>,
}

#[derive(Clone, Debug)]
pub struct Session {
    pub interface: IfId,
    pub v4: Ipv4Addr,
    pub v6: Ipv6Addr,
}

/// Addresses that are routed alike.
#[derive(Clone, Debug)]
pub struct Group {
    /// Origin; the own AS for consumers and caches.
    pub asn: u32,
    pub kind: GroupKind,
    pub v4: Vec<Ipv4Net>,
    pub v6: Vec<Ipv6Net>,
    /// Share of traffic among its kind.
    pub weight: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupKind {
    /// Own customers at home; the interface they are behind.
    Consumers(IfId),
    Cache(IfId),
    /// A customer with an AS of its own.
    Customer,
    Content,
    Other,
}

impl GroupKind {
    pub fn own_interface(self) -> Option<IfId> {
        match self {
            GroupKind::Consumers(interface) | GroupKind::Cache(interface) => Some(interface),
            _ => None,
        }
    }
}

#[derive(Clone, Debug)]
pub struct Network {
    pub own_as: u32,
    pub pops: Vec<&'static str>,
    pub routers: Vec<Router>,
    pub interfaces: Vec<Interface>,
    pub neighbours: Vec<Neighbour>,
    pub groups: Vec<Group>,
    /// AS names by number, ascending.
    pub as_names: Vec<(u32, String)>,
    /// IGP distance, and the interface towards it, by [from][to].
    pub distance: Vec<Vec<u32>>,
    pub towards: Vec<Vec<Option<IfId>>>,
    /// Names of transit systems that appear within paths.
    pub upstreams: Vec<u32>,
}

const POPS: &[(&str, &str)] = &[
    ("fra", "Frankfurt"),
    ("ber", "Berlin"),
    ("ham", "Hamburg"),
    ("muc", "Munich"),
    ("dus", "Dusseldorf"),
    ("str", "Stuttgart"),
    ("lej", "Leipzig"),
    ("ams", "Amsterdam"),
    ("vie", "Vienna"),
    ("zrh", "Zurich"),
    ("nue", "Nuremberg"),
    ("haj", "Hanover"),
    ("cgn", "Cologne"),
    ("drs", "Dresden"),
    ("bre", "Bremen"),
    ("prg", "Prague"),
    ("waw", "Warsaw"),
    ("par", "Paris"),
    ("lon", "London"),
    ("mil", "Milan"),
];

const EXCHANGES: &[&str] =
    &["DE-CIX Frankfurt", "BCIX", "AMS-IX", "LINX LON1", "DE-CIX Munich", "VIX", "SwissIX", "NIX.CZ"];

struct Sizes {
    pops: usize,
    edges: usize,
    cores: usize,
    transits: usize,
    peers: usize,
    exchanges: usize,
    exchange_peers: usize,
    customers: usize,
    caches: usize,
}

impl Scale {
    fn sizes(self) -> Sizes {
        match self {
            Scale::Small => Sizes {
                pops: 4,
                edges: 6,
                cores: 4,
                transits: 2,
                peers: 6,
                exchanges: 2,
                exchange_peers: 24,
                customers: 8,
                caches: 1,
            },
            Scale::Medium => Sizes {
                pops: 10,
                edges: 20,
                cores: 10,
                transits: 4,
                peers: 14,
                exchanges: 4,
                exchange_peers: 50,
                customers: 30,
                caches: 4,
            },
            Scale::Large => Sizes {
                pops: 20,
                edges: 60,
                cores: 40,
                transits: 6,
                peers: 24,
                exchanges: 8,
                exchange_peers: 90,
                customers: 90,
                caches: 10,
            },
        }
    }
}

struct Builder {
    rng: ChaCha8Rng,
    network: Network,
    ports: Vec<u32>,
    subnets: u16,
    neighbour_of: std::collections::BTreeMap<u32, NeighbourId>,
}

impl Network {
    pub fn build(seed: u64, scale: Scale, own_as: u32, table: &AsTable) -> Self {
        let sizes = scale.sizes();
        let network = Network {
            own_as,
            pops: POPS.iter().take(sizes.pops).map(|pop| pop.0).collect(),
            routers: Vec::new(),
            interfaces: Vec::new(),
            neighbours: Vec::new(),
            groups: Vec::new(),
            as_names: table.rows.iter().map(|row| (row.number, row.name.clone())).collect(),
            distance: Vec::new(),
            towards: Vec::new(),
            upstreams: Vec::new(),
        };
        let rng = ChaCha8Rng::seed_from_u64(seed ^ 0x6e65_7477);
        let mut builder = Builder { rng, network, ports: Vec::new(), subnets: 0, neighbour_of: Default::default() };
        builder.routers(&sizes);
        builder.core_links(&sizes);
        builder.shortest_paths();
        builder.neighbours(&sizes, table);
        builder.groups(&sizes, table);
        builder.network
    }

    pub fn interface(&self, id: IfId) -> &Interface {
        &self.interfaces[id]
    }

    pub fn as_name(&self, asn: u32) -> &str {
        match self.as_names.binary_search_by_key(&asn, |row| row.0) {
            Ok(index) => &self.as_names[index].1,
            Err(_) => "",
        }
    }

    /// Where the neighbour is connected over the interface.
    pub fn session(&self, neighbour: NeighbourId, interface: IfId) -> Option<&Session> {
        self.neighbours[neighbour].sessions.iter().find(|session| session.interface == interface)
    }
}

impl Builder {
    fn routers(&mut self, sizes: &Sizes) {
        let core_vendors = [Vendor::CiscoXr, Vendor::Juniper, Vendor::Nokia, Vendor::Huawei];
        // An exchange's next hops have to be seen, so it is behind those that leave them as they are.
        let edge_vendors =
            [Vendor::Juniper, Vendor::CiscoXr, Vendor::Nokia, Vendor::Huawei, Vendor::CiscoIos, Vendor::Arista];
        for index in 0..sizes.cores {
            let pop = index % sizes.pops;
            self.router(pop, false, core_vendors[index % core_vendors.len()], 1 + index / sizes.pops);
        }
        for index in 0..sizes.edges {
            let pop = index % sizes.pops;
            self.router(pop, true, edge_vendors[index % edge_vendors.len()], 1 + index / sizes.pops);
        }
    }

    fn router(&mut self, pop: usize, edge: bool, vendor: Vendor, number: usize) {
        let id = self.network.routers.len();
        let role = if edge { "edge" } else { "core" };
        let (high, low) = ((id / 250) as u8, (id % 250 + 1) as u8);
        let loopback = Ipv4Addr::new(198, 18, 255 - high, low);
        let loopback6 = Ipv6Addr::new(0x2001, 0xdb8, 0xfffe, 0, 0, 0, 0, id as u16 + 1);
        self.network.routers.push(Router {
            name: format!("{role}{number}.{}.example.net", POPS[pop].0),
            pop,
            edge,
            vendor,
            address: Ipv4Addr::new(127, 16, high, low),
            loopback,
            loopback6,
            interfaces: Vec::new(),
        });
        self.ports.push(0);
        let interface = Interface {
            router: id,
            if_index: vendor.if_index(9000),
            name: "Loopback0".to_owned(),
            description: "Loopback: router id".to_owned(),
            connectivity: Connectivity::Loopback,
            speed: 0,
            v4: (loopback, 32),
            v6: (loopback6, 128),
            far: None,
            metric: 0,
        };
        self.add_interface(Interface {
            if_index: if vendor == Vendor::CiscoIos { 900 } else { interface.if_index },
            ..interface
        });
    }

    fn add_interface(&mut self, interface: Interface) -> IfId {
        let id = self.network.interfaces.len();
        self.network.routers[interface.router].interfaces.push(id);
        self.network.interfaces.push(interface);
        id
    }

    fn subnet(&mut self) -> (Ipv4Addr, Ipv4Addr, Ipv6Addr, Ipv6Addr) {
        let number = self.subnets;
        self.subnets += 1;
        let base = u32::from(Ipv4Addr::new(198, 19, 0, 0)) + u32::from(number) * 4;
        let v6 = |host| Ipv6Addr::new(0x2001, 0xdb8, 0xffff, number, 0, 0, 0, host);
        (Ipv4Addr::from(base + 1), Ipv4Addr::from(base + 2), v6(1), v6(2))
    }

    fn port(
        &mut self,
        router: RouterId,
        description: String,
        connectivity: Connectivity,
        speed: u64,
    ) -> (IfId, Session) {
        let (own, far, own6, far6) = self.subnet();
        self.port_in(router, description, connectivity, speed, ((own, 30), (own6, 64)), (far, far6))
    }

    fn port_in(
        &mut self,
        router: RouterId,
        description: String,
        connectivity: Connectivity,
        speed: u64,
        own: ((Ipv4Addr, u8), (Ipv6Addr, u8)),
        far: (Ipv4Addr, Ipv6Addr),
    ) -> (IfId, Session) {
        self.ports[router] += 1;
        let number = self.ports[router];
        let vendor = self.network.routers[router].vendor;
        let id = self.add_interface(Interface {
            router,
            if_index: vendor.if_index(number),
            name: vendor.port(number),
            description,
            connectivity,
            speed,
            v4: own.0,
            v6: own.1,
            far: None,
            metric: 0,
        });
        (id, Session { interface: id, v4: far.0, v6: far.1 })
    }

    /// A ring of cores with chords; each edge to the cores of its place.
    fn core_links(&mut self, sizes: &Sizes) {
        let mut pairs: Vec<(RouterId, RouterId, u32)> = Vec::new();
        for core in 0..sizes.cores {
            let next = (core + 1) % sizes.cores;
            pairs.push((core, next, self.rng.random_range(20..100)));
            if core >= sizes.pops {
                pairs.push((core, core - sizes.pops, 5));
            }
            if sizes.cores > 4 && core % 3 == 0 {
                let chord = (core + sizes.cores / 2) % sizes.cores;
                if chord != core && chord != next {
                    pairs.push((core, chord, self.rng.random_range(30..120)));
                }
            }
        }
        if sizes.cores == 4 {
            pairs.push((0, 2, self.rng.random_range(30..90)));
        }
        for edge in sizes.cores..sizes.cores + sizes.edges {
            let pop = self.network.routers[edge].pop;
            let cores: Vec<RouterId> = (0..sizes.cores).filter(|core| self.network.routers[*core].pop == pop).collect();
            for (nth, core) in cores.into_iter().enumerate() {
                pairs.push((edge, core, 10 + nth as u32));
            }
        }
        pairs.sort_unstable();
        pairs.dedup_by_key(|pair| (pair.0.min(pair.1), pair.0.max(pair.1)));
        for (a, b, metric) in pairs {
            let place = |router: &Router| POPS[router.pop].0;
            let (from, to) = (place(&self.network.routers[a]), place(&self.network.routers[b]));
            let text = |from: &str, to: &str, far: &Router| {
                let far = far.name.split('.').next().unwrap_or_default();
                format!("Core: {from}-{to} {far}")
            };
            let (at_a, at_b) = (text(from, to, &self.network.routers[b]), text(to, from, &self.network.routers[a]));
            let (own, far, own6, far6) = self.subnet();
            let speed = 400_000_000_000;
            let (one, _) = self.port_in(a, at_a, Connectivity::Core, speed, ((own, 30), (own6, 64)), (far, far6));
            let (two, _) = self.port_in(b, at_b, Connectivity::Core, speed, ((far, 30), (far6, 64)), (own, own6));
            for (end, far) in [(one, two), (two, one)] {
                self.network.interfaces[end].far = Some(far);
                self.network.interfaces[end].metric = metric;
            }
        }
    }

    /// Dijkstra from each router; costs are symmetric, edges carry no transit.
    fn shortest_paths(&mut self) {
        let count = self.network.routers.len();
        let mut links: Vec<Vec<(RouterId, u32, IfId)>> = vec![Vec::new(); count];
        for (interface, near) in self.network.interfaces.iter().enumerate() {
            if let Some(far) = near.far {
                links[near.router].push((self.network.interfaces[far].router, near.metric, interface));
            }
        }
        for from in 0..count {
            let mut distance = vec![u32::MAX; count];
            let mut towards: Vec<Option<IfId>> = vec![None; count];
            let mut queue = std::collections::BinaryHeap::new();
            distance[from] = 0;
            queue.push((std::cmp::Reverse(0), from));
            while let Some((std::cmp::Reverse(so_far), at)) = queue.pop() {
                if so_far > distance[at] || at != from && self.network.routers[at].edge {
                    continue;
                }
                for (to, cost, interface) in &links[at] {
                    let total = so_far + cost;
                    if total < distance[*to] {
                        distance[*to] = total;
                        towards[*to] = if at == from { Some(*interface) } else { towards[at] };
                        queue.push((std::cmp::Reverse(total), *to));
                    }
                }
            }
            self.network.distance.push(distance);
            self.network.towards.push(towards);
        }
    }

    fn neighbours(&mut self, sizes: &Sizes, table: &AsTable) {
        let edges: Vec<RouterId> =
            (0..self.network.routers.len()).filter(|id| self.network.routers[*id].edge).collect();
        let of = |kind: Kind| table.rows.iter().filter(move |row| row.kind == kind).map(|row| row.number);
        let known_transit = [1299, 3356, 2914, 174, 3257, 6453];
        let known_peers = [15169, 32934, 16509, 20940, 8075, 13335, 54113, 714, 32590, 46489, 3320, 6805, 24940, 16276];
        let transits: Vec<u32> = known_transit.into_iter().take(sizes.transits).collect();
        self.network.upstreams = of(Kind::Transit).filter(|asn| !transits.contains(asn)).collect();
        let mut peers: Vec<u32> = known_peers.into_iter().collect();
        peers.extend(of(Kind::Content).filter(|asn| !known_peers.contains(asn)));
        peers.truncate(sizes.peers);

        for (nth, asn) in transits.iter().enumerate() {
            for copy in 0..2 {
                let router = edges[(nth + copy * (sizes.edges / 2)) % edges.len()];
                self.connect(router, *asn, Connectivity::Transit);
            }
        }
        for (nth, asn) in peers.iter().enumerate() {
            self.connect(edges[(nth + 1) % edges.len()], *asn, Connectivity::Peering);
            if nth % 2 == 0 && sizes.pops > 4 || nth < 2 {
                self.connect(edges[(nth + 1 + edges.len() / 2) % edges.len()], *asn, Connectivity::Peering);
            }
        }

        let open: Vec<RouterId> =
            edges.iter().copied().filter(|edge| !self.network.routers[*edge].vendor.next_hop_self()).collect();
        let mut candidates: Vec<u32> =
            of(Kind::Eyeball).chain(of(Kind::Content)).filter(|asn| !peers.contains(asn)).collect();
        for nth in 0..sizes.exchanges {
            candidates.shuffle(&mut self.rng);
            let members: Vec<u32> = candidates.iter().copied().take(sizes.exchange_peers).collect();
            self.exchange(open[nth % open.len()], nth, &members);
        }

        let taken: Vec<u32> = self.neighbour_of.keys().copied().collect();
        let mut customers: Vec<u32> = of(Kind::Business).filter(|asn| !taken.contains(asn)).collect();
        customers.shuffle(&mut self.rng);
        for (nth, asn) in customers.into_iter().take(sizes.customers).enumerate() {
            self.connect(edges[nth % edges.len()], asn, Connectivity::Customer);
            if nth % 5 == 4 {
                self.connect(edges[(nth + 2) % edges.len()], asn, Connectivity::Customer);
            }
        }
    }

    fn neighbour(&mut self, asn: u32, connectivity: Connectivity) -> NeighbourId {
        if let Some(id) = self.neighbour_of.get(&asn) {
            return *id;
        }
        let id = self.network.neighbours.len();
        self.network.neighbours.push(Neighbour { asn, connectivity, sessions: Vec::new() });
        self.neighbour_of.insert(asn, id);
        id
    }

    fn connect(&mut self, router: RouterId, asn: u32, connectivity: Connectivity) {
        let id = self.neighbour(asn, connectivity);
        let there = |session: &Session| self.network.interfaces[session.interface].router == router;
        if self.network.neighbours[id].sessions.iter().any(there) {
            return;
        }
        let name = self.network.as_name(asn);
        let (label, speed) = match connectivity {
            Connectivity::Transit => ("Transit", 100_000_000_000),
            Connectivity::Customer => ("Cust", 10_000_000_000),
            _ => ("Peering", 100_000_000_000),
        };
        let (_, session) = self.port(router, format!("{label}: {name} AS{asn}"), connectivity, speed);
        self.network.neighbours[id].sessions.push(session);
    }

    fn exchange(&mut self, router: RouterId, nth: usize, members: &[u32]) {
        let lan = nth as u8;
        let v4 = |host: u8| Ipv4Addr::new(198, 19, 128 + lan, host);
        let v6 = |host: u16| Ipv6Addr::new(0x2001, 0xdb8, 0xfffd, u16::from(lan), 0, 0, 0, host);
        let name = EXCHANGES[nth % EXCHANGES.len()];
        let own = ((v4(1), 24), (v6(1), 64));
        let (interface, _) =
            self.port_in(router, format!("IX: {name}"), Connectivity::Exchange, 200_000_000_000, own, (v4(2), v6(2)));
        for (at, asn) in members.iter().take(240).enumerate() {
            let id = self.neighbour(*asn, Connectivity::Exchange);
            let host = at as u8 + 10;
            let session = Session { interface, v4: v4(host), v6: v6(u16::from(host)) };
            self.network.neighbours[id].sessions.push(session);
        }
    }

    fn groups(&mut self, sizes: &Sizes, table: &AsTable) {
        let own_as = self.network.own_as;
        let edges: Vec<RouterId> =
            (0..self.network.routers.len()).filter(|id| self.network.routers[*id].edge).collect();
        let v4 = |text: (u8, u8, u8), len| Ipv4Net::new(Ipv4Addr::new(198, text.0, text.1, text.2), len);
        for (pop, (_, place)) in POPS.iter().enumerate().take(sizes.pops) {
            let here: Vec<RouterId> =
                edges.iter().copied().filter(|edge| self.network.routers[*edge].pop == pop).collect();
            let Some(router) = here.choose(&mut self.rng).copied() else { continue };
            let description = format!("Cust: Broadband {place}");
            let (interface, _) = self.port(router, description, Connectivity::Customer, 400_000_000_000);
            let net6 = Ipv6Net::new(Ipv6Addr::new(0x2001, 0xdb8, pop as u16, 0, 0, 0, 0, 0), 48);
            self.network.groups.push(Group {
                asn: own_as,
                kind: GroupKind::Consumers(interface),
                v4: v4((18, pop as u8 * 4, 0), 22).into_iter().collect(),
                v6: net6.into_iter().collect(),
                weight: self.rng.random_range(0.5..2.0),
            });
        }
        for cache in 0..sizes.caches {
            let router = edges[(cache * 2 + 1) % edges.len()];
            let description = format!("Cache: Netflix OCA {}", cache + 1);
            let (interface, _) = self.port(router, description, Connectivity::Cache, 100_000_000_000);
            let net6 = Ipv6Net::new(Ipv6Addr::new(0x2001, 0xdb8, 0x8000 + cache as u16, 0, 0, 0, 0, 0), 48);
            self.network.groups.push(Group {
                asn: own_as,
                kind: GroupKind::Cache(interface),
                v4: v4((18, 128 + cache as u8, 0), 24).into_iter().collect(),
                v6: net6.into_iter().collect(),
                weight: 1.0,
            });
        }
        let mut ranks: Vec<usize> = (0..table.rows.len()).collect();
        ranks.shuffle(&mut self.rng);
        for (rank, row) in ranks.into_iter().zip(&table.rows).filter(|(_, row)| !row.v4.is_empty()) {
            let customer = self
                .neighbour_of
                .get(&row.number)
                .is_some_and(|id| self.network.neighbours[*id].connectivity == Connectivity::Customer);
            let kind = match (customer, row.kind) {
                (true, _) => GroupKind::Customer,
                (false, Kind::Content) => GroupKind::Content,
                (false, _) => GroupKind::Other,
            };
            self.network.groups.push(Group {
                asn: row.number,
                kind,
                v4: row.v4.clone(),
                v6: row.v6.clone(),
                // Zipf: the popularity of autonomous systems has a heavy tail.
                weight: 1.0 / (rank as f64 + 1.0),
            });
        }
    }
}

/// An address of the group, by `bits`.
pub fn host(group: &Group, v6: bool, bits: u128) -> IpAddr {
    if v6 && !group.v6.is_empty() {
        let net = group.v6[(bits >> 64) as usize % group.v6.len()];
        // Hosts of few subnets, as they are in practice.
        let free = 128 - u32::from(net.prefix_len());
        let mask = if free == 0 { 0 } else { u128::MAX >> (128 - free) };
        let host = (bits & 0xffff) | (bits >> 16 & 0xff) << 64;
        return IpAddr::V6(Ipv6Addr::from(u128::from(net.network()) | host & mask));
    }
    let net = group.v4[(bits >> 64) as usize % group.v4.len()];
    let mask = u32::MAX.checked_shr(u32::from(net.prefix_len())).unwrap_or(0);
    IpAddr::V4(Ipv4Addr::from(u32::from(net.network()) | bits as u32 & mask))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scale_is_connected_and_numbered_without_clash() {
        let table = AsTable::embedded().unwrap();
        for scale in [Scale::Small, Scale::Medium, Scale::Large] {
            let network = Network::build(7, scale, 64_500, &table);
            assert!(network.distance.iter().flatten().all(|distance| *distance < u32::MAX));
            let mut addresses: Vec<Ipv4Addr> = network.interfaces.iter().map(|interface| interface.v4.0).collect();
            addresses.extend(
                network.neighbours.iter().flat_map(|neighbour| neighbour.sessions.iter().map(|session| session.v4)),
            );
            let count = addresses.len();
            addresses.sort_unstable();
            addresses.dedup();
            assert_eq!(addresses.len(), count);
            for router in &network.routers {
                let mut indexes: Vec<u32> =
                    router.interfaces.iter().map(|id| network.interfaces[*id].if_index).collect();
                indexes.sort_unstable();
                indexes.dedup();
                assert_eq!(indexes.len(), router.interfaces.len());
                assert!(router.address.is_loopback());
            }
            let again = Network::build(7, scale, 64_500, &table);
            assert_eq!(format!("{:?}", network.interfaces), format!("{:?}", again.interfaces));
        }
    }
}
