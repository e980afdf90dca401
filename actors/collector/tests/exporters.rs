//! Real exporters into a running collector, each version that it knows, over IPv4 and over IPv6: softflowd, pmacct's
//! nfprobe and sfprobe, fprobe, nfreplay. What the collector has equals what they say of themselves, and the packets
//! that were there.
//!
//! The packets pass between the two ends of a veth pair, or are read from a capture file by those that can. Needs
//! root, and the programs of `scripts/deps test`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arrow::array::AsArray as _;
use arrow::datatypes::{UInt16Type, UInt64Type};
use benocs_collector::{Config, Message, SflowConfig, Status, Wiring};
use benocs_model::Address;
use benocs_model::flow::{Column, column};
use benocs_model::message::{Commit, FlowBatch};
use benocs_model::tables::TableUpdate;
use benocs_runtime::state::State;
use benocs_runtime::{Handle, Outbox, fatal_channel};
use tokio::sync::oneshot;

const PATIENCE: Duration = Duration::from_secs(40);
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
/// Octets of an Ethernet header.
const ETHERNET: usize = 14;
const OVER: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

/// True where everything is there; in CI it must be.
fn able(programs: &[&str], needs_root: bool) -> bool {
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    let found = |program: &str| std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
    let mut missing: Vec<&str> = programs.iter().copied().filter(|program| !found(program)).collect();
    let id = run(Command::new("id").arg("-u"));
    if needs_root && String::from_utf8_lossy(&id.stdout).trim() != "0" {
        missing.push("root");
    }
    if !missing.is_empty() {
        assert!(std::env::var_os("CI").is_none(), "missing: {missing:?}: run scripts/deps test as root");
        eprintln!("skipped: missing {missing:?}");
    }
    missing.is_empty()
}

fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// (rows, packets, octets) by EtherType.
type Sums = BTreeMap<u16, (u64, u64, u64)>;

fn total(sums: &Sums) -> (u64, u64, u64) {
    sums.values().fold((0, 0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1, sum.2 + one.2))
}

/// The packets that pass: flows of UDP, TCP in both directions, and ICMP, of each family.
struct Traffic {
    frames: Vec<Vec<u8>>,
    /// Rows are flows of one direction, octets those of the IP packets.
    sums: Sums,
}

impl Traffic {
    fn new() -> Self {
        let mut traffic = Self { frames: Vec::new(), sums: Sums::new() };
        for flow in 0..5u16 {
            for ether_type in [IPV4, IPV6] {
                let icmp = if ether_type == IPV4 { 1 } else { 58 };
                let flows = [(17, 5000 + flow, 443), (6, 6000 + flow, 80), (6, 80, 6000 + flow), (icmp, 0, 0)];
                for (index, (proto, from, to)) in flows.into_iter().enumerate() {
                    for packet in 0..=flow {
                        let payload = vec![b'x'; 100 + 40 * index + usize::from(flow + packet)];
                        let transport = transport(proto, from, to, packet == 0, &payload);
                        let frame = frame(ether_type, flow as u8 + 1, index == 2, proto, &transport);
                        let sum = traffic.sums.entry(ether_type).or_default();
                        sum.0 += u64::from(packet == 0);
                        sum.1 += 1;
                        sum.2 += (frame.len() - ETHERNET) as u64;
                        traffic.frames.push(frame);
                    }
                }
            }
        }
        traffic
    }

    /// What an exporter of these EtherTypes alone sees.
    fn of(&self, ether_types: &[u16]) -> Sums {
        self.sums.iter().filter(|(kind, _)| ether_types.contains(kind)).map(|(kind, sums)| (*kind, *sums)).collect()
    }

    /// A row a packet, with its whole frame.
    fn samples(&self, more_octets: u64) -> Sums {
        let sample = |(_, packets, octets): (u64, u64, u64)| {
            (packets, packets, octets + packets * (ETHERNET as u64 + more_octets))
        };
        self.sums.iter().map(|(kind, sums)| (*kind, sample(*sums))).collect()
    }

    /// Classic pcap: a packet a millisecond, of just now.
    fn write(&self, path: &Path) {
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as u32 - 5;
        let header = [0xa1b2_c3d4u32, 4 << 16 | 2, 0, 0, 65_535, 1];
        let mut file: Vec<u8> = header.iter().flat_map(|word| word.to_le_bytes()).collect();
        for (index, frame) in self.frames.iter().enumerate() {
            let length = frame.len() as u32;
            file.extend([now_s, index as u32 * 1000, length, length].iter().flat_map(|word| word.to_le_bytes()));
            file.extend(frame);
        }
        fs::write(path, file).unwrap();
    }
}

fn transport(proto: u8, from: u16, to: u16, first: bool, payload: &[u8]) -> Vec<u8> {
    let ports = [from.to_be_bytes(), to.to_be_bytes()].concat();
    let header = match proto {
        17 => [&ports[..], &(8 + payload.len() as u16).to_be_bytes(), &[0, 0]].concat(),
        6 => [&ports[..], &[0, 0, 0, 1, 0, 0, 0, 1, 0x50, if first { 0x02 } else { 0x10 }, 4, 0, 0, 0, 0, 0]].concat(),
        _ => vec![if proto == 1 { 8 } else { 128 }, 0, 0, 0, 0, 1, 0, 1],
    };
    [&header, payload].concat()
}

/// Ethernet and IP before it.
fn frame(ether_type: u16, host: u8, back: bool, proto: u8, transport: &[u8]) -> Vec<u8> {
    let v6 = |text: &str| text.parse::<Ipv6Addr>().unwrap().octets().to_vec();
    let mut addresses = match ether_type {
        IPV4 => [vec![198, 51, 100, host], vec![203, 0, 113, 9]],
        _ => [v6(&format!("2001:db8::{host}")), v6("2001:db8:1::9")],
    };
    if back {
        addresses.reverse();
    }
    let ip = if ether_type == IPV4 {
        let [high, low] = (20 + transport.len() as u16).to_be_bytes();
        let mut header = [&[0x45, 0, high, low, 0, 1, 0, 0, 64, proto, 0, 0], addresses.concat().as_slice()].concat();
        let sum: u32 = header.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
        let checksum = !((sum >> 16) + (sum & 0xffff)) as u16;
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
        header
    } else {
        let [high, low] = (transport.len() as u16).to_be_bytes();
        [&[0x60, 0, 0, 0, high, low, proto, 64], addresses.concat().as_slice()].concat()
    };
    [&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2], &ether_type.to_be_bytes()[..], &ip, transport].concat()
}

/// Source of packets that only keep an exporter going.
const KICK: [u8; 4] = [198, 51, 100, 250];

/// A collector for one exporter.
struct Tap {
    name: String,
    address: SocketAddr,
    want: Sums,
    handle: Handle<Message>,
    flows: async_channel::Receiver<FlowBatch>,
    batches: Vec<FlowBatch>,
    /// What it is connected to.
    _rest: (Outbox<Commit>, async_channel::Receiver<Arc<TableUpdate>>, tempfile::TempDir),
}

fn status(handle: &Handle<Message>) -> Status {
    let (reply, status) = oneshot::channel();
    handle.outbox.send_blocking(Message::Status(reply)).unwrap();
    let mut status = status;
    let mut known = None;
    eventually("the collector answers", || {
        known = status.try_recv().ok();
        known.is_some()
    });
    known.unwrap()
}

impl Tap {
    fn start(name: String, over: IpAddr, want: Sums) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (flows_outbox, flows) = Outbox::channel(1024);
        let (tables, updates) = Outbox::channel(64);
        let (committing, commits) = Outbox::channel(64);
        let state = State::open(&directory.path().join("state")).unwrap();
        let data = directory.path().to_owned();
        let wiring = Wiring { data, node: 0, state, flows: flows_outbox, tables, commits };
        let config = Config {
            listen: vec![SocketAddr::new(over, 0).to_string()],
            sflow: SflowConfig { listen: Vec::new() },
            receive_buffer_octets: 1 << 20,
            ..Config::default()
        };
        // One that fails shows in its totals.
        let (fatal, _failures) = fatal_channel();
        let handle = benocs_collector::spawn(config, wiring, fatal);
        let address = status(&handle).listening[0];
        let name = format!("{name} over {over}");
        Self { name, address, want, handle, flows, batches: Vec::new(), _rest: (committing, updates, directory) }
    }

    /// Until all flows are here.
    fn wait(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while !self.has_all() {
            let stored = stored(&self.batches);
            assert!(Instant::now() < deadline, "{}: {stored:?} of {:?}", self.name, self.want);
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    fn has_all(&mut self) -> bool {
        self.batches.extend(std::iter::from_fn(|| self.flows.try_recv().ok()));
        total(&stored(&self.batches)).0 >= total(&self.want).0
    }

    /// Once its exporter has ended: nothing is missing, and nothing came twice. What its own numbers miss is `lost`.
    async fn check(self, lost: u64) {
        let Self { name, want, handle, flows, mut batches, .. } = self;
        let status = status(&handle);
        assert!(handle.drain(PATIENCE).await, "{name}: the collector drains");
        batches.extend(std::iter::from_fn(|| flows.try_recv().ok()));
        let got = stored(&batches);
        let exporter = status.exporters.first().unwrap_or_else(|| panic!("{name}: no exporter"));
        println!("{name}: {:?}, {} datagrams, {got:?}", exporter.versions, exporter.datagrams);
        assert_eq!(got, want, "{name}: stored on the left, sent on the right");
        assert_eq!((&exporter.errors, exporter.sequence.lost), (&BTreeMap::new(), lost), "{name}");
    }
}

/// Rows, but those of kicks.
fn stored(batches: &[FlowBatch]) -> Sums {
    let kick = Address::from_v4(KICK).0;
    let mut sums = Sums::new();
    for rows in batches.iter().map(|batch| &batch.rows) {
        let counts = |of| column(rows, of).unwrap().as_primitive::<UInt64Type>().values();
        let kinds = column(rows, Column::EtherType).unwrap().as_primitive::<UInt16Type>().values();
        let sources = column(rows, Column::SrcAddr).unwrap().as_fixed_size_binary();
        for row in (0..rows.num_rows()).filter(|row| sources.value(*row) != kick) {
            let sum = sums.entry(kinds[row]).or_default();
            *sum = (sum.0 + 1, sum.1 + counts(Column::Packets)[row], sum.2 + counts(Column::Octets)[row]);
        }
    }
    sums
}

/// A program that ends with the test.
struct Daemon(Child);

impl Daemon {
    fn start(command: &mut Command, log: &Path) -> Self {
        let log = File::create(log).unwrap();
        Self(command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap())
    }

    /// SIGTERM, so that it gives what it has; then waits.
    fn terminate(mut self) {
        run(Command::new("kill").args(["-TERM", &self.0.id().to_string()]));
        eventually("a daemon ends", || self.0.try_wait().unwrap().is_some());
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Exports a capture; gives softflowd's own (records, packets, octets).
fn softflowd(version: &str, capture: &Path, to: SocketAddr) -> (u64, u64, u64) {
    let mut command = Command::new("softflowd");
    command.arg("-r").arg(capture).args(["-d", "-v", version, "-n", &to.to_string()]);
    // Without a control socket: reading a file, it may wait there for somebody who never comes.
    command.args(["-c", "none", "-p"]).arg(capture.with_extension("pid"));
    let output = run(&mut command);
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    // Flows exported: 30 (35 records) in 2 packets (0 failures)
    let exported =
        said.lines().find_map(|line| line.strip_prefix("Flows exported: ")).unwrap_or_else(|| panic!("{said}"));
    assert!(exported.contains("(0 failures)"), "{exported}");
    let records = exported.split_once('(').unwrap().1.split(' ').next().unwrap().parse().unwrap();
    // icmp (1):           1260           15       0.10s       0.20s
    let protocols = said.lines().skip_while(|line| !line.starts_with("Per-protocol")).skip(1);
    let counts = protocols.filter_map(|line| {
        let mut words = line.rsplit_once(':')?.1.split_whitespace();
        Some((words.next()?.parse::<u64>().ok()?, words.next()?.parse::<u64>().ok()?))
    });
    let (octets, packets) = counts.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    (records, packets, octets)
}

#[test]
fn softflowd_in_every_version() {
    if !able(&["softflowd"], false) {
        return;
    }
    let traffic = Traffic::new();
    let folder = tempfile::tempdir().unwrap();
    let capture = folder.path().join("traffic.pcap");
    traffic.write(&capture);
    benocs_runtime::block_on(async {
        // 10 is IPFIX. What it exports as version 5 is among the captures.
        // It counts its three templates as records in the sequence number of IPFIX (RFC 7011 3.1 does not).
        for (version, kinds, lost) in [("9", &[IPV4, IPV6][..], 0), ("10", &[IPV4, IPV6], 3)] {
            for over in OVER {
                let mut tap = Tap::start(format!("softflowd {version}"), over, traffic.of(kinds));
                assert_eq!(softflowd(version, &capture, tap.address), total(&tap.want), "{}", tap.name);
                tap.wait();
                tap.check(lost).await;
            }
        }
    });
}

/// Sockets of a port that have something to read; `None` where there is none.
fn unread(port: u16) -> Option<bool> {
    let table = fs::read_to_string("/proc/net/udp").unwrap();
    let end = format!(":{port:04X}");
    let mut of_port = table.lines().filter(|line| line.split_whitespace().nth(1).is_some_and(|at| at.ends_with(&end)));
    let line = of_port.next()?;
    Some(!line.split_whitespace().nth(4)?.ends_with(":00000000"))
}

#[test]
fn nfreplay_in_every_version() {
    if !able(&["softflowd", "nfcapd", "nfdump", "nfreplay"], false) {
        return;
    }
    let traffic = Traffic::new();
    let folder = tempfile::tempdir().unwrap();
    let (capture, flows) = (folder.path().join("traffic.pcap"), folder.path().join("flows"));
    traffic.write(&capture);
    fs::create_dir(&flows).unwrap();
    let port = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let mut nfcapd = Command::new("nfcapd");
    nfcapd.args(["-b", "127.0.0.1", "-t", "3600", "-p", &port.to_string(), "-w"]).arg(&flows);
    let nfcapd = Daemon::start(&mut nfcapd, &folder.path().join("nfcapd.log"));
    eventually("nfcapd listens", || unread(port).is_some());
    softflowd("9", &capture, SocketAddr::new(OVER[0], port));
    eventually("nfcapd has read everything", || unread(port) == Some(false));
    nfcapd.terminate();
    let file = fs::read_dir(&flows).unwrap().next().unwrap().unwrap().path();
    // nfdump's own sums of what is to be sent.
    let nfdump = |filter: &str| {
        let output = run(Command::new("nfdump").arg("-r").arg(&file).args(["-q", "-N", "-o", "fmt:%pkt;%byt", filter]));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let lines = text.lines().filter_map(|line| line.split_once(';'));
        let number = |text: &str| text.trim().parse::<u64>().unwrap();
        lines.fold((0, 0, 0), |sum, (packets, octets)| (sum.0 + 1, sum.1 + number(packets), sum.2 + number(octets)))
    };
    benocs_runtime::block_on(async {
        // Version 5 has no IPv6.
        for (version, filter, kinds) in [("5", "ipv4", &[IPV4][..]), ("9", "any", &[IPV4, IPV6])] {
            for over in OVER {
                let mut tap = Tap::start(format!("nfreplay {version}"), over, traffic.of(kinds));
                assert_eq!(nfdump(filter), total(&tap.want), "{}", tap.name);
                let mut nfreplay = Command::new("nfreplay");
                nfreplay.args(["-v", version, "-H", &over.to_string(), "-p", &tap.address.port().to_string()]);
                run(nfreplay.arg("-r").arg(&file));
                tap.wait();
                tap.check(0).await;
            }
        }
    });
}

/// A pair of interfaces without addresses, so that nothing but our frames passes.
struct Wire([String; 2]);

impl Wire {
    fn new(number: u8) -> Self {
        let names = ["a", "b"].map(|end| format!("bn{}{number}{end}", std::process::id()));
        run(Command::new("ip").args(["link", "add", &names[0], "type", "veth", "peer", "name", &names[1]]));
        let wire = Self(names);
        for name in &wire.0 {
            fs::write(format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"), "1").unwrap();
            run(Command::new("ip").args(["link", "set", name, "up"]));
        }
        wire
    }

    /// Packet sockets on its far end.
    fn listeners(&self) -> usize {
        let index = fs::read_to_string(format!("/sys/class/net/{}/ifindex", self.0[1])).unwrap();
        let table = fs::read_to_string("/proc/net/packet").unwrap();
        table.lines().filter(|line| line.split_whitespace().nth(4) == Some(index.trim())).count()
    }

    fn send(&self, capture: &Path) {
        const SEND: &str = "
import socket, struct, sys
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
wire.bind((sys.argv[1], 0))
octets, at = open(sys.argv[2], 'rb').read(), 24
while at < len(octets):
    length = struct.unpack_from('<I', octets, at + 8)[0]
    wire.send(octets[at + 16:at + 16 + length])
    at += 16 + length
";
        run(Command::new("python3").args(["-c", SEND, &self.0[0]]).arg(capture));
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["link", "del", &self.0[0]]).status();
    }
}

/// pmacctd on the wire's far end with one of its probes, and with its print plugin for its own account.
fn pmacctd(wire: &Wire, probe: &str, settings: &str, print: &Path) -> Daemon {
    let configuration = format!(
        "daemonize: false\npcap_interface: {}\npcap_direction: in\nplugins: {probe}[x], print[y]\n\
         aggregate[x]: src_host, dst_host, src_port, dst_port, proto, tos\naggregate[y]: etype, src_host\n\
         print_output_file[y]: {}\nprint_output[y]: json\nprint_output_file_append[y]: true\n\
         print_refresh_time[y]: 1\n{settings}\n",
        wire.0[1],
        print.display()
    );
    let file = print.with_extension("conf");
    fs::write(&file, configuration).unwrap();
    let log = print.with_extension("log");
    Daemon::start(Command::new("pmacctd").arg("-f").arg(file), &log)
}

/// (packets, octets) that the print plugin has written, but kicks.
fn printed(print: &Path) -> (u64, u64) {
    let text = fs::read_to_string(print).unwrap_or_default();
    let number = |line: &str, name: &str| -> Option<u64> {
        let rest = line.split_once(&format!("\"{name}\": "))?.1;
        rest.split([',', '}']).next()?.trim().parse().ok()
    };
    let kick = Ipv4Addr::from(KICK).to_string();
    let lines = text.lines().filter(|line| !line.contains(&kick));
    let counts = lines.filter_map(|line| Some((number(line, "packets")?, number(line, "bytes")?)));
    counts.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
}

#[test]
fn pmacctd_in_every_version() {
    if !able(&["pmacctd", "ip", "python3"], true) {
        return;
    }
    let traffic = Traffic::new();
    let folder = tempfile::tempdir().unwrap();
    let capture = folder.path().join("traffic.pcap");
    traffic.write(&capture);
    let wire = Wire::new(0);
    let (mut taps, mut daemons, mut prints) = (Vec::new(), Vec::new(), Vec::new());
    benocs_runtime::block_on(async {
        for over in OVER {
            for (version, kinds) in [("5", &[IPV4][..]), ("9", &[IPV4, IPV6]), ("10", &[IPV4, IPV6])] {
                let tap = Tap::start(format!("nfprobe {version}"), over, traffic.of(kinds));
                let print = folder.path().join(format!("{}.json", taps.len()));
                let settings = format!(
                    "nfprobe_receiver[x]: {}\nnfprobe_version[x]: {version}\nnfprobe_timeouts[x]: \
                     tcp=2:tcp.rst=2:tcp.fin=2:udp=2:icmp=2:general=2:maxlife=5:expint=1",
                    tap.address
                );
                daemons.push(pmacctd(&wire, "nfprobe", &settings, &print));
                prints.push(print);
                taps.push(tap);
            }
        }
        eventually("every probe listens", || wire.listeners() == daemons.len());
        wire.send(&capture);
        taps.iter_mut().for_each(Tap::wait);
        // pmacctd's own account of what it has seen.
        let seen = total(&traffic.sums);
        for print in prints {
            eventually("pmacctd prints", || printed(&print) == (seen.1, seen.2));
        }
        daemons.into_iter().for_each(Daemon::terminate);
        for tap in taps {
            tap.check(0).await;
        }
    });
}

/// It samples every packet, and sends over IPv4 only.
#[test]
fn sfprobe() {
    if !able(&["pmacctd", "ip", "python3"], true) {
        return;
    }
    let traffic = Traffic::new();
    let folder = tempfile::tempdir().unwrap();
    let (capture, kick) = (folder.path().join("traffic.pcap"), folder.path().join("kick.pcap"));
    traffic.write(&capture);
    let mut packet = frame(IPV4, 1, false, 17, &transport(17, 9, 9, true, b"kick"));
    packet[ETHERNET + 12..ETHERNET + 16].copy_from_slice(&KICK);
    Traffic { frames: vec![packet], sums: Sums::new() }.write(&kick);
    let wire = Wire::new(1);
    benocs_runtime::block_on(async {
        // A sample has the whole frame, with its check sequence.
        let mut tap = Tap::start("sfprobe".to_owned(), OVER[0], traffic.samples(4));
        let print = folder.path().join("print.json");
        let settings = format!("sfprobe_receiver[x]: {}\nsfprobe_source_ip[x]: {}", tap.address, OVER[0]);
        let daemon = pmacctd(&wire, "sfprobe", &settings, &print);
        eventually("the probe listens", || wire.listeners() == 1);
        wire.send(&capture);
        // What it has not read yet it reads with the next packet.
        eventually("all samples", || {
            wire.send(&kick);
            tap.has_all()
        });
        let seen = total(&traffic.sums);
        eventually("pmacctd prints", || printed(&print) == (seen.1, seen.2));
        daemon.terminate();
        tap.check(0).await;
    });
}

/// It knows IPv4 only.
#[test]
fn fprobe_in_every_version() {
    if !able(&["fprobe", "ip", "python3"], true) {
        return;
    }
    let traffic = Traffic::new();
    let folder = tempfile::tempdir().unwrap();
    let capture = folder.path().join("traffic.pcap");
    traffic.write(&capture);
    let wire = Wire::new(2);
    let (mut taps, mut daemons) = (Vec::new(), Vec::new());
    benocs_runtime::block_on(async {
        for version in ["1", "5", "7"] {
            let tap = Tap::start(format!("fprobe {version}"), OVER[0], traffic.of(&[IPV4]));
            let mut fprobe = Command::new("fprobe");
            // Looks every second for flows of which nothing came for two; on its terminal, it stays in the foreground.
            fprobe.args(["-i", &wire.0[1], "-f", "ip", "-s", "1", "-d", "2", "-e", "2", "-n", version, "-l", "2:x"]);
            fprobe.arg(tap.address.to_string()).current_dir(folder.path());
            daemons.push(Daemon::start(&mut fprobe, &folder.path().join(format!("fprobe-{version}.log"))));
            taps.push(tap);
        }
        eventually("every probe listens", || wire.listeners() == daemons.len());
        wire.send(&capture);
        taps.iter_mut().for_each(Tap::wait);
        daemons.into_iter().for_each(Daemon::terminate);
        for tap in taps {
            tap.check(0).await;
        }
    });
}
