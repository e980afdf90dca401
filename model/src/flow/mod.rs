//! The flow row: one per exported record, as columns of an Arrow record batch.
//!
//! A batch carries the columns that it has values for, in the order of
//! [`Column`]; a column that is missing is null in every row. Null is absent,
//! zero is zero. Raw facts are never overwritten by derived ones. Numbers of
//! enumerations and quality bits are frozen: they are in files.

pub mod builder;
pub mod quality;

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, ArrayRef, FixedSizeBinaryArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

/// Version of the row, kept in every file and said on every link.
pub const SCHEMA_VERSION: u32 = 1;

macro_rules! columns {
    ($($(#[$doc:meta])* $variant:ident $name:literal $type:expr, $nullable:literal;)*) => {
        /// A column of the flow row, in canonical order.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Column { $($(#[$doc])* $variant),* }

        impl Column {
            pub const ALL: &'static [Column] = &[$(Column::$variant),*];

            pub const fn name(self) -> &'static str {
                match self { $(Column::$variant => $name),* }
            }

            pub fn data_type(self) -> DataType {
                use DataType::*;
                match self { $(Column::$variant => $type),* }
            }

            pub const fn nullable(self) -> bool {
                match self { $(Column::$variant => $nullable),* }
            }

            pub fn by_name(name: &str) -> Option<Column> {
                match name { $($name => Some(Column::$variant),)* _ => None }
            }
        }
    };
}

columns! {
    // Identity. (source, seq) is unique for ever.
    /// Node (16 bits), and the second in which its log was created.
    IngestSource "ingest_source" UInt64, false;
    /// Number of the batch in that log, times 65,536, plus the row.
    IngestSeq "ingest_seq" UInt64, false;

    // Time, signed UTC milliseconds.
    TimeReceived "time_received" Int64, false;
    /// Start and end as questions use them: what was exported unless `quality` says otherwise.
    First "first" Int64, false;
    Last "last" Int64, false;
    /// What was exported, where `first` and `last` had to differ from it.
    ExportedFirst "exported_first" Int64, true;
    ExportedLast "exported_last" Int64, true;
    /// [`TimeSource`].
    TimeSource "time_source" UInt8, false;

    // Observation.
    /// Row of the exporter table (netflow00 owns it).
    ExporterId "exporter_id" UInt32, false;
    /// sFlow agent, IPFIX 130/131, else the datagram's source address.
    ExporterAddr "exporter_addr" FixedSizeBinary(16), false;
    /// The datagram's source address, where it is another one.
    UdpSource "udp_source" FixedSizeBinary(16), true;
    ObservationDomain "observation_domain" UInt32, false;
    /// ifIndex; 0 is the device itself; from sFlow, the top two bits are its format (1 discard, 2 multiple).
    InIf "in_if" UInt32, true;
    OutIf "out_if" UInt32, true;
    /// [`Observation`].
    Observation "observation" UInt8, false;
    /// One of `sampling_num / sampling_den` packets was seen; 1/1 where unsampled or unknown (see `quality`).
    SamplingNum "sampling_num" UInt32, false;
    SamplingDen "sampling_den" UInt32, false;
    /// [`SamplingSource`].
    SamplingSource "sampling_source" UInt8, false;

    // Counters, as exported.
    Octets "octets" UInt64, false;
    Packets "packets" UInt64, false;
    /// 2 where octets count from layer 2 (sFlow, 352 layer2OctetDeltaCount), else 3.
    OctetsLayer "octets_layer" UInt8, false;

    // Packet facts; addresses of IPv4 are mapped into IPv6. Outer header, the inner in its own group.
    SrcAddr "src_addr" FixedSizeBinary(16), false;
    DstAddr "dst_addr" FixedSizeBinary(16), false;
    /// 0x0800, 0x86dd, or what the frame said; 0 is unknown.
    EtherType "etype" UInt16, false;
    Proto "proto" UInt8, false;
    SrcPort "src_port" UInt16, false;
    DstPort "dst_port" UInt16, false;
    TcpFlags "tcp_flags" UInt16, true;
    Tos "tos" UInt8, true;
    Ttl "ttl" UInt8, true;
    /// type * 256 + code.
    Icmp "icmp" UInt16, true;
    SrcMask "src_mask" UInt8, true;
    DstMask "dst_mask" UInt8, true;
    FlowLabel "ipv6_flow_label" UInt32, true;
    IpId "ip_id" UInt32, true;
    FragmentOffset "fragment_offset" UInt16, true;
    ForwardingStatus "forwarding_status" UInt8, true;
    /// What the router itself says of the route (16/17, 15/62, 18/63).
    RecordSrcAs "record_src_as" UInt32, true;
    RecordDstAs "record_dst_as" UInt32, true;
    RecordNextHop "record_next_hop" FixedSizeBinary(16), true;
    RecordBgpNextHop "record_bgp_next_hop" FixedSizeBinary(16), true;
    // Layer 2.
    SrcVlan "src_vlan" UInt16, true;
    DstVlan "dst_vlan" UInt16, true;
    SrcMac "src_mac" UInt64, true;
    DstMac "dst_mac" UInt64, true;
    // MPLS and VRF.
    Mpls1 "mpls_1" UInt32, true;
    Mpls2 "mpls_2" UInt32, true;
    Mpls3 "mpls_3" UInt32, true;
    Mpls4 "mpls_4" UInt32, true;
    InVrf "in_vrf" UInt32, true;
    OutVrf "out_vrf" UInt32, true;
    // NAT.
    NatSrcAddr "nat_src_addr" FixedSizeBinary(16), true;
    NatDstAddr "nat_dst_addr" FixedSizeBinary(16), true;
    NatSrcPort "nat_src_port" UInt16, true;
    NatDstPort "nat_dst_port" UInt16, true;
    /// natEvent (230) or firewallEvent (233); the record is an event, not a flow.
    Event "event" UInt8, true;
    // Tunnel: the innermost header.
    /// [`Tunnel`].
    Tunnel "tunnel" UInt8, true;
    TunnelId "tunnel_id" UInt32, true;
    InnerSrcAddr "inner_src_addr" FixedSizeBinary(16), true;
    InnerDstAddr "inner_dst_addr" FixedSizeBinary(16), true;
    InnerProto "inner_proto" UInt8, true;
    InnerSrcPort "inner_src_port" UInt16, true;
    InnerDstPort "inner_dst_port" UInt16, true;
    /// RFC 6759 classification engine (8 bits) and selector.
    ApplicationId "application_id" UInt64, true;

    // Derived by the enricher. AS 0 is unknown; the own AS is never 0.
    InIfId "in_if_id" UInt32, true;
    OutIfId "out_if_id" UInt32, true;
    IngressRouter "ingress_router" UInt32, true;
    EgressRouter "egress_router" UInt32, true;
    /// Interface of the egress router, id of its version.
    EgressIfId "egress_if_id" UInt32, true;
    SrcAs "src_as" UInt32, true;
    HandoverAs "handover_as" UInt32, true;
    NextAs "next_as" UInt32, true;
    DstAs "dst_as" UInt32, true;
    SrcPrefixLen "src_prefix_len" UInt8, true;
    DstPrefixLen "dst_prefix_len" UInt8, true;
    BgpNextHop "bgp_next_hop" FixedSizeBinary(16), true;
    PathHash "path_hash" UInt64, true;
    /// [`crate::route::Provenance`] of source (high four bits) and destination (low four bits).
    Provenance "provenance" UInt8, true;
    Rpki "rpki" UInt8, true;
    ServiceId "service_id" UInt32, true;
    /// 0..=100.
    ServiceConfidence "service_confidence" UInt8, true;
    SrcNetwork "src_network" UInt32, true;
    DstNetwork "dst_network" UInt32, true;
    Customer "customer" UInt32, true;
    TenantSet "tenant_set" UInt32, true;
    /// [`crate::count::Verdict`] and [`crate::count::Reason`].
    CountVerdict "count_verdict" UInt8, true;
    CountReason "count_reason" UInt8, true;
    /// Bits of [`quality`].
    Quality "quality" UInt64, false;
}

impl Column {
    pub fn field(self) -> Field {
        Field::new(self.name(), self.data_type(), self.nullable())
    }

    /// True for what the enricher adds.
    pub fn is_derived(self) -> bool {
        self >= Column::InIfId && self != Column::Quality
    }
}

/// Every column, in canonical order: the schema of files.
pub fn full_schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let fields: Vec<Field> = Column::ALL.iter().map(|column| column.field()).collect();
        let metadata = [("benocs.flow.version".to_owned(), SCHEMA_VERSION.to_string())];
        Arc::new(Schema::new_with_metadata(fields, metadata.into()))
    });
    SCHEMA.clone()
}

/// The column, where the batch carries it.
pub fn column(batch: &RecordBatch, column: Column) -> Option<&ArrayRef> {
    batch.column_by_name(column.name())
}

/// The sixteen-octet addresses of a column, null or not, without a copy.
pub fn addresses(array: &dyn Array) -> Option<&[[u8; 16]]> {
    let array = array.as_any().downcast_ref::<FixedSizeBinaryArray>()?;
    if array.value_length() != 16 {
        return None;
    }
    let (chunks, _) = array.value_data().as_chunks::<16>();
    Some(&chunks[array.offset()..array.offset() + array.len()])
}

macro_rules! codes {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $value:literal $text:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum $name { $($(#[$vdoc])* $variant = $value),* }

        impl $name {
            pub const ALL: &'static [$name] = &[$($name::$variant),*];

            pub fn from_code(code: u8) -> Option<Self> {
                match code { $($value => Some($name::$variant),)* _ => None }
            }

            pub fn text(self) -> &'static str {
                match self { $($name::$variant => $text),* }
            }

            pub fn from_text(text: &str) -> Option<Self> {
                match text { $($text => Some($name::$variant),)* _ => None }
            }
        }
    };
}
pub(crate) use codes;

codes! {
    /// Where the record was seen relative to the interface.
    Observation { Ingress = 0 "ingress", Egress = 1 "egress", Unknown = 255 "unknown" }
}

codes! {
    /// Where `first` and `last` came from.
    TimeSource {
        Received = 0 "received",
        SysUptime = 1 "sysuptime",
        Absolute = 2 "absolute",
        Delta = 3 "delta",
        /// Export time of the message header.
        Export = 4 "export",
    }
}

codes! {
    /// Where the sampling fraction came from.
    SamplingSource {
        Unknown = 0 "unknown",
        Record = 1 "record",
        Options = 2 "options",
        Header = 3 "header",
        Configuration = 4 "configuration",
    }
}

codes! {
    /// How the inner packet was carried.
    Tunnel {
        IpInIp = 1 "ip-in-ip", Gre = 2 "gre", Vxlan = 3 "vxlan", GtpU = 4 "gtp-u",
        Srv6 = 5 "srv6", Mpls = 6 "mpls", Geneve = 7 "geneve", EtherIp = 8 "etherip", L2tp = 9 "l2tp",
    }
}
