//! Time: second by second, conversations begin, flows end and are exported by
//! every router that they crossed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

use super::export::{Exporter, Output, Sighting};
use super::fault::{self, Fault, FaultKind};
use super::network::{Group, RouterId, Vendor};
use super::traffic::{self, Flow, Lookup, SFLOW_EXACT_RATE, Traffic};
use super::truth::{Sums, Truth};
use super::{Config, Model, agent, session};
use crate::encode::flow;
use crate::encode::sflow::{self, FRAME_OVERHEAD};

/// What other threads read of the engine.
pub struct Shared {
    pub counters: Arc<Vec<agent::Counters>>,
    pub agents: Vec<Arc<agent::State>>,
    pub sessions: Vec<Arc<session::State>>,
}

/// What a second brings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Second {
    /// dnstap messages.
    pub frames: Vec<Vec<u8>>,
    pub outputs: Vec<Output>,
}

/// A part of a flow that is yet to be exported.
struct Part {
    flow: Arc<Flow>,
    first: i64,
    last: i64,
    packets: u64,
    octets: u64,
    /// Only where it enters, as if nobody else exported it.
    entry_only: bool,
}

pub struct Engine {
    pub model: Arc<Model>,
    pub start_ms: i64,
    pub truth: Truth,
    pub conversations: u64,
    pub lookups: u64,
    traffic: Traffic,
    exporters: Vec<Exporter>,
    shared: Shared,
    /// (end, number), and the part by number.
    queue: BinaryHeap<Reverse<(i64, u64)>>,
    parts: std::collections::HashMap<u64, Part>,
    next_part: u64,
    per_s: f64,
    owed: f64,
    sampled: bool,
    sampling: u32,
    keep_windows: bool,
    faults: Vec<(i64, RouterId, FaultKind)>,
    pending_faults: Vec<(Fault, RouterId)>,
    ports: Vec<u16>,
}

/// Resolvers of the provider.
const RESOLVERS: [(&str, [u8; 4]); 2] = [("dns1.fra", [198, 18, 254, 53]), ("dns2.ber", [198, 18, 254, 54])];
const COUNTERS_EVERY_MS: i64 = 30_000;

/// Routers have been up for days; one of them for longer than its 32-bit counter of milliseconds.
pub fn boot_ms(now_ms: i64, router: RouterId) -> i64 {
    let days = if router == 5 { 57 } else { 3 + router as i64 % 40 };
    now_ms.div_euclid(1000) * 1000 - days * 86_400_000 - router as i64 * 61_000
}

impl Engine {
    pub fn new(config: &Config, model: Arc<Model>, shared: Shared, start_ms: i64) -> anyhow::Result<Self> {
        let start_ms = start_ms.div_euclid(1000) * 1000;
        let sampling = config.sampling.max(1);
        let exporters = model.network.routers.iter().enumerate().map(|(id, router)| {
            Exporter::new(id, router, boot_ms(start_ms, id), sampling, config.seed, config.templates_late)
        });
        let exporters: Vec<Exporter> = exporters.collect();
        for (state, exporter) in shared.agents.iter().zip(&exporters) {
            state.boot_ms.store(exporter.boot_ms, Ordering::Relaxed);
        }
        let rng = ChaCha8Rng::seed_from_u64(config.seed ^ 0x7472_6166);
        let traffic = Traffic::new(&model.network, &model.services, rng, sampling > 1)?;
        let mut pending_faults = Vec::new();
        for fault in &config.faults {
            pending_faults.push((fault.clone(), fault.router(&model.network)?));
        }
        Ok(Self {
            start_ms,
            truth: Truth::default(),
            conversations: 0,
            lookups: 0,
            traffic,
            exporters,
            shared,
            queue: BinaryHeap::new(),
            parts: Default::default(),
            next_part: 0,
            per_s: config.conversations_per_s.unwrap_or(config.scale.conversations_per_s()),
            owed: 0.0,
            sampled: sampling > 1,
            sampling,
            keep_windows: config.truth.is_some() || config.start_ms.is_some(),
            faults: Vec::new(),
            pending_faults,
            ports: vec![1024; RESOLVERS.len()],
            model,
        })
    }

    /// One short flow into each edge router, so that collectors learn who exports what.
    pub fn prime(&mut self) -> Second {
        let model = self.model.clone();
        let mut wanted: Vec<RouterId> =
            (0..model.network.routers.len()).filter(|id| model.network.routers[*id].edge).collect();
        let mut second = Second::default();
        let at_ms = self.start_ms - 1000;
        for _ in 0..20_000 {
            if wanted.is_empty() {
                break;
            }
            let (_, flows) = self.traffic.conversation(&model.network, &model.rib, &model.services, at_ms);
            for mut flow in flows {
                let Some(at) = wanted.iter().position(|router| *router == flow.key.ingress) else { continue };
                wanted.swap_remove(at);
                // Nobody asked for its name.
                flow.key.service = None;
                flow.last = flow.first.max(at_ms + 10);
                // Enough that sampling does not miss it.
                let times = (20 * u64::from(self.sampling) * u64::from(self.sampled)).div_ceil(flow.packets).max(1);
                let part = Part {
                    first: flow.first,
                    last: flow.last,
                    packets: flow.packets * times,
                    octets: flow.octets * times,
                    flow: Arc::new(flow),
                    entry_only: true,
                };
                self.export(vec![part], self.start_ms, true, &mut second);
            }
        }
        second
    }

    /// Real time begins; faults are counted from here.
    pub fn live_from(&mut self, at_ms: i64) {
        for (fault, router) in self.pending_faults.drain(..) {
            self.faults.push((at_ms + fault.at_s as i64 * 1000, router, fault.kind));
        }
    }

    /// Conversations that begin in the second from `at_ms` on, and what ended before it.
    pub fn second(&mut self, at_ms: i64, live: bool) -> Second {
        let mut second = Second::default();
        self.break_things(at_ms);
        self.owed += self.per_s * traffic::day_curve(at_ms);
        let model = self.model.clone();
        while self.owed >= 1.0 {
            self.owed -= 1.0;
            let (lookup, flows) = self.traffic.conversation(&model.network, &model.rib, &model.services, at_ms);
            self.conversations += 1;
            if let Some(lookup) = lookup {
                second.frames.push(self.frame(&lookup));
            }
            for flow in flows {
                // sFlow has no times: what is told now was now.
                if live || !self.exporters[flow.key.ingress].is_sflow() {
                    self.plan(flow);
                }
            }
        }
        let mut due = Vec::new();
        while let Some(Reverse((last, number))) = self.queue.peek().copied() {
            if last >= at_ms {
                break;
            }
            self.queue.pop();
            due.extend(self.parts.remove(&number));
        }
        self.export(due, at_ms, live, &mut second);
        if live && at_ms % COUNTERS_EVERY_MS == 0 {
            self.counters(at_ms, &mut second);
        }
        second
    }

    /// Nothing more begins; what waits in the routers is sent.
    pub fn finish(&mut self, at_ms: i64) -> Second {
        let mut second = Second::default();
        for exporter in &mut self.exporters {
            exporter.flush(at_ms);
            second.outputs.extend(exporter.take());
        }
        second
    }

    fn frame(&mut self, lookup: &Lookup) -> Vec<u8> {
        self.lookups += 1;
        let index = self.lookups as usize % RESOLVERS.len();
        let (name, address) = RESOLVERS[index];
        self.ports[index] = self.ports[index].wrapping_add(1).max(1024);
        let resolver: IpAddr = match lookup.client {
            IpAddr::V4(_) => IpAddr::from(address),
            IpAddr::V6(_) => IpAddr::from([0x2001, 0xdb8, 0xfffe, 0x53, 0, 0, 0, u16::from(address[3])]),
        };
        let services = &self.model.services;
        services.answer(
            &lookup.server,
            lookup.client,
            (name, resolver),
            lookup.at_ms,
            self.ports[index],
            traffic::TTL_S,
        )
    }

    fn plan(&mut self, flow: Flow) {
        let exact_sflow = !self.sampled && self.exporters[flow.key.ingress].is_sflow();
        let unit = if exact_sflow { SFLOW_EXACT_RATE } else { 1 };
        let flow = Arc::new(flow);
        for (first, last, packets, octets) in traffic::chunks(&flow, unit) {
            let number = self.next_part;
            self.next_part += 1;
            self.queue.push(Reverse((last, number)));
            self.parts.insert(number, Part { flow: flow.clone(), first, last, packets, octets, entry_only: false });
        }
    }

    /// Where traffic enters is told first, everywhere; then what the other routers saw of it.
    fn export(&mut self, parts: Vec<Part>, at_ms: i64, live: bool, second: &mut Second) {
        let model = self.model.clone();
        for entry in [true, false] {
            for part in &parts {
                for (nth, hop) in part.flow.hops.iter().enumerate() {
                    if (nth == 0) != entry || part.entry_only && nth > 0 {
                        continue;
                    }
                    let exporter = &mut self.exporters[hop.router];
                    if exporter.is_sflow() && !live {
                        continue;
                    }
                    let offset = self.shared.agents[hop.router].renumbered_by.load(Ordering::Relaxed);
                    let seen = record(&model, part, nth, offset);
                    let both = exporter.both_directions();
                    let leaving = both.then(|| flow::Flow { direction: 1, ..seen.clone() });
                    for flow in std::iter::once(seen).chain(leaving) {
                        exporter.see(Sighting { flow, packets: part.packets, octets: part.octets }, at_ms);
                    }
                }
            }
            for exporter in &mut self.exporters {
                exporter.flush(at_ms);
                second.outputs.extend(exporter.take());
            }
        }
        for part in &parts {
            self.count(part);
            self.tell_truth(part, at_ms);
        }
    }

    fn count(&self, part: &Part) {
        let octets = part.octets + part.packets * u64::from(FRAME_OVERHEAD);
        for hop in &part.flow.hops {
            let (entering, leaving) = (&self.shared.counters[hop.in_if], &self.shared.counters[hop.out_if]);
            entering.in_octets.fetch_add(octets, Ordering::Relaxed);
            entering.in_packets.fetch_add(part.packets, Ordering::Relaxed);
            leaving.out_octets.fetch_add(octets, Ordering::Relaxed);
            leaving.out_packets.fetch_add(part.packets, Ordering::Relaxed);
        }
    }

    fn tell_truth(&mut self, part: &Part, at_ms: i64) {
        let sflow = self.exporters[part.flow.key.ingress].is_sflow();
        let sums = Sums {
            octets: part.octets,
            octets_exported: part.octets + if sflow { part.packets * u64::from(FRAME_OVERHEAD) } else { 0 },
            packets: part.packets,
            flows: if sflow && !self.sampled { part.packets / SFLOW_EXACT_RATE } else { 1 },
        };
        // A sample says nothing of time, it is taken to be when it comes.
        let (first, last) = if sflow { (at_ms + 1, at_ms + 1) } else { (part.first, part.last) };
        if self.keep_windows {
            self.truth.add(part.flow.key, first, last, sums);
        } else {
            self.truth.totals += sums;
        }
    }

    fn counters(&mut self, at_ms: i64, second: &mut Second) {
        for (id, router) in self.model.network.routers.iter().enumerate() {
            if router.vendor != Vendor::Arista {
                continue;
            }
            let mut all = Vec::new();
            for interface in &router.interfaces {
                let (port, counters) = (self.model.network.interface(*interface), &self.shared.counters[*interface]);
                all.push(sflow::Counters {
                    if_index: port.if_index + self.shared.agents[id].renumbered_by.load(Ordering::Relaxed),
                    speed: port.speed,
                    in_octets: counters.in_octets.load(Ordering::Relaxed),
                    in_packets: counters.in_packets.load(Ordering::Relaxed) as u32,
                    out_octets: counters.out_octets.load(Ordering::Relaxed),
                    out_packets: counters.out_packets.load(Ordering::Relaxed) as u32,
                    sequence: (at_ms / COUNTERS_EVERY_MS) as u32,
                });
            }
            self.exporters[id].counters(&all, at_ms);
            second.outputs.extend(self.exporters[id].take());
        }
    }

    fn break_things(&mut self, at_ms: i64) {
        let due: Vec<(i64, RouterId, FaultKind)> =
            self.faults.iter().copied().filter(|(when, _, _)| *when <= at_ms).collect();
        self.faults.retain(|(when, _, _)| *when > at_ms);
        for (when, router, kind) in due {
            let exporter = &mut self.exporters[router];
            tracing::info!(router = self.model.network.routers[router].name, ?kind, "fault");
            match kind {
                FaultKind::Sampling => exporter.sampling = exporter.sampling.max(1) * 2,
                FaultKind::Loss => exporter.loss = fault::LOSS,
                FaultKind::Silent => exporter.silent = true,
                FaultKind::Flap => {
                    let down = self.shared.sessions[router].held_down.fetch_xor(true, Ordering::Relaxed);
                    if !down {
                        self.faults.push((when + fault::FLAP_MS, router, FaultKind::Flap));
                    }
                }
                FaultKind::IfIndex => {
                    exporter.restart(at_ms);
                    let agent = &self.shared.agents[router];
                    agent.boot_ms.store(exporter.boot_ms, Ordering::Relaxed);
                    agent.renumbered_by.fetch_add(fault::RENUMBERED_BY, Ordering::Relaxed);
                    agent.generation.fetch_add(1, Ordering::Release);
                }
            }
        }
    }
}

/// The part as the router of its `nth` hop sees it.
fn record(model: &Model, part: &Part, nth: usize, renumbered_by: u32) -> flow::Flow {
    let flow = &part.flow;
    let hop = &flow.hops[nth];
    let v6 = flow.src.is_ipv6();
    let network = &model.network;
    let next_hop = model.rib.next_hop(network, hop.router, flow.dst_group, v6);
    flow::Flow {
        src: flow.src,
        dst: flow.dst,
        src_port: flow.src_port,
        dst_port: flow.dst_port,
        proto: flow.proto,
        tos: flow.tos,
        tcp_flags: if flow.proto == 6 { 0x1b } else { 0 },
        icmp: flow.icmp,
        in_if: network.interface(hop.in_if).if_index + renumbered_by,
        out_if: network.interface(hop.out_if).if_index + renumbered_by,
        direction: 0,
        octets: part.octets,
        packets: part.packets,
        first: part.first,
        last: part.last,
        src_as: network.groups[flow.src_group].asn,
        dst_as: network.groups[flow.dst_group].asn,
        src_mask: mask(&network.groups[flow.src_group], flow.src),
        dst_mask: mask(&network.groups[flow.dst_group], flow.dst),
        next_hop,
        bgp_next_hop: next_hop,
        vlan: 0,
    }
}

/// Groups with more prefixes are not searched for every record.
const SEARCHED_MAX: usize = 32;

fn mask(group: &Group, address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(v4) => {
            group.v4.iter().take(SEARCHED_MAX).find(|net| net.contains(&v4)).map_or(0, |net| net.prefix_len())
        }
        IpAddr::V6(v6) => {
            group.v6.iter().take(SEARCHED_MAX).find(|net| net.contains(&v6)).map_or(0, |net| net.prefix_len())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn engine(config: &Config) -> Engine {
        let model = Arc::new(Model::build(config).unwrap());
        let routers = model.network.routers.len();
        let shared = Shared {
            counters: Arc::new(model.network.interfaces.iter().map(|_| Default::default()).collect()),
            agents: (0..routers).map(|_| Arc::default()).collect(),
            sessions: (0..routers).map(|_| Arc::default()).collect(),
        };
        Engine::new(config, model, shared, 1_700_000_000_000).unwrap()
    }

    fn config(seed: u64) -> Config {
        Config { seed, start_ms: Some(1_700_000_000_000), ..Config::default() }
    }

    fn run(engine: &mut Engine, seconds: i64) -> Vec<Second> {
        let mut all = vec![engine.prime()];
        for second in 0..seconds {
            all.push(engine.second(engine.start_ms + second * 1000, true));
        }
        all.push(engine.finish(engine.start_ms + seconds * 1000));
        all
    }

    #[test]
    fn the_same_seed_is_the_same_to_the_octet() {
        let (mut one, mut two, mut other) = (engine(&config(5)), engine(&config(5)), engine(&config(6)));
        let (a, b, c) = (run(&mut one, 20), run(&mut two, 20), run(&mut other, 20));
        assert!(a == b, "outputs differ");
        assert!(one.truth == two.truth, "truths differ");
        assert!(a != c, "another seed is another network");
        assert!(one.truth.totals.flows > 100);
    }

    #[test]
    fn windows_add_up_and_counters_agree_at_the_edges() {
        let mut engine = engine(&config(9));
        run(&mut engine, 60);
        let mut sum = Sums::default();
        for (_, key, sums) in engine.truth.lines() {
            assert_eq!(engine.model.network.interface(key.in_if).router, key.ingress);
            assert_eq!(engine.model.network.interface(key.out_if).router, key.egress);
            sum += *sums;
        }
        assert_eq!(sum, engine.truth.totals);
        let core = |id: usize| engine.model.network.interface(id).far.is_some();
        let total = |pick: fn(&agent::Counters) -> &std::sync::atomic::AtomicU64| -> u64 {
            let counters = engine.shared.counters.iter().enumerate().filter(|(id, _)| !core(*id));
            counters.map(|(_, counters)| pick(counters).load(Ordering::Relaxed)).sum()
        };
        let entered = total(|counters| &counters.in_octets);
        assert_eq!(entered, sum.octets + sum.packets * u64::from(FRAME_OVERHEAD));
        assert_eq!(entered, total(|counters| &counters.out_octets), "what enters leaves");
        assert_eq!(total(|counters| &counters.in_packets), sum.packets);
    }

    #[test]
    fn flows_are_of_one_family_and_within_their_groups() {
        let mut engine = engine(&config(3));
        let model = engine.model.clone();
        let (mut flows, mut v6) = (0, 0);
        for _ in 0..500 {
            let conversation = engine.traffic.conversation(&model.network, &model.rib, &model.services, 0);
            for flow in conversation.1 {
                assert_eq!(flow.src.is_ipv6(), flow.dst.is_ipv6());
                flows += 1;
                v6 += usize::from(flow.src.is_ipv6());
                for (group, address) in [(flow.src_group, flow.src), (flow.dst_group, flow.dst)] {
                    assert!(mask(&model.network.groups[group], address) > 0, "{address} is not of its group");
                }
            }
        }
        assert!(flows > 900 && v6 > 100, "{v6} of {flows}");
    }

    #[test]
    fn names_precede_flows() {
        let mut engine = engine(&config(2));
        let seconds = run(&mut engine, 30);
        let frames: usize = seconds.iter().map(|second| second.frames.len()).sum();
        assert!(frames > 100);
        assert_eq!(frames as u64, engine.lookups);
        let named: u64 =
            engine.truth.lines().filter(|(_, key, _)| key.service.is_some()).map(|(_, _, sums)| sums.octets).sum();
        assert!(named * 3 > engine.truth.totals.octets, "{named} of {}", engine.truth.totals.octets);
    }

    #[test]
    fn a_silent_router_is_silent_and_the_truth_goes_on() {
        let mut broken = config(4);
        broken.faults = vec!["silent@10".parse().unwrap()];
        let mut engine = engine(&broken);
        engine.live_from(engine.start_ms);
        let router = broken.faults[0].router(&engine.model.network).unwrap();
        let seconds = run(&mut engine, 30);
        let of = |range: std::ops::Range<usize>| {
            seconds[range].iter().flat_map(|second| &second.outputs).filter(|output| output.router == router).count()
        };
        assert!(of(1..11) > 0);
        assert_eq!(of(12..31), 0);
    }

    #[test]
    fn each_fault_breaks_one_thing() {
        let mut broken = config(4);
        let faults = ["loss@5", "sampling@5", "flap@5", "ifindex@50:edge1.ham"];
        broken.faults = faults.iter().map(|fault| fault.parse().unwrap()).collect();
        let mut engine = engine(&broken);
        engine.live_from(engine.start_ms);
        let lossy = broken.faults[0].router(&engine.model.network).unwrap();
        let renumbered = broken.faults[3].router(&engine.model.network).unwrap();
        let mut gaps = 0;
        let mut expected = None;
        for second in 0..60 {
            let at_ms = engine.start_ms + second * 1000;
            let outputs = engine.second(at_ms, true).outputs;
            // IPFIX: the sequence counts data records.
            for output in outputs.iter().filter(|output| output.router == lossy && output.records > 0) {
                let octets = &output.octets;
                let sequence = u32::from_be_bytes([octets[8], octets[9], octets[10], octets[11]]);
                // Options records count too.
                gaps += u32::from(expected.is_some_and(|expected: u32| sequence > expected + 1));
                expected = Some(sequence + output.records);
            }
            let held_down = engine.shared.sessions[lossy].held_down.load(Ordering::Relaxed);
            assert_eq!(held_down, (5..35).contains(&second), "second {second}");
        }
        assert!(gaps > 0, "one in twenty of its datagrams is lost");
        assert_eq!((engine.exporters[lossy].sampling, engine.exporters[lossy].announced), (2, 1));
        let agent = &engine.shared.agents[renumbered];
        assert_eq!(agent.renumbered_by.load(Ordering::Relaxed), fault::RENUMBERED_BY);
        assert_eq!(agent.boot_ms.load(Ordering::Relaxed), engine.start_ms + 50_000 - 30_000);
    }
}
