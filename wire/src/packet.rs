//! A sampled packet: Ethernet (802.1Q, 802.1ad), MPLS (RFC 3032), IPv4 (RFC 791),
//! IPv6 (RFC 8200) with its extension headers, transport ports, and what a
//! tunnel carries: IP in IP (RFC 2003, 2473, 4213), GRE (RFC 2784, 2890),
//! VXLAN (RFC 7348), Geneve (RFC 8926), GTP-U (TS 29.281), SRv6 (RFC 8754),
//! EtherIP (RFC 3378), MPLS pseudowires (RFC 4385, 4448).
//!
//! A header that ends early gives what was there, and says so.

/// Addresses of sixteen octets, IPv4 mapped into IPv6.
pub type Octets16 = [u8; 16];

/// Headers within headers that are looked into.
const DEPTH_MAX: usize = 8;
const VLAN_TAGS_MAX: usize = 4;
const LABELS_MAX: usize = 16;
const EXTENSIONS_MAX: usize = 8;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packet {
    /// Of the outermost frame, behind its VLAN tags; 0 where there was no layer 2.
    pub ether_type: u16,
    pub mac: Option<Macs>,
    /// Outer VLAN tag, and the next inner one.
    pub vlan: Option<u16>,
    pub inner_vlan: Option<u16>,
    pub labels: [u32; 4],
    /// How many of `labels` are there.
    pub label_count: usize,
    pub outer: Option<Ip>,
    /// The innermost IP header, where a tunnel carries one.
    pub inner: Option<Ip>,
    pub tunnel: Option<Carrier>,
    /// VNI, GRE key, TEID.
    pub tunnel_id: Option<u32>,
    /// A header ended before what it announced.
    pub truncated: bool,
    /// Octets before the first IP header.
    pub layer3_at: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Macs {
    pub src: u64,
    pub dst: u64,
}

/// How an inner packet was carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    IpInIp,
    Gre,
    Vxlan,
    GtpU,
    Srv6,
    Mpls,
    Geneve,
    EtherIp,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ip {
    pub v6: bool,
    pub src: Octets16,
    pub dst: Octets16,
    pub proto: u8,
    pub tos: u8,
    pub ttl: u8,
    /// Of the IP packet with its header, as it says itself.
    pub length: u32,
    pub flow_label: Option<u32>,
    pub id: Option<u32>,
    /// In units of eight octets; the first fragment has 0.
    pub fragment_offset: Option<u16>,
    pub ports: Option<(u16, u16)>,
    pub tcp_flags: Option<u16>,
    /// type * 256 + code.
    pub icmp: Option<u16>,
}

/// From an Ethernet header on.
pub fn ethernet(header: &[u8]) -> Packet {
    let mut walk = Walk::new(header);
    walk.ethernet(header, 0);
    walk.packet
}

/// From an IP header on; the version is in its first four bits.
pub fn ip(header: &[u8]) -> Packet {
    let mut walk = Walk::new(header);
    walk.ip(header, 0);
    walk.packet
}

/// From an MPLS label stack on.
pub fn mpls(header: &[u8]) -> Packet {
    let mut walk = Walk::new(header);
    walk.mpls(header, 0);
    walk.packet
}

struct Walk {
    packet: Packet,
    start: usize,
}

fn u16_at(input: &[u8], at: usize) -> Option<u16> {
    input.get(at..)?.first_chunk().map(|octets| u16::from_be_bytes(*octets))
}

fn u32_at(input: &[u8], at: usize) -> Option<u32> {
    input.get(at..)?.first_chunk().map(|octets| u32::from_be_bytes(*octets))
}

fn mac_at(input: &[u8], at: usize) -> Option<u64> {
    Some(u64::from(u16_at(input, at)?) << 32 | u64::from(u32_at(input, at + 2)?))
}

fn v4_at(input: &[u8], at: usize) -> Option<Octets16> {
    let mut address = [0; 16];
    address[10..12].fill(0xff);
    address[12..].copy_from_slice(input.get(at..at + 4)?);
    Some(address)
}

impl Walk {
    fn new(header: &[u8]) -> Self {
        Self { packet: Packet::default(), start: header.len() }
    }

    /// What could not be read was cut off.
    fn reach(&mut self, found: Option<()>) {
        self.packet.truncated |= found.is_none();
    }

    fn ethernet(&mut self, input: &[u8], depth: usize) {
        let found = self.try_ethernet(input, depth);
        self.reach(found);
    }

    fn try_ethernet(&mut self, input: &[u8], depth: usize) -> Option<()> {
        let outermost = self.packet.mac.is_none() && self.packet.outer.is_none() && self.packet.label_count == 0;
        let macs = Macs { dst: mac_at(input, 0)?, src: mac_at(input, 6)? };
        if outermost {
            self.packet.mac = Some(macs);
        }
        let mut at = 12;
        let mut kind = u16_at(input, at)?;
        for tag in 0..VLAN_TAGS_MAX {
            // IEEE 802.1Q, 802.1ad, and what was used before 802.1ad.
            if !matches!(kind, 0x8100 | 0x88a8 | 0x9100 | 0x9200 | 0x9300) {
                break;
            }
            let vlan = u16_at(input, at + 2)? & 0x0fff;
            if outermost {
                match tag {
                    0 => self.packet.vlan = Some(vlan),
                    1 => self.packet.inner_vlan = Some(vlan),
                    _ => {}
                }
            }
            at += 4;
            kind = u16_at(input, at)?;
        }
        // IEEE 802.3 length with LLC and SNAP; RFC 1042.
        if kind < 0x0600 && input.get(at + 2..at + 8) == Some(&[0xaa, 0xaa, 3, 0, 0, 0]) {
            at += 8;
            kind = u16_at(input, at)?;
        }
        if outermost {
            self.packet.ether_type = kind;
        }
        self.carried(kind, input.get(at + 2..)?, depth);
        Some(())
    }

    fn carried(&mut self, ether_type: u16, input: &[u8], depth: usize) {
        if depth >= DEPTH_MAX {
            return;
        }
        match ether_type {
            0x0800 | 0x86dd => self.ip(input, depth),
            0x8847 | 0x8848 => self.mpls(input, depth),
            // PPPoE session (RFC 2516): six octets, then a PPP protocol.
            0x8864 => match u16_at(input, 6) {
                Some(0x0021 | 0x0057) => self.ip(&input[8..], depth + 1),
                Some(_) => {}
                None => self.packet.truncated = true,
            },
            0x6558 => self.ethernet(input, depth + 1),
            _ => {}
        }
    }

    fn mpls(&mut self, input: &[u8], depth: usize) {
        let found = self.try_mpls(input, depth);
        self.reach(found);
    }

    fn try_mpls(&mut self, input: &[u8], depth: usize) -> Option<()> {
        let outermost = self.packet.label_count == 0 && self.packet.outer.is_none();
        for entry in 0..LABELS_MAX {
            let word = u32_at(input, entry * 4)?;
            if outermost && entry < 4 {
                self.packet.labels[entry] = word >> 12;
                self.packet.label_count = entry + 1;
            }
            // RFC 3032 2.1: bottom of stack.
            if word & 0x100 != 0 {
                let payload = &input[entry * 4 + 4..];
                // RFC 4928: what follows is told by its first four bits.
                match payload.first()? >> 4 {
                    4 | 6 => self.ip(payload, depth + 1),
                    // RFC 4385: a control word, then the frame of a pseudowire.
                    0 => {
                        self.carry(Carrier::Mpls, None);
                        self.ethernet(payload.get(4..)?, depth + 1);
                    }
                    _ => {
                        self.carry(Carrier::Mpls, None);
                        self.ethernet(payload, depth + 1);
                    }
                }
                return Some(());
            }
        }
        Some(())
    }

    fn carry(&mut self, carrier: Carrier, id: Option<u32>) {
        if self.packet.tunnel.is_none() {
            self.packet.tunnel = Some(carrier);
            self.packet.tunnel_id = id;
        }
    }

    fn ip(&mut self, input: &[u8], depth: usize) {
        if depth >= DEPTH_MAX {
            return;
        }
        let at = self.start - input.len();
        let parsed = match input.first().map(|octet| octet >> 4) {
            Some(4) => v4(input),
            Some(6) => v6(input),
            Some(_) => return,
            None => None,
        };
        let Some((mut ip, payload, mut carrier)) = parsed else {
            self.packet.truncated = true;
            return;
        };
        let fragment = ip.fragment_offset.is_some_and(|offset| offset != 0);
        let complete = fragment || transport(&mut ip, payload).is_some();
        if self.packet.outer.is_none() {
            self.packet.layer3_at = at;
            self.packet.outer = Some(ip);
            if self.packet.ether_type == 0 {
                self.packet.ether_type = if ip.v6 { 0x86dd } else { 0x0800 };
            }
        } else {
            self.packet.inner = Some(ip);
        }
        if !complete {
            self.packet.truncated = true;
        }
        if fragment || payload.is_empty() {
            return;
        }
        match ip.proto {
            4 | 41 => {
                self.carry(carrier.take().unwrap_or(Carrier::IpInIp), None);
                self.ip(payload, depth + 1);
            }
            47 => {
                let found = self.gre(payload, depth + 1);
                self.reach(found);
            }
            // RFC 3378: version and reserved bits, then a frame.
            97 => {
                self.carry(Carrier::EtherIp, None);
                self.ethernet(payload.get(2..).unwrap_or_default(), depth + 1);
            }
            // RFC 4023.
            137 => {
                self.carry(Carrier::Mpls, None);
                self.mpls(payload, depth + 1);
            }
            // RFC 8986 9: Ethernet as next header.
            143 => {
                self.carry(carrier.take().unwrap_or(Carrier::EtherIp), None);
                self.ethernet(payload, depth + 1);
            }
            17 => {
                if let (Some((_, port)), Some(datagram)) = (ip.ports, payload.get(8..)) {
                    let found = self.udp_tunnel(port, datagram, depth + 1);
                    self.reach(found);
                }
            }
            _ => {}
        }
    }

    /// RFC 2784, with key and sequence of RFC 2890.
    fn gre(&mut self, input: &[u8], depth: usize) -> Option<()> {
        let (flags, kind) = (u16_at(input, 0)?, u16_at(input, 2)?);
        if flags & 0x0007 != 0 {
            // RFC 2637: PPTP's version 1 carries PPP.
            self.carry(Carrier::Gre, None);
            return Some(());
        }
        let mut at = 4;
        if flags & 0xc000 != 0 {
            at += 4;
        }
        let mut key = None;
        if flags & 0x2000 != 0 {
            key = Some(u32_at(input, at)?);
            at += 4;
        }
        if flags & 0x1000 != 0 {
            at += 4;
        }
        self.carry(Carrier::Gre, key);
        self.carried(kind, input.get(at..)?, depth);
        Some(())
    }

    /// A UDP port says little: what does not look like the tunnel is left alone.
    fn udp_tunnel(&mut self, port: u16, input: &[u8], depth: usize) -> Option<()> {
        match port {
            // RFC 7348 5: flag I, 24 reserved bits, VNI, 8 reserved bits.
            4789 | 8472 if input.first().is_some_and(|flags| flags & 0x08 != 0) => {
                self.carry(Carrier::Vxlan, Some(u32_at(input, 4)? >> 8));
                self.ethernet(input.get(8..)?, depth);
            }
            // RFC 8926 3.4: version 0, options in units of four octets.
            6081 if input.first().is_some_and(|octet| octet >> 6 == 0) => {
                let options = usize::from(input[0] & 0x3f) * 4;
                self.carry(Carrier::Geneve, Some(u32_at(input, 4)? >> 8));
                self.carried(u16_at(input, 2)?, input.get(8 + options..)?, depth);
            }
            // TS 29.281 5.1: version 1, G-PDU (255); E, S or PN add four octets, then extension headers.
            2152 if input.first().is_some_and(|flags| flags >> 5 == 1) && input.get(1) == Some(&255) => {
                let flags = input[0];
                self.carry(Carrier::GtpU, Some(u32_at(input, 4)?));
                let mut at = 8;
                if flags & 0x07 != 0 {
                    let mut next = if flags & 0x04 != 0 { *input.get(11)? } else { 0 };
                    at = 12;
                    for _ in 0..EXTENSIONS_MAX {
                        if next == 0 {
                            break;
                        }
                        let length = usize::from(*input.get(at)?) * 4;
                        if length == 0 {
                            return Some(());
                        }
                        next = *input.get(at + length - 1)?;
                        at += length;
                    }
                }
                self.ip(input.get(at..)?, depth);
            }
            _ => {}
        }
        Some(())
    }
}

type Parsed<'a> = (Ip, &'a [u8], Option<Carrier>);

/// RFC 791 3.1.
fn v4(input: &[u8]) -> Option<Parsed<'_>> {
    let header = input.get(..20)?;
    let header_len = usize::from(header[0] & 0x0f) * 4;
    let fragment = u16_at(header, 6)?;
    // A fragment: more to come, or an offset.
    let fragmented = fragment & 0x3fff != 0;
    let ip = Ip {
        v6: false,
        src: v4_at(header, 12)?,
        dst: v4_at(header, 16)?,
        proto: header[9],
        tos: header[1],
        ttl: header[8],
        length: u32::from(u16_at(header, 2)?),
        id: Some(u32::from(u16_at(header, 4)?)),
        fragment_offset: fragmented.then_some(fragment & 0x1fff),
        ..Ip::default()
    };
    Some((ip, input.get(header_len.max(20)..).unwrap_or_default(), None))
}

/// RFC 8200 3, and the extension headers of section 4.
fn v6(input: &[u8]) -> Option<Parsed<'_>> {
    let header = input.get(..40)?;
    let first = u32_at(header, 0)?;
    let mut ip = Ip {
        v6: true,
        src: header[8..].first_chunk().copied()?,
        dst: header[24..].first_chunk().copied()?,
        proto: header[6],
        tos: (first >> 20) as u8,
        ttl: header[7],
        length: u32::from(u16_at(header, 4)?) + 40,
        flow_label: Some(first & 0x000f_ffff),
        ..Ip::default()
    };
    let mut rest = &input[40..];
    let mut carrier = None;
    for _ in 0..EXTENSIONS_MAX {
        let length = match ip.proto {
            // Hop by hop, routing, destination options, mobility, HIP, shim6: units of eight octets.
            0 | 43 | 60 | 135 | 139 | 140 => {
                let Some(length) = rest.get(1) else { break };
                // RFC 8754 2: routing type 4 is the segment routing header.
                if ip.proto == 43 && rest.get(2) == Some(&4) {
                    carrier = Some(Carrier::Srv6);
                }
                usize::from(*length) * 8 + 8
            }
            44 => {
                let (Some(offset), Some(id)) = (u16_at(rest, 2), u32_at(rest, 4)) else { break };
                ip.fragment_offset = Some(offset >> 3);
                ip.id = Some(id);
                8
            }
            // RFC 4302 2.2: units of four octets, less two.
            51 => {
                let Some(length) = rest.get(1) else { break };
                usize::from(*length) * 4 + 8
            }
            _ => break,
        };
        ip.proto = rest[0];
        rest = rest.get(length..).unwrap_or_default();
        if ip.fragment_offset.is_some_and(|offset| offset != 0) {
            break;
        }
    }
    Some((ip, rest, carrier))
}

/// Ports, flags, ICMP type; `None` where the header ends before them.
fn transport(ip: &mut Ip, input: &[u8]) -> Option<()> {
    match ip.proto {
        // TCP, UDP, DCCP, SCTP, UDP-Lite.
        6 | 17 | 33 | 132 | 136 => {
            ip.ports = Some((u16_at(input, 0)?, u16_at(input, 2)?));
            if ip.proto == 6 {
                ip.tcp_flags = Some(u16_at(input, 12)? & 0x0fff);
            }
        }
        1 | 58 => ip.icmp = Some(u16_at(input, 0)?),
        _ => {}
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(ether_type: u16, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        frame.extend(ether_type.to_be_bytes());
        frame.extend(payload);
        frame
    }

    fn packet4(proto: u8, last: u8, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x45, 0x10, 0, 0, 0, 7, 0, 0, 64, proto, 0, 0, 10, 0, 0, last, 10, 0, 1, last];
        packet.extend(payload);
        let length = packet.len() as u16;
        packet[2..4].copy_from_slice(&length.to_be_bytes());
        packet
    }

    fn packet6(proto: u8, last: u8, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x60, 0x1a, 0xbc, 0xde, 0, payload.len() as u8, proto, 63];
        for host in [last, last + 1] {
            packet.extend([0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, host]);
        }
        packet.extend(payload);
        packet
    }

    fn udp(port: u16, payload: &[u8]) -> Vec<u8> {
        let mut udp = vec![0x30, 0x39];
        udp.extend(port.to_be_bytes());
        udp.extend([0, 0, 0, 0]);
        udp.extend(payload);
        udp
    }

    fn last_of(ip: Option<Ip>) -> Option<u8> {
        ip.map(|ip| ip.src[15])
    }

    #[test]
    fn tags_are_taken_off_whatever_their_type() {
        for outer in [0x8100u16, 0x88a8, 0x9100] {
            let mut tagged = vec![0x20, 100, 0x81, 0, 0, 200, 8, 0];
            tagged.extend(packet4(6, 1, &[0, 80, 1, 187, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0x12, 0, 0]));
            let packet = ethernet(&frame(outer, &tagged));
            assert_eq!((packet.vlan, packet.inner_vlan, packet.ether_type), (Some(100), Some(200), 0x0800));
            let ip = packet.outer.expect("ip");
            assert_eq!((ip.ports, ip.tcp_flags, ip.ttl, ip.tos), (Some((80, 443)), Some(0x12), 64, 0x10));
            assert!(!packet.truncated && packet.layer3_at == 22);
        }
    }

    #[test]
    fn later_fragments_have_no_ports() {
        let mut later = packet4(17, 1, &[1, 2, 3, 4, 5, 6, 7, 8]);
        later[6..8].copy_from_slice(&[0, 185]);
        let packet = ip(&later);
        let found = packet.outer.expect("ip");
        assert_eq!((found.ports, found.fragment_offset, packet.truncated), (None, Some(185), false));
    }

    #[test]
    fn extension_headers_are_walked() {
        let mut payload = vec![43, 0, 1, 4, 0, 0, 0, 0, 44, 0, 0, 0, 0, 0, 0, 0, 17, 0, 0, 1, 0, 0, 0, 9];
        payload.extend(udp(53, &[]));
        let found = ip(&packet6(0, 1, &payload)).outer.expect("ip");
        assert_eq!((found.proto, found.ports, found.id), (17, Some((12345, 53)), Some(9)));
        assert_eq!((found.flow_label, found.tos), (Some(0xabcde), 1));
    }

    #[test]
    fn tunnels_give_both_headers() {
        let inner4 = packet4(17, 9, &udp(53, &[]));
        let mut vxlan = vec![8, 0, 0, 0, 0, 1, 0, 0];
        vxlan.extend(frame(0x0800, &inner4));
        let mut gre = vec![0x30, 0, 0x08, 0, 0, 0, 0, 42, 0, 0, 0, 1];
        gre.extend(&inner4);
        let mut gtp = vec![0x30, 255, 0, 0, 0, 0, 0, 5];
        gtp.extend(&inner4);
        let mut geneve = vec![1, 0, 0x65, 0x58, 0, 0, 7, 0, 9, 9, 9, 9];
        geneve.extend(frame(0x0800, &inner4));
        let mut srv6 = vec![4, 2, 4, 0, 0, 0, 0, 0];
        srv6.extend([0; 16]);
        srv6.extend(&inner4);
        for (outer, tunnel, id) in [
            (packet4(17, 1, &udp(4789, &vxlan)), Carrier::Vxlan, Some(256)),
            (packet4(47, 1, &gre), Carrier::Gre, Some(42)),
            (packet4(17, 1, &udp(2152, &gtp)), Carrier::GtpU, Some(5)),
            (packet4(17, 1, &udp(6081, &geneve)), Carrier::Geneve, Some(7)),
            (packet4(4, 1, &inner4), Carrier::IpInIp, None),
            (packet6(4, 1, &inner4), Carrier::IpInIp, None),
            (packet6(43, 1, &srv6), Carrier::Srv6, None),
        ] {
            let packet = ip(&outer);
            assert_eq!((packet.tunnel, packet.tunnel_id), (Some(tunnel), id));
            assert_eq!((last_of(packet.outer), last_of(packet.inner)), (Some(1), Some(9)), "{tunnel:?}");
            assert_eq!(packet.inner.and_then(|ip| ip.ports), Some((12345, 53)));
        }
    }

    #[test]
    fn labels_end_at_the_bottom_of_the_stack() {
        let inner = packet6(17, 1, &udp(53, &[]));
        // Explicit null (2), then a VPN label.
        for (stack, labels) in [(vec![0, 0, 0x20, 255, 0, 1, 1, 255], vec![2, 16]), (vec![0, 0, 0x01, 255], vec![0])] {
            let packet = ethernet(&frame(0x8847, &[&stack[..], &inner[..]].concat()));
            assert_eq!(packet.labels[..packet.label_count], labels);
            assert_eq!((last_of(packet.outer), packet.tunnel), (Some(1), None));
        }
    }

    #[test]
    fn pseudowires_with_and_without_control_word() {
        let inner = frame(0x0800, &packet4(17, 9, &udp(53, &[])));
        for word in [&[0u8, 0, 0, 0][..], &[]] {
            let packet = ethernet(&frame(0x8847, &[&[0, 1, 1, 255], word, &inner[..]].concat()));
            let carried = if word.is_empty() { &inner[..1] } else { &inner[..] };
            assert_eq!(packet.tunnel, Some(Carrier::Mpls));
            // A destination MAC that begins with 0 cannot be told from a control word: 02 begins with 0.
            assert_eq!(last_of(packet.outer).is_some(), carried.len() > 1);
        }
        let mut other = inner.clone();
        other[0] = 0xf2;
        let packet = ethernet(&frame(0x8847, &[&[0, 1, 1, 255], &other[..]].concat()));
        assert_eq!(last_of(packet.outer), Some(9));
    }

    #[test]
    fn every_prefix_is_taken() {
        let mut vxlan = vec![8, 0, 0, 0, 0, 1, 0, 0];
        vxlan.extend(frame(0x0800, &packet4(6, 9, &[0; 20])));
        let whole = frame(0x86dd, &packet6(17, 1, &udp(4789, &vxlan)));
        for len in 0..whole.len() {
            let packet = ethernet(&whole[..len]);
            assert!(packet.truncated || packet.outer.is_some_and(|ip| ip.ports.is_some()), "{len}");
        }
        assert!(!ethernet(&whole).truncated);
    }
}
