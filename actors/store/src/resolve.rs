//! Values of dimensions, as dense codes: what rows are grouped by, and back to
//! what is shown. Ids become names here, from the dimension tables as they are now.
//!
//! A number is its own code. An address, a prefix or a text is given the next
//! code when it is first seen; a name is looked up once for each id.

use std::sync::Arc;

use ahash::RandomState;
use arrow::array::{Array, ArrayRef, AsArray as _, RecordBatch};
use arrow::datatypes::{DataType, Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type};
use benocs_model::address::{Address, Prefix};
use benocs_model::flow::{self, Column, quality};
use benocs_model::network::{Interfaces, LabelKind, Labels, Services};
use benocs_model::question::dimension::{Dimension, Kind, Port, PortField, ServiceField, Source, packet_size_bucket};
use benocs_model::question::filter::Datum;
use benocs_model::tables::Tables;
use hashbrown::HashMap;
use serde_json::Value;

use crate::tables::Names;

/// Code of an absent value. No id and no AS is this; a 64-bit hash is it once in 2^64.
pub(crate) const NULL: u64 = u64::MAX;

/// A value that has no number of its own.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Cell {
    Address(Address),
    Prefix(Address, u8),
    Text(Arc<str>),
}

/// What an id stands for.
enum Found {
    Null,
    Number(u64),
    Cell(Cell),
}

/// The dimension tables at the moment of a question, indexed.
pub(crate) struct Lookup {
    exporters: HashMap<u32, (Address, Option<Arc<str>>), RandomState>,
    interfaces: Arc<Interfaces>,
    by_id: HashMap<u32, usize, RandomState>,
    /// (exporter, ifIndex) to the version that is valid now.
    by_index: HashMap<(Address, u32), usize, RandomState>,
    routers: HashMap<u32, Arc<str>, RandomState>,
    router_of: std::collections::HashMap<Address, u32>,
    labels: Arc<Labels>,
    services: Arc<Services>,
    service_by_id: HashMap<u32, usize, RandomState>,
    names: Arc<Names>,
}

impl Lookup {
    /// Indexes what these dimensions need.
    pub(crate) fn new<'a>(
        tables: &Tables,
        names: &Arc<Names>,
        dimensions: impl Iterator<Item = &'a Dimension> + Clone,
    ) -> Self {
        let any = |wanted: fn(&Source) -> bool| dimensions.clone().any(|dimension| wanted(&dimension.source));
        let mut lookup = Self {
            exporters: HashMap::default(),
            interfaces: tables.interfaces.load_full(),
            by_id: HashMap::default(),
            by_index: HashMap::default(),
            routers: HashMap::default(),
            router_of: Default::default(),
            labels: tables.labels.load_full(),
            services: tables.services.load_full(),
            service_by_id: HashMap::default(),
            names: names.clone(),
        };
        let ports = any(|source| matches!(source, Source::Port(..)));
        if ports || any(|source| matches!(source, Source::Exporter | Source::ExporterName | Source::Label(..))) {
            let text = |name: &Option<String>| name.as_deref().map(Arc::from);
            let rows = &tables.exporters.load().rows;
            lookup.exporters.extend(rows.iter().map(|row| (row.id, (row.address, text(&row.name)))));
        }
        if ports {
            for (index, row) in lookup.interfaces.rows.iter().enumerate() {
                lookup.by_id.insert(row.id, index);
                let version = |index: usize| {
                    let row = &lookup.interfaces.rows[index];
                    (row.valid_to.unwrap_or(i64::MAX), row.valid_from)
                };
                let slot = lookup.by_index.entry((row.exporter, row.if_index)).or_insert(index);
                if version(index) > version(*slot) {
                    *slot = index;
                }
            }
        }
        if any(|source| matches!(source, Source::Router(_) | Source::ExporterName)) {
            let network = tables.network.load();
            lookup.routers.extend(network.routers.iter().map(|router| (router.id, Arc::from(router.name.as_str()))));
            lookup.router_of = network.router_index();
        }
        if any(|source| matches!(source, Source::Service(_))) {
            let ids = lookup.services.rows.iter().enumerate().map(|(index, row)| (row.id, index));
            lookup.service_by_id.extend(ids);
        }
        lookup
    }

    fn text(text: &str) -> Found {
        if text.is_empty() { Found::Null } else { Found::Cell(Cell::Text(text.into())) }
    }

    fn exporter_name(&self, id: u32) -> Found {
        let Some((address, name)) = self.exporters.get(&id) else { return Self::text(&format!("exporter {id}")) };
        if let Some(name) = name {
            return Found::Cell(Cell::Text(name.clone()));
        }
        match self.router_of.get(address).and_then(|router| self.routers.get(router)) {
            Some(name) => Found::Cell(Cell::Text(name.clone())),
            None => Self::text(&address.to_string()),
        }
    }

    fn port(&self, base: Base, field: PortField) -> Found {
        let index = match base {
            Base::Id(id) => self.by_id.get(&id),
            Base::Port(exporter, if_index) => {
                self.exporters.get(&exporter).and_then(|(address, _)| self.by_index.get(&(*address, if_index)))
            }
            Base::Hash(_) | Base::Label(..) => None,
        };
        let Some(row) = index.map(|index| &self.interfaces.rows[*index]) else { return self.port_label(base, field) };
        match field {
            PortField::Name => Self::text(&row.name),
            PortField::Description => Self::text(&row.description),
            PortField::Boundary => Found::Number(u64::from(row.boundary)),
            PortField::Connectivity => Found::Number(u64::from(row.connectivity)),
            PortField::Provider => row.provider.as_deref().map_or(Found::Null, Self::text),
        }
    }

    /// An interface that no table has is what its exporter says in options.
    fn port_label(&self, base: Base, field: PortField) -> Found {
        let Base::Port(exporter, if_index) = base else { return Found::Null };
        match (self.label(exporter, LabelKind::Interface, if_index.into()), field) {
            (Some((name, _)), PortField::Name) => Self::text(name),
            (Some((_, description)), PortField::Description) => Self::text(description),
            _ => Found::Null,
        }
    }

    /// Name and description.
    fn label(&self, exporter: u32, kind: LabelKind, number: u64) -> Option<(&str, &str)> {
        let (address, _) = self.exporters.get(&exporter)?;
        self.labels.find(*address, kind, number).map(|label| (label.name.as_str(), label.description.as_str()))
    }

    fn find(&self, source: Source, base: Base) -> Found {
        match (source, base) {
            (Source::Exporter, Base::Id(id)) => {
                self.exporters.get(&id).map_or(Found::Null, |(address, _)| Found::Cell(Cell::Address(*address)))
            }
            (Source::ExporterName, Base::Id(id)) => self.exporter_name(id),
            (Source::Router(_), Base::Id(id)) => match self.routers.get(&id) {
                Some(name) => Found::Cell(Cell::Text(name.clone())),
                None => Self::text(&format!("router {id}")),
            },
            (Source::Port(_, field), base) => self.port(base, field),
            (Source::Service(field), Base::Id(id)) => {
                let Some(index) = self.service_by_id.get(&id) else {
                    let name = field == ServiceField::Name;
                    return if name { Self::text(&format!("service {id}")) } else { Found::Null };
                };
                let row = &self.services.rows[*index];
                match field {
                    ServiceField::Name => Self::text(&row.name),
                    ServiceField::Provider => row.provider.as_deref().map_or(Found::Null, Self::text),
                    ServiceField::Category => row.category.as_deref().map_or(Found::Null, Self::text),
                }
            }
            (Source::Label(kind, _), Base::Label(exporter, number)) => {
                match self.label(exporter, kind, number).map(|(name, _)| name).filter(|name| !name.is_empty()) {
                    Some(name) => Self::text(name),
                    // RFC 6759 4.1: engine and selector.
                    None if kind == LabelKind::Application => {
                        Self::text(&format!("{}:{}", number >> 56, number & (u64::MAX >> 8)))
                    }
                    None => Self::text(&format!("{} {number}", kind.text())),
                }
            }
            (Source::AsName(_), Base::Id(0)) => Found::Null,
            (Source::AsName(_), Base::Id(asn)) => match self.names.as_names.read().get(&asn) {
                Some(name) => Found::Cell(Cell::Text(name.clone())),
                None => Self::text(&format!("AS{asn}")),
            },
            (Source::AsPath, Base::Hash(hash)) => {
                self.names.paths.read().get(&hash).map_or(Found::Null, |path| Self::text(&path.as_path))
            }
            (Source::Communities, Base::Hash(hash)) => {
                self.names.paths.read().get(&hash).map_or(Found::Null, |path| Self::text(&path.communities))
            }
            _ => Found::Null,
        }
    }
}

/// What a name is looked up by.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Base {
    Id(u32),
    Hash(u64),
    /// (exporter id, ifIndex)
    Port(u32, u32),
    /// (exporter id, VRF or application id)
    Label(u32, u64),
}

/// A column of any unsigned width.
pub(crate) enum Numbers<'a> {
    Absent,
    U8(&'a arrow::array::UInt8Array),
    U16(&'a arrow::array::UInt16Array),
    U32(&'a arrow::array::UInt32Array),
    U64(&'a arrow::array::UInt64Array),
    I64(&'a arrow::array::Int64Array),
}

impl<'a> Numbers<'a> {
    pub(crate) fn of(batch: &'a RecordBatch, name: &str) -> Self {
        let Some(array) = batch.column_by_name(name) else { return Numbers::Absent };
        Self::of_array(array)
    }

    fn of_array(array: &'a ArrayRef) -> Self {
        match array.data_type() {
            DataType::UInt8 => Numbers::U8(array.as_primitive::<UInt8Type>()),
            DataType::UInt16 => Numbers::U16(array.as_primitive::<UInt16Type>()),
            DataType::UInt32 => Numbers::U32(array.as_primitive::<UInt32Type>()),
            DataType::UInt64 => Numbers::U64(array.as_primitive::<UInt64Type>()),
            DataType::Int64 => Numbers::I64(array.as_primitive::<Int64Type>()),
            _ => Numbers::Absent,
        }
    }

    #[inline]
    pub(crate) fn get(&self, row: usize) -> Option<u64> {
        match self {
            Numbers::Absent => None,
            Numbers::U8(array) => array.is_valid(row).then(|| u64::from(array.value(row))),
            Numbers::U16(array) => array.is_valid(row).then(|| u64::from(array.value(row))),
            Numbers::U32(array) => array.is_valid(row).then(|| u64::from(array.value(row))),
            Numbers::U64(array) => array.is_valid(row).then(|| array.value(row)),
            Numbers::I64(array) => array.is_valid(row).then(|| array.value(row) as u64),
        }
    }

    fn get_u32(&self, row: usize) -> Option<u32> {
        self.get(row).map(|number| number as u32)
    }

    /// Codes of all rows.
    fn codes(&self, rows: usize, out: &mut Vec<u64>) {
        macro_rules! each {
            ($array:expr) => {{
                if $array.null_count() == 0 {
                    out.extend($array.values().iter().map(|value| *value as u64));
                } else {
                    out.extend((0..rows).map(|row| self.get(row).unwrap_or(NULL)));
                }
            }};
        }
        match self {
            Numbers::Absent => out.extend(std::iter::repeat_n(NULL, rows)),
            Numbers::U8(array) => each!(array),
            Numbers::U16(array) => each!(array),
            Numbers::U32(array) => each!(array),
            Numbers::U64(array) => each!(array),
            Numbers::I64(array) => each!(array),
        }
    }
}

/// Addresses of a column, and which of them are there.
pub(crate) struct Addresses<'a> {
    values: &'a [[u8; 16]],
    array: Option<&'a ArrayRef>,
}

impl<'a> Addresses<'a> {
    pub(crate) fn of(batch: &'a RecordBatch, name: &str) -> Self {
        let array = batch.column_by_name(name);
        let values = array.and_then(|array| flow::addresses(array.as_ref())).unwrap_or(&[]);
        Self { values, array }
    }

    #[inline]
    pub(crate) fn get(&self, row: usize) -> Option<Address> {
        let value = self.values.get(row)?;
        self.array.is_some_and(|array| array.is_valid(row)).then_some(Address(*value))
    }
}

/// Gives the codes of one dimension; each thread of a question has its own.
pub(crate) struct Coder {
    pub(crate) dimension: &'static Dimension,
    lookup: Arc<Lookup>,
    /// Rows of the rollup tables have the exporter's id, not its address.
    cells: Vec<Cell>,
    codes: HashMap<Cell, u64, RandomState>,
    memo: HashMap<Base, u64, RandomState>,
}

impl Coder {
    pub(crate) fn new(dimension: &'static Dimension, lookup: Arc<Lookup>) -> Self {
        Self { dimension, lookup, cells: Vec::new(), codes: HashMap::default(), memo: HashMap::default() }
    }

    fn intern(&mut self, cell: Cell) -> u64 {
        if let Some(code) = self.codes.get(&cell) {
            return *code;
        }
        let code = self.cells.len() as u64;
        self.cells.push(cell.clone());
        self.codes.insert(cell, code);
        code
    }

    fn named(&mut self, base: Option<Base>) -> u64 {
        let Some(base) = base else { return NULL };
        if let Some(code) = self.memo.get(&base) {
            return *code;
        }
        let code = match self.lookup.find(self.dimension.source, base) {
            Found::Null => NULL,
            Found::Number(number) => number,
            Found::Cell(cell) => self.intern(cell),
        };
        self.memo.insert(base, code);
        code
    }

    /// How many values it holds in memory.
    pub(crate) fn len(&self) -> usize {
        self.cells.len()
    }

    /// Codes of every row.
    pub(crate) fn codes(&mut self, batch: &RecordBatch, out: &mut Vec<u64>) {
        out.clear();
        let rows = batch.num_rows();
        let numbers = |column: Column| Numbers::of(batch, column.name());
        match self.dimension.source {
            Source::Number(column) => numbers(column).codes(rows, out),
            Source::Quality => numbers(Column::Quality).codes(rows, out),
            Source::Time => out.extend(std::iter::repeat_n(NULL, rows)),
            Source::Address(column) => self.addresses(batch, column.name(), out),
            Source::Exporter if batch.column_by_name(Column::ExporterAddr.name()).is_some() => {
                self.addresses(batch, Column::ExporterAddr.name(), out);
            }
            Source::Prefix { address, len, mask } => {
                let (addresses, lens, masks) = (Addresses::of(batch, address.name()), numbers(len), numbers(mask));
                for row in 0..rows {
                    let prefix = addresses.get(row).zip(lens.get(row).or_else(|| masks.get(row)));
                    let cell = prefix.map(|(address, len)| Cell::Prefix(address.truncate(len as u8), len as u8));
                    let code = cell.map_or(NULL, |cell| self.intern(cell));
                    out.push(code);
                }
            }
            Source::Exporter | Source::ExporterName => self.ids(&numbers(Column::ExporterId), rows, out),
            Source::Router(column) | Source::AsName(column) => self.ids(&numbers(column), rows, out),
            Source::Service(_) => self.ids(&numbers(Column::ServiceId), rows, out),
            Source::AsPath | Source::Communities => {
                let hashes = numbers(Column::PathHash);
                for row in 0..rows {
                    let code = self.named(hashes.get(row).map(Base::Hash));
                    out.push(code);
                }
            }
            Source::Label(_, column) => {
                let (exporters, labelled) = (numbers(Column::ExporterId), numbers(column));
                let mut last = (None, NULL);
                for row in 0..rows {
                    let base = exporters.get_u32(row).zip(labelled.get(row)).map(|(e, n)| Base::Label(e, n));
                    if base != last.0 || row == 0 {
                        last = (base, self.named(base));
                    }
                    out.push(last.1);
                }
            }
            Source::Port(Port::Egress, _) => self.ids(&numbers(Column::EgressIfId), rows, out),
            Source::Port(side, _) => {
                let (id, index) =
                    if side == Port::In { (Column::InIfId, Column::InIf) } else { (Column::OutIfId, Column::OutIf) };
                let (ids, indexes, exporters) = (numbers(id), numbers(index), numbers(Column::ExporterId));
                let mut last = (None, NULL);
                for row in 0..rows {
                    let base = match ids.get_u32(row) {
                        Some(id) => Some(Base::Id(id)),
                        None => exporters.get_u32(row).zip(indexes.get_u32(row)).map(|(e, i)| Base::Port(e, i)),
                    };
                    if base != last.0 || row == 0 {
                        last = (base, self.named(base));
                    }
                    out.push(last.1);
                }
            }
            Source::Sampling => {
                let (num, den) = (numbers(Column::SamplingNum), numbers(Column::SamplingDen));
                out.extend((0..rows).map(|row| match (num.get(row), den.get(row)) {
                    (Some(num), Some(den)) => den / num.max(1),
                    _ => NULL,
                }));
            }
            Source::PacketSize => {
                let (octets, packets) = (numbers(Column::Octets), numbers(Column::Packets));
                out.extend((0..rows).map(|row| {
                    let bucket = octets.get(row).zip(packets.get(row)).and_then(|(o, p)| packet_size_bucket(o, p));
                    bucket.unwrap_or(NULL)
                }));
            }
            Source::Provenance { high } => {
                let both = numbers(Column::Provenance);
                let nibble = |value: u64| if high { value >> 4 } else { value & 15 };
                out.extend((0..rows).map(|row| both.get(row).map_or(NULL, nibble)));
            }
        }
    }

    fn ids(&mut self, ids: &Numbers<'_>, rows: usize, out: &mut Vec<u64>) {
        let mut last = (None, NULL);
        for row in 0..rows {
            let id = ids.get_u32(row);
            if id != last.0 {
                last = (id, self.named(id.map(Base::Id)));
            }
            out.push(last.1);
        }
    }

    fn addresses(&mut self, batch: &RecordBatch, column: &str, out: &mut Vec<u64>) {
        let addresses = Addresses::of(batch, column);
        for row in 0..batch.num_rows() {
            let code = addresses.get(row).map_or(NULL, |address| self.intern(Cell::Address(address)));
            out.push(code);
        }
    }

    /// True where codes are numbers of cells rather than values.
    pub(crate) fn is_interned(&self) -> bool {
        !matches!(self.dimension.kind, Kind::Number | Kind::Asn | Kind::Enum | Kind::Time)
    }

    pub(crate) fn datum(&self, code: u64) -> Datum<'_> {
        if code == NULL {
            return Datum::Null;
        }
        if !self.is_interned() {
            return Datum::Number(code);
        }
        match self.cells.get(code as usize) {
            Some(Cell::Address(address)) => Datum::Address(*address),
            Some(Cell::Prefix(address, len)) => Datum::Prefix(Prefix { address: *address, len: *len }),
            Some(Cell::Text(text)) => Datum::Text(text),
            None => Datum::Null,
        }
    }

    /// As the answer shows it.
    pub(crate) fn value(&self, code: u64) -> Value {
        match self.datum(code) {
            Datum::Null => Value::Null,
            Datum::Number(bits) if self.dimension.source == Source::Quality => {
                let names: Vec<&str> =
                    quality::ALL.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| *name).collect();
                names.join(",").into()
            }
            Datum::Number(number) if self.dimension.kind == Kind::Enum => match self.dimension.word(number) {
                Some(word) => word.into(),
                None => number.into(),
            },
            Datum::Number(number) => number.into(),
            Datum::Address(address) => address.to_string().into(),
            Datum::Prefix(prefix) => prefix.to_string().into(),
            Datum::Text(text) => text.into(),
        }
    }

    /// Order of two values: absent last, numbers and texts upwards.
    pub(crate) fn compare(&self, a: u64, b: u64) -> std::cmp::Ordering {
        if a == NULL || b == NULL || !self.is_interned() {
            return a.cmp(&b);
        }
        self.cells.get(a as usize).cmp(&self.cells.get(b as usize))
    }

    /// What the other's codes are here; `None` where they are the same.
    pub(crate) fn adopt(&mut self, other: &Coder) -> Option<Vec<u64>> {
        if !self.is_interned() {
            return None;
        }
        Some(other.cells.iter().map(|cell| self.intern(cell.clone())).collect())
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{UInt32Array, UInt64Array};
    use arrow::datatypes::{Field, Schema};
    use benocs_model::network::{Exporter, Exporters, Interface, Label};
    use benocs_model::question::dimension::by_name;

    use super::*;

    /// Exporters 1 and 2; exporter 1 calls interface 7, VRF 3 and application 3:80 by names.
    fn tables() -> Tables {
        let exporter = |id: u32| Exporter { id, address: Address::from_v4([192, 0, 2, id as u8]), name: None };
        let label = |kind: LabelKind, number, name: &str| Label {
            exporter: exporter(1).address,
            kind: kind as u8,
            number,
            name: name.to_owned(),
            description: format!("{name}, described"),
        };
        let known = Interface {
            id: 50,
            exporter: exporter(1).address,
            if_index: 8,
            name: "et-0/0/8".to_owned(),
            description: String::new(),
            speed: 0,
            connectivity: 0,
            boundary: 0,
            provider: None,
            remote_as: None,
            addresses: Vec::new(),
            valid_from: 0,
            valid_to: None,
        };
        let mut rows = vec![
            label(LabelKind::Interface, 7, "Gi0/7"),
            label(LabelKind::Interface, 8, "as the exporter says"),
            label(LabelKind::Vrf, 3, "red"),
            label(LabelKind::Application, 3 << 56 | 80, "http"),
        ];
        rows.sort_unstable_by_key(|row| (row.exporter, row.kind, row.number));
        let tables = Tables::default();
        tables.exporters.store(Arc::new(Exporters { generation: 1, rows: vec![exporter(1), exporter(2)] }));
        tables.interfaces.store(Arc::new(Interfaces { generation: 1, rows: vec![known] }));
        tables.labels.store(Arc::new(Labels { generation: 1, rows }));
        tables
    }

    fn shown(name: &str, column: Column, exporters: &[u32], numbers: Vec<Option<u64>>) -> Vec<Value> {
        let dimension = by_name(name).unwrap();
        let lookup = Lookup::new(&tables(), &Arc::default(), std::iter::once(dimension));
        let numbers: ArrayRef = match column.data_type() {
            DataType::UInt32 => Arc::new(numbers.into_iter().map(|n| n.map(|n| n as u32)).collect::<UInt32Array>()),
            _ => Arc::new(UInt64Array::from(numbers)),
        };
        let fields = vec![Column::ExporterId.field(), Field::new(column.name(), column.data_type(), true)];
        let exporters = Arc::new(UInt32Array::from(exporters.to_vec()));
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), vec![exporters, numbers]).unwrap();
        let (mut coder, mut codes) = (Coder::new(dimension, Arc::new(lookup)), Vec::new());
        coder.codes(&batch, &mut codes);
        codes.into_iter().map(|code| coder.value(code)).collect()
    }

    #[test]
    fn what_exporters_call_their_numbers_is_shown() {
        let http = Some(3 << 56 | 80);
        let applications = shown("application", Column::ApplicationId, &[1, 1, 2, 1], vec![http, Some(5), http, None]);
        assert_eq!(applications, [Value::from("http"), "0:5".into(), "3:80".into(), Value::Null]);
        for (name, column) in [("vrf_name", Column::InVrf), ("out_vrf_name", Column::OutVrf)] {
            let vrfs = shown(name, column, &[1, 2, 9], vec![Some(3); 3]);
            assert_eq!(vrfs, [Value::from("red"), "vrf 3".into(), "vrf 3".into()]);
        }
    }

    #[test]
    fn interfaces_that_no_table_has_are_what_the_exporter_says() {
        let of = |name| shown(name, Column::InIf, &[1, 1, 1, 2], vec![Some(7), Some(8), Some(9), Some(7)]);
        assert_eq!(of("in_if_name"), [Value::from("Gi0/7"), "et-0/0/8".into(), Value::Null, Value::Null]);
        let described = [Value::from("Gi0/7, described"), Value::Null, Value::Null, Value::Null];
        assert_eq!(of("in_if_description"), described);
        assert_eq!(of("in_if_boundary")[0], Value::Null);
    }
}
