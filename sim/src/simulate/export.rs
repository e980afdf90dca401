//! Flow export of one router, with its vendor's habits.

use std::net::IpAddr;

use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Binomial, Distribution as _};

use super::network::{Router, RouterId, Vendor};
use crate::encode::flow::{Context, Field, Flow, element::*, record_octets};
use crate::encode::{Put as _, ipfix, netflow5, netflow9, sflow};

const V4_TEMPLATE: u16 = 256;
const V6_TEMPLATE: u16 = 257;
const OPTIONS_TEMPLATE: u16 = 512;
const PACKET_OCTETS_MAX: usize = 1400;
/// Templates come again after so many datagrams, or so long.
const TEMPLATE_DATAGRAMS: u32 = 20;
const TEMPLATE_MS: i64 = 30_000;
const SAMPLER: u32 = 1;
const SFLOW_SAMPLES: usize = 8;

/// Where a datagram goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Port {
    Flows,
    Sflow,
}

/// A datagram that a router sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    pub router: RouterId,
    pub port: Port,
    pub records: u32,
    pub octets: Vec<u8>,
}

/// What to export: one part of a flow at one router, before sampling.
#[derive(Clone, Debug)]
pub struct Sighting {
    pub flow: Flow,
    pub packets: u64,
    pub octets: u64,
}

struct Family {
    template: u16,
    fields: Vec<Field>,
    pending: Vec<Flow>,
}

pub struct Exporter {
    id: RouterId,
    vendor: Vendor,
    agent: std::net::Ipv4Addr,
    pub boot_ms: i64,
    /// 1 in this many packets is looked at, and this is what is announced.
    pub sampling: u32,
    pub announced: u32,
    /// The first data goes out before any template.
    late: bool,
    rng: ChaCha8Rng,
    /// Counts what the protocol counts; of version 5 its own.
    sequence: u32,
    sequence5: u32,
    sample_sequence: u32,
    pool: u32,
    families: [Family; 2],
    templates_at: Option<i64>,
    since_templates: u32,
    samples: Vec<(Flow, u32, u32)>,
    pub silent: bool,
    /// Share of datagrams that are lost on their way.
    pub loss: f64,
    out: Vec<Output>,
}

fn fields(vendor: Vendor, v6: bool) -> Vec<Field> {
    let address = if v6 { [Field(SRC_V6, 16), Field(DST_V6, 16)] } else { [Field(SRC_V4, 4), Field(DST_V4, 4)] };
    let ports = [Field(SRC_PORT, 2), Field(DST_PORT, 2), Field(PROTO, 1)];
    let (masks, hop, bgp_hop) = if v6 {
        ([Field(SRC_MASK_V6, 1), Field(DST_MASK_V6, 1)], Field(NEXT_HOP_V6, 16), Field(BGP_NEXT_HOP_V6, 16))
    } else {
        ([Field(SRC_MASK_V4, 1), Field(DST_MASK_V4, 1)], Field(NEXT_HOP_V4, 4), Field(BGP_NEXT_HOP_V4, 4))
    };
    let mut all = Vec::new();
    let add = |all: &mut Vec<Field>, some: &[Field]| all.extend_from_slice(some);
    match vendor {
        Vendor::CiscoXr | Vendor::CiscoIos => {
            add(&mut all, &address);
            add(&mut all, &[Field(IN_IF, 4), Field(OUT_IF, 4), Field(PACKETS, 4), Field(OCTETS, 4)]);
            add(&mut all, &[Field(FIRST_UPTIME, 4), Field(LAST_UPTIME, 4)]);
            add(&mut all, &ports);
            add(&mut all, &[Field(TOS, 1), Field(TCP_FLAGS, 1)]);
            add(&mut all, &masks);
            add(&mut all, &[Field(SRC_AS, 4), Field(DST_AS, 4), bgp_hop, Field(SAMPLER_ID, 1), Field(DIRECTION, 1)]);
            add(&mut all, &[Field(ICMP_TYPE_CODE, 2)]);
        }
        Vendor::Juniper | Vendor::Arista => {
            add(&mut all, &address);
            add(&mut all, &[Field(TOS, 1)]);
            add(&mut all, &ports);
            add(&mut all, &[Field(ICMP_TYPE_CODE, 2), Field(IN_IF, 4), Field(SRC_VLAN, 2)]);
            add(&mut all, &masks);
            add(&mut all, &[Field(SRC_AS, 4), Field(DST_AS, 4), hop, Field(TCP_FLAGS, 1), Field(OUT_IF, 4)]);
            add(&mut all, &[Field(OCTETS, 8), Field(PACKETS, 8), Field(FIRST_MS, 8), Field(LAST_MS, 8)]);
            add(&mut all, &[Field(IP_VERSION, 1)]);
        }
        Vendor::Nokia => {
            add(&mut all, &address);
            add(&mut all, &[hop, bgp_hop, Field(IN_IF, 4), Field(OUT_IF, 4), Field(PACKETS, 8), Field(OCTETS, 8)]);
            add(&mut all, &[Field(FIRST_MS, 8), Field(LAST_MS, 8)]);
            add(&mut all, &ports);
            add(&mut all, &[Field(TOS, 1), Field(TCP_FLAGS, 1), Field(ICMP_TYPE_CODE, 2), Field(DIRECTION, 1)]);
            add(&mut all, &[Field(SELECTOR_ID, 4)]);
        }
        Vendor::Huawei => {
            add(&mut all, &address);
            add(&mut all, &[Field(PACKETS, 4), Field(OCTETS, 4), Field(FIRST_UPTIME, 4), Field(LAST_UPTIME, 4)]);
            add(&mut all, &[Field(IN_IF, 4), Field(OUT_IF, 4)]);
            add(&mut all, &ports);
            add(&mut all, &[Field(TOS, 1), Field(TCP_FLAGS, 1), Field(DIRECTION, 1), Field(ICMP_TYPE_CODE, 2)]);
            add(&mut all, &masks);
            add(
                &mut all,
                &[Field(SRC_AS, 4), Field(DST_AS, 4), Field(SAMPLING_INTERVAL, 4), Field(SAMPLING_ALGORITHM, 1)],
            );
        }
    }
    all
}

impl Exporter {
    pub fn new(id: RouterId, router: &Router, boot_ms: i64, sampling: u32, seed: u64, templates_late: bool) -> Self {
        let family = |v6, template| Family { template, fields: fields(router.vendor, v6), pending: Vec::new() };
        Self {
            id,
            vendor: router.vendor,
            agent: router.address,
            boot_ms,
            sampling,
            announced: sampling,
            late: templates_late && router.vendor == Vendor::Juniper,
            rng: ChaCha8Rng::seed_from_u64(seed ^ (id as u64) << 20 ^ 0x6578_706f),
            sequence: 0,
            sequence5: 0,
            sample_sequence: 0,
            pool: 0,
            families: [family(false, V4_TEMPLATE), family(true, V6_TEMPLATE)],
            templates_at: None,
            since_templates: 0,
            samples: Vec::new(),
            silent: false,
            loss: 0.0,
            out: Vec::new(),
        }
    }

    /// Records that leave as well as those that enter are exported.
    pub fn both_directions(&self) -> bool {
        self.vendor == Vendor::Nokia
    }

    pub fn is_sflow(&self) -> bool {
        self.vendor == Vendor::Arista
    }

    /// Device restarts: counters and templates begin anew.
    pub fn restart(&mut self, now_ms: i64) {
        self.boot_ms = now_ms.div_euclid(1000) * 1000 - 30_000;
        self.sequence = 0;
        self.sequence5 = 0;
        self.sample_sequence = 0;
        self.pool = 0;
        self.templates_at = None;
    }

    /// Samples what was seen and keeps what remains until it fills a datagram.
    pub fn see(&mut self, sighting: Sighting, now_ms: i64) {
        let Sighting { mut flow, packets, octets } = sighting;
        if self.is_sflow() {
            return self.sample(flow, packets, octets, now_ms);
        }
        if self.sampling > 1 {
            let seen = self.thin(packets);
            if seen == 0 {
                return;
            }
            flow.octets = (octets as f64 / packets as f64 * seen as f64).round() as u64;
            flow.packets = seen;
        } else {
            flow.octets = octets;
            flow.packets = packets;
        }
        let family = usize::from(flow.src.is_ipv6());
        self.families[family].pending.push(flow);
        if self.families[family].pending.len() >= self.room(family) {
            self.send(family, now_ms);
        }
    }

    fn thin(&mut self, packets: u64) -> u64 {
        match Binomial::new(packets, 1.0 / f64::from(self.sampling)) {
            Ok(distribution) => distribution.sample(&mut self.rng),
            Err(_) => 0,
        }
    }

    fn sample(&mut self, flow: Flow, packets: u64, octets: u64, now_ms: i64) {
        let exact = self.sampling <= 1;
        let rate = if exact { super::traffic::SFLOW_EXACT_RATE } else { u64::from(self.sampling) };
        let samples = if exact { packets / rate } else { self.thin(packets) };
        let packet_octets = (octets / packets.max(1)).min(9000) as u32;
        for _ in 0..samples {
            self.samples.push((flow.clone(), packet_octets, if exact { rate as u32 } else { self.announced }));
            if self.samples.len() >= SFLOW_SAMPLES {
                self.flush_sflow(now_ms);
            }
        }
    }

    fn is_v5(&self, family: usize) -> bool {
        self.vendor == Vendor::CiscoIos && family == 0
    }

    fn room(&self, family: usize) -> usize {
        if self.is_v5(family) {
            return netflow5::RECORDS_MAX;
        }
        // A datagram may carry templates between its data.
        let templates = if self.vendor == Vendor::Nokia { 260 } else { 0 };
        (PACKET_OCTETS_MAX - 24 - templates) / record_octets(&self.families[family].fields)
    }

    /// Everything that waits is sent.
    pub fn flush(&mut self, now_ms: i64) {
        for family in 0..2 {
            if !self.families[family].pending.is_empty() {
                self.send(family, now_ms);
            }
        }
        if !self.samples.is_empty() {
            self.flush_sflow(now_ms);
        }
    }

    pub fn take(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.out)
    }

    /// sFlow counter samples of the router's interfaces.
    pub fn counters(&mut self, counters: &[sflow::Counters], now_ms: i64) {
        for some in counters.chunks(8) {
            let header = self.sflow_header(now_ms);
            let octets = sflow::datagram(&header, &[], some);
            self.put(Port::Sflow, 0, octets);
        }
    }

    fn put(&mut self, port: Port, records: u32, octets: Vec<u8>) {
        use rand::Rng as _;
        let lost = self.loss > 0.0 && self.rng.random_bool(self.loss);
        if !self.silent && !lost {
            self.out.push(Output { router: self.id, port, records, octets });
        }
    }

    fn sflow_header(&mut self, now_ms: i64) -> sflow::Header {
        self.sequence = self.sequence.wrapping_add(1);
        sflow::Header {
            agent: self.agent,
            sub_agent: 0,
            sequence: self.sequence,
            uptime_ms: crate::encode::flow::uptime(now_ms, self.boot_ms),
        }
    }

    fn flush_sflow(&mut self, now_ms: i64) {
        let pending = std::mem::take(&mut self.samples);
        let header = self.sflow_header(now_ms);
        let mut samples = Vec::with_capacity(pending.len());
        for (flow, packet_octets, rate) in &pending {
            self.sample_sequence = self.sample_sequence.wrapping_add(1);
            self.pool = self.pool.wrapping_add(*rate);
            samples.push(sflow::Sample {
                flow,
                packet_octets: *packet_octets,
                sequence: self.sample_sequence,
                rate: *rate,
                pool: self.pool,
            });
        }
        let octets = sflow::datagram(&header, &samples, &[]);
        self.put(Port::Sflow, pending.len() as u32, octets);
    }

    fn context(&self) -> Context {
        Context { boot_ms: self.boot_ms, sampler_id: SAMPLER, sampling: self.announced }
    }

    fn templates_due(&self, now_ms: i64) -> bool {
        self.since_templates >= TEMPLATE_DATAGRAMS || self.templates_at.is_none_or(|at| now_ms - at >= TEMPLATE_MS)
    }

    fn send(&mut self, family: usize, now_ms: i64) {
        let flows = std::mem::take(&mut self.families[family].pending);
        if self.is_v5(family) {
            let header = netflow5::Header {
                now_ms,
                boot_ms: self.boot_ms,
                sequence: self.sequence5,
                engine_id: 0,
                sampling: self.announced,
            };
            self.sequence5 = self.sequence5.wrapping_add(flows.len() as u32);
            self.put(Port::Flows, flows.len() as u32, netflow5::datagram(&header, &flows));
            return;
        }
        let due = self.templates_due(now_ms);
        self.since_templates += 1;
        match self.vendor {
            Vendor::CiscoXr | Vendor::CiscoIos => {
                if due {
                    self.templates9(now_ms);
                }
                self.data9(family, &flows, now_ms, false);
            }
            Vendor::Huawei => self.data9(family, &flows, now_ms, due),
            Vendor::Juniper | Vendor::Arista => {
                let late = std::mem::take(&mut self.late);
                if due && !late {
                    self.templates10(now_ms);
                }
                self.data10(family, &flows, now_ms, false);
                if due && late {
                    self.templates10(now_ms);
                }
            }
            Vendor::Nokia => self.data10(family, &flows, now_ms, due),
        }
    }

    fn note_templates(&mut self, now_ms: i64) {
        self.templates_at = Some(now_ms);
        self.since_templates = 0;
    }

    fn templates9(&mut self, now_ms: i64) {
        let mut datagram = netflow9::Datagram::new(now_ms, self.boot_ms, self.sequence, self.id as u32);
        self.sequence = self.sequence.wrapping_add(1);
        self.put_templates9(&mut datagram);
        let mut octets = Vec::new();
        // Scope: the system; then id, random mode, interval.
        octets.u32(u32::from(self.agent));
        octets.u8(SAMPLER as u8);
        octets.u8(2);
        octets.u32(self.announced);
        datagram.options_template(
            OPTIONS_TEMPLATE,
            &[Field(1, 4)],
            &[Field(SAMPLER_ID, 1), Field(SAMPLER_MODE, 1), Field(SAMPLER_INTERVAL, 4)],
        );
        datagram.options(OPTIONS_TEMPLATE, &octets);
        self.put(Port::Flows, 0, datagram.finish());
        self.note_templates(now_ms);
    }

    fn put_templates9(&self, datagram: &mut netflow9::Datagram) {
        let [v4, v6] = &self.families;
        datagram.templates(&[(v4.template, &v4.fields), (v6.template, &v6.fields)]);
    }

    fn data9(&mut self, family: usize, flows: &[Flow], now_ms: i64, with_templates: bool) {
        let mut datagram = netflow9::Datagram::new(now_ms, self.boot_ms, self.sequence, self.id as u32);
        self.sequence = self.sequence.wrapping_add(1);
        if with_templates {
            self.put_templates9(&mut datagram);
            self.note_templates(now_ms);
        }
        let context = self.context();
        let by = &self.families[family];
        datagram.data(by.template, &by.fields, flows, &context);
        self.put(Port::Flows, flows.len() as u32, datagram.finish());
    }

    fn put_templates10(&self, message: &mut ipfix::Message) -> u32 {
        let [v4, v6] = &self.families;
        message.templates(&[(v4.template, &v4.fields), (v6.template, &v6.fields)]);
        let mut octets = Vec::new();
        if self.vendor == Vendor::Nokia {
            // Count-based systematic: one packet, then a space.
            octets.u32(SAMPLER);
            octets.u16(1);
            octets.u32(1);
            octets.u32(self.announced - 1);
            message.options_template(
                OPTIONS_TEMPLATE,
                &[Field(SELECTOR_ID, 4)],
                &[Field(SELECTOR_ALGORITHM, 2), Field(SAMPLING_PACKET_INTERVAL, 4), Field(SAMPLING_PACKET_SPACE, 4)],
            );
        } else {
            octets.u32(1);
            octets.u32(self.announced);
            message.options_template(OPTIONS_TEMPLATE, &[Field(EXPORTING_PROCESS, 4)], &[Field(SAMPLING_INTERVAL, 4)]);
        }
        message.options(OPTIONS_TEMPLATE, &octets);
        1
    }

    fn templates10(&mut self, now_ms: i64) {
        let mut message = ipfix::Message::new(now_ms, self.sequence, self.id as u32);
        let records = self.put_templates10(&mut message);
        self.sequence = self.sequence.wrapping_add(records);
        self.put(Port::Flows, 0, message.finish());
        self.note_templates(now_ms);
    }

    fn data10(&mut self, family: usize, flows: &[Flow], now_ms: i64, with_templates: bool) {
        let mut message = ipfix::Message::new(now_ms, self.sequence, self.id as u32);
        let context = self.context();
        let by = &self.families[family];
        let mut records = flows.len() as u32;
        if with_templates {
            // Between data where there was a template before, else in front of it.
            let before = if self.templates_at.is_some() { flows.len() / 2 } else { 0 };
            if before > 0 {
                message.data(by.template, &by.fields, &flows[..before], &context);
            }
            records += self.put_templates10(&mut message);
            message.data(by.template, &by.fields, &flows[before..], &context);
            self.note_templates(now_ms);
        } else {
            message.data(by.template, &by.fields, flows, &context);
        }
        self.sequence = self.sequence.wrapping_add(records);
        self.put(Port::Flows, flows.len() as u32, message.finish());
    }
}

/// Any address of the family, where a flow has none.
pub fn none(v6: bool) -> IpAddr {
    if v6 { IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED) } else { IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED) }
}
