//! Files of nfdump as datagrams: each flow becomes a record of an IPFIX message (RFC 7011) of its exporter, with
//! its own times, counters and addresses.
//!
//! What a flow does not have, its template has not. Flows that nfcapd received together are in one message.

use std::collections::{HashMap, VecDeque};
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context as _, bail};
use benocs_wire::error::WireError;
use benocs_wire::nfdump::{
    self, BLOCK_HEADER_OCTETS, BLOCK_OCTETS_MAX, Compression, Entry, Exporter, FileHeader, Ip, Record, Records,
};

use super::NO_SOURCE;
use super::capture::{Datagram, read_upto};
use crate::encode::Put as _;
use crate::encode::flow::Field;
use crate::encode::ipfix::{HEADER_OCTETS, Message};

/// Room for a block; more is made where one does not fit.
const BLOCK_OCTETS: usize = 8 << 20;
/// So that a message fits into a datagram on Ethernet.
const MESSAGE_OCTETS_MAX: usize = 1_400;
/// Templates of an exporter; beyond, their numbers are given anew.
const TEMPLATES_MAX: usize = 1_000;
/// Messages after which an exporter says its templates again.
const TEMPLATES_EVERY: u32 = 256;
const FIRST_TEMPLATE: u16 = 256;
/// Flows whose time of receipt is not known are sent together where they ended within so long.
const TOGETHER_MS: i64 = 1_000;
/// A time of receipt further from the flow's end is that of another file, from which this one was made.
const BELIEVED_MS: i64 = 12 * 3_600_000;

/// A file that is being read.
pub(super) struct Reader {
    header: FileHeader,
    /// Octets of the file that were read.
    at: u64,
    compressed: Vec<u8>,
    block: Vec<u8>,
    context: Context,
    exports: Exports,
    ready: VecDeque<Datagram>,
    failure: Option<anyhow::Error>,
    ended: bool,
    skipped: u64,
}

/// What flows refer to.
#[derive(Default)]
struct Context {
    maps: HashMap<u16, Vec<u16>>,
    exporters: HashMap<u16, Exporter>,
    /// Interval by exporter and sampler.
    samplers: HashMap<(u16, i64), u32>,
}

impl Reader {
    /// `begin`: what was read already, four octets.
    pub(super) fn open(input: &mut dyn Read, begin: &[u8]) -> anyhow::Result<Self> {
        let mut head = begin.to_vec();
        head.resize(nfdump::file_header_octets(begin).max(begin.len()), 0);
        let have = begin.len() + read_upto(input, &mut head[begin.len()..])?;
        head.truncate(have);
        let header = nfdump::file_header(&head).context("not a file of nfdump 1.6 or 1.7")?;
        if header.encrypted {
            bail!("the file is encrypted");
        }
        Ok(Self {
            at: header.octets as u64,
            header,
            compressed: Vec::new(),
            block: Vec::new(),
            context: Context::default(),
            exports: Exports::default(),
            ready: VecDeque::new(),
            failure: None,
            ended: false,
            skipped: 0,
        })
    }

    /// Flows so far that could not be read.
    pub(super) fn skipped(&self) -> u64 {
        self.skipped
    }

    /// What was read before an error is given before it.
    pub(super) fn next_datagram(&mut self, input: &mut dyn Read) -> anyhow::Result<Option<Datagram>> {
        loop {
            if let Some(datagram) = self.ready.pop_front() {
                return Ok(Some(datagram));
            }
            if let Some(failure) = self.failure.take() {
                return Err(failure);
            }
            if self.ended {
                return Ok(None);
            }
            match self.next_block(input) {
                Ok(true) => continue,
                Ok(false) => {}
                Err(error) => self.failure = Some(error),
            }
            self.ended = true;
            self.exports.finish(&mut self.ready);
        }
    }

    /// The flows of one block; false where there is none any more.
    fn next_block(&mut self, input: &mut dyn Read) -> anyhow::Result<bool> {
        if self.header.appendix_at.is_some_and(|appendix| self.at >= appendix) {
            return Ok(false);
        }
        let mut head = [0; BLOCK_HEADER_OCTETS];
        match read_upto(input, &mut head)? {
            0 => return Ok(false),
            BLOCK_HEADER_OCTETS => {}
            _ => bail!("the file is cut off at octet {}", self.at),
        }
        let header = nfdump::block_header(&head, &self.header)
            .with_context(|| format!("the file is damaged at octet {}", self.at))?;
        self.compressed.clear();
        Read::take(&mut *input, header.octets as u64).read_to_end(&mut self.compressed)?;
        let begins = self.at;
        self.at += (BLOCK_HEADER_OCTETS + self.compressed.len()) as u64;
        let whole = self.compressed.len() == header.octets;
        if !header.is_records {
            return Ok(whole);
        }
        let damaged = || format!("the block at octet {begins} is damaged");
        let body = match header.compression {
            Compression::None => self.compressed.as_slice(),
            _ if !whole => bail!("the file is cut off at octet {}", self.at),
            compression => {
                decompress(compression, &self.compressed, &mut self.block).with_context(damaged)?;
                self.block.as_slice()
            }
        };
        for entry in Records::new(body, self.header.order) {
            let flow = self.context.read(entry.with_context(damaged)?);
            match flow {
                None => {}
                Some(Ok(flow)) => self.exports.add(&flow, &self.context, &mut self.ready),
                Some(Err(_)) => self.skipped += 1,
            }
        }
        Ok(true)
    }
}

impl Context {
    /// The flow, where the entry is one.
    fn read(&mut self, entry: Entry<'_>) -> Option<Result<Record, WireError>> {
        match entry {
            Entry::Flow(flow) => return Some(flow.record()),
            Entry::MappedFlow(flow) => {
                let map = flow.map().and_then(|id| self.maps.get(&id));
                return Some(flow.record(map.map(Vec::as_slice)));
            }
            Entry::Map(map) => drop(self.maps.insert(map.id, map.extensions().collect())),
            Entry::Exporter(exporter) => drop(self.exporters.insert(exporter.id, exporter)),
            Entry::Sampler(sampler) => {
                self.samplers.insert((sampler.exporter, sampler.id), sampler.interval);
            }
            Entry::Other(_) => {}
        }
        None
    }

    /// Where the flow came from: its exporter's address and domain.
    fn origin(&self, flow: &Record) -> (IpAddr, u32) {
        let known = self.exporters.get(&flow.exporter_id);
        let address = flow.exporter.or(known.map(|exporter| exporter.address)).map_or(NO_SOURCE.ip(), address);
        let engine = u32::from(flow.engine_type) << 8 | u32::from(flow.engine_id);
        (address, known.map_or(engine, |exporter| exporter.domain))
    }

    /// The interval that nfcapd has multiplied the counters by.
    fn interval(&self, flow: &Record) -> Option<u32> {
        if let Some(sampler) = flow.sampler {
            return self.samplers.get(&(flow.exporter_id, sampler.cast_signed())).copied();
        }
        let mut of_exporter = self.samplers.iter().filter(|((exporter, _), _)| *exporter == flow.exporter_id);
        of_exporter.next().filter(|_| of_exporter.next().is_none()).map(|(_, interval)| *interval)
    }
}

/// Replaces what is in `block`.
fn decompress(compression: Compression, input: &[u8], block: &mut Vec<u8>) -> anyhow::Result<()> {
    let limit = BLOCK_OCTETS_MAX as u64;
    let mut stream = |stream: &mut dyn Read| {
        block.clear();
        stream.take(limit).read_to_end(block)
    };
    match compression {
        Compression::None => {
            block.clear();
            block.extend_from_slice(input);
        }
        Compression::Bzip2 => drop(stream(&mut bzip2::read::BzDecoder::new(input))?),
        Compression::Zstd => drop(stream(&mut zstd::Decoder::with_buffer(input)?)?),
        Compression::Lz4 => into_room(block, |room| match lz4_flex::block::decompress_into(input, room) {
            Err(lz4_flex::block::DecompressError::OutputTooSmall { .. }) => Ok(None),
            result => Ok(Some(result?)),
        })?,
        Compression::Lzo => into_room(block, |room| match lzokay::decompress::decompress(input, room) {
            Err(lzokay::Error::OutputOverrun) => Ok(None),
            Err(error) => bail!("{error}"),
            Ok(octets) => Ok(Some(octets)),
        })?,
    }
    Ok(())
}

/// For decompressors that are told where to write, and say `None` where that is too small.
fn into_room(
    block: &mut Vec<u8>,
    decompress: impl Fn(&mut [u8]) -> anyhow::Result<Option<usize>>,
) -> anyhow::Result<()> {
    for octets in [BLOCK_OCTETS, BLOCK_OCTETS_MAX] {
        // Nothing is to be written where it was before.
        block.resize(octets.max(block.capacity().min(BLOCK_OCTETS_MAX)), 0);
        if let Some(octets) = decompress(block)? {
            block.truncate(octets);
            return Ok(());
        }
    }
    bail!("it has more than {BLOCK_OCTETS_MAX} octets")
}

fn address(ip: Ip) -> IpAddr {
    match ip {
        Ip::V4(octets) => octets.into(),
        Ip::V6(octets) => octets.into(),
    }
}

/// Messages of the exporters of a file.
#[derive(Default)]
struct Exports {
    exporters: HashMap<(IpAddr, u32), Export>,
    open: Option<Open>,
}

/// What an exporter's domain has said.
#[derive(Default)]
struct Export {
    /// Template by the groups of fields that it has, and the message that said it last.
    templates: HashMap<u32, (u16, u32)>,
    messages: u32,
    /// Data records so far (RFC 7011, 3.1).
    sequence: u32,
}

/// The message that flows are added to.
struct Open {
    origin: (IpAddr, u32),
    received: Received,
    message: Message,
    octets: usize,
    records: u32,
    /// Template and records of the last set.
    set: Option<(u16, Vec<u8>)>,
}

#[derive(Clone, Copy)]
struct Received {
    ms: i64,
    /// As the file says, not by the flow's end.
    exact: bool,
}

impl Received {
    fn of(flow: &Record) -> Self {
        let last = flow.last_ms.min(i64::MAX as u64) as i64;
        let said = flow.received_ms.and_then(|ms| i64::try_from(ms).ok());
        match said.filter(|ms| last.abs_diff(*ms) <= BELIEVED_MS as u64) {
            Some(ms) => Self { ms, exact: true },
            None => Self { ms: last, exact: false },
        }
    }

    fn goes_with(self, other: Self) -> bool {
        let apart = if self.exact { 0 } else { TOGETHER_MS as u64 };
        self.exact == other.exact && self.ms.abs_diff(other.ms) <= apart
    }
}

impl Exports {
    fn add(&mut self, flow: &Record, context: &Context, ready: &mut VecDeque<Datagram>) {
        let (origin, received) = (context.origin(flow), Received::of(flow));
        let groups = Groups::of(flow, context);
        let fits = |open: &Open| {
            open.origin == origin
                && open.received.goes_with(received)
                && open.octets + groups.octets_max() <= MESSAGE_OCTETS_MAX
        };
        if !self.open.as_ref().is_some_and(fits) {
            self.finish(ready);
        }
        let export = self.exporters.entry(origin).or_default();
        let open = self.open.get_or_insert_with(|| export.begin(origin, received));
        open.received.ms = open.received.ms.max(received.ms);
        let template = export.template(groups.key, open);
        if open.set.as_ref().is_none_or(|(id, _)| *id != template) {
            open.close_set();
            open.octets += 4;
        }
        let (_, records) = open.set.get_or_insert_with(|| (template, Vec::new()));
        let before = records.len();
        groups.write(flow, records);
        open.octets += records.len() - before;
        open.records += 1;
    }

    fn finish(&mut self, ready: &mut VecDeque<Datagram>) {
        let Some(mut open) = self.open.take() else { return };
        open.close_set();
        if let Some(export) = self.exporters.get_mut(&open.origin) {
            export.sequence = export.sequence.wrapping_add(open.records);
        }
        ready.push_back(Datagram {
            time_ns: open.received.ms.saturating_mul(1_000_000),
            src: SocketAddr::new(open.origin.0, 0),
            dst: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
            payload: open.message.finish(),
        });
    }
}

impl Export {
    fn begin(&mut self, origin: (IpAddr, u32), received: Received) -> Open {
        self.messages = self.messages.wrapping_add(1);
        let message = Message::new(received.ms, self.sequence, origin.1);
        Open { origin, received, message, octets: HEADER_OCTETS, records: 0, set: None }
    }

    /// The template of a key, said in the message where it is new, or was said long ago.
    fn template(&mut self, key: u32, open: &mut Open) -> u16 {
        let known = self.templates.get(&key).copied();
        if let Some((id, said)) = known
            && self.messages.wrapping_sub(said) < TEMPLATES_EVERY
        {
            return id;
        }
        if known.is_none() && self.templates.len() >= TEMPLATES_MAX {
            self.templates.clear();
        }
        let id = known.map_or(FIRST_TEMPLATE + self.templates.len() as u16, |(id, _)| id);
        self.templates.insert(key, (id, self.messages));
        let fields = Groups { key, ..Groups::default() }.fields();
        // Records of an earlier template of this number come before it.
        open.close_set();
        open.message.templates(&[(id, &fields)]);
        open.octets += 8 + 4 * fields.len();
        id
    }
}

impl Open {
    fn close_set(&mut self) {
        if let Some((id, records)) = self.set.take() {
            self.message.records(id, &records);
        }
    }
}

/// The groups of fields that a flow has, and what is not written as the file has it.
#[derive(Clone, Copy, Default)]
struct Groups {
    key: u32,
    counters: (u64, u64),
    sampling: u32,
}

/// Fields of a group (IANA IPFIX elements), or none for a bit that is not one.
fn group(bit: u32) -> &'static [(u16, u16)] {
    match 1 << bit {
        V4 => &[(8, 4), (12, 4)],
        V6 => &[(27, 16), (28, 16)],
        COUNTERS => &[(1, 8), (2, 8)],
        FORWARDING_STATUS => &[(89, 1)],
        INTERFACES => &[(10, 4), (14, 4)],
        MASKS_V4 => &[(9, 1), (13, 1)],
        MASKS_V6 => &[(29, 1), (30, 1)],
        DIRECTION => &[(61, 1)],
        AUTONOMOUS_SYSTEMS => &[(16, 4), (17, 4)],
        VLANS => &[(58, 2), (59, 2)],
        NEXT_HOP_V4 => &[(15, 4)],
        NEXT_HOP_V6 => &[(62, 16)],
        BGP_NEXT_HOP_V4 => &[(18, 4)],
        BGP_NEXT_HOP_V6 => &[(63, 16)],
        EXPORTER_V4 => &[(130, 4)],
        EXPORTER_V6 => &[(131, 16)],
        IN_MACS => &[(56, 6), (80, 6)],
        OUT_MACS => &[(81, 6), (57, 6)],
        MPLS => &[(70, 3), (71, 3), (72, 3), (73, 3)],
        NAT_V4 => &[(225, 4), (226, 4)],
        NAT_V6 => &[(281, 16), (282, 16)],
        NAT_PORTS => &[(227, 2), (228, 2)],
        NAT_EVENT => &[(230, 1)],
        FIREWALL_EVENT => &[(233, 1)],
        VRFS => &[(234, 4), (235, 4)],
        SAMPLING => &[(34, 4)],
        _ => &[],
    }
}

/// What every flow has: start and end in Unix milliseconds, ports, protocol, flags of TCP, ToS.
const ALWAYS: &[(u16, u16)] = &[(152, 8), (153, 8), (7, 2), (11, 2), (4, 1), (6, 1), (5, 1)];

const V4: u32 = 1;
const V6: u32 = 1 << 1;
const COUNTERS: u32 = 1 << 2;
const FORWARDING_STATUS: u32 = 1 << 3;
const INTERFACES: u32 = 1 << 4;
const MASKS_V4: u32 = 1 << 5;
const MASKS_V6: u32 = 1 << 6;
const DIRECTION: u32 = 1 << 7;
const AUTONOMOUS_SYSTEMS: u32 = 1 << 8;
const VLANS: u32 = 1 << 9;
const NEXT_HOP_V4: u32 = 1 << 10;
const NEXT_HOP_V6: u32 = 1 << 11;
const BGP_NEXT_HOP_V4: u32 = 1 << 12;
const BGP_NEXT_HOP_V6: u32 = 1 << 13;
const EXPORTER_V4: u32 = 1 << 14;
const EXPORTER_V6: u32 = 1 << 15;
const IN_MACS: u32 = 1 << 16;
const OUT_MACS: u32 = 1 << 17;
const MPLS: u32 = 1 << 18;
const NAT_V4: u32 = 1 << 19;
const NAT_V6: u32 = 1 << 20;
const NAT_PORTS: u32 = 1 << 21;
const NAT_EVENT: u32 = 1 << 22;
const FIREWALL_EVENT: u32 = 1 << 23;
const VRFS: u32 = 1 << 24;
const SAMPLING: u32 = 1 << 25;

impl Groups {
    fn of(flow: &Record, context: &Context) -> Self {
        let mut key = 0;
        let mut has = |group: u32, it: bool| key |= if it { group } else { 0 };
        let is_v6 = |ip: Option<Ip>| (ip.is_some(), matches!(ip, Some(Ip::V6(_))));
        let either = |ip: Option<Ip>, v4: u32, v6: u32| match is_v6(ip) {
            (false, _) => 0,
            (true, false) => v4,
            (true, true) => v6,
        };
        let source = flow.addresses.map(|(source, _)| source);
        has(either(source, V4, V6), true);
        has(if is_v6(source).1 { MASKS_V6 } else { MASKS_V4 }, flow.masks.is_some_and(|masks| masks != (0, 0)));
        has(FORWARDING_STATUS, flow.forwarding_status > 0);
        has(INTERFACES, flow.interfaces.is_some());
        // 0 is what nfcapd writes for exporters that do not say.
        has(DIRECTION, flow.direction > 0);
        has(AUTONOMOUS_SYSTEMS, flow.autonomous_systems.is_some());
        has(VLANS, flow.vlans.is_some());
        has(either(flow.next_hop, NEXT_HOP_V4, NEXT_HOP_V6), true);
        has(either(flow.bgp_next_hop, BGP_NEXT_HOP_V4, BGP_NEXT_HOP_V6), true);
        has(either(flow.exporter, EXPORTER_V4, EXPORTER_V6), true);
        has(IN_MACS, flow.in_macs != (None, None));
        has(OUT_MACS, flow.out_macs != (None, None));
        has(MPLS, flow.mpls.is_some());
        has(either(flow.nat_addresses.map(|(source, _)| source), NAT_V4, NAT_V6), true);
        has(NAT_PORTS, flow.nat_ports.is_some());
        has(NAT_EVENT, flow.event.is_some_and(|(element, _)| element == 230));
        has(FIREWALL_EVENT, flow.event.is_some_and(|(element, _)| element == 233));
        has(VRFS, flow.vrfs.is_some());
        // Some exporters count what leaves alone (23, 24).
        let incoming = (flow.octets, flow.packets);
        let mut counters = match flow.out {
            Some((packets, octets)) if incoming == (0, 0) => (octets, packets),
            _ => incoming,
        };
        has(COUNTERS, flow.event.is_none() || counters != (0, 0));
        // What was multiplied is divided where it can be, so that what was exported is known; else it counts as it is.
        let mut sampling = 1;
        if let Some(interval) = context.interval(flow).filter(|interval| flow.is_scaled && *interval > 1) {
            let every = u64::from(interval);
            if counters.0 % every == 0 && counters.1 % every == 0 {
                counters = (counters.0 / every, counters.1 / every);
                sampling = interval;
            }
        }
        has(SAMPLING, flow.is_scaled);
        Self { key, counters, sampling }
    }

    fn bits(self) -> impl Iterator<Item = u32> {
        (0..u32::BITS).filter(move |bit| self.key >> bit & 1 == 1)
    }

    fn fields(self) -> Vec<Field> {
        let groups = self.bits().flat_map(group);
        ALWAYS.iter().chain(groups).map(|(element, octets)| Field(*element, *octets)).collect()
    }

    /// Of a record with set header and template.
    fn octets_max(self) -> usize {
        ALWAYS.iter().chain(self.bits().flat_map(group)).map(|(_, octets)| usize::from(*octets) + 4).sum::<usize>() + 12
    }

    fn write(self, flow: &Record, out: &mut Vec<u8>) {
        out.u64(flow.first_ms);
        out.u64(flow.last_ms);
        out.u16(flow.src_port);
        out.u16(flow.dst_port);
        out.extend([flow.proto, flow.tcp_flags, flow.tos]);
        for bit in self.bits() {
            let [first, second] = self.pair(1 << bit, flow);
            let mut fields = group(bit).iter();
            let mut put = |value| {
                if let Some((_, octets)) = fields.next() {
                    match value {
                        Value::Number(number) => out.uint(number, *octets),
                        Value::Ip(Ip::V4(address)) => out.extend(address),
                        Value::Ip(Ip::V6(address)) => out.extend(address),
                    }
                }
            };
            if 1 << bit == MPLS {
                flow.mpls.unwrap_or_default().iter().for_each(|label| put(Value::Number((*label).into())));
            } else {
                put(first);
                put(second);
            }
        }
    }

    /// The values of a group of one or two fields.
    fn pair(self, group: u32, flow: &Record) -> [Value; 2] {
        fn numbers<T: Into<u64>>(pair: Option<(T, T)>) -> [Value; 2] {
            pair.map_or([Value::Number(0); 2], |(first, second)| {
                [Value::Number(first.into()), Value::Number(second.into())]
            })
        }
        let one = |value: u64| [Value::Number(value); 2];
        let ips = |pair: Option<(Ip, Ip)>| pair.map_or(one(0), |(first, second)| [Value::Ip(first), Value::Ip(second)]);
        let macs =
            |(first, second): (Option<u64>, Option<u64>)| numbers(Some((first.unwrap_or(0), second.unwrap_or(0))));
        match group {
            V4 | V6 => ips(flow.addresses),
            COUNTERS => numbers(Some(self.counters)),
            FORWARDING_STATUS => one(flow.forwarding_status.into()),
            INTERFACES => numbers(flow.interfaces),
            MASKS_V4 | MASKS_V6 => numbers(flow.masks),
            DIRECTION => one(flow.direction.into()),
            AUTONOMOUS_SYSTEMS => numbers(flow.autonomous_systems),
            VLANS => numbers(flow.vlans),
            NEXT_HOP_V4 | NEXT_HOP_V6 => ips(flow.next_hop.map(|ip| (ip, ip))),
            BGP_NEXT_HOP_V4 | BGP_NEXT_HOP_V6 => ips(flow.bgp_next_hop.map(|ip| (ip, ip))),
            EXPORTER_V4 | EXPORTER_V6 => ips(flow.exporter.map(|ip| (ip, ip))),
            IN_MACS => macs(flow.in_macs),
            OUT_MACS => macs(flow.out_macs),
            NAT_V4 | NAT_V6 => ips(flow.nat_addresses),
            NAT_PORTS => numbers(flow.nat_ports),
            NAT_EVENT | FIREWALL_EVENT => one(flow.event.map_or(0, |(_, value)| value.into())),
            VRFS => numbers(flow.vrfs),
            SAMPLING => one(self.sampling.into()),
            _ => one(0),
        }
    }
}

#[derive(Clone, Copy)]
enum Value {
    Number(u64),
    Ip(Ip),
}
