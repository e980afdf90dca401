//! The route table against one that is too simple to be wrong.

use std::collections::BTreeMap;
use std::sync::Arc;

use benocs_model::Address;
use benocs_model::address::Prefix;
use benocs_model::route::{
    Family, Further, Path, Peer, PeerId, Provenance, RibView, RouteBatch, RouteEvent, RouteRef, RouteTable, RouteView,
    Segment, Vantage, in_table,
};
use proptest::prelude::*;

/// Peer 1 is the reflector.
const PEERS: PeerId = 4;

fn peer(id: PeerId) -> Arc<Peer> {
    Arc::new(Peer {
        id,
        name: format!("r{id}"),
        address: Address::from_v4([10, 0, 0, id as u8]),
        bgp_id: [10, 0, 1, id as u8],
        remote_as: 64_500,
        local_as: 64_500,
        reflector: id == 1,
        ..Peer::default()
    })
}

fn path(number: u8) -> Path {
    Path {
        origin: 0,
        as_path: vec![Segment { kind: 2, asns: vec![64_500 + u32::from(number), 65_000] }],
        next_hop: Address::from_v4([192, 0, 2, number]),
        med: None,
        local_pref: Some(100 + u32::from(number)),
        communities: vec![],
        large_communities: vec![],
        ext_communities: vec![],
        originator_id: None,
        cluster_list: vec![],
        ..Path::default()
    }
}

#[derive(Clone, Debug)]
enum Op {
    Announce(PeerId, u8, Vec<(u32, Prefix)>),
    Withdraw(PeerId, Vec<(u32, Prefix)>),
    Down(PeerId),
    Stale(PeerId),
    EndOfRib(PeerId, Family),
    Publish,
}

/// Few bits vary, so that prefixes overlap and recur.
fn prefix() -> impl Strategy<Value = Prefix> {
    let v4 = (any::<u32>(), 0u8..=32)
        .prop_map(|(bits, len)| Prefix::new(Address::from_v4((0x0a00_0000 | bits & 0x0003_0383).to_be_bytes()), len));
    let v6 = (
        any::<u64>(),
        any::<u64>(),
        prop::sample::select(vec![0u8, 1, 16, 19, 29, 32, 33, 36, 44, 47, 48, 56, 64, 65, 127, 128]),
    )
        .prop_map(|(high, low, len)| {
            let value = u128::from(0x2001_0db8_0000_0000 | high & 0x0010_0000_8181_0003) << 64
                | u128::from(low & 0x8000_0000_0000_0003);
            Prefix::new(Address(value.to_be_bytes()), len)
        });
    prop_oneof![3 => v4, 2 => v6]
}

fn routes() -> impl Strategy<Value = Vec<(u32, Prefix)>> {
    prop::collection::vec((prop_oneof![6 => Just(0u32), 1 => 1u32..3], prefix()), 1..6)
}

fn op() -> impl Strategy<Value = Op> {
    let id = 0..PEERS;
    prop_oneof![
        8 => (id.clone(), 0u8..6, routes()).prop_map(|(peer, path, routes)| Op::Announce(peer, path, routes)),
        5 => (id.clone(), routes()).prop_map(|(peer, routes)| Op::Withdraw(peer, routes)),
        1 => id.clone().prop_map(Op::Down),
        1 => id.clone().prop_map(Op::Stale),
        1 => (id, any::<bool>()).prop_map(|(peer, v4)| Op::EndOfRib(peer, if v4 { Family::V4Unicast } else { Family::V6Unicast })),
        2 => Just(Op::Publish),
    ]
}

/// Path number and whether it is stale, by peer, prefix, path identifier.
#[derive(Clone, Debug, Default, PartialEq)]
struct Naive(BTreeMap<(PeerId, Prefix, u32), (u8, bool)>);

impl Naive {
    fn apply(&mut self, op: &Op) {
        let v4 = |family: &Family| *family == Family::V4Unicast;
        match op {
            Op::Announce(peer, path, routes) => {
                for (id, prefix) in routes {
                    self.0.insert((*peer, *prefix, *id), (*path, false));
                }
            }
            Op::Withdraw(peer, routes) => {
                for (id, prefix) in routes {
                    self.0.remove(&(*peer, *prefix, *id));
                }
            }
            Op::Down(peer) => self.0.retain(|(other, _, _), _| other != peer),
            Op::Stale(peer) => {
                // Stale twice is gone.
                self.0.retain(|(other, _, _), (_, stale)| other != peer || !*stale);
                self.0.iter_mut().filter(|((other, _, _), _)| other == peer).for_each(|(_, (_, stale))| *stale = true);
            }
            Op::EndOfRib(peer, family) => self.0.retain(|(other, prefix, _), (_, stale)| {
                !(other == peer && *stale && prefix.address.is_v4() == v4(family))
            }),
            Op::Publish => {}
        }
    }

    fn longest(&self, peer: PeerId, address: Address) -> Option<(Prefix, Vec<(u32, u8, bool)>)> {
        let routes = self.0.iter().filter(|((other, prefix, _), _)| *other == peer && prefix.contains(address));
        let len = routes.clone().map(|((_, prefix, _), _)| prefix.len).max()?;
        let at: Vec<_> = routes.filter(|((_, prefix, _), _)| prefix.len == len).collect();
        Some((at[0].0.1, at.into_iter().map(|((_, _, id), (path, stale))| (*id, *path, *stale)).collect()))
    }

    fn lookup(&self, own: Option<PeerId>, address: Address) -> Option<(Provenance, PeerId, Prefix, u8, bool)> {
        let own = own.map(|peer| (peer, Provenance::Router));
        let others =
            [1, 0, 2, 3].map(|peer| (peer, if peer == 1 { Provenance::Reflector } else { Provenance::Fallback }));
        own.into_iter().chain(others).find_map(|(peer, provenance)| {
            let (prefix, paths) = self.longest(peer, address)?;
            // Local preference grows with the path's number; of equals the lowest identifier.
            let (_, path, stale) = paths.into_iter().max_by_key(|(id, path, _)| (*path, u32::MAX - id))?;
            Some((provenance, peer, prefix, path, stale))
        })
    }
}

fn event(op: &Op) -> Option<RouteEvent> {
    Some(match op.clone() {
        Op::Announce(peer, number, prefixes) => RouteEvent::Announce { peer, path: Arc::new(path(number)), prefixes },
        Op::Withdraw(peer, prefixes) => RouteEvent::Withdraw { peer, prefixes },
        Op::Down(peer) => RouteEvent::PeerDown(peer),
        Op::Stale(peer) => RouteEvent::PeerStale(peer),
        Op::EndOfRib(peer, family) => RouteEvent::EndOfRib { peer, family: family as u8 },
        Op::Publish => return None,
    })
}

fn batch(events: Vec<RouteEvent>) -> RouteBatch {
    RouteBatch { generation: 0, events }
}

fn check(view: &RouteView, naive: &Naive) {
    let mut addresses: Vec<[u8; 16]> = Vec::new();
    for (_, prefix, _) in naive.0.keys() {
        let bits = u32::from(prefix.len) + if prefix.address.is_v4() { 96 } else { 0 };
        let first = u128::from_be_bytes(prefix.address.0);
        let span = if bits >= 128 { 0 } else { u128::MAX >> bits };
        let inside = [first, first | span, first | (span / 3)];
        // Just outside, where that is of the same family.
        let outside = [first.wrapping_sub(1), (first | span).wrapping_add(1)];
        addresses.extend(inside.map(u128::to_be_bytes));
        addresses.extend(
            outside.map(u128::to_be_bytes).into_iter().filter(|a| Address(*a).is_v4() == prefix.address.is_v4()),
        );
    }
    addresses.push(Address::from_v4([10, 0, 0, 1]).0);
    addresses.push(Address::from_v4([255, 255, 255, 255]).0);
    let mut out: Vec<RouteRef> = Vec::new();
    for own in [None, Some(0), Some(1), Some(2), Some(3)] {
        // A peer that is down is nobody's vantage.
        let vantage = own.map_or(benocs_model::route::Vantage::NONE, |id| view.vantage(peer(id).address, &[]));
        assert_eq!(
            own.map_or(benocs_model::route::Vantage::NONE, |id| view
                .vantage(Address::UNSPECIFIED, &[Address::from_v4(peer(id).bgp_id)])),
            vantage
        );
        view.lookup_batch(vantage, &addresses, &mut out);
        assert_eq!(out.len(), addresses.len());
        for (octets, by_batch) in addresses.iter().zip(&out) {
            let address = Address(*octets);
            let found = view.lookup(vantage, address);
            let expected = naive.lookup(own.filter(|_| vantage.is_router()), address);
            let short = |found: benocs_model::route::Found<'_>| {
                assert_eq!(found.path_hash, found.path.stable_hash());
                (
                    found.provenance,
                    found.peer.id,
                    found.prefix,
                    (found.path.local_pref.unwrap() - 100) as u8,
                    found.stale,
                )
            };
            assert_eq!(found.map(short), expected, "{address} from {own:?}");
            assert_eq!(view.get(*by_batch).map(short), expected, "{address} from {own:?}, in a batch");
        }
    }
    let mut counts: BTreeMap<PeerId, (u32, u32)> = BTreeMap::new();
    let mut last = None;
    for (id, prefix, _) in naive.0.keys() {
        if last == Some((*id, *prefix)) {
            continue;
        }
        last = Some((*id, *prefix));
        let count = counts.entry(*id).or_default();
        if prefix.address.is_v4() { count.0 += 1 } else { count.1 += 1 }
    }
    for routes in view.peers() {
        assert_eq!((routes.v4, routes.v6), counts.get(&routes.peer.id).copied().unwrap_or_default());
    }
    let mut hops: Vec<_> =
        naive.0.values().map(|(number, _)| (path(*number).next_hop, 64_500 + u32::from(*number))).collect();
    hops.sort();
    hops.dedup();
    assert_eq!(view.next_hops().collect::<Vec<_>>(), hops);
}

fn routes_of(view: &RouteView) -> Vec<(PeerId, u32, Prefix, u64, bool)> {
    let ids: Vec<PeerId> = view.peers().map(|routes| routes.peer.id).collect();
    let routes = ids.into_iter().flat_map(|id| {
        view.routes_of(id).map(move |(path_id, prefix, path, stale)| (id, path_id, prefix, path.stable_hash(), stale))
    });
    let mut list: Vec<_> = routes.collect();
    list.sort_by_key(|(id, path_id, prefix, ..)| (*id, *prefix, *path_id));
    list
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn equals_the_naive_table(ops in prop::collection::vec(op(), 1..60)) {
        let mut table = RouteTable::new();
        let reader = table.reader();
        let mut naive = Naive::default();
        let mut published: Vec<(RouteView, Naive)> = Vec::new();
        table.apply(&batch((0..PEERS).map(|id| RouteEvent::PeerUp(peer(id))).collect()));
        for op in &ops {
            naive.apply(op);
            let mut events: Vec<RouteEvent> = event(op).into_iter().collect();
            if let Op::Down(id) = op {
                events.push(RouteEvent::PeerUp(peer(*id)));
            }
            if matches!(op, Op::Publish) {
                table.publish();
                published.push((reader.view(), naive.clone()));
            }
            table.apply(&batch(events));
        }
        table.publish();
        published.push((reader.view(), naive));
        // Views that are held keep what they showed.
        for (view, naive) in &published {
            check(view, naive);
        }
        // A snapshot and then nothing more is the same table.
        let mut replica = RouteTable::new();
        for part in reader.view().snapshot() {
            let text = serde_json::to_vec(&part).unwrap();
            replica.apply(&serde_json::from_slice(&text).unwrap());
        }
        replica.publish();
        prop_assert_eq!(routes_of(&replica.reader().view()), routes_of(&reader.view()));
    }
}

#[test]
fn a_reader_sees_all_or_nothing_of_a_batch() {
    let mut table = RouteTable::new();
    let reader = table.reader();
    let prefixes: Vec<(u32, Prefix)> =
        (0..512u32).map(|n| (0, Prefix::new(Address::from_v4((n << 14).to_be_bytes()), 18))).collect();
    table.apply(&batch(vec![RouteEvent::PeerUp(peer(0))]));
    std::thread::scope(|scope| {
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let addresses: Vec<[u8; 16]> = prefixes.iter().map(|(_, prefix)| prefix.address.0).collect();
        let watcher = scope.spawn(move || {
            let mut out = Vec::new();
            let mut generations = std::collections::BTreeSet::new();
            while stopped.try_recv() != Err(std::sync::mpsc::TryRecvError::Disconnected) {
                let view = reader.view();
                view.lookup_batch(view.vantage_of(0), &addresses, &mut out);
                let paths: std::collections::BTreeSet<u32> = out.iter().map(RouteRef::path_number).collect();
                assert_eq!(paths.len(), 1, "half a batch");
                generations.insert(view.generation());
            }
            generations.len()
        });
        for number in 0..200u8 {
            let event = RouteEvent::Announce { peer: 0, path: Arc::new(path(number)), prefixes: prefixes.clone() };
            table.apply(&batch(vec![event]));
            table.publish();
        }
        drop(stop);
        assert!(watcher.join().unwrap() >= 1);
    });
}

#[test]
fn the_hash_of_a_path_is_frozen() {
    // Rows on disk refer to it: a change here loses their paths.
    assert_eq!(path(1).stable_hash(), path(1).stable_hash());
    let mut other = path(1);
    other.communities.push(1);
    assert_ne!(path(1).stable_hash(), other.stable_hash());
    assert_eq!(format!("{:016x}", path(1).stable_hash()), FROZEN);
}

const FROZEN: &str = "f423cca062f83359";

#[test]
fn a_vrf_answers_for_itself_and_labelled_routes_where_no_unicast_one_is() {
    let in_vrf = |id: PeerId, vrf: &str, reflector: bool| {
        let base = (*peer(id & 0xff)).clone();
        RouteEvent::PeerUp(Arc::new(Peer { id, vrf: vrf.to_owned(), reflector, ..base }))
    };
    let to = |peer: PeerId, number: u8, prefix: Prefix| RouteEvent::Announce {
        peer,
        path: Arc::new(path(number)),
        prefixes: vec![(0, prefix)],
    };
    let net = |a: u8, len: u8| Prefix::new(Address::from_v4([a, 0, 0, 0]), len);
    let labelled = Peer { id: in_table(2, 1), labelled: true, ..(*peer(2)).clone() };
    let mut table = RouteTable::new();
    let events = vec![
        RouteEvent::PeerUp(peer(2)),
        RouteEvent::PeerUp(Arc::new(labelled)),
        in_vrf(in_table(2, 2), "blue", false),
        in_vrf(in_table(3, 2), "blue", true),
        in_vrf(in_table(3, 3), "red", false),
        to(2, 1, net(10, 8)),
        to(in_table(2, 1), 2, net(10, 16)),
        to(in_table(2, 1), 3, net(20, 8)),
        to(in_table(2, 2), 4, net(10, 8)),
        to(in_table(3, 2), 5, net(10, 24)),
        to(in_table(3, 2), 6, net(30, 8)),
        to(in_table(3, 3), 7, net(10, 8)),
    ];
    table.apply(&RouteBatch { generation: 1, events });
    table.publish();
    let check = |table: &RouteTable| {
        let view = table.reader().view();
        let answer = |vantage: Vantage, a: u8| {
            let found = view.lookup(vantage, Address::from_v4([a, 0, 0, 1]));
            let mut batch = Vec::new();
            view.lookup_batch(vantage, &[Address::from_v4([a, 0, 0, 1]).0], &mut batch);
            assert_eq!(view.get(batch[0]).map(|found| found.path_hash), found.map(|found| found.path_hash));
            found.map(|found| {
                let Address(octets) = found.path.next_hop;
                (octets[15], found.provenance, found.peer.labelled, found.peer.vrf.clone())
            })
        };
        let two = Address::from_v4([10, 0, 0, 2]);
        let global = view.vantage(two, &[]);
        let text = String::new;
        assert_eq!(answer(global, 10), Some((1, Provenance::Router, false, text())));
        assert_eq!(answer(global, 20), Some((3, Provenance::Router, true, text())));
        assert_eq!(answer(global, 30), None);
        assert_eq!(answer(Vantage::NONE, 20), Some((3, Provenance::Fallback, true, text())));
        let blue = view.vantage_in("blue", two, &[]).unwrap();
        assert!(blue.is_router());
        assert_eq!(answer(blue, 10), Some((4, Provenance::Router, false, "blue".into())));
        assert_eq!(answer(blue, 30), Some((6, Provenance::Reflector, false, "blue".into())));
        assert_eq!(answer(blue, 20), None);
        let red = view.vantage_in("red", two, &[]).unwrap();
        assert!(!red.is_router());
        assert_eq!(answer(red, 10), Some((7, Provenance::Fallback, false, "red".into())));
        assert_eq!(view.vantage_in("green", two, &[]), None);
        assert_eq!(view.vrfs().collect::<Vec<_>>(), ["blue", "red"]);
        assert_eq!(view.candidates_in("blue", Address::from_v4([10, 0, 0, 1])).len(), 2);
        assert_eq!(view.candidates(Address::from_v4([10, 0, 0, 1])).len(), 2);
    };
    check(&table);
    let mut replica = RouteTable::new();
    for batch in table.snapshot() {
        replica.apply(&batch);
    }
    replica.publish();
    check(&replica);
}

#[test]
fn what_few_paths_have_changes_the_hash() {
    let plain = path(1);
    let with = |further: Further| Path { further: Some(Box::new(further)), ..plain.clone() }.stable_hash();
    let hashes = [
        plain.stable_hash(),
        with(Further { labels: vec![16], ..Further::default() }),
        with(Further { labels: vec![16, 17], ..Further::default() }),
        with(Further { rd: Some([0, 0, 0, 1, 0, 0, 0, 1]), ..Further::default() }),
        with(Further { aigp: Some(1), ..Further::default() }),
        with(Further { only_to_customer: Some(1), ..Further::default() }),
        with(Further { aggregator: Some((1, [10, 0, 0, 1])), ..Further::default() }),
        with(Further { unknown: vec![(0xc0, 99, vec![1])], ..Further::default() }),
        with(Further { unknown: vec![(0xc0, 99, vec![2])], ..Further::default() }),
    ];
    let distinct: std::collections::BTreeSet<u64> = hashes.into_iter().collect();
    assert_eq!(distinct.len(), hashes.len());
}

#[test]
fn a_refresh_of_one_family_sweeps_that_family() {
    let v4 = Prefix::new(Address::from_v4([10, 0, 0, 0]), 8);
    let v6 = Prefix::new(Address([0x20, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), 16);
    let mut table = RouteTable::new();
    let all = RouteEvent::Announce { peer: 2, path: Arc::new(path(1)), prefixes: vec![(0, v4), (0, v6)] };
    let (stale, end) = (
        RouteEvent::FamilyStale { peer: 2, family: Family::V4Unicast as u8 },
        RouteEvent::EndOfRib { peer: 2, family: Family::V4Unicast as u8 },
    );
    table.apply(&RouteBatch { generation: 1, events: vec![RouteEvent::PeerUp(peer(2)), all, stale] });
    table.publish();
    let view = table.reader().view();
    let flags: Vec<bool> = view.routes_of(2).map(|route| route.3).collect();
    assert_eq!(flags, [true, false]);
    table.apply(&RouteBatch { generation: 2, events: vec![end] });
    assert_eq!(table.routes_of(2), Some((0, 1)));
}

#[test]
fn a_router_answers_by_the_table_that_says_most_of_it() {
    let of = |last: u8, view: RibView, router: Option<u8>| {
        let router = router.map(|last| Address::from_v4([10, 0, 0, last]));
        let address = Address::from_v4([10, 0, 0, last]);
        Peer {
            id: u32::from(last),
            name: format!("p{last}"),
            address,
            bgp_id: [10, 0, 1, last],
            view,
            router,
            ..Peer::default()
        }
    };
    let announce = |peer: u8, number: u8, lens: &[u8]| RouteEvent::Announce {
        peer: u32::from(peer),
        path: Arc::new(path(number)),
        prefixes: lens.iter().map(|len| (0, Prefix::new(Address::from_v4([198, 51, 100, 0]), *len))).collect(),
    };
    let mut table = RouteTable::new();
    let apply = |table: &mut RouteTable, events: Vec<RouteEvent>| {
        table.apply(&RouteBatch { generation: 0, events });
        table.publish();
        table.reader().view()
    };
    let router = Address::from_v4([10, 0, 0, 1]);
    let neighbour = Address::from_v4([10, 0, 0, 3]);
    let host = Address::from_v4([198, 51, 100, 1]);
    let answer = |view: &RouteView, router: Address| {
        let found = view.lookup(view.vantage(router, &[]), host)?;
        Some((found.peer.name.clone(), found.prefix.len, found.provenance))
    };
    // Before its policy, and what it tells others: shown, and for nobody.
    let up = |peer: Peer| RouteEvent::PeerUp(Arc::new(peer));
    let view = apply(
        &mut table,
        vec![
            up(of(2, RibView::AdjInPre, Some(1))),
            up(of(4, RibView::AdjOutPost, Some(1))),
            announce(2, 2, &[24, 25]),
            announce(4, 4, &[24, 25]),
        ],
    );
    assert_eq!(answer(&view, router), None);
    let shown: Vec<_> = view.candidates(host).iter().map(|one| (one.found.peer.id, one.found.provenance)).collect();
    assert_eq!(shown, [(2, Provenance::None), (4, Provenance::None)]);
    // After its policy: the router's, and not the neighbour's, whose identifier it has.
    let view = apply(&mut table, vec![up(of(3, RibView::AdjInPost, Some(1))), announce(3, 3, &[24, 26])]);
    assert_eq!(answer(&view, router), Some(("p3".to_owned(), 26, Provenance::Router)));
    assert_eq!(answer(&view, neighbour), Some(("p3".to_owned(), 26, Provenance::Fallback)));
    assert_eq!(answer(&view, Address::from_v4([10, 0, 1, 3])), Some(("p3".to_owned(), 26, Provenance::Fallback)));
    // Its own table, though it has fewer routes; by its address and by its identifier.
    let view = apply(&mut table, vec![up(of(1, RibView::LocRib, None)), announce(1, 1, &[24])]);
    for address in [router, Address::from_v4([10, 0, 1, 1])] {
        assert_eq!(answer(&view, address), Some(("p1".to_owned(), 24, Provenance::Router)));
    }
    assert_eq!(answer(&view, neighbour), Some(("p1".to_owned(), 24, Provenance::Fallback)));
    // An own table without routes of the family says nothing.
    let view = apply(&mut table, vec![RouteEvent::PeerDown(1), up(of(1, RibView::LocRib, None))]);
    assert_eq!(answer(&view, router), Some(("p3".to_owned(), 26, Provenance::Router)));
    // A snapshot has what is only shown too.
    let mut copy = RouteTable::new();
    view.snapshot().for_each(|batch| {
        copy.apply(&batch);
    });
    copy.publish();
    assert_eq!(copy.reader().view().candidates(host).len(), view.candidates(host).len());
    assert_eq!(answer(&copy.reader().view(), router), answer(&view, router));
}

#[test]
fn a_view_is_gone_through_prefix_by_prefix() {
    let mut table = RouteTable::new();
    let prefix = |len| Prefix::new(Address::from_v4([198, 51, 100, 0]), len);
    let six = Prefix::new(Address("2001:db8::".parse::<std::net::Ipv6Addr>().unwrap().octets()), 32);
    let announce = |peer, number, prefixes: &[(u32, Prefix)]| RouteEvent::Announce {
        peer,
        path: Arc::new(path(number)),
        prefixes: prefixes.to_vec(),
    };
    let events = vec![
        RouteEvent::PeerUp(peer(1)),
        RouteEvent::PeerUp(peer(2)),
        RouteEvent::PeerUp(peer(3)),
        announce(1, 1, &[(0, prefix(24)), (0, prefix(0)), (0, six)]),
        announce(2, 2, &[(7, prefix(24))]),
        announce(2, 3, &[(8, prefix(24))]),
        announce(3, 4, &[(0, prefix(25))]),
    ];
    table.apply(&RouteBatch { generation: 0, events });
    table.publish();
    let mut seen = Vec::new();
    let ended: Result<(), ()> = table.reader().view().by_prefix(&[2, 1, 9], |prefix, paths| {
        let paths: Vec<_> = paths.iter().map(|(peer, id, path)| (*peer, *id, path.as_path[0].asns[0])).collect();
        seen.push((prefix, paths));
        Ok(())
    });
    assert!(ended.is_ok());
    seen.sort();
    let mut expected = vec![
        (prefix(0), vec![(1, 0, 64_501)]),
        (prefix(24), vec![(0, 7, 64_502), (0, 8, 64_503), (1, 0, 64_501)]),
        (six, vec![(1, 0, 64_501)]),
    ];
    expected.sort();
    assert_eq!(seen, expected);
    let mut calls = 0;
    let ended = table.reader().view().by_prefix(&[1], |_, _| {
        calls += 1;
        Err("full")
    });
    assert_eq!((ended, calls), (Err("full"), 1));
}
