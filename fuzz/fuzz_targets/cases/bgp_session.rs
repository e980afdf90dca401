//! A peer's octets from its OPEN on, through the agreement and the conversion into a route table; what breaks the
//! session leaves its routes stale, and the next OPEN begins another.
//!
//! Input: | bits u8 | messages |.

use std::sync::Arc;

use benocs_bgp::{Config, Converter, VrfConfig};
use benocs_model::route::{Peer, RouteBatch, RouteEvent, RouteTable};
use benocs_wire::bgp::{self, Agreed, Family, Message};

const RULES: usize = 16;
const PEER: u32 = 7;
const OWN_ID: [u8; 4] = [10, 0, 0, 1];
const OWN: [Family; 8] = [
    Family::V4_UNICAST,
    Family::V6_UNICAST,
    Family::V4_LABELLED,
    Family::V6_LABELLED,
    Family::V4_VPN,
    Family::V6_VPN,
    Family::V4_FLOW_SPEC,
    Family::V6_VPN_FLOW_SPEC,
];

struct Session {
    table: RouteTable,
    converter: Converter,
    announced: u64,
}

impl Session {
    /// Every event is of a table that is up.
    fn apply(&mut self, events: Vec<RouteEvent>) {
        let applied = self.table.apply(&RouteBatch { generation: 0, events });
        assert_eq!(applied.unknown_peer, 0);
        self.announced += applied.announced;
        assert!(self.converter.rules().len() <= RULES);
        assert!(self.routes() <= self.announced);
    }

    fn routes(&self) -> u64 {
        let tables = self.converter.ids().filter_map(|id| self.table.routes_of(id));
        tables.map(|(v4, v6)| u64::from(v4) + u64::from(v6)).sum()
    }
}

pub fn run(data: &[u8]) {
    let Some((&bits, mut stream)) = data.split_first() else { return };
    let external = bits & 1 != 0;
    let role = (bits & 2 != 0).then_some(bits >> 2 & 7);
    let vrf = |name: &str, import: &str| VrfConfig { name: name.into(), import: vec![import.into()] };
    let vrfs = vec![vrf("blue", "rt:64500:1"), vrf("red", "rt:64500:2")];
    let Ok(imports) = (Config { vrf: vrfs, ..Config::default() }).imports() else { return };
    let mut session = Session {
        table: RouteTable::new(),
        converter: Converter::new(PEER, Arc::new(imports), Vec::new(), RULES),
        announced: 0,
    };
    let mut agreed = Agreed::default();
    let mut up = false;
    while let Ok(Some((raw, rest))) = bgp::frame(stream, &agreed) {
        stream = rest;
        let mut events = Vec::new();
        match bgp::parse(raw, &agreed) {
            Ok(Message::Open(open)) => {
                if std::mem::replace(&mut up, true) {
                    session.converter.stale(&mut events);
                }
                let both =
                    |list: Vec<Family>| list.into_iter().filter(|family| OWN.contains(family)).collect::<Vec<_>>();
                agreed = Agreed {
                    four_octet_as: open.has_four_octet_as(),
                    add_path: both(open.add_path_sends()),
                    extended_messages: open.has_extended_messages(),
                    external,
                    multiple_labels: both(open.multiple_labels()),
                };
                let peer = Peer { id: PEER, remote_as: open.remote_as(), bgp_id: open.bgp_id, ..Peer::default() };
                session.converter.peer_up(peer, both(open.families()), role, &mut events);
            }
            Ok(Message::Update(update)) if up => session.converter.update(OWN_ID, &update, &mut events),
            Ok(Message::RouteRefresh(refresh)) if up => match refresh.subtype {
                1 => session.converter.stale_family(refresh.family, &mut events),
                2 => session.converter.sweep(refresh.family, &mut events),
                _ => {}
            },
            Ok(_) => {}
            Err(_) if up => {
                session.converter.stale(&mut events);
                up = false;
            }
            Err(_) => {}
        }
        session.apply(events);
    }
    session.table.publish();
    // Whoever gets a snapshot has the same.
    let view = session.table.reader().view();
    let mut replica = RouteTable::new();
    for batch in view.snapshot() {
        assert_eq!(replica.apply(&batch).unknown_peer, 0);
    }
    for id in session.converter.ids() {
        assert_eq!(replica.routes_of(id), session.table.routes_of(id));
    }
    let ids: Vec<u32> = session.converter.ids().collect();
    let mut events = Vec::new();
    session.converter.peer_down(&mut events);
    session.table.apply(&RouteBatch { generation: 0, events });
    assert!(ids.iter().all(|id| session.table.routes_of(*id).is_none()));
    assert!(session.converter.rules().is_empty());
}
