//! Elements that the configuration maps to columns of the flow row, checked
//! against what the registry knows of them.

use benocs_model::flow::Column;
use benocs_model::flow::builder::{Octets16, Slot, slot};
use benocs_wire::element::{self, Id, Type};
use serde::{Deserialize, Serialize};

/// `[[collector.decode.map]]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MapConfig {
    /// By name ("applicationId", "cisco/applicationCategoryName") or number ("95", "9/12232").
    pub element: String,
    /// Of the flow row.
    pub column: String,
}

/// A mapping that was found to be possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mapped {
    pub(crate) id: Id,
    pub(crate) column: Column,
}

/// How a column is filled from a field.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    U8(Slot<u8>),
    U16(Slot<u16>),
    U32(Slot<u32>),
    U64(Slot<u64>),
    Address(Slot<Octets16>),
}

/// `None` for columns that the collector or the enricher decides itself.
pub(crate) fn target(column: Column) -> Option<Target> {
    macro_rules! of {
        ($($kind:ident: $($slot:ident)*;)*) => { match column {
            $($(column if column == slot::$slot.column() => Some(Target::$kind(slot::$slot)),)*)*
            _ => None,
        } };
    }
    of! {
        U8: PROTO TOS TTL SRC_MASK DST_MASK FORWARDING_STATUS INNER_PROTO;
        U16: SRC_PORT DST_PORT TCP_FLAGS ICMP FRAGMENT_OFFSET SRC_VLAN DST_VLAN NAT_SRC_PORT NAT_DST_PORT
            INNER_SRC_PORT INNER_DST_PORT;
        U32: FLOW_LABEL IP_ID RECORD_SRC_AS RECORD_DST_AS IN_IF OUT_IF MPLS_1 MPLS_2 MPLS_3 MPLS_4 IN_VRF OUT_VRF
            TUNNEL_ID;
        U64: OCTETS PACKETS SRC_MAC DST_MAC APPLICATION_ID;
        Address: SRC_ADDR DST_ADDR RECORD_NEXT_HOP RECORD_BGP_NEXT_HOP NAT_SRC_ADDR NAT_DST_ADDR INNER_SRC_ADDR
            INNER_DST_ADDR;
    }
}

impl Target {
    /// Bits of an integer; 0 is an address.
    fn bits(self) -> u32 {
        match self {
            Target::U8(_) => 8,
            Target::U16(_) => 16,
            Target::U32(_) => 32,
            Target::U64(_) => 64,
            Target::Address(_) => 0,
        }
    }
}

/// Bits of a type that is an integer; 0 is an address, `None` neither.
fn bits(kind: Type) -> Option<u32> {
    match kind {
        Type::Unsigned8 | Type::Boolean => Some(8),
        Type::Unsigned16 => Some(16),
        Type::Unsigned32 => Some(32),
        Type::Unsigned64 | Type::MacAddress => Some(64),
        Type::Ipv4Address | Type::Ipv6Address => Some(0),
        _ => None,
    }
}

/// The mappings; what is wrong with the first that cannot be, and what to do.
pub(crate) fn check(maps: &[MapConfig]) -> Result<Vec<Mapped>, String> {
    let mut checked: Vec<Mapped> = Vec::new();
    for map in maps {
        let mapped = one(map).map_err(|wrong| format!("collector.decode.map {:?}: {wrong}", map.element))?;
        if checked.iter().any(|known| known.id == mapped.id && known.column == mapped.column) {
            return Err(format!("collector.decode.map {:?} to {} is there twice: keep one", map.element, map.column));
        }
        checked.push(mapped);
    }
    Ok(checked)
}

fn one(map: &MapConfig) -> Result<Mapped, String> {
    let id = element::parse(&map.element)
        .ok_or("no such element: write a name of IANA's registry, a number, or enterprise/number, as in 9/12232")?;
    let column = Column::by_name(&map.column)
        .ok_or_else(|| format!("the flow row has no column {:?}: {}", map.column, columns()))?;
    let target = target(column)
        .ok_or_else(|| format!("column {} cannot be mapped to: the columns that can are {}", map.column, columns()))?;
    // What no registry knows may be an integer or an address.
    let Some(known) = element::find(id) else { return Ok(Mapped { id, column }) };
    let kind = known.kind.text();
    match (bits(known.kind), target.bits()) {
        // applicationId is an octetArray that is read as a number (RFC 6759 4).
        (None, 64) if known.kind == Type::OctetArray => {}
        (None, _) => return Err(format!("{known} is of type {kind}, which no column of the flow row holds")),
        (Some(0), 0) => {}
        (Some(0), _) => return Err(format!("{known} is an address and column {} is a number", map.column)),
        (Some(_), 0) => return Err(format!("{known} is of type {kind} and column {} is an address", map.column)),
        (Some(wide), narrow) if wide > narrow => {
            return Err(format!("{known} is of type {kind}: column {} holds {narrow} bits only", map.column));
        }
        _ => {}
    }
    Ok(Mapped { id, column })
}

fn columns() -> String {
    let names = Column::ALL.iter().filter(|column| target(**column).is_some()).map(|column| column.name());
    names.collect::<Vec<_>>().join(", ")
}

/// The column that says the same of the other end.
pub(crate) fn swapped(column: Column) -> Column {
    let name = column.name();
    let swap = |a: &str, b: &str| {
        let at = name.find(a).filter(|at| *at == 0 || name[..*at].ends_with('_'))?;
        Column::by_name(&format!("{}{b}{}", &name[..at], &name[at + a.len()..]))
    };
    let other = swap("src_", "dst_").or_else(|| swap("dst_", "src_"));
    other.or_else(|| swap("in_", "out_")).or_else(|| swap("out_", "in_")).unwrap_or(column)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapped(element: &str, column: &str) -> Result<Vec<Mapped>, String> {
        check(&[MapConfig { element: element.to_owned(), column: column.to_owned() }])
    }

    #[test]
    fn mappings_are_checked_by_type() {
        let good = Mapped { id: Id { enterprise: 9, number: 12_242 }, column: Column::ApplicationId };
        assert_eq!(mapped("9/12242", "application_id"), Ok(vec![good]));
        for (element, column) in [
            ("applicationId", "application_id"),
            ("bgpPrevAdjacentAsNumber", "record_src_as"),
            ("dot1qCustomerVlanId", "dst_vlan"),
            ("vmware/tenantSourceIPv4", "inner_src_addr"),
            ("reverseOctetDeltaCount", "octets"),
            ("64512/3", "src_addr"),
        ] {
            assert!(mapped(element, column).is_ok(), "{element} {column}");
        }
        for (element, column, word) in [
            ("nothing", "octets", "no such element"),
            ("applicationId", "application", "no column"),
            ("applicationId", "quality", "cannot be mapped"),
            ("applicationName", "application_id", "string"),
            ("sourceIPv4Address", "in_if", "is an address"),
            ("ingressInterface", "src_addr", "is an address"),
            ("ingressInterface", "dst_vlan", "16 bits only"),
            ("basicList", "octets", "basicList"),
        ] {
            let wrong = mapped(element, column).expect_err(element);
            assert!(wrong.contains(word) && !wrong.contains('\n'), "{wrong}");
        }
        let twice = MapConfig { element: "95".to_owned(), column: "application_id".to_owned() };
        assert!(check(&[twice.clone(), twice]).is_err_and(|wrong| wrong.contains("twice")));
    }

    #[test]
    fn columns_have_another_end() {
        use Column as C;
        for (a, b) in [
            (C::SrcAddr, C::DstAddr),
            (C::InIf, C::OutIf),
            (C::InVrf, C::OutVrf),
            (C::NatSrcPort, C::NatDstPort),
            (C::InnerSrcAddr, C::InnerDstAddr),
            (C::RecordSrcAs, C::RecordDstAs),
        ] {
            assert_eq!((swapped(a), swapped(b)), (b, a));
        }
        for same in [C::ApplicationId, C::Octets, C::InnerProto, C::TunnelId, C::Mpls1] {
            assert_eq!(swapped(same), same);
        }
    }
}
