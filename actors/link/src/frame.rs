//! What travels: Flight data messages (Arrow Flight, `FlightData`).
//!
//!   | data_header, data_body: Arrow IPC | app_metadata: postcard of Hello, Envelope or Reply |
//!
//! A stream begins with Hello and its answer Welcome, which agree on a version.
//! A schema is sent once and referred to by number; batches follow it. Rollups
//! are a head and one part a width; a file is a head and pieces of its octets.
//! Everything else is in the envelope alone.

use std::collections::{BTreeMap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions};
use arrow_flight::utils::flight_data_to_arrow_batch;
use arrow_flight::{FlightData, SchemaAsIpc};
use benocs_model::message::{Commit, Copied, Cursors, FlowBatch, RollupBatch, SourceId, StoreInput, Stream};
use benocs_model::names::NameBatch;
use benocs_model::route::RouteBatch;
use benocs_model::tables::TableUpdate;
use benocs_model::{flow, rollup};
use bytes::BytesMut;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Of what stands in this module.
pub const VERSION: u16 = 1;

/// Largest file that is taken, and octets of its pieces.
const FILE_OCTETS_MAX: u64 = 1 << 30;
const PIECE_OCTETS: usize = 1 << 20;

/// Schemas known at a time; further ones take the place of the first.
const SCHEMAS_MAX: usize = 32;

/// What a stream carries; each has its own mailbox at the receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// Batches of a log, to the enricher.
    Flows,
    /// Joined batches, to the aggregator.
    Joined,
    /// Joined batches, rollups and tables, to the store.
    Store,
    Routes,
    Names,
    Tables,
    /// States of a store, to its copy.
    Copy,
}

impl Kind {
    pub const ALL: [Kind; 7] =
        [Kind::Flows, Kind::Joined, Kind::Store, Kind::Routes, Kind::Names, Kind::Tables, Kind::Copy];

    pub const fn text(self) -> &'static str {
        match self {
            Kind::Flows => "flows",
            Kind::Joined => "joined",
            Kind::Store => "store",
            Kind::Routes => "routes",
            Kind::Names => "names",
            Kind::Tables => "tables",
            Kind::Copy => "copy",
        }
    }

    /// The message belongs on such a stream.
    pub(crate) fn carries(self, message: &Message) -> bool {
        matches!(
            (self, message),
            (Kind::Flows | Kind::Joined, Message::Flow(_))
                | (Kind::Store, Message::Flow(_) | Message::Rollups(_) | Message::Table(_))
                | (Kind::Routes, Message::Routes(_))
                | (Kind::Names, Message::Names(_))
                | (Kind::Tables, Message::Table(_))
                | (Kind::Copy, Message::Copied(_))
        )
    }
}

#[derive(Clone, Debug)]
pub enum Message {
    Flow(FlowBatch),
    Rollups(RollupBatch),
    Table(Arc<TableUpdate>),
    Routes(RouteBatch),
    Names(NameBatch),
    Copied(Copied),
}

impl From<FlowBatch> for Message {
    fn from(batch: FlowBatch) -> Self {
        Message::Flow(batch)
    }
}

impl From<StoreInput> for Message {
    fn from(input: StoreInput) -> Self {
        match input {
            StoreInput::Flows(batch) => Message::Flow(batch),
            StoreInput::Rollups(batch) => Message::Rollups(batch),
            StoreInput::Table(update) => Message::Table(update),
            StoreInput::Copied(copied) => Message::Copied(copied),
        }
    }
}

impl From<RouteBatch> for Message {
    fn from(batch: RouteBatch) -> Self {
        Message::Routes(batch)
    }
}

impl From<NameBatch> for Message {
    fn from(batch: NameBatch) -> Self {
        Message::Names(batch)
    }
}

impl From<Arc<TableUpdate>> for Message {
    fn from(update: Arc<TableUpdate>) -> Self {
        Message::Table(update)
    }
}

impl Message {
    /// Memory that it holds, about.
    pub(crate) fn octets(&self) -> usize {
        match self {
            Message::Flow(batch) => batch.rows.get_array_memory_size(),
            Message::Rollups(batch) => batch.partials.iter().map(|(_, rows)| rows.get_array_memory_size()).sum(),
            Message::Copied(Copied::File { octets, .. }) => octets.len(),
            Message::Table(_) | Message::Routes(_) | Message::Names(_) | Message::Copied(_) => 4096,
        }
    }
}

/// Next batch wanted by source, for each consumer of the logs: everything before it is there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    pub flows: Cursors,
    pub rollups: Cursors,
}

impl Wanted {
    pub fn of(&self, stream: Stream) -> &Cursors {
        match stream {
            Stream::Flows => &self.flows,
            Stream::Rollups => &self.rollups,
        }
    }

    pub fn of_mut(&mut self, stream: Stream) -> &mut Cursors {
        match stream {
            Stream::Flows => &mut self.flows,
            Stream::Rollups => &mut self.rollups,
        }
    }

    /// By source the lower of both: where a log has to begin again.
    pub fn lowest(&self) -> Cursors {
        let sources = self.flows.keys().chain(self.rollups.keys());
        let of = |cursors: &Cursors, source: &SourceId| cursors.get(source).copied().unwrap_or(0);
        sources.map(|source| (*source, of(&self.flows, source).min(of(&self.rollups, source)))).collect()
    }

    pub(crate) fn merge(&mut self, commit: &Commit) {
        let cursors = self.of_mut(commit.stream);
        for (source, next) in &commit.cursors {
            let known = cursors.entry(*source).or_insert(0);
            *known = (*known).max(*next);
        }
    }

    pub(crate) fn commits(&self) -> [Commit; 2] {
        [Stream::Flows, Stream::Rollups].map(|stream| Commit { stream, cursors: self.of(stream).clone() })
    }
}

/// First message of a stream.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Hello {
    pub(crate) version_min: u16,
    pub(crate) version_max: u16,
    pub(crate) kind: Kind,
    pub(crate) flow_schema: u32,
    pub(crate) rollup_schema: u32,
}

impl Hello {
    pub(crate) fn new(kind: Kind) -> Self {
        Self {
            version_min: VERSION,
            version_max: VERSION,
            kind,
            flow_schema: flow::SCHEMA_VERSION,
            rollup_schema: rollup::SCHEMA_VERSION,
        }
    }

    /// The version to speak, or why there is none.
    pub(crate) fn agree(&self) -> Result<u16, String> {
        if !(self.version_min..=self.version_max).contains(&VERSION) {
            let (min, max) = (self.version_min, self.version_max);
            return Err(format!("link version {VERSION} is spoken here, {min} to {max} there: update the older one"));
        }
        for (what, there, here) in
            [("flow", self.flow_schema, flow::SCHEMA_VERSION), ("rollup", self.rollup_schema, rollup::SCHEMA_VERSION)]
        {
            if there > here {
                return Err(format!("{what} schema {there} is newer than {here} here: update the receiver first"));
            }
        }
        Ok(VERSION)
    }
}

/// What the receiver says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    Welcome {
        version: u16,
        wanted: Wanted,
    },
    Commit(Commit),
    /// The welcome of a copy: files that it has.
    Holds {
        version: u16,
        files: Vec<u64>,
    },
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Envelope {
    Schema { id: u8 },
    Flow { schema: u8, source: SourceId, seq: u64 },
    Rollups { from: Cursors, upto: Cursors, parts: u8 },
    Part { schema: u8, width_ms: i64 },
    Table(Arc<TableUpdate>),
    Routes(RouteBatch),
    Names(NameBatch),
    CopiedTable { generation: u64, update: Arc<TableUpdate> },
    File { generation: u64, meta: Vec<u8>, octets: u64 },
    Octets,
    State { generation: u64, files: Vec<u64>, rollups: Cursors },
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("link message cannot be read: {0}")]
    Envelope(#[from] postcard::Error),
    #[error("record batch cannot be carried: {0}")]
    Arrow(#[from] ArrowError),
    #[error("link message refers to schema {0}, which was not sent")]
    Schema(u8),
    #[error("record batch refers to octets that were not sent")]
    Body,
    #[error("link message comes out of turn")]
    Turn,
    #[error("file of {0} octets is larger than a link takes")]
    File(u64),
}

pub(crate) fn pack<T: Serialize>(value: &T) -> Result<FlightData, FrameError> {
    Ok(FlightData::new().with_app_metadata(postcard::to_stdvec(value)?))
}

pub(crate) fn unpack<T: DeserializeOwned>(data: &FlightData) -> Result<T, FrameError> {
    Ok(postcard::from_bytes(&data.app_metadata)?)
}

/// The sending side of one stream.
#[derive(Default)]
pub(crate) struct Encoder {
    schemas: Vec<SchemaRef>,
    /// Where the next new schema goes.
    next: usize,
    generator: IpcDataGenerator,
    options: IpcWriteOptions,
    context: IpcWriteContext,
}

impl Encoder {
    pub(crate) fn encode(&mut self, message: &Message, out: &mut impl Extend<FlightData>) -> Result<(), FrameError> {
        match message {
            Message::Flow(batch) => {
                let schema = self.schema(&batch.rows, out)?;
                let envelope = Envelope::Flow { schema, source: batch.source, seq: batch.seq };
                out.extend([self.rows(&batch.rows, &envelope)?]);
            }
            Message::Rollups(batch) => {
                let parts = u8::try_from(batch.partials.len()).map_err(|_| FrameError::Turn)?;
                let head = Envelope::Rollups { from: batch.from.clone(), upto: batch.upto.clone(), parts };
                out.extend([pack(&head)?]);
                for (width_ms, rows) in &batch.partials {
                    let schema = self.schema(rows, out)?;
                    out.extend([self.rows(rows, &Envelope::Part { schema, width_ms: *width_ms })?]);
                }
            }
            Message::Table(update) => out.extend([pack(&Envelope::Table(update.clone()))?]),
            Message::Routes(batch) => out.extend([pack(&Envelope::Routes(batch.clone()))?]),
            Message::Names(batch) => out.extend([pack(&Envelope::Names(batch.clone()))?]),
            Message::Copied(Copied::Table { generation, update }) => {
                out.extend([pack(&Envelope::CopiedTable { generation: *generation, update: update.clone() })?]);
            }
            Message::Copied(Copied::File { generation, meta, octets }) => {
                let length = octets.len() as u64;
                let head = Envelope::File { generation: *generation, meta: meta.clone(), octets: length };
                out.extend([pack(&head)?]);
                for start in (0..octets.len()).step_by(PIECE_OCTETS) {
                    let piece = octets.slice(start..octets.len().min(start + PIECE_OCTETS));
                    out.extend([pack(&Envelope::Octets)?.with_data_body(piece)]);
                }
            }
            Message::Copied(Copied::Commit { generation, files, rollups }) => {
                let (files, rollups) = (files.clone(), rollups.clone());
                out.extend([pack(&Envelope::State { generation: *generation, files, rollups })?]);
            }
        }
        Ok(())
    }

    /// Number of the batch's schema; sent before where the other end does not know it.
    fn schema(&mut self, rows: &RecordBatch, out: &mut impl Extend<FlightData>) -> Result<u8, FrameError> {
        let schema = rows.schema();
        if let Some(id) = self.schemas.iter().position(|known| Arc::ptr_eq(known, &schema) || *known == schema) {
            return Ok(id as u8);
        }
        let id = self.next;
        self.next = (self.next + 1) % SCHEMAS_MAX;
        let mut data: FlightData = SchemaAsIpc::new(&schema, &self.options).into();
        data.app_metadata = postcard::to_stdvec(&Envelope::Schema { id: id as u8 })?.into();
        if id == self.schemas.len() {
            self.schemas.push(schema);
        } else {
            self.schemas[id] = schema;
        }
        out.extend([data]);
        Ok(id as u8)
    }

    fn rows(&mut self, rows: &RecordBatch, envelope: &Envelope) -> Result<FlightData, FrameError> {
        // No column of ours is a dictionary.
        let mut tracker = DictionaryTracker::new(false);
        let (_, encoded) = self.generator.encode(rows, &mut tracker, &self.options, &mut self.context)?;
        let mut data: FlightData = encoded.into();
        data.app_metadata = postcard::to_stdvec(envelope)?.into();
        Ok(data)
    }
}

/// Rollups of which parts are missing.
struct Open {
    batch: RollupBatch,
    parts: usize,
}

/// A file of which octets are missing.
struct OpenFile {
    generation: u64,
    meta: Vec<u8>,
    octets: BytesMut,
    length: usize,
}

/// The receiving side of one stream.
#[derive(Default)]
pub(crate) struct Decoder {
    schemas: BTreeMap<u8, SchemaRef>,
    open: Option<Open>,
    file: Option<OpenFile>,
}

impl Decoder {
    /// The message that this piece completes.
    pub(crate) fn decode(&mut self, data: &FlightData) -> Result<Option<Message>, FrameError> {
        let envelope: Envelope = unpack(data)?;
        if self.open.is_some() && !matches!(envelope, Envelope::Schema { .. } | Envelope::Part { .. }) {
            return Err(FrameError::Turn);
        }
        if self.file.is_some() && !matches!(envelope, Envelope::Octets) {
            return Err(FrameError::Turn);
        }
        match envelope {
            Envelope::Schema { id } => {
                if usize::from(id) >= SCHEMAS_MAX {
                    return Err(FrameError::Schema(id));
                }
                self.schemas.insert(id, Arc::new(Schema::try_from(data)?));
                Ok(None)
            }
            Envelope::Flow { schema, source, seq } => {
                let rows = self.rows(data, schema)?;
                Ok(Some(Message::Flow(FlowBatch { source, seq, rows })))
            }
            Envelope::Rollups { from, upto, parts } => {
                let batch = RollupBatch { from, upto, partials: Vec::new() };
                self.open = Some(Open { batch, parts: usize::from(parts) });
                Ok(self.close())
            }
            Envelope::Part { schema, width_ms } => {
                let rows = self.rows(data, schema)?;
                self.open.as_mut().ok_or(FrameError::Turn)?.batch.partials.push((width_ms, rows));
                Ok(self.close())
            }
            Envelope::Table(update) => Ok(Some(Message::Table(update))),
            Envelope::Routes(batch) => Ok(Some(Message::Routes(batch))),
            Envelope::Names(batch) => Ok(Some(Message::Names(batch))),
            Envelope::CopiedTable { generation, update } => {
                Ok(Some(Message::Copied(Copied::Table { generation, update })))
            }
            Envelope::File { generation, meta, octets } => {
                if octets > FILE_OCTETS_MAX {
                    return Err(FrameError::File(octets));
                }
                self.file = Some(OpenFile { generation, meta, octets: BytesMut::new(), length: octets as usize });
                Ok(self.close_file())
            }
            Envelope::Octets => {
                let file = self.file.as_mut().ok_or(FrameError::Turn)?;
                if data.data_body.is_empty() || file.octets.len() + data.data_body.len() > file.length {
                    return Err(FrameError::Turn);
                }
                file.octets.extend_from_slice(&data.data_body);
                Ok(self.close_file())
            }
            Envelope::State { generation, files, rollups } => {
                Ok(Some(Message::Copied(Copied::Commit { generation, files, rollups })))
            }
        }
    }

    fn close_file(&mut self) -> Option<Message> {
        let file = self.file.take_if(|file| file.octets.len() == file.length)?;
        let OpenFile { generation, meta, octets, .. } = file;
        Some(Message::Copied(Copied::File { generation, meta, octets: octets.freeze() }))
    }

    fn close(&mut self) -> Option<Message> {
        let complete = |open: &mut Open| open.batch.partials.len() >= open.parts;
        self.open.take_if(complete).map(|open| Message::Rollups(open.batch))
    }

    fn rows(&self, data: &FlightData, schema: u8) -> Result<RecordBatch, FrameError> {
        let schema = self.schemas.get(&schema).ok_or(FrameError::Schema(schema))?;
        // The reader panics on offsets that lie outside the body: a wrong sender must not end the stream's task so.
        let read = AssertUnwindSafe(|| flight_data_to_arrow_batch(data, schema.clone(), &HashMap::new()));
        Ok(catch_unwind(read).map_err(|_| FrameError::Body)??)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, UInt32Array, UInt64Array};

    use super::*;

    fn rows(names: &[&str], values: &[u64]) -> RecordBatch {
        let column = || -> ArrayRef { Arc::new(UInt64Array::from(values.to_vec())) };
        RecordBatch::try_from_iter(names.iter().map(|name| (*name, column()))).expect("columns of one length")
    }

    fn flow(seq: u64, rows: RecordBatch) -> Message {
        Message::Flow(FlowBatch { source: SourceId(7), seq, rows })
    }

    fn pieces(encoder: &mut Encoder, message: &Message) -> Vec<FlightData> {
        let mut out = Vec::new();
        encoder.encode(message, &mut out).expect("encodes");
        out
    }

    fn through(encoder: &mut Encoder, decoder: &mut Decoder, message: &Message) -> Vec<Message> {
        let pieces = pieces(encoder, message);
        pieces.iter().filter_map(|piece| decoder.decode(piece).expect("decodes")).collect()
    }

    #[test]
    fn batches_come_out_as_they_went_in_and_schemas_travel_once() {
        let (mut encoder, mut decoder) = (Encoder::default(), Decoder::default());
        for round in 0..3u64 {
            for width in 1..=40usize {
                let names: Vec<String> = (0..width).map(|at| format!("c{at}")).collect();
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                let sent = rows(&names, &[round, 2, 3]).slice(1, 2);
                let received = through(&mut encoder, &mut decoder, &flow(round, sent.clone()));
                let [Message::Flow(batch)] = &received[..] else { panic!("one batch, not {received:?}") };
                assert_eq!((batch.seq, batch.source, &batch.rows), (round, SourceId(7), &sent));
            }
        }
        let same = flow(9, rows(&["c0", "c1"], &[1]));
        through(&mut encoder, &mut decoder, &same);
        assert_eq!(pieces(&mut encoder, &same).len(), 1, "the schema is known");
    }

    #[test]
    fn rollups_are_whole_or_not_at_all() {
        let (mut encoder, mut decoder) = (Encoder::default(), Decoder::default());
        let narrow = rows(&["window", "octets"], &[1, 2]);
        let wide = rows(&["window", "octets"], &[3]);
        let (from, upto): (Cursors, Cursors) = ([(SourceId(7), 3)].into(), [(SourceId(7), 8)].into());
        let partials = vec![(60_000, narrow), (300_000, wide)];
        let message = Message::Rollups(RollupBatch { from, upto: upto.clone(), partials: partials.clone() });
        let received = through(&mut encoder, &mut decoder, &message);
        let [Message::Rollups(batch)] = &received[..] else { panic!("one batch, not {received:?}") };
        assert_eq!((&batch.partials, &batch.upto), (&partials, &upto));

        let pieces = pieces(&mut encoder, &message);
        assert!(decoder.decode(&pieces[0]).expect("a head").is_none());
        let error = decoder.decode(&pieces[0]).expect_err("parts are missing");
        assert!(matches!(error, FrameError::Turn), "{error}");
    }

    #[test]
    fn files_travel_in_pieces() {
        let (mut encoder, mut decoder) = (Encoder::default(), Decoder::default());
        for length in [0, 1, PIECE_OCTETS - 1, PIECE_OCTETS, 2 * PIECE_OCTETS + 7] {
            let octets: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
            let sent = Copied::File { generation: 3, meta: vec![1, 2], octets: octets.clone().into() };
            let pieces = pieces(&mut encoder, &Message::Copied(sent));
            assert_eq!(pieces.len(), 1 + length.div_ceil(PIECE_OCTETS));
            let received: Vec<Message> =
                pieces.iter().filter_map(|piece| decoder.decode(piece).expect("decodes")).collect();
            let [Message::Copied(Copied::File { generation: 3, meta, octets: came })] = &received[..] else {
                panic!("one file, not {received:?}")
            };
            assert_eq!((&meta[..], &came[..]), (&[1, 2][..], &octets[..]));
        }
        let head = |octets| pack(&Envelope::File { generation: 1, meta: Vec::new(), octets }).expect("packs");
        let piece = |length| pack(&Envelope::Octets).expect("packs").with_data_body(vec![0; length]);
        let error = decoder.decode(&head(FILE_OCTETS_MAX + 1)).expect_err("too large");
        assert!(matches!(error, FrameError::File(_)), "{error}");
        assert!(matches!(decoder.decode(&piece(1)), Err(FrameError::Turn)), "no head");
        for wrong in [piece(3), piece(0), head(2)] {
            assert!(decoder.decode(&head(2)).expect("a head").is_none());
            assert!(matches!(decoder.decode(&wrong), Err(FrameError::Turn)));
            decoder.file = None;
        }
    }

    #[test]
    fn hostile_pieces_are_errors() {
        let mut decoder = Decoder::default();
        for length in 0..64u8 {
            for fill in [0, 1, 2, 3, 127, 255] {
                let octets = vec![fill; usize::from(length)];
                if let Ok(Some(message)) = decoder.decode(&FlightData::new().with_app_metadata(octets)) {
                    assert!(!matches!(message, Message::Flow(_)), "no rows without a schema");
                }
                (decoder.open, decoder.file) = (None, None);
            }
        }
        let flow = pieces(&mut Encoder::default(), &flow(0, rows(&["a"], &[1])));
        let error = Decoder::default().decode(&flow[1]).expect_err("no schema yet");
        assert!(matches!(error, FrameError::Schema(0)), "{error}");
        let mut known = Decoder::default();
        known.decode(&flow[0]).expect("a schema");
        let mut cut = flow[1].clone();
        cut.data_body = cut.data_body.slice(..4);
        assert!(known.decode(&cut).is_err());
        let mut other = Decoder::default();
        let narrow = RecordBatch::try_from_iter([("a", Arc::new(UInt32Array::from(vec![1])) as ArrayRef)]);
        let schema = pieces(&mut Encoder::default(), &super::tests::flow(0, narrow.expect("one column")));
        other.decode(&schema[0]).expect("a schema");
        let read = other.decode(&flow[1]);
        assert!(!matches!(read, Ok(None)), "rows of another schema are read as such, or refused");
    }

    #[test]
    fn versions_are_agreed_or_explained() {
        let hello = Hello::new(Kind::Flows);
        assert_eq!(hello.agree(), Ok(VERSION));
        let newer = Hello { version_min: VERSION + 1, version_max: VERSION + 3, ..hello.clone() };
        assert!(newer.agree().expect_err("too new").contains("update"));
        let schema = Hello { flow_schema: flow::SCHEMA_VERSION + 1, ..hello };
        assert!(schema.agree().expect_err("too new").contains("flow schema"));
    }

    #[test]
    fn logs_begin_again_at_the_lower_cursor() {
        let (a, b) = (SourceId(1), SourceId(2));
        let wanted = Wanted { flows: [(a, 9), (b, 4)].into(), rollups: [(a, 5)].into() };
        assert_eq!(wanted.lowest(), [(a, 5), (b, 0)].into());
    }
}
