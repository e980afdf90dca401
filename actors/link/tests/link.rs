//! Two ends in one process, over loopback, with certificates made here.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, RecordBatch, UInt64Array};
use arrow::datatypes::UInt64Type;
use benocs_link::{
    Allow, Client, ClientHandle, Config, CopySink, Identity, Kind, Message, Server, ServerHandle, Sinks, Snapshot,
    Wanted,
};
use benocs_model::Address;
use benocs_model::address::Prefix;
use benocs_model::message::{Commit, Copied, Cursors, FlowBatch, RollupBatch, SourceId, StoreInput, Stream};
use benocs_model::names::{self, AnswerRef, NameBatch, NameTable};
use benocs_model::network::Network;
use benocs_model::route::{Path, Peer, RouteBatch, RouteEvent, RouteTable, Segment};
use benocs_model::tables::{TableUpdate, Tables};
use benocs_runtime::{Fatal, Outbox, fatal_channel};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;

const LOG: SourceId = SourceId(0x0001_0000_0000_0042);
const LIMIT: Duration = Duration::from_secs(30);

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("an authority"))
    }

    fn issue(&self, names: &[&str]) -> Result<Identity, benocs_link::IdentityError> {
        self.identity(names, self)
    }

    /// An identity of this authority that trusts another one.
    fn issue_trusting(&self, names: &[&str], trusted: &Authority) -> Identity {
        self.identity(names, trusted).expect("an identity")
    }

    fn identity(&self, names: &[&str], trusted: &Authority) -> Result<Identity, benocs_link::IdentityError> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().expect("a key");
        let certificate = CertificateParams::new(names).expect("names").signed_by(&key, &self.0).expect("signs");
        Identity::from_pem(&certificate.pem(), &key.serialize_pem(), &trusted.0.pem())
    }

    fn role(&self, role: &str) -> Identity {
        self.issue(&[role, &format!("{role}.benocs.internal")]).expect("an identity")
    }
}

fn config() -> Config {
    Config { retry_ms_min: 10, retry_ms_max: 50, mailbox_batches: 4, ..Config::default() }
}

fn everything() -> Allow {
    Arc::new(|_, _| true)
}

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn serve(authority: &Authority, allow: Allow, sinks: Sinks, wanted: Wanted) -> ServerHandle {
    let server = Server::new(config(), authority.role("process00"), allow, sinks, wanted);
    server.start(loopback()).expect("listens")
}

fn client(authority: &Authority, role: &str, address: SocketAddr) -> Client {
    Client::new(config(), authority.role(role), "process00", &address.to_string())
}

fn batch(seq: u64) -> FlowBatch {
    let octets: ArrayRef = Arc::new(UInt64Array::from(vec![seq; 100]));
    let rows = RecordBatch::try_from_iter([("octets", octets)]).expect("one column");
    FlowBatch { source: LOG, seq, rows }
}

/// The batch is what its number says.
fn check(batch: &FlowBatch) -> u64 {
    let octets = batch.rows["octets"].as_primitive::<UInt64Type>();
    assert_eq!((octets.len(), octets.value(99)), (100, batch.seq));
    batch.seq
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, future).await.unwrap_or_else(|_| panic!("{what}: not in time"))
}

async fn error_of(handle: &ClientHandle, kind: Kind) -> String {
    let mut status = handle.watch(kind).expect("a stream");
    let status = within("an error", status.wait_for(|status| status.error.is_some())).await.expect("alive").clone();
    assert!(!status.connected);
    status.error.expect("an error")
}

async fn no_fatal(fatal: &mut UnboundedReceiver<Fatal>) {
    if let Ok(fatal) = fatal.try_recv() {
        panic!("{}: {}", fatal.actor, fatal.reason);
    }
}

/// A log that goes back where it is told to, and a thread that reads it.
#[derive(Clone, Default)]
struct Log {
    next: Arc<AtomicU64>,
    rewinds: Arc<Mutex<Vec<u64>>>,
}

impl Log {
    fn rewind(&self) -> impl FnMut(&Cursors) + Send + 'static {
        let log = self.clone();
        move |cursors| {
            let seq = cursors.get(&LOG).copied().unwrap_or(0);
            log.rewinds.lock().expect("no panic").push(seq);
            log.next.store(seq, Ordering::SeqCst);
        }
    }

    /// Sends up to batch `end`, and again after each rewind, until the mailbox is gone.
    fn send(&self, outbox: Outbox<FlowBatch>, end: u64) -> tokio::task::JoinHandle<()> {
        let log = self.clone();
        tokio::spawn(async move {
            loop {
                let seq = log.next.load(Ordering::SeqCst);
                if seq >= end {
                    if outbox.is_closed() {
                        return;
                    }
                    tokio::task::yield_now().await;
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    continue;
                }
                if outbox.send(batch(seq)).await.is_err() {
                    return;
                }
                // A rewind meanwhile wins.
                let _ = log.next.compare_exchange(seq, seq + 1, Ordering::SeqCst, Ordering::SeqCst);
            }
        })
    }
}

/// Passes octets on until it is cut; then takes new connections.
struct Wire {
    address: SocketAddr,
    cut: watch::Sender<u64>,
}

impl Wire {
    async fn new(to: SocketAddr) -> Self {
        let listener = TcpListener::bind(loopback()).await.expect("listens");
        let address = listener.local_addr().expect("bound");
        let (cut, cuts) = watch::channel(0);
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let mut cuts = cuts.clone();
                cuts.mark_unchanged();
                tokio::spawn(async move {
                    let Ok(mut far) = TcpStream::connect(to).await else { return };
                    tokio::select! {
                        _ = copy_bidirectional(&mut near, &mut far) => {}
                        _ = cuts.changed() => {}
                    }
                });
            }
        });
        Self { address, cut }
    }

    fn cut(&self) {
        self.cut.send_modify(|cuts| *cuts += 1);
    }
}

#[tokio::test]
async fn batches_arrive_and_commits_come_back() {
    let authority = Authority::new();
    let (flows, received) = Outbox::channel(4);
    let server = serve(&authority, everything(), Sinks { flows: Some(flows), ..Sinks::default() }, Wanted::default());
    let mut client = client(&authority, "netflow00", server.local_address());
    let log = Log::default();
    let outbox = client.flows(log.rewind());
    let (commits, committed) = Outbox::channel(4);
    let (fatal, mut ended) = fatal_channel();
    let handle = client.start(vec![commits], fatal).expect("starts");
    let reader = log.send(outbox, 20);
    for seq in 0..20 {
        let batch = within("a batch", received.recv()).await.expect("open");
        assert_eq!((batch.source, check(&batch)), (LOG, seq));
    }
    for stream in [Stream::Flows, Stream::Rollups] {
        let commit = Commit { stream, cursors: [(LOG, 20)].into() };
        server.commits().send(commit).await.expect("open");
        let told = within("a commit", committed.recv()).await.expect("open");
        assert_eq!((told.stream, told.cursors), (stream, [(LOG, 20)].into()));
    }
    assert_eq!(handle.wanted(Kind::Flows).await, Some(Wanted::default()));
    no_fatal(&mut ended).await;
    assert!(handle.drain(LIMIT).await);
    within("the reader", reader).await.expect("no panic");
}

#[tokio::test]
async fn a_cut_wire_loses_nothing_and_repeats_nothing() {
    const BATCHES: u64 = 400;
    let authority = Authority::new();
    let (flows, received) = Outbox::channel(2);
    let sinks = Sinks { flows: Some(flows), ..Sinks::default() };
    let start = Wanted { flows: [(LOG, 9)].into(), rollups: [(LOG, 7)].into() };
    let server = serve(&authority, everything(), sinks, start);
    let wire = Wire::new(server.local_address()).await;
    let mut client = client(&authority, "netflow00", wire.address);
    let log = Log::default();
    let outbox = client.flows(log.rewind());
    let (fatal, mut ended) = fatal_channel();
    let handle = client.start(Vec::new(), fatal).expect("starts");
    let reader = log.send(outbox, BATCHES);
    let mut cuts = 0;
    for seq in 7..BATCHES {
        let batch = within("a batch", received.recv()).await.expect("open");
        assert_eq!(check(&batch), seq, "in order, once, from what both streams of storage need");
        if seq % 60 == 0 {
            wire.cut();
            cuts += 1;
        }
    }
    let rewinds = log.rewinds.lock().expect("no panic").clone();
    assert!(rewinds.len() > 1 && rewinds.len() as u64 <= cuts + 2, "{rewinds:?}");
    assert_eq!(rewinds[0], 7);
    no_fatal(&mut ended).await;
    handle.stop();
    within("the reader", reader).await.expect("no panic");
    assert!(received.is_empty());
}

#[tokio::test]
async fn strangers_and_wrong_roles_are_refused() {
    let authority = Authority::new();
    let (flows, received) = Outbox::channel(4);
    let (store, _stored) = Outbox::channel(4);
    let sinks = Sinks { flows: Some(flows), store: Some(store), ..Sinks::default() };
    let allow: Allow = Arc::new(|role, kind| matches!((role, kind), ("netflow00", Kind::Flows)));
    let server = serve(&authority, allow, sinks, Wanted::default());
    let address = server.local_address();
    let (fatal, mut ended) = fatal_channel();
    let try_with = |mut client: Client, kind: Kind| {
        if kind == Kind::Flows {
            drop(client.flows(|_| ()));
        } else {
            drop(client.store());
        }
        let fatal = fatal.clone();
        async move { error_of(&client.start(Vec::new(), fatal).expect("starts"), kind).await }
    };

    let stranger = Authority::new().role("netflow00");
    let error = try_with(Client::new(config(), stranger, "process00", &address.to_string()), Kind::Flows).await;
    assert!(error.contains("ertificate"), "another authority: {error}");
    let forged = Authority::new().issue_trusting(&["netflow00"], &authority);
    let error = try_with(Client::new(config(), forged, "process00", &address.to_string()), Kind::Flows).await;
    assert!(!error.is_empty(), "the server does not know the client's authority");
    let elsewhere = Client::new(config(), authority.role("netflow00"), "storage00", &address.to_string());
    let error = try_with(elsewhere, Kind::Flows).await;
    assert!(error.contains("not valid for name"), "the server is another role: {error}");
    let error = try_with(client(&authority, "dns00", address), Kind::Flows).await;
    assert!(error.contains("dns00 may not send flows"), "{error}");
    let error = try_with(client(&authority, "netflow00", address), Kind::Store).await;
    assert!(error.contains("netflow00 may not send store"), "{error}");
    assert!(authority.issue(&["netflow00.benocs.internal"]).is_err(), "a certificate names a role");
    assert!(received.is_empty());
    no_fatal(&mut ended).await;
}

#[tokio::test]
async fn kinds_that_nobody_takes_are_refused() {
    let authority = Authority::new();
    let server = serve(&authority, everything(), Sinks::default(), Wanted::default());
    let mut client = client(&authority, "netflow00", server.local_address());
    drop(client.flows(|_| ()));
    let (fatal, _ended) = fatal_channel();
    let handle = client.start(Vec::new(), fatal).expect("starts");
    let error = error_of(&handle, Kind::Flows).await;
    assert!(error.contains("nobody takes flows here"), "{error}");
}

#[tokio::test]
async fn a_full_mailbox_holds_up_the_sender() {
    const BATCHES: u64 = 3_000;
    let authority = Authority::new();
    let (flows, received) = Outbox::channel(1);
    let server = serve(&authority, everything(), Sinks { flows: Some(flows), ..Sinks::default() }, Wanted::default());
    let mut client = client(&authority, "netflow00", server.local_address());
    let log = Log::default();
    let outbox = client.flows(log.rewind());
    let (fatal, _ended) = fatal_channel();
    let handle = client.start(Vec::new(), fatal).expect("starts");
    let wide = |seq| {
        let octets: ArrayRef = Arc::new(UInt64Array::from(vec![seq; 20_000]));
        let rows = RecordBatch::try_from_iter([("octets", octets)]).expect("one column");
        FlowBatch { source: LOG, seq, rows }
    };
    within("a connection", handle.wanted(Kind::Flows)).await.expect("welcomed");
    // 160 kB each: the windows of the connection hold some tens of them.
    let mut sent = 0;
    while sent < BATCHES {
        match tokio::time::timeout(Duration::from_millis(500), outbox.send(wide(sent))).await {
            Ok(taken) => taken.expect("open"),
            Err(_) => break,
        }
        sent += 1;
    }
    assert!((10..300).contains(&sent), "{sent} batches went into a full mailbox");
    let feeder = tokio::spawn(async move {
        for seq in sent..sent + 50 {
            outbox.send(wide(seq)).await.expect("open");
        }
    });
    for seq in 0..sent + 50 {
        assert_eq!(within("a batch", received.recv()).await.expect("open").seq, seq);
    }
    within("the feeder", feeder).await.expect("no panic");
    assert!(handle.drain(LIMIT).await);
}

fn rollups(from: u64, upto: u64) -> StoreInput {
    let rows = batch(upto).rows;
    let partials = vec![(60_000, rows.clone()), (300_000, rows.slice(0, 50))];
    StoreInput::Rollups(RollupBatch { from: [(LOG, from)].into(), upto: [(LOG, upto)].into(), partials })
}

fn shape(input: &StoreInput) -> String {
    match input {
        StoreInput::Flows(batch) => format!("f{}", check(batch)),
        StoreInput::Rollups(batch) => {
            assert_eq!(batch.partials.len(), 2);
            format!("r{}", batch.upto[&LOG])
        }
        StoreInput::Table(_) => "t".to_owned(),
        StoreInput::Copied(copied) => format!("c{}", copied.generation()),
    }
}

#[tokio::test]
async fn a_store_that_restarts_gets_again_what_it_had_not_committed() {
    let authority = Authority::new();
    let (store, stored) = Outbox::channel(16);
    let first = serve(&authority, everything(), Sinks { store: Some(store), ..Sinks::default() }, Wanted::default());
    let address = first.local_address();
    let mut client = client(&authority, "process00", address);
    let outbox = client.store();
    let (commits, committed) = Outbox::channel(4);
    let (fatal, mut ended) = fatal_channel();
    let handle = client.start(vec![commits], fatal).expect("starts");
    let table = || StoreInput::Table(Arc::new(TableUpdate::Paths(Vec::new())));
    let flows = |seq| StoreInput::Flows(batch(seq));
    for input in [table(), flows(0), flows(1), rollups(0, 2), table(), flows(2)] {
        outbox.send(input).await.expect("open");
    }
    for wanted in ["t", "f0", "f1", "r2", "t", "f2"] {
        assert_eq!(shape(&within("a message", stored.recv()).await.expect("open")), wanted);
    }
    first.commits().send(Commit { stream: Stream::Flows, cursors: [(LOG, 2)].into() }).await.expect("open");
    within("a commit", committed.recv()).await.expect("open");
    // It goes down with everything after batch 1, its rollups too, in memory.
    first.stop();
    drop(stored);

    let (store, stored) = Outbox::channel(16);
    let wanted = Wanted { flows: [(LOG, 2)].into(), rollups: Cursors::new() };
    let sinks = Sinks { store: Some(store), ..Sinks::default() };
    let second = Server::new(config(), authority.role("process00"), everything(), sinks, wanted);
    let _second = second.start(address).expect("listens again");
    outbox.send(flows(3)).await.expect("open");
    for wanted in ["r2", "t", "f2", "f3"] {
        assert_eq!(shape(&within("a message", stored.recv()).await.expect("open")), wanted);
    }
    no_fatal(&mut ended).await;
    assert!(handle.drain(LIMIT).await);
    assert!(stored.is_empty());
}

#[tokio::test]
async fn a_receiver_that_wants_what_is_gone_ends_the_sender() {
    let authority = Authority::new();
    let (store, stored) = Outbox::channel(16);
    let wanted = Wanted { flows: [(LOG, 3)].into(), rollups: Cursors::new() };
    let server = serve(&authority, everything(), Sinks { store: Some(store), ..Sinks::default() }, wanted);
    let mut client = client(&authority, "process00", server.local_address());
    let outbox = client.store();
    let (fatal, mut ended) = fatal_channel();
    let _handle = client.start(Vec::new(), fatal).expect("starts");
    outbox.send(StoreInput::Flows(batch(2))).await.expect("open");
    outbox.send(StoreInput::Flows(batch(3))).await.expect("open");
    assert_eq!(shape(&within("a message", stored.recv()).await.expect("open")), "f3", "2 is there");
    outbox.send(StoreInput::Flows(batch(5))).await.expect("open");
    let fatal = within("an end", ended.recv()).await.expect("a reason");
    assert!(fatal.reason.contains("batch 4 is wanted, 5 came"), "{}", fatal.reason);
    assert!(stored.is_empty());
}

fn announce(generation: u64, asn: u32, prefix: [u8; 4]) -> RouteBatch {
    let path = Arc::new(Path {
        origin: 0,
        as_path: vec![Segment { kind: 2, asns: vec![asn] }],
        next_hop: Address::from_v4([192, 0, 2, 1]),
        med: None,
        local_pref: None,
        communities: vec![],
        large_communities: vec![],
        ext_communities: vec![],
        originator_id: None,
        cluster_list: vec![],
        ..Path::default()
    });
    let prefixes = vec![(0, Prefix::new(Address::from_v4(prefix), 24))];
    RouteBatch { generation, events: vec![RouteEvent::Announce { peer: 1, path, prefixes }] }
}

#[tokio::test]
async fn replicas_of_routes_follow_over_a_cut() {
    let authority = Authority::new();
    let (routes, received) = Outbox::channel(4);
    let server = serve(&authority, everything(), Sinks { routes: Some(routes), ..Sinks::default() }, Wanted::default());
    let wire = Wire::new(server.local_address()).await;
    let mut table = RouteTable::new();
    let peer = Peer {
        id: 1,
        name: "r1".to_owned(),
        address: Address::from_v4([10, 0, 0, 1]),
        bgp_id: [10, 0, 0, 1],
        remote_as: 64500,
        local_as: 64500,
        reflector: false,
        ..Peer::default()
    };
    table.apply(&RouteBatch { generation: 1, events: vec![RouteEvent::PeerUp(Arc::new(peer))] });
    table.apply(&announce(2, 64501, [100, 64, 0, 0]));
    table.publish();
    let mut client = client(&authority, "ce00", wire.address);
    let outbox = client.routes(table.reader());
    let (fatal, mut ended) = fatal_channel();
    let handle = client.start(Vec::new(), fatal).expect("starts");

    let mut replica = RouteTable::new();
    let known = |replica: &RouteTable, address: [u8; 4]| {
        let view = replica.reader().view();
        let found = view.lookup(benocs_model::route::Vantage::NONE, Address::from_v4(address));
        found.and_then(|found| found.path.origin_as())
    };
    for round in 0..5u8 {
        let asn = 64510 + u32::from(round);
        let delta = announce(3 + u64::from(round), asn, [100, 65, round, 0]);
        table.apply(&delta);
        table.publish();
        outbox.send(delta).await.expect("open");
        while known(&replica, [100, 65, round, 1]) != Some(asn) {
            let batch = within("a batch", received.recv()).await.expect("open");
            replica.apply(&batch);
            replica.publish();
        }
        wire.cut();
    }
    for round in 0..5u8 {
        assert_eq!(known(&replica, [100, 65, round, 1]), Some(64510 + u32::from(round)));
    }
    assert_eq!(known(&replica, [100, 64, 0, 9]), Some(64501), "from the snapshot");
    no_fatal(&mut ended).await;
    handle.stop();
}

#[tokio::test]
async fn names_and_tables_begin_with_what_is_there() {
    let authority = Authority::new();
    let (names_in, names_received) = Outbox::channel(4);
    let (tables_in, tables_received) = Outbox::channel(4);
    let sinks = Sinks { names: Some(names_in), tables: Some(tables_in), ..Sinks::default() };
    let server = serve(&authority, everything(), sinks, Wanted::default());

    let settings = names::Settings { names_max: 1000, ..names::Settings::default() };
    let mut table = NameTable::new(settings.clone());
    let answer = |service, last| {
        let mut batch = NameBatch::default();
        batch.push(AnswerRef {
            time_s: 1_700_000_000,
            client: Some(Address::from_v4([10, 0, 0, 9])),
            asked: 5,
            service,
            addresses: &[(Address::from_v4([192, 0, 2, last]), 300)],
            aliases: &[],
        });
        batch
    };
    table.apply(&answer(7, 1));
    table.publish();
    let tables = Arc::new(Tables::default());
    let network =
        |generation| TableUpdate::Network(Arc::new(Network { generation, own_as: vec![64500], ..Network::default() }));
    tables.apply(&network(1));
    let mut client = client(&authority, "dns00", server.local_address());
    let names_out = client.names(table.reader());
    let whole = tables.clone();
    let tables_out = client.tables(move || vec![TableUpdate::Network(whole.network.load_full())]);
    let (fatal, mut ended) = fatal_channel();
    let handle = client.start(Vec::new(), fatal).expect("starts");

    let delta = answer(8, 2);
    table.apply(&delta);
    names_out.send(delta).await.expect("open");
    tables.apply(&network(2));
    tables_out.send(Arc::new(network(2))).await.expect("open");

    let mut replica = NameTable::new(settings);
    let called = |replica: &NameTable, last| {
        let (server, client) = (Address::from_v4([192, 0, 2, last]), Address::from_v4([10, 0, 0, 9]));
        replica.reader().view().lookup(server, client, 1_700_000_010_000).map(|named| named.service_id)
    };
    while (called(&replica, 1), called(&replica, 2)) != (Some(7), Some(8)) {
        replica.apply(&within("names", names_received.recv()).await.expect("open"));
        replica.publish();
    }
    let copies = Tables::default();
    while copies.network.load().generation < 2 {
        copies.apply(&within("tables", tables_received.recv()).await.expect("open"));
    }
    assert_eq!(copies.network.load().own_as, [64500]);
    no_fatal(&mut ended).await;
    handle.stop();
}

/// State `generation` has these files; each is its number over and over, in several pieces.
fn state_of(generation: u64) -> BTreeSet<u64> {
    (generation..generation + 3).collect()
}

fn copied_file(generation: u64, id: u64) -> StoreInput {
    let octets = vec![id as u8; 300_000 + id as usize * 400_000].into();
    StoreInput::Copied(Copied::File { generation, meta: id.to_le_bytes().to_vec(), octets })
}

fn copied_state(generation: u64) -> StoreInput {
    let files = state_of(generation).into_iter().collect();
    StoreInput::Copied(Copied::Commit { generation, files, rollups: [(LOG, generation)].into() })
}

#[tokio::test]
async fn a_copy_gets_what_it_lacks_and_then_what_is_new() {
    const STATES: u64 = 16;
    let authority = Authority::new();
    let (store, copied) = Outbox::channel(1);
    let held: Arc<Mutex<BTreeSet<u64>>> = Arc::default();
    let holds = held.clone();
    let sink =
        CopySink { outbox: store, holds: Arc::new(move || holds.lock().expect("no panic").iter().copied().collect()) };
    let allow: Allow = Arc::new(|role, kind| matches!((role, kind), ("storage00", Kind::Copy)));
    let server = serve(&authority, allow, Sinks { copy: Some(sink), ..Sinks::default() }, Wanted::default());
    let nothing = |_: &[u64]| Snapshot { generation: 0, messages: Box::new(std::iter::empty()) };
    let (fatal, mut ended) = fatal_channel();
    let mut other = client(&authority, "process01", server.local_address());
    drop(other.copy(nothing));
    let error = error_of(&other.start(Vec::new(), fatal.clone()).expect("starts"), Kind::Copy).await;
    assert!(error.contains("process01 may not send copy"), "{error}");

    let wire = Wire::new(server.local_address()).await;
    let mut client = client(&authority, "storage00", wire.address);
    let original = Arc::new(AtomicU64::new(1));
    let asked: Arc<Mutex<Vec<usize>>> = Arc::default();
    let (now, asking) = (original.clone(), asked.clone());
    let outbox = client.copy(move |held| {
        asking.lock().expect("no panic").push(held.len());
        let generation = now.load(Ordering::SeqCst);
        let missing = state_of(generation).into_iter().filter(|id| !held.contains(id)).collect::<Vec<_>>();
        let files = missing.into_iter().map(move |id| copied_file(generation, id));
        let messages = files.chain([copied_state(generation)]).map(Message::from);
        Snapshot { generation, messages: Box::new(messages) }
    });
    let handle = client.start(Vec::new(), fatal).expect("starts");
    let publishing = tokio::spawn(async move {
        for generation in 2..=STATES {
            original.store(generation, Ordering::SeqCst);
            for message in [copied_file(generation, generation + 2), copied_state(generation)] {
                outbox.send(message).await.expect("open");
            }
        }
    });

    let mut files = BTreeMap::new();
    let (mut newest, mut taken) = (0, 0);
    while newest < STATES {
        let StoreInput::Copied(message) = within("a message", copied.recv()).await.expect("open") else {
            panic!("only states are copied")
        };
        match message {
            Copied::File { meta, octets, .. } => {
                let id = u64::from_le_bytes(meta.try_into().expect("a number"));
                assert_eq!(octets.len(), 300_000 + id as usize * 400_000);
                assert!(octets.iter().all(|octet| *octet == id as u8));
                files.insert(id, octets);
            }
            Copied::Commit { generation, files: named, rollups } => {
                assert!(generation >= newest, "states do not go back");
                newest = generation;
                assert_eq!((&rollups[&LOG], named.iter().copied().collect()), (&generation, state_of(generation)));
                assert!(named.iter().all(|id| files.contains_key(id)), "all of it is there");
                files.retain(|id, _| named.contains(id));
            }
            Copied::Table { .. } => panic!("no table was sent"),
        }
        *held.lock().expect("no panic") = files.keys().copied().collect();
        taken += 1;
        if taken % 5 == 0 {
            wire.cut();
        }
    }
    within("the publisher", publishing).await.expect("no panic");
    let asked = asked.lock().expect("no panic").clone();
    assert!(asked.len() > 1 && asked[0] == 0 && asked[1..].iter().any(|held| *held > 0), "{asked:?}");
    no_fatal(&mut ended).await;
    handle.stop();
}
