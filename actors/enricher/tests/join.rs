//! The join against real route, name and inventory tables of a small provider.
//!
//!   AS 64601 --(10 | r1 | 11)-- 10.1.0.0/31 --(21 | r2 | 20)-- AS 64602 (transit, to 64700)
//!                                                      | 22)-- exchange 203.0.113.0/24: AS 64603, 64604
//!                                                      | 23)-- customer, own AS, 198.51.100.0/24

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeBinaryArray, Int64Array, RecordBatch, UInt8Array, UInt32Array, UInt64Array,
};
use arrow::datatypes::{ArrowPrimitiveType, UInt8Type, UInt32Type, UInt64Type};
use benocs_enricher::join::{Joined, Joiner};
use benocs_enricher::{Config, CoverageConfig, Enricher};
use benocs_model::Address;
use benocs_model::address::Prefix;
use benocs_model::count::{Reason, Verdict};
use benocs_model::flow::{self, Column, Observation, quality};
use benocs_model::message::{FlowBatch, SourceId, StoreInput};
use benocs_model::names::{self, AnswerRef, NameBatch, NameTable};
use benocs_model::network::{Boundary, Interface, Interfaces, Neighbour, Network, Router};
use benocs_model::route::{Path, Peer, Provenance, RouteBatch, RouteEvent, RouteTable, Segment};
use benocs_model::tables::{TableUpdate, Tables};
use benocs_runtime::{Outbox, Restart, Settings, fatal_channel, spawn};

const OWN: u32 = 64500;
const NOW_MS: i64 = 1_700_000_000_000;

fn address(text: &str) -> Address {
    Address::from(text.parse::<IpAddr>().expect("an address"))
}

fn prefix(text: &str) -> Prefix {
    let (network, len) = text.split_once('/').expect("a prefix");
    Prefix::new(address(network), len.parse().expect("a length"))
}

fn interface(id: u32, exporter: &str, if_index: u32, boundary: Boundary, own: &str) -> Interface {
    let Prefix { len, .. } = prefix(own);
    Interface {
        id,
        exporter: address(exporter),
        if_index,
        name: format!("et-0/0/{if_index}"),
        description: String::new(),
        speed: 100_000_000_000,
        connectivity: 0,
        boundary: boundary as u8,
        provider: None,
        remote_as: None,
        addresses: vec![(address(own.split_once('/').expect("a prefix").0), len)],
        valid_from: 0,
        valid_to: None,
    }
}

fn inventory(tables: &Tables) {
    let router =
        |id, name: &str, own: &str| Router { id, name: name.to_owned(), addresses: vec![address(own)], vendor: None };
    tables.apply(&TableUpdate::Network(Arc::new(Network {
        generation: 1,
        own_as: vec![OWN],
        own_prefixes: vec![prefix("198.51.100.0/22"), prefix("2001:db8::/32")],
        routers: vec![router(1, "r1", "10.0.0.1"), router(2, "r2", "10.0.0.2")],
        neighbours: vec![Neighbour { exporter: address("10.0.0.1"), if_index: 10, remote_as: 64601 }],
    })));
    tables.apply(&TableUpdate::Interfaces(Arc::new(Interfaces {
        generation: 1,
        rows: vec![
            interface(110, "10.0.0.1", 10, Boundary::External, "192.0.2.1/30"),
            interface(111, "10.0.0.1", 11, Boundary::Internal, "10.1.0.0/31"),
            interface(221, "10.0.0.2", 21, Boundary::Internal, "10.1.0.1/31"),
            interface(220, "10.0.0.2", 20, Boundary::External, "192.0.2.5/30"),
            interface(222, "10.0.0.2", 22, Boundary::External, "203.0.113.1/24"),
            interface(223, "10.0.0.2", 23, Boundary::External, "192.0.2.9/30"),
        ],
    })));
}

fn path(next_hop: &str, asns: &[u32]) -> Arc<Path> {
    let segment = Segment { kind: 2, asns: asns.to_vec() };
    Arc::new(Path {
        origin: 0,
        as_path: if asns.is_empty() { Vec::new() } else { vec![segment] },
        next_hop: address(next_hop),
        med: None,
        local_pref: Some(100),
        communities: vec![],
        large_communities: vec![],
        ext_communities: vec![],
        originator_id: None,
        cluster_list: vec![],
        ..Path::default()
    })
}

fn announce(peer: u32, next_hop: &str, asns: &[u32], prefixes: &[&str]) -> RouteEvent {
    let prefixes = prefixes.iter().map(|text| (0, prefix(text))).collect();
    RouteEvent::Announce { peer, path: path(next_hop, asns), prefixes }
}

fn peer(id: u32, own: &str) -> RouteEvent {
    let octets = address(own).v4().expect("a v4 session");
    RouteEvent::PeerUp(Arc::new(Peer {
        id,
        name: format!("r{id}"),
        address: address(own),
        bgp_id: octets,
        remote_as: OWN,
        local_as: OWN,
        reflector: false,
        ..Peer::default()
    }))
}

/// r2 sets itself as next hop towards r1; r1 keeps its neighbour's.
fn routes() -> RouteTable {
    let mut table = RouteTable::new();
    let mut events = vec![peer(1, "10.0.0.1"), peer(2, "10.0.0.2")];
    events.extend([
        announce(1, "192.0.2.2", &[64601, 64650], &["100.64.0.0/16", "2001:db8:f000::/36"]),
        announce(1, "10.0.0.2", &[64602, 64700], &["100.70.0.0/16"]),
        announce(1, "10.0.0.2", &[64603], &["100.71.0.0/16"]),
        announce(1, "10.0.0.2", &[], &["198.51.100.0/24"]),
        announce(2, "10.0.0.1", &[64601, 64650], &["100.64.0.0/16"]),
        announce(2, "192.0.2.6", &[64602, 64700], &["100.70.0.0/16"]),
        announce(2, "203.0.113.7", &[64603], &["100.71.0.0/16"]),
        announce(2, "203.0.113.8", &[64604], &["100.72.0.0/16"]),
        announce(2, "192.0.2.10", &[], &["198.51.100.0/24"]),
    ]);
    table.apply(&RouteBatch { generation: 1, events });
    table.publish();
    table
}

struct Lab {
    joiner: Joiner,
    routes: RouteTable,
    names: NameTable,
    tables: Arc<Tables>,
}

fn lab_with(config: &Config) -> Lab {
    let tables = Arc::new(Tables::default());
    inventory(&tables);
    let routes = routes();
    let names = NameTable::new(names::Settings { names_max: 1000, ..names::Settings::default() });
    Lab { joiner: Joiner::new(config, tables.clone(), routes.reader(), names.reader()), routes, names, tables }
}

fn lab() -> Lab {
    lab_with(&Config::default())
}

#[derive(Clone, Copy)]
struct Flow<'a> {
    exporter: &'a str,
    src: &'a str,
    dst: &'a str,
    in_if: Option<u32>,
    out_if: Option<u32>,
    observation: Observation,
    record_as: Option<(u32, u32)>,
    event: Option<u8>,
    octets: u64,
}

impl Default for Flow<'_> {
    fn default() -> Self {
        Self {
            exporter: "10.0.0.1",
            src: "100.64.1.1",
            dst: "100.70.1.1",
            in_if: Some(10),
            out_if: Some(11),
            observation: Observation::Ingress,
            record_as: None,
            event: None,
            octets: 1000,
        }
    }
}

fn batch(flows: &[Flow<'_>]) -> RecordBatch {
    let addresses = |pick: fn(&Flow<'_>) -> Address| -> ArrayRef {
        let octets = flows.iter().map(|flow| pick(flow).0);
        Arc::new(FixedSizeBinaryArray::try_from_iter(octets).expect("sixteen octets each"))
    };
    let numbers =
        |pick: fn(&Flow<'_>) -> Option<u32>| -> ArrayRef { Arc::new(flows.iter().map(pick).collect::<UInt32Array>()) };
    let rows = flows.len();
    let times = || -> ArrayRef { Arc::new(Int64Array::from(vec![NOW_MS; rows])) };
    RecordBatch::try_from_iter_with_nullable([
        ("time_received", times(), false),
        ("first", times(), false),
        ("last", times(), false),
        ("exporter_addr", addresses(|flow| address(flow.exporter)), false),
        ("in_if", numbers(|flow| flow.in_if), true),
        ("out_if", numbers(|flow| flow.out_if), true),
        (
            "observation",
            Arc::new(UInt8Array::from_iter_values(flows.iter().map(|flow| flow.observation as u8))) as ArrayRef,
            false,
        ),
        ("sampling_num", numbers(|_| Some(1)), false),
        ("sampling_den", numbers(|_| Some(10)), false),
        ("octets", Arc::new(UInt64Array::from_iter_values(flows.iter().map(|flow| flow.octets))), false),
        ("packets", Arc::new(UInt64Array::from(vec![1; rows])), false),
        ("src_addr", addresses(|flow| address(flow.src)), false),
        ("dst_addr", addresses(|flow| address(flow.dst)), false),
        ("record_src_as", numbers(|flow| flow.record_as.map(|(src, _)| src)), true),
        ("record_dst_as", numbers(|flow| flow.record_as.map(|(_, dst)| dst)), true),
        ("event", Arc::new(flows.iter().map(|flow| flow.event).collect::<UInt8Array>()), true),
        ("quality", Arc::new(UInt64Array::from(vec![quality::AFTER_GAP; rows])), false),
    ])
    .expect("columns of one length")
}

/// One value; `None` is null.
fn value<T: ArrowPrimitiveType>(joined: &Joined, column: Column, row: usize) -> Option<T::Native> {
    let array = flow::column(&joined.rows, column)?.as_primitive::<T>();
    array.is_valid(row).then(|| array.value(row))
}

fn number(joined: &Joined, column: Column, row: usize) -> Option<u32> {
    value::<UInt32Type>(joined, column, row)
}

fn has(joined: &Joined, row: usize, bit: u64) -> bool {
    value::<UInt64Type>(joined, Column::Quality, row).expect("never null") & bit != 0
}

fn judged(joined: &Joined, row: usize) -> (Verdict, Reason) {
    let verdict = value::<UInt8Type>(joined, Column::CountVerdict, row).and_then(Verdict::from_code);
    let reason = value::<UInt8Type>(joined, Column::CountReason, row).and_then(Reason::from_code);
    (verdict.expect("a verdict"), reason.expect("a reason"))
}

/// (source AS, handover, next, destination AS).
fn ases(joined: &Joined, row: usize) -> [u32; 4] {
    [Column::SrcAs, Column::HandoverAs, Column::NextAs, Column::DstAs]
        .map(|column| number(joined, column, row).expect("never null"))
}

/// (ingress router, egress router, egress interface).
fn way(joined: &Joined, row: usize) -> [Option<u32>; 3] {
    [Column::IngressRouter, Column::EgressRouter, Column::EgressIfId].map(|column| number(joined, column, row))
}

#[test]
fn a_next_hop_that_hides_the_exit_is_looked_up_again_in_its_own_table() {
    let mut lab = lab();
    let exchange = Flow { dst: "100.71.1.1", ..Flow::default() };
    let joined = lab.joiner.join(&batch(&[Flow::default(), exchange])).expect("joins");
    assert_eq!(ases(&joined, 0), [64650, 64601, 64602, 64700]);
    assert_eq!(way(&joined, 0), [Some(1), Some(2), Some(220)]);
    assert_eq!(ases(&joined, 1), [64650, 64601, 64603, 64603]);
    assert_eq!(way(&joined, 1), [Some(1), Some(2), Some(222)], "the next hop lies in the exchange's subnet");
    assert_eq!((number(&joined, Column::InIfId, 0), number(&joined, Column::OutIfId, 0)), (Some(110), Some(111)));
    assert_eq!(value::<UInt8Type>(&joined, Column::DstPrefixLen, 0), Some(16));
    assert_eq!(value::<UInt8Type>(&joined, Column::Provenance, 0), Some(0x11));
    let next_hop = flow::addresses(&joined.rows["bgp_next_hop"]).expect("addresses")[0];
    assert_eq!(Address(next_hop), address("10.0.0.2"), "as the exporter has it");
    assert!(!has(&joined, 0, quality::EGRESS_UNKNOWN | quality::HANDOVER_GUESSED | quality::ROUTE_FALLBACK));
    assert!(has(&joined, 0, quality::AFTER_GAP), "what the collector said stays");
    assert_eq!(judged(&joined, 0), (Verdict::Counted, Reason::ExternalIngress));
}

#[test]
fn columns_come_in_their_order_with_the_types_of_the_schema() {
    let mut lab = lab();
    let joined = lab.joiner.join(&batch(&[Flow::default()])).expect("joins");
    let mut last = None;
    for field in joined.rows.schema().fields() {
        let column = Column::by_name(field.name()).expect("a column of the flow row");
        assert!(last < Some(column), "{} is out of order", field.name());
        assert_eq!(field.data_type(), &column.data_type());
        last = Some(column);
    }
    assert!(lab.joiner.join(&joined.rows.project(&[0, 1]).expect("two columns")).is_err());
    let again = lab.joiner.join(&joined.rows).expect("what is joined can be joined");
    assert_eq!(again.rows, joined.rows);
}

#[test]
fn the_last_router_on_the_path_is_a_duplicate_with_the_same_ends() {
    let mut lab = lab();
    let second = Flow { exporter: "10.0.0.2", in_if: Some(21), out_if: Some(20), ..Flow::default() };
    let joined = lab.joiner.join(&batch(&[Flow::default(), second])).expect("joins");
    assert_eq!(judged(&joined, 0), (Verdict::Counted, Reason::ExternalIngress));
    assert_eq!(judged(&joined, 1), (Verdict::Duplicate, Reason::InternalTransit));
    assert_eq!(ases(&joined, 0), ases(&joined, 1));
    assert_eq!(way(&joined, 0), way(&joined, 1));
    assert!(has(&joined, 1, quality::HANDOVER_GUESSED), "from the way back");
    assert_eq!(joined.tally.verdict_rows, [1, 1, 0]);
}

#[test]
fn the_only_exporter_counts_what_its_silent_neighbour_let_in() {
    let mut lab = lab();
    let second = Flow { exporter: "10.0.0.2", in_if: Some(21), out_if: Some(20), ..Flow::default() };
    let joined = lab.joiner.join(&batch(&[second])).expect("joins");
    assert_eq!(judged(&joined, 0), (Verdict::Counted, Reason::ExternalEgress));
    let joined = lab.joiner.join(&batch(&[Flow::default(), second])).expect("joins");
    assert_eq!(judged(&joined, 1), (Verdict::Duplicate, Reason::InternalTransit), "now it exports");
}

#[test]
fn customers_are_the_own_as_and_never_zero() {
    let mut lab = lab();
    let to_customer = Flow { dst: "198.51.100.9", ..Flow::default() };
    let from_customer = Flow {
        exporter: "10.0.0.2",
        src: "198.51.100.9",
        dst: "100.64.1.1",
        in_if: Some(23),
        out_if: Some(21),
        ..Flow::default()
    };
    let unrouted = Flow { src: "198.51.102.1", dst: "2001:db8::1", in_if: None, ..Flow::default() };
    let joined = lab.joiner.join(&batch(&[to_customer, from_customer, unrouted])).expect("joins");
    assert_eq!(ases(&joined, 0), [64650, 64601, OWN, OWN]);
    assert_eq!(way(&joined, 0), [Some(1), Some(2), Some(223)]);
    assert_eq!(ases(&joined, 1), [OWN, OWN, 64601, 64650]);
    assert_eq!(way(&joined, 1), [Some(2), Some(1), Some(110)]);
    assert_eq!(ases(&joined, 2)[0], OWN, "in an own prefix");
    assert_eq!(ases(&joined, 2)[3], OWN);
}

#[test]
fn neighbours_come_from_configuration_the_subnet_or_the_way_back() {
    let mut lab = lab();
    let via = |in_if, src| Flow {
        exporter: "10.0.0.2",
        src,
        dst: "198.51.100.9",
        in_if: Some(in_if),
        out_if: Some(23),
        ..Flow::default()
    };
    let flows = [via(20, "100.64.1.1"), via(22, "100.72.0.1"), Flow::default()];
    let joined = lab.joiner.join(&batch(&flows)).expect("joins");
    assert_eq!(ases(&joined, 0), [64650, 64602, OWN, OWN], "one next hop in the subnet, whatever the way back");
    assert!(!has(&joined, 0, quality::HANDOVER_GUESSED));
    assert_eq!(ases(&joined, 1), [64604, 64604, OWN, OWN], "several at the exchange: the way back");
    assert!(has(&joined, 1, quality::HANDOVER_GUESSED));
    assert_eq!(ases(&joined, 2)[1], 64601, "configured");
    assert_eq!(way(&joined, 0), [Some(2), Some(2), Some(223)], "it leaves here: out_if is external");
}

#[test]
fn a_routers_own_records_show_what_its_next_hop_hides() {
    let mut lab = lab();
    // r2 says of itself what it says of its exchange neighbours' prefixes.
    lab.routes.apply(&RouteBatch {
        generation: 2,
        events: vec![
            announce(1, "10.0.0.2", &[64603], &["100.73.0.0/16"]),
            announce(2, "10.0.0.2", &[64603], &["100.73.0.0/16"]),
        ],
    });
    lab.routes.publish();
    let first = Flow { dst: "100.73.0.1", ..Flow::default() };
    let joined = lab.joiner.join(&batch(&[first])).expect("joins");
    assert_eq!(way(&joined, 0), [Some(1), Some(2), None]);
    assert!(has(&joined, 0, quality::EGRESS_UNKNOWN));
    let last = Flow { exporter: "10.0.0.2", in_if: Some(21), out_if: Some(22), ..first };
    let joined = lab.joiner.join(&batch(&[first, last])).expect("joins");
    assert_eq!(way(&joined, 1), [Some(1), Some(2), Some(222)]);
    assert_eq!(way(&joined, 0), way(&joined, 1));
    assert_eq!(ases(&joined, 0), ases(&joined, 1));
}

#[test]
fn what_no_table_knows_is_said_by_the_record_or_flagged() {
    let mut lab = lab();
    let strange = Flow { src: "8.8.8.8", dst: "9.9.9.9", ..Flow::default() };
    let told = Flow { record_as: Some((15169, 0)), ..strange };
    let joined = lab.joiner.join(&batch(&[strange, told])).expect("joins");
    assert_eq!(ases(&joined, 0), [0, 64601, 0, 0]);
    assert!(has(&joined, 0, quality::SRC_ROUTE_MISSING) && has(&joined, 0, quality::DST_ROUTE_MISSING));
    assert!(has(&joined, 0, quality::EGRESS_UNKNOWN));
    assert_eq!(value::<UInt8Type>(&joined, Column::Provenance, 0), Some(0));
    assert_eq!(ases(&joined, 1), [15169, 64601, 0, 0]);
    assert_eq!(value::<UInt8Type>(&joined, Column::Provenance, 1), Some((Provenance::Record as u8) << 4));
    assert!(has(&joined, 1, quality::ROUTE_FALLBACK) && has(&joined, 1, quality::DST_ROUTE_MISSING));
    assert!(!has(&joined, 1, quality::SRC_ROUTE_MISSING));
    assert_eq!(joined.tally.unnamed_octets, 20_000, "scaled by sampling");
}

#[test]
fn another_routers_table_is_a_fallback_and_says_so() {
    let mut lab = lab();
    let only_r2_knows = Flow { dst: "100.72.1.1", ..Flow::default() };
    let joined = lab.joiner.join(&batch(&[only_r2_knows])).expect("joins");
    assert_eq!(ases(&joined, 0)[3], 64604);
    assert_eq!(value::<UInt8Type>(&joined, Column::Provenance, 0), Some(0x13));
    assert!(has(&joined, 0, quality::ROUTE_FALLBACK));
    assert_eq!(way(&joined, 0), [Some(1), Some(2), Some(222)]);
}

#[test]
fn an_exporter_without_any_inventory_counts_each_flow_once() {
    let mut lab = lab();
    let alone = Flow { exporter: "172.16.0.1", in_if: Some(1), out_if: Some(2), ..Flow::default() };
    let out = Flow { observation: Observation::Egress, ..alone };
    let probe = Flow { in_if: Some(0), out_if: Some(0), ..alone };
    let own_traffic = Flow { in_if: Some(0), observation: Observation::Egress, ..alone };
    let event = Flow { event: Some(1), ..alone };
    let joined = lab.joiner.join(&batch(&[out, alone, probe, own_traffic, event])).expect("joins");
    assert_eq!(judged(&joined, 0), (Verdict::Duplicate, Reason::EgressOfIngress));
    assert_eq!(judged(&joined, 1), (Verdict::Counted, Reason::UnknownBoundary));
    assert_eq!(judged(&joined, 2), (Verdict::Counted, Reason::UnknownBoundary));
    assert_eq!(judged(&joined, 3), (Verdict::Counted, Reason::Local));
    assert_eq!(judged(&joined, 4), (Verdict::NotTraffic, Reason::Event));
    assert!(has(&joined, 1, quality::BOUNDARY_UNKNOWN) && has(&joined, 1, quality::INTERFACE_UNKNOWN));
    assert!(!has(&joined, 2, quality::INTERFACE_UNKNOWN), "0 is the device, not an unknown interface");
    assert_eq!(number(&joined, Column::InIfId, 1), None);
    assert_eq!(way(&joined, 1)[0], None, "no router is known by that address");
}

#[test]
fn configured_coverage_is_believed() {
    let rule = CoverageConfig { exporter: "10.0.0.1".parse().expect("an address"), ingress: true, egress: false };
    let mut lab = lab_with(&Config { coverage: vec![rule], ..Config::default() });
    let egress = Flow { observation: Observation::Egress, ..Flow::default() };
    let joined = lab.joiner.join(&batch(&[egress])).expect("joins");
    assert_eq!(judged(&joined, 0), (Verdict::Duplicate, Reason::EgressOfIngress));
}

#[test]
fn servers_are_named_whichever_end_they_are() {
    let mut lab = lab();
    let learn = |names: &mut NameTable, service, server: &str| {
        let mut batch = NameBatch::default();
        batch.push(AnswerRef {
            time_s: (NOW_MS / 1000) as u32 - 5,
            client: Some(address("198.51.100.9")),
            asked: u64::from(service),
            service,
            addresses: &[(address(server), 300)],
            aliases: &[],
        });
        names.apply(&batch);
        names.publish();
    };
    assert!(!lab.joiner.names_expected());
    learn(&mut lab.names, 7, "100.64.1.1");
    assert!(lab.joiner.names_expected());
    let answer = Flow { dst: "198.51.100.9", ..Flow::default() };
    let request = Flow {
        exporter: "10.0.0.2",
        src: "198.51.100.9",
        dst: "100.64.1.1",
        in_if: Some(23),
        out_if: Some(21),
        ..Flow::default()
    };
    let other = Flow { src: "100.64.2.2", ..answer };
    let joined = lab.joiner.join(&batch(&[answer, other, request])).expect("joins");
    let services: Vec<_> = (0..3).map(|row| number(&joined, Column::ServiceId, row)).collect();
    assert_eq!(services, [Some(7), None, Some(7)]);
    assert_eq!((joined.tally.named_octets, joined.tally.unnamed_octets), (20_000, 10_000));

    learn(&mut lab.names, 8, "100.64.1.1");
    let joined = lab.joiner.join(&batch(&[answer])).expect("joins");
    assert!(has(&joined, 0, quality::SERVICE_AMBIGUOUS));
    assert_eq!(joined.tally.ambiguous_octets, 10_000);
}

#[test]
fn paths_are_told_once_and_changed_tables_are_seen() {
    let mut lab = lab();
    let joined = lab.joiner.join(&batch(&[Flow::default()])).expect("joins");
    let told: Vec<u64> = joined.paths.iter().map(|entry| entry.hash).collect();
    let hash = value::<UInt64Type>(&joined, Column::PathHash, 0).expect("a route");
    assert!(told.contains(&hash));
    assert!(lab.joiner.join(&batch(&[Flow::default()])).expect("joins").paths.is_empty());

    lab.routes.apply(&RouteBatch {
        generation: 2,
        events: vec![announce(1, "192.0.2.2", &[64601, 64777], &["100.70.0.0/16"])],
    });
    lab.routes.publish();
    let joined = lab.joiner.join(&batch(&[Flow::default()])).expect("joins");
    assert_eq!(ases(&joined, 0), [64650, 64601, 64601, 64777]);
    assert_eq!(joined.paths.len(), 1);

    let mut interfaces = benocs_model::network::Interfaces::clone(&lab.tables.interfaces.load());
    interfaces.generation = 2;
    interfaces.rows[0].id = 999;
    lab.tables.apply(&TableUpdate::Interfaces(Arc::new(interfaces)));
    let joined = lab.joiner.join(&batch(&[Flow::default()])).expect("joins");
    assert_eq!(number(&joined, Column::InIfId, 0), Some(999));
}

#[test]
fn an_empty_batch_stays_one() {
    let mut lab = lab();
    let joined = lab.joiner.join(&batch(&[Flow::default()]).slice(0, 0)).expect("joins");
    assert_eq!(joined.rows.num_rows(), 0);
    assert!(joined.rows.column_by_name("count_verdict").is_some());
}

#[test]
fn the_actor_keeps_order_and_drains_what_waits() {
    benocs_runtime::block_on(async {
        let tables = Arc::new(Tables::default());
        inventory(&tables);
        let mut names = NameTable::new(names::Settings { names_max: 1000, ..names::Settings::default() });
        names.publish();
        let (store, stored) = Outbox::channel(64);
        let (aggregator, aggregated) = Outbox::channel(64);
        let (fatal, mut ended) = fatal_channel();
        let settings =
            Settings { name: "enricher", capacity: 64, tick: Duration::from_millis(10), restart: Restart::Never };
        let (routes, names) = (routes(), names);
        let (route_reader, name_reader) = (routes.reader(), names.reader());
        let handle = spawn(settings, fatal, move || {
            let config = Config { dns_wait_ms: 3_600_000, ..Config::default() };
            Ok(Enricher::new(
                &config,
                tables.clone(),
                route_reader.clone(),
                name_reader.clone(),
                store.clone(),
                aggregator.clone(),
            ))
        });
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
        let fresh: ArrayRef = Arc::new(Int64Array::from(vec![now.as_millis() as i64]));
        let rows = batch(&[Flow::default()]);
        let mut columns = rows.columns().to_vec();
        columns[0] = fresh;
        let rows = RecordBatch::try_new(rows.schema(), columns).expect("same types");
        for seq in 0..5 {
            let batch = FlowBatch { source: SourceId(1), seq, rows: rows.clone() };
            handle.outbox.send(batch).await.expect("open");
        }
        assert!(handle.drain(Duration::from_secs(20)).await, "drains");
        let mut seqs = Vec::new();
        let mut paths_first = None;
        while let Ok(input) = stored.try_recv() {
            match input {
                StoreInput::Flows(batch) => seqs.push(batch.seq),
                StoreInput::Table(_) => {
                    paths_first.get_or_insert(seqs.is_empty());
                }
                StoreInput::Rollups(_) | StoreInput::Copied(_) => panic!("the enricher sums and copies nothing"),
            }
        }
        assert_eq!(seqs, [0, 1, 2, 3, 4]);
        assert_eq!(paths_first, Some(true), "paths come before the rows that refer to them");
        let mut summed = Vec::new();
        while let Ok(batch) = aggregated.try_recv() {
            assert!(batch.rows.column_by_name("count_verdict").is_some());
            summed.push(batch.seq);
        }
        assert_eq!(summed, [0, 1, 2, 3, 4]);
        assert!(ended.try_recv().is_err());
    });
}
