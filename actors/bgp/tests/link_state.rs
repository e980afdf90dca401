//! Link state over live sessions: the simulated IS-IS, from a router's session and through GoBGP, against its own truth.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_channel::Receiver;
use benocs_bgp::{Board, Config, PeerConfig, Speaker, SpeakerMessage};
use benocs_model::graph::{Graph, GraphBatch, Modification, Owner, UNREACHABLE};
use benocs_runtime::{Handle, Outbox, Restart, Settings, fatal_channel, spawn};
use benocs_sim::as_table::AsTable;
use benocs_sim::encode::bgp as encode;
use benocs_sim::simulate::{Scale, igp, network};
use benocs_wire::bgp::{self, Agreed, Capability, Family, GracefulRestart, Message, Open};

const LOCAL_AS: u32 = 64_500;
const GOBGP: &str = "/usr/bin/gobgpd";
const LIMIT: Duration = Duration::from_secs(60);

struct Lab {
    board: Board,
    _handle: Handle<SpeakerMessage>,
    port: u16,
    told: Receiver<GraphBatch>,
    network: Modification,
}

async fn until(what: &str, mut check: impl FnMut() -> bool) {
    let started = Instant::now();
    while !check() {
        assert!(started.elapsed() < LIMIT, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

impl Lab {
    async fn start(peers: &[&str], capacity: usize) -> Self {
        let peer = |address: &&str| PeerConfig {
            name: (*address).to_owned(),
            address: (*address).to_owned(),
            remote_as: LOCAL_AS,
            ..PeerConfig::default()
        };
        let config = Config {
            listen: vec!["127.0.0.1:0".into()],
            local_as: LOCAL_AS,
            router_id: "10.255.0.1".into(),
            publish_ms: 20,
            peer: peers.iter().map(peer).collect(),
            ..Config::default()
        };
        let board = Board::new();
        let (outbox, told) = Outbox::channel(capacity);
        let (fatal, _) = fatal_channel();
        let settings = Settings { name: "bgp", capacity: 16, tick: Duration::from_millis(50), restart: Restart::Never };
        let handle = spawn(settings, fatal, {
            let board = board.clone();
            move || Ok(Speaker::new(config.clone(), Vec::new(), board.clone())?.with_graph(outbox.clone()))
        });
        until("listening", || !board.listening().is_empty()).await;
        let port = board.listening()[0].port();
        Self { board, _handle: handle, port, told, network: Modification::new() }
    }

    /// Takes what the speaker says until the graph is as wanted.
    async fn graph(&mut self, what: &str, check: impl Fn(&Graph, usize) -> bool) -> Arc<Graph> {
        let started = Instant::now();
        loop {
            while let Ok(batch) = self.told.try_recv() {
                self.network.apply(batch);
            }
            self.network.publish();
            let graph = self.network.reader().graph();
            if check(&graph, self.network.objects()) {
                return graph;
            }
            let peers = self.board.peers();
            let shape = (graph.nodes().count(), graph.links().count(), graph.prefix_count());
            assert!(started.elapsed() < LIMIT, "not in time: {what}: {shape:?}, {peers:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// The router's end: opens with link state, and graceful restart where it has a time.
fn connect(port: u16, source: [u8; 4], restart_s: u16) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
    socket.connect(&SocketAddr::from(([127, 0, 0, 1], port)).into()).unwrap();
    let mut stream: TcpStream = socket.into();
    let mut capabilities = vec![
        Capability::MultiProtocol(Family::V4_UNICAST),
        Capability::MultiProtocol(Family::LINK_STATE),
        Capability::FourOctetAs(LOCAL_AS),
    ];
    if restart_s > 0 {
        capabilities.push(Capability::GracefulRestart(GracefulRestart {
            restarted: true,
            notification: false,
            time_s: restart_s,
            families: vec![(Family::V4_UNICAST, true), (Family::LINK_STATE, true)],
        }));
    }
    let open = Open {
        version: 4,
        as_two_octets: u16::try_from(LOCAL_AS).unwrap(),
        hold_time_s: 0,
        bgp_id: source,
        capabilities,
    };
    let mut out = Vec::new();
    bgp::encode_open(&mut out, &open);
    bgp::encode_keepalive(&mut out);
    stream.write_all(&out).unwrap();
    // Until the speaker's KEEPALIVE, which comes with the session.
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let (mut read, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let mut rest = &read[..];
        while let Some((raw, more)) = bgp::frame(rest, &Agreed::default()).unwrap() {
            if raw.kind == bgp::kind::KEEPALIVE {
                return stream;
            }
            if let Message::Open(open) = bgp::parse(raw, &Agreed::default()).unwrap() {
                assert!(open.families().contains(&Family::LINK_STATE));
            }
            rest = more;
        }
        let count = stream.read(&mut buffer).unwrap();
        assert!(count > 0, "closed by the speaker");
        read.extend_from_slice(&buffer[..count]);
    }
}

fn simulated(nodes: usize) -> igp::Graph {
    let network = network::Network::build(5, Scale::Small, LOCAL_AS, &AsTable::embedded().unwrap());
    let own = igp::Graph::of(&network, 0).nodes.len();
    igp::Graph::of(&network, nodes - own)
}

fn is_whole(graph: &Graph, objects: usize, truth: &igp::Graph) -> bool {
    objects == truth.nodes.len() + truth.links.len() + truth.prefixes.len()
        && graph.nodes().count() == truth.nodes.len()
        && graph.links().count() == truth.links.len()
}

/// Every distance from every router of the provider, and a path of that cost.
fn check(graph: &Graph, truth: &igp::Graph) {
    check_metrics(graph, truth, true);
}

fn check_metrics(graph: &Graph, truth: &igp::Graph, of_prefixes: bool) {
    let at: Vec<u32> = truth.nodes.iter().map(|node| graph.node_named(&node.system_id.to_string()).unwrap()).collect();
    for (from, distances) in truth.distances.iter().enumerate() {
        let tree = graph.tree(false, at[from]);
        for (to, distance) in distances.iter().enumerate() {
            assert_eq!(tree.distance(at[to]), *distance, "{} to {}", truth.nodes[from].name, truth.nodes[to].name);
        }
        let route = graph.route(false, at[from], at[truth.nodes.len() - 1]).unwrap();
        assert_eq!(route.cost, distances[truth.nodes.len() - 1]);
    }
    for node in &truth.nodes {
        let id = graph.router_at(node.router_id_v4.into()).unwrap();
        assert_eq!(graph.node(id).unwrap().facts.name.as_deref(), Some(&*node.name));
        assert_eq!(graph.router_at(node.router_id_v6.into()), Some(id));
    }
    for prefix in &truth.prefixes {
        let address = benocs_model::Address::from(prefix.prefix.addr());
        let node = graph.node_named(&prefix.node.to_string()).unwrap();
        let (_, owners) = graph.prefix_of(address).unwrap();
        let is_said = |owner: &Owner| owner.node == node && owner.metric == if of_prefixes { prefix.metric } else { 0 };
        assert!(owners.iter().any(is_said), "{}", prefix.prefix);
    }
}

fn end_of_rib() -> Vec<u8> {
    encode::end_of_rib(encode::LINK_STATE)
}

/// An UPDATE that takes back what another announced.
fn withdrawal(announced: &[u8]) -> Vec<u8> {
    let (raw, _) = bgp::frame(announced, &Agreed::default()).unwrap().unwrap();
    let Message::Update(update) = bgp::parse(raw, &Agreed::default()).unwrap() else { panic!("no update") };
    let nlri: Vec<u8> = update.link_state_announcements().flat_map(|nlri| nlri.octets.to_vec()).collect();
    let mut out = vec![0xff; 16];
    out.extend_from_slice(&(19 + 4 + 4 + 3 + nlri.len() as u16).to_be_bytes());
    out.extend_from_slice(&[2, 0, 0]);
    out.extend_from_slice(&(4 + 3 + nlri.len() as u16).to_be_bytes());
    out.extend_from_slice(&[0x90, 15]);
    out.extend_from_slice(&(3 + nlri.len() as u16).to_be_bytes());
    out.extend_from_slice(&[0x40, 4, 71]);
    [out, nlri].concat()
}

#[test]
fn the_simulated_is_is_of_fifty_and_of_five_thousand_is_the_truth() {
    benocs_runtime::block_on(async {
        for (nodes, capacity) in [(50, 64), (5_000, 4)] {
            let truth = simulated(nodes);
            let mut lab = Lab::start(&["127.0.0.31"], capacity).await;
            let mut stream = connect(lab.port, [127, 0, 0, 31], 0);
            let messages = truth.announcements(0);
            let all = [messages.concat(), end_of_rib()].concat();
            // More than the speaker holds for an engine that is slow: it holds the router back.
            let writer = std::thread::spawn(move || {
                stream.write_all(&all).unwrap();
                stream
            });
            let graph = lab.graph("all is there", |graph, objects| is_whole(graph, objects, &truth)).await;
            let mut stream = writer.join().unwrap();
            check(&graph, &truth);
            // Both directions of the last link go: its node is behind its other link alone.
            let links = &messages[truth.nodes.len()..truth.nodes.len() + truth.links.len()];
            let last = &links[links.len() - 2..];
            stream.write_all(&last.iter().flat_map(|message| withdrawal(message)).collect::<Vec<_>>()).unwrap();
            let left = truth.links.len() - 2;
            let graph = lab.graph("a link is gone", |graph, _| graph.links().count() == left).await;
            let (first, end) = (&truth.nodes[0], truth.nodes.last().unwrap());
            let at = |node: &igp::Node| graph.node_named(&node.name).unwrap();
            let now = graph.tree(false, at(first)).distance(at(end));
            assert!(now < UNREACHABLE && now >= *truth.distances[0].last().unwrap());
            stream.write_all(&last.concat()).unwrap();
            let graph = lab.graph("it is back", |graph, objects| is_whole(graph, objects, &truth)).await;
            check(&graph, &truth);
            drop(stream);
            lab.graph("the router is gone", |graph, _| graph.is_empty()).await;
        }
    });
}

#[test]
fn a_restart_keeps_what_is_told_again() {
    benocs_runtime::block_on(async {
        let truth = simulated(50);
        let messages = truth.announcements(0);
        let mut lab = Lab::start(&["127.0.0.32", "127.0.0.33"], 64).await;
        let mut stream = connect(lab.port, [127, 0, 0, 32], 120);
        stream.write_all(&[messages.concat(), end_of_rib()].concat()).unwrap();
        lab.graph("all is there", |graph, objects| is_whole(graph, objects, &truth)).await;
        drop(stream);
        let restarting = || lab.board.peers().iter().any(|peer| peer.state == "restarting");
        until("the peer restarts", restarting).await;
        let graph = lab.graph("nothing is gone", |graph, _| !graph.is_empty()).await;
        check(&graph, &truth);
        // It comes back without its last link.
        let mut stream = connect(lab.port, [127, 0, 0, 32], 120);
        let (from, to) = (truth.nodes.len() + truth.links.len() - 2, truth.nodes.len() + truth.links.len());
        let without = [messages[..from].concat(), messages[to..].concat(), end_of_rib()].concat();
        stream.write_all(&without).unwrap();
        lab.graph("what was not told again goes", |graph, _| graph.links().count() == truth.links.len() - 2).await;
        // Another reflector tells all; the first goes for good.
        let mut other = connect(lab.port, [127, 0, 0, 33], 0);
        other.write_all(&[truth.announcements(1).concat(), end_of_rib()].concat()).unwrap();
        lab.graph("all is there again", |graph, objects| is_whole(graph, objects, &truth)).await;
        let mut notification = Vec::new();
        bgp::encode_notification(&mut notification, 6, 2, &[]);
        stream.write_all(&notification).unwrap();
        drop(stream);
        let is_idle = || lab.board.peers().iter().any(|peer| peer.state == "idle");
        until("the first is gone", is_idle).await;
        let graph = lab.graph("the other's word counts", |graph, objects| is_whole(graph, objects, &truth)).await;
        check(&graph, &truth);
    });
}

/// A daemon that dies with the test.
struct Daemon {
    child: Child,
    _directory: tempfile::TempDir,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// GoBGP reads what the simulated router says and tells it in its own encoding.
#[test]
fn link_state_through_gobgp_is_the_truth() {
    if !Path::new(GOBGP).exists() {
        assert!(std::env::var_os("CI").is_none(), "not installed: {GOBGP}");
        eprintln!("skipped: not installed: {GOBGP}");
        return;
    }
    benocs_runtime::block_on(async {
        let truth = simulated(50);
        let mut lab = Lab::start(&["127.0.0.35"], 64).await;
        let directory = tempfile::tempdir().unwrap();
        let neighbor = |address: &str, more: &str| {
            format!(
                "[[neighbors]]
                 [neighbors.config]
                 neighbor-address = \"{address}\"
                 peer-as = {LOCAL_AS}
                 [neighbors.route-reflector.config]
                 route-reflector-client = true
                 route-reflector-cluster-id = \"10.0.0.35\"
                 {more}
                 [[neighbors.afi-safis]]
                 [neighbors.afi-safis.config]
                 afi-safi-name = \"ls\"
                 [neighbors.timers.config]
                 connect-retry = 1
                 idle-hold-time-after-reset = 1\n"
            )
        };
        // A port that is free now.
        let own = TcpListener::bind("127.0.0.35:0").unwrap().local_addr().unwrap().port();
        let speaker =
            format!("[neighbors.transport.config]\nlocal-address = \"127.0.0.35\"\nremote-port = {}", lab.port);
        let router = "[neighbors.transport.config]\nlocal-address = \"127.0.0.35\"\npassive-mode = true";
        let file = directory.path().join("gobgpd.toml");
        fs::write(
            &file,
            format!(
                "[global.config]\nas = {LOCAL_AS}\nrouter-id = \"10.0.0.35\"\nport = {own}\nlocal-address-list = [\"127.0.0.35\"]\n{}{}",
                neighbor("127.0.0.1", &speaker),
                neighbor("127.0.0.36", router),
            ),
        )
        .unwrap();
        let log = directory.path().join("gobgpd.log");
        let api = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let child = Command::new(GOBGP)
            .arg("-f")
            .arg(&file)
            .args(["--api-hosts", &api.to_string()])
            .stdout(fs::File::create(&log).unwrap())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let _daemon = Daemon { child, _directory: directory };
        until("gobgp listens", || TcpStream::connect((Ipv4Addr::new(127, 0, 0, 35), own)).is_ok()).await;
        let established = || lab.board.peers().iter().any(|peer| peer.state == "established");
        until("gobgp has a session with the speaker", established).await;
        let mut stream = router_of_gobgp(own);
        stream.write_all(&[truth.announcements(0).concat(), end_of_rib()].concat()).unwrap();
        let graph = lab.graph("all is there", |graph, objects| is_whole(graph, objects, &truth)).await;
        // GoBGP 3.10 passes on no metric of prefixes (TLV 1155).
        check_metrics(&graph, &truth, false);
        drop(stream);
        lab.graph("gobgp withdraws it", |graph, _| graph.is_empty()).await;
    });
}

/// A session with GoBGP as its simulated router.
fn router_of_gobgp(port: u16) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 36], 0)).into()).unwrap();
    socket.connect(&SocketAddr::from(([127, 0, 0, 35], port)).into()).unwrap();
    let mut stream: TcpStream = socket.into();
    stream.write_all(&encode::open(LOCAL_AS, 90, Ipv4Addr::new(10, 0, 0, 36), &[encode::LINK_STATE])).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let (mut read, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let mut rest = &read[..];
        while let Some((raw, more)) = bgp::frame(rest, &Agreed::default()).unwrap() {
            if raw.kind == bgp::kind::KEEPALIVE {
                stream.write_all(&encode::keepalive()).unwrap();
                return stream;
            }
            assert_ne!(raw.kind, bgp::kind::NOTIFICATION, "{:?}", raw.body);
            rest = more;
        }
        let count = stream.read(&mut buffer).unwrap();
        assert!(count > 0, "closed by gobgp");
        read.extend_from_slice(&buffer[..count]);
    }
}
