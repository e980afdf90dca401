//! A template compiled to columns, and records read through it: one column of
//! all records of a set after the other.

use benocs_model::flow::builder::{FlowBuilder, Lane, Octets16, Slot, slot};
use std::cell::RefCell;
use std::sync::LazyLock;

use benocs_model::flow::{Column, Observation, SamplingSource, TimeSource, quality};
use benocs_wire::ipfix::REVERSE;
use benocs_wire::packet::{self, Packet};

use super::facts::{self, Given};
use super::layout::{At, Placed, Rows, columnwise, content, integer, is_packet, octets};
use super::mapping::{self, Mapped, Target};
use super::nested::{NO_FLAGS, TCP_CONTROL_BITS};
use super::sampling::{Fraction, Interfaces, Samplers, Sampling};
use super::shared::Shared;
use super::time::{Bounds, Unit, since_boot, since_init};

/// What all records of a set share.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) received_ms: i64,
    pub(crate) exporter_id: u32,
    pub(crate) exporter: Octets16,
    pub(crate) udp_source: Octets16,
    pub(crate) domain: u32,
    /// Time of export, from the header.
    pub(crate) export_ms: i64,
    pub(crate) clock: Clock,
    pub(crate) sampling: Sampling,
    /// Of the record's domain, and of domain 0, where some exporters keep them for all.
    pub(crate) samplers: &'a Samplers,
    pub(crate) samplers_0: Option<&'a Samplers>,
    /// What configuration says of interfaces, where it says anything.
    pub(crate) interfaces: Option<&'a Interfaces>,
    pub(crate) longest_ms: i64,
    pub(crate) exporter_from_record: bool,
    pub(crate) quality: u64,
}

/// What switch-times count from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clock {
    Unknown,
    /// sysUptime at the time of export.
    Uptime(u32),
    /// Start of the exporter, Unix milliseconds.
    Init(i64),
}

/// Buffers that are used again for every set.
#[derive(Default)]
pub(crate) struct Scratch {
    firsts: Vec<i64>,
    lasts: Vec<i64>,
    /// Quality bits by row; empty where no row has any of its own.
    flags: Vec<u64>,
    packets: Vec<Packet>,
    reverse: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    U8(Slot<u8>, At),
    U16(Slot<u16>, At),
    U32(Slot<u32>, At),
    U64(Slot<u64>, At),
    /// Two fields of which one is zero: the IPv4 and the IPv6 flavour.
    EitherU8(Slot<u8>, At, At),
    EitherU16(Slot<u16>, At, At),
    V4(Slot<Octets16>, At),
    V6(Slot<Octets16>, At),
    /// IPv4, unless it is zero.
    EitherAddress(Slot<Octets16>, At, At),
    /// The label of a stack entry of three octets (RFC 3032).
    Label(Slot<u32>, At),
    ForwardingStatus(At),
    IcmpPair(At, At),
    /// TCP flags that lists hold, or do not.
    NestedFlags(At),
    Dscp(At),
    Application(At),
    Direction(At),
    SegmentId(At),
    /// 0x0800 or 0x86dd by IP version.
    EtherTypeOfVersion(At),
    EtherTypeOfAddress,
    EtherType(u16),
}

#[derive(Clone, Copy, Debug)]
enum Moment {
    Absolute(Unit),
    Switched,
    /// Microseconds before the export.
    Delta,
}

#[derive(Clone, Copy, Debug, Default)]
struct Span {
    first: Option<(At, Moment)>,
    last: Option<(At, Moment)>,
    /// Length, and how many of its unit make a millisecond.
    duration: Option<(At, u64)>,
    /// 160 in the record.
    init: Option<At>,
}

#[derive(Clone, Copy, Debug)]
enum SamplingAt {
    Context,
    OneOf(At),
    CountBased(At, Option<At>),
    Share(At, At),
    Sampler(At),
}

#[derive(Clone, Copy, Debug)]
struct PacketAt {
    field: Placed,
    ethernet: bool,
    /// dataLinkFrameType (408): what else than Ethernet is not read.
    kind: Option<At>,
    /// sectionOffset (409, 102): octets before the section.
    skipped: Option<At>,
    /// sectionExportedOctets (410, 103): the rest of the field is padding.
    exported: Option<At>,
    /// dataLinkFrameSize (312): octets of the whole frame.
    frame_octets: Option<At>,
}

#[derive(Clone, Debug)]
pub(crate) struct Plan {
    steps: Vec<Step>,
    octets: Option<At>,
    octets_layer: u8,
    packets: Option<At>,
    span: Span,
    sampling: SamplingAt,
    event: Option<At>,
    packet: Option<PacketAt>,
    /// 130 and 131.
    exporter: Option<(Option<At>, Option<At>)>,
    /// Ports may hold the type and code of ICMP.
    icmp_in_port: bool,
    given: Given,
    /// The other direction of a biflow, swapped.
    reverse: Option<Box<Plan>>,
}

/// Takes from an integer what the column can hold; more is its maximum.
trait Narrow {
    fn narrow(value: u64) -> Self;
}

macro_rules! narrow {
    ($($type:ty)*) => { $(impl Narrow for $type {
        #[inline(always)]
        fn narrow(value: u64) -> Self {
            value.min(<$type>::MAX as u64) as $type
        }
    })* };
}
narrow!(u8 u16 u32 u64);

/// Elements that say how a packet's section is to be read, and padding.
const BESIDE: &[u16] = &[102, 103, 104, 210, 292, 293, 312, 313, 315, 408, 409, 410];

/// Whether a record's element, of IANA's registry, is made use of: whatever the planner asks for.
pub(crate) fn is_known(element: u16) -> bool {
    static KNOWN: LazyLock<Vec<u16>> = LazyLock::new(|| {
        let asked = RefCell::new(BESIDE.to_vec());
        // Of a template without fields it asks for everything.
        let _ = Plan::bind(&[], &[], &[], &|elements| asked.borrow_mut().extend(elements));
        let mut known = asked.into_inner();
        known.sort_unstable();
        known
    });
    KNOWN.binary_search(&element).is_ok()
}

const COUNTERS: &[u16] = &[1, 2, 23, 24, 85, 86, 231, 232, 298, 299, 352, 353];

impl Plan {
    /// `None` where records of the template describe no traffic.
    pub(crate) fn new(fields: &[Placed], maps: &[Mapped]) -> Option<Self> {
        let forward: Vec<Placed> = fields.iter().filter(|field| field.enterprise == 0).copied().collect();
        let own: Vec<Mapped> = maps.iter().filter(|map| map.id.enterprise != REVERSE).copied().collect();
        let mut plan = Self::bind(&forward, fields, &own, &|_| {})?;
        // Seen from the other end; what is mapped of the reverse direction is that end's already.
        let turned = |map: &Mapped| match map.id.enterprise {
            REVERSE => *map,
            _ => Mapped { column: mapping::swapped(map.column), ..*map },
        };
        let turned: Vec<Mapped> = maps.iter().map(turned).collect();
        let reverse = reversed(fields).and_then(|reverse| Self::bind(&reverse, fields, &turned, &|_| {}));
        plan.reverse = reverse.map(Box::new);
        Some(plan)
    }

    /// `fields` of one direction, by IANA's numbers; `all` of the template; `note` is told what is asked for.
    fn bind(fields: &[Placed], all: &[Placed], maps: &[Mapped], note: &dyn Fn(&[u16])) -> Option<Self> {
        let find = |elements: &[u16]| {
            note(elements);
            let one = |element: &u16| fields.iter().find(|field| field.element == *element && !field.reference);
            elements.iter().find_map(one).map(|field| field.at)
        };
        let of_width = |elements: &[u16], width: u16| find(elements).filter(|at| at.width == width);
        let mut steps = Vec::new();
        let mut given = Given::default();

        let mut address = |slot: Slot<Octets16>, v4: &[u16], v6: &[u16]| {
            let step = match (of_width(v4, 4), of_width(v6, 16)) {
                (Some(v4), Some(v6)) => Step::EitherAddress(slot, v4, v6),
                (Some(v4), None) => Step::V4(slot, v4),
                (None, Some(v6)) => Step::V6(slot, v6),
                (None, None) => return None,
            };
            given.add(slot.column());
            steps.push(step);
            Some(step)
        };
        // Prefixes (44, 45, 169, 170) where the exporter aggregates.
        let src = address(slot::SRC_ADDR, &[8, 44], &[27, 170]);
        let dst = address(slot::DST_ADDR, &[12, 45], &[28, 169]);
        address(slot::RECORD_NEXT_HOP, &[15], &[62]);
        address(slot::RECORD_BGP_NEXT_HOP, &[18], &[63]);
        // 40001 and following: NSEL before it had IANA's numbers.
        let nat = address(slot::NAT_SRC_ADDR, &[225, 40001], &[281]);
        address(slot::NAT_DST_ADDR, &[226, 40002], &[282]);

        macro_rules! bind {
            ($kind:ident $slot:ident $elements:expr) => {
                if let Some(at) = find(&$elements) {
                    given.add(slot::$slot.column());
                    steps.push(Step::$kind(slot::$slot, at));
                }
            };
            ($either:ident $kind:ident $slot:ident $v4:expr, $v6:expr) => {
                let step = match (find(&$v4), find(&$v6)) {
                    (Some(v4), Some(v6)) => Some(Step::$either(slot::$slot, v4, v6)),
                    (Some(at), None) | (None, Some(at)) => Some(Step::$kind(slot::$slot, at)),
                    (None, None) => None,
                };
                if let Some(step) = step {
                    given.add(slot::$slot.column());
                    steps.push(step);
                }
            };
        }
        bind!(U8 PROTO [4, 193]);
        bind!(U16 SRC_PORT [7, 180, 182]);
        bind!(U16 DST_PORT [11, 181, 183]);
        bind!(U16 TCP_FLAGS [6]);
        if !given.has(Column::TcpFlags)
            && let Some(field) = fields.iter().find(|field| field.element == TCP_CONTROL_BITS && field.reference)
        {
            given.add(Column::TcpFlags);
            steps.push(Step::NestedFlags(field.at));
        }
        bind!(U8 TTL [192, 52, 53]);
        bind!(EitherU8 U8 SRC_MASK [9], [29]);
        bind!(EitherU8 U8 DST_MASK [13], [30]);
        bind!(U32 FLOW_LABEL [31]);
        bind!(U32 IP_ID [54]);
        bind!(U16 FRAGMENT_OFFSET [88]);
        bind!(U32 RECORD_SRC_AS [16]);
        bind!(U32 RECORD_DST_AS [17]);
        bind!(U32 IN_IF [10, 252]);
        bind!(U32 OUT_IF [14, 253]);
        bind!(U16 SRC_VLAN [58, 243]);
        bind!(U16 DST_VLAN [59, 254]);
        bind!(U64 SRC_MAC [56, 81]);
        bind!(U64 DST_MAC [80, 57]);
        bind!(Label MPLS_1 [70]);
        bind!(Label MPLS_2 [71]);
        bind!(Label MPLS_3 [72]);
        bind!(Label MPLS_4 [73]);
        bind!(U32 IN_VRF [234]);
        bind!(U32 OUT_VRF [235]);
        bind!(U16 NAT_SRC_PORT [227, 40003]);
        bind!(U16 NAT_DST_PORT [228, 40004]);
        if let Some(at) = find(&[5, 55]) {
            given.add(Column::Tos);
            steps.push(Step::U8(slot::TOS, at));
        } else if let Some(at) = find(&[195]) {
            given.add(Column::Tos);
            steps.push(Step::Dscp(at));
        }
        if let Some(at) = find(&[89]) {
            steps.push(Step::ForwardingStatus(at));
        }
        if let Some(at) = find(&[95]) {
            steps.push(Step::Application(at));
        }
        if let Some(at) = find(&[61]) {
            steps.push(Step::Direction(at));
        }
        if let Some(at) = of_width(&[351], 8) {
            given.add(Column::TunnelId);
            steps.push(Step::SegmentId(at));
        }
        let icmp = (find(&[32]), find(&[139]), find(&[176, 178]), find(&[177, 179]));
        let icmp = match icmp {
            (Some(v4), Some(v6), ..) => Some(Step::EitherU16(slot::ICMP, v4, v6)),
            (Some(at), None, ..) | (None, Some(at), ..) => Some(Step::U16(slot::ICMP, at)),
            (None, None, Some(kind), Some(code)) => Some(Step::IcmpPair(kind, code)),
            _ => None,
        };
        if let Some(step) = icmp {
            given.add(Column::Icmp);
            steps.push(step);
        }

        let packet = fields.iter().find(|field| is_packet(field.element) && field.at.width > 0).map(|field| PacketAt {
            field: *field,
            ethernet: field.element != 313,
            kind: find(&[408]),
            skipped: find(&[409, 102]),
            exported: find(&[410, 103]),
            frame_octets: find(&[312]),
        });
        let ether_type = match (src.or(dst), find(&[256]), find(&[60])) {
            (_, Some(at), _) => Some(Step::U16(slot::ETHER_TYPE, at)),
            (_, None, Some(at)) => Some(Step::EtherTypeOfVersion(at)),
            (Some(Step::V4(..)), ..) => Some(Step::EtherType(0x0800)),
            (Some(Step::V6(..)), ..) => Some(Step::EtherType(0x86dd)),
            (Some(_), ..) => Some(Step::EtherTypeOfAddress),
            (None, ..) => None,
        };
        if let Some(step) = ether_type {
            given.add(Column::EtherType);
            steps.push(step);
        }

        // Octets of layer 3; else of layer 2 (352, 353); else after the device (23).
        let layer3 = find(&[1, 85, 231]);
        let layer2 = find(&[352, 353]);
        let octets = layer3.or(layer2).or_else(|| find(&[23]));
        let packets = find(&[2, 86, 298]).or_else(|| find(&[24]));
        let (mut octets, mut packets) = (octets, packets);
        for map in maps {
            let is_meant = |field: &&Placed| {
                (field.enterprise, field.element) == (map.id.enterprise, map.id.number) && !field.reference
            };
            let Some(at) = all.iter().find(is_meant).map(|field| field.at) else { continue };
            let step = match (mapping::target(map.column), at.width) {
                (Some(Target::U64(_)), _) if map.column == Column::Octets => {
                    octets = Some(at);
                    continue;
                }
                (Some(Target::U64(_)), _) if map.column == Column::Packets => {
                    packets = Some(at);
                    continue;
                }
                (Some(Target::U64(_)), _) if map.column == Column::ApplicationId => Step::Application(at),
                (Some(Target::U8(slot)), _) => Step::U8(slot, at),
                (Some(Target::U16(slot)), _) => Step::U16(slot, at),
                (Some(Target::U32(slot)), _) => Step::U32(slot, at),
                (Some(Target::U64(slot)), _) => Step::U64(slot, at),
                (Some(Target::Address(slot)), 4) => Step::V4(slot, at),
                (Some(Target::Address(slot)), 16) => Step::V6(slot, at),
                _ => continue,
            };
            // In front: others look at what addresses and ports have become.
            steps.retain(|known| known.column() != map.column);
            steps.insert(0, step);
            given.add(map.column);
        }
        let event = find(&[230, 233, 40005]);
        let flow = octets.is_some()
            || packets.is_some()
            || packet.is_some()
            || src.is_some()
            || dst.is_some()
            || nat.is_some()
            || event.is_some();
        flow.then(|| Plan {
            icmp_in_port: icmp.is_none() && given.has(Column::Proto) && given.has(Column::DstPort),
            steps,
            octets,
            octets_layer: if layer3.is_none() && layer2.is_some() { 2 } else { 3 },
            packets,
            span: span(&find),
            sampling: sampling(&find),
            event,
            packet,
            exporter: match (of_width(&[130], 4), of_width(&[131], 16)) {
                (None, None) => None,
                both => Some(both),
            },
            given,
            reverse: None,
        })
    }

    /// Rows for all records; how many.
    pub(crate) fn fill(
        &self,
        rows: Rows<'_>,
        set: &[u8],
        context: &Context<'_>,
        scratch: &mut Scratch,
        out: &mut FlowBuilder,
    ) -> usize {
        let n = rows.len();
        if n == 0 {
            return 0;
        }
        scratch.flags.clear();
        let mut base = context.quality;
        out.lane(slot::TIME_RECEIVED).fill(n, context.received_ms);
        out.lane(slot::OBSERVATION_DOMAIN).fill(n, context.domain);
        self.fill_exporter(rows, context, out);
        for step in &self.steps {
            step.fill(rows, out);
        }
        if self.icmp_in_port {
            fill_icmp_from_port(n, out);
        }
        if let Some(at) = self.packet {
            self.fill_packets(at, rows, set, scratch, out);
        } else {
            fill_counter(slot::OCTETS, self.octets, rows, out);
            fill_counter(slot::PACKETS, self.packets, rows, out);
            out.lane(slot::OCTETS_LAYER).fill(n, self.octets_layer);
        }
        match (self.event, self.octets.is_some() || self.packets.is_some() || self.packet.is_some()) {
            (Some(at), false) => {
                base |= quality::EVENT;
                integers(out.lane(slot::EVENT), rows, at);
            }
            (Some(at), true) => fill_events(at, rows, scratch, out),
            (None, false) => base |= quality::COUNTERS_MISSING,
            (None, true) => {}
        }
        base |= self.fill_span(rows, context, scratch, out);
        base |= self.fill_sampling(rows, context, scratch, out);
        if !self.steps.iter().any(|step| matches!(step, Step::Direction(_))) {
            out.lane(slot::OBSERVATION).fill(n, Observation::Unknown as u8);
        }
        if scratch.flags.is_empty() {
            out.lane(slot::QUALITY).fill(n, base);
        } else {
            out.lane(slot::QUALITY).extend(scratch.flags.iter().map(|flags| flags | base));
        }
        out.commit(n);
        n + self.reverse.as_ref().map_or(0, |reverse| reverse.fill_reverse(rows, set, context, scratch, out))
    }

    /// RFC 5103: the reverse direction, where it saw anything.
    fn fill_reverse(
        &self,
        rows: Rows<'_>,
        set: &[u8],
        context: &Context<'_>,
        scratch: &mut Scratch,
        out: &mut FlowBuilder,
    ) -> usize {
        let mut records = std::mem::take(&mut scratch.reverse);
        records.clear();
        let counted = |record: &[u8], at: Option<At>| at.is_some_and(|at| integer(record, at) > 0);
        let mut stride = 1;
        for record in rows.iter().filter(|record| counted(record, self.octets) || counted(record, self.packets)) {
            stride = record.len();
            records.extend_from_slice(record);
        }
        let filled = self.fill(Rows::new(&records, stride), set, context, scratch, out);
        scratch.reverse = records;
        filled
    }

    fn fill_exporter(&self, rows: Rows<'_>, context: &Context<'_>, out: &mut FlowBuilder) {
        let n = rows.len();
        let (v4, v6) = match self.exporter {
            Some(both) if context.exporter_from_record => both,
            _ => {
                out.lane(slot::EXPORTER_ID).fill(n, context.exporter_id);
                out.lane(slot::EXPORTER_ADDR).fill(n, context.exporter);
                if context.exporter != context.udp_source {
                    out.lane(slot::UDP_SOURCE).fill(n, context.udp_source);
                }
                return;
            }
        };
        for record in rows.iter() {
            let v4 = v4.map(|at| octets::<4>(record, at.offset.into())).filter(|octets| *octets != [0; 4]);
            let v6 = || v6.map(|at| Octets16::new(octets(record, at.offset.into()))).filter(|octets| !octets.is_zero());
            let named = v4.map(Octets16::from_v4).or_else(v6).filter(|address| *address != context.exporter);
            let (id, address) = named
                .and_then(|address| Some((context.shared.exporter_id(address)?, address)))
                .unwrap_or((context.exporter_id, context.exporter));
            out.lane(slot::EXPORTER_ID).push(id);
            out.lane(slot::EXPORTER_ADDR).push(address);
            out.lane(slot::UDP_SOURCE).push_option((address != context.udp_source).then_some(context.udp_source));
        }
    }

    /// RFC 7133: one packet a record; octets of layer 3 as its header says, or of
    /// layer 2 where the record says how long the frame was.
    fn fill_packets(&self, at: PacketAt, rows: Rows<'_>, set: &[u8], scratch: &mut Scratch, out: &mut FlowBuilder) {
        let n = rows.len();
        scratch.packets.clear();
        for record in rows.iter() {
            let mut header = content(&at.field, record, set);
            if let Some(exported) = at.exported.map(|at| integer(record, at)).filter(|exported| *exported > 0) {
                header = &header[..header.len().min(usize::try_from(exported).unwrap_or(usize::MAX))];
            }
            // RFC 7133 3.4 and 3.6: 1 is Ethernet, and a section may begin within the frame.
            let other = at.kind.is_some_and(|at| integer(record, at) > 1);
            let inside = at.skipped.is_some_and(|at| integer(record, at) > 0);
            scratch.packets.push(match at.ethernet {
                _ if other || inside => Packet { truncated: true, ..Packet::default() },
                true => packet::ethernet(header),
                false => packet::ip(header),
            });
        }
        facts::fill(out, &scratch.packets, self.given, |packet| packet);
        if scratch.packets.iter().any(|packet| facts::quality(packet) != 0) {
            scratch.flags.resize(n, 0);
            for (flags, packet) in scratch.flags.iter_mut().zip(&scratch.packets) {
                *flags |= facts::quality(packet);
            }
        }
        let layer2 = self.octets.is_none() && at.frame_octets.is_some();
        match self.octets.or(at.frame_octets) {
            Some(at) => integers(out.lane(slot::OCTETS), rows, at),
            None => {
                let length = |packet: &Packet| u64::from(packet.outer.map_or(0, |ip| ip.length));
                out.lane(slot::OCTETS).extend(scratch.packets.iter().map(length));
            }
        }
        out.lane(slot::OCTETS_LAYER).fill(n, if layer2 { 2 } else { self.octets_layer });
        match self.packets {
            Some(at) => integers(out.lane(slot::PACKETS), rows, at),
            None => out.lane(slot::PACKETS).fill(n, 1),
        }
    }

    fn fill_span(&self, rows: Rows<'_>, context: &Context<'_>, scratch: &mut Scratch, out: &mut FlowBuilder) -> u64 {
        let n = rows.len();
        let Some(source) = self.read_span(rows, context, scratch) else {
            out.lane(slot::FIRST).fill(n, context.received_ms);
            out.lane(slot::LAST).fill(n, context.received_ms);
            out.lane(slot::TIME_SOURCE).fill(n, TimeSource::Received as u8);
            return quality::TIME_MISSING;
        };
        let Scratch { firsts, lasts, flags, .. } = scratch;
        let bounds = Bounds::new(context.received_ms, context.longest_ms);
        let spans = || firsts.iter().zip(lasts.iter());
        if spans().fold(true, |all, (first, last)| all & bounds.plausible(*first, *last)) {
            out.lane(slot::FIRST).extend(firsts.iter().copied());
            out.lane(slot::LAST).extend(lasts.iter().copied());
            out.lane(slot::TIME_SOURCE).fill(n, source as u8);
            return 0;
        }
        flags.resize(n, 0);
        for ((first, last), flags) in spans().zip(flags) {
            let believed = bounds.believe(*first, *last);
            *flags |= believed.quality;
            out.lane(slot::FIRST).push(believed.first);
            out.lane(slot::LAST).push(believed.last);
            out.lane(slot::EXPORTED_FIRST).push_option((believed.first != *first).then_some(*first));
            out.lane(slot::EXPORTED_LAST).push_option((believed.last != *last).then_some(*last));
            let replaced = believed.last != *last;
            out.lane(slot::TIME_SOURCE).push(if replaced { TimeSource::Received } else { source } as u8);
        }
        0
    }

    /// Exported start and end of all rows, in `scratch`; `None` where there are none.
    fn read_span(&self, rows: Rows<'_>, context: &Context<'_>, scratch: &mut Scratch) -> Option<TimeSource> {
        let Scratch { firsts, lasts, .. } = scratch;
        firsts.clear();
        lasts.clear();
        let first = self.span.first.and_then(|at| self.read_moments(at, rows, context, firsts));
        let last = self.span.last.and_then(|at| self.read_moments(at, rows, context, lasts));
        match (first, last) {
            (Some(_), Some(_)) => {}
            (None, None) => return None,
            (Some(_), None) => lasts.extend_from_slice(firsts),
            (None, Some(_)) => firsts.extend_from_slice(lasts),
        }
        if let (Some((at, unit)), true) = (self.span.duration, first.is_none() || last.is_none()) {
            let durations = rows.iter().map(|record| (integer(record, at) / unit).min(i64::MAX as u64) as i64);
            for ((start, end), duration) in firsts.iter_mut().zip(lasts.iter_mut()).zip(durations) {
                match first {
                    Some(_) => *end = start.saturating_add(duration),
                    None => *start = end.saturating_sub(duration),
                }
            }
        }
        last.or(first)
    }

    fn read_moments(
        &self,
        (at, moment): (At, Moment),
        rows: Rows<'_>,
        context: &Context<'_>,
        into: &mut Vec<i64>,
    ) -> Option<TimeSource> {
        let export_ms = context.export_ms;
        match moment {
            Moment::Absolute(unit) => {
                match unit {
                    Unit::Millis => columnwise!(into, rows, at, |raw| Unit::Millis.to_ms(raw)),
                    Unit::Seconds => columnwise!(into, rows, at, |raw| Unit::Seconds.to_ms(raw)),
                    Unit::Ntp => columnwise!(into, rows, at, |raw| Unit::Ntp.to_ms(raw)),
                }
                Some(TimeSource::Absolute)
            }
            Moment::Delta => {
                columnwise!(into, rows, at, |raw: u64| export_ms.saturating_sub((raw / 1000) as i64));
                Some(TimeSource::Delta)
            }
            Moment::Switched => {
                if let Some(init) = self.span.init {
                    let moment =
                        |record| since_init(export_ms, integer(record, init) as i64, integer(record, at) as u32);
                    into.extend(rows.iter().map(moment));
                    return Some(TimeSource::SysUptime);
                }
                match context.clock {
                    Clock::Uptime(uptime) => {
                        columnwise!(into, rows, at, |raw: u64| since_boot(export_ms, uptime, raw as u32));
                    }
                    Clock::Init(init) => {
                        columnwise!(into, rows, at, |raw: u64| since_init(export_ms, init, raw as u32));
                    }
                    Clock::Unknown => return None,
                }
                Some(TimeSource::SysUptime)
            }
        }
    }

    fn fill_sampling(
        &self,
        rows: Rows<'_>,
        context: &Context<'_>,
        scratch: &mut Scratch,
        out: &mut FlowBuilder,
    ) -> u64 {
        if let (SamplingAt::Context, None) = (self.sampling, context.interfaces) {
            fill_sampling(rows.len(), context.sampling, out);
            return context.sampling.quality();
        }
        let ports = context.interfaces.map(|interfaces| (interfaces, Ports::of(out)));
        let mut latest: Option<((u64, u64), Sampling)> = None;
        for (row, record) in rows.iter().enumerate() {
            let read = |at: At| integer(record, at);
            let raw = match self.sampling {
                SamplingAt::Context => (0, 0),
                SamplingAt::OneOf(at) | SamplingAt::CountBased(at, None) | SamplingAt::Sampler(at) => (read(at), 0),
                SamplingAt::CountBased(a, Some(b)) | SamplingAt::Share(a, b) => (read(a), read(b)),
            };
            let sampling = match latest {
                Some((same, sampling)) if same == raw => sampling,
                _ => self.sampling_of(raw, context),
            };
            latest = Some((raw, sampling));
            let of_port =
                ports.as_ref().and_then(|(interfaces, ports)| interfaces.instead_of(sampling, ports.get(row)));
            let sampling = of_port.unwrap_or(sampling);
            fill_sampling(1, sampling, out);
            if sampling.quality() != 0 {
                scratch.flags.resize(rows.len(), 0);
                scratch.flags[row] |= sampling.quality();
            }
        }
        0
    }

    fn sampling_of(&self, (a, b): (u64, u64), context: &Context<'_>) -> Sampling {
        let in_record = match self.sampling {
            SamplingAt::Context => None,
            SamplingAt::OneOf(_) => Fraction::one_of(a),
            SamplingAt::CountBased(_, space) => Fraction::count_based(a, space.map(|_| b)),
            SamplingAt::Share(..) => Fraction::new(a, b),
            SamplingAt::Sampler(_) => {
                let known = context.samplers.sampler(a).or_else(|| context.samplers_0?.sampler(a));
                return known.map_or(context.sampling, |known| Sampling::new(known, SamplingSource::Options));
            }
        };
        in_record.map_or(context.sampling, |fraction| Sampling::new(fraction, SamplingSource::Record))
    }
}

/// Interfaces of the rows that are being filled.
struct Ports(Vec<u32>, Vec<u32>);

impl Ports {
    fn of(out: &mut FlowBuilder) -> Self {
        Self(out.uncommitted(slot::IN_IF).to_vec(), out.uncommitted(slot::OUT_IF).to_vec())
    }

    fn get(&self, row: usize) -> (Option<u32>, Option<u32>) {
        (self.0.get(row).copied(), self.1.get(row).copied())
    }
}

pub(crate) fn fill_sampling(n: usize, sampling: Sampling, out: &mut FlowBuilder) {
    out.lane(slot::SAMPLING_NUM).fill(n, sampling.fraction.num);
    out.lane(slot::SAMPLING_DEN).fill(n, sampling.fraction.den);
    out.lane(slot::SAMPLING_SOURCE).fill(n, sampling.source as u8);
}

#[inline]
fn integers<T: Narrow + benocs_model::flow::builder::Element>(lane: &mut Lane<T>, rows: Rows<'_>, at: At) {
    columnwise!(lane, rows, at, T::narrow);
}

fn fill_counter(slot: Slot<u64>, at: Option<At>, rows: Rows<'_>, out: &mut FlowBuilder) {
    match at {
        Some(at) => integers(out.lane(slot), rows, at),
        None => out.lane(slot).fill(rows.len(), 0),
    }
}

/// A record of traffic that has an event too is an event where it counted nothing.
fn fill_events(at: At, rows: Rows<'_>, scratch: &mut Scratch, out: &mut FlowBuilder) {
    let n = rows.len();
    let mut empty: Vec<bool> = out.uncommitted(slot::OCTETS).iter().map(|octets| *octets == 0).collect();
    for (empty, packets) in empty.iter_mut().zip(out.uncommitted(slot::PACKETS)) {
        *empty &= *packets == 0;
    }
    if !empty.contains(&true) {
        return;
    }
    scratch.flags.resize(n, 0);
    for ((record, empty), flags) in rows.iter().zip(empty).zip(&mut scratch.flags) {
        out.lane(slot::EVENT).push_option(empty.then(|| Narrow::narrow(integer(record, at))));
        *flags |= if empty { quality::EVENT } else { 0 };
    }
}

/// Exporters without an ICMP field put type and code into the destination port.
fn fill_icmp_from_port(n: usize, out: &mut FlowBuilder) {
    let is_icmp = |proto: u8| proto == 1 || proto == 58;
    if !out.uncommitted(slot::PROTO).iter().fold(false, |any, proto| any | is_icmp(*proto)) {
        return;
    }
    let icmp: Vec<bool> = out.uncommitted(slot::PROTO).iter().map(|proto| is_icmp(*proto)).collect();
    let ports: Vec<u16> = out.uncommitted(slot::DST_PORT).to_vec();
    let lane = out.lane(slot::ICMP);
    for (icmp, port) in icmp.into_iter().zip(ports).take(n) {
        lane.push_option(icmp.then_some(port));
    }
}

impl Step {
    fn column(&self) -> Column {
        match *self {
            Step::U8(slot, _) | Step::EitherU8(slot, ..) => slot.column(),
            Step::U16(slot, _) | Step::EitherU16(slot, ..) => slot.column(),
            Step::U32(slot, _) | Step::Label(slot, _) => slot.column(),
            Step::U64(slot, _) => slot.column(),
            Step::V4(slot, _) | Step::V6(slot, _) | Step::EitherAddress(slot, ..) => slot.column(),
            Step::ForwardingStatus(_) => Column::ForwardingStatus,
            Step::IcmpPair(..) => Column::Icmp,
            Step::NestedFlags(_) => Column::TcpFlags,
            Step::Dscp(_) => Column::Tos,
            Step::Application(_) => Column::ApplicationId,
            Step::Direction(_) => Column::Observation,
            Step::SegmentId(_) => Column::TunnelId,
            Step::EtherTypeOfVersion(_) | Step::EtherTypeOfAddress | Step::EtherType(_) => Column::EtherType,
        }
    }

    #[inline]
    fn fill(&self, rows: Rows<'_>, out: &mut FlowBuilder) {
        match *self {
            Step::U8(slot, at) => integers(out.lane(slot), rows, at),
            Step::U16(slot, at) => integers(out.lane(slot), rows, at),
            Step::U32(slot, at) => integers(out.lane(slot), rows, at),
            Step::U64(slot, at) => integers(out.lane(slot), rows, at),
            Step::V4(slot, at) => {
                let o = at.offset.into();
                out.lane(slot).extend(rows.iter().map(|record| Octets16::from_v4(octets(record, o))));
            }
            Step::V6(slot, at) => {
                let o = at.offset.into();
                out.lane(slot).extend(rows.iter().map(|record| Octets16::new(octets(record, o))));
            }
            Step::EtherType(value) => out.lane(slot::ETHER_TYPE).fill(rows.len(), value),
            _ => self.fill_rare(rows, out),
        }
    }

    fn fill_rare(&self, rows: Rows<'_>, out: &mut FlowBuilder) {
        match *self {
            Step::EitherU8(slot, a, b) => {
                let either = |record| Narrow::narrow(integer(record, a) | integer(record, b));
                out.lane(slot).extend(rows.iter().map(either));
            }
            Step::EitherU16(slot, a, b) => {
                let either = |record| Narrow::narrow(integer(record, a) | integer(record, b));
                out.lane(slot).extend(rows.iter().map(either));
            }
            Step::EitherAddress(slot, v4, v6) => {
                let either = |record| {
                    let four: [u8; 4] = octets(record, v4.offset.into());
                    let six = Octets16::new(octets(record, v6.offset.into()));
                    if four == [0; 4] && !six.is_zero() { six } else { Octets16::from_v4(four) }
                };
                out.lane(slot).extend(rows.iter().map(either));
            }
            Step::Label(slot, at) => {
                let shift = u32::from(at.width).saturating_mul(8).saturating_sub(20).min(32);
                columnwise!(out.lane(slot), rows, at, |entry: u64| u32::narrow(entry >> shift & 0xf_ffff));
            }
            // RFC 7270 4.12 was of four octets once; some exporters put the status into the first of them.
            Step::ForwardingStatus(at) => {
                let shift = u32::from(at.width.clamp(1, 8) - 1) * 8;
                let status = |raw: u64| if raw <= 255 { raw as u8 } else { (raw >> shift) as u8 };
                columnwise!(out.lane(slot::FORWARDING_STATUS), rows, at, status);
            }
            Step::IcmpPair(kind, code) => {
                let pair = |record| Narrow::narrow((integer(record, kind) & 0xff) << 8 | integer(record, code) & 0xff);
                out.lane(slot::ICMP).extend(rows.iter().map(pair));
            }
            Step::Dscp(at) => columnwise!(out.lane(slot::TOS), rows, at, |dscp: u64| (dscp << 2) as u8),
            Step::Application(at) => {
                columnwise!(out.lane(slot::APPLICATION_ID), rows, at, |raw: u64| application_id(raw, at.width));
            }
            Step::NestedFlags(at) => {
                let lane = out.lane(slot::TCP_FLAGS);
                for record in rows.iter() {
                    let flags = integer(record, at);
                    lane.push_option((flags != NO_FLAGS).then(|| Narrow::narrow(flags)));
                }
            }
            Step::Direction(at) => {
                let direction = |raw: u64| match raw {
                    0 | 1 => raw as u8,
                    _ => Observation::Unknown as u8,
                };
                columnwise!(out.lane(slot::OBSERVATION), rows, at, direction);
            }
            // RFC 7367, layer2SegmentId: a type octet, then the identifier in the low 24 or 32 bits.
            Step::SegmentId(at) => columnwise!(out.lane(slot::TUNNEL_ID), rows, at, |raw: u64| raw as u32),
            Step::EtherTypeOfVersion(at) => {
                let ether_type = |version: u64| match version {
                    4 => 0x0800,
                    6 => 0x86dd,
                    _ => 0,
                };
                columnwise!(out.lane(slot::ETHER_TYPE), rows, at, ether_type);
            }
            Step::EtherTypeOfAddress => {
                let ether_type = |address: &Octets16| match address.octets() {
                    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, ..] => 0x0800,
                    _ => 0x86dd,
                };
                let kinds: Vec<u16> = out.uncommitted(slot::SRC_ADDR).iter().map(ether_type).collect();
                out.lane(slot::ETHER_TYPE).extend(kinds.into_iter());
            }
            Step::U8(..)
            | Step::U16(..)
            | Step::U32(..)
            | Step::U64(..)
            | Step::V4(..)
            | Step::V6(..)
            | Step::EtherType(_) => {}
        }
    }
}

/// RFC 6759 4.1: the engine is the first octet, whatever the length of the selector.
pub(crate) fn application_id(raw: u64, width: u16) -> u64 {
    let bits = u32::from(width.clamp(1, 8) - 1) * 8;
    (raw >> bits) << 56 | raw & ((1 << bits) - 1) & (u64::MAX >> 8)
}

fn span(find: &impl Fn(&[u16]) -> Option<At>) -> Span {
    let pair = |first: u16, last: u16, moment: Moment| {
        let (first, last) = (find(&[first]), find(&[last]));
        (first.is_some() || last.is_some()).then(|| (first.map(|at| (at, moment)), last.map(|at| (at, moment))))
    };
    let (first, last) = pair(152, 153, Moment::Absolute(Unit::Millis))
        .or_else(|| pair(154, 155, Moment::Absolute(Unit::Ntp)))
        .or_else(|| pair(156, 157, Moment::Absolute(Unit::Ntp)))
        .or_else(|| pair(150, 151, Moment::Absolute(Unit::Seconds)))
        .or_else(|| pair(22, 21, Moment::Switched))
        .or_else(|| pair(158, 159, Moment::Delta))
        // When an event or a packet was observed.
        .or_else(|| pair(323, 323, Moment::Absolute(Unit::Millis)))
        .or_else(|| pair(324, 324, Moment::Absolute(Unit::Ntp)))
        .or_else(|| pair(325, 325, Moment::Absolute(Unit::Ntp)))
        .or_else(|| pair(322, 322, Moment::Absolute(Unit::Seconds)))
        .unwrap_or_default();
    let duration = find(&[161]).map(|at| (at, 1)).or_else(|| find(&[162]).map(|at| (at, 1000)));
    Span { first, last, duration, init: find(&[160]) }
}

fn sampling(find: &impl Fn(&[u16]) -> Option<At>) -> SamplingAt {
    if let Some(at) = find(&[34, 50]) {
        return SamplingAt::OneOf(at);
    }
    if let Some(at) = find(&[305]) {
        return SamplingAt::CountBased(at, find(&[306]));
    }
    if let (Some(size), Some(population)) = (find(&[309]), find(&[310])) {
        return SamplingAt::Share(size, population);
    }
    find(&[48, 302]).map_or(SamplingAt::Context, SamplingAt::Sampler)
}

/// The fields as the reverse direction has them; `None` where the template has one direction.
fn reversed(fields: &[Placed]) -> Option<Vec<Placed>> {
    // RFC 5103 6.1, and initiator and responder (231, 232, 298, 299).
    let own = |field: &Placed| match (field.enterprise, field.element) {
        (REVERSE, element) => Some(element),
        (0, 232) => Some(1),
        (0, 299) => Some(2),
        _ => None,
    };
    let mut reverse: Vec<Placed> =
        fields.iter().filter_map(|field| Some(Placed { element: own(field)?, enterprise: 0, ..*field })).collect();
    if !reverse.iter().any(|field| COUNTERS.contains(&field.element)) {
        return None;
    }
    let is_time = |element: u16| matches!(element, 21 | 22 | 150..=159);
    let own_time = reverse.iter().any(|field| is_time(field.element));
    for field in fields.iter().filter(|field| field.enterprise == 0) {
        let element = match field.element {
            // Only the forward direction has these.
            6 | 32 | 61 | 139 | 176..=179 => continue,
            element if COUNTERS.contains(&element) || own_time && is_time(element) => continue,
            element => swapped(element),
        };
        if !reverse.iter().any(|own| own.element == element) {
            reverse.push(Placed { element, ..*field });
        }
    }
    Some(reverse)
}

/// The element that says the same of the other end.
fn swapped(element: u16) -> u16 {
    const PAIRS: &[(u16, u16)] = &[
        (7, 11),
        (8, 12),
        (9, 13),
        (10, 14),
        (16, 17),
        (27, 28),
        (29, 30),
        (44, 45),
        (56, 80),
        (58, 59),
        (169, 170),
        (180, 181),
        (182, 183),
        (225, 226),
        (227, 228),
        (234, 235),
        (243, 254),
        (252, 253),
        (281, 282),
    ];
    PAIRS
        .iter()
        .find_map(|(a, b)| match element {
            element if element == *a => Some(*b),
            element if element == *b => Some(*a),
            _ => None,
        })
        .unwrap_or(element)
}
