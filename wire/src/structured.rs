//! Structured data in IPFIX records (RFC 6313): lists within a field.
//!
//! basicList: | semantic u8 | E bit, element u15 | length u16 | enterprise u32 where E is set | values |
//! subTemplateList: | semantic u8 | template u16 | records |
//! subTemplateMultiList: | semantic u8 | (template u16 | length u16, these four included | records)* |
//!
//! What a list holds is named by templates, which are not known here.

use crate::ipfix::{Field, VARIABLE, variable_length};

/// A list of one element (section 4.5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BasicList<'a> {
    pub field: Field,
    values: &'a [u8],
}

/// `None` where the list ends within its header.
pub fn basic_list(content: &[u8]) -> Option<BasicList<'_>> {
    let [_semantic, a, b, c, d, values @ ..] = content else { return None };
    let (element, length) = (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]));
    if element & 0x8000 == 0 {
        return Some(BasicList { field: Field { element, enterprise: 0, length }, values });
    }
    let (enterprise, values) = values.split_first_chunk::<4>()?;
    let field = Field { element: element & 0x7fff, enterprise: u32::from_be_bytes(*enterprise), length };
    Some(BasicList { field, values })
}

impl<'a> BasicList<'a> {
    pub fn values(&self) -> Values<'a> {
        Values { length: self.field.length, rest: self.values }
    }
}

/// Values of a basicList; ends before one that is cut short, and at once where they have no octets.
#[derive(Clone, Debug)]
pub struct Values<'a> {
    length: u16,
    rest: &'a [u8],
}

impl<'a> Iterator for Values<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (value, rest) = take_value(self.rest, self.length).filter(|(_, rest)| rest.len() < self.rest.len())?;
        self.rest = rest;
        Some(value)
    }
}

/// A field's content, of a length that the template or the record says.
#[inline]
pub fn take_value(input: &[u8], length: u16) -> Option<(&[u8], &[u8])> {
    match length {
        VARIABLE => {
            let (length, at) = variable_length(input)?;
            input.get(at..)?.split_at_checked(length)
        }
        length => input.split_at_checked(length.into()),
    }
}

/// Records of one template within a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    pub template: u16,
    pub records: &'a [u8],
}

/// A subTemplateList (section 4.5.2): one template; `None` where it ends within its header.
pub fn sub_template_list(content: &[u8]) -> Option<Entry<'_>> {
    let [_semantic, a, b, records @ ..] = content else { return None };
    Some(Entry { template: u16::from_be_bytes([*a, *b]), records })
}

/// A subTemplateMultiList (section 4.5.3).
pub fn sub_template_multi_list(content: &[u8]) -> Entries<'_> {
    Entries { rest: content.get(1..).unwrap_or_default() }
}

/// Entries of a subTemplateMultiList; ends before one whose length cannot be.
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        let [a, b, c, d, ..] = *self.rest else { return None };
        let length = usize::from(u16::from_be_bytes([c, d]));
        // The length counts its own header: less than four would never end.
        let (entry, rest) = (length >= 4).then(|| self.rest.split_at_checked(length))??;
        self.rest = rest;
        Some(Entry { template: u16::from_be_bytes([a, b]), records: &entry[4..] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_fixed_variable_and_enterprise_values() {
        let fixed = basic_list(&[3, 0, 10, 0, 4, 0, 0, 0, 7, 0, 0, 0, 8, 9]).expect("a list");
        assert_eq!(fixed.field, Field { element: 10, enterprise: 0, length: 4 });
        assert_eq!(fixed.values().collect::<Vec<_>>(), [&[0, 0, 0, 7][..], &[0, 0, 0, 8]]);
        let variable = basic_list(&[3, 0x80, 1, 255, 255, 0, 0, 0, 9, 2, b'a', b'b', 0, 1, b'c']).expect("a list");
        assert_eq!(variable.field, Field { element: 1, enterprise: 9, length: VARIABLE });
        assert_eq!(variable.values().collect::<Vec<_>>(), [&b"ab"[..], b"", b"c"]);
        // Values without octets are as many as one likes: none.
        assert_eq!(basic_list(&[3, 0, 10, 0, 0, 1, 2]).expect("a list").values().count(), 0);
        assert!((0..5).all(|length| basic_list(&[3, 0, 10, 0, 4][..length]).is_none()));
        assert!(basic_list(&[3, 0x80, 10, 0, 4, 0, 0]).is_none());
    }

    #[test]
    fn multi_lists_end_at_lengths_that_cannot_be() {
        let good = [3, 1, 0, 0, 6, 1, 2, 1, 1, 0, 4];
        let entries: Vec<_> = sub_template_multi_list(&good).collect();
        assert_eq!(entries, [Entry { template: 256, records: &[1, 2] }, Entry { template: 257, records: &[] }]);
        for length in [0, 1, 2, 3, 7] {
            assert_eq!(sub_template_multi_list(&[3, 1, 0, 0, length, 1, 2]).count(), 0, "{length}");
        }
        assert_eq!(sub_template_list(&[3, 1, 2, 5]), Some(Entry { template: 258, records: &[5] }));
        assert!(sub_template_list(&[3, 1]).is_none() && sub_template_multi_list(&[]).next().is_none());
    }
}
