//! Generated flow rows, their batches, their rollups, and the plain computation
//! that every answer is held against.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, FixedSizeBinaryBuilder, Int64Array, RecordBatch, UInt8Array, UInt16Array, UInt32Array, UInt64Array,
    new_null_array,
};
use arrow::datatypes::{Field, Schema};
use benocs_model::address::{Address, Prefix};
use benocs_model::flow::Column;
use benocs_model::message::{FlowBatch, RollupBatch, SourceId, ingest_seq};
use benocs_model::network::{Exporter, Exporters, Interface, Interfaces, Network, Router, Service, Services};
use benocs_model::question::{Answer, Order, Sums};
use benocs_model::route::{Path, PathEntry, Segment};
use benocs_model::tables::TableUpdate;
use benocs_model::{rollup, span};

/// A row as the tests think of it.
#[derive(Clone, Debug)]
pub struct Row {
    pub received: i64,
    pub first: i64,
    pub last: i64,
    pub exporter: u32,
    pub in_if: Option<u32>,
    pub out_if: Option<u32>,
    pub in_if_id: Option<u32>,
    pub den: u32,
    pub num: u32,
    pub octets: u64,
    pub packets: u64,
    pub src: Address,
    pub dst: Address,
    pub src_port: u16,
    pub dst_port: u16,
    pub proto: u8,
    pub src_as: Option<u32>,
    pub dst_as: Option<u32>,
    pub handover_as: Option<u32>,
    pub src_len: Option<u8>,
    pub path: Option<u64>,
    pub service: Option<u32>,
    pub router: Option<u32>,
    pub verdict: Option<u8>,
    pub tenant: Option<u32>,
    pub quality: u64,
}

pub fn exporter_address(id: u32) -> Address {
    Address::from_v4([192, 0, 2, id as u8])
}

pub fn batch_of(rows: &[Row], source: SourceId, seq: u64) -> RecordBatch {
    let mut fields: Vec<Field> = Vec::new();
    let mut arrays: Vec<ArrayRef> = Vec::new();
    let mut add = |column: Column, array: ArrayRef| {
        fields.push(column.field());
        arrays.push(array);
    };
    let i64s = |value: fn(&Row) -> i64| Arc::new(Int64Array::from_iter_values(rows.iter().map(value))) as ArrayRef;
    let u64s = |value: fn(&Row) -> u64| Arc::new(UInt64Array::from_iter_values(rows.iter().map(value))) as ArrayRef;
    let u32s = |value: fn(&Row) -> Option<u32>| Arc::new(UInt32Array::from_iter(rows.iter().map(value))) as ArrayRef;
    let u16s = |value: fn(&Row) -> u16| Arc::new(UInt16Array::from_iter_values(rows.iter().map(value))) as ArrayRef;
    let u8s = |value: fn(&Row) -> Option<u8>| Arc::new(UInt8Array::from_iter(rows.iter().map(value))) as ArrayRef;
    let addresses = |value: fn(&Row) -> Address| {
        let mut builder = FixedSizeBinaryBuilder::with_capacity(rows.len(), 16);
        rows.iter().for_each(|row| builder.append_value(value(row).0).unwrap());
        Arc::new(builder.finish()) as ArrayRef
    };
    add(Column::IngestSource, Arc::new(UInt64Array::from_value(source.0, rows.len())));
    let seqs = (0..rows.len() as u64).map(|row| ingest_seq(seq) + row);
    add(Column::IngestSeq, Arc::new(UInt64Array::from_iter_values(seqs)));
    add(Column::TimeReceived, i64s(|row| row.received));
    add(Column::First, i64s(|row| row.first));
    add(Column::Last, i64s(|row| row.last));
    add(Column::TimeSource, u8s(|_| Some(2)));
    add(Column::ExporterId, u32s(|row| Some(row.exporter)));
    add(Column::ExporterAddr, addresses(|row| exporter_address(row.exporter)));
    add(Column::ObservationDomain, u32s(|_| Some(0)));
    add(Column::InIf, u32s(|row| row.in_if));
    add(Column::OutIf, u32s(|row| row.out_if));
    add(Column::Observation, u8s(|_| Some(0)));
    add(Column::SamplingNum, u32s(|row| Some(row.num)));
    add(Column::SamplingDen, u32s(|row| Some(row.den)));
    add(Column::SamplingSource, u8s(|_| Some(2)));
    add(Column::Octets, u64s(|row| row.octets));
    add(Column::Packets, u64s(|row| row.packets));
    add(Column::OctetsLayer, u8s(|_| Some(3)));
    add(Column::SrcAddr, addresses(|row| row.src));
    add(Column::DstAddr, addresses(|row| row.dst));
    add(Column::EtherType, u16s(|row| if row.src.is_v4() { 0x0800 } else { 0x86dd }));
    add(Column::Proto, u8s(|row| Some(row.proto)));
    add(Column::SrcPort, u16s(|row| row.src_port));
    add(Column::DstPort, u16s(|row| row.dst_port));
    add(Column::InIfId, u32s(|row| row.in_if_id));
    add(Column::IngressRouter, u32s(|row| row.router));
    add(Column::SrcAs, u32s(|row| row.src_as));
    add(Column::HandoverAs, u32s(|row| row.handover_as));
    add(Column::DstAs, u32s(|row| row.dst_as));
    add(Column::SrcPrefixLen, u8s(|row| row.src_len));
    add(Column::PathHash, Arc::new(UInt64Array::from_iter(rows.iter().map(|row| row.path))));
    add(Column::ServiceId, u32s(|row| row.service));
    add(Column::TenantSet, u32s(|row| row.tenant));
    add(Column::CountVerdict, u8s(|row| row.verdict));
    add(Column::Quality, u64s(|row| row.quality));
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).unwrap()
}

pub fn flow_batch(rows: &[Row], source: SourceId, seq: u64) -> FlowBatch {
    FlowBatch { source, seq, rows: batch_of(rows, source, seq) }
}

/// What an aggregator would send for batches [from, upto) of a source; keys are not yet summed.
pub fn rollup_batch(source: SourceId, from: u64, upto: u64, rows: &[Row]) -> RollupBatch {
    let partials = rollup::WIDTHS_MS.iter().map(|width| (*width, partials(rows, *width))).collect();
    RollupBatch { from: [(source, from)].into(), upto: [(source, upto)].into(), partials }
}

fn partials(rows: &[Row], width: i64) -> RecordBatch {
    let mut parts: Vec<(i64, &Row, Sums)> = Vec::new();
    for row in rows {
        let (octets, packets) = (span::scale(row.octets, row.num, row.den), span::scale(row.packets, row.num, row.den));
        span::spread(row.first, row.last, octets, packets, width, |window, octets, packets, is_last| {
            parts.push((window, row, Sums { octets, packets, flows: u64::from(is_last) }));
        });
    }
    let schema = rollup::schema();
    let u32s = |value: fn(&Row) -> Option<u32>| -> ArrayRef {
        Arc::new(UInt32Array::from_iter(parts.iter().map(|(_, row, _)| value(row))))
    };
    let u64s = |value: fn(&(i64, &Row, Sums)) -> u64| -> ArrayRef {
        Arc::new(UInt64Array::from_iter_values(parts.iter().map(value)))
    };
    let u8s = |value: fn(&Row) -> Option<u8>| -> ArrayRef {
        Arc::new(UInt8Array::from_iter(parts.iter().map(|(_, row, _)| value(row))))
    };
    let array = |field: &Arc<Field>| -> ArrayRef {
        match field.name().as_str() {
            "window" => Arc::new(Int64Array::from_iter_values(parts.iter().map(|part| part.0))),
            "exporter_id" => u32s(|row| Some(row.exporter)),
            "in_if" => u32s(|row| row.in_if),
            "out_if" => u32s(|row| row.out_if),
            "in_if_id" => u32s(|row| row.in_if_id),
            "ingress_router" => u32s(|row| row.router),
            "src_as" => u32s(|row| row.src_as),
            "handover_as" => u32s(|row| row.handover_as),
            "dst_as" => u32s(|row| row.dst_as),
            "service_id" => u32s(|row| row.service),
            "tenant_set" => u32s(|row| row.tenant),
            "etype" => Arc::new(UInt16Array::from_iter_values(
                parts.iter().map(|(_, row, _)| if row.src.is_v4() { 0x0800 } else { 0x86dd }),
            )),
            "proto" => u8s(|row| Some(row.proto)),
            "observation" => u8s(|_| Some(0)),
            "count_verdict" => u8s(|row| row.verdict),
            "octets" => u64s(|part| part.2.octets),
            "packets" => u64s(|part| part.2.packets),
            "flows" => u64s(|part| part.2.flows),
            "octets_raw" | "packets_raw" => u64s(|_| 0),
            "quality" => u64s(|part| part.1.quality),
            _ => new_null_array(field.data_type(), parts.len()),
        }
    };
    RecordBatch::try_new(schema.clone(), schema.fields().iter().map(array).collect()).unwrap()
}

/// The tables that names come from.
pub fn tables() -> Vec<TableUpdate> {
    let exporters = (1..=3)
        .map(|id| Exporter { id, address: exporter_address(id), name: (id == 1).then(|| "edge one".to_owned()) })
        .collect();
    let interface = |id: u32, exporter: u32, if_index: u32, current: bool| Interface {
        id,
        exporter: exporter_address(exporter),
        if_index,
        name: format!("et-0/0/{if_index}"),
        description: if if_index.is_multiple_of(2) { format!("Transit: carrier {if_index}") } else { String::new() },
        speed: 100_000_000_000,
        connectivity: (if_index % 6) as u8,
        boundary: (if_index % 3) as u8,
        provider: (if_index == 2).then(|| "Carrier".to_owned()),
        addresses: Vec::new(),
        remote_as: None,
        valid_from: i64::from(id),
        valid_to: (!current).then_some(5_000),
    };
    let mut interfaces = Vec::new();
    for exporter in 1..=3 {
        for if_index in 0..6 {
            interfaces.push(interface(exporter * 10 + if_index, exporter, if_index, true));
        }
    }
    let mut renamed = interface(99, 1, 3, false);
    renamed.name = "xe-9/9/9".to_owned();
    interfaces.insert(0, renamed);
    let routers = vec![
        Router { id: 1, name: "core1.fra".to_owned(), addresses: vec![exporter_address(1)], vendor: None },
        Router { id: 2, name: "core1.ams".to_owned(), addresses: vec![exporter_address(2)], vendor: None },
    ];
    let services = vec![
        Service { id: 1, name: "Netflix".to_owned(), provider: Some("Netflix Inc".to_owned()), category: None },
        Service { id: 2, name: "YouTube".to_owned(), provider: Some("Google".to_owned()), category: None },
    ];
    let path = |hash: u64, asns: &[u32], communities: &[u32]| PathEntry {
        hash,
        path: Arc::new(Path {
            origin: 0,
            as_path: vec![Segment { kind: 2, asns: asns.to_vec() }],
            next_hop: Address::from_v4([203, 0, 113, 1]),
            med: None,
            local_pref: None,
            communities: communities.to_vec(),
            large_communities: Vec::new(),
            ext_communities: Vec::new(),
            originator_id: None,
            cluster_list: Vec::new(),
            ..Path::default()
        }),
    };
    let names = [(15169, "Google LLC"), (64500, "Example Carrier"), (64501, "Example Carrier")];
    vec![
        TableUpdate::Exporters(Arc::new(Exporters { generation: 7, rows: exporters })),
        TableUpdate::Interfaces(Arc::new(Interfaces { generation: 7, rows: interfaces })),
        TableUpdate::Network(Arc::new(Network { generation: 7, routers, ..Default::default() })),
        TableUpdate::Services(Arc::new(Services { generation: 7, rows: services })),
        TableUpdate::Paths(vec![
            path(1, &[64500, 15169], &[64500 << 16 | 100]),
            path(2, &[64501, 64496], &[64501 << 16 | 1, 64501 << 16 | 2]),
        ]),
        TableUpdate::AsNames(Arc::new(names.iter().map(|(asn, name)| (*asn, (*name).to_owned())).collect())),
    ]
}

/// A dimension of a row, as the answer shows it; computed from the row alone.
pub fn shown(row: &Row, name: &str) -> serde_json::Value {
    use serde_json::Value;
    let text = |text: &str| if text.is_empty() { Value::Null } else { Value::from(text) };
    let port = row.in_if_id.or_else(|| row.in_if.map(|index| row.exporter * 10 + index));
    let port = port.filter(|id| *id == 99 || (id / 10 >= 1 && id / 10 <= 3 && id % 10 < 6));
    let if_index = port.map(|id| if id == 99 { 3 } else { id % 10 });
    let path = row.path.filter(|hash| *hash == 1 || *hash == 2);
    let as_name = |asn: Option<u32>| match asn {
        None | Some(0) => Value::Null,
        Some(15169) => "Google LLC".into(),
        Some(64500 | 64501) => "Example Carrier".into(),
        Some(asn) => format!("AS{asn}").into(),
    };
    match name {
        "src_addr" => row.src.to_string().into(),
        "dst_addr" => row.dst.to_string().into(),
        "src_prefix" => row.src_len.map_or(Value::Null, |len| Prefix::new(row.src, len).to_string().into()),
        "src_as" => row.src_as.into(),
        "dst_as" => row.dst_as.into(),
        "handover_as" => row.handover_as.into(),
        "src_as_name" => as_name(row.src_as),
        "exporter" => exporter_address(row.exporter).to_string().into(),
        "exporter_name" => match row.exporter {
            1 => "edge one".into(),
            2 => "core1.ams".into(),
            _ => exporter_address(row.exporter).to_string().into(),
        },
        "ingress_router" => match row.router {
            None => Value::Null,
            Some(1) => "core1.fra".into(),
            Some(2) => "core1.ams".into(),
            Some(id) => format!("router {id}").into(),
        },
        "in_if" => row.in_if.into(),
        "out_if" => row.out_if.into(),
        "in_if_name" => match port {
            None => Value::Null,
            Some(99) => "xe-9/9/9".into(),
            Some(id) => format!("et-0/0/{}", id % 10).into(),
        },
        "in_if_description" => match if_index {
            Some(index) if index % 2 == 0 => format!("Transit: carrier {index}").into(),
            _ => Value::Null,
        },
        "in_if_boundary" => match if_index {
            None => Value::Null,
            Some(index) => ["unknown", "external", "internal"][index as usize % 3].into(),
        },
        "in_if_provider" => {
            if if_index == Some(2) {
                "Carrier".into()
            } else {
                Value::Null
            }
        }
        "service" => match row.service {
            None => Value::Null,
            Some(1) => "Netflix".into(),
            Some(2) => "YouTube".into(),
            Some(id) => format!("service {id}").into(),
        },
        "proto" => row.proto.into(),
        "etype" => {
            if row.src.is_v4() {
                0x0800.into()
            } else {
                0x86dd.into()
            }
        }
        "src_port" => row.src_port.into(),
        "dst_port" => row.dst_port.into(),
        "sampling" => (row.den / row.num).into(),
        "as_path" => match path {
            Some(1) => text("64500 15169"),
            Some(_) => text("64501 64496"),
            None => Value::Null,
        },
        "communities" => match path {
            Some(1) => text("64500:100"),
            Some(_) => text("64501:1 64501:2"),
            None => Value::Null,
        },
        "count_verdict" => match row.verdict {
            None => Value::Null,
            Some(code) => ["counted", "duplicate", "not-traffic"][code as usize].into(),
        },
        "tos" | "tcp_flags" | "src_vlan" | "next_as" => Value::Null,
        other => panic!("the plain computation does not know {other}"),
    }
}

fn add(sums: &mut Sums, other: Sums) {
    sums.octets += other.octets;
    sums.packets += other.packets;
    sums.flows += other.flows;
}

/// What the rows give, plainly: sums by (bucket, shown values), over the rows that `keep` takes.
pub fn plain(
    rows: &[Row],
    from: i64,
    to: i64,
    by: &[&str],
    width: Option<i64>,
    keep: impl Fn(&Row) -> bool,
) -> (BTreeMap<Vec<String>, Sums>, Sums) {
    let mut groups: BTreeMap<Vec<String>, Sums> = BTreeMap::new();
    let mut totals = Sums::default();
    for row in rows.iter().filter(|row| keep(row)) {
        let scaled = |raw: u64| u128::from(raw) * u128::from(row.den) / u128::from(row.num);
        let upto = |raw: u64, t: i64| {
            let t = t.clamp(row.first, row.last + 1);
            (scaled(raw) * (t - row.first) as u128 / (row.last - row.first + 1) as u128) as u64
        };
        let mut buckets = vec![(from, to, from)];
        if let Some(width) = width {
            let mut start = from.div_euclid(width) * width;
            buckets.clear();
            while start < to {
                buckets.push((start.max(from), (start + width).min(to), start));
                start += width;
            }
        }
        for (begin, end, start) in buckets {
            let sums = Sums {
                octets: upto(row.octets, end) - upto(row.octets, begin),
                packets: upto(row.packets, end) - upto(row.packets, begin),
                flows: u64::from((begin..end).contains(&row.last)),
            };
            if sums == Sums::default() {
                continue;
            }
            let mut key: Vec<String> = by.iter().map(|name| shown(row, name).to_string()).collect();
            if width.is_some() {
                key.insert(0, start.to_string());
            }
            add(groups.entry(key).or_default(), sums);
            add(&mut totals, sums);
        }
    }
    (groups, totals)
}

/// An answer in the shape of [`plain`].
pub fn answered(answer: &Answer) -> BTreeMap<Vec<String>, Sums> {
    let time_at = answer.columns.iter().position(|column| column == "time");
    let mut groups = BTreeMap::new();
    for row in &answer.rows {
        let dimensions = answer.columns.len() - 3;
        let number = |value: &serde_json::Value| value.as_u64().unwrap();
        let sums = Sums {
            octets: number(&row[dimensions]),
            packets: number(&row[dimensions + 1]),
            flows: number(&row[dimensions + 2]),
        };
        let mut key = Vec::new();
        if let Some(at) = time_at {
            key.push(unix_ms(row[at].as_str().unwrap()).to_string());
        }
        let shown = row[..dimensions].iter().enumerate().filter(|(position, _)| Some(*position) != time_at);
        key.extend(shown.map(|(_, value)| value.to_string()));
        assert!(groups.insert(key, sums).is_none(), "a group is shown twice");
    }
    groups
}

fn unix_ms(text: &str) -> i64 {
    let number = |range: std::ops::Range<usize>| text[range].parse::<i64>().unwrap();
    let (year, month, day) = (number(0..4), number(5..7), number(8..10));
    let days = (1970..year).map(|year| 365 + leap(year)).sum::<i64>()
        + [31, 28 + leap(year), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][..month as usize - 1].iter().sum::<i64>()
        + day
        - 1;
    let fraction = if text.len() > 20 { number(20..23) } else { 0 };
    (((days * 24 + number(11..13)) * 60 + number(14..16)) * 60 + number(17..19)) * 1_000 + fraction
}

fn leap(year: i64) -> i64 {
    i64::from(year % 4 == 0 && (year % 100 != 0 || year % 400 == 0))
}

pub fn question(from: i64, to: i64, by: &[&str]) -> benocs_model::question::Question {
    benocs_model::question::Question {
        from_ms: from,
        to_ms: to,
        by: by.iter().map(|name| (*name).to_owned()).collect(),
        filter: String::new(),
        limit: 1_000_000,
        resolution_ms: 0,
        order: Order::Octets,
        all_sightings: false,
        tenant_sets: None,
    }
}
