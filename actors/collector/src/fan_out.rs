//! Datagrams sent on to other collectors.
//!
//!   socket threads --256 datagrams--> bounded queue --> [fan-out thread] --sendmmsg--> other collectors
//!
//! Receiving never waits for it: where the queue is full, what should have been
//! sent on is dropped and counted.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;

use anyhow::Context as _;
use benocs_runtime::metric;
use benocs_sys::{Sent, SpoofSender, UdpSender};
use metrics::Counter;
use parking_lot::Mutex;
use serde::Serialize;

use crate::config::{Config, FanOutConfig, FanOutMode};

/// Hand-outs that wait for the thread.
const QUEUE: usize = 32;
/// Payloads of one hand-out.
const HANDOUT_OCTETS: usize = 512 << 10;
const HANDOUT_DATAGRAMS: usize = 256;

/// Copies of datagrams on their way to the thread.
#[derive(Default)]
struct Handout {
    octets: Vec<u8>,
    /// Source, and where the payload ends; it begins where the one before it ends.
    entries: Vec<(SocketAddr, usize)>,
}

impl Handout {
    fn clear(&mut self) {
        self.octets.clear();
        self.entries.clear();
    }

    fn datagrams(&self) -> impl Iterator<Item = (SocketAddr, &[u8])> {
        let mut begin = 0;
        self.entries.iter().map(move |(source, end)| {
            let payload = &self.octets[begin..*end];
            begin = *end;
            (*source, payload)
        })
    }
}

/// Emptied hand-outs, used again.
type Pool = Arc<Mutex<Vec<Handout>>>;

/// A socket thread's end.
pub(crate) struct Tap {
    handout: Handout,
    queue: mpsc::SyncSender<Handout>,
    pool: Pool,
    board: Arc<Board>,
}

impl Clone for Tap {
    fn clone(&self) -> Self {
        Self {
            handout: Handout::default(),
            queue: self.queue.clone(),
            pool: self.pool.clone(),
            board: self.board.clone(),
        }
    }
}

impl Tap {
    /// Copies a datagram.
    pub(crate) fn add(&mut self, source: SocketAddr, payload: &[u8]) {
        if self.handout.entries.len() >= HANDOUT_DATAGRAMS || self.handout.octets.len() >= HANDOUT_OCTETS {
            self.flush();
        }
        self.handout.octets.extend_from_slice(payload);
        self.handout.entries.push((source, self.handout.octets.len()));
    }

    /// After the datagrams of one call.
    pub(crate) fn flush(&mut self) {
        if self.handout.entries.is_empty() {
            return;
        }
        let fresh = self.pool.lock().pop().unwrap_or_default();
        if let Err(error) = self.queue.try_send(std::mem::replace(&mut self.handout, fresh)) {
            let (mpsc::TrySendError::Full(mut handout) | mpsc::TrySendError::Disconnected(mut handout)) = error;
            self.board.dropped(handout.entries.len() as u64);
            handout.clear();
            self.pool.lock().push(handout);
        }
    }
}

/// How fan-out stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FanOutStatus {
    /// Datagrams that found the queue full.
    pub dropped: u64,
    pub targets: Vec<FanOutTarget>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FanOutTarget {
    pub to: SocketAddr,
    /// Datagrams.
    pub sent: u64,
    /// Longer than IP carries, or than the path takes.
    pub too_long: u64,
    /// From an address of the other IP version, which cannot be kept.
    pub other_family: u64,
    pub failed: u64,
}

/// Counts, written by the threads and read by whoever asks.
pub(crate) struct Board {
    dropped: AtomicU64,
    dropped_counter: Counter,
    targets: Vec<Tally>,
}

struct Tally {
    to: SocketAddr,
    sent: [AtomicU64; 4],
    counters: [Counter; 4],
}

const RESULTS: [&str; 4] = ["sent", "too_long", "other_family", "failed"];

impl Tally {
    fn new(to: SocketAddr) -> Self {
        let counter = |result| metrics::counter!(metric::COLLECTOR_FAN_OUT, "to" => to.to_string(), "result" => result);
        Self { to, sent: Default::default(), counters: RESULTS.map(counter) }
    }

    fn add(&self, sent: Sent) {
        let counts = [sent.sent, sent.too_long, sent.other_family, sent.failed];
        for ((total, counter), count) in self.sent.iter().zip(&self.counters).zip(counts) {
            total.fetch_add(count, Ordering::Relaxed);
            counter.increment(count);
        }
    }
}

impl Board {
    fn dropped(&self, datagrams: u64) {
        self.dropped.fetch_add(datagrams, Ordering::Relaxed);
        self.dropped_counter.increment(datagrams);
    }

    pub(crate) fn status(&self) -> FanOutStatus {
        let target = |tally: &Tally| {
            let [sent, too_long, other_family, failed] =
                std::array::from_fn(|at| tally.sent[at].load(Ordering::Relaxed));
            FanOutTarget { to: tally.to, sent, too_long, other_family, failed }
        };
        FanOutStatus {
            dropped: self.dropped.load(Ordering::Relaxed),
            targets: self.targets.iter().map(target).collect(),
        }
    }
}

enum Sender {
    Kept(SpoofSender),
    Own(UdpSender),
}

struct Target {
    to: SocketAddr,
    sender: Sender,
    /// Number of its tally.
    tally: usize,
    failing: bool,
}

struct Group {
    mode: FanOutMode,
    targets: Vec<Target>,
    next: usize,
}

/// The thread's end.
pub(crate) struct FanOut {
    groups: Vec<Group>,
    queue: mpsc::Receiver<Handout>,
    pool: Pool,
    board: Arc<Board>,
}

/// Opens the sockets; `None` where nothing is to be sent on.
pub(crate) fn open(config: &Config) -> anyhow::Result<Option<(Tap, FanOut)>> {
    if config.fan_out.is_empty() {
        return Ok(None);
    }
    let (mut groups, mut tallies) = (Vec::new(), Vec::new());
    for fan_out in &config.fan_out {
        let mut targets = Vec::new();
        for to in config.targets(fan_out)? {
            targets.push(Target { to, sender: sender(fan_out, to)?, tally: tallies.len(), failing: false });
            tallies.push(Tally::new(to));
        }
        groups.push(Group { mode: fan_out.mode, targets, next: 0 });
    }
    let dropped_counter = metrics::counter!(metric::DROPPED, "actor" => "collector", "cause" => "fan_out");
    let board = Arc::new(Board { dropped: AtomicU64::new(0), dropped_counter, targets: tallies });
    let (sender, queue) = mpsc::sync_channel(QUEUE);
    let pool = Pool::default();
    let tap = Tap { handout: Handout::default(), queue: sender, pool: pool.clone(), board: board.clone() };
    Ok(Some((tap, FanOut { groups, queue, pool, board })))
}

fn sender(fan_out: &FanOutConfig, to: SocketAddr) -> anyhow::Result<Sender> {
    if !fan_out.keep_source {
        let own = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = own.parse().map_err(io::Error::other).and_then(UdpSender::bind);
        return Ok(Sender::Own(socket.with_context(|| format!("cannot send to {to} (collector.fan_out)"))?));
    }
    SpoofSender::connect(to).map(Sender::Kept).map_err(|error| {
        if error.kind() == io::ErrorKind::PermissionDenied {
            anyhow::anyhow!(
                "cannot send on to {to} with the exporters' addresses (collector.fan_out): this process lacks \
                 CAP_NET_RAW: add it to AmbientCapabilities and CapabilityBoundingSet of the unit, or set keep_source = false"
            )
        } else {
            anyhow::Error::new(error).context(format!("cannot send on to {to} (collector.fan_out)"))
        }
    })
}

impl FanOut {
    pub(crate) fn board(&self) -> Arc<Board> {
        self.board.clone()
    }

    /// Until the last socket thread is gone.
    pub(crate) fn run(mut self) {
        while let Ok(mut handout) = self.queue.recv() {
            self.send(&handout);
            handout.clear();
            let mut pool = self.pool.lock();
            if pool.len() < QUEUE {
                pool.push(handout);
            }
        }
    }

    fn send(&mut self, handout: &Handout) {
        for group in &mut self.groups {
            let count = group.targets.len();
            let (mode, first) = (group.mode, group.next);
            group.next = (first + handout.entries.len()) % count;
            for (place, target) in group.targets.iter_mut().enumerate() {
                let own = |(at, (source, _)): &(usize, (SocketAddr, &[u8]))| match mode {
                    FanOutMode::All => true,
                    FanOutMode::RoundRobin => (first + at) % count == place,
                    FanOutMode::ExporterHash => hash(source.ip()) as usize % count == place,
                };
                let share: Vec<_> = handout.datagrams().enumerate().filter(own).map(|(_, datagram)| datagram).collect();
                let sent = target.send(&share);
                self.board.targets[target.tally].add(sent);
                target.report(sent);
            }
        }
    }
}

impl Target {
    fn send(&mut self, share: &[(SocketAddr, &[u8])]) -> Sent {
        match &mut self.sender {
            Sender::Kept(sender) => sender.send(share),
            Sender::Own(sender) => {
                let payloads: Vec<&[u8]> = share.iter().map(|(_, payload)| *payload).collect();
                let (mut at, mut total) = (0, Sent::default());
                while at < payloads.len() {
                    match sender.send(&payloads[at..], self.to) {
                        Ok(sent @ 1..) => {
                            total.sent += sent as u64;
                            at += sent;
                        }
                        _ => {
                            total.failed += 1;
                            at += 1;
                        }
                    }
                }
                total
            }
        }
    }

    /// A line when sending begins to fail, and one when it works again.
    fn report(&mut self, sent: Sent) {
        let failing = sent.failed > 0;
        if failing && !self.failing {
            tracing::warn!(to = %self.to, datagrams = sent.failed, "cannot send datagrams on: is there a route?");
        } else if self.failing && sent.sent > 0 && !failing {
            tracing::info!(to = %self.to, "datagrams are sent on again");
        }
        self.failing = failing || self.failing && sent.sent == 0;
    }
}

/// The same for an exporter for ever, whatever its port.
fn hash(source: IpAddr) -> u32 {
    match source.to_canonical() {
        IpAddr::V4(ip) => crc32fast::hash(&ip.octets()),
        IpAddr::V6(ip) => crc32fast::hash(&ip.octets()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::time::Duration;

    use super::*;

    fn receivers(count: usize) -> Vec<UdpSocket> {
        let open = |_| {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            socket
        };
        (0..count).map(open).collect()
    }

    fn group(to: &[UdpSocket], mode: FanOutMode) -> FanOutConfig {
        let to = to.iter().map(|socket| socket.local_addr().unwrap().to_string()).collect();
        FanOutConfig { to, mode, keep_source: false }
    }

    fn received(socket: &UdpSocket, count: u64) -> Vec<u8> {
        let mut octets = [0; 2048];
        (0..count)
            .map(|_| {
                let length = socket.recv(&mut octets).unwrap();
                assert_eq!(octets[..length], vec![octets[0]; 100], "unchanged");
                octets[0]
            })
            .collect()
    }

    #[test]
    fn everybody_in_turn_or_by_exporter() {
        let (all, turn, hashed) = (receivers(2), receivers(2), receivers(2));
        let fan_out = vec![
            group(&all, FanOutMode::All),
            group(&turn, FanOutMode::RoundRobin),
            group(&hashed, FanOutMode::ExporterHash),
        ];
        let config = Config { listen: Vec::new(), fan_out, ..Config::default() };
        let (mut tap, fan_out) = open(&config).unwrap().unwrap();
        let board = fan_out.board();
        for number in 0..40u8 {
            // Ten exporters, each with ever other ports.
            let source = SocketAddr::from(([192, 0, 2, number % 10], 1000 + u16::from(number)));
            tap.add(source, &[number; 100]);
            if number % 7 == 0 {
                tap.flush();
            }
        }
        tap.flush();
        drop(tap);
        fan_out.run();
        let sent: Vec<u64> = board.status().targets.iter().map(|target| target.sent).collect();
        assert_eq!((sent[..4].to_vec(), sent[4] + sent[5]), (vec![40, 40, 20, 20], 40));
        assert!(sent[4] > 0 && sent[5] > 0, "{sent:?}");
        for socket in &all {
            assert_eq!(received(socket, 40), (0..40).collect::<Vec<u8>>());
        }
        for (place, socket) in turn.iter().enumerate() {
            assert!(received(socket, 20).iter().all(|number| usize::from(number % 2) == place));
        }
        let exporters = |socket, count| -> std::collections::BTreeSet<u8> {
            received(socket, count).iter().map(|number| number % 10).collect()
        };
        assert!(exporters(&hashed[0], sent[4]).is_disjoint(&exporters(&hashed[1], sent[5])));
    }

    #[test]
    fn a_full_queue_drops_and_counts_and_does_not_wait() {
        let to = receivers(1);
        let config = Config { listen: Vec::new(), fan_out: vec![group(&to, FanOutMode::All)], ..Config::default() };
        let (mut tap, fan_out) = open(&config).unwrap().unwrap();
        for _ in 0..QUEUE + 3 {
            tap.add(SocketAddr::from(([192, 0, 2, 1], 9)), &[1; 100]);
            tap.add(SocketAddr::from(([192, 0, 2, 1], 9)), &[1; 100]);
            tap.flush();
        }
        assert_eq!(fan_out.board().status().dropped, 6);
    }
}
