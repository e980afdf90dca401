//! MRT files of real collectors and routers, against what bgpdump says is in them.
//!
//! Where bgpdump is not installed the test says so and passes, except under CI.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use benocs_wire::bgp::{
    self, Attributes, Family, NextHop, NlriPrefix, PrefixAddress, RouteUpdate, SegmentKind, TableRoute, Update,
};
use benocs_wire::error::{Why, WireError};
use benocs_wire::mrt::{self, HEADER_OCTETS, Header, IndexedPeer, Message};

#[path = "../../fuzz/fuzz_targets/cases/mrt.rs"]
mod case;

const BGPDUMP: &str = "/usr/bin/bgpdump";

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

fn bgpdump_is_there() -> bool {
    let there = Path::new(BGPDUMP).exists();
    assert!(there || std::env::var_os("CI").is_none(), "not installed: {BGPDUMP}");
    if !there {
        eprintln!("skipped: not installed: {BGPDUMP}");
    }
    there
}

/// Decompressed, up to where the compression breaks off.
fn octets(path: &Path) -> Vec<u8> {
    let file = fs::read(path).unwrap();
    let mut reader: Box<dyn std::io::Read + '_> = if file.starts_with(&[0x1f, 0x8b]) {
        Box::new(flate2::read::MultiGzDecoder::new(file.as_slice()))
    } else if file.starts_with(b"BZh") {
        Box::new(bzip2::read::MultiBzDecoder::new(file.as_slice()))
    } else {
        Box::new(file.as_slice())
    };
    let mut out = Vec::new();
    let mut part = [0; 4096];
    while let Ok(count @ 1..) = reader.read(&mut part) {
        out.extend_from_slice(&part[..count]);
    }
    out
}

/// Records, and where the first one that is not whole begins.
fn records(mut file: &[u8]) -> (Vec<(Header, &[u8])>, usize) {
    let whole = file.len();
    let mut list = Vec::new();
    while let Some((head, rest)) = file.split_first_chunk::<HEADER_OCTETS>() {
        let Ok(header) = Header::parse(head) else { break };
        let Some((body, rest)) = rest.split_at_checked(header.octets) else { break };
        list.push((header, body));
        file = rest;
    }
    (list, whole - file.len())
}

fn prefix(prefix: &NlriPrefix) -> String {
    let address = match prefix.address {
        PrefixAddress::V4(octets) => IpAddr::from(octets),
        PrefixAddress::V6(octets) => IpAddr::from(octets),
    };
    format!("{address}/{}", prefix.len)
}

fn hop(hop: &NextHop<'_>) -> String {
    match hop {
        NextHop::V4(octets) => IpAddr::from(*octets).to_string(),
        NextHop::V6(octets, _) => IpAddr::from(*octets).to_string(),
        NextHop::Other(octets) => format!("{octets:?}"),
    }
}

fn as_path(attributes: &Attributes<'_>) -> String {
    let segment = |(kind, asns): &(SegmentKind, Vec<u32>)| {
        let join = |with: &str| asns.iter().map(u32::to_string).collect::<Vec<_>>().join(with);
        match *kind {
            SegmentKind::SET => format!("{{{}}}", join(",")),
            SegmentKind::CONFEDERATION_SEQUENCE => format!("({})", join(" ")),
            SegmentKind::CONFEDERATION_SET => format!("[{}]", join(",")),
            _ => join(" "),
        }
    };
    attributes.merged_as_path().iter().map(segment).collect::<Vec<_>>().join(" ")
}

/// What bgpdump -m -l writes of a route's attributes.
fn attributes(attributes: &Attributes<'_>, next_hop: &str) -> String {
    let origin = ["IGP", "EGP", "INCOMPLETE"][usize::from(attributes.origin.unwrap_or(2))];
    let community = |octets: &[u8; 4]| match u32::from_be_bytes(*octets) {
        0xffff_ff01 => "no-export".to_owned(),
        0xffff_ff02 => "no-advertise".to_owned(),
        0xffff_ff03 => "local-AS".to_owned(),
        number => format!("{}:{}", number >> 16, number & 0xffff),
    };
    let large = |octets: &[u8; 12]| {
        let words = octets.as_chunks::<4>().0.iter().map(|word| u32::from_be_bytes(*word).to_string());
        words.collect::<Vec<_>>().join(":")
    };
    let communities: Vec<String> = attributes.communities.iter().map(community).collect();
    let large: Vec<String> = attributes.large_communities.iter().map(large).collect();
    let aggregator = attributes.as4_aggregator.or(attributes.aggregator);
    let next_hop = if next_hop.is_empty() { "255.255.255.255" } else { next_hop };
    format!(
        "{}|{origin}|{next_hop}|{}|{}|{}|{}|{}|{}|",
        as_path(attributes),
        attributes.local_pref.unwrap_or(0),
        attributes.med.unwrap_or(0),
        communities.join(" "),
        large.join(" "),
        if attributes.atomic_aggregate { "AG" } else { "NAG" },
        aggregator.map(|(number, id)| format!("{number} {}", IpAddr::from(id))).unwrap_or_default(),
    )
}

/// The lines of a file, and what could not be read.
#[derive(Default)]
struct Reading {
    lines: Vec<String>,
    skipped: usize,
    unread: Vec<String>,
}

impl Reading {
    fn of(file: &[u8]) -> Self {
        let mut reading = Self::default();
        let mut peers: Vec<IndexedPeer> = Vec::new();
        for (number, (header, body)) in records(file).0.into_iter().enumerate() {
            match mrt::parse(&header, body) {
                Ok(Message::PeerIndex(index)) => peers = index.peers().collect(),
                Ok(message) => reading.message(&header, &peers, &message),
                Err(error) => reading.unread.push(format!("record {number}: {error}")),
            }
        }
        reading
    }

    fn route(&mut self, head: String, route: Result<TableRoute<'_>, bgp::BgpError>) {
        match route {
            Ok(route) if route.treat_as_withdraw() => self.unread.push(format!("{head}: {:?}", route.faults)),
            Ok(route) => {
                let next_hop = route.next_hop.as_ref().map(hop).unwrap_or_default();
                self.lines.push(format!("{head}{}", attributes(&route.attributes, &next_hop)));
            }
            Err(error) => self.unread.push(format!("{head}: {error}")),
        }
    }

    fn message(&mut self, header: &Header, peers: &[IndexedPeer], message: &Message<'_>) {
        let time = header.time_s;
        match message {
            Message::PeerIndex(_) => {}
            Message::Skipped => self.skipped += 1,
            Message::Rib(rib) => {
                for entry in rib.entries() {
                    let Some(peer) = peers.get(usize::from(entry.peer)) else {
                        self.unread.push(format!("peer {}", entry.peer));
                        continue;
                    };
                    let (name, id) = match rib.has_path_ids() {
                        true => ("TABLE_DUMP2_AP", format!("{}|", entry.path_id)),
                        false => ("TABLE_DUMP2", String::new()),
                    };
                    let prefix = prefix(&rib.prefix);
                    let head = format!("{name}|{time}|B|{}|{}|{prefix}|{id}", peer.address, peer.remote_as);
                    self.route(head, entry.route());
                }
            }
            Message::Table(table) => {
                let head = format!("TABLE_DUMP|{time}|B|{}|{}|{}|", table.peer, table.peer_as, prefix(&table.prefix));
                self.route(head, table.route());
            }
            Message::State(state) => {
                let name = if header.kind == mrt::kind::BGP { "BGP" } else { "BGP4MP" };
                self.lines
                    .push(format!("{name}|{time}|STATE|{}|{}|{}|{}", state.peer, state.peer_as, state.old, state.new));
            }
            Message::Bgp(message) => {
                let name = match (header.kind, message.has_path_ids()) {
                    (mrt::kind::BGP, _) => "BGP",
                    (_, true) => "BGP4MP_AP",
                    _ => "BGP4MP",
                };
                let head = |what: char| format!("{name}|{time}|{what}|{}|{}|", message.peer, message.peer_as);
                match message.read() {
                    Ok(bgp::Message::Update(update)) => self.update(&head, &update, message.has_path_ids()),
                    Ok(_) => {}
                    Err(error) => self.unread.push(format!("{}{error}", head('U'))),
                }
            }
        }
    }

    fn update(&mut self, head: &dyn Fn(char) -> String, update: &Update<'_>, path_ids: bool) {
        if update.treat_as_withdraw() {
            self.unread.push(format!("{}{:?}", head('A'), update.faults));
            return;
        }
        let id = |prefix: &NlriPrefix| if path_ids { format!("|{}", prefix.path_id) } else { String::new() };
        for route in update.withdrawals().flatten() {
            self.lines.push(format!("{}{}{}", head('W'), prefix(&route), id(&route)));
        }
        for (next_hop, nlri) in update.announcements() {
            for route in nlri {
                let text = attributes(&update.attributes, &hop(&next_hop));
                self.lines.push(format!("{}{}{}|{text}", head('A'), prefix(&route), id(&route)));
            }
        }
        // bgpdump does not say that these are of multicast, which is no family that is read here.
        if let Some(unreach) = update.mp_unreach.filter(|unreach| unreach.family == V4_MULTICAST) {
            multicast(unreach.skipped.unwrap_or_default())
                .for_each(|prefix| self.lines.push(format!("{}{prefix}", head('W'))));
        }
        if let Some(reach) = update.mp_reach.filter(|reach| reach.family == V4_MULTICAST) {
            let NextHop::Other([a, b, c, d]) = reach.next_hop else { return };
            let text = attributes(&update.attributes, &format!("{a}.{b}.{c}.{d}"));
            multicast(reach.skipped.unwrap_or_default())
                .for_each(|prefix| self.lines.push(format!("{}{prefix}|{text}", head('A'))));
        }
    }
}

const V4_MULTICAST: Family = Family { afi: 1, safi: 2 };

fn multicast(mut octets: &[u8]) -> impl Iterator<Item = String> {
    std::iter::from_fn(move || {
        let (&len, rest) = octets.split_first()?;
        let (prefix, rest) = rest.split_at(usize::from(len).div_ceil(8));
        octets = rest;
        let mut address = [0; 4];
        address[..prefix.len()].copy_from_slice(prefix);
        Some(format!("{}/{len}", IpAddr::from(address)))
    })
}

/// bgpdump shortens IPv6 addresses in another way, has no communities for the oldest type, and writes the
/// peer's address in place of the prefix that goes there.
fn normal(line: &str) -> String {
    let mut fields: Vec<String> = line
        .split('|')
        .map(|field| {
            let (address, len) = field.split_once('/').map_or((field, None), |(address, len)| (address, Some(len)));
            match (address.parse::<IpAddr>(), len) {
                (Ok(address), Some(len)) => format!("{address}/{len}"),
                (Ok(address), None) => address.to_string(),
                _ => field.to_owned(),
            }
        })
        .collect();
    if fields[0] == "BGP" && fields[2] == "W" {
        fields.truncate(5);
    }
    if fields[0] == "BGP" && fields[2] == "A" && fields.len() == 16 {
        fields.drain(11..13);
    }
    fields.join("|")
}

fn bgpdump(path: &Path) -> Vec<String> {
    let output = Command::new(BGPDUMP).args(["-q", "-m", "-l"]).arg(path).output().unwrap();
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

/// Lines that are in one list more often than in the other.
fn difference(ours: &[String], theirs: &[String]) -> (Vec<String>, Vec<String>) {
    let mut counts: BTreeMap<String, i64> = BTreeMap::new();
    ours.iter().for_each(|line| *counts.entry(normal(line)).or_default() += 1);
    theirs.iter().for_each(|line| *counts.entry(normal(line)).or_default() -= 1);
    let pick = |sign: i64| {
        let lines = counts.iter().filter(|(_, count)| **count * sign > 0);
        lines.map(|(line, _)| line.clone()).collect::<Vec<_>>()
    };
    (pick(1), pick(-1))
}

/// Where the two differ: lines that are ours only, theirs only, what is not read here, and why.
const EXPLAINED: [(&str, usize, usize, usize, &str); 5] = [
    ("bgpdump__updates.nlri_mask_trailing_bits.gz", 0, 1, 1, "its second prefix is cut off: the message is in error"),
    (
        "bgpkit__rrc00-2000.03-updates.20000325.0345.gz",
        0,
        1,
        1,
        "damage from octet 188 on, which bgpdump reads as routes",
    ),
    (
        "mrtparse__bird6_bgp.mrt",
        14,
        16,
        0,
        "path identifiers in a record that says it has none: prefixes are as in bird6_rib",
    ),
    (
        "mrtparse__openbgpd_rib_table.mrt",
        1,
        1,
        0,
        "AGGREGATOR of 8 octets among AS numbers of two: discarded (RFC 7606 7.7)",
    ),
    ("pyasn__bview.20140112.1600_3samples.bz2", 0, 0, 3, "no PEER_INDEX_TABLE"),
];

/// Records that are not read: KEEPALIVE of the oldest type, damage, OPEN without addresses, BGP4MP entries, RIB_GENERIC.
const SKIPPED: [(&str, usize); 5] = [
    ("bgpkit__rrc00-2000.01-updates.20000102.2014.gz", 123),
    ("bgpkit__rrc00-2000.03-updates.20000325.0345.gz", 2),
    ("bgpkit__rrc01-2000.11-updates.20001104.0124.gz", 21),
    ("mrtparse__openbgpd_rib_table-mp.mrt", 31),
    ("mrtparse__openbgpd_rib_table-v2.mrt", 2),
];

#[test]
fn files_are_read_as_bgpdump_reads_them() {
    let Some(root) = samples() else { return };
    if !bgpdump_is_there() {
        return;
    }
    let text = fs::read_to_string(root.join("INDEX.tsv")).unwrap();
    let mut lines = 0;
    for line in text.lines().filter(|line| line.starts_with("mrt/")) {
        let name = line.split('\t').next().unwrap().trim_start_matches("mrt/");
        let path = root.join("mrt").join(name);
        let reading = Reading::of(&octets(&path));
        let (ours, theirs) = difference(&reading.lines, &bgpdump(&path));
        let explained = EXPLAINED.iter().find(|row| row.0 == name).map_or((0, 0, 0), |row| (row.1, row.2, row.3));
        let shown = (ours.first(), theirs.first(), reading.unread.first());
        assert_eq!((ours.len(), theirs.len(), reading.unread.len()), explained, "{name}: {shown:#?}");
        let skipped = SKIPPED.iter().find(|row| row.0 == name).map_or(0, |row| row.1);
        assert_eq!(reading.skipped, skipped, "{name}");
        lines += reading.lines.len();
    }
    assert!(lines > 480_000, "{lines} lines");
}

#[test]
fn path_identifiers_are_found_where_the_subtype_does_not_tell() {
    let Some(root) = samples() else { return };
    let reading = Reading::of(&octets(&root.join("mrt/mrtparse__bird6_bgp.mrt")));
    let has = |text: &str| reading.lines.iter().any(|line| line.contains(text));
    assert!(has("|fd01:1:1::/64|4200000000 4200000000 4200000000 64512 64512 64512|IGP|fd02::10|"));
    assert!(has("|fd01:1:2::/64|4294967194 4294967194 4294967194 65534 65534 65534|IGP|fd02::10|"));
}

fn peers() -> Vec<IndexedPeer> {
    let peer = |id: u8, address: &str, remote_as| IndexedPeer {
        bgp_id: [10, 0, 0, id],
        address: address.parse().unwrap(),
        remote_as,
    };
    vec![peer(1, "192.0.2.1", 64_500), peer(2, "2001:db8::2", 4_200_000_000)]
}

/// A table of both families, with an IPv4 route by an IPv6 next hop and several paths.
fn dump() -> Vec<u8> {
    const TIME_S: u32 = 1_700_000_000;
    let mut out = Vec::new();
    mrt::encode_peer_index(&mut out, TIME_S, [10, 255, 0, 1], "benocs", &peers());
    let path = [(SegmentKind::SEQUENCE, vec![64_500, 4_200_000_001]), (SegmentKind::SET, vec![64_501, 64_502])];
    let v6 = NextHop::V6([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9], None);
    let plain = RouteUpdate {
        origin: 0,
        as_path: &path,
        next_hop: NextHop::V4([192, 0, 2, 9]),
        med: Some(5),
        local_pref: Some(200),
        communities: &[64_500 << 16 | 100],
        large_communities: &[[64_500, 1, 2]],
        ext_communities: &[[0, 2, 0xfb, 0xf4, 0, 0, 0, 7]],
        originator_id: Some([10, 0, 0, 9]),
        cluster_list: &[[10, 0, 0, 8]],
    };
    let six = RouteUpdate { next_hop: v6, origin: 2, as_path: &path[..1], ..plain.clone() };
    let (mut first, mut second) = (Vec::new(), Vec::new());
    assert!(mrt::encode_attributes(&mut first, &plain) && mrt::encode_attributes(&mut second, &six));
    let v4 = |a: u8, len| NlriPrefix { path_id: 0, address: PrefixAddress::V4([10, a, 0, 0]), len };
    let mut long = [0; 16];
    long[..6].copy_from_slice(&[0x20, 1, 0xd, 0xb8, 1, 0]);
    let long = NlriPrefix { path_id: 0, address: PrefixAddress::V6(long), len: 40 };
    mrt::encode_rib(&mut out, TIME_S, 0, &v4(1, 16), &[(0, TIME_S - 9, 0, &first), (1, TIME_S - 8, 0, &second)]);
    mrt::encode_rib(&mut out, TIME_S, 1, &v4(2, 15), &[(0, TIME_S, 7, &first), (0, TIME_S, 8, &second)]);
    mrt::encode_rib(&mut out, TIME_S, 2, &v4(0, 0), &[(0, TIME_S, 0, &first)]);
    mrt::encode_rib(&mut out, TIME_S, 3, &long, &[(1, TIME_S, 0, &second)]);
    mrt::encode_rib(&mut out, TIME_S, 4, &long, &[(1, TIME_S, 3, &second)]);
    out
}

const WRITTEN: [&str; 7] = [
    "TABLE_DUMP2_AP|1700000000|B|192.0.2.1|64500|10.2.0.0/15|7|64500 4200000001 {64501,64502}|IGP|192.0.2.9|200|5|64500:100|64500:1:2|NAG||",
    "TABLE_DUMP2_AP|1700000000|B|192.0.2.1|64500|10.2.0.0/15|8|64500 4200000001|INCOMPLETE|2001:db8::9|200|5|64500:100|64500:1:2|NAG||",
    "TABLE_DUMP2_AP|1700000000|B|2001:db8::2|4200000000|2001:db8:100::/40|3|64500 4200000001|INCOMPLETE|2001:db8::9|200|5|64500:100|64500:1:2|NAG||",
    "TABLE_DUMP2|1700000000|B|192.0.2.1|64500|0.0.0.0/0|64500 4200000001 {64501,64502}|IGP|192.0.2.9|200|5|64500:100|64500:1:2|NAG||",
    "TABLE_DUMP2|1700000000|B|192.0.2.1|64500|10.1.0.0/16|64500 4200000001 {64501,64502}|IGP|192.0.2.9|200|5|64500:100|64500:1:2|NAG||",
    "TABLE_DUMP2|1700000000|B|2001:db8::2|4200000000|10.1.0.0/16|64500 4200000001|INCOMPLETE|2001:db8::9|200|5|64500:100|64500:1:2|NAG||",
    "TABLE_DUMP2|1700000000|B|2001:db8::2|4200000000|2001:db8:100::/40|64500 4200000001|INCOMPLETE|2001:db8::9|200|5|64500:100|64500:1:2|NAG||",
];

#[test]
fn a_table_that_is_written_is_read_again_here_and_by_bgpdump() {
    let file = dump();
    let mut reading = Reading::of(&file);
    reading.lines.sort();
    assert_eq!(reading.lines, WRITTEN);
    assert!(reading.unread.is_empty() && reading.skipped == 0);
    let (records, octets) = records(&file);
    assert_eq!(octets, file.len());
    let Ok(Message::PeerIndex(index)) = mrt::parse(&records[0].0, records[0].1) else { panic!("no peers") };
    assert_eq!((index.collector_id, index.view), ([10, 255, 0, 1], b"benocs".as_slice()));
    assert_eq!(index.peers().collect::<Vec<_>>(), peers());
    // What bgpdump does not show.
    let Ok(Message::Rib(rib)) = mrt::parse(&records[1].0, records[1].1) else { panic!("no routes") };
    let route = rib.entries().next().unwrap().route().unwrap();
    assert!(route.faults.is_empty());
    assert_eq!(route.attributes.originator_id, Some([10, 0, 0, 9]));
    assert_eq!(route.attributes.cluster_list, [[10, 0, 0, 8]]);
    assert_eq!(route.attributes.extended_communities, [[0, 2, 0xfb, 0xf4, 0, 0, 0, 7]]);
    assert_eq!(rib.entries().map(|entry| entry.since_s).collect::<Vec<_>>(), [1_699_999_991, 1_699_999_992]);
    if !bgpdump_is_there() {
        return;
    }
    let directory = std::env::temp_dir().join(format!("benocs-mrt-{}", std::process::id()));
    fs::write(&directory, &file).unwrap();
    let mut theirs: Vec<String> = bgpdump(&directory).iter().map(|line| normal(line)).collect();
    fs::remove_file(&directory).unwrap();
    theirs.sort();
    assert_eq!(theirs, WRITTEN);
}

#[test]
fn attributes_that_are_longer_than_an_entry_may_be_are_not_written() {
    let communities: Vec<u32> = (0..20_000).collect();
    let route = RouteUpdate {
        origin: 0,
        as_path: &[],
        next_hop: NextHop::V4([192, 0, 2, 1]),
        med: None,
        local_pref: None,
        communities: &communities[..16_000],
        large_communities: &[],
        ext_communities: &[],
        originator_id: None,
        cluster_list: &[],
    };
    let mut out = vec![7];
    assert!(mrt::encode_attributes(&mut out, &route));
    out.truncate(1);
    assert!(!mrt::encode_attributes(&mut out, &RouteUpdate { communities: &communities[..16_383], ..route }));
    assert_eq!(out, [7]);
}

#[test]
fn a_record_that_is_cut_says_where() {
    let file = dump();
    for (header, body) in records(&file).0 {
        for end in 0..body.len() {
            let error = mrt::parse(&header, &body[..end]).unwrap_err();
            assert!(error.offset <= HEADER_OCTETS + end, "{error}");
        }
    }
    let head = |length: u32| {
        let mut head = [0; HEADER_OCTETS];
        head[8..].copy_from_slice(&length.to_be_bytes());
        Header::parse(&head)
    };
    let most = mrt::BODY_OCTETS_MAX as u32;
    assert!(head(most).is_ok());
    let error = WireError { offset: 8, reading: "record length", why: Why::Length(most + 1) };
    assert_eq!(head(most + 1), Err(error));
    // A prefix of 33 bits.
    let header = Header { time_s: 0, kind: mrt::kind::TABLE_DUMP_V2, subtype: 2, octets: 12 };
    let error = mrt::parse(&header, &[0, 0, 0, 0, 33, 1, 2, 3, 4, 5, 0, 0]).unwrap_err();
    assert_eq!(error, WireError { offset: 16, reading: "prefix length", why: Why::Length(33) });
}

#[test]
fn any_octets_are_refused_or_read() {
    let whole = dump();
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
