//! Flow rows under construction: a growable, typed buffer a column.
//!
//! Values come for N rows at once ([`Lane::extend`], [`Lane::fill`]) or one by
//! one; a column that nobody writes costs nothing. Rows become part of the
//! batch with [`FlowBuilder::commit`]; what was written for rows that are not
//! committed goes with [`FlowBuilder::rollback`].

use std::marker::PhantomData;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanBufferBuilder, FixedSizeBinaryArray, PrimitiveArray, RecordBatch};
use arrow::buffer::{Buffer, NullBuffer, ScalarBuffer};
use arrow::datatypes::{
    ArrowPrimitiveType, Field, Int64Type, Schema, SchemaRef, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};

use super::{Column, SCHEMA_VERSION};
use crate::address::Address;
use crate::message::{SourceId, ingest_seq};

/// An address column's element: the sixteen octets in memory order, as an integer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Octets16(i128);

impl Octets16 {
    #[inline]
    pub const fn new(octets: [u8; 16]) -> Self {
        Self(i128::from_ne_bytes(octets))
    }

    /// The IPv4 address in network order, mapped into IPv6.
    #[inline]
    pub const fn from_v4(octets: [u8; 4]) -> Self {
        Self::new(Address::from_v4(octets).0)
    }

    #[inline]
    pub const fn octets(self) -> [u8; 16] {
        self.0.to_ne_bytes()
    }

    #[inline]
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }
}

impl From<Address> for Octets16 {
    fn from(address: Address) -> Self {
        Self::new(address.0)
    }
}

/// A column of known type, and where the builder keeps it.
#[derive(Debug)]
pub struct Slot<T> {
    column: Column,
    index: u8,
    element: PhantomData<T>,
}

impl<T> Clone for Slot<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Slot<T> {}

impl<T> Slot<T> {
    pub const fn column(self) -> Column {
        self.column
    }
}

/// What a column may hold.
pub trait Element: Copy + Default + PartialEq + sealed::Sealed + 'static {
    #[doc(hidden)]
    fn lanes(builder: &FlowBuilder) -> &[Lane<Self>];
    #[doc(hidden)]
    fn lanes_mut(builder: &mut FlowBuilder) -> &mut [Lane<Self>];
    #[doc(hidden)]
    fn array(values: Vec<Self>, nulls: Option<NullBuffer>) -> ArrayRef;
}

mod sealed {
    pub trait Sealed {}
}

#[cfg(test)]
macro_rules! count {
    ($($name:ident)*) => { [$(stringify!($name)),*].len() };
}

macro_rules! lanes {
    ($($element:ty, $lanes:ident, $array:expr => { $($name:ident $column:ident),* $(,)? })*) => {
        /// The columns that a decoder fills, by type.
        pub mod slot {
            use super::{Column, Octets16, PhantomData, Slot};
            $(lanes!(@slots $element, 0u8, $($name $column),*);)*
        }

        /// Flow rows that are being decoded.
        #[derive(Debug)]
        pub struct FlowBuilder {
            rows: usize,
            capacity: usize,
            schema: Option<(u128, SchemaRef)>,
            $($lanes: Vec<Lane<$element>>,)*
        }

        impl FlowBuilder {
            /// For about so many rows a batch.
            pub fn with_capacity(rows: usize) -> Self {
                Self {
                    rows: 0,
                    capacity: rows,
                    schema: None,
                    $($lanes: vec![$(Lane::new(Column::$column, rows)),*],)*
                }
            }

            /// Forgets what was written for rows that are not committed.
            pub fn rollback(&mut self) {
                $(for lane in &mut self.$lanes { lane.truncate(self.rows); })*
            }

            /// Takes the committed rows; `None` where there are none.
            pub fn finish(&mut self) -> Option<RecordBatch> {
                self.rollback();
                if self.rows == 0 {
                    return None;
                }
                let mut arrays: [Option<ArrayRef>; Column::ALL.len()] = [const { None }; Column::ALL.len()];
                $(for lane in &mut self.$lanes {
                    if let Some(array) = lane.take(self.rows, self.capacity) {
                        arrays[lane.column as usize] = Some(array);
                    }
                })*
                self.rows = 0;
                let present = arrays.iter().enumerate()
                    .fold(0u128, |mask, (column, array)| mask | u128::from(array.is_some()) << column);
                let schema = self.schema_of(present);
                // Every array has `rows` values and the type of its column, so this cannot fail.
                RecordBatch::try_new(schema, arrays.into_iter().flatten().collect()).ok()
            }
        }

        $(impl sealed::Sealed for $element {}

        impl Element for $element {
            #[inline]
            fn lanes(builder: &FlowBuilder) -> &[Lane<Self>] {
                &builder.$lanes
            }

            #[inline]
            fn lanes_mut(builder: &mut FlowBuilder) -> &mut [Lane<Self>] {
                &mut builder.$lanes
            }

            fn array(values: Vec<Self>, nulls: Option<NullBuffer>) -> ArrayRef {
                $array(values, nulls)
            }
        })*

        /// Columns that a builder makes.
        #[cfg(test)]
        const BUILT: usize = 0 $(+ count!($($name)*))*;
    };
    (@slots $element:ty, $index:expr, $name:ident $column:ident $(, $more:ident $column_more:ident)*) => {
        pub const $name: Slot<$element> = Slot { column: Column::$column, index: $index, element: PhantomData };
        lanes!(@slots $element, $index + 1, $($more $column_more),*);
    };
    (@slots $element:ty, $index:expr,) => {};
}

fn primitive<T: ArrowPrimitiveType>(values: Vec<T::Native>, nulls: Option<NullBuffer>) -> ArrayRef {
    Arc::new(PrimitiveArray::<T>::new(ScalarBuffer::from(values), nulls))
}

fn addresses(values: Vec<Octets16>, nulls: Option<NullBuffer>) -> ArrayRef {
    let values: Vec<i128> = values.into_iter().map(|octets| octets.0).collect();
    Arc::new(FixedSizeBinaryArray::new(16, Buffer::from_vec(values), nulls))
}

lanes! {
    i64, i64s, primitive::<Int64Type> => {
        TIME_RECEIVED TimeReceived, FIRST First, LAST Last,
        EXPORTED_FIRST ExportedFirst, EXPORTED_LAST ExportedLast,
    }
    u64, u64s, primitive::<UInt64Type> => {
        OCTETS Octets, PACKETS Packets, QUALITY Quality,
        SRC_MAC SrcMac, DST_MAC DstMac, APPLICATION_ID ApplicationId,
    }
    u32, u32s, primitive::<UInt32Type> => {
        EXPORTER_ID ExporterId, OBSERVATION_DOMAIN ObservationDomain, IN_IF InIf, OUT_IF OutIf,
        SAMPLING_NUM SamplingNum, SAMPLING_DEN SamplingDen, FLOW_LABEL FlowLabel, IP_ID IpId,
        RECORD_SRC_AS RecordSrcAs, RECORD_DST_AS RecordDstAs,
        MPLS_1 Mpls1, MPLS_2 Mpls2, MPLS_3 Mpls3, MPLS_4 Mpls4,
        IN_VRF InVrf, OUT_VRF OutVrf, TUNNEL_ID TunnelId,
    }
    u16, u16s, primitive::<UInt16Type> => {
        ETHER_TYPE EtherType, SRC_PORT SrcPort, DST_PORT DstPort, TCP_FLAGS TcpFlags, ICMP Icmp,
        FRAGMENT_OFFSET FragmentOffset, SRC_VLAN SrcVlan, DST_VLAN DstVlan,
        NAT_SRC_PORT NatSrcPort, NAT_DST_PORT NatDstPort,
        INNER_SRC_PORT InnerSrcPort, INNER_DST_PORT InnerDstPort,
    }
    u8, u8s, primitive::<UInt8Type> => {
        TIME_SOURCE TimeSource, OBSERVATION Observation, SAMPLING_SOURCE SamplingSource,
        OCTETS_LAYER OctetsLayer, PROTO Proto, TOS Tos, TTL Ttl, SRC_MASK SrcMask, DST_MASK DstMask,
        FORWARDING_STATUS ForwardingStatus, EVENT Event, TUNNEL Tunnel, INNER_PROTO InnerProto,
    }
    Octets16, octets16s, addresses => {
        EXPORTER_ADDR ExporterAddr, UDP_SOURCE UdpSource, SRC_ADDR SrcAddr, DST_ADDR DstAddr,
        RECORD_NEXT_HOP RecordNextHop, RECORD_BGP_NEXT_HOP RecordBgpNextHop,
        NAT_SRC_ADDR NatSrcAddr, NAT_DST_ADDR NatDstAddr,
        INNER_SRC_ADDR InnerSrcAddr, INNER_DST_ADDR InnerDstAddr,
    }
}

impl FlowBuilder {
    /// Committed rows.
    #[inline]
    pub fn len(&self) -> usize {
        self.rows
    }

    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The column, padded up to the first row that is not committed.
    #[inline]
    pub fn lane<T: Element>(&mut self, slot: Slot<T>) -> &mut Lane<T> {
        let rows = self.rows;
        let lane = &mut T::lanes_mut(self)[usize::from(slot.index)];
        if lane.len() < rows {
            lane.pad(rows);
        }
        lane
    }

    /// What was written to the column for rows that are not committed.
    #[inline]
    pub fn uncommitted<T: Element>(&mut self, slot: Slot<T>) -> &[T] {
        let rows = self.rows;
        let lane = self.lane(slot);
        lane.flush();
        &lane.values[rows..]
    }

    /// Makes the next `rows` rows part of the batch.
    #[inline]
    pub fn commit(&mut self, rows: usize) {
        self.rows += rows;
    }

    fn schema_of(&mut self, present: u128) -> SchemaRef {
        if let Some((mask, schema)) = &self.schema
            && *mask == present
        {
            return schema.clone();
        }
        let fields = Column::ALL.iter().filter(|column| present >> (**column as u8) & 1 == 1).map(|c| c.field());
        let schema = schema_with_version(fields.collect());
        self.schema = Some((present, schema.clone()));
        schema
    }
}

fn schema_with_version(fields: Vec<Field>) -> SchemaRef {
    let metadata = [("benocs.flow.version".to_owned(), SCHEMA_VERSION.to_string())];
    Arc::new(Schema::new_with_metadata(fields, metadata.into()))
}

/// One column. Equal values that follow each other wait as a run, so that what
/// is the same in every record of an exporter is written once a batch.
#[derive(Debug)]
pub struct Lane<T> {
    column: Column,
    nullable: bool,
    values: Vec<T>,
    run: T,
    run_len: usize,
    /// From the first null on.
    validity: Option<BooleanBufferBuilder>,
    capacity: usize,
}

impl<T: Element> Lane<T> {
    fn new(column: Column, capacity: usize) -> Self {
        Self {
            column,
            nullable: column.nullable(),
            values: Vec::new(),
            run: T::default(),
            run_len: 0,
            validity: None,
            capacity,
        }
    }

    #[inline]
    fn len(&self) -> usize {
        self.values.len() + self.run_len
    }

    #[inline]
    fn flush(&mut self) {
        if self.run_len > 0 {
            self.write_run();
        }
    }

    fn write_run(&mut self) {
        self.make_room();
        self.values.resize(self.values.len() + self.run_len, self.run);
        self.run_len = 0;
    }

    #[inline]
    fn make_room(&mut self) {
        if self.values.capacity() == 0 {
            self.values.reserve(self.capacity);
        }
    }

    #[inline]
    fn mark_valid(&mut self, rows: usize) {
        if let Some(validity) = &mut self.validity {
            validity.append_n(rows, true);
        }
    }

    /// The same value for `rows` rows.
    #[inline]
    pub fn fill(&mut self, rows: usize, value: T) {
        if self.run != value {
            self.flush();
            self.run = value;
        }
        self.run_len += rows;
        self.mark_valid(rows);
    }

    /// One row.
    #[inline]
    pub fn push(&mut self, value: T) {
        self.fill(1, value);
    }

    /// One row each.
    #[inline]
    pub fn extend(&mut self, values: impl ExactSizeIterator<Item = T>) {
        self.flush();
        self.make_room();
        let before = self.values.len();
        self.values.extend(values);
        self.mark_valid(self.values.len() - before);
    }

    /// One row; nothing where the column is not nullable is the type's default.
    #[inline]
    pub fn push_option(&mut self, value: Option<T>) {
        match value {
            Some(value) => self.push(value),
            None => self.pad(self.len() + 1),
        }
    }

    /// Nulls, or zeros where the column has none, up to `rows` rows.
    fn pad(&mut self, rows: usize) {
        let before = self.len();
        if !self.nullable {
            self.fill(rows - before, T::default());
            return;
        }
        self.flush();
        self.make_room();
        let capacity = self.capacity;
        let validity = self.validity.get_or_insert_with(|| {
            let mut validity = BooleanBufferBuilder::new(capacity.max(rows));
            validity.append_n(before, true);
            validity
        });
        validity.append_n(rows - before, false);
        self.values.resize(rows, T::default());
    }

    fn truncate(&mut self, rows: usize) {
        if self.len() <= rows {
            return;
        }
        self.flush();
        self.values.truncate(rows);
        if let Some(validity) = &mut self.validity {
            validity.truncate(rows);
        }
    }

    fn take(&mut self, rows: usize, capacity: usize) -> Option<ArrayRef> {
        if self.nullable && self.len() == 0 {
            return None;
        }
        if self.len() < rows {
            self.pad(rows);
        }
        self.flush();
        self.capacity = capacity.max(rows);
        let nulls = self.validity.take().map(|mut validity| NullBuffer::new(validity.finish()));
        Some(T::array(std::mem::take(&mut self.values), nulls))
    }
}

/// The batch with its identity in front: log `source`, batch number `seq`.
pub fn with_identity(rows: RecordBatch, source: SourceId, seq: u64) -> RecordBatch {
    let first = ingest_seq(seq);
    let count = rows.num_rows();
    let sources = primitive::<UInt64Type>(vec![source.0; count], None);
    let seqs = primitive::<UInt64Type>((first..first + count as u64).collect(), None);
    let schema = rows.schema();
    let fields = [Column::IngestSource, Column::IngestSeq].iter().map(|column| Arc::new(column.field()));
    let schema = Schema::new_with_metadata(
        fields.chain(schema.fields().iter().cloned()).collect::<Vec<_>>(),
        schema.metadata().clone(),
    );
    let arrays = [sources, seqs].into_iter().chain(rows.columns().iter().cloned()).collect();
    // Two more columns of the same length: this cannot fail; if it did, the rows would still not be lost.
    RecordBatch::try_new(Arc::new(schema), arrays).unwrap_or(rows)
}

#[cfg(test)]
mod tests {
    use arrow::array::{Array, AsArray};

    use super::*;
    use crate::flow;

    #[test]
    fn every_column_that_is_not_derived_has_a_slot() {
        let wanted = Column::ALL.iter().filter(|column| !column.is_derived()).count() - 2;
        assert_eq!(BUILT, wanted);
    }

    #[test]
    fn absent_columns_are_absent_and_late_ones_are_null_before() {
        let mut builder = FlowBuilder::with_capacity(8);
        builder.lane(slot::OCTETS).extend([1, 2, 3].into_iter());
        builder.commit(3);
        builder.lane(slot::OCTETS).fill(2, 9);
        builder.lane(slot::IN_IF).fill(2, 7);
        builder.commit(2);
        builder.lane(slot::OCTETS).push(4);
        builder.lane(slot::SRC_VLAN).push(1);
        builder.rollback();
        builder.lane(slot::OCTETS).push(5);
        builder.commit(1);
        let batch = builder.finish().expect("rows");
        assert_eq!(batch.num_rows(), 6);
        let octets = flow::column(&batch, Column::Octets).expect("octets").as_primitive::<UInt64Type>();
        assert_eq!(octets.values(), &[1, 2, 3, 9, 9, 5]);
        let in_if = flow::column(&batch, Column::InIf).expect("in_if").as_primitive::<UInt32Type>();
        assert_eq!(in_if.iter().collect::<Vec<_>>(), [None, None, None, Some(7), Some(7), None]);
        let ports = flow::column(&batch, Column::SrcPort).expect("src_port").as_primitive::<UInt16Type>();
        assert_eq!(ports.values(), &[0; 6]);
        assert!(flow::column(&batch, Column::SrcVlan).is_none_or(|vlan| vlan.null_count() == 6));
        assert!(flow::column(&batch, Column::OutIf).is_none());
        assert!(builder.is_empty() && builder.finish().is_none());
    }

    #[test]
    fn columns_are_in_canonical_order_behind_their_identity() {
        let mut builder = FlowBuilder::with_capacity(2);
        builder.lane(slot::SRC_ADDR).push(Octets16::from_v4([192, 0, 2, 1]));
        builder.commit(1);
        let batch = with_identity(builder.finish().expect("rows"), SourceId(5), 3);
        let order: Vec<_> = batch.schema().fields().iter().filter_map(|field| Column::by_name(field.name())).collect();
        assert!(order.is_sorted() && order.len() == batch.num_columns());
        assert_eq!(batch.column(1).as_primitive::<UInt64Type>().value(0), 3 << 16);
        let source = flow::column(&batch, Column::SrcAddr).and_then(|array| flow::addresses(array.as_ref()));
        assert_eq!(source, Some(&[Address::from_v4([192, 0, 2, 1]).0][..]));
    }
}
