//! Information elements: what a number in a template stands for, by name and type.
//!
//! IANA's registry (RFC 7012), the reverse of its elements (RFC 5103), what
//! enterprises send, and the numbers that version 9 has beside IANA's.

mod enterprise;
mod iana;

use std::fmt;

use crate::ipfix::REVERSE;

pub const CISCO: u32 = 9;
pub const NOKIA: u32 = 637;
pub const HUAWEI: u32 = 2011;
pub const JUNIPER: u32 = 2636;
pub const NETSCALER: u32 = 5951;
pub const CERT: u32 = 6871;
pub const VMWARE: u32 = 6876;
pub const BARRACUDA: u32 = 10_704;
pub const PALO_ALTO: u32 = 25_461;
pub const NTOP: u32 = 35_632;
pub const VIPTELA: u32 = 41_916;

/// CERT's own bit for the reverse direction, in the number.
pub const CERT_REVERSE: u16 = 0x4000;
/// Where ntop's elements begin in version 9, which has no enterprises.
const NTOP_NETFLOW9: u16 = 57_472;

/// Abstract data types (RFC 7012 3.1, RFC 6313 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    OctetArray,
    Unsigned8,
    Unsigned16,
    Unsigned32,
    Unsigned64,
    Unsigned256,
    Signed8,
    Signed16,
    Signed32,
    Signed64,
    Float32,
    Float64,
    Boolean,
    MacAddress,
    String,
    DateTimeSeconds,
    DateTimeMilliseconds,
    DateTimeMicroseconds,
    DateTimeNanoseconds,
    Ipv4Address,
    Ipv6Address,
    BasicList,
    SubTemplateList,
    SubTemplateMultiList,
}

impl Type {
    /// As the registry writes it.
    pub fn text(self) -> &'static str {
        match self {
            Type::OctetArray => "octetArray",
            Type::Unsigned8 => "unsigned8",
            Type::Unsigned16 => "unsigned16",
            Type::Unsigned32 => "unsigned32",
            Type::Unsigned64 => "unsigned64",
            Type::Unsigned256 => "unsigned256",
            Type::Signed8 => "signed8",
            Type::Signed16 => "signed16",
            Type::Signed32 => "signed32",
            Type::Signed64 => "signed64",
            Type::Float32 => "float32",
            Type::Float64 => "float64",
            Type::Boolean => "boolean",
            Type::MacAddress => "macAddress",
            Type::String => "string",
            Type::DateTimeSeconds => "dateTimeSeconds",
            Type::DateTimeMilliseconds => "dateTimeMilliseconds",
            Type::DateTimeMicroseconds => "dateTimeMicroseconds",
            Type::DateTimeNanoseconds => "dateTimeNanoseconds",
            Type::Ipv4Address => "ipv4Address",
            Type::Ipv6Address => "ipv6Address",
            Type::BasicList => "basicList",
            Type::SubTemplateList => "subTemplateList",
            Type::SubTemplateMultiList => "subTemplateMultiList",
        }
    }

    /// Lists of RFC 6313.
    pub fn is_list(self) -> bool {
        matches!(self, Type::BasicList | Type::SubTemplateList | Type::SubTemplateMultiList)
    }
}

/// Number, name, type.
type Row = (u16, &'static str, Type);

/// Which element is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    /// 0 is IANA's registry.
    pub enterprise: u32,
    pub number: u16,
}

/// `number`, or `enterprise/number`.
impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.enterprise {
            0 => write!(f, "{}", self.number),
            enterprise => write!(f, "{enterprise}/{}", self.number),
        }
    }
}

/// An element of a registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Element {
    name: &'static str,
    /// The name's element, seen in the other direction (RFC 5103 6.1).
    reverse: bool,
    pub kind: Type,
}

/// The name; of a reverse element as RFC 5103 6.1 makes it.
impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut letters = self.name.chars();
        match letters.next().filter(|_| self.reverse) {
            Some(first) => write!(f, "reverse{}{}", first.to_ascii_uppercase(), letters.as_str()),
            None => f.write_str(self.name),
        }
    }
}

/// Enterprises whose elements are known, with the word that stands for each.
const ENTERPRISES: &[(u32, &str, &[Row])] = &[
    (CISCO, "cisco", enterprise::CISCO),
    (NOKIA, "nokia", enterprise::NOKIA),
    (HUAWEI, "huawei", enterprise::HUAWEI),
    (JUNIPER, "juniper", enterprise::JUNIPER),
    (NETSCALER, "netscaler", enterprise::NETSCALER),
    (CERT, "cert", enterprise::CERT),
    (VMWARE, "vmware", enterprise::VMWARE),
    (BARRACUDA, "barracuda", enterprise::BARRACUDA),
    (PALO_ALTO, "paloalto", enterprise::PALO_ALTO),
    (NTOP, "ntop", enterprise::NTOP),
    (VIPTELA, "viptela", enterprise::VIPTELA),
];

fn row(rows: &'static [Row], number: u16, reverse: bool) -> Option<Element> {
    let at = rows.binary_search_by_key(&number, |row| row.0).ok()?;
    let (_, name, kind) = rows[at];
    Some(Element { name, reverse, kind })
}

/// The element, where a registry has it.
pub fn find(id: Id) -> Option<Element> {
    match id.enterprise {
        0 => row(iana::IANA, id.number, false).or_else(|| of_netflow9(id.number)),
        REVERSE => row(iana::IANA, id.number, true),
        CERT if id.number & CERT_REVERSE != 0 => row(enterprise::CERT, id.number & !CERT_REVERSE, true),
        enterprise => {
            let (_, _, rows) = ENTERPRISES.iter().find(|known| known.0 == enterprise)?;
            row(rows, id.number, false)
        }
    }
}

/// Version 9 has no enterprises: vendors took numbers that IPFIX cannot have.
fn of_netflow9(number: u16) -> Option<Element> {
    row(enterprise::ASA, number, false)
        .or_else(|| row(enterprise::PALO_ALTO, number, false))
        .or_else(|| row(enterprise::NTOP, number.checked_sub(NTOP_NETFLOW9)?, false))
}

/// `octetDeltaCount`, `reverseOctetDeltaCount`, `95`, `9/12232`, `cisco/applicationCategoryName`.
/// A number need not be in a registry.
pub fn parse(text: &str) -> Option<Id> {
    let number = |text: &str| text.parse::<u16>().ok();
    let Some((owner, element)) = text.split_once('/') else {
        return number(text).map(|number| Id { enterprise: 0, number }).or_else(|| by_name(text));
    };
    let word = || ENTERPRISES.iter().find(|known| known.1.eq_ignore_ascii_case(owner)).map(|known| known.0);
    let enterprise = owner.parse::<u32>().ok().or_else(word)?;
    let named = || {
        let rows = match enterprise {
            0 => iana::IANA,
            _ => ENTERPRISES.iter().find(|known| known.0 == enterprise)?.2,
        };
        rows.iter().find(|row| row.1 == element).map(|row| row.0)
    };
    Some(Id { enterprise, number: number(element).or_else(named)? })
}

/// IANA's elements by their names, in both directions.
fn by_name(name: &str) -> Option<Id> {
    let of = |name: &str| iana::IANA.iter().find(|row| row.1 == name).map(|row| row.0);
    if let Some(number) = of(name) {
        return Some(Id { enterprise: 0, number });
    }
    let rest = name.strip_prefix("reverse")?;
    let first = rest.chars().next()?;
    let forward = format!("{}{}", first.to_ascii_lowercase(), &rest[first.len_utf8()..]);
    of(&forward).map(|number| Id { enterprise: REVERSE, number })
}

/// Everything that has a name: IANA's elements, then those of enterprises.
pub fn all() -> impl Iterator<Item = (Id, Element)> {
    let of = |enterprise: u32, rows: &'static [Row]| {
        rows.iter().map(move |(number, name, kind)| {
            (Id { enterprise, number: *number }, Element { name, reverse: false, kind: *kind })
        })
    };
    of(0, iana::IANA).chain(ENTERPRISES.iter().flat_map(move |(enterprise, _, rows)| of(*enterprise, rows)))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn known(enterprise: u32, number: u16) -> Option<(String, Type)> {
        find(Id { enterprise, number }).map(|element| (element.to_string(), element.kind))
    }

    #[test]
    fn registries_are_sorted_and_names_are_unique() {
        let tables = ENTERPRISES.iter().map(|known| known.2).chain([iana::IANA, enterprise::ASA]);
        for rows in tables {
            assert!(rows.windows(2).all(|pair| pair[0].0 < pair[1].0));
            let names: HashSet<&str> = rows.iter().map(|row| row.1).collect();
            assert_eq!(names.len(), rows.len());
            let legal = |name: &str| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
            assert!(rows.iter().all(|row| !row.1.is_empty() && legal(row.1)));
        }
        assert!(iana::IANA.len() > 500 && iana::IANA.last().is_some_and(|row| row.0 >= 533));
    }

    #[test]
    fn numbers_names_and_types_are_those_of_the_registry() {
        use Type as T;
        for (number, name, kind) in [
            (1, "octetDeltaCount", T::Unsigned64),
            (4, "protocolIdentifier", T::Unsigned8),
            (8, "sourceIPv4Address", T::Ipv4Address),
            (21, "flowEndSysUpTime", T::Unsigned32),
            (27, "sourceIPv6Address", T::Ipv6Address),
            (56, "sourceMacAddress", T::MacAddress),
            (82, "interfaceName", T::String),
            (95, "applicationId", T::OctetArray),
            (104, "layer2packetSectionData", T::OctetArray),
            (152, "flowStartMilliseconds", T::DateTimeMilliseconds),
            (236, "VRFname", T::String),
            (276, "dataRecordsReliability", T::Boolean),
            (291, "basicList", T::BasicList),
            (292, "subTemplateList", T::SubTemplateList),
            (293, "subTemplateMultiList", T::SubTemplateMultiList),
            (311, "samplingProbability", T::Float64),
            (315, "dataLinkFrameSection", T::OctetArray),
            (494, "srhSegmentIPv6", T::Ipv6Address),
            (502, "srhSegmentIPv6EndpointBehavior", T::Unsigned16),
            (533, "pathDelaySumDeltaMicroseconds", T::Unsigned64),
        ] {
            assert_eq!(known(0, number), Some((name.to_owned(), kind)), "{number}");
        }
        assert_eq!((known(0, 0), known(0, 110), known(0, 32_000)), (None, None, None));
    }

    #[test]
    fn enterprises_reverse_elements_and_numbers_of_version_9_have_names() {
        for (enterprise, number, name) in [
            (CISCO, 12_232, "applicationCategoryName"),
            (NOKIA, 93, "aluNatSubString"),
            (HUAWEI, 1, "ingressGponGemPortId"),
            (JUNIPER, 137, "observationDomainLevelCommonProperties"),
            (NETSCALER, 128, "roundTripTime"),
            (CERT, 14, "initialTCPFlags"),
            (CERT, 14 | CERT_REVERSE, "reverseInitialTCPFlags"),
            (VMWARE, 889, "vxlanExportRole"),
            (BARRACUDA, 4, "fwRule"),
            (PALO_ALTO, 56_701, "appId"),
            (NTOP, 118, "L7_PROTO"),
            (VIPTELA, 4321, "vpnIdentifier"),
            (REVERSE, 1, "reverseOctetDeltaCount"),
            (0, 56_702, "userId"),
            (0, 57_590, "L7_PROTO"),
            (0, 40_005, "fwEvent"),
        ] {
            assert_eq!(known(enterprise, number).map(|known| known.0).as_deref(), Some(name));
        }
        assert_eq!((known(CISCO, 1), known(99, 1), known(REVERSE, 0)), (None, None, None));
    }

    #[test]
    fn an_element_is_named_by_name_number_or_enterprise() {
        let id = |enterprise, number| Some(Id { enterprise, number });
        for (text, found) in [
            ("applicationId", id(0, 95)),
            ("95", id(0, 95)),
            ("9/12232", id(9, 12_232)),
            ("cisco/applicationCategoryName", id(9, 12_232)),
            ("PaloAlto/appId", id(25_461, 56_701)),
            ("0/octetDeltaCount", id(0, 1)),
            ("reverseOctetDeltaCount", id(REVERSE, 1)),
            ("4294967295/65535", id(u32::MAX, 65_535)),
            ("nothing", None),
            ("cisco/nothing", None),
            ("9/", None),
            ("/9", None),
            ("70000", None),
            ("reverse", None),
            ("reverseÄ", None),
        ] {
            assert_eq!(parse(text), found, "{text}");
        }
        for (id, element) in all() {
            let text = element.to_string();
            let full = if id.enterprise == 0 { text } else { format!("{}/{text}", id.enterprise) };
            assert_eq!(parse(&full), Some(id), "{full}");
        }
        assert_eq!(
            (Id { enterprise: 9, number: 5 }.to_string(), Id { enterprise: 0, number: 5 }.to_string()),
            ("9/5".into(), "5".into())
        );
    }
}
