//! BGP messages of real routers and of other implementations' tests, against what those say is in them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use benocs_wire::bgp::{
    self, Agreed, Capability, Class, Family, Message, NextHop, Nlri, NlriPrefix, Open, PrefixAddress, RouteUpdate,
    SegmentKind, Update, kind,
};

#[path = "bgp/link_state.rs"]
mod link_state;
mod streams;

use streams::streams;

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

/// File name and what the index says of it.
fn index(root: &Path) -> Vec<(PathBuf, String)> {
    let text = fs::read_to_string(root.join("INDEX.tsv")).unwrap();
    let rows = text.lines().filter(|line| line.starts_with("bgp/"));
    rows.map(|line| {
        let mut fields = line.split('\t');
        (root.join(fields.next().unwrap()), fields.nth(4).unwrap().to_owned())
    })
    .collect()
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks_exact(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// Some samples are the body of an UPDATE alone.
fn with_header(octets: Vec<u8>) -> Vec<u8> {
    if octets.starts_with(&[0xff; 16]) {
        return octets;
    }
    let length = (octets.len() as u16 + 19).to_be_bytes();
    [&[0xff; 16][..], &length, &[kind::UPDATE], &octets].concat()
}

fn all_streams(path: &Path) -> Vec<Vec<u8>> {
    let file = fs::read(path).unwrap();
    match path.extension().and_then(|extension| extension.to_str()).unwrap() {
        "pcap" | "pcapng" => streams(&file),
        "bin" => vec![file],
        "txt" => vec![with_header(hex(std::str::from_utf8(&file).unwrap().lines().nth(1).unwrap()))],
        "ci" => std::str::from_utf8(&file)
            .unwrap()
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split_once(":raw:"))
            .map(|(_, raw)| hex(raw))
            .collect(),
        other => panic!("{other}"),
    }
}

/// Frames of a stream that may start within a message or lose octets.
fn frames<'a>(mut stream: &'a [u8], agreed: &Agreed) -> Vec<bgp::Raw<'a>> {
    let mut list = Vec::new();
    while !stream.is_empty() {
        match bgp::frame(stream, agreed) {
            Ok(Some((raw, rest))) => {
                list.push(raw);
                stream = rest;
            }
            Ok(None) | Err(_) => {
                let Some(at) = stream[1..].windows(16).position(|window| window == [0xff; 16]) else { break };
                stream = &stream[1 + at..];
            }
        }
    }
    list
}

fn every_agreement() -> Vec<Agreed> {
    let add_path = [vec![], vec![Family::V4_UNICAST, Family::V6_UNICAST, Family::V4_LABELLED, Family::V4_VPN]];
    let mut list = Vec::new();
    for add_path in add_path {
        for bits in 0..4 {
            list.push(Agreed {
                four_octet_as: bits & 1 == 0,
                external: bits & 2 != 0,
                extended_messages: true,
                add_path: add_path.clone(),
                multiple_labels: if bits == 0 { vec![Family::V4_LABELLED, Family::V6_LABELLED] } else { Vec::new() },
            });
        }
    }
    list
}

/// Goes through everything that a message lends.
fn touch(message: &Message<'_>) -> usize {
    match message {
        Message::Update(update) => {
            let prefixes = update.withdrawals().flatten().count();
            let announced = update.announcements().flat_map(|(_, nlri)| nlri).count();
            let routes =
                update.announcements().flat_map(|(_, nlri)| nlri.routes()).map(|route| route.labels.iter().count());
            let rules = update.announcements().flat_map(|(_, nlri)| nlri.rules()).map(|rule| rule.to_string().len());
            let routes = routes.sum::<usize>() + rules.sum::<usize>() + update.attributes.unknown_transitive().count();
            prefixes + announced + routes + update.attributes.iter().count() + update.attributes.merged_as_path().len()
        }
        Message::Open(open) => open.families().len() + open.add_path_sends().len(),
        Message::Notification(notification) => notification.to_string().len(),
        Message::Keepalive => 0,
        Message::RouteRefresh(refresh) => usize::from(refresh.subtype),
    }
}

#[test]
fn every_sample_is_read_or_refused() {
    let Some(root) = samples() else { return };
    let mut touched = 0;
    for (path, _) in index(&root) {
        for stream in all_streams(&path) {
            for agreed in every_agreement() {
                for raw in frames(&stream, &agreed) {
                    if let Ok(message) = bgp::parse(raw, &agreed) {
                        touched += touch(&message);
                    }
                    // Cut anywhere, it is refused or read, and an offset lies inside.
                    for end in 0..raw.body.len().min(200) {
                        let cut = bgp::Raw { kind: raw.kind, body: &raw.body[..end] };
                        match bgp::parse(cut, &agreed) {
                            Ok(message) => touched += touch(&message),
                            Err(error) => assert!(error.error.offset <= bgp::HEADER_OCTETS + end, "{error}"),
                        }
                    }
                }
            }
        }
    }
    assert!(touched > 1000);
}

#[test]
fn counts_of_messages_are_the_index_ones() {
    let Some(root) = samples() else { return };
    let mut compared = 0;
    for (path, what) in index(&root) {
        if what.contains("malformed") || what.contains("frames") {
            continue;
        }
        let names = [
            (kind::OPEN, "OPEN="),
            (kind::UPDATE, "UPDATE="),
            (kind::NOTIFICATION, "NOTIFICATION="),
            (kind::KEEPALIVE, "KEEPALIVE="),
        ];
        let expected: BTreeMap<u8, usize> = names
            .into_iter()
            .filter_map(|(kind, name)| {
                let (_, rest) = what.split_once(name)?;
                Some((kind, rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()?))
            })
            .collect();
        if expected.is_empty() {
            continue;
        }
        let agreed = Agreed { extended_messages: true, ..Agreed::default() };
        let mut counts: BTreeMap<u8, usize> = BTreeMap::new();
        for stream in all_streams(&path) {
            for raw in frames(&stream, &agreed) {
                if raw.kind != kind::ROUTE_REFRESH {
                    *counts.entry(raw.kind).or_default() += 1;
                }
            }
        }
        assert_eq!(counts, expected, "{}", path.display());
        compared += 1;
    }
    assert!(compared > 60, "{compared}");
}

fn prefix_text(prefix: NlriPrefix) -> String {
    let ip = match prefix.address {
        PrefixAddress::V4(octets) => IpAddr::V4(Ipv4Addr::from(octets)),
        PrefixAddress::V6(octets) => IpAddr::V6(Ipv6Addr::from(octets)),
    };
    let id = if prefix.path_id == 0 { String::new() } else { format!(" {}", Ipv4Addr::from(prefix.path_id)) };
    format!("{ip}/{}{id}", prefix.len)
}

fn next_hop_text(next_hop: NextHop<'_>) -> String {
    match next_hop {
        NextHop::V4(octets) => Ipv4Addr::from(octets).to_string(),
        NextHop::V6(octets, _) => Ipv6Addr::from(octets).to_string(),
        NextHop::Other(octets) => format!("{octets:?}"),
    }
}

/// (announced as "next hop prefix", withdrawn)
fn routes(update: &Update<'_>) -> (BTreeSet<String>, BTreeSet<String>) {
    let announced = update.announcements().flat_map(|(next_hop, nlri)| {
        nlri.map(move |prefix| format!("{} {}", next_hop_text(next_hop), prefix_text(prefix)))
    });
    (announced.collect(), update.withdrawals().flatten().map(prefix_text).collect())
}

#[test]
fn unicast_routes_are_exabgp_ones() {
    let Some(root) = samples() else { return };
    let mut compared = 0;
    for (path, _) in index(&root).into_iter().filter(|(path, _)| path.to_string_lossy().contains("/exabgp__")) {
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let pairs: Vec<(String, serde_json::Value)> = if path.extension().is_some_and(|extension| extension == "txt") {
            vec![(lines[1].to_owned(), serde_json::from_str(lines[2]).unwrap())]
        } else {
            let after = |line: &str, mark: &str| line.split_once(mark).map(|(_, rest)| rest.to_owned());
            let pair = |pair: &[&str]| {
                Some((after(pair[0], ":raw:")?, serde_json::from_str(&after(pair[1], ":json:")?).ok()?))
            };
            lines.windows(2).filter_map(pair).collect()
        };
        for (raw, json) in pairs {
            let update = &json["neighbor"]["message"]["update"];
            let (mut announced, mut withdrawn) = (BTreeSet::new(), BTreeSet::new());
            let entry = |entry: &serde_json::Value| {
                let id = entry["path-information"].as_str().filter(|id| *id != "0.0.0.0");
                format!("{}{}", entry["nlri"].as_str().unwrap(), id.map_or(String::new(), |id| format!(" {id}")))
            };
            for family in ["ipv4 unicast", "ipv6 unicast"] {
                for (next_hop, list) in update["announce"][family].as_object().into_iter().flatten() {
                    announced.extend(list.as_array().unwrap().iter().map(|one| format!("{next_hop} {}", entry(one))));
                }
                withdrawn.extend(update["withdraw"][family].as_array().into_iter().flatten().map(entry));
            }
            let add_path = json.to_string().contains("path-information");
            let asns = &json["neighbor"]["asn"];
            let agreed = Agreed {
                external: asns["local"] != asns["peer"],
                add_path: if add_path { vec![Family::V4_UNICAST, Family::V6_UNICAST] } else { Vec::new() },
                ..Agreed::default()
            };
            let octets = with_header(hex(&raw));
            let (raw, _) = bgp::frame(&octets, &agreed).unwrap().unwrap();
            let Ok(Message::Update(parsed)) = bgp::parse(raw, &agreed) else { continue };
            // ExaBGP takes a next hop that no host can have; RFC 7606 section 7.3 withdraws the routes.
            if update["announce"]["ipv4 unicast"].get("255.255.255.255").is_some() {
                let attributes: Vec<u8> = parsed.faults.iter().map(|fault| fault.attribute).collect();
                assert_eq!(attributes, [3], "{}", path.display());
                continue;
            }
            assert_eq!(parsed.faults, [], "{}", path.display());
            assert_eq!(routes(&parsed), (announced, withdrawn), "{} {json}", path.display());
            let preference = update["attribute"]["local-preference"].as_u64();
            if preference.is_some() && !agreed.external {
                assert_eq!(parsed.attributes.local_pref.map(u64::from), preference, "{}", path.display());
            }
            compared += 1;
        }
    }
    assert!(compared > 40, "{compared}");
}

#[test]
fn unicast_routes_are_tcpdump_ones() {
    let Some(root) = samples() else { return };
    let mut compared = 0;
    for name in ["bgp-4byte-asn", "bgp-large-community", "bgp-ovs", "bgp-role"] {
        let golden = fs::read_to_string(root.join(format!("bgp/tcpdump__{name}.golden-tcpdump.txt"))).unwrap();
        let mut expected: Vec<String> = Vec::new();
        let mut inside = false;
        for line in golden.lines() {
            let word = line.trim();
            if inside && word.contains('/') && word.split('/').next().is_some_and(|ip| ip.parse::<Ipv4Addr>().is_ok()) {
                expected.push(word.to_owned());
                continue;
            }
            inside = word == "Updated routes:";
        }
        let file = ["pcap", "pcapng"].map(|extension| root.join(format!("bgp/tcpdump__{name}.{extension}")));
        let path = file.iter().find(|path| path.exists()).unwrap();
        let agreed = Agreed::default();
        let two_octets = Agreed { four_octet_as: false, ..Agreed::default() };
        let mut found: Vec<String> = Vec::new();
        for stream in all_streams(path) {
            for raw in frames(&stream, &agreed).into_iter().filter(|raw| raw.kind == kind::UPDATE) {
                // One direction of a session with a two-octet speaker: whichever of the two is without an error.
                let read = |agreed: &Agreed| match bgp::parse(raw, agreed) {
                    Ok(Message::Update(update)) if !update.treat_as_withdraw() => {
                        Some(update.nlri.map(prefix_text).collect::<Vec<_>>())
                    }
                    _ => None,
                };
                found.extend(read(&agreed).or_else(|| read(&two_octets)).unwrap_or_default());
            }
        }
        found.sort();
        expected.sort();
        assert_eq!(found, expected, "{name}");
        compared += expected.len();
    }
    assert!(compared > 10, "{compared}");
}

#[test]
fn ipv6_routes_are_tshark_ones() {
    let Some(root) = samples() else { return };
    let agreed = Agreed { external: true, four_octet_as: false, ..Agreed::default() };
    let golden = fs::read_to_string(root.join("bgp/ryu__bgp4-update_ipv6.pcap.golden-tshark.json")).unwrap();
    let (_, rest) = golden.split_once("bgp.mp_reach_nlri_ipv6_prefix\": \"").unwrap();
    let expected = rest.split('"').next().unwrap();
    let mut found = Vec::new();
    for stream in all_streams(&root.join("bgp/ryu__bgp4-update_ipv6.pcap")) {
        for raw in frames(&stream, &agreed) {
            let Ok(Message::Update(update)) = bgp::parse(raw, &agreed) else { panic!("not an update") };
            found.extend(update.mp_reach.into_iter().flat_map(|reach| reach.nlri).map(prefix_text));
        }
    }
    assert!(found.iter().any(|prefix| prefix.split('/').next() == expected.split('/').next()), "{found:?} {expected}");
}

#[test]
fn link_local_next_hops_are_read() {
    let Some(root) = samples() else { return };
    let agreed = Agreed { external: true, ..Agreed::default() };
    let mut pairs = 0;
    for stream in all_streams(&root.join("bgp/tcpdump__mpbgp-linklocal-nexthop.pcap")) {
        for raw in frames(&stream, &agreed) {
            if let Ok(Message::Update(Update { mp_reach: Some(reach), .. })) = bgp::parse(raw, &agreed)
                && let NextHop::V6(global, Some(link_local)) = reach.next_hop
            {
                // dead:beef::1 and fe80::...
                assert_eq!((global[0], link_local[0]), (0xde, 0xfe));
                pairs += 1;
            }
        }
    }
    assert!(pairs > 0);
}

fn open() -> Open<'static> {
    Open {
        version: 4,
        as_two_octets: bgp::AS_TRANS,
        hold_time_s: 90,
        bgp_id: [10, 0, 0, 1],
        capabilities: vec![
            Capability::MultiProtocol(Family::V6_UNICAST),
            Capability::RouteRefresh,
            Capability::ExtendedNextHop(vec![(Family::V4_UNICAST, 2)]),
            Capability::ExtendedMessage,
            Capability::MultipleLabels(vec![(Family::V4_LABELLED, 5)]),
            Capability::Role(3),
            Capability::GracefulRestart(bgp::GracefulRestart {
                restarted: true,
                notification: false,
                time_s: 120,
                families: vec![(Family::V4_UNICAST, true)],
            }),
            Capability::FourOctetAs(4_200_000_000),
            Capability::AddPath(vec![bgp::AddPath { family: Family::V4_UNICAST, receive: true, send: false }]),
            Capability::EnhancedRouteRefresh,
            Capability::LongLivedGracefulRestart(vec![(Family::V6_UNICAST, 0x80, 86_400)]),
            Capability::Unknown { code: 77, value: &[1, 2, 3] },
        ],
    }
}

fn one(octets: &[u8], agreed: &Agreed) -> Result<Message<'static>, bgp::BgpError> {
    let octets: &'static [u8] = octets.to_vec().leak();
    let (raw, rest) = bgp::frame(octets, agreed)?.expect("whole");
    assert!(rest.is_empty());
    bgp::parse(raw, agreed)
}

#[test]
fn open_survives_a_round_and_a_long_one_too() {
    let mut out = Vec::new();
    bgp::encode_open(&mut out, &open());
    assert_eq!(one(&out, &Agreed::default()), Ok(Message::Open(open())));
    assert_eq!(open().remote_as(), 4_200_000_000);
    // RFC 9072.
    let mut long = open();
    long.capabilities.extend((0..3).map(|code| Capability::Unknown { code: 200 + code, value: &[7; 200] }));
    out.clear();
    bgp::encode_open(&mut out, &long);
    assert_eq!(one(&out, &Agreed::default()), Ok(Message::Open(long)));
}

fn route() -> RouteUpdate<'static> {
    RouteUpdate {
        origin: 0,
        as_path: vec![(SegmentKind::SEQUENCE, vec![64_500, 4_200_000_000]), (SegmentKind::SET, vec![1, 2])].leak(),
        next_hop: NextHop::V4([192, 0, 2, 1]),
        med: Some(5),
        local_pref: Some(200),
        communities: &[0xfde8_0001],
        large_communities: &[[1, 2, 3]],
        ext_communities: &[[0, 2, 0xfd, 0xe8, 0, 0, 0, 1]],
        originator_id: Some([10, 0, 0, 9]),
        cluster_list: &[[10, 0, 0, 8]],
    }
}

fn v4(number: u32) -> NlriPrefix {
    NlriPrefix { path_id: 0, address: PrefixAddress::V4((0x0a00_0000 | number << 8).to_be_bytes()), len: 24 }
}

#[test]
fn updates_survive_a_round_in_as_many_messages_as_they_need() {
    let prefixes: Vec<NlriPrefix> = (0..3000).map(v4).collect();
    for agreed in every_agreement().into_iter().filter(|agreed| !agreed.external) {
        for route in [Some(route()), None] {
            let mut out = Vec::new();
            bgp::encode_update(&mut out, route.as_ref(), &prefixes, &agreed);
            let mut found = Vec::new();
            for raw in frames(&out, &agreed) {
                let Ok(Message::Update(update)) = bgp::parse(raw, &agreed) else { panic!("not an update") };
                assert_eq!(update.faults, []);
                if let Some(route) = &route {
                    // RFC 6793 4.2.3: also of a two-octet speaker.
                    assert_eq!(update.attributes.merged_as_path(), route.as_path);
                    assert_eq!(update.attributes.large_communities.len(), 1);
                    assert_eq!(update.attributes.originator_id, route.originator_id);
                    found.extend(update.announcements().flat_map(|(_, nlri)| nlri));
                } else {
                    found.extend(update.withdrawals().flatten());
                }
            }
            assert_eq!(found, prefixes);
        }
    }
}

#[test]
fn end_of_rib_is_one() {
    for family in [Family::V4_UNICAST, Family::V6_UNICAST, Family { afi: 1, safi: 128 }] {
        let mut out = Vec::new();
        bgp::encode_end_of_rib(&mut out, family);
        let Ok(Message::Update(update)) = one(&out, &Agreed::default()) else { panic!("not an update") };
        assert_eq!(update.end_of_rib(), Some(family));
    }
}

/// An UPDATE that announces 198.51.100.0/24 with these attributes.
fn update(attributes: &[u8]) -> Vec<u8> {
    update_with(&[], attributes, &[24, 198, 51, 100])
}

fn update_with(withdrawn: &[u8], attributes: &[u8], nlri: &[u8]) -> Vec<u8> {
    let length = 23 + withdrawn.len() + attributes.len() + nlri.len();
    let part = |part: &[u8]| [&(part.len() as u16).to_be_bytes(), part].concat();
    [&[0xff; 16][..], &(length as u16).to_be_bytes(), &[2], &part(withdrawn), &part(attributes), nlri].concat()
}

const ORIGIN: &[u8] = &[0x40, 1, 1, 0];
const AS_PATH: &[u8] = &[0x40, 2, 6, 2, 1, 0, 0, 0xfb, 0xf4];
const NEXT_HOP: &[u8] = &[0x40, 3, 4, 192, 0, 2, 1];

#[test]
fn errors_are_classed_as_rfc_7606_says() {
    let base = [ORIGIN, AS_PATH, NEXT_HOP].concat();
    let withdraw = Some(Class::TreatAsWithdraw);
    let discard = Some(Class::AttributeDiscard);
    // Attributes, from another AS, class.
    let cases: &[(&str, Vec<u8>, bool, Option<Class>)] = &[
        ("sound", base.clone(), false, None),
        ("3 c: flags", [&[0x80, 1, 1, 0], AS_PATH, NEXT_HOP].concat(), false, withdraw),
        ("3 d: no origin", [AS_PATH, NEXT_HOP].concat(), false, withdraw),
        ("3 d: no path", [ORIGIN, NEXT_HOP].concat(), false, withdraw),
        ("3 d: no next hop", [ORIGIN, AS_PATH].concat(), false, withdraw),
        ("3 g: twice", [&base[..], ORIGIN].concat(), false, discard),
        ("4: longer than the rest", [&base[..], &[0x80, 4, 9, 0]].concat(), false, withdraw),
        ("4: ends in a header", [&base[..], &[0x80]].concat(), false, withdraw),
        ("7.1: value", [&[0x40, 1, 1, 3], AS_PATH, NEXT_HOP].concat(), false, withdraw),
        ("7.1: length", [&[0x40, 1, 2, 0, 0], AS_PATH, NEXT_HOP].concat(), false, withdraw),
        ("7.2: segment type", [ORIGIN, &[0x40, 2, 6, 9, 1, 0, 0, 1, 1], NEXT_HOP].concat(), false, withdraw),
        ("7.2: overrun", [ORIGIN, &[0x40, 2, 6, 2, 2, 0, 0, 1, 1], NEXT_HOP].concat(), false, withdraw),
        ("7.2: empty segment", [ORIGIN, &[0x40, 2, 2, 2, 0], NEXT_HOP].concat(), false, withdraw),
        ("RFC 7607: AS 0", [ORIGIN, &[0x40, 2, 6, 2, 1, 0, 0, 0, 0], NEXT_HOP].concat(), false, withdraw),
        ("7.3", [ORIGIN, AS_PATH, &[0x40, 3, 5, 192, 0, 2, 1, 0]].concat(), false, withdraw),
        ("7.4", [&base[..], &[0x80, 4, 3, 0, 0, 0]].concat(), false, withdraw),
        ("7.5: internal", [&base[..], &[0x40, 5, 3, 0, 0, 0]].concat(), false, withdraw),
        ("7.5: external", [&base[..], &[0x40, 5, 3, 0, 0, 0]].concat(), true, discard),
        ("7.6", [&base[..], &[0x40, 6, 1, 0]].concat(), false, discard),
        ("7.7", [&base[..], &[0xc0, 7, 6, 0, 1, 1, 1, 1, 1]].concat(), false, discard),
        ("7.8", [&base[..], &[0xc0, 8, 3, 0, 0, 0]].concat(), false, withdraw),
        ("7.8: empty", [&base[..], &[0xc0, 8, 0]].concat(), false, withdraw),
        ("7.9: internal", [&base[..], &[0x80, 9, 3, 0, 0, 0]].concat(), false, withdraw),
        ("7.9: external", [&base[..], &[0x80, 9, 4, 0, 0, 0, 1]].concat(), true, discard),
        ("7.10: internal", [&base[..], &[0x80, 10, 3, 0, 0, 0]].concat(), false, withdraw),
        ("7.10: external", [&base[..], &[0x80, 10, 4, 0, 0, 0, 1]].concat(), true, discard),
        ("7.14", [&base[..], &[0xc0, 16, 7, 0, 0, 0, 0, 0, 0, 0]].concat(), false, withdraw),
        ("RFC 6793 6: between new speakers", [&base[..], &[0xc0, 17, 6, 2, 1, 0, 0, 0, 1]].concat(), false, discard),
        ("RFC 8092 6", [&base[..], &[0xc0, 32, 4, 0, 0, 0, 1]].concat(), false, withdraw),
        ("unknown, optional", [&base[..], &[0xc0, 99, 1, 0]].concat(), false, None),
    ];
    for (name, attributes, external, class) in cases {
        let agreed = Agreed { external: *external, ..Agreed::default() };
        let Ok(Message::Update(update)) = one(&update(attributes), &agreed) else { panic!("{name}: reset") };
        assert_eq!(update.faults.iter().map(|fault| fault.class).max(), *class, "{name}");
        let gone = *class == withdraw;
        assert_eq!(update.withdrawals().flatten().count(), usize::from(gone), "{name}");
        assert_eq!(
            update.announcements().flat_map(|(_, nlri): (_, Nlri<'_>)| nlri).count(),
            usize::from(!gone),
            "{name}"
        );
    }
    // What ends the session: attributes, withdrawn, NLRI, subcode.
    let reach = |next_hop: &[u8], nlri: &[u8]| {
        let value = [&[0, 2, 1, next_hop.len() as u8], next_hop, &[0], nlri].concat();
        [&[0x80, 14, value.len() as u8], &value[..]].concat()
    };
    let twice = [reach(&[1; 16], &[]), reach(&[1; 16], &[])].concat();
    let resets: &[(&str, Vec<u8>, u8)] = &[
        ("3 g: two MP_REACH_NLRI", update_with(&[], &twice, &[]), 1),
        ("3 j: attributes too long", [&[0xff; 16][..], &[0, 23, 2, 0, 0, 0, 1]].concat(), 1),
        ("5.3: length of 33", update_with(&[], &base, &[33, 1, 1, 1, 1, 1]), 10),
        ("5.3: overrun", update_with(&[24, 1], &[], &[]), 10),
        ("7.11: next hop", update_with(&[], &[&base[..], &reach(&[1; 15], &[])].concat(), &[]), 9),
        ("7.11: prefix of 129", update_with(&[], &[&base[..], &reach(&[1; 16], &[129])].concat(), &[]), 9),
        ("RFC 4271 6.3: unknown well-known", update(&[&base[..], &[0x40, 99, 1, 0]].concat()), 2),
    ];
    for (name, octets, subcode) in resets {
        let error = one(octets, &Agreed::default()).expect_err(name);
        assert_eq!((error.code, error.subcode), (3, *subcode), "{name}: {error}");
    }
}

#[test]
fn headers_are_checked() {
    let agreed = Agreed::default();
    let keepalive = [&[0xff; 16][..], &[0, 19, 4]].concat();
    assert_eq!(bgp::frame(&keepalive[..18], &agreed), Ok(None));
    let mut bad = keepalive.clone();
    bad[3] = 0;
    assert_eq!(
        bgp::frame(&bad, &agreed).map_err(|error| (error.code, error.subcode, error.error.offset)),
        Err((1, 1, 3))
    );
    for (length, kind, subcode) in [(18u16, 4u8, 2u8), (20, 4, 2), (4097, 2, 2), (28, 1, 2), (19, 9, 3)] {
        let octets = [&[0xff; 16][..], &length.to_be_bytes(), &[kind]].concat();
        assert_eq!(bgp::frame(&octets, &agreed).map_err(|error| (error.code, error.subcode)), Err((1, subcode)));
    }
}

#[test]
fn any_octets_are_refused_or_read() {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut seed = Vec::new();
    let prefixes: Vec<NlriPrefix> = (0..20).map(v4).collect();
    bgp::encode_update(&mut seed, Some(&route()), &prefixes, &Agreed::default());
    bgp::encode_open(&mut seed, &open());
    let agreements = every_agreement();
    let mut read = 0;
    for round in 0..200_000 {
        let mut octets = seed.clone();
        for _ in 0..1 + random() % 4 {
            let at = random() as usize % octets.len();
            octets[at] = random() as u8;
        }
        let agreed = &agreements[round % agreements.len()];
        for raw in frames(&octets, agreed) {
            read += bgp::parse(raw, agreed).map_or(0, |message| 1 + touch(&message));
        }
    }
    assert!(read > 0);
}

fn rd_text([a, b, c, d, e, f, g, h]: [u8; 8]) -> String {
    assert_eq!([a, b], [0, 0]);
    format!("{}:{}", u16::from_be_bytes([c, d]), u32::from_be_bytes([e, f, g, h]))
}

#[test]
fn vpn_routes_are_exabgp_ones() {
    let Some(root) = samples() else { return };
    let mut compared = 0;
    for (path, _) in index(&root).into_iter().filter(|(path, _)| path.to_string_lossy().contains("/exabgp__enc")) {
        let text = fs::read_to_string(&path).unwrap();
        for pair in text.lines().collect::<Vec<_>>().windows(2) {
            let (Some((_, raw)), Some((_, json))) = (pair[0].split_once(":raw:"), pair[1].split_once(":json:")) else {
                continue;
            };
            let Ok(json) = serde_json::from_str::<serde_json::Value>(json) else { continue };
            let mut expected = BTreeSet::new();
            let families = &json["neighbor"]["message"]["update"]["announce"];
            for family in ["ipv4 mpls-vpn", "ipv6 mpls-vpn", "ipv4 nlri-mpls", "ipv6 nlri-mpls"] {
                for (next_hop, list) in families[family].as_object().into_iter().flatten() {
                    for one in list.as_array().unwrap() {
                        let rd = one["rd"].as_str().unwrap_or("");
                        expected.insert(format!(
                            "{next_hop} {rd} {} {}",
                            one["label"][0][0],
                            one["nlri"].as_str().unwrap()
                        ));
                    }
                }
            }
            if expected.is_empty() || json.to_string().contains("path-information") {
                continue;
            }
            let octets = hex(raw);
            let (raw, _) = bgp::frame(&octets, &Agreed::default()).unwrap().unwrap();
            let Ok(Message::Update(update)) = bgp::parse(raw, &Agreed::default()) else { panic!("{}", path.display()) };
            let found: BTreeSet<String> = update
                .announcements()
                .flat_map(|(next_hop, nlri)| nlri.routes().map(move |route| (next_hop, route)))
                .map(|(next_hop, route)| {
                    let rd = route.rd.map_or(String::new(), rd_text);
                    let label = route.labels.iter().next().unwrap();
                    format!("{} {rd} {label} {}", next_hop_text(next_hop), prefix_text(route.prefix))
                })
                .collect();
            assert_eq!(found, expected, "{}", path.display());
            // As unicast they would be other routes.
            assert_eq!(update.announcements().flat_map(|(_, nlri)| nlri).count(), 0);
            compared += 1;
        }
    }
    assert!(compared > 3, "{compared}");
}

#[test]
fn stacks_of_several_labels_are_read() {
    let Some(root) = samples() else { return };
    let agreed = Agreed { multiple_labels: vec![Family::V4_LABELLED], ..Agreed::default() };
    let mut found = Vec::new();
    for stream in all_streams(&root.join("bgp/tcpdump__bgp-lu-multiple-labels.pcap")) {
        for raw in frames(&stream, &agreed).into_iter().filter(|raw| raw.kind == kind::UPDATE) {
            let Ok(Message::Update(update)) = bgp::parse(raw, &agreed) else { panic!("not an update") };
            for route in update.announcements().flat_map(|(_, nlri)| nlri.routes().collect::<Vec<_>>()) {
                let labels: Vec<String> = route.labels.iter().map(|label| label.to_string()).collect();
                if !labels.is_empty() {
                    found.push(format!("{} {}", prefix_text(route.prefix), labels.join(" ")));
                }
            }
        }
    }
    // tcpdump does not know RFC 8277's stacks: "illegal prefix length".
    assert_eq!(found, ["30.1.1.1/32 100 101 102 103", "30.1.1.1/32 100 101 102 103"]);
}

#[test]
fn rules_are_read_as_they_were_meant() {
    let Some(root) = samples() else { return };
    let mut found = Vec::new();
    for name in ["ipv4", "vpn4", "ipv6"] {
        for stream in all_streams(&root.join(format!("bgp/ryu__flowspec_nlri_{name}.pcap"))) {
            for raw in frames(&stream, &Agreed::default()).into_iter().filter(|raw| raw.kind == kind::UPDATE) {
                let Ok(Message::Update(update)) = bgp::parse(raw, &Agreed::default()) else { panic!("{name}") };
                for fault in &update.faults {
                    found.push(format!("{name} {}", fault.error));
                }
                for (_, nlri) in update.announcements() {
                    found.extend(nlri.rules().map(|rule| format!("{name} {:?} {rule}", rule.rd.map(rd_text))));
                }
            }
        }
    }
    // The values of the tshark goldens, in the order of RFC 8955 4.2.2.
    let numbers = "protocol =1,=2,=6,=9,=17,=46,=132,=8,=47,=89,=94,=103 port =80,>=8080&<=8888 destination-port \
                   =8080,>=9000&<=9090 source-port =9090,>=9100&<=200 icmp-type =0 icmp-code =6 tcp-flags 0x12,0x1 \
                   packet-length =100 dscp =22,=24 fragment 0x1,0x4";
    let expected = [
        format!("ipv4 None destination 10.0.0.0/24 source 20.0.0.0/24 {numbers}"),
        format!("vpn4 Some(\"65001:250\") destination 30.0.0.0/24 source 40.0.0.0/24 {numbers}"),
        // It writes addresses whole, as a draft did; RFC 8956 3.1 begins at the offset.
        "ipv6 octet 59: component type: value 0 is not allowed".to_owned(),
    ];
    assert_eq!(found, expected);
}
