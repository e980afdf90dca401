//! Link state of an UPDATE (RFC 9552) as events of the network graph.

use std::sync::Arc;

use benocs_model::Address;
use benocs_model::address::Prefix;
use benocs_model::graph::{
    GraphEvent, Igp, LinkFacts, LinkObject, Name, NodeFacts, NodeKey, Object, PrefixObject, SourceId,
};
use benocs_wire::bgp::link_state::{self, Fact, Information, LinkStateNlri, NodeDescriptor, NodeFlags, Protocol, Sid};
use benocs_wire::bgp::{PrefixAddress, Update};

/// Appends what the message does; objects that the graph does not have are passed over.
pub(crate) fn events(source: SourceId, update: &Update<'_>, out: &mut Vec<GraphEvent>) {
    let names: Vec<Name> = update.link_state_withdrawals().map(|nlri| Arc::from(nlri.octets)).collect();
    if !names.is_empty() {
        out.push(GraphEvent::Withdraw { source, names });
    }
    let information = update.attributes.link_state.unwrap_or_default();
    let named = update.link_state_announcements().filter_map(|nlri| {
        let object = object(&nlri, &information)?;
        Some((Name::from(nlri.octets), object))
    });
    let mut objects: Vec<(Name, Object)> = named.collect();
    match out.last_mut() {
        _ if objects.is_empty() => {}
        Some(GraphEvent::Announce { source: last, objects: list }) if *last == source => list.append(&mut objects),
        _ => out.push(GraphEvent::Announce { source, objects }),
    }
}

fn object(nlri: &LinkStateNlri<'_>, information: &Information<'_>) -> Option<Object> {
    let node = |node: &NodeDescriptor<'_>| key(nlri, node);
    match &nlri.object {
        link_state::Object::Node(descriptor) => {
            Some(Object::Node(node(descriptor), node_facts(nlri.protocol, descriptor, information)))
        }
        link_state::Object::Link { local, remote, link } => {
            let pair = |v4: Option<[u8; 4]>, v6: Option<[u8; 16]>| {
                v4.map(Address::from_v4).into_iter().chain(v6.map(Address)).collect()
            };
            Some(Object::Link(Box::new(LinkObject {
                from: node(local),
                to: node(remote),
                part: part(nlri.protocol, local),
                topology: link.topology.unwrap_or(0),
                local: pair(link.local_v4, link.local_v6),
                remote: pair(link.remote_v4, link.remote_v6),
                facts: link_facts(information),
            })))
        }
        link_state::Object::Prefix { node: descriptor, prefix } => {
            let address = match prefix.address {
                PrefixAddress::V4(octets) => Address::from_v4(octets),
                PrefixAddress::V6(octets) => Some(Address(octets)).filter(|address| !address.is_v4())?,
            };
            let metric = information.facts().find_map(|fact| match fact {
                Fact::PrefixMetric(metric) => Some(metric),
                _ => None,
            });
            Some(Object::Prefix(PrefixObject {
                node: node(descriptor),
                prefix: Prefix::new(address, prefix.len),
                topology: prefix.topology.unwrap_or(0),
                metric: metric.unwrap_or(0),
            }))
        }
        link_state::Object::Srv6Sid { .. } | link_state::Object::Unknown => None,
    }
}

/// Level of IS-IS, area of OSPF.
fn part(protocol: Protocol, node: &NodeDescriptor<'_>) -> u32 {
    match protocol {
        Protocol::ISIS_LEVEL_1 | Protocol::ISIS_LEVEL_2 => u32::from(protocol.0),
        _ => node.area.map_or(0, u32::from_be_bytes),
    }
}

fn key(nlri: &LinkStateNlri<'_>, node: &NodeDescriptor<'_>) -> NodeKey {
    let protocol = nlri.protocol;
    let igp = match protocol {
        Protocol::ISIS_LEVEL_1 | Protocol::ISIS_LEVEL_2 => Igp::Isis,
        Protocol::OSPF_V2 => Igp::Ospf,
        Protocol::OSPF_V3 => Igp::Ospf3,
        Protocol::DIRECT => Igp::Direct,
        Protocol::STATIC => Igp::Static,
        Protocol::BGP => Igp::Bgp,
        _ => Igp::Other,
    };
    let pseudonode = node.is_pseudonode(protocol);
    let id = match (igp, node.igp_router_id) {
        // Number 0 is the router itself.
        (Igp::Isis, id) if !pseudonode => &id[..id.len().min(6)],
        (_, []) => node.bgp_router_id.as_ref().map_or(&[][..], |id| id),
        (_, id) => id,
    };
    NodeKey {
        igp: igp as u8,
        instance: nlri.identifier,
        asn: node.asn.unwrap_or(0),
        ls_id: node.bgp_ls_id.unwrap_or(0),
        part: if pseudonode { part(protocol, node) } else { 0 },
        id: Arc::from(id),
        pseudonode,
    }
}

fn node_facts(protocol: Protocol, node: &NodeDescriptor<'_>, information: &Information<'_>) -> NodeFacts {
    let mut facts = NodeFacts::default();
    match protocol {
        Protocol::ISIS_LEVEL_1 | Protocol::ISIS_LEVEL_2 => facts.areas.push(format!("level {}", protocol.0)),
        _ => facts.areas.extend(node.area.map(|area| format!("area {}", std::net::Ipv4Addr::from(area)))),
    }
    for fact in information.facts() {
        match fact {
            // A name is text that reaches terminals and pages.
            Fact::NodeName(name) => {
                let text: String =
                    String::from_utf8_lossy(name).chars().filter(|character| !character.is_control()).collect();
                facts.name = Some(text).filter(|text| !text.is_empty());
            }
            Fact::NodeFlags(flags) => facts.overload = flags.has(NodeFlags::OVERLOAD),
            Fact::LocalRouterV4(id) => facts.router_ids.push(Address::from_v4(id)),
            Fact::LocalRouterV6(id) => facts.router_ids.push(Address(id)),
            Fact::Area(area) => facts.areas.push(area_text(area)),
            Fact::Capabilities(ranges) => {
                let labels = ranges.filter_map(|range| match range.first {
                    Sid::Label(label) => Some((label, range.count)),
                    Sid::Index(_) => None,
                });
                facts.label_ranges.extend(labels);
            }
            _ => {}
        }
    }
    facts
}

/// "49.0001": an octet, then pairs.
fn area_text(area: &[u8]) -> String {
    let mut text = String::new();
    for (at, octet) in area.iter().enumerate() {
        if at % 2 == 1 {
            text.push('.');
        }
        text.push_str(&format!("{octet:02x}"));
    }
    text
}

fn link_facts(information: &Information<'_>) -> LinkFacts {
    let mut facts = LinkFacts::default();
    for fact in information.facts() {
        match fact {
            Fact::IgpMetric { metric, .. } => facts.metric = Some(metric),
            Fact::TeMetric(metric) => facts.te_metric = Some(metric),
            Fact::AdminGroup(group) => facts.admin_group = Some(group),
            // What is no number of octets is none.
            Fact::Bandwidth(octets) if octets.is_finite() && octets >= 0.0 => {
                facts.bandwidth_bits_per_s = Some((f64::from(octets) * 8.0) as u64);
            }
            Fact::UnidirectionalDelay(delay) => facts.delay_us = facts.delay_us.or(Some(delay.value)),
            Fact::MinMaxDelay { min, .. } => facts.delay_us = Some(min),
            Fact::LinkName(name) => {
                let text: String =
                    String::from_utf8_lossy(name).chars().filter(|character| !character.is_control()).collect();
                facts.name = Some(text).filter(|text| !text.is_empty());
            }
            Fact::AdjacencySid { sid: Sid::Label(sid) | Sid::Index(sid), .. } => facts.adjacency_sids.push(sid),
            Fact::SharedRisk(groups) => {
                facts.shared_risk_groups.extend(groups.iter().map(|group| u32::from_be_bytes(*group)));
            }
            _ => {}
        }
    }
    facts
}
