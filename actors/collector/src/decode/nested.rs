//! What is taken from lists within a record (RFC 6313): the TCP flags that YAF
//! exports there, in both directions. The outer record never depends on it.

use benocs_wire::element::{CERT, CERT_REVERSE};
use benocs_wire::ipfix::{self, Field, REVERSE};
use benocs_wire::structured::{self, Entry, take_value};

pub(crate) const TCP_CONTROL_BITS: u16 = 6;
const BASIC_LIST: u16 = 291;
const SUB_TEMPLATE_LIST: u16 = 292;
const SUB_TEMPLATE_MULTI_LIST: u16 = 293;
/// CERT's initialTCPFlags and unionTCPFlags: of the first packet, and of those after it.
const CERT_FLAGS: [u16; 2] = [14, 15];

/// Lists within lists that are looked into.
const DEPTH_MAX: usize = 4;
/// Octets of the flags of one direction, in a rewritten record.
pub(crate) const FLAGS: u16 = 2;
/// Flags that no list said; as large a number is none.
pub(crate) const NO_FLAGS: u64 = 0xffff;

pub(crate) fn is_list(element: u16) -> bool {
    matches!(element, BASIC_LIST | SUB_TEMPLATE_LIST | SUB_TEMPLATE_MULTI_LIST)
}

/// Templates of the record's domain, by id.
pub(crate) type Templates<'a> = &'a dyn Fn(u16) -> Option<ipfix::Template<'a>>;

/// What the lists of a record hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    forward: Option<u16>,
    reverse: Option<u16>,
}

impl Found {
    /// As a rewritten record has them.
    pub(crate) fn octets(self) -> [u8; 2 * FLAGS as usize] {
        let [a, b] = [self.forward, self.reverse].map(|flags| flags.unwrap_or(NO_FLAGS as u16).to_be_bytes());
        [a[0], a[1], b[0], b[1]]
    }

    fn note(&mut self, field: Field, value: &[u8]) {
        let direction = match (field.enterprise, field.element) {
            (0, TCP_CONTROL_BITS) => &mut self.forward,
            (REVERSE, TCP_CONTROL_BITS) => &mut self.reverse,
            (CERT, element) if CERT_FLAGS.contains(&element) => &mut self.forward,
            (CERT, element) if CERT_FLAGS.contains(&(element ^ CERT_REVERSE)) => &mut self.reverse,
            _ => return,
        };
        // RFC 7125: the data offset is no flag.
        let flags = value.iter().fold(0u16, |flags, octet| flags << 8 | u16::from(*octet)) & 0x0fff;
        *direction = Some(direction.unwrap_or(0) | flags);
    }
}

/// A walk through the lists of a set's records.
pub(crate) struct Nested<'a> {
    templates: Templates<'a>,
    /// Fields that may still be looked at: each takes an octet, in every list around it.
    left: usize,
}

impl<'a> Nested<'a> {
    pub(crate) fn new(templates: Templates<'a>, octets: usize) -> Self {
        Self { templates, left: octets.saturating_mul(DEPTH_MAX) }
    }

    /// Looks into the list that a field of this element holds.
    pub(crate) fn look(&mut self, element: u16, content: &[u8], found: &mut Found) {
        self.list(element, content, 0, found);
    }

    fn list(&mut self, element: u16, content: &[u8], depth: usize, found: &mut Found) {
        if depth >= DEPTH_MAX {
            return;
        }
        match element {
            SUB_TEMPLATE_MULTI_LIST => {
                for entry in structured::sub_template_multi_list(content) {
                    self.records(entry, depth, found);
                }
            }
            SUB_TEMPLATE_LIST => {
                if let Some(entry) = structured::sub_template_list(content) {
                    self.records(entry, depth, found);
                }
            }
            _ => {
                let Some(list) = structured::basic_list(content) else { return };
                for value in list.values() {
                    if !self.field(list.field, value, depth, found) {
                        return;
                    }
                }
            }
        }
    }

    fn records(&mut self, entry: Entry<'_>, depth: usize, found: &mut Found) {
        let Some(template) = (self.templates)(entry.template) else { return };
        let mut rest = entry.records;
        while !rest.is_empty() {
            let before = rest.len();
            for field in template.fields() {
                let Some((value, after)) = take_value(rest, field.length) else { return };
                if !self.field(field, value, depth, found) {
                    return;
                }
                rest = after;
            }
            // Records without octets are as many as one likes.
            if rest.len() == before {
                return;
            }
        }
    }

    /// False where enough was looked at.
    fn field(&mut self, field: Field, value: &[u8], depth: usize, found: &mut Found) -> bool {
        let Some(left) = self.left.checked_sub(1) else { return false };
        self.left = left;
        if field.enterprise == 0 && is_list(field.element) {
            self.list(field.element, value, depth + 1, found);
        } else {
            found.note(field, value);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 256: initialTCPFlags, unionTCPFlags; 257: a list of its own kind; 258: nothing but fields without octets.
    fn template(id: u16) -> Option<ipfix::Template<'static>> {
        let fields: &[u8] = match id {
            256 => &[0x80, 14, 0, 1, 0, 0, 0x1a, 0xd7, 0x80, 15, 0, 1, 0, 0, 0x1a, 0xd7],
            257 => &[1, 36, 255, 255],
            258 => &[0, 1, 0, 0, 0, 2, 0, 0],
            259 => &[0xc0, 15, 0, 1, 0, 0, 0x1a, 0xd7],
            _ => return None,
        };
        let field_count = match id {
            256 | 258 => 2,
            _ => 1,
        };
        Some(ipfix::Template { id, options: false, field_count, scope_count: 0, fields, enterprise_bit: true })
    }

    fn look(element: u16, content: &[u8]) -> Found {
        let mut found = Found::default();
        Nested::new(&template, content.len()).look(element, content, &mut found);
        found
    }

    #[test]
    fn flags_of_both_directions_are_found_in_every_kind_of_list() {
        let both = Found { forward: Some(0x1b), reverse: Some(0x12) };
        assert_eq!(look(293, &[3, 1, 0, 0, 6, 0x02, 0x19, 1, 3, 0, 5, 0x12, 9, 9, 0, 4]), both);
        assert_eq!(look(292, &[3, 1, 0, 0x02, 0x19]), Found { forward: Some(0x1b), reverse: None });
        assert_eq!(look(291, &[3, 0, 6, 0, 2, 0x50, 0x02, 0x50, 0x10]).forward, Some(0x12));
        assert_eq!(both.octets(), [0, 0x1b, 0, 0x12]);
        assert_eq!(look(293, &[3]).octets(), [255; 4]);
    }

    #[test]
    fn lists_of_nothing_and_lists_without_end_end() {
        // Records without octets, a template that is not known, a record that is cut short.
        for content in [&[3, 1, 2, 0, 6, 1, 1][..], &[3, 9, 9, 0, 6, 1, 1], &[3, 1, 0, 0, 5, 2]] {
            assert_eq!(look(293, content).reverse, None, "{content:?}");
        }
        assert_eq!(look(293, &[3, 1, 0, 0, 5, 2]).forward, Some(2), "what was read before the end stays");
        // A subTemplateList in one in one ...: the innermost is not reached.
        let mut content = vec![3, 1, 0, 0x02, 0x19];
        for depth in 0..8u8 {
            let found = look(292, &content);
            assert_eq!(found.forward.is_some(), usize::from(depth) < DEPTH_MAX, "{depth}");
            content = [vec![3, 1, 1, content.len() as u8], content].concat();
        }
    }
}
