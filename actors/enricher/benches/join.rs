//! CPU time of the join: ten routers of 100,000 routes each that set themselves as
//! next hop, so that most rows are looked up twice; 200,000 names; batches of 4,096.

use std::sync::Arc;

use arrow::array::{ArrayRef, FixedSizeBinaryArray, Int64Array, RecordBatch, UInt8Array, UInt32Array, UInt64Array};
use benocs_enricher::Config;
use benocs_enricher::join::Joiner;
use benocs_model::Address;
use benocs_model::address::Prefix;
use benocs_model::names::{AnswerRef, NameBatch, NameTable, Settings};
use benocs_model::network::{Boundary, Interface, Interfaces, Network, Router};
use benocs_model::route::{Path, Peer, RouteBatch, RouteEvent, RouteTable, Segment};
use benocs_model::tables::{TableUpdate, Tables};

const ROWS: usize = 4096;
const BATCHES: usize = 245;
const ROUTERS: u32 = 10;
const PREFIXES: u32 = 100_000;
const NAMES: u32 = 200_000;
const NOW_MS: i64 = 1_700_000_000_000;

fn main() {
    divan::main();
}

/// A sequence that is the same in every run.
fn next(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

fn router(id: u32) -> Address {
    Address::from_v4([10, 0, 0, id as u8])
}

/// The n-th prefix, a /22.
fn prefix(n: u32) -> Address {
    Address::from_v4(((20 << 24) + n * 1024).to_be_bytes())
}

fn inventory(tables: &Tables) {
    let routers =
        (1..=ROUTERS).map(|id| Router { id, name: String::new(), addresses: vec![router(id)], vendor: None }).collect();
    let network = Network { generation: 1, own_as: vec![64500], routers, ..Network::default() };
    tables.apply(&TableUpdate::Network(Arc::new(network)));
    let interface = |id: u32, if_index: u32| Interface {
        id: id * 100 + if_index,
        exporter: router(id),
        if_index,
        name: String::new(),
        description: String::new(),
        speed: 0,
        connectivity: 0,
        boundary: if if_index.is_multiple_of(4) { Boundary::Internal } else { Boundary::External } as u8,
        provider: None,
        remote_as: None,
        addresses: vec![(Address::from_v4([172, 16 + id as u8, if_index as u8, 1]), 30)],
        valid_from: 0,
        valid_to: None,
    };
    let rows = (1..=ROUTERS).flat_map(|id| (1..=40).map(move |if_index| (id, if_index)));
    let rows = rows.map(|(id, if_index)| interface(id, if_index)).collect();
    tables.apply(&TableUpdate::Interfaces(Arc::new(Interfaces { generation: 1, rows })));
}

/// Prefix n leaves at router n % ROUTERS + 1; every other router names that one as next hop.
fn routes() -> RouteTable {
    let mut table = RouteTable::new();
    for id in 1..=ROUTERS {
        let peer = Peer {
            id,
            name: String::new(),
            address: router(id),
            bgp_id: [10, 0, 0, id as u8],
            remote_as: 64500,
            local_as: 64500,
            reflector: false,
            ..Peer::default()
        };
        let mut events = vec![RouteEvent::PeerUp(Arc::new(peer))];
        for n in 0..PREFIXES {
            let exit = n % ROUTERS + 1;
            let port = [172, 16 + exit as u8, (n % 40 + 1) as u8, 2];
            let path = Path {
                origin: 0,
                as_path: vec![Segment { kind: 2, asns: vec![64600 + n % 40, 65000 + n % 7, 1000 + n / 50] }],
                next_hop: if exit == id { Address::from_v4(port) } else { router(exit) },
                med: None,
                local_pref: Some(100),
                communities: vec![n % 90],
                large_communities: vec![],
                ext_communities: vec![],
                originator_id: None,
                cluster_list: vec![],
                ..Path::default()
            };
            let prefixes = vec![(0, Prefix::new(prefix(n), 22))];
            events.push(RouteEvent::Announce { peer: id, path: Arc::new(path), prefixes });
        }
        table.apply(&RouteBatch { generation: u64::from(id), events });
    }
    table.publish();
    table
}

fn names() -> NameTable {
    let mut table = NameTable::new(Settings::default());
    let mut batch = NameBatch::default();
    for n in 0..NAMES {
        batch.push(AnswerRef {
            time_s: (NOW_MS / 1000) as u32 - 10,
            client: None,
            asked: u64::from(n),
            service: n % 500 + 1,
            addresses: &[(host(n), 300)],
            aliases: &[],
        });
    }
    table.apply(&batch);
    table.publish();
    table
}

fn host(n: u32) -> Address {
    let base = u32::from_be_bytes(prefix(n % PREFIXES).v4().expect("v4"));
    Address::from_v4((base + 1 + n % 1000).to_be_bytes())
}

/// `skew` 1 picks hosts evenly, which no cache likes; 3 as real traffic does: a tenth of them in half of the rows.
fn batches(skew: i32) -> Vec<RecordBatch> {
    let mut state = 0x2545_f491_4f6c_dd1d;
    (0..BATCHES)
        .map(|_| {
            let picks: Vec<u64> = (0..ROWS).map(|_| next(&mut state)).collect();
            let addresses = |shift: u32| -> ArrayRef {
                let share = |pick: u64| f64::from((pick >> shift) as u32 & 0xf_ffff) / f64::from(1 << 20);
                let hosts = picks.iter().map(|pick| host((share(*pick).powi(skew) * f64::from(NAMES)) as u32).0);
                Arc::new(FixedSizeBinaryArray::try_from_iter(hosts).expect("16 each"))
            };
            let numbers = |of: &dyn Fn(u64) -> u32| -> ArrayRef {
                Arc::new(UInt32Array::from_iter_values(picks.iter().map(|pick| of(*pick))))
            };
            let times: ArrayRef = Arc::new(Int64Array::from(vec![NOW_MS; ROWS]));
            let columns: Vec<(&str, ArrayRef)> = vec![
                ("time_received", times.clone()),
                ("first", times.clone()),
                ("last", times),
                // A datagram holds some twenty rows of one exporter.
                ("exporter_addr", {
                    let exporters = (0..ROWS).map(|at| router((at as u32 / 20) % ROUTERS + 1).0);
                    Arc::new(FixedSizeBinaryArray::try_from_iter(exporters).expect("16 each"))
                }),
                ("in_if", numbers(&|pick| (pick >> 8) as u32 % 40 + 1)),
                ("out_if", numbers(&|pick| (pick >> 16) as u32 % 10 * 4 + 4)),
                ("observation", Arc::new(UInt8Array::from(vec![0; ROWS]))),
                ("sampling_num", numbers(&|_| 1)),
                ("sampling_den", numbers(&|_| 1000)),
                ("octets", Arc::new(UInt64Array::from(vec![1000; ROWS]))),
                ("src_addr", addresses(20)),
                ("dst_addr", addresses(40)),
                ("quality", Arc::new(UInt64Array::from(vec![0; ROWS]))),
            ];
            RecordBatch::try_from_iter(columns).expect("columns of one length")
        })
        .collect()
}

/// A million rows joined.
#[divan::bench(args = [1, 3], sample_count = 5)]
fn million_rows(bencher: divan::Bencher, skew: i32) {
    let tables = Arc::new(Tables::default());
    inventory(&tables);
    let (routes, names) = (routes(), names());
    let mut joiner = Joiner::new(&Config::default(), tables, routes.reader(), names.reader());
    let batches = batches(skew);
    bencher.counter(divan::counter::ItemsCount::new(ROWS * BATCHES)).bench_local(|| {
        for batch in &batches {
            divan::black_box(joiner.join(batch).expect("joins"));
        }
    });
}
