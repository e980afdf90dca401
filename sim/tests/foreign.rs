//! The simulator, read by programs that share no code with it: nfcapd and nfdump,
//! pmacct, BIRD, GoBGP, Wireshark, net-snmp, dnstap-ldns.
//!
//! Where a program is not installed the test says so and passes, except under CI.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use benocs_sim::Stop;
use benocs_sim::encode::bgp;
use benocs_sim::generate;
use benocs_sim::simulate::igp::{Graph, SPEAKERS, SystemId};
use benocs_sim::simulate::network::Vendor;
use benocs_sim::simulate::{self, Config, Model, Report, Scale, agent, session};

const LIMIT: Duration = Duration::from_secs(60);

fn installed(programs: &[&str]) -> bool {
    let found = |program: &str| ["/usr/bin", "/usr/sbin"].iter().any(|folder| Path::new(folder).join(program).exists());
    let missing: Vec<&&str> = programs.iter().filter(|program| !found(program)).collect();
    if missing.is_empty() {
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "not installed: {missing:?}");
    eprintln!("skipped: not installed: {missing:?}");
    false
}

/// A daemon that ends with the test.
struct Daemon(Child);

impl Daemon {
    fn start(command: &mut Command, log: &Path) -> Self {
        let log = fs::File::create(log).unwrap();
        Self(command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap())
    }

    /// SIGTERM, so that it writes what it has; then waits.
    fn terminate(mut self) {
        let pid = self.0.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        wait("the daemon's end", || self.0.try_wait().unwrap().is_some());
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn wait(what: &str, mut ready: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !ready() {
        assert!(Instant::now() < deadline, "waited too long for {what}");
        std::thread::yield_now();
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A UDP port that nobody listens on yet.
fn free_port() -> u16 {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn listens(port: u16) -> bool {
    let hex = format!(":{port:04X} ");
    fs::read_to_string("/proc/net/udp").unwrap().lines().any(|line| line.contains(&hex))
        || fs::read_to_string("/proc/net/udp6").unwrap().lines().any(|line| line.contains(&hex))
}

/// Waits until the listener has taken everything from its socket.
fn drained(port: u16) {
    let hex = format!(":{port:04X} ");
    wait("an empty socket", || {
        let table = fs::read_to_string("/proc/net/udp").unwrap();
        let mut lines = table
            .lines()
            .filter(|line| line.split_whitespace().nth(1).is_some_and(|at| format!("{at} ").ends_with(&hex)));
        lines.all(|line| line.split_whitespace().nth(4).is_some_and(|queues| queues.ends_with(":00000000")))
    });
}

/// Nothing but flows, all of the past, without sampling.
fn flows_only(collector: u16, sflow: u16) -> Config {
    Config {
        collector: Some(format!("127.0.0.1:{collector}")),
        sflow: Some(format!("127.0.0.1:{sflow}")),
        bgp: None,
        dnstap: None,
        snmp_port: None,
        templates_late: false,
        backfill_s: 90,
        backfill_records_per_s: 6_000,
        duration_s: Some(0),
        ..Config::default()
    }
}

type Sums = BTreeMap<(String, u32), (u64, u64, u64)>;

fn add(sums: &mut Sums, key: (String, u32), octets: u64, packets: u64, flows: u64) {
    let sum = sums.entry(key).or_default();
    *sum = (sum.0 + octets, sum.1 + packets, sum.2 + flows);
}

/// (octets as exported, packets, flows) by exporter and interface where traffic entered.
fn truth(path: &Path) -> Sums {
    let mut sums = Sums::new();
    for line in fs::read_to_string(path).unwrap().lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        if line.get("totals").is_some() {
            continue;
        }
        let number = |name: &str| line[name].as_u64().unwrap();
        let key = (line["ingress_exporter"].as_str().unwrap().to_owned(), number("in_if") as u32);
        add(&mut sums, key, number("octets_exported"), number("packets"), number("flows"));
    }
    sums
}

fn is_sflow(model: &Model, exporter: &str) -> bool {
    let of = |router: &&simulate::network::Router| router.address.to_string() == exporter;
    model.network.routers.iter().find(of).unwrap().vendor == Vendor::Arista
}

/// What entered at routers that export NetFlow or IPFIX.
fn flow_truth(model: &Model, path: &Path) -> Sums {
    truth(path).into_iter().filter(|((exporter, _), _)| !is_sflow(model, exporter)).collect()
}

/// nfdump's sums of the same: records seen coming in, by exporter and interface.
fn nfdump(folder: &Path) -> Sums {
    let text = output("nfdump", &["-R", folder.to_str().unwrap(), "-q", "-N", "-o", "fmt:%ra;%in;%dir;%byt;%pkt"]);
    let mut sums = Sums::new();
    for line in text.lines().filter(|line| line.contains(';')) {
        let columns: Vec<&str> = line.split(';').map(str::trim).collect();
        if columns[2] != "E" {
            let key = (columns[0].to_owned(), columns[1].parse().unwrap());
            add(&mut sums, key, columns[3].parse().unwrap(), columns[4].parse().unwrap(), 1);
        }
    }
    sums
}

fn nfcapd(folder: &Path, port: u16) -> Daemon {
    let mut command = Command::new("nfcapd");
    command.args(["-b", "127.0.0.1", "-p", &port.to_string(), "-t", "3600", "-B", "8000000", "-w"]).arg(folder);
    let daemon = Daemon::start(&mut command, &folder.with_extension("log"));
    wait("nfcapd", || listens(port));
    daemon
}

#[test]
fn nfdump_reads_the_truth() {
    if !installed(&["nfcapd", "nfdump"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let flows = folder.path().join("flows");
    fs::create_dir(&flows).unwrap();
    let port = free_port();
    let sink = UdpSocket::bind("127.0.0.1:0").unwrap();
    let daemon = nfcapd(&flows, port);
    let file = folder.path().join("truth.jsonl");
    let config = Config { truth: Some(file.clone()), ..flows_only(port, sink.local_addr().unwrap().port()) };
    let model = Model::build(&config).unwrap();
    let report = simulate::run(config).unwrap();
    drained(port);
    daemon.terminate();
    let (expected, read) = (flow_truth(&model, &file), nfdump(&flows));
    assert!(expected.len() > 10, "{expected:?}");
    for (key, sums) in &expected {
        assert_eq!(read.get(key), Some(sums), "{key:?}: nfdump says the left, the truth is the right");
    }
    let records: u64 = read.values().map(|sums| sums.2).sum();
    assert!(records > expected.values().map(|sums| sums.2).sum::<u64>(), "other routers saw it too");
    assert!(report.records > records, "what left was told too");
}

#[test]
fn nfdump_reads_generated_load() {
    if !installed(&["nfcapd", "nfdump"]) {
        return;
    }
    for protocol in [generate::Protocol::V5, generate::Protocol::V9, generate::Protocol::Ipfix] {
        let folder = tempfile::tempdir().unwrap();
        let flows = folder.path().join("flows");
        fs::create_dir(&flows).unwrap();
        let port = free_port();
        let daemon = nfcapd(&flows, port);
        let config = generate::Config {
            to: format!("127.0.0.1:{port}"),
            rate: 20_000,
            count: Some(20_011),
            protocol,
            unique_key: true,
            ..generate::Config::default()
        };
        let report = generate::run(config).unwrap();
        drained(port);
        daemon.terminate();
        let read =
            nfdump(&flows).into_values().fold((0, 0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1, sum.2 + one.2));
        assert_eq!(read, (report.flow_octets, report.flow_packets, report.records), "{protocol:?}");
    }
}

/// pmacct's sums by exporter and interface, from the files of its print plugin.
fn pmacct(file: &Path) -> Sums {
    let mut sums = Sums::new();
    for line in fs::read_to_string(file).unwrap_or_default().lines() {
        let Ok(line) = serde_json::from_str::<serde_json::Value>(line) else { continue };
        let key = (line["peer_ip_src"].as_str().unwrap().to_owned(), line["iface_in"].as_u64().unwrap() as u32);
        add(&mut sums, key, line["bytes"].as_u64().unwrap(), line["packets"].as_u64().unwrap(), 0);
    }
    sums
}

#[test]
fn pmacct_reads_sflow() {
    if !installed(&["sfacctd"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (port, file) = (free_port(), folder.path().join("out.json"));
    let configuration = format!(
        "daemonize: false\nsfacctd_ip: 127.0.0.1\nsfacctd_port: {port}\nsfacctd_renormalize: true\nplugins: print\n\
         aggregate: peer_src_ip, in_iface\nprint_output: json\nprint_output_file: {}\nprint_output_file_append: true\n\
         print_refresh_time: 5\nplugin_pipe_size: 40960000\n",
        file.display()
    );
    let path = folder.path().join("sfacctd.conf");
    fs::write(&path, configuration).unwrap();
    let daemon = Daemon::start(Command::new("sfacctd").arg("-f").arg(&path), &folder.path().join("log"));
    wait("sfacctd", || listens(port));
    let sink = UdpSocket::bind("127.0.0.1:0").unwrap();
    let truth_file = folder.path().join("truth.jsonl");
    let config = Config {
        truth: Some(truth_file.clone()),
        backfill_s: 0,
        duration_s: Some(20),
        conversations_per_s: Some(100.0),
        ..flows_only(sink.local_addr().unwrap().port(), port)
    };
    let model = Model::build(&config).unwrap();
    simulate::run(config).unwrap();
    let expected: Sums =
        truth(&truth_file).into_iter().filter(|((exporter, _), _)| is_sflow(&model, exporter)).collect();
    assert!(!expected.is_empty());
    let agrees = || {
        let read = pmacct(&file);
        expected.iter().all(|(key, sums)| read.get(key).is_some_and(|read| read.1 == sums.1))
    };
    let deadline = Instant::now() + Duration::from_secs(20);
    while !agrees() && Instant::now() < deadline {
        std::thread::park_timeout(Duration::from_millis(100));
    }
    let read = pmacct(&file);
    drop(daemon);
    for (key, sums) in &expected {
        assert_eq!(read.get(key).map(|sums| sums.1), Some(sums.1), "packets of {key:?}, pmacct's on the left");
        // pmacct counts the frame without its check sequence, or the packet alone: between the two.
        let octets = read[key].0;
        assert!(octets <= sums.0 && octets + sums.1 * 18 >= sums.0, "{key:?}: {octets} of {}", sums.0);
    }
}

fn bird(folder: &Path, config: &Config, model: &Model, port: u16) -> (Daemon, String) {
    let mut text = format!("router id 192.0.2.1;\nlog \"{}\" all;\n", folder.join("bird.log").display());
    for (id, router) in model.network.routers.iter().enumerate() {
        text += &format!(
            "ipv4 table t4_{id};\nipv6 table t6_{id};\nprotocol bgp r{id} {{\n local 127.0.0.1 port {port} as {as_};\n \
             neighbor {} as {as_};\n passive on;\n multihop;\n ipv4 {{ table t4_{id}; import all; export none; }};\n \
             ipv6 {{ table t6_{id}; import all; export none; }};\n}}\n",
            router.address,
            as_ = config.own_as,
        );
    }
    let (file, control) = (folder.join("bird.conf"), folder.join("bird.ctl"));
    fs::write(&file, text).unwrap();
    let mut command = Command::new("bird");
    command.args(["-f", "-c"]).arg(&file).arg("-s").arg(&control).arg("-P").arg(folder.join("bird.pid"));
    let daemon = Daemon::start(&mut command, &folder.join("out"));
    wait("BIRD", || control.exists());
    (daemon, control.to_str().unwrap().to_owned())
}

#[test]
fn bird_takes_every_route_of_every_router() {
    if !installed(&["bird", "birdc"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let stop = Stop::default();
    let config = sessions_only(port, &stop);
    let model = Model::build(&config).unwrap();
    let (_daemon, control) = bird(folder.path(), &config, &model, port);
    let simulator = std::thread::spawn({
        let config = config.clone();
        move || simulate::run(config)
    });
    let (v4, v6) = model.routes();
    let counts = |table: &str| {
        let text = output("birdc", &["-s", &control, "show", "route", "table", table, "count"]);
        let line = text.lines().find(|line| line.contains("routes for")).unwrap_or_default().to_owned();
        line.split_whitespace().next().and_then(|number| number.parse::<usize>().ok()).unwrap_or(0)
    };
    for id in 0..model.network.routers.len() {
        wait(&format!("routes of router {id}: {v4} and {v6}"), || {
            (counts(&format!("t4_{id}")), counts(&format!("t6_{id}"))) == (v4, v6)
        });
    }
    // What a router says of one prefix is what the model says.
    let group = model.network.groups.iter().position(|group| group.asn == 15169).unwrap();
    let prefix = model.network.groups[group].v4[0].to_string();
    for id in [0, 4, 5, 6] {
        let announced = model.rib.announced(&model.network, id, group);
        let text = output("birdc", &["-s", &control, "show", "route", &prefix, "table", &format!("t4_{id}"), "all"]);
        let path: Vec<String> = announced.as_path.iter().map(u32::to_string).collect();
        assert!(text.contains(&format!("BGP.as_path: {}", path.join(" "))), "{text}");
        assert!(text.contains(&format!("BGP.next_hop: {}", announced.next_hop_v4)), "{text}");
        assert!(text.contains(&format!("BGP.local_pref: {}", announced.local_pref)), "{text}");
    }
    stop.stop();
    let report: Report = simulator.join().unwrap().unwrap();
    assert_eq!(report.routes, (v4 + v6) as u64);
}

/// Only BGP.
fn sessions_only(port: u16, stop: &Stop) -> Config {
    Config {
        collector: None,
        bgp: Some(format!("127.0.0.1:{port}")),
        dnstap: None,
        snmp_port: None,
        warm_up_s: 0,
        stop: stop.clone(),
        ..Config::default()
    }
}

/// What GoBGP calls everything in the graph.
fn in_the_words_of_gobgp(graph: &Graph) -> BTreeSet<String> {
    let nodes = graph
        .nodes
        .iter()
        .map(|node| format!("NLRI {{ NODE {{ AS:{} BGP-LS ID:0 {} ISIS-L2:0 }} }}", node.asn, node.system_id));
    let links = graph.links.iter().map(|link| {
        format!(
            "NLRI {{ LINK {{ LOCAL_NODE: {} REMOTE_NODE: {} LINK: {}->{}}} }}",
            link.local, link.remote, link.local_v4, link.remote_v4
        )
    });
    let prefixes = graph.prefixes.iter().map(|prefix| {
        let version = if prefix.prefix.addr().is_ipv4() { 4 } else { 6 };
        format!("NLRI {{ PREFIXv{version} {{ LOCAL_NODE: {} PREFIX: [{}] }} }}", prefix.node, prefix.prefix)
    });
    nodes.chain(links).chain(prefixes).collect()
}

#[test]
fn gobgp_takes_the_graph_from_a_session_that_it_wants_it_on() {
    if !installed(&["gobgpd", "gobgp"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (port, api, stop) = (free(), free().to_string(), Stop::default());
    let config = Config { igp_nodes: 500, ..sessions_only(port, &stop) };
    let model = Model::build(&config).unwrap();
    let neighbour = |id: usize, families: &[&str]| {
        let families: String = families
            .iter()
            .map(|family| {
                format!("[[neighbors.afi-safis]]\n[neighbors.afi-safis.config]\nafi-safi-name = \"{family}\"\n")
            })
            .collect();
        format!(
            "[[neighbors]]\n[neighbors.config]\nneighbor-address = \"{}\"\npeer-as = {}\n\
             [neighbors.transport.config]\npassive-mode = true\nlocal-address = \"127.0.0.1\"\n{families}",
            model.network.routers[id].address, config.own_as
        )
    };
    let file = folder.path().join("gobgpd.toml");
    let text = format!(
        "[global.config]\nas = {}\nrouter-id = \"192.0.2.1\"\nport = {port}\nlocal-address-list = [\"127.0.0.1\"]\n{}{}{}",
        config.own_as,
        neighbour(0, &["ls", "ipv4-unicast"]),
        neighbour(1, &["ipv4-unicast"]),
        neighbour(SPEAKERS, &["ls", "ipv6-unicast"]),
    );
    fs::write(&file, text).unwrap();
    let mut command = Command::new("gobgpd");
    command.arg("-f").arg(&file).args(["--api-hosts", &format!("127.0.0.1:{api}")]);
    let _daemon = Daemon::start(&mut command, &folder.path().join("log"));
    let simulator = std::thread::spawn({
        let config = config.clone();
        move || simulate::run(config)
    });
    let taken = |id: usize, family: &str| -> BTreeSet<String> {
        let address = model.network.routers[id].address.to_string();
        let arguments = ["-p", &api, "-j", "neighbor", &address, "adj-in", "-a", family];
        let output = Command::new("gobgp").args(arguments).output().unwrap();
        let routes = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&output.stdout);
        routes.unwrap_or_default().into_iter().map(|(name, _)| name).collect()
    };
    let expected = in_the_words_of_gobgp(&Graph::of(&model.network, model.igp_nodes));
    wait("the whole graph", || taken(0, "ls").len() >= expected.len());
    assert_eq!(taken(0, "ls"), expected);
    let (v4, v6) = model.routes();
    wait("the routes of all three", || {
        (taken(0, "ipv4").len(), taken(1, "ipv4").len(), taken(SPEAKERS, "ipv6").len()) == (v4, v4, v6)
    });
    assert!(taken(1, "ls").is_empty(), "not negotiated");
    assert!(taken(SPEAKERS, "ls").is_empty(), "no reflector");
    stop.stop();
    let report: Report = simulator.join().unwrap().unwrap();
    assert_eq!((report.link_states, report.routes), (expected.len() as u64, (v4 + v6) as u64));
}

/// Updates that a router tells one who speaks these families, up to the end of the last.
fn told(model: &Model, router: usize, families: &[bgp::Family]) -> Vec<Vec<u8>> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (to, stop, state) = (listener.local_addr().unwrap(), Stop::default(), Arc::<session::State>::default());
    let speaker = std::thread::spawn({
        let (model, stop) = (model.clone(), stop.clone());
        move || session::run(&model, router, to, &state, &stop)
    });
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.write_all(&bgp::open(64_500, 90, Ipv4Addr::new(192, 0, 2, 1), families)).unwrap();
    stream.write_all(&bgp::keepalive()).unwrap();
    let (mut updates, mut ends) = (Vec::new(), 0);
    while ends < families.len() {
        let mut message = vec![0; bgp::HEADER_OCTETS];
        stream.read_exact(&mut message).unwrap();
        message.resize(usize::from(u16::from_be_bytes([message[16], message[17]])), 0);
        stream.read_exact(&mut message[bgp::HEADER_OCTETS..]).unwrap();
        // An UPDATE of nothing, or of nothing but an empty MP_UNREACH_NLRI (RFC 4724 2).
        if message[18] == bgp::UPDATE && message.len() <= 29 {
            ends += 1;
        } else if message[18] == bgp::UPDATE {
            updates.push(message);
        }
    }
    stop.stop();
    speaker.join().unwrap();
    updates
}

#[test]
fn wireshark_reads_the_graph_with_its_metrics() {
    if !installed(&["tshark", "text2pcap"]) {
        return;
    }
    let model = Model::build(&Config::default()).unwrap();
    let graph = Graph::of(&model.network, model.igp_nodes);
    let updates = told(&model, 0, &[bgp::LINK_STATE]);
    assert_eq!(updates.len(), graph.nodes.len() + graph.links.len() + graph.prefixes.len());
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (dump, capture) = (path("updates.txt"), path("updates.pcap"));
    let mut text = String::new();
    for update in &updates {
        for (row, octets) in update.chunks(16).enumerate() {
            let octets: Vec<String> = octets.iter().map(|octet| format!("{octet:02x}")).collect();
            text += &format!("{:06x} {}\n", row * 16, octets.join(" "));
        }
    }
    fs::write(&dump, text).unwrap();
    output("text2pcap", &["-q", "-T", "1179,179", &dump, &capture]);
    let fields = [
        "bgp.ls.nlri_type",
        "bgp.ls.nlri_node.protocol_id",
        "bgp.ls.tlv.autonomous_system.id",
        "bgp.ls.tlv.igp_router_id",
        "bgp.ls.nlri_ipv4_interface_address",
        "bgp.ls.nlri_ipv4_neighbor_address",
        "bgp.ls.nlri_ipv6_interface_address",
        "bgp.ls.nlri_ipv6_neighbor_address",
        "bgp.ls.nlri_ip_reachability_prefix_ip",
        "bgp.ls.nlri_ip_reachability_prefix_ip6",
        "bgp.ls.tlv.node_name_value",
        "bgp.ls.tlv.ipv4_router_id_value",
        "bgp.ls.tlv.ipv6_router_id_of_local_node_value",
        "bgp.ls.tlv.administrative_group_color_value",
        "bgp.ls.bandwidth_value",
        "bgp.ls.tlv.metric_value",
        "bgp.ls.tlv.prefix_metric_value",
        "_ws.malformed",
    ];
    let mut arguments = vec!["-r", &capture, "-T", "fields", "-E", "separator=;"];
    arguments.extend(fields.iter().flat_map(|field| ["-e", field]));
    let text = output("tshark", &arguments);
    let read: BTreeSet<&str> = text.lines().collect();

    let digits = |id: SystemId| id.to_string().replace('.', "");
    let router_id = |id: SystemId| graph.nodes.iter().find(|node| node.system_id == id).unwrap().router_id_v4;
    let mut expected = BTreeSet::new();
    for node in &graph.nodes {
        let (name, v4, v6) = (&node.name, node.router_id_v4, node.router_id_v6);
        expected.insert(format!("1;2;{};{};;;;;;;{name};{v4};{v6};;;;;", node.asn, digits(node.system_id)));
    }
    for link in &graph.links {
        expected.insert(format!(
            "2;2;64500,64500;{},{};{};{};{};{};;;;{},{};;{};{};{:#08x};;",
            digits(link.local),
            digits(link.remote),
            link.local_v4,
            link.remote_v4,
            link.local_v6,
            link.remote_v6,
            router_id(link.local),
            router_id(link.remote),
            link.admin_group,
            link.bandwidth_bits_per_s / 1_000_000,
            link.metric,
        ));
    }
    for prefix in &graph.prefixes {
        let network = prefix.prefix.network().to_string();
        let (v4, v6) = if prefix.prefix.addr().is_ipv4() { (network, String::new()) } else { (String::new(), network) };
        let kind = if v6.is_empty() { 3 } else { 4 };
        expected.insert(format!("{kind};2;64500;{};;;;;{v4};{v6};;;;;;;{:#010x};", digits(prefix.node), prefix.metric));
    }
    assert_eq!(expected.len(), updates.len());
    for line in &expected {
        assert!(read.contains(line.as_str()), "{line} is not in {text}");
    }
    assert_eq!(read.len(), expected.len());
    // Who does not speak it is not told it.
    let plain = told(&model, 0, &[bgp::V6_UNICAST]);
    assert!(!plain.is_empty());
    let link_state = [0x40, 0x04, 71];
    assert!(plain.iter().all(|update| !update.windows(3).any(|octets| octets == link_state)));
}

#[test]
fn net_snmp_walks_the_interfaces() {
    if !installed(&["snmpbulkwalk", "snmpget"]) {
        return;
    }
    let config = Config { scale: Scale::Small, ..Config::default() };
    let model = Arc::new(Model::build(&config).unwrap());
    let counters: Arc<Vec<agent::Counters>> =
        Arc::new(model.network.interfaces.iter().map(|_| Default::default()).collect());
    for (id, counters) in counters.iter().enumerate() {
        counters.in_octets.store(5_000_000_000 + id as u64, Ordering::Relaxed);
    }
    let state: Arc<agent::State> = Arc::default();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (id, port) = (4, free_port());
    let router = &model.network.routers[id];
    let started = agent::start(model.clone(), id, port, "secret", state.clone(), counters.clone());
    let agent = runtime.block_on(started).unwrap();
    runtime.spawn(async move { agent.run().await });
    let at = format!("{}:{port}", router.address);
    let walk = |oid: &str| {
        let text = output("snmpbulkwalk", &["-v2c", "-c", "secret", "-On", "-Oq", "-t", "2", &at, oid]);
        let value = |line: &str| line.split_once(' ').map(|(_, value)| value.trim_matches('"').to_owned()).unwrap();
        text.lines().map(value).collect::<Vec<String>>()
    };
    let mut ports: Vec<&simulate::network::Interface> =
        router.interfaces.iter().map(|id| model.network.interface(*id)).collect();
    ports.sort_by_key(|port| port.if_index);
    let of =
        |pick: fn(&simulate::network::Interface) -> String| ports.iter().map(|port| pick(port)).collect::<Vec<_>>();
    assert_eq!(walk(".1.3.6.1.2.1.31.1.1.1.18"), of(|port| port.description.clone()));
    assert!(state.polled.load(Ordering::Relaxed));
    assert_eq!(walk(".1.3.6.1.2.1.31.1.1.1.1"), of(|port| port.name.clone()));
    assert_eq!(walk(".1.3.6.1.2.1.2.2.1.1"), of(|port| port.if_index.to_string()));
    assert_eq!(walk(".1.3.6.1.2.1.31.1.1.1.15"), of(|port| (port.speed / 1_000_000).to_string()));
    let octets: Vec<u64> = walk(".1.3.6.1.2.1.31.1.1.1.6").iter().map(|text| text.parse().unwrap()).collect();
    let mut expected: Vec<(u32, u64)> = router
        .interfaces
        .iter()
        .map(|id| (model.network.interface(*id).if_index, 5_000_000_000 + *id as u64))
        .collect();
    expected.sort_unstable();
    assert_eq!(octets, expected.iter().map(|pair| pair.1).collect::<Vec<u64>>());
    assert_eq!(walk(".1.3.6.1.2.1.1.5").concat(), router.name);
    assert_eq!(walk(".1.3.6.1.2.1.4.20.1.2").len(), ports.len());
    assert_eq!(walk(".1.3.6.1.2.1.4.34.1.3").len(), 2 * ports.len());
    // Numbered anew after a restart.
    state.renumbered_by.store(1000, Ordering::Release);
    state.generation.fetch_add(1, Ordering::Release);
    assert_eq!(walk(".1.3.6.1.2.1.2.2.1.1"), of(|port| (port.if_index + 1000).to_string()));
    runtime.shutdown_timeout(Duration::from_secs(1));
}

#[test]
fn fstrm_capture_takes_every_answer() {
    if !installed(&["fstrm_capture", "dnstap-ldns"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("captured.fstrm");
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let mut command = Command::new("fstrm_capture");
    command.args(["-t", "protobuf:dnstap.Dnstap", "-a", "127.0.0.1", "-p", &port, "-w"]).arg(&file);
    let daemon = Daemon::start(&mut command, &folder.path().join("log"));
    let sink = UdpSocket::bind("127.0.0.1:0").unwrap();
    let flows = sink.local_addr().unwrap().port();
    let config = Config {
        dnstap: Some(format!("127.0.0.1:{port}")),
        backfill_records_per_s: 1_000_000,
        ..flows_only(flows, flows)
    };
    let report = simulate::run(config).unwrap();
    assert_eq!((report.dnstap_frames, report.dnstap_dropped), (report.lookups, 0));
    daemon.terminate();
    let text = output("dnstap-ldns", &["-r", file.to_str().unwrap(), "-q"]);
    assert_eq!(text.lines().count() as u64, report.lookups);
}

#[test]
fn dnstap_ldns_reads_every_answer() {
    if !installed(&["dnstap-ldns"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("answers.fstrm");
    let sink = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = sink.local_addr().unwrap().port();
    let config =
        Config { dnstap_file: Some(file.clone()), backfill_records_per_s: 1_000_000, ..flows_only(port, port) };
    let report = simulate::run(config).unwrap();
    assert!(report.lookups > 500);
    let text = output("dnstap-ldns", &["-r", file.to_str().unwrap(), "-q"]);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len() as u64, report.lookups);
    assert!(lines.iter().all(|line| line.contains(" CR ")), "{}", lines[0]);
    assert!(lines.iter().any(|line| line.contains("nflxvideo.net")));
    assert!(lines.iter().any(|line| line.contains(" AAAA")));
}
