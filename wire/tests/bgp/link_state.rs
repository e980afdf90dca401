//! Link state of real routers against what ExaBGP and tshark say of it, and messages made by hand.

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::process::Command;

use benocs_wire::bgp::link_state::{
    Fact, LinkStateNlri, NlriKind, NodeDescriptor, NodeFlags, Object, Protocol, Sid, SidRange,
};
use benocs_wire::bgp::{self, Agreed, Class, Family, Message, PrefixAddress, Update, kind};
use serde_json::{Value, json};

use super::{hex, samples, with_header};

#[path = "../../../fuzz/fuzz_targets/cases/link_state.rs"]
mod case;

fn read(octets: &[u8]) -> Update<'_> {
    let agreed = Agreed::default();
    let (raw, rest) = bgp::frame(octets, &agreed).unwrap().unwrap();
    assert!(rest.is_empty());
    match bgp::parse(raw, &agreed).unwrap() {
        Message::Update(update) => update,
        other => panic!("{other:?}"),
    }
}

fn v4(octets: [u8; 4]) -> String {
    Ipv4Addr::from(octets).to_string()
}

fn digits(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// As ExaBGP writes a node.
fn node_json(node: &NodeDescriptor<'_>, protocol: Protocol) -> Value {
    let mut list = Vec::new();
    list.extend(node.asn.map(|asn| json!({ "autonomous-system": asn })));
    list.extend(node.bgp_ls_id.map(|id| json!({ "bgp-ls-identifier": id.to_string() })));
    list.extend(node.area.map(|area| json!({ "ospf-area-id": v4(area) })));
    list.push(match *node.igp_router_id {
        [a, b, c, d] => json!({ "router-id": v4([a, b, c, d]) }),
        [a, b, c, d, w, x, y, z] => {
            json!({ "router-id": v4([a, b, c, d]), "designated-router-id": v4([w, x, y, z]) })
        }
        [.., number] if node.is_pseudonode(protocol) => {
            json!({ "router-id": digits(node.igp_router_id), "psn": number.to_string() })
        }
        ref octets => json!({ "router-id": digits(octets) }),
    });
    list.into()
}

fn nlri_json(nlri: &LinkStateNlri<'_>) -> Value {
    let mut value = json!({ "l3-routing-topology": nlri.identifier, "protocol-id": nlri.protocol.0 });
    let fields = match nlri.object {
        Object::Node(node) => json!({
            "ls-nlri-type": "bgpls-node", "node-descriptors": node_json(&node, nlri.protocol),
        }),
        Object::Link { local, remote, link } => json!({
            "ls-nlri-type": "bgpls-link",
            "local-node-descriptors": node_json(&local, nlri.protocol),
            "remote-node-descriptors": node_json(&remote, nlri.protocol),
            "interface-addresses": link.local_v4.map(v4).into_iter().collect::<Vec<_>>(),
            "neighbor-addresses": link.remote_v4.map(v4).into_iter().collect::<Vec<_>>(),
            "multi-topology-ids": link.topology.into_iter().collect::<Vec<_>>(),
            "link-identifiers": link.identifiers.map(|(local, remote)| {
                json!({ "link-local-id": local, "link-remote-id": remote })
            }).into_iter().collect::<Vec<_>>(),
        }),
        other => panic!("{other:?}"),
    };
    value.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    value
}

/// Bits from the highest, as ExaBGP names them.
fn bits(names: &[&str], octet: u8) -> Value {
    let bit = |(at, name): (usize, &&str)| ((*name).to_owned(), json!(octet >> (7 - at) & 1));
    let mut fields: serde_json::Map<_, _> = names.iter().enumerate().map(bit).collect();
    fields.insert("RSV".to_owned(), json!(octet & (0xff >> names.len())));
    fields.into()
}

fn facts_json(update: &Update<'_>) -> Value {
    let mut fields = serde_json::Map::new();
    let push = |fields: &mut serde_json::Map<String, Value>, name: &str, value: Value| {
        let list = fields.entry(name).or_insert_with(|| json!([]));
        list.as_array_mut().unwrap().push(value);
    };
    for fact in update.attributes.link_state.unwrap().facts() {
        let (name, value) = match fact {
            Fact::IgpMetric { metric, .. } => ("igp-metric", json!(metric)),
            Fact::TeMetric(metric) => ("te-metric", json!(metric)),
            Fact::AdminGroup(mask) => ("admin-group-mask", json!(mask)),
            Fact::Bandwidth(octets) => ("maximum-link-bandwidth", json!(octets)),
            Fact::ReservableBandwidth(octets) => ("maximum-reservable-link-bandwidth", json!(octets)),
            Fact::UnreservedBandwidth(octets) => ("unreserved-bandwidth", json!(octets)),
            Fact::LinkIdentifiers(local, remote) => {
                ("link-local-remote-identifiers", json!({ "local-id": local, "remote-id": remote }))
            }
            Fact::NodeFlags(NodeFlags(flags)) => ("node-flags", bits(&["O", "T", "E", "B", "R", "V"], flags)),
            Fact::NodeName(name) => ("node-name", json!(std::str::from_utf8(name).unwrap())),
            Fact::Area(area) => {
                // ExaBGP writes the address as one number.
                let number = area.iter().fold(0u128, |number, octet| number << 8 | u128::from(*octet));
                push(&mut fields, "area-ids", json!(number.to_string()));
                continue;
            }
            Fact::LocalRouterV4(id) => {
                push(&mut fields, "local-router-ids", json!(v4(id)));
                continue;
            }
            Fact::AdjacencySid { flags, weight, neighbour: None, sid: Sid::Label(label) } => {
                let flags = bits(&["F", "B", "V", "L", "S", "P"], flags);
                let entry = json!({ "flags": flags, "sids": [label], "weight": weight, "undecoded-sids": [] });
                push(&mut fields, "sr-adjs", entry);
                continue;
            }
            Fact::EndXSid(sid) => {
                let structure = sid.tlvs.get(1252).unwrap();
                let entry = json!({
                    "flags": bits(&["B", "S", "P"], sid.flags),
                    "neighbor-id": digits(sid.neighbour.unwrap()),
                    "behavior": sid.behaviour, "algorithm": sid.algorithm, "weight": sid.weight,
                    "sid": Ipv6Addr::from(sid.sid).to_string(),
                    "srv6-sid-structure": {
                        "loc_block_len": structure[0], "loc_node_len": structure[1],
                        "func_len": structure[2], "arg_len": structure[3],
                    },
                });
                push(&mut fields, "srv6-lan-endx-isis", entry);
                continue;
            }
            other => panic!("{other:?}"),
        };
        fields.insert(name.to_owned(), value);
    }
    fields.into()
}

/// Every message with what ExaBGP says of it.
fn exabgp(root: &Path) -> Vec<(String, Vec<u8>, Value)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(root.join("bgp-ls")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let octets = hex(lines[1]);
        let octets = match lines[0].starts_with("nlri") {
            // The NLRI alone: in an UPDATE that withdraws it.
            true => update(&[], &[(15, 0x80, [&[0x40, 0x04, 71][..], &octets].concat())]),
            false => with_header(octets),
        };
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        all.push((name, octets, serde_json::from_str(lines[2]).unwrap()));
    }
    all.sort_by(|one, other| one.0.cmp(&other.0));
    all
}

#[test]
fn samples_say_what_exabgp_says() {
    let Some(root) = samples() else { return };
    let all = exabgp(&root);
    assert_eq!(all.len(), 7);
    for (name, octets, expected) in all {
        let update = read(&octets);
        assert_eq!(update.faults, [], "{name}");
        if expected.get("ls-nlri-type").is_some() {
            let gone: Vec<Value> = update.link_state_withdrawals().map(|nlri| nlri_json(&nlri)).collect();
            assert_eq!(gone, [expected], "{name}");
            continue;
        }
        let expected = &expected["neighbor"]["message"]["update"];
        assert_eq!(facts_json(&update), expected["attribute"]["bgp-ls"], "{name}");
        let announced = expected["announce"]["bgp-ls bgp-ls"].as_object().unwrap().values().next().unwrap();
        let mut announced = announced.as_array().unwrap().clone();
        // Of nodes it repeats the next hop here.
        announced.iter_mut().for_each(|nlri| drop(nlri.as_object_mut().unwrap().remove("nexthop")));
        let own: Vec<Value> = update.link_state_announcements().map(|nlri| nlri_json(&nlri)).collect();
        assert_eq!(own, announced, "{name}");
    }
}

/// An Ethernet frame in a capture that holds a TCP segment with the message.
fn capture(message: &[u8]) -> Vec<u8> {
    let total = (40 + message.len()) as u16;
    let ip = [&[0x45, 0][..], &total.to_be_bytes(), &[0, 0, 0, 0, 64, 6, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2]].concat();
    let tcp = [&[0, 179, 0x27, 0x10, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x18, 0xff, 0xff, 0, 0, 0, 0][..], message].concat();
    let frame = [&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0][..], &ip, &tcp].concat();
    let mut file = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 1, 0, 0, 0];
    file.extend_from_slice(&[0; 8]);
    for _ in 0..2 {
        file.extend_from_slice(&(frame.len() as u32).to_le_bytes());
    }
    [file, frame].concat()
}

/// The second opinion: names of nodes, their AS numbers, metric, of one message.
fn tshark(message: &[u8]) -> Option<[Vec<String>; 3]> {
    let file = std::env::temp_dir().join(format!("benocs-link-state-{}.pcap", std::process::id()));
    fs::write(&file, capture(message)).unwrap();
    let fields = ["bgp.ls.tlv.igp_router_id", "bgp.ls.tlv.autonomous_system.id", "bgp.ls.tlv.metric_value"];
    let arguments = fields.iter().flat_map(|field| ["-e", *field]);
    let output = Command::new("tshark").arg("-r").arg(&file).args(["-T", "fields"]).args(arguments).output();
    let _ = fs::remove_file(&file);
    let Ok(output) = output else {
        assert!(std::env::var_os("CI").is_none(), "tshark is not installed");
        eprintln!("skipped: tshark is not installed");
        return None;
    };
    let text = String::from_utf8(output.stdout).unwrap();
    let mut columns = text.trim_end_matches('\n').split('\t');
    Some([(); 3].map(|()| {
        let column = columns.next().unwrap_or_default();
        column.split(',').filter(|value| !value.is_empty()).map(str::to_owned).collect()
    }))
}

#[test]
fn samples_say_what_tshark_says() {
    let Some(root) = samples() else { return };
    for (name, octets, _) in exabgp(&root) {
        let Some([ids, asns, metrics]) = tshark(&octets) else { return };
        let update = read(&octets);
        let mut nodes = Vec::new();
        for nlri in update.link_state_announcements().chain(update.link_state_withdrawals()) {
            match nlri.object {
                Object::Node(node) => nodes.push(node),
                Object::Link { local, remote, .. } => nodes.extend([local, remote]),
                other => panic!("{other:?}"),
            }
        }
        let own: Vec<String> = nodes.iter().map(|node| digits(node.igp_router_id)).collect();
        assert!(!own.is_empty());
        assert_eq!(own, ids.iter().map(|id| id.replace(':', "")).collect::<Vec<_>>(), "{name}");
        let own: Vec<String> = nodes.iter().filter_map(|node| node.asn).map(|asn| asn.to_string()).collect();
        assert_eq!(own, asns, "{name}");
        let facts = update.attributes.link_state.into_iter().flat_map(|information| information.facts());
        let own: Vec<u32> = facts
            .filter_map(|fact| match fact {
                Fact::IgpMetric { metric, .. } => Some(metric),
                _ => None,
            })
            .collect();
        let theirs = metrics.iter().map(|text| u32::from_str_radix(text.trim_start_matches("0x"), 16).unwrap());
        assert_eq!(own, theirs.collect::<Vec<_>>(), "{name}");
    }
}

fn tlv(kind: u16, value: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &(value.len() as u16).to_be_bytes(), value].concat()
}

fn nlri(kind: u16, protocol: u8, tlvs: &[Vec<u8>]) -> Vec<u8> {
    let body = [&[protocol, 0, 0, 0, 0, 0, 0, 0, 7][..], &tlvs.concat()].concat();
    [&kind.to_be_bytes()[..], &(body.len() as u16).to_be_bytes(), &body].concat()
}

/// An UPDATE with the mandatory attributes, and these: (code, flags, value).
fn update(before: &[u8], attributes: &[(u8, u8, Vec<u8>)]) -> Vec<u8> {
    let mut list = before.to_vec();
    for (code, flags, value) in attributes {
        list.extend_from_slice(&[flags | 0x10, *code]);
        list.extend_from_slice(&(value.len() as u16).to_be_bytes());
        list.extend_from_slice(value);
    }
    let mut octets = vec![0xff; 16];
    octets.extend_from_slice(&(23 + list.len() as u16).to_be_bytes());
    octets.extend_from_slice(&[kind::UPDATE, 0, 0]);
    octets.extend_from_slice(&(list.len() as u16).to_be_bytes());
    [octets, list].concat()
}

const MANDATORY: [u8; 14] = [0x40, 1, 1, 0, 0x40, 2, 0, 0x40, 5, 4, 0, 0, 0, 100];

fn reach(safi: u8, nlris: &[Vec<u8>]) -> (u8, u8, Vec<u8>) {
    (14, 0x80, [&[0x40, 0x04, safi, 4, 192, 0, 2, 1, 0][..], &nlris.concat()].concat())
}

fn node(asn: u32, id: &[u8]) -> Vec<u8> {
    [tlv(512, &asn.to_be_bytes()), tlv(515, id)].concat()
}

fn announced(safi: u8, nlris: &[Vec<u8>], facts: &[Vec<u8>]) -> Vec<u8> {
    update(&MANDATORY, &[reach(safi, nlris), (29, 0x80, facts.concat())])
}

#[test]
fn every_kind_of_object_is_read() {
    let (near, far) = (tlv(256, &node(64_500, &[1; 6])), tlv(257, &node(64_500, &[2, 2, 2, 2, 2, 2, 9])));
    let ospf = tlv(256, &[tlv(514, &[0, 0, 0, 1]), tlv(515, &[10, 0, 0, 1, 10, 0, 0, 2])].concat());
    let sid: Vec<u8> = (0..16).collect();
    let all = [
        nlri(1, 2, std::slice::from_ref(&near)),
        nlri(2, 1, &[near.clone(), far, tlv(261, &[1; 16]), tlv(262, &[2; 16]), tlv(263, &[0xf0, 2])]),
        nlri(3, 3, &[ospf.clone(), tlv(264, &[2]), tlv(265, &[17, 10, 1, 0xff])]),
        nlri(4, 6, &[ospf.clone(), tlv(265, &[64, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 1])]),
        nlri(6, 2, &[near.clone(), tlv(518, &sid)]),
        nlri(1, 5, &[tlv(256, &node(64_500, &[192, 0, 2, 7]))]),
        nlri(1, 7, &[tlv(256, &[tlv(512, &[0, 0, 0xfb, 0xf4]), tlv(516, &[192, 0, 2, 9])].concat())]),
        nlri(99, 2, &[vec![1, 2, 3]]),
    ];
    let octets = announced(71, &all, &[tlv(1095, &[0, 0, 10])]);
    let update = read(&octets);
    assert_eq!(update.faults, []);
    let list: Vec<LinkStateNlri<'_>> = update.link_state_announcements().collect();
    assert_eq!(list.len(), all.len());
    for (nlri, octets) in list.iter().zip(&all) {
        assert_eq!(nlri.octets, octets, "what names it is the whole of it");
        assert_eq!((nlri.identifier, nlri.rd), (7, None));
    }
    let Object::Node(first) = list[0].object else { panic!() };
    assert_eq!(
        (first.asn, first.igp_router_id, first.is_pseudonode(list[0].protocol)),
        (Some(64_500), &[1; 6][..], false)
    );
    let Object::Link { remote, link, .. } = list[1].object else { panic!() };
    assert!(remote.is_pseudonode(Protocol::ISIS_LEVEL_1) && list[1].protocol == Protocol::ISIS_LEVEL_1);
    assert_eq!((link.local_v6, link.remote_v6, link.topology), (Some([1; 16]), Some([2; 16]), Some(2)));
    let Object::Prefix { node, prefix } = list[2].object else { panic!() };
    assert!(node.is_pseudonode(Protocol::OSPF_V2) && node.area == Some([0, 0, 0, 1]));
    assert_eq!(
        (prefix.address, prefix.len),
        (PrefixAddress::V4([10, 1, 0x80, 0]), 17),
        "bits after the length are zero"
    );
    assert_eq!(prefix.ospf_route_type, Some(2));
    let Object::Prefix { prefix, .. } = list[3].object else { panic!() };
    assert_eq!((prefix.address, prefix.len), (PrefixAddress::V6(*b"\x20\x01\x0d\xb8\0\0\0\x01\0\0\0\0\0\0\0\0"), 64));
    let Object::Srv6Sid { sid: found, .. } = list[4].object else { panic!() };
    assert_eq!(found[..], sid);
    let Object::Node(of_bgp) = list[6].object else { panic!() };
    assert_eq!((of_bgp.bgp_router_id, of_bgp.igp_router_id), (Some([192, 0, 2, 9]), &[][..]));
    assert_eq!((list[7].kind, list[7].object, list[7].protocol), (NlriKind(99), Object::Unknown, Protocol(2)));
}

#[test]
fn every_fact_is_read_and_unknown_ones_keep_their_number() {
    let float = |value: f32| value.to_be_bytes().to_vec();
    let range = [vec![0x80, 0, 0, 0x1f, 0x40], tlv(1161, &[0, 0x3e, 0x80])].concat();
    let end_x = [&[0, 57, 0x80, 128, 3, 0][..], &[9; 16], &tlv(1252, &[32, 16, 16, 0])].concat();
    let about: Vec<(Vec<u8>, Fact<'_>)> = vec![
        (tlv(1024, &[0x80]), Fact::NodeFlags(NodeFlags(NodeFlags::OVERLOAD))),
        (tlv(1026, b"r1"), Fact::NodeName(b"r1")),
        (tlv(1029, &[7; 16]), Fact::LocalRouterV6([7; 16])),
        (tlv(1035, &[0, 1]), Fact::Algorithms(&[0, 1])),
        (tlv(1092, &[0, 0, 0, 5]), Fact::TeMetric(5)),
        (tlv(1095, &[0xff]), Fact::IgpMetric { metric: 63, wide: false }),
        (tlv(1095, &[1, 0]), Fact::IgpMetric { metric: 256, wide: false }),
        (tlv(1095, &[1, 0, 0]), Fact::IgpMetric { metric: 65_536, wide: true }),
        (tlv(1118, &float(1.5)), Fact::ResidualBandwidth(1.5)),
        (tlv(1116, &[0xff, 0, 1, 0]), Fact::DelayVariation(256)),
        (tlv(1115, &[0x80, 0, 0, 5, 0xff, 0, 0, 9]), Fact::MinMaxDelay { anomalous: true, min: 5, max: 9 }),
        (tlv(1155, &[0, 0, 1, 0]), Fact::PrefixMetric(256)),
        (tlv(1158, &[0x40, 1, 0, 0, 0, 0, 0, 17]), Fact::PrefixSid { flags: 0x40, algorithm: 1, sid: Sid::Index(17) }),
        (
            tlv(1100, &[0x30, 0, 0, 0, 1, 2, 3, 4, 5, 6, 0xff, 0, 16]),
            Fact::AdjacencySid {
                flags: 0x30,
                weight: 0,
                neighbour: Some(&[1, 2, 3, 4, 5, 6]),
                sid: Sid::Label(0xf_0010),
            },
        ),
        (
            tlv(1100, &[0x30, 0, 0, 0, 1, 2, 3, 4, 0, 0, 0, 16]),
            Fact::AdjacencySid { flags: 0x30, weight: 0, neighbour: Some(&[1, 2, 3, 4]), sid: Sid::Index(16) },
        ),
        (tlv(1174, &[10, 0, 0, 9]), Fact::SourceOspfRouter([10, 0, 0, 9])),
        (tlv(1250, &[0, 1, 2, 3]), Fact::EndpointBehaviour { behaviour: 1, flags: 2, algorithm: 3 }),
    ];
    let octets = announced(
        71,
        &[nlri(1, 2, &[tlv(256, &node(64_500, &[1; 6]))])],
        &about
            .iter()
            .map(|(octets, _)| octets.clone())
            .chain([tlv(1034, &range), tlv(1106, &end_x), tlv(65_000, &[1])])
            .collect::<Vec<_>>(),
    );
    let update = read(&octets);
    assert_eq!(update.faults, []);
    let facts: Vec<Fact<'_>> = update.attributes.link_state.unwrap().facts().collect();
    for ((_, expected), fact) in about.iter().zip(&facts) {
        assert_eq!(fact, expected);
    }
    let [Fact::Capabilities(ranges), Fact::EndXSid(sid), Fact::Unknown(unknown)] = facts[about.len()..] else {
        panic!("{:?}", &facts[about.len()..]);
    };
    assert_eq!(ranges.flags, 0x80);
    assert_eq!(ranges.collect::<Vec<_>>(), [SidRange { count: 8000, first: Sid::Label(16_000) }]);
    assert_eq!((sid.behaviour, sid.weight, sid.sid, sid.tlvs.count()), (57, 3, [9; 16], 1));
    assert_eq!((unknown.kind, unknown.value), (65_000, &[1][..]));
}

#[test]
fn a_distinguisher_stands_before_the_objects_of_a_vpn() {
    let mut one = nlri(1, 2, &[tlv(256, &node(64_500, &[1; 6]))]);
    one.splice(4..4, [0, 0, 0xfb, 0xf4, 0, 0, 0, 1]);
    one[3] += 8;
    let octets = announced(72, &[one], &[]);
    let update = read(&octets);
    let list: Vec<_> = update.link_state_announcements().collect();
    assert_eq!((list.len(), list[0].rd, list[0].identifier), (1, Some([0, 0, 0xfb, 0xf4, 0, 0, 0, 1]), 7));
    assert_eq!(update.mp_reach.unwrap().family, Family::LINK_STATE_VPN);
}

/// RFC 9552 section 8.2.2.
#[test]
fn errors_cost_what_the_standard_says() {
    let good = nlri(1, 2, &[tlv(256, &node(64_500, &[1; 6]))]);
    let near = tlv(256, &node(64_500, &[1; 6]));
    let (low, high) = (tlv(259, &[192, 0, 2, 1]), tlv(260, &[192, 0, 2, 2]));
    let far = tlv(257, &node(64_500, &[2; 6]));
    // One that can be passed over costs itself.
    let bad = [
        nlri(2, 2, &[near.clone(), far.clone(), high.clone(), low.clone()]),
        nlri(2, 2, &[near.clone(), low.clone()]),
        nlri(1, 2, &[tlv(256, &node(64_500, &[1; 5]))]),
        nlri(1, 2, &[tlv(256, &[tlv(515, &[1; 6]), tlv(512, &[0; 4])].concat())]),
        nlri(1, 2, &[tlv(256, &tlv(512, &[0; 4]))]),
        nlri(1, 2, &[vec![1, 0, 0, 40]]),
        nlri(3, 2, &[near.clone(), tlv(265, &[33, 1, 2, 3, 4, 5])]),
        nlri(3, 2, &[near.clone(), tlv(265, &[24, 1, 2])]),
        nlri(3, 2, std::slice::from_ref(&near)),
        nlri(6, 2, &[near.clone(), tlv(518, &[1; 15])]),
        nlri(2, 2, &[near, far, tlv(263, &[0, 2, 0, 3])]),
        nlri(1, 2, &[])[..8].to_vec(),
    ];
    for bad in &bad {
        let mut bad = bad.clone();
        let length = bad.len() as u16 - 4;
        bad[2..4].copy_from_slice(&length.to_be_bytes());
        let octets = announced(71, &[good.clone(), bad.clone(), good.clone()], &[]);
        let update = read(&octets);
        assert_eq!(update.faults.iter().map(|fault| fault.class).collect::<Vec<_>>(), [Class::NlriDiscard], "{bad:?}");
        assert_eq!(update.link_state_announcements().count(), 2, "{bad:?}");
    }
    // The attribute alone is discarded.
    for bad in [
        tlv(1095, &[1, 2, 3, 4, 5]),
        tlv(1028, &[1; 3]),
        vec![4, 0, 0, 9, 1],
        tlv(1034, &[0, 0, 1]),
        tlv(1106, &[0; 21]),
    ] {
        let octets = announced(71, std::slice::from_ref(&good), &[tlv(1026, b"r1"), bad]);
        let update = read(&octets);
        let faults: Vec<_> = update.faults.iter().map(|fault| (fault.class, fault.attribute)).collect();
        assert_eq!(faults, [(Class::AttributeDiscard, 29)]);
        assert_eq!((update.link_state_announcements().count(), update.attributes.link_state), (1, None));
    }
    // What withdraws routes withdraws objects.
    let octets = update(&MANDATORY[4..], &[reach(71, std::slice::from_ref(&good))]);
    let without_origin = read(&octets);
    assert!(without_origin.treat_as_withdraw());
    assert_eq!(without_origin.link_state_announcements().count(), 0);
    assert_eq!(without_origin.link_state_withdrawals().count(), 1);
}

#[test]
fn a_length_that_leads_past_the_end_is_no_object() {
    let agreed = Agreed::default();
    let mut cut = nlri(1, 2, &[tlv(256, &node(64_500, &[1; 6]))]);
    cut.pop();
    for octets in [announced(71, &[cut.clone()], &[]), update(&[], &[(15, 0x80, [&[0x40, 4, 71][..], &cut].concat())])]
    {
        let (raw, _) = bgp::frame(&octets, &agreed).unwrap().unwrap();
        let Ok(Message::Update(update)) = bgp::parse(raw, &agreed) else { panic!("the session goes on") };
        assert_eq!(update.disabled().collect::<Vec<_>>(), [Family::LINK_STATE]);
        assert_eq!(update.link_state_announcements().chain(update.link_state_withdrawals()).count(), 0);
        let error = update.faults[0];
        assert!(error.error.offset < octets.len());
    }
}

#[test]
fn an_end_of_link_state_is_seen() {
    let mut octets = Vec::new();
    bgp::encode_end_of_rib(&mut octets, Family::LINK_STATE);
    assert_eq!(read(&octets).end_of_rib(), Some(Family::LINK_STATE));
}

#[test]
fn any_octets_are_read_passed_over_or_refused() {
    let (near, far) = (tlv(256, &node(64_500, &[1; 6])), tlv(257, &node(64_500, &[2, 2, 2, 2, 2, 2, 9])));
    let range = [vec![0x80, 0, 0, 0x1f, 0x40], tlv(1161, &[0, 0x3e, 0x80])].concat();
    let nlris = [
        nlri(1, 2, std::slice::from_ref(&near)),
        nlri(2, 2, &[near.clone(), far, tlv(259, &[192, 0, 2, 1]), tlv(263, &[0, 2])]),
        nlri(3, 2, &[near, tlv(265, &[24, 192, 0, 2])]),
    ];
    let facts = [tlv(1034, &range), tlv(1095, &[0, 0, 10]), tlv(1026, b"r1")].concat();
    let nlris = nlris.concat();
    let good = [&[0][..], &(nlris.len() as u16).to_be_bytes(), &nlris, &facts].concat();
    case::run(&good);
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..20_000 {
        let mut octets = good.clone();
        for _ in 0..3 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let at = (random >> 32) as usize % octets.len();
            octets[at] = random as u8;
        }
        octets.truncate(octets.len() - (random >> 60) as usize);
        case::run(&octets);
    }
}
