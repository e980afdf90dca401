//! Corner cases that real exporters produce, by name.

use benocs_model::flow::{Column, quality};

use super::message::{ipfix, netflow5, netflow9, octets, options_template, set, template};
use super::{Bench, NOW, router};
use crate::decode::{Config, Decoder, ExporterConfig, InterfaceConfig, Protocol};

const FIELDS: &[(u16, u16, u32)] = &[(8, 4, 0), (12, 4, 0), (1, 8, 0), (2, 4, 0), (152, 8, 0), (153, 8, 0)];

fn record(octets_: u64) -> Vec<u8> {
    let now = NOW as u64;
    octets().raw(&[10, 0, 0, 1]).raw(&[10, 0, 0, 2]).u64(octets_).u32(7).u64(now - 1000).u64(now).0
}

fn one(fields: &[(u16, u16, u32)], record: &[u8]) -> super::Rows {
    Bench::new().decode(&ipfix(1, 0, &[set(2, &template(256, fields)), set(256, record)]))
}

fn quality_of(rows: &super::Rows) -> u64 {
    rows.get(Column::Quality)[0].expect("quality")
}

#[test]
fn data_before_its_template_is_kept_and_flagged() {
    let mut bench = Bench::new();
    let templates = |id| set(2, &template(id, FIELDS));
    // The other set of the same datagram is decoded at once.
    let rows = bench.decode(&ipfix(1, 0, &[templates(257), set(256, &record(1)), set(257, &record(2))]));
    assert_eq!((rows.sum(Column::Octets), bench.status().pending), (2, 1));
    bench.feed_at(router(1), NOW + 5000, &ipfix(1, 2, &[templates(256)]));
    let rows = bench.rows();
    assert_eq!((rows.len(), rows.sum(Column::Octets)), (1, 1));
    assert_eq!(quality_of(&rows) & quality::TEMPLATE_LATE, quality::TEMPLATE_LATE);
    assert_eq!(rows.times(Column::TimeReceived), [Some(NOW)]);
    assert_eq!((bench.status().pending, bench.status().pending_octets), (0, 0));
}

#[test]
fn waiting_data_is_bounded_by_octets_and_age() {
    let mut bench = Bench::with(Config { pending_octets_max: 60, pending_age_s: 60, ..Config::default() });
    bench.feed(&ipfix(1, 0, &[set(256, &record(1))]));
    bench.feed(&ipfix(1, 1, &[set(256, &record(2))]));
    assert_eq!(bench.status().errors["pending_full"], 1);
    bench.feed_at(router(2), NOW + 120_000, &ipfix(1, 0, &[set(2, &template(256, FIELDS))]));
    assert_eq!((bench.status().pending, bench.status().errors["pending_expired"]), (0, 1));
}

#[test]
fn templates_belong_to_exporter_domain_and_version_but_not_to_a_port() {
    let mut bench = Bench::new();
    bench.feed(&ipfix(1, 0, &[set(2, &template(256, FIELDS))]));
    let data = ipfix(1, 0, &[set(256, &record(1))]);
    bench.feed_at(std::net::SocketAddr::from(([192, 0, 2, 1], 1)), NOW, &data);
    assert_eq!(bench.rows().len(), 1);
    bench.feed_at(router(2), NOW, &data);
    bench.feed(&ipfix(2, 0, &[set(256, &record(1))]));
    bench.feed(&netflow9(0, 0, 1, &[set(256, &record(1))]));
    assert_eq!(bench.rows().len(), 0);
}

#[test]
fn a_template_redefined_with_the_same_id_counts_from_then_on() {
    let mut bench = Bench::new();
    let swapped = [FIELDS[1], FIELDS[0], FIELDS[2], FIELDS[3], FIELDS[4], FIELDS[5]];
    bench.feed(&ipfix(1, 0, &[set(2, &template(256, FIELDS)), set(256, &record(1))]));
    bench.feed(&ipfix(1, 1, &[set(2, &template(256, &swapped)), set(256, &record(1))]));
    let sources = bench.rows().addresses(Column::SrcAddr);
    assert_eq!(sources, [Some("10.0.0.1".to_owned()), Some("10.0.0.2".to_owned())]);
    assert_eq!(bench.status().templates, 1);
}

#[test]
fn an_invalid_redefinition_deletes_the_old_one() {
    let mut bench = Bench::new();
    bench.feed(&ipfix(1, 0, &[set(2, &template(256, FIELDS))]));
    bench.feed(&ipfix(1, 0, &[set(2, &template(256, &[(8, 0, 0)]))]));
    bench.feed(&ipfix(1, 0, &[set(256, &record(1))]));
    assert_eq!((bench.rows().len(), bench.status().templates, bench.status().pending), (0, 0, 1));
    assert_eq!(bench.status().errors["template_invalid"], 1);
}

#[test]
fn a_withdrawn_template_is_gone() {
    let mut bench = Bench::new();
    bench.feed(&ipfix(1, 0, &[set(2, &[template(256, FIELDS), template(257, FIELDS)].concat())]));
    bench.feed(&ipfix(1, 0, &[set(2, &template(256, &[]))]));
    assert_eq!(bench.status().templates, 1);
    bench.feed(&ipfix(1, 0, &[set(2, &template(2, &[]))]));
    assert_eq!(bench.status().templates, 0);
}

#[test]
fn redefined_options_take_their_samplers_back() {
    let mut bench = Bench::new();
    bench.feed(&ipfix(
        1,
        0,
        &[
            set(3, &options_template(300, 1, &[(302, 1), (305, 4)])),
            set(300, &octets().u8(1).u32(100).0),
            set(2, &template(256, FIELDS)),
            set(256, &record(1)),
        ],
    ));
    assert_eq!(bench.rows().get(Column::SamplingDen), [Some(100)]);
    bench.feed(&ipfix(1, 2, &[set(3, &options_template(300, 1, &[(302, 2), (305, 4)])), set(256, &record(1))]));
    let rows = bench.rows();
    assert_eq!((rows.get(Column::SamplingDen)[0], quality_of(&rows)), (Some(1), quality::SAMPLING_UNKNOWN));
}

#[test]
fn template_limits_hold() {
    let mut bench = Bench::with(Config { templates_max: 3, template_fields_max: 10, ..Config::default() });
    let many: Vec<u8> = (256..262).flat_map(|id| template(id, FIELDS)).collect();
    bench.feed(&ipfix(1, 0, &[set(2, &many), set(2, &template(900, &[(1, 4, 0); 11]))]));
    assert_eq!((bench.status().templates, bench.status().errors["template_limit"]), (3, 4));
}

#[test]
fn reduced_sizes_variable_lengths_enterprises_and_padding() {
    let fields = [
        (1, 3, 0),
        (82, 65535, 0),
        (2, 1, 0),
        (210, 3, 0),
        (1, 8, 9),
        (210, 5, 0),
        (8, 4, 0),
        (7, 65535, 0),
        (4, 1, 0),
    ];
    let mut body = Vec::new();
    for name in [&b"et-0/0/1"[..], &[b'x'; 300]] {
        body.extend([1, 0, 0]);
        if name.len() > 254 {
            body.extend([255, 1, 44]);
        } else {
            body.push(name.len() as u8);
        }
        body.extend(name);
        body.extend([9, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 192, 0, 2, 9, 2, 1, 187, 17]);
    }
    body.extend([0, 0, 0]);
    let rows = one(&fields, &body);
    assert_eq!(rows.get(Column::Octets), [Some(65536), Some(65536)]);
    assert_eq!(rows.get(Column::Packets), [Some(9), Some(9)]);
    assert_eq!((rows.get(Column::SrcPort)[1], rows.get(Column::Proto)[1]), (Some(443), Some(17)));
}

#[test]
fn both_families_present_one_of_them_zero() {
    let fields = [(8, 4, 0), (27, 16, 0), (12, 4, 0), (28, 16, 0), (1, 4, 0), (2, 4, 0), (9, 1, 0), (29, 1, 0)];
    let v6 = [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    let four =
        octets().raw(&[10, 0, 0, 1]).raw(&[0; 16]).raw(&[10, 0, 0, 2]).raw(&[0; 16]).u32(1).u32(1).u8(24).u8(0).0;
    let six = octets().raw(&[0; 4]).raw(&v6).raw(&[0; 4]).raw(&v6).u32(1).u32(1).u8(0).u8(48).0;
    let rows = one(&fields, &[four, six].concat());
    assert_eq!(rows.addresses(Column::SrcAddr), [Some("10.0.0.1".to_owned()), Some("2001:db8::1".to_owned())]);
    assert_eq!(rows.get(Column::EtherType), [Some(0x0800), Some(0x86dd)]);
    assert_eq!(rows.get(Column::SrcMask), [Some(24), Some(48)]);
}

#[test]
fn biflows_are_two_records_and_an_empty_reverse_is_none() {
    let fields = [(8, 4, 0), (12, 4, 0), (7, 2, 0), (11, 2, 0), (1, 4, 0), (2, 4, 0), (1, 4, 29305), (2, 4, 29305)];
    let biflow = |reverse| {
        octets().raw(&[10, 0, 0, 1]).raw(&[10, 0, 0, 2]).u16(1).u16(2).u32(100).u32(1).u32(reverse).u32(reverse).0
    };
    let rows = one(&fields, &[biflow(900), biflow(0)].concat());
    assert_eq!(rows.get(Column::Octets), [Some(100), Some(100), Some(900)]);
    assert_eq!(rows.get(Column::SrcPort), [Some(1), Some(1), Some(2)]);
    assert_eq!(rows.addresses(Column::SrcAddr)[2], Some("10.0.0.2".to_owned()));
}

#[test]
fn initiator_and_responder_are_two_directions_and_post_counters_are_not() {
    let both = [(8, 4, 0), (12, 4, 0), (231, 4, 0), (232, 4, 0), (298, 4, 0), (299, 4, 0)];
    let body = octets().raw(&[10, 0, 0, 1]).raw(&[10, 0, 0, 2]).u32(5).u32(6).u32(1).u32(2).0;
    assert_eq!(one(&both, &body).get(Column::Octets), [Some(5), Some(6)]);
    let post = [(8, 4, 0), (12, 4, 0), (1, 4, 0), (23, 4, 0), (2, 4, 0), (24, 4, 0)];
    assert_eq!(one(&post, &body).get(Column::Octets), [Some(5)]);
}

#[test]
fn events_are_no_flows() {
    let nat = [(8, 4, 0), (225, 4, 0), (7, 2, 0), (227, 2, 0), (230, 1, 0), (323, 8, 0)];
    let body = octets().raw(&[10, 0, 0, 1]).raw(&[192, 0, 2, 1]).u16(1000).u16(2000).u8(4).u64(NOW as u64).0;
    let rows = one(&nat, &body);
    assert_eq!((rows.get(Column::Event), rows.get(Column::NatSrcPort)), (vec![Some(4)], vec![Some(2000)]));
    assert_eq!(quality_of(&rows) & (quality::EVENT | quality::COUNTERS_MISSING), quality::EVENT);
    assert_eq!(rows.times(Column::Last), [Some(NOW)]);
    // The same event with traffic is traffic.
    let nsel = [(8, 4, 0), (233, 1, 0), (231, 4, 0), (298, 4, 0)];
    let rows = one(&nsel, &octets().raw(&[10, 0, 0, 1]).u8(2).u32(77).u32(1).raw(&[10, 0, 0, 1]).u8(1).u32(0).u32(0).0);
    assert_eq!(rows.get(Column::Event), [None, Some(1)]);
    assert_eq!(
        rows.get(Column::Quality).iter().map(|q| q.expect("set") & quality::EVENT != 0).collect::<Vec<_>>(),
        [false, true]
    );
}

#[test]
fn forwarding_status_of_one_two_and_four_octets() {
    for (width, body) in [(1, vec![64]), (2, vec![0, 64]), (4, vec![0, 0, 0, 64]), (4, vec![64, 0, 0, 0])] {
        let rows = one(&[(1, 4, 0), (89, width, 0)], &[vec![0, 0, 0, 5], body].concat());
        assert_eq!(rows.get(Column::ForwardingStatus), [Some(64)]);
    }
}

#[test]
fn icmp_type_and_code_hide_in_the_destination_port() {
    let fields = [(4, 1, 0), (7, 2, 0), (11, 2, 0), (1, 4, 0)];
    let rows = one(&fields, &octets().u8(1).u16(0).u16(0x0301).u32(1).u8(6).u16(1).u16(2).u32(1).0);
    assert_eq!(rows.get(Column::Icmp), [Some(0x0301), None]);
}

#[test]
fn an_exporter_may_say_its_own_address() {
    let fields = [(8, 4, 0), (1, 4, 0), (130, 4, 0)];
    let message = ipfix(
        1,
        0,
        &[set(2, &template(256, &fields)), set(256, &octets().raw(&[10, 0, 0, 1]).u32(5).raw(&[198, 51, 100, 7]).0)],
    );
    let mut bench = Bench::new();
    let rows = bench.decode(&message);
    assert_eq!(rows.addresses(Column::ExporterAddr), [Some("198.51.100.7".to_owned())]);
    assert_eq!(rows.addresses(Column::UdpSource), [Some("192.0.2.1".to_owned())]);
    assert_eq!(rows.get(Column::ExporterId), [Some(2)]);
    let mut ignored = Bench::with(Config { exporter_address_from_record: false, ..Config::default() });
    let rows = ignored.decode(&message);
    assert_eq!(rows.addresses(Column::ExporterAddr), [Some("192.0.2.1".to_owned())]);
    assert_eq!(rows.addresses(Column::UdpSource), [None]);
}

#[test]
fn exported_frames_count_one_packet() {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x81, 0, 0, 7, 8, 0];
    frame.extend([0x45, 0, 5, 0xdc, 0, 1, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0, 53, 0, 53, 0, 0, 0, 0]);
    for (element, length) in [(315, 65535), (315, frame.len() as u16), (104, frame.len() as u16)] {
        let mut body = vec![0, 0, 0, 3];
        if length == 65535 {
            body.push(frame.len() as u8);
        }
        body.extend(&frame);
        let rows = one(&[(10, 4, 0), (element, length, 0)], &body);
        assert_eq!((rows.get(Column::Octets), rows.get(Column::Packets)), (vec![Some(1500)], vec![Some(1)]));
        assert_eq!((rows.get(Column::SrcVlan), rows.get(Column::SrcPort)), (vec![Some(7)], vec![Some(53)]));
        assert_eq!(rows.get(Column::InIf), [Some(3)]);
        assert_eq!(quality_of(&rows) & quality::COUNTERS_MISSING, 0);
    }
}

#[test]
fn sampling_of_version_5_is_in_the_header() {
    for (bits, den) in [(0, 1), (0x4000 | 100, 100), (0x8000 | 0x3fff, 0x3fff)] {
        let rows = Bench::new().decode(&netflow5(1000, 0, bits, &[[1; 48]]));
        assert_eq!((rows.get(Column::SamplingDen), rows.get(Column::SamplingSource)), (vec![Some(den)], vec![Some(3)]));
    }
}

#[test]
fn sampling_in_the_record_and_by_sampler_id() {
    let sampled = |fields: &[(u16, u16, u32)], body: &[u8]| {
        let fields = [&[(1, 4, 0)], fields].concat();
        let rows = one(&fields, &[&[0, 0, 0, 9], body].concat());
        (rows.get(Column::SamplingNum)[0], rows.get(Column::SamplingDen)[0], rows.get(Column::SamplingSource)[0])
    };
    let record = |num, den| (Some(num), Some(den), Some(1));
    assert_eq!(sampled(&[(34, 4, 0)], &[0, 0, 3, 232]), record(1, 1000));
    assert_eq!(sampled(&[(50, 2, 0)], &[3, 232]), record(1, 1000));
    assert_eq!(sampled(&[(305, 1, 0), (306, 2, 0)], &[10, 0, 90]), record(1, 10));
    assert_eq!(sampled(&[(309, 1, 0), (310, 1, 0)], &[2, 6]), record(1, 3));
    assert_eq!(sampled(&[(34, 4, 0)], &[0, 0, 0, 0]), (Some(1), Some(1), Some(0)));
    // Samplers of domain 0 serve all domains; ids have 8, 16 or 32 bits.
    for width in [1u16, 2, 4] {
        let mut bench = Bench::new();
        let id = |value: u8| [vec![0; usize::from(width) - 1], vec![value]].concat();
        let options = [id(1), vec![0, 10], id(2), vec![0, 20]].concat();
        bench.feed(&ipfix(0, 0, &[set(3, &options_template(300, 1, &[(48, width), (50, 2)])), set(300, &options)]));
        let data = [vec![0, 0, 0, 9], id(2), vec![0, 0, 0, 9], id(7)].concat();
        bench.feed(&ipfix(5, 0, &[set(2, &template(256, &[(1, 4, 0), (48, width, 0)])), set(256, &data)]));
        let rows = bench.rows();
        assert_eq!(rows.get(Column::SamplingDen), [Some(20), Some(1)]);
        assert_eq!(rows.get(Column::Quality)[1].expect("set") & quality::SAMPLING_UNKNOWN, 1);
    }
}

#[test]
fn sampling_options_scoped_by_template() {
    let mut bench = Bench::new();
    bench.feed(&ipfix(
        1,
        0,
        &[
            set(3, &options_template(300, 1, &[(145, 2), (309, 4), (310, 4)])),
            set(300, &octets().u16(256).u32(1).u32(64).u16(257).u32(1).u32(128).0),
            set(2, &[template(256, FIELDS), template(257, FIELDS)].concat()),
            set(256, &record(1)),
            set(257, &record(1)),
        ],
    ));
    assert_eq!(bench.rows().get(Column::SamplingDen), [Some(64), Some(128)]);
}

#[test]
fn version_9_options_have_scopes_of_their_own() {
    let mut bench = Bench::new();
    // Scope 1 is the system, not octetDeltaCount.
    let options = octets().u16(300).u16(4).u16(8).u16(1).u16(4).u16(34).u16(4).u16(35).u16(1).0;
    bench.feed(&netflow9(
        9000,
        0,
        1,
        &[
            set(1, &options),
            set(300, &octets().u32(1).u32(512).u8(2).u8(0).u16(0).0),
            set(0, &template(256, &[(1, 4, 0), (22, 4, 0), (21, 4, 0)])),
            set(256, &octets().u32(5).u32(4000).u32(9500).0),
        ],
    ));
    let rows = bench.rows();
    assert_eq!((rows.get(Column::SamplingDen), rows.get(Column::SamplingSource)), (vec![Some(512)], vec![Some(2)]));
    assert_eq!((rows.times(Column::First), rows.times(Column::Last)), (vec![Some(NOW - 5000)], vec![Some(NOW + 500)]));
}

#[test]
fn unknown_sampling_never_drops_a_flow() {
    let rows = one(FIELDS, &record(5));
    assert_eq!((rows.get(Column::SamplingDen), quality_of(&rows)), (vec![Some(1)], quality::SAMPLING_UNKNOWN));
    let exporter = ExporterConfig { address: router(1).ip(), name: Some("core1".to_owned()), sampling: Some(2048) };
    let mut bench = Bench::with(Config { exporters: vec![exporter], ..Config::default() });
    let rows = bench.decode(&ipfix(1, 0, &[set(2, &template(256, FIELDS)), set(256, &record(1))]));
    assert_eq!((rows.get(Column::SamplingDen), rows.get(Column::SamplingSource)), (vec![Some(2048)], vec![Some(4)]));
    assert_eq!((quality_of(&rows), bench.status().name.as_deref()), (0, Some("core1")));
}

#[test]
fn time_relative_to_system_init_before_after_and_in_options() {
    let init = NOW as u64 - 60_000;
    let times = |first: &super::Rows| {
        (first.times(Column::First)[0], first.times(Column::Last)[0], first.get(Column::TimeSource)[0])
    };
    let expected = (Some(NOW - 50_000), Some(NOW - 40_000), Some(1));
    let before =
        one(&[(160, 8, 0), (22, 4, 0), (21, 4, 0), (1, 4, 0)], &octets().u64(init).u32(10_000).u32(20_000).u32(1).0);
    let after =
        one(&[(22, 4, 0), (21, 4, 0), (1, 4, 0), (160, 8, 0)], &octets().u32(10_000).u32(20_000).u32(1).u64(init).0);
    assert_eq!((times(&before), times(&after)), (expected, expected));
    let mut bench = Bench::new();
    bench.feed(&ipfix(
        1,
        0,
        &[
            set(3, &options_template(300, 1, &[(149, 4), (160, 8)])),
            set(300, &octets().u32(1).u64(init).0),
            set(2, &template(256, &[(22, 4, 0), (21, 4, 0), (1, 4, 0)])),
            set(256, &octets().u32(10_000).u32(20_000).u32(1).0),
        ],
    ));
    assert_eq!(times(&bench.rows()), expected);
    let absent = one(&[(22, 4, 0), (21, 4, 0), (1, 4, 0)], &octets().u32(10_000).u32(20_000).u32(1).0);
    assert_eq!(times(&absent), (Some(NOW), Some(NOW), Some(0)));
    assert_eq!(quality_of(&absent) & quality::TIME_MISSING, quality::TIME_MISSING);
}

#[test]
fn times_in_seconds_milliseconds_ntp_and_deltas() {
    let ntp = |ms: u64| (ms / 1000 + 2_208_988_800) << 32 | (ms % 1000 * 4_294_967_296).div_ceil(1000);
    let now = NOW as u64;
    for (fields, body, source) in [
        ([150, 151], octets().u64(now / 1000 - 1).u64(now / 1000).0, 2),
        ([152, 153], octets().u64(now - 1000).u64(now).0, 2),
        ([154, 155], octets().u64(ntp(now - 1000)).u64(ntp(now)).0, 2),
        ([156, 157], octets().u64(ntp(now - 1000)).u64(ntp(now)).0, 2),
        ([158, 159], octets().u64(1_000_000).u64(0).0, 3),
    ] {
        let rows = one(&[(fields[0], 8, 0), (fields[1], 8, 0), (1, 4, 0)], &[body, vec![0, 0, 0, 1]].concat());
        assert_eq!((rows.times(Column::First)[0], rows.times(Column::Last)[0]), (Some(NOW - 1000), Some(NOW)));
        assert_eq!(rows.get(Column::TimeSource), [Some(source)]);
    }
}

#[test]
fn absurd_times_are_receipt_and_what_was_exported_is_kept() {
    let at =
        |first: u64, last: u64| one(&[(152, 8, 0), (153, 8, 0), (1, 4, 0)], &octets().u64(first).u64(last).u32(1).0);
    let day = 86_400_000;
    for last in [1000, NOW as u64 + day + 1, NOW as u64 - day - 1, u64::MAX] {
        let rows = at(last, last);
        assert_eq!((rows.times(Column::First)[0], rows.times(Column::Last)[0]), (Some(NOW), Some(NOW)));
        assert_eq!(rows.times(Column::ExportedLast), [Some(last as i64)]);
        assert_eq!(quality_of(&rows) & quality::TIME_IMPLAUSIBLE, quality::TIME_IMPLAUSIBLE);
    }
    let long = at(NOW as u64 - 7_200_000, NOW as u64);
    assert_eq!(
        (long.times(Column::First)[0], long.times(Column::ExportedFirst)[0]),
        (Some(NOW - 3_600_000), Some(NOW - 7_200_000))
    );
    assert_eq!(quality_of(&long) & quality::SPAN_CLAMPED, quality::SPAN_CLAMPED);
    assert_eq!(long.times(Column::ExportedLast), [None]);
}

#[test]
fn records_after_a_gap_say_so_and_loss_is_by_exporter() {
    let mut bench = Bench::new();
    let data = |sequence| ipfix(1, sequence, &[set(256, &[record(1), record(2)].concat())]);
    bench.feed(&ipfix(1, 0, &[set(2, &template(256, FIELDS))]));
    bench.feed(&data(0));
    bench.feed(&data(2));
    bench.feed(&data(10));
    let rows = bench.rows();
    let gaps: Vec<bool> = rows.get(Column::Quality).iter().map(|q| q.expect("set") & quality::AFTER_GAP != 0).collect();
    assert_eq!(gaps, [false, false, false, false, true, true]);
    assert_eq!((bench.status().sequence.gaps, bench.status().sequence.lost), (1, 6));
    assert_eq!(bench.status().versions, [Protocol::Ipfix]);
}

#[test]
fn version_5_counts_flows() {
    let mut bench = Bench::new();
    bench.feed(&netflow5(1000, 0, 0, &[[1; 48]; 3]));
    bench.feed(&netflow5(2000, 3, 0, &[[1; 48]; 3]));
    bench.feed(&netflow5(3000, 16, 0, &[[1; 48]; 1]));
    assert_eq!((bench.status().sequence.lost, bench.status().records), (10, 7));
    assert_eq!(bench.rows().get(Column::ObservationDomain)[0], Some(0x0102));
}

#[test]
fn exporter_ids_are_for_ever() {
    let known =
        benocs_model::network::Exporter { id: 41, address: benocs_model::Address::from_v4([192, 0, 2, 9]), name: None };
    let shared = std::sync::Arc::new(crate::decode::Shared::new(Config::default(), vec![known.clone()]));
    let generation = shared.generation();
    let mut decoder = crate::decode::Decoder::new(Config::default(), shared.clone());
    let mut out = benocs_model::flow::builder::FlowBuilder::with_capacity(8);
    for last in [9, 8] {
        decoder.datagram(router(last), NOW, &netflow5(0, 0, 0, &[[1; 48]]), &mut out);
    }
    assert_eq!(super::Rows(out.finish()).get(Column::ExporterId), [Some(41), Some(42)]);
    let ids: Vec<u32> = shared.exporters().iter().map(|exporter| exporter.id).collect();
    assert_eq!((ids, shared.generation()), (vec![41, 42], generation + 1));
}

fn sflow(samples: &[Vec<u8>]) -> Vec<u8> {
    let head = octets().u32(5).u32(1).raw(&[198, 51, 100, 1]).u32(3).u32(1).u32(1000).u32(samples.len() as u32);
    head.raw(&samples.concat()).0
}

fn framed(format: u32, body: &[u8]) -> Vec<u8> {
    octets().u32(format).u32(body.len() as u32).raw(body).0
}

fn sampled_frame(frame: &[u8]) -> Vec<u8> {
    let mut padded = frame.to_vec();
    padded.resize(frame.len().next_multiple_of(4), 0);
    framed(1, &octets().u32(1).u32(1518).u32(4).u32(frame.len() as u32).raw(&padded).0)
}

#[test]
fn sflow_compact_and_expanded_samples_are_rows() {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
    frame.extend([0x45, 0, 5, 0xdc, 0, 1, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 1, 187, 0, 80]);
    let compact =
        octets().u32(1).u32(7).u32(400).u32(0).u32(0).u32(7).u32(0x3fff_ffff).u32(1).raw(&sampled_frame(&frame)).0;
    let gateway = octets()
        .u32(1)
        .raw(&[10, 9, 9, 9])
        .u32(64500)
        .u32(0)
        .u32(0)
        .u32(1)
        .u32(2)
        .u32(2)
        .u32(10)
        .u32(20)
        .u32(0)
        .u32(100)
        .0;
    let expanded = octets().u32(1).u32(0).u32(9).u32(500).u32(0).u32(0).u32(0).u32(8).u32(2).u32(3).u32(2);
    let expanded = expanded.raw(&sampled_frame(&frame)).raw(&framed(1003, &gateway)).0;
    let counters = octets().u32(1).u32(7).u32(0).0;
    let mut bench = Bench::new();
    let rows =
        bench.decode(&sflow(&[framed(1, &compact), framed(3, &expanded), framed(2, &counters), framed(77, &[])]));
    assert_eq!((rows.get(Column::Octets), rows.get(Column::Packets)), (vec![Some(1518); 2], vec![Some(1); 2]));
    assert_eq!(
        (rows.get(Column::OctetsLayer), rows.get(Column::SamplingDen)),
        (vec![Some(2); 2], vec![Some(400), Some(500)])
    );
    assert_eq!(rows.get(Column::InIf), [Some(7), Some(8)]);
    assert_eq!(rows.get(Column::OutIf), [Some(0), Some(2 << 30 | 3)]);
    assert_eq!(rows.get(Column::Observation), [Some(0), Some(255)]);
    assert_eq!(rows.get(Column::RecordSrcAs), [None, Some(64500)]);
    assert_eq!(rows.get(Column::RecordDstAs), [None, Some(20)]);
    assert_eq!(rows.addresses(Column::ExporterAddr)[0], Some("198.51.100.1".to_owned()));
    assert_eq!(rows.addresses(Column::UdpSource)[0], Some("192.0.2.1".to_owned()));
    // The header ends before the TCP flags, not before the ports.
    assert_eq!((rows.get(Column::DstPort)[0], quality_of(&rows)), (Some(80), 0));
    let status = bench.status();
    assert_eq!((status.counter_samples, status.errors["sample_unknown"]), (1, 1));
}

#[test]
fn sflow_truncated_headers_are_flagged_and_drops_are_no_traffic() {
    let frame =
        [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0, 5, 0xdc, 0, 1, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
    let sample = octets().u32(1).u32(7).u32(400).u32(0).u32(0).u32(7).u32(8).u32(1).raw(&sampled_frame(&frame)).0;
    let dropped = octets().u32(1).u32(0).u32(7).u32(0).u32(7).u32(8).u32(256).u32(0).0;
    let mut bench = Bench::new();
    let rows = bench.decode(&sflow(&[framed(1, &sample), framed(5, &dropped)]));
    assert_eq!((rows.len(), quality_of(&rows)), (1, quality::HEADER_TRUNCATED));
    assert_eq!(bench.status().errors["sample_drop"], 1);
}

#[test]
fn a_template_and_its_data_in_one_datagram() {
    let rows = Bench::new().decode(&ipfix(1, 0, &[set(2, &template(256, FIELDS)), set(256, &record(7))]));
    assert_eq!((rows.get(Column::Octets), quality_of(&rows) & quality::TEMPLATE_LATE), (vec![Some(7)], 0));
}

#[test]
fn a_template_replaced_within_a_message_counts_for_what_follows_it() {
    let narrow = [FIELDS[0], FIELDS[1], (1, 4, 0)];
    let body = octets().raw(&[10, 0, 0, 1]).raw(&[10, 0, 0, 2]).u32(5).0;
    let sets = [
        set(2, &template(256, FIELDS)),
        set(256, &record(7)),
        set(2, &template(256, &narrow)),
        set(256, &body),
        set(2, &template(256, FIELDS)),
        set(256, &record(9)),
    ];
    assert_eq!(Bench::new().decode(&ipfix(1, 0, &sets)).get(Column::Octets), [Some(7), Some(5), Some(9)]);
}

#[test]
fn sockets_share_one_template_cache() {
    let shared = std::sync::Arc::new(crate::decode::Shared::new(Config::default(), Vec::new()));
    let mut decoders = [(); 2].map(|()| Decoder::new(Config::default(), shared.clone()));
    let mut out = benocs_model::flow::builder::FlowBuilder::with_capacity(8);
    decoders[0].datagram(router(1), NOW, &ipfix(1, 0, &[set(2, &template(256, FIELDS))]), &mut out);
    decoders[1].datagram(router(1), NOW, &ipfix(1, 0, &[set(256, &record(3))]), &mut out);
    assert_eq!(super::Rows(out.finish()).get(Column::Octets), [Some(3)]);
    assert_eq!((shared.status().len(), shared.templates()), (1, 1));
}

#[test]
fn set_lengths_of_0_to_3_end_the_message_and_are_counted() {
    for length in 0..4 {
        let mut bench = Bench::new();
        let impossible = octets().u16(256).u16(length).u32(1).0;
        let sets = [set(2, &template(256, FIELDS)), set(256, &record(1)), impossible, set(256, &record(2))];
        assert_eq!(bench.decode(&ipfix(1, 0, &sets)).get(Column::Octets), [Some(1)], "{length}");
        assert_eq!(bench.status().errors["set_length"], 1);
    }
}

#[test]
fn field_counts_of_65535_and_records_without_octets_are_refused() {
    let mut bench = Bench::new();
    let endless = octets().u16(256).u16(65_535).u16(1).u16(4).0;
    bench.feed(&ipfix(1, 0, &[set(2, &endless), set(2, &template(257, &[(1, 0, 0), (2, 0, 0)])), set(257, &[0; 64])]));
    let status = bench.status();
    assert_eq!((status.templates, status.errors["truncated"], status.errors["template_invalid"]), (0, 1, 1));
    assert_eq!(bench.rows().len(), 0);
    // Version 9 has as many octets as it says, or none.
    bench.feed_at(router(2), NOW, &netflow9(0, 0, 1, &[set(0, &octets().u16(256).u16(65_535).u32(0x0001_0004).0)]));
    assert_eq!(bench.shared.templates(), 0);
}

#[test]
fn a_variable_length_past_the_end_loses_its_own_record_only() {
    let mut bench = Bench::new();
    let fields = [(1, 4, 0), (82, 65535, 0)];
    let good = [0, 0, 0, 5, 2, b'a', b'b'];
    for bad in [&[0, 0, 0, 6, 200, b'c'][..], &[0, 0, 0, 6, 255, 255, 255], &[0, 0, 0, 6, 255, 1]] {
        let sets = [set(2, &template(256, &fields)), set(256, &[&good, bad].concat())];
        assert_eq!(bench.decode(&ipfix(1, 0, &sets)).get(Column::Octets), [Some(5)]);
    }
    assert_eq!(bench.status().errors["record_length"], 3);
}

#[test]
fn integers_of_one_to_eight_octets() {
    for width in 1..=8u16 {
        let field = |last: u8| [vec![0; usize::from(width) - 1], vec![last]].concat();
        let rows = one(&[(1, width, 0), (2, width, 0), (10, width, 0)], &[field(200), field(3), field(7)].concat());
        let row = (rows.get(Column::Octets)[0], rows.get(Column::Packets)[0], rows.get(Column::InIf)[0]);
        assert_eq!(row, (Some(200), Some(3), Some(7)), "{width}");
    }
    // What a column cannot hold is its maximum, not what is left of it.
    let rows = one(&[(1, 4, 0), (7, 4, 0)], &octets().u32(1).u32(65_537).0);
    assert_eq!(rows.get(Column::SrcPort), [Some(65_535)]);
}

#[test]
fn repeated_elements_take_the_first() {
    let rows = one(
        &[(1, 4, 0), (2, 4, 0), (1, 4, 0), (70, 3, 0), (70, 3, 0)],
        &[&[0, 0, 0, 5, 0, 0, 0, 1, 0, 0, 0, 9][..], &[0, 1, 0], &[0, 2, 1]].concat(),
    );
    assert_eq!((rows.get(Column::Octets), rows.get(Column::Mpls1)), (vec![Some(5)], vec![Some(16)]));
}

#[test]
fn vlan_58_and_59_come_before_243_and_254() {
    let both = [(1, 4, 0), (243, 2, 0), (254, 2, 0), (58, 2, 0), (59, 2, 0)];
    let rows = one(&both, &octets().u32(1).u16(100).u16(200).u16(10).u16(20).0);
    assert_eq!((rows.get(Column::SrcVlan), rows.get(Column::DstVlan)), (vec![Some(10)], vec![Some(20)]));
    let rows = one(&both[..3], &octets().u32(1).u16(100).u16(200).0);
    assert_eq!((rows.get(Column::SrcVlan), rows.get(Column::DstVlan)), (vec![Some(100)], vec![Some(200)]));
}

#[test]
fn an_exporter_may_say_its_own_address_in_options() {
    for (element, said, text) in [
        (130, vec![198, 51, 100, 7], "198.51.100.7"),
        (131, [&[0x20, 1, 0x0d, 0xb8][..], &[0; 11], &[9]].concat(), "2001:db8::9"),
    ] {
        let sets = [
            set(3, &options_template(300, 1, &[(149, 4), (element, said.len() as u16)])),
            set(300, &[vec![0, 0, 0, 1], said].concat()),
            set(2, &template(256, FIELDS)),
            set(256, &record(1)),
        ];
        let rows = Bench::new().decode(&ipfix(1, 0, &sets));
        assert_eq!(rows.addresses(Column::ExporterAddr), [Some(text.to_owned())]);
        let mut ignored = Bench::with(Config { exporter_address_from_record: false, ..Config::default() });
        let rows = ignored.decode(&ipfix(1, 0, &sets));
        assert_eq!(rows.addresses(Column::ExporterAddr), [Some("192.0.2.1".to_owned())]);
    }
}

#[test]
fn switched_times_without_system_init_beside_absolute_ones() {
    let fields = [(22, 4, 0), (21, 4, 0), (152, 8, 0), (153, 8, 0), (1, 4, 0)];
    let now = NOW as u64;
    let rows = one(&fields, &octets().u32(10).u32(20).u64(now - 1000).u64(now).u32(1).0);
    assert_eq!((rows.times(Column::First), rows.times(Column::Last)), (vec![Some(NOW - 1000)], vec![Some(NOW)]));
    assert_eq!(rows.get(Column::TimeSource), [Some(2)]);
}

#[test]
fn sampling_by_selector_302_and_octets_stay_raw() {
    let mut bench = Bench::new();
    let selectors = octets().u64(1).u32(1).u32(999).u64(2).u32(1).u32(9).0;
    let options = set(3, &options_template(300, 1, &[(302, 8), (305, 4), (306, 4)]));
    bench.feed(&ipfix(1, 0, &[options, set(300, &selectors)]));
    let data = octets().u32(5000).u8(1).u32(60).u8(2).u32(70).u8(3).0;
    bench.feed(&ipfix(1, 2, &[set(2, &template(256, &[(1, 4, 0), (302, 1, 0)])), set(256, &data)]));
    let rows = bench.rows();
    assert_eq!(rows.get(Column::SamplingDen), [Some(1000), Some(10), Some(1)]);
    assert_eq!(rows.get(Column::Octets), [Some(5000), Some(60), Some(70)]);
}

fn interfaces(sampling: Option<u32>) -> Bench {
    let exporter = ExporterConfig { address: router(1).ip(), name: None, sampling };
    let interface = |if_index, sampling| InterfaceConfig { exporter: router(1).ip(), if_index, sampling };
    let interfaces = vec![interface(7, 100), interface(8, 200)];
    Bench::with(Config { exporters: vec![exporter], interfaces, ..Config::default() })
}

#[test]
fn sampling_by_interface_comes_from_configuration_where_nobody_else_says_it() {
    let fields = [(1, 4, 0), (10, 4, 0), (14, 4, 0)];
    let body = octets().u32(1).u32(7).u32(9).u32(1).u32(9).u32(8).u32(1).u32(8).u32(7).u32(1).u32(9).u32(9).0;
    let message = ipfix(1, 0, &[set(2, &template(256, &fields)), set(256, &body)]);
    let den = |rows: &super::Rows| rows.get(Column::SamplingDen).into_iter().flatten().collect::<Vec<_>>();
    let unknown = |rows: &super::Rows| {
        let flags = rows.get(Column::Quality).into_iter().flatten();
        flags.map(|flags| flags & quality::SAMPLING_UNKNOWN != 0).collect::<Vec<_>>()
    };
    // Of the input, else of the output, else of the exporter.
    let rows = interfaces(Some(50)).decode(&message);
    assert_eq!((den(&rows), unknown(&rows)), (vec![100, 200, 200, 50], vec![false; 4]));
    assert_eq!(rows.get(Column::SamplingSource), [Some(4); 4]);
    let rows = interfaces(None).decode(&message);
    assert_eq!((den(&rows), unknown(&rows)), (vec![100, 200, 200, 1], vec![false, false, false, true]));
    // The record, options and the header of version 5 know better.
    let fields = [(1, 4, 0), (10, 4, 0), (34, 4, 0)];
    let body = octets().u32(1).u32(7).u32(300).u32(1).u32(7).u32(0).0;
    let rows = interfaces(None).decode(&ipfix(1, 0, &[set(2, &template(256, &fields)), set(256, &body)]));
    assert_eq!((den(&rows), rows.get(Column::SamplingSource)), (vec![300, 100], vec![Some(1), Some(4)]));
    let options = [set(3, &options_template(300, 1, &[(149, 4), (34, 4)])), set(300, &octets().u32(1).u32(400).0)];
    let mut bench = interfaces(None);
    bench.feed(&ipfix(1, 0, &options));
    assert_eq!(den(&bench.decode(&message)), [400; 4]);
    let mut record = [1; 48];
    record[12..16].copy_from_slice(&[0, 7, 0, 9]);
    assert_eq!(den(&interfaces(None).decode(&netflow5(0, 0, 500, &[record]))), [500]);
    assert_eq!(den(&interfaces(None).decode(&netflow5(0, 0, 0, &[record]))), [100]);
}

#[test]
fn sflow_without_a_rate_is_sampled_as_its_interface_is_configured() {
    let sample = |rate, input| {
        let head = octets().u32(1).u32(input).u32(rate).u32(0).u32(0).u32(input).u32(9).u32(1);
        framed(1, &head.raw(&sampled_frame(&IPV4_FRAME)).0)
    };
    let exporter = [198, 51, 100, 1].into();
    let interfaces = vec![InterfaceConfig { exporter, if_index: 7, sampling: 100 }];
    let mut bench = Bench::with(Config { interfaces, ..Config::default() });
    let rows = bench.decode(&sflow(&[sample(0, 7), sample(400, 7), sample(0, 6)]));
    assert_eq!(rows.get(Column::SamplingDen), [Some(100), Some(400), Some(1)]);
    assert_eq!(rows.get(Column::SamplingSource), [Some(4), Some(1), Some(0)]);
}

/// To 10.0.0.2, TCP 443 to 80, cut off behind the ports.
const IPV4_FRAME: [u8; 38] = [
    2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0, 5, 0xdc, 0, 1, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 1,
    187, 0, 80,
];

#[test]
fn sflow_raw_headers_of_ethernet_ipv4_and_ipv6() {
    let mut v6 = vec![0x60, 0, 0, 0, 0, 8, 17, 64];
    v6.extend([
        0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        2,
    ]);
    v6.extend([0, 53, 0, 53, 0, 8, 0, 0]);
    let sample = |protocol: u32, header: &[u8]| {
        let mut padded = header.to_vec();
        padded.resize(header.len().next_multiple_of(4), 0);
        // Four octets of frame check sequence were taken off.
        let record = octets().u32(protocol).u32(1518).u32(4).u32(header.len() as u32).raw(&padded).0;
        framed(1, &octets().u32(1).u32(7).u32(400).u32(0).u32(0).u32(7).u32(9).u32(1).raw(&framed(1, &record)).0)
    };
    let rows = Bench::new().decode(&sflow(&[sample(1, &IPV4_FRAME), sample(11, &IPV4_FRAME[14..]), sample(12, &v6)]));
    assert_eq!(rows.get(Column::EtherType)[0], Some(0x0800));
    assert_eq!(rows.get(Column::DstPort), [Some(80), Some(80), Some(53)]);
    let sources = rows.addresses(Column::SrcAddr);
    assert_eq!(sources, ["10.0.0.1", "10.0.0.1", "2001:db8::1"].map(|address| Some(address.to_owned())));
    // The frame as it was on the wire, its check sequence included; an IP packet has no layer 2.
    assert_eq!(
        (rows.get(Column::Octets), rows.get(Column::OctetsLayer)),
        (vec![Some(1518); 3], vec![Some(2), Some(3), Some(3)])
    );
}

fn agent(sub_agent: u32, sequence: u32) -> Vec<u8> {
    octets().u32(5).u32(1).raw(&[198, 51, 100, 1]).u32(sub_agent).u32(sequence).u32(1000).u32(0).0
}

#[test]
fn sflow_counts_datagrams_of_each_sub_agent() {
    let mut bench = Bench::new();
    for (sub_agent, sequence) in [(1, 10), (2, 500), (1, 11), (2, 501), (1, 15), (2, 502)] {
        bench.feed(&agent(sub_agent, sequence));
    }
    let sequence = bench.status().sequence;
    assert_eq!((sequence.gaps, sequence.lost, sequence.restarts), (1, 3, 0));
}

#[test]
fn version_9_counts_datagrams() {
    let mut bench = Bench::new();
    let fields = [(1, 4, 0), (2, 4, 0)];
    let data = |sequence| netflow9(1000, sequence, 1, &[set(256, &[0; 80])]);
    bench.feed(&netflow9(1000, 7, 1, &[set(0, &template(256, &fields))]));
    for sequence in [8, 9, 12, 11, 13] {
        bench.feed(&data(sequence));
    }
    let status = bench.status();
    assert_eq!((status.sequence.gaps, status.sequence.lost, status.sequence.reordered), (1, 1, 1));
    assert_eq!(status.records, 50);
}

fn sflow_old(version: u32, samples: &[Vec<u8>]) -> Vec<u8> {
    let head = octets().u32(version).u32(1).raw(&[198, 51, 100, 1]).u32(1).u32(1000).u32(samples.len() as u32);
    head.raw(&samples.concat()).0
}

#[test]
fn sflow_versions_2_and_4_are_rows_as_version_5_is() {
    let head = |input: u32, output: u32| octets().u32(1).u32(1).u32(7).u32(400).u32(0).u32(0).u32(input).u32(output);
    let padded = [&IPV4_FRAME[..], &[0; 2]].concat();
    let gateway = |version| {
        let own = octets().u32(3).u32(64500).u32(0).u32(64501);
        match version {
            2 => own.u32(2).u32(10).u32(20).0,
            _ => own.u32(1).u32(2).u32(2).u32(10).u32(20).u32(0).u32(100).0,
        }
    };
    for (version, protocol) in [(2, Protocol::Sflow2), (4, Protocol::Sflow4)] {
        let header = head(7, 9).u32(1).u32(1).u32(1518).u32(38).raw(&padded).u32(3);
        let header = header.u32(1).u32(10).u32(0).u32(20).u32(0).u32(2).u32(1).raw(&[10, 9, 9, 9]).u32(24).u32(16);
        let header = header.raw(&gateway(version)).0;
        let addresses = octets().raw(&[10, 0, 0, 3]).raw(&[10, 0, 0, 4]).0;
        let fields =
            head(8, 0x8000_0003).u32(2).u32(576).u32(17).raw(&addresses).u32(53).u32(5353).u32(0).u32(0x20).u32(0).0;
        let counters = octets().u32(2).u32(1).u32(7).u32(20).u32(1).raw(&[0; 88]).0;
        let mut bench = Bench::new();
        let rows = bench.decode(&sflow_old(version, &[header, counters, fields]));
        assert_eq!(
            (rows.get(Column::Octets), rows.get(Column::OctetsLayer)),
            (vec![Some(1518), Some(576)], vec![Some(2), Some(3)])
        );
        assert_eq!(
            (rows.get(Column::InIf), rows.get(Column::OutIf)),
            (vec![Some(7), Some(8)], vec![Some(9), Some(2 << 30 | 3)])
        );
        assert_eq!(rows.get(Column::DstPort), [Some(80), Some(5353)]);
        assert_eq!(
            (rows.get(Column::SrcVlan), rows.get(Column::DstMask)),
            (vec![Some(10), None], vec![Some(16), None])
        );
        assert_eq!((rows.get(Column::RecordSrcAs)[0], rows.get(Column::RecordDstAs)[0]), (Some(64500), Some(20)));
        assert_eq!(rows.addresses(Column::RecordNextHop)[0], Some("10.9.9.9".to_owned()));
        assert_eq!(rows.addresses(Column::RecordBgpNextHop)[0], None, "these versions do not say it");
        assert_eq!((rows.get(Column::SamplingDen), rows.get(Column::Tos)[1]), (vec![Some(400); 2], Some(0x20)));
        assert_eq!(rows.addresses(Column::ExporterAddr)[0], Some("198.51.100.1".to_owned()));
        let status = bench.status();
        assert_eq!((status.versions, status.counter_samples, status.errors.len()), (vec![protocol], 1, 0));
    }
}

#[test]
fn exported_frames_carry_pseudowires_srv6_and_gre() {
    let ip = |proto: u8, last: u8, payload: &[u8]| {
        let head = octets().raw(&[0x45, 0]).u16(payload.len() as u16 + 20).raw(&[0, 0, 0, 0, 64, proto, 0, 0]);
        head.raw(&[10, 0, 0, last, 10, 0, 1, last]).raw(payload).0
    };
    let udp = octets().u16(53).u16(5353).u16(8).u16(0).0;
    let ethernet = |mac: u8, kind: u16, payload: &[u8]| {
        octets().raw(&[mac, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2]).u16(kind).raw(payload).0
    };
    let inner = ip(17, 9, &udp);
    let labels = [0, 0, 0x20, 255, 0, 1, 1, 255];
    let mut srv6 = octets().u32(0x6000_0000).u16(24 + inner.len() as u16).u8(43).u8(64).0;
    srv6.extend([&[0x20, 1, 0x0d, 0xb8][..], &[0; 11], &[1], &[0x20, 1, 0x0d, 0xb8], &[0; 11], &[2]].concat());
    srv6.extend([4, 2, 4, 0, 0, 0, 0, 0]);
    srv6.extend([0; 16]);
    srv6.extend(&inner);
    let gre = octets().u16(0x3000).u16(0x0800).u32(42).u32(1).raw(&inner).0;
    let word = [&labels[..], &[0; 4], &ethernet(0xf2, 0x0800, &inner)].concat();
    let bare = [&labels[..], &ethernet(0xf2, 0x0800, &inner)].concat();
    // Frame, tunnel, whether the inner packet is the only one.
    for (frame, tunnel, alone) in [
        (ethernet(2, 0x8847, &word), 6, true),
        (ethernet(2, 0x8847, &bare), 6, true),
        (ethernet(2, 0x86dd, &srv6), 5, false),
        (ethernet(2, 0x0800, &ip(47, 1, &gre)), 2, false),
    ] {
        let body = octets().u16(1000).u8(frame.len() as u8).raw(&frame).0;
        let rows = one(&[(312, 2, 0), (315, 65535, 0)], &body);
        assert_eq!((rows.get(Column::Tunnel)[0], rows.get(Column::Octets)[0]), (Some(tunnel), Some(1000)));
        let column = if alone { Column::SrcAddr } else { Column::InnerSrcAddr };
        assert_eq!(rows.addresses(column), [Some("10.0.0.9".to_owned())], "{tunnel}");
        // Explicit null, then the pseudowire's label.
        assert_eq!(rows.get(Column::Mpls1), [alone.then_some(2)]);
        assert_eq!(rows.get(Column::TunnelId), [(tunnel == 2).then_some(42)]);
    }
}

#[test]
fn sections_say_where_they_begin_and_what_they_are_of() {
    let row = |fields: &[(u16, u16, u32)], body: &[u8]| {
        let fields = [fields, &[(312, 2, 0), (315, 40, 0)]].concat();
        let rows = one(&fields, &[body, &[3, 232], &IPV4_FRAME, &[0; 2]].concat());
        (rows.get(Column::DstPort)[0], rows.get(Column::Octets)[0], quality_of(&rows) & quality::HEADER_TRUNCATED != 0)
    };
    // dataLinkFrameType: Ethernet, IEEE 802.11.
    assert_eq!(row(&[(408, 2, 0)], &[0, 1]), (Some(80), Some(1000), false));
    assert_eq!(row(&[(408, 2, 0)], &[0, 2]), (Some(0), Some(1000), true));
    // sectionOffset, and sectionExportedOctets of which the ports are no part.
    assert_eq!(row(&[(409, 2, 0)], &[0, 0]), (Some(80), Some(1000), false));
    assert_eq!(row(&[(409, 2, 0)], &[0, 14]), (Some(0), Some(1000), true));
    assert_eq!(row(&[(410, 2, 0)], &[0, 34]), (Some(0), Some(1000), true));
    assert_eq!(row(&[(103, 2, 0)], &[0, 38]), (Some(80), Some(1000), false));
}

#[test]
fn exported_frames_are_sampled_as_options_say() {
    let sets = [
        set(3, &options_template(300, 1, &[(149, 4), (34, 4)])),
        set(300, &octets().u32(1).u32(512).0),
        set(2, &template(256, &[(315, 38, 0)])),
        set(256, &IPV4_FRAME),
    ];
    let rows = Bench::new().decode(&ipfix(1, 0, &sets));
    assert_eq!((rows.get(Column::Packets), rows.get(Column::SamplingDen)), (vec![Some(1)], vec![Some(512)]));
}
