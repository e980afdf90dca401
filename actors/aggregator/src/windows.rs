//! Sums of flow rows by window and key.
//!
//! The key columns of a row are packed into octets of fixed width, a column at
//! a time: | a null bit per column | column 0 | column 1 | ... |, nulls as zero. One
//! hash table maps (window, key) to its sums; keys lie one after the other in
//! one buffer, so a batch allocates nothing for keys that are already there.

use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

use ahash::RandomState;
use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray, RecordBatch, UInt32Array, UInt64Array};
use arrow::buffer::{BooleanBuffer, NullBuffer, ScalarBuffer};
use arrow::compute::take;
use arrow::datatypes::{
    ArrowNativeType, ArrowPrimitiveType, DataType, Int64Type, ToByteSlice, UInt8Type, UInt16Type, UInt32Type,
    UInt64Type,
};
use arrow::error::ArrowError;
use benocs_model::flow::{self, Column};
use benocs_model::{rollup, span};
use hashbrown::HashTable;

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
    offset: usize,
}

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
    #[inline]
    fn add(&mut self, other: &Sums) {
        self.octets = self.octets.saturating_add(other.octets);
        self.packets = self.packets.saturating_add(other.packets);
        self.flows += other.flows;
        self.octets_raw = self.octets_raw.saturating_add(other.octets_raw);
        self.packets_raw = self.packets_raw.saturating_add(other.packets_raw);
        self.quality |= other.quality;
    }
}

/// (window, key) -> sums; entries in order of first sight.
#[derive(Debug)]
struct Table {
    stride: usize,
    index: HashTable<u32>,
    hashes: Vec<u64>,
    windows: Vec<i64>,
    keys: Vec<u8>,
    sums: Vec<Sums>,
}

impl Table {
    fn new(stride: usize) -> Self {
        Self {
            stride,
            index: HashTable::new(),
            hashes: Vec::new(),
            windows: Vec::new(),
            keys: Vec::new(),
            sums: Vec::new(),
        }
    }

    /// `key_hash` is of the key alone.
    #[inline]
    fn add(&mut self, window: i64, key: &[u8], key_hash: u64, sums: &Sums) {
        let Self { stride, index, hashes, windows, keys, sums: all } = self;
        let hash = (key_hash ^ (window as u64)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29) ^ key_hash;
        let same = |&at: &u32| {
            let at = at as usize;
            hashes[at] == hash && windows[at] == window && &keys[at * *stride..(at + 1) * *stride] == key
        };
        if let Some(&at) = index.find(hash, same) {
            all[at as usize].add(sums);
            return;
        }
        let at = all.len() as u32;
        index.insert_unique(hash, at, |&at| hashes[at as usize]);
        hashes.push(hash);
        windows.push(window);
        keys.extend_from_slice(key);
        all.push(*sums);
    }

    fn len(&self) -> usize {
        self.sums.len()
    }

    fn clear(&mut self) {
        self.index.clear();
        self.hashes.clear();
        self.windows.clear();
        self.keys.clear();
        self.sums.clear();
    }
}

/// The sums since the last [`Windows::take`].
#[derive(Debug)]
pub struct Windows {
    slots: Vec<Slot>,
    stride: usize,
    /// Smallest declared width.
    width_ms: i64,
    random: RandomState,
    table: Table,
    /// Packed keys of the batch at hand.
    packed: Vec<u8>,
}

impl Default for Windows {
    fn default() -> Self {
        Self::new()
    }
}

impl Windows {
    pub fn new() -> Self {
        let mut offset = rollup::KEYS.len().div_ceil(8);
        let mut slots = Vec::with_capacity(rollup::KEYS.len());
        for field in &rollup::schema().fields()[1..=rollup::KEYS.len()] {
            let name = rollup::KEYS[slots.len()];
            slots.push(Slot { name, data_type: field.data_type().clone(), offset });
            offset += field.data_type().primitive_width().unwrap_or(0);
        }
        // Whole words hash and compare faster.
        let stride = offset.next_multiple_of(8);
        Self {
            slots,
            stride,
            width_ms: rollup::WIDTHS_MS[0],
            random: RandomState::new(),
            table: Table::new(stride),
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
        self.pack(batch)?;
        let first = values::<Int64Type>(batch, Column::First)?;
        let last = values::<Int64Type>(batch, Column::Last)?;
        let octets = values::<UInt64Type>(batch, Column::Octets)?;
        let packets = values::<UInt64Type>(batch, Column::Packets)?;
        let sampling_num = values::<UInt32Type>(batch, Column::SamplingNum)?;
        let sampling_den = values::<UInt32Type>(batch, Column::SamplingDen)?;
        let quality = values::<UInt64Type>(batch, Column::Quality)?;

        let (packed, table, random) = (&self.packed, &mut self.table, &self.random);
        for (row, key) in packed.chunks_exact(self.stride).enumerate() {
            let hash = hash(random, key);
            // A span that ends before it begins would touch no window and be lost.
            let (first, last) = (first[row], last[row].max(first[row]));
            let (num, den) = (sampling_num[row], sampling_den[row]);
            let (octets_raw, packets_raw) = (octets[row], packets[row]);
            let (octets, packets) = (span::scale(octets_raw, num, den), span::scale(packets_raw, num, den));
            let quality = quality[row];
            let width_ms = self.width_ms;
            let several = first.div_euclid(width_ms) != last.div_euclid(width_ms);
            span::spread(first, last, octets, packets, width_ms, |window, octets, packets, is_last| {
                let mut sums = Sums { octets, packets, flows: u64::from(is_last), octets_raw, packets_raw, quality };
                if several {
                    sums.octets_raw = span::part(octets_raw, first, last, window, window + width_ms);
                    sums.packets_raw = span::part(packets_raw, first, last, window, window + width_ms);
                }
                let nothing = sums.octets | sums.packets | sums.flows | sums.octets_raw | sums.packets_raw == 0;
                if !nothing {
                    table.add(window, key, hash, &sums);
                }
            });
        }
        Ok(())
    }

    fn pack(&mut self, batch: &RecordBatch) -> Result<(), WindowError> {
        let rows = batch.num_rows();
        self.packed.clear();
        self.packed.resize(rows * self.stride, 0);
        for (bit, slot) in self.slots.iter().enumerate() {
            let array = batch.column_by_name(slot.name);
            match array {
                None => set_nulls(&mut self.packed, self.stride, bit, None),
                Some(array) => {
                    if array.data_type() != &slot.data_type {
                        return Err(WindowError::Type(slot.name));
                    }
                    match slot.data_type {
                        DataType::UInt8 => pack_column::<UInt8Type, 1>(&mut self.packed, self.stride, slot, array),
                        DataType::UInt16 => pack_column::<UInt16Type, 2>(&mut self.packed, self.stride, slot, array),
                        DataType::UInt32 => pack_column::<UInt32Type, 4>(&mut self.packed, self.stride, slot, array),
                        DataType::UInt64 => pack_column::<UInt64Type, 8>(&mut self.packed, self.stride, slot, array),
                        _ => return Err(WindowError::Type(slot.name)),
                    }
                    if let Some(nulls) = array.nulls().filter(|nulls| nulls.null_count() > 0) {
                        set_nulls(&mut self.packed, self.stride, bit, Some(nulls));
                    }
                }
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
            let mut wide = Table::new(self.stride);
            for (at, key) in self.table.keys.chunks_exact(self.stride).enumerate() {
                let window = span::bucket_start(self.table.windows[at], width_ms);
                wide.add(window, key, hash(&self.random, key), &self.table.sums[at]);
            }
            partials.push((width_ms, self.batch(&wide)?));
        }
        self.table.clear();
        Ok(partials)
    }

    fn batch(&self, table: &Table) -> Result<RecordBatch, WindowError> {
        let mut order: Vec<u32> = (0..table.len() as u32).collect();
        order.sort_by_key(|&at| table.windows[at as usize]);
        let order = UInt32Array::from(order);

        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.slots.len() + 7);
        columns.push(Arc::new(PrimitiveArray::<Int64Type>::from_iter_values(table.windows.iter().copied())));
        for (bit, slot) in self.slots.iter().enumerate() {
            columns.push(match slot.data_type {
                DataType::UInt8 => unpack_column::<UInt8Type, 1>(table, slot, bit),
                DataType::UInt16 => unpack_column::<UInt16Type, 2>(table, slot, bit),
                DataType::UInt32 => unpack_column::<UInt32Type, 4>(table, slot, bit),
                DataType::UInt64 => unpack_column::<UInt64Type, 8>(table, slot, bit),
                _ => return Err(WindowError::Type(slot.name)),
            });
        }
        let of = |pick: fn(&Sums) -> u64| -> ArrayRef {
            Arc::new(UInt64Array::from_iter_values(table.sums.iter().map(pick)))
        };
        columns.push(of(|sums| sums.octets));
        columns.push(of(|sums| sums.packets));
        columns.push(of(|sums| sums.flows));
        columns.push(of(|sums| sums.octets_raw));
        columns.push(of(|sums| sums.packets_raw));
        columns.push(of(|sums| sums.quality));
        let sorted: Result<Vec<ArrayRef>, ArrowError> =
            columns.iter().map(|column| take(column, &order, None)).collect();
        Ok(RecordBatch::try_new(rollup::schema(), sorted?)?)
    }
}

#[inline]
fn hash(random: &RandomState, key: &[u8]) -> u64 {
    let mut hasher = random.build_hasher();
    hasher.write(key);
    hasher.finish()
}

fn values<T: ArrowPrimitiveType>(batch: &RecordBatch, column: Column) -> Result<&ScalarBuffer<T::Native>, WindowError> {
    let array = flow::column(batch, column).ok_or(WindowError::Missing(column.name()))?;
    Ok(array.as_primitive_opt::<T>().ok_or(WindowError::Type(column.name()))?.values())
}

/// Sets bit `bit` of the null word of every null row (`None`: all of them).
fn set_nulls(packed: &mut [u8], stride: usize, bit: usize, nulls: Option<&NullBuffer>) {
    let (octet, mask) = (bit / 8, 1u8 << (bit % 8));
    for (row, key) in packed.chunks_exact_mut(stride).enumerate() {
        if nulls.is_none_or(|nulls| nulls.is_null(row)) {
            key[octet] |= mask;
        }
    }
}

fn pack_column<T: ArrowPrimitiveType, const N: usize>(packed: &mut [u8], stride: usize, slot: &Slot, array: &ArrayRef) {
    let array = array.as_primitive::<T>();
    let nulls = array.nulls().filter(|nulls| nulls.null_count() > 0);
    for (row, (key, value)) in packed.chunks_exact_mut(stride).zip(array.values().iter()).enumerate() {
        // What lies under a null is arbitrary and must not tell keys apart.
        if nulls.is_none_or(|nulls| nulls.is_valid(row)) {
            key[slot.offset..slot.offset + N].copy_from_slice(&value.to_byte_slice()[..N]);
        }
    }
}

fn unpack_column<T: ArrowPrimitiveType, const N: usize>(table: &Table, slot: &Slot, bit: usize) -> ArrayRef {
    let keys = || table.keys.chunks_exact(table.stride);
    let values: ScalarBuffer<T::Native> = keys()
        .map(|key| {
            let mut octets = [0; 8];
            octets[..N].copy_from_slice(&key[slot.offset..slot.offset + N]);
            // Little endian, as packed: the low octets are the value.
            T::Native::usize_as(u64::from_le_bytes(octets) as usize)
        })
        .collect();
    let valid = BooleanBuffer::from_iter(keys().map(|key| key[bit / 8] & (1 << (bit % 8)) == 0));
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
