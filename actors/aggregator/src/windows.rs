//! Sums of flow rows by window and key.
//!
//! The key columns of a row are packed into words, a column at a time: a null bit
//! a column, then the columns' values one after the other, null values as zero.
//! One hash table maps (window, key) to an entry; entries lie one after the other
//! in one buffer, so a batch allocates nothing for keys that are already there.
//!
//!   entry: | hash | window | octets | packets | flows | octets, packets raw | quality | key words |

use std::hash::{BuildHasher, Hasher};
use std::ops::Range;
use std::sync::Arc;

use ahash::RandomState;
use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray, RecordBatch, UInt32Array, UInt64Array};
use arrow::buffer::{BooleanBuffer, NullBuffer, ScalarBuffer};
use arrow::compute::take;
use arrow::datatypes::{
    ArrowNativeType, ArrowPrimitiveType, DataType, Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow::error::ArrowError;
use benocs_model::flow::{self, Column};
use benocs_model::{rollup, span};
use hashbrown::HashTable;

/// Rows packed and summed at a time: their keys stay in the nearest cache.
const BLOCK_ROWS: usize = 256;

#[derive(Debug, thiserror::Error)]
pub enum WindowError {
    #[error("flow batch lacks column {0}: it was written by another version")]
    Missing(&'static str),
    #[error("flow column {0} has another type than its schema says")]
    Type(&'static str),
    #[error(transparent)]
    Arrow(#[from] ArrowError),
}

/// Where a key column lies in the packed key.
#[derive(Clone, Debug)]
struct Slot {
    name: &'static str,
    data_type: DataType,
    word: usize,
    shift: u32,
}

/// Words of an entry before its key.
const HEAD: usize = 8;
const HASH: usize = 0;
const WINDOW: usize = 1;
const SUMS: usize = 2;

#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    octets: u64,
    packets: u64,
    flows: u64,
    octets_raw: u64,
    packets_raw: u64,
    quality: u64,
}

impl Sums {
    const WORDS: usize = HEAD - SUMS;

    fn words(&self) -> [u64; Self::WORDS] {
        [self.octets, self.packets, self.flows, self.octets_raw, self.packets_raw, self.quality]
    }

    fn is_nothing(&self) -> bool {
        self.octets | self.packets | self.flows | self.octets_raw | self.packets_raw == 0
    }
}

/// (window, key) -> sums; entries in order of first sight.
#[derive(Debug)]
struct Table {
    stride: usize,
    index: HashTable<u32>,
    entries: Vec<u64>,
}

impl Table {
    fn new(key_words: usize) -> Self {
        Self { stride: HEAD + key_words, index: HashTable::new(), entries: Vec::new() }
    }

    /// `key_hash` is of the key alone.
    #[inline]
    fn add(&mut self, window: i64, key: &[u64], key_hash: u64, sums: &[u64; Sums::WORDS]) {
        let Self { stride, index, entries } = self;
        let (stride, window) = (*stride, window as u64);
        let hash = (key_hash ^ window).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29) ^ key_hash;
        let found = index.find(hash, |&at| {
            let entry = &entries[at as usize * stride..][..stride];
            entry[HASH] == hash && entry[WINDOW] == window && entry[HEAD..].iter().eq(key)
        });
        if let Some(&at) = found {
            let held = &mut entries[at as usize * stride + SUMS..][..Sums::WORDS];
            for (held, more) in held.iter_mut().zip(&sums[..Sums::WORDS - 1]) {
                *held = held.saturating_add(*more);
            }
            held[Sums::WORDS - 1] |= sums[Sums::WORDS - 1];
            return;
        }
        let at = (entries.len() / stride) as u32;
        entries.extend_from_slice(&[hash, window]);
        entries.extend_from_slice(sums);
        entries.extend_from_slice(key);
        index.insert_unique(hash, at, |&at| entries[at as usize * stride + HASH]);
    }

    fn len(&self) -> usize {
        self.index.len()
    }

    fn entries(&self) -> impl ExactSizeIterator<Item = &[u64]> + Clone {
        self.entries.chunks_exact(self.stride)
    }

    fn clear(&mut self) {
        self.index.clear();
        self.entries.clear();
    }
}

/// The sums since the last [`Windows::take`].
#[derive(Debug)]
pub struct Windows {
    slots: Vec<Slot>,
    key_words: usize,
    /// Smallest declared width.
    width_ms: i64,
    random: RandomState,
    table: Table,
    /// Packed keys of the rows at hand.
    packed: Vec<u64>,
}

impl Default for Windows {
    fn default() -> Self {
        Self::new()
    }
}

impl Windows {
    pub fn new() -> Self {
        let mut bit = rollup::KEYS.len().next_multiple_of(32);
        let mut slots = Vec::with_capacity(rollup::KEYS.len());
        for field in &rollup::schema().fields()[1..=rollup::KEYS.len()] {
            let name = rollup::KEYS[slots.len()];
            let width = 8 * field.data_type().primitive_width().unwrap_or(0);
            // A value lies in one word.
            if width > 0 && bit / 64 != (bit + width - 1) / 64 {
                bit = bit.next_multiple_of(64);
            }
            let (word, shift) = (bit / 64, (bit % 64) as u32);
            slots.push(Slot { name, data_type: field.data_type().clone(), word, shift });
            bit += width;
        }
        let key_words = bit.div_ceil(64);
        Self {
            slots,
            key_words,
            width_ms: rollup::WIDTHS_MS[0],
            random: RandomState::new(),
            table: Table::new(key_words),
            packed: Vec::new(),
        }
    }

    /// Sums kept, in rollup rows of the smallest width.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    pub fn is_empty(&self) -> bool {
        self.table.len() == 0
    }

    /// Adds every row of a batch.
    pub fn add(&mut self, batch: &RecordBatch) -> Result<(), WindowError> {
        let first = values::<Int64Type>(batch, Column::First)?;
        let last = values::<Int64Type>(batch, Column::Last)?;
        let octets = values::<UInt64Type>(batch, Column::Octets)?;
        let packets = values::<UInt64Type>(batch, Column::Packets)?;
        let sampling_num = values::<UInt32Type>(batch, Column::SamplingNum)?;
        let sampling_den = values::<UInt32Type>(batch, Column::SamplingDen)?;
        let quality = values::<UInt64Type>(batch, Column::Quality)?;
        let keys: Vec<Option<&ArrayRef>> = self.slots.iter().map(|slot| batch.column_by_name(slot.name)).collect();

        let width_ms = self.width_ms;
        for start in (0..batch.num_rows()).step_by(BLOCK_ROWS) {
            let rows = start..batch.num_rows().min(start + BLOCK_ROWS);
            self.pack(&keys, rows.clone())?;
            let (packed, table, random) = (&self.packed, &mut self.table, &self.random);
            for (row, key) in rows.zip(packed.chunks_exact(self.key_words)) {
                let hash = hash(random, key);
                // A span that ends before it begins would touch no window and be lost.
                let (first, last) = (first[row], last[row].max(first[row]));
                let (num, den) = (sampling_num[row], sampling_den[row]);
                let (octets_raw, packets_raw) = (octets[row], packets[row]);
                let (octets, packets) = (span::scale(octets_raw, num, den), span::scale(packets_raw, num, den));
                let quality = quality[row];
                let window = span::bucket_start(first, width_ms);
                if last < window + width_ms {
                    let sums = Sums { octets, packets, flows: 1, octets_raw, packets_raw, quality };
                    table.add(window, key, hash, &sums.words());
                    continue;
                }
                span::spread(first, last, octets, packets, width_ms, |window, octets, packets, is_last| {
                    let part = |raw| span::part(raw, first, last, window, window + width_ms);
                    let sums = Sums {
                        octets,
                        packets,
                        flows: u64::from(is_last),
                        octets_raw: part(octets_raw),
                        packets_raw: part(packets_raw),
                        quality,
                    };
                    if !sums.is_nothing() {
                        table.add(window, key, hash, &sums.words());
                    }
                });
            }
        }
        Ok(())
    }

    fn pack(&mut self, keys: &[Option<&ArrayRef>], rows: Range<usize>) -> Result<(), WindowError> {
        self.packed.clear();
        self.packed.resize(rows.len() * self.key_words, 0);
        let (packed, words) = (&mut self.packed, self.key_words);
        for (column, (slot, array)) in self.slots.iter().zip(keys).enumerate() {
            let Some(array) = array else {
                packed.chunks_exact_mut(words).for_each(|key| key[column / 64] |= 1 << (column % 64));
                continue;
            };
            match slot.data_type {
                DataType::UInt8 => pack_column::<UInt8Type>(packed, words, column, slot, array, rows.clone())?,
                DataType::UInt16 => pack_column::<UInt16Type>(packed, words, column, slot, array, rows.clone())?,
                DataType::UInt32 => pack_column::<UInt32Type>(packed, words, column, slot, array, rows.clone())?,
                DataType::UInt64 => pack_column::<UInt64Type>(packed, words, column, slot, array, rows.clone())?,
                _ => return Err(WindowError::Type(slot.name)),
            }
        }
        Ok(())
    }

    /// The partials of every declared width, sorted by window; nothing is kept.
    pub fn take(&mut self) -> Result<Vec<(i64, RecordBatch)>, WindowError> {
        let mut partials = Vec::with_capacity(rollup::WIDTHS_MS.len());
        for &width_ms in &rollup::WIDTHS_MS {
            if width_ms == self.width_ms {
                partials.push((width_ms, self.batch(&self.table)?));
                continue;
            }
            let mut wide = Table::new(self.key_words);
            for entry in self.table.entries() {
                let window = span::bucket_start(entry[WINDOW] as i64, width_ms);
                let mut sums = [0; Sums::WORDS];
                sums.copy_from_slice(&entry[SUMS..HEAD]);
                wide.add(window, &entry[HEAD..], hash(&self.random, &entry[HEAD..]), &sums);
            }
            partials.push((width_ms, self.batch(&wide)?));
        }
        self.table.clear();
        Ok(partials)
    }

    fn batch(&self, table: &Table) -> Result<RecordBatch, WindowError> {
        let windows: Vec<i64> = table.entries().map(|entry| entry[WINDOW] as i64).collect();
        let mut order: Vec<u32> = (0..table.len() as u32).collect();
        order.sort_by_key(|&at| windows[at as usize]);
        let order = UInt32Array::from(order);

        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.slots.len() + 7);
        columns.push(Arc::new(PrimitiveArray::<Int64Type>::from_iter_values(windows)));
        for (column, slot) in self.slots.iter().enumerate() {
            columns.push(match slot.data_type {
                DataType::UInt8 => unpack_column::<UInt8Type>(table, slot, column),
                DataType::UInt16 => unpack_column::<UInt16Type>(table, slot, column),
                DataType::UInt32 => unpack_column::<UInt32Type>(table, slot, column),
                DataType::UInt64 => unpack_column::<UInt64Type>(table, slot, column),
                _ => return Err(WindowError::Type(slot.name)),
            });
        }
        for sum in SUMS..HEAD {
            columns.push(Arc::new(UInt64Array::from_iter_values(table.entries().map(|entry| entry[sum]))));
        }
        let sorted: Result<Vec<ArrayRef>, ArrowError> =
            columns.iter().map(|column| take(column, &order, None)).collect();
        Ok(RecordBatch::try_new(rollup::schema(), sorted?)?)
    }
}

#[inline]
fn hash(random: &RandomState, key: &[u64]) -> u64 {
    let mut hasher = random.build_hasher();
    key.iter().for_each(|word| hasher.write_u64(*word));
    hasher.finish()
}

fn values<T: ArrowPrimitiveType>(batch: &RecordBatch, column: Column) -> Result<&ScalarBuffer<T::Native>, WindowError> {
    let array = flow::column(batch, column).ok_or(WindowError::Missing(column.name()))?;
    Ok(array.as_primitive_opt::<T>().ok_or(WindowError::Type(column.name()))?.values())
}

fn pack_column<T: ArrowPrimitiveType>(
    packed: &mut [u64],
    words: usize,
    column: usize,
    slot: &Slot,
    array: &ArrayRef,
    rows: Range<usize>,
) -> Result<(), WindowError> {
    let array = array.as_primitive_opt::<T>().ok_or(WindowError::Type(slot.name))?;
    let values = &array.values()[rows.clone()];
    let keys = packed.chunks_exact_mut(words).zip(values);
    match array.nulls().filter(|nulls| nulls.null_count() > 0) {
        None => keys.for_each(|(key, value)| key[slot.word] |= (value.as_usize() as u64) << slot.shift),
        Some(nulls) => {
            for ((key, value), row) in keys.zip(rows) {
                // What lies under a null is arbitrary and must not tell keys apart.
                if nulls.is_valid(row) {
                    key[slot.word] |= (value.as_usize() as u64) << slot.shift;
                } else {
                    key[column / 64] |= 1 << (column % 64);
                }
            }
        }
    }
    Ok(())
}

fn unpack_column<T: ArrowPrimitiveType>(table: &Table, slot: &Slot, column: usize) -> ArrayRef {
    let mask = u64::MAX >> (64 - 8 * size_of::<T::Native>());
    let (word, null_word, null_bit) = (HEAD + slot.word, HEAD + column / 64, 1u64 << (column % 64));
    let values: ScalarBuffer<T::Native> =
        table.entries().map(|entry| T::Native::usize_as((entry[word] >> slot.shift & mask) as usize)).collect();
    let valid = BooleanBuffer::from_iter(table.entries().map(|entry| entry[null_word] & null_bit == 0));
    Arc::new(PrimitiveArray::<T>::new(values, Some(NullBuffer::new(valid)).filter(|nulls| nulls.null_count() > 0)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    struct Row {
        first: i64,
        last: i64,
        octets: u64,
        packets: u64,
        den: u32,
        quality: u64,
        in_if: Option<u32>,
        dst_as: Option<u32>,
        proto: u8,
        service: Option<u32>,
    }

    fn row() -> impl Strategy<Value = Row> {
        (
            -400_000i64..400_000,
            prop_oneof![0i64..50, 0i64..700_000],
            0u64..5_000_000_000,
            0u64..10_000,
            prop_oneof![Just(1u32), Just(1000), 1u32..5000],
            0u64..8,
            proptest::option::of(0u32..3),
            proptest::option::of(0u32..3),
            0u8..2,
            proptest::option::of(0u32..2),
        )
            .prop_map(|(first, length, octets, packets, den, quality, in_if, dst_as, proto, service)| Row {
                first,
                last: first + length,
                octets,
                packets,
                den,
                quality,
                in_if,
                dst_as,
                proto,
                service,
            })
    }

    fn batch(rows: &[Row]) -> RecordBatch {
        macro_rules! column {
            ($kind:ty, $field:expr) => {
                Arc::new(rows.iter().map($field).collect::<PrimitiveArray<$kind>>()) as ArrayRef
            };
        }
        RecordBatch::try_from_iter([
            ("first", column!(Int64Type, |row| Some(row.first))),
            ("last", column!(Int64Type, |row| Some(row.last))),
            ("in_if", column!(UInt32Type, |row| row.in_if)),
            ("sampling_num", column!(UInt32Type, |_| Some(1))),
            ("sampling_den", column!(UInt32Type, |row| Some(row.den))),
            ("octets", column!(UInt64Type, |row| Some(row.octets))),
            ("packets", column!(UInt64Type, |row| Some(row.packets))),
            ("proto", column!(UInt8Type, |row| Some(row.proto))),
            ("dst_as", column!(UInt32Type, |row| row.dst_as)),
            ("service_id", column!(UInt32Type, |row| row.service)),
            ("quality", column!(UInt64Type, |row| Some(row.quality))),
        ])
        .expect("columns of one length")
    }

    type Key = (i64, i64, Option<u32>, Option<u32>, u8, Option<u32>);

    /// The plain computation: every row, every bucket.
    fn plainly(rows: &[Row]) -> BTreeMap<Key, [u64; 6]> {
        let mut sums: BTreeMap<Key, [u64; 6]> = BTreeMap::new();
        for row in rows {
            for width in rollup::WIDTHS_MS {
                let mut window = row.first.div_euclid(width) * width;
                while window <= row.last {
                    let part = |total| span::part(total, row.first, row.last, window, window + width);
                    let flows = u64::from(row.last.div_euclid(width) * width == window);
                    let values = [
                        part(row.octets * u64::from(row.den)),
                        part(row.packets * u64::from(row.den)),
                        flows,
                        part(row.octets),
                        part(row.packets),
                    ];
                    if values.iter().any(|value| *value > 0) {
                        let key = (width, window, row.in_if, row.dst_as, row.proto, row.service);
                        let sum = sums.entry(key).or_default();
                        for (sum, value) in sum.iter_mut().zip(values) {
                            *sum += value;
                        }
                        sum[5] |= row.quality;
                    }
                    window += width;
                }
            }
        }
        sums
    }

    fn read(partials: &[(i64, RecordBatch)], sums: &mut BTreeMap<Key, [u64; 6]>) {
        for (width, batch) in partials {
            assert_eq!(batch.schema(), rollup::schema());
            let windows = batch["window"].as_primitive::<Int64Type>();
            assert!(windows.values().is_sorted());
            let optional = |name: &str, at: usize| {
                let array = batch[name].as_primitive::<UInt32Type>();
                array.is_valid(at).then(|| array.value(at))
            };
            for at in 0..batch.num_rows() {
                assert!(batch["egress_router"].is_null(at), "an absent column is null");
                let key = (
                    *width,
                    windows.value(at),
                    optional("in_if", at),
                    optional("dst_as", at),
                    batch["proto"].as_primitive::<UInt8Type>().value(at),
                    optional("service_id", at),
                );
                let sum = sums.entry(key).or_default();
                let names = ["octets", "packets", "flows", "octets_raw", "packets_raw"];
                for (sum, name) in sum.iter_mut().zip(names) {
                    *sum += batch[name].as_primitive::<UInt64Type>().value(at);
                }
                sum[5] |= batch["quality"].as_primitive::<UInt64Type>().value(at);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn sums_are_the_plain_ones_however_the_rows_are_split(
            rows in proptest::collection::vec(row(), 1..60),
            cuts in proptest::collection::vec((1usize..20, any::<bool>()), 1..12),
        ) {
            let mut windows = Windows::new();
            let mut sums = BTreeMap::new();
            let mut rest = &rows[..];
            for (length, flush) in cuts.iter().cycle() {
                let (head, tail) = rest.split_at((*length).min(rest.len()));
                windows.add(&batch(head)).expect("a good batch");
                if *flush {
                    read(&windows.take().expect("partials"), &mut sums);
                    prop_assert!(windows.is_empty());
                }
                rest = tail;
                if rest.is_empty() {
                    break;
                }
            }
            read(&windows.take().expect("partials"), &mut sums);
            prop_assert_eq!(sums, plainly(&rows));
        }
    }

    #[test]
    fn sliced_batches_and_garbage_under_nulls_make_no_new_keys() {
        let rows: Vec<Row> = (0..4u32)
            .map(|at| Row {
                first: 0,
                last: 0,
                octets: 10,
                packets: 1,
                den: 1,
                quality: 0,
                in_if: Some(at),
                dst_as: None,
                proto: 6,
                service: None,
            })
            .collect();
        let whole = batch(&rows);
        let garbage = UInt32Array::new(vec![7, 8, 9, 10].into(), Some(NullBuffer::new_null(4)));
        let mut columns = whole.columns().to_vec();
        let at = whole.schema().index_of("in_if").expect("present");
        columns[at] = Arc::new(garbage);
        let fields: Vec<_> =
            whole.schema().fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
        let schema = Arc::new(arrow::datatypes::Schema::new(fields));
        let whole = RecordBatch::try_new(schema, columns).expect("same lengths");
        let mut windows = Windows::new();
        windows.add(&whole.slice(1, 3)).expect("a good batch");
        assert_eq!(windows.len(), 1);
        let partials = windows.take().expect("partials");
        assert_eq!(partials[0].1["flows"].as_primitive::<UInt64Type>().value(0), 3);
    }

    #[test]
    fn a_missing_counter_is_an_error() {
        let error = Windows::new().add(&RecordBatch::new_empty(rollup::schema())).expect_err("no first");
        assert!(matches!(error, WindowError::Missing("first")), "{error}");
    }
}
