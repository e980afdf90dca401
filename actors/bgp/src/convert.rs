//! An UPDATE as events of the route table.
//!
//! A peer's routes of a family go to a table each (see [`in_table`]): unicast to the peer's own, labelled ones to
//! its second, VPN routes to those of the VRFs that take them. FlowSpec rules go to [`Rules`], link state to the
//! network graph.

use std::collections::HashMap;
use std::sync::Arc;

use benocs_model::Address;
use benocs_model::address::Prefix;
use benocs_model::graph::GraphEvent;
use benocs_model::route::{Family, Further, Path, Peer, PeerId, RouteEvent, Segment, in_table};
use benocs_wire::bgp::{self, Labels, NextHop, Nlri, NlriRoute, PrefixAddress, Update};

use crate::link_state;
use crate::rules::Rules;
use crate::vrf::Imports;

const UNICAST: u32 = 0;
const LABELLED: u32 = 1;
/// The first VRF's.
const VRFS: u32 = 2;
/// Distinguishers, and pairs of one with a path identifier, of one peer.
const RDS_MAX: usize = 1 << 20;
/// Attributes that are not read are kept up to this.
const UNKNOWN_OCTETS_MAX: usize = 1024;

/// Appends what a message does to the peer's unicast routes. `own_id` is the reader's BGP identifier: paths that
/// it originated are not taken.
pub fn events(peer: PeerId, own_id: [u8; 4], update: &Update<'_>, out: &mut Vec<RouteEvent>) {
    let families = vec![bgp::Family::V4_UNICAST, bgp::Family::V6_UNICAST];
    let mut converter = Converter::new(peer, Arc::default(), families, 0);
    converter.update(own_id, update, out);
}

/// What a converter lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// VPN routes that no VRF takes.
    pub not_imported: u64,
    /// Routes that leaked (RFC 9234 5).
    pub leaked: u64,
    /// Routes of a family that was not agreed on, or that is disabled.
    pub not_agreed: u64,
    /// Rules beyond `bgp.flow_rules_max`.
    pub rules: u64,
    /// VPN routes beyond the distinguishers that a peer may have.
    pub distinguishers: u64,
}

/// What one peer's UPDATEs mean; kept from session to session.
#[derive(Debug)]
pub struct Converter {
    peer: Peer,
    imports: Arc<Imports>,
    /// Whose routes are taken; others are ignored (RFC 4760 8).
    families: Vec<bgp::Family>,
    /// The own role towards the peer (RFC 9234 4.1).
    role: Option<u8>,
    /// Tables besides the unicast one that are up.
    tables: Vec<u32>,
    /// VRFs that ever took a route of a distinguisher.
    rds: HashMap<[u8; 8], Vec<u16>>,
    /// Distinguisher and path identifier as one identifier.
    ids: HashMap<([u8; 8], u32), u32>,
    rules: Rules,
    /// What it does to the network graph, until that takes it.
    graph: Vec<GraphEvent>,
    /// Objects in [`Self::graph`].
    graph_objects: usize,
    pub lost: Lost,
}

fn objects_of(event: &GraphEvent) -> usize {
    match event {
        GraphEvent::Announce { objects, .. } => objects.len(),
        GraphEvent::Withdraw { names, .. } => names.len(),
        _ => 0,
    }
}

/// RFC 9234 4.1.
mod role {
    pub(super) const PROVIDER: u8 = 0;
    pub(super) const RS: u8 = 1;
    pub(super) const RS_CLIENT: u8 = 2;
    pub(super) const CUSTOMER: u8 = 3;
    pub(super) const PEER: u8 = 4;
}

impl Converter {
    pub fn new(id: PeerId, imports: Arc<Imports>, families: Vec<bgp::Family>, rules_max: usize) -> Self {
        Self {
            peer: Peer { id, ..Peer::default() },
            imports,
            families,
            role: None,
            tables: Vec::new(),
            rds: HashMap::new(),
            ids: HashMap::new(),
            rules: Rules::new(rules_max),
            graph: Vec::new(),
            graph_objects: 0,
            lost: Lost::default(),
        }
    }

    /// A session came up; what is stale of the one before stays.
    pub fn peer_up(&mut self, peer: Peer, families: Vec<bgp::Family>, role: Option<u8>, out: &mut Vec<RouteEvent>) {
        (self.peer, self.families, self.role) = (peer, families, role);
        out.push(RouteEvent::PeerUp(Arc::new(self.peer.clone())));
        out.extend(self.tables.iter().map(|table| RouteEvent::PeerUp(Arc::new(self.peer_of(*table)))));
    }

    /// All its routes go.
    pub fn peer_down(&mut self, out: &mut Vec<RouteEvent>) {
        out.extend(self.ids().map(RouteEvent::PeerDown));
        self.tables.clear();
        self.rds.clear();
        self.ids.clear();
        self.rules.clear();
        self.graph.push(GraphEvent::Down(self.peer.id));
    }

    /// All its routes stay, marked (RFC 4724 4.2).
    pub fn stale(&mut self, out: &mut Vec<RouteEvent>) {
        out.extend(self.ids().map(RouteEvent::PeerStale));
        self.rules.mark_stale(None);
        self.graph.push(GraphEvent::Stale(self.peer.id));
    }

    /// A family's routes stay, marked (RFC 7313 4).
    pub fn stale_family(&mut self, family: bgp::Family, out: &mut Vec<RouteEvent>) {
        for (peer, family) in self.tables_of(family) {
            out.push(RouteEvent::FamilyStale { peer, family: family as u8 });
        }
        self.rules.mark_stale(Some(family));
        if family == bgp::Family::LINK_STATE {
            self.graph.push(GraphEvent::Stale(self.peer.id));
        }
    }

    /// What is still marked of a family goes.
    pub fn sweep(&mut self, family: bgp::Family, out: &mut Vec<RouteEvent>) {
        for (peer, family) in self.tables_of(family) {
            out.push(RouteEvent::EndOfRib { peer, family: family as u8 });
        }
        self.rules.sweep(family);
        if family == bgp::Family::LINK_STATE {
            self.graph.push(GraphEvent::Sweep(self.peer.id));
        }
    }

    /// All routes of a family go, and no more are taken (RFC 4760 7).
    pub fn disable(&mut self, family: bgp::Family, out: &mut Vec<RouteEvent>) {
        self.families.retain(|other| *other != family);
        self.stale_family(family, out);
        self.sweep(family, out);
    }

    /// Its ids, the peer's own first.
    pub fn ids(&self) -> impl Iterator<Item = PeerId> + use<> {
        let peer = self.peer.id;
        let tables = self.tables.clone();
        std::iter::once(UNICAST).chain(tables).map(move |table| in_table(peer, table))
    }

    pub(crate) fn take_rules_changed(&mut self) -> bool {
        self.rules.take_changed()
    }

    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Appends what a message does.
    pub fn update(&mut self, own_id: [u8; 4], update: &Update<'_>, out: &mut Vec<RouteEvent>) {
        // RFC 4271 4.3: a prefix in both lists is announced.
        for nlri in update.withdrawals() {
            self.withdraw(nlri, out);
        }
        for (next_hop, nlri) in update.announcements() {
            let attributes = &update.attributes;
            // RFC 4456 8: a path that came back.
            let came_back = attributes.originator_id == Some(own_id);
            let leaked = self.is_leak(nlri.family(), attributes.only_to_customer);
            if came_back || leaked {
                self.lost.leaked += if leaked { nlri.count() as u64 } else { 0 };
                self.withdraw(nlri, out);
                continue;
            }
            self.announce(update, next_hop, nlri, out);
        }
        if update.mp_reach.is_some() || update.mp_unreach.is_some() {
            self.link_state(update);
        }
        for family in update.disabled() {
            self.disable(family, out);
        }
        if let Some(family) = update.end_of_rib() {
            self.sweep(family, out);
        }
    }

    fn link_state(&mut self, update: &Update<'_>) {
        let objects = update.link_state_announcements().chain(update.link_state_withdrawals()).count();
        if !self.families.contains(&bgp::Family::LINK_STATE) {
            self.lost.not_agreed += objects as u64;
        } else if objects > 0 {
            link_state::events(self.peer.id, update, &mut self.graph);
            self.graph_objects += objects;
        }
    }

    /// What it does to the network graph since this was asked last.
    pub fn take_graph(&mut self) -> Vec<GraphEvent> {
        self.graph_objects = 0;
        std::mem::take(&mut self.graph)
    }

    /// Puts back what nobody took.
    pub(crate) fn return_graph(&mut self, mut events: Vec<GraphEvent>) {
        self.graph_objects += events.iter().map(objects_of).sum::<usize>();
        events.append(&mut self.graph);
        self.graph = events;
    }

    /// Objects of link state that wait to be taken.
    pub(crate) fn graph_waiting(&self) -> usize {
        self.graph_objects
    }

    /// No family is left that it may say something of (RFC 9552 8.2.2).
    pub(crate) fn is_mute(&self) -> bool {
        self.families.is_empty()
    }

    fn takes(&mut self, nlri: &Nlri<'_>) -> bool {
        let takes = self.families.contains(&nlri.family());
        self.lost.not_agreed += if takes { 0 } else { (nlri.routes().count() + nlri.rules().count()) as u64 };
        takes
    }

    fn announce(&mut self, update: &Update<'_>, next_hop: NextHop<'_>, nlri: Nlri<'_>, out: &mut Vec<RouteEvent>) {
        if !self.takes(&nlri) {
            return;
        }
        let family = nlri.family();
        if family.safi >= bgp::Family::V4_FLOW_SPEC.safi {
            let path = Arc::new(path(update, Address::UNSPECIFIED, None));
            for rule in nlri.rules() {
                self.lost.rules += u64::from(!self.rules.announce(family, &rule, &path));
            }
            return;
        }
        let Some(next_hop) = address(next_hop) else { return };
        let further = self.further(update, family);
        match family.safi {
            1 => {
                let prefixes: Vec<(u32, Prefix)> =
                    nlri.filter_map(|prefix| Some((prefix.path_id, self::prefix(prefix)?))).collect();
                if !prefixes.is_empty() {
                    let path = Arc::new(path(update, next_hop, further.map(Box::new)));
                    out.push(RouteEvent::Announce { peer: self.peer.id, path, prefixes });
                }
            }
            4 => {
                let peer = self.table(LABELLED, out);
                labelled(nlri, |routes, labels| {
                    let further = with_labels(&further, labels, None);
                    let prefixes: Vec<(u32, Prefix)> = routes
                        .iter()
                        .filter_map(|route| Some((route.prefix.path_id, self::prefix(route.prefix)?)))
                        .collect();
                    if !prefixes.is_empty() {
                        out.push(RouteEvent::Announce {
                            peer,
                            path: Arc::new(path(update, next_hop, further)),
                            prefixes,
                        });
                    }
                });
            }
            _ => {
                let vrfs = self.imports.of(update.attributes.extended_communities);
                labelled(nlri, |routes, labels| {
                    self.announce_vpn(update, next_hop, &further, &vrfs, routes, labels, out)
                });
            }
        }
    }

    /// Routes of one distinguisher with the same labels.
    fn announce_vpn(
        &mut self,
        update: &Update<'_>,
        next_hop: Address,
        further: &Option<Further>,
        vrfs: &[u16],
        routes: &[NlriRoute<'_>],
        labels: Labels<'_>,
        out: &mut Vec<RouteEvent>,
    ) {
        let Some(rd) = routes.first().and_then(|route| route.rd) else { return };
        // What it was in and is not any more.
        let before = self.rds.get(&rd).cloned().unwrap_or_default();
        for vrf in before.iter().filter(|vrf| !vrfs.contains(vrf)) {
            let gone = routes.iter().filter_map(|route| self.known(rd, route)).collect();
            withdraw(in_table(self.peer.id, VRFS + u32::from(*vrf)), gone, out);
        }
        if vrfs.is_empty() {
            self.lost.not_imported += routes.len() as u64;
            return;
        }
        let known = self.rds.contains_key(&rd);
        if !known && self.rds.len() >= RDS_MAX {
            self.lost.distinguishers += routes.len() as u64;
            return;
        }
        let mut prefixes = Vec::with_capacity(routes.len());
        for route in routes {
            let Some(prefix) = prefix(route.prefix) else { continue };
            match self.path_id(rd, route.prefix.path_id) {
                Some(id) => prefixes.push((id, prefix)),
                None => self.lost.distinguishers += 1,
            }
        }
        if prefixes.is_empty() {
            return;
        }
        let taken = self.rds.entry(rd).or_default();
        taken.extend(vrfs.iter().filter(|vrf| !before.contains(vrf)));
        let path = Arc::new(path(update, next_hop, with_labels(further, labels, Some(rd))));
        for vrf in vrfs {
            let peer = self.table(VRFS + u32::from(*vrf), out);
            out.push(RouteEvent::Announce { peer, path: path.clone(), prefixes: prefixes.clone() });
        }
    }

    fn withdraw(&mut self, nlri: Nlri<'_>, out: &mut Vec<RouteEvent>) {
        if !self.takes(&nlri) {
            return;
        }
        let plain = |route: NlriRoute<'_>| Some((route.prefix.path_id, prefix(route.prefix)?));
        match nlri.family().safi {
            1 => withdraw(self.peer.id, nlri.routes().filter_map(plain).collect(), out),
            4 if self.tables.contains(&LABELLED) => {
                withdraw(in_table(self.peer.id, LABELLED), nlri.routes().filter_map(plain).collect(), out);
            }
            128 => {
                for route in nlri.routes() {
                    let Some(rd) = route.rd else { continue };
                    let Some(gone) = self.known(rd, &route) else { continue };
                    for vrf in self.rds.get(&rd).into_iter().flatten() {
                        withdraw(in_table(self.peer.id, VRFS + u32::from(*vrf)), vec![gone], out);
                    }
                }
            }
            133 | 134 => {
                let family = nlri.family();
                nlri.rules().for_each(|rule| self.rules.withdraw(family, &rule));
            }
            _ => {}
        }
    }

    /// RFC 9234 5: from whom a route with the mark may not come. Of unicast routes only.
    fn is_leak(&self, family: bgp::Family, only_to_customer: Option<u32>) -> bool {
        let (Some(role), Some(asn), 1) = (self.role, only_to_customer, family.safi) else { return false };
        match role {
            role::PROVIDER | role::RS => true,
            role::PEER => asn != self.peer.remote_as,
            _ => false,
        }
    }

    /// What the attributes say beyond what most have.
    fn further(&self, update: &Update<'_>, family: bgp::Family) -> Option<Further> {
        let attributes = &update.attributes;
        let mut only_to_customer = attributes.only_to_customer;
        // RFC 9234 5: who did not write it is written in.
        if let (Some(role::CUSTOMER | role::PEER | role::RS_CLIENT), 1) = (self.role, family.safi) {
            only_to_customer = only_to_customer.or(Some(self.peer.remote_as));
        }
        let mut octets = 0;
        let unknown: Vec<(u8, u8, Vec<u8>)> = attributes
            .unknown_transitive()
            .take_while(|attribute| {
                octets += attribute.value.len() + 4;
                octets <= UNKNOWN_OCTETS_MAX
            })
            .map(|attribute| (attribute.flags.0, attribute.code, attribute.value.to_vec()))
            .collect();
        let further = Further {
            aigp: attributes.aigp,
            only_to_customer,
            // RFC 6793 4.2.3: the number that did not fit.
            aggregator: match (attributes.aggregator, attributes.as4_aggregator) {
                (Some((asn, _)), Some(as4)) if asn == u32::from(bgp::AS_TRANS) => Some(as4),
                (aggregator, _) => aggregator,
            },
            unknown,
            ..Further::default()
        };
        (further != Further::default()).then_some(further)
    }

    /// The id of a table, which is brought up by its first route.
    fn table(&mut self, table: u32, out: &mut Vec<RouteEvent>) -> PeerId {
        if !self.tables.contains(&table) {
            self.tables.push(table);
            out.push(RouteEvent::PeerUp(Arc::new(self.peer_of(table))));
        }
        in_table(self.peer.id, table)
    }

    fn peer_of(&self, table: u32) -> Peer {
        let vrf = table.checked_sub(VRFS).and_then(|vrf| self.imports.names.get(vrf as usize));
        Peer {
            id: in_table(self.peer.id, table),
            vrf: vrf.cloned().unwrap_or_default(),
            labelled: table == LABELLED,
            ..self.peer.clone()
        }
    }

    /// The tables that a family's routes are in, and what they are there.
    fn tables_of(&self, family: bgp::Family) -> Vec<(PeerId, Family)> {
        let model = if family.afi == 1 { Family::V4Unicast } else { Family::V6Unicast };
        let is_of = |table: &u32| match family.safi {
            1 => *table == UNICAST,
            4 => *table == LABELLED,
            128 => *table >= VRFS,
            _ => false,
        };
        let tables = std::iter::once(UNICAST).chain(self.tables.iter().copied());
        tables.filter(is_of).map(|table| (in_table(self.peer.id, table), model)).collect()
    }

    /// RFC 4364 4.1: routes to one prefix with several distinguishers are several routes.
    fn path_id(&mut self, rd: [u8; 8], path_id: u32) -> Option<u32> {
        let next = self.ids.len() as u32 + 1;
        if let Some(id) = self.ids.get(&(rd, path_id)) {
            return Some(*id);
        }
        if self.ids.len() >= RDS_MAX {
            return None;
        }
        self.ids.insert((rd, path_id), next);
        Some(next)
    }

    fn known(&self, rd: [u8; 8], route: &NlriRoute<'_>) -> Option<(u32, Prefix)> {
        let id = self.ids.get(&(rd, route.prefix.path_id))?;
        Some((*id, prefix(route.prefix)?))
    }
}

/// Routes that follow each other with one distinguisher and the same labels.
fn labelled<'a>(nlri: Nlri<'a>, mut take: impl FnMut(&[NlriRoute<'a>], Labels<'a>)) {
    let routes: Vec<NlriRoute<'a>> = nlri.routes().collect();
    for group in routes.chunk_by(|a, b| a.labels == b.labels && a.rd == b.rd) {
        take(group, group[0].labels);
    }
}

fn with_labels(further: &Option<Further>, labels: Labels<'_>, rd: Option<[u8; 8]>) -> Option<Box<Further>> {
    let further = further.clone().unwrap_or_default();
    Some(Box::new(Further { labels: labels.iter().collect(), rd, ..further }))
}

fn withdraw(peer: PeerId, mut gone: Vec<(u32, Prefix)>, out: &mut Vec<RouteEvent>) {
    match out.last_mut() {
        _ if gone.is_empty() => {}
        Some(RouteEvent::Withdraw { peer: last, prefixes }) if *last == peer => prefixes.append(&mut gone),
        _ => out.push(RouteEvent::Withdraw { peer, prefixes: gone }),
    }
}

fn prefix(prefix: bgp::NlriPrefix) -> Option<Prefix> {
    let address = match prefix.address {
        PrefixAddress::V4(octets) => Address::from_v4(octets),
        // An IPv4 address in IPv6's clothes is no destination (RFC 4291 2.5.5.2).
        PrefixAddress::V6(octets) => Some(Address(octets)).filter(|address| !address.is_v4())?,
    };
    Some(Prefix { address, len: prefix.len })
}

/// RFC 2545 3: the global address, unless there is only the link-local one.
pub(crate) fn address(next_hop: NextHop<'_>) -> Option<Address> {
    match next_hop {
        NextHop::V4(octets) => Some(Address::from_v4(octets)),
        NextHop::V6(global, link_local) if global == [0; 16] => link_local.map(Address),
        NextHop::V6(global, _) => Some(Address(global)),
        NextHop::Other(_) => None,
    }
}

pub(crate) fn path(update: &Update<'_>, next_hop: Address, further: Option<Box<Further>>) -> Path {
    let attributes = &update.attributes;
    let word = |[a, b, c, d]: [u8; 4]| u32::from_be_bytes([a, b, c, d]);
    let large = |octets: &[u8; 12]| {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = *octets;
        [word([a, b, c, d]), word([e, f, g, h]), word([i, j, k, l])]
    };
    let segment = |(kind, asns): (bgp::SegmentKind, Vec<u32>)| Segment { kind: kind.0, asns };
    // Communities are sets (RFC 1997, RFC 8092): in order, equal ones have one hash.
    let mut communities: Vec<u32> = attributes.communities.iter().copied().map(word).collect();
    let mut large_communities: Vec<[u32; 3]> = attributes.large_communities.iter().map(large).collect();
    let mut ext_communities = attributes.extended_communities.to_vec();
    communities.sort_unstable();
    communities.dedup();
    large_communities.sort_unstable();
    large_communities.dedup();
    ext_communities.sort_unstable();
    ext_communities.dedup();
    Path {
        origin: attributes.origin.unwrap_or(2),
        as_path: attributes.merged_as_path().into_iter().map(segment).collect(),
        next_hop,
        med: attributes.med,
        local_pref: attributes.local_pref,
        communities,
        large_communities,
        ext_communities,
        originator_id: attributes.originator_id,
        cluster_list: attributes.cluster_list.to_vec(),
        further,
    }
}
