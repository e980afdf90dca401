//! The rollup row: sums of a window over the declared dimensions.
//!
//! A *partial* holds what the rows of one stretch of the sources' logs gave to
//! a window; partials of a window are summed when asked and when compacted.
//! Octets and packets are scaled by sampling and spread with [`crate::span`].

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

pub const SCHEMA_VERSION: u32 = 1;

/// Declared widths, smallest first, in milliseconds.
pub const WIDTHS_MS: [i64; 2] = [60_000, 300_000];

/// Key columns: the dimensions that the page asks for. All are the flow row's
/// columns of the same name; null is a value of its own.
pub const KEYS: &[&str] = &[
    "exporter_id",
    "in_if",
    "in_if_id",
    "out_if",
    "out_if_id",
    "ingress_router",
    "egress_router",
    "egress_if_id",
    "src_as",
    "handover_as",
    "next_as",
    "dst_as",
    "service_id",
    "etype",
    "proto",
    "observation",
    "src_network",
    "dst_network",
    "customer",
    "tenant_set",
    "count_verdict",
    "count_reason",
];

/// `window` (start, UTC ms), keys, `octets`, `packets`, `flows`, `octets_raw`, `packets_raw`, `quality` (bits of any row).
pub fn schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let mut fields = vec![Field::new("window", DataType::Int64, false)];
        for key in KEYS {
            let column = crate::flow::Column::by_name(key).expect("a rollup key is a flow column");
            fields.push(Field::new(*key, column.data_type(), true));
        }
        for sum in ["octets", "packets", "flows", "octets_raw", "packets_raw", "quality"] {
            fields.push(Field::new(sum, DataType::UInt64, false));
        }
        let metadata = [("benocs.rollup.version".to_owned(), SCHEMA_VERSION.to_string())];
        Arc::new(Schema::new_with_metadata(fields, metadata.into()))
    });
    SCHEMA.clone()
}
