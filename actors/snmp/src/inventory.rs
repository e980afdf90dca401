//! A router as its MIBs tell it: system group (RFC 3418), ifTable and ifXTable
//! (RFC 2863), ipAddrTable and ipAddressTable (RFC 4293).

use std::collections::BTreeMap;

use async_snmp::Value;
use benocs_model::address::Address;

/// Columns that are walked, each with what its last identifiers are.
pub(crate) const COLUMNS: [&[u32]; 15] = [
    SYSTEM,
    IF_NAME,
    IF_ALIAS,
    IF_DESCR,
    IF_HIGH_SPEED,
    IF_SPEED,
    IF_OPER_STATUS,
    IF_HC_IN_OCTETS,
    IF_HC_OUT_OCTETS,
    IF_IN_OCTETS,
    IF_OUT_OCTETS,
    IP_AD_ENT_IF_INDEX,
    IP_AD_ENT_NET_MASK,
    IP_ADDRESS_IF_INDEX,
    IP_ADDRESS_PREFIX,
];

/// Those whose rows are interfaces.
const OF_INTERFACES: [&[u32]; 10] = [
    IF_NAME,
    IF_ALIAS,
    IF_DESCR,
    IF_HIGH_SPEED,
    IF_SPEED,
    IF_OPER_STATUS,
    IF_HC_IN_OCTETS,
    IF_HC_OUT_OCTETS,
    IF_IN_OCTETS,
    IF_OUT_OCTETS,
];

pub(crate) const SYSTEM: &[u32] = &[1, 3, 6, 1, 2, 1, 1];
pub(crate) const IF_NAME: &[u32] = &[1, 3, 6, 1, 2, 1, 31, 1, 1, 1, 1];
const IF_HC_IN_OCTETS: &[u32] = &[1, 3, 6, 1, 2, 1, 31, 1, 1, 1, 6];
const IF_HC_OUT_OCTETS: &[u32] = &[1, 3, 6, 1, 2, 1, 31, 1, 1, 1, 10];
const IF_HIGH_SPEED: &[u32] = &[1, 3, 6, 1, 2, 1, 31, 1, 1, 1, 15];
const IF_ALIAS: &[u32] = &[1, 3, 6, 1, 2, 1, 31, 1, 1, 1, 18];
pub(crate) const IF_DESCR: &[u32] = &[1, 3, 6, 1, 2, 1, 2, 2, 1, 2];
const IF_SPEED: &[u32] = &[1, 3, 6, 1, 2, 1, 2, 2, 1, 5];
const IF_OPER_STATUS: &[u32] = &[1, 3, 6, 1, 2, 1, 2, 2, 1, 8];
const IF_IN_OCTETS: &[u32] = &[1, 3, 6, 1, 2, 1, 2, 2, 1, 10];
const IF_OUT_OCTETS: &[u32] = &[1, 3, 6, 1, 2, 1, 2, 2, 1, 16];
const IP_AD_ENT_IF_INDEX: &[u32] = &[1, 3, 6, 1, 2, 1, 4, 20, 1, 2];
const IP_AD_ENT_NET_MASK: &[u32] = &[1, 3, 6, 1, 2, 1, 4, 20, 1, 3];
const IP_ADDRESS_IF_INDEX: &[u32] = &[1, 3, 6, 1, 2, 1, 4, 34, 1, 3];
const IP_ADDRESS_PREFIX: &[u32] = &[1, 3, 6, 1, 2, 1, 4, 34, 1, 5];

/// Enterprise numbers (IANA) of those who build routers.
const VENDORS: [(u32, &str); 22] = [
    (9, "Cisco"),
    (11, "HP"),
    (207, "Allied Telesis"),
    (311, "Microsoft"),
    (674, "Dell"),
    (1588, "Brocade"),
    (1991, "Foundry"),
    (2011, "Huawei"),
    (2352, "Ericsson"),
    (2636, "Juniper"),
    (3902, "ZTE"),
    (4413, "Broadcom"),
    (6527, "Nokia"),
    (8072, "Net-SNMP"),
    (12356, "Fortinet"),
    (14988, "MikroTik"),
    (25461, "Palo Alto"),
    (25506, "H3C"),
    (30065, "Arista"),
    (40310, "Cumulus"),
    (41112, "Ubiquiti"),
    (47196, "Aruba"),
];

/// One interface as one poll saw it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Polled {
    pub if_index: u32,
    /// ifName, else ifDescr, else ifAlias.
    pub name: String,
    /// ifAlias, else ifDescr, else ifName.
    pub description: String,
    /// Bits a second; 0 is unknown.
    pub speed: u64,
    /// ifOperStatus: 1 up, 2 down, ...; 0 is unknown.
    pub oper_status: u8,
    /// Octets, in and out.
    pub counters: Option<(u64, u64)>,
    /// The counters have 64 bits.
    pub wide_counters: bool,
    pub addresses: Vec<(Address, u8)>,
}

/// One router as one poll saw it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    pub name: String,
    pub description: String,
    pub vendor: Option<String>,
    /// Hundredths of a second.
    pub uptime_cs: Option<u32>,
    pub interfaces: Vec<Polled>,
}

#[derive(Default)]
struct Row {
    name: String,
    alias: String,
    descr: String,
    high_speed: u64,
    speed: u64,
    oper_status: u8,
    wide: [Option<u64>; 2],
    narrow: [Option<u64>; 2],
    addresses: BTreeMap<Address, u8>,
}

/// Text of an octet string: what is not UTF-8 is Latin-1, as old agents have it; no control characters.
fn text(value: &Value) -> String {
    let octets = value.as_bytes().unwrap_or_default();
    let octets = octets.strip_suffix(&[0]).unwrap_or(octets);
    let text = match std::str::from_utf8(octets) {
        Ok(text) => text.to_owned(),
        Err(_) => octets.iter().map(|octet| char::from(*octet)).collect(),
    };
    let text: String = text.chars().map(|one| if one.is_control() { ' ' } else { one }).collect();
    text.trim().to_owned()
}

/// Address from an InetAddress index: type, length, octets (RFC 4001); with what follows it.
fn inet_address(index: &[u32]) -> Option<(Address, &[u32])> {
    let (kind, rest) = index.split_first()?;
    let (len, rest) = rest.split_first()?;
    let (octets, rest) = rest.split_at_checked(*len as usize)?;
    let octets: Vec<u8> = octets.iter().map(|arc| u8::try_from(*arc).ok()).collect::<Option<_>>()?;
    // Types 3 and 4 carry a zone after the address.
    let address = match (*kind, octets.as_slice()) {
        (1, octets) | (3, octets) => Address::from_v4(octets.get(..4)?.try_into().ok()?),
        (2, octets) | (4, octets) => Address(octets.get(..16)?.try_into().ok()?),
        _ => return None,
    };
    Some((address, rest))
}

fn host_len(address: Address) -> u8 {
    if address.is_v4() { 32 } else { 128 }
}

impl Inventory {
    /// From what the walks brought, in any order.
    pub fn from_varbinds<'a>(varbinds: impl IntoIterator<Item = (&'a [u32], &'a Value)>) -> Self {
        let mut inventory = Self::default();
        let mut rows: BTreeMap<u32, Row> = BTreeMap::new();
        let mut if_index_of: BTreeMap<Address, u32> = BTreeMap::new();
        let mut len_of: BTreeMap<Address, u8> = BTreeMap::new();
        for (oid, value) in varbinds {
            if value.is_exception() {
                continue;
            }
            if let Some([arc, 0]) = oid.strip_prefix(SYSTEM) {
                match arc {
                    1 => inventory.description = text(value),
                    2 => inventory.vendor = value.as_oid().and_then(|oid| vendor(oid.arcs())),
                    3 => inventory.uptime_cs = value.as_u32(),
                    5 => inventory.name = text(value),
                    _ => {}
                }
                continue;
            }
            if let Some((address, len_or_index)) = address_of(oid, value) {
                match len_or_index {
                    AddressFact::IfIndex(if_index) => drop(if_index_of.insert(address, if_index)),
                    AddressFact::Len(len) => drop(len_of.insert(address, len)),
                }
                continue;
            }
            let Some((column, [if_index])) = oid.split_at_checked(oid.len().saturating_sub(1)) else { continue };
            if !OF_INTERFACES.contains(&column) {
                continue;
            }
            let row = rows.entry(*if_index).or_default();
            match column {
                IF_NAME => row.name = text(value),
                IF_ALIAS => row.alias = text(value),
                IF_DESCR => row.descr = text(value),
                // In millions of bits a second.
                IF_HIGH_SPEED => row.high_speed = u64::from(value.as_u32().unwrap_or(0)) * 1_000_000,
                IF_SPEED => row.speed = u64::from(value.as_u32().unwrap_or(0)),
                IF_OPER_STATUS => row.oper_status = value.as_u32().and_then(|one| u8::try_from(one).ok()).unwrap_or(0),
                IF_HC_IN_OCTETS => row.wide[0] = value.as_u64(),
                IF_HC_OUT_OCTETS => row.wide[1] = value.as_u64(),
                IF_IN_OCTETS => row.narrow[0] = value.as_u64(),
                IF_OUT_OCTETS => row.narrow[1] = value.as_u64(),
                _ => {}
            }
        }
        for (address, if_index) in if_index_of {
            let len = len_of.get(&address).copied().unwrap_or_else(|| host_len(address));
            // An address on no interface that is listed makes none.
            if let Some(row) = rows.get_mut(&if_index) {
                row.addresses.insert(address, len);
            }
        }
        inventory.interfaces = rows.into_iter().map(|(if_index, row)| row.into_polled(if_index)).collect();
        inventory
    }
}

impl Row {
    fn into_polled(self, if_index: u32) -> Polled {
        let first = |texts: [&String; 3]| texts.into_iter().find(|text| !text.is_empty()).cloned().unwrap_or_default();
        let wide = self.wide[0].zip(self.wide[1]);
        Polled {
            if_index,
            name: first([&self.name, &self.descr, &self.alias]),
            description: first([&self.alias, &self.descr, &self.name]),
            // ifSpeed stops at 4.3 Gbit/s; ifHighSpeed rounds what is below a million to 0.
            speed: match (self.high_speed, self.speed) {
                (0, speed) if speed == u64::from(u32::MAX) => 0,
                (0, speed) => speed,
                (high, _) => high,
            },
            oper_status: self.oper_status,
            counters: wide.or(self.narrow[0].zip(self.narrow[1])),
            wide_counters: wide.is_some(),
            addresses: self.addresses.into_iter().collect(),
        }
    }
}

enum AddressFact {
    IfIndex(u32),
    Len(u8),
}

fn address_of(oid: &[u32], value: &Value) -> Option<(Address, AddressFact)> {
    let v4 = |index: &[u32]| {
        let octets: Vec<u8> = index.iter().map(|arc| u8::try_from(*arc).ok()).collect::<Option<_>>()?;
        Some(Address::from_v4(octets.try_into().ok()?))
    };
    if let Some(index) = oid.strip_prefix(IP_AD_ENT_IF_INDEX) {
        return Some((v4(index)?, AddressFact::IfIndex(value.as_u32()?)));
    }
    if let Some(index) = oid.strip_prefix(IP_AD_ENT_NET_MASK) {
        let mask = u32::from(value.as_ip()?);
        // A mask with holes says nothing.
        let len = mask.leading_ones();
        return (mask.count_ones() == len).then_some((v4(index)?, AddressFact::Len(len as u8)));
    }
    if let Some(index) = oid.strip_prefix(IP_ADDRESS_IF_INDEX) {
        return Some((inet_address(index)?.0, AddressFact::IfIndex(value.as_u32()?)));
    }
    if let Some(index) = oid.strip_prefix(IP_ADDRESS_PREFIX) {
        let address = inet_address(index)?.0;
        // A row of ipAddressPrefixTable: the last identifier is the length; 0.0 is none.
        let row = value.as_oid()?.arcs();
        let len = u8::try_from(*row.last()?).ok().filter(|len| row.len() > 2 && *len <= host_len(address))?;
        return Some((address, AddressFact::Len(len)));
    }
    None
}

fn vendor(object_id: &[u32]) -> Option<String> {
    let enterprise = object_id.strip_prefix(&[1, 3, 6, 1, 4, 1])?.first()?;
    let known = VENDORS.iter().find(|(number, _)| number == enterprise);
    Some(known.map_or_else(|| format!("enterprise {enterprise}"), |(_, name)| (*name).to_owned()))
}

#[cfg(test)]
mod tests {
    use async_snmp::Oid;

    use super::*;

    fn read(varbinds: &[(&[u32], &[u32], Value)]) -> Inventory {
        let oids: Vec<Vec<u32>> = varbinds.iter().map(|(column, index, _)| [*column, *index].concat()).collect();
        Inventory::from_varbinds(oids.iter().map(Vec::as_slice).zip(varbinds.iter().map(|(_, _, value)| value)))
    }

    #[test]
    fn fallbacks_fill_what_is_missing() {
        let inventory = read(&[
            (IF_DESCR, &[1], Value::from("GigabitEthernet0/1")),
            (IF_SPEED, &[1], Value::Gauge32(1_000_000_000)),
            (IF_NAME, &[1], Value::from("Gi0/1")),
            (IF_ALIAS, &[1], Value::from("")),
            (IF_HIGH_SPEED, &[1], Value::Gauge32(0)),
            (IF_DESCR, &[2], Value::from("eth1")),
            (IF_SPEED, &[2], Value::Gauge32(u32::MAX)),
            (IF_IN_OCTETS, &[2], Value::Counter32(7)),
            (IF_OUT_OCTETS, &[2], Value::Counter32(8)),
            (IF_DESCR, &[3], Value::from("ae0\0")),
            (IF_HIGH_SPEED, &[3], Value::Gauge32(100_000)),
            (IF_SPEED, &[3], Value::Gauge32(u32::MAX)),
            (IF_HC_IN_OCTETS, &[3], Value::Counter64(1 << 40)),
            (IF_HC_OUT_OCTETS, &[3], Value::Counter64(9)),
            (IF_IN_OCTETS, &[3], Value::Counter32(1)),
            (IF_OUT_OCTETS, &[3], Value::Counter32(1)),
            (IF_NAME, &[4], Value::from("wan1")),
        ]);
        let [first, second, third, fourth] = inventory.interfaces.as_slice() else { panic!("four interfaces") };
        assert_eq!((fourth.name.as_str(), fourth.description.as_str()), ("wan1", "wan1"));
        assert_eq!((first.name.as_str(), first.description.as_str()), ("Gi0/1", "GigabitEthernet0/1"));
        assert_eq!(first.speed, 1_000_000_000);
        assert_eq!((second.name.as_str(), second.speed, second.counters), ("eth1", 0, Some((7, 8))));
        assert!(!second.wide_counters);
        assert_eq!((third.name.as_str(), third.speed), ("ae0", 100_000_000_000));
        assert_eq!((third.counters, third.wide_counters), (Some((1 << 40, 9)), true));
    }

    #[test]
    fn addresses_have_their_subnets() {
        let v6: Vec<u32> = [2, 16, 0x20, 1, 0x0d, 0xb8].into_iter().chain([0; 11]).chain([1]).collect();
        let prefix: Vec<u32> = [1, 3, 6, 1, 2, 1, 4, 32, 1, 5, 7].into_iter().chain(v6.clone()).chain([64]).collect();
        let inventory = read(&[
            (IF_NAME, &[7], Value::from("ae7")),
            (IP_AD_ENT_IF_INDEX, &[192, 0, 2, 1], Value::Integer(7)),
            (IP_AD_ENT_NET_MASK, &[192, 0, 2, 1], Value::IpAddress([255, 255, 255, 252])),
            (IP_ADDRESS_IF_INDEX, &v6, Value::Integer(7)),
            (IP_ADDRESS_PREFIX, &v6, Value::ObjectIdentifier(Oid::from_slice(&prefix))),
            (IP_ADDRESS_IF_INDEX, &[1, 4, 198, 51, 100, 9], Value::Integer(7)),
            (IP_ADDRESS_PREFIX, &[1, 4, 198, 51, 100, 9], Value::ObjectIdentifier(Oid::from_slice(&[0, 0]))),
            (IP_AD_ENT_IF_INDEX, &[10, 0, 0, 1], Value::Integer(99)),
        ]);
        let mut v6_address = [0; 16];
        v6_address[..4].copy_from_slice(&[0x20, 1, 0x0d, 0xb8]);
        v6_address[15] = 1;
        let mut expected = vec![
            (Address::from_v4([192, 0, 2, 1]), 30),
            (Address::from_v4([198, 51, 100, 9]), 32),
            (Address(v6_address), 64),
        ];
        expected.sort_unstable();
        assert_eq!(inventory.interfaces.len(), 1);
        assert_eq!(inventory.interfaces[0].addresses, expected);
    }

    #[test]
    fn odd_texts_are_made_readable() {
        let inventory = read(&[
            (SYSTEM, &[5, 0], Value::OctetString(bytes::Bytes::from_static(b"r\xfc\x07dy\0"))),
            (SYSTEM, &[2, 0], Value::ObjectIdentifier(Oid::from_slice(&[1, 3, 6, 1, 4, 1, 2636, 1, 1]))),
            (SYSTEM, &[3, 0], Value::TimeTicks(4711)),
        ]);
        assert_eq!((inventory.name.as_str(), inventory.vendor.as_deref()), ("rü dy", Some("Juniper")));
        assert_eq!(inventory.uptime_cs, Some(4711));
    }
}
