//! UDP datagrams in capture files: pcap (draft-ietf-opsawg-pcap), pcapng
//! (draft-ietf-opsawg-pcapng), IPFIX files (RFC 5655), files of nfdump, and bare
//! payloads.
//!
//! A capture that ends in the middle of a packet gives what came before.

use std::collections::HashMap;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, bail};

use super::nfdump;
use super::octets::Octets;

/// One UDP payload. A destination port of 0 is unknown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    pub time_ns: i64,
    pub src: SocketAddr,
    pub dst: SocketAddr,
    pub payload: Vec<u8>,
}

const BLOCK_OCTETS_MAX: usize = 16 << 20;
const FRAGMENTED_MAX: usize = 256;

enum Format {
    Pcap {
        big_endian: bool,
        nanoseconds: bool,
        link_type: u32,
    },
    PcapNg {
        big_endian: bool,
        interfaces: Vec<Interface>,
    },
    Nfdump(Box<nfdump::Reader>),
    /// Payloads that are yet to be given.
    Bare(std::vec::IntoIter<Vec<u8>>),
}

#[derive(Clone, Copy)]
struct Interface {
    link_type: u32,
    /// Timestamp units a second.
    resolution: u64,
}

/// A capture that is being read.
pub struct Capture {
    input: Box<dyn Read>,
    position: Arc<AtomicU64>,
    length: u64,
    format: Format,
    fragments: Fragments,
    skipped: u64,
}

impl Capture {
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let Octets { input, position, length } = Octets::open(path)?;
        Self::read(input, position, length)
    }

    fn read(mut input: Box<dyn Read>, position: Arc<AtomicU64>, length: u64) -> anyhow::Result<Self> {
        let mut magic = [0; 4];
        let have = read_upto(&mut input, &mut magic)?;
        if have == 0 {
            bail!("the file is empty");
        }
        let pcap = |big_endian, nanoseconds| (big_endian, nanoseconds);
        let kind = match magic {
            [0xa1, 0xb2, 0xc3, 0xd4] => Some(pcap(true, false)),
            [0xd4, 0xc3, 0xb2, 0xa1] => Some(pcap(false, false)),
            [0xa1, 0xb2, 0x3c, 0x4d] => Some(pcap(true, true)),
            [0x4d, 0x3c, 0xb2, 0xa1] => Some(pcap(false, true)),
            _ => None,
        };
        let format = if let Some((big_endian, nanoseconds)) = kind {
            let mut rest = [0; 20];
            input.read_exact(&mut rest).context("the pcap header is cut off")?;
            // The upper bits tell of frame check sequences.
            let link_type = u32_at(&rest, 16, big_endian) & 0x0fff_ffff;
            Format::Pcap { big_endian, nanoseconds, link_type }
        } else if magic == [0x0a, 0x0d, 0x0d, 0x0a] {
            let mut rest = [0; 8];
            input.read_exact(&mut rest).context("the pcapng section header is cut off")?;
            let big_endian = rest[4..] == [0x1a, 0x2b, 0x3c, 0x4d];
            skip_section(&mut input, &rest, big_endian)?;
            Format::PcapNg { big_endian, interfaces: Vec::new() }
        } else if benocs_wire::nfdump::is_nfdump(&magic[..have]) {
            Format::Nfdump(Box::new(nfdump::Reader::open(&mut input, &magic[..have])?))
        } else {
            let mut octets = magic[..have].to_vec();
            input.by_ref().take(BLOCK_OCTETS_MAX as u64).read_to_end(&mut octets)?;
            let payloads = ipfix_messages(&octets).unwrap_or_else(|| vec![octets]);
            if let Some(long) = payloads.iter().find(|payload| payload.len() > 65_507) {
                bail!("neither a capture nor a datagram: {} octets without a known beginning", long.len());
            }
            Format::Bare(payloads.into_iter())
        };
        Ok(Self { input, position, length, format, fragments: Fragments::default(), skipped: 0 })
    }

    /// Octets of the file, and how many of them are read.
    pub fn length(&self) -> u64 {
        self.length
    }

    pub fn position(&self) -> u64 {
        self.position.load(Ordering::Relaxed)
    }

    /// Packets so far that gave no datagram, or flows that could not be read.
    pub fn skipped(&self) -> u64 {
        match &self.format {
            Format::Nfdump(reader) => reader.skipped(),
            _ => self.skipped,
        }
    }

    /// False for bare payloads: their datagrams have all the same source, and no time.
    pub fn names_sources(&self) -> bool {
        !matches!(self.format, Format::Bare(_))
    }

    pub fn next_datagram(&mut self) -> anyhow::Result<Option<Datagram>> {
        if let Format::Bare(payloads) = &mut self.format {
            let dst = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
            return Ok(payloads.next().map(|payload| Datagram { time_ns: 0, src: super::NO_SOURCE, dst, payload }));
        }
        if let Format::Nfdump(reader) = &mut self.format {
            return reader.next_datagram(&mut self.input);
        }
        while let Some((time_ns, link_type, frame)) = self.next_frame()? {
            match network_layer(link_type, &frame).and_then(|packet| self.fragments.datagram(packet)) {
                Some((src, dst, payload)) => return Ok(Some(Datagram { time_ns, src, dst, payload })),
                None => self.skipped += 1,
            }
        }
        Ok(None)
    }

    fn next_frame(&mut self) -> anyhow::Result<Option<(i64, u32, Vec<u8>)>> {
        match &mut self.format {
            Format::Bare(_) | Format::Nfdump(_) => Ok(None),
            &mut Format::Pcap { big_endian, nanoseconds, link_type } => {
                let mut header = [0; 16];
                if read_upto(&mut self.input, &mut header)? < header.len() {
                    return Ok(None);
                }
                let field = |offset| u32_at(&header, offset, big_endian);
                let captured = field(8) as usize;
                if captured > BLOCK_OCTETS_MAX {
                    bail!("a packet of {captured} octets: the file is damaged");
                }
                let fraction = i64::from(field(4)) * if nanoseconds { 1 } else { 1000 };
                let time_ns = i64::from(field(0)) * 1_000_000_000 + fraction;
                let mut frame = vec![0; captured];
                if read_upto(&mut self.input, &mut frame)? < captured {
                    return Ok(None);
                }
                Ok(Some((time_ns, link_type, frame)))
            }
            Format::PcapNg { big_endian, interfaces } => loop {
                let mut header = [0; 8];
                if read_upto(&mut self.input, &mut header)? < header.len() {
                    return Ok(None);
                }
                if header[..4] == [0x0a, 0x0d, 0x0d, 0x0a] {
                    let mut order = [0; 4];
                    self.input.read_exact(&mut order).context("a pcapng section header is cut off")?;
                    *big_endian = order == [0x1a, 0x2b, 0x3c, 0x4d];
                    interfaces.clear();
                    let rest = [header[4], header[5], header[6], header[7], order[0], order[1], order[2], order[3]];
                    skip_section(&mut self.input, &rest, *big_endian)?;
                    continue;
                }
                let kind = u32_at(&header, 0, *big_endian);
                let length = u32_at(&header, 4, *big_endian) as usize;
                if !(12..=BLOCK_OCTETS_MAX).contains(&length) {
                    bail!("a pcapng block of {length} octets: the file is damaged");
                }
                let mut body = vec![0; length - 8];
                if read_upto(&mut self.input, &mut body)? < body.len() {
                    return Ok(None);
                }
                body.truncate(length - 12);
                match kind {
                    1 if body.len() >= 8 => interfaces.push(Interface {
                        link_type: u32::from(u16_at(&body, 0, *big_endian)),
                        resolution: resolution(&body[8..], *big_endian),
                    }),
                    // Enhanced packet, and the obsolete packet block.
                    2 | 6 if body.len() >= 20 => {
                        let index = if kind == 6 {
                            u32_at(&body, 0, *big_endian) as usize
                        } else {
                            usize::from(u16_at(&body, 0, *big_endian))
                        };
                        let Some(interface) = interfaces.get(index) else { continue };
                        let ticks =
                            u64::from(u32_at(&body, 4, *big_endian)) << 32 | u64::from(u32_at(&body, 8, *big_endian));
                        let time_ns = u128::from(ticks) * 1_000_000_000 / u128::from(interface.resolution);
                        let captured = (u32_at(&body, 12, *big_endian) as usize).min(body.len() - 20);
                        return Ok(Some((time_ns as i64, interface.link_type, body[20..20 + captured].to_vec())));
                    }
                    // Simple packet: no time.
                    3 if body.len() >= 4 => {
                        let Some(interface) = interfaces.first() else { continue };
                        let captured = (u32_at(&body, 0, *big_endian) as usize).min(body.len() - 4);
                        return Ok(Some((0, interface.link_type, body[4..4 + captured].to_vec())));
                    }
                    _ => {}
                }
            },
        }
    }
}

/// Reads until `buffer` is full or the input ends.
pub(super) fn read_upto(input: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut have = 0;
    while have < buffer.len() {
        match input.read(&mut buffer[have..]) {
            Ok(0) => break,
            Ok(read) => have += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // A compressed file that is cut off.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
            Err(error) => return Err(error),
        }
    }
    Ok(have)
}

fn u16_at(octets: &[u8], offset: usize, big_endian: bool) -> u16 {
    let pair = [octets[offset], octets[offset + 1]];
    if big_endian { u16::from_be_bytes(pair) } else { u16::from_le_bytes(pair) }
}

fn u32_at(octets: &[u8], offset: usize, big_endian: bool) -> u32 {
    let four = [octets[offset], octets[offset + 1], octets[offset + 2], octets[offset + 3]];
    if big_endian { u32::from_be_bytes(four) } else { u32::from_le_bytes(four) }
}

/// `seen` is the block's length and its byte-order magic.
fn skip_section(input: &mut dyn Read, seen: &[u8; 8], big_endian: bool) -> anyhow::Result<()> {
    let length = u32_at(seen, 0, big_endian) as usize;
    if !(28..=BLOCK_OCTETS_MAX).contains(&length) {
        bail!("a pcapng section header of {length} octets: the file is damaged");
    }
    io::copy(&mut input.take(length as u64 - 12), &mut io::sink())?;
    Ok(())
}

/// Option 9, if_tsresol: a power of ten, or of two if the top bit is set; a million where it is missing.
fn resolution(mut options: &[u8], big_endian: bool) -> u64 {
    while options.len() >= 4 {
        let (code, length) = (u16_at(options, 0, big_endian), usize::from(u16_at(options, 2, big_endian)));
        if code == 0 || options.len() < 4 + length {
            break;
        }
        if code == 9 && length == 1 {
            let exponent = u32::from(options[4] & 0x7f);
            let base: u64 = if options[4] & 0x80 == 0 { 10 } else { 2 };
            return base.checked_pow(exponent).unwrap_or(1_000_000).max(1);
        }
        let padded = 4 + length.next_multiple_of(4);
        if padded > options.len() {
            break;
        }
        options = &options[padded..];
    }
    1_000_000
}

/// Messages of an IPFIX file, if it is one from beginning to end.
fn ipfix_messages(mut octets: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut messages = Vec::new();
    while !octets.is_empty() {
        let header = octets.get(..16)?;
        let length = usize::from(u16_at(header, 2, true));
        if u16_at(header, 0, true) != 10 || length < 16 {
            return None;
        }
        messages.push(octets.get(..length)?.to_vec());
        octets = &octets[length..];
    }
    Some(messages)
}

/// The IP packet in a frame.
fn network_layer(link_type: u32, frame: &[u8]) -> Option<&[u8]> {
    match link_type {
        // BSD loopback: the family in either byte order; the packet's version says the same.
        0 | 108 => frame.get(4..),
        1 => ethernet(frame.get(14..)?, u16_at(frame, 12, true)),
        12 | 14 | 101 | 228 | 229 => Some(frame),
        // Linux cooked, versions 1 and 2.
        113 => ethernet(frame.get(16..)?, u16_at(frame, 14, true)),
        276 => ethernet(frame.get(20..)?, u16_at(frame, 0, true)),
        _ => None,
    }
}

fn ethernet(mut payload: &[u8], mut ether_type: u16) -> Option<&[u8]> {
    loop {
        match ether_type {
            0x0800 | 0x86dd => return Some(payload),
            0x8100 | 0x88a8 | 0x9100 => {
                ether_type = u16_at(payload.get(..4)?, 2, true);
                payload = &payload[4..];
            }
            0x8847 | 0x8848 => loop {
                let label = payload.get(..4)?;
                payload = &payload[4..];
                if label[2] & 1 == 1 {
                    return Some(payload);
                }
            },
            0x8864 => {
                // PPPoE: six octets, then the protocol of PPP.
                let protocol = u16_at(payload.get(..8)?, 6, true);
                return matches!(protocol, 0x0021 | 0x0057).then(|| &payload[8..]);
            }
            _ => return None,
        }
    }
}

#[derive(PartialEq, Eq, Hash, Clone, Copy)]
struct FragmentKey {
    src: IpAddr,
    dst: IpAddr,
    id: u32,
}

#[derive(Default)]
struct Pieces {
    pieces: Vec<(usize, Vec<u8>)>,
    length: Option<usize>,
    age: u64,
}

/// Datagrams that came in fragments, and are not yet whole.
#[derive(Default)]
struct Fragments {
    waiting: HashMap<FragmentKey, Pieces>,
    clock: u64,
}

impl Fragments {
    /// The UDP datagram of a packet, if it is one, and whole.
    fn datagram(&mut self, packet: &[u8]) -> Option<(SocketAddr, SocketAddr, Vec<u8>)> {
        let (src, dst, fragment, transport) = match packet.first()? >> 4 {
            4 => ipv4(packet)?,
            6 => ipv6(packet)?,
            _ => return None,
        };
        match fragment {
            None => udp(src, dst, transport),
            Some((id, offset, more)) => {
                let whole = self.add(FragmentKey { src, dst, id }, offset, more, transport)?;
                udp(src, dst, &whole)
            }
        }
    }

    fn add(&mut self, key: FragmentKey, offset: usize, more: bool, octets: &[u8]) -> Option<Vec<u8>> {
        self.clock += 1;
        if self.waiting.len() >= FRAGMENTED_MAX && !self.waiting.contains_key(&key) {
            let oldest = self.waiting.iter().min_by_key(|(_, pieces)| pieces.age).map(|(key, _)| *key)?;
            self.waiting.remove(&oldest);
        }
        let clock = self.clock;
        let pieces = self.waiting.entry(key).or_default();
        pieces.age = clock;
        pieces.pieces.push((offset, octets.to_vec()));
        if !more {
            pieces.length = Some(offset + octets.len());
        }
        let length = pieces.length?;
        pieces.pieces.sort_by_key(|piece| piece.0);
        let mut whole = Vec::with_capacity(length);
        for (offset, octets) in &pieces.pieces {
            match whole.len().checked_sub(*offset) {
                Some(overlap) if overlap < octets.len() => whole.extend_from_slice(&octets[overlap..]),
                Some(_) => {}
                None => return None,
            }
        }
        if whole.len() < length {
            return None;
        }
        self.waiting.remove(&key);
        Some(whole)
    }
}

type Fragment = Option<(u32, usize, bool)>;

/// RFC 791; the fragment is (identification, offset, more).
fn ipv4(packet: &[u8]) -> Option<(IpAddr, IpAddr, Fragment, &[u8])> {
    let header = packet.get(..20)?;
    let header_octets = usize::from(header[0] & 0x0f) * 4;
    if header_octets < 20 || header[9] != 17 {
        return None;
    }
    // A total length of 0 is left by segmentation offload.
    let total = match usize::from(u16_at(header, 2, true)) {
        0 => packet.len(),
        total => total.min(packet.len()),
    };
    let src = Ipv4Addr::new(header[12], header[13], header[14], header[15]);
    let dst = Ipv4Addr::new(header[16], header[17], header[18], header[19]);
    let word = u16_at(header, 6, true);
    let (offset, more) = (usize::from(word & 0x1fff) * 8, word & 0x2000 != 0);
    let fragment = (offset > 0 || more).then(|| (u32::from(u16_at(header, 4, true)), offset, more));
    Some((src.into(), dst.into(), fragment, packet.get(header_octets..total)?))
}

/// RFC 8200.
fn ipv6(packet: &[u8]) -> Option<(IpAddr, IpAddr, Fragment, &[u8])> {
    let header = packet.get(..40)?;
    let address = |offset: usize| {
        let mut octets = [0; 16];
        octets.copy_from_slice(&header[offset..offset + 16]);
        IpAddr::V6(Ipv6Addr::from(octets))
    };
    let (src, dst) = (address(8), address(24));
    let end = match usize::from(u16_at(header, 4, true)) {
        0 => packet.len(),
        length => (40 + length).min(packet.len()),
    };
    let mut rest = &packet[40..end];
    let mut next = header[6];
    let mut fragment = None;
    loop {
        match next {
            17 => return Some((src, dst, fragment, rest)),
            0 | 43 | 60 => {
                next = *rest.first()?;
                let octets = 8 + usize::from(*rest.get(1)?) * 8;
                rest = rest.get(octets..)?;
            }
            44 => {
                let head = rest.get(..8)?;
                let word = u16_at(head, 2, true);
                next = head[0];
                fragment = Some((u32_at(head, 4, true), usize::from(word & 0xfff8), word & 1 != 0));
                rest = &rest[8..];
                if word & 0xfff8 != 0 && next == 17 {
                    return Some((src, dst, fragment, rest));
                }
            }
            _ => return None,
        }
    }
}

/// RFC 768.
fn udp(src: IpAddr, dst: IpAddr, transport: &[u8]) -> Option<(SocketAddr, SocketAddr, Vec<u8>)> {
    let header = transport.get(..8)?;
    let end = match usize::from(u16_at(header, 4, true)) {
        0 => transport.len(),
        length => length.clamp(8, transport.len()),
    };
    let src = SocketAddr::new(src, u16_at(header, 0, true));
    let dst = SocketAddr::new(dst, u16_at(header, 2, true));
    Some((src, dst, transport[8..end].to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(octets: Vec<u8>) -> anyhow::Result<Vec<Datagram>> {
        let input = crate::replay::octets::decompressed(io::BufReader::new(io::Cursor::new(octets)))?;
        let mut capture = Capture::read(input, Arc::default(), 0)?;
        let mut all = Vec::new();
        while let Some(datagram) = capture.next_datagram()? {
            all.push(datagram);
        }
        Ok(all)
    }

    fn udp_packet(payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, (28 + payload.len()) as u8, 0, 7, 0, 0, 64, 17, 0, 0];
        packet.extend([192, 0, 2, 1, 192, 0, 2, 2, 0x10, 0, 8, 7, 0, (8 + payload.len()) as u8, 0, 0]);
        packet.extend(payload);
        packet
    }

    fn pcap(link_type: u32, frames: &[Vec<u8>]) -> Vec<u8> {
        let mut file = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0];
        file.extend(link_type.to_le_bytes());
        for (index, frame) in frames.iter().enumerate() {
            for word in [index as u32, 5, frame.len() as u32, frame.len() as u32] {
                file.extend(word.to_le_bytes());
            }
            file.extend(frame);
        }
        file
    }

    fn on_ethernet(tags: &[u8], packet: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend(tags);
        frame.extend([8, 0]);
        frame.extend(packet);
        frame
    }

    #[test]
    fn every_link_type_gives_the_datagram() {
        let packet = udp_packet(b"flow");
        let frames = [
            (1, on_ethernet(&[], &packet)),
            (1, on_ethernet(&[0x81, 0, 0, 5, 0x88, 0xa8, 0, 6], &packet)),
            (101, packet.clone()),
            (0, [&[2, 0, 0, 0], packet.as_slice()].concat()),
            (113, [&[0; 14][..], &[8, 0], &packet].concat()),
            (276, [&[8, 0][..], &[0; 18], &packet].concat()),
        ];
        for (link_type, frame) in frames {
            let datagrams = of(pcap(link_type, &[frame])).unwrap();
            assert_eq!(datagrams.len(), 1, "link type {link_type}");
            assert_eq!(datagrams[0].payload, b"flow");
            assert_eq!(datagrams[0].src, "192.0.2.1:4096".parse().unwrap());
            assert_eq!(datagrams[0].dst, "192.0.2.2:2055".parse().unwrap());
        }
    }

    #[test]
    fn fragments_are_put_together_in_any_order() {
        let mut first = udp_packet(b"0123456789abcdef");
        first[5] = 9;
        let second_octets = first.split_off(36);
        first[3] = 36;
        first[6] = 0x20;
        let mut second = first[..20].to_vec();
        second[3] = 28;
        second[6] = 0;
        second[7] = 2;
        second.extend(second_octets);
        let datagrams = of(pcap(101, &[second, first])).unwrap();
        assert_eq!(datagrams.len(), 1);
        assert_eq!(datagrams[0].payload, b"0123456789abcdef");
    }

    #[test]
    fn a_capture_cut_anywhere_gives_a_prefix_of_its_datagrams() {
        let file = pcap(101, &[udp_packet(b"one"), udp_packet(b"two")]);
        let whole = of(file.clone()).unwrap();
        assert_eq!(whole.len(), 2);
        for end in 24..file.len() {
            let some = of(file[..end].to_vec()).unwrap();
            assert_eq!(some, whole[..some.len()]);
            assert!(some.len() < 2);
        }
    }

    #[test]
    fn compressed_captures_and_bare_payloads_are_read() {
        use std::io::Write as _;
        let file = pcap(101, &[udp_packet(b"one")]);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&file).unwrap();
        assert_eq!(of(gzip.finish().unwrap()).unwrap().len(), 1);
        assert_eq!(of(zstd::encode_all(file.as_slice(), 1).unwrap()).unwrap().len(), 1);
        let bare = of(vec![0, 9, 0, 0, 1]).unwrap();
        assert_eq!(bare[0].payload, [0, 9, 0, 0, 1]);
        let message = [0, 10, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(of([message, message].concat()).unwrap().len(), 2);
        assert!(of(Vec::new()).is_err());
    }
}
