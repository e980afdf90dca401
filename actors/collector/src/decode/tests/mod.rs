//! The decoder as a whole: real captures, corner cases by name, hostile input.

mod captures;
mod cases;
mod elements;
mod hostile;
mod message;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{ArrowPrimitiveType, Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type};
use benocs_model::flow::builder::FlowBuilder;
use benocs_model::flow::{self, Column};

use super::{Config, Decoder, ExporterStatus, Shared};

/// 2023-11-14T22:13:20Z.
pub(super) const NOW: i64 = 1_700_000_000_000;

pub(super) struct Bench {
    pub(super) shared: Arc<Shared>,
    decoder: Decoder,
    builder: FlowBuilder,
}

impl Bench {
    pub(super) fn new() -> Self {
        Self::with(Config::default())
    }

    pub(super) fn with(config: Config) -> Self {
        let shared = Arc::new(Shared::new(config.clone(), Vec::new()));
        Self { decoder: Decoder::new(config, shared.clone()), shared, builder: FlowBuilder::with_capacity(64) }
    }

    pub(super) fn feed_at(&mut self, source: SocketAddr, received_ms: i64, payload: &[u8]) {
        self.decoder.datagram(source, received_ms, payload, &mut self.builder);
    }

    pub(super) fn feed(&mut self, payload: &[u8]) {
        self.feed_at(router(1), NOW, payload);
    }

    /// The rows since the last time.
    pub(super) fn rows(&mut self) -> Rows {
        Rows(self.builder.finish())
    }

    pub(super) fn decode(&mut self, payload: &[u8]) -> Rows {
        self.feed(payload);
        self.rows()
    }

    pub(super) fn status(&self) -> ExporterStatus {
        self.shared.status().into_iter().next().expect("an exporter")
    }

    /// Everything that was ever understood, kept or counted: grows with every datagram.
    pub(super) fn accounted(&self) -> u64 {
        let of_exporter = |status: ExporterStatus| {
            status.records
                + status.templates_received
                + status.options_records
                + status.counter_samples
                + status.pending_kept
                + status.errors.values().sum::<u64>()
        };
        self.shared.refused().total() + self.shared.status().into_iter().map(of_exporter).sum::<u64>()
    }
}

pub(super) fn router(last: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, last], 40_000))
}

/// A batch, or none.
pub(super) struct Rows(pub(super) Option<RecordBatch>);

impl Rows {
    pub(super) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, RecordBatch::num_rows)
    }

    fn column(&self, column: Column) -> Option<&ArrayRef> {
        flow::column(self.0.as_ref()?, column)
    }

    fn values<T: ArrowPrimitiveType>(&self, column: Column) -> Vec<Option<T::Native>> {
        use arrow::array::AsArray;
        let nulls = vec![None; self.len()];
        self.column(column).map_or(nulls, |array| array.as_primitive::<T>().iter().collect())
    }

    /// Integers of any column, widened.
    pub(super) fn get(&self, column: Column) -> Vec<Option<u64>> {
        fn widen<T: Into<u64>>(values: Vec<Option<T>>) -> Vec<Option<u64>> {
            values.into_iter().map(|value| value.map(Into::into)).collect()
        }
        match column.data_type() {
            arrow::datatypes::DataType::UInt8 => widen(self.values::<UInt8Type>(column)),
            arrow::datatypes::DataType::UInt16 => widen(self.values::<UInt16Type>(column)),
            arrow::datatypes::DataType::UInt32 => widen(self.values::<UInt32Type>(column)),
            _ => self.values::<UInt64Type>(column),
        }
    }

    pub(super) fn times(&self, column: Column) -> Vec<Option<i64>> {
        self.values::<Int64Type>(column)
    }

    pub(super) fn addresses(&self, column: Column) -> Vec<Option<String>> {
        let Some(array) = self.column(column) else { return vec![None; self.len()] };
        let octets = flow::addresses(array.as_ref()).expect("a column of addresses");
        let text =
            |(row, octets): (usize, &[u8; 16])| array.is_valid(row).then(|| benocs_model::Address(*octets).to_string());
        octets.iter().enumerate().map(text).collect()
    }

    pub(super) fn sum(&self, column: Column) -> u64 {
        self.get(column).into_iter().flatten().sum()
    }
}

/// `None` where the samples are not there, and need not be.
pub(super) fn samples() -> Option<PathBuf> {
    let default = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/samples"));
    let path = std::env::var_os("BENOCS_SAMPLES").map_or_else(default, PathBuf::from);
    if path.join("CASES.tsv").is_file() {
        return Some(path);
    }
    assert!(std::env::var_os("CI").is_none(), "no samples in {}", path.display());
    eprintln!("skipped: no samples in {}", path.display());
    None
}

/// A datagram of a capture: source, time of receipt, payload.
pub(super) type Datagram = (SocketAddr, i64, Vec<u8>);

/// Datagrams of a file: a capture, an IPFIX file (RFC 5655), or one payload.
pub(super) fn datagrams(path: &std::path::Path) -> Vec<Datagram> {
    let octets = std::fs::read(path).expect("a sample");
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("pcap") => of_capture(&octets),
        Some("ipfix") => of_ipfix_file(&octets),
        _ => vec![(router(1), received_ms(&octets), octets)],
    }
}

/// The header's own time, as if there were no delay.
fn received_ms(payload: &[u8]) -> i64 {
    let word =
        |at: usize| payload.get(at..at + 4).map_or(0, |w| i64::from(u32::from_be_bytes([w[0], w[1], w[2], w[3]])));
    match payload {
        [0, 10, ..] => word(4) * 1000 + 500,
        [0, 5 | 9, ..] => word(8) * 1000 + 500,
        _ => NOW,
    }
}

fn of_ipfix_file(octets: &[u8]) -> Vec<Datagram> {
    let mut rest = octets;
    let mut messages = Vec::new();
    while rest.len() >= 4 {
        let length = usize::from(u16::from_be_bytes([rest[2], rest[3]])).clamp(4, rest.len());
        let (message, after) = rest.split_at(length);
        messages.push((router(1), received_ms(message), message.to_vec()));
        rest = after;
    }
    messages
}

/// UDP of a classic capture of Ethernet frames, in either byte order.
fn of_capture(octets: &[u8]) -> Vec<Datagram> {
    let swapped = octets[0] != 0xd4 && octets[0] != 0x4d;
    let nanos = octets.contains(&0x4d) && (octets[0] == 0x4d || octets[3] == 0x4d);
    let word = |at: usize| {
        let word = [octets[at], octets[at + 1], octets[at + 2], octets[at + 3]];
        if swapped { u32::from_be_bytes(word) } else { u32::from_le_bytes(word) }
    };
    assert_eq!(word(20) & 0xffff, 1, "Ethernet");
    let mut at = 24;
    let mut found = Vec::new();
    while at + 16 <= octets.len() {
        let fraction = i64::from(word(at + 4)) / if nanos { 1_000_000 } else { 1000 };
        let (received_ms, length) = (i64::from(word(at)) * 1000 + fraction, word(at + 8) as usize);
        let end = (at + 16 + length).min(octets.len());
        found.extend(udp(&octets[at + 16..end]).map(|(source, payload)| (source, received_ms, payload)));
        at = end;
    }
    found
}

fn udp(frame: &[u8]) -> Option<(SocketAddr, Vec<u8>)> {
    let packet = benocs_wire::packet::ethernet(frame);
    let ip = packet.outer.filter(|ip| ip.proto == 17)?;
    let (port, _) = ip.ports?;
    let header = if ip.v6 { 40 } else { usize::from(frame.get(packet.layer3_at)? & 0x0f) * 4 };
    let datagram = frame.get(packet.layer3_at + header..)?;
    let length = usize::from(u16::from_be_bytes([*datagram.get(4)?, *datagram.get(5)?]));
    let payload = datagram.get(8..length.max(8).min(datagram.len()))?;
    Some((SocketAddr::new(benocs_model::Address(ip.src).ip(), port), payload.to_vec()))
}

/// Flow cases of the samples' index: name, files in order.
pub(super) fn cases(samples: &std::path::Path) -> Vec<(String, Vec<PathBuf>)> {
    let index = std::fs::read_to_string(samples.join("CASES.tsv")).expect("the index");
    let is_flow =
        |name: &str| ["netflow5/", "netflow9/", "ipfix/", "sflow/", "mixed/"].iter().any(|kind| name.starts_with(kind));
    let case = |line: &str| {
        let mut fields = line.split('\t');
        let (name, files) = (fields.next()?, fields.next()?);
        is_flow(name).then(|| (name.to_owned(), files.split(' ').map(|file| samples.join(file)).collect()))
    };
    index.lines().filter_map(case).collect()
}
