//! TCP in capture files.

use std::collections::BTreeMap;

fn little(octets: &[u8]) -> usize {
    octets[..4].iter().rev().fold(0, |value, octet| value << 8 | usize::from(*octet))
}

/// Packets of a capture file with their link type.
fn packets(file: &[u8]) -> Vec<(u32, &[u8])> {
    let mut list = Vec::new();
    if file.starts_with(&[0x0a, 0x0d, 0x0d, 0x0a]) {
        let mut link = 1;
        let mut rest = file;
        while rest.len() >= 12 {
            let length = little(&rest[4..]);
            match little(rest) {
                1 => link = u32::from(rest[8]) | u32::from(rest[9]) << 8,
                6 => list.push((link, &rest[28..28 + little(&rest[20..])])),
                _ => {}
            }
            rest = &rest[length..];
        }
        return list;
    }
    let link = little(&file[20..]) as u32;
    let mut rest = &file[24..];
    while rest.len() >= 16 {
        let length = little(&rest[8..]).min(rest.len() - 16);
        list.push((link, &rest[16..16 + length]));
        rest = &rest[16 + length..];
    }
    list
}

/// Addresses, ports, sequence number, payload of a TCP segment.
fn segment(link: u32, packet: &[u8]) -> Option<(Vec<u8>, u32, &[u8])> {
    let ip = match link {
        1 => {
            let mut at = 12;
            while packet.get(at..at + 2)? == [0x81, 0] {
                at += 4;
            }
            packet.get(at + 2..)?
        }
        9 => packet.get(4..)?,
        _ => {
            // Whatever is in front: an IPv4 header that holds TCP.
            let at = (0..packet.len().saturating_sub(20)).find(|at| packet[*at] == 0x45 && packet[at + 9] == 6)?;
            &packet[at..]
        }
    };
    let (ends, tcp) = match ip.first()? >> 4 {
        4 if ip[9] == 6 => {
            let total = usize::from(u16::from_be_bytes([ip[2], ip[3]])).min(ip.len());
            (&ip[12..20], ip.get(usize::from(ip[0] & 15) * 4..total)?)
        }
        6 if ip[6] == 6 => {
            let total = usize::from(u16::from_be_bytes([ip[4], ip[5]])) + 40;
            (&ip[8..40], ip.get(40..total.min(ip.len()))?)
        }
        _ => return None,
    };
    let flow = [ends, tcp.get(..4)?].concat();
    let sequence = u32::from_be_bytes(tcp.get(4..8)?.try_into().ok()?);
    Some((flow, sequence, tcp.get(usize::from(tcp[12] >> 4) * 4..)?))
}

/// Octets of each direction of each connection.
pub fn streams(file: &[u8]) -> Vec<Vec<u8>> {
    let mut flows: BTreeMap<Vec<u8>, (u32, Vec<u8>)> = BTreeMap::new();
    for (link, packet) in packets(file) {
        let Some((flow, sequence, payload)) = segment(link, packet).filter(|(.., payload)| !payload.is_empty()) else {
            continue;
        };
        let (next, octets) = flows.entry(flow).or_insert_with(|| (sequence, Vec::new()));
        // What was sent before is sent again; what is missing is missing.
        let again = next.wrapping_sub(sequence) as usize;
        let fresh = if again < 1 << 31 { payload.get(again..).unwrap_or(&[]) } else { payload };
        octets.extend_from_slice(fresh);
        *next = sequence.wrapping_add(payload.len() as u32);
    }
    flows.into_values().map(|(_, octets)| octets).collect()
}
