//! Who talks to whom, about what, how much and how long.

use std::collections::HashMap;
use std::net::IpAddr;

use rand::Rng as _;
use rand_chacha::ChaCha8Rng;
use rand_distr::weighted::WeightedAliasIndex;
use rand_distr::{Distribution as _, Pareto};

use super::network::{GroupId, GroupKind, IfId, NeighbourId, Network, Vendor, host};
use super::rib::{Hop, Rib};
use super::services::{Server, Services, Transport};
use super::truth::Key;

/// Packets that sFlow devices take one of when nothing is to be estimated: flows that enter there are
/// multiples of it with packets of one size, so that scaling is exact.
pub const SFLOW_EXACT_RATE: u64 = 256;

/// Routers export a flow that goes on after so long.
pub const ACTIVE_TIMEOUT_MS: i64 = 60_000;

/// One direction of a conversation.
#[derive(Clone, Debug)]
pub struct Flow {
    pub src: IpAddr,
    pub dst: IpAddr,
    pub src_port: u16,
    pub dst_port: u16,
    pub proto: u8,
    pub tos: u8,
    pub icmp: u16,
    pub src_group: GroupId,
    pub dst_group: GroupId,
    pub first: i64,
    pub last: i64,
    pub packets: u64,
    pub octets: u64,
    pub hops: Vec<Hop>,
    pub key: Key,
}

/// What the resolver told before.
#[derive(Clone, Debug)]
pub struct Lookup {
    pub at_ms: i64,
    pub client: IpAddr,
    pub server: Server,
}

/// Conversations begin here, one after the other, from one random stream.
pub struct Traffic {
    rng: ChaCha8Rng,
    sampled: bool,
    consumers: Choice,
    services: WeightedAliasIndex<f64>,
    others: Choice,
    customers: Option<Choice>,
    /// Packets of the many small flows, and of the few that carry the traffic.
    mice: Pareto<f64>,
    elephants: Pareto<f64>,
    /// Answers that clients still have, by client and name.
    cached: HashMap<(IpAddr, u16, u16), i64>,
}

const TTL_MS: i64 = 300_000;
pub const TTL_S: u32 = 300;
/// Of one flow; its octets fit into the four that many exporters have for them.
const PACKETS_MAX: u64 = 1_000_000;
const CACHED_MAX: usize = 1 << 20;

struct Choice {
    groups: Vec<GroupId>,
    weights: WeightedAliasIndex<f64>,
}

impl Choice {
    fn new(network: &Network, wanted: impl Fn(GroupKind) -> bool) -> anyhow::Result<Self> {
        let groups: Vec<GroupId> = (0..network.groups.len()).filter(|id| wanted(network.groups[*id].kind)).collect();
        let weights = groups.iter().map(|id| network.groups[*id].weight).collect();
        Ok(Self { groups, weights: WeightedAliasIndex::new(weights)? })
    }

    fn pick(&self, rng: &mut ChaCha8Rng) -> GroupId {
        self.groups[self.weights.sample(rng)]
    }
}

/// What a conversation is about.
struct Talk {
    /// Sends most: the server, or the peer.
    from: GroupId,
    from_address: IpAddr,
    from_port: u16,
    to: GroupId,
    to_address: IpAddr,
    to_port: u16,
    proto: u8,
    service: Option<(u16, u16)>,
    packet_octets: u64,
}

impl Traffic {
    pub fn new(network: &Network, services: &Services, rng: ChaCha8Rng, sampled: bool) -> anyhow::Result<Self> {
        let any_customer = network.groups.iter().any(|group| group.kind == GroupKind::Customer);
        Ok(Self {
            rng,
            sampled,
            consumers: Choice::new(network, |kind| matches!(kind, GroupKind::Consumers(_)))?,
            services: WeightedAliasIndex::new(services.rows.iter().map(|service| service.weight).collect())?,
            others: Choice::new(network, |kind| matches!(kind, GroupKind::Other | GroupKind::Content))?,
            customers: if any_customer {
                Some(Choice::new(network, |kind| kind == GroupKind::Customer)?)
            } else {
                None
            },
            mice: Pareto::new(4.0, 1.3)?,
            elephants: Pareto::new(150.0, 1.1)?,
            cached: HashMap::new(),
        })
    }

    /// A conversation that begins within the second from `second_ms` on: what the client asks, and the two flows.
    pub fn conversation(
        &mut self,
        network: &Network,
        rib: &Rib,
        services: &Services,
        second_ms: i64,
    ) -> (Option<Lookup>, Vec<Flow>) {
        let v6 = self.rng.random_bool(0.3);
        let first = second_ms + self.rng.random_range(0..1000);
        let kind = self.rng.random_range(0..100);
        let mut lookup = None;
        let talk = match (kind, &self.customers) {
            (0..70, _) => {
                let client_group = self.consumers.pick(&mut self.rng);
                let bits: u128 = self.rng.random();
                let mut client = host(&network.groups[client_group], v6, bits);
                let service = self.services.sample(&mut self.rng) as u16;
                let row = &services.rows[usize::from(service)];
                let asked = self.rng.random_range(0..row.asked.len()) as u16;
                let mut server = services.server(network, service, asked, client);
                if server.address.is_ipv4() != client.is_ipv4() {
                    // Served over IPv4 only.
                    client = host(&network.groups[client_group], false, bits);
                    server = services.server(network, service, asked, client);
                }
                lookup = Some(Lookup { at_ms: first - self.rng.random_range(20..400), client, server });
                let (proto, port, packet_octets) = match row.transport {
                    Transport::Tcp => (6, 443, 1400),
                    Transport::Quic => (17, 443, 1250),
                    Transport::Udp => (17, 27_000 + self.rng.random_range(0..100), 220),
                };
                let ephemeral = self.rng.random_range(32_768..60_999);
                Talk {
                    from: server.group,
                    from_address: server.address,
                    from_port: port,
                    to: client_group,
                    to_address: client,
                    to_port: ephemeral,
                    proto,
                    service: Some((service, asked)),
                    packet_octets,
                }
            }
            (70..78, _) | (_, None) => {
                let (from, to) = (self.others.pick(&mut self.rng), self.consumers.pick(&mut self.rng));
                let (proto, ports) = if self.rng.random_bool(0.5) { (17, (6881, 51_413)) } else { (6, (51_413, 6881)) };
                self.peers(network, from, to, v6, proto, ports, 1100)
            }
            (78..92, Some(customers)) => {
                let to = customers.pick(&mut self.rng);
                let from = self.others.pick(&mut self.rng);
                let ports = match self.rng.random_range(0..6) {
                    0 => (443, 40_000),
                    1 => (80, 41_000),
                    2 => (22, 42_000),
                    3 => (25, 43_000),
                    4 => (53, 44_000),
                    _ => (443, 45_000),
                };
                let proto = if ports.0 == 53 { 17 } else { 6 };
                // A third of it goes out of the customer's network.
                let (from, to) = if self.rng.random_bool(0.33) { (to, from) } else { (from, to) };
                self.peers(network, from, to, v6, proto, ports, 1300)
            }
            (92..94, Some(customers)) => {
                let (from, to) = (customers.pick(&mut self.rng), self.consumers.pick(&mut self.rng));
                self.peers(network, from, to, v6, 1, (0, 0), 84)
            }
            (_, Some(customers)) => {
                let (from, to) = (customers.pick(&mut self.rng), self.consumers.pick(&mut self.rng));
                self.peers(network, from, to, v6, 6, (443, 39_000), 1400)
            }
        };
        let lookup = lookup.filter(|lookup| self.asks(lookup));
        (lookup, self.flows(network, rib, &talk, first))
    }

    /// Clients ask again only when the answer they had is old.
    fn asks(&mut self, lookup: &Lookup) -> bool {
        if self.cached.len() > CACHED_MAX {
            let now = lookup.at_ms;
            self.cached.retain(|_, until| *until > now);
        }
        let key = (lookup.client, lookup.server.service, lookup.server.asked);
        let fresh = self.cached.get(&key).is_some_and(|until| *until > lookup.at_ms);
        if !fresh {
            self.cached.insert(key, lookup.at_ms + TTL_MS / 2);
        }
        !fresh
    }

    fn peers(
        &mut self,
        network: &Network,
        from: GroupId,
        to: GroupId,
        v6: bool,
        proto: u8,
        ports: (u16, u16),
        packet_octets: u64,
    ) -> Talk {
        let v6 = v6 && !network.groups[from].v6.is_empty() && !network.groups[to].v6.is_empty();
        // Servers of services have low last octets.
        let (one, other) = (self.rng.random::<u128>() | 0x80, self.rng.random::<u128>() | 0x80);
        let from_address = host(&network.groups[from], v6, one);
        let to_address = host(&network.groups[to], v6, other);
        let proto = if proto == 1 && v6 { 58 } else { proto };
        let jitter = if matches!(proto, 1 | 58) { 0 } else { self.rng.random_range(0..1000) };
        let to_port = ports.1 + if ports.1 > 10_000 { jitter } else { 0 };
        Talk { from, from_address, from_port: ports.0, to, to_address, to_port, proto, service: None, packet_octets }
    }

    /// Both directions; either may have no way, and is then left out.
    fn flows(&mut self, network: &Network, rib: &Rib, talk: &Talk, first: i64) -> Vec<Flow> {
        let size = if self.rng.random_bool(0.6) { &self.mice } else { &self.elephants };
        let mut packets = (size.sample(&mut self.rng) as u64).min(PACKETS_MAX);
        if talk.proto == 1 || talk.proto == 58 {
            packets = packets.min(30);
        }
        // 2 to 80 Mbit/s, ten minutes at most.
        let rate = self.rng.random_range(2_000.0..80_000.0);
        let duration = ((packets * talk.packet_octets * 8) as f64 / rate) as i64 + self.rng.random_range(10..300);
        let duration = duration.min(600_000);
        let echo = matches!(talk.proto, 1 | 58);
        let octets =
            packets * talk.packet_octets - if echo { 0 } else { self.rng.random_range(0..talk.packet_octets / 2) };
        let back = if echo { packets } else { (packets / 2).max(2) };
        let back_octets = if echo { octets } else { back * 60 + self.rng.random_range(0..800) };
        let mut both = Vec::with_capacity(2);
        let icmp = |reply: bool| match (talk.proto, reply) {
            (1, false) => 8 << 8,
            (58, false) => 128 << 8,
            (58, true) => 129 << 8,
            _ => 0,
        };
        for reverse in [true, false] {
            let (src, dst, src_port, dst_port, from, to) = if reverse {
                (talk.to_address, talk.from_address, talk.to_port, talk.from_port, talk.to, talk.from)
            } else {
                (talk.from_address, talk.to_address, talk.from_port, talk.to_port, talk.from, talk.to)
            };
            let (packets, octets) = if reverse { (back, back_octets) } else { (packets, octets) };
            let Some((entry, neighbour)) = self.entry(rib, from) else { continue };
            let hops = rib.way(network, entry, to);
            let (Some(enters), Some(leaves)) = (hops.first().copied(), hops.last().copied()) else { continue };
            let exit = rib.best(to, leaves.router);
            let asn =
                |neighbour: Option<NeighbourId>| neighbour.map_or(network.own_as, |id| network.neighbours[id].asn);
            let key = Key {
                src_as: network.groups[from].asn,
                handover_as: asn(neighbour),
                next_as: asn(exit.neighbour),
                dst_as: network.groups[to].asn,
                ingress: enters.router,
                in_if: enters.in_if,
                egress: leaves.router,
                out_if: leaves.out_if,
                service: talk.service,
                proto: talk.proto,
            };
            let start = first + if reverse { 0 } else { self.rng.random_range(1..20) };
            let mut flow = Flow {
                src,
                dst,
                src_port,
                dst_port,
                proto: talk.proto,
                tos: 0,
                icmp: icmp(!reverse),
                src_group: from,
                dst_group: to,
                first: start,
                last: start + duration,
                packets,
                octets,
                hops,
                key,
            };
            if network.routers[enters.router].vendor == Vendor::Arista && !self.sampled {
                // See SFLOW_EXACT_RATE.
                let size = (octets / packets).clamp(64, 1400);
                flow.packets = (packets.min(8 * SFLOW_EXACT_RATE)).next_multiple_of(SFLOW_EXACT_RATE);
                flow.octets = flow.packets * size;
            }
            both.push(flow);
        }
        both
    }

    /// Mostly the first of the places where the group's traffic may come in.
    fn entry(&mut self, rib: &Rib, group: GroupId) -> Option<(IfId, Option<NeighbourId>)> {
        let entries = &rib.entries[group];
        let at = if self.rng.random_bool(0.7) { 0 } else { self.rng.random_range(0..entries.len().max(1)) };
        entries.get(at).copied()
    }
}

/// Share of the day's peak at a moment: least at four in the morning, most at nine in the evening.
pub fn day_curve(at_ms: i64) -> f64 {
    let hour = (at_ms.rem_euclid(86_400_000)) as f64 / 3_600_000.0 + 1.0;
    let wave = |peak: f64| ((hour - peak) / 24.0 * std::f64::consts::TAU).cos();
    (0.62 + 0.30 * wave(20.5) + 0.08 * ((hour - 13.0) / 12.0 * std::f64::consts::TAU).cos()).clamp(0.2, 1.0)
}

/// A flow's parts that are exported: (first, last, packets, octets), nothing lost between them.
pub fn chunks(flow: &Flow, unit: u64) -> Vec<(i64, i64, u64, u64)> {
    let duration = flow.last - flow.first + 1;
    let units = flow.packets / unit;
    let wanted = (duration / ACTIVE_TIMEOUT_MS + 1).min(units as i64).max(1);
    let mut parts = Vec::with_capacity(wanted as usize);
    let upto = |part: i64, total: u64| (u128::from(total) * part as u128 / wanted as u128) as u64;
    for part in 0..wanted {
        let first = flow.first + duration * part / wanted;
        let last = flow.first + duration * (part + 1) / wanted - 1;
        let packets = (upto(part + 1, units) - upto(part, units)) * unit
            + if part + 1 == wanted { flow.packets - units * unit } else { 0 };
        let octets = if unit > 1 {
            packets * (flow.octets / flow.packets)
        } else {
            upto(part + 1, flow.octets) - upto(part, flow.octets)
        };
        parts.push((first, last.max(first), packets, octets));
    }
    parts
}
