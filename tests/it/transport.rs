//! How flows get in, with real peers: IPFIX over TCP by softflowd, over TLS by
//! `openssl s_client`; datagrams sent on through namespaces, which arrive as
//! the exporter's own; the live view on a terminal.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

use crate::process::{BENOCS, Ports, Process, eventually, free_tcp, generate, have};

/// Traffic for a probe to look at: what the lab's exporters sent is traffic as any other.
fn capture(name: &str) -> PathBuf {
    crate::tidy::root().join("tests/captures").join(name)
}

/// Octets, packets and flows of everything in the store, once there are as many flows.
fn stored(process: &Process, flows: u64) -> [u64; 3] {
    eventually("every record is stored", || {
        let from_to = ["--from", "2000-01-01T00:00:00Z", "--to", "2100-01-01T00:00:00Z"];
        let rest = ["--by", "proto", "--sightings", "all", "--json"];
        let answer = process.json(&[["query"].as_slice(), &from_to, &rest].concat());
        let got = ["octets", "packets", "flows"].map(|name| answer["totals"][name].as_u64().unwrap_or(0));
        (got[2] >= flows).then_some(got)
    })
}

fn softflowd(capture: &Path, to: SocketAddr) -> String {
    let output = Command::new("softflowd")
        .args(["-d", "-c", "none", "-v", "10", "-P", "tcp", "-n", &to.to_string(), "-r"])
        .arg(capture)
        .output()
        .expect("softflowd runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

/// What softflowd says it saw, over all protocols: octets, packets; and the messages that it sent.
fn seen_by(report: &str) -> [u64; 3] {
    let sent = report.lines().find_map(|line| line.strip_prefix("Flows exported: "));
    let messages = sent.and_then(|line| line.split_once(" in ")?.1.split(' ').next()?.parse().ok()).unwrap_or(0);
    let lines = report.lines().skip_while(|line| !line.contains("Per-protocol statistics")).skip(1);
    let numbers = lines.filter_map(|line| {
        let mut words = line.split_once("):")?.1.split_whitespace();
        Some([words.next()?.parse().ok()?, words.next()?.parse().ok()?])
    });
    numbers.fold([0, 0, messages], |[octets, packets, _], [more, some]: [u64; 2]| {
        [octets + more, packets + some, messages]
    })
}

#[test]
fn softflowd_exports_over_tcp_and_nothing_is_lost() {
    if !have("softflowd") {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let to = free_tcp();
    let listen = format!("collector.ipfix_tcp_listen=[\"{to}\"]");
    let process = Process::start("all", directory.path(), &Ports::free(), None, &[&listen]);
    let mut want = [0, 0, 0];
    for name in ["softflowd-5.pcap", "softflowd-9.pcap", "softflowd-10.pcap", "pmacct.pcap"] {
        let [octets, packets, messages] = seen_by(&softflowd(&capture(name), to));
        want = [want[0] + octets, want[1] + packets, want[2] + messages];
    }
    let [want_octets, want_packets, messages] = want;
    assert!(want_packets > 20 && messages >= 4, "{want:?}");
    let records = eventually("everything sent is decoded", || {
        let flows = process.json(&["flows", "--json"]);
        let exporter = flows["exporters"].get(0)?;
        let done = flows["totals"]["session_messages"] == messages && flows["sessions"] == Value::Array(Vec::new());
        done.then(|| exporter["records"].as_u64()).flatten()
    });
    let [octets, packets, _] = stored(&process, records);
    println!("softflowd saw and sent {want:?}, stored {octets} octets and {packets} packets in {records} records");
    assert_eq!([octets, packets], [want_octets, want_packets]);
    assert_eq!(process.metric("benocs_dropped_total"), 0.0);
    assert_eq!(process.metric("benocs_collector_session_messages_total"), messages as f64);
    let flows = process.json(&["flows", "--json"]);
    assert_eq!(flows["exporters"][0]["templates"], 0, "they ended with their sessions");
    assert!(process.terminate());
}

/// What softflowd sends over a connection.
fn message_of(capture: &Path) -> Vec<u8> {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let to = listener.local_addr().expect("an address");
    let taken = std::thread::spawn(move || {
        let mut octets = Vec::new();
        listener.accept().expect("softflowd connects").0.read_to_end(&mut octets).expect("octets");
        octets
    });
    softflowd(capture, to);
    taken.join().expect("octets")
}

fn s_client(to: SocketAddr, certificates: &Path, identity: bool, octets: &[u8]) -> Output {
    let mut command = Command::new("openssl");
    command.args([
        "s_client",
        "-quiet",
        "-no_ign_eof",
        "-nocommands",
        "-verify_return_error",
        "-verify_hostname",
        "netflow00",
        "-connect",
    ]);
    command.arg(to.to_string()).arg("-CAfile").arg(certificates.join("ca.pem"));
    if identity {
        command.arg("-cert").arg(certificates.join("ce00.pem")).arg("-key").arg(certificates.join("ce00.key"));
    }
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("openssl starts");
    // One that is refused may have ended already.
    let _ = child.stdin.take().expect("its input").write_all(octets);
    child.wait_with_output().expect("openssl ends")
}

#[test]
fn openssl_delivers_over_tls_and_needs_a_certificate() {
    if [have("softflowd"), have("openssl")].contains(&false) {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let certificates = directory.path().join("certificates");
    for role in ["netflow00", "ce00"] {
        let issued = Command::new(BENOCS)
            .args(["ca", "--ca"])
            .arg(directory.path().join("ca"))
            .args(["issue", role, "--out"])
            .arg(&certificates)
            .status();
        assert!(issued.expect("benocs runs").success());
    }
    let (to, file) = (free_tcp(), |name: &str| certificates.join(name).display().to_string());
    let sets = [
        format!("collector.ipfix_tls_listen=[\"{to}\"]"),
        format!("collector.ipfix_tls_certificate_file={}", file("netflow00.pem")),
        format!("collector.ipfix_tls_key_file={}", file("netflow00.key")),
        format!("collector.ipfix_tls_client_ca_file={}", file("ca.pem")),
    ];
    let sets: Vec<&str> = sets.iter().map(String::as_str).collect();
    let process = Process::start("all", &directory.path().join("data"), &Ports::free(), None, &sets);
    let octets = message_of(&capture("softflowd-9.pcap"));
    assert_eq!(octets[..2], [0, 10]);
    s_client(to, &certificates, false, &octets);
    eventually("the stranger is refused", || {
        (process.json(&["flows", "--json"])["totals"]["dropped_framing"] == 1).then_some(())
    });
    assert_eq!(process.metric("benocs_collector_session_messages_total"), 0.0);
    let output = s_client(to, &certificates, true, &octets);
    eventually("the message is decoded", || {
        (process.metric("benocs_collector_session_messages_total") > 0.0
            && process.metric("benocs_collector_records_total") > 0.0)
            .then_some(())
    });
    println!("{}", String::from_utf8_lossy(&output.stderr));
    assert!(process.terminate());
}

#[test]
fn a_port_that_is_taken_is_said_in_one_line_and_ends_the_process() {
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address");
    let directory = tempfile::tempdir().expect("a directory");
    let ports = Ports { collector: address, ..Ports::free() };
    let output = Command::new(BENOCS)
        .args(["--role", "all", "--data"])
        .arg(directory.path())
        .args(ports.sets().iter().flat_map(|set| ["--set", set]))
        .args(["--set", "log.level=error"])
        .output()
        .expect("benocs runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    let lines: Vec<&str> = error.lines().collect();
    assert_eq!(lines.len(), 1, "{error}");
    assert!(lines[0].contains(&format!("cannot listen on {address} (collector.listen)")), "{error}");
}

#[test]
fn exporters_are_shown_as_json_once_and_live() {
    let directory = tempfile::tempdir().expect("a directory");
    let process = Process::start("all", directory.path(), &Ports::free(), None, &[]);
    generate(process.ports.collector, &["--rate", "5000", "--seconds", "1", "--exporters", "3"]);
    let flows = eventually("the three are known, and their rates", || {
        let flows = process.json(&["flows", "--json"]);
        let exporters = flows["exporters"].as_array().cloned().unwrap_or_default();
        let rated = exporters.iter().all(|exporter| exporter["records_per_s"].is_number());
        (exporters.len() == 3 && rated).then_some(flows)
    });
    let exporter = &flows["exporters"][0];
    for field in ["records", "datagrams", "records_per_s", "templates", "last_seen_ms", "health"] {
        assert!(!exporter[field].is_null(), "{field} of {exporter}");
    }
    assert_eq!(exporter["domains"][0]["protocol"], "ipfix");
    assert_eq!(exporter["domains"][0]["records"], exporter["records"]);
    assert_eq!(flows["sockets"].as_array().map(Vec::len), Some(2));
    let once = process.command(&["flows"]);
    let text = String::from_utf8_lossy(&once.stdout).into_owned();
    assert!(once.status.success() && text.contains("3 exporters, 0 silent") && !text.contains('\x1b'), "{text}");
    if !have("script") {
        return;
    }
    // script(1) gives it a terminal.
    let command = format!("{BENOCS} flows --data {}", directory.path().display());
    let mut live = Command::new("script")
        .args(["-qec", &command, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("script starts");
    let mut input = live.stdin.take().expect("its input");
    let mut output = live.stdout.take().expect("its output");
    let mut shown = Vec::new();
    let mut some = [0; 4096];
    while !String::from_utf8_lossy(&shown).contains("q ends") {
        let read = output.read(&mut some).expect("output");
        assert!(read > 0, "{}", String::from_utf8_lossy(&shown));
        shown.extend(&some[..read]);
    }
    input.write_all(b"nq").expect("keys");
    output.read_to_end(&mut shown).expect("output");
    assert!(live.wait().expect("script ends").success());
    let shown = String::from_utf8_lossy(&shown);
    assert!(shown.contains("\x1b[?1049h") && shown.contains("\x1b[?1049l"), "{shown:?}");
    assert!(process.terminate());
}

/// Namespaces of this test; deleted when dropped, with what runs in them.
struct Namespaces(Vec<String>);

impl Drop for Namespaces {
    fn drop(&mut self) {
        for name in &self.0 {
            let _ = Command::new("ip").args(["netns", "delete", name]).stderr(Stdio::null()).status();
        }
    }
}

fn ip(arguments: &str) -> bool {
    let output = Command::new("ip").args(arguments.split_whitespace()).output().expect("ip runs");
    if !output.status.success() {
        eprintln!("ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    }
    output.status.success()
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn inside(namespace: &str, program: &str) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", namespace, program]);
    command
}

/// Sends datagrams of the given lengths to both addresses of the collector, from port 4000.
const SEND: &str = "
import socket
for family, own, to in ((socket.AF_INET, '10.81.0.2', '10.81.0.1'), (socket.AF_INET6, 'fd81::2', 'fd81::1')):
    sender = socket.socket(family, socket.SOCK_DGRAM)
    sender.bind((own, 4000))
    for length in (1, 100, 1400, 5000):
        sender.sendto(bytes((index * 7 + length) % 256 for index in range(length)), (to, 2055))
";

/// Prints source, length and whether the octets are right, of eight datagrams.
const RECEIVE: &str = "
import socket, sys
receiver = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
receiver.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
receiver.bind(('::', 2055))
receiver.settimeout(60)
print('ready', flush=True)
for _ in range(8):
    octets, source = receiver.recvfrom(65536)
    right = octets == bytes((index * 7 + len(octets)) % 256 for index in range(len(octets)))
    print(source[0].removeprefix('::ffff:'), source[1], len(octets), right, flush=True)
";

#[test]
fn other_collectors_see_the_exporters_own_addresses() {
    if [have("ip"), have("python3")].contains(&false) {
        return;
    }
    let number = std::process::id();
    let [exporter, collector, other] = ["e", "c", "o"].map(|what| format!("bt{what}{number}"));
    let namespaces = Namespaces(vec![exporter.clone(), collector.clone(), other.clone()]);
    for name in &namespaces.0 {
        if !ip(&format!("netns add {name}")) {
            assert!(std::env::var_os("CI").is_none(), "namespaces cannot be made");
            println!("skipped: namespaces cannot be made");
            return;
        }
        assert!(ip(&format!("-n {name} link set lo up")));
    }
    // exporter .2 -- 10.81.0.0/24 -- .1 collector .1 -- 10.82.0.0/24 -- .2 other; likewise fd81::/64 and fd82::/64.
    for (net, side) in [("81", &exporter), ("82", &other)] {
        assert!(ip(&format!("link add v{net} netns {collector} type veth peer name v{net} netns {side}")));
        for (name, host) in [(&collector, 1), (side, 2)] {
            assert!(ip(&format!("-n {name} address add 10.{net}.0.{host}/24 dev v{net}")));
            assert!(ip(&format!("-n {name} address add fd{net}::{host}/64 dev v{net} nodad")));
            assert!(ip(&format!("-n {name} link set v{net} up")));
        }
        assert!(ip(&format!("-n {side} route add default via 10.{net}.0.1")));
        assert!(ip(&format!("-6 -n {side} route add default via fd{net}::1")));
    }
    let mut receiver =
        Killed(inside(&other, "python3").args(["-c", RECEIVE]).stdout(Stdio::piped()).spawn().expect("python3 starts"));
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(receiver.0.stdout.take().expect("its output")));
    assert_eq!(lines.next().expect("a line").expect("text"), "ready");

    let directory = tempfile::tempdir().expect("a directory");
    let mut benocs = inside(&collector, BENOCS);
    benocs.args(["--role", "all", "--data"]).arg(directory.path());
    for set in [
        "collector.listen=[\"10.81.0.1:2055\", \"[fd81::1]:2055\"]",
        "collector.fan_out=[{to=[\"10.82.0.2:2055\"]}, {to=[\"[fd82::2]:2055\"]}]",
    ] {
        benocs.args(["--set", set]);
    }
    let log = std::fs::File::create(directory.path().join("process.log")).expect("a log");
    let benocs = Killed(benocs.stderr(log).spawn().expect("benocs starts"));
    let flows = || {
        let output =
            Command::new(BENOCS).args(["flows", "--json", "--data"]).arg(directory.path()).output().expect("it runs");
        serde_json::from_slice::<Value>(&output.stdout).ok()
    };
    eventually("the collector listens", || (flows()?["listening"].as_array().map(Vec::len) == Some(2)).then_some(()));
    let sent = inside(&exporter, "python3").args(["-c", SEND]).status().expect("python3 runs");
    assert!(sent.success());
    let got: BTreeSet<String> = lines.map(|line| line.expect("text")).collect();
    let want: BTreeSet<String> = [1, 100, 1400, 5000]
        .iter()
        .flat_map(|length| ["10.81.0.2", "fd81::2"].map(|source| format!("{source} 4000 {length} True")))
        .collect();
    assert_eq!(got, want);
    eventually("it is counted", || {
        let flows = flows()?;
        let targets = flows["fan_out"]["targets"].as_array()?;
        // The source of the other IP version cannot be kept.
        let counted = |target: &Value| target["sent"] == 4 && target["other_family"] == 4 && target["failed"] == 0;
        targets.iter().all(counted).then_some(())
    });

    // Without the capability it is said what is missing.
    drop(benocs);
    if have("setpriv") {
        let output = inside(&collector, "setpriv")
            .args(["--bounding-set=-net_raw", "--inh-caps=-net_raw", BENOCS, "--role", "all", "--data"])
            .arg(directory.path().join("second"))
            .args(["--set", "log.level=error"])
            .args(["--set", "collector.fan_out=[{to=[\"10.82.0.2:2055\"]}]"])
            .output()
            .expect("setpriv runs");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && error.contains("CAP_NET_RAW"), "{error}");
    }
}
