//! sFlow versions 4 (RFC 3176 4) and 2 (InMon, before it): samples and what is in
//! them follow each other without lengths, so that what is not known ends the datagram.
//!
//! flow sample: | type u32 = 1 | sequence u32 | source u32 | rate u32 | pool u32 | drops u32 | input u32 | output u32 |
//! | packet: type u32, data | count u32 | count x (type u32, extended data) |
//! counter sample: | type u32 = 2 | sequence u32 | source u32 | interval u32 s | kind u32 | counters |

use super::*;

const FLOW_SAMPLE: u32 = 1;
const COUNTER_SAMPLE: u32 = 2;

/// Octets of the generic interface counters, and of what each kind has behind them.
const GENERIC: usize = 88;
const ETHERNET: usize = 52;
const TOKEN_RING: usize = 72;
const VG: usize = 80;
const VLAN: usize = 28;

/// The next sample. One that is cut short is given with what it has; nothing can follow it.
pub(super) fn sample<'a>(samples: &mut Samples<'a>) -> Result<Sample<'a>, WireError> {
    let result = match samples.failed.take() {
        Some(error) => Err(error),
        None => located(samples.whole, "sflow sample", be_u32(samples.rest)).and_then(|(rest, kind)| match kind {
            FLOW_SAMPLE => flow(samples, rest),
            COUNTER_SAMPLE => counters(samples, rest),
            _ => Err(unknown(samples.whole, samples.rest, "sflow sample type", kind)),
        }),
    };
    if result.is_err() {
        samples.left = 0;
    }
    result
}

fn unknown(whole: &[u8], at: &[u8], reading: &'static str, value: u32) -> WireError {
    WireError { offset: whole.len() - at.len(), reading, why: Why::Value(value) }
}

fn flow<'a>(samples: &mut Samples<'a>, input: &'a [u8]) -> Result<Sample<'a>, WireError> {
    let whole = samples.whole;
    let reading = "sflow flow sample";
    let (rest, sequence) = located(whole, reading, be_u32(input))?;
    let (rest, (source_type, source_index)) = source_id(whole, rest, false)?;
    let (rest, (rate, pool, drops, input, output)) =
        located(whole, reading, (be_u32, be_u32, be_u32, be_u32, be_u32).parse(rest))?;
    // Only the output has a format: its top bit says that there are several.
    let several = output >> 31 == 1;
    let output = Interface { format: if several { 2 } else { 0 }, value: output & Interface::INTERNAL };
    let input = Interface { format: 0, value: input };
    let records = Records { whole, rest, left: 1, form: Form::Packet(samples.version) };
    // Only its records say where the sample ends.
    let mut walk = records.clone();
    samples.failed = walk.by_ref().find_map(Result::err);
    samples.rest = walk.rest;
    Ok(Sample::Flow(FlowSample { sequence, source_type, source_index, rate, pool, drops, input, output, records }))
}

fn counters<'a>(samples: &mut Samples<'a>, input: &'a [u8]) -> Result<Sample<'a>, WireError> {
    let whole = samples.whole;
    let reading = "sflow counter sample";
    let (rest, sequence) = located(whole, reading, be_u32(input))?;
    let (rest, (source_type, source_index)) = source_id(whole, rest, false)?;
    let (body, (_interval, kind)) = located(whole, reading, (be_u32, be_u32).parse(rest))?;
    // counters_version: generic, Ethernet, token ring, FDDI, 100VG, WAN, VLAN.
    let octets = match kind {
        1 | 4 | 6 => GENERIC,
        2 => GENERIC + ETHERNET,
        3 => GENERIC + TOKEN_RING,
        5 => GENERIC + VG,
        7 => VLAN,
        _ => return Err(unknown(whole, &rest[4..], "sflow counters", kind)),
    };
    let (rest, body) = located(whole, reading, take(octets)(body))?;
    samples.rest = rest;
    let generic = (kind != 7).then_some(body);
    Ok(Sample::Counters(CounterSample { sequence, source_type, source_index, count: 1, records: &[], generic }))
}

/// The next record of a sample: its packet first.
pub(super) fn record<'a>(records: &mut Records<'a>) -> Result<Record<'a>, WireError> {
    let result = match records.form {
        Form::Extended(version) => extended(records.whole, records.rest, version),
        Form::Packet(version) => packet(records.whole, records.rest).map(|(rest, record)| {
            // How many follow stands behind the packet; where that is cut off, none can be read.
            let (rest, left) = be_u32::<_, nom::error::Error<&[u8]>>(rest).unwrap_or((rest, 1));
            (records.left, records.form) = (left, Form::Extended(version));
            (rest, record)
        }),
        Form::Framed => Err(unknown(records.whole, records.rest, "sflow record", 0)),
    };
    match result {
        Ok((rest, record)) => {
            records.rest = rest;
            Ok(record)
        }
        Err(error) => {
            records.left = 0;
            Err(error)
        }
    }
}

type Found<'a> = Result<(&'a [u8], Record<'a>), WireError>;

/// packet_data_type: a header, or fields of IPv4 or IPv6.
fn packet<'a>(whole: &'a [u8], input: &'a [u8]) -> Found<'a> {
    let (rest, kind) = located(whole, "sflow packet type", be_u32(input))?;
    match kind {
        1 => {
            let reading = "sflow sampled header";
            let (rest, (protocol, frame_length)) = located(whole, reading, (be_u32, be_u32).parse(rest))?;
            let (rest, header) = opaque(whole, rest, reading)?;
            Ok((rest, Record::Header(SampledHeader { protocol, frame_length, stripped: 0, header })))
        }
        2 | 3 => take_sampled_ip(whole, rest, kind == 3).map(|(rest, ip)| (rest, Record::Ip(ip))),
        _ => Err(unknown(whole, input, "sflow packet type", kind)),
    }
}

/// extended_data_type: switch, router, gateway, user, URL.
fn extended<'a>(whole: &'a [u8], input: &'a [u8], version: u32) -> Found<'a> {
    let (rest, kind) = located(whole, "sflow extended data", be_u32(input))?;
    match kind {
        1 => take_switch(whole, rest).map(|(rest, switch)| (rest, Record::Switch(switch))),
        2 => take_router(whole, rest).map(|(rest, router)| (rest, Record::Router(router))),
        3 if version == 2 => gateway_2(whole, rest),
        3 => take_gateway(whole, rest, [0; 16]).map(|(rest, gateway)| (rest, Record::Gateway(gateway))),
        // Names of the user at both ends.
        4 => {
            let (rest, _) = opaque(whole, rest, "sflow extended user")?;
            let (rest, _) = opaque(whole, rest, "sflow extended user")?;
            Ok((rest, Record::Unknown { format: kind }))
        }
        5 => {
            let (rest, _direction) = located(whole, "sflow extended url", be_u32(rest))?;
            let (rest, _) = opaque(whole, rest, "sflow extended url")?;
            Ok((rest, Record::Unknown { format: kind }))
        }
        _ => Err(unknown(whole, input, "sflow extended data", kind)),
    }
}

/// A path without segments, and nothing behind it.
fn gateway_2<'a>(whole: &'a [u8], input: &'a [u8]) -> Found<'a> {
    let reading = "sflow extended gateway";
    let (rest, (own_as, src_as, src_peer_as, count)) =
        located(whole, reading, (be_u32, be_u32, be_u32, be_u32).parse(input))?;
    let (rest, path) = located(whole, reading, take((count as usize).saturating_mul(4))(rest))?;
    let (path, _) = path.as_chunks::<4>();
    let number = |octets: Option<&[u8; 4]>| octets.map(|octets| u32::from_be_bytes(*octets));
    let gateway = Gateway {
        next_hop: [0; 16],
        own_as,
        src_as,
        src_peer_as,
        dst_as: number(path.last()),
        dst_peer_as: number(path.first()),
        communities: &[],
        local_pref: 0,
    };
    Ok((rest, Record::Gateway(gateway)))
}

/// | length u32 | octets | zeros up to a multiple of four |
fn opaque<'a>(whole: &'a [u8], input: &'a [u8], reading: &'static str) -> Result<(&'a [u8], &'a [u8]), WireError> {
    let (rest, length) = located(whole, reading, be_u32(input))?;
    let (rest, octets) = located(whole, reading, take(length as usize)(rest))?;
    // The last of a datagram may come without its padding.
    let padding = (octets.len().next_multiple_of(4) - octets.len()).min(rest.len());
    Ok((&rest[padding..], octets))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    /// Agent 10.0.0.1, sequence 7, uptime 1000 ms.
    fn datagram(version: u32, samples: u32, body: &[u8]) -> Vec<u8> {
        [words(&[version, 1, 0x0a00_0001, 7, 1000, samples]), body.to_vec()].concat()
    }

    fn ip_sample(extended: &[u32]) -> Vec<u8> {
        let head = [1, 5, 3, 400, 9000, 2, 3, 0x8000_0002];
        let ip = [2, 1500, 6, 0x0a00_0002, 0x0a00_0003, 443, 50_000, 0x18, 0];
        words(&[&head[..], &ip, extended].concat())
    }

    const SWITCH: [u32; 5] = [1, 10, 0, 20, 0];
    const ROUTER: [u32; 5] = [2, 1, 0x0a09_0909, 24, 16];
    const GATEWAY_4: [u32; 12] = [3, 64500, 0, 64501, 1, 2, 2, 64502, 64503, 1, 0x0001_0002, 100];
    const GATEWAY_2: [u32; 7] = [3, 64500, 64510, 64501, 2, 64502, 64503];

    #[test]
    fn samples_follow_each_other_without_lengths() {
        for (version, gateway) in [(4, &GATEWAY_4[..]), (2, &GATEWAY_2)] {
            let extended = [&[3][..], &SWITCH, &ROUTER, gateway].concat();
            let counters = [words(&[2, 6, 3, 20, 2]), vec![0; GENERIC + ETHERNET]].concat();
            let input = datagram(version, 3, &[ip_sample(&extended), counters, ip_sample(&[0])].concat());
            let datagram = parse(&input).expect("header");
            assert_eq!((datagram.version, datagram.sequence, datagram.uptime_ms), (version, 7, 1000));
            let samples: Vec<_> = datagram.samples().map(|sample| sample.expect("a sample")).collect();
            let [Sample::Flow(first), Sample::Counters(second), Sample::Flow(third)] = &samples[..] else {
                panic!("{samples:?}")
            };
            assert_eq!((first.rate, first.input.value, first.output), (400, 3, Interface { format: 2, value: 2 }));
            let records: Vec<_> = first.records().map(|record| record.expect("a record")).collect();
            let [Record::Ip(ip), Record::Switch(switch), Record::Router(router), Record::Gateway(gateway)] =
                records[..]
            else {
                panic!("{records:?}")
            };
            assert_eq!((ip.src_port, ip.length, switch.dst_vlan, router.dst_mask), (443, 1500, 20, 16));
            assert_eq!((gateway.dst_peer_as, gateway.dst_as), (Some(64502), Some(64503)));
            assert!(second.interface().is_some());
            assert_eq!(third.records().count(), 1);
        }
    }

    #[test]
    fn what_is_not_known_ends_the_datagram_and_keeps_what_was_before() {
        // An extended record of type 9: the packet before it is there, the sample behind it is not.
        let input = datagram(4, 3, &[ip_sample(&[1, 9, 0]), ip_sample(&[0]), ip_sample(&[0])].concat());
        let parsed = parse(&input).expect("header");
        let samples: Vec<_> = parsed.samples().collect();
        let [Ok(Sample::Flow(flow)), Err(error)] = &samples[..] else { panic!("{samples:?}") };
        assert!(matches!(flow.records().next(), Some(Ok(Record::Ip(_)))));
        assert_eq!((error.reading, error.why), ("sflow extended data", Why::Value(9)));
        for strange in [words(&[3]), words(&[2, 1, 1, 1, 9])] {
            let input = datagram(4, 2, &strange);
            assert_eq!(parse(&input).expect("header").samples().filter(Result::is_err).count(), 1);
        }
        // Counts without end.
        let hostile = datagram(4, u32::MAX, &ip_sample(&[u32::MAX]));
        assert_eq!(parse(&hostile).expect("header").samples().count(), 2);
    }

    #[test]
    fn every_prefix_is_taken() {
        let header = words(&[1, 1, 3, 400, 9000, 2, 3, 4, 1, 1, 1518, 14]);
        let extended =
            [&[5][..], &SWITCH, &ROUTER, &GATEWAY_4, &[4, 3, 0x6162_6300, 0], &[5, 1, 1, 0x2f00_0000]].concat();
        let sample = [header, vec![7; 16], words(&extended)].concat();
        let whole = datagram(4, 2, &[sample.clone(), sample].concat());
        assert_eq!(parse(&whole).expect("header").samples().filter(Result::is_ok).count(), 2);
        for length in 0..whole.len() {
            let Ok(datagram) = parse(&whole[..length]) else { continue };
            for sample in datagram.samples().flatten() {
                if let Sample::Flow(flow) = sample {
                    assert!(flow.records().count() <= 6);
                }
            }
        }
    }
}
