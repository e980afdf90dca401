//! IPFIX over TCP and TLS, who may send and how much, who fell silent: over loopback.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::path::Path;

use rustls_pki_types::pem::PemObject as _;

use super::*;

/// A message of domain 7: sets as given.
fn message(sequence: u32, sets: &[Vec<u8>]) -> Vec<u8> {
    let body = sets.concat();
    let mut octets = vec![0, 10];
    octets.extend((16 + body.len() as u16).to_be_bytes());
    for word in [(socket::unix_ms() / 1000) as u32, sequence, 7] {
        octets.extend(word.to_be_bytes());
    }
    octets.extend(body);
    octets
}

/// Template 256: octetDeltaCount, in so many octets.
fn template(length: u16) -> Vec<u8> {
    [&[0, 2, 0, 12, 1, 0, 0, 1, 0, 1][..], &length.to_be_bytes()].concat()
}

/// A set of it with octets of four octets each.
fn data(keys: std::ops::Range<u32>) -> Vec<u8> {
    let mut octets = vec![1, 0];
    octets.extend((4 + 4 * keys.len() as u16).to_be_bytes());
    octets.extend(keys.flat_map(u32::to_be_bytes));
    octets
}

fn tcp() -> Config {
    Config { listen: Vec::new(), ipfix_tcp_listen: vec!["127.0.0.1:0".to_owned()], ..config() }
}

fn connect(running: &Running) -> TcpStream {
    TcpStream::connect(running.listening.last().unwrap()).unwrap()
}

/// Whether the collector ends the connection, without a word.
fn is_closed(mut stream: TcpStream) -> bool {
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    match stream.read(&mut [0; 16]) {
        Ok(read) => read == 0,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

fn rows(flows: &async_channel::Receiver<FlowBatch>, count: usize) -> Vec<u64> {
    receive(flows, count).iter().flat_map(|batch| keys(&batch.rows)).collect()
}

#[test]
fn templates_are_a_sessions_own_and_end_with_it() {
    let stage = stage(1024);
    let config = Config { listen: vec!["127.0.0.1:0".to_owned()], ..tcp() };
    let running = Running::start(&config, &stage.wiring).unwrap();
    let mut first = connect(&running);
    // Octet by octet: a message is whole when its last one is there.
    for octet in message(0, &[template(4), data(1..4)]) {
        first.write_all(&[octet]).unwrap();
        first.flush().unwrap();
    }
    assert_eq!(rows(&stage.flows, 3), [1, 2, 3]);

    // The same exporter, domain and template id: another session, and datagrams, know nothing of it.
    let mut second = connect(&running);
    second.write_all(&message(0, &[data(10..12)])).unwrap();
    let mut sender = UdpSender::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    sender.send(&[message(0, &[data(20..22)])], running.listening[0]).unwrap();
    until(|| running.status().exporters.first().is_some_and(|exporter| exporter.pending == 2));
    second.write_all(&message(2, &[template(2), vec![1, 0, 0, 8, 0, 77, 0, 78]])).unwrap();
    let mut second_rows = rows(&stage.flows, 6);
    second_rows.sort_unstable();
    // What waited, read by the template that came: four numbers of two octets.
    assert_eq!(second_rows, [0, 0, 10, 11, 77, 78]);
    first.write_all(&message(3, &[data(4..6)])).unwrap();
    assert_eq!(rows(&stage.flows, 2), [4, 5], "the first session's template is as it was");

    let exporter = running.status().exporters.remove(0);
    let domains: Vec<_> = exporter.domains.iter().map(|one| (one.session, one.datagrams, one.records)).collect();
    assert_eq!((exporter.sessions, exporter.templates, domains.len()), (2, 2, 3));
    assert_eq!(domains[0], (None, 1, 0));
    assert_eq!(domains[1], (Some(1), 2, 5));
    assert_eq!(domains[2].2, 6);
    assert_eq!(exporter.sequence, crate::decode::SequenceStatus::default());

    first.shutdown(Shutdown::Both).unwrap();
    second.shutdown(Shutdown::Both).unwrap();
    until(|| running.status().sessions.is_empty());
    let exporter = running.status().exporters.remove(0);
    assert_eq!((exporter.sessions, exporter.templates, exporter.domains.len()), (0, 0, 1));
    let mut third = connect(&running);
    third.write_all(&message(6, &[data(6..7)])).unwrap();
    until(|| running.status().exporters[0].pending == 2);
    drop(third);
    until(|| running.status().exporters[0].errors.get("pending_expired") == Some(&1));
    let totals = running.status().totals;
    assert_eq!((totals.session_messages, totals.datagrams, totals.records), (5, 1, 11));
    running.drain(&stage.wiring, LIMIT).unwrap();
}

#[test]
fn a_withdrawn_template_is_gone() {
    let stage = stage(1024);
    let running = Running::start(&tcp(), &stage.wiring).unwrap();
    let mut stream = connect(&running);
    // RFC 7011 8.1: a field count of zero takes a template back.
    let withdrawal = vec![0, 2, 0, 8, 1, 0, 0, 0];
    stream.write_all(&message(0, &[template(4), data(1..2), withdrawal, data(2..3)])).unwrap();
    assert_eq!(rows(&stage.flows, 1), [1]);
    until(|| running.status().exporters[0].pending == 1);
    stream.write_all(&message(2, &[template(4)])).unwrap();
    assert_eq!(rows(&stage.flows, 1), [2]);
    running.drain(&stage.wiring, LIMIT).unwrap();
}

#[test]
fn a_full_log_holds_sessions_back_and_they_lose_nothing() {
    const KEYS: u32 = 60_000;
    let stage = stage(8192);
    let config = Config {
        listen: vec!["127.0.0.1:0".to_owned()],
        batch_rows: 50,
        queue_batches: 4,
        log_octets_max: 64 << 10,
        ..tcp()
    };
    let running = Running::start(&config, &stage.wiring).unwrap();
    let mut stream = connect(&running);
    let exporter = std::thread::spawn(move || {
        stream.write_all(&message(0, &[template(4)])).unwrap();
        for first in (0..KEYS).step_by(100) {
            stream.write_all(&message(first, &[data(first..first + 100)])).unwrap();
        }
    });
    // Datagrams find the log full while the session is held back.
    let mut sender = UdpSender::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let mut sequence = 0;
    until(|| {
        sender.send(&[netflow5(sequence, KEYS, 1)], running.listening[0]).unwrap();
        sequence += 1;
        running.status().totals.dropped_log_full > 0
    });
    let mut got = BTreeSet::new();
    let deadline = Instant::now() + 3 * LIMIT;
    while got.len() < KEYS as usize {
        assert!(Instant::now() < deadline, "{} of {KEYS}", got.len());
        while let Ok(batch) = stage.flows.try_recv() {
            got.extend(keys(&batch.rows).into_iter().filter(|key| *key < u64::from(KEYS)));
            for stream in [Stream::Flows, Stream::Rollups] {
                let cursors = BTreeMap::from([(batch.source, batch.seq + 1)]);
                stage.commits.send_blocking(Commit { stream, cursors }).unwrap();
            }
        }
        running.settle().unwrap();
        std::thread::yield_now();
    }
    exporter.join().unwrap();
    let status = running.status();
    let lost = |cause| status.exporters.iter().filter_map(|one| one.errors.get(cause)).sum::<u64>();
    assert_eq!(lost("log_full"), status.totals.dropped_log_full, "what datagrams lost is told by exporter");
    assert_eq!(lost("mailbox"), status.totals.dropped_mailbox);
    running.drain(&stage.wiring, LIMIT).unwrap();
}

#[test]
fn what_is_no_message_ends_its_session_alone() {
    let stage = stage(1024);
    let config = Config { ipfix_sessions_max: 2, ipfix_idle_s: 1, ..tcp() };
    let running = Running::start(&config, &stage.wiring).unwrap();
    for bad in [b"GET / HTTP/1.1\r\n\r\n".to_vec(), vec![0, 10, 0, 15, 0, 0], vec![0, 9, 0, 1]] {
        let mut stream = connect(&running);
        stream.write_all(&bad).unwrap();
        assert!(is_closed(stream), "{bad:?}");
    }
    let mut cut = connect(&running);
    cut.write_all(&message(0, &[template(4), data(1..2)])).unwrap();
    assert_eq!(rows(&stage.flows, 1), [1]);
    cut.write_all(&message(1, &[data(2..5)])[..20]).unwrap();
    cut.shutdown(Shutdown::Write).unwrap();
    assert!(is_closed(cut));
    until(|| running.status().totals.dropped_framing == 4);
    assert_eq!(running.status().exporters[0].errors, BTreeMap::from([("truncated", 1)]));
    // A set that lies within a message that does not is counted; the session goes on.
    let (mut one, two) = (connect(&running), connect(&running));
    one.write_all(&message(0, &[vec![1, 0, 0, 200, 1, 1]])).unwrap();
    one.write_all(&message(1, &[template(4), data(7..8)])).unwrap();
    assert_eq!(rows(&stage.flows, 1), [7]);
    until(|| running.status().sessions.len() == 2 || running.status().totals.dropped_sessions > 0);
    let third = connect(&running);
    assert!(is_closed(third), "there is room for two");
    // Silent for longer than a second.
    assert!(is_closed(two) && is_closed(one));
    until(|| running.status().sessions.is_empty());
    assert!(running.status().totals.dropped_sessions > 0);
    running.drain(&stage.wiring, LIMIT).unwrap();
}

#[test]
fn a_drain_takes_what_a_session_has_sent() {
    let stage = stage(1024);
    let running = Running::start(&tcp(), &stage.wiring).unwrap();
    let mut stream = connect(&running);
    let mut octets = message(0, &[template(4)]);
    for first in (0..20_000).step_by(1000) {
        octets.extend(message(first, &[data(first..first + 1000)]));
    }
    stream.write_all(&octets).unwrap();
    running.drain(&stage.wiring, LIMIT).unwrap();
    let got: BTreeSet<u64> = rows(&stage.flows, 20_000).into_iter().collect();
    assert_eq!(got, (0..20_000).collect());
    assert!(is_closed(stream));
}

#[test]
fn access_holds_for_every_transport_and_for_mapped_addresses() {
    let stage = stage(1024);
    let config = Config {
        listen: vec!["[::]:0".to_owned()],
        ipfix_tcp_listen: vec!["[::]:0".to_owned()],
        dual_stack: true,
        allow: vec!["::ffff:127.0.0.1/128".parse().unwrap()],
        ..config()
    };
    let running = Running::start(&config, &stage.wiring).unwrap();
    let (udp, tcp) = (running.listening[0].port(), running.listening[1].port());
    for (own, to, key) in [("127.0.0.1:0", "127.0.0.1", 1), ("127.0.0.2:0", "127.0.0.1", 2), ("[::1]:0", "::1", 3)] {
        let mut sender = UdpSender::bind(own.parse().unwrap()).unwrap();
        sender.send(&[netflow5(0, key, 1)], SocketAddr::new(to.parse().unwrap(), udp)).unwrap();
    }
    assert_eq!(rows(&stage.flows, 1), [1]);
    assert!(is_closed(TcpStream::connect(("::1", tcp)).unwrap()));
    let mut stream = TcpStream::connect(("127.0.0.1", tcp)).unwrap();
    stream.write_all(&message(0, &[template(4), data(9..10)])).unwrap();
    assert_eq!(rows(&stage.flows, 1), [9]);
    until(|| running.status().totals.dropped_denied == 3);
    let mut denied: Vec<_> =
        running.status().denied.iter().map(|one| (one.address.to_string(), one.datagrams)).collect();
    denied.sort();
    assert_eq!(denied, [("127.0.0.2".to_owned(), 1), ("::1".to_owned(), 2)]);
    running.drain(&stage.wiring, LIMIT).unwrap();
}

#[test]
fn one_that_floods_does_not_starve_one_that_does_not() {
    const FLOOD: u32 = 20_000;
    let stage = stage(65_536);
    let config = Config { rate_max: 200, rate_burst: 200, receive_buffer_octets: 32 << 20, ..config() };
    let running = Running::start(&config, &stage.wiring).unwrap();
    let began = Instant::now();
    let mut flood = UdpSender::bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut quiet = UdpSender::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let mut sent = 0;
    for some in 0..100u32 {
        let packets: Vec<Vec<u8>> = (0..FLOOD / 100).map(|one| netflow5(sent + one, 1_000_000, 1)).collect();
        sent += flood.send(&packets, running.listening[0]).unwrap() as u32;
        quiet.send(&[netflow5(some, some, 1)], running.listening[0]).unwrap();
    }
    until(|| {
        let totals = running.status().totals;
        let total = totals.datagrams + totals.dropped_kernel;
        total == u64::from(sent) + 100 && totals.acknowledged + totals.dropped_rate_limited == totals.datagrams
    });
    let (status, elapsed_s) = (running.status(), began.elapsed().as_secs_f64());
    assert_eq!(status.totals.dropped_kernel, 0);
    let of = |address: &str| status.exporters.iter().find(|one| one.address.to_string() == address).unwrap();
    assert_eq!((of("127.0.0.1").records, of("127.0.0.1").errors.len()), (100, 0));
    let limited = of("127.0.0.2").errors["rate_limited"];
    assert_eq!(of("127.0.0.2").records + limited, u64::from(sent));
    assert!(of("127.0.0.2").records as f64 <= 200.0 + 200.0 * elapsed_s, "{}", of("127.0.0.2").records);
    assert_eq!(limited, status.totals.dropped_rate_limited);
    running.drain(&stage.wiring, LIMIT).unwrap();
}

#[test]
fn an_exporter_that_falls_silent_is_named_until_it_is_back() {
    let stage = stage(1024);
    let config = Config { silent_after_s: 1, ..config() };
    let running = Running::start(&config, &stage.wiring).unwrap();
    let mut sender = UdpSender::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let silent = |running: &Running| {
        running.settle().unwrap();
        running.status().exporters.first().is_some_and(|exporter| exporter.silent)
    };
    // Regularly, for long enough.
    let began = Instant::now();
    let mut sequence = 0;
    until(|| {
        sender.send(&[netflow5(sequence, 1, 1)], running.listening[0]).unwrap();
        sequence += 1;
        assert!(!silent(&running));
        began.elapsed() > Duration::from_millis(1200)
    });
    until(|| silent(&running));
    sender.send(&[netflow5(sequence, 1, 1)], running.listening[0]).unwrap();
    until(|| !silent(&running));
    running.drain(&stage.wiring, LIMIT).unwrap();
}

#[test]
fn datagrams_are_sent_on_unchanged() {
    let stage = stage(1024);
    let other = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    other.set_read_timeout(Some(LIMIT)).unwrap();
    let to = vec![other.local_addr().unwrap().to_string()];
    let fan_out = vec![crate::FanOutConfig { to, mode: crate::FanOutMode::All, keep_source: false }];
    let config = Config { fan_out, ..config() };
    let running = Running::start(&config, &stage.wiring).unwrap();
    let mut sender = UdpSender::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let packets = [netflow5(0, 1, 30), b"what is this".to_vec(), netflow5(30, 31, 1)];
    sender.send(&packets, running.listening[0]).unwrap();
    let mut octets = [0; 2048];
    for packet in &packets {
        let length = other.recv(&mut octets).unwrap();
        assert_eq!(octets[..length], packet[..]);
    }
    assert_eq!(rows(&stage.flows, 31).len(), 31);
    until(|| running.status().fan_out.targets[0].sent == 3);
    running.drain(&stage.wiring, LIMIT).unwrap();
}

/// An authority, and a certificate of it for `name`: files in `directory`.
fn certificates(directory: &Path) {
    let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let authority_certificate = authority.self_signed(&authority_key).unwrap();
    std::fs::write(directory.join("ca.pem"), authority_certificate.pem()).unwrap();
    let issuer = rcgen::Issuer::new(authority, authority_key);
    for name in ["localhost", "exporter"] {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap();
        std::fs::write(directory.join(format!("{name}.pem")), certificate.pem()).unwrap();
        std::fs::write(directory.join(format!("{name}.key")), key.serialize_pem()).unwrap();
    }
}

/// Sends over TLS as a client that trusts the authority, and shows a certificate where `identity` says so.
fn send_tls(
    to: SocketAddr,
    directory: &Path,
    version: &'static rustls::SupportedProtocolVersion,
    identity: bool,
    octets: &[u8],
) -> std::io::Result<()> {
    let pem = |name: &str| rustls_pki_types::CertificateDer::from_pem_file(directory.join(name)).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(pem("ca.pem")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots);
    let client = if identity {
        let key = rustls_pki_types::PrivateKeyDer::from_pem_file(directory.join("exporter.key")).unwrap();
        builder.with_client_auth_cert(vec![pem("exporter.pem")], key).unwrap()
    } else {
        builder.with_no_client_auth()
    };
    let name = rustls_pki_types::ServerName::try_from("localhost").unwrap();
    let connection = rustls::ClientConnection::new(Arc::new(client), name).unwrap();
    let mut stream = rustls::StreamOwned::new(connection, TcpStream::connect(to)?);
    stream.write_all(octets)?;
    stream.flush()?;
    stream.conn.send_close_notify();
    stream.flush()?;
    // The collector's answer: a refusal, or its own end.
    stream.sock.shutdown(Shutdown::Write)?;
    stream.read_to_end(&mut Vec::new()).map(drop)
}

#[test]
fn tls_sessions_are_decoded_and_strangers_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    certificates(directory.path());
    let file = |name: &str| Some(directory.path().join(name));
    for ca in [None, file("ca.pem")] {
        let stage = stage(1024);
        let config = Config {
            ipfix_tcp_listen: Vec::new(),
            ipfix_tls_listen: vec!["127.0.0.1:0".to_owned()],
            ipfix_tls_certificate_file: file("localhost.pem"),
            ipfix_tls_key_file: file("localhost.key"),
            ipfix_tls_client_ca_file: ca.clone(),
            ..tcp()
        };
        config.check().unwrap();
        let running = Running::start(&config, &stage.wiring).unwrap();
        let to = running.listening[0];
        let octets = message(0, &[template(4), data(1..4)]);
        for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
            send_tls(to, directory.path(), version, true, &octets).unwrap();
            assert_eq!(rows(&stage.flows, 3), [1, 2, 3], "{version:?}");
        }
        let without = send_tls(to, directory.path(), &rustls::version::TLS13, false, &octets);
        let mut plain = TcpStream::connect(to).unwrap();
        plain.write_all(&octets).unwrap();
        plain.shutdown(Shutdown::Write).unwrap();
        if ca.is_some() {
            assert!(without.is_err());
            until(|| running.status().totals.dropped_framing == 2);
        } else {
            without.unwrap();
            assert_eq!(rows(&stage.flows, 3), [1, 2, 3]);
            until(|| running.status().totals.dropped_framing == 1);
        }
        until(|| running.status().sessions.is_empty());
        running.drain(&stage.wiring, LIMIT).unwrap();
        assert!(stage.flows.is_empty());
    }
}

#[test]
fn wrong_tls_files_are_said_with_their_setting() {
    let directory = tempfile::tempdir().unwrap();
    certificates(directory.path());
    std::fs::write(directory.path().join("empty.pem"), "").unwrap();
    let file = |name: &str| Some(directory.path().join(name));
    let whole = Config {
        ipfix_tls_listen: vec!["127.0.0.1:0".to_owned()],
        ipfix_tls_certificate_file: file("localhost.pem"),
        ipfix_tls_key_file: file("localhost.key"),
        ..config()
    };
    for (config, setting) in [
        (Config { ipfix_tls_certificate_file: None, ..whole.clone() }, "ipfix_tls_certificate_file"),
        (Config { ipfix_tls_key_file: None, ..whole.clone() }, "ipfix_tls_key_file"),
        (Config { ipfix_tls_key_file: file("exporter.key"), ..whole.clone() }, "ipfix_tls_key_file"),
        (Config { ipfix_tls_certificate_file: file("empty.pem"), ..whole.clone() }, "ipfix_tls_certificate_file"),
        (Config { ipfix_tls_client_ca_file: file("none.pem"), ..whole.clone() }, "ipfix_tls_client_ca_file"),
    ] {
        let error = config.check().unwrap_err().to_string();
        assert!(error.contains(setting) && !error.contains('\n'), "{error}");
    }
}
