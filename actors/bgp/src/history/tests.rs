//! Histories made by hand: what is told of them, whole and damaged.

use super::*;
use benocs_model::Address;
use benocs_model::address::Prefix;
use benocs_model::route::{HistoryQuestion, Path, Segment};

const NOON: i64 = 1_700_000_000_000;

fn peer(id: PeerId, name: &str) -> Arc<Peer> {
    Arc::new(Peer {
        id,
        name: name.to_owned(),
        address: Address::from_v4([192, 0, 2, id as u8]),
        bgp_id: [192, 0, 2, id as u8],
        remote_as: 64_500,
        local_as: 64_500,
        ..Peer::default()
    })
}

fn path(origin: u32) -> Arc<Path> {
    Arc::new(Path {
        as_path: vec![Segment { kind: 2, asns: vec![64_501, origin] }],
        next_hop: Address::from_v4([198, 51, 100, 1]),
        communities: vec![64_500 << 16 | 7],
        ..Path::default()
    })
}

fn prefix(text: &str) -> Prefix {
    let (address, len) = text.split_once('/').unwrap();
    Prefix::new(Address::from(address.parse::<std::net::IpAddr>().unwrap()), len.parse().unwrap())
}

fn announce(peer: PeerId, origin: u32, prefixes: &[&str]) -> RouteEvent {
    let prefixes = prefixes.iter().map(|text| (0, prefix(text))).collect();
    RouteEvent::Announce { peer, path: path(origin), prefixes }
}

fn batch(generation: u64, events: Vec<RouteEvent>) -> RouteBatch {
    RouteBatch { generation, events }
}

fn asked(prefix: &str) -> HistoryQuestion {
    HistoryQuestion {
        prefix: prefix.to_owned(),
        from_ms: NOON - HOUR_MS,
        to_ms: NOON + 10 * HOUR_MS,
        router: None,
        limit: 100,
    }
}

fn told(reader: &HistoryReader, question: &HistoryQuestion) -> Vec<(i64, String, String, String)> {
    let answer = reader.search(question).unwrap();
    answer
        .events
        .into_iter()
        .map(|one| {
            let origin = one.path.map(|path| path.as_path).unwrap_or_default();
            (one.ms - NOON, format!("{} {}", one.event, one.prefix).trim().to_owned(), one.peer, origin)
        })
        .collect()
}

fn line(ms: i64, event: &str, peer: &str, path: &str) -> (i64, String, String, String) {
    (ms, event.to_owned(), peer.to_owned(), path.to_owned())
}

#[test]
fn what_happened_is_told_in_order_from_files_and_from_what_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let (mut history, reader) = History::open(HistoryConfig::default(), folder.path()).unwrap();
    history.take(&batch(0, vec![RouteEvent::Clear]), NOON);
    history.take(&batch(1, vec![RouteEvent::PeerUp(peer(1, "r1")), RouteEvent::PeerUp(peer(2, "r2"))]), NOON + 1);
    history.take(&batch(2, vec![announce(1, 64_510, &["198.51.100.0/24", "2001:db8::/32"])]), NOON + 2);
    history.take(&batch(3, vec![announce(2, 64_511, &["198.51.100.0/24", "198.51.0.0/16"])]), NOON + 3);
    history.write().unwrap();
    // Another hour, another file; the rest stays in memory.
    let gone = RouteEvent::Withdraw { peer: 1, prefixes: vec![(0, prefix("198.51.100.0/24"))] };
    history.take(&batch(4, vec![gone]), NOON + HOUR_MS);
    history.write().unwrap();
    history.take(&batch(5, vec![RouteEvent::PeerDown(2)]), NOON + HOUR_MS + 5);
    assert_eq!(files(&folder), 2);
    let expected = [
        line(1, "up", "r1", ""),
        line(1, "up", "r2", ""),
        line(2, "announce 198.51.100.0/24", "r1", "64501 64510"),
        line(3, "announce 198.51.100.0/24", "r2", "64501 64511"),
        line(HOUR_MS, "withdraw 198.51.100.0/24", "r1", ""),
        line(HOUR_MS + 5, "down", "r2", ""),
    ];
    assert_eq!(told(&reader, &asked("198.51.100.0/24")), expected);
    // An address: what covers it.
    let covering = told(&reader, &HistoryQuestion { router: Some("r2".to_owned()), ..asked("198.51.100.9") });
    let expected = [
        line(1, "up", "r2", ""),
        line(3, "announce 198.51.100.0/24", "r2", "64501 64511"),
        line(3, "announce 198.51.0.0/16", "r2", "64501 64511"),
        line(HOUR_MS + 5, "down", "r2", ""),
    ];
    let mut covering = covering;
    covering.sort();
    let mut expected = expected.to_vec();
    expected.sort();
    assert_eq!(covering, expected);
    // At a time, and only the newest.
    let at = HistoryQuestion { from_ms: NOON + 2, to_ms: NOON + 3, limit: 1, ..asked("2001:db8::/32") };
    let answer = reader.search(&at).unwrap();
    assert_eq!((answer.events.len(), answer.is_cut), (1, false));
    assert_eq!(answer.events[0].path.as_ref().unwrap().communities, "64500:7");
    assert!(reader.search(&HistoryQuestion { limit: 2, ..asked("198.51.100.0/24") }).unwrap().is_cut);
    for wrong in ["198.51.100.0/33", "nonsense", "2001:db8::/129", "1.2.3.4/x"] {
        let error = reader.search(&asked(wrong)).unwrap_err().to_string();
        assert!(error.contains(wrong) && error.contains("192.0.2.0/24"), "{error}");
    }
}

fn files(folder: &tempfile::TempDir) -> usize {
    fs::read_dir(folder.path()).unwrap().count()
}

#[test]
fn a_snapshot_is_no_change_and_a_gap_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let (mut history, reader) = History::open(HistoryConfig::default(), folder.path()).unwrap();
    history.take(&batch(0, vec![RouteEvent::Clear]), NOON);
    history.take(&batch(1, vec![RouteEvent::PeerUp(peer(1, "r1"))]), NOON + 1);
    // It was behind: what it missed comes as a whole.
    history.take(&batch(7, vec![RouteEvent::Clear]), NOON + 2);
    history.take(&batch(7, vec![RouteEvent::PeerUp(peer(1, "r1"))]), NOON + 2);
    history.take(&batch(7, vec![announce(1, 64_510, &["198.51.100.0/24"])]), NOON + 2);
    history.take(&batch(8, vec![announce(1, 64_511, &["198.51.100.0/24"])]), NOON + 3);
    let expected =
        [line(1, "up", "r1", ""), line(2, "gap", "", ""), line(3, "announce 198.51.100.0/24", "r1", "64501 64511")];
    assert_eq!(told(&reader, &asked("198.51.100.0/24")), expected);
}

#[test]
fn a_tail_cut_at_any_octet_leaves_what_is_before() {
    let folder = tempfile::tempdir().unwrap();
    let (mut history, reader) = History::open(HistoryConfig::default(), folder.path()).unwrap();
    history.take(&batch(1, vec![RouteEvent::PeerUp(peer(1, "r1"))]), NOON);
    history.write().unwrap();
    let whole = history.folder.join(search::file_name(NOON.div_euclid(HOUR_MS)));
    let before = fs::metadata(&whole).unwrap().len();
    history.take(&batch(2, vec![announce(1, 64_510, &["198.51.100.0/24"])]), NOON + 1);
    history.write().unwrap();
    let octets = fs::read(&whole).unwrap();
    for length in before as usize..octets.len() {
        fs::write(&whole, &octets[..length]).unwrap();
        assert_eq!(told(&reader, &asked("198.51.100.0/24")), [line(0, "up", "r1", "")], "{length}");
    }
    for at in (before as usize..octets.len()).step_by(3) {
        let mut wrong = octets.clone();
        wrong[at] ^= 0x41;
        fs::write(&whole, &wrong).unwrap();
        assert!(told(&reader, &asked("198.51.100.0/24")).len() <= 2, "{at}");
    }
}

#[test]
fn what_is_too_old_or_too_much_goes_oldest_first() {
    let folder = tempfile::tempdir().unwrap();
    let config = HistoryConfig { keep_h: 5, octets_max: u64::MAX };
    let (mut history, _reader) = History::open(config, folder.path()).unwrap();
    history.take(&batch(1, vec![RouteEvent::PeerUp(peer(1, "r1"))]), NOON);
    for hour in 0..8 {
        history.take(&batch(2, vec![announce(1, 64_510, &["198.51.100.0/24"])]), NOON + hour * HOUR_MS);
        history.write().unwrap();
    }
    assert_eq!(files(&folder), 8);
    history.expire(NOON + 7 * HOUR_MS).unwrap();
    assert_eq!(files(&folder), 6);
    history.config.octets_max = 1;
    history.expire(NOON + 7 * HOUR_MS).unwrap();
    // The one that is being written stays.
    assert_eq!(files(&folder), 1);
}
