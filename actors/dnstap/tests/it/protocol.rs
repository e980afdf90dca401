//! Handshakes, reconnects, and resolvers that do it wrong.

use benocs_dnstap::Config;
use benocs_model::address::Address;
use benocs_model::names::NameView;
use benocs_wire::dnstap::{Dnstap, MessageType, encode};
use benocs_wire::framestream::{self, ControlType, DNSTAP, Frame};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{Bench, now_ms};

const CLIENT: [u8; 4] = [10, 1, 2, 3];

/// An answer: `name` has `address`, in `www.<service>.example` form.
fn answer(service: &str, address: [u8; 4]) -> Vec<u8> {
    let mut message = vec![0, 1, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0];
    for label in ["www", service, "example"] {
        message.push(label.len() as u8);
        message.extend_from_slice(label.as_bytes());
    }
    message.extend_from_slice(&[0, 0, 1, 0, 1, 0xc0, 12, 0, 1, 0, 1, 0, 0, 1, 44, 0, 4]);
    message.extend_from_slice(&address);
    let tap = Dnstap {
        identity: b"resolver-1",
        version: b"test",
        kind: MessageType::CLIENT_RESPONSE,
        query_address: &CLIENT,
        response_time: Some((now_ms() as u64 / 1000, 0)),
        response_message: &message,
        ..Dnstap::default()
    };
    data(&encode(&tap))
}

fn data(payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes().to_vec();
    frame.extend_from_slice(payload);
    frame
}

async fn control(stream: &mut TcpStream) -> ControlType {
    let mut input = Vec::new();
    loop {
        match framestream::next(&input, 1000).expect("well formed") {
            Some((Frame::Control(control), _)) => return control.kind,
            Some((Frame::Data(_), _)) => panic!("a receiver sends no data"),
            None => assert_ne!(stream.read_buf(&mut input).await.expect("readable"), 0, "closed"),
        }
    }
}

fn service(bench: &Bench, view: &NameView, address: [u8; 4]) -> Option<String> {
    let named = view.lookup(Address::from_v4(address), Address::from_v4(CLIENT), now_ms())?;
    bench.service(named.service_id).map(str::to_owned)
}

async fn named(bench: &mut Bench, address: [u8; 4], expected: &str) {
    let name = bench.until("a name", |bench, view| service(bench, &view, address)).await;
    assert_eq!(name, expected);
}

#[test]
fn the_handshake_goes_both_ways_and_resolvers_come_back() {
    benocs_runtime::block_on(async {
        let mut bench = Bench::start(Config::default()).expect("starts");
        for round in 1..=3u8 {
            let mut stream = TcpStream::connect(bench.address()).await.expect("connects");
            stream.write_all(&framestream::control(ControlType::READY, Some(DNSTAP))).await.expect("sent");
            assert_eq!(control(&mut stream).await, ControlType::ACCEPT);
            stream.write_all(&framestream::control(ControlType::START, Some(DNSTAP))).await.expect("sent");
            let address = [192, 0, 2, round];
            // In two pieces: a frame may come as it likes.
            let frame = answer("films", address);
            stream.write_all(&frame[..7]).await.expect("sent");
            stream.flush().await.expect("sent");
            stream.write_all(&frame[7..]).await.expect("sent");
            named(&mut bench, address, "films.example").await;
            stream.write_all(&framestream::control(ControlType::STOP, None)).await.expect("sent");
            assert_eq!(control(&mut stream).await, ControlType::FINISH);
        }
        bench
            .until("the resolver's end", |bench, _| {
                let status = bench.dnstap.status.get();
                let [resolver] = status.resolvers.as_slice() else { return None };
                (!resolver.connected && resolver.answers == 3 && resolver.name == "resolver-1").then_some(())
            })
            .await;
    });
}

#[test]
fn two_resolvers_at_once_and_a_broken_one() {
    benocs_runtime::block_on(async {
        let mut bench = Bench::start(Config { frame_octets_max: 4096, ..Config::default() }).expect("starts");
        let start = framestream::control(ControlType::START, Some(DNSTAP));
        let mut good = TcpStream::connect(bench.address()).await.expect("connects");
        good.write_all(&start).await.expect("sent");
        let wrong = [
            // Too long a frame, no Frame Streams, another content, data before the start.
            [start.clone(), vec![0, 1, 0, 0]].concat(),
            b"GET / HTTP/1.1\r\n".to_vec(),
            framestream::control(ControlType::READY, Some(b"protobuf:other")),
            answer("early", [192, 0, 2, 99]),
        ];
        for bad in &wrong {
            let mut stream = TcpStream::connect(bench.address()).await.expect("connects");
            stream.write_all(bad).await.expect("sent");
            let mut rest = Vec::new();
            // Closed, or reset because there was more to read.
            let _ = stream.read_to_end(&mut rest).await;
            assert!(rest.is_empty());
        }
        // Frames that are no dnstap, and messages that are no DNS, are counted; the connection goes on.
        good.write_all(&data(&[0xff; 20])).await.expect("sent");
        let tap = Dnstap { kind: MessageType::CLIENT_RESPONSE, response_message: &[1, 2, 3], ..Dnstap::default() };
        good.write_all(&data(&encode(&tap))).await.expect("sent");
        good.write_all(&answer("news", [192, 0, 2, 50])).await.expect("sent");
        named(&mut bench, [192, 0, 2, 50], "news.example").await;
        bench
            .until("every loss counted", |bench, _| {
                let dropped = bench.dnstap.status.get().dropped.clone();
                let count = |cause| dropped.get(cause).copied().unwrap_or(0);
                let counts = ["oversize_frame", "framing", "malformed", "malformed_dns"].map(count);
                (counts[0] + counts[1] == 4 && counts[2..] == [1, 1]).then_some(())
            })
            .await;
        let view = bench.names.reader().view();
        assert_eq!(service(&bench, &view, [192, 0, 2, 99]), None, "data before the start is not used");
    });
}

#[test]
fn connections_are_bounded() {
    benocs_runtime::block_on(async {
        let mut bench = Bench::start(Config { connections_max: 1, ..Config::default() }).expect("starts");
        let mut first = TcpStream::connect(bench.address()).await.expect("connects");
        first.write_all(&framestream::control(ControlType::READY, Some(DNSTAP))).await.expect("sent");
        assert_eq!(control(&mut first).await, ControlType::ACCEPT);
        let mut second = TcpStream::connect(bench.address()).await.expect("connects");
        let mut rest = Vec::new();
        let _ = second.read_to_end(&mut rest).await;
        bench
            .until("the refusal", |bench, _| {
                bench.dnstap.status.get().dropped.get("connections_max").is_some_and(|count| *count == 1).then_some(())
            })
            .await;
    });
}

#[test]
fn what_was_received_before_a_drain_is_not_lost() {
    benocs_runtime::block_on(async {
        // Nothing leaves before the drain: the batch is large, and no tick comes.
        let mut bench = Bench::start(Config { batch_answers: 1_000_000, ..Config::default() }).expect("starts");
        let mut stream = TcpStream::connect(bench.address()).await.expect("connects");
        let mut all = framestream::control(ControlType::START, Some(DNSTAP));
        (0..200u8).for_each(|n| all.extend(answer("films", [198, 51, 100, n])));
        stream.write_all(&all).await.expect("sent");
        bench.until("the frames", |bench, _| (bench.dnstap.status.get().answers == 200).then_some(())).await;
        named(&mut bench, [198, 51, 100, 199], "films.example").await;
        assert_eq!(bench.names.stats().names, 200);
    });
}
