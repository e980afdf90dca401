//! A batch in few octets: the payload of a frame.
//!
//! ```text
//! rows u32, columns u16, then per column:
//!   name length u8, name; form u8; width u8
//!   validity: u8 0, or 1 and a bit a row (LSB first, padded to octets)
//!   base: as many octets as a value has, little endian
//!   data: rows * width octets
//! ```
//!
//! Values are differences from the smallest one of their column, in 0, 1, 2, 4
//! or 8 octets: most columns of an exporter's rows are constant or nearly so.
//! Addresses are 0 octets where all are equal, 4 where all are IPv4, else 16.
//! Columns have names, not numbers, so that another version can read the log.

use std::mem::size_of;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, FixedSizeBinaryArray, PrimitiveArray, RecordBatch};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, UInt8Type, UInt16Type, UInt32Type, UInt64Type};
use arrow::error::ArrowError;
use benocs_model::flow::{Column, SCHEMA_VERSION, addresses};

/// Constant columns take no room in a frame, but they do in memory.
const ROWS_MAX: usize = 1 << 20;
const V4_PREFIX: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

/// An integer column's element.
trait Whole: Copy + Ord + Default {
    fn bits(self) -> u64;
    fn from_bits(bits: u64) -> Self;
}

macro_rules! whole {
    ($($type:ty)*) => { $(impl Whole for $type {
        fn bits(self) -> u64 { self as u64 }
        fn from_bits(bits: u64) -> Self { bits as Self }
    })* };
}

whole!(u8 u16 u32 u64 i64);

fn wrong(what: impl Into<String>) -> ArrowError {
    ArrowError::IpcError(what.into())
}

/// Appends the batch to `out`.
pub(crate) fn encode(rows: &RecordBatch, out: &mut Vec<u8>) -> Result<(), ArrowError> {
    out.extend_from_slice(&(rows.num_rows() as u32).to_le_bytes());
    out.extend_from_slice(&(rows.num_columns() as u16).to_le_bytes());
    for (field, array) in rows.schema_ref().fields().iter().zip(rows.columns()) {
        let name = field.name().as_bytes();
        out.push(u8::try_from(name.len()).map_err(|_| wrong("the name of a column is too long"))?);
        out.extend_from_slice(name);
        match array.data_type() {
            DataType::UInt8 => whole::<UInt8Type>(array, 1, out)?,
            DataType::UInt16 => whole::<UInt16Type>(array, 2, out)?,
            DataType::UInt32 => whole::<UInt32Type>(array, 4, out)?,
            DataType::UInt64 => whole::<UInt64Type>(array, 8, out)?,
            DataType::Int64 => whole::<Int64Type>(array, 9, out)?,
            DataType::FixedSizeBinary(16) => sixteen(array, out)?,
            other => return Err(wrong(format!("a flow row has no column of type {other}"))),
        }
    }
    Ok(())
}

fn validity(array: &dyn Array, out: &mut Vec<u8>) {
    match array.nulls().filter(|nulls| nulls.null_count() > 0) {
        None => out.push(0),
        Some(nulls) => {
            out.push(1);
            // From bit 0 on, whatever slice of a larger one this is.
            let bits = nulls.inner().sliced();
            out.extend_from_slice(&bits.as_slice()[..array.len().div_ceil(8)]);
        }
    }
}

fn whole<T: ArrowPrimitiveType<Native: Whole>>(
    array: &ArrayRef,
    form: u8,
    out: &mut Vec<u8>,
) -> Result<(), ArrowError> {
    let array = array.as_any().downcast_ref::<PrimitiveArray<T>>().ok_or_else(|| wrong("type of a column"))?;
    let values: &[T::Native] = array.values();
    let first = values.first().copied().unwrap_or_default();
    let (low, high) = values.iter().fold((first, first), |(low, high), &value| (low.min(value), high.max(value)));
    let base = low.bits();
    let width = match high.bits().wrapping_sub(base) {
        0 => 0u8,
        1..=0xff => 1,
        0x100..=0xffff => 2,
        0x1_0000..=0xffff_ffff => 4,
        _ => 8,
    };
    out.extend_from_slice(&[form, width]);
    validity(array, out);
    out.extend_from_slice(&base.to_le_bytes()[..size_of::<T::Native>()]);
    let at = out.len();
    out.resize(at + values.len() * usize::from(width), 0);
    let data = &mut out[at..];
    macro_rules! narrow {
        ($type:ty) => {
            for (octets, value) in data.as_chunks_mut().0.iter_mut().zip(values) {
                *octets = (value.bits().wrapping_sub(base) as $type).to_le_bytes();
            }
        };
    }
    match width {
        0 => {}
        1 => narrow!(u8),
        2 => narrow!(u16),
        4 => narrow!(u32),
        _ => narrow!(u64),
    }
    Ok(())
}

fn sixteen(array: &ArrayRef, out: &mut Vec<u8>) -> Result<(), ArrowError> {
    let values = addresses(array).ok_or_else(|| wrong("type of a column"))?;
    let first = values.first().copied().unwrap_or_default();
    let is_v4 = |value: &[u8; 16]| value[..12] == V4_PREFIX;
    let width = if values.iter().all(|value| *value == first) {
        0
    } else if values.iter().all(is_v4) {
        4
    } else {
        16
    };
    out.extend_from_slice(&[16, width]);
    validity(array, out);
    out.extend_from_slice(&first);
    match width {
        0 => {}
        4 => out.extend(values.iter().flat_map(|value| [value[12], value[13], value[14], value[15]])),
        _ => out.extend_from_slice(values.as_flattened()),
    }
    Ok(())
}

/// Octets that are taken one after the other.
struct Octets<'a>(&'a [u8]);

impl<'a> Octets<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], ArrowError> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or_else(|| wrong("a frame ends too early"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ArrowError> {
        self.take(N).map(|octets| std::array::from_fn(|index| octets[index]))
    }
}

/// The batch that was encoded.
pub(crate) fn decode(payload: &[u8]) -> Result<RecordBatch, ArrowError> {
    let mut octets = Octets(payload);
    let rows = u32::from_le_bytes(octets.array()?) as usize;
    let columns = u16::from_le_bytes(octets.array()?);
    if rows > ROWS_MAX {
        return Err(wrong("more rows than a batch has"));
    }
    let mut fields: Vec<Field> = Vec::with_capacity(usize::from(columns));
    let mut arrays: Vec<ArrayRef> = Vec::with_capacity(usize::from(columns));
    for _ in 0..columns {
        let [length] = octets.array()?;
        let name = std::str::from_utf8(octets.take(usize::from(length))?).map_err(|_| wrong("name of a column"))?;
        let [form, width] = octets.array()?;
        let nulls = match octets.array()? {
            [0] => None,
            _ => {
                let bits = Buffer::from(octets.take(rows.div_ceil(8))?);
                Some(NullBuffer::new(BooleanBuffer::new(bits, 0, rows)))
            }
        };
        let array = match form {
            1 => widen::<UInt8Type>(&mut octets, rows, width, nulls)?,
            2 => widen::<UInt16Type>(&mut octets, rows, width, nulls)?,
            4 => widen::<UInt32Type>(&mut octets, rows, width, nulls)?,
            8 => widen::<UInt64Type>(&mut octets, rows, width, nulls)?,
            9 => widen::<Int64Type>(&mut octets, rows, width, nulls)?,
            16 => widen_sixteen(&mut octets, rows, width, nulls)?,
            other => return Err(wrong(format!("a column of form {other}"))),
        };
        // A column that this version does not know is left out; nothing here can say what it meant.
        if let Some(column) = Column::by_name(name) {
            fields.push(column.field());
            arrays.push(array);
        }
    }
    RecordBatch::try_new(schema(fields), arrays)
}

fn schema(fields: Vec<Field>) -> SchemaRef {
    let metadata = [("benocs.flow.version".to_owned(), SCHEMA_VERSION.to_string())];
    Arc::new(Schema::new_with_metadata(fields, metadata.into()))
}

fn widen<T: ArrowPrimitiveType<Native: Whole>>(
    octets: &mut Octets<'_>,
    rows: usize,
    width: u8,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef, ArrowError> {
    let mut base = [0; 8];
    let size = size_of::<T::Native>();
    base[..size].copy_from_slice(octets.take(size)?);
    let base = u64::from_le_bytes(base);
    let data = octets.take(rows.checked_mul(usize::from(width)).ok_or_else(|| wrong("rows of a frame"))?)?;
    macro_rules! wide {
        ($type:ty) => {{
            let chunks = data.as_chunks::<{ size_of::<$type>() }>().0;
            let widen = |octets: &[u8; size_of::<$type>()]| {
                T::Native::from_bits(base.wrapping_add(u64::from(<$type>::from_le_bytes(*octets))))
            };
            chunks.iter().map(widen).collect()
        }};
    }
    let values: Vec<T::Native> = match width {
        0 => vec![T::Native::from_bits(base); rows],
        1 => wide!(u8),
        2 => wide!(u16),
        4 => wide!(u32),
        8 => wide!(u64),
        other => return Err(wrong(format!("values of {other} octets"))),
    };
    Ok(Arc::new(PrimitiveArray::<T>::try_new(ScalarBuffer::from(values), nulls)?))
}

fn widen_sixteen(
    octets: &mut Octets<'_>,
    rows: usize,
    width: u8,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef, ArrowError> {
    let first: [u8; 16] = octets.array()?;
    let data = octets.take(rows.checked_mul(usize::from(width)).ok_or_else(|| wrong("rows of a frame"))?)?;
    let mapped = |octets: &[u8; 4]| {
        let mut address = first;
        address[..12].copy_from_slice(&V4_PREFIX);
        address[12..].copy_from_slice(octets);
        i128::from_ne_bytes(address)
    };
    let values: Vec<i128> = match width {
        0 => vec![i128::from_ne_bytes(first); rows],
        4 => data.as_chunks::<4>().0.iter().map(mapped).collect(),
        16 => data.as_chunks::<16>().0.iter().map(|octets| i128::from_ne_bytes(*octets)).collect(),
        other => return Err(wrong(format!("addresses of {other} octets"))),
    };
    Ok(Arc::new(FixedSizeBinaryArray::try_new(16, Buffer::from_vec(values), nulls)?))
}

#[cfg(test)]
mod tests {
    use benocs_model::flow::builder::{FlowBuilder, Octets16, slot};
    use proptest::prelude::*;

    use super::*;

    type Row = (i64, u64, u32, Option<u16>, Option<u8>, [u8; 16], Option<[u8; 4]>);

    fn batch(rows: &[Row]) -> RecordBatch {
        let mut builder = FlowBuilder::with_capacity(rows.len());
        for &(first, octets, interface, flags, tos, address, next_hop) in rows {
            builder.lane(slot::FIRST).push(first);
            builder.lane(slot::OCTETS).push(octets);
            builder.lane(slot::IN_IF).push(interface);
            builder.lane(slot::TCP_FLAGS).push_option(flags);
            builder.lane(slot::TOS).push_option(tos);
            builder.lane(slot::SRC_ADDR).push(Octets16::new(address));
            builder.lane(slot::RECORD_NEXT_HOP).push_option(next_hop.map(Octets16::from_v4));
            builder.commit(1);
        }
        builder.finish().unwrap()
    }

    fn round_trip(rows: &RecordBatch) -> RecordBatch {
        let mut octets = Vec::new();
        encode(rows, &mut octets).unwrap();
        decode(&octets).unwrap()
    }

    #[test]
    fn extremes_survive() {
        let rows = [
            (i64::MIN, u64::MAX, 0, None, Some(255), [0xff; 16], None),
            (i64::MAX, 0, u32::MAX, Some(u16::MAX), None, [0; 16], Some([255; 4])),
        ];
        let rows = batch(&rows);
        assert_eq!(round_trip(&rows), rows);
        let part = rows.slice(1, 1);
        assert_eq!(round_trip(&part), part);
    }

    #[test]
    fn rows_of_one_exporter_are_small() {
        let row = |n: u8| (1_750_000_000_000 + i64::from(n), 1500, 7, Some(16), Some(0), [n; 16], Some([10, 0, 0, 1]));
        let rows = batch(&(0..200).map(row).collect::<Vec<_>>());
        let mut octets = Vec::new();
        encode(&rows, &mut octets).unwrap();
        // One octet of time and sixteen of address a row; all else is constant.
        assert!(octets.len() < 200 * 17 + 2_000, "{}", octets.len());
    }

    prop_compose! {
        fn row()(
            first in prop_oneof![any::<i64>(), 0i64..300, Just(1_750_000_000_000)],
            octets in prop_oneof![any::<u64>(), 0u64..70_000],
            interface in prop_oneof![any::<u32>(), 0u32..3],
            flags in any::<Option<u16>>(),
            tos in any::<Option<u8>>(),
            v4 in any::<Option<[u8; 4]>>(),
            address in any::<[u8; 16]>(),
            next_hop in any::<Option<[u8; 4]>>(),
        ) -> Row {
            let address = v4.map_or(address, |v4| Octets16::from_v4(v4).octets());
            (first, octets, interface, flags, tos, address, next_hop)
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(rows in proptest::collection::vec(row(), 1..80), at in 0usize..80, len in 0usize..80) {
            let rows = batch(&rows);
            prop_assert_eq!(&round_trip(&rows), &rows);
            let at = at.min(rows.num_rows());
            let part = rows.slice(at, len.min(rows.num_rows() - at));
            prop_assert_eq!(&round_trip(&part), &part);
        }

        #[test]
        fn any_octets_are_refused_or_read(mut octets in proptest::collection::vec(any::<u8>(), 0..200)) {
            // A plausible number of rows, or most inputs would end there.
            if let Some(high) = octets.get_mut(2..4) {
                high.fill(0);
            }
            let _ = decode(&octets).map(|rows| rows.num_rows());
            let mut whole = Vec::new();
            encode(&batch(&[(1, 2, 3, None, Some(4), [5; 16], None)]), &mut whole).unwrap();
            let at = octets.len() % whole.len();
            whole[at] ^= 0x55;
            let _ = decode(&whole[..whole.len() - octets.len() % 3]);
            prop_assert!(decode(&whole[..10]).is_err());
        }
    }
}
