//! Sessions with real routers on loopback addresses: BIRD 2, FRR, GoBGP, OpenBGPD and ExaBGP, and with one that is
//! only octets where no daemon does what is to be seen.
//!
//! Where a daemon is not installed the test says so and passes, except under CI.

mod exchange;
mod families;
mod octets;
mod restart;
mod withdrawal;

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use benocs_bgp::{Board, Config, PeerConfig, PeerStatus, RangeConfig, RibAnswer, Speaker, SpeakerMessage, rib_lookup};
use benocs_model::Address;
use benocs_model::network::{Network, Router};
use benocs_model::route::{RouteBatch, RouteTable};
use benocs_runtime::{Handle, Outbox, Restart, Settings, fatal_channel, spawn};

const BIRD: &str = "/usr/sbin/bird";
const BIRDC: &str = "/usr/sbin/birdc";
const FRR: &str = "/usr/lib/frr/bgpd";
const VTYSH: &str = "/usr/bin/vtysh";
const LOCAL_AS: u32 = 64_512;
/// OpenBGPD waits half a minute before it connects again.
const LIMIT: Duration = Duration::from_secs(120);

fn installed(programs: &[&str]) -> bool {
    let missing: Vec<&&str> = programs.iter().filter(|program| !Path::new(program).exists()).collect();
    if missing.is_empty() {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "not installed: {missing:?}");
    eprintln!("skipped: not installed: {missing:?}");
    false
}

/// One that nobody listens on: other runs of these tests have theirs.
fn free_port() -> u16 {
    std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
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
    fn bird(configuration: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let child = Self::start_bird(directory.path(), configuration, &[]);
        Self { child, directory }
    }

    fn start_bird(directory: &Path, configuration: &str, more: &[&str]) -> Child {
        let file = directory.join("bird.conf");
        fs::write(&file, configuration).unwrap();
        Command::new(BIRD)
            .args(["-f", "-c"])
            .arg(&file)
            .arg("-s")
            .arg(directory.join("bird.ctl"))
            .arg("-P")
            .arg(directory.join("bird.pid"))
            .args(more)
            .stdout(Stdio::null())
            .stderr(fs::File::create(directory.join("bird.log")).unwrap())
            .spawn()
            .unwrap()
    }

    fn frr(configuration: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("bgpd.conf");
        fs::write(&file, configuration).unwrap();
        let child = Command::new(FRR)
            .args(["-n", "-Z", "-S", "-p", "0", "-P", "0", "-f"])
            .arg(&file)
            .arg("-i")
            .arg(directory.path().join("bgpd.pid"))
            .arg("--vty_socket")
            .arg(directory.path())
            .stdout(Stdio::null())
            .stderr(fs::File::create(directory.path().join("bgpd.log")).unwrap())
            .spawn()
            .unwrap();
        Self { child, directory }
    }

    /// Any other daemon, with its configuration in a file of its own directory.
    fn other(program: &str, arguments: &[&str], file: &str, configuration: &str, environment: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(file);
        fs::write(&path, configuration.replace("{directory}", &directory.path().display().to_string())).unwrap();
        // OpenBGPD does not take one that others may read.
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let log = fs::File::create(directory.path().join("log")).unwrap();
        let child = Command::new(program)
            .args(arguments)
            .arg(&path)
            .envs(environment.iter().copied())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { child, directory }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    fn birdc(&self, command: &str) -> String {
        let output = Command::new(BIRDC)
            .arg("-s")
            .arg(self.directory.path().join("bird.ctl"))
            .args(command.split(' '))
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn vtysh(&self, commands: &[&str]) {
        let mut vtysh = Command::new(VTYSH);
        vtysh.arg("--vty_socket").arg(self.directory.path()).args(["-d", "bgpd"]);
        for command in commands {
            vtysh.args(["-c", command]);
        }
        let output = vtysh.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        // OpenBGPD's sessions are a process of their own.
        let children = || fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
        let send = |all: &str| Command::new("kill").arg(signal).args(all.split_whitespace()).status().unwrap();
        let first = children();
        assert!(send(&format!("{id} {first}")).success());
        // The list of one that runs may lack some (proc_pid_children(5)); of one that is stopped it is whole.
        if signal == "-STOP" && !children().is_empty() {
            assert!(send(&children()).success());
        }
    }
}

struct Lab {
    board: Board,
    handle: Handle<SpeakerMessage>,
    port: u16,
    port_v6: u16,
    network: Network,
}

fn peer(name: &str, address: &str, remote_as: u32) -> PeerConfig {
    PeerConfig { name: name.into(), address: address.into(), remote_as, ..PeerConfig::default() }
}

impl Lab {
    async fn start(config: Config, outboxes: Vec<Outbox<RouteBatch>>) -> Self {
        Self::start_saved(config, outboxes, None).await
    }

    /// Saves its table in a file, and begins with what is there.
    async fn start_saved(config: Config, outboxes: Vec<Outbox<RouteBatch>>, saved: Option<PathBuf>) -> Self {
        let config = Config {
            listen: vec!["127.0.0.1:0".into(), "[::1]:0".into()],
            local_as: LOCAL_AS,
            router_id: "10.255.0.1".into(),
            connect_retry_s: 1,
            publish_ms: 20,
            ..config
        };
        let routers = config.peer.iter().enumerate().map(|(id, peer)| Router {
            id: id as u32,
            name: peer.name.clone(),
            addresses: vec![Address::from(peer.address.parse::<IpAddr>().unwrap())],
            vendor: None,
        });
        let network = Network { routers: routers.collect(), ..Network::default() };
        let board = Board::new();
        let (fatal, _) = fatal_channel();
        let settings = Settings { name: "bgp", capacity: 16, tick: Duration::from_millis(50), restart: Restart::Never };
        let handle = spawn(settings, fatal, {
            let board = board.clone();
            move || {
                let speaker = Speaker::new(config.clone(), outboxes.clone(), board.clone())?;
                Ok(match &saved {
                    Some(file) => speaker.saved_in(file.clone()),
                    None => speaker,
                })
            }
        });
        until("listening", || (board.listening().len() == 2).then_some(())).await;
        let port = |v6: bool| {
            let listening = board.listening();
            listening.iter().find(|address| address.is_ipv6() == v6).map(SocketAddr::port).unwrap()
        };
        Self { port: port(false), port_v6: port(true), board, handle, network }
    }

    fn status(&self, name: &str) -> PeerStatus {
        self.board.peers().iter().find(|peer| peer.name == name).cloned().unwrap()
    }

    async fn established(&self, name: &str) {
        until_or(
            || format!("{name} established: {:?}", self.status(name)),
            || (self.try_status(name)?.state == "established").then_some(()),
        )
        .await;
    }

    fn try_status(&self, name: &str) -> Option<PeerStatus> {
        self.board.peers().iter().find(|peer| peer.name == name).cloned()
    }

    fn prefixes(&self, name: &str) -> (u32, u32) {
        let view = self.board.table_reader().view();
        let peers: Vec<_> = view.peers().collect();
        peers.iter().find(|routes| routes.peer.name == name).map_or((0, 0), |routes| (routes.v4, routes.v6))
    }

    async fn has(&self, name: &str, count: (u32, u32)) {
        until_or(
            || format!("{name} has {count:?}: {:?}, {:?}", self.prefixes(name), self.status(name)),
            || (self.prefixes(name) == count).then_some(()),
        )
        .await;
    }

    fn lookup(&self, address: &str, router: Option<&str>) -> RibAnswer {
        let address = Address::from(address.parse::<IpAddr>().unwrap());
        rib_lookup(&self.board.table_reader().view(), &self.network, address, router).unwrap()
    }

    /// "prefix | AS path | next hop | communities | provenance", or "none".
    fn line(&self, address: &str, router: &str) -> String {
        match self.lookup(address, Some(router)).route {
            Some(route) => format!(
                "{} | {} | {} | {} | {} {}",
                route.prefix, route.as_path, route.next_hop, route.communities, route.provenance, route.router
            ),
            None => "none".to_owned(),
        }
    }
}

async fn until<T>(what: &str, check: impl FnMut() -> Option<T>) -> T {
    until_or(|| what.to_owned(), check).await
}

async fn until_or<T>(what: impl Fn() -> String, mut check: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(value) = check() {
            return value;
        }
        assert!(started.elapsed() < LIMIT, "not in time: {}", what());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A BIRD on 127.0.0.`host` (iBGP) that announces what `routes` and `filter` say.
fn bird(host: u8, port: u16, v4: &str, v6: &str, filter: &str, more: &str) -> String {
    format!(
        "router id 10.0.0.{host};
         protocol device {{ }}
         protocol static static4 {{ ipv4; {v4} }}
         protocol static static6 {{ ipv6; {v6} }}
         filter announced {{ {filter} accept; }}
         protocol bgp collector {{
             local 127.0.0.{host} port {local} as {LOCAL_AS};
             neighbor 127.0.0.1 port {port} as {LOCAL_AS};
             multihop; strict bind yes; connect retry time 1; connect delay time 1; error wait time 1,2;
             {more}
             ipv4 {{ import none; export filter announced; next hop self; }};
             ipv6 {{ import none; export filter announced; next hop address 2001:db8::{host}; }};
         }}",
        local = 17_900 + u16::from(host),
    )
}

#[test]
fn every_router_has_its_own_best_path() {
    if !installed(&[BIRD, BIRDC, FRR, VTYSH]) {
        return;
    }
    benocs_runtime::block_on(async {
        let (outbox, receiver) = Outbox::channel(4096);
        let mut rr = peer("rr", "127.0.0.13", LOCAL_AS);
        rr.reflector = true;
        let config = Config {
            hold_time_s: 3,
            peer: vec![peer("r1", "127.0.0.12", LOCAL_AS), rr, peer("edge", "127.0.0.14", 65_010)],
            ..Config::default()
        };
        let lab = Lab::start(config, vec![outbox]).await;
        let one = Daemon::bird(&bird(
            12,
            lab.port,
            "route 198.51.100.0/24 blackhole; route 203.0.113.0/24 blackhole; route 10.0.0.0/8 blackhole;",
            "route 2001:db8:100::/48 blackhole;",
            "bgp_path.prepend(4200000001); bgp_path.prepend(64500);
             bgp_community.add((64500,100)); bgp_large_community.add((64500,1,2));
             bgp_ext_community.add((rt,64500,7)); bgp_local_pref = 200; bgp_med = 5;",
            "",
        ));
        let two = bird(
            13,
            lab.port,
            "route 198.51.100.0/24 blackhole; route 198.51.100.128/25 blackhole; route 192.0.2.0/24 blackhole;",
            "route 2001:db8:100::/48 blackhole; route ::/0 blackhole;",
            "bgp_path.prepend(64999); if net.type = NET_IP4 then bgp_next_hop = 203.0.113.77;",
            "",
        );
        // BIRD's `self` overrides what a filter sets.
        let two = Daemon::bird(&two.replace("next hop self", "next hop keep"));
        let edge = Daemon::frr(&format!(
            "hostname edge
router bgp 65010
 bgp router-id 10.0.0.14
 no bgp ebgp-requires-policy
 no bgp network import-check
 timers bgp 1 3
 neighbor 127.0.0.1 remote-as {LOCAL_AS}
 neighbor 127.0.0.1 port {}
 neighbor 127.0.0.1 update-source 127.0.0.14
 neighbor 127.0.0.1 ebgp-multihop 3
 neighbor 127.0.0.1 disable-connected-check
 neighbor 127.0.0.1 timers connect 1
 address-family ipv4 unicast
  network 100.64.0.0/24
  network 100.64.0.0/10
  neighbor 127.0.0.1 route-map out out
 exit-address-family
 address-family ipv6 unicast
  network 2001:db8:e::/48
  neighbor 127.0.0.1 activate
 exit-address-family
route-map out permit 10
 set as-path prepend 65010 65536
 set community 65010:1 65010:2
exit
",
            lab.port
        ));
        lab.established("r1").await;
        lab.established("rr").await;
        lab.established("edge").await;
        lab.has("r1", (3, 1)).await;
        lab.has("rr", (3, 2)).await;
        lab.has("edge", (2, 1)).await;

        // The same address, three routers, three answers.
        assert_eq!(
            lab.line("198.51.100.200", "r1"),
            "198.51.100.0/24 | 64500 4200000001 | 127.0.0.12 | 64500:100 64500:1:2 rt:64500:7 | router r1"
        );
        assert_eq!(lab.line("198.51.100.200", "rr"), "198.51.100.128/25 | 64999 | 203.0.113.77 |  | router rr");
        assert_eq!(lab.line("198.51.100.200", "edge"), "198.51.100.128/25 | 64999 | 203.0.113.77 |  | reflector rr");
        assert_eq!(
            lab.line("203.0.113.9", "edge"),
            "203.0.113.0/24 | 64500 4200000001 | 127.0.0.12 | 64500:100 64500:1:2 rt:64500:7 | fallback r1"
        );
        assert_eq!(
            lab.line("100.64.0.1", "edge"),
            "100.64.0.0/24 | 65010 65010 65536 | 127.0.0.14 | 65010:1 65010:2 | router edge"
        );
        assert_eq!(lab.line("2001:db8:100::1", "rr"), "2001:db8:100::/48 | 64999 | 2001:db8::13 |  | router rr");
        assert_eq!(lab.line("2001:db8:ffff::1", "rr"), "::/0 | 64999 | 2001:db8::13 |  | router rr");
        assert!(
            lab.line("2001:db8:e::1", "edge").starts_with("2001:db8:e::/48 | 65010"),
            "{}",
            lab.line("2001:db8:e::1", "edge")
        );
        assert_eq!(lab.line("8.8.8.8", "r1"), "none");
        let answer = lab.lookup("198.51.100.200", Some("127.0.0.12"));
        assert_eq!(answer.route.as_ref().map(|route| (route.local_pref, route.med)), Some((Some(200), Some(5))));
        assert_eq!(answer.candidates.len(), 2);
        let json = serde_json::to_value(&answer).unwrap();
        assert_eq!(json["prefix"], "198.51.100.0/24");
        assert_eq!(json["provenance"], "router");

        // Withdrawn by one, kept by the other.
        one.birdc("disable static4");
        lab.has("r1", (0, 1)).await;
        assert_eq!(lab.line("198.51.100.200", "r1"), "198.51.100.128/25 | 64999 | 203.0.113.77 |  | reflector rr");
        edge.vtysh(&[
            "configure terminal",
            "router bgp 65010",
            "address-family ipv4 unicast",
            "no network 100.64.0.0/24",
        ]);
        lab.has("edge", (1, 1)).await;
        assert!(lab.line("100.64.0.1", "edge").starts_with("100.64.0.0/10 | 65010"));
        one.birdc("enable static4");
        lab.has("r1", (3, 1)).await;

        // Asked again, everything comes again.
        let before = (lab.status("r1").updates, lab.status("rr").updates, lab.status("edge").updates);
        lab.handle.outbox.send(SpeakerMessage::Refresh(None)).await.unwrap();
        until("refreshed", || {
            let now = (lab.status("r1").updates, lab.status("rr").updates, lab.status("edge").updates);
            (now.0 > before.0 && now.1 > before.1 && now.2 > before.2).then_some(())
        })
        .await;
        lab.has("r1", (3, 1)).await;
        lab.has("edge", (1, 1)).await;

        // Silent for longer than the hold time, then back.
        edge.signal("-STOP");
        lab.has("edge", (0, 0)).await;
        assert_eq!(lab.status("edge").last_error.as_deref(), Some("hold timer expired"));
        assert_eq!(lab.prefixes("rr"), (3, 2));
        edge.signal("-CONT");
        lab.has("edge", (1, 1)).await;

        // Killed: its routes go at once, and nobody else's.
        drop(two);
        lab.has("rr", (0, 0)).await;
        assert_ne!(lab.status("rr").state, "established");
        assert_eq!(lab.prefixes("r1"), (3, 1));
        assert!(lab.line("198.51.100.200", "edge").ends_with("fallback r1"));

        // A replica that followed the deltas is equal.
        let mut replica = RouteTable::new();
        until("replica", || {
            while let Ok(batch) = receiver.try_recv() {
                replica.apply(&batch);
            }
            replica.publish();
            let (own, other) = (lab.board.table_reader().view(), replica.reader().view());
            (all_routes(&own) == all_routes(&other)).then_some(())
        })
        .await;

        // The peers are told that this is meant.
        assert!(lab.handle.drain(Duration::from_secs(5)).await);
        until("bird was told", || {
            let text = one.birdc("show protocols all collector");
            (text.contains("Administrative shutdown") && text.contains("shutting down")).then_some(())
        })
        .await;
    });
}

fn all_routes(view: &benocs_model::route::RouteView) -> Vec<String> {
    let peers: Vec<_> = view.peers().map(|routes| routes.peer.clone()).collect();
    let routes = peers.iter().flat_map(|peer| {
        view.routes_of(peer.id)
            .map(move |(id, prefix, path, stale)| format!("{} {id} {prefix} {path:?} {stale}", peer.name))
    });
    let mut routes: Vec<String> = routes.collect();
    routes.sort();
    routes
}

#[test]
fn a_restarting_router_keeps_its_routes() {
    if !installed(&[BIRD, BIRDC]) {
        return;
    }
    benocs_runtime::block_on(async {
        let config = Config { peer: vec![peer("r1", "127.0.0.22", LOCAL_AS)], ..Config::default() };
        let lab = Lab::start(config, Vec::new()).await;
        let text = |routes: &str| {
            let text = bird(22, lab.port, routes, "route 2001:db8:1::/48 blackhole;", "", "graceful restart on;");
            format!("graceful restart wait 5;\n{text}")
        };
        let mut one = Daemon::bird(&text("route 198.51.100.0/24 blackhole; route 203.0.113.0/24 blackhole;"));
        lab.has("r1", (2, 1)).await;
        assert!(!lab.lookup("198.51.100.1", Some("r1")).route.unwrap().stale);

        one.signal("-KILL");
        one.child.wait().unwrap();
        until("restarting", || (lab.status("r1").state == "restarting").then_some(())).await;
        until("stale", || lab.lookup("198.51.100.1", Some("r1")).route.unwrap().stale.then_some(())).await;
        assert_eq!(lab.prefixes("r1"), (2, 1));

        // Back with one route less: that one goes at End-of-RIB, the other is fresh.
        let directory = one.directory.path().to_owned();
        one.child = Daemon::start_bird(&directory, &text("route 198.51.100.0/24 blackhole;"), &["-R"]);
        lab.has("r1", (1, 1)).await;
        assert!(!lab.lookup("198.51.100.1", Some("r1")).route.unwrap().stale);
        assert_eq!(lab.status("r1").state, "established");
        assert!(lab.handle.drain(Duration::from_secs(5)).await);
    });
}

#[test]
fn signed_active_ranged_and_several_paths() {
    if !installed(&[BIRD, BIRDC]) {
        return;
    }
    benocs_runtime::block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let password: PathBuf = directory.path().join("password");
        fs::write(&password, "correct horse\n").unwrap();
        let signs = {
            let socket = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            benocs_sys::set_tcp_md5(&socket, Ipv4Addr::new(127, 0, 0, 99).into(), b"x").is_ok()
        };
        let mut signed = peer("signed", "127.0.0.32", LOCAL_AS);
        if signs {
            signed.password_file = password;
        } else {
            eprintln!("this kernel does not sign tcp: the session goes unsigned");
        }
        let mut active = peer("active", "127.0.0.33", LOCAL_AS);
        (active.passive, active.port, active.local_address) = (false, 17_933, "127.0.0.1".into());
        let six = peer("six", "::1", 65_020);
        let range = RangeConfig { prefix: "127.0.0.48/28".into(), remote_as: LOCAL_AS, ..RangeConfig::default() };
        let config = Config { peer: vec![signed, active, six], range: vec![range], ..Config::default() };
        let lab = Lab::start(config, Vec::new()).await;

        let secret = if signs { "password \"correct horse\";" } else { "" };
        let _signed = Daemon::bird(&bird(32, lab.port, "route 198.51.100.0/24 blackhole;", "", "", secret));
        let _active = Daemon::bird(&bird(33, 17_999, "route 203.0.113.0/24 blackhole;", "", "", "passive yes;"));
        let _ranged = Daemon::bird(&format!(
            "router id 10.0.0.50; protocol device {{ }}
             ipv4 table second;
             protocol static a {{ ipv4; route 192.0.2.0/24 blackhole {{ bgp_path.prepend(64501); }}; }}
             protocol static b {{ ipv4 {{ table second; }}; route 192.0.2.0/24 unreachable {{ bgp_path.prepend(64502); }}; }}
             protocol pipe {{ table master4; peer table second; import all; export none; }}
             protocol bgp collector {{
                 local 127.0.0.50 port 17950 as {LOCAL_AS};
                 neighbor 127.0.0.1 port {} as {LOCAL_AS};
                 multihop; strict bind yes; connect delay time 1;
                 ipv4 {{ import none; export all; add paths tx; next hop self; }};
             }}",
            lab.port
        ));
        let _six = Daemon::bird(&format!(
            "router id 10.0.0.60; protocol device {{ }}
             protocol static {{ ipv4; route 100.64.1.0/24 blackhole; }}
             protocol static {{ ipv6; route 2001:db8:6::/48 blackhole; }}
             protocol bgp collector {{
                 local ::1 port 17960 as 65020;
                 neighbor ::1 port {} as {LOCAL_AS};
                 multihop; strict bind yes; connect delay time 1;
                 ipv4 {{ import none; export all; extended next hop on; next hop address 2001:db8::60; }};
                 ipv6 {{ import none; export all; next hop address 2001:db8::60; }};
             }}",
            lab.port_v6
        ));
        lab.has("signed", (1, 0)).await;
        lab.has("active", (1, 0)).await;
        lab.has("six", (1, 1)).await;
        // RFC 8950: an IPv4 route by an IPv6 next hop.
        assert_eq!(lab.line("100.64.1.1", "six"), "100.64.1.0/24 | 65020 | 2001:db8::60 |  | router six");
        until("both paths", || {
            let answer = lab.lookup("192.0.2.1", None);
            let mut paths: Vec<String> = answer.candidates.iter().map(|route| route.as_path.clone()).collect();
            paths.sort();
            (paths == ["64501", "64502"] && answer.candidates.iter().all(|route| route.path_id != 0)).then_some(())
        })
        .await;
        assert_eq!(lab.prefixes("127.0.0.50"), (1, 0));
        assert!(lab.handle.drain(Duration::from_secs(5)).await);
    });
}
