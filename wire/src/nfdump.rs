//! Files of nfdump (no RFC): what nfcapd, sfcapd and nfpcapd write. Layout version 1 is nfdump 1.6's, version 2
//! nfdump 1.7's. Numbers are in the byte order of the machine that wrote the file; its first two octets tell which.
//!
//! version 1: | magic u16 = 0xa50c | 1 u16 | flags u32 | blocks u32 | ident, 128 octets | statistics, 136 octets | block | ... |
//! version 2: | magic u16 = 0xa50c | 2 u16 | program u32 | created i64 | compression u8 | encryption u8 | appendix blocks u16 |
//!            | creator u32 | appendix at u64 | block octets u32 | blocks u32 | block | ... | appendix |
//! block:     | records u32 | octets u32 | kind u16 | flags u16 | records, compressed as a whole |
//! record:    | type u16 | octets u16 | ... |
//!
//! A block is decompressed by whoever reads the file; here are its records. A flow of version 1 refers to an
//! extension map, which came before it and says what follows its fixed part; one of version 2 is a list of
//! elements, each | type u16 | octets u16 | ... |.

use crate::error::{Why, WireError};

pub const BLOCK_HEADER_OCTETS: usize = 12;
/// Octets of a block, compressed or not; nfdump's own buffers have 5 MiB.
pub const BLOCK_OCTETS_MAX: usize = 32 << 20;

const MAGIC: u16 = 0xa50c;
const HEADER_1_OCTETS: usize = 140 + 136;
const HEADER_2_OCTETS: usize = 40;
/// Of the record types 1 and 10, before their extensions.
const COMMON_OCTETS: [usize; 2] = [28, 32];
const FLOW_HEADER_OCTETS: usize = 12;

/// Byte order of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    Little,
    Big,
}

/// How blocks are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    None,
    /// LZO1X, a block at a time, without any header.
    Lzo,
    /// A bzip2 stream a block.
    Bzip2,
    /// An LZ4 block without frame.
    Lz4,
    Zstd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileHeader {
    pub order: Order,
    /// 1 or 2.
    pub layout: u16,
    pub compression: Compression,
    pub encrypted: bool,
    /// Where something else than blocks of records begins.
    pub appendix_at: Option<u64>,
    /// Of this header; blocks follow.
    pub octets: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockHeader {
    pub records: u32,
    /// That follow.
    pub octets: usize,
    /// False where the block is something else than records: it may be skipped.
    pub is_records: bool,
    pub compression: Compression,
}

/// True where a file begins like one of nfdump.
pub fn is_nfdump(input: &[u8]) -> bool {
    matches!(input, [0x0c, 0xa5, 1 | 2, 0, ..] | [0xa5, 0x0c, 0, 1 | 2, ..])
}

/// Octets of the header of a file that begins so; four are enough.
pub fn file_header_octets(begin: &[u8]) -> usize {
    match begin {
        [0x0c, 0xa5, 1, 0, ..] | [0xa5, 0x0c, 0, 1, ..] => HEADER_1_OCTETS,
        _ => HEADER_2_OCTETS,
    }
}

/// Takes the beginning of a file, of [`file_header_octets`] at least.
pub fn file_header(input: &[u8]) -> Result<FileHeader, WireError> {
    const READING: &str = "nfdump file header";
    let order = match input {
        [0x0c, 0xa5, ..] => Order::Little,
        [0xa5, 0x0c, ..] => Order::Big,
        _ => return Err(WireError { offset: 0, reading: READING, why: Why::Truncated { left: input.len() } }),
    };
    let octets = Octets { octets: input, order };
    debug_assert_eq!(octets.u16(0), Some(MAGIC));
    let truncated = || WireError::truncated(input, &[], READING);
    let wrong = |offset, value: u64| WireError { offset, reading: READING, why: Why::Value(value as u32) };
    let layout = octets.u16(2).ok_or_else(truncated)?;
    let header = FileHeader {
        order,
        layout,
        compression: Compression::None,
        encrypted: false,
        appendix_at: None,
        octets: HEADER_1_OCTETS,
    };
    match layout {
        1 if input.len() >= HEADER_1_OCTETS => {
            let flags = octets.u32(4).ok_or_else(truncated)?;
            let compression = match flags & 0x19 {
                0 => Compression::None,
                1 => Compression::Lzo,
                8 => Compression::Bzip2,
                0x10 => Compression::Lz4,
                other => return Err(wrong(4, other.into())),
            };
            Ok(FileHeader { compression, ..header })
        }
        2 if input.len() >= HEADER_2_OCTETS => {
            let compression = match octets.u8(16).ok_or_else(truncated)? {
                0 => Compression::None,
                1 => Compression::Lzo,
                2 => Compression::Bzip2,
                3 => Compression::Lz4,
                4 => Compression::Zstd,
                other => return Err(wrong(16, other.into())),
            };
            let appendix = octets.u64(24).ok_or_else(truncated)?;
            Ok(FileHeader {
                compression,
                encrypted: octets.u8(17) != Some(0),
                appendix_at: (appendix > 0).then_some(appendix),
                octets: HEADER_2_OCTETS,
                ..header
            })
        }
        1 | 2 => Err(truncated()),
        other => Err(wrong(2, other.into())),
    }
}

/// The header of a block of a file that began so.
pub fn block_header(input: &[u8], file: &FileHeader) -> Result<BlockHeader, WireError> {
    const READING: &str = "nfdump block header";
    let octets = Octets { octets: input, order: file.order };
    let header = (octets.u32(0), octets.u32(4), octets.u16(8), octets.u16(10));
    let (Some(records), Some(length), Some(kind), Some(flags)) = header else {
        return Err(WireError::truncated(input, &[], READING));
    };
    if length as usize > BLOCK_OCTETS_MAX {
        return Err(WireError { offset: 4, reading: READING, why: Why::Length(length) });
    }
    // Version 1: flag 1 is "not compressed", 2 "compressed", 0 what the file says. Version 2: bit 0, "not compressed".
    let plain = if file.layout == 1 { flags == 1 } else { flags & 1 == 1 };
    Ok(BlockHeader {
        records,
        octets: length as usize,
        is_records: kind == if file.layout == 1 { 2 } else { 3 },
        compression: if plain { Compression::None } else { file.compression },
    })
}

/// The records of a block that is not, or no longer, compressed.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    body: &'a [u8],
    at: usize,
    order: Order,
}

impl<'a> Records<'a> {
    pub fn new(body: &'a [u8], order: Order) -> Self {
        Self { body, at: 0, order }
    }
}

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry<'a> {
    /// Layout version 2.
    Flow(Flow<'a>),
    /// Layout version 1; its extension map says how to read it.
    MappedFlow(MappedFlow<'a>),
    Map(ExtensionMap<'a>),
    Exporter(Exporter),
    Sampler(Sampler),
    /// Statistics, names, or a type that is not known.
    Other(u16),
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Entry<'a>, WireError>;

    /// Ends after an error: where the next record begins is not known.
    fn next(&mut self) -> Option<Self::Item> {
        const READING: &str = "nfdump record";
        let rest = self.body.get(self.at..).filter(|rest| !rest.is_empty())?;
        let octets = Octets { octets: rest, order: self.order };
        let at = std::mem::replace(&mut self.at, usize::MAX);
        let (Some(kind), Some(length)) = (octets.u16(0), octets.u16(2)) else {
            return Some(Err(WireError::truncated(self.body, rest, READING)));
        };
        if length < 4 {
            return Some(Err(WireError { offset: at + 2, reading: READING, why: Why::Length(length.into()) }));
        }
        let Some(record) = rest.get(..usize::from(length)) else {
            return Some(Err(WireError::truncated(self.body, rest, READING)));
        };
        self.at = at + usize::from(length);
        let octets = Octets { octets: record, order: self.order };
        let entry = match kind {
            1 | 10 => Some(Entry::MappedFlow(MappedFlow { octets, wide: kind == 10 })),
            2 => octets.u16(4).map(|id| Entry::Map(ExtensionMap { id, octets })),
            7 => Exporter::read(octets).map(Entry::Exporter),
            9 => Sampler::read_1(octets).map(Entry::Sampler),
            11 => Some(Entry::Flow(Flow { octets })),
            15 => Sampler::read_2(octets).map(Entry::Sampler),
            other => Some(Entry::Other(other)),
        };
        Some(entry.ok_or(WireError { offset: at + 2, reading: READING, why: Why::Length(length.into()) }))
    }
}

/// An address of either family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ip {
    V4([u8; 4]),
    V6([u8; 16]),
}

/// An exporter as nfcapd knew it; flows refer to it by `id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exporter {
    pub id: u16,
    /// NetFlow version, 10 for IPFIX, 9999 for sFlow.
    pub version: u32,
    pub address: Ip,
    /// Observation domain, or engine.
    pub domain: u32,
}

impl Exporter {
    /// | 7 | 32 | version u32 | address, 16 octets | family u16 | id u16 | domain u32 |
    fn read(octets: Octets<'_>) -> Option<Self> {
        const AF_INET: u16 = 2;
        // An IPv4 address is the lower half's upper word, in a machine's own order.
        let v4_at = if octets.order == Order::Little { 16 } else { 20 };
        let address = match octets.u16(24)? {
            AF_INET => Ip::V4(octets.u32(v4_at)?.to_be_bytes()),
            _ => Ip::V6(octets.v6(8)?),
        };
        Some(Self { id: octets.u16(26)?, version: octets.u32(4)?, address, domain: octets.u32(28)? })
    }
}

/// A sampler of an exporter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampler {
    pub exporter: u16,
    /// Negative where it is not one of the exporter's own: set for it on nfcapd's command line, or general.
    pub id: i64,
    /// One of so many packets.
    pub interval: u32,
}

impl Sampler {
    /// | 9 | 16 | id i32 | interval u32 | mode u16 | exporter u16 |
    fn read_1(octets: Octets<'_>) -> Option<Self> {
        let id = octets.u32(4)?.cast_signed();
        Some(Self { exporter: octets.u16(14)?, id: id.into(), interval: octets.u32(8)? })
    }

    /// | 15 | 24 | exporter u16 | algorithm u16 | id i64 | packets u32 | space u32 |: `packets` of `packets + space`.
    fn read_2(octets: Octets<'_>) -> Option<Self> {
        let (packets, space) = (octets.u32(16)?, octets.u32(20)?);
        let interval = packets.saturating_add(space) / packets.max(1);
        Some(Self { exporter: octets.u16(4)?, id: octets.u64(8)?.cast_signed(), interval })
    }
}

/// A flow, from either layout. `None` is what the file does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Unix milliseconds.
    pub first_ms: u64,
    pub last_ms: u64,
    /// When nfcapd received it.
    pub received_ms: Option<u64>,
    pub packets: u64,
    pub octets: u64,
    /// After the device (23, 24); (packets, octets).
    pub out: Option<(u64, u64)>,
    /// Source and destination.
    pub addresses: Option<(Ip, Ip)>,
    pub src_port: u16,
    /// Or type * 256 + code of ICMP.
    pub dst_port: u16,
    pub proto: u8,
    pub tcp_flags: u8,
    /// 0 is unknown.
    pub forwarding_status: u8,
    pub tos: u8,
    /// In and out.
    pub interfaces: Option<(u32, u32)>,
    /// Prefix lengths of source and destination.
    pub masks: Option<(u8, u8)>,
    /// 1 is egress; 0 is ingress, or unknown.
    pub direction: u8,
    pub autonomous_systems: Option<(u32, u32)>,
    pub vlans: Option<(u32, u32)>,
    pub next_hop: Option<Ip>,
    pub bgp_next_hop: Option<Ip>,
    /// Source address of the datagram that brought it.
    pub exporter: Option<Ip>,
    /// Incoming frame: source, destination.
    pub in_macs: (Option<u64>, Option<u64>),
    /// Outgoing frame: source, destination.
    pub out_macs: (Option<u64>, Option<u64>),
    /// Stack entries of 24 bits (label, experimental, bottom), from the top; 0 is none.
    pub mpls: Option<[u32; 10]>,
    pub nat_addresses: Option<(Ip, Ip)>,
    pub nat_ports: Option<(u16, u16)>,
    pub exporter_id: u16,
    pub engine_type: u8,
    pub engine_id: u8,
    /// What happened to the flow, by NSEL (233) or NAT (230): element and value.
    pub event: Option<(u16, u8)>,
    /// Incoming and outgoing.
    pub vrfs: Option<(u32, u32)>,
    /// `packets` and `octets` are multiplied by the sampling interval.
    pub is_scaled: bool,
    /// The exporter's id of the sampler.
    pub sampler: Option<u64>,
}

/// IANA IPFIX elements.
const NAT_EVENT: u16 = 230;
const FIREWALL_EVENT: u16 = 233;

impl Record {
    /// An event has no span of its own.
    fn set_event(&mut self, at_ms: u64, element: u16, value: u8) {
        if self.first_ms == 0 && self.last_ms == 0 {
            (self.first_ms, self.last_ms) = (at_ms, at_ms);
        }
        self.event = Some((element, value)).filter(|_| value > 0).or(self.event);
    }
}

/// | 11 | octets | elements u16 | engine type u8 | engine id u8 | exporter u16 | flags u8 | NetFlow version u8 | element | ... |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow<'a> {
    octets: Octets<'a>,
}

impl Flow<'_> {
    pub fn record(&self) -> Result<Record, WireError> {
        const READING: &str = "nfdump flow element";
        let header = self.octets;
        let fixed = || {
            let flags = header.u8(10)?;
            Some(Record {
                engine_type: header.u8(6)?,
                engine_id: header.u8(7)?,
                exporter_id: header.u16(8)?,
                is_scaled: flags & 2 != 0,
                ..Record::default()
            })
        };
        let whole = header.octets;
        let mut record = fixed().ok_or_else(|| WireError::truncated(whole, &[], READING))?;
        let elements = header.u16(4).unwrap_or(0);
        let mut at = FLOW_HEADER_OCTETS;
        for _ in 0..elements {
            let rest = whole.get(at..).unwrap_or_default();
            let octets = Octets { octets: rest, order: header.order };
            let (Some(kind), Some(length)) = (octets.u16(0), octets.u16(2)) else {
                return Err(WireError::truncated(whole, rest, READING));
            };
            let wrong = WireError { offset: at + 2, reading: READING, why: Why::Length(length.into()) };
            if length < 4 {
                return Err(wrong);
            }
            let Some(element) = rest.get(4..usize::from(length)) else {
                return Err(WireError::truncated(whole, rest, READING));
            };
            // Those that are not known say nothing that is wanted here.
            if element_of(kind, Octets { octets: element, order: header.order }, &mut record).is_none() {
                return Err(wrong);
            }
            at += usize::from(length);
        }
        Ok(record)
    }
}

/// `None` where the element is shorter than its type says.
fn element_of(kind: u16, o: Octets<'_>, record: &mut Record) -> Option<()> {
    match kind {
        1 => {
            (record.first_ms, record.last_ms) = (o.u64(0)?, o.u64(8)?);
            record.received_ms = Some(o.u64(16)?).filter(|ms| *ms > 0);
            (record.packets, record.octets) = (o.u64(24)?, o.u64(32)?);
            (record.src_port, record.dst_port) = (o.u16(40)?, o.u16(42)?);
            (record.proto, record.tcp_flags) = (o.u8(44)?, o.u8(45)?);
            (record.forwarding_status, record.tos) = (o.u8(46)?, o.u8(47)?);
        }
        2 => record.addresses = Some((o.v4(0)?, o.v4(4)?)),
        3 => record.addresses = Some((Ip::V6(o.v6(0)?), Ip::V6(o.v6(16)?))),
        4 => {
            record.interfaces = Some((o.u32(0)?, o.u32(4)?));
            record.masks = Some((o.u8(8)?, o.u8(9)?));
            record.direction = o.u8(10)?;
        }
        5 => record.out = Some((o.u64(8)?, o.u64(16)?)),
        6 => record.vlans = Some((o.u32(0)?, o.u32(4)?)),
        7 => record.autonomous_systems = Some((o.u32(0)?, o.u32(4)?)),
        8 => record.bgp_next_hop = Some(o.v4(0)?),
        9 => record.bgp_next_hop = Some(Ip::V6(o.v6(0)?)),
        10 => record.next_hop = Some(o.v4(0)?),
        11 => record.next_hop = Some(Ip::V6(o.v6(0)?)),
        12 => record.exporter = Some(o.v4(0)?),
        13 => record.exporter = Some(Ip::V6(o.v6(0)?)),
        14 => record.mpls = Some(o.labels(0)?),
        15 => {
            record.in_macs = (Some(o.u64(0)?), Some(o.u64(16)?));
            record.out_macs = (Some(o.u64(24)?), Some(o.u64(8)?));
        }
        18 => record.sampler = Some(o.u64(0)?),
        19 => record.set_event(o.u64(0)?, FIREWALL_EVENT, o.u8(14)?),
        20 => record.nat_addresses = Some((o.v4(0)?, o.v4(4)?)),
        21 => record.nat_addresses = Some((Ip::V6(o.v6(0)?), Ip::V6(o.v6(16)?))),
        22 => record.nat_ports = Some((o.u16(0)?, o.u16(2)?)),
        25 => record.set_event(o.u64(0)?, NAT_EVENT, o.u8(12)?),
        36 => record.vrfs = Some((o.u32(4)?, o.u32(0)?)),
        _ => {}
    }
    Some(())
}

/// Which extensions follow the fixed part of a flow, in their order.
///
/// | 2 | octets | id u16 | octets of all u16 | extension u16 | ... | 0 |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtensionMap<'a> {
    pub id: u16,
    octets: Octets<'a>,
}

impl ExtensionMap<'_> {
    pub fn extensions(&self) -> impl Iterator<Item = u16> {
        let octets = self.octets;
        (4..octets.octets.len() / 2).map_while(move |word| octets.u16(word * 2)).take_while(|extension| *extension != 0)
    }
}

/// | 1 or 10 | octets | flags | map u16 | ms of first u16 | ms of last u16 | first u32 | last u32 | forwarding status u8 |
/// | TCP flags u8 | protocol u8 | ToS u8 | source port u16 | destination port u16 | addresses | packets | octets | extensions |
///
/// Type 10 has sixteen flags, of which the upper eight are the NetFlow version, and before the addresses
/// | exporter u16 | reserved u16 |; type 1 has eight, then | exporter u8 |.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MappedFlow<'a> {
    octets: Octets<'a>,
    wide: bool,
}

impl MappedFlow<'_> {
    /// Id of the map.
    pub fn map(&self) -> Option<u16> {
        self.octets.u16(6)
    }

    /// Read by the extensions of its map; `None` where there is no such map.
    pub fn record(&self, extensions: Option<&[u16]>) -> Result<Record, WireError> {
        const READING: &str = "nfdump flow";
        let map = self.map().ok_or_else(|| WireError::truncated(self.octets.octets, &[], READING))?;
        let unmapped = WireError { offset: 6, reading: READING, why: Why::Value(map.into()) };
        let extensions = extensions.ok_or(unmapped)?;
        let mut at = 0;
        self.read(extensions, &mut at).ok_or_else(|| {
            let whole = self.octets.octets;
            WireError::truncated(whole, whole.get(at..).unwrap_or_default(), "nfdump flow extension")
        })
    }

    fn read(&self, extensions: &[u16], at: &mut usize) -> Option<Record> {
        let o = self.octets;
        let flags = if self.wide { o.u16(4)? } else { o.u8(4)?.into() };
        let moment =
            |seconds: usize, millis: usize| Some(u64::from(o.u32(seconds)?) * 1000 + u64::from(o.u16(millis)?));
        let mut record = Record {
            first_ms: moment(12, 8)?,
            last_ms: moment(16, 10)?,
            forwarding_status: o.u8(20)?,
            tcp_flags: o.u8(21)?,
            proto: o.u8(22)?,
            tos: o.u8(23)?,
            src_port: o.u16(24)?,
            dst_port: o.u16(26)?,
            exporter_id: if self.wide { o.u16(28)? } else { o.u8(5)?.into() },
            is_scaled: flags & 0x80 != 0,
            ..Record::default()
        };
        *at = COMMON_OCTETS[usize::from(self.wide)];
        let mut take = |octets: usize| std::mem::replace(at, *at + octets);
        record.addresses = Some(if flags & 1 == 0 {
            let at = take(8);
            (o.v4(at)?, o.v4(at + 4)?)
        } else {
            let at = take(32);
            (Ip::V6(o.v6(at)?), Ip::V6(o.v6(at + 16)?))
        });
        record.packets = if flags & 2 == 0 { o.u32(take(4))?.into() } else { o.u64(take(8))? };
        record.octets = if flags & 4 == 0 { o.u32(take(4))?.into() } else { o.u64(take(8))? };
        let mut out = (0, 0);
        for extension in extensions {
            let Some(octets) = extension_octets(*extension) else { return Some(record) };
            let at = take(octets);
            o.octets.get(at..at + octets)?;
            let words = |at: usize| Some((u32::from(o.u16(at)?), u32::from(o.u16(at + 2)?)));
            match extension {
                4 => record.interfaces = Some(words(at)?),
                5 => record.interfaces = Some((o.u32(at)?, o.u32(at + 4)?)),
                6 => record.autonomous_systems = Some(words(at)?),
                7 => record.autonomous_systems = Some((o.u32(at)?, o.u32(at + 4)?)),
                8 => {
                    record.direction = o.u8(at + 1)?;
                    record.masks = Some((o.u8(at + 2)?, o.u8(at + 3)?));
                }
                9 => record.next_hop = Some(o.v4(at)?),
                10 => record.next_hop = Some(Ip::V6(o.v6(at)?)),
                11 => record.bgp_next_hop = Some(o.v4(at)?),
                12 => record.bgp_next_hop = Some(Ip::V6(o.v6(at)?)),
                13 => record.vlans = Some(words(at)?),
                14 => out.0 = o.u32(at)?.into(),
                15 => out.0 = o.u64(at)?,
                16 => out.1 = o.u32(at)?.into(),
                17 => out.1 = o.u64(at)?,
                20 => (record.in_macs.0, record.out_macs.1) = (Some(o.u64(at)?), Some(o.u64(at + 8)?)),
                21 => (record.in_macs.1, record.out_macs.0) = (Some(o.u64(at)?), Some(o.u64(at + 8)?)),
                22 => record.mpls = Some(o.labels(at)?),
                23 => record.exporter = Some(o.v4(at)?),
                24 => record.exporter = Some(Ip::V6(o.v6(at)?)),
                25 => (record.engine_type, record.engine_id) = (o.u8(at + 2)?, o.u8(at + 3)?),
                27 => record.received_ms = Some(o.u64(at)?).filter(|ms| *ms > 0),
                37 => record.set_event(o.u64(at)?, FIREWALL_EVENT, o.u8(at + 14)?),
                38 => record.nat_ports = Some((o.u16(at)?, o.u16(at + 2)?)),
                39 => record.nat_addresses = Some((o.v4(at)?, o.v4(at + 4)?)),
                40 => record.nat_addresses = Some((Ip::V6(o.v6(at)?), Ip::V6(o.v6(at + 16)?))),
                46 => {
                    record.set_event(0, NAT_EVENT, o.u8(at)?);
                    record.vrfs = Some((o.u32(at + 8)?, o.u32(at + 4)?));
                }
                _ => {}
            }
        }
        record.out = (out != (0, 0)).then_some(out);
        Some(record)
    }
}

/// `None` where the extension is not known: what follows it cannot be found.
fn extension_octets(extension: u16) -> Option<usize> {
    Some(match extension {
        4 | 6 | 8 | 9 | 11 | 13 | 14 | 16 | 18 | 23 | 25 | 38 => 4,
        5 | 7 | 15 | 17 | 19 | 26 | 27 | 39 | 47 | 48 => 8,
        46 => 12,
        10 | 12 | 20 | 21 | 24 => 16,
        37 => 20,
        41 | 42 | 45 => 24,
        40 => 32,
        22 => 40,
        43 => 72,
        _ => return None,
    })
}

/// Octets, and how numbers in them are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Octets<'a> {
    octets: &'a [u8],
    order: Order,
}

impl Octets<'_> {
    fn array<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.octets.get(at..)?.first_chunk().copied()
    }

    fn u8(&self, at: usize) -> Option<u8> {
        self.octets.get(at).copied()
    }

    fn u16(&self, at: usize) -> Option<u16> {
        let octets = self.array(at)?;
        Some(if self.order == Order::Little { u16::from_le_bytes(octets) } else { u16::from_be_bytes(octets) })
    }

    fn u32(&self, at: usize) -> Option<u32> {
        let octets = self.array(at)?;
        Some(if self.order == Order::Little { u32::from_le_bytes(octets) } else { u32::from_be_bytes(octets) })
    }

    fn u64(&self, at: usize) -> Option<u64> {
        let octets = self.array(at)?;
        Some(if self.order == Order::Little { u64::from_le_bytes(octets) } else { u64::from_be_bytes(octets) })
    }

    /// A number of four octets.
    fn v4(&self, at: usize) -> Option<Ip> {
        Some(Ip::V4(self.u32(at)?.to_be_bytes()))
    }

    /// Two numbers of eight octets, the upper half first.
    fn v6(&self, at: usize) -> Option<[u8; 16]> {
        let (upper, lower) = (self.u64(at)?, self.u64(at + 8)?);
        Some((u128::from(upper) << 64 | u128::from(lower)).to_be_bytes())
    }

    fn labels(&self, at: usize) -> Option<[u32; 10]> {
        let mut labels = [0; 10];
        for (index, label) in labels.iter_mut().enumerate() {
            *label = self.u32(at + index * 4)? & 0xff_ffff;
        }
        Some(labels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two exporters' 64 flows each, by nfcapd 1.6.22 and 1.7.1.
    const FILE_1: &[u8] = include_bytes!("../../tests/nfdump/1.6.nfcapd");
    const FILE_2: &[u8] = include_bytes!("../../tests/nfdump/1.7-sampled.nfcapd");

    #[derive(Debug, Default, PartialEq)]
    struct File {
        records: Vec<Record>,
        exporters: Vec<Exporter>,
        samplers: Vec<Sampler>,
        failed: usize,
    }

    /// All of a file whose blocks are not compressed.
    fn read(input: &[u8]) -> Result<File, WireError> {
        let header = file_header(input)?;
        let mut file = File::default();
        let mut maps: Vec<(u16, Vec<u16>)> = Vec::new();
        let mut at = header.octets;
        while at < input.len() && header.appendix_at.is_none_or(|end| (at as u64) < end) {
            let block = block_header(&input[at..], &header)?;
            let body = &input[at + BLOCK_HEADER_OCTETS..];
            let body = body.get(..block.octets).unwrap_or(body);
            at += BLOCK_HEADER_OCTETS + block.octets;
            for entry in Records::new(body, header.order).filter(|_| block.is_records) {
                let record = match entry? {
                    Entry::Flow(flow) => flow.record(),
                    Entry::MappedFlow(flow) => {
                        let map = maps.iter().rev().find(|(id, _)| Some(*id) == flow.map());
                        flow.record(map.map(|(_, extensions)| extensions.as_slice()))
                    }
                    Entry::Map(map) => {
                        maps.push((map.id, map.extensions().collect()));
                        continue;
                    }
                    Entry::Exporter(exporter) => {
                        file.exporters.push(exporter);
                        continue;
                    }
                    Entry::Sampler(sampler) => {
                        file.samplers.push(sampler);
                        continue;
                    }
                    Entry::Other(_) => continue,
                };
                match record {
                    Ok(record) => file.records.push(record),
                    Err(_) => file.failed += 1,
                }
            }
        }
        Ok(file)
    }

    fn v6(text: &str) -> Ip {
        Ip::V6(text.parse::<std::net::Ipv6Addr>().unwrap().octets())
    }

    /// The fifth and sixth flow: IPv6, ends 2 s and more before the export. Both files are of the same datagrams.
    fn expected(record: &Record, factor: u64) {
        assert_eq!(record.addresses, Some((v6("2001:db8::1"), v6("2001:db8:1::9"))));
        assert_eq!((record.octets, record.packets), (100_000 * factor, 100 * factor));
        assert_eq!((record.proto, record.src_port, record.dst_port), (17, 1024, 443));
        assert_eq!((record.tos, record.tcp_flags, record.forwarding_status), (32, 0, 64));
        assert_eq!((record.interfaces, record.direction), (Some((70_000, 3)), 0));
        assert_eq!((record.masks, record.vlans), (Some((24, 23)), Some((100, 200))));
        assert_eq!(record.autonomous_systems, Some((4_200_000_000, 64_500)));
        assert_eq!((record.next_hop, record.bgp_next_hop), (Some(v6("fe80::1")), Some(v6("2001:db8:ffff::1"))));
        assert_eq!(record.in_macs, (Some(0x0200_0000_0100), Some(0x0200_0000_0200)));
        assert_eq!(record.out_macs, (Some(0x0200_0000_0400), Some(0x0200_0000_0300)));
        assert_eq!(record.mpls.map(|labels| labels[..3].to_vec()), Some(vec![1000 << 4 | 1, 2000 << 4, 0]));
        assert_eq!((record.exporter, record.exporter_id, record.engine_id), (Some(Ip::V4([127, 0, 0, 5])), 1, 77));
        assert_eq!(record.last_ms - record.first_ms, 58_000);
        assert!(record.received_ms.is_some_and(|ms| (2_000..10_000).contains(&(ms - record.last_ms))));
        assert_eq!(record.is_scaled, factor > 1);
    }

    #[test]
    fn both_layouts_give_every_field() {
        for (input, factor) in [(FILE_1, 1), (FILE_2, 100)] {
            let file = read(input).unwrap();
            assert_eq!((file.records.len(), file.failed), (64, 0));
            expected(&file.records[4], factor);
            let first = file.records[0].addresses;
            assert_eq!(first, Some((Ip::V4([10, 0, 0, 1]), Ip::V4([192, 0, 2, 1]))));
            assert_eq!(file.records[0].next_hop, Some(Ip::V4([198, 51, 100, 1])));
            assert_eq!(file.records[3].octets, (400_000 + (1 << 33)) * factor);
            assert_eq!(file.exporters.len(), 2);
            let second = Exporter { id: 2, version: 9, address: Ip::V4([127, 0, 0, 6]), domain: 5 };
            assert_eq!(file.exporters[1], second);
            assert_eq!((file.records[32].exporter_id, file.records[32].engine_id), (2, 5));
        }
        let samplers = read(FILE_2).unwrap().samplers;
        assert_eq!(samplers[0], Sampler { exporter: 1, id: -2, interval: 100 });
        assert_eq!(read(FILE_1).unwrap().samplers[0].exporter, 2);
    }

    #[test]
    fn the_other_byte_order_is_told_by_the_magic() {
        let mut file = vec![0xa5, 0x0c, 0, 2];
        file.resize(HEADER_2_OCTETS, 0);
        let element =
            |kind: u16, body: &[u8]| [&kind.to_be_bytes(), &(4 + body.len() as u16).to_be_bytes(), body].concat();
        let mut generic = Vec::new();
        for word in [1_000u64, 2_000, 3_000, 4, 5] {
            generic.extend(word.to_be_bytes());
        }
        generic.extend([0, 53, 0xd4, 0x31, 17, 0, 0, 8]);
        let elements = [element(1, &generic), element(2, &[192, 0, 2, 1, 192, 0, 2, 2])].concat();
        let exporter = [&[0, 7, 0, 32, 0, 0, 0, 9][..], &[0; 12], &[192, 0, 2, 9], &[0, 2, 0, 3, 0, 0, 1, 0]].concat();
        let flow = [&[0, 11, 0, 12 + elements.len() as u8, 0, 2, 0, 0, 0, 3, 0, 9], elements.as_slice()].concat();
        let body = [exporter, flow].concat();
        file.extend([0, 0, 0, 2, 0, 0, 0, body.len() as u8, 0, 3, 0, 0]);
        file.extend(body);
        let read = read(&file).unwrap();
        let record = read.records[0];
        assert_eq!((record.first_ms, record.last_ms, record.received_ms), (1_000, 2_000, Some(3_000)));
        assert_eq!((record.packets, record.octets, record.src_port, record.dst_port), (4, 5, 53, 54_321));
        assert_eq!(record.addresses, Some((Ip::V4([192, 0, 2, 1]), Ip::V4([192, 0, 2, 2]))));
        let known = Exporter { id: 3, version: 9, address: Ip::V4([192, 0, 2, 9]), domain: 256 };
        assert_eq!((record.exporter_id, read.exporters), (3, vec![known]));
    }

    #[test]
    fn a_file_cut_anywhere_gives_a_prefix_of_its_records() {
        for file in [FILE_1, FILE_2] {
            let whole = read(file).unwrap().records;
            for end in (0..file.len()).step_by(5) {
                let Ok(header) = file_header(&file[..end]) else { continue };
                let body = file.get(header.octets + BLOCK_HEADER_OCTETS..end).unwrap_or_default();
                let flows = Records::new(body, header.order).map_while(Result::ok).filter_map(|entry| match entry {
                    Entry::Flow(flow) => flow.record().ok(),
                    _ => None,
                });
                let flows: Vec<Record> = flows.collect();
                assert!(header.layout == 1 || flows == whole[..flows.len()], "{end}");
                let _ = read(&file[..end]);
            }
        }
    }

    #[test]
    fn any_octet_may_be_wrong() {
        let mut seed = 1u64;
        let mut random = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) as usize
        };
        let mut understood = 0;
        for file in [FILE_1, FILE_2] {
            for _ in 0..2_000 {
                let mut file = file.to_vec();
                for _ in 0..1 + random() % 6 {
                    let at = random() % file.len();
                    file[at] = [0, 0xff, random() as u8][random() % 3];
                }
                understood += read(&file).map_or(0, |file| file.records.len());
            }
        }
        assert!(understood > 0);
    }

    #[test]
    fn what_a_length_says_is_not_believed() {
        let header = FileHeader {
            order: Order::Little,
            layout: 2,
            compression: Compression::None,
            encrypted: false,
            appendix_at: None,
            octets: HEADER_2_OCTETS,
        };
        let block = [1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 3, 0, 0, 0];
        assert_eq!(block_header(&block, &header).unwrap_err().why, Why::Length(u32::MAX));
        for record in [[11, 0, 0, 0], [11, 0, 3, 0], [11, 0, 255, 255]] {
            let entries: Vec<_> = Records::new(&record, Order::Little).collect();
            assert!(entries.len() == 1 && entries[0].is_err(), "{entries:?}");
        }
        assert!(file_header(&[0x0c, 0xa5, 3, 0]).is_err_and(|error| error.why == Why::Value(3)));
        assert!(file_header(b"0123456789").is_err());
    }
}
