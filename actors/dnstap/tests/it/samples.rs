//! Recorded streams against what dnstap-ldns says of them.

use std::collections::BTreeMap;
use std::path::Path;

use benocs_dnstap::{Config, MessageKind};
use benocs_model::address::Address;
use benocs_model::names::service::text_of;
use benocs_wire::dns;
use benocs_wire::dnstap::{self, Dnstap};
use benocs_wire::framestream::{self, Frame};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::{Bench, now_ms, samples};

fn read(directory: &Path, name: &str) -> Vec<u8> {
    let path = directory.join("dnstap").join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn frames(stream: &[u8]) -> Vec<&[u8]> {
    let mut frames = Vec::new();
    let mut rest = stream;
    while let Some((frame, octets)) = framestream::next(rest, 1 << 20).expect("well formed") {
        if let Frame::Data(payload) = frame {
            frames.push(payload);
        }
        rest = &rest[octets..];
    }
    assert!(rest.is_empty(), "{} octets are no frame", rest.len());
    frames
}

/// dnstap-ldns' short name of a message type.
fn short(kind: &str) -> String {
    let (who, what) = kind.split_once('_').expect("two words");
    format!("{}{}", &who[..1], &what[..1]).to_uppercase()
}

/// One line as dnstap-ldns prints it: "CR 127.0.0.1 UDP 50b \"www.example.test.\" IN A", without the class.
fn line(tap: &Dnstap<'_>) -> String {
    let response = tap.kind.name().ends_with("_response");
    let message = if response { tap.response_message } else { tap.query_message };
    let (name, at) = dns::name_at(message, 12).expect("a question");
    let qtype = u16::from_be_bytes([message[at], message[at + 1]]);
    let (seconds, nanos) = if response { tap.response_time } else { tap.query_time }.expect("a time");
    let day_s = seconds % 86_400;
    let clock = format!("{:02}:{:02}:{:02}.{:06}", day_s / 3600, day_s / 60 % 60, day_s % 60, nanos / 1000);
    format!("{clock} {} {}b \"{}.\" {qtype}", short(tap.kind.name()), message.len(), text_of(name.wire()))
}

fn golden_line(golden: &str) -> String {
    let words: Vec<&str> = golden.split_whitespace().collect();
    let [_, clock, kind, _, _, octets, name, _, qtype] = words.as_slice() else { panic!("{golden}") };
    let qtype = match *qtype {
        "A" => 1,
        "NS" => 2,
        "CNAME" => 5,
        "SOA" => 6,
        "PTR" => 12,
        "MX" => 15,
        "TXT" => 16,
        "AAAA" => 28,
        "SRV" => 33,
        "DS" => 43,
        "DNSKEY" => 48,
        "HTTPS" => 65,
        other => panic!("type {other} is not known to the test"),
    };
    format!("{clock} {kind} {octets} {name} {qtype}")
}

#[test]
fn frames_read_as_dnstap_ldns_reads_them() {
    let Some(directory) = samples() else { return };
    for name in ["generated__unbound-rec.fstrm", "generated__knot-auth.fstrm"] {
        let stream = read(&directory, name);
        let ours: Vec<String> = frames(&stream)
            .into_iter()
            .map(|frame| line(&dnstap::parse(frame).unwrap_or_else(|error| panic!("{name}: {error}"))))
            .collect();
        let golden = read(&directory, &format!("{name}.golden-dnstap-ldns.txt"));
        let golden: Vec<String> = String::from_utf8_lossy(&golden).lines().map(golden_line).collect();
        assert!(golden.len() > 20, "{name}");
        assert_eq!(ours, golden, "{name}");
    }
}

/// Sends a recorded stream as a resolver without a way back would.
async fn feed(bench: &Bench, stream: &[u8]) {
    let mut connection = TcpStream::connect(bench.address()).await.expect("connects");
    connection.write_all(stream).await.expect("sent");
    connection.shutdown().await.expect("ended");
}

#[test]
fn recorded_streams_fill_the_table() {
    let Some(directory) = samples() else { return };
    benocs_runtime::block_on(async {
        for (name, kinds) in [
            ("generated__unbound-rec.fstrm", vec![MessageKind::ClientResponse, MessageKind::ResolverResponse]),
            ("generated__knot-auth.fstrm", vec![MessageKind::AuthResponse]),
        ] {
            let mut bench = Bench::start(Config { messages: kinds, ..Config::default() }).expect("starts");
            let stream = read(&directory, name);
            let mut expected: BTreeMap<&str, u64> = BTreeMap::new();
            let mut addresses = Vec::new();
            for frame in frames(&stream) {
                let tap = dnstap::parse(frame).expect("as above");
                *expected.entry(tap.kind.name()).or_default() += 1;
                let mut resolution = dns::Resolution::default();
                let used = matches!(tap.kind.name(), "client_response" | "resolver_response" | "auth_response");
                if used && dns::resolve(tap.response_message, &mut resolution) == Ok(dns::Outcome::Resolved) {
                    addresses.extend(resolution.addresses.iter().map(|(octets, _)| Address(*octets)));
                }
            }
            assert!(!addresses.is_empty());
            feed(&bench, &stream).await;
            bench
                .until("the stream's frames", |bench, _| (bench.dnstap.status.get().frames == expected).then_some(()))
                .await;
            let client = Address::from_v4([203, 0, 113, 1]);
            for address in addresses {
                // At the recording's own time: it may be hours ago.
                let at = |bench: &Bench| i64::from(bench.names.stats().newest_s) * 1000;
                let named = bench.until("a name", |bench, view| view.lookup(address, client, at(bench))).await;
                let service =
                    bench.until("its service", |bench, _| bench.service(named.service_id).map(str::to_owned)).await;
                assert_eq!(service, "example.test", "{address}");
            }
            assert!(bench.dnstap.status.get().dropped.is_empty(), "{:?}", bench.dnstap.status.get().dropped);
        }
    });
}

#[test]
fn a_client_of_a_real_resolver_gets_its_service() {
    let Some(directory) = samples() else { return };
    benocs_runtime::block_on(async {
        let mut bench = Bench::start(Config::default()).expect("starts");
        feed(&bench, &read(&directory, "dnscollector__dnstap.fstrm")).await;
        // "www.google.com. 273 IN A 216.58.213.68" for 172.19.0.1, says dnstap-ldns.
        let (server, client) = (Address::from_v4([216, 58, 213, 68]), Address::from_v4([172, 19, 0, 200]));
        let named = bench.until("the answer", |_, view| view.lookup(server, client, now_ms())).await;
        assert!(!named.ambiguous && named.confidence == 100, "{named:?}");
        let service = bench.until("its service", |bench, _| bench.service(named.service_id).map(str::to_owned)).await;
        assert_eq!(service, "Google");
        let status = bench.until("the resolver", |bench, _| {
            let status = bench.dnstap.status.get();
            (status.resolvers.first().is_some_and(|resolver| !resolver.connected)).then_some(status)
        });
        let status = status.await;
        assert_eq!(status.resolvers[0].name, "dnsdist");
        assert_eq!(status.clocks_replaced, 1, "the recording is years old");
    });
}
