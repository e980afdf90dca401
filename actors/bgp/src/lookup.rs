//! `rib lookup`: the answer for one address, by one router's table, and everybody else's.

use std::collections::HashMap;

use benocs_model::Address;
use benocs_model::network::Network;
use benocs_model::route::{Candidate, Found, Path, Provenance, RouteView, Vantage};
use serde::{Deserialize, Serialize};

use crate::error::LookupError;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RibAnswer {
    pub address: String,
    /// The router that was asked for.
    pub asked: Option<String>,
    /// The VRF that was asked for; empty is the global table.
    pub vrf: String,
    /// Its fields stand beside the others; absent where nobody has a route.
    #[serde(flatten)]
    pub route: Option<RibRoute>,
    /// Every peer's own best match, in fallback order; all paths where a peer sends several.
    pub candidates: Vec<RibRoute>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RibRoute {
    pub prefix: String,
    /// "64500 64501 {64502,64503}"; empty inside the own AS.
    pub as_path: String,
    pub next_hop: String,
    /// "64500:1", "64500:1:2", "rt:64500:1"; separated by blanks.
    pub communities: String,
    pub origin: String,
    pub med: Option<u32>,
    pub local_pref: Option<u32>,
    /// Whose table it is: session, loc-rib, adj-rib-in-post, ...; see [`RibView`](benocs_model::route::RibView).
    pub view: String,
    /// Name of the session.
    pub peer: String,
    pub peer_address: String,
    /// Name of the router at its other end.
    pub router: String,
    /// router, reflector or fallback.
    pub provenance: String,
    pub stale: bool,
    /// RFC 7911; 0 where not agreed. In a VRF it tells routes with several distinguishers apart.
    pub path_id: u32,
    /// unicast, labelled (RFC 8277) or vpn: what the route was announced as.
    pub table: String,
    /// "16 17", top of the stack first; empty without labels.
    pub labels: String,
    /// Route distinguisher, of a VPN route; empty of others.
    pub rd: String,
    pub aigp: Option<u64>,
    /// RFC 9234.
    pub only_to_customer: Option<u32>,
}

/// The route that `router` (a name or any of its addresses; `None`: no router's own) has to an address.
pub fn rib_lookup(
    view: &RouteView,
    network: &Network,
    address: Address,
    router: Option<&str>,
) -> Result<RibAnswer, LookupError> {
    rib_lookup_in(view, network, address, router, "")
}

/// The same in a VRF; the empty name is the global table.
pub fn rib_lookup_in(
    view: &RouteView,
    network: &Network,
    address: Address,
    router: Option<&str>,
    vrf: &str,
) -> Result<RibAnswer, LookupError> {
    let none = view.vantage_of_none(vrf).ok_or_else(|| LookupError::UnknownVrf(vrf.to_owned()))?;
    let vantage = match router {
        Some(router) => vantage(view, network, router, vrf)?,
        None => none,
    };
    let names = Names::new(network);
    let all = view.candidates_in(vrf, address);
    let route = view.lookup(vantage, address).map(|found| names.route(&found, 0, found.provenance));
    let candidates = all
        .iter()
        .map(|Candidate { path_id, found }| {
            let own = route.as_ref().is_some_and(|route| {
                route.provenance == Provenance::Router.text() && route.peer_address == found.peer.address.to_string()
            });
            names.route(found, *path_id, if own { Provenance::Router } else { found.provenance })
        })
        .collect();
    let (asked, vrf) = (router.map(str::to_owned), vrf.to_owned());
    Ok(RibAnswer { address: address.to_string(), asked, vrf, route, candidates })
}

/// A router by the inventory's name or address, or by the name or address of a session.
fn vantage(view: &RouteView, network: &Network, router: &str, vrf: &str) -> Result<Vantage, LookupError> {
    let none = view.vantage_of_none(vrf).unwrap_or(Vantage::NONE);
    let address = router.parse::<std::net::IpAddr>().ok().map(Address::from);
    let known = network
        .routers
        .iter()
        .find(|known| known.name == router || address.is_some_and(|address| known.addresses.contains(&address)));
    if let Some(known) = known {
        let first = known.addresses.first().copied().or(address).unwrap_or(Address::UNSPECIFIED);
        return Ok(view.vantage_in(vrf, first, &known.addresses).unwrap_or(none));
    }
    if let Some(address) = address {
        return Ok(view.vantage_in(vrf, address, &[]).unwrap_or(none));
    }
    let session = view.peers().find(|routes| routes.peer.name == router);
    let Some(session) = session else { return Err(LookupError::UnknownRouter(router.to_owned())) };
    Ok(view.vantage_in(vrf, session.peer.address, &[]).unwrap_or(none))
}

/// Names of routers by their addresses.
struct Names<'a>(HashMap<Address, &'a str>);

impl<'a> Names<'a> {
    fn new(network: &'a Network) -> Self {
        let routers = network.routers.iter();
        Self(routers.flat_map(|router| router.addresses.iter().map(|address| (*address, &*router.name))).collect())
    }

    fn route(&self, found: &Found<'_>, path_id: u32, provenance: Provenance) -> RibRoute {
        let Path { origin, med, local_pref, next_hop, .. } = **found.path;
        let peer = found.peer;
        let router = self.0.get(&peer.router.unwrap_or(peer.address));
        let router = router.or_else(|| self.0.get(&Address::from_v4(peer.bgp_id)).filter(|_| peer.view.is_of_router()));
        RibRoute {
            prefix: found.prefix.to_string(),
            as_path: found.path.as_path_text(),
            next_hop: next_hop.to_string(),
            communities: communities_text(found.path),
            origin: origin_text(origin).to_owned(),
            med,
            local_pref,
            view: peer.view.text().to_owned(),
            peer: peer.name.clone(),
            peer_address: peer.address.to_string(),
            router: router.map_or_else(|| peer.name.clone(), |name| (*name).to_owned()),
            provenance: provenance.text().to_owned(),
            stale: found.stale,
            path_id,
            table: match (peer.labelled, peer.vrf.is_empty()) {
                (true, _) => "labelled",
                (false, true) => "unicast",
                (false, false) => "vpn",
            }
            .to_owned(),
            labels: found.path.labels().iter().map(u32::to_string).collect::<Vec<_>>().join(" "),
            rd: found.path.rd().map_or_else(String::new, rd_text),
            aigp: found.path.further.as_ref().and_then(|further| further.aigp),
            only_to_customer: found.path.further.as_ref().and_then(|further| further.only_to_customer),
        }
    }
}

/// RFC 4271 5.1.1.
pub(crate) fn origin_text(origin: u8) -> &'static str {
    match origin {
        0 => "igp",
        1 => "egp",
        _ => "incomplete",
    }
}

pub(crate) fn communities_text(path: &Path) -> String {
    let plain = path.communities.iter().map(|community| format!("{}:{}", community >> 16, community & 0xffff));
    let large = path.large_communities.iter().map(|[a, b, c]| format!("{a}:{b}:{c}"));
    let extended = path.ext_communities.iter().map(extended_text);
    plain.chain(large).chain(extended).collect::<Vec<_>>().join(" ")
}

/// RFC 4364 4.2: "64500:1", "192.0.2.1:1".
pub(crate) fn rd_text(rd: [u8; 8]) -> String {
    let [high, low, a, b, c, d, e, f] = rd;
    match u16::from_be_bytes([high, low]) {
        0 => format!("{}:{}", u16::from_be_bytes([a, b]), u32::from_be_bytes([c, d, e, f])),
        1 => format!("{a}.{b}.{c}.{d}:{}", u16::from_be_bytes([e, f])),
        2 => format!("{}:{}", u32::from_be_bytes([a, b, c, d]), u16::from_be_bytes([e, f])),
        _ => format!("0x{:016x}", u64::from_be_bytes(rd)),
    }
}

/// RFC 4360, RFC 5668: route target and site of origin; others in hexadecimal.
fn extended_text(community: &[u8; 8]) -> String {
    let [kind, subtype, a, b, c, d, e, f] = *community;
    let name = match subtype {
        2 => "rt",
        3 => "soo",
        _ => "",
    };
    match (kind & 0xbf, name) {
        (_, "") | (3.., _) => format!("0x{:016x}", u64::from_be_bytes(*community)),
        (0, name) => format!("{name}:{}:{}", u16::from_be_bytes([a, b]), u32::from_be_bytes([c, d, e, f])),
        (1, name) => format!("{name}:{a}.{b}.{c}.{d}:{}", u16::from_be_bytes([e, f])),
        (_, name) => format!("{name}:{}:{}", u32::from_be_bytes([a, b, c, d]), u16::from_be_bytes([e, f])),
    }
}
