//! NetFlow version 5, and its relatives 1 and 7 (Cisco; no RFC).
//!
//! | version u16 | count u16 | sysUptime u32 ms | unix_secs u32 | unix_nsecs u32 | flow_sequence u32 |
//! | engine_type u8 | engine_id u8 | sampling u16 | count x 48-octet record |
//!
//! Version 1 ends its header before flow_sequence, version 7 has four reserved
//! octets after it; the records of both have 52 octets. Some exporters of
//! version 1 (fprobe) leave the last four, which are reserved, away.

use nom::Parser;
use nom::number::complete::{be_u8, be_u16, be_u32};

use crate::error::{WireError, located};

pub const VERSION: u16 = 5;
pub const RECORD_LEN: usize = 48;
/// Records of versions 1 and 7.
pub const RECORD_LEN_1_7: usize = 52;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub version: u16,
    pub count: u16,
    pub sys_uptime_ms: u32,
    pub unix_secs: u32,
    pub unix_nsecs: u32,
    /// Flows exported before this datagram; version 1 does not say.
    pub flow_sequence: Option<u32>,
    pub engine_type: u8,
    pub engine_id: u8,
    /// Top two bits are the mode.
    pub sampling: u16,
}

impl Header {
    /// One of how many packets; 0 means 1. `None` where the header does not say.
    pub fn sampling_interval(&self) -> Option<u32> {
        match self.sampling & 0x3fff {
            0 => None,
            interval => Some(u32::from(interval)),
        }
    }

    /// Milliseconds since 1970.
    pub fn export_ms(&self) -> i64 {
        i64::from(self.unix_secs) * 1000 + i64::from(self.unix_nsecs / 1_000_000).min(999)
    }
}

/// Header and whole records; `missing` records were announced and are not there.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    pub header: Header,
    pub record_len: usize,
    pub records: &'a [u8],
    pub missing: usize,
}

/// Takes versions 1, 5 and 7.
pub fn parse(input: &[u8]) -> Result<Datagram<'_>, WireError> {
    let (rest, (version, count, sys_uptime_ms, unix_secs, unix_nsecs)) =
        located(input, "netflow header", (be_u16, be_u16, be_u32, be_u32, be_u32).parse(input))?;
    let mut header = Header {
        version,
        count,
        sys_uptime_ms,
        unix_secs,
        unix_nsecs,
        flow_sequence: None,
        engine_type: 0,
        engine_id: 0,
        sampling: 0,
    };
    let (rest, record_len) = match version {
        1 if rest.len() == usize::from(count) * RECORD_LEN => (rest, RECORD_LEN),
        1 => (rest, RECORD_LEN_1_7),
        7 => {
            let (rest, (sequence, _)) = located(input, "netflow 7 header", (be_u32, be_u32).parse(rest))?;
            header.flow_sequence = Some(sequence);
            (rest, RECORD_LEN_1_7)
        }
        _ => {
            let (rest, (sequence, engine_type, engine_id, sampling)) =
                located(input, "netflow 5 header", (be_u32, be_u8, be_u8, be_u16).parse(rest))?;
            header.flow_sequence = Some(sequence);
            (header.engine_type, header.engine_id, header.sampling) = (engine_type, engine_id, sampling);
            (rest, RECORD_LEN)
        }
    };
    let whole = (rest.len() / record_len).min(usize::from(count));
    Ok(Datagram { header, record_len, records: &rest[..whole * record_len], missing: usize::from(count) - whole })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_datagram_gives_its_whole_records() {
        let mut input = [0; 24 + 3 * RECORD_LEN];
        (input[1], input[3]) = (5, 3);
        for len in 0..input.len() {
            match parse(&input[..len]) {
                Ok(datagram) => {
                    assert_eq!(datagram.records.len(), (len - 24) / RECORD_LEN * RECORD_LEN);
                    assert_eq!(datagram.missing, 3 - (len - 24) / RECORD_LEN);
                }
                Err(error) => assert!(len < 24 && error.offset <= len, "{error}"),
            }
        }
    }

    #[test]
    fn records_of_version_1_may_lack_what_is_reserved() {
        for (octets, record_len) in [(RECORD_LEN, RECORD_LEN), (RECORD_LEN_1_7, RECORD_LEN_1_7)] {
            let mut input = vec![0; 16 + 15 * octets];
            (input[1], input[3]) = (1, 15);
            let datagram = parse(&input).unwrap();
            assert_eq!((datagram.record_len, datagram.records.len(), datagram.missing), (record_len, 15 * octets, 0));
        }
    }

    #[test]
    fn sampling_mode_is_not_part_of_the_interval() {
        let mut input = [0; 24];
        input[1] = 5;
        for (bits, interval) in [(0, None), (0x4000, None), (0x4064, Some(100)), (0xffff, Some(0x3fff))] {
            input[22..].copy_from_slice(&u16::to_be_bytes(bits));
            assert_eq!(parse(&input).map(|d| d.header.sampling_interval()), Ok(interval));
        }
    }
}
