//! Flow records of one kind, at a given rate or as fast as the machine sends.
//!
//! Datagrams are built once and patched: sequence, time, and, where wanted, a
//! key in every record that no other record has.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use benocs_sys::UdpSender;
use serde::Serialize;

use crate::encode::flow::{Context, Field, Flow, element, offset, record_octets, uptime};
use crate::encode::{ipfix, netflow5, netflow9, set_u16, set_u32, set_u64, sflow};
use crate::{Stop, source};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    V5,
    V9,
    #[default]
    Ipfix,
    Sflow,
}

impl std::str::FromStr for Protocol {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "v5" | "netflow5" => Ok(Self::V5),
            "v9" | "netflow9" => Ok(Self::V9),
            "ipfix" | "v10" => Ok(Self::Ipfix),
            "sflow" => Ok(Self::Sflow),
            _ => Err(format!("unknown protocol {text}: v5, v9, ipfix or sflow")),
        }
    }
}

#[derive(Clone, Debug)]
pub struct Config {
    /// host:port.
    pub to: String,
    /// Records a second, all exporters together; 0 is as fast as possible.
    pub rate: u64,
    /// Ends after this many seconds; with a rate, after exactly rate x seconds records.
    pub seconds: Option<f64>,
    /// Ends after exactly this many records.
    pub count: Option<u64>,
    /// Each sends from an address of its own.
    pub exporters: u32,
    /// The first of these; without it, 127.17.0.1 where `to` is on loopback, else all are this machine's.
    pub first_source: Option<Ipv4Addr>,
    /// 0 is as many as fit into 1,472 octets (30 of version 5).
    pub records_per_packet: usize,
    pub protocol: Protocol,
    pub seed: u64,
    /// Every record has another (src_addr, src_port, dst_port): a counter of 56 bits.
    pub unique_key: bool,
    /// The first value of that counter, so that runs one after the other stay distinct.
    pub first_key: u64,
    pub stop: Stop,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            to: "127.0.0.1:2055".to_owned(),
            rate: 0,
            seconds: None,
            count: None,
            exporters: 4,
            first_source: None,
            records_per_packet: 0,
            protocol: Protocol::default(),
            seed: 1,
            unique_key: false,
            first_key: 0,
            stop: Stop::default(),
        }
    }
}

/// What was sent. `flow_octets` and `flow_packets` are the sums of the records' counters.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    pub records: u64,
    /// Datagrams, those with templates alone among them, and their octets.
    pub datagrams: u64,
    pub octets: u64,
    pub flow_octets: u64,
    pub flow_packets: u64,
    pub exporters: u32,
    pub seconds: f64,
    pub records_per_second: f64,
    /// Key after the last one used.
    pub next_key: u64,
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} records in {} datagrams ({} octets) of {} exporters in {:.2} s: {:.0} records/s",
            self.records, self.datagrams, self.octets, self.exporters, self.seconds, self.records_per_second
        )
    }
}

/// Twenty fields, 58 octets.
const V9_FIELDS: &[Field] = &[
    Field(element::SRC_V4, 4),
    Field(element::DST_V4, 4),
    Field(element::SRC_PORT, 2),
    Field(element::DST_PORT, 2),
    Field(element::PROTO, 1),
    Field(element::TOS, 1),
    Field(element::TCP_FLAGS, 1),
    Field(element::DIRECTION, 1),
    Field(element::IN_IF, 4),
    Field(element::OUT_IF, 4),
    Field(element::OCTETS, 4),
    Field(element::PACKETS, 4),
    Field(element::FIRST_UPTIME, 4),
    Field(element::LAST_UPTIME, 4),
    Field(element::SRC_AS, 4),
    Field(element::DST_AS, 4),
    Field(element::NEXT_HOP_V4, 4),
    Field(element::SRC_MASK_V4, 1),
    Field(element::DST_MASK_V4, 1),
    Field(element::SAMPLING_INTERVAL, 4),
];

/// The same with times in milliseconds, 66 octets.
const IPFIX_FIELDS: &[Field] = &[
    Field(element::SRC_V4, 4),
    Field(element::DST_V4, 4),
    Field(element::SRC_PORT, 2),
    Field(element::DST_PORT, 2),
    Field(element::PROTO, 1),
    Field(element::TOS, 1),
    Field(element::TCP_FLAGS, 1),
    Field(element::DIRECTION, 1),
    Field(element::IN_IF, 4),
    Field(element::OUT_IF, 4),
    Field(element::OCTETS, 4),
    Field(element::PACKETS, 4),
    Field(element::FIRST_MS, 8),
    Field(element::LAST_MS, 8),
    Field(element::SRC_AS, 4),
    Field(element::DST_AS, 4),
    Field(element::NEXT_HOP_V4, 4),
    Field(element::SRC_MASK_V4, 1),
    Field(element::DST_MASK_V4, 1),
    Field(element::SAMPLING_INTERVAL, 4),
];

const TEMPLATE: u16 = 256;
/// Uptime of the pretended devices when the run begins.
const UPTIME_MS: i64 = 3_600_000;
/// Flows lasted this long and ended now.
const FLOW_MS: i64 = 1000;
const PACKET_OCTETS_MAX: usize = 1472;
const BATCH: usize = 64;
const TEMPLATE_EVERY: Duration = Duration::from_secs(5);
/// Datagrams of different content that an exporter sends in turn.
const VARIANTS: usize = 16;

/// Where a datagram is patched: offsets of the first record's fields.
struct Layout {
    protocol: Protocol,
    header: usize,
    stride: usize,
    src: usize,
    src_port: usize,
    dst_port: usize,
    times: Option<(usize, usize)>,
    octets: usize,
    packets: usize,
}

impl Layout {
    fn new(protocol: Protocol) -> Self {
        let by = |header: usize, fields: &[Field], first: u16, last: u16| {
            let at = |id| offset(fields, id).expect("the field is in the list above");
            Self {
                protocol,
                header: header + 4,
                stride: record_octets(fields),
                src: at(element::SRC_V4),
                src_port: at(element::SRC_PORT),
                dst_port: at(element::DST_PORT),
                times: Some((at(first), at(last))),
                octets: at(element::OCTETS),
                packets: at(element::PACKETS),
            }
        };
        match protocol {
            Protocol::V9 => by(netflow9::HEADER_OCTETS, V9_FIELDS, element::FIRST_UPTIME, element::LAST_UPTIME),
            Protocol::Ipfix => by(ipfix::HEADER_OCTETS, IPFIX_FIELDS, element::FIRST_MS, element::LAST_MS),
            Protocol::V5 => Self {
                protocol,
                header: netflow5::HEADER_OCTETS,
                stride: netflow5::RECORD_OCTETS,
                src: 0,
                src_port: 32,
                dst_port: 34,
                times: Some((24, 28)),
                octets: 20,
                packets: 16,
            },
            // Sample header 40, record header 24, Ethernet 14; then IPv4 and TCP.
            Protocol::Sflow => Self {
                protocol,
                header: 28,
                stride: sflow_stride(),
                src: 78 + 12,
                src_port: 98,
                dst_port: 100,
                times: None,
                octets: 0,
                packets: 0,
            },
        }
    }

    fn records_max(&self) -> usize {
        let fit = (PACKET_OCTETS_MAX - self.header) / self.stride;
        if self.protocol == Protocol::V5 { fit.min(netflow5::RECORDS_MAX) } else { fit }
    }
}

fn sflow_stride() -> usize {
    let flow = sample_flow(0, 0);
    let sample = sflow::Sample { flow: &flow, packet_octets: 100, sequence: 0, rate: 1, pool: 0 };
    let header = sflow::Header { agent: Ipv4Addr::LOCALHOST, sub_agent: 0, sequence: 0, uptime_ms: 0 };
    sflow::datagram(&header, &[sample], &[]).len() - 28
}

fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The `index`-th flow of the mix.
fn sample_flow(seed: u64, index: u64) -> Flow {
    let bits = mix(seed.wrapping_mul(0x1_0001).wrapping_add(index));
    let packets = 1 + (bits >> 8 & 0x3f);
    Flow {
        src: IpAddr::V4(Ipv4Addr::from(0x0a00_0000 | (bits as u32 & 0x00ff_ffff))),
        dst: IpAddr::V4(Ipv4Addr::from(0xc612_0000 | (bits >> 24) as u32 & 0x1_ffff)),
        src_port: 443,
        dst_port: 1024 + (bits >> 40) as u16 % 60_000,
        proto: 6,
        tos: 0,
        tcp_flags: 0x18,
        icmp: 0,
        in_if: 1 + (bits >> 50) as u32 % 8,
        out_if: 9 + (bits >> 54) as u32 % 8,
        direction: 0,
        octets: packets * (60 + (bits >> 14) % 1400),
        packets,
        first: 0,
        last: 0,
        src_as: 64_496 + (bits >> 60) as u32,
        dst_as: 64_511,
        src_mask: 16,
        dst_mask: 15,
        next_hop: IpAddr::V4(Ipv4Addr::new(198, 19, 0, 1)),
        bgp_next_hop: IpAddr::V4(Ipv4Addr::new(198, 19, 0, 1)),
        vlan: 0,
    }
}

/// One pretended device.
struct Exporter {
    sender: UdpSender,
    agent: Ipv4Addr,
    domain: u32,
    /// Counts what the protocol's sequence number counts.
    sequence: u32,
    sample_sequence: u32,
    variants: Vec<Vec<u8>>,
    /// (octets, packets) summed over the records of a variant; only whole datagrams use it.
    sums: Vec<(u64, u64)>,
    next_variant: usize,
    template_due: Instant,
    packets: Vec<Vec<u8>>,
}

/// Blocks until done.
pub fn run(config: Config) -> anyhow::Result<Report> {
    let to = source::resolve(&config.to)?;
    anyhow::ensure!(config.exporters > 0, "at least one exporter is needed");
    let layout = Layout::new(config.protocol);
    let records_per_packet = match config.records_per_packet {
        0 => layout.records_max(),
        wanted => {
            anyhow::ensure!(
                wanted <= layout.records_max(),
                "{wanted} records do not fit into a packet: {} at most",
                layout.records_max()
            );
            wanted
        }
    };
    let total = match (config.count, config.seconds) {
        (Some(count), _) => count,
        (None, Some(seconds)) if config.rate > 0 => (config.rate as f64 * seconds).round() as u64,
        _ => u64::MAX,
    };
    let deadline = config.seconds.filter(|_| config.rate == 0);
    let boot_ms = now_ms()?.div_euclid(1000) * 1000 - UPTIME_MS;
    let mut exporters = Vec::with_capacity(config.exporters as usize);
    for index in 0..config.exporters {
        exporters.push(Exporter::new(&config, &layout, to, index, records_per_packet, boot_ms)?);
    }

    let mut report = Report { exporters: config.exporters, ..Report::default() };
    let mut key = config.first_key;
    let begun = Instant::now();
    let mut turn = 0usize;
    // A batch takes at most 5 ms of its rate, so that pacing is smooth.
    let batch = match config.rate {
        0 => BATCH,
        rate => (rate as usize / 200 / records_per_packet).clamp(1, BATCH),
    };
    while report.records < total && !config.stop.is_stopped() {
        if deadline.is_some_and(|seconds| begun.elapsed().as_secs_f64() >= seconds) {
            break;
        }
        if config.rate > 0 {
            let due = begun + Duration::from_secs_f64(report.records as f64 / config.rate as f64);
            if !config.stop.wait_until(due) {
                break;
            }
        }
        let count = exporters.len();
        let exporter = &mut exporters[turn % count];
        turn += 1;
        let now = now_ms()?;
        exporter.template(&layout, now, boot_ms, to, &mut report)?;
        let left = total - report.records;
        exporter.batch(
            &config,
            &layout,
            &mut key,
            Batch { now, boot_ms, to, packets: batch, records_per_packet, left },
            &mut report,
        )?;
    }
    report.seconds = begun.elapsed().as_secs_f64();
    report.records_per_second = report.records as f64 / report.seconds.max(1e-9);
    report.next_key = key;
    Ok(report)
}

fn now_ms() -> anyhow::Result<i64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?.as_millis() as i64)
}

struct Batch {
    now: i64,
    boot_ms: i64,
    to: SocketAddr,
    packets: usize,
    records_per_packet: usize,
    left: u64,
}

impl Exporter {
    fn new(
        config: &Config,
        layout: &Layout,
        to: SocketAddr,
        index: u32,
        records: usize,
        boot_ms: i64,
    ) -> anyhow::Result<Self> {
        let first = config.first_source.unwrap_or(Ipv4Addr::new(127, 17, 0, 1));
        let agent = Ipv4Addr::from(u32::from(first).wrapping_add(index));
        let own = config.first_source.is_some() || to.ip().is_loopback();
        let ip = if to.is_ipv4() && own { IpAddr::V4(agent) } else { source::unspecified(to) };
        let sender = UdpSender::bind(SocketAddr::new(ip, 0)).with_context(|| format!("cannot send from {ip}"))?;
        let mut exporter = Self {
            sender,
            agent,
            domain: index,
            sequence: 0,
            sample_sequence: 0,
            variants: Vec::new(),
            sums: Vec::new(),
            next_variant: 0,
            template_due: Instant::now(),
            packets: Vec::new(),
        };
        for variant in 0..VARIANTS {
            let seed = mix(config.seed ^ u64::from(index) << 32 ^ variant as u64);
            let flows: Vec<Flow> = (0..records as u64).map(|record| sample_flow(seed, record)).collect();
            exporter.sums.push(match layout.protocol {
                // Of a sample, the frame counts, once.
                Protocol::Sflow => (
                    flows.iter().map(|flow| u64::from(frame_octets(flow) + sflow::FRAME_OVERHEAD)).sum(),
                    records as u64,
                ),
                _ => (flows.iter().map(|flow| flow.octets).sum(), flows.iter().map(|flow| flow.packets).sum()),
            });
            exporter.variants.push(exporter.build(layout.protocol, &flows, boot_ms));
        }
        exporter.packets = (0..BATCH).map(|_| Vec::with_capacity(PACKET_OCTETS_MAX)).collect();
        Ok(exporter)
    }

    fn build(&self, protocol: Protocol, flows: &[Flow], boot_ms: i64) -> Vec<u8> {
        let context = Context { boot_ms, sampler_id: 1, sampling: 1 };
        match protocol {
            Protocol::V5 => {
                let header = netflow5::Header { now_ms: boot_ms, boot_ms, sequence: 0, engine_id: 0, sampling: 1 };
                netflow5::datagram(&header, flows)
            }
            Protocol::V9 => {
                let mut datagram = netflow9::Datagram::new(boot_ms, boot_ms, 0, self.domain);
                datagram.data(TEMPLATE, V9_FIELDS, flows, &context);
                datagram.finish()
            }
            Protocol::Ipfix => {
                let mut message = ipfix::Message::new(boot_ms, 0, self.domain);
                message.data(TEMPLATE, IPFIX_FIELDS, flows, &context);
                message.finish()
            }
            Protocol::Sflow => {
                let header = sflow::Header { agent: self.agent, sub_agent: 0, sequence: 0, uptime_ms: 0 };
                let samples: Vec<sflow::Sample<'_>> = flows
                    .iter()
                    .map(|flow| sflow::Sample {
                        flow,
                        packet_octets: frame_octets(flow),
                        sequence: 0,
                        rate: 1,
                        pool: 0,
                    })
                    .collect();
                sflow::datagram(&header, &samples, &[])
            }
        }
    }

    /// Sends the template where it is due.
    fn template(
        &mut self,
        layout: &Layout,
        now: i64,
        boot_ms: i64,
        to: SocketAddr,
        report: &mut Report,
    ) -> anyhow::Result<()> {
        let at = Instant::now();
        if at < self.template_due {
            return Ok(());
        }
        self.template_due = at + TEMPLATE_EVERY;
        let packet = match layout.protocol {
            Protocol::V9 => {
                let mut datagram = netflow9::Datagram::new(now, boot_ms, self.sequence, self.domain);
                datagram.templates(&[(TEMPLATE, V9_FIELDS)]);
                self.sequence = self.sequence.wrapping_add(1);
                datagram.finish()
            }
            Protocol::Ipfix => {
                let mut message = ipfix::Message::new(now, self.sequence, self.domain);
                message.templates(&[(TEMPLATE, IPFIX_FIELDS)]);
                message.finish()
            }
            Protocol::V5 | Protocol::Sflow => return Ok(()),
        };
        report.datagrams += 1;
        report.octets += packet.len() as u64;
        send_all(&mut self.sender, &[packet], to)
    }

    fn batch(
        &mut self,
        config: &Config,
        layout: &Layout,
        key: &mut u64,
        batch: Batch,
        report: &mut Report,
    ) -> anyhow::Result<()> {
        let mut left = batch.left;
        let mut filled = 0;
        while filled < batch.packets && left > 0 {
            let variant = self.next_variant;
            self.next_variant = (self.next_variant + 1) % VARIANTS;
            let records = (batch.records_per_packet as u64).min(left) as usize;
            let packet = &mut self.packets[filled];
            packet.clear();
            packet.extend_from_slice(&self.variants[variant]);
            let (octets, packets) =
                if records < batch.records_per_packet { shorten(packet, layout, records) } else { self.sums[variant] };
            stamp(packet, layout, records, &batch, self.sequence, &mut self.sample_sequence);
            self.sequence = self.sequence.wrapping_add(match layout.protocol {
                Protocol::V5 | Protocol::Ipfix => records as u32,
                Protocol::V9 | Protocol::Sflow => 1,
            });
            if config.unique_key {
                for record in 0..records {
                    let at = layout.header + record * layout.stride;
                    set_u32(packet, at + layout.src, 0x0a00_0000 | (*key >> 32) as u32 & 0x00ff_ffff);
                    set_u16(packet, at + layout.src_port, (*key >> 16) as u16);
                    set_u16(packet, at + layout.dst_port, *key as u16);
                    *key += 1;
                }
            }
            report.flow_octets += octets;
            report.flow_packets += packets;
            report.records += records as u64;
            report.octets += packet.len() as u64;
            left -= records as u64;
            filled += 1;
        }
        report.datagrams += filled as u64;
        send_all(&mut self.sender, &self.packets[..filled], batch.to)
    }
}

fn frame_octets(flow: &Flow) -> u32 {
    (flow.octets / flow.packets.max(1)) as u32
}

/// Cuts a datagram to its first `records`; gives their (octets, packets).
fn shorten(packet: &mut Vec<u8>, layout: &Layout, records: usize) -> (u64, u64) {
    packet.truncate(layout.header + records * layout.stride);
    let length = packet.len();
    match layout.protocol {
        Protocol::V5 => set_u16(packet, 2, records as u16),
        Protocol::V9 => {
            // Set length includes its header; padded to four octets.
            packet.resize(length.next_multiple_of(4), 0);
            let set = (packet.len() - netflow9::HEADER_OCTETS) as u16;
            set_u16(packet, 2, records as u16);
            set_u16(packet, netflow9::HEADER_OCTETS + 2, set);
        }
        Protocol::Ipfix => {
            set_u16(packet, 2, length as u16);
            set_u16(packet, ipfix::HEADER_OCTETS + 2, (length - ipfix::HEADER_OCTETS) as u16);
        }
        Protocol::Sflow => set_u32(packet, 24, records as u32),
    }
    let word = |at: usize| u64::from(u32::from_be_bytes([packet[at], packet[at + 1], packet[at + 2], packet[at + 3]]));
    (0..records)
        .map(|record| layout.header + record * layout.stride)
        .map(|at| match layout.protocol {
            // Frame length of the raw header record.
            Protocol::Sflow => (word(at + 52), 1),
            _ => (word(at + layout.octets), word(at + layout.packets)),
        })
        .fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
}

/// Writes sequence and times.
fn stamp(packet: &mut [u8], layout: &Layout, records: usize, batch: &Batch, sequence: u32, samples: &mut u32) {
    let (now, boot_ms) = (batch.now, batch.boot_ms);
    let (first, last) = (now - FLOW_MS, now);
    match layout.protocol {
        Protocol::V5 => {
            set_u32(packet, 4, uptime(now, boot_ms));
            set_u32(packet, 8, (now / 1000) as u32);
            set_u32(packet, 12, (now % 1000) as u32 * 1_000_000);
            set_u32(packet, 16, sequence);
        }
        Protocol::V9 => {
            let second = now / 1000;
            set_u32(packet, 4, uptime(second * 1000, boot_ms));
            set_u32(packet, 8, second as u32);
            set_u32(packet, 12, sequence);
        }
        Protocol::Ipfix => {
            set_u32(packet, 4, (now / 1000) as u32);
            set_u32(packet, 8, sequence);
        }
        Protocol::Sflow => {
            set_u32(packet, 16, sequence);
            set_u32(packet, 20, uptime(now, boot_ms));
        }
    }
    for record in 0..records {
        let at = layout.header + record * layout.stride;
        match (layout.protocol, layout.times) {
            (Protocol::Ipfix, Some((start, end))) => {
                set_u64(packet, at + start, first as u64);
                set_u64(packet, at + end, last as u64);
            }
            (_, Some((start, end))) => {
                set_u32(packet, at + start, uptime(first, boot_ms));
                set_u32(packet, at + end, uptime(last, boot_ms));
            }
            (_, None) => {
                *samples = samples.wrapping_add(1);
                set_u32(packet, at + 8, *samples);
                set_u32(packet, at + 20, *samples);
            }
        }
    }
}

fn send_all(sender: &mut UdpSender, packets: &[Vec<u8>], to: SocketAddr) -> anyhow::Result<()> {
    let mut sent = 0;
    while sent < packets.len() {
        sent += sender.send(&packets[sent..], to).with_context(|| format!("cannot send to {to}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::net::UdpSocket;

    fn receive(protocol: Protocol, count: u64) -> (Report, Vec<Vec<u8>>) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let config = Config {
            to: socket.local_addr().unwrap().to_string(),
            count: Some(count),
            protocol,
            exporters: 2,
            unique_key: true,
            first_key: 0xffff_fff0,
            ..Config::default()
        };
        let report = run(config).unwrap();
        let mut packets = Vec::new();
        let mut buffer = [0; 2048];
        for _ in 0..report.datagrams {
            let length = socket.recv(&mut buffer).unwrap();
            packets.push(buffer[..length].to_vec());
        }
        (report, packets)
    }

    #[test]
    fn counts_are_exact_and_keys_distinct() {
        for protocol in [Protocol::V5, Protocol::V9, Protocol::Ipfix, Protocol::Sflow] {
            let layout = Layout::new(protocol);
            let count = layout.records_max() as u64 * 3 + 1;
            let (report, packets) = receive(protocol, count);
            assert_eq!(report.records, count);
            assert_eq!(report.octets, packets.iter().map(|packet| packet.len() as u64).sum::<u64>());
            let mut keys = HashSet::new();
            for packet in &packets {
                let template = match protocol {
                    Protocol::V9 => packet[20..22] == [0, 0],
                    Protocol::Ipfix => packet[16..18] == [0, 2],
                    _ => false,
                };
                if template {
                    continue;
                }
                let records = (packet.len() - layout.header) / layout.stride;
                for record in 0..records {
                    let at = layout.header + record * layout.stride;
                    let key = [
                        &packet[at + layout.src..][..4],
                        &packet[at + layout.src_port..][..2],
                        &packet[at + layout.dst_port..][..2],
                    ]
                    .concat();
                    assert_eq!(key[0], 10, "{protocol:?}");
                    assert!(keys.insert(key), "{protocol:?}");
                }
            }
            assert_eq!(keys.len() as u64, count, "{protocol:?}");
            assert_eq!(report.next_key, 0xffff_fff0 + count);
        }
    }

    #[test]
    fn pace_is_kept() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let config = Config {
            to: socket.local_addr().unwrap().to_string(),
            rate: 20_000,
            seconds: Some(0.5),
            ..Config::default()
        };
        let report = run(config).unwrap();
        assert_eq!(report.records, 10_000);
        assert!(report.seconds > 0.45, "{report}");
    }
}
