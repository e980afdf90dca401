//! Routers that monitor: FRR and GoBGP, each with a BIRD for a neighbour, and messages made by hand.
//!
//! Where a daemon is not installed the test says so and passes, except under CI.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use benocs_bgp::{BmpConfig, Board, Config, PeerStatus, Speaker, SpeakerMessage, rib_lookup};
use benocs_model::Address;
use benocs_model::network::Network;
use benocs_model::route::RouteView;
use benocs_runtime::{Handle, Restart, Settings, fatal_channel, spawn};
use benocs_wire::bgp;
use serde_json::Value;

const BIRD: &str = "/usr/sbin/bird";
const BIRDC: &str = "/usr/sbin/birdc";
const FRR: &str = "/usr/lib/frr/bgpd";
const VTYSH: &str = "/usr/bin/vtysh";
const GOBGPD: &str = "/usr/bin/gobgpd";
const GOBGP: &str = "/usr/bin/gobgp";
const LIMIT: Duration = Duration::from_secs(60);

fn installed(programs: &[&str]) -> bool {
    let missing: Vec<&&str> = programs.iter().filter(|program| !Path::new(program).exists()).collect();
    if missing.is_empty() {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "not installed: {missing:?}");
    eprintln!("skipped: not installed: {missing:?}");
    false
}

/// A daemon that dies with the test.
struct Daemon {
    child: Child,
    directory: tempfile::TempDir,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Daemon {
    fn start(program: &str, file: &str, configuration: &str, arguments: impl Fn(&Path) -> Vec<String>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(file), configuration).unwrap();
        let log = fs::File::create(directory.path().join("log")).unwrap();
        let child = Command::new(program)
            .args(arguments(directory.path()))
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { child, directory }
    }

    fn bird(configuration: &str) -> Self {
        Self::start(BIRD, "bird.conf", configuration, |at| {
            let in_it = |name: &str| at.join(name).display().to_string();
            ["-f", "-c", &in_it("bird.conf"), "-s", &in_it("ctl"), "-P", &in_it("pid")].map(str::to_owned).to_vec()
        })
    }

    fn frr(configuration: &str) -> Self {
        Self::start(FRR, "bgpd.conf", configuration, |at| {
            let in_it = |name: &str| at.join(name).display().to_string();
            let fixed = ["-n", "-Z", "-S", "-M", "bmp", "-p", "0", "-P", "0", "-f", &in_it("bgpd.conf")];
            let own = ["-i", &in_it("pid"), "--vty_socket", &at.display().to_string()].map(str::to_owned);
            fixed.map(str::to_owned).into_iter().chain(own).collect()
        })
    }

    fn gobgp(configuration: &str, api_port: u16) -> Self {
        Self::start(GOBGPD, "gobgpd.conf", configuration, |at| {
            let file = at.join("gobgpd.conf").display().to_string();
            let api = format!("127.0.0.1:{api_port}");
            ["-f", &file, "--api-hosts", &api, "--pprof-disable"].map(str::to_owned).to_vec()
        })
    }

    fn birdc(&self, command: &str) {
        let mut birdc = Command::new(BIRDC);
        birdc.arg("-s").arg(self.directory.path().join("ctl")).args(command.split(' ')).stdout(Stdio::null());
        assert!(birdc.status().unwrap().success());
    }

    fn vtysh(&self, command: &str) -> Value {
        let mut vtysh = Command::new(VTYSH);
        vtysh.arg("--vty_socket").arg(self.directory.path()).args(["-d", "bgpd", "-c", command]);
        serde_json::from_slice(&vtysh.output().unwrap().stdout).unwrap_or(Value::Null)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }
}

struct Lab {
    board: Board,
    handle: Handle<SpeakerMessage>,
    port: u16,
}

impl Lab {
    async fn start(bmp: BmpConfig) -> Self {
        let config = Config {
            listen: Vec::new(),
            router_id: "10.255.0.1".into(),
            publish_ms: 20,
            bmp: BmpConfig { listen: vec!["127.0.0.1:0".into()], ..bmp },
            ..Config::default()
        };
        let board = Board::new();
        let (fatal, _) = fatal_channel();
        let settings = Settings { name: "bgp", capacity: 16, tick: Duration::from_millis(50), restart: Restart::Never };
        let handle = spawn(settings, fatal, {
            let board = board.clone();
            move || Speaker::new(config.clone(), Vec::new(), board.clone())
        });
        let port = until(|| "listening".into(), || board.bmp_listening().first().map(SocketAddr::port)).await;
        Self { board, handle, port }
    }

    fn view(&self) -> RouteView {
        self.board.table_reader().view()
    }

    /// "prefix | AS path | next hop | MED | LOCAL_PREF" of a peer's routes, by its name; `None` where it is not up.
    fn table(&self, name: &str) -> Option<BTreeSet<String>> {
        let view = self.view();
        let id = view.peers().find(|routes| routes.peer.name == name)?.peer.id;
        let text = |number: Option<u32>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
        let line = |(_, prefix, path, _): (u32, benocs_model::address::Prefix, &std::sync::Arc<_>, bool)| {
            let path: &benocs_model::route::Path = path;
            let (med, preference) = (text(path.med), text(path.local_pref));
            format!("{prefix} | {} | {} | {med} | {preference}", path.as_path_text(), path.next_hop)
        };
        Some(view.routes_of(id).map(line).collect())
    }

    fn status(&self, source: &str, name: &str) -> Option<PeerStatus> {
        self.board.peers().iter().find(|peer| peer.source == source && peer.name == name).cloned()
    }

    /// Names of the peers that are up.
    fn names(&self) -> BTreeSet<String> {
        self.view().peers().map(|routes| routes.peer.name.clone()).collect()
    }

    async fn has(&self, name: &str, expected: impl Fn() -> Option<BTreeSet<String>>) {
        let differ = || format!("{name}: here {:#?}\nthere {:#?}\nup {:?}", self.table(name), expected(), self.names());
        until(differ, || {
            let expected = expected();
            (expected.is_some() && self.table(name) == expected).then_some(())
        })
        .await;
    }

    fn lookup(&self, address: &str, router: &str) -> Value {
        let address = Address::from(address.parse::<std::net::IpAddr>().unwrap());
        let answer = rib_lookup(&self.view(), &Network::default(), address, Some(router)).unwrap();
        serde_json::to_value(answer).unwrap()
    }
}

async fn until<T>(what: impl Fn() -> String, mut check: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(value) = check() {
            return value;
        }
        assert!(started.elapsed() < LIMIT, "not in time: {}", what());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A BIRD that waits for both routers and announces the same to each: within FRR's AS, since FRR 8 puts its own AS
/// before what it monitors of other ones; to GoBGP as AS 65020.
fn neighbour() -> Daemon {
    let session = |name: &str, router: &str, own_as: u32, remote_as: u32| {
        format!(
            "protocol bgp {name} {{
                 local 127.0.0.62 port 17962 as {own_as};
                 neighbor {router} as {remote_as};
                 passive yes; multihop; strict bind yes;
                 ipv4 {{ import none; export filter announced; next hop address 192.0.2.62; }};
                 ipv6 {{ import none; export filter announced; next hop address 2001:db8::62; }};
             }}\n"
        )
    };
    Daemon::bird(&format!(
        "router id 10.0.0.62;
         protocol device {{ }}
         protocol static {{ ipv4;
             route 198.51.100.0/24 blackhole; route 203.0.113.0/25 blackhole; route 192.0.2.128/25 blackhole; }}
         protocol static {{ ipv6; route 2001:db8:100::/48 blackhole; route 2001:db8:200::/48 blackhole; }}
         filter announced {{ bgp_path.prepend(4200000001); bgp_med = 7; bgp_community.add((65020,1)); accept; }}
         {}{}",
        session("frr", "127.0.0.61", 65_010, 65_010),
        session("gobgp", "127.0.0.63", 65_020, 65_030),
    ))
}

fn frr(port: u16) -> Daemon {
    Daemon::frr(&format!(
        "hostname frr
router bgp 65010
 bgp router-id 10.0.0.61
 no bgp ebgp-requires-policy
 no bgp network import-check
 neighbor 127.0.0.62 remote-as 65010
 neighbor 127.0.0.62 port 17962
 neighbor 127.0.0.62 update-source 127.0.0.61
 neighbor 127.0.0.62 disable-connected-check
 neighbor 127.0.0.62 timers connect 1
 bmp targets benocs
  bmp stats interval 100
  bmp monitor ipv4 unicast pre-policy
  bmp monitor ipv4 unicast post-policy
  bmp monitor ipv6 unicast post-policy
  bmp connect 127.0.0.1 port {port} min-retry 100 max-retry 500
 exit
 address-family ipv4 unicast
  network 100.64.0.0/24
  neighbor 127.0.0.62 soft-reconfiguration inbound
  neighbor 127.0.0.62 route-map in in
 exit-address-family
 address-family ipv6 unicast
  neighbor 127.0.0.62 activate
 exit-address-family
ip prefix-list refused permit 192.0.2.128/25
route-map in deny 5
 match ip address prefix-list refused
exit
route-map in permit 10
 set local-preference 150
exit
"
    ))
}

fn gobgp(port: u16) -> Daemon {
    Daemon::gobgp(
        &format!(
            "[global.config]
  as = 65030
  router-id = \"10.0.0.63\"
  port = -1
[[bmp-servers]]
  [bmp-servers.config]
    address = \"127.0.0.1\"
    port = {port}
    route-monitoring-policy = \"all\"
[[neighbors]]
  [neighbors.config]
    neighbor-address = \"127.0.0.62\"
    peer-as = 65020
  [neighbors.transport.config]
    local-address = \"127.0.0.63\"
    remote-port = 17962
  [neighbors.ebgp-multihop.config]
    enabled = true
    multihop-ttl = 3
  [neighbors.timers.config]
    connect-retry = 1
    idle-hold-time-after-reset = 1
  [[neighbors.afi-safis]]
    [neighbors.afi-safis.config]
      afi-safi-name = \"ipv4-unicast\"
  [[neighbors.afi-safis]]
    [neighbors.afi-safis.config]
      afi-safi-name = \"ipv6-unicast\"
"
        ),
        50_163,
    )
}

fn gobgp_json(arguments: &[&str]) -> Value {
    let output = Command::new(GOBGP).args(["-p", "50163", "-j"]).args(arguments).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
}

/// What FRR shows: its routes of a neighbour before (received) or after (accepted) its policy.
fn frr_routes(frr: &Daemon, family: &str, what: &str) -> Option<BTreeSet<String>> {
    let json = frr.vtysh(&format!("show bgp {family} unicast neighbors 127.0.0.62 {what} json"));
    let routes = json.get(if what == "routes" { "routes" } else { "receivedRoutes" })?.as_object()?;
    let number = |value: &Value| value.as_u64().map_or_else(|| "-".to_owned(), |number| number.to_string());
    let line = |(prefix, routes): (&String, &Value)| {
        let route = if routes.is_array() { &routes[0] } else { routes };
        let hop = match &route["nexthops"] {
            Value::Null => route["nextHop"].as_str().or_else(|| route["nextHopGlobal"].as_str())?.to_owned(),
            hops => hops[0]["ip"].as_str()?.to_owned(),
        };
        let preference = number(&route["locPrf"]);
        Some(format!("{prefix} | {} | {hop} | {} | {preference}", route["path"].as_str()?, number(&route["metric"])))
    };
    routes.iter().map(line).collect()
}

/// What GoBGP shows of its global table, or of a neighbour's.
fn gobgp_routes(arguments: &[&str]) -> Option<BTreeSet<String>> {
    let mut lines = BTreeSet::new();
    for family in ["ipv4", "ipv6"] {
        let json = gobgp_json(&[arguments, &["-a", family]].concat());
        for (prefix, paths) in json.as_object()? {
            let attributes = paths[0]["attrs"].as_array()?;
            let of = |kind: u64| attributes.iter().find(|attribute| attribute["type"] == kind);
            let asns: Vec<String> = of(2)
                .into_iter()
                .flat_map(|path| path["as_paths"].as_array().into_iter().flatten())
                .flat_map(|segment| segment["asns"].as_array().into_iter().flatten())
                .map(Value::to_string)
                .collect();
            let hop = of(3).or_else(|| of(14))?["nexthop"].as_str()?.to_owned();
            let number = |kind, name: &str| of(kind).map_or_else(|| "-".to_owned(), |one| one[name].to_string());
            let (med, preference) = (number(4, "metric"), number(5, "value"));
            lines.insert(format!("{prefix} | {} | {hop} | {med} | {preference}", asns.join(" ")));
        }
    }
    Some(lines)
}

#[test]
fn tables_of_frr_and_gobgp_are_as_these_show_them() {
    if !installed(&[BIRD, BIRDC, FRR, VTYSH, GOBGPD, GOBGP]) {
        return;
    }
    benocs_runtime::block_on(async {
        let lab = Lab::start(BmpConfig { allow: vec!["127.0.0.0/8".parse().unwrap()], ..BmpConfig::default() }).await;
        let bird = neighbour();
        let mut one = frr(lab.port);
        let two = gobgp(lab.port);
        until(|| format!("gobgp: {}", two.log()), || gobgp_json(&["neighbor"]).is_array().then_some(())).await;
        let post = || {
            let (mut v4, v6) = (frr_routes(&one, "ipv4", "routes")?, frr_routes(&one, "ipv6", "routes")?);
            v4.extend(v6);
            (v4.len() == 4).then_some(v4)
        };
        lab.has("frr 127.0.0.62 adj-rib-in-post", post).await;
        // What its policy refuses, FRR does not always send before that either; and it shows as received what it made
        // of it: the preference is BIRD's.
        let received = || {
            let routes = frr_routes(&one, "ipv4", "received-routes")?.into_iter();
            let routes = routes.filter(|line| !line.starts_with("192.0.2.128/25"));
            Some(routes.map(|line| line.replace("| 150", "| 100")).collect::<BTreeSet<String>>())
        };
        let before = || {
            let routes = lab.table("frr 127.0.0.62 adj-rib-in-pre")?.into_iter();
            Some(routes.filter(|line| !line.starts_with("192.0.2.128/25")).collect::<BTreeSet<String>>())
        };
        let same = || before().is_some_and(|routes| routes.len() == 2 && Some(routes) == received());
        until(|| format!("{:?} {:?}", before(), received()), || same().then_some(())).await;
        let global = || gobgp_routes(&["global", "rib"]).filter(|routes| routes.len() == 5);
        lab.has("GoBGP", global).await;
        let neighbour = || gobgp_routes(&["neighbor", "127.0.0.62", "adj-in"]).filter(|routes| routes.len() == 5);
        lab.has("GoBGP 127.0.0.62 adj-rib-in-pre", neighbour).await;
        lab.has("GoBGP 127.0.0.62 adj-rib-in-post", neighbour).await;

        // What came before a policy is shown, and answers for nobody.
        let far = lab.lookup("198.51.100.1", "GoBGP");
        let candidates = far["candidates"].as_array().unwrap();
        let said = |peer: &str| {
            let one = candidates.iter().find(|one| one["peer"] == peer).unwrap();
            (one["local_pref"].as_u64().unwrap(), one["provenance"].as_str().unwrap())
        };
        assert_eq!(said("frr 127.0.0.62 adj-rib-in-post"), (150, "fallback"));
        assert_eq!(said("frr 127.0.0.62 adj-rib-in-pre"), (100, "none"));

        // A router is found by the address that its BMP comes from: its own table, where it tells of it.
        let own = lab.lookup("198.51.100.1", "127.0.0.1");
        let said = (&own["view"], &own["provenance"], &own["peer"]);
        assert_eq!(said, (&"loc-rib".into(), &"router".into(), &"GoBGP".into()));
        assert_eq!((&own["as_path"], &own["communities"]), (&"65020 4200000001".into(), &"65020:1".into()));

        // A router's peer goes: its tables go, not the other router's.
        bird.birdc("disable frr");
        let of_frr = || lab.names().iter().filter(|name| name.starts_with("frr")).count();
        until(|| format!("{:?}", lab.names()), || (of_frr() == 0).then_some(())).await;
        assert_eq!(lab.table("GoBGP"), global());
        assert_eq!(lab.status("bmp-router", "frr").unwrap().state, "established");
        bird.birdc("enable frr");
        lab.has("frr 127.0.0.62 adj-rib-in-post", post).await;

        // A router is killed half way, and comes back.
        one.child.kill().unwrap();
        one.child.wait().unwrap();
        until(|| format!("{:?}", lab.names()), || (of_frr() == 0).then_some(())).await;
        let router =
            until(|| "lost".into(), || lab.status("bmp-router", "frr").filter(|router| router.state == "idle")).await;
        assert!(router.last_error.is_some_and(|error| error.contains("connection")));
        assert_eq!(lab.table("GoBGP"), global());
        let one = frr(lab.port);
        let post = || {
            let (mut v4, v6) = (frr_routes(&one, "ipv4", "routes")?, frr_routes(&one, "ipv6", "routes")?);
            v4.extend(v6);
            (v4.len() == 4).then_some(v4)
        };
        lab.has("frr 127.0.0.62 adj-rib-in-post", post).await;
        assert_eq!(lab.status("bmp-router", "frr").unwrap().state, "established");
        assert!(lab.status("bmp", "frr 127.0.0.62 adj-rib-in-post").unwrap().updates > 0);
        assert!(lab.handle.drain(Duration::from_secs(5)).await);
    });
}

/// A peer header: global unless `kind` says otherwise.
fn header(kind: u8, flags: u8, distinguisher: u64, address: [u8; 4]) -> Vec<u8> {
    let mut out = vec![kind, flags];
    out.extend(distinguisher.to_be_bytes());
    out.extend([0; 12]);
    out.extend(address);
    out.extend(65_001u32.to_be_bytes());
    out.extend([10, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0]);
    out
}

fn message(kind: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    [&[3], (body.len() as u32 + 6).to_be_bytes().as_slice(), &[kind], &body].concat()
}

/// An OPEN that reads and sends several paths of IPv4, or none.
fn open(add_path: bool) -> Vec<u8> {
    let way = bgp::AddPath { family: bgp::Family::V4_UNICAST, receive: true, send: true };
    let mut capabilities = vec![bgp::Capability::FourOctetAs(65_001)];
    if add_path {
        capabilities.push(bgp::Capability::AddPath(vec![way]));
    }
    let mut out = Vec::new();
    let open = bgp::Open { version: 4, as_two_octets: 65_001, hold_time_s: 90, bgp_id: [10, 0, 0, 7], capabilities };
    bgp::encode_open(&mut out, &open);
    out
}

fn up(peer: &[u8], add_path: bool, information: &[u8]) -> Vec<u8> {
    message(3, &[peer, &[0; 20], &open(add_path), &open(add_path), information])
}

/// An UPDATE that announces 10.`second`.0.0/16.
fn routes(peer: &[u8], second: u8, path_id: u32, agreed: &bgp::Agreed) -> Vec<u8> {
    let route = bgp::RouteUpdate {
        origin: 0,
        as_path: &[(bgp::SegmentKind::SEQUENCE, vec![65_001, 70_000 + path_id])],
        next_hop: bgp::NextHop::V4([192, 0, 2, second]),
        med: None,
        local_pref: Some(100),
        communities: &[],
        large_communities: &[],
        ext_communities: &[],
        originator_id: None,
        cluster_list: &[],
    };
    let prefix = bgp::NlriPrefix { path_id, address: bgp::PrefixAddress::V4([10, second, 0, 0]), len: 16 };
    let mut update = Vec::new();
    bgp::encode_update(&mut update, Some(&route), &[prefix], agreed);
    message(0, &[peer, &update])
}

const INITIATION: [u8; 12] = [3, 0, 0, 0, 12, 4, 0, 2, 0, 2, b'r', b'1'];

fn connect(port: u16, octets: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    stream.write_all(octets).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    stream
}

#[test]
fn views_instances_and_directions_are_kept_apart() {
    benocs_runtime::block_on(async {
        let lab = Lab::start(BmpConfig::default()).await;
        let four = bgp::Agreed::default();
        let several = bgp::Agreed { add_path: vec![bgp::Family::V4_UNICAST], ..four.clone() };
        let two = bgp::Agreed { four_octet_as: false, ..four.clone() };
        let neighbour = [192, 0, 2, 7];
        let blue = header(3, 0, 9, [0; 4]);
        let red = header(1, 0x40, 64_500 << 32 | 7, neighbour);
        let octets = [
            INITIATION.to_vec(),
            up(&header(0, 0, 0, neighbour), true, &[]),
            routes(&header(0, 0x00, 0, neighbour), 1, 5, &several),
            routes(&header(0, 0x00, 0, neighbour), 1, 6, &several),
            routes(&header(0, 0x40, 0, neighbour), 2, 5, &several),
            routes(&header(0, 0x10, 0, neighbour), 3, 5, &several),
            routes(&header(0, 0x50, 0, neighbour), 4, 5, &several),
            up(&red, false, &[]),
            // The old form of AS paths, with AS4_PATH beside it.
            routes(&header(1, 0x60, 64_500 << 32 | 7, neighbour), 5, 0, &two),
            up(&blue, false, &[0, 3, 0, 4, b'b', b'l', b'u', b'e']),
            routes(&blue, 6, 0, &four),
            // Of a peer that is not up; mirrored; statistics; unknown.
            routes(&header(0, 0, 0, [192, 0, 2, 8]), 7, 0, &four),
            message(6, &[&header(0, 0, 0, neighbour), &[0, 1, 0, 2, 0, 1]]),
            message(1, &[&header(0, 0, 0, neighbour), &[0; 4]]),
            message(99, &[b"?"]),
            // An UPDATE that is none, and another one behind it.
            message(0, &[&header(0, 0x40, 0, neighbour), &[0xff; 30]]),
            routes(&header(0, 0x40, 0, neighbour), 8, 5, &several),
        ];
        let mut stream = connect(lab.port, &octets.concat());
        let expected: BTreeSet<String> = [
            "r1 192.0.2.7 adj-rib-in-pre",
            "r1 192.0.2.7 adj-rib-in-post",
            "r1 192.0.2.7 adj-rib-out-pre",
            "r1 192.0.2.7 adj-rib-out-post",
            "r1 64500:7 192.0.2.7 adj-rib-in-post",
            "r1 blue",
        ]
        .map(str::to_owned)
        .into();
        let post = "r1 192.0.2.7 adj-rib-in-post";
        let ready = || lab.names() == expected && lab.table(post).is_some_and(|table| table.len() == 2);
        until(|| format!("{:?}", lab.names()), || ready().then_some(())).await;
        let lines = |name: &str| lab.table(name).unwrap().into_iter().collect::<Vec<_>>();
        assert_eq!(
            lines("r1 192.0.2.7 adj-rib-in-pre"),
            ["10.1.0.0/16 | 65001 70005 | 192.0.2.1 | - | 100", "10.1.0.0/16 | 65001 70006 | 192.0.2.1 | - | 100"]
        );
        assert_eq!(lines("r1 192.0.2.7 adj-rib-out-post"), ["10.4.0.0/16 | 65001 70005 | 192.0.2.4 | - | 100"]);
        assert_eq!(lines("r1 64500:7 192.0.2.7 adj-rib-in-post"), ["10.5.0.0/16 | 65001 70000 | 192.0.2.5 | - | 100"]);
        assert_eq!(lines("r1 blue"), ["10.6.0.0/16 | 65001 70000 | 192.0.2.6 | - | 100"]);
        // An instance's routes are not the global table's.
        let address = |second: u8| Address::from_v4([10, second, 0, 1]);
        let view = lab.view();
        assert!(view.candidates(address(6)).is_empty() && view.candidates_in("blue", address(6)).len() == 1);
        assert_eq!(view.candidates_in("64500:7", address(5)).len(), 1);
        let router = view.vantage(Address::from_v4([127, 0, 0, 1]), &[]);
        assert_eq!(view.lookup(router, address(2)).unwrap().peer.name, post);
        for shown in [1, 3, 4] {
            assert!(view.lookup(router, address(shown)).is_none());
            assert!(!view.candidates(address(shown)).is_empty());
        }

        // Nothing is sent, and the connection is not half closed.
        let mut octet = [0];
        let error = stream.read(&mut octet).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);

        // Up again: anew. Down: gone.
        stream.write_all(&up(&header(0, 0, 0, neighbour), false, &[])).unwrap();
        stream.write_all(&routes(&header(0, 0x40, 0, neighbour), 9, 0, &four)).unwrap();
        let anew = ["10.9.0.0/16 | 65001 70000 | 192.0.2.9 | - | 100".to_owned()].into();
        lab.has(post, || Some(BTreeSet::clone(&anew))).await;
        assert!(!lab.names().contains("r1 192.0.2.7 adj-rib-in-pre"));
        stream.write_all(&message(2, &[&blue, &[6]])).unwrap();
        until(|| format!("{:?}", lab.names()), || (!lab.names().contains("r1 blue")).then_some(())).await;
        assert!(lab.names().contains(post));

        // It says that it ends, and why.
        stream.write_all(&message(5, &[&[0, 1, 0, 2, 0, 0]])).unwrap();
        until(|| format!("{:?}", lab.names()), || lab.names().is_empty().then_some(())).await;
        let ended =
            until(|| "ended".into(), || lab.status("bmp-router", "r1").filter(|router| router.state == "idle")).await;
        assert_eq!(ended.last_error.as_deref(), Some("the router ended it: closed by its administrator"));
        assert!(lab.handle.drain(Duration::from_secs(5)).await);
    });
}

#[test]
fn what_is_no_router_is_let_go() {
    benocs_runtime::block_on(async {
        let gone = |lab: &Lab, octets: &[u8]| {
            let mut stream = connect(lab.port, octets);
            stream.set_read_timeout(Some(LIMIT)).unwrap();
            // Closed, or reset since not all was read.
            matches!(stream.read(&mut [0]), Ok(0) | Err(_))
        };
        let lab = Lab::start(BmpConfig { connections_max: 1, tables_max: 2, ..BmpConfig::default() }).await;
        assert!(gone(&lab, b"GET / HTTP/1.1\r\n\r\n"));
        let lost = || lab.board.peers().iter().find_map(|peer| peer.last_error.clone());
        let error = until(|| "refused".into(), lost).await;
        assert_eq!(error, "not a message of bmp: octet 0: version: value 71 is not allowed");
        assert!(gone(&lab, &[3, 0xff, 0, 0, 0, 4]));
        // Two tables, not three.
        let peers = [1, 2, 3].map(|last| header(0, 0x40, 0, [192, 0, 2, last]));
        let agreed = bgp::Agreed::default();
        let mut octets = INITIATION.to_vec();
        for peer in &peers {
            octets.extend(up(peer, false, &[]));
            octets.extend(routes(peer, 1, 0, &agreed));
        }
        octets.extend(routes(&peers[0], 2, 0, &agreed));
        let stream = connect(lab.port, &octets);
        let name = "r1 192.0.2.1 adj-rib-in-post";
        let both = || lab.table(name).is_some_and(|table| table.len() == 2);
        until(|| format!("{:?}", lab.names()), || both().then_some(())).await;
        assert_eq!(lab.names().len(), 2);
        // One connection, not two.
        assert!(gone(&lab, &INITIATION));
        drop(stream);
        until(|| format!("{:?}", lab.names()), || lab.names().is_empty().then_some(())).await;
        assert!(lab.handle.drain(Duration::from_secs(5)).await);
        let lab = Lab::start(BmpConfig { allow: vec!["192.0.2.0/24".parse().unwrap()], ..BmpConfig::default() }).await;
        assert!(gone(&lab, &INITIATION));
        assert!(lab.board.peers().is_empty());
        assert!(lab.handle.drain(Duration::from_secs(5)).await);
    });
}
