//! Corner cases that real exporters produce, by name.

use benocs_model::flow::{Column, quality};

use super::message::{ipfix, netflow5, netflow9, octets, options_template, set, template};
use super::{Bench, NOW, router};
use crate::decode::{Config, ExporterConfig, Protocol};

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
