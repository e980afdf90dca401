//! Messages put together field by field.

/// Octets, appended in network order.
#[derive(Clone, Default)]
pub(super) struct Octets(pub(super) Vec<u8>);

impl Octets {
    pub(super) fn u8(mut self, value: u8) -> Self {
        self.0.push(value);
        self
    }

    pub(super) fn u16(mut self, value: u16) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub(super) fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub(super) fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub(super) fn raw(mut self, octets: &[u8]) -> Self {
        self.0.extend(octets);
        self
    }
}

pub(super) fn octets() -> Octets {
    Octets::default()
}

/// A set of either version.
pub(super) fn set(id: u16, body: &[u8]) -> Vec<u8> {
    octets().u16(id).u16(body.len() as u16 + 4).raw(body).0
}

/// A template record; an enterprise other than 0 sets its bit.
pub(super) fn template(id: u16, fields: &[(u16, u16, u32)]) -> Vec<u8> {
    fields
        .iter()
        .fold(octets().u16(id).u16(fields.len() as u16), |octets, (element, length, enterprise)| match enterprise {
            0 => octets.u16(*element).u16(*length),
            enterprise => octets.u16(*element | 0x8000).u16(*length).u32(*enterprise),
        })
        .0
}

/// An IPFIX options template with its first `scope` fields as scope.
pub(super) fn options_template(id: u16, scope: u16, fields: &[(u16, u16)]) -> Vec<u8> {
    let head = octets().u16(id).u16(fields.len() as u16).u16(scope);
    fields.iter().fold(head, |octets, (element, length)| octets.u16(*element).u16(*length)).0
}

pub(super) fn ipfix(domain: u32, sequence: u32, sets: &[Vec<u8>]) -> Vec<u8> {
    let body = sets.concat();
    let export = (super::NOW / 1000) as u32;
    octets().u16(10).u16(body.len() as u16 + 16).u32(export).u32(sequence).u32(domain).raw(&body).0
}

pub(super) fn netflow9(uptime_ms: u32, sequence: u32, source: u32, sets: &[Vec<u8>]) -> Vec<u8> {
    let export = (super::NOW / 1000) as u32;
    octets().u16(9).u16(sets.len() as u16).u32(uptime_ms).u32(export).u32(sequence).u32(source).raw(&sets.concat()).0
}

pub(super) fn netflow5(uptime_ms: u32, sequence: u32, sampling: u16, records: &[[u8; 48]]) -> Vec<u8> {
    let export = (super::NOW / 1000) as u32;
    let head = octets().u16(5).u16(records.len() as u16).u32(uptime_ms).u32(export).u32(0);
    head.u32(sequence).u8(1).u8(2).u16(sampling).raw(&records.concat()).0
}
