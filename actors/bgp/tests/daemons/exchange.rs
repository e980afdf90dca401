//! Tables of some thousand prefixes from each daemon, over IPv4 with a password and over IPv6 with one or without, are what
//! the daemon itself shows; then the session ends in each of its ways.

use std::collections::BTreeMap;

use serde_json::Value;

use super::*;

const GOBGPD: &str = "/usr/bin/gobgpd";
const GOBGP: &str = "/usr/bin/gobgp";
const OPENBGPD: &str = "/usr/sbin/bgpd";
const BGPCTL: &str = "/usr/sbin/bgpctl";
const EXABGP: &str = "/usr/sbin/exabgp";
const V4: u32 = 2_000;
const V6: u32 = 500;
const PASSWORD: &str = "correct-horse";

/// AS path and MED by prefix.
type Table = BTreeMap<String, (String, Option<u64>)>;

fn group(number: u32) -> u32 {
    number % 7
}

fn v4(number: u32) -> String {
    let len = 24 + number % 4 * 2;
    format!("20.{}.{}.0/{len}", number >> 8, number & 255)
}

fn v6(number: u32) -> String {
    format!("2001:db8:{:x}::/{}", number + 1, 48 + number % 3 * 8)
}

fn asns(group: u32) -> [u32; 2] {
    [64_600 + group, 4_200_000_000 + group]
}

/// What a daemon that can be told everything announces.
fn told() -> Table {
    let entry = |number: u32| {
        let [first, second] = asns(group(number));
        (format!("{first} {second}"), Some(u64::from(group(number))))
    };
    (0..V4).map(|n| (v4(n), entry(n))).chain((0..V6).map(|n| (v6(n), entry(n)))).collect()
}

fn ours(lab: &Lab, name: &str) -> Table {
    let view = lab.board.table_reader().view();
    let Some(id) = view.peers().find(|routes| routes.peer.name == name).map(|routes| routes.peer.id) else {
        return Table::new();
    };
    let routes = view.routes_of(id);
    routes.map(|(_, prefix, path, _)| (prefix.to_string(), (path.as_path_text(), path.med.map(u64::from)))).collect()
}

/// Whether this kernel signs; where it does not, sessions go unsigned.
fn signs() -> bool {
    let socket = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let signs = benocs_sys::set_tcp_md5(&socket, Ipv4Addr::new(127, 0, 0, 99).into(), b"x").is_ok();
    assert!(signs || std::env::var_os("CI").is_none(), "this kernel does not sign tcp");
    signs
}

/// A lab whose peer `four` is signed and at 127.0.0.`host`, and whose peer `six` is at ::1, signed or not.
async fn lab(host: u8, signed: bool, connects: Option<u16>) -> (Lab, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let password_file: PathBuf = directory.path().join("password");
    fs::write(&password_file, PASSWORD).unwrap();
    let mut four = peer("four", &format!("127.0.0.{host}"), LOCAL_AS);
    let mut six = peer("six", "::1", LOCAL_AS);
    if signs() {
        four.password_file = password_file.clone();
        if signed {
            six.password_file = password_file;
        }
    }
    if let Some(port) = connects {
        for peer in [&mut four, &mut six] {
            (peer.passive, peer.port) = (false, port);
        }
        four.local_address = "127.0.0.1".into();
    }
    let config = Config { hold_time_s: 6, idle_hold_max_s: 1, peer: vec![four, six], ..Config::default() };
    (Lab::start(config, Vec::new()).await, directory)
}

async fn equal(lab: &Lab, daemon: &Daemon, theirs: &dyn Fn() -> Table) {
    for name in ["four", "six"] {
        until_or(
            || {
                let (ours, theirs) = (ours(lab, name), theirs());
                let differs = ours.iter().find(|(prefix, entry)| theirs.get(*prefix) != Some(entry));
                let status = lab.status(name);
                format!(
                    "{name}: {} here, {} there, {differs:?} of {status:?}\n{}",
                    ours.len(),
                    theirs.len(),
                    daemon.log()
                )
            },
            || (lab.prefixes(name) == (V4, V6) && ours(lab, name) == theirs()).then_some(()),
        )
        .await;
    }
}

/// The peers are told apart by what they can.
struct Ways<'a> {
    theirs: &'a dyn Fn() -> Table,
    /// It answers a request for all its routes.
    refreshes: bool,
    /// Makes the daemon end its sessions with a NOTIFICATION.
    notify: &'a dyn Fn(),
    /// It keeps its forwarding over a restart (RFC 4724).
    restarts: bool,
}

/// Asked again, it sends everything again.
async fn refresh(lab: &Lab) {
    let before = (lab.status("four").updates, lab.status("six").updates);
    lab.handle.outbox.send(SpeakerMessage::Refresh(None)).await.unwrap();
    until_or(
        || format!("refreshed: {:?} {:?}", lab.status("four"), lab.status("six")),
        || (lab.status("four").updates > before.0 && lab.status("six").updates > before.1).then_some(()),
    )
    .await;
}

async fn exercise(lab: &Lab, daemon: &mut Daemon, ways: Ways<'_>) {
    equal(lab, daemon, ways.theirs).await;

    if ways.refreshes {
        refresh(lab).await;
        equal(lab, daemon, ways.theirs).await;
    }

    // Its own last word.
    (ways.notify)();
    until_or(
        || format!("told: {:?}\n{}", lab.status("four"), daemon.log()),
        || {
            let told = lab.status("four").last_error.is_some_and(|error| error.starts_with("peer said: "));
            told.then_some(())
        },
    )
    .await;
    equal(lab, daemon, ways.theirs).await;

    // Silent for longer than the hold time.
    daemon.signal("-STOP");
    until_or(
        || format!("silent: {:?}", lab.status("four")),
        || (lab.status("four").last_error.as_deref() == Some("hold timer expired")).then_some(()),
    )
    .await;
    daemon.signal("-CONT");
    equal(lab, daemon, ways.theirs).await;

    // Killed: the routes go, or stay marked where the daemon said so.
    daemon.signal("-KILL");
    daemon.child.wait().unwrap();
    until_or(
        || format!("gone: {:?} {:?}", lab.status("four"), lab.prefixes("four")),
        || {
            let gone = lab.prefixes("four") == (0, 0);
            let stale = lab.status("four").stale && lab.prefixes("four") == (V4, V6);
            (if ways.restarts { stale } else { gone }).then_some(())
        },
    )
    .await;
}

#[test]
fn bird() {
    if !installed(&[BIRD, BIRDC]) {
        return;
    }
    benocs_runtime::block_on(async {
        let (lab, _keep) = lab(61, true, None).await;
        let port = free_port();
        let routes = |count: u32, prefix: fn(u32) -> String| {
            let route = |number: u32| {
                let [first, second] = asns(group(number));
                let (prefix, med) = (prefix(number), group(number));
                format!(
                    "route {prefix} blackhole {{ bgp_path.prepend({second}); bgp_path.prepend({first}); bgp_med = {med}; }};\n"
                )
            };
            (0..count).map(route).collect::<String>()
        };
        let session = |name: &str, own: &str, to: &str, port: u16, more: &str| {
            format!(
                "protocol bgp {name} {{
                     local {own} as {LOCAL_AS}; neighbor {to} port {port} as {LOCAL_AS};
                     multihop; strict bind yes; connect retry time 1; connect delay time 1; error wait time 1,2;
                     hold time 6; {more}
                     ipv4 {{ import none; export all; extended next hop on; next hop address 192.0.2.61; }};
                     ipv6 {{ import none; export all; next hop address 2001:db8::61; }};
                 }}\n"
            )
        };
        let password = if signs() { format!("password \"{PASSWORD}\";") } else { String::new() };
        let mut daemon = Daemon::bird(&format!(
            "router id 10.0.0.61; protocol device {{ }}
             protocol static {{ ipv4; {} }}
             protocol static {{ ipv6; {} }}\n{}{}",
            routes(V4, v4),
            routes(V6, v6),
            session("four", &format!("127.0.0.61 port {port}"), "127.0.0.1", lab.port, &password),
            session("six", &format!("::1 port {port}"), "::1", lab.port_v6, &password),
        ));
        let control = daemon.directory.path().join("bird.ctl");
        let birdc = |arguments: &[&str]| {
            let output = Command::new(BIRDC).arg("-s").arg(&control).args(arguments).output().unwrap();
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        let theirs = || {
            let mut table = Table::new();
            for name in ["master4", "master6"] {
                let mut prefix = String::new();
                for line in birdc(&["show", "route", "table", name, "all"]).lines() {
                    let entry = table.entry(prefix.clone());
                    if line.starts_with(|c: char| c.is_ascii_hexdigit()) && line.contains('/') {
                        prefix = line.split(' ').next().unwrap().to_owned();
                    } else if let Some(path) = line.trim().strip_prefix("BGP.as_path: ") {
                        entry.or_insert_with(|| (String::new(), None)).0 = path.trim().to_owned();
                    } else if let Some(med) = line.trim().strip_prefix("BGP.med: ") {
                        entry.or_insert_with(|| (String::new(), None)).1 = med.trim().parse().ok();
                    }
                }
            }
            table
        };
        until_or(|| daemon.log(), || (theirs() == told()).then_some(())).await;
        // Graceful restart "aware" is its default: it helps and does not keep.
        let notify = || drop(birdc(&["restart", "\"four\""]));
        exercise(&lab, &mut daemon, Ways { theirs: &theirs, notify: &notify, restarts: false, refreshes: true }).await;
    });
}

#[test]
fn frr() {
    if !installed(&[FRR, VTYSH]) {
        return;
    }
    benocs_runtime::block_on(async {
        let (lab, _keep) = lab(62, true, None).await;
        let networks = |count: u32, prefix: fn(u32) -> String| {
            (0..count).map(|n| format!("  network {} route-map g{}\n", prefix(n), group(n))).collect::<String>()
        };
        let maps = (0..7).map(|group| {
            let [first, second] = asns(group);
            format!("route-map g{group} permit 10\n set as-path prepend {first} {second}\n set metric {group}\nexit\n")
        });
        let neighbor = |address: &str, source: &str, port: u16| {
            format!(
                " neighbor {address} remote-as {LOCAL_AS}\n neighbor {address} port {port}\n neighbor {address} update-source {source}\n \
                 neighbor {address} timers connect 1\n neighbor {address} timers 2 6\n"
            )
        };
        let password = if signs() {
            format!(" neighbor 127.0.0.1 password {PASSWORD}\n neighbor ::1 password {PASSWORD}\n")
        } else {
            String::new()
        };
        let mut daemon = Daemon::frr(&format!(
            "hostname frr\nroute-map out4 permit 10\n set ip next-hop 192.0.2.62\nexit\n{}router bgp {LOCAL_AS}\n bgp router-id 10.0.0.62\n no bgp network import-check\n \
             bgp graceful-restart\n bgp graceful-restart preserve-fw-state\n{}{}{password} \
             address-family ipv4 unicast\n{}  neighbor ::1 activate\n  neighbor 127.0.0.1 route-map out4 out\n  \
             neighbor ::1 route-map out4 out\n exit-address-family\n \
             address-family ipv6 unicast\n{}  neighbor 127.0.0.1 activate\n  neighbor ::1 activate\n exit-address-family\nexit\n",
            maps.collect::<String>(),
            neighbor("127.0.0.1", "127.0.0.62", lab.port),
            neighbor("::1", "::1", lab.port_v6),
            networks(V4, v4),
            networks(V6, v6),
        ));
        let directory = daemon.directory.path().to_owned();
        let vtysh = |command: &str| {
            let mut vtysh = Command::new(VTYSH);
            let output =
                vtysh.arg("--vty_socket").arg(&directory).args(["-d", "bgpd", "-c", command]).output().unwrap();
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        let theirs = || {
            let mut table = Table::new();
            for family in ["ipv4", "ipv6"] {
                let json: Value =
                    serde_json::from_str(&vtysh(&format!("show bgp {family} unicast json"))).unwrap_or_default();
                for (prefix, paths) in json["routes"].as_object().into_iter().flatten() {
                    let path = &paths[0];
                    let text = path["path"].as_str().unwrap_or_default();
                    table.insert(prefix.clone(), (text.to_owned(), path["metric"].as_u64()));
                }
            }
            table
        };
        let notify = || drop(vtysh("clear bgp *"));
        exercise(&lab, &mut daemon, Ways { theirs: &theirs, notify: &notify, restarts: true, refreshes: true }).await;
    });
}

/// What GoBGP reads: the routes as TABLE_DUMP_V2 (RFC 6396).
fn mrt(routes: &[(u32, String, bool)]) -> Vec<u8> {
    use benocs_wire::bgp::{NextHop, NlriPrefix, PrefixAddress, RouteUpdate, SegmentKind};
    use benocs_wire::mrt::{self, IndexedPeer};
    let mut out = Vec::new();
    let index = IndexedPeer { bgp_id: [10, 0, 0, 9], address: IpAddr::from([192, 0, 2, 9]), remote_as: LOCAL_AS };
    mrt::encode_peer_index(&mut out, 1, [10, 0, 0, 9], "", &[index]);
    for (sequence, (number, text, is_v6)) in routes.iter().enumerate() {
        let (address, len) = text.split_once('/').unwrap();
        let as_path = [(SegmentKind::SEQUENCE, asns(group(*number)).to_vec())];
        let route = RouteUpdate {
            origin: 0,
            as_path: &as_path,
            next_hop: match *is_v6 {
                true => NextHop::V6("2001:db8::63".parse::<std::net::Ipv6Addr>().unwrap().octets(), None),
                false => NextHop::V4([192, 0, 2, 63]),
            },
            med: Some(group(*number)),
            local_pref: Some(100),
            communities: &[],
            large_communities: &[],
            ext_communities: &[],
            originator_id: None,
            cluster_list: &[],
        };
        let prefix = NlriPrefix {
            path_id: 0,
            address: match address.parse().unwrap() {
                IpAddr::V4(address) => PrefixAddress::V4(address.octets()),
                IpAddr::V6(address) => PrefixAddress::V6(address.octets()),
            },
            len: len.parse().unwrap(),
        };
        let mut attributes = Vec::new();
        assert!(mrt::encode_attributes(&mut attributes, &route));
        if let (true, PrefixAddress::V6(octets)) = (*is_v6, &prefix.address) {
            // GoBGP does not read MP_REACH_NLRI as RFC 6396 4.3.4 shortens it.
            attributes.truncate(attributes.len() - 20);
            let NextHop::V6(next_hop, _) = route.next_hop else { unreachable!() };
            let nlri = &octets[..usize::from(prefix.len).div_ceil(8)];
            let value = [&[0, 2, 1, 16][..], &next_hop, &[0, prefix.len], nlri].concat();
            attributes.extend([0x80, 14, value.len() as u8]);
            attributes.extend(value);
        }
        mrt::encode_rib(&mut out, 1, sequence as u32, &prefix, &[(0, 1, 0, &attributes)]);
    }
    out
}

#[test]
fn gobgp() {
    if !installed(&[GOBGPD, GOBGP]) {
        return;
    }
    benocs_runtime::block_on(async {
        let (port, api) = (free_port(), free_port().to_string());
        let (lab, _keep) = lab(63, false, Some(port)).await;
        let password = if signs() { format!("auth-password = \"{PASSWORD}\"") } else { String::new() };
        let neighbor = |address: &str, more: &str| {
            format!(
                "[[neighbors]]\n[neighbors.config]\nneighbor-address = \"{address}\"\npeer-as = {LOCAL_AS}\n{more}\n\
                 [neighbors.transport.config]\npassive-mode = true\n\
                 [neighbors.timers.config]\nhold-time = 6\nkeepalive-interval = 2\nidle-hold-time-after-reset = 1\n\
                 [neighbors.graceful-restart.config]\nenabled = true\nrestart-time = 60\n\
                 [[neighbors.afi-safis]]\n[neighbors.afi-safis.config]\nafi-safi-name = \"ipv4-unicast\"\n\
                 [neighbors.afi-safis.mp-graceful-restart.config]\nenabled = true\n\
                 [[neighbors.afi-safis]]\n[neighbors.afi-safis.config]\nafi-safi-name = \"ipv6-unicast\"\n\
                 [neighbors.afi-safis.mp-graceful-restart.config]\nenabled = true\n"
            )
        };
        let mut daemon = Daemon::other(
            GOBGPD,
            &["--api-hosts", &format!("127.0.0.1:{api}"), "-f"],
            "gobgpd.toml",
            &format!(
                "[global.config]\nas = {LOCAL_AS}\nrouter-id = \"10.0.0.63\"\nport = {port}\n\
                 local-address-list = [\"127.0.0.63\", \"::1\"]\n{}{}",
                neighbor("127.0.0.1", &password),
                neighbor("::1", ""),
            ),
            &[],
        );
        let all: Vec<(u32, String, bool)> =
            (0..V4).map(|n| (n, v4(n), false)).chain((0..V6).map(|n| (n, v6(n), true))).collect();
        let gobgp = |arguments: &[&str]| {
            let output = Command::new(GOBGP).args(["-u", "127.0.0.1", "-p", &api]).args(arguments).output().unwrap();
            (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
        };
        until_or(|| daemon.log(), || gobgp(&["global"]).0.then_some(())).await;
        let theirs = || {
            let mut table = Table::new();
            for family in ["ipv4", "ipv6"] {
                let json: Value =
                    serde_json::from_str(&gobgp(&["global", "rib", "-a", family, "-j"]).1).unwrap_or_default();
                for (prefix, paths) in json.as_object().into_iter().flatten() {
                    let attributes = paths[0]["attrs"].as_array().cloned().unwrap_or_default();
                    let of = |kind: u64| attributes.iter().find(|attribute| attribute["type"] == kind).cloned();
                    let asns = of(2).map(|path| path["as_paths"][0]["asns"].as_array().cloned().unwrap_or_default());
                    let asns: Vec<String> = asns.unwrap_or_default().iter().map(Value::to_string).collect();
                    table.insert(prefix.clone(), (asns.join(" "), of(4).and_then(|med| med["metric"].as_u64())));
                }
            }
            table
        };
        // Its client ends before the last routes are taken: they come twice.
        let file = daemon.directory.path().join("table.mrt");
        for part in all.chunks(250) {
            fs::write(&file, mrt(&[part, part].concat())).unwrap();
            let there = |table: &Table| part.iter().all(|(_, prefix, _)| table.contains_key(prefix));
            until_or(
                || format!("injected: {}", theirs().len()),
                || {
                    gobgp(&["mrt", "inject", "global", file.to_str().unwrap()]);
                    there(&theirs()).then_some(())
                },
            )
            .await;
        }
        assert_eq!(theirs(), told());
        let notify = || assert!(gobgp(&["neighbor", "127.0.0.1", "reset"]).0);
        exercise(&lab, &mut daemon, Ways { theirs: &theirs, notify: &notify, restarts: true, refreshes: true }).await;
    });
}

#[test]
fn openbgpd() {
    if !installed(&[OPENBGPD, BGPCTL]) {
        return;
    }
    // Its processes change their root to their user's home, and their user.
    let may = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n");
    if !may || fs::create_dir_all("/run/openbgpd").is_err() {
        assert!(std::env::var_os("CI").is_none(), "openbgpd needs root");
        eprintln!("skipped: openbgpd needs root");
        return;
    }
    benocs_runtime::block_on(async {
        let (lab, _keep) = lab(64, false, None).await;
        let network = |prefix: String, number: u32| {
            format!("network {prefix} set {{ metric {0} prepend-self {0} }}\n", group(number))
        };
        let networks: String = (0..V4).map(|n| network(v4(n), n)).chain((0..V6).map(|n| network(v6(n), n))).collect();
        let password = if signs() { format!("tcp md5sig password \"{PASSWORD}\"") } else { String::new() };
        let neighbor = |address: &str, own: &str, port: u16, more: &str| {
            format!(
                "neighbor {address} {{\n remote-as {LOCAL_AS}\n port {port}\n local-address {own}\n holdtime 6\n {more}\n \
                 announce IPv4 unicast\n announce IPv6 unicast\n announce refresh yes\n set nexthop self\n}}\n"
            )
        };
        let mut daemon = Daemon::other(
            OPENBGPD,
            &["-d", "-v", "-f"],
            "bgpd.conf",
            &format!(
                "AS {LOCAL_AS}\nrouter-id 10.0.0.64\nfib-update no\nlisten on 127.0.0.64 port {}\n\
                 socket \"{{directory}}/control\"\n{}{}allow to any\n{networks}",
                free_port(),
                neighbor("127.0.0.1", "127.0.0.64", lab.port, &password),
                neighbor("::1", "::1", lab.port_v6, ""),
            ),
            &[],
        );
        let control = daemon.directory.path().join("control");
        let bgpctl = |arguments: &[&str]| {
            let output = Command::new(BGPCTL).args(["-j", "-s"]).arg(&control).args(arguments).output().unwrap();
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        let theirs = || {
            let json: Value = serde_json::from_str(&bgpctl(&["show", "rib"])).unwrap_or_default();
            let route = |route: &Value| {
                let text = |field: &str| route[field].as_str().unwrap_or_default().to_owned();
                (text("prefix"), (text("aspath"), route["metric"].as_u64()))
            };
            json["rib"].as_array().into_iter().flatten().map(route).collect()
        };
        // Release 7.7 says of every request that its family was not negotiated.
        let notify = || drop(bgpctl(&["neighbor", "127.0.0.1", "clear", "maintenance"]));
        exercise(&lab, &mut daemon, Ways { theirs: &theirs, notify: &notify, restarts: false, refreshes: false }).await;
    });
}

#[test]
fn exabgp() {
    if !installed(&[EXABGP]) {
        return;
    }
    benocs_runtime::block_on(async {
        let (lab, _keep) = lab(65, false, None).await;
        let routes: String = (0..V4)
            .map(|n| (v4(n), n, "192.0.2.65"))
            .chain((0..V6).map(|n| (v6(n), n, "2001:db8::65")))
            .map(|(prefix, number, next_hop)| {
                let [first, second] = asns(group(number));
                let med = group(number);
                format!("route {prefix} next-hop {next_hop} as-path [ {first} {second} ] med {med};\n")
            })
            .collect();
        let neighbor = |address: &str, own: &str, port: u16, more: &str| {
            format!(
                "neighbor {address} {{\n router-id 10.0.0.65;\n local-address {own};\n local-as {LOCAL_AS};\n peer-as {LOCAL_AS};\n \
                 connect {port};\n hold-time 6;\n {more}\n family {{ ipv4 unicast; ipv6 unicast; }}\n \
                 capability {{ route-refresh enable; }}\n static {{ {routes} }}\n}}\n"
            )
        };
        let password = if signs() { format!("md5-password \"{PASSWORD}\";") } else { String::new() };
        let configuration = format!(
            "{}{}",
            neighbor("127.0.0.1", "127.0.0.65", lab.port, &password),
            neighbor("::1", "::1", lab.port_v6, "")
        );
        let environment = [
            ("exabgp.daemon.user", "root"),
            ("exabgp.api.cli", "false"),
            ("exabgp.log.destination", "stdout"),
            ("exabgp.tcp.once", "false"),
        ];
        let mut daemon = Daemon::other(EXABGP, &[], "exabgp.conf", &configuration, &environment);
        let file = daemon.directory.path().join("exabgp.conf");
        // It shows what it announces only to programs that it starts: its configuration is what it says.
        let id = daemon.child.id().to_string();
        let notify = || {
            fs::write(&file, configuration.replace("hold-time 6", "hold-time 7")).unwrap();
            assert!(Command::new("kill").args(["-USR1", &id]).status().unwrap().success());
        };
        exercise(&lab, &mut daemon, Ways { theirs: &told, notify: &notify, restarts: false, refreshes: true }).await;
    });
}
