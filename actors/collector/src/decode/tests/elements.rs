//! Elements beyond the fixed ones: names in options, lists, what is mapped and
//! what is not, and whether the registry has what exporters send.

use std::collections::BTreeSet;

use benocs_model::flow::Column;
use benocs_model::network::{Label, LabelKind};
use benocs_wire::element::{self, Id};

use super::message::{ipfix, netflow9, octets, options_template, set, template};
use super::{Bench, cases, datagrams, samples};
use crate::decode::{Config, MapConfig, Shared};

const CERT: u32 = 6871;
const REVERSE: u32 = 29305;

fn labels(shared: &Shared) -> Vec<(u8, u64, String, String)> {
    let row = |row: Label| (row.kind, row.number, row.name, row.description);
    shared.labels().rows.into_iter().map(row).collect()
}

fn named(kind: LabelKind, number: u64, name: &str, description: &str) -> (u8, u64, String, String) {
    (kind as u8, number, name.to_owned(), description.to_owned())
}

/// A text in a field of fixed length.
fn fixed(text: &str, length: usize) -> Vec<u8> {
    let mut octets = text.as_bytes().to_vec();
    octets.resize(length, 0);
    octets
}

/// Options of version 9: a scope of the whole system, then these.
fn options_9(id: u16, fields: &[(u16, u16)]) -> Vec<u8> {
    let head = octets().u16(id).u16(4).u16(fields.len() as u16 * 4).u16(1).u16(4);
    fields.iter().fold(head, |octets, (element, length)| octets.u16(*element).u16(*length)).0
}

#[test]
fn options_of_version_9_name_interfaces_vrfs_and_applications() {
    let mut bench = Bench::new();
    // Cisco: interface-table, vrf-table, application-table.
    let tables = [options_9(300, &[(10, 4), (82, 12), (83, 16)]), options_9(301, &[(234, 4), (236, 8)])];
    let applications = options_9(302, &[(95, 4), (96, 8), (94, 16)]);
    let interface = [&[0, 0, 0, 1, 0, 0, 0, 7][..], &fixed("Gi0/7", 12), &fixed("GigabitEthernet0", 16)].concat();
    let vrf = [&[0, 0, 0, 1, 0, 0, 0, 3][..], &fixed("customer", 8)].concat();
    let application = [&[0, 0, 0, 1, 3, 0, 0, 80][..], &fixed("http", 8), &fixed("World Wide Web ", 16)].concat();
    bench.feed(&netflow9(0, 0, 1, &[set(1, &[&tables[0][..], &tables[1], &applications].concat())]));
    bench.feed(&netflow9(0, 1, 1, &[set(300, &interface), set(301, &vrf), set(302, &application)]));
    assert_eq!(
        labels(&bench.shared),
        [
            named(LabelKind::Interface, 7, "Gi0/7", "GigabitEthernet0"),
            named(LabelKind::Vrf, 3, "customer", ""),
            named(LabelKind::Application, 3 << 56 | 80, "http", "World Wide Web"),
        ]
    );
    let names = bench.status().names;
    assert_eq!((names["interface"], names["vrf"], names["application"]), (1, 1, 1));
    // The record's application id is the same number, whatever its width.
    let data = octets().u32(1).raw(&[3, 0, 0, 0, 80]).0;
    let rows = bench.decode(&netflow9(0, 2, 1, &[set(0, &template(256, &[(1, 4, 0), (95, 5, 0)])), set(256, &data)]));
    assert_eq!(rows.get(Column::ApplicationId), [Some(3 << 56 | 80)]);
    // Saying the same again is nothing new.
    let generation = bench.shared.labels_generation();
    bench.feed(&netflow9(0, 3, 1, &[set(300, &interface), set(301, &vrf), set(302, &application)]));
    assert_eq!(bench.shared.labels_generation(), generation);
}

#[test]
fn options_of_ipfix_name_by_every_scope_and_in_variable_length() {
    for scope in [10, 14, 252, 253] {
        let mut bench = Bench::new();
        let name = [&[0, 9, 8][..], b"et-0/0/1", &[3], b"abc"].concat();
        let options = set(3, &options_template(300, 1, &[(scope, 2), (82, 65535), (83, 65535)]));
        bench.feed(&ipfix(1, 0, &[options, set(300, &name)]));
        assert_eq!(labels(&bench.shared), [named(LabelKind::Interface, 9, "et-0/0/1", "abc")], "{scope}");
    }
}

const VRFS: &[(u16, u16)] = &[(235, 4), (236, 4)];

#[test]
fn redefined_and_withdrawn_options_take_their_names_back() {
    for goodbye in [options_template(300, 1, &[(235, 4), (236, 6)]), template(300, &[])] {
        let mut bench = Bench::new();
        let vrfs = octets().u32(1).raw(b"red\0").u32(2).raw(b"blue").0;
        bench.feed(&ipfix(1, 0, &[set(3, &options_template(300, 1, VRFS)), set(300, &vrfs)]));
        assert_eq!(labels(&bench.shared).len(), 2);
        let generation = bench.shared.labels_generation();
        bench.feed(&ipfix(1, 2, &[set(3, &goodbye)]));
        assert_eq!(labels(&bench.shared), []);
        assert!(bench.shared.labels_generation() > generation && bench.status().names.is_empty());
    }
}

#[test]
fn names_of_a_hostile_exporter_are_bounded_and_counted() {
    let vrfs =
        |from: u32, count: u32| (from..from + count).fold(octets(), |octets, number| octets.u32(number).raw(b"name")).0;
    let mut bench = Bench::with(Config { labels_max: 10, labels_octets_total_max: 1500, ..Config::default() });
    let options = set(3, &options_template(300, 1, VRFS));
    bench.feed(&ipfix(1, 0, &[options.clone(), set(300, &vrfs(0, 15))]));
    assert_eq!((labels(&bench.shared).len(), bench.status().errors["options_limit"]), (10, 5));
    // All domains and exporters share the octets: 100 of them a name.
    bench.feed(&ipfix(2, 0, &[options.clone(), set(300, &vrfs(100, 15))]));
    assert_eq!(labels(&bench.shared).len(), 15);
    // What is taken back makes room again.
    bench.feed(&ipfix(1, 15, &[set(3, &template(300, &[]))]));
    bench.feed(&ipfix(3, 0, &[options, set(300, &vrfs(200, 15))]));
    assert_eq!(labels(&bench.shared).len(), 15);
}

#[test]
fn names_survive_a_restart() {
    let mut bench = Bench::new();
    let vrfs = octets().u32(1).raw(b"red\0").0;
    bench.feed(&ipfix(1, 0, &[set(3, &options_template(300, 1, VRFS)), set(300, &vrfs)]));
    let again = Shared::new(Config::default(), bench.shared.exporters());
    let generation = again.labels_generation();
    for domain in bench.shared.take_changes() {
        again.restore(domain);
    }
    assert_eq!(labels(&again), [named(LabelKind::Vrf, 1, "red", "")]);
    assert!(again.labels_generation() > generation);
}

/// The flags of YAF: a template of their own, in a subTemplateMultiList.
fn yaf(list: &[u8]) -> (Bench, super::Rows) {
    let flags = [(14, 1, CERT), (15, 1, CERT), (14 | 0x4000, 1, CERT), (15 | 0x4000, 1, CERT)];
    let outer = [(8, 4, 0), (12, 4, 0), (1, 4, 0), (1, 4, REVERSE), (293, 65535, 0)];
    let mut body = octets().raw(&[10, 0, 0, 1]).raw(&[10, 0, 0, 2]).u32(100).u32(900).u8(list.len() as u8).raw(list).0;
    body.extend(octets().raw(&[10, 0, 0, 3]).raw(&[10, 0, 0, 4]).u32(5).u32(0).u8(1).u8(3).0);
    let mut bench = Bench::new();
    let templates = [template(256, &outer), template(257, &flags), template(258, &[(1, 0, 0), (2, 4, 0)])];
    let rows = bench.decode(&ipfix(1, 0, &[set(2, &templates.concat()), set(256, &body)]));
    (bench, rows)
}

#[test]
fn tcp_flags_are_taken_from_lists_in_both_directions() {
    let (_, rows) = yaf(&[3, 1, 1, 0, 8, 0x02, 0x18, 0x12, 0x11]);
    assert_eq!(rows.get(Column::Octets), [Some(100), Some(5), Some(900)]);
    assert_eq!(rows.get(Column::TcpFlags), [Some(0x1a), None, Some(0x13)]);
    assert_eq!(rows.addresses(Column::SrcAddr)[2], Some("10.0.0.2".to_owned()));
}

#[test]
fn lists_that_cannot_be_never_lose_the_outer_record() {
    // Of no size, of a length that ends nothing, of a template that is not there, of itself, of nothing.
    for list in [
        &[][..],
        &[3, 1, 1, 0, 0],
        &[3, 1, 1, 0, 3, 1, 2],
        &[3, 1, 1, 0, 4],
        &[3, 1, 1, 255, 255, 1],
        &[3, 9, 9, 0, 6, 1, 2],
        &[3, 1, 0, 0, 6, 1, 2],
        &[3, 1, 2, 0, 5, 1],
        &[3, 1, 1],
    ] {
        let (bench, rows) = yaf(list);
        assert_eq!(rows.get(Column::Octets), [Some(100), Some(5), Some(900)], "{list:?}");
        assert!(rows.get(Column::TcpFlags).iter().all(Option::is_none), "{list:?}");
        assert_eq!(bench.status().errors.len(), 0, "{list:?}");
    }
    // A list of fixed length, and basicLists of enterprises.
    let fields = [(1, 4, 0), (291, 9, 0), (2, 4, 0), (291, 65535, 0)];
    let body = octets().u32(7).raw(&[3, 0x80, 1, 0, 1, 0, 0, 0, 9]).u32(2).raw(&[6, 3, 0, 6, 0, 1, 0x10]).0;
    let rows = Bench::new().decode(&ipfix(1, 0, &[set(2, &template(256, &fields)), set(256, &body)]));
    let row = (rows.get(Column::Octets)[0], rows.get(Column::Packets)[0], rows.get(Column::TcpFlags)[0]);
    assert_eq!(row, (Some(7), Some(2), Some(0x10)));
}

#[test]
fn elements_without_a_column_are_counted_by_number_and_name() {
    let mut bench = Bench::with(Config { unmapped_max: 3, ..Config::default() });
    let fields = [(1, 4, 0), (12_232, 65535, 9), (136, 1, 0), (210, 1, 0), (7, 4, 64_512), (8, 4, 64_512)];
    let record = octets().u32(5).u8(2).raw(b"ab").raw(&[1, 0]).u32(1).u32(2).0;
    let sets = [set(2, &template(256, &fields)), set(256, &[record.clone(), record].concat())];
    bench.feed(&ipfix(1, 0, &sets));
    // Another template with one of them, and options.
    let options = set(3, &options_template(300, 1, &[(144, 4), (34, 4)]));
    bench.feed(&ipfix(1, 2, &[set(2, &template(257, &[(1, 4, 0), (136, 1, 0)])), set(257, &[0, 0, 0, 1, 3]), options]));
    let unmapped: Vec<_> =
        bench.status().unmapped.into_iter().map(|one| (one.element, one.name, one.records)).collect();
    let one = |element: &str, name: Option<&str>, records| (element.to_owned(), name.map(str::to_owned), records);
    assert_eq!(
        unmapped,
        [
            one("136", Some("flowEndReason"), 3),
            one("9/12232", Some("applicationCategoryName"), 2),
            one("64512/7", None, 2),
            one("others", None, 2),
        ]
    );
    // A template that is gone does not take its counts with it.
    bench.feed(&ipfix(1, 3, &[set(2, &template(256, &[]))]));
    assert_eq!(bench.status().unmapped.len(), 4);
}

fn mapped(maps: &[(&str, &str)]) -> Bench {
    let map =
        |(element, column): &(&str, &str)| MapConfig { element: (*element).to_owned(), column: (*column).to_owned() };
    let config = Config { map: maps.iter().map(map).collect(), ..Config::default() };
    assert_eq!(config.check(), Ok(()));
    Bench::with(config)
}

#[test]
fn mapped_elements_fill_their_columns() {
    let mut bench = mapped(&[
        ("64512/1", "application_id"),
        ("64512/2", "src_vlan"),
        ("64512/3", "src_addr"),
        ("postOctetDeltaCount", "octets"),
        ("64512/9", "octets"),
    ]);
    let fields =
        [(8, 4, 0), (12, 4, 0), (1, 4, 0), (23, 4, 0), (58, 2, 0), (1, 3, 64_512), (2, 2, 64_512), (3, 16, 64_512)];
    let v6 = [&[0x20, 1, 0x0d, 0xb8][..], &[0; 11], &[5]].concat();
    let body = octets().raw(&[10, 0, 0, 1]).raw(&[10, 0, 0, 2]).u32(100).u32(90).u16(7).raw(&[3, 0, 80]).u16(8);
    let rows = bench.decode(&ipfix(1, 0, &[set(2, &template(256, &fields)), set(256, &body.raw(&v6).0)]));
    assert_eq!(rows.addresses(Column::SrcAddr), [Some("2001:db8::5".to_owned())]);
    assert_eq!(rows.addresses(Column::DstAddr), [Some("10.0.0.2".to_owned())]);
    assert_eq!((rows.get(Column::Octets), rows.get(Column::SrcVlan)), (vec![Some(90)], vec![Some(8)]));
    assert_eq!(rows.get(Column::ApplicationId), [Some(3 << 56 | 80)]);
    assert!(bench.status().unmapped.is_empty(), "{:?}", bench.status().unmapped);
}

#[test]
fn mapped_elements_are_turned_in_the_other_direction() {
    let mut bench = mapped(&[("64512/2", "src_vlan"), ("reverseFlowEndReason", "forwarding_status")]);
    let fields = [(8, 4, 0), (12, 4, 0), (1, 4, 0), (1, 4, REVERSE), (2, 2, 64_512), (136, 1, REVERSE)];
    let body = octets().raw(&[10, 0, 0, 1]).raw(&[10, 0, 0, 2]).u32(100).u32(900).u16(8).u8(3).0;
    let rows = bench.decode(&ipfix(1, 0, &[set(2, &template(256, &fields)), set(256, &body)]));
    assert_eq!((rows.get(Column::SrcVlan), rows.get(Column::DstVlan)), (vec![Some(8), None], vec![None, Some(8)]));
    assert_eq!(rows.get(Column::ForwardingStatus), [None, Some(3)]);
}

/// Elements in the samples' templates that no registry has: padding by number 0, one that IANA leaves to
/// version 9, Huawei's and ntop's newer ones, and Masaryk University's.
const UNKNOWN: &[(u32, u16)] = &[
    (0, 0),
    (0, 65),
    (2011, 232),
    (2011, 701),
    (2011, 702),
    (2011, 703),
    (2011, 704),
    (16_982, 500),
    (16_982, 501),
    (16_982, 502),
    (16_982, 504),
    (16_982, 505),
    (16_982, 506),
    (16_982, 507),
    (35_632, 489),
    (35_632, 490),
    (35_632, 493),
    (35_632, 494),
    (35_632, 495),
];

#[test]
fn every_element_of_the_samples_templates_is_in_the_registry_or_known_not_to_be() {
    let Some(samples) = samples() else { return };
    let (mut seen, mut unknown) = (BTreeSet::new(), BTreeSet::new());
    for (_, files) in cases(&samples) {
        let mut bench = Bench::new();
        for (source, received_ms, payload) in files.iter().flat_map(|file| datagrams(file)) {
            bench.feed_at(source, received_ms, &payload);
        }
        for id in bench.shared.template_elements() {
            seen.insert(id);
            if element::find(id).is_none() {
                unknown.insert((id.enterprise, id.number));
            }
        }
    }
    assert!(seen.len() > 200, "{}", seen.len());
    assert_eq!(unknown, UNKNOWN.iter().copied().collect(), "of {}", seen.len());
    assert!(seen.contains(&Id { enterprise: CERT, number: 14 }), "the flags of YAF are among them");
}
