//! The datagrams of a capture file, sent again at the pace of the capture.

pub mod capture;
mod nfdump;
pub mod octets;

use std::collections::{HashMap, HashSet};
use std::io::IsTerminal as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use benocs_sys::UdpSender;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::{Stop, source};
use capture::Capture;

/// The address that datagrams are sent from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SourceMode {
    /// 127.x.y.z by the exporter in the capture, so that exporters stay different; only towards loopback.
    #[default]
    Loopback,
    /// The exporter's own, which must be an address of this machine.
    Keep,
    /// Whatever the kernel chooses, another port for each exporter.
    Any,
}

#[derive(Clone, Debug)]
pub struct Config {
    /// pcap, pcapng, an IPFIX file, a file of nfdump, or the payload of one datagram; also compressed with gzip, bzip2 or zstd.
    pub captures: Vec<PathBuf>,
    /// host:port.
    pub to: String,
    /// Times the capture's pace; 0 is as fast as possible.
    pub speed: f64,
    /// Only datagrams that were sent to this port.
    pub port: Option<u16>,
    pub source: SourceMode,
    /// How often; 0 is until stopped.
    pub repeat: u32,
    /// Datagrams, of each round.
    pub limit: Option<u64>,
    /// A bar on standard error, where that is a terminal.
    pub progress: bool,
    pub stop: Stop,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            captures: Vec::new(),
            to: "127.0.0.1:2055".to_owned(),
            speed: 1.0,
            port: None,
            source: SourceMode::default(),
            repeat: 1,
            limit: None,
            progress: true,
            stop: Stop::default(),
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    pub datagrams: u64,
    pub octets: u64,
    /// Packets of the capture that are not UDP, or not to the wanted port.
    pub skipped: u64,
    pub exporters: u64,
    pub seconds: f64,
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} datagrams ({} octets) of {} exporters sent in {:.1} s, {} packets skipped",
            self.datagrams, self.octets, self.exporters, self.seconds, self.skipped
        )
    }
}

/// Blocks until everything is sent.
pub fn run(config: Config) -> anyhow::Result<Report> {
    anyhow::ensure!(!config.captures.is_empty(), "no capture file given");
    anyhow::ensure!(config.speed >= 0.0 && config.speed.is_finite(), "speed must be 0 or more");
    let mut replay = Replay {
        to: source::resolve(&config.to)?,
        senders: HashMap::new(),
        report: Report::default(),
        config: &config,
        exporters: HashSet::new(),
    };
    let begun = Instant::now();
    let mut round = 0u32;
    while !config.stop.is_stopped() && (config.repeat == 0 || round < config.repeat) {
        let before = replay.report.datagrams;
        for path in &config.captures {
            replay.file(path).with_context(|| format!("cannot replay {}", path.display()))?;
        }
        anyhow::ensure!(
            replay.report.datagrams > before || config.stop.is_stopped(),
            "nothing to send: no UDP datagram in the capture{}",
            config.port.map(|port| format!(" goes to port {port}")).unwrap_or_default()
        );
        round += 1;
    }
    replay.report.exporters = replay.exporters.len() as u64;
    replay.report.seconds = begun.elapsed().as_secs_f64();
    Ok(replay.report)
}

/// Longest pause between two datagrams; captures may have hours without any.
const PAUSE_MAX: Duration = Duration::from_secs(30);

struct Replay<'a> {
    to: SocketAddr,
    senders: HashMap<SocketAddr, UdpSender>,
    exporters: HashSet<IpAddr>,
    report: Report,
    config: &'a Config,
}

impl Replay<'_> {
    fn file(&mut self, path: &std::path::Path) -> anyhow::Result<()> {
        let config = self.config;
        let mut capture = Capture::open(path)?;
        let bar = if config.progress && std::io::stderr().is_terminal() {
            let style = ProgressStyle::with_template("{wide_bar} {percent:>3} % {msg} {elapsed} eta {eta}")
                .unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::new(capture.length()).with_style(style)
        } else {
            ProgressBar::hidden()
        };
        // Where the capture's clock and ours are tied together.
        let mut anchor: Option<(Instant, i64)> = None;
        let mut sent = 0u64;
        while let Some(datagram) = capture.next_datagram()? {
            if config.port.is_some_and(|port| port != datagram.dst.port()) && datagram.dst.port() != 0 {
                self.report.skipped += 1;
                continue;
            }
            if config.limit.is_some_and(|limit| sent >= limit) {
                break;
            }
            if config.speed > 0.0 {
                let now = Instant::now();
                let (start, first_ns) = *anchor.get_or_insert((now, datagram.time_ns));
                let after_ns = datagram.time_ns.saturating_sub(first_ns).max(0);
                let mut due = start + Duration::from_secs_f64(after_ns as f64 / 1e9 / config.speed);
                if due.saturating_duration_since(now) > PAUSE_MAX {
                    due = now + PAUSE_MAX;
                    anchor = Some((due, datagram.time_ns));
                }
                if !config.stop.wait_until(due) {
                    break;
                }
            } else if config.stop.is_stopped() {
                break;
            }
            self.send(datagram.src, &datagram.payload)?;
            sent += 1;
            if sent.is_multiple_of(64) {
                bar.set_position(capture.position());
                bar.set_message(format!("{} datagrams", self.report.datagrams));
            }
        }
        self.report.skipped += capture.skipped();
        bar.finish_and_clear();
        Ok(())
    }

    fn send(&mut self, exporter: SocketAddr, payload: &[u8]) -> anyhow::Result<()> {
        self.exporters.insert(exporter.ip());
        let sender = match self.senders.entry(exporter) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(entry) => {
                let ip = match self.config.source {
                    SourceMode::Keep => exporter.ip(),
                    SourceMode::Loopback if self.to.is_ipv4() && self.to.ip().is_loopback() => {
                        IpAddr::V4(source::loopback(exporter.ip()))
                    }
                    SourceMode::Loopback | SourceMode::Any => source::unspecified(self.to),
                };
                let sender = UdpSender::bind(SocketAddr::new(ip, 0))
                    .with_context(|| format!("cannot send from {ip}: it is not an address of this machine"))?;
                entry.insert(sender)
            }
        };
        sender.send(&[payload], self.to).with_context(|| format!("cannot send to {}", self.to))?;
        self.report.datagrams += 1;
        self.report.octets += payload.len() as u64;
        Ok(())
    }
}

/// Source of a payload that has none: a file without packet headers.
pub(crate) const NO_SOURCE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)), 0);
