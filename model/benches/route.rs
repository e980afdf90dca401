//! The route table with ten peers of 1.0 M IPv4 and 0.2 M IPv6 prefixes: built, looked up, updated, lost.

use std::sync::{Arc, LazyLock, Mutex};

use benocs_model::Address;
use benocs_model::address::Prefix;
use benocs_model::route::{Path, Peer, RouteBatch, RouteEvent, RouteReader, RouteTable, Segment};
use divan::Bencher;
use divan::counter::ItemsCount;

const PEERS: u32 = 10;
const V4: usize = 1_000_000;
const V6: usize = 200_000;
const PATHS: u64 = 60_000;

/// Small and repeatable (xorshift64*).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

/// Lengths as in the internet's table: 60 % of IPv4 are /24, 45 % of IPv6 are /48.
fn prefixes() -> Vec<Prefix> {
    let mut random = Random(1);
    let mut list = Vec::with_capacity(V4 + V6);
    let mut seen = std::collections::HashSet::new();
    while list.len() < V4 {
        let len = match random.below(100) {
            0..60 => 24,
            60..72 => 22 + random.below(2) as u8,
            72..94 => 19 + random.below(3) as u8,
            94..99 => 16 + random.below(3) as u8,
            _ => 12 + random.below(4) as u8,
        };
        let bits = 0x0100_0000 + random.below(0xdf00_0000 - 0x0100_0000) as u32;
        let prefix = Prefix::new(Address::from_v4(bits.to_be_bytes()), len);
        if seen.insert(prefix) {
            list.push(prefix);
        }
    }
    while list.len() < V4 + V6 {
        let len = match random.below(100) {
            0..45 => 48,
            45..60 => 32,
            60..85 => 36 + 4 * random.below(3) as u8,
            _ => 29 + random.below(12) as u8,
        };
        // Registries give /32s next to each other, holders announce parts of theirs.
        let site = random.below(40_000) << 16 | random.below(0x1_0000) & 0xff0f;
        let bits = u128::from(0x2a00_0000_0000_0000 | site << 16) << 64;
        let prefix = Prefix::new(Address(bits.to_be_bytes()), len);
        if seen.insert(prefix) {
            list.push(prefix);
        }
    }
    list
}

fn path(peer: u32, number: u64) -> Arc<Path> {
    let mut random = Random(number + 1);
    let mut asns: Vec<u32> = (0..2 + random.below(4)).map(|_| 1 + random.below(75_000) as u32).collect();
    asns.insert(0, 3_000 + random.below(40) as u32);
    // One in twenty paths is the peer's own.
    let own = if random.below(20) == 0 { peer } else { 0 };
    Arc::new(Path {
        origin: 0,
        as_path: vec![Segment { kind: 2, asns }],
        next_hop: Address::from_v4([192, 0, 2, (own * 20 + random.below(20) as u32) as u8]),
        med: None,
        local_pref: Some(100),
        communities: (0..random.below(4)).map(|n| 3_000 << 16 | n as u32).collect(),
        large_communities: Vec::new(),
        ext_communities: Vec::new(),
        originator_id: None,
        cluster_list: Vec::new(),
        ..Path::default()
    })
}

fn peer_up(id: u32) -> RouteEvent {
    RouteEvent::PeerUp(Arc::new(Peer {
        id,
        name: format!("r{id}"),
        address: Address::from_v4([10, 0, 0, id as u8]),
        bgp_id: [10, 0, 0, id as u8],
        remote_as: 64_500,
        local_as: 64_500,
        reflector: false,
        ..Peer::default()
    }))
}

/// All of a peer's routes, a few of a path an event, as they come in messages.
fn table_of(peer: u32, prefixes: &[Prefix]) -> Vec<RouteBatch> {
    let mut by_path: std::collections::BTreeMap<u64, Vec<(u32, Prefix)>> = std::collections::BTreeMap::new();
    for (number, prefix) in prefixes.iter().enumerate() {
        // Prefixes of one holder share a path; one in twenty differs from peer to peer.
        let mut random = Random(number as u64 / 8 + 7);
        let differs = random.below(20) == 0;
        let choice = random.below(PATHS) + if differs { u64::from(peer) * PATHS } else { 0 };
        by_path.entry(choice).or_default().push((0, *prefix));
    }
    let events: Vec<RouteEvent> = by_path
        .into_iter()
        .map(|(number, prefixes)| RouteEvent::Announce { peer, path: path(peer, number), prefixes })
        .collect();
    let mut batches = vec![RouteBatch { generation: 0, events: vec![peer_up(peer)] }];
    batches.extend(events.chunks(256).map(|events| RouteBatch { generation: 0, events: events.to_vec() }));
    batches
}

static PREFIXES: LazyLock<Vec<Prefix>> = LazyLock::new(prefixes);

fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    text.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or(0) * 4096
}

/// The full table, built once, with what building it cost.
static FULL: LazyLock<(Mutex<RouteTable>, RouteReader)> = LazyLock::new(|| {
    LazyLock::force(&PREFIXES);
    let before = resident();
    let mut table = RouteTable::new();
    let mut spent = std::time::Duration::ZERO;
    let mut routes = 0;
    for peer in 0..PEERS {
        let batches = table_of(peer, &PREFIXES);
        let started = std::time::Instant::now();
        for (number, batch) in batches.iter().enumerate() {
            routes += table.apply(batch).announced;
            if number % 16 == 0 {
                table.publish();
            }
        }
        spent += started.elapsed();
    }
    table.publish();
    let rate = routes as f64 / spent.as_secs_f64() / 1e6;
    eprintln!(
        "{routes} routes of {PEERS} peers: {rate:.2} M/s, {} MB resident more, {} MB structure, {} paths",
        (resident() - before) >> 20,
        table.octets() >> 20,
        table.paths(),
    );
    let reader = table.reader();
    (Mutex::new(table), reader)
});

fn addresses(count: usize, v6: bool, any: bool) -> Vec<[u8; 16]> {
    let mut random = Random(99);
    let range = if v6 { V4..V4 + V6 } else { 0..V4 };
    let prefixes = &PREFIXES[range];
    (0..count)
        .map(|_| {
            if any && !v6 {
                return Address::from_v4((0x0100_0000 + random.below(0xde00_0000) as u32).to_be_bytes()).0;
            }
            let prefix = prefixes[random.below(prefixes.len() as u64) as usize];
            let host = if v6 { u128::MAX >> prefix.len } else { u128::from(u32::MAX >> prefix.len) };
            let bits = u128::from(random.next()) << 64 | u128::from(random.next());
            (u128::from_be_bytes(prefix.address.0) | bits & host).to_be_bytes()
        })
        .collect()
}

const LOOKUPS: usize = 1 << 20;

fn look_up(bencher: Bencher<'_, '_>, addresses: &[[u8; 16]]) {
    let (_, reader) = &*FULL;
    let mut out = Vec::with_capacity(4096);
    bencher.counter(ItemsCount::new(addresses.len())).bench_local(|| {
        let view = reader.view();
        let vantage = view.vantage_of(3);
        let mut named = 0;
        for chunk in addresses.chunks(4096) {
            view.lookup_batch(vantage, chunk, &mut out);
            named += out.iter().filter(|route| !route.is_none()).count();
        }
        named
    });
}

#[divan::bench(sample_count = 10)]
fn lookup_v4_random_addresses(bencher: Bencher<'_, '_>) {
    look_up(bencher, &addresses(LOOKUPS, false, true));
}

#[divan::bench(sample_count = 10)]
fn lookup_v4_by_prefix(bencher: Bencher<'_, '_>) {
    look_up(bencher, &addresses(LOOKUPS, false, false));
}

#[divan::bench(sample_count = 10)]
fn lookup_v6_by_prefix(bencher: Bencher<'_, '_>) {
    look_up(bencher, &addresses(LOOKUPS, true, false));
}

/// 10,000 updates a second, published ten times a second: one second's worth.
#[divan::bench(sample_count = 10)]
fn updates_10_k_published_ten_times(bencher: Bencher<'_, '_>) {
    let (table, _) = &*FULL;
    let mut random = Random(5);
    bencher.counter(ItemsCount::new(10_000usize)).bench_local(|| {
        let mut table = table.lock().unwrap();
        for _ in 0..10 {
            let events = (0..1000).map(|_| {
                let prefix = PREFIXES[random.below(PREFIXES.len() as u64) as usize];
                RouteEvent::Announce { peer: 3, path: path(3, random.below(PATHS)), prefixes: vec![(0, prefix)] }
            });
            table.apply(&RouteBatch { generation: 0, events: events.collect() });
            table.publish();
        }
    });
}

/// One of ten peers goes, with 1.2 M routes, and is published as gone.
#[divan::bench(sample_count = 3, sample_size = 1)]
fn peer_down_with_a_full_table(bencher: Bencher<'_, '_>) {
    let (table, _) = &*FULL;
    let batches = table_of(9, &PREFIXES);
    bencher
        .with_inputs(|| {
            let mut table = table.lock().unwrap();
            batches.iter().for_each(|batch| {
                table.apply(batch);
            });
            table.publish();
        })
        .bench_local_values(|()| {
            let mut table = table.lock().unwrap();
            table.apply(&RouteBatch { generation: 0, events: vec![RouteEvent::PeerDown(9)] });
            table.publish();
        });
}

fn main() {
    divan::main();
}
