//! Column chunks of Parquet (format 2.9), for the three physical types that rows have.
//!
//! ```text
//! dictionary page  header, values (PLAIN)                        where few values repeat
//! data page v2     header, definition levels (RLE), values       one for every PAGE_ROWS rows
//!   values: width u8, then runs and bit-packed groups of codes   RLE_DICTIONARY
//!           blocks of 128 differences in 4 miniblocks            DELTA_BINARY_PACKED
//!           little endian                                        PLAIN
//! ```
//!
//! The `parquet` crate's own writer allocates for each address and hashes every value of
//! every column; most columns here are constant or within a narrow range, and one scan
//! for the least and greatest value says so. Everything around the chunks is the crate's.

mod dictionary;
mod pack;

use std::borrow::Cow;

use arrow::array::{Array, ArrowPrimitiveType, PrimitiveArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type};
use benocs_model::flow::addresses;
use bytes::Bytes;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::bloom_filter::Sbbf;
use parquet::column::page::{CompressedPage, Page, PageWriter as _};
use parquet::column::writer::ColumnCloseResult;
use parquet::data_type::{ByteArray, FixedLenByteArray};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ColumnChunkMetaData, OffsetIndexBuilder};
use parquet::file::statistics::Statistics;
use parquet::file::writer::{SerializedPageWriter, TrackedWrite};
use parquet::schema::types::ColumnDescPtr;

use dictionary::{Dictionary, Key};

/// Rows of a page: what is decompressed for one wanted row.
const PAGE_ROWS: usize = 16_384;
const BLOOM_FALSE_POSITIVES: f64 = 0.02;

/// How much work goes into a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Effort {
    /// 0 is not compressed.
    pub(crate) zstd_level: i32,
    /// Values that repeat get a dictionary; else only constants do.
    pub(crate) dense: bool,
}

/// An encoded chunk, as a row group takes it.
pub(crate) struct Chunk {
    pub(crate) octets: Bytes,
    pub(crate) close: ColumnCloseResult,
}

/// Encodes a column of a row group. `bloom` is for columns that are asked for single values.
pub(crate) fn encode(
    column: &ColumnDescPtr,
    array: &dyn Array,
    effort: Effort,
    bloom: bool,
) -> Result<Chunk, ParquetError> {
    let nulls = array.nulls().filter(|nulls| nulls.null_count() > 0);
    let input = Input { column, rows: array.len(), nulls, effort, bloom };
    match array.data_type() {
        DataType::UInt8 => input.chunk::<u32>(&numbers::<UInt8Type, u32>(array, nulls)?),
        DataType::UInt16 => input.chunk::<u32>(&numbers::<UInt16Type, u32>(array, nulls)?),
        DataType::UInt32 => input.chunk::<u32>(&dense::<u32>(primitive::<UInt32Type>(array)?, nulls)),
        DataType::UInt64 => input.chunk::<u64>(&dense::<u64>(primitive::<UInt64Type>(array)?, nulls)),
        DataType::Int64 => input.chunk::<i64>(&dense::<i64>(primitive::<Int64Type>(array)?, nulls)),
        DataType::FixedSizeBinary(16) => {
            let values = addresses(array).ok_or_else(|| unknown(array.data_type()))?;
            input.chunk::<[u8; 16]>(&dense(values, nulls))
        }
        other => Err(unknown(other)),
    }
}

fn unknown(data_type: &DataType) -> ParquetError {
    ParquetError::NYI(format!("a column of type {data_type}"))
}

fn primitive<T: ArrowPrimitiveType>(array: &dyn Array) -> Result<&[T::Native], ParquetError> {
    let array = array.as_any().downcast_ref::<PrimitiveArray<T>>();
    array.map(|array| &array.values()[..]).ok_or_else(|| unknown(&T::DATA_TYPE))
}

/// Values that are there.
fn dense<'a, V: Copy>(values: &'a [V], nulls: Option<&NullBuffer>) -> Cow<'a, [V]> {
    match nulls {
        None => Cow::Borrowed(values),
        Some(nulls) => Cow::Owned(nulls.valid_indices().map(|row| values[row]).collect()),
    }
}

fn numbers<T, V>(array: &dyn Array, nulls: Option<&NullBuffer>) -> Result<Vec<V>, ParquetError>
where
    T: ArrowPrimitiveType<Native: Into<V>>,
{
    let values = primitive::<T>(array)?;
    Ok(match nulls {
        None => values.iter().map(|value| (*value).into()).collect(),
        Some(nulls) => nulls.valid_indices().map(|row| values[row].into()).collect(),
    })
}

/// A value as Parquet keeps it.
trait Physical: Key {
    fn statistics(range: Option<(Self, Self)>, nulls: u64) -> Statistics;
    fn plain(values: &[Self], out: &mut Vec<u8>);
    /// Differences of neighbours, packed; false where the type has none.
    fn differences(values: &[Self], out: &mut Vec<u8>) -> bool;
    fn bloom(self, filter: &mut Sbbf);
}

macro_rules! number {
    ($type:ty, $signed:ty, $kind:ident, $pack:path) => {
        impl Physical for $type {
            fn statistics(range: Option<(Self, Self)>, nulls: u64) -> Statistics {
                let signed = |value: Self| value as $signed;
                Statistics::$kind(range.map(|r| signed(r.0)), range.map(|r| signed(r.1)), None, Some(nulls), false)
            }

            fn plain(values: &[Self], out: &mut Vec<u8>) {
                out.reserve(size_of_val(values));
                values.iter().for_each(|value| out.extend_from_slice(&value.to_le_bytes()));
            }

            fn differences(values: &[Self], out: &mut Vec<u8>) -> bool {
                $pack(values.iter().map(|value| *value as $signed), out);
                true
            }

            fn bloom(self, filter: &mut Sbbf) {
                filter.insert(&(self as $signed));
            }
        }
    };
}

number!(u32, i32, int32, pack::differences_32);
number!(u64, i64, int64, pack::differences_64);
number!(i64, i64, int64, pack::differences_64);

impl Physical for [u8; 16] {
    fn statistics(range: Option<(Self, Self)>, nulls: u64) -> Statistics {
        let fixed = |value: Self| FixedLenByteArray::from(ByteArray::from(value.to_vec()));
        let (min, max) = range.map(|(min, max)| (fixed(min), fixed(max))).unzip();
        Statistics::fixed_len_byte_array(min, max, None, Some(nulls), false)
    }

    fn plain(values: &[Self], out: &mut Vec<u8>) {
        out.extend_from_slice(values.as_flattened());
    }

    fn differences(_: &[Self], _: &mut Vec<u8>) -> bool {
        false
    }

    fn bloom(self, filter: &mut Sbbf) {
        filter.insert(&self[..]);
    }
}

struct Input<'a> {
    column: &'a ColumnDescPtr,
    rows: usize,
    nulls: Option<&'a NullBuffer>,
    effort: Effort,
    bloom: bool,
}

impl Input<'_> {
    fn chunk<V: Physical>(&self, values: &[V]) -> Result<Chunk, ParquetError> {
        let range = V::range(values);
        let dictionary = range.and_then(|(min, max)| Dictionary::of(values, min, max, self.effort.dense));
        let mut pages = Pages::new(self.effort.zstd_level)?;
        let mut encodings = vec![Encoding::RLE];
        let mut filter = None;
        if self.bloom {
            let distinct = dictionary.as_ref().map_or(values.len(), |dictionary| dictionary.values.len());
            let mut bits = Sbbf::new_with_ndv_fpp(distinct.max(1) as u64, BLOOM_FALSE_POSITIVES)?;
            let once = dictionary.as_ref().map_or(values, |dictionary| &dictionary.values);
            once.iter().for_each(|value| value.bloom(&mut bits));
            filter = Some(bits);
        }
        if let Some(dictionary) = &dictionary {
            let mut plain = Vec::new();
            V::plain(&dictionary.values, &mut plain);
            pages.dictionary(plain, dictionary.values.len())?;
            encodings.extend([Encoding::PLAIN, Encoding::RLE_DICTIONARY]);
        }
        let mut at = 0;
        for first in (0..self.rows).step_by(PAGE_ROWS) {
            let rows = PAGE_ROWS.min(self.rows - first);
            let mut octets = Vec::new();
            let present = self.levels(first, rows, &mut octets);
            let levels = octets.len();
            let encoding = match &dictionary {
                Some(dictionary) => {
                    dictionary.encode(at..at + present, &mut octets);
                    Encoding::RLE_DICTIONARY
                }
                None if V::differences(&values[at..at + present], &mut octets) => Encoding::DELTA_BINARY_PACKED,
                None => {
                    V::plain(&values[at..at + present], &mut octets);
                    Encoding::PLAIN
                }
            };
            pages.data(octets, levels, rows, present, encoding)?;
            if !encodings.contains(&encoding) {
                encodings.push(encoding);
            }
            at += present;
        }
        let statistics = V::statistics(range, (self.rows - values.len()) as u64);
        pages.close(self.column, self.rows, encodings, statistics, filter)
    }

    /// Which rows have a value; how many do.
    fn levels(&self, first: usize, rows: usize, out: &mut Vec<u8>) -> usize {
        if self.column.max_def_level() == 0 {
            return rows;
        }
        let Some(nulls) = self.nulls else {
            pack::run(1, rows, 1, out);
            return rows;
        };
        let part = nulls.slice(first, rows);
        match part.null_count() {
            0 => pack::run(1, rows, 1, out),
            all if all == rows => pack::run(0, rows, 1, out),
            _ => {
                // An Arrow bitmap is what Parquet packs levels to; the last octet is padded.
                pack::varint((rows.div_ceil(8) as u64) << 1 | 1, out);
                let bits = part.inner().sliced();
                out.extend_from_slice(&bits.as_slice()[..rows.div_ceil(8)]);
            }
        }
        rows - part.null_count()
    }
}

/// Pages on their way into one buffer.
struct Pages {
    sink: TrackedWrite<Vec<u8>>,
    zstd: Option<zstd::bulk::Compressor<'static>>,
    compression: Compression,
    index: OffsetIndexBuilder,
    dictionary_at: Option<i64>,
    data_at: Option<i64>,
    uncompressed: i64,
}

impl Pages {
    fn new(zstd_level: i32) -> Result<Self, ParquetError> {
        let (zstd, compression) = match zstd_level {
            0 => (None, Compression::UNCOMPRESSED),
            level => {
                let compressor = zstd::bulk::Compressor::new(level).map_err(ParquetError::from)?;
                (Some(compressor), Compression::ZSTD(ZstdLevel::try_new(level)?))
            }
        };
        let sink = TrackedWrite::new(Vec::new());
        let index = OffsetIndexBuilder::new();
        Ok(Self { sink, zstd, compression, index, dictionary_at: None, data_at: None, uncompressed: 0 })
    }

    fn dictionary(&mut self, plain: Vec<u8>, count: usize) -> Result<(), ParquetError> {
        let length = plain.len();
        let buf = match &mut self.zstd {
            Some(zstd) => zstd.compress(&plain).map_err(ParquetError::from)?,
            None => plain,
        };
        let (num_values, encoding) = (count as u32, Encoding::PLAIN);
        let page = Page::DictionaryPage { buf: buf.into(), num_values, encoding, is_sorted: false };
        let (at, _) = self.write(CompressedPage::new(page, length))?;
        self.dictionary_at = Some(at);
        Ok(())
    }

    /// `octets` begin with `levels` octets of definition levels, which stay as they are.
    fn data(
        &mut self,
        mut octets: Vec<u8>,
        levels: usize,
        rows: usize,
        present: usize,
        encoding: Encoding,
    ) -> Result<(), ParquetError> {
        let length = octets.len();
        let mut is_compressed = false;
        if let Some(zstd) = &mut self.zstd
            && length - levels > 64
        {
            let small = zstd.compress(&octets[levels..]).map_err(ParquetError::from)?;
            if small.len() < (length - levels) / 32 * 31 {
                octets.truncate(levels);
                octets.extend_from_slice(&small);
                is_compressed = true;
            }
        }
        let page = Page::DataPageV2 {
            buf: octets.into(),
            num_values: rows as u32,
            encoding,
            num_nulls: (rows - present) as u32,
            num_rows: rows as u32,
            def_levels_byte_len: levels as u32,
            rep_levels_byte_len: 0,
            is_compressed,
            statistics: None,
        };
        let (at, length) = self.write(CompressedPage::new(page, length))?;
        self.data_at.get_or_insert(at);
        self.index.append_row_count(rows as i64);
        self.index.append_offset_and_size(at, length);
        Ok(())
    }

    /// Where the page begins, and its length with the header.
    fn write(&mut self, page: CompressedPage) -> Result<(i64, i32), ParquetError> {
        let written = SerializedPageWriter::new(&mut self.sink).write_page(page)?;
        self.uncompressed += written.uncompressed_size as i64;
        Ok((written.offset as i64, written.compressed_size as i32))
    }

    fn close(
        self,
        column: &ColumnDescPtr,
        rows: usize,
        encodings: Vec<Encoding>,
        statistics: Statistics,
        bloom_filter: Option<Sbbf>,
    ) -> Result<Chunk, ParquetError> {
        let octets = self.sink.into_inner()?;
        let metadata = ColumnChunkMetaData::builder(column.clone())
            .set_compression(self.compression)
            .set_encodings(encodings)
            .set_num_values(rows as i64)
            .set_total_compressed_size(octets.len() as i64)
            .set_total_uncompressed_size(self.uncompressed)
            .set_data_page_offset(self.data_at.unwrap_or(0))
            .set_dictionary_page_offset(self.dictionary_at)
            .set_statistics(statistics)
            .build()?;
        let close = ColumnCloseResult {
            bytes_written: octets.len() as u64,
            rows_written: rows as u64,
            metadata,
            bloom_filter,
            column_index: None,
            offset_index: Some(self.index.build()),
        };
        Ok(Chunk { octets: octets.into(), close })
    }
}

#[cfg(test)]
mod tests;
