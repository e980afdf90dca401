//! VPN, labelled and FlowSpec routes from the daemons that can originate them.

use benocs_bgp::VrfConfig;

use super::*;

const GOBGPD: &str = "/usr/bin/gobgpd";
const GOBGP: &str = "/usr/bin/gobgp";
const EXABGP: &str = "/usr/sbin/exabgp";

fn with_families(name: &str, address: &str, families: &[&str]) -> PeerConfig {
    PeerConfig {
        families: families.iter().map(|family| (*family).to_owned()).collect(),
        ..peer(name, address, LOCAL_AS)
    }
}

fn in_vrf(lab: &Lab, address: &str, router: &str, vrf: &str) -> Option<benocs_bgp::RibRoute> {
    let address = Address::from(address.parse::<IpAddr>().unwrap());
    let view = lab.board.table_reader().view();
    benocs_bgp::rib_lookup_in(&view, &lab.network, address, Some(router), vrf).ok()?.route
}

#[test]
fn gobgp_originates_vpn_labelled_and_flow_spec_routes() {
    if !installed(&[GOBGPD, GOBGP]) {
        return;
    }
    benocs_runtime::block_on(async {
        let names = [
            "ipv4-unicast",
            "ipv4-labelled",
            "ipv6-labelled",
            "ipv4-vpn",
            "ipv6-vpn",
            "ipv4-flowspec",
            "ipv6-flowspec",
        ];
        let (port, api) = (free_port(), free_port().to_string());
        let mut r1 = with_families("r1", "127.0.0.66", &names);
        (r1.passive, r1.port, r1.local_address) = (false, port, "127.0.0.1".into());
        let vrf = |name: &str, import: &str| VrfConfig { name: name.into(), import: vec![import.into()] };
        let config = Config {
            peer: vec![r1],
            vrf: vec![vrf("blue", "rt:64500:1"), vrf("red", "rt:64500:2")],
            ..Config::default()
        };
        let lab = Lab::start(config, Vec::new()).await;
        let families = [
            "ipv4-unicast",
            "ipv4-labelled-unicast",
            "ipv6-labelled-unicast",
            "l3vpn-ipv4-unicast",
            "l3vpn-ipv6-unicast",
            "ipv4-flowspec",
            "ipv6-flowspec",
        ];
        let families = families
            .map(|name| format!("[[neighbors.afi-safis]]\n[neighbors.afi-safis.config]\nafi-safi-name = \"{name}\"\n"));
        let daemon = Daemon::other(
            GOBGPD,
            &["--api-hosts", &format!("127.0.0.1:{api}"), "-f"],
            "gobgpd.toml",
            &format!(
                "[global.config]\nas = {LOCAL_AS}\nrouter-id = \"10.0.0.66\"\nport = {port}\n\
                 local-address-list = [\"127.0.0.66\"]\n[[neighbors]]\n[neighbors.config]\n\
                 neighbor-address = \"127.0.0.1\"\npeer-as = {LOCAL_AS}\n\
                 [neighbors.transport.config]\npassive-mode = true\n{}",
                families.concat()
            ),
            &[],
        );
        let gobgp = |arguments: &str| {
            let all = ["-u", "127.0.0.1", "-p", &api].into_iter().chain(arguments.split(' '));
            let output = Command::new(GOBGP).args(all).output().unwrap();
            (
                output.status.success(),
                format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)),
            )
        };
        until_or(|| daemon.log(), || gobgp("global").0.then_some(())).await;
        for add in [
            "-a vpnv4 add 10.1.0.0/16 label 100 rd 64500:1 rt 64500:1 nexthop 192.0.2.66",
            "-a vpnv4 add 10.1.0.0/16 label 200 rd 64500:2 rt 64500:2 nexthop 192.0.2.66",
            "-a vpnv4 add 10.1.2.0/24 label 300 rd 64500:3 rt 64500:1 64500:2 nexthop 192.0.2.66",
            "-a vpnv4 add 10.9.0.0/16 label 400 rd 64500:4 rt 64500:9 nexthop 192.0.2.66",
            "-a vpnv6 add 2001:db8:9::/48 label 500 rd 64500:1 rt 64500:1 nexthop 2001:db8::66",
            "-a ipv4-mpls add 30.0.0.0/16 600 nexthop 192.0.2.66",
            "-a ipv6-mpls add 2001:db8:30::/48 700 nexthop 2001:db8::66",
            "-a ipv4 add 30.0.0.0/8 nexthop 192.0.2.66",
            "-a ipv4-flowspec add match destination 192.0.2.0/24 protocol udp destination-port >=1024&<=2000 then discard",
            "-a ipv6-flowspec add match destination 2001:db8::/32 then rate-limit 1000",
        ] {
            let (done, text) = gobgp(&format!("global rib {add}"));
            assert!(done, "{add}: {text}");
        }
        let count = |family: &str| lab.status("r1").prefixes.get(family).copied().unwrap_or(0);
        until_or(
            || format!("{:?}\n{}", lab.status("r1"), gobgp("neighbor 127.0.0.1").1),
            || {
                // The VRFs' tables are counted each.
                let vpn = count("ipv4-vpn") == 4 && count("ipv6-vpn") == 1;
                let labelled = count("ipv4-labelled") == 1 && count("ipv6-labelled") == 1;
                (vpn && labelled && count("ipv4-unicast") == 1 && lab.status("r1").rules == 2).then_some(())
            },
        )
        .await;

        let line = |route: Option<benocs_bgp::RibRoute>| {
            route.map(|route| {
                format!("{} {} {} {} {}", route.prefix, route.next_hop, route.labels, route.rd, route.table)
            })
        };
        let blue = |address: &str| line(in_vrf(&lab, address, "r1", "blue"));
        let red = |address: &str| line(in_vrf(&lab, address, "r1", "red"));
        assert_eq!(blue("10.1.1.1").as_deref(), Some("10.1.0.0/16 192.0.2.66 100 64500:1 vpn"));
        assert_eq!(red("10.1.1.1").as_deref(), Some("10.1.0.0/16 192.0.2.66 200 64500:2 vpn"));
        assert_eq!(blue("10.1.2.1").as_deref(), Some("10.1.2.0/24 192.0.2.66 300 64500:3 vpn"));
        assert_eq!(red("10.1.2.1").as_deref(), Some("10.1.2.0/24 192.0.2.66 300 64500:3 vpn"));
        assert_eq!(blue("2001:db8:9::1").as_deref(), Some("2001:db8:9::/48 2001:db8::66 500 64500:1 vpn"));
        assert_eq!((blue("10.9.0.1"), red("2001:db8:9::1"), blue("30.0.0.1")), (None, None, None));
        // In the global table a labelled route answers where no unicast one does.
        let global = |address: &str| line(in_vrf(&lab, address, "r1", ""));
        assert_eq!(global("30.0.0.1").as_deref(), Some("30.0.0.0/8 192.0.2.66   unicast"));
        assert_eq!(global("2001:db8:30::1").as_deref(), Some("2001:db8:30::/48 2001:db8::66 700  labelled"));
        assert!(gobgp("global rib -a ipv4 del 30.0.0.0/8").0);
        until("labelled", || (global("30.0.0.1")? == "30.0.0.0/16 192.0.2.66 600  labelled").then_some(())).await;
        assert_eq!(global("10.1.1.1"), None);

        let rules: Vec<String> =
            lab.board.rules().iter().map(|rule| format!("{} {} {:?}", rule.family, rule.rule, rule.actions)).collect();
        assert_eq!(
            rules,
            [
                "ipv4-flowspec destination 192.0.2.0/24 protocol =17 destination-port >=1024&<=2000 [\"rate 0 octet/s\"]",
                "ipv6-flowspec destination 2001:db8::/32 [\"rate 1000 octet/s\"]",
            ]
        );

        // Gone there, gone here.
        assert!(gobgp("global rib -a vpnv4 del 10.1.0.0/16 label 100 rd 64500:1").0);
        until("withdrawn", || blue("10.1.1.1").is_none().then_some(())).await;
        assert!(red("10.1.1.1").is_some());
        assert!(gobgp("global rib -a ipv6-flowspec del match destination 2001:db8::/32").0);
        until("one rule", || (lab.board.rules().len() == 1).then_some(())).await;
        drop(daemon);
        until("all gone", || {
            (in_vrf(&lab, "10.1.2.1", "r1", "red").is_none() && lab.board.rules().is_empty()).then_some(())
        })
        .await;
    });
}

#[test]
fn frr_originates_vpn_and_labelled_routes() {
    if !installed(&[FRR, VTYSH]) {
        return;
    }
    benocs_runtime::block_on(async {
        let config = Config {
            peer: vec![with_families("r1", "127.0.0.67", &["ipv4-unicast", "ipv4-vpn", "ipv6-vpn"])],
            vrf: vec![VrfConfig { name: "blue".into(), import: vec!["rt:64500:1".into()] }],
            ..Config::default()
        };
        let lab = Lab::start(config, Vec::new()).await;
        let daemon = Daemon::frr(&format!(
            "hostname r1\nroute-map blue permit 10\n set extcommunity rt 64500:1\n set ip next-hop 192.0.2.67\nexit\n\
             router bgp {LOCAL_AS}\n bgp router-id 10.0.0.67\n no bgp network import-check\n no bgp default ipv4-unicast\n \
             neighbor 127.0.0.1 remote-as {LOCAL_AS}\n neighbor 127.0.0.1 port {}\n neighbor 127.0.0.1 update-source 127.0.0.67\n \
             neighbor 127.0.0.1 timers connect 1\n \
             address-family ipv4 vpn\n  network 10.5.0.0/16 rd 64500:5 label 500 route-map blue\n  neighbor 127.0.0.1 activate\n \
             exit-address-family\n \
             address-family ipv6 vpn\n  network 2001:db8:5::/48 rd 64500:5 label 501 route-map blue\n  neighbor 127.0.0.1 activate\n \
             exit-address-family\nexit\n",
            lab.port
        ));
        until_or(
            || format!("{:?}", lab.status("r1")),
            || {
                let v4 = in_vrf(&lab, "10.5.1.1", "r1", "blue")?;
                let v6 = in_vrf(&lab, "2001:db8:5::1", "r1", "blue")?;
                let text = [v4, v6].map(|route| format!("{} {} {}", route.prefix, route.rd, route.labels));
                (text == ["10.5.0.0/16 64500:5 500", "2001:db8:5::/48 64500:5 501"]).then_some(())
            },
        )
        .await;
        daemon.vtysh(&[
            "configure terminal",
            &format!("router bgp {LOCAL_AS}"),
            "address-family ipv4 vpn",
            "no network 10.5.0.0/16 rd 64500:5 label 500",
        ]);
        until("withdrawn", || in_vrf(&lab, "10.5.1.1", "r1", "blue").is_none().then_some(())).await;
        assert!(in_vrf(&lab, "2001:db8:5::1", "r1", "blue").is_some());
    });
}

#[test]
fn exabgp_originates_flow_spec_vpn_and_labelled_routes() {
    if !installed(&[EXABGP]) {
        return;
    }
    benocs_runtime::block_on(async {
        let names = ["ipv4-unicast", "ipv4-labelled", "ipv4-vpn", "ipv4-flowspec", "ipv4-vpn-flowspec"];
        let config = Config {
            peer: vec![with_families("r1", "127.0.0.68", &names)],
            vrf: vec![VrfConfig { name: "blue".into(), import: vec!["rt:64500:1".into()] }],
            ..Config::default()
        };
        let lab = Lab::start(config, Vec::new()).await;
        let _daemon = Daemon::other(
            EXABGP,
            &[],
            "exabgp.conf",
            &format!(
                "neighbor 127.0.0.1 {{\n router-id 10.0.0.68;\n local-address 127.0.0.68;\n local-as {LOCAL_AS};\n \
                 peer-as {LOCAL_AS};\n connect {};\n \
                 family {{ ipv4 unicast; ipv4 nlri-mpls; ipv4 mpls-vpn; ipv4 flow; ipv4 flow-vpn; }}\n \
                 static {{\n  route 10.6.0.0/16 next-hop 192.0.2.68 label 600 rd 64500:6 extended-community [ target:64500:1 ];\n  \
                 route 10.7.0.0/16 next-hop 192.0.2.68 label 700;\n }}\n \
                 flow {{\n  route a {{ match {{ source 198.51.100.0/24; protocol tcp; destination-port =25; }} then {{ redirect 64500:12; }} }}\n  \
                 route b {{ rd 64500:6; match {{ destination 10.6.1.0/24; }} then {{ mark 46; }} }}\n }}\n}}\n",
                lab.port
            ),
            &[("exabgp.daemon.user", "root"), ("exabgp.api.cli", "false"), ("exabgp.log.destination", "stdout")],
        );
        until_or(
            || format!("{:?}\n{}", lab.status("r1"), _daemon.log()),
            || {
                let vpn = in_vrf(&lab, "10.6.0.1", "r1", "blue")?;
                let labelled = in_vrf(&lab, "10.7.0.1", "r1", "")?;
                let text = [vpn, labelled]
                    .map(|route| format!("{} {} {} {}", route.prefix, route.rd, route.labels, route.table));
                (text == ["10.6.0.0/16 64500:6 600 vpn", "10.7.0.0/16  700 labelled"] && lab.board.rules().len() == 2)
                    .then_some(())
            },
        )
        .await;
        let rules: Vec<String> =
            lab.board.rules().iter().map(|rule| format!("{} {} {:?}", rule.rd, rule.rule, rule.actions)).collect();
        assert_eq!(
            rules,
            [
                " source 198.51.100.0/24 protocol =6 destination-port =25 [\"redirect rt:64500:12\"]",
                "64500:6 destination 10.6.1.0/24 [\"mark 46\"]",
            ]
        );
    });
}
