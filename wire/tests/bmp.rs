//! BMP of real routers, against what NetGauze says is in it; and messages made by hand.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use benocs_wire::bgp::{self, Agreed, Family, Message as BgpMessage, NlriPrefix, PrefixAddress};
use benocs_wire::bmp::{self, HEADER_OCTETS, Message, Peer, PeerKind, View, tlv};
use benocs_wire::error::{Why, WireError};
use serde_json::Value;

#[path = "../../fuzz/fuzz_targets/cases/bmp.rs"]
mod case;
mod streams;

fn samples() -> Option<PathBuf> {
    let root = std::env::var_os("BENOCS_SAMPLES")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/samples"), PathBuf::from);
    if root.join("INDEX.tsv").exists() {
        return Some(root);
    }
    assert!(std::env::var_os("CI").is_none(), "no samples in {}", root.display());
    eprintln!("skipped: no samples in {}", root.display());
    None
}

/// Messages of a stream, up to where it breaks off.
fn messages(mut stream: &[u8]) -> (Vec<Result<Message<'_>, WireError>>, Option<WireError>) {
    let mut list = Vec::new();
    loop {
        match bmp::frame(stream) {
            Ok(Some((raw, rest))) => {
                list.push(bmp::parse(raw));
                stream = rest;
            }
            Ok(None) => return (list, None),
            Err(error) => return (list, Some(error)),
        }
    }
}

fn prefix_text(prefix: NlriPrefix) -> String {
    let address = match prefix.address {
        PrefixAddress::V4(octets) => std::net::IpAddr::from(octets),
        PrefixAddress::V6(octets) => std::net::IpAddr::from(octets),
    };
    format!("{address}/{}", prefix.len)
}

/// "kind flags | distinguished | address | AS | id | s.µs".
fn peer_text(peer: &Peer) -> String {
    let kind = match peer.kind {
        PeerKind::LOC_RIB => format!("loc-rib filtered={}", peer.is_filtered()),
        PeerKind(kind) => format!("{kind} {:?} asn2={}", peer.view(), peer.has_two_octet_as()),
    };
    let address = if peer.address.is_unspecified() { "none".to_owned() } else { peer.address.to_string() };
    format!(
        "{kind}|{}|{address}|{}|{}|{}.{:06}",
        peer.distinguisher != [0; 8],
        peer.remote_as,
        std::net::Ipv4Addr::from(peer.bgp_id),
        peer.time_s,
        peer.microseconds,
    )
}

fn our_text(message: &Message<'_>, ups: &mut BTreeMap<String, Agreed>) -> String {
    let text = |tlvs: &bmp::Tlvs<'_>, kind| tlvs.get(kind).map(bmp::text_of).unwrap_or_default();
    match message {
        Message::Initiation(tlvs) => {
            format!("initiation {}|{}", text(tlvs, tlv::SYSTEM_DESCRIPTION), text(tlvs, tlv::SYSTEM_NAME))
        }
        Message::Termination(tlvs) => format!("termination {}", bmp::termination_text(tlvs)),
        Message::PeerUp(up) => {
            ups.insert(up.peer.address.to_string(), up.agreed(up.peer.view(), false));
            format!("up {}|{}|{}|{}", peer_text(&up.peer), up.local_address, up.local_port, up.remote_port)
        }
        Message::PeerDown(down) => format!("down {}|{}", peer_text(&down.peer), down.reason),
        Message::Statistics(peer, stats) => format!("statistics {}|{}", peer_text(peer), stats.iter().count()),
        Message::RouteMirroring(peer, _) => format!("mirroring {}", peer_text(peer)),
        Message::Unknown(kind) => format!("unknown {kind}"),
        Message::RouteMonitoring(peer, update) => {
            let agreed = Agreed {
                four_octet_as: !peer.has_two_octet_as(),
                extended_messages: true,
                ..ups.get(&peer.address.to_string()).cloned().unwrap_or_default()
            };
            let head = peer_text(peer);
            let Ok(Some((raw, rest))) = bgp::frame(update, &agreed) else { return format!("routes {head}|no message") };
            assert!(rest.is_empty());
            match bgp::parse(raw, &agreed) {
                Ok(BgpMessage::Update(update)) => {
                    let reach = update.mp_reach.filter(|reach| reach.family.safi == 1).map(|reach| reach.nlri);
                    let mut announced: Vec<String> =
                        [Some(update.nlri), reach].into_iter().flatten().flatten().map(prefix_text).collect();
                    announced.sort();
                    format!("routes {head}|{}", announced.join(" "))
                }
                other => format!("routes {head}|{other:?}"),
            }
        }
    }
}

/// The same of NetGauze's JSON, of version 3.
fn their_text(json: &Value) -> String {
    let (kind, body) = json["V3"].as_object().unwrap().iter().next().unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().trim().to_owned();
    let information = |name: &str| {
        let list = body["information"].as_array().into_iter().flatten();
        list.filter_map(|entry| entry.get(name)).map(text).next().unwrap_or_default()
    };
    let address = |value: &Value, none: &str| value.as_str().map_or_else(|| none.to_owned(), str::to_owned);
    let peer = || {
        let header = &body["peer_header"];
        let (name, flags) = header["peer_type"].as_object().unwrap().iter().next().unwrap();
        let is = |name: &str| flags[name].as_bool().unwrap_or(false);
        let view = match (is("adj_rib_out"), is("post_policy")) {
            (false, false) => View::AdjInPre,
            (false, true) => View::AdjInPost,
            (true, false) => View::AdjOutPre,
            (true, true) => View::AdjOutPost,
        };
        let kind = match name.as_str() {
            "GlobalInstancePeer" => format!("0 {view:?} asn2={}", is("asn2")),
            "RdInstancePeer" => format!("1 {view:?} asn2={}", is("asn2")),
            _ => format!("loc-rib filtered={}", is("filtered")),
        };
        let rd = match &header["rd"] {
            Value::Null => false,
            rd => rd["As2Administrator"] != serde_json::json!({"asn2": 0, "number": 0}),
        };
        let (seconds, micros) = header["timestamp"].as_str().map_or((0, 0), unix);
        format!(
            "{kind}|{rd}|{}|{}|{}|{seconds}.{micros:06}",
            address(&header["address"], "none"),
            header["peer_as"],
            text(&header["bgp_id"])
        )
    };
    match kind.as_str() {
        "Initiation" => format!("initiation {}|{}", information("SystemDescription"), information("SystemName")),
        "PeerUpNotification" => format!(
            "up {}|{}|{}|{}",
            peer(),
            address(&body["local_address"], "0.0.0.0"),
            body["local_port"].as_u64().unwrap_or(0),
            body["remote_port"].as_u64().unwrap_or(0)
        ),
        "PeerDownNotification" => {
            let reason = match &body["reason"] {
                Value::String(name) => name.clone(),
                other => other.as_object().unwrap().keys().next().unwrap().clone(),
            };
            let reason = match reason.as_str() {
                "LocalSystemClosedNotificationPduFollows" => 1,
                "LocalSystemClosedFsmEventFollows" => 2,
                "RemoteSystemClosedNotificationPduFollows" => 3,
                "RemoteSystemClosedNoData" => 4,
                "PeerDeConfigured" => 5,
                _ => 6,
            };
            format!("down {}|{reason}", peer())
        }
        "StatisticsReport" => {
            format!("statistics {}|{}", peer(), body["counters"].as_array().map_or(0, Vec::len))
        }
        "RouteMonitoring" => {
            let update = &body["update_message"]["Update"];
            let mut announced: Vec<String> = Vec::new();
            let mut take = |list: &Value| {
                let list = list.as_array().into_iter().flatten();
                announced.extend(list.map(|entry| text(&entry["network"])));
            };
            take(&update["nlri"]);
            for attribute in update["path_attributes"].as_array().into_iter().flatten() {
                let reach = &attribute["value"]["MpReach"];
                take(&reach["Ipv4Unicast"]["nlri"]);
                take(&reach["Ipv6Unicast"]["nlri"]);
            }
            announced.sort();
            format!("routes {}|{}", peer(), announced.join(" "))
        }
        other => format!("{other} ?"),
    }
}

/// Seconds and microseconds of "2023-04-01T23:54:47.451Z" (days from the civil calendar).
fn unix(text: &str) -> (i64, u32) {
    let number = |range: std::ops::Range<usize>| text[range].parse::<i64>().unwrap();
    let (year, month, day) = (number(0..4), number(5..7), number(8..10));
    let shifted = if month <= 2 { year - 1 } else { year };
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let era_year = shifted.rem_euclid(400);
    let days = shifted.div_euclid(400) * 146_097 + era_year * 365 + era_year / 4 - era_year / 100 + of_year - 719_468;
    let seconds = days * 86_400 + number(11..13) * 3600 + number(14..16) * 60 + number(17..19);
    let fraction = text[19..].trim_start_matches('.').trim_end_matches('Z');
    (seconds, format!("{fraction:0<6}")[..6].parse().unwrap())
}

/// What NetGauze refuses and is read here: an OPEN of a Loc-RIB whose identifier is zero, of routers that have no
/// address; an AS path of two octets where nothing said so.
const REFUSED_THERE: [(&str, usize); 3] = [
    ("pmacct__205-BMP-6wind-FRR-peer_down__traffic-00.pcap", 3),
    ("pmacct__206-BMP-high-availability__traffic-00.pcap", 3),
    ("pmacct__208-BMP-mem-leak-test__bmp-multi-sources-peer-up.pcap", 2),
];

#[test]
fn messages_are_as_netgauze_reads_them() {
    let Some(root) = samples() else { return };
    let root = root.join("bmp");
    let mut compared = 0;
    let mut files: Vec<PathBuf> = fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "pcap"));
    files.sort();
    for path in files {
        let name = path.file_name().unwrap().to_str().unwrap();
        let stem = name.trim_end_matches(".pcap").trim_start_matches("pmacct__").trim_start_matches("netgauze__");
        let Ok(golden) = fs::read_to_string(root.join(format!("netgauze__{stem}.golden-netgauze-bmp.json"))) else {
            continue;
        };
        let json: Vec<Value> = golden.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let file = fs::read(&path).unwrap();
        if json.iter().any(|line| line.get("V4").is_some()) {
            // Version 4 is a draft: refused at its first octet.
            for stream in streams::streams(&file) {
                let error = WireError { offset: 0, reading: "version", why: Why::Value(4) };
                assert_eq!(messages(&stream).1, Some(error), "{name}");
            }
            continue;
        }
        let mut ours: Vec<String> = Vec::new();
        for stream in streams::streams(&file) {
            let mut ups = BTreeMap::new();
            for message in messages(&stream).0 {
                ours.push(our_text(&message.unwrap(), &mut ups));
            }
        }
        let mut theirs: Vec<String> = json.iter().filter(|line| line.get("V3").is_some()).map(their_text).collect();
        ours.sort();
        theirs.sort();
        let mut more: Vec<&String> = Vec::new();
        let mut rest = theirs.iter().peekable();
        for line in &ours {
            if rest.peek() == Some(&line) {
                rest.next();
            } else {
                more.push(line);
            }
        }
        let refused = REFUSED_THERE.iter().find(|row| row.0 == name).map_or(0, |row| row.1);
        assert_eq!((more.len(), rest.len()), (refused, 0), "{name}: {:#?}\nnot here: {:?}", more, rest.next());
        compared += ours.len();
    }
    assert!(compared > 1500, "{compared}");
}

/// A peer header: 42 octets.
fn header(kind: u8, flags: u8, distinguisher: u64, address: [u8; 16], remote_as: u32) -> Vec<u8> {
    let mut out = vec![kind, flags];
    out.extend(distinguisher.to_be_bytes());
    out.extend(address);
    out.extend(remote_as.to_be_bytes());
    out.extend([10, 0, 0, 7]);
    out.extend(1_700_000_000u32.to_be_bytes());
    out.extend(250_000u32.to_be_bytes());
    out
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = (body.len() + HEADER_OCTETS) as u32;
    [&[bmp::VERSION], length.to_be_bytes().as_slice(), &[kind], body].concat()
}

/// An OPEN with ADD-PATH in both families: bit 0 reads, bit 1 sends.
fn open(v4: u8, v6: u8) -> Vec<u8> {
    let way = |family, ways: u8| bgp::AddPath { family, receive: ways & 1 != 0, send: ways & 2 != 0 };
    let mut out = Vec::new();
    bgp::encode_open(
        &mut out,
        &bgp::Open {
            version: 4,
            as_two_octets: 64_500,
            hold_time_s: 90,
            bgp_id: [10, 0, 0, 1],
            capabilities: vec![
                bgp::Capability::FourOctetAs(64_500),
                bgp::Capability::AddPath(vec![way(Family::V4_UNICAST, v4), way(Family::V6_UNICAST, v6)]),
            ],
        },
    );
    out
}

const V4: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 192, 0, 2, 7];

fn peer_up(flags: u8, kind: u8, sent: &[u8], received: &[u8]) -> Vec<u8> {
    let mut body = header(kind, flags, 0, V4, 64_501);
    body.extend(V4);
    body.extend([0, 179, 0xc0, 0]);
    body.extend(sent);
    body.extend(received);
    body.extend([0, 0, 0, 2, b'h', b'i']);
    message(bmp::kind::PEER_UP, &body)
}

fn one(octets: &[u8]) -> Message<'_> {
    let (raw, rest) = bmp::frame(octets).unwrap().unwrap();
    assert!(rest.is_empty());
    bmp::parse(raw).unwrap()
}

#[test]
fn what_was_agreed_is_in_the_opens_of_the_direction() {
    // The router reads several paths of IPv4 and sends them of IPv6; its peer sends both and reads IPv6.
    let octets = peer_up(0, 0, &open(1, 2), &open(2, 3));
    let Message::PeerUp(up) = one(&octets) else { panic!("no peer up") };
    assert_eq!((up.local_address.to_string(), up.local_port, up.remote_port), ("192.0.2.7".into(), 179, 49_152));
    assert_eq!(up.information.get(tlv::TEXT), Some(b"hi".as_slice()));
    assert_eq!(up.agreed(View::AdjInPre, false).add_path, [Family::V4_UNICAST]);
    assert_eq!(up.agreed(View::AdjInPost, true).add_path, [Family::V4_UNICAST]);
    assert_eq!(up.agreed(View::AdjOutPost, false).add_path, [Family::V6_UNICAST]);
    assert!(up.agreed(View::AdjInPre, false).four_octet_as && !up.agreed(View::AdjInPre, true).four_octet_as);
    let octets = peer_up(0, 3, &open(3, 0), &open(3, 0));
    let Message::PeerUp(up) = one(&octets) else { panic!("no peer up") };
    assert_eq!(up.agreed(View::LocRib, false).add_path, [Family::V4_UNICAST]);
}

#[test]
fn flags_say_whose_table_it_is() {
    let peer = |kind, flags, address| {
        let octets = message(bmp::kind::ROUTE_MONITORING, &header(kind, flags, 9, address, 1));
        let Message::RouteMonitoring(peer, []) = one(&octets) else { panic!("no routes") };
        peer
    };
    assert_eq!(peer(0, 0x00, V4).view(), View::AdjInPre);
    assert_eq!(peer(1, 0x40, V4).view(), View::AdjInPost);
    assert_eq!(peer(2, 0x10, V4).view(), View::AdjOutPre);
    assert_eq!(peer(0, 0x50, V4).view(), View::AdjOutPost);
    assert_eq!(peer(0, 0x20, V4).address.to_string(), "192.0.2.7");
    assert!(peer(0, 0x20, V4).has_two_octet_as());
    assert_eq!(peer(0, 0x80, [0x20; 16]).address.to_string(), "2020:2020:2020:2020:2020:2020:2020:2020");
    // RFC 9069: other flags, no address.
    let table = peer(3, 0xa0, [0; 16]);
    assert_eq!((table.view(), table.is_filtered(), table.has_two_octet_as()), (View::LocRib, true, false));
    assert!(table.address.is_ipv4() && table.address.is_unspecified());
    assert_eq!(table.distinguisher, 9u64.to_be_bytes());
}

#[test]
fn ends_are_said_in_words() {
    let down = |reason: u8, data: &[u8]| {
        let octets = message(bmp::kind::PEER_DOWN, &[&header(0, 0, 0, V4, 1), [reason].as_slice(), data].concat());
        let Message::PeerDown(down) = one(&octets) else { panic!("no peer down") };
        down.to_string()
    };
    let mut notification = Vec::new();
    bgp::encode_notification(&mut notification, 6, 2, &bgp::shutdown_message("for today"));
    assert_eq!(down(1, &notification), "closed by the router: cease (6/2): administrative shutdown \"for today\"");
    assert_eq!(down(3, &[1, 2]), "closed by its peer: a notification");
    assert_eq!(down(2, &[0, 18]), "closed by the router: event 18");
    assert_eq!(down(4, &[]), "closed by its peer without a notification");
    assert_eq!(down(9, &[]), "reason 9");
    let octets = message(bmp::kind::TERMINATION, &[0, 1, 0, 2, 0, 3, 0, 0, 0, 4, b'b', 7, b'y', b'e']);
    let Message::Termination(tlvs) = one(&octets) else { panic!("no termination") };
    assert_eq!(bmp::termination_text(&tlvs), "this connection is redundant: b ye");
    assert_eq!(one(&message(77, &[1, 2, 3])), Message::Unknown(77));
}

#[test]
fn what_is_no_message_says_where() {
    let error = |octets: &[u8]| bmp::frame(octets).unwrap_err();
    assert_eq!(error(&[4]), WireError { offset: 0, reading: "version", why: Why::Value(4) });
    assert_eq!(error(&[3, 0, 0, 0, 5, 0]), WireError { offset: 1, reading: "message length", why: Why::Length(5) });
    let long = bmp::MESSAGE_OCTETS_MAX as u32 + 1;
    let head = [&[3], long.to_be_bytes().as_slice(), &[0]].concat();
    assert_eq!(error(&head), WireError { offset: 1, reading: "message length", why: Why::Length(long) });
    assert_eq!(bmp::frame(&[3, 0, 0, 0, 48, 0, 1, 2]), Ok(None));
    // Cut anywhere within, with a length that fits.
    let whole = peer_up(0, 0, &open(1, 1), &open(1, 1));
    for end in HEADER_OCTETS..whole.len() - 6 {
        let raw = bmp::Raw { kind: bmp::kind::PEER_UP, body: &whole[HEADER_OCTETS..end] };
        let error = bmp::parse(raw).unwrap_err();
        assert!(error.offset <= end, "{error}");
    }
    // An OPEN that says it is shorter than a header.
    let mut short = open(1, 1);
    (short[16], short[17]) = (0, 18);
    let octets = peer_up(0, 0, &short, &open(1, 1));
    let (raw, _) = bmp::frame(&octets).unwrap().unwrap();
    let error = bmp::parse(raw).unwrap_err();
    assert_eq!((error.reading, error.why), ("sent OPEN", Why::Length(18)));
}

/// Peers up in both forms, routes, an end.
fn session() -> Vec<u8> {
    let route = bgp::RouteUpdate {
        origin: 0,
        as_path: &[(bgp::SegmentKind::SEQUENCE, vec![64_501, 4_200_000_001])],
        next_hop: bgp::NextHop::V4([192, 0, 2, 7]),
        med: None,
        local_pref: Some(100),
        communities: &[1, 2],
        large_communities: &[],
        ext_communities: &[],
        originator_id: None,
        cluster_list: &[],
    };
    let prefix = NlriPrefix { path_id: 5, address: PrefixAddress::V4([198, 51, 100, 0]), len: 24 };
    let agreed = Agreed { add_path: vec![Family::V4_UNICAST], ..Agreed::default() };
    let mut update = Vec::new();
    bgp::encode_update(&mut update, Some(&route), &[prefix], &agreed);
    bgp::encode_end_of_rib(&mut update, Family::V6_UNICAST);
    let head = header(0, 0x40, 0, V4, 64_501);
    [
        message(bmp::kind::INITIATION, &[0, 2, 0, 2, b'r', b'1']),
        peer_up(0, 0, &open(1, 1), &open(2, 2)),
        message(bmp::kind::ROUTE_MONITORING, &[&head[..], &update].concat()),
        message(bmp::kind::STATISTICS, &[&head[..], &[0, 0, 0, 1, 0, 7, 0, 8, 0, 0, 0, 0, 0, 0, 0, 9]].concat()),
        message(bmp::kind::ROUTE_MIRRORING, &[&head[..], &[0, 1, 0, 2, 0, 1]].concat()),
        message(bmp::kind::PEER_DOWN, &[&head[..], &[2, 0, 18]].concat()),
        message(bmp::kind::TERMINATION, &[0, 1, 0, 2, 0, 0]),
    ]
    .concat()
}

#[test]
fn any_octets_are_refused_or_read() {
    let whole = session();
    case::run(&whole);
    // Every octet to what is often a limit, and cut there.
    for at in 0..whole.len() {
        for value in [0, 1, 4, 0x7f, 0xff] {
            let mut octets = whole.clone();
            octets[at] = value;
            case::run(&octets);
        }
        case::run(&whole[..at]);
        case::run(&whole[at..]);
    }
}
