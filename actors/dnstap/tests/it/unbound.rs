//! A real Unbound, which asks an authority of the test's own, and tells us over TCP.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use benocs_dnstap::Config;
use benocs_model::address::Address;

use super::{Bench, now_ms};

struct Resolver {
    process: Child,
    address: SocketAddr,
    _directory: tempfile::TempDir,
}

impl Drop for Resolver {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn wire(name: &str) -> Vec<u8> {
    let mut wire: Vec<u8> =
        name.split('.').flat_map(|label| std::iter::once(label.len() as u8).chain(label.bytes())).collect();
    wire.push(0);
    wire
}

fn record(owner: &[u8], rtype: u8, data: &[u8]) -> Vec<u8> {
    let mut record = owner.to_vec();
    record.extend_from_slice(&[0, rtype, 0, 1, 0, 0, 0, 60, 0, data.len() as u8]);
    record.extend_from_slice(data);
    record
}

/// Answers for `shop.test`: www is an alias of edge.cdn.shop.test, which has an address.
fn authority() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let address = socket.local_addr().expect("bound");
    // Ends with the test's process.
    std::thread::spawn(move || {
        let mut query = [0; 1500];
        while let Ok((octets, peer)) = socket.recv_from(&mut query) {
            let question_end = query[12..octets].iter().position(|octet| *octet == 0).map(|at| 12 + at + 5);
            let Some(question) = question_end.and_then(|end| query.get(12..end)) else { continue };
            let lower = question.to_ascii_lowercase();
            let edge = wire("edge.cdn.shop.test");
            let asks_a = lower[lower.len() - 4..] == [0, 1, 0, 1];
            let records = match () {
                () if lower.starts_with(&wire("www.shop.test")) => vec![record(&[0xc0, 12], 5, &edge)],
                () if lower.starts_with(&edge) && asks_a => vec![record(&[0xc0, 12], 1, &[198, 51, 100, 77])],
                () => Vec::new(),
            };
            let mut reply = vec![query[0], query[1], 0x84, 0, 0, 1, 0, records.len() as u8, 0, 0, 0, 0];
            reply.extend_from_slice(question);
            records.iter().for_each(|record| reply.extend(record));
            let _ = socket.send_to(&reply, peer);
        }
    });
    address
}

fn start(dnstap: SocketAddr, authority: SocketAddr) -> Option<Resolver> {
    if Command::new("unbound").arg("-V").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "unbound is not installed");
        println!("skipped: unbound is not installed");
        return None;
    }
    let free = UdpSocket::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
    let directory = tempfile::tempdir().expect("a directory");
    let configuration = format!(
        r#"
server:
  interface: 127.0.0.1@{port}
  access-control: 127.0.0.0/8 allow
  directory: "{directory}"
  chroot: ""
  username: ""
  pidfile: ""
  use-syslog: no
  do-daemonize: no
  num-threads: 1
  module-config: "iterator"
  do-not-query-localhost: no
  qname-minimisation: no
  do-ip6: no
  local-zone: "films.test." static
  local-data: "www.films.test. 300 IN A 192.0.2.7"
  local-data: "www.films.test. 300 IN AAAA 2001:db8::7"
  local-data: "img.films.test. 300 IN A 192.0.2.8"
  local-zone: "test." nodefault
stub-zone:
  name: "shop.test."
  stub-addr: 127.0.0.1@{authority}
dnstap:
  dnstap-enable: yes
  dnstap-bidirectional: yes
  dnstap-ip: "127.0.0.1@{dnstap}"
  dnstap-tls: no
  dnstap-send-identity: yes
  dnstap-identity: "unbound-under-test"
  dnstap-log-client-response-messages: yes
  dnstap-log-resolver-response-messages: yes
"#,
        port = free.port(),
        directory = directory.path().display(),
        authority = authority.port(),
        dnstap = dnstap.port(),
    );
    let path = directory.path().join("unbound.conf");
    std::fs::write(&path, configuration).expect("written");
    let process = Command::new("unbound")
        .args(["-d", "-p", "-c"])
        .arg(&path)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("starts");
    Some(Resolver { process, address: free, _directory: directory })
}

/// Asks until there is an answer; its message.
fn ask(resolver: SocketAddr, name: &str, qtype: u8) -> Vec<u8> {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    socket.set_read_timeout(Some(Duration::from_millis(300))).expect("set");
    let mut query = vec![7, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    query.extend(wire(name));
    query.extend_from_slice(&[0, qtype, 0, 1]);
    let deadline = Instant::now() + Duration::from_secs(15);
    let mut reply = [0; 1500];
    loop {
        // Refused while it starts.
        let _ = socket.send_to(&query, resolver);
        if let Ok(octets) = socket.recv(&mut reply) {
            return reply[..octets].to_vec();
        }
        assert!(Instant::now() < deadline, "unbound does not answer");
    }
}

#[test]
fn the_name_table_equals_unbounds_answers() {
    benocs_runtime::block_on(async {
        let mut bench = Bench::start(Config::default()).expect("starts");
        let Some(resolver) = start(bench.address(), authority()) else { return };
        let address = resolver.address;
        let replies = tokio::task::spawn_blocking(move || {
            [("www.films.test", 1), ("www.films.test", 28), ("img.films.test", 1), ("www.shop.test", 1)]
                .map(|(name, qtype)| ask(address, name, qtype))
        });
        let replies = replies.await.expect("asked");
        assert!(replies.iter().all(|reply| reply[3] & 0x0f == 0), "no error: {replies:?}");
        assert!(replies[3].ends_with(&[198, 51, 100, 77]), "the chain ends in the address");
        let client = Address::from(Ipv4Addr::new(127, 0, 0, 99));
        let v6 = Address::from("2001:db8::7".parse::<std::net::IpAddr>().expect("an address"));
        for (server, expected) in [
            (Address::from_v4([192, 0, 2, 7]), "films.test"),
            (Address::from_v4([192, 0, 2, 8]), "films.test"),
            (v6, "films.test"),
            // The name asked for, not the canonical one's owner: both are shop.test here, by one chain.
            (Address::from_v4([198, 51, 100, 77]), "shop.test"),
        ] {
            let named = bench.until("a name", |_, view| view.lookup(server, client, now_ms())).await;
            assert!(!named.ambiguous && named.confidence == 100, "{server}: {named:?}");
            let service =
                bench.until("its service", |bench, _| bench.service(named.service_id).map(str::to_owned)).await;
            assert_eq!(service, expected, "{server}");
        }
        assert_eq!(bench.names.stats().names, 4, "nothing that was not answered");
        let status = bench.until("status", |bench, _| {
            let status = bench.dnstap.status.get();
            (status.frames.get("client_response") == Some(&4)).then_some(status)
        });
        let status = status.await;
        assert_eq!(status.resolvers[0].name, "unbound-under-test");
        assert!(status.frames["resolver_response"] >= 2, "{:?}", status.frames);
    });
}
