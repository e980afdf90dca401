//! A peer that is only octets: what no daemon can be made to do.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use benocs_bgp::{AnnounceConfig, VrfConfig};
use benocs_wire::bgp::{
    self, AddPath, Agreed, Capability, Family, GracefulRestart, Message, NextHop, NlriPrefix, Open, PrefixAddress,
    RouteUpdate, SegmentKind,
};

use super::*;

/// What a peer says of itself.
fn open(asn: u32, more: Vec<Capability<'static>>) -> Open<'static> {
    let mut capabilities = vec![
        Capability::MultiProtocol(Family::V4_UNICAST),
        Capability::MultiProtocol(Family::V6_UNICAST),
        Capability::RouteRefresh,
        Capability::FourOctetAs(asn),
    ];
    capabilities.extend(more);
    Open { version: 4, as_two_octets: asn as u16, hold_time_s: 90, bgp_id: [10, 9, 9, 9], capabilities }
}

/// RFC 4724 3.
fn restart(time_s: u16, notification: bool, kept: bool) -> Capability<'static> {
    let families = vec![(Family::V4_UNICAST, kept), (Family::V6_UNICAST, kept)];
    Capability::GracefulRestart(GracefulRestart { restarted: kept, notification, time_s, families })
}

struct Octets {
    stream: TcpStream,
    input: Vec<u8>,
}

/// A message as it came: type and body.
type Raw = (u8, Vec<u8>);

impl Octets {
    fn connect(port: u16, source: u8) -> Self {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, source], 0)).into()).unwrap();
        socket.connect(&SocketAddr::from(([127, 0, 0, 1], port)).into()).unwrap();
        socket.set_read_timeout(Some(LIMIT)).unwrap();
        Self { stream: socket.into(), input: Vec::new() }
    }

    fn send(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut out = Vec::new();
        write(&mut out);
        self.stream.write_all(&out).unwrap();
    }

    /// The next message; `None` at the end of the connection.
    async fn next(&mut self) -> Option<Raw> {
        let started = Instant::now();
        self.stream.set_nonblocking(true).unwrap();
        let mut chunk = [0; 4096];
        loop {
            let agreed = Agreed { extended_messages: true, ..Agreed::default() };
            if let Some((raw, rest)) = bgp::frame(&self.input, &agreed).unwrap() {
                let message = (raw.kind, raw.body.to_vec());
                self.input = rest.to_vec();
                self.stream.set_nonblocking(false).unwrap();
                return Some(message);
            }
            match self.stream.read(&mut chunk) {
                Ok(0) => return None,
                Ok(count) => self.input.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    assert!(started.elapsed() < LIMIT, "no message in time");
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                Err(_) => return None,
            }
        }
    }

    /// The next message that is no KEEPALIVE.
    async fn news(&mut self) -> Option<Raw> {
        loop {
            match self.next().await {
                Some((bgp::kind::KEEPALIVE, _)) => {}
                other => return other,
            }
        }
    }

    /// Code, subcode and data of the NOTIFICATION that ends the session.
    async fn notification(&mut self) -> (u8, u8, Vec<u8>) {
        loop {
            let (kind, body) = self.next().await.expect("a notification before the end");
            if kind == bgp::kind::NOTIFICATION {
                return (body[0], body[1], body[2..].to_vec());
            }
        }
    }

    /// OPENs and KEEPALIVEs are exchanged.
    async fn establish(port: u16, source: u8, open: &Open<'_>) -> Self {
        let mut peer = Self::connect(port, source);
        peer.send(|out| bgp::encode_open(out, open));
        assert_eq!(peer.next().await.map(|(kind, _)| kind), Some(bgp::kind::OPEN));
        assert_eq!(peer.next().await.map(|(kind, _)| kind), Some(bgp::kind::KEEPALIVE));
        peer.send(bgp::encode_keepalive);
        peer
    }

    fn announce(&mut self, numbers: std::ops::Range<u8>, communities: &[u32], external: bool) {
        let as_path = [(SegmentKind::SEQUENCE, vec![65_010])];
        let route = RouteUpdate {
            origin: 0,
            as_path: &as_path,
            next_hop: NextHop::V4([192, 0, 2, 1]),
            med: None,
            local_pref: (!external).then_some(100),
            communities,
            large_communities: &[],
            ext_communities: &[],
            originator_id: None,
            cluster_list: &[],
        };
        let prefixes: Vec<NlriPrefix> = numbers.map(prefix).collect();
        self.send(|out| bgp::encode_update(out, Some(&route), &prefixes, &Agreed::default()));
    }

    /// An UPDATE with these attributes and 20.0.0.0/24.
    fn update(&mut self, attributes: &[u8]) {
        let nlri = [24, 20, 0, 0];
        let length = (23 + attributes.len() + nlri.len()) as u16;
        let parts: [&[u8]; 6] = [
            &[0xff; 16],
            &length.to_be_bytes(),
            &[2, 0, 0],
            &(attributes.len() as u16).to_be_bytes(),
            attributes,
            &nlri,
        ];
        self.stream.write_all(&parts.concat()).unwrap();
    }
}

fn prefix(number: u8) -> NlriPrefix {
    NlriPrefix { path_id: 0, address: PrefixAddress::V4([20, 0, number, 0]), len: 24 }
}

const BASE: &[u8] = &[0x40, 1, 1, 0, 0x40, 2, 6, 2, 1, 0, 0, 0xfd, 0xf2, 0x40, 3, 4, 192, 0, 2, 1];

async fn lab(peers: Vec<PeerConfig>) -> Lab {
    Lab::start(Config { idle_hold_max_s: 1, peer: peers, ..Config::default() }, Vec::new()).await
}

#[test]
fn nothing_is_announced_unless_it_is_configured() {
    benocs_runtime::block_on(async {
        let announce = |prefix: &str, next_hop: &str, peer: &str| AnnounceConfig {
            prefix: prefix.into(),
            next_hop: next_hop.into(),
            communities: vec!["64500:7".into(), "64500:1:2".into()],
            med: Some(3),
            peers: vec![peer.into()],
            ..AnnounceConfig::default()
        };
        let config = Config {
            announce_max: 2,
            peer: vec![peer("told", "127.0.0.82", 65_010), peer("silent", "127.0.0.83", LOCAL_AS)],
            announce: vec![
                announce("198.51.100.0/24", "192.0.2.10", "told"),
                announce("2001:db8:7::/48", "2001:db8::10", "told"),
            ],
            ..Config::default()
        };
        // The bound counts by peer, and is 0 by itself.
        let guard = Config { announce_max: 1, ..config.clone() }.check().unwrap_err();
        assert!(guard.to_string().starts_with("bgp.announce_max = \"1\" is not usable"), "{guard}");
        let lab = Lab::start(config, Vec::new()).await;

        // Whom nothing is configured for hears of no route, whatever it sends and asks for.
        let graceful = || vec![restart(60, false, false), Capability::EnhancedRouteRefresh];
        let mut silent = Octets::establish(lab.port, 83, &open(LOCAL_AS, graceful())).await;
        silent.announce(0..5, &[], false);
        lab.has("silent", (5, 0)).await;
        silent.send(|out| bgp::encode_route_refresh(out, Family::V4_UNICAST, 0));
        let mut marks = Vec::new();
        while marks.len() < 2 {
            let (kind, body) = silent.news().await.unwrap();
            match kind {
                bgp::kind::ROUTE_REFRESH => marks.push(body[2]),
                bgp::kind::UPDATE => {
                    let raw = bgp::Raw { kind, body: &body };
                    let Ok(Message::Update(update)) = bgp::parse(raw, &Agreed::default()) else { panic!("{body:?}") };
                    assert!(update.end_of_rib().is_some(), "{update:?}");
                }
                other => panic!("{other}"),
            }
        }
        assert_eq!(marks, [1, 2]);
        assert_eq!(lab.status("silent").announced, 0);

        let mut told = Octets::establish(lab.port, 82, &open(65_010, Vec::new())).await;
        let agreed = Agreed { external: true, ..Agreed::default() };
        let mut heard = Vec::new();
        while heard.len() < 2 {
            let (kind, body) = told.news().await.unwrap();
            let Ok(Message::Update(update)) = bgp::parse(bgp::Raw { kind, body: &body }, &agreed) else { panic!() };
            assert_eq!(update.faults, []);
            assert_eq!(update.attributes.merged_as_path()[0].1, [LOCAL_AS]);
            assert_eq!(update.attributes.communities, [[0xfb, 0xf4, 0, 7]]);
            assert_eq!((update.attributes.med, update.attributes.local_pref), (Some(3), None));
            heard.extend(update.announcements().flat_map(|(_, nlri)| nlri).map(|prefix| prefix.len));
        }
        heard.sort_unstable();
        assert_eq!(heard, [24, 48]);
        until("counted", || (lab.status("told").announced == 2).then_some(())).await;
    });
}

#[test]
fn a_refresh_that_is_marked_sweeps_what_it_leaves_out() {
    benocs_runtime::block_on(async {
        let lab = lab(vec![peer("r1", "127.0.0.84", LOCAL_AS)]).await;
        let mut r1 = Octets::establish(lab.port, 84, &open(LOCAL_AS, vec![Capability::EnhancedRouteRefresh])).await;
        r1.announce(0..6, &[], false);
        lab.has("r1", (6, 0)).await;
        r1.send(|out| bgp::encode_route_refresh(out, Family::V4_UNICAST, 1));
        until("marked", || lab.lookup("20.0.5.1", Some("r1")).route.unwrap().stale.then_some(())).await;
        r1.announce(0..4, &[], false);
        until("fresh", || (!lab.lookup("20.0.0.1", Some("r1")).route.unwrap().stale).then_some(())).await;
        // RFC 7313 4: a second beginning does not take away what is not told again yet.
        r1.send(|out| bgp::encode_route_refresh(out, Family::V4_UNICAST, 1));
        r1.announce(4..5, &[], false);
        until("fresh", || (!lab.lookup("20.0.4.1", Some("r1")).route.unwrap().stale).then_some(())).await;
        assert_eq!(lab.prefixes("r1"), (6, 0));
        r1.send(|out| bgp::encode_route_refresh(out, Family::V4_UNICAST, 2));
        lab.has("r1", (5, 0)).await;
        // RFC 7313 5: a mark with something behind it.
        r1.stream.write_all(&[&[0xff; 16][..], &[0, 24, 5, 0, 1, 1, 1, 0]].concat()).unwrap();
        let (code, subcode, data) = r1.notification().await;
        assert_eq!((code, subcode, data.len()), (7, 1, 24));
    });
}

#[test]
fn a_restart_keeps_routes_for_their_time_and_for_their_long_time() {
    benocs_runtime::block_on(async {
        let lab = lab(vec![peer("r1", "127.0.0.85", LOCAL_AS)]).await;
        let long = Capability::LongLivedGracefulRestart(vec![(Family::V4_UNICAST, 0, 3)]);
        let first = open(LOCAL_AS, vec![restart(1, false, false), long]);
        let mut r1 = Octets::establish(lab.port, 85, &first).await;
        r1.announce(0..3, &[], false);
        // RFC 9494 6: not to be kept so long.
        r1.announce(3..5, &[0xffff_0007], false);
        lab.has("r1", (5, 0)).await;
        drop(r1);
        until("stale", || lab.lookup("20.0.4.1", Some("r1")).route.unwrap().stale.then_some(())).await;
        lab.has("r1", (3, 0)).await;
        assert!(lab.lookup("20.0.0.1", Some("r1")).route.unwrap().stale);
        assert_eq!(lab.status("r1").state, "restarting");
        lab.has("r1", (0, 0)).await;
        assert_eq!(lab.status("r1").state, "idle");

        // Back in time, with its forwarding kept: what is not told again goes at End-of-RIB.
        let mut r1 = Octets::establish(lab.port, 85, &open(LOCAL_AS, vec![restart(60, false, false)])).await;
        r1.announce(0..3, &[], false);
        lab.has("r1", (3, 0)).await;
        drop(r1);
        until("restarting", || (lab.status("r1").state == "restarting").then_some(())).await;
        let mut r1 = Octets::establish(lab.port, 85, &open(LOCAL_AS, vec![restart(60, false, true)])).await;
        lab.established("r1").await;
        r1.announce(0..2, &[], false);
        until("fresh", || (!lab.lookup("20.0.1.1", Some("r1")).route.unwrap().stale).then_some(())).await;
        assert_eq!(lab.prefixes("r1"), (3, 0));
        r1.send(|out| bgp::encode_end_of_rib(out, Family::V4_UNICAST));
        lab.has("r1", (2, 0)).await;
        // Without its forwarding kept they go at once (RFC 4724 4.2).
        drop(r1);
        until("restarting", || (lab.status("r1").state == "restarting").then_some(())).await;
        let _r1 = Octets::establish(lab.port, 85, &open(LOCAL_AS, vec![restart(60, false, false)])).await;
        lab.has("r1", (0, 0)).await;
    });
}

#[test]
fn a_notification_is_bridged_where_both_say_so_and_a_hard_reset_is_not() {
    benocs_runtime::block_on(async {
        let lab = lab(vec![peer("r1", "127.0.0.86", LOCAL_AS)]).await;
        for (both, subcode, kept) in [(true, 4, 2), (true, 9, 0), (false, 4, 0)] {
            let mut r1 = Octets::establish(lab.port, 86, &open(LOCAL_AS, vec![restart(60, both, true)])).await;
            r1.announce(0..2, &[], false);
            lab.has("r1", (2, 0)).await;
            r1.send(|out| bgp::encode_notification(out, 6, subcode, &[]));
            until("told", || lab.status("r1").last_error.is_some_and(|text| text.contains("cease")).then_some(()))
                .await;
            lab.has("r1", (kept, 0)).await;
            assert_eq!(lab.status("r1").stale, kept > 0);
            // A new one without the capability sweeps what was left.
            drop(Octets::establish(lab.port, 86, &open(LOCAL_AS, Vec::new())).await);
            lab.has("r1", (0, 0)).await;
        }
        // What is meant to end is said as a hard reset.
        let mut r1 = Octets::establish(lab.port, 86, &open(LOCAL_AS, vec![restart(60, true, true)])).await;
        lab.established("r1").await;
        assert!(lab.handle.drain(Duration::from_secs(5)).await);
        let (code, subcode, data) = r1.notification().await;
        assert_eq!((code, subcode, &data[..2]), (6, 9, &[6, 2][..]));
        assert!(String::from_utf8_lossy(&data[3..]).contains("shutting down"));
    });
}

#[test]
fn messages_out_of_place_say_in_which_state() {
    benocs_runtime::block_on(async {
        let lab = lab(vec![peer("r1", "127.0.0.87", LOCAL_AS)]).await;
        // RFC 6608 3: OpenSent, OpenConfirm, Established.
        let mut r1 = Octets::connect(lab.port, 87);
        r1.send(bgp::encode_keepalive);
        assert_eq!(r1.notification().await, (5, 1, vec![4]));
        until("free", || Some(()).filter(|()| lab.status("r1").state == "idle")).await;
        tokio::time::sleep(Duration::from_millis(1100)).await;
        let mut r1 = Octets::connect(lab.port, 87);
        r1.send(|out| bgp::encode_open(out, &open(LOCAL_AS, Vec::new())));
        r1.update(BASE);
        assert_eq!(r1.notification().await, (5, 2, vec![2]));
    });
}

#[test]
fn roles_go_together_and_leaks_are_not_taken() {
    benocs_runtime::block_on(async {
        let with_role = |name: &str, host: u8, role: &str, strict: bool| PeerConfig {
            role: role.into(),
            role_strict: strict,
            ..peer(name, &format!("127.0.0.{host}"), 65_010)
        };
        let lab = lab(vec![
            with_role("customer", 88, "provider", false),
            with_role("provider", 89, "customer", true),
            with_role("peer", 90, "peer", false),
        ])
        .await;
        // RFC 9234 4.2: what does not go together, no role where one is wanted, two roles.
        for (host, roles) in [(88, vec![0]), (89, vec![]), (90, vec![4, 3])] {
            let mut bad = Octets::connect(lab.port, host);
            let roles = roles.into_iter().map(Capability::Role).collect();
            bad.send(|out| bgp::encode_open(out, &open(65_010, roles)));
            let (code, subcode, _) = bad.notification().await;
            assert_eq!((code, subcode), (2, 11), "{host}");
        }
        let otc = |asn: u32| [BASE, &[0xc0, 35, 4], &asn.to_be_bytes()].concat();
        let establish = async |host: u8, role: u8| loop {
            // The pause after an error.
            let mut next = Octets::connect(lab.port, host);
            next.send(|out| bgp::encode_open(out, &open(65_010, vec![Capability::Role(role)])));
            if next.next().await.is_some_and(|(kind, _)| kind == bgp::kind::OPEN) && next.next().await.is_some() {
                next.send(bgp::encode_keepalive);
                break next;
            }
        };
        // RFC 9234 5: a customer's, and a peer's of another AS, leaked.
        let mut customer = establish(88, 3).await;
        customer.update(BASE);
        lab.has("customer", (1, 0)).await;
        customer.update(&otc(65_010));
        lab.has("customer", (0, 0)).await;
        let mut lateral = establish(90, 4).await;
        lateral.update(&otc(65_010));
        lab.has("peer", (1, 0)).await;
        lateral.update(&otc(65_011));
        lab.has("peer", (0, 0)).await;
        // Of a provider they are taken, and marked where they were not.
        let mut provider = establish(89, 0).await;
        provider.update(BASE);
        lab.has("provider", (1, 0)).await;
        let route = lab.lookup("20.0.0.1", Some("provider")).route.unwrap();
        assert_eq!(route.only_to_customer, Some(65_010));
    });
}

#[test]
fn of_two_connections_the_one_of_the_higher_identifier_stays() {
    benocs_runtime::block_on(async {
        // This speaker's identifier is 10.255.0.1; the peer's is lower, then higher. Both open at once.
        for (host, bgp_id, own_stays) in [(91, [10, 1, 1, 1], true), (92, [200, 1, 1, 1], false)] {
            let listener = std::net::TcpListener::bind((Ipv4Addr::new(127, 0, 0, host), 0)).unwrap();
            let mut active = peer("r1", &format!("127.0.0.{host}"), LOCAL_AS);
            (active.passive, active.port) = (false, listener.local_addr().unwrap().port());
            active.local_address = "127.0.0.1".into();
            let lab = lab(vec![active]).await;
            listener.set_nonblocking(true).unwrap();
            let accepted = until("connected to", || listener.accept().ok()).await.0;
            accepted.set_nonblocking(false).unwrap();
            let mut theirs = Octets { stream: accepted, input: Vec::new() };
            let mut ours = Octets::connect(lab.port, host);
            let open = Open { bgp_id, ..open(LOCAL_AS, Vec::new()) };
            for side in [&mut theirs, &mut ours] {
                side.send(|out| bgp::encode_open(out, &open));
                assert_eq!(side.next().await.map(|(kind, _)| kind), Some(bgp::kind::OPEN));
            }
            let (stays, goes) = if own_stays { (&mut theirs, &mut ours) } else { (&mut ours, &mut theirs) };
            assert_eq!(goes.notification().await, (6, 7, vec![]), "{own_stays}");
            stays.send(bgp::encode_keepalive);
            lab.established("r1").await;
            stays.announce(0..3, &[], false);
            lab.has("r1", (3, 0)).await;
        }
    });
}

#[test]
fn errors_are_waited_out_and_far_peers_are_not_heard() {
    benocs_runtime::block_on(async {
        let near = PeerConfig { ttl_security: 1, ..peer("near", "127.0.0.94", LOCAL_AS) };
        let lab = lab(vec![peer("r1", "127.0.0.93", LOCAL_AS), near]).await;
        let mut r1 = Octets::establish(lab.port, 93, &open(LOCAL_AS, Vec::new())).await;
        // RFC 4271 6.3: an unknown attribute that says it is well known.
        r1.update(&[BASE, &[0x40, 99, 1, 0]].concat());
        let (code, subcode, _) = r1.notification().await;
        assert_eq!((code, subcode), (3, 2));
        until("ended", || lab.status("r1").last_error.map(|_| ())).await;
        // RFC 4486 3: rejected for now, taken after a while.
        let mut early = Octets::connect(lab.port, 93);
        assert_eq!(early.notification().await, (6, 5, vec![]));
        until_or(
            || format!("{:?}", lab.status("r1")),
            || {
                let mut again = Octets::connect(lab.port, 93);
                let mut octets = [0; 19];
                let is_open = again.stream.read_exact(&mut octets).is_ok() && octets[18] == bgp::kind::OPEN;
                is_open.then_some(())
            },
        )
        .await;

        // RFC 5082: the usual TTL is that of somebody further away.
        let mut near = Octets::connect(lab.port, 94);
        near.send(|out| bgp::encode_open(out, &open(LOCAL_AS, Vec::new())));
        assert_eq!(near.next().await.map(|(kind, _)| kind), Some(bgp::kind::OPEN));
        assert_eq!(near.next().await.map(|(kind, _)| kind), Some(bgp::kind::KEEPALIVE));
        // What came before the limit was set was heard; this is not, while another's is.
        near.send(bgp::encode_keepalive);
        let _r1 = Octets::establish(lab.port, 93, &open(LOCAL_AS, Vec::new())).await;
        lab.established("r1").await;
        assert_eq!(lab.status("near").state, "open-confirm");
        // What is sent again is near.
        benocs_sys::set_ttl_security(&near.stream, 1).unwrap();
        lab.established("near").await;
    });
}

#[test]
fn ranges_have_templates_and_passwords_by_prefix() {
    benocs_runtime::block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let password_file: PathBuf = directory.path().join("password");
        fs::write(&password_file, "secret").unwrap();
        let signs = {
            let socket = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            benocs_sys::set_tcp_md5_prefix(&socket, Ipv4Addr::new(127, 0, 9, 0).into(), 24, b"x").is_ok()
        };
        assert!(signs || std::env::var_os("CI").is_none(), "this kernel does not sign tcp");
        let range = |prefix: &str, name: &str| RangeConfig {
            prefix: prefix.into(),
            name: name.into(),
            routes_max: Some(4),
            hold_time_s: Some(30),
            ..RangeConfig::default()
        };
        let signed = RangeConfig {
            password_file: if signs { password_file } else { PathBuf::new() },
            reflector: true,
            ..range("127.0.9.0/24", "pe-{address}")
        };
        let config = Config { range: vec![range("127.0.8.0/22", ""), signed], ..Config::default() };
        let lab = Lab::start(config, Vec::new()).await;
        let connect = |address: [u8; 4], key: &[u8], limit: Duration| {
            let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            socket.bind(&SocketAddr::from((address, 0)).into()).unwrap();
            if !key.is_empty() {
                benocs_sys::set_tcp_md5(&socket, Ipv4Addr::LOCALHOST.into(), key).unwrap();
            }
            let to = SocketAddr::from(([127, 0, 0, 1], lab.port));
            socket.connect_timeout(&to.into(), limit).map(|()| socket)
        };
        if signs {
            let limit = Duration::from_millis(300);
            assert!(connect([127, 0, 9, 5], b"", limit).is_err());
            assert!(connect([127, 0, 9, 5], b"other", limit).is_err());
        }
        // Hundreds at once.
        let mut peers = Vec::new();
        for host in 1..=200u8 {
            for net in [8, 9] {
                let key: &[u8] = if net == 9 && signs { b"secret" } else { b"" };
                let stream = connect([127, 0, net, host], key, LIMIT).unwrap().into();
                let mut one = Octets { stream, input: Vec::new() };
                let own = Open { bgp_id: [10, 0, net, host], ..open(LOCAL_AS, Vec::new()) };
                one.send(|out| {
                    bgp::encode_open(out, &own);
                    bgp::encode_keepalive(out);
                });
                one.announce(0..2, &[], false);
                peers.push(one);
            }
        }
        until_or(
            || format!("{} up", lab.board.peers().iter().filter(|peer| peer.state == "established").count()),
            || {
                let all = lab.board.peers();
                let up = all.iter().filter(|peer| peer.state == "established" && peer.prefixes["ipv4-unicast"] == 2);
                (up.count() == 400).then_some(())
            },
        )
        .await;
        assert!(lab.status("pe-127.0.9.7").reflector && !lab.status("127.0.8.7").reflector);
        // The template's bound.
        peers[0].announce(0..5, &[], false);
        let (code, subcode, _) = peers[0].notification().await;
        assert_eq!((code, subcode), (6, 1));
        lab.has("127.0.8.1", (0, 0)).await;
        assert_eq!(lab.prefixes("127.0.8.2"), (2, 0));
    });
}

#[test]
fn tcp_ao_is_refused_in_one_line_where_the_kernel_has_none() {
    let directory = tempfile::tempdir().unwrap();
    let ao_key_file: PathBuf = directory.path().join("key");
    fs::write(&ao_key_file, "secret").unwrap();
    let signed = PeerConfig { ao_key_file, ..peer("r1", "127.0.0.95", LOCAL_AS) };
    let config = Config { listen: vec!["127.0.0.1:0".into()], peer: vec![signed], ..Config::default() };
    benocs_runtime::block_on(async {
        let board = Board::new();
        let (fatal, mut failed) = fatal_channel();
        let settings = Settings { name: "bgp", capacity: 16, tick: Duration::from_millis(50), restart: Restart::Never };
        let _handle = spawn(settings, fatal, {
            let board = board.clone();
            move || Speaker::new(config.clone(), Vec::new(), board.clone())
        });
        if benocs_sys::has_tcp_ao() {
            until("listening", || (!board.listening().is_empty()).then_some(())).await;
            return;
        }
        let failure = failed.recv().await.unwrap();
        let text = format!("{failure:?}");
        assert!(text.contains("this kernel has none (Linux 6.7 with CONFIG_TCP_AO): use password_file"), "{text}");
    });
}

#[test]
fn families_that_were_not_agreed_or_are_disabled_are_not_taken() {
    benocs_runtime::block_on(async {
        let families = ["ipv4-unicast", "ipv4-flowspec", "ipv4-vpn"].map(str::to_owned).to_vec();
        let config = Config {
            vrf: vec![VrfConfig { name: "blue".into(), import: vec!["rt:64500:1".into()] }],
            peer: vec![PeerConfig { families, ..peer("r1", "127.0.0.96", LOCAL_AS) }],
            ..Config::default()
        };
        let lab = Lab::start(config, Vec::new()).await;
        let more = [Family::V4_FLOW_SPEC, Family::V4_VPN].map(Capability::MultiProtocol).to_vec();
        let add_path = Capability::AddPath(vec![AddPath { family: Family::V4_VPN, receive: true, send: true }]);
        let mut r1 = Octets::establish(lab.port, 96, &open(LOCAL_AS, [more, vec![add_path]].concat())).await;
        let reach = |family: Family, next_hop: &[u8], nlri: &[u8]| {
            let [high, low] = family.afi.to_be_bytes();
            let value = [&[high, low, family.safi, next_hop.len() as u8], next_hop, &[0], nlri].concat();
            [BASE, &[0x80, 14, value.len() as u8], &value].concat()
        };
        // IPv6 was not offered.
        r1.update(&reach(Family::V6_UNICAST, &[0x20; 16], &[32, 0x20, 1, 0xd, 0xb8]));
        lab.has("r1", (1, 0)).await;
        // One rule, then octets that are none: the family goes, the others stay.
        r1.update(&reach(Family::V4_FLOW_SPEC, &[], &[3, 3, 0x81, 17]));
        until("a rule", || (lab.status("r1").rules == 1).then_some(())).await;
        assert_eq!(lab.board.rules()[0].rule, "protocol =17");
        r1.update(&reach(Family::V4_FLOW_SPEC, &[], &[9, 3, 0x81, 17]));
        until("none", || (lab.status("r1").rules == 0).then_some(())).await;
        r1.update(&reach(Family::V4_FLOW_SPEC, &[], &[3, 3, 0x81, 17]));

        // Two distinguishers, each with two path identifiers, into one VRF; a third is nobody's.
        let vpn = |id: u8, rd: u8, label: u8| {
            [&[0, 0, 0, id, 112, 0, label, 1][..], &[0, 0, 0xfb, 0xf4, 0, 0, 0, rd], &[10, 1, 1]].concat()
        };
        let target = |number: u8| [&[0xc0, 16, 8, 0, 2, 0xfb, 0xf4, 0, 0, 0][..], &[number]].concat();
        for (id, rd) in [(1, 1), (2, 1), (1, 2), (2, 2)] {
            let mut attributes = reach(Family::V4_VPN, &[0, 0, 0, 0, 0, 0, 0, 0, 192, 0, 2, rd], &vpn(id, rd, 16 * rd));
            attributes.extend(target(1));
            r1.update(&attributes);
        }
        let mut other = reach(Family::V4_VPN, &[0, 0, 0, 0, 0, 0, 0, 0, 192, 0, 2, 9], &vpn(1, 3, 9));
        other.extend(target(2));
        r1.update(&other);
        let look = || {
            let view = lab.board.table_reader().view();
            let address = Address::from("10.1.1.1".parse::<IpAddr>().unwrap());
            benocs_bgp::rib_lookup_in(&view, &lab.network, address, Some("r1"), "blue").ok()
        };
        let answer = until("in the VRF", || look().filter(|answer| answer.candidates.len() == 4)).await;
        assert_eq!(answer.route.as_ref().map(|route| (&*route.table, &*route.provenance)), Some(("vpn", "router")));
        let rds: std::collections::BTreeSet<&str> = answer.candidates.iter().map(|route| &*route.rd).collect();
        assert_eq!(rds.into_iter().collect::<Vec<_>>(), ["64500:1", "64500:2"]);
        assert_eq!(lab.lookup("10.1.1.1", Some("r1")).route, None, "the global table has no such route");
        assert_eq!(lab.status("r1").prefixes["ipv4-vpn"], 1);

        // One goes; another gets a target that nobody imports.
        let value = [&[0, 1, 128][..], &vpn(1, 1, 0)].concat();
        r1.update(&[BASE, &[0x80, 15, value.len() as u8], &value].concat());
        until("three", || look().filter(|answer| answer.candidates.len() == 3)).await;
        let mut moved = reach(Family::V4_VPN, &[0, 0, 0, 0, 0, 0, 0, 0, 192, 0, 2, 2], &vpn(2, 2, 32));
        moved.extend(target(2));
        r1.update(&moved);
        let answer = until("two", || look().filter(|answer| answer.candidates.len() == 2)).await;
        let mut left: Vec<_> = answer.candidates.iter().map(|route| (&*route.rd, &*route.labels)).collect();
        left.sort_unstable();
        assert_eq!(left, [("64500:1", "256"), ("64500:2", "512")]);
        // What was disabled was not taken again meanwhile.
        assert_eq!(lab.status("r1").rules, 0);
        drop(r1);
        until("gone", || look().is_none().then_some(())).await;
    });
}
